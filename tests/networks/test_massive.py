import numpy as np
import pandas as pd
import pytest
import xarray as xr

from anbn.networks import massive


@pytest.fixture
def activations(rng):
    """1,300 tokens, layers of different size, one neuron massive at few tokens."""
    values = rng.normal(size=(1300, 3, 40)) * np.array([0.5, 1, 8])[:, None]
    values[[0, 700], 1, 7] = [-4000, 3000]
    values[:, 2, 3] *= 60  # large, but at every token
    return values.astype(np.float32)


def test_peaks_equal_numpy(activations):
    dims = ("token", "layer", "neuron")
    half = activations.astype(np.float16)
    store = xr.DataArray(half, dims=dims).chunk({"token": 300})
    found = massive.streaming_peaks(store)
    np.testing.assert_array_equal(found.peak, np.abs(half).max(0))
    found = massive.streaming_peaks(activations)
    size = np.abs(activations)
    np.testing.assert_array_equal(found.peak, size.max(0))
    np.testing.assert_array_equal(found.token, size.argmax(0))
    truth = activations.astype(float).var(0)
    np.testing.assert_allclose(found.variance, truth, rtol=1e-4)
    expected = [np.median(size[:, layer]) for layer in range(3)]
    np.testing.assert_allclose(found.typical, expected, rtol=0.05)
    few = massive.streaming_peaks(activations[:200])
    exact = np.median(size[:200].transpose(1, 0, 2).reshape(3, -1), axis=1)
    np.testing.assert_allclose(few.typical, exact)


def test_planted_massive_neurons(activations):
    peaks = massive.streaming_peaks(activations)
    for options, expected in (
        ({}, [(1, 7), (2, 3)]),
        ({"variance_ratio": np.inf}, [(1, 7)]),  # the published line alone
        ({"variance_ratio": np.inf, "least": 5000}, []),
        ({"variance_ratio": np.inf, "ratio": 1e6}, []),
    ):
        of = peaks.peak, peaks.typical, peaks.variance
        found = np.argwhere(massive.massive_neurons(*of, **options))
        assert [*map(tuple, found)] == expected


def test_neurons_that_never_vary_do_not_set_the_scale():
    variance = np.zeros((2, 50))
    peak = np.zeros((2, 50))
    assert not massive.massive_neurons(peak, np.zeros(2), variance).any()
    variance[0, :10], variance[1, 0] = 1.0, 5000.0
    found = massive.massive_neurons(peak, np.zeros(2), variance)
    assert found.sum() == 1 and found[1, 0]


def test_description(activations):
    peaks = massive.streaming_peaks(activations)
    members = massive.massive_neurons(peaks.peak, peaks.typical, peaks.variance)
    tokens = pd.DataFrame({"token": ["\n"] + [f" t{i}" for i in range(1, 1300)]})
    table = massive.describe_massive(peaks, members, tokens)
    assert table["share"].is_monotonic_decreasing
    row = table[table["layer"] == 1].iloc[0]
    assert (row["neuron"], row["peak"], row["at"], row["token"]) == (7, 4000, 0, "⏎")
    assert row["ratio"] == pytest.approx(4000 / peaks.typical[1])
    variance = activations.astype(float).var(0)
    assert row["share"] == pytest.approx(variance[1, 7] / variance.sum())


def test_what_is_not_finite_is_refused(activations):
    for value in (np.nan, np.inf):
        activations[600, 0, 0] = value
        with pytest.raises(ValueError, match=r"NaN or infinite.* samples 512 to 1023"):
            massive.streaming_peaks(activations)
