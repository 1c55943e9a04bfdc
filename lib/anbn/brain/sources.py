"""Files of any format to runs, and runs to columns (volumes x voxels or regions)."""

import re
from collections import Counter

import numpy as np
import pandas as pd

from anbn.brain import bids, images, narratives
from anbn.brain.bids import Run
from anbn.brain.images import BoldError, cifti_tr, cifti_volumes, read_cifti
from anbn.core import tables
from anbn.core.paths import NARRATIVES, canonical, resolve

FORMATS = {  # end of a file's name: kind
    ".dtseries.nii": "CIFTI",
    ".ptseries.nii": "CIFTI",
    ".nii": "NIfTI",
    ".nii.gz": "NIfTI",
    ".tsv": "tables",
    ".csv": "tables",
    ".npy": "tables",
}

LIKE_SUBJECT = re.compile(
    r"(?:subject|subj|sub|s|participant|ppt|p|vp)[-_]?\d+(?!\d)", re.IGNORECASE
)


def format_of(path):
    """End of a file's name that tells its format.

    Raises
    ------
    BoldError
        If it is none of ``FORMATS``.
    """
    for end in FORMATS:
        if path.name.endswith(end):
            return end
    raise BoldError(f"{path}: unknown format, expected one of {', '.join(FORMATS)}")


def runs_of_files(files, confound_files=()):
    """Runs of parameters that name files.

    Parameters
    ----------
    files : list of str
        One run each, in any of ``FORMATS``, as ``paths.resolve`` takes them. Files
        with the same ``sub-XX`` in their name, or else in that of a folder they are
        in, are runs of one subject; without one every file is a subject, called by its
        path.
    confound_files : list of str
        None, or one table for each run.

    Returns
    -------
    runs : list of Run
        With the TR of the JSON file of the same name, where there is one.

    Raises
    ------
    BoldError
        No files, an unknown format, or not as many tables of confounds.
    """
    if not files:
        raise BoldError("bold_files is empty: name one file a run")
    if confound_files and len(confound_files) != len(files):
        raise BoldError(
            f"confound_files has {len(confound_files)} files, bold_files {len(files)}: "
            "name one for each run, in the same order."
        )
    paths = [resolve(file) for file in files]
    stems = [path.name.removesuffix(format_of(path)) for path in paths]
    people = [_subject_of(path) for path in paths]
    if len(set(stems)) < len(stems):
        # sub-01/func/run-1 is run-1 of a subject
        stems = [
            stem if who is None or who in stem else f"{who}_{stem}"
            for who, stem in zip(people, stems, strict=True)
        ]
    if len(set(stems)) < len(stems):
        stems = [f"{p.parent.name}_{s}" for p, s in zip(paths, stems, strict=True)]
    if len(set(stems)) < len(stems):
        stems = [f"{i + 1:03d}_{stem}" for i, stem in enumerate(stems)]
    _say_alike([s for who, s in zip(people, stems, strict=True) if who is None])
    runs = []
    for i, (file, path, name) in enumerate(zip(files, paths, stems, strict=True)):
        confounds = resolve(confound_files[i]) if confound_files else None
        runs.append(Run(people[i] or str(file), name, path, confounds, *_sidecar(path)))
    return runs


def _subject_of(path):
    """``sub-XX`` of a file's name, or of the nearest folder called so; else None."""
    found = re.search(r"(?:^|_)(sub-[A-Za-z0-9]+)", path.name)
    if found:
        return found[1]
    named = [part for part in path.parts if re.fullmatch(r"sub-[A-Za-z0-9]+", part)]
    return named[-1] if named else None


def _say_alike(stems):
    """Print files that look as if they were runs of one subject."""
    people = {}
    for stem in stems:
        who = LIKE_SUBJECT.match(stem)
        if who:
            people.setdefault(who[0], []).append(stem)
    alike = [name for names in people.values() if len(names) > 1 for name in names]
    if alike:
        print(
            f"{tables.some(alike)}: each taken as a subject, for want of sub-XX in "
            "their names. If some are runs of one subject, call them sub-01_run-1 and "
            "so on."
        )


