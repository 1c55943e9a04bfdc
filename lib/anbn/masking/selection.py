"""Where a mask of neurons comes from.

A mask is a bool array (n_layers, n_neurons), True for the neurons it is about.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

from anbn.core import artifacts, params, tables
from anbn.networks import decomposition, svd


class SelectionError(ValueError):
    """A mask does not fit the model, or cannot be made as asked."""


class Mask(NamedTuple):
    """Some neurons of a model, by a name."""

    group: str
    kind: str  # of neuron
    neurons: np.ndarray  # bool (n_layers, n_neurons)
    among: np.ndarray | None = None  # that its controls may hold, alike; None: any


def usable(asked, shapes):
    """Masks that can be compared with other neurons; which cannot is a result.

    Parameters
    ----------
    asked : list of Mask
    shapes : dict of str to (int, int)
        n_layers, n_neurons of every kind.

    Returns
    -------
    masks : list of Mask
    left_out : dict of str to str
        By group, why: it holds no neuron, or all there are.

    Raises
    ------
    SelectionError
        If a mask does not fit the model.
    """
    masks, left_out = [], {}
    for mask in asked:
        _fits(mask.neurons, shapes[mask.kind], mask.group)
        if mask.neurons.any() and not mask.neurons.all():
            masks.append(mask)
        else:
            left_out[mask.group] = "all neurons" if mask.neurons.any() else "no neuron"
    return masks, left_out


def and_without_massive(masks, massive):
    """Masks, and after each that holds massive neurons the same without them.

    Its controls hold none either (``among``). A mask of massive neurons alone stays as
    it is.

    Parameters
    ----------
    masks : list of Mask
    massive : dict of str to bool array of shape (n_layers, n_neurons)
        By kind, ``massive.massive_neurons``.

    Returns
    -------
    masks : list of Mask
    """
    every = []
    for mask in masks:
        every.append(mask)
        left = mask.neurons & ~massive[mask.kind]
        if left.any() and (mask.neurons & massive[mask.kind]).any():
            name = f"{mask.group}, massive out"
            every.append(Mask(name, mask.kind, left, ~massive[mask.kind]))
    return every


def write(folder, masks, massive):
    """Masks as files, for ``read``.

    Parameters
    ----------
    folder : Path
        Gets ``masks.npz`` (bool arrays), ``masks.parquet`` (of each its ``group``,
        ``kind``, name of its ``array``, number ``n`` of neurons, and whether it is one
        ``without_massive`` neurons) and ``massive.npz`` (massive neurons by kind).
    masks : list of Mask
    massive : dict of str to bool array of shape (n_layers, n_neurons)
    """
    arrays = {f"{artifacts.slug(m.group)}_{m.kind}": m.neurons for m in masks}
    columns = {
        "group": [mask.group for mask in masks],
        "kind": [mask.kind for mask in masks],
        "array": list(arrays),
        "n": [int(mask.neurons.sum()) for mask in masks],
        "without_massive": [mask.among is not None for mask in masks],
    }
    artifacts.write_table(folder / "masks.parquet", pd.DataFrame(columns))
    artifacts.write_arrays(folder / "masks.npz", **arrays)
    artifacts.write_arrays(folder / "massive.npz", **massive)


def read(folder):
    """Masks that ``write`` wrote.

    Returns
    -------
    masks : list of Mask
    """
    about = pd.read_parquet(folder / "masks.parquet")
    arrays = artifacts.read_arrays(folder / "masks.npz")
    massive = artifacts.read_arrays(folder / "massive.npz")
    return [
        Mask(
            row.group,
            row.kind,
            arrays[row.array],
            ~massive[row.kind] if row.without_massive else None,
        )
        for row in about.itertuples()
    ]


def check(mask, shape, name):
    """Raise SelectionError unless a mask can be used on neurons of this shape.

    Parameters
    ----------
    mask : array
    shape : tuple of int
        n_layers, n_neurons of the model.
    name : str
        Of the mask, for the error.

    Returns
    -------
    mask : bool array of shape (n_layers, n_neurons)
    """
    _fits(mask, shape, name)
    if mask.all() or not mask.any():
        found = "all" if mask.all() else "none"
        raise SelectionError(
            f"mask {name!r} holds {found} of {mask.size} neurons: expected one or "
            "more, and others to compare them with"
        )
    return mask


def _fits(mask, shape, name):
    """Raise SelectionError unless a mask is one of these neurons."""
    if mask.shape != tuple(shape):
        raise SelectionError(
            f"mask {name!r} has shape {mask.shape}, expected (layers, neurons) "
            f"{tuple(shape)}: it belongs to another model or another kind of neuron"
        )
    if mask.dtype != bool:
        raise SelectionError(
            f"mask {name!r} is of type {mask.dtype}, expected bool: compare weights "
            "with a threshold first"
        )


def stable(members, stable):
    """Neurons of the networks that come back in other documents.

    Parameters
    ----------
    members : bool array of shape (n_networks, n_layers, n_neurons)
    stable : bool array of shape (n_networks,)
        As stage 02b found them, see ``stability.Stability``.

    Returns
    -------
    mask : bool array of shape (n_layers, n_neurons)
        Empty if no network is: that is a result.
    """
    return members[stable].any(0)


def of_domain(members, answers, domain):
    """Neurons of the networks that answer to one domain of text more than to others.

    Parameters
    ----------
    members : bool array of shape (n_networks, n_layers, n_neurons)
    answers : DataFrame, a row a network
        ``model.parquet`` of stage 02b: mean response to each domain, as ``mean wiki``,
        and ``q`` of the test that the domains differ, which must be 0.05 at most.
    domain : str

    Returns
    -------
    mask : bool array of shape (n_layers, n_neurons)
        Empty if no network does: that is a result.
    """
    if not len(members):
        return members.any(0)
    means = answers.filter(like="mean ")
    means.columns = [name.removeprefix("mean ") for name in means]
    if domain not in means:
        hint = params.did_you_mean(domain, list(means))
        raise SelectionError(
            f"no domain {domain!r}{hint}. There are {tables.some(means)}."
        )
    favourite = means.idxmax(axis=1).to_numpy()
    chosen = (favourite == domain) & (answers["q"].to_numpy() <= 0.05)
    return members[chosen].any(0)


def beyond(arrays, *, by, level, share):
    """Which neurons are coupled with which brain network.

    Parameters
    ----------
    arrays : dict
        ``synchrony.npz`` of stage 03: ``synchrony`` and ``q`` of shape
        (n_layers, n_neurons, n_networks), ``threshold``.
    by : {"fdr", "fwe", "top"}
        q at most ``level``; |synchrony| at the family-wise threshold or beyond; the
        ``share`` of all neurons with the largest |synchrony| with each network, be it
        significant or not.
    level, share : float

    Returns
    -------
    beyond : bool array of shape (n_layers, n_neurons, n_networks)
    """
    if by == "fdr":
        return arrays["q"] <= level
    strength = np.abs(arrays["synchrony"])
    if by == "fwe":
        return strength >= arrays["threshold"]
    n = max(1, round(share * strength[..., 0].size))
    return np.stack([highest(s, n) for s in np.moveaxis(strength, -1, 0)], -1)


def coupled(arrays, names, network, *, by, level, share):
    """Neurons that follow a brain network.

    Parameters
    ----------
    arrays, by, level, share
        See ``beyond``.
    names : list of str
        Of the brain networks, ``names.json`` of stage 03.
    network : str
        Empty for the one with the most coupled neurons; the largest |synchrony| decides
        between equals, and by "top", which gives each network as many.

    Returns
    -------
    network : str
    mask : bool array of shape (n_layers, n_neurons)
        Empty if no neuron is: that is a result.
    """
    if not names:
        return "no brain network", np.zeros(arrays["synchrony"].shape[:2], bool)
    every = beyond(arrays, by=by, level=level, share=share)
    if not network:
        largest = np.abs(arrays["synchrony"]).max((0, 1))
        network = names[np.lexsort((largest, every.sum((0, 1))))[-1]]
    if names.count(network) != 1:
        hint = params.did_you_mean(network, names)
        raise SelectionError(
            f"{names.count(network) or 'no'} brain networks are called "
            f"{network!r}{hint}. There are {tables.some(names)}."
        )
    return network, every[..., names.index(network)]


def highest(scores, n):
    """Mask of the ``n`` neurons with the largest scores.

    Parameters
    ----------
    scores : array of shape (n_layers, n_neurons)
    n : int
    """
    flat = np.zeros(scores.size, bool)
    flat[np.argsort(-scores, axis=None, kind="stable")[:n]] = True
    return flat.reshape(scores.shape)


def of_components(activations, n, *, z_threshold, random_state):
    """Neurons of networks that are fitted anew, as the published ones are.

    Parameters
    ----------
    activations : array or DataArray of shape (n_tokens, n_layers, n_neurons)
        Of a store, ``stores.open_activations``.
    n : int
        Components of an independent component analysis.
    z_threshold : float
        See ``decomposition.threshold``.
    random_state : int

    Returns
    -------
    mask : bool array of shape (n_layers, n_neurons)
        Neurons of any component.
    """
    z = decomposition.ica(svd.reduce(activations, n), random_state=random_state)
    members = decomposition.threshold(z.networks, z_threshold)
    return members.any(0).reshape(activations.shape[1:])


def from_file(path, shape):
    """Mask from a file of the user's.

    Parameters
    ----------
    path : path-like
        ``.npz`` or ``.safetensors`` with a bool array ``mask``, or ``.csv`` or ``.tsv``
        with the columns ``layer`` and ``neuron``, from 0, a row a neuron.
    shape : tuple of int
        n_layers, n_neurons of the model.
    """
    path = Path(path)
    if not path.is_file():
        raise SelectionError(f"{path}: no such file")
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv"):
        arrays = {"mask": _from_table(path, shape)}
    elif kind == ".npz":
        arrays = artifacts.read_arrays(path)
    elif kind == ".safetensors":
        try:
            arrays = load_file(path)
        except (OSError, SafetensorError) as error:
            raise SelectionError(
                f"{path} cannot be read as safetensors: {error}"
            ) from error
    else:
        raise SelectionError(
            f"{path}: expected .npz, .safetensors, .csv or .tsv, found {kind or 'none'}"
        )
    if "mask" not in arrays:
        raise SelectionError(
            f"{path} has no array 'mask', there are {tables.some(arrays)}"
        )
    return check(arrays["mask"], shape, str(path))


def _from_table(path, shape):
    table = tables.read_named(path, SelectionError)
    chosen = tables.choose(table, ["layer", "neuron"], path, SelectionError)
    values = chosen.apply(pd.to_numeric, errors="coerce").to_numpy(float)
    whole = np.isfinite(values) & (values == np.round(values))
    there = whole & (values >= 0) & (values < shape)
    if not there.all():
        row = int((~there).any(1).argmax())
        raise SelectionError(
            f"{path}, row {chosen.index[row] + 1}: expected whole numbers, layer of 0 "
            f"to {shape[0] - 1} and neuron of 0 to {shape[1] - 1}, found "
            f"{', '.join(chosen.iloc[row])}"
        )
    mask = np.zeros(shape, bool)
    mask[tuple(values.T.astype(int))] = True
    if mask.sum() < len(values):
        twice = chosen[pd.DataFrame(values, chosen.index).duplicated()]
        layer, neuron = twice.iloc[0]
        raise SelectionError(f"{path}: layer {layer}, neuron {neuron} comes twice")
    return mask
