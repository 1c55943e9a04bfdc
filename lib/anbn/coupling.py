"""Synchrony of neurons with brain networks, its null distribution and thresholds.

Source: Liu et al. 2023 (arXiv 2303.14871): synchrony is the Pearson correlation of a
neuron's response with a network's time course. The nulls and the thresholds are ours.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.lib.format import open_memmap
from scipy import stats
from tqdm import tqdm

from anbn import artifacts, hemodynamics, surrogates

N_ROWS = 4096  # neurons of a block
N_BINS = 4096  # of |r| from 0 to 1
N_COUNTED = 2048  # neurons whose |r| are counted, evenly spread over all


@dataclass(frozen=True)
class Null:
    """Synchrony when there is no coupling.

    Attributes
    ----------
    maxima : array of shape (n_permutations, n_networks)
        The largest |r| over all neurons.
    counts : int array of shape (n_bins,)
        Histogram of |r| from 0 to 1, of evenly spread neurons, all networks together.
    """

    maxima: np.ndarray
    counts: np.ndarray


def _unit(data):
    """Columns of zero mean and unit norm, so that products are correlations."""
    return hemodynamics.zscore(data) / np.sqrt(len(data))


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
        units[block] = torch.from_numpy(_unit(np.asarray(responses[:, block], float)).T)
    return units


def synchrony(responses, timecourses):
    """Pearson correlation of every neuron with every network.

    Parameters
    ----------
    responses : array of shape (n_times, n_neurons), or ``unit_rows`` of it
    timecourses : array of shape (n_times, n_networks)
        Both without confounds (``hemodynamics.remove``).

    Returns
    -------
    synchrony : float32 array of shape (n_neurons, n_networks)
        0 for a constant neuron.
    """
    brain = torch.from_numpy(_unit(timecourses)).float()
    return (unit_rows(responses) @ brain).numpy()


def null(
    responses,
    timecourses,
    basis,
    *,
    kind="phase",
    run_lengths=(),
    n_permutations,
    rng,
    batch_size=20,
    device="cpu",
):
    """Synchrony with surrogates of the networks' time courses.

    Surrogates pass through the same projection as the data did (see
    ``surrogates.before_projection``), and meet all neurons in one blocked matrix
    product, of which only the maxima and a histogram are kept.

    Parameters
    ----------
    responses : array of shape (n_times, n_neurons), or ``unit_rows`` of it
    timecourses : array of shape (n_times, n_networks)
        Both without confounds.
    basis : array of shape (n_times, n_kept)
        Confounds, from ``hemodynamics.orthonormal``.
    kind, run_lengths
        See ``surrogates.draw``.
    n_permutations : int
    rng : numpy Generator
    batch_size : int
        Surrogates a product: 4096 * batch_size * n_networks * 4 bytes.
    device : str
        Of torch.

    Returns
    -------
    null : Null
    """
    timecourses = surrogates.before_projection(timecourses, basis, run_lengths)
    units = unit_rows(responses).to(device)
    step = max(1, len(units) // N_COUNTED)
    n_networks = timecourses.shape[1]
    maxima = np.empty((n_permutations, n_networks))
    counts = torch.zeros(N_BINS, dtype=torch.float64)
    buffer = torch.empty(N_ROWS, batch_size * n_networks, device=device)
    for begin in range(0, n_permutations, batch_size):
        n = min(batch_size, n_permutations - begin)
        drawn = surrogates.draw(
            timecourses, n, kind=kind, run_lengths=run_lengths, rng=rng
        )
        drawn = hemodynamics.remove(drawn.reshape(len(drawn), -1), basis)
        brain = torch.from_numpy(_unit(drawn)).float().to(device)
        highest = torch.zeros(brain.shape[1], device=device)
        for block in units.split(N_ROWS):
            r = torch.mm(block, brain, out=buffer[: len(block), : brain.shape[1]])
            torch.maximum(highest, r.abs_().amax(0), out=highest)
            counts += _histogram(r[::step])
        maxima[begin : begin + n] = highest.cpu().numpy().reshape(n, n_networks)
    return Null(maxima, counts.numpy().astype(np.int64))


def _histogram(r):
    """Counts of |r|."""
    # float32 products may exceed 1 in the last digit
    return torch.histc(r.clamp(max=1), N_BINS, 0, 1).double().cpu()


def text_null(activations, H, timecourses, basis, *, n_permutations, rng, kept=None):
    """Synchrony of responses to other text, spoken with this story's timing.

    Parameters
    ----------
    activations, H
        See ``surrogates.other_texts``.
    timecourses : array of shape (n_times, n_networks)
        Without confounds.
    basis : array of shape (n_times, n_kept)
    n_permutations : int
    rng : numpy Generator
    kept
        See ``surrogates.other_texts``.

    Returns
    -------
    null : Null
    """
    brain = torch.from_numpy(_unit(timecourses)).float()
    step = max(1, int(np.prod(activations.shape[1:])) // N_COUNTED)
    maxima = torch.zeros(n_permutations, brain.shape[1])
    counts = torch.zeros(N_BINS, dtype=torch.float64)
    layers = surrogates.other_texts(activations, H, n_permutations, rng, kept=kept)
    for _, drawn in tqdm(layers, "null", activations.shape[1], mininterval=5):
        for highest, responses in zip(maxima, drawn, strict=True):
            r = unit_rows(hemodynamics.remove(responses, basis)) @ brain
            torch.maximum(highest, r.abs_().amax(0), out=highest)
            counts += _histogram(r[::step])
    return Null(maxima.double().numpy(), counts.numpy().astype(np.int64))


def subjects(responses, timecourses, basis, path, *, level=0.05, **drawing):
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
    level : float
        Family-wise error, over neurons and networks, in each subject.
    drawing
        Options of ``null``.

    Returns
    -------
    synchrony : float32 array of shape (n_subjects, n_neurons, n_networks)
        Mapped from the file.
    thresholds : array of shape (n_subjects,)
    """
    units, thresholds = unit_rows(responses), []
    shape = (len(timecourses), len(units), timecourses.shape[2])
    with artifacts.atomic(path) as temporary:
        mapped = open_memmap(temporary, "w+", np.float32, shape)
        for i, one in enumerate(tqdm(timecourses, "subjects", mininterval=5)):
            mapped[i] = synchrony(units, one)
            drawn = null(units, one, basis, **drawing)
            thresholds.append(familywise_threshold(drawn.maxima, level=level))
        mapped.flush()
    return np.load(path, mmap_mode="r"), np.array(thresholds)


