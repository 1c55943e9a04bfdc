"""The error rates of the nulls, counted; the same check must catch nulls that fail."""

import numpy as np
import pytest
import scipy.stats
from signals import smooth

from anbn.coupling import synchrony
from anbn.stats import surrogates, timeseries

N_DATASETS, N_DRAWS, N_TIMES, N_NETWORKS = 100, 39, 120, 3


def make(n_confounds):
    """Responses, time courses of many data sets that know nothing of them, confounds.

    A confound is strong in all time courses.
    """
    rng = np.random.default_rng(0)
    confounds = rng.normal(size=(N_TIMES, n_confounds))
    basis = timeseries.orthonormal(np.column_stack([np.ones(N_TIMES), confounds]))
    responses = timeseries.residuals(smooth(rng, N_TIMES, 200), basis)
    brains = 5 * confounds[:, [0]] + smooth(rng, N_TIMES, N_DATASETS * N_NETWORKS)
    return responses, timeseries.residuals(brains, basis), basis


@pytest.fixture(scope="module")
def null_data():
    """With 24 confounds, as of motion."""
    return make(24)


def by_dataset(columns):
    """One array of columns (..., n_networks) for each data set."""
    return np.split(columns, N_DATASETS, axis=-1)


def false_positives(responses, brains, basis, **options):
    """Data sets with a neuron beyond the family-wise threshold, and beyond q = .05.

    All data sets are columns of one null: they share its random numbers.
    """
    r = synchrony.synchrony(responses, brains)
    options |= {"n_draws": N_DRAWS, "rng": np.random.default_rng(1)}
    null = synchrony.null(responses, brains, basis, **options)
    familywise, discovered = 0, 0
    counts_of = np.split(null.counts, N_DATASETS)
    columns = zip(by_dataset(r), by_dataset(null.maxima), counts_of, strict=True)
    for own, maxima, counts in columns:
        familywise += (synchrony.familywise_p(own, maxima) <= 0.05).any()
        discovered += (
            synchrony.false_discovery_q(own, counts, over="all") <= 0.05
        ).any()
    return familywise, discovered


def assert_calibrated(n_false):
    low, high = scipy.stats.binom.ppf([0.005, 0.995], N_DATASETS, 0.05)
    assert low <= n_false <= high


@pytest.mark.parametrize("null_method", ["phase", "shift"])
def test_familywise_error_is_what_is_asked_for(null_data, null_method):
    familywise, discovered = false_positives(*null_data, null_method=null_method)
    assert_calibrated(familywise)
    assert discovered <= scipy.stats.binom.ppf(0.995, N_DATASETS, 0.05)


def test_runs_that_are_rolled_apart_are_calibrated():
    lengths = [N_TIMES // 6] * 6
    options = {"null_method": "shift", "run_lengths": lengths}
    assert_calibrated(false_positives(*make(4), **options)[0])


def test_parametric_p_passes_chance_for_coupling(null_data):
    responses, brains, basis = null_data
    r, free = synchrony.synchrony(responses, brains), N_TIMES - basis.shape[1] - 2
    p = 2 * scipy.stats.t.sf(np.abs(r) * np.sqrt(free / (1 - r**2)), free)
    n_false = sum((own * own.size <= 0.05).any() for own in by_dataset(p))
    assert n_false > 0.5 * N_DATASETS
    with pytest.raises(AssertionError):
        assert_calibrated(n_false)


def test_white_surrogates_are_caught(null_data, monkeypatch):
    def white(data, n, *, rng, **_):
        return rng.normal(size=(len(data), n, data.shape[1]))

    monkeypatch.setattr(surrogates, "draw", white)
    with pytest.raises(AssertionError):
        assert_calibrated(false_positives(*null_data)[0])


def test_surrogates_that_keep_confounds_are_caught(null_data):
    responses, brains, _ = null_data
    nothing = np.zeros((N_TIMES, 1))
    with pytest.raises(AssertionError):
        assert_calibrated(false_positives(responses, brains, nothing)[0])


def test_surrogates_that_are_projected_twice_are_caught(monkeypatch):
    data = make(40)
    monkeypatch.setattr(surrogates, "before_projection", lambda x, *_: x)
    with pytest.raises(AssertionError):
        assert_calibrated(false_positives(*data)[0])


def test_false_discoveries_are_few_beside_planted_ones(null_data):
    responses, brains, basis = null_data
    planted = np.arange(N_NETWORKS) == 0
    rng, shares = np.random.default_rng(2), []
    options = {"n_draws": N_DRAWS, "rng": rng, "batch_size": 50}
    for brain in by_dataset(brains)[:40]:
        brain = brain + 3 * responses[:, [7]] * planted
        null = synchrony.null(responses, brain, basis, **options)
        q = synchrony.false_discovery_q(
            synchrony.synchrony(responses, brain), null.counts
        )
        assert q[7, 0] <= 0.05
        found = q <= 0.05
        shares.append(found[:, ~planted].sum() / max(found.sum(), 1))
    assert np.mean(shares) <= 0.05 + 2.6 * np.std(shares) / np.sqrt(40)


def very_smooth(rng, width, *shape):
    noise = rng.normal(size=(shape[0] + width, *shape[1:]))
    return sum(noise[i : i + shape[0]] for i in range(width))


def discoveries(n_fast, n_slow, n_coupled, coupled, n_sets=40):
    """Data sets in which a fast and a slow network pass q .05, by the network's own
    null and by one for all networks; ``coupled`` drives the first fast network."""
    rng, n_times, n_half = np.random.default_rng(0), 120, 150
    basis = timeseries.orthonormal(np.ones((n_times, 1)))
    counted = np.zeros((2, 2), int)
    for _ in range(n_sets):
        fast = rng.normal(size=(n_times, n_fast))
        slow = very_smooth(rng, 12, n_times, n_slow)
        fast_neurons = rng.normal(size=(n_times, n_half))
        fast_neurons[:, :n_coupled] += coupled * fast[:, :1]
        slow_neurons = very_smooth(rng, 12, n_times, n_half)
        responses = np.column_stack([fast_neurons, slow_neurons])
        clean = timeseries.residuals(responses, basis)
        brain = timeseries.residuals(np.column_stack([fast, slow]), basis)
        null = synchrony.null(clean, brain, basis, n_draws=99, rng=rng)
        r = synchrony.synchrony(clean, brain)
        pooled = np.broadcast_to(null.counts.sum(0), null.counts.shape)
        own = synchrony.false_discovery_q(r, null.counts) <= 0.05
        one = synchrony.false_discovery_q(r, pooled, over="all") <= 0.05
        for row, found in enumerate((own, one)):
            counted[row] += found[:, 0].any(), found[:, n_fast:].any()
    return counted / n_sets


def test_one_null_for_all_networks_hides_fast_ones_and_invents_slow_ones():
    """A null for each network, as it is now, does neither."""
    own, pooled = discoveries(n_fast=1, n_slow=3, n_coupled=6, coupled=0.45)
    assert own[0] >= 0.95 and pooled[0] <= 0.4
    own, pooled = discoveries(n_fast=6, n_slow=1, n_coupled=100, coupled=1.0)
    assert own[0] == pooled[0] == 1 and pooled[1] >= 0.3
    assert own[1] <= scipy.stats.binom.ppf(0.995, 40, 0.05) / 40
