"""Tables of words: TSV, CSV, BIDS events, Gentle's align.csv, labels, CTM."""

import csv
import io
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from anbn.text import word_json
from anbn.text.textfiles import Found, StimulusError, decode

BLANK = {"", "n/a"}  # BIDS writes n/a
# names of columns, without what is no letter: start_time, Begin, t_end, onset (ms)
NAMES = {
    "word": "word|words|text|token|label|wordform|orthography|transcript|transcription|"
    "utterance|sentence|segment|punctuatedword",
    "onset": "onset|start|begin|beginning|from|xmin|tmin",
    "offset": "offset|end|stop|finish|to|until|xmax|tmax",
    "duration": "duration|dur",
}
UNITS = {
    "s": "s|sec|secs|second|seconds",
    "ms": "ms|msec|msecs|millis|millisecond|milliseconds",
    "": "samples?|frames?|min|minutes|bytes?|chars?|characters?|trs?|volumes?",
}
TIME_NAME = re.compile(
    rf"(?:words?|t|time|audio)?(?P<kind>{NAMES['onset']}|{NAMES['offset']}|"
    rf"{NAMES['duration']})(?:times?|timestamp)?(?:in)?"
    rf"(?:(?P<s>{UNITS['s']})|(?P<ms>{UNITS['ms']})|(?P<other>{UNITS['']}))?"
)
KNOWN = (None, "s", "ms")
LONGEST_CELL = 20  # lines
FAR_APART = 60  # s between onsets whose unit is not named beside a duration_ms
KINDS_OF_ROW = ("trial_type", "type", "tier", "tier_name")
DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
TIMECODE = re.compile(r"\d{1,2}[:;]\d\d[:;]\d\d[:;]\d{1,3}")  # of films: with frames
STAMPED = re.compile(r"(?:(\d+):)?(\d+):(\d{1,2}(?:[.,]\d+)?)")


def read_table(path):
    """Cells of a TSV or CSV file, as strings; column names in lower case.

    What parts the cells is what the first line holds: tabs, else semicolons where there
    are more of them than commas, else commas. A table of four columns without names,
    the last two of them times, is taken for Gentle's and gets the columns ``word``,
    ``aligned``, ``onset``, ``offset``.

    A line with more or fewer columns than the first is a StimulusError.
    """
    table = _read_cells(path)
    return table.map(str.strip)


def _read_cells(path):
    """``read_table`` with the blanks that stand within quotation marks."""
    lines = [(n, s) for n, s in enumerate(decode(path).split("\n"), 1) if s.strip()]
    if re.fullmatch(r"sep=.", lines[0][1].strip()) and len(lines) > 1:  # of Excel
        lines = lines[1:]
    while len(lines) > 1 and lines[0][1].startswith("#") and has_header(lines[1][1]):
        lines = lines[1:]  # a comment
    separator = _separator(lines[0][1], Path(path).suffix.lower())
    names = [name.strip() for name in _cells(lines[0][1], separator)]
    n_plain = len(names) if '"' not in lines[0][1] else 0
    if len(names) == 4 and all(re.fullmatch(r"[\d.]*", cell) for cell in names[2:]):
        names = ["word", "aligned", "onset", "offset"]
    else:
        lines = lines[1:]
    quoted = re.compile(rf'(?:^|{separator})\s*"[^"]*"\s*(?:{separator}|$)')
    if len(lines) > 1 and all(quoted.search(line) for _, line in lines):
        n_plain = 0  # the table quotes all its words
    # commas part the cells, and no quotation mark is a word's own
    opens = re.compile(rf'(?:^|{separator})\s*"[^"{separator}]*(?:{separator}|$)')
    pairs = separator != "\t" and not any(
        line.count(separator) + 1 == len(names) and opens.search(line)
        for _, line in lines
    )
    rows = []
    while lines:
        number, line = lines.pop(0)
        row = _cells(line, separator, n_plain, pairs)
        if len(row) != len(names):
            row, lines = _over_lines(line, lines, separator, len(names)) or (row, lines)
        if len(row) != len(names):
            raise StimulusError(
                f"{path}, line {number}: expected {len(names)} columns "
                f"({', '.join(names)}), found {len(row)}: {row!r:.200}"
            )
        rows.append(row)
    return pd.DataFrame(rows, columns=[name.lower() for name in names], dtype=object)


def _over_lines(line, lines, separator, n_cells):
    """A row whose quoted cell is broken over lines, and the lines after it, or None."""
    if line.count('"') % 2 == 0:
        return None
    for n in range(1, min(len(lines), LONGEST_CELL) + 1):
        line += "\n" + lines[n - 1][1]
        if line.count('"') % 2 == 0:
            with suppress(csv.Error):
                text = io.StringIO(line, newline="")
                found = list(csv.reader(text, delimiter=separator, strict=True))
                if len(found) == 1 and len(found[0]) == n_cells:
                    return [" ".join(cell.split("\n")) for cell in found[0]], lines[n:]
            return None
    return None


