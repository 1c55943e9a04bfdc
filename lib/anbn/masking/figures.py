"""Figures of masks: cost beside controls, domains, suites, pruning, fingerprint."""

import numpy as np
from matplotlib.colors import SymLogNorm
from matplotlib.ticker import FuncFormatter, NullFormatter

from anbn.core.style import COLOURS, axes_of

NATS = [-3, -1, -0.3, -0.1, 0, 0.1, 0.3, 1, 3, 10]  # marks of an axis
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
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_formatter(FuncFormatter(_plain))
    if np.nanmax(values) / np.nanmin(values) < 30:
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
    seen.
    """
    masks = table[(table["control"] == "") & (table["group"] != "intact")]
    drawn = table[table["control"] != ""]
    controls = list(dict.fromkeys(drawn["control"]))
    height = 0.16 * (len(controls) + 1.6) * len(masks) + 1.6
    ax = axes_of(ax, 10, max(2.6, height))
    # the mask on top of its place, its controls below
    places = np.linspace(0.3, -0.3, len(controls) + 1)
    for i, row in enumerate(masks.itertuples()):
        own = drawn[(drawn["group"] == row.group) & (drawn["n"] == row.n)]
        at = i - places[0]
        ends = np.log([row.low / base, row.high / base])
        ax.plot(ends, [at, at], color="k", lw=1.5)
        ax.plot(np.log(row.perplexity / base), at, "D", color="k", ms=6, zorder=4)
        for colour, control, place in zip(COLOURS, controls, places[1:], strict=False):
            nats = np.log(own.loc[own["control"] == control, "perplexity"] / base)
            y = np.full(len(nats), i - place)
            ax.plot(nats, y, ".", color=colour, ms=6, alpha=0.45, mew=0)
            ax.plot(nats.median(), i - place, "|", color=colour, ms=11, mew=2.2)
        if i:
            ax.axhline(i - 0.5, color="0.9", lw=0.8)
    ax.plot([], [], "D", color="k", label="the mask, interval\nover documents")
    for colour, control in zip(COLOURS, controls, strict=False):
        ax.plot([], [], ".-", color=colour, label=f"{control}: draws, median")
    ax.axvline(0, color="0.4", ls=":", label=f"intact ({base:.1f})")
    ax.set_xscale("asinh", linear_width=0.1)
    worst, best = np.log(table["perplexity"].agg(["max", "min"]) / base)
    low, high = 1.2 * min(best, 0) - 0.03, 1.4 * max(worst, 0) + 0.03
    ticks = [t for t in NATS if low <= t <= high]
    ax.set_xticks(ticks, [_plain(base * np.exp(t)) for t in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlim(low, high)
    above = ax.twiny()
    above.set_xscale("asinh", linear_width=0.1)
    above.set_xticks(ticks, [f"{t:g}" for t in ticks])
    above.set_xticks([], minor=True)
    above.set(xlabel="nats a token above intact", xlim=(low, high))
    labels = [f"{row.group}\n({row.n} neurons)" for row in masks.itertuples()]
    ax.set_yticks(range(len(masks)), labels)
    ax.set(xlabel="perplexity", ylim=(len(masks) - 0.5, -0.5))
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_domain_matrix(matrix, significant, ax=None):
    """Damage by every network in every domain of text, a star where it is special.

    ``matrix`` and ``significant`` are DataFrames (networks x domains), of nats a token
    above intact and bool; colours are logarithmic above 0.1 nats.
    """
    n_rows, n_columns = matrix.shape
    ax = axes_of(ax, 1.1 * n_columns + 4, 0.34 * n_rows + 1.6)
    values = matrix.to_numpy(float)
    top = max(np.nanmax(values), 0.2)
    norm = SymLogNorm(0.1, vmin=0, vmax=top, clip=True)
    image = ax.imshow(values, aspect="auto", cmap="YlOrRd", norm=norm)
    stars = significant.loc[matrix.index, matrix.columns].to_numpy(bool)
    for (i, j), value in np.ndenumerate(values):
        colour = "w" if norm(value) > 0.65 else "k"
        text = f"{value:.2g}" if abs(value) >= 0.01 else f"{value:.2f}"
        ax.text(
            j, i, text + "*" * int(stars[i, j]), color=colour, ha="center", va="center",
            fontsize=9, weight="bold" if stars[i, j] else "normal",
        )  # fmt: skip
    ax.set_xticks(range(n_columns), matrix.columns, rotation=30, ha="right")
    ax.set_yticks(range(n_rows), matrix.index)
    ax.set(xlabel="domain of text", ylabel="mask")
    bar = ax.figure.colorbar(image, ax=ax, extend="min" if values.min() < 0 else None)
    bar.set_label("damage (nats a token above\nintact), *: special to the domain")
    ticks = [t for t in (0, 0.1, 0.3, 1, 3, 10) if t <= top]
    bar.set_ticks(ticks, labels=[f"{t:g}" for t in ticks])
    bar.ax.minorticks_off()
    return ax


def plot_shares(curves, base, ax=None, *, value="perplexity"):
    """Perplexity or accuracy against the share of neurons, a line a criterion.

    ``curves`` has the columns ``group``, ``share``, ``value`` and, for bands, ``low``
    and ``high``. ``base`` is the intact model's. Perplexity has a logarithmic axis.
    """
    ax = axes_of(ax, 9.5, 4.2)
    lines = curves.groupby("group", sort=False)
    for i, (group, rows) in enumerate(lines):
        rows, colour = rows.sort_values("share"), COLOURS[i % len(COLOURS)]
        style = ("o-", "s--", "^:")[i // len(COLOURS) % 3]
        x = 100 * rows["share"]
        ax.plot(x, rows[value], style, color=colour, label=group, ms=4)
        ax.fill_between(x, rows["low"], rows["high"], color=colour, alpha=0.15, lw=0)
    shown = f"{base:.1f}" if value == "perplexity" else f"{base:.2f}"
    ax.axhline(base, color="k", ls=":", label=f"intact ({shown})")
    if value == "perplexity":
        _log_perplexity(ax.yaxis, [*curves[value], base])
    ax.set(xlabel="share of the neurons (%)", ylabel=value)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_suites(scores, ax=None):
    """Accuracy in every test suite, a mark a model or mask.

    ``scores`` is a DataFrame (suites x models), shown in the order of its first column.
    """
    ax = axes_of(ax, 9, 0.24 * len(scores) + 1.2)
    scores = scores.sort_values(scores.columns[0])
    y = np.arange(len(scores))
    ax.hlines(y, scores.min(axis=1), scores.max(axis=1), color="0.85", zorder=0)
    for i, model in enumerate(scores):
        mark, mean = "osD^vP*X"[i % 8], scores[model].mean()
        label = f"{model} (mean {mean:.2f})"
        # rings: equal scores stay visible inside one another
        size = 9 - 5 * i / max(len(scores.columns) - 1, 1)
        ax.plot(
            scores[model], y, mark, mec=COLOURS[i % 10], mfc="none", mew=1.6, ms=size,
            label=label,
        )  # fmt: skip
    ax.set_yticks(y, scores.index, fontsize=8)
    ax.set(xlabel="accuracy", ylabel="suite", xlim=(-0.03, 1.03))
    ax.set_ylim(-0.7, len(scores) - 0.3)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_amplify(table, base, ax=None):
    """Perplexity against the factor that a mask's neurons are multiplied by.

    ``table`` is that of ``damage.perplexity`` with a column ``factor``: lines for the
    masks, dashed lines and bands for the median and range of the draws of controls.
    """
    ax = axes_of(ax, 9.5, 4.2)
    groups = [g for g in dict.fromkeys(table["group"]) if g != "intact"]
    for i, group in enumerate(groups):
        rows, colour = table[table["group"] == group], COLOURS[i % len(COLOURS)]
        own = rows[rows["control"] == ""].sort_values("factor")
        ax.plot(own["factor"], own["perplexity"], "o-", color=colour, label=group, ms=4)
        for control, draws in rows[rows["control"] != ""].groupby("control"):
            by = draws.groupby("factor")["perplexity"]
            x = by.median().index
            label = f"{group}:\n{control}, median and range"
            ax.plot(x, by.median(), "--", color=colour, lw=1, label=label)
            ax.fill_between(x, by.min(), by.max(), color=colour, alpha=0.15, lw=0)
    ax.axhline(base, color="k", ls=":", label=f"intact ({base:.1f})")
    ax.axvline(1, color="0.5", lw=0.8)
    _log_perplexity(ax.yaxis, [*table["perplexity"], base])
    ticks = np.unique(table["factor"].dropna())
    if (ticks > 0).all():
        ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.set_xticks([], minor=True)
    ax.set(xlabel="factor (1: unchanged)", ylabel="perplexity")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_likeness(table, ax=None):
    """Likeness to the reference, a dot a text, and what chance gives.

    ``table`` has the rows of one score of ``fingerprint.compare_models``.
    """
    first = table.sort_values("related", ascending=False, kind="stable")
    models = list(first["model"].unique())  # the related ones first
    ax = axes_of(ax, 0.9 * len(models) + 3.5, 3.8)
    for x, name in enumerate(models):
        rows = table[table["model"] == name]
        _, _, colour = KINDS[not rows["related"].iloc[0]]
        low, high = rows["null"].mean(), rows["null_95"].mean()
        ax.fill_between([x - 0.4, x + 0.4], low, high, color="0.85", lw=0)
        jitter = np.linspace(-0.2, 0.2, len(rows))
        ax.plot(x + jitter, rows["likeness"], ".", color=colour, alpha=0.7)
        ax.hlines(rows["likeness"].mean(), x - 0.3, x + 0.3, color=colour, lw=2)
    n_related = table["model"][table["related"]].nunique()
    ax.axvline(n_related - 0.5, color="0.5", lw=0.8, ls=":")
    ax.axhline(1, color="0.5", lw=0.8)
    for _, label, colour in KINDS:
        ax.plot([], [], ".-", color=colour, label=f"{label}: a dot a text, and mean")
    ax.fill_between([], [], color="0.85", label="words shifted:\nmean to 95 %")
    ax.set_xticks(range(len(models)), models, rotation=30, ha="right")
    ax.set_ylabel("likeness to the reference\n(|Spearman correlation|)")
    ax.set_ylim(min(0, table["likeness"].min() - 0.03), 1.03)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_roc(curves, ax=None):
    """Share of related models found against that of unrelated ones taken for related.

    ``curves`` maps a score to what ``fingerprint.roc`` returns.
    """
    ax = axes_of(ax, 8, 3.8)
    for i, (name, curve) in enumerate(curves.items()):
        interval = f"{curve.auc:.2f} ({curve.low:.2f} to {curve.high:.2f})"
        style = {"color": COLOURS[i], "lw": max(1, 3 - i), "marker": ".", "clip_on": 0}
        ax.plot(
            curve.false_positive,
            curve.true_positive,
            label=f"{name}: {interval}",
            **style,
        )
    ax.plot([0, 1], [0, 1], color="0.5", lw=0.8, ls="--", label="chance: 0.50")
    ax.set(xlabel="unrelated taken for related (share)", ylabel="related found (share)")
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    ax.set_box_aspect(1)
    ax.legend(
        title="area (95 % over texts)", loc="center left", bbox_to_anchor=(1, 0.5)
    )
    return ax
