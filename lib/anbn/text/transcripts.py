"""Timed transcripts: from any common file to words with onset and offset.

Words are a DataFrame with the columns ``word``, ``onset``, ``offset`` (seconds on the
stimulus clock; NaN: not known), ``timed`` (whether the file itself says when the word
begins), ``start``, ``end`` (characters in the text that the model reads) and, where
several people speak, ``speaker``.
"""

from pathlib import Path

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
    found : Found
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
    rows, n_invisible = _visible(found.words, path)
    if n_invisible:
        notes.append(f"characters that nobody sees, left out: {n_invisible}")
    if not shown:
        aligner = kind in ("textgrid", "eaf", "elan", "labels", "ctm", "json")
        rows, more = nonwords.remove_marks(rows, tiers=aligner)
        left_out = left_out + more
    if left_out:
        notes.append(
            f"marks that are no words left out, {sum(left_out.values())} in all: "
            f"{nonwords.name_them(left_out)}"
        )
    rows = _numbers(rows, path)
    if not shown:
        rows, converted = _in_seconds(rows, path, kind, found.unit)
        notes += converted
    rows, in_order = _by_speaker(rows)
    rows, completed = _completed(rows)
    notes += in_order + completed
    ends = rows["offset"].to_numpy()
    rows = check_words(rows, path, slack=SLACK_OF_GENTLE * ("aligned" in rows))
    over = ends - rows["offset"].to_numpy()
    n_clipped = int((over > ROUNDING).sum())
    if n_clipped:
        notes.append(
            f"words that ended after the next began: {n_clipped}, by up to "
            f"{np.nanmax(over):.2f} s: their ends are clipped to it"
        )
    words, n_several = (rows, 0) if shown else _spread_rows(rows)
    if n_several:
        n_more = int((~words["timed"]).sum() - (~rows["timed"]).sum())
        notes.append(
            f"rows of several words: {n_several}; times are spread over them, and "
            f"those of {n_more} words are not measured"
        )
    n_hyphens = int(words["word"].str.strip().isin(["-", "‐"]).sum())
    words, n_joined = orthography.as_written(words)
    if n_hyphens:
        notes.append(
            f"rows of a hyphen alone: {n_hyphens}, written without blanks, as in "
            "well-known. One that stands for a dash must be – in the file"
        )
    if n_joined:
        notes.append(f"rows of punctuation alone, joined to their words: {n_joined}")
    if missing == "interpolate":
        words = _filled(words)
    else:
        words.loc[~words["timed"], ["onset", "offset"]] = np.nan
    columns = ["word", "onset", "offset", "timed", "start", "end", "speaker"]
    words = words[[name for name in columns if name in words]]
    return Found(words, notes, left_out, n_clipped + found.n_clipped)


def _visible(rows, path):
    """Rows without characters that nobody sees, and how many these were."""
    words, n_invisible = [], 0
    for word in rows["word"]:
        word, n = visible(word)
        words.append(word)
        n_invisible += n
    check_whole(" ".join(words), path)
    if n_invisible:
        rows = rows.assign(word=pd.Series(words, index=rows.index, dtype=object))
        rows = rows[rows["word"].str.strip() != ""].reset_index(drop=True)
    return rows, n_invisible


def _numbers(rows, path):
    """Rows with times as numbers (NaN: blank), and whether each has an onset.

    Raises StimulusError where there are no rows, and for a time that is no number.
    """
    if not len(rows):
        raise StimulusError(f"{path} holds no words.")
    for column in ("onset", "offset"):
        times = pd.to_numeric(rows[column], errors="coerce").astype(float)
        wrong = ~np.isfinite(times) & rows[column].notna()
        _complain(path, rows, wrong, f"{column} is not a number")
        rows = rows.assign(**{column: times})
    return rows.assign(timed=rows.get("timed", rows["onset"].notna()))


def _completed(rows):
    """Rows in which a word that has one of its two times gets the other.

    A word without its end lasts until the next begins, one without its beginning begins
    where the one before ends. If words without any time stand between two known times,
    all share what lies between. The last word of a file lasts as long as words do in
    the median.
    """
    half = rows["onset"].isna() != rows["offset"].isna()
    if not half.any() or rows["offset"].isna().all():
        return rows, []
    n_ends, n_onsets = (
        int((half & rows["timed"]).sum()),
        int((half & ~rows["timed"]).sum()),
    )
    notes = []
    if n_ends:
        notes.append(f"words without an end, which last until the next: {n_ends}")
    if n_onsets:
        notes.append(f"words without an onset, begun with the end before: {n_onsets}")
    return _filled(rows, halves=True), notes


def _filled(words, *, halves=False):
    """Words that share what lies between known times, by their characters.

    With ``halves`` only where a word has one of its two times, and of the last word of
    a file, whose end is absent, as long as words last in the median.
    """
    edges = words[["onset", "offset"]].to_numpy().ravel()  # of each word in turn
    lasts = (words["offset"] - words["onset"]).median()
    length = words["word"].str.len().to_numpy()
    gaps = np.flatnonzero(np.diff(np.r_[False, np.isnan(edges), False])).reshape(-1, 2)
    for first, end in gaps:
        if first == 0 or (halves and first % 2 == end % 2 == 0):
            continue
        begin = edges[first - 1]
        i, j, stop = first // 2, (end + 1) // 2, edges[end:][:1]
        if end == len(edges) and first % 2:
            j, stop = i + 1, [begin + lasts]
        if len(stop) and begin <= stop[0]:
            times = spread(length[i:j], begin, stop[0])
            edges[2 * i : 2 * j] = np.column_stack(times).ravel()
    return words.assign(onset=edges[::2], offset=edges[1::2])


