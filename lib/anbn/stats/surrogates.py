"""Time courses that keep what noise keeps, and nothing of the story: null draws."""

import numpy as np
import torch

from anbn.stats import timeseries
from anbn.stats.timeseries import spans

METHODS = ("shift", "phase")
N_STEPS = 3  # back to the colour before a projection
NEAR = 5  # volumes; rolls by less would hold the coupling that is tested


def draw(timecourses, n, *, null_method="shift", run_lengths=(), rng):
    """Surrogates of time courses; all networks are treated alike in one surrogate.

    Parameters
    ----------
    timecourses : array of shape (n_times, n_networks)
    n : int
        Surrogates.
    null_method : {"shift", "phase"}
        ``shift``: rolled by a random number of volumes, every one equally likely but
        the nearest (less than ``NEAR`` volumes, at most an eighth of the run), of which
        only none at all is kept: so p is never less than one in as many as there are.
        It keeps all that a time course is, bursts and spikes too, and assumes no more
        than that any moment of it could have fallen on any moment of the story.
        ``phase``: Fourier phases are turned by random angles, the same for all
        networks: spectra and cross-spectra stay (Prichard & Theiler 1994). It assumes
        Gaussian noise that is alike at all times, which one subject's BOLD is not.
    run_lengths : sequence of int
        Volumes of each run that the clock is made of, () for one. Each run is drawn
        on its own.
    rng : numpy Generator

    Returns
    -------
    surrogates : array of shape (n_times, n, n_networks)

    Raises
    ------
    ValueError
        Unknown method, lengths that do not add up.
    """
    data = np.asarray(timecourses, float)
    runs = spans(len(data), run_lengths)
    if null_method not in METHODS:
        raise ValueError(f"null_method must be one of {METHODS}, found {null_method!r}")
    make = _turned if null_method == "phase" else _rolled
    needed = [len(data[run]) // 2 + 1 if null_method == "phase" else 1 for run in runs]
    # all numbers of a surrogate at once: the same ones whatever n is
    numbers = np.split(rng.random((n, sum(needed))), np.cumsum(needed)[:-1], axis=1)
    pairs = zip(runs, numbers, strict=True)
    return np.concatenate([make(data[run], u) for run, u in pairs])


def rolled(data, share, run_lengths=()):
    """Each run rolled by a share of its length; for controls that are far from home.

    Parameters
    ----------
    data : array of shape (n_times, n_columns)
    share : float
        0 to 1.
    run_lengths : sequence of int
        Volumes of each run, () for one.
    """
    parts = [data[run] for run in spans(len(data), run_lengths)]
    return np.concatenate([np.roll(x, round(share * len(x)), axis=0) for x in parts])


def least_p(n, *, null_method="shift", n_times=0, run_lengths=()):
    """The least p that n draws can give.

    ::

        p = (1 + n / n_distinct) / (1 + n)

    Rolls of one run are few, and the data themselves come back among them, so that no
    number of draws gives less than one in as many as there are.

    Parameters
    ----------
    n : int
        Draws.
    null_method : str
        ``shift`` has as many distinct draws as the rolls of its runs multiply to;
        all others are taken to have any number.
    n_times : int
        Volumes; only ``shift`` needs it.
    run_lengths : sequence of int
        See ``draw``.

    Returns
    -------
    p : float
    """
    again = 0.0
    if null_method == "shift":
        lengths = list(run_lengths) or [n_times]
        again = n / np.prod([float(_n_rolls(length)[0]) for length in lengths])
    return float(min(1.0, (1 + again) / (1 + n)))


def before_projection(timecourses, basis, run_lengths=()):
    """Time courses as coloured as before confounds were removed, to draw from.

    A surrogate passes through the projection that the data passed through. Drawn from
    what is left of the data, it would lose the confounds' share of the spectrum twice,
    be whiter than the data, and the null too narrow: the more confounds, the worse. The
    power S before the projection P follows from the power seen after it, as::

        seen = A S,   A[f, g] = |F P F^-1|^2 [f, g]

    with F the Fourier transform, by a few multiplicative steps (Richardson 1972, Lucy
    1974; many would fit the noise of the spectrum); the time courses are filtered to
    have it. Phases stay.

    Parameters
    ----------
    timecourses : array of shape (n_times, n_networks)
        Without confounds.
    basis : array of shape (n_times, n_kept)
        Confounds, from ``timeseries.orthonormal``.
    run_lengths : sequence of int
        Of each run, () for one. A run takes 16 bytes times its squared length.

    Returns
    -------
    coloured : array of shape (n_times, n_networks)
    """
    data = np.asarray(timecourses, float)
    parts = []
    for run in spans(len(data), run_lengths):
        spectrum = np.fft.fft(data[run], axis=0)
        seen, gain = np.abs(spectrum) ** 2, np.ones(spectrum.shape)
        projection = np.eye(len(spectrum)) - basis[run] @ basis[run].T
        passed = np.fft.fft(np.fft.ifft(projection, axis=1), axis=0)
        passed = np.abs(passed) ** 2
        kept = np.maximum(passed.sum(0), 1e-3)[:, None]
        for _ in range(N_STEPS):
            expected = passed @ (seen * gain)
            ratio = seen / np.maximum(expected, 1e-12 * seen.max(0) + 1e-300)
            gain *= passed.T @ ratio / kept
        parts.append(np.fft.ifft(spectrum * np.sqrt(gain), axis=0).real)
    return np.concatenate(parts)


def draw_one(timecourses, rng, *, basis=None, null_method="shift", run_lengths=()):
    """One surrogate.

    Parameters
    ----------
    timecourses : array of shape (n_times, n_networks)
    rng : numpy Generator
    basis : array of shape (n_times, n_kept), optional
        Confounds that were removed from the time courses: the surrogate is drawn from
        ``before_projection`` and loses them as well.
    null_method, run_lengths
        See ``draw``.

    Returns
    -------
    surrogate : array of shape (n_times, n_networks)
    """
    options = {"null_method": null_method, "run_lengths": run_lengths, "rng": rng}
    if basis is None:
        return draw(timecourses, 1, **options)[:, 0]
    coloured = before_projection(timecourses, basis, run_lengths)
    return timeseries.residuals(draw(coloured, 1, **options)[:, 0], basis)


def _turned(data, numbers):
    spectrum = np.fft.rfft(data, axis=0)
    angles = 2 * np.pi * numbers.T
    angles[0] = 0
    if len(data) % 2 == 0:
        angles[-1] = 0
    turned = spectrum[:, None] * np.exp(1j * angles)[:, :, None]
    return np.fft.irfft(turned, n=len(data), axis=0)


def _n_rolls(length):
    """How many rolls a run has, and the least of them beside none."""
    near = max(1, min(NEAR, length // 8))
    return length - 2 * near + 2, near


def _rolled(data, numbers):
    n_rolls, near = _n_rolls(len(data))
    which = (numbers[:, 0] * n_rolls).astype(int)
    by = np.where(which == 0, 0, which + near - 1)
    return data[(np.arange(len(data))[:, None] + by) % len(data)]


def other_texts(activations, H, n, rng):
    """Responses to other text, spoken with this story's timing.

    Token k of the story is replaced by token ``(start + k) mod n_corpus`` of a corpus,
    with another random start in each surrogate. Timing and so word rate stay, the
    content does not: what is tested is whether *this* text matters.

    Parameters
    ----------
    activations : DataArray of shape (n_corpus, n_layers, n_units)
        Of a corpus, from ``stores.open_activations``; read layer by layer. Without the
        first token of each document where the story's is left out
        (``forward.read_first``).
    H : sparse array of shape (n_times, n_tokens)
        The story's, from ``clock.alignment_matrix``.
    n : int
        Surrogates.
    rng : numpy Generator

    Yields
    ------
    columns : slice
        Of the neurons of a layer.
    responses : iterator of n float32 arrays of shape (n_times, n_units)
    """
    n_corpus, n_layers, n_units = activations.shape
    if n_corpus < H.shape[1]:
        raise ValueError(
            f"null_method text needs as many tokens as the story, {H.shape[1]}; the "
            f"corpora have {n_corpus}: raise corpus_tokens of stage 01"
        )
    starts = rng.integers(n_corpus, size=n)
    H = torch.from_numpy(H.toarray().astype(np.float32))
    rows = np.arange(H.shape[1])
    for layer in range(n_layers):
        block = torch.from_numpy(activations[:, layer].to_numpy().astype(np.float32))
        drawn = ((H @ block[(start + rows) % n_corpus]).numpy() for start in starts)
        yield slice(layer * n_units, (layer + 1) * n_units), drawn
