"""Captions: SubRip (.srt), WebVTT (.vtt) and SubStation (.ass) files.

What is spoken once is read once: captions that roll on show a line again under the
next one, and captions with highlighted words show a line once for each of its words.
"""

import html
import re
from collections import Counter
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd

from anbn.text import nonwords, orthography
from anbn.text.textfiles import Found, StimulusError, decode

STAMP = r"(?:(\d{1,4}):)?(\d{1,6}):([0-5]?\d)[.,](\d{1,9})"
CUE = re.compile(rf"^[ \t]*{STAMP}[ \t]*-->[ \t]*{STAMP}(?!\S).*$", re.MULTILINE)
# what whisper prints while it listens: [00:00.000 --> 00:04.200]  The old keeper
# and faster-whisper: [0.00s -> 4.20s] The old keeper
PRINTED = re.compile(
    rf"^[ \t]*\[(?P<on>{STAMP}|\d+\.\d+s)[ \t]*--?>[ \t]*(?P<off>{STAMP}|\d+\.\d+s)\]"
    r"(?P<said>.*)$",
    re.MULTILINE,
)
MARKUP = re.compile(rf"<{STAMP}>|<(/?)([A-Za-z]\w*)[^<>\n]*>|\{{(\\[^}}\n]*)\}}")
# an arrow beside no number stands in what is said
ARROW = re.compile(r"(?!.*(?:\d\S*\s*-->|-->\s*\S*\d)).*[^\W\d_]")
HIGHLIGHTS = frozenset("b c em font i span strong u".split())
# (Anna) and what she says; or Anna, alone in the first line
IN_ROUND = re.compile(
    r"[ \t]*(\([A-Z][\w.'’-]*(?: [A-Z][\w.'’-]*){0,2}\)):?(?=[ \t]+\S)"
)
NAME = re.compile(r"[ \t]*[A-Z]\w+(?: (?:[A-Z]\w*\.?|\d+)){0,2}[ \t]*")
NAME_GOES_ON = re.compile(r"[ \t]*[a-z]")  # the second line of a sentence
ASS_STYLE = re.compile(r"\\(?:[biursc]\d?(?![a-z])|[1-4]?[ca]&|alpha|fs|fn|bord|shad)")


class Cue(NamedTuple):
    """A caption: what is shown from onset to offset (s)."""

    onset: float
    offset: float
    text: str  # blanks and ends of lines stand for marks that were left out
    stamps: list  # (character, s): times within the text
    highlights: list  # (first, end): characters that stand out
    continues: bool  # whether it goes on with the word before it


def read(path):
    """Words of captions, each with the time of its piece of the caption.

    Times are spread over the words of a caption, or of what lies between two times
    within it, in proportion to their letters. A piece that begins without a blank goes
    on with the word before it.

    Returns
    -------
    found : Found
        With the columns ``word``, ``onset``, ``offset``, ``timed``, ``blank``.
    """
    shown = _parse(decode(path), path)
    begins_blank = [bool(lines) and lines[0][0].isspace() for *_, lines in shown]
    # whisper.cpp writes a blank before every word, and none before the rest of one
    pieces = bool(shown) and begins_blank[0] and 3 * sum(begins_blank) >= len(shown)
    return _found(path, shown, [], [pieces and not blank for blank in begins_blank])


def read_ass(path):
    """Words of SubStation's captions, as from ``read``."""
    shown, notes = _parse_ass(decode(path), path)
    return _found(path, shown, notes, [False] * len(shown))


