"""Figures of functional organisation: which atoms and neurons serve which network."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from nilearn import plotting
from nilearn.datasets import load_fsaverage, load_fsaverage_data
from nilearn.masking import unmask
from nilearn.surface import vol_to_surf

from anbn.plots import COLOURS, _axes, name_ticks


def plot_overlap(strength, significant, names, *, threshold=None, ax=None):
    """Overlap of atoms with networks, a dot where significant.

    ``strength`` and ``significant`` have shape (n_atoms, n_networks). ``threshold`` is
    the |t| that the largest of all pairs exceeds by chance: a line in the colour bar.
    """
    ax = _axes(ax, 11, 0.26 * len(names) + 1.4)
    top = max(np.abs(strength).max(), 1.1 * (threshold or 0))
    image = ax.imshow(
        strength.T, aspect="auto", cmap="RdBu_r", vmin=-top, vmax=top, rasterized=True
    )
    atom, network = np.nonzero(significant)
    label = "significant" if len(atom) else "significant: none"
    ax.plot(atom, network, "o", color="k", mfc="w", ms=5, mew=1.2, label=label)
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set(xlabel="atom", xlim=(-0.5, len(strength) - 0.5))
    bar = ax.figure.colorbar(image, ax=ax, label="t in the network's core")
    if threshold is not None:
        for side in (-threshold, threshold):
            bar.ax.axhline(side, color="k", lw=1.5)
        bar.set_label("t in the network's core\n(lines: 5 % family-wise)")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, fontsize=8)
    return ax


def plot_subgroups(counts, pools, names, axes=None):
    """Share of each layer's neurons that serve each network, models side by side.

    ``counts`` and ``pools`` map a model to arrays of shape (n_networks, n_layers) and
    (n_layers,), see ``organisation.subgroups``. The column at the right is the share
    over all layers: what every layer would hold without any organisation by depth.
    """
    if axes is None:
        size = (min(5.5 * len(counts), 12) + 1, 0.3 * len(names) + 1.6)
        _, axes = plt.subplots(
            1, len(counts), figsize=size, layout="constrained", sharey=True
        )
    axes = np.ravel(axes)
    shares = {}
    for model, count in counts.items():
        share = count / np.maximum(pools[model], 1)
        overall = count.sum(1) / max(pools[model].sum(), 1)
        gap = np.full(len(count), np.nan)
        shares[model] = 100 * np.column_stack([share, gap, overall])
    top = max(np.nanmax([np.nanmax(s) for s in shares.values()]), 1e-9)
    for ax, (model, share) in zip(axes, shares.items(), strict=True):
        image = ax.imshow(share, aspect="auto", cmap="YlGnBu", vmin=0, vmax=top)
        n_layers = share.shape[1] - 2
        ticks = np.arange(0, n_layers, max(1, n_layers // 6))
        if n_layers - ticks[-1] < 3:
            ticks = ticks[:-1]
        ax.set_xticks([*ticks, n_layers + 1], [*map(str, ticks), "all"])
        ax.set_xlabel("layer")
        ax.set_title(model)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].set_ylabel("network")
    axes[0].figure.colorbar(
        image, ax=list(axes), label="neurons of the layer that\nserve it (%)"
    )
    return axes


def plot_organisation(table, diversity, axes=None):
    """Consistency against diversity, a mark a model, and consistency by network.

    ``table`` has the rows of ``specialisation.table`` of all models one below another;
    ``diversity`` maps a model to its effective number of atoms. Bars are intervals over
    subjects, grey marks the surrogates' mean and 95th percentile.
    """
    if axes is None:
        _, axes = plt.subplots(
            1, 2, figsize=(12, 4), width_ratios=(1, 1.6), layout="constrained"
        )
    models = list(dict.fromkeys(table["model"]))
    rows = table[table["network"] != "mean"]
    served = rows.loc[rows["consistency"].notna(), "network"]
    names = list(dict.fromkeys(rows["network"][rows["network"].isin(served)]))
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
    if "null" in table:
        axes[1].plot([], [], "_", color="0.4", ms=12, label="surrogates, mean")
        axes[1].plot([], [], "_", color="k", ms=12, mew=2, label="surrogates, 95 %")
    axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return axes


def _marks(ax, x, rows, colour, label):
    """Values with their intervals, and their null as dashes."""
    y = rows["consistency"].to_numpy(float)
    error = np.abs(rows[["low", "high"]].to_numpy(float).T - y)
    ax.errorbar(x, y, error, fmt="o", color=colour, capsize=3, label=label)
    if "null" in rows:
        ax.plot(x, rows["null"], "_", color="0.4", ms=12)
        ax.plot(x, rows["null_high"], "_", color="k", ms=12, mew=2)


def plot_subjects_needed(table, needed, *, target=0.8, ax=None):
    """Agreement of mean maps of two groups of subjects against their size.

    ``table`` and ``needed`` are those of ``group.subjects_needed``.
    """
    ax = _axes(ax, 7.5, 3.6)
    n, largest = table["n"].to_numpy(), table["n"].iloc[-1]
    ax.fill_between(
        n, table["low"], table["high"], color=COLOURS[0], alpha=0.2, lw=0,
        label="95 % of the draws",
    )  # fmt: skip
    ax.plot(n, table["r"], "o-", color=COLOURS[0], label="two groups apart")
    end = needed if np.isfinite(needed) and needed <= 20 * largest else 2 * largest
    last = table["predicted"].iloc[-1]
    single = last / (largest - (largest - 1) * last)
    at = np.linspace(1, max(end, largest), 200)
    predicted = at * single / (1 + (at - 1) * single)
    ax.plot(at, predicted, ":", color="k", label="Spearman-Brown")
    ax.axhline(target, color="0.5", ls="--", lw=1, label=f"target {target:g}")
    if needed <= at[-1]:
        ax.axvline(needed, color=COLOURS[3], lw=1, label=f"needed: {needed:.0f}")
    else:
        far = f"needed: {needed:.0f}" if np.isfinite(needed) else "never reached"
        ax.plot([], [], " ", label=far)
    ax.set(xlabel="subjects in a group", ylabel="correlation of the\nmean maps (r)")
    ax.set_ylim(min(0, table["low"].min()), 1)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_surface(values, mask, label, *, threshold=None, symmetric=True):
    """A volume map on the cortical surface (fsaverage5), both sides of both halves.

    ``values`` has shape (n_voxels,). ``threshold`` hides what is smaller in size.
    Without ``symmetric``, colours begin at 0. Vertices without a voxel stay bare. The
    surface comes with nilearn.
    """
    image = unmask(np.asarray(values, np.float32), mask)
    meshes = load_fsaverage("fsaverage5")
    sulci = load_fsaverage_data("fsaverage5", data_type="sulcal")
    top = max(float(np.percentile(np.abs(values), 99.5)), 1e-9)
    low, colours = (-top, "RdBu_r") if symmetric else (0.0, "inferno")
    figure, axes = plt.subplots(
        1, 4, figsize=(12, 3.1), subplot_kw={"projection": "3d"}
    )
    figure.subplots_adjust(0, 0, 0.89, 0.88, wspace=0)
    sides = [("left", "lateral"), ("left", "medial"), ("right", "medial")]
    with warnings.catch_warnings():
        # vertices without a voxel
        warnings.filterwarnings("ignore", message="Mean of empty slice")
        texture = {
            half: vol_to_surf(image, meshes["pial"].parts[half], mask_img=mask)
            for half in ("left", "right")
        }
    for ax, (half, view) in zip(axes, [*sides, ("right", "lateral")], strict=True):
        plotting.plot_surf_stat_map(
            meshes["inflated"].parts[half],
            texture[half],
            bg_map=sulci.data.parts[half],
            hemi=half,
            view=view,
            vmin=low,
            vmax=top,
            threshold=threshold,
            cmap=colours,
            colorbar=False,
            axes=ax,
        )
        ax.set_title(f"{half}, {view}", fontsize=9)
    scale = plt.cm.ScalarMappable(plt.Normalize(low, top), colours)
    place = figure.add_axes((0.91, 0.15, 0.012, 0.65))
    bar = figure.colorbar(scale, cax=place, label=label, extend="both")
    if threshold is not None:
        for side in (-threshold, threshold):
            bar.ax.axhline(side, color="0.3", lw=1)
    return figure
