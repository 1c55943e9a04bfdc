"""What a sweep runs: `params/sweeps/<name>.yaml` read, checked, spelt out in points.

A point is one value for every parameter of every stage: those of the base study,
changed by what the sweep says. Everything is checked before anything runs. A study is
a sweep with one point.
"""

import itertools
import json
import math
import re
from dataclasses import dataclass

from anbn.core import params
from anbn.core.artifacts import slug
from anbn.core.params import ParamError, short
from anbn.core.paths import project_root, stage_number, tidy
from anbn.study import notebooks

MAX_POINTS = 10_000
MAX_LABEL = 100  # characters; with the folders around it a path stays below 255
KEYS = ("study", "stages", "set", "grid", "points", "seeds", "subjects")
BRAIN = "02_fbn_extraction"


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
    spec: dict  # what its file says; empty for a study
    is_study: bool = False


def of_study(study, stages):
    """A study as a sweep with one point: stages wanted, and those that they read.

    Raises
    ------
    ParamError
        Also of a file that is of no notebook, or of one that is no more.
    """
    reads = notebooks.needed(study, stages)
    values = {stage: params.read(study, stage) for stage in reads}
    params.check_files(study)
    return Sweep(study, study, reads, [Point(study, values, {})], [], {}, True)


def names():
    """Sweeps there are: name to the first line of comment in its file."""
    found = {}
    for path in tidy((project_root() / "params" / "sweeps").glob("*.yaml")):
        first = path.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]
        found[path.stem] = first.lstrip("# ")
    return found


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
    spec, path = load_spec(name)
    study = spec.get("study") if study is None else study
    if study not in params.studies():
        raise ParamError(
            f"{path}: study: there is no study {short(study)}"
            + params.did_you_mean(study, params.studies())
            + f". Studies here: {', '.join(params.studies())}."
        )
    params.check_files(study)
    reads = notebooks.needed(study, _stages(spec.get("stages"), study, path))
    base = {stage: params.read(study, stage) for stage in reads}
    fixed = _overrides(spec.get("set", {}), reads, f"{path}: set")
    axes = _axes(spec, reads, path)
    if "subjects" in spec:
        axes["subjects"] = _people(spec["subjects"], base, fixed, axes, path)
    if not axes:
        raise ParamError(
            f"{path}: nothing varies. Give grid, points, seeds or subjects."
        )
    changes = {"set": [fixed], **axes}
    _said_once(changes, path)
    n_points = math.prod(map(len, axes.values()))
    if n_points > MAX_POINTS:
        raise ParamError(f"{path}: {n_points} points; more than {MAX_POINTS} at once")
    settings = []
    for parts in itertools.product(*changes.values()):
        values = {stage: dict(of_stage) for stage, of_stage in base.items()}
        for (stage, parameter), value in (x for part in parts for x in part.items()):
            values[stage][parameter] = value
        settings.append(values)
    columns = {}
    for axis, choices in axes.items():
        for stage, parameter in dict.fromkeys(key for part in choices for key in part):
            column = "seed" if axis == "seeds" else f"{stage}.{parameter}"
            columns[column] = [values[stage][parameter] for values in settings]
    varied = [c for c in columns if len(set(map(json.dumps, columns[c]))) > 1]
    labels = _labels({c: columns[c] for c in varied}, len(settings))
    points = [
        Point(label, values, {c: columns[c][i] for c in columns})
        for i, (label, values) in enumerate(zip(labels, settings, strict=True))
    ]
    _no_twins(points, path)
    return Sweep(name, study, reads, points, varied, spec)


