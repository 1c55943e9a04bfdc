"""What was heard or read: words with onsets and offsets, and corpora of plain text.

Words are a DataFrame with the columns ``word``, ``onset``, ``offset`` (seconds on the
stimulus clock) and ``start``, ``end`` (characters in the text that the model reads).
"""

import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd

SILENCES = {"", "sp", "sil", "<p>", "<s>", "</s>", "{sl}", "{ns}", "br"}


class StimulusError(ValueError):
    """A transcript or text cannot be used."""


def read_text(path, *, start_at=""):
    """Read UTF-8 text; a Project Gutenberg licence around it is cut off.

    Parameters
    ----------
    path : path-like
    start_at : str
        The text begins where these words first occur; "" keeps all.

    Raises
    ------
    StimulusError
        If the file is empty, not UTF-8, or does not hold ``start_at``.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise StimulusError(
            f"{path} is not UTF-8: byte {error.start} is "
            f"{error.object[error.start]:#x}. Save it as UTF-8."
        ) from error
    text = text.replace("\r\n", "\n")
    book = re.search(
        r"\*\*\* START OF.*?\*\*\*(.*?)(\*\*\* END OF|\Z)", text, re.DOTALL
    )
    text = book[1] if book else text
    if start_at:
        _, found, rest = text.partition(start_at)
        if not found:
            raise StimulusError(f"{path} does not hold {start_at!r}. Check `start_at`.")
        text = found + rest
    text = text.strip()
    if not text:
        raise StimulusError(f"{path} is empty: expected text.")
    return text


def read_words(path):
    """Read a timed transcript: a Praat TextGrid, or a TSV/CSV table.

    A table has the columns ``word``, ``onset`` and ``offset`` in seconds.

    Returns
    -------
    words : DataFrame
        Columns ``word``, ``onset``, ``offset``, ``start``, ``end``.

    Raises
    ------
    StimulusError
        If the file is no transcript, or fails ``check_words``.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".textgrid":
        words = _read_textgrid(path)
    elif suffix in (".tsv", ".csv"):
        read_text(path)  # empty or not UTF-8: say so, not in pandas' words
        separator = "\t" if suffix == ".tsv" else ","
        words = pd.read_csv(path, sep=separator, keep_default_na=False)
        absent = {"word", "onset", "offset"} - set(words)
        if absent:
            raise StimulusError(
                f"{path}: expected the columns word, onset, offset; found {list(words)}"
            )
        words = words[["word", "onset", "offset"]]
    else:
        raise StimulusError(
            f"{path}: expected a .TextGrid, .tsv or .csv transcript (or a .txt file, "
            "which gets synthetic timing)."
        )
    words = check_words(words, path)
    return _with_text(words)


def _read_textgrid(path):
    text = read_text(path)
    pattern = r'xmin\s*=\s*(\S+)\s+xmax\s*=\s*(\S+)\s+text\s*=\s*"((?:[^"]|"")*)"'
    tiers = re.split(r"item\s*\[\d+\]:", text)
    tiers = [t for t in tiers if re.search(r'class\s*=\s*"IntervalTier"', t)]
    named = [t for t in tiers if re.search(r'name\s*=\s*"words?"', t, re.IGNORECASE)]
    tier = (named or tiers or [""])[0]
    rows = re.findall(pattern, tier)
    declared = re.search(r"intervals: size\s*=\s*(\d+)", tier)
    if not rows or not declared or int(declared[1]) != len(rows):
        raise StimulusError(
            f"{path}: expected a long-format TextGrid with an interval tier of words; "
            f"found {len(rows)} of {declared[1] if declared else 'no'} intervals. "
            "Is the file whole?"
        )
    rows = [
        (w.replace('""', '"').strip(), float(on), float(off)) for on, off, w in rows
    ]
    rows = [row for row in rows if row[0].lower() not in SILENCES]
    return pd.DataFrame(rows, columns=["word", "onset", "offset"])


def _with_text(words):
    """Add each word's place in the joined text: blanks between, 's and n't glued."""
    text = words["word"].astype(str)
    blank = ~text.str.contains(r"^(?:n't|'\w)", case=False)
    blank.iloc[:1] = False
    end = (text.str.len() + blank).cumsum()
    return words.assign(start=end - text.str.len(), end=end)


def join_words(words):
    """The text in which ``text[start:end]`` is each word."""
    text = [" "] * int(words["end"].iloc[-1])
    for word, start, end in zip(
        words["word"], words["start"], words["end"], strict=True
    ):
        text[start:end] = str(word)
    return "".join(text)


