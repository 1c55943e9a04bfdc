"""What the neurons that follow a brain network answer to, word by word.

Liu et al. 2023 (arXiv 2303.14871) ask which words drive coupled neurons; to compare
them with uncoupled neurons (``effects``) is ours. No tagger of parts of speech is
installed: content or function word (``linguistics``) stands for it.
"""

import numpy as np
import pandas as pd
import scipy.sparse
import xarray as xr

from anbn import blocks, hemodynamics, profiles

FEATURES = ("length", "log_frequency", "content", "position", "surprisal", "entropy")
N_ROWS = 4096  # tokens of a layer read at a time


def _averages(tokens, n_words):
    """Matrix (n_words x n_tokens) of means over a word's tokens; words that have one.

    The first token of a text is left out: models park massive activations there.
    """
    word = tokens["word"].to_numpy(int)
    first = np.arange(len(word)) == 0
    if "document" in tokens:
        first = ~tokens["document"].duplicated().to_numpy()
    kept = np.flatnonzero((word >= 0) & ~first)
    if len(kept) and word[kept].max() >= n_words:
        raise ValueError(
            f"tokens belong to words up to row {word[kept].max()}, but there are "
            f"{n_words} words: give the words the tokens were made with"
        )
    counts = np.bincount(word[kept], minlength=n_words)
    share = (1 / counts[word[kept]]).astype(np.float32)
    places = (word[kept], kept)
    return scipy.sparse.csc_array((share, places), (n_words, len(word))), counts > 0


def _by_layer(activations, tokens, n_words, layers):
    """Yields layer, means (n_known words, n_units), known words (n_words,)."""
    if len(tokens) != len(activations):
        raise ValueError(
            f"{len(tokens)} tokens, but activations of {len(activations)}: give the "
            "tokens of the same store (stores.read_tokens)"
        )
    matrix, known = _averages(tokens, n_words)
    for layer in layers:
        means = np.zeros((n_words, activations.shape[2]), np.float32)
        for rows, block in blocks.blocks(activations[:, layer], N_ROWS):
            means += matrix[:, rows] @ block.astype(np.float32)
        yield layer, means[known], known


def word_responses(activations, tokens, words, neurons):
    """Mean activation of chosen neurons over each word's tokens.

    Parameters
    ----------
    activations : DataArray of shape (n_tokens, n_layers, n_units)
        From ``stores.open_activations``; read layer by layer.
    tokens : DataFrame of n_tokens rows
        Column ``word``: row of ``words``, -1 for none.
    words : DataFrame of n_words rows
    neurons : int array of shape (n_chosen,)
        layer * n_units + unit.

    Returns
    -------
    responses : float32 array of shape (n_words, n_chosen)
        NaN for a word without a token other than the first one of a text.
    """
    layer, unit = np.divmod(np.asarray(neurons, int), activations.shape[2])
    responses = np.full((len(words), len(layer)), np.nan, np.float32)
    used = np.unique(layer)
    for one, means, known in _by_layer(activations, tokens, len(words), used):
        here = layer == one
        responses[np.ix_(known, here)] = means[:, unit[here]]
    return responses


def feature_correlations(activations, tokens, words, features=FEATURES):
    """Correlation of every neuron with features of the words, over words.

    Parameters
    ----------
    activations, tokens
        As in ``word_responses``.
    words : DataFrame of n_words rows
        With the features (stage 01's ``words.parquet``); NaN leaves a word out.
    features : sequence of str

    Returns
    -------
    correlations : float32 DataArray of shape (n_features, n_layers, n_units)
        Pearson r; coordinate ``feature``. 0 for a constant neuron; NaN for a feature
        known for less than three words, or the same for all.
    """
    features, values = list(features), _values(words, features)
    _, n_layers, n_units = activations.shape
    r = np.full((len(features), n_layers, n_units), np.nan, np.float32)
    every = range(n_layers)
    for layer, means, known in _by_layer(activations, tokens, len(words), every):
        for i, column in enumerate(values[known].T):
            there = np.isfinite(column)
            if there.sum() < 3 or np.ptp(column[there]) == 0:
                continue
            z = hemodynamics.zscore(column[there]).astype(np.float32)
            r[i, layer] = z @ hemodynamics.zscore(means[there]) / np.float32(len(z))
    return xr.DataArray(r, {"feature": features}, ("feature", "layer", "neuron"))


def shifted_correlations(
    activations, tokens, words, features=FEATURES, *, n_shifts, rng
):
    """The same, with the features moved along the story: what chance correlation is.

    All features are rolled over the words in a circle, together, by a random number of
    words: words and neurons keep what makes neighbours alike.

    Parameters
    ----------
    activations, tokens, words, features
        As in ``feature_correlations``; here a feature that is NaN counts as its mean.
    n_shifts : int
        Takes n_shifts * n_features * n_neurons * 2 bytes.
    rng : numpy Generator

    Returns
    -------
    correlations : float16 array of shape (n_shifts, n_features, n_layers, n_units)
    """
    features, values = list(features), _values(words, features)
    values = np.nan_to_num(values - pd.DataFrame(values).mean().to_numpy())
    shifts = rng.integers(1, len(values), n_shifts)
    rolled = np.concatenate([np.roll(values, n, axis=0) for n in shifts], axis=1)
    _, n_layers, n_units = activations.shape
    r = np.empty((n_shifts, len(features), n_layers, n_units), np.float16)
    every = range(n_layers)
    for layer, means, known in _by_layer(activations, tokens, len(words), every):
        z = hemodynamics.zscore(rolled[known]).astype(np.float32)
        here = z.T @ hemodynamics.zscore(means) / np.float32(len(z))
        r[:, :, layer] = here.reshape(n_shifts, len(features), n_units)
    return r


def _values(words, features):
    absent = [name for name in features if name not in words]
    if absent:
        raise ValueError(f"words lack the features {absent}; found {list(words)}")
    return words[list(features)].to_numpy(float)


def top_words(
    activations, tokens, words, coupled, synchrony, *, n=10, min_count=3, names=None
):
    """Words that drive the coupled neurons of each network most.

    Every neuron is standardised over words and has the sign of its synchrony; the
    response to a word is the mean over neurons, and over occurrences of the word.

    Parameters
    ----------
    activations, tokens, words
        As in ``word_responses``; column ``word``.
    coupled, synchrony, names
        As in ``effects.feature_effects``.
    n, min_count
        See ``profiles.top_tokens``.

    Returns
    -------
    top : DataFrame
        ``network``, ``rank``, ``text``, ``response``, ``count``; none for networks
        without coupled neurons.
    """
    coupled = np.asarray(coupled, bool)
    signs = np.sign(synchrony).T.reshape(coupled.shape)
    used = np.flatnonzero(coupled.any((1, 2)))
    layers = np.flatnonzero(coupled.any((0, 2)))
    _, known = _averages(tokens, len(words))
    signals = np.zeros((known.sum(), len(used)))
    for layer, means, _ in _by_layer(activations, tokens, len(words), layers):
        weights = (coupled[used, layer] * signs[used, layer]).T
        signals += hemodynamics.zscore(means) @ weights
    signals /= coupled[used].sum((1, 2))
    options = {"n": n, "min_count": min_count, "column": "word"}
    top = profiles.top_tokens(signals, words[known], **options)
    label = used if names is None else np.array(names, object)[used]
    return top.assign(network=label[top["network"].to_numpy(int)])
