"""Where stages run: on this machine, with a Dask scheduler, or as jobs of a cluster.

Jobs of a cluster are those of dask-jobqueue; `params/clusters.yaml` holds its keywords.
A worker that we start takes one stage and, beside it, one subject of a stage that runs
elsewhere (``anbn.core.workers``).
"""

import logging
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager

from anbn.core import params
from anbn.core.params import ParamError, Parameter
from anbn.core.paths import project_root

QUEUES = {  # SCHEDULER= -> the class of dask-jobqueue
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
}
COUNTED = [  # keys that dask-jobqueue would take wrong
    Parameter("jobs", "int", 8, "at most so many at a time (1 to 100000)"),
    Parameter("cores", "int", 4, "of a job (1 to 100000)"),
    Parameter("memory", "str", "16GB", "of a job"),
    Parameter("walltime", "str", "04:00:00", "of a job"),
    Parameter("job_script_prologue", "list[str]", [], "shell lines"),
    Parameter("job_extra_directives", "list[str]", [], "for the queueing system"),
    Parameter("worker_extra_args", "list[str]", [], "of dask worker"),
]
REPLACED = {  # keys of earlier versions of params/clusters.yaml
    "gpus": 'job_extra_directives, as ["--gres=gpu:1"] for Slurm',
    "setup": "job_script_prologue",
    "directives": "job_extra_directives",
    "parallel": 'job_extra_directives, as ["-pe smp 4"]',
}
ADDRESS = r"(\w+://)?[^\s/]+:\d+"
MEMORY_PER_JOB = 6e9  # bytes, of a job on this machine
THREADS_PER_JOB = 2
CONNECT = 10.0  # s, to reach a scheduler
WORKERS_WITHIN = 30.0  # s, for a scheduler that has none to get one
# of a worker: for a stage, for a subject, and for the stage of a worker that died
THREADS = 3
THREAD_VARIABLES = [f"{name}_NUM_THREADS" for name in ("OMP", "MKL", "OPENBLAS")]
SLOTS = {"subject": 1}  # of those
# Ctrl-C comes to workers, too: they leave it to who started the study.
IGNORE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
QUIET = {
    "distributed.scheduler.allowed-failures": 10,  # of workers, before a stage's own
    # trimming after every free costs half the speed of a subject
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    "distributed.logging.distributed": "critical",
    "distributed.worker.preload": [IGNORE_CTRL_C],
}


class ClusterError(RuntimeError):
    """A scheduler cannot be reached, or its workers cannot do what is asked."""


def check_scheduler(name):
    """Raise ClusterError if this can be no place to run a study."""
    if name not in ("local", *QUEUES) and not re.fullmatch(ADDRESS, name):
        known = f"local, {', '.join(QUEUES)}, or an address as tcp://host:8786"
        raise ClusterError(f"SCHEDULER={name}: must be {known}")


def job_cluster(scheduler, *, logs):
    """Cluster whose workers are jobs, cores of a job, most jobs at a time.

    Nothing is submitted yet.

    Parameters
    ----------
    scheduler : str
        One of ``QUEUES``: a section of ``params/clusters.yaml``.
    logs : Path
        Folder for what jobs print.

    Raises
    ------
    ParamError
        If the file cannot be read, or dask-jobqueue does not take what it says.
    """
    import dask_jobqueue

    path = project_root() / "params" / "clusters.yaml"
    sections = params.load_yaml(path)
    if not isinstance(sections, dict) or not isinstance(sections.get(scheduler), dict):
        raise ParamError(
            f"{path} must hold a block {scheduler!r} of `name: value` lines"
        )
    given, source = sections[scheduler], f"{path}: {scheduler}"
    for name in given:
        if name in REPLACED:
            raise ParamError(f"{source}: {name} is now {REPLACED[name]}")
    checked = {
        p.name: params.check(p, given.get(p.name, p.default), source) for p in COUNTED
    }
    if not re.fullmatch(r"\d+:\d\d:\d\d", checked["walltime"]):
        raise ParamError(
            f"{source}: walltime must be hours:minutes:seconds in quotes, found "
            f"{checked['walltime']!r}"
        )
    given = given | checked
    jobs = given.pop("jobs")
    threads = [f"export {name}={given['cores']}" for name in THREAD_VARIABLES]
    given["job_script_prologue"] = threads + given["job_script_prologue"]
    slots = ",".join(f"{name}={n}" for name, n in SLOTS.items())
    ours = {
        "processes": 1,  # a job is one worker
        "job_name": "anbn",
        "log_directory": str(logs),
        "scheduler_options": {"dashboard_address": ":0", "dashboard": False},
    }
    given["worker_extra_args"] += ["--no-dashboard", "--resources", slots]
    if scheduler == "slurm":
        # Dask sends a stage again
        given["job_extra_directives"] = ["--no-requeue", *given["job_extra_directives"]]
    try:
        cluster = getattr(dask_jobqueue, QUEUES[scheduler])(**ours | given)
        cluster.job_script()
    except (TypeError, ValueError, RuntimeError) as error:
        what = str(error).partition(". ")[0]  # after it dask-jobqueue tells all it has
        name = f"dask_jobqueue.{QUEUES[scheduler]}"
        raise ParamError(f"{source}: {name} does not take it: {what}") from error
    return cluster, given["cores"], jobs


def job_script(scheduler, *, logs):
    """The job that a cluster would be given."""
    if scheduler not in QUEUES:
        raise ClusterError(f"--job-script needs --scheduler {', '.join(QUEUES)}")
    cluster, _, _ = job_cluster(scheduler, logs=logs)
    with cluster:
        return cluster.job_script()


