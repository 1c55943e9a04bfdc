"""Colours, rows and names that all figures share, of one network and of hundreds."""

import textwrap
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

COLOURS = plt.get_cmap("tab10").colors
MOST_ROWS = 40  # that are all named
NAMED = 12  # the strongest, where there are more
GAP = 0.5  # between those that are named and the others, in rows
MOST_CHARACTERS = 40  # of a name beside an axis
MOST_IN_LEGEND = 30
ROW = 0.25  # inches
WIDEST, HIGHEST = 13.5, 15.5  # of a figure, inches


def axes_of(ax, width=9.0, height=3.2):
    """The axes given, or those of a new figure of a size that fits a page."""
    if ax is None:
        size = min(width, WIDEST), min(height, HIGHEST)
        _, ax = plt.subplots(figsize=size, layout="constrained")
    return ax


def nothing(ax=None, what="networks or regions"):
    """Axes that say that there is nothing to show."""
    ax = axes_of(ax, 6, 1.6)
    ax.text(
        0.5,
        0.5,
        f"nothing to show: no {what}",
        ha="center",
        va="center",
        transform=ax.transAxes,
    )
    ax.set(xticks=[], yticks=[])
    return ax


def short_names(names, most=MOST_CHARACTERS):
    """Names cut in their middle to what fits; different ones stay different.

    Those that would be the same then get their place in the list.
    """
    names = [str(name) for name in names]
    cut = [_cut(name, most) for name in names]
    meant = {}
    for name, shown in zip(names, cut, strict=True):
        meant.setdefault(shown, set()).add(name)
    return [
        f"{_cut(name, most - 6)} ({i})" if len(meant[shown]) > 1 else shown
        for i, (name, shown) in enumerate(zip(names, cut, strict=True))
    ]


def _cut(name, most):
    if len(name) <= most:
        return name
    end = most // 2
    return f"{name[: most - end - 1].rstrip()}…{name[-end:].lstrip()}"


def model_names(names, most=MOST_IN_LEGEND):
    """Names of models without the folders, organisation or package they lie in.

    As much of a path is kept as tells it from the others: ``gpt2`` of ``org/gpt2`` and
    ``/data/models/gpt2/``, but ``a/gpt2`` and ``b/gpt2`` where both are there. Too long
    ones are cut as by ``short_names``.
    """
    parts = {str(name): _path(str(name)) for name in names}

    def ends(parts, n):
        return "/".join(parts[-n:])

    shown = []
    for own in parts.values():
        others = [other for other in parts.values() if other != own]
        n = 1
        while n < len(own) and any(ends(own, n) == ends(x, n) for x in others):
            n += 1
        shown.append(ends(own, n))
    known = dict(zip(parts, short_names(shown, most), strict=True))
    return [known[str(name)] for name in names]


def _path(name):
    bare = name.removeprefix("package:").rstrip("/").removesuffix("/model")
    one = not bare or (" " in bare and not name.startswith(("/", "package:")))
    return [name] if one else bare.split("/")


def wrapped(name, width):
    """A name in lines of so many characters, broken at ``/``, ``-`` and blanks."""
    parts = name.split("/") if len(name) > width else [name]
    return "/\n".join(textwrap.fill(part, width) for part in parts)


@dataclass(frozen=True)
class Rows:
    """Where networks or regions lie, one below another, and which of them are named."""

    names: list
    parts: list  # of int arrays: rows that stand together, from top to bottom
    y: np.ndarray  # (n_rows,), the middle of each, growing downwards
    height: np.ndarray  # (n_rows,)
    label: str

    @property
    def many(self):
        return bool((self.height < 1).any())

    @property
    def inches(self):
        """Height of a figure of these rows."""
        return max(3.0, ROW * (self.y + self.height / 2).max(initial=0) + 1.4)

    def sized(self, large, small):
        """A size for every row: large where it is named, small where it is thin."""
        return np.where(self.height < 1, small, large)

    def mesh(self, ax, values, **style):
        """Values of shape (n_rows, n_columns) as colours, columns at 0, 1, ..."""
        x = np.arange(values.shape[1] + 1) - 0.5
        for part in self.parts:
            half = self.height[part] / 2
            edges = np.append(self.y[part] - half, self.y[part[-1]] + half[-1])
            image = ax.pcolormesh(x, edges, values[part], **style)
        return image

    def bars(self, ax, values, colour, label, *, i=0, n=1):
        """Bars, the i-th of n in a row; of thin rows an area, or dots where n > 1."""
        large, thick = self.height == 1, 0.8 * self.height / n
        y = self.y - 0.4 * self.height + (i + 0.5) * thick
        ax.barh(y[large], values[large], thick[large], color=colour, label=label)
        for part in self.parts:
            if self.height[part[0]] == 1:
                continue
            if n == 1:
                area = {"step": "mid", "color": colour, "lw": 0}
                ax.fill_betweenx(y[part], 0, values[part], **area)
            else:
                ax.scatter(values[part], y[part], 4, color=colour, lw=0)

    def marks(self, ax, values, colour, label, *, half=0.4, i=0, n=1, lw=2):
        """Upright marks in rows, as of a null; see ``bars``."""
        thick = 2 * half * self.height / n
        top = self.y - half * self.height + i * thick
        ax.vlines(values, top, top + thick, color=colour, lw=lw, label=label)

    def name(self, ax, *, size=9):
        """Names, limits and label of the axis; where there are more axes, of one."""
        shown, ticks, labels = short_names(self.names), [], []
        for part in self.parts:
            if self.height[part[0]] == 1:
                ticks += list(self.y[part])
                labels += [shown[i] for i in part]
            else:
                ticks.append(self.y[part].mean())
                labels.append(f"{len(part)} others")
        ax.set_yticks(ticks, labels, fontsize=size, parse_math=False)
        ax.set_ylim((self.y + self.height / 2).max() + 0.2, -0.2)
        ax.set_ylabel(self.label)


