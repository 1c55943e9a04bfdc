"""What runs a study, which is a sweep with one point: its stages, each once.

A task is a notebook, its parameters and what it reads; its fingerprint is its key. A
study's tasks are written where its stages are, those of a sweep each in a folder named
by the first digits of its fingerprint, beside links to the stages it reads; every point
of a sweep is a folder of links::

    outputs/<study>/<stage>/
    outputs/sweeps/<name>/runs/<12 digits>/<stage>/
    outputs/sweeps/<name>/points/<label>/<stage> -> ../../runs/<12 digits>/<stage>
"""

import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import cloudpickle

from anbn.core import artifacts
from anbn.core.paths import outputs_dir, project_root, stage_dir, stage_number
from anbn.study import clusters, execute, fingerprints, task
from anbn.study.wording import duration

NOT_TAKEN = (".lock", ".running", "failed.ipynb", "running.ipynb", "source.ipynb")
COPIED = (artifacts.MANIFEST, "notebook.ipynb", "notebook.html", "stage.log")
MOMENT = 2.0  # s
PASSED = ("ANBN_", "HF_", "TOKENIZERS_")  # of the environment, to workers


class EngineError(RuntimeError):
    """A study or sweep cannot run or go on."""


@dataclass(frozen=True)
class Task:
    """One run of a stage, shared by all points that need it."""

    folder: Path  # holds the folder of the stage and those of the stages it reads
    stage: str
    values: dict
    fingerprint: str
    upstream: dict  # stage -> fingerprint
    points: list  # numbers of the points that need it

    @property
    def out(self):
        """Where it is written."""
        return self.folder / self.stage

    @property
    def is_done(self):
        """Whether it has run, and what it wrote is whole."""
        return fingerprints.is_current(self.out, self.fingerprint)

    @property
    def job(self):
        """What `execute.run` takes."""
        return {
            "study": self.folder.name,
            "stage": self.stage,
            "values": self.values,
            "fingerprint": self.fingerprint,
            "upstream": self.upstream,
        }


def folder_of(sweep):
    """Folder of a study's or sweep's outputs, absolute."""
    name = sweep.name if sweep.is_study else f"sweeps/{sweep.name}"
    return Path(os.path.abspath(stage_dir(name, "")))


def plan(sweep):
    """Tasks of a study or sweep after sharing, and those of every point.

    Parameters
    ----------
    sweep : anbn.study.sweeps.Sweep

    Returns
    -------
    tasks : dict of str to Task
        By fingerprint; what a task reads stands before it.
    chains : list of dict of str to str
        Of every point: stage -> fingerprint.

    Raises
    ------
    FileNotFoundError
        If a data file that a parameter names is not there.
    """
    tasks, chains, known, folder = {}, [], {}, folder_of(sweep)
    for number, point in enumerate(sweep.points):
        chain = {}
        for stage, reads in sweep.reads.items():
            upstream = {name: chain[name] for name in reads}
            values = point.values[stage]
            same = json.dumps([stage, values, upstream], sort_keys=True)
            if same not in known:
                known[same] = fingerprints.fingerprint(stage, values, upstream)
            key = chain[stage] = known[same]
            if key not in tasks:
                home = folder if sweep.is_study else folder / "runs" / key[:12]
                tasks[key] = Task(home, stage, values, key, upstream, [])
            tasks[key].points.append(number)
        chains.append(chain)
    return tasks, chains


def lay_out(sweep, tasks, chains):
    """Make the links between a sweep's tasks, and the folders of its points anew."""
    folder = folder_of(sweep)
    for one in tasks.values():
        one.folder.mkdir(parents=True, exist_ok=True)
        for stage, key in one.upstream.items():
            link = one.folder / stage
            link.unlink(missing_ok=True)
            link.symlink_to(Path("..") / key[:12] / stage)
    shutil.rmtree(folder / "points", ignore_errors=True)
    for point, chain in zip(sweep.points, chains, strict=True):
        (folder / "points" / point.label).mkdir(parents=True)
        for stage, key in chain.items():
            link = folder / "points" / point.label / stage
            link.symlink_to(Path("../../runs") / key[:12] / stage)


def taken_from(sweep, one):
    """Where the base study has this very task of a sweep done already, or None."""
    there = stage_dir(sweep.study, one.stage)
    has = not sweep.is_study and fingerprints.is_current(there, one.fingerprint)
    return there if has else None


def take(source, out):
    """Take over a stage that the base study has: data by hard link, the rest copied.

    Writers replace files, they do not write into them: the study's next run leaves
    what is linked here alone.
    """
    with artifacts.atomic(out) as temporary:
        ignored = shutil.ignore_patterns(*NOT_TAKEN, ".tmp-*")
        shutil.copytree(source, temporary, ignore=ignored, copy_function=_link_or_copy)


