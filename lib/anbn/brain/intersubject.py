"""Several subjects: what they share (ISC), and the ceiling that this sets."""

import numpy as np

from anbn.stats import timeseries

COLUMNS = 8192  # voxels transformed at once


def correlation(bold):
    """Leave-one-out inter-subject correlation, in every voxel or network.

    Parameters
    ----------
    bold : array of shape (n_subjects, n_times, n_voxels), or list of its subjects
        Subjects are gone through one by one, twice: memory maps need not fit together.

    Returns
    -------
    isc : array of shape (n_subjects, n_voxels)
        Pearson r of each subject with the mean of the others (z-scored first).
    """
    total = _total(bold)
    others = ((z, timeseries.zscore(total - z)) for z in map(_z, bold))
    return np.stack([(z * other).mean(0) for z, other in others])


def _z(subject):
    return timeseries.zscore(np.asarray(subject, float))


def _total(bold):
    """Sum of the standardised subjects."""
    if len(bold) < 2:
        raise ValueError(
            f"what subjects share needs 2 subjects or more, found {len(bold)}"
        )
    total = 0.0
    for subject in bold:
        total = total + _z(subject)
    return total


def pair_correlation(bold):
    """Mean correlation of two subjects, in every voxel or network.

    Parameters
    ----------
    bold : array of shape (n_subjects, n_times, n_voxels), or list of its subjects

    Returns
    -------
    rho : array of shape (n_voxels,)
    """
    n = len(bold)
    return (_total(bold).var(0) / n - 1) / (n - 1)


def ceiling_of(rho, n_subjects):
    """Highest correlation any model can be expected to reach with the group's mean.

    ::

        ceiling = sqrt(n rho / (1 + (n - 1) rho))      Spearman-Brown

    Parameters
    ----------
    rho : array of shape (n_voxels,)
        Mean correlation of two subjects, from ``pair_correlation``.
    n_subjects : int
        Whose mean it is.

    Returns
    -------
    ceiling : array of shape (n_voxels,)
        0 where subjects do not correlate positively.
    """
    rho = rho.clip(min=0)
    return np.sqrt(n_subjects * rho / (1 + (n_subjects - 1) * rho))


def lagged_correlation(timecourses, regressor, lags, run_lengths=()):
    """Correlation of time courses with a regressor some volumes before them.

    Parameters
    ----------
    timecourses : array of shape (n_times, n_networks)
    regressor : array of shape (n_times,)
    lags : int array of shape (n_lags,)
        Volumes by which the time courses lag; what has no partner in its run is cut
        off.
    run_lengths : sequence of int
        Volumes of each run, () for one.

    Returns
    -------
    r : array of shape (n_lags, n_networks)
    """
    z = timeseries.zscore
    runs = timeseries.spans(len(regressor), run_lengths)
    run = np.repeat(np.arange(len(runs)), [r.stop - r.start for r in runs])
    now, rows = np.arange(len(regressor)), []
    for lag in lags:
        earlier = now[(now + lag >= 0) & (now + lag < len(now))]
        earlier = earlier[run[earlier] == run[earlier + lag]]
        if not len(earlier):
            rows.append(np.zeros(timecourses.shape[1]))
            continue
        later = z(timecourses[earlier + lag])
        rows.append(later.T @ z(regressor[earlier]) / len(earlier))
    return np.stack(rows)


def correlation_by_lag(one, other):
    """Mean over voxels of the correlation of two runs, one of them rolled in time.

    Parameters
    ----------
    one, other : array of shape (n_times, n_voxels)

    Returns
    -------
    r : array of shape (n_times,)
        At every circular lag, from 0.
    """
    total, n_times = 0.0, len(one)
    for start in range(0, one.shape[1], COLUMNS):
        columns = slice(start, start + COLUMNS)
        a, b = (
            np.fft.rfft(_z(run[:, columns]), axis=0) for run in (one, other)
        )  # products of spectra are correlations at all lags
        total = total + (a.conj() * b).sum(1)
    return np.fft.irfft(total, n=n_times) / n_times / one.shape[1]
