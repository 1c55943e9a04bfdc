"""Projects to sweep over."""

import pytest
from projects import FIRST, SECOND, THIRD
from sweeping import FOUR, STAGE, WITHOUT_PAPERMILL, write

from anbn.study import pipeline


@pytest.fixture
def real(project):
    """The project with three fast stages; its sweep `s` has four points."""
    for stage, reads in pipeline.STAGES.items():
        path = project / "params" / "mine" / f"{stage}.yaml"
        path.unlink()
        if stage in (FIRST, SECOND, THIRD):
            path.write_text("value: 2\n")
            text = STAGE.format(stage=stage, reads=reads, pause=0.5)
            (project / "notebooks" / f"{stage}.py").write_text(text)
    (project / "params" / "sweeps").mkdir()
    write(project, FOUR)
    return project


@pytest.fixture
def quick(real):
    """The same without papermill."""
    path = real / "lib" / "anbn" / "study" / "pipeline.py"
    text = path.read_text().replace("def run_stage(", "def by_papermill(")
    path.write_text(
        text.replace("\n@contextmanager", WITHOUT_PAPERMILL + "\n@contextmanager", 1)
    )
    return real
