import os
import time
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from nifti import save

from anbn.brain import alice, bold, cleaning, images, intersubject, sources
from anbn.brain import clock as brain_clock
from anbn.core import artifacts
from anbn.core.paths import fetch_alice, resolve
from anbn.stats import timeseries

README_ISC = {  # data README: leave-one-out, 6 mm; raw ones without a linear trend
    "raw": dict(LPTL=0.40, LATL=0.32, LIPL=0.28, LPreM=0.25, RATL=0.21, LIFG=0.17),
    "high-passed": dict(
        LPTL=0.41, LATL=0.29, LIPL=0.27, LPreM=0.26, RATL=0.23, LIFG=0.21
    ),
}


CLOCK = {"tr": 2.0, "high_pass": 20.0}


@pytest.fixture
def arrays(rng):
    return {name: 500 + rng.normal(size=(60, 3)) for name in ("s1", "s2", "s3")}


@pytest.fixture
def files(tmp_path, rng):
    """Two runs of one subject and one of another, of 120 voxels, and their mask."""
    paths = []
    for name in ("sub-01_run-1", "sub-01_run-2", "sub-02_run-1"):
        data = 100 + rng.normal(size=(4, 5, 6, 60))
        paths.append(str(save(tmp_path / f"{name}.nii.gz", data)))
    return paths, str(save(tmp_path / "mask.nii", np.ones((4, 5, 6))))


def naive(data, *confounds, standardise="zscore"):
    """Least squares of one voxel at a time, in float64."""
    n_times = len(data)
    design = [np.ones(n_times), *timeseries.drift(n_times, 2.0, 20.0).T, *confounds]
    design, cleaned = np.column_stack(design), []
    for voxel in np.asarray(data, float).T:
        if standardise == "psc":
            voxel = 100 * voxel / voxel.mean()
        beta = np.linalg.lstsq(design, voxel, rcond=None)[0]
        residual = voxel - design @ beta
        scale = residual.std() if standardise == "zscore" else 1.0
        cleaned.append(residual / scale)
    return np.column_stack(cleaned)


def clean(subjects, basis):
    """Arrays as ``prepare`` would clean them."""
    copies = [np.array(data, np.float32) for data in subjects]
    return np.stack([cleaning.clean_run(c, basis, "zscore", "s") for c in copies])


