"""Runs found by entities, and confounds."""

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest

from anbn.brain.bids import BidsError, find_runs, parts_of
from anbn.brain.confounds import confound_table, read_confounds

MNI, T1W = "space-MNI152NLin2009cAsym", "space-T1w"


def touch(folder, *names, content=""):
    for name in names:
        func = "/".join(part for part in name.split("_") if part[:3] in ("sub", "ses"))
        path = folder / func / "func" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


@pytest.fixture
def fmriprep(tmp_path):
    """Two subjects, one with two runs, in two spaces, with confounds."""
    for scan in ("sub-001_task-pieman_run-1", "sub-001_task-pieman_run-2"):
        for space in (MNI, T1W):
            touch(tmp_path, f"{scan}_{space}_desc-preproc_bold.nii.gz")
        touch(tmp_path, f"{scan}_desc-confounds_timeseries.tsv")
    touch(tmp_path, "sub-001_task-tunnel_desc-confounds_timeseries.tsv")
    touch(tmp_path, f"sub-001_task-tunnel_{MNI}_desc-preproc_bold.nii.gz")
    touch(tmp_path, f"sub-002_task-pieman_{MNI}_desc-preproc_bold.nii")
    touch(tmp_path, "sub-002_task-pieman_desc-confounds_regressors.tsv")
    touch(tmp_path, f"sub-002_task-pieman_{MNI}_desc-brain_mask.nii.gz")
    return tmp_path


def test_entities_of_a_name():
    found = parts_of("a/sub-01_ses-x_task-a1_space-T1w_bold.nii.gz")
    assert found == {"sub": "01", "ses": "x", "task": "a1", "space": "T1w"}


def test_runs_in_order_with_their_confounds(fmriprep):
    runs = find_runs(fmriprep, task="pieman", space=MNI.removeprefix("space-"))
    assert [run.name for run in runs] == [
        "sub-001_task-pieman_run-1",
        "sub-001_task-pieman_run-2",
        "sub-002_task-pieman",
    ]
    assert [run.subject for run in runs] == ["sub-001", "sub-001", "sub-002"]
    assert [run.confounds.name for run in runs] == [
        "sub-001_task-pieman_run-1_desc-confounds_timeseries.tsv",
        "sub-001_task-pieman_run-2_desc-confounds_timeseries.tsv",
        "sub-002_task-pieman_desc-confounds_regressors.tsv",
    ]
    assert all(MNI in run.bold.name and run.bold.is_file() for run in runs)
    assert {run.tr for run in runs} == {None}


def test_chosen_subjects_and_runs(fmriprep):
    wanted = dict(task="pieman", space="MNI152NLin2009cAsym")
    for subjects in (["sub-001"], ["001"], [1], "sub-001"):
        runs = find_runs(fmriprep, subjects=subjects, entities={"run": 2}, **wanted)
        assert [run.name for run in runs] == ["sub-001_task-pieman_run-2"]
    only = find_runs(fmriprep, entities={"run": "none"}, **wanted)
    assert [run.subject for run in only] == ["sub-002"]


def test_sessions_are_runs_of_their_own(tmp_path):
    touch(tmp_path, *(f"sub-1_ses-{s}_task-x_bold.nii" for s in "ba"))
    runs = find_runs(tmp_path, task="x")
    assert [run.name for run in runs] == ["sub-1_ses-a_task-x", "sub-1_ses-b_task-x"]


def test_cifti(tmp_path):
    name = "sub-1_task-x_space-fsLR_den-91k_bold.dtseries.nii"
    touch(tmp_path, name, "sub-1_task-x_space-T1w_bold.nii.gz")
    assert find_runs(tmp_path, task="x", space="fsLR")[0].bold.name == name


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["_space-A_bold.nii", "_space-B_bold.nii"], "space: A, B. Set space: A, say"),
        (["_bold.nii", "_space-B_bold.nii"], "space: B, none. Set space: B"),
        (
            ["_res-1_bold.nii", "_res-2_bold.nii"],
            r"1, 2. Set entities: \{res: 1\}, say",
        ),
        (
            ["_desc-clean_bold.nii", "_desc-preproc_bold.nii"],
            "desc: clean, preproc. Set desc: clean",
        ),
        (
            ["_echo-1_bold.nii", "_echo-2_bold.nii"],
            r"1, 2. Set entities: \{echo: 1\}",
        ),
        (["_bold.nii", "_bold.nii.gz"], "suffix only. Keep one"),
    ],
)
def test_ambiguous_files(tmp_path, names, message):
    touch(tmp_path, *(f"sub-1_task-x{name}" for name in names))
    with pytest.raises(BidsError, match=message):
        find_runs(tmp_path, task="x")


