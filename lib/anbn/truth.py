"""What a simulation planted, and what was found of it."""

import numpy as np


def false_share(found, planted):
    """False discovery proportion: discoveries in networks that nothing drives.

    Parameters
    ----------
    found : bool array of shape (n_neurons, n_networks)
    planted : bool array of shape (n_networks,)

    Returns
    -------
    share : float
        Of all discoveries, 0 if there are none; its mean over data sets is the false
        discovery rate.
    """
    return float(found[:, ~planted].sum() / max(found.sum(), 1))


def score_truth(synchrony, threshold, names, maps, truth, true_maps):
    """Score coupling against what a simulation planted.

    Parameters
    ----------
    synchrony : array of shape (n_neurons, n_networks)
    threshold : float or array of shape (n_networks,)
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
