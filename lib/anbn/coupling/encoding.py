"""Encoding models: how well features predict BOLD in time that was held out."""

from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from himalaya.kernel_ridge import generate_dirichlet_samples
from himalaya.ridge import GroupRidgeCV, RidgeCV
from tqdm import tqdm

from anbn.brain import intersubject
from anbn.brain.hrf import HRF_LENGTH
from anbn.core import artifacts, workers
from anbn.coupling.folds import (
    contiguous_folds,
    delayed,
    drift_basis,
    folds_within,
    gap_volumes,
    run_of,
    score,
    standardise,
)
from anbn.stats import inference, surrogates, timeseries

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
    r_subjects: np.ndarray | None = None  # (n_subjects, n_voxels), if asked for


def encode(
    bands,
    bold,
    *,
    subjects=(),
    tr,
    n_folds=5,
    gap=HRF_LENGTH,
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
    subjects : list of arrays of shape (n_times, n_voxels)
        People to score as well: what is fitted to ``bold``, their mean, in training
        time predicts each of them in test time. One person's own weights would be
        noisier; these tell nothing of how people differ.
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
    single = np.zeros((len(subjects), shape[2]), np.float32)
    for begin in range(0, shape[2], n_targets_batch):
        batch = slice(begin, begin + n_targets_batch)
        some = np.asarray(bold[:, batch], np.float32)
        for i, (train, test) in enumerate(folds):
            measured, predicted = predict_fold(features, some, train, test, **options)
            basis = drift_basis(test, options["run"], tr, high_pass)
            r[i, batch], split[i][:, batch] = score(measured, predicted, basis)
            for one, subject in zip(single, subjects, strict=True):
                own = np.asarray(subject[test, batch], np.float32)
                one[batch] += score(own, predicted, basis)[0] / len(folds)
    split = split.mean(0)
    single = single if len(subjects) else None
    return Scores(r.mean(0), r, split.sum(0), split, names, single)


def encode_subjects(bands, subjects, *, n_targets_batch=50_000, client=None, **options):
    """``encode`` of single subjects, as many at a time as make up a batch.

    Parameters
    ----------
    bands
        As for ``encode``.
    subjects : list of arrays of shape (n_times, n_voxels)
        May be mapped from files.
    n_targets_batch, options
        Of ``encode``.
    client : distributed.Client, optional
        See ``workers.each``: a batch at a time on each worker.

    Returns
    -------
    r : array of shape (n_subjects, n_voxels)
    """
    n_voxels = subjects[0].shape[1]
    together, r = max(1, n_targets_batch // n_voxels), []
    options["n_targets_batch"] = n_targets_batch
    begins = range(0, len(subjects), together)
    batches = (np.hstack(subjects[begin : begin + together]) for begin in begins)
    found = workers.each(partial(_encode_r, **options), batches, client, shared=[bands])
    quiet = {"mininterval": 5, "disable": len(begins) < 2}
    with closing(found):
        for one in tqdm(found, "subjects", len(begins), **quiet):
            r.append(one.reshape(-1, n_voxels))
    return np.concatenate(r)


def _encode_r(bold, bands, **options):
    return encode(bands, bold, **options).r


@dataclass(frozen=True)
class SetScores:
    """Held-out r of several sets of features.

    Attributes
    ----------
    draws : dict of arrays of shape (n_draws, n_voxels)
        Of the group's mean: by set, a row a draw of it.
    people : dict of arrays of shape (n_subjects, n_voxels)
        Of single subjects, means over draws.
    """

    draws: dict
    people: dict

    @property
    def group(self):
        """Scores of the group, means over draws: dict of arrays (n_voxels,)."""
        return {name: draws.mean(0) for name, draws in self.draws.items()}


def encode_sets(
    sets,
    bold,
    subjects,
    *,
    subject_weights,
    people_of=None,
    client=None,
    tr,
    n_folds,
    gap,
    high_pass,
    runs,
    delays,
    n_iter,
    random_state,
):
    """``encode`` of the group and of its people, over sets of features.

    Parameters
    ----------
    sets : dict of lists of bands
        By name; several bands (see ``encode``) are draws of one set, as models with
        random weights are, or lags of a rolled story.
    bold : array of shape (n_times, n_voxels)
        Of the group.
    subjects : list of arrays of shape (n_times, n_voxels)
    subject_weights : {"group", "own"}
        People are predicted with weights fitted to the group's mean (all sets), or to
        each of them alone (the sets in ``people_of``).
    people_of : sequence of str, optional
        All sets, if left out.
    client
        For ``own``, see ``encode_subjects``.
    tr, n_folds, gap, high_pass, runs, delays, n_iter, random_state
        Of ``encode``.

    Returns
    -------
    scores : SetScores
    """
    options = {
        "tr": tr,
        "n_folds": n_folds,
        "gap": gap,
        "high_pass": high_pass,
        "runs": runs,
        "delays": delays,
        "n_iter": n_iter,
        "random_state": random_state,
    }
    own = subject_weights == "own"
    told = set(sets if people_of is None else people_of)
    draws, people = {}, {}
    for name, several in sets.items():
        found = [
            encode(bands, bold, subjects=[] if own else subjects, **options)
            for bands in several
        ]
        draws[name] = np.stack([one.r for one in found])
        if not own:
            people[name] = np.mean([one.r_subjects for one in found], axis=0)
        elif name in told:
            each = [
                encode_subjects(bands, subjects, client=client, **options)
                for bands in several
            ]
            people[name] = np.mean(each, axis=0)
    return SetScores(draws, people)


def write_scores(path, scores, *, ceiling):
    """Write scores as one npz file, an array a set by its ``artifacts.slug``.

    Parameters
    ----------
    path : path-like
    scores : dict of arrays of shape (n_voxels,)
        By name of the set.
    ceiling : array of shape (n_voxels,)
        Gets the name ``ceiling``.
    """
    named = {artifacts.slug(name): values for name, values in scores.items()}
    artifacts.write_arrays(path, **named, ceiling=ceiling)


def gain_over_shifts(
    base, bands, bold, *, n_draws, rng, run_lengths=(), level=0.05, **options
):
    """Whether features predict a network beyond others, and beyond a rolled story.

    ::

        gain = held-out r of base and bands - held-out r of base
        null = the same with the bands rolled in time (``surrogates.draw``, shift)

    A gain above 0 over subjects is no proof: all heard one story, whose chance likeness
    to any slow features comes back in each. Rolled features are as many, as slow and as
    alike; p is family-wise over networks, each in units of its own null
    (``inference.max_p``), as the least predictable one would else set the limit.

    Parameters
    ----------
    base, bands : dict of arrays of shape (n_times, n_features)
        Feature spaces as for ``encode``; those of ``bands`` are rolled together.
    bold : array of shape (n_times, n_networks)
    n_draws : int
    rng : numpy Generator
    run_lengths : sequence of int
        Volumes of each run, () for one; each is rolled on its own.
    level : float
    options
        Of ``encode``.

    Returns
    -------
    table : DataFrame, a row a network
        ``r``, ``r_base``, ``gain``, the mean of its null ``null_mean`` and the
        ``null_95`` that 5 % exceed (1 - level), and ``p``, no less than
        ``surrogates.least_p``.
    """
    r_base = encode(base, bold, **options).r
    r = encode({**base, **bands}, bold, **options).r
    widths = np.cumsum([band.shape[1] for band in bands.values()])[:-1]
    together, null = np.hstack(list(bands.values())), []
    for _ in tqdm(range(n_draws), "rolled stories", mininterval=5):
        drawn = surrogates.draw_one(
            together, rng, null_method="shift", run_lengths=run_lengths
        )
        parts = np.split(drawn.astype(np.float32), widths, axis=1)
        rolled = dict(zip(bands, parts, strict=True))
        null.append(encode({**base, **rolled}, bold, **options).r - r_base)
    null, gain = np.stack(null), r - r_base
    least = surrogates.least_p(n_draws, n_times=len(together), run_lengths=run_lengths)
    p = inference.max_p([*np.concatenate([gain[None], null]).T])
    return pd.DataFrame(
        {
            "r": r,
            "r_base": r_base,
            "gain": gain,
            "null_mean": null.mean(0),
            "null_95": np.quantile(null, 1 - level, axis=0),
            "p": np.maximum(p, least),
        }
    )


def ceilings(
    subjects,
    *,
    tr,
    n_folds=5,
    gap=HRF_LENGTH,
    high_pass=128.0,
    runs=None,
):
    """What a perfect model could score: noise ceilings in the test sets of ``encode``.

    Correlations between subjects are taken where scores are: in each test set, without
    its own mean and drift, mean over folds. Over whole runs they would be those of
    other volumes, and of slower signals.

    Parameters
    ----------
    subjects : list of arrays of shape (n_times, n_voxels)
        May be mapped from files: they are gone through one by one.
    tr, n_folds, gap, high_pass, runs
        As for ``encode``.

    Returns
    -------
    group : array of shape (n_voxels,)
        Of the subjects' mean (``intersubject.ceiling_of``).
    single : array of shape (n_subjects, n_voxels)
        Of each subject: r with the mean of the others, divided by the ceiling of that
        mean, as a model may know better than it; 0 where subjects do not correlate.
        Both are NaN for a single subject: nobody is there to share anything with.
    """
    n_times = len(subjects[0])
    if len(subjects) < 2:
        unknown = np.full(subjects[0].shape[1:], np.nan)
        return unknown, unknown[None]
    run = run_of(n_times, runs)
    rho, single = [], []
    for _, test in contiguous_folds(n_times, n_folds, gap_volumes(gap, tr), runs):
        basis = drift_basis(test, run, tr, high_pass)
        parts = [timeseries.residuals(np.asarray(s)[test], basis) for s in subjects]
        rho.append(intersubject.pair_correlation(parts))
        single.append(intersubject.correlation(parts))
    rho, single = np.mean(rho, 0), np.mean(single, 0)
    of_others = intersubject.ceiling_of(rho, len(subjects) - 1)
    single /= np.where(of_others > 0, of_others, np.inf)
    return intersubject.ceiling_of(rho, len(subjects)), single.clip(-1, 1)


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
    inner = folds_within(train, run[train], n_folds, gap)
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
    gap=HRF_LENGTH,
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
