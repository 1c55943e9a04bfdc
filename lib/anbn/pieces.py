"""Words from the pieces of a tokenizer: ``un``, ``believ``, ``able``."""

import pandas as pd

from anbn import orthography

BEGINS = "Ġ▁"  # a blank, as GPT-2 and SentencePiece write it
CONTINUES = "##"  # as BERT writes it
OF_WORDS = 1 / 3  # of all pieces: fewer that begin a word tell nothing


def joined(rows):
    """Rows with ``blank``; a piece that goes on with the word before is joined to it.

    A piece that begins a word has a blank before it (Whisper, whisper.cpp), or a
    tokenizer's sign for one (``Ġ``, ``▁``); or what goes on has ``##``. Where too few
    pieces have such, the file does not say where blanks stand.

    Parameters
    ----------
    rows : DataFrame
        Columns ``word``, with its blank, ``onset`` and ``offset``.

    Returns
    -------
    rows : DataFrame
        A word begins with its first piece and ends with its last. ``blank`` is None
        where the file does not say.
    """
    rows = rows.reset_index(drop=True)
    pieces, bare = rows["word"], rows["word"].str.strip()
    goes_on = bare.str.match(f"{CONTINUES}\\w")
    if goes_on.any():
        pieces = bare.str[len(CONTINUES) :].where(goes_on, " " + bare)
    elif bare.str.match(f"[{BEGINS}]").mean() >= OF_WORDS:
        pieces = bare.str.replace(f"[{BEGINS}]", " ", regex=True)
    begins = pieces.str.match(r"\s")
    if begins.mean() < OF_WORDS:
        return rows.assign(blank=None)
    words = []
    rows = rows.assign(word=pieces)
    for row, blank in zip(rows.to_dict("records"), begins, strict=True):
        if blank or not words or _is_apart(words[-1]["word"], row["word"]):
            # of BERT's pieces punctuation stands alone, wherever its blanks are
            words.append(row | {"blank": None if goes_on.any() else blank})
            continue
        words[-1]["word"] += row["word"]
        words[-1]["offset"] = row["offset"]
    return pd.DataFrame(words)


def _is_apart(before, piece):
    """Whether a piece is a word of its own: in scripts that have no blanks."""
    ends = before[-1:], piece[:1]
    return all(orthography.WITHOUT_BLANKS.match(end) for end in ends)