def test_none_takes_the_file_without_the_entity(tmp_path):
    touch(tmp_path, "sub-1_task-x_bold.nii", "sub-1_task-x_space-B_bold.nii")
    run = find_runs(tmp_path, task="x", space="none")[0]
    assert run.bold.name == "sub-1_task-x_bold.nii"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"task": "piemen"}, "task-piemen .*task there: pieman, tunnel"),
        ({"subjects": ["sub-009"]}, "sub-009 .*sub there: 001, 002"),
        ({"entities": {"run": "3"}}, "run-3 .*run there: 1, 2, none"),
        ({"space": "MNI"}, "space-MNI .*there: MNI152NLin2009cAsym, T1w"),
        ({"desc": "clean"}, "desc-clean .*desc there: preproc"),
        ({"entities": {"res": "native"}}, "res-native .*res there: none"),
        ({"entities": {"task": "x"}}, "task has a parameter of its own"),
        ({"entities": {"direction": "AP"}}, "there: none. Entities .*run: 1, 2, none"),
        ({"task": "tunnel", "subjects": [1, 2]}, "sub-2 has no file with .*tunnel"),
    ],
)
def test_what_is_not_there(fmriprep, wanted, message):
    with pytest.raises(BidsError, match=message):
        find_runs(fmriprep, **({"task": "pieman"} | wanted))


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "derivatives").mkdir()
    with pytest.raises(BidsError, match=r"expected sub-.*found derivatives"):
        find_runs(tmp_path, task="x")


def test_the_nearest_sidecar_gives_the_tr(tmp_path):
    touch(tmp_path, *(f"sub-{s}_task-x_space-A_bold.nii" for s in "1234"))
    (tmp_path / "task-x_bold.json").write_text('{"RepetitionTime": 3}')
    (tmp_path / "task-y_bold.json").write_text('{"RepetitionTime": 9}')
    touch(tmp_path, "sub-1_task-x_space-A_bold.json", content='{"RepetitionTime": 1.5}')
    (tmp_path / "sub-2/sub-2_task-x_bold.json").write_text('{"RepetitionTime": 2.5}')
    touch(tmp_path, "sub-3_task-x_space-A_bold.json", content='{"Sources": []}')
    touch(tmp_path, "sub-3_task-x_space-B_bold.json", content='{"RepetitionTime": 9}')
    assert [run.tr for run in find_runs(tmp_path, task="x")] == [1.5, 2.5, 3.0, 3.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *(
            (
                f'{{"RepetitionTime": {tr}}}',
                "expected RepetitionTime in seconds, above 0",
            )
            for tr in ("0", "-2", '"2.0"', "true", "NaN", "Infinity")
        ),
        ('{"StartTime": -1}', "StartTime in seconds, 0 or more, found -1"),
        ('{"NumberOfVolumesDiscardedByUser": "4"}', "in volumes, 0 or more, found '4'"),
        ("{", "cannot be read as JSON"),
        ("[1]", "expected a JSON object, found"),
    ],
)
def test_what_no_json_file_can_say(tmp_path, content, message):
    touch(tmp_path, "sub-1_task-x_bold.nii")
    touch(tmp_path, "sub-1_task-x_bold.json", content=content)
    with pytest.raises(BidsError, match=message) as error:
        find_runs(tmp_path, task="x")
    assert "sub-1_task-x_bold.json" in str(error.value)


def test_the_sidecars_of_a_real_data_set(tmp_path):
    folder = Path(os.environ.get("ANBN_DATA", "")) / "ds002345_bids_text"
    if not os.environ.get("ANBN_DATA") or not folder.is_dir():
        pytest.skip("ANBN_DATA is not set to a folder that holds ds002345_bids_text/")
    for sidecar in folder.glob("*_bold.json"):
        content = sidecar.read_text()
        touch(tmp_path, sidecar.name, content=content)
        touch(tmp_path, sidecar.name.replace(".json", ".nii.gz"))
        assert json.loads(content)["RepetitionTime"] == 1.5
    runs = find_runs(tmp_path, task="pieman")
    assert [(r.name, r.tr) for r in runs] == [("sub-001_task-pieman_run-1", 1.5)]


def test_the_start_of_slice_timing_is_inherited(tmp_path):
    touch(tmp_path, *(f"sub-{s}_task-x_space-A_desc-p_bold.nii" for s in "123"))
    (tmp_path / "task-x_bold.json").write_text('{"StartTime": 0.5}')
    near = "sub-1_task-x_space-A_desc-p_bold.json"
    touch(tmp_path, near, content='{"RepetitionTime": 2, "StartTime": 0.98}')
    of_subject = tmp_path / "sub-2/sub-2_task-x_desc-p_bold.json"
    of_subject.write_text('{"StartTime": 0}')
    touch(tmp_path, "sub-3_task-x_space-B_bold.json", content='{"StartTime": 9}')
    assert [r.start_time for r in find_runs(tmp_path, task="x")] == [0.98, 0.0, 0.5]


