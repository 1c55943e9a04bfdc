"""Projects to sweep over."""

import os

import pytest
from projects import FIRST, SECOND, THIRD
from sweeping import FOUR, WITHOUT_PAPERMILL, stage_notebook, write

from anbn.study import notebooks


@pytest.fixture
def real(project):
    """The project with three fast stages; its sweep `s` has four points."""
    for stage, reads in notebooks.inputs().items():
        path = project / "params" / "mine" / f"{stage}.yaml"
        path.unlink()
        if stage in (FIRST, SECOND, THIRD):
            path.write_text("value: 2\n")
            text = stage_notebook(stage, reads, 0.5)
            (project / "notebooks" / f"{stage}.py").write_text(text)
    (project / "params" / "sweeps").mkdir()
    write(project, FOUR)
    return project


@pytest.fixture
def quick(real):
    """The same without papermill."""
    path = real / "lib" / "anbn" / "study" / "execute.py"
    text = path.read_text().replace("def run_stage(", "def by_papermill(")
    path.write_text(text.replace("\ndef run(", WITHOUT_PAPERMILL + "\ndef run(", 1))
    return real


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands of Slurm that run its jobs on this machine."""
    folder, job = tmp_path / "bin", tmp_path / "job"
    folder.mkdir()
    commands = {
        "sbatch": f'cp "$1" {job}; setsid bash {job} >/dev/null 2>&1 & '
        'echo "Submitted batch job $!"',
        "scancel": 'kill -- "-$1"',
    }
    for name, line in commands.items():
        (folder / name).write_text(f"#!/bin/bash\n{line}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
