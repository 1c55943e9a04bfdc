"""Regressors on the BOLD clock by name: confounds to remove, or bands that encode.

They come of the story's words, of tables, and of the sound that was heard.
"""

import warnings
from itertools import pairwise

import numpy as np
import pandas as pd
import scipy.linalg
from scipy.io import wavfile

from anbn.brain.clock import alignment_matrix
from anbn.core.params import did_you_mean
from anbn.core.paths import resolve
from anbn.core.tables import choose, numbers, read_cells, some
from anbn.stats import timeseries

WORD_RATE = "word_rate"
SPEECH = "speech"
PAUSE = 1.0  # s; silence that is shorter belongs to speech
SPEECH_STEP = 0.1  # s, grid on which speech is on or off
BIN = 0.01  # s, over which power is taken
BLOCK = 1000  # such bins read at once


class RegressorError(ValueError):
    """A regressor is unknown, empty, or does not fit the volumes."""


def story_regressors(words, names, **clock):
    """Regressors of a story's words: each word an impulse at its onset, summed::

        x[t] = sum over words w of h(start + t tr - onset[w]) (v[w] - mean v)

    with v the words' value, its mean over words that have a time and a value, and h the
    response; ``word_rate`` has 1 in place of the bracket. So a value is about what is
    left when words are merely counted.

    Parameters
    ----------
    words : DataFrame of n_words rows
        With ``onset`` (s on the story's clock; NaN for a word without time, which is
        left out) and columns of values, as in stage 01's ``words.parquet``.
    names : sequence of str
        ``word_rate``, ``speech`` (on or off, see ``speech``), or columns of numbers,
        each once. A missing value counts as the mean.
    **clock
        ``n_times``, ``tr``, ``start``, ``hrf`` and ``run_lengths``, see
        ``clock.alignment_matrix``.

    Returns
    -------
    regressors : DataFrame of shape (n_times, n_names)
        Not scaled.

    Raises
    ------
    RegressorError
        A name that is not there (says what there is), a column without values or with
        one value only, or a story that does not reach the volumes.
    """
    names = list(dict.fromkeys([names] if isinstance(names, str) else names))
    columns = [c for c in words if pd.api.types.is_numeric_dtype(words[c])]
    known = [WORD_RATE, SPEECH, *(c for c in columns if c not in (WORD_RATE, SPEECH))]
    onset = words["onset"].to_numpy(float)
    of_words = [name for name in names if name != SPEECH]
    values = [_values(words, name, known, np.isfinite(onset)) for name in of_words]
    values = np.column_stack([np.zeros((len(words), 0)), *values])
    found = pd.DataFrame(_impulses(onset, values, **clock), columns=of_words)
    if SPEECH in names:
        found[SPEECH] = speech(words, **clock)
    return found[names]


def speech(words, *, tr, hrf="spm", **clock):
    """Whether anybody speaks, through the haemodynamic response.

    BOLD and responses both rise when speech sets in and fall when it stops, whatever is
    said: without this regressor the first minute of any story "couples". Words with
    less than a second between them are one stretch of speech.

    Parameters
    ----------
    words : DataFrame of n_words rows
        With ``onset`` and ``offset`` (s); words without a time are left out.
    tr, hrf, **clock
        As for ``story_regressors``.

    Returns
    -------
    regressor : array of shape (n_times,)
        1 where speech has lasted as long as the response does, 0 where none has been.
    """
    if "offset" not in words:
        raise RegressorError(
            f"{SPEECH!r} needs the words' offset: found the columns "
            f"{some(list(words))}. Run stage 01 again, or leave it out of confounds."
        )
    onset, offset = (words[name].to_numpy(float) for name in ("onset", "offset"))
    timed = np.isfinite(onset)
    order = np.argsort(onset[timed], kind="stable")
    onset = onset[timed][order]
    # a word without an end ends where it begins; one inside another ends with it
    offset = np.fmax(offset[timed][order], onset)
    offset = np.maximum.accumulate(offset)
    first = np.r_[True, onset[1:] - offset[:-1] > PAUSE][: len(onset)]
    begins, ends = onset[first], np.r_[offset[:-1][first[1:]], offset[-1:]]
    moments = [
        np.arange(begin, max(end, begin + SPEECH_STEP), SPEECH_STEP) + SPEECH_STEP / 2
        for begin, end in zip(begins, ends, strict=True)
    ]
    moments = np.concatenate([*moments, np.zeros(0)])
    # with hrf none a volume counts the moments that begin in it
    height = SPEECH_STEP / tr if hrf == "none" else SPEECH_STEP
    values = np.full((len(moments), 1), height)
    return _impulses(moments, values, tr=tr, hrf=hrf, **clock)[:, 0]


