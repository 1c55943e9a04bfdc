"""Figures of activations: over tokens, and over layers."""

import numpy as np

from anbn.core import style
from anbn.stats import timeseries


def plot_raster(activations, *, n_tokens, n_neurons, ax=None):
    """First tokens x the neurons whose activations vary most in relative terms.

    ``activations`` is a DataArray of shape (n_tokens, n_layers, n_neurons).
    """
    if not activations.size:
        return style.nothing(ax, "tokens or neurons")
    n_tokens = min(n_tokens, len(activations))  # of a very short story
    head = activations[: max(200, n_tokens)].to_numpy().astype(np.float32)
    n = head.shape[2]
    flat = head.reshape(len(head), -1)
    z = timeseries.zscore(flat)
    # one neuron from each of n_neurons stretches of depth, the one of largest variance
    stretches = np.array_split(np.arange(flat.shape[1]), n_neurons)
    rest = flat[1:] if len(flat) > 2 else flat  # the first token stands out
    chosen = [s[rest[:, s].var(0).argmax()] for s in stretches if len(s)]
    ax = style.axes_of(ax, max(5, 0.25 * n_tokens + 3.5), 0.17 * len(chosen) + 2)
    image = ax.imshow(
        z[:n_tokens, chosen].T,
        aspect="auto",
        cmap="RdBu_r",
        vmin=-4,
        vmax=4,
        interpolation="none",
    )
    layers = activations["layer"].to_numpy()
    names = [f"{layers[c // n]}.{c % n}" for c in chosen]
    labels = [t.strip() or "·" for t in activations["text"].to_numpy()[:n_tokens]]
    style.name_columns(ax, labels, "token", size=8, most=20)
    step = -(-len(chosen) // 80)
    ax.set_yticks(range(0, len(chosen), step), names[::step], fontsize=7)
    ax.set_ylabel("neuron (layer.unit)" + f", one in {step} named" * (step > 1))
    ax.figure.colorbar(image, ax=ax, label="activation (s.d.)", extend="both")
    return ax


def plot_layer_variance(variance, layers, ax=None):
    """Spread of the neurons' variance in each layer.

    ``variance`` maps a kind of neuron to an array of shape (n_layers, n_neurons).
    """
    if not any(values.size for values in variance.values()):
        return style.nothing(ax, "neurons")
    ax = style.axes_of(ax)
    for colour, (kind, values) in zip(style.COLOURS, variance.items(), strict=False):
        low, middle, high = np.nanpercentile(values, [5, 50, 95], axis=1)
        ax.fill_between(layers, low, high, color=colour, alpha=0.25, lw=0)
        ax.plot(layers, middle, ".-", color=colour, label=f"{kind}: median, 5-95 %")
        largest = np.nanmax(values, axis=1)
        ax.plot(layers, largest, "x", color=colour, label=f"{kind}: largest")
    ax.set(xlabel="layer", ylabel="variance over time\n(activation units squared)")
    ax.set_yscale("log")
    style.whole_numbers(ax.xaxis)
    style.legend_beside(ax)
    return ax
