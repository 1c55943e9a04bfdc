"""Words in JSON as Whisper, WhisperX, whisper.cpp, Gentle, Vosk and MFA write it.

Some hold the pieces of a tokenizer (``un``, ``believ``, ``able``): they become words.
"""

import json
import re

import pandas as pd

from anbn.text import orthography, tiers
from anbn.text.textfiles import READ, Found, StimulusError, decode

BEGINS = "Ġ▁"  # a blank, as GPT-2 and SentencePiece write it
CONTINUES = "##"  # as BERT writes it
OF_WORDS = 1 / 3  # of all pieces: fewer that begin a word tell nothing
SPECIAL = re.compile(r"\[_\w+\]|<\|.*\|>")  # [_BEG_], [_TT_100]
# of words before segments: a file may hold both
LISTS = "words word_segments segments transcription result fragments".split()
TEXTS = ("word", "text", "punctuated_word")


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


def read(path, *, tier=""):
    """Rows of words, or of segments where a segment has no words.

    Returns
    -------
    found : Found
        With the columns ``word``, ``onset``, ``offset`` (NaN: not aligned); where
        there, ``speaker`` and ``blank``: whether a blank stands before the word.

    Raises
    ------
    StimulusError
        If it is no JSON, or of a structure that is not known.
    """
    try:
        found = json.loads(decode(path))
    except ValueError as error:
        raise StimulusError(
            f"{path} cannot be read as JSON: {error}. Is the file whole? Of JSON lines "
            "(an object a line) write one .json, or word, onset and offset to .tsv."
        ) from error
    if isinstance(found, dict) and isinstance(found.get("tiers"), dict):
        return Found(*tiers.choose(_tiers(found["tiers"], path), path, tier))
    rows = [row for it in _items(found) if isinstance(it, dict) for row in _rows(it)]
    if not rows:
        raise StimulusError(
            f"{path}: JSON of a structure not known: {_shape(found)}. {READ}."
        )
    rows = pd.DataFrame(rows)
    if isinstance(found, dict) and isinstance(found.get("transcript"), str):
        rows = _from_transcript(rows, found["transcript"])
    rows = joined(rows)
    return Found(rows.drop(columns=["first", "end"], errors="ignore"), [])


def _items(found):
    """The list of words or of segments, wherever it stands."""
    if not isinstance(found, dict):
        return found if isinstance(found, list) else []
    lists = (found[name] for name in LISTS if isinstance(found.get(name), list))
    return next(filter(None, lists), [])


def _rows(item):
    """Rows of a segment or word: its words if it has any, else itself."""
    inner = item.get("words")
    if isinstance(inner, list) and inner:
        rows = [row for w in inner if isinstance(w, dict) for row in _rows(w)]
        for row in rows:
            row.setdefault("speaker", item.get("speaker"))
        return rows
    text = next((item[name] for name in TEXTS if isinstance(item.get(name), str)), None)
    if text is None and isinstance(item.get("lines"), list):  # aeneas
        text = " ".join(map(str, item["lines"]))
    timed = {"start", "end", "begin", "offsets", "case", "score"} & set(item)
    if text is None or not (timed or "timestamps" in item or set(item) <= {"word"}):
        return []
    onset, offset = item.get("start", item.get("begin")), item.get("end")
    offsets = item.get("offsets")
    if isinstance(offsets, dict):  # whisper.cpp, in milliseconds
        onset, offset = _in_seconds(offsets)
        tokens = _tokens(item, text)
        if tokens:
            return tokens
    row = {"word": text, "onset": onset, "offset": offset} | _speaker(item)
    places = [item.get(name) for name in ("startOffset", "endOffset")]  # Gentle
    if all(isinstance(place, int) for place in places):
        row |= dict(zip(("first", "end"), places, strict=True))
    return [row]


def _in_seconds(times):
    """Beginning and end, from milliseconds; None where there is no number."""
    found = [times.get(name) for name in ("from", "to")]
    return [t / 1000 if isinstance(t, int | float) else None for t in found]


def _speaker(item):
    who = item.get("speaker")
    return {} if who is None else {"speaker": str(who)}


def _tokens(segment, text):
    """Rows of whisper.cpp's tokens joined to words, or none if they are not the text.

    A token may hold part of a character, and its time may be missing.
    """
    tokens = [
        (token["text"], *_in_seconds(times))
        for token in segment.get("tokens") or []
        if isinstance(token, dict)
        and isinstance(token.get("text"), str)
        and isinstance(times := token.get("offsets"), dict)
        and not SPECIAL.fullmatch(token["text"].strip())
    ]
    if "".join(token for token, *_ in tokens).strip() != text.strip():
        return []
    rows = pd.DataFrame(tokens, columns=["word", "onset", "offset"])
    words = joined(rows).drop(columns="blank").to_dict("records")
    return [word | _speaker(segment) for word in words]


def _from_transcript(rows, text):
    """Gentle's words with the punctuation that stands at them in its transcript."""
    if "first" not in rows or rows[["first", "end"]].isna().any(axis=None):
        return rows
    words, last = [], 0
    first, end = rows[["first", "end"]].to_numpy(int).T.tolist()
    for begin, stop, following in zip(first, end, [*first[1:], len(text)], strict=True):
        if begin == stop or following < stop:
            return rows
        while begin > last and not text[begin - 1].isspace():
            begin -= 1
        blank = " " * (begin > last or not words)
        while stop < following and not text[stop].isspace():
            stop += 1
        words.append(blank + text[begin:stop])
        last = stop
    return rows.assign(word=words)


def _tiers(found, path):
    """Tiers of MFA's and praatio's JSON: entries of onset, offset and label."""
    intervals = []
    for name, tier in found.items():
        entries = tier.get("entries") if isinstance(tier, dict) else None
        if not isinstance(entries, list) or tier.get("type", "interval") != "interval":
            continue
        rows = [e for e in entries if isinstance(e, list) and len(e) == 3]
        if len(rows) < len(entries):
            raise StimulusError(
                f"{path}: expected entries of onset, offset and label in the tier "
                f"{name!r}, found {next(e for e in entries if e not in rows)!r:.80}"
            )
        intervals.append(tiers.make(name, [(label, a, b) for a, b, label in rows]))
    return intervals


def _shape(found):
    """A JSON value's structure, in a few words."""
    if isinstance(found, dict):
        return f"an object with {', '.join(map(repr, list(found)[:8])) or 'no keys'}"
    if isinstance(found, list):
        inner = f", the first {_shape(found[0])}" if found else ""
        return f"a list of {len(found)}{inner}"
    return f"{found!r:.60}"
