"""Encoding models: how well features predict BOLD in time that was held out."""

import numpy as np
from himalaya.ridge import RidgeCV
from sklearn.model_selection import KFold

from anbn import hemodynamics

ALPHAS = np.logspace(0, 6, 13)


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


def encode(features, bold, *, n_folds=5, gap=8, alphas=ALPHAS):
    """Cross-validated ridge encoding of every voxel.

    Outer folds are contiguous with a gap; the penalty of each voxel is chosen inside the
    training set by contiguous folds with the same gap; features and BOLD are standardised
    by the training set.

    Parameters
    ----------
    features : array of shape (n_times, n_features)
    bold : array of shape (n_times, n_voxels)
    n_folds : int
        Outer folds; as many inner ones, on the training set.
    gap : int
        Volumes between training and test sets.

    Returns
    -------
    scores : array of shape (n_voxels,)
        Pearson r of predicted and measured BOLD in held-out time, mean over folds; a
        constant prediction scores 0.
    """
    scores = []
    for train, test in contiguous_folds(len(bold), n_folds, gap):
        mean, sd = features[train].mean(0), features[train].std(0)
        sd = np.where(sd > 0, sd, np.inf)
        target_mean, target_sd = bold[train].mean(0), bold[train].std(0)
        target_sd = np.where(target_sd > 0, target_sd, np.inf)
        # inner folds, on the training set's own clock: the held-out gap is a border too
        inner = contiguous_folds(len(train), n_folds, gap)
        model = RidgeCV(alphas=alphas, cv=inner, fit_intercept=False)
        model.fit(
            ((features[train] - mean) / sd).astype(np.float32),
            ((bold[train] - target_mean) / target_sd).astype(np.float32),
        )
        predicted = model.predict(((features[test] - mean) / sd).astype(np.float32))
        z = hemodynamics.zscore
        scores.append((z(predicted) * z(bold[test])).mean(0))
    return np.mean(scores, axis=0)