def test_any_entity_can_be_named(tmp_path):
    for subject, direction, run in itertools.product("12", ("AP", "PA"), ("2", "10")):
        scan = f"sub-{subject}_task-x_dir-{direction}_run-{run}"
        touch(tmp_path, f"{scan}_res-2_bold.nii", f"{scan}_bold.nii")
        touch(tmp_path, f"{scan}_desc-confounds_timeseries.tsv")
    one = {"dir": "PA", "res": "2", "run": "10"}
    found = find_runs(tmp_path, task="x", subjects="1", entities=one)
    (path,) = (run.bold.name for run in found)
    assert path == "sub-1_task-x_dir-PA_run-10_res-2_bold.nii"
    assert found[0].confounds.name.startswith("sub-1_task-x_dir-PA_run-10_desc")
    both = {"dir": "AP, PA", "res": "none"}
    runs = find_runs(tmp_path, task="x", subjects=["1"], entities=both)
    names = [f"sub-1_task-x_run-{r}_dir-{d}" for r in (2, 10) for d in ("AP", "PA")]
    assert [run.name for run in runs] == names
    assert len({run.confounds for run in runs}) == 4
    with pytest.raises(BidsError, match=r"They differ in dir: AP, PA; res: 2, none."):
        find_runs(tmp_path, task="x")


def test_what_systems_leave_behind_is_passed_over(tmp_path):
    scan = "sub-1_task-x"
    touch(tmp_path, f"{scan}_bold.nii", f"{scan}_desc-confounds_timeseries.tsv")
    touch(tmp_path, f"{scan}_bold.json", content='{"RepetitionTime": 2}')
    for path in list(tmp_path.rglob("sub-1_*")):
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07")
        path.with_name(".DS_Store").write_bytes(b"\x00")
    (run,) = find_runs(tmp_path, task="x")
    assert (run.bold.name, run.tr) == (f"{scan}_bold.nii", 2.0)
    assert run.confounds.name == f"{scan}_desc-confounds_timeseries.tsv"


CONFOUNDS = ["trans_x", "trans_y", "rot_x", "framewise_displacement", "a_comp_cor_00"]


@pytest.fixture
def table(tmp_path, rng):
    values = rng.standard_normal((6, len(CONFOUNDS)))
    cells = [[f"{v:.17g}" for v in row] for row in values]
    cells[0][3] = "n/a"
    values[0, 3] = 0

    def write(name="c.tsv", separator="\t", changes=()):
        rows = [list(row) for row in cells]
        for row, column, value in changes:
            rows[row][column] = value
        path = tmp_path / name
        lines = [separator.join(row) for row in [CONFOUNDS, *rows]]
        path.write_text("\n".join(lines) + "\n")
        return path

    return write, values


def test_confounds_are_those_of_the_file(table):
    write, values = table
    wanted = ["rot_?", "trans_*", "a_comp_cor_0[0-5]", "framewise_displacement", "*_x"]
    order = [2, 0, 1, 4, 3]
    for path in (write(), write("c.csv", ",")):
        found = read_confounds(path, wanted, n_volumes=6)
        np.testing.assert_allclose(found, values[:, order], rtol=1e-15)
        assert found.dtype == np.float64
    assert read_confounds(path, "rot_x", n_volumes=6).shape == (6, 1)
    assert read_confounds(path, [], n_volumes=6).shape == (6, 0)


@pytest.mark.parametrize(
    ("change", "columns", "n_volumes", "message"),
    [
        ((2, 3, "n/a"), "*", 6, "framewise_displacement', row 3 of 6, found 'n/a'"),
        ((0, 0, "oops"), "*", 6, "trans_x', row 1 of 6, found 'oops'"),
        ((5, 4, "inf"), "*", 6, "a_comp_cor_00', row 6 of 6, found 'inf'"),
        ((2, 1, ""), "*", 6, "trans_y', row 3 of 6, found ''"),
        (None, "rot_x", 7, "has 6 rows, the run has 7 volumes"),
        (None, "tran_x", 6, r"'tran_x' \(did you mean 'trans_x'.* rot_x"),
        (None, "cosine*", 6, r"'cosine\*'"),
    ],
)
def test_confounds_that_cannot_be_used(table, change, columns, n_volumes, message):
    path = table[0](changes=[change] if change else [])
    with pytest.raises(BidsError, match=message) as error:
        read_confounds(path, ["rot_x", columns], n_volumes=n_volumes)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such table"),
        ("", "cannot be read"),
        ("a\ta\n1\t2\n3\t4\n", "first line of names, each once"),
        ("1 2 3 4\n2 3 4 5\n", r"confounds x volumes\), .*Turn it"),
        ("1 2 3\n2 3 4\n", r"confounds x volumes\), .*Turn it"),
    ],
)
def test_files_that_are_no_confounds(tmp_path, content, message):
    path = tmp_path / "c.tsv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BidsError, match=message):
        read_confounds(path, ["*"], n_volumes=3)


