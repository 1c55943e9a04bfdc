"""Tests of anbn.masking.fingerprint."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from scipy import stats
from signals import some_texts
from sklearn.metrics import roc_auc_score, roc_curve

from anbn.masking import figures, fingerprint
from anbn.masking.fingerprint import LikenessError
from anbn.models.loading import LanguageModel


def series(rng, n_texts=6, n_words=60, n_networks=5):
    """Signals that are smooth along the words of texts."""
    white = rng.standard_normal((n_texts, n_words + 2, n_networks))
    return list(white[:, :-2] + white[:, 1:-1] + white[:, 2:])


def mixed(texts, share, rng):
    """Signals that follow others in another order and sign, and with noise."""
    n = texts[0].shape[1]
    order, sign = rng.permutation(n), rng.choice([-1, 1], n)
    noise = series(rng, len(texts), len(texts[0]), n)
    return [
        share * sign * x[:, order] + np.sqrt(1 - share**2) * e
        for x, e in zip(texts, noise, strict=True)
    ]


@pytest.fixture
def fingerprints(rng):
    ours = series(rng)
    return {
        "ours": ours,
        "near": mixed(ours, 0.95, rng),
        "far": mixed(ours, 0.6, rng),
        "other": series(rng),
        "another": series(rng, n_networks=3),
    }


@pytest.fixture
def table(fingerprints, rng):
    return fingerprint.compare_models(fingerprints, "ours", ["near", "far"], rng=rng)


def test_likeness_is_that_of_scipy(rng):
    a, b = rng.standard_normal((2, 50, 3)), rng.standard_normal((2, 50, 4))
    a[0, :, 0] = np.round(a[0, :, 0])  # ties
    a[0, [3, 7], 1], b[0, [7, 9], 0] = np.nan, np.nan
    pair = {"ours": list(a), "other": list(b)}
    table = fingerprint.compare_models(pair, "ours", [], rng=rng).set_index(
        ["text", "score"]
    )
    known = np.delete(np.arange(50), [3, 7, 9])
    rho = [
        [abs(stats.spearmanr(x, y).statistic) for y in b[0][known].T]
        for x in a[0][known].T
    ]
    best = table.loc[(0, "best"), "likeness"]
    assert best == pytest.approx(np.max(rho, axis=1).mean())


def test_likeness_of_too_few_words(rng):
    a, b = rng.standard_normal((2, 30, 3))
    with pytest.raises(LikenessError, match="found 30 and 29 words: take both"):
        fingerprint.compare_models({"a": [a, a], "b": [b[:-1], b]}, "a", [], rng=rng)
    a[:8], b[-5:] = np.nan, np.nan
    with pytest.raises(LikenessError, match=r"20 words or more.*found 17"):
        fingerprint.compare_models({"a": [a, a], "b": [b, b]}, "a", [], rng=rng)


def test_scores_by_hand(fingerprints, table):
    ours, other = fingerprints["ours"], fingerprints["another"]
    rows = table[table["model"] == "another"].set_index(["text", "score"])["likeness"]
    rho = np.stack(
        [
            [[stats.spearmanr(x, y).statistic for y in b.T] for x in a.T]
            for a, b in zip(ours, other, strict=True)
        ]
    )
    for i, values in enumerate(rho):
        assert rows[i, "best"] == pytest.approx(np.abs(values).max(1).mean())
        # three of five networks find a partner: the best of all assignments
        rows_of = np.array(np.meshgrid(*[range(5)] * 3)).reshape(3, -1).T
        sets = [r for r in rows_of if len(set(r)) == 3]
        sums = [np.abs(values)[r, [0, 1, 2]].sum() / 5 for r in sets]
        assert rows[i, "matched"] == pytest.approx(max(sums))
        rest = np.delete(rho, i, 0).mean(0)
        at = np.unravel_index(np.abs(rest).argmax(), rest.shape)
        assert rows[i, "pair"] == pytest.approx(np.sign(rest[at]) * values[at])


def test_the_same_signals_are_as_like_as_can_be(fingerprints, rng):
    pair = {"ours": fingerprints["ours"], "copy": mixed(fingerprints["ours"], 1, rng)}
    table = fingerprint.compare_models(pair, "ours", ["copy"], rng=rng)
    np.testing.assert_allclose(table["likeness"], 1)
    assert (table["p"] == 0.01).all() and (table["null_95"] < 0.9).all()


def test_unrelated_signals_lie_in_the_null(rng):
    many = {"ours": series(rng, 60), "other": series(rng, 60)}
    table = fingerprint.compare_models(many, "ours", [], rng=rng)
    for score, rows in table.groupby("score"):
        assert 0.4 < rows["p"].mean() < 0.6, score
        assert (rows["likeness"] > rows["null_95"]).mean() < 0.15


def test_planted_descent_is_seen(table):
    for score, rows in table.groupby("score"):
        mean = rows.groupby("model")["likeness"].mean()
        assert mean["near"] > 0.85, score
        assert mean["near"] > mean["far"] > max(mean["other"], mean["another"])
    assert table[["model", "related"]].drop_duplicates().shape == (4, 2)
    assert set(table["model"][table["related"]]) == {"near", "far"}


def test_roc_is_that_of_scikit_learn(table, rng):
    rows = table[table["score"] == "matched"].copy()
    rows["likeness"] = rows["related"] * 0.3 + rng.standard_normal(len(rows)).round(1)
    curve = fingerprint.roc(
        rows, "matched", n_bootstrap=100, rng=np.random.default_rng(3)
    )
    false, true, _ = roc_curve(rows["related"], rows["likeness"])
    np.testing.assert_array_equal(curve.false_positive, false)
    np.testing.assert_array_equal(curve.true_positive, true)
    auc = roc_auc_score(rows["related"], rows["likeness"])
    assert curve.auc == pytest.approx(auc) and curve.low < auc < curve.high
    # the interval, from scikit-learn's area of texts drawn with replacement
    draws = np.random.default_rng(3).multinomial(6, np.full(6, 1 / 6), 100)
    weights = draws[:, rows["text"]]
    given = rows["related"], rows["likeness"]
    aucs = [roc_auc_score(*given, sample_weight=weight) for weight in weights]
    expected = np.percentile(aucs, [2.5, 97.5])
    np.testing.assert_allclose([curve.low, curve.high], expected)


def test_roc_of_what_is_apart(table, rng):
    curve = fingerprint.roc(table, "matched", n_bootstrap=50, rng=rng)
    assert (curve.auc, curve.low, curve.high) == (1, 1, 1)


def test_roc_needs_both_kinds(table, rng):
    with pytest.raises(LikenessError, match="'matched' found 12 rows, related"):
        fingerprint.roc(table[table["related"]], "matched", rng=rng)
    with pytest.raises(LikenessError, match="score 'median' found 0 rows"):
        fingerprint.roc(table, "median", rng=rng)


def test_what_cannot_be_compared(fingerprints, rng):
    def compare(reference="ours", related=(), prints=fingerprints):
        return fingerprint.compare_models(prints, reference, related, rng=rng)

    with pytest.raises(LikenessError, match="'our' and"):
        compare("our")
    with pytest.raises(LikenessError, match=r"different names of.*'ours' and .'ours'"):
        compare(related=["ours"])
    with pytest.raises(LikenessError, match="same texts for every model"):
        compare(prints={**fingerprints, "near": fingerprints["near"][:2]})
    with pytest.raises(LikenessError, match="two or more; found"):
        compare(prints={k: v[:1] for k, v in fingerprints.items()})
    with pytest.raises(LikenessError, match="another model than the reference"):
        compare(prints={"ours": fingerprints["ours"]})


def test_descent_of_a_tiny_model(llama, rng):
    """Noise keeps the fingerprint; the same architecture alone has another."""
    torch.manual_seed(1)
    fresh = type(llama.model)(llama.model.config).eval().requires_grad_(False)
    family = {
        "original": llama,
        "copy": fingerprint.noised(llama, 0, rng),
        "noised": fingerprint.noised(llama, 0.02, rng),
        "fresh": LanguageModel(fresh, llama.tokenizer, "causal"),
    }
    fitting, texts = some_texts(rng, 5), some_texts(rng, 4)
    options = {"n_networks": 3, "z_threshold": 1.5, "batch_size": 5}
    prints = {
        name: fingerprint.fingerprint(model, fitting, texts, **options)
        for name, model in family.items()
    }
    related = ["copy", "noised"]
    table = fingerprint.compare_models(prints, "original", related, n_draws=20, rng=rng)
    mean = table.groupby(["model", "score"])["likeness"].mean()
    for score in fingerprint.SCORES:
        assert mean["copy", score] == pytest.approx(1)
        assert mean["noised", score] > 0.9 > mean["fresh", score] + 0.1


def test_figures_show_what_they_are_given(table, rng):
    rows = table[table["score"] == "matched"]
    ax = figures.plot_likeness(rows)
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert names == ["near", "far", "other", "another"]
    dots = [line.get_ydata() for line in ax.lines if len(line.get_ydata()) == 6]
    for name, drawn in zip(names, dots, strict=True):
        np.testing.assert_array_equal(drawn, rows["likeness"][rows["model"] == name])
    curves = {s: fingerprint.roc(table, s, n_bootstrap=20, rng=rng) for s in ("pair",)}
    ax = figures.plot_roc(curves)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), curves["pair"].true_positive)
    assert "pair: 1.00 (1.00 to 1.00)" in ax.lines[0].get_label()
    plt.close("all")
