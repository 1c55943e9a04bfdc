"""Functional organisation: atoms of a model's responses serve brain networks.

Source: Sun et al. 2024 (arXiv 2410.19542): atoms of the responses are regressors of
BOLD, an atom serves the network that its map overlaps, a neuron belongs to an atom
through its code. Their statistic, threshold and measures are not known: those here, and
the nulls, are this project's.
"""

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from anbn import hemodynamics, matching

PERCENT = 10.0  # voxels of a map that count as its network


def overlap(atom_maps, network_maps=None, *, percent=PERCENT):
    """How much the map of each atom is that of each network, three ways.

    ::

        t    = mean over the network's core of sign(m) t     core: largest |m|
        r    = Pearson correlation over voxels of t and m
        dice = 2 |A and core| / (|A| + |core|)               A: largest |t|

    for a map t of an atom and m of a network. Only the first says whether the atom is
    *in* the network: r and Dice know a map's shape and not its size, and noise
    regressed on BOLD has the shape of BOLD's networks too. Signs are kept; that of an
    atom is arbitrary (it is shared with its codes), so what counts is the size.

    Parameters
    ----------
    atom_maps : array of shape (n_atoms, n_voxels)
        t values of the atoms as regressors of BOLD.
    network_maps : array of shape (n_networks, n_voxels), optional
        None where columns are regions or time courses: each is a network by itself,
        and overlap is the atom's t in it.
    percent : float
        Share of the voxels that core and A hold.

    Returns
    -------
    overlap : dict of arrays of shape (n_atoms, n_networks)
        ``t``, ``r`` and ``dice``; ``t`` alone without network maps.
    """
    return _against(_prepare(network_maps, percent), np.asarray(atom_maps), percent)


def _prepare(network_maps, percent):
    """What overlap needs of the networks, once for all surrogates."""
    if network_maps is None:
        return None
    maps = np.asarray(network_maps, np.float32)
    core = strongest(maps, percent)
    mean = core * np.sign(maps) / np.maximum(core.sum(1, keepdims=True), 1)
    z = hemodynamics.zscore(maps.T) / np.float32(maps.shape[1])
    return mean.T.astype(np.float32), z, core.T.astype(np.float32)


def _against(prepared, atom_maps, percent):
    if prepared is None:
        return {"t": atom_maps}
    mean, z, core = prepared
    if atom_maps.shape[1] != len(mean):
        raise ValueError(
            f"maps of atoms have {atom_maps.shape[1]} voxels and those of networks "
            f"{len(mean)}: both must be in one mask"
        )
    top = strongest(atom_maps, percent).astype(np.float32)
    together = np.maximum(top.sum(1)[:, None] + core.sum(0), 1)
    return {
        "t": atom_maps @ mean,
        "r": hemodynamics.zscore(atom_maps.T).T @ z,
        "dice": 2 * (top @ core) / together,
    }


def strongest(maps, percent=PERCENT):
    """Voxels with the largest |values| of each map (n_networks, n_voxels), as bool."""
    size = np.abs(maps)
    first = size.shape[1] - max(1, round(percent / 100 * size.shape[1]))
    least = np.partition(size, first, axis=1)[:, first, None]
    return (size >= least) & (size > 0)


def mean_overlap(bold, atoms, network_maps=None, *, fit, percent=PERCENT):
    """Overlap of atoms with networks, mean over subjects.

    Parameters
    ----------
    bold : array of shape (n_times, n_voxels), or list of such arrays
        Of the group or of one subject, or subjects one by one (memory maps will do).
    atoms : array of shape (n_times, n_atoms)
    network_maps : array of shape (n_networks, n_voxels), or one for each subject
        None for regions, see ``overlap``.
    fit : callable
        ``fit(bold, atoms)`` gives t maps (n_atoms, n_voxels), with confounds removed
        from both: ``glm.alone`` or ``glm.white_noise``, fast enough for a null.

    Returns
    -------
    overlap : dict of arrays of shape (n_atoms, n_networks)
    """
    options = {"fit": fit, "percent": percent}
    mean = _mean_overlaps(bold, network_maps, [lambda: atoms], **options)
    return {name: values[0] for name, values in mean.items()}


def overlap_null(
    bold,
    atoms,
    network_maps,
    draw,
    *,
    n_permutations,
    rng,
    fit,
    percent=PERCENT,
):
    """Overlap of surrogate atoms with the same networks in the same BOLD.

    Surrogates pass through the same fit as the atoms did, so that their maps have
    BOLD's own smoothness and networks. All subjects are given the same surrogates, as
    they heard the same story.

    Parameters
    ----------
    bold, atoms, network_maps, fit
        See ``mean_overlap``.
    draw : callable
        ``draw(atoms, rng)`` gives surrogates, such as ``surrogates.draw_one``.
    n_permutations : int
    rng : numpy Generator

    Returns
    -------
    null : dict of float32 arrays of shape (n_permutations, n_atoms, n_networks)
    """
    seeds = rng.integers(2**63, size=n_permutations)
    draws = [lambda s=s: draw(atoms, np.random.default_rng(s)) for s in seeds]
    return _mean_overlaps(bold, network_maps, draws, fit=fit, percent=percent)


