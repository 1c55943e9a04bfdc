"""Figures of networks draw, with labelled axes."""

import numpy as np
import pandas as pd
import pytest
from labels import labelled

from anbn.networks import figures, stability

pytestmark = pytest.mark.usefixtures("close_figures")


def test_layer_histogram(rng):
    labelled(figures.plot_layer_histogram(rng.integers(0, 50, (3, 6))))


def test_figures_of_networks(rng):
    null = rng.random(3) / 3, rng.random(5) / 5
    judged = stability.Stability(rng.random(9), rng.random(9), *null)
    unknown = stability.Stability(*[np.full(5, np.nan)] * 2, reason="halves need 4")
    axes = figures.plot_stability({"model": judged, "brain": unknown})
    labelled(axes[0])
    assert axes[0].get_title() == f"model: {judged.stable.sum()} of 9 stable"
    assert axes[1].get_title() == "brain: cannot be judged"
    figures.plot_stability({"brain": unknown})
    counts, null = rng.integers(0, 9, 6), rng.integers(0, 3, (40, 6))
    labelled(figures.plot_recurrence(counts, null, 60))
    columns = {"halves": [0.9, 0.5], "limit": [0.2, 0.1], "explained": [0.2, 0.4]}
    table = pd.DataFrame(columns, [5, 10])
    for ax in figures.plot_scan({"brain": table, "model": table}):
        labelled(ax)
    domains = pd.DataFrame(rng.normal(size=(4, 3)), columns=["wiki", "code", "tiny"])
    labels = [f"{k}: $x$, y" for k in range(4)]
    axes = figures.plot_profiles(domains, domains[["wiki"]], labels)
    labelled(axes[0])
    assert [text.get_text() for text in axes[1].get_xticklabels()] == ["wiki"]
    matrices = {
        name: np.corrcoef(rng.normal(size=(n, 30)))
        for name, n in [("brain", 4), ("model", 7)]
    }
    names = {
        name: [f"{name} {k}" for k in range(len(m))] for name, m in matrices.items()
    }
    axes = figures.plot_connectivity(matrices, names)
    for ax, name in zip(axes, matrices, strict=True):
        labelled(ax)
        shown = [text.get_text() for text in ax.get_xticklabels()]
        assert sorted(shown) == sorted(names[name])
