"""Recording a model's activations over text into a store."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from anbn import forward, neurons, stores
from anbn.artifacts import sha256

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
            _check_finite(recorded, dtype)
            if pending:
                pending.result()
            pending = writer.submit(store.append, *recorded[:4])
        if pending:
            pending.result()
    return (len(tokens) - start) / (time.perf_counter() - begin)


def _check_finite(recorded, dtype):
    for kind, values in recorded.activations.items():
        low, high = values.aminmax()  # NaN if any is
        if not (low.isfinite() and high.isfinite()):
            raise OverflowError(
                f"an activation of {kind} among tokens {recorded.rows.start} to "
                f"{recorded.rows.stop - 1} is not finite in {dtype}. Record with "
                "store_dtype float32; a model in float16 may itself overflow: load it "
                "in bfloat16 or float32."
            )