def runs_of_bids(folder, *, task, space="", desc="", subjects=(), entities=None):
    """Runs of a folder of derivatives, by their entities (see ``bids.find_runs``).

    Parameters
    ----------
    folder : str
        As ``paths.resolve`` takes it. Of the Narratives data (``narratives:...``)
        those are left out that it lists to be, and ``task`` is the story.
    task, space, desc, subjects, entities
        See ``bids.find_runs``.

    Returns
    -------
    runs : list of Run
    """
    path = resolve(folder)
    asked = {"space": space, "subjects": subjects, "entities": entities}
    if canonical(folder).startswith(NARRATIVES):
        of = {"story": task, "derivative": path.name}
        return narratives.find_runs(path.parents[1], **of, **asked)
    return bids.find_runs(path, task=task, desc=desc, **asked)


def draw_subjects(runs, n, *, rng):
    """Runs of ``n`` subjects drawn at random, in their old order; all for 0.

    Parameters
    ----------
    runs : list of Run, or dict of str to anything
    n : int
    rng : Generator

    Raises
    ------
    BoldError
        If there are not as many subjects.
    """
    of_run = list(runs) if isinstance(runs, dict) else [run.subject for run in runs]
    people = list(dict.fromkeys(of_run))
    if n > len(people):
        raise BoldError(f"max_subjects: asked for {n}, there are {len(people)}")
    kept = set(rng.choice(people, n, replace=False)) if n else set(people)
    if isinstance(runs, dict):
        return {name: run for name, run in runs.items() if name in kept}
    return [run for run in runs if run.subject in kept]


def are_parts(runs, runs_are, run_lengths, cut=(0, 0)):
    """Whether a subject's files are the runs that the story's clock is made of.

    Parameters
    ----------
    runs : list of Run, or dict of str to anything
    runs_are : {"auto", "repeats", "parts"}
        ``auto``: parts where the clock has several runs, every subject has as many
        files, and some file is too short to hold the whole clock.
    run_lengths : sequence of int
        Of the clock.
    cut : tuple of int
        Volumes dropped at the beginning and at the end of each file.

    Raises
    ------
    BoldError
        ``parts`` of a clock of one run, or a subject with another number of files;
        ``auto`` of files that could be either.
    """
    people = list(runs) if isinstance(runs, dict) else [run.subject for run in runs]
    counts = Counter(people)
    other = next((p for p, n in counts.items() if n != len(run_lengths)), None)
    if runs_are == "auto":
        if len(run_lengths) < 2 or other is not None:
            return False
        return not _hold_whole_clock(runs, sum(run_lengths), sum(cut))
    if runs_are == "repeats":
        return False
    if len(run_lengths) < 2:
        raise BoldError(
            "runs_are: parts needs a clock of several runs: set run_lengths in stage "
            f"01, as [{', '.join('300' for _ in range(max(counts.values())))}], the "
            "volumes that are kept of each part."
        )
    if other is not None:
        raise BoldError(
            f"runs_are: parts: {other} has {counts[other]} files, the clock of stage "
            f"01 has {len(run_lengths)} runs (run_lengths {list(run_lengths)}). Leave "
            "the subject out, or correct run_lengths."
        )
    return True


def _hold_whole_clock(runs, n_times, n_cut):
    """Whether each file is the whole clock; an error where all are longer."""
    kept = {str(run.bold): count_volumes(run.bold) - n_cut for run in runs}
    if min(kept.values()) < n_times:
        return False
    longer = next((name for name, n in kept.items() if n > n_times), None)
    if longer is None:
        return True
    raise BoldError(
        f"runs_are: auto: {longer} has {kept[longer]} volumes after the cut, and no "
        f"file has fewer than the whole clock of stage 01 ({n_times} volumes). Each "
        "could be the whole story or a part of it. Set runs_are: repeats if each file "
        "holds the whole story, or parts if each is one of its runs."
    )


