"""How often networks come back: over texts, seeds, corpora and models."""

import itertools

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from anbn.networks import decomposition
from anbn.stats import matching

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


def domains(tokens, documents):
    """Where each domain of text stands among the tokens of the corpora.

    Parameters
    ----------
    tokens : DataFrame
        Column ``document``; the documents of a domain follow one another.
    documents : DataFrame
        Column ``corpus``: the domain.

    Returns
    -------
    domains : dict of str to slice
        Of tokens.
    """
    names = documents["corpus"].to_numpy()[tokens["document"]]
    rows = {name: np.flatnonzero(names == name) for name in dict.fromkeys(names)}
    return {name: slice(int(r[0]), int(r[-1]) + 1) for name, r in rows.items()}


def slices(domains, n_tokens):
    """Each domain cut into stretches of tokens, across its documents.

    Parameters
    ----------
    domains : dict of str to slice
    n_tokens : int
        Of a slice; a shorter domain is one slice, what is left at an end is in none.

    Returns
    -------
    slices : dict of str to slice
        Called by domain and number.
    """
    found = {}
    for name, domain in domains.items():
        step = min(n_tokens, domain.stop - domain.start)
        starts = range(domain.start, domain.stop + 1 - step, step)
        found |= {f"{name} {i}": slice(at, at + step) for i, at in enumerate(starts)}
    return found


def members_of_parts(
    networks, activations, parts, *, membership_threshold, membership, two_sided=False
):
    """Networks of parts of the text, each found as those of all text were.

    Parameters
    ----------
    networks : decomposition.Decomposition
        Of all text.
    activations : array or DataArray of shape (n_tokens, n_layers, n_neurons)
    parts : dict of str to slice
        Of tokens, as from ``slices`` or ``domains``.
    membership_threshold, membership, two_sided
        ``value``, ``by`` and ``two_sided`` of ``decomposition.threshold``.

    Returns
    -------
    members : dict of str to bool array of shape (n_networks, n_layers, n_neurons)
        A part may have fewer networks than were asked for.
    """
    found = {}
    for name, rows in parts.items():
        weights = networks.refit(activations[rows]).networks
        found[name] = decomposition.threshold(
            weights, membership_threshold, by=membership, two_sided=two_sided
        ).reshape(len(weights), *activations.shape[1:])
    return found


def shuffled(members, rng):
    """Networks of other neurons: as many in each layer, drawn at random.

    Parameters
    ----------
    members : bool array of shape (n_networks, n_layers, n_neurons)
    rng : numpy Generator

    Returns
    -------
    members : bool array of the same shape
        Every layer of every network has a permutation of its own.
    """
    drawn = np.zeros_like(members)
    for network, other, own in zip(
        members, drawn, rng.spawn(len(members)), strict=True
    ):
        other[:] = own.permuted(network, axis=1)
    return drawn


def recurrence(templates, individuals, *, min_iou=PUBLISHED_IOU):
    """Count the individual networks in which each template comes back.

    Parameters
    ----------
    templates : bool array of shape (n_templates, n_layers, n_neurons)
        Networks of all text.
    individuals : bool array of shape (..., n_layers, n_neurons)
        Networks of slices of the text.
    min_iou : float
        A match is an intersection over union of more; 0.2 is the published value
        (Liu et al. 2025, arXiv 2502.20408).

    Returns
    -------
    counts : int array of shape (n_templates,)
        Of all individual networks. Several of one slice may match.
    """
    overlap = iou(templates, individuals.reshape(-1, *templates.shape[1:]))
    return (overlap > min_iou).sum(1)


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
    flat = individuals.reshape(-1, int(np.prod(templates.shape[1:])))
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
        Over pairs; NaN if a set is empty. It is above 0 for any two sets: compare it
        with that of shuffled neurons.
    """
    return _paired_mean(iou(a, b))


def _paired_mean(similarity):
    """Mean of the best one-to-one assignment; NaN if there is nothing to assign."""
    if not similarity.size:
        return np.nan
    return similarity[linear_sum_assignment(similarity, maximize=True)].mean()


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
    """
    a, b = (np.asarray(x, float).T for x in (a, b))
    return _paired_mean(np.abs(matching.correlate(a, b)))


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
        table.loc[a, b] = table.loc[b, a] = how(sets[a], sets[b])
    return table
