"""A study as one page to share: ``make report``.

Everything on the page comes from the manifests, figures and notebooks of the stages
that have run; nothing is computed anew, and nothing is fetched when it is opened. How
it looks, and most of its words, stand in ``report.html.j2``.
"""

import argparse
import base64
import functools
import io
import re
import sys
from pathlib import Path

import jinja2
from markupsafe import Markup
from PIL import Image

from anbn.core import artifacts, params
from anbn.core.paths import stage_dir, stage_number
from anbn.study import (
    methods,
    notebooks,
    references,
    report_checks,
    report_notebook,
    wording,
)


def headlines(study, manifests):
    """Headline numbers of every stage, as lines to print."""
    for stage in notebooks.names():
        if stage in manifests:
            simulated = " (simulated data)" * manifests[stage]["simulated"]
            yield f"{study}/{stage}{simulated}"
            for name, value in sorted(manifests[stage]["summary"].items()):
                yield f"  {name:34} {value}"
        elif stage in notebooks.of_study(study):
            yield f"{study}/{stage}: has not run"


def write(study):
    """Write a study's ``report.html`` and ``report.bib``.

    Returns
    -------
    path : Path
        Of the page.
    manifests : dict of str to dict
        What it was made from.

    Raises
    ------
    ArtifactError
        If no stage has run, or a manifest or notebook is damaged.
    """
    folder = stage_dir(study, "")
    folders = {stage: stage_dir(study, stage) for stage in notebooks.names()}
    manifests = {
        stage: artifacts.read_manifest(out)
        for stage, out in folders.items()
        if (out / artifacts.MANIFEST).is_file()
    }
    if not manifests:
        raise artifacts.ArtifactError(
            f"nothing to report: no stage of study {study!r} has run ({folder}). "
            f"Run `make all STUDY={study}`."
        )
    text, missing = methods.describe(manifests)
    current = report_checks.of_currency(study, manifests)
    stages = [
        _stage(folders[stage], manifest, current[stage], missing[stage])
        | {"methods": text[stage], "missing": missing[stage]}
        for stage, manifest in manifests.items()
    ]
    bibliography = references.load_bibliography()
    cited = references.cited([p for of_stage in text.values() for _, p in of_stage])
    keys = [key for key in cited if key in bibliography]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        extensions=["jinja2.ext.do"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("listed", "number", "plural", "source", "summary_name", "value"):
        environment.filters[name] = getattr(wording, name)
    environment.filters["linked"] = functools.partial(references.linked, keys=keys)
    html = environment.get_template("report.html.j2").render(
        study=study,
        manifests=manifests,
        stages=stages,
        absent=_absent(study, folders, manifests),
        references=[references.describe(bibliography[key]) for key in keys],
        provenance=report_checks.provenance(manifests),
    )
    bibtex = "\n\n".join(bibliography[key]["bibtex"] for key in keys) + "\n"
    for name, content in {"report.bib": bibtex, "report.html": html}.items():
        with artifacts.atomic(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return folder / "report.html", manifests


def _stage(out, manifest, current, missing):
    """What the page shows of one stage."""
    cells = report_notebook.cells_of(out)
    title, question = report_notebook.title_and_question(cells)
    groups, lost = _figures(out, manifest, report_notebook.figures(cells))
    stderr = report_notebook.warnings(cells)
    views = [out / name for name in manifest["files"] if name.endswith(".html")]
    return {
        "name": out.name,
        "number": stage_number(out.name),
        "title": title,
        "question": question,
        "manifest": manifest,
        "warnings": current + report_checks.of_stage(manifest, stderr, missing) + lost,
        "groups": groups,
        "notebooks": [
            name
            for name in ("notebook.html", "notebook.ipynb")
            if (out / name).is_file()
        ],
        "views": [p.stem for p in views if p.parent.name == "figures" and p.is_file()],
        "parameters": _parameters(out.name, manifest["params"]),
    }


def _figures(out, manifest, groups):
    """Figures whose files are the ones the manifest lists; complaints on the others.

    Figures that only other parameters give are not listed; those that no cell names
    come last.
    """
    paths = [out / name for name in manifest["files"]]
    paths = {p.stem: p for p in paths if p.parent.name == "figures"}
    paths = {name: p for name, p in paths.items() if p.suffix == ".png"}
    known = {name for of_cell, _ in groups for name in of_cell}
    groups = [*groups, ([name for name in paths if name not in known], Markup(""))]
    shown, lost = [], []
    for of_cell, text in groups:
        images = []
        for name in of_cell:
            if name not in paths:
                continue
            path = paths[name]
            listed = manifest["files"][f"figures/{path.name}"]
            if path.is_file() and artifacts.sha256(path) == listed["sha256"]:
                images.append(_image(path))
            else:
                lost.append(
                    f"The figure {name} is missing, or is not the file the stage "
                    "wrote: it is left out here."
                )
        if images:
            shown.append({"images": images, "text": text})
    return shown, lost


def _image(path):
    data = path.read_bytes()
    with Image.open(io.BytesIO(data)) as picture:
        width, height = picture.size
        title = getattr(picture, "text", {}).get("Title", "")
    name = path.stem.replace("_", " ")
    return {
        "title": title or name[0].upper() + name[1:],
        "width": width,
        "height": height,
        "data": base64.b64encode(data).decode("ascii"),
    }


def _absent(study, folders, manifests):
    """Stages without results, and those of them that failed."""
    failed = [s for s, out in folders.items() if (out / "failed.ipynb").is_file()]
    expected = [*notebooks.of_study(study), *failed]
    return {
        stage: stage in failed
        for stage in folders
        if stage in expected and stage not in manifests
    }


def _parameters(stage, values):
    """Rows of a stage's parameters: name, value, whether the default, meaning."""
    try:
        declared = params.declared(stage)
    except (params.ParamError, OSError):
        declared = {}
    order = [name for name in declared if name in values]
    order += [name for name in values if name not in declared]
    rows = []
    for name in order:
        if name == "study":
            continue
        value, known = values[name], declared.get(name)
        changed = known is not None and value != known.default
        meaning = known.comment if known else "not a parameter of the present notebook"
        rows.append((name, value, changed, meaning))
    return rows


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m anbn.study.report", description=__doc__
    )
    parser.add_argument("study", help="a folder of params/")
    study = parser.parse_args(arguments).study
    try:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", study):
            raise params.ParamError(
                f"study must hold only letters, digits, _ and -: {study!r}"
            )
        path, manifests = write(study)
    except (artifacts.ArtifactError, params.ParamError, OSError) as error:
        sys.exit(f"error: {error}")
    print("\n".join(headlines(study, manifests)))
    print(f"\n{path}")


if __name__ == "__main__":
    main()