def test_kept_runs_are_opened_again(rng, tmp_path):
    arrays = {name: rng.normal(size=(40, 3)) for name in ("a_1", "a_2", "b")}
    brain = bold.prepare(arrays, tmp_path, names=list("xyz"), **CLOCK)
    again = bold.reopen(tmp_path)
    assert (again.subjects, again.names) == (brain.subjects, list("xyz"))
    assert again.standardise == "zscore" and again.mask is None
    for one, other in zip(again.runs, brain.runs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("standardise", ["zscore", "psc", "none"])
def test_prepare_equals_one_voxel_at_a_time(tmp_path, arrays, standardise, monkeypatch):
    monkeypatch.setattr(cleaning, "COLUMNS", 2)
    before = {name: data.copy() for name, data in arrays.items()}
    brain = bold.prepare(arrays, tmp_path / "out", standardise=standardise, **CLOCK)
    assert brain.subjects == list(arrays)
    assert brain.names == ["region 1", "region 2", "region 3"]
    assert brain.mask is None
    for run, (name, data) in zip(brain.runs, arrays.items(), strict=True):
        expected = naive(data, standardise=standardise)
        np.testing.assert_allclose(run, expected, atol=1e-4)
        assert isinstance(run, np.memmap)
        assert run.dtype == np.float32
        np.testing.assert_array_equal(data, before[name])  # callers keep their own
    written = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert written == ["runs.json", "s1.npy", "s2.npy", "s3.npy"]


def test_volumes_are_cut_with_their_confounds(tmp_path, files, rng):
    paths, mask = files
    motion = rng.normal(size=(60, 2))
    table = tmp_path / "confounds.tsv"
    pd.DataFrame(motion, columns=["x", "y"]).to_csv(table, sep="\t", index=False)
    runs = sources.runs_of_files(paths, [str(table)] * 3)
    options = {"mask": mask, "cut": (4, 6), "n_times": 45, "confounds": ["x", "y"]}
    brain = bold.prepare(runs, tmp_path / "out", **options, **CLOCK)
    rows = slice(4, 49)
    for run, path in zip(brain.runs, paths, strict=True):
        data = nibabel.load(path).get_fdata().reshape(120, 60).T
        np.testing.assert_allclose(run, naive(data[rows], *motion[rows].T), atol=1e-3)
    assert brain.subjects == ["sub-01", "sub-01", "sub-02"]
    assert brain.names is None
    assert brain.mask.get_fdata().all()
    with pytest.raises(bold.BoldError, match="has 50 volumes, the story needs 51"):
        bold.prepare(runs, tmp_path / "out", **options | {"n_times": 51}, **CLOCK)


def test_arrays_with_confounds(tmp_path, arrays, rng):
    columns = ["trans_x", "trans_y", "rot_x"]
    motion = {n: rng.normal(size=(60, 3)).cumsum(0) for n in arrays}
    pairs = {
        n: (arrays[n], pd.DataFrame(motion[n], columns=columns, index=range(10, 70)))
        for n in arrays
    }
    options = {"cut": (4, 6), "n_times": 45, **CLOCK}
    out, rows = tmp_path / "out", slice(4, 49)
    for wanted, of in [([], []), (["rot_x"], [2]), (["trans_*", "rot_*"], [0, 1, 2])]:
        brain = bold.prepare(pairs, out, confounds=wanted, **options)
        for run, (name, data) in zip(brain.runs, arrays.items(), strict=True):
            expected = naive(data[rows], *motion[name][rows][:, of].T)
            np.testing.assert_allclose(run, expected, atol=1e-4)
    frame = pairs["s2"][1]
    gap = frame.copy()
    gap.iloc[5, 1] = np.nan
    for other, message in [
        (
            frame[5:],
            r"confounds of s2: found 55 rows, 0 values missing or.* expected 60",
        ),
        (gap, r"confounds of s2: found 60 rows, 1 values missing or.* expected 60"),
        (frame[["trans_x"]], r"confounds of s2: no column matches 'rot_x'"),
        (None, r"s2 has no table of confounds to take trans_\*, rot_x from"),
    ]:
        changed = pairs | {"s2": (arrays["s2"], other)}
        with pytest.raises(ValueError, match=message):
            bold.prepare(changed, out, confounds=["trans_*", "rot_x"], **options)
        bold.prepare(changed, out, **options)  # they are not looked at


def test_a_pattern_may_match_in_some_runs_only(tmp_path, arrays, rng, capsys):
    """As fMRIPrep's motion outliers: a column for each volume that is one."""
    motion = {n: pd.DataFrame({"x": rng.normal(size=60)}) for n in arrays}
    for volume in (7, 30):
        motion["s2"][f"motion_outlier{volume:02d}"] = np.eye(60)[volume]
    pairs = {n: (arrays[n], motion[n]) for n in arrays}
    options = {"confounds": ["x", "motion_outlier*"], **CLOCK}
    brain = bold.prepare(pairs, tmp_path / "kept", **options)
    for run, (name, data) in zip(brain.runs, arrays.items(), strict=True):
        expected = naive(data, *motion[name].to_numpy().T)
        np.testing.assert_allclose(run, expected, atol=1e-4)
    said = capsys.readouterr().out
    assert "motion_outlier* matches nothing in 2 of 3 runs: s1, s3" in said
    with pytest.raises(ValueError, match=r"s1: no column matches 'steady\*'"):
        bold.prepare(pairs, tmp_path, confounds=["x", "steady*"], **CLOCK)
    with pytest.raises(ValueError, match="s1: no column matches 'motion_outlier07'"):
        bold.prepare(pairs, tmp_path, confounds=["motion_outlier07"], **CLOCK)
    files = []
    for name, data in arrays.items():
        np.save(tmp_path / f"{name}.npy", data)
        motion[name].to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False)
        files.append(str(tmp_path / f"{name}.npy"))
    runs = sources.runs_of_files(files, [f.replace("npy", "tsv") for f in files])
    for one, other in zip(
        bold.prepare(runs, tmp_path / "f", **options).runs, brain.runs, strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda d, k: d, r"s2 holds the same values as s1"),
        (lambda d, k: d if k else d[:, ::-1], r"s3 holds the same values as s2"),
        (
            lambda d, k: np.column_stack([d[:, 0] * (k + 1) + k * d[::-1, 1], d[:, 2]]),
            r"column 'region 2' is the same in all 3 subjects, from s1 on",
        ),
    ],
)
def test_what_is_the_same_in_all_subjects_is_no_bold(
    tmp_path, arrays, change, expected
):
    data = {name: change(arrays["s1"], k) for k, name in enumerate(arrays)}
    with pytest.raises(bold.BoldError, match=expected):
        bold.prepare(data, tmp_path, **CLOCK)


@pytest.mark.parametrize("n_regions, n_times", [(6, 60), (80, 60), (6, None)])
def test_regions_by_volumes_are_to_be_turned(tmp_path, rng, n_regions, n_times):
    noise = rng.normal(size=(60 + 4, n_regions))
    data = 100 + sum(noise[k : k + 60] for k in range(5))
    np.save(tmp_path / "right.npy", data)
    np.save(tmp_path / "turned.npy", data.T)
    options = {"n_times": n_times, **CLOCK}
    right, turned = (
        sources.runs_of_files([str(tmp_path / name)])
        for name in ("right.npy", "turned.npy")
    )
    assert bold.prepare(right, tmp_path / "o", **options).runs[0].shape[0] == 60
    with pytest.raises(bold.BoldError) as error:
        bold.prepare(turned, tmp_path / "o", **options)
    assert f"turned.npy: found shape ({n_regions}, 60), expected" in str(error.value)
    assert "np.load(path).T" in str(error.value)


def test_a_subject_is_the_mean_of_its_runs(tmp_path, files):
    paths, mask = files
    runs = sources.runs_of_files(paths)
    brain = bold.prepare(runs, tmp_path / "z", mask=mask, **CLOCK)
    subjects, (one, two) = brain.by_subject()
    assert subjects == ["sub-01", "sub-02"]
    mean = (brain.runs[0] + brain.runs[1]) / 2
    np.testing.assert_allclose(one, mean / mean.std(0), atol=1e-4)
    assert two is brain.runs[2]
    options = {"mask": mask, "standardise": "psc"}
    brain = bold.prepare(runs, tmp_path / "psc", **options, **CLOCK)
    mean = (brain.runs[0] + brain.runs[1]) / 2
    np.testing.assert_allclose(brain.by_subject()[1][0], mean, atol=1e-5)


