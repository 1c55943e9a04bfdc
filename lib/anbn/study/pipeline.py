"""Run the notebooks of a study or of a sweep, and skip what is up to date.

A stage is up to date when the fingerprint in its manifest is the one it would get
now: what its notebook says, its parameters, the modules it imports, the versions of the
libraries that compute, the stages and data files it reads. How it runs (device, jobs,
batch size) and when files were saved do not count. After an interruption, a failure or
a change the same command does only what is missing; what fails does not stop what does
not read it.
"""

import argparse
import fcntl
import os
import shutil
import signal
import sys
from contextlib import closing, contextmanager

from anbn.brain import bids
from anbn.core import artifacts, params
from anbn.core.paths import stage_number
from anbn.study import (
    clusters,
    engine,
    fingerprints,
    notebooks,
    sweep_results,
    sweeps,
    task,
)
from anbn.study.progress import Progress
from anbn.study.sweep_results import REPORT

EXPECTED = (  # errors that are told without their origin
    params.ParamError,
    artifacts.ArtifactError,
    clusters.ClusterError,
    engine.EngineError,
    bids.BidsError,
    OSError,
)


def run_study(study, wanted, *, scheduler="local", jobs=1):
    """Run the given stages of a study, and the earlier ones they read, where needed.

    Parameters
    ----------
    study : str
        A folder of ``params/``.
    wanted : list of str
        Names of stages, in order.
    scheduler, jobs
        See ``run``.

    Returns
    -------
    n_run : int
        How many stages were executed.

    Raises
    ------
    EngineError
        If a stage failed.
    """
    answers = run(sweeps.of_study(study, wanted), scheduler=scheduler, jobs=jobs)
    return sum(answer["ran"] for answer in answers.values())


def run(sweep, *, scheduler="local", jobs=None, only_check=False):
    """Run what is missing of a study or sweep; of a sweep, make table and report, too.

    Parameters
    ----------
    sweep : anbn.study.sweeps.Sweep
    scheduler : str
        ``local``, ``slurm``, ``pbs``, ... or an address.
    jobs : int, optional
        At most so many stages at a time; else what fits. One on this machine is run
        in this process.
    only_check : bool

    Returns
    -------
    answers : dict of str to dict
        Of every task, by fingerprint; see ``task.answer``.

    Raises
    ------
    EngineError
        If a stage of a study or the report of a sweep failed, the disk is too small, or
        the scheduler is lost.
    ClusterError
    KeyboardInterrupt
    """
    clusters.check_scheduler(scheduler)
    n_jobs = clusters.local_size(jobs)[0] if scheduler == "local" else None
    # all is checked before anything runs
    tasks, chains = engine.plan(sweep)
    missing = {key: one for key, one in tasks.items() if not one.is_done}
    taken = {key: engine.taken_from(sweep, one) for key, one in missing.items()}
    taken = {key: source for key, source in taken.items() if source}
    if only_check or not sweep.is_study:
        engine.describe(sweep, tasks, chains, missing, taken, n_jobs)
    if only_check:
        return {}
    folder = engine.folder_of(sweep)
    with only_one(folder):
        for path in [*folder.glob(".tmp-*"), *folder.glob("runs/*/.tmp-*")]:
            shutil.rmtree(path, ignore_errors=True)
        if not sweep.is_study:
            engine.lay_out(sweep, tasks, chains)
        for key, source in taken.items():
            engine.take(source, missing[key].out)
            if missing[key].is_done:  # the study may have been written meanwhile
                del missing[key]
        answers = {key: task.answer("done") for key in tasks if key not in missing}
        _run_missing(sweep, tasks, chains, missing, answers, scheduler, n_jobs or jobs)
        if not sweep.is_study:
            make_report(folder)
    return answers


def _run_missing(sweep, tasks, chains, missing, answers, scheduler, jobs):
    _say_what_is_there(sweep, tasks, missing)
    _, seconds = engine.costs(sweep, tasks)
    names = {key: _name(sweep, one) for key, one in missing.items()}
    expected = {k: seconds[t.stage] for k, t in missing.items() if t.stage in seconds}
    with Progress(names, expected) as progress:
        if not missing or (jobs == 1 and scheduler == "local"):
            runs = engine.run_here(missing, progress)
        else:
            logs = engine.folder_of(sweep) / "jobs"
            where = {"scheduler": scheduler, "jobs": jobs, "logs": logs}
            runs = engine.run_on_dask(missing, progress, **where)
        _write_table(sweep, tasks, chains, answers)
        with closing(runs):  # workers end before the lock is given up
            for key, answer in runs:
                answers[key] = answer
                progress.end(key, answer)
                _write_table(sweep, tasks, chains, answers)
    unlike = [tasks[key] for key in missing if answers[key]["status"] != "done"]
    if sweep.is_study and unlike:
        texts = [_failure(one, answers[one.fingerprint]) for one in unlike]
        raise engine.EngineError("\n".join(filter(None, texts)) or "stopped")


