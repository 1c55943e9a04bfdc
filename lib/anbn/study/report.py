"""A study as one page to share: ``make report``.

Everything on the page comes from the manifests, figures and notebooks of the stages
that have run; nothing is computed anew, and nothing is fetched when it is opened.
"""

import argparse
import base64
import io
import re
import sys
from pathlib import Path

import jinja2
from markupsafe import Markup, escape
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

TEMPLATE = "report.html.j2"


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
    folders = {stage: stage_dir(study, stage) for stage in notebooks.names()}
    manifests = {
        stage: artifacts.read_manifest(out)
        for stage, out in folders.items()
        if (out / artifacts.MANIFEST).is_file()
    }
    folder = stage_dir(study, "")
    if not manifests:
        raise artifacts.ArtifactError(
            f"nothing to report: no stage of study {study!r} has run ({folder}). "
            f"Run `make all STUDY={study}`."
        )
    text, missing = methods.describe(manifests)
    keys = references.cited([p for stage in text.values() for _, p in stage])
    entries = references.load_bibliography()
    numbers = {key: i + 1 for i, key in enumerate(keys)}
    current = report_checks.of_currency(study, manifests)
    stages = [
        _stage(stage, folders[stage], manifest, current[stage], missing[stage])
        for stage, manifest in manifests.items()
    ]
    html = (
        _environment()
        .get_template(TEMPLATE)
        .render(
            study=study,
            warnings=report_checks.of_study(study, manifests),
            stages=stages,
            absent=_absent(study, folders, manifests),
            facts=_facts(manifests),
            methods=[
                (stage["number"], stage["title"], _cite(text[stage["name"]], numbers))
                for stage in stages
            ],
            missing={
                stage_number(stage): names for stage, names in missing.items() if names
            },
            references=[references.describe(entries[key]) for key in keys],
            provenance=_provenance(manifests),
            parameters={s: _parameters(s, m) for s, m in manifests.items()},
            files={stage: sorted(m["files"].items()) for stage, m in manifests.items()},
        )
    )
    with artifacts.atomic(folder / "report.bib") as temporary:
        bibtex = "\n\n".join(entries[key]["bibtex"] for key in keys)
        temporary.write_text(bibtex + "\n", encoding="utf-8")
    with artifacts.atomic(folder / "report.html") as temporary:
        temporary.write_text(html, encoding="utf-8")
    return folder / "report.html", manifests


def _environment():
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    options = {"trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, **options
    )
    environment.filters |= {
        "readable_name": wording.summary_name,
        "readable_number": wording.number,
        "readable_value": wording.value,
    }
    return environment


def _stage(stage, out, manifest, current, missing):
    """What the page shows of one stage."""
    cells = report_notebook.cells_of(out)
    title, question = report_notebook.title_and_question(cells)
    groups, lost = _figures(out, manifest, report_notebook.figures(cells))
    stderr = report_notebook.warnings(cells)
    warnings = current + report_checks.of_stage(manifest, stderr, missing) + lost
    views = [n for n in manifest["files"] if n.startswith("figures/")]
    views = [n for n in views if n.endswith(".html") and (out / n).is_file()]
    return {
        "name": stage,
        "number": stage_number(stage),
        "title": title,
        "question": question,
        "simulated": manifest["simulated"],
        "seconds": manifest.get("seconds"),
        "summary": manifest["summary"],
        "warnings": warnings,
        "groups": groups,
        "links": [
            (f"{stage}/{name}", what)
            for name, what in {
                "notebook.html": "notebook, to read",
                "notebook.ipynb": "notebook, to run",
            }.items()
            if (out / name).is_file()
        ],
        "views": [(f"{stage}/{n}", Path(n).stem.replace("_", " ")) for n in views],
    }


def _figures(out, manifest, groups):
    """Figures whose files are the ones the manifest lists; complaints on the others."""
    written = [Path(name) for name in manifest["files"]]
    names = [
        p.stem for p in written if p.parent.name == "figures" and p.suffix == ".png"
    ]
    known = {name for of_cell, _ in groups for name in of_cell}
    rest = [name for name in names if name not in known]
    groups = [*groups, *([(rest, Markup(""))] if rest else [])]
    shown, lost = [], []
    for of_cell, text in groups:
        images = []
        for name in of_cell:
            listed = manifest["files"].get(f"figures/{name}.png")
            path = out / "figures" / f"{name}.png"
            if listed is None:
                continue  # a figure that only other parameters give
            if not path.is_file() or artifacts.sha256(path) != listed["sha256"]:
                lost.append(
                    f"The figure {name} is missing, or is not the file the stage "
                    "wrote: it is left out here."
                )
                continue
            images.append(_image(path))
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
        "name": path.stem,
        "title": title or name[0].upper() + name[1:],
        "width": width,
        "height": height,
        "data": base64.b64encode(data).decode("ascii"),
    }


def _absent(study, folders, manifests):
    there = notebooks.of_study(study)
    return [
        {
            "name": stage,
            "why": report_checks.not_run(study, stage, out),
            "failed": (out / "failed.ipynb").is_file(),
        }
        for stage, out in folders.items()
        if stage not in manifests
        and (stage in there or (out / "failed.ipynb").is_file())
    ]


def _facts(manifests):
    """Model, story and BOLD at a glance, as pairs of a name and what it is."""
    facts = []
    first = manifests.get("01_activation_recording")
    second = manifests.get("02_fbn_extraction")
    if first:
        p, timing = first["params"], " (simulated word times)" * first["simulated"]
        facts += [
            ("Model", wording.source(p.get("model", "–"))),
            ("Neurons", wording.value(p.get("kinds", "–"))),
            ("Story", wording.source(p.get("story", "–")) + timing),
        ]
    if second:
        known = {"simulated": "simulated", "alice": "Alice in Wonderland, real"}
        known |= {"bids": "BIDS derivatives", "files": "files"}
        bold = second["params"].get("bold", "–")
        people = second["summary"].get("n_subjects")
        of = f", {wording.plural(people, 'subject')}" if people else ""
        facts.append(("BOLD", known.get(bold, str(bold)) + of))
    return facts


def _cite(paragraphs, numbers):
    """Paragraphs as HTML with links to the references; all text is escaped."""
    found = []
    for heading, text in paragraphs:
        html = Markup("")
        for part, keys in references.split(text, numbers):
            links = Markup(", ").join(
                Markup('<a href="#ref-{0}">{0}</a>').format(n) for n in keys
            )
            html += escape(part) + (Markup("[{}]").format(links) if keys else "")
        found.append((heading, html))
    return found


def _provenance(manifests):
    """Rows of versions: a name and, for every stage, what it was made with."""
    made = [m.get("provenance") or {} for m in manifests.values()]
    rows = [(what, [m.get(what) for m in made]) for what in ("commit", "python")]
    rows.append(("platform", [m.get("platform") for m in made]))
    packages = [m.get("packages", {}) for m in made]
    for name in sorted({name for found in packages for name in found}):
        rows.append((name, [found.get(name) for found in packages]))
    seconds = [m.get("seconds") for m in manifests.values()]
    return [*rows, ("seconds it took", seconds)]


def _parameters(stage, manifest):
    """Rows of a stage's parameters: name, value, whether the default, meaning."""
    try:
        declared = params.declared(stage)
    except (params.ParamError, OSError):
        declared = {}
    order = [name for name in declared if name in manifest["params"]]
    order += [name for name in manifest["params"] if name not in declared]
    rows = []
    for name in order:
        if name == "study":
            continue
        value, known = manifest["params"][name], declared.get(name)
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
