"""Figures of masks draw what they are given."""

import numpy as np
import pandas as pd
import pytest
from labels import labelled

from anbn.masking import figures

pytestmark = pytest.mark.usefixtures("close_figures")


def masks(**columns):
    rows = [("intact", "", 0, 20.0), ("networks", "", 0, 1e6), ("few", "", 0, 21.0)]
    rows += [("networks", c, k, 30.0 + k) for c in ("a", "b") for k in range(5)]
    rows += [("few", "a", k, 20.5) for k in range(5)]
    table = pd.DataFrame(rows, columns=["group", "control", "draw", "perplexity"])
    table["low"], table["high"] = 0.9 * table["perplexity"], 1.1 * table["perplexity"]
    return table.assign(**columns)


def test_against_controls():
    ax = labelled(figures.plot_against_controls(masks(n=7), 20.0))
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert labels == ["networks\n(7 neurons)", "few\n(7 neurons)"]
    points = [line for line in ax.lines if line.get_marker() == "D"]
    assert points[0].get_xdata() == pytest.approx(np.log(1e6 / 20))
    left, right = ax.get_xlim()
    assert left < 0 < np.log(1e6 / 20) < right
    assert "20" in [t.get_text() for t in ax.get_xticklabels()]
    bare = masks(n=7)
    labelled(figures.plot_against_controls(bare[bare["control"] == ""], 20.0))


def test_domain_matrix():
    matrix = pd.DataFrame([[0.004, -0.02], [0.5, 12.0]], ["a", "b"], ["wiki", "code"])
    significant = pd.DataFrame(
        [[False, True], [False, False]], ["b", "a"], ["wiki", "code"]
    )
    ax = labelled(figures.plot_domain_matrix(matrix, significant))
    assert [t.get_text() for t in ax.texts] == ["0.00", "-0.02", "0.5", "12*"]


@pytest.mark.parametrize("value", ["perplexity", "accuracy"])
def test_shares(value):
    rows = [(g, s, 1 / s) for g in "ab" for s in (0.4, 0.1, 0.2)]
    curves = pd.DataFrame(rows, columns=["group", "share", value])
    curves = curves.assign(low=curves[value] * 0.9, high=curves[value] * 1.1)
    ax = labelled(figures.plot_shares(curves, 2.0, value=value))
    assert ax.lines[0].get_xdata() == pytest.approx([10, 20, 40])
    assert ax.get_yscale() == ("log" if value == "perplexity" else "linear")
    assert len(ax.collections) == 2


def test_suites():
    scores = pd.DataFrame({"intact": [0.9, 0.4, 0.6], "masked": [0.5, 0.4, 0.2]})
    scores.index = ["cleft", "npi", "mvrr"]
    ax = labelled(figures.plot_suites(scores))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["cleft", "mvrr", "npi"]
    first = next(c for c in ax.collections if c.get_label().startswith("intact"))
    x, y = first.get_offsets().T
    assert list(x) == [0.9, 0.4, 0.6] and list(y) == [0.5, 2.5, 1.5]


def test_amplify():
    table = pd.concat([masks(factor=f) for f in (0.5, 1, 4)])
    ax = labelled(figures.plot_amplify(table[table["group"] != "intact"], 20.0))
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0.5", "1", "4"]
    assert len(ax.collections) == 3
    labelled(figures.plot_amplify(table.assign(factor=0.0), 20.0))
