"""Atoms as fixed regressors of BOLD: the general linear model, one t map an atom.

Source: Sun et al. 2024 (arXiv 2410.19542). The fit and its score are on the same
volumes: beside a cross-validated score (``encoding``), never instead of it.
"""

import numpy as np
from nilearn.glm.first_level import run_glm

from anbn.stats import timeseries

N_VOXELS = 20_000  # at a time, 5 * n_times * 8 bytes each


def fixed_regressors(bold, atoms, confounds):
    """t map of every atom, all of them and the confounds in one model.

    nilearn's ``run_glm`` with autoregressive noise of first order: white noise makes t
    too large where BOLD is autocorrelated. All t of one fit at once, t = effect /
    sqrt(cov * dispersion): its ``compute_contrast`` would take one atom at a time.

    Parameters
    ----------
    bold : array of shape (n_times, n_voxels)
        May be mapped from a file.
    atoms : array of shape (n_times, n_atoms)
    confounds : array of shape (n_times, n_confounds)
        With a constant (``timeseries.drift`` holds one).

    Returns
    -------
    t : float32 array of shape (n_atoms, n_voxels)
        0 for a constant voxel.

    Raises
    ------
    ValueError
        Atoms that others or the confounds explain, as more of them than volumes are.
    """
    basis, n_atoms = timeseries.orthonormal(confounds), atoms.shape[1]
    clean = timeseries.residuals(np.asarray(atoms, float), basis)
    size = np.abs(np.diag(np.linalg.qr(clean, mode="r")))
    full = len(bold) <= n_atoms + basis.shape[1]
    if full or size.min() <= 1e-8 * np.linalg.norm(atoms, axis=0).max():
        raise ValueError(
            f"{n_atoms} atoms and {basis.shape[1]} confounds are collinear in "
            f"{len(bold)} volumes: use fewer atoms (n_atoms) or a longer story"
        )
    t = np.zeros((n_atoms, bold.shape[1]), np.float32)
    for begin in range(0, bold.shape[1], N_VOXELS):
        some = np.asarray(bold[:, begin : begin + N_VOXELS], float)
        varies = np.flatnonzero(timeseries.zscore(some).any(0))
        design = np.column_stack([atoms, basis])
        labels, results = run_glm(some[:, varies], design, noise_model="ar1")
        for label, result in results.items():  # of voxels with the same noise
            variance = np.outer(np.diag(result.cov)[:n_atoms], result.dispersion)
            scale = np.sqrt(np.where(variance > 0, variance, np.inf))
            t[:, begin + varies[labels == label]] = result.theta[:n_atoms] / scale
    return t


def single_regressor_t(bold, atoms, basis):
    """t maps of atoms as the only regressor, one after another: fast enough for nulls.

    In one model (``fixed_regressors``) t is what an atom adds to all others, which is
    little where atoms resemble each other.

    Parameters
    ----------
    bold : array of shape (n_times, n_voxels)
    atoms : array of shape (n_times, n_atoms)
    basis : array of shape (n_times, n_kept)
        Confounds with a constant in their span, from ``timeseries.orthonormal``;
        removed from both.

    Returns
    -------
    t : array of shape (n_atoms, n_voxels)
    """
    freedom = len(bold) - basis.shape[1] - 1
    unit = timeseries.zscore(timeseries.residuals(np.asarray(atoms, float), basis))
    explained = ((basis.T.astype(bold.dtype) @ bold) ** 2).sum(0)
    squares = (bold**2).sum(0)
    left = squares - explained
    left[left <= 1e-5 * squares] = 0  # what rounding leaves
    length = np.sqrt(left * len(bold))
    r = unit.T.astype(bold.dtype) @ bold / np.where(length > 0, length, np.inf)
    return r * np.sqrt(freedom / np.maximum(1 - r**2, 1e-6))
