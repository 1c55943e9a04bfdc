import dask.array
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray as xr

from anbn.coupling import meaning

DIMS = ("token", "layer", "neuron")
FEATURES = ["length", "surprisal"]


@pytest.fixture
def story(rng):
    """Two documents of 60 tokens, in words of one to three tokens."""
    word = np.sort(rng.integers(0, 60, 118))
    tokens = pd.DataFrame(
        {"word": np.r_[-1, word, -1], "document": [0] * 70 + [1] * 50}
    )
    words = pd.DataFrame({"word": rng.choice(list("abcdef"), 62)})
    words["length"] = rng.integers(1, 9, 62).astype(float)
    words["surprisal"] = np.where(rng.random(62) < 0.2, np.nan, rng.normal(size=62))
    values = rng.normal(size=(120, 3, 8)).astype(np.float16)
    values[[0, 70]] = 900  # massive activations of first tokens
    lazy = dask.array.from_array(values, chunks=(50, 2, 8))
    return xr.DataArray(lazy, dims=DIMS), tokens, words, values.astype(float)


def naive(values, tokens, n_words):
    first = ~tokens["document"].duplicated()
    rows = [values[(tokens["word"] == w) & ~first] for w in range(n_words)]
    return np.stack([r.mean(0) if len(r) else np.full((3, 8), np.nan) for r in rows])


def test_word_responses_equal_a_loop(story):
    activations, tokens, words, values = story
    neurons = [17, 2, 3, 16, 23]
    expected = naive(values, tokens, len(words)).reshape(62, -1)[:, neurons]
    assert np.isnan(expected).any() and np.nanmax(expected) < 10
    found = meaning.word_responses(activations, tokens, words, neurons)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    without = tokens.drop(columns="document")  # one text: one first token
    found = meaning.word_responses(activations, without, words, neurons)
    assert np.nanmax(found) > 100
    with pytest.raises(ValueError, match="120 tokens, but activations of 90"):
        meaning.word_responses(activations[:90], tokens, words, neurons)


def test_correlations_equal_scipy(story):
    activations, tokens, words, values = story
    words["same"], words["never"] = 1.0, np.nan
    features = [*FEATURES, "same", "never"]
    r = meaning.feature_correlations(activations, tokens, words, features)
    assert r.shape == (4, 3, 8) and list(r["feature"].to_numpy()) == features
    means = naive(values, tokens, len(words))
    for name in FEATURES:
        there = ~np.isnan(means[:, 0, 0]) & words[name].notna()
        for layer, unit in np.ndindex(3, 8):
            pair = words.loc[there, name], means[there, layer, unit]
            expected = scipy.stats.pearsonr(*pair)[0]
            found = r.sel(feature=name)[layer, unit]
            assert found == pytest.approx(expected, abs=1e-4)
    assert np.isnan(r[2:]).all()


def correlations(values):
    return xr.DataArray(
        np.asarray(values, np.float32), {"feature": FEATURES}, ("feature", *DIMS[1:])
    )


def effects_of(r, coupled, synchrony, **options):
    """With draws of either other null that are like the data."""
    drawn = {"null_synchrony": [synchrony], "null_correlations": [r.to_numpy()]}
    options = {"names": list("abc")[: len(coupled)]} | drawn | options
    return meaning.feature_effects(r, coupled, synchrony, **options)


def test_effects_equal_plain_formulas_and_scipys_permutation_test(rng):
    r = correlations(rng.normal(size=(2, 3, 40)))
    coupled = np.zeros((2, 3, 40), bool)
    coupled[0, 1, :12] = True
    coupled[1, 0, :4] = coupled[1, 1, 5:20] = True
    coupled[1, 2] = True  # a layer with nothing to compare with
    r[0, 1, :12] += 0.8
    table = effects_of(r, coupled, np.ones((120, 2)), rng=rng, n_draws=9000)
    assert list(table["n_coupled"]) == [12, 12, 59, 59]
    size = r.to_numpy()
    for row, (k, f) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        used = [(1, 1.0)] if k == 0 else [(0, 4 / 19), (1, 15 / 19)]
        inside = outside = variance = 0
        for layer, weight in used:
            here = coupled[k, layer]
            a, b = size[f, layer][here], size[f, layer][~here]
            inside, outside = inside + weight * a.mean(), outside + weight * b.mean()
            squares = (len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)
            variance += weight * squares / 38
        assert table["coupled"][row] == pytest.approx(inside, abs=1e-5)
        assert table["uncoupled"][row] == pytest.approx(outside, abs=1e-5)
        d = (inside - outside) / np.sqrt(variance)
        assert table["d"][row] == pytest.approx(d, abs=1e-4)
    for row in (0, 1):
        test = scipy.stats.permutation_test(
            (size[row, 1, :12], size[row, 1, 12:]),
            lambda x, y, axis: x.mean(axis) - y.mean(axis),
            n_resamples=9000,
            rng=rng,
        )
        assert table["p"][row] == pytest.approx(test.pvalue, abs=0.03)
    q = scipy.stats.false_discovery_control(table["p"])
    np.testing.assert_allclose(table["q"], q)


