"""What needs all tokens, block by block: responses on the BOLD clock, statistics."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.sparse
import torch

from anbn import forward, neurons, stores

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
    for rows, block in _blocks(activations):
        total.add(rows, torch.from_numpy(block))
    return total.numpy()


def _blocks(activations):
    """Token blocks (rows, array), each read while the one before is worked on."""

    def read(begin):
        rows = slice(begin, min(begin + stores.TOKEN_BLOCK, len(activations)))
        return rows, activations[rows].to_numpy()

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, 0)
        for begin in range(
            stores.TOKEN_BLOCK,
            len(activations) + stores.TOKEN_BLOCK,
            stores.TOKEN_BLOCK,
        ):
            block = coming.result()
            if begin < len(activations):
                coming = reader.submit(read, begin)
            yield block


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
    """
    totals = {
        kind: Responses(H, *neurons.count_neurons(language_model.model, kind))
        for kind in kinds
    }
    for recorded in forward.forward_windows(
        language_model, tokens, kinds=kinds, **options
    ):
        for kind, values in recorded.activations.items():
            totals[kind].add(recorded.rows, values.transpose(0, 1))
    return {kind: total.numpy() for kind, total in totals.items()}


def statistics(activations):
    """Mean and variance of every neuron over tokens, streamed.

    Returns
    -------
    mean, variance : float64 arrays of shape (n_layers, n_neurons)
    """
    n, mean, squares = 0, 0.0, 0.0
    for _, block in _blocks(activations):
        block = block.astype(np.float64)
        # Chan et al. 1979: merge the block's moments into those so far
        m, delta = n + len(block), block.mean(0) - mean
        squares = squares + ((block - block.mean(0)) ** 2).sum(0)
        squares = squares + delta**2 * n * len(block) / m
        mean, n = mean + delta * len(block) / m, m
    return mean, squares / n
