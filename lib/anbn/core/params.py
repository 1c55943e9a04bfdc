"""Parameters of a stage: read from YAML, checked against the notebook's own cell.

The notebook's ``parameters`` cell is the one declaration: a name, a type, a default and
a comment. The comment may end in a range, ``(0.1 to 20)``, or ``(one of spm, glover)``.
"""

import ast
import difflib
import io
import re
import reprlib
import sys
import tokenize
from dataclasses import dataclass

import yaml

from anbn.core.paths import project_root

# Change where a stage is written, how fast it runs or whether a widget is shown, never
# what it finds: not part of its fingerprint.
EXECUTION_KNOBS = ("study", "device", "batch_size", "n_jobs", "widgets")

# What parameters of earlier versions became, by stage.
REPLACED = {
    "02_fbn_extraction": {
        "n_permutations": "n_draws_null (surrogates of every null)",
        "n_draws": "n_bootstrap (people drawn with replacement); surrogates are "
        "n_draws_null",
        "n_repeats": "n_bootstrap (people drawn with replacement)",
        "n_nulls": "n_null_sets (data sets that share nothing)",
        "bootstrap": "n_bootstrap, n_halves and n_null_sets: people are drawn",
        "min_stability": "only_stable: stable is what people that share nothing do not "
        "reach, not a number",
        "dictionary_alpha": "dictionary_penalty",
    },
    "02b_model_networks": {
        "alpha": "membership_threshold (a z, a percentage or a rate, as membership "
        "says)",
        "sample_tokens": "slice_tokens",
    },
    "03_an_bn_coupling": {
        "n_permutations": "n_draws (surrogates for the group)",
        "n_permutations_subject": "n_draws_subject",
    },
    "03b_functional_organisation": {
        "n_permutations_atoms": "n_draws_atoms",
        "n_permutations_encoding": "n_draws_encoding",
        "n_shifts": "n_lags (evenly spaced lags of the story, for the table)",
        "shift": "n_lags (evenly spaced lags of the story, for the table) and "
        "n_draws_encoding (random ones, for the test)",
        "atom_alpha": "atom_penalty",
    },
    "04_key_neuron_masking": {
        "min_stability": "nothing: the source `stable` takes the networks that stage "
        "02b found stable (its n_bootstrap, n_halves, n_null_sets)",
        "n_draws_actions": "n_draws, of what is kept and amplified, too",
    },
    "04b_keep_amplify_tasks": {
        "keep_alpha": "keep_z_threshold",
        "n_task_draws": "n_draws_tasks",
    },
}

# Notebooks that were divided, or whose parameters others share now.
SPLIT = {
    "02_fbn_extraction": ["02b_model_networks"],
    "03_an_bn_coupling": ["03b_functional_organisation"],
    "04_key_neuron_masking": ["04b_keep_amplify_tasks"],
    "05_cutting_out": ["04c_cutting_out", "04d_fingerprint"],
}

# Values that were choices once, and what took their place.
GONE = {
    "null_method": {
        "runs": "Take shift, which rolls every run of run_lengths on its own."
    },
}

_RANGE = re.compile(r"\((-?[\d.e+-]+) to (-?[\d.e+-]+)\)\s*$")
_CHOICES = re.compile(r"\(one of ([^)]+)\)\s*$")


