"""Functional networks of any (samples x units) matrix: voxels of a brain or neurons."""

import warnings
from dataclasses import dataclass

import numpy as np
from picard import picard
from scipy import stats
from sklearn.decomposition import FastICA, MiniBatchDictionaryLearning

from anbn import hemodynamics


@dataclass(frozen=True)
class Decomposition:
    """Networks of a matrix (n_samples x n_units), strongest first."""

    networks: np.ndarray  # (n_networks, n_units), z-scored over units, skew positive
    timecourses: np.ndarray  # (n_samples, n_networks), unit variance
    explained: np.ndarray  # (n_networks,), share of the matrix's variance
    stability: object = None  # stability.Stability, where it was asked for

    def only(self, kept):
        """Some of the networks (bool array of shape (n_networks,))."""
        return Decomposition(
            self.networks[kept],
            self.timecourses[:, kept],
            self.explained[kept],
            self.stability.of(kept) if self.stability else None,
        )

    def only_stable(self):
        """Without the networks that are not stable.

        Raises
        ------
        ValueError
            If none is stable. Where stability cannot be judged, all are left.
        """
        if self.stability.reason:
            return self
        if not self.stability.stable.any():
            raise ValueError(
                "no network is stable: halves of the data agree by |r| of at most "
                f"{self.stability.halves.max():.2f}, and where nothing is shared by up "
                f"to {self.stability.limit:.2f}. Set only_stable: false, or ask for "
                "another number of networks (see scan)"
            )
        return self.only(self.stability.stable)


def in_order(weights, timecourses, explained):
    """Decomposition with signs and order fixed.

    A network whose weights are skewed to the negative is flipped with its time course,
    so that a threshold does not depend on an arbitrary sign; then networks are sorted
    by explained variance.

    Parameters
    ----------
    weights : array of shape (n_networks, n_units)
    timecourses : array of shape (n_samples, n_networks)
    explained : array of shape (n_networks,)

    Returns
    -------
    decomposition : Decomposition
    """
    centred = weights - weights.mean(1, keepdims=True)
    sign = np.where((centred**3).sum(1) < 0, -1.0, 1.0)
    order = np.argsort(-explained)
    z = hemodynamics.zscore((weights * sign[:, None])[order].T).T
    timecourses = hemodynamics.zscore(timecourses * sign)[:, order]
    return Decomposition(z, timecourses, explained[order])


def ica(
    reduction,
    *,
    over="samples",
    solver="fastica",
    random_state,
    max_iter=500,
    tol=1e-4,
):
    """Independent component analysis of a reduced matrix.

    ``over="samples"`` finds time courses that are independent, as scikit-learn's
    FastICA does for (tokens x neurons) (Liu et al. 2025, arXiv 2502.20408): networks
    are the z-scored rows of the transposed mixing matrix. ``over="units"`` finds maps
    that are independent, as is usual for fMRI (McKeown et al. 1998).

    Parameters
    ----------
    reduction : Reduction
        From ``svd.reduce``: as many networks as it has components.
    over : {"samples", "units"}
    solver : {"fastica", "picard"}
        scikit-learn's FastICA (logcosh), or Picard-O (Ablin et al. 2018), which
        maximises the same function over rotations.
    random_state : int
        Of the first rotation. With FastICA over samples it is that of scikit-learn on
        the whole matrix, but for signs of vectors in which the first unit is near 0.
    max_iter, tol : int, float
        See the solver.

    Returns
    -------
    decomposition : Decomposition
    """
    if over not in ("samples", "units"):
        raise ValueError(f"over must be samples or units, found {over!r}")
    u, s, vt = reduction.u.astype(float), reduction.s, reduction.vt.astype(float)
    options = {"max_iter": max_iter, "tol": tol, "random_state": random_state}
    white, unwhite = _whiten(u if over == "samples" else vt.T)
    rotation = _rotate(white, solver, **options)
    sources, mixing = white @ rotation.T, rotation @ unwhite
    if over == "samples":
        weights, timecourses = mixing * s @ vt, sources
    else:
        weights, timecourses = sources.T, u * s @ mixing.T
    return in_order(
        weights, timecourses, _explained(weights, timecourses, reduction.variance)
    )


def _whiten(rows):
    """White data, and what undoes it: ``rows - mean = white @ unwhite``."""
    n_rows, n = rows.shape
    mean = rows.mean(0)
    if np.allclose(rows.T @ rows - n_rows * np.outer(mean, mean), np.eye(n), atol=1e-4):
        # singular vectors are left as they are, signs and all
        return (rows - mean) * np.sqrt(n_rows), np.eye(n) / np.sqrt(n_rows)
    u, s, vt = np.linalg.svd(rows - mean, full_matrices=False)
    return u * np.sqrt(n_rows), s[:, None] * vt / np.sqrt(n_rows)


