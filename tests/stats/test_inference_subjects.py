"""Statistics over subjects, against loops, scipy and planted effects."""

import itertools

import numpy as np
import pytest
from scipy import stats

from anbn.stats import inference


def test_random_effects_agree_with_scipy_and_with_all_sign_flips(rng):
    maps = rng.normal(size=(8, 30))
    maps[:, 3] += 1.8
    maps[:, 5] = 0.4  # outside every subject's brain
    t, p = inference.random_effects(maps, n_draws=4000, rng=rng)
    alive = np.arange(30) != 5
    expected = stats.ttest_1samp(maps[:, alive], 0)
    np.testing.assert_allclose(t[alive], expected.statistic, rtol=1e-6)
    flips = np.array(list(itertools.product([-1, 1], repeat=8)))
    each = [stats.ttest_1samp(f[:, None] * maps[:, alive], 0).statistic for f in flips]
    highest = np.abs(each).max(1)
    exact = (highest >= np.abs(expected.statistic)[:, None] - 1e-9).mean(1)
    np.testing.assert_allclose(p[alive], exact, atol=0.03)
    assert (t[5], p[5]) == (0, 1)
    assert np.flatnonzero(p <= 0.05).tolist() == [3]
    t, p = inference.random_effects(np.zeros((4, 3)), rng=rng)
    assert (t == 0).all() and (p == 1).all()


def test_random_effects_keep_the_familywise_error(rng):
    hits, uncorrected = 0, 0
    for _ in range(100):
        maps = rng.normal(size=(10, 40)) + rng.normal(size=(10, 1))
        t, p = inference.random_effects(maps, n_draws=60, rng=rng)
        hits += (p <= 0.05).any()
        uncorrected += (2 * stats.t.sf(np.abs(t), 9) <= 0.05).any()
    assert hits <= stats.binom.ppf(0.999, 100, 0.05)
    assert uncorrected > stats.binom.ppf(0.999, 100, 0.05)


def test_bootstrap_interval_agrees_with_scipy_and_covers(rng):
    values = rng.gamma(2, size=(15, 3, 4))
    low, high = inference.bootstrap_interval(values, rng=rng, n=8000)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=8000, method="percentile", rng=rng
    ).confidence_interval
    np.testing.assert_allclose(low, expected.low, atol=0.07)
    np.testing.assert_allclose(high, expected.high, atol=0.07)
    many = rng.normal(1, size=(25, 2000))
    low, high = inference.bootstrap_interval(many, rng=rng, level=0.8, n=500)
    assert 0.74 < ((low < 1) & (high > 1)).mean() < 0.82


def test_agreement_is_the_mean_over_pairs(rng):
    members = rng.random((5, 3, 60)) < 0.3
    members[:, 2] = False
    found, draws = inference.subject_agreement(members, rng=rng, n=500)
    for k in range(2):
        pairs = itertools.combinations(members[:, k], 2)
        dice = [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs]
        assert found[k] == pytest.approx(np.mean(dice))
    assert np.isnan(found[2]) and np.isnan(draws[:, 2]).all()
    low, high = np.percentile(draws[:, :2], [2.5, 97.5], axis=0)
    assert ((low < found[:2]) & (found[:2] < high)).all()


def test_a_subject_drawn_twice_does_not_agree_with_itself(rng):
    apart = np.eye(6, dtype=bool)[:, None]  # no voxel in common
    found, draws = inference.subject_agreement(apart, rng=rng, n=200)
    assert found == 0 and (draws == 0).all()
    alike = np.ones((2, 1, 4), bool)
    found, draws = inference.subject_agreement(alike, rng=rng, n=200)
    assert found == 1 and (draws == 1).all()
    assert len(draws) < 200  # of two subjects, half of the draws have no pair


