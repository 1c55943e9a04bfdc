"""What an artificial neuron (AN) is, where it lives in a model, and hooks on it.

=============  ===========================================  ==========================
kind           one AN is                                    where
=============  ===========================================  ==========================
``ffn_hidden`` a unit of the feed-forward hidden layer,     input of the second
               after its nonlinearity (and gate)            feed-forward linear layer
``ffn_out``    an output unit of the second feed-forward    its output, after a norm
               linear layer, as the layer adds it to the    that may follow it
               residual stream
``qk``         a hidden dimension of an attention head:     where attention takes its
               the query-key product, pooled over keys      queries and keys
               (``attention.query_key``)
``attn_out``   a dimension of a head's output, before the   where attention gives it
               output projection
``hidden``     a dimension of the residual stream           output of the block
=============  ===========================================  ==========================

Every place is found by structure (``structure``), never by a model's name. In a
mixture of experts an AN of ``ffn_hidden`` is a unit of one routed expert, zero for a
token that was not sent to it (experts that every token passes, as in Qwen2-MoE, are not
among them), and ``ffn_out`` is the mixture's output. Where finding fails, the parameter
``modules`` names the places.
"""

from contextlib import ExitStack, contextmanager

import torch

from anbn.models import attention
from anbn.models.structure import (
    NAME_IT,
    StructureError,
    find_blocks,
    find_mixture,
    find_sites,
    input_device,
)

KINDS = ("ffn_hidden", "ffn_out", "qk", "attn_out", "hidden")
IN_ATTENTION = ("qk", "attn_out")


def check_kinds(kinds, modules=None):
    """Raise ValueError for no kind, one not in ``KINDS``, or ``modules`` of no use."""
    if not kinds or len(set(kinds)) < len(kinds):
        raise ValueError(f"expected one or more different kinds, found {list(kinds)}")
    for kind in [*kinds, *(modules or {})]:
        if kind not in KINDS:
            raise ValueError(
                f"unknown kind of neuron {kind!r}: expected one of {', '.join(KINDS)}"
            )
    if "qk" in (modules or {}):
        raise ValueError(
            "modules: qk has no module of its own, it is read where attention runs"
        )


def count_neurons(model, kind, *, layers=None, modules=None):
    """Number of layers and of neurons in a layer, seen in a pass over two tokens.

    Returns
    -------
    n_layers, n_neurons : int

    Raises
    ------
    StructureError
        If a layer shows no such neurons, or layers differ in their number.
    """
    seen = {}

    def receive(_, i, activations):
        if i in seen:
            raise StructureError(
                f"{type(model).__name__}: layers share one module, as in ALBERT: "
                f"{kind} of different layers cannot be told apart"
            )
        seen[i] = activations.shape[-1]

    options = {"layers": layers, "modules": modules}
    with torch.inference_mode(), capture(model, [kind], receive, **options) as n_layers:
        model(torch.tensor([[1, 2]], device=input_device(model)))
    missing = [i for i in range(n_layers) if i not in seen]
    if missing:
        raise StructureError(
            f"{type(model).__name__}: looked for {kind} in {n_layers} layers, found "
            f"none in {len(missing)} of them, first in {missing[0]}. {NAME_IT}"
        )
    if len(set(seen.values())) > 1:
        raise StructureError(
            f"{type(model).__name__}: layers have different numbers of {kind}: "
            f"{sorted(set(seen.values()))}. Choose layers of one width with `layers`."
        )
    return n_layers, seen[0]