def _separator(line, suffix):
    if "\t" in line:
        return "\t"
    if line.count(";") > line.count(","):
        return ";"
    return "\t" if suffix == ".tsv" and "," not in line else ","


def _cells(line, separator, n_plain=0, pairs=True):
    # a quotation mark is the word's own ("Oh) unless the table quotes its names, or it
    # is doubled or holds a separator; alone, it must not take the next lines along
    cells = line.split(separator)
    if len(cells) != n_plain or '""' in line:
        with suppress(csv.Error):
            cells = next(csv.reader([line], delimiter=separator, strict=True))
    # around several words a pair is the table's; around one where ``pairs``
    own = r'"([^"]*)"' if pairs else r'"([^"]*\s[^"]*)"'
    quoted = [re.fullmatch(own, cell.strip()) for cell in cells]
    return [q[1] if q else cell for q, cell in zip(quoted, cells, strict=True)]


def has_header(line):
    """Whether a line names the columns of a table of words."""
    names = _cells(line, _separator(line, ""))
    kinds = {meaning_of(name.strip().lower())[0] for name in names}
    return {"word", "onset"} <= kinds and bool(kinds & {"offset", "duration"})


def meaning_of(name):
    """What a column holds by its name, and the unit that the name tells."""
    letters = re.sub(r"[^a-z]", "", name)
    if re.fullmatch(NAMES["word"], letters):
        return "word", None
    found = TIME_NAME.fullmatch(letters)
    if not found:
        return None, None
    named = next(k for k in NAMES if re.fullmatch(NAMES[k], found["kind"]))
    unit = "s" if found["s"] else "ms" if found["ms"] else None
    return named, found["other"] or unit


def read(path):
    """Rows of a table with named columns.

    Returns
    -------
    found : Found
        With the columns ``word``, ``onset``, ``offset``; where there, ``aligned`` (of
        Gentle) and ``speaker``. Where the name of a column tells the unit, times are
        in seconds; else they are as they stand in the file.
    """
    cells = _read_cells(path)
    table = cells.map(str.strip)
    chosen, units = _columns(table, path)
    for column in KINDS_OF_ROW:
        if column in table and column not in chosen.values():
            spoken = table[column].str.lower().isin(["word", "words"])
            table = table[spoken] if spoken.any() else table
    rows = pd.DataFrame({name: table[column] for name, column in chosen.items()})
    for column in ("aligned", "speaker"):
        if column in table:
            rows[column] = table[column]
    rows, notes = _converted(rows, chosen, units, path)
    if "offset" not in rows:
        times = [pd.to_numeric(rows[c], "coerce") for c in ("onset", "duration")]
        end = times[0] + times[1]
        # where there is no sum, what stands there is left for the check to name
        rows["offset"] = end.astype(object).where(end.notna(), rows["duration"])
    rows = rows.drop(columns="duration", errors="ignore")
    named = [f"{chosen[k]!r} as {k}" for k in chosen if chosen[k] != k]
    if named:
        notes.append(f"columns read: {', '.join(named)}")
    unit = "s" if any(units.values()) else None
    rows = rows[~rows["word"].isin(BLANK)]
    rows, joined = _of_pieces(rows, cells.loc[rows.index, chosen["word"]])
    return Found(rows, notes + joined, unit=unit)


def _of_pieces(rows, words):
    """Rows of words from those of pieces, where the cells tell what begins a word.

    Blanks within quotation marks do (whisper.cpp) where not all cells have one, and
    the signs of a tokenizer.
    """
    if not len(rows) or words.str.match(r"\s").all():
        return rows, []
    found = word_json.joined(rows.assign(word=words))
    n_joined = len(rows) - len(found)
    if not n_joined:
        return rows, []
    return found, [f"pieces of words, joined to them: {n_joined}"]


def _converted(rows, chosen, units, path):
    """Rows with times as numbers, in seconds where a column's name tells a unit.

    A column that names no unit beside one that does is in seconds: times far from what
    words last are found later on, but onsets alone are looked at here.
    """
    times = [column for column in ("onset", "offset", "duration") if column in rows]
    for column in times:
        codes = rows[column][rows[column].astype(str).str.fullmatch(TIMECODE)]
        if len(codes):
            raise StimulusError(
                f"{path}: the column {chosen[column]!r} holds time codes "
                f"({codes.iloc[0]}), whose last number counts frames. Convert them to "
                "seconds."
            )
        rows[column] = rows[column].map(time_of)
    in_ms = [column for column in times if units[column] == "ms"]
    for column in in_ms:
        found = pd.to_numeric(rows[column], errors="coerce") / 1000
        rows[column] = found.astype(object).where(found.notna(), rows[column])
    named = [column for column in times if units[column]]
    steps = pd.to_numeric(rows["onset"], errors="coerce").diff().abs()
    if named and not units["onset"] and steps.median() > FAR_APART:
        raise StimulusError(
            f"{path}: {', '.join(repr(chosen[c]) for c in named)} names its unit, and "
            f"{chosen['onset']!r} does not; in seconds its words begin "
            f"{steps.median():.4g} s apart. Name it onset_ms or onset_s."
        )
    if not in_ms:
        return rows, []
    others = [repr(chosen[column]) for column in times if column not in in_ms]
    return rows, [
        "times read as milliseconds (by the names of columns): "
        + ", ".join(repr(chosen[column]) for column in in_ms)
        + f"; as seconds: {', '.join(others)}" * bool(others)
    ]