def local_size(jobs=None):
    """How many jobs at a time this machine takes.

    Parameters
    ----------
    jobs : int, optional
        Asked for; else one for each GPU, or as many as cores and memory allow.

    Returns
    -------
    jobs : int
    threads : int
        Of each job.
    memory : int
        Bytes of each job.
    gpus : list of str
        Names for ``CUDA_VISIBLE_DEVICES``, handed round among the jobs.
    """
    import dask.system
    import psutil

    cores, gpus = dask.system.CPU_COUNT, visible_gpus()
    if jobs is None:
        by_memory = int(psutil.virtual_memory().available // MEMORY_PER_JOB)
        # two on two cores, too: much of a stage runs on one
        by_cores = max(cores // THREADS_PER_JOB, min(cores, 2))
        jobs = len(gpus) or max(1, min(by_cores, by_memory))
    return jobs, max(1, cores // jobs), int(psutil.virtual_memory().total // jobs), gpus


def visible_gpus():
    """Names of the NVIDIA GPUs this process may use."""
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is not None:
        return [name for name in asked.replace(" ", "").split(",") if name]
    if not shutil.which("nvidia-smi"):
        return []
    found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return re.findall(r"(?m)^GPU (\d+):", found.stdout)


@contextmanager
def _threads(n):
    """Let processes that start meanwhile have so many threads."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(n)))
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


@contextmanager
def open_client(scheduler, jobs, *, logs, n_tasks=1):
    """Client of the place where stages run; closed, with its workers, in the end.

    Parameters
    ----------
    scheduler : str
        ``local``, one of ``QUEUES``, or the address of a scheduler.
    jobs : int or None
        At most so many at a time; None for what fits.
    logs : Path
        Folder for what jobs of a cluster print.
    n_tasks : int
        So many jobs of a cluster are kept, and more while subjects wait for them.

    Yields
    ------
    client : distributed.Client
    workers : dict
        ``threads`` of a job, ``gpus`` to hand round, ``subjects``: whether workers take
        a subject beside a stage.

    Raises
    ------
    ClusterError
    """
    import dask
    import distributed

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with dask.config.set(QUIET):
        if scheduler == "local":
            jobs, threads, memory, gpus = local_size(jobs)
            with _threads(threads):
                cluster = distributed.LocalCluster(
                    n_workers=jobs,
                    threads_per_worker=THREADS,
                    resources=SLOTS,
                    memory_limit=memory,
                    dashboard_address=":0",  # any port: two studies may run at once
                    silence_logs=logging.CRITICAL,
                )
                with cluster, distributed.Client(cluster) as client:
                    yield client, {"threads": threads, "gpus": gpus, "subjects": True}
        elif scheduler in QUEUES:
            cluster, threads, most = job_cluster(scheduler, logs=logs)
            command = cluster.job_cls.submit_command.split()[0]
            if not shutil.which(command):
                cluster.close()
                raise ClusterError(
                    f"SCHEDULER={scheduler}: this machine has no command {command}. "
                    "Start it where jobs can be submitted"
                )
            with cluster:
                # adapt, not scale: a job that hits its walltime is replaced
                most = jobs or most
                cluster.adapt(minimum_jobs=min(n_tasks, most), maximum_jobs=most)
                with distributed.Client(cluster) as client:
                    subjects = threads >= THREADS
                    yield client, {"threads": threads, "gpus": [], "subjects": subjects}
        else:
            try:
                client = distributed.Client(scheduler, timeout=CONNECT)
            except (OSError, TimeoutError, ValueError) as error:
                raise ClusterError(
                    f"no Dask scheduler answers at {scheduler}. Start one, `dask "
                    f"scheduler`, and workers, `dask worker {scheduler} --nthreads 1`, "
                    "or leave SCHEDULER out to run on this machine. "
                    f"({type(error).__name__})"
                ) from error
            with client:
                threads, subjects = threads_of(client), has_slots(client)
                yield client, {"threads": threads, "gpus": [], "subjects": subjects}


def has_slots(client):
    """Whether the workers are ours: with a slot for a subject beside a stage."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return all(
        "subject" in worker["resources"] and worker["nthreads"] >= THREADS
        for worker in workers
    )


def free_workers(client, taken):
    """Workers that run no stage.

    Parameters
    ----------
    client : distributed.Client
    taken : list of str
        Those where stages run, or are to run; some may have died since.

    Returns
    -------
    workers : list of str
        Addresses; one that is empty if no worker has come yet and no stage waits.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"]
    free = [address for address in workers if address not in taken]
    if not workers and not taken:
        return [""]
    n_elsewhere = sum(address not in workers for address in taken)  # nobody knows where
    return free[: max(0, len(free) - n_elsewhere)]


def threads_of(client):
    """Threads of a job: cores of a host over its workers, the fewest of all hosts.

    Raises
    ------
    ClusterError
        If there are no workers.
    """
    try:
        client.wait_for_workers(1, timeout=WORKERS_WITHIN)
    except TimeoutError as error:
        address = client.scheduler.address
        raise ClusterError(
            f"the scheduler at {address} has no workers. Start some: `{sys.executable} "
            f"-m dask worker {address} --nthreads 1`"
        ) from error

    def cores_here():  # sent as its code: workers may lack this library
        from dask import system

        return system.CPU_COUNT

    cores = client.run(cores_here)
    workers = client.scheduler_info(n_workers=-1)["workers"]
    hosts = [worker["host"] for worker in workers.values()]
    jobs = {name: hosts.count(worker["host"]) for name, worker in workers.items()}
    there = cores.keys() & jobs.keys()
    return max(1, min((cores[name] // jobs[name] for name in there), default=1))