def left_over(run_lengths, tr, seconds):
    """Volumes that are left when the first seconds of every run are not used.

    Parameters
    ----------
    run_lengths : sequence of int
        Volumes of each run.
    tr : float
        s.
    seconds : float
        From a run's first volume on; a volume that begins in them is left out.

    Returns
    -------
    kept : slice, or bool array of shape (sum of run_lengths,)
        A slice for one run: what is on disk stays there.
    lengths : list of int
        Volumes that are left of each run.

    Raises
    ------
    RegressorError
        If a run has fewer than 10 volumes left.
    """
    n_first = int(np.ceil(np.round(seconds / tr, 9)))
    lengths = [int(n) - n_first for n in run_lengths]
    if min(lengths) < 10:
        raise RegressorError(
            f"leave_out_start: the first {seconds:g} s are {n_first} volumes of {tr:g} "
            f"s, but the shortest run has {min(run_lengths)}, and 10 must be left. "
            "Leave out less, or check run_lengths."
        )
    if len(lengths) == 1:
        return slice(n_first, None), lengths
    kept = [np.arange(int(n)) >= n_first for n in run_lengths]
    return np.concatenate(kept), lengths


def _impulses(onset, values, *, n_times, tr, start=0.0, source="the words", **clock):
    """Impulses of given heights, (n_events, ...), through the response, summed.

    Raises
    ------
    RegressorError
        Events (what they are is ``source``) that do not reach the volumes.
    """
    clock |= {"n_times": n_times, "tr": tr, "start": start, "pooling": "sum"}
    H = alignment_matrix(np.arange(len(onset)), onset, **clock)
    if not H.nnz:
        timed = onset[np.isfinite(onset)]
        span = f"{timed.min():g} to {timed.max():g} s" if len(timed) else "no time"
        raise RegressorError(
            f"{source} (of {span}) have no response in the {n_times} volumes, which "
            f"are of {start:g} to {start + n_times * tr:g} s on the story's clock. "
            "Check start, n_times and tr, and the onset of a sound."
        )
    return H @ values


def _values(words, name, known, timed):
    """Heights of the words' impulses."""
    if name == WORD_RATE:
        return np.ones(len(words))
    if name not in known:
        text = ": it is text, not numbers" if name in words else ""
        raise RegressorError(
            f"no regressor {name!r}{text}{did_you_mean(name, known)}. There are "
            f"{some(known)}."
        )
    values = words[name].to_numpy(float, na_value=np.nan)
    there = timed & np.isfinite(values)
    if not there.any():
        raise RegressorError(
            f"{name!r} has no value for any word. A masked model gives no surprisal "
            "and no entropy: take the words of a causal model, or leave it out."
        )
    if np.ptp(values[there]) == 0:
        raise RegressorError(
            f"{name!r} is {values[there][0]:g} for every word: nothing is left when "
            f"its mean is removed. Use {WORD_RATE}, or leave it out."
        )
    return np.where(there, values - values[there].mean(), 0.0)


def table(path, columns=("*",), *, n_times):
    """Regressors that are on the BOLD clock already: a row a volume.

    Parameters
    ----------
    path : str
        A ``.tsv``, a ``.csv``, or other text with blanks or tabs between columns, as
        ``anbn.core.paths.resolve`` takes it. A first line that is not all numbers names
        the columns; without one they are called by the file, as ``motion_1``,
        ``motion_2``, or ``motion`` if there is one.
    columns : sequence of str
        Names, or patterns such as ``trans_*``.
    n_times : int
        Rows that the table must have.

    Returns
    -------
    regressors : DataFrame of shape (n_times, n_columns)
        In the order of ``columns``, each once. A first value that is missing (of
        derivatives and displacements) is 0.

    Raises
    ------
    RegressorError
        If it is no table, has another length, a pattern matches no column, or a value
        is not a finite number.
    """
    file = resolve(str(path))
    header, cells = read_cells(file, RegressorError)
    if header is None:
        stem, n = file.name.split(".")[0], cells.shape[1]
        header = [stem] if n == 1 else [f"{stem}_{i + 1}" for i in range(n)]
    if len(cells) != n_times:
        raise RegressorError(
            f"{path} has {len(cells)} rows, expected {n_times}, one a volume. Give it "
            "a row for each kept volume."
        )
    cells = choose(cells.set_axis(header, axis=1), columns, path, RegressorError)
    return pd.DataFrame(numbers(cells, path, RegressorError), columns=cells.columns)


