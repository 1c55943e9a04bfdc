import json

import nibabel
import numpy as np
import pandas as pd
import pytest
from nibabel.cifti2 import BrainModelAxis, Cifti2Image, ParcelsAxis, SeriesAxis
from nifti import AFFINE, save

from anbn.brain import sources
from anbn.brain.bids import Run
from anbn.brain.images import BoldError

OPTIONS = {"mask": "", "atlas": "", "voxel_size": 0.0, "smoothing": 0.0}


@pytest.fixture
def axes():
    left = BrainModelAxis.from_surface([0, 2, 5], 7, "CortexLeft")
    inside = np.zeros((3, 3, 3), bool)
    inside[1, 1, :2] = True
    return left + BrainModelAxis.from_mask(inside, "thalamus_left", AFFINE)


def save_cifti(path, data, columns, unit="SECOND"):
    series = SeriesAxis(0, 2.0, len(data), unit)
    nibabel.save(Cifti2Image(data.astype(np.float32), (series, columns)), path)
    return path


def save_table(path, data, columns=("V1", "STG")):
    separator = "\t" if path.suffix == ".tsv" else ","
    pd.DataFrame(data, columns=columns).to_csv(path, sep=separator, index=False)
    return path


def run(path, tr=None):
    return Run("sub-01", "a", path, None, tr)


def test_runs_of_files(tmp_path, rng):
    data = rng.normal(size=(12, 2))
    for name in ("sub-01_run-1.tsv", "sub-01_run-2.tsv", "x_sub-02a.csv", "other.tsv"):
        save_table(tmp_path / name, data)
    (tmp_path / "other.json").write_text(json.dumps({"RepetitionTime": 1.5}))
    files = [str(p) for p in sorted(tmp_path.glob("*.[tc]sv"))]
    found = sources.runs_of_files(files, files)
    assert [r.subject for r in found] == [files[0], "sub-01", "sub-01", "sub-02a"]
    names = ["other", "sub-01_run-1", "sub-01_run-2", "x_sub-02a"]
    assert [r.name for r in found] == names
    assert [r.tr for r in found] == [1.5, None, None, None]
    assert [str(r.confounds) for r in found] == files
    assert sources.runs_of_files(files)[0].confounds is None


def test_same_file_names_in_different_folders(tmp_path, rng):
    files = []
    for folder in ("a/x", "b/x", "c/y"):
        (tmp_path / folder).mkdir(parents=True)
        path = save_table(tmp_path / folder / "bold.tsv", rng.normal(size=(12, 2)))
        files.append(str(path))
    found = sources.runs_of_files(files)
    assert [r.subject for r in found] == files
    assert len({r.name for r in found}) == 3
    found = sources.runs_of_files(files[1:])
    assert [r.name for r in found] == ["x_bold", "y_bold"]


def test_bad_parameters(tmp_path, rng):
    table = str(save_table(tmp_path / "a.tsv", rng.normal(size=(12, 2))))
    with pytest.raises(BoldError, match="bold_files is empty"):
        sources.runs_of_files([])
    with pytest.raises(BoldError, match="confound_files has 2 files, bold_files 1"):
        sources.runs_of_files([table], [table, table])
    with pytest.raises(FileNotFoundError, match="nothing found at"):
        sources.runs_of_files(["nowhere/sub.nii.gz"])
    (tmp_path / "a.mat").write_text("x")
    with pytest.raises(BoldError, match=r"a\.mat: unknown format.*\.nii\.gz"):
        sources.runs_of_files([str(tmp_path / "a.mat")])
    for text in ("not json", "[1]", '{"RepetitionTime": "two"}'):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(BoldError, match=r"a\.json: no RepetitionTime"):
            sources.runs_of_files([table])


def test_tables_and_arrays_are_read_right(tmp_path, rng):
    data = rng.normal(size=(12, 2))
    for name in ("a.tsv", "a.csv"):
        found, names = sources.read_table(save_table(tmp_path / name, data))
        np.testing.assert_allclose(found, data)
        assert names == ["V1", "STG"]
    np.save(tmp_path / "a.npy", data)
    found, names = sources.read_npy(tmp_path / "a.npy")
    np.testing.assert_array_equal(found, data)
    assert names == ["region 1", "region 2"]


