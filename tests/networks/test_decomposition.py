import nibabel
import numpy as np
import pytest

from anbn.networks import decomposition
from anbn.stats import matching

OPTIONS = {"random_state": 0}


@pytest.fixture
def volumes(rng):
    """Two runs of three sources in blobs of a small brain, and its mask."""
    inside = np.zeros((9, 9, 9), np.uint8)
    inside[1:8, 1:8, 1:8] = 1
    mask = nibabel.Nifti1Image(inside, np.diag([8.0, 8, 8, 1]))
    at = np.argwhere(inside)
    centres = [(2, 2, 2), (6, 6, 2), (3, 5, 6)]
    maps = np.stack([np.exp(-((at - c) ** 2).sum(1) / 4) for c in centres])
    runs = []
    for n_times in (70, 50):
        sources = rng.normal(size=(n_times, 3))
        noise = rng.normal(size=(n_times, len(at)))
        runs.append((4 * sources @ maps + noise).astype(np.float32))
    return runs, maps, mask


@pytest.mark.parametrize("method", decomposition.BRAIN_METHODS)
def test_every_method_finds_planted_networks(volumes, method):
    runs, maps, mask = volumes
    n_networks = 12 if method == "vsdbn" else 3
    options = {"over": "units", "mask": mask, "layer_sizes": [], **OPTIONS}
    found = decomposition.decompose(runs, n_networks, method, **options)
    likeness = np.abs(matching.correlate(maps, found.networks)).max(1)
    # weights of the dictionary are those of voxels of unit length: flatter maps
    assert likeness.min() > (0.6 if method == "dictionary" else 0.75)
    assert found.timecourses.shape == (120, len(found.networks))
    assert found.stability is None
    assert (np.diff(found.explained) <= 0).all()


def test_units_can_be_left_out(rng):
    data = rng.normal(size=(200, 4)) ** 3 @ rng.normal(size=(4, 60))
    keep = np.arange(60) >= 10
    for method in decomposition.METHODS:
        found = decomposition.decompose(
            data, 3, method, keep=keep, layer_sizes=[6], **OPTIONS
        )
        assert np.ptp(found.networks[:, :10], axis=1).max() < 1e-6
        assert np.ptp(found.networks[:, 10:], axis=1).min() > 0.1


def test_a_decomposition_is_found_again_in_other_data(rng):
    data = rng.normal(size=(200, 4)) ** 3 @ rng.normal(size=(4, 60))
    keep, whose = np.arange(60) >= 10, np.repeat(np.arange(8), 25)
    options = {"keep": keep, "solver": "picard", "standardise": True, **OPTIONS}
    few = {"n_bootstrap": 2, "n_halves": 1, "n_null_sets": 0}
    found = decomposition.decompose(data, 3, "ica", whose=whose, **few, **options)
    assert found.stability is not None
    other = found.refit(data[:100], n_networks=2)
    expected = decomposition.decompose(data[:100], 2, "ica", **options)
    np.testing.assert_array_equal(other.networks, expected.networks)
    assert other.stability is None and other.how["keep"] is keep
    again = found.refit(data, whose=whose)
    np.testing.assert_array_equal(again.stability.index, found.stability.index)
    assert found.only(np.array([True, False, True])).how == found.how


def test_the_deepest_layer_has_the_networks(rng):
    data = rng.normal(size=(200, 30))
    options = {"layer_sizes": [7, 5], "random_state": 0}
    found = decomposition.decompose(data, 3, "vsdbn", **options)
    assert found.networks.shape == (3, 30)
    # of noise no network explains much: the most a time course can is 1 / 30 a unit
    r = matching.correlate(found.timecourses.T, data.T)
    np.testing.assert_allclose(found.explained, (r**2).mean(1), rtol=1e-4)


def test_bad_requests(rng):
    data = rng.normal(size=(50, 20))
    with pytest.raises(ValueError, match=r"method must be one of ica.* found 'pca'"):
        decomposition.decompose(data, 3, "pca", **OPTIONS)
    with pytest.raises(ValueError, match="canica needs volumes and their mask"):
        decomposition.decompose([data], 3, "canica", **OPTIONS)
    with pytest.raises(ValueError, match="number of components must lie in 1 to 20"):
        decomposition.decompose(data, 30, "ica", **OPTIONS)
