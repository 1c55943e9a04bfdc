"""What plain text may be that is neither prose nor read: named, so it can be refused.

Single times, verses and numbers are parts of prose: what counts is in how many lines
they stand, and where.
"""

import re
from itertools import pairwise

from anbn import word_tables

DECIMAL = r"\d+[.,]\d+"
TIMECODE = re.compile(r"\s*\[?\d{1,2}[:;]\d\d[:;]\d\d[:;]\d{2,3}\b")
MICRODVD = re.compile(r"\s*\{\d+\}\{\d+\}")
RANGE = rf"[\[(]?{DECIMAL}\s?s?\s*(?:-|–|->|-->|to)\s*{DECIMAL}\s?s?[\])]?"
RANGES = re.compile(rf"\s*{RANGE}(?:\W.*)?|.*\s{RANGE}\s*")
PAIR = re.compile(
    r"\s*(?:(-?\d+(?:[.,]\d+)?)[\s,;]+[^\s,;]+|[^\s,;]+[\s,;]+(-?\d+(?:[.,]\d+)?))\s*"
)
CLOCK = r"(\d{1,2}:)?(\d{1,3}):(\d\d)(?:[.,-]\d+)?"
VERSE = re.compile(r"\s*\d{1,3}:\d(?!\d)")  # 1:3 of a chapter is no time
BARE = re.compile(rf"(?<!\S){CLOCK}(?!\S)")
IN_BRACKETS = re.compile(rf"\[{CLOCK}\]|#{CLOCK}#|<{CLOCK}>|\({CLOCK}\)")
CHAT = re.compile(
    r"@(?:UTF8|Begin|End|Languages|Participants)\b|[*%][A-Za-z0-9]{2,7}:\t"
)
KEY = re.compile(r"\s*(?:- )?([A-Za-z]\w*):(?:\s|$)")
CONLL = re.compile(r"\d+(?:-\d+)?\t(?:[^\t]*\t){6,}[^\t]*")
LATEX = re.compile(r"\\(?:documentclass\b|begin\{document\})")
COMMAND = re.compile(r"\s*\\[a-z]+\*?[\[{]")  # of LaTeX, at the beginning of a line
TAGGED = re.compile(r"\S+[/_](?:[A-Z]{2,5}[$]?|[.,:;])")
ENCODED = re.compile(r"[A-Za-z0-9+/=_-]{90,}")
READABLE = "as captions (.srt, .vtt), .TextGrid, .json or a table of words"


def name(text, lines):
    """What a text is that is no prose and cannot be read, or "".

    Parameters
    ----------
    text : str
    lines : list of str
        Those that hold something.
    """
    checks = (_marked_up, _rows, _stamped)
    return next((found for check in checks if (found := check(text, lines))), "")


def _share(pattern, lines):
    return sum(bool(pattern.match(line)) for line in lines) / len(lines)


def _marked_up(text, lines):
    if _share(CHAT, lines) > 1 / 4:
        return f"CHAT ({lines[0]:.40}): convert it to .TextGrid (CLAN's chat2praat)"
    if LATEX.search(text) or _share(COMMAND, lines) > 1 / 4:
        return f"LaTeX ({lines[0].strip():.40}): save it as plain text"
    if ENCODED.search(text) and len(ENCODED.search(text)[0]) > len(text) / 2:
        return "encoded data"
    keys = [match[1].lower() for match in map(KEY.match, lines) if match]
    kinds = {word_tables.kind_of(key)[0] for key in keys}
    if len(keys) > 0.8 * len(lines) and {"word", "onset"} <= kinds:
        return f"YAML ({lines[0].strip():.40}): write its words to .json or .tsv"
    words = text.split()
    tagged = sum(bool(TAGGED.fullmatch(word)) for word in words)
    if tagged > 0.8 * len(words):
        return f"words with tags ({words[0]:.40}): take the tags off"
    return ""


