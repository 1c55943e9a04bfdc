"""What a Dask worker does for one stage run: start a process, watch it, hand back.

Sent to workers by value, so that no long-lived worker goes on with an old version of
it: only the standard library, psutil and distributed may be imported.
"""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

NEEDED = ("papermill", "jupytext", "ipykernel", "zarr", "torch", "transformers")


def sources_hash(root):
    """SHA-256 of the project's library and notebooks."""
    total = hashlib.sha256()
    root = Path(root)
    for path in sorted([*root.glob("lib/anbn/**/*"), *root.glob("notebooks/*.py")]):
        if path.is_file() and path.parent.name != "__pycache__":
            name = path.relative_to(root).as_posix()
            total.update(f"{name} {path.stat().st_size}\n".encode())
            total.update(path.read_bytes())
    return total.hexdigest()


def token_of(settings):
    """What stands in the file that marks the running sweep; None without one."""
    try:
        return Path(settings["token_file"]).read_text()
    except OSError:
        return None


def look(settings):
    """What this worker sees: how many cores, and what is wrong, or None."""
    import dask.system

    root, wrong = Path(settings["root"]), None
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        wrong = (
            f"its Python ({sys.executable}) has no {missing[0]}. Start workers with "
            f"the Python of this project: {settings['python']} -m dask worker ..."
        )
    elif not (root / "notebooks").is_dir():
        wrong = f"there is no project at {root}. It must see the same files as we do."
    elif token_of(settings) != settings["token"]:
        wrong = (
            f"it does not see the file {settings['token_file']} as we wrote it. It "
            "must see the same outputs: on a shared file system (see ANBN_OUTPUTS)."
        )
    elif sources_hash(root) != settings["sources"]:
        wrong = f"another version of the library or notebooks stands at {root} there."
    elif others := _other_versions(settings["versions"]):
        wrong = (
            f"it computes with {', '.join(others)}. Give its Python the versions of "
            "requirements/."
        )
    host = os.uname().nodename
    return {"host": host, "cores": dask.system.CPU_COUNT, "wrong": wrong}


def _other_versions(wanted):
    """What this worker computes with in another version; builds do not count."""
    others = []
    for name, expected in wanted.items():
        try:
            here = version(name).partition("+")[0]
        except PackageNotFoundError:
            here = "none"
        if here != expected:
            others.append(f"{name} {here}, not {expected}")
    return others


def run_stage(job, settings, *upstream):
    """Run one stage in a process of its own, unless what it reads failed.

    Returns
    -------
    answer : dict
        ``status`` (done, failed, not run), ``error`` (one line or None), ``ran``
        (whether its notebook was executed now), ``seconds``.
    """
    if any(answer["status"] != "done" for answer in upstream):
        return answer("not run")
    if token_of(settings) != settings["token"]:
        return answer("not run", look(settings)["wrong"] or "the sweep has ended")
    from distributed import get_worker

    worker = get_worker()
    worker.log_event(settings["topic"], {"key": job["key"], "worker": worker.address})
    return _watch(job, settings, worker)


def answer(status, error=None, *, ran=False, seconds=0.0):
    return {"status": status, "error": error, "ran": ran, "seconds": seconds}


def _environment(job, settings, name):
    """Of the process: the project, threads, and one GPU if they are shared out."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("ANBN_")}
    env |= settings["environment"]
    path = [str(Path(settings["root"]) / "lib"), env.get("PYTHONPATH")]
    env["PYTHONPATH"] = os.pathsep.join(p for p in path if p)
    for library in ("OMP", "MKL", "OPENBLAS"):  # Dask's nanny sets them to 1
        env[f"{library}_NUM_THREADS"] = str(settings["threads"])
    if settings["gpus"] and job["values"].get("device") in ("auto", "cuda"):
        number = int(name) if str(name).isdigit() else 0
        env["CUDA_VISIBLE_DEVICES"] = settings["gpus"][number % len(settings["gpus"])]
    return env


def _watch(job, settings, worker):
    key, start = worker.get_current_task(), time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "anbn.study.sweep_stage"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=settings["root"],
            env=_environment(job, settings, worker.name),
            start_new_session=True,  # Ctrl-C is for the sweep to handle
        )
        text = json.dumps(job | {"parent": os.getpid(), "token": settings["token"]})
        while True:
            try:
                out, _ = process.communicate(text, timeout=0.3)
                break
            except subprocess.TimeoutExpired:
                text = None
            if not _wanted(worker, key, settings):
                end(process.pid)
                process.communicate()
                return answer("not run", "stopped")
        seconds = time.monotonic() - start
        try:
            return json.loads(out.rstrip().rsplit("\n", 1)[-1]) | {"seconds": seconds}
        except ValueError:
            log.seek(0)
            last = log.read().strip().split("\n")[-1] or f"code {process.returncode}"
            what = f"its process ended without an answer: {last}"[:300]
            return answer("failed", what, ran=True, seconds=seconds)


def _wanted(worker, key, settings):
    """Whether anybody still waits for this task."""
    task = worker.state.tasks.get(key)
    asked = task is not None and task.state in ("executing", "long-running")
    return asked and token_of(settings) == settings["token"]


def end(pid):
    """Kill a process and all it started."""
    try:
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            pass
