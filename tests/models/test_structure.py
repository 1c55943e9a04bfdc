"""The right neuron, or an error: against plain hooks on modules named by hand."""

import families
import numpy as np
import pytest
import torch
from families import IDS, OTHERS, captured

from anbn.masking import intervene
from anbn.models import neurons, structure
from anbn.models.structure import StructureError

IN_MODULES = [kind for kind in neurons.KINDS if kind != "qk"]
CASES = [(name, kind) for name, (*_, sites) in OTHERS.items() for kind in neurons.KINDS]


def modules_of(model, name, kind):
    pattern = OTHERS[name][3][kind]
    return [model.get_submodule(pattern.format(i)) for i in range(3)]


def hooked(model, modules, kind, change=None):
    """What a plain hook on each of some modules sees, and the model's output."""
    seen, handles = [], []
    for module in modules:
        if kind in ("ffn_hidden", "attn_out"):

            def before(_, args):
                seen.append(args[0].reshape(*IDS.shape, -1).clone())
                return None if change is None else (change(args[0]), *args[1:])

            handles.append(module.register_forward_pre_hook(before))
        else:

            def after(_, args, output):
                first = output if torch.is_tensor(output) else output[0]
                seen.append(first.reshape(*IDS.shape, -1).clone())
                if change is None:
                    return None
                if torch.is_tensor(output):
                    return change(output)
                return (change(first), *output[1:])

            handles.append(module.register_forward_hook(after))
    with torch.inference_mode():
        output = model(input_ids=IDS)[0].clone()
    for handle in handles:
        handle.remove()
    return torch.stack(seen), output


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_right_neuron_or_an_error(name, kind, rng):
    """Shown and silenced as by a plain hook; nothing changes where none is silenced."""
    model, expected = families.make_other(name), OTHERS[name][3][kind]
    if expected is None:
        with pytest.raises(StructureError, match=type(model).__name__):
            neurons.count_neurons(model, kind)
        with (
            pytest.raises(StructureError),
            intervene.silence(model, np.ones((3, 24), bool), kind),
        ):
            raise AssertionError("a mask on neurons that cannot be read")
        return
    found = captured(model, [kind])[kind]
    shape = neurons.count_neurons(model, kind)
    assert shape == (3, found.shape[-1])
    mask = rng.random(shape) < 0.5
    with torch.inference_mode():
        intact = model(input_ids=IDS)[0].clone()
        with intervene.silence(model, np.zeros(shape, bool), kind):
            assert torch.equal(model(input_ids=IDS)[0], intact)
        with intervene.silence(model, mask, kind):
            silenced = model(input_ids=IDS)[0].clone()
    assert not torch.equal(silenced, intact)
    if expected in ("attention", "experts"):
        return
    modules, layer = modules_of(model, name, kind), iter(torch.tensor(mask))
    assert torch.equal(found, hooked(model, modules, kind)[0])
    options = {"change": lambda values: values.masked_fill(next(layer), 0)}
    assert torch.equal(silenced, hooked(model, modules, kind, **options)[1])


BOTH_WAYS = ("mobilebert", "flaubert", "xlm", "switch", "modernbert", "lilt")
BOTH_WAYS = (*BOTH_WAYS, "doge with experts")


@pytest.mark.parametrize("name", [name for name in OTHERS if name not in BOTH_WAYS])
def test_nothing_is_known_of_later_tokens(name):
    """Another last token moves no neuron of any kind at the tokens before."""
    model = families.make_other(name)
    kinds = [kind for kind in neurons.KINDS if OTHERS[name][3][kind] is not None]
    other = IDS.clone()
    other[:, -1] = (other[:, -1] + 7) % 50
    before, after = captured(model, kinds), captured(model, kinds, ids=other)
    for kind in kinds:
        early = after[kind][:, :, :-1], before[kind][:, :, :-1]
        torch.testing.assert_close(*early, atol=1e-6, rtol=1e-5)
        assert not torch.equal(after[kind][:, :, -1], before[kind][:, :, -1])


@pytest.mark.parametrize(
    "name", ["gemma2", "gemma4", "olmo3", "exaone4", "stablelm", "falcon h1"]
)
def test_feed_forward_output_is_what_is_added_to_the_stream(name):
    """Adding to it moves the stream after the layer by as much."""
    model = families.make_other(name)
    step = torch.zeros(24 if name != "stablelm" else 32)
    step[5] = 0.25
    before = captured(model, ["hidden"])["hidden"]
    with neurons.edit(model, "ffn_out", {2: lambda x: x + step}):
        after = captured(model, ["hidden"])["hidden"]
    assert torch.equal(after[:2], before[:2])
    moved = (after - before)[2]
    if name == "gemma4":  # a smaller feed-forward layer follows in the same block
        assert moved[..., 5].mean() == pytest.approx(0.25, abs=0.2)
    else:
        torch.testing.assert_close(moved, step.expand_as(moved), atol=1e-5, rtol=1e-5)


def test_modules_can_be_named_where_structure_does_not_tell():
    model = families.make_other("xlm")
    paths = {"ffn_hidden": "ffns.*.lin2", "attn_out": "attentions.*.out_lin"}
    for kind, path in paths.items():
        found = captured(model, [kind], modules={kind: path})[kind]
        modules = [model.get_submodule(path.replace("*", str(i))) for i in range(3)]
        assert torch.equal(found, hooked(model, modules, kind)[0])
    model = families.make_other("gemma4 with experts")
    paths = {"ffn_hidden": "model.layers.*.mlp.down_proj"}
    assert neurons.count_neurons(model, "ffn_hidden", modules=paths) == (3, 40)
    with pytest.raises(StructureError, match=r"experts.*modules"):
        neurons.count_neurons(model, "ffn_hidden")


def test_a_model_is_looked_at_once_and_is_left_as_it_was():
    model = families.make_other("gemma2")
    n_passes = []
    model.model.register_forward_pre_hook(lambda *_: n_passes.append(1))
    for _ in range(3):
        for kind in IN_MODULES:
            if kind != "attn_out":
                structure.find_sites(model, kind)
    assert len(n_passes) == 2  # where units come from, and the hidden states
    hooks = [h for m in model.modules() for h in m._forward_hooks.values()]
    hooks += [h for m in model.modules() for h in m._forward_pre_hooks.values()]
    assert not [h for h in hooks if h.__module__.startswith("anbn")]


def test_looking_inside_of_an_edit_does_not_call_it():
    """Where things are is found before the first hook, and kept."""
    model, seen = families.make_other("gemma2"), []

    def change(values):
        seen.append(values.shape[1])
        return values

    with neurons.edit(model, "ffn_hidden", {0: change}):
        captured(model, neurons.KINDS)
    assert seen == [IDS.shape[1]]
