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


def score_synchrony(synchrony, threshold, names, maps, truth, true_maps):
    """Score coupling of single neurons against what a simulation planted.

    Parameters
    ----------
    synchrony : array of shape (n_neurons, n_networks)
    threshold : float or array of shape (n_networks,)
    names : list of str
        Labels of the networks.
    maps : array of shape (n_networks, n_voxels)
    truth : dict
        As in ``truth.json``: names of the networks that follow a ``few`` neurons, the
        ``drivers`` of each of these, and networks that follow a ``population``.
    true_maps : array of shape (n_planted, n_voxels)
        Of the networks that few neurons drive first.

    Returns
    -------
    score : dict
        ``planted_networks_found`` of ``planted_networks_total``: networks driven by few
        neurons that have a significant one;
        ``population_networks_coupled``: networks driven by a population that have one;
        ``false_networks_found``: other named networks that have one;
        ``leftover_components_coupled``: the same for components without a name, which
        can be fragments of a driven network that the decomposition split off;
        ``driver_recall_top1pct``: drivers among the 1 % most synchronous neurons of
        their network; ``map_dice_mean``: overlap of each planted map's upper half with
        as many of the strongest voxels of the map that carries its name (0 if none).
    """
    coupled = (np.abs(synchrony) >= threshold).any(0)
    n_top = max(1, len(synchrony) // 100)
    found, recall, overlap = 0, [], []
    for planted, drivers, true_map in zip(
        truth["few"], truth["drivers"], true_maps, strict=False
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
    coupled_names = [name for name, c in zip(names, coupled, strict=True) if c]
    others = set(coupled_names) - {*truth["few"], *truth["population"]}
    leftover = {name for name in others if name.startswith("unlabelled")}
    return {
        "planted_networks_found": found,
        "planted_networks_total": len(truth["few"]),
        "population_networks_coupled": len({*coupled_names} & {*truth["population"]}),
        "false_networks_found": len(others - leftover),
        "leftover_components_coupled": len(leftover),
        "driver_recall_top1pct": float(np.mean(recall)),
        "map_dice_mean": float(np.mean(overlap)),
    }


def score_encoding(gain, names, p, truth, true_maps, *, level=0.05):
    """Score a model's held-out gain over word rate against what a simulation planted.

    Parameters
    ----------
    gain : array of shape (n_voxels,)
        Held-out r with the model less r of word rate alone, of the group mean.
    names : list of str
        Labels of the networks.
    p : array of shape (n_networks,)
        Family-wise, of each network's gain (``encoding.gain_over_shifts``).
    truth : dict
        As in ``truth.json``.
    true_maps : array of shape (n_planted, n_voxels)
        In the order of ``truth["networks"]``.
    level : float

    Returns
    -------
    score : dict
        ``encoding_gain_planted``: mean gain in the cores (upper half of the map) of
        networks that a population drives; ``encoding_gain_elsewhere``: in those that no
        neuron drives; ``population_networks_found`` of ``population_networks_total``:
        those with a gain beyond rolled stories; ``false_encoding_networks_found``: the
        same for networks that no neuron drives.
    """
    core = dict(zip(truth["networks"], np.asarray(true_maps) > 0.5, strict=True))
    undriven = [*truth["word_rate"], *truth["nothing"]]
    found = {name for name, p_of in zip(names, p, strict=True) if p_of <= level}

    def mean_gain(names):
        return float(np.mean([gain[core[name]].mean() for name in names]))

    return {
        "encoding_gain_planted": mean_gain(truth["population"]),
        "encoding_gain_elsewhere": mean_gain(undriven),
        "population_networks_found": len(found & {*truth["population"]}),
        "population_networks_total": len(truth["population"]),
        "false_encoding_networks_found": len(found & {*undriven}),
    }
