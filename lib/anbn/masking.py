"""Silencing neurons or keeping only some, and the controls every mask needs.

A mask is a bool array (n_layers, n_neurons), True for the neurons it is about.
"""

from contextlib import contextmanager

import numpy as np
import torch

from anbn import neurons


def check_mask(mask, model, kind):
    """Raise ValueError unless a mask fits a model's neurons of this kind."""
    expected = neurons.count_neurons(model, kind)
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.shape != expected:
        raise ValueError(
            f"expected a bool mask of shape {expected} for the {kind} neurons of this "
            f"{type(model).__name__}, found {mask.dtype} of shape {mask.shape}"
        )


@contextmanager
def silence(model, mask, kind):
    """Set a mask's neurons to zero in every forward pass inside the block.

    Layers without masked neurons are not touched: an empty mask changes nothing.
    """
    check_mask(mask, model, kind)
    functions = {}
    for layer in np.flatnonzero(mask.any(1)):
        kept = torch.tensor(~mask[layer], device=model.device)

        def zero(activations, kept=kept):
            return activations.where(kept.to(activations.device), 0)

        functions[int(layer)] = zero
    with neurons.edit(model, kind, functions):
        yield


def keep_only(model, mask, kind):
    """Silence all neurons of a kind but those of the mask."""
    return silence(model, ~np.asarray(mask), kind)


def strongest(scores, n):
    """Mask of the ``n`` neurons with the largest scores.

    Parameters
    ----------
    scores : array of shape (n_layers, n_neurons)
    n : int
    """
    flat = np.zeros(scores.size, bool)
    flat[np.argsort(-scores, axis=None, kind="stable")[:n]] = True
    return flat.reshape(scores.shape)


def random_uniform(mask, rng, *, among=None):
    """As many neurons as the mask has, drawn from all layers alike.

    Parameters
    ----------
    among : bool array of shape (n_layers, n_neurons), optional
        Neurons that may be drawn: all outside the mask, if not given.
    """
    allowed = ~mask if among is None else among
    return _draw(allowed, int(mask.sum()), rng)


def random_per_layer(mask, rng, *, among=None):
    """As many neurons in every layer as the mask has there, drawn at random.

    Parameters
    ----------
    among : bool array of shape (n_layers, n_neurons), optional
        Neurons that may be drawn: all outside the mask, if not given.
    """
    allowed = ~mask if among is None else among
    counts = mask.sum(1)
    return np.stack([_draw(a, int(n), rng) for a, n in zip(allowed, counts, strict=True)])


def _draw(allowed, n, rng):
    candidates = np.flatnonzero(allowed)
    if len(candidates) < n:
        raise ValueError(f"cannot draw {n} control neurons: only {len(candidates)} are left")
    drawn = np.zeros(allowed.size, bool)
    drawn[rng.choice(candidates, n, replace=False)] = True
    return drawn.reshape(allowed.shape)
