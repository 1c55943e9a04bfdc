"""Which networks come back in other documents or people, and how many to ask for."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from tqdm import tqdm

from anbn import matching

FEWEST = 4  # parts from which two halves can be compared: two each
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
        Of null data sets alone, one in ``n_nulls + 1`` would pass.
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
        null = self.null_index, self.null_halves
        return Stability(self.index[kept], self.halves[kept], *null, self.reason)

    def describe(self, asked):
        """In words, how many networks are stable, of how many asked for."""
        fewer = len(self.halves) < asked
        back = f" ({len(self.halves)} came back)" * fewer
        if self.reason:
            found = f"{len(self.halves)} of {asked} networks asked for"
            return f"{found}; stability cannot be judged: {self.reason}"
        n, alone = int(self.stable.sum()), int((self.halves > self.limit).sum())
        return (
            f"{n} of {asked} networks asked for are stable{back}; halves alone agree "
            f"beyond their limit on {alone}"
        )


def too_few(n_parts):
    """Why so few documents, people or runs cannot be judged."""
    return f"halves need {FEWEST} documents, people or runs or more, found {n_parts}"


def unjudged(n_networks, reason):
    """Stability of networks that nothing is known of."""
    unknown = np.full(n_networks, np.nan)
    return Stability(unknown, unknown, reason=reason)


def agreement(networks, pairs):
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


def halves(n_parts, n, rng):
    """Random splits of parts into two halves.

    Returns
    -------
    counts : int array of shape (n, 2, n_parts)
        1 for the parts of a half; of an odd number one part is left out.
    """
    counts = np.zeros((n, 2, n_parts), int)
    for split in counts:
        order, size = rng.permutation(n_parts), n_parts // 2
        split[0, order[:size]] = 1
        split[1, order[size : 2 * size]] = 1
    return counts


def draws(n_parts, n, rng):
    """How often each part is drawn, with replacement; array of shape (n, n_parts)."""
    counts = rng.multinomial(n_parts, np.full(n_parts, 1 / n_parts), size=n)
    return counts


def judge(networks, parts, fit, nulls, *, n_draws, n_halves, seed):
    """Which networks come back in other documents or people.

    Parameters
    ----------
    networks : array of shape (n_networks, n_units)
        Of all data.
    parts : sequence
        One a document or person.
    fit : callable
        Takes parts, counts of shape (n_parts,) and a seed; gives maps of shape
        (n_found, n_units).
    nulls : iterable of sequences
        Parts that share nothing, as many, for each null data set.
    n_draws, n_halves : int
        Draws of parts with replacement, and splits in halves.
    seed : int

    Returns
    -------
    stability : Stability
    """
    n = len(parts)
    if n < FEWEST:
        return unjudged(len(networks), too_few(n))
    index = _index(networks, parts, fit, n_draws, seed)
    agree = _halves(networks, parts, fit, n_halves, seed)
    null_index, null_halves = [], []
    for i, null in enumerate(tqdm(nulls, "null data sets", mininterval=5)):
        own = seed + 1 + i
        whole = fit(null, np.ones(n, int), own)
        null_halves.append(_halves(whole, null, fit, n_halves, own).max())
        if i < N_INDEX:
            null_index.append(_index(whole, null, fit, n_draws, own).max())
    reason = "" if len(null_halves) > 1 else "without null data sets (n_nulls)"
    null = np.array(null_index), np.array(null_halves)
    return Stability(index, agree, *null, reason)


def _index(networks, parts, fit, n_draws, seed):
    rng = np.random.default_rng([seed, 0])
    counts = draws(len(parts), n_draws, rng)
    found = [fit(parts, one, seed + i) for i, one in enumerate(counts, 1)]
    pairs = [(a, b) for i, a in enumerate(found) for b in found[:i]]
    return agreement(networks, pairs)


def _halves(networks, parts, fit, n_halves, seed):
    rng = np.random.default_rng([seed, 1])
    counts = halves(len(parts), n_halves, rng)
    pairs = [
        [fit(parts, half, seed + 2 * i + k) for k, half in enumerate(split, 1)]
        for i, split in enumerate(counts)
    ]
    return agreement(networks, pairs)


def scan(decompose, sizes):
    """Stability and explained variance over numbers of networks.

    Parameters
    ----------
    decompose : callable
        Takes ``n_networks``, gives a Decomposition with stability.
    sizes : list of int

    Returns
    -------
    table : DataFrame
        Index ``n_networks``; columns ``explained`` (share of variance by all networks
        together), ``index`` and ``halves`` (means over networks), ``limit`` (of halves,
        where documents or people share nothing), ``n_stable``.
    """
    rows = []
    for n in sizes:
        found = decompose(n_networks=n)
        rows.append(
            {
                "n_networks": n,
                "explained": found.explained.sum(),
                "index": found.stability.index.mean(),
                "halves": found.stability.halves.mean(),
                "limit": found.stability.limit,
                "n_stable": int(found.stability.stable.sum()),
            }
        )
    return pd.DataFrame(rows).set_index("n_networks")
