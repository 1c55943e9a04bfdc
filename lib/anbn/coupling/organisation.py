"""Functional organisation: atoms of a model's responses serve brain networks.

Source: Sun et al. 2024 (arXiv 2410.19542): atoms of the responses are regressors of
BOLD, an atom serves the network that its map overlaps, a neuron belongs to an atom
through its code. They find that newer models balance diversity and consistency better.
Their statistic, threshold and measures are not known: those here, and the nulls, are
this project's. Consistency is the agreement between subjects (and between halves of the
story) on the voxels of a network as atoms draw it; beside it, how few layers hold its
neurons.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from anbn.coupling import glm
from anbn.stats import inference, matching, surrogates, timeseries

TAILS = 50 * (1 - 0.95), 50 * (1 + 0.95)  # of the intervals over subjects


def overlap_with(network_maps, percent):
    """How much the map of an atom is that of each network, three ways.

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
    network_maps : array of shape (n_networks, n_voxels), or None
        None where columns are regions or time courses: each is a network by itself,
        and overlap is the atom's t in it.
    percent : float
        Share of the voxels that core and A hold.

    Returns
    -------
    overlap : callable
        Of t maps (n_atoms, n_voxels) it makes a dict of arrays (n_atoms, n_networks)
        ``t``, ``r`` and ``dice``; ``t`` alone without network maps.
    """
    if network_maps is None:
        return lambda t: {"t": t}
    maps = np.asarray(network_maps, np.float32)
    core = strongest_voxels(maps, percent)
    mean = core * np.sign(maps) / np.maximum(core.sum(1, keepdims=True), 1)
    mean, core = mean.T.astype(np.float32), core.T.astype(np.float32)
    z = timeseries.zscore(maps.T) / np.float32(maps.shape[1])

    def overlap(t):
        top = strongest_voxels(t, percent).astype(np.float32)
        dice = 2 * (top @ core) / np.maximum(top.sum(1)[:, None] + core.sum(0), 1)
        return {"t": t @ mean, "r": timeseries.zscore(t.T).T @ z, "dice": dice}

    return overlap


def strongest_voxels(maps, percent):
    """Voxels with the largest |values| of each map (n_networks, n_voxels), as bool."""
    size = np.abs(maps)
    first = size.shape[1] - max(1, round(percent / 100 * size.shape[1]))
    least = np.partition(size, first, axis=1)[:, first, None]
    return (size >= least) & (size > 0)


def overlap_beside_null(
    bold, atoms, network_maps, basis, draw, *, n_draws, rng, percent
):
    """Overlap of atoms, and of surrogate atoms, with the same networks.

    Every atom is fitted alone (``glm.single_regressor_t``). Surrogates pass through the
    same fit as the atoms did, so that their maps have BOLD's own smoothness and
    networks. All subjects are given the same surrogates, as they heard the same story.

    Parameters
    ----------
    bold : array of shape (n_times, n_voxels), or list of such arrays
        Of the group, or subjects one by one (memory maps will do).
    atoms : array of shape (n_times, n_atoms)
    network_maps : array of shape (n_networks, n_voxels), or one for each subject
        None for regions, see ``overlap_with``.
    basis : array of shape (n_times, n_kept)
        Confounds, with a constant, from ``timeseries.orthonormal``.
    draw : callable
        ``draw(atoms, rng)`` gives surrogates, such as ``surrogates.draw_one``.
    n_draws : int
    rng : numpy Generator
    percent : float
        See ``overlap_with``.

    Returns
    -------
    observed : dict of float32 arrays of shape (n_atoms, n_networks)
        Mean over subjects.
    null : dict of float32 arrays of shape (n_draws, n_atoms, n_networks)
    """
    subjects = [bold] if getattr(bold, "ndim", 0) == 2 else bold
    several = np.ndim(network_maps) == 3
    seeds = rng.integers(2**63, size=n_draws)
    total = {}
    for i, subject in enumerate(subjects):  # each is read once
        overlap = overlap_with(network_maps[i] if several else network_maps, percent)
        data = np.asarray(subject)
        for j in range(1 + n_draws):
            some = draw(atoms, np.random.default_rng(seeds[j - 1])) if j else atoms
            t = glm.single_regressor_t(data, some, basis)
            for name, values in overlap(t).items():
                shape = (1 + n_draws, *values.shape)
                sums = total.setdefault(name, np.zeros(shape, np.float32))
                sums[j] += values / len(subjects)
    observed = {name: values[0] for name, values in total.items()}
    return observed, {name: values[1:] for name, values in total.items()}


@dataclass(frozen=True)
class Overlap:
    """Atoms in the cores of networks, and what surrogate atoms reach there.

    Attributes
    ----------
    t : array of shape (n_atoms, n_networks)
        See ``overlap_with``; the mean over subjects where there are several.
    p, p_familywise : arrays of shape (n_atoms, n_networks)
        Corrected over networks, and over networks and atoms (``p_values``).
    threshold : float
        |t| that the largest of all atoms and networks exceeds by chance at the level.
    p_networks, q_networks : arrays of shape (n_networks,)
        Of all atoms together (``network_p_values``).
    largest : DataFrame, a row a measure of ``overlap_with``
        The ``largest`` size of any atom in any network, the ``null_95`` and p of it.
    """

    t: np.ndarray
    p: np.ndarray
    p_familywise: np.ndarray
    threshold: float
    p_networks: np.ndarray
    q_networks: np.ndarray
    largest: pd.DataFrame


def atoms_in_networks(
    bold, atoms, network_maps, confounds, *, null_method, percent, level, n_draws, rng
):
    """Which atoms are in which network's core, beyond surrogate atoms.

    Parameters
    ----------
    bold, atoms, network_maps, percent, n_draws, rng
        See ``overlap_beside_null``.
    confounds : prepared.Confounds
        Removed from BOLD and atoms; the atoms have lost its drift before.
    null_method : str
        Of the surrogates, see ``surrogates.draw``.
    level : float

    Returns
    -------
    overlap : Overlap
    """
    observed, null = overlap_beside_null(
        bold,
        atoms,
        network_maps,
        confounds.basis,
        _draw(confounds, null_method),
        n_draws=n_draws,
        rng=rng,
        percent=percent,
    )
    rows = {}
    for measure, values in observed.items():
        size = np.abs(values).max(initial=0)
        highest = np.abs(null[measure]).max((1, 2), initial=0)
        p = float(matching.p_values(size, highest))
        row = {"largest": size, "null_95": np.quantile(highest, 0.95), "p": p}
        rows[measure] = row
    highest_t = np.abs(null["t"]).max((1, 2), initial=0)
    p, familywise = p_values(observed["t"], null["t"])
    of_networks, q = network_p_values(observed["t"], null["t"])
    return Overlap(
        t=observed["t"],
        p=p,
        p_familywise=familywise,
        threshold=float(np.quantile(highest_t, 1 - level)),
        p_networks=of_networks,
        q_networks=q,
        largest=pd.DataFrame(rows).T,
    )


def _draw(confounds, null_method):
    """How a surrogate of atoms that have lost drift is drawn."""
    return partial(
        surrogates.draw_one,
        basis=confounds.drift_basis,
        null_method=null_method,
        run_lengths=confounds.runs,
    )


def p_values(observed, null):
    """p of every atom in every network; sizes count, not signs.

    Parameters
    ----------
    observed : array of shape (n_atoms, n_networks)
    null : array of shape (n_draws, n_atoms, n_networks)
        The same measure of ``overlap_beside_null``.

    Returns
    -------
    of_atom, familywise : arrays of shape (n_atoms, n_networks)
        Corrected over networks, and over networks and atoms. None is below 1 / (1 +
        n_draws).
    """
    size, null = np.abs(observed), np.abs(null)
    of_atom = null.max(2, keepdims=True, initial=0)
    of_all = of_atom.max(1, keepdims=True)
    return matching.p_values(size, of_atom), matching.p_values(size, of_all)


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
    p = matching.p_values((observed**2).sum(0), (null**2).sum(1))
    return p, false_discovery_control(p)


def serve(strength, significant):
    """The network each atom serves: the significant one of the largest |strength|.

    Both arrays have shape (n_atoms, n_networks). An int array of shape (n_atoms,), -1
    for none.
    """
    size = np.where(significant, np.abs(strength), -1.0)
    if not size.shape[1]:
        return np.full(len(size), -1)
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
    counts : int array of shape (n_networks, n_layers)
    pool : int array of shape (n_layers,)
        Neurons with an atom.
    """
    largest, best = np.zeros(codes.shape[1]), np.full(codes.shape[1], -1)
    for k, code in enumerate(codes):  # atom by atom: |codes| would be a copy of all
        size = np.abs(code)
        best = np.where(size > largest, k, best)
        largest = np.maximum(size, largest)
    by_layer = np.where(best >= 0, serves[best], -1).reshape(n_layers, -1)
    counts = np.zeros((n_networks, n_layers), int)
    for k in range(n_networks):
        counts[k] = (by_layer == k).sum(1)
    return counts, (best >= 0).reshape(n_layers, -1).sum(1)


