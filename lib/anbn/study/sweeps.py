"""What a sweep runs: `params/sweeps/<name>.yaml` read, checked, spelt out in points.

A point is one value for every parameter of every stage: those of the base study,
changed by what the sweep says. Everything is checked before anything runs.
"""

import itertools
import json
import re
from dataclasses import dataclass

from anbn.core import params
from anbn.core.artifacts import slug
from anbn.core.params import ParamError
from anbn.core.paths import stage_number
from anbn.study import notebooks, sweep_spec
from anbn.study.sweep_spec import BRAIN, PEOPLE, SUBJECTS

MAX_POINTS = 10_000
MAX_LABEL = 100  # characters; with the folders around it a path stays below 255


@dataclass(frozen=True)
class Point:
    """One setting of all parameters."""

    label: str  # readable, safe as a file name
    values: dict  # stage -> its parameters, checked
    columns: dict  # what the sweep changes: `<stage>.<parameter>` or `seed` -> value


@dataclass(frozen=True)
class Sweep:
    """All points of a sweep, checked."""

    name: str
    study: str
    reads: dict  # stage -> stages it reads, in order
    points: list
    varied: list  # columns that take more than one value
    spec: dict


def read(name, study=None):
    """Read and check a sweep.

    Parameters
    ----------
    name : str
        `params/sweeps/<name>.yaml`.
    study : str, optional
        Base study instead of the file's own.

    Returns
    -------
    sweep : Sweep

    Raises
    ------
    ParamError
        Names the file, the key, what was found and what was expected.
    """
    spec, path = sweep_spec.load_spec(name)
    study = spec.get("study") if study is None else study
    sweep_spec.known_study(study, path)
    reads = notebooks.needed(study, sweep_spec.stages(spec.get("stages"), study, path))
    base = {stage: params.read(study, stage) for stage in reads}
    fixed = sweep_spec.overrides(spec.get("set", {}), reads, f"{path}: set")
    axes = sweep_spec.axes(spec, reads, path)
    if not axes:
        raise ParamError(
            f"{path}: nothing varies. Give grid, points, seeds or subjects."
        )
    sweep_spec.said_once({"set": [fixed]} | axes, path)
    n_points = 1
    for choices in axes.values():
        n_points *= len(choices)
    if n_points > MAX_POINTS:
        raise ParamError(f"{path}: {n_points} points; more than {MAX_POINTS} at once")
    settings = []
    for combination in itertools.product(*axes.values()):
        changes = dict(fixed)
        for part in combination:
            changes |= part
        settings.append(_apply(base, changes, path))
    varying = [key for choices in axes.values() for part in choices for key in part]
    columns = _columns(settings, list(dict.fromkeys(varying)), "seeds" in spec)
    varied = [c for c in columns if len({_key(v) for v in columns[c]}) > 1]
    labels = _labels({c: columns[c] for c in varied}, len(settings))
    points = [
        Point(label, values, {c: columns[c][i] for c in columns})
        for i, (label, values) in enumerate(zip(labels, settings, strict=True))
    ]
    _no_twins(points, path)
    return Sweep(name, study, reads, points, varied, spec)


def _apply(base, changes, path):
    """All parameters of one point."""
    values = {stage: dict(of_stage) for stage, of_stage in base.items()}
    subjects = None
    for (stage, name), value in changes.items():
        if (stage, name) == PEOPLE:
            subjects = value
        else:
            values[stage][name] = value
    if subjects is not None:
        name = _subjects_parameter(subjects, values[BRAIN]["bold"], path)
        checked = sweep_spec.overrides(
            {f"{BRAIN}.{name}": subjects}, values, f"{path}: subjects"
        )
        values[BRAIN][name] = checked[BRAIN, name]
    return values


def _subjects_parameter(subjects, bold, path):
    if not isinstance(subjects, list):
        return "n_subjects" if bold == "simulated" else "max_subjects"
    if bold != "bids":
        raise ParamError(
            f"{path}: subjects: names, as {subjects!r}, need bold: bids; here it is "
            f"{bold}. Give numbers of subjects."
        )
    return "subjects"


def _columns(settings, keys, seeds):
    """Values of every column over the points, in order."""
    columns = {}
    for stage, name in keys:
        if (stage, name) == PEOPLE:
            bold = {values[BRAIN]["bold"] for values in settings}
            simulated = bold == {"simulated"}
            for key in SUBJECTS[:1] if simulated else SUBJECTS:
                column = [values[BRAIN][key[1]] for values in settings]
                if simulated or len({_key(v) for v in column}) > 1:
                    columns[".".join(key)] = column
        elif name == "seed" and seeds:
            columns["seed"] = [values[stage]["seed"] for values in settings]
        else:
            columns[f"{stage}.{name}"] = [values[stage][name] for values in settings]
    return columns


def _key(value):
    return json.dumps(value, sort_keys=True)


def as_text(value):
    """A parameter's value in a table: lists and maps as text."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "[]"
    return json.dumps(value) if isinstance(value, dict) else value


def _labels(columns, n_points):
    """Names of the points, as `n_atoms=16,seed=0`; numbered where that is too long."""
    names = {c: c.partition(".")[2] or c for c in columns}
    short = {
        c: f"{stage_number(c)}.{name}" if list(names.values()).count(name) > 1 else name
        for c, name in names.items()
    }
    labels = []
    for i in range(n_points):
        parts = [f"{short[c]}={_safe(columns[c][i])}" for c in columns]
        labels.append(",".join(parts) or "point")
    return [
        label
        if len(label) <= MAX_LABEL and labels.count(label) == 1
        else f"{i:03d}-{label[:60]}"
        for i, label in enumerate(labels, 1)
    ]


def _safe(value):
    if isinstance(value, list):
        whole = len(value) > 2 and all(type(v) is int for v in value)
        row = whole and value == list(range(value[0], value[0] + len(value)))
        return (
            f"{value[0]}-{value[-1]}" if row else "+".join(map(_safe, value)) or "none"
        )
    text = slug(value) if isinstance(value, str) and "/" in value else str(value)
    return re.sub(r"[^A-Za-z0-9.+_-]+", "_", text) or "none"


def _no_twins(points, path):
    seen = {}
    for point in points:
        key = _key(
            {
                stage: {k: v for k, v in of.items() if k not in params.EXECUTION_KNOBS}
                for stage, of in point.values.items()
            }
        )
        if key in seen:
            what = {c: as_text(v) for c, v in point.columns.items()}
            raise ParamError(
                f"{path}: two points are the same: {seen[key]} and {point.label} "
                f"({what}). Delete one."
            )
        seen[key] = point.label
