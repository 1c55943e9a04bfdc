"""Where a sweep runs: this machine, a Dask scheduler, or the jobs of a cluster.

Workers take one stage at a time. `params/clusters.yaml` describes the jobs of clusters.
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

QUEUES = ("slurm", "pbs", "sge")
ADDRESS = r"(\w+://)?[^\s/]+:\d+"
MEMORY_PER_JOB = 6e9  # bytes, of a job on this machine
THREADS_PER_JOB = 2
CONNECT = 10.0  # s, to reach a scheduler
WORKERS_WITHIN = 30.0  # s, for a scheduler that has none to get one
# Ctrl-C comes to workers, too: they leave it to the sweep.
IGNORE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
# A worker may die many times before its stage is blamed for it.
ALLOWED_FAILURES = 100
SECTION = {  # of params/clusters.yaml: type, default, range
    "queue": ("str", "", ""),
    "account": ("str", "", ""),
    "cores": ("int", 4, "(1 to 100000)"),
    "memory": ("str", "16GB", ""),
    "gpus": ("int", 0, "(0 to 1000)"),
    "walltime": ("str", "04:00:00", ""),
    "jobs": ("int", 8, "(1 to 100000)"),
    "python": ("str", "", ""),
    "interface": ("str", "", ""),
    "setup": ("list[str]", [], ""),
    "directives": ("list[str]", [], ""),
}


class ClusterError(RuntimeError):
    """A scheduler cannot be reached, or its workers cannot do what is asked."""


def read_cluster(scheduler):
    """Section of `params/clusters.yaml` for slurm, pbs or sge, checked.

    Raises
    ------
    ParamError
        Unreadable file, unknown key, wrong type.
    """
    path = project_root() / "params" / "clusters.yaml"
    sections = params.load_yaml(path)
    if not isinstance(sections, dict) or not isinstance(sections.get(scheduler), dict):
        raise ParamError(
            f"{path} must hold a block {scheduler!r} of `name: value` lines"
        )
    for name in sections:
        if name not in QUEUES:
            raise ParamError(
                f"{path}: unknown section {name!r}"
                + params.did_you_mean(name, QUEUES)
                + f". Known: {', '.join(QUEUES)}."
            )
    known = SECTION | ({"parallel": ("str", "smp", "")} if scheduler == "sge" else {})
    known = {name: Parameter(name, *rest) for name, rest in known.items()}
    for name in sections[scheduler]:
        if name not in known:
            raise ParamError(
                f"{path}: {scheduler}: unknown key {name!r}"
                + params.did_you_mean(name, list(known))
                + f". Known: {', '.join(known)}."
            )
    found = {
        name: params.check(
            p, sections[scheduler].get(name, p.default), f"{path}: {scheduler}"
        )
        for name, p in known.items()
    }
    if not re.fullmatch(r"\d+:\d\d:\d\d", found["walltime"]):
        raise ParamError(
            f"{path}: {scheduler}: walltime must be hours:minutes:seconds in quotes, "
            f"found {found['walltime']!r}"
        )
    if not re.fullmatch(r"\d+(\.\d+)? ?[KMGT]i?B", found["memory"]):
        raise ParamError(
            f"{path}: {scheduler}: memory must be as 16GB, found {found['memory']!r}"
        )
    return found


def job_cluster(scheduler, *, logs):
    """Cluster whose workers are jobs; nothing is submitted yet.

    Parameters
    ----------
    scheduler : str
        slurm, pbs or sge.
    logs : Path
        Folder for what jobs print.
    """
    import dask_jobqueue

    values = read_cluster(scheduler)
    cores, gpus, memory = values["cores"], values["gpus"], values["memory"]
    directives, options = [*values["directives"]], {}
    if scheduler == "slurm":
        make = dask_jobqueue.SLURMCluster
        options = {"job_cpu": cores, "account": values["account"] or None}
        directives += [f"--gres=gpu:{gpus}"] * bool(gpus) + ["--no-requeue"]
    elif scheduler == "pbs":
        make = dask_jobqueue.PBSCluster
        spec = f"select=1:ncpus={cores}:mem={memory.replace(' ', '').lower()}"
        spec += f":ngpus={gpus}" if gpus else ""
        options = {"resource_spec": spec, "account": values["account"] or None}
    else:
        make = dask_jobqueue.SGECluster
        share = re.sub(r"[\d.]+ ?", "", memory)[0]  # SGE counts memory by core
        each = float(re.match(r"[\d.]+", memory)[0]) / cores
        options = {"resource_spec": f"h_vmem={each:.3g}{share}"}
        options["project"] = values["account"] or None
        directives += [f"-pe {values['parallel']} {cores}"]
        directives += [f"-l gpu={gpus}"] * bool(gpus)
    return make(
        cores=1,  # a worker takes one stage at a time; its process has the threads
        processes=1,
        memory=memory.replace(" ", ""),
        walltime=values["walltime"],
        queue=values["queue"] or None,
        python=values["python"] or sys.executable,
        interface=values["interface"] or None,
        job_name="anbn-sweep",
        job_script_prologue=values["setup"],
        job_extra_directives=directives,
        log_directory=str(logs),
        scheduler_options={"dashboard_address": None, "dashboard": False},
        worker_extra_args=["--no-dashboard"],
        **options,
    )


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
def open_client(scheduler, jobs, *, logs):
    """Client of the place where a sweep runs; closed, with its workers, in the end.

    Parameters
    ----------
    scheduler : str
        ``local``, ``slurm``, ``pbs``, ``sge``, or the address of a scheduler.
    jobs : int or None
        At most so many at a time; None for what fits.
    logs : Path
        Folder for what jobs of a cluster print.

    Yields
    ------
    client : distributed.Client
    threads : int or None
        Of each job; None if workers must be asked.
    gpus : list of str

    Raises
    ------
    ClusterError
    """
    import dask
    import distributed

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    quiet = {
        "distributed.scheduler.allowed-failures": ALLOWED_FAILURES,
        "distributed.scheduler.worker-saturation": 1.0,  # what waits is not on workers
        "distributed.logging.distributed": "critical",
        "distributed.worker.preload": [IGNORE_CTRL_C],
    }
    check_scheduler(scheduler)
    with dask.config.set(quiet):
        if scheduler == "local":
            jobs, threads, memory, gpus = local_size(jobs)
            cluster = distributed.LocalCluster(
                n_workers=jobs,
                threads_per_worker=1,
                processes=True,
                memory_limit=memory,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            )
            with cluster, distributed.Client(cluster) as client:
                yield client, threads, gpus
        elif scheduler in QUEUES:
            values = read_cluster(scheduler)
            with job_cluster(scheduler, logs=logs) as cluster:
                # adapt, not scale: a job that hits its walltime is replaced
                cluster.adapt(minimum_jobs=1, maximum_jobs=jobs or values["jobs"])
                with distributed.Client(cluster) as client:
                    yield client, values["cores"], []
        else:
            with _connect(scheduler) as client:
                yield client, None, []


def check_scheduler(name):
    """Raise ClusterError if this can be no place to run a sweep."""
    if name not in ("local", *QUEUES) and not re.fullmatch(ADDRESS, name):
        known = f"local, {', '.join(QUEUES)}, or an address as tcp://host:8786"
        raise ClusterError(f"SCHEDULER={name}: must be {known}")


def _connect(address):
    import distributed

    try:
        return distributed.Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ClusterError(
            f"no Dask scheduler answers at {address}. Start one, `dask scheduler`, and "
            f"workers, `dask worker {address} --nthreads 1`, or leave SCHEDULER out to "
            f"run on this machine. ({type(error).__name__})"
        ) from error


def check_workers(client, look, settings):
    """See whether workers can do what is asked, and how many threads a job has.

    Parameters
    ----------
    client : distributed.Client
    look : callable
        Runs on each worker: settings -> ``{"host", "cores", "wrong"}``.
    settings : dict

    Returns
    -------
    threads : int
        Cores of a host over the jobs it takes at a time, the fewest of all hosts.

    Raises
    ------
    ClusterError
        If there are no workers, or one sees another project or other outputs.
    """
    try:
        client.wait_for_workers(1, timeout=WORKERS_WITHIN)
    except TimeoutError as error:
        address = client.scheduler.address
        raise ClusterError(
            f"the scheduler at {address} has no workers. Start some: `{sys.executable} "
            f"-m dask worker {address} --nthreads 1`"
        ) from error
    seen = client.run(look, settings)
    for worker, answer in seen.items():
        if answer["wrong"]:
            raise ClusterError(
                f"worker {worker} on {answer['host']}: {answer['wrong']}"
            )
    workers = client.scheduler_info(n_workers=-1)["workers"]
    jobs = {}
    for worker, answer in seen.items():
        jobs[answer["host"]] = jobs.get(answer["host"], 0) + workers[worker]["nthreads"]
    return max(1, min(a["cores"] // jobs[a["host"]] for a in seen.values()))
