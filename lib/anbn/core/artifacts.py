"""What a stage leaves: written atomically, listed with hashes, checked on reading.

A stage's folder is whole when, and only when, it has a ``manifest.json``: it is removed
first and written last. A manifest carries a checksum of its own, so that a number
edited by hand, or lost to a failing disk, is noticed before it is reported.

A folder has one writer at a time, by a lock that ends with its process, however that
ends.
"""

import errno
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
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from safetensors import SafetensorError

from anbn.core.paths import project_root, stage_dir, stage_number, tidy

# libraries whose versions decide a number
COMPUTING = (
    "torch",
    "transformers",
    "scikit-learn",
    "nilearn",
    "nibabel",
    "himalaya",
    "python-picard",
    "numpy",
    "scipy",
    "wordfreq",
)
KINDS = {"stage": str, "simulated": bool, "summary": dict, "params": dict}
KINDS |= {"files": dict, "fingerprint": str | None}
PLACES = ("data", "figures")
_held = {}  # locks of folders this process is writing -> open file
MANIFEST = "manifest.json"
PARTIAL = ".partial"  # suffix of what an interrupted run can go on with


def seal(manifest):
    """The manifest with its checksum."""
    return manifest | {"checksum": _checksum(manifest)}


def _checksum(manifest):
    content = {name: manifest[name] for name in manifest if name != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def complaint(manifest):
    """What is wrong with a manifest that was read; None if nothing is."""
    if not isinstance(manifest, dict):
        return f"expected a manifest, found {manifest!r:.40}"
    if manifest.get("checksum", "") not in ("", _checksum(manifest)):
        return "its checksum differs: it was edited by hand or damaged"
    for key, kind in KINDS.items():
        if key not in manifest or not isinstance(manifest[key], kind):
            return f"{key} is missing or wrong, found {manifest.get(key)!r:.40}"
    for name, file in manifest["files"].items():
        parts = PurePosixPath(name).parts
        if len(parts) < 2 or parts[0] not in PLACES or ".." in parts:
            return f"it lists {name!r:.80}, which is not in {' or '.join(PLACES)}"
        if not isinstance(file, dict) or {"sha256", "bytes"} - set(file):
            return f"sha256 and bytes of {name!r} are missing, found {file!r:.40}"
    return None


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
        "packages": versions(COMPUTING),
    }


def versions(names):
    """Versions of installed libraries by name."""
    return {name: version(name) for name in names}


def hold(folder, patience=20.0, name=".lock"):
    """Keep other processes from writing a folder until it is released or we end.

    Parameters
    ----------
    folder : Path
        May be held already, by this process.
    patience : float
        Seconds: the kernel of a killed run takes a second to notice.
    name : str
        Of the lock: that of who writes, or of who runs who writes.

    Raises
    ------
    TimeoutError
        If another process holds it.
    """
    if folder / name in _held:
        return
    file = open(folder / name, "w")
    give_up = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > give_up:
                file.close()
                raise TimeoutError(
                    f"{folder} is being written by another process, perhaps a notebook "
                    "open in JupyterLab: run it to its end or shut its kernel down."
                ) from None
            time.sleep(0.2)
    _held[folder / name] = file


def release(folder, name=".lock"):
    """Let others write a folder."""
    if folder / name in _held:
        _held.pop(folder / name).close()


class ArtifactError(RuntimeError):
    """An artefact is missing, incomplete, or not what its manifest says."""


