"""Which weights of a model belong to its units, found by structure."""

from typing import NamedTuple

import torch
from transformers.pytorch_utils import Conv1D

from anbn.models import neurons
from anbn.models.structure import (
    StructureError,
    _linears,
    _shape,
    find_blocks,
    find_layers,
    find_sites,
    input_device,
)


class Feedforward(NamedTuple):
    """Paths of a block's feed-forward layers in the model, and their width."""

    up: dict  # of str to str: "plain"; with gate and up fused, "halves" or "pairs"
    down: str
    width: int


def find_feedforward(model):
    """The linear layers before and after each block's feed-forward hidden units.

    Those before are found in a pass over two tokens (``structure.find_layers``): of
    the linear layers that a hidden unit comes from, it depends on its own rows alone if
    what lies between works element by element. Sizes that coincide cannot mislead it.

    Returns
    -------
    layers : list of Feedforward
        One a block.

    Raises
    ------
    StructureError
        For a mixture of experts, layers that share weights, and hidden units that
        depend on more than their own rows (as with a norm inside of the layer).
    """
    sites, name = find_sites(model, "ffn_hidden"), type(model).__name__
    if any(place == "experts" for _, place in sites):
        raise StructureError(
            f"{name}: units of a mixture of experts cannot be cut out: every token is "
            "sent to other ones. Silence them, or choose a model without experts."
        )
    downs = [down for down, _ in sites]
    if len(set(downs)) < len(downs):
        raise StructureError(
            f"{name}: layers share one module, as in ALBERT: units of one of them "
            "cannot be cut out"
        )
    if any(p.device.type == "meta" for p in model.parameters()):
        raise StructureError(
            f"{name}: weights kept on disk cannot be changed: load the model with "
            "device='cpu', or where it fits"
        )
    paths = {module: path for path, module in model.named_modules()}
    layers = []
    for i, (down, seen) in enumerate(zip(downs, find_layers(model), strict=True)):
        before = seen.origins[down].before
        up = {paths[linear]: layout for linear, layout in before.items()}
        if not up or None in up.values():
            raise StructureError(
                f"{name}, block {i}: looked for linear layers of which each output "
                f"leads to one of the {_shape(down)[0]} hidden units before "
                f"{paths[down]}, found {sorted(up) or 'none'} with units that mix"
            )
        layers.append(Feedforward(up, paths[down], _shape(down)[0]))
    return layers


def rows_of(kept, layout, n_units):
    """Outputs of a linear layer that belong to some units (their indices)."""
    if layout == "halves":
        return torch.cat([kept, kept + n_units])
    if layout == "pairs":
        return torch.stack([2 * kept, 2 * kept + 1], 1).flatten()
    return kept


def output_projections(model):
    """The linear layer of each block that reads what attention's heads put out.

    It is the one whose input, in a pass over two tokens, is what attention gave: shapes
    and names could mislead.
    """
    blocks, heads, found = find_blocks(model), {}, {}

    def receive(_, i, activations):
        heads[i] = activations

    def watch(i):
        def before(linear, args):
            given = heads.get(i)
            if given is None or i in found or args[0].numel() != given.numel():
                return
            if torch.equal(args[0].reshape(given.shape), given):
                found[i] = linear

        return before

    handles = [
        linear.register_forward_pre_hook(watch(i))
        for i, block in enumerate(blocks)
        for linear in _linears(block).values()
    ]
    try:
        with torch.inference_mode(), neurons.capture(model, ["attn_out"], receive):
            model(torch.tensor([[1, 2]], device=input_device(model)))
    finally:
        for handle in handles:
            handle.remove()
    missing = [i for i in range(len(blocks)) if i not in found]
    if missing:
        raise StructureError(
            f"{type(model).__name__}, block {missing[0]}: looked for a linear layer "
            "that reads what attention's heads put out, found none (a gate or a norm "
            "may lie between them)"
        )
    return [found[i] for i in range(len(blocks))]


def matrix(linear):
    """Weights of a linear layer (n_outputs, n_inputs); Conv1D has them transposed."""
    return linear.weight.T if isinstance(linear, Conv1D) else linear.weight
