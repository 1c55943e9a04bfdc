"""Figures of BOLD draw, with labelled axes."""

import numpy as np
import pandas as pd
import pytest
from labels import labelled
from nilearn.datasets import load_mni152_brain_mask

from anbn.brain import figures

pytestmark = pytest.mark.usefixtures("close_figures")


def test_word_rate(rng):
    words = pd.DataFrame({"onset": np.arange(0, 40, 0.5)})
    labelled(figures.plot_word_rate(words, np.ones(30), n_times=30, tr=2.0, start=0))


def test_maps_lags_and_subjects(rng):
    mask = load_mni152_brain_mask(resolution=12)
    maps = rng.normal(size=(3, int(mask.get_fdata().sum())))
    figure = figures.plot_maps(maps, mask, ["a", "b", "c"])
    assert [ax.get_title() for ax in figure.axes[:3]] == ["a", "b", "c"]
    figure = figures.plot_maps(np.repeat(maps, 6, 0), mask, list("abc") * 6, title="t")
    assert figure.get_suptitle() == "t\n16 of 18, the strongest"
    labelled(
        figures.plot_lag_profile(
            np.arange(5), rng.normal(size=(5, 12)), list("abcdefghijkl")
        )
    )
    labelled(figures.plot_subjects(rng.normal(size=(4, 2)), ["a", "b"], "r"))
    figures.plot_encoding_map(maps[0], mask)