def test_runs_of_different_lengths_are_not_of_one_story(tmp_path, arrays):
    arrays["s2"] = arrays["s2"][:50]
    brain = bold.prepare(arrays, tmp_path, **CLOCK)
    assert [len(run) for run in brain.runs] == [60, 50, 60]
    with pytest.raises(bold.BoldError, match="runs of 50, 60 volumes cannot be"):
        brain.by_subject()
    brain = bold.prepare(arrays, tmp_path, n_times=50, **CLOCK)
    assert brain.by_subject()[1][0].shape == (50, 3)


def test_every_run_of_the_clock_is_cleaned_by_itself(tmp_path, arrays, rng):
    """Drift, confounds and scale are a run's own, in one file or in several."""
    lengths, files = [25, 35], {}
    for name, data in arrays.items():
        data[25:] = 3 * data[25:] + 200
        motion = pd.DataFrame({"x": rng.normal(size=60)})
        files[name] = data, motion
    options = {"n_times": 60, "run_lengths": lengths, "confounds": ["x"], **CLOCK}
    brain = bold.prepare(files, tmp_path / "whole", **options)
    assert brain.lengths_of(brain.runs[0]) == [25, 35]
    for run, (data, motion) in zip(brain.runs, files.values(), strict=True):
        for rows in (slice(0, 25), slice(25, 60)):
            expected = naive(data[rows], motion["x"].to_numpy()[rows])
            np.testing.assert_allclose(run[rows], expected, atol=1e-3)
    again = bold.reopen(tmp_path / "whole")
    assert (again.run_lengths, again.parts) == ([25, 35], False)


def save_parts(folder, arrays, lengths):
    """A table a part of every subject, the third in front of the first by its name."""
    files = []
    for name, data in arrays.items():
        for k, part in enumerate(np.split(data, np.cumsum(lengths)[:-1])):
            path = folder / f"sub-{name}_run-{k + 1}.npy"
            np.save(path, part)
            files.append(str(path))
    return sources.runs_of_files(files)


def test_parts_of_a_story_stand_one_after_another(tmp_path, arrays):
    lengths = [25, 35]
    runs = save_parts(tmp_path, arrays, lengths)
    options = {"n_times": 60, "run_lengths": lengths, **CLOCK}
    assert sources.are_parts(runs, "auto", lengths)
    brain = bold.prepare(runs, tmp_path / "parts", parts=True, **options)
    whole = bold.prepare(arrays, tmp_path / "whole", **options)
    subjects, series = brain.by_subject()
    assert subjects == [f"sub-{name}" for name in arrays]
    np.testing.assert_allclose(series, whole.by_subject()[1], atol=1e-6)
    assert brain.lengths_of(brain.runs[1]) == [35]
    kept = bold.reopen(tmp_path / "parts").by_subject()[1]
    np.testing.assert_array_equal(kept, series)
    assert bold.check_repeats(brain, tr=2.0, rng=np.random.default_rng(0)) == {}
    short = [*lengths[:1], 40]
    with pytest.raises(bold.BoldError, match=r"run-2\.npy has 35 .* needs 40"):
        options |= {"run_lengths": short, "n_times": 65}
        bold.prepare(runs, tmp_path / "short", parts=True, **options)


@pytest.mark.parametrize(
    "runs_are, lengths, expected",
    [
        ("auto", [], False),
        ("auto", [20, 20, 20], False),
        ("repeats", [25, 35], False),
        ("parts", [25, 35], True),
        ("parts", [], "clock of several runs: set run_lengths in stage 01, as .300, 3"),
        ("parts", [20, 20, 20], "sub-s1 has 2 files, the clock of stage 01 has 3 runs"),
    ],
)
def test_repeats_or_parts(tmp_path, arrays, runs_are, lengths, expected):
    runs = save_parts(tmp_path, arrays, [25, 35])
    if isinstance(expected, bool):
        assert sources.are_parts(runs, runs_are, lengths) is expected
    else:
        with pytest.raises(bold.BoldError, match=expected):
            sources.are_parts(runs, runs_are, lengths)


def stories(rng, n_stories, n_subjects=4, n_times=150, n_regions=6):
    """Runs of subjects who hear each story once: shared signal, noise of their own."""

    def smooth(*shape):
        noise = rng.normal(size=(n_times + 4, *shape))
        return sum(noise[k : k + n_times] for k in range(5))

    heard = [smooth(n_regions) for _ in range(n_stories)]
    return {
        f"sub-{i}_run-{k}": 100 + heard[k] + 2 * smooth(n_regions)
        for i in range(n_subjects)
        for k in range(n_stories)
    }


def test_repeats_are_told_from_parts_of_a_book(tmp_path, rng):
    parts = stories(rng, 3)
    repeats = stories(rng, 1, n_subjects=12)
    names = [f"sub-{i}_run-{k}" for i in range(4) for k in range(3)]
    repeats = dict(zip(names, repeats.values(), strict=True))
    checked = {}
    for what, runs in (("parts", parts), ("repeats", repeats)):
        folder = tmp_path / what
        folder.mkdir()
        for name, data in runs.items():
            np.save(folder / f"{name}.npy", data)
        files = sources.runs_of_files([str(folder / f"{name}.npy") for name in names])
        checked[what] = bold.prepare(files, folder / "out", **CLOCK)
    r = bold.check_repeats(checked["repeats"], tr=2.0, rng=rng)
    assert list(r) == ["sub-0", "sub-1", "sub-2", "sub-3"]
    assert all(0.05 < value < 0.4 for value in r.values())
    message = (
        r"correlate no more than by chance.*run_lengths \(of sub-0 as \[150, 150, 150\]"
        ".*runs_are: parts.*same_story: false.*runs_are: repeats"
    )
    with pytest.raises(bold.BoldError, match=message):
        bold.check_repeats(checked["parts"], tr=2.0, rng=rng)


