"""A sweep's file, `params/sweeps/<name>.yaml`, read and checked key by key."""

import re

from anbn.core import params
from anbn.core.params import ParamError, short
from anbn.core.paths import project_root, stage_number, tidy
from anbn.study import notebooks

KEYS = ("study", "stages", "set", "grid", "points", "seeds", "subjects")
BRAIN = "02_fbn_extraction"
SUBJECTS = [(BRAIN, name) for name in ("n_subjects", "max_subjects", "subjects")]
PEOPLE = (BRAIN, "subjects of a sweep")  # which of them is known with the BOLD


def names():
    """Sweeps there are: name to the first line of comment in its file."""
    found = {}
    for path in tidy((project_root() / "params" / "sweeps").glob("*.yaml")):
        first = path.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]
        found[path.stem] = first.lstrip("# ")
    return found


def load_spec(name):
    path = project_root() / "params" / "sweeps" / f"{name}.yaml"
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or not path.is_file():
        there = list(names())
        raise ParamError(
            f"there is no sweep {name!r} (no file {path})"
            + params.did_you_mean(name, there)
            + f". Sweeps here: {', '.join(there) or 'none'}."
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


def known_study(study, path):
    there = params.studies()
    if study not in there:
        raise ParamError(
            f"{path}: study: there is no study {short(study)}"
            + params.did_you_mean(study, there)
            + f". Studies here: {', '.join(there)}."
        )


def stages(given, study, path):
    """Full names of the stages wanted."""
    there = notebooks.of_study(study)
    if given is None:
        return there
    if not isinstance(given, list) or not given:
        raise ParamError(
            f"{path}: stages must be a list that is not empty, found {short(given)}. "
            f'Write `stages: ["{stage_number(there[-1])}"]`.'
        )
    return [_stage(one, there, f"{path}: stages", study) for one in given]


def _stage(name, there, source, study):
    number = f"{name:02d}" if isinstance(name, int) else str(name)
    for stage in notebooks.names():
        if number in (stage, stage_number(stage)):
            if stage in there:
                return stage
            raise ParamError(
                f"{source}: stage {stage} is not run here"
                + (f": study {short(study)} has no parameters for it" if study else "")
                + f". There are {', '.join(there)}."
            )
    raise ParamError(
        f"{source}: unknown stage {short(name)}"
        + params.did_you_mean(number, notebooks.names())
        + f". Stages: {', '.join(notebooks.names())}."
    )


def _parameter(key, reads, source):
    """(stage, declared parameter) of a key such as `03_an_bn_coupling.n_atoms`."""
    stage, dot, name = str(key).partition(".")
    if not dot:
        raise ParamError(
            f"{source}: {key!r} must be <stage>.<parameter>, as {BRAIN}.seed"
        )
    stage = _stage(stage, list(reads), source, None)
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


def overrides(block, reads, source):
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


def axes(spec, reads, path):
    """What is combined: name -> list of {(stage, name): value}, in order."""
    axes = {}
    if "points" in spec:
        points = _filled(spec["points"], f"{path}: points")
        axes["points"] = [
            overrides(point, reads, f"{path}: points, number {i}")
            for i, point in enumerate(points, 1)
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
            _worth_it(parameter, f"{source}: {key}")
            if parameter.type.startswith("list[") and not all(
                isinstance(value, list) for value in values
            ):
                raise ParamError(
                    f"{source}: {key} is itself a list, so a grid of it is a list of "
                    f"lists, as [[{values[0]}], [...]]; found {short(values)}"
                )
            axes[f"grid: {key}"] = [
                overrides({key: value}, reads, source) for value in values
            ]
    if "seeds" in spec:
        source = f"{path}: seeds"
        stages = [s for s in reads if "seed" in params.declared(s)]
        axes["seeds"] = [
            overrides({f"{stage}.seed": seed for stage in stages}, reads, source)
            for seed in _filled(spec["seeds"], source)
        ]
    if "subjects" in spec:
        source = f"{path}: subjects"
        if BRAIN not in reads:
            raise ParamError(f"{source}: stage {BRAIN} is not run here")
        axes["subjects"] = [
            {PEOPLE: subjects} for subjects in _filled(spec["subjects"], source)
        ]
    return axes


def _filled(values, source):
    if not isinstance(values, list) or not values:
        raise ParamError(
            f"{source} must be a list that is not empty, found {short(values)}"
        )
    return values


def _worth_it(parameter, source):
    if parameter.name in params.EXECUTION_KNOBS:
        raise ParamError(
            f"{source}: {parameter.name} does not change what a stage finds: put it "
            "under set"
        )


def said_once(axes, path):
    """No parameter is given by two parts of a sweep."""
    said = {}
    for name, choices in axes.items():
        keys = {key for part in choices for key in part}
        if name == "subjects":
            keys = set(SUBJECTS)
        for key in keys:
            if key in said:
                raise ParamError(
                    f"{path}: {'.'.join(key)} is given twice: by {said[key]} and by "
                    f"{name}. Keep one."
                )
            said[key] = name
