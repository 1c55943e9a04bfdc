"""How consistently a model's neurons and atoms specialise for brain networks.

Sun et al. 2024 (arXiv 2410.19542) claim that newer models balance diversity and
consistency better; their definitions are not known, those here are this project's.
Consistency is the agreement between subjects (and between halves of the story) on the
voxels of a network as atoms draw it; beside it, how few layers hold its neurons.
"""

from functools import partial

import numpy as np
import pandas as pd

from anbn import glm, group, hemodynamics, matching, organisation


def members(bold, atoms, serving, *, fit, percent=organisation.PERCENT):
    """Voxels of each network as the atoms that serve it draw it, in each subject.

    ::

        map = mean over the atoms that serve the network of |t|,  strongest percent

    Parameters
    ----------
    bold : list of arrays of shape (n_times, n_voxels)
    atoms : array of shape (n_times, n_atoms)
    serving : bool array of shape (n_networks, n_atoms)
        ``serves == np.arange(n_networks)[:, None]``.
    fit, percent
        See ``organisation.mean_overlap``.

    Returns
    -------
    members : bool array of shape (n_subjects, n_networks, n_voxels)
        No voxels for a network that no atom serves.
    """
    weights = serving / np.maximum(serving.sum(1, keepdims=True), 1)
    maps = (weights @ np.abs(fit(np.asarray(subject), atoms)) for subject in bold)
    return np.stack([organisation.strongest(subject, percent) for subject in maps])


def agreement_null(
    bold,
    atoms,
    serving,
    network_maps,
    draw,
    *,
    n_permutations,
    rng,
    fit,
    reference,
    percent=organisation.PERCENT,
):
    """Agreement between subjects on networks that surrogate atoms draw.

    Of each draw, as many atoms serve a network as did, those of the largest overlap |t|
    with it in the group: chosen on the same data, as the atoms were.

    Parameters
    ----------
    bold, atoms, serving, fit, percent
        See ``members``.
    network_maps : array of shape (n_networks, n_voxels), or None for regions
    draw : callable
        ``draw(atoms, rng)`` gives surrogates, such as ``surrogates.draw_one``.
    n_permutations : int
        Each fits every subject.
    rng : numpy Generator
    reference : array of shape (n_times, n_voxels)
        BOLD of the group, on which atoms were given to networks.

    Returns
    -------
    null : array of shape (n_permutations, n_networks)
        NaN for a network that no atom serves.
    """
    null = []
    for _ in range(n_permutations):
        drawn = draw(atoms, rng)
        found = organisation.overlap(fit(reference, drawn), network_maps)
        # 0 for the atom of the largest |t|, 1 for the next
        rank = np.argsort(np.argsort(-np.abs(found["t"]), axis=0), axis=0)
        chosen = rank.T < serving.sum(1, keepdims=True)
        voxels = members(bold, drawn, chosen, fit=fit, percent=percent)
        null.append(group.agreement(voxels, rng=rng, n=1)[0])
    return np.stack(null)


