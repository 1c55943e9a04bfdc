"""Figures of masks: cost beside controls, domains, suites, pruning, fingerprint."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import SymLogNorm
from matplotlib.ticker import FuncFormatter, NullFormatter

from anbn.core import style
from anbn.core.style import COLOURS, axes_of, legend_beside

NATS = [-3, -1, -0.3, -0.1, 0, 0.1, 0.3, 1, 3, 10]  # marks of an axis
DASHES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))  # of controls
KINDS = ((True, "related", COLOURS[0]), (False, "unrelated", COLOURS[1]))


def _plain(value, _=None):
    """1234567 as 1.2M: perplexities span many orders."""
    if value >= 1e15:
        return f"{value:.0e}"
    for size, sign in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{sign}"
    return f"{value:.3g}"


def _log_perplexity(axis, values):
    """A logarithmic axis with readable numbers, more where the span is small."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values) & (values > 0)]
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_formatter(FuncFormatter(_plain))
    if len(values) and values.max() / values.min() < 30:
        axis.set_minor_formatter(FuncFormatter(_few))
    else:
        axis.set_minor_formatter(NullFormatter())


def _few(value, _=None):
    leading = value / 10 ** np.floor(np.log10(value))
    return _plain(value) if round(leading, 6) in (2, 3, 5, 7) else ""


def plot_against_controls(table, base, ax=None):
    """Perplexity under each mask, and under the draws of its controls.

    ``table`` is that of ``damage.perplexity`` with intervals and the column ``n``;
    ``base`` is the intact model's perplexity. The axis is logarithmic in the nats lost
    (linear below 0.1), so that one mask that destroys the model leaves the others to be
    seen. Of more masks than fit, the most damaging are drawn.
    """
    masks = table[(table["control"] == "") & (table["group"] != "intact")]
    if not len(masks):
        return style.nothing(ax, "masks")
    drawn = table[table["control"] != ""]
    controls = list(dict.fromkeys(drawn["control"]))
    per_mask = max(0.45, 0.16 * (len(controls) + 1.6))
    most, n_masks = int((style.HIGHEST - 2.2) / per_mask), len(masks)
    place = masks["perplexity"].rank(
        ascending=False, method="first", na_option="bottom"
    )
    masks = masks[place <= most]
    ax = axes_of(ax, 11, max(2.8, per_mask * len(masks) + 2))
    # the mask on top of its place, its controls below
    places = np.linspace(0.3, -0.3, len(controls) + 1)
    for i, row in enumerate(masks.itertuples()):
        own = drawn[(drawn["group"] == row.group) & (drawn["n"] == row.n)]
        at = i - places[0]
        ends = np.log([row.low / base, row.high / base])
        ax.plot(ends, [at, at], color="k", lw=1.5)
        ax.plot(np.log(row.perplexity / base), at, "D", color="k", ms=6, zorder=4)
        for k, (control, place) in enumerate(zip(controls, places[1:], strict=True)):
            colour = COLOURS[k % len(COLOURS)]
            nats = np.log(own.loc[own["control"] == control, "perplexity"] / base)
            y = np.full(len(nats), i - place)
            ax.plot(nats, y, ".", color=colour, ms=6, alpha=0.45, mew=0)
            ax.plot(nats.median(), i - place, "|", color=colour, ms=11, mew=2.2)
        if i:
            ax.axhline(i - 0.5, color="0.9", lw=0.8)
    ax.plot([], [], "D", color="k", label="the mask, interval\nover documents")
    shown = style.short_names(controls, style.MOST_IN_LEGEND)
    for k, control in enumerate(shown):
        colour = COLOURS[k % len(COLOURS)]
        ax.plot([], [], ".-", color=colour, label=f"{control}:\ndraws, median")
    ax.axvline(0, color="0.4", ls=":", label=f"intact ({base:.1f})")
    nats = pd.concat([table["perplexity"], masks["low"], masks["high"]])
    nats = np.log(nats / base)
    nats = nats[np.isfinite(nats)]
    low = 1.2 * min(nats.min(), 0) - 0.03
    high = 1.4 * max(nats.max(), 0) + 0.03
    ticks = [t for t in NATS if low <= t <= high]
    above = ax.twiny()
    for axes in (ax, above):
        axes.set_xscale("asinh", linear_width=0.1)
        axes.set_xlim(low, high)
    scale = {"scale": lambda nats: np.arcsinh(nats / 0.1), "keep": [0]}
    style.number_ticks(ax.xaxis, ticks, lambda t: _plain(base * np.exp(t)), **scale)
    style.number_ticks(above.xaxis, ticks, **scale)
    above.set_xlabel("nats a token above intact")
    ax.set_xlabel("perplexity")
    names = style.short_names(masks["group"])
    labels = [f"{k}\n({n:g} neurons)" for k, n in zip(names, masks["n"], strict=True)]
    ax.set_yticks(range(len(masks)), labels, fontsize=9, parse_math=False)
    ax.set(ylim=(len(masks) - 0.5, -0.5), ylabel="mask")
    if n_masks > len(masks):
        ax.set_ylabel(f"{len(masks)} of {n_masks} masks, the most damaging")
    legend_beside(ax)
    return ax


