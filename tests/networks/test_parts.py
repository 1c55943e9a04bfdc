from dataclasses import replace

import nibabel
import numpy as np
import pytest
from nilearn.decomposition import CanICA
from nilearn.masking import apply_mask, unmask

from anbn.networks import decomposition, parts, svd
from anbn.stats import matching


@pytest.fixture
def texts(rng):
    """Six documents of unlike lengths and means, one loud unit, one silent one."""
    lengths = (40, 9, 60, 25, 33, 51)
    whose = np.repeat(np.arange(6), lengths)
    maps = rng.laplace(size=(4, 120)) ** 3
    sources = rng.laplace(size=(len(whose), 4)) ** 3
    data = sources @ maps + rng.normal(size=(len(whose), 120)) + rng.normal(size=120)
    data += 3 * rng.normal(size=(6, 120))[whose]
    data[:, 5] *= 50
    data[:, 7] = 2
    return data.astype(np.float32).reshape(-1, 4, 30), whose


COUNTS = [[1, 1, 1, 1, 1, 1], [2, 0, 1, 1, 2, 0], [0, 0, 1, 0, 0, 0]]


def exact(data, whose, counts, standardise):
    """Mean, singular values and vectors of a draw, all redone."""
    drawn = [data[whose == d] for d, count in enumerate(counts) for _ in range(count)]
    flat = np.concatenate(drawn).reshape(-1, 120).astype(float)
    mean, spread = flat.mean(0), flat.std(0)
    flat = flat - mean
    if standardise:
        flat = flat / np.where(spread > 1e-6, spread, np.inf)
    return mean, *np.linalg.svd(flat, full_matrices=False)


def span(a, b):
    """Least canonical correlation of two sets of orthonormal rows."""
    return np.linalg.svd(a @ b.T)[1].min()


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize(
    ("n_rows", "error", "least"), [(59, 1e-4, 0.9999), (8, 0.02, 0.98)]
)
def test_a_draw_is_reduced_as_if_all_was_redone(
    texts, counts, standardise, n_rows, error, least
):
    """Exactly with all directions of each part, nearly with few."""
    data, whose = texts
    each = parts.reduce_each(data, whose, n_rows, standardise=standardise)
    assert 8 <= max(len(part.z) for part in each) <= n_rows
    together = parts.gather(each, scaled=standardise)
    found = parts.reduction(together, counts, 4, standardise=standardise)
    mean, u, s, vt = exact(data, whose, counts, standardise)
    np.testing.assert_allclose(found.s, s[:4], rtol=error)
    assert span(found.vt, vt[:4]) > least
    assert span(found.u.T, u[:, :4].T) > least
    assert found.variance == pytest.approx((s**2).sum() / len(u), rel=1e-4)
    if not standardise:
        np.testing.assert_allclose(found.mean, mean, rtol=1e-4, atol=1e-4)


def test_networks_of_a_draw_are_those_of_the_data_drawn(texts):
    data, whose = texts
    counts = COUNTS[1]
    together = parts.gather(parts.reduce_each(data, whose, 59), scaled=False)
    drawn = np.concatenate(
        [data[whose == d] for d, count in enumerate(counts) for _ in range(count)]
    )
    of_draw, whole = parts.reduction(together, counts, 4), svd.reduce(drawn, 4)
    # signs are arbitrary, and where ICA ends depends on them as on its seed
    sign = np.sign((of_draw.vt * whole.vt).sum(1))
    u, vt = of_draw.u * sign, of_draw.vt * sign[:, None]
    of_draw = replace(of_draw, u=u, vt=vt)
    found, again = (decomposition.ica(r, random_state=0) for r in (of_draw, whole))
    r = np.abs(matching.correlate(found.networks, again.networks))
    assert r.max(1).min() > 0.98


def test_long_parts_are_put_together_from_chunks(texts, monkeypatch):
    data, whose = texts
    whole = parts.reduce_each(data, whose, 8)
    monkeypatch.setattr(parts, "CHUNK", 20)
    chunked = parts.reduce_each(data, whose, 8)
    for a, b in zip(whole, chunked, strict=True):
        np.testing.assert_allclose(a.mean, b.mean, atol=1e-3)
        np.testing.assert_allclose(a.variance, b.variance, rtol=1e-3, atol=1e-4)
        assert a.u.shape == b.u.shape
        np.testing.assert_allclose(a.u @ a.z, b.u @ b.z, atol=0.1 * a.z.std())


def test_runs_of_a_list_and_units_left_out(texts):
    data, whose = texts
    runs = [data[whose == d] for d in range(6)]
    keep = np.arange(120) % 3 > 0
    of_array = parts.reduce_each(data, whose, 9, keep=keep)
    of_list = parts.reduce_each(runs, list("abcdef"), 9, keep=keep)
    assert of_list[0].z.shape[1] == 80
    for a, b in zip(of_array, of_list, strict=True):
        np.testing.assert_allclose(a.mean, b.mean, atol=1e-4)
        np.testing.assert_allclose(np.abs(a.z), np.abs(b.z), atol=1e-2)
    two_runs = parts.reduce_each(runs, list("aabbcc"), 9)
    assert [len(part.u) for part in two_runs] == [49, 85, 84]
    with pytest.raises(ValueError, match=r"parts of 2 samples or runs, there are 6"):
        parts.reduce_each(runs, ["a", "b"], 9)