def compare(references, atoms, draw, *, n_permutations, n_permutations_subjects, **how):
    """Overlap of atoms with several sets of networks, each with its null.

    Parameters
    ----------
    references : dict of (bold, network_maps)
        As for ``overlap_null``.
    atoms : array of shape (n_times, n_atoms)
    draw : callable
    n_permutations, n_permutations_subjects : int
        Surrogates for one array of BOLD, and for lists of subjects, which take longer.
    how
        ``rng``, ``fit`` and ``percent``.

    Returns
    -------
    overlaps : dict of (observed, null)
        Of ``mean_overlap`` and ``overlap_null``.
    table : DataFrame, a row a reference and measure
        The ``largest`` size of any atom in any network, the ``null_95`` and p of it.
    """
    overlaps, rows = {}, {}
    fitted = {name: how[name] for name in ("fit", "percent")}
    for name, (bold, maps) in references.items():
        one = isinstance(bold, np.ndarray)
        n = n_permutations if one else n_permutations_subjects
        null = overlap_null(bold, atoms, maps, draw, n_permutations=n, **how)
        observed = mean_overlap(bold, atoms, maps, **fitted)
        overlaps[name] = observed, null
        for measure, values in observed.items():
            size, highest = np.abs(values).max(), np.abs(null[measure]).max((1, 2))
            p = float(matching.p_values(size, highest))
            row = {"largest": size, "null_95": np.quantile(highest, 0.95), "p": p}
            rows[name, measure] = row
    return overlaps, pd.DataFrame(rows).T


def _mean_overlaps(bold, network_maps, draws, *, fit, percent):
    """Overlaps of several sets of atoms; each subject is read once."""
    subjects = [bold] if getattr(bold, "ndim", 0) == 2 else bold
    several = np.ndim(network_maps) == 3
    if several and len(network_maps) != len(subjects):
        raise ValueError(
            f"network_maps are of {len(network_maps)} subjects, bold of {len(subjects)}"
        )
    total = {}
    for i, subject in enumerate(subjects):
        maps = _prepare(network_maps[i] if several else network_maps, percent)
        data = np.asarray(subject)
        for j, atoms in enumerate(draws):
            found = _against(maps, fit(data, atoms()), percent)
            for name, values in found.items():
                shape = (len(draws), *values.shape)
                sums = total.setdefault(name, np.zeros(shape, np.float32))
                sums[j] += values / len(subjects)
    return total


def p_values(observed, null):
    """p of every atom in every network, four ways (sizes count, not signs).

    None is below 1 / (n_permutations + 1): q needs about n_atoms * n_networks / level
    permutations to find a single pair.

    Parameters
    ----------
    observed : array of shape (n_atoms, n_networks)
        One measure of ``mean_overlap``.
    null : array of shape (n_permutations, n_atoms, n_networks)
        The same measure of ``overlap_null``.

    Returns
    -------
    p : dict of arrays of shape (n_atoms, n_networks)
        ``pair``: alone; ``atom``: family-wise over the networks; ``familywise``: over
        networks and atoms; ``q``: Benjamini-Hochberg over all pairs.
    """
    size, null = np.abs(observed), np.abs(null)
    pair = matching.p_values(size, null)
    return {
        "pair": pair,
        "atom": matching.p_values(size, null.max(2, keepdims=True)),
        "familywise": matching.p_values(size, null.max((1, 2), keepdims=True)),
        "q": false_discovery_control(pair.ravel()).reshape(pair.shape),
    }


def network_p_values(observed, null):
    """p of every network that the atoms together are in it.

    Signal that many correlated atoms share may be seen in none of them alone::

        statistic = sum over atoms of t^2

    Parameters
    ----------
    observed, null
        See ``p_values``.

    Returns
    -------
    p, q : arrays of shape (n_networks,)
        One-sided, and Benjamini-Hochberg over networks.
    """
    p = matching.p_values((observed**2).sum(0), (np.asarray(null) ** 2).sum(1))
    return p, false_discovery_control(p)


def serve(strength, significant):
    """The network each atom serves: the significant one of the largest |strength|.

    Parameters
    ----------
    strength : array of shape (n_atoms, n_networks)
    significant : bool array of shape (n_atoms, n_networks)

    Returns
    -------
    serves : int array of shape (n_atoms,)
        -1 for none.
    """
    size = np.where(significant, np.abs(strength), -1.0)
    return np.where(significant.any(1), size.argmax(1), -1)


def subgroups(codes, serves, n_layers, n_networks):
    """Neurons that serve each network: those whose atom of the largest |code| does.

    Parameters
    ----------
    codes : array of shape (n_atoms, n_neurons)
        Neurons layer by layer. One without a code belongs to no atom.
    serves : int array of shape (n_atoms,)
        From ``serve``.
    n_layers, n_networks : int

    Returns
    -------
    of_neuron : int array of shape (n_neurons,)
        The network each neuron serves; -1 for none.
    counts : int array of shape (n_networks, n_layers)
    pool : int array of shape (n_layers,)
        Neurons with an atom.
    """
    n_neurons = codes.shape[1]
    if n_neurons % n_layers:
        raise ValueError(f"{n_neurons} neurons do not divide into {n_layers} layers")
    largest, best = np.zeros(n_neurons), np.full(n_neurons, -1)
    for k, code in enumerate(codes):  # atom by atom: |codes| would be a copy of all
        size = np.abs(code)
        best = np.where(size > largest, k, best)
        largest = np.maximum(size, largest)
    of_neuron = np.where(best >= 0, np.asarray(serves)[best], -1)
    by_layer = of_neuron.reshape(n_layers, -1)
    counts = np.stack([(by_layer == k).sum(1) for k in range(n_networks)])
    return of_neuron, counts, (best >= 0).reshape(n_layers, -1).sum(1)
