"""Documentation of every parameter: ``make docs`` writes ``params/README.md``."""

import json
import re

from anbn.core import artifacts, params
from anbn.core.paths import project_root

HEAD = """# Parameters

Made by `make docs` from the notebooks' parameter cells; do not edit.

A study is a folder here, with a flat YAML file for each stage: `name: value` lines.
What a file leaves out has the default below. An unknown name, a wrong type or a value
out of range is an error before anything runs. Files and folders are named as
`package:name/inner/path` (in an installed Python package), `alice:...`,
`narratives:...`, `openneuro:ds000001/...`, `data:...` (in `$ANBN_DATA`), or by a path
that is absolute or relative to the project.

{knobs} change where or how fast a stage runs, never its result.
"""


def document():
    """The whole document, as Markdown."""
    knobs = {n for s in _notebooks() for n in params.declared(s)}
    knobs = [f"`{name}`" for name in params.EXECUTION_KNOBS if name in knobs]
    head = HEAD.format(knobs=" and ".join([", ".join(knobs[:-1]), knobs[-1]]))
    return "\n".join([head, *map(_section, _notebooks())])


def _notebooks():
    folder = project_root() / "notebooks"
    return [path.stem for path in sorted(folder.glob("[0-9]*.py"))]


def _section(stage):
    rows = [
        f"## {stage}",
        "",
        "| name | type | default | allowed | meaning |",
        "|---|---|---|---|---|",
    ]
    for parameter in params.declared(stage).values():
        default = json.dumps(parameter.default, ensure_ascii=False)
        cells = [f"`{parameter.name}`", f"`{parameter.type}`", f"`{default}`"]
        cells += [_allowed(parameter), _meaning(parameter)]
        rows.append(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        )
    return "\n".join([*rows, ""])


def _allowed(parameter):
    if parameter.choices:
        return ", ".join(f"`{choice}`" for choice in parameter.choices)
    found = re.search(r"\((\S+ to \S+)\)\s*$", parameter.comment)
    return found[1] if found else ""


def _meaning(parameter):
    return re.sub(r"\s*\((?:one of [^)]*|\S+ to \S+)\)\s*$", "", parameter.comment)


def main():
    path = project_root() / "params" / "README.md"
    with artifacts.atomic(path) as temporary:
        temporary.write_text(document(), encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
