"""What kind of transcript or text a file is."""

import json
import re
from pathlib import Path

from anbn.text import elan, word_tables
from anbn.text.captions import CUE, PRINTED
from anbn.text.textfiles import READ, StimulusError, decode

NUMBER = r"-?\d+(?:[.,]\d+)?"
LABEL = re.compile(rf"[ \t]*{NUMBER}[ \t]+{NUMBER}(?:[ \t]+\S.*)?[ \t]*")
TIMES_AT_AN_EDGE = re.compile(
    rf"\s*{NUMBER}[\s,;]+{NUMBER}(?![^\s,;]).*|.*(?<![^\s,;]){NUMBER}[\s,;]+{NUMBER}\s*"
)
CLOCK = re.compile(r"\s*[\[(]?\d{1,3}:(?:\d{1,2}:)?\d{1,2}(?:[.,]\d+)?[\])]?(?!\w)")
TAG = re.compile(r"</?[A-Za-z][^<>]*>")
OF_A_CORPUS = re.compile(r"</?doc\b[^<>]*>|<\|endoftext\|>")  # parts of prose

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
# formats that are met and not read: name, and what to do
OTHERS = {
    ".docx": "a Word document: save it as plain text",
    ".doc": "a Word document: save it as plain text",
    ".odt": "an OpenDocument text: save it as plain text",
    ".rtf": "rich text: save it as plain text",
    ".pdf": "a PDF: save its text as .txt",
    ".epub": "an e-book: save its text as .txt",
    ".html": "HTML: save its text as .txt",
    ".htm": "HTML: save its text as .txt",
    ".xlsx": "an Excel table: save it as .csv",
    ".xls": "an Excel table: save it as .csv",
    ".ods": "an OpenDocument table: save it as .csv",
    ".parquet": "a parquet table: save it as .csv",
    ".xml": "XML: export it as .srt, .TextGrid or .tsv",
    ".ttml": "TTML captions: convert them to .srt or .vtt",
    ".dfxp": "TTML captions: convert them to .srt or .vtt",
    ".sbv": "YouTube's .sbv captions: convert them to .srt or .vtt",
    ".lrc": "lyrics with times: convert them to .srt or .vtt",
    ".sub": "MicroDVD captions: convert them to .srt or .vtt",
    ".smi": "SAMI captions: convert them to .srt or .vtt",
    ".trs": "Transcriber: export it as .TextGrid",
    ".cha": "CHAT: convert it to .TextGrid (CLAN's chat2praat)",
    ".exb": "EXMARaLDA: export it as .TextGrid or .eaf",
    ".mlf": "an HTK master label file: write a .lab a recording",
    ".stm": "NIST segments: write word, onset and offset to .tsv",
    ".rttm": "NIST speaker turns, which hold no words",
    ".jsonl": "JSON lines: write one .json, or word, onset and offset to .tsv",
    ".wav": "a sound, not its transcript",
    ".mp3": "a sound, not its transcript",
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
        what = OTHERS.get(suffix, f"of a kind that is not known ({suffix or 'no'!r})")
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
    if lines[0].startswith("WEBVTT") or any(CUE.match(line) for line in lines[:5]):
        return "captions", ""
    if any(PRINTED.match(line) for line in lines[:5]):
        return "captions", ""
    if "[Script Info]" in lines[0]:
        return "ass", ""
    if "ooTextFile" in lines[0] and any("TextGrid" in line for line in lines[:3]):
        return "textgrid", ""
    if "ooTextFile" in lines[0]:
        return "", f"a Praat object that is no TextGrid ({lines[1]:.60})"
    for check in (_as_json, _as_markup, _as_table, _as_unread, _as_times):
        found = check(text, lines)
        if found:
            return found
    return "prose", ""


def _as_json(text, lines):
    if text.lstrip()[0] not in "{[":
        return None
    try:
        json.loads(text)
        return "json", ""
    except ValueError:
        pass
    if all(re.match(r"\s*\{.*\}\s*$", line) for line in lines):
        return "", "JSON lines"
    if re.match(r'\s*[\[{]\s*(?:["{\[]|$)', text):
        return "", "JSON that is cut off or damaged"
    return None


def _as_markup(text, lines):
    bare = OF_A_CORPUS.sub("", text).strip()
    begins = re.match(r"<\?xml|<!doctype|<html", bare, re.IGNORECASE)
    if "<ANNOTATION_DOCUMENT" in bare[:1000]:
        return "eaf", ""
    tagged = sum(bool(TAG.search(OF_A_CORPUS.sub("", line))) for line in lines)
    if begins or (TAG.match(bare) and bare.endswith(">")) or 2 * tagged > len(lines):
        return "", "markup (XML or HTML)"
    return None


def _as_table(text, lines):
    if elan.is_export(text):
        return "elan", ""
    if word_tables.has_header(lines[0]):
        return "table", ""
    return None


def _as_unread(text, lines):
    found = word_tables.name(text, lines)
    return ("", found) if found else None


def _as_times(text, lines):
    lines = [line for line in lines if line[0] != "\\"] or lines  # of Audacity
    if sum(bool(LABEL.fullmatch(line)) for line in lines) > len(lines) / 2:
        return "labels", ""
    edges = [line for line in lines if TIMES_AT_AN_EDGE.fullmatch(line)]
    if len(edges) > len(lines) / 2 and any(len(line.split()) < 9 for line in edges):
        return "", f"a table of times without names of columns ({edges[0]:.60})"
    if sum("-->" in line and "<!--" not in line for line in lines) > len(lines) / 6:
        return "", "captions with damaged times"
    clocks = [line for line in lines if CLOCK.match(line)]
    if len(clocks) > max(1, len(lines) / 3) and not word_tables.has_verses(lines):
        return "", f"a transcript with times ({clocks[0]:.60})"
    return None
