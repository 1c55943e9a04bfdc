"""Encoding models: how well features predict BOLD in time that was held out."""

from dataclasses import dataclass

import numpy as np
from himalaya.kernel_ridge import generate_dirichlet_samples
from himalaya.ridge import GroupRidgeCV, RidgeCV
from tqdm import tqdm

from anbn import hemodynamics
from anbn.folds import (
    contiguous_folds,
    delayed,
    drift_basis,
    gap_volumes,
    held_out,
    run_of,
    score,
    standardise,
)

ALPHAS = np.logspace(0, 5, 6)
BLOCK = 2**21  # numbers in the largest array that himalaya makes at once (8 MiB)


@dataclass(frozen=True)
class Scores:
    """Scores in held-out time, means over folds where not said otherwise."""

    r: np.ndarray  # (n_voxels,), Pearson
    r_folds: np.ndarray  # (n_folds, n_voxels)
    r2: np.ndarray  # (n_voxels,)
    split: np.ndarray  # (n_bands, n_voxels), adds up to r2
    bands: tuple  # names


def encode(
    bands,
    bold,
    *,
    tr,
    n_folds=5,
    gap=hemodynamics.HRF_LENGTH,
    high_pass=128.0,
    runs=None,
    alphas=ALPHAS,
    n_iter=10,
    delays=(0,),
    random_state=0,
    n_targets_batch=100_000,
):
    """Cross-validated ridge encoding of every voxel or network (himalaya).

    One band is ridge, several are banded ridge: inside each training set, contiguous
    folds with the same gap (or runs) choose for every voxel the penalty and the bands'
    relative weights, so that a useless band costs little. Drift, means and variances
    are those of the training set; the test set loses its own drift when it is scored.

    Parameters
    ----------
    bands : dict of arrays of shape (n_times, n_features)
        Feature spaces by name; each has a penalty of its own.
    bold : array of shape (n_times, n_voxels)
        May be mapped from a file, with the subjects side by side.
    tr : float
        s.
    n_folds : int
        Outer folds, and as many inner ones.
    gap : float
        s between training and test set, see ``gap_volumes``.
    high_pass : float or None
        s; cosines slower than this are removed within every stretch of the training
        and of the test set, also where they were removed over the whole run before:
        that ties test to training volumes (see ``drift_basis``). None: nothing.
    runs : sequence of int, optional
        Volumes of each run, for leaving one run out.
    alphas : array
        Penalties to choose from.
    n_iter : int
        Random band weights to choose from.
    delays : sequence of int
        Volumes by which features are delayed, for features without a response.
    random_state : int
        Of the band weights.
    n_targets_batch : int
        Voxels at a time, bounds the memory: at most about
        (5 * n_times + 2 * n_features) * batch * 4 bytes.

    Returns
    -------
    scores : Scores
        A constant voxel or prediction scores 0. R2 is that of the deviations from the
        test set's mean and drift; ``split`` is by the product measure
        (himalaya's ``r2_score_split``).
    """
    _check(bands, bold)
    names = tuple(bands)
    features = [delayed(np.asarray(bands[name]), delays, runs) for name in names]
    gap = gap_volumes(gap, tr, delays)
    folds = contiguous_folds(len(bold), n_folds, gap, runs)
    options = {"run": run_of(len(bold), runs), "n_folds": n_folds, "gap": gap}
    options |= {"alphas": alphas, "n_iter": n_iter, "random_state": random_state}
    options |= {"tr": tr, "high_pass": high_pass}
    shape = (len(folds), len(names), bold.shape[1])
    r, split = np.empty((shape[0], shape[2]), np.float32), np.empty(shape, np.float32)
    for begin in range(0, shape[2], n_targets_batch):
        batch = slice(begin, begin + n_targets_batch)
        some = np.asarray(bold[:, batch], np.float32)
        for i, (train, test) in enumerate(folds):
            measured, predicted = predict_fold(features, some, train, test, **options)
            basis = drift_basis(test, options["run"], tr, high_pass)
            r[i, batch], split[i][:, batch] = score(measured, predicted, basis)
    split = split.mean(0)
    return Scores(r.mean(0), r, split.sum(0), split, names)


