"""Recording a model's activations over text into a store."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from anbn import forward, neurons, stores
from anbn.artifacts import sha256

N_CHECKED = 256  # tokens that are looked at before a recording begins

# modules that decide what is recorded: none may change while a recording waits
DECIDING = ("architecture", "attention", "forward", "neurons")


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
    where = {"layers": layers, "modules": modules, "qk_pooling": qk_pooling}
    reading = {"window": window, "stride": stride, "batch_size": batch_size}
    sizes = {"layers": layers, "modules": modules}
    shapes = {
        kind: neurons.count_neurons(language_model.model, kind, **sizes)
        for kind in kinds
    }
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


def check_range(
    language_model, tokens, *, kinds, dtype="float16", layers=None, modules=None
):
    """Raise OverflowError if activations at a text's beginning do not fit the store.

    The largest activations of most models are at their first tokens, so what does not
    fit is told before the long passes begin. All kinds are looked at in one short pass
    (``N_CHECKED`` tokens); ``record`` looks at every token.

    Parameters
    ----------
    language_model : LanguageModel
    tokens : DataFrame
    kinds : list of str
    dtype : {"float16", "float32"}
        Precision of the store.
    layers, modules
        See ``neurons.capture``.
    """
    some = tokens.iloc[:N_CHECKED]
    options = {"window": N_CHECKED, "stride": N_CHECKED, "kinds": kinds}
    options |= {"layers": layers, "modules": modules}
    for recorded in forward.forward_windows(language_model, some, **options):
        check_finite(recorded, dtype, language_model.model, some)


def check_finite(recorded, dtype, model, tokens):
    """Raise OverflowError, which names all kinds, if one does not fit a precision."""
    wrong, model_dtype = [], model.dtype
    text = tokens["token"] if "token" in tokens else tokens["id"]
    for kind, values in recorded.activations.items():
        low, high = values.to(getattr(torch, dtype)).aminmax()  # NaN if any is
        if low.isfinite() and high.isfinite():
            continue
        held = values.to(getattr(torch, dtype)).isfinite().all(-1).all(0)
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
