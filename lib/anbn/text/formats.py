"""What kind of transcript or text a file is.

What plain text may be that is neither prose nor a transcript is named, so that it can
be refused. Single times, verses and numbers are parts of prose: what counts is in how
many lines they stand, and where.
"""

import json
import re
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from anbn.text import elan, word_tables
from anbn.text.captions import CUE, PRINTED
from anbn.text.textfiles import READ, StimulusError, decode

NUMBER = r"-?\d+(?:[.,]\d+)?"
DECIMAL = r"-?\d+[.,]\d+"
LABEL = re.compile(rf"[ \t]*{NUMBER}[ \t]+{NUMBER}(?:[ \t]+\S.*)?[ \t]*")
TIMES_AT_AN_EDGE = re.compile(
    rf"\s*{NUMBER}[\s,;]+{NUMBER}(?![^\s,;]).*|.*(?<![^\s,;]){NUMBER}[\s,;]+{NUMBER}\s*"
)
TAG = re.compile(r"</?[A-Za-z][^<>]*>")
OF_A_CORPUS = re.compile(r"</?doc\b[^<>]*>|<\|endoftext\|>")  # parts of prose
OBJECT = re.compile(r"\s*\{.*\}\s*$")
ENCODED = re.compile(r"[A-Za-z0-9+/=_-]{90,}")
RANGE = rf"[\[(]?{DECIMAL}\s?s?\s*(?:-|–|->|-->|to)\s*{DECIMAL}\s?s?[\])]?"
TAGGED = r"\S+[/_](?:[A-Z]{2,5}[$]?|[.,:;])"
# what lines are that are no prose, in what part of all lines, and how they begin
NO_PROSE = (
    (
        "CHAT ({}): convert it to .TextGrid (CLAN's chat2praat)",
        1 / 4,
        r"@(?:UTF8|Begin|End|Languages|Participants)\b|[*%][A-Za-z0-9]{2,7}:\t",
    ),
    (
        "LaTeX ({}): save it as plain text",
        0,
        r".*\\(?:documentclass\b|begin\{document\})",
    ),
    ("LaTeX ({}): save it as plain text", 1 / 4, r"\s*\\[a-z]+\*?[\[{]"),
    (
        "YAML ({}): write its words to .json or .tsv",
        1 / 2,
        r"\s*(?:- )?(?:word|text|onset|start|begin|offset|end|duration)\w*:(?:\s|$)",
    ),
    (
        "words with tags ({}): take the tags off",
        1 / 2,
        rf"\s*(?:{TAGGED}\s+)*{TAGGED}\s*$",
    ),
    (
        "CoNLL ({}): save its text, or word, onset and offset",
        0.8,
        r"\d+(?:-\d+)?\t(?:[^\t]*\t){6,}",
    ),
    ("a Markdown table ({}): save it as .tsv or .csv", 0.8, r"\s*\|.*\|\s*$"),
    (
        "MicroDVD captions ({}): convert them to .srt or .vtt",
        1 / 2,
        r"\s*\{\d+\}\{\d+\}",
    ),
    (
        "words with their times ({}): save them as a table of words",
        1 / 2,
        rf"\s*{RANGE}(?:\W.*)?$|.*\s{RANGE}\s*$",
    ),
    (
        "a table of two columns without names ({}): expected word, onset and offset",
        1 / 2,
        rf"\s*(?:{DECIMAL}[\s,;]+[^\s,;]+|[^\s,;]+[\s,;]+{DECIMAL}|{NUMBER}\t\S+|"
        rf"\S+\t{NUMBER})\s*$",
    ),
    (
        "a transcript with time codes that count frames ({}): export it in ms",
        1 / 6,
        r"\s*\[?\d{1,2}[:;]\d\d[:;]\d\d[:;]\d{2,3}\b",
    ),
)
CLOCK = r"(?:\d{1,2}:)?\d{1,3}:\d\d"
ENDS = r"(?:[.,-]\d+)?"  # of a second
MARK = re.compile(rf"\[{CLOCK}{ENDS}\]|#{CLOCK}{ENDS}#|<{CLOCK}{ENDS}>")
ROUND_AT_AN_EDGE = re.compile(rf"\s*\({CLOCK}{ENDS}\)|.*\({CLOCK}{ENDS}\)(?:\s*$|:)")
AT_AN_EDGE = re.compile(rf"\s*{CLOCK}{ENDS}(?!\S)|.*(?<!\S){CLOCK}{ENDS}\s*$")
BEGINS = re.compile(r"\s*[\[(]?\d{1,3}:(?:\d{1,2}:)?\d{1,2}(?:[.,]\d+)?[\])]?(?!\w)")
VERSE = re.compile(r"\s*\d{1,3}:\d(?!\d)")  # 1:3 of a chapter is no time

