import numpy as np
import pytest
from nilearn.glm.first_level import spm_hrf

from anbn import hemodynamics as hd


def naive(word, onset, n_times, tr, start, kind, pooling):
    H = np.zeros((n_times, len(word)))
    for k, w in enumerate(word):
        if w < 0 or not np.isfinite(onset[w]):
            continue
        n_tokens = sum(v == w for v in word)
        mine = np.floor((onset[w] - start) / tr)
        n_words = sum(np.floor((o - start) / tr) == mine for o in onset)
        for t in range(n_times):
            lag = start + t * tr - onset[w]
            if kind == "none":
                h = float(0 <= -lag < tr)
            else:
                h = hd.hrf(np.array([lag]), kind)[0]
            H[t, k] = h / n_tokens / (n_words if pooling == "mean" else 1)
    return H


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["spm", "glover", "none"])
@pytest.mark.parametrize("pooling", ["mean", "sum"])
def test_alignment_equals_the_naive_loop(seed, kind, pooling):
    rng = np.random.default_rng(seed)
    tr, start = rng.uniform(0.5, 3), rng.uniform(-5, 5)
    onset = np.sort(rng.uniform(-40, 60, 30))
    onset[4] = np.nan
    word = np.sort(rng.integers(-1, 30, 50))
    options = {
        "n_times": 25,
        "tr": tr,
        "start": start,
        "kind": kind,
        "pooling": pooling,
    }
    H = hd.alignment_matrix(word, onset, **options).toarray()
    np.testing.assert_allclose(H, naive(word, onset, **options), atol=1e-12)
    after = np.isin(word, np.flatnonzero(onset > start + 25 * tr))
    assert not H[:, after].any()
    moved = hd.alignment_matrix(word, onset + tr, **options).toarray()
    np.testing.assert_allclose(moved[1:], H[:-1], atol=1e-9)


def test_hrf_is_nilearns_with_unit_integral():
    times = np.arange(0, 32, 0.01)
    response = hd.hrf(times)
    assert response.sum() * 0.01 == pytest.approx(1, abs=1e-3)
    assert np.corrcoef(response, spm_hrf(1.0, 100)[: len(times)])[0, 1] > 0.9999
    assert 4.5 < times[response.argmax()] < 5.5
    assert not hd.hrf(np.array([-0.1, 33.0])).any()


def test_word_rate_of_a_steady_reader():
    rate = hd.word_rate(np.arange(0, 100, 0.5), n_times=60, tr=2.0)
    assert rate[25:45] == pytest.approx(np.full(20, 2.0), abs=0.02)
    assert rate[0] == 0


@pytest.mark.parametrize("bad", [{"tr": 0}, {"n_times": 0}, {"pooling": "max"}])
def test_alignment_refuses(bad):
    options = {"n_times": 5, "tr": 2.0} | bad
    with pytest.raises(ValueError, match=r"expected n_times|pooling must be"):
        hd.alignment_matrix([0], [1.0], **options)


def test_remove_is_least_squares(rng):
    confounds = rng.normal(size=(50, 3))
    confounds = np.column_stack([confounds, confounds[:, 0], np.zeros(50)])
    data = rng.normal(size=(50, 4, 2))
    basis = hd.orthonormal(confounds)
    assert basis.shape == (50, 3)
    flat = data.reshape(50, -1)
    beta = np.linalg.lstsq(confounds, flat, rcond=None)[0]
    expected = (flat - confounds @ beta).reshape(data.shape)
    np.testing.assert_allclose(hd.remove(data, basis), expected, atol=1e-10)


def test_drift_removes_slow_and_keeps_fast():
    t = 2.0 * np.arange(200)
    slow, fast = np.cos(2 * np.pi * t / 300), np.cos(2 * np.pi * t / 20)
    basis = hd.orthonormal(hd.drift(200, 2.0))
    assert hd.remove(slow, basis).std() < 0.2 * slow.std()
    assert hd.remove(fast, basis).std() > 0.98 * fast.std()


def test_zscore_of_constant_columns_is_zero(rng):
    data = np.column_stack([rng.normal(size=30), np.full(30, 0.1), np.zeros(30)])
    z = hd.zscore(data)
    assert z[:, 0].std() == pytest.approx(1)
    assert not z[:, 1:].any()
