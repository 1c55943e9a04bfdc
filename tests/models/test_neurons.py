import numpy as np
import pytest
import torch
from families import FAMILIES, IDS, captured, make
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    XLNetConfig,
    XLNetModel,
)

from anbn.models import attention, neurons
from anbn.models.structure import StructureError, find_blocks, find_sites


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def inputs_of(model, modules):
    """What some modules are given in a plain pass."""
    found = {}
    handles = [
        m.register_forward_pre_hook(lambda m, args: found.setdefault(m, args[0]))
        for m in modules
    ]
    with torch.inference_mode():
        model(IDS)
    for handle in handles:
        handle.remove()
    return [found[m] for m in modules]


def test_feed_forward_neurons_equal_a_recomputation(family):
    model, parts = make(family), FAMILIES[family]
    blocks = find_blocks(model)
    found = captured(model)
    given = inputs_of(model, [block.get_submodule(parts.ffn) for block in blocks])
    for i, (block, x) in enumerate(zip(blocks, given, strict=True)):
        if family == "mixtral":
            hidden, out = mixture(block.mlp, x)
        else:
            first, *second = [block.get_submodule(path)(x) for path in parts.up]
            hidden = block.get_submodule(parts.act)(first)
            hidden = hidden * second[0] if second else hidden
            out = block.get_submodule(parts.down)(hidden)
            out = block.get_submodule(parts.added)(out) if parts.added else out
        assert torch.equal(found["ffn_hidden"][i], hidden.view(*IDS.shape, -1))
        assert torch.equal(found["ffn_out"][i], out.view(*IDS.shape, -1))
        assert found["ffn_hidden"][i].abs().sum() > 0
    counts = {k: neurons.count_neurons(model, k) for k in neurons.KINDS}
    assert counts == {k: (3, found[k].shape[-1]) for k in neurons.KINDS}
    assert counts["ffn_hidden"][1] == {"gpt2": 96, "mixtral": 160}.get(family, 40)


def mixture(mlp, x):
    """A mixture of experts, token by token routed; units of all experts, and output."""
    experts, x = mlp.experts, x.flatten(0, 1)
    _, weights, index = mlp.gate(x)
    units = torch.zeros(len(x), *experts.down_proj.shape[::2])
    out = torch.zeros_like(x)
    for e in range(4):
        rows, rank = (index == e).nonzero(as_tuple=True)
        gate, up = (x[rows] @ experts.gate_up_proj[e].T).chunk(2, -1)
        units[rows, e] = torch.nn.functional.silu(gate) * up
        given = units[rows, e] @ experts.down_proj[e].T
        out[rows] += weights[rows, rank, None] * given
    assert (units.abs().sum(-1) > 0).sum(1).tolist() == [2] * len(x)
    return units.flatten(1), mlp(x[None])[0]


def test_attention_and_residual_stream_equal_the_models_own(family):
    model, parts = make(family), FAMILIES[family]
    blocks = find_blocks(model)
    found = captured(model, ["attn_out", "hidden"])
    given = inputs_of(model, [block.get_submodule(parts.attn_out) for block in blocks])
    assert torch.equal(found["attn_out"], torch.stack(given).view(3, *IDS.shape, -1))
    with torch.inference_mode():
        states = model.base_model(IDS, output_hidden_states=True).hidden_states
    assert torch.equal(
        found["hidden"][:2], torch.stack(states[1:3])
    )  # the last: normed
    names = {m: n for n, m in model.named_modules()}
    pattern = names[blocks[0].get_submodule(parts.attn_out)].replace(".0.", ".*.", 1)
    named = captured(model, ["attn_out"], modules={"attn_out": pattern})
    assert torch.equal(named["attn_out"], found["attn_out"])


def test_qk_sums_to_the_attention_logits(family, monkeypatch):
    model = make(family, attn_implementation="eager")
    for name, weight in model.named_parameters():
        if "relative_attention_bias" in name:
            weight.zero_()  # a position bias is no product of query and key
    seen, softmax = [], torch.nn.functional.softmax

    def watched(x, *args, **kwargs):
        if x.dim() == 4:
            seen.append(x.clone())
        return softmax(x, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "softmax", watched)
    with torch.inference_mode():
        model(IDS)
    monkeypatch.undo()
    logits = torch.stack(seen)  # (layer, batch, head, query, key)
    attended = logits > torch.finfo(torch.float32).min / 2
    mean = logits.where(attended, 0).sum(-1) / attended.sum(-1)
    for implementation in ("eager", "sdpa"):
        if family == "mpnet" and implementation == "sdpa":
            continue  # has none
        other = make(family, attn_implementation=implementation)
        other.load_state_dict(model.state_dict())
        qk = captured(other, ["qk"])["qk"].unflatten(-1, (4, -1))
        np.testing.assert_allclose(qk.sum(-1).transpose(2, 3), mean, atol=1e-5)