def test_parts_are_taken_for_repeats_as_rarely_as_by_chance(tmp_path, rng):
    passed = 0
    for k in range(60):
        runs = list(stories(rng, 2, n_subjects=2, n_times=80).values())
        people = ["a", "a", "b", "b"]
        brain = bold.Brain([timeseries.zscore(r) for r in runs], people, None, None)
        try:
            bold.check_repeats(brain, tr=2.0, rng=np.random.default_rng(k))
            passed += 1
        except bold.BoldError:
            continue
    assert passed <= 8  # 5 % of 60 are 3


def test_constant_voxels_leave_the_mask(tmp_path, files, capsys):
    paths, mask = files
    for path, voxels in zip(paths[:2], [(0, 0), (3, 2)], strict=True):
        data = nibabel.load(path).get_fdata()
        data[voxels][:3] = 7.0
        save(path, data)
    runs, out = sources.runs_of_files(paths), tmp_path / "out"
    brain = bold.prepare(runs, out, mask=mask, **CLOCK)
    kept = np.asarray(brain.mask.dataobj) > 0
    assert not kept[0, 0, :3].any() and not kept[3, 2, :3].any()
    assert kept.sum() == 114
    assert "6 voxels are constant" in capsys.readouterr().out
    for run, path in zip(brain.runs, paths, strict=True):
        data = nibabel.load(path).get_fdata()[kept].T
        np.testing.assert_allclose(run, naive(data), atol=1e-3)
    data = nibabel.load(paths[2]).get_fdata()
    data[:2] = 0
    save(paths[2], data)
    with pytest.raises(bold.BoldError, match=r"only 4[78]% of the mask's 120 .*sub-02"):
        bold.prepare(runs, out, mask=mask, **CLOCK)
    save(paths[2], 0 * data)
    with pytest.raises(bold.BoldError, match=r"sub-02.*all 120 columns are constant"):
        bold.prepare(runs, out, mask=mask, **CLOCK)
    assert not list(out.glob(".tmp*"))


def test_regions_of_an_atlas(tmp_path, files, capsys):
    paths, _ = files
    labels = np.repeat([1, 2, 3, 4, 5, 6], 20).reshape(6, 4, 5).transpose(1, 2, 0)
    atlas = save(tmp_path / "atlas.nii", labels)
    (tmp_path / "atlas.txt").write_text("\n".join("abcdef"))
    runs = sources.runs_of_files(paths)
    brain = bold.prepare(runs, tmp_path / "out", atlas=str(atlas), **CLOCK)
    assert brain.names == list("abcdef")
    assert brain.mask is None
    data = nibabel.load(paths[0]).get_fdata()
    means = np.column_stack([data[labels == k].mean(0) for k in range(1, 7)])
    np.testing.assert_allclose(brain.runs[0], naive(means), atol=1e-2)
    data[..., 2, :] = 9.0
    save(paths[0], data)
    brain = bold.prepare(runs, tmp_path / "out", atlas=str(atlas), **CLOCK)
    assert brain.names == list("abdef")
    assert {run.shape for run in brain.runs} == {(60, 5)}
    assert "1 regions are constant" in capsys.readouterr().out


def test_resampled_runs_share_a_grid(tmp_path, rng):
    files = []
    for k, shape in enumerate([(13, 15, 13), (12, 15, 13)]):
        affine = np.diag([16.0, 16, 16, 1])
        affine[:3, 3] = -98 + k, -134, -72
        data = 100 + rng.normal(size=(*shape, 30))
        files.append(str(save(tmp_path / f"sub-0{k}.nii.gz", data, affine)))
    runs, options = sources.runs_of_files(files), {"mask": "mni", **CLOCK}
    with pytest.raises(bold.BoldError, match=r"different grids.*Set voxel_size"):
        bold.prepare(runs, tmp_path / "out", **options)
    options |= {"voxel_size": 16.0, "smoothing": 20.0}
    brain = bold.prepare(runs, tmp_path / "out", **options)
    assert brain.mask.shape == (14, 16, 13)
    assert brain.by_subject()[1][0].shape == (30, brain.mask.get_fdata().sum())


def test_next_run_is_read_when_the_last_one_is_written(tmp_path, files, monkeypatch):
    paths, mask = files
    events, extract, write = [], images.extract, artifacts.write_array

    def reading(path, *args, **options):
        events.append(("read", path.name[:12]))
        return extract(path, *args, **options)

    def writing(path, data):
        events.append(("write", path.name[:12]))
        write(path, data)

    monkeypatch.setattr(images, "extract", reading)
    monkeypatch.setattr(artifacts, "write_array", writing)
    bold.prepare(sources.runs_of_files(paths), tmp_path / "out", mask=mask, **CLOCK)
    names = ["sub-01_run-1", "sub-01_run-2", "sub-02_run-1"]
    assert events == [(what, name) for name in names for what in ("read", "write")]


