"""Stores of activations: written block by block, opened lazily.

A store is a folder: ``activations.zarr``, a zarr group with an array of shape
(n_tokens, n_layers, n_neurons) for every kind of neuron, ``tokens.parquet``, which says
what each row is, and ``store.json``, which says how it was recorded.
"""

import hashlib
import itertools
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr
import zarr

from anbn import artifacts

TOKEN_BLOCK = 512  # rows of a chunk
GROUP, TOKENS, ABOUT = "activations.zarr", "tokens.parquet", "store.json"
PREDICTIONS = ("surprisal", "entropy")


@contextmanager
def writing(path, tokens, shapes, about):
    """Write a store, going on with what an interrupted recording left.

    Parameters
    ----------
    path : path-like
        The store appears there when the block ends without error; until then it grows
        in ``<path>.partial``, which an interruption leaves.
    tokens : DataFrame
    shapes : dict of str to (n_layers, n_neurons)
    about : dict
        All that decides what is recorded; a partial store of anything else is deleted.

    Yields
    ------
    writer : Writer
    """
    path = Path(path)
    partial = path.with_name(path.name + artifacts.PARTIAL)
    rows = pd.util.hash_pandas_object(tokens, index=False).to_numpy()
    about = {**about, "kinds": shapes, "n_tokens": len(tokens)}
    about["tokens"] = hashlib.sha256(rows.tobytes()).hexdigest()
    about = {key: about[key] for key in sorted(about)}
    found = {}
    try:
        found = artifacts.read_json(partial / ABOUT)
    except artifacts.ArtifactError:
        pass
    n_recorded = found.pop("n_recorded", 0)
    if found != _as_json(about):
        shutil.rmtree(partial, ignore_errors=True)
        n_recorded = 0
        _create(partial, tokens, shapes, about)
    try:
        yield (writer := Writer(partial, shapes, about, n_recorded))
    except OverflowError:  # would come again
        shutil.rmtree(partial)
        raise
    if writer.n_recorded != len(tokens):
        raise artifacts.ArtifactError(
            f"{partial} holds {writer.n_recorded} of {len(tokens)} tokens"
        )
    with artifacts.atomic(path) as temporary:
        os.replace(partial, temporary)


def _as_json(about):
    """As it reads back: tuples are lists."""
    return json.loads(json.dumps(about))


def _create(folder, tokens, shapes, about):
    """Make an empty store."""
    if len({n_layers for n_layers, _ in shapes.values()}) > 1:
        raise ValueError(f"kinds have different numbers of layers: {shapes}")
    group = zarr.open_group(folder / GROUP, mode="w")
    options = {
        "compressors": None,  # float16 noise hardly shrinks
        "config": {"write_empty_chunks": True},  # spares a comparison of every number
        "fill_value": np.nan,
    }
    for kind, (n_layers, n_neurons) in shapes.items():
        group.create_array(
            kind,
            shape=(len(tokens), n_layers, n_neurons),
            chunks=(TOKEN_BLOCK, 1, n_neurons),
            dtype=about["dtype"],
            dimension_names=("token", "layer", f"neuron_{kind}"),
            **options,
        )
        layers = np.array(about["layers"] or range(n_layers))
    if shapes:
        group.create_array("layer", data=layers, dimension_names=("layer",))
    for name in PREDICTIONS if about["predictions"] else ():
        group.create_array(
            name,
            shape=(len(tokens),),
            chunks=(TOKEN_BLOCK,),
            dtype="float32",
            dimension_names=("token",),
            **options,
        )
    artifacts.write_table(folder / TOKENS, tokens)
    artifacts.write_json(folder / ABOUT, {**about, "n_recorded": 0})


