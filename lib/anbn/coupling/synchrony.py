"""Synchrony of neurons with brain networks, its null distribution and thresholds.

Source: Liu et al. 2023 (arXiv 2303.14871): synchrony is the Pearson correlation of a
neuron's response with a network's time course. The nulls and the thresholds are ours.
"""

from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.lib.format import open_memmap
from scipy import stats
from tqdm import tqdm

from anbn.core import artifacts, workers
from anbn.stats import surrogates, timeseries

N_ROWS = 4096  # neurons of a block
N_BINS = 4096  # of |r| from 0 to 1
N_COUNTED = 8192  # neurons whose |r| are counted, evenly spread over all


@dataclass(frozen=True)
class Null:
    """Synchrony when there is no coupling.

    Attributes
    ----------
    maxima : array of shape (n_draws, n_networks)
        The largest |r| over all neurons.
    counts : int array of shape (n_networks, n_bins)
        Histogram of |r| from 0 to 1, of evenly spread neurons: one for each network,
        since a slow network reaches by chance what a fast one does not.
    shares : array of shape (n_draws, n_networks) or None
        The largest share, over layers, of a layer's neurons whose |r| reaches ``cut``.
    """

    maxima: np.ndarray
    counts: np.ndarray
    shares: np.ndarray | None = None


def unit(data):
    """Columns of zero mean and unit norm, so that products are correlations."""
    return timeseries.zscore(data) / np.sqrt(len(data))


def unit_rows(responses):
    """Neurons as rows of zero mean and unit norm, made in blocks.

    Parameters
    ----------
    responses : array of shape (n_times, n_neurons)
        What this function returned is given back, so that it need not be made again.

    Returns
    -------
    units : float32 tensor of shape (n_neurons, n_times)
    """
    if torch.is_tensor(responses):
        return responses
    n_times, n_neurons = responses.shape
    units = torch.empty(n_neurons, n_times)
    for begin in range(0, n_neurons, N_ROWS):
        block = slice(begin, begin + N_ROWS)
        units[block] = torch.from_numpy(unit(np.asarray(responses[:, block], float)).T)
    return units


def synchrony(responses, timecourses):
    """Pearson correlation of every neuron with every network.

    Parameters
    ----------
    responses : array of shape (n_times, n_neurons), or ``unit_rows`` of it
    timecourses : array of shape (n_times, n_networks)
        Both without confounds (``timeseries.residuals``).

    Returns
    -------
    synchrony : float32 array of shape (n_neurons, n_networks)
        0 for a constant neuron.
    """
    brain = torch.from_numpy(unit(timecourses)).float()
    return (unit_rows(responses) @ brain).numpy()


def null(
    responses,
    timecourses,
    basis,
    *,
    null_method="shift",
    run_lengths=(),
    n_draws,
    rng,
    n_layers=None,
    cut=None,
    texts=None,
    batch_size=20,
    device="cpu",
):
    """Synchrony with surrogates of the networks' time courses, or of the story.

    Surrogates pass through the same projection as the data did (see
    ``surrogates.before_projection``), and meet all neurons in one blocked matrix
    product, of which only the maxima, histograms and shares of layers are kept.

    Parameters
    ----------
    responses : array of shape (n_times, n_neurons), or ``unit_rows`` of it
    timecourses : array of shape (n_times, n_networks)
        Both without confounds.
    basis : array of shape (n_times, n_kept)
        Confounds, from ``timeseries.orthonormal``.
    null_method : {"shift", "phase", "text"}
        See ``surrogates.draw``; ``text`` is ``text_null``, which takes ``texts``
        instead of ``responses``.
    run_lengths
        See ``surrogates.draw``.
    n_draws : int
    rng : numpy Generator
    n_layers : int, optional
        Of the neurons, layer-major; with ``cut`` for ``shares``.
    cut : array of shape (n_networks,), optional
        From ``cut_at``.
    texts : (activations, H), optional
        For ``text``, see ``surrogates.other_texts``.
    batch_size : int
        Surrogates a product: 4096 * batch_size * n_networks * 4 bytes.
    device : str
        Of torch.

    Returns
    -------
    null : Null
    """
    if null_method == "text":
        activations, H = texts
        return text_null(
            activations, H, timecourses, basis, n_draws=n_draws, rng=rng, cut=cut
        )
    timecourses = surrogates.before_projection(timecourses, basis, run_lengths)
    units = unit_rows(responses).to(device)
    n_networks = timecourses.shape[1]
    counts = torch.zeros(n_networks, N_BINS, dtype=torch.int64)
    maxima = np.empty((n_draws, n_networks))
    shares = None if cut is None else np.empty((n_draws, n_networks))
    buffer = torch.empty(N_ROWS, batch_size * n_networks, device=device)
    for begin in range(0, n_draws, batch_size):
        n = min(batch_size, n_draws - begin)
        drawn = surrogates.draw(
            timecourses, n, null_method=null_method, run_lengths=run_lengths, rng=rng
        )
        drawn = timeseries.residuals(drawn.reshape(len(drawn), -1), basis)
        brain = torch.from_numpy(unit(drawn)).float().to(device)
        highest, share = _meet(units, brain, counts, buffer, n_layers, cut)
        maxima[begin : begin + n] = highest.reshape(n, n_networks)
        if cut is not None:
            shares[begin : begin + n] = share.reshape(n, n_networks)
    return Null(maxima, counts.numpy(), shares)


