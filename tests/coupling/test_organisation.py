"""Atoms find the networks they were planted in, and no others; against loops."""

import itertools
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy import signal, stats

from anbn.coupling import glm, organisation, prepared
from anbn.stats import surrogates, timeseries

phase = partial(surrogates.draw_one, null_method="phase")


def constant(n_times):
    return np.full((n_times, 1), n_times**-0.5)


def fit(bold, atoms):
    return glm.single_regressor_t(bold, atoms, constant(len(bold)))


def beside(bold, atoms, maps, draw=phase, n_draws=1, rng=0, percent=10):
    options = {"n_draws": n_draws, "rng": np.random.default_rng(rng)}
    given = bold, atoms, maps, constant(len(atoms)), draw
    return organisation.overlap_beside_null(*given, percent=percent, **options)


def slow(rng, n_times, n):
    return signal.lfilter([1], [1, -0.9], rng.normal(size=(n_times + 50, n)), 0)[50:]


def brain(rng, *, n_times=150, n_voxels=120, n_networks=3):
    """BOLD of slow networks, each in a block of voxels, and their maps."""
    maps = np.kron(np.eye(n_networks), np.ones(n_voxels // n_networks))
    maps += 0.2 * rng.normal(size=maps.shape)
    courses = timeseries.zscore(slow(rng, n_times, n_networks))
    return courses @ maps + rng.normal(size=(n_times, n_voxels)), maps, courses


def subjects(rng, *, n_subjects=6, n_times=120, n_voxels=90):
    """Subjects whose first network follows an atom and whose second one does not."""
    maps = np.kron(np.eye(3), np.ones(n_voxels // 3))[:2]
    atoms = timeseries.zscore(rng.normal(size=(n_times, 4)))
    bold = []
    for _ in range(n_subjects):
        course = np.column_stack([atoms[:, 0], rng.normal(size=n_times)])
        bold.append(0.5 * course @ maps + rng.normal(size=(n_times, n_voxels)))
    return bold, atoms, maps


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_overlap_agrees_with_a_loop(rng):
    atom_maps, maps = rng.normal(size=(4, 50)), rng.normal(size=(3, 50))
    found = organisation.overlap_with(maps, 20)(atom_maps)
    for i, atom in enumerate(atom_maps):
        for k, network in enumerate(maps):
            core = np.argsort(-np.abs(network))[:10]
            t = np.mean(np.sign(network[core]) * atom[core])
            assert found["t"][i, k] == pytest.approx(t)
            r = stats.pearsonr(atom, network).statistic
            assert found["r"][i, k] == pytest.approx(r, abs=1e-6)
            top = np.argsort(-np.abs(atom))[:10]
            expected = len(np.intersect1d(top, core)) / 10
            assert found["dice"][i, k] == pytest.approx(expected)
    # a region is a network by itself: identity maps, of which the core is one region
    alone = organisation.overlap_with(None, 10)(atom_maps)
    np.testing.assert_array_equal(alone["t"], atom_maps)
    as_maps = organisation.overlap_with(np.eye(50), 2)(atom_maps)["t"]
    np.testing.assert_allclose(as_maps, atom_maps)


def test_strongest_voxels_are_never_empty_ones(rng):
    maps = np.zeros((2, 40))
    maps[0, :2] = [-3, 1]
    maps[1] = rng.normal(size=40)
    members = organisation.strongest_voxels(maps, 10)
    assert np.flatnonzero(members[0]).tolist() == [0, 1]
    assert members[1].sum() == 4
    assert np.abs(maps[1][members[1]]).min() > np.abs(maps[1][~members[1]]).max()


def test_overlap_is_the_mean_over_subjects_with_their_own_maps(rng):
    bold = [rng.normal(size=(30, 40)) for _ in range(3)]
    own, atoms, seen = rng.normal(size=(3, 2, 40)), rng.normal(size=(30, 5)), []

    def draw(atoms, rng):
        seen.append(phase(atoms, rng))
        return seen[-1]

    observed, null = beside(bold, atoms, own, draw, n_draws=2)
    second = {name: values[1] for name, values in null.items()}
    for found, regressors in ((observed, atoms), (second, seen[1])):
        each = [
            organisation.overlap_with(m, 10)(fit(b, regressors))
            for b, m in zip(bold, own, strict=True)
        ]
        for name, values in found.items():
            expected = np.mean([one[name] for one in each], axis=0)
            np.testing.assert_allclose(values, expected, atol=1e-5)
    # all subjects are given the same surrogates
    np.testing.assert_array_equal(seen[:2] * 2, seen[2:])
    alone, _ = beside(bold[0], atoms, own[0])
    expected = organisation.overlap_with(own[0], 10)(fit(bold[0], atoms))
    np.testing.assert_allclose(alone["t"], expected["t"], atol=1e-5)


@pytest.mark.parametrize("regions", [False, True])
def test_planted_atoms_are_found_and_others_are_not(rng, regions):
    bold, maps, courses = brain(rng)
    atoms = slow(rng, 150, 6)
    atoms[:, 0] = courses[:, 1] + rng.normal(size=150)
    atoms[:, 3] = -courses[:, 2] + rng.normal(size=150)  # negative: it serves as well
    data, networks = (courses, None) if regions else (bold, maps)
    observed, null = beside(data, atoms, networks, n_draws=99)
    _, p = organisation.p_values(observed["t"], null["t"])
    serves = organisation.serve(observed["t"], p <= 0.05)
    assert serves.tolist() == [1, -1, -1, 2, -1, -1]
    assert observed["t"][3, 2] < 0


def test_null_keeps_the_familywise_error(rng):
    hits = {"phase": 0, "shuffled in time": 0}
    draws = {"phase": phase, "shuffled in time": lambda a, rng: rng.permutation(a)}
    for i in range(40):
        bold, maps, _ = brain(rng, n_voxels=30)
        atoms = slow(rng, 150, 3)
        for name, draw in draws.items():
            observed, null = beside(bold, atoms, maps, draw, n_draws=39, rng=i)
            _, p = organisation.p_values(observed["t"], null["t"])
            hits[name] += bool((p <= 0.05).any())
    assert hits["phase"] <= stats.binom.ppf(0.999, 40, 0.05)
    assert hits["shuffled in time"] > 20  # white surrogates of slow atoms fail


def test_p_values_agree_with_a_loop(rng):
    observed, null = rng.normal(size=(3, 2)), rng.normal(size=(50, 3, 2))
    of_atom, familywise = organisation.p_values(observed, null)
    size, null = np.abs(observed), np.abs(null)
    for i, k in np.ndindex(3, 2):
        reached = (null[:, i].max(1) >= size[i, k]).sum()
        assert of_atom[i, k] == pytest.approx((1 + reached) / 51)
        reached = (null.max((1, 2)) >= size[i, k]).sum()
        assert familywise[i, k] == pytest.approx((1 + reached) / 51)


def test_atoms_alone_agree_with_scipy(rng):
    basis = timeseries.orthonormal(np.column_stack([np.ones(40), np.arange(40)]))
    bold = timeseries.residuals(rng.normal(size=(40, 5)), basis)
    bold[:, 2] = 0
    atoms = rng.normal(size=(40, 3)) + 2
    t = glm.single_regressor_t(bold, atoms, basis)
    clean = timeseries.residuals(atoms, basis)
    for i in range(3):
        for v in (0, 1, 3, 4):
            found = stats.linregress(clean[:, i], bold[:, v])
            # scipy does not know that a trend was removed: 38 degrees, not 37
            expected = found.slope / found.stderr * np.sqrt(37 / 38)
            assert t[i, v] == pytest.approx(expected)
    assert (t[:, 2] == 0).all()


def test_a_network_shared_by_many_atoms_is_found(rng):
    bold, maps, courses = brain(rng)
    # each atom has a little of the first network
    atoms = 0.35 * courses[:, :1] + slow(rng, 150, 20) / 2.3
    found = beside(bold - bold.mean(0), atoms, maps, n_draws=99)
    observed, null = (values["t"] for values in found)
    p, q = organisation.network_p_values(observed, null)
    for k in range(3):
        reached = (null[:, :, k] ** 2).sum(1) >= (observed[:, k] ** 2).sum()
        assert p[k] == (1 + reached.sum()) / 100
    assert q[0] <= 0.05 and p[1:].min() > 0.05


def test_an_atom_serves_its_largest_significant_network():
    strength = np.array([[1.0, -5, 2], [3, 1, 1], [0, 0, -2]])
    significant = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1]], bool)
    assert organisation.serve(strength, significant).tolist() == [2, -1, 2]


def test_neurons_follow_their_largest_code(rng):
    codes = rng.normal(size=(5, 24)) * (rng.random((5, 24)) < 0.4)
    codes[:, 7] = 0
    serves = np.array([1, -1, 0, 1, -1])
    counts, pool = organisation.subgroups(codes, serves, 4, 3)
    expected = np.zeros((3, 4), int)
    for i in np.flatnonzero(codes.any(0)):
        network = serves[np.abs(codes[:, i]).argmax()]
        if network >= 0:
            expected[network, i // 6] += 1
    np.testing.assert_array_equal(counts, expected)
    assert pool.sum() == (codes != 0).any(0).sum() and pool[1] < 6


def removed(n_times):
    """Confounds that are a constant alone."""
    one = constant(n_times)
    return prepared.Confounds([], one, one[:, :0], one, one, None, [])


@pytest.mark.parametrize("single", [True, False])
def test_atoms_in_networks_are_told_beside_their_null(rng, single):
    atoms = timeseries.zscore(rng.normal(size=(100, 3)))
    maps = np.kron(np.eye(2), np.ones(40))
    people = [0.6 * atoms[:, :1] @ maps[:1] + rng.normal(size=(100, 80)) for _ in "abc"]
    people = [one - one.mean(0) for one in people]
    data = np.mean(people, 0) if single else people
    networks = maps if single else np.stack([maps] * 3)
    found = organisation.atoms_in_networks(
        data,
        atoms,
        networks,
        removed(100),
        null_method="phase",
        percent=20,
        level=0.05,
        n_draws=39,
        rng=np.random.default_rng(2),
    )
    draw = partial(phase, basis=constant(100))
    observed, null = beside(data, atoms, networks, draw, n_draws=39, rng=2, percent=20)
    np.testing.assert_array_equal(found.t, observed["t"])
    expected = organisation.p_values(observed["t"], null["t"])
    np.testing.assert_array_equal((found.p, found.p_familywise), expected)
    highest = np.abs(null["t"]).max((1, 2))
    assert found.threshold == pytest.approx(np.quantile(highest, 0.95))
    assert found.p_familywise[0, 0] == found.largest.loc["t", "p"] == 1 / 40
    assert found.largest.loc["t", "largest"] == pytest.approx(np.abs(found.t[0, 0]))
    assert found.p_networks[0] == 1 / 40 and found.q_networks[0] == 2 / 40


@pytest.mark.parametrize("planted", [0.6, 0.0])
def test_organisation_of_a_model_has_what_serves_and_nothing_where_nothing_does(
    rng, planted
):
    bold, atoms, maps = subjects(rng)
    if not planted:
        bold = [rng.normal(size=one.shape) for one in bold]
    bold = [one - one.mean(0) for one in bold]
    names = ["driven", "not"]
    brain = prepared.Networks(names, None, None, maps, None)
    data = prepared.Bold(bold, np.mean(bold, 0), None)
    codes = np.kron(np.eye(4), np.ones(3))  # three neurons an atom, one a layer
    overlap = organisation.atoms_in_networks(
        data.group, atoms, maps, removed(120), null_method="phase", percent=30,
        level=0.02, n_draws=99, rng=np.random.default_rng(3),
    )  # fmt: skip

    def described(name):
        return organisation.of_model(
            name, atoms, codes, overlap, data, brain, removed(120), n_layers=4,
            null_method="phase", percent=30, level=0.02, n_draws=19,
            rng=np.random.default_rng(4),
        )  # fmt: skip

    found, again = described("a"), described("b")
    pd.testing.assert_frame_equal(found.table.assign(model="b"), again.table)
    assert found.table["network"].tolist() == [*names, "mean"]
    assert found.pool.tolist() == [3] * 4
    if planted:
        assert found.serves[0] == 0
        assert found.counts[0, 0] == 3 and found.table["p"][0] == 1 / 20
    else:
        assert (found.serves == -1).all() and not found.counts.any()
        assert found.table["consistency"].isna().all()


def test_a_network_is_described_alike_whatever_serves_the_others(rng):
    pool = np.array([50, 60])
    tables = []
    for counts in ([[5, 9], [3, 3]], [[20, 1], [3, 3]]):
        rng = np.random.default_rng(1)
        tables.append(organisation.concentration(np.array(counts), pool, rng=rng))
    pd.testing.assert_series_equal(tables[0].loc[1], tables[1].loc[1])


def test_members_are_the_strongest_voxels_of_the_mean_map(rng):
    bold, atoms, _ = subjects(rng)
    serving = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], bool)
    found = organisation.members(bold, atoms, serving, constant(120), percent=20)
    assert found.shape == (6, 3, 90) and not found[:, 1].any()
    for subject, voxels in zip(bold, found, strict=True):
        size = np.abs(fit(subject, atoms))
        top = np.argsort(-size[:2].mean(0))[:18]
        assert set(np.flatnonzero(voxels[0])) == set(top)
        assert set(np.flatnonzero(voxels[2])) == set(np.argsort(-size[3])[:18])


