"""Reliability of synchrony: does it come back in other subjects, and later on?

Neurons resemble each other, so synchrony with two independent noises correlates over
neurons: the null draws surrogates of the time courses and keeps the neurons as is.
"""

import numpy as np
import pandas as pd

from anbn.brain import regressors
from anbn.coupling import synchrony
from anbn.coupling.anchors import anchors, network_index, strongest
from anbn.stats import inference, matching, surrogates, timeseries

NEURON_BLOCK = 8192  # neurons standardised at a time


def kappa(best_a, best_b, n_networks):
    """Cohen's kappa of two assignments of neurons to their best networks.

    ::

        kappa = (agreement - chance) / (1 - chance)

    Parameters
    ----------
    best_a, best_b : int arrays of shape (n_neurons,)
        Neurons that are -1 in either are left out.

    Returns
    -------
    overall : float
    by_network : array of shape (n_networks,)
        Of "this network" against "another"; NaN where neither or all have it.
    """
    both = (best_a >= 0) & (best_b >= 0)
    pairs = best_a[both] * n_networks + best_b[both]
    joint = np.bincount(pairs, minlength=n_networks**2).reshape(n_networks, -1)
    joint = joint / max(len(pairs), 1)
    a, b, same = joint.sum(1), joint.sum(0), np.diag(joint)
    chance = np.r_[a @ b, a * b + (1 - a) * (1 - b)]
    agreed = np.r_[same.sum(), 1 - a - b + 2 * same]
    rest = np.where(chance < 1 - 1e-12, 1 - chance, np.nan)
    values = (agreed - chance) / rest
    return float(values[0]), values[1:]


def split_half(synchrony_a, synchrony_b, *, top=0.01, names=None):
    """Agreement of synchrony measured twice, such as in two halves (``halves``).

    Parameters
    ----------
    synchrony_a, synchrony_b : arrays of shape (n_neurons, n_networks)
    top : float
        Share of neurons, those of largest |synchrony|, whose overlap is taken.
    names : list of str, optional

    Returns
    -------
    table : DataFrame, a row a network
        ``r``: Pearson, over neurons, no null (see ``reliability``). ``overlap``:
        Jaccard index of the top neurons; ``overlap_chance``: of random neurons.
        ``kappa``: of being the neurons' best network.
    """
    n_neurons, n_networks = synchrony_a.shape
    n = max(1, round(top * n_neurons))
    tops = [strongest(s, n) for s in (synchrony_a, synchrony_b)]
    shared = [len(np.intersect1d(*(t[:, k] for t in tops))) for k in range(n_networks)]
    shared = np.array(shared)
    best = [anchors(s)[0] for s in (synchrony_a, synchrony_b)]
    z = timeseries.zscore
    table = {
        "r": (z(synchrony_a) * z(synchrony_b)).mean(0),
        "overlap": shared / (2 * n - shared),
        "overlap_chance": n / (2 * n_neurons - n),
        "kappa": kappa(*best, n_networks)[1],
    }
    return pd.DataFrame(table, network_index(names, shared))


def _z(timecourses):
    """Subjects (n_subjects, n_times, n_networks), each z-scored over time."""
    return np.stack([timeseries.zscore(np.asarray(t, float)) for t in timecourses])


def _stretch(rows, confounds, tr, high_pass, run_lengths):
    """Runs of a stretch of time, and its confounds with drift of its own."""
    there = np.asarray(confounds, float).reshape(len(confounds), -1)
    spans = timeseries.spans(len(there), run_lengths)
    inside = [len(range(*run.indices(len(there)))) for run in spans]
    kept = np.repeat(np.arange(len(inside)), inside)[rows]
    lengths = [int(n) for n in np.bincount(kept) if n]
    drift = regressors.run_drift(lengths, tr, high_pass)
    return lengths, timeseries.orthonormal(np.column_stack([drift, there[rows]]))


def _splits(n_subjects, n_splits, rng):
    """Weights of subjects in random halves: two arrays (n_splits, n_subjects)."""
    order = rng.permuted(np.tile(np.arange(n_subjects), (n_splits, 1)), axis=1)
    first = order < n_subjects // 2
    return first / first.sum(1)[:, None], ~first / (~first).sum(1)[:, None]


