"""Masks from networks, brains, scores and files, and what is wrong with them."""

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from anbn.masking import selection
from anbn.masking.selection import SelectionError

SHAPE = (4, 10)


@pytest.fixture
def members(rng):
    return rng.random((3, *SHAPE)) < 0.2


@pytest.fixture
def arrays(rng):
    """Synchrony with three brain networks: two neurons follow the second."""
    synchrony = rng.uniform(-0.2, 0.2, (*SHAPE, 3)).astype(np.float32)
    synchrony[1, 4, 1], synchrony[3, 9, 1], synchrony[0, 0, 2] = 0.6, -0.55, 0.58
    q = np.where(np.abs(synchrony) > 0.5, 0.01, 0.8)
    q[2, 2, 0] = 0.04
    return {"synchrony": synchrony, "q": q, "threshold": np.array(0.57)}


NAMES = ["Visual", "Language", "Auditory"]


def test_networks(members):
    halves = np.array([0.9, 0.3, 0.8])
    chosen = selection.stable(members, np.array([True, False, True]), halves)
    assert np.array_equal(chosen, members[0] | members[2])
    means = pd.DataFrame({"wiki": [1.0, 0.2, 0.9], "code": [-1.0, 0.8, 0.1]})
    chosen = selection.of_domain(members, means, pd.Series([0.01, 0.01, 0.3]), "wiki")
    assert np.array_equal(chosen, members[0])  # the third favours it, but by chance


def coupled(arrays, network, by, names=NAMES):
    options = {"by": by, "level": 0.05, "share": 0.05}
    return selection.coupled(arrays, names, network, **options)


@pytest.mark.parametrize(
    ("by", "expected"),
    [("fdr", [(1, 4), (3, 9)]), ("fwe", [(1, 4)]), ("top", [(1, 4), (3, 9)])],
)
def test_coupled_with_a_network(arrays, by, expected):
    _, mask = coupled(arrays, "Language", by)
    assert list(zip(*np.nonzero(mask), strict=True)) == expected
    # by "fwe" one neuron each, by "top" as many: the larger |synchrony| decides
    network, most = coupled(arrays, "", by)
    assert network == "Language" and (most == mask).all()


def test_few_and_no_coupled_neurons(arrays):
    # nothing found is a result
    assert not coupled(arrays, "Visual", "fwe")[1].any()
    arrays["q"][2, :5, 0] = 0.02
    assert coupled(arrays, "", "fdr")[0] == "Visual"


def test_highest(rng):
    scores = rng.random(SHAPE)
    mask = selection.highest(scores, 7)
    assert mask.sum() == 7
    assert scores[mask].min() > scores[~mask].max()
    assert not selection.highest(scores, 0).any()


def test_what_cannot_be_chosen_is_told(members, arrays):
    means, q = (
        pd.DataFrame({"wiki": [1.0] * 3, "code": [0.0] * 3}),
        pd.Series([0.01] * 3),
    )
    none, halves = np.zeros(3, bool), np.array([0.9, 0.3, np.nan])

    for message, call in [
        (r"'mine' has shape \(4, 9\), .* \(4, 10\)", np.ones((4, 9), bool)),
        ("'mine' is of type float64, expected bool", np.ones(SHAPE)),
        ("'mine' holds none of 40 neurons", np.zeros(SHAPE, bool)),
        ("'mine' holds all of 40 neurons", np.ones(SHAPE, bool)),
        (
            r"^sources: 'stable' .* \|r\| of \[0.9 0.3 nan\]. .* leave 'stable' out",
            lambda: selection.stable(members, none, halves),
        ),
        (
            r"'cod' \(did you mean 'code'\?\)",
            lambda: selection.of_domain(members, means, q, "cod"),
        ),
        (
            "most to 'code' with q <= 0.05, but to wiki",
            lambda: selection.of_domain(members, means, q, "code"),
        ),
        (
            r"no brain networks .*'Languag' \(did",
            lambda: coupled(arrays, "Languag", "fdr"),
        ),
        (
            "2 brain networks are called 'A'",
            lambda: coupled(arrays, "A", "fdr", ["A", "A", "B"]),
        ),
    ]:
        with pytest.raises(SelectionError, match=message):
            call() if callable(call) else selection.check(call, SHAPE, "mine")


def test_masks_come_back_from_files(tmp_path, rng):
    mask = rng.random(SHAPE) < 0.3
    np.savez(tmp_path / "a.npz", mask=mask)
    save_file({"mask": mask}, tmp_path / "a.safetensors")
    table = pd.DataFrame(np.argwhere(mask), columns=["layer", "neuron"])
    table.assign(note="x").to_csv(tmp_path / "a.csv", index=False)
    table[["neuron", "layer"]].to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    table.to_csv(tmp_path / "semicolons.csv", sep=";", index=False)
    for name in ("a.npz", "a.safetensors", "a.csv", "a.tsv", "semicolons.csv"):
        found = selection.from_file(tmp_path / name, SHAPE)
        assert np.array_equal(found, mask), name
        with pytest.raises(SelectionError, match=name):
            selection.from_file(tmp_path / name, (2, 10))


@pytest.mark.parametrize(
    ("name", "holds", "message"),
    [
        ("a.csv", "layer,unit\n0,1\n", "a.csv: no column matches 'neuron'"),
        ("a.csv", "layer,neuron\n0,1\n0,x\n", "a.csv, row 2: expected whole.* 0, x"),
        ("a.csv", "layer,neuron\n0,1.5\n", r"a.csv, row 1.*found 0, 1.5"),
        ("a.csv", "# by hand\nlayer,neuron\n0,\n", "a.csv, row 1: .* found 0, "),
        ("a.csv", "layer,neuron\n4,1\n", "a.csv, row 1: .*layer of 0 to 3 .* 4, 1"),
        ("a.csv", "layer,neuron\n0,-1\n", "neuron of 0 to 9, found 0, -1"),
        ("a.csv", "layer,neuron\n0,1\n0,1\n", "a.csv: layer 0, neuron 1 comes twice"),
        ("a.csv", "layer,neuron\n", "a.csv' holds none"),
        ("a.csv", "", "a.csv cannot be read as a table"),
        ("a.safetensors", "x", "a.safetensors cannot be read as safetensors"),
        ("a.pkl", "", "a.pkl: expected .npz, .safetensors, .csv or .tsv, found .pkl"),
        ("a.npz", {"masks": np.ones(SHAPE)}, "no array 'mask', there are masks"),
        ("a.npz", {"mask": np.ones(SHAPE)}, "a.npz' is of type float64"),
        ("a.npz", None, "a.npz: no such file"),
    ],
)
def test_bad_files_are_named(tmp_path, name, holds, message):
    if isinstance(holds, str):
        (tmp_path / name).write_text(holds)
    elif holds:
        np.savez(tmp_path / name, **holds)
    with pytest.raises(SelectionError, match=message):
        selection.from_file(tmp_path / name, SHAPE)
