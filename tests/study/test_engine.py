"""The machinery of sweeps on a project of stages that take a moment.

The copied library runs them in a process of their own without papermill, which takes
seconds for each (`test_real_notebooks` has it). Everything around is the real thing.
"""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time

import pandas as pd
import psutil
import pytest
from projects import FIRST, SECOND
from sweeping import FOUR, TWELVE, stage_notebook, write

from anbn.core import artifacts
from anbn.study import engine, execute, fingerprints, pipeline, sweeps, task
from anbn.study.progress import Progress
from anbn.study.wording import duration


def start(project, *more):
    command = [sys.executable, "-m", "anbn.study.pipeline", "--sweep", "s", *more]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, start_new_session=True, **options)


def run(project, *more, code=0):
    process = start(project, *more)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == code, said
    assert "Traceback" not in said
    return said


def noted(project, what="started"):
    path = project / f"{what}.txt"
    return path.read_text().splitlines() if path.is_file() else []


def results(project):
    folder = project / "outputs" / "sweeps" / "s"
    return pd.read_parquet(folder / "results.parquet"), folder


def hashes(folder):
    files = sorted(folder.glob("runs/*/0*/data/*"))
    found = {str(p.relative_to(folder)): artifacts.sha256(p) for p in files}
    return {k: v for k, v in found.items() if not (folder / k).parents[1].is_symlink()}


def leftovers(folder):
    names = (".tmp-*", "running.ipynb", "source.ipynb", "failed*", "*.partial")
    return [p for name in names for p in folder.rglob(name)]


def wait_for(condition, patience=60):
    give_up = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def workers_of(process):
    found = []
    try:
        for child in psutil.Process(process.pid).children():
            if "spawn_main" in str(child.cmdline()):
                found.append(child)
    except psutil.Error:  # one that has just ended
        pass
    return found


