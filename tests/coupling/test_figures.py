"""Figures of coupling draw, with labelled axes."""

import numpy as np
import pandas as pd
import pytest
from labels import labelled
from nilearn.datasets import load_mni152_brain_mask

from anbn.coupling import figures
from anbn.stats import inference

pytestmark = pytest.mark.usefixtures("close_figures")


def names_of(ax):
    return [t.get_text() for t in ax.get_yticklabels()]


def stars_of(ax):
    found = [c for c in ax.collections if "p at most" in c.get_label()]
    return [tuple(xy) for c in found for xy in c.get_offsets()]


def test_synchrony_and_encoding(rng):
    r, names = rng.uniform(-1, 1, size=(40, 12)), list("abcdefghijkl")
    labelled(
        figures.plot_synchrony_by_layer(r, range(4), 0.8, rng.random((20, 12)), names)
    )
    scores = {"word rate": rng.random(6), "model": rng.random(6)}
    labelled(figures.plot_score_distribution(scores, rng.random(6)))
    scores = {"word rate": np.array([1, 2, 3]), "model": np.array([0.3, 0.1, 0.5])}
    ax = labelled(figures.plot_encoding_bars(scores, list("ABC"), np.full(3, 0.6)))
    assert names_of(ax) == ["C", "A", "B"]
    assert "model (0.30)" in ax.get_legend_handles_labels()[1]


def test_synchrony_of_subjects_and_anchors(rng):
    names, r, limits = ["A", "B", "C"], rng.random((5, 3)), np.full(5, 0.5)
    ax = labelled(figures.plot_subject_synchrony(r, limits, names))
    shown = {dots.get_label(): len(dots.get_offsets()) for dots in ax.collections}
    assert shown["below it"] == (r < 0.5).sum()
    ax = figures.plot_subject_synchrony(rng.random((5, 400)), limits, range(400))
    assert "388 others" in names_of(labelled(ax)) and len(names_of(ax)) == 13
    assert ax.get_ylabel().startswith("12 of 400 networks")
    even = {"one": np.full((2, 10), 0.1), "two": np.full((2, 10), 0.1)}
    axes = figures.plot_depth_profiles(even, ["a", "b"])
    assert [ax.get_title() for ax in axes] == ["one", "two"]
    assert (axes[0].collections[0].get_array() == 0).all()
    axes = figures.plot_depth_profiles(even, ["a", "surrogates, mean"])
    assert [mesh.get_array().shape for mesh in axes[0].collections] == [(1, 10)] * 2


def test_networks_that_pass_their_null_are_named():
    table = pd.DataFrame({"gain": [0.2, -0.1, 0.1], "null_mean": -0.05}, list("ABC"))
    table = table.assign(null_95=0.05, p=[0.01, 0.9, 0.2])
    ax = labelled(figures.plot_beside_null(table, "gain", "gain"))
    assert names_of(ax) == ["A", "C", "B"]  # the largest first
    assert stars_of(ax) == [(0.2, 0.5)]
    assert any("1 of 3" in t.get_text() for t in ax.get_legend().get_texts())
    ax = labelled(figures.plot_beside_null(pd.concat([table] * 100), "gain", "gain"))
    assert len(names_of(ax)) == 13 and len(stars_of(ax)) == 100
    nulls = [c for c in ax.collections if "null" in c.get_label()]
    assert [len(c.get_segments()) for c in nulls] == [300, 300]


def test_reliability_draws_both_halves():
    columns = [f"{x}_{of}" for of in ("subjects", "time") for x in ("r", "null", "p")]
    table = pd.DataFrame([[0.8, 0.2, 0.01, 0.3, 0.1, 0.02]] * 2, ["a", "b"], columns)
    ax = labelled(figures.plot_reliability(table))
    assert [bar.get_width() for bar in ax.patches] == [0.8, 0.8, 0.3, 0.3]


def test_a_star_needs_both_nulls():
    effects = pd.DataFrame({"network": list("aabb"), "feature": list("xyxy")})
    effects = effects.assign(d=[1.0, -2.0, 0.1, np.nan], q=[0.01, 0.01, 0.3, np.nan])
    effects["familywise_surrogate"] = [0.2, 0.01, 0.3, np.nan]
    a, b = [0, 0.5], [1, 0.5]  # of the first network
    for shift, signs in ((0.01, ([a], [b])), (0.2, ([a, b], []))):
        effects["familywise_shift"] = [0.01, shift, 0.3, np.nan]
        ax = labelled(figures.plot_feature_effects(effects))
        marked = [c.get_offsets().tolist() for c in ax.collections if c.get_label()]
        assert tuple(x for x in marked[-2:]) == signs


def test_uncoupled_says_found_and_of_how_many():
    table = pd.DataFrame({"version": ["reversed"] * 4 + ["rolled 1"] * 4})
    table["data"] = ["group", "a", "b", "c"] * 2
    table = table.assign(p=[0.5, 0.01, 0.3, 0.9] * 2, found=[False, True] + [False] * 6)
    ax = labelled(figures.plot_uncoupled(table, level=0.05))
    assert [bar.get_width() for bar in ax.patches[:2]] == [1, 0]
    assert any("1 of 6" in t.get_text() for t in ax.get_legend().get_texts())


def test_organisation(rng):
    t, names = rng.normal(size=(9, 3)), ["a", "b", "c"]
    ax = labelled(figures.plot_overlap(t, t > 1, names, threshold=2.5))
    assert len(ax.collections[-1].get_offsets()) == (t > 1).sum()
    counts = {"one": rng.integers(0, 9, (3, 8)), "two": rng.integers(0, 9, (3, 30))}
    axes = figures.plot_subgroups(
        counts, {"one": np.full(8, 40), "two": np.full(30, 40)}, names
    )
    image = labelled(axes[0]).collections[0].get_array()
    np.testing.assert_allclose(image[:, :8], 100 * counts["one"] / 40)
    np.testing.assert_allclose(image[:, 9], 100 * counts["one"].sum(1) / 320)
    known, none = (0.4, 0.3, 0.5, 0.1, 0.2), [np.nan] * 5
    rows = [("one", "a", *known), ("one", "b", *none), ("one", "mean", *known)]
    # a model of which no atom serves a network
    rows += [("two", name, *none) for name in ("a", "b", "mean")]
    columns = ["model", "network", "consistency", "low", "high", "null", "null_high"]
    table = pd.DataFrame(rows, columns=columns)
    axes = figures.plot_organisation(table, {"one": 20.0, "two": 30.0})
    assert names_of(labelled(axes[1])) == ["a"]
    figures.plot_organisation(table[3:], {"two": 30.0})


@pytest.mark.parametrize("target", [0.3, 0.9, 0.999])
def test_subjects_needed(rng, target):
    maps = rng.normal(size=50) + 2 * rng.normal(size=(12, 50))
    found = inference.subjects_needed(maps, rng=rng, target=target)
    ax = labelled(figures.plot_subjects_needed(*found, target=target))
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert f"needed: {found[1]:.0f}" in labels


def test_surface_needs_no_download(rng, monkeypatch, tmp_path):
    monkeypatch.setenv("NILEARN_DATA", str(tmp_path))
    mask = load_mni152_brain_mask(resolution=12)
    values = rng.normal(size=int(mask.get_fdata().sum()))
    figure = figures.plot_surface(values, mask, "t")
    titles = [ax.get_title() for ax in figure.axes[:4]]
    assert titles[0] == "left, lateral" and titles[3] == "right, medial"
    assert figure.get_suptitle() == "t" or figure.texts[0].get_text() == "t"
    assert not list(tmp_path.iterdir())
