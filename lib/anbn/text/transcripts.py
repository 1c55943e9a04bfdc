"""Timed transcripts: from any common file to words with onset and offset.

Words are a DataFrame with the columns ``word``, ``onset``, ``offset`` (seconds on the
stimulus clock; NaN: not known), ``timed`` (whether the file itself says when the word
begins), ``start``, ``end`` (characters in the text that the model reads) and, where
several people speak, ``speaker``.
"""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from anbn.text import (
    captions,
    elan,
    formats,
    nonwords,
    orthography,
    tiers,
    word_json,
    word_tables,
)
from anbn.text.captions import spread
from anbn.text.textfiles import Found, StimulusError, check_whole, visible

ROUNDING = 1e-3  # s, overlap that any file may have
SLACK_OF_GENTLE = 0.05  # s: it rounds to frames of 10 ms, and lets words swap
LONGEST = 1e6  # s, 11 days: beyond it times are damaged
# what a word may last in the median, in the unit of the file
SLOWEST = 4  # s, a word of many in the median
HELD = 10  # s, one of a few words
IN_MILLISECONDS = (80, 2000)
IN_100_NANOSECONDS = (8e5, 2e7)  # of HTK
SHORTEST = 0.001  # s, a word in the median
FASTEST = 0.03  # s between words in the mean: nobody speaks faster
ANEW = 0.5  # a time under this part of the latest one begins a section


class Transcript(NamedTuple):
    """Words of a file, and what was done to get them."""

    words: pd.DataFrame
    notes: list  # of str, to be printed: what was left out, clipped, spread
    left_out: Counter  # marks that are no words, and how often each
    n_clipped: int  # words whose end was clipped to the next one's onset


def read_words(path, *, missing="interpolate", tier=""):
    """Words of a timed transcript, see ``read``."""
    return read(path, missing=missing, tier=tier).words


