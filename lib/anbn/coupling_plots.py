"""Figures of coupling: single subjects, anchors, bands and components."""

import numpy as np

from anbn import uncoupled
from anbn.plots import (
    COLOURS,
    MOST_NAMES,
    _axes,
    name_ticks,
    plot_score_distribution,
)


def plot_subject_synchrony(largest, thresholds, names, ax=None):
    """Largest |r| of every subject with every network, and the subjects' thresholds.

    ``largest`` has shape (n_subjects, n_networks); ``thresholds`` (n_subjects,).
    """
    ax = _axes(ax)
    beyond = largest >= thresholds[:, None]
    shift = np.linspace(-0.25, 0.25, len(largest))
    x = np.arange(len(names)) + shift[:, None]
    for passed, colour, label in (
        (beyond, COLOURS[3], "beyond the subject's own threshold"),
        (~beyond, "0.6", "below it"),
    ):
        ax.plot(x[passed], largest[passed], ".", color=colour, label=label)
    low, high = thresholds.min(), thresholds.max()
    ax.axhspan(
        low, high, color="0.9", label="thresholds of the subjects\n(family-wise)"
    )
    name_ticks(ax, names)
    ax.set_ylabel("largest |synchrony| (r)")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_global(table, ax=None):
    """Share of the neurons that each network anchors, and what surrogates anchor.

    ``table`` is that of ``anchors.global_networks`` with a null.
    """
    ax = _axes(ax)
    x = np.arange(len(table))
    ax.bar(x, 100 * table["share"], 0.7, color=COLOURS[0], label="observed")
    marks = {"marker": "_", "ls": "", "ms": 18}
    ax.plot(x, 100 * table["null_mean"], color="0.5", label="surrogates, mean", **marks)
    ax.plot(
        x, 100 * table["null_95"], color="k", mew=2, label="surrogates, 95 %", **marks
    )
    name_ticks(ax, table.index)
    ax.set_ylabel("neurons whose best\nnetwork this is (%)")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_split(parts, ceiling, ax=None):
    """Held-out R2 by band, spread over voxels or regions, and the ceiling.

    ``parts`` maps a band to an array of shape (n_voxels,); ``ceiling`` holds r.
    """
    rows = {**parts, "all bands": sum(parts.values())}
    return plot_score_distribution(rows, ceiling**2, ax, label="held-out R2")


def plot_gain(table, ax=None, *, level=0.05):
    """Gain in held-out r of every network, and that of rolled stories.

    ``table`` is that of ``encoding.gain_over_shifts`` with a column ``network``. Of
    more than ``MOST_NAMES`` networks only those that pass are named.
    """
    many = len(table) > MOST_NAMES
    ax = _axes(ax, min(max(9, 0.45 * len(table)), 18), 3.8)
    x = np.arange(len(table))
    ax.bar(x, table["gain"], 0.7, color=COLOURS[0], label="the model")
    marks = {"marker": "_", "ls": "", "ms": 2 if many else 16}
    ax.plot(x, table["null_mean"], color="0.5", label="story rolled, mean", **marks)
    ax.plot(x, table["null_95"], color="k", mew=2, label="story rolled, 95 %", **marks)
    for i, row in enumerate(table.itertuples()):
        if row.p <= level:
            highest = max(row.gain, row.null_95, 0)
            ax.text(i, highest, "*", ha="center", va="bottom", fontsize=14)
    ax.plot([], [], " ", label=f"*: p at most {level:g},\nfamily-wise")
    ax.axhline(0, color="0.5", lw=0.8)
    ax.margins(x=0.01, y=0.15)
    name_ticks(ax, list(table["network"]), table["p"] <= level)
    ax.set_ylabel("gain in held-out\ncorrelation (r)")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_components(scores, ceiling, names, ax=None):
    """Held-out r of networks that were learned in other subjects, best first.

    ``scores`` maps a model to an array of shape (n_networks,), as has ``ceiling``.
    """
    ax = _axes(ax, 10, 3.8)
    last = list(scores.values())[-1]
    order = np.argsort(-last)
    x, width = np.arange(len(order)), 0.8 / len(scores)
    for i, (model, values) in enumerate(scores.items()):
        at = x - 0.4 + (i + 0.5) * width
        ax.bar(at, values[order], width, color=COLOURS[i], label=model)
    ends = x - 0.45, x + 0.45
    ax.hlines(ceiling[order], *ends, color="k", label="noise ceiling")
    ax.axhline(0, color="0.5", lw=0.8)
    name_ticks(ax, [names[k] for k in order])
    ax.set_ylabel("held-out correlation (r)")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_uncoupled(table, ax=None, *, level=0.05):
    """Subjects in which a null finds coupling with a story that was not heard.

    ``table`` is that of ``uncoupled.false_findings``; rows of the group are drawn as
    their p.
    """
    ax = _axes(ax, 9, 3.8)
    of_group = table["data"] == "group"
    single = table[~of_group]
    by_version = single.groupby("version", sort=False)["found"].agg(["sum", "size"])
    x = np.arange(len(by_version))
    label = f"subjects: {single['found'].sum()} of {len(single)}"
    ax.bar(x, by_version["sum"], 0.7, color=COLOURS[0], label=label)
    high = uncoupled.interval(int(by_version["size"].max()), level)[1]
    ax.axhspan(0, high, color="0.93", zorder=0, label="99 % by chance, each bar")
    ax.axhline(
        level * by_version["size"].mean(), color="k", ls="--", lw=1, label="expected"
    )
    group = table[of_group].set_index("version")["p"].reindex(by_version.index)
    for i, p in enumerate(group):
        if np.isfinite(p):
            ax.text(i, high, f"{p:.2f}", ha="center", va="bottom", fontsize=8)
    if of_group.any():
        ax.plot([], [], " ", label="figures: p of the group")
    ax.set_ylim(0, max(high, by_version["sum"].max()) * 1.2)
    ax.set_xticks(x, by_version.index, rotation=30, ha="right")
    ax.set_ylabel(f"subjects found at {level:g}")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax
