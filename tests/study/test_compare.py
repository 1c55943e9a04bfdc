"""Two studies side by side, on studies made up here."""

import json

import pandas as pd
import pytest

from anbn.core import artifacts
from anbn.study import compare

FIRST, SECOND = "01_activation_recording", "02_fbn_extraction"
PROVENANCE = {"commit": "abc1234", "python": "3.11.9", "platform": "Linux"}
PROVENANCE["packages"] = {"numpy": "2.4.6", "torch": "2.13.0"}


@pytest.fixture
def outputs(outputs):
    write_manifest(outputs / "one", FIRST)
    write_manifest(outputs / "two", FIRST)
    return outputs


def write_manifest(study, stage, params=(), summary=(), **changed):
    out = study / stage
    out.mkdir(parents=True, exist_ok=True)
    manifest = {"study": study.name, "stage": stage, "simulated": False}
    manifest["params"] = {"study": study.name, "tr": 2.0, "device": "cpu"} | dict(
        params
    )
    manifest["summary"] = {"n_words": 10, "perplexity": 20.0} | dict(summary)
    manifest["files"] = {"data/a.npy": {"sha256": "0", "bytes": 1}}
    manifest |= {"provenance": PROVENANCE, "fingerprint": "f"} | changed
    artifacts.write_json(out / "manifest.json", manifest)


def run(capsys, *names):
    code = compare.main(list(names))
    return code, capsys.readouterr().out


def test_equal_studies(outputs, capsys):
    code, text = run(capsys, "one", "two")
    assert code == 0
    assert "Parameters: no difference" in text and "Versions: no difference" in text
    assert "not simply" not in text and "01: 0 of 1 shared files differ" in text
    table = pd.read_csv(outputs / "compare" / "one_vs_two.csv")
    results = table[table["part"] == "result"].set_index("name")
    assert results.loc["perplexity", ["difference", "ratio"]].tolist() == [0, 1]
    assert set(table["part"]) == {"files", "result"}


def test_one_parameter_differs(outputs, capsys):
    files = {"data/a.npy": {"sha256": "1", "bytes": 1}}
    summary = {"perplexity": 30.0, "n_words": 0, "extra": 1, "verdict": "text"}
    options = {"fingerprint": "g", "files": files, "summary": summary}
    write_manifest(
        outputs / "two", FIRST, params={"tr": 1.5, "device": "cuda"}, **options
    )
    code, text = run(capsys, "one", "two")
    assert code == 0 and "not simply" not in text
    table = pd.read_csv(outputs / "compare" / "one_vs_two.csv").set_index("name")
    changed = table[table["part"] == "parameter"]
    assert changed[["a", "b"]].to_dict("index") == {"tr": {"a": "2", "b": "1.5"}}
    assert table.loc["device", "part"] == "run"
    assert table.loc["perplexity", ["difference", "ratio"]].tolist() == [10, 1.5]
    assert table.loc["extra", "a"] == compare.ABSENT
    assert table.loc[["extra", "verdict"], "ratio"].isna().all()
    _, back = run(capsys, "two", "one")  # no ratio to nothing
    back = pd.read_csv(outputs / "compare" / "two_vs_one.csv").set_index("name")
    assert back.loc["n_words", "difference"] == 10
    assert pd.isna(back.loc["n_words", "ratio"])
    assert "01: 1 of 1 shared files differ" in text


@pytest.mark.parametrize(
    "changed, expected",
    [
        ({"provenance": PROVENANCE | {"commit": "def"}}, "commit abc1234 against def"),
        ({"provenance": PROVENANCE | {"commit": "d-dirty"}}, "B ran on code that no"),
        ({"provenance": PROVENANCE | {"commit": None}}, "B ran on code that no"),
        ({"provenance": PROVENANCE | {"packages": {"numpy": "1.0"}}}, "numpy, torch"),
        ({"fingerprint": None}, "B ran by hand"),
        ({"fingerprint": "g"}, "equal parameters, other notebooks, library or data"),
        ({"simulated": True}, "one has simulated data"),
        ({"params": {"tr": 1.0, "hrf": "spm"}}, "2 parameters differ"),
    ],
)
def test_what_else_could_explain_a_difference(outputs, capsys, changed, expected):
    write_manifest(outputs / "two", FIRST, **changed)
    _, text = run(capsys, "one", "two")
    assert "not simply one of parameters" in text and expected in text


def test_points_of_a_sweep(outputs, capsys):
    write_manifest(outputs / "sweeps" / "smoke" / "runs" / "0123", FIRST)
    point = outputs / "sweeps" / "smoke" / "points" / "tr=1.5,seed=0"
    point.mkdir(parents=True)
    (point / FIRST).symlink_to(f"../../runs/0123/{FIRST}")  # as a sweep links them
    (point / SECOND).symlink_to(f"../../runs/4567/{SECOND}")  # has not run
    code, text = run(capsys, "one", "smoke/tr=1.5,seed=0")
    assert code == 0 and f"{SECOND}: has not run (`make sweep" in text
    assert (outputs / "compare" / "one_vs_smoke_tr=1.5,seed=0.csv").is_file()


@pytest.mark.parametrize(
    "name, expected",
    [
        ("twoo", "did you mean 'two'"),
        ("../two", "no results of a point"),
        ("smoke/tr", "There are: smoke/p1. Run `make sweep SWEEP=smoke`"),
        ("", "There are: one"),
    ],
)
def test_studies_that_are_not_there(outputs, name, expected):
    write_manifest(outputs / "sweeps" / "smoke" / "points" / "p1", FIRST)
    with pytest.raises(SystemExit, match="error: no results") as error:
        compare.main(["one", name])
    assert expected in str(error.value)
    assert not (outputs / "compare").exists()


def test_stages_that_are_not_whole_are_named(outputs, capsys):
    for stage in (SECOND, "03_an_bn_coupling"):
        write_manifest(outputs / "one", stage)
    (outputs / "two" / SECOND).mkdir()
    (outputs / "two" / SECOND / "failed.ipynb").write_text("{}")
    code, text = run(capsys, "one", "two")
    assert code == 0
    assert f"B (two), {SECOND}: failed, see" in text
    assert "B (two), 03_an_bn_coupling: has not run (`make 03 STUDY=two`)" in text
    assert f"{SECOND}: results only in A" in text


@pytest.mark.parametrize("damage", ["cut", "key", "provenance", "list"])
def test_damaged_manifests_are_named(outputs, capsys, damage):
    write_manifest(outputs / "one", SECOND)
    write_manifest(outputs / "two", SECOND)
    path = outputs / "two" / SECOND / "manifest.json"
    text = path.read_text()
    manifest = json.loads(text)
    if damage == "cut":
        path.write_text(text[: len(text) // 2])
    elif damage == "list":
        path.write_text("[1]")
    else:
        manifest.pop("summary" if damage == "key" else "provenance")
        path.write_text(json.dumps(manifest))
    code, text = run(capsys, "one", "two")
    assert code == 1
    assert f"B (two), {SECOND}: damaged: {path}" in text
    assert "perplexity" in text  # the whole stage is still compared


def test_long_values_are_printed_from_where_they_differ(outputs, capsys):
    many = [f"package:one/of/many/files/{i}.txt" for i in range(9)]
    write_manifest(outputs / "one", FIRST, params={"corpora": many})
    write_manifest(
        outputs / "two", FIRST, params={"corpora": [*many[:-1], "other.txt"]}
    )
    _, text = run(capsys, "one", "two")
    line = next(x for x in text.splitlines() if "corpora" in x)
    assert "/files/8" not in line.split("…")[0]
    assert "other.txt" in line and len(line) < 130
