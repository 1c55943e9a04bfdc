"""Atoms as fixed regressors of BOLD: the general linear model, one t map an atom.

Source: Sun et al. 2024 (arXiv 2410.19542). The fit and its score are on the same
volumes: beside a cross-validated score (``encoding``), never instead of it.
"""

import numpy as np
from nilearn.glm.first_level import run_glm

from anbn.stats import timeseries


def fixed_regressors(bold, atoms, confounds, *, n_targets_batch=20_000):
    """t map and effect of every atom, all of them and the confounds in one model.

    nilearn's ``run_glm`` with autoregressive noise of first order: white noise makes t
    too large where BOLD is autocorrelated.

    Parameters
    ----------
    bold : array of shape (n_times, n_voxels)
        May be mapped from a file.
    atoms : array of shape (n_times, n_atoms)
    confounds : array of shape (n_times, n_confounds)
        With a constant (``timeseries.drift`` holds one).
    n_targets_batch : int
        Voxels at a time, bounds the memory: about 5 * n_times * batch * 8 bytes.

    Returns
    -------
    t : float32 array of shape (n_atoms, n_voxels)
        0 for a constant voxel.
    effects : float32 array of shape (n_atoms, n_voxels)
        BOLD a unit of the atom.
    """
    _check(bold, atoms, confounds)
    basis = timeseries.orthonormal(confounds)
    _check_rank(atoms, basis)
    t, effects = np.empty((2, atoms.shape[1], bold.shape[1]), np.float32)
    for begin in range(0, bold.shape[1], n_targets_batch):
        batch = slice(begin, begin + n_targets_batch)
        some = np.asarray(bold[:, batch], float)
        t[:, batch], effects[:, batch] = _autoregressive(some, atoms, basis)
    return t, effects


def _check(bold, atoms, confounds):
    if not len(bold) == len(atoms) == len(confounds):
        raise ValueError(
            "bold, atoms and confounds must have the same volumes, found "
            f"{len(bold)}, {len(atoms)} and {len(confounds)}"
        )
    together = np.column_stack([atoms, confounds])
    if len(together) <= together.shape[1]:
        raise ValueError(
            f"{together.shape[1]} atoms and confounds need more volumes than that, "
            f"found {len(together)}: use fewer atoms"
        )


def _autoregressive(bold, atoms, basis):
    """All t maps of one fit; nilearn's ``compute_contrast`` would take one at a time.

    Voxels with the same noise share a result: t = effect / sqrt(cov * dispersion).
    """
    varies = timeseries.zscore(bold).any(0)
    labels, results = run_glm(
        bold[:, varies], np.column_stack([atoms, basis]), noise_model="ar1"
    )
    n_atoms = atoms.shape[1]
    t, effects = np.zeros((2, n_atoms, bold.shape[1]))
    for label, result in results.items():
        voxels = np.flatnonzero(varies)[labels == label]
        effect = result.theta[:n_atoms]
        variance = np.outer(np.diag(result.cov)[:n_atoms], result.dispersion)
        effects[:, voxels] = effect
        t[:, voxels] = _ratio(effect, variance)
    return t, effects


def _check_rank(atoms, basis):
    clean = timeseries.residuals(np.asarray(atoms, float), basis)
    size = np.abs(np.diag(np.linalg.qr(clean, mode="r")))
    if size.min() <= 1e-8 * np.linalg.norm(atoms, axis=0).max():
        raise ValueError(
            f"{len(size)} atoms and the confounds are collinear: leave out atoms that "
            "others or the confounds explain"
        )


def _ratio(effects, variance):
    return effects / np.sqrt(
        np.where(variance > 0, variance, variance.dtype.type(np.inf))
    )


def single_regressor_t(bold, atoms, basis):
    """t maps of atoms as the only regressor, one after another: a ``fit`` for overlap.

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
