"""environment.yml, pyproject.toml and the lock files agree."""

import re
import tomllib
from importlib.metadata import version

import pytest
import yaml
from packaging.requirements import Requirement

from anbn.core.paths import project_root

ROOT = project_root()
LOCKS = (
    "lock.txt",
    "lock-torch.txt",
    "lock-torch-cpu.txt",
    "lock-browser.txt",
    "data.txt",
)


def pip_section():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == "anbn"
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert pip[-1] == "-e ."
    return {Requirement(line).name: Requirement(line) for line in pip[:-1]}


def locked(name):
    text = (ROOT / "requirements" / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    for line in lines:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", line), line
    return [Requirement(line.split("--hash")[0].strip()) for line in lines]


def test_pyproject_lists_the_same():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    assert {
        Requirement(line).name: Requirement(line) for line in lines
    } == pip_section()


def test_lock_holds_everything_that_is_asked_for():
    pinned = {}
    for requirement in locked("lock.txt") + locked("lock-torch.txt"):
        (specifier,) = requirement.specifier
        assert specifier.operator == "=="
        pinned.setdefault(requirement.name, []).append(specifier.version)
    for name, asked in pip_section().items():
        assert name in pinned, f"{name} is not locked: run `make lock`"
        assert all(v in asked.specifier for v in pinned[name]), (
            f"{name}: run `make lock`"
        )


def test_installed_versions_are_the_locked_ones():
    for requirement in locked("lock.txt"):
        if requirement.marker is None or requirement.marker.evaluate():
            assert version(requirement.name) in requirement.specifier


@pytest.mark.parametrize("name", LOCKS)
def test_lock_files_name_no_host_and_no_path(name):
    text = (ROOT / "requirements" / name).read_text()
    assert "://" not in text and "--index" not in text and "--find-links" not in text


def test_package_is_found_in_lib():
    import anbn

    assert (ROOT / "lib" / "anbn" / "__init__.py").samefile(anbn.__file__)


IMPORTED_AS = {"scikit-learn": "sklearn", "python-picard": "picard", "pyyaml": "yaml"}
COMMANDS = {  # called by the Makefile, by pip, or by another library that we call
    *("jupyterlab", "ipykernel", "ruff", "setuptools", "pytest-xdist", "pyarrow"),
}


def test_something_calls_every_library_and_its_licence_is_told():
    folders = ("lib", "notebooks", "tests", "benchmarks", "requirements")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    told = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    told = told.partition("## Dependencies")[2].partition("\n## ")[0]
    for name in pip_section():
        module = IMPORTED_AS.get(name, name.replace("-", "_"))
        called = re.search(rf"(?m)^\s*(import|from) {module}\b", code)
        assert called or name in COMMANDS, f"nothing calls {name}"
        row = re.search(rf"(?m)^\|.*\b{re.escape(name)}\b.*\|$", told)
        assert row, f"CONTRIBUTING.md does not tell the licence of {name}"
