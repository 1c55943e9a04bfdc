import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from anbn import artifacts, fingerprints, params, pipeline

HEADER = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% tags=["parameters"]
study: str = "mine"  # name
value: int = 1  # a number (0 to 99)
file: str = ""  # data
device: str = "cpu"  # where

# %%
import numpy as np
from anbn import artifacts{imports}
for name in {reads}:
    artifacts.stage_inputs(study, name)
out = artifacts.begin_stage(study, "{stage}")
# %%
artifacts.write_array(out / "data" / "a.npy", np.arange(value * 1000))
# %%
assert value != 13, "unlucky"
summary = {{"value": value}}
artifacts.finish_stage(out, summary, params=summary, simulated=False)
"""
FIRST, SECOND, THIRD, FOURTH, FIFTH = pipeline.STAGES


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose five stages take a second each; a copy of the library in it."""
    real = params.project_root()
    shutil.copytree(real / "lib", tmp_path / "lib")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "params" / "mine").mkdir(parents=True)
    for stage, reads in pipeline.STAGES.items():
        text = HEADER.format(
            stage=stage, reads=reads, imports=", masking" * (stage == FOURTH)
        )
        (tmp_path / "notebooks" / f"{stage}.py").write_text(text)
        (tmp_path / "params" / "mine" / f"{stage}.yaml").write_text("value: 2\n")
    monkeypatch.setenv("ANBN_ROOT", str(tmp_path))
    monkeypatch.setenv("ANBN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def now():
    found = {}
    for stage, reads in pipeline.STAGES.items():
        values = params.read("mine", stage)
        upstream = {r: found[r] for r in reads}
        found[stage] = fingerprints.fingerprint(stage, values, upstream)
    return found


def changed(before):
    return [stage for stage, value in now().items() if value != before[stage]]


def test_what_counts_and_what_does_not(project):
    before = now()
    notebook = project / "notebooks" / f"{FOURTH}.py"
    text = notebook.read_text()
    for path in project.rglob("*.py"):
        path.touch()
    notebook.write_text(text.replace("Python 3 (ipykernel)", "Other"))  # header
    parameters = project / "params" / "mine"
    (parameters / f"{FIRST}.yaml").write_text("value: 2  # a comment\ndevice: cuda\n")
    assert changed(before) == []
    (parameters / f"{FOURTH}.yaml").write_text("value: 3")
    assert changed(before) == [FOURTH]
    (parameters / f"{FOURTH}.yaml").write_text("value: 2")
    notebook.write_text(text + "\n# %%\nprint(1)\n")
    assert changed(before) == [FOURTH]
    notebook.write_text(text)
    masking = project / "lib" / "anbn" / "masking.py"
    masking.write_text(masking.read_text() + "\n")
    assert changed(before) == [FOURTH]
    (parameters / f"{SECOND}.yaml").write_text("value: 5")
    assert changed(before) == [SECOND, THIRD, FOURTH, FIFTH]


def test_imports_are_followed(project):
    found = fingerprints.imported_modules("from anbn import masking\nimport numpy")
    assert {"masking", "neurons"} <= set(found)
    assert "bold" not in found
    found = fingerprints.imported_modules("from anbn.params import current")
    assert found == ["params", "paths"]


def test_data_files_count(project):
    (project / "story.txt").write_text("one")
    values = project / "params" / "mine" / f"{FIRST}.yaml"
    values.write_text("file: story.txt")
    before = now()
    (project / "story.txt").touch()
    assert changed(before) == []
    (project / "story.txt").write_text("two")
    assert changed(before) == list(pipeline.STAGES)


def test_run_skip_and_rerun(project, capsys):
    assert pipeline.run_study("mine", list(pipeline.STAGES)) == 5
    for stage in pipeline.STAGES:
        out = project / "outputs" / "mine" / stage
        names = {p.name for p in out.iterdir()}
        assert {"notebook.ipynb", "notebook.html", "manifest.json", "data"} <= names
        assert not names & {"running.ipynb", "source.ipynb", "failed.ipynb"}
        assert "value = 2" in (out / "notebook.ipynb").read_text()
    assert pipeline.run_study("mine", list(pipeline.STAGES)) == 0
    assert capsys.readouterr().out.count("up to date") == 5
    (project / "outputs" / "mine" / FOURTH / "data" / "a.npy").unlink()
    assert pipeline.run_study("mine", [FIFTH]) == 0  # does not read the fourth
    assert pipeline.run_study("mine", [FOURTH]) == 1


def test_a_failed_stage_leaves_its_notebook_and_no_manifest(project):
    (project / "params" / "mine" / f"{SECOND}.yaml").write_text("value: 13")
    done = subprocess.run(
        [sys.executable, "-m", "anbn.pipeline", "mine"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "AssertionError: unlucky" in done.stderr
    assert "Traceback" not in done.stderr
    out = project / "outputs" / "mine"
    assert (out / FIRST / "manifest.json").is_file()
    assert (out / SECOND / "failed.ipynb").is_file()
    assert not (out / SECOND / "manifest.json").exists()
    assert not (out / SECOND / "notebook.ipynb").exists()
    assert not (out / THIRD).exists()
    (project / "params" / "mine" / f"{SECOND}.yaml").write_text("value: 2")
    assert pipeline.run_study("mine", list(pipeline.STAGES)) == 4
    assert not (out / SECOND / "failed.ipynb").exists()


@pytest.mark.parametrize("arguments", [["nothing"], ["mine", "05"], ["mine", "03"]])
def test_bad_calls_run_nothing(project, arguments):
    (project / "params" / "mine" / f"{THIRD}.yaml").write_text("valu: 3")
    done = subprocess.run(
        [sys.executable, "-m", "anbn.pipeline", *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "no stage" in done.stderr or "did you mean 'value'" in done.stderr
    assert not (project / "outputs").exists()


def contents(project):
    data = sorted((project / "outputs" / "mine").glob("*/data/*"))
    return {str(p.relative_to(project)): artifacts.sha256(p) for p in data}


def test_sigkill_at_any_moment_ends_in_the_same_result(project):
    assert pipeline.run_study("mine", list(pipeline.STAGES)) == 5
    expected = contents(project)
    shutil.rmtree(project / "outputs")
    moments = random.Random(0)
    command = [sys.executable, "-m", "anbn.pipeline", "mine"]
    for _ in range(5):
        process = subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.DEVNULL
        )
        time.sleep(moments.uniform(0.5, 5))
        os.kill(process.pid, signal.SIGKILL)  # its kernel is left to notice by itself
        process.wait()
        for manifest in (project / "outputs").glob("mine/*/manifest.json"):
            assert json.loads(manifest.read_text())["stage"] == manifest.parent.name
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert contents(project) == expected
    assert pipeline.run_study("mine", list(pipeline.STAGES)) == 0
    assert not list((project / "outputs").rglob(".tmp-*"))


def test_two_runs_of_one_study_do_not_mix(project):
    with pipeline.study_lock("mine"):
        done = subprocess.run(
            [sys.executable, "-m", "anbn.pipeline", "mine"],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 1
    assert "is being run by another process" in done.stderr


def test_a_study_may_leave_out_what_a_stage_can_do_without(project):
    (project / "params" / "mine" / f"{THIRD}.yaml").unlink()
    text = (project / "notebooks" / f"{FOURTH}.py").read_text()
    (project / "notebooks" / f"{FOURTH}.py").write_text(
        text.replace(f", '{THIRD}'", "")
    )
    assert pipeline.run_study("mine", [FOURTH]) == 3
    (project / "params" / "mine" / f"{SECOND}.yaml").unlink()
    with pytest.raises(params.ParamError):
        pipeline.run_study("mine", [FOURTH])


def test_two_notebooks_do_not_write_one_stage(project, monkeypatch):
    artifacts.begin_stage("mine", FIRST)
    artifacts.begin_stage("mine", FIRST)  # the same kernel may run its cell again
    code = (
        "from anbn import locks, paths; "
        f"locks.hold(paths.stage_dir('mine', '{FIRST}'), 0.5)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "is being written by another process" in done.stderr
    artifacts.finish_stage(
        artifacts.stage_dir("mine", FIRST), {}, params={}, simulated=False
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
