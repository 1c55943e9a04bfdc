import numpy as np
import pytest
from sklearn.linear_model import Ridge

from anbn import encoding, hemodynamics


@pytest.mark.parametrize("n, folds, gap", [(100, 5, 8), (53, 4, 0), (37, 3, 5)])
def test_folds_are_contiguous_with_a_gap(n, folds, gap):
    tested = []
    for train, test in encoding.contiguous_folds(n, folds, gap):
        assert np.diff(test).tolist() == [1] * (len(test) - 1)
        assert np.abs(train[:, None] - test).min() == gap + 1
        assert len(train) >= n - len(test) - 2 * gap
        tested += test.tolist()
    assert tested == list(range(n))


def test_too_few_volumes():
    with pytest.raises(
        ValueError, match="12 volumes are too few for 5 folds with a gap"
    ):
        encoding.contiguous_folds(12, 5, 8)


def test_one_band_equals_ridge_with_a_fixed_penalty(rng):
    features = rng.normal(size=(120, 5))
    bold = features @ rng.normal(size=(5, 7)) + rng.normal(size=(120, 7))
    scores = encoding.encode([features], bold, n_folds=4, gap=3, alphas=[10.0])
    expected = []
    for train, test in encoding.contiguous_folds(120, 4, 3):
        x = (features - features[train].mean(0)) / features[train].std(0)
        y = (bold - bold[train].mean(0)) / bold[train].std(0)
        model = Ridge(alpha=10.0, fit_intercept=False).fit(x[train], y[train])
        z = hemodynamics.zscore
        expected.append((z(model.predict(x[test])) * z(y[test])).mean(0))
    np.testing.assert_allclose(scores, np.mean(expected, 0), atol=1e-4)


def test_signal_is_predicted_and_noise_is_not(rng):
    features, junk = rng.normal(size=(300, 4)), rng.normal(size=(300, 40))
    bold = np.hstack([features @ rng.normal(size=(4, 10)), np.zeros((300, 30))])
    bold += rng.normal(size=bold.shape)
    alone = encoding.encode([features], bold)
    assert alone[:10].mean() > 0.6
    assert abs(alone[10:].mean()) < 0.05
    both = encoding.encode([features, junk], bold)
    assert both[:10].mean() > alone[:10].mean() - 0.05  # a useless band costs little
    constant = encoding.encode([np.ones((300, 1))], bold)
    assert not constant.any()
