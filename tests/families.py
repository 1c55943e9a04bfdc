"""Small models of many families with random weights, and where their parts are."""

from typing import NamedTuple

import torch
import transformers as t

from anbn import neurons

IDS = torch.arange(3, 27).view(2, 12)
SMALL = {
    "vocab_size": 50,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
PLAIN = {k: v for k, v in SMALL.items() if k != "num_key_value_heads"}
OWN_NAMES = {k: SMALL[k] for k in ("vocab_size", "bos_token_id", "eos_token_id")}
WINDOWS = {"sliding_window": 4, "head_dim": 10}
LOCAL = ["sliding_attention", "full_attention", "sliding_attention"]
ROTARY = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.67}


class Family(NamedTuple):
    """A model class, its configuration, and paths within a block."""

    model: type
    config: type
    options: dict
    ffn: str  # module whose input the feed-forward layer reads
    up: tuple  # its first linear layers: gate and up, or the only one
    act: str
    down: str
    attn_out: str  # output projection of attention


GATED = ("mlp", ("mlp.gate_proj", "mlp.up_proj"), "mlp.act_fn", "mlp.down_proj")
GATED = (*GATED, "self_attn.o_proj")
BERT = ("intermediate", ("intermediate.dense",), "intermediate.intermediate_act_fn")
BERT = (*BERT, "output.dense", "attention.output.dense")
NEOX = ("mlp", ("mlp.dense_h_to_4h",), "mlp.act", "mlp.dense_4h_to_h")
FFN5 = "layer.1.DenseReluDense"

FAMILIES = {
    "llama": Family(t.LlamaForCausalLM, t.LlamaConfig, SMALL, *GATED),
    "mistral": Family(
        t.MistralForCausalLM, t.MistralConfig, {**SMALL, "sliding_window": 4}, *GATED
    ),
    "qwen2": Family(t.Qwen2ForCausalLM, t.Qwen2Config, SMALL, *GATED),
    "qwen3": Family(
        t.Qwen3ForCausalLM, t.Qwen3Config, {**SMALL, "head_dim": 10}, *GATED
    ),
    "gemma3": Family(
        t.Gemma3ForCausalLM,
        t.Gemma3TextConfig,
        {**SMALL, **WINDOWS, "layer_types": LOCAL},
        *GATED,
    ),
    "gpt2": Family(
        t.GPT2LMHeadModel,
        t.GPT2Config,
        {**OWN_NAMES, "n_layer": 3, "n_embd": 24, "n_head": 4},
        *("mlp", ("mlp.c_fc",), "mlp.act", "mlp.c_proj", "attn.c_proj"),
    ),
    "neox": Family(
        t.GPTNeoXForCausalLM, t.GPTNeoXConfig, PLAIN, *NEOX, "attention.dense"
    ),
    "falcon": Family(
        t.FalconForCausalLM,
        t.FalconConfig,
        {**PLAIN, "ffn_hidden_size": 40, "multi_query": True},
        *NEOX,
        "self_attention.dense",
    ),
    "opt": Family(
        t.OPTForCausalLM,
        t.OPTConfig,
        {**PLAIN, "ffn_dim": 40, "word_embed_proj_dim": 24},
        *("fc1", ("fc1",), "activation_fn", "fc2", "self_attn.out_proj"),
    ),
    "phi": Family(
        t.PhiForCausalLM,
        t.PhiConfig,
        {**SMALL, "partial_rotary_factor": 0.67, "rope_parameters": ROTARY},
        *("mlp", ("mlp.fc1",), "mlp.activation_fn", "mlp.fc2", "self_attn.dense"),
    ),
    "bert": Family(t.BertModel, t.BertConfig, PLAIN, *BERT),
    "roberta": Family(t.RobertaModel, t.RobertaConfig, PLAIN, *BERT),
    "distilbert": Family(
        t.DistilBertModel,
        t.DistilBertConfig,
        {"vocab_size": 50, "dim": 24, "hidden_dim": 40, "n_layers": 3, "n_heads": 4},
        *("ffn", ("ffn.lin1",), "ffn.activation", "ffn.lin2", "attention.out_lin"),
    ),
    "mpnet": Family(t.MPNetModel, t.MPNetConfig, PLAIN, *BERT[:-1], "attention.attn.o"),
    "t5": Family(
        t.T5EncoderModel,
        t.T5Config,
        {"vocab_size": 50, "d_model": 24, "d_ff": 40, "num_layers": 3}
        | {"num_heads": 4, "d_kv": 8},
        *(FFN5, (f"{FFN5}.wi",), f"{FFN5}.act", f"{FFN5}.wo"),
        "layer.0.SelfAttention.o",
    ),
    "mixtral": Family(
        t.MixtralForCausalLM,
        t.MixtralConfig,
        {**SMALL, "num_local_experts": 4},
        *("mlp", (), "", "", "self_attn.o_proj"),
    ),
}


def make(name, seed=0, **options):
    """The model of a family, in evaluation mode."""
    family = FAMILIES[name]
    torch.manual_seed(seed)
    config = family.config(**family.options)
    model = family.model._from_config(config, **options)
    return model.eval().requires_grad_(False)


def captured(model, kinds=neurons.KINDS, ids=IDS, **options):
    """Activations of one pass: kind -> tensor of (layer, batch, position, neuron)."""
    found = {}

    def receive(kind, i, activations):
        assert (kind, i) not in found
        found[kind, i] = activations.reshape(*ids.shape, -1).clone()

    with torch.inference_mode(), neurons.capture(model, kinds, receive, **options) as n:
        model(ids)
    return {kind: torch.stack([found[kind, i] for i in range(n)]) for kind in kinds}
