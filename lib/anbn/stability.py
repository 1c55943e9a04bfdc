"""Which networks are there whatever the seed, and how many of them to ask for."""

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from anbn import matching
from anbn.networks import Decomposition

SAME = 0.5  # |r| from which networks of two runs are taken for one
STABLE = 0.8


def icasso(estimates):
    """Cluster the networks of several decompositions; say how tight each cluster is.

    Networks of all estimates are clustered by average linkage until clusters correlate
    less than ``SAME``; the most central member stands for each (after Icasso, Himberg
    et al. 2004). As many clusters as an estimate has networks are kept, the most stable
    ones::

        stability = mean over pairs of runs of the largest |r| between their members
                    - mean |r| with all other networks

    A run without a member counts 0, so that what was found once is not stable.

    Parameters
    ----------
    estimates : list of Decomposition
        Of the same data, from other seeds or bootstraps.

    Returns
    -------
    decomposition : Decomposition
        By explained variance; ``stability`` is at most 1: the same in all runs and
        unlike all others. Fewer networks than asked for if some fall together.
    """
    n_runs, n_networks = len(estimates), len(estimates[0].networks)
    if n_runs < 2:
        raise ValueError(f"stability needs 2 runs or more, found {n_runs}")
    maps = np.concatenate([e.networks for e in estimates]).astype(np.float32)
    likeness = np.abs(matching.correlate(maps, maps)).clip(0, 1).astype(float)
    distance = squareform(1 - likeness, checks=False)
    cluster = fcluster(linkage(distance, "average"), 1 - SAME, "distance")
    run = np.repeat(np.arange(n_runs), n_networks)
    chosen, stability = [], []
    for label in np.unique(cluster):
        inside = np.flatnonzero(cluster == label)
        between = np.zeros((n_runs, n_runs))
        pairs = tuple(np.meshgrid(run[inside], run[inside], indexing="ij"))
        within = likeness[np.ix_(inside, inside)]
        np.maximum.at(between, pairs, within)
        np.fill_diagonal(between, 0)
        others = likeness[inside][:, cluster != label]
        away = others.mean() if others.size else 0.0
        stability.append(between.sum() / (n_runs * (n_runs - 1)) - away)
        chosen.append(inside[within.sum(1).argmax()])
    best = np.argsort(-np.array(stability), kind="stable")[:n_networks]
    of = [divmod(chosen[i], n_networks) for i in best]
    explained = np.array([estimates[run].explained[k] for run, k in of])
    order = np.argsort(-explained)
    rows = [estimates[of[i][0]].networks[of[i][1]] for i in order]
    columns = [estimates[of[i][0]].timecourses[:, of[i][1]] for i in order]
    return Decomposition(
        np.stack(rows),
        np.stack(columns, 1),
        explained[order],
        np.array(stability)[best][order],
    )


def scan(decompose, sizes):
    """Stability and explained variance over numbers of networks.

    Parameters
    ----------
    decompose : callable
        Takes ``n_networks``, gives a Decomposition with stability.
    sizes : list of int

    Returns
    -------
    table : DataFrame
        Index ``n_networks``; columns ``explained`` (share of variance by all networks
        together), ``stability`` (mean), ``n_stable`` (networks of ``STABLE`` or more).
    """
    rows = []
    for n in sizes:
        found = decompose(n_networks=n)
        rows.append(
            {
                "n_networks": n,
                "explained": found.explained.sum(),
                "stability": found.stability.mean(),
                "n_stable": int((found.stability >= STABLE).sum()),
            }
        )
    return pd.DataFrame(rows).set_index("n_networks")
