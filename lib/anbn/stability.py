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

        stability = mean |r| within the cluster - mean |r| with all other networks

    where a cluster of ``m`` members from ``R`` runs counts as if it had ``max(m, R)``:
    a network found once, or two that fall together, do not look stable.

    Parameters
    ----------
    estimates : list of Decomposition
        Of the same data, from other seeds or bootstraps.

    Returns
    -------
    decomposition : Decomposition
        By explained variance; ``stability`` is at most 1: the same in all runs and
        unlike all others. Fewer networks than asked for if some are alike.
    """
    n_runs, n_networks = len(estimates), len(estimates[0].networks)
    if n_runs < 2:
        raise ValueError(f"stability needs 2 runs or more, found {n_runs}")
    maps = np.concatenate([e.networks for e in estimates]).astype(np.float32)
    likeness = np.abs(matching.correlate(maps, maps)).clip(0, 1).astype(float)
    distance = squareform(1 - likeness, checks=False)
    cluster = fcluster(linkage(distance, "average"), 1 - SAME, "distance")
    chosen, stability = [], []
    for label in np.unique(cluster):
        inside = cluster == label
        within, m = likeness[np.ix_(inside, inside)], inside.sum()
        pairs = max(m, n_runs) * (max(m, n_runs) - 1)
        outside = likeness[np.ix_(inside, ~inside)]
        stability.append(
            (within.sum() - m) / pairs - (outside.mean() if outside.size else 0)
        )
        chosen.append(np.flatnonzero(inside)[within.sum(1).argmax()])
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
