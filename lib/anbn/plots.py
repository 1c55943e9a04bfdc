"""Figures: ``plot_x(data, ax=None) -> ax``, one question each."""

import matplotlib.pyplot as plt
import numpy as np
from nilearn import plotting
from nilearn.masking import unmask

from anbn import hemodynamics

COLOURS = plt.get_cmap("tab10").colors
MOST_NAMES = 40  # that fit below an axis


def _axes(ax, width=9.0, height=3.2):
    if ax is None:
        _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    return ax


def name_ticks(ax, names, named=None):
    """Names of networks along x, as many as can be read.

    Of more than ``MOST_NAMES`` those that are ``named`` (bool, n_networks), or every so
    many; the label of the axis says which.
    """
    n = len(names)
    step = max(1, int(np.ceil(n / MOST_NAMES)))
    shown, which = np.arange(0, n, step), f"one in {step} is named"
    if named is not None and n > MOST_NAMES:
        shown, which = np.flatnonzero(named), "named: those with *"
    many = n > MOST_NAMES
    style = {"rotation": 90} if many else {"rotation": 30, "ha": "right"}
    ax.set_xticks(shown, [names[i] for i in shown], **style)
    if many:
        ax.set_xlabel(f"{n} networks or regions ({which})")


def plot_word_rate(words, rate, *, n_times, tr, start, ax=None):
    """Words that begin in each volume, and the word rate after the HRF."""
    ax = _axes(ax)
    edges = hemodynamics.frame_times(n_times + 1, tr, start)
    counts, _ = np.histogram(words["onset"], edges)
    ax.bar(edges[:-1], counts / tr, width=tr, align="edge", color="0.8", label="heard")
    ax.plot(edges[:-1], rate, color=COLOURS[0], label="after the HRF")
    ax.set(xlabel="time on the story's clock (s)", ylabel="words per second")
    ax.set_xlim(edges[0], edges[-1])
    ax.legend(loc="upper right", ncols=2, framealpha=0.9)
    ax.set_ylim(0, 1.25 * max(counts.max() / tr, 1e-9))
    return ax


def plot_raster(activations, *, n_tokens, n_neurons, ax=None):
    """First tokens x the neurons whose activations vary most in relative terms.

    ``activations`` is a DataArray of shape (n_tokens, n_layers, n_neurons).
    """
    ax = _axes(ax, 10, 7)
    n_tokens = min(n_tokens, len(activations))  # of a very short story
    head = activations[: max(200, n_tokens)].to_numpy().astype(np.float32)
    n = head.shape[2]
    flat = head.reshape(len(head), -1)
    z = hemodynamics.zscore(flat)
    # one neuron from each of n_neurons stretches of depth, the one of largest variance
    stretches = np.array_split(np.arange(flat.shape[1]), n_neurons)
    rest = flat[1:] if len(flat) > 2 else flat  # the first token stands out
    chosen = [s[rest[:, s].var(0).argmax()] for s in stretches if len(s)]
    image = ax.imshow(
        z[:n_tokens, chosen].T, aspect="auto", cmap="RdBu_r", vmin=-4, vmax=4
    )
    layers = activations["layer"].to_numpy()
    names = [f"{layers[c // n]}.{c % n}" for c in chosen]
    labels = [t.strip() or "·" for t in activations["text"].to_numpy()[:n_tokens]]
    ax.set_xticks(range(n_tokens), labels, rotation=60, ha="right", fontsize=8)
    ax.set_yticks(range(len(chosen)), names, fontsize=6)
    ax.set(xlabel="token", ylabel="neuron (layer.unit)")
    ax.figure.colorbar(image, ax=ax, label="activation (s.d.)", extend="both")
    return ax


