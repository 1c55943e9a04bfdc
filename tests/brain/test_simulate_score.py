import numpy as np
import pytest

from anbn.brain import simulate

TRUTH = {"few": ["A", "B"], "population": ["P"], "drivers": [[7, 9], [1, 2]]}
MAPS = np.eye(3, 30)


def score(names, *coupled, truth=TRUTH):
    """Of 200 neurons of which some (neuron, network, r) are coupled."""
    r = np.zeros((200, len(names)))
    for neuron, network, value in coupled:
        r[neuron, network] = value
    return simulate.score_synchrony(r, 0.5, names, MAPS, truth, MAPS)


def test_a_network_that_is_not_named_is_not_found():
    assert score(["A", "unlabelled-1", "y"], (7, 0, 0.9), (3, 2, 0.8)) == {
        "planted_networks_found": 1,
        "planted_networks_total": 2,
        "population_networks_coupled": 0,
        "false_networks_found": 1,
        "leftover_components_coupled": 0,
        "driver_recall_top1pct": 0.25,
        "map_dice_mean": 0.5,
    }


def test_leftovers_and_populations_are_neither_planted_nor_false():
    found = score(["A", "unlabelled-1", "y"], (7, 0, 0.9), (5, 1, -0.7), (3, 2, 0.8))
    assert found["leftover_components_coupled"] == found["false_networks_found"] == 1
    found = score(["A", "B", "P"], (7, 0, 0.9), (3, 2, 0.8))
    assert found["population_networks_coupled"] == found["planted_networks_found"] == 1
    assert found["false_networks_found"] == 0


def test_perfect_recovery_scores_one_and_swapped_names_nothing():
    coupled = [(7, 0, 0.6), (9, 0, -0.6), (1, 1, 0.6), (2, 1, -0.6)]
    perfect = score(["A", "B", "y"], *coupled)
    assert perfect["planted_networks_found"] == 2
    assert perfect["false_networks_found"] == 0
    assert perfect["driver_recall_top1pct"] == perfect["map_dice_mean"] == 1
    swapped = score(["B", "A", "y"], *coupled)
    assert swapped["driver_recall_top1pct"] == swapped["map_dice_mean"] == 0


def test_dice_equals_a_count_of_voxels(rng):
    true_maps, maps = rng.random((2, 2, 40))
    truth = {"few": ["A"], "population": [], "drivers": [[7, 9]]}
    r, names = np.zeros((200, 2)), ["A", "y"]
    score = simulate.score_synchrony(r, 0.5, names, maps, truth, true_maps)
    core = {v for v in range(40) if true_maps[0, v] > 0.5}
    top = set(sorted(range(40), key=lambda v: -maps[0, v])[: len(core)])
    expected = 2 * len(core & top) / (len(core) + len(top))
    assert score["map_dice_mean"] == pytest.approx(expected)
    assert 0 < expected < 1


def test_encoding_is_scored_where_it_was_planted(rng):
    planted = {"networks": ["F", "P", "Q", "R", "N"], "few": ["F"]}
    planted |= {"population": ["P", "Q"], "word_rate": ["R"], "nothing": ["N"]}
    maps = np.kron(np.eye(5), np.ones(10)) + 0.1 * rng.random((5, 50))
    gain = np.repeat([0.3, 0.2, 0.4, -0.1, 0.02], 10)
    names = ["N", "unlabelled-1", "P", "F", "Q", "R"]
    for p, n_found, n_false in [
        ([0.2, 0.01, 0.01, 0.01, 0.05, 0.3], 2, 0),
        ([0.01, 0.01, 0.01, 0.01, 0.2, 0.3], 1, 1),  # one is not predicted
        ([0.2, 0.01, 0.01, 0.01], 1, 0),  # no map carries its name
    ]:
        score = simulate.score_encoding(gain, names[: len(p)], p, planted, maps)
        assert score["encoding_gain_planted"] == pytest.approx(0.3)
        assert score["encoding_gain_elsewhere"] == pytest.approx(-0.04)
        assert score["population_networks_found"] == n_found
        assert score["population_networks_total"] == 2
        assert score["false_encoding_networks_found"] == n_false
