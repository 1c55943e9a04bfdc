"""Anchors: each neuron's best network, each network's best neuron; in two models.

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
N_BINS = 10  # of relative depth


def strongest_neurons(synchrony, n):
    """The n neurons of largest |synchrony| of each network, best first.

    Of ``synchrony`` (n_neurons, n_networks); an int array of shape (n, n_networks).
    """
    size = np.abs(synchrony)
    some = np.argpartition(size, len(size) - n, axis=0)[-n:]
    order = np.argsort(-np.take_along_axis(size, some, 0), axis=0, kind="stable")
    return np.take_along_axis(some, order, 0)


def anchors(synchrony):
    """Anchors both ways, by |synchrony|.

    Parameters
    ----------
    synchrony : array of shape (n_neurons, n_networks)

    Returns
    -------
    best_network : int array of shape (n_neurons,)
        -1 for a neuron without any synchrony (a constant one).
    best_neuron : int array of shape (n_networks,)
    mutual : bool array of shape (n_networks,)
        Whether the network is that neuron's best, too.
    """
    size = np.abs(synchrony)
    best_network = np.full(len(size), -1)
    if size.shape[1]:
        best_network = np.where(size.any(1), size.argmax(1), -1)
    best_neuron = strongest_neurons(synchrony, 1)[0]
    return best_network, best_neuron, best_network[best_neuron] == range(size.shape[1])


def surrogate_synchrony(
    responses,
    timecourses,
    basis,
    *,
    n_draws,
    rng,
    null_method="shift",
    run_lengths=(),
    drawn=None,
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
        Of ``surrogates.draw``.
    drawn : array of shape (n_draws, n_neurons, n_networks), optional
        Of other text (``synchrony.text_synchrony``), which takes long to read: given
        back draw by draw, and all else is not used.

    Yields
    ------
    synchrony : float32 array of shape (n_neurons, n_networks)
    """
    if drawn is not None:
        yield from drawn
        return
    units = synchrony.unit_rows(responses)
    coloured = surrogates.before_projection(timecourses, basis, run_lengths)
    for begin in range(0, n_draws, N_TOGETHER):
        n = min(N_TOGETHER, n_draws - begin)
        some = surrogates.draw(
            coloured, n, null_method=null_method, run_lengths=run_lengths, rng=rng
        )
        some = timeseries.residuals(some.reshape(len(some), -1), basis)
        r = synchrony.synchrony(units, some)
        yield from r.reshape(len(r), n, -1).swapaxes(0, 1)


