"""What was heard or read: stories as words with times, and corpora of plain text.

Words are a DataFrame with the columns ``word``, ``onset``, ``offset`` (seconds on the
stimulus clock) and ``start``, ``end`` (characters in the text that the model reads).
Markdown is read as the prose that it shows: signs of markup are no words.
"""

import hashlib
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from anbn.text import formats, orthography, transcripts, word_tables
from anbn.text.textfiles import READ, StimulusError, check_whole, decode, visible

FRONT_MATTER = re.compile(r"\A---\n(?:[^\n]*\n)*?(?:---|\.\.\.)\n")
CODE = re.compile(r"^(```|~~~)[^\n]*\n.*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
# what is taken out, by name: the pattern, and what stays of it
SIGNS = (
    ("comments", re.compile(r"<!--.*?-->", re.DOTALL), ""),
    ("rows of tables", re.compile(r"^[ \t]*\|.*\|[ \t]*$", re.MULTILINE), ""),
    ("images", re.compile(r"!\[[^\]\n]*\](?:\([^()\n]*\)|\[[^\]\n]*\])"), ""),
    ("notes", re.compile(r"^\[\^?[^\]\n]+\]:[^\n]*$", re.MULTILINE), ""),
    ("marks of notes", re.compile(r"\[\^[^\]\n]+\]"), ""),
    ("links", re.compile(r"\[([^\]\n]*)\](?:\([^()\n]*\)|\[[^\]\n]*\])"), r"\1"),
    ("tags", re.compile(r"</?(?:p|b|i|em|strong|sub|sup|span|div)\b[^<>\n]*>"), ""),
    ("line breaks", re.compile(r"<br\b[^<>\n]*>"), " "),
    ("rules", re.compile(r"^[ \t]*(?:[-*_][ \t]*){3,}$", re.MULTILINE), ""),
    ("headings", re.compile(r"^#{1,6}[ \t]+(.*?)[ \t]*#*$", re.MULTILINE), r"\1"),
    ("underlines", re.compile(r"(?<=\S\n)(?:=+|-+)[ \t]*$", re.MULTILINE), ""),
    ("quotes", re.compile(r"^[ \t]*(?:>[ \t]?)+", re.MULTILINE), ""),
    ("lists", re.compile(r"^[ \t]*(?:[-*+]|\d{1,3}[.)])[ \t]+", re.MULTILINE), ""),
    ("code", re.compile(r"(`+)([^`\n]+)\1"), r"\2"),
    (
        "emphasis",
        re.compile(
            r"(?<![\w*\\])(\*{1,3})(?=[^\s*])([^*]*?[^\s*])\1(?![\w*])|"
            r"(?<![\w_\\])(_{1,3})(?=[^\s_])([^_]*?[^\s_])\3(?![\w_])"
        ),
        r"\2\4",
    ),
)
ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+.!>~|-])")
AT_LINE_END = re.compile(r"(\w[-‐])[ \t]*\n[ \t]*(\w)")
SYLLABLE = 0.19  # s, of a simulated reader
PAUSE_COMMA, PAUSE_STOP = 0.25, 0.55  # s
MIN_WORDS = 6  # shorter sentences may stand in two texts by chance


def plain(text):
    """The prose of Markdown.

    Words of headings, links, lists and emphasis stay; front matter, images, notes,
    tables, rules and fenced code go.

    Parameters
    ----------
    text : str

    Returns
    -------
    text : str
    left_out : Counter
        How often each kind of sign was taken out.
    """
    left_out = Counter()
    for name, pattern in (("front matter", FRONT_MATTER), ("blocks of code", CODE)):
        text, left_out[name] = pattern.subn("", text)
    for name, pattern, stays in SIGNS:
        text, left_out[name] = pattern.subn(stays, text)
    text, left_out["emphasis within emphasis"] = SIGNS[-1][1].subn(r"\2\4", text)
    text = ESCAPED.sub(r"\1", text)
    return text, +left_out


