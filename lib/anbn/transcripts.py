"""Timed transcripts: from any common file to words with onset and offset.

Words are a DataFrame with the columns ``word``, ``onset``, ``offset`` (seconds on the
stimulus clock; NaN: not known), ``timed`` (whether the file itself says when the word
begins) and ``start``, ``end`` (characters in the text that the model reads).
"""

import codecs
import csv
import html
import re
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

SILENCES = {"", "sp", "sil", "<p>", "<s>", "</s>", "{sl}", "{ns}", "br"}
ROUNDING = 1e-3  # s, overlap that any file may have
SLACK_OF_GENTLE = 0.05  # s: it rounds to frames of 10 ms, and lets words overlap
BLANK = {"": np.nan, "n/a": np.nan}  # BIDS writes n/a
LONGEST = 1e6  # s, 11 days: beyond it times are in milliseconds, or damaged
STAMP = r"(?:(\d{1,4}):)?(\d{1,6}):([0-5]?\d)[.,](\d{1,9})"
CUE = re.compile(rf"^[ \t]*{STAMP}[ \t]*-->[ \t]*{STAMP}(?!\S).*$", re.MULTILINE)


class StimulusError(ValueError):
    """A transcript or text cannot be used."""


def decode(path):
    """Text of a file in UTF-8, or in UTF-16 with a byte order mark; lines end in \\n.

    Raises
    ------
    StimulusError
        If the file is empty or in another encoding.
    """
    raw = Path(path).read_bytes()
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = raw.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise StimulusError(
            f"{path} is not {'UTF-16' if wide else 'UTF-8'}: byte {error.start} is "
            f"{error.object[error.start]:#x}. Save it as UTF-8."
        ) from error
    if not text.strip():
        raise StimulusError(f"{path} is empty: expected text.")
    return re.sub(r"\r\n?", "\n", text)


def read_words(path, *, missing="interpolate"):
    """Read a timed transcript.

    Parameters
    ----------
    path : path-like
        ``.TextGrid``: the interval tier named word or words, else the first.
        ``.tsv``, ``.csv``: the columns ``word``, ``onset``, ``offset`` (or ``start``,
        ``end``); or BIDS events with ``onset``, ``duration`` and ``word`` (or
        ``text``); or Gentle's four columns without names. Seconds; both times blank:
        not known. ``.srt``, ``.vtt``: captions.
    missing : {"interpolate", "drop"}
        What happens to words whose time is not in the file. "interpolate" spreads
        them, in proportion to their characters, over the gap between their neighbours
        (at the beginning and the end of a file, where one is absent, they stay
        without time) or over their caption; "drop" leaves their times NaN.

    Returns
    -------
    words : DataFrame
        Columns ``word``, ``onset``, ``offset``, ``timed``, ``start``, ``end``. Words
        without time keep their place in the text.

    Raises
    ------
    StimulusError
        If the file is no transcript, or fails ``check_words``.
    """
    if missing not in ("interpolate", "drop"):
        raise ValueError(f"missing must be interpolate or drop, found {missing!r}")
    reader = READERS.get(Path(path).suffix.lower())
    if reader is None:
        raise StimulusError(
            f"{path}: expected a .TextGrid, .tsv, .csv, .srt or .vtt transcript (or a "
            ".txt file, which gets synthetic timing)."
        )
    words = reader(path)
    words = check_words(words, path, slack=SLACK_OF_GENTLE * ("aligned" in words))
    words["timed"] = words.get("timed", words["onset"].notna())
    if missing == "interpolate":
        words = _interpolate(words)
    else:
        words.loc[~words["timed"], ["onset", "offset"]] = np.nan
    return _with_text(words[["word", "onset", "offset", "timed"]])