def load_spec(name):
    """What a sweep's file says, its keys checked, and its path."""
    path = project_root() / "params" / "sweeps" / f"{name}.yaml"
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or not path.is_file():
        raise ParamError(
            f"there is no sweep {name!r} (no file {path})"
            + params.did_you_mean(name, list(names()))
            + f". Sweeps here: {', '.join(names()) or 'none'}."
        )
    spec = params.load_yaml(path)
    if not isinstance(spec, dict):
        raise ParamError(f"{path} must hold `name: value` lines, found {short(spec)}")
    for key in spec:
        if key not in KEYS:
            hint = params.did_you_mean(key, KEYS)
            if isinstance(key, str) and "." in key:
                hint = ". Parameters of stages go below set, grid or points"
            raise ParamError(
                f"{path}: unknown key {key!r}{hint}. Known: {', '.join(KEYS)}."
            )
    return spec, path


def _stages(given, study, path):
    """Full names of the stages wanted."""
    there = notebooks.of_study(study)
    if given is None:
        return there
    given = _filled(given, f"{path}: stages")
    found = []
    for one in given:
        _stage(one, there, f"{path}: stages of {study}")
        found += notebooks.called(_number(one), there)
    return list(dict.fromkeys(found))


def _number(name):
    return f"{name:02d}" if isinstance(name, int) else str(name)


def _stage(name, there, source):
    number = _number(name)
    for stage in notebooks.names():
        if number in (stage, stage_number(stage)):
            if stage in there:
                return stage
            raise ParamError(
                f"{source}: stage {stage} is not run here: it is not asked for, or the "
                f"study has no parameters for it. There are {', '.join(there)}."
            )
    raise ParamError(
        f"{source}: unknown stage {short(name)}"
        + params.did_you_mean(number, notebooks.names())
        + f". Stages: {', '.join(notebooks.names())}."
    )


def _parameter(key, reads, source):
    """(stage, declared parameter) of a key such as `02_fbn_extraction.seed`."""
    stage, dot, name = str(key).partition(".")
    if not dot:
        raise ParamError(
            f"{source}: {key!r} must be <stage>.<parameter>, as {BRAIN}.seed"
        )
    stage = _stage(stage, list(reads), source)
    declared = params.declared(stage)
    if name not in declared:
        raise ParamError(
            f"{source}: stage {stage} has no parameter {short(name)}"
            + params.hint(stage, name, list(declared))
            + f". Known: {', '.join(declared)}."
        )
    if name == "study":
        raise ParamError(f"{source}: {key}: the folder is chosen by the sweep")
    return stage, declared[name]


def _overrides(block, reads, source):
    """Checked values of one block: (stage, name) -> value."""
    if not isinstance(block, dict):
        raise ParamError(
            f"{source} must hold `<stage>.<parameter>: value`, found {short(block)}"
        )
    found = {}
    for key, value in block.items():
        stage, parameter = _parameter(key, reads, source)
        where = (stage, parameter.name)
        if where in found:
            raise ParamError(f"{source}: {'.'.join(where)} is given twice")
        found[where] = params.check(parameter, value, f"{source}: {stage}")
    return found


def _axes(spec, reads, path):
    """What is combined: name -> list of {(stage, name): value}, in order."""
    axes = {}
    if "points" in spec:
        axes["points"] = [
            _overrides(point, reads, f"{path}: points, number {i}")
            for i, point in enumerate(_filled(spec["points"], f"{path}: points"), 1)
        ]
    if "grid" in spec:
        grid, source = spec["grid"], f"{path}: grid"
        if not isinstance(grid, dict) or not grid:
            raise ParamError(
                f"{source} is empty or not a block of `<stage>.<parameter>: "
                f"[value, value]`, found {short(grid)}"
            )
        for key, values in grid.items():
            _, parameter = _parameter(key, reads, source)
            values = _filled(values, f"{source}: {key}")
            _check_grid(parameter, values, f"{source}: {key}")
            axes[f"grid: {key}"] = [_overrides({key: v}, reads, source) for v in values]
    if "seeds" in spec:
        source = f"{path}: seeds"
        stages = [s for s in reads if "seed" in params.declared(s)]
        axes["seeds"] = [
            _overrides({f"{stage}.seed": seed for stage in stages}, reads, source)
            for seed in _filled(spec["seeds"], source)
        ]
    return axes