def processes_of(project):
    """Stage processes, and what they started, that still work for this project."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("ANBN_ROOT") == str(project):
                if "anbn.study.execute" in process.cmdline():
                    found.append(process)
        except psutil.Error:
            pass
    return found


@pytest.mark.parametrize(
    ("spec", "n_points", "n_runs", "n_kills"),
    [(FOUR, 4, 6, 2), pytest.param(TWELVE, 12, 16, 6, marks=pytest.mark.faults)],
)
def test_workers_killed_at_random_leave_the_same_result(
    quick, spec, n_points, n_runs, n_kills
):
    write(quick, spec)
    said = run(quick, "--jobs", "2")
    assert f"{n_points} points, stages 01 02" in said
    shared = f"{n_runs} stage runs after sharing (of {2 * n_points}): 0 up to date"
    assert shared in said
    assert f"[{n_runs}/{n_runs}] " in said
    assert "left)" in said
    assert len(noted(quick)) == len(set(noted(quick))) == n_runs  # each once
    threads = max(1, os.cpu_count() // 2)
    assert {line.split()[2] for line in noted(quick)} == {str(threads)}
    table, folder = results(quick)
    expected, files = table.drop(columns="seconds"), hashes(folder)
    assert list(table["status"]) == ["done"] * n_points
    assert len(files) == n_runs
    folder.rename(quick / "undisturbed")
    for name in ("started", "finished"):
        (quick / f"{name}.txt").unlink()

    process, moments, n_killed = start(quick, "--jobs", "2"), random.Random(0), 0
    while process.poll() is None:
        time.sleep(moments.uniform(0.5, 4))
        workers = workers_of(process)
        if workers and noted(quick) and n_killed < n_kills:
            moments.choice(workers).kill()
            n_killed += 1
    said = process.stdout.read()
    assert process.returncode == 0, said
    assert n_killed >= min(n_kills, 4)
    assert "again, its worker died" in said
    table, folder = results(quick)
    pd.testing.assert_frame_equal(table.drop(columns="seconds"), expected)
    assert hashes(folder) == files
    assert leftovers(folder) == []
    assert processes_of(quick) == []
    before = noted(quick)
    # nothing was done again that had been finished
    assert len(noted(quick, "finished")) <= n_runs + n_killed
    assert f"{n_runs} up to date, 0 to take from outputs/mine, 0 to run" in run(quick)
    assert noted(quick) == before


def test_ctrl_c_and_on_with_the_same_command(quick):
    process = start(quick, "--jobs", "1")
    wait_for(lambda: len(noted(quick)) >= 2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: workers get it, too
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "The same command goes on from here" in said
    assert "Traceback" not in said
    wait_for(lambda: not processes_of(quick), 10)
    table, folder = results(quick)
    assert "not run" in set(table["status"])
    n_before = len(noted(quick, "finished"))
    assert "4 points" in run(quick, "--jobs", "1")
    table, _ = results(quick)
    assert list(table["status"]) == ["done"] * 4
    assert len(noted(quick, "finished")) <= 6 + 1
    assert n_before >= 1
    assert leftovers(folder) == []


def test_a_failed_point_does_not_stop_the_others(quick):
    text = FOUR.replace("[3, 4]", "[3, 13]")
    write(quick, text + f"set: {{{FIRST}.names: [a, b]}}\n")
    said = run(quick, "--jobs", "2", code=1)
    table, folder = results(quick)
    assert sorted(table["status"]) == ["done", "done", "failed", "failed"]
    failed = table[table["status"] == "failed"]
    assert set(failed["failed_stage"]) == {FIRST}
    assert set(failed["error"]) == {f"{FIRST}, cell 2: AssertionError: unlucky"}
    assert failed["notebook_02"].isna().all()
    for path in failed["notebook_01"]:
        assert path.endswith(f"{FIRST}/failed.ipynb")
        assert (quick / path).is_file()
        assert path in said
    assert said.count("failed: value") + said.count("failed: 01.value") == 2
    done = table[table["status"] == "done"]
    assert list(done["02:total"]) == [9.0, 10.0]
    assert "02:label" not in table  # numbers only
    assert done["simulated"].all()
    csv = pd.read_csv(folder / "results.csv")
    assert list(csv.columns) == list(table.columns)
    about = artifacts.read_json(folder / "sweep.json")
    assert about["varied"] == [f"{FIRST}.value", f"{SECOND}.value"]
    assert about["study"], about["n_points"] == ("mine", 4)
    n_before = len(noted(quick))
    run(quick, "--jobs", "1", code=1)
    assert len(noted(quick)) == n_before + 1  # only what failed
    write(quick, text.replace("13", "4") + f"set: {{{FIRST}.names: [a, b]}}\n")
    run(quick, "--jobs", "1")
    assert list(results(quick)[0]["status"]) == ["done"] * 4
    assert len(noted(quick)) == n_before + 1 + 3


def test_what_the_base_study_has_is_taken(quick):
    write(quick, f"study: mine\nstages: [1]\ngrid: {{{FIRST}.value: [2, 5]}}\n")
    run(quick)
    folder = results(quick)[1]
    tasks, _ = engine.plan(sweeps.read("s"))
    first = next(iter(tasks.values()))
    mine = quick / "outputs" / "mine" / FIRST
    mine.parent.mkdir()
    first.out.rename(mine)
    (mine / "stage.log").write_text("log")
    n_before = len(noted(quick))
    assert "1 up to date, 1 to take from outputs/mine, 0 to run" in run(quick)
    assert len(noted(quick)) == n_before
    taken = first.out
    assert (taken / "data" / "a.npy").samefile(mine / "data" / "a.npy")
    for name in ("manifest.json", "notebook.html", "notebook.ipynb", "stage.log"):
        assert not (taken / name).samefile(mine / name)
    assert not (taken / ".lock").exists()
    assert list(results(quick)[0]["status"]) == ["done", "done"]
    link = folder / "points" / "value=2" / FIRST
    assert link.is_symlink()
    assert (link / "manifest.json").is_file()


def test_two_at_once_and_a_disk_too_small(quick, monkeypatch):
    sweep = sweeps.read("s")
    with pipeline.only_one(engine.folder_of(sweep)):
        assert "is being run by another process" in run(quick, code=1)
    assert noted(quick) == []
    known = dict.fromkeys(sweep.reads, 1e9), {}
    monkeypatch.setattr(engine, "costs", lambda *_: known)
    monkeypatch.setattr(engine, "free_bytes", lambda _: 5e9)
    with pytest.raises(engine.EngineError, match=r"needs some 6.0 GB and .* 5.0 GB"):
        pipeline.run(sweep, only_check=True)


def test_a_failed_report_leaves_the_table(quick):
    report = stage_notebook("90_sweep_report", [], 0)
    path = quick / "notebooks" / "90_sweep_report.py"
    path.write_text(report.replace("value: int = 1", "value: int = 13"))
    code = "from anbn.study import pipeline; pipeline.main(['--sweep', 's'])"
    env = os.environ | {"PYTHONPATH": str(quick / "lib")}  # papermill is for others
    write(quick, f"study: mine\nstages: [1]\ngrid: {{{FIRST}.value: [2, 5]}}\n")
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "the report failed, the table stands in" in done.stderr
    assert list(results(quick)[0]["status"]) == ["done", "done"]
    path.write_text(report)
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "report: outputs/sweeps/s/90_sweep_report/notebook.html" in done.stdout


@pytest.fixture
def scheduler(tmp_path):
    """A Dask scheduler and a worker, started elsewhere, that have not imported anbn."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    file = folder / "scheduler.json"
    env = {k: v for k, v in os.environ.items() if not k.startswith("ANBN_")}
    options = {"cwd": folder, "env": env, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "dask"]
    parts = ["--scheduler-file", str(file), "--no-dashboard"]
    host = ["--host", "127.0.0.1"]
    started = [
        subprocess.Popen([*dask, "scheduler", *parts, *host, "--port", "0"], **options)
    ]
    wait_for(file.is_file)
    started += [
        subprocess.Popen([*dask, "worker", *parts, "--nthreads", "1"], **options)
    ]
    wait_for(lambda: file.stat().st_size > 0)
    yield artifacts.read_json(file)["address"]
    for process in reversed(started):
        task.end(process.pid)
        process.wait()