def count_volumes(path):
    """Volumes of a run in any of ``FORMATS``; of images only the header is read."""
    kind = FORMATS[format_of(path)]
    if kind == "NIfTI":
        return images.open_image(path).shape[3]
    if kind == "CIFTI":
        return cifti_volumes(path)
    read = read_npy if format_of(path) == ".npy" else read_table
    return len(read(path)[0])


def first_runs(runs):
    """The first run of every subject."""
    first = {run.subject: run for run in reversed(runs)}
    return [run for run in runs if first[run.subject] is run]


def check_method(runs, brain_method, *, atlas=""):
    """Refuse, before anything is read, a method that has no use for what runs are.

    Raises
    ------
    BoldError
        Methods of volumes for regions, or regions as they are for volumes.
    """
    kind = "tables"  # arrays are regions
    if not isinstance(runs, dict):
        kind = FORMATS[format_of(runs[0].bold)]
    volumes_stay = kind == "NIfTI" and not atlas
    if brain_method in ("canica", "dictlearning") and not volumes_stay:
        what = "regions of an atlas" if kind == "NIfTI" else f"{kind}, not volumes"
        raise BoldError(
            f"brain_method: {brain_method} is for volumes, these are {what}. Set "
            "brain_method: regions to take each region as a network, or ica, "
            "dictionary or vsdbn to find networks of regions."
        )
    if brain_method == "regions" and volumes_stay:
        raise BoldError(
            "brain_method: regions is for tables and atlases, these are NIfTI volumes. "
            "Name an atlas_file, or set brain_method: canica."
        )


def _sidecar(path):
    """What a run has of the JSON file of the same name."""
    sidecar = path.with_name(path.name.removesuffix(format_of(path)) + ".json")
    if not sidecar.is_file():
        return (None,)
    try:
        return bids.timing([sidecar])
    except bids.BidsError as error:
        raise BoldError(
            f"{sidecar}: no RepetitionTime or StartTime in s to read: {error}"
        ) from None


def reader(runs, *, mask, atlas, voxel_size, smoothing):
    """How runs are read.

    Returns
    -------
    read : function of a Run to (data, names)
        Array of shape (n_volumes, n_voxels or n_regions); names is None for voxels.
    mask : image or None
        Of the voxels.
    strict : bool
        Whether no column may be constant: that of a table was chosen by hand.

    Raises
    ------
    BoldError
        Runs of different kinds, or options that these have no use for.
    """
    kinds = {FORMATS[format_of(run.bold)]: run.bold for run in runs}
    if len(kinds) > 1:
        raise BoldError(f"runs must be of one kind, found {kinds}")
    if "NIfTI" in kinds:
        return *_image_reader(runs, mask, atlas, voxel_size, smoothing), False
    options = {"mask": mask, "atlas": atlas, "voxel_size": voxel_size}
    used = [name for name, v in (options | {"smoothing": smoothing}).items() if v]
    if used:
        raise BoldError(f"{used[0]} is for NIfTI runs, these are {next(iter(kinds))}")
    if "tables" in kinds:
        return lambda run: read_regions(run.bold), None, True
    return lambda run: read_cifti(run.bold), None, False


def _image_reader(runs, mask, atlas, voxel_size, smoothing):
    paths, weights, names, image = [run.bold for run in runs], None, None, None
    to = images.common_grid(paths, voxel_size)
    mask, atlas = (p if p in ("", "mni") else resolve(str(p)) for p in (mask, atlas))
    if mask or not atlas:
        image = images.mask_of(mask, paths, to)
        inside = np.asanyarray(image.dataobj) > 0
    if atlas:
        within = None if image is None else inside
        weights, inside, names = images.atlas_weights(atlas, paths, to, within)
        image = None
    options = {"weights": weights, "smoothing": smoothing}
    return lambda run: (images.extract(run.bold, to, inside, **options), names), image


