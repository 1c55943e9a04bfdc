"""Figures of a sweep, chosen from what varies, and what stands on them."""

import math
import re
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import ticker
from pandas.api.types import is_numeric_dtype

from anbn.core import params
from anbn.core.paths import stage_number
from anbn.core.style import COLOURS
from anbn.study import sweep_table, wording

WIDTH = 19  # characters of a line on an axis
MOST_CHARACTERS = 48  # side by side below a panel
GREYS = ("0.35", "0.5", "0.5", "0.6", "0.6")
STYLES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
MOST_LINES = 6  # values of a second parameter; with more, a heat map
MOST_PANELS = 4  # values of a third parameter; with more, means over all others


def title(name, table):
    """What a figure shows, of how many points, and whether the data is simulated."""
    ran = sweep_table.done(table)
    counted = int(ran[name].notna().sum())
    number, _, summary = name.partition(":")
    what = wording.summary_name(summary)
    text = f"{what} (stage {number}), {counted} of {len(table)} points"
    return text + simulated(ran)


def simulated(ran):
    """For a title: whether points that ran used simulated data."""
    flags = ran["simulated"].astype(bool)
    if not flags.any():
        return ""
    return ", " + "partly " * (not flags.all()) + "simulated BOLD"


def axis_label(column):
    """A parameter's name, its stage, and its unit where its comment begins with one."""
    stage, _, name = column.rpartition(".")
    if not stage:
        return name
    try:
        comment = params.declared(stage)[name].comment
    except (OSError, KeyError, params.ParamError):
        comment = ""
    unit = re.match(r"(s|mm|Hz|volumes)\b", comment)
    return f"{name}{f' ({unit[1]})' if unit else ''}, stage {stage_number(stage)}"


def unit(outcome):
    """What a summary number counts, for its axis."""
    name = outcome.split(":")[1]
    for pattern, text in (
        (r"ppl|perplexity", "perplexity"),
        (r"_significant_neurons", "neurons"),
        (r"encoding_r|_r_|synchrony|isc|ceiling|fwe", "correlation (r)"),
        (r"networks", "networks"),
        (r"^n_", "number"),
        (r"frac|share|recall|variance|accuracy|^sg_|cut", "share"),
    ):
        if re.search(pattern, name):
            return text
    return "value"


def short(value):
    """A parameter's value as it fits on an axis: long ones broken into lines."""
    text = value if isinstance(value, str) else f"{value:g}"
    parts = text.removeprefix("package:").removesuffix("/model").split("/")
    return "/\n".join(textwrap.fill(part, WIDTH) for part in parts)


def plot_sweep(table, outcome, parameters):
    """One outcome over what varies.

    One parameter: a line over a number, points over anything else. Two: a line a value
    of the second, or a heat map. Three: a panel a value of the third. More: a panel a
    parameter, of means over all others.

    Parameters
    ----------
    table : DataFrame
        From ``sweep_table.read``.
    outcome : str
    parameters : list of str
        Those that vary, from ``sweep_table.design``.

    Returns
    -------
    figure : Figure
    """
    counts = [table[c].nunique() for c in parameters]
    lines = len(counts) < 2 or counts[1] <= MOST_LINES
    if len(counts) == 2 and not lines:
        figure = plot_heat(table, outcome, parameters)
    else:
        by_value = len(counts) == 3 and lines and counts[2] <= MOST_PANELS
        panels = [(table, parameters, "")]
        if by_value:
            *two, third = parameters
            panels = [
                (table[table[third] == v], two, f"{axis_label(third)}: {short(v)}")
                for v in sweep_table.values(table[third])
            ]
        elif len(counts) > 2:
            names = {c: c.split(".")[-1] for c in parameters}
            panels = [
                (table, [c], "over all " + ", ".join(names[o] for o in names if o != c))
                for c in parameters
            ]
        bars = by_value or len(panels) == 1
        figure = _panels(panels, table, outcome, bars)
    figure.suptitle(title(outcome, table), fontsize=11)
    return figure