def _link_or_copy(source, target):
    if os.path.basename(source) not in COPIED:
        try:
            os.link(source, target)
            return
        except OSError:  # another disk, or one without hard links
            pass
    shutil.copy2(source, target)


def costs(sweep, tasks):
    """Bytes and seconds of one run of each stage, from manifests of finished runs.

    Those of the base study count, else the mean of this sweep's own.

    Returns
    -------
    n_bytes, seconds : dict of str to float
        Without the stages of which nothing is known.
    """
    n_bytes, seconds = {}, {}
    for stage in sweep.reads:
        own = [one.out for one in tasks.values() if one.stage == stage]
        for outs in (own, [stage_dir(sweep.study, stage)]):  # the later counts
            found = []
            for out in outs:
                try:
                    found.append(artifacts.read_manifest(out))
                except artifacts.ArtifactError:  # it has not run
                    continue
            times = [m["seconds"] for m in found if m.get("seconds")]
            if found:
                sizes = [sum(f["bytes"] for f in m["files"].values()) for m in found]
                n_bytes[stage] = sum(sizes) / len(sizes)
            if times:
                seconds[stage] = sum(times) / len(times)
    return n_bytes, seconds


def describe(sweep, tasks, chains, missing, taken, n_jobs):
    """Print what a study or sweep has to do and what that takes.

    Parameters
    ----------
    sweep : anbn.study.sweeps.Sweep
    tasks, chains
        From ``plan``.
    missing : dict of str to Task
        What has not run.
    taken : dict of str to Path
        What of that the base study has, and where.
    n_jobs : int or None
        How many run at a time, if that is known.

    Raises
    ------
    EngineError
        If it does not fit on the disk.
    """
    folder, todo = folder_of(sweep), [missing[k] for k in missing if k not in taken]
    what = f"sweep {sweep.name} of study {sweep.study}: {len(sweep.points)} points"
    if sweep.is_study:
        what = f"study {sweep.name}"
    print(
        f"{what}, stages {' '.join(map(stage_number, sweep.reads))}\n"
        f"  {len(tasks)} stage runs after sharing (of {sum(map(len, chains))}): "
        f"{len(tasks) - len(missing)} up to date, {len(taken)} to take from "
        f"outputs/{sweep.study}, {len(todo)} to run"
    )
    ours = {one.folder.name for one in tasks.values()}
    if any(path.name not in ours for path in (folder / "runs").glob("[!.]*")):
        print(f"  {folder / 'runs'} also holds runs of earlier settings")
    if not todo:
        return
    n_bytes, seconds = costs(sweep, tasks)
    need = sum(n_bytes.get(one.stage, 0) for one in todo)
    total = sum(seconds.get(one.stage, 0) for one in todo)
    on = f"on {n_jobs} at a time" if n_jobs else "in all, over the jobs there are"
    free = free_bytes(folder)
    size = _unless_unknown(todo, n_bytes, f"some {_gb(need)}")
    time = _unless_unknown(todo, seconds, f"{duration(total / (n_jobs or 1))} {on}")
    print(f"  disk: {size}; {_gb(free)} free\n  time: {time}", flush=True)
    if need > free:
        raise EngineError(
            f"this needs some {_gb(need)} and {folder} has {_gb(free)} free. "
            "Set ANBN_OUTPUTS to a larger disk, or run less."
        )


def _unless_unknown(todo, known, text):
    stages = {one.stage for one in todo}
    unknown = sorted(stage_number(stage) for stage in stages if stage not in known)
    if len(unknown) == len(stages):
        return "not known before one point has run (or `make all` of the study)"
    return text + f", without stages {' '.join(unknown)}, not known" * bool(unknown)


def _gb(n_bytes):
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"


