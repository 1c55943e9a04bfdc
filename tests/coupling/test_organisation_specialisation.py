"""Consistency of specialisation, against loops and planted organisation."""

import itertools
from functools import partial

import numpy as np
import pytest
from scipy import stats
from signals import marginal

from anbn.coupling import glm, organisation
from anbn.stats import surrogates, timeseries

phase = partial(surrogates.draw_one, null_method="phase")


def subjects(rng, *, n_subjects=6, n_times=120, n_voxels=90):
    """Subjects whose first network follows an atom and whose second one does not."""
    maps = np.kron(np.eye(3), np.ones(n_voxels // 3))[:2]
    atoms = timeseries.zscore(rng.normal(size=(n_times, 4)))
    bold = []
    for _ in range(n_subjects):
        course = np.column_stack([atoms[:, 0], rng.normal(size=n_times)])
        bold.append(0.5 * course @ maps + rng.normal(size=(n_times, n_voxels)))
    return bold, atoms, maps


def test_members_are_the_strongest_voxels_of_the_mean_map(rng):
    bold, atoms, _ = subjects(rng)
    serving = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], bool)
    found = organisation.members(bold, atoms, serving, fit=marginal, percent=20)
    assert found.shape == (6, 3, 90) and not found[:, 1].any()
    for subject, voxels in zip(bold, found, strict=True):
        size = np.abs(marginal(subject, atoms))
        top = np.argsort(-size[:2].mean(0))[:18]
        assert set(np.flatnonzero(voxels[0])) == set(top)
        assert set(np.flatnonzero(voxels[2])) == set(np.argsort(-size[3])[:18])


def test_planted_network_is_consistent_beyond_surrogates(rng):
    bold, atoms, maps = subjects(rng)
    serving = np.array([[1, 0, 0, 0], [0, 1, 0, 0]], bool)
    options = {"fit": marginal, "percent": 30}
    voxels = organisation.members(bold, atoms, serving, **options)
    reference = np.mean(bold, axis=0)
    null = organisation.agreement_null(
        bold, atoms, serving, maps, phase, n_draws=39, rng=rng,
        reference=reference, **options,
    )  # fmt: skip
    assert null.shape == (39, 2)
    counts, pool = np.array([[5, 0], [1, 1]]), np.array([9, 9])
    table = organisation.table(
        ["driven", "not"], serving, counts, pool, voxels, rng=rng, null=null, model="m"
    )
    driven, other = table.iloc[0], table.iloc[1]
    assert driven["consistency"] > driven["null_high"] and driven["p"] <= 0.05
    assert other["consistency"] < driven["low"] and other["p"] > 0.05
    assert driven["low"] < driven["consistency"] < driven["high"]


def test_surrogates_are_chosen_as_the_atoms_were(rng):
    bold, atoms, maps = subjects(rng, n_subjects=2)
    serving = np.array([[1, 1, 0, 0], [0, 0, 0, 0]], bool)
    reference = np.mean(bold, axis=0)
    options = {"fit": marginal, "rng": rng, "n_draws": 1}
    null = organisation.agreement_null(
        bold, atoms, serving, maps, lambda atoms, rng: atoms, reference=reference,
        **options,
    )  # fmt: skip
    t = organisation.overlap(marginal(reference, atoms), maps)["t"]
    best = np.argsort(-np.abs(t[:, 0]))[:2]
    a, b = (
        organisation.strongest_voxels(np.abs(marginal(s, atoms))[best].mean(0)[None])[0]
        for s in bold
    )
    assert null[0, 0] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert np.isnan(null[0, 1])


def test_concentration_is_relative_to_random_neurons(rng):
    pool = np.array([50, 100, 100, 150])
    counts = np.array([[0, 0, 40, 0], [10, 20, 20, 30], [0, 0, 0, 0], [0, 1, 0, 0]])
    table = organisation.concentration(counts, pool, rng=rng)
    assert table["concentration"][0] == 1
    assert table["concentration_p"][0] == pytest.approx(1 / 1001)
    assert table["concentration"][1] < table["concentration_null"][1] < 0.1
    assert table["concentration_p"][1] > 0.5  # in proportion to the pool
    assert table[2:].isna().all(None)
    layer = np.repeat(np.arange(4), pool)
    drawn = [
        stats.entropy(np.bincount(rng.choice(layer, 80, False), minlength=4))
        for _ in range(500)
    ]
    expected = 1 - stats.entropy(counts[1]) / np.mean(drawn)
    assert table["concentration"][1] == pytest.approx(expected, abs=0.003)