def _panels(panels, whole, outcome, bars):
    """Lines of some tables side by side, on one scale, with one legend."""
    n_columns = math.ceil(len(panels) ** 0.5)
    n_rows = -(-len(panels) // n_columns)
    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(max(7.5, 4 * n_columns + 1.5), 3.6 * n_rows + 0.6),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for ax, (rows, parameters, name) in zip(axes.flat, panels, strict=False):
        plot_lines(rows, whole, outcome, parameters, ax, bars)
        ax.set_title(name, fontsize=9)
        ax.set_ylabel(ax.get_ylabel() if ax in axes[:, 0] else "")
    _legend(figure)
    return figure


def plot_lines(table, whole, outcome, parameters, ax, bars):
    """Means over the first parameter, a colour a value of the second, a dot a point.

    Points that did not run stand as crosses at the foot. What the outcome is read
    against is drawn in grey, or in the colour of the lines it differs between. A value
    of the second parameter has one colour in all panels of the ``whole`` table.
    """
    first, second = ([*parameters, None, None])[:2]
    table = table.assign(_x=_positions(table, first, ax))
    groups = [("mean", table)]
    if second:
        groups = [
            (f"{second.split('.')[-1]} {short(v)}", table[table[second] == v])
            for v in sweep_table.values(whole[second])
        ]
    numeric = first and is_numeric_dtype(table[first])
    for i, (label, rows) in enumerate(groups):
        dodge = 0 if numeric else 0.12 * (i - (len(groups) - 1) / 2)
        _draw(rows, outcome, ax, COLOURS[i % 10], label, dodge, numeric, bars)
    for i, name in enumerate(sweep_table.references(outcome, table.columns)):
        _draw_reference([rows for _, rows in groups], name, ax, i, numeric)
    unrun = table.loc[table["status"] != "done", "_x"].unique()
    if len(unrun):
        foot = {"transform": ax.get_xaxis_transform(), "clip_on": False}
        y = np.full(len(unrun), 0.02)
        ax.plot(unrun, y, "x", color="0.3", label="failed or not run", **foot)
    _value_axis(ax, outcome)
    return ax


def _positions(table, name, ax):
    """Where points stand along the axis, which is labelled."""
    if name is None:
        ax.set_xticks([0], ["all seeds"])
        ax.set_xlim(-1, 1)
        return np.zeros(len(table))
    values = sweep_table.values(table[name])
    ax.set_xlabel(axis_label(name))
    if not is_numeric_dtype(table[name]):
        names = [short(v) for v in values]
        longest = max(len(line) for name in names for line in name.split("\n"))
        upright = 90 * (longest * len(names) > MOST_CHARACTERS)
        ax.set_xticks(range(len(names)), names, rotation=upright, fontsize=8)
        ax.set_xlim(-0.6, len(values) - 0.4)
        return table[name].map(values.index)
    if len(values) > 2 and values[0] > 0 and values[-1] >= 8 * values[0]:
        ax.set_xscale("log")
        ax.set_xlabel(f"{axis_label(name)} (log)")
    if len(values) <= 10:
        ax.set_xticks(values, [f"{v:g}" for v in values])
        ax.set_xticks([], minor=True)
    return table[name]


def _draw(rows, outcome, ax, colour, label, dodge, numeric, bars):
    ran = sweep_table.done(rows).dropna(subset=[outcome])
    found = sweep_table.means(rows, ["_x"], [outcome]).sort_values("_x")
    ax.plot(ran["_x"] + dodge, ran[outcome], ".", color=colour, alpha=0.45, ms=7)
    x, style = found["_x"] + dodge, {"marker": "o", "ms": 6}
    if not numeric:
        style = {"marker": "_", "ms": 16, "mew": 2, "ls": ""}
    ax.plot(x, found["mean"], color=colour, label=label, **style)
    if bars:
        ax.vlines(x, found["low"], found["high"], color=colour, lw=1.5)


def _draw_reference(groups, name, ax, i, numeric):
    """What an outcome is read against: one line, or one a group where they differ."""
    style, label = {"ls": STYLES[i % 5], "lw": 1.2, "zorder": 1}, name.split(":")[1]
    each = [sweep_table.means(rows, ["_x"], [name]) for rows in groups]
    centres = [found["mean"].mean() for found in each if len(found)]
    sets = [(sweep_table.means(pd.concat(groups), ["_x"], [name]), GREYS[i % 5])]
    if not centres:
        return
    if np.ptp(centres) > 0.02 * np.abs(centres).max():
        sets = list(zip(each, COLOURS, strict=False))
        label += "\n(in the colour of its line)"
    for found, colour in sets:
        if numeric:
            ax.plot(found["_x"], found["mean"], color=colour, **style)
        else:
            ends = found["_x"] - 0.3, found["_x"] + 0.3
            ax.hlines(found["mean"], *ends, color=colour, **style)
    ax.plot([], [], color=GREYS[i % 5], label=label, **style)


def _value_axis(ax, outcome):
    ax.set_ylabel(unit(outcome))
    if sweep_table.is_log(outcome):
        ax.set_yscale("log")
        ax.set_ylabel(f"{unit(outcome)} (log)")
        low, high = ax.get_ylim()
        _log_ticks(ax.yaxis, high / low)
    elif unit(outcome) in ("number", "networks", "neurons"):
        ax.yaxis.get_major_locator().set_params(integer=True)
    ax.margins(y=0.1)


def _log_ticks(axis, ratio):
    """Plain numbers where less than two powers of ten are shown."""
    if ratio < 100:
        axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(ticker.NullLocator())


def _legend(figure):
    """One legend for all axes of a figure, below them."""
    found = {}
    for ax in figure.axes:
        handles, labels = ax.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    figure.legend(
        found.values(),
        found.keys(),
        loc="outside lower center",
        ncols=min(3, len(found)),
        fontsize=8,
        frameon=False,
    )


def plot_heat(table, outcome, parameters):
    """Means over two parameters with many values each; a blank cell did not run."""
    x, y = parameters
    found = sweep_table.means(table, parameters, [outcome])
    xs, ys = (sweep_table.values(table[name]) for name in parameters)
    grid = found.pivot(index=y, columns=x, values="mean").reindex(index=ys, columns=xs)
    grid, log = grid.to_numpy(float), sweep_table.is_log(outcome) and len(found) > 0
    size = (3 + 0.9 * len(xs), max(4.2, 2 + 0.5 * len(ys)))
    figure, ax = plt.subplots(figsize=size, layout="constrained")
    image = ax.pcolormesh(grid, cmap="viridis", norm="log" if log else "linear")
    for (row, column), value in np.ndenumerate(grid):
        ran = np.isfinite(value)
        style = {"ha": "center", "va": "center", "size": 8, "color": "black"}
        if ran and image.norm(value) <= 0.55:
            style["color"] = "white"
        ax.text(column + 0.5, row + 0.5, f"{value:.3g}" if ran else "×", **style)
    ax.set_xticks(np.arange(len(xs)) + 0.5, [short(v) for v in xs])
    ax.set_yticks(np.arange(len(ys)) + 0.5, [short(v) for v in ys])
    ax.tick_params(labelsize=8)
    if not is_numeric_dtype(table[x]):
        ax.tick_params("x", rotation=90)
    beside = sweep_table.done(table)[sweep_table.references(outcome, table.columns)]
    means = [f"{c.split(':')[1]} {v:.3g}" for c, v in beside.mean().dropna().items()]
    note = textwrap.fill("mean of all points: " + ", ".join(means), 70)
    ax.set(xlabel=axis_label(x) + f"\n{note}" * bool(means), ylabel=axis_label(y))
    bar = figure.colorbar(image, ax=ax)
    bar.set_label(f"{unit(outcome)}{' (log)' * log}, mean over seeds")
    if log:
        _log_ticks(bar.ax.yaxis, image.norm.vmax / image.norm.vmin)
    return figure


def plot_variance(shares):
    """What each parameter carries of an outcome's variance, and what chance would.

    ``shares`` is from ``sweep_table.variance``.
    """
    shares = shares.dropna(subset=["share"])
    names = list(dict.fromkeys(shares["outcome"]))
    sources = list(dict.fromkeys(shares["source"]))
    height = 1.2 + len(names) * (0.3 + 0.15 * len(sources))
    figure, ax = plt.subplots(figsize=(7.5, height), layout="constrained")
    thick = 0.8 / len(sources)
    for i, source in enumerate(sources):
        rows = shares[shares["source"] == source].set_index("outcome").reindex(names)
        y = np.arange(len(names)) + (i - (len(sources) - 1) / 2) * thick
        colour = {"seeds": "0.6", "interplay": "0.8"}.get(source, COLOURS[i % 10])
        label = axis_label(source) if "." in source else source
        ax.barh(y, rows["share"], thick * 0.9, color=colour, label=label)
        ax.vlines(rows["chance"], y - thick / 2, y + thick / 2, color="black", lw=1.5)
    ax.plot([], [], "|", color="black", mew=1.5, label="expected by chance")
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1.02), xlabel="share of the variance over points")
    _legend(figure)
    return figure
