"""What a Dask worker does for one stage run: start a process, watch it, hand back.

Sent to workers by value, so that no long-lived worker goes on with an old version of
it: only the standard library, psutil and distributed may be imported.
"""

import json
import os
import subprocess
import sys
import tempfile

import psutil


def answer(status, error=None, *, ran=False, seconds=0.0):
    """How a run ended.

    Parameters
    ----------
    status : str
        done, failed, not run, or unfit: nothing can run where it was to run.
    error : str, optional
    ran : bool
        Whether its notebook was executed now.
    seconds : float

    Returns
    -------
    answer : dict
    """
    return {"status": status, "error": error, "ran": ran, "seconds": seconds}


def one_line(error):
    """An error as one line of a table."""
    text = " ".join(error.split())
    return text if len(text) <= 300 else text[:299] + "…"


def run_stage(job, settings):
    """Run one stage in a process of its own.

    The process is killed when nobody waits for its answer any more.

    Returns
    -------
    answer : dict
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    worker.log_event(settings["topic"], (job["fingerprint"], worker.address))

    def wanted():
        task = worker.state.tasks.get(key)
        return task is not None and task.state in ("executing", "long-running")

    env = environment(settings, job["values"].get("device"), worker.name)
    env["ANBN_OUTPUTS"] = settings["outputs"]
    return in_process(job, settings["root"], env, wanted)


def environment(settings, device, name):
    """Of a process: the project, its threads, and one GPU if they are shared out.

    Parameters
    ----------
    settings : dict
    device : str or None
        The stage's parameter.
    name : object
        Of the worker; of this machine's a number.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith("ANBN_")}
    env |= settings["environment"]
    path = [os.path.join(settings["root"], "lib"), env.get("PYTHONPATH")]
    env["PYTHONPATH"] = os.pathsep.join(p for p in path if p)
    for library in ("OMP", "MKL", "OPENBLAS"):  # Dask's nanny sets them to 1
        env[f"{library}_NUM_THREADS"] = str(settings["threads"])
    if settings["gpus"] and device in ("auto", "cuda"):
        number = int(name) if str(name).isdigit() else 0
        env["CUDA_VISIBLE_DEVICES"] = settings["gpus"][number % len(settings["gpus"])]
    return env


def in_process(job, root, env, wanted=lambda: True):
    """What `python -m anbn.study.execute` answers to a job, or how it failed.

    Parameters
    ----------
    job : dict
    root : str
        Of the project.
    env : dict of str to str
    wanted : callable
        Asked several times a second; the process is killed once it says no.
    """
    with tempfile.TemporaryFile("w+") as log:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "anbn.study.execute"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=root,
                env=env,
                start_new_session=True,  # Ctrl-C is for who started the study
            )
        except OSError as error:
            return answer("unfit", f"no process on {os.uname().nodename}: {error}")
        text = json.dumps(job | {"parent": os.getpid()})
        while True:
            try:
                out, _ = process.communicate(text, timeout=0.3)
                break
            except subprocess.TimeoutExpired:
                text = None
            except BaseException:
                end(process.pid)
                raise
            if not wanted():
                end(process.pid)
                process.communicate()
                return answer("not run", "stopped")
        try:
            return json.loads(out.rstrip().rsplit("\n", 1)[-1])
        except ValueError:
            log.seek(0)
            last = log.read().strip().split("\n")[-1] or f"code {process.returncode}"
            where = f"{sys.executable} on {os.uname().nodename}"
            what = "unfit" if "No module named" in last else "failed"
            return answer(what, f"{where} ended without an answer: {last}", ran=True)


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