def _found(path, shown, notes, continues):
    """Words of (onset, offset, lines), and whether each goes on with the one before."""
    shown, left_out, more = _without_names(shown)
    notes += more
    cues = [
        _cue(onset, offset, "\n".join(lines), goes_on, left_out)
        for (onset, offset, lines), goes_on in zip(
            _unrolled(shown), continues, strict=True
        )
        if lines
    ]
    cues, n_clipped = _in_time(cues, path)
    cues = _grown(cues)
    rows, n_highlighted = [], 0
    for _, run in groupby(cues, key=lambda cue: " ".join(cue.text.split())):
        run = list(run)
        if len(run) > 1 and len({tuple(cue.highlights) for cue in run}) > 1:
            rows += _highlighted(run)
            n_highlighted += 1
        else:
            for cue in run:
                _add(rows, cue)
    columns = ["word", "onset", "offset", "timed", "blank"]
    if n_clipped:
        notes.append(f"captions that ended after the next began, clipped: {n_clipped}")
    if n_highlighted:
        notes.append(f"lines shown once for each word, read once: {n_highlighted}")
    rows = pd.DataFrame(rows, columns=columns)
    n_spread = int((~rows["timed"].astype(bool)).sum())
    if n_spread:
        notes.append(
            f"captions of several words: times are spread over them, and those of "
            f"{n_spread} words are not measured"
        )
    return Found(rows, notes, left_out, n_clipped, "s")


def _parse(text, path):
    text = PRINTED.sub(
        lambda m: f"{_clock(m['on'])} --> {_clock(m['off'])}\n{m['said'].strip()}\n",
        text,
    )
    vtt = text.lstrip().startswith("WEBVTT") or path.suffix.lower() == ".vtt"
    stamp, in_cue = re.compile(f"<{STAMP}>"), False
    for number, line in enumerate(text.split("\n"), 1):
        times = CUE.match(line)
        in_cue = bool(times) or (in_cue and line.strip() != "")
        wrong = "-->" in line and not times and not (in_cue and ARROW.match(line))
        if wrong or re.search(r"<\d+:", stamp.sub("", line)):
            raise StimulusError(
                f"{path}, line {number}: expected two times such as 00:00:01.000 --> "
                f"00:00:02.500, found {line.strip()!r:.100}"
            )
    parts, shown = CUE.split(text)[1:], []
    for i in range(0, len(parts), 9):
        *times, body = parts[i : i + 9]
        if vtt:  # comments and the name of the next cue may follow an empty line
            body = body.split("\n\n")[0]
        elif i + 9 < len(parts):  # the number of the next cue
            body = re.sub(r"\n\d+[ \t]*\n?\Z", "", body)
        lines = [line for line in body.split("\n") if line.strip()]
        shown.append((seconds(*times[:4]), seconds(*times[4:]), lines))
    return shown


def _without_names(shown):
    """Captions without names of speakers that stand apart from what is said.

    Such are ``(Anna)`` at the beginning of lines, where it recurs; and a line of its
    own, where every caption begins with one.
    """
    left_out, notes = Counter(), []
    lines = [line for *_, cue in shown for line in cue]
    names = Counter(match[1] for match in map(IN_ROUND.match, lines) if match)
    if names and max(names.values()) > 1:
        left_out += names
        shown = [
            (on, off, [IN_ROUND.sub("", line) for line in cue])
            for on, off, cue in shown
        ]
    elif names:
        notes.append(
            f"{', '.join(names)} begins a line, and may name who speaks: read as "
            "words. Take it out, or write it in capitals with a colon"
        )
    if len(shown) > 1 and all(
        len(cue) > 1 and NAME.fullmatch(cue[0]) and not NAME_GOES_ON.match(cue[1])
        for *_, cue in shown
    ):
        left_out += Counter(cue[0].strip() for *_, cue in shown)
        shown = [(on, off, cue[1:]) for on, off, cue in shown]
    return shown, left_out, notes


def _clock(time):
    """A time as it stands in captions: also one of so many seconds, 3.50s."""
    if not time.endswith("s"):
        return time
    minutes, seconds = divmod(float(time[:-1]), 60)
    return f"{minutes:.0f}:{seconds:06.3f}"


