"""What the neurons that follow a brain network answer to, word by word.

Liu et al. 2023 (arXiv 2303.14871) ask which words drive coupled neurons; to compare
them with uncoupled neurons of their layers is this project's. No tagger of parts of
speech is installed: content or function word (``linguistics``) stands for it.
"""

import numpy as np
import pandas as pd
import scipy.sparse
import xarray as xr
from scipy import stats

from anbn.core import blocks
from anbn.core.generators import rng_of
from anbn.coupling.anchors import strongest_neurons
from anbn.networks import profiles
from anbn.stats import inference, matching, timeseries

FEATURES = ("length", "log_frequency", "content", "position", "surprisal", "entropy")
N_ROWS = 4096  # tokens of a layer read at a time
N_DRAWS = 250  # permutations of a layer's labels held at a time


def _averages(tokens, n_words):
    """Matrix (n_words x n_tokens) of means over a word's tokens; words that have one.

    The first token of a text is left out: models park massive activations there.
    """
    word = tokens["word"].to_numpy(int)
    first = np.arange(len(word)) == 0
    if "document" in tokens:
        first = ~tokens["document"].duplicated().to_numpy()
    kept = np.flatnonzero((word >= 0) & ~first)
    counts = np.bincount(word[kept], minlength=n_words)
    share = (1 / counts[word[kept]]).astype(np.float32)
    places = (word[kept], kept)
    return scipy.sparse.csc_array((share, places), (n_words, len(word))), counts > 0


def _by_layer(activations, tokens, n_words, layers):
    """Yields layer, means (n_known words, n_units), known words (n_words,)."""
    if len(tokens) != len(activations):
        raise ValueError(f"{len(tokens)} tokens, but activations of {len(activations)}")
    matrix, known = _averages(tokens, n_words)
    for layer in layers:
        means = np.zeros((n_words, activations.shape[2]), np.float32)
        for rows, block in blocks.walk(activations[:, layer], N_ROWS):
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


def feature_correlations(activations, tokens, words, features):
    """Correlation of every neuron with features of the words, over words.

    Parameters
    ----------
    activations, tokens
        As in ``word_responses``.
    words : DataFrame of n_words rows
        With the features (stage 01's ``words.parquet``); NaN leaves a word out.
    features : list of str

    Returns
    -------
    correlations : float32 DataArray of shape (n_features, n_layers, n_units)
        Pearson r; coordinate ``feature``. 0 for a constant neuron; NaN for a feature
        known for less than three words, or the same for all.
    """
    values, (_, n_layers, n_units) = words[features].to_numpy(float), activations.shape
    r = np.full((len(features), n_layers, n_units), np.nan, np.float32)
    every = range(n_layers)
    for layer, means, known in _by_layer(activations, tokens, len(words), every):
        for i, column in enumerate(values[known].T):
            there = np.isfinite(column)
            if there.sum() < 3 or np.ptp(column[there]) == 0:
                continue
            z = timeseries.zscore(column[there]).astype(np.float32)
            r[i, layer] = z @ timeseries.zscore(means[there]) / np.float32(len(z))
    return xr.DataArray(r, {"feature": features}, ("feature", "layer", "neuron"))


def shifted_correlations(activations, tokens, words, features, *, n_draws, rng):
    """The same, with the features moved along the story: what chance correlation is.

    All features are rolled over the words in a circle, together, by a random number of
    words: words and neurons keep what makes neighbours alike.

    Parameters
    ----------
    activations, tokens, words, features
        As in ``feature_correlations``; here a feature that is NaN counts as its mean.
    n_draws : int
        Takes n_draws * n_features * n_neurons * 2 bytes.
    rng : numpy Generator

    Returns
    -------
    correlations : float16 array of shape (n_draws, n_features, n_layers, n_units)
    """
    values = words[features].to_numpy(float)
    values = np.nan_to_num(values - pd.DataFrame(values).mean().to_numpy())
    shifts = rng.integers(1, len(values), n_draws)
    rolled = np.concatenate([np.roll(values, n, axis=0) for n in shifts], axis=1)
    _, n_layers, n_units = activations.shape
    r = np.empty((n_draws, len(features), n_layers, n_units), np.float16)
    every = range(n_layers)
    for layer, means, known in _by_layer(activations, tokens, len(words), every):
        z = timeseries.zscore(rolled[known]).astype(np.float32)
        here = z.T @ timeseries.zscore(means) / np.float32(len(z))
        r[:, :, layer] = here.reshape(n_draws, len(features), n_units)
    return r