def global_networks(synchrony, null, *, names):
    """How many neurons each network anchors, against surrogates.

    Parameters
    ----------
    synchrony : array of shape (n_neurons, n_networks)
    null : iterable of arrays of the shape of ``synchrony``
        Draws of ``surrogate_synchrony``. A network whose spectrum resembles the
        neurons' anchors many by chance: the null is each network's own.
    names : list of str

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

    def anchored(synchrony):
        best = anchors(synchrony)[0]
        return np.bincount(best[best >= 0], minlength=len(names))

    counts, null = anchored(synchrony), np.array([*map(anchored, null)])
    n = max(counts.sum(), 1)
    p = matching.p_values(counts, null)
    table = {
        "neurons": counts,
        "share": counts / n,
        "null_mean": null.mean(0) / n,
        "null_95": np.percentile(null, 95, axis=0) / n,
        "p": p,
        "q": stats.false_discovery_control(p),
        "p_familywise": inference.max_p([*np.vstack([counts, null]).T]),
    }
    return pd.DataFrame(table, pd.Index(names, name="network"))


def depth_profile(synchrony, n_layers, *, top=0.01):
    """Where in a model the top anchors of each network lie.

    Models of different depth become comparable: layer l of L spans the relative depths
    l / L to (l + 1) / L, and its anchors are spread evenly over the bins it spans.

    Parameters
    ----------
    synchrony : array of shape (n_neurons, n_networks)
        Neurons layer-major.
    n_layers : int
    top : float
        Share of the neurons, those of largest |synchrony|.

    Returns
    -------
    profile : array of shape (n_networks, n_bins)
        Shares; rows sum to 1. Without preference for any depth all are 1 / n_bins.
    """
    neurons = strongest_neurons(synchrony, max(1, round(top * len(synchrony))))
    layer = neurons // (len(synchrony) // n_layers)
    of_layer = [np.bincount(k, minlength=n_layers) for k in layer.T]
    of_layer = np.array(of_layer).reshape(-1, n_layers)
    edges, bins = np.arange(n_layers + 1) / n_layers, np.arange(N_BINS + 1) / N_BINS
    high = np.minimum(edges[1:, None], bins[1:])
    overlap = np.maximum(high - np.maximum(edges[:-1, None], bins[:-1]), 0) * n_layers
    return of_layer @ overlap / len(neurons)


def depth_beside_chance(responses, timecourses, null, n_layers, *, top=0.01):
    """``depth_profile`` of a model beside that of surrogates, and p of its mean depth.

    ::

        depth = sum over bins of share * centre of the bin

    Parameters
    ----------
    responses, timecourses
        See ``surrogate_synchrony``.
    null : iterable of arrays of shape (n_neurons, n_networks)
        Draws of ``surrogate_synchrony``, or of ``synchrony.text_synchrony``.
    n_layers, top
        See ``depth_profile``.

    Returns
    -------
    profiles : array of shape (n_networks + 1, n_bins)
        The mean over surrogates, which need not be even, is the last row.
    p : array of shape (n_networks,)
        That a network's anchors lie earlier or later than those of its surrogates;
        two-sided, family-wise over networks (``inference.two_sided_max_p``).
    """
    null = np.stack([depth_profile(drawn, n_layers, top=top) for drawn in null])
    found = synchrony.synchrony(responses, timecourses)
    found = depth_profile(found, n_layers, top=top)
    centres = (np.arange(N_BINS) + 0.5) / N_BINS
    p = inference.two_sided_max_p(found @ centres, null @ centres)
    by_chance = null.mean((0, 1)) if null.size else np.full(N_BINS, np.nan)
    return np.vstack([found, by_chance]), p


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
    top=0.01,
    names,
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
    features : array of shape (n_times, n_features)
        On the BOLD clock (``regressors.story_regressors``); confounds are removed from
        them. With few features their correlation is coarse.
    top : float
        See ``depth_profile``.
    names : list of str

    Returns
    -------
    table : DataFrame, a row a network
        ``r_signals`` (over time), ``r_depth`` (over bins), ``r_features`` (over
        features), for each its null's 95th percentile ``null_*``, one-sided ``p_*``
        not corrected for the number of networks, and ``familywise_*`` that is
        (``inference.max_p``). NaN where a profile is flat.
    """
    units = [synchrony.unit_rows(responses).numpy() for responses, _ in models]
    clean = timeseries.residuals(features, basis)

    def compare(timecourses):
        brain, each = synchrony.unit(timecourses).astype(np.float32), []
        for unit, (_, n_layers) in zip(units, models, strict=True):
            r = unit @ brain
            depth = depth_profile(r, n_layers, top=top)
            best = strongest_neurons(r, max(1, round(top * len(r))))
            sign = np.sign(np.take_along_axis(r, best, 0)) / len(best)
            signals = np.empty((unit.shape[1], brain.shape[1]), np.float32)
            for k, some in enumerate(best.T):
                signals[:, k] = sign[:, k] @ unit[some]
            each.append((signals, depth.T, matching.correlate(clean.T, signals.T)))
        return [_same(a, b) for a, b in zip(*each, strict=True)]

    coloured = surrogates.before_projection(timecourses, basis, run_lengths)
    draws = (
        surrogates.draw_one(
            coloured, rng, null_method=null_method, run_lengths=run_lengths
        )
        for _ in range(n_draws)
    )
    draws = (timeseries.residuals(drawn, basis) for drawn in draws)
    observed, null = compare(timecourses), np.array([*map(compare, draws)])
    known = np.nan_to_num(null, nan=-1)
    p = matching.p_values(observed, known)
    table = {}
    for i, what in enumerate(("signals", "depth", "features")):
        table[f"r_{what}"] = observed[i]
        table[f"null_{what}"] = np.nanpercentile(null[:, i], 95, axis=0)
        table[f"p_{what}"] = p[i]
        both = np.vstack([np.nan_to_num(observed[i], nan=-1), known[:, i]])
        familywise = inference.max_p([*both.T])
        flat = np.isnan(observed[i])
        table[f"familywise_{what}"] = np.where(flat, np.nan, familywise)
    return pd.DataFrame(table, pd.Index(names, name="network"))


def _same(a, b):
    """Correlation of each column with its namesake; NaN where one is constant."""
    z = timeseries.zscore
    r = (z(a) * z(b)).mean(0)
    return np.where((np.ptp(a, 0) > 1e-9) & (np.ptp(b, 0) > 1e-9), r, np.nan)