def test_memory_is_that_of_one_run(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(cleaning, "COLUMNS", 200)
    files = []
    for k in range(4):
        path = tmp_path / f"sub-0{k}.npy"
        np.save(path, rng.normal(size=(400, 5000)).astype(np.float32))  # 8 MB
        files.append(str(path))
    peaks = []
    for some in (files[:1], files[:1], files):  # the first call imports and caches
        runs = sources.runs_of_files(some)
        tracemalloc.start()
        bold.prepare(runs, tmp_path / "out", tr=2.0, high_pass=2000.0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[1]
    assert peaks[1] < 4 * 8e6


def hashes(folder):
    return {path.name: artifacts.sha256(path) for path in folder.iterdir()}


def test_runs_on_workers_are_those_of_the_loop(
    tmp_path, arrays, files, rng, capsys, two_workers
):
    """Of volumes, of tables in parts, and of arrays with confounds of their own."""
    paths, mask = files
    several = save_parts(tmp_path, arrays, [25, 35])
    confounds = [pd.DataFrame({"x": rng.normal(size=60)}) for _ in arrays]
    given = dict(zip(arrays, zip(arrays.values(), confounds, strict=True), strict=True))
    arrays["s2"][:, 1] = np.arange(60)
    np.save(tmp_path / "s2.npy", arrays["s2"])  # a column to leave out is said
    for k, (runs, options) in enumerate(
        [
            (sources.runs_of_files(paths), {"mask": mask, "smoothing": 4.0}),
            (several, {"run_lengths": [25, 35], "n_times": 60, "parts": True}),
            (given, {"confounds": ["x"], "names": list("xyz")}),
            (sources.runs_of_files([str(tmp_path / "s2.npy")]), {}),
        ]
    ):
        found = []
        for client in (None, two_workers):
            out = tmp_path / f"{k} {client is None}"
            bold.prepare(runs, out, client=client, **options, **CLOCK)
            found.append((hashes(out), capsys.readouterr().out))
        assert found[0] == found[1]
        assert len(found[0][0]) == len(runs) + 1
    assert "left out column" in found[0][1]


@pytest.mark.parametrize("row", [0, 2])
def test_an_error_on_a_worker_is_that_of_the_loop(tmp_path, files, two_workers, row):
    paths, mask = files
    Path(paths[row]).write_bytes(Path(paths[row]).read_bytes()[:20_000])
    runs, said = sources.runs_of_files(paths), []
    for client in (None, two_workers):
        with pytest.raises(bold.BoldError) as error:
            bold.prepare(runs, tmp_path / "out", mask=mask, client=client, **CLOCK)
        said.append(str(error.value))
    assert said[0] == said[1] and paths[row] in said[0]


def test_a_worker_that_dies_over_a_run_changes_nothing(
    tmp_path, files, monkeypatch, two_workers
):
    paths, mask = files
    runs, make = sources.runs_of_files(paths), sources.reader
    bold.prepare(runs, tmp_path / "loop", mask=mask, **CLOCK)

    def reader(*args, **options):
        read, *rest = make(*args, **options)

        def dying(run):
            died = tmp_path / "died"
            if run.name.endswith("run-2") and not died.exists():
                died.touch()
                os.kill(os.getpid(), 9)
            return read(run)

        return dying, *rest

    monkeypatch.setattr(sources, "reader", reader)
    bold.prepare(runs, tmp_path / "out", mask=mask, client=two_workers, **CLOCK)
    assert (tmp_path / "died").exists()
    assert hashes(tmp_path / "out") == hashes(tmp_path / "loop")


def test_a_run_that_is_no_longer_wanted_is_not_written(
    tmp_path, arrays, monkeypatch, two_workers
):
    """Else a task that was left behind would write over what is made after it."""

    def wait_for(path):
        for _ in range(3000):
            time.sleep(0.01 * (not path.exists()))

    def read(run, names):
        (tmp_path / f"{run.name} begun").touch()
        # s1 fails when s2 has begun, and s2 goes on when that was told
        wait_for(tmp_path / ("s2 begun" if run.name == "s1" else "told"))
        (tmp_path / f"{run.name} read").touch()
        return run.data, list("abc")

    monkeypatch.setattr(bold, "_read_given", read)
    arrays["s1"] = arrays["s1"][:5]
    with pytest.raises(bold.BoldError, match="s1: 5 volumes"):
        bold.prepare(arrays, tmp_path / "out", client=two_workers, **CLOCK)
    (tmp_path / "told").touch()
    wait_for(tmp_path / "s2 read")
    time.sleep(1.0)
    assert list((tmp_path / "out").iterdir()) == []


def test_failed_write_leaves_nothing_half_written(tmp_path, arrays, monkeypatch):
    def full(file, *args, **options):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left"):
        bold.prepare(arrays, tmp_path / "out", **CLOCK)
    assert list((tmp_path / "out").iterdir()) == []


def test_bad_runs(tmp_path, arrays):
    for change, options, expected in [
        (lambda d: d[:1], {}, r"s2: 1 volumes, 1 after the cut of 0 .* at least 10"),
        (lambda d: d, {"cut": (30, 25)}, r"s1: 60 volumes, 5 after the cut"),
        (lambda d: d, {"cut": (-1, 0)}, r"cut: expected numbers of volumes"),
        (lambda d: d, {"high_pass": 4.0}, "60 volumes are too few to remove 60 regr"),
        (lambda d: d * 0, {}, "s2: all 3 columns are constant"),
        (
            lambda d: d * [1, 0, 1],
            {},
            r"s2: 1 of 3 .* constant.* column 1 \(region 2\)",
        ),
        (
            lambda d: np.where(d == d[4, 1], np.nan, d),
            {},
            "s2: 1 values are NaN or infinite.*volume 4, column 1",
        ),
        (lambda d: np.where(d == d[4, 1], np.inf, d), {}, "s2: .* NaN or infinite"),
        (lambda d: d[:, :2], {}, "s2 and the runs before it.*: 2 and 3"),
        (lambda d: d[:, 0], {}, r"s2: expected \(volumes x regions\)"),
        (lambda d: d, {"standardise": "unit"}, "standardise: found 'unit'"),
        (lambda d: d - d.mean(0), {"standardise": "psc"}, "s2: the mean of column 0"),
        (lambda d: d, {"confounds": ["x"]}, "s1 has no table of confounds to take x"),
        (lambda d: d, {"tr": 0.0}, "tr: found 0.0 s"),
        (lambda d: d, {"tr": np.nan}, "tr: found nan s"),
    ]:
        changed = arrays | {"s2": change(arrays["s2"])}
        with pytest.raises(bold.BoldError, match=expected):
            bold.prepare(changed, tmp_path, **CLOCK | options)
    with pytest.raises(bold.BoldError, match="no runs"):
        bold.prepare([], tmp_path, **CLOCK)
    with pytest.raises(bold.BoldError, match="another run is called a/b"):
        bold.prepare({"a b": arrays["s1"], "a/b": arrays["s1"]}, tmp_path, **CLOCK)


def test_bad_files(tmp_path, files, rng):
    paths, mask = files
    runs, out = sources.runs_of_files(paths), tmp_path / "out"
    with pytest.raises(bold.BoldError, match=r"TR 2 s in its header.*expected tr 1\.5"):
        bold.prepare(runs, out, mask=mask, tr=1.5)
    bold.prepare(runs, out, mask=mask, tr=1.5, check_tr=False)
    save(paths[1], rng.normal(size=(4, 5, 6, 1)))
    with pytest.raises(bold.BoldError, match=r"run-2\.nii\.gz: 1 volumes, 1 after"):
        bold.prepare(runs, out, mask=mask, **CLOCK)
    table = tmp_path / "confounds.tsv"
    table.write_text("x\n" + "1.5\n" * 59)
    runs = sources.runs_of_files(paths[:1], [str(table)])
    with pytest.raises(ValueError, match=r"confounds\.tsv.* 59 .* 60 "):
        bold.prepare(runs, out, mask=mask, confounds=["x"], **CLOCK)


def test_tables_of_different_regions(tmp_path, rng):
    files = [str(tmp_path / name) for name in ("a.tsv", "b.tsv")]
    for file, columns in zip(files, (["V1", "STG"], ["V1", "IFG"]), strict=True):
        frame = pd.DataFrame(rng.normal(size=(60, 2)), columns=columns)
        frame.to_csv(file, sep="\t", index=False)
    with pytest.raises(bold.BoldError, match=r"b\.tsv and .*'IFG' where.*'STG'"):
        bold.prepare(sources.runs_of_files(files), tmp_path / "out", **CLOCK)
    brain = bold.prepare(sources.runs_of_files(files[:1]), tmp_path / "out", **CLOCK)
    assert brain.names == ["V1", "STG"]


def test_real_volumes(tmp_path, alice_data):
    folder = alice_data / "gift_lowres_bold"
    if not folder.is_dir():
        pytest.skip("ANBN_DATA holds no gift_lowres_bold/")
    files = [str(p) for p in sorted(folder.glob("*.nii.gz"))[:3]]
    runs, options = sources.runs_of_files(files), {"tr": 2.0, "check_tr": False}
    brain = bold.prepare(runs, tmp_path / "own", **options)
    n_voxels = int(brain.mask.get_fdata().sum())
    assert 2000 < n_voxels < 4500
    assert np.stack(brain.by_subject()[1]).shape == (3, 50, n_voxels)
    folder = alice_data / "templates/schaefer2018_mni2009c_4mm"
    atlas = next(folder.glob("*-100Parcels7Networks_dseg.nii.gz"))
    brain = bold.prepare(runs, tmp_path / "atlas", atlas=str(atlas), **options)
    assert len(brain.names) == 100
    r = np.mean([np.corrcoef(run[:, 0], run[:, 50])[0, 1] for run in brain.runs])
    assert r > 0.3  # the same visual region of the left and right hemisphere
    with pytest.raises(bold.BoldError, match="TR 1 s in its header, expected tr 2 s"):
        bold.prepare(runs, tmp_path / "own", tr=2.0)


def test_alice_reproduces_the_published_data(tmp_path, alice_data):
    found, names = alice.load_timecourses()
    assert len(found) == 27
    assert "s33" not in found
    subjects = [data for data, _ in found.values()]
    line = np.column_stack([np.ones(362), np.arange(362)])
    for kind, trend in [("raw", line), ("high-passed", timeseries.drift(362, 2.0))]:
        cleaned = clean(subjects, timeseries.orthonormal(trend))
        isc = intersubject.correlation(cleaned).mean(0)
        for name, value in zip(names, isc, strict=True):
            assert value == pytest.approx(README_ISC[kind][name], abs=0.03)
    brain = bold.prepare(found, tmp_path, names=names, tr=2.0, n_times=362)
    np.testing.assert_allclose(np.stack(brain.by_subject()[1]), cleaned, atol=1e-5)
    assert brain.names == names


def test_alice_word_rate(alice_data):
    from anbn.text import transcripts

    folder = resolve("alice:alice_stim_shared")
    words = transcripts.read_words(next(folder.glob("*.TextGrid")))
    assert len(words) == 2127
    clock = {"n_times": 362, "tr": 2.0, "start": 20.0}
    rate = brain_clock.word_rate(words["onset"], **clock)
    shipped = np.loadtxt(alice_data / "alice/alice_data_shared/s18-rate.txt")[:362]
    assert np.corrcoef(rate, shipped)[0, 1] > 0.985
    basis = timeseries.orthonormal(timeseries.drift(362, 2.0))
    mean = clean(
        [data for data, _ in alice.load_timecourses()[0].values()], basis
    ).mean(0)
    steps = np.arange(-10, 11)
    r = intersubject.lagged_correlation(mean, timeseries.residuals(rate, basis), steps)
    assert (steps[np.abs(r).argmax(0)] == 0).all()
    assert ((r[10] > 0.40) & (r[10] < 0.62)).all()


@pytest.mark.parametrize("start", [20.0, 0.0])
def test_alice_clock_is_found(alice_data, start):
    """Ten volumes were discarded: without them the word rate is 20 s off."""
    from anbn.text import transcripts

    folder = resolve("alice:alice_stim_shared")
    words = transcripts.read_words(next(folder.glob("*.TextGrid")))
    basis = timeseries.orthonormal(timeseries.drift(362, 2.0))
    mean = clean(
        [data for data, _ in alice.load_timecourses()[0].values()], basis
    ).mean(0)
    options = {"n_times": 362, "tr": 2.0, "hrf": "spm", "basis": basis}
    fits = brain_clock.best_offset(mean, words["onset"], start=start, **options)
    line = brain_clock.offset_line(start, *fits, 362, 2.0)
    if start == 20:
        assert "fits the clock" in line
    else:
        assert line.startswith("word rate fits best") and "later" in line
        assert abs(fits[0] - 20) <= 1


def test_alice_motion_is_that_of_the_story(alice_data):
    """The head moves when BOLD jumps: only with the first ten rows taken away."""
    basis = timeseries.orthonormal(timeseries.drift(362, 2.0))
    folder = alice_data / "alice/alice_data_shared"
    found, explained, jumps = alice.load_timecourses()[0], [], []
    for name, (data, motion) in found.items():
        table = np.loadtxt(next(folder.glob(f"{name}-rp_*.txt")))
        assert table.shape == (372, 6)
        assert np.abs(table[0]).max() < 1e-6  # all volumes are aligned with the first
        np.testing.assert_array_equal(motion, table[10:])
        assert list(motion) == alice.MOTION
        y = clean([data], basis)[0]
        parts = [table[k : k + 362] for k in range(11)]
        bases = [timeseries.orthonormal(timeseries.residuals(p, basis)) for p in parts]
        explained.append([np.var(y - timeseries.residuals(y, b)) for b in bases])
        # rotations as millimetres on a sphere of 50 mm (Power et al. 2012)
        step = np.abs(np.diff(table * [1, 1, 1, 50, 50, 50], axis=0)).sum(1)
        change = np.sqrt(np.square(np.diff(y, axis=0)).mean(1))
        r = [np.corrcoef(step[k : k + 361], change)[0, 1] for k in range(11)]
        jumps.append(r)
    for fit in (np.mean(explained, 0), np.mean(jumps, 0)):
        assert fit.argmax() == 10
        assert fit[10] > 1.2 * fit[9]


def test_alice_without_motion(tmp_path, alice_data):
    """Six regressors take some of what is shared away, most of it stays."""
    found, names = alice.load_timecourses()
    options = {"names": names, "tr": 2.0, "n_times": 362}
    options["confounds"] = ["trans_*", "rot_*"]
    brain = bold.prepare(found, tmp_path, **options)
    cleaned = np.stack(brain.by_subject()[1])
    drift = timeseries.drift(362, 2.0)
    for (data, motion), run in zip(found.values(), brain.runs, strict=True):
        basis = timeseries.orthonormal(np.column_stack([drift, motion]))
        np.testing.assert_allclose(run, clean([data], basis)[0], atol=1e-4)
    isc = intersubject.correlation(cleaned).mean(0)
    for name, value in zip(names, isc, strict=True):
        before = README_ISC["high-passed"][name]
        assert before - 0.06 < value < before


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
    with pytest.raises(FileNotFoundError, match=r"s18-rp_epi.*txt: .*No such file"):
        alice._motion("s18")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        fetch_alice("other")


def test_maps_and_mask_are_there_or_none(tmp_path, rng):
    assert bold.maps_of(tmp_path) == (None, None)
    maps = rng.normal(size=(5, 30)).astype(np.float32)
    np.save(tmp_path / "maps.npy", maps)
    found, mask = bold.maps_of(tmp_path)  # as of an atlas: networks of regions
    assert np.array_equal(found, maps) and mask is None
    image = nibabel.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4))
    nibabel.save(image, tmp_path / "mask.nii.gz")
    assert bold.maps_of(tmp_path)[1].shape == (3, 3, 3)