def read(path, *, missing="interpolate", tier=""):
    """Read a timed transcript, and say what was left out of it.

    Parameters
    ----------
    path : path-like
        ``.TextGrid``, ELAN's ``.eaf`` and the tables it exports: the tier that holds
        single words, or one for each speaker; else sentences. ``.tsv``, ``.csv``: the
        columns ``word``, ``onset``, ``offset`` (or their like: ``text``,
        ``start_time``, ``end_ms``); or BIDS events with ``onset``, ``duration`` and
        ``word``; or Gentle's four columns without names. ``.srt``, ``.vtt``, ``.ass``:
        captions. ``.json`` of Whisper, WhisperX, whisper.cpp, Gentle, Vosk, MFA.
        ``.lab``, ``.ctm``, Audacity's labels.
    missing : {"interpolate", "drop"}
        What happens to words whose time is not in the file. "interpolate" spreads
        them, in proportion to their characters, over the gap between their neighbours
        (at the beginning and the end of a file, where one is absent, they stay
        without time) or over the caption, row or interval that holds several words;
        "drop" leaves their times NaN.
    tier : str
        Name or pattern of the tier of words; "": found by what the tiers hold.

    Returns
    -------
    transcript : Transcript
        Its words have the columns ``word``, ``onset``, ``offset``, ``timed``,
        ``start``, ``end`` and, of several speakers, ``speaker``. Words without time
        keep their place in the text. Times in milliseconds are recognised. An end that
        overlaps the next word (forced aligners write such) is clipped to its onset,
        also where another speaker begins.

    Raises
    ------
    StimulusError
        If the file is no transcript, or fails ``check_words``.
    """
    if missing not in ("interpolate", "drop"):
        raise ValueError(f"missing must be interpolate or drop, found {missing!r}")
    path = Path(path)
    kind = formats.format_of(path)
    if kind == "prose":
        raise StimulusError(
            f"{path} is plain text: expected a transcript with times "
            "(stories.read_story simulates them for plain text)."
        )
    found = _find(path, kind, tier)
    left_out, notes, shown = found.left_out, [*found.notes], kind in ("captions", "ass")
    rows, hidden = _visible(found.rows, path)
    notes += hidden
    if not shown:
        aligner = kind in ("textgrid", "eaf", "elan", "labels", "ctm", "json")
        rows, more = nonwords.remove_marks(rows, tiers=aligner)
        left_out = left_out + more
    if left_out:
        notes.append(
            f"marks that are no words left out, {sum(left_out.values())} in all: "
            f"{nonwords.name_them(left_out)}"
        )
    rows, converted = _in_seconds(rows, path, kind, found.unit)
    rows, in_order = _by_speaker(rows)
    notes += converted + in_order
    rows, completed = _completed(rows)
    notes += completed
    ends = pd.to_numeric(rows["offset"], errors="coerce").to_numpy(float)
    rows = check_words(rows, path, slack=SLACK_OF_GENTLE * ("aligned" in rows))
    over = ends - rows["offset"].to_numpy()
    n_clipped = int((over > ROUNDING).sum())
    if n_clipped:
        notes.append(
            f"words that ended after the next began: {n_clipped}, by up to "
            f"{np.nanmax(over):.2f} s: their ends are clipped to it"
        )
    rows["timed"] = rows.get("timed", rows["onset"].notna())
    words, n_several = (rows, 0) if shown else _spread_rows(rows)
    if n_several:
        n_more = int((~words["timed"]).sum() - (~rows["timed"]).sum())
        notes.append(
            f"rows of several words: {n_several}; times are spread over them, and "
            f"those of {n_more} words are not measured"
        )
    n_hyphens = int(words["word"].astype(str).str.strip().isin(["-", "‐"]).sum())
    words, n_joined = orthography.as_written(words)
    if n_hyphens:
        notes.append(
            f"rows of a hyphen alone: {n_hyphens}, written without blanks, as in "
            "well-known. One that stands for a dash must be – in the file"
        )
    if n_joined:
        notes.append(f"rows of punctuation alone, joined to their words: {n_joined}")
    if missing == "interpolate":
        words = _interpolate(words)
    else:
        words.loc[~words["timed"], ["onset", "offset"]] = np.nan
    columns = ["word", "onset", "offset", "timed", "start", "end", "speaker"]
    words = words[[name for name in columns if name in words]]
    return Transcript(words, notes, left_out, n_clipped + found.n_clipped)


def _visible(rows, path):
    """Rows without characters that nobody sees; StimulusError where some are lost."""
    n_invisible, words = 0, []
    for word in rows["word"].astype(str):
        word, n = visible(word)
        n_invisible += n
        words.append(word)
    check_whole(" ".join(words), path)
    if not n_invisible:
        return rows, []
    rows = rows.assign(word=pd.Series(words, index=rows.index, dtype=object))
    rows = rows[rows["word"].str.strip() != ""].reset_index(drop=True)
    return rows, [f"characters that nobody sees, left out: {n_invisible}"]


def _completed(rows):
    """Rows in which a word that has one of its two times gets the other.

    A word without its end lasts until the next begins, one without its beginning begins
    where the one before ends. If words without any time stand between two known times,
    all share what lies between. The last word of a file lasts as long as words do in
    the median.
    """
    times = rows[["onset", "offset"]].apply(pd.to_numeric, errors="coerce")
    onset, offset = times.to_numpy(float).T.copy()
    empty = rows[["onset", "offset"]].isna().to_numpy().copy()
    half = empty[:, 0] != empty[:, 1]
    if not half.any() or np.isnan(offset).all():
        return rows, []
    whole = ~empty.any(axis=1)
    lasts = np.median((offset - onset)[whole]) if whole.any() else np.nan
    length = rows["word"].astype(str).str.len().to_numpy()
    timed = ~empty[:, 0]
    for i in np.flatnonzero(half):
        first, last, begin, end = i, i, onset[i], offset[i]
        if np.isnan(begin):  # an end alone: back to where a time is known
            while first > 0 and empty[first - 1].all():
                first -= 1
            begin = offset[first - 1] if first else np.nan
        elif np.isnan(end):  # a beginning alone: on to where one is known
            while last + 1 < len(rows) and empty[last + 1].all():
                last += 1
            if last + 1 == len(rows):
                last, end = i, begin + lasts
            elif empty[last + 1, 0]:
                last, end = last + 1, offset[last + 1]
            else:
                end = onset[last + 1]
        if np.isfinite([begin, end]).all() and begin <= end:
            part = slice(first, last + 1)
            onset[part], offset[part] = spread(length[part], begin, end)
            empty[part] = False
    rows = rows.assign(timed=timed)
    for column, values in (("onset", onset), ("offset", offset)):
        known = np.isfinite(values)
        values = pd.Series(values, index=rows.index, dtype=object)
        rows[column] = values.where(known, rows[column])
    n_ends, n_onsets = int((half & timed).sum()), int((half & ~timed).sum())
    notes = []
    if n_ends:
        notes.append(f"words without an end, which last until the next: {n_ends}")
    if n_onsets:
        notes.append(f"words without an onset, begun with the end before: {n_onsets}")
    return rows, notes


