"""Small models of many families with random weights, and where their parts are."""

from typing import NamedTuple

import torch
import transformers as t

from anbn.models import neurons

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
    ffn: str = ""  # module whose input the feed-forward layer reads
    up: tuple = ()  # its first linear layers: gate and up, or the only one
    act: str = ""
    down: str = ""
    attn_out: str = ""  # output projection of attention
    added: str = ""  # a norm between the feed-forward layer and the stream
    attn_added: str = ""  # and one after attention


GATED = ("mlp", ("mlp.gate_proj", "mlp.up_proj"), "mlp.act_fn", "mlp.down_proj")
GATED = (*GATED, "self_attn.o_proj")
NORMED = ("post_feedforward_layernorm", "post_attention_layernorm")
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
        *NORMED,
    ),
    "olmo2": Family(t.Olmo2ForCausalLM, t.Olmo2Config, SMALL, *GATED, *NORMED),
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


# Models whose places are told apart by more than the usual shapes: for every kind the
# module that holds it, found by hand, or None where it cannot be read and has to be
# refused. `qk` has no module: "attention" where it is read.
MOE = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
MOE = {**MOE, "moe_intermediate_size": 40}
WIDE = {**SMALL, "head_dim": 6}
PER_LAYER = {
    **WIDE,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 50,
    "num_kv_shared_layers": 0,
}
FULL = {"layer_types": ["full_attention"] * 3}
OLD = {"vocab_size": 50, "n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 64}
XLM = {"vocab_size": 50, "emb_dim": 24, "n_layers": 3, "n_heads": 4}
STATE = {"n_groups": 1, "state_size": 8, "chunk_size": 4}
MAMBA = {"mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 4}


def _sites(block, ffn, attention="self_attn.o_proj", added=None, **others):
    """Places within a block; those of other kinds may be given by name."""
    inside = {
        "ffn_hidden": ffn,
        "ffn_out": added or ffn,
        "attn_out": attention,
        "hidden": "",
    }
    sites = {
        k: p if p is None else f"{block}.{p}".rstrip(".") for k, p in inside.items()
    }
    qk = "attention" if attention else None
    return {**sites, "qk": qk, **others}


_DOWN = ("model.layers.{}", "mlp.down_proj")
_NORM = "post_feedforward_layernorm"
OTHERS = {
    "gemma2": (t.Gemma2ForCausalLM, t.Gemma2Config, WIDE, _sites(*_DOWN, added=_NORM)),
    "olmo3": (t.Olmo3ForCausalLM, t.Olmo3Config, SMALL, _sites(*_DOWN, added=_NORM)),
    "exaone4": (
        *(t.Exaone4ForCausalLM, t.Exaone4Config, SMALL),
        _sites(*_DOWN, added=_NORM),
    ),
    "glm4": (
        *(t.Glm4ForCausalLM, t.Glm4Config, WIDE),
        _sites(*_DOWN, added="post_mlp_layernorm"),
    ),
    "gemma3n": (
        *(t.Gemma3nForCausalLM, t.Gemma3nTextConfig),
        {**PER_LAYER, **FULL, "laurel_rank": 4, "intermediate_size": [40] * 3}
        | {"activation_sparsity_pattern": [0.5, 0.0, 0.0]},
        # its stream is four streams
        _sites(*_DOWN, added=_NORM, hidden=None),
    ),
    "gemma4": (
        *(t.Gemma4ForCausalLM, t.Gemma4TextConfig),
        {**PER_LAYER, "global_head_dim": 6, "layer_types": LOCAL[:1] * 2 + LOCAL[1:2]},
        _sites(*_DOWN, added=_NORM),
    ),
    "gemma4 with experts": (
        *(t.Gemma4ForCausalLM, t.Gemma4TextConfig),
        {**PER_LAYER, **MOE, "global_head_dim": 6, "hidden_size_per_layer_input": 0}
        | {"layer_types": LOCAL[:1] * 2 + LOCAL[1:2], "enable_moe_block": True}
        | {"top_k_experts": 2},
        # experts and a dense layer are added up
        _sites("model.layers.{}", None),
    ),
    "falcon h1": (
        *(t.FalconH1ForCausalLM, t.FalconH1Config),
        {**SMALL, **MAMBA, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8},
        _sites("model.layers.{}", "feed_forward.down_proj"),
    ),
    "bamba": (
        *(t.BambaForCausalLM, t.BambaConfig),
        {**SMALL, **MAMBA, "attn_layer_indices": [1], "mamba_n_heads": 6}
        | {"mamba_d_head": 8},
        _sites("model.layers.{}", "feed_forward.down_proj", None),
    ),
    "mamba": (
        *(t.MambaForCausalLM, t.MambaConfig),
        {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3, "state_size": 8},
        _sites("backbone.layers.{}", None, None),
    ),
    "mamba2": (
        *(t.Mamba2ForCausalLM, t.Mamba2Config),
        {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3, **STATE}
        | {"num_heads": 6, "head_dim": 8},
        _sites("backbone.layers.{}", None, None),
    ),
    "mobilebert": (
        *(t.MobileBertModel, t.MobileBertConfig),
        {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 40}
        | {"intra_bottleneck_size": 16, "num_hidden_layers": 3, "embedding_size": 16}
        | {"num_attention_heads": 4},
        _sites("encoder.layer.{}", None, "attention.output.dense"),
    ),
    "flaubert": (
        *(t.FlaubertModel, t.FlaubertConfig, {**XLM, "pre_norm": False}),
        _sites("layer_norm2.{}", None, None),
    ),
    "xlm": (t.XLMModel, t.XLMConfig, XLM, _sites("layer_norm2.{}", None, None)),
    "xlnet": (
        *(t.XLNetModel, t.XLNetConfig),
        {"vocab_size": 50, "d_model": 24, "n_layer": 3, "n_head": 4, "d_inner": 40},
        _sites("layer.{}", None, None, hidden=None),
    ),
    "llama4": (
        *(t.Llama4ForCausalLM, t.Llama4TextConfig),
        {**WIDE, **FULL, "num_local_experts": 4, "num_experts_per_tok": 1},
        _sites("model.layers.{}", None, ffn_out="model.layers.{}.feed_forward"),
    ),
    "qwen3 moe": (
        *(t.Qwen3MoeForCausalLM, t.Qwen3MoeConfig, {**WIDE, **MOE}),
        _sites("model.layers.{}", "mlp", ffn_hidden="experts"),
    ),
    "gpt oss": (
        *(t.GptOssForCausalLM, t.GptOssConfig, {**SMALL, **MOE, **FULL, "head_dim": 8}),
        _sites("model.layers.{}", "mlp", ffn_hidden="experts"),
    ),
    "granite moe, shared": (
        *(t.GraniteMoeSharedForCausalLM, t.GraniteMoeSharedConfig),
        {**SMALL, **MOE, "shared_intermediate_size": 32},
        _sites("model.layers.{}", None),
    ),
    "switch": (
        *(t.SwitchTransformersEncoderModel, t.SwitchTransformersConfig),
        {"vocab_size": 50, "d_model": 24, "d_ff": 40, "num_layers": 3, "num_heads": 4}
        | {"d_kv": 6, "num_experts": 4, "num_sparse_encoder_layers": 3},
        _sites("encoder.block.{}", None, "layer.0.SelfAttention.o"),
    ),
    # a norm lies before the output projection of its attention
    "bitnet": (
        t.BitNetForCausalLM,
        t.BitNetConfig,
        SMALL,
        _sites(*_DOWN, attn_out="attention"),
    ),
    "modernbert": (
        *(t.ModernBertModel, t.ModernBertConfig),
        {**PLAIN, "cls_token_id": 1, "sep_token_id": 2},
        _sites("layers.{}", "mlp.Wo", "attn.Wo"),
    ),
    "gptj": (
        *(t.GPTJForCausalLM, t.GPTJConfig, {**OLD, "rotary_dim": 4}),
        _sites("transformer.h.{}", "mlp.fc_out", "attn.out_proj"),
    ),
    "gpt neo": (
        *(t.GPTNeoForCausalLM, t.GPTNeoConfig),
        {"vocab_size": 50, "hidden_size": 24, "num_layers": 3, "num_heads": 4}
        | {"attention_types": [[["global", "local", "global"], 1]]},
        _sites("transformer.h.{}", "mlp.c_proj", "attn.attention.out_proj"),
    ),
    "bloom": (
        *(t.BloomForCausalLM, t.BloomConfig),
        {"vocab_size": 50, "hidden_size": 24, "n_layer": 3, "n_head": 4},
        _sites("transformer.h.{}", "mlp.dense_4h_to_h", "self_attention.dense"),
    ),
    "stablelm": (
        *(t.StableLmForCausalLM, t.StableLmConfig, {**SMALL, "hidden_size": 32}),
        _sites(*_DOWN),
    ),
    "gemma3 with eyes": (
        *(t.Gemma3ForConditionalGeneration, t.Gemma3Config),
        {
            "text_config": {**WIDE, **FULL},
            "vision_config": {
                **{"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3},
                **{"num_attention_heads": 4, "image_size": 28, "patch_size": 14},
            },
        },
        _sites("model.language_model.layers.{}", "mlp.down_proj", added=_NORM),
    ),
    # two attentions in a layer
    "diffllama": (
        *(t.DiffLlamaForCausalLM, t.DiffLlamaConfig, SMALL),
        _sites(*_DOWN, None),
    ),
    # heads are scaled by a sink after their product with the values
    "granite swa": (
        *(t.GraniteSWAForCausalLM, t.GraniteSWAConfig),
        {**SMALL, "layer_types": LOCAL, "sliding_window": 4},
        _sites(*_DOWN, None, qk="attention"),
    ),
    # experts in attention, too
    "jetmoe": (
        *(t.JetMoeForCausalLM, t.JetMoeConfig),
        {**SMALL, **MOE, "kv_channels": 6},
        _sites("model.layers.{}", None, None),
    ),
    # experts looked up in an embedding; they know of later tokens
    "doge with experts": (
        *(t.DogeForCausalLM, t.DogeConfig),
        {**SMALL, "is_moe": True, "num_experts": 16, "num_experts_per_tok": 2},
        _sites("model.layers.{}", None),
    ),
    "lilt": (
        *(t.LiltModel, t.LiltConfig, {**PLAIN, "channel_shrink_ratio": 2}),
        _sites("encoder.layer.{}", "output.dense", None),
    ),
    "rwkv": (
        *(t.RwkvForCausalLM, t.RwkvConfig),
        {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3},
        _sites("rwkv.blocks.{}", None, None),
    ),
}


def make_other(name):
    """A model of ``OTHERS``, in evaluation mode."""
    model_class, config, options, _ = OTHERS[name]
    torch.manual_seed(0)
    return model_class._from_config(config(**options)).eval().requires_grad_(False)


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