def _name(sweep, one):
    label = sweep.name if sweep.is_study else sweep.points[one.points[0]].label
    more = f" and {len(one.points) - 1} more" if len(one.points) > 1 else ""
    return f"{one.stage} of {label}{more}"


def _failure(one, answer):
    if answer["status"] != "failed":
        return None
    notebook = one.out / "failed.ipynb"
    where = f"\nThe notebook up to there: {os.path.relpath(notebook)}"
    what = f"{one.folder.name}/{one.stage}, {answer['error']}"
    return what + where * notebook.is_file()


def _say_what_is_there(sweep, tasks, missing):
    """Of a study: what is up to date, and what was made by other versions."""
    for key, one in tasks.items() if sweep.is_study else ():
        if key not in missing:
            print(f"{sweep.name}/{one.stage}: up to date", flush=True)
            continue
        try:
            manifest = artifacts.read_manifest(one.out)
        except artifacts.ArtifactError:  # there is none, or it is damaged
            continue
        for name, (made, here) in fingerprints.other_versions(manifest).items():
            print(f"{sweep.name}/{one.stage}: made with {name} {made}, here is {here}")


def _write_table(sweep, tasks, chains, answers):
    if not sweep.is_study:
        sweep_results.write(sweep, tasks, chains, answers)


@contextmanager
def only_one(folder):
    """Let one process at a time run a study or sweep; the lock ends with its process.

    Raises
    ------
    EngineError
        If another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise engine.EngineError(
                f"{folder.name!r} is being run by another process "
                f"({folder / '.lock'} is locked)"
            ) from None
        yield


def make_report(folder):
    """Execute the report's notebook on a sweep's table, unless nothing changed.

    Raises
    ------
    EngineError
        If it fails. The table stands.
    """
    if not params.notebook_path(REPORT).is_file():
        return
    values = {key: p.default for key, p in params.declared(REPORT).items()}
    read = {folder.name: artifacts.sha256(folder / "results.csv")}
    expected = fingerprints.fingerprint(REPORT, values, read)
    found = engine.run_apart(engine.Task(folder, REPORT, values, expected, read, []))
    if found["status"] != "done":
        raise engine.EngineError(
            f"the report failed, the table stands in {folder}: {found['error']}"
        )


def _wanted(study, given, parser):
    """Full names of the stages asked for, by number or name; all without any."""
    every = notebooks.names()
    there, asked = notebooks.of_study(study), []
    for name in given:
        called = notebooks.called(name, there)
        if not called:
            numbers = " ".join(map(stage_number, every))
            parser.error(f"no stage {name!r}; stages are {numbers}")
        asked += called
    return [stage for stage in every if stage in asked] if given else there


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m anbn.study.pipeline", description=__doc__
    )
    parser.add_argument("study", nargs="?", help="a folder of params/")
    parser.add_argument("stages", nargs="*", help="as 01 02; all if none is given")
    parser.add_argument(
        "--sweep", nargs="?", const="", help="of params/sweeps/; lists them without one"
    )
    parser.add_argument(
        "--scheduler", default="local", help="local, slurm, pbs, ... or tcp://host:port"
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
        if code := _main(options, parser):
            sys.exit(code)
    except KeyboardInterrupt:
        print("\nstopped. The same command goes on from here.", file=sys.stderr)
        sys.exit(130)
    except EXPECTED as error:
        sys.exit(f"error: {error}")


def _main(options, parser):
    if options.sweep == "":
        for name, what in sweeps.names().items():
            print(f"  {name:18} {what}")
        return 0
    jobs = options.jobs
    if options.sweep:
        if options.stages:
            parser.error("stages of a sweep are named in its file")
        sweep = sweeps.read(options.sweep, options.study)
    elif options.study is None:
        parser.error("give a study, or --sweep")
    else:
        wanted = _wanted(options.study, options.stages, parser)
        if not options.stages:
            for note in params.apart(options.study):
                print(f"note: {note}")
        sweep = sweeps.of_study(options.study, wanted)
        if options.scheduler == "local":
            jobs = jobs or 1  # without jobs or a scheduler no cluster is started
    folder = engine.folder_of(sweep)
    if options.job_script:
        print(clusters.job_script(options.scheduler, logs=folder / "jobs"))
        return 0
    run(sweep, scheduler=options.scheduler, jobs=jobs, only_check=options.check)
    if sweep.is_study or options.check:
        return 0
    return sweep_results.conclude(folder)


if __name__ == "__main__":
    main()