class Writer:
    """Collects rows and writes them to a store, a whole block at a time.

    It works in numpy alone: torch would take a second team of threads from the model
    that runs at the same time.
    """

    def __init__(self, folder, shapes, about, n_recorded):
        self.folder, self.about, self.n_recorded = folder, about, n_recorded
        group = zarr.open_group(folder / GROUP, mode="r+")
        names = [*shapes, *(name for name in PREDICTIONS if name in group)]
        self.arrays = {name: group[name] for name in names}
        self.block = {name: np.empty(TOKEN_BLOCK, "float32") for name in names}
        for kind, (n_layers, n_neurons) in shapes.items():
            shape = (n_layers, TOKEN_BLOCK, n_neurons)
            self.block[kind] = np.empty(shape, about["dtype"])

    def append(self, rows, activations, surprisal=None, entropy=None):
        """Add the tokens that follow those added so far.

        Parameters
        ----------
        rows : slice
        activations : dict of str to Tensor of shape (n_layers, n, n_neurons)
        surprisal, entropy : Tensor of shape (n,), optional
            Unknown (NaN) for a model that predicts nothing.
        """
        unknown = torch.full((rows.stop - rows.start,), torch.nan)
        predictions = zip(PREDICTIONS, (surprisal, entropy), strict=True)
        given = {k: unknown if x is None else x for k, x in predictions} | activations
        given = {name: given[name].numpy() for name in self.arrays}
        at = rows.start
        while at < rows.stop:
            begin = at // TOKEN_BLOCK * TOKEN_BLOCK
            end = min(begin + TOKEN_BLOCK, self.about["n_tokens"])
            stop = min(rows.stop, end)
            part = {
                name: _rows(values, at - rows.start, stop - rows.start)
                for name, values in given.items()
            }
            if (at, stop) == (begin, end):
                self._write(begin, end, part)
            else:
                for name, values in part.items():
                    _rows(self.block[name], at - begin, stop - begin)[:] = values
                if stop == end:
                    block = {n: _rows(v, 0, end - begin) for n, v in self.block.items()}
                    self._write(begin, end, block)
            at = stop

    def _write(self, begin, end, block):
        for name, array in self.arrays.items():
            values = block[name]
            array[begin:end] = values.swapaxes(0, 1) if values.ndim == 3 else values
        self.n_recorded = end
        artifacts.write_json(self.folder / ABOUT, {**self.about, "n_recorded": end})


def _rows(values, begin, end):
    """Some tokens of (n_layers, n, n_neurons) or (n,)."""
    return values[:, begin:end] if values.ndim == 3 else values[begin:end]


def read_tokens(path):
    """The tokens of a store, one row each, with their surprisal and entropy (nats)."""
    tokens = pd.read_parquet(Path(path) / TOKENS)
    group = zarr.open_group(Path(path) / GROUP, mode="r")
    predictions = {name: group[name][:] for name in PREDICTIONS if name in group}
    return tokens.assign(**predictions)


def open_activations(path, kind=None):
    """Open a store, without loading it.

    Parameters
    ----------
    path : path-like
    kind : str, optional
        All kinds by default.

    Returns
    -------
    activations : DataArray of shape (n_tokens, n_layers, n_neurons), or Dataset
        Loaded (by dask) when computed, and only what is selected; coordinates
        ``text``, ``word``, ``onset``, ``offset`` of tokens, and ``layer``. Without
        ``kind``, a Dataset with such an array for every kind.

    Raises
    ------
    ArtifactError
        If there is no store, it has no such kind, or a chunk is missing (zarr alone
        would read NaN there).
    """
    path = Path(path)
    try:
        kinds = artifacts.read_json(path / ABOUT)["kinds"]
    except artifacts.ArtifactError as error:
        raise artifacts.ArtifactError(f"{path} is no store of activations") from error
    if kind is not None and kind not in kinds:
        raise artifacts.ArtifactError(
            f"{path} holds no activations of {kind!r}, only of {', '.join(kinds)}. "
            "Record them: parameter `kinds` of stage 01."
        )
    group = zarr.open_group(path / GROUP, mode="r")
    for name in [kind] if kind else kinds:
        array = group[name]
        grid = [
            range(-(-n // c)) for n, c in zip(array.shape, array.chunks, strict=True)
        ]
        for i, j in itertools.product(*grid[:2]):
            chunk = path / GROUP / name / "c" / str(i) / str(j) / "0"
            if not chunk.is_file():
                raise artifacts.ArtifactError(
                    f"{path}: chunk {chunk.relative_to(path)} is missing. Record again."
                )
    dataset = xr.open_zarr(path / GROUP, consolidated=False, chunks={})
    tokens = pd.read_parquet(path / TOKENS).rename(columns={"token": "text"})
    named = [c for c in ("text", "word", "onset", "offset") if c in tokens]
    coordinates = {c: ("token", tokens[c].to_numpy()) for c in named}
    dataset = dataset[list(kinds)].assign_coords(coordinates)
    return (
        dataset if kind is None else dataset[kind].rename({f"neuron_{kind}": "neuron"})
    )
