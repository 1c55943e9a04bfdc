"""`make all`, killed, run twice at once, and under a clock that jumps."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from projects import FIRST, SECOND

from anbn.core import artifacts, params
from anbn.study import notebooks, pipeline

REAL = params.project_root()


@pytest.fixture
def make(project):
    """`make all` in the project, as a list of arguments."""
    (project / "Makefile").symlink_to(REAL / "Makefile")
    (project / ".venv").symlink_to(Path(sys.prefix))
    (project / ".jupyter").mkdir()
    return ["make", "--old-file=.venv/.installed", "all", "STUDY=mine"]


def result(outputs):
    """Hash of every file of data, and every summary."""
    data = sorted(p for p in outputs.glob("mine/*/data/*"))
    found = {str(p.relative_to(outputs)): artifacts.sha256(p) for p in data}
    for path in outputs.glob("mine/*/manifest.json"):
        manifest = artifacts.read_manifest(path.parent)
        found[path.parent.name] = (manifest["summary"], manifest["fingerprint"])
    return found


def kill_group(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.faults
def test_killed_at_any_moment(project, make, tally, n=24):
    outputs, kept = project / "outputs", project / "kept"
    start = time.monotonic()
    subprocess.run(make, check=True, capture_output=True)
    length = time.monotonic() - start
    expected = result(outputs)
    assert len(expected) == 10
    outputs.rename(kept)
    moments = random.Random(1)
    for i in range(n):
        if i % 6 == 5:  # to the end, then from the beginning
            subprocess.run(make, capture_output=True)
            good = result(outputs) == expected
            tally("SIGKILL", "right result" if good else "otherwise", f"end {i}")
            shutil.rmtree(outputs)
        process = subprocess.Popen(
            make, start_new_session=True, stdout=subprocess.DEVNULL
        )
        time.sleep(moments.uniform(0.3, length))
        # everything at once, or the pipeline alone, whose kernel lives on
        alone = (
            i % 2
            and subprocess.run(
                ["pgrep", "-g", str(process.pid), "-f", "anbn.study.pipeline"],
                capture_output=True,
                text=True,
            ).stdout.split()
        )
        for pid in alone or []:
            os.kill(int(pid), signal.SIGKILL)
        process.wait() if alone else kill_group(process)
        # what counts as done is whole, and equal to the undisturbed
        now = result(outputs)
        # (without a fingerprint a stage is not done: killed between two writes)
        done = {k: v for k, v in now.items() if k in notebooks.names() and v[1]}
        good = all(expected[k] == v for k, v in done.items())
        tally("SIGKILL", "right result" if good else "otherwise", f"{i}: {now}")
    done = subprocess.run(make, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert result(outputs) == expected
    again = subprocess.run(make, capture_output=True, text=True, check=True)
    assert again.stdout.count("up to date") == 5
    assert not list(outputs.rglob(".tmp-*"))


@pytest.mark.faults
def test_two_at_once(project, make, tally, n=3):
    subprocess.run(make, check=True, capture_output=True)
    expected = result(project / "outputs")
    moments = random.Random(2)
    for i in range(n):
        shutil.rmtree(project / "outputs")
        first = subprocess.Popen(make, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(moments.uniform(0, 6))
        second = subprocess.Popen(make, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        said = [p.communicate()[1].decode() for p in (first, second)]
        codes = [p.returncode for p in (first, second)]
        refused = [s for c, s in zip(codes, said, strict=True) if c]
        good = result(project / "outputs") == expected
        good &= all("is being run by another process" in s for s in refused)
        good &= len(refused) <= 1 and not any("Traceback" in s for s in said)
        ending = "clear error" if refused else "right result"
        tally("two at once", ending if good else "otherwise", f"{i}: {codes} {said}")


@pytest.mark.parametrize("year", [1970, pytest.param(2100, marks=pytest.mark.faults)])
def test_files_of_another_time(project, tally, year):
    (project / "story.txt").write_text("one")
    (project / "params" / "mine" / f"{FIRST}.yaml").write_text("file: story.txt")
    assert pipeline.run_study("mine", [SECOND]) == 2
    then = (year - 1970) * 365.25 * 86400
    for path in project.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (then, then))
    n_run = pipeline.run_study("mine", [SECOND])
    tally("clock", "right result" if n_run == 0 else "otherwise", f"{year} {n_run}")
    # another content of the same size, and the same time of change
    (project / "story.txt").write_text("two")
    os.utime(project / "story.txt", (then, then))
    n_run = pipeline.run_study("mine", [SECOND])
    tally("clock", "right result" if n_run == 2 else "otherwise", f"{year} {n_run}")


BACKWARDS = """
import itertools, time
real, count = time.time, itertools.count()
time.time = lambda: {start} - 1000 * next(count)
from anbn.study import pipeline
pipeline.main(["mine"])
"""


@pytest.mark.faults
@pytest.mark.parametrize("start", [1e9, 1e5, 4.1e9])
def test_a_clock_that_goes_backwards(project, tally, start):
    done = subprocess.run(
        [sys.executable, "-c", BACKWARDS.format(start=start)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    good = done.returncode == 0 and len(result(project / "outputs")) == 10
    good &= pipeline.run_study("mine", notebooks.names()) == 0
    tally("clock", "right result" if good else "otherwise", done.stderr[-900:])


def test_arrays_of_a_clock_before_1980(tmp_path, monkeypatch):
    import numpy as np

    monkeypatch.setattr(time, "time", lambda: 0.0)
    for name in "ab":
        artifacts.write_arrays(tmp_path / f"{name}.npz", a=np.arange(3))
        monkeypatch.undo()
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert artifacts.read_arrays(tmp_path / "a.npz")["a"].tolist() == [0, 1, 2]


SPEEDS = ("second", "per_s", "speed")


def summaries(study):
    """All headline numbers but speeds."""
    manifests = (
        artifacts.read_manifest(p.parent) for p in study.glob("*/manifest.json")
    )
    return {
        m["stage"]: {
            name: value
            for name, value in m["summary"].items()
            if not any(word in name for word in SPEEDS)
        }
        for m in manifests
        if m["fingerprint"]
    }


@pytest.mark.faults
def test_the_real_study_killed(tmp_path, tally, monkeypatch):
    """Three stages of `ci`, killed again and again: the numbers of one quiet run."""
    for name in ("ANBN_ROOT", "ANBN_OUTPUTS"):
        monkeypatch.delenv(name, raising=False)
    command = ["make", "-C", str(REAL), "03", "STUDY=ci"]
    monkeypatch.setenv("ANBN_OUTPUTS", str(tmp_path / "quiet"))
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    length = time.monotonic() - start
    expected = summaries(tmp_path / "quiet" / "ci")
    assert len(expected) == 3
    monkeypatch.setenv("ANBN_OUTPUTS", str(tmp_path / "killed"))
    moments = random.Random(3)
    for _ in range(6):
        process = subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.DEVNULL
        )
        try:
            process.wait(moments.uniform(0.05, 0.6) * length)
        except subprocess.TimeoutExpired:
            kill_group(process)
        now = summaries(tmp_path / "killed" / "ci")
        good = all(now[stage] == expected[stage] for stage in now)
        tally("SIGKILL of ci", "right result" if good else "otherwise", str(now))
    subprocess.run(command, check=True, capture_output=True)
    now = summaries(tmp_path / "killed" / "ci")
    tally("SIGKILL of ci", "right result" if now == expected else "otherwise", str(now))
