"""Every figure draws, with labelled axes."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from nilearn.datasets import load_mni152_brain_mask

from anbn.brain import figures as brain_figures
from anbn.coupling import figures as coupling_figures
from anbn.models import figures as models_figures
from anbn.networks import figures as networks_figures
from anbn.networks import stability

pytestmark = pytest.mark.usefixtures("close_figures")


def labelled(ax):
    ax.figure.canvas.draw()
    assert ax.get_xlabel() or [t.get_text() for t in ax.get_xticklabels()]
    assert ax.get_ylabel() or [t.get_text() for t in ax.get_yticklabels()]
    return ax


def test_stage_01_figures(rng):
    words = pd.DataFrame({"onset": np.arange(0, 40, 0.5)})
    labelled(
        brain_figures.plot_word_rate(words, np.ones(30), n_times=30, tr=2.0, start=0)
    )
    data = xr.DataArray(rng.normal(size=(50, 4, 20)), dims=("token", "layer", "neuron"))
    data = data.assign_coords(
        layer=[0, 2, 4, 6], text=("token", ["<b>", "$x$", " "] * 16 + ["a", "b"])
    )
    labelled(models_figures.plot_raster(data, n_tokens=10, n_neurons=6))
    labelled(
        models_figures.plot_layer_variance(
            {"ffn_out": rng.random((4, 20))}, [0, 2, 4, 6]
        )
    )


@pytest.mark.parametrize("n_tokens", [1, 2, 3, 23])
def test_raster_of_a_short_story(rng, n_tokens):
    data = xr.DataArray(
        rng.normal(size=(n_tokens, 2, 9)),
        dims=("token", "layer", "neuron"),
        coords={"layer": [0, 1], "text": ("token", ["a"] * n_tokens)},
    )
    ax = labelled(models_figures.plot_raster(data, n_tokens=24, n_neurons=40))
    assert len(ax.get_xticks()) == n_tokens
    assert len(ax.get_yticks()) == 18


def test_stage_02_figures(rng):
    mask = load_mni152_brain_mask(resolution=12)
    maps = rng.normal(size=(3, int(mask.get_fdata().sum())))
    figure = brain_figures.plot_maps(maps, mask, ["a", "b", "c"])
    assert [ax.get_title() for ax in figure.axes[:3]] == ["a", "b", "c"]
    labelled(
        brain_figures.plot_lag_profile(
            np.arange(5), rng.normal(size=(5, 12)), list("abcdefghijkl")
        )
    )
    labelled(brain_figures.plot_subjects(rng.normal(size=(4, 2)), ["a", "b"], "r"))
    labelled(networks_figures.plot_layer_histogram(rng.integers(0, 50, (3, 6))))


def test_stage_03_figures(rng):
    r, names = rng.uniform(-1, 1, size=(40, 12)), list("abcdefghijkl")
    labelled(
        coupling_figures.plot_synchrony_by_layer(
            r, range(4), 0.8, rng.random((20, 12)), names
        )
    )
    scores = {"word rate": rng.random(6), "model": rng.random(6)}
    labelled(coupling_figures.plot_encoding_bars(scores, list("abcdef"), rng.random(6)))
    labelled(coupling_figures.plot_score_distribution(scores, rng.random(6)))
    mask = load_mni152_brain_mask(resolution=12)
    brain_figures.plot_encoding_map(rng.normal(size=int(mask.get_fdata().sum())), mask)


def test_figures_of_networks(rng):
    null = rng.random(3) / 3, rng.random(5) / 5
    judged = stability.Stability(rng.random(9), rng.random(9), *null)
    unknown = stability.unjudged(5, stability.too_few(1))
    axes = networks_figures.plot_stability({"model": judged, "brain": unknown})
    labelled(axes[0])
    assert axes[0].get_title() == f"model: {judged.stable.sum()} of 9 stable"
    assert axes[1].get_title() == "brain: cannot be judged"
    networks_figures.plot_stability({"brain": unknown})
    counts, null = rng.integers(0, 9, 6), rng.integers(0, 3, (40, 6))
    labelled(networks_figures.plot_recurrence(counts, null, 60))
    columns = {"halves": [0.9, 0.5], "limit": [0.2, 0.1], "explained": [0.2, 0.4]}
    table = pd.DataFrame(columns, [5, 10])
    for ax in networks_figures.plot_scan({"brain": table, "model": table}):
        labelled(ax)
    domains = pd.DataFrame(rng.normal(size=(4, 3)), columns=["wiki", "code", "tiny"])
    labels = [f"{k}: $x$, y" for k in range(4)]
    axes = networks_figures.plot_profiles(domains, domains[["wiki"]], labels)
    labelled(axes[0])
    assert [text.get_text() for text in axes[1].get_xticklabels()] == ["wiki"]
    matrices = {
        name: np.corrcoef(rng.normal(size=(n, 30)))
        for name, n in [("brain", 4), ("model", 7)]
    }
    names = {
        name: [f"{name} {k}" for k in range(len(m))] for name, m in matrices.items()
    }
    axes = networks_figures.plot_connectivity(matrices, names)
    for ax, name in zip(axes, matrices, strict=True):
        labelled(ax)
        shown = [text.get_text() for text in ax.get_xticklabels()]
        assert sorted(shown) == sorted(names[name])


def test_figures_of_coupling(rng):
    names = ["A", "B", "C"]
    r, limits = rng.random((5, 3)), np.full(5, 0.5)
    ax = labelled(coupling_figures.plot_subject_synchrony(r, limits, names))
    shown = {line.get_label(): len(line.get_xdata()) for line in ax.lines}
    assert shown["below it"] == (r < 0.5).sum()
    columns = ["share", "null_mean", "null_95"]
    labelled(
        coupling_figures.plot_global(pd.DataFrame(rng.random((3, 3)), names, columns))
    )
    gained = pd.DataFrame({"network": names, "gain": [0.2, -0.1, 0.1]})
    gained = gained.assign(null_mean=-0.05, null_95=0.05, p=[0.01, 0.9, 0.2])
    ax = labelled(coupling_figures.plot_gain(gained))
    assert [t.get_text() for t in ax.texts] == ["*"]
    several = pd.concat([gained] * 100, ignore_index=True)
    ax = labelled(coupling_figures.plot_gain(several))
    assert len(ax.get_xticklabels()) == 100  # of 300 those with a star
    r = rng.random((4, 400))
    ax = coupling_figures.plot_subject_synchrony(r, limits[:4], list(range(400)))
    assert len(labelled(ax).get_xticklabels()) == 40 and "400" in ax.get_xlabel()
    parts = {"word timing": rng.random(30) / 9, "atoms": rng.random(30) / 9}
    labelled(coupling_figures.plot_split(parts, rng.random(30)))
    scores = {
        "word rate": np.array([0.1, 0.2, 0.3]),
        "model": np.array([0.3, 0.1, 0.5]),
    }
    ax = labelled(coupling_figures.plot_components(scores, np.full(3, 0.6), names))
    assert [t.get_text() for t in ax.get_xticklabels()] == ["C", "A", "B"]
