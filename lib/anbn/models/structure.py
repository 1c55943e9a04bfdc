"""Where things are in a model, found by structure and never by the model's name.

A model is looked at once, in a pass over two tokens in which the output of every linear
layer is cut off from what made it. A feed-forward layer works on each token alone,
attention and state spaces do not; a unit of its hidden layer depends on its own rows of
the linear layers before it; a norm may follow before the stream is added to. Where
several places fit all the same, the sizes in the configuration decide; where they do
not, an error lists the places.
"""

import fnmatch
import functools
import itertools
from contextlib import ExitStack, suppress
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from transformers.pytorch_utils import Conv1D

NAME_IT = (
    "Name the modules with the parameter `modules`, one for every layer: "
    "{'ffn_hidden': 'model.layers.*.mlp.down_proj'} (its input is recorded; ffn_out "
    "and hidden: the module's output; attn_out: the output projection's input)."
)
# what configurations of transformers call the width of the feed-forward hidden layer
WIDTHS = (
    "intermediate_size",
    "ffn_dim",
    "n_inner",
    "d_ff",
    "hidden_dim",
    "ffn_hidden_size",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
)
PROBE = [[1, 2]]  # ids of the tokens that a model is looked at with
N_PROBES = 3  # units of a linear layer's input that are followed to their origin

_remembered = WeakKeyDictionary()  # of model to what was found out about it


class StructureError(ValueError):
    """A model's structure was not recognised."""


class Origin(NamedTuple):
    """Where the input of a linear layer comes from, within its block."""

    before: dict  # of linear layer to str: "plain", "halves", "pairs"; None: units mix
    local: bool  # whether the input at a token depends on that token alone
    used: bool  # whether the linear layer was given anything


class Layer(NamedTuple):
    """What was seen of one of a model's layers in a pass over two tokens."""

    origins: dict  # of linear layer to Origin, of those that write to the stream
    after: dict  # of module to the norm that scales its output, if there is one


def _once(function):
    """Keep what a function finds out about a model, or raises, as long as the model."""

    @functools.wraps(function)
    def remembered(model):
        kept = _remembered.setdefault(model, {})
        if function not in kept:
            try:
                kept[function] = function(model), None
            except StructureError as error:
                kept[function] = None, str(error)
        value, error = kept[function]
        if error is not None:
            raise StructureError(error)
        return value

    return remembered


@_once
def find_blocks(model):
    """The model's layers.

    The list of modules that is as long as the configuration's number of layers, else
    the longest list of modules of one class; lists inside of such a list do not count.
    Of several as long as that, the one whose outputs are the model's hidden states.

    Returns
    -------
    blocks : list of torch.nn.Module

    Raises
    ------
    StructureError
        If there is none, or if none of several gives the hidden states.
    """
    n_layers = getattr(_text_config(model), "num_hidden_layers", None)
    stacks, inner = {}, set()
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.ModuleList) or module in inner:
            continue
        if len(module) == n_layers or len({type(block) for block in module}) == 1:
            stacks[name] = list(module)
            inner.update(module.modules())
    if not stacks:
        raise StructureError(
            f"{type(model).__name__}: looked for a ModuleList of blocks, found none "
            f"among {sorted({type(m).__name__ for m in model.children()})}. {NAME_IT}"
        )
    fitting = {name: s for name, s in stacks.items() if len(s) == n_layers}
    if len(fitting) < 2:
        return max((fitting or stacks).values(), key=len)
    every = [block for stack in fitting.values() for block in stack]
    states, outputs = _hidden_states(model, every)
    for stack in fitting.values():
        if states and _first_unlike(stack, outputs, states) is None:
            return stack
    raise StructureError(
        f"{type(model).__name__}: looked for the list of {n_layers} blocks whose "
        "outputs are the model's hidden states, found none among "
        f"{', '.join(f'{name}.*' for name in fitting)}. {NAME_IT}"
    )


def _text_config(model):
    return model.config.get_text_config()


def _shape(linear):
    """(inputs, outputs) of a linear layer; GPT-2's Conv1D stores them transposed."""
    rows, columns = linear.weight.shape
    return (rows, columns) if isinstance(linear, Conv1D) else (columns, rows)


