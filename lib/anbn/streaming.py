"""Responses on the BOLD clock, from activations that come block by block."""

import numpy as np
import scipy.sparse
import torch

from anbn import forward, neurons, recording
from anbn.blocks import blocks

STRETCH = 256  # tokens; a stretch of story reaches only a stretch of the scan


class Responses:
    """Activations on the BOLD clock, summed up as tokens come: ``H @ activations``."""

    def __init__(self, H, n_layers, n_neurons):
        self.H = scipy.sparse.csc_array(H, dtype=np.float32)
        self.total = torch.zeros(H.shape[0], n_layers * n_neurons)
        self.memory = torch.empty(0)  # for a layer in float32, used again

    def add(self, rows, values):
        """Add tokens of shape (n, n_layers, n_neurons)."""
        n, _, n_neurons = values.shape
        weights = []
        for begin in range(0, n, STRETCH):
            tokens = slice(begin, min(begin + STRETCH, n))
            part = self.H[:, rows.start + tokens.start : rows.start + tokens.stop]
            if part.nnz:
                times = slice(part.indices.min(), part.indices.max() + 1)
                weights.append((times, torch.from_numpy(part[times].toarray()), tokens))
        if len(self.memory) < n:
            self.memory = torch.empty(n, n_neurons)
        layer = self.memory[:n]
        # a layer at a time stays in the processor's cache
        for i, total in enumerate(self.total.split(n_neurons, 1)):
            layer.copy_(values[:, i])
            for times, weight, tokens in weights:
                total[times].addmm_(weight, layer[tokens])

    def numpy(self):
        """float32 array of shape (n_times, n_layers * n_neurons)."""
        return self.total.numpy()


def responses(activations, H):
    """Activations on the BOLD clock, streamed through the alignment matrix.

    ::

        responses = H @ activations

    The next block is read while one is multiplied.

    Parameters
    ----------
    activations : DataArray of shape (n_tokens, n_layers, n_neurons)
    H : sparse array of shape (n_times, n_tokens)
        From ``hemodynamics.alignment_matrix``.

    Returns
    -------
    responses : float32 array of shape (n_times, n_layers * n_neurons)
    """
    n_tokens = len(activations)
    if H.shape[1] != n_tokens:
        raise ValueError(f"H has {H.shape[1]} tokens, the activations have {n_tokens}")
    total = Responses(H, *activations.shape[1:])
    for rows, block in blocks(activations):
        total.add(rows, torch.from_numpy(block))
    return total.numpy()


def stream_responses(language_model, tokens, H, *, kinds, **options):
    """Responses without a store: each window's activations go straight through ``H``.

    Parameters
    ----------
    language_model : LanguageModel
    tokens : DataFrame
    H : sparse array of shape (n_times, n_tokens)
    kinds : list of str
    **options
        See ``forward.forward_windows``.

    Returns
    -------
    responses : dict of str to float32 array of shape (n_times, n_layers * n_neurons)

    Raises
    ------
    OverflowError
        If an activation is not finite.
    """
    totals = {
        kind: Responses(H, *neurons.count_neurons(language_model.model, kind))
        for kind in kinds
    }
    for recorded in forward.forward_windows(
        language_model, tokens, kinds=kinds, **options
    ):
        recording.check_finite(recorded, "float32", language_model.model, tokens)
        for kind, values in recorded.activations.items():
            totals[kind].add(recorded.rows, values.transpose(0, 1))
    return {kind: total.numpy() for kind, total in totals.items()}