def rows(names, strength, by, *, ordered=True, n_null=0, what="networks or regions"):
    """Places for rows: all named, or the strongest, and all others thin below them.

    Parameters
    ----------
    names : list of str
    strength : array of shape (n_rows,)
        The largest come first; NaN last.
    by : str
        What strength is, in words.
    ordered : bool
        Whether so few that all are named are sorted, too.
    n_null : int
        The last rows are what chance gives: they stay last, and named.
    what : str
    """
    n = len(names) - n_null
    strength = np.asarray(strength, float)[:n]
    order = np.argsort(-np.where(np.isnan(strength), -np.inf, strength), kind="stable")
    label = f"{what},\nby {by}"
    parts = [order if ordered else np.arange(n)]
    if n > MOST_ROWS:
        parts = [order[:NAMED], order[NAMED:]]
        label = f"{NAMED} of {n} {what} named,\nby {by}"
    elif not ordered or n < 2:
        label = what
    if n_null:
        parts.append(np.arange(n, len(names)))
    y, height, top = np.zeros(len(names)), np.ones(len(names)), 0.0
    for i, part in enumerate(parts):
        if n > MOST_ROWS and i == 1:
            height[part] = NAMED / len(part)
        y[part] = top + (np.arange(len(part)) + 0.5) * height[part]
        top += height[part].sum() + GAP
    return Rows([*map(str, names)], parts, y, height, label)


def legend_beside(ax, **options):
    """A legend at the right of the axes, never over data."""
    if ax.get_legend_handles_labels()[0]:
        legend = ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), **options)
        for text in legend.get_texts():
            text.set_parse_math(False)


def name_columns(ax, names, label, *, size=9, most=24):
    """Names along x, upright where they would not fit side by side.

    Of more than ``MOST_ROWS`` every so many is named, and the axis' label says so.
    """
    labels = short_names(names, most)
    step = -(-len(labels) // MOST_ROWS) if labels else 1
    across = ax.get_position().width * ax.figure.get_figwidth()
    longest = max(map(len, labels), default=0)
    upright = 90 * (0.012 * size * longest * len(labels) > across)
    ax.set_xticks(
        range(0, len(labels), step),
        labels[::step],
        rotation=upright,
        fontsize=size,
        parse_math=False,
    )
    ax.set_xlabel(label + f" ({len(labels)}, one in {step} named)" * (step > 1))


def number_ticks(axis, values, text="{:g}", scale=np.asarray, keep=()):
    """Ticks at some of the values of an axis, so far apart that their numbers fit.

    ``scale`` is what the axis does to values. Those of ``keep`` go first, then the
    largest.
    """
    low, high = axis.get_view_interval()
    size = axis.axes.get_position().width * axis.axes.figure.get_figwidth()
    labels = [text(v) if callable(text) else text.format(v) for v in values]
    place = scale(np.array([low, high, *values], float))
    place = size * (place[2:] - place[0]) / max(place[1] - place[0], 1e-12)
    shown = []
    for i in sorted(range(len(values)), key=lambda i: (values[i] not in keep, -i)):
        half = [0.05 * len(labels[k]) + 0.04 for k in (*shown, i)]
        apart = np.abs(place[i] - place[shown])
        if (apart >= np.array(half[:-1]) + half[-1]).all():
            shown.append(i)
    shown.sort()
    axis.set_ticks([values[i] for i in shown], [labels[i] for i in shown])
    axis.set_ticks([], minor=True)


def layer_ticks(ax, layers, label="layer"):
    """Numbers of layers, say, below columns at 0, 1, ..., as many as fit."""
    last = len(layers) - 1
    ticks = MaxNLocator(9, integer=True, min_n_ticks=1).tick_values(0, max(last, 1))
    ticks = [int(t) for t in ticks if 0 <= t <= last and t == int(t)]
    ax.set_xticks(ticks, [str(layers[t]) for t in ticks])
    ax.set_xlabel(label)


def whole_numbers(axis):
    """Ticks of an axis that counts."""
    axis.set_major_locator(MaxNLocator(9, integer=True, min_n_ticks=1))
