"""Documents, people or runs, each reduced once, so that any draw is soon reduced."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import linalg

from anbn.core import blocks
from anbn.networks import svd
from anbn.stats import spatial_null

CHUNK = 1024  # samples reduced at a time; longer parts are put together from chunks
N_EXTRA = 8  # directions beside those asked for, so that the last ones are exact too
TINY = 1e-5  # of the largest singular value: below it is rounding, in float32


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
    if len(whose) != len(data):
        raise ValueError(
            f"whose names the parts of {len(whose)} samples or runs, there are "
            f"{len(data)}"
        )
    n_units = blocks.size(data)[1]
    used = np.ones(n_units, bool) if keep is None else np.ravel(keep).astype(bool)
    scale = _scale(blocks.moments(data)[1][used]) if standardise else np.float32(1)
    parts = []
    for label in pd.unique(whose):
        chunks = [
            _reduced(x.reshape(len(x), -1)[:, used].astype(np.float32) * scale, n_rows)
            for x in _chunks(data, np.flatnonzero(whose == label))
        ]
        parts.append(chunks[0] if len(chunks) == 1 else _joined(chunks, n_rows))
    return parts


def _scale(variance):
    """What brings units to unit variance; 0 for those that do not vary."""
    scale = np.where(variance > 0, 1 / np.sqrt(variance + (variance == 0)), 0)
    return scale.astype(np.float32)


def _chunks(data, chosen):
    """Samples of one part, so many at a time."""
    pieces = [(data, chosen)]
    if isinstance(data, list):
        pieces = [(data[i], np.arange(len(data[i]))) for i in chosen]
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
    """Parts side by side; ``scaled``: every draw of them will scale units anew."""
    sizes = np.array([len(part.u) for part in parts])
    means = np.stack([part.mean for part in parts])
    mean = sizes @ means / sizes.sum()
    means = means - mean  # large means would drown their differences in float32
    offsets = (np.sqrt(sizes)[:, None] * means).astype(np.float32)
    rows = np.vstack(
        [x for part, own in zip(parts, offsets, strict=True) for x in (part.z, own)]
    )
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

    What ``svd.reduce`` gives for the samples of these parts (in their order), each as
    often as it was drawn: units are centred and scaled anew, and all is exact but for
    what the parts have lost beyond their ``n_rows`` directions.

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
    scale = _scale(variance) if standardise else np.ones(len(mean), np.float32)
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

    Returns
    -------
    data : list of float32 arrays of shape (n_samples, n_units)
        One each time that a part was drawn.
    """
    data, own_of = [], rng.spawn(len(counts))  # a part's noise is its own
    for part, count, own in zip(gathered.parts, counts, own_of, strict=True):
        if count:
            held = (part.z**2).sum(0) / len(part.u)
            lost = np.sqrt((part.variance - held).clip(min=0)).astype(np.float32)
            noise = own.standard_normal((len(part.u), len(lost)), dtype=np.float32)
            x = part.mean.astype(np.float32) + part.u @ part.z + noise * lost
            data.extend([x] * int(count))
    return data


def permuted(parts, layer, rng):
    """The same parts without anything in common: units permuted within layers.

    Every part gets a permutation of its own, so that its networks, their sizes and the
    layers they lie in (``layer``: int array of shape (n_units,), rising) stay as they
    are, and only which units they are does not.
    """
    found = []
    for part, own in zip(parts, rng.spawn(len(parts)), strict=True):
        order = np.lexsort((own.random(len(layer)), layer))
        mean, variance = part.mean[order], part.variance[order]
        found.append(Part(mean, variance, part.u, part.z[:, order]))
    return found


def redrawn(parts, mask, n, rng):
    """The same parts without anything in common: random maps in the place of theirs.

    Every map (row of ``z``) of every part is replaced by one of the same smoothness,
    left-right symmetry and histogram (``spatial_null.surrogates``); time courses and
    the variance of each map stay. ``n`` times, over the voxels of ``mask`` (an image).

    Yields
    ------
    parts : list of Part
    """
    maps = []
    for part, of_part in zip(parts, rng.spawn(len(parts)), strict=True):
        pairs = zip(part.z, of_part.spawn(len(part.z)), strict=True)
        maps.append(
            [
                list(spatial_null.surrogates(row, mask, n, rng=own, ranks=False))
                for row, own in pairs
            ]
        )
    for i in range(n):
        found = []
        for part, drawn in zip(parts, maps, strict=True):
            z = np.stack([several[i] for several in drawn])
            lost = part.variance - (part.z**2).sum(0) / len(part.u)
            variance = (z**2).sum(0) / len(part.u) + lost.clip(min=0).mean()
            found.append(Part(np.zeros_like(part.mean), variance, part.u, z))
        yield found
