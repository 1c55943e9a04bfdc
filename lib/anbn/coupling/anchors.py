"""Anchors: each neuron's best network, each network's best neurons; in two models.

Source: Liu et al. 2023 (arXiv 2303.14871): anchors both ways; networks that anchor many
neurons are "global". The nulls and the comparison of models are ours: surrogates of
the time courses choose anchors of their own, with the neurons as they are.
"""

import numpy as np
import pandas as pd
from scipy import stats

from anbn.coupling import synchrony
from anbn.stats import inference, matching, surrogates, timeseries

N_TOGETHER = 8  # surrogates a matrix product


def strongest_neurons(synchrony, n):
    """The n neurons of largest |synchrony| of each network, best first.

    Parameters
    ----------
    synchrony : array of shape (n_neurons, n_networks)
    n : int

    Returns
    -------
    neurons : int array of shape (n, n_networks)
    """
    if not 1 <= n <= len(synchrony):
        raise ValueError(f"n must be 1 to {len(synchrony)} neurons, found {n}")
    size = np.abs(synchrony)
    some = np.argpartition(size, len(size) - n, axis=0)[-n:]
    order = np.argsort(-np.take_along_axis(size, some, 0), axis=0, kind="stable")
    return np.take_along_axis(some, order, 0)


def anchors(synchrony, *, n=1):
    """Anchors both ways, by |synchrony|.

    Parameters
    ----------
    synchrony : array of shape (n_neurons, n_networks)
    n : int
        Best neurons of each network.

    Returns
    -------
    best_network : int array of shape (n_neurons,)
        -1 for a neuron without any synchrony (a constant one).
    best_neurons : int array of shape (n, n_networks)
        Best first.
    mutual : bool array of shape (n, n_networks)
        Whether the network is that neuron's best, too.
    """
    size = np.abs(synchrony)
    best_network = np.where(size.any(1), size.argmax(1), -1)
    best_neurons = strongest_neurons(synchrony, n)
    mutual = best_network[best_neurons] == np.arange(synchrony.shape[1])
    return best_network, best_neurons, mutual


def count(best_network, n_networks):
    """Neurons anchored to each network, an array of shape (n_networks,)."""
    return np.bincount(best_network[best_network >= 0], minlength=n_networks)


def surrogate_synchrony(
    responses, timecourses, basis, *, n_draws, rng, null_method="shift", run_lengths=()
):
    """Synchrony with surrogates of the networks, one draw after another.

    Parameters
    ----------
    responses : array of shape (n_times, n_neurons)
    timecourses : array of shape (n_times, n_networks)
        Both without confounds.
    basis : array of shape (n_times, n_kept)
        Confounds, from ``timeseries.orthonormal``, removed from surrogates, too.
    n_draws : int
    rng : numpy Generator
    null_method, run_lengths
        See ``surrogates.draw``.

    Yields
    ------
    synchrony : float32 array of shape (n_neurons, n_networks)
    """
    units = synchrony.unit_rows(responses)
    n_networks = timecourses.shape[1]
    coloured = surrogates.before_projection(timecourses, basis, run_lengths)
    for begin in range(0, n_draws, N_TOGETHER):
        n = min(N_TOGETHER, n_draws - begin)
        drawn = surrogates.draw(
            coloured, n, null_method=null_method, run_lengths=run_lengths, rng=rng
        )
        drawn = timeseries.residuals(drawn.reshape(len(drawn), -1), basis)
        r = synchrony.synchrony(units, drawn)
        yield from r.reshape(-1, n, n_networks).swapaxes(0, 1)


def product(units, timecourses):
    """Synchrony of neurons that are rows of unit norm (``synchrony.unit_rows``)."""
    return units @ synchrony.unit(timecourses).astype(np.float32)


