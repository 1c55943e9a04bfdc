"""Likeness of networks: overlap, correlation, one-to-one assignment, p-values."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from anbn.stats import timeseries


def dice(a, b):
    """Dice overlap of every row of ``a`` with every row of ``b`` (bool arrays)."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    return 2 * a @ b.T / np.maximum(a.sum(1)[:, None] + b.sum(1), 1)


def correlate(a, b):
    """Pearson correlation of every row of ``a`` with every row of ``b``."""
    return timeseries.zscore(a.T).T @ timeseries.zscore(b.T) / a.shape[1]


def match(similarity):
    """One-to-one assignment of rows to columns with the largest total similarity.

    Returns
    -------
    column : int array of shape (n_rows,)
        -1 for a row left over.
    """
    rows, columns = linear_sum_assignment(-similarity)
    column = np.full(len(similarity), -1)
    column[rows] = columns
    return column


def named_after(similarity, names):
    """Names for networks, of the others that they are matched with one to one.

    Parameters
    ----------
    similarity : array of shape (n_networks, n_others)
    names : list of str
        Of the others.

    Returns
    -------
    called : list of str
        "another" for a network left over.
    """
    return [names[k] if k >= 0 else "another" for k in match(similarity)]


def p_values(observed, null):
    """One-sided p-values of what was observed, from draws under the null.

    ::

        p = (1 + #(null >= observed)) / (1 + n_draws)

    Parameters
    ----------
    observed : array of shape (...)
    null : array of shape (n_draws, ...)

    Returns
    -------
    p : array of shape (...)
        NaN where nothing was observed (NaN). Ties within rounding count as reached.
    """
    observed = np.asarray(observed, float)
    least = observed - 1e-9 * np.abs(observed)
    p = (1 + (np.asarray(null) >= least).sum(0)) / (1 + len(null))
    return np.where(np.isnan(observed), np.nan, p)
