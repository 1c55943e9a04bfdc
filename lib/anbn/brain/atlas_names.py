"""Names of regions and of templates, from the text file beside an image."""

import re
from pathlib import Path

from anbn.core.tables import read_named, read_text

ENDS = (".tsv", ".csv", ".txt")


def stem_of(path):
    """Name of an image without the end that tells its format."""
    return re.sub(r"\.nii(\.gz)?$", "", Path(path).name)


def file_beside(path):
    """The text file beside an image that holds names, or None.

    Beside ``Yeo_7_2mm.nii.gz`` that is ``Yeo_7_2mm.tsv`` (``.csv``, ``.txt``), or
    ``Yeo_7_2mm_regions.txt``, ``Yeo_7_regions.txt`` or one of ``_labels``.
    """
    stem = stem_of(path)
    short = re.sub(r"_[^_]*$", "", stem)
    stems = [stem, *(s + end for s in (stem, short) for end in ("_regions", "_labels"))]
    files = [Path(path).with_name(s + end) for s in stems for end in ENDS]
    return next((file for file in files if file.is_file()), None)


def read(file, error=ValueError):
    """Names in a text file.

    A table has the column ``name`` and, where their order is another, ``index``, as in
    BIDS. Else a line is a number and a name; a name and the numbers of the regions or
    volumes that make it up, counted from 1; or, in a ``.txt``, a name.

    Parameters
    ----------
    file : Path
    error : type
        What is raised.

    Returns
    -------
    names : list of str, or dict of int to str

    Raises
    ------
    error
        A table without names, or in which one is missing or an index is there twice.
    """
    try:
        lines = [line.strip() for line in read_text(file).splitlines()]
    except (OSError, ValueError) as problem:
        raise error(f"{file} cannot be read as names: {problem}") from problem
    lines = [line for line in lines if line]
    header = re.split(r"[\t,;]", lines[0].lower()) if lines else []
    if "name" in (cell.strip(' "') for cell in header):
        return _of_table(read_named(file, error), file, error)
    grouped = [re.fullmatch(r"(.*?)((?:\s*,\s*\d+)+)", line) for line in lines]
    if lines and all(grouped):
        pairs = [(m[1].strip(), re.findall(r"\d+", m[2])) for m in grouped]
        return {int(number): name for name, numbers in pairs for number in numbers}
    numbered = [re.fullmatch(r"(\d+)[\s,]+(\D.*)", line) for line in lines]
    if lines and all(numbered):
        return {int(m[1]): m[2].strip() for m in numbered}
    if file.suffix == ".txt":
        return lines
    raise error(
        f"{file}: expected a column name (and index), or a number and a name a line; "
        f"found columns {', '.join(header) or 'none'}"
    )


def _of_table(table, file, error):
    table = table.rename(columns=str.lower)
    columns = table.columns.tolist()
    if columns.count("name") != 1 or columns.count("index") > 1:
        raise error(
            f"{file}: expected one column name (and one index, or none), found columns "
            f"{', '.join(columns)}"
        )
    names = table["name"].tolist()
    if any(name in ("", "n/a") for name in names):
        raise error(f"{file} cannot be read as names: a name is missing")
    if "index" not in table:
        return names
    try:
        index = [int(float(cell)) for cell in table["index"]]
    except (ValueError, OverflowError) as problem:
        raise error(f"{file} cannot be read as names, its index: {problem}") from None
    if len(set(index)) < len(index):
        raise error(f"{file} cannot be read as names: an index is there twice")
    return dict(zip(index, names, strict=True))