def test_samples_come_back_with_their_variance(texts, rng):
    data, whose = texts
    together = parts.gather(parts.reduce_each(data, whose, 3), scaled=False)
    again = parts.samples(together, [1] * 6, rng)
    again = np.concatenate(again)
    assert again.shape == (218, 120)
    flat = data.reshape(218, 120)
    assert (np.abs(again.mean(0) - flat.mean(0)) < 0.5 * flat.std(0) + 1e-3).all()
    loud = flat.var(0) > 1e-3
    ratio = again.var(0)[loud] / flat.var(0)[loud]
    assert 0.8 < ratio.min() and ratio.max() < 1.25


def test_permuted_parts_keep_layers_and_share_nothing(texts, rng):
    data, whose = texts
    each = parts.reduce_each(data, whose, 5)
    layer = np.repeat(np.arange(4), 30)
    for part, other in zip(each, parts.permuted(each, layer, rng), strict=True):
        np.testing.assert_allclose(other.z @ other.z.T, part.z @ part.z.T, rtol=1e-3,
                                   atol=1e-2 * (part.z**2).sum(1).max())  # fmt: skip
        for k in range(4):
            inside = slice(30 * k, 30 * k + 30)
            np.testing.assert_allclose(
                np.sort(part.z[:, inside]), np.sort(other.z[:, inside])
            )
            np.testing.assert_allclose(
                np.sort(part.mean[inside]), np.sort(other.mean[inside])
            )
    a, b = parts.permuted(each[:1] * 2, layer, rng)
    assert np.abs(matching.correlate(a.z, b.z)).max() < 0.6


def test_what_a_part_draws_does_not_hang_on_the_others(texts, brains):
    data, whose = texts
    each = parts.reduce_each(data, whose, 5)
    layer = np.repeat(np.arange(4), 30)
    all_of, two = (
        parts.permuted(some, layer, np.random.default_rng(1))
        for some in (each, each[:2])
    )
    np.testing.assert_array_equal(all_of[1].z, two[1].z)
    together = parts.gather(each, scaled=False)
    often, once = (
        parts.samples(together, counts, np.random.default_rng(1))
        for counts in ([2, 1, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0])
    )
    np.testing.assert_array_equal(often[3], once[0])
    runs, mask = brains
    people = parts.reduce_each(runs, range(5), 2)
    three, one = (
        next(parts.redrawn(some, mask, n, np.random.default_rng(1)))
        for some, n in ((people[:3], 3), (people[:2], 1))
    )
    np.testing.assert_array_equal(three[1].z, one[1].z)


@pytest.fixture
def brains(rng):
    """Five people, 30 volumes each, of smooth noise and a map that all share."""
    inside = np.ones((10, 12, 10), np.uint8)
    mask = nibabel.Nifti1Image(inside, np.diag([4.0, 4, 4, 1]))
    at = np.argwhere(inside)
    blobs = [np.exp(-((at - c) ** 2).sum(1) / 6) for c in [(2, 2, 2), (7, 9, 6)]]
    runs = []
    for _ in range(5):
        own = np.exp(-((at - rng.uniform(1, 9, 3)) ** 2).sum(1) / 6)
        maps = np.stack([*blobs, own])
        run = 3 * rng.laplace(size=(30, 3)) @ maps + rng.normal(size=(30, len(at)))
        runs.append((run - run.mean(0)).astype(np.float32))
    return runs, mask


def test_redrawn_maps_keep_histograms_and_share_nothing(brains, rng):
    runs, mask = brains
    each = parts.reduce_each(runs, range(5), 6)
    first, second = parts.redrawn(each, mask, 2, rng)
    for part, a, b in zip(each, first, second, strict=True):
        np.testing.assert_allclose(np.sort(part.z), np.sort(a.z), rtol=1e-5)
        assert np.abs(np.diag(matching.correlate(a.z, b.z))).max() < 0.7
        np.testing.assert_array_equal(a.u, part.u)
        held = (a.z**2).sum(0) / len(a.u)
        assert (a.variance >= held - 1e-6).all()

    def rough(z):
        maps = z.reshape(-1, 10, 12, 10)
        return (np.diff(maps, axis=1) ** 2).mean() / (maps**2).mean()

    drawn = np.stack([part.z[0] for part in first])
    assert rough(rng.normal(size=drawn.shape)) > 2 * rough(drawn)


def test_canica_of_a_draw_equals_that_of_nilearn(brains):
    runs, mask = brains
    each = parts.reduce_each(runs, range(5), 29)
    counts = np.array([1, 0, 2, 1, 1])
    drawn = np.repeat(np.arange(5), counts)
    found = decomposition._canica([each[i].z for i in drawn], 3, 0)
    images = [unmask(runs[i], mask) for i in drawn]
    options = {"threshold": None, "n_init": 3, "smoothing_fwhm": None}
    options |= {"standardize": None, "detrend": False, "random_state": 0, "mask": mask}
    model = CanICA(n_components=3, **options).fit(images)
    r = np.abs(matching.correlate(found, apply_mask(model.components_img_, mask)))
    assert r.max(1).min() > 0.999
