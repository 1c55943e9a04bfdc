"""Columns of a table by name or pattern, and what an error says of them."""

import difflib
import fnmatch

MISSING = {"n/a", "", "nan", "na"}
SHOWN = 20  # names that an error lists


def choose(frame, columns, source, error=ValueError):
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
        if not hits:
            raise error(
                f"{source}: no column matches {pattern!r}. "
                f"{did_you_mean(pattern.strip('*?'), there)}There are {some(there)}."
            )
        names += [name for name in hits if name not in names]
    return frame.set_axis(there, axis=1)[names]


def did_you_mean(name, known):
    """A hint at the known name that is most alike, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}? " if close else ""


def some(names):
    """The first names of many, for an error."""
    names = [str(name) for name in names]
    more = f" and {len(names) - SHOWN} more" * (len(names) > SHOWN)
    return (", ".join(names[:SHOWN]) or "nothing") + more