def plot_layer_variance(variance, layers, ax=None):
    """Spread of the neurons' variance in each layer.

    ``variance`` maps a kind of neuron to an array of shape (n_layers, n_neurons).
    """
    ax = _axes(ax)
    for colour, (kind, values) in zip(COLOURS, variance.items(), strict=False):
        low, middle, high = np.percentile(values, [5, 50, 95], axis=1)
        ax.fill_between(layers, low, high, color=colour, alpha=0.25, lw=0)
        ax.plot(layers, middle, color=colour, label=f"{kind}: median, 5-95 %")
        ax.plot(layers, values.max(1), "x", color=colour, label=f"{kind}: largest")
    ax.set(xlabel="layer", ylabel="variance over time\n(activation units squared)")
    ax.set_yscale("log")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_maps(maps, mask, titles, *, title="", n_columns=4):
    """Every map on the MNI template, cut at its peak; (n_networks, n_voxels)."""
    n_rows = -(-len(maps) // n_columns)
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=(3.1 * n_columns, 2.9 * n_rows)
    )
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
    ax = _axes(ax, 7)
    # only the strongest few get a name: more would not be told apart
    named = np.argsort(-np.abs(correlations).max(0))[:8]
    rest = np.setdiff1d(np.arange(correlations.shape[1]), named)
    for k in rest:
        ax.plot(lags, correlations[:, k], color="0.8", lw=1)
    for i, k in enumerate(sorted(named)):
        ax.plot(lags, correlations[:, k], label=names[k], color=COLOURS[i])
    ax.axvline(0, color="0.5", lw=0.8)
    ax.set(
        xlabel="lag of BOLD behind the word rate after the HRF (s)",
        ylabel="correlation with word rate (r)",
    )
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_subjects(values, names, ylabel, ax=None):
    """One dot a subject and the mean, for every network; (n_subjects, n_networks)."""
    ax = _axes(ax)
    x = np.arange(values.shape[1])
    jitter = np.linspace(-0.15, 0.15, len(values))
    for offset, row in zip(jitter, values, strict=True):
        ax.plot(x + offset, row, ".", color="0.6")
    ax.plot(x, values.mean(0), "_", color=COLOURS[3], ms=18, mew=3, label="mean")
    ax.axhline(0, color="0.5", lw=0.8)
    name_ticks(ax, names)
    ax.set_ylabel(ylabel)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_layer_histogram(counts, ax=None):
    """Neurons of every network in every layer; counts (n_networks, n_layers)."""
    ax = _axes(ax, 9, 3.6)
    image = ax.imshow(np.log10(1 + counts), aspect="auto", cmap="viridis")
    ax.set(xlabel="layer", ylabel="model network")
    ax.set_yticks(range(len(counts)))
    bar = ax.figure.colorbar(image, ax=ax, label="neurons")
    ticks = [n for n in (0, 1, 3, 10, 30, 100, 300) if n <= counts.max()]
    bar.set_ticks(np.log10(1 + np.array(ticks)), labels=[str(n) for n in ticks])
    return ax


def plot_synchrony_by_layer(synchrony, layers, threshold, maxima, names, ax=None):
    """Largest |r| in every layer, for every network, against the null.

    ``synchrony`` has shape (n_neurons, n_networks); ``maxima`` is the null distribution
    of the maximum over neurons, of shape (n_permutations, n_networks).
    """
    ax = _axes(ax, 9, 4)
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
    """Encoding score of every region for several models, and the noise ceiling.

    ``scores`` maps a model to an array of shape (n_regions,).
    """
    ax = _axes(ax, 10, 3.6)
    x, width = np.arange(len(names)), 0.8 / len(scores)
    for i, (model, values) in enumerate(scores.items()):
        at = x - 0.4 + (i + 0.5) * width
        ax.bar(
            at,
            values,
            width,
            label=f"{model} ({np.mean(values):.2f})",
            color=COLOURS[i],
        )
    ax.hlines(
        ceiling, x - 0.45, x + 0.45, color="k", label=f"ceiling ({ceiling.mean():.2f})"
    )
    ax.axhline(0, color="0.5", lw=0.8)
    ax.set_xticks(x, names)
    ax.set_ylabel("held-out correlation (r)")
    ax.legend(title="features (mean)", loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_encoding_map(scores, mask, ax=None):
    """A score in every voxel on axial cuts of the MNI template; (n_voxels,)."""
    ax = _axes(ax, 12, 3)
    image = unmask(np.asarray(scores, np.float32), mask)
    top = float(np.percentile(np.abs(scores), 99.5))
    options = {"display_mode": "z", "cut_coords": [-40, -20, 0, 20, 40, 60], "axes": ax}
    display = plotting.plot_stat_map(
        image, **options, vmax=top, threshold=top / 4, colorbar=True, annotate=False
    )
    display.annotate(left_right=False, size=9)
    return ax


def plot_score_distribution(
    scores, ceiling, ax=None, *, label="held-out correlation (r)"
):
    """Spread of scores over voxels for every model, and of the noise ceiling."""
    rows = {**scores, "noise ceiling": ceiling}
    ax = _axes(ax, 9, 0.45 * len(rows) + 1.2)
    ax.boxplot(
        list(rows.values()), orientation="horizontal", whis=(5, 95), sym="", widths=0.6
    )
    labels = [f"{name}  (mean {np.mean(values):.3f})" for name, values in rows.items()]
    ax.set_yticks(range(1, len(rows) + 1), labels)
    ax.axvline(0, color="0.5", lw=0.8)
    ax.set_xlabel(f"{label}: quartiles, 5-95 %")
    return ax
