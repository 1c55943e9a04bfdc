"""Figures of networks: how stable, how often, what they answer to, how they connect."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
from scipy.cluster import hierarchy

from anbn.core import style
from anbn.core.style import COLOURS, axes_of, legend_beside


def plot_stability(sides):
    """How alike networks come back, beside what is reached where nothing is shared.

    ``sides`` maps a name ("brain", "model") to a ``stability.Stability``; a panel each.
    """
    if not sides:
        return [style.nothing(what="networks")]
    n = len(sides)
    _, (axes,) = plt.subplots(
        1,
        n,
        figsize=(min(5.4 * n + 2.4, style.WIDEST), 3.8),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for ax, (side, found) in zip(axes, sides.items(), strict=True):
        n_networks = len(found.halves)
        x, size = np.arange(n_networks), np.clip(300 / max(n_networks, 1), 3, 12)
        ax.set(ylim=(-0.02, 1.05))
        style.layer_ticks(ax, range(n_networks), "network, strongest first")
        reason = found.reason
        if not n_networks:
            reason = "nothing to show: no networks"
        if reason:
            ax.set_title(_wrapped(f"{side}: cannot be judged", n))
            ax.text(0.5, 0.5, textwrap.fill(reason, 45), ha="center", va="center",
                    transform=ax.transAxes)  # fmt: skip
            ax.set_xticks([])
            continue
        ax.plot(x, found.index, "_", color="0.6", ms=size, mew=2, label="draws")
        for kept, fill, label in (
            (found.stable, COLOURS[0], "halves: stable"),
            (~found.stable, "none", "halves: not stable"),
        ):
            ax.plot(x[kept], found.halves[kept], "o", c=COLOURS[0], mfc=fill,
                    ms=size / 2, label=label)  # fmt: skip
        if np.isfinite(found.limit):
            ax.axhline(found.limit, color="k", ls="--", lw=1, label="halves, limit")
            ax.axhline(found.index_limit, color="0.5", ls=":", label="draws, limit")
        for null, mark, size, label in (
            (found.null_halves, "x", 5, "halves,\nlargest of a data set"),
            (found.null_index, "_", 12, "draws"),
        ):
            # beside the networks
            at = np.full(len(null), 1.04 * n_networks)
            ax.plot(at, null, mark, c="k", ms=size, label=f"nothing shared: {label}")
        stable = int(found.stable.sum())
        ax.set_title(_wrapped(f"{side}: {stable} of {n_networks} stable", n))
    axes[0].set_ylabel("agreement of two fits (|r|)")
    drawn = [ax for ax in axes if ax.lines]
    if drawn:
        drawn[0].figure.legend(
            *drawn[0].get_legend_handles_labels(), loc="outside right center"
        )
    return axes


def _wrapped(title, n_panels):
    """A title in lines that do not run into the next panel's."""
    return textwrap.fill(title, 52 if n_panels < 3 else 24)


def plot_scan(tables):
    """Stability and explained variance over numbers of networks.

    ``tables`` maps a side to the table of ``stability.scan``.
    """
    _, axes = plt.subplots(1, 2, figsize=(11, 3.2), layout="constrained")
    for colour, (side, table) in zip(COLOURS, tables.items(), strict=False):
        axes[0].plot(table.index, table["halves"], "o-", color=colour, label=side)
        axes[0].plot(table.index, table["limit"], "_--", color=colour, ms=12)
        explained = 100 * table["explained"]
        axes[1].plot(table.index, explained, "o-", color=colour, label=side)
    axes[0].set(ylabel="halves, mean |r|\n(dashed: limit)", ylim=(0, 1.05))
    axes[1].set(ylabel="variance explained (%)", ylim=(0, None))
    for ax in axes:
        ax.set_xlabel("number of networks")
        style.whole_numbers(ax.xaxis)
        if not any(len(table) for table in tables.values()):
            style.nothing(ax, "numbers of networks")
    legend_beside(axes[1])
    return axes


def plot_recurrence(counts, null, n_individual, ax=None):
    """In how many networks of slices of text each network of all text comes back.

    ``counts`` has shape (n_networks,), ``null`` (n_draws, n_networks);
    ``n_individual`` is the number of networks of slices that were compared.
    """
    if not len(counts):
        return style.nothing(ax, "networks")
    ax = axes_of(ax, 9, 3.2)
    x = np.arange(len(counts))
    ax.bar(x, counts, color=COLOURS[0], width=0.7, label="found")
    if len(null):
        high, label = np.nanpercentile(null, 95, axis=0), "null, 95 %"
        ends = x - 0.45, x + 0.45
        # at 0, too, it is seen whole
        ax.hlines(high, *ends, color="k", lw=2.5, label=label, clip_on=False)
    ax.set(xlabel="model network", ylim=(0, None), xlim=(-0.7, len(counts) - 0.3))
    ax.set_ylabel(f"matches among {n_individual}\nnetworks of slices")
    style.whole_numbers(ax.xaxis)
    style.whole_numbers(ax.yaxis)
    legend_beside(ax)
    return ax


