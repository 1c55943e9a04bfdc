"""Figures of coupling: synchrony, anchors, encoding, functional organisation."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import patheffects
from nilearn import plotting
from nilearn.masking import unmask

from anbn.core.style import COLOURS, MOST_NAMES, axes_of, name_ticks
from anbn.coupling import uncoupled

OTHER_NULLS = {
    "familywise_surrogate": "surrogate networks",
    "familywise_shift": "shifted words",
}
HALVES = {"subjects": "halves of subjects", "time": "halves of the story"}


def plot_subject_synchrony(largest, thresholds, names, ax=None):
    """Largest |r| of every subject with every network, and the subjects' thresholds.

    ``largest`` has shape (n_subjects, n_networks); ``thresholds`` (n_subjects,).
    """
    ax = axes_of(ax)
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


def plot_beside_null(table, value, label, ax=None, *, p="p", level=0.05):
    """A value of every network, and its null; a star where p is at most ``level``.

    ``table`` has a row a network and columns ``value``, ``null_mean``, ``null_95`` and
    ``p``. Of more than ``MOST_NAMES`` networks only those that pass are named.
    """
    many = len(table) > MOST_NAMES
    ax = axes_of(ax, min(max(9, 0.45 * len(table)), 18), 3.8)
    x = np.arange(len(table))
    ax.bar(x, table[value], 0.7, color=COLOURS[0], label="observed")
    marks = {"marker": "_", "ls": "", "ms": 2 if many else 16}
    ax.plot(x, table["null_mean"], color="0.5", label="null, mean", **marks)
    ax.plot(x, table["null_95"], color="k", mew=2, label="null, 95 %", **marks)
    highest = np.maximum(table[[value, "null_95"]].max(axis=1), 0)
    for i in np.flatnonzero(table[p] <= level):
        ax.text(i, highest.iloc[i], "*", ha="center", va="bottom", fontsize=14)
    ax.plot([], [], " ", label=f"*: p at most {level:g},\nfamily-wise")
    ax.axhline(0, color="0.5", lw=0.8)
    ax.margins(x=0.01, y=0.15)
    name_ticks(ax, table.index, table[p] <= level)
    ax.set_ylabel(label)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_uncoupled(table, ax=None, *, level=0.05):
    """Subjects in which a null finds coupling with a story that was not heard.

    ``table`` is that of ``uncoupled.false_findings``; rows of the group are drawn as
    their p.
    """
    ax = axes_of(ax, 9, 3.8)
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
    group = table[of_group].set_index("version")["p"]
    for i, p in enumerate(group[by_version.index]):
        ax.text(i, high, f"{p:.2f}", ha="center", va="bottom", fontsize=8)
    ax.plot([], [], " ", label="figures: p of the group")
    ax.set_ylim(0, max(high, by_version["sum"].max()) * 1.2)
    ax.set_xticks(x, by_version.index, rotation=30, ha="right")
    ax.set_ylabel(f"subjects found at {level:g}")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_reliability(table, ax=None):
    """Synchrony in two halves: r over neurons, and what surrogates reach.

    ``table`` is that of ``reliability.reliability``.
    """
    ax = axes_of(ax, 9, 3.6)
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


def _side_by_side(models, width, height):
    """Axes of one figure, one a model."""
    _, axes = plt.subplots(
        1,
        len(models),
        sharey=True,
        squeeze=False,
        figsize=(width, height),
        layout="constrained",
    )
    return axes[0]


def plot_depth_profiles(profiles, names):
    """Where in each model the top anchors of every network lie.

    ``profiles`` maps a model to an array of shape (n_networks, n_bins), of
    ``anchors.depth_profile``; white is an even spread over depth. A last row may hold
    the mean over surrogates, which need not be even.
    """
    axes = _side_by_side(profiles, 4.2 * len(profiles) + 1.5, 0.28 * len(names) + 1.6)
    n_bins = next(iter(profiles.values())).shape[1]
    top = max(2.0, *(profile.max() * n_bins for profile in profiles.values()))
    for ax, (model, profile) in zip(axes, profiles.items(), strict=True):
        ratio = np.log2(np.maximum(profile * n_bins, 1 / top))
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

    ``effects`` is the table of ``meaning.feature_effects``. A dot marks what is beyond
    the null of independent neurons, a star what is beyond all the others there are.
    """
    order = {"index": "network", "columns": "feature"}
    cells = effects["network"].unique(), effects["feature"].unique()
    d, q, *others = (
        effects.pivot(**order, values=name).loc[cells]
        for name in ("d", "q", *OTHER_NULLS)
    )
    ax = axes_of(ax, 1.0 * d.shape[1] + 3.6, 0.28 * len(d) + 1.8)
    top = max(float(np.nanmax(np.abs(d), initial=0)), 1e-9)
    colours = plt.get_cmap("RdBu_r").with_extremes(bad="0.88")
    image = ax.imshow(d, aspect="auto", cmap=colours, vmin=-top, vmax=top)
    outline = [patheffects.withStroke(linewidth=2, foreground="w")]
    signs = np.where(q <= level, "•", "")
    signs[np.all([values <= level for values in others], axis=0)] = "★"
    for (row, column), sign in np.ndenumerate(signs):
        text = ax.text(column, row, sign, ha="center", va="center", size=11)
        text.set_path_effects(outline)
    ax.set_yticks(range(len(d)), d.index)
    ax.set_xticks(range(d.shape[1]), d.columns, rotation=30, ha="right")
    star = " and ".join(OTHER_NULLS.values())
    ax.set_xlabel(f"beyond {level:g}: • independent neurons   ★ {star}")
    ax.figure.colorbar(image, ax=ax, label="coupled - uncoupled\n(Cohen's d)")
    return ax


