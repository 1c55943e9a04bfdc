"""Functional networks of any (samples x units) matrix: voxels of a brain or neurons."""

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import FastICA, MiniBatchDictionaryLearning
from sklearn.utils.extmath import randomized_svd

from anbn import hemodynamics


@dataclass(frozen=True)
class Decomposition:
    """Networks of a matrix (n_samples x n_units), strongest first."""

    networks: np.ndarray  # (n_networks, n_units), z-scored over units, skew positive
    timecourses: np.ndarray  # (n_samples, n_networks), unit variance
    explained: np.ndarray  # (n_networks,), share of the matrix's variance


def ica(data, n_networks, *, random_state, max_iter=500, tol=1e-4):
    """Independent component analysis over samples, with signs and order fixed.

    The matrix is reduced by a randomised SVD to ``n_networks`` dimensions and rotated
    by scikit-learn's FastICA: the components are those of FastICA on the whole matrix.
    Networks are the z-scored rows of the transposed mixing matrix (Liu et al. 2025,
    arXiv 2502.20408); a network whose weights are skewed to the negative is flipped
    with its time course, so that thresholds do not depend on ICA's arbitrary sign.

    Parameters
    ----------
    data : array of shape (n_samples, n_units)
    n_networks : int
    random_state : int

    Returns
    -------
    decomposition : Decomposition
    """
    data = np.asarray(data, np.float32)
    n_samples, n_units = data.shape
    if not 2 <= n_networks <= min(data.shape):
        raise ValueError(
            f"n_networks must lie in 2 to {min(data.shape)} for a matrix of "
            f"{n_samples} samples x {n_units} units, found {n_networks}"
        )
    data = data - data.mean(0)
    u, s, vt = randomized_svd(data, n_networks, n_iter=7, random_state=random_state)
    rotation = FastICA(
        whiten="unit-variance", random_state=random_state, max_iter=max_iter, tol=tol
    )
    timecourses = rotation.fit_transform((u * s).astype(np.float64))
    mixing = rotation.mixing_.T @ vt  # (n_networks, n_units)
    explained = (mixing**2).sum(1) / (data.astype(np.float64) ** 2).sum() * n_samples
    order = np.argsort(-explained)
    signs = _skew_sign(mixing)
    weights = hemodynamics.zscore((mixing * signs[:, None]).T).T
    return Decomposition(
        weights[order], (timecourses * signs)[:, order], explained[order]
    )


def _skew_sign(weights):
    centred = weights - weights.mean(1, keepdims=True)
    return np.where((centred**3).sum(1) < 0, -1.0, 1.0)


def threshold(networks, alpha, *, two_sided=False):
    """Units that belong to each network: z > alpha, or |z| > alpha if two-sided.

    Returns
    -------
    members : bool array of shape (n_networks, n_units)
    """
    return (np.abs(networks) if two_sided else networks) > alpha


def atoms(responses, n_atoms, *, alpha, random_state, n_epochs=2):
    """Dictionary of response time courses and the neurons' sparse codes on it.

    Online dictionary learning (Mairal et al. 2009; scikit-learn) with the neurons as
    samples, as in Sun et al. 2024 (arXiv 2410.19542, 64 atoms)::

        responses ~ atoms @ codes,  sparse codes (L1 penalty alpha)

    Parameters
    ----------
    responses : array of shape (n_times, n_neurons)
    n_atoms : int
    alpha : float
        L1 penalty for responses of unit norm; the published value is not known.
    random_state : int
    n_epochs : int
        Passes over the neurons.

    Returns
    -------
    atoms : array of shape (n_times, n_atoms)
        Unit norm, the most used first.
    codes : array of shape (n_atoms, n_neurons)
    """
    samples = hemodynamics.zscore(responses).T / np.sqrt(len(responses))
    alive = np.flatnonzero(np.abs(samples).sum(1) > 0)
    learner = MiniBatchDictionaryLearning(
        n_atoms,
        alpha=alpha,
        batch_size=512,
        max_iter=n_epochs,
        fit_algorithm="cd",
        transform_algorithm="lasso_cd",
        transform_alpha=alpha,
        transform_max_iter=20000,
        random_state=random_state,
    )
    codes = np.zeros((n_atoms, len(samples)), np.float32)
    codes[:, alive] = learner.fit_transform(samples[alive]).T
    order = np.argsort(-np.abs(codes).sum(1))
    return learner.components_[order].T, codes[order]