def global_networks(best_network, n_networks, *, null_counts, names=None):
    """How many neurons each network anchors, against surrogates.

    Parameters
    ----------
    best_network : int array of shape (n_neurons,)
        From ``anchors``.
    n_networks : int
    null_counts : array of shape (n_draws, n_networks)
        ``count`` of the best networks for each draw of ``surrogate_synchrony``. A
        network whose spectrum resembles the neurons' anchors many by chance: the null
        is each network's own.
    names : list of str, optional

    Returns
    -------
    table : DataFrame, a row a network
        ``neurons``, ``share``, ``null_mean`` and ``null_95`` (shares), ``p``
        (one-sided: more than by chance), ``q`` (Benjamini-Hochberg) and
        ``p_familywise``: against the most extreme of all networks in each draw
        (``inference.max_p``), which n draws bring down to 1 / (1 + n) however many
        networks there are, where the q of one network alone stays above n_networks
        times that.
    """
    counts = count(best_network, n_networks)
    n = max(counts.sum(), 1)
    table = pd.DataFrame(
        {"neurons": counts, "share": counts / n}, network_index(names, counts)
    )
    null_counts = np.asarray(null_counts)
    p = matching.p_values(counts, null_counts)
    return table.assign(
        null_mean=null_counts.mean(0) / n,
        null_95=np.percentile(null_counts, 95, axis=0) / n,
        p=p,
        q=stats.false_discovery_control(p),
        p_familywise=inference.max_p(list(np.vstack([counts, null_counts]).T)),
    )


def network_index(names, values):
    """Index of a table with a row a network."""
    return pd.Index(range(len(values)) if names is None else names, name="network")


def depth_profile(synchrony, n_layers, *, n_bins=10, top=0.01):
    """Where in a model the top anchors of each network lie.

    Models of different depth become comparable: layer l of L spans the relative depths
    l / L to (l + 1) / L, and its anchors are spread evenly over the bins it spans.

    Parameters
    ----------
    synchrony : array of shape (n_neurons, n_networks)
        Neurons layer-major.
    n_layers, n_bins : int
    top : float
        Share of the neurons, those of largest |synchrony|.

    Returns
    -------
    profile : array of shape (n_networks, n_bins)
        Shares; rows sum to 1. Without preference for any depth all are 1 / n_bins.
    """
    if len(synchrony) % n_layers:
        raise ValueError(
            f"{len(synchrony)} neurons are no multiple of n_layers = {n_layers}: give "
            "the number of layers that were recorded"
        )
    neurons = strongest_neurons(synchrony, _n_top(synchrony, top))
    layer = neurons // (len(synchrony) // n_layers)
    of_layer = np.stack([np.bincount(k, minlength=n_layers) for k in layer.T])
    edges, bins = np.arange(n_layers + 1) / n_layers, np.arange(n_bins + 1) / n_bins
    high = np.minimum(edges[1:, None], bins[1:])
    overlap = np.maximum(high - np.maximum(edges[:-1, None], bins[:-1]), 0) * n_layers
    return of_layer @ overlap / len(neurons)


def depth_beside_chance(
    responses, timecourses, basis, n_layers, *, top=0.01, draws=None, **drawing
):
    """``depth_profile`` of a model beside that of surrogates, and p of its mean depth.

    ::

        depth = sum over bins of share * centre of the bin

    Parameters
    ----------
    responses, timecourses, basis, drawing
        See ``surrogate_synchrony``.
    n_layers, top
        See ``depth_profile``.
    draws : iterable of arrays of shape (n_neurons, n_networks), optional
        Synchrony under the null, such as ``synchrony.text_synchrony``, in place of
        surrogates.

    Returns
    -------
    profiles : array of shape (n_networks + 1, n_bins)
        The mean over surrogates, which need not be even, is the last row.
    p : array of shape (n_networks,)
        That a network's anchors lie earlier or later than those of its surrogates;
        two-sided, family-wise over networks (``inference.two_sided_max_p``).
    """
    if draws is None:
        draws = surrogate_synchrony(responses, timecourses, basis, **drawing)
    null = [depth_profile(drawn, n_layers, top=top) for drawn in draws]
    found = synchrony.synchrony(responses, timecourses)
    found = depth_profile(found, n_layers, top=top)
    n_bins = found.shape[1]
    centres = (np.arange(n_bins) + 0.5) / n_bins
    p = inference.two_sided_max_p(found @ centres, np.stack(null) @ centres)
    return np.vstack([found, np.mean(null, (0, 1))]), p


