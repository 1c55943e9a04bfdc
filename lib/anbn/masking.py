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
        kept = torch.tensor(~mask[layer], device=neurons.input_device(model))

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


def random_uniform(n, rng, *, among):
    """Mask of ``n`` random neurons of all layers alike.

    Parameters
    ----------
    among : bool array of shape (n_layers, n_neurons)
        Neurons that may be drawn.
    """
    return _draw(among, n, rng)


def random_per_layer(mask, rng, *, among):
    """As many random neurons in every layer as the mask has there.

    Parameters
    ----------
    mask, among : bool arrays of shape (n_layers, n_neurons)
        ``among`` may hold neurons of the mask: a mask that takes most of a layer leaves
        too few others to draw from.
    """
    return np.stack(
        [_draw(a, int(n), rng) for a, n in zip(among, mask.sum(1), strict=True)]
    )


def with_controls(n, strength, variance, massive, rng, *, n_draws):
    """The ``n`` strongest neurons of the networks and the controls for them.

    Parameters
    ----------
    n : int
        Neurons a mask.
    strength : array of shape (n_layers, n_neurons)
        How clearly a neuron belongs to a network (the largest z of any).
    variance : array of shape (n_layers, n_neurons)
    massive : bool array of shape (n_layers, n_neurons)
        Neurons of outstanding variance, looked at apart.
    rng : numpy Generator
    n_draws : int
        Draws of every random control.

    Returns
    -------
    masks : dict of str to list of bool arrays of shape (n_layers, n_neurons)
        ``networks``; ``networks without massive``: the strongest that are not massive;
        for each of the two, random neurons with the same number in every layer;
        ``random, uniform``; ``largest variance``.
    """
    every = np.ones(strength.shape, bool)
    chosen = strongest(strength, n)
    calm = strongest(np.where(massive, -np.inf, strength), n)
    draws = range(n_draws)
    return {
        "networks": [chosen],
        "random, same per layer": [
            random_per_layer(chosen, rng, among=every) for _ in draws
        ],
        "networks without massive": [calm],
        "random per layer, without massive": [
            random_per_layer(calm, rng, among=~massive) for _ in draws
        ],
        "random, uniform": [random_uniform(n, rng, among=every) for _ in draws],
        "largest variance": [strongest(variance, n)],
    }


def _draw(allowed, n, rng):
    candidates = np.flatnonzero(allowed)
    if len(candidates) < n:
        raise ValueError(
            f"cannot draw {n} control neurons: only {len(candidates)} are left"
        )
    drawn = np.zeros(allowed.size, bool)
    drawn[rng.choice(candidates, n, replace=False)] = True
    return drawn.reshape(allowed.shape)
