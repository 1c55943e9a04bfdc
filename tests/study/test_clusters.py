import os
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from anbn.core import params
from anbn.study import clusters


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project that is only its params/clusters.yaml, as it is shipped."""
    shipped = params.project_root() / "params" / "clusters.yaml"
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "params").mkdir()
    path = tmp_path / "params" / "clusters.yaml"
    path.write_text(shipped.read_text())
    monkeypatch.setenv("ANBN_ROOT", str(tmp_path))
    return path


def script(kind, **values):
    """The job of a section, some of whose values are changed."""
    path = params.project_root() / "params" / "clusters.yaml"
    sections = yaml.safe_load(path.read_text())
    sections.setdefault(kind, {}).update(values)
    path.write_text(yaml.safe_dump(sections))
    return clusters.job_script(kind, logs=Path("/logs")).splitlines()


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        (
            "slurm",
            "#SBATCH -J anbn|#SBATCH -p long|#SBATCH -A lab|#SBATCH -n 1|"
            "#SBATCH --cpus-per-task=6|#SBATCH --mem=23G|#SBATCH -t 12:30:00|"
            "#SBATCH --constraint=a100|#SBATCH --no-requeue|"
            "#SBATCH -e /logs/anbn-%J.err",
        ),
        (
            "pbs",
            "#PBS -N anbn|#PBS -q long|#PBS -A lab|#PBS --constraint=a100|"
            "#PBS -l select=1:ncpus=6:mem=23GB|#PBS -l walltime=12:30:00|"
            "#PBS -e /logs/",
        ),
        (
            "sge",
            "#$ -N anbn|#$ -q long|#$ -l h_vmem=4G|#$ -l h_rt=12:30:00|#$ -e /logs/|"
            "#$ --constraint=a100",
        ),
    ],
)
def test_job_scripts(project, kind, lines):
    found = script(
        kind,
        queue="long",
        cores=6,
        memory="24GB",
        walltime="12:30:00",
        job_script_prologue=["module load cuda"],
        job_extra_directives=["--constraint=a100"],
        **({} if kind == "sge" else {"account": "lab"}),
    )
    assert found[0].startswith("#!/")
    missing = set(lines.split("|")) - set(found)
    assert not missing, "\n".join(found)
    worker = found.index("module load cuda") + 1
    assert found[worker].startswith(f"{sys.executable} -m distributed.cli.dask_worker")
    assert "--nthreads 6 " in found[worker] and "--resources subject=1" in found[worker]
    assert "--nworkers" not in found[worker]
    assert "--nanny" in found[worker]


def test_the_shipped_file_and_another_python(project):
    for kind in ("slurm", "pbs", "sge"):
        assert "-q" not in "".join(script(kind)).replace("--quiet", "")
    found = "".join(script("slurm", python="/opt/python", interface="lo"))
    assert "/opt/python -m distributed.cli.dask_worker tcp://127.0.0.1:" in found
    assert "--interface lo" in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slurm: {quue: long}", "SLURMCluster does not take it: .*'quue'"),
        ("slurm: {cores: many}", "cores must be int, found 'many'"),
        ("slurm: {cores: 0}", "cores must lie in 1 to"),
        ("slurm: {memory: 16}", "memory must be str"),
        ("slurm: {memory: lots}", "does not take it: .*'lots'"),
        ("slurm: {walltime: 4:00:00}", "walltime must be"),
        ("slurm: {walltime: '4 h'}", "walltime must be hours:minutes:seconds"),
        ("slurm: {jobs: 0}", "jobs must lie in"),
        ("slurm: {job_extra_directives: --x}", "directives must be a list of str"),
        ("slurm: {job_script_prologue: a}", "prologue must be a list of str"),
        ("slurm: {interface: none0}", "does not take it: .*'none0'"),
        ("slurm: {gpus: 1}", "gpus is now job_extra_directives"),
        ("slurm: {setup: [a]}", "setup is now job_script_prologue"),
        ("pbs: {}", "must hold a block 'slurm'"),
        ("slurm: 3", "must hold a block 'slurm'"),
        ("slurm: [", "not readable as YAML"),
        ("", "must hold a block 'slurm'"),
    ],
)
def test_wrong_files(project, text, message):
    project.write_text(text)
    with pytest.raises(params.ParamError, match=message) as error:
        clusters.job_cluster("slurm", logs=Path("/logs"))
    assert str(project) in str(error.value)


def test_size_of_this_machine(monkeypatch):
    import dask.system
    import psutil

    class Memory:
        total, available = int(64e9), int(40e9)

    monkeypatch.setattr(dask.system, "CPU_COUNT", 16)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory)
    monkeypatch.setattr(clusters, "visible_gpus", lambda: [])
    assert clusters.local_size() == (6, 2, int(64e9) // 6, [])  # of memory
    assert clusters.local_size(3)[:2] == (3, 5)
    assert clusters.local_size(64)[:2] == (64, 1)
    monkeypatch.setattr(dask.system, "CPU_COUNT", 2)
    assert clusters.local_size()[:2] == (2, 1)
    monkeypatch.setattr(dask.system, "CPU_COUNT", 1)
    assert clusters.local_size()[:2] == (1, 1)
    monkeypatch.setattr(dask.system, "CPU_COUNT", 16)
    Memory.available = int(1e9)
    assert clusters.local_size()[:2] == (1, 16)
    monkeypatch.setattr(clusters, "visible_gpus", lambda: ["0", "1"])
    assert clusters.local_size() == (2, 8, int(32e9), ["0", "1"])


def test_gpus_that_may_be_used(monkeypatch, tmp_path):
    fake = tmp_path / "nvidia-smi"
    fake.write_text(
        "#!/bin/sh\necho 'GPU 0: H (UUID: GPU-a)\n  MIG 1g: b\nGPU 1: H (UUID: GPU-c)'"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert clusters.visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-x")
    assert clusters.visible_gpus() == ["3", "GPU-x"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert clusters.visible_gpus() == []


@pytest.mark.parametrize(
    ("workers", "taken", "free"),
    [
        ("", [], [""]),  # the first that comes takes it
        ("", [""], []),
        ("ab", [], ["a", "b"]),
        ("abc", ["a"], ["b", "c"]),
        ("abc", [""], ["a", "b"]),  # it is at one of them
        ("ab", ["a", "b"], []),
        ("bc", ["a", "b"], []),  # a has died: what it ran may be at c
        ("bcd", ["a", "b"], ["c"]),
        ("bc", ["b", "b"], ["c"]),  # it was at b
    ],
)
def test_free_workers(workers, taken, free):
    class Client:
        def scheduler_info(self, n_workers):
            return {"workers": dict.fromkeys(workers)}

    assert clusters.free_workers(Client(), taken) == free


def test_workers_here_have_the_threads_of_a_job(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with clusters.open_client("local", 1, logs=None) as (client, workers):
        for name in clusters.THREAD_VARIABLES:
            found = set(client.run(os.getenv, name).values())
            assert found == {str(workers["threads"])}
        assert clusters.has_slots(client)
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_nobody_answers(monkeypatch):
    monkeypatch.setattr(clusters, "CONNECT", 1.0)
    monkeypatch.setattr(clusters, "WORKERS_WITHIN", 0.5)
    wrong = pytest.raises(clusters.ClusterError, match="no Dask scheduler answers at")
    with wrong, clusters.open_client("tcp://127.0.0.1:9", None, logs=None):
        pass
    wrong = pytest.raises(clusters.ClusterError, match="SCHEDULER=locl: must be local")
    with wrong:
        clusters.check_scheduler("locl")
    from distributed import LocalCluster

    options = {"n_workers": 0, "processes": False, "dashboard_address": ":0"}
    options |= {"protocol": "tcp", "host": "127.0.0.1"}
    with LocalCluster(**options) as cluster:
        address = cluster.scheduler_address
        place = clusters.open_client(address, None, logs=None)
        wrong = pytest.raises(clusters.ClusterError, match=r"has no workers\. St")
        with wrong, place:
            pass


def test_a_cluster_whose_commands_are_not_here(project, tmp_path, monkeypatch):
    script("slurm", interface="lo")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(clusters.ClusterError, match="no command sbatch"):
        with clusters.open_client("slurm", 1, logs=tmp_path / "logs"):
            pass


def test_jobs_come_and_go(project, tmp_path, slurm):
    """All of the way to Slurm, with commands that run jobs on this machine."""
    script("slurm", cores=3, jobs=2, interface="lo")
    with clusters.open_client("slurm", 1, logs=tmp_path / "logs") as opened:
        client, workers = opened
        assert workers == {"threads": 3, "gpus": [], "subjects": True}
        found = client.submit(os.getpid).result(timeout=60)
        assert found != os.getpid()
        assert len(client.nthreads()) == 1
        assert clusters.has_slots(client)
    give_up = time.monotonic() + 30  # it takes a moment to end
    while psutil.pid_exists(found) and time.monotonic() < give_up:
        time.sleep(0.2)
    assert not psutil.pid_exists(found)