def _people(given, base, fixed, axes, path):
    """Choices of `subjects`: which parameter numbers or names people with this BOLD."""
    source = f"{path}: subjects"
    if BRAIN not in base:
        raise ParamError(f"{source}: stage {BRAIN} is not run here")
    if any((BRAIN, "bold") in part for choices in axes.values() for part in choices):
        raise ParamError(
            f"{source} need the same {BRAIN}.bold at all points: put it under set"
        )
    bold, choices = fixed.get((BRAIN, "bold"), base[BRAIN]["bold"]), []
    for who in _filled(given, source):
        name = "n_subjects" if bold == "simulated" else "max_subjects"
        if isinstance(who, list):
            name = "subjects"
            if bold != "bids":
                raise ParamError(
                    f"{source}: names, as {short(who)}, need bold: bids; here it is "
                    f"{bold}. Give numbers of subjects."
                )
        choices.append(_overrides({f"{BRAIN}.{name}": who}, base, source))
    return choices


def _filled(values, source):
    if not isinstance(values, list) or not values:
        raise ParamError(
            f"{source} must be a list that is not empty, found {short(values)}. Write "
            "it in brackets, as [0, 1]"
        )
    return values


def _check_grid(parameter, values, source):
    if parameter.name in params.EXECUTION_KNOBS:
        raise ParamError(
            f"{source}: {parameter.name} does not change what a stage finds: put it "
            "under set"
        )
    are_lists = all(isinstance(value, list) for value in values)
    if parameter.type.startswith("list[") and not are_lists:
        raise ParamError(
            f"{source} is itself a list, so a grid of it is a list of lists, as "
            f"[[{values[0]}], [...]]; found {short(values)}"
        )


def _said_once(axes, path):
    """No parameter is given by two parts of a sweep."""
    said = {}
    for name, choices in axes.items():
        for key in {key for part in choices for key in part}:
            if key in said:
                raise ParamError(
                    f"{path}: {'.'.join(key)} is given twice: by {said[key]} and by "
                    f"{name}. Keep one."
                )
            said[key] = name


def as_text(value):
    """A parameter's value in a table: lists and maps as text."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "[]"
    return json.dumps(value) if isinstance(value, dict) else value


def _labels(columns, n_points):
    """Names of the points, as `n_atoms=16,seed=0`; numbered where that is too long."""
    names = {c: c.partition(".")[2] or c for c in columns}
    twice = {n for n in names.values() if list(names.values()).count(n) > 1}
    for column in [c for c in columns if names[c] in twice]:  # of two stages
        names[column] = f"{stage_number(column)}.{names[column]}"
    parts = [[f"{names[c]}={_safe(v)}" for v in columns[c]] for c in columns]
    labels = [",".join(of) for of in zip(*parts, strict=True)] or ["point"] * n_points
    return [
        label
        if len(label) <= MAX_LABEL and labels.count(label) == 1
        else f"{i:03d}-{label[:60]}"
        for i, label in enumerate(labels, 1)
    ]


def _safe(value):
    """A value as part of a file's name."""
    if isinstance(value, list):
        return "+".join(map(_safe, value)) or "none"
    text = slug(value) if isinstance(value, str) and "/" in value else str(value)
    return re.sub(r"[^A-Za-z0-9.+_-]+", "_", text) or "none"


def _no_twins(points, path):
    """No two points find the same."""
    seen = {}
    for point in points:
        found = [
            [stage, name, value]
            for stage, values in point.values.items()
            for name, value in values.items()
            if name not in params.EXECUTION_KNOBS
        ]
        twin = seen.setdefault(json.dumps(found, sort_keys=True), point.label)
        if twin != point.label:
            what = {c: as_text(v) for c, v in point.columns.items()}
            raise ParamError(
                f"{path}: two points are the same: {twin} and {point.label} ({what}). "
                "Delete one."
            )
