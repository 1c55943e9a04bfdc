import numpy as np
import pytest
from nilearn.glm.first_level import spm_hrf

from anbn.brain import clock as hd
from anbn.brain.hrf import HRF_LENGTH, response_function
from anbn.stats import timeseries


def naive(word, onset, n_times, tr, start, hrf, pooling, token_pooling):
    """The definition of the alignment matrix, entry by entry."""

    def share(group, member, how):
        if how == "last":
            return float(member == group[-1])
        return 1 / len(group) if how == "mean" else 1.0

    def volume(w):
        return np.floor((onset[w] - start) / tr)

    heard = [w for w in range(len(onset)) if np.isfinite(onset[w]) and w in word]
    H = np.zeros((n_times, len(word)))
    for k, w in enumerate(word):
        if w not in heard:
            continue
        mine = [i for i, v in enumerate(word) if v == w]
        spoken = [v for v in heard if volume(v) == volume(w)]
        p = share(spoken, w, pooling) * share(mine, k, token_pooling)
        for t in range(n_times):
            lag = start + t * tr - onset[w]
            if hrf == "none":
                H[t, k] = p * (0 <= -lag < tr)
            else:
                H[t, k] = p * response_function(np.array([lag]), hrf)[0]
    return H


POOLINGS = ["mean", "sum", "last"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("hrf", ["spm", "glover", "none"])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("token_pooling", POOLINGS)
def test_alignment_equals_the_naive_loop(seed, hrf, pooling, token_pooling):
    rng = np.random.default_rng(seed)
    tr, start = rng.uniform(0.5, 3), rng.uniform(-5, 5)
    onset = np.sort(rng.uniform(-60, 60, 40))
    onset[4] = np.nan
    word = np.sort(rng.integers(-1, 40, 60))  # some words have no token
    options = {"n_times": 25, "tr": tr, "start": start, "hrf": hrf}
    options |= {"pooling": pooling, "token_pooling": token_pooling}
    H = hd.alignment_matrix(word, onset, **options).toarray()
    np.testing.assert_allclose(H, naive(word, onset, **options), atol=1e-12)
    reach = 0 if hrf == "none" else HRF_LENGTH
    outside = (onset >= start + 25 * tr) | (onset + reach < start) | np.isnan(onset)
    assert not H[:, (word < 0) | outside[word]].any()
    moved = hd.alignment_matrix(word, onset + tr, **options).toarray()
    np.testing.assert_allclose(moved[1:], H[:-1], atol=1e-9)


def test_words_that_cannot_be_aligned():
    H = hd.alignment_matrix([0, 1, -1], [np.nan, 1.0], n_times=9, tr=2.0)
    assert not H[:, [0, 2]].toarray().any() and H[:, [1]].toarray().any()
    assert hd.alignment_matrix([-1], [1.0], n_times=3, tr=1.0).nnz == 0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"pooling": "max"}, "pooling must be mean, sum or last"),
        ({"token_pooling": "max"}, "pooling must be mean, sum or last"),
        ({"hrf": "gamma"}, "hrf must be spm, glover or none"),
        ({"tr": 0.0}, "expected n_times >= 1 and tr > 0"),
        ({"n_times": 0}, "expected n_times >= 1 and tr > 0"),
        ({"run_lengths": [3, 4]}, r"run_lengths \[3, 4\] add up to 7 volumes"),
    ],
)
def test_what_no_clock_can_be(bad, message):
    options = {"n_times": 9, "tr": 1.0} | bad
    with pytest.raises(ValueError, match=message):
        hd.alignment_matrix([0], [1.0], **options)


@pytest.mark.parametrize("hrf", ["spm", "glover", "none"])
def test_a_response_ends_with_its_run(rng, hrf):
    """Every run is as if it were alone, but for words before the first volume."""
    lengths, tr, start = [12, 20, 9], 1.5, 3.0
    onset = np.sort(rng.uniform(-5, 70, 60))
    options = {"tr": tr, "hrf": hrf, "pooling": "sum"}
    word = np.arange(60)
    H = hd.alignment_matrix(
        word, onset, n_times=41, start=start, run_lengths=lengths, **options
    )
    H = H.toarray()
    ends = np.cumsum(lengths)
    for k, (end, n) in enumerate(zip(ends, lengths, strict=True)):
        begin = start + (end - n) * tr
        mine = (onset >= begin) | (k == 0)
        mine &= (onset < begin + n * tr) | (k == 2)
        alone = hd.alignment_matrix(word, onset, n_times=n, start=begin, **options)
        expected = np.where(mine, alone.toarray(), 0)
        np.testing.assert_allclose(H[end - n : end], expected, atol=1e-12)
    one = hd.alignment_matrix(word, onset, n_times=41, start=start, **options)
    same = {**options, "run_lengths": [41]}
    same = hd.alignment_matrix(word, onset, n_times=41, start=start, **same)
    assert (one != same).nnz == 0


def test_a_silent_run_answers_with_nothing():
    onset = np.arange(0, 60, 0.5)  # a plateau to the end of the first run
    rate = hd.word_rate(onset, n_times=45, tr=2.0)
    share = rate[30:34] / rate[29]
    np.testing.assert_allclose(share, [1.0, 0.97, 0.71, 0.3], atol=0.05)
    rate = hd.word_rate(onset, n_times=45, tr=2.0, run_lengths=[30, 15])
    assert not rate[30:].any() and rate[29] == pytest.approx(2, abs=0.1)


def test_hrf_is_nilearns_with_unit_integral():
    times = np.arange(0, 32, 0.01)
    response = response_function(times)
    assert response.sum() * 0.01 == pytest.approx(1, abs=1e-3)
    assert np.corrcoef(response, spm_hrf(1.0, 100)[: len(times)])[0, 1] > 0.9999
    assert 4.5 < times[response.argmax()] < 5.5
    assert not response_function(np.array([-0.1, 33.0])).any()


def test_word_rate_of_a_steady_reader():
    rate = hd.word_rate(np.arange(0, 100, 0.5), n_times=60, tr=2.0)
    assert rate[25:45] == pytest.approx(np.full(20, 2.0), abs=0.02)
    assert rate[0] == 0


def test_remove_is_least_squares(rng):
    confounds = rng.normal(size=(50, 3))
    confounds = np.column_stack([confounds, confounds[:, 0], np.zeros(50)])
    data = rng.normal(size=(50, 4, 2))
    basis = timeseries.orthonormal(confounds)
    assert basis.shape == (50, 3)
    flat = data.reshape(50, -1)
    beta = np.linalg.lstsq(confounds, flat, rcond=None)[0]
    expected = (flat - confounds @ beta).reshape(data.shape)
    np.testing.assert_allclose(timeseries.residuals(data, basis), expected, atol=1e-10)


def test_drift_removes_slow_and_keeps_fast():
    t = 2.0 * np.arange(200)
    slow, fast = np.cos(2 * np.pi * t / 300), np.cos(2 * np.pi * t / 20)
    basis = timeseries.orthonormal(timeseries.drift(200, 2.0))
    assert timeseries.residuals(slow, basis).std() < 0.2 * slow.std()
    assert timeseries.residuals(fast, basis).std() > 0.98 * fast.std()


def test_zscore_of_constant_columns_is_zero(rng):
    data = np.column_stack([rng.normal(size=30), np.full(30, 0.1), np.zeros(30)])
    z = timeseries.zscore(data)
    assert z[:, 0].std() == pytest.approx(1)
    assert not z[:, 1:].any()
