"""Where a mask of neurons comes from.

A mask is a bool array (n_layers, n_neurons), True for the neurons it is about.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

from anbn.core import artifacts, params, tables


class SelectionError(ValueError):
    """A mask does not fit the model, or cannot be made as asked."""


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
    mask, shape = np.asarray(mask), tuple(shape)
    if mask.shape != shape:
        raise SelectionError(
            f"mask {name!r} has shape {mask.shape}, expected (layers, neurons) "
            f"{shape}: it belongs to another model or another kind of neuron"
        )
    if mask.dtype.kind in "fc" and np.isnan(mask).any():
        raise SelectionError(
            f"mask {name!r} holds {np.isnan(mask).sum()} NaN: expected True and False"
        )
    if mask.dtype != bool:
        raise SelectionError(
            f"mask {name!r} is of type {mask.dtype}, expected bool: compare weights "
            "with a threshold first"
        )
    if not mask.any():
        raise SelectionError(
            f"mask {name!r} is empty: expected one neuron or more of {mask.size}"
        )
    if mask.all():
        raise SelectionError(
            f"mask {name!r} holds all {mask.size} neurons: nothing is left to compare "
            "it with"
        )
    return mask


def union(members):
    """Neurons of any network.

    Parameters
    ----------
    members : bool array of shape (n_networks, n_layers, n_neurons)
    """
    return np.asarray(members, bool).any(0)


def stable(members, stable, halves):
    """Neurons of the networks that come back in other documents.

    Parameters
    ----------
    members : bool array of shape (n_networks, n_layers, n_neurons)
    stable : bool array of shape (n_networks,)
        As stage 02 found them, see ``stability.Stability``.
    halves : array of shape (n_networks,)
        How alike each is in halves of the documents, |r|; NaN where it was not judged.
    """
    chosen, halves = np.asarray(stable, bool), np.asarray(halves, float)
    if not chosen.shape == halves.shape == (len(members),):
        raise SelectionError(
            f"expected stability of each of {len(members)} networks, found shapes "
            f"{chosen.shape} and {halves.shape}: run stage 02 again"
        )
    if not chosen.any():
        if np.isnan(halves).all():
            raise SelectionError(
                "sources: 'stable' needs networks of which stage 02 could judge the "
                "stability, which takes 4 documents or more: name more text in stage "
                "01, or leave 'stable' out"
            )
        raise SelectionError(
            "sources: none of stage 02's networks is stable: halves of the documents "
            f"agree by |r| of at most {np.nanmax(halves):.2f}, no more than where "
            "nothing is shared. Leave 'stable' out of sources"
        )
    return union(np.asarray(members)[chosen])


def of_domain(members, means, q, domain, *, level=0.05):
    """Neurons of the networks that answer to one domain of text more than to others.

    Parameters
    ----------
    members : bool array of shape (n_networks, n_layers, n_neurons)
    means : DataFrame of shape (n_networks, n_domains)
        Mean response to each domain, from ``profiles.domain_selectivity``.
    q : array of shape (n_networks,)
        Of the test that the domains differ, from the same.
    domain : str
    level : float
        Largest q.
    """
    if domain not in means:
        hint = params.did_you_mean(domain, list(means))
        raise SelectionError(
            f"no domain {domain!r}{hint}. There are {tables.some(means)}."
        )
    if not len(members) == len(means) == len(q):
        raise SelectionError(
            f"expected means and q of {len(members)} networks, found {len(means)} and "
            f"{len(q)}"
        )
    favourite = means.idxmax(axis=1).to_numpy()
    chosen = (favourite == domain) & (np.asarray(q) <= level)
    if not chosen.any():
        others = tables.some(sorted(set(favourite[np.asarray(q) <= level])))
        raise SelectionError(
            f"no network answers most to {domain!r} with q <= {level}, but to {others}"
        )
    return union(np.asarray(members)[chosen])


def beyond(arrays, *, by="fdr", level=0.05, share=0.01):
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
    strength = np.abs(arrays["synchrony"])
    if not np.isfinite(strength).all():
        raise SelectionError("synchrony holds NaN or infinity: run stage 03 again")
    if by == "fdr":
        return np.asarray(arrays["q"]) <= level
    if by == "fwe":
        return strength >= arrays["threshold"]
    if by == "top":
        if not 0 <= share < 1:
            raise SelectionError(f"share must lie in 0 to 1, found {share}")
        n = max(1, round(share * strength[..., 0].size))
        return np.stack([highest(s, n) for s in np.moveaxis(strength, -1, 0)], -1)
    raise SelectionError(f"by must be 'fdr', 'fwe' or 'top', found {by!r}")


def most_coupled(arrays, names, *, by="fdr", level=0.05):
    """Name of the brain network with the most coupled neurons.

    The largest |synchrony| decides between equals, and by "top", which gives each
    network as many.
    """
    counts = beyond(arrays, by=by, level=level, share=0).sum((0, 1))
    largest = np.abs(arrays["synchrony"]).max((0, 1))
    return names[np.lexsort((largest, counts))[-1]]


def coupled(arrays, names, network="", *, by="fdr", level=0.05, share=0.01):
    """Neurons that follow a brain network.

    Parameters
    ----------
    arrays, by, level, share
        See ``beyond``.
    names : list of str
        Of the brain networks, ``names.json`` of stage 02.
    network : str
        Empty for ``most_coupled``.

    Returns
    -------
    mask : bool array of shape (n_layers, n_neurons)
        Empty if no neuron is: that is a result.
    """
    n_networks = arrays["synchrony"].shape[-1]
    if len(names) != n_networks:
        raise SelectionError(
            f"expected a name for each of {n_networks} brain networks, found "
            f"{len(names)}: stages 02 and 03 do not belong together"
        )
    network = network or most_coupled(arrays, names, by=by, level=level)
    if list(names).count(network) != 1:
        hint = params.did_you_mean(network, names)
        raise SelectionError(
            f"{list(names).count(network) or 'no'} brain networks are called "
            f"{network!r}{hint}. There are {tables.some(names)}."
        )
    every = beyond(arrays, by=by, level=level, share=share)
    return every[..., list(names).index(network)]


def highest(scores, n):
    """Mask of the ``n`` neurons with the largest scores.

    Parameters
    ----------
    scores : array of shape (n_layers, n_neurons)
    n : int
    """
    if not 0 <= n <= scores.size:
        raise SelectionError(f"n must lie in 0 to {scores.size} neurons, found {n}")
    flat = np.zeros(scores.size, bool)
    flat[np.argsort(-scores, axis=None, kind="stable")[:n]] = True
    return flat.reshape(scores.shape)


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
        return check(_from_table(path, shape), shape, str(path))
    if kind == ".npz":
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
    if not whole.all():
        row = int((~whole).any(1).argmax())
        raise SelectionError(
            f"{path}, row {chosen.index[row] + 1}: expected whole numbers, found "
            f"{', '.join(chosen.iloc[row])}"
        )
    twice = pd.DataFrame(values).duplicated()
    if twice.any():
        layer, neuron = values[int(twice.argmax())].astype(int)
        raise SelectionError(f"{path}: layer {layer}, neuron {neuron} comes twice")
    layers, neurons = values.T.astype(int)
    for name, numbers, n in zip(chosen, (layers, neurons), shape, strict=True):
        wrong = [int(number) for number in numbers if not 0 <= number < n]
        if wrong:
            raise SelectionError(
                f"{path}: {name} {wrong[0]} does not exist, there are 0 to {n - 1}"
            )
    mask = np.zeros(shape, bool)
    mask[layers, neurons] = True
    return mask