def _parse_ass(text, path):
    columns = "Layer Start End Style Name MarginL MarginR MarginV Effect Text".split()
    shown, layers, n_twice = [], {}, 0
    for number, line in enumerate(text.split("\n"), 1):
        kind, _, rest = line.partition(":")
        if kind == "Format" and "Text" in rest and "Start" in rest:
            columns = [name.strip() for name in rest.split(",")]
        if kind.strip() != "Dialogue":
            continue
        cells = dict(zip(columns, rest.split(",", len(columns) - 1), strict=False))
        times = [
            re.fullmatch(STAMP, cells.get(c, "").strip()) for c in ("Start", "End")
        ]
        if None in times:
            raise StimulusError(
                f"{path}, line {number}: expected a Dialogue with times such as "
                f"0:00:01.00, found {line!r:.100}"
            )
        body = re.sub(r"\\[Nn]", "\n", cells.get("Text", "")).replace(r"\h", " ")
        event = (*(seconds(*t.groups()) for t in times), body.split("\n"))
        if r"\p1" in body:  # a drawing
            continue
        said = (*event[:2], " ".join(MARKUP.sub("", body).split()))
        layer = cells.get("Layer", "").strip(), cells.get("Style", "").strip()
        if event in shown or layers.setdefault(said, layer) != layer:
            n_twice += 1
            continue
        shown.append(event)
    notes = [f"captions drawn in several layers, read once: {n_twice}"] * bool(n_twice)
    # the lines of such a file stand in any order
    return sorted(shown, key=lambda event: event[0]), notes


def seconds(hours, minutes, seconds, fraction):
    """A time of day as it stands in captions, in seconds."""
    return int(hours or 0) * 3600 + int(minutes) * 60 + float(f"{seconds}.{fraction}")


def _unrolled(shown):
    """Captions without the lines that the one before has shown already."""
    plain = [[MARKUP.sub("", line).strip() for line in lines] for *_, lines in shown]
    again = [0] * len(shown)
    for k, (before, now) in enumerate(pairwise(plain), 1):
        fit = range(min(len(before), len(now)), 0, -1)
        again[k] = next((n for n in fit if before[-n:] == now[:n]), 0)
    several = [k for k in range(len(shown)) if len(plain[k]) > 1]
    rolls = [k for k in several if 0 < again[k] < len(plain[k])]
    if 2 * len(rolls) <= len(several):
        return shown
    has_stamp = re.compile(f"<{STAMP}>").search
    return [
        (on, off, lines[n:] if not any(map(has_stamp, lines[:n])) else lines)
        for (on, off, lines), n in zip(shown, again, strict=True)
    ]


def _cue(onset, offset, body, continues, left_out):
    """A caption from its text: markup taken off, marks blanked, times noted."""
    plain, stamps, highlights, opened, elapsed = "", [], [], [], onset
    at = 0
    for match in [*MARKUP.finditer(body), None]:
        piece = html.unescape(body[at : match.start()] if match else body[at:])
        piece = re.sub(r"[^\S\n]+", " ", piece)
        plain += piece[1:] if plain[-1:].isspace() and piece[:1] == " " else piece
        if match is None:
            break
        at = match.end()
        *time, closing, tag, style = match.groups()
        if tag is None and style is None:
            stamps.append((len(plain), seconds(*time)))
        elif tag is not None and tag.lower() in HIGHLIGHTS:
            if not closing:
                opened.append(len(plain))
            elif opened:
                highlights.append((opened.pop(), len(plain)))
        elif style is not None:
            # karaoke: how long the next syllable is sung, in hundredths of a second
            sung = re.search(r"\\[kK][fo]?(\d+)", style)
            if sung:
                stamps.append((len(plain), elapsed))
                elapsed += int(sung[1]) / 100
            elif ASS_STYLE.search(style) and opened:
                highlights.append((opened.pop(), len(plain)))
            elif ASS_STYLE.search(style):
                opened.append(len(plain))
    highlights += [(first, len(plain)) for first in opened]
    plain, found = nonwords.blank_out(plain, captions=True)
    left_out += found
    highlights = [(a, b) for a, b in highlights if plain[a:b].strip()]
    return Cue(onset, offset, plain, stamps, highlights, continues)