def members(bold, atoms, serving, basis, *, percent):
    """Voxels of each network as the atoms that serve it draw it, in each subject.

    ::

        map = mean over the atoms that serve the network of |t|,  strongest percent

    The arguments are those of ``describe``. A bool array of shape (n_subjects,
    n_networks, n_voxels), without voxels for a network that no atom serves.
    """
    weights = serving / np.maximum(serving.sum(1, keepdims=True), 1)
    t = (glm.single_regressor_t(np.asarray(one), atoms, basis) for one in bold)
    return np.stack([strongest_voxels(weights @ np.abs(one), percent) for one in t])


def agreement_null(
    bold, atoms, serving, network_maps, basis, draw, *, reference, n_draws, rng, percent
):
    """Agreement between subjects on networks that surrogate atoms draw.

    Of each draw, as many atoms serve a network as did, those of the largest overlap |t|
    with it in the group: chosen on the same data, as the atoms were. The arguments are
    those of ``describe``. An array of shape (n_draws, n_networks), NaN for a network
    that no atom serves.
    """
    overlap, null = overlap_with(network_maps, percent), []
    for _ in range(n_draws):
        drawn = draw(atoms, rng)
        found = overlap(glm.single_regressor_t(reference, drawn, basis))
        # 0 for the atom of the largest |t|, 1 for the next
        rank = np.argsort(np.argsort(-np.abs(found["t"]), axis=0), axis=0)
        chosen = rank.T < serving.sum(1, keepdims=True)
        voxels = members(bold, drawn, chosen, basis, percent=percent)
        null.append(inference.subject_agreement(voxels, rng=rng, n=1)[0])
    return np.stack(null)


