"""What a sweep takes: stage runs, disk and time, as manifests of finished runs say."""

import os
import shutil
from pathlib import Path

from anbn.core import artifacts
from anbn.core.paths import stage_dir, stage_number
from anbn.study import clusters, sweep_plan
from anbn.study.sweep_plan import SweepError, out_of
from anbn.study.sweep_progress import duration


def describe(folder, sweep, runs, chains, jobs):
    """Print what there is to do and what it takes.

    Returns
    -------
    missing : dict of str to Run
        By fingerprint.
    taken : dict of str to Path
        Of those, what the base study has already, and where.

    Raises
    ------
    SweepError
        If it does not fit on the disk.
    """
    missing = {k: r for k, r in runs.items() if not sweep_plan.is_done(folder, r)}
    found = {k: sweep_plan.taken_from(sweep, run) for k, run in missing.items()}
    taken = {key: source for key, source in found.items() if source}
    todo = [run for key, run in missing.items() if key not in taken]
    n_bytes, seconds = costs(folder, sweep, runs)
    print(
        f"sweep {sweep.name} of study {sweep.study}: {len(sweep.points)} points, "
        f"stages {' '.join(stage_number(stage) for stage in sweep.reads)}\n"
        f"  {len(runs)} stage runs after sharing (of {sum(map(len, chains))}): "
        f"{len(runs) - len(missing)} up to date, {len(taken)} to take from "
        f"outputs/{sweep.study}, {len(todo)} to run"
    )
    for path in sorted((folder / "runs").glob("*")):
        if path.name not in {run.name for run in runs.values()}:
            print(f"  {folder / 'runs'} also holds runs of earlier settings")
            break
    free = free_bytes(folder)
    if todo:
        need = sum(n_bytes.get(run.stage, 0) for run in todo)
        print(f"  disk: {_known(todo, n_bytes, f'some {_gb(need)}')}; {_gb(free)} free")
        total = sum(seconds.get(run.stage, 0) for run in todo)
        jobs = clusters.local_size(jobs or None)[0] if jobs != 0 else 0
        on = f" on {jobs} at a time" if jobs else " in all, over the jobs there are"
        total = duration(total / jobs if jobs else total) + on
        print(f"  time: {_known(todo, seconds, total)}", flush=True)
        if need > free:
            raise SweepError(
                f"this sweep needs some {_gb(need)} and {folder} has {_gb(free)} free. "
                "Set ANBN_OUTPUTS to a larger disk, or sweep over less."
            )
    return missing, taken


def _known(todo, known, text):
    unknown = sorted(
        {stage_number(run.stage) for run in todo if run.stage not in known}
    )
    if len(unknown) == len({run.stage for run in todo}):
        return "not known before one point has run (or `make all` of the study)"
    return text + (
        f", without stages {' '.join(unknown)}, not known" if unknown else ""
    )


def _gb(n_bytes):
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"


def costs(folder, sweep, runs):
    """Bytes and seconds of one run of each stage, from manifests of finished runs.

    Those of the base study count, else the mean of this sweep's own.

    Returns
    -------
    n_bytes, seconds : dict of str to float
        Without the stages of which nothing is known.
    """
    n_bytes, seconds = {}, {}
    for stage in sweep.reads:
        of_study = [stage_dir(sweep.study, stage)]
        own = [out_of(folder, run) for run in runs.values() if run.stage == stage]
        for outs in (own, of_study):  # the later counts
            found = [m for out in outs if (m := _manifest(out))]
            sizes = [sum(f["bytes"] for f in m["files"].values()) for m in found]
            times = [m["seconds"] for m in found if m.get("seconds")]
            if sizes:
                n_bytes[stage] = sum(sizes) / len(sizes)
            if times:
                seconds[stage] = sum(times) / len(times)
    return n_bytes, seconds


def _manifest(out):
    try:
        return artifacts.read_json(out / artifacts.MANIFEST)
    except artifacts.ArtifactError:
        return None


def free_bytes(folder):
    """Free space of the disk that a folder is, or will be, on."""
    folder = Path(os.path.abspath(folder))
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
