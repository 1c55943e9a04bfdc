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
    chosen = selection.stable(members, np.array([True, False, True]))
    assert np.array_equal(chosen, members[0] | members[2])
    answers = pd.DataFrame(
        {"mean wiki": [1.0, 0.2, 0.9], "mean code": [-1.0, 0.8, 0.1]}
    )
    answers["q"] = [0.01, 0.01, 0.3]
    chosen = selection.of_domain(members, answers, "wiki")
    assert np.array_equal(chosen, members[0])  # the third favours it, but by chance


def test_no_network_of_a_kind_is_a_result(members):
    assert not selection.stable(members, np.zeros(3, bool)).any()
    answers = pd.DataFrame({"mean wiki": [1.0] * 3, "mean code": 0.0, "q": 0.01})
    assert not selection.of_domain(members, answers, "code").any()
    # stage 02b found no network at all
    none, nothing = members[:0], np.zeros(0, bool)
    for chosen in (
        selection.stable(none, nothing),
        selection.of_domain(none, answers[:0], "code"),
    ):
        assert chosen.shape == SHAPE and not chosen.any()


def test_empty_masks_are_left_out_and_wrong_ones_refused(members):
    some, every = members[0], np.ones(SHAPE, bool)
    asked = [
        selection.Mask("some", "ffn_out", some),
        selection.Mask("none", "ffn_out", ~every),
        selection.Mask("all", "ffn_out", every),
    ]
    masks, left_out = selection.usable(asked, {"ffn_out": SHAPE})
    assert [mask.group for mask in masks] == ["some"]
    assert left_out == {"none": "no neuron", "all": "all neurons"}
    assert selection.usable([], {}) == ([], {})
    with pytest.raises(SelectionError, match="'some' has shape"):
        selection.usable(asked, {"ffn_out": (4, 9)})


def test_masks_without_massive_neurons_follow_the_whole_ones(tmp_path, members):
    massive = {"ffn_out": members[1], "hidden": np.zeros(SHAPE, bool)}
    whole = [
        selection.Mask("a b", "ffn_out", members[0] | members[1]),
        selection.Mask("massive", "ffn_out", members[1]),
        selection.Mask("c", "hidden", members[2]),
    ]
    masks = selection.and_without_massive(whole, massive)
    groups = [mask.group for mask in masks]
    assert groups == ["a b", "a b, massive out", "massive", "c"]
    assert np.array_equal(masks[1].neurons, members[0] & ~members[1])
    assert np.array_equal(masks[1].among, ~members[1])
    # the whole ones are as they were: the same again
    again = selection.and_without_massive(whole, massive)
    assert [mask.group for mask in again] == groups
    selection.write(tmp_path, masks, massive)
    for mask, read in zip(masks, selection.read(tmp_path), strict=True):
        assert mask[:2] == read[:2]
        np.testing.assert_array_equal(mask.neurons, read.neurons)
        assert (mask.among is None) == (read.among is None)
    assert "a_b_massive_out_ffn_out" in np.load(tmp_path / "masks.npz")
    selection.write(tmp_path, [], massive)
    assert selection.read(tmp_path) == []


def test_neurons_of_components_fitted_anew(rng):
    maps = np.zeros((3, 400))
    for i in range(3):
        maps[i, 20 * i : 20 * i + 9] = 1
    activations = rng.normal(size=(500, 3)) @ maps + 0.05 * rng.normal(size=(500, 400))
    found = selection.of_components(
        activations.reshape(500, 4, 100), 3, z_threshold=1.96, random_state=0
    )
    np.testing.assert_array_equal(found, maps.any(0).reshape(4, 100))


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
    none = {name: values[..., :0] for name, values in arrays.items() if values.ndim}
    _, mask = coupled(none, "", "fdr", [])
    assert mask.shape == SHAPE and not mask.any()


def test_highest(rng):
    scores = rng.random(SHAPE)
    mask = selection.highest(scores, 7)
    assert mask.sum() == 7
    assert scores[mask].min() > scores[~mask].max()
    assert not selection.highest(scores, 0).any()


def test_what_cannot_be_chosen_is_told(members, arrays):
    answers = pd.DataFrame({"mean wiki": [1.0] * 3, "mean code": 0.0, "q": 0.01})
    for message, call in [
        (r"'mine' has shape \(4, 9\), .* \(4, 10\)", np.ones((4, 9), bool)),
        ("'mine' is of type float64, expected bool", np.ones(SHAPE)),
        ("'mine' holds none of 40 neurons", np.zeros(SHAPE, bool)),
        ("'mine' holds all of 40 neurons", np.ones(SHAPE, bool)),
        (
            r"'cod' \(did you mean 'code'\?\)",
            lambda: selection.of_domain(members, answers, "cod"),
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