def _read_textgrid(path):
    # Praat's rule for both of its text formats: quoted strings and numbers that stand
    # free are the data, all else is decoration
    pattern = r'"((?:[^"]|"")*)"|(?<!\S)([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)(?!\S)'
    found = re.findall(pattern, decode(path))
    data = [float(n) if n else s.replace('""', '"') for s, n in found]
    at = [i for i, item in enumerate(data) if item in ("IntervalTier", "TextTier")]
    # before the tiers: two strings, two times, the number of tiers;
    # of a tier: class, name, two times, the number of intervals; then the intervals
    tiers = [data[i:j] for i, j in pairwise([*at, len(data)]) if j - i >= 5]
    intervals = [tier for tier in tiers if tier[0] == "IntervalTier"]
    if data[4:5] != [len(tiers)] or not intervals:
        raise StimulusError(
            f"{path}: expected a TextGrid in Praat's long or short text format with an "
            f"interval tier of words; found {len(intervals)} interval tiers, and "
            f"{len(tiers)} of {data[4:5]} tiers. Is the file whole?"
        )
    named = [tier for tier in intervals if str(tier[1]).lower() in ("word", "words")]
    _, name, _, _, size, *values = (named or intervals)[0]
    rows = list(zip(values[2::3], values[::3], values[1::3], strict=False))
    if len(rows) != size:
        raise StimulusError(
            f"{path}: found {len(rows)} of {str(size).removesuffix('.0'):.20} "
            f"intervals in the tier {name!r:.80}. Is the file whole?"
        )
    words = pd.DataFrame(rows, columns=["word", "onset", "offset"])
    words["word"] = words["word"].astype(str).str.strip()
    return words[~words["word"].str.lower().isin(SILENCES)]


def read_table(path):
    """Cells of a TSV or CSV file, as strings; column names in lower case.

    A table of four columns without names, the last two of them times, is taken for
    Gentle's and gets the columns ``word``, ``aligned``, ``onset``, ``offset``.

    A line with more or fewer columns than the first is a StimulusError.
    """
    separator = "\t" if Path(path).suffix.lower() == ".tsv" else ","
    lines = [(n, s) for n, s in enumerate(decode(path).split("\n"), 1) if s.strip()]
    names = _cells(lines[0][1], separator)
    n_plain = len(names) if '"' not in lines[0][1] else 0
    if len(names) == 4 and all(re.fullmatch(r"[\d.]*", cell) for cell in names[2:]):
        names = ["word", "aligned", "onset", "offset"]
    else:
        lines = lines[1:]
    rows = [_cells(line, separator, n_plain) for _, line in lines]
    for (number, _), row in zip(lines, rows, strict=True):
        if len(row) != len(names):
            raise StimulusError(
                f"{path}, line {number}: expected {len(names)} columns "
                f"({', '.join(names)}), found {len(row)}: {row!r:.200}"
            )
    return pd.DataFrame(rows, columns=[name.lower() for name in names], dtype=object)


def _cells(line, separator, n_plain=0):
    # a quotation mark is the word's own ("Oh) unless the table quotes its names, or it
    # is doubled or holds a separator; alone, it must not take the next lines along
    cells = line.split(separator)
    if len(cells) != n_plain or '""' in line:
        with suppress(csv.Error):
            cells = next(csv.reader([line], delimiter=separator, strict=True))
    return [cell.strip() for cell in cells]


def _read_table(path):
    table = read_table(path)
    other = {"text": "word", "start": "onset", "end": "offset"}
    table = table.rename(columns={a: b for a, b in other.items() if b not in table})
    absent = {"word", "onset", "offset"} - set(table)
    if absent - {"offset"} or (absent and "duration" not in table):
        raise StimulusError(
            f"{path}: expected the columns word, onset and offset, or, of BIDS events, "
            f"onset, duration and word; found {list(table)}."
        )
    if "trial_type" in table:
        spoken = table["trial_type"].str.lower() == "word"
        table = table[spoken] if spoken.any() else table
    word, table = table["word"], table.replace(BLANK)
    if absent:
        end = sum(pd.to_numeric(table[c], "coerce") for c in ("onset", "duration"))
        # where there is no sum, what stands there is left for check_words to name
        table["offset"] = end.astype(object).where(end.notna(), table["duration"])
    return table.assign(word=word)[~word.isin([*BLANK])]


