"""Documents for contributors say what is there."""

import ast
import importlib
import re
import subprocess
import tomllib

import pytest
import yaml

from anbn.core import params, params_docs
from anbn.study import notebooks

ROOT = params.project_root()


def test_params_readme_is_current():
    found = (ROOT / "params" / "README.md").read_text(encoding="utf-8")
    assert found == params_docs.document(), "run `make docs`"


@pytest.mark.parametrize("stage", notebooks.names())
def test_every_parameter_has_a_row_of_five_cells(stage):
    section = params_docs.document().split(f"## {stage}\n")[1].split("\n## ")[0]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in section.splitlines() if line]
    assert all(len(row) == 5 for row in rows)
    declared = params.declared(stage)
    assert [row[0].strip(" `") for row in rows[2:]] == list(declared)
    for (_, kind, _, allowed, meaning), p in zip(
        rows[2:], declared.values(), strict=True
    ):
        assert kind.strip(" `") == p.type
        assert meaning.strip() and not re.search(r"\((one of|\S+ to \S+\))", meaning)
        assert bool(allowed.strip()) == bool(p.bounds or p.choices)


def test_contributing_names_what_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path, test in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text):
        assert f"def {test}(" in (ROOT / path).read_text() or not test, (path, test)
    names = re.findall(r"`([a-z_]+)\.([A-Za-z_]+)`", text)
    names = [n for n in names if n[1] not in ("py", "md", "yml", "toml", "safe_load")]
    assert len(names) > 15
    for module, name in names:
        (path,) = (ROOT / "lib" / "anbn").glob(f"*/{module}.py")
        package = path.parent.name
        found = importlib.import_module(f"anbn.{package}.{module}")
        assert hasattr(found, name), (package, module, name)
    for target in re.findall(r"\bmake ([a-z-]+)", text):
        assert re.search(
            rf"(?m)^(\S+ )*{target}( \S+)*:", (ROOT / "Makefile").read_text()
        )


def test_docstrings_and_comments_name_what_is_there():
    """Whatever stands as ``module.name`` is a name of a module of the library."""
    names = {}
    for path in (ROOT / "lib" / "anbn").glob("*/*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = {n.name for n in tree.body if hasattr(n, "name")}
        for node in tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign):
                found |= {x.id for x in ast.walk(node) if isinstance(x, ast.Name)}
        names.setdefault(path.stem, set()).update(found)
    wrong, n_found = [], 0
    # ends of files, and a transpose
    no_names = {
        "bib",
        "csv",
        "html",
        "json",
        "npy",
        "npz",
        "parquet",
        "py",
        "tsv",
        "txt",
    }
    no_names |= {"T", "yaml"}
    sources = [*(ROOT / "lib").rglob("*.py"), *(ROOT / "notebooks").glob("*.py")]
    for path in sources:
        text = path.read_text(encoding="utf-8")
        for module, name in re.findall(
            r"`(?:[a-z]+\.)*([a-z_]+)\.([A-Za-z_]\w*)", text
        ):
            if module in names and name not in no_names:
                n_found += 1
                if name not in names[module]:
                    wrong.append(f"{path}: {module}.{name}")
    assert not wrong and n_found > 100


def documented(docstring):
    """Names in the section Parameters of a numpy docstring."""
    section = re.split(r"\n\w+\n-{4,}\n", docstring.split("Parameters\n---", 1)[1])[0]
    lines = [x for x in section.splitlines()[1:] if x and not x.startswith(" ")]
    return {name.strip(" *") for x in lines for name in x.split(" : ")[0].split(",")}


def test_docstrings_name_the_parameters_of_their_functions():
    n_found = 0
    for path in (ROOT / "lib" / "anbn").glob("*/*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            docstring = isinstance(node, ast.FunctionDef) and ast.get_docstring(node)
            if not docstring or "Parameters\n---" not in docstring:
                continue
            a = node.args
            every = [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]
            names, told = {x.arg for x in every if x}, documented(docstring)
            where = f"{path.name}: {node.name}"
            assert told <= names, f"{where} has no {told - names}"
            if "The rest as for" not in docstring:
                assert names <= told, f"{where} does not say what {names - told} is"
            n_found += 1
    assert n_found > 250


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert citation["version"] == project["version"]
    versions = re.findall(r"(?m)^## (.+)$", changes)
    assert versions[0] == "Unreleased"
    assert versions[1].startswith(f"{project['version']} - ")
    assert all(
        re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", v) for v in versions[1:]
    )


def test_citation_is_whole():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    for entry in (citation, *citation["references"]):
        assert entry["title"] and entry["authors"]
        for author in entry["authors"]:
            assert set(author) & {"name", "family-names"}
    for reference in citation["references"]:
        assert {"type", "year", "url"} <= set(reference)


def test_no_registry_stands_in_the_npm_lock():
    """Names of hosts differ between machines; the hash decides."""
    lock = (ROOT / "tests" / "report_a11y" / "package-lock.json").read_text()
    assert "http" not in lock and "sha512-" in lock


def test_the_report_is_shipped_with_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    setuptools = project["tool"]["setuptools"]
    packages = {p: ROOT / "lib" / p.replace(".", "/") for p in setuptools["packages"]}
    folders = {p.parent for p in (ROOT / "lib" / "anbn").rglob("*.py")}
    assert set(packages.values()) == folders
    shipped = {
        file
        for package, patterns in setuptools["package-data"].items()
        for pattern in patterns
        for file in packages[package].glob(pattern)
    }
    there = (p for p in (ROOT / "lib" / "anbn").rglob("*") if p.is_file())
    beside = {p for p in there if p.suffix not in (".py", ".pyc")}
    assert len(beside) >= 4 and beside <= shipped


def test_make_lists_the_targets():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True)
    assert "make report" in done.stdout and "make docs" in done.stdout
