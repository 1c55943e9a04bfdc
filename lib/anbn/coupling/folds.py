"""Held-out time: folds, delays, drift, scaling and scores that respect its borders."""

import numpy as np

from anbn.brain import regressors
from anbn.core.params import ParamError
from anbn.stats import timeseries


def check(n_times, *, n_folds, gap, tr, delays, runs=None):
    """Whether a story is long enough for its folds, those inside them, and delays.

    Parameters
    ----------
    n_times : int
        Volumes that are used: without those of ``leave_out_start``.
    n_folds, gap, tr, delays, runs
        As for ``encoding.encode``.

    Raises
    ------
    ParamError
        Names the parameter and what would do.
    """
    shortest = min(runs or [n_times])
    if not delays or max(delays) >= shortest:
        raise ParamError(
            f"delays: expected one or more from 0 to {shortest - 1} volumes, as the "
            f"shortest run has {shortest}; found {delays}"
        )
    volumes = gap_volumes(gap, tr, delays)
    try:
        run = run_of(n_times, runs)
        for train, _ in contiguous_folds(n_times, n_folds, volumes, runs):
            folds_within(train, run[train], n_folds, volumes)
    except ValueError as error:
        raise ParamError(
            f"n_folds {n_folds}, gap {gap:g} s: {error}. The story has {n_times} "
            f"volumes of {tr:g} s{f' in runs of {runs}' if runs else ''}: lower "
            "n_folds, gap or leave_out_start, or take a longer story."
        ) from error


def contiguous_folds(n_times, n_folds, gap, runs=None):
    """Folds of consecutive volumes; the training set keeps ``gap`` volumes away.

    Parameters
    ----------
    n_times, n_folds, gap : int
    runs : sequence of int, optional
        Volumes of each run. With two runs or more each run is a fold, whatever
        ``n_folds``: between runs there is neither a response nor noise to leak.

    Returns
    -------
    folds : list of (train, test) int arrays
    """
    return folds_within(np.arange(n_times), run_of(n_times, runs), n_folds, gap)


def run_of(n_times, runs):
    """Run of every volume; ``runs`` holds their lengths, None for one."""
    spans = timeseries.spans(n_times, runs or ())
    return np.repeat(np.arange(len(spans)), [run.stop - run.start for run in spans])


def folds_within(times, run, n_folds, gap):
    """Folds of some of the volumes (ascending), as rows of ``times``."""
    if run[0] != run[-1]:
        tests = [np.flatnonzero(run == k) for k in np.unique(run)]
    else:
        tests = np.array_split(np.arange(len(times)), n_folds)
    folds = []
    for test in tests:
        far = np.ones(len(times), bool)
        if len(test):  # a training set has a hole: distances are those in time
            near = np.abs(times[:, None] - times[test]).min(1) <= gap
            far = ~near | (run != run[test[0]])
        if min(far.sum(), len(test)) < 3:
            raise ValueError(
                f"{len(times)} volumes are too few for {len(tests)} folds with a gap "
                f"of {gap}: use fewer folds or a smaller gap"
            )
        folds.append((np.flatnonzero(far), test))
    return folds


def gap_volumes(gap, tr, delays=(0,)):
    """Volumes to leave out so that training features hold no words of the test set.

    Parameters
    ----------
    gap : float
        s, as long as the response in the features (``hrf.HRF_LENGTH``).
    tr : float
        s.
    delays : sequence of int
        Delayed features reach back by as many volumes more.
    """
    return int(np.ceil(round(gap / tr, 9))) + max(delays)


def delayed(features, delays, runs=None):
    """Features as they were some volumes ago; zeros where a run had not begun.

    Parameters
    ----------
    features : array of shape (n_times, n_features)
    delays : sequence of int
        In volumes, not negative.
    runs : sequence of int, optional
        Volumes of each run.

    Returns
    -------
    delayed : array of shape (n_times, n_delays * n_features)
        One delay after another.
    """
    run = run_of(len(features), runs)
    out = np.zeros((len(features), len(delays), features.shape[1]), features.dtype)
    for i, delay in enumerate(delays):
        now = np.arange(delay, len(features))
        now = now[run[now] == run[now - delay]]
        out[now, i] = features[now - delay]
    return out.reshape(len(features), -1)


