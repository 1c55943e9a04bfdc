"""Figures of networks: how stable, how often, what they answer to, how they connect."""

import matplotlib.pyplot as plt
import numpy as np
from nilearn import plotting

from anbn.plots import COLOURS, _axes


def plot_stability(stability, explained, limit, ax=None):
    """Stability of every network against the variance it explains.

    ``stability`` and ``explained`` map a side ("brain", "model") to arrays of shape
    (n_networks,); below ``limit`` a network is unstable.
    """
    ax = _axes(ax, 8, 3.8)
    for colour, (side, values) in zip(COLOURS, stability.items(), strict=False):
        x, stable = 100 * explained[side], values >= limit
        ax.plot(x[stable], values[stable], "o", color=colour, label=f"{side}: stable")
        ax.plot(
            x[~stable],
            values[~stable],
            "o",
            color=colour,
            mfc="none",
            label=f"{side}: not",
        )
        for k in sorted({0, 1, 2, *np.flatnonzero(~stable)} & set(range(len(x)))):
            at = (x[k], values[k])  # all numbers would hide each other
            ax.annotate(k, at, (4, 3), textcoords="offset points", fontsize=7)
    ax.axhline(limit, color="0.5", ls="--", lw=0.8)
    ax.set_xscale("log")
    ax.set_ylim(min(0, ax.get_ylim()[0]), 1.08)
    ax.set(
        xlabel="variance explained (%)",
        ylabel="stability over runs\n(1: always the same)",
    )
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_scan(tables, axes=None):
    """Stability and explained variance over numbers of networks.

    ``tables`` maps a side to the table of ``stability.scan``.
    """
    if axes is None:
        _, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for colour, (side, table) in zip(COLOURS, tables.items(), strict=False):
        axes[0].plot(table.index, table["stability"], "o-", color=colour, label=side)
        axes[1].plot(table.index, 100 * table["explained"], "o-", color=colour)
    axes[0].set(ylabel="mean stability", ylim=(0, 1.05))
    axes[1].set(ylabel="variance explained (%)", ylim=(0, None))
    for ax in axes:
        ax.set_xlabel("number of networks")
    axes[0].legend()
    return axes


def plot_recurrence(counts, null, n_individual, ax=None):
    """In how many networks of single texts each group network comes back.

    ``counts`` has shape (n_networks,), ``null`` (n_permutations, n_networks);
    ``n_individual`` is the number of single networks that were compared.
    """
    ax = _axes(ax, 8, 3.2)
    x = np.arange(len(counts))
    ax.bar(x, counts, color=COLOURS[0], width=0.7, label="found")
    high = np.percentile(null, 95, axis=0)
    ax.plot(x, high, "_", color="k", ms=16, mew=3, label="null, 95 %", clip_on=False)
    ax.set_xticks(x)
    ax.set(xlabel="model network", ylim=(0, None))
    ax.set_ylabel(f"matches among {n_individual}\nnetworks of single texts")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_profiles(domains, features, labels, axes=None):
    """Mean response of networks to domains of text, and correlation with features.

    ``domains`` and ``features`` are DataFrames with a row a network; ``labels`` name
    the rows.
    """
    if axes is None:
        widths = [domains.shape[1], features.shape[1]]
        _, axes = plt.subplots(
            1,
            2,
            figsize=(11, 0.34 * len(labels) + 2.2),
            width_ratios=widths,
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


def plot_connectivity(matrices, names, axes=None):
    """Correlation between networks, brain and model side by side, like beside like.

    ``matrices`` and ``names`` map a side to an array of shape (n_networks, n_networks)
    and its labels; rows are ordered by average linkage (nilearn).
    """
    if axes is None:
        n = len(matrices)
        _, axes = plt.subplots(1, n, figsize=(6.2 * n, 5.4), squeeze=False)
        axes = axes[0]
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