def halves(
    responses,
    timecourses,
    confounds,
    *,
    of,
    tr,
    high_pass=128.0,
    run_lengths=(),
    rng=None,
):
    """Synchrony in two halves, for ``split_half``.

    Parameters
    ----------
    responses : array of shape (n_times, n_neurons)
    timecourses : array of shape (n_subjects, n_times, n_networks)
        A half's time course is the mean of its z-scored subjects.
    confounds : array of shape (n_times, n_confounds)
        Beside drift: word rate and such. (n_times, 0) for none.
    of : {"subjects", "time"}
        Random halves of subjects, or the first and second half of the story; each
        half of time without its own drift.
    tr, high_pass : float
        s.
    run_lengths : sequence of int
        Volumes of each run that the clock is made of, () for one.
    rng : numpy Generator
        For halves of subjects.

    Returns
    -------
    synchrony_a, synchrony_b : float32 arrays of shape (n_neurons, n_networks)
    """
    if of not in ("subjects", "time"):
        raise ValueError(f"of must be 'subjects' or 'time', found {of!r}")
    n_subjects, n_times = timecourses.shape[:2]
    if of == "subjects":
        z = _z(timecourses)
        sides = [np.tensordot(w[0], z, 1) for w in _splits(n_subjects, 1, rng)]
        rows = [slice(None)] * 2
    else:
        rows = [slice(n_times // 2), slice(n_times // 2, None)]
        sides = [_z(timecourses[:, part]).mean(0) for part in rows]
    pair = []
    for part, side in zip(rows, sides, strict=True):
        _, basis = _stretch(part, confounds, tr, high_pass, run_lengths)
        clean = timeseries.remove(np.asarray(responses[part], np.float32), basis)
        side = timeseries.remove(side, basis)
        pair.append(synchrony.synchrony(clean, side))
    return tuple(pair)


def reliability(
    responses,
    timecourses,
    confounds,
    *,
    tr,
    rng,
    high_pass=128.0,
    run_lengths=(),
    kind="shift",
    n_splits=20,
    n_null=200,
    names=None,
):
    """Does synchrony come back in other subjects, and in other minutes of the story?

    Pearson r over neurons of a network's synchrony in two halves. With Z (n_neurons x
    n_times) the standardised responses, centred over neurons, it is a quadratic form of
    the halves' time courses, so that many draws cost little::

        r = a' Za' Zb b / sqrt(a' Za' Za a  b' Zb' Zb b)

    The null replaces the second half's time courses by surrogates, which pass through
    the same projection. Halves of subjects agree wherever the subjects' time courses
    do, whether or not the model has a part in it; only halves of time show that the
    same neurons follow the network again.

    Parameters
    ----------
    responses, timecourses, confounds, tr, high_pass, run_lengths
        As in ``halves``.
    rng : numpy Generator
    kind : str
        Of surrogates, see ``surrogates.draw``.
    n_splits : int
        Random halves of subjects, whose r is averaged. The null is that of single
        splits, which vary at least as much as their mean: p is conservative.
    n_null : int
    names : list of str, optional

    Returns
    -------
    table : DataFrame, a row a network
        ``r_subjects``, ``null_subjects`` (95th percentile), ``p_subjects`` (one-sided),
        ``familywise_subjects`` (over networks, ``inference.max_p``), and the same for
        ``time``. NaN for subjects if there is but one.
    """
    n_subjects, n_times, n_networks = timecourses.shape
    parts = [slice(n_times // 2), slice(n_times // 2, None)]
    pairs = {"time": (parts, [_z(timecourses[:, part]).mean(0) for part in parts])}
    if n_subjects > 1:
        z = _z(timecourses)
        weights = _splits(n_subjects, n_splits, rng)
        sides = [np.tensordot(w, z, 1).swapaxes(0, 1) for w in weights]
        sides = [side.reshape(n_times, -1) for side in sides]
        pairs = {"subjects": ([slice(None)] * 2, sides)} | pairs
    of_subjects = ("r", "null", "p", "familywise")
    columns = dict.fromkeys([f"{x}_subjects" for x in of_subjects], np.nan)
    about = (confounds, tr, high_pass, run_lengths)
    for name, (parts, sides) in pairs.items():
        lengths, bases = zip(*[_stretch(part, *about) for part in parts], strict=True)
        aa, ab, bb = _grams(responses, parts, bases)
        a, b = map(timeseries.remove, sides, bases)
        left = ab.T @ a / np.sqrt((a * (aa @ a)).sum(0))
        r = _correlate(left, b, bb).reshape(-1, n_networks)
        options = {"kind": kind, "run_lengths": lengths[1]}
        coloured = surrogates.before_projection(b, bases[1], lengths[1])
        null = []
        for i in range(n_null):
            one = slice(i % len(r) * n_networks, (i % len(r) + 1) * n_networks)
            drawn = surrogates.draw_one(coloured[:, one], rng, **options)
            drawn = timeseries.remove(drawn, bases[1])
            null.append(_correlate(left[:, one], drawn, bb))
        columns[f"r_{name}"] = r = r.mean(0)
        columns[f"null_{name}"] = np.percentile(null, 95, axis=0)
        columns[f"p_{name}"] = matching.p_values(r, null)
        both = np.vstack([r, null])
        columns[f"familywise_{name}"] = inference.max_p(list(both.T))
    return pd.DataFrame(columns, network_index(names, r))


def _correlate(left, b, bb):
    return (left * b).sum(0) / np.sqrt((b * (bb @ b)).sum(0))


def _grams(responses, parts, bases):
    """Za' Za, Za' Zb, Zb' Zb of two parts of time."""
    lengths = [len(basis) for basis in bases]
    gram, total = np.zeros((sum(lengths),) * 2), np.zeros(sum(lengths))
    for begin in range(0, responses.shape[1], NEURON_BLOCK):
        some = responses[:, begin : begin + NEURON_BLOCK].astype(np.float32)
        both = [
            timeseries.zscore(timeseries.remove(some[part], basis))
            for part, basis in zip(parts, bases, strict=True)
        ]
        both = np.concatenate(both)
        gram += both @ both.T
        total += both.sum(1, dtype=float)
    gram -= np.outer(total, total) / responses.shape[1]
    n = lengths[0]
    return gram[:n, :n], gram[:n, n:], gram[n:, n:]
