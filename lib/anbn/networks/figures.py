"""Figures of networks: how stable, how often, what they answer to, how they connect."""

import matplotlib.pyplot as plt
import numpy as np
from nilearn import plotting

from anbn.core.style import COLOURS, axes_of


def plot_stability(sides):
    """How alike networks come back, beside what is reached where nothing is shared.

    ``sides`` maps a name ("brain", "model") to a ``stability.Stability``; a panel each.
    """
    n = len(sides)
    size, options = (5.4 * n + 2.4, 3.8), {"squeeze": False, "sharey": True}
    _, (axes,) = plt.subplots(1, n, figsize=size, layout="constrained", **options)
    for ax, (side, found) in zip(axes, sides.items(), strict=True):
        x, colour = np.arange(len(found.halves)), COLOURS[0]
        ax.set(xlabel="network, strongest first", ylim=(-0.02, 1.05))
        if found.reason:
            ax.set_title(f"{side}: cannot be judged")
            ax.text(0.5, 0.5, found.reason, ha="center", wrap=True,
                    transform=ax.transAxes)  # fmt: skip
            continue
        ax.plot(x, found.index, "_", color="0.6", ms=12, mew=2, label="draws")
        for kept, fill, label in (
            (found.stable, colour, "halves: stable"),
            (~found.stable, "none", "halves: not stable"),
        ):
            ax.plot(x[kept], found.halves[kept], "o", c=colour, mfc=fill, label=label)
        if np.isfinite(found.limit):
            ax.axhline(found.limit, color="k", ls="--", lw=1, label="halves, limit")
            ax.axhline(found.index_limit, color="0.5", ls=":", label="draws, limit")
        for null, mark, size, label in (
            (found.null_halves, "x", 5, "halves,\nlargest of a data set"),
            (found.null_index, "_", 12, "draws"),
        ):
            at = np.full(len(null), len(x))
            ax.plot(at, null, mark, c="k", ms=size, label=f"nothing shared: {label}")
        ax.set_title(f"{side}: {int(found.stable.sum())} of {len(x)} stable")
    axes[0].set_ylabel("agreement of two fits (|r|)")
    drawn = [ax for ax in axes if ax.lines]
    if drawn:
        drawn[0].figure.legend(
            *drawn[0].get_legend_handles_labels(), loc="outside right center"
        )
    return axes


def plot_scan(tables):
    """Stability and explained variance over numbers of networks.

    ``tables`` maps a side to the table of ``stability.scan``.
    """
    _, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for colour, (side, table) in zip(COLOURS, tables.items(), strict=False):
        axes[0].plot(table.index, table["halves"], "o-", color=colour, label=side)
        axes[0].plot(table.index, table["limit"], "--", color=colour)
        axes[1].plot(table.index, 100 * table["explained"], "o-", color=colour)
    axes[0].set(ylabel="halves, mean |r|\n(dashed: limit)", ylim=(0, 1.05))
    axes[1].set(ylabel="variance explained (%)", ylim=(0, None))
    for ax in axes:
        ax.set_xlabel("number of networks")
    axes[0].legend()
    return axes


def plot_recurrence(counts, null, n_individual, ax=None):
    """In how many networks of slices of text each network of all text comes back.

    ``counts`` has shape (n_networks,), ``null`` (n_draws, n_networks);
    ``n_individual`` is the number of networks of slices that were compared.
    """
    ax = axes_of(ax, 8, 3.2)
    x = np.arange(len(counts))
    ax.bar(x, counts, color=COLOURS[0], width=0.7, label="found")
    high = np.percentile(null, 95, axis=0)
    ax.plot(x, high, "_", color="k", ms=16, mew=3, label="null, 95 %", clip_on=False)
    ax.set_xticks(x)
    ax.set(xlabel="model network", ylim=(0, None))
    ax.set_ylabel(f"matches among {n_individual}\nnetworks of slices")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_profiles(domains, features, labels):
    """Mean response of networks to domains of text, and correlation with features.

    ``domains`` and ``features`` are DataFrames with a row a network; ``labels`` name
    the rows.
    """
    _, axes = plt.subplots(
        1,
        2,
        figsize=(11, 0.34 * len(labels) + 2.2),
        width_ratios=[domains.shape[1], features.shape[1]],
        layout="constrained",
        sharey=True,
    )
    bars = ["mean response (s.d.)", "correlation (r)"]
    for ax, table, bar in zip(axes, (domains, features), bars, strict=True):
        top = np.nanmax([*np.abs(table.to_numpy()).ravel(), 1e-9])
        image = ax.imshow(table, aspect="auto", cmap="RdBu_r", vmin=-top, vmax=top)
        ax.set_xticks(range(table.shape[1]), table.columns, rotation=40, ha="right")
        ax.figure.colorbar(image, ax=ax, label=bar)
    axes[0].set_yticks(range(len(labels)), labels, fontsize=8)
    axes[0].set_ylabel("model network: words it answers to most")
    axes[0].set_title("domains of text")
    axes[1].set_title("features of words")
    return axes


def plot_connectivity(matrices, names):
    """Correlation between networks, brain and model side by side, like beside like.

    ``matrices`` and ``names`` map a side to an array of shape (n_networks, n_networks)
    and its labels; rows are ordered by average linkage (nilearn).
    """
    n = len(matrices)
    _, (axes,) = plt.subplots(1, n, figsize=(6.2 * n, 5.4), squeeze=False)
    for ax, (side, matrix) in zip(axes, matrices.items(), strict=True):
        plotting.plot_matrix(
            matrix,
            labels=list(names[side]),
            reorder="average" if len(matrix) > 1 else False,
            axes=ax,
            vmin=-1,
            vmax=1,
            cmap="RdBu_r",
            colorbar=ax is axes[-1],
        )
        ax.set_title(side)
        ax.tick_params(labelsize=8)
    axes[-1].images[0].colorbar.set_label("correlation of time courses (r)")
    axes[0].figure.tight_layout()
    return axes


def plot_layer_histogram(counts, ax=None):
    """Neurons of every network in every layer; counts (n_networks, n_layers)."""
    ax = axes_of(ax, 9, 3.6)
    image = ax.imshow(np.log10(1 + counts), aspect="auto", cmap="viridis")
    ax.set(xlabel="layer", ylabel="model network")
    ax.set_yticks(range(len(counts)))
    bar = ax.figure.colorbar(image, ax=ax, label="neurons")
    ticks = [n for n in (0, 1, 3, 10, 30, 100, 300) if n <= counts.max()]
    bar.set_ticks(np.log10(1 + np.array(ticks)), labels=[str(n) for n in ticks])
    return ax