def _n_top(synchrony, top):
    return max(1, round(top * len(synchrony)))


def _signed(synchrony, top):
    """Top anchors, and signs that sum to a mean; (n_networks, n_top) both."""
    best = strongest_neurons(synchrony, _n_top(synchrony, top))
    return best.T, np.sign(np.take_along_axis(synchrony, best, 0)).T / len(best)


def between_models(
    models,
    timecourses,
    basis,
    features,
    *,
    rng,
    n_draws=100,
    null_method="shift",
    run_lengths=(),
    n_bins=10,
    top=0.01,
    names=None,
):
    """Do two models anchor a network alike?

    Both models hear the same words, and anchors were chosen for following the same time
    course, so that their signals correlate whatever the network. Hence one null for
    all: surrogates of the networks choose anchors in both models anew, and
    p says whether a network's anchors agree more than those of any signal with
    its spectrum. (Shifting one model's signals would keep the choice out of the null.)

    Parameters
    ----------
    models : two pairs of (responses, n_layers)
        Responses of shape (n_times, n_neurons), without confounds; the numbers of
        neurons and layers may differ.
    timecourses, basis, rng, n_draws, null_method, run_lengths
        See ``surrogate_synchrony``.
    features : DataFrame of shape (n_times, n_features)
        On the BOLD clock (``regressors.story_regressors``); confounds are removed from
        them. With few features their correlation is coarse.
    n_bins, top
        See ``depth_profile``.
    names : list of str, optional

    Returns
    -------
    table : DataFrame, a row a network
        ``r_signals`` (over time), ``r_depth`` (over bins), ``r_features`` (over
        features), for each its null's 95th percentile ``null_*``, one-sided ``p_*``
        not corrected for the number of networks, and ``familywise_*`` that is
        (``inference.max_p``). NaN where a profile is flat.
    """
    units = [synchrony.unit_rows(responses).numpy() for responses, _ in models]
    clean = timeseries.residuals(features.to_numpy(float), basis)

    def compare(timecourses):
        each = []
        for unit, (_, n_layers) in zip(units, models, strict=True):
            synchrony = product(unit, timecourses)
            depth = depth_profile(synchrony, n_layers, n_bins=n_bins, top=top)
            pairs = zip(*_signed(synchrony, top), strict=True)
            signals = np.stack([sign @ unit[some] for some, sign in pairs], 1)
            each.append((signals, depth.T, matching.correlate(clean.T, signals.T)))
        return [_same(a, b) for a, b in zip(*each, strict=True)]

    options = {"null_method": null_method, "run_lengths": run_lengths}
    coloured = surrogates.before_projection(timecourses, basis, run_lengths)
    draws = (surrogates.draw_one(coloured, rng, **options) for _ in range(n_draws))
    draws = (timeseries.residuals(drawn, basis) for drawn in draws)
    observed, null = compare(timecourses), np.array([*map(compare, draws)])
    known = np.nan_to_num(null, nan=-1)
    p = matching.p_values(observed, known)
    table = {}
    for i, what in enumerate(("signals", "depth", "features")):
        table[f"r_{what}"] = observed[i]
        table[f"null_{what}"] = np.nanpercentile(null[:, i], 95, axis=0)
        table[f"p_{what}"] = p[i]
        flat = np.isnan(observed[i])
        both = np.vstack([np.nan_to_num(observed[i], nan=-1), known[:, i]])
        familywise = inference.max_p(list(both.T))
        table[f"familywise_{what}"] = np.where(flat, np.nan, familywise)
    return pd.DataFrame(table, network_index(names, observed[0]))


def _same(a, b):
    """Correlation of each column with its namesake; NaN where one is constant."""
    z = timeseries.zscore
    r = (z(a) * z(b)).mean(0)
    return np.where((np.ptp(a, 0) > 1e-9) & (np.ptp(b, 0) > 1e-9), r, np.nan)
