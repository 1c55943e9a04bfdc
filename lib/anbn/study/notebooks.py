"""The stages of a study: which notebooks there are, and what each of them reads.

A stage is a notebook that begins one: ``notebooks/06_mine.py`` is, if it calls
``artifacts.begin_stage(study, "06_mine")``. What it reads of earlier stages is what its
calls of ``artifacts.stage_inputs(study, "01_activation_recording")`` say. A call inside
an ``if`` is of a stage that it can do without: it is read in studies that have
parameters for it.
"""

import ast
import functools
from string import ascii_lowercase as LETTERS

from anbn.core.params import ParamError
from anbn.core.paths import project_root, stage_number


def names():
    """Names of all stages, in order."""
    return list(inputs())


def inputs():
    """All stages, in the order of their names, each with what it reads.

    Returns
    -------
    inputs : dict of str to dict of str to bool
        By stage: the stages it reads, and whether it needs them.

    Raises
    ------
    ParamError
        If a notebook begins a stage that is not called like its file, or by the number
        of another one, or reads one that is not there, does not come before it, or is
        not named in quotes.
    """
    found = {}
    for path in sorted((project_root() / "notebooks").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "begin_stage(" not in text:
            continue
        try:
            begun, reads = _calls(text)
        except (SyntaxError, ValueError) as error:
            raise ParamError(f"{path}: {error}") from error
        if not begun:
            continue
        other = next((stage for stage in begun if stage != path.stem), None)
        if other:
            raise ParamError(
                f"{path} begins the stage {other!r}: a stage is called like its "
                f"file. Write begin_stage(study, {path.stem!r})."
            )
        number = stage_number(path.stem)
        for other in found:
            if stage_number(other) == number:
                raise ParamError(
                    f"{path}: {number} is the stage {other} already, and numbers of "
                    "stages tell them apart. Call it by another one."
                )
        for name in reads:
            if name not in found:
                raise ParamError(
                    f"{path} reads the stage {name!r}, which is not before it: "
                    f"{', '.join(found) or 'nothing'} is."
                )
        found[path.stem] = reads
    return found


@functools.cache  # a sweep asks for the same text many times
def _calls(text):
    """Stages that a notebook begins, and those that it reads and whether it needs them.

    Only calls whose first argument is the notebook's own ``study`` count.
    """
    begun, reads = [], {}

    def look(node, needed):
        function = _called(node)
        if function in ("begin_stage", "stage_inputs"):
            given = dict(zip(("study", "stage"), node.args, strict=False))
            given |= {keyword.arg: keyword.value for keyword in node.keywords}
            study, stage = given.get("study"), given.get("stage")
            if isinstance(study, ast.Name) and study.id == "study":
                if not isinstance(stage, ast.Constant):
                    raise ValueError(
                        f"line {node.lineno}: {function} must name a stage in "
                        "quotes, so that it is known before the notebook runs"
                    )
                if function == "begin_stage":
                    begun.append(stage.value)
                else:
                    reads[stage.value] = reads.get(stage.value, False) or needed
        for child in ast.iter_child_nodes(node):
            look(child, needed and not isinstance(node, ast.If | ast.IfExp))

    look(ast.parse(text), True)
    return begun, reads


def _called(node):
    """Name of the function that a node calls, without its module; None for others."""
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else None


def called(name, there):
    """Stages that a short or full name asks for.

    Parameters
    ----------
    name : str
        ``"03"`` for all of that number (03 and 03b), ``"03b"`` or a full name for one.
    there : list of str
        Stages that the study has: a number asks for no others beside its own.

    Returns
    -------
    stages : list of str
        None, if nothing is called so.
    """
    every = names()
    own = [stage for stage in every if name in (stage, stage_number(stage))]
    beside = [s for s in there if stage_number(s).rstrip(LETTERS) == name]
    return [stage for stage in every if stage in own + beside]


def of_study(study):
    """Stages that a study has parameters for; all, if it has none at all."""
    folder = project_root() / "params" / study
    every = names()
    return [s for s in every if (folder / f"{s}.yaml").is_file()] or every


def needed(study, stages):
    """Stages to run for these, in order, each with the stages it reads.

    Returns
    -------
    reads : dict of str to list of str
    """
    there = of_study(study)
    reads = {
        stage: [name for name, is_needed in each.items() if is_needed or name in there]
        for stage, each in inputs().items()
    }
    wanted = set(stages)
    for stage in reversed(reads):
        wanted |= set(reads[stage]) if stage in wanted else set()
    return {stage: read for stage, read in reads.items() if stage in wanted}
