import numpy as np
import pytest
import torch
import xarray as xr

from anbn.networks import vsdbn
from anbn.stats import timeseries


@pytest.fixture
def planted(rng):
    """Five heavy-tailed sources, each with a map of its own 40 of 300 units."""
    maps = np.zeros((5, 300))
    for k in range(5):
        maps[k, 60 * k : 60 * k + 40] = rng.uniform(1, 2, 40)
    sources = timeseries.zscore(rng.laplace(size=(1000, 5)))
    return sources @ maps + 0.5 * rng.normal(size=(1000, 300)), maps, sources


def likeness(a, b):
    return np.abs(np.corrcoef(a, b)[: len(a), len(a) :])


def naive_step(W, a, b, v0, chance, jitter, rate, l1):
    """CD-1 with loops over samples and weights."""
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    gW, ga, gb, error = np.zeros_like(W), np.zeros_like(a), np.zeros_like(b), 0
    for v, u, e in zip(v0, chance, jitter, strict=True):
        h = (sigmoid(v @ W + b) > u).astype(float)
        r = W @ h + a + e
        p = sigmoid(r @ W + b)
        for i in range(len(a)):
            for j in range(len(b)):
                gW[i, j] += (v[i] * h[j] - r[i] * p[j]) / len(v0)
        ga += (v - r) / len(v0)
        gb += (h - p) / len(v0)
        error += ((v - r) ** 2).mean() / len(v0)
    new = W + rate * gW
    for i in range(len(a)):
        for j in range(len(b)):
            new[i, j] = np.sign(new[i, j]) * max(abs(new[i, j]) - rate * l1, 0)
    return new, a + rate * ga, b + rate * gb, error


def test_one_step_equals_a_loop(rng):
    W, a, b = rng.normal(size=(7, 4)), rng.normal(size=7), rng.normal(size=4)
    v0, chance = rng.normal(size=(6, 7)), rng.random((6, 4))
    jitter = 0.01 * rng.normal(size=(6, 7))
    *expected, error = naive_step(W, a, b, v0, chance, jitter, 0.3, 0.5)
    assert (expected[0] == 0).any()  # the penalty did something
    machine = vsdbn.Machine(*(torch.tensor(x) for x in (W, a, b)))
    tensors = [torch.from_numpy(x) for x in (v0, chance, jitter)]
    found = vsdbn.contrast(machine, *tensors, learning_rate=0.3, l1=0.5)
    assert float(found) == pytest.approx(error)
    for name, value in zip(
        ("weights", "visible_bias", "hidden_bias"), expected, strict=True
    ):
        np.testing.assert_allclose(getattr(machine, name).numpy(), value, atol=1e-12)


def test_planted_sources_at_every_depth(planted):
    data, maps, sources = planted
    layers = vsdbn.vsdbn(data, (40, 40, 40), random_state=0)
    assert [x.maps.shape for x in layers] == [(40, 300)] * 3
    for layer in layers:
        assert layer.timecourses.shape == (1000, len(layer.maps))
        r = likeness(maps, layer.maps)
        assert r.max(1).min() > 0.8
        assert len(set(r.argmax(1))) == 5
        assert layer.errors[-1] < 0.8 * layer.errors[0]
        of_source = likeness(sources.T, layer.timecourses.T)
        assert of_source[range(5), r.argmax(1)].min() > 0.8


def test_deep_maps_are_the_path_down(planted):
    """Without normalisation a unit's linear response to the data is its map."""
    data, *_ = planted
    one, two = vsdbn.vsdbn(data, (12, 6), random_state=0, n_epochs=2)
    z = timeseries.zscore(data)
    centred = one.timecourses - one.timecourses.mean(0)
    np.testing.assert_allclose(z @ one.maps.T, centred, atol=2e-3)
    unit = one.timecourses / np.linalg.norm(one.timecourses, axis=1, keepdims=True)
    second = np.linalg.lstsq(
        timeseries.zscore(unit), two.timecourses - two.timecourses.mean(0)
    )[0]
    down = (one.maps.T / unit.std(0)) @ second
    np.testing.assert_allclose(two.maps, down.T, atol=2e-3 * np.abs(down).max())


def test_penalty_makes_maps_sparser(planted):
    zeros = [
        (vsdbn.vsdbn(planted[0], (20,), random_state=0, l1=l1)[0].maps == 0).mean()
        for l1 in (0.0, 0.05, 0.2)
    ]
    assert zeros[0] < 0.01 < zeros[1] < zeros[2] - 0.1


def test_seed_and_kind_of_array_decide_nothing_else(planted, tmp_path):
    data = planted[0].astype(np.float32)
    options = {"layer_sizes": (10, 5), "n_epochs": 2}
    first = vsdbn.vsdbn(data, random_state=3, **options)
    np.save(tmp_path / "data.npy", data)
    cube = xr.DataArray(data.reshape(-1, 3, 100), dims=("token", "layer", "neuron"))
    others = np.load(tmp_path / "data.npy", mmap_mode="r"), cube
    for other in others:
        again = vsdbn.vsdbn(other, random_state=3, **options)
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a.maps, b.maps)
            np.testing.assert_array_equal(a.timecourses, b.timecourses)
    parts = vsdbn.vsdbn([data[:700], data[700:]], random_state=3, **options)
    assert parts[1].timecourses.shape == (1000, 5)
    changed = vsdbn.vsdbn(data, random_state=4, **options)
    assert not np.allclose(first[0].maps, changed[0].maps)


def test_scale_and_constant_units_do_not_matter(planted):
    data, maps, _ = planted
    scaled = data * np.linspace(1, 500, 300) + 7
    scaled[:, 250] = 3
    layer = vsdbn.vsdbn(scaled, (40,), random_state=0)[0]
    assert (layer.maps[:, 250] == 0).mean() > 0.9
    assert likeness(maps, layer.maps).max(1).min() > 0.8
    assert np.isfinite(layer.timecourses).all()


def test_nan_is_refused(planted):
    planted[0][30, 4] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        vsdbn.vsdbn(planted[0], (5,), random_state=0)


def test_divergence_is_an_error(planted):
    with pytest.raises(FloatingPointError, match=r"depth 1, epoch.*found 5.0"):
        vsdbn.vsdbn(planted[0], (100,), random_state=0, learning_rate=5.0)
