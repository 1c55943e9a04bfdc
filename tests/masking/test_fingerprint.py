"""Tests of anbn.masking.fingerprint."""

import copy

import numpy as np
import pytest
import torch
from scipy import sparse
from signals import some_text, some_texts

from anbn.masking import fingerprint
from anbn.masking.fingerprint import Networks, SignalError
from anbn.models.loading import LanguageModel


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


@pytest.mark.parametrize("over", ["samples", "units"])
def test_planted_networks_are_found(rng, over):
    x, members, sources = planted_activations(rng)
    found = fingerprint.fit_activations(x, 4, z_threshold=2.5, over=over)
    overlap = (members @ found.members.reshape(4, -1).T.astype(int)) == 6
    assert (overlap.sum(0) == 1).all() and (overlap.sum(1) == 1).all()
    assert (found.members.sum((1, 2)) == 6).all()
    signal = x.reshape(len(x), -1) @ found.weights.toarray().T
    r = np.corrcoef(signal.T, sources.T)[:4, 4:]
    assert (np.abs(r).max(0) > 0.95).all()


def test_signals_weigh_members_alike_and_scale_does_not_matter(rng):
    x, _, _ = planted_activations(rng)
    found = fingerprint.fit_activations(x, 4, z_threshold=2.5)
    signal = x.reshape(len(x), -1) @ found.weights.toarray().T
    expected = np.stack([x[:, m].mean(1) for m in found.members], 1)
    np.testing.assert_allclose(signal, expected, rtol=1e-3, atol=1e-4)
    x *= rng.uniform(0.1, 10, x.shape[1:]).astype(np.float32)
    again = fingerprint.fit_activations(x, 4, z_threshold=2.5)
    np.testing.assert_array_equal(again.members, found.members)


def test_dead_units_are_no_members(rng):
    x, members, _ = planted_activations(rng, 1100)
    flat, dead = x.reshape(len(x), -1), np.flatnonzero(~members.any(0))[:3]
    flat[:, dead[:2]] = 1e-32 * rng.laplace(size=(len(x), 1))  # alike, and so one group
    flat[:, dead[2]] = 0
    found = fingerprint.fit_activations(x, 4, z_threshold=2.5)
    np.testing.assert_array_equal(found.members.any(0).ravel(), members.any(0))


def test_no_member_anywhere(rng):
    with pytest.raises(
        fingerprint.NoNetworksError, match=r"no unit has .z. > 50 in any of 4 networks"
    ):
        fingerprint.fit_activations(planted_activations(rng)[0], 4, z_threshold=50)


def test_signals_are_means_over_words_of_means_over_members(llama, rng):
    texts = [some_text(rng, 25) + " the wouldn't. (mat", some_text(rng, 30)]
    # two networks in the first layer, which transformers hands out as it is
    members = np.zeros((2, 2, 24), bool)
    members[0, 0, [1, 5]] = members[1, 0, 3:9] = True
    weights = members.reshape(2, -1) / members.sum((1, 2))[:, None]
    fitted = Networks(sparse.csr_array(weights.astype(np.float32)), (2, 24), "hidden")
    found = fingerprint.signals(llama, texts, fitted, batch_size=2)
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
    fitted = fingerprint.fit(bert, some_texts(rng, 4), 3, z_threshold=1.5)
    assert fitted.shape == (3, 24)
    found = fingerprint.signals(bert, some_texts(rng, 2), fitted)
    assert [s.shape for s in found] == [(40, fitted.weights.shape[0])] * 2
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
    with pytest.raises(SignalError, match="has 1 documents of 100 words or more, exp"):
        fingerprint.excerpts([path], 2, 100)


def test_what_cannot_be_followed(llama, bert, rng):
    texts = some_texts(rng, 3)
    fitted = fingerprint.fit(llama, texts, 3, z_threshold=1.5)
    with pytest.raises(SignalError, match=r"found \[40, 5\] words"):
        fingerprint.signals(llama, [texts[0], "the cat sat on a"], fitted)
    with pytest.raises(SignalError, match="20 words or more, found"):
        fingerprint.signals(llama, [], fitted)
    with pytest.raises(SignalError, match=r"\(2, 24\), this model has \(3, 24\)"):
        fingerprint.signals(bert, texts, fitted)
    with pytest.raises(SignalError, match="text 1 shares a sentence with the fitting"):
        fingerprint.fingerprint(llama, texts[:1], texts[1::-1], 3)


def test_a_damaged_model(llama, rng):
    texts = some_texts(rng, 3)
    fitted = fingerprint.fit(llama, texts, 3, z_threshold=1.5)
    model = copy.deepcopy(llama.model)
    model.model.embed_tokens.weight[:] = torch.nan
    damaged = LanguageModel(model, llama.tokenizer, "causal")
    with pytest.raises(SignalError, match="NaN or infinity: is the model damaged"):
        fingerprint.signals(damaged, texts, fitted)
