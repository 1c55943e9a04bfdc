"""Random neurons to compare a mask with: as many, in the same layers, alike in size.

Every control leaves out the mask's own neurons, unless a layer has too few others; then
all of that layer may be drawn, and ``overlap`` says how many of the mask's own there
are.
"""

import numpy as np
import pandas as pd

from anbn.core.generators import rng_of
from anbn.masking import pruning

N_NEAREST = 5  # neurons that one may be matched with


def per_layer(mask, rng, *, among=None):
    """As many random neurons in every layer as the mask has there.

    Parameters
    ----------
    mask : bool array of shape (n_layers, n_neurons)
    rng : numpy Generator
    among : bool array of shape (n_layers, n_neurons), optional
        Neurons that may be drawn; all by default.

    Returns
    -------
    control : bool array of shape (n_layers, n_neurons)

    Raises
    ------
    ValueError
        If a layer has too few neurons.
    """
    control = np.zeros_like(mask)
    for i, allowed in enumerate(_candidates(mask, among)):
        control[i, rng.choice(allowed, mask[i].sum(), replace=False)] = True
    return control


def uniform(mask, rng, *, n=None, among=None):
    """As many random neurons as the mask has, or n of them, from all layers alike."""
    n = mask.sum() if n is None else n
    among = np.ones_like(mask) if among is None else among
    allowed = among & ~mask
    allowed = allowed if allowed.sum() >= n else among
    _enough(allowed.sum(), n, "the model")
    control = np.zeros(mask.size, bool)
    control[rng.choice(np.flatnonzero(allowed), n, replace=False)] = True
    return control.reshape(mask.shape)


def matched(mask, quantity, rng, *, among=None):
    """For every neuron of the mask one of its layer that is alike in a quantity.

    Of the ``N_NEAREST`` neurons not drawn yet whose quantity is nearest on a log scale,
    a random one. What has no equal (a massive activation) cannot be matched: see
    ``balance``.

    Parameters
    ----------
    mask : bool array of shape (n_layers, n_neurons)
    quantity : array of shape (n_layers, n_neurons)
        Not negative, as a variance.
    rng : numpy Generator
    among : bool array of shape (n_layers, n_neurons), optional

    Returns
    -------
    control : bool array of shape (n_layers, n_neurons)
    """
    control = np.zeros_like(mask)
    log = np.log(np.maximum(quantity, np.finfo(np.float32).tiny))
    for i, allowed in enumerate(_candidates(mask, among)):
        left = np.ones(len(allowed), bool)
        for wanted in rng.permutation(log[i, mask[i]]):
            far = np.where(left, np.abs(log[i, allowed] - wanted), np.inf)
            k = min(N_NEAREST, int(left.sum()))
            drawn = rng.choice(np.argpartition(far, k - 1)[:k])
            left[drawn] = False
            control[i, allowed[drawn]] = True
    return control


def draw(mask, quantities, *, name, seed, n_draws, among=None):
    """All controls of a mask.

    Parameters
    ----------
    mask : bool array of shape (n_layers, n_neurons)
    quantities : dict of str to array of shape (n_layers, n_neurons)
        What controls are matched in, see ``matched``, from ``sizes``.
    name : str
        Of the mask.
    seed, n_draws : int
        n_draws of every control.
    among : bool array of shape (n_layers, n_neurons), optional
        Neurons that may be drawn, as all that are not massive.

    Returns
    -------
    controls : dict of str to list of bool arrays
        ``per layer``, ``uniform``, and one for each quantity.
    """
    controls = {
        "per layer": draw_per_layer(
            mask, name=name, seed=seed, n_draws=n_draws, among=among
        ),
        "uniform": [
            uniform(mask, rng, among=among)
            for rng in _generators(name, "uniform", seed, n_draws)
        ],
    }
    for control, quantity in quantities.items():
        controls[control] = [
            matched(mask, quantity, rng, among=among)
            for rng in _generators(name, control, seed, n_draws)
        ]
    return controls


def draw_per_layer(mask, *, name, seed, n_draws, among=None):
    """The control ``per layer`` of ``draw`` alone: the same draws."""
    generators = _generators(name, "per layer", seed, n_draws)
    return [per_layer(mask, rng, among=among) for rng in generators]


def _generators(name, control, seed, n_draws):
    steps = (f"{name}: {control}, draw {i}" for i in range(n_draws))
    return [rng_of(seed, step) for step in steps]