def concentration(counts, pool, *, rng, n_draws=1000):
    """How few layers hold the neurons that serve each network.

    ::

        concentration = 1 - H(counts) / mean H of as many neurons drawn from the pool

    with H the entropy over layers: 1 where one layer holds all, 0 for a random draw.
    ``counts`` (n_networks, n_layers) and ``pool`` (n_layers,) are those of
    ``subgroups``. A DataFrame with ``concentration``, the ``concentration_null`` that
    5 % of the draws exceed, and the one-sided ``concentration_p``; NaN for less than
    two neurons. Each network draws from a child of ``rng``.
    """
    rows = []
    for row, of_network in zip(counts, rng.spawn(len(counts)), strict=True):
        drawn = of_network.multivariate_hypergeometric(
            pool, row.sum(), size=n_draws, method="marginals"
        )
        null = _entropy(drawn)
        scale = null.mean() or np.nan  # 0: one neuron, or one layer
        found, null = 1 - _entropy(row) / scale, 1 - null / scale
        high = np.quantile(null, 0.95)
        rows.append((found, high, float(matching.p_values(found, null))))
    names = ["concentration", "concentration_null", "concentration_p"]
    return pd.DataFrame(rows, columns=names)


def _entropy(counts):
    p = counts / np.maximum(counts.sum(-1, keepdims=True), 1)
    return -(p * np.log(np.where(p > 0, p, 1))).sum(-1)


def _interval(found, draws):
    low, high = np.percentile(draws, TAILS, axis=0)
    return {"consistency": found, "low": low, "high": high}


def _against_null(found, null):
    return {
        "null": null.mean(0),
        "null_high": np.quantile(null, 0.95, axis=0),
        "p": matching.p_values(found, null)[()],  # a number for one mean
    }


def _halves(likeness, rng):
    low, high = inference.bootstrap_interval(likeness, rng=rng)
    return {"halves": likeness.mean(0), "halves_low": low, "halves_high": high}


