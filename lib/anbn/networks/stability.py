"""Which networks come back in other documents or people, and how many to ask for.

Each document or person is reduced once, so that any draw of them is soon reduced.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import linalg
from tqdm import tqdm

from anbn.core import blocks
from anbn.networks import svd
from anbn.stats import matching, spatial_null

FEWEST = 4  # parts from which two halves can be compared: two each
N_INDEX = 3  # null data sets that are drawn from, too
BEYOND = 3  # standard deviations
CHUNK = 1024  # samples reduced at a time; longer parts are put together from chunks
N_EXTRA = 8  # directions beside those asked for, so that the last ones are exact too
TINY = 1e-5  # of the largest singular value: below it is rounding, in float32


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


def judge(networks, parts, fit, nulls, *, n_bootstrap, n_halves, seed):
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
    n_bootstrap, n_halves : int
        Draws of parts with replacement, and splits in halves.
    seed : int

    Returns
    -------
    stability : Stability
    """
    n = len(parts)
    if n < FEWEST:
        return unjudged(len(networks), too_few(n))
    index = _index(networks, parts, fit, n_bootstrap, seed)
    agree = _halves(networks, parts, fit, n_halves, seed)
    null_index, null_halves = [], []
    for i, null in enumerate(tqdm(nulls, "null data sets", mininterval=5)):
        own = seed + 1 + i
        whole = fit(null, np.ones(n, int), own)
        null_halves.append(_halves(whole, null, fit, n_halves, own).max())
        if i < N_INDEX:
            null_index.append(_index(whole, null, fit, n_bootstrap, own).max())
    reason = "" if len(null_halves) > 1 else "without null data sets (n_null_sets)"
    null = np.array(null_index), np.array(null_halves)
    return Stability(index, agree, *null, reason)


def _index(networks, parts, fit, n_bootstrap, seed):
    rng = np.random.default_rng([seed, 0])
    counts = draws(len(parts), n_bootstrap, rng)
    found = [fit(parts, one, seed + i) for i, one in enumerate(counts, 1)]
    pairs = [(a, b) for i, a in enumerate(found) for b in found[:i]]
    return refit_agreement(networks, pairs)


def _halves(networks, parts, fit, n_halves, seed):
    rng = np.random.default_rng([seed, 1])
    counts = halves(len(parts), n_halves, rng)
    pairs = [
        [fit(parts, half, seed + 2 * i + k) for k, half in enumerate(split, 1)]
        for i, split in enumerate(counts)
    ]
    return refit_agreement(networks, pairs)


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


@dataclass(frozen=True)
class Part:
    """A document, a person or a run: ``data ~ mean + u @ z``, and exact moments."""

    mean: np.ndarray  # (n_units,)
    variance: np.ndarray  # (n_units,), of the data, not only of what u @ z holds
    u: np.ndarray  # (n_samples, n_rows), orthonormal, columns of mean 0
    z: np.ndarray  # (n_rows, n_units), orthogonal, longest first


@dataclass(frozen=True)
class Gathered:
    """Parts side by side, with what all draws of them need."""

    parts: list
    sizes: np.ndarray  # (n_parts,), samples
    mean: np.ndarray  # (n_units,), over all samples
    means: np.ndarray  # (n_parts, n_units), less that mean
    variances: np.ndarray  # (n_parts, n_units)
    rows: np.ndarray  # (sum of n_rows + 1, n_units): z and the offset of every part
    of_part: np.ndarray  # (sum of n_rows + 1,), which part's
    gram: np.ndarray | None  # rows @ rows.T; None if every draw scales units anew

    def __len__(self):
        return len(self.parts)


def reduce_each(data, whose, n_rows, *, keep=None, standardise=False):
    """Reduce every document or person to its leading directions.

    Parameters
    ----------
    data : array or DataArray of shape (n_samples, ...), or list of such
    whose : sequence
        Label of the part that each sample belongs to; of a list, each of its arrays.
    n_rows : int
        Most directions of a part. What lies beyond them is lost to draws, but for each
        unit's variance.
    keep : bool array of shape (n_units,), optional
        Units to use; the parts have no others.
    standardise : bool
        Whether directions are those of units scaled to unit variance over all data.
        Parts are then in these units.

    Returns
    -------
    parts : list of Part
        In the order of their first samples.
    """
    whose = np.asarray(whose)
    _, n_units = blocks.size(data)
    expected = len(data)
    if len(whose) != expected:
        raise ValueError(
            f"whose names the parts of {len(whose)} samples or runs, there are "
            f"{expected}"
        )
    used = np.ones(n_units, bool) if keep is None else np.ravel(keep).astype(bool)
    scale = np.ones(used.sum(), np.float32)
    if standardise:
        variance = blocks.moments(data)[1][used]
        scale = np.where(variance > 0, 1 / np.sqrt(variance + (variance == 0)), 0)
        scale = scale.astype(np.float32)
    parts = []
    for label in pd.unique(whose):
        chunks = [
            _reduced(x.reshape(len(x), -1)[:, used].astype(np.float32) * scale, n_rows)
            for x in _chunks(data, np.flatnonzero(whose == label))
        ]
        parts.append(chunks[0] if len(chunks) == 1 else _joined(chunks, n_rows))
    return parts