def plot_overlap(strength, significant, names, *, threshold, ax=None):
    """Overlap of atoms with networks, a dot where significant.

    ``strength`` and ``significant`` have shape (n_atoms, n_networks). ``threshold`` is
    the |t| that the largest of all pairs exceeds by chance: a line in the colour bar.
    """
    ax = axes_of(ax, 11, 0.26 * len(names) + 1.4)
    top = max(np.abs(strength).max(), 1.1 * threshold)
    image = ax.imshow(
        strength.T, aspect="auto", cmap="RdBu_r", vmin=-top, vmax=top, rasterized=True
    )
    atom, network = np.nonzero(significant)
    label = "significant" if len(atom) else "significant: none"
    ax.plot(atom, network, "o", color="k", mfc="w", ms=5, mew=1.2, label=label)
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set(xlabel="atom", xlim=(-0.5, len(strength) - 0.5))
    label = "t in the network's core\n(lines: 5 % family-wise)"
    bar = ax.figure.colorbar(image, ax=ax, label=label)
    for side in (-threshold, threshold):
        bar.ax.axhline(side, color="k", lw=1.5)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, fontsize=8)
    return ax


def plot_subgroups(counts, pools, names):
    """Share of each layer's neurons that serve each network, models side by side.

    ``counts`` and ``pools`` map a model to arrays of shape (n_networks, n_layers) and
    (n_layers,), see ``organisation.subgroups``. The column at the right is the share
    over all layers: what every layer would hold without any organisation by depth.
    """
    width = min(5.5 * len(counts), 12) + 1
    axes = _side_by_side(counts, width, 0.3 * len(names) + 1.6)
    shares = {}
    for model, count in counts.items():
        share = count / np.maximum(pools[model], 1)
        overall = count.sum(1) / max(pools[model].sum(), 1)
        gap = np.full(len(count), np.nan)
        shares[model] = 100 * np.column_stack([share, gap, overall])
    top = max(np.nanmax([np.nanmax(s) for s in shares.values()]), 1e-9)
    for ax, (model, share) in zip(axes, shares.items(), strict=True):
        image = ax.imshow(share, aspect="auto", cmap="YlGnBu", vmin=0, vmax=top)
        last = share.shape[1] - 3
        ax.set_xticks([0, last // 2, last, last + 2], [0, last // 2, last, "all"])
        ax.set_xlabel("layer")
        ax.set_title(model)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].set_ylabel("network")
    axes[0].figure.colorbar(
        image, ax=list(axes), label="neurons of the layer that\nserve it (%)"
    )
    return axes


def plot_organisation(table, diversity):
    """Consistency against diversity, a mark a model, and consistency by network.

    ``table`` has the rows of ``organisation.describe`` of all models one below another;
    ``diversity`` maps a model to its effective number of atoms. Bars are intervals over
    subjects, grey marks the surrogates' mean and 95th percentile.
    """
    _, axes = plt.subplots(
        1, 2, figsize=(12, 4), width_ratios=(1, 1.6), layout="constrained"
    )
    models = table["model"].unique()
    rows = table[table["network"] != "mean"]
    served = rows.loc[rows["consistency"].notna(), "network"]
    names = rows["network"][rows["network"].isin(served)].unique()
    offsets = np.linspace(-0.25, 0.25, len(models)) if len(models) > 1 else [0.0]
    for colour, model, offset in zip(COLOURS, models, offsets, strict=False):
        own = table[table["model"] == model].set_index("network")
        _marks(axes[0], [diversity[model]], own.loc[["mean"]], colour, model)
        x = np.arange(len(names)) + offset
        _marks(axes[1], x, own.loc[names], colour, model)
    axes[0].set_xlabel("diversity (effective number of atoms)")
    axes[0].margins(x=0.15)
    name_ticks(axes[1], names)
    axes[1].set(xlabel="network", xlim=(-0.5, max(len(names), 1) - 0.5))
    top = max(ax.get_ylim()[1] for ax in axes)
    for ax, title in zip(axes, ("mean over networks", "each network"), strict=True):
        ax.set(ylim=(0, top), title=title)
        ax.set_ylabel("consistency (Dice over\npairs of subjects)")
    axes[1].plot([], [], "_", color="0.4", ms=12, label="surrogates, mean")
    axes[1].plot([], [], "_", color="k", ms=12, mew=2, label="surrogates, 95 %")
    axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return axes


def _marks(ax, x, rows, colour, label):
    """Values with their intervals, and their null as dashes."""
    y = rows["consistency"].to_numpy(float)
    error = np.abs(rows[["low", "high"]].to_numpy(float).T - y)
    ax.errorbar(x, y, error, fmt="o", color=colour, capsize=3, label=label)
    ax.plot(x, rows["null"], "_", color="0.4", ms=12)
    ax.plot(x, rows["null_high"], "_", color="k", ms=12, mew=2)


def plot_subjects_needed(table, needed, *, target=0.8, ax=None):
    """Agreement of mean maps of two groups of subjects against their size.

    ``table`` and ``needed`` are those of ``inference.subjects_needed``.
    """
    ax, n = axes_of(ax, 7.5, 3.6), table["n"]
    band = {"color": COLOURS[0], "alpha": 0.2, "lw": 0, "label": "95 % of the draws"}
    ax.fill_between(n, table["low"], table["high"], **band)
    ax.plot(n, table["r"], "o-", color=COLOURS[0], label="two groups apart")
    ax.plot(n, table["predicted"], ":", color="k", label="Spearman-Brown")
    ax.axhline(target, color="0.5", ls="--", lw=1, label=f"target {target:g}")
    label = f"needed: {needed:.0f}" if np.isfinite(needed) else "never reached"
    if needed <= n.max():
        ax.axvline(needed, color=COLOURS[3], lw=1, label=label)
    else:
        ax.plot([], [], " ", label=label)
    ax.set(xlabel="subjects in a group", ylabel="correlation of the\nmean maps (r)")
    ax.set_ylim(min(0, table["low"].min()), 1)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_surface(values, mask, label):
    """A volume map on the cortical surface (fsaverage5, which comes with nilearn).

    ``values`` has shape (n_voxels,). Vertices without a voxel stay bare.
    """
    top = max(float(np.percentile(np.abs(values), 99.5)), 1e-9)
    with warnings.catch_warnings():
        # vertices without a voxel
        warnings.filterwarnings("ignore", message="Mean of empty slice")
        figure, _ = plotting.plot_img_on_surf(
            unmask(np.asarray(values, np.float32), mask),
            mask_img=mask,
            inflate=True,
            vmin=-top,
            vmax=top,
            cbar_tick_format="%.2g",
            title=label,
        )
    sides = "left, lateral", "right, lateral", "left, medial", "right, medial"
    for ax, side in zip(figure.axes, sides, strict=False):
        ax.set_title(side, fontsize=9)
    return figure


def plot_synchrony_by_layer(synchrony, layers, threshold, maxima, names, ax=None):
    """Largest |r| in every layer, for every network, against the null.

    ``synchrony`` has shape (n_neurons, n_networks); ``maxima`` is the null distribution
    of the maximum over neurons, of shape (n_draws, n_networks).
    """
    ax = axes_of(ax, 9, 4)
    by_layer = np.abs(synchrony).reshape(len(layers), -1, synchrony.shape[1]).max(1)
    low, high = np.percentile(maxima.max(1), [5, 95])
    ax.axhspan(low, high, color="0.9", label="null, largest of all\n(5-95 %)")
    ax.axhline(threshold, color="k", ls="--", lw=1, label="family-wise threshold")
    order = np.argsort(-by_layer.max(0))
    for k in order[8:]:
        ax.plot(layers, by_layer[:, k], color="0.75", lw=0.8)
    for colour, k in zip(COLOURS, order[:8], strict=False):
        ax.plot(layers, by_layer[:, k], color=colour, label=names[k])
    ax.set(xlabel="layer", ylabel="largest |synchrony| in the layer (r)")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_encoding_bars(scores, names, ceiling, ax=None):
    """Held-out r of every region or network for several models, and the noise ceiling.

    ``scores`` maps a model to an array of shape (n_regions,), as has ``ceiling``.
    Sorted by the last model, best first.
    """
    ax = axes_of(ax, 10, 3.8)
    order = np.argsort(-list(scores.values())[-1])
    x, width = np.arange(len(names)), 0.8 / len(scores)
    for i, (model, values) in enumerate(scores.items()):
        at, label = x - 0.4 + (i + 0.5) * width, f"{model} ({values.mean():.2f})"
        ax.bar(at, values[order], width, label=label, color=COLOURS[i])
    label = f"noise ceiling ({ceiling.mean():.2f})"
    ax.hlines(ceiling[order], x - 0.45, x + 0.45, color="k", label=label)
    ax.axhline(0, color="0.5", lw=0.8)
    name_ticks(ax, [names[k] for k in order])
    ax.set_ylabel("held-out correlation (r)")
    ax.legend(title="features (mean)", loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_score_distribution(
    scores, ceiling, ax=None, *, label="held-out correlation (r)"
):
    """Spread of scores over voxels for every model, and of the noise ceiling."""
    rows = {**scores, "noise ceiling": ceiling}
    ax = axes_of(ax, 9, 0.45 * len(rows) + 1.2)
    ax.boxplot(
        list(rows.values()), orientation="horizontal", whis=(5, 95), sym="", widths=0.6
    )
    labels = [f"{name}  (mean {np.mean(values):.3f})" for name, values in rows.items()]
    ax.set_yticks(range(1, len(rows) + 1), labels)
    ax.axvline(0, color="0.5", lw=0.8)
    ax.set_xlabel(f"{label}: quartiles, 5-95 %")
    return ax