def check_words(words, source):
    """Raise StimulusError unless words are timed, in order, and do not overlap.

    Returns
    -------
    words : DataFrame
        The same, with a fresh index.
    """
    if len(words) == 0:
        raise StimulusError(f"{source} holds no words.")
    words = words.reset_index(drop=True)
    for column in ("onset", "offset"):
        times = pd.to_numeric(words[column], errors="coerce")
        _complain(source, words, ~np.isfinite(times), f"{column} is not a number")
        words[column] = times.astype(float)
    onset, offset = words["onset"].to_numpy(), words["offset"].to_numpy()
    _complain(source, words, onset < 0, "onset is negative")
    _complain(source, words, offset < onset, "offset lies before the onset")
    step = np.diff(onset, prepend=onset[0])
    _complain(
        source,
        words,
        step < 0,
        "onset lies before that of the word before: sort by time",
    )
    overlap = np.r_[0.0, offset[:-1] - onset[1:]] > 1e-3
    _complain(source, words, overlap, "word overlaps the one before it")
    return words


def _complain(source, words, wrong, what):
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        w = words.iloc[row]
        raise StimulusError(
            f"{source}: {what}, at word {row + 1} of {len(words)}, {w['word']!r} "
            f"({w['onset']} to {w['offset']} s); {int(wrong.sum())} such words."
        )


def split_words(text, *, n_words=None):
    """The words of running text, punctuation attached, with their characters.

    Returns
    -------
    words : DataFrame
        Columns ``word``, ``start``, ``end``.
    """
    found = list(re.finditer(r"\S+", text))[:n_words]
    rows = [(m.group(), m.start(), m.end()) for m in found]
    return pd.DataFrame(rows, columns=["word", "start", "end"])


def synthetic_timing(words, rng, *, syllable=0.19, pause_comma=0.25, pause_stop=0.55):
    """Give words the onsets and offsets of a simulated reader.

    A word lasts ``syllable`` seconds for each group of vowels (at least one), times a
    log-normal factor of 20 %; a pause follows ``,;:`` and a longer one ``.!?`` and
    dashes. These are times of no real speech: say so wherever they are used.

    Parameters
    ----------
    words : DataFrame
        Column ``word``.
    rng : numpy Generator
    syllable, pause_comma, pause_stop : float
        Seconds.
    """
    vowels = words["word"].str.count(r"[aeiouyAEIOUYäöüéèàâêîôû0-9]+").clip(lower=1)
    duration = syllable * vowels.to_numpy() * rng.lognormal(0, 0.2, len(words))
    stop = words["word"].str.contains(r"[.!?]\W*$|--|—").to_numpy()
    comma = words["word"].str.contains(r"[,;:]\W*$").to_numpy() & ~stop
    pause = (pause_stop * stop + pause_comma * comma) * rng.lognormal(
        0, 0.2, len(words)
    )
    onset = np.r_[0.0, np.cumsum(duration + pause)[:-1]]
    return words.assign(onset=onset, offset=onset + duration)


def load_story(path, *, n_words=0, start_at="", rng=None):
    """Words and text of a story, from a timed transcript or from plain text.

    Parameters
    ----------
    path : path-like
        ``.TextGrid``, ``.tsv`` or ``.csv`` with times; else plain text.
    n_words : int
        Keep the first so many words; 0 keeps all.
    rng : numpy Generator
        For the synthetic timing of plain text.

    Returns
    -------
    words : DataFrame
        Columns ``word``, ``onset``, ``offset``, ``start``, ``end``.
    text : str
        What the model reads; ``text[start:end]`` is the word.
    synthetic : bool
        Whether the timing is synthetic.
    """
    n_words = n_words or None
    if Path(path).suffix.lower() in (".textgrid", ".tsv", ".csv"):
        words = read_words(path).iloc[:n_words]
        return words, join_words(words), False
    text = re.sub(r"\s+", " ", read_text(path, start_at=start_at))
    words = synthetic_timing(split_words(text, n_words=n_words), rng)
    return words, text[: words["end"].iloc[-1]], True


def read_corpus(path):
    """Documents of a plain-text corpus.

    Documents are separated by ``<doc ...>`` tags where there are any, else by blank
    lines; pieces under 200 characters are joined to the next.

    Returns
    -------
    documents : list of str
    """
    text = read_text(path)
    if "<doc " in text:
        pieces = re.split(r"</?doc[^>]*>", text)
    else:
        pieces = re.split(r"\n\s*\n", text)
    documents, short = [], ""
    for piece in pieces:
        short = f"{short}\n\n{piece.strip()}".strip()
        if len(short) >= 200:
            documents.append(short)
            short = ""
    return documents + [short] * bool(short)


def document_hash(document):
    """Name of a document: hash of its letters and digits, case and spacing aside."""
    plain = "".join(re.findall(r"\w+", document.lower()))
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def shared_sentences(text, documents, *, min_words=6):
    """Sentences of a text that also stand in one of the documents.

    Parameters
    ----------
    text : str
    documents : list of str
    min_words : int
        Shorter sentences may stand in both.

    Returns
    -------
    shared : list of str
    """

    def sentences(text):
        found = (s.strip() for s in re.split(r"(?<=[.!?])\s+|\n\s*\n", text))
        return {document_hash(s): s for s in found if len(s.split()) >= min_words}

    ours = sentences(text)
    theirs = set().union(*(sentences(d) for d in documents))
    return [s for name, s in ours.items() if name in theirs]
