"""Tokens of a text: the word each belongs to, documents, and windows over them."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from anbn.text import stories

PROBES = ("the", "a", "1", ".")  # texts that show what is added to a text


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
    tokenizer : transformers tokenizer
    paths : list of path-like
        Plain-text corpora, see ``stories.read_corpus``.
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
    names = [Path(path).stem for path in paths]
    if len(set(names)) < len(names):
        raise stories.StimulusError(
            f"corpora must have different file names, a domain each; found {names}"
        )
    cut, documents = [], []
    for path in paths:
        total = 0
        for text in stories.read_corpus(path):
            tokens = tokenize(tokenizer, text).iloc[
                : min(document_tokens, n_tokens - total)
            ]
            cut.append(tokens.assign(document=len(documents)))
            documents.append((Path(path).stem, text[: tokens["end"].iloc[-1]]))
            total += len(tokens)
            if total >= n_tokens:
                break
        else:
            raise stories.StimulusError(
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


def special_tokens(tokenizer):
    """Ids of the special tokens a tokenizer puts before and after a text.

    What its post-processor adds, no more: Llama's tokenizer begins a text with a token,
    GPT-2's has such a token but adds none.

    Returns
    -------
    before, after : list of int

    Raises
    ------
    ValueError
        If the tokenizer reads none of some short texts.
    """
    own = (tokenizer.decode([i]) for i in range(min(len(tokenizer), 100)))
    for text in itertools.chain(PROBES, own):
        coded = tokenizer(
            text, add_special_tokens=True, return_special_tokens_mask=True
        )
        ids, added = coded["input_ids"], coded["special_tokens_mask"]
        read = [i for i, mark in enumerate(added) if not mark]
        if read:
            return ids[: read[0]], ids[read[-1] + 1 :]
    raise ValueError(
        f"{type(tokenizer).__name__} makes no token of {', '.join(PROBES)} nor of its "
        "own first tokens: what it adds to a text cannot be told. Is its vocabulary "
        "whole (tokenizer.json)?"
    )


def special_ids(tokenizer):
    """Ids of what is added to texts: the special tokens around them, and padding.

    Returns
    -------
    ids : list of int
    """
    before, after = special_tokens(tokenizer)
    padding = [] if tokenizer.pad_token_id is None else [tokenizer.pad_token_id]
    return sorted({*before, *after, *padding})
