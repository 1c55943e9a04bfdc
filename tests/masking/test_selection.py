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


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((4, 9), bool), r"'mine' has shape \(4, 9\), expected .* \(4, 10\)"),
        (np.full(SHAPE, np.nan), "'mine' holds 40 NaN"),
        (np.ones(SHAPE), "'mine' is of type float64, expected bool"),
        (np.zeros(SHAPE, bool), "'mine' is empty"),
        (np.ones(SHAPE, bool), "'mine' holds all 40 neurons"),
    ],
)
def test_masks_that_cannot_be_used_are_refused(mask, message):
    with pytest.raises(SelectionError, match=message):
        selection.check(mask, SHAPE, "mine")


def test_networks(members):
    assert np.array_equal(
        selection.union(members), members[0] | members[1] | members[2]
    )
    halves = [0.9, 0.3, 0.8]
    chosen = selection.stable(members, [True, False, True], halves)
    assert np.array_equal(chosen, members[0] | members[2])
    with pytest.raises(SelectionError, match=r"agree by \|r\| of at most 0.90"):
        selection.stable(members, [False] * 3, halves)
    with pytest.raises(SelectionError, match="takes 4 documents or more"):
        selection.stable(members, [False] * 3, [np.nan] * 3)
    with pytest.raises(SelectionError, match=r"each of 3 networks, found shapes"):
        selection.stable(members, [True, False], halves)


def test_networks_of_a_domain(members):
    means = pd.DataFrame({"wiki": [1.0, 0.2, 0.9], "code": [-1.0, 0.8, 0.1]})
    q = [0.01, 0.01, 0.3]
    assert np.array_equal(
        selection.of_domain(members, means, q, "wiki"), members[0]
    )  # the third favours it, too, but by chance
    both = selection.of_domain(members, means, q, "wiki", level=0.5)
    assert np.array_equal(both, members[0] | members[2])
    with pytest.raises(SelectionError, match=r"'cod' \(did you mean 'code'\?\)"):
        selection.of_domain(members, means, q, "cod")
    with pytest.raises(SelectionError, match=r"most to 'code' with q <= 0.001, but to"):
        selection.of_domain(members, means, q, "code", level=0.001)
    with pytest.raises(SelectionError, match="of 3 networks, found 3 and 2"):
        selection.of_domain(members, means, q[:2], "code")


@pytest.mark.parametrize(
    ("by", "expected"),
    [("fdr", [(1, 4), (3, 9)]), ("fwe", [(1, 4)]), ("top", [(1, 4), (3, 9)])],
)
def test_coupled_with_a_network(arrays, by, expected):
    mask = selection.coupled(arrays, NAMES, "Language", by=by, share=0.05)
    assert list(zip(*np.nonzero(mask), strict=True)) == expected


def test_the_network_with_most_coupled_neurons_is_the_default(arrays):
    assert selection.most_coupled(arrays, NAMES) == "Language"
    # by "fwe" one neuron each: the larger |synchrony| decides
    assert selection.most_coupled(arrays, NAMES, by="fwe") == "Language"
    arrays["q"][2, :5, 0] = 0.02
    assert selection.most_coupled(arrays, NAMES) == "Visual"
    assert selection.coupled(arrays, NAMES).sum() == 5
    assert selection.most_coupled(arrays, NAMES, by="top") == "Language"


def test_what_is_not_coupled_is_refused(arrays):
    with pytest.raises(
        SelectionError, match=r"no brain networks .*'Languag' \(did you mean 'Lang"
    ):
        selection.coupled(arrays, NAMES, "Languag")
    # nothing found is a result
    assert not selection.coupled(arrays, NAMES, "Visual", by="fwe").any()
    with pytest.raises(SelectionError, match="by must be 'fdr', 'fwe' or 'top'"):
        selection.coupled(arrays, NAMES, by="q")
    with pytest.raises(SelectionError, match="each of 3 brain networks, found 2"):
        selection.coupled(arrays, NAMES[:2])
    with pytest.raises(SelectionError, match="2 brain networks are called 'Visual'"):
        selection.coupled(arrays, ["Visual", "Visual", "Auditory"], "Visual")
    with pytest.raises(SelectionError, match="share must lie in 0 to 1, found 2"):
        selection.coupled(arrays, NAMES, by="top", share=2)
    arrays["synchrony"][0, 0, 0] = np.nan
    with pytest.raises(SelectionError, match="synchrony holds NaN"):
        selection.coupled(arrays, NAMES, "Language")


