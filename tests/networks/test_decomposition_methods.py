import warnings

import numpy as np
import pytest
from sklearn.decomposition import FastICA

from anbn.core.params import ParamError
from anbn.networks import decomposition, svd
from anbn.stats import matching, timeseries


@pytest.fixture
def planted(rng):
    """Five heavy-tailed sources, each in a group of 40 of 600 units."""
    sources = rng.laplace(size=(800, 5)) ** 3
    maps = np.zeros((5, 600))
    for k in range(5):
        maps[k, 100 * k : 100 * k + 40] = rng.uniform(2, 4, 40)
    data = timeseries.zscore(sources) @ maps + 0.3 * rng.normal(size=(800, 600))
    return data, maps


def decompose(data, n, **options):
    return decomposition.ica(svd.reduce(data, n, n_passes=8), **options)


@pytest.mark.parametrize("over", ["samples", "units"])
@pytest.mark.parametrize("solver", ["fastica", "picard"])
def test_ica_recovers_planted_networks(planted, over, solver):
    data, maps = planted
    found = decompose(data, 5, random_state=0, over=over, solver=solver)
    similarity = matching.correlate(found.networks, maps)
    column = matching.match(np.abs(similarity))
    assert sorted(column) == list(range(5))
    assert similarity[np.arange(5), column].min() > 0.95  # sign included
    members = decomposition.threshold(found.networks, 1.96)
    assert np.diag(matching.dice(members, maps > 0)[:, column]).min() > 0.9
    assert (np.diff(found.explained) <= 0).all()
    assert 0.8 < found.explained.sum() <= 1.0001
    assert found.timecourses.std(0) == pytest.approx(np.ones(5), abs=1e-3)
    # time courses and networks together give the data back
    fit = np.linalg.lstsq(found.timecourses, data - data.mean(0), rcond=None)[0]
    r = np.diag(matching.correlate(fit, found.networks))
    assert r.min() > 0.99


def test_ica_equals_fastica_on_the_whole_matrix(planted):
    data, _ = planted
    options = {"whiten": "unit-variance", "whiten_solver": "svd", "max_iter": 500}
    whole = FastICA(5, random_state=3, **options).fit(data)
    for solver, least in [("fastica", 0.9999), ("picard", 0.99)]:
        found = decompose(data, 5, random_state=3, solver=solver)
        r = np.abs(matching.correlate(found.networks, whole.mixing_.T))
        assert r.max(1).min() >= least


def test_ica_from_the_seed_of_fastica_takes_the_same_steps(rng):
    """Not only the optimum is the same: after five steps, far from it, too."""
    data = rng.normal(size=(400, 90))
    options = {"whiten": "unit-variance", "whiten_solver": "svd", "max_iter": 5}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = FastICA(4, random_state=1, **options).fit(data)
    found = decomposition.ica(svd.reduce(data, 4), random_state=1, max_iter=5)
    r = np.abs(matching.correlate(found.networks, whole.mixing_.T))
    assert r.max(1).min() > 0.999


def test_spatial_ica_equals_fastica_on_the_maps(planted):
    data, _ = planted
    reduction = svd.reduce(data, 5, n_passes=8)
    whole = FastICA(5, whiten="unit-variance", random_state=0).fit(reduction.vt.T)
    maps = whole.transform(reduction.vt.T).T
    found = decomposition.ica(reduction, over="units", random_state=0)
    assert np.abs(matching.correlate(found.networks, maps)).max(1).min() > 0.999


def test_ica_does_not_depend_on_the_sign_of_the_data(planted):
    data, _ = planted
    a, b = (decompose(d, 5, random_state=0) for d in (data, -data))
    for found in (a, b):
        centred = found.networks - found.networks.mean(1, keepdims=True)
        assert ((centred**3).sum(1) > 0).all()
    r = matching.correlate(a.networks, b.networks)
    assert r.max(1).min() > 0.99


