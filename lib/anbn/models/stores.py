"""Stores of activations: written block by block, opened lazily.

A store is a folder: ``activations.zarr``, a zarr group with an array of shape
(n_tokens, n_layers, n_neurons) for every kind of neuron, ``tokens.parquet``, which says
what each row is, and ``store.json``, which says how it was recorded.
"""

import errno
import hashlib
import itertools
import json
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr
import zarr

from anbn.core import artifacts, blocks

TOKEN_BLOCK = 512  # rows of a chunk
TASK_BYTES = 2**24  # read by one task of dask
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
    with suppress(artifacts.ArtifactError):
        found = artifacts.read_json(partial / ABOUT)
    n_recorded = found.pop("n_recorded", 0)
    if found != json.loads(json.dumps(about)):  # tuples come back as lists
        shutil.rmtree(partial, ignore_errors=True)
        n_recorded = 0
        with _naming(partial):
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


@contextmanager
def _naming(folder):
    """Say of an error of the disk which store it was."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"{folder} could not be written: {error}. Run again: it goes on",
        ) from error


def _create(folder, tokens, shapes, about):
    """Make an empty store."""
    if len({n_layers for n_layers, _ in shapes.values()}) > 1:
        raise ValueError(f"kinds have different numbers of layers: {shapes}")
    group = zarr.open_group(folder / GROUP, mode="w")
    predictions = PREDICTIONS if about["predictions"] else ()
    arrays = {name: ((), (), (), "float32") for name in predictions}
    for kind, (n_layers, n_neurons) in shapes.items():
        names = ("layer", f"neuron_{kind}")
        arrays[kind] = (n_layers, n_neurons), (1, n_neurons), names, about["dtype"]
    for name, (shape, chunks, dimensions, dtype) in arrays.items():
        group.create_array(
            name,
            shape=(len(tokens), *shape),
            chunks=(TOKEN_BLOCK, *chunks),
            dtype=dtype,
            dimension_names=("token", *dimensions),
            compressors=None,  # float16 noise hardly shrinks
            fill_value=np.nan,
        )
    layers = np.array(about["layers"] or range(n_layers))
    group.create_array("layer", data=layers, dimension_names=("layer",))
    artifacts.write_table(folder / TOKENS, tokens)
    artifacts.write_json(folder / ABOUT, {**about, "n_recorded": 0})


class Writer:
    """Collects rows and writes them to a store, a whole block at a time.

    It works in numpy alone: torch would take a second team of threads beside that of
    the model, which runs at the same time.
    """

    def __init__(self, folder, shapes, about, n_recorded):
        self.folder, self.about, self.n_recorded = folder, about, n_recorded
        names = PREDICTIONS if about["predictions"] else ()
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
        given = {name: given[name].numpy() for name in self.block}
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
        for name in self.block:
            chunks = self.folder / GROUP / name / "c" / str(begin // TOKEN_BLOCK)
            with _naming(self.folder):
                if block[name].ndim == 1:
                    _write_chunk(chunks, block[name])
                    continue
                for layer, values in enumerate(block[name]):
                    _write_chunk(chunks / str(layer) / "0", values)
        self.n_recorded = end
        artifacts.write_json(self.folder / ABOUT, {**self.about, "n_recorded": end})


def _write_chunk(path, values):
    """Write a chunk as zarr's format has it: plain numbers, a whole block of them.

    Zarr itself would hold Python's lock for long, from the model. The chunk is brought
    to the disk, so that a power cut cannot take what counts as recorded, and out of
    memory: finding memory anew for every block costs more than writing it.
    """
    missing = TOKEN_BLOCK - len(values)
    if missing:
        width = [(0, missing)] + [(0, 0)] * (values.ndim - 1)
        values = np.pad(values, width, constant_values=np.nan)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb", buffering=0) as file:
        if file.write(np.ascontiguousarray(values)) != values.nbytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(file)
        if hasattr(os, "posix_fadvise"):  # Linux
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


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
            "Record them: parameter `kinds` (of corpora: `corpora_kinds`) of stage 01."
        )
    dataset = xr.Dataset({k: _open(path, k) for k in ([kind] if kind else kinds)})
    tokens = pd.read_parquet(path / TOKENS).rename(columns={"token": "text"})
    named = [c for c in ("text", "word", "onset", "offset") if c in tokens]
    dataset = dataset.assign_coords({c: ("token", tokens[c].to_numpy()) for c in named})
    if kind is None:
        return dataset
    return dataset[kind].rename({f"neuron_{kind}": "neuron"})


def _open(path, kind):
    """One kind of a store, of which no chunk may be missing."""
    array = zarr.open_group(path / GROUP, mode="r")[kind]
    grid = [range(-(-n // c)) for n, c in zip(array.shape, array.chunks, strict=True)]
    for i, j in itertools.product(*grid[:2]):
        chunk = path / GROUP / kind / "c" / str(i) / str(j) / "0"
        if not chunk.is_file():
            raise artifacts.ArtifactError(
                f"{path}: chunk {chunk.relative_to(path)} is missing. Record again."
            )
    # many chunks a task: dask takes longer for a task than zarr for a chunk
    layers = max(1, TASK_BYTES // (array.nbytes // array.size * np.prod(array.chunks)))
    chunks = {"token": array.chunks[0], "layer": int(layers)}
    return xr.open_zarr(path / GROUP, consolidated=False, chunks=chunks)[kind]


def write_statistics(file, path, kinds):
    """Write mean and variance of every neuron over the tokens of a store.

    Parameters
    ----------
    file : Path
        Gets ``mean_<kind>`` and ``variance_<kind>``, float64 arrays of shape
        (n_layers, n_neurons), as npz.
    path : path-like
        The store.
    kinds : list of str
    """
    arrays = {}
    for kind in kinds:
        activations = open_activations(path, kind)
        mean, variance = blocks.moments(activations)
        arrays[f"mean_{kind}"] = mean.reshape(activations.shape[1:])
        arrays[f"variance_{kind}"] = variance.reshape(activations.shape[1:])
    artifacts.write_arrays(file, **arrays)