def _find(path, layout, tier):
    """What the reader of a file's format finds in it."""
    if layout in ("captions", "ass"):
        return captions.read(path, ass=layout == "ass")
    of_tiers = {
        "textgrid": tiers.read_textgrid,
        "eaf": tiers.read_eaf,
        "elan": elan.read,
    }
    if layout in of_tiers:
        found, notes = of_tiers[layout](path)
        rows, more = tiers.choose(found, path, tier)
        return Found(rows, notes + more)
    if layout == "json":
        return word_json.read(path, tier=tier)
    readers = {
        "table": word_tables.read,
        "labels": word_tables.read_labels,
        "ctm": word_tables.read_ctm,
    }
    return readers[layout](path)


def _by_speaker(rows):
    """Rows in order of time, where each of several speakers' rows are in order."""
    if "speaker" not in rows or rows["speaker"].nunique() < 2:
        return rows.drop(columns="speaker", errors="ignore"), []
    onset = pd.to_numeric(rows["onset"], errors="coerce")
    ordered = onset.groupby(rows["speaker"].fillna("")).apply(
        lambda times: times.dropna().is_monotonic_increasing
    )
    if onset.notna().all() and ordered.all():
        order = onset.argsort(kind="stable")
        rows = rows.iloc[order].reset_index(drop=True)
    speakers = rows["speaker"].dropna().unique()
    return rows, [f"{len(speakers)} speakers, in order of time: {', '.join(speakers)}"]


def _in_seconds(rows, path, layout, unit):
    """Rows with times in seconds; how long words last tells which unit they are in.

    Raises StimulusError where no unit fits.
    """
    if not len(rows):
        raise StimulusError(f"{path} holds no words.")
    times = (
        rows[["onset", "offset"]].apply(pd.to_numeric, errors="coerce").astype(float)
    )
    n_words = rows["word"].map(lambda text: len(orthography.split_row(str(text))))
    each = (times["offset"] - times["onset"]) / n_words.clip(lower=1)
    each = each[np.isfinite(each) & (each > 0)]
    if layout in ("captions", "ass") or not len(each):
        return rows, []
    middle = float(each.median())
    known = times.to_numpy()[np.isfinite(times.to_numpy())]
    whole = bool((known == np.round(known)).all())
    scale = 1.0 if unit == "s" else None
    if scale is None and whole and _within(middle, IN_MILLISECONDS):
        scale = 1e-3
    if (
        scale is None
        and whole
        and layout == "labels"
        and _within(middle, IN_100_NANOSECONDS)
    ):
        scale = 1e-7
    scale = scale or 1.0
    many = n_words.sum() >= 5
    slow = middle * scale > (SLOWEST if many else HELD)
    span = (np.nanmax(known) - np.nanmin(known)) * scale / max(n_words.sum(), 1)
    fast = many and span < FASTEST and middle * scale < FASTEST
    fast = fast or middle * scale < SHORTEST
    if slow or fast:
        raise StimulusError(
            f"{path}: in seconds a word lasts {middle * scale:.4g} s in the median "
            f"(onset {rows['onset'].iloc[0]}, offset {rows['offset'].iloc[0]} of "
            f"{str(rows['word'].iloc[0])!r:.60}): are they milliseconds, samples or "
            "frames? Convert them to seconds, or name the columns onset_ms, offset_ms."
        )
    if scale == 1.0:
        return rows, []
    for column in ("onset", "offset"):
        found = times[column] * scale
        rows[column] = found.astype(object).where(found.notna(), rows[column])
    name = "milliseconds" if scale == 1e-3 else "units of 100 ns"
    return rows, [f"times read as {name} (a word lasts {middle:.0f} of them)"]


