"""Streaming a model over text into a store of activations, and reading it back.

A store is a folder: ``activations.zarr``, a zarr group with an array of shape
(n_tokens, n_layers, n_neurons) for every kind of neuron, and ``tokens.parquet``, which
says what each row is.
"""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr
import zarr
from tqdm import tqdm

from anbn import artifacts, neurons, stimuli

TOKEN_BLOCK = 512  # rows of a chunk
GROUP = "activations.zarr"


def tokenize(tokenizer, text, words=None):
    """Tokens of a text, and the word each belongs to.

    A token belongs to the word it shares most characters with, the later one if equal
    (many tokens begin with a blank; some, like ``wouldn`` of ``would|n't``, reach into
    the next word).

    Parameters
    ----------
    tokenizer : transformers tokenizer
        A fast one: character offsets are needed.
    text : str
    words : DataFrame, optional
        Columns ``start``, ``end``: characters of each word.

    Returns
    -------
    tokens : DataFrame
        Columns ``id``, ``token`` (its characters), ``start``, ``end`` and ``word``
        (row of ``words``, -1 for none). Special tokens are not among them.
    """
    if not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} gives no character offsets: use a model with "
            "a fast tokenizer (tokenizer.json)"
        )
    options = {"add_special_tokens": False, "return_offsets_mapping": True}
    coded = tokenizer(
        text, **options, verbose=False
    )  # windows keep to the model's length
    start, end = np.array(coded["offset_mapping"], int).reshape(-1, 2).T
    pieces = [text[s:e] for s, e in zip(start, end, strict=True)]
    owner = np.full(len(text) + 1, -1)
    if words is not None:
        for row, (s, e) in enumerate(zip(words["start"], words["end"], strict=True)):
            owner[s:e] = row
    word = [_majority(owner[s:e]) for s, e in zip(start, end, strict=True)]
    columns = {"id": coded["input_ids"], "token": pieces, "start": start, "end": end}
    return pd.DataFrame({**columns, "word": word})


def _majority(owners):
    """The word of most of a token's characters, the later if equal; -1: none."""
    found, counts = np.unique(owners[owners >= 0][::-1], return_counts=True)
    return int(found[::-1][counts[::-1].argmax()]) if len(found) else -1


def tokenize_corpora(tokenizer, paths, n_tokens, document_tokens):
    """Tokens of several corpora, cut into documents of bounded length.

    Parameters
    ----------
    paths : list of path-like
        Plain-text corpora, see ``stimuli.read_corpus``.
    n_tokens : int
        Of each corpus, from its beginning.
    document_tokens : int
        A longer document is cut at so many tokens, the rest is dropped.

    Returns
    -------
    tokens : DataFrame
        As from ``tokenize``, with ``document`` (a running number).
    documents : DataFrame
        A row a document: ``corpus`` (file name) and ``text``, as far as it was used.
    """
    cut, documents = [], []
    for path in paths:
        total = 0
        for text in stimuli.read_corpus(path):
            tokens = tokenize(tokenizer, text).iloc[
                : min(document_tokens, n_tokens - total)
            ]
            cut.append(tokens.assign(document=len(documents)))
            documents.append((Path(path).stem, text[: tokens["end"].iloc[-1]]))
            total += len(tokens)
            if total >= n_tokens:
                break
        else:
            raise stimuli.StimulusError(
                f"{path} has {total} tokens in documents of at most {document_tokens}, "
                f"expected {n_tokens}: lower corpus_tokens or raise document_tokens"
            )
    tokens = pd.concat(cut, ignore_index=True)
    return tokens, pd.DataFrame(documents, columns=["corpus", "text"])


def windows(n_tokens, window, stride):
    """Cut a text into windows that overlap, so that every token has context.

    Parameters
    ----------
    n_tokens, window, stride : int
        ``window`` tokens are seen at a time; each but the first window adds ``stride``
        new ones, which see at least ``window - stride`` tokens before them.

    Returns
    -------
    spans : list of (begin, new, end)
        The model reads tokens begin:end; those of new:end are kept.
    """
    if not 1 <= stride <= window:
        raise ValueError(f"stride must lie in 1 to window ({window}), found {stride}")
    spans, new = [], 0
    while new < n_tokens:
        end = min(new + (stride if new else window), n_tokens)
        spans.append((max(0, end - window), new, end))
        new = end
    return spans