@contextmanager
def atomic(path):
    """Give a temporary path; move it to ``path`` if the block ends without error.

    Works for files and for folders. On an error (a full disk, say) the temporary path
    is removed and what stood at ``path`` before still stands.

    Raises
    ------
    OSError
        Names the path, which those of numpy and pyarrow do not.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # the name keeps the suffix: writers choose their format by it
    folder = Path(tempfile.mkdtemp(prefix=".tmp-", dir=path.parent))
    temporary, old = folder / path.name, folder / "old"
    try:
        yield temporary
        if path.is_dir() and temporary.exists():
            os.replace(path, old)
        try:
            os.replace(temporary, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None) or errno.EIO
        raise OSError(number, f"{path} could not be written: {error}") from error
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
    """Write named arrays as one npz file: equal arrays give equal bytes."""
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            # of 1980: np.savez asks the clock, and fails if that stands before
            member = zipfile.ZipInfo(f"{name}.npy")
            with archive.open(member, "w", force_zip64=True) as file:
                array = np.asanyarray(array)
                np.lib.format.write_array(file, array, allow_pickle=False)


def write_array(path, array):
    """Write one array as npy, to be read by ``np.load(path, mmap_mode="r")``."""
    with atomic(path) as temporary:
        np.save(temporary, array, allow_pickle=False)
        try:
            if np.size(array):
                np.load(temporary, mmap_mode="r")
        except ValueError as error:  # numpy does not miss its last bytes on a full disk
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


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
    except Exception as error:  # of damage numpy and zipfile raise all there is
        raise ArtifactError(f"{path} cannot be read as npz: {error}") from error


def read_json(path):
    """Read a JSON file; ArtifactError if it is missing or not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read as JSON: {error}") from error


def read_array(path):
    """Read an npy file; ArtifactError if it is missing, or damaged."""
    path = Path(path)
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        others = sorted(p.name for p in path.parent.glob("*.npy"))
        raise ArtifactError(
            f"{path} is missing; there are {', '.join(others) or 'none of its kind'}. "
            "Stage 01 writes one for every kind of neuron in its parameter `kinds`."
        ) from error
    except Exception as error:  # of damage numpy raises all there is
        raise ArtifactError(f"{path} cannot be read as npy: {error}") from error


def sha256(path):
    """SHA-256 of a file, or of a folder: its sorted names and their hashes.

    What systems leave behind does not count (see ``paths.is_litter``).
    """
    path = Path(path)
    if path.is_dir():
        total = hashlib.sha256()
        for file in tidy(p for p in path.rglob("*") if p.is_file()):
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
    try:
        hold(out)
    except TimeoutError as error:
        raise ArtifactError(str(error)) from None
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


def finish_stage(out, summary, *, params, simulated, finding=""):
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
    finding : str
        What the notebook found, in a sentence or two: its page begins with it.

    Returns
    -------
    summary : DataFrame
        A row a headline number.
    """
    out = Path(out)
    for path in (out / "data").glob(f"*{PARTIAL}"):
        _delete(path)
    files = sorted(p for f in PLACES for p in (out / f).iterdir())
    manifest = {
        "study": out.parent.name,
        "stage": out.name,
        "simulated": bool(simulated),
        "finding": finding,
        "summary": {name: _plain(value) for name, value in summary.items()},
        "params": params,
        "files": {
            p.relative_to(out).as_posix(): {"sha256": sha256(p), "bytes": size(p)}
            for p in files
        },
        "provenance": provenance(),
        "fingerprint": None,  # set by the pipeline: a run by hand is never up to date
    }
    write_manifest(out, manifest)
    release(out)
    return pd.Series(manifest["summary"], name=out.name).to_frame()


def _plain(value):
    value = value.item() if isinstance(value, np.generic) else value
    return round(value, 6) if isinstance(value, float) else value


def write_manifest(out, manifest):
    """Write a stage's manifest, with its checksum."""
    write_json(out / MANIFEST, seal(manifest))


def read_manifest(out):
    """A stage's manifest.

    Raises
    ------
    ArtifactError
        If it is missing, edited by hand or damaged.
    """
    again = f"Run `make {stage_number(out.name)} STUDY={out.parent.name}` to redo it."
    try:
        manifest = read_json(out / MANIFEST)
    except ArtifactError as error:
        raise ArtifactError(f"{error}. {again}") from error
    if wrong := complaint(manifest):
        raise ArtifactError(f"{out / MANIFEST}: {wrong}. {again}")
    return manifest


def stage_inputs(study, stage):
    """Folder and manifest of an earlier stage, every file checked against its hash.

    Raises
    ------
    ArtifactError
        If the stage has not run, or one of its files is missing or was changed.
    """
    out = stage_dir(study, stage)
    again = f"Run `make {stage_number(stage)} STUDY={study}`"
    if not (out / MANIFEST).is_file():
        raise ArtifactError(f"stage {stage} of study {study!r} has not run. {again}.")
    manifest = read_manifest(out)
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
