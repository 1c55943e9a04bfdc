"""Do the neurons coupled to a network answer to a feature more than other neurons?"""

import numpy as np
import pandas as pd
from scipy import stats

from anbn import inference, matching
from anbn.anchors import strongest

N_DRAWS = 250  # permutations of a layer's labels held at a time


def feature_effects(
    correlations,
    coupled,
    synchrony=None,
    *,
    rng,
    n_permutations=1000,
    null_synchrony=(),
    null_correlations=(),
    names=None,
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
        From ``meaning.feature_correlations``.
    coupled : bool array of shape (n_networks, n_layers, n_units)
    synchrony : array of shape (n_neurons, n_networks), optional
        With it, a neuron's r has the sign of its synchrony: d > 0 where the network is
        high when the feature is. Without, ``|r|`` is compared.
    rng : numpy Generator
    n_permutations : int
    null_synchrony : iterable of arrays of the shape of ``synchrony``
        From ``anchors.surrogate_synchrony``.
    null_correlations : array of shape (n_shifts, n_features, n_layers, n_units)
        From ``meaning.shifted_correlations``.
    names : list of str, optional

    Returns
    -------
    effects : DataFrame, a row a network and feature
        ``network``, ``feature``, ``n_coupled``, ``coupled`` and ``uncoupled`` (weighted
        mean r), ``d``, ``p`` (two-sided) and ``q`` (Benjamini-Hochberg over all rows),
        and ``p_*``, ``q_*`` and ``familywise_*`` of the nulls that were given. NaN for
        a network without coupled neurons.
    """
    r, coupled = correlations.to_numpy(), np.asarray(coupled, bool)
    if coupled.shape[1:] != r.shape[1:]:
        raise ValueError(
            f"coupled must be (n_networks, {r.shape[1]} layers, {r.shape[2]} units) "
            f"like the correlations, found {coupled.shape}"
        )
    r, signs = np.abs(r) if synchrony is None else r, _signs(synchrony, coupled.shape)
    inside, outside, spread = _contrasts(r, signs, coupled)
    difference = inside - outside
    index = range(len(coupled)) if names is None else names
    pairs = [(k, f) for k in index for f in correlations["feature"].to_numpy()]
    table = pd.DataFrame(pairs, columns=["network", "feature"]).assign(
        n_coupled=np.repeat(coupled.sum((1, 2)), len(r)),
        coupled=inside.ravel(),
        uncoupled=outside.ravel(),
        d=(difference / spread).ravel(),
    )
    _add_p(table, "", difference, _dealt(r, signs, coupled, rng, n_permutations))
    null, shifted = [], []
    for drawn in null_synchrony:
        sign = signs if synchrony is None else _signs(drawn, coupled.shape)
        a, b, sd = _contrasts(r, sign, _as_many(drawn, coupled))
        null.append((a - b) / sd)
    for drawn in null_correlations:
        drawn = drawn.astype(np.float32)
        drawn = np.abs(drawn) if synchrony is None else drawn
        a, b, sd = _contrasts(drawn, signs, coupled)
        shifted.append((a - b) / sd)
    for name, draws in (("_surrogate", null), ("_shift", shifted)):
        if draws:
            _add_p(table, name, difference / spread, draws)
            p = inference.two_sided_max_p(difference / spread, draws)
            table[f"familywise{name}"] = p.ravel()
    return table


def _signs(synchrony, shape):
    """Signs of neurons for each network, of the shape of ``coupled``."""
    if synchrony is None:
        return np.broadcast_to(np.int8(1), shape)
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
    inside, outside, variance = np.moveaxis(found, 1, 0)
    return inside, outside, np.sqrt(variance)


def _dealt(r, signs, coupled, rng, n_permutations):
    """Differences with labels dealt anew; (n_permutations, n_networks, n_features)."""
    n_units = coupled.shape[2]
    counts, weights = map(np.stack, zip(*map(_weights, coupled), strict=True))
    null = np.zeros((n_permutations, len(coupled), len(r)))
    for layer, n in enumerate(counts.T):
        used = np.flatnonzero((n > 0) & (n < n_units))
        for begin in range(0, n_permutations if len(used) else 0, N_DRAWS):
            rows = slice(begin, min(begin + N_DRAWS, n_permutations))
            # one order for all networks: the first n of it are coupled
            order = rng.random((rows.stop - begin, n_units)).argsort(1)
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
    best = strongest(synchrony, max(1, n.max()))
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
