"""Running a model over text, window by window.

Where only some blocks are changed, passes begin at the first that differs from the
intact model.
"""

import inspect
import itertools
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from anbn.models import neurons
from anbn.models.structure import find_blocks, input_device
from anbn.text.tokenization import special_tokens, tokenize, windows

SCORES = ("surprisal", "entropy", "hits")
PREDICTED = 256  # tokens whose logits are worked on at a time


@contextmanager
def remember(model, layers):
    """Keep what goes into some blocks (0-based), of the last pass inside the context.

    Yields
    ------
    kept : dict of int to the output of the block before
        For ``resume``. Empty for a model that accelerate spreads over devices, whose
        blocks cannot be skipped.
    """
    blocks, kept = find_blocks(model), {}
    spread = any("forward" in vars(block) for block in blocks)
    with ExitStack() as stack:
        for layer in set() if spread else {*layers} - {0}:

            def keep(_, args, output, layer=layer):
                kept[layer] = output

            hook = blocks[layer - 1].register_forward_hook(keep)
            stack.callback(hook.remove)
        yield kept


@contextmanager
def resume(model, kept, layer):
    """Passes inside begin at a block, with what the intact model brought there.

    Only for the same input as in ``remember``, and where nothing below that block is
    changed. The embedding still runs; blocks below hand on what was kept. With a layer
    that is not in ``kept`` (from ``remember``) passes run from the beginning.
    """
    skipped = find_blocks(model)[:layer] if layer in kept else []
    for block in skipped:
        block.forward = lambda *_, **__: kept[layer]
    try:
        yield
    finally:
        for block in skipped:
            del block.forward


class Recorded(NamedTuple):
    """What a model did over some consecutive tokens, on the CPU.

    The memory of activations is used again: it holds until another two are handed out.
    """

    rows: slice  # which tokens these are
    activations: dict  # of str to Tensor of shape (n_layers, n, n_neurons)
    surprisal: torch.Tensor | None  # (n,), nats
    entropy: torch.Tensor | None  # (n,), nats
    hits: torch.Tensor | None = None  # (n,), 1 where the likeliest token came


def forward_windows(
    language_model,
    tokens,
    *,
    window,
    stride,
    batch_size=1,
    kinds=(),
    dtype="float32",
    surprisal=False,
    entropy=False,
    hits=False,
    start=0,
    **where,
):
    """Run a model over documents in windows.

    Parameters
    ----------
    language_model : LanguageModel
    tokens : DataFrame
        From ``tokenization.tokenize``; a column ``document`` keeps documents apart.
    window, stride : int
        Tokens; see ``tokenization.windows``. A model's special tokens are added to each
        window.
    batch_size : int
        Windows at a time, padded to the longest.
    kinds : list of str
        Kinds of neurons to capture.
    dtype : {"float16", "float32"}
        Precision of the activations that are handed out.
    surprisal, entropy, hits : bool
        Of the model's predictions; computed for a model with a causal head only. With
        ``hits``, whether the likeliest next token is the one that comes.
    start : int
        First token that is wanted.
    **where
        ``layers``, ``modules``, ``qk_pooling`` of ``neurons.capture``.

    Yields
    ------
    recorded : Recorded
        On a GPU the next batch already runs while this one is handed out.
    """
    asked = zip(SCORES, (surprisal, entropy, hits), strict=True)
    causal = language_model.head == "causal"
    options = {"kinds": kinds, "dtype": getattr(torch, dtype), "where": where}
    options["scores"] = [name for name, wanted in asked if wanted and causal]
    jobs = _jobs(language_model, tokens, window, stride)
    batches = [jobs[i : i + batch_size] for i in range(0, len(jobs), batch_size)]
    batches = [batch for batch in batches if batch[-1][-1] > start]
    ids, waiting = tokens["id"].to_numpy(), None
    memory = itertools.cycle([{}, {}, {}])
    for batch in tqdm(batches, "windows", mininterval=5, disable=len(batches) < 4):
        with torch.inference_mode():
            recorded = _forward(language_model, ids, batch, next(memory), **options)
        recorded, copied = _less(recorded, start), _copies_of(language_model.model)
        if not copied:
            yield recorded
            continue
        if waiting:
            yield _after(*waiting)
        waiting = recorded, copied
    if waiting:
        yield _after(*waiting)


def story_tokens(language_model, text, words, *, window, stride, leave_out_first):
    """Tokens of a story, and which of them stay out of responses.

    Parameters
    ----------
    language_model : LanguageModel
    text, words
        See ``tokenization.tokenize``.
    window, stride : int
        See ``forward_windows``.
    leave_out_first : bool
        Whether tokens that are read with nothing before them (``read_first``) belong to
        no word. Other tokens of their words do.

    Returns
    -------
    tokens : DataFrame
        As from ``tokenization.tokenize``, with ``left_out``.
    """
    tokens = tokenize(language_model.tokenizer, text, words)
    first = read_first(language_model, tokens, window=window, stride=stride)
    tokens["left_out"] = leave_out_first & first
    tokens.loc[tokens["left_out"], "word"] = -1
    return tokens


def read_first(language_model, tokens, *, window, stride):
    """Which tokens a model reads with nothing before them.

    The first of every document, and of every window that does not overlap the one
    before it. Models park massive activations there; where a tokenizer begins a text
    with a token of its own they are at that, which is never handed out.

    Parameters
    ----------
    language_model : LanguageModel
    tokens : DataFrame
    window, stride : int
        See ``forward_windows``.

    Returns
    -------
    first : bool array of shape (n_tokens,)
        False for all where the tokenizer begins a text with a special token.
    """
    first = np.zeros(len(tokens), bool)
    jobs = _jobs(language_model, tokens, window, stride)
    if not special_tokens(language_model.tokenizer)[0]:
        first[[new for begin, new, _ in jobs if begin == new]] = True
    return first


