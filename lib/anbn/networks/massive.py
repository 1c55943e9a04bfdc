"""Massive activations: the few neurons whose values drown all others."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from anbn.core.blocks import moments, walk
from anbn.networks import profiles

N_TYPICAL = 256  # tokens that a layer's median is taken from


@dataclass(frozen=True)
class Peaks:
    """Largest and typical activations of a model."""

    peak: np.ndarray  # (n_layers, n_neurons), largest |activation|
    token: np.ndarray  # (n_layers, n_neurons), row of the token where it is
    typical: np.ndarray  # (n_layers,), median |activation|
    variance: np.ndarray  # (n_layers, n_neurons), over tokens


def streaming_peaks(activations):
    """Largest |activation| and variance of every neuron, in two passes over a store.

    Parameters
    ----------
    activations : array or DataArray of shape (n_tokens, n_layers, n_neurons)

    Returns
    -------
    peaks : Peaks
        The median of each layer is over all its neurons at 256 tokens, evenly spaced
        (all of fewer).

    Raises
    ------
    ValueError
        If a value is NaN or infinite.
    """
    n_tokens, shape = len(activations), activations.shape[1:]
    peak, token = np.full(shape, -1.0, np.float32), np.zeros(shape, int)
    some = np.unique(np.linspace(0, n_tokens - 1, N_TYPICAL).round().astype(int))
    variance, kept = moments(activations)[1].reshape(shape), []
    for rows, block in walk(activations):
        values = np.abs(block)
        where = values.argmax(0)
        largest = np.take_along_axis(values, where[None], 0)[0].astype(np.float32)
        token = np.where(largest > peak, rows.start + where, token)
        peak = np.maximum(peak, largest)
        inside = some[(some >= rows.start) & (some < rows.stop)] - rows.start
        kept.append(values[inside].astype(np.float32))
    typical = np.median(np.concatenate(kept), axis=(0, 2))
    return Peaks(peak, token, typical, variance)


def massive_neurons(
    peak, typical, variance, *, ratio=1000.0, least=100.0, variance_ratio=1000.0
):
    """Neurons with massive activations, and those whose variance drowns the others.

    ::

        peak > least  and  peak > ratio * typical
        or  variance > variance_ratio * median variance of all neurons that vary

    The first line is the criterion of Sun et al. 2024 (arXiv 2402.17762, section 2), a
    magnitude above 100 and about 1,000 times the median of its hidden state; theirs is
    for the residual stream of single tokens. A decomposition by variance is drowned by
    other neurons, too: those of a last layer in which all is large. Hence the second
    line.

    Parameters
    ----------
    peak : array of shape (n_layers, n_neurons)
        Largest |activation|, see ``streaming_peaks``.
    typical : array of shape (n_layers,)
    variance : array of shape (n_layers, n_neurons)
    ratio, least, variance_ratio : float

    Returns
    -------
    massive : bool array of shape (n_layers, n_neurons)
    """
    usual = np.median(variance[variance > 0]) if variance.any() else 0.0
    massive = (peak > least) & (peak > ratio * typical[:, None])
    return massive | (variance > variance_ratio * usual)


def describe_massive(peaks, massive, tokens):
    """A row for each massive neuron, that of most variance first.

    Parameters
    ----------
    peaks : Peaks
    massive : bool array of shape (n_layers, n_neurons)
    tokens : DataFrame
        Column ``token``: what the model read where the neuron peaks.

    Returns
    -------
    table : DataFrame
        ``layer``, ``neuron``, ``peak``, ``ratio`` (to its layer's median), ``share``
        (of all variance), ``at`` (row of the token), and ``token``.
    """
    layer, neuron = np.nonzero(massive)
    peak, at = peaks.peak[massive], peaks.token[massive]
    table = pd.DataFrame({"layer": layer, "neuron": neuron, "peak": peak}).assign(
        ratio=peak / peaks.typical[layer],
        share=peaks.variance[massive] / peaks.variance.sum(),
        at=at,
        token=[profiles.visible(text) for text in tokens["token"].iloc[at]],
    )
    return table.sort_values("share", ascending=False, ignore_index=True, kind="stable")
