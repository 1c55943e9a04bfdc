"""Sound that was heard, as a regressor on the BOLD clock."""

import warnings
from itertools import pairwise

import numpy as np
from scipy.io import wavfile

from anbn.paths import resolve
from anbn.regressors import RegressorError, impulses

BIN = 0.01  # s, over which power is taken
BLOCK = 1000  # such bins read at once


def power(path, *, n_times, tr, start=0.0, hrf="spm", run_lengths=(), sound_onset=0.0):
    """Power of a sound: its root mean square, through the haemodynamic response.

    Taken over bins of 10 ms and all channels; each bin is an impulse at its middle that
    counts for as long as it lasts.

    Parameters
    ----------
    path : str
        WAV of integers or floats, as ``anbn.paths.resolve`` takes it.
    n_times : int
    tr : float
        s.
    start : float
        Time of the first kept volume on the story's clock (s).
    hrf : {"spm", "glover", "none"}
        See ``hemodynamics.alignment_matrix``.
    run_lengths : sequence of int
        Volumes of each run, () for one: a response ends with its run.
    sound_onset : float
        Time of the file's first sample on the story's clock (s).

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
    clock = {"n_times": n_times, "tr": tr, "start": start, "hrf": hrf}
    clock["run_lengths"] = run_lengths
    source = f"the samples of {path}"
    return impulses(middle, rms * np.diff(edges), **clock, source=source)


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
