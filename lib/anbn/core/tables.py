"""Tables of text: cells, columns by name or pattern, and what an error says of them."""

import codecs
import fnmatch
import gzip
import io
import re

import numpy as np
import pandas as pd

from anbn.core.params import did_you_mean

MISSING = {"n/a", "", "nan", "na"}
SHOWN = 20  # names that an error lists


def encoding_of(content):
    """Encoding of the bytes of a text: UTF-16 has a byte order mark, or it is UTF-8."""
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return "utf-16" if wide else "utf-8-sig"


def read_text(path):
    """Text of a file in UTF-8 or UTF-16, also gzipped."""
    content = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        content = gzip.decompress(content)
    return content.decode(encoding_of(content))


def read_cells(path, error=ValueError):
    """Cells and names of a table, whatever its columns are parted by.

    Tabs, semicolons, commas or blanks; a decimal comma is read as a point. Lines that
    begin with ``#`` are passed over, but for names that numpy writes so.

    Parameters
    ----------
    path : Path
        Text in UTF-8 or UTF-16, also gzipped.
    error : type
        What is raised.

    Returns
    -------
    names : list of str or None
        None if the first line holds numbers already.
    cells : DataFrame of str of shape (n_rows, n_columns)
        Stripped; columns are counted from 0.

    Raises
    ------
    error
        No such file, no text, no rows, or rows of more cells than the first.
    """
    try:
        lines = [line.rstrip("\r") for line in read_text(path).rstrip().split("\n")]
        notes = [line.lstrip("# ") for line in lines if line.startswith("#")]
        lines = [line for line in lines if not line.startswith("#")]
        separator = _separator(lines, path)
        options = {"sep": separator, "header": None, "dtype": str}
        options |= {"keep_default_na": False, "skip_blank_lines": False}
        # an empty line is a row that is missing, not one to skip
        cells = pd.read_csv(io.StringIO("\n".join(lines) + "\n"), **options)
        cells = cells.fillna("").apply(lambda column: column.str.strip())
        if separator != ",":
            cells = cells.apply(_points)
    except FileNotFoundError as problem:
        raise error(f"{path}: no such table") from problem
    except pd.errors.ParserError as problem:
        raise error(
            f"{path} cannot be read as a table, rows have more cells than the first "
            f"line: {problem}"
        ) from problem
    except Exception as problem:  # of damage gzip and pandas raise all there is
        raise error(f"{path} cannot be read as a table: {problem}") from problem
    first = cells.iloc[0]
    if not (_are_numbers(first) | first.str.lower().isin(MISSING)).all():
        return first.tolist(), cells.iloc[1:].reset_index(drop=True)
    names = re.split(separator, notes[-1].strip()) if notes else []
    return (names if len(names) == len(first) else None), cells


def read_named(path, error=ValueError):
    """Cells of a table whose first line names the columns, see ``read_cells``.

    Returns
    -------
    cells : DataFrame of str
        Without empty rows; the others keep their number, counted from 0 after the
        names.

    Raises
    ------
    error
        As by ``read_cells``, or a first line of numbers.
    """
    names, cells = read_cells(path, error)
    if names is None:
        raise error(f"{path}: expected a first line of names, found numbers")
    cells = cells.set_axis(names, axis=1)
    return cells[(cells != "").any(axis=1)]


def numbers(cells, source, error=ValueError, *, n_missing=1):
    """Cells as numbers; a value that is missing in the first rows is 0.

    Derivatives and displacements have none there.

    Parameters
    ----------
    cells : DataFrame of str of shape (n_rows, n_columns)
    source : path-like
        Of the table, for errors.
    error : type
        What is raised.
    n_missing : int
        In so many rows a column may have no value, from the first one on.

    Returns
    -------
    values : array of shape (n_rows, n_columns)

    Raises
    ------
    error
        A value that is not a finite number.
    """
    values = cells.apply(pd.to_numeric, errors="coerce").to_numpy(float)
    values = values.reshape(cells.shape).copy()
    missing = cells.iloc[:n_missing].apply(lambda column: column.str.lower())
    missing = np.logical_and.accumulate(missing.isin(MISSING).to_numpy(bool), axis=0)
    values[:n_missing][missing] = 0.0
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        first = "row" if n_missing == 1 else f"{n_missing} rows"
        raise error(
            f"{source}: expected a number in column {cells.columns[column]!r}, row "
            f"{row + 1} of {len(cells)}, found {cells.iloc[row, column]!r:.60}; "
            f"{len(bad)} such cells. Only the first {first} may be missing: leave the "
            "column out or repair it."
        )
    return values


