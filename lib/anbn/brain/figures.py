"""Figures of BOLD: word rate, maps, lags, subjects, encoding."""

import matplotlib.pyplot as plt
import numpy as np
from nilearn import plotting
from nilearn.masking import unmask

from anbn.core import style
from anbn.stats import timeseries

MOST_MAPS = 16  # of one figure
MOST_LINES = 8  # with a name


def plot_word_rate(words, rate, *, n_times, tr, start, ax=None):
    """Words that begin in each volume, and the word rate after the HRF."""
    if not n_times:
        return style.nothing(ax, "volumes")
    ax = style.axes_of(ax)
    edges = timeseries.frame_times(n_times + 1, tr, start)
    counts, _ = np.histogram(words["onset"], edges)
    ax.stairs(counts / tr, edges, fill=True, color="0.8", label="heard")
    ax.plot(edges[:-1], rate, color=style.COLOURS[0], label="after the HRF")
    ax.set(xlabel="time on the story's clock (s)", ylabel="words per second")
    ax.set_xlim(edges[0], edges[-1])
    highest = max(counts.max() / tr, np.nanmax(rate, initial=0), 1e-9)
    ax.set_ylim(min(0, np.nanmin(rate, initial=0)), 1.3 * highest)
    ax.legend(loc="upper right", ncols=2, framealpha=0.9)
    return ax


def plot_maps(maps, mask, titles, *, title=""):
    """Maps on the MNI template, cut at their peaks; (n_networks, n_voxels).

    Of more than ``MOST_MAPS`` the first, which are the strongest as networks come from
    a decomposition; the title says so.
    """
    if not len(maps):
        return style.nothing(what="maps").figure
    shown = maps[:MOST_MAPS]
    if len(maps) > MOST_MAPS:
        title = f"{title}\n{MOST_MAPS} of {len(maps)}, the strongest".strip()
    n_rows = -(-len(shown) // 4)
    figure, axes = plt.subplots(n_rows, 4, figsize=(12.4, 2.9 * n_rows + 0.4))
    height = figure.get_figheight()
    figure.suptitle(title, y=1 - 0.15 / height)
    figure.subplots_adjust(top=1 - 1.05 / height, bottom=0.02)
    for ax in np.ravel(axes)[len(shown) :]:
        ax.set_axis_off()
    for ax, values, name in zip(np.ravel(axes), shown, titles, strict=False):
        values = np.nan_to_num(values).astype(np.float32)
        image = unmask(values, mask)
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
        lines = style.short_names(str(name).split("\n"), 36)
        ax.set_title("\n".join(lines), fontsize=9, parse_math=False)
    return figure


def plot_lag_profile(lags, correlations, names, ax=None):
    """Correlation with the word rate against the lag of BOLD behind it.

    ``correlations`` has shape (n_lags, n_regions); ``lags`` in seconds. The strongest
    ``MOST_LINES`` are named: more would not be told apart.
    """
    if not correlations.size:
        return style.nothing(ax)
    ax = style.axes_of(ax, 9, 3.6)
    largest = np.fmax.reduce(np.abs(correlations), axis=0)
    order = np.argsort(-largest, kind="stable")
    order = order[np.isfinite(largest[order])]
    named = order[:MOST_LINES]
    for k in order[MOST_LINES:]:
        ax.plot(lags, correlations[:, k], color="0.8", lw=1, zorder=1)
    short = style.short_names(names, style.MOST_IN_LEGEND)
    for colour, k in zip(style.COLOURS, named, strict=False):
        ax.plot(lags, correlations[:, k], ".-", color=colour, label=short[k])
    ax.axvline(0, color="0.5", lw=0.8)
    ax.set(
        xlabel="lag of BOLD behind the word rate after the HRF (s)",
        ylabel="correlation with word rate (r)",
    )
    title = None
    if len(names) > MOST_LINES:
        title = f"{MOST_LINES} of {len(names)} named,\nby largest |r|"
    style.legend_beside(ax, title=title)
    return ax


def plot_subjects(values, names, ylabel, ax=None):
    """A dot a subject and the mean, for every network; (n_subjects, n_networks).

    The largest means come first; of more than ``style.MOST_ROWS`` networks, the first
    are named. ``ylabel`` says what the values are.
    """
    values = np.asarray(values, float)
    if not values.size:
        return style.nothing(ax)
    known = np.isfinite(values)
    mean = np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)
    mean[~known.any(0)] = np.nan
    rows = style.rows(names, mean, "mean over subjects")
    ax = style.axes_of(ax, 9, rows.inches)
    n = len(values)
    jitter = np.linspace(-0.25, 0.25, n) if n > 1 else np.zeros(1)
    y = rows.y + jitter[:, None] * rows.height
    size = np.broadcast_to(rows.sized(24 if n <= 30 else 8, 1), y.shape)
    label = f"{n} subjects" if n > 1 else "the subject"
    ax.scatter(values, y, size, color="0.6", lw=0, label=label, rasterized=True)
    rows.marks(ax, mean, style.COLOURS[3], "mean", lw=2.5)
    ax.axvline(0, color="0.5", lw=0.8)
    rows.name(ax)
    ax.set_xlabel(ylabel.replace("\n", " "))
    style.legend_beside(ax)
    return ax


def plot_encoding_map(scores, mask, ax=None, *, label=""):
    """A score in every voxel on axial cuts of the MNI template; (n_voxels,).

    ``label`` goes to the colour bar, with the unit.
    """
    scores = np.nan_to_num(np.asarray(scores, np.float32))
    if not scores.any():
        return style.nothing(ax, "scores but 0")
    ax = style.axes_of(ax, 12, 3)
    image = unmask(scores, mask)
    top = max(float(np.percentile(np.abs(scores), 99.5)), 1e-9)
    display = plotting.plot_stat_map(
        image,
        display_mode="z",
        cut_coords=[-40, -20, 0, 20, 40, 60],
        axes=ax,
        vmax=top,
        threshold=top / 4,
        colorbar=True,
        annotate=False,
    )
    display.annotate(left_right=False, size=9)
    if label:
        ax.figure.axes[-1].set_ylabel(label)
    return ax