@contextmanager
def capture(model, kinds, receive, *, layers=None, modules=None, qk_pooling="mean"):
    """Show the activations of every forward pass made inside the block.

    What an ``edit`` around it changes is shown changed, but for ``qk`` and for units of
    experts: these are computed beside the model, from what it was given.

    Parameters
    ----------
    model : torch.nn.Module
    kinds : list of str
    receive : callable
        Called as ``receive(kind, i, activations)`` while the model runs, with the
        activations (batch, position, n_neurons) of the i-th of the layers (OPT joins
        batch and position). The tensor is the model's own: copy what is to be kept.
    layers : list of int, optional
        0-based; all by default.
    modules : dict of str to str, optional
        See ``find_sites``.
    qk_pooling : {"mean", "attention", "max"}
        See ``attention.query_key``.

    Yields
    ------
    n_layers : int
        Number of layers that are shown.
    """
    if kinds:
        check_kinds(kinds, modules)

    def products(i, *given):
        receive("qk", i, attention.query_key(*given, qk_pooling))

    def output(i, heads):
        receive("attn_out", i, heads.transpose(1, 2).flatten(2))

    taps = {"qk": ("on_products", products), "attn_out": ("on_output", output)}
    taps = {k: v for k, v in taps.items() if k in kinds and k not in (modules or {})}
    # a model is looked at before it is hooked
    places = {k: find_sites(model, k, modules, layers) for k in kinds if k not in taps}
    if taps:
        find_blocks(model)
    with ExitStack() as stack:
        for kind, sites in places.items():
            chosen = _choose(model, layers, sites)
            for i, layer in enumerate(chosen):

                def show(activations, kind=kind, i=i):
                    receive(kind, i, activations.detach())

                _hook(stack, sites[layer], show)
        if taps:
            chosen = _choose(model, layers)
            _enter_tap(stack, model, chosen, dict(taps.values()))
        yield len(chosen) if kinds else 0


def _choose(model, layers, sites=None):
    """The layers asked for, checked against those there are."""
    n = len(sites if sites is not None else find_blocks(model))
    chosen = list(range(n)) if not layers else list(layers)
    wrong = [layer for layer in chosen if not 0 <= layer < n]
    if wrong or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"layers must be different numbers of 0 to {n - 1}, found {chosen}"
        )
    return chosen


@contextmanager
def edit(model, kind, functions, *, modules=None):
    """Change activations in every forward pass made inside the block.

    Parameters
    ----------
    model : torch.nn.Module
    kind : str
        For ``qk`` the function is given the queries: what scales them scales the
        products.
    functions : dict of int to callable
        For each layer to be changed, a function of its activations
        (batch, position, n_neurons) that returns the changed ones as a new tensor.
    modules : dict of str to str, optional
        See ``find_sites``.
    """
    check_kinds([kind], modules)
    layers = sorted(functions)
    with ExitStack() as stack:
        if not layers:
            pass
        elif kind in IN_ATTENTION and kind not in (modules or {}):

            def change(i, heads):
                units = heads.transpose(1, 2)
                changed = functions[layers[i]](units.flatten(2))
                return changed.view(units.shape).transpose(1, 2)

            on = "on_query" if kind == "qk" else "on_output"
            _enter_tap(stack, model, _choose(model, layers), {on: change})
        else:
            sites = find_sites(model, kind, modules, layers)
            for layer in _choose(model, layers, sites):
                _hook(stack, sites[layer], functions[layer])
        yield