def test_capture_changes_nothing_and_is_gone_after_an_error(family):
    model = make(family)
    with torch.inference_mode():
        plain = model(IDS)[0]
        with neurons.capture(model, neurons.KINDS, lambda *_: None):
            assert torch.equal(model(IDS)[0], plain)
        failing = [neurons.capture(model, neurons.KINDS, lambda *_: 1 / 0)]
        failing += [neurons.edit(model, k, {1: lambda _: 1 / 0}) for k in neurons.KINDS]
        for context in failing:
            with pytest.raises(ZeroDivisionError), context:
                model(IDS)
        assert torch.equal(model(IDS)[0], plain)
    hooks = [h for m in model.modules() for h in m._forward_hooks.values()]
    hooks += [h for m in model.modules() for h in m._forward_pre_hooks.values()]
    assert not [h for h in hooks if h.__module__.startswith("anbn")]


@pytest.mark.parametrize("kind", neurons.KINDS)
def test_edit_changes_the_layer_it_is_told_to(family, kind):
    model = make(family)
    with torch.inference_mode():
        plain = model(IDS)[0]
        with neurons.edit(model, kind, {1: torch.clone}):
            np.testing.assert_allclose(model(IDS)[0], plain, atol=1e-6)
        with neurons.edit(model, kind, {1: lambda x: 2 * x}):
            twice = captured(model, [kind])[kind]
            assert not torch.equal(model(IDS)[0], plain)
        with neurons.edit(model, kind, {}):
            assert torch.equal(model(IDS)[0], plain)
    # where neurons are shown before they are edited, the edit cannot be seen
    if kind not in ("qk", "attn_out") and (family, kind) != ("mixtral", "ffn_hidden"):
        once = captured(model, [kind])[kind]
        assert torch.equal(twice[0], once[0])
        np.testing.assert_allclose(twice[1], 2 * once[1], rtol=1e-6)


def test_silenced_attention_equals_zero_weights():
    model, edited = make("llama"), make("llama")
    for kind, name in [("qk", "q_proj"), ("attn_out", "o_proj")]:
        getattr(edited.model.layers[1].self_attn, name).weight.zero_()
        with torch.inference_mode(), neurons.edit(model, kind, {1: torch.zeros_like}):
            np.testing.assert_allclose(model(IDS)[0], edited(IDS)[0], atol=1e-6)
        edited.load_state_dict(model.state_dict())


def test_chosen_layers_and_one_token():
    model = make("llama")
    every, some = captured(model), captured(model, layers=[2, 0])
    for kind in neurons.KINDS:
        assert torch.equal(some[kind], every[kind][[2, 0]])
    # transformers packs the grouped queries of a single token
    one = captured(model, ids=IDS[:, :1])
    for kind in neurons.KINDS:
        first = every[kind][:, :, :1]
        np.testing.assert_allclose(one[kind], first, atol=1e-6)
    with pytest.raises(ValueError, match=r"layers must be .* 0 to 2, found \[3\]"):
        captured(model, ["ffn_out"], layers=[3])
    with pytest.raises(ValueError, match=r"0 to 2, found \[1, 1\]"):
        captured(model, ["qk"], layers=[1, 1])