def _chunks(data, chosen):
    """Samples of one part, so many at a time."""
    if isinstance(data, list):
        pieces = [(data[i], np.arange(len(data[i]))) for i in chosen]
    else:
        pieces = [(data, chosen)]
    for piece, rows in pieces:
        for begin in range(0, len(rows), CHUNK):
            some = rows[begin : begin + CHUNK]
            if some[-1] - some[0] == len(some) - 1:
                some = slice(some[0], some[-1] + 1)  # a store reads that faster
            block = piece[some]
            yield block.to_numpy() if hasattr(block, "to_numpy") else np.array(block)


def _reduced(x, n_rows):
    """The part that a few samples in memory make."""
    mean = x.mean(0, dtype=float)
    x = x - mean.astype(np.float32)
    n_rows = min(n_rows, max(1, len(x) - 1))
    left, s, z = _leading(x @ x.T, lambda weights: weights @ x, n_rows)
    return Part(mean, x.var(0, dtype=float), left, s[:, None].astype(np.float32) * z)


def _joined(chunks, n_rows):
    """One part of several chunks of it."""
    together, counts = gather(chunks, scaled=False), np.ones(len(chunks), int)
    found = reduction(together, counts, n_rows)
    mean, variance = _moments(together, counts)
    z = found.s[:, None].astype(np.float32) * found.vt
    return Part(mean, variance, found.u, z)


def gather(parts, *, scaled):
    """Parts side by side.

    Parameters
    ----------
    parts : list of Part
    scaled : bool
        Whether every draw of them will scale units to unit variance.

    Returns
    -------
    gathered : Gathered
    """
    sizes = np.array([len(part.u) for part in parts])
    means = np.stack([part.mean for part in parts])
    mean = sizes @ means / sizes.sum()
    means = means - mean  # large means would drown their differences in float32
    offsets = (np.sqrt(sizes)[:, None] * means).astype(np.float32)
    both = [
        rows
        for part, offset in zip(parts, offsets, strict=True)
        for rows in (part.z, offset[None])
    ]
    rows = np.concatenate(both)
    lengths = [len(part.z) + 1 for part in parts]
    return Gathered(
        parts,
        sizes,
        mean,
        means,
        np.stack([part.variance for part in parts]),
        rows,
        np.repeat(np.arange(len(parts)), lengths),
        None if scaled else rows @ rows.T,
    )


def _moments(gathered, counts):
    """Mean and variance of every unit over parts that count so often."""
    weights = counts * gathered.sizes / (counts @ gathered.sizes)
    offset = weights @ gathered.means
    variance = weights @ (gathered.variances + gathered.means**2) - offset**2
    return gathered.mean + offset, variance.clip(min=0)


def _leading(gram, weigh, n_components):
    """Leading singular vectors of a matrix with few rows, fewer if its rank is less.

    By its Gram matrix in float32, then exactly within the few directions found.
    ``weigh`` takes weights of shape (n, n_rows) and gives sums of rows.
    """
    n = min(len(gram), n_components + N_EXTRA)
    span = [len(gram) - n, len(gram) - 1]
    _, left = linalg.eigh(gram.astype(float), subset_by_index=span)
    within = weigh(left.T.astype(np.float32))
    values, turn = linalg.eigh((within @ within.T).astype(float))
    s = np.sqrt(values[::-1][:n_components].clip(min=0))
    n_real = max(1, int((s > TINY * s[0]).sum()))
    turn, s = turn[:, ::-1][:, :n_real], s[:n_real]
    right = (turn.T.astype(np.float32) @ within) / np.maximum(s, 1e-30)[:, None]
    return (left @ turn).astype(np.float32), s, right.astype(np.float32)


