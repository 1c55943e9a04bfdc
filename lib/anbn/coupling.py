"""Synchrony of neurons with brain networks, its null distribution, and anchors.

Source: Liu et al. 2023 (arXiv 2303.14871): synchrony is the Pearson correlation of a
neuron's response with a network's time course. The null and the thresholds are ours.
"""

import numpy as np
from tqdm import tqdm

from anbn import hemodynamics


def _unit(data):
    """Columns of zero mean and unit norm, so that products are correlations."""
    return hemodynamics.zscore(data) / np.sqrt(len(data))


def synchrony(responses, timecourses):
    """Pearson correlation of every neuron with every network.

    Parameters
    ----------
    responses : array of shape (n_times, n_neurons)
    timecourses : array of shape (n_times, n_networks)
        Both without confounds (``hemodynamics.remove``).

    Returns
    -------
    synchrony : float32 array of shape (n_neurons, n_networks)
        0 for a constant neuron.
    """
    return (_unit(responses).T @ _unit(timecourses)).astype(np.float32)


def phase_randomise(timecourses, rng):
    """Surrogates with the same spectra and cross-spectra: Fourier phases are turned.

    The same random angles for all networks (Prichard & Theiler 1994).

    Parameters
    ----------
    timecourses : array of shape (n_times, n_networks)
    rng : numpy Generator

    Returns
    -------
    surrogates : array of shape (n_times, n_networks)
    """
    spectrum = np.fft.rfft(timecourses, axis=0)
    angles = rng.uniform(0, 2 * np.pi, len(spectrum))
    angles[0] = 0
    if len(timecourses) % 2 == 0:
        angles[-1] = 0
    turned = spectrum * np.exp(1j * angles)[:, None]
    return np.fft.irfft(turned, n=len(timecourses), axis=0)


def maximum_null(responses, timecourses, basis, *, n_permutations, rng, batch_size=20):
    """Null distribution of the largest |synchrony| over neurons.

    Surrogates of the time courses pass through the same projection as the data did.

    Parameters
    ----------
    responses : array of shape (n_times, n_neurons)
        Without confounds.
    timecourses : array of shape (n_times, n_networks)
    basis : array of shape (n_times, n_kept)
        Confounds, from ``hemodynamics.orthonormal``.
    n_permutations : int
    rng : numpy Generator
    batch_size : int
        Surrogates a matrix product: n_neurons * batch_size * n_networks * 4 bytes.

    Returns
    -------
    maxima : array of shape (n_permutations, n_networks)
    """
    units = np.ascontiguousarray(_unit(responses).T, np.float32)
    n_networks = timecourses.shape[1]
    maxima = np.empty((n_permutations, n_networks))
    for begin in tqdm(range(0, n_permutations, batch_size), "null", mininterval=5):
        n = min(batch_size, n_permutations - begin)
        drawn = np.hstack([phase_randomise(timecourses, rng) for _ in range(n)])
        surrogates = _unit(hemodynamics.remove(drawn, basis)).astype(np.float32)
        r = units @ surrogates
        highest = np.maximum(r.max(0), -r.min(0))
        maxima[begin : begin + n] = highest.reshape(n, n_networks)
    return maxima


def familywise_threshold(maxima, *, level=0.05):
    """|r| that the largest of all neurons and networks exceeds by chance at ``level``.

    Parameters
    ----------
    maxima : array of shape (n_permutations, n_networks)
        From ``maximum_null``.
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


def anchors(synchrony):
    """Anchors both ways (Liu et al. 2023).

    Returns
    -------
    best_network : int array of shape (n_neurons,)
        The network each neuron follows best, by |synchrony|.
    best_neuron : int array of shape (n_networks,)
        The neuron that follows each network best.
    """
    size = np.abs(synchrony)
    return size.argmax(1), size.argmax(0)


def score_truth(synchrony, threshold, names, maps, truth, true_maps):
    """Score coupling against what a simulation planted.

    Parameters
    ----------
    synchrony : array of shape (n_neurons, n_networks)
    threshold : float
    names : list of str
        Labels of the networks.
    maps : array of shape (n_networks, n_voxels)
    truth : dict
        ``driven``: names of the planted networks; ``drivers``: for each, its neurons.
    true_maps : array of shape (n_planted, n_voxels)
        The driven networks first.

    Returns
    -------
    score : dict
        ``planted_networks_found`` of ``planted_networks_total``;
        ``false_networks_found``: other named networks with a significant neuron;
        ``leftover_components_coupled``: the same for components without a name, which
        can be fragments of a driven network that the decomposition split off;
        ``driver_recall_top1pct``: drivers among the 1 % most synchronous neurons of
        their network; ``map_dice_mean``: overlap of each planted map's upper half with
        as many of the strongest voxels of the map that carries its name (0 if none).
    """
    coupled = (np.abs(synchrony) >= threshold).any(0)
    n_top = len(synchrony) // 100
    found, recall, overlap = 0, [], []
    for planted, drivers, true_map in zip(
        truth["driven"], truth["drivers"], true_maps, strict=False
    ):
        if planted not in names:
            recall.append(0.0)
            overlap.append(0.0)
            continue
        k = names.index(planted)
        found += int(coupled[k])
        top = np.argsort(-np.abs(synchrony[:, k]), kind="stable")[:n_top]
        recall.append(np.isin(drivers, top).mean())
        core = true_map > 0.5
        strongest = maps[k] >= np.sort(maps[k])[-core.sum()]
        overlap.append(2 * (core & strongest).sum() / (core.sum() + strongest.sum()))
    others = [k for k, name in enumerate(names) if name not in truth["driven"]]
    leftover = [k for k in others if names[k].startswith("unlabelled")]
    named = [k for k in others if k not in leftover]
    return {
        "planted_networks_found": found,
        "planted_networks_total": len(truth["driven"]),
        "false_networks_found": int(coupled[named].sum()),
        "leftover_components_coupled": int(coupled[leftover].sum()),
        "driver_recall_top1pct": float(np.mean(recall)),
        "map_dice_mean": float(np.mean(overlap)),
    }
