"""Study `ci` again with every cell run twice, with other threads, and with pure noise.

`make test-cells` runs these beside what `make all STUDY=ci` left; it takes a while.
"""

import json
import math
import os
import shutil
import subprocess
import sys

import jupytext
import pytest

from anbn.core import params
from anbn.study import notebooks

pytestmark = pytest.mark.cells
TIMED = ("tokens_per_s", "speedup", "data/size.parquet")  # the clock's, not ours
ROOT = params.project_root()


@pytest.fixture
def project(tmp_path):
    """A copy of the project with study `ci` alone."""
    for name in ("lib", "notebooks", "params/ci"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def run(project, **environment):
    """Run the study there; what each stage found and the hashes of its data."""
    command = [sys.executable, "-m", "anbn.study.pipeline", "ci", "--jobs", "2"]
    env = {"ANBN_ROOT": str(project), "PYTHONPATH": str(project / "lib")}
    env = {k: v for k, v in os.environ.items() if k != "ANBN_OUTPUTS"} | env
    done = subprocess.run(command, env=env | environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    return results(project)


def results(project):
    found = {}
    for stage in notebooks.names():
        path = project / "outputs" / "ci" / stage / "manifest.json"
        manifest = json.loads(path.read_text())
        hashes = {
            name: file["sha256"]
            for name, file in manifest["files"].items()
            if name.startswith("data/")
        }
        found[stage] = {
            "finding": manifest["finding"],
            **{k: v for k, v in (manifest["summary"] | hashes).items()},
        }
    return found


@pytest.fixture(scope="module")
def plain():
    """What the study left when its cells ran once."""
    try:
        return results(ROOT)
    except FileNotFoundError as error:
        pytest.skip(f"study ci has not run ({error}): make test-cells does that first")


def unlike(found, expected):
    """What differs, but for what a clock measured."""
    return {
        (stage, name): (value, expected[stage].get(name))
        for stage, values in found.items()
        for name, value in values.items()
        if name not in TIMED and value != expected[stage].get(name)
    }


def test_every_cell_run_twice_in_a_row_gives_the_same(project, plain):
    for path in (project / "notebooks").glob("0*.py"):
        notebook = jupytext.read(path)
        notebook.cells = [
            cell
            for one in notebook.cells
            for cell in [one] * (1 + (one.cell_type == "code" and not _given(one)))
        ]
        jupytext.write(notebook, path, fmt="py:percent")
    assert unlike(run(project), plain) == {}


def _given(cell):
    return "parameters" in cell.metadata.get("tags", [])


def test_batches_and_threads_change_no_number(project, plain):
    """Sums of other batches round otherwise: numbers agree to a part in a thousand."""
    for path in (project / "params" / "ci").glob("*.yaml"):
        if "batch_size" in params.declared(path.stem):
            given = params.load_yaml(path) | {"batch_size": 3}
            path.write_text(json.dumps(given))
    found = run(project, OMP_NUM_THREADS="2")
    moved = {}
    for (stage, name), (value, before) in unlike(found, plain).items():
        if isinstance(value, float | int):
            if not math.isclose(value, before, rel_tol=1e-3, abs_tol=1e-6):
                moved[stage, name] = value, before
    assert moved == {}


def test_pure_noise_is_a_result(project):
    """No story drives these brains: every notebook ends, and says what it lacks."""
    path = project / "params" / "ci" / "02_fbn_extraction.yaml"
    path.write_text(json.dumps(params.load_yaml(path) | {"signal": 0.0}))
    path = project / "params" / "ci" / "04_key_neuron_masking.yaml"
    given = params.load_yaml(path)
    path.write_text(json.dumps(given | {"coupled_by": "fwe", "sources": ["coupled"]}))
    found = run(project)
    assert found["03_an_bn_coupling"]["n_significant_neurons"] == 0
    assert "no neuron" in found["03_an_bn_coupling"]["finding"].lower()
    assert found["03b_functional_organisation"]["n_networks_predicted"] == 0
    assert "coupled" in found["04_key_neuron_masking"]["finding"]