MOTION = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
AFNI = ["roll", "pitch", "yaw", "dS", "dL", "dP"]


@pytest.mark.parametrize(
    ("name", "separator", "head", "names"),
    [
        ("rp_asub-01_bold.txt", "  ", "", MOTION),
        ("sub-01_mcf.nii.gz.par", "  ", "", [*MOTION[3:], *MOTION[:3]]),
        (
            "dfile.r01.1D",
            " ",
            "# 3dvolreg -1Dfile\n",
            [*AFNI],
        ),
        ("motion.txt", " ", "", [f"column_{k}" for k in range(1, 7)]),
        ("motion.tsv", "\t", "", [f"column_{k}" for k in range(1, 7)]),
        ("motion.csv", ",", "", [f"column_{k}" for k in range(1, 7)]),
        ("motion.txt", " ", " ".join(MOTION) + "\n", MOTION),
        ("saved_by_numpy.txt", " ", f"# {' '.join(MOTION)}\n", MOTION),
        ("excel.csv", ";", ";".join(MOTION) + "\n", MOTION),
    ],
)
def test_motion_of_other_programs(tmp_path, rng, name, separator, head, names):
    """No line of names is no row lost."""
    values = rng.normal(size=(30, 6))
    rows = [separator.join(f"{value:.7e}" for value in row) for row in values]
    if name == "excel.csv":
        rows = [row.replace(".", ",") for row in rows]
    lead = separator.isspace() * separator.replace("\t", "")
    (tmp_path / name).write_text(head + "\n".join(lead + row for row in rows) + "\n")
    assert list(confound_table(tmp_path / name)) == names
    found = read_confounds(tmp_path / name, ["*"], n_volumes=30)
    np.testing.assert_allclose(found, values, rtol=1e-6)
    with pytest.raises(BidsError, match="has 30 rows, the run has 31 volumes"):
        read_confounds(tmp_path / name, ["*"], n_volumes=31)


def test_values_missing_in_the_first_rows_are_zero(tmp_path, rng):
    values = rng.normal(size=(30, 3))
    cells = [[f"{v:.6f}" for v in row] for row in values]
    cells[0] = ["n/a", "n/a", cells[0][2]]
    cells[1][1] = "n/a"
    expected = values.copy()
    expected[0, :2] = expected[1, 1] = 0
    for head in ("a\tb\tc\n", ""):
        path = tmp_path / "c.tsv"
        path.write_text(head + "\n".join("\t".join(row) for row in cells) + "\n")
        found = read_confounds(path, ["*"], n_volumes=30)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_only_sidecars_of_bold_are_inherited(tmp_path):
    name = f"sub-01_task-a_{MNI}_desc-preproc_bold.nii.gz"
    touch(tmp_path, name)
    func = tmp_path / "sub-01" / "func"
    content = json.dumps({"StartTime": 9.0, "RepetitionTime": 7})
    (func / f"sub-01_task-a_{MNI}_boldref.json").write_text(content)
    assert find_runs(tmp_path, task="a")[0].start_time is None
    content = json.dumps({"RepetitionTime": 2, "NumberOfVolumesDiscardedByUser": 4})
    (tmp_path / "task-a_bold.json").write_text(content)
    (run,) = find_runs(tmp_path, task="a")
    assert (run.tr, run.discarded) == (2.0, 4)


def test_who_lacks_what_is_wanted_is_said(tmp_path, capsys):
    touch(tmp_path, f"sub-01_task-a_run-1_{MNI}_bold.nii.gz")
    touch(tmp_path, f"sub-01_task-a_run-2_{MNI}_bold.nii.gz")
    touch(tmp_path, f"sub-02_task-a_run-1_{MNI}_bold.nii.gz")
    touch(tmp_path, f"sub-03_task-a_run-1_{T1W}_bold.nii.gz")
    touch(tmp_path, f"sub-04_task-b_run-1_{MNI}_bold.nii.gz")
    space = MNI.removeprefix("space-")
    runs = find_runs(tmp_path, task="a", space=space, entities={"run": "1,2"})
    assert [run.subject for run in runs] == ["sub-01", "sub-01", "sub-02"]
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"left out, without a file of space: {space}; run: 1, 2: sub-03",
        "no run-2: sub-02",
    ]


def test_one_column_of_decimal_commas(tmp_path, rng):
    values = rng.uniform(0, 0.2, size=30).round(4)
    path = tmp_path / "fd.txt"
    path.write_text("".join(f"{v:.4f}\n".replace(".", ",") for v in values))
    found = read_confounds(path, ["*"], n_volumes=30)
    np.testing.assert_allclose(found, values[:, None])
