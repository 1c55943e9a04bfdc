"""Text to evaluate on that nothing was fitted on."""

from pathlib import Path

import pandas as pd

from anbn.text import stories, tokenization


class OverlapError(ValueError):
    """Text to be evaluated was also fitted on."""


def hashes(documents):
    """Hashes of documents and of their sentences, to find them again in other text.

    Parameters
    ----------
    documents : iterable of str

    Returns
    -------
    used : dict of str to str
        Hash -> beginning of what it is of: every whole document, and every sentence of
        six words or more. Case, spacing and punctuation do not count.
    """
    used = {}
    for document in documents:
        pieces = {stories.document_hash(document): document}
        pieces |= stories.sentence_hashes(document)
        used |= {name: piece[:60] for name, piece in pieces.items()}
    return used


def shared(document, used):
    """Beginnings of the sentences of a document that are among the used ones."""
    return [used[h] for h in hashes([document]) if h in used]


def check_disjoint(documents, used):
    """Raise OverlapError if a document, or a sentence of it, is among the used ones.

    Parameters
    ----------
    documents : DataFrame
        Columns ``corpus``, ``text``.
    used : dict of str to str
        From ``hashes`` of all text that was fitted on.
    """
    for row in documents.itertuples():
        found = shared(row.text, used)
        if found:
            raise OverlapError(
                f"document {row.Index} of {row.corpus} would be evaluated and was "
                f"fitted on: {found[0]!r}. Evaluate on other text."
            )


def held_out_documents(
    tokenizer,
    paths,
    *,
    n_documents,
    document_tokens,
    used,
    parameters=("evaluation_documents", "evaluation_tokens"),
):
    """Documents of equal length that share no sentence with what was used.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    paths : list of path-like
        Plain-text corpora, one a domain, see ``stories.read_corpus``.
    n_documents : int
        Of each corpus.
    document_tokens : int
        The beginning of each document, read by the model in one window.
    used : dict of str to str
        From ``hashes``.
    parameters : tuple of str
        What errors call the two numbers.

    Returns
    -------
    tokens : DataFrame
        As from ``tokenization.tokenize``, with ``document`` (a running number).
    documents : DataFrame
        ``corpus`` (the file's name without its ending) and ``text``, a row a document.

    Raises
    ------
    StimulusError
        If a corpus has too few documents that are long enough and not used.
    """
    if document_tokens < 2:
        raise ValueError(f"documents need 2 tokens or more, found {document_tokens}")
    cut, kept = [], []
    for path in paths:
        n_kept, n_short, n_used, seen = 0, 0, 0, dict(used)
        for text in stories.read_corpus(path):
            if n_kept == n_documents:
                break
            # 16 characters a token: enough of the text but for odd ones
            some = text[: 16 * document_tokens]
            tokens = tokenization.tokenize(tokenizer, some).iloc[:document_tokens]
            some = some[: tokens["end"].max() if len(tokens) else 0]
            if len(tokens) < document_tokens:
                n_short += 1
            elif shared(some, seen):
                n_used += 1
            else:
                cut.append(tokens.assign(document=len(kept)))
                kept.append((Path(path).stem, some))
                seen |= hashes([some])  # no document twice
                n_kept += 1
        if n_kept < n_documents:
            raise stories.StimulusError(
                f"{path}: expected {n_documents} documents of {document_tokens} tokens "
                f"to evaluate on, found {n_kept} ({n_short} are shorter than this "
                f"window, {n_used} were fitted on). Lower {' or '.join(parameters)}, "
                "or name more text."
            )
    tokens = pd.concat(cut, ignore_index=True)
    return tokens, pd.DataFrame(kept, columns=["corpus", "text"])