def read_prose(path, start_at=""):
    """Read UTF-8 or UTF-16 prose; a Project Gutenberg licence around it is cut off.

    Parameters
    ----------
    path : path-like
        ``.txt``, ``.md`` or ``.utf8``.
    start_at : str
        The text begins where these words first occur, also if a line ends between
        them; "" keeps all.

    Returns
    -------
    text : str
        Of ``.md`` without the signs of Markdown; without characters that nobody sees.
        A hyphen at the end of a line is joined to what follows.
    notes : list of str
        What a user should know of how it was read.

    Raises
    ------
    StimulusError
        If the file is empty, in another encoding, no prose (captions, a table of
        times, text with time stamps, markup, JSON), has lost characters (U+FFFD), or
        does not hold ``start_at``.
    """
    text, notes = _without_licence(path), []
    if Path(path).suffix.lower() == ".md":
        text, signs = plain(text)
        if signs:
            counts = ", ".join(f"{name} {n}" for name, n in signs.items())
            notes.append(f"read as Markdown, its signs are left out: {counts}")
    text, n_invisible = visible(text)
    if n_invisible:
        notes.append(f"characters that nobody sees, left out: {n_invisible}")
    check_whole(text, path)
    broken = re.search(rf"\w*{AT_LINE_END.pattern}\w*", text)
    if broken:
        example = AT_LINE_END.sub(r"\1\2", broken[0])
        text, n_broken = AT_LINE_END.subn(r"\1\2", text)
        notes.append(
            f"hyphens at ends of lines: {n_broken}, such as {example!r}: joined, "
            "with their hyphen, to what follows. If they only part syllables, take "
            "them out of the file"
        )
    in_italics = re.findall(r"(?<!\w)_[^_\s](?:[^_]*[^_\s])?_(?!\w)", text)
    if in_italics:
        notes.append(
            f"words between underscores ({in_italics[0]!r:.40}): {len(in_italics)}, "
            "read as they are written"
        )
    text = text[_place(start_at, text, path) :].strip()
    if not text:
        raise StimulusError(f"{path} is empty: expected text.")
    return text, notes


def _without_licence(path):
    """Text of a file of prose as it stands there, but for Project Gutenberg's words."""
    kind = formats.format_of(path)
    if kind != "prose":
        raise StimulusError(f"{path}: expected prose, found {kind}. {READ}.")
    text = decode(path)
    book = re.search(
        r"\*\*\* START OF.*?\*\*\*(.*?)(\*\*\* END OF|\Z)", text, re.DOTALL
    )
    return book[1] if book else text


def join_words(words):
    """The text in which ``text[start:end]`` is each word."""
    text = [" "] * int(words["end"].iloc[-1])
    for word, start, end in zip(
        words["word"], words["start"], words["end"], strict=True
    ):
        text[start:end] = str(word)
    return "".join(text)


def split_words(text, *, n_words=None):
    """The words of running text, punctuation attached, with their characters.

    Chinese and Japanese, which have no blanks, are cut into characters.

    Returns
    -------
    words : DataFrame
        Columns ``word``, ``start``, ``end``.
    """
    rows = [(text[a:b], a, b) for a, b in orthography.split(text)[:n_words]]
    return pd.DataFrame(rows, columns=["word", "start", "end"])


def synthetic_timing(words, rng):
    """Give words the onsets and offsets of a simulated reader.

    A word lasts ``SYLLABLE`` seconds for each group of vowels (at least one), times a
    log-normal factor of 20 %; a pause follows ``,;:`` and a longer one ``.!?`` and
    dashes. These are times of no real speech: say so wherever they are used.

    Parameters
    ----------
    words : DataFrame
        Column ``word``.
    rng : numpy Generator
        Words have two numbers each, in their order: a longer text begins alike.
    """
    vowels = words["word"].str.count(r"[aeiouyAEIOUYäöüéèàâêîôû0-9]+").clip(lower=1)
    slower, longer = rng.lognormal(0, 0.2, (len(words), 2)).T
    duration = SYLLABLE * vowels.to_numpy() * slower
    stop = words["word"].str.contains(r"[.!?。！？]\W*$|--|—").to_numpy()
    comma = words["word"].str.contains(r"[,;:，、；：]\W*$").to_numpy() & ~stop
    pause = (PAUSE_STOP * stop + PAUSE_COMMA * comma) * longer
    onset = np.r_[0.0, np.cumsum(duration + pause)[:-1]]
    return words.assign(onset=onset, offset=onset + duration)


class Story(NamedTuple):
    """A story's words and text, and what was done to get them."""

    words: pd.DataFrame
    text: str  # what the model reads; text[start:end] is the word
    synthetic: bool  # whether the timing is that of a simulated reader
    notes: list  # of str, to be printed
    left_out: Counter  # marks that are no words, and how often each
    n_clipped: int  # words whose end was clipped to the next one's onset


