"""Reliability of synchrony: does it come back in other subjects, and later on?

Neurons resemble each other, so synchrony with two independent noises correlates over
neurons: the null draws surrogates of the time courses and keeps the neurons as is.
"""

import numpy as np
import pandas as pd

from anbn.brain import regressors
from anbn.coupling import folds
from anbn.stats import inference, matching, surrogates, timeseries

NEURON_BLOCK = 8192  # neurons standardised at a time
N_SPLITS = 20  # random halves of subjects, whose r is averaged


def _z(timecourses):
    """Subjects (n_subjects, n_times, n_networks), each z-scored over time."""
    return np.stack([timeseries.zscore(np.asarray(t, float)) for t in timecourses])


def _stretch(rows, confounds, tr, high_pass, run_lengths):
    """Runs of a stretch of time, and its confounds with drift of its own."""
    there = np.asarray(confounds, float).reshape(len(confounds), -1)
    kept = folds.run_of(len(there), run_lengths)[rows]
    lengths = [int(n) for n in np.bincount(kept) if n]
    drift = regressors.run_drift(lengths, tr, high_pass)
    return lengths, timeseries.orthonormal(np.column_stack([drift, there[rows]]))


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
    n_draws=200,
    names,
):
    """Does synchrony come back in other subjects, and in other minutes of the story?

    Pearson r over neurons of a network's synchrony in two halves. With Z (n_neurons x
    n_times) the standardised responses, centred over neurons, it is a quadratic form of
    the halves' time courses, so that many draws cost little::

        r = a' Za' Zb b / sqrt(a' Za' Za a  b' Zb' Zb b)

    The null replaces the second half's time courses by surrogates, which pass through
    the same projection, of single splits of subjects: these vary at least as much as
    the mean over ``N_SPLITS``, so p is conservative. Halves of subjects agree wherever
    the subjects' time courses do, whether or not the model has a part in it; only
    halves of time show that the same neurons follow the network again.

    Parameters
    ----------
    responses : array of shape (n_times, n_neurons)
    timecourses : array of shape (n_subjects, n_times, n_networks)
        A half's is the mean of its z-scored subjects.
    confounds : array of shape (n_times, n_confounds)
        Beside drift: word rate and such. (n_times, 0) for none.
    tr, high_pass : float
        s. Each half of time has a drift of its own.
    rng : numpy Generator
        Splits of subjects and the nulls of both kinds of halves have a child each.
    run_lengths : sequence of int
        Volumes of each run that the clock is made of, () for one.
    null_method : str
        Of surrogates, see ``surrogates.draw``.
    n_draws : int
    names : list of str

    Returns
    -------
    table : DataFrame, a row a network
        ``r_subjects``, ``null_subjects`` (95th percentile), ``p_subjects`` (one-sided),
        ``familywise_subjects`` (over networks, ``inference.max_p``), NaN for a single
        subject, and the same for ``time``.
    """
    n_subjects, n_times, n_networks = timecourses.shape
    parts = [slice(n_times // 2), slice(n_times // 2, None)]
    later = [_z(timecourses[:, part]).mean(0) for part in parts]
    order = np.tile(np.arange(n_subjects), (N_SPLITS, 1))
    of_splits, *of_nulls = rng.spawn(3)
    first = of_splits.permuted(order, axis=1) < n_subjects // 2
    halves = [half / np.maximum(half.sum(1), 1)[:, None] for half in (first, ~first)]
    others = [np.tensordot(w, _z(timecourses), 1).swapaxes(0, 1) for w in halves]
    others = [side.reshape(n_times, N_SPLITS * n_networks) for side in others]
    pairs = {"subjects": ([slice(None)] * 2, others), "time": (parts, later)}
    columns = {}
    about = (confounds, tr, high_pass, run_lengths)
    for of_null, (name, (parts, sides)) in zip(of_nulls, pairs.items(), strict=True):
        if name == "subjects" and n_subjects < 2:
            told = (f"{what}_subjects" for what in ("r", "null", "p", "familywise"))
            columns |= dict.fromkeys(told, np.full(n_networks, np.nan))
            continue
        lengths, bases = zip(*[_stretch(part, *about) for part in parts], strict=True)
        aa, ab, bb = _grams(responses, parts, bases)
        a, b = map(timeseries.residuals, sides, bases)
        left = ab.T @ a / np.sqrt((a * (aa @ a)).sum(0))
        n_splits = N_SPLITS if name == "subjects" else 1
        r = _correlate(left, b, bb).reshape(n_splits, n_networks)
        options = {"null_method": null_method, "run_lengths": lengths[1]}
        coloured = surrogates.before_projection(b, bases[1], lengths[1])
        null = []
        for i in range(n_draws):
            one = slice(i % len(r) * n_networks, (i % len(r) + 1) * n_networks)
            drawn = surrogates.draw_one(coloured[:, one], of_null, **options)
            drawn = timeseries.residuals(drawn, bases[1])
            null.append(_correlate(left[:, one], drawn, bb))
        columns[f"r_{name}"] = r = r.mean(0)
        columns[f"null_{name}"] = np.percentile(null, 95, axis=0)
        columns[f"p_{name}"] = matching.p_values(r, null)
        columns[f"familywise_{name}"] = inference.max_p([*np.vstack([r, null]).T])
    return pd.DataFrame(columns, pd.Index(names, name="network"))


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