def familywise_threshold(maxima, *, level=0.05):
    """|r| that the largest of all neurons and networks exceeds by chance at ``level``.

    Parameters
    ----------
    maxima : array of shape (n_permutations, n_networks)
        Of ``Null``.
    """
    highest = np.sort(maxima.max(1))
    # the data count as one permutation: (1 + n) draws
    rank = int(np.ceil((1 - level) * (len(highest) + 1))) - 1
    if rank >= len(highest):
        raise ValueError(
            f"{len(highest)} permutations are too few for a level of {level}"
        )
    return float(highest[rank])


def familywise_p(synchrony, maxima):
    """p value of every neuron and network, corrected over all of both.

    Returns
    -------
    p : array of the shape of ``synchrony``
    """
    highest = np.sort(maxima.max(1))
    above = len(highest) - np.searchsorted(highest, np.abs(synchrony), side="left")
    return (1 + above) / (1 + len(highest))


def false_discovery_q(synchrony, counts):
    """Benjamini-Hochberg q value of every neuron and network, over all of both.

    The p value of a pair is the share of |r| in the pooled null that reach its own::

        p = (1 + #(null >= |r|)) / (1 + n_null)

    so that p times the number of pairs estimates the false ones beyond |r|, whether or
    not neurons have the same null (as in Storey & Tibshirani 2003).

    Parameters
    ----------
    synchrony : array of shape (n_neurons, n_networks)
    counts : array of shape (n_bins,)
        Of ``Null``.

    Returns
    -------
    q : array of shape (n_neurons, n_networks)
    """
    n_bins = len(counts)
    reached = np.append(np.cumsum(counts[::-1])[::-1], 0)
    # a whole bin counts as reached: p errs on the large side
    p = (1 + reached) / (1 + counts.sum())
    at = (np.abs(synchrony).clip(max=1) * n_bins).astype(int).clip(max=n_bins - 1)
    return stats.false_discovery_control(p[at].ravel()).reshape(synchrony.shape)


def parametric_p(synchrony, n_free):
    """Two-sided p value of Pearson's r for independent samples: for comparison only.

    BOLD and responses are autocorrelated, so these p values are far too small.

    Parameters
    ----------
    synchrony : array
    n_free : int
        Volumes less removed regressors.
    """
    r = np.abs(synchrony).clip(max=1 - 1e-7)
    t = r * np.sqrt((n_free - 2) / (1 - r**2))
    return 2 * stats.t.sf(t, n_free - 2)