def top_words(activations, tokens, words, coupled, synchrony, *, n=10, names):
    """Words that drive the coupled neurons of each network most.

    Every neuron is standardised over words and has the sign of its synchrony; the
    response to a word is the mean over neurons, and over occurrences of the word.

    Parameters
    ----------
    activations, tokens, words
        As in ``word_responses``; column ``word``.
    coupled, synchrony, names
        As in ``feature_effects``.
    n : int
        See ``profiles.top_tokens``.

    Returns
    -------
    top : DataFrame
        ``network``, ``rank``, ``text``, ``response``, ``count``; none for networks
        without coupled neurons.
    """
    signs = np.sign(synchrony).T.reshape(coupled.shape)
    used = np.flatnonzero(coupled.any((1, 2)))
    layers = np.flatnonzero(coupled.any((0, 2)))
    _, known = _averages(tokens, len(words))
    signals = np.zeros((known.sum(), len(used)))
    for layer, means, _ in _by_layer(activations, tokens, len(words), layers):
        weights = (coupled[used, layer] * signs[used, layer]).T
        signals += timeseries.zscore(means) @ weights
    signals /= coupled[used].sum((1, 2))
    top = profiles.top_tokens(signals, words[known], n=n, column="word")
    label = np.array(names, object)[used]
    return top.assign(network=label[top["network"].to_numpy(int)])


def feature_effects(
    correlations,
    coupled,
    synchrony,
    *,
    rng,
    n_draws=1000,
    null_synchrony,
    null_correlations,
    names,
):
    """Do coupled neurons answer to a feature more than uncoupled ones of their layers?

    With w_l the share of a network's coupled neurons in layer l, and s_l the pooled
    standard deviation within the two groups of the layer (layers that hold only one of
    the groups are left out)::

        d = sum_l w_l (coupled_l - uncoupled_l) / sqrt(sum_l w_l s_l^2)

    Three nulls, each for a question of its own:

    - ``p`` deals the coupled labels anew within layers. It takes neurons of a layer for
      independent of each other, which they are not: those that follow the same time
      course resemble each other, and p is far too small. A description, no test.
    - ``p_surrogate`` takes as many neurons that follow a surrogate of the network best,
      which resemble each other alike: is it *this* network whose neurons answer to the
      feature? It takes the network for noise: neurons that follow a network for another
      reason pass it by the chance correlation of that reason with the feature.
    - ``p_shift`` moves the features along the story: is it *this* feature? It takes the
      coupled neurons as given, also where they are coupled by chance.

    So an effect counts where both of the latter are small. No p is below 2 / (1 +
    draws), and a q of .05 over many rows would take thousands of them: ``familywise_*``
    is corrected over the rows by the largest of each draw, and reaches 1 / (1 + draws).

    Parameters
    ----------
    correlations : DataArray of shape (n_features, n_layers, n_units)
        From ``feature_correlations``.
    coupled : bool array of shape (n_networks, n_layers, n_units)
    synchrony : array of shape (n_neurons, n_networks)
        A neuron's r has the sign of its synchrony: d > 0 where the network is high when
        the feature is.
    rng : numpy Generator
    n_draws : int
        Of labels dealt anew.
    null_synchrony : iterable of arrays of the shape of ``synchrony``
        From ``anchors.surrogate_synchrony``.
    null_correlations : array of shape (n_draws, n_features, n_layers, n_units)
        From ``shifted_correlations``.
    names : list of str

    Returns
    -------
    effects : DataFrame, a row a network and feature
        ``network``, ``feature``, ``n_coupled``, ``coupled`` and ``uncoupled`` (weighted
        mean r), ``d``, ``p`` (two-sided) and ``q`` (Benjamini-Hochberg over all rows),
        and ``p_*``, ``q_*`` and ``familywise_*`` of the other nulls. NaN for a network
        without coupled neurons.
    """
    r, signs = correlations.to_numpy(), _signs(synchrony, coupled.shape)
    inside, outside, spread = _contrasts(r, signs, coupled)
    difference = inside - outside
    pairs = [(k, f) for k in names for f in correlations["feature"].to_numpy()]
    table = pd.DataFrame(pairs, columns=["network", "feature"]).assign(
        n_coupled=np.repeat(coupled.sum((1, 2)), len(r)),
        coupled=inside.ravel(),
        uncoupled=outside.ravel(),
        d=(difference / spread).ravel(),
    )
    _add_p(table, "", difference, _dealt(r, signs, coupled, rng, n_draws))

    def effect(r, signs, members):
        inside, outside, spread = _contrasts(r, signs, members)
        return (inside - outside) / spread

    surrogate, shifted = [], []
    for drawn in null_synchrony:
        sign = _signs(drawn, coupled.shape)
        surrogate.append(effect(r, sign, _as_many(drawn, coupled)))
    for drawn in null_correlations:
        shifted.append(effect(drawn.astype(np.float32), signs, coupled))
    for name, draws in (("_surrogate", surrogate), ("_shift", shifted)):
        _add_p(table, name, difference / spread, draws)
        p = inference.two_sided_max_p(difference / spread, draws)
        table[f"familywise{name}"] = p.ravel()
    return table