def _enter_tap(stack, model, layers, callbacks):
    """Watch attention in some of the blocks until the stack is left."""
    tap = stack.enter_context(attention.Tap(**callbacks))
    blocks, routed = find_blocks(model), []

    def route(*_):
        if tap.layer is not None:  # before the block's attention
            routed.append(True)

    for i, layer in enumerate(layers):
        for experts in find_mixture(model, blocks[layer])[1]:
            stack.callback(experts.register_forward_pre_hook(route).remove)

        def enter(_, args, given, i=i):
            stream = next(x for x in (*args, *given.values()) if torch.is_tensor(x))
            routed.clear()
            tap.enter(i, len(stream), stream.shape[-2])

        def leave(*_, layer=layer):
            missed, unknown = tap.layer is not None, tap.unknown
            tap.leave()
            tap.inside = False
            where = f"{type(model).__name__}, block {layer}"
            if missed:
                through = f": its logits went through {unknown}" if unknown else ""
                raise StructureError(
                    f"{where}: looked for attention as "
                    "torch's scaled_dot_product_attention or as a matrix product of "
                    "(batch, head, token, dimension), scaled, masked and given to a "
                    f"softmax, found neither{through}. qk and attn_out cannot be read "
                    "here; attn_out can be had by naming the output projections with "
                    "the parameter `modules`."
                )
            if tap.several:
                raise StructureError(
                    f"{where}: looked for one attention, found several (as in "
                    "DiffLlama): their units cannot be told apart. Take another kind, "
                    "or name the output projections for attn_out with the parameter "
                    "`modules`."
                )
            if tap.rescaled and tap.on_output is not None:
                raise StructureError(
                    f"{where}: what attention gives is scaled once more before it is "
                    "projected (as by the sink of Granite SWA): attn_out would be "
                    "another number. Name the output projections with the parameter "
                    "`modules`, or take qk."
                )
            if routed:
                raise StructureError(
                    f"{where}: experts come before attention (as in JetMoe): a unit is "
                    "another one for every token. Take another kind of neuron."
                )

        hook = blocks[layer].register_forward_pre_hook(enter, with_kwargs=True)
        stack.callback(hook.remove)
        stack.callback(blocks[layer].register_forward_hook(leave).remove)


def _hook(stack, site, function):
    """Call ``function`` on activations; a tensor it returns takes their place."""
    module, place = site
    if place == "experts":
        return _hook_experts(stack, *module, function)
    if place == "input":

        def before(_, args):
            changed = function(args[0])
            return None if changed is None else (changed, *args[1:])

        handle = module.register_forward_pre_hook(before)
    else:

        def after(_, args, output):
            if torch.is_tensor(output):
                return function(output)
            changed = function(output[0])
            return None if changed is None else (changed, *output[1:])

        handle = module.register_forward_hook(after)
    stack.callback(handle.remove)


def _hook_experts(stack, mixture, experts, function):
    """Show the units of all experts, computed again from what the experts are given.

    The experts' own pass, fused or grouped, never holds them; it stays as it is unless
    ``function`` changes the units.
    """
    shape = []

    def before(_, args):
        shape[:] = args[0].shape[:2]  # the experts see no batches

    def after(_, args, output):
        x, index, weights = args  # (n, n_stream), (n, n_routed), (n, n_routed)
        n_experts = experts.down_proj.shape[0]
        routed = [(index == e).nonzero(as_tuple=True) for e in range(n_experts)]
        units = []
        for e, (tokens, _) in enumerate(routed):
            hidden = _expert_hidden(experts, e, x[tokens])
            every = hidden.new_zeros(len(x), hidden.shape[-1])
            units.append(every.index_copy(0, tokens, hidden))
        changed = function(torch.cat(units, -1).view(*shape, -1))
        if changed is None:
            return None
        units = changed.flatten(0, 1).chunk(n_experts, -1)
        total = torch.zeros_like(output)
        for e, (tokens, rank) in enumerate(routed):
            out = _expert_linear(experts, "down_proj", e, units[e][tokens])
            total.index_add_(0, tokens, out * weights[tokens, rank, None])
        return total

    stack.callback(mixture.register_forward_pre_hook(before).remove)
    stack.callback(experts.register_forward_hook(after).remove)


def _expert_hidden(experts, e, x):
    if experts.has_gate:
        return experts._apply_gate(_expert_linear(experts, "gate_up_proj", e, x))
    return experts.act_fn(_expert_linear(experts, "up_proj", e, x))


def _expert_linear(experts, name, e, x):
    weight = getattr(experts, name)[e]
    bias = getattr(experts, f"{name}_bias")[e] if experts.has_bias else None
    weight = weight.T if experts.is_transposed else weight
    return torch.nn.functional.linear(x, weight, bias)