def _read_captions(path):
    vtt, text = Path(path).suffix.lower() == ".vtt", decode(path)
    stamp = re.compile(f"<{STAMP}>")
    for number, line in enumerate(text.split("\n"), 1):
        of_word = re.search(r"<\d+:", stamp.sub("", line))
        if of_word or ("-->" in line and not CUE.match(line)):
            raise StimulusError(
                f"{path}, line {number}: expected two times such as 00:00:01.000 --> "
                f"00:00:02.500, found {line.strip()!r:.100}"
            )
    text = re.sub(r"\{\\[^}\n]*\}|</?[A-Za-z][^<>\n]*>", "", text)  # style, speaker
    rolling, last = bool(stamp.search(text)), ""
    parts, rows = CUE.split(text)[1:], []
    for i in range(0, len(parts), 9):
        *times, body = parts[i : i + 9]
        if vtt:  # comments and the name of the next cue may follow an empty line
            body = body.split("\n\n")[0]
        elif i + 9 < len(parts):  # the number of the next cue
            body = re.sub(r"\n\d+[ \t]*\n?\Z", "", body)
        kept = ""
        for line in body.split("\n"):
            # captions with times of words roll: a line is shown again under the next
            if not (rolling and line.strip() == last):
                kept += line + "\n"
            last = stamp.sub("", line).strip() or last
        pieces = [*times[:4], *stamp.split(kept), *times[4:]]  # time, text, ..., time
        edges = [_seconds(*pieces[j : j + 4]) for j in range(0, len(pieces), 5)]
        for spoken, span in zip(pieces[4::5], pairwise(edges), strict=True):
            words = html.unescape(spoken).split()
            onset, offset = _spread([len(word) for word in words], *span)
            timed = [j == 0 for j in range(len(words))]
            rows += zip(words, onset, offset, timed, strict=True)
    return pd.DataFrame(rows, columns=["word", "onset", "offset", "timed"])


def _seconds(hours, minutes, seconds, fraction):
    return int(hours or 0) * 3600 + int(minutes) * 60 + float(f"{seconds}.{fraction}")


READERS = {".textgrid": _read_textgrid}
READERS |= dict.fromkeys((".tsv", ".csv"), _read_table)
READERS |= dict.fromkeys((".srt", ".vtt"), _read_captions)


def check_words(words, source, *, slack=0.0):
    """Raise StimulusError unless words are timed, in order, and do not overlap.

    A word may be without time (onset and offset NaN). By up to ``slack`` seconds a word
    may overlap the one before it, or begin before it: it is clipped.

    Returns
    -------
    words : DataFrame
        The same, with a fresh index and times as float.
    """
    if len(words) == 0:
        raise StimulusError(f"{source} holds no words.")
    words = words.reset_index(drop=True)
    untimed = words[["onset", "offset"]].isna().all(axis=1)
    if untimed.all():
        raise StimulusError(f"{source}: none of its {len(words)} words has a time.")
    for column in ("onset", "offset"):
        times = pd.to_numeric(words[column], errors="coerce").astype(float)
        wrong = ~np.isfinite(times) & ~untimed
        _complain(source, words, wrong, f"{column} is not a number")
        words[column] = times
    onset, offset = words["onset"], words["offset"]
    _complain(source, words, onset < 0, "onset is negative")
    _complain(source, words, offset > LONGEST, "offset in days: are they milliseconds")
    _complain(source, words, offset < onset, "offset lies before the onset")
    latest = onset.cummax()
    early = latest.ffill().shift() - onset > slack
    _complain(source, words, early, "onset before that of the word before: sort them")
    late = offset.cummax().ffill().shift() - onset > max(slack, ROUNDING)
    _complain(source, words, late, "word overlaps the one before it")
    ends = offset.clip(lower=latest, upper=latest.bfill().shift(-1))
    return words.assign(onset=latest, offset=ends)


def _complain(source, words, wrong, what):
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        w = words.iloc[row]
        raise StimulusError(
            f"{source}: {what}, at word {row + 1} of {len(words)}, "
            f"{w['word']!r:.80} ({w['onset']!s:.40} to {w['offset']!s:.40} s); "
            f"{int(wrong.sum())} such words."
        )


def _interpolate(words):
    onset, offset = words[["onset", "offset"]].to_numpy().T.copy()
    length = words["word"].astype(str).str.len().to_numpy()
    gaps = np.flatnonzero(np.diff(np.r_[False, np.isnan(onset), False])).reshape(-1, 2)
    for i, j in gaps:
        if i > 0 and j < len(words):
            onset[i:j], offset[i:j] = _spread(length[i:j], offset[i - 1], onset[j])
    return words.assign(onset=onset, offset=offset)


def _spread(length, begin, end):
    """Onsets and offsets that share out a time in proportion to lengths."""
    edges = begin + (end - begin) * np.r_[0, np.cumsum(length)] / max(sum(length), 1)
    return edges[:-1], edges[1:]


def _with_text(words):
    """Add each word's place in the joined text: blanks between, 's and n't glued."""
    text = words["word"].astype(str)
    clitic = r"^(?:n['’]t|['’](?:s|m|d|t|re|ve|ll))(?!\w)"
    blank = ~text.str.contains(clitic, case=False)
    blank.iloc[:1] = False
    end = (text.str.len() + blank).cumsum()
    return words.assign(start=end - text.str.len(), end=end)
