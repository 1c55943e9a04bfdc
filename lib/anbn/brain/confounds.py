"""Tables of confounds: of fMRIPrep, or motion as SPM, FSL and AFNI write it."""

from pathlib import Path

from anbn.brain.bids import BidsError
from anbn.core.tables import SHOWN, choose, numbers, read_cells

SPM = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]  # mm, rad
FSL = [*SPM[3:], *SPM[:3]]  # rad, mm
AFNI = ["roll", "pitch", "yaw", "dS", "dL", "dP"]  # degrees, mm


def confound_table(path):
    """Names and cells of a table of confounds.

    Parameters
    ----------
    path : path-like
        fMRIPrep's, or other text in columns. Without a line of names, the six of SPM's
        ``rp_*.txt`` are called trans_x to rot_z, those of FSL's ``.par`` rot_x to
        trans_z, of AFNI's ``.1D`` roll to dP; any other column_1, column_2, ...

    Returns
    -------
    cells : DataFrame of str of shape (n_rows, n_columns)

    Raises
    ------
    BidsError
        If it is no table, or a name stands for several columns.
    """
    path = Path(path)
    names, cells = read_cells(path, BidsError)
    if names is None:
        names = [f"column_{i + 1}" for i in range(cells.shape[1])]
        if len(names) == 6:
            name = path.name.lower()
            names = SPM if name.startswith("rp_") or "_rp_" in name else names
            names = FSL if name.endswith(".par") else names
            names = AFNI if name.endswith(".1d") else names
    if len(set(names)) < len(names):
        raise BidsError(
            f"{path}: expected a first line of names, each once, found "
            f"{', '.join(names[:SHOWN])}."
        )
    return cells.set_axis(names, axis=1)


def read_confounds(path, columns, *, n_volumes, optional=()):
    """Confounds of a run, from fMRIPrep's table or another one.

    Parameters
    ----------
    path : path-like
        See ``confound_table``.
    columns : sequence of str
        Names, or patterns such as ``trans_*``, ``rot_?``, ``a_comp_cor_0[0-5]``.
    n_volumes : int
        Of the run: the table must have as many rows.
    optional : sequence of str
        Patterns that may match nothing here.

    Returns
    -------
    confounds : array of shape (n_volumes, n_columns)
        In the order of ``columns``, then of the file; each column once. A value that is
        missing in the first row (of derivatives and displacements), or in the first two
        (of second derivatives), is 0.

    Raises
    ------
    BidsError
        If the table has another length or no names, a pattern matches no column, or a
        value is not a finite number.
    """
    path = Path(path)
    table = confound_table(path)
    if len(table) != n_volumes:
        if 0 <= table.shape[1] - n_volumes <= 1:  # a first column may hold names
            raise BidsError(
                f"{path} has {len(table)} rows and {table.shape[1]} columns, the run "
                f"has {n_volumes} volumes: it seems to be (confounds x volumes), "
                "expected a row a volume. Turn it."
            )
        raise BidsError(
            f"{path} has {len(table)} rows, the run has {n_volumes} volumes. Is it the "
            "table of this run? Cut volumes after confounds are removed, not before."
        )
    patterns = [columns] if isinstance(columns, str) else columns
    cells = choose(table, patterns, path, BidsError, optional)
    return numbers(cells, path, BidsError, n_missing=2)
