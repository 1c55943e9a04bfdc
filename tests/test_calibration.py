"""The error rates of the nulls, counted; the same check must catch nulls that fail."""

import numpy as np
import pytest
import scipy.stats

from anbn import coupling, hemodynamics, surrogates, truth

N_DATASETS, N_PERMUTATIONS, N_TIMES, N_NETWORKS = 100, 39, 120, 3


def smooth(rng, *shape):
    """Noise as smooth as BOLD at a TR of 2 s; not periodic."""
    noise = rng.normal(size=(shape[0] + 3, *shape[1:]))
    return sum(noise[i : i + shape[0]] for i in range(4))


def make(n_confounds):
    """Responses, time courses of many data sets that know nothing of them, confounds.

    A confound is strong in all time courses.
    """
    rng = np.random.default_rng(0)
    confounds = rng.normal(size=(N_TIMES, n_confounds))
    basis = hemodynamics.orthonormal(np.column_stack([np.ones(N_TIMES), confounds]))
    responses = hemodynamics.remove(smooth(rng, N_TIMES, 200), basis)
    brains = 5 * confounds[:, [0]] + smooth(rng, N_TIMES, N_DATASETS * N_NETWORKS)
    return responses, hemodynamics.remove(brains, basis), basis


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
    r = coupling.synchrony(responses, brains)
    options |= {"n_permutations": N_PERMUTATIONS, "rng": np.random.default_rng(1)}
    null = coupling.null(responses, brains, basis, **options)
    familywise, discovered = 0, 0
    for own, maxima in zip(by_dataset(r), by_dataset(null.maxima), strict=True):
        familywise += (coupling.familywise_p(own, maxima) <= 0.05).any()
        discovered += (coupling.false_discovery_q(own, null.counts) <= 0.05).any()
    return familywise, discovered


def assert_calibrated(n_false):
    low, high = scipy.stats.binom.ppf([0.005, 0.995], N_DATASETS, 0.05)
    assert low <= n_false <= high


@pytest.mark.parametrize("kind", ["phase", "shift"])
def test_familywise_error_is_what_is_asked_for(null_data, kind):
    familywise, discovered = false_positives(*null_data, kind=kind)
    assert_calibrated(familywise)
    assert discovered <= scipy.stats.binom.ppf(0.995, N_DATASETS, 0.05)


def test_orders_of_runs_are_calibrated():
    lengths = [N_TIMES // 6] * 6
    options = {"kind": "runs", "run_lengths": lengths}
    assert_calibrated(false_positives(*make(4), **options)[0])


def test_parametric_p_passes_chance_for_coupling(null_data):
    responses, brains, basis = null_data
    p = coupling.parametric_p(
        coupling.synchrony(responses, brains), N_TIMES - basis.shape[1]
    )
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
    options = {"n_permutations": N_PERMUTATIONS, "rng": rng, "batch_size": 50}
    for brain in by_dataset(brains)[:40]:
        brain = brain + 3 * responses[:, [7]] * planted
        null = coupling.null(responses, brain, basis, **options)
        q = coupling.false_discovery_q(
            coupling.synchrony(responses, brain), null.counts
        )
        assert q[7, 0] <= 0.05
        shares.append(truth.false_share(q <= 0.05, planted))
    assert np.mean(shares) <= 0.05 + 2.6 * np.std(shares) / np.sqrt(40)
