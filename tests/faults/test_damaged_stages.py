"""Artefacts of every kind cut short, with bits flipped, or edited by hand."""

import json

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from mutations import damage, seeded
from projects import FIRST, SECOND, contents
from safetensors.numpy import save_file

from anbn.core import artifacts
from anbn.models import stores
from anbn.study import fingerprints, pipeline

STAGE = "01_activation_recording"


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """A finished stage with a file of every kind that stages write."""
    from matplotlib import pyplot as plt

    monkeypatch.setenv("ANBN_OUTPUTS", str(tmp_path))
    rng = np.random.default_rng(0)
    out = artifacts.begin_stage("mine", STAGE)
    data = out / "data"
    artifacts.write_array(data / "a.npy", rng.normal(size=50))
    artifacts.write_arrays(data / "a.npz", a=rng.normal(size=50), b=np.arange(9))
    artifacts.write_table(data / "a.parquet", pd.DataFrame({"a": rng.normal(size=50)}))
    artifacts.write_json(data / "a.json", {"a": rng.normal(size=9).tolist()})
    save_file({"mask": rng.normal(size=9)}, data / "a.safetensors")
    image = nibabel.Nifti1Image(rng.normal(size=(4, 4, 4)), np.eye(4))
    nibabel.save(image, data / "a.nii.gz")
    (data / "a.tsv").write_text("word\tonset\nso\t0.5\n")
    (data / "a.html").write_text("<html></html>")
    artifacts.write_figure(out, "a", plt.subplots()[0])
    tokens = pd.DataFrame({"token": ["a"] * 30})
    about = {"dtype": "float16", "layers": None, "predictions": False}
    with stores.writing(data / "story", tokens, {"ffn_out": (2, 8)}, about) as writer:
        values = torch.from_numpy(rng.normal(size=(2, 30, 8))).half()
        writer.append(slice(0, 30), {"ffn_out": values})
    artifacts.finish_stage(out, {"x": 0.25, "n": 12}, params={"a": 1}, simulated=False)
    (out / "notebook.html").write_text("<html>all</html>")
    (out / "notebook.ipynb").write_text(json.dumps({"cells": [{"source": "1"}]}))
    html = artifacts.sha256(out / "notebook.html")
    more = {"fingerprint": "f" * 64, "html": html}
    artifacts.write_manifest(out, artifacts.read_manifest(out) | more)
    assert fingerprints.is_current(out, "f" * 64)
    plt.close("all")
    return out


@pytest.mark.parametrize("n", [3, pytest.param(30, marks=pytest.mark.faults)])
def test_damaged_files(stage, tally, n):
    before = artifacts.read_manifest(stage)
    files = [p for p in stage.rglob("*") if p.is_file() and p.name[0] != "."]
    assert {p.suffix for p in files} > {".npy", ".npz", ".parquet", ".gz", ".png"}
    for path in sorted(files):
        original, kind = path.read_bytes(), f"{path.suffix or 'chunk'} of a stage"
        kind = "manifest" if path.name == artifacts.MANIFEST else kind
        for i in range(n):
            rng = seeded(path.name, i)
            raw = damage(original, rng)
            if i == 0:
                raw = b""
            if raw == original:
                continue
            path.write_bytes(raw)
            current = fingerprints.is_current(stage, "f" * 64)
            if path.name == "notebook.ipynb":
                # it may have been saved again, so only what cannot be read is noticed
                try:
                    json.loads(raw)["cells"][0]
                    tally("notebook", "right result")
                except (ValueError, KeyError, IndexError, TypeError):
                    tally("notebook", "otherwise" if current else "right result")
                continue
            try:
                _, manifest = artifacts.stage_inputs("mine", STAGE)
            except artifacts.ArtifactError as error:
                good = not current and "Run `make 01" in str(error)
                tally(kind, "clear error" if good else "otherwise", f"{path} {i}")
                continue
            except Exception as error:
                tally(kind, "otherwise", f"{path} {i}: {error!r}")
                continue
            # the numbers are right, whatever else is not
            same = all(manifest[k] == before[k] for k in ("summary", "files", "params"))
            unread = path.name in ("notebook.html", artifacts.MANIFEST)
            good = same and not current and unread
            tally(
                kind, "right result" if good else "otherwise", f"{path} {i} {current}"
            )
        path.write_bytes(original)
    assert fingerprints.is_current(stage, "f" * 64)


