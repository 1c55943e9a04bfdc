"""What notebooks 03 and 03b begin with: the same rows and regressors everywhere."""

import nibabel
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from anbn.brain import regressors
from anbn.core import artifacts
from anbn.core.params import ParamError
from anbn.coupling import prepared
from anbn.stats import timeseries

N_TIMES, TR = 120, 2.0


def recording(**changes):
    """What stage 01 ran with."""
    return {"tr": TR, "first_volume": 4.0, "hrf": "spm", "run_lengths": []} | changes


def clock_of(run_lengths=(), leave_out_start=10.0, delays=(0,)):
    return prepared.clock(
        recording(run_lengths=list(run_lengths)),
        N_TIMES,
        run_lengths=[],
        leave_out_start=leave_out_start,
        delays=list(delays),
    )


def words_of(rng):
    onset = np.sort(rng.uniform(0, 240, 200))
    value = rng.normal(size=200)
    return pd.DataFrame({"onset": onset, "offset": onset + 0.3, "surprisal": value})


def removed_of(words, clock, **changes):
    given = {"names": ["word_rate", "speech"], "table": "", "columns": ["*"]}
    given |= {"sound_file": "", "sound_onset": 0.0, "high_pass": 128.0} | changes
    return prepared.confounds(words, clock, **given)


@pytest.mark.parametrize("run_lengths", [(), (50, 70)])
def test_the_first_seconds_of_every_run_are_not_used(rng, run_lengths):
    clock = clock_of(run_lengths, delays=(0, 2))
    first = np.cumsum([0, *run_lengths])[:-1] if run_lengths else [0]
    kept = np.ones(N_TIMES, bool)
    for start in first:
        kept[start : start + 5] = False
    np.testing.assert_array_equal(np.arange(N_TIMES)[clock.kept], np.flatnonzero(kept))
    assert clock.n_used == kept.sum() and clock.first == 14.0
    assert clock.runs == ([45, 65] if run_lengths else [])
    data = rng.normal(size=(N_TIMES, 3))
    # by a loop: the mean of now and two volumes ago, zeros before a run began
    before = np.zeros_like(data)
    for start, stop in zip(first, [*first[1:], N_TIMES], strict=True):
        before[start + 2 : stop] = data[start : stop - 2]
    np.testing.assert_allclose(clock.delayed(data), ((data + before) / 2)[kept])


def test_delays_that_a_run_has_no_volumes_for_are_refused():
    for delays in ([], [0, 45]):
        with pytest.raises(ParamError, match="from 0 to 44 volumes"):
            clock_of((50, 70), delays=delays)


def test_what_is_removed_are_drift_and_the_regressors_by_name(rng, tmp_path):
    words, clock = words_of(rng), clock_of()
    power = rng.normal(size=N_TIMES)
    table = tmp_path / "power.tsv"
    table.write_text("power\n" + "\n".join(map(str, power)) + "\n")
    found = removed_of(words, clock, table=str(table))
    assert found.names == ["word_rate", "speech", "power"]
    rate = clock.regressors(words, ["word_rate"])["word_rate"].to_numpy()
    assert len(rate) == N_TIMES
    np.testing.assert_allclose(found.of_story[:, 0], rate[clock.kept])
    np.testing.assert_allclose(found.of_story[:, 2], power[clock.kept])
    assert list(found.timing) == ["word_rate", "power"]
    np.testing.assert_allclose(found.timing["power"], power[clock.kept])
    drift = regressors.run_drift([clock.n_used], TR, 128.0)
    np.testing.assert_array_equal(found.drift, drift)
    data = np.column_stack([drift, found.of_story])
    left = timeseries.residuals(data, found.basis)
    np.testing.assert_allclose(left, 0, atol=1e-8 * np.abs(data).max())
    assert found.basis.shape[1] == drift.shape[1] + 3
    assert found.drift_basis.shape == drift.shape


def test_nothing_but_drift_is_removed_where_no_confound_is_named(rng):
    found = removed_of(words_of(rng), clock_of(), names=[])
    assert found.names == [] and found.of_story.shape == (115, 0)
    assert found.basis.shape == found.drift_basis.shape


def stage_02(folder, rng, *, regions):
    data = folder / "data"
    people = rng.normal(size=(3, N_TIMES, 2)).astype(np.float32)
    group = rng.normal(size=(N_TIMES, 7)).astype(np.float32)
    artifacts.write_arrays(data / "brain.npz", timecourses=people, group_bold=group)
    artifacts.write_json(data / "names.json", ["one", "other"])
    runs = [rng.normal(size=(N_TIMES, 7)).astype(np.float32) for _ in range(3)]
    for i, run in enumerate(runs):
        artifacts.write_array(data / "runs" / f"run-{i}.npy", run)
    about = {"runs": [f"run-{i}" for i in range(3)], "subjects": ["a", "b", "c"]}
    about |= {"names": None, "standardise": "zscore", "run_lengths": [], "parts": False}
    artifacts.write_json(data / "runs" / "runs.json", about)
    if not regions:
        artifacts.write_array(data / "maps.npy", rng.normal(size=(2, 7)))
        artifacts.write_array(data / "subject_maps.npy", rng.normal(size=(3, 2, 7)))
        mask = nibabel.Nifti1Image(np.ones((7, 1, 1), np.uint8), np.eye(4))
        nibabel.save(mask, data / "mask.nii.gz")
    return people, group, runs


@pytest.mark.parametrize("regions", [False, True])
def test_networks_and_bold_are_those_of_stage_02_on_the_used_volumes(
    rng, tmp_path, regions
):
    people, group, runs = stage_02(tmp_path, rng, regions=regions)
    clock = clock_of()
    brain, bold = prepared.networks(tmp_path, clock), prepared.bold(tmp_path, clock)
    assert brain.names == ["one", "other"]
    z = timeseries.zscore(people[:, 5:].astype(float).swapaxes(0, 1)).swapaxes(0, 1)
    np.testing.assert_allclose(brain.timecourses, z)
    np.testing.assert_allclose(brain.mean, timeseries.zscore(z.mean(0)))
    np.testing.assert_array_equal(bold.group, group[5:])
    for one, run in zip(bold.subjects, runs, strict=True):
        np.testing.assert_array_equal(one, run[5:])
    found = brain.maps, brain.mask, bold.subject_maps
    assert [one is None for one in found] == [regions] * 3


def test_other_text_is_spoken_with_the_timing_that_is_used(rng, tmp_path, monkeypatch):
    H = scipy.sparse.csr_array(rng.random((N_TIMES, 30)))
    (tmp_path / "data").mkdir()
    scipy.sparse.save_npz(tmp_path / "data" / "H.npz", H)
    left_out = np.arange(40) % 10 == 0
    activations = rng.normal(size=(40, 2, 3))
    tokens = pd.DataFrame({"left_out": left_out})
    monkeypatch.setattr(prepared.stores, "read_tokens", lambda folder: tokens)
    monkeypatch.setattr(
        prepared.stores, "open_activations", lambda folder, kind: activations
    )
    texts, spoken = prepared.other_texts(tmp_path, "ffn_out", clock_of())
    np.testing.assert_array_equal(texts, activations[~left_out])
    np.testing.assert_allclose(spoken.toarray(), H.toarray()[5:])