@pytest.mark.parametrize(
    "lengths, cut, expected",
    [
        ((20, 35), (0, 0), True),
        ((20, 40), (0, 0), True),
        ((90, 90), (0, 0), False),
        ((100, 95), (5, 5), True),
        ((100, 100), (5, 5), False),
        ((100, 95), (0, 0), "npy has 100 volumes .* clock of stage 01 .90 volumes"),
        ((100, 100), (0, 5), "Set runs_are: repeats if each .* or parts if each"),
    ],
)
@pytest.mark.parametrize("kind", ["npy", "csv", "nii"])
def test_files_that_hold_the_whole_clock_are_no_parts(
    tmp_path, rng, kind, lengths, cut, expected
):
    runs = []
    for k, n in enumerate(lengths):
        path, data = tmp_path / f"sub-1_run-{k}.{kind}", rng.normal(size=(n, 3))
        if kind == "npy":
            np.save(path, data)
        elif kind == "csv":
            pd.DataFrame(data, columns=list("abc")).to_csv(path, index=False)
        elif kind == "nii":
            save(path, np.broadcast_to(data[:, 0], (2, 2, 2, n)))
        runs.append(str(path))
    found = sources.runs_of_files(runs)
    if isinstance(expected, bool):
        assert sources.are_parts(found, "auto", (45, 45), cut) is expected
        return
    with pytest.raises(bold.BoldError, match=expected.replace("npy", kind)):
        sources.are_parts(found, "auto", (45, 45), cut)


