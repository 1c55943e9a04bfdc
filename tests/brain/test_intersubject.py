import numpy as np
import pytest

from anbn.brain import intersubject
from anbn.networks import dual_regression
from anbn.stats import timeseries


def test_isc_equals_the_naive_loop(rng):
    data = rng.normal(size=(5, 60, 3)) + rng.normal(size=(60, 3))
    isc = intersubject.correlation(data)
    for i in range(5):
        z = timeseries.zscore(np.moveaxis(data, 0, 1))
        others = np.delete(z, i, 1).mean(1)
        for k in range(3):
            assert isc[i, k] == pytest.approx(
                np.corrcoef(data[i, :, k], others[:, k])[0, 1]
            )


def test_ceiling_is_what_the_true_signal_reaches(rng):
    signal = rng.normal(size=(20000, 1))
    data = signal + 2 * rng.normal(size=(8, 20000, 1))
    truth = np.corrcoef(data.mean(0)[:, 0], signal[:, 0])[0, 1]
    rho = intersubject.pair_correlation(data)
    ceiling = intersubject.ceiling_of(rho, len(data))
    assert ceiling[0] == pytest.approx(truth, abs=0.01)
    rho = intersubject.pair_correlation(rng.normal(size=(4, 500, 9)))
    assert intersubject.ceiling_of(rho, 4).max() < 0.5


def test_lagged_correlation_finds_a_shift(rng):
    regressor = rng.normal(size=100)
    r = intersubject.lagged_correlation(
        np.roll(regressor, 3)[:, None], regressor, np.arange(-5, 6)
    )
    assert np.arange(-5, 6)[r[:, 0].argmax()] == 3
    assert r.max() == pytest.approx(1)


def test_lags_do_not_cross_the_border_of_a_run(rng):
    bold, regressor = rng.normal(size=(100, 2)), rng.normal(size=100)
    found = intersubject.lagged_correlation(bold, regressor, [-3, 0, 4, 59], [40, 60])
    for row, lag in zip(found[:3], [-3, 0, 4], strict=True):
        same_run = [
            (t, t + lag)
            for begin, end in ((0, 40), (40, 100))
            for t in range(begin, end)
            if begin <= t + lag < end
        ]
        earlier, later = np.transpose(same_run)
        for k in range(2):
            expected = np.corrcoef(bold[later, k], regressor[earlier])[0, 1]
            assert row[k] == pytest.approx(expected)
    assert np.isfinite(found).all()


def test_correlation_at_every_lag_is_that_of_a_rolled_run(rng, monkeypatch):
    monkeypatch.setattr(intersubject, "COLUMNS", 2)
    one, other = rng.normal(size=(2, 21, 5))
    curve = intersubject.correlation_by_lag(one, other)
    for lag in range(21):
        rolled = np.roll(other, -lag, axis=0)
        r = [np.corrcoef(one[:, k], rolled[:, k])[0, 1] for k in range(5)]
        assert curve[lag] == pytest.approx(np.mean(r))


def test_subject_timecourses_equal_least_squares(rng):
    maps, truth = rng.normal(size=(3, 200)), rng.normal(size=(2, 30, 3))
    bold = truth @ maps + 5.0
    np.testing.assert_allclose(
        dual_regression.subject_timecourses(bold, maps), truth, atol=1e-8
    )


def test_subjects_may_come_one_by_one(rng, tmp_path):
    data = rng.normal(size=(4, 50, 3)) + rng.normal(size=(50, 3))
    for i, subject in enumerate(data):
        np.save(tmp_path / f"{i}.npy", subject)
    maps = [np.load(tmp_path / f"{i}.npy", mmap_mode="r") for i in range(4)]
    for function in (intersubject.correlation, intersubject.pair_correlation):
        np.testing.assert_allclose(function(maps), function(data))
        with pytest.raises(ValueError, match="needs 2 subjects or more, found 1"):
            function(maps[:1])


def test_dual_regression_recovers_a_subject(rng):
    """Group maps, the subject's own maps a little different."""
    group, own = rng.normal(size=(2, 3, 400))
    own = group + 0.3 * own
    truth = timeseries.zscore(rng.normal(size=(80, 3)))
    bold = truth @ own + 0.1 * rng.normal(size=(80, 400)) + 7.0
    timecourses, maps = dual_regression.dual_regression(bold, group)
    for k in range(3):
        assert np.corrcoef(timecourses[:, k], truth[:, k])[0, 1] > 0.98
        r = [np.corrcoef(maps[k], m[k])[0, 1] for m in (own, group)]
        assert r[0] > 0.98 and r[0] > r[1] + 0.02


def test_back_projection_equals_least_squares(rng):
    bold, timecourses = rng.normal(size=(60, 20)), rng.normal(size=(60, 3))
    maps = dual_regression.subject_maps(bold, timecourses)
    design = np.column_stack([timeseries.zscore(timecourses), np.ones(60)])
    expected = np.linalg.lstsq(design, bold, rcond=None)[0][:3]
    np.testing.assert_allclose(maps, expected, atol=1e-10)