def concentration(counts, pool, *, rng, n_permutations=1000):
    """How few layers hold the neurons that serve each network.

    ::

        concentration = 1 - H(counts) / mean H of as many neurons drawn from the pool

    with H the entropy over layers: 1 where one layer holds all, 0 for a random draw.

    Parameters
    ----------
    counts : int array of shape (n_networks, n_layers)
    pool : int array of shape (n_layers,)
        Neurons that could have served (``subgroups``).

    Returns
    -------
    table : DataFrame
        ``concentration``, the ``concentration_null`` that 5 % of the draws exceed, and
        the one-sided ``concentration_p``; NaN for less than two neurons.
    """
    rows = []
    for row in np.asarray(counts):
        drawn = rng.multivariate_hypergeometric(
            pool, row.sum(), size=n_permutations, method="marginals"
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


def table(
    names,
    serving,
    counts,
    pool,
    voxels,
    *,
    rng,
    null=None,
    halves=None,
    n_bootstrap=2000,
    level=0.95,
    **labels,
):
    """Organisation of one model, a row a network and one for their mean.

    Parameters
    ----------
    names : list of str
        Of the networks.
    serving : bool array of shape (n_networks, n_atoms)
    counts : int array of shape (n_networks, n_layers)
    pool : int array of shape (n_layers,)
        Both from ``organisation.subgroups``.
    voxels : bool array of shape (n_subjects, n_networks, n_voxels)
        From ``members``.
    rng : numpy Generator
    null : array of shape (n_permutations, n_networks), optional
        From ``agreement_null``.
    halves : bool array of shape (2, n_subjects, n_networks, n_voxels), optional
        ``members`` of either half of the story.
    n_bootstrap, level
        Interval over subjects.
    labels
        Columns to put in front, such as ``model="..."``.

    Returns
    -------
    table : DataFrame
        ``network``; ``consistency`` (mean Dice over pairs of subjects) with ``low`` and
        ``high``, the mean and the 95th percentile of its null and its p; the same of
        ``halves`` (Dice of the halves in a subject); ``concentration`` over layers with
        its null; ``n_atoms``, ``n_neurons`` and their ``share``. The ``mean`` is over
        the networks that an atom serves, counts are summed; NaN where none does.
    """
    served = serving.any(1)
    tails = 50 * (1 - level), 50 * (1 + level)
    found, draws = group.agreement(voxels, rng=rng, n=n_bootstrap)
    rows = pd.DataFrame({"network": names, **_interval(found, draws, tails)})
    rows = pd.concat([rows, concentration(counts, pool, rng=rng)], axis=1)
    rows["n_atoms"], rows["n_neurons"] = serving.sum(1), counts.sum(1)
    mean = {"network": "mean", **rows[["n_atoms", "n_neurons"]].sum()}
    if served.any():
        mean["concentration"] = rows["concentration"][served].mean()
        of_mean = found[served].mean(), draws[:, served].mean(1)
        mean |= _interval(*of_mean, tails)
        if null is not None:
            mean |= _against(of_mean[0], null[:, served].mean(1))
    if null is not None:
        rows = rows.assign(**_against(found, null))
    if halves is not None:
        columns, of_mean = _halves(halves, served, rng, n_bootstrap, level)
        rows, mean = rows.assign(**columns), mean | of_mean
    rows = pd.concat([rows, pd.DataFrame([mean])], ignore_index=True)
    rows["share"] = rows["n_neurons"] / np.sum(pool)
    return rows.assign(**labels)[[*labels, *rows.columns]]


def _interval(found, draws, tails):
    low, high = np.percentile(draws, tails, axis=0)
    return {"consistency": found, "low": low, "high": high}


def _against(found, null):
    return {
        "null": null.mean(0),
        "null_high": np.quantile(null, 0.95, axis=0),
        "p": matching.p_values(found, null)[()],  # a number for one mean
    }


def _halves(halves, served, rng, n, level):
    """Dice of the two halves in each subject, mean and interval over subjects."""
    first, second = np.asarray(halves)
    both = 2 * (first & second).sum(-1)
    likeness = both / np.maximum(first.sum(-1) + second.sum(-1), 1)
    likeness = np.where(served, likeness, np.nan)
    names = ["halves", "halves_low", "halves_high"]

    def row(values):
        interval = group.bootstrap_interval(values, rng=rng, n=n, level=level)
        return dict(zip(names, (values.mean(0), *interval), strict=True))

    mean = row(likeness[:, served].mean(1)) if served.any() else {}
    return row(likeness), mean


def describe(
    bold,
    atoms,
    serving,
    network_maps,
    draw,
    basis,
    *,
    reference,
    n_permutations,
    rng,
    percent=organisation.PERCENT,
    **rows,
):
    """``table`` of one model, with its null and the halves of the story.

    Parameters
    ----------
    bold, atoms, serving, network_maps, draw, reference, n_permutations, rng, percent
        See ``agreement_null``; every atom is fitted alone.
    basis : array of shape (n_times, n_kept)
        Confounds, with a constant, from ``hemodynamics.orthonormal``.
    rows
        The other arguments of ``table``.

    Returns
    -------
    table : DataFrame
    """
    fit = partial(glm.alone, basis=basis)
    voxels = members(bold, atoms, serving, fit=fit, percent=percent)
    options = {"n_permutations": n_permutations, "rng": rng, "percent": percent}
    null = agreement_null(
        bold,
        atoms,
        serving,
        network_maps,
        draw,
        fit=fit,
        reference=reference,
        **options,
    )
    halves = []
    for part in (slice(len(atoms) // 2), slice(len(atoms) // 2, None)):
        inside = hemodynamics.orthonormal(basis[part])
        fit = partial(glm.alone, basis=inside)
        some = [subject[part] for subject in bold]
        halves.append(members(some, atoms[part], serving, fit=fit, percent=percent))
    return table(
        serving=serving,
        voxels=voxels,
        null=null,
        halves=np.stack(halves),
        rng=rng,
        **rows,
    )
