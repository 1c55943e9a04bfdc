"""Figures of coupling: synchrony, anchors, encoding, functional organisation."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator
from nilearn import plotting
from nilearn.masking import unmask

from anbn.core import style
from anbn.core.style import COLOURS, axes_of, legend_beside
from anbn.coupling import uncoupled

OTHER_NULLS = {
    "familywise_surrogate": "surrogate networks",
    "familywise_shift": "shifted words",
}
HALVES = {"subjects": "halves of subjects", "time": "halves of the story"}
MOST_LINES = 8  # with a name
MOST_MODELS = 6  # side by side


def plot_subject_synchrony(largest, thresholds, names, ax=None):
    """Largest |r| of every subject with every network, and the subjects' thresholds.

    ``largest`` has shape (n_subjects, n_networks); ``thresholds`` (n_subjects,). The
    networks in which most subjects pass come first.
    """
    if not largest.size:
        return style.nothing(ax)
    beyond = largest >= thresholds[:, None]
    n, share = len(largest), beyond.mean(0)
    ties = np.nan_to_num(np.median(largest, axis=0))
    rows = style.rows(names, share + 1e-6 * ties, "share beyond")
    ax = axes_of(ax, 9.5, rows.inches)
    shift = np.linspace(-0.3, 0.3, n) if n > 1 else np.zeros(1)
    y = rows.y + shift[:, None] * rows.height
    size = np.broadcast_to(rows.sized(30 if n <= 30 else 8, 2), y.shape)
    for passed, colour, label in (
        (beyond, COLOURS[3], "beyond the subject's own\nthreshold"),
        (~beyond, "0.6", "below it"),
    ):
        ax.scatter(
            largest[passed], y[passed], size[passed] if passed.any() else 30,
            color=colour, lw=0, label=label, rasterized=True,
        )  # fmt: skip
    low, high = np.nanmin(thresholds), np.nanmax(thresholds)
    label = "thresholds of the subjects\n(family-wise)"
    if high > low:
        ax.axvspan(low, high, color="0.9", zorder=0, label=label)
    else:
        ax.axvline(low, color="0.8", lw=3, zorder=0, label=label)
    rows.name(ax)
    ax.set_xlabel("largest |synchrony| (r)")
    legend_beside(ax, title=f"{n} subject{'s' * (n > 1)}")
    return ax


def plot_beside_null(table, value, label, ax=None, *, p="p", level=0.05):
    """A value of every network, and its null; a star where p is at most ``level``.

    ``table`` has a row a network and columns ``value``, ``null_mean``, ``null_95`` and
    ``p``. The largest come first; of more than ``style.MOST_ROWS`` networks, the first
    are named.
    """
    if not len(table):
        return style.nothing(ax)
    observed = table[value].to_numpy(float)
    rows = style.rows(table.index, observed, "observed value")
    ax = axes_of(ax, 9.5, rows.inches)
    rows.bars(ax, observed, COLOURS[0], "observed")
    rows.marks(ax, table["null_mean"], "0.5", "null, mean")
    rows.marks(ax, table["null_95"], "k", "null, 95 %")
    passed = (table[p] <= level).to_numpy()
    highest = np.fmax(np.fmax(observed, table["null_95"].to_numpy(float)), 0)
    size = rows.sized(60, 4)[passed] if passed.any() else 60
    label_of_stars = (
        f"p at most {level:g}, family-wise:\n{passed.sum()} of {len(table)}"
    )
    ax.scatter(
        highest[passed], rows.y[passed], size,
        color="k", marker=(6, 2), zorder=3, label=label_of_stars,
    )  # fmt: skip
    # room for the stars
    ax.margins(x=0.06)
    ax.axvline(0, color="0.5", lw=0.8)
    rows.name(ax)
    ax.set_xlabel(label.replace("\n", " "))
    legend_beside(ax)
    return ax


def plot_uncoupled(table, ax=None, *, level=0.05):
    """Subjects in which a null finds coupling with a story that was not heard.

    ``table`` is that of ``uncoupled.false_findings``; rows of the group are drawn as
    their p.
    """
    if not len(table):
        return style.nothing(ax, "story that was not heard")
    of_group = table["data"] == "group"
    single, versions = table[~of_group], list(dict.fromkeys(table["version"]))
    by_version = single.groupby("version")["found"].agg(["sum", "size"])
    by_version = by_version.reindex(versions, fill_value=0)
    order = np.arange(len(versions))[::-1]
    rows = style.rows(versions, order, "their order", what="versions of the story")
    ax = axes_of(ax, 9, rows.inches)
    label = f"subjects: {single['found'].sum()} of {len(single)}"
    rows.bars(ax, by_version["sum"].to_numpy(), COLOURS[0], label)
    most = int(by_version["size"].max())
    high = uncoupled.interval(most, level)[1] if most else 0
    ax.axvspan(0, high, color="0.93", zorder=0, label="99 % by chance, each bar")
    expected = level * by_version["size"].mean()
    ax.axvline(expected, color="k", ls="--", lw=1, label="expected")
    right = 1.25 * max(high, by_version["sum"].max(), 1)
    group = table[of_group].drop_duplicates("version").set_index("version")["p"]
    for y, height, version in zip(rows.y, rows.height, versions, strict=True):
        if version in group and height == 1:
            p = f"{group[version]:.2f}"
            ax.text(0.99 * right, y, p, ha="right", va="center", fontsize=9)
    if len(group):
        ax.plot([], [], " ", label="figures: p of the group")
    rows.name(ax)
    style.whole_numbers(ax.xaxis)
    ax.set(xlim=(0, right), xlabel=f"subjects found at {level:g}, of {most}")
    legend_beside(ax)
    return ax


def plot_reliability(table, ax=None):
    """Synchrony in two halves: r over neurons, and what surrogates reach.

    ``table`` is that of ``reliability.reliability``; the networks that come back best
    come first.
    """
    halves = [half for half in HALVES if table[f"r_{half}"].notna().any()]
    if not halves:
        return style.nothing(ax, "halves to compare")
    r = table[[f"r_{half}" for half in halves]].to_numpy(float)
    rows = style.rows(table.index, r[:, 0], f"r of {HALVES[halves[0]]}")
    ax = axes_of(ax, 9.5, rows.inches)
    for i, half in enumerate(halves):
        place = {"i": i, "n": len(halves)}
        colour = COLOURS[list(HALVES).index(half)]
        rows.bars(ax, r[:, i], colour, HALVES[half], **place)
        null = "null of either, 95 %" if i == 0 else None
        rows.marks(ax, table[f"null_{half}"], "k", null, **place)
    ax.axvline(0, color="0.5", lw=0.8)
    rows.name(ax)
    ax.set_xlabel("synchrony in one half and the other (r over neurons)")
    legend_beside(ax)
    return ax


def _side_by_side(models, width, height):
    """Axes of one figure, one a model, and their titles."""
    n = len(models)
    size = min(width, style.WIDEST), min(height, style.HIGHEST)
    _, axes = plt.subplots(
        1, n, sharey=True, squeeze=False, figsize=size, layout="constrained"
    )
    across = int(12 * (size[0] - 3.5) / n)
    for ax, name in zip(axes[0], style.model_names(models, 60), strict=True):
        ax.set_title(style.wrapped(name, max(across, 8)), fontsize=9, parse_math=False)
    return axes[0]


def _first(models):
    """The models that fit side by side."""
    return dict(list(models.items())[:MOST_MODELS])


def plot_depth_profiles(profiles, names, *, null="surrogates, mean"):
    """Where in each model the top anchors of every network lie.

    ``profiles`` maps a model to an array of shape (n_networks, n_bins), of
    ``anchors.depth_profile``; white is an even spread over depth. A last row called
    ``null`` holds the mean over surrogates, which need not be even. Of more than
    ``MOST_MODELS`` models the first are drawn; of more than ``style.MOST_ROWS``
    networks those are named whose anchors lie least evenly.
    """
    n_null = int(len(names) > 0 and names[-1] == null)
    if not profiles or len(names) == n_null:
        return [style.nothing()]
    n_models, profiles = len(profiles), _first(profiles)
    n_bins = next(iter(profiles.values())).shape[1]
    uneven = np.max(
        [np.abs(np.nan_to_num(one) - 1 / n_bins).sum(1) for one in profiles.values()],
        axis=0,
    )
    rows = style.rows(names, uneven, "unevenness", ordered=False, n_null=n_null)
    axes = _side_by_side(profiles, 3.8 * len(profiles) + 3, rows.inches + 0.4)
    top = max(2.0, *(np.nanmax(one, initial=0) * n_bins for one in profiles.values()))
    colours = plt.get_cmap("RdBu_r").with_extremes(bad="0.8")
    for ax, profile in zip(axes, profiles.values(), strict=True):
        ratio = np.log2(np.maximum(profile * n_bins, 1 / top))
        limits = {"vmin": -np.log2(top), "vmax": np.log2(top)}
        image = rows.mesh(ax, ratio, cmap=colours, **limits)
        ax.set_xticks([-0.5, n_bins - 0.5], ["input", "output"], fontsize=8)
        ax.set_xlabel("relative depth")
    rows.name(axes[0])
    label = "anchors / an even share"
    if n_models > len(profiles):
        label += f"\n({len(profiles)} of {n_models} models, the first)"
    bar = axes[-1].figure.colorbar(image, ax=list(axes), label=label)
    ticks = [t for t in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8) if 1 / top <= t <= top]
    bar.set_ticks(np.log2(ticks), labels=[f"{t:g}" for t in ticks])
    return axes


def plot_feature_effects(effects, ax=None, *, level=0.05):
    """What coupled neurons answer to more than uncoupled ones of their layers.

    ``effects`` is the table of ``meaning.feature_effects``. A dot marks what is beyond
    the null of independent neurons, a star what is beyond all the others there are.
    """
    if not len(effects):
        return style.nothing(ax, "networks with coupled neurons")
    order = {"index": "network", "columns": "feature"}
    cells = effects["network"].unique(), effects["feature"].unique()
    d, q, *others = (
        effects.pivot(**order, values=name).loc[cells]
        for name in ("d", "q", *OTHER_NULLS)
    )
    largest = d.abs().max(axis=1)
    rows = style.rows(d.index, largest, "largest |d|", ordered=False)
    ax = axes_of(ax, 0.8 * d.shape[1] + 6, rows.inches + 0.8)
    top = max(float(largest.max()), 1e-9) if largest.notna().any() else 1.0
    colours = plt.get_cmap("RdBu_r").with_extremes(bad="0.88")
    image = rows.mesh(ax, d.to_numpy(float), cmap=colours, vmin=-top, vmax=top)
    dots = (q <= level).to_numpy()
    stars = np.all([values <= level for values in others], axis=0)
    for signs, mark, size, label in (
        (dots & ~stars, "o", 25, "independent neurons"),
        (stars, "*", 110, "\nand ".join(OTHER_NULLS.values())),
    ):
        row, column = np.nonzero(signs)
        named = rows.height[row] == 1  # thin ones would be covered
        label = f"{label}\n({len(row)} of {d.notna().to_numpy().sum()})"
        ax.scatter(
            column[named], rows.y[row][named], size,
            marker=mark, color="k", ec="w", lw=0.4, label=label,
        )  # fmt: skip
    rows.name(ax)
    style.name_columns(ax, d.columns, "feature of words")
    ax.figure.colorbar(image, ax=ax, label="coupled - uncoupled\n(Cohen's d)")
    title = f"beyond {level:g} of" + "\n(marked where named)" * rows.many
    legend_beside(ax, title=title, labelspacing=1)
    return ax


def plot_overlap(strength, significant, names, *, threshold, ax=None):
    """Overlap of atoms with networks, a dot where significant.

    ``strength`` and ``significant`` have shape (n_atoms, n_networks). ``threshold`` is
    the |t| that the largest of all pairs exceeds by chance: a line in the colour bar.
    """
    if not strength.size:
        return style.nothing(ax, "atoms or networks")
    largest = np.abs(np.nan_to_num(strength)).max(0)
    rows = style.rows(names, largest, "largest |t|", ordered=False)
    ax = axes_of(ax, 11, rows.inches + 0.4)
    top = max(largest.max(), 1.1 * threshold)
    colours = plt.get_cmap("RdBu_r").with_extremes(bad="0.8")
    image = rows.mesh(
        ax, strength.T, cmap=colours, vmin=-top, vmax=top, rasterized=True
    )
    atom, network = np.nonzero(significant)
    named = rows.height[network] == 1  # thin ones would be covered
    label = f"significant: {len(atom)} of {strength.size}" + (
        " (marked where named)" * rows.many
    )
    x, y = atom[named], rows.y[network[named]]
    ax.scatter(x, y, 30, color="w", ec="k", lw=0.8, label=label)
    rows.name(ax)
    ax.set(xlabel="atom", xlim=(-0.5, len(strength) - 0.5))
    style.whole_numbers(ax.xaxis)
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
    over all layers: what every layer would hold without any organisation by depth. Of
    more than ``MOST_MODELS`` models the first are drawn.
    """
    if not counts or not len(names):
        return [style.nothing()]
    n_models, counts = len(counts), _first(counts)
    shares, overall = {}, {}
    for model, count in counts.items():
        share = count / np.maximum(pools[model], 1)
        overall[model] = 100 * count.sum(1) / max(pools[model].sum(), 1)
        gap = np.full(len(count), np.nan)
        shares[model] = np.column_stack([100 * share, gap, overall[model]])
    served = np.nan_to_num([*overall.values()]).max(0)
    rows = style.rows(names, served, "share of neurons", ordered=False)
    axes = _side_by_side(counts, 4.5 * len(counts) + 3, rows.inches + 0.4)
    top = max(np.nanmax([np.nanmax(s, initial=0) for s in shares.values()]), 1e-9)
    for ax, share in zip(axes, shares.values(), strict=True):
        image = rows.mesh(ax, share, cmap="YlGnBu", vmin=0, vmax=top)
        last = share.shape[1] - 3
        ticks = sorted({0, last // 2})
        ax.set_xticks([*ticks, last + 2], [*map(str, ticks), "all"])
        ax.set_xlabel("layer")
    rows.name(axes[0])
    label = "neurons of the layer that\nserve it (%)"
    if n_models > len(counts):
        label += f" ({len(counts)} of {n_models} models, the first)"
    axes[0].figure.colorbar(image, ax=list(axes), label=label)
    return axes


def plot_organisation(table, diversity):
    """Consistency against diversity, a mark a model, and consistency by network.

    ``table`` has the rows of ``organisation.describe`` of all models one below another;
    ``diversity`` maps a model to its effective number of atoms. Bars are intervals over
    subjects, grey marks the surrogates' mean and 95th percentile. Networks in which no
    model's atoms agree are left out.
    """
    models = list(table["model"].unique())
    single = table[table["network"] != "mean"].dropna(subset=["consistency"])
    if not models:
        axes = [style.nothing(what="models")]
        return axes
    best = single.groupby("network", sort=False)["consistency"].max()
    rows = style.rows(best.index, best, "consistency")
    height = max(4.2, rows.inches * max(1, len(models) / 6))
    _, axes = plt.subplots(
        1,
        2,
        figsize=(13, min(height, style.HIGHEST)),
        width_ratios=(1, 1.4),
        layout="constrained",
    )
    label = "consistency (Dice over\npairs of subjects)"
    called = style.model_names(models)
    offsets = np.linspace(-0.3, 0.3, len(models)) if len(models) > 1 else [0.0]
    for i, (model, name) in enumerate(zip(models, called, strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        own = table[table["model"] == model].set_index("network")
        mean = own.loc[["mean"]]
        for level, shade, mew in (("null", "0.4", 1.5), ("null_high", "k", 2)):
            axes[0].plot(
                diversity[model], mean[level].item(), "_", color=shade, ms=12, mew=mew
            )
        error = np.abs(
            mean[["low", "high"]].to_numpy(float).T - mean["consistency"].item()
        )
        axes[0].errorbar(
            [diversity[model]], mean["consistency"], error,
            fmt="o", color=colour, capsize=3, label=name,
        )  # fmt: skip
        own = own.reindex(best.index)
        y, half = rows.y + offsets[i] * rows.height, 0.3 * rows.height / len(models)
        axes[1].hlines(
            y, own["low"], own["high"], color=colour, lw=rows.sized(1.5, 0.3)
        )
        axes[1].scatter(
            own["consistency"], y, rows.sized(25, 2), color=colour, label=name
        )
        axes[1].vlines(own["null"], y - half, y + half, color="0.4", lw=1.5)
        axes[1].vlines(own["null_high"], y - half, y + half, color="k", lw=2)
    axes[0].set(xlabel="diversity (effective number of atoms)", ylabel=label)
    axes[0].set(title="mean over networks", ylim=(min(0, axes[0].get_ylim()[0]), None))
    axes[0].margins(x=0.15)
    axes[0].set_box_aspect(1)
    axes[0].set_anchor("N")
    axes[1].set_title("each network")
    axes[1].set_xlabel(label.replace("\n", " "))
    axes[1].set_xlim(left=0)
    if len(best):
        rows.name(axes[1])
    else:
        style.nothing(axes[1], "network that atoms agree on")
        return axes
    for colour, label in (("0.4", "surrogates, mean"), ("k", "surrogates, 95 %")):
        axes[1].plot([], [], "_", color=colour, ms=12, mew=2, label=label)
    legend_beside(axes[1])
    return axes


def plot_subjects_needed(table, needed, *, target=0.8, ax=None):
    """Agreement of mean maps of two groups of subjects against their size.

    ``table`` and ``needed`` are those of ``inference.subjects_needed``.
    """
    if not len(table):
        return style.nothing(ax, "two groups of subjects")
    ax, n = axes_of(ax, 8, 3.6), table["n"]
    band = {"color": COLOURS[0], "alpha": 0.2, "lw": 0, "label": "95 % of the draws"}
    ax.fill_between(n, table["low"], table["high"], **band)
    ax.plot(n, table["r"], "o-", color=COLOURS[0], label="two groups apart")
    ax.plot(n, table["predicted"], ".:", color="k", label="Spearman-Brown")
    ax.axhline(target, color="0.5", ls="--", lw=1, label=f"target {target:g}")
    label = f"needed: {needed:.0f}" if np.isfinite(needed) else "never reached"
    if needed <= n.max():
        ax.axvline(needed, color=COLOURS[3], lw=1, label=label)
    else:
        ax.plot([], [], " ", label=label)
    ax.set(xlabel="subjects in a group", ylabel="correlation of the\nmean maps (r)")
    ax.set_ylim(np.nanmin([0, *table["low"]]), 1.03)
    style.whole_numbers(ax.xaxis)
    legend_beside(ax)
    return ax


def plot_surface(values, mask, label):
    """A volume map on the cortical surface (fsaverage5, which comes with nilearn).

    ``values`` has shape (n_voxels,). Vertices without a voxel stay bare.
    """
    values = np.nan_to_num(np.asarray(values, np.float32))
    top = max(float(np.percentile(np.abs(values), 99.5)), 1e-9)
    with warnings.catch_warnings():
        # vertices without a voxel
        warnings.filterwarnings("ignore", message="Mean of empty slice")
        figure, _ = plotting.plot_img_on_surf(
            unmask(values, mask),
            mask_img=mask,
            inflate=True,
            vmin=-top,
            vmax=top,
            cbar_tick_format="%.2g",
            title=label,
        )
    sides = "left, lateral", "right, lateral", "left, medial", "right, medial"
    for ax, side in zip(figure.axes, sides, strict=False):
        ax.set_title(side, fontsize=9, y=0.86)  # below the figure's own
    bar = figure.axes[-1]
    bar.set_xticks([-top, 0, top], [f"{-top:.2g}", "0", f"{top:.2g}"])
    bar.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    return figure


def plot_synchrony_by_layer(synchrony, layers, threshold, maxima, names, ax=None):
    """Largest |r| in every layer, for every network, against the null.

    ``synchrony`` has shape (n_neurons, n_networks); ``maxima`` is the null distribution
    of the maximum over neurons, of shape (n_draws, n_networks). The strongest
    ``MOST_LINES`` networks are named, the others grey.
    """
    if not synchrony.size:
        return style.nothing(ax, "neurons or networks")
    ax = axes_of(ax, 9.5, 4.2)
    by_layer = np.abs(synchrony).reshape(len(layers), -1, synchrony.shape[1])
    by_layer = np.fmax.reduce(by_layer, axis=1)  # NaN only where nothing is known
    largest = np.fmax.reduce(by_layer, axis=0)
    if maxima.size:
        low, high = np.nanpercentile(np.nanmax(maxima, axis=1), [5, 95])
        label = "null, largest of all\n(5-95 %)"
        ax.axhspan(low, high, color="0.9", zorder=0, label=label)
    if np.isfinite(threshold):
        ax.axhline(threshold, color="k", ls="--", lw=1, label="family-wise threshold")
    order = np.argsort(-largest, kind="stable")
    order = order[np.isfinite(largest[order])]
    for k in order[MOST_LINES:]:
        ax.plot(layers, by_layer[:, k], color="0.75", lw=0.8, marker=".", ms=3)
    named = order[:MOST_LINES]
    short = style.short_names(names, style.MOST_IN_LEGEND)
    for colour, k in zip(COLOURS, named, strict=False):
        ax.plot(layers, by_layer[:, k], ".-", color=colour, label=short[k])
    ax.set(xlabel="layer", ylabel="largest |synchrony|\nin the layer (r)")
    style.whole_numbers(ax.xaxis)
    title = None
    if len(names) > MOST_LINES:
        title = f"{MOST_LINES} of {len(names)} named,\nby largest |r|"
    legend_beside(ax, title=title)
    return ax


def plot_encoding_bars(scores, names, ceiling, ax=None):
    """Held-out r of every region or network for several models, and the noise ceiling.

    ``scores`` maps a model to an array of shape (n_regions,), as has ``ceiling``.
    Sorted by the last model, best first; of more than ``style.MOST_ROWS`` regions, the
    first are named.
    """
    if not scores or not len(names):
        return style.nothing(ax)
    called = style.model_names(scores)
    last = np.asarray(list(scores.values())[-1])
    rows = style.rows(names, last, "r of the last model")
    n = len(scores)
    ax = axes_of(ax, 10, rows.inches * max(1, n / 4))
    for i, (name, values) in enumerate(zip(called, scores.values(), strict=True)):
        colour, label = COLOURS[i % len(COLOURS)], f"{name} ({_mean(values):.2f})"
        rows.bars(ax, values, colour, label, i=i, n=n)
    rows.marks(ax, ceiling, "k", f"noise ceiling ({_mean(ceiling):.2f})", half=0.45)
    ax.axvline(0, color="0.5", lw=0.8)
    rows.name(ax)
    ax.set_xlabel("held-out correlation (r)")
    legend_beside(ax, title="features (mean)")
    return ax


def _mean(values):
    """Mean of the numbers among values; NaN without a warning if there is none."""
    values = np.asarray(values, float)
    known = values[np.isfinite(values)]
    return known.mean() if len(known) else np.nan


def plot_score_distribution(
    scores, ceiling, ax=None, *, label="held-out correlation (r)"
):
    """Spread of scores over voxels for every model, and of the noise ceiling."""
    called = [*style.model_names(scores), "noise ceiling"]
    spread = [np.asarray(v, float) for v in (*scores.values(), ceiling)]
    spread = [values[np.isfinite(values)] for values in spread]
    if not any(map(len, spread)):
        return style.nothing(ax, "scores")
    ax = axes_of(ax, 9, max(2.4, 0.4 * len(spread) + 1.2))
    ax.boxplot(spread, orientation="horizontal", whis=(5, 95), sym="", widths=0.6)
    labels = [
        f"{name}  (mean {_mean(values):.3f})"
        for name, values in zip(called, spread, strict=True)
    ]
    ax.set_yticks(range(1, len(spread) + 1), labels, parse_math=False)
    ax.axvline(0, color="0.5", lw=0.8)
    ax.xaxis.set_major_locator(MaxNLocator(7))
    ax.set_xlabel(
        f"{label}:\nquartiles and 5-95 % of {len(spread[-1])} voxels or regions"
    )
    return ax