def _linears(block):
    named = block.named_modules()
    return {n: m for n, m in named if isinstance(m, torch.nn.Linear | Conv1D)}


def input_device(model):
    """Where a model takes its input; weights kept on disk lie on no device."""
    devices = (p.device for p in model.parameters() if p.device.type != "meta")
    return next(devices, torch.device("cpu"))


def _run(model, **options):
    """A pass over two tokens, without the head."""
    ids = torch.tensor(PROBE, device=input_device(model))
    try:
        return getattr(model, "base_model", model)(input_ids=ids, **options)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise StructureError(
            f"{type(model).__name__} does not take a text of {len(PROBE[0])} tokens, "
            f"which it is looked at with: {str(error).splitlines()[0]}"
        ) from error


def _tensor(output):
    """What a module gives, or the first of what it gives; None if that is no tensor."""
    if isinstance(output, tuple | list) and output:
        output = output[0]
    return output if torch.is_tensor(output) else None


def _hidden_states(model, modules):
    """The model's own hidden states, [] if it gives none, and outputs of modules."""
    outputs = {}
    with ExitStack() as stack, torch.inference_mode():
        for module in modules:

            def keep(module, args, output):
                outputs[module] = _tensor(output)

            stack.callback(module.register_forward_hook(keep).remove)
        given = _run(model, output_hidden_states=True)
    for name in ("hidden_states", "encoder_hidden_states"):
        if getattr(given, name, None) is not None:
            return list(getattr(given, name)), outputs
    return [], outputs


def _first_unlike(blocks, outputs, states):
    """First block whose output is not the hidden state after it; None if all are.

    The last is not compared: a norm may have been applied to the model's. Most models
    give the embedding as their first state, some (Mamba) the first block's output.
    """

    def first(states):
        for i, (block, state) in enumerate(zip(blocks[:-1], states, strict=False)):
            output = outputs.get(block)
            if output is None or output.shape != state.shape:
                return i
            # a damaged model is for others to tell
            same = {"rtol": 1e-3, "atol": 1e-4, "equal_nan": True}
            if not torch.allclose(output.float(), state.float(), **same):
                return i
        return None

    return first(states[1:]) if first(states) is not None else None


@_once
def find_stream(model):
    """The modules whose outputs are the residual stream after each layer.

    The blocks, if their outputs are the hidden states that the model itself gives.

    Raises
    ------
    StructureError
        If they are not.
    """
    blocks, n_stream = find_blocks(model), _text_config(model).hidden_size
    states, outputs = _hidden_states(model, blocks)
    wrong = _first_unlike(blocks, outputs, states) if states else None
    if wrong is not None:
        raise StructureError(
            f"{type(model).__name__}, block {wrong}: its output is not the hidden "
            f"state that the model gives after it (output_hidden_states). {NAME_IT}"
        )
    for i, block in enumerate(blocks):
        output = outputs.get(block)
        shape = "no tensor" if output is None else tuple(output.shape)
        if shape not in ((1, len(PROBE[0]), n_stream), (len(PROBE[0]), n_stream)):
            raise StructureError(
                f"{type(model).__name__}, block {i}: expected an output of {n_stream} "
                f"units for each of {len(PROBE[0])} tokens, found {shape}: a residual "
                f"stream of several parts is not read. {NAME_IT}"
            )
    return blocks


