"""Figures of anchors: how reliable, at which depth, what coupled neurons answer to."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import patheffects

from anbn.plots import COLOURS, _axes, name_ticks

OTHER_NULLS = {
    "familywise_surrogate": "surrogate networks",
    "familywise_shift": "shifted words",
}
HALVES = {"subjects": "halves of subjects", "time": "halves of the story"}


def plot_reliability(table, ax=None):
    """Synchrony in two halves: r over neurons, and what surrogates reach.

    ``table`` is that of ``reliability.reliability``.
    """
    ax = _axes(ax, 9, 3.6)
    x = np.arange(len(table))
    for colour, shift, (half, label) in zip(
        COLOURS, (-0.18, 0.18), HALVES.items(), strict=False
    ):
        if table[f"r_{half}"].isna().all():
            continue
        ax.bar(x + shift, table[f"r_{half}"], 0.34, color=colour, label=label)
        null = "null of either, 95 %" if half == "time" else None
        at = x + shift
        ax.hlines(table[f"null_{half}"], at - 0.17, at + 0.17, "k", lw=2, label=null)
    ax.axhline(0, color="0.5", lw=0.8)
    name_ticks(ax, table.index)
    ax.set_ylabel("synchrony in one half and\nthe other (r over neurons)")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_depth_profiles(profiles, names, axes=None):
    """Where in each model the top anchors of every network lie.

    ``profiles`` maps a model to an array of shape (n_networks, n_bins), of
    ``anchors.depth_profile``; white is an even spread over depth. A last row may hold
    the mean over surrogates, which need not be even.
    """
    if axes is None:
        shape = {"figsize": (4.2 * len(profiles) + 1.5, 0.28 * len(names) + 1.6)}
        _, axes = plt.subplots(
            1, len(profiles), sharey=True, layout="constrained", squeeze=False, **shape
        )
    axes = np.ravel(axes)
    n_bins = next(iter(profiles.values())).shape[1]
    top = max(2.0, *(profile.max() * n_bins for profile in profiles.values()))
    for ax, (model, profile) in zip(axes, profiles.items(), strict=True):
        ratio = np.log2(np.maximum(profile * profile.shape[1], 1 / top))
        limits = {"vmin": -np.log2(top), "vmax": np.log2(top)}
        extent = (0, 1, len(names) - 0.5, -0.5)
        image = ax.imshow(ratio, aspect="auto", cmap="RdBu_r", extent=extent, **limits)
        ax.set(title=model, xlabel="relative depth (0 input, 1 output)")
        ax.set_yticks(range(len(names)), names)
    bar = axes[-1].figure.colorbar(
        image, ax=list(axes), label="anchors / an even share"
    )
    ticks = [t for t in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8) if 1 / top <= t <= top]
    bar.set_ticks(np.log2(ticks), labels=[f"{t:g}" for t in ticks])
    return axes


def plot_feature_effects(effects, ax=None, *, level=0.05):
    """What coupled neurons answer to more than uncoupled ones of their layers.

    ``effects`` is the table of ``effects.feature_effects``. A dot marks what is beyond
    the null of independent neurons, a star what is beyond all the others there are.
    """
    order = {"index": "network", "columns": "feature"}
    d, *q = (
        effects.pivot(**order, values=name).loc[
            effects["network"].unique(), effects["feature"].unique()
        ]
        for name in ("d", "q", *OTHER_NULLS)
        if name in effects
    )
    ax = _axes(ax, 1.0 * d.shape[1] + 3.6, 0.28 * len(d) + 1.8)
    top = max(float(np.nanmax(np.abs(d), initial=0)), 1e-9)
    colours = plt.get_cmap("RdBu_r").with_extremes(bad="0.88")
    image = ax.imshow(d, aspect="auto", cmap=colours, vmin=-top, vmax=top)
    outline = [patheffects.withStroke(linewidth=2, foreground="w")]
    beyond = [values.to_numpy() <= level for values in q]
    signs = np.where(beyond[0], "•", "")
    if len(q) > 1:
        signs = np.where(np.all(beyond[1:], axis=0), "★", signs)
    for (row, column), sign in np.ndenumerate(signs):
        text = ax.text(column, row, sign, ha="center", va="center", size=11)
        text.set_path_effects(outline)
    ax.set_yticks(range(len(d)), d.index)
    ax.set_xticks(range(d.shape[1]), d.columns, rotation=30, ha="right")
    others = " and ".join(text for name, text in OTHER_NULLS.items() if name in effects)
    star = f"   ★ {others}" if others else ""
    ax.set_xlabel(f"beyond {level:g}: • independent neurons{star}")
    ax.figure.colorbar(image, ax=ax, label="coupled - uncoupled\n(Cohen's d)")
    return ax
