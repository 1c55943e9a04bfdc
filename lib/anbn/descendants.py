"""Models made from another: with noise on the weights, or trained a little further."""

import copy
import itertools

import numpy as np
import torch

from anbn.models import LanguageModel
from anbn.neurons import input_device
from anbn.tokenization import special_tokens


class DescendantError(ValueError):
    """A model cannot be changed as asked."""


def noised(language_model, scale, rng):
    """A copy of a model with normal noise on every weight matrix.

    ::

        weight + scale * s.d. of the matrix * noise

    Vectors (norms, biases) stay; matrices that are tied stay tied.

    Parameters
    ----------
    language_model : LanguageModel
        Left as it is.
    scale : float
    rng : numpy Generator

    Returns
    -------
    descendant : LanguageModel

    Raises
    ------
    DescendantError
        Negative or infinite scale, or weights that are on disk.
    """
    if not (np.isfinite(scale) and scale >= 0):
        raise DescendantError(f"scale must be a number of 0 or more, found {scale}")
    model = _copied(language_model.model)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                noise = torch.randn(weight.shape, generator=generator)
                factor = scale * float(weight.float().std())
                weight.add_(noise.to(weight), alpha=factor)
    return _finished(model, language_model)


def fine_tuned(
    language_model, tokens, *, n_steps, learning_rate, window, batch_size, seed
):
    """A copy of a causal model after some steps of AdamW on text.

    All weights are trained, with PyTorch's default AdamW and a constant rate. Needs
    memory for four times the model.

    Parameters
    ----------
    language_model : LanguageModel
        With a causal head. Left as it is.
    tokens : DataFrame
        From ``tokenization.tokenize``; a column ``document`` keeps documents apart.
        They are cut into windows, and what is left over at a document's end is dropped.
    n_steps : int
    learning_rate : float
    window : int
        Tokens; the model's special tokens before a text are added.
    batch_size : int
        Windows a step, drawn without replacement until all have been used.
    seed : int
        Of the windows' order, and of dropout where the model has it.

    Returns
    -------
    descendant : LanguageModel
        In evaluation mode, without gradients.
    losses : array of shape (n_steps,)
        Mean loss (nats a token) of each step's windows before the step.

    Raises
    ------
    DescendantError
        No causal head, too little text, or a loss that is not finite.
    """
    if language_model.head != "causal":
        raise DescendantError(
            "fine-tuning needs a causal language model; this one was loaded with "
            f"head={language_model.head!r}"
        )
    for name, value in (("n_steps", n_steps), ("batch_size", batch_size)):
        if value < 1:
            raise DescendantError(f"{name} must be 1 or more, found {value}")
    before, _ = special_tokens(language_model.tokenizer)
    room = language_model.max_tokens - len(before)
    if not 2 <= window <= room:
        raise DescendantError(
            f"window must lie in 2 to {room} tokens for this model, found {window}"
        )
    ids = _windows(tokens, window)
    if len(ids) < batch_size:
        raise DescendantError(
            f"the text has {len(ids)} windows of {window} tokens, expected batch_size "
            f"({batch_size}) or more: give more text, or lower window or batch_size"
        )
    given = np.column_stack([np.tile(before, (len(ids), 1)).astype(int), ids])
    model = _copied(language_model.model)
    with torch.inference_mode(False), torch.random.fork_rng():
        torch.manual_seed(seed)
        batches = _batches(given, batch_size, np.random.default_rng(seed))
        losses = _train(model, itertools.islice(batches, n_steps), learning_rate)
    return _finished(model, language_model), losses


def _windows(tokens, window):
    """Whole windows of documents, one after the other; (n_windows, window)."""
    document = tokens["document"] if "document" in tokens else np.zeros(len(tokens))
    cut = [np.empty((0, window), int)]
    for _, ids in tokens["id"].groupby(np.asarray(document)):
        n = len(ids) // window
        cut.append(ids.to_numpy()[: n * window].reshape(n, window))
    return np.concatenate(cut)


def _batches(rows, batch_size, rng):
    """Random batches without end, every row before any comes again."""
    while True:
        order = rng.permutation(len(rows))
        for i in range(0, len(rows) - batch_size + 1, batch_size):
            yield rows[order[i : i + batch_size]]


def _train(model, batches, learning_rate):
    model.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    losses = []
    for batch in batches:
        ids = torch.from_numpy(batch).to(input_device(model))
        loss = model(input_ids=ids, labels=ids).loss
        losses.append(float(loss.detach()))
        if not np.isfinite(losses[-1]):
            raise DescendantError(
                f"the loss of step {len(losses)} is {losses[-1]}: lower learning_rate "
                f"({learning_rate}), or load the model in float32"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)  # gradients take as much as the weights
    return np.array(losses)


def _copied(model):
    if any(weight.device.type == "meta" for weight in model.parameters()):
        raise DescendantError(
            "some of the model's weights are kept on disk: load it on one device"
        )
    return copy.deepcopy(model)


def _finished(model, language_model):
    model = model.eval().requires_grad_(False)
    return LanguageModel(model, language_model.tokenizer, language_model.head)
