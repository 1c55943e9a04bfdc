import numpy as np
import pytest
import scipy.ndimage
from himalaya.scoring import correlation_score, r2_score_split
from sklearn.linear_model import Ridge

from anbn.brain import intersubject
from anbn.coupling import encoding, folds
from anbn.stats import inference, surrogates, timeseries

PLAIN = {"tr": 1.0, "gap": 3, "high_pass": None, "n_folds": 4}


@pytest.fixture
def data(rng):
    """Features, and voxels from pure signal to pure noise."""
    features = rng.normal(size=(160, 6))
    signal = timeseries.zscore(features @ rng.normal(size=(6, 12)))
    noise = rng.normal(size=(160, 12)) * np.logspace(-1, 2, 12)
    return features, signal + noise


def correlation(a, b):
    return (timeseries.zscore(a) * timeseries.zscore(b)).mean(0)


def test_one_band_equals_nested_loops_of_scikit_learn(data):
    features, bold = data
    alphas = [0.1, 10.0, 1000.0]
    scores = encoding.encode({"words": features}, bold, alphas=alphas, **PLAIN)
    r, r2, chosen = [], [], []
    for train, test in folds.contiguous_folds(160, 4, 3):
        x = (features - features[train].mean(0)) / features[train].std(0)
        y = (bold - bold[train].mean(0)) / bold[train].std(0)
        loss = np.zeros((3, 12))
        for inner, left in folds.folds_within(train, np.zeros(len(train)), 4, 3):
            for i, alpha in enumerate(alphas):
                model = Ridge(alpha=alpha, fit_intercept=False)
                model.fit(x[train][inner], y[train][inner])
                error = y[train][left] - model.predict(x[train][left])
                loss[i] += (error**2).mean(0)
        predicted = np.empty((len(test), 12))
        chosen.append(loss.argmin(0))
        for v in range(12):
            model = Ridge(alpha=alphas[chosen[-1][v]], fit_intercept=False)
            predicted[:, v] = model.fit(x[train], y[train, v]).predict(x[test])
        r.append(correlation(predicted, y[test]))
        measured = y[test] - y[test].mean(0)
        error = measured - (predicted - predicted.mean(0))
        r2.append(1 - (error**2).sum(0) / (measured**2).sum(0))
    assert len(np.unique(chosen)) > 1  # voxels differ in their penalty
    np.testing.assert_allclose(scores.r_folds, r, atol=1e-4)
    np.testing.assert_allclose(scores.r, np.mean(r, 0), atol=1e-4)
    np.testing.assert_allclose(scores.r2, np.mean(r2, 0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(scores.split[0], scores.r2, atol=1e-6)
    assert scores.bands == ("words",)


def test_drift_is_removed_in_every_stretch(rng):
    # drift that repeats in features and BOLD would score without its removal
    drift = timeseries.drift(200, 2.0, 64.0)[:, :-1] * 100
    features = rng.normal(size=(200, 2)) + drift[:, :2]
    bold = 50 + rng.normal(size=(200, 5)) + drift[:, :2] @ rng.normal(size=(2, 5))
    options = {"tr": 2.0, "gap": 8, "n_folds": 4, "alphas": [1.0]}
    scores = encoding.encode({"words": features}, bold, high_pass=64.0, **options)
    expected = []
    for train, test in folds.contiguous_folds(200, 4, 4):
        rows = np.split(train, np.flatnonzero(np.diff(train) > 1) + 1)
        x, y = [], []
        for stretch in rows:
            own = timeseries.orthonormal(timeseries.drift(len(stretch), 2.0, 64.0))
            x.append(timeseries.residuals(features[stretch], own))
            y.append(timeseries.residuals(bold[stretch], own))
        x, y = np.concatenate(x), np.concatenate(y)
        model = Ridge(alpha=1.0, fit_intercept=False).fit(x / x.std(0), y / y.std(0))
        predicted = model.predict(features[test] / x.std(0))
        own = timeseries.orthonormal(timeseries.drift(len(test), 2.0, 64.0))
        predicted = timeseries.residuals(predicted, own)
        expected.append(correlation(predicted, timeseries.residuals(bold[test], own)))
    np.testing.assert_allclose(scores.r_folds, expected, atol=1e-4)
    kept = encoding.encode({"words": features}, bold, high_pass=None, **options)
    assert np.abs(kept.r).mean() > np.abs(scores.r).mean() + 0.2


def test_bands_share_what_they_explain(rng):
    words, junk = rng.normal(size=(300, 4)), rng.normal(size=(300, 20))
    sound = rng.normal(size=(300, 3))
    bold = np.hstack([words @ rng.normal(size=(4, 10)), sound @ np.ones((3, 10))])
    bold += rng.normal(size=bold.shape)
    options = {"tr": 2.0, "gap": 8, "n_iter": 6, "alphas": np.logspace(0, 4, 5)}
    alone = encoding.encode({"words": words}, bold, **options)
    bands = {"words": words, "junk": junk, "sound": sound}
    together = encoding.encode(bands, bold, **options)
    assert together.bands == ("words", "junk", "sound")
    assert together.split.shape == (3, 20)
    np.testing.assert_allclose(together.split.sum(0), together.r2, atol=1e-5)
    # a useless band costs little
    assert together.r[:10].mean() > alone.r[:10].mean() - 0.05
    assert together.split[0, :10].mean() > 0.5
    assert together.split[2, 10:].mean() > 0.5
    others = [together.split[1], together.split[2, :10], together.split[0, 10:]]
    assert max(np.abs(other).mean() for other in others) < 0.08
    again = encoding.encode(bands, bold, **options, n_targets_batch=7)
    np.testing.assert_allclose(again.r, together.r, atol=1e-4)


def test_scores_equal_those_of_himalaya(rng):
    measured = rng.normal(size=(50, 8)).astype(np.float32)
    predicted = rng.normal(size=(3, 50, 8)).astype(np.float32) / 3 + 0.5 * measured
    r, split = folds.score(measured, predicted, np.full((50, 1), 50**-0.5))
    y, p = measured - measured.mean(0), predicted - predicted.mean(1, keepdims=True)
    np.testing.assert_allclose(r, correlation_score(y, p.sum(0)), atol=1e-5)
    np.testing.assert_allclose(split, r2_score_split(y, p), atol=1e-5)


def test_bold_is_read_from_a_file_in_batches(data, tmp_path):
    features, bold = data
    np.save(tmp_path / "bold.npy", bold.astype(np.float32))
    mapped = np.load(tmp_path / "bold.npy", mmap_mode="r")
    whole = encoding.encode({"words": features}, bold, **PLAIN)
    parts = encoding.encode({"words": features}, mapped, **PLAIN, n_targets_batch=5)
    np.testing.assert_allclose(parts.r_folds, whole.r_folds, atol=1e-5)
    np.testing.assert_allclose(parts.split, whole.split, atol=1e-5)


def test_runs_are_left_out_one_by_one(data):
    features, bold = data
    runs = [50, 70, 40]
    options = {**PLAIN, "runs": runs, "alphas": [10.0], "delays": (0, 1)}
    scores = encoding.encode({"words": features}, bold, **options)
    assert scores.r_folds.shape == (3, 12)
    late = folds.delayed(features, (0, 1), runs)
    run = np.repeat([0, 1, 2], runs)
    for k in range(3):
        train, test = run != k, run == k
        x = (late - late[train].mean(0)) / late[train].std(0)
        y = (bold - bold[train].mean(0)) / bold[train].std(0)
        model = Ridge(alpha=10.0, fit_intercept=False).fit(x[train], y[train])
        r = correlation(model.predict(x[test]), y[test])
        np.testing.assert_allclose(scores.r_folds[k], r, atol=1e-4)


def test_delays_find_a_late_response(rng):
    features = rng.normal(size=(250, 3))
    bold = np.roll(features, 2, axis=0) @ rng.normal(size=(3, 8))
    bold += 0.3 * rng.normal(size=bold.shape)
    now = encoding.encode({"words": features}, bold, tr=2.0, gap=0)
    late = encoding.encode({"words": features}, bold, tr=2.0, gap=0, delays=(1, 2, 3))
    assert late.r.min() > 0.7
    assert abs(now.r.mean()) < 0.15


def test_constant_columns_score_zero(rng):
    bold = rng.normal(size=(200, 4))
    bold[:, 1] = 1000.1
    options = {"tr": 2.0, "gap": 4}
    constant = encoding.encode({"none": np.full((200, 2), 0.1)}, bold, **options)
    assert not constant.r.any()
    features = np.column_stack([rng.normal(size=200), np.full(200, 0.1)])
    for bands in ({"a": features}, {"a": features, "b": rng.normal(size=(200, 1))}):
        scores = encoding.encode(bands, bold, **options)
        assert scores.r[1] == scores.r2[1] == 0
        assert scores.r[0] != 0
        assert np.isfinite(scores.split).all()
    bold[:50, 2] = 3.3  # silent in some folds only
    scores = encoding.encode({"a": features}, bold, **options)
    assert scores.r_folds[0, 2] == 0
    assert scores.r_folds[-1, 2] != 0


@pytest.mark.parametrize("lag", [1, 3])
def test_previous_volume_equals_a_loop(rng, lag):
    bold = rng.normal(size=(180, 5))
    for i in range(1, 180):
        bold[i] += np.linspace(-0.9, 0.9, 5) * bold[i - 1]
    runs = [60, 70, 50]
    found = encoding.previous_volume(bold, tr=2.0, lag=lag, high_pass=None, runs=runs)
    run = np.repeat([0, 1, 2], runs)
    known = np.concatenate([np.flatnonzero(run == k)[lag:] for k in range(3)])
    expected = []
    for k in range(3):
        train, test = known[run[known] != k], known[run[known] == k]
        r = []
        for v in range(5):
            slope, constant = np.polyfit(bold[train - lag, v], bold[train, v], 1)
            r.append(correlation(slope * bold[test - lag, v] + constant, bold[test, v]))
        expected.append(r)
    np.testing.assert_allclose(found, np.mean(expected, 0), atol=1e-4)
    assert found[-1] > 0.8**lag - 0.2
    parts = encoding.previous_volume(bold, tr=2.0, n_targets_batch=2)
    np.testing.assert_allclose(parts, encoding.previous_volume(bold, tr=2.0), atol=1e-5)


def test_errors(data):
    features, bold = data
    with pytest.raises(ValueError, match=r"band 'words' must be .* found shape"):
        encoding.encode({"words": features[1:]}, bold, tr=2.0)
    with pytest.raises(ValueError, match="band 'rate' must be"):
        encoding.encode({"rate": features[:, 0]}, bold, tr=2.0)
    with pytest.raises(ValueError, match="bands must name at least one"):
        encoding.encode({}, bold, tr=2.0)
    with pytest.raises(ValueError, match="too few for 9 folds"):
        encoding.encode({"words": features[:40]}, bold[:40], tr=2.0, n_folds=9)
    with pytest.raises(ValueError, match="lag must be at least 1"):
        encoding.previous_volume(bold, tr=2.0, lag=0)


def test_subjects_side_by_side_are_as_one_by_one(rng):
    features = rng.normal(size=(90, 4)).astype(np.float32)
    weights = rng.normal(size=(5, 4, 3))
    people = [features @ w + rng.normal(size=(90, 3)) for w in weights]
    bands, options = {"x": features[:, :2], "y": features[:, 2:]}, {"tr": 2.0, "gap": 8}
    options |= {"n_folds": 3, "high_pass": None}
    expected = [encoding.encode(bands, one, **options).r for one in people]
    for batch in (3, 7, 100):
        r = encoding.encode_subjects(bands, people, n_targets_batch=batch, **options)
        np.testing.assert_allclose(r, expected, atol=1e-4)


def test_subjects_on_workers_are_those_of_the_loop(rng, two_workers):
    bands = {"x": rng.normal(size=(90, 2)), "y": rng.normal(size=(90, 2))}
    people = [rng.normal(size=(90, 3)) for _ in range(5)]
    options = {"tr": 2.0, "gap": 8, "n_folds": 3}
    for batch in (3, 6):
        options["n_targets_batch"] = batch
        r = encoding.encode_subjects(bands, people, **options)
        again = encoding.encode_subjects(bands, people, client=two_workers, **options)
        np.testing.assert_array_equal(r, again)


def test_people_are_predicted_with_the_weights_of_their_mean(data, rng):
    features, bold = data
    people = [bold + rng.normal(size=bold.shape) for _ in range(5)]
    mean = np.mean(people, 0)
    options = {"alphas": [1.0], **PLAIN}
    scores = encoding.encode({"words": features}, mean, subjects=people, **options)
    alone = encoding.encode({"words": features}, mean, **options)
    np.testing.assert_allclose(scores.r, alone.r, atol=1e-6)
    assert alone.r_subjects is None
    expected = np.zeros((5, 12))
    for train, test in folds.contiguous_folds(160, 4, 3):
        x = (features - features[train].mean(0)) / features[train].std(0)
        model = Ridge(alpha=1.0).fit(x[train], mean[train])
        predicted = model.predict(x[test])
        for i, one in enumerate(people):
            expected[i] += correlation(predicted, one[test]) / 4
    np.testing.assert_allclose(scores.r_subjects, expected, atol=0.02)
    # people are never fitted to: in batches of voxels it is the same
    again = encoding.encode(
        {"words": features}, mean, subjects=people, n_targets_batch=5, **options
    )
    np.testing.assert_allclose(again.r_subjects, scores.r_subjects, atol=1e-5)


def test_a_perfect_model_reaches_the_ceiling_of_its_folds(rng):
    """Not that of whole runs, in which people share a drift that no score sees."""
    features = rng.normal(size=(240, 3))
    signal = timeseries.zscore(features @ rng.normal(size=(3, 200)))
    slow = 3 * timeseries.drift(240, 1.0, 128.0)[:, :1]
    people = [
        0.5 * signal + slow / slow.std() + rng.normal(size=signal.shape)
        for _ in range(8)
    ]
    options = {"tr": 1.0, "gap": 3, "n_folds": 4, "high_pass": 60.0}
    mean = np.mean(people, 0)
    scores = encoding.encode({"true": features}, mean, subjects=people, **options)
    group, single = encoding.ceilings(people, **options)
    assert scores.r.mean() == pytest.approx(group.mean(), abs=0.02)
    assert scores.r_subjects.mean() == pytest.approx(single.mean(), abs=0.02)
    whole = intersubject.ceiling_of(intersubject.pair_correlation(people), 8)
    assert whole.mean() > group.mean() + 0.08


def slow(rng, n_times, n_columns):
    return timeseries.zscore(
        scipy.ndimage.gaussian_filter1d(
            rng.normal(size=(n_times, n_columns)), 3, axis=0
        )
    )


def test_gain_is_found_where_features_drive_a_network_and_nowhere_else(rng):
    """Slow features predict slow noise by chance: rolled ones say how well."""
    options = {"tr": 2.0, "n_folds": 3, "gap": 8.0, "high_pass": None}
    options |= {"alphas": [1.0, 100.0], "n_iter": 3}
    found, highest = np.zeros(3), []
    for _ in range(20):
        rate, features = slow(rng, 200, 1), slow(rng, 200, 4)
        noise = slow(rng, 200, 3)
        driven = 1.5 * timeseries.zscore(features @ rng.normal(size=(4, 1)))
        network = np.hstack([driven, rate, np.zeros((200, 1))]) + noise
        table = encoding.gain_over_shifts(
            {"rate": rate},
            {"atoms": features},
            network,
            n_draws=19,
            rng=rng,
            **options,
        )
        found += table["p"] <= 0.055  # 19 rolls of 200 volumes give no less than .0546
        highest.append(table["gain"].iloc[1:].max())
    assert found[0] >= 14
    # family-wise over three networks: 1 of 20 expected, the 99.9 % of a binomial is 5
    assert found[1] + found[2] <= 5
    assert max(highest) > 0.05  # a gain above 0 would not do


def test_gain_over_shifts_is_that_of_the_encoding_model(rng):
    rate, features = slow(rng, 120, 1), slow(rng, 120, 3)
    network = features[:, :2] + slow(rng, 120, 2)
    options = {"tr": 2.0, "n_folds": 3, "gap": 8.0}
    bands = {"a": features[:, :1], "b": features[:, 1:]}
    table = encoding.gain_over_shifts(
        {"rate": rate},
        bands,
        network,
        n_draws=30,
        rng=np.random.default_rng(7),
        level=0.1,
        **options,
    )
    alone = encoding.encode({"rate": rate}, network, **options).r
    both = encoding.encode({"rate": rate, **bands}, network, **options).r
    np.testing.assert_allclose(table["gain"], both - alone, atol=1e-6)
    np.testing.assert_allclose(table["r_base"], alone, atol=1e-6)
    # the null by a loop: both bands rolled together, the word rate where it was
    again, null = np.random.default_rng(7), []
    for _ in range(30):
        rolled = surrogates.draw_one(features, again, null_method="shift")
        several = {"rate": rate, "a": rolled[:, :1], "b": rolled[:, 1:]}
        null.append(encoding.encode(several, network, **options).r - alone)
    np.testing.assert_allclose(table["null_mean"], np.mean(null, 0), atol=1e-5)
    np.testing.assert_allclose(table["null_95"], np.quantile(null, 0.9, 0), atol=1e-5)
    gain = both - alone
    columns = [np.r_[gain[k], np.array(null)[:, k]] for k in range(2)]
    least = surrogates.least_p(30, n_times=120)
    expected = np.maximum(inference.max_p(columns), least)
    np.testing.assert_allclose(table["p"], expected)


@pytest.mark.parametrize("subject_weights", ["group", "own"])
def test_sets_are_encoded_as_one_by_one(data, rng, tmp_path, subject_weights):
    features, bold = data
    people = [bold + rng.normal(size=bold.shape) for _ in range(3)]
    options = {"tr": 1.0, "gap": 3, "high_pass": None, "n_folds": 4, "runs": None}
    options |= {"delays": (0,), "n_iter": 3, "random_state": 0}
    base = {"rate": features[:, :1]}
    rolled = [np.roll(features[:, 1:], n, axis=0) for n in (40, 80)]
    sets = {"rate": [base], "rolled": [base | {"words": one} for one in rolled]}
    found = encoding.encode_sets(
        sets,
        bold,
        people,
        subject_weights=subject_weights,
        people_of=["rolled"],
        **options,
    )
    for name, several in sets.items():
        each = [encoding.encode(b, bold, subjects=people, **options) for b in several]
        expected = np.stack([one.r for one in each])
        np.testing.assert_array_equal(found.draws[name], expected)
        np.testing.assert_allclose(found.group[name], expected.mean(0))
        if subject_weights == "group":
            expected = np.mean([one.r_subjects for one in each], axis=0)
            np.testing.assert_allclose(found.people[name], expected)
    if subject_weights == "own":
        assert list(found.people) == ["rolled"]
        own = [encoding.encode_subjects(b, people, **options) for b in sets["rolled"]]
        np.testing.assert_allclose(found.people["rolled"], np.mean(own, axis=0))
    file = tmp_path / "encoding.npz"
    encoding.write_scores(file, {"model + word rate": found.group["rate"]}, ceiling=[1])
    with np.load(file) as written:
        assert sorted(written) == ["ceiling", "model_word_rate"]


@pytest.mark.filterwarnings("error")
def test_a_single_subject_has_no_ceiling(data):
    group, single = encoding.ceilings([data[1]], **PLAIN)
    assert group.shape == (12,) and np.isnan(group).all()
    assert single.shape == (1, 12) and np.isnan(single).all()
