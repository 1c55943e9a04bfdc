import numpy as np
import pytest

from anbn.brain import clock
from anbn.brain.hrf import HRF_LENGTH
from anbn.core.params import ParamError
from anbn.coupling import folds
from anbn.stats import timeseries


@pytest.mark.parametrize("n, n_folds, gap", [(100, 5, 8), (53, 4, 0), (37, 3, 5)])
def test_folds_are_contiguous_with_a_gap(n, n_folds, gap):
    tested = []
    for train, test in folds.contiguous_folds(n, n_folds, gap):
        assert np.diff(test).tolist() == [1] * (len(test) - 1)
        assert np.abs(train[:, None] - test).min() == gap + 1
        assert len(train) >= n - len(test) - 2 * gap
        tested += test.tolist()
    assert tested == list(range(n))


def test_runs_are_the_folds():
    runs = [30, 20, 25]
    found = folds.contiguous_folds(75, 5, 8, runs)
    assert [test[0] for _, test in found] == [0, 30, 50]
    assert [len(test) for _, test in found] == runs
    for train, test in found:
        assert sorted([*train, *test]) == list(range(75))


def test_inner_folds_measure_the_gap_in_time():
    # a training set from around a test set of volumes 40 to 59
    times = np.r_[0:40, 60:100]
    found = folds.folds_within(times, np.zeros(80, int), 3, 5)
    for train, test in found:
        assert np.abs(times[train][:, None] - times[test]).min() > 5
    # the fold across the hole keeps what its own volumes are far from
    train, test = found[1]
    assert times[test].tolist() == [*range(27, 40), *range(60, 74)]
    assert times[train].tolist() == [*range(22), *range(79, 100)]
    with_runs = folds.folds_within(np.r_[0:20, 40:60], np.repeat([0, 2], 20), 5, 30)
    assert [len(test) for _, test in with_runs] == [20, 20]  # no gap between runs
    left_alone = folds.folds_within(np.arange(40, 80), np.full(40, 1), 2, 3)
    assert [(t[0], t[-1]) for _, t in left_alone] == [(0, 19), (20, 39)]
    assert left_alone[0][0].tolist() == list(range(23, 40))


@pytest.mark.parametrize(
    ("n_times", "change", "message"),
    [
        (200, {"gap": 300.0}, "^n_folds 5, gap 300 s: .*200 volumes of 2 s"),
        (40, {"n_folds": 20}, "^n_folds 20, gap 32 s: 40 volumes are too few for 20"),
        (61, {"gap": 40.0}, "^n_folds 5, gap 40 s"),  # within training sets
        (8, {"n_folds": 9, "gap": 0.0}, "too few for 9 folds"),
        (200, {"runs": [195, 5], "delays": [0, 5]}, "^delays: .* 0 to 4 .* has 5.*5]"),
        (200, {"delays": []}, r"^delays: expected one or more .*found \[\]"),
        (200, {"runs": [100, 90]}, "run_lengths .* 190 volumes, the data have 200"),
    ],
)
def test_what_does_not_fit_is_told_by_its_parameter(n_times, change, message):
    options = {"n_folds": 5, "gap": 32.0, "tr": 2.0, "delays": [0]}
    for runs in (None, [100, 100], [40] * 5):
        folds.check(200, **options, runs=runs)
    with pytest.raises(ParamError, match=message):
        folds.check(n_times, **options | change)


@pytest.mark.parametrize(
    "gap, tr, delays, expected",
    [(32, 2.0, (0,), 16), (32, 1.5, (0,), 22), (0, 2, (1, 4), 4), (0.3, 0.1, (0,), 3)],
)
def test_gap_volumes(gap, tr, delays, expected):
    assert folds.gap_volumes(gap, tr, delays) == expected


@pytest.mark.parametrize("tr", [0.8, 1.5, 2.0, 3.0])
def test_gap_outlasts_the_response_of_every_word(tr):
    gap = folds.gap_volumes(HRF_LENGTH, tr)
    onset = 10 * tr + np.linspace(0, tr, 50, endpoint=False)  # words of volume 10
    options = {"n_times": 80, "tr": tr, "pooling": "sum"}
    H = clock.alignment_matrix(np.arange(50), onset, **options)
    reached = np.flatnonzero(abs(H).sum(1))
    assert 10 + gap - 1 <= reached.max() <= 10 + gap


@pytest.mark.parametrize("runs", [None, [4, 6]])
def test_delayed(rng, runs):
    features = rng.normal(size=(10, 3))
    begins = [0] if runs is None else [0, 4]
    delays = (0, 2, 5)
    expected = np.zeros((10, 9))
    for t in range(10):
        begin = max(b for b in begins if b <= t)
        for i, d in enumerate(delays):
            if t - d >= begin:
                expected[t, 3 * i : 3 * i + 3] = features[t - d]
    np.testing.assert_array_equal(folds.delayed(features, delays, runs), expected)


def test_drift_basis_is_apart_for_every_stretch(rng):
    run = np.repeat([0, 1], [120, 60])
    volumes = np.r_[0:50, 80:180]  # a hole, and the border of the runs at 120
    basis = folds.drift_basis(volumes, run, 2.0, 100.0)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)
    stretches = [np.arange(50), np.arange(50, 90), np.arange(90, 150)]
    data = rng.normal(size=(150, 4))
    clean = timeseries.residuals(data, basis)
    for rows in stretches:
        own = timeseries.orthonormal(timeseries.drift(len(rows), 2.0, 100.0))
        expected = timeseries.residuals(data[rows], own)
        np.testing.assert_allclose(clean[rows], expected, atol=1e-12)
    assert folds.drift_basis(volumes, run, 2.0, None).shape == (150, 0)
    assert folds.drift_basis(np.array([3, 9, 10]), run, 2.0, 100.0).shape == (3, 2)


def test_standardise_by_the_training_rows(rng):
    data = 1000 + 5 * rng.normal(size=(60, 4))
    data[:, 1] = 1000.1
    train, test = np.r_[0:20, 40:60], np.arange(25, 35)
    basis = folds.drift_basis(train, np.zeros(60, int), 2.0, 40.0)
    fitted, left = folds.standardise(data, train, test, basis)
    mean = data[train].mean(0)
    clean = timeseries.residuals(data[train] - mean, basis)
    sd = np.where(np.arange(4) == 1, np.inf, clean.std(0))
    np.testing.assert_allclose(fitted, clean / sd, atol=1e-3)
    np.testing.assert_allclose(left, (data[test] - mean) / sd, atol=1e-3)
    assert not fitted[:, 1].any()
    assert fitted.dtype == left.dtype == np.float32


@pytest.mark.parametrize("runs", [None, [12, 18]])
def test_mean_delayed_is_the_mean_over_delays(rng, runs):
    data = rng.normal(size=(30, 3)).astype(np.float32)
    expected = np.zeros_like(data)
    of = folds.run_of(30, runs)
    for t in range(30):
        for delay in (1, 3):
            if t >= delay and of[t] == of[t - delay]:
                expected[t] += data[t - delay] / 2
    np.testing.assert_allclose(folds.mean_delayed(data, [1, 3], runs), expected)
    late = np.arange(30) > 4
    for kept in (slice(5, None), late):
        given = folds.mean_delayed(data, [1, 3], runs, kept)
        np.testing.assert_allclose(given, expected[late])
        given = folds.mean_delayed(data, [0], runs, kept)
        np.testing.assert_array_equal(given, data[late])