def test_subjects_needed_follow_spearman_and_brown(rng):
    signal = rng.normal(size=4000)
    maps = signal + 2 * rng.normal(size=(40, 4000))  # r(1) = 1 / 5
    table, needed = inference.subjects_needed(maps, rng=rng)
    expected = table["n"] * 0.2 / (1 + (table["n"] - 1) * 0.2)
    np.testing.assert_allclose(table["r"], expected, atol=0.02)
    np.testing.assert_allclose(table["predicted"], expected, atol=0.03)
    assert ((table["low"] <= table["r"]) & (table["r"] <= table["high"])).all()
    reached = table.loc[table["r"] >= 0.8, "n"].iloc[0]
    assert needed == reached and 14 <= needed <= 19  # 16 where r(n) = .8
    _, beyond = inference.subjects_needed(maps, rng=rng, target=0.95)
    assert 65 <= beyond <= 88  # 76, of 40 subjects there are


def test_subjects_needed_draws_groups_apart(rng):
    maps = rng.normal(size=(6, 500))
    table, needed = inference.subjects_needed(maps, rng=rng, n_draws=200)
    assert abs(table["r"].iloc[-1]) < 0.1  # a shared subject would give .33
    assert needed > 20
    pairs = itertools.permutations(range(6), 2)
    each = [np.corrcoef(maps[i], maps[j])[0, 1] for i, j in pairs]
    assert table["r"].iloc[0] == pytest.approx(np.mean(each), abs=0.01)


def test_score_table_has_means_shares_and_intervals(rng):
    scores = {"a": np.array([[0.1, 0.3, 9.0]]), "b": np.full((3, 3), 0.2)}
    scores["b"] += np.array([-0.1, 0.0, 0.1])[:, None]
    people = {"a": rng.normal(0.2, 0.1, (12, 3))}
    ceilings, scored = rng.normal(0.5, 0.1, (12, 3)), np.array([True, True, False])
    ceiling = np.array([0.4, 0.6, 1.0])
    table = inference.score_table(scores, people, ceiling, ceilings, scored, rng=rng)
    assert list(table.index) == ["a", "b", "noise ceiling"]
    assert table.loc["a", "group"] == pytest.approx(0.2)
    assert table.loc["b", "share"] == pytest.approx(0.4)
    assert table["n_draws"].tolist() == [1, 3, 1]
    interval = stats.t.interval(0.95, 2, loc=0.2, scale=0.1 / np.sqrt(3))
    assert table.loc["b", ["group_low", "group_high"]].tolist() == pytest.approx(
        interval
    )
    assert np.isnan(table.loc["a", "group_low"])
    each = people["a"][:, :2].mean(1)
    assert table.loc["a", "subjects"] == pytest.approx(each.mean())
    assert table.loc["a", "low"] < each.mean() < table.loc["a", "high"]
    share = each.mean() / ceilings[:, :2].mean()
    assert table.loc["a", "subjects_share"] == pytest.approx(share)
    assert np.isnan(table.loc["b", "subjects"])


def test_scores_have_no_share_of_a_ceiling_that_is_none(rng):
    scores, people = {"a": np.full((1, 4), 0.1)}, {"a": rng.normal(size=(5, 4))}
    table = inference.score_table(
        scores, people, np.zeros(4), np.zeros((5, 4)), np.ones(4, bool), rng=rng
    )
    assert table["group"].tolist() == pytest.approx([0.1, 0.0])
    assert table[["share", "subjects_share"]].isna().all(None)


def test_an_interval_does_not_depend_on_the_models_before_it(rng):
    people = {name: rng.normal(size=(9, 4)) for name in "abc"}
    scores = {name: rng.normal(size=(1, 4)) for name in "abc"}
    ceilings, scored = rng.normal(size=(9, 4)), np.ones(4, bool)

    def low_of(names):
        return inference.score_table(
            {name: scores[name] for name in names},
            {name: people[name] for name in names},
            np.ones(4),
            ceilings,
            scored,
            rng=np.random.default_rng(1),
        )["low"]

    assert low_of("abc")["b"] == low_of("b")["b"] == low_of("cb")["b"]


def test_a_single_subject_agrees_with_nobody(rng):
    found, draws = inference.subject_agreement(np.ones((1, 3, 9), bool), rng=rng, n=7)
    assert np.isnan(found).all() and draws.shape == (1, 3) and np.isnan(draws).all()
