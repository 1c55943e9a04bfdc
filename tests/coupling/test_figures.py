"""Figures of coupling draw, with labelled axes."""

import numpy as np
import pandas as pd
import pytest
from labels import labelled

from anbn.coupling import figures

pytestmark = pytest.mark.usefixtures("close_figures")


def test_synchrony_and_encoding(rng):
    r, names = rng.uniform(-1, 1, size=(40, 12)), list("abcdefghijkl")
    labelled(
        figures.plot_synchrony_by_layer(r, range(4), 0.8, rng.random((20, 12)), names)
    )
    scores = {"word rate": rng.random(6), "model": rng.random(6)}
    labelled(figures.plot_encoding_bars(scores, list("abcdef"), rng.random(6)))
    labelled(figures.plot_score_distribution(scores, rng.random(6)))


def test_figures_of_coupling(rng):
    names = ["A", "B", "C"]
    r, limits = rng.random((5, 3)), np.full(5, 0.5)
    ax = labelled(figures.plot_subject_synchrony(r, limits, names))
    shown = {line.get_label(): len(line.get_xdata()) for line in ax.lines}
    assert shown["below it"] == (r < 0.5).sum()
    columns = ["share", "null_mean", "null_95"]
    labelled(figures.plot_global(pd.DataFrame(rng.random((3, 3)), names, columns)))
    gained = pd.DataFrame({"network": names, "gain": [0.2, -0.1, 0.1]})
    gained = gained.assign(null_mean=-0.05, null_95=0.05, p=[0.01, 0.9, 0.2])
    ax = labelled(figures.plot_gain(gained))
    assert [t.get_text() for t in ax.texts] == ["*"]
    several = pd.concat([gained] * 100, ignore_index=True)
    ax = labelled(figures.plot_gain(several))
    assert len(ax.get_xticklabels()) == 100  # of 300 those with a star
    r = rng.random((4, 400))
    ax = figures.plot_subject_synchrony(r, limits[:4], list(range(400)))
    assert len(labelled(ax).get_xticklabels()) == 40 and "400" in ax.get_xlabel()
    parts = {"word timing": rng.random(30) / 9, "atoms": rng.random(30) / 9}
    labelled(figures.plot_split(parts, rng.random(30)))
    scores = {
        "word rate": np.array([0.1, 0.2, 0.3]),
        "model": np.array([0.3, 0.1, 0.5]),
    }
    ax = labelled(figures.plot_components(scores, np.full(3, 0.6), names))
    assert [t.get_text() for t in ax.get_xticklabels()] == ["C", "A", "B"]
