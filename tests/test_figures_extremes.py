"""Every figure can be read at one and at hundreds of regions, subjects and layers."""

import importlib
import inspect
import pkgutil

import extremes
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

import anbn

DPI = 72
WIDTH, HEIGHT = 14, 16  # of a page on a screen, inches
SLACK = 1.5  # pixels


def plot_functions():
    """All functions of the library called ``plot_...``, by where they are defined."""
    for found in pkgutil.walk_packages(anbn.__path__, "anbn."):
        module = importlib.import_module(found.name)
        for name, member in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("plot_") and member.__module__ == found.name:
                yield f"{found.name}.{name}"


def test_every_plot_function_has_a_case():
    assert set(plot_functions()) == set(extremes.CASES)


def shown_ticks(axis):
    """Labels of an axis that are drawn."""
    low, high = sorted(axis.get_view_interval())
    slack = 1e-9 * (high - low)
    for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
        inside = low - slack <= tick.get_loc() <= high + slack
        for label in (tick.label1, tick.label2):
            if inside and label.get_visible() and label.get_text():
                yield label


def written(figure):
    """What is written in a figure, and where: legends as one, cells one by one."""
    found = [figure._suptitle, *figure.texts, *figure.legends]
    for ax in figure.axes:
        found += [ax.title, ax._left_title, ax._right_title, *ax.texts]
        found += [ax.get_legend()]
        if ax.axison:
            for axis in (ax.xaxis, ax.yaxis):
                found += [axis.label, axis.get_offset_text(), *shown_ticks(axis)]
    for artist in dict.fromkeys(found):
        text = getattr(artist, "get_text", lambda: "legend")()
        if artist is not None and artist.get_visible() and text.strip():
            yield text, artist.get_window_extent()


def overlapping(named):
    """Pairs of what is written that cover one another."""
    boxes = np.array([box.extents for _, box in named]).reshape(-1, 4)
    low, high = boxes[:, :2] + SLACK / 2, boxes[:, 2:] - SLACK / 2
    apart = (low[:, None] >= high) | (low >= high[:, None])
    for i, j in np.argwhere(~apart.any(-1)):
        if i < j:
            yield named[i][0], named[j][0]


def unlabelled(figure):
    """Axes with data of which a side does not say what it shows."""
    for ax in figure.axes:
        if not (ax.axison and ax.has_data()):
            continue
        for axis in (ax.xaxis, ax.yaxis):
            shared = getattr(ax, f"get_shared_{axis.axis_name}_axes")()
            labels = [
                getattr(other, f"{axis.axis_name}axis").get_label_text()
                for other in shared.get_siblings(ax)
            ]
            ticks = [text.get_text() for text in shown_ticks(axis)]
            if max(ax.bbox.size) > 5 * min(ax.bbox.size):  # a bar of colours
                labels += [ax.get_xlabel(), ax.get_ylabel()]
            words = any(text.strip("−-.0123456789") for text in ticks)
            if ticks and not words and not any(labels):
                yield ax, axis.axis_name


def behind_legends(figure):
    """Points and bars that a legend covers."""
    for ax in figure.axes:
        legend = ax.get_legend()
        if legend is None:
            continue
        box = legend.get_window_extent()
        for line in ax.lines:
            if line.get_transform() == ax.transData and len(line.get_xydata()):
                points = ax.transData.transform(np.asarray(line.get_xydata(), float))
                if box.count_contains(points):
                    yield line
        for patch in ax.patches:
            if patch.get_transform().contains_branch(ax.transData):
                if Bbox.intersection(box, patch.get_window_extent()):
                    yield patch


def complaints(figure):
    """What cannot be read in a figure, or does not say what it is."""
    figure.draw_without_rendering()
    named, page = list(written(figure)), figure.bbox.padded(SLACK)
    for pair in overlapping(named):
        yield f"overlap: {pair}"
    for text, box in named:
        if not all(page.contains(*corner) for corner in (box.min, box.max)):
            yield f"beyond the edge: {text!r}"
    for ax, side in unlabelled(figure):
        yield f"no label of {side}: {ax}"
    for artist in behind_legends(figure):
        yield f"behind a legend: {artist}"
    if figure.get_figwidth() > WIDTH or figure.get_figheight() > HEIGHT:
        yield f"too large: {figure.get_size_inches()}"


@pytest.mark.filterwarnings("error:.*(constrained_layout|tight_layout)")
@pytest.mark.parametrize("size", extremes.SIZES)
@pytest.mark.parametrize("name", extremes.CASES)
def test_can_be_read(name, size, monkeypatch):
    monkeypatch.setitem(plt.rcParams, "figure.dpi", DPI)
    for drawn in extremes.CASES[name](extremes.SIZES[size]):
        figure = drawn.figure if isinstance(drawn, Axes) else drawn
        assert list(complaints(figure)) == []
        if size == "nothing":
            texts = [text for text, _ in written(figure)]
            assert any("nothing" in text for text in texts), texts
        plt.close(figure)
