"""Transcripts as files of several formats hold them."""

import csv
import io
import re


def table(rows, names="word onset offset", separator="\t"):
    """A table; with names in one string, or without any."""
    file = io.StringIO()
    rows = [names.split(), *rows] if names else rows
    csv.writer(file, delimiter=separator, lineterminator="\n").writerows(rows)
    return file.getvalue()


def timed(words):
    """Rows of words that last half a second and begin every second."""
    return [(word, i, i + 0.5) for i, word in enumerate(words)]


def captions(cues, point=","):
    """Captions of (text, onset, offset): SubRip, or WebVTT where ``point`` is "."."""
    text = "WEBVTT\n\n" * (point == ".")
    for i, (said, *times) in enumerate(cues, 1):
        number = f"{i}\n" * (point == ",")
        on, off = (_clock(time, point) for time in times)
        text += f"{number}{on} --> {off}\n{said}\n\n"
    return text


def _clock(seconds, point):
    ms = round(seconds * 1000)
    h, m, s = ms // 3600000, ms // 60000 % 60, ms // 1000 % 60
    return f"{h:02d}:{m:02d}:{s:02d}{point}{ms % 1000:03d}"


def textgrid(tiers, *, sizes=None, n_tiers=None, short=False):
    """A TextGrid of (name, [(word, onset, offset)]), with a tier of points before."""
    n_tiers = n_tiers or len(tiers) + 1
    text = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
    text += f"xmin = 0 \nxmax = 3605 \ntiers? <exists> \nsize = {n_tiers} \nitem []: \n"
    text += '    item [1]:\n        class = "TextTier" \n        name = "clicks" \n'
    text += "        xmin = 0 \n        xmax = 3605 \n        points: size = 1 \n"
    text += '        points [1]:\n        number = 1e-1 \n        mark = "item [1]" \n'
    for i, (name, rows) in enumerate(tiers, 2):
        size = (sizes or {}).get(name, len(rows))
        text += f'    item [{i}]:\n        class = "IntervalTier" \n'
        text += f'        name = "{name}" \n        xmin = 0 \n        xmax = 3605 \n'
        text += f"        intervals: size = {size} \n"
        for k, (word, on, off) in enumerate(rows, 1):
            word = word.replace('"', '""')
            text += f"        intervals [{k}]:\n            xmin = {on} \n"
            text += f'            xmax = {off} \n            text = "{word}" \n'
    if not short:
        return text
    lines = [
        line.strip() for line in text.split("\n") if not line.endswith(("]:", "]: "))
    ]
    bare = [re.sub(r"^[\w: ]+ = |^tiers\? ", "", line) for line in lines[3:]]
    return "\n".join([*lines[:3], *filter(None, bare)])  # no newline at the end
