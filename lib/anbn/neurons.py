"""What an artificial neuron (AN) is, where it lives in a model, and hooks on it.

=============  ===========================================  ==========================
kind           one AN is                                    where
=============  ===========================================  ==========================
``ffn_hidden`` a unit of the feed-forward hidden layer,     input of the second
               after its nonlinearity (and gate)            feed-forward linear layer
``ffn_out``    an output unit of the second feed-forward    its output
               linear layer
=============  ===========================================  ==========================

The layer is found by structure: in each block of the longest stack of equal blocks, the
last linear map from a hidden layer back to the residual stream.
"""

from contextlib import contextmanager

import torch
from transformers.pytorch_utils import Conv1D

KINDS = ("ffn_hidden", "ffn_out")


class StructureError(ValueError):
    """A model's structure was not recognised."""


def find_blocks(model):
    """The model's layers: the longest list of modules of one class.

    Returns
    -------
    blocks : list of torch.nn.Module
        n_layers modules, in order.
    """
    stacks = [
        list(m)
        for m in model.modules()
        if isinstance(m, torch.nn.ModuleList) and len({type(b) for b in m}) == 1
    ]
    if not stacks:
        raise StructureError(
            f"{type(model).__name__}: looked for a ModuleList of equal blocks, found "
            f"none among {sorted({type(m).__name__ for m in model.children()})}"
        )
    return max(stacks, key=len)


def _shape(linear):
    """(inputs, outputs) of a linear layer; GPT-2's Conv1D stores them transposed."""
    rows, columns = linear.weight.shape
    return (rows, columns) if isinstance(linear, Conv1D) else (columns, rows)


def find_second_ffn(model):
    """The second feed-forward linear layer of every block.

    Returns
    -------
    layers : list of torch.nn.Module
        n_layers linear layers, from n_hidden inputs to the residual stream.

    Raises
    ------
    StructureError
        Lists the linear layers that were found instead.
    """
    n_stream = model.config.get_text_config().hidden_size
    layers = []
    for i, block in enumerate(find_blocks(model)):
        linears = {
            name: module
            for name, module in block.named_modules()
            if isinstance(module, torch.nn.Linear | Conv1D)
        }
        widths = {_shape(m)[1] for m in linears.values()}
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
                f"found {shapes or 'no linear layers'}"
            )
        layers.append(back[-1])
    return layers


def count_neurons(model, kind):
    """Number of layers and of neurons in a layer: (n_layers, n_neurons)."""
    check_kind(kind)
    layers = find_second_ffn(model)
    widths = {_shape(layer)[kind == "ffn_out"] for layer in layers}
    if len(widths) > 1:
        raise StructureError(
            f"layers of different widths are not supported: {sorted(widths)}"
        )
    return len(layers), widths.pop()


def check_kind(kind):
    """Raise ValueError unless ``kind`` is one of ``KINDS``."""
    if kind not in KINDS:
        raise ValueError(
            f"unknown kind of neuron {kind!r}: expected one of {', '.join(KINDS)}"
        )


@contextmanager
def capture(model, kinds):
    """Collect the activations of every forward pass made inside the block.

    Parameters
    ----------
    model : torch.nn.Module
    kinds : list of str

    Yields
    ------
    captured : dict of str to list of Tensor of shape (batch, position, n_neurons)
        Filled, one tensor a layer, by each forward pass; it holds the last pass only.
        The tensors are the model's own: copy what is to be kept.
    """
    layers = find_second_ffn(model)
    captured = {kind: [None] * len(layers) for kind in kinds}
    handles = []
    try:
        for i, layer in enumerate(layers):
            for kind in kinds:
                check_kind(kind)

                def keep(tensor, kind=kind, i=i):
                    captured[kind][i] = tensor.detach()

                handles.append(_hook(layer, kind, keep))
        yield captured
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def edit(model, kind, functions):
    """Change activations in every forward pass made inside the block.

    Parameters
    ----------
    model : torch.nn.Module
    kind : str
    functions : dict of int to callable
        For each layer to be changed, a function of its activations
        (batch, position, n_neurons) that returns the changed ones as a new tensor.
    """
    check_kind(kind)
    layers = find_second_ffn(model)
    handles = []
    try:
        for i, function in functions.items():
            handles.append(_hook(layers[i], kind, function))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(layer, kind, function):
    """Call ``function`` on activations; a tensor it returns takes their place."""
    if kind == "ffn_out":
        return layer.register_forward_hook(lambda _, args, output: function(output))

    def before(_, args):
        changed = function(args[0])
        return None if changed is None else (changed, *args[1:])

    return layer.register_forward_pre_hook(before)
