import numpy as np
import pytest
import scipy.sparse
import xarray as xr
from signals import smooth

from anbn.stats import surrogates, timeseries


@pytest.mark.parametrize("n", [80, 81])
def test_turned_phases_keep_spectra_and_cross_spectra(rng, n):
    timecourses = smooth(rng, n, 3)
    surrogate = surrogates.draw_one(timecourses, rng, null_method="phase")
    before, after = (np.fft.rfft(x, axis=0) for x in (timecourses, surrogate))
    np.testing.assert_allclose(np.abs(after), np.abs(before), atol=1e-8)
    cross = [x[:, 0] * x[:, 1].conj() for x in (before, after)]
    np.testing.assert_allclose(cross[0], cross[1], atol=1e-7)
    assert np.abs(np.corrcoef(timecourses.T, surrogate.T)[:3, 3:]).max() < 0.6
    assert surrogate.mean(0) == pytest.approx(timecourses.mean(0))


@pytest.mark.parametrize(("n_times", "near"), [(20, 2), (50, 5), (7, 1)])
def test_shifts_are_whole_rolls_and_equally_likely_but_the_nearest(rng, n_times, near):
    timecourses = smooth(rng, n_times, 2)
    rolls = [np.roll(timecourses, -k, axis=0) for k in range(n_times)]
    allowed = [0, *range(near, n_times - near + 1)]
    n = 100 * len(allowed)
    drawn = surrogates.draw(timecourses, n, null_method="shift", rng=rng)
    assert drawn.shape == (n_times, n, 2)
    which = [
        int(np.argmin([np.abs(x - roll).max() for roll in rolls]))
        for x in drawn.swapaxes(0, 1)
    ]
    np.testing.assert_array_equal(drawn[:, 0], rolls[which[0]])
    counts = np.bincount(which, minlength=n_times)
    assert np.flatnonzero(counts).tolist() == allowed
    assert counts[allowed].min() > 60 and counts.max() < 145  # 100 expected


@pytest.mark.parametrize("null_method", ["phase", "shift"])
def test_runs_are_drawn_apart_and_the_same_whatever_the_batch(rng, null_method):
    timecourses = np.concatenate([smooth(rng, 30, 2), 100 + smooth(rng, 50, 2)])
    options = {"null_method": null_method, "run_lengths": [30, 50]}
    drawn = surrogates.draw(timecourses, 6, rng=np.random.default_rng(1), **options)
    assert drawn[:30].max() < 50 < drawn[30:].min()
    power = np.abs(np.fft.rfft(drawn[30:], axis=0))
    expected = np.abs(np.fft.rfft(timecourses[30:], axis=0))[:, None]
    np.testing.assert_allclose(power, np.broadcast_to(expected, power.shape), atol=1e-7)
    one = np.random.default_rng(1)
    parts = [surrogates.draw(timecourses, n, rng=one, **options) for n in (2, 4)]
    np.testing.assert_array_equal(np.concatenate(parts, 1), drawn)


@pytest.mark.parametrize(
    ("n", "options", "expected"),
    [
        (99, {"null_method": "phase"}, 0.01),
        (99, {"null_method": "text"}, 0.01),
        (99, {"n_times": 100}, (1 + 99 / 92) / 100),
        (99_999, {"n_times": 100}, 1 / 92),
        (99, {"run_lengths": (50, 50)}, (1 + 99 / 42**2) / 100),
        (1, {"n_times": 2}, 0.75),
    ],
)
def test_least_p_that_draws_can_give(n, options, expected):
    found = surrogates.least_p(n, **options)
    assert found == pytest.approx(expected, rel=1e-3)


def test_least_p_of_rolls_is_that_of_the_strongest_coupling(rng):
    data = smooth(rng, 40, 1)
    drawn = surrogates.draw(data, 4000, null_method="shift", rng=rng)[..., 0]
    r = np.corrcoef(data.T, drawn.T)[0, 1:]
    p = (1 + (r >= 1 - 1e-9).sum()) / 4001  # of a neuron that is the network itself
    assert p == pytest.approx(surrogates.least_p(4000, n_times=40), rel=0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"null_method": "text"}, r"must be one of .*shift.*phase.*found 'text'"),
        ({"run_lengths": [10, 10]}, "add up to 20 volumes, the data have 24"),
        ({"run_lengths": [24, 0]}, r"\[24, 0\]"),
    ],
)
def test_bad_requests(rng, options, message):
    with pytest.raises(ValueError, match=message):
        surrogates.draw(np.zeros((24, 2)), 1, rng=rng, **options)


def test_other_text_equals_a_loop(rng):
    activations = xr.DataArray(
        rng.normal(size=(30, 2, 5)), dims=("token", "layer", "neuron")
    )
    H = scipy.sparse.csr_array(rng.random((7, 12)) * (rng.random((7, 12)) < 0.4))
    starts = np.random.default_rng(4).integers(30, size=3)
    drawn = surrogates.other_texts(activations, H, 3, np.random.default_rng(4))
    for layer, (columns, of_layer) in enumerate(drawn):
        assert columns == slice(5 * layer, 5 * layer + 5)
        for start, responses in zip(starts, of_layer, strict=True):
            text = np.roll(activations.to_numpy()[:, layer], -start, axis=0)[:12]
            np.testing.assert_allclose(responses, H @ text, atol=1e-5)
    with pytest.raises(ValueError, match="raise corpus_tokens"):
        next(surrogates.other_texts(activations[:11], H, 3, rng))


def test_colour_before_projection_is_found_again(rng):
    noise = smooth(rng, 120, 60)
    confounds = np.column_stack([np.ones(120), smooth(rng, 120, 25)])
    basis = timeseries.orthonormal(confounds)
    clean = timeseries.residuals(noise, basis)

    def colour(data):
        """Power by frequency, mean over networks, and its sum 1."""
        power = (np.abs(np.fft.rfft(data, axis=0)) ** 2).mean(1)
        return power / power.sum()

    def projected(data):
        return colour(timeseries.residuals(surrogates.draw_one(data, rng), basis))

    ours = projected(surrogates.before_projection(clean, basis))
    off, off_twice = (
        np.abs(colour(clean) - other).sum() for other in (ours, projected(clean))
    )
    assert off < 0.5 * off_twice


def test_colour_is_found_again_in_runs_apart(rng):
    timecourses = smooth(rng, 80, 2)
    basis = np.zeros((80, 2))
    basis[:30, 0], basis[30:, 1] = 30**-0.5, 50**-0.5
    coloured = surrogates.before_projection(timecourses, basis, [30, 50])
    for run in (slice(30), slice(30, 80)):
        expected = timecourses[run] - timecourses[run].mean(0)
        np.testing.assert_allclose(coloured[run], expected, atol=1e-9)