def _within(value, limits):
    return limits[0] <= value <= limits[1]


def _spread_rows(rows):
    """Rows of several words as a row a word, times in proportion to their letters."""
    places = rows["word"].astype(str).map(orthography.split_row)
    several = places.map(len) > 1
    if not several.any():
        return rows, 0
    words = []
    for row, spans in zip(rows.to_dict("records"), places, strict=True):
        if len(spans) < 2:
            words.append(row)
            continue
        line = row["word"]
        length = [end - start for start, end in spans]
        times = spread(length, row["onset"], row["offset"])
        for k, ((start, end), onset, offset) in enumerate(
            zip(spans, *times, strict=True)
        ):
            word = row | {"word": line[start:end], "onset": onset, "offset": offset}
            word["timed"] = bool(row["timed"] and k == 0)
            word["blank"] = row.get("blank") if k == 0 else line[start - 1].isspace()
            words.append(word)
    return pd.DataFrame(words), int(several.sum())


def check_words(words, source, *, slack=0.0):
    """Raise StimulusError unless words are timed and in order; clip ends that overlap.

    A word may be without time (onset and offset NaN). By up to ``slack`` seconds a word
    may begin before the one before it: it is clipped.

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
    _check_order(source, words, early)
    following = latest.bfill().shift(-1)
    return words.assign(onset=latest, offset=offset.clip(lower=latest, upper=following))


def _check_order(source, words, early):
    """Raise StimulusError for words that begin before the one before them."""
    if not early.any():
        return
    onset = words["onset"].to_numpy()
    known = np.flatnonzero(np.isfinite(onset))
    falls = [
        (int(i), onset[j], onset[i])
        for j, i in pairwise(known)
        if onset[i] < onset[j] and early.iloc[i]
    ]
    anew = [fall for fall in falls if fall[2] < ANEW * fall[1]]
    if anew:
        at = ", ".join(f"{i + 1} ({a:g} s, then {b:g} s)" for i, a, b in anew[:6])
        advice = (
            f"Times begin anew at word {at}. If these are sections or runs, each with "
            "a clock of its own, add to the times of each the second at which it "
            "begins on the clock of the whole story; or make a story of each."
        )
    else:
        advice = (
            "Correct these times, or leave them blank: a word without time gets one "
            "from its neighbours."
        )
    what = "onset before that of the word before"
    _complain(source, words, early, what, advice)


def _complain(source, words, wrong, what, advice=""):
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        w = words.iloc[row]
        raise StimulusError(
            f"{source}: {what}, at word {row + 1} of {len(words)}, "
            f"{w['word']!r:.80} ({w['onset']!s:.40} to {w['offset']!s:.40} s); "
            f"{int(wrong.sum())} such words. {advice}".rstrip()
        )


def _interpolate(words):
    onset, offset = words[["onset", "offset"]].to_numpy(float).T.copy()
    length = words["word"].astype(str).str.len().to_numpy()
    gaps = np.flatnonzero(np.diff(np.r_[False, np.isnan(onset), False])).reshape(-1, 2)
    for i, j in gaps:
        if i > 0 and j < len(words):
            onset[i:j], offset[i:j] = spread(length[i:j], offset[i - 1], onset[j])
    return words.assign(onset=onset, offset=offset)