def _jobs(language_model, tokens, window, stride):
    """Windows (begin, new, end) of all documents, in tokens of the whole text."""
    before, after = special_tokens(language_model.tokenizer)
    room = min(window, language_model.max_tokens - len(before) - len(after))
    if room < window:  # a model with a short context still gets overlapping windows
        stride = min(stride, max(1, room // 2))
    borders = [0, len(tokens)]
    if "document" in tokens:
        borders[1:1] = (np.flatnonzero(np.diff(tokens["document"])) + 1).tolist()
    return [
        (first + begin, first + new, first + end)
        for first, last in itertools.pairwise(borders)
        for begin, new, end in windows(last - first, room, stride)
    ]


def _forward(language_model, ids, batch, memory, *, kinds, dtype, where, scores):
    """One pass over a batch of windows; ``memory`` is kept for the next."""
    model, tokenizer = language_model.model, language_model.tokenizer
    before, after = special_tokens(tokenizer)
    given = [[*before, *ids[begin:end], *after] for begin, _, end in batch]
    keeps = [
        slice(len(before) + new - begin, len(before) + end - begin)
        for begin, new, end in batch
    ]
    rows = slice(batch[0][1], batch[-1][2])
    n_rows = rows.stop - rows.start
    longest = max(map(len, given))
    padding = tokenizer.pad_token_id or 0
    padded = torch.tensor([row + [padding] * (longest - len(row)) for row in given])
    arguments = {"input_ids": padded.to(input_device(model))}
    if any(len(row) < longest for row in given):
        mask = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in given])
        arguments["attention_mask"] = mask.to(input_device(model))

    activations = {}

    def receive(kind, i, values):
        values = values.reshape(*padded.shape, -1)  # OPT joins batch and position
        if kind not in memory or memory[kind].shape[1] < n_rows:
            shape = (n_layers, n_rows, values.shape[-1])
            memory[kind] = _host(shape, dtype, values)
        activations[kind] = memory[kind][:, :n_rows]
        _copy(activations[kind][i], values, keeps)

    with neurons.capture(model, kinds, receive, **where) as n_layers:
        if not scores:
            model.base_model(**arguments)  # no logits
            return Recorded(rows, activations, None, None)
        first = max(0, min(keep.start for keep in keeps) - 1)
        if "logits_to_keep" in inspect.signature(model.forward).parameters:
            arguments["logits_to_keep"] = longest - first
        logits = model(**arguments).logits
    found, hosts = _predictions(logits, padded, longest - logits.shape[1], scores), {}
    for name, values in found.items():
        hosts[name] = _host((n_rows,), torch.float32, logits)
        _copy(hosts[name], values, keeps)
    return Recorded(rows, activations, *(hosts.get(name) for name in SCORES))


def _predictions(logits, ids, first, names):
    """Surprisal, entropy (nats) or hits of tokens, given those before them.

    NaN where nothing comes before. ``logits`` begin at position ``first``.
    """
    nothing = logits.new_full(ids.shape, torch.nan, dtype=torch.float32)
    scores = {name: nothing.clone() for name in names}
    ids = ids.to(logits.device)
    for i in range(0, logits.shape[1] - 1, PREDICTED):
        log_p = logits[:, i : i + PREDICTED].float().log_softmax(-1)
        at = slice(first + i + 1, first + i + 1 + PREDICTED)
        log_p = log_p[:, : len(range(ids.shape[1])[at])]
        if "surprisal" in names:
            scores["surprisal"][:, at] = -log_p.gather(-1, ids[:, at, None])[..., 0]
        if "entropy" in names:
            scores["entropy"][:, at] = -(log_p.exp() * log_p).sum(-1)
        if "hits" in names:
            scores["hits"][:, at] = (log_p.argmax(-1) == ids[:, at]).float()
    return scores


def _host(shape, dtype, like):
    """Memory for results on the CPU: pinned, if they come from a CUDA device."""
    return torch.empty(shape, dtype=dtype, pin_memory=like.is_cuda)


def _copy(host, values, keeps):
    """Copy the kept positions of every window of a batch; on CUDA without waiting."""
    at = 0
    for row, keep in zip(values, keeps, strict=True):
        n = keep.stop - keep.start
        kept = row[keep].to(host.dtype).contiguous() if values.is_cuda else row[keep]
        host[at : at + n].copy_(kept, non_blocking=values.is_cuda)
        at += n


def _copies_of(model):
    """Events after the copies that CUDA devices still make; none elsewhere."""
    if not torch.cuda.is_available():
        return []
    devices = {p.device for p in model.parameters() if p.is_cuda}
    return [torch.cuda.current_stream(device).record_event() for device in devices]


def _after(recorded, copied):
    for event in copied:
        event.synchronize()
    return recorded


def _less(recorded, start):
    """Without the tokens before ``start``."""
    cut = max(0, start - recorded.rows.start)
    if not cut:
        return recorded
    return Recorded(
        slice(start, recorded.rows.stop),
        {kind: values[:, cut:] for kind, values in recorded.activations.items()},
        *(None if x is None else x[cut:] for x in recorded[2:]),
    )
