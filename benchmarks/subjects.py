"""Many subjects in a loop, and on one and two workers: the same results, how fast.

Each way runs in a process of its own on the same files: runs are prepared, coupled with
neurons, each with its own null, and predicted voxel by voxel. Every process has one
thread. ``subjects.py 4`` tries it with four subjects.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np

from anbn.brain import bold, sources
from anbn.core import artifacts, workers
from anbn.core.paths import stage_dir
from anbn.coupling import encoding, synchrony
from anbn.stats import timeseries

N_SUBJECTS, N_TIMES, TR, SHAPE = 40, 300, 2.0, (18, 22, 18)
N_NEURONS, N_NETWORKS, N_DRAWS, N_ATOMS = 17_280, 10, 200, 16
WAYS = {"loop": 0, "one worker": 1, "two workers": 2}


def write_runs(folder, n_subjects):
    """A run a subject: what they share, and noise of their own."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(*SHAPE, N_TIMES)).astype(np.float32)
    affine = np.diag([5.0, 5, 5, 1])
    inside = nibabel.Nifti1Image(np.ones(SHAPE, np.uint8), affine)
    nibabel.save(inside, folder / "mask.nii.gz")
    for i in range(n_subjects):
        data = 1000 + 10 * (shared + rng.standard_normal(shared.shape, np.float32))
        image = nibabel.Nifti1Image(data.astype(np.int16), affine)
        image.header.set_zooms((5, 5, 5, TR))
        image.header.set_xyzt_units("mm", "sec")
        nibabel.save(image, folder / f"sub-{i:02d}_bold.nii.gz")


@contextmanager
def opened(n_workers):
    """Client of as many workers; None for none."""
    if not n_workers:
        yield None
        return
    import dask
    from distributed import LocalCluster

    options = {"n_workers": n_workers, "threads_per_worker": 1}
    # memory that is given back at once, as Dask has it, costs time in every block
    trim = {"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None}
    with dask.config.set(trim):
        with LocalCluster(**options, dashboard_address=":0") as cluster:
            os.environ[workers.ADDRESS] = cluster.scheduler_address
            with workers.client() as client:
                yield client


def peak_memory():
    """The most that this process has held, in MB."""
    with open("/proc/self/status") as status:
        return next(int(x.split()[1]) / 1024 for x in status if x.startswith("VmHWM"))


def work(folder, out, n_workers):
    """Seconds of each step, peak memory of each process, hashes of the results."""
    files = [str(path) for path in sorted(folder.glob("sub-*.nii.gz"))]
    rng, seconds = np.random.default_rng(1), {}
    responses = rng.standard_normal((N_TIMES, N_NEURONS), np.float32)
    people = rng.normal(size=(len(files), N_TIMES, N_NETWORKS))
    bands = {"rate": rng.normal(size=(N_TIMES, 1))}
    bands["atoms"] = rng.normal(size=(N_TIMES, N_ATOMS))
    basis = timeseries.orthonormal(timeseries.drift(N_TIMES, TR))
    with opened(n_workers) as client:
        start = time.perf_counter()
        mask = {"mask": str(folder / "mask.nii.gz"), "smoothing": 8.0}
        runs = sources.runs_of_files(files)
        brain = bold.prepare(runs, out / "runs", tr=TR, client=client, **mask)
        seconds["prepare"] = time.perf_counter() - start
        start, drawing = time.perf_counter(), {"n_draws": N_DRAWS, "rng": rng}
        file, at = out / "synchrony.npy", {"client": client, **drawing}
        _, limits = synchrony.subjects(responses, people, basis, file, **at)
        seconds["synchrony"] = time.perf_counter() - start
        start, series = time.perf_counter(), brain.by_subject()[1]
        r = encoding.encode_subjects(bands, series, tr=TR, client=client)
        seconds["encoding"] = time.perf_counter() - start
        peaks = client.run(peak_memory).values() if client else []
    artifacts.write_arrays(out / "found.npz", limits=limits, r=r)
    return {
        "seconds": {name: round(taken, 1) for name, taken in seconds.items()},
        "peak_mb": [round(peak_memory()), *map(round, peaks)],
        "sha256": artifacts.sha256(out),
    }


def rows(n_subjects):
    found, environment = {}, {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop(workers.ADDRESS, None)
    with tempfile.TemporaryDirectory() as folder:
        write_runs(Path(folder), n_subjects)
        for way in WAYS:
            command = [sys.executable, __file__, way, folder]
            done = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, env=environment
            )
            found[way] = json.loads(done.stdout.splitlines()[-1])
    assert len({one.pop("sha256") for one in found.values()}) == 1
    return [
        {
            "claim": f"{n_subjects} subjects of {np.prod(SHAPE)} voxels x {N_TIMES} "
            f"volumes, {N_NEURONS} neurons: seconds and peak MB of the caller and of "
            "each worker; results equal bit for bit",
            "way": way,
            "total": round(sum(one["seconds"].values()), 1),
            **one,
        }
        for way, one in found.items()
    ]


def main():
    table = rows(int(sys.argv[1]) if len(sys.argv) > 1 else N_SUBJECTS)
    print(json.dumps(table, indent=1))
    artifacts.write_json(stage_dir("benchmarks", "subjects.json"), table)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in WAYS:
        folder = Path(sys.argv[2])
        with tempfile.TemporaryDirectory(dir=folder) as out:
            print(json.dumps(work(folder, Path(out), WAYS[sys.argv[1]])))
    else:
        main()