REGIONS = ["IFG", "STG", "ATL"]
COUNTING = {  # columns that are no region
    "pandas": ("", np.arange(60.0)),
    "from one": ("volume", np.arange(1.0, 61)),
    "cut": ("index", np.arange(10.0, 70)),
    "seconds": ("Time (s)", 2.0 * np.arange(60)),
    "rounded": ("t", np.round(0.735 * np.arange(60), 2)),
    "milliseconds": ("ms", 1500.0 * np.arange(60)),
    "again": ("TR", np.tile(np.arange(30.0), 2)),
    "backwards": ("left", np.arange(60.0)[::-1]),
    "tenths": ("s", np.round(0.72 * np.arange(60), 1)),
    "whole seconds": ("s", np.floor(0.72 * np.arange(60))),
    "rounded to even": ("s", np.round(1.5 * np.arange(60))),
    "anew": ("volume", np.r_[np.arange(20.0), np.arange(20), np.arange(20)]),
    "run": ("run", np.repeat([1.0, 2.0], 30)),
}


@pytest.mark.parametrize("what", COUNTING)
@pytest.mark.parametrize("place", [0, 3])
def test_an_index_or_time_is_no_region(tmp_path, rng, capsys, what, place):
    data = 100 + rng.normal(size=(60, 3))
    name, values = COUNTING[what]
    frame = pd.DataFrame(data, columns=REGIONS)
    frame.insert(place, name, values)
    for path in (tmp_path / "a.csv", tmp_path / "a.tsv"):
        frame.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",", index=False)
        found, names = sources.read_regions(path)
        np.testing.assert_allclose(found, data)
        assert names == REGIONS
        low, high = values.min(), values.max()
        said = f"left out column {name or 'without name'}, which counts from {low:g} to"
        assert f"{path}: {said} {high:g}" in capsys.readouterr().out
    np.save(tmp_path / "a.npy", frame.to_numpy())
    found, names = sources.read_regions(tmp_path / "a.npy")
    np.testing.assert_allclose(found, data)
    assert names == [f"region {k + 1}" for k in range(4) if k != place]


def test_slow_regions_are_kept(tmp_path, rng, capsys):
    walk = rng.normal(size=(60, 2)).cumsum(0)
    rising = np.arange(60.0) + rng.normal(size=60)
    data = np.column_stack([walk, rising, np.round(100 + 3 * walk[:, 0])])
    path = save_table(tmp_path / "a.tsv", data, list("abcd"))
    np.testing.assert_allclose(sources.read_regions(path)[0], data)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "name, separator, decimal, encoding",
    [
        ("a.csv", ";", ",", "utf-8"),
        ("a.csv", ";", ".", "utf-8-sig"),
        ("a.csv", "\t", ",", "utf-8"),
        ("a.tsv", "\t", ",", "utf-16"),
        ("a.tsv", ",", ".", "utf-8"),
        ("a.tsv", "  ", ".", "utf-8"),
        ("a.tsv", " ", ",", "utf-8"),
    ],
)
def test_other_separators(tmp_path, rng, name, separator, decimal, encoding):
    data = 100 + rng.normal(size=(20, 3))
    rows = [separator.join(map(str, row)).replace(".", decimal) for row in data]
    text = "\r\n".join([separator.join(REGIONS), *rows])
    (tmp_path / name).write_text(text, encoding=encoding, newline="")
    found, names = sources.read_regions(tmp_path / name)
    np.testing.assert_allclose(found, data)
    assert names == REGIONS


