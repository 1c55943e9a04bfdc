"""The rooms of the library: who may import whom, and how many there are in one."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LIB = TESTS.parent / "lib" / "anbn"
# A package may import those named here, directly. `study` runs notebooks and knows no
# science of theirs; it asks `text` and `brain` which files a study reads and fetches.
MAY_IMPORT = {
    "core": "",
    "stats": "core",
    "text": "core",
    "models": "core stats text",
    "networks": "core stats text models",
    "brain": "core stats text networks",
    "coupling": "core stats text models networks brain",
    "masking": "core stats text models networks brain",
    "study": "core text brain",
}


def imported(path):
    """Packages of anbn that a file imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            above = ["anbn", path.parent.name][: 3 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("anbn."):
                yield name.split(".")[1]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package):
    allowed = {package, *MAY_IMPORT[package].split()}
    files = list((LIB / package).glob("*.py"))
    wrong = {(f.name, other) for f in files for other in imported(f)}
    assert not {pair for pair in wrong if pair[1] not in allowed}
    assert 3 <= len(files) <= 33  # with __init__.py


def test_packages_are_these_and_say_what_they_are():
    folders = {p.name for p in LIB.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert folders == set(MAY_IMPORT)
    assert [p.name for p in LIB.glob("*.py")] == ["__init__.py"]
    for name in folders:
        tree = ast.parse((LIB / name / "__init__.py").read_text(encoding="utf-8"))
        assert len(tree.body) == 1 and ast.get_docstring(tree)


def test_tests_mirror_the_packages():
    for package in MAY_IMPORT:
        modules = {path.stem for path in (LIB / package).glob("*.py")}
        tests = list((TESTS / package).glob("test_*.py"))
        assert tests
        for path in tests:
            name = path.stem.removeprefix("test_")
            parts = [
                name,
                *(name.rsplit("_", k)[0] for k in range(1, name.count("_") + 1)),
            ]
            assert modules & set(parts), f"{path}: which module of {package} is tested?"
