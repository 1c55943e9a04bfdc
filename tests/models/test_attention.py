"""Which keys a token attends to, and the scale of its products, in every attention."""

import math

import numpy as np
import pytest
import torch
import transformers as t
from families import (
    FAMILIES,
    LOCAL,
    OWN_NAMES,
    PLAIN,
    SMALL,
    WINDOWS,
    Family,
    captured,
    make,
)

from anbn.masking import intervene
from anbn.models import attention, neurons
from anbn.models.structure import StructureError, find_blocks

IDS = torch.arange(3, 27).view(2, 12)
GPT = {**OWN_NAMES, "n_layer": 3, "n_embd": 24, "n_head": 4, "n_positions": 64}
ROTARY = {**GPT, "rotary_dim": 6, "tie_word_embeddings": False}
NEO = {**OWN_NAMES, "num_layers": 3, "hidden_size": 24, "num_heads": 4}
NEO |= {"attention_types": [[["global", "local", "local"], 1]], "window_size": 4}
CAPPED = {**SMALL, **WINDOWS, "layer_types": LOCAL, "attn_logit_softcapping": 2.0}
MPT = {**OWN_NAMES, "d_model": 24, "n_layers": 3, "n_heads": 4, "max_seq_len": 64}
ALIBI = {**PLAIN, "ffn_hidden_size": 40, "alibi": True, "multi_query": False}
SINKS = {**SMALL, "head_dim": 8, "sliding_window": 4, "layer_types": LOCAL}
XGLM = {**OWN_NAMES, "d_model": 24, "ffn_dim": 40, "num_layers": 3}
CTRL = {"vocab_size": 50, "n_embd": 24, "dff": 40, "n_layer": 3, "n_head": 4}
RELATIVE = {**PLAIN, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
LENGTH = {"max_position_embeddings": 64}
MORE = {
    "gpt1": (t.OpenAIGPTLMHeadModel, t.OpenAIGPTConfig, GPT, "attn.c_proj"),
    "codegen": (t.CodeGenForCausalLM, t.CodeGenConfig, ROTARY, "attn.out_proj"),
    "gptj": (t.GPTJForCausalLM, t.GPTJConfig, ROTARY, "attn.out_proj"),
    "gpt_neo": (
        *(t.GPTNeoForCausalLM, t.GPTNeoConfig, {**NEO, **LENGTH}),
        "attn.attention.out_proj",
    ),
    "gemma2": (
        *(t.Gemma2ForCausalLM, t.Gemma2Config),
        *({**CAPPED, "query_pre_attn_scalar": 16}, "self_attn.o_proj"),
    ),
    "bloom": (
        *(t.BloomForCausalLM, t.BloomConfig),
        {**OWN_NAMES, "hidden_size": 24, "n_layer": 3, "n_head": 4},
        "self_attention.dense",
    ),
    "mpt": (t.MptForCausalLM, t.MptConfig, MPT, "attn.out_proj"),
    "falcon_alibi": (
        *(t.FalconForCausalLM, t.FalconConfig),
        *({**ALIBI, "new_decoder_architecture": False}, "self_attention.dense"),
    ),
    "gpt_oss": (
        *(t.GptOssForCausalLM, t.GptOssConfig),
        {**SINKS, "num_local_experts": 4, "num_experts_per_tok": 2},
        "self_attn.o_proj",
    ),
    "xglm": (
        *(t.XGLMForCausalLM, t.XGLMConfig),
        *({**XGLM, "attention_heads": 4, **LENGTH}, "self_attn.out_proj"),
    ),
    "biogpt": (
        *(t.BioGptForCausalLM, t.BioGptConfig),
        *({**PLAIN, **LENGTH}, "self_attn.out_proj"),
    ),
    "ctrl": (
        *(t.CTRLLMHeadModel, t.CTRLConfig),
        *({**CTRL, "n_positions": 64}, "multi_head_attention.dense"),
    ),
    "deberta2": (
        *(t.DebertaV2Model, t.DebertaV2Config),
        *({**RELATIVE, "position_buckets": 8, **LENGTH}, "attention.output.dense"),
    ),
}
MORE = {name: Family(*parts, attn_out=out) for name, (*parts, out) in MORE.items()}
BIDIRECTIONAL = ("bert", "roberta", "distilbert", "mpnet", "t5", "deberta2")


@pytest.fixture(autouse=True)
def with_more(monkeypatch):
    for name, family in MORE.items():
        monkeypatch.setitem(FAMILIES, name, family)


def loaded(name, implementation):
    if implementation == "sdpa" and not FAMILIES[name].model._supports_sdpa:
        pytest.skip(f"{name} has no sdpa attention")
    model = make(name, attn_implementation=implementation)
    for module in model.modules():  # weights of .02 leave attention nearly flat
        if isinstance(module, torch.nn.Linear | t.pytorch_utils.Conv1D):
            module.weight.mul_(8)
    return model


def kinds_of(model):
    """Kinds that can be read; those that cannot are refused, as other tests see."""
    found = []
    for kind in neurons.KINDS:
        try:
            neurons.count_neurons(model, kind)
        except StructureError:
            continue
        found.append(kind)
    return found


@pytest.mark.parametrize("pooling", attention.POOLINGS)
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("name", [*FAMILIES, *MORE])
def test_no_earlier_position_moves_with_the_last_token(name, implementation, pooling):
    model = loaded(name, implementation)
    kinds = kinds_of(model)
    assert {"qk", "attn_out"} <= {*kinds}
    kinds = kinds if pooling == "mean" else ["qk"]
    other = IDS.clone()
    other[:, -1] = 40
    found, moved = (captured(model, kinds, i, qk_pooling=pooling) for i in (IDS, other))
    for kind in kinds:
        assert not torch.allclose(found[kind][..., -1, :], moved[kind][..., -1, :])
        before = found[kind][..., :-1, :], moved[kind][..., :-1, :]
        if name not in BIDIRECTIONAL:
            torch.testing.assert_close(*before, atol=1e-5, rtol=1e-5, msg=kind)
        elif kind == "qk":
            assert not torch.allclose(*before, atol=1e-3)


def heads_of(x):
    return x.unflatten(-1, (4, -1)).transpose(1, 2)  # (batch, head, token, dimension)


def split_in_three(x):
    return [heads_of(part) for part in x.chunk(3, -1)[:2]]


def bloom_split(x):
    fused = x.unflatten(-1, (4, 3, -1))
    return [fused[..., i, :].transpose(1, 2) for i in (0, 1)]


# module whose output holds queries and keys, and how they are told apart
FUSED = {
    "gpt1": ("attn.c_attn", split_in_three),
    "mpt": ("attn.Wqkv", split_in_three),
    "bloom": ("self_attention.query_key_value", bloom_split),
    "falcon_alibi": ("self_attention.query_key_value", bloom_split),
}
SEPARATE = {
    "gpt_neo": "attn.attention.{}_proj",
    "xglm": "self_attn.{}_proj",
    "biogpt": "self_attn.{}_proj",
}
ROTATED = ("codegen", "gptj", "gemma2", "gpt_oss", "llama", "mistral")
SCALES = {"gpt_neo": 1.0, "gemma2": 16**-0.5}  # others: 1 / sqrt(n_dimensions)
WINDOWED = {
    "gemma2": (0, 2),
    "gpt_oss": (0, 2),
    "gpt_neo": (1, 2),
    "mistral": (0, 1, 2),
}


def queries_and_keys(name, model, monkeypatch, **given):
    """Of every layer, as the model's own modules or rotary function give them."""
    found = []
    if name in ROTATED:
        module = __import__(type(model).__module__, fromlist=["apply_rotary_pos_emb"])
        rotate = module.apply_rotary_pos_emb

        def watched(*args, **kwargs):
            rotated = rotate(*args, **kwargs)
            found.append(rotated)
            return rotated

        monkeypatch.setattr(module, "apply_rotary_pos_emb", watched)
        with torch.inference_mode():
            model(**given)
        monkeypatch.undo()
        if torch.is_tensor(found[0]):  # key, then query; tokens before heads
            pairs = [x.transpose(1, 2) for x in found]
            return [(q, k) for k, q in zip(pairs[::2], pairs[1::2], strict=True)]
        return [(q, k.repeat_interleave(4 // k.shape[1], 1)) for q, k in found]
    outputs = {}
    for i, block in enumerate(find_blocks(model)):
        paths = [FUSED[name][0]] if name in FUSED else []
        paths = paths or [SEPARATE[name].format(x) for x in "qk"]
        for j, path in enumerate(paths):
            block.get_submodule(path).register_forward_hook(
                lambda m, a, out, at=(i, j): outputs.__setitem__(at, out)
            )
    with torch.inference_mode():
        model(**given)
    for module in model.modules():
        module._forward_hooks.clear()
    if name in FUSED:
        return [FUSED[name][1](outputs[i, 0]) for i in range(3)]
    return [[heads_of(outputs[i, j]) for j in (0, 1)] for i in range(3)]


def naive(name, pairs, real):
    """Mean product over the keys attended, token by token; NaN at padding."""
    batch, n = real.shape
    layers = []
    for layer, (q, k) in enumerate(pairs):
        q, k = q.double().numpy(), k.double().numpy()
        scale = SCALES.get(name, 1 / math.sqrt(q.shape[-1]))
        window = 4 if layer in WINDOWED.get(name, ()) else n
        expected = np.full((batch, n, 4, q.shape[-1]), np.nan)
        for b, i in zip(*real.nonzero(as_tuple=True), strict=True):
            keys = [j for j in range(max(0, i - window + 1), i + 1) if real[b, j]]
            for head in range(4):
                products = [scale * q[b, head, i] * k[b, head, j] for j in keys]
                expected[b, i, head] = np.mean(products, axis=0)
        layers.append(expected.reshape(batch, n, -1))
    return np.stack(layers)


@pytest.mark.parametrize("padding", ["none", "left", "right"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("name", [*FUSED, *SEPARATE, *ROTATED])
def test_products_equal_a_naive_recomputation(
    name, implementation, padding, monkeypatch
):
    model = loaded(name, implementation)
    real = torch.ones_like(IDS, dtype=bool)
    if padding != "none":
        real[0, slice(0, 5) if padding == "left" else slice(7, None)] = False
    given = {"input_ids": IDS, "attention_mask": real.long()}
    pairs = queries_and_keys(name, model, monkeypatch, **given)
    found = {}
    with (
        torch.inference_mode(),
        neurons.capture(model, ["qk"], lambda _, i, x: found.setdefault(i, x)),
    ):
        model(**given)
    found = torch.stack([found[i] for i in range(3)])[:, real]
    expected = naive(name, pairs, real)[:, real.numpy()]
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", [*FUSED, *SEPARATE, *ROTATED])
def test_low_precision_masks_are_masks(name, dtype):
    """Smallest numbers of 16 bits, divided by a scale or not, hide keys as well."""
    for implementation in ["eager", "sdpa"][: 1 + FAMILIES[name].model._supports_sdpa]:
        model = loaded(name, implementation)
        full = captured(model, ["qk"])["qk"]
        low = captured(model.to(dtype), ["qk"])["qk"]
        assert np.corrcoef(full.flatten(), low.float().flatten())[0, 1] > 0.99


@pytest.mark.parametrize("name", MORE)
def test_silenced_heads_equal_zero_weights(name, rng):
    model, other = loaded(name, "eager"), loaded(name, "eager")
    shape = neurons.count_neurons(model, "attn_out")
    mask = rng.random(shape) < 0.5
    for i, block in enumerate(find_blocks(other)):
        out = block.get_submodule(FAMILIES[name].attn_out)
        weight = out.weight if isinstance(out, t.pytorch_utils.Conv1D) else out.weight.T
        weight[mask[i]] = 0
    with torch.inference_mode():
        plain, expected = model(IDS)[0], other(IDS)[0]
        with intervene.silence(model, mask, "attn_out"):
            torch.testing.assert_close(model(IDS)[0], expected, atol=1e-5, rtol=1e-4)
        every = np.ones(neurons.count_neurons(model, "qk"), bool)
        with intervene.silence(model, every, "qk"):
            assert not torch.allclose(model(IDS)[0], plain, atol=1e-4)
        with intervene.amplify(model, every, "qk", factor=1.0):
            torch.testing.assert_close(model(IDS)[0], plain)


def manner(order, q, k, causal, bias):
    """Logits as models make them, in as many manners."""
    least = torch.finfo(q.dtype).min
    logits = torch.matmul(q, k.transpose(-1, -2))
    mask = torch.zeros(causal.shape, dtype=q.dtype).masked_fill(~causal, least)
    if order == "scaled by a tensor":
        return logits / torch.tensor(2.0, dtype=q.dtype) + mask
    if order == "scaled after the mask":
        return (logits + mask) * 0.5
    if order == "scale on the left":
        return 0.5 * logits + mask
    if order == "masked by ones":
        return logits / 2 * causal + -1e4 * ~causal
    if order == "masked fill":
        return (logits / 2).masked_fill(~causal, float("-inf"))
    if order == "mask on the left":
        return torch.where(~causal, torch.tensor(-1e9, dtype=q.dtype), logits * 0.5)
    if order == "in place":
        logits.mul_(0.5)
        return logits.masked_fill_(~causal, least)
    if order == "soft cap":
        return torch.tanh(logits * 0.5 / 3) * 3 + mask
    if order == "bias before":
        return (logits / 2 + bias).float() + mask
    if order == "bias after":
        return bias + (mask + logits / 2)
    if order == "a scale a head":
        return logits * torch.full((1, 4, 1, 1), 0.5) + mask
    sinks = torch.full((2, 4, 12, 1), 3.0, dtype=q.dtype)
    if order == "sink after":
        joined = torch.cat([logits / 2 + mask, sinks], -1)
        return joined - joined.max(-1, keepdim=True).values
    assert order == "sink before"
    return torch.cat([sinks, logits / 2 + mask], -1)


ORDERS = ["scaled by a tensor", "scaled after the mask", "scale on the left"]
ORDERS += ["masked by ones", "masked fill", "mask on the left", "in place", "soft cap"]
ORDERS += ["bias before", "bias after", "a scale a head", "sink after", "sink before"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pooling", attention.POOLINGS)
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_of_scale_cap_mask_and_bias(order, pooling, dtype, rng):
    q, k = (torch.tensor(rng.normal(size=(2, 4, 12, 5))).to(dtype) for _ in "qk")
    bias = torch.tensor(rng.normal(size=(1, 4, 12, 12))).to(dtype)
    causal = torch.ones(12, 12, dtype=bool).tril()
    causal[:, 3] &= torch.arange(12) == 3  # seen by itself only
    shown = []

    def products(layer, *given):
        shown.append(attention.query_key(*given, pooling))

    with attention.Tap(on_products=products) as tap:
        tap.enter(0, 2, 12)
        logits = manner(order, q, k, causal, bias)
        weights = torch.softmax(logits, -1)
        torch.matmul(weights[..., -12:].to(dtype), k)
        assert tap.layer is None
    (found,) = shown
    logits = logits[..., 1:] if order == "sink before" else logits[..., :12]
    products = 0.5 * q[:, :, :, None].double() * k[:, :, None].double()
    if pooling == "max":
        expected = products.masked_fill(~causal[..., None], -np.inf).amax(3)
    else:
        weights = causal / causal.sum(-1, keepdim=True)
        if pooling == "attention":
            weights = logits.double().masked_fill(~causal, -np.inf).softmax(-1)
        expected = (weights[..., None] * products).sum(3)
    expected = expected.transpose(1, 2).flatten(2)
    atol = 1e-5 if dtype == torch.float32 else 0.03
    np.testing.assert_allclose(found, expected, atol=atol)


def test_what_cannot_be_followed_is_refused():
    class Block(torch.nn.Module):
        def forward(self, x):
            heads = x.unflatten(-1, (4, -1)).transpose(1, 2)
            logits = torch.sinh(heads @ heads.transpose(-1, -2))
            return (logits.softmax(-1) @ heads).transpose(1, 2).flatten(2)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.config = t.LlamaConfig(num_hidden_layers=2)
            self.embed = torch.nn.Embedding(50, 24)
            self.layers = torch.nn.ModuleList([Block(), Block()])

        def forward(self, ids):
            x = self.embed(ids)
            for layer in self.layers:
                x = layer(x)
            return x

    model = Model()
    with pytest.raises(StructureError, match=r"block 0.*went through \['sinh'\]"):
        captured(model, ["qk"])
    assert captured(model, ["attn_out"])["attn_out"].shape == (2, 2, 12, 24)


def test_queries_without_a_key():
    q, k = torch.ones(1, 1, 3, 2), torch.ones(1, 1, 3, 2)
    attended = torch.tensor([[True, False, False], [False] * 3, [True, True, False]])
    for pooling in attention.POOLINGS:
        found = attention.query_key(q, k, attended, False, 1.0, pooling)
        assert found[0, :, 0].tolist() == [1, 0, 1]


def test_queries_after_keys_of_a_cache(rng):
    q, k = (torch.tensor(rng.normal(size=(1, 2, n, 3))).float() for n in (1, 5))
    found = attention.query_key(q, k, None, False, 0.5)
    expected = 0.5 * q * k.mean(2, keepdim=True)
    np.testing.assert_allclose(found[0, 0], expected.flatten(), atol=1e-6)
