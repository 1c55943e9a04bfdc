import numpy as np
import pytest

from anbn.masking import controls


@pytest.fixture
def sizes(rng):
    return np.exp(rng.normal(0, 2, (4, 300)))


def test_controls_are_matched(sizes, rng):
    mask = np.zeros((4, 300), bool)
    mask[1, np.argsort(sizes[1])[-40:]] = True  # large ones, of two layers
    mask[3, np.argsort(sizes[3])[-60:-20]] = True
    among = sizes < np.sort(sizes.ravel())[-5]
    quantities = {"variance": sizes, "contribution": 1 / sizes}
    drawn = controls.draw(mask, quantities, rng, n_draws=20, among=among)
    assert list(drawn) == ["per layer", "uniform", "variance", "contribution"]
    for name, draws in drawn.items():
        assert len(draws) == 20 and (draws[0] != draws[1]).any()
        for control in draws:
            assert control.sum() == mask.sum()
            assert not (control & (mask | ~among)).any()
            if name != "uniform":
                assert control.sum(1).tolist() == mask.sum(1).tolist()
    everywhere = np.mean([c.sum(1) for c in drawn["uniform"]], 0)
    assert (everywhere > 10).all()
    balance = controls.balance(mask, drawn, {"variance": sizes, "other": 1 / sizes})
    assert (balance["overlap"] == 0).all()
    assert balance.loc["per layer", "variance"] < 0.1
    assert 0.2 < balance.loc["variance", "variance"] < 1
    naive = np.mean([np.log(sizes[c]).mean() for c in drawn["variance"]])
    naive = np.exp(naive - np.log(sizes[mask]).mean())
    assert balance.loc["variance", "variance"] == pytest.approx(naive)


def test_matching_finds_the_like(rng):
    """Where every neuron has its like, the control's sizes are the mask's."""
    sizes = np.repeat(np.exp(rng.normal(0, 2, (3, 50))), 6, axis=1)
    mask = np.zeros((3, 300), bool)
    mask[:, 0:60:6] = True  # five others are like it
    control = controls.matched(mask, sizes, rng)
    for layer in range(3):
        np.testing.assert_allclose(
            np.sort(sizes[layer, control[layer]]), np.sort(sizes[layer, mask[layer]])
        )


def test_masks_of_most_of_a_layer_share_with_their_control(rng):
    mask = np.zeros((2, 10), bool)
    mask[0, :8] = True
    control = controls.per_layer(mask, rng)
    assert control.sum(1).tolist() == [8, 0]
    shared = [controls.per_layer(mask, rng) for _ in range(50)]
    assert controls.overlap(mask, shared) == pytest.approx(0.8, abs=0.05)
    assert controls.uniform(mask, rng).sum() == 8
    assert controls.matched(mask, np.ones((2, 10)), rng).sum(1).tolist() == [8, 0]


def test_too_few_neurons_are_named(rng):
    mask = np.zeros((2, 10), bool)
    mask[1, :8] = True
    among = np.ones((2, 10), bool)
    among[1, 3:] = False
    with pytest.raises(ValueError, match="cannot draw 8 control neurons: layer 1 has"):
        controls.per_layer(mask, rng, among=among)
    among[:] = False
    with pytest.raises(ValueError, match="the model has only 0"):
        controls.uniform(mask, rng, among=among)


def test_draws_repeat_with_their_seed(sizes):
    mask = sizes > np.quantile(sizes, 0.9)
    a, b = (
        controls.draw(mask, {"variance": sizes}, np.random.default_rng(3), n_draws=2)
        for _ in range(2)
    )
    assert all(
        np.array_equal(x, y)
        for name in a
        for x, y in zip(a[name], b[name], strict=True)
    )


def test_published_control_is_a_share_without_the_mask(rng):
    mask = rng.random((4, 300)) < 0.2
    drawn = [controls.uniform(mask, rng, n=180) for _ in range(20)]
    assert {control.sum() for control in drawn} == {180}
    assert controls.overlap(mask, drawn) == 0
    assert np.mean([c.sum(1) for c in drawn], 0) == pytest.approx([45] * 4, abs=10)
    # there are too few others
    assert (controls.uniform(mask, rng, n=1080) & mask).any()