def free_bytes(folder):
    """Free space of the disk that a folder is, or will be, on."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def run_here(tasks, progress):
    """Run tasks one after another on this machine, without Dask.

    Parameters
    ----------
    tasks : dict of str to Task
        By fingerprint; what they read stands before them, or has run.
    progress : Progress

    Yields
    ------
    key : str
    answer : dict
        See ``task.answer``.
    """
    failed = set()
    for key, one in tasks.items():
        found = task.answer("not run")
        if not failed & set(one.upstream.values()):
            progress.start(key)
            is_here = one.folder.parent == Path(os.path.abspath(outputs_dir()))
            found = _fit(execute.run(**one.job) if is_here else run_apart(one))
        if found["status"] != "done":
            failed.add(key)
        yield key, found


def run_apart(one):
    """Run a task in a process of its own, which finds what it reads elsewhere.

    Returns
    -------
    answer : dict
    """
    _, threads, _, _ = clusters.local_size(1)
    settings = _settings() | {"threads": threads, "gpus": []}
    env = task.environment(settings, None, 0)
    env["ANBN_OUTPUTS"] = str(one.folder.parent)
    return task.in_process(one.job, settings["root"], env)


def run_on_dask(tasks, progress, *, scheduler, jobs, logs):
    """Run tasks on Dask workers, as many at a time as there are.

    Parameters
    ----------
    tasks : dict of str to Task
    progress : Progress
    scheduler : str
        ``local``, ``slurm``, ... or an address.
    jobs : int or None
        At most so many at a time; None for what fits.
    logs : Path
        Folder for what the jobs of a cluster print.

    Yields
    ------
    key : str
    answer : dict

    Raises
    ------
    ClusterError, EngineError
    """
    settings, versions = _settings(), fingerprints.versions()
    where = {"logs": logs, "n_tasks": len(tasks)}
    with clusters.open_client(scheduler, jobs, **where) as (client, workers):
        settings |= workers
        settings["environment"].pop(
            "ANBN_WORKERS", None
        )  # they may wait for each other
        if workers["subjects"]:
            settings["environment"]["ANBN_WORKERS"] = client.scheduler.address
        places = {}

        def begun(event):
            key, worker = event[1]
            places[key] = worker
            progress.start(key)

        client.subscribe_topic(settings["topic"], begun)

        def submit(one, worker):
            return client.submit(
                _by_value(task.run_stage),
                one.job | {"versions": versions},
                settings | {"outputs": str(one.folder.parent)},
                key=f"{one.stage}-{one.fingerprint[:12]}-{settings['topic']}",
                workers=worker or None,
                allow_other_workers=bool(worker),
            )

        for key, answer in _place(client, tasks, submit, places, jobs or len(tasks)):
            progress.n_jobs = max(1, len(client.nthreads()))
            yield key, answer


def _place(client, tasks, submit, places, most):
    """Give tasks to workers as both become free; their keys and answers as they end.

    ``places`` tells by key where those that have begun run; at ``most`` so many do.
    Left to itself Dask queues a stage behind another while a worker idles.
    """
    waiting, running, ended = dict(tasks), {}, {}
    try:
        while waiting or running:
            taken = [places.get(key, worker) for key, worker in running.values()]
            free = clusters.free_workers(client, taken)[: most - len(running)]
            for key, one in list(waiting.items()):
                before = {ended.get(u) for u in one.upstream.values() if u in tasks}
                if before & {"failed", "not run"}:
                    del waiting[key]
                    ended[key] = "not run"
                    yield key, task.answer("not run")
                elif free and None not in before:
                    worker = free.pop()
                    del waiting[key]
                    running[submit(one, worker)] = key, worker
            for future in _ended(running):
                key, _ = running.pop(future)
                answer = _answer_of(future)
                ended[key] = answer["status"]
                yield key, answer
    finally:
        client.cancel(list(running))  # workers end their processes


def _settings():
    """What every task is told."""
    root = Path(os.path.abspath(project_root()))
    environment = {k: v for k, v in os.environ.items() if k.startswith(PASSED)}
    return {
        "root": str(root),
        "environment": environment | {"ANBN_ROOT": str(root)},
        "topic": uuid.uuid4().hex[:12],
    }


def _by_value(function):
    """A function of `task` that is sent as its code.

    The copy is not what its module holds, so that pickle cannot name it instead.
    """
    cloudpickle.register_pickle_by_value(task)
    return cloudpickle.loads(cloudpickle.dumps(function))


def _ended(running):
    """Those of some futures that have ended; none after a moment: workers may come."""
    from distributed import CancelledError, wait

    if not running:
        return []
    try:
        return wait(list(running), timeout=MOMENT, return_when="FIRST_COMPLETED").done
    except TimeoutError:
        return []
    except (CancelledError, OSError) as error:
        raise EngineError(
            "the scheduler went away. When it is back, the same command goes on."
        ) from error


def _fit(answer):
    """An answer; an error if where a task ran no task can run."""
    if answer["status"] == "unfit":
        raise EngineError(answer["error"])
    return answer


def _answer_of(future):
    from distributed import KilledWorker

    error = future.exception()
    if error is None:
        return _fit(future.result())
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, KilledWorker):
        what = "the workers that ran it died again and again: out of memory?"
    return task.answer("failed", what, ran=True)