@pytest.mark.parametrize(
    "name, method, atlas, message",
    [
        ("a.tsv", "canica", "", "canica is for volumes, these are tables.*: regions"),
        ("a.npy", "dictlearning", "", "these are tables"),
        ("a.nii", "canica", "atlas.nii", "regions of an atlas.*: regions"),
        ("a.dtseries.nii", "canica", "", "these are CIFTI"),
        ("a.nii", "regions", "", "for tables and atlases.*atlas_file"),
        ("a.nii", "canica", "", None),
        ("a.nii", "regions", "atlas.nii", None),
        ("a.tsv", "regions", "", None),
        ("a.tsv", "ica", "", None),
    ],
)
def test_methods_are_told_what_they_are_for(tmp_path, name, method, atlas, message):
    runs = [run(tmp_path / name)]
    if message is None:
        sources.check_method(runs, method, atlas=atlas)
        return
    with pytest.raises(BoldError, match=message):
        sources.check_method(runs, method, atlas=atlas)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"V1\tSTG\n1\thigh\n", "found text in column 'STG'"),
        (b"V1\tV1\n1\t2\n", "'V1' names several columns"),
        (b"1\t2\n3\t4\n", "expected a first line of names, found numbers"),
        (
            b"a\tb\n" + b"".join(b"%d\t%d\n" % (i, 2 * i) for i in range(9)),
            "all columns count rows or time",
        ),
        (b"", "cannot be read as a table"),
        (b"\xff\xfe\x00bold", "cannot be read as a table"),
        (b"a\tb\n1\t2\n1\t2\t3\t4\n", "cannot be read as a table"),
    ],
)
def test_bad_tables(tmp_path, content, message):
    path = tmp_path / "a.tsv"
    path.write_bytes(content)
    with pytest.raises(BoldError, match=message) as error:
        sources.read_regions(path)
    assert str(path) in str(error.value)


def test_bad_arrays(tmp_path, rng):
    path = tmp_path / "a.npy"
    for wrong, expected in [
        (np.array([{"a": 1}]), r"a\.npy cannot be read as npy.*allow_pickle"),
        (np.array([["a", "b"]]), "expected an array of numbers, found <U1"),
        (rng.normal(size=(2, 3, 4)), r"\(volumes x regions\), found shape \(2, 3, 4\)"),
    ]:
        np.save(path, wrong)
        with pytest.raises(BoldError, match=expected):
            sources.read_npy(path)
    path.write_bytes(b"\x93NUMPY")
    with pytest.raises(BoldError, match="cannot be read as npy"):
        sources.read_npy(path)


def test_cifti(tmp_path, rng, axes):
    data = rng.normal(size=(12, 5)).astype(np.float32)
    path = save_cifti(tmp_path / "a.dtseries.nii", data, axes)
    found, names = sources.read_cifti(path)
    np.testing.assert_array_equal(found, data)
    left = ["cortex left 0", "cortex left 2", "cortex left 5"]
    assert names == [*left, "thalamus left 0", "thalamus left 1"]
    assert sources.cifti_tr(path) == 2.0
    parcels = ParcelsAxis.from_brain_models([("all", axes), ("left", axes[:3])])
    path = save_cifti(tmp_path / "a.ptseries.nii", data[:, :2], parcels)
    found, names = sources.read_cifti(path)
    np.testing.assert_array_equal(found, data[:, :2])
    assert names == ["all", "left"]


def test_grayordinates_that_were_not_measured_are_constant(tmp_path, rng, axes):
    data = rng.normal(size=(12, 5)).astype(np.float32)
    data[:, 3], data[4, 1] = np.nan, np.nan
    found, _ = sources.read_cifti(save_cifti(tmp_path / "a.dtseries.nii", data, axes))
    assert not found[:, 3].any()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(data) * (np.arange(5) == 1))


def test_bad_cifti(tmp_path, rng, axes):
    path = save(tmp_path / "a.dtseries.nii", rng.normal(size=(2, 2, 2, 12)))
    with pytest.raises(BoldError, match="expected a CIFTI-2 time series"):
        sources.read_cifti(path)
    path = save_cifti(path, rng.normal(size=(12, 5)), axes)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BoldError, match=r"a\.dtseries\.nii cannot be read"):
        sources.read_cifti(path)


def test_kinds_are_not_mixed(tmp_path, rng):
    table = run(save_table(tmp_path / "a.tsv", rng.normal(size=(12, 2))))
    image = run(save(tmp_path / "a.nii", rng.normal(size=(2, 2, 2, 12))))
    with pytest.raises(BoldError, match=r"one kind, found .*tables.*NIfTI"):
        sources.reader([table, image], **OPTIONS)
    for name, value in {"mask": "mni", "atlas": "x.nii", "smoothing": 6.0}.items():
        with pytest.raises(BoldError, match=f"{name} is for NIfTI.* these are tables"):
            sources.reader([table], **OPTIONS | {name: value})