HAND = {
    "a number": lambda m: m["summary"].update(x=0.99),
    "a fingerprint": lambda m: m.update(fingerprint="e" * 64),
    "a parameter": lambda m: m["params"].update(a=2),
    "simulated": lambda m: m.update(simulated=True),
    "summary of text": lambda m: m.update(summary="good"),
    "no files": lambda m: m.pop("files"),
    "files as a list": lambda m: m.update(files=list(m["files"])),
    "a file left out": lambda m: m["files"].pop("data/a.npy"),
    "a path outside": lambda m: m["files"].update(
        {"data/../../../x": {"sha256": "0", "bytes": 1}}
    ),
    "an absolute path": lambda m: m["files"].update(
        {"/etc/passwd": {"sha256": "0", "bytes": 1}}
    ),
    "no size": lambda m: m["files"]["data/a.npy"].pop("bytes"),
    "a stage of no name": lambda m: m.update(stage=None),
}


@pytest.mark.parametrize("checksum", ["kept", "removed"])
@pytest.mark.parametrize("name", HAND)
def test_a_manifest_edited_by_hand(stage, tally, name, checksum):
    manifest = json.loads((stage / "manifest.json").read_text())
    HAND[name](manifest)
    if checksum == "removed":
        manifest.pop("checksum")
    (stage / "manifest.json").write_text(json.dumps(manifest))
    current = fingerprints.is_current(stage, "f" * 64)
    assert not current and not fingerprints.is_current(stage, "e" * 64)
    try:
        artifacts.stage_inputs("mine", STAGE)
        # without a checksum nobody can know; it is not taken for up to date
        ending = "right result" if checksum == "removed" else "otherwise"
    except artifacts.ArtifactError as error:
        ending = "clear error" if "Run" in str(error) else "otherwise"
    tally("manifest by hand", ending, f"{name}, checksum {checksum}")


@pytest.mark.parametrize(
    "text", ["", "[]", "[1]", "null", "3", '"x"', "{}", "{", "NaN", "[" * 100000, "\0"]
)
def test_a_manifest_of_something_else(stage, tally, text):
    (stage / "manifest.json").write_text(text)
    assert not fingerprints.is_current(stage, "f" * 64)
    with pytest.raises(artifacts.ArtifactError, match=r"manifest\.json"):
        artifacts.stage_inputs("mine", STAGE)
    tally("manifest by hand", "clear error")


@pytest.mark.parametrize("n", [2, pytest.param(10, marks=pytest.mark.faults)])
def test_make_all_mends_what_is_damaged(project, tally, n):
    assert pipeline.run_study("mine", [SECOND]) == 2
    expected = contents(project)
    out = project / "outputs" / "mine"
    names = ("data/a.npy", "manifest.json", "notebook.html", "notebook.ipynb")
    for i in range(n):
        rng = seeded("mend", i)
        stage, name = (FIRST, SECOND)[i % 2], names[i % 4]
        path = out / stage / name
        raw = path.read_bytes()
        bits = bytearray(raw)
        bits[-5] ^= 1
        whole = name == "notebook.ipynb" or i % 3 == 0
        path.write_bytes(raw[: rng.randrange(len(raw))] if whole else bits)
        n_run = pipeline.run_study("mine", [SECOND])
        good = n_run == 1 and contents(project) == expected
        good &= pipeline.run_study("mine", [SECOND]) == 0
        ending = "right result" if good else "otherwise"
        tally("make all on damage", ending, f"{stage}/{name}: {n_run}")


def test_a_remembered_hash_cut_short(project):
    (project / "story.txt").write_text("one")
    found = fingerprints._data_hash("story.txt")
    (known,) = (project / "cache" / "hashes").iterdir()
    for text in ("", found[:30], "x" * 64):
        known.write_text(text)
        assert fingerprints._data_hash("story.txt") == found
    assert known.read_text() == found