def test_surrogates_are_chosen_as_the_atoms_were(rng):
    bold, atoms, maps = subjects(rng, n_subjects=2)
    serving = np.array([[1, 1, 0, 0], [0, 0, 0, 0]], bool)
    given = bold, atoms, serving, maps, constant(120), lambda atoms, rng: atoms
    options = {"reference": np.mean(bold, axis=0), "n_draws": 1, "rng": rng}
    null = organisation.agreement_null(*given, percent=10, **options)
    t = organisation.overlap_with(maps, 10)(fit(options["reference"], atoms))["t"]
    best = np.argsort(-np.abs(t[:, 0]))[:2]
    mean = np.stack([np.abs(fit(one, atoms))[best].mean(0) for one in bold])
    assert null[0, 0] == pytest.approx(dice(*organisation.strongest_voxels(mean, 10)))
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
    counts = rng.multivariate_hypergeometric(pool, 60, size=200)
    table = organisation.concentration(counts, pool, rng=rng, n_draws=200)
    assert abs(table["concentration"].mean()) < 0.005
    assert (table["concentration_p"] <= 0.05).sum() <= stats.binom.ppf(0.999, 200, 0.05)


def test_description_of_a_model_has_a_row_a_network_and_their_mean(rng):
    bold, atoms, maps = subjects(rng)
    maps = np.vstack([maps, rng.normal(size=90)])
    serving = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
    counts, pool = np.array([[8, 0], [3, 4], [0, 0]]), np.array([20, 20])

    def described(serving, counts):
        return organisation.describe(
            bold, atoms, serving, maps, constant(120), phase, model="m",
            reference=np.mean(bold, 0), n_draws=39, rng=rng, percent=30,
            counts=counts, pool=pool, names=["driven", "not", "unserved"],
        )  # fmt: skip

    table = described(serving, counts)
    assert table["model"].tolist() == ["m"] * 4
    assert table["network"].tolist() == ["driven", "not", "unserved", "mean"]
    assert table["n_atoms"].tolist() == [1, 2, 0, 3]
    assert table["n_neurons"].tolist() == [8, 7, 0, 15]
    np.testing.assert_allclose(table["share"], [0.2, 0.175, 0, 0.375])
    voxels = organisation.members(bold, atoms, serving, constant(120), percent=30)
    pairs = [dice(a, b) for a, b in itertools.combinations(voxels[:, 0], 2)]
    assert table["consistency"][0] == pytest.approx(np.mean(pairs))
    parts = [
        organisation.members(
            [one[part] for one in bold], atoms[part], serving, constant(60), percent=30
        )
        for part in (slice(60), slice(60, 120))
    ]
    expected = [dice(a[0], b[0]) for a, b in zip(*parts, strict=True)]
    assert table["halves"][0] == pytest.approx(np.mean(expected))
    for column in ("consistency", "halves", "concentration"):
        assert np.isnan(table[column][2])
        assert table[column][3] == pytest.approx(table[column][:2].mean())
    driven, other = table.iloc[0], table.iloc[1]
    assert driven["consistency"] > driven["null_high"] and driven["p"] <= 0.05
    assert other["consistency"] < driven["low"] and other["p"] > 0.05
    assert driven["low"] < driven["consistency"] < driven["high"]
    none = described(serving & False, counts * 0)
    assert none["consistency"].isna().all() and (none["n_neurons"] == 0).all()