def test_concentration_of_random_neurons_is_none(rng):
    pool = np.array([300, 100, 200])
    counts = rng.multivariate_hypergeometric(pool, 60, size=200)
    table = organisation.concentration(counts, pool, rng=rng, n_draws=200)
    assert abs(table["concentration"].mean()) < 0.005
    assert (table["concentration_p"] <= 0.05).sum() <= stats.binom.ppf(0.999, 200, 0.05)


def test_table_has_a_row_a_network_and_their_mean(rng):
    voxels = rng.random((5, 3, 80)) < 0.3
    voxels[:, 1] = False
    serving = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]], bool)
    counts = np.array([[8, 0], [0, 0], [3, 4]])
    halves = np.stack([voxels, rng.random((5, 3, 80)) < 0.3])
    table = organisation.table(
        ["a", "b", "c"], serving, counts, np.array([20, 20]), voxels,
        rng=rng, halves=halves, model="m", kind="k",
    )  # fmt: skip
    assert table.columns[:3].tolist() == ["model", "kind", "network"]
    assert table["network"].tolist() == ["a", "b", "c", "mean"]
    assert table["n_atoms"].tolist() == [2, 0, 1, 3]
    assert table["n_neurons"].tolist() == [8, 0, 7, 15]
    np.testing.assert_allclose(table["share"], [0.2, 0, 0.175, 0.375])
    pairs = [
        2 * (a & b).sum() / (a.sum() + b.sum())
        for a, b in itertools.combinations(voxels[:, 0], 2)
    ]
    assert table["consistency"][0] == pytest.approx(np.mean(pairs))
    first, second = halves[:, :, 0]
    both = 2 * (first & second).sum(1) / (first.sum(1) + second.sum(1))
    assert table["halves"][0] == pytest.approx(both.mean())
    for column in ("consistency", "halves", "concentration"):
        assert np.isnan(table[column][1])
        assert table[column][3] == pytest.approx(table[column][[0, 2]].mean())


def test_table_of_a_model_without_a_network(rng):
    table = organisation.table(
        ["a"], np.zeros((1, 4), bool), np.zeros((1, 3), int), np.full(3, 5),
        np.zeros((4, 1, 9), bool), rng=rng, model="m",
    )  # fmt: skip
    assert table["consistency"].isna().all() and (table["n_neurons"] == 0).all()


def test_describe_is_members_null_halves_and_table(rng):
    bold, atoms, maps = subjects(rng)
    serving = np.array([[1, 0, 0, 0], [0, 0, 0, 0]], bool)
    basis = timeseries.orthonormal(np.ones((len(atoms), 1)))
    shared = {"names": ["driven", "not"], "counts": np.array([[5, 0], [0, 0]])}
    shared |= {"pool": np.array([9, 9]), "model": "m"}
    table = organisation.describe(
        bold, atoms, serving, maps, phase, basis, reference=np.mean(bold, 0),
        n_draws=19, rng=rng, percent=30, **shared,
    )  # fmt: skip
    driven = table.iloc[0]
    assert driven["model"] == "m" and driven["p"] == pytest.approx(1 / 20)
    fit = partial(glm.single_regressor_t, basis=basis)
    voxels = organisation.members(bold, atoms, serving, fit=fit, percent=30)
    pairs = [
        2 * (a & b).sum() / (a.sum() + b.sum())
        for a, b in itertools.combinations(voxels[:, 0], 2)
    ]
    assert driven["consistency"] == pytest.approx(np.mean(pairs))
    assert driven["halves"] > 0.3  # the same atom draws it in either half
    assert np.isnan(table.iloc[1]["consistency"])
