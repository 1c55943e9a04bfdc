import numpy as np
import pytest
import xarray as xr

from anbn.core.blocks import moments, size, walk
from anbn.networks import svd


@pytest.fixture
def data(rng):
    """A matrix with a falling spectrum, units far from zero mean."""
    left, right = rng.normal(size=(700, 60)), rng.normal(size=(60, 300))
    return left * 0.9 ** np.arange(60) @ right + 5 * rng.normal(size=300)


def exact(data, n):
    u, s, vt = np.linalg.svd(data - data.mean(0), full_matrices=False)
    return u[:, :n], s[:n], vt[:n]


def test_blocks_cover_everything_once(rng):
    parts = [rng.normal(size=(n, 2, 3)).astype(np.float16) for n in (5, 1, 12)]
    whole = np.concatenate(parts)
    for given in (whole, parts, xr.DataArray(whole)):
        found = list(walk(given, 4))
        rows = np.concatenate([np.arange(r.start, r.stop) for r, _ in found])
        np.testing.assert_array_equal(rows, np.arange(18))
        np.testing.assert_array_equal(np.concatenate([b for _, b in found]), whole)
        assert max(len(b) for _, b in found) == 4
        assert size(given) == (18, 6)
    assert list(walk(np.zeros((0, 3)))) == []
    with pytest.raises(ValueError, match=r"differ in their number of units: \[3, 4\]"):
        size([np.zeros((2, 3)), np.zeros((2, 4))])


def test_moments_equal_numpy(data):
    mean, variance = moments([data[:100], data[100:]])
    np.testing.assert_allclose(mean, data.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(variance, data.var(0), rtol=1e-4)


def test_reduction_equals_the_exact_decomposition(data):
    found = svd.reduce([data[:300], data[300:]], 12, n_passes=6)
    u, s, vt = exact(data, 12)
    np.testing.assert_allclose(found.s, s, rtol=1e-4)
    assert np.abs((found.u * u).sum(0)).min() > 0.9999
    assert np.abs((found.vt * vt).sum(1)).min() > 0.9999
    np.testing.assert_allclose(
        (found.u * found.s) @ found.vt, (u * s) @ vt, atol=1e-2 * np.abs(data).std()
    )
    assert (found.vt[:, 0] > 0).all()
    assert found.variance == pytest.approx(data.var(0).sum(), rel=1e-4)


def test_all_components_of_a_small_matrix(rng):
    data = rng.normal(size=(30, 8))
    found = svd.reduce(data, 8)
    np.testing.assert_allclose(found.s, exact(data, 8)[1], rtol=1e-5)


def test_large_and_small_directions_are_both_exact(rng):
    """Ten units hold nearly all variance, as in language models."""
    data = rng.normal(size=(900, 200)) * 0.01
    data[:, :10] *= 1e5 * rng.normal(size=10)
    found = svd.reduce(data, 30, n_passes=8)
    u, s, _ = exact(data, 30)
    np.testing.assert_allclose(found.s[:10], s[:10], rtol=1e-5)
    np.testing.assert_allclose(found.s[10:20], s[10:20], rtol=2e-2)
    assert np.abs((found.u[:, :10] * u[:, :10]).sum(0)).min() > 0.9999


def test_units_left_out_and_standardised(data):
    keep = np.ones(300, bool)
    keep[:50] = False
    found = svd.reduce(data, 5, keep=keep, standardise=True, n_passes=8)
    assert not found.vt[:, :50].any()
    z = (data - data.mean(0)) / data.std(0)
    np.testing.assert_allclose(found.s, exact(z[:, 50:], 5)[1], rtol=1e-3)
    assert found.variance == pytest.approx(250, rel=1e-4)


def test_same_seed_same_vectors(data):
    a, b = (svd.reduce(data, 4, random_state=3) for _ in range(2))
    np.testing.assert_array_equal(a.u, b.u)


def test_bad_input(data, rng):
    unknown = data.copy()
    unknown[513, 4] = np.nan
    of_rank_3 = rng.normal(size=(80, 3)) @ rng.normal(size=(3, 40))
    for given, n, message in (
        (data, 301, r"must lie in 1 to 300 .* 700 samples x 300"),
        (data[:10], 10, "must lie in 1 to 9"),
        (of_rank_3, 5, "has rank 3, less than the 5"),
        (unknown, 3, "NaN or infinite values in samples 512 to"),
    ):
        with pytest.raises(ValueError, match=message):
            svd.reduce(given, n)


def test_never_the_whole_matrix_in_memory(rng):
    """Only blocks of at most 512 samples are ever asked for."""

    class Store:
        shape = (5000, 3, 7)
        asked = []

        def __len__(self):
            return 5000

        def __getitem__(self, rows):
            self.asked.append(rows.stop - rows.start)
            return rng.normal(size=(rows.stop - rows.start, 3, 7))

    svd.reduce(Store(), 2)
    assert max(Store.asked) <= 512
