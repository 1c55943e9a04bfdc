import numpy as np
import pandas as pd
import pytest

from anbn.brain import clock as brain_clock
from anbn.core import artifacts, blocks
from anbn.models import recording, stores
from anbn.text import stories, tokenization

KINDS = ["ffn_hidden", "ffn_out"]
READING = {"kinds": KINDS, "window": 32, "stride": 16}


@pytest.fixture
def story(llama, text, rng, tmp_path, monkeypatch):
    """Words, tokens and a store of several blocks."""
    monkeypatch.setattr(stores, "TOKEN_BLOCK", 16)
    words = stories.synthetic_timing(stories.split_words(text), rng)
    tokens = tokenization.tokenize(llama.tokenizer, text, words)
    tokens["onset"] = words["onset"].reindex(tokens["word"]).to_numpy()
    recording.record(llama, tokens, tmp_path / "s", dtype="float32", **READING)
    return words, tokens, tmp_path / "s"


def test_responses_stream_and_equal_the_product(llama, story):
    words, tokens, store = story
    H = brain_clock.alignment_matrix(tokens["word"], words["onset"], n_times=30, tr=2.0)
    activations = stores.open_activations(store, "ffn_hidden")
    mean, variance = blocks.moments(activations)
    dense = activations.to_numpy().reshape(len(tokens), -1)
    np.testing.assert_allclose(mean, dense.mean(0, dtype=float), atol=1e-6)
    np.testing.assert_allclose(variance, dense.var(0, dtype=float), 1e-4, 1e-9)
    streamed = recording.responses(activations, H)
    np.testing.assert_allclose(streamed, H @ dense, atol=1e-5)
    direct = recording.stream_responses(llama, tokens, H, **READING)
    np.testing.assert_allclose(direct["ffn_hidden"], streamed, atol=1e-5)
    with pytest.raises(ValueError, match="H has"):
        recording.responses(activations[:-1], H)


def test_responses_of_a_story_that_the_scan_hardly_meets(story):
    words, tokens, store = story
    activations = stores.open_activations(store, "ffn_out")
    clock = {"n_times": 5, "tr": 1.0, "start": words["onset"].max() - 2}
    H = brain_clock.alignment_matrix(tokens["word"], words["onset"], **clock)
    dense = activations.to_numpy().reshape(len(tokens), -1)
    found = recording.responses(activations, H)
    np.testing.assert_allclose(found, H @ dense, atol=1e-6)
    assert not recording.responses(activations, 0 * H).any()


def test_store_is_lazy_and_labelled(story):
    _, tokens, store = story
    dataset = stores.open_activations(store)
    assert set(dataset.data_vars) == set(KINDS)
    assert all(dataset[kind].chunks is not None for kind in KINDS)  # dask
    activations = stores.open_activations(store, "ffn_out")
    layer = activations.sel(layer=1)
    assert layer.shape == (len(tokens), 24) and layer.chunks is not None
    np.testing.assert_array_equal(layer, activations.to_numpy()[:, 1])
    assert activations["text"].to_numpy().tolist() == tokens["token"].tolist()
    np.testing.assert_array_equal(activations["onset"], tokens["onset"])
    late = activations.sel(token=activations["onset"] > 20)
    assert 0 < late.sizes["token"] < len(tokens)
    assert stores.read_tokens(store)["entropy"].notna().sum() == len(tokens) - 1
    about = artifacts.read_json(store / "store.json")
    assert about["n_recorded"] == about["n_tokens"] == len(tokens)


def test_missing_chunk_is_not_read_as_nan(story):
    *_, store = story
    (store / "activations.zarr" / "ffn_out" / "c" / "0" / "1" / "0").unlink()
    stores.open_activations(store, "ffn_hidden")
    for path, kind, words in (
        (store, "ffn_out", "ffn_out/c/0/1/0 is missing"),
        (store, None, "ffn_out/c/0/1/0 is missing"),
        (store, "qk", "'qk', only of ffn_hidden"),
        (store / "nowhere", None, "no store of activations"),
    ):
        with pytest.raises(artifacts.ArtifactError, match=words):
            stores.open_activations(path, kind)


def test_kinds_must_have_the_same_layers(tmp_path):
    tokens = pd.DataFrame({"id": [1, 2]})
    shapes = {"ffn_out": (2, 3), "hidden": (4, 3)}
    about = {"dtype": "float16", "layers": None, "predictions": False}
    with (
        pytest.raises(ValueError, match="different numbers of layers"),
        stores.writing(tmp_path / "s", tokens, shapes, about),
    ):
        pass
