import numpy as np
import pytest
from sklearn.decomposition import FastICA

from anbn import hemodynamics, matching, networks


@pytest.fixture
def planted(rng):
    """Five heavy-tailed sources, each in a group of 40 of 600 units."""
    sources = rng.laplace(size=(800, 5)) ** 3
    maps = np.zeros((5, 600))
    for k in range(5):
        maps[k, 100 * k : 100 * k + 40] = rng.uniform(2, 4, 40)
    data = hemodynamics.zscore(sources) @ maps + 0.3 * rng.normal(size=(800, 600))
    return data, maps


def test_ica_recovers_planted_networks(planted):
    data, maps = planted
    found = networks.ica(data, 5, random_state=0)
    similarity = matching.correlate(found.networks, maps)
    column = matching.match(np.abs(similarity))
    assert sorted(column) == list(range(5))
    assert similarity[np.arange(5), column].min() > 0.95  # sign included
    members = networks.threshold(found.networks, 1.96)
    assert np.diag(matching.dice(members, maps > 0)[:, column]).min() > 0.9
    assert (np.diff(found.explained) <= 0).all()
    assert 0.8 < found.explained.sum() <= 1.0001
    assert found.timecourses.std(0) == pytest.approx(np.ones(5), abs=1e-3)


def test_ica_equals_fastica_on_the_whole_matrix(planted):
    data, _ = planted
    whole = FastICA(5, random_state=0, whiten_solver="svd", max_iter=500).fit(data)
    found = networks.ica(data, 5, random_state=3)
    r = np.abs(matching.correlate(found.networks, whole.mixing_.T))
    assert r.max(1).min() >= 0.99


def test_ica_does_not_depend_on_the_sign_of_the_data(planted):
    data, _ = planted
    a, b = (networks.ica(d, 5, random_state=0) for d in (data, -data))
    for found in (a, b):
        centred = found.networks - found.networks.mean(1, keepdims=True)
        assert ((centred**3).sum(1) > 0).all()
    r = matching.correlate(a.networks, b.networks)
    assert r.max(1).min() > 0.99


@pytest.mark.parametrize("n", [1, 601])
def test_ica_refuses_too_many_or_few(planted, n):
    with pytest.raises(ValueError, match=f"n_networks must lie in 2 to 600.*found {n}"):
        networks.ica(planted[0], n, random_state=0)


def test_threshold_dice_match(rng):
    z = np.array([[5.0, -5, 0], [0, 2, 4]])
    assert networks.threshold(z, 3).sum() == 2
    assert networks.threshold(z, 3, two_sided=True).sum() == 3
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


def test_atoms_recover_planted_dictionary(rng):
    truth = hemodynamics.zscore(rng.normal(size=(60, 6)))
    codes = np.where(rng.random((6, 900)) < 0.2, rng.normal(size=(6, 900)), 0)
    data = truth @ codes + 0.05 * rng.normal(size=(60, 900))
    data[:, 0] = 3.0  # a dead neuron
    atoms, found = networks.atoms(data, 6, alpha=0.3, random_state=0, n_epochs=20)
    assert atoms.shape == (60, 6)
    assert found.shape == (6, 900)
    assert not found[:, 0].any()
    assert (found != 0).mean() == pytest.approx((codes != 0).mean(), abs=0.05)
    assert np.abs(matching.correlate(truth.T, atoms.T)).max(1).min() > 0.9
