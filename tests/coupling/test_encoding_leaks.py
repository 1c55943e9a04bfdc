"""Held-out scores must not know the held-out time.

Each check passes as the code is, and fails for the leaks that are put in on purpose.
"""

import numpy as np
import pytest
from sklearn.model_selection import KFold

from anbn.brain import clock
from anbn.brain.hrf import HRF_LENGTH
from anbn.coupling import encoding
from anbn.stats import timeseries

N_TIMES, TR, N_FOLDS, N_WORDS = 200, 2.0, 4, 500
ALPHAS = np.array([1.0, 100.0, 10_000.0])


class Words:
    """Words with random activations, and the features that they give."""

    def __init__(self, rng):
        self.onset = np.sort(rng.uniform(0, N_TIMES * TR, N_WORDS))
        self.activations = rng.normal(size=(N_WORDS, 30))
        self.H = clock.alignment_matrix(
            np.arange(N_WORDS), self.onset, n_times=N_TIMES, tr=TR
        )

    def features(self, other=None):
        return self.H @ (self.activations if other is None else other)


@pytest.fixture
def words():
    return Words(np.random.default_rng(1))


def slow_noise(rng, n_voxels):
    """Noise with the slow drift and short memory of BOLD, drift removed as a whole."""
    noise = rng.normal(size=(2 * N_TIMES, n_voxels))
    for i in range(1, 2 * N_TIMES):
        noise[i] += 0.85 * noise[i - 1]
    basis = timeseries.orthonormal(timeseries.drift(N_TIMES, TR))
    return timeseries.residuals(noise[N_TIMES:], basis)


def fold_predictions(features, bold):
    """What ``encode`` predicts in each fold: (train, test, predictions)."""
    gap = encoding.gap_volumes(HRF_LENGTH, TR)
    options = {"run": np.zeros(N_TIMES, int), "n_folds": N_FOLDS, "gap": gap}
    options |= {"tr": TR, "high_pass": 128.0, "alphas": ALPHAS}
    options |= {"n_iter": 3, "random_state": 0}
    for train, test in encoding.contiguous_folds(N_TIMES, N_FOLDS, gap):
        yield (
            train,
            test,
            lambda x, y, rows=(train, test): encoding.predict_fold(
                x, y, *rows, **options
            )[1],
        )


def bands_of(features, n_bands):
    return np.array_split(features, n_bands, axis=1)


def check_test_bold(words, _, n_bands=1):
    """Predictions stay the same when the test set's BOLD is replaced by noise."""
    rng = np.random.default_rng(2)
    features = bands_of(words.features(), n_bands)
    bold = slow_noise(rng, 20)
    for _, test, predict in fold_predictions(features, bold):
        other = bold.copy()
        other[test] = 5 + 10 * rng.normal(size=other[test].shape)
        np.testing.assert_array_equal(predict(features, bold), predict(features, other))


