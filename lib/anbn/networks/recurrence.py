"""How often networks come back: over texts, seeds, corpora and models."""

import itertools

import numpy as np
import pandas as pd

from anbn.stats import matching, timeseries

PUBLISHED_IOU = 0.2  # Liu et al. 2025


def iou(a, b):
    """Intersection over union (Jaccard) of every row of ``a`` with every row of ``b``.

    ::

        iou[i, j] = |a_i and b_j| / |a_i or b_j|,  0 where both are empty

    Parameters
    ----------
    a, b : bool arrays of shape (n_a, ...), (n_b, ...)
        The same units in both; all dimensions but the first are units.

    Returns
    -------
    iou : array of shape (n_a, n_b)
    """
    a, b = _members(a, "a"), _members(b, "b")
    if a.shape[1:] != b.shape[1:]:
        raise ValueError(
            f"networks of different units, {a.shape[1:]} and {b.shape[1:]}, have no "
            "overlap: compare their time courses (timecourse_agreement)"
        )
    a, b = (
        x.reshape(len(x), int(np.prod(x.shape[1:]))).astype(np.float32) for x in (a, b)
    )
    both = a @ b.T
    either = a.sum(1)[:, None] + b.sum(1) - both
    return (both / np.maximum(either, 1)).astype(float)


def _members(members, name):
    members = np.asarray(members)
    if members.dtype != bool:
        raise ValueError(
            f"{name} must say which units belong (bool, see decomposition.threshold), "
            f"found {members.dtype}"
        )
    return members


def recurrence(templates, individuals, *, min_iou=PUBLISHED_IOU):
    """Count the individual networks in which each template comes back.

    Parameters
    ----------
    templates : bool array of shape (n_templates, n_layers, n_neurons)
        Networks of all text.
    individuals : bool array of shape (n_individuals, n_networks, n_layers, n_neurons)
        Networks of slices of the text.
    min_iou : float
        A match is an intersection over union of more; 0.2 is the published value
        (Liu et al. 2025, arXiv 2502.20408).

    Returns
    -------
    counts : int array of shape (n_templates,)
        Of ``n_individuals * n_networks``. Several networks of one slice may match.
    """
    templates, individuals = _slices(templates, individuals)
    overlap = iou(templates, individuals.reshape(-1, *templates.shape[1:]))
    return (overlap > min_iou).sum(1)


def _slices(templates, individuals):
    templates = _members(templates, "templates")
    individuals = _members(individuals, "individuals")
    if templates.ndim != 3 or individuals.ndim != 4:
        raise ValueError(
            "expected templates of shape (n_templates, n_layers, n_neurons) and "
            "individuals of shape (n_individuals, n_networks, n_layers, n_neurons); "
            f"found {templates.shape} and {individuals.shape}"
        )
    return templates, individuals


def recurrence_null(templates, individuals, *, n_draws, rng, min_iou=PUBLISHED_IOU):
    """The same counts for templates whose neurons are shuffled within layers.

    A draw permutes the neurons of each layer, the same way for all templates: their
    sizes, spread over layers and overlaps with each other stay, only which neurons
    they are does not. So a high count that comes of sitting in the same layers is no
    evidence.

    Parameters
    ----------
    templates, individuals, min_iou
        See ``recurrence``.
    n_draws : int
    rng : numpy Generator

    Returns
    -------
    null : int array of shape (n_draws, n_templates)
    """
    templates, individuals = _slices(templates, individuals)
    flat = individuals.reshape(-1, templates[0].size)
    individual_sizes = flat.sum(1)
    sizes = templates.sum((1, 2))
    # only the few neurons of a template are looked up: quicker than a matrix product
    by_neuron = np.ascontiguousarray(flat.T)
    n_layers, n_neurons = templates.shape[1:]
    places = [np.nonzero(template) for template in templates]
    null = np.empty((n_draws, len(templates)), int)
    for draw in null:
        shuffled = rng.permuted(np.tile(np.arange(n_neurons), (n_layers, 1)), axis=1)
        for k, (layer, neuron) in enumerate(places):
            both = by_neuron[layer * n_neurons + shuffled[layer, neuron]].sum(
                0, dtype=np.int32
            )
            either = np.maximum(sizes[k] + individual_sizes - both, 1)
            draw[k] = (both / either > min_iou).sum()
    return null


def member_agreement(a, b):
    """Jaccard agreement of two sets of networks of the same neurons.

    For two seeds, two corpora, or two models of one shape whose neurons correspond,
    such as a model before and after fine-tuning. Networks are paired one to one so
    that the total is largest; of sets of different sizes the smaller one is paired.

    Parameters
    ----------
    a, b : bool arrays of shape (n_a, n_layers, n_neurons), (n_b, n_layers, n_neurons)

    Returns
    -------
    mean : float
        Over pairs. It is above 0 for any two sets: compare it with that of shuffled
        neurons.
    pairs : list of (row of a, row of b, iou)
        By row of ``a``.
    """
    return _paired(iou(a, b))


def _paired(similarity):
    """Mean and pairs of the best one-to-one assignment."""
    if not similarity.size:
        raise ValueError(f"no networks to compare: {similarity.shape} pairs")
    column = matching.match(similarity)
    pairs = [
        (i, int(j), float(similarity[i, j])) for i, j in enumerate(column) if j >= 0
    ]
    return float(np.mean([value for *_, value in pairs])), pairs


def timecourse_agreement(a, b):
    """Agreement of networks of two models by what they answer on the same words.

    Neurons of different models cannot be paired, their networks can: by the absolute
    correlation of time courses, one to one. Signs are left aside.

    Parameters
    ----------
    a, b : arrays of shape (n_samples, n_a), (n_samples, n_b)
        The same words in the same order (models that cut them into different tokens:
        the mean over each word's tokens). Heavy tails weigh much: pass ranks
        (``scipy.stats.rankdata(x, axis=0)``) for Spearman's correlation.

    Returns
    -------
    mean : float
    pairs : list of (column of a, column of b, |r|)
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if len(a) != len(b):
        raise ValueError(
            f"time courses of {len(a)} and {len(b)} samples: expected the same words"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("time courses hold NaN or infinity: leave such words out")
    r = timeseries.zscore(a).T @ timeseries.zscore(b) / len(a)
    return _paired(np.abs(r))


def pairwise(sets, how):
    """Agreement of every two of several sets of networks.

    Parameters
    ----------
    sets : dict of str to array
    how : callable
        ``member_agreement`` or ``timecourse_agreement``.

    Returns
    -------
    table : DataFrame
        Square, symmetric.
    """
    table = pd.DataFrame(np.nan, list(sets), list(sets))
    for a, b in itertools.combinations_with_replacement(sets, 2):
        table.loc[a, b] = table.loc[b, a] = how(sets[a], sets[b])[0]
    return table