def _meet(units, brain, counts, buffer, n_layers=None, cut=None):
    """Neurons, in blocks, with columns of time courses, network by network in turn.

    Returns the largest |r| of every column and the largest share of a layer; adds to
    ``counts``.
    """
    step = max(1, len(units) // N_COUNTED)
    highest = torch.zeros(brain.shape[1], device=units.device)
    if cut is not None:
        beyond = torch.zeros(n_layers, brain.shape[1], device=units.device)
        layer = torch.arange(len(units), device=units.device) * n_layers // len(units)
        limits = torch.as_tensor(cut, dtype=torch.float32, device=units.device)
        limits = limits.repeat(brain.shape[1] // max(len(limits), 1))
    for begin in range(0, len(units), N_ROWS):
        block = units[begin : begin + N_ROWS]
        r = torch.mm(block, brain, out=buffer[: len(block), : brain.shape[1]]).abs_()
        torch.maximum(highest, r.amax(0), out=highest)
        counts += _histograms(r[::step], len(counts))
        if cut is not None:
            rows = layer[begin : begin + N_ROWS]
            beyond.index_add_(0, rows, (r >= limits).float())
    share = None
    if cut is not None:
        share = (beyond.amax(0) * n_layers / len(units)).cpu().numpy()
    return highest.cpu().numpy(), share


def _histograms(r, n_networks):
    """Counts of |r| for each network, whose columns come in turn."""
    # float32 products may exceed 1 in the last digit
    bins = (r * N_BINS).long().clamp_(max=N_BINS - 1)
    bins += N_BINS * (torch.arange(r.shape[1], device=r.device) % max(n_networks, 1))
    counts = torch.bincount(bins.ravel(), minlength=n_networks * N_BINS)
    return counts.reshape(n_networks, N_BINS).cpu()


def text_null(
    activations,
    H,
    timecourses,
    basis,
    *,
    n_draws,
    rng,
    cut=None,
):
    """Synchrony of responses to other text, spoken with this story's timing.

    Parameters
    ----------
    activations, H
        See ``surrogates.other_texts``.
    timecourses : array of shape (n_times, n_networks)
        Without confounds. Networks of many subjects can stand side by side: the texts
        are drawn once for all.
    basis : array of shape (n_times, n_kept)
    n_draws : int
    rng : numpy Generator
    cut : array of shape (n_networks,), optional
        See ``null``.

    Returns
    -------
    null : Null
    """
    brain = torch.from_numpy(unit(timecourses)).float()
    n_layers, n_units = activations.shape[1:]
    maxima = torch.zeros(n_draws, brain.shape[1])
    shares = None if cut is None else np.zeros((n_draws, brain.shape[1]))
    counts = torch.zeros(brain.shape[1], N_BINS, dtype=torch.int64)
    step = max(1, n_layers * n_units // N_COUNTED)
    layers = surrogates.other_texts(activations, H, n_draws, rng)
    for _, drawn in tqdm(layers, "null", n_layers, mininterval=5):
        for i, responses in enumerate(drawn):
            r = (unit_rows(timeseries.residuals(responses, basis)) @ brain).abs_()
            torch.maximum(maxima[i], r.amax(0), out=maxima[i])
            counts += _histograms(r[::step], len(counts))
            if cut is not None:
                here = (r.numpy() >= cut).mean(0)
                np.maximum(shares[i], here, out=shares[i])
    return Null(maxima.double().numpy(), counts.numpy(), shares)


def text_synchrony(activations, H, timecourses, basis, *, n_draws, rng):
    """Synchrony of every neuron with responses to other text, draw by draw.

    In place of ``anchors.surrogate_synchrony`` where the null is ``text``.

    Parameters
    ----------
    activations, H, timecourses, basis, rng
        See ``text_null``.
    n_draws : int
        Takes n_draws * n_neurons * n_networks * 2 bytes.

    Returns
    -------
    synchrony : float16 array of shape (n_draws, n_neurons, n_networks)
    """
    brain = torch.from_numpy(unit(timecourses)).float()
    n_neurons = int(np.prod(activations.shape[1:]))
    found = np.empty((n_draws, n_neurons, brain.shape[1]), np.float16)
    layers = surrogates.other_texts(activations, H, n_draws, rng)
    for columns, drawn in tqdm(layers, "null", activations.shape[1], mininterval=5):
        for one, responses in zip(found, drawn, strict=True):
            clean = timeseries.residuals(responses, basis)
            one[columns] = (unit_rows(clean) @ brain).numpy()
    return found


def subjects(
    responses,
    timecourses,
    basis,
    path,
    *,
    rng=None,
    n_draws=200,
    null_method="shift",
    run_lengths=(),
    texts=None,
    level=0.05,
    maxima=None,
    client=None,
    batch_size=20,
    device="cpu",
):
    """Synchrony and family-wise threshold of every subject.

    Parameters
    ----------
    responses : array of shape (n_times, n_neurons)
        Without confounds.
    timecourses : array of shape (n_subjects, n_times, n_networks)
        Without confounds; each subject has a null of its own.
    basis : array of shape (n_times, n_kept)
    path : path-like
        Gets the synchrony as ``.npy``, one subject after another.
    rng : numpy Generator
        Each subject draws from a child of it, whatever the others do.
    n_draws, null_method, run_lengths, texts, batch_size, device
        Of ``null``. Other texts are read once, for all subjects.
    level : float
        Family-wise error, over neurons and networks, in each subject.
    maxima : array of shape (n_subjects, n_draws, n_networks), optional
        Of nulls that were drawn before, in place of ``rng``.
    client : distributed.Client, optional
        See ``workers.each``: a subject at a time on each worker.

    Returns
    -------
    synchrony : float32 array of shape (n_subjects, n_neurons, n_networks)
        Mapped from the file.
    thresholds : array of shape (n_subjects,)
    """
    units, thresholds = unit_rows(responses), []
    n_subjects, _, n_networks = timecourses.shape
    shape = (n_subjects, len(units), n_networks)
    if maxima is None and null_method == "text":
        side_by_side = np.hstack([*timecourses])
        drawn = text_null(*texts, side_by_side, basis, n_draws=n_draws, rng=rng)
        maxima = drawn.maxima.reshape(-1, n_subjects, n_networks).swapaxes(0, 1)
    if maxima is None:
        maxima = rng.spawn(n_subjects)
    drawing = {
        "n_draws": n_draws,
        "null_method": null_method,
        "run_lengths": run_lengths,
        "batch_size": batch_size,
        "device": device,
    }
    items = zip(timecourses, maxima, strict=True)
    task = partial(_subject, basis=basis, level=level, drawing=drawing)
    found = workers.each(task, items, client, shared=[units])
    with artifacts.atomic(path) as temporary, closing(found):
        mapped = open_memmap(temporary, "w+", np.float32, shape)
        progress = tqdm(found, "subjects", n_subjects, mininterval=5)
        for i, (r, threshold) in enumerate(progress):
            mapped[i] = r
            thresholds.append(threshold)
        mapped.flush()
    return np.load(path, mmap_mode="r"), np.array(thresholds)


def _subject(item, units, *, basis, level, drawing):
    timecourses, maxima = item
    r = synchrony(units, timecourses)
    if isinstance(maxima, np.random.Generator):
        maxima = null(units, timecourses, basis, rng=maxima, **drawing).maxima
    return r, familywise_threshold(maxima, level=level)


def familywise_threshold(maxima, *, level=0.05, by_network=False):
    """|r| that the largest of all neurons exceeds by chance at ``level``.

    Parameters
    ----------
    maxima : array of shape (n_draws, n_networks)
        Of ``Null``.
    level : float
    by_network : bool
        Correct over the neurons of each network only, not over networks: with a
        hundred regions the largest of all leaves no power.

    Returns
    -------
    threshold : float, or array of shape (n_networks,)
        Infinity where there are no networks.
    """
    if not maxima.shape[1] and not by_network:
        return float("inf")
    highest = np.sort(maxima if by_network else maxima.max(1), axis=0)
    # the data count as one draw: (1 + n) draws
    rank = int(np.ceil((1 - level) * (len(highest) + 1))) - 1
    if rank >= len(highest):
        raise ValueError(f"{len(highest)} draws are too few for a level of {level}")
    return highest[rank] if by_network else float(highest[rank])


def familywise_p(synchrony, maxima, *, by_network=False):
    """p value of every neuron and network, corrected over all of both.

    Parameters
    ----------
    synchrony : array of shape (..., n_networks)
    maxima : array of shape (n_draws, n_networks)
        Of ``Null``; its ``shares`` do for ``layer_shares``.
    by_network : bool
        Corrected over the neurons of each network only.

    Returns
    -------
    p : array of the shape of ``synchrony``
    """
    size = np.abs(np.asarray(synchrony))
    if not by_network:
        return _reached(size, maxima.max(1, initial=0))
    p = np.empty(size.shape)
    for k, null in enumerate(maxima.T):
        p[..., k] = _reached(size[..., k], null)
    return p


def _reached(size, null):
    null = np.sort(null)
    above = len(null) - np.searchsorted(null, size, side="left")
    return (1 + above) / (1 + len(null))


def cut_at(counts, share=0.01):
    """|r| that a share of neurons reaches by chance, network by network.

    To be taken from a null of its own draws, so that what is counted beyond it does not
    know of the draws that it is held against.

    Parameters
    ----------
    counts : array of shape (n_networks, n_bins)
        Of ``Null``.
    share : float

    Returns
    -------
    cut : array of shape (n_networks,)
    """
    beyond = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1] / counts.sum(1)[:, None]
    return (beyond > share).sum(1) / counts.shape[1]


def layer_shares(synchrony, n_layers, cut):
    """Share of each layer's neurons whose |r| reaches a cut: many weak ones count.

    As the mass of a cluster asks less of single voxels, this asks less of single
    neurons. It is held against ``Null.shares``, the largest of all layers, by
    ``familywise_p(..., by_network=True)``.

    Parameters
    ----------
    synchrony : array of shape (n_neurons, n_networks)
        Neurons layer-major.
    n_layers : int
    cut : array of shape (n_networks,)

    Returns
    -------
    shares : array of shape (n_layers, n_networks)
    """
    size = np.abs(np.asarray(synchrony))
    n_units = len(size) // n_layers
    return (size >= cut).reshape(n_layers, n_units, size.shape[1]).mean(1)


def false_discovery_q(synchrony, counts, *, over="network"):
    """Benjamini-Hochberg q value of every neuron and network.

    The p value of a pair is the share of |r| in the network's own null that reach it::

        p = (1 + #(null >= |r|)) / (1 + n_draws)

    so that p times the number of neurons estimates the false ones beyond |r|, whether
    or not neurons have the same null (as in Storey & Tibshirani 2003). One null for
    networks of unlike spectra would hide the fast ones and invent slow ones.

    Parameters
    ----------
    synchrony : array of shape (n_neurons, n_networks)
    counts : array of shape (n_networks, n_bins)
        Of ``Null``.
    over : {"network", "all"}
        Neurons of each network, or all neurons and networks together.

    Returns
    -------
    q : array of shape (n_neurons, n_networks)
    """
    if over not in ("network", "all"):
        raise ValueError(f"over must be network or all, found {over!r}")
    n_bins = counts.shape[1]
    at = (np.abs(synchrony).clip(max=1) * n_bins).astype(int).clip(max=n_bins - 1)
    # a whole bin counts as reached: p errs on the large side
    reached = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]
    p = (1 + reached) / (1 + counts.sum(1)[:, None])
    p = np.take_along_axis(p.T, at, axis=0)
    if over == "all":
        return stats.false_discovery_control(p.ravel()).reshape(p.shape)
    return stats.false_discovery_control(p, axis=0)
