"""No room left, at every writer: what stood there still stands."""

import contextlib
import io
import os
import resource
import shutil
import subprocess
import sys

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from mutations import seeded
from projects import FIRST

from anbn.brain import bold, simulate
from anbn.core import artifacts
from anbn.masking import pruning
from anbn.models import stores
from anbn.study import pipeline


@contextlib.contextmanager
def room_for(n_bytes):
    """No file may grow beyond so many bytes; the error is that of a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def filled(folder, n_bytes):
    """A file system with so many bytes left."""
    free = shutil.disk_usage(folder).free
    stone = folder.parent / "stone"
    stone.write_bytes(b"0" * max(0, free - n_bytes))
    try:
        yield
    finally:
        stone.unlink()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MB of its own, or a skip that says why."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "anbn", str(place)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here (not root, or a container)")
    (place / "out").mkdir()
    yield place / "out"
    subprocess.run(["umount", "-l", str(place)], check=True)


def figure():
    drawn, ax = plt.subplots()
    ax.plot(np.random.default_rng(0).normal(size=300))
    return drawn


def simulation(rng):
    affine = np.diag([4.0, 4, 4, 1])
    mask = nibabel.Nifti1Image(np.ones((8, 8, 8), np.uint8), affine)
    values = rng.normal(size=(8, 8, 8, 12)).astype(np.float32)
    maps, times = rng.normal(size=(2, 512)), rng.normal(size=(12, 2))
    images = [nibabel.Nifti1Image(values, affine)]
    driven, drivers = np.array([True, False]), np.zeros((1, 3), int)
    return simulate.Simulation(images, mask, ["a", "b"], driven, maps, times, drivers)


def store(path, rng):
    tokens = pd.DataFrame({"token": ["a"] * 600})
    about = {"dtype": "float16", "layers": None, "predictions": False}
    with stores.writing(path, tokens, {"ffn_out": (2, 64)}, about) as writer:
        for rows in (slice(0, 512), slice(512, 600)):
            values = rng.normal(size=(2, rows.stop - rows.start, 64))
            writer.append(rows, {"ffn_out": torch.from_numpy(values).half()})


def folder_of_files(path, rng):
    with artifacts.atomic(path) as temporary:
        temporary.mkdir()
        for i in range(3):
            (temporary / str(i)).write_bytes(rng.bytes(20000))


def writers(llama):
    """Every writer: its target, and a function that writes something new there."""

    def runs(rng):
        return {"run": rng.normal(size=(200, 30))}

    def table(rng):
        return pd.DataFrame(rng.normal(size=(500, 6)), columns=[*"abcdef"])

    return {
        "json": (
            "a.json",
            lambda p, r: artifacts.write_json(p, r.random(900).tolist()),
        ),
        "table": ("a.parquet", lambda p, r: artifacts.write_table(p, table(r))),
        "arrays": ("a.npz", lambda p, r: artifacts.write_arrays(p, a=r.random(3000))),
        "array": ("a.npy", lambda p, r: artifacts.write_array(p, r.random(3000))),
        "figure": (
            "figures/a.png",
            lambda p, r: artifacts.write_figure(p.parents[1], "a", figure()),
        ),
        "folder": ("folder", folder_of_files),
        "store": ("store", store),
        "bold.prepare": ("runs", lambda p, r: bold.prepare(runs(r), p, tr=2.0)),
        "simulation": ("s", lambda p, r: simulate.write_simulation(simulation(r), p)),
        "pruning.save": ("model", lambda p, r: pruning.save(llama, p)),
    }


def contents(path):
    """Bytes of every file, but for what an interrupted run goes on with."""
    files = path.rglob("*") if path.is_dir() else [path]
    return {str(f.relative_to(path)): f.read_bytes() for f in files if f.is_file()}


def whole(path, before, after):
    """Whether every file is the old one or the new one."""
    now = contents(path)
    return all(v in (before.get(k), after.get(k)) for k, v in now.items()) and set(
        now
    ) >= set(before)


NAMES = sorted(writers(None))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", ["limit", "full"])
@pytest.mark.parametrize("n", [3, pytest.param(25, marks=pytest.mark.faults)])
def test_a_writer_without_room(request, tmp_path, tally, llama, name, way, n):
    out = request.getfixturevalue("small_disk") if way == "full" else tmp_path / "out"
    target, write = writers(llama)[name]
    path, other = out / target, tmp_path / "other" / target
    write(path, np.random.default_rng(1))
    write(other, np.random.default_rng(2))
    before, after = contents(path), contents(other)
    room, total = max(map(len, after.values())), sum(map(len, after.values()))
    rng = seeded(name, way)
    kind = f"{'a full' if way == 'full' else 'a limited'} disk: {name}"
    for i in range(n):
        share = rng.choice((rng.random(), 1 - 10 * rng.random() / room))
        size = int(share * (total if way == "full" else room))
        lack = filled(out, size) if way == "full" else room_for(size)
        quiet = io.StringIO()
        try:
            with contextlib.redirect_stderr(quiet), contextlib.redirect_stdout(quiet):
                with lack:
                    write(path, np.random.default_rng(2))
        except (OSError, artifacts.ArtifactError) as error:
            named = target.split("/")[0] in str(error)
            left = [p.name for p in out.rglob(".tmp-*")]
            good = named and not left and whole(path, before, after)
            why = f"{i}: {error!r} {left} {sorted(contents(path))}"
            tally(kind, "clear error" if good else "otherwise", why)
        except Exception as error:
            tally(kind, "otherwise", f"{i}: {error!r}")
        else:  # there was room after all, by blocks of the file system
            good = contents(path) == {**before, **after}
            tally(kind, "right result" if good else "otherwise", str(i))
            write(path, np.random.default_rng(1))
        plt.close("all")
        for part in out.glob("*.partial"):
            shutil.rmtree(part)


def test_numpy_alone_would_not_notice(tmp_path):
    with room_for(4096):
        np.save(tmp_path / "a.npy", np.arange(500))  # of 4128 bytes
        assert (tmp_path / "a.npy").stat().st_size == 4096
        with pytest.raises(OSError, match=r"b\.npy could not be written: .*No space"):
            artifacts.write_array(tmp_path / "b.npy", np.arange(500))
    assert not (tmp_path / "b.npy").exists()


def test_a_chunk_without_room_does_not_count(tmp_path):
    with room_for(512 * 64 * 2 - 10), pytest.raises(OSError):
        store(tmp_path / "story", np.random.default_rng(0))
    about = artifacts.read_json(tmp_path / "story.partial" / stores.ABOUT)
    assert about["n_recorded"] == 0
    store(tmp_path / "story", np.random.default_rng(0))
    assert stores.open_activations(tmp_path / "story", "ffn_out").notnull().all()


def test_a_folder_that_cannot_be_replaced_stays(tmp_path):
    with artifacts.atomic(tmp_path / "a") as temporary:
        temporary.mkdir()
        (temporary / "old").touch()
    with pytest.raises(OSError, match="could not be written"):
        with artifacts.atomic(tmp_path / "a"):
            pass  # nothing written
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["old"]


# root may write everywhere, unless it gives that up
CAPABILITIES = "=-dac_override,-dac_read_search"
HUMBLE = ["setpriv", f"--bounding-set{CAPABILITIES}", f"--inh-caps{CAPABILITIES}"]


@pytest.mark.parametrize("place", ["outputs", "outputs/mine", "stage", "file", "cache"])
def test_what_cannot_be_written(project, tally, place):
    humble = HUMBLE if os.geteuid() == 0 else []
    if humble and subprocess.run([*humble, "true"], capture_output=True).returncode:
        pytest.skip("root cannot give up its right to write everywhere here")
    stage = project / "outputs" / "mine" / FIRST
    closed = {"outputs": project / "outputs", "outputs/mine": stage.parent}
    closed |= {"stage": stage, "cache": project / "cache", "file": project / "outputs"}
    folder = closed[place]
    if place == "file":
        folder.write_text("mine")
    else:
        folder.mkdir(parents=True)
        folder.chmod(0o555)
    if place == "cache":
        (project / "story.txt").write_text("one")
        (project / "params" / "mine" / f"{FIRST}.yaml").write_text("file: story.txt")
    done = subprocess.run(
        [*humble, sys.executable, "-m", "anbn.study.pipeline", "mine"],
        capture_output=True,
        text=True,
    )
    if place != "file":
        folder.chmod(0o755)
    good = done.returncode == 1 and "Traceback" not in done.stderr
    good &= str(folder) in done.stderr and not list(project.rglob("manifest.json"))
    why = f"{place}: {done.returncode} {done.stderr[-900:]}"
    tally("no permission", "clear error" if good else "otherwise", why)


@pytest.mark.parametrize("n", [1, pytest.param(6, marks=pytest.mark.faults)])
def test_a_stage_without_room(project, tally, n):
    rng = seeded("stage")
    for _ in range(n):
        size = rng.choice((500, 5000, 12000, 100000))
        code = (
            f"import resource as r; r.setrlimit(r.RLIMIT_FSIZE, ({size},) * 2); "
            "from anbn.study import pipeline; pipeline.main(['mine', '01'])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True)
        said = done.stderr.decode()
        manifest = project / "outputs" / "mine" / FIRST / "manifest.json"
        good = done.returncode == 1 and "error:" in said and "Traceback" not in said
        good &= not manifest.exists() and "outputs" in said
        tally("a stage without room", "clear error" if good else "otherwise", said)
    assert pipeline.run_study("mine", [FIRST]) == 1
    assert artifacts.stage_inputs("mine", FIRST)