def test_highest(rng):
    scores = rng.random(SHAPE)
    mask = selection.highest(scores, 7)
    assert mask.sum() == 7
    assert scores[mask].min() > scores[~mask].max()
    assert not selection.highest(scores, 0).any()
    with pytest.raises(SelectionError, match="0 to 40 neurons, found 41"):
        selection.highest(scores, 41)


def test_masks_come_back_from_files(tmp_path, rng):
    mask = rng.random(SHAPE) < 0.3
    np.savez(tmp_path / "a.npz", mask=mask)
    save_file({"mask": mask}, tmp_path / "a.safetensors")
    table = pd.DataFrame(np.argwhere(mask), columns=["layer", "neuron"])
    table.assign(note="x").to_csv(tmp_path / "a.csv", index=False)
    table[["neuron", "layer"]].to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    table.to_csv(tmp_path / "semicolons.csv", sep=";", index=False)
    found = selection.from_file(tmp_path / "semicolons.csv", SHAPE)
    assert np.array_equal(found, mask)
    for kind in ("npz", "safetensors", "csv", "tsv"):
        found = selection.from_file(tmp_path / f"a.{kind}", SHAPE)
        assert np.array_equal(found, mask), kind
        with pytest.raises(SelectionError, match=f"a.{kind}"):
            selection.from_file(tmp_path / f"a.{kind}", (2, 10))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "layer,unit\n0,1\n", "a.csv: no column matches 'neuron'"),
        ("a.csv", "layer,neuron\n0,1\n0,x\n", "a.csv, row 2: expected whole.* 0, x"),
        ("a.csv", "layer,neuron\n0,1.5\n", r"a.csv, row 1.*found 0, 1.5"),
        (
            "a.csv",
            "# made by hand\nlayer,neuron\n0,\n",
            "a.csv, row 1: expected whole numbers",
        ),
        ("a.csv", "layer,neuron\n4,1\n", "a.csv: layer 4 does not exist.*0 to 3"),
        ("a.csv", "layer,neuron\n0,-1\n", "a.csv: neuron -1 does not exist.*0 to 9"),
        ("a.csv", "layer,neuron\n0,1\n0,1\n", "a.csv: layer 0, neuron 1 comes twice"),
        ("a.csv", "layer,neuron\n", "a.csv' is empty"),
        ("a.csv", "", "a.csv cannot be read as a table"),
        ("a.safetensors", "x", "a.safetensors cannot be read as safetensors"),
        ("a.pkl", "", "a.pkl: expected .npz, .safetensors, .csv or .tsv, found .pkl"),
    ],
)
def test_bad_files_are_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(SelectionError, match=message):
        selection.from_file(tmp_path / name, SHAPE)


def test_more_bad_files(tmp_path):
    with pytest.raises(SelectionError, match=r"none.npz: no such file"):
        selection.from_file(tmp_path / "none.npz", SHAPE)
    np.savez(tmp_path / "a.npz", masks=np.ones(SHAPE, bool))
    with pytest.raises(SelectionError, match="no array 'mask', there are masks"):
        selection.from_file(tmp_path / "a.npz", SHAPE)
    np.savez(tmp_path / "b.npz", mask=np.ones(SHAPE))
    with pytest.raises(SelectionError, match=r"b.npz' is of type float64"):
        selection.from_file(tmp_path / "b.npz", SHAPE)
