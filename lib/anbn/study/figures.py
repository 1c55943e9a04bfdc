"""Figures of a sweep, chosen from what varies, and what stands on them."""

import re
import textwrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import ticker

from anbn.core import params
from anbn.core.paths import stage_number
from anbn.core.style import COLOURS
from anbn.study import sweep_table, wording

WIDTH = 22  # characters of a line on an axis
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
    flags = ran["simulated"].astype(bool) if "simulated" in ran else ran["status"] == ""
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


def short(values):
    """Text values as they fit on an axis: long ones broken, their end kept."""
    texts = [str(v).removeprefix("package:").removesuffix("/model") for v in values]
    ends = [t if len(t) <= 2 * WIDTH else "…" + t[-2 * WIDTH :] for t in texts]
    ends = ends if len(set(ends)) == len(set(texts)) else texts
    marked = [re.sub(r"(?<=[/_.,-])", "\0", t) for t in ends]  # may break there
    lines = [textwrap.wrap(t.replace("\0", "\0 "), WIDTH) for t in marked]
    joined = ["\n".join(x).replace("\0 ", "").replace("\0", "") for x in lines]
    return dict(zip(values, joined, strict=True))


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
    if len(parameters) <= 2:
        width = 7.5 if lines else 2.5 + 0.9 * counts[0]
        figure, ax = plt.subplots(figsize=(width, 4.2), layout="constrained")
        draw = plot_lines if lines else plot_heat
        draw(table, outcome, parameters, ax=ax)
    elif len(parameters) == 3 and lines and counts[2] <= MOST_PANELS:
        figure = _small_multiples(table, outcome, parameters)
    else:
        figure = _marginal(table, outcome, parameters)
    figure.suptitle(title(outcome, table), fontsize=11)
    return figure


