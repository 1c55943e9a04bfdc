import numpy as np
import pytest

from anbn.masking import calibration, controls, pruning, selection


@pytest.fixture
def sizes(rng):
    return np.exp(rng.normal(0, 2, (4, 300)))


def test_controls_are_matched(sizes, rng):
    mask = np.zeros((4, 300), bool)
    mask[1, np.argsort(sizes[1])[-40:]] = True  # large ones, of two layers
    mask[3, np.argsort(sizes[3])[-60:-20]] = True
    among = sizes < np.sort(sizes.ravel())[-5]
    quantities = {"variance": sizes, "contribution": 1 / sizes}
    drawn = controls.draw(
        mask, quantities, name="mine", seed=0, n_draws=20, among=among
    )
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


def equal(a, b):
    return len(a) == len(b) and all(map(np.array_equal, a, b))


def test_a_draw_hangs_on_its_own_name_alone(sizes, rng):
    mask, other = (sizes > np.quantile(sizes, share) for share in (0.9, 0.8))
    among = sizes < np.quantile(sizes, 0.99)
    masks = [
        selection.Mask("other", "ffn_out", other),
        selection.Mask("networks", "hidden", mask),
        selection.Mask("networks, massive out", "hidden", mask & among, among),
    ]
    quantities = {"ffn_out": {"variance": sizes}, "hidden": {"variance": sizes}}
    options = {"seed": 3, "random_share": 0.1}
    every = controls.of_masks(masks, quantities, n_draws=4, **options)
    assert list(every["networks"]) == ["per layer", "uniform", "variance", "random 10%"]
    assert list(every["other"]) == ["per layer", "uniform", "variance"]
    assert {m.sum() for m in every["networks"]["random 10%"]} == {120}
    # fewer draws, fewer masks, another order, nothing matched: the same ones
    fewer = controls.of_masks(masks[:0:-1], {}, n_draws=2, **options)
    for group, drawn in fewer.items():
        assert set(drawn) == set(every[group]) - {"variance"}
        for name, draws in drawn.items():
            assert equal(draws, every[group][name][:2])
    alone = controls.draw_per_layer(mask, name="networks", seed=3, n_draws=4)
    assert equal(alone, every["networks"]["per layer"])
    for other in ({"seed": 4, "name": "networks"}, {"seed": 3, "name": "network"}):
        drawn = controls.draw_per_layer(mask, n_draws=4, **other)
        assert not equal(drawn, alone)
    table = controls.balance_of_masks(masks, every, quantities)
    row = table.loc[("variance", f"networks ({mask.sum()})")]
    expected = controls.balance(mask, every["networks"], quantities["hidden"])
    assert row["per layer"] == expected.loc["per layer", "variance"]
    assert controls.balance_of_masks([], {}, {}).empty


def test_sizes_of_some_layers(llama, rng):
    values = rng.random((1, 24)).astype(np.float32)
    usual = calibration.Calibration(*[values] * 5, values[:, 0], values[None])
    ids = np.arange(1, 9)
    usual = {"hidden": usual, "qk": usual, "attn_out": usual}
    found = controls.sizes(llama.model, usual, ids=ids, layers=[1])
    assert [list(found[k]) for k in ("hidden", "qk")] == [
        ["variance", "contribution"],
        ["variance"],
    ]
    norms = pruning.output_norms(llama.model, "attn_out", ids=ids)[[1]]
    np.testing.assert_allclose(found["attn_out"]["contribution"], values * norms)


def test_published_control_is_a_share_without_the_mask(rng):
    mask = rng.random((4, 300)) < 0.2
    drawn = [controls.uniform(mask, rng, n=180) for _ in range(20)]
    assert {control.sum() for control in drawn} == {180}
    assert controls.overlap(mask, drawn) == 0
    assert np.mean([c.sum(1) for c in drawn], 0) == pytest.approx([45] * 4, abs=10)
    # there are too few others
    assert (controls.uniform(mask, rng, n=1080) & mask).any()
