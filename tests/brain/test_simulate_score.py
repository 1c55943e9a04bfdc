import numpy as np
import pytest

from anbn.brain import simulate


@pytest.fixture
def scene():
    """Synchrony of 200 neurons with three networks of which A and B are planted."""
    r = np.zeros((200, 3))
    r[7, 0], r[3, 2] = 0.9, 0.8
    planted = {"few": ["A", "B"], "population": ["P"], "drivers": [[7, 9], [1, 2]]}
    return r, planted, np.eye(3, 30)


def test_a_network_that_is_not_named_is_not_found(scene):
    r, planted, maps = scene
    names = ["A", "unlabelled-1", "y"]
    score = simulate.score_synchrony(r, 0.5, names, maps, planted, maps)
    assert score["planted_networks_found"] == 1
    assert score["planted_networks_total"] == 2
    assert score["false_networks_found"] == 1
    assert score["leftover_components_coupled"] == 0
    assert score["driver_recall_top1pct"] == 0.25
    assert score["map_dice_mean"] == 0.5


def test_leftover_components_count_apart(scene):
    r, planted, maps = scene
    r[5, 1] = -0.7
    names = ["A", "unlabelled-1", "y"]
    score = simulate.score_synchrony(r, 0.5, names, maps, planted, maps)
    assert score["leftover_components_coupled"] == 1
    assert score["false_networks_found"] == 1


def test_a_population_is_neither_planted_nor_false(scene):
    r, planted, maps = scene
    score = simulate.score_synchrony(r, 0.5, ["A", "B", "P"], maps, planted, maps)
    assert score["population_networks_coupled"] == 1
    assert score["false_networks_found"] == 0
    assert score["planted_networks_found"] == 1


def test_encoding_is_scored_where_it_was_planted(rng):
    planted = {"networks": ["F", "P", "Q", "R", "N"], "few": ["F"]}
    planted |= {"population": ["P", "Q"], "word_rate": ["R"], "nothing": ["N"]}
    maps = np.kron(np.eye(5), np.ones(10)) + 0.1 * rng.random((5, 50))
    gain = np.repeat([0.3, 0.2, 0.4, -0.1, 0.02], 10)
    names = ["N", "unlabelled-1", "P", "F", "Q", "R"]
    p = np.array([0.2, 0.01, 0.01, 0.01, 0.05, 0.3])
    score = simulate.score_encoding(gain, names, p, planted, maps)
    assert score["encoding_gain_planted"] == pytest.approx(0.3)
    assert score["encoding_gain_elsewhere"] == pytest.approx(-0.04)
    assert score["population_networks_found"] == 2
    assert score["population_networks_total"] == 2
    assert score["false_encoding_networks_found"] == 0
    # one population is not predicted, or has no map that carries its name
    p[[0, 4]] = 0.01, 0.2
    score = simulate.score_encoding(gain, names, p, planted, maps)
    assert score["population_networks_found"] == 1
    assert score["false_encoding_networks_found"] == 1
    score = simulate.score_encoding(gain, names[:4], p[:4], planted, maps)
    assert score["population_networks_found"] == 1


def test_perfect_recovery_scores_one_and_swapped_names_nothing(scene):
    _, planted, maps = scene
    r = np.zeros((200, 3))
    for k, drivers in enumerate(planted["drivers"]):
        r[drivers, k] = [0.6, -0.6]
    perfect = simulate.score_synchrony(r, 0.5, ["A", "B", "y"], maps, planted, maps)
    assert perfect["planted_networks_found"] == 2
    assert perfect["false_networks_found"] == 0
    assert perfect["driver_recall_top1pct"] == perfect["map_dice_mean"] == 1
    swapped = simulate.score_synchrony(r, 0.5, ["B", "A", "y"], maps, planted, maps)
    assert swapped["driver_recall_top1pct"] == swapped["map_dice_mean"] == 0


def test_dice_equals_a_count_of_voxels(scene, rng):
    r, planted, _ = scene
    true_maps, maps = rng.random((2, 2, 40))
    planted = {"few": ["A"], "population": [], "drivers": [[7, 9]]}
    score = simulate.score_synchrony(
        r[:, :2], 0.5, ["A", "y"], maps, planted, true_maps
    )
    core = {v for v in range(40) if true_maps[0, v] > 0.5}
    top = set(sorted(range(40), key=lambda v: -maps[0, v])[: len(core)])
    expected = 2 * len(core & top) / (len(core) + len(top))
    assert score["map_dice_mean"] == pytest.approx(expected)
    assert 0 < expected < 1
