import numpy as np
import pytest

from anbn import hemodynamics, matching, networks, stability, svd


@pytest.fixture
def planted(rng):
    """Three strong sources in 400 units, and noise."""
    sources = hemodynamics.zscore(rng.laplace(size=(900, 3)) ** 3)
    maps = np.zeros((3, 400))
    for k in range(3):
        maps[k, 100 * k : 100 * k + 40] = rng.uniform(2, 4, 40)
    return sources @ maps + rng.normal(size=(900, 400)), maps


def runs(data, n, n_runs, **options):
    reduction = svd.reduce(data, n)
    return [networks.ica(reduction, random_state=s, **options) for s in range(n_runs)]


def test_planted_networks_are_stable_and_noise_is_not(planted):
    data, maps = planted
    found = stability.icasso(runs(data, 8, 12, bootstrap=True))
    assert found.networks.shape == (8, 400)
    assert found.timecourses.shape == (900, 8)
    real = np.abs(matching.correlate(found.networks, maps)).max(1) > 0.8
    assert real.sum() == 3
    assert found.stability[real].min() > 0.7
    assert found.stability[~real].max() < 0.5
    assert (np.diff(found.explained) <= 0).all()


def test_index_equals_a_naive_loop(planted):
    estimates = runs(planted[0], 3, 4)
    found = stability.icasso(estimates)
    for k, row in enumerate(found.networks):
        best = [np.abs(matching.correlate(row[None], e.networks))[0] for e in estimates]
        members = [e.networks[b.argmax()] for e, b in zip(estimates, best, strict=True)]
        rest = [
            m
            for e, b in zip(estimates, best, strict=True)
            for i, m in enumerate(e.networks)
            if i != b.argmax()
        ]
        within = [
            abs(np.corrcoef(members[i], members[j])[0, 1])
            for i in range(4)
            for j in range(4)
            if i != j
        ]
        outside = [abs(np.corrcoef(m, o)[0, 1]) for m in members for o in rest]
        expected = np.mean(within) - np.mean(outside)
        assert found.stability[k] == pytest.approx(expected, abs=1e-5)


def test_a_network_found_once_is_not_stable(rng):
    shared = rng.normal(size=(2, 300))
    estimates = []
    for _ in range(5):
        maps = np.vstack([shared, rng.normal(size=300)])
        estimates.append(networks.in_order(maps, rng.normal(size=(9, 3)), np.ones(3)))
    quality = np.sort(stability.icasso(estimates).stability)
    assert quality[1:].min() > 0.9
    assert quality[0] < 0.2


def test_likeness_within_a_run_does_not_count(rng):
    """Three near-copies in one run of three are found once all the same."""
    shared, copies = rng.normal(size=(2, 300)), rng.normal(size=300)
    estimates = []
    for run in range(3):
        noise = rng.normal(size=(3, 300))
        alike = copies + 0.05 * noise if run == 0 else noise
        maps = np.vstack([shared, alike])
        estimates.append(networks.in_order(maps, rng.normal(size=(9, 5)), np.ones(5)))
    found = stability.icasso(estimates)
    of_copies = np.abs(matching.correlate(found.networks, copies[None]))[:, 0] > 0.9
    assert found.stability[of_copies].max(initial=0) < 0.05
    assert np.sort(found.stability)[-2:].min() > 0.9


def test_one_run_is_refused(planted):
    with pytest.raises(ValueError, match="needs 2 runs or more, found 1"):
        stability.icasso(runs(planted[0], 3, 1))


def test_scan_shows_how_many_there_are(planted):
    def decompose(n_networks):
        return stability.icasso(runs(planted[0], n_networks, 6, bootstrap=True))

    table = stability.scan(decompose, [2, 3, 8])
    assert table.index.tolist() == [2, 3, 8]
    assert table["n_stable"].tolist() == [2, 3, 3]
    assert table["stability"].idxmax() in (2, 3)
    assert table["explained"].is_monotonic_increasing


def test_unstable_networks_can_be_left_out(planted):
    found = stability.icasso(runs(planted[0], 8, 6, bootstrap=True))
    stable = found.stable(stability.STABLE)
    assert stable.networks.shape == (3, 400)
    assert stable.timecourses.shape == (900, 3)
    assert stable.explained.shape == (3,)
    with pytest.raises(ValueError, match=r"no network has a stability of 1\.5, the"):
        found.stable(1.5)
