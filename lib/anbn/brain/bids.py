"""Runs and confounds in a BIDS or fMRIPrep folder, found by their entities.

An entity is a part such as ``task-pieman`` of a file's name.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anbn.core.paths import tidy
from anbn.core.tables import some

IMAGES = (
    *("_bold.nii", "_bold.nii.gz"),
    *("_bold.dtseries.nii", "_bold.ptseries.nii"),
)
SCAN = ("sub", "ses", "task", "acq", "ce", "rec", "dir", "run")  # entities of a scan
NAMES = ("sub", "ses", "task", "run")  # those that name a run here
PARAMETERS = ("task", "space", "desc")  # with a parameter of their own
NONE = "none"  # stands for: the name does not have this entity
CONFOUNDS = ("_desc-confounds_timeseries.tsv", "_desc-confounds_regressors.tsv")
TIMES = (  # what a JSON file may say, in which unit, and at least
    ("RepetitionTime", "seconds", "above 0"),
    ("StartTime", "seconds", "0 or more"),
    ("NumberOfVolumesDiscardedByUser", "volumes", "0 or more"),
)
OF_BOLD = re.compile(r"(?:^|_)bold(?:\.[dp]tseries)?\.json$")  # boldref is another


class BidsError(ValueError):
    """A file is missing, ambiguous, or not as BIDS has it."""


@dataclass(frozen=True)
class Run:
    """One scan of one subject.

    Attributes
    ----------
    subject : str
        ``sub-001``.
    name : str
        Unique: ``sub-001_task-pieman_run-1``.
    bold : Path
    confounds : Path or None
    tr : float or None
        Seconds, RepetitionTime of its JSON file; None if there is none.
    start_time : float or None
        Seconds after the beginning of a volume that it stands for, StartTime of its
        JSON file: fMRIPrep writes it when slice timing was corrected.
    discarded : int
        NumberOfVolumesDiscardedByUser of its JSON file: those that the scanner took and
        the file no longer has.
    """

    subject: str
    name: str
    bold: Path
    confounds: Path | None
    tr: float | None
    start_time: float | None = None
    discarded: int = 0


def parts_of(name):
    """Entities of a file name: ``sub-001_task-x_bold.nii`` gives sub and task."""
    return dict(re.findall(r"(?:^|_)([A-Za-z]+)-([^_.]+)", Path(name).name))


def find_runs(folder, *, task, subjects=(), space="", desc="", entities=None):
    """Runs in a BIDS or derivatives folder.

    Parameters
    ----------
    folder : path-like
        Holds ``sub-*/[ses-*/]func/*_bold.nii``, ``.nii.gz``, ``.dtseries.nii`` or
        ``.ptseries.nii``.
    task : str
    subjects : sequence of str or int
        "sub-001", "001" or 1; all there are, if empty.
    space, desc : str
        As in the file names; "none" for names without the entity. Left empty, any
        will do, as long as one file a run is left.
    entities : dict of str to str or sequence
        Any other entity, as ``{"dir": "AP", "run": "1,2", "res": "none"}``. Files of
        several values named for one are runs of their own.

    Returns
    -------
    runs : list of Run
        Sorted by subject, session, run, and entities of several values.

    Raises
    ------
    BidsError
        If the folder, a subject or an entity is not there (says what there is), or
        several files of one run are left (says in what they differ).
    """
    folder = Path(folder)
    paths = [p for f in ("func", "ses-*/func") for p in folder.glob(f"sub-*/{f}/*")]
    wanted = {"task": task, "subjects": subjects, "space": space, "desc": desc}
    chosen = choose(tidy(paths), folder, **wanted, entities=entities)
    return [_run(name, path, folder) for name, path in chosen.items()]


def choose(paths, folder, *, task, subjects=(), space="", desc="", entities=None):
    """The file of every run among others, as ``find_runs`` finds them.

    Parameters
    ----------
    paths : sequence of Path
        They need not be on this machine.
    folder : path-like
        That holds them, for errors.
    task, subjects, space, desc, entities
        See ``find_runs``.

    Returns
    -------
    chosen : dict of str to Path
        By the name of the run, sorted.
    """
    found = [(parts_of(p), p) for p in paths if p.name.endswith(IMAGES)]
    if not found:
        raise BidsError(
            f"{folder}: expected sub-*/func/*_bold.nii[.gz] (or .dtseries.nii), found "
            f"{_some(p.name for p in paths or tidy(Path(folder).glob('*')))}. Name the "
            "folder that holds the sub-* folders."
        )
    others = {name: _sequence(value) for name, value in (entities or {}).items()}
    twice = {"sub", *PARAMETERS} & set(others)
    if twice:
        raise BidsError(
            f"entities: {', '.join(sorted(twice))} has a parameter of its own "
            "(subjects, task, space, desc). Set that one."
        )
    subjects = [str(s).removeprefix("sub-") for s in _sequence(subjects)]
    wanted = {"sub": subjects, "task": _sequence(task)}
    wanted |= {"space": _sequence(space), "desc": _sequence(desc), **others}
    for entity, values in wanted.items():
        found = _keep(found, entity, values, folder)
        if entity == "task":
            people = sorted({e["sub"] for e, _ in found})
    _say_left_out(people, found, wanted)
    for subject in subjects:
        if not any(same(e["sub"], subject) for e, _ in found):
            raise BidsError(
                f"{folder}: sub-{subject} has no file with all of task={task!r}, "
                f"space={space!r}, desc={desc!r}, entities={others!r}. Leave the "
                "subject out or loosen these."
            )
    several = [name for name, values in others.items() if len(values) > 1]
    names = list(dict.fromkeys([*NAMES, *several]))
    groups = {}
    for parts, path in found:
        key = tuple(_natural(parts.get(name, "")) for name in names)
        groups.setdefault(key, []).append((parts, path))
    chosen = {}
    for _, files in sorted(groups.items()):
        _check_one(files)
        parts, path = files[0]
        chosen["_".join(f"{k}-{parts[k]}" for k in names if k in parts)] = path
    return chosen


def _say_left_out(people, found, wanted):
    """Print who has the task, but not all that is wanted of it."""
    asked = {k: v for k, v in wanted.items() if v and k not in ("sub", "task")}
    said = "; ".join(f"{k}: {', '.join(map(str, v))}" for k, v in asked.items())
    left = {e["sub"] for e, _ in found}
    without = [f"sub-{person}" for person in people if person not in left]
    if without:
        print(f"left out, without a file of {said}: {some(without)}")
    for entity, values in asked.items():
        for value in values if len(values) > 1 else []:
            have = {e["sub"] for e, _ in found if same(e.get(entity, NONE), value)}
            without = [f"sub-{person}" for person in sorted(left - have)]
            if without:
                print(f"no {entity}-{value}: {some(without)}")


def _natural(value):
    """Key that sorts run 2 before run 10."""
    return (int(value), value) if value.isdigit() else (-1, value)


def _sequence(values):
    if isinstance(values, int):
        return [values]
    if isinstance(values, str):
        return [value.strip() for value in values.split(",") if value.strip()]
    return list(values)


def same(found, wanted):
    """Whether two values of an entity are: 1 is 01."""
    found, wanted = str(found), str(wanted)
    if found.isdigit() and wanted.isdigit():
        return int(found) == int(wanted)
    return found == wanted


def _some(names):
    return some(sorted({str(name) for name in names}))


def _keep(found, entity, wanted, folder):
    """Files whose entity is one of those wanted; all, if none is."""
    there = {e.get(entity, NONE) for e, _ in found}
    for value in wanted:
        if not any(same(other, value) for other in there):
            raise BidsError(
                f"{folder}: no file with {entity}-{value} (of those that match so "
                f"far). Values of {entity} there: {_some(there)}. {_left(found)}"
            )
    return [
        (e, path)
        for e, path in found
        if not wanted or any(same(e.get(entity, NONE), value) for value in wanted)
    ]


def _left(files):
    """Entities of files, and their values where they differ."""
    listed = "; ".join(f"{k}: {some(v)}" for k, v in _values(files).items())
    return f"Entities of the files there: {listed or 'none'}."


def _values(files):
    """Values of every entity that one of the files has."""
    keys = dict.fromkeys(key for parts, _ in files for key in parts)
    return {k: sorted({e.get(k, NONE) for e, _ in files}) for k in keys}


def _check_one(files):
    """An error if several files of a run are left."""
    if len(files) == 1:
        return
    differ = {k: v for k, v in sorted(_values(files).items()) if len(v) > 1}
    choices = "; ".join(f"{k}: {', '.join(v)}" for k, v in differ.items())
    own = [f"{k}: {v[0]}" for k, v in differ.items() if k in PARAMETERS]
    other = [f"{k}: {v[0]}" for k, v in differ.items() if k not in PARAMETERS]
    own += [f"entities: {{{', '.join(other)}}}"] if other else []
    raise BidsError(
        f"{files[0][1].parent}: {len(files)} files of one run are left: "
        f"{_some(p.name for _, p in files)}. They differ in "
        f"{choices or 'their suffix only'}. "
        + (f"Set {' and '.join(own)}, say." if own else "Keep one in this folder.")
    )


def _run(name, path, folder):
    sidecars, parent = [], path.parent
    while True:
        sidecars += sidecars_of(path, tidy(parent.glob("*.json")))
        if parent == folder:
            break
        parent = parent.parent
    confounds = confounds_of(path, tidy(path.parent.glob("*.tsv")))
    return Run(f"sub-{parts_of(path)['sub']}", name, path, confounds, *timing(sidecars))


def confounds_of(bold, paths):
    """fMRIPrep's table of confounds of a run among files; None if there is none."""
    scan = {k: v for k, v in parts_of(bold).items() if k in SCAN}
    for suffix in CONFOUNDS:
        for path in paths:
            of = {k: v for k, v in parts_of(path).items() if k in SCAN}
            if path.name.endswith(suffix) and of == scan:
                return path
    return None


def sidecars_of(bold, paths):
    """The JSON files among those of one folder that apply to a run (inheritance).

    The one that shares most entities is nearest, and first.
    """
    named = [p for p in paths if OF_BOLD.search(p.name)]
    apply = [p for p in named if parts_of(p).items() <= parts_of(bold).items()]
    return sorted(apply, key=lambda p: -len(parts_of(p)))


def timing(sidecars):
    """What JSON files say of the times of a run, the first of them that says it.

    Parameters
    ----------
    sidecars : sequence of Path
        Nearest first.

    Returns
    -------
    tr, start_time : float or None
        See ``Run``.
    discarded : int

    Raises
    ------
    BidsError
        If one is no JSON, or what it says no number that can be.
    """
    said = {}
    for sidecar in reversed(sidecars):
        content = _read(sidecar)
        said |= {k: (v, sidecar) for k, v in content.items() if v is not None}
    found = []
    for key, unit, least in TIMES:
        value, sidecar = said.get(key, (None, None))
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and (
            not number or not 0 <= value < np.inf or (value == 0 and "above" in least)
        ):
            raise BidsError(
                f"{sidecar}: expected {key} in {unit}, {least}, found {value!r}. "
                "Correct the file."
            )
        found.append(None if value is None else float(value))
    tr, start_time, discarded = found
    return tr, start_time, int(discarded or 0)


def _read(sidecar):
    try:
        content = json.loads(sidecar.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise BidsError(f"{sidecar} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise BidsError(f"{sidecar}: expected a JSON object, found {content!r:.40}")
    return content
