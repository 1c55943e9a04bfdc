import gzip

import nibabel
import numpy as np
import pandas as pd
import pytest

from anbn import bold, hemodynamics, intersubject
from anbn.paths import fetch_alice, resolve

README_ISC = {  # data README: leave-one-out, 6 mm; raw ones without a linear trend
    "raw": dict(LPTL=0.40, LATL=0.32, LIPL=0.28, LPreM=0.25, RATL=0.21, LIFG=0.17),
    "high-passed": dict(
        LPTL=0.41, LATL=0.29, LIPL=0.27, LPreM=0.26, RATL=0.23, LIFG=0.21
    ),
}


def volumes(tmp_path, data, name="sub-01.nii.gz"):
    path = tmp_path / name
    nibabel.save(
        nibabel.Nifti1Image(data.astype(np.float32), np.diag([8, 8, 8, 1])), path
    )
    return str(path)


@pytest.fixture
def mask():
    inside = np.zeros((4, 5, 6), np.uint8)
    inside[1:3, 1:4, 2:5] = 1
    return nibabel.Nifti1Image(inside, np.diag([8, 8, 8, 1]))


def test_check_bold_accepts_and_cuts(rng):
    data = bold.check_bold(rng.normal(size=(12, 3)), "s", n_times=10)
    assert data.shape == (10, 3)
    assert data.dtype == np.float32


@pytest.mark.parametrize(
    "change, expected",
    [
        (
            lambda d: d.__setitem__((4, 1), np.nan),
            "1 values are NaN.*volume 4, column 1",
        ),
        (lambda d: d.__setitem__((4, 1), np.inf), "NaN or infinite"),
        (lambda d: d.__setitem__((slice(None), 2), 7.0), "1 of 3 columns are constant"),
    ],
)
def test_bad_values_are_named(rng, change, expected):
    data = rng.normal(size=(12, 3))
    change(data)
    with pytest.raises(bold.BoldError, match=expected) as error:
        bold.check_bold(data, "sub-07")
    assert "sub-07" in str(error.value)


def test_fewer_volumes_than_the_story(rng):
    with pytest.raises(bold.BoldError, match="has 12 volumes, the story needs 13"):
        bold.check_bold(rng.normal(size=(12, 3)), "s", n_times=13)


def test_volumes_equal_plain_indexing(tmp_path, mask, rng):
    data = rng.normal(size=(4, 5, 6, 9))
    subjects, names, found = bold.load_subjects(
        [volumes(tmp_path, data)], volumes(tmp_path, np.asarray(mask.dataobj), "m.nii")
    )
    expected = data[np.asarray(mask.dataobj) > 0].T
    np.testing.assert_allclose(next(iter(subjects.values())), expected, rtol=1e-5)
    assert names is None
    assert found.shape == mask.shape


def test_same_file_names_in_different_folders_are_different_subjects(tmp_path, rng):
    files = []
    for subject in ("sub-01", "sub-02"):
        (tmp_path / subject).mkdir()
        files.append(
            volumes(tmp_path / subject, rng.normal(size=(4, 5, 6, 9)), "b.nii")
        )
    mask = volumes(tmp_path, np.ones((4, 5, 6)), "m.nii")
    assert len(bold.load_subjects(files, mask)[0]) == 2


def test_constant_voxels_leave_the_mask(tmp_path, rng, capsys):
    data = rng.normal(size=(4, 5, 6, 9))
    data[0, 0, :3] = 7.0
    mask = volumes(tmp_path, np.ones((4, 5, 6)), "m.nii")
    subjects, _, found = bold.load_subjects([volumes(tmp_path, data)], mask)
    assert next(iter(subjects.values())).shape == (9, 117)
    assert found.get_fdata().sum() == 117
    assert "3 voxels are constant" in capsys.readouterr().out
    data[:2] = 0
    with pytest.raises(bold.BoldError, match="only 50% of the mask's 120 voxels"):
        bold.load_subjects([volumes(tmp_path, data)], mask)