FORMATS = {
    ".textgrid": "textgrid",
    ".eaf": "eaf",
    ".tsv": "table",
    ".csv": "table",
    ".srt": "captions",
    ".vtt": "captions",
    ".ass": "ass",
    ".ssa": "ass",
    ".json": "json",
    ".lab": "labels",
    ".ctm": "ctm",
    ".txt": "prose",
    ".md": "prose",
    ".utf8": "prose",
}
# formats that are met and not read: what to do, and how their names end
OTHERS = {
    "a Word, OpenDocument or rich text file: save it as plain text": (
        ".docx .doc .odt .rtf"
    ),
    "an Excel, OpenDocument or parquet table: save it as .csv": (
        ".xlsx .xls .ods .parquet"
    ),
    "a PDF, e-book or HTML: save its text as .txt": ".pdf .epub .html .htm",
    "XML: export it as .srt, .TextGrid or .tsv": ".xml",
    "captions of a kind that is not read: convert them to .srt or .vtt": (
        ".ttml .dfxp .sbv .lrc .sub .smi"
    ),
    "of Transcriber or EXMARaLDA: export it as .TextGrid": ".trs .exb",
    "CHAT: convert it to .TextGrid (CLAN's chat2praat)": ".cha",
    "labels of HTK or NIST for many recordings: write a .lab or .ctm a recording": (
        ".mlf .stm"
    ),
    "NIST speaker turns, which hold no words": ".rttm",
    "JSON lines: write one .json, or word, onset and offset to .tsv": ".jsonl",
    "a sound, not its transcript": ".wav .mp3",
}


