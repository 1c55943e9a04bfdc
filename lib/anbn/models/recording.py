"""Recording a model's activations over text into a store.

Responses on the BOLD clock come from activations block by block, too.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import scipy.sparse
import torch

from anbn.core.artifacts import sha256
from anbn.core.blocks import walk
from anbn.models import forward, neurons, stores

N_CHECKED = 256  # tokens that are looked at before a recording begins

# modules that decide what is recorded: none may change while a recording waits
DECIDING = ("structure", "attention", "forward", "neurons")
STRETCH = 256  # tokens; a stretch of story reaches only a stretch of the scan


def record(
    language_model,
    tokens,
    path,
    *,
    kinds,
    window,
    stride,
    batch_size=1,
    dtype="float16",
    predictions=True,
    layers=None,
    modules=None,
    qk_pooling="mean",
):
    """Record activations over text into a store; an interrupted recording goes on.

    Writing overlaps the model's pass, and memory does not grow with the text. Whole
    blocks are kept in ``<path>.partial`` if the recording is interrupted; called again
    with the same model, tokens and options it goes on after the last of them.

    Parameters
    ----------
    language_model : LanguageModel
    tokens : DataFrame
        From ``tokenization.tokenize``; columns ``onset`` and ``offset`` (s) are kept
        where given.
    path : path-like
        The store; it appears there when it is whole.
    kinds : list of str
        See ``neurons``.
    window, stride, batch_size : int
        See ``forward.forward_windows``.
    dtype : {"float16", "float32"}
        Precision of the store.
    predictions : bool
        Whether surprisal and entropy of the model's predictions are kept, too.
    layers, modules, qk_pooling
        See ``neurons.capture``.

    Returns
    -------
    speed : float
        Tokens a second.

    Raises
    ------
    OverflowError
        If an activation does not fit the store's precision.
    """
    where = {"layers": layers, "modules": modules}
    reading = {"window": window, "stride": stride, "batch_size": batch_size}
    shapes = {
        kind: neurons.count_neurons(language_model.model, kind, **where)
        for kind in kinds
    }
    where["qk_pooling"] = qk_pooling
    about = {
        **reading,
        **where,
        "dtype": dtype,
        "predictions": predictions,
        "model": language_model.fingerprint(),
        "code": [sha256(Path(__file__).with_name(f"{m}.py")) for m in DECIDING],
    }
    options = {"kinds": kinds, "dtype": dtype, **reading, **where}
    begin = time.perf_counter()
    with (
        stores.writing(path, tokens, shapes, about) as store,
        ThreadPoolExecutor(1) as writer,
    ):
        start, pending = store.n_recorded, None
        for recorded in forward.forward_windows(
            language_model,
            tokens,
            surprisal=predictions,
            entropy=predictions,
            start=start,
            **options,
        ):
            check_finite(recorded, dtype, language_model.model, tokens)
            if pending:
                pending.result()
            pending = writer.submit(store.append, *recorded[:4])
        if pending:
            pending.result()
    return (len(tokens) - start) / (time.perf_counter() - begin)


def check_range(language_model, tokens, *, kinds, dtype="float16", **where):
    """Raise OverflowError if activations at a text's beginning do not fit the store.

    The largest activations of most models are at their first tokens, so what does not
    fit is told before the long passes begin. All kinds are looked at in one short pass
    (``N_CHECKED`` tokens); ``record`` looks at every token. ``dtype`` is the store's,
    ``where`` as in ``neurons.capture``.
    """
    some, length = tokens.iloc[:N_CHECKED], {"window": N_CHECKED, "stride": N_CHECKED}
    passes = forward.forward_windows(
        language_model, some, kinds=kinds, **length, **where
    )
    for recorded in passes:
        check_finite(recorded, dtype, language_model.model, some)


def check_finite(recorded, dtype, model, tokens):
    """Raise OverflowError, which names all kinds, if one does not fit a precision."""
    wrong, model_dtype = [], model.dtype
    text = tokens["token"] if "token" in tokens else tokens["id"]
    for kind, values in recorded.activations.items():
        held = values.to(getattr(torch, dtype))
        if torch.stack(held.aminmax()).isfinite().all():  # NaN if any is
            continue
        held = held.isfinite().all(-1).all(0)
        row = recorded.rows.start + int((~held).nonzero()[0])
        largest = ""
        if values.isfinite().all():
            largest = f", up to {max(-float(values.min()), float(values.max())):,.0f}"
        wrong.append(f"{kind} (first at token {row}, {text.iloc[row]!r}{largest})")
    if not wrong:
        return
    limit = torch.finfo(getattr(torch, dtype)).max
    remedy = f"{dtype} holds up to {limit:,.0f}: set store_dtype: float32"
    if dtype == "float32":
        remedy = f"The model, in {model_dtype}, itself overflows"
    if model_dtype == torch.float16:
        remedy += "; set model_dtype: bfloat16 or float32, too"
    raise OverflowError(
        f"activations that are not finite in {dtype}: {', '.join(wrong)}. {remedy}."
    )


class Responses:
    """Activations on the BOLD clock, summed up as tokens come: ``H @ activations``."""

    def __init__(self, H, n_layers, n_neurons):
        self.H = scipy.sparse.csc_array(H, dtype=np.float32)
        self.total = torch.zeros(H.shape[0], n_layers * n_neurons)
        self.memory = torch.empty(0)  # for a layer in float32, used again

    def add(self, rows, values):
        """Add tokens of shape (n, n_layers, n_neurons)."""
        n, _, n_neurons = values.shape
        weights = []
        for begin in range(0, n, STRETCH):
            tokens = slice(begin, min(begin + STRETCH, n))
            part = self.H[:, rows.start + tokens.start : rows.start + tokens.stop]
            if part.nnz:
                times = slice(part.indices.min(), part.indices.max() + 1)
                weights.append((times, torch.from_numpy(part[times].toarray()), tokens))
        if len(self.memory) < n:
            self.memory = torch.empty(n, n_neurons)
        layer = self.memory[:n]
        # a layer at a time stays in the processor's cache
        for i, total in enumerate(self.total.split(n_neurons, 1)):
            layer.copy_(values[:, i])
            for times, weight, tokens in weights:
                total[times].addmm_(weight, layer[tokens])


def responses(activations, H):
    """Activations on the BOLD clock, ``H @ activations``, streamed through ``H``.

    Parameters
    ----------
    activations : DataArray of shape (n_tokens, n_layers, n_neurons)
    H : sparse array of shape (n_times, n_tokens)
        From ``clock.alignment_matrix``.

    Returns
    -------
    responses : float32 array of shape (n_times, n_layers * n_neurons)
    """
    n_tokens = len(activations)
    if H.shape[1] != n_tokens:
        raise ValueError(f"H has {H.shape[1]} tokens, the activations have {n_tokens}")
    total = Responses(H, *activations.shape[1:])
    for rows, block in walk(activations):
        total.add(rows, torch.from_numpy(block))
    return total.total.numpy()


def stream_responses(language_model, tokens, H, *, kinds, **options):
    """Responses without a store: each window's activations go straight through ``H``.

    Parameters
    ----------
    language_model : LanguageModel
    tokens : DataFrame
    H : sparse array of shape (n_times, n_tokens)
    kinds : list of str
    **options
        See ``forward.forward_windows``.

    Returns
    -------
    responses : dict of str to float32 array of shape (n_times, n_layers * n_neurons)

    Raises
    ------
    OverflowError
        If an activation is not finite.
    """
    totals = {
        kind: Responses(H, *neurons.count_neurons(language_model.model, kind))
        for kind in kinds
    }
    for recorded in forward.forward_windows(
        language_model, tokens, kinds=kinds, **options
    ):
        check_finite(recorded, "float32", language_model.model, tokens)
        for kind, values in recorded.activations.items():
            totals[kind].add(recorded.rows, values.transpose(0, 1))
    return {kind: total.total.numpy() for kind, total in totals.items()}