def mean_delayed(data, delays, runs=None, kept=slice(None)):
    """Mean of ``delayed`` over the delays: a boxcar in place of a response.

    Parameters
    ----------
    data : array of shape (n_times, n_features)
    delays, runs
        As for ``delayed``.
    kept : slice or bool array of shape (n_times,)
        Volumes that are given back, from ``regressors.left_over``.

    Returns
    -------
    mean : array of shape (n_kept, n_features)
    """
    if list(delays) != [0]:
        data = sum(delayed(data, [delay], runs) for delay in delays) / len(delays)
    return data[kept]


def drift_basis(volumes, run, tr, high_pass):
    """Drift of some of the volumes, apart for every stretch without a hole.

    Removing drift over a whole run leaves in every volume a little of all others, test
    and training set alike, which predicts noise from noise.

    Parameters
    ----------
    volumes : int array of shape (n_volumes,)
        Ascending.
    run : int array of shape (n_times,)
    tr, high_pass : float
        s; without ``high_pass`` the basis is empty.

    Returns
    -------
    basis : array of shape (n_volumes, n_kept)
    """
    if high_pass is None:
        return np.empty((len(volumes), 0))
    breaks = (np.diff(volumes) != 1) | (np.diff(run[volumes]) != 0)
    stretches = np.split(volumes, np.flatnonzero(breaks) + 1)
    drift = regressors.run_drift([len(s) for s in stretches], tr, high_pass)
    return timeseries.orthonormal(drift)


def standardise(data, train, test, basis):
    """Training and test rows by the mean and variance of the training rows.

    Parameters
    ----------
    data : array of shape (n_times, n_columns)
    train, test : int arrays
    basis : array of shape (n_train, n_kept)
        Drift of the training rows (``drift_basis``), which they lose first.

    Returns
    -------
    fitted : float32 array of shape (n_train, n_columns)
    left : float32 array of shape (n_test, n_columns)
        Each row by itself. Constant columns give zeros in both.
    """
    rows = np.array(data[train], np.float32)
    mean = rows.mean(0, dtype=float).astype(np.float32)
    rows -= mean
    largest = np.abs(mean) + _size(rows)
    rows = timeseries.residuals(rows, basis)
    sd = _size(rows)
    sd[sd <= 1e-6 * largest] = np.inf
    rows /= sd
    left = np.array(data[test], np.float32)
    left -= mean
    left /= sd
    return rows, left


def _size(data):
    """Root mean square of every column, without a copy of the data."""
    return np.sqrt(_products(data, data) / len(data))


def score(measured, predicted, basis):
    """Pearson r and split R2, both without the test set's mean and drift.

    As ``correlation_score`` and ``r2_score_split`` of himalaya, from the same three
    sums of products: with y measured, p_k predicted by a band and p by all::

        r = y'p / sqrt(y'y p'p)      split_k = (2 y'p_k - p_k'p) / y'y

    Parameters
    ----------
    measured : array of shape (n_test, n_voxels)
    predicted : array of shape (n_bands, n_test, n_voxels)
    basis : array of shape (n_test, n_kept)
        Drift of the test rows.

    Returns
    -------
    r : array of shape (n_voxels,)
    split : array of shape (n_bands, n_voxels)
        Both 0 for a constant voxel, r also for a constant prediction.
    """
    y = _deviations(measured, basis)
    bands = [_deviations(band, basis) for band in predicted]
    p = bands[0] if len(bands) == 1 else sum(bands)
    yy, pp, yp = _products(y, y), _products(p, p), _products(y, p)
    yy, pp = (np.where(x > 0, x, np.float32(np.inf)) for x in (yy, pp))
    split = [(2 * _products(y, band) - _products(band, p)) / yy for band in bands]
    return yp / np.sqrt(yy) / np.sqrt(pp), np.stack(split)


def _products(a, b):
    return np.einsum("ij,ij->j", a, b)


def _deviations(data, basis):
    mean = data.mean(0)
    data = data - mean
    largest = np.abs(mean) + _size(data)
    data = timeseries.residuals(data, basis)
    data[:, _size(data) <= 1e-5 * largest] = 0  # what rounding leaves of a constant
    return data