def test_workers_that_see_something_else_are_named(quick, monkeypatch):
    one = next(iter(engine.plan(sweeps.read("s"))[0].values()))
    monkeypatch.setenv("ANBN_OUTPUTS", str(one.folder.parent))
    found = execute.run(**one.job)["error"]
    assert "does not see" in found and "ANBN_OUTPUTS" in found
    one.folder.mkdir(parents=True)
    versions = fingerprints.versions() | {"numpy": "0.1", "no-such-library": "2.0"}
    found = execute.run(**one.job, versions=versions)["error"]
    assert "computes with numpy" in found and ", not 0.1" in found
    assert "no-such-library None, not 2.0" in found
    found = execute.run(**one.job | {"values": one.values | {"value": 9}})["error"]
    assert "changed since this began, or are others on" in found
    found = task.in_process(one.job, "/nonsense", dict(os.environ))
    assert found["status"] == "unfit" and "/nonsense" in found["error"]
    other = dataclasses.replace(one, values=one.values | {"value": 9})
    runs = engine.run_here(
        {one.fingerprint: other}, Progress({one.fingerprint: ""}, {})
    )
    with pytest.raises(engine.EngineError, match="changed since this began"):
        list(runs)  # not one failure after another
    assert noted(quick) == []


def test_on_a_scheduler(quick, scheduler):
    from distributed import Client

    said = run(quick, "--scheduler", scheduler)
    assert "[6/6] " in said
    assert list(results(quick)[0]["status"]) == ["done"] * 4
    threads = str(os.cpu_count())  # of one job at a time
    assert {line.split()[2] for line in noted(quick)} == {threads}
    with Client(scheduler, set_as_default=False) as client:
        modules = client.run(lambda: [m for m in sys.modules if m.startswith("anbn")])
        assert not any(modules.values())  # it can never hold an old version
        # whoever runs a sweep may die: nothing goes on without it
        write(quick, FOUR.replace("[6, 7]", "[8, 9]"))
        process = start(quick, "--scheduler", scheduler)
        wait_for(lambda: len(noted(quick)) > 6)
        process.kill()
        process.communicate()
        wait_for(lambda: not processes_of(quick), 20)
    run(quick, "--scheduler", scheduler)
    assert list(results(quick)[0]["status"]) == ["done"] * 4