def _separator(lines, path):
    """What parts columns: as the first line says, or the file's name if unclear."""
    head = lines[0] if lines else ""
    for mark in ("\t", ";"):
        if mark in head:
            return mark
    if len(lines) > 1 and all(re.fullmatch(r"\s*-?\d+,\d+\s*", n) for n in lines):
        # one column of decimal commas: no whole number is written as 0831
        if any(re.search(r",0\d", line) for line in lines):
            return r"\s+"
    widths = {len(line.split()) for line in lines[:50]}
    blanks = len(widths) == 1 and widths != {1}
    if "," in head and not (blanks and not path.name.lower().endswith(".csv")):
        return ","
    ends = (".tsv", ".csv", ".tsv.gz", ".csv.gz")
    return "\t" if path.name.lower().endswith(ends) and not blanks else r"\s+"


def _points(column):
    """Decimal commas as points."""
    commas = column.str.fullmatch(r"[-+]?\d*,\d+([eE][-+]?\d+)?")
    return column.mask(commas, column.str.replace(",", "."))


def _are_numbers(cells):
    return pd.to_numeric(cells, errors="coerce").notna()


def is_pattern(name):
    """Whether it stands for several names."""
    return any(mark in name for mark in "*?[")


def counts(values):
    """Whether a column counts rows or time: steps of one size but for a few.

    No BOLD does; an index or the seconds of a table do, also if they begin anew with
    every run or were rounded: then steps have two sizes, and no value is far from the
    line through all of its run.
    """
    values = np.asarray(values, float)
    steps = np.diff(values)
    if len(steps) < 4 or not np.isfinite(steps).all() or not steps.any():
        return False
    way = np.sign(np.median(steps[steps != 0]))
    on = steps * way >= 0  # the others begin anew
    if on.mean() < 0.8:
        return False
    middle = np.median(steps[on])
    alike = np.abs(steps[on] - middle) <= 0.1 * np.abs(middle)
    if middle != 0 and alike.mean() >= 0.95:
        return True
    sizes = np.unique(np.round(steps[on], 6))
    if len(sizes) != 2:
        return False
    off = values - steps[on].mean() * np.arange(len(values))
    run = np.r_[0, np.cumsum(~on)]
    widest = max(np.ptp(off[run == k]) for k in range(run[-1] + 1))
    return bool(widest <= 2 * (sizes[1] - sizes[0]))


def choose(frame, columns, source, error=ValueError, optional=()):
    """Columns of a table by name or pattern, in the order asked for, each once.

    Parameters
    ----------
    frame : DataFrame
    columns : sequence of str
        Names, or patterns such as ``rot_?``.
    source : path-like
        Of the table, for errors.
    error : type
        What is raised.
    optional : sequence of str
        Those that may match nothing.

    Raises
    ------
    error
        A pattern that matches nothing, or a name that is there twice.
    """
    there, names = [str(name) for name in frame.columns], []
    if len(set(there)) < len(there):
        twice = next(name for name in there if there.count(name) > 1)
        raise error(f"{source}: {twice!r} names several columns")
    for pattern in [columns] if isinstance(columns, str) else columns:
        hits = [name for name in there if fnmatch.fnmatchcase(name, pattern)]
        if not hits and pattern not in optional:
            raise error(
                f"{source}: no column matches {pattern!r}"
                f"{did_you_mean(pattern.strip('*?'), there)}. There are {some(there)}."
            )
        names += [name for name in hits if name not in names]
    return frame.set_axis(there, axis=1)[names]


def some(names):
    """The first names of many, for an error."""
    names = [str(name) for name in names]
    more = f" and {len(names) - SHOWN} more" * (len(names) > SHOWN)
    return (", ".join(names[:SHOWN]) or "nothing") + more
