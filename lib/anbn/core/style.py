"""Colours, and names on axes, that all figures share."""

import matplotlib.pyplot as plt
import numpy as np

COLOURS = plt.get_cmap("tab10").colors
MOST_NAMES = 40  # that fit below an axis


def axes_of(ax, width=9.0, height=3.2):
    if ax is None:
        _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    return ax


def name_ticks(ax, names, named=None):
    """Names of networks along x, as many as can be read.

    Of more than ``MOST_NAMES`` those that are ``named`` (bool, n_networks), or every so
    many; the label of the axis says which.
    """
    n = len(names)
    step = max(1, int(np.ceil(n / MOST_NAMES)))
    shown, which = np.arange(0, n, step), f"one in {step} is named"
    if named is not None and n > MOST_NAMES:
        shown, which = np.flatnonzero(named), "named: those with *"
    many = n > MOST_NAMES
    style = {"rotation": 90} if many else {"rotation": 30, "ha": "right"}
    ax.set_xticks(shown, [names[i] for i in shown], **style)
    if many:
        ax.set_xlabel(f"{n} networks or regions ({which})")
