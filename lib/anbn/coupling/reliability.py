"""Reliability of synchrony: does it come back in other subjects, and later on?

Neurons resemble each other, so synchrony with two independent noises correlates over
neurons: the null draws surrogates of the time courses and keeps the neurons as is.
"""

import numpy as np
import pandas as pd

from anbn.brain import regressors
from anbn.coupling.anchors import network_index
from anbn.stats import inference, matching, surrogates, timeseries

NEURON_BLOCK = 8192  # neurons standardised at a time


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


def reliability(
    responses,
    timecourses,
    confounds,
    *,
    tr,
    rng,
    high_pass=128.0,
    run_lengths=(),
    null_method="shift",
    n_splits=20,
    n_draws=200,
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
    responses : array of shape (n_times, n_neurons)
    timecourses : array of shape (n_subjects, n_times, n_networks)
        A half's time course is the mean of its z-scored subjects.
    confounds : array of shape (n_times, n_confounds)
        Beside drift: word rate and such. (n_times, 0) for none.
    tr, high_pass : float
        s. Each half of time has a drift of its own.
    rng : numpy Generator
    run_lengths : sequence of int
        Volumes of each run that the clock is made of, () for one.
    null_method : str
        Of surrogates, see ``surrogates.draw``.
    n_splits : int
        Random halves of subjects, whose r is averaged. The null is that of single
        splits, which vary at least as much as their mean: p is conservative.
    n_draws : int
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
        a, b = map(timeseries.residuals, sides, bases)
        left = ab.T @ a / np.sqrt((a * (aa @ a)).sum(0))
        r = _correlate(left, b, bb).reshape(-1, n_networks)
        options = {"null_method": null_method, "run_lengths": lengths[1]}
        coloured = surrogates.before_projection(b, bases[1], lengths[1])
        null = []
        for i in range(n_draws):
            one = slice(i % len(r) * n_networks, (i % len(r) + 1) * n_networks)
            drawn = surrogates.draw_one(coloured[:, one], rng, **options)
            drawn = timeseries.residuals(drawn, bases[1])
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
            timeseries.zscore(timeseries.residuals(some[part], basis))
            for part, basis in zip(parts, bases, strict=True)
        ]
        both = np.concatenate(both)
        gram += both @ both.T
        total += both.sum(1, dtype=float)
    gram -= np.outer(total, total) / responses.shape[1]
    n = lengths[0]
    return gram[:n, :n], gram[:n, n:], gram[n:, n:]