def _rotate(white, solver, *, max_iter, tol, random_state):
    """Rotation of white data (n_rows, k) to independent sources."""
    options = {"max_iter": max_iter, "tol": tol, "random_state": random_state}
    with warnings.catch_warnings():
        # what does not converge differs between starts: stability tells
        warnings.filterwarnings("ignore", message=".*did not converge.*")
        if solver == "fastica":
            return FastICA(whiten=False, **options).fit(white).components_
        if solver == "picard":
            return picard(white.T, whiten=False, centering=False, **options)[1]
    raise ValueError(f"solver must be fastica or picard, found {solver!r}")


def _explained(weights, timecourses, variance):
    return (weights**2).sum(1) * timecourses.var(0) / variance


def dictionary(reduction, *, alpha, random_state, n_epochs=10):
    """Networks by sparse dictionary learning in a reduced matrix.

    The time course of every unit, of unit length, is a sparse sum of those of the
    networks (Mairal et al. 2009; scikit-learn)::

        data ~ timecourses @ networks,  sparse networks (L1 penalty alpha)

    Parameters
    ----------
    reduction : Reduction
        From ``svd.reduce``: as many networks as it has components.
    alpha : float
        Penalty, 0 to 1: of 1 or more no unit would belong to any network.
    random_state : int
    n_epochs : int
        Passes over the units.

    Returns
    -------
    decomposition : Decomposition
        Shares of explained variance do not add up where networks overlap.
    """
    loadings = reduction.vt.T.astype(float) * reduction.s
    length = np.linalg.norm(loadings, axis=1)
    samples = loadings / np.where(length > 0, length, 1)[:, None]
    options = {"alpha": alpha, "random_state": random_state, "n_epochs": n_epochs}
    learner = _learner(len(reduction.s), **options).fit(samples)
    atoms, codes = learner.components_, learner.transform(samples).T
    timecourses = reduction.u @ atoms.T
    explained = _explained(codes * length, timecourses, reduction.variance)
    return in_order(codes, timecourses, explained)


def threshold(networks, value, *, by="z", two_sided=False):
    """Units that belong to each network.

    Parameters
    ----------
    networks : array of shape (n_networks, n_units)
        z-scored over units.
    value : float
        For ``z`` the least z (published: 1.96, and 3.6 for masks); for ``percent`` the
        percentage of units with the largest z; for ``fdr`` the share of false members.
    by : {"z", "percent", "fdr"}
        ``fdr`` takes each network's z values for a mixture of a normal distribution,
        fitted to their middle half (the empirical null), and of members beyond it
        (Efron 2004), and counts from the least t at which::

            Fdr(t) = P(null > t) / share of units > t  <=  value

    two_sided : bool
        Whether |z| counts.

    Returns
    -------
    members : bool array of shape (n_networks, n_units)
    """
    most, such = {"fdr": (1, 0.05), "percent": (100, 1)}.get(by, (np.inf, 3.6))
    if by != "z" and not 0 < value < most:
        raise ValueError(
            f"alpha is {value}: as membership {by} it must lie between 0 and {most}, "
            f"such as {such}"
        )
    z = np.asarray(networks, float)
    size = np.abs(z) if two_sided else z
    if by == "z":
        return size > value
    if by == "percent":
        least = np.quantile(size, 1 - value / 100, axis=1, keepdims=True)
        return (size >= least) & (size > 0)
    if by == "fdr":
        return np.stack([_fdr_members(row, value, two_sided) for row in z])
    raise ValueError(f"by must be z, percent or fdr, found {by!r}")


def _fdr_members(z, level, two_sided):
    """Units beyond the least threshold at which at most ``level`` are false."""
    low, centre, high = np.quantile(z, [0.25, 0.5, 0.75])
    if high == low:  # most weights are exactly zero, as in a sparse code
        return (np.abs(z - centre) if two_sided else z - centre) > 0
    null = (z - centre) / ((high - low) / (2 * stats.norm.ppf(0.75)))
    distance = np.abs(null) if two_sided else null
    order = np.argsort(-distance)
    tail = stats.norm.sf(distance[order]) * (2 if two_sided else 1)
    fdr = tail * len(z) / np.arange(1, len(z) + 1)  # as if all could be null
    good = np.flatnonzero(fdr <= level)
    members = np.zeros(len(z), bool)
    members[order[: good[-1] + 1 if len(good) else 0]] = True
    return members


def _learner(n_atoms, *, alpha, random_state, n_epochs):
    """Dictionary learner of samples of unit length."""
    return MiniBatchDictionaryLearning(
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