def describe(
    bold,
    atoms,
    serving,
    network_maps,
    basis,
    draw,
    *,
    reference,
    n_draws,
    rng,
    percent,
    counts,
    pool,
    names,
    model,
):
    """Organisation of one model, a row a network and one for their mean.

    Parameters
    ----------
    bold : list of arrays of shape (n_times, n_voxels)
        Subjects.
    atoms, network_maps, basis, draw, n_draws, rng, percent
        See ``overlap_beside_null``; each draw is fitted to every subject.
    serving : bool array of shape (n_networks, n_atoms)
        ``serves == np.arange(n_networks)[:, None]``.
    reference : array of shape (n_times, n_voxels)
        BOLD of the group, on which atoms were given to networks.
    counts : int array of shape (n_networks, n_layers)
    pool : int array of shape (n_layers,)
        Both from ``subgroups``.
    names : list of str
        Of the networks.
    model : str

    Returns
    -------
    table : DataFrame
        ``model``, ``network``; ``consistency`` (mean Dice over pairs of subjects) with
        ``low`` and ``high`` (95 % over subjects), the mean and the 95th percentile of
        its null and its p; the same of ``halves`` (Dice of the halves of the story in a
        subject); ``concentration`` over layers with its null; ``n_atoms``,
        ``n_neurons`` and their ``share``. The ``mean`` is over the networks that an
        atom serves, counts are summed; NaN where none does.
    """
    of_null, of_subjects, of_layers, of_mean, of_halves = rng.spawn(5)
    voxels = members(bold, atoms, serving, basis, percent=percent)
    how = {"reference": reference, "n_draws": n_draws, "percent": percent}
    how["rng"] = of_null
    null = agreement_null(bold, atoms, serving, network_maps, basis, draw, **how)
    halves = []
    for part in (slice(len(atoms) // 2), slice(len(atoms) // 2, None)):
        some, inside = [one[part] for one in bold], timeseries.orthonormal(basis[part])
        halves.append(members(some, atoms[part], serving, inside, percent=percent))
    both, size = np.logical_and(*halves).sum(-1), np.add(*halves, dtype=int).sum(-1)
    served = serving.any(1)
    likeness = np.where(served, 2 * both / np.maximum(size, 1), np.nan)
    found, draws = inference.subject_agreement(voxels, rng=of_subjects)
    rows = pd.DataFrame({"network": names, **_interval(found, draws)})
    rows = pd.concat([rows, concentration(counts, pool, rng=of_layers)], axis=1)
    rows["n_atoms"], rows["n_neurons"] = serving.sum(1), counts.sum(1)
    mean = {"network": "mean", **rows[["n_atoms", "n_neurons"]].sum()}
    if served.any():
        mean["concentration"] = rows["concentration"][served].mean()
        found_mean = found[served].mean()
        mean |= _interval(found_mean, draws[:, served].mean(1))
        mean |= _against_null(found_mean, null[:, served].mean(1))
        mean |= _halves(likeness[:, served].mean(1), of_mean)
    rows = rows.assign(**_against_null(found, null), **_halves(likeness, of_halves))
    rows = pd.concat([rows, pd.DataFrame([mean])], ignore_index=True)
    rows["share"] = rows["n_neurons"] / np.sum(pool)
    rows.insert(0, "model", model)
    return rows


@dataclass(frozen=True)
class Organisation:
    """How one model serves the networks.

    Attributes
    ----------
    serves : int array of shape (n_atoms,)
        The network that each atom serves, -1 for none.
    counts : int array of shape (n_networks, n_layers)
        Neurons of each layer that serve each network.
    pool : int array of shape (n_layers,)
        Neurons of each layer that have an atom.
    table : DataFrame
        Of ``describe``: a row a network, and one for their mean.
    """

    serves: np.ndarray
    counts: np.ndarray
    pool: np.ndarray
    table: pd.DataFrame


def of_model(
    name,
    atoms,
    codes,
    overlap,
    bold,
    networks,
    confounds,
    *,
    n_layers,
    null_method,
    percent,
    level,
    n_draws,
    rng,
):
    """Functional organisation of one model: who serves what, how alike in people.

    Parameters
    ----------
    name : str
        Of the model.
    atoms : array of shape (n_times, n_atoms)
    codes : array of shape (n_atoms, n_neurons)
        Neurons layer by layer.
    overlap : Overlap
        Of ``atoms_in_networks``, on the group's BOLD with the group's networks.
    bold : prepared.Bold
    networks : prepared.Networks
    confounds : prepared.Confounds
        Removed from BOLD and atoms.
    n_layers : int
    null_method : str
        Of the surrogate atoms, see ``surrogates.draw``.
    percent : float
        Share of the voxels that are a network's, see ``overlap_with``.
    level : float
        An atom serves a network at p <= level over the networks.
    n_draws : int
        Surrogate atoms; each draw is fitted to every subject.
    rng : numpy Generator

    Returns
    -------
    organisation : Organisation
    """
    n_networks = len(networks.names)
    serves = serve(overlap.t, overlap.p <= level)
    counts, pool = subgroups(codes, serves, n_layers, n_networks)
    table = describe(
        bold.subjects,
        atoms,
        serves == np.arange(n_networks)[:, None],
        networks.maps,
        confounds.basis,
        _draw(confounds, null_method),
        reference=bold.group,
        n_draws=n_draws,
        rng=rng,
        percent=percent,
        counts=counts,
        pool=pool,
        names=networks.names,
        model=name,
    )
    return Organisation(serves, counts, pool, table)
