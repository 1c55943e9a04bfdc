"""Figures of a sweep, chosen from what varies, and what stands on them."""

import math
import re
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import ticker
from pandas.api.types import is_numeric_dtype

from anbn.core import params, style
from anbn.core.paths import stage_number
from anbn.core.style import COLOURS
from anbn.study import sweep_table, wording

WIDTH = 19  # characters of a line on an axis
MOST_PARAMETERS = 12  # with a panel each
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
    text = f"{name}{f' ({unit[1]})' if unit else ''}, stage {stage_number(stage)}"
    return textwrap.fill(text, 36)


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
    return shorts([value])[0]


def shorts(values):
    """The same for all of a parameter's values: different ones stay different."""
    texts = [v if isinstance(v, str) else f"{v:g}" for v in values]
    names = style.model_names(texts, 2 * WIDTH)
    return [style.wrapped(name, WIDTH) for name in names]


def plot_sweep(table, outcome, parameters):
    """One outcome over what varies.

    One parameter: a line over a number, points over anything else. Two: a line a value
    of the second, or a heat map. Three: a panel a value of the third. More: a panel a
    parameter (of more than ``MOST_PARAMETERS`` the first), of means over all others.

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
            of_third = sweep_table.values(table[third])
            panels = [
                (table[table[third] == v], two, f"{axis_label(third)}: {name}")
                for v, name in zip(of_third, shorts(of_third), strict=True)
            ]
        elif len(counts) > 2:
            chosen = parameters[:MOST_PARAMETERS]
            panels = [(table, [c], _over(parameters, c)) for c in chosen]
        bars = by_value or len(panels) == 1
        figure = _panels(panels, table, outcome, bars)
    text = title(outcome, table)
    if len(parameters) > MOST_PARAMETERS:
        text += f", {MOST_PARAMETERS} of {len(parameters)} parameters"
    wide = int(12 * figure.get_figwidth())
    figure.suptitle(textwrap.fill(text, wide), fontsize=11)
    return figure


def _over(parameters, shown):
    """Title of a panel: which parameters its means are over."""
    others = [c.split(".")[-1] for c in parameters if c != shown]
    if len(others) > 3:
        return f"over all {len(others)} others"
    return textwrap.fill("over all " + ", ".join(others), 44)


def _panels(panels, whole, outcome, bars):
    """Lines of some tables side by side, on one scale, with one legend."""
    n_columns = math.ceil(len(panels) ** 0.5)
    n_rows = -(-len(panels) // n_columns)
    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(min(max(7.5, 4 * n_columns + 1.5), style.WIDEST), 3.6 * n_rows + 0.6),
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
        of_second = sweep_table.values(whole[second])
        groups = [
            (f"{second.split('.')[-1]} {name}", table[table[second] == v])
            for v, name in zip(of_second, shorts(of_second), strict=True)
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
        style.name_columns(
            ax, style.model_names(values), axis_label(name), size=8, most=30
        )
        ax.set_xlim(-0.6, len(values) - 0.4)
        return table[name].map(values.index)
    log = len(values) > 2 and values[0] > 0 and values[-1] >= 8 * values[0]
    if log:
        ax.set_xscale("log")
        ax.set_xlabel(f"{axis_label(name)} (log)")
    if 1 < len(values) <= 10:
        ax.set_xlim(_margins(values, log))
        style.number_ticks(ax.xaxis, values, scale=np.log if log else np.asarray)
    elif len(values) == 1:
        ax.set_xticks(values, [f"{v:g}" for v in values])
    return table[name]


def _margins(values, log):
    """Limits of an axis a little beyond its values."""
    ends = np.array([values[0], values[-1]], float)
    ends = np.log(ends) if log else ends
    ends += np.array([-0.06, 0.06]) * np.ptp(ends)
    return np.exp(ends) if log else ends


def _draw(rows, outcome, ax, colour, label, dodge, numeric, bars):
    ran = sweep_table.done(rows).dropna(subset=[outcome])
    found = sweep_table.means(rows, ["_x"], [outcome]).sort_values("_x")
    dots = 7 if len(ran) <= 100 else 3
    ax.plot(ran["_x"] + dodge, ran[outcome], ".", color=colour, alpha=0.45, ms=dots)
    x, n = found["_x"] + dodge, max(len(found), 1)
    mark = {"marker": "o", "ms": 6 if n <= 40 else 2.5}
    if not numeric:
        mark = {"marker": "_", "ms": np.clip(300 / n, 3, 16), "mew": 2, "ls": ""}
    ax.plot(x, found["mean"], color=colour, label=label, **mark)
    if bars:
        ax.vlines(x, found["low"], found["high"], color=colour, lw=1.5)


def _draw_reference(groups, name, ax, i, numeric):
    """What an outcome is read against: one line, or one a group where they differ."""
    line, label = {"ls": STYLES[i % 5], "lw": 1.2, "zorder": 1}, name.split(":")[1]
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
            ax.plot(found["_x"], found["mean"], color=colour, **line)
        else:
            ends = found["_x"] - 0.3, found["_x"] + 0.3
            ax.hlines(found["mean"], *ends, color=colour, **line)
    ax.plot([], [], color=GREYS[i % 5], label=label, **line)


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
    lines = [line for label in found for line in label.split("\n")]
    fitting = int(13 * figure.get_figwidth() / (max(map(len, lines), default=0) + 8))
    n_columns = max(1, min(3, fitting, len(found)))
    # room below the axes, which keep their size
    more = 0.16 * max(0, len(lines) / n_columns - 2)
    figure.set_figheight(min(figure.get_figheight() + more, style.HIGHEST))
    figure.legend(
        found.values(),
        found.keys(),
        loc="outside lower center",
        ncols=n_columns,
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
    width = min(3.5 + 0.75 * len(xs), style.WIDEST)
    # so many rows have no numbers in them
    highest = style.HIGHEST if len(ys) <= style.MOST_ROWS else 9
    height = min(max(4.2, 2.5 + 0.4 * len(ys)), highest)
    figure, ax = plt.subplots(figsize=(width, height), layout="constrained")
    image = ax.pcolormesh(grid, cmap="viridis", norm="log" if log else "linear")
    written = (width - 3.5) / len(xs) > 0.5 and (height - 2.5) / len(ys) > 0.25
    for (row, column), value in np.ndenumerate(grid if written else np.empty((0, 0))):
        ran = np.isfinite(value)
        colour = "white" if ran and image.norm(value) <= 0.55 else "black"
        text = f"{value:.3g}" if ran else "×"
        ax.text(column + 0.5, row + 0.5, text, ha="center", va="center",
                size=8, color=colour)  # fmt: skip
    said = _name_cells(ax.xaxis, xs, (width - 3.5) / len(xs))
    said_y = _name_cells(ax.yaxis, ys, (height - 2.5) / len(ys))
    beside = sweep_table.done(table)[sweep_table.references(outcome, table.columns)]
    means = [f"{c.split(':')[1]} {v:.3g}" for c, v in beside.mean().dropna().items()]
    note = "mean of all points: " + ", ".join(means)
    note = textwrap.fill(note, int(8 * width))
    ax.set_xlabel(axis_label(x) + said + f"\n{note}" * bool(means))
    ax.set_ylabel(axis_label(y) + said_y)
    bar = figure.colorbar(image, ax=ax)
    bar.set_label(f"{unit(outcome)}{' (log)' * log}, mean over seeds")
    if log:
        _log_ticks(bar.ax.yaxis, image.norm.vmax / image.norm.vmin)
    return figure


def _name_cells(axis, values, inches):
    """Values at the middle of cells that are so many inches long, as many as fit.

    Returns what the axis' label must say of names that are left out.
    """
    upright = axis.axis_name == "x" and any(isinstance(v, str) for v in values)
    step = math.ceil((0.15 if upright or axis.axis_name == "y" else 0.45) / inches)
    names = [v if isinstance(v, str) else f"{v:g}" for v in values]
    names = style.model_names(names)[::step]
    axis.set_ticks(np.arange(0, len(values), step) + 0.5, names, fontsize=8)
    axis.set_tick_params(rotation=90 * upright)
    left_out = step > 1 and isinstance(values[0], str)
    return f"\n({len(values)}, one in {step} named)" * left_out


def plot_variance(shares):
    """What each parameter carries of an outcome's variance, and what chance would.

    ``shares`` is from ``sweep_table.variance``.
    """
    shares = shares.dropna(subset=["share"])
    if not len(shares):
        return style.nothing(what="variance that goes with a parameter").figure
    outcomes = list(dict.fromkeys(shares["outcome"]))
    sources = list(dict.fromkeys(shares["source"]))
    each = 0.3 + 0.15 * len(sources)
    names = outcomes[: max(1, int((style.HIGHEST - 3) / each))]
    height = min(2.4 + len(names) * each, style.HIGHEST)
    figure, ax = plt.subplots(figsize=(10, height), layout="constrained")
    thick = 0.8 / len(sources)
    for i, source in enumerate(sources):
        rows = shares[shares["source"] == source].set_index("outcome").reindex(names)
        y = np.arange(len(names)) + (i - (len(sources) - 1) / 2) * thick
        colour = {"seeds": "0.6", "interplay": "0.8"}.get(source, COLOURS[i % 10])
        label = axis_label(source) if "." in source else source
        ax.barh(y, rows["share"], thick * 0.9, color=colour, label=label)
        ax.vlines(rows["chance"], y - thick / 2, y + thick / 2, color="black", lw=1.5)
    ax.plot([], [], "|", color="black", mew=1.5, label="expected by chance")
    ax.set_yticks(range(len(names)), style.short_names(names))
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_ylabel("summary number")
    if len(names) < len(outcomes):
        ax.set_ylabel(f"{len(names)} of {len(outcomes)} summary numbers, the first")
    ax.set(xlim=(0, 1.02), xlabel="share of the variance over points")
    _legend(figure)
    return figure