def plot_domain_matrix(matrix, significant, ax=None):
    """Damage by every network in every domain of text, a star where it is special.

    ``matrix`` and ``significant`` are DataFrames (networks x domains), of nats a token
    above intact and bool; colours are logarithmic above 0.1 nats. Of more than
    ``style.MOST_ROWS`` networks the most damaging are named.
    """
    if not matrix.size:
        return style.nothing(ax, "masks or domains")
    n_columns = matrix.shape[1]
    values = matrix.to_numpy(float)
    damage = matrix.max(axis=1)
    rows = style.rows(matrix.index, damage, "largest damage", ordered=False,
                      what="masks")  # fmt: skip
    ax = axes_of(ax, 0.75 * n_columns + 6, rows.inches + 0.8)
    top = max(np.nanmax(values, initial=0), 0.2)
    norm = SymLogNorm(0.1, vmin=0, vmax=top, clip=True)
    colours = plt.get_cmap("YlOrRd").with_extremes(bad="0.8")
    image = rows.mesh(ax, values, cmap=colours, norm=norm)
    stars = significant.reindex(matrix.index, columns=matrix.columns)
    stars = stars.fillna(False).to_numpy(bool)
    written = ~np.isnan(values) & (rows.height == 1)[:, None] & (n_columns <= 14)
    for i, j in np.argwhere(written):
        value = values[i, j]
        text = f"{value:.2g}" if abs(value) >= 0.01 else f"{value:.2f}"
        ax.text(
            j, rows.y[i], text + "*" * int(stars[i, j]), ha="center", va="center",
            color="w" if norm(value) > 0.65 else "k", fontsize=8,
            weight="bold" if stars[i, j] else "normal",
        )  # fmt: skip
    # too many columns for numbers; thin rows would be covered
    row, column = np.nonzero(stars & ~written & (rows.height == 1)[:, None])
    ax.scatter(column, rows.y[row], 60, marker="*", color="k", ec="w", lw=0.4)
    rows.name(ax)
    label = f"domain of text (*: special to it, {stars.sum()} of {values.size})"
    style.name_columns(ax, matrix.columns, label)
    extend = "min" if np.nanmin(values, initial=0) < 0 else None
    bar = ax.figure.colorbar(image, ax=ax, extend=extend)
    bar.set_label("damage (nats a token\nabove intact)")
    ticks = [t for t in (0, 0.1, 0.3, 1, 3, 10) if t <= top]
    bar.set_ticks(ticks, labels=[f"{t:g}" for t in ticks])
    bar.ax.minorticks_off()
    return ax