def reduction(gathered, counts, n_components, *, standardise=False):
    """Truncated singular value decomposition of a draw of parts.

    What ``svd.reduce`` gives for the samples of these parts, each as often as it was
    drawn: units are centred and scaled anew, and all is exact but for what the parts
    have lost beyond their ``n_rows`` directions.

    Parameters
    ----------
    gathered : Gathered
    counts : int array of shape (n_parts,)
        How often each was drawn, 0 for not.
    n_components : int
        Fewer come back if the draw has no more.
    standardise : bool

    Returns
    -------
    reduction : svd.Reduction
        Samples in the order of the parts.
    """
    counts = np.asarray(counts)
    sizes, n_samples = gathered.sizes, int(counts @ gathered.sizes)
    mean, variance = _moments(gathered, counts)
    # rows of the draw: those of its parts, weighed, with offsets from its own mean
    chosen = np.flatnonzero(counts[gathered.of_part] > 0)
    part = gathered.of_part[chosen]
    last = np.append(np.flatnonzero(np.diff(part)), len(part) - 1)
    turn = np.eye(len(chosen), dtype=np.float32)
    to_mean = counts[part[last]] * np.sqrt(sizes[part[last]]) / n_samples
    turn[np.ix_(last, last)] -= np.outer(np.sqrt(sizes[part[last]]), to_mean)
    turn *= np.sqrt(counts[part], dtype=np.float32)[:, None]
    scale = np.ones(len(mean), np.float32)
    if standardise:
        scale = np.where(variance > 0, 1 / np.sqrt(variance + (variance == 0)), 0)
        scale = scale.astype(np.float32)
    if gathered.gram is None:
        rows = turn @ (gathered.rows[chosen] * scale)
        gram, rows_of = rows @ rows.T, lambda weights: weights @ rows
    else:
        gram = turn @ gathered.gram[np.ix_(chosen, chosen)] @ turn.T
        whole = np.zeros((len(chosen), len(gathered.rows)), np.float32)
        whole[:, chosen] = turn

        def rows_of(weights):
            return weights @ whole @ gathered.rows

    left, s, vt = _leading(gram, rows_of, min(n_components, n_samples - 1))
    found, begin = [], 0
    for k in part[last]:
        one, end = gathered.parts[k], begin + len(gathered.parts[k].z)
        of_part = left[begin : end + 1] / np.sqrt(counts[k])
        begin = end + 1
        u = one.u @ of_part[:-1] + of_part[-1] / np.sqrt(sizes[k])
        found.extend([u] * int(counts[k]))
    u = np.concatenate(found).astype(np.float32)
    return svd.Reduction(u, s, vt, mean, float(variance @ scale**2))


def samples(gathered, counts, rng):
    """Samples of a draw of parts, made again from their directions.

    What the parts have lost is put back as white noise of each unit's variance.

    Parameters
    ----------
    gathered : Gathered
    counts : int array of shape (n_parts,)
    rng : numpy Generator

    Returns
    -------
    data : list of float32 arrays of shape (n_samples, n_units)
    """
    data = []
    for part, count in zip(gathered.parts, counts, strict=True):
        if count:
            held = (part.z**2).sum(0) / len(part.u)
            lost = np.sqrt((part.variance - held).clip(min=0)).astype(np.float32)
            noise = rng.standard_normal((len(part.u), len(lost)), dtype=np.float32)
            x = part.mean.astype(np.float32) + part.u @ part.z + noise * lost
            data.extend([x] * int(count))
    return data


def permuted(parts, layer, rng):
    """The same parts without anything in common: units permuted within layers.

    Every part gets a permutation of its own, so that its networks, their sizes and the
    layers they lie in stay as they are, and only which units they are does not.

    Parameters
    ----------
    parts : list of Part
    layer : int array of shape (n_units,)
        Of every unit, rising.
    rng : numpy Generator

    Returns
    -------
    parts : list of Part
    """
    found = []
    for part in parts:
        order = np.lexsort((rng.random(len(layer)), layer))
        mean, variance = part.mean[order], part.variance[order]
        found.append(Part(mean, variance, part.u, part.z[:, order]))
    return found


def redrawn(parts, mask, n, rng):
    """The same parts without anything in common: random maps in the place of theirs.

    Every map (row of ``z``) of every part is replaced by one of the same smoothness,
    left-right symmetry and histogram (``spatial_null.surrogates``); time courses and
    the variance of each map stay.

    Parameters
    ----------
    parts : list of Part
        Of the voxels of a mask.
    mask : image
    n : int
        How many times.
    rng : numpy Generator

    Yields
    ------
    parts : list of Part
    """
    options = {"rng": rng, "ranks": False}
    maps = [
        [list(spatial_null.surrogates(row, mask, n, **options)) for row in part.z]
        for part in parts
    ]
    for i in range(n):
        found = []
        for part, drawn in zip(parts, maps, strict=True):
            z = np.stack([several[i] for several in drawn])
            lost = part.variance - (part.z**2).sum(0) / len(part.u)
            variance = (z**2).sum(0) / len(part.u) + lost.clip(min=0).mean()
            found.append(Part(np.zeros_like(part.mean), variance, part.u, z))
        yield found