@_once
@torch.inference_mode(False)  # a caller may be in it
@torch.enable_grad()
def find_layers(model):
    """What each of the model's layers does to two tokens.

    Returns
    -------
    layers : list of Layer
        One a block.

    Raises
    ------
    StructureError
        If the pass cannot be followed.
    """
    blocks = find_blocks(model)
    inputs, leaves, norms, outputs = {}, [{} for _ in blocks], [[] for _ in blocks], {}
    with ExitStack() as stack:
        for i, block in enumerate(blocks):
            _watch(stack, block, inputs, leaves[i], norms[i], outputs)
        _run(model)
    n_stream = _text_config(model).hidden_size
    layers = []
    for i, block in enumerate(blocks):
        to_stream = [m for m in _linears(block).values() if _shape(m)[1] == n_stream]
        try:
            origins = {m: _origin(inputs.get(m), leaves[i]) for m in to_stream}
        except RuntimeError as error:  # autograd cannot go back through an operation
            raise StructureError(
                f"{type(model).__name__}, block {i}: where its units come from cannot "
                f"be followed ({str(error).splitlines()[0]}). {NAME_IT}"
            ) from error
        sources = [*origins, *(m for m, _ in [find_mixture(model, block)] if m)]
        after = {m: _norm_after(outputs[m], norms[i]) for m in sources if m in outputs}
        layers.append(Layer(origins, {m: norm for m, norm in after.items() if norm}))
    return layers


def _watch(stack, block, inputs, leaves, norms, outputs):
    """Note what a block's modules are given and give until the stack is left."""

    def before(linear, args):
        inputs.setdefault(linear, args[0])
        return (args[0].detach(), *args[1:])  # its weights need not be kept

    def cut_off(linear, args, output):
        # a router gives several things; what layers share (ALBERT) is seen once
        if not torch.is_tensor(output) or linear in leaves:
            return None
        leaves[linear] = output.detach().requires_grad_()
        outputs[linear] = leaves[linear].detach()
        return leaves[linear].clone()  # may be changed in place

    def note(module, args, output):
        if args and torch.is_tensor(args[0]) and torch.is_tensor(output):
            norms.append((module, args[0].detach().clone(), output.detach().clone()))

    def keep(module, args, output):
        if _tensor(output) is not None:
            outputs[module] = _tensor(output).detach().clone()

    for module in block.modules():
        if isinstance(module, torch.nn.Linear | Conv1D):
            stack.callback(module.register_forward_pre_hook(before).remove)
            stack.callback(module.register_forward_hook(cut_off).remove)
        elif all(p.dim() <= 1 for p in module.parameters()):
            stack.callback(module.register_forward_hook(note).remove)
        else:
            stack.callback(module.register_forward_hook(keep).remove)


def _origin(given, leaves):
    """Which linear layers of its block the input of one comes from, and how."""
    if given is None:
        return Origin({}, True, False)
    n_tokens = len(PROBE[0])
    if given.shape[:-1] not in ((1, n_tokens), (n_tokens,)):  # XLNet: token, text, unit
        return Origin({}, False, True)
    hidden, reached, local = given.flatten(0, -2), {}, True
    if not hidden.requires_grad:
        return Origin({}, True, True)
    n_units = hidden.shape[1]
    for unit in hidden.abs().amax(0).topk(min(N_PROBES, n_units)).indices.tolist():
        for row in range(len(hidden)):
            grads = torch.autograd.grad(
                hidden[row, unit],
                list(leaves.values()),
                allow_unused=True,
                retain_graph=True,
            )
            for linear, grad in zip(leaves, grads, strict=True):
                if grad is None or not grad.any():
                    continue
                grad = grad.flatten(0, -2)
                local &= len(grad) == len(hidden) and not grad[1 - row].any()
                units = reached.setdefault(linear, {}).setdefault(unit, set())
                units.update(grad.abs().amax(0).nonzero()[:, 0].tolist())
    before = {
        linear: _layout(units, n_units, _shape(linear)[1])
        for linear, units in reached.items()
    }
    return Origin(before, local, True)


def _layout(reached, n_units, n_out):
    """How a linear layer's outputs belong to units; None if it is none of the known."""
    expected = {
        "plain": (n_units, lambda unit: {unit}),
        "halves": (2 * n_units, lambda unit: {unit, unit + n_units}),
        "pairs": (2 * n_units, lambda unit: {2 * unit, 2 * unit + 1}),
    }
    for layout, (width, outputs) in expected.items():
        if n_out == width and all(at == outputs(j) for j, at in reached.items()):
            return layout
    return None