def _small_multiples(table, outcome, parameters):
    *two, third = parameters
    values = sweep_table.values(table[third])
    size = (4 * len(values) + 1.5, 4.2)
    figure, axes = plt.subplots(
        1, len(values), figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    names = short(values)
    for ax, value in zip(axes[0], values, strict=True):
        plot_lines(table[table[third] == value], outcome, two, ax=ax, legend=False)
        ax.set_title(f"{axis_label(third)}: {names[value]}", fontsize=9)
        ax.label_outer()
    _legend(axes[0])
    return figure


def _marginal(table, outcome, parameters):
    n_columns = 2 if len(parameters) == 4 else min(3, len(parameters))
    n_rows = -(-len(parameters) // n_columns)
    size = (4 * n_columns + 1.5, 3.6 * n_rows)
    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=size,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[len(parameters) :]:
        ax.set_axis_off()
    for ax, name in zip(axes.flat, parameters, strict=False):
        plot_lines(table, outcome, [name], ax=ax, legend=False, bars=False)
        others = ", ".join(c.split(".")[-1] for c in parameters if c != name)
        ax.set_title(f"over all {others}", fontsize=9)
        ax.set_ylabel(ax.get_ylabel() if ax in axes[:, 0] else "")
    _legend(axes.flat[: len(parameters)])
    return figure


def plot_lines(table, outcome, parameters, ax, legend=True, bars=True):
    """Means over the first parameter, a colour a value of the second, a dot a point.

    Points that did not run stand as crosses at the foot. What the outcome is read
    against is drawn in grey, or in the colour of the lines it differs between.
    """
    first, second = ([*parameters, None, None])[:2]
    table = table.assign(_x=_positions(table, first, ax))
    groups = sweep_table.values(table[second]) if second else [None]
    names = short([_plain(g) for g in groups])
    beside = sweep_table.references(outcome, table.columns)
    numeric = first and sweep_table.is_numeric(table[first])
    for i, group in enumerate(groups):
        rows = table[table[second] == group] if second else table
        colour = COLOURS[i % 10]
        label = f"{second.split('.')[-1]} {names[_plain(group)]}" if second else "mean"
        dodge = 0 if numeric else 0.12 * (i - (len(groups) - 1) / 2)
        # equal lines stay visible: each is thinner than those beneath it
        broad = (len(groups) - 1 - i) * min(2, 5 / len(groups))
        _draw(rows, outcome, ax, colour, label, dodge, numeric, bars, broad)
    for i, name in enumerate(beside):
        _draw_reference(table, name, second, groups, ax, i, numeric)
    unrun = table.loc[table["status"] != "done", "_x"].unique()
    foot = {"transform": ax.get_xaxis_transform(), "color": "0.3", "clip_on": False}
    if len(unrun):
        ax.plot(
            unrun, np.full(len(unrun), 0.02), "x", label="failed or not run", **foot
        )
    _value_axis(ax, outcome)
    if legend:
        _legend([ax])
    return ax


def _plain(value):
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)


def _positions(table, name, ax):
    """Where points stand along the axis, which is labelled."""
    if name is None:
        ax.set_xticks([0], ["all seeds"])
        ax.set_xlim(-1, 1)
        return np.zeros(len(table))
    values = sweep_table.values(table[name])
    ax.set_xlabel(axis_label(name))
    if not sweep_table.is_numeric(table[name]):
        names = short(values)
        crowded = len(values) > 3
        ax.set_xticks(
            range(len(values)),
            [names[v] for v in values],
            **({"rotation": 30, "ha": "right", "fontsize": 8} if crowded else {}),
        )
        ax.set_xlim(-0.6, len(values) - 0.4)
        return table[name].map(values.index)
    if len(values) > 2 and values[0] > 0 and values[-1] >= 8 * values[0]:
        ax.set_xscale("log")
        ax.set_xlabel(f"{axis_label(name)} (log)")
    if len(values) <= 10:
        ax.set_xticks(values, [f"{v:g}" for v in values])
        ax.set_xticks([], minor=True)
    return table[name]


def _draw(rows, outcome, ax, colour, label, dodge, numeric, bars, broad):
    ran = sweep_table.done(rows).dropna(subset=[outcome])
    found = sweep_table.means(rows, ["_x"], [outcome]).sort_values("_x")
    ax.plot(ran["_x"] + dodge, ran[outcome], ".", color=colour, alpha=0.45, ms=7)
    x, line = found["_x"] + dodge, "-" if numeric else ""
    marker = "o" if numeric else "_"
    size = {"ms": 6 + 2 * broad if numeric else 22, "lw": 1.5 + broad, "mew": 2}
    ax.plot(x, found["mean"], line + marker, color=colour, **size)
    ax.plot([], [], line + marker, color=colour, label=label, mew=2, ms=8)
    if bars:
        ax.vlines(x, found["low"], found["high"], color=colour, lw=1.5)


def _draw_reference(table, name, second, groups, ax, i, numeric):
    label, style = name.split(":")[1], {"ls": STYLES[i % 5], "lw": 1.2, "zorder": 1}
    found = sweep_table.means(table, ["_x"], [name]).sort_values("_x")
    if found.empty:
        return
    sets = [(found, GREYS[i % 5])]
    if second:
        each = [
            sweep_table.means(table[table[second] == g], ["_x"], [name]) for g in groups
        ]
        centres = [e["mean"].mean() for e in each if len(e)]
        differ = np.ptp(centres) > 0.02 * np.abs(centres).max()
        if differ and len(groups) <= MOST_PANELS:
            sets = [(e, COLOURS[j % 10]) for j, e in enumerate(each)]
            label += "\n(in the colour of its line)"
        elif differ:
            label += f"\n(mean over {second.split('.')[-1]})"
    for rows, colour in sets:
        rows = rows.sort_values("_x")
        if numeric and len(rows) > 1:
            ax.plot(rows["_x"], rows["mean"], color=colour, **style)
        else:
            half = 0 if numeric else 0.3
            ends = (rows["_x"] - half, rows["_x"] + half)
            ax.hlines(rows["mean"], *ends, color=colour, **style)
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


def _legend(axes):
    """One legend for some axes, below them."""
    found = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    axes[0].figure.legend(
        found.values(),
        found.keys(),
        loc="outside lower center",
        ncols=min(3, len(found)),
        fontsize=8,
        frameon=False,
    )


def plot_heat(table, outcome, parameters, ax):
    """Means over two parameters with many values each; a blank cell did not run."""
    x, y = parameters
    found = sweep_table.means(table, parameters, [outcome])
    grid = found.pivot(index=y, columns=x, values="mean").reindex(
        index=sweep_table.values(table[y]), columns=sweep_table.values(table[x])
    )
    log = sweep_table.is_log(outcome) and len(found) > 0
    norm = "log" if log else "linear"
    image = ax.pcolormesh(grid.to_numpy(float), cmap="viridis", norm=norm)
    for (row, column), value in np.ndenumerate(grid.to_numpy(float)):
        colour = "0.3"
        if np.isfinite(value):
            colour = "black" if image.norm(value) > 0.55 else "white"
        text = f"{value:.3g}" if np.isfinite(value) else "×"
        ax.text(
            column + 0.5,
            row + 0.5,
            text,
            ha="center",
            va="center",
            color=colour,
            size=8,
        )
    for axis, values in ((ax.xaxis, grid.columns), (ax.yaxis, grid.index)):
        names = short([_plain(v) for v in values])
        axis.set_ticks(np.arange(len(values)) + 0.5, [names[_plain(v)] for v in values])
    beside = sweep_table.references(outcome, table.columns)
    ran = sweep_table.done(table)
    known = [f"{c.split(':')[1]} {ran[c].mean():.3g}" for c in beside if ran[c].any()]
    note = "\n".join(textwrap.wrap("mean of all points: " + ", ".join(known), 70))
    ax.set(xlabel=axis_label(x) + f"\n{note}" * bool(known), ylabel=axis_label(y))
    bar = ax.figure.colorbar(image, ax=ax)
    bar.set_label(f"{unit(outcome)}{' (log)' * log}, mean over seeds")
    if log:
        _log_ticks(bar.ax.yaxis, image.norm.vmax / image.norm.vmin)
    return ax


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
    _legend([ax])
    return figure