def encode_subjects(bands, subjects, *, n_targets_batch=50_000, **options):
    """``encode`` of single subjects, as many at a time as make up a batch.

    Parameters
    ----------
    bands
        As for ``encode``.
    subjects : list of arrays of shape (n_times, n_voxels)
        May be mapped from files.
    n_targets_batch, options
        Of ``encode``.

    Returns
    -------
    r : array of shape (n_subjects, n_voxels)
    """
    n_voxels = subjects[0].shape[1]
    together, r = max(1, n_targets_batch // n_voxels), []
    options["n_targets_batch"] = n_targets_batch
    batches, quiet = range(0, len(subjects), together), len(subjects) <= together
    for begin in tqdm(batches, "subjects", mininterval=5, disable=quiet):
        some = np.hstack(subjects[begin : begin + together])
        r.append(encode(bands, some, **options).r.reshape(-1, n_voxels))
    return np.concatenate(r)


def _check(bands, bold):
    for name, band in bands.items():
        if np.ndim(band) != 2 or len(band) != len(bold):
            raise ValueError(
                f"band {name!r} must be (n_times, n_features) with the {len(bold)} "
                f"volumes of bold, found shape {np.shape(band)}"
            )
    if not bands:
        raise ValueError("bands must name at least one array of features, found none")


def predict_fold(
    features,
    bold,
    train,
    test,
    *,
    run,
    n_folds,
    gap,
    tr,
    high_pass,
    alphas,
    n_iter,
    random_state,
):
    """Fit to the training volumes, predict the test volumes band by band.

    Nothing of the test set but its features is used, and those a volume at a time.

    Parameters
    ----------
    features : list of arrays of shape (n_times, n_features)
    bold : array of shape (n_times, n_voxels)
    train, test : int arrays
        Volumes.
    run : int array of shape (n_times,)
        Run of every volume. The rest as for ``encode``, ``gap`` in volumes.

    Returns
    -------
    measured : array of shape (n_test, n_voxels)
    predicted : array of shape (n_bands, n_test, n_voxels)
        Both in units of the training set.
    """
    basis = drift_basis(train, run, tr, high_pass)
    scaled = [standardise(band, train, test, basis) for band in features]
    fitted, measured = standardise(bold, train, test, basis)
    inner = held_out(train, run[train], n_folds, gap)
    n_features = sum(band.shape[1] for band in features)
    largest = max(len(left) for _, left in inner)
    params = {
        "n_targets_batch": max(BLOCK // (len(alphas) * largest), 1),
        "n_targets_batch_refit": max(BLOCK // (len(alphas) * n_features), 1),
        "warn": False,
    }
    if len(features) == 1:
        model = RidgeCV(np.asarray(alphas), cv=inner, solver_params=params)
        model.fit(scaled[0][0], fitted)
        return measured, model.predict(scaled[0][1])[None]
    weights = generate_dirichlet_samples(
        n_iter, len(features), concentration=[0.1, 1.0], random_state=random_state
    )
    weights[0] = 1
    # himalaya divides by them in float32
    weights = np.maximum(weights, 1e-12) / np.maximum(weights, 1e-12).sum(1)[:, None]
    params |= {"alphas": np.asarray(alphas), "n_iter": weights, "progress_bar": False}
    model = GroupRidgeCV("input", solver_params=params, cv=inner)
    model.fit([band[0] for band in scaled], fitted)
    return measured, model.predict([band[1] for band in scaled], split=True)


def previous_volume(
    bold,
    *,
    tr,
    lag=1,
    n_folds=5,
    gap=hemodynamics.HRF_LENGTH,
    high_pass=128.0,
    runs=None,
    n_targets_batch=100_000,
):
    """Baseline that knows no words: each voxel from its own value ``lag`` volumes ago.

    A regression for each voxel, fitted and scored in the folds of ``encode``.

    Parameters
    ----------
    bold : array of shape (n_times, n_voxels)
    lag : int
        Volumes, at least 1. The rest as for ``encode``.

    Returns
    -------
    r : array of shape (n_voxels,)
        Mean over folds.
    """
    if lag < 1:
        raise ValueError(f"lag must be at least 1 volume, found {lag}")
    run = run_of(len(bold), runs)
    folds = contiguous_folds(len(bold), n_folds, gap_volumes(gap, tr), runs)
    known = np.flatnonzero(delayed(np.ones((len(bold), 1)), [lag], runs))
    r = np.zeros(bold.shape[1], np.float32)
    for begin in range(0, bold.shape[1], n_targets_batch):
        batch = slice(begin, begin + n_targets_batch)
        some = np.asarray(bold[:, batch], np.float32)
        before = delayed(some, [lag], runs)
        for rows in folds:
            train, test = (np.intersect1d(part, known) for part in rows)
            basis = drift_basis(train, run, tr, high_pass)
            x, x_test = standardise(before, train, test, basis)
            y, y_test = standardise(some, train, test, basis)
            predicted = (x * y).mean(0) * x_test
            basis = drift_basis(test, run, tr, high_pass)
            r[batch] += score(y_test, predicted[None], basis)[0] / len(folds)
    return r
