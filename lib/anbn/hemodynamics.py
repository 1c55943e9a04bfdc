"""From words to the BOLD clock: the haemodynamic response, drift, confounds."""

from functools import cache

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
    table = _table(kind)
    at = np.linspace(0, HRF_LENGTH, len(table))
    return np.interp(seconds, at, table / _STEP, left=0.0, right=0.0)


@cache
def _table(kind):
    functions = {"spm": spm_hrf, "glover": glover_hrf}
    if kind not in functions:
        raise ValueError(f"hrf must be spm, glover, none or fir, found {kind!r}")
    return functions[kind](1.0, oversampling=round(1 / _STEP), time_length=HRF_LENGTH)


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


def alignment_matrix(
    word,
    onset,
    *,
    n_times,
    tr,
    start=0.0,
    kind="spm",
    pooling="mean",
    token_pooling="mean",
    delays=(1, 2, 3, 4),
    run_lengths=(),
):
    """Matrix that carries tokens to the BOLD clock: ``responses = H @ activations``.

    Tokens are pooled to words, and the words that begin in the same TR to one value;
    each word acts as an impulse at its onset::

        H[t, k] = h(start + t tr - onset[w]) p[w] q[k]

    with w the word of token k, h the response, p = 1 / (words in the TR of w) and
    q = 1 / (tokens of w) for ``mean``, 1 for ``sum``, and 1 for the last one and 0 for
    others for ``last``.

    Parameters
    ----------
    word : int array of shape (n_tokens,)
        Word of each token; -1 for none.
    onset : array of shape (n_words,)
        s, on the stimulus clock; NaN for a word without time, which is left out.
    n_times : int
    tr : float
        s.
    start : float
        Time of the first kept volume on the stimulus clock (s). Words before it count
        as far as their response reaches into the scan.
    kind : {"spm", "glover", "none", "fir"}
        Response; with ``none`` a word counts in the TR in which it begins, with ``fir``
        the same at every one of the ``delays``.
    pooling, token_pooling : {"mean", "sum", "last"}
        Of the words of a TR, and of the tokens of a word.
    delays : sequence of int
        For ``fir``, in TRs.
    run_lengths : sequence of int
        Volumes of each run that the clock is made of, () for one. The clock goes on
        from run to run, the response does not: a word acts in the run in which it
        begins alone (before the first volume: in the first run).

    Returns
    -------
    H : sparse csr_array of shape (n_times, n_tokens)
        For ``fir`` of shape (n_delays * n_times, n_tokens), one delay after another.
    """
    word, onset = np.asarray(word), np.asarray(onset, float)
    if n_times < 1 or tr <= 0:
        raise ValueError(f"expected n_times >= 1 and tr > 0, found {n_times} and {tr}")
    known = np.flatnonzero(word >= 0)
    to_words = scipy.sparse.csr_array(
        (_share(word[known], token_pooling), (word[known], known)),
        shape=(len(onset), len(word)),
    )
    heard = np.isfinite(onset) & np.isin(np.arange(len(onset)), word)
    # rounding keeps words on a TR's border in the same TR whatever the clock's zero
    of_tr = np.floor(np.round((onset[heard] - start) / tr, 9)).astype(int)
    n_rows, shift = n_times, 0
    if kind == "fir":
        rows = of_tr + np.asarray(delays, int)[:, None]
        shift = n_times * np.arange(len(delays))[:, None]
        response, n_rows = np.ones(rows.shape), n_times * len(delays)
    elif kind == "none":
        rows, response = of_tr[None], np.ones((1, len(of_tr)))
    else:
        # volumes from the word on, as many as the response lasts
        rows = of_tr + np.arange(int(HRF_LENGTH / tr) + 2)[:, None]
        response = hrf(np.round(start + rows * tr - onset[heard], 9), kind)
    runs = spans(n_times, run_lengths)
    begin, end = np.array([(run.start, run.stop) for run in runs]).T
    of_run = np.searchsorted(begin[1:], of_tr, side="right")
    weights = response * _share(of_tr, pooling)
    inside = (rows >= begin[of_run]) & (rows < end[of_run]) & (weights != 0)
    rows = rows + shift
    columns = np.broadcast_to(np.flatnonzero(heard), rows.shape)
    to_times = scipy.sparse.csr_array(
        (weights[inside], (rows[inside], columns[inside])), shape=(n_rows, len(onset))
    )
    return to_times @ to_words


def _share(group, pooling):
    """Weight of each member of a group."""
    _, index, counts = np.unique(group, return_inverse=True, return_counts=True)
    if pooling == "mean":
        return 1.0 / counts[index]
    if pooling == "sum":
        return np.ones(len(index))
    if pooling == "last":
        last = np.full(len(counts), -1)
        last[index] = np.arange(len(index))  # the last assignment stays
        return (last[index] == np.arange(len(index))).astype(float)
    raise ValueError(f"pooling must be mean, sum or last, found {pooling!r}")


def word_rate(onset, *, n_times, tr, start=0.0, kind="spm", run_lengths=()):
    """Words a second on the BOLD clock, after the haemodynamic response.

    Parameters are those of ``alignment_matrix``.

    Returns
    -------
    rate : array of shape (n_times,)
    """
    times = np.arange(len(onset))
    options = {"n_times": n_times, "tr": tr, "start": start, "kind": kind}
    options["run_lengths"] = run_lengths
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
