"""Passes that begin at the first block that differs from the intact model."""

from contextlib import ExitStack, contextmanager

from anbn.architecture import find_blocks


@contextmanager
def remember(model, layers):
    """Keep what goes into some blocks, of the last pass inside the context.

    Parameters
    ----------
    model : torch.nn.Module
    layers : iterable of int
        0-based.

    Yields
    ------
    kept : dict of int to the output of the block before
        For ``resume``. Empty for a model that accelerate spreads over devices, whose
        blocks cannot be skipped.
    """
    blocks, kept = find_blocks(model), {}
    spread = any("forward" in vars(block) for block in blocks)
    with ExitStack() as stack:
        for layer in {*layers} - {0}:
            if spread:
                continue

            def keep(_, args, output, layer=layer):
                kept[layer] = output

            hook = blocks[layer - 1].register_forward_hook(keep)
            stack.callback(hook.remove)
        yield kept


@contextmanager
def resume(model, kept, layer):
    """Passes inside begin at a block, with what the intact model brought there.

    Only for the same input as in ``remember``, and where nothing below that block is
    changed. The embedding still runs; blocks below hand on what was kept.

    Parameters
    ----------
    model : torch.nn.Module
    kept : dict
        From ``remember``; a layer that is not in it runs from the beginning.
    layer : int
    """
    skipped = find_blocks(model)[:layer] if layer in kept else []
    for block in skipped:
        block.forward = lambda *_, **__: kept[layer]
    try:
        yield
    finally:
        for block in skipped:
            del block.forward