def test_what_was_read_is_what_was_planned(quick):
    """Else a stage would count as up to date that read a stage run by hand."""
    assert "done" in run(quick, "--jobs", "1")
    tasks, _ = engine.plan(sweeps.read("s"))
    first, second = list(tasks.values())[:2]
    manifest = artifacts.read_manifest(first.out)
    artifacts.write_manifest(first.out, manifest | {"fingerprint": None})
    (second.out / "manifest.json").unlink()
    found = engine.run_apart(second)
    assert found["status"] == "failed" and "by something else" in found["error"]
    assert not second.is_done


def test_jobs_of_a_cluster(quick, slurm):
    """No worker is there when the first stage is placed."""
    section = "slurm: {cores: 3, memory: 4GB, interface: lo}\n"
    (quick / "params" / "clusters.yaml").write_text(section)
    assert "[6/6] " in run(quick, "--scheduler", "slurm", "--jobs", "1")
    assert list(results(quick)[0]["status"]) == ["done"] * 4


def test_environment_of_a_stage(monkeypatch):
    monkeypatch.setenv("ANBN_CACHE", "/of/the/worker")
    monkeypatch.setenv("PYTHONPATH", "/more")
    settings = {"root": "/root", "threads": 3, "gpus": ["4", "GPU-x"]}
    settings["environment"] = {"ANBN_DATA": "/data"}
    found = task.environment(settings, "auto", 3)
    assert found["OMP_NUM_THREADS"] == found["MKL_NUM_THREADS"] == "3"
    assert found["CUDA_VISIBLE_DEVICES"] == "GPU-x"
    assert found["PYTHONPATH"] == "/root/lib:/more"
    assert found["ANBN_DATA"] == "/data"
    assert "ANBN_CACHE" not in found
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for device in ("balanced", "cuda:1", "cpu"):  # somebody has chosen
        found = task.environment(settings, device, 0)
        assert "CUDA_VISIBLE_DEVICES" not in found


@pytest.mark.parametrize("terminal", [True, False])
def test_progress(terminal, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    names = {key: f"{FIRST} of [{key}]" for key in "abc"}
    with Progress(names, {"a": 10.0, "b": 30.0}) as progress:
        progress.n_jobs = 2
        progress.start("a")
        assert "time left not known yet" in progress._view().plain
        progress.seconds["c"] = 50.0
        assert "some 45 s left" in progress._view().plain
        progress.start("a")
        progress.end("a", task.answer("done", ran=True, seconds=4.0))
        progress.start("b")
        assert "some 40 s left" in progress._view().plain
        assert "of [b]" in progress._view().plain
        progress.end("b", task.answer("failed", "x[1]", ran=True))
        progress.end("c", task.answer("not run"))
    shown = capsys.readouterr().out
    for line in (
        f"[0/3] {FIRST} of [a]: again, its worker died",
        f"[1/3] {FIRST} of [a]: done in 4 s",
        f"[2/3] {FIRST} of [b]: failed in 0 s: x[1]",
        f"[3/3] {FIRST} of [c]: not run",
    ):
        assert line in shown
    assert (duration(5), duration(600), duration(7200)) == (
        "some 5 s",
        "some 10 min",
        "some 2.0 h",
    )


def test_real_notebooks(real):
    write(real, f"study: mine\nstages: [2]\ngrid: {{{SECOND}.value: [5, 13]}}\n")
    said = run(real, code=1)
    table, folder = results(real)
    assert list(table["status"]) == ["done", "failed"]
    assert table["error"][1] == f"{SECOND}, cell 4: AssertionError: unlucky"
    assert "<html" in (real / table["notebook_02"][0]).read_text()
    assert "AssertionError" in (real / table["notebook_02"][1]).read_text()
    assert table["notebook_02"][1] in said
    assert leftovers(folder / "runs") == [
        p for p in leftovers(folder / "runs") if p.name.startswith("failed")
    ]