def test_sign_of_synchrony_counts_and_layers_that_differ_do_not(rng):
    r = rng.normal(0, 0.1, size=(2, 4, 200))
    r[1, 3] *= 5  # a layer that answers to surprisal more than others
    coupled = np.zeros((3, 4, 200), bool)
    coupled[0, :2, :30] = coupled[1, 3, :60] = True
    synchrony = rng.normal(0, 0.1, size=(3, 4, 200))
    r[0, :2, :30] += 0.2 * np.sign(synchrony[0, :2, :30])
    synchrony = synchrony.reshape(3, -1).T
    table = effects_of(correlations(r), coupled, synchrony, rng=rng)
    table = table.set_index(["network", "feature"])
    assert table.loc[("a", "length"), "d"] > 1.5
    assert table.loc[("a", "length"), "q"] < 0.01
    assert table.loc[[("a", "surprisal"), ("b", "surprisal")], "q"].min() > 0.05
    assert table.loc["c", ["d", "p", "q", "coupled"]].isna().all(axis=None)
    turned = effects_of(correlations(r), coupled, -synchrony, rng=rng)
    np.testing.assert_allclose(turned["d"], -table["d"], atol=1e-6)


def correlate(responses, with_what):
    z = scipy.stats.zscore
    return z(responses).T @ z(with_what) / len(responses)


def test_shifted_correlations_equal_a_roll(story):
    activations, tokens, words, values = story
    shifted = meaning.shifted_correlations(
        activations, tokens, words, FEATURES, n_draws=4, rng=np.random.default_rng(1)
    )
    assert shifted.shape == (4, 2, 3, 8)
    means = naive(values, tokens, len(words))
    there = ~np.isnan(means[:, 0, 0])
    filled = words[FEATURES].fillna(words[FEATURES].mean()).to_numpy()
    shifts = np.random.default_rng(1).integers(1, len(words), 4)
    for i, n in enumerate(shifts):
        pair = np.roll(filled, n, axis=0)[there], means[there].reshape(there.sum(), -1)
        expected = correlate(*pair).reshape(2, 3, 8)
        np.testing.assert_allclose(shifted[i], expected, atol=2e-3)


def test_each_null_holds_where_it_says_and_both_together_everywhere(rng):
    """Neurons that resemble each other; one network follows some of them."""
    n_words, tables = 150, []
    for _ in range(60):
        latents, weights = rng.normal(size=(n_words, 6)), rng.normal(size=(6, 300))
        latents = latents + np.roll(latents, 1, axis=0)
        weights[0, ::3] *= 3
        responses = latents @ weights + rng.normal(size=(n_words, 300))
        features = latents[:, [0, 0]] + rng.normal(size=(n_words, 2))
        features[:, 1] = rng.normal(size=n_words)  # nothing answers to it
        brain = rng.normal(size=(n_words, 2))
        brain[:, 0] += latents[:, 0]  # the other network is noise
        synchrony = correlate(responses, brain)
        best = np.abs(synchrony) >= np.sort(np.abs(synchrony), axis=0)[-20]
        noise = rng.normal(size=(39, n_words, 2))
        rolls = (np.roll(features, n, axis=0) for n in rng.integers(1, n_words, 39))
        table = meaning.feature_effects(
            correlations(correlate(responses, features).T.reshape(2, 3, 100)),
            best.T.reshape(2, 3, 100),
            synchrony,
            rng=rng,
            n_draws=39,
            null_synchrony=(correlate(responses, x) for x in noise),
            null_correlations=np.stack(
                [correlate(responses, x).T.reshape(2, 3, 100) for x in rolls]
            ),
            names=["follows", "noise"],
        )
        assert (table["q_shift"] >= table["p_shift"]).all()
        assert table["familywise_shift"].between(1 / 40, 1).all()
        tables.append(table.assign(both=table[["p_surrogate", "p_shift"]].max(axis=1)))
    table = pd.concat(tables).replace({"length": "answered", "surprisal": "ignored"})
    columns = ["p", "p_surrogate", "p_shift", "both"]
    low = table.set_index(["network", "feature"])[columns] <= 0.05
    rate = low.groupby(level=[0, 1]).mean()
    assert rate.loc[("follows", "answered"), "both"] > 0.9
    null = rate.drop(("follows", "answered"))
    assert null["both"].max() < 0.14  # 60 values: .05 and 3 s.e.
    assert null.loc["noise", "p_surrogate"].max() < 0.14
    assert null.loc[("follows", "ignored"), "p_shift"] < 0.14
    # and where each does not hold
    assert null["p"].mean() > 0.3
    assert null.loc[("follows", "ignored"), "p_surrogate"] > 0.14


def test_top_words_are_those_that_drive_coupled_neurons(story):
    activations, tokens, words, values = story
    is_c = np.append(words["word"] == "c", False)[tokens["word"]]
    values[:, 1, :4] += 4 * is_c[:, None] * np.array([1, 1, -1, -1])
    values[[0, 70]] = 900
    activations = xr.DataArray(values.astype(np.float16), dims=DIMS)
    coupled = np.zeros((3, 3, 8), bool)
    coupled[0, 1, :4] = coupled[2, 1:, 5] = True
    synchrony = np.ones((24, 3))
    synchrony[[10, 11], 0] = -0.5
    given = activations, tokens, words, coupled
    top = meaning.top_words(*given, synchrony, n=2, names=["a", "b", "c"])
    assert list(top["network"]) == ["a", "a", "c", "c"]
    assert top["text"][0] == "c" and top["response"][0] > 1
    means = naive(values, tokens, len(words))
    known = ~np.isnan(means[:, 0, 0])
    z = scipy.stats.zscore(means[known][:, 1, :4]) * [1, 1, -1, -1]
    signal = scipy.stats.zscore(z.mean(1))
    expected = signal[words["word"][known] == "c"].mean()
    assert top["response"][0] == pytest.approx(expected, abs=1e-2)
    none = meaning.top_words(*given[:3], coupled & False, synchrony, names=list("abc"))
    assert len(none) == 0
