import copy

import numpy as np
import pytest
import torch
from families import FAMILIES, IDS, captured, make

from anbn.masking import intervene
from anbn.models import neurons
from anbn.models.neurons import KINDS

SHORT = torch.arange(1, 13)[None]
CAUSAL = [name for name, f in FAMILIES.items() if "Causal" in f.model.__name__]
CAUSAL.append("gpt2")


@pytest.mark.parametrize("kind", ["ffn_hidden", "ffn_out", "attn_out", "hidden"])
def test_silence_sets_only_the_masked_neurons(llama, kind, rng):
    shape = neurons.count_neurons(llama.model, kind)
    mask, mean = rng.random(shape) < 0.3, rng.normal(size=shape).astype(np.float32)
    plain = captured(llama.model, [kind], SHORT)[kind]
    for to in (None, mean):
        with intervene.silence(llama.model, mask, kind, to=to):
            shown = captured(llama.model, [kind], SHORT)[kind]
        for layer, values in enumerate(shown):
            wanted = 0 if to is None else to[layer, mask[layer]]
            assert (values[..., mask[layer]].numpy() == wanted).all()
        first = np.flatnonzero(mask.any(1))[0]
        assert torch.equal(
            shown[first][..., ~mask[first]], plain[first][..., ~mask[first]]
        )


def test_resampling_gives_each_token_another_token(llama, rng):
    kind, mask = "ffn_hidden", np.zeros((2, 40), bool)
    mask[0, :3] = mask[1, 5] = True
    samples = rng.normal(size=(7, 2, 40)).astype(np.float32)
    with intervene.silence(llama.model, mask, kind, to=samples, rng=rng):
        shown = captured(llama.model, [kind], SHORT)[kind].numpy()
    for token in range(SHORT.shape[1]):
        (same,) = [
            s for s in samples if np.array_equal(shown[0, 0, token, :3], s[0, :3])
        ]
        assert shown[1, 0, token, 5] == same[1, 5]  # of one token in all layers
    assert len(np.unique(shown[1, 0, :, 5])) > 3
    mask[0] = False  # nothing to fill in the first layer
    with intervene.silence(llama.model, mask, kind, to=samples, rng=rng):
        shown = captured(llama.model, [kind], SHORT)[kind].numpy()
    assert set(shown[1, 0, :, 5]) <= set(samples[:, 1, 5])


@pytest.mark.parametrize("name", CAUSAL)
def test_resampling_is_the_same_with_a_cache_and_beside_padding(name):
    """What stands in hangs on all that was read, whatever the pass it was read in."""
    model, rng = make(name), np.random.default_rng(1)
    shape = neurons.count_neurons(model, "attn_out")
    mask = rng.random(shape) < 0.5
    samples = rng.normal(size=(50, *shape)).astype(np.float32)

    def silenced():
        rng = np.random.default_rng(2)
        return intervene.silence(model, mask, "attn_out", to=samples, rng=rng)

    row = IDS[:1]
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    options["attention_mask"] = torch.ones_like(row)
    with silenced(), torch.inference_mode():
        fast = model.generate(row, use_cache=True, **options)
        slow = model.generate(row, use_cache=False, **options)
        alone = model(row).logits[0]
        padded = torch.cat([row, torch.zeros_like(row[:, :3])], 1)
        both = torch.cat([padded, padded.flip(1)])
        attended = torch.ones_like(both)
        attended[0, -3:] = 0
        beside = model(both, attention_mask=attended).logits[0, : row.shape[1]]
        again = model(row).logits[0]
    assert torch.equal(fast, slow)
    assert torch.equal(alone, again)
    torch.testing.assert_close(beside, alone, atol=1e-4, rtol=1e-4)


def test_stand_ins_of_tokens_after_padding(llama, rng):
    kind, mask = "ffn_hidden", np.ones((2, 40), bool)
    samples = rng.normal(size=(50, 2, 40)).astype(np.float32)
    row = torch.arange(1, 8)[None]
    left = torch.cat([torch.zeros_like(row[:, :4]), row], 1)
    attended = (torch.arange(11) >= 4).long()[None]
    found = []
    for ids, mask_of_ids in ((row, None), (left, attended)):
        seen = []
        with (
            torch.inference_mode(),
            intervene.silence(
                llama.model, mask, kind, to=samples, rng=np.random.default_rng(3)
            ),
            neurons.capture(llama.model, [kind], lambda *a, s=seen: s.append(a[2])),
        ):
            llama.model(ids, attention_mask=mask_of_ids)
        found.append(torch.stack([one.reshape(-1, 40)[-7:] for one in seen]))
    assert torch.equal(*found)
    hooks = [m for m in llama.model.modules() if m._forward_pre_hooks]
    assert not hooks


def test_amplify_multiplies_and_adds(llama, rng):
    kind, mask = "ffn_out", rng.random((2, 24)) < 0.4
    plain = captured(llama.model, [kind], SHORT)[kind][0]
    with intervene.amplify(llama.model, mask, kind, factor=3.0, plus=0.5):
        shown = captured(llama.model, [kind], SHORT)[kind][0]
    torch.testing.assert_close(shown[..., mask[0]], plain[..., mask[0]] * 3 + 0.5)
    assert torch.equal(shown[..., ~mask[0]], plain[..., ~mask[0]])