def test_bad_volumes(tmp_path, mask, rng):
    data = rng.normal(size=(4, 5, 6, 9))
    with pytest.raises(bold.BoldError, match="expected a 4D image"):
        bold.load_volumes(volumes(tmp_path, data[..., 0]), mask)
    data[2, 2, 2, 3] = np.nan
    with pytest.raises(bold.BoldError, match="holds NaN"):
        bold.load_volumes(volumes(tmp_path, data), mask)
    path = tmp_path / "cut.nii.gz"
    path.write_bytes(gzip.compress(b"no header"))
    with pytest.raises(bold.BoldError, match="cannot be read as NIfTI"):
        bold.load_volumes(str(path), mask)
    whole = volumes(tmp_path, rng.normal(size=(4, 5, 6, 9)), "whole.nii.gz")
    with open(whole, "rb") as file:
        path.write_bytes(file.read()[:-400])
    with pytest.raises(bold.BoldError, match="cannot be read as NIfTI"):
        bold.load_volumes(str(path), mask)


def test_tables(tmp_path, rng):
    files = []
    for name in ("a.tsv", "b.tsv"):
        frame = pd.DataFrame(rng.normal(size=(9, 2)), columns=["V1", "STG"])
        frame.to_csv(tmp_path / name, sep="\t", index=False)
        files.append(str(tmp_path / name))
    subjects, names, mask = bold.load_subjects(files)
    assert names == ["V1", "STG"]
    assert mask is None
    assert subjects[files[1]].shape == (9, 2)
    frame.rename(columns={"V1": "x"}).to_csv(files[1], sep="\t", index=False)
    with pytest.raises(bold.BoldError, match="differ from"):
        bold.load_subjects(files)
    frame.assign(V1="high").to_csv(files[1], sep="\t", index=False)
    with pytest.raises(bold.BoldError, match="found text in column 'V1'"):
        bold.load_subjects(files)
    with pytest.raises(FileNotFoundError, match="nothing found at"):
        bold.load_subjects(["nowhere/sub.nii.gz"])
    with pytest.raises(bold.BoldError, match="one file a subject"):
        bold.load_subjects([])


def test_alice_reproduces_the_published_data(alice_data):
    subjects, names = bold.load_alice()
    assert len(subjects) == 27
    assert "s33" not in subjects
    line = np.column_stack([np.ones(362), np.arange(362)])
    for kind, trend in [("raw", line), ("high-passed", hemodynamics.drift(362, 2.0))]:
        cleaned = bold.clean(subjects.values(), hemodynamics.orthonormal(trend))
        isc = intersubject.correlation(cleaned).mean(0)
        for name, value in zip(names, isc, strict=True):
            assert value == pytest.approx(README_ISC[kind][name], abs=0.03)


def test_alice_word_rate(alice_data):
    from anbn import stimuli

    folder = resolve("alice:alice_stim_shared")
    words = stimuli.read_words(next(folder.glob("*.TextGrid")))
    assert len(words) == 2127
    clock = {"n_times": 362, "tr": 2.0, "start": 20.0}
    rate = hemodynamics.word_rate(words["onset"], **clock)
    shipped = np.loadtxt(alice_data / "alice/alice_data_shared/s18-rate.txt")[:362]
    assert np.corrcoef(rate, shipped)[0, 1] > 0.985
    basis = hemodynamics.orthonormal(hemodynamics.drift(362, 2.0))
    mean = bold.clean(bold.load_alice()[0].values(), basis).mean(0)
    steps = np.arange(-10, 11)
    r = intersubject.lagged_correlation(mean, hemodynamics.remove(rate, basis), steps)
    assert (steps[np.abs(r).argmax(0)] == 0).all()
    assert ((r[10] > 0.40) & (r[10] < 0.62)).all()


def test_alice_files_are_checked(tmp_path, monkeypatch, alice_data):
    name = "alice_data_shared/6mm/s18-timecourses.txt"
    path = tmp_path / "alice" / name
    path.parent.mkdir(parents=True)
    original = (alice_data / "alice" / name).read_bytes()
    monkeypatch.setenv("ANBN_DATA", str(tmp_path))
    path.write_bytes(original)
    assert fetch_alice(name) == path
    path.write_bytes(original[:-1])
    with pytest.raises(FileNotFoundError, match=r"s18-timecourses\.txt: its SHA-256"):
        fetch_alice(name)
    path.write_bytes(original)
    with pytest.raises(FileNotFoundError, match=r"s22-timecourses\.txt"):
        fetch_alice("alice_data_shared/6mm")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        fetch_alice("other")
