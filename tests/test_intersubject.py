import numpy as np
import pytest

from anbn import hemodynamics, intersubject


def test_isc_equals_the_naive_loop(rng):
    data = rng.normal(size=(5, 60, 3)) + rng.normal(size=(60, 3))
    isc = intersubject.correlation(data)
    for i in range(5):
        z = hemodynamics.zscore(np.moveaxis(data, 0, 1))
        others = np.delete(z, i, 1).mean(1)
        for k in range(3):
            assert isc[i, k] == pytest.approx(
                np.corrcoef(data[i, :, k], others[:, k])[0, 1]
            )


def test_ceiling_is_what_the_true_signal_reaches(rng):
    signal = rng.normal(size=(20000, 1))
    data = signal + 2 * rng.normal(size=(8, 20000, 1))
    truth = np.corrcoef(data.mean(0)[:, 0], signal[:, 0])[0, 1]
    assert intersubject.group_noise_ceiling(data)[0] == pytest.approx(truth, abs=0.01)
    assert intersubject.group_noise_ceiling(rng.normal(size=(4, 500, 9))).max() < 0.5


def test_lagged_correlation_finds_a_shift(rng):
    regressor = rng.normal(size=100)
    r = intersubject.lagged_correlation(
        np.roll(regressor, 3)[:, None], regressor, np.arange(-5, 6)
    )
    assert np.arange(-5, 6)[r[:, 0].argmax()] == 3
    assert r.max() == pytest.approx(1)


def test_subject_timecourses_equal_least_squares(rng):
    maps, truth = rng.normal(size=(3, 200)), rng.normal(size=(2, 30, 3))
    bold = truth @ maps + 5.0
    np.testing.assert_allclose(
        intersubject.subject_timecourses(bold, maps), truth, atol=1e-8
    )
