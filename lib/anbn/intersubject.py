"""Several subjects: what they share, and group networks in each of them."""

import numpy as np
from nilearn.masking import apply_mask

from anbn import hemodynamics


def correlation(bold):
    """Leave-one-out inter-subject correlation.

    Parameters
    ----------
    bold : array of shape (n_subjects, n_times, n_voxels)

    Returns
    -------
    isc : array of shape (n_subjects, n_voxels)
        Pearson r of each subject with the mean of the others (z-scored first).
    """
    z = hemodynamics.zscore(np.moveaxis(np.asarray(bold, float), 0, 1))
    total = z.sum(1, keepdims=True)
    others = hemodynamics.zscore(total - z)
    return (z * others).mean(0)


def group_noise_ceiling(bold):
    """Highest correlation any model can be expected to reach with the group's mean.

    ::

        rho = mean correlation of two subjects
        ceiling = sqrt(n rho / (1 + (n - 1) rho))      Spearman-Brown

    Parameters
    ----------
    bold : array of shape (n_subjects, n_times, n_voxels)

    Returns
    -------
    ceiling : array of shape (n_voxels,)
        0 where subjects do not correlate positively.
    """
    z = hemodynamics.zscore(np.moveaxis(np.asarray(bold, float), 0, 1))
    n = z.shape[1]
    rho = (z.sum(1).var(0) / n - 1) / (n - 1)
    rho = rho.clip(min=0)
    return np.sqrt(n * rho / (1 + (n - 1) * rho))


def lagged_correlation(timecourses, regressor, lags):
    """Correlation of time courses with a regressor some volumes before them.

    Parameters
    ----------
    timecourses : array of shape (n_times, n_networks)
    regressor : array of shape (n_times,)
    lags : int array of shape (n_lags,)
        Volumes by which the time courses lag; what has no partner is cut off.

    Returns
    -------
    r : array of shape (n_lags, n_networks)
    """
    z, n = hemodynamics.zscore, len(regressor)
    pairs = [
        (timecourses[max(0, k) : n + min(0, k)], regressor[max(0, -k) : n - max(0, k)])
        for k in lags
    ]
    return np.stack(
        [z(later).T @ z(earlier) / len(earlier) for later, earlier in pairs]
    )


def read_maps(folder):
    """Maps of stage 02 as an array (n_networks, n_voxels), from its data folder."""
    return apply_mask(str(folder / "maps.nii.gz"), str(folder / "mask.nii.gz"))


def subject_timecourses(bold, maps):
    """Time courses of group maps in each subject: spatial regression.

    The first step of dual regression: each volume is regressed on all maps at once.

    Parameters
    ----------
    bold : array of shape (n_subjects, n_times, n_voxels)
    maps : array of shape (n_networks, n_voxels)

    Returns
    -------
    timecourses : array of shape (n_subjects, n_times, n_networks)
    """
    design = np.column_stack([maps.T, np.ones(maps.shape[1])])
    return (bold @ np.linalg.pinv(design).T)[..., :-1]
