import numpy as np
import pytest
import scipy.stats

from anbn import coupling, hemodynamics


def smooth(rng, *shape):
    """Noise as smooth as BOLD at a TR of 2 s."""
    noise = rng.normal(size=(shape[0] + 10, *shape[1:]))
    return sum(noise[i : i + shape[0]] for i in range(4))


def test_synchrony_equals_pearson(rng):
    responses, timecourses = smooth(rng, 80, 6), smooth(rng, 80, 3)
    responses[:, 2] = 1.5
    r = coupling.synchrony(responses, timecourses)
    for i in range(6):
        for k in range(3):
            expected = 0.0
            if i != 2:
                expected = scipy.stats.pearsonr(responses[:, i], timecourses[:, k])[0]
            assert r[i, k] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("n", [80, 81])
def test_surrogates_keep_spectra_and_cross_spectra(rng, n):
    timecourses = smooth(rng, n, 3)
    surrogate = coupling.phase_randomise(timecourses, rng)
    before, after = (np.fft.rfft(x, axis=0) for x in (timecourses, surrogate))
    np.testing.assert_allclose(np.abs(after), np.abs(before), atol=1e-8)
    cross = [x[:, 0] * x[:, 1].conj() for x in (before, after)]
    np.testing.assert_allclose(cross[0], cross[1], atol=1e-7)
    assert np.abs(np.corrcoef(timecourses.T, surrogate.T)[:3, 3:]).max() < 0.6
    assert surrogate.mean(0) == pytest.approx(timecourses.mean(0))


def test_null_equals_a_loop_whatever_the_batch(rng):
    responses, timecourses = smooth(rng, 60, 40), smooth(rng, 60, 2)
    basis = hemodynamics.orthonormal(hemodynamics.drift(60, 2.0))
    clean = hemodynamics.remove(responses, basis)
    nulls = [
        coupling.maximum_null(
            clean,
            timecourses,
            basis,
            n_permutations=7,
            rng=np.random.default_rng(5),
            batch_size=b,
        )
        for b in (1, 3, 50)
    ]
    np.testing.assert_allclose(nulls[0], nulls[1], atol=1e-6)
    np.testing.assert_allclose(nulls[0], nulls[2], atol=1e-6)
    loop_rng = np.random.default_rng(5)
    for row in nulls[0]:
        drawn = hemodynamics.remove(
            coupling.phase_randomise(timecourses, loop_rng), basis
        )
        r = np.corrcoef(clean.T, drawn.T)[:40, 40:]
        np.testing.assert_allclose(np.abs(r).max(0), row, atol=1e-6)


def test_threshold_and_p_agree(rng):
    maxima = rng.random((99, 2))
    threshold = coupling.familywise_threshold(maxima, level=0.05)
    highest = np.sort(maxima.max(1))
    assert threshold == highest[94]
    p = coupling.familywise_p(np.array([0.0, threshold, 1.1]), maxima)
    assert p == pytest.approx([1.0, 0.06, 0.01])
    with pytest.raises(ValueError, match="5 permutations are too few"):
        coupling.familywise_threshold(maxima[:5], level=0.05)


def test_false_alarms_stay_at_the_level(rng):
    """Uncoupled smooth data: some neuron passes in about 5 % of the experiments."""
    alarms = 0
    for _ in range(120):
        responses, timecourses = smooth(rng, 100, 60), smooth(rng, 100, 2)
        basis = hemodynamics.orthonormal(np.ones((100, 1)))
        null = coupling.maximum_null(
            responses, timecourses, basis, n_permutations=99, rng=rng
        )
        r = np.abs(coupling.synchrony(responses, timecourses)).max()
        alarms += r >= coupling.familywise_threshold(null)
    # 99.9 % interval of a binomial with p = .05: 0 to 15
    assert alarms <= 15


def test_planted_coupling_is_found(rng):
    responses, timecourses = smooth(rng, 150, 300), smooth(rng, 150, 2)
    responses[:, 17] = timecourses[:, 1] + 0.5 * smooth(rng, 150)
    basis = hemodynamics.orthonormal(np.ones((150, 1)))
    r = coupling.synchrony(responses, timecourses)
    null = coupling.maximum_null(
        responses, timecourses, basis, n_permutations=60, rng=rng
    )
    beyond = np.argwhere(np.abs(r) >= coupling.familywise_threshold(null))
    assert beyond.tolist() == [[17, 1]]
    best_network, best_neuron = coupling.anchors(r)
    assert best_neuron[1] == 17
    assert best_network[17] == 1


def test_score_truth():
    r = np.zeros((200, 3))
    r[7, 0], r[3, 2] = 0.9, 0.8
    maps = np.eye(3, 30)
    truth = {"driven": ["A", "B"], "drivers": [[7, 9], [1, 2]]}
    names = ["A", "unlabelled-1", "y"]
    score = coupling.score_truth(r, 0.5, names, maps, truth, maps)
    assert score["planted_networks_found"] == 1
    assert score["planted_networks_total"] == 2
    assert score["false_networks_found"] == 1
    assert score["leftover_components_coupled"] == 0
    r[5, 1] = 0.7
    again = coupling.score_truth(r, 0.5, names, maps, truth, maps)
    assert again["leftover_components_coupled"] == 1
    assert again["false_networks_found"] == 1
    assert score["driver_recall_top1pct"] == 0.25
    assert score["map_dice_mean"] == 0.5
