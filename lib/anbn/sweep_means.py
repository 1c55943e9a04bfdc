"""Means over the seeds of a sweep, and what each of its parameters carries."""

import itertools

import numpy as np
import pandas as pd
from scipy import stats

from anbn.sweep_table import done, is_log


def means(table, parameters, outcomes, level=0.95):
    """Mean of each outcome over the seeds of each setting.

    Perplexities have geometric means.

    Returns
    -------
    means : DataFrame
        The parameters, ``outcome``, ``n`` (seeds), ``mean``, ``sd`` and, from three
        seeds on, ``low`` and ``high``: Student's interval of the mean over seeds.
    """
    rows, keys = [], list(parameters)
    groups = done(table).groupby(keys) if keys else [((), done(table))]
    for (values, group), name in itertools.product(groups, outcomes):
        found = group[name].dropna().to_numpy(float)
        n = len(found)
        if not n:
            continue
        scaled = np.log(found) if is_log(name) else found
        centre, sd = scaled.mean(), scaled.std(ddof=1) if n > 1 else np.nan
        half = stats.t.ppf((1 + level) / 2, n - 1) * sd / n**0.5 if n > 2 else np.nan
        limits = np.array([centre, centre - half, centre + half])
        mean, low, high = np.exp(limits) if is_log(name) else limits
        spread = found.std(ddof=1) if n > 1 else np.nan
        about = {"outcome": name, "n": n, "mean": mean, "sd": spread}
        rows.append(
            dict(zip(keys, values, strict=True)) | about | {"low": low, "high": high}
        )
    columns = [*keys, "outcome", "n", "mean", "sd", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def variance(table, parameters, outcomes):
    """Share of an outcome's variance over points that each parameter carries.

    The share of a parameter is that of the means of its values, seen alone::

        sum_v n_v (mean_v - mean)^2 / sum_i (y_i - mean)^2

    ``seeds`` is the share left within settings, ``interplay`` what parameters carry
    only together. Perplexities are taken in logs.

    Returns
    -------
    shares : DataFrame
        ``outcome``, ``source``, ``share`` and ``chance``, what values that mean nothing
        would carry on average. NaN where it cannot be said: what parameters carry
        together with one seed or where points are missing, and a parameter that has
        another value at every point.
    """
    rows = []
    for name in outcomes:
        ran = done(table).dropna(subset=[name])
        y = np.log(ran[name]) if is_log(name) else ran[name].astype(float)
        total, n = ((y - y.mean()) ** 2).sum(), len(ran)
        if n < 3 or not total > 0:
            continue
        shares = {c: _between(y, [ran[c]]) / total for c in parameters}
        free = {c: ran[c].nunique() - 1 for c in parameters}
        cells = ran.groupby(list(parameters)).size() if parameters else [n]
        if len(cells) < n:
            by = [ran[c] for c in parameters]
            shares["seeds"] = 1 - (_between(y, by) / total if by else 0)
            free["seeds"] = n - len(cells)
        rest = 1 - sum(shares.values())
        even = len(set(cells)) == 1 and len(cells) == np.prod(
            [ran[c].nunique() for c in parameters]
        )
        if len(parameters) > 1:
            shares["interplay"] = rest if even and "seeds" in shares else np.nan
            free["interplay"] = n - 1 - sum(free.values())
        for source, share in shares.items():
            chance = free[source] / (n - 1)
            # a value of its own for every point carries all there is
            rows.append((name, source, share if chance < 1 else np.nan, chance))
    return pd.DataFrame(rows, columns=["outcome", "source", "share", "chance"])


def _between(y, by):
    """Sum of squares of group means about the mean."""
    groups = y.groupby(by)
    return (groups.size() * (groups.mean() - y.mean()) ** 2).sum()
