"""Where things are in a model, found by structure and never by the model's name."""

import fnmatch

import torch
from transformers.pytorch_utils import Conv1D

NAME_IT = (
    "Name the modules with the parameter `modules`, one for every layer: "
    "{'ffn_hidden': 'model.layers.*.mlp.down_proj'} (its input is recorded; ffn_out "
    "and hidden: the module's output; attn_out: the output projection's input)."
)


class StructureError(ValueError):
    """A model's structure was not recognised."""


def find_blocks(model):
    """The model's layers.

    The list of modules that is as long as the configuration's number of layers, else
    the longest list of modules of one class; lists inside of such a list do not count.

    Returns
    -------
    blocks : list of torch.nn.Module
        n_layers modules, in order.
    """
    n_layers = getattr(_text_config(model), "num_hidden_layers", None)
    stacks, inner = [], set()
    for module in model.modules():
        if not isinstance(module, torch.nn.ModuleList) or module in inner:
            continue
        if len(module) == n_layers or len({type(block) for block in module}) == 1:
            stacks.append(list(module))
            inner.update(module.modules())
    if not stacks:
        raise StructureError(
            f"{type(model).__name__}: looked for a ModuleList of blocks, found none "
            f"among {sorted({type(m).__name__ for m in model.children()})}. {NAME_IT}"
        )
    return max(stacks, key=lambda stack: (len(stack) == n_layers, len(stack)))


def _text_config(model):
    return model.config.get_text_config()


def _shape(linear):
    """(inputs, outputs) of a linear layer; GPT-2's Conv1D stores them transposed."""
    rows, columns = linear.weight.shape
    return (rows, columns) if isinstance(linear, Conv1D) else (columns, rows)


def _linears(block):
    named = block.named_modules()
    return {n: m for n, m in named if isinstance(m, torch.nn.Linear | Conv1D)}


def _experts(block):
    """A mixture of experts and its part that holds the weights of all, or None."""
    for name, module in block.named_modules():
        stacked = [p for p in module.parameters(recurse=False) if p.dim() == 3]
        if len(stacked) >= 2 and hasattr(module, "has_gate"):
            return block.get_submodule(name.rpartition(".")[0]), module
    return None


def _second_ffn(model, i, block):
    """A block's last linear layer from a hidden layer to the residual stream."""
    n_stream = _text_config(model).hidden_size
    linears = _linears(block)
    widths = {_shape(m)[1] for m in linears.values()} - {n_stream}
    # a fused gate and up projection is twice as wide as the hidden layer
    widths |= {width // 2 for width in widths}
    back = [
        m
        for m in linears.values()
        if _shape(m)[1] == n_stream and _shape(m)[0] in widths - {n_stream}
    ]
    if not back:
        shapes = {name: _shape(m) for name, m in linears.items()}
        raise StructureError(
            f"{type(model).__name__}, block {i}: looked for a linear layer from a "
            f"feed-forward hidden layer to the residual stream ({n_stream} units), "
            f"found {shapes or 'no linear layers'}. {NAME_IT}"
        )
    return back[-1]


def find_sites(model, kind, modules=None):
    """Where a kind of neuron outside of attention lives, layer by layer.

    Parameters
    ----------
    model : torch.nn.Module
    kind : str
        Any but ``qk``; ``attn_out`` needs ``modules``.
    modules : dict of str to str, optional
        For a kind, a pattern of module paths (``fnmatch``), in the order of layers.

    Returns
    -------
    sites : list of (module, place)
        ``place`` is ``"input"``, ``"output"`` or, with the mixture and its experts for
        the module, ``"experts"``.

    Raises
    ------
    StructureError
        Says what was looked for and what was found.
    """
    pattern = (modules or {}).get(kind)
    if pattern:
        named = [m for n, m in model.named_modules() if fnmatch.fnmatch(n, pattern)]
        if not named:
            paths = [
                n for n, m in model.named_modules() if n and not list(m.children())
            ]
            raise StructureError(
                f"modules: no module of {type(model).__name__} is called {pattern!r} "
                f"(for {kind}). Its modules: {', '.join(paths[:20])}, ..."
            )
        place = "input" if kind in ("ffn_hidden", "attn_out") else "output"
        return [(module, place) for module in named]
    blocks = find_blocks(model)
    if kind == "hidden":
        return [(block, "output") for block in blocks]
    sites = []
    for i, block in enumerate(blocks):
        mixture = _experts(block)
        if mixture is None:
            place = "input" if kind == "ffn_hidden" else "output"
            sites.append((_second_ffn(model, i, block), place))
        elif kind == "ffn_hidden":
            sites.append((mixture, "experts"))
        else:
            sites.append((mixture[0], "output"))
    return sites


def input_device(model):
    """Where a model takes its input; weights kept on disk lie on no device."""
    devices = (p.device for p in model.parameters() if p.device.type != "meta")
    return next(devices, torch.device("cpu"))