def format_of(path):
    """What a file is: by its name, and of plain text by what it holds.

    Returns
    -------
    kind : str
        One of the values of ``FORMATS``, or "elan": a table that ELAN exports.

    Raises
    ------
    StimulusError
        If it cannot be read, or is named as plain text and is none.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        unknown = f"of a kind that is not known ({suffix or 'no'!r})"
        named = (what for what, ends in OTHERS.items() if suffix in ends.split())
        what = next(named, unknown)
        raise StimulusError(f"{path} is {what}. {READ}.")
    kind = FORMATS[suffix]
    if kind == "table" and elan.is_export(decode(path)):
        return "elan"
    if kind != "prose":
        return kind
    kind, problem = _look(decode(path))
    if problem:
        raise StimulusError(f"{path} looks like {problem}, not like prose. {READ}.")
    return kind


def _look(text):
    """What plain text is when looked at, and why it cannot be read, or ""."""
    lines = [line for line in text.split("\n") if line.strip()]
    if lines[0].startswith("WEBVTT") or any(
        CUE.match(line) or PRINTED.match(line) for line in lines[:5]
    ):
        return "captions", ""
    if "[Script Info]" in lines[0]:
        return "ass", ""
    if "ooTextFile" in lines[0]:
        if any("TextGrid" in line for line in lines[:3]):
            return "textgrid", ""
        return "", f"a Praat object that is no TextGrid ({lines[1]:.60})"
    if text.lstrip()[0] in "{[":
        with suppress(ValueError):
            json.loads(text)
            return "json", ""
        if all(map(OBJECT.match, lines)):
            return "", "JSON lines"
        if re.match(r'\s*[\[{]\s*(?:["{\[]|$)', text):
            return "", "JSON that is cut off or damaged"
    bare = OF_A_CORPUS.sub("", text).strip()
    if "<ANNOTATION_DOCUMENT" in bare[:1000]:
        return "eaf", ""
    tagged = sum(bool(TAG.search(OF_A_CORPUS.sub("", line))) for line in lines)
    begins = re.match(r"<\?xml|<!doctype|<html", bare, re.IGNORECASE)
    if begins or (TAG.match(bare) and bare.endswith(">")) or 2 * tagged > len(lines):
        return "", "markup (XML or HTML)"
    if elan.is_export(text):
        return "elan", ""
    if word_tables.has_header(lines[0]):
        return "table", ""
    encoded = ENCODED.search(text)
    if encoded and len(encoded[0]) > len(text) / 2:
        return "", "encoded data"
    for what, part, pattern in NO_PROSE:
        found = [line for line in lines if re.match(pattern, line)]
        if len(found) > part * len(lines):
            return "", what.format(found[0].strip()[:60])
    stamped = _stamped(text, lines)
    if stamped:
        return "", (
            f"text with time stamps ({stamped[0].strip():.60}): export the transcript "
            "as captions (.srt, .vtt), .TextGrid, .json or a table of words; or, as "
            "prose, take the stamps out"
        )
    lines = [line for line in lines if line[0] != "\\"] or lines  # of Audacity
    if sum(bool(LABEL.fullmatch(line)) for line in lines) > len(lines) / 2:
        return "labels", ""
    edges = [line for line in lines if TIMES_AT_AN_EDGE.fullmatch(line)]
    if len(edges) > len(lines) / 2 and any(len(line.split()) < 9 for line in edges):
        return "", f"a table of times without names of columns ({edges[0]:.60})"
    if sum("-->" in line and "<!--" not in line for line in lines) > len(lines) / 6:
        return "", "captions with damaged times"
    clocks = [line for line in lines if BEGINS.match(line)]
    if len(clocks) > max(1, len(lines) / 3) and not _has_verses(lines):
        return "", f"a transcript with times ({clocks[0]:.60})"
    return "prose", ""


def _stamped(text, lines):
    """Lines with a transcript's times, which rise: in brackets, or where lines end."""
    marked = [line for line in lines if MARK.search(line)]
    n_marks = len(MARK.findall(text))
    many = len(marked) > len(lines) / 6 or 40 * n_marks > len(text.split())
    rounded = [line for line in lines if ROUND_AT_AN_EDGE.match(line)]  # John (3:16)
    short = [line for line in lines if AT_AN_EDGE.match(line) and len(line.split()) < 6]
    for found, enough in (
        (marked, many),
        (rounded, len(rounded) > len(lines) / 3),
        (short, len(short) > max(1, len(lines) / 4) and not _has_verses(lines)),
    ):
        clocks = [clock for line in found for clock in re.findall(CLOCK, line)]
        times = [word_tables.time_of(clock) for clock in clocks]
        falls = sum(b < a for a, b in pairwise(times))
        if enough and len(times) > 1 and falls <= len(times) / 10:
            return found
    return []


def _has_verses(lines):
    """Whether lines begin with chapter and verse, 1:9 and 1:10, and not with times."""
    if any(VERSE.match(line) for line in lines):
        return True
    found = [match for line in lines if (match := re.match(r"\s*(\d+):(\d+)\s", line))]
    steps = [int(b[2]) - int(a[2]) for a, b in pairwise(found)]
    return len(steps) > 1 and 2 * steps.count(1) > len(steps)