def random_name(share):
    """What the published control is called: so many of all neurons, at random."""
    return f"random {share:.0%}"


def of_masks(masks, quantities, *, seed, n_draws, random_share):
    """All controls of several masks; that of ``networks`` has the published one, too.

    Parameters
    ----------
    masks : list of selection.Mask
    quantities : dict of str to dict
        See ``draw``, by kind of neuron; a kind that is left out is not matched.
    seed, n_draws : int
    random_share : float
        Of all neurons, for the published control, ``random_name``.

    Returns
    -------
    controls : dict of str to dict of str to list of bool arrays
        By group and control.
    """
    drawn = {}
    for group, kind, mask, among in masks:
        drawn[group] = draw(
            mask,
            quantities.get(kind, {}),
            name=group,
            seed=seed,
            n_draws=n_draws,
            among=among,
        )
        if group == "networks":
            control, n = random_name(random_share), round(random_share * mask.size)
            drawn[group][control] = [
                uniform(mask, rng, n=n)
                for rng in _generators(group, control, seed, n_draws)
            ]
    return drawn


def sizes(model, calibrations, *, ids, layers=None):
    """What controls are matched in, for every kind of neuron.

    Parameters
    ----------
    model : torch.nn.Module
    calibrations : dict of str to calibration.Calibration
        By kind.
    ids : int array of shape (n_tokens,)
        Text for ``pruning.output_norms``.
    layers : list of int, optional
        Layers of the model that rows of the calibrations are; all by default.

    Returns
    -------
    quantities : dict of str to dict of str to array of shape (n_layers, n_neurons)
        ``variance`` over calibration text; ``contribution`` to the residual stream,
        mean |activation| times the norm of a neuron's output weights; of ``qk``, which
        has none, the first alone.
    """
    rows, quantities = layers or slice(None), {}
    for kind, usual in calibrations.items():
        quantities[kind] = {"variance": usual.variance}
        if kind != "qk":
            norms = pruning.output_norms(model, kind, ids=ids)[rows]
            quantities[kind]["contribution"] = usual.mean_abs * norms
    return quantities


def overlap(mask, draws):
    """Share of the mask's neurons that its controls hold too, mean over draws."""
    return float(np.mean([(mask & drawn).sum() for drawn in draws]) / mask.sum())


def balance(mask, controls, quantities):
    """How alike a mask and its controls are.

    Returns
    -------
    table : DataFrame
        A row a control, a column a quantity: its geometric mean over neurons, and the
        mean over draws, divided by the mask's. 1: well matched. ``overlap``: see there.
    """

    def size(chosen, quantity):
        return np.log(np.maximum(quantity[chosen], np.finfo(np.float32).tiny)).mean()

    rows = {
        name: {
            label: np.exp(np.mean([size(m, q) for m in draws]) - size(mask, q))
            for label, q in quantities.items()
        }
        | {"overlap": overlap(mask, draws)}
        for name, draws in controls.items()
    }
    return pd.DataFrame(rows).T.rename_axis("control")


def balance_of_masks(masks, drawn, quantities):
    """How alike masks and their controls are, a row a quantity and mask.

    Parameters
    ----------
    masks : list of selection.Mask
    drawn : dict
        From ``of_masks``.
    quantities : dict of str to dict
        By kind.

    Returns
    -------
    table : DataFrame
        ``balance``, a column a control.
    """
    tables = {
        f"{group} ({mask.sum()})": balance(mask, drawn[group], quantities[kind])
        for group, kind, mask, _ in masks
    }
    if not tables:
        return pd.DataFrame()
    return pd.concat(tables, names=["mask (neurons)"]).unstack(0).T


def _candidates(mask, among):
    """Neurons of every layer that may be drawn."""
    among = np.ones_like(mask) if among is None else among
    for i, (chosen, allowed) in enumerate(zip(mask, among, strict=True)):
        others = np.flatnonzero(allowed & ~chosen)
        others = others if len(others) >= chosen.sum() else np.flatnonzero(allowed)
        _enough(len(others), chosen.sum(), f"layer {i}")
        yield others


def _enough(n_found, n_wanted, where):
    if n_found < n_wanted:
        raise ValueError(
            f"cannot draw {n_wanted} control neurons: {where} has only {n_found}"
        )
