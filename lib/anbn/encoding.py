"""Encoding models: how well features predict BOLD in time that was held out."""

import numpy as np
from himalaya.ridge import GroupRidgeCV
from sklearn.model_selection import KFold

from anbn import hemodynamics

ALPHAS = np.logspace(-1, 5, 13)


def contiguous_folds(n_times, n_folds, gap):
    """Folds of consecutive volumes; the training set keeps ``gap`` volumes away.

    Returns
    -------
    folds : list of (train, test) int arrays
    """
    folds = []
    for _, test in KFold(n_folds).split(np.arange(n_times)):
        far = np.arange(n_times)
        far = far[(far < test[0] - gap) | (far > test[-1] + gap)]
        if min(len(far), len(test)) < 3:
            raise ValueError(
                f"{n_times} volumes are too few for {n_folds} folds with a gap of {gap}"
            )
        folds.append((far, test))
    return folds


def encode(bands, bold, *, n_folds=5, gap=8, alphas=ALPHAS, n_iter=10, random_state=0):
    """Cross-validated banded ridge encoding of every voxel (himalaya).

    Outer folds are contiguous with a gap. Inside the training set, contiguous folds
    with the same gap choose for every voxel the penalty and the bands' relative
    weights, so that a useless band costs little; features and BOLD are standardised by
    the training set.

    Parameters
    ----------
    bands : list of arrays of shape (n_times, n_features)
        Each has a penalty of its own; one band is plain ridge.
    bold : array of shape (n_times, n_voxels)
    n_folds : int
        Outer folds; as many inner ones.
    gap : int
        Volumes between training and test sets.
    alphas : array
        Penalties to choose from.
    n_iter : int
        Random band weights to choose from.
    random_state : int
        Of the band weights.

    Returns
    -------
    scores : array of shape (n_voxels,)
        Pearson r of predicted and measured BOLD in held-out time, mean over folds; a
        constant prediction scores 0.
    """
    scores = []
    for train, test in contiguous_folds(len(bold), n_folds, gap):
        scaled = [_standardise(band, train) for band in bands]
        model = GroupRidgeCV(
            groups="input",
            cv=contiguous_folds(len(train), n_folds, gap),
            solver_params={
                "alphas": np.asarray(alphas),
                "n_iter": n_iter if len(bands) > 1 else 1,
                "progress_bar": False,
            },
            random_state=random_state,
        )
        model.fit([band[train] for band in scaled], _standardise(bold, train)[train])
        predicted = model.predict([band[test] for band in scaled])
        z = hemodynamics.zscore
        scores.append((z(predicted) * z(bold[test])).mean(0))
    return np.mean(scores, axis=0)


def _standardise(data, train):
    """Zero mean and unit variance in the training set; constant columns give zeros."""
    sd = data[train].std(0)
    return ((data - data[train].mean(0)) / np.where(sd > 0, sd, np.inf)).astype(
        np.float32
    )