def _in_time(cues, path):
    """Captions in order; who is shown together becomes one, ends are clipped."""
    kept, n_clipped = [], 0
    for cue in cues:
        if cue.offset < cue.onset:
            raise StimulusError(
                f"{path}: offset lies before the onset in the caption "
                f"{cue.text.strip()!r:.80} ({cue.onset:g} to {cue.offset:g} s)."
            )
        last = kept[-1] if kept else None
        if last and last.onset == cue.onset and not last.stamps and not cue.stamps:
            shift = len(last.text) + 1
            both = [(a + shift, b + shift) for a, b in cue.highlights]
            kept[-1] = last._replace(
                offset=max(last.offset, cue.offset),
                text=f"{last.text}\n{cue.text}",
                highlights=last.highlights + both,
            )
            continue
        if last and last.onset < cue.onset < last.offset:
            n_clipped += cue.onset < last.offset - 1e-3
            kept[-1] = last._replace(offset=cue.onset)
        kept.append(cue)
    return kept, n_clipped


def _grown(cues):
    """Lines that grow by a word at a time, as if each showed all and lit its own."""
    cues, first = list(cues), 0
    text = [" ".join(cue.text.split()) for cue in cues]
    for k in range(1, len(cues) + 1):
        if k < len(cues) and text[k - 1] and text[k].startswith(text[k - 1] + " "):
            continue
        if k - first > 2:
            for i in range(first, k):
                shown = len(text[i - 1]) if i > first else 0
                cues[i] = cues[i]._replace(
                    text=text[k - 1], highlights=[(shown, len(text[i]))]
                )
        first = k
    return cues


def _add(rows, cue):
    """Append a caption's words, with times spread over its letters."""
    letters = np.flatnonzero([not c.isspace() for c in cue.text])
    if not len(letters):
        return
    places = [0, *(place for place, _ in cue.stamps), len(cue.text)]
    edges = [cue.onset, *(time for _, time in cue.stamps)]
    edges += [max(cue.offset, edges[-1])]
    onset, offset = np.full((2, len(cue.text)), np.nan)
    begins = set()
    for (a, b), span in zip(pairwise(places), pairwise(edges), strict=True):
        inside = letters[(letters >= a) & (letters < b)]
        if len(inside):
            onset[inside], offset[inside] = spread(np.ones(len(inside)), *span)
            begins.add(int(inside[0]))
    last = rows[-1] if rows else None
    for a, b in orthography.split(cue.text):
        first = a == letters[0]
        blank = None if first else cue.text[a - 1].isspace()
        if first and cue.continues and last:
            last[0] += cue.text[a:b]
            last[2] = offset[b - 1]
            continue
        rows.append([cue.text[a:b], onset[a], offset[b - 1], a in begins, blank])


def _highlighted(run):
    """Words of a line that is shown once for each word, which stands out in it."""
    text = run[0].text
    places = orthography.split(text)
    rows, times, last = [], {}, -1
    for cue in [*run, None]:
        lit = [] if cue is None else cue.highlights
        found = [
            k
            for k, (a, b) in enumerate(places)
            if any(max(a, first) < min(b, end) for first, end in lit)
        ]
        if cue is None or (found and found[0] < last):  # the line is spoken again
            for k, (a, b) in enumerate(places):
                blank = text[a - 1].isspace() if k else None
                on, off, timed = times.get(k, (np.nan, np.nan, False))
                rows.append([text[a:b], on, off, timed, blank])
            times = {}
        if found:
            length = [places[k][1] - places[k][0] for k in found]
            for k, on, off in zip(found, *spread(length, *cue[:2]), strict=True):
                begun = times.get(k, (on, off, k == found[0]))
                times[k] = (begun[0], off, begun[2])
            last = found[-1]
    return rows


def spread(length, begin, end):
    """Onsets and offsets that share out a time in proportion to lengths."""
    edges = begin + (end - begin) * np.r_[0, np.cumsum(length)] / max(sum(length), 1)
    return edges[:-1], edges[1:]
