"""Which networks come back in other documents or people, and how many to ask for."""

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pandas as pd
from tqdm import tqdm

from anbn.networks import parts
from anbn.stats import matching

FEWEST = 4  # parts from which two halves can be compared: two each
MOST_PARTS = 256  # beyond it documents are dealt into so many groups of whole ones
ROWS = 1280  # directions of all parts together, about
N_INDEX = 3  # null data sets that are drawn from, too
BEYOND = 3  # standard deviations


@dataclass(frozen=True)
class Stability:
    """How alike networks come back, and how alike where nothing is shared.

    ``index``: draws of documents or people with replacement. ``halves``: two halves
    without a document or person in common. Both are a mean of |r| over pairs of fits,
    in each of which everything was redone.
    """

    index: np.ndarray  # (n_networks,), NaN where it was not computed
    halves: np.ndarray  # (n_networks,)
    null_index: np.ndarray = field(default_factory=lambda: np.empty(0))
    null_halves: np.ndarray = field(default_factory=lambda: np.empty(0))
    reason: str = ""  # why it cannot be judged which networks are stable

    @property
    def limit(self):
        """Agreement of halves that a stable network is beyond; infinite if unknown.

        The largest of any network of any null data set, or, as there are few of these,
        three standard deviations beyond the mean of their largest, whichever is more.
        Of null data sets alone, one in ``n_null_sets + 1`` would pass.
        """
        if self.reason or len(self.null_halves) < 2:
            return np.inf
        most = self.null_halves
        return float(max(most.max(), most.mean() + BEYOND * most.std(ddof=1)))

    @property
    def index_limit(self):
        """Agreement of draws that a stable network is beyond; infinite if unknown.

        The mean of the largest of the null data sets: single ones reach 1 where one
        document happens to be in all draws.
        """
        if self.reason or not len(self.null_index):
            return np.inf
        return float(self.null_index.mean())

    @property
    def stable(self):
        """Whether halves and draws agree on each network beyond any that is unshared.

        Halves alone would do for networks that are shared but not told apart, and for
        two documents that are alike by chance; draws alone for one loud document.
        """
        return (self.halves > self.limit) & (self.index > self.index_limit)

    def of(self, kept):
        """The same for some of the networks."""
        return replace(self, index=self.index[kept], halves=self.halves[kept])

    def describe(self, asked):
        """In words, how many networks are stable, of how many asked for."""
        if self.reason:
            found = f"{len(self.halves)} of {asked} networks asked for"
            return f"{found}; stability cannot be judged: {self.reason}"
        fewer = len(self.halves) < asked
        back = f" ({len(self.halves)} came back)" * fewer
        n, alone = int(self.stable.sum()), int((self.halves > self.limit).sum())
        return (
            f"{n} of {asked} networks asked for are stable{back}; halves alone agree "
            f"beyond their limit on {alone}"
        )


def refit_agreement(networks, pairs):
    """How alike each network comes back in pairs of other fits.

    The networks of every fit are assigned to ``networks`` one to one; then::

        agreement_k = mean over pairs (a, b) of |r(a_k, b_k)|

    where a network without a partner counts 0. The partners of one network are compared
    with each other and never with it: it has seen the data of both.

    Parameters
    ----------
    networks : array of shape (n_networks, n_units)
    pairs : sequence of pairs of arrays of shape (n_found, n_units)

    Returns
    -------
    agreement : array of shape (n_networks,)
    """
    total = np.zeros(len(networks))
    for a, b in pairs:
        one, other = (_partners(networks, maps) for maps in (a, b))
        both = (one >= 0) & (other >= 0)
        if both.any():
            r = matching.correlate(a[one[both]], b[other[both]])
            total[both] += np.abs(np.diag(r))
    return total / len(pairs)


def _partners(networks, maps):
    if not len(maps):
        return np.full(len(networks), -1)
    return matching.match(np.abs(matching.correlate(networks, maps)))