def run_drift(run_lengths, tr, high_pass=128.0):
    """Slow drift of a clock made of several runs: each run has its own.

    Parameters
    ----------
    run_lengths : sequence of int
        Volumes of each run, in the order of the clock.
    tr : float
        s.
    high_pass : float
        s, see ``timeseries.drift``.

    Returns
    -------
    regressors : array of shape (sum of run_lengths, n_regressors)
        Block-diagonal: 0 outside a regressor's run.
    """
    # of a single volume there is but the mean
    return scipy.linalg.block_diag(
        *(timeseries.drift(n, tr, high_pass) if n > 1 else [[1.0]] for n in run_lengths)
    )


def power(path, *, sound_onset=0.0, **clock):
    """Power of a sound: its root mean square, through the haemodynamic response.

    Taken over bins of 10 ms and all channels; each bin is an impulse at its middle that
    counts for as long as it lasts.

    Parameters
    ----------
    path : str
        WAV of integers or floats, as ``anbn.core.paths.resolve`` takes it.
    sound_onset : float
        Time of the file's first sample on the story's clock (s).
    **clock
        As for ``story_regressors``.

    Returns
    -------
    power : array of shape (n_times,)
        In units of full scale for files of integers, of the file for floats.

    Raises
    ------
    RegressorError
        Another format, a file that cannot be read or is silent, or a sound that does
        not reach the volumes.
    """
    rms, edges = _rms(*_read_wav(path), path)
    if not rms.any():
        raise RegressorError(f"{path} is silent: is it the sound that was heard?")
    middle = sound_onset + (edges[:-1] + edges[1:]) / 2
    source = f"the samples of {path}"
    return _impulses(middle, rms * np.diff(edges), source=source, **clock)


def _read_wav(path):
    """Samples a second and samples, on disk where the format allows it."""
    file = resolve(str(path))
    with warnings.catch_warnings():
        # other chunks hold what is not sound, such as titles
        warnings.filterwarnings("ignore", "Chunk", wavfile.WavFileWarning)
        warnings.filterwarnings("error", "Reached EOF", wavfile.WavFileWarning)
        try:
            try:
                return wavfile.read(file, mmap=True)
            except ValueError:  # 24 bits cannot be mapped
                return wavfile.read(file)
        except OSError as e:
            raise RegressorError(f"{file} cannot be read: {e}") from e
        except Exception as e:  # of headers that are cut or made up scipy raises all
            raise RegressorError(
                f"{file} cannot be read as WAV: {e}. Expected PCM or floats; convert "
                f"it, as by: ffmpeg -i {file.name} -c:a pcm_s16le {file.stem}_pcm.wav"
            ) from e


def _rms(rate, samples, path):
    """Root mean square of each bin, and the bins' edges (s)."""
    samples = samples[:, None] if samples.ndim == 1 else samples
    n_bins = int(np.ceil(np.round(len(samples) / (rate * BIN), 6)))
    edges = np.minimum(np.round(np.arange(n_bins + 1) * rate * BIN), len(samples))
    edges = edges.astype(int)
    if not n_bins or (np.diff(edges) == 0).any():
        raise RegressorError(
            f"{path}: {len(samples)} samples at {rate} a second are too few for bins "
            f"of {BIN:g} s."
        )
    # 8 bits are unsigned; scipy keeps other depths at the upper end of their type
    kind = samples.dtype
    full = 1.0 if kind.kind == "f" else 2.0 ** (8 * kind.itemsize - 1)
    zero = full if kind.kind == "u" else 0.0
    squares = []
    for first, last in pairwise([*range(0, n_bins, BLOCK), n_bins]):
        begin, end = edges[first], edges[last]
        block = (samples[begin:end].astype(float) - zero) / full
        sums = np.add.reduceat((block**2).mean(1), edges[first:last] - begin)
        squares.append(sums / np.diff(edges[first : last + 1]))
    rms = np.sqrt(np.concatenate(squares))
    if not np.isfinite(rms).all():
        raise RegressorError(f"{path}: samples are NaN or infinite")
    return rms, edges / rate
