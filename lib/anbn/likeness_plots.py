"""Figures of the fingerprint: who descends from whom."""

import numpy as np

from anbn.plots import COLOURS, _axes

KINDS = ((True, "related", COLOURS[0]), (False, "unrelated", COLOURS[1]))


def plot_likeness(table, ax=None):
    """Likeness to the reference, a dot a text, and what chance gives.

    ``table`` has the rows of one score of ``likeness.compare``.
    """
    models = [
        name for kind, *_ in KINDS for name in table["model"][table["related"] == kind]
    ]
    models = list(dict.fromkeys(models))  # the related ones first, each once
    ax = _axes(ax, 0.9 * len(models) + 3.5, 3.8)
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

    ``curves`` maps a score to what ``likeness.roc`` returns.
    """
    ax = _axes(ax, 8, 3.8)
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