def judge(
    networks,
    data,
    whose,
    fit,
    *,
    mask,
    keep,
    standardise,
    n_rows,
    n_bootstrap,
    n_halves,
    n_null_sets,
    seed,
):
    """Which networks come back when documents, people or runs are drawn.

    Each document (person, run) is reduced once to its leading directions
    (``parts.reduce_each``); on every draw and half of them units are centred and
    scaled, the data reduced and decomposed anew. Where nothing is shared, each has its
    own permutation of units within layers; voxels of a mask have random maps of the
    same smoothness instead, which permuted ones would not have.

    Parameters
    ----------
    networks : array of shape (n_networks, n_units)
        Of all data.
    data, whose, mask, keep
        See ``decomposition.decompose``.
    fit : callable
        Takes ``parts.Gathered``, how often each part counts (n_parts,) and a seed;
        gives maps of shape (n_found, n_units).
    standardise : bool
        Of ``parts.reduce_each``.
    n_rows : (int, int)
        Least and most directions of a part; between them about ``ROWS`` in all.
    n_bootstrap : int
        Draws with replacement.
    n_halves : int
        Random splits into halves.
    n_null_sets : int
        Data sets in which nothing is shared, 0 for none: then it is not judged which
        networks are stable.
    seed : int

    Returns
    -------
    stability : Stability
    """
    whose, rng = np.asarray(whose), np.random.default_rng([seed, 2])
    labels, number = np.unique(whose, return_inverse=True)
    if len(labels) < FEWEST:
        unknown, needed = np.full(len(networks), np.nan), "documents, people or runs"
        reason = f"halves need {FEWEST} {needed} or more, found {len(labels)}"
        return Stability(unknown, unknown, reason=reason)
    if len(labels) > MOST_PARTS:
        whose = rng.permutation(len(labels))[number] % MOST_PARTS
    rows = int(np.clip(ROWS // min(len(labels), MOST_PARTS), *n_rows))
    each = parts.reduce_each(data, whose, rows, keep=keep, standardise=standardise)
    used = slice(None) if keep is None else np.ravel(keep).astype(bool)
    if mask is None:
        first = data[0] if isinstance(data, list) else data
        shape = first.shape[1:] if len(first.shape) == 3 else (1, networks.shape[1])
        layer = np.repeat(np.arange(shape[0]), shape[1])[used]
        nulls = (parts.permuted(each, layer, own) for own in rng.spawn(n_null_sets))
    else:
        nulls = parts.redrawn(each, mask, n_null_sets, rng)
    gather = partial(parts.gather, scaled=standardise)
    networks, gathered = networks[:, used], gather(each)
    index = _index(networks, gathered, fit, n_bootstrap, seed)
    agree = _halves(networks, gathered, fit, n_halves, seed)
    null_index, null_halves = [], []
    for i, null in enumerate(tqdm(map(gather, nulls), "null data sets", mininterval=5)):
        own = seed + 1 + i
        whole = fit(null, np.ones(len(null), int), own)
        agreed = _halves(whole, null, fit, n_halves, own)
        null_halves.append(agreed.max(initial=0.0))
        if i < N_INDEX:
            agreed = _index(whole, null, fit, n_bootstrap, own)
            null_index.append(agreed.max(initial=0.0))
    reason = "" if len(null_halves) > 1 else "without null data sets (n_null_sets)"
    return Stability(index, agree, np.array(null_index), np.array(null_halves), reason)


def _index(networks, gathered, fit, n_bootstrap, seed):
    """Agreement of draws of the parts, with replacement."""
    rng, n = np.random.default_rng([seed, 0]), len(gathered)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=n_bootstrap)
    found = [fit(gathered, one, seed + i) for i, one in enumerate(counts, 1)]
    pairs = [(a, b) for i, a in enumerate(found) for b in found[:i]]
    return refit_agreement(networks, pairs)


def _halves(networks, gathered, fit, n_halves, seed):
    """Agreement of random halves without a part in common; an odd one is left out."""
    rng, n = np.random.default_rng([seed, 1]), len(gathered)
    pairs = []
    for i in range(n_halves):
        order, pair = rng.permutation(n), []
        for k in (0, 1):
            counts = np.zeros(n, int)
            counts[order[k * (n // 2) : (k + 1) * (n // 2)]] = 1
            pair.append(fit(gathered, counts, seed + 2 * i + k + 1))
        pairs.append(pair)
    return refit_agreement(networks, pairs)


def scan(found, data, sizes):
    """Stability and explained variance over numbers of networks.

    Parameters
    ----------
    found : decomposition.Decomposition
        With stability; its networks are looked for again in other numbers.
    data : array, DataArray or list
        That it was found in.
    sizes : list of int

    Returns
    -------
    table : DataFrame
        Index ``n_networks``; columns ``explained`` (share of variance by all networks
        together), ``index`` and ``halves`` (means over networks, NaN without any),
        ``limit`` (of halves, where documents or people share nothing), ``n_stable``.
    """
    rows = {}
    for n in sizes:
        other = found.refit(data, n_networks=n, whose=found.how["whose"])
        rows[n] = {
            "explained": other.explained.sum(),
            "index": _mean(other.stability.index),
            "halves": _mean(other.stability.halves),
            "limit": other.stability.limit,
            "n_stable": int(other.stability.stable.sum()),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.rename_axis("n_networks")


def variants(found, data, massive):
    """What massive neurons do to networks: with them, without, and standardised.

    Parameters
    ----------
    found : decomposition.Decomposition
        With stability. The variant that it is itself is not fitted again.
    data : array or DataArray of shape (n_samples, n_layers, n_neurons)
        That it was found in.
    massive : bool array of shape (n_layers, n_neurons)

    Returns
    -------
    table : DataFrame
        A row a variant; of its networks how many are ``stable``, were ``found`` and
        ``asked for``; means, least and limits of the agreement of draws and of halves
        (see ``Stability``); ``variance explained (%)``, of the variance of the neurons
        used.
    """
    rest, rows = ~np.ravel(massive), {}
    for name, keep, standardise in (
        ("massive neurons in", None, False),
        ("massive neurons left out", rest, False),
        ("every neuron standardised", None, True),
    ):
        other, used = found, np.ones_like(rest) if keep is None else keep
        before = np.ones_like(rest) if found.how["keep"] is None else found.how["keep"]
        if found.how["standardise"] != standardise or (used != np.ravel(before)).any():
            changed = {"keep": keep, "standardise": standardise}
            other = found.refit(data, **changed, whose=found.how["whose"])
        judged = other.stability
        rows[name] = {
            "stable": int(judged.stable.sum()),
            "found": len(judged.halves),
            "asked for": found.how["n_networks"],
            "draws, mean |r|": _mean(judged.index),
            "halves, mean |r|": _mean(judged.halves),
            "halves, least |r|": min(judged.halves, default=np.nan),
            "draws, limit": judged.index_limit,
            "halves, limit": judged.limit,
            "variance explained (%)": 100 * other.explained.sum(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _mean(values):
    return float(values.mean()) if len(values) else np.nan
