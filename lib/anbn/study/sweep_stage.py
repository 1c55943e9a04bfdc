"""One stage run of a sweep in a process of its own: `python -m anbn.study.sweep_stage`.

The run comes as JSON on standard input, the answer goes out as the last line of
standard output. If the worker that started it dies, it ends itself and its kernel.
"""

import json
import os
import shutil
import sys
import threading
import time

from anbn.core import artifacts
from anbn.core.paths import stage_dir
from anbn.study import fingerprints, pipeline
from anbn.study.sweep_task import answer, end

FAILED = "failed.json"
PATIENCE = 60.0  # s, for what a killed worker left behind to end itself


def _end_with(parent):
    """End this process and its kernel when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(0.3)
    end(os.getpid())


def one_line(error):
    """An error as one line of a table."""
    text = str(error).split("\nThe notebook up to there")[0]
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= 300 else text[:299] + "…"


def run(job):
    """Run one stage, unless it is up to date.

    Parameters
    ----------
    job : dict
        ``study`` (the run's name), ``stage``, ``values``, ``fingerprint``,
        ``upstream``, ``token`` (of the running sweep).

    Returns
    -------
    answer : dict
        See ``sweep_task.run_stage``.
    """
    study, stage, expected = job["study"], job["stage"], job["fingerprint"]
    out = stage_dir(study, stage)
    out.mkdir(parents=True, exist_ok=True)
    try:
        artifacts.hold(out.parent, PATIENCE)
        artifacts.hold(out, PATIENCE)  # a kernel that lost its process may still write
        artifacts.release(out)
    except TimeoutError as error:
        return answer("failed", one_line(error))
    if fingerprints.is_current(out, expected):
        return answer("done")
    before = read_failure(out)
    if before and before.get("token") == job["token"]:  # on a worker that died since
        return answer("failed", before["error"])
    for path in [*out.parent.glob(".tmp-*"), *out.rglob(".tmp-*")]:
        shutil.rmtree(path, ignore_errors=True)
    (out / FAILED).unlink(missing_ok=True)
    try:
        now = fingerprints.fingerprint(stage, job["values"], job["upstream"])
        if now != expected:
            raise artifacts.ArtifactError(
                "the notebook, the library or data changed while the sweep ran: give "
                "the same command again"
            )
        pipeline.run_stage(study, stage, job["values"], expected)
    except Exception as error:
        line = one_line(error).removeprefix(f"{study}/")
        record = {"token": job["token"], "error": line, "fingerprint": expected}
        artifacts.write_json(out / FAILED, record)
        return answer("failed", line, ran=True)
    return answer("done", ran=True)


def read_failure(out):
    """Record of the last failure of a run: ``token``, ``error``; None without one."""
    try:
        return artifacts.read_json(out / FAILED)
    except artifacts.ArtifactError:
        return None


def main():
    job = json.load(sys.stdin)
    threading.Thread(target=_end_with, args=(job["parent"],), daemon=True).start()
    print("\n" + json.dumps(run(job)), flush=True)


if __name__ == "__main__":
    main()