def test_a_threshold_that_does_not_fit_is_told_by_its_parameter():
    for by, value, such in [("fdr", 3.6, 0.05), ("percent", 0, 1)]:
        message = f"^membership_threshold is {value}: .* {by}.* such as {such}"
        with pytest.raises(ParamError, match=message):
            decomposition.threshold(np.zeros((1, 3)), value, by=by)


def test_more_networks_than_tokens_are_told_by_their_parameter():
    decomposition.check_number("scan", 9, 10)
    for n in (10, 400):
        message = f"^scan: {n} networks .* 10 tokens. .*corpus_tokens"
        with pytest.raises(ParamError, match=message):
            decomposition.check_number("scan", n, 10)


def test_dictionary_recovers_planted_networks(rng):
    """Overlapping sparse networks, units of very different loudness."""
    codes = np.where(rng.random((6, 900)) < 0.15, rng.normal(size=(6, 900)), 0)
    loudness = rng.lognormal(sigma=1.5, size=900)
    data = rng.normal(size=(500, 6)) @ codes * loudness
    data += 0.02 * rng.normal(size=data.shape)
    reduction = svd.reduce(data, 6, standardise=True)
    found = decomposition.dictionary(reduction, penalty=0.3, random_state=0)
    codes = codes / (np.linalg.norm(codes, axis=0) + 1e-9)
    r = np.abs(matching.correlate(found.networks, codes))
    assert r.max(1).min() > 0.8  # codes are shrunk
    assert found.timecourses.shape == (500, 6)
    assert (np.diff(found.explained) <= 0).all()


def test_percent(rng):
    z = rng.normal(size=(3, 1000))
    assert (decomposition.threshold(z, 2, by="percent").sum(1) == 20).all()
    members = decomposition.threshold(z, 2, by="percent", two_sided=True)
    assert np.abs(z[members]).min() > np.abs(z[~members]).min()
    assert not decomposition.threshold(np.zeros((1, 50)), 10, by="percent").any()


@pytest.mark.parametrize("two_sided", [False, True])
def test_fdr_is_kept_in_a_planted_mixture(rng, two_sided):
    wrong, found = [], []
    for _ in range(60):
        z = 0.7 * rng.normal(size=4000)
        z[:200] = 3.5 + rng.normal(size=200)
        if two_sided:
            z[:100] *= -1
        members = decomposition.threshold(z[None], 0.1, by="fdr", two_sided=two_sided)[
            0
        ]
        wrong.append(members[200:].sum() / max(members.sum(), 1))
        found.append(members[:200].mean())
    assert 0.03 < np.mean(wrong) <= 0.1
    assert np.mean(found) > 0.85


def test_fdr_of_pure_noise(rng):
    some = decomposition.threshold(rng.normal(size=(200, 2000)), 0.05, by="fdr").any(1)
    assert some.sum() <= 20  # 5 % of 200, and four standard errors


def test_threshold_dice_match(rng):
    z = np.array([[5.0, -5, 0], [0, 2, 4]])
    assert decomposition.threshold(z, 3).sum() == 2
    assert decomposition.threshold(z, 3, two_sided=True).sum() == 3
    a, b = rng.random((3, 50)) > 0.5, rng.random((4, 50)) > 0.5
    for i in range(3):
        for j in range(4):
            expected = 2 * (a[i] & b[j]).sum() / (a[i].sum() + b[j].sum())
            assert matching.dice(a, b)[i, j] == pytest.approx(expected)
    assert matching.match(np.array([[0.9, 0.8], [0.9, 0.1], [0, 0]])).tolist() == [
        1,
        0,
        -1,
    ]


def test_names_of_matched_networks():
    similarity = np.array([[0.1, 0.9], [0.8, 0.7], [0.2, 0.1]])
    assert matching.named_after(similarity, ["A", "B"]) == ["B", "A", "another"]