def _signs(synchrony, shape):
    """Signs of neurons for each network, of the shape of ``coupled``."""
    return np.sign(synchrony).astype(np.int8).T.reshape(shape)


def _weights(member):
    """Neurons of each layer that are members, and the layers' weights."""
    n = member.sum(1)
    both = n * (n < member.shape[1])
    return n, both / both.sum() if both.any() else np.full(len(n), np.nan)


def _contrasts(r, signs, members):
    """Means of members and of others, and s.d.; (3, n_networks, n_features)."""
    found = []
    for sign, member in zip(signs, members, strict=True):
        n, weights = _weights(member)
        rest, x = member.shape[1] - n, r * sign
        sums = np.einsum("flu,lu->fl", x, member.astype(np.float32))
        inside = sums / np.maximum(n, 1)
        outside = (x.sum(2) - sums) / np.maximum(rest, 1)
        squares = np.square(x).sum(2) - n * inside**2 - rest * outside**2
        variance = np.maximum(squares, 0) / max(member.shape[1] - 2, 1)
        found.append(np.stack([inside, outside, variance]) @ weights)
    found = np.reshape(found, (len(members), 3, len(r)))
    inside, outside, variance = np.moveaxis(found, 1, 0)
    return inside, outside, np.sqrt(variance)


def _dealt(r, signs, coupled, rng, n_draws):
    """Differences with labels dealt anew; (n_draws, n_networks, n_features)."""
    n_units = coupled.shape[2]
    pairs = [_weights(member) for member in coupled]
    counts, weights = (
        np.reshape([pair[i] for pair in pairs], coupled.shape[:2]) for i in (0, 1)
    )
    null, seed = np.zeros((n_draws, len(coupled), len(r))), int(rng.integers(2**63))
    for layer, n in enumerate(counts.T):
        of_layer = rng_of(seed, f"layer {layer}")
        used = np.flatnonzero((n > 0) & (n < n_units))
        for begin in range(0, n_draws if len(used) else 0, N_DRAWS):
            rows = slice(begin, min(begin + N_DRAWS, n_draws))
            # one order for all networks: the first n of it are coupled
            order = of_layer.random((rows.stop - begin, n_units)).argsort(1)
            for k in used:
                x = r[:, layer] * signs[k, layer]
                inside = x[:, order[:, : n[k]]].sum(2)
                rest = (x.sum(1)[:, None] - inside) / (n_units - n[k])
                null[rows, k] += weights[k, layer] * (inside / n[k] - rest).T
    return null


def _as_many(synchrony, coupled):
    """The neurons of largest |synchrony|, of each network as many as are coupled."""
    n = coupled.sum((1, 2))
    members = np.zeros((len(coupled), len(synchrony)), bool)
    best = strongest_neurons(synchrony, max(1, n.max(initial=0)))
    for member, neurons, some in zip(members, best.T, n, strict=True):
        member[neurons[:some]] = True
    return members.reshape(coupled.shape)


def _add_p(table, suffix, observed, null):
    """Two-sided p and its q, over what was tested."""
    tails = [matching.p_values(s * observed, s * np.asarray(null)) for s in (1, -1)]
    p = np.minimum(1, 2 * np.minimum(*tails)).ravel()
    tested, q = np.isfinite(p), np.full(len(p), np.nan)
    if tested.any():
        q[tested] = stats.false_discovery_control(p[tested])
    table[f"p{suffix}"], table[f"q{suffix}"] = p, q
