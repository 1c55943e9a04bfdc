"""Cleaning of one run: volumes kept, values checked, drift and confounds removed."""

import fnmatch

import numpy as np

from anbn.brain.images import BoldError
from anbn.core.tables import is_pattern, some
from anbn.stats import timeseries

MIN_COVERAGE = 0.8  # of a mask's voxels must vary in every run
MIN_VOLUMES = 10
LARGEST = 1e15  # beyond it float32 has no room for squares
COLUMNS = 8192  # voxels cleaned at once
CORNER = 1000  # rows and columns that are enough to tell which are the volumes
TURNED = 0.3  # columns more alike than rows by this correlation are the volumes
STANDARDISE = ("zscore", "psc", "none")


def rows_kept(n_volumes, source, n_times, cut):
    """Volumes kept of a run."""
    begin, end = cut
    if begin < 0 or end < 0:
        raise BoldError(f"cut: expected numbers of volumes, found {tuple(cut)}")
    found = n_volumes - begin - end
    if found < MIN_VOLUMES:
        raise BoldError(
            f"{source}: {n_volumes} volumes, {max(found, 0)} after the cut of {begin} "
            f"at the beginning and {end} at the end, expected at least {MIN_VOLUMES}. "
            "Is it a whole run? Else lower cut_start or cut_end."
        )
    if found < (n_times or 0):
        raise BoldError(
            f"{source} has {found} volumes, the story needs {n_times}. Shorten the "
            "story (n_words or n_volumes of stage 01) or check tr and first_volume. If "
            "it was heard in several files, name the volumes of each in run_lengths of "
            "stage 01."
        )
    return slice(begin, begin + (n_times or found))


def check_there(run, columns):
    """Refuse a run without a table of confounds."""
    if run.confounds is None:
        raise BoldError(
            f"{run.bold} has no table of confounds to take {', '.join(columns)} from. "
            "Name one in confound_files, or leave confounds empty."
        )


def optional_patterns(names, patterns):
    """Patterns that match nothing in some runs, and something in others.

    Those of outliers (``motion_outlier*``) may match nothing in all.

    Parameters
    ----------
    names : dict of str to sequence of str
        Columns of every run's confounds.
    patterns : sequence of str
        A plain name is none: it must be there in every run.

    Returns
    -------
    optional : list of str
        Said of each: in which runs it matches nothing.
    """
    optional = []
    for pattern in patterns:
        without = [
            run
            for run, columns in names.items()
            if not any(fnmatch.fnmatchcase(column, pattern) for column in columns)
        ]
        # fMRIPrep writes these columns only where there is an outlier
        may_lack = len(without) < len(names) or "outlier" in pattern
        if without and may_lack and is_pattern(pattern):
            print(
                f"confounds: {pattern} matches nothing in {len(without)} of "
                f"{len(names)} runs: {some(without)}"
            )
            optional.append(pattern)
    return optional


def check_orientation(data, source, n_times, cut):
    """Refuse a table of (regions x volumes): its rows are not the volumes.

    Raises
    ------
    BoldError
        As many columns as the story needs volumes, and not as many rows; where both
        would do, time runs along the axis on which neighbours are more alike. A
        difference too small to tell is printed.
    """
    if data.ndim != 2:
        return
    rows, columns = (n - sum(cut) for n in data.shape)
    needed = n_times or MIN_VOLUMES
    turned = rows < needed <= columns
    if rows >= needed and columns >= needed:
        part = data[:CORNER, :CORNER]
        down, across = _neighbours(part), _neighbours(part.T)
        # atlases list neighbours of the brain side by side, so a little is no sign
        margin = 0.0 if columns == n_times != rows else TURNED
        turned = across > down + margin
        if down < across <= down + margin and across > 5 / np.sqrt(part.size):
            print(
                f"{source}: neighbours are as alike along its columns ({across:.2f}) "
                f"as along its rows ({down:.2f}): are its {data.shape[0]} rows the "
                "volumes?"
            )
    if turned:
        raise BoldError(
            f"{source}: found shape {data.shape}, expected (volumes x regions)"
            + (f" of {n_times} volumes or more" if n_times else "")
            + ": it seems to be (regions x volumes). Turn it, as by "
            "np.save(path, np.load(path).T). If it is right as it is, write it as a "
            ".tsv with a line of region names: columns that have names are taken as "
            "regions."
        )


def _neighbours(data):
    """Correlation of neighbours along the first axis, mean over the other.

    Without the mean of each row and column: that of regions differs for good, and what
    the whole brain does makes all regions alike.
    """
    data = np.asarray(data, float)
    data = data - data.mean(0) - data.mean(1, keepdims=True)
    z = timeseries.zscore(data)
    return (z[1:] * z[:-1]).mean()