def _norm_after(given, norms):
    """The last of the norms that an output runs through, each alone; None for none.

    Modules with vectors of weights at most, whose input is that output: dropout, which
    gives what it is given here, does not count.
    """
    found = None
    for module, taken, output in norms:
        if taken.numel() != given.numel() or output.numel() != given.numel():
            continue
        if not torch.equal(taken.reshape(-1), given.reshape(-1)):
            continue
        if not torch.equal(output.reshape(-1), taken.reshape(-1)):
            found, given = module, output
    return found


def find_mixture(model, block):
    """A block's mixture of experts, and modules with their stacked weights.

    (None, []) if there is none.
    """
    config = _text_config(model).to_dict()
    n_experts = {v for k, v in config.items() if "expert" in k and type(v) is int}
    paths = [
        name
        for name, module in block.named_modules()
        if any(
            p.dim() == 3 and p.shape[0] in n_experts and p.shape[0] > 1
            for p in module.parameters(recurse=False)
        )
    ]
    if not paths:
        return None, []
    parents = [path.split(".")[:-1] for path in paths]
    levels = zip(*parents, strict=False)
    shared = itertools.takewhile(lambda names: len({*names}) == 1, levels)
    mixture = block.get_submodule(".".join(names[0] for names in shared))
    return mixture, [block.get_submodule(path) for path in paths]


def _configured(model, i):
    """Widths that the configuration gives a block's feed-forward hidden layer."""
    config, widths = _text_config(model), set()
    for name in WIDTHS:
        width = getattr(config, name, None)
        if isinstance(width, list | tuple) and i < len(width):
            width = width[i]
        if type(width) is int:
            widths.add(width)
    return widths


@_once
def find_feedforward_outputs(model):
    """Each layer's linear layer from the feed-forward hidden layer to the stream.

    It writes to every unit of the residual stream, and what it is given comes, at each
    token alone, from linear layers of its block that read every unit of the stream. Of
    several such layers it is the one that reads as many units as the configuration
    says; of several still, or where the configuration says nothing, the one whose units
    each depend on their own rows alone.

    Returns
    -------
    found : list of torch.nn.Module, str or None
        One a layer; None for a layer with a mixture of experts; if there is not exactly
        one such linear layer, a message that says what was looked for and found.
    """
    found = []
    for i, (block, layer) in enumerate(
        zip(find_blocks(model), find_layers(model), strict=True)
    ):
        mixture, _ = find_mixture(model, block)
        inside = set(mixture.modules()) if mixture else set()
        paths = {n: m for n, m in _linears(block).items() if m not in inside}
        linear, candidates = _choose_output(model, i, paths, layer)
        if mixture is block or (mixture and candidates):
            listed = [*candidates, "experts"]
        elif linear and _looks_up(block, paths, linear):
            listed = [*candidates, "experts that are looked up in an embedding"]
        elif mixture or linear:
            found.append(linear)
            continue
        else:
            listed = candidates
        width = " or ".join(map(str, sorted(_configured(model, i)))) or "any number of"
        shapes = {name: _shape(m) for name, m in paths.items()}
        found.append(
            f"{type(model).__name__}, block {i}: looked for one linear layer from a "
            f"feed-forward hidden layer ({width} units) to the residual stream "
            f"({_text_config(model).hidden_size} units), found {len(listed)} that fit"
            f"{': ' if listed else ''}{', '.join(listed)}; linear layers of the block "
            f"(inputs, outputs): {shapes or 'none'}. {NAME_IT}"
        )
    return found


def _choose_output(model, i, paths, layer):
    """The one of a block's linear layers that fits, or None; names of all that do."""
    n_stream, widths = _text_config(model).hidden_size, _configured(model, i)
    fitting = {}
    for name, linear in paths.items():
        origin = layer.origins.get(linear)
        if origin is None:
            continue
        from_stream = [_shape(m)[0] == n_stream for m in origin.before]
        # what these tokens did not use may be one of several experts
        if not origin.used or (origin.local and from_stream and all(from_stream)):
            fitting[name] = linear
    sized = {n: m for n, m in fitting.items() if _shape(m)[0] in widths}
    chosen = sized or fitting
    if len(chosen) > 1 or not sized:
        own_rows = {
            n: m
            for n, m in chosen.items()
            if None not in layer.origins[m].before.values()
        }
        chosen = own_rows if own_rows or widths else chosen
    if len(chosen) == 1:
        (linear,) = chosen.values()
        if layer.origins[linear].used:
            return linear, list(chosen)
    return None, list(chosen or fitting)