def _find(path, layout, tier):
    """What the reader of a file's format finds in it."""
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
        "captions": captions.read,
        "ass": captions.read_ass,
        "table": word_tables.read,
        "labels": word_tables.read_labels,
        "ctm": word_tables.read_ctm,
    }
    return readers[layout](path)


def _by_speaker(rows):
    """Rows in order of time, where each of several speakers' rows are in order."""
    if "speaker" not in rows or rows["speaker"].nunique() < 2:
        return rows.drop(columns="speaker", errors="ignore"), []
    ordered = (
        rows["onset"]
        .groupby(rows["speaker"].fillna(""))
        .apply(lambda times: times.dropna().is_monotonic_increasing)
    )
    if rows["onset"].notna().all() and ordered.all():
        rows = rows.sort_values("onset", kind="stable", ignore_index=True)
    speakers = rows["speaker"].dropna().unique()
    return rows, [f"{len(speakers)} speakers, in order of time: {', '.join(speakers)}"]


def _in_seconds(rows, path, layout, unit):
    """Rows with times in seconds; how long words last tells which unit they are in.

    Raises StimulusError where no unit fits.
    """
    times = rows[["onset", "offset"]]
    n_words = rows["word"].map(lambda text: len(orthography.split_row(text)))
    each = (times["offset"] - times["onset"]) / n_words.clip(lower=1)
    each = each[each > 0]
    if not len(each):
        return rows, []
    middle = float(each.median())
    scale, name = 1.0, "seconds"
    if unit != "s" and (times.isna() | (times == times.round())).all(axis=None):
        if IN_MILLISECONDS[0] <= middle <= IN_MILLISECONDS[1]:
            scale, name = 1e-3, "milliseconds"
        elif layout == "labels" and (
            IN_100_NANOSECONDS[0] <= middle <= IN_100_NANOSECONDS[1]
        ):
            scale, name = 1e-7, "units of 100 ns"
    n = n_words.sum()
    span = (times.max(axis=None) - times.min(axis=None)) * scale / max(n, 1)
    lasts = middle * scale
    fast = n >= 5 and span < FASTEST and lasts < FASTEST
    if lasts > (SLOWEST if n >= 5 else HELD) or fast or lasts < SHORTEST:
        raise StimulusError(
            f"{path}: in seconds a word lasts {lasts:.4g} s in the median "
            f"(onset {rows['onset'].iloc[0]:g}, offset {rows['offset'].iloc[0]:g} of "
            f"{rows['word'].iloc[0]!r:.60}): are they milliseconds, samples or "
            "frames? Convert them to seconds, or name the columns onset_ms, offset_ms."
        )
    if scale == 1.0:
        return rows, []
    rows = rows.assign(**(times * scale))
    return rows, [f"times read as {name} (a word lasts {middle:.0f} of them)"]


def _spread_rows(rows):
    """Rows of several words as a row a word, times in proportion to their letters."""
    places = rows["word"].map(orthography.split_row)
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
        for (start, end), onset, offset in zip(spans, *times, strict=True):
            word = row | {"word": line[start:end], "onset": onset, "offset": offset}
            if start > spans[0][0]:
                word |= {"timed": False, "blank": line[start - 1].isspace()}
            words.append({"blank": None} | word)
    return pd.DataFrame(words), int(several.sum())


def check_words(words, source, *, slack=0.0):
    """Raise StimulusError unless words are timed and in order; clip ends that overlap.

    A word may be without time (onset and offset NaN). By up to ``slack`` seconds a word
    may begin before the one before it: it is clipped.

    Returns
    -------
    words : DataFrame
        The same, with a fresh index.
    """
    words = words.reset_index(drop=True)
    onset, offset = words["onset"], words["offset"]
    if (onset.isna() & offset.isna()).all():
        raise StimulusError(f"{source}: none of its {len(words)} words has a time.")
    latest = onset.cummax()
    early = latest.ffill().shift() - onset > slack
    for wrong, what in (
        (onset.isna() & offset.notna(), "onset is not a number"),
        (offset.isna() & onset.notna(), "offset is not a number"),
        (onset < 0, "onset is negative"),
        (offset > LONGEST, "offset in days: are they milliseconds"),
        (offset < onset, "offset lies before the onset"),
    ):
        _complain(source, words, wrong, what)
    what = "onset before that of the word before"
    _complain(source, words, early, what, _advice(onset, early))
    following = latest.bfill().shift(-1)
    return words.assign(onset=latest, offset=offset.clip(lower=latest, upper=following))


def _advice(onset, early):
    """What to do about words that begin before the one before them."""
    known = onset.dropna()
    before = known.shift()
    anew = known[early[known.index] & (known < ANEW * before)]
    if not len(anew):
        return (
            "Correct these times, or leave them blank: a word without time gets one "
            "from its neighbours."
        )
    at = ", ".join(
        f"{i + 1} ({before[i]:g} s, then {onset[i]:g} s)" for i in anew.index[:6]
    )
    return (
        f"Times begin anew at word {at}. If these are sections or runs, each with "
        "a clock of its own, add to the times of each the second at which it "
        "begins on the clock of the whole story; or make a story of each."
    )


def _complain(source, words, wrong, what, advice=""):
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        w = words.iloc[row]
        raise StimulusError(
            f"{source}: {what}, at word {row + 1} of {len(words)}, "
            f"{w['word']!r:.80} ({w['onset']!s:.40} to {w['offset']!s:.40} s); "
            f"{int(wrong.sum())} such words. {advice}".rstrip()
        )