def check_tr(run, tr):
    """Check a run's own TR against the one asked for; tables have none.

    Raises
    ------
    BoldError
        If it is missing or differs by more than a thousandth.
    """
    kind = FORMATS[format_of(run.bold)]
    if run.tr is not None:
        found, where = run.tr, "its JSON file"
    elif kind == "NIfTI":
        found, where = images.header_tr(run.bold), "its header"
    elif kind == "CIFTI":
        found, where = cifti_tr(run.bold), "its header"
    else:
        return
    if not abs(found - tr) <= 1e-3 * tr:  # also true of NaN
        ms = np.isclose(found, 1000 * tr) or np.isclose(1000 * found, tr)
        hint = "One of them seems to be in ms: correct it. " if ms else ""
        raise BoldError(
            f"{run.bold}: TR {found:g} s in {where}, expected tr {tr:g} s. {hint}"
            "Correct tr, or set check_tr: false if you are sure (0, 1 and NaN often "
            "mean unknown)."
        )


def read_regions(path):
    """Regions of a table or array, without columns that count rows or time.

    An index that pandas wrote, or the seconds of a recording, would be a region that is
    the same in everyone.

    Returns
    -------
    data : array of shape (n_times, n_regions)
    names : list of str

    Raises
    ------
    BoldError
        See ``read_table`` and ``read_npy``; nothing but such columns.
    """
    data, names = (read_npy if format_of(path) == ".npy" else read_table)(path)
    counting = [tables.counts(values) for values in data.T]
    if not any(counting):
        return data, names
    kept = np.flatnonzero(~np.array(counting))
    for k in np.flatnonzero(counting):
        low, high, name = data[:, k].min(), data[:, k].max(), names[k] or "without name"
        print(f"{path}: left out column {name}, which counts from {low:g} to {high:g}")
    if not len(kept):
        raise BoldError(f"{path}: all columns count rows or time, none is of BOLD")
    return data[:, kept], [names[k] for k in kept]


def read_table(path):
    """Regions from a TSV or CSV table with a header row.

    Columns may be parted by tabs, commas, semicolons or blanks, with decimal commas.

    Returns
    -------
    data : array of shape (n_times, n_regions)
    names : list of str

    Raises
    ------
    BoldError
        Not a table, or text in it.
    """
    names, cells = tables.read_cells(path, BoldError)
    if names is None:
        raise BoldError(f"{path}: expected a first line of names, found numbers")
    twice = [name for name, n in Counter(names).items() if name and n > 1]
    if twice:
        raise BoldError(
            f"{path}: {tables.some(map(repr, twice))} names several columns, expected "
            "each region once. Rename them, or leave out what was joined twice."
        )
    values = cells.apply(pd.to_numeric, errors="coerce")
    text = values.isna() & ~cells.apply(lambda c: c.str.lower()).isin(tables.MISSING)
    if text.to_numpy().any():
        column = int(np.flatnonzero(text.any())[0])
        example = cells[column][text[column]].iloc[0]
        raise BoldError(
            f"{path}: expected numbers, found text in column {names[column]!r}: "
            f"{example!r}. Leave the column out, or write numbers as 1.5."
        )
    return values.to_numpy(float), names


def read_npy(path):
    """As ``read_table``, from an array; columns are ``region 1``, ``region 2``, ..."""
    try:
        data = np.load(path, allow_pickle=False)
    except Exception as error:  # of damage numpy raises all there is
        raise BoldError(f"{path} cannot be read as npy: {error}") from error
    if not isinstance(data, np.ndarray) or data.dtype.kind not in "fiu":
        found = getattr(data, "dtype", type(data).__name__)
        raise BoldError(f"{path}: expected an array of numbers, found {found}")
    return data, numbered(path, data)


def numbered(source, data):
    """Names of columns that have none."""
    if np.ndim(data) != 2:
        raise BoldError(
            f"{source}: expected (volumes x regions), found shape {np.shape(data)}"
        )
    return [f"region {i + 1}" for i in range(data.shape[1])]