def _looks_up(block, paths, linear):
    """Whether the module around a linear layer looks up weights (Doge's experts)."""
    path = next(name for name, module in paths.items() if module is linear)
    parent = block.get_submodule(path.rpartition(".")[0])
    embeddings = [m for m in parent.modules() if isinstance(m, torch.nn.Embedding)]
    return bool(embeddings) and parent is not block


def find_sites(model, kind, modules=None, layers=None):
    """Where a kind of neuron outside of attention lives, layer by layer.

    Parameters
    ----------
    model : torch.nn.Module
    kind : str
        Any but ``qk``; ``attn_out`` needs ``modules``.
    modules : dict of str to str, optional
        For a kind, a pattern of module paths (``fnmatch``), in the order of layers.
    layers : sequence of int, optional
        The layers that are wanted, all by default: others need not have such a place.

    Returns
    -------
    sites : list of (module, place)
        One a layer; None for one that is not wanted and has no such place.
        ``place`` is ``"input"``, ``"output"`` or, with the mixture and its experts for
        the module, ``"experts"``. The output of ``ffn_out`` is what is added to the
        residual stream: after a norm, where the layer ends in one (as in Gemma 2).

    Raises
    ------
    StructureError
        Says what was looked for and what was found.
    """
    pattern = (modules or {}).get(kind)
    if pattern:
        place = "input" if kind in ("ffn_hidden", "attn_out") else "output"
        return [(module, place) for module in _named(model, kind, pattern)]
    # everything at once: later passes may run inside of somebody's hooks
    for look in (find_stream, find_feedforward_outputs):
        with suppress(StructureError):
            look(model)
    if kind == "hidden":
        return [(block, "output") for block in find_stream(model)]
    sites = []
    found = zip(
        find_blocks(model),
        find_layers(model),
        find_feedforward_outputs(model),
        strict=True,
    )
    for i, (block, layer, linear) in enumerate(found):
        if isinstance(linear, str):
            if not layers or i in layers:
                raise StructureError(linear)
            sites.append(None)
        elif linear is not None and kind == "ffn_hidden":
            sites.append((linear, "input"))
        elif linear is not None:
            sites.append((layer.after.get(linear, linear), "output"))
        elif kind == "ffn_out":
            mixture, _ = find_mixture(model, block)
            sites.append((layer.after.get(mixture, mixture), "output"))
        else:
            mixture, experts = find_mixture(model, block)
            if len(experts) > 1 or not hasattr(experts[0], "has_gate"):
                if layers and i not in layers:
                    sites.append(None)
                    continue
                raise StructureError(
                    f"{type(model).__name__}, block {i}: a mixture of experts "
                    f"({type(experts[0]).__name__}) whose units cannot be read: take "
                    f"ffn_out, or name a dense layer beside it. {NAME_IT}"
                )
            sites.append(((mixture, experts[0]), "experts"))
    return sites


def _named(model, kind, pattern):
    """Modules whose paths a pattern names: one a layer at most."""
    paths = {name: m for name, m in model.named_modules() if name}
    named = {n: m for n, m in paths.items() if fnmatch.fnmatchcase(n, pattern)}
    if not named:
        leaves = [name for name, m in paths.items() if not list(m.children())]
        raise StructureError(
            f"modules: no module of {type(model).__name__} is called {pattern!r} "
            f"(for {kind}). Its modules: {', '.join(leaves[:20])}, ..."
        )
    n_layers = getattr(_text_config(model), "num_hidden_layers", None)
    if n_layers and len(named) > n_layers:
        raise StructureError(
            f"modules: {pattern!r} (for {kind}) names {len(named)} modules of "
            f"{type(model).__name__}, which has {n_layers} layers: expected one a "
            f"layer, found {', '.join([*named][:6])}, ..."
        )
    return list(named.values())