@pytest.mark.parametrize("pooling", attention.POOLINGS)
@pytest.mark.parametrize("which", ["causal", "all", "bool", "float"])
def test_query_key_equals_the_naive_loop(pooling, which, rng):
    q, k = (torch.tensor(rng.normal(size=(2, 3, 5, 4))).float() for _ in "qk")
    seen = torch.ones(2, 1, 5, 5, dtype=bool)
    bias = None
    if which == "causal":
        seen = seen.tril()
    elif which != "all":
        seen[0, :, :, 3:] = False  # padding
        bias = seen
    extra = torch.zeros(2, 3, 5, 5)
    if which == "float":
        extra = torch.tensor(rng.normal(size=(2, 3, 5, 5))).float()
        bias = extra.masked_fill(~seen, torch.finfo(torch.float32).min)
    found = attention.query_key(q, k, bias, which == "causal", 0.5, pooling)
    for b, h, i, d in np.ndindex(2, 3, 5, 4):
        keys = [j for j in range(5) if seen[b, 0, i, j]]
        logits = np.array([0.5 * q[b, h, i] @ k[b, h, j] for j in keys])
        products = np.array([0.5 * q[b, h, i, d] * k[b, h, j, d] for j in keys])
        weights = np.exp(logits + extra[b, h, i, keys].numpy())
        expected = {
            "mean": products.mean(),
            "max": products.max(),
            "attention": (weights * products).sum() / weights.sum(),
        }
        assert found[b, i, 4 * h + d] == pytest.approx(expected[pooling], abs=1e-5)
    with pytest.raises(ValueError, match="qk_pooling must be one of mean, attention"):
        attention.query_key(q, k, None, True, 1.0, "median")


def test_modules_named_by_hand():
    model = make("opt")
    paths = {"ffn_hidden": "model.decoder.layers.*.fc2"}
    paths["ffn_out"] = paths["ffn_hidden"]
    found, named = captured(model), captured(model, modules=paths)
    for kind in neurons.KINDS:
        assert torch.equal(named[kind], found[kind])
    with torch.inference_mode():
        edits = {2: lambda x: 0 * x}
        with neurons.edit(model, "ffn_out", edits, modules=paths):
            assert not captured(model, ["ffn_out"])["ffn_out"][2].any()
    for kind, paths, words in (
        ("ffn_out", {"ffn_out": "x.*"}, r"called 'x\.\*' \(for ffn_out\)"),
        ("ffn_out", {"qk": "x.*"}, "qk has no module of its own"),
        ("ffn_out", {"fnn": "x.*"}, "'fnn': expected one of ffn_hidden"),
        ("hidden", {"hidden": "*.layers.*.fc*"}, r"names 6 modules .* has 3 layers"),
    ):
        with pytest.raises(ValueError, match=words):
            neurons.count_neurons(model, kind, modules=paths)


def test_unknown_structures_say_what_was_looked_for_and_found():
    odd = torch.nn.Sequential(torch.nn.Linear(3, 3))
    odd.config = BertConfig()
    with pytest.raises(StructureError, match=r"found none among \['Linear'\].*modules"):
        find_blocks(odd)
    model = make("bert")
    model.encoder.layer[0].intermediate = torch.nn.Identity()
    model.encoder.layer[0].output.dense = torch.nn.Identity()
    with pytest.raises(StructureError, match=r"block 0: looked.*found 0.*\{.*modules"):
        find_sites(model, "ffn_hidden")
    with pytest.raises(ValueError, match="expected one of ffn_hidden, ffn_out, qk"):
        neurons.count_neurons(model, "ffn")
    for kinds in ([], ["qk", "qk"]):
        with pytest.raises(ValueError, match="one or more different kinds"):
            neurons.check_kinds(kinds)
    small = {"d_model": 24, "n_layer": 2, "n_head": 4, "vocab_size": 50}
    xlnet = XLNetModel(XLNetConfig(**small)).eval()  # multiplies by einsum
    for kind in ("qk", "attn_out"):
        with pytest.raises(StructureError, match=r"block 0: looked for attention as"):
            neurons.count_neurons(xlnet, kind)
        with (
            pytest.raises(StructureError, match="looked for attention as"),
            neurons.edit(xlnet, kind, {1: torch.zeros_like}),
        ):
            xlnet(IDS)
    albert = AlbertModel(
        AlbertConfig(hidden_size=24, num_attention_heads=4, intermediate_size=40)
    )
    with pytest.raises(StructureError, match="layers share one module"):
        neurons.count_neurons(albert, "ffn_hidden")


def test_layers_of_different_widths():
    model = make("bert")
    wide = BertModel(BertConfig(hidden_size=24, intermediate_size=56))
    model.encoder.layer[1] = wide.encoder.layer[0]
    with pytest.raises(StructureError, match=r"ffn_hidden: \[40, 56\]. Choose layers"):
        neurons.count_neurons(model, "ffn_hidden")
    assert neurons.count_neurons(model, "ffn_hidden", layers=[0, 2]) == (2, 40)
