import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

from anbn import neurons

IDS = torch.arange(1, 13)[None]


def forward(model, modules):
    """Inputs of some modules in a forward pass, and the neurons captured in it."""
    inputs = []
    handles = [
        m.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        for m in modules
    ]
    with torch.inference_mode(), neurons.capture(model, neurons.KINDS) as captured:
        model(IDS)
    for handle in handles:
        handle.remove()
    assert len(inputs) == len(captured["ffn_hidden"]) == len(captured["ffn_out"])
    return zip(inputs, captured["ffn_hidden"], captured["ffn_out"], strict=True)


def test_llama_activations_equal_a_recomputation(llama):
    mlps = [layer.mlp for layer in llama.model.model.layers]
    found = forward(llama.model, mlps)
    for mlp, (x, hidden, out) in zip(mlps, found, strict=True):
        expected = torch.nn.functional.silu(mlp.gate_proj(x)) * mlp.up_proj(x)
        assert torch.equal(hidden, expected)
        assert torch.equal(out, mlp.down_proj(expected))
    assert neurons.count_neurons(llama.model, "ffn_hidden") == (2, 40)
    assert neurons.count_neurons(llama.model, "ffn_out") == (2, 24)


def test_bert_activations_equal_a_recomputation(bert):
    blocks = bert.model.encoder.layer
    found = forward(bert.model, [block.intermediate for block in blocks])
    for block, (x, hidden, out) in zip(blocks, found, strict=True):
        expected = torch.nn.functional.gelu(block.intermediate.dense(x))
        assert torch.equal(hidden, expected)
        assert torch.equal(out, block.output.dense(expected))


def test_gpt2_stores_its_weights_transposed():
    config = GPT2Config(n_layer=2, n_embd=24, n_head=4, vocab_size=20)
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    assert neurons.count_neurons(model, "ffn_hidden") == (2, 96)
    mlps = [block.mlp for block in model.transformer.h]
    for mlp, (x, hidden, out) in zip(mlps, forward(model, mlps), strict=True):
        assert torch.equal(hidden, mlp.act(mlp.c_fc(x)))
        assert torch.equal(out, mlp.c_proj(hidden))


def test_hooks_change_nothing_and_are_gone_after_an_error(llama):
    model = llama.model
    with torch.inference_mode():
        plain = model(IDS).logits
        with neurons.capture(model, neurons.KINDS):
            assert torch.equal(model(IDS).logits, plain)
        with pytest.raises(RuntimeError), neurons.capture(model, neurons.KINDS):
            raise RuntimeError
        with (
            pytest.raises(RuntimeError),
            neurons.edit(model, "ffn_out", {0: torch.zeros_like}),
        ):
            raise RuntimeError
        assert torch.equal(model(IDS).logits, plain)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("kind", neurons.KINDS)
def test_edit_changes_one_layer(llama, kind):
    model = llama.model
    with torch.inference_mode(), neurons.edit(model, kind, {1: lambda x: 2 * x}):
        with neurons.capture(model, [kind]) as captured:
            model(IDS)
        with neurons.capture(model, [kind]) as again:
            model(IDS)
    assert torch.equal(captured[kind][0], again[kind][0])
    with torch.inference_mode(), neurons.capture(model, [kind]) as plain:
        model(IDS)
    np.testing.assert_allclose(captured[kind][1], 2 * plain[kind][1], rtol=1e-6)


def test_unknown_structures_and_kinds_say_what_was_found(llama):
    odd = torch.nn.Sequential(torch.nn.Linear(3, 3))
    with pytest.raises(neurons.StructureError, match="found none among"):
        neurons.find_blocks(odd)
    config = BertConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=4)
    odd = BertModel(config)
    odd.encoder.layer[0].output = torch.nn.Identity()
    with pytest.raises(neurons.StructureError, match="block 0: looked for a linear"):
        neurons.find_second_ffn(odd)
    with pytest.raises(ValueError, match="expected one of ffn_hidden, ffn_out"):
        neurons.count_neurons(llama.model, "ffn")
