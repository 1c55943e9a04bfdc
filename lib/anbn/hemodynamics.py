"""From words to the BOLD clock: the haemodynamic response, drift, confounds."""

import numpy as np
import scipy.sparse
from nilearn.glm.first_level import (
    glover_hrf,
    make_first_level_design_matrix,
    spm_hrf,
)

HRF_LENGTH = 32.0  # s
_STEP = 0.01  # s, grid on which the response is tabulated


def hrf(seconds, kind="spm"):
    """Haemodynamic response at given times after an event.

    Parameters
    ----------
    seconds : array
        Time since the event; the response is 0 before it and after 32 s.
    kind : {"spm", "glover"}
        nilearn's canonical responses.

    Returns
    -------
    response : array of the same shape
        Per second: its integral is 1.
    """
    function = {"spm": spm_hrf, "glover": glover_hrf}[kind]
    table = function(1.0, oversampling=round(1 / _STEP), time_length=HRF_LENGTH)
    at = np.linspace(0, HRF_LENGTH, len(table))
    return np.interp(seconds, at, table / _STEP, left=0.0, right=0.0)


def frame_times(n_times, tr, start=0.0):
    """Times of the volumes on the stimulus clock (s)."""
    return start + tr * np.arange(n_times)


def alignment_matrix(
    word, onset, *, n_times, tr, start=0.0, kind="spm", pooling="mean"
):
    """Matrix that carries tokens to the BOLD clock: ``responses = H @ activations``.

    Tokens are averaged to words; words of the same TR are averaged (``mean``) or summed
    (``sum``); each acts as an impulse at its onset::

        H[t, k] = h(start + t tr - onset[w]) / (n_tokens[w] n_words[TR of w])

    with w the word of token k, h the response, and the last factor for ``mean`` only.

    Parameters
    ----------
    word : int array of shape (n_tokens,)
        Word of each token; -1 for none.
    onset : array of shape (n_words,)
        s, on the stimulus clock; NaN for a word without time.
    n_times : int
    tr : float
        s.
    start : float
        Time of the first kept volume on the stimulus clock (s).
    kind : {"spm", "glover", "none"}
        Response; with ``none`` a word counts in the TR in which it begins.
    pooling : {"mean", "sum"}

    Returns
    -------
    H : sparse csr_array of shape (n_times, n_tokens)
    """
    word, onset = np.asarray(word), np.asarray(onset, float)
    if n_times < 1 or tr <= 0:
        raise ValueError(f"expected n_times >= 1 and tr > 0, found {n_times} and {tr}")
    timed = np.isfinite(onset)
    lag = frame_times(n_times, tr, start)[:, None] - np.where(timed, onset, 0.0)
    if kind == "none":
        weights = ((lag <= 0) & (lag > -tr)).astype(float)
    else:
        weights = hrf(lag, kind)
    weights = np.where(timed, weights, 0.0)
    if pooling == "mean":
        # rounding keeps words on a TR's border in the same TR whatever the clock's zero
        of_tr = np.floor(np.round((onset - start) / tr, 9))  # NaN: a group apart
        _, index, counts = np.unique(of_tr, return_inverse=True, return_counts=True)
        weights = weights / counts[index]
    elif pooling != "sum":
        raise ValueError(f"pooling must be mean or sum, found {pooling!r}")
    known = np.flatnonzero(word >= 0)
    share = 1.0 / np.bincount(word[known], minlength=len(onset))[word[known]]
    to_words = scipy.sparse.csr_array(
        (share, (word[known], known)), shape=(len(onset), len(word))
    )
    return scipy.sparse.csr_array(scipy.sparse.csr_array(weights) @ to_words)


def word_rate(onset, *, n_times, tr, start=0.0, kind="spm"):
    """Words a second on the BOLD clock, after the haemodynamic response.

    Returns
    -------
    rate : array of shape (n_times,)
    """
    times = np.arange(len(onset))
    options = {"n_times": n_times, "tr": tr, "start": start, "kind": kind}
    H = alignment_matrix(times, onset, **options, pooling="sum")
    return H @ np.ones(len(onset))


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


def remove(data, basis):
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
