import numpy as np
import pandas as pd
import pytest
from scipy import stats

from anbn.networks import profiles
from anbn.stats import timeseries


@pytest.fixture
def corpus(rng):
    """Twelve documents of three corpora, 40 to 80 tokens each."""
    corpora = np.repeat(["code", "stories", "wiki"], 4)
    document = np.repeat(np.arange(12), rng.integers(40, 81, 12))
    words = rng.choice([" the", "the", " cat", " dog", "\n", "\n\n"], len(document))
    tokens = pd.DataFrame({"token": words, "document": document})
    return tokens, pd.DataFrame({"corpus": corpora, "text": "x"})


def test_top_tokens_equal_a_loop(corpus, rng):
    tokens, _ = corpus
    timecourses = rng.normal(size=(len(tokens), 3)) * [1, 5, 2] + [0, 3, 0]
    timecourses[:, 1] += 9 * (tokens["token"] == " dog")
    timecourses[:, 2] += 5 * (tokens["token"] == "\n")
    top = profiles.top_tokens(timecourses, tokens, n=3)
    shown = [{"\n": "⏎", "\n\n": "⏎⏎"}.get(t, t.strip()) for t in tokens["token"]]
    z = (timecourses - timecourses.mean(0)) / timecourses.std(0)
    for network in range(3):
        means = {
            text: np.mean([z[i, network] for i, t in enumerate(shown) if t == text])
            for text in set(shown)
        }
        expected = sorted(means, key=means.get, reverse=True)[:3]
        found = top[top["network"] == network]
        assert list(found["text"]) == expected and list(found["rank"]) == [1, 2, 3]
        assert list(found["response"]) == pytest.approx([means[t] for t in expected])
        assert list(found["count"]) == [shown.count(t) for t in expected]
    assert top.loc[top["rank"] == 1, "text"].tolist()[1:] == ["dog", "⏎"]


def test_rare_tokens_are_left_out(corpus, rng):
    tokens, _ = corpus
    tokens.loc[[3, 9], "token"] = " rare"
    timecourses = rng.normal(size=(len(tokens), 1)) + 50 * (
        tokens[["token"]] == " rare"
    )
    assert "rare" not in set(profiles.top_tokens(timecourses, tokens)["text"])
    top = profiles.top_tokens(timecourses, tokens, min_count=2)
    assert top["text"][0] == "rare" and top["count"][0] == 2


def test_domain_selectivity_equals_anova(corpus, rng):
    tokens, documents = corpus
    domain = documents["corpus"].to_numpy()[tokens["document"]]
    timecourses = rng.normal(size=(len(tokens), 3))
    timecourses[:, 0] += 2 * (domain == "code")
    # differs between documents, not between domains
    timecourses[:, 1] += rng.normal(size=12)[tokens["document"]]
    means, tests = profiles.domain_selectivity(timecourses, tokens, documents, rng=rng)
    z = stats.zscore(timecourses)
    for k in range(3):
        groups = [z[domain == name, k] for name in means]
        assert list(means.loc[k]) == pytest.approx([group.mean() for group in groups])
        f = stats.f_oneway(*groups).statistic
        ratio = f * 2 / (f * 2 + len(z) - 3)  # eta squared from F
        assert tests["eta_squared"][k] == pytest.approx(ratio)
    assert means.loc[0].idxmax() == "code"
    assert tests["p"][0] < 0.02 and tests["p"][1:].min() > 0.05
    assert stats.f_oneway(*[z[domain == n, 1] for n in means]).pvalue < 1e-3
    np.testing.assert_allclose(tests["q"], stats.false_discovery_control(tests["p"]))


def test_domain_p_is_calibrated_for_networks_that_follow_documents(corpus):
    tokens, documents = corpus
    rng = np.random.default_rng(5)
    offsets = rng.normal(size=(12, 200))
    timecourses = offsets[tokens["document"]] + rng.normal(size=(len(tokens), 200))
    _, tests = profiles.domain_selectivity(
        timecourses, tokens, documents, rng=rng, n_draws=199
    )
    low, high = stats.binom.ppf([0.001, 0.999], 200, 0.05)
    assert low <= (tests["p"] <= 0.05).sum() <= high


def test_feature_correlations_equal_a_loop(corpus, rng):
    tokens, _ = corpus
    document = tokens["document"].to_numpy()
    n = len(tokens)
    features = pd.DataFrame(
        {"surprisal": rng.gamma(2, size=n), "flat": 2.0, "rare": rng.normal(size=n)}
    )
    features.loc[rng.random(n) < 0.3, "rare"] = np.nan
    timecourses = rng.normal(size=(n, 2))
    timecourses[:, 0] += 0.5 * features["surprisal"] + 3 * (document % 3)
    timecourses[:, 1] -= 0.8 * features["rare"].fillna(0)
    table = profiles.feature_correlations(timecourses, features, document, rng=rng)
    within = timecourses.copy()
    for d in range(12):
        within[document == d] -= within[document == d].mean(0)
    for row in table.itertuples():
        if row.feature == "flat":
            assert np.isnan([row.r, row.p, row.q]).all()
            continue
        x = features[row.feature].to_numpy().copy()
        for d in range(12):
            x[document == d] -= np.nanmean(x[document == d])
        known = np.isfinite(x)
        expected = stats.pearsonr(x[known], within[known, row.network]).statistic
        assert row.r == pytest.approx(expected)
    p = table.pivot(index="network", columns="feature", values="p")
    assert p.loc[0, "surprisal"] == p.loc[1, "rare"] == 1 / 1001
    assert p.loc[0, "rare"] > 0.02 < p.loc[1, "surprisal"]
    tested = table["p"].dropna()
    expected = stats.false_discovery_control(tested)
    np.testing.assert_allclose(table["q"].dropna(), expected)