def read_story(
    path, *, n_words=0, start_at="", rng=None, missing="interpolate", tier=""
):
    """Words and text of a story, from a timed transcript or from plain text.

    Parameters
    ----------
    path : path-like
        A timed transcript, see ``transcripts.read``; or prose in ``.txt`` or ``.md``.
    n_words : int
        Keep the first so many words; 0 keeps all.
    start_at : str
        The story begins where these words first occur; the times of a transcript stay
        those of the file.
    rng : numpy Generator
        For the synthetic timing of plain text; None: ``default_rng(0)``, the same each
        time.
    missing, tier : str
        Of a transcript, see ``transcripts.read``.

    Returns
    -------
    story : Story
        Its words have the columns ``word``, ``onset``, ``offset``, ``start``, ``end``;
        of a transcript also ``timed``: whether the file says when the word begins.
        Words that stay without time (NaN) are read by the model and left out of
        responses.

    Raises
    ------
    StimulusError
        If the file can be read as neither, or does not hold what was asked for.
    """
    if n_words < 0:
        raise StimulusError(
            f"{path}: expected n_words of 0 (all words) or more, found {n_words}."
        )
    if formats.format_of(path) != "prose":
        found = transcripts.read(path, missing=missing, tier=tier)
        words = found.words
        place = _place(start_at, join_words(words), path)
        words = words[words["end"] > place].iloc[: n_words or None]
        words = words.reset_index(drop=True)
        words[["start", "end"]] -= words["start"].iloc[0]
        return Story(words, join_words(words), False, *found[1:4])
    text, notes = read_prose(path, start_at)
    text = re.sub(r"\s+", " ", text)
    rng = np.random.default_rng(0) if rng is None else rng
    words = synthetic_timing(split_words(text, n_words=n_words or None), rng)
    notes = ["plain text, with the timing of a simulated reader", *notes]
    text = text[: words["end"].iloc[-1]]
    return Story(words, text, True, notes, Counter(), 0)


def _place(phrase, text, path):
    """The character of a text at which a phrase first occurs, 0 if it is empty."""
    found = re.search(r"\s+".join(map(re.escape, phrase.split())), text)
    if not found:
        raise StimulusError(
            f"{path} does not hold {phrase!r}. Check `start_at` (parameter "
            "story_start): words of the text, or empty to read all of it."
        )
    return found.start()


def story_onset(events, audio):
    """When a sound file began, in a run's BIDS events.

    Times of words in the scan are this onset plus those of the transcript.

    Parameters
    ----------
    events : path-like
        An ``events.tsv``.
    audio : path-like
        The sound file; its folder does not matter.

    Returns
    -------
    onset : float
        Seconds, of the first row that names the file in any column.

    Raises
    ------
    StimulusError
        If no row names the file, or its onset is not a number.
    """
    table, name = word_tables.read_table(events), Path(audio).name
    files = table.map(lambda cell: re.split(r"[/\\]", cell)[-1])
    rows = np.flatnonzero((files == name).any(axis=1))
    if len(rows) == 0 or "onset" not in table:
        cells = pd.unique(files.to_numpy().ravel())
        named = [cell for cell in cells if re.search(r"\.[A-Za-z]\w+$", cell)]
        raise StimulusError(
            f"{events}: expected the column onset and a row of {name}; found the "
            f"columns {', '.join(table)} and the files {', '.join(named) or '(none)'}."
        )
    onset = pd.to_numeric(table["onset"], errors="coerce")[rows[0]]
    if not np.isfinite(onset):
        raise StimulusError(
            f"{events}: expected an onset in seconds in the first row of {name}, found "
            f"{table['onset'][rows[0]]!r}."
        )
    return float(onset)


def read_corpus(path):
    """Documents of a plain-text corpus, as they stand there.

    Documents are separated by ``<doc ...>`` or ``<|endoftext|>`` tags where there are
    any (a model would read the second as a token of its own), else by blank lines, else
    by ends of lines; pieces under 200 characters are joined to the next.

    Returns
    -------
    documents : list of str
    """
    text = _without_licence(path).strip()
    if not text:
        raise StimulusError(f"{path} is empty: expected text.")
    tags = r"</?doc\b[^>]*>|<\|endoftext\|>"
    if re.search(tags, text):
        pieces = re.split(tags, text)
    else:
        pieces = re.split(r"\n\s*\n", text.strip())
        pieces = pieces if len(pieces) > 1 else text.split("\n")
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


def sentence_hashes(text):
    """Hash of every sentence of six words or more -> the sentence."""
    found = (s.strip() for s in re.split(r"(?<=[.!?])\s+|\n\s*\n", text))
    return {document_hash(s): s for s in found if len(s.split()) >= MIN_WORDS}


def shared_sentences(text, documents):
    """Sentences of six words or more of a text that also stand in one of the documents.

    Parameters
    ----------
    text : str
    documents : list of str

    Returns
    -------
    shared : list of str
    """
    ours = sentence_hashes(text)
    theirs = set().union(*map(sentence_hashes, documents))
    return [s for name, s in ours.items() if name in theirs]
