"""Fingerprints of tiny models and of planted signals, and models' descendants."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse, stats
from signals import some_text, some_texts
from sklearn.metrics import roc_auc_score, roc_curve

from anbn.masking import figures, fingerprint
from anbn.masking.fingerprint import FingerprintError
from anbn.models import forward
from anbn.models.loading import LanguageModel
from anbn.text import tokenization

STEPS = {"n_steps": 12, "learning_rate": 1e-2, "window": 16, "batch_size": 3, "seed": 0}


def planted_activations(rng, n_tokens=400, n_layers=3, n_neurons=50, per_network=6):
    """Activations in which four groups of units follow a source each."""
    n_units = n_layers * n_neurons
    members = np.zeros((4, n_units), bool)
    for k, units in enumerate(np.array_split(rng.permutation(n_units), 4)):
        members[k, units[:per_network]] = True
    sources = rng.laplace(size=(n_tokens, 4))
    x = 0.7 * rng.standard_normal((n_tokens, n_units)) + 3 * sources @ members
    return x.astype(np.float32).reshape(-1, n_layers, n_neurons), members, sources


def permuted(language_model, order):
    """The same function, with the dimensions of its residual stream in other order."""
    model = copy.deepcopy(language_model.model)
    for name, weight in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight", "norm.weight")):
            weight.data = weight[order]
        else:  # embeddings, output and what reads the stream
            weight.data = weight[:, order]
    return LanguageModel(model, language_model.tokenizer, language_model.head)


def test_planted_networks_are_found(rng):
    x, members, sources = planted_activations(rng)
    found = fingerprint.fit_activations(x, 4, z_threshold=2.5).toarray()
    overlap = (members @ (found != 0).T.astype(int)) == 6
    assert (overlap.sum(0) == 1).all() and (overlap.sum(1) == 1).all()
    assert ((found != 0).sum(1) == 6).all()
    flat = x.reshape(len(x), -1)
    signal = flat @ found.T
    r = np.corrcoef(signal.T, sources.T)[:4, 4:]
    assert (np.abs(r).max(0) > 0.95).all()
    # members weigh alike, and their scale does not matter
    expected = np.stack([flat[:, weights != 0].mean(1) for weights in found], 1)
    np.testing.assert_allclose(signal, expected, rtol=1e-3, atol=1e-4)
    x *= rng.uniform(0.1, 10, x.shape[1:]).astype(np.float32)
    again = fingerprint.fit_activations(x, 4, z_threshold=2.5).toarray()
    np.testing.assert_array_equal(again != 0, found != 0)


def test_dead_units_are_no_members(rng):
    x, members, _ = planted_activations(rng, 1100)
    flat, dead = x.reshape(len(x), -1), np.flatnonzero(~members.any(0))[:3]
    flat[:, dead[:2]] = 1e-32 * rng.laplace(size=(len(x), 1))  # alike, and so one group
    flat[:, dead[2]] = 0
    found = fingerprint.fit_activations(x, 4, z_threshold=2.5)
    np.testing.assert_array_equal((found.toarray() != 0).any(0), members.any(0))
    with pytest.raises(
        fingerprint.NoNetworksError, match=r"no unit has .z. > 50 in any of 4 networks"
    ):
        fingerprint.fit_activations(x, 4, z_threshold=50)


def test_signals_are_means_over_words_of_means_over_members(llama, rng):
    texts = [some_text(rng, 25) + " the wouldn't. (mat", some_text(rng, 30)]
    # two networks in the first layer, which transformers hands out as it is
    members = np.zeros((2, 2, 24), bool)
    members[0, 0, [1, 5]] = members[1, 0, 3:9] = True
    weights = members.reshape(2, -1) / members.sum((1, 2))[:, None]
    weights = sparse.csr_array(weights.astype(np.float32))
    found = fingerprint.signals(llama, texts, weights)
    assert [len(signal) for signal in found] == [28, 30]
    for text, signal in zip(texts, found, strict=True):
        coded = llama.tokenizer(text, return_offsets_mapping=True)
        ids = torch.tensor([coded["input_ids"]])
        with torch.inference_mode():
            hidden = llama.model(ids, output_hidden_states=True).hidden_states[1][0]
        starts = np.cumsum([0] + [len(w) + 1 for w in text.split()])
        # a blank belongs to the word after it, so ends tell words apart
        ends = [e for _, e in coded["offset_mapping"]]
        word = np.searchsorted(starts, ends, side="left") - 1
        for w in range(len(text.split())):
            for k in range(2):
                units = hidden[word == w][:, members[k, 0]]
                assert signal[w, k] == pytest.approx(float(units.mean()), abs=1e-5)


def test_signals_of_a_model_with_special_tokens_and_no_head(bert, rng):
    texts = some_texts(rng, 4), some_texts(rng, 2)
    found = fingerprint.fingerprint(bert, *texts, 3, z_threshold=1.5)
    assert [s.shape for s in found] == [(40, 3)] * 2
    assert np.isfinite(found).all()


def test_order_of_units_does_not_matter(llama, rng):
    order = torch.tensor(rng.permutation(24))
    other = permuted(llama, order)
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(other.model(ids).logits, llama.model(ids).logits)
    fitting, texts = some_texts(rng, 5), some_texts(rng, 2)
    options = {"n_networks": 4, "z_threshold": 1.5}
    ours = fingerprint.fingerprint(llama, fitting, texts, **options)
    theirs = fingerprint.fingerprint(other, fitting, texts, **options)
    for a, b in zip(ours, theirs, strict=True):
        # a unit at the threshold may join or leave by rounding
        pairs = zip(a.T, b.T, strict=True)
        assert min(abs(np.corrcoef(x, y)[0, 1]) for x, y in pairs) > 0.95
        assert np.median(np.abs(a - b)) < 1e-5


def test_excerpts_are_beginnings_of_long_documents(tmp_path):
    path = tmp_path / "c.txt"
    long = [" ".join(f"{letter}{i}" for i in range(80)) for letter in "abc"]
    path.write_text("\n\n".join([long[0], "x " * 110, long[1], long[2]]))
    found = fingerprint.excerpts([path, path], 2, 70)
    first = [" ".join(long[0].split()[:70]), "x " * 69 + "x"]
    assert found == first * 2
    message = r"c.txt has 1 documents of 100 words .*text_words.*expected 2 .*fitting_t"
    with pytest.raises(FingerprintError, match=message):
        fingerprint.excerpts([path], 2, 100)


def test_text_that_was_fitted_on_is_refused(llama, rng):
    texts = some_texts(rng, 3)
    with pytest.raises(FingerprintError, match="text 1 shares a sentence with the fit"):
        fingerprint.fingerprint(llama, texts[:1], texts[1::-1], 3)


@pytest.fixture
def tokens(tokenizer, text):
    return tokenization.tokenize(tokenizer, text).assign(document=0)


def loss(language_model, tokens, window):
    """Mean surprisal (nats a token)."""
    options = {"window": window, "stride": window // 2, "surprisal": True}
    passes = forward.forward_windows(language_model, tokens, **options)
    return float(np.nanmean(np.concatenate([p.surprisal for p in passes])))


def weights(language_model):
    return {k: v.clone() for k, v in language_model.model.named_parameters()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_noise_has_the_size_asked_for_and_follows_the_seed(llama):
    before = weights(llama)
    after, again, other, none = (
        weights(fingerprint.noised(llama, scale, np.random.default_rng(seed)))
        for scale, seed in ((0.3, 1), (0.3, 1), (0.3, 2), (0, 1))
    )
    assert same(before, weights(llama)) and same(before, none)
    assert same(after, again) and not same(after, other)
    for name, weight in before.items():
        noise = after[name] - weight
        if weight.ndim > 1:
            expected = 0.3 * weight.std()
            assert noise.std() == pytest.approx(float(expected), rel=0.15)
            both = torch.stack([noise.ravel(), weight.ravel()])
            assert abs(torch.corrcoef(both)[0, 1]) < 0.15
        else:
            assert torch.equal(after[name], weight)


def test_fine_tuning_learns_the_text_and_leaves_the_original(llama, tokens):
    before = weights(llama)
    tuned, losses = fingerprint.fine_tuned(llama, tokens, **STEPS)
    assert same(before, weights(llama)) and not llama.model.training
    assert losses.shape == (12,) and losses[-3:].mean() < losses[:3].mean() - 0.3
    assert loss(tuned, tokens, 32) < loss(llama, tokens, 32) - 0.2
    model = tuned.model
    assert not any(m.training for m in model.modules())
    assert not any(w.requires_grad or w.grad is not None for w in model.parameters())


def test_first_loss_is_that_of_the_original(llama, tokens):
    _, losses = fingerprint.fine_tuned(
        llama, tokens.iloc[:16], **{**STEPS, "n_steps": 1, "batch_size": 1}
    )
    expected = [loss(llama, tokens.iloc[:16], 16)]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_fine_tuning_follows_the_seed_and_leaves_the_global_one(llama, tokens):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    runs = [
        fingerprint.fine_tuned(llama, tokens, **{**STEPS, "n_steps": 3, "seed": seed})
        for seed in (1, 1, 2)
    ]
    assert torch.rand(1) == expected
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
    assert same(weights(runs[0][0]), weights(runs[1][0]))
    assert not same(weights(runs[0][0]), weights(runs[2][0]))


def test_windows_keep_to_documents_and_come_once(llama, tokens, monkeypatch):
    tokens = tokens.iloc[:75].assign(document=np.arange(75) // 25)
    seen = []
    run = type(llama.model).forward

    def watched(self, input_ids=None, **options):
        seen.append(input_ids)
        return run(self, input_ids=input_ids, **options)

    monkeypatch.setattr(type(llama.model), "forward", watched)
    steps = STEPS | {"n_steps": 6, "window": 10, "batch_size": 2}
    fingerprint.fine_tuned(llama, tokens, **steps)
    ids = tokens["id"].to_numpy()
    windows = sorted(ids[d * 25 + i :][:10].tolist() for d in range(3) for i in (0, 10))
    read = torch.cat(seen).tolist()
    assert sorted(read[:6]) == sorted(read[6:]) == windows


def test_what_cannot_be_fine_tuned(llama, tokens):
    with pytest.raises(FingerprintError, match=r"1 windows of 16 .*tune_tokens"):
        fingerprint.fine_tuned(llama, tokens.iloc[:20], **STEPS)
    broken = fingerprint.noised(llama, 0, np.random.default_rng(0))
    broken.model.lm_head.weight[0] = torch.inf
    with pytest.raises(FingerprintError, match=r"loss of step 1 is nan: .*tune_rate"):
        fingerprint.fine_tuned(broken, tokens, **STEPS)


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


def test_a_models_null_is_the_same_whatever_is_beside_it(fingerprints):
    def null(names):
        some = {name: fingerprints[name] for name in names}
        rng = np.random.default_rng(2)
        table = fingerprint.compare_models(some, "ours", ["near"], rng=rng)
        return table[table["model"] == "other"].reset_index(drop=True)

    every, alone = null(fingerprints), null(["ours", "other"])
    pd.testing.assert_frame_equal(every, alone, check_exact=True)


def test_models_without_networks_are_left_out(llama, rng, monkeypatch):
    fitting, texts = some_texts(rng, 5), some_texts(rng, 4)

    def without(model, *_):
        raise fingerprint.NoNetworksError("it has none")

    monkeypatch.setattr(fingerprint, "fingerprint", without)
    given = fitting, texts, 3
    found, left_out = fingerprint.of_models({"itself": llama}, *given)
    assert found == {} and left_out == {"itself": "it has none"}
    table = fingerprint.compare_models(found, "itself", [], rng=rng)
    assert len(table) == 0 and list(table) == list(fingerprint.COLUMNS)
    monkeypatch.setattr(fingerprint.loading, "load_model", lambda *_, **__: llama)
    monkeypatch.setattr(fingerprint, "fingerprint", lambda *_: [1])
    specs = {"cut": ("there/cut", None), "a/b": ("a/b", None), "random": ("x", 0)}
    found, left_out = fingerprint.of_strangers(specs, *given, taken=["cut"])
    assert list(found) == ["unrelated cut", "a b", "random"] and left_out == {}


def test_texts_to_fit_on_and_to_compare_on(tmp_path):
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path in paths:
        documents = [f"{path.stem}{i} " + "word " * 50 for i in range(6)]
        path.write_text("\n\n".join(documents))
    sizes = {"n_fitting": 2, "n_compared": 3, "n_words": 20}
    fitting, compared = fingerprint.two_sets(paths, **sizes)
    assert [text.split()[0] for text in fitting] == ["a0", "a1", "b0", "b1"]
    assert [text.split()[0] for text in compared] == [
        "a2",
        "a3",
        "a4",
        "b2",
        "b3",
        "b4",
    ]


def test_likeness_of_too_few_words(rng):
    a, b = rng.standard_normal((2, 30, 3))
    a[:11] = np.nan
    with pytest.raises(FingerprintError, match=r"expected 20 words .* found 19"):
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
    options = {"n_networks": 3, "z_threshold": 1.5}
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


@pytest.mark.usefixtures("close_figures")
def test_figures_show_what_they_are_given(table, rng):
    rows = table[table["score"] == "matched"]
    ax = figures.plot_likeness(rows)
    places = {
        label.get_text(): y
        for label, y in zip(ax.get_yticklabels(), ax.get_yticks(), strict=True)
    }
    assert set(places) == {"near", "far", "other", "another"}
    related = [places[name] for name in ("near", "far")]
    assert min(np.abs(places["other"] - related)) >= 1
    dots = np.vstack(
        [one.get_offsets() for one in ax.collections if len(one.get_offsets()) > 6]
    )
    for name, y in places.items():
        drawn = dots[np.abs(dots[:, 1] - y) < 0.5, 0]
        expected = rows["likeness"][rows["model"] == name]
        np.testing.assert_allclose(np.sort(drawn), np.sort(expected))
    curves = {s: fingerprint.roc(table, s, n_bootstrap=20, rng=rng) for s in ("pair",)}
    ax = figures.plot_roc(curves)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), curves["pair"].true_positive)
    assert "pair: 1.00 (1.00 to 1.00)" in ax.lines[0].get_label()
