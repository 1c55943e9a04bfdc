"""Time series: z-scores, drift, and the residuals of a projection."""

import numpy as np
from nilearn.glm.first_level import make_first_level_design_matrix


def frame_times(n_times, tr, start=0.0):
    """Times of the volumes on the stimulus clock (s)."""
    return start + tr * np.arange(n_times)


def spans(n_times, run_lengths=()):
    """Rows of each run of a clock.

    Parameters
    ----------
    n_times : int
    run_lengths : sequence of int
        Volumes of each run, in the order of the clock; () for one run.

    Returns
    -------
    runs : list of slice
        One for all if there are no lengths.

    Raises
    ------
    ValueError
        Lengths that do not add up to ``n_times``, or a run without volumes.
    """
    lengths = [int(length) for length in run_lengths] or [n_times]
    if sum(lengths) != n_times or min(lengths) < 1:
        raise ValueError(
            f"run_lengths {lengths} add up to {sum(lengths)} volumes, the data have "
            f"{n_times}: name the volumes of every run, or none for one run"
        )
    ends = np.cumsum(lengths).tolist()
    return [slice(end - n, end) for end, n in zip(ends, lengths, strict=True)]


def drift(n_times, tr, cutoff=128.0):
    """Slow drift: a constant and cosines slower than ``cutoff`` seconds (nilearn's).

    Returns
    -------
    regressors : array of shape (n_times, n_regressors)
    """
    design = make_first_level_design_matrix(
        frame_times(n_times, tr), drift_model="cosine", high_pass=1 / cutoff
    )
    return design.to_numpy()


def orthonormal(confounds):
    """Orthonormal basis of the confounds' span; collinear ones are dropped.

    Parameters
    ----------
    confounds : array of shape (n_times, n_confounds)

    Returns
    -------
    basis : array of shape (n_times, n_kept)
    """
    scale = np.linalg.norm(confounds, axis=0)
    u, s, _ = np.linalg.svd(
        confounds / np.where(scale > 0, scale, 1), full_matrices=False
    )
    return u[:, s > 1e-8 * s.max()]


def residuals(data, basis):
    """Residuals after one projection: ``data - basis (basis' data)``.

    Parameters
    ----------
    data : array of shape (n_times, ...)
    basis : array of shape (n_times, n_kept)
        From ``orthonormal``.
    """
    flat = np.asarray(data).reshape(len(data), -1)
    basis = basis.astype(flat.dtype)
    return (flat - basis @ (basis.T @ flat)).reshape(np.shape(data))


def zscore(data):
    """Zero mean and unit standard deviation over time; zeros where constant."""
    data = data - data.mean(0)
    sd = data.std(0)
    tiny = sd <= 1e-6 * np.abs(data).max(0, initial=1e-30)
    return data / np.where(tiny | (sd == 0), np.inf, sd)