@pytest.mark.parametrize(
    "n_volumes, n_regions, n_times",
    [(300, 400, 280), (300, 60, None), (60, 60, 60), (60, 90, 40)],
)
def test_time_runs_along_the_smoother_axis(
    tmp_path, rng, capsys, n_volumes, n_regions, n_times
):
    walk = 100 * rng.normal(size=n_regions) + rng.normal(
        size=(n_volumes, n_regions)
    ).cumsum(0)
    cleaning.check_orientation(walk, "right.npy", n_times, (0, 0))
    assert capsys.readouterr().out == ""
    with pytest.raises(bold.BoldError, match=r"turned\.npy: found shape .* Turn it"):
        cleaning.check_orientation(walk.T, "turned.npy", n_times, (0, 0))
    noise = rng.normal(size=(60, 60))
    cleaning.check_orientation(noise, "noise.npy", 60, (0, 0))


def test_volumes_that_hold_nothing_are_refused(tmp_path, arrays):
    for rows in ([11, 12], list(range(50, 60))):
        empty = {name: data.copy() for name, data in arrays.items()}
        empty["s2"][rows] = 0
        listed = ", ".join(map(str, rows))
        message = f"s2: {len(rows)} of 60 volumes are 0 .*{listed}.*cut_start or cut_e"
        with pytest.raises(bold.BoldError, match=message):
            bold.prepare(empty, tmp_path, **CLOCK)
    brain = bold.prepare(empty, tmp_path, cut=(0, 10), **CLOCK)
    assert len(brain.runs[1]) == 50