def token_losses(logits, ids):
    """Surprisal of every token given those before it.

    Parameters
    ----------
    logits : Tensor of shape (n_tokens, n_vocabulary)
    ids : Tensor of shape (n_tokens,)

    Returns
    -------
    losses : Tensor of shape (n_tokens,)
        Nats; NaN for the first token, which nothing precedes.
    """
    losses = torch.nn.functional.cross_entropy(
        logits[:-1].float(), ids[1:].to(logits.device), reduction="none"
    )
    return torch.cat([losses.new_full((1,), torch.nan), losses]).cpu()


def forward_windows(language_model, tokens, *, window, stride, kinds=()):
    """Run a model over documents in windows.

    Parameters
    ----------
    language_model : LanguageModel
    tokens : DataFrame
        From ``tokenize``; a column ``document`` keeps documents apart.
    window, stride : int
        Tokens; see ``windows``. A model's special tokens are added to each window.
    kinds : list of str
        Kinds of neurons to capture.

    Yields
    ------
    rows : slice
        Which tokens these are.
    activations : dict of str to Tensor of shape (n, n_layers, n_neurons)
        On the CPU, in the model's precision.
    losses : Tensor of shape (n,) or None
        Surprisal in nats, for a model with a causal head.
    """
    model, tokenizer = language_model.model, language_model.tokenizer
    before, after = special_tokens(tokenizer)
    room = min(window, language_model.max_tokens - len(before) - len(after))
    if room < window:  # a model with a short context still gets overlapping windows
        stride = min(stride, max(1, room // 2))
    ids = tokens["id"].to_numpy()
    document = tokens.get("document", pd.Series(np.zeros(len(tokens), int))).to_numpy()
    borders = np.flatnonzero(np.diff(document)) + 1
    jobs = [
        (first + begin, first + new, first + end)
        for first, last in zip([0, *borders], [*borders, len(ids)], strict=True)
        for begin, new, end in windows(last - first, room, stride)
    ]
    for begin, new, end in tqdm(jobs, "windows", mininterval=5, disable=len(jobs) < 4):
        given = torch.tensor([*before, *ids[begin:end], *after])
        with torch.inference_mode(), neurons.capture(model, kinds) as captured:
            output = model(given[None].to(model.device))
        keep = slice(len(before) + new - begin, len(before) + end - begin)
        losses = None
        if language_model.head == "causal":
            losses = token_losses(output.logits[0], given)[keep]
        layers = {
            kind: torch.stack([tensor[0, keep] for tensor in captured[kind]], 1).cpu()
            for kind in kinds
        }
        yield slice(new, end), layers, losses


def special_tokens(tokenizer):
    """Ids of the special tokens a tokenizer puts before and after a text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a", add_special_tokens=True)["input_ids"]
    at = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    return full[:at], full[at + len(bare) :]


def record(language_model, tokens, path, *, kinds, window, stride, dtype="float16"):
    """Record activations of all layers over text into a store.

    Parameters
    ----------
    language_model : LanguageModel
    tokens : DataFrame
        From ``tokenize``; columns ``onset`` and ``offset`` (s) are kept where given.
    path : path-like
        The store; it appears there when it is whole.
    kinds : list of str
    window, stride : int
        Tokens; see ``windows``.
    dtype : {"float16", "float32"}
        Precision of the store.

    Returns
    -------
    speed : float
        Tokens a second.

    Raises
    ------
    OverflowError
        If an activation does not fit the store's precision.
    """
    shape = {
        k: (len(tokens), *neurons.count_neurons(language_model.model, k)) for k in kinds
    }
    surprisal = np.full(len(tokens), np.nan)
    start = time.perf_counter()
    with artifacts.atomic(path) as temporary:
        group = zarr.open_group(temporary / GROUP, mode="w")
        stores = {
            kind: group.create_array(
                kind,
                shape=shape[kind],
                chunks=(TOKEN_BLOCK, 1, shape[kind][2]),
                dtype=dtype,
                fill_value=np.nan,
                compressors=None,  # float16 noise hardly shrinks
                dimension_names=("token", "layer", f"neuron_{kind}"),
            )
            for kind in kinds
        }
        options = {"window": window, "stride": stride, "kinds": kinds}
        for rows, layers, losses in forward_windows(language_model, tokens, **options):
            for kind, values in layers.items():
                stored = values.to(getattr(torch, dtype))
                if not torch.isfinite(stored).all():
                    raise OverflowError(
                        f"an activation of {kind} is {values.abs().max():g}: too large "
                        f"for {dtype}. Record with store_dtype float32."
                    )
                stores[kind][rows] = stored.numpy()
            if losses is not None:
                surprisal[rows] = losses
        tokens.assign(surprisal=surprisal).to_parquet(temporary / "tokens.parquet")
    return len(tokens) / (time.perf_counter() - start)


def read_tokens(path):
    """The tokens of a store, one row each, with their surprisal (nats)."""
    return pd.read_parquet(Path(path) / "tokens.parquet")


def open_activations(path, kind):
    """Open one kind of neuron of a store, without loading it.

    Returns
    -------
    activations : DataArray of shape (n_tokens, n_layers, n_neurons)
        Loaded piece by piece; coordinates ``text``, ``word``, ``onset``, ``offset``.

    Raises
    ------
    ArtifactError
        If the store has no such kind, or a chunk is missing (zarr alone would read
        NaN there).
    """
    group = Path(path) / GROUP
    try:
        array = zarr.open_group(group, mode="r")[kind]
    except (KeyError, FileNotFoundError) as error:
        raise artifacts.ArtifactError(
            f"{path} holds no activations of {kind!r}"
        ) from error
    grid = [range(-(-n // c)) for n, c in zip(array.shape, array.chunks, strict=True)]
    for i in grid[0]:
        for j in grid[1]:
            chunk = group / kind / "c" / str(i) / str(j) / "0"
            if not chunk.is_file():
                raise artifacts.ArtifactError(
                    f"{path}: chunk {chunk.relative_to(path)} is missing. Record again."
                )
    dataset = xr.open_zarr(group, consolidated=False, chunks=None)
    activations = dataset[kind].rename({f"neuron_{kind}": "neuron"})
    tokens = read_tokens(path).rename(columns={"token": "text"})
    named = [c for c in ("text", "word", "onset", "offset") if c in tokens]
    return activations.assign_coords(
        {c: ("token", tokens[c].to_numpy()) for c in named}
    )


def responses(activations, H):
    """Activations on the BOLD clock, streamed through the alignment matrix.

    ::

        responses = H @ activations

    Parameters
    ----------
    activations : DataArray of shape (n_tokens, n_layers, n_neurons)
    H : sparse array of shape (n_times, n_tokens)
        From ``hemodynamics.alignment_matrix``.

    Returns
    -------
    responses : float32 array of shape (n_times, n_layers * n_neurons)
    """
    n_tokens, n_layers, n_neurons = activations.shape
    if H.shape[1] != n_tokens:
        raise ValueError(f"H has {H.shape[1]} tokens, the activations have {n_tokens}")
    total = np.zeros((H.shape[0], n_layers * n_neurons), np.float32)
    for i in range(0, n_tokens, TOKEN_BLOCK):
        block = activations[i : i + TOKEN_BLOCK].to_numpy().astype(np.float32)
        total += H[:, i : i + TOKEN_BLOCK].astype(np.float32) @ block.reshape(
            len(block), -1
        )
    return total


def stream_responses(language_model, tokens, H, *, kinds, window, stride):
    """Responses without a store: each window's activations go straight through ``H``.

    Returns
    -------
    responses : dict of str to float32 array of shape (n_times, n_layers * n_neurons)
    """
    totals = dict.fromkeys(kinds, 0.0)
    options = {"window": window, "stride": stride, "kinds": kinds}
    for rows, layers, _ in forward_windows(language_model, tokens, **options):
        part = H[:, rows].astype(np.float32)
        for kind, values in layers.items():
            totals[kind] = totals[kind] + part @ values.float().numpy().reshape(
                len(values), -1
            )
    return totals


def statistics(activations):
    """Mean and variance of every neuron over tokens, streamed.

    Returns
    -------
    mean, variance : float64 arrays of shape (n_layers, n_neurons)
    """
    n, mean, squares = 0, 0.0, 0.0
    for i in range(0, len(activations), TOKEN_BLOCK):
        block = activations[i : i + TOKEN_BLOCK].to_numpy().astype(np.float64)
        # Chan et al. 1979: merge the block's moments into those so far
        m, delta = n + len(block), block.mean(0) - mean
        squares = squares + ((block - block.mean(0)) ** 2).sum(0)
        squares = squares + delta**2 * n * len(block) / m
        mean, n = mean + delta * len(block) / m, m
    return mean, squares / n