def check_values(data, source, *, constant, names=None):
    """Two dimensions, finite, and constant columns only where they can be left out."""
    if data.ndim != 2:
        raise BoldError(
            f"{source}: expected (volumes x regions), found shape {data.shape}"
        )

    def called(column):
        return f"{column} ({names[column]})" if names else f"{column}"

    bad = np.argwhere(~np.isfinite(data))
    if len(bad):
        raise BoldError(
            f"{source}: {len(bad)} values are NaN or infinite, the first at volume "
            f"{bad[0][0]}, column {called(bad[0][1])}. Mask or interpolate "
            "them first, or leave this subject or region out."
        )
    largest = np.abs(data).max(initial=0)
    if largest > LARGEST:
        raise BoldError(
            f"{source}: a value of {largest:g} is no BOLD, expected less than "
            f"{LARGEST:g}. Is the file damaged, or of another type than it says?"
        )
    still = np.flatnonzero(np.ptp(data, axis=0) == 0)
    if len(still) == data.shape[1]:
        raise BoldError(
            f"{source}: all {len(still)} columns are constant. Leave this run out, or "
            "check that the mask fits it."
        )
    if len(still) and not constant:
        raise BoldError(
            f"{source}: {len(still)} of {data.shape[1]} columns are constant, the "
            f"first is column {called(still[0])}. Leave this subject or region "
            "out."
        )
    return np.ascontiguousarray(data, dtype=np.float32)


def check_volumes(data, source, *, first=0):
    """Refuse volumes that hold nothing; print those that repeat the one before.

    Programs write zeros for volumes that they censored, scanners for those that were
    never measured. In several subjects at once they would correlate.

    Parameters
    ----------
    data : array of shape (n_volumes, n_columns)
    source : path-like
    first : int
        Number of the first row in the file, counted from 0.

    Raises
    ------
    BoldError
        Volumes that are 0 in all columns, of which there are several.
    """
    if data.shape[1] < 2:
        return
    empty = first + np.flatnonzero(~data.any(axis=1))
    if len(empty):
        raise BoldError(
            f"{source}: {len(empty)} of {len(data)} volumes are 0 everywhere (number "
            f"{some(empty)}, counted from 0), as if censored or never measured. "
            "Expected BOLD in every volume: drop them at an end by cut_start or "
            "cut_end, interpolate them before, or leave the run out."
        )
    again = 1 + first + np.flatnonzero((data[1:] == data[:-1]).all(axis=1))
    if len(again) > 1:
        print(
            f"{source}: {len(again)} volumes are a copy of the one before (number "
            f"{some(again)}, counted from 0): was the scan stopped?"
        )


def check_coverage(varies, run, names=None):
    """Refuse runs in which many columns are constant; regions are named."""
    if varies.mean() >= MIN_COVERAGE:
        return
    if names is None:
        raise BoldError(
            f"only {varies.mean():.0%} of the mask's {len(varies)} columns vary in "
            f"every run up to {run.bold}, expected {MIN_COVERAGE:.0%}. Does the mask "
            "fit the images?"
        )
    still = [name for name, v in zip(names, varies, strict=True) if not v]
    raise BoldError(
        f"{len(still)} of {len(names)} regions are constant in {run.bold} or a run "
        f"before it: {some(still)}; expected {MIN_COVERAGE:.0%} that vary. Leave these "
        "regions or that run out, or check that the atlas fits the images."
    )


def clean_run(data, basis, standardise, source):
    """Clean one run in place, a block of columns at a time."""
    for start in range(0, data.shape[1], COLUMNS):
        block = data[:, start : start + COLUMNS]
        if standardise == "zscore":
            block = timeseries.zscore(block)
        elif standardise == "psc":
            mean, sd = block.mean(0), block.std(0)
            if (np.abs(mean) < sd).any():
                column = start + int(np.flatnonzero(np.abs(mean) < sd)[0])
                raise BoldError(
                    f"{source}: the mean of column {column} is about 0, so there is no "
                    "percent of it. The run was centred before: use zscore or none."
                )
            block = 100 * (block / np.where(mean == 0, np.inf, mean) - 1)
        else:
            block = block - block.mean(0)  # float32 has few digits for what is left
        block = timeseries.residuals(block, basis)
        if standardise == "zscore":
            block = timeseries.zscore(block)
        data[:, start : start + COLUMNS] = block
    return data
