"""Atoms find the networks they were planted in, and no others."""

from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from nilearn.datasets import load_mni152_brain_mask
from scipy import signal, stats
from signals import marginal

from anbn.coupling import figures, glm, organisation
from anbn.stats import inference, surrogates, timeseries

phase = partial(surrogates.draw_one, null_method="phase")


def slow(rng, n_times, n):
    return signal.lfilter([1], [1, -0.9], rng.normal(size=(n_times + 50, n)), 0)[50:]


def brain(rng, *, n_times=150, n_voxels=120, n_networks=3):
    """BOLD of slow networks, each in a block of voxels, and their maps."""
    maps = np.kron(np.eye(n_networks), np.ones(n_voxels // n_networks))
    maps += 0.2 * rng.normal(size=maps.shape)
    courses = timeseries.zscore(slow(rng, n_times, n_networks))
    return courses @ maps + rng.normal(size=(n_times, n_voxels)), maps, courses


def test_overlap_agrees_with_a_loop(rng):
    atom_maps, maps = rng.normal(size=(4, 50)), rng.normal(size=(3, 50))
    found = organisation.overlap(atom_maps, maps, percent=20)
    for i, atom in enumerate(atom_maps):
        for k, network in enumerate(maps):
            core = np.argsort(-np.abs(network))[:10]
            t = np.mean(np.sign(network[core]) * atom[core])
            assert found["t"][i, k] == pytest.approx(t)
            r = stats.pearsonr(atom, network).statistic
            assert found["r"][i, k] == pytest.approx(r, abs=1e-6)
            top = np.argsort(-np.abs(atom))[:10]
            dice = len(np.intersect1d(top, core)) / 10
            assert found["dice"][i, k] == pytest.approx(dice)


def test_a_region_is_a_network_by_itself(rng):
    t = rng.normal(size=(4, 6))
    assert list(organisation.overlap(t)) == ["t"]
    np.testing.assert_array_equal(organisation.overlap(t)["t"], t)
    # the same as identity maps, of which the core is one region
    as_maps = organisation.overlap(t, np.eye(6))["t"]
    np.testing.assert_allclose(as_maps, t)


def test_strongest_voxels_are_never_empty_ones(rng):
    maps = np.zeros((2, 40))
    maps[0, :2] = [-3, 1]
    maps[1] = rng.normal(size=40)
    members = organisation.strongest_voxels(maps, 10)
    assert np.flatnonzero(members[0]).tolist() == [0, 1]
    assert members[1].sum() == 4
    assert np.abs(maps[1][members[1]]).min() > np.abs(maps[1][~members[1]]).max()


def test_maps_of_other_masks_are_refused(rng):
    with pytest.raises(ValueError, match="7 voxels and those of networks 5"):
        organisation.overlap(np.ones((2, 7)), np.ones((2, 5)))
    with pytest.raises(ValueError, match="of 3 subjects, bold of 2"):
        organisation.mean_overlap(
            [np.ones((4, 5))] * 2, np.ones((4, 1)), np.ones((3, 2, 5)), fit=marginal
        )


def test_mean_overlap_is_the_mean_over_subjects_with_their_own_maps(rng):
    bold = [rng.normal(size=(30, 40)) for _ in range(3)]
    own, atoms = rng.normal(size=(3, 2, 40)), rng.normal(size=(30, 5))
    mean = organisation.mean_overlap(bold, atoms, own, fit=marginal)
    each = [
        organisation.overlap(marginal(b, atoms), m)
        for b, m in zip(bold, own, strict=True)
    ]
    for name, values in mean.items():
        expected = np.mean([e[name] for e in each], axis=0)
        np.testing.assert_allclose(values, expected, atol=1e-6)
    alone = organisation.mean_overlap(bold[0], atoms, own[0], fit=marginal)
    np.testing.assert_allclose(alone["t"], each[0]["t"], atol=1e-6)


def test_null_gives_all_subjects_the_same_surrogates(rng):
    bold = rng.normal(size=(30, 20))
    atoms, maps, seen = slow(rng, 30, 2), rng.normal(size=(2, 20)), []

    def fit(bold, atoms):
        seen.append(atoms)
        return marginal(bold, atoms)

    options = {"n_draws": 4, "fit": fit}
    null = organisation.overlap_null(
        [bold, bold], atoms, maps, phase, rng=np.random.default_rng(1), **options
    )
    np.testing.assert_array_equal(seen[:4], seen[4:])
    assert len({s.tobytes() for s in seen}) == 4
    once = organisation.overlap_null(
        bold, atoms, maps, phase, rng=np.random.default_rng(1), **options
    )
    np.testing.assert_allclose(null["t"], once["t"], atol=1e-6)


@pytest.mark.parametrize("regions", [False, True])
def test_planted_atoms_are_found_and_others_are_not(rng, regions):
    bold, maps, courses = brain(rng)
    atoms = slow(rng, 150, 6)
    atoms[:, 0] = courses[:, 1] + rng.normal(size=150)
    atoms[:, 3] = -courses[:, 2] + rng.normal(size=150)  # negative: it serves as well
    data, networks = (courses, None) if regions else (bold, maps)
    observed = organisation.mean_overlap(data, atoms, networks, fit=marginal)["t"]
    null = organisation.overlap_null(
        data, atoms, networks, phase, n_draws=99, rng=rng, fit=marginal
    )["t"]
    p = organisation.p_values(observed, null)
    serves = organisation.serve(observed, p["familywise"] <= 0.05)
    assert serves.tolist() == [1, -1, -1, 2, -1, -1]
    assert observed[3, 2] < 0


def test_null_keeps_the_familywise_error(rng):
    hits = {"phase": 0, "shuffled in time": 0}
    draws = {"phase": phase, "shuffled in time": lambda a, rng: rng.permutation(a)}
    for _ in range(40):
        bold, maps, _ = brain(rng, n_voxels=30)
        atoms = slow(rng, 150, 3)
        options = {"n_draws": 39, "rng": rng, "fit": marginal}
        observed = organisation.mean_overlap(bold, atoms, maps, fit=marginal)["t"]
        for name, draw in draws.items():
            null = organisation.overlap_null(bold, atoms, maps, draw, **options)["t"]
            p = organisation.p_values(observed, null)["familywise"]
            hits[name] += bool((p <= 0.05).any())
    assert hits["phase"] <= stats.binom.ppf(0.999, 40, 0.05)
    assert hits["shuffled in time"] > 20  # white surrogates of slow atoms fail


def test_p_values_agree_with_a_loop(rng):
    observed, null = rng.normal(size=(3, 2)), rng.normal(size=(50, 3, 2))
    p = organisation.p_values(observed, null)
    size, null = np.abs(observed), np.abs(null)
    for i in range(3):
        for k in range(2):
            reached = [
                (null[:, i, k] >= size[i, k]).sum(),
                (null[:, i].max(1) >= size[i, k]).sum(),
                (null.max((1, 2)) >= size[i, k]).sum(),
            ]
            found = [p[name][i, k] for name in ("pair", "atom", "familywise")]
            np.testing.assert_allclose(found, (1 + np.array(reached)) / 51)
    q = stats.false_discovery_control(p["pair"].ravel()).reshape(3, 2)
    np.testing.assert_allclose(p["q"], q)


def test_atoms_alone_agree_with_scipy(rng):
    basis = timeseries.orthonormal(np.column_stack([np.ones(40), np.arange(40)]))
    bold = timeseries.residuals(rng.normal(size=(40, 5)), basis)
    bold[:, 2] = 0
    atoms = rng.normal(size=(40, 3)) + 2
    t = glm.single_regressor_t(bold, atoms, basis)
    clean = timeseries.residuals(atoms, basis)
    for i in range(3):
        for v in (0, 1, 3, 4):
            fit = stats.linregress(clean[:, i], bold[:, v])
            # scipy does not know that a trend was removed: 38 degrees, not 37
            expected = fit.slope / fit.stderr * np.sqrt(37 / 38)
            assert t[i, v] == pytest.approx(expected)
    assert (t[:, 2] == 0).all()


def test_a_network_shared_by_many_atoms_is_found(rng):
    bold, maps, courses = brain(rng)
    # each atom has a little of the first network
    atoms = 0.35 * courses[:, :1] + slow(rng, 150, 20) / 2.3
    basis = timeseries.orthonormal(np.ones((150, 1)))
    fit = partial(glm.single_regressor_t, basis=basis)
    bold = timeseries.residuals(bold, basis)
    observed = organisation.mean_overlap(bold, atoms, maps, fit=fit)["t"]
    null = organisation.overlap_null(
        bold, atoms, maps, phase, n_draws=99, rng=rng, fit=fit
    )["t"]
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
    of_neuron, counts, pool = organisation.subgroups(codes, serves, 4, 3)
    expected = np.zeros((3, 4), int)
    for i in range(24):
        has = codes[:, i].any()
        network = serves[np.abs(codes[:, i]).argmax()] if has else -1
        assert of_neuron[i] == network
        if network >= 0:
            expected[network, i // 6] += 1
    np.testing.assert_array_equal(counts, expected)
    assert pool.sum() == (codes != 0).any(0).sum() and pool[1] < 6
    with pytest.raises(ValueError, match="24 neurons do not divide into 5"):
        organisation.subgroups(codes, serves, 5, 3)


@pytest.fixture
def close():
    yield
    plt.close("all")


def drawn(axes):
    for ax in np.ravel(axes):
        ax.figure.canvas.draw()
        assert ax.get_xlabel() or [t.get_text() for t in ax.get_xticklabels()]
    return np.ravel(axes)


def test_figures_of_organisation(rng, close):
    t, names = rng.normal(size=(9, 3)), ["a", "b", "c"]
    ax = figures.plot_overlap(t, t > 1, names, threshold=2.5)
    assert len(drawn(ax)[0].lines[0].get_xdata()) == (t > 1).sum()
    counts = {"one": rng.integers(0, 9, (3, 8)), "two": rng.integers(0, 9, (3, 30))}
    pools = {"one": np.full(8, 40), "two": np.full(30, 40)}
    axes = drawn(figures.plot_subgroups(counts, pools, names))
    image = axes[0].images[0].get_array()
    np.testing.assert_allclose(image[:, :8], 100 * counts["one"] / 40)
    np.testing.assert_allclose(image[:, 9], 100 * counts["one"].sum(1) / 320)
    drawn(figures.plot_subgroups({"one": counts["one"]}, pools, names))
    rows = [
        ("one", "a", 0.4, 0.3, 0.5, 0.1, 0.2),
        ("one", "b", *[np.nan] * 5),
        ("one", "mean", 0.4, 0.3, 0.5, 0.1, 0.2),
        ("two", "a", *[np.nan] * 5),
        ("two", "b", *[np.nan] * 5),
        ("two", "mean", *[np.nan] * 5),  # a model of which no atom serves a network
    ]
    columns = ["model", "network", "consistency", "low", "high", "null", "null_high"]
    table = pd.DataFrame(rows, columns=columns)
    axes = figures.plot_organisation(table, {"one": 20.0, "two": 30.0})
    assert [t.get_text() for t in drawn(axes)[1].get_xticklabels()] == ["a"]
    drawn(figures.plot_organisation(table[3:], {"two": 30.0}))


@pytest.mark.parametrize("target", [0.3, 0.9, 0.999])
def test_figure_of_subjects_needed(rng, close, target):
    maps = rng.normal(size=50) + 2 * rng.normal(size=(12, 50))
    found = inference.subjects_needed(maps, rng=rng, target=target)
    ax = figures.plot_subjects_needed(*found, target=target)
    labels = [t.get_text() for t in drawn(ax)[0].get_legend().get_texts()]
    assert f"needed: {found[1]:.0f}" in labels


def test_surface_needs_no_download(rng, close, monkeypatch, tmp_path):
    monkeypatch.setenv("NILEARN_DATA", str(tmp_path))
    mask = load_mni152_brain_mask(resolution=12)
    values = rng.normal(size=int(mask.get_fdata().sum()))
    figure = figures.plot_surface(values, mask, "t")
    titles = [ax.get_title() for ax in figure.axes[:4]]
    assert titles[0] == "left, lateral" and titles[2] == "right, medial"
    assert figure.axes[4].get_ylabel() == "t"
    assert not list(tmp_path.iterdir())


def test_references_are_compared_with_their_nulls(rng):
    atoms = timeseries.zscore(rng.normal(size=(100, 3)))
    maps = np.kron(np.eye(2), np.ones(40))
    people = [0.6 * atoms[:, :1] @ maps[:1] + rng.normal(size=(100, 80)) for _ in "abc"]
    basis = timeseries.orthonormal(np.ones((100, 1)))
    how = {
        "fit": partial(glm.single_regressor_t, basis=basis),
        "percent": 20,
        "rng": rng,
    }
    references = {
        "group": (np.mean(people, 0), maps),
        "own": (people, np.stack([maps] * 3)),
    }
    counts = {"n_draws": 39, "n_draws_subjects": 19}
    draw = partial(surrogates.draw_one, null_method="phase")
    overlaps, table = organisation.overlap_with_sets(
        references, atoms, draw, **counts, **how
    )
    assert overlaps["group"][1]["t"].shape == (39, 3, 2)
    assert overlaps["own"][1]["t"].shape == (19, 3, 2)
    for name, n in (("group", 39), ("own", 19)):
        observed, null = overlaps[name]
        row = table.loc[(name, "t")]
        assert row["largest"] == pytest.approx(np.abs(observed["t"]).max())
        highest = np.abs(null["t"]).max((1, 2))
        assert row["null_95"] == pytest.approx(np.quantile(highest, 0.95))
        assert row["p"] == pytest.approx(1 / (n + 1))