def plot_shares(curves, base, ax=None, *, value="perplexity"):
    """Perplexity or accuracy against the share of neurons, a line a criterion.

    ``curves`` has the columns ``group``, ``share``, ``value`` and, for bands, ``low``
    and ``high``. ``base`` is the intact model's. Perplexity has a logarithmic axis.
    """
    if not len(curves):
        return style.nothing(ax, "shares")
    lines = list(curves.groupby("group", sort=False))
    ax = axes_of(ax, 10, max(4.2, 0.24 * len(lines) + 1.2))
    names = style.short_names([group for group, _ in lines])
    for i, (name, (_, rows)) in enumerate(zip(names, lines, strict=True)):
        rows, colour = rows.sort_values("share"), COLOURS[i % len(COLOURS)]
        line = ("o-", "s--", "^:")[i // len(COLOURS) % 3]
        x = 100 * rows["share"]
        ax.plot(x, rows[value], line, color=colour, label=name, ms=4)
        ax.fill_between(x, rows["low"], rows["high"], color=colour, alpha=0.15, lw=0)
    shown = f"{base:.1f}" if value == "perplexity" else f"{base:.2f}"
    ax.axhline(base, color="k", ls=":", label=f"intact ({shown})")
    if value == "perplexity":
        _log_perplexity(ax.yaxis, [*curves[value], base])
    ax.set(xlabel="share of the neurons (%)", ylabel=value)
    legend_beside(ax)
    return ax


def plot_suites(scores, ax=None):
    """Accuracy in every test suite, a mark a model or mask.

    ``scores`` is a DataFrame (suites x models), shown in the order of its first column.
    Of more than ``style.MOST_ROWS`` suites those in which models differ most are named.
    """
    if not scores.size:
        return style.nothing(ax, "suites")
    low, high = scores.min(axis=1), scores.max(axis=1)
    strength, by = scores.iloc[:, 0], f"accuracy of {scores.columns[0]}"
    if len(scores) > style.MOST_ROWS:
        strength, by = high - low, "how much they differ"
    rows = style.rows(scores.index, strength, by, what="suites")
    ax = axes_of(ax, 10, rows.inches)
    ax.hlines(rows.y, low, high, color="0.85", zorder=0)
    names = style.model_names(scores.columns)
    for i, (name, model) in enumerate(zip(names, scores, strict=True)):
        # rings: equal scores stay visible inside one another
        size = 9 - 5 * i / max(len(scores.columns) - 1, 1)
        known = scores[model].notna().to_numpy()
        ax.scatter(
            scores[model][known], rows.y[known], rows.sized(size, size / 4)[known] ** 2,
            marker="osD^vP*X"[i % 8], ec=COLOURS[i % 10], fc="none",
            lw=rows.sized(1.6, 0.6)[known],
            label=f"{name} (mean {scores[model].mean():.2f})",
        )  # fmt: skip
    rows.name(ax)
    ax.set(xlabel="accuracy (share of items)", xlim=(-0.03, 1.03))
    legend_beside(ax)
    return ax


def plot_amplify(table, base, ax=None):
    """Perplexity against the factor that a mask's neurons are multiplied by.

    ``table`` is that of ``damage.perplexity`` with a column ``factor``: lines for the
    masks, dashed lines and bands for the median and range of the draws of controls.
    """
    groups = [g for g in dict.fromkeys(table["group"]) if g != "intact"]
    if not groups:
        return style.nothing(ax, "masks")
    controls = [c for c in dict.fromkeys(table["control"]) if c]
    ax = axes_of(ax, 10, max(4.2, 0.22 * len(groups) + 0.4 * len(controls) + 1.2))
    names = style.short_names(groups, style.MOST_IN_LEGEND)
    for i, (name, group) in enumerate(zip(names, groups, strict=True)):
        rows, colour = table[table["group"] == group], COLOURS[i % len(COLOURS)]
        own = rows[rows["control"] == ""].sort_values("factor")
        ax.plot(own["factor"], own["perplexity"], "o-", color=colour, label=name, ms=4)
        for k, control in enumerate(controls):
            draws = rows[rows["control"] == control]
            if not len(draws):
                continue
            by = draws.groupby("factor")["perplexity"]
            x, line = by.median().index, DASHES[k % len(DASHES)]
            ax.plot(x, by.median(), ls=line, color=colour, lw=1, marker=".")
            ax.fill_between(x, by.min(), by.max(), color=colour, alpha=0.15, lw=0)
    shown = style.short_names(controls, style.MOST_IN_LEGEND)
    for k, control in enumerate(shown):
        label = f"{control}:\nmedian and range of draws"
        ax.plot([], [], ls=DASHES[k % len(DASHES)], color="0.4", lw=1, label=label)
    ax.axhline(base, color="k", ls=":", label=f"intact ({base:.1f})")
    ax.axvline(1, color="0.5", lw=0.8)
    _log_perplexity(ax.yaxis, [*table["perplexity"], base])
    ticks = np.unique(table["factor"].dropna())
    log = len(ticks) > 1 and (ticks > 0).all()
    if log:
        ax.set_xscale("log", base=2)
    style.number_ticks(ax.xaxis, ticks, scale=np.log if log else np.asarray, keep=[1])
    ax.set(xlabel="factor (1: unchanged)", ylabel="perplexity")
    legend_beside(ax)
    return ax


def plot_likeness(table, ax=None):
    """Likeness to the reference, a dot a text, and what chance gives.

    ``table`` has the rows of one score of ``fingerprint.compare_models``. Related
    models come first, and of each kind the most alike.
    """
    if not len(table):
        return style.nothing(ax, "models to compare")
    by_model = table.groupby("model", sort=False)
    mean, related = by_model["likeness"].mean(), by_model["related"].first()
    # no likeness is larger than 1
    rows = style.rows(
        style.model_names(mean.index, style.MOST_CHARACTERS),
        mean.fillna(0) + 2 * related, "kinship and likeness", what="models",
    )  # fmt: skip
    ax = axes_of(ax, 10, rows.inches)
    null, null_95 = by_model["null"].mean(), by_model["null_95"].mean()
    thick = 0.8 * rows.height
    ax.barh(rows.y, null_95 - null, thick, left=null, color="0.85",
            label="words shifted:\nmean to 95 %")  # fmt: skip
    place, count = by_model.ngroup().to_numpy(), by_model.cumcount().to_numpy()
    most = max(count.max(), 1)
    y = rows.y[place] + 0.4 * (count / most - 0.5) * rows.height[place]
    size = rows.sized(40, 4)[place]
    for kind, label, colour in KINDS:
        own = (table["related"] == kind).to_numpy()
        label = f"{label}:\na dot a text, and mean"
        ax.scatter(table["likeness"][own], y[own], size[own], color=colour, lw=0,
                   alpha=0.7, label=label)  # fmt: skip
        means = mean.where(related == kind)
        rows.marks(ax, means, colour, None)
    if related.any() and not related.all():
        border = rows.y[related.to_numpy()].max() + 0.5
        ax.axhline(border, color="0.5", lw=0.8, ls=":")
    ax.axvline(1, color="0.5", lw=0.8)
    rows.name(ax)
    ax.set_xlabel("likeness to the reference (|Spearman correlation|)")
    ax.set_xlim(np.nanmin([0, table["likeness"].min() - 0.03]), 1.03)
    legend_beside(ax)
    return ax


def plot_roc(curves, ax=None):
    """Share of related models found against that of unrelated ones taken for related.

    ``curves`` maps a score to what ``fingerprint.roc`` returns.
    """
    if not curves:
        return style.nothing(ax, "related and unrelated models")
    ax = axes_of(ax, 11, max(4.2, 0.2 * len(curves) + 1.5))
    names = style.short_names(curves, style.MOST_IN_LEGEND)
    for i, (name, curve) in enumerate(zip(names, curves.values(), strict=True)):
        interval = f"{curve.auc:.2f} ({curve.low:.2f} to {curve.high:.2f})"
        ax.plot(
            curve.false_positive,
            curve.true_positive,
            label=f"{name}: {interval}",
            color=COLOURS[i % len(COLOURS)],
            lw=max(1, 3 - i),
            marker=".",
            clip_on=False,
        )
    ax.plot([0, 1], [0, 1], color="0.5", lw=0.8, ls="--", label="chance: 0.50")
    ax.set(xlabel="unrelated taken for related (share)", ylabel="related found (share)")
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    ax.set_box_aspect(1)
    legend_beside(ax, title="area (95 % over texts)", fontsize=9)
    return ax
