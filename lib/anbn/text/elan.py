"""Tables that ELAN exports as tab-delimited text, with and without names of columns.

Each time may stand there in several forms: ``00:00:01.500``, ``1.5`` and ``1500``.
"""

import re

import numpy as np
import pandas as pd

from anbn.text import tiers, word_tables
from anbn.text.textfiles import StimulusError, decode

TIMES = ("begin time", "end time", "duration")
# forms of times, as the names of columns end, the finest first: their unit in seconds
FORMS = {" - msec": 1e-3, " - ss.msec": 1.0, " - hh:mm:ss.ms": 1.0, "": 1.0}
OF_A_ROW = ("tier", "participant", "annotator", "file", "file path", "file name")
TIME = re.compile(r"\d+(?:[.,]\d+)?|\d+:\d\d:\d\d[.,]\d+")


def is_export(text):
    """Whether a text is such a table."""
    lines = [line for line in text.split("\n") if line.strip()]
    cells = re.split("[\t,;]", lines[0].lower())
    if any(re.match(r"begin time - \S", cell.strip(' "')) for cell in cells):
        return True
    return all(_is_row(line.split("\t")) for line in lines)


def _is_row(cells):
    """Whether cells are tier, participant, times and annotation."""
    times = [cell.strip() for cell in cells[2:-1]]
    return (
        len(times) >= 2
        and not TIME.fullmatch(cells[0].strip())
        and all(TIME.fullmatch(time) for time in times)
    )


def read(path):
    """Tiers of such a table.

    Returns
    -------
    tiers : list of Tier
    notes : list of str

    Raises
    ------
    StimulusError
        If the times cannot be read.
    """
    lines = [line for line in decode(path).split("\n") if line.strip()]
    if all(_is_row(line.split("\t")) for line in lines):
        return _without_names([line.split("\t") for line in lines], path), []
    table = word_tables.read_table(path)
    times = {}
    for kind in TIMES:
        found = [form for form in FORMS if kind + form in table]
        if found:
            cells = table[kind + found[0]].map(word_tables.time_of)
            times[kind] = pd.to_numeric(cells, errors="coerce") * FORMS[found[0]]
    if {"begin time", "duration"} <= set(times):
        times.setdefault("end time", times["begin time"] + times["duration"])
    if not {"begin time", "end time"} <= set(times):
        raise StimulusError(
            f"{path}: expected a table exported by ELAN with the columns Begin Time "
            "and End Time or Duration, as ss.msec, msec or hh:mm:ss.ms; found "
            f"{list(table)}. Export it again with these."
        )
    others = [c for c in table if not c.startswith(TIMES) and c not in OF_A_ROW]
    if "annotation" in others and "tier" in table:
        return _tiers(table["tier"], table["annotation"], times), []
    return [  # each tier is a column
        tier
        for column in others
        for tier in _tiers(np.full(len(table), column), table[column], times)
    ], []


def _without_names(rows, path):
    """Tiers of rows of tier, participant, times in one form or several, annotation."""
    size = max(map(len, rows))
    if min(map(len, rows)) < size:
        raise StimulusError(
            f"{path}: expected {size} cells a line, as ELAN exports them (tier, "
            f"participant, times, annotation), found {min(map(len, rows))} in some. "
            "Export it again, with names of columns."
        )
    cells = np.array(rows, dtype=object)
    times = np.column_stack([_seconds(column) for column in cells[:, 2:-1].T])
    # the forms of a time stand side by side
    repeats = np.isclose(times[:, 1:], times[:, :-1], atol=1.5e-3).all(axis=0)
    times = times[:, np.r_[True, ~repeats]]
    begin, end = times[:, 0], times[:, 1]
    lasts = np.allclose(times[:, 2:], (end - begin)[:, None], atol=1.5e-3)
    if times.shape[1] > 3 or not lasts or (end < begin).any():
        raise StimulusError(
            f"{path}: expected tier, participant, begin, end, duration and annotation, "
            f"as ELAN exports them; found the times {cells[0, 2:-1].tolist()} in line "
            "1. Export it again, with names of columns."
        )
    times = {"begin time": begin, "end time": end}
    return _tiers(cells[:, 0], cells[:, -1], times)


def _seconds(column):
    """Times of a column: whole numbers alone are milliseconds."""
    column = [cell.strip() for cell in column]
    scale = 1e-3 if all(cell.isdigit() for cell in column) else 1.0
    return [float(word_tables.time_of(cell)) * scale for cell in column]


def _tiers(names, words, times):
    """Tiers of rows with the tier's name, each in order of time."""
    rows = {"word": words, "onset": times["begin time"], "offset": times["end time"]}
    return [
        tiers.make(name, of_one.sort_values("onset", kind="stable"))
        for name, of_one in pd.DataFrame(rows).groupby(np.asarray(names), sort=False)
    ]
