"""Projects to sweep over."""

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