@pytest.mark.parametrize(
    "header, sidecar, good",
    [
        (2.0, None, True),
        (2.0019, None, True),
        (2.003, None, False),
        (0.0, None, False),
        (1.0, None, False),
        (np.nan, None, False),
        (1.0, 2.0, True),
        (2.0, 1.5, False),
        (2000, None, False),
    ],
)
def test_tr_must_be_that_of_the_files(tmp_path, rng, header, sidecar, good):
    data = rng.normal(size=(2, 2, 2, 12))
    found = run(save(tmp_path / "a.nii", data, tr=header), sidecar)
    if good:
        sources.check_tr(found, 2.0)
    else:
        value = header if sidecar is None else sidecar
        where = "header" if sidecar is None else "JSON file"
        expected = rf"a\.nii: TR {value:g} s in its {where}, expected tr 2 s.*check_tr"
        with pytest.raises(BoldError, match=expected) as error:
            sources.check_tr(found, 2.0)
        assert ("in ms" in str(error.value)) == (header == 2000)


def test_tr_of_cifti_and_tables(tmp_path, rng, axes):
    path = save_cifti(tmp_path / "a.dtseries.nii", rng.normal(size=(12, 5)), axes)
    sources.check_tr(run(path), 2.0)
    with pytest.raises(BoldError, match="TR 2 s in its header"):
        sources.check_tr(run(path), 1.5)
    save_cifti(path, rng.normal(size=(12, 5)), axes, unit="HERTZ")
    with pytest.raises(BoldError, match="TR nan s"):
        sources.check_tr(run(path), 2.0)
    table = save_table(tmp_path / "a.tsv", rng.normal(size=(12, 2)))
    sources.check_tr(run(table), 1.0)
    with pytest.raises(BoldError, match="TR 2 s in its JSON file"):
        sources.check_tr(run(table, 2.0), 1.0)


def test_some_subjects_are_drawn_whole(rng):
    runs = [Run(f"sub-{i // 2}", str(i), None, None, None) for i in range(12)]
    drawn = sources.draw_subjects(runs, 3, rng=rng)
    people = {r.subject for r in drawn}
    assert len(people) == 3
    assert drawn == [r for r in runs if r.subject in people]
    assert sources.draw_subjects(runs, 0, rng=rng) == runs
    named = sources.draw_subjects({"a": 1, "b": 2}, 1, rng=rng)
    assert len(named) == 1 and named.items() <= {"a": 1, "b": 2}.items()
    with pytest.raises(BoldError, match="max_subjects: asked for 7, there are 6"):
        sources.draw_subjects(runs, 7, rng=rng)


def test_subjects_by_folder(tmp_path, rng, capsys):
    files = []
    for who in ("sub-01", "sub-02"):
        for k in "ab":
            folder = tmp_path / who / "func"
            folder.mkdir(parents=True, exist_ok=True)
            path = save_table(folder / f"run_{k}.csv", rng.normal(size=(12, 2)))
            files.append(str(path))
    found = sources.runs_of_files(files)
    assert [r.subject for r in found] == ["sub-01", "sub-01", "sub-02", "sub-02"]
    names = ["sub-01_run_a", "sub-01_run_b", "sub-02_run_a", "sub-02_run_b"]
    assert [r.name for r in found] == names
    assert capsys.readouterr().out == ""


def test_files_that_look_like_runs_of_one_subject_are_said(tmp_path, rng, capsys):
    files = [
        str(save_table(tmp_path / f"{name}.csv", rng.normal(size=(12, 2))))
        for name in ("S01_run1", "S01_run2", "S02", "story3_a", "story3_b")
    ]
    assert [r.subject for r in sources.runs_of_files(files)] == files
    said = capsys.readouterr().out
    assert said.startswith("S01_run1, S01_run2: each taken as a subject")


@pytest.mark.parametrize("kind", ["link", "pointer"])
def test_content_that_was_not_fetched(tmp_path, kind):
    path = tmp_path / "sub-01_bold.nii.gz"
    if kind == "link":
        path.symlink_to("../.git/annex/objects/x")
    else:
        path.write_text("/annex/objects/MD5E-s1--x.nii.gz\n")
    with pytest.raises(BoldError, match=r"sub-01_bold.*not here.*datalad get"):
        sources.reader([run(path)], **OPTIONS)
