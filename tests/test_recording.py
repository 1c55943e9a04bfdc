import numpy as np
import pandas as pd
import pytest
import torch

from anbn import artifacts, hemodynamics, recording, stimuli

KINDS = ["ffn_hidden", "ffn_out"]


def test_tokens_belong_to_the_word_they_share_most_with(tokenizer):
    text = "the cat wouldn't sat."
    words = stimuli.split_words(text)
    tokens = recording.tokenize(tokenizer, text, words)
    assert "".join(tokens["token"]) == text
    assert tokens["word"].iloc[[0, 1, -1]].tolist() == [0, 1, 3]
    glued = pd.DataFrame({"start": [0, 5], "end": [5, 8]})  # would|n't
    assert recording._majority(np.array([0, 0, 1])) == 0
    assert recording._majority(np.array([-1, 0, 1])) == 1
    assert recording._majority(np.array([-1, -1])) == -1
    assert set(recording.tokenize(tokenizer, "wouldn't", glued)["word"]) <= {0, 1}


@pytest.mark.parametrize(
    "n, window, stride", [(10, 4, 4), (10, 4, 1), (3, 9, 2), (17, 8, 3)]
)
def test_windows_cover_every_token_once_with_context(n, window, stride):
    kept = []
    for begin, new, end in recording.windows(n, window, stride):
        assert 0 <= begin <= new < end <= n
        assert end - begin <= window
        assert new - begin >= min(new, window - stride)
        kept += range(new, end)
    assert kept == list(range(n))


def test_windows_refuse_a_stride_beyond_the_window():
    with pytest.raises(
        ValueError, match=r"stride must lie in 1 to window \(4\), found 5"
    ):
        recording.windows(10, 4, 5)


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_store_equals_a_plain_forward_pass(name, request, text, tmp_path):
    lm = request.getfixturevalue(name)
    tokens = recording.tokenize(lm.tokenizer, text[:150]).iloc[:20]
    recording.record(
        lm, tokens, tmp_path / "s", kinds=KINDS, window=50, stride=50, dtype="float32"
    )
    hidden = recording.open_activations(tmp_path / "s", "ffn_hidden")
    found = []
    blocks = lm.model.model.layers if name == "llama" else lm.model.encoder.layer
    downs = [b.mlp.down_proj if name == "llama" else b.output.dense for b in blocks]
    handles = [
        d.register_forward_pre_hook(lambda _, a: found.append(a[0][0])) for d in downs
    ]
    lm.model(torch.tensor(tokens["id"].to_numpy())[None])
    for handle in handles:
        handle.remove()
    np.testing.assert_allclose(hidden.to_numpy(), torch.stack(found, 1), atol=1e-6)
    assert hidden.dims == ("token", "layer", "neuron")


def test_overlapping_windows_and_documents(llama, text, tmp_path):
    tokens = recording.tokenize(llama.tokenizer, text)
    tokens["document"] = np.repeat([0, 1], [60, len(tokens) - 60])
    options = {"kinds": KINDS, "dtype": "float32"}
    recording.record(llama, tokens, tmp_path / "both", window=64, stride=64, **options)
    second = tokens.iloc[60:].reset_index(drop=True)
    recording.record(llama, second, tmp_path / "one", window=64, stride=64, **options)
    both, one = (
        recording.open_activations(tmp_path / n, "ffn_out") for n in ("both", "one")
    )
    np.testing.assert_allclose(both[60:], one, atol=1e-6)
    losses = recording.read_tokens(tmp_path / "both")["surprisal"]
    assert losses.isna().to_numpy().nonzero()[0].tolist() == [0, 60]


def test_surprisal_is_the_models_own_loss(llama, text):
    tokens = recording.tokenize(llama.tokenizer, text).iloc[:40]
    ids = torch.tensor(tokens["id"].to_numpy())
    options = {"window": 40, "stride": 40}
    _, _, losses = next(recording.forward_windows(llama, tokens, **options))
    expected = llama.model(ids[None], labels=ids[None]).loss
    assert np.nanmean(losses) == pytest.approx(float(expected), rel=1e-5)


