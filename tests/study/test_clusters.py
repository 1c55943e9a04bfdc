import os
import re
import sys
import time
from pathlib import Path

import psutil
import pytest

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


def script(kind, logs="/logs"):
    with clusters.job_cluster(kind, logs=Path(logs)) as cluster:
        return cluster.job_script()


def change(path, kind, **values):
    """Change values of one section by text, as an editor does."""
    head, section, rest = path.read_text().partition(f"\n{kind}:\n")
    for name, value in values.items():
        rest = re.sub(rf"(?m)^  {name}: .*$", f"  {name}: {value}", rest, count=1)
    path.write_text(head + section + rest)


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        (
            "slurm",
            "#SBATCH -J anbn-sweep|#SBATCH -p long|#SBATCH -A lab|#SBATCH -n 1|"
            "#SBATCH --cpus-per-task=6|#SBATCH --mem=23G|#SBATCH -t 12:30:00|"
            "#SBATCH --gres=gpu:1|#SBATCH -e /logs/anbn-sweep-%J.err",
        ),
        (
            "pbs",
            "#PBS -N anbn-sweep|#PBS -q long|#PBS -A lab|"
            "#PBS -l select=1:ncpus=6:mem=24gb:ngpus=1|#PBS -l walltime=12:30:00|"
            "#PBS -e /logs/",
        ),
        (
            "sge",
            "#$ -N anbn-sweep|#$ -q long|#$ -P lab|#$ -l h_vmem=4G|#$ -pe smp 6|"
            "#$ -l h_rt=12:30:00|#$ -l gpu=1|#$ -e /logs/",
        ),
    ],
)
def test_job_scripts(project, kind, lines):
    change(
        project,
        kind,
        queue="long",
        account="lab",
        cores=6,
        memory="24GB",
        gpus=1,
        walltime='"12:30:00"',
        setup='["module load cuda"]',
        directives='["--constraint=a100"]',
    )
    found = script(kind).splitlines()
    assert found[0].startswith("#!/")
    missing = set(lines.split("|")) - set(found)
    assert not missing, "\n".join(found)
    mark = lines.split(" ")[0]
    assert f"{mark} --constraint=a100" in found
    assert "module load cuda" in found
    worker = found.index("module load cuda") + 1
    assert found[worker].startswith(f"{sys.executable} -m distributed.cli.dask_worker")
    assert "--nthreads 1 " in found[worker]  # one stage at a time
    assert "--nworkers" not in found[worker]
    assert "--nanny" in found[worker]


def test_the_shipped_file_and_another_python(project):
    for kind in clusters.QUEUES:
        assert "-q" not in script(kind).replace("--quiet", "")
    change(project, "slurm", python="/opt/python", interface="lo")
    found = script("slurm")
    assert "/opt/python -m distributed.cli.dask_worker tcp://127.0.0.1:" in found
    assert "--interface lo" in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slurm: {quue: long}", r"unknown key 'quue' \(did you mean 'queue'\?\)"),
        ("slurm: {cores: many}", "cores must be int, found 'many'"),
        ("slurm: {cores: 0}", "cores must lie in 1 to"),
        ("slurm: {memory: 16}", "memory must be str"),
        ("slurm: {memory: lots}", "memory must be as 16GB, found 'lots'"),
        ("slurm: {walltime: 4:00:00}", "walltime must be"),
        ("slurm: {walltime: '4 h'}", "walltime must be hours:minutes:seconds"),
        ("slurm: {parallel: smp}", "unknown key 'parallel'"),
        ("slurm: {}\nslrum: {}", r"unknown section 'slrum' \(did you mean 'slurm'"),
        ("pbs: {}", "must hold a block 'slurm'"),
        ("slurm: 3", "must hold a block 'slurm'"),
        ("slurm: [", "not readable as YAML"),
        ("", "must hold a block 'slurm'"),
    ],
)
def test_wrong_files(project, text, message):
    project.write_text(text)
    with pytest.raises(params.ParamError, match=message) as error:
        clusters.read_cluster("slurm")
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


def test_nobody_answers(monkeypatch):
    monkeypatch.setattr(clusters, "CONNECT", 1.0)
    monkeypatch.setattr(clusters, "WORKERS_WITHIN", 0.5)
    wrong = pytest.raises(clusters.ClusterError, match="no Dask scheduler answers at")
    with wrong, clusters.open_client("tcp://127.0.0.1:9", None, logs=None):
        pass
    wrong = pytest.raises(clusters.ClusterError, match="must be local, slurm, pbs, sge")
    with wrong, clusters.open_client("slrum", None, logs=None):
        pass
    wrong = pytest.raises(clusters.ClusterError, match="SCHEDULER=locl: must be local")
    with wrong:
        clusters.check_scheduler("locl")
    from distributed import LocalCluster

    options = {"n_workers": 0, "processes": False, "dashboard_address": None}
    options |= {"protocol": "tcp", "host": "127.0.0.1"}
    with LocalCluster(**options) as cluster:
        address = cluster.scheduler_address
        place = clusters.open_client(address, None, logs=None)
        wrong = pytest.raises(clusters.ClusterError, match=r"has no workers\. St")
        with place as (client, _, _), wrong:
            clusters.check_workers(client, dict, {})


def test_jobs_come_and_go(project, tmp_path, monkeypatch):
    """All of the way to Slurm, with commands that run jobs on this machine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    commands = {
        "sbatch": f'cp "$1" {tmp_path}/job; setsid bash {tmp_path}/job >/dev/null '
        '2>&1 & echo "Submitted batch job $!"',
        "scancel": 'kill -- "-$1"',
    }
    for name, line in commands.items():
        (folder / name).write_text(f"#!/bin/bash\n{line}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    change(project, "slurm", cores=3, jobs=2, interface="lo")
    with clusters.open_client("slurm", 1, logs=tmp_path / "logs") as opened:
        client, threads, gpus = opened
        assert (threads, gpus) == (3, [])
        found = client.submit(os.getpid).result(timeout=60)
        assert found != os.getpid()
        assert sum(client.nthreads().values()) == 1
    give_up = time.monotonic() + 30  # it takes a moment to end
    while psutil.pid_exists(found) and time.monotonic() < give_up:
        time.sleep(0.2)
    assert not psutil.pid_exists(found)
