"""Figures of BOLD: word rate, maps, lags, subjects, encoding."""

import matplotlib.pyplot as plt
import numpy as np
from nilearn import plotting
from nilearn.masking import unmask

from anbn.core import style
from anbn.stats import timeseries


def plot_word_rate(words, rate, *, n_times, tr, start, ax=None):
    """Words that begin in each volume, and the word rate after the HRF."""
    ax = style.axes_of(ax)
    edges = timeseries.frame_times(n_times + 1, tr, start)
    counts, _ = np.histogram(words["onset"], edges)
    ax.bar(edges[:-1], counts / tr, width=tr, align="edge", color="0.8", label="heard")
    ax.plot(edges[:-1], rate, color=style.COLOURS[0], label="after the HRF")
    ax.set(xlabel="time on the story's clock (s)", ylabel="words per second")
    ax.set_xlim(edges[0], edges[-1])
    ax.legend(loc="upper right", ncols=2, framealpha=0.9)
    ax.set_ylim(0, 1.25 * max(counts.max() / tr, 1e-9))
    return ax


def plot_maps(maps, mask, titles, *, title=""):
    """Every map on the MNI template, cut at its peak; (n_networks, n_voxels)."""
    n_rows = -(-len(maps) // 4)
    figure, axes = plt.subplots(n_rows, 4, figsize=(12.4, 2.9 * n_rows))
    height = figure.get_figheight()
    figure.suptitle(title, y=1 - 0.15 / height)
    figure.subplots_adjust(top=1 - 0.8 / height, bottom=0.02)
    for ax in np.ravel(axes)[len(maps) :]:
        ax.set_axis_off()
    for ax, values, name in zip(np.ravel(axes), maps, titles, strict=False):
        image = unmask(values.astype(np.float32), mask)
        cut = plotting.find_xyz_cut_coords(
            image, activation_threshold=np.abs(values).max() / 2
        )
        plotting.plot_stat_map(
            image,
            display_mode="z",
            cut_coords=[round(float(cut[2]))],
            threshold=float(np.percentile(np.abs(values), 90)),
            colorbar=False,
            axes=ax,
        )
        ax.set_title(name, fontsize=9)
    return figure


def plot_lag_profile(lags, correlations, names, ax=None):
    """Correlation with the word rate against the lag of BOLD behind it.

    ``correlations`` has shape (n_lags, n_regions); ``lags`` in seconds.
    """
    ax = style.axes_of(ax, 7)
    # only the strongest few get a name: more would not be told apart
    named = np.argsort(-np.abs(correlations).max(0))[:8]
    rest = np.setdiff1d(np.arange(correlations.shape[1]), named)
    for k in rest:
        ax.plot(lags, correlations[:, k], color="0.8", lw=1)
    for i, k in enumerate(sorted(named)):
        ax.plot(lags, correlations[:, k], label=names[k], color=style.COLOURS[i])
    ax.axvline(0, color="0.5", lw=0.8)
    ax.set(
        xlabel="lag of BOLD behind the word rate after the HRF (s)",
        ylabel="correlation with word rate (r)",
    )
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_subjects(values, names, ylabel, ax=None):
    """One dot a subject and the mean, for every network; (n_subjects, n_networks)."""
    ax = style.axes_of(ax)
    x = np.arange(values.shape[1])
    jitter = np.linspace(-0.15, 0.15, len(values))
    for offset, row in zip(jitter, values, strict=True):
        ax.plot(x + offset, row, ".", color="0.6")
    ax.plot(x, values.mean(0), "_", color=style.COLOURS[3], ms=18, mew=3, label="mean")
    ax.axhline(0, color="0.5", lw=0.8)
    style.name_ticks(ax, names)
    ax.set_ylabel(ylabel)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_encoding_map(scores, mask, ax=None):
    """A score in every voxel on axial cuts of the MNI template; (n_voxels,)."""
    ax = style.axes_of(ax, 12, 3)
    image = unmask(np.asarray(scores, np.float32), mask)
    top = float(np.percentile(np.abs(scores), 99.5))
    options = {"display_mode": "z", "cut_coords": [-40, -20, 0, 20, 40, 60], "axes": ax}
    display = plotting.plot_stat_map(
        image, **options, vmax=top, threshold=top / 4, colorbar=True, annotate=False
    )
    display.annotate(left_right=False, size=9)
    return ax