def plot_profiles(domains, features, labels):
    """Mean response of networks to domains of text, and correlation with features.

    ``domains`` and ``features`` are DataFrames with a row a network; ``labels`` name
    the rows. Of more than ``style.MOST_ROWS`` networks those of the largest responses
    are named.
    """
    if not len(labels):
        axes = [style.nothing(what="networks")]
        return axes
    largest = domains.abs().max(axis=1)
    rows = style.rows(labels, largest, "largest response", ordered=False,
                      what="model networks")  # fmt: skip
    tables = [
        (domains, "domains of text", "mean response (s.d.)"),
        (features, "features of words", "correlation (r)"),
    ]
    widths = [max(table.shape[1], 2) for table, *_ in tables]
    _, axes = plt.subplots(
        1,
        2,
        figsize=(min(0.6 * sum(widths) + 8, style.WIDEST), rows.inches + 1.2),
        width_ratios=widths,
        layout="constrained",
        sharey=True,
    )
    colours = plt.get_cmap("RdBu_r").with_extremes(bad="0.8")
    for ax, (table, title, bar) in zip(axes, tables, strict=True):
        ax.set_title(title)
        if not table.shape[1]:
            style.nothing(ax, title)
            continue
        values = table.to_numpy(float)
        top = max(np.nanmax(np.abs(values), initial=0), 1e-9)
        image = rows.mesh(ax, values, cmap=colours, vmin=-top, vmax=top)
        style.name_columns(ax, table.columns, "")
        ax.figure.colorbar(image, ax=ax, label=bar)
    rows.name(axes[0])
    if not rows.many:
        axes[0].set_ylabel("model network: words\nit answers to most")
    return axes


def plot_connectivity(matrices, names):
    """Correlation between networks, brain and model side by side, like beside like.

    ``matrices`` and ``names`` map a side to an array of shape (n_networks, n_networks)
    and its labels; rows are ordered by average linkage. Of more than
    ``style.MOST_ROWS`` networks every so many is named.
    """
    matrices = {side: matrix for side, matrix in matrices.items() if len(matrix)}
    if not matrices:
        return [style.nothing(what="networks")]
    n = len(matrices)
    longest = max(len(matrix) for matrix in matrices.values())
    size = (style.WIDEST / 2 if n == 1 else style.WIDEST), 7.2 if longest > 20 else 6
    _, (axes,) = plt.subplots(1, n, figsize=size, squeeze=False, layout="constrained")
    colours = plt.get_cmap("RdBu_r").with_extremes(bad="0.8")
    for ax, (side, matrix) in zip(axes, matrices.items(), strict=True):
        order = _like_beside_like(matrix)
        shown = matrix[np.ix_(order, order)]
        image = ax.imshow(shown, cmap=colours, vmin=-1, vmax=1, interpolation="none")
        step = 1 if len(matrix) <= style.MOST_ROWS else -(-len(matrix) // style.NAMED)
        ticks = range(0, len(matrix), step)
        short = style.short_names(names[side], 24)
        labels = [short[k] for k in order[::step]]
        ax.set_xticks(ticks, labels, rotation=90, fontsize=7, parse_math=False)
        ax.set_yticks(ticks, labels, fontsize=7, parse_math=False)
        ax.set_title(textwrap.fill(side, 40))
        label = "networks, like beside like"
        if step > 1:
            label = f"{len(ticks)} of {len(matrix)} {label}, one in {step} named"
        ax.set_xlabel(label)
    axes[0].figure.colorbar(
        image, ax=list(axes), label="correlation of time courses (r)", shrink=0.7
    )
    return axes


def _like_beside_like(matrix):
    """Order of rows by average linkage; what is not known counts as 0."""
    if len(matrix) < 3:
        return np.arange(len(matrix))
    known = np.nan_to_num(matrix)
    tree = hierarchy.linkage(known, method="average", optimal_ordering=True)
    return hierarchy.leaves_list(tree)


def plot_layer_histogram(counts, ax=None, *, layers=None):
    """Neurons of every network in every layer; counts (n_networks, n_layers).

    ``layers`` are the numbers of the layers, if not all were recorded.
    """
    if not counts.size:
        return style.nothing(ax, "networks")
    n_networks, n_layers = counts.shape
    height = min(max(3.0, 1.4 + 0.2 * n_networks), 8)
    ax = axes_of(ax, 9, height)
    image = ax.imshow(
        np.log10(1 + counts),
        aspect="auto",
        cmap="viridis",
        interpolation="none",
        vmin=0,
        vmax=np.log10(1 + max(counts.max(), 1)),
    )
    style.layer_ticks(ax, range(n_layers) if layers is None else layers)
    ax.set_ylabel("model network")
    style.whole_numbers(ax.yaxis)
    bar = ax.figure.colorbar(image, ax=ax, label="neurons")
    ticks = [n for n in (0, 1, 3, 10, 30, 100, 300, 1000, 3000) if n <= counts.max()]
    bar.set_ticks(np.log10(1 + np.array(ticks)), labels=[str(n) for n in ticks])
    return ax