def _columns(table, path):
    """The columns that hold words and times, and for each the unit it names."""
    kinds = {column: meaning_of(column) for column in table}
    chosen = {}
    for kind in NAMES:
        fits = [column for column in table if kinds[column][0] == kind]
        exact = [column for column in fits if column == kind]
        # start_char beside start is no time
        fits = [column for column in fits if kinds[column][1] in (None, *UNITS)] or fits
        if len(exact or fits) > 1:
            raise StimulusError(
                f"{path}: {', '.join(map(repr, fits))} can each be the {kind}. Name "
                f"the right one {kind!r}, or take the others out."
            )
        if fits:
            chosen[kind] = (exact or fits)[0]
    if "offset" in chosen:
        chosen.pop("duration", None)
    if not ({"word", "onset"} <= set(chosen) and {"offset", "duration"} & set(chosen)):
        raise StimulusError(
            f"{path}: expected the columns word, onset and offset (or text, start and "
            "end), or, of BIDS events, onset, duration and word; found "
            f"{list(table)}."
        )
    units = {kind: kinds[column][1] for kind, column in chosen.items()}
    other = {chosen[kind]: unit for kind, unit in units.items() if unit not in KNOWN}
    if other:
        raise StimulusError(
            f"{path}: expected times in seconds or milliseconds; by their names, "
            f"{', '.join(map(repr, other))} are in "
            f"{', '.join(sorted(set(other.values())))}. Convert them to seconds."
        )
    return chosen, units


def time_of(cell):
    """A time as a number can be read from it: 0,5 and 0:01.5 as well."""
    cell = cell.strip() if isinstance(cell, str) else cell
    if cell in BLANK:
        return np.nan
    if DECIMAL_COMMA.fullmatch(cell):
        return cell.replace(",", ".")
    stamped = STAMPED.fullmatch(cell)
    if stamped:
        hours, minutes, rest = stamped.groups()
        rest = float(rest.replace(",", "."))
        return int(hours or 0) * 3600 + int(minutes) * 60 + rest
    return cell


def read_labels(path):
    """Rows of Audacity's labels, HTK's or other .lab files: start, end, word.

    Also the .lab of XWaves and ESPS: end, a colour, and the word, after a line ``#``.
    """
    lines = [line for line in decode(path).split("\n") if line.strip()]
    marks = [i for i, line in enumerate(lines[:20]) if line.strip() == "#"]
    if marks:
        cells = [line.split(None, 2) for line in lines[marks[0] + 1 :]]
        begins = ["0", *(row[0] for row in cells[:-1])]
        lines = [
            " ".join([begin, row[0], *row[2:]])
            for begin, row in zip(begins, cells, strict=True)
        ]
    rows = []
    for number, line in enumerate(lines, 1):
        if line.startswith("\\"):  # the frequencies of a label of Audacity
            continue
        cells = line.split("\t", 2) if line.count("\t") > 1 else line.split(None, 2)
        times = [cell for cell in cells[:2] if re.fullmatch(r"-?[\d.,]+", cell)]
        if len(times) < 2:
            raise StimulusError(
                f"{path}, line {number}: expected a start, an end and a word; "
                f"found {line!r:.100}. A .lab file without times is plain text: "
                "name it .txt."
            )
        word = cells[2].strip() if len(cells) > 2 else ""
        if Path(path).suffix.lower() == ".lab":  # a score may follow the word
            word = re.sub(r"\s+-?\d+\.\d+$", "", word)
        rows.append((word, *map(time_of, times)))
    rows = pd.DataFrame(rows, columns=["word", "onset", "offset"], dtype=object)
    return Found(rows[rows["word"] != ""], [])


def read_ctm(path):
    """Rows of a NIST .ctm: recording, channel, start, duration, word."""
    rows, recordings = [], []
    for number, line in enumerate(decode(path).split("\n"), 1):
        if not line.strip() or line.startswith(";;"):
            continue
        cells = line.split()
        try:
            begin, duration = float(cells[2]), float(cells[3])
        except (ValueError, IndexError):
            begin = duration = np.nan
        if len(cells) < 5 or not np.isfinite([begin, duration]).all():
            raise StimulusError(
                f"{path}, line {number}: expected recording, channel, start, duration "
                f"and word; found {line!r:.100}"
            )
        recordings.append(cells[0])
        rows.append((cells[4], begin, begin + duration, cells[1]))
    if len(set(recordings)) > 1:
        raise StimulusError(
            f"{path} holds {len(set(recordings))} recordings, expected one: "
            f"{', '.join(sorted(set(recordings))[:5])}. Write a file for each."
        )
    rows = pd.DataFrame(rows, columns=["word", "onset", "offset", "speaker"])
    return Found(rows, [])