def has_verses(lines):
    """Whether lines begin with chapter and verse, 1:9 and 1:10, and not with times."""
    if any(VERSE.match(line) for line in lines):
        return True
    found = [match for line in lines if (match := re.match(r"\s*(\d+):(\d+)\s", line))]
    verses = [int(match[2]) for match in found]
    steps = [b - a for a, b in pairwise(verses)]
    return len(steps) > 1 and 2 * steps.count(1) > len(steps)


def _rows(text, lines):
    if _share(CONLL, lines) > 0.8:
        return f"CoNLL ({lines[0]:.40}): save its text, or word, onset and offset"
    of_table = [line for line in lines if line.strip()[0] == line.strip()[-1] == "|"]
    if len(of_table) > max(2, 0.8 * len(lines)):
        return f"a Markdown table ({of_table[0].strip():.60}): save it as .tsv or .csv"
    if _share(MICRODVD, lines) > 1 / 2:
        return f"MicroDVD captions ({lines[0]:.40}): convert them to .srt or .vtt"
    if sum(bool(RANGES.fullmatch(line)) for line in lines) > len(lines) / 2:
        return f"words with their times ({lines[0]:.60}): save them {READABLE}"
    pairs = [PAIR.fullmatch(line) for line in lines]
    times = [(match[1] or match[2]).replace(",", ".") for match in pairs if match]
    rising = all(float(a) <= float(b) for a, b in pairwise(times))
    with_tabs = all("\t" in line for line in lines)
    with_points = rising and any("." in time for time in times)
    several = len(times) > max(1 if with_points else 2, 0.8 * len(lines))
    if several and (with_tabs or with_points):
        return (
            f"a table of two columns without names ({lines[0]:.60}): expected word, "
            "onset and offset"
        )
    return ""


def _stamped(text, lines):
    """Times of a transcript: they recur, rise, and stand where lines begin or end."""
    codes = [line for line in lines if TIMECODE.match(line)]
    if len(codes) > len(lines) / 6:
        return (
            f"a transcript with time codes that count frames ({codes[0]:.60}): export "
            "it with milliseconds"
        )
    marks = [match for line in lines for match in IN_BRACKETS.finditer(line)]
    with_marks = [line for line in lines if IN_BRACKETS.search(line)]
    round_ones = sum(match[0].startswith("(") for match in marks)
    many = len(with_marks) > len(lines) / 6 or 40 * len(marks) > len(text.split())
    if 2 * round_ones > len(marks):  # John (3:16)
        at_edges = [line for line in with_marks if _at_an_edge(line, IN_BRACKETS)]
        many = len(at_edges) > len(lines) / 3
    edges = [line for line in lines if _at_an_edge(line, BARE)]
    edges = [] if has_verses(lines) else edges
    short = [line for line in edges if len(line.split()) <= 5]
    for found, enough, pattern in (
        (with_marks, many and len(marks) > 1, IN_BRACKETS),
        (short, len(short) > max(1, len(lines) / 4), BARE),
    ):
        if enough and _rises(found, pattern):
            return (
                f"text with time stamps ({found[0].strip():.60}): export the "
                f"transcript {READABLE}; or, as prose, take the stamps out"
            )
    return ""


def _at_an_edge(line, pattern):
    """Whether a time begins or ends a line, or a colon follows: Ann (0:03): So."""
    line = line.strip()
    found = list(pattern.finditer(line))
    return bool(found) and (
        found[0].start() == 0
        or found[-1].end() == len(line)
        or line[found[0].end() :].startswith(":")
    )


def _rises(lines, pattern):
    """Whether the times of lines rise, nearly always."""
    times = []
    for match in (m for line in lines for m in pattern.finditer(line)):
        parts = re.findall(r"\d+", re.sub(r"[.,-]\d+", "", match[0]))
        times.append(sum(int(n) * 60**i for i, n in enumerate(reversed(parts))))
    falls = sum(b < a for a, b in pairwise(times))
    return len(times) > 1 and falls <= len(times) / 10