class ParamError(ValueError):
    """A parameter is unknown, of the wrong type, or out of range."""


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell."""

    name: str
    type: str
    default: object
    comment: str

    @property
    def bounds(self):
        """(low, high) of a number, or None."""
        found = _RANGE.search(self.comment)
        return (float(found[1]), float(found[2])) if found else None

    @property
    def choices(self):
        """Allowed strings, or None."""
        found = _CHOICES.search(self.comment)
        return [c.strip() for c in found[1].split(",")] if found else None


def notebook_path(stage):
    """The py:percent file of a stage."""
    return project_root() / "notebooks" / f"{stage}.py"


def declared(stage):
    """Parameters a notebook declares.

    Returns
    -------
    parameters : dict of str to Parameter
        In the order of the cell.

    Raises
    ------
    ParamError
        If the notebook has no parameters cell, or a line is not ``name: type = value``.
    """
    path = notebook_path(stage)
    cells = re.split(r"(?m)^# %%", path.read_text(encoding="utf-8"))
    cells = [c for c in cells if 'tags=["parameters"]' in c.split("\n", 1)[0]]
    if len(cells) != 1:
        raise ParamError(
            f"{path}: expected one cell tagged parameters, found {len(cells)}"
        )
    source = cells[0].split("\n", 1)[1]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string for t in tokens if t.type == tokenize.COMMENT}
    parameters = {}
    for node in ast.parse(source).body:
        if not isinstance(node, ast.AnnAssign):
            raise ParamError(
                f"{path}: the parameters cell must hold only `name: type = value` "
                f"lines, found {ast.unparse(node)!r}"
            )
        comment = comments.get(node.end_lineno, "#").lstrip("# ").strip()
        name, kind = node.target.id, ast.unparse(node.annotation)
        default = ast.literal_eval(node.value)
        parameters[name] = Parameter(name, kind, default, comment)
    return parameters


def check(parameter, value, source):
    """Check one value; whole floats pass for integers and integers for floats.

    Returns
    -------
    value : object
        The value, as the declared type.

    Raises
    ------
    ParamError
        Names the source, the parameter, what was found and what was expected.
    """
    name, kind = parameter.name, parameter.type
    inner = kind.removeprefix("list[").removesuffix("]")
    if kind.startswith("list["):
        if not isinstance(value, list):
            raise ParamError(
                f"{source}: {name} must be a list of {inner}, found {short(value)}. "
                f"Write `{name}: [...]`."
            )
        return [_check_one(parameter, inner, v, source) for v in value]
    if kind == "dict[str, str]":
        pairs = value.items() if isinstance(value, dict) else [(None, None)]
        if not all(isinstance(x, str) for pair in pairs for x in pair):
            raise ParamError(
                f"{source}: {name} must map text to text, found {short(value)}. "
                f'Write `{name}: {{name: "value"}}`, numbers in quotes.'
            )
        for text in [x for pair in pairs for x in pair]:
            _check_text(text, f"{source}: {name}")
        return value
    return _check_one(parameter, kind, value, source)


def _check_one(parameter, kind, value, source):
    name, where = parameter.name, f"{source}: {parameter.name}"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and not abs(value) <= sys.float_info.max:  # also true of NaN
        raise ParamError(f"{where} must be a finite number, found {short(value)}")
    if kind == "float" and is_number:
        value = float(value)
    elif kind == "int" and is_number and float(value).is_integer():
        value = int(value)
    elif type(value).__name__ != kind:
        hint = ""
        if kind == "float" and isinstance(value, str):
            hint = " YAML reads 1e-3 as text: write 1.0e-3."
        raise ParamError(
            f"{where} must be {kind}, found {short(value)} ({type(value).__name__})."
            + hint
        )
    if kind == "str":
        _check_text(value, where)
    if parameter.bounds and is_number:
        low, high = parameter.bounds
        if not low <= value <= high:
            raise ParamError(
                f"{where} must lie in {low:g} to {high:g}, found {value!r}. "
                f"({parameter.comment})"
            )
    if value in GONE.get(name, {}):
        raise ParamError(
            f"{where}: {value!r} is no longer offered. {GONE[name][value]}"
        )
    if parameter.choices and value not in parameter.choices:
        raise ParamError(
            f"{where} must be one of {', '.join(parameter.choices)}, found {value!r}"
            + did_you_mean(value, parameter.choices)
        )
    if name == "study" and not re.fullmatch(r"[A-Za-z0-9_-]+", value):
        raise ParamError(f"{where} must hold only letters, digits, _ and -: {value!r}")
    return value


def _check_text(value, where):
    """Refuse what cannot stand in a file or its name: NUL and half a character."""
    if re.search(r"[\0\ud800-\udfff]", value):
        raise ParamError(f"{where} holds characters that are no text: {short(value)}")


def short(value):
    """What was found: a few lines of YAML may stand for more than fits the memory."""
    short = reprlib.Repr()
    short.maxstring, short.maxlevel = 100, 2
    try:
        return short.repr(value)
    except ValueError:  # Python does not print integers of thousands of digits
        return f"a {type(value).__name__} with a number of thousands of digits"


def load_yaml(path):
    """What a YAML file holds.

    Raises
    ------
    ParamError
        If it cannot be read, or a key stands twice in a block: the last would win.
    """
    try:
        text = path.read_text(encoding="utf-8")
        twice = _key_twice(yaml.compose(text, yaml.SafeLoader), set())
        if twice:
            raise ValueError(f"{twice!r} stands twice in one block")
        return yaml.safe_load(text)
    except Exception as error:  # of dates that are none yaml raises all there is
        raise ParamError(f"{path} is not readable as YAML: {error}") from error


def _key_twice(node, seen):
    """The first key that stands twice in a block; None if none does."""
    if id(node) in seen or not isinstance(node, yaml.CollectionNode):
        return None
    seen.add(id(node))  # one that is referred to again is not looked at again
    inner = node.value
    if isinstance(node, yaml.MappingNode):
        keys = [str(key.value) for key, _ in node.value]
        twice = [key for i, key in enumerate(keys) if key in keys[:i]]
        if twice:
            return twice[0]
        inner = [value for _, value in node.value]
    return next(filter(None, (_key_twice(one, seen) for one in inner)), None)


def studies():
    """Names of the studies there are."""
    folder = project_root() / "params"
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name != "sweeps")


def read(study, stage):
    """All parameters of a stage: the notebook's defaults, changed by the study's YAML.

    Raises
    ------
    ParamError
        Unknown study, unreadable YAML, unknown key, wrong type or value out of range.
    """
    path = project_root() / "params" / study / f"{stage}.yaml"
    if not path.is_file():
        there = studies()
        raise ParamError(
            f"no file {path}: there is no stage {stage!r} of a study {study!r}. "
            f"Studies here: {', '.join(there)}" + did_you_mean(study, there)
        )
    given = load_yaml(path)
    given = {} if given is None else given
    if not isinstance(given, dict):
        raise ParamError(f"{path} must hold `name: value` lines, found {short(given)}")
    parameters = declared(stage)
    for name in given:
        if name not in parameters:
            raise ParamError(
                f"{path}: unknown parameter {short(name)}"
                + hint(stage, name, list(parameters))
                + f". Known: {', '.join(parameters)}"
            )
    given.setdefault("study", study)
    if given["study"] != study:
        raise ParamError(
            f"{path}: study must be {study!r}, found {short(given['study'])}"
        )
    return {
        name: check(parameter, given.get(name, parameter.default), path)
        for name, parameter in parameters.items()
    }


def current(stage, namespace):
    """Check and collect the parameters as they stand in a running notebook.

    Parameters
    ----------
    stage : str
    namespace : dict
        The notebook's ``globals()``.

    Returns
    -------
    values : dict
    """
    return {
        name: check(parameter, namespace[name], f"notebook {stage}")
        for name, parameter in declared(stage).items()
    }


def hint(stage, name, known):
    """What an unknown parameter of a stage became, or what it may have meant."""
    for place in (stage, *SPLIT.get(stage, ())):
        if name in REPLACED.get(place, {}):
            where = f", in {place}" * (place != stage)
            return f": it was replaced by {REPLACED[place][name]}{where}"
    others = _declaring(name, SPLIT.get(stage, ()))
    if others:
        return f": it is a parameter of {' and '.join(others)} now; move it there"
    return did_you_mean(name, known)


def _declaring(name, stages):
    """Those of these notebooks, where they are there, that declare a parameter."""
    there = [stage for stage in stages if notebook_path(stage).is_file()]
    return [stage for stage in there if name in declared(stage)]


def check_files(study):
    """Every file of a study's parameters is that of a notebook there is.

    Raises
    ------
    ParamError
        Names the file, and of a notebook that there once was, where each of its keys
        belongs now.
    """
    for path in sorted((project_root() / "params" / study).glob("*.yaml")):
        if notebook_path(path.stem).is_file():
            continue
        if path.stem not in SPLIT:
            known = [p.stem for p in notebook_path("[0-9]*").parent.glob("[0-9]*.py")]
            raise ParamError(
                f"{path} is of no notebook: there is no notebooks/{path.stem}.py"
                + did_you_mean(path.stem, sorted(known))
            )
        given = load_yaml(path) or {}
        rows = [f"  {name}{_new_place(path.stem, name)}" for name in given]
        raise ParamError(
            f"{path} is of an earlier version: {path.stem} became "
            f"{' and '.join(SPLIT[path.stem])}. Put each line into the files of these "
            "beside it, and delete this one:\n" + "\n".join(rows)
        )


def apart(study):
    """How a study sets notebooks apart that share parameters, once one, in words.

    Returns
    -------
    notes : list of str
        A line for each notebook that has no file beside that of its first part, and for
        each parameter that is set in one of two files and left alone in the other.
    """
    folder, notes = project_root() / "params" / study, []
    for first, others in SPLIT.items():
        if not (folder / f"{first}.yaml").is_file():
            continue
        given = load_yaml(folder / f"{first}.yaml") or {}
        for other in others:
            path = folder / f"{other}.yaml"
            if not path.is_file():
                notes.append(f"no file {path}: {other} is not run")
                continue
            of_other = load_yaml(path) or {}
            for name, parameter in declared(other).items():
                left = name in given and name not in of_other
                if left and name not in EXECUTION_KNOBS:
                    if given[name] != parameter.default:
                        notes.append(
                            f"{name} is {short(given[name])} in {first}.yaml; "
                            f"{other}.yaml leaves it at {short(parameter.default)}"
                        )
    return notes


def _new_place(stage, name):
    """Where a key of a notebook that is gone belongs, in words."""
    if name in REPLACED.get(stage, {}):
        return f": {REPLACED[stage][name]}"
    there = _declaring(name, SPLIT[stage])
    return f": {' and '.join(there)}" if there else ": nowhere, delete it"


def did_you_mean(found, known):
    """A hint at the known name that is most alike, or nothing."""
    close = difflib.get_close_matches(short(found)[:100].strip("'"), known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
