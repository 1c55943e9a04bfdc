"""Networks of a group, and each subject's own."""

from types import SimpleNamespace

import numpy as np
import pytest

from anbn.brain import group
from anbn.core import artifacts
from anbn.networks import decomposition, dual_regression

OPTIONS = {
    "solver": "fastica",
    "penalty": 0.3,
    "layer_sizes": [],
    "n_bootstrap": 2,
    "n_halves": 2,
    "n_null_sets": 2,
    "random_state": 0,
    "device": "cpu",
}


@pytest.fixture
def brain(rng):
    """Six people of two runs each, over 40 regions of two networks."""
    maps = rng.laplace(size=(2, 40))
    runs = [
        (rng.laplace(size=(50, 2)) @ maps + 0.5 * rng.normal(size=(50, 40)))
        for _ in range(12)
    ]
    people = [f"sub-{i // 2}" for i in range(12)]
    names = [f"run-{i}" for i in range(12)]
    return SimpleNamespace(runs=runs, subjects=people, run_names=names, mask=None)


def test_people_are_drawn_with_all_their_runs(brain):
    found = group.networks(brain, 2, "ica", **OPTIONS)
    expected = decomposition.decompose(
        brain.runs, 2, "ica", over="units", whose=brain.subjects, **OPTIONS
    )
    np.testing.assert_array_equal(found.networks, expected.networks)
    np.testing.assert_array_equal(found.stability.halves, expected.stability.halves)
    assert group.drawn(brain) == ("subjects", brain.subjects)
    brain.subjects = ["sub-0"] * 12
    assert group.drawn(brain) == ("runs", brain.run_names)


def test_each_subject_gets_its_own_time_courses_and_maps(brain, tmp_path):
    maps = group.networks(brain, 2, "ica", **OPTIONS).networks
    timecourses, own = group.in_each(brain.runs, maps)
    for run, series, of_run in zip(brain.runs, timecourses, own, strict=True):
        expected = dual_regression.dual_regression(run, maps)
        np.testing.assert_array_equal(series, expected[0])
        np.testing.assert_array_equal(of_run, expected[1])
    timecourses, own = group.in_each(brain.runs, maps[:0])  # no network was found
    assert timecourses[0].shape == (50, 0) and own[0].shape == (0, 40)
    group.write_timecourses(tmp_path / "t.npz", brain.run_names, timecourses)
    assert list(artifacts.read_arrays(tmp_path / "t.npz")) == brain.run_names