@pytest.mark.parametrize(
    ("name", "kind"),
    [  # units of experts have their own test
        (n, k) for n in CAUSAL for k in neurons.KINDS if (n, k) != ("mixtral", KINDS[0])
    ],
)
def test_masks_of_every_family_also_under_generation_with_a_cache(name, kind):
    model, rng = make(name), np.random.default_rng(1)
    mask = rng.random(neurons.count_neurons(model, kind)) < 0.5
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    options["attention_mask"] = torch.ones_like(IDS)
    with intervene.silence(model, mask, kind), torch.inference_mode():
        masked = model(IDS).logits
        fast = model.generate(IDS, use_cache=True, **options)
        slow = model.generate(IDS, use_cache=False, **options)
    assert torch.equal(fast, slow)
    with torch.inference_mode():
        assert not torch.allclose(model(IDS).logits, masked, atol=1e-4)
        with intervene.silence(model, np.zeros_like(mask), kind):
            empty = model(IDS).logits
        assert torch.equal(empty, model(IDS).logits)


def test_units_of_experts_are_silenced():
    model, rng = make("mixtral"), np.random.default_rng(1)
    mask = rng.random(neurons.count_neurons(model, "ffn_hidden")) < 0.5
    other = copy.deepcopy(model)
    for layer, block in enumerate(other.model.layers):
        down = block.mlp.experts.down_proj  # (expert, stream, unit)
        gone = torch.from_numpy(mask[layer].reshape(down.shape[0], 1, -1))
        down.data = down.where(~gone, 0)
    with torch.inference_mode(), intervene.silence(model, mask, "ffn_hidden"):
        masked = model(IDS).logits
    with torch.inference_mode():
        torch.testing.assert_close(masked, other(IDS).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["ffn_out", "qk"])
def test_empty_mask_is_exact_and_errors_leave_no_hook(llama, kind):
    empty = np.zeros((2, 24), bool)
    with torch.inference_mode():
        plain = llama.model(SHORT).logits
        for context in (intervene.silence, intervene.amplify):
            with context(llama.model, empty, kind):
                assert torch.equal(llama.model(SHORT).logits, plain)
        with pytest.raises(KeyError), intervene.silence(llama.model, ~empty, kind):
            raise KeyError
        assert torch.equal(llama.model(SHORT).logits, plain)
        with intervene.keep_only(llama.model, ~empty, kind):
            assert torch.equal(llama.model(SHORT).logits, plain)


@pytest.mark.parametrize("kind", ["ffn_hidden", "qk", "attn_out"])
def test_contexts_nest(llama, kind, rng):
    shape = neurons.count_neurons(llama.model, kind)
    a, b = rng.random((2, *shape)) < 0.3
    with torch.inference_mode():
        with intervene.silence(llama.model, a | b, kind):
            both = llama.model(SHORT).logits
        with (
            intervene.silence(llama.model, a, kind),
            intervene.silence(llama.model, b, kind),
        ):
            nested = llama.model(SHORT).logits
        with (
            intervene.amplify(llama.model, a, kind, factor=2.0),
            intervene.amplify(llama.model, a, kind, factor=0.5),
        ):
            undone = llama.model(SHORT).logits
        assert torch.equal(both, nested)
        torch.testing.assert_close(undone, llama.model(SHORT).logits)


def test_a_mask_of_some_layers(llama, rng):
    mask = rng.random((1, 24)) < 0.5
    with intervene.silence(llama.model, mask, "ffn_out", layers=[1]):
        shown = captured(llama.model, ["ffn_out"], SHORT)["ffn_out"]
    assert shown[0].all() and not shown[1][..., mask[0]].any()


@pytest.mark.parametrize(
    ("message", "kind", "mask", "options"),
    [
        (r"bool .* \(2, 24\) for the ffn_out", "ffn_out", np.zeros((2, 23), bool), {}),
        (r"found float64 of shape", "ffn_out", np.zeros((2, 24)), {}),
        (r"of shape \(2, 24\), or samples", "ffn_out", None, {"to": np.zeros(24)}),
        ("qk can be silenced to zero", "qk", None, {"to": np.zeros((2, 24))}),
        ("plus must be 0 for qk", "qk", None, {"action": "amplify", "plus": 1.0}),
        ("different numbers of 0 to 1", "ffn_out", None, {"layers": [7]}),
    ],
)
def test_what_cannot_be_done_is_told(llama, message, kind, mask, options):
    mask = np.ones((2, 24), bool) if mask is None else mask
    options = {"action": "silence"} | options
    with pytest.raises(ValueError, match=message):
        with intervene.apply(llama.model, mask, kind, **options):
            pass


def test_first_layer_an_action_changes():
    mask = np.zeros((4, 3), bool)
    assert intervene.first_layer(mask) == 4
    assert intervene.first_layer(mask, "keep") == 0
    mask[2, 1] = True
    assert intervene.first_layer(mask) == intervene.first_layer(mask, "amplify") == 2
    mask[:2] = True
    assert intervene.first_layer(mask, "keep") == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("kind", neurons.KINDS)
def test_masks_on_cuda(kind):
    model, rng = make("llama"), np.random.default_rng(1)
    mask = rng.random(neurons.count_neurons(model, kind)) < 0.5
    with torch.inference_mode():
        with intervene.silence(model, mask, kind):
            expected = model(IDS).logits
        model = model.cuda()
        with intervene.silence(model, mask, kind):
            found = model(IDS.cuda()).logits.cpu()
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