def test_feature_p_is_calibrated_for_slow_series(corpus):
    """Slow series correlate by chance far more than independent tokens do."""
    tokens, _ = corpus
    rng = np.random.default_rng(2)
    kernel = np.hanning(9)

    def slow(n):
        noise = rng.normal(size=(len(tokens), n))
        return np.apply_along_axis(np.convolve, 0, noise, kernel, "same")

    table = profiles.feature_correlations(
        slow(40),
        pd.DataFrame(slow(5)),
        tokens["document"],
        rng=rng,
        n_draws=99,
    )
    naive = stats.pearsonr(slow(40), slow(40)).pvalue <= 0.05
    assert naive.mean() > 0.2  # what the parametric test would say
    assert (table["p"] <= 0.05).mean() < 0.1


def test_described_tokens():
    text = "The cat's toy ran.\nA zyzzyvas sat, far away"
    spans = [(0, 3), (3, 7), (7, 9), (9, 13), (13, 17), (17, 18), (18, 19), (19, 20)]
    spans += [(20, 24), (24, 29), (29, 33), (33, 34), (34, 38), (38, 43)]
    tokens = pd.DataFrame(spans, columns=["start", "end"]).assign(document=1)
    tokens["token"] = [text[s:e] for s, e in spans]
    tokens["surprisal"] = np.arange(14.0)
    first = pd.DataFrame({"start": [0], "end": [2], "document": 0, "token": "Hi"})
    tokens = pd.concat([first.assign(surprisal=9.0), tokens], ignore_index=True)
    documents = pd.DataFrame({"text": ["Hi there", text]})
    found = profiles.describe_tokens(tokens, documents)
    assert list(found["word"]) == [
        *("Hi", "The", "cat's", "cat's", "toy", "ran.", "ran.", "", "A"),
        *("zyzzyvas", "zyzzyvas", "sat,", "sat,", "far", "away"),
    ]
    assert list(found["position"]) == [0, *range(14)]
    assert list(found["surprisal"]) == [9, *range(14)]
    assert found["position_in_sentence"][[1, 4, 8, 14]].tolist() == [0, 2, 0, 4]
    frequency = found["log_frequency"]
    assert frequency[1] > frequency[4] > 3 and np.isnan(frequency[7])
    assert found["length"][[1, 2]].tolist() == [3, 4]
    assert found["content"][[1, 4, 8]].tolist() == [0, 1, 0]


def test_what_cannot_be_tested(corpus, rng):
    tokens, documents = corpus
    n = len(tokens)
    one = documents.assign(corpus="wiki")
    means, tests = profiles.domain_selectivity(
        rng.normal(size=(n, 2)), tokens, one, rng=rng
    )
    assert means.shape == (2, 1) and tests.isna().all(axis=None)
    mixed = tokens["document"].sample(frac=1, random_state=0)
    with pytest.raises(ValueError, match="must follow one another"):
        profiles.feature_correlations(
            rng.normal(size=(n, 2)), pd.DataFrame({"x": np.arange(n)}), mixed, rng=rng
        )


def test_mean_signals_equal_a_loop(rng):
    activations = rng.normal(size=(30, 2, 5)) * rng.uniform(1, 9, (2, 5)) + 4
    activations[:, 0, 0] = 3.0  # a dead neuron
    members = rng.random((3, 2, 5)) < 0.5
    members[2] = False
    members[0, 0, 0] = True
    found = profiles.mean_signals(activations, members)
    for k in range(2):
        z = [
            timeseries.zscore(activations[:, i, j]) for i, j in np.argwhere(members[k])
        ]
        np.testing.assert_allclose(found[:, k], np.mean(z, 0), atol=1e-5)
    assert not found[:, 2].any()


@pytest.mark.filterwarnings("error")
def test_no_network_answers_to_nothing(corpus, rng):
    tokens, documents = corpus
    nothing = np.zeros((len(tokens), 0))
    assert profiles.top_tokens(nothing, tokens).empty
    means, tests = profiles.domain_selectivity(nothing, tokens, documents, rng=rng)
    assert means.shape == (0, 3) and list(tests) == ["eta_squared", "p", "q"]
    features = pd.DataFrame({"length": rng.normal(size=len(tokens))})
    table = profiles.feature_correlations(
        nothing, features, tokens["document"], rng=rng, n_draws=5
    )
    assert table.empty and list(table) == ["network", "feature", "r", "p", "q"]
    none = features[[]]
    found = profiles.feature_correlations(
        rng.normal(size=(len(tokens), 2)), none, tokens["document"], rng=rng, n_draws=5
    )
    assert found.empty
    activations = rng.normal(size=(len(tokens), 2, 4))
    none = np.zeros((0, 2, 4), bool)
    assert profiles.mean_signals(activations, none).shape == (len(tokens), 0)
