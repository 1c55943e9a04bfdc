"""Run a sweep: every point of `params/sweeps/NAME.yaml`, each stage once, on Dask.

What has run is not run again: after an interruption, a failure or a change the same
command does only what is missing. A point that fails does not stop the others.
"""

import argparse
import fcntl
import os
import queue
import signal
import sys
import uuid
from contextlib import contextmanager
from pathlib import Path

import cloudpickle

from anbn.core import artifacts, params
from anbn.core.paths import project_root
from anbn.study import (
    clusters,
    fingerprints,
    pipeline,
    sweep_cost,
    sweep_plan,
    sweep_results,
    sweep_spec,
    sweep_task,
    sweeps,
)
from anbn.study.sweep_plan import SweepError
from anbn.study.sweep_progress import Progress
from anbn.study.sweep_results import REPORT

RUNNING = ".running"  # holds the token of the sweep that runs; workers look for it


def run_sweep(sweep, *, scheduler="local", jobs=None):
    """Run what is missing of a sweep, gather its table, make its report.

    Parameters
    ----------
    sweep : anbn.study.sweeps.Sweep
    scheduler : str
        ``local``, ``slurm``, ``pbs``, ``sge`` or an address.
    jobs : int, optional
        At most so many stages at a time; else what fits.

    Returns
    -------
    table : DataFrame
        See ``sweep_results.gather``.

    Raises
    ------
    SweepError, ClusterError, KeyboardInterrupt
    """
    runs, chains = sweep_plan.plan(sweep)
    folder = sweep_plan.folder_of(sweep.name)
    at_once = jobs if scheduler == "local" else 0
    missing, taken = sweep_cost.describe(folder, sweep, runs, chains, at_once)
    with _only_one(folder, sweep.name):
        for path in [*folder.glob(".tmp-*"), *folder.glob("runs/*/.tmp-*")]:
            artifacts._delete(path)
        sweep_plan.lay_out(folder, sweep, runs, chains)
        for key, source in taken.items():
            sweep_plan.take(source, sweep_plan.out_of(folder, missing.pop(key)))
        answers = {k: {"status": "done"} for k in runs if k not in missing}

        def write():
            table = sweep_results.gather(folder, sweep, runs, chains, answers)
            sweep_results.write(folder, sweep, table)
            return table

        write()
        if missing:
            labels = [point.label for point in sweep.points]
            _, seconds = sweep_cost.costs(folder, sweep, runs)
            with Progress(missing, labels, seconds) as progress:
                _run(folder, missing, answers, progress, scheduler, jobs, write)
        table = write()
        make_report(folder, sweep.name)
    return table


