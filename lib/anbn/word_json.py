"""Words in JSON as Whisper, WhisperX, whisper.cpp, Gentle, Vosk and MFA write it."""

import json

import pandas as pd

from anbn import orthography, tiers
from anbn.textfiles import READ, Found, StimulusError, decode

TEXTS = ("word", "text", "punctuated_word")


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
            f"{path} cannot be read as JSON: {error}. Is the file whole?"
        ) from error
    if isinstance(found, dict) and isinstance(found.get("tiers"), dict):
        return Found(*tiers.choose(_tiers(found["tiers"], path), path, tier))
    items = _items(found)
    rows = [
        row for item in items or [] if isinstance(item, dict) for row in _rows(item)
    ]
    if not rows:
        raise StimulusError(
            f"{path}: JSON of a structure not known: {_shape(found)}. {READ}."
        )
    rows = pd.DataFrame(rows)
    if isinstance(found, dict) and isinstance(found.get("transcript"), str):
        rows = _from_transcript(rows, found["transcript"])
    rows = _joined(rows)
    return Found(rows.drop(columns=["first", "end"], errors="ignore"), [])


def _items(found):
    """The list of words or of segments, wherever it stands."""
    if isinstance(found, list):
        return found
    if not isinstance(found, dict):
        return None
    names = (
        "words",  # before segments: a file may hold both
        "word_segments",
        "segments",
        "transcription",
        "result",
        "fragments",
    )
    for name in names:
        if isinstance(found.get(name), list) and found[name]:
            return found[name]
    return None


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
        onset, offset = (_thousandth(offsets.get(name)) for name in ("from", "to"))
    row = {"word": text, "onset": onset, "offset": offset}
    if item.get("speaker") is not None:
        row["speaker"] = str(item["speaker"])
    if isinstance(item.get("startOffset"), int) and isinstance(
        item.get("endOffset"), int
    ):
        row |= {"first": item["startOffset"], "end": item["endOffset"]}
    return [row]


def _thousandth(time):
    return time / 1000 if isinstance(time, int | float) else None


def _from_transcript(rows, text):
    """Gentle's words with the punctuation that stands at them in its transcript."""
    if "first" not in rows or rows[["first", "end"]].isna().any(axis=None):
        return rows
    words = []
    edges = [*rows["first"].astype(int)[1:], len(text)]
    last = 0
    for first, end, following in zip(
        rows["first"].astype(int), rows["end"].astype(int), edges, strict=True
    ):
        if text[first:end] == "" or following < end:
            return rows
        while first > last and not text[first - 1].isspace():
            first -= 1
        blank = " " * (first > last or not words)
        while end < following and not text[end].isspace():
            end += 1
        words.append(blank + text[first:end])
        last = end
    return rows.assign(word=words)


def _joined(rows):
    """Rows with ``blank``; a piece that goes on with the word before is joined to it.

    Words of Whisper and whisper.cpp begin with their blank, the rest of one has none.
    Where too few begin so, the file does not say where blanks stand.
    """
    begins = rows["word"].str.match(r"\s")
    if begins.mean() < 1 / 3:
        return rows.assign(blank=None)
    words = []
    for row, blank in zip(rows.to_dict("records"), begins, strict=True):
        if blank or not words or _is_apart(words[-1]["word"], row["word"]):
            words.append(row | {"blank": blank})
            continue
        words[-1]["word"] += row["word"]
        words[-1]["offset"] = row["offset"]
    return pd.DataFrame(words)


def _is_apart(before, piece):
    """Whether a piece is a word of its own: in scripts that have no blanks."""
    ends = before[-1:], piece[:1]
    return all(orthography.WITHOUT_BLANKS.match(end) for end in ends)


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