def test_volumes_that_stand_still_are_said(tmp_path, arrays, capsys):
    arrays["s2"][52:] = arrays["s2"][51]
    bold.prepare(arrays, tmp_path, cut=(3, 0), **CLOCK)
    said = capsys.readouterr().out
    assert "s2: 8 volumes are a copy of the one before (number 52, 53" in said
    assert "s1" not in said


def test_outliers_that_no_run_has(tmp_path, arrays, rng, capsys):
    pairs = {
        n: (a, pd.DataFrame({"x": rng.normal(size=60)})) for n, a in arrays.items()
    }
    for confounds in (["x", "motion_outlier*"], ["motion_outlier*"]):
        bold.prepare(pairs, tmp_path, confounds=confounds, **CLOCK)
        assert "motion_outlier* matches nothing in 3 of 3" in capsys.readouterr().out


@pytest.mark.parametrize("lag", [0, 10, -10])
def test_repeats_that_begin_at_different_times_are_named(rng, capsys, lag):
    noise = rng.normal(size=(224, 6))
    story = sum(noise[k : k + 220] for k in range(5))
    one, other = (
        story[first : first + 180] + rng.normal(size=(180, 6))
        for first in (20, 20 - lag)
    )
    runs = [timeseries.zscore(run) for run in (one, other)]
    brain = bold.Brain(runs, ["sub-1", "sub-1"], None, None)
    try:
        bold.check_repeats(brain, tr=2.0, rng=rng)
        said = capsys.readouterr().out
    except bold.BoldError as error:
        said = str(error)
    if lag == 0:
        assert said == ""
        return
    way = "later" if lag > 0 else "earlier"
    assert f"sub-1, pair 1 of its runs: the second begins about 20 s {way}" in said


def test_regions_that_do_not_vary_are_named(tmp_path, rng):
    labels = np.zeros((6, 6, 6))
    labels[0], labels[2], labels[4] = 1, 2, 7
    data = 100 + rng.normal(size=(6, 6, 6, 60))
    data[4] = 0
    path = save(tmp_path / "sub-01_bold.nii", data)
    atlas = save(tmp_path / "atlas.nii", labels, dtype="u1")
    runs = sources.runs_of_files([str(path)])
    message = (
        r"1 of 3 regions are constant in .*sub-01_bold\.nii .*: region 7; expected"
    )
    with pytest.raises(bold.BoldError, match=message):
        bold.prepare(runs, tmp_path / "o", atlas=str(atlas), **CLOCK)