def check_test_features(words, _, n_bands=1):
    """The prediction of a volume knows no other volume of the test set."""
    rng = np.random.default_rng(3)
    features, bold = words.features(), slow_noise(rng, 20)
    for _, test, predict in fold_predictions(features, bold):
        for row in (0, len(test) // 2):
            other = features.copy()
            other[test] = 3 + 2 * rng.normal(size=other[test].shape)
            other[test[row]] = features[test[row]]
            before = predict(bands_of(features, n_bands), bold)[:, row]
            after = predict(bands_of(other, n_bands), bold)[:, row]
            np.testing.assert_array_equal(before, after)


def check_words(words, monkeypatch):
    """Other words in the test interval change nothing that the model is fitted to."""
    rng = np.random.default_rng(4)
    seen, ridge = [], encoding.RidgeCV

    class Spy(ridge):
        def fit(self, X, y=None):
            seen.append((X, y))
            return super().fit(X, y)

    bold = slow_noise(rng, 5)
    folds = [test for _, test, _ in fold_predictions(words.features(), bold)]
    options = {"tr": TR, "n_folds": N_FOLDS, "alphas": ALPHAS}
    with monkeypatch.context() as patch:
        patch.setattr(encoding, "RidgeCV", Spy)
        encoding.encode({"words": words.features()}, bold, **options)
        originals = seen[:]
        for i, test in enumerate(folds):
            seen.clear()
            of_test = np.isin(np.floor(words.onset / TR), test)
            activations = words.activations.copy()
            activations[of_test] = rng.normal(size=activations[of_test].shape)
            encoding.encode({"words": words.features(activations)}, bold, **options)
            for before, after in zip(originals[i], seen[i], strict=True):
                np.testing.assert_array_equal(before, after)


def null_scores(words, n_voxels=2000, seed=5):
    rng = np.random.default_rng(seed)
    basis = timeseries.orthonormal(timeseries.drift(N_TIMES, TR))
    features = timeseries.residuals(words.features(), basis)
    options = {"tr": TR, "n_folds": N_FOLDS, "alphas": ALPHAS}
    return encoding.encode({"words": features}, slow_noise(rng, n_voxels), **options).r


def check_null(words, _):
    """Voxels that hold no response score 0 on average, within the mean's interval."""
    r = null_scores(words)
    half_width = 3.3 * r.std(ddof=1) / np.sqrt(len(r))  # 99.9 %
    assert abs(r.mean()) < half_width
    assert half_width < 0.03  # narrow enough to see a leak


CHECKS = {
    "test BOLD": check_test_bold,
    "test features": check_test_features,
    "test words": check_words,
    "null": check_null,
}


@pytest.mark.parametrize("check", CHECKS)
def test_nothing_leaks(words, monkeypatch, check):
    CHECKS[check](words, monkeypatch)


@pytest.mark.parametrize("check", [check_test_bold, check_test_features])
def test_nothing_leaks_between_bands(words, check):
    check(words, None, n_bands=3)


def shuffled_folds(n_times, n_folds, gap, runs=None):
    return list(KFold(n_folds, shuffle=True, random_state=0).split(np.arange(n_times)))


def overlapping_folds(n_times, n_folds, gap, runs=None):
    tests = np.array_split(np.arange(n_times), n_folds)
    return [(np.arange(n_times), test) for test in tests]


def standardise_by_all(data, train, test, basis):
    z = timeseries.zscore(np.asarray(data)).astype(np.float32)
    return z[train], z[test]


def standardise_test_by_itself(data, train, test, basis):
    z = timeseries.zscore
    return z(data[train]).astype("f4"), z(data[test]).astype("f4")


honest = encoding.predict_fold


def penalty_by_test(features, bold, train, test, *, alphas, **options):
    """The penalty that scores best in the test set, voxel by voxel."""
    best, kept = np.full(bold.shape[1], -np.inf), None
    for alpha in alphas:
        fit = {"alphas": np.array([alpha]), **options}
        measured, predicted = honest(features, bold, train, test, **fit)
        basis = encoding.drift_basis(test, options["run"], TR, options["high_pass"])
        score = encoding.score(measured, predicted, basis)[0]
        kept = predicted if kept is None else np.where(score > best, predicted, kept)
        best = np.maximum(best, score)
    return measured, kept


def no_gap(gap, tr, delays=(0,)):
    return 0


def drift_left_as_it_came(volumes, run, tr, high_pass):
    return np.ones((len(volumes), 1)) / np.sqrt(len(volumes))


LEAKS = [
    ("contiguous_folds", shuffled_folds, ["test words", "null"]),
    ("contiguous_folds", overlapping_folds, ["test BOLD", "test words", "null"]),
    ("gap_volumes", no_gap, ["test words", "null"]),
    ("standardise", standardise_by_all, ["test BOLD", "test features", "test words"]),
    ("standardise", standardise_test_by_itself, ["test features"]),
    ("predict_fold", penalty_by_test, ["test BOLD", "null"]),
    ("drift_basis", drift_left_as_it_came, ["null"]),
]
CASES = [(name, leak, check) for name, leak, checks in LEAKS for check in checks]


@pytest.mark.parametrize("name, leak, check", CASES)
def test_checks_fail_for_leaks_put_in(words, monkeypatch, name, leak, check):
    monkeypatch.setattr(encoding, name, leak)
    with pytest.raises(AssertionError):
        CHECKS[check](words, monkeypatch)