@contextmanager
def _only_one(folder, name):
    """Let one process at a time run a sweep."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SweepError(
                f"sweep {name!r} is being run by another process "
                f"({folder / '.lock'} is locked)"
            ) from None
        try:
            yield
        finally:
            (folder / RUNNING).unlink(missing_ok=True)


def _settings(folder):
    """What every task is told; the file that marks this sweep as running is written."""
    token = uuid.uuid4().hex
    with artifacts.atomic(folder / RUNNING) as temporary:
        temporary.write_text(token)
    root = Path(os.path.abspath(project_root()))
    passed = ("ANBN_", "HF_", "TOKENIZERS_")
    environment = {k: v for k, v in os.environ.items() if k.startswith(passed)}
    environment |= {"ANBN_ROOT": str(root), "ANBN_OUTPUTS": str(folder / "runs")}
    return {
        "root": str(root),
        "python": sys.executable,
        "environment": environment,
        "sources": sweep_task.sources_hash(root),
        "versions": fingerprints.versions(),
        "token": token,
        "token_file": str(folder / RUNNING),
        "topic": f"anbn-sweep-{token}",
    }


def _run(folder, missing, answers, progress, scheduler, jobs, write):
    """Send runs to workers, follow them to their end."""
    task = _by_value(sweep_task.run_stage)
    settings, events = _settings(folder), queue.SimpleQueue()
    with clusters.open_client(scheduler, jobs, logs=folder / "jobs") as opened:
        client, threads, gpus = opened
        if threads is None:
            threads = clusters.check_workers(
                client, _by_value(sweep_task.look), settings
            )
        settings |= {"threads": threads, "gpus": gpus}
        client.subscribe_topic(settings["topic"], lambda event: events.put(event[1]))
        futures = {}
        try:
            for key, run in missing.items():
                reads = [futures[u] for u in run.upstream.values() if u in futures]
                job = {
                    "key": key,
                    "study": run.name,
                    "stage": run.stage,
                    "values": run.values,
                    "fingerprint": key,
                    "upstream": run.upstream,
                }
                futures[key] = client.submit(
                    task,
                    job,
                    settings,
                    *reads,
                    key=f"{run.stage}-{run.name}-{settings['token'][:8]}",
                    pure=True,
                )
            for key, future in futures.items():
                future.add_done_callback(lambda _, key=key: events.put({"ended": key}))
            waiting = set(futures)
            while waiting:
                progress.n_jobs = max(1, sum(client.nthreads().values()))
                try:
                    event = events.get(timeout=0.5)
                except queue.Empty:
                    progress.tick()
                    continue
                if "key" in event:
                    if event["key"] in waiting:
                        progress.start(event["key"], event["worker"])
                    continue
                key = event["ended"]
                waiting.discard(key)
                answers[key] = _answer_of(futures[key])
                progress.end(key, answers[key])
                write()
        finally:
            (folder / RUNNING).unlink(missing_ok=True)  # workers end their processes
            client.cancel(list(futures.values()))


def _by_value(function):
    """A function that is sent as its code.

    The copy is not what its module holds, so that pickle cannot name it instead.
    """
    cloudpickle.register_pickle_by_value(sweep_task)
    return cloudpickle.loads(cloudpickle.dumps(function))


def _answer_of(future):
    from distributed import KilledWorker

    if future.status == "cancelled" or future.status == "lost":
        raise SweepError(
            "the scheduler went away. When it is back, the same command goes on."
        )
    error = future.exception()
    if error is None:
        return future.result()
    what = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    if isinstance(error, KilledWorker):
        what = "the workers that ran it died again and again: out of memory?"
    return sweep_task.answer("failed", what, ran=True)


def make_report(folder, name):
    """Execute the report's notebook on the table, unless nothing changed.

    Raises
    ------
    SweepError
        If it fails. The table stands.
    """
    if not params.notebook_path(REPORT).is_file():
        return
    values = {key: p.default for key, p in params.declared(REPORT).items()}
    read = {name: artifacts.sha256(folder / "results.csv")}
    expected = fingerprints.fingerprint(REPORT, values, read)
    if fingerprints.is_current(folder / REPORT, expected):
        return
    before = os.environ.get("ANBN_OUTPUTS")
    os.environ["ANBN_OUTPUTS"] = str(folder.parent)
    try:
        pipeline.run_stage(name, REPORT, values, expected)
    except (pipeline.StageError, artifacts.ArtifactError, OSError) as error:
        raise SweepError(
            f"the report failed, the table stands in {folder}: {error}"
        ) from error
    finally:
        if before is None:
            del os.environ["ANBN_OUTPUTS"]
        else:
            os.environ["ANBN_OUTPUTS"] = before


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m anbn.study.sweep_runner", description=__doc__
    )
    parser.add_argument("name", nargs="?", help="of params/sweeps/NAME.yaml")
    parser.add_argument("--study", help="base study instead of the file's own")
    parser.add_argument(
        "--scheduler", default="local", help="local, slurm, pbs, sge or tcp://host:port"
    )
    parser.add_argument("--jobs", type=int, help="at most so many stages at a time")
    parser.add_argument("--check", action="store_true", help="run nothing")
    parser.add_argument(
        "--job-script", action="store_true", help="print the job of a cluster"
    )
    options = parser.parse_args(arguments)
    if options.jobs is not None and options.jobs < 1:
        parser.error(f"--jobs must be at least 1, found {options.jobs}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(_main(options))
    except KeyboardInterrupt:
        print("\nstopped. The same command goes on from here.", file=sys.stderr)
        sys.exit(130)
    except (
        params.ParamError,
        artifacts.ArtifactError,
        clusters.ClusterError,
        SweepError,
        FileNotFoundError,
    ) as error:
        sys.exit(f"error: {error}")


def _main(options):
    if not options.name:
        for name, what in sweep_spec.names().items():
            print(f"  {name:18} {what}")
        return 0
    clusters.check_scheduler(options.scheduler)
    sweep = sweeps.read(options.name, options.study)
    folder = sweep_plan.folder_of(sweep.name)
    if options.job_script:
        if options.scheduler not in clusters.QUEUES:
            raise SweepError(
                f"--job-script needs --scheduler {', '.join(clusters.QUEUES)}"
            )
        with clusters.job_cluster(options.scheduler, logs=folder / "jobs") as cluster:
            print(cluster.job_script())
        return 0
    if options.check:
        sweep_cost.describe(folder, sweep, *sweep_plan.plan(sweep), options.jobs)
        return 0
    table = run_sweep(sweep, scheduler=options.scheduler, jobs=options.jobs)
    return sweep_results.conclude(folder, table)


if __name__ == "__main__":
    main()