def test_responses_stream_and_equal_the_product(
    llama, text, tmp_path, rng, monkeypatch
):
    monkeypatch.setattr(recording, "TOKEN_BLOCK", 16)
    words = stimuli.synthetic_timing(stimuli.split_words(text), rng)
    tokens = recording.tokenize(llama.tokenizer, text, words)
    reading = {"kinds": KINDS, "window": 32, "stride": 16}
    recording.record(llama, tokens, tmp_path / "s", dtype="float32", **reading)
    H = hemodynamics.alignment_matrix(
        tokens["word"], words["onset"], n_times=30, tr=2.0
    )
    activations = recording.open_activations(tmp_path / "s", "ffn_hidden")
    dense = activations.to_numpy().reshape(len(tokens), -1)
    streamed = recording.responses(activations, H)
    np.testing.assert_allclose(streamed, H @ dense, atol=1e-5)
    direct = recording.stream_responses(llama, tokens, H, **reading)
    np.testing.assert_allclose(direct["ffn_hidden"], streamed, atol=1e-5)
    mean, variance = recording.statistics(activations)
    np.testing.assert_allclose(mean.ravel(), dense.mean(0), atol=1e-6)
    np.testing.assert_allclose(variance.ravel(), dense.var(0), rtol=1e-4, atol=1e-9)
    with pytest.raises(ValueError, match="H has"):
        recording.responses(activations[:-1], H)


def test_missing_chunk_is_not_read_as_nan(llama, text, tmp_path):
    tokens = recording.tokenize(llama.tokenizer, text)
    options = {"kinds": ["ffn_out"], "window": 32, "stride": 32}
    recording.record(llama, tokens, tmp_path / "s", **options)
    chunk = tmp_path / "s" / "activations.zarr" / "ffn_out" / "c" / "0" / "1" / "0"
    chunk.unlink()
    with pytest.raises(artifacts.ArtifactError, match="ffn_out/c/0/1/0 is missing"):
        recording.open_activations(tmp_path / "s", "ffn_out")
    with pytest.raises(artifacts.ArtifactError, match="holds no activations of 'qk'"):
        recording.open_activations(tmp_path / "s", "qk")


def test_overflow_is_an_error_and_leaves_nothing(llama, text, tmp_path, monkeypatch):
    tokens = recording.tokenize(llama.tokenizer, text).iloc[:9]
    huge = {"ffn_out": torch.full((9, 2, 24), 1e5)}
    rows = [(slice(0, 9), huge, None)]
    monkeypatch.setattr(recording, "forward_windows", lambda *a, **k: iter(rows))
    with pytest.raises(OverflowError, match="store_dtype float32"):
        recording.record(
            llama, tokens, tmp_path / "s", kinds=["ffn_out"], window=9, stride=9
        )
    assert list(tmp_path.iterdir()) == []


def test_corpora_are_cut_into_documents(tokenizer, tmp_path):
    for name, word in [("one", "cat "), ("two", "dog ")]:
        (tmp_path / f"{name}.txt").write_text("\n\n".join([word * 60] * 5))
    paths = [tmp_path / "one.txt", tmp_path / "two.txt"]
    tokens, documents = recording.tokenize_corpora(tokenizer, paths, 90, 40)
    assert documents["corpus"].tolist() == ["one"] * 3 + ["two"] * 3
    assert tokens.groupby("document").size().tolist() == [40, 40, 10] * 2
    assert [len(text.split()) for text in documents["text"]] == [40, 40, 10] * 2
    with pytest.raises(
        stimuli.StimulusError, match=r"one.txt has 200 tokens.*expected 900"
    ):
        recording.tokenize_corpora(tokenizer, paths, 900, 40)
