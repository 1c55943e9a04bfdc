"""What a stage leaves: written atomically, listed with hashes, checked on reading.

A stage's folder is whole when, and only when, it has a ``manifest.json``: it is removed
first and written last.
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
import zipfile
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from anbn.paths import project_root, stage_dir

MANIFEST = "manifest.json"
PARTIAL = ".partial"  # suffix of what an interrupted run can go on with
VERSIONS_OF = ("torch", "transformers", "nilearn", "scikit-learn", "himalaya", "numpy")


class ArtifactError(RuntimeError):
    """An artefact is missing, incomplete, or not what its manifest says."""


@contextmanager
def atomic(path):
    """Give a temporary path; move it to ``path`` if the block ends without error.

    Works for files and for folders. On an error (a full disk, say) the temporary path
    is removed and what stood at ``path`` before still stands.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # the name keeps the suffix: writers choose their format by it
    folder = Path(tempfile.mkdtemp(prefix=".tmp-", dir=path.parent))
    temporary = folder / path.name
    try:
        yield temporary
        if path.is_dir():
            os.replace(path, folder / "old")
        os.replace(temporary, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_json(path, content):
    """Write JSON (sorted keys, NaN refused: it would not be JSON)."""
    with atomic(path) as temporary:
        text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def write_table(path, table):
    """Write a DataFrame as parquet."""
    with atomic(path) as temporary:
        table.to_parquet(temporary)


def write_arrays(path, **arrays):
    """Write named arrays as one npz file."""
    with atomic(path) as temporary:
        np.savez(temporary, **arrays)


def write_array(path, array):
    """Write one array as npy, to be read by ``np.load(path, mmap_mode="r")``."""
    with atomic(path) as temporary:
        np.save(temporary, array, allow_pickle=False)


def slug(name):
    """A model's name as it can stand in a file name and a summary key."""
    name = name.removeprefix("package:").removesuffix("/model")
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").lower()


def write_figure(out, name, figure):
    """Save a matplotlib figure as ``figures/<name>.png`` at 110 dpi.

    Its titles go into the file's metadata, for whoever cannot see it.
    """
    titles = [figure.get_suptitle()]
    titles += [ax.get_title(loc) for ax in figure.axes for loc in ("left", "center")]
    titles += [ax.get_title("right") for ax in figure.axes]
    title = "; ".join(dict.fromkeys(" ".join(t.split()) for t in titles if t))
    with atomic(Path(out) / "figures" / f"{name}.png") as temporary:
        options = {"dpi": 110, "bbox_inches": "tight", "metadata": {"Title": title}}
        figure.savefig(temporary, **options)


def read_arrays(path):
    """Read an npz file; objects (pickles) are refused."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{path} cannot be read as npz: {error}") from error


def read_json(path):
    """Read a JSON file.

    Raises
    ------
    ArtifactError
        If it is missing or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read as JSON: {error}") from error


def read_array(path):
    """Read an npy file as written by ``write_array``.

    Raises
    ------
    ArtifactError
        If it is missing or damaged; says which of its kind there are.
    """
    path = Path(path)
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        others = sorted(p.name for p in path.parent.glob("*.npy"))
        raise ArtifactError(
            f"{path} is missing; there are {', '.join(others) or 'none of its kind'}. "
            "Stage 01 writes one for every kind of neuron in its parameter `kinds`."
        ) from error
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{path} cannot be read as npy: {error}") from error


def sha256(path):
    """SHA-256 of a file, or of a folder (its sorted names and their hashes)."""
    path = Path(path)
    if path.is_dir():
        total = hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            total.update(
                f"{file.relative_to(path).as_posix()} {sha256(file)}\n".encode()
            )
        return total.hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size(path):
    """Bytes in a file, or in all files of a folder."""
    path = Path(path)
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(p.stat().st_size for p in files if p.is_file())


_locks = {}  # stages this process is writing: folder -> open lock file


def _lock(out, patience=20.0):
    """Keep other processes from writing a stage until it is finished or we end."""
    if out in _locks:
        return
    file = open(out / ".lock", "w")
    give_up = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > give_up:
                file.close()
                raise ArtifactError(
                    f"{out} is being written by another process, perhaps a notebook "
                    "open in JupyterLab: run it to its end or shut its kernel down."
                ) from None
            time.sleep(0.2)  # the kernel of a killed run takes a second to notice
    _locks[out] = file


def begin_stage(study, stage):
    """Make a stage's folder ready; what an earlier run left counts no more.

    Only what can be gone on with (``*.partial``) stays.

    Returns
    -------
    out : Path
        The folder, with ``data/`` and ``figures/`` in it and without a manifest.

    Raises
    ------
    ArtifactError
        If another process is writing this stage.
    """
    out = stage_dir(study, stage)
    out.mkdir(parents=True, exist_ok=True)
    _lock(out)
    (out / MANIFEST).unlink(missing_ok=True)
    for name in ("data", "figures"):
        (out / name).mkdir(exist_ok=True)
        for path in (out / name).iterdir():
            if path.suffix != PARTIAL:
                _delete(path)
    return out


def _delete(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def finish_stage(out, summary, *, params, simulated):
    """Write a stage's manifest: the last thing a notebook does.

    Parameters
    ----------
    out : Path
        From ``begin_stage``.
    summary : dict of str to number or str
        Headline numbers. NaN is refused.
    params : dict
        The parameters the notebook ran with.
    simulated : bool
        Whether any of the data is simulated.
    """
    out = Path(out)
    for path in (out / "data").glob(f"*{PARTIAL}"):
        _delete(path)
    files = sorted(p for f in ("data", "figures") for p in (out / f).iterdir())
    manifest = {
        "study": out.parent.name,
        "stage": out.name,
        "simulated": bool(simulated),
        "summary": {name: _plain(value) for name, value in summary.items()},
        "params": params,
        "files": {
            p.relative_to(out).as_posix(): {"sha256": sha256(p), "bytes": size(p)}
            for p in files
        },
        "provenance": provenance(),
        "fingerprint": None,  # set by the pipeline: a run by hand is never up to date
    }
    write_json(out / MANIFEST, manifest)
    if out in _locks:
        _locks.pop(out).close()
    return pd.Series(manifest["summary"], name=out.name).to_frame()


def _plain(value):
    value = value.item() if isinstance(value, np.generic) else value
    return round(value, 6) if isinstance(value, float) else value


def provenance():
    """Versions, machine and commit that made a result."""
    commit = subprocess.run(
        ["git", "-C", str(project_root()), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
    )
    return {
        "commit": commit.stdout.strip() or None,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in VERSIONS_OF},
    }


def stage_inputs(study, stage):
    """Folder and manifest of an earlier stage, every file checked against its hash.

    Raises
    ------
    ArtifactError
        If the stage has not run, or one of its files is missing or was changed.
    """
    out = stage_dir(study, stage)
    again = f"Run `make {stage[:2]} STUDY={study}`"
    if not (out / MANIFEST).is_file():
        raise ArtifactError(f"stage {stage} of study {study!r} has not run. {again}.")
    manifest = read_json(out / MANIFEST)
    for name, expected in manifest["files"].items():
        path = out / name
        if not path.exists():
            raise ArtifactError(
                f"{path} is missing though its manifest lists it. {again}"
            )
        if size(path) != expected["bytes"] or sha256(path) != expected["sha256"]:
            raise ArtifactError(
                f"{path} is not the file its stage wrote: its hash differs from the "
                f"manifest (cut short, edited, or a chunk lost). {again} to redo it."
            )
    return out, manifest
