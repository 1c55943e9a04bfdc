"""Atoms as fixed regressors of BOLD: the general linear model, one t map an atom.

Source: Sun et al. 2024 (arXiv 2410.19542). The fit and its score are on the same
volumes: beside a cross-validated score (``encoding``), never instead of it.
"""

import numpy as np
import scipy.linalg
from nilearn.glm.first_level import run_glm

from anbn.stats import timeseries

NOISE_MODELS = ("ar1", "ols")


def fixed_regressors(
    bold, atoms, confounds, *, noise_model="ar1", n_targets_batch=20_000
):
    """t map and effect of every atom, all of them and the confounds in one model.

    Parameters
    ----------
    bold : array of shape (n_times, n_voxels)
        May be mapped from a file.
    atoms : array of shape (n_times, n_atoms)
    confounds : array of shape (n_times, n_confounds)
        With a constant (``timeseries.drift`` holds one).
    noise_model : {"ar1", "ols"}
        nilearn's ``run_glm`` with autoregressive noise of first order; or white noise,
        by one projection for all voxels, which gives the same as nilearn's "ols". White
        noise makes t too large where BOLD is autocorrelated: take a null of t maps.
    n_targets_batch : int
        Voxels at a time, bounds the memory: about 5 * n_times * batch * 8 bytes.

    Returns
    -------
    t : float32 array of shape (n_atoms, n_voxels)
        0 for a constant voxel.
    effects : float32 array of shape (n_atoms, n_voxels)
        BOLD a unit of the atom.
    """
    if noise_model not in NOISE_MODELS:
        raise ValueError(
            f"noise_model must be one of {NOISE_MODELS}, found {noise_model!r}"
        )
    _check(bold, atoms, confounds)
    basis = timeseries.orthonormal(confounds)
    _triangular(atoms, basis)  # collinear atoms have no t maps in either model
    t, effects = np.empty((2, atoms.shape[1], bold.shape[1]), np.float32)
    for begin in range(0, bold.shape[1], n_targets_batch):
        batch = slice(begin, begin + n_targets_batch)
        some = np.asarray(bold[:, batch], float)
        if noise_model == "ar1":
            t[:, batch], effects[:, batch] = _autoregressive(some, atoms, basis)
        else:
            clean = without_confounds(some, basis)
            t[:, batch], effects[:, batch] = white_noise(clean, atoms, basis)
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


def without_confounds(bold, basis):
    """BOLD as ``white_noise`` takes it: without confounds, constant voxels 0.

    Parameters
    ----------
    bold : array of shape (n_times, n_voxels)
    basis : array of shape (n_times, n_kept)
        From ``timeseries.orthonormal``.

    Returns
    -------
    clean : array of shape (n_times, n_voxels)
    """
    return np.where(timeseries.zscore(bold).any(0), timeseries.remove(bold, basis), 0)


def white_noise(clean, atoms, basis, squares=None):
    """t maps by ordinary least squares: a matrix product or two for all voxels.

    For many sets of atoms (surrogates), with the same BOLD made ready once.

    Parameters
    ----------
    clean : array of shape (n_times, n_voxels)
        From ``without_confounds``; float32 is twice as fast.
    atoms : array of shape (n_times, n_atoms)
    basis : array of shape (n_times, n_kept)
        Confounds, with a constant in their span.
    squares : array of shape (n_voxels,), optional
        ``(clean**2).sum(0)``, to save that in a loop.

    Returns
    -------
    t, effects : arrays of shape (n_atoms, n_voxels)
    """
    q, r = _triangular(atoms, basis)
    along = q.T.astype(clean.dtype) @ clean
    squares = (clean**2).sum(0) if squares is None else squares
    freedom = len(clean) - basis.shape[1] - atoms.shape[1]
    noise = np.maximum(squares - (along**2).sum(0), 0) / freedom
    inverse = scipy.linalg.solve_triangular(r, np.eye(len(r)))
    effects = inverse.astype(clean.dtype) @ along
    variance = np.outer((inverse**2).sum(1).astype(clean.dtype), noise)
    return _ratio(effects, variance), effects


def _triangular(atoms, basis):
    """QR of the atoms without confounds."""
    q, r = np.linalg.qr(timeseries.remove(np.asarray(atoms, float), basis))
    size = np.abs(np.diag(r))
    if size.min() <= 1e-8 * np.linalg.norm(atoms, axis=0).max():
        raise ValueError(
            f"{len(size)} atoms and the confounds are collinear: leave out atoms that "
            "others or the confounds explain"
        )
    return q, r


def _ratio(effects, variance):
    return effects / np.sqrt(
        np.where(variance > 0, variance, variance.dtype.type(np.inf))
    )


def alone(bold, atoms, basis):
    """t maps of atoms as the only regressor, one after another: a ``fit`` for overlap.

    In one model (``white_noise``) t is what an atom adds to all others, which is
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
    unit = timeseries.zscore(timeseries.remove(np.asarray(atoms, float), basis))
    explained = ((basis.T.astype(bold.dtype) @ bold) ** 2).sum(0)
    squares = (bold**2).sum(0)
    left = squares - explained
    left[left <= 1e-5 * squares] = 0  # what rounding leaves
    length = np.sqrt(left * len(bold))
    r = unit.T.astype(bold.dtype) @ bold / np.where(length > 0, length, np.inf)
    return r * np.sqrt(freedom / np.maximum(1 - r**2, 1e-6))
