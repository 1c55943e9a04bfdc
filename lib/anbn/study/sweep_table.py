"""The results of a sweep as tables: what varied, means over seeds, what failed."""

import html
import itertools
import os
import re
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
import pandas as pd
from scipy import stats

from anbn.core import artifacts
from anbn.core.params import did_you_mean
from anbn.core.paths import project_root, stage_dir

RESULTS = "results.parquet"
UNSET = "(as in the study)"  # of a parameter that a listed point does not change
# Shown first, where they vary; all others come after, in the order of the table.
FIRST = (
    "03:encoding_r_mean 03:max_synchrony 03:n_significant_neurons "
    "03:planted_networks_found 03:false_networks_found 04:ppl_masked_networks "
    "05:ppl_cut 02:isc_mean 02:n_networks_brain 02:n_networks_model 01:perplexity"
).split()
# What a number is read against: drawn in its figure, not in one of their own.
REFERENCES = {
    r"03:encoding_r_mean": r"03:(noise_ceiling_mean|encoding_r_.*)",
    r"03:max_synchrony": r"03:fwe_threshold",
    r"03:planted_networks_found": r"03:planted_networks_total",
    r"04:ppl_masked_networks": r"04:ppl_(base|masked_(matched|uniform)_random)",
    r"05:ppl_cut": r"05:ppl_(base|random)",
    r"(04|05):ppl_.*": r"{0}:ppl_base",
    r"02:n_networks_brain": r"02:n_networks_labelled",
    r"02:n_networks_model": r"02:n_networks_model_stable",
}


@dataclass(frozen=True)
class Design:
    """What varies between the points of a sweep."""

    parameters: list  # columns; numbers with many values first
    together: dict  # column -> others that change only with it
    seeds: list  # columns of seeds
    full: bool  # whether every combination of the parameters' values is there


def study_of(sweep):
    """What to call a sweep for `artifacts.begin_stage`, to find its own folder.

    The sweep runs the report with ``ANBN_OUTPUTS`` set to ``outputs/sweeps``; by hand,
    in JupyterLab, it is the usual folder.

    Raises
    ------
    ArtifactError
        If there are no results of this sweep.
    """
    names = (sweep, f"sweeps/{sweep}")
    for name in names:
        if (stage_dir(name, "") / RESULTS).is_file():
            return name
    folder = stage_dir(names[1], "").parent
    there = sorted(p.parent.name for p in folder.glob(f"*/{RESULTS}"))
    raise artifacts.ArtifactError(
        f"no results of a sweep {sweep!r}: {stage_dir(names[1], RESULTS)} is missing. "
        f"Run `make sweep SWEEP={sweep}`. Sweeps that have run: "
        f"{', '.join(there) or 'none'}{did_you_mean(sweep, there)}"
    )


def read(folder):
    """Results of a sweep, a row a point, and what its ``sweep.json`` says.

    Parameters that are numbers come as numbers, all others as text.

    Raises
    ------
    ArtifactError
        If a file is missing or damaged.
    """
    about = artifacts.read_json(folder / "sweep.json")
    try:
        table = pd.read_parquet(folder / RESULTS).reset_index(drop=True)
    except (OSError, ValueError) as error:
        raise artifacts.ArtifactError(
            f"{folder / RESULTS} cannot be read: {error}. Run the sweep again."
        ) from error
    expected = ["point", "status", *about.get("varied", [])]
    missing = [name for name in expected if name not in table]
    if missing or "varied" not in about:
        raise artifacts.ArtifactError(
            f"{folder}: {'sweep.json' if 'varied' not in about else RESULTS} lacks "
            f"{', '.join(missing) or 'varied'}. Run the sweep again."
        )
    for name in about["varied"]:
        table[name] = _plain(table[name])
    return table, about


def _plain(column):
    """A column of numbers as numbers, of anything else as text."""
    is_bool = column.map(lambda v: isinstance(v, bool | np.bool_)).any()
    if not is_bool and not column.isna().any():
        try:
            return pd.to_numeric(column)
        except (ValueError, TypeError):
            pass
    return column.map(_text).astype(object)


def _text(value):
    if _is_missing(value):
        return UNSET
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_missing(value):
    return value is None or (np.isscalar(value) and pd.isna(value))


def is_numeric(column):
    """Whether a parameter's values are numbers."""
    return pd.api.types.is_numeric_dtype(column)


def done(table):
    """Points that ran to their end."""
    return table[table["status"] == "done"]


def failed(table):
    """Points that did not run to their end, with what happened."""
    columns = ["point", "status", "failed_stage", "error"]
    rows = table[table["status"] != "done"]
    return rows[[c for c in columns + notebooks(table) if c in table]]


def design(table, varied):
    """What varies, apart from seeds, and how.

    Parameters
    ----------
    table : DataFrame
        From ``read``: all points, done or not.
    varied : list of str
        Columns.
    """
    seeds = [c for c in varied if c.split(".")[-1] == "seed"]
    several = [c for c in varied if c not in seeds and table[c].nunique() > 1]
    several.sort(key=lambda c: -table[c].nunique())
    together = {}
    for name in several:
        leader = next((c for c in together if _follows(table, name, c)), None)
        if leader:
            together[leader].append(name)
        else:
            together[name] = []
    order = sorted(
        together, key=lambda c: (not is_numeric(table[c]), -table[c].nunique())
    )
    n_combinations = int(np.prod([table[c].nunique() for c in order]))
    full = len(table[order].drop_duplicates()) == n_combinations if order else True
    return Design(order, together, seeds, full)


def n_seeds(table, design):
    """Seeds that the settings of a sweep have, the least of all that ran; 0 if none."""
    ran = done(table)
    by = ran.groupby(design.parameters) if design.parameters and len(ran) else None
    return int(by.size().min()) if by else len(ran)


def _follows(table, name, leader):
    """Whether a parameter changes only with another, by design and not by chance."""
    pairs = table[[leader, name]].drop_duplicates()
    if len(pairs) > table[leader].nunique():
        return False
    if not is_numeric(table[leader]):
        return True
    if not is_numeric(table[name]):
        return len(pairs) == table[name].nunique()
    steps = pairs.sort_values(leader)[name].diff().dropna()
    return bool((steps > 0).all() or (steps < 0).all())


def values(column):
    """A parameter's values: numbers in order, all others as they come."""
    found = column.unique()
    return sorted(found) if is_numeric(column) else list(found)


def outcomes(table, chosen=(), most=6):
    """Summary numbers to show: those chosen, or some that vary.

    Parameters
    ----------
    table : DataFrame
    chosen : list of str
        Columns; none for the first of those that differ between points.
    most : int
        Of these.

    Raises
    ------
    ArtifactError
        If a chosen one is no summary number of the sweep.
    """
    known = [c for c in table if re.match(r"\w+:", c) and is_numeric(table[c])]
    for name in chosen:
        if name not in known:
            raise artifacts.ArtifactError(
                f"outcomes: no summary number {name!r}{did_you_mean(name, known)}. "
                f"The sweep has: {', '.join(known) or 'none, no stage has run'}"
            )
    if chosen:
        return list(dict.fromkeys(chosen))
    ran = done(table)
    varying = [c for c in known if ran[c].nunique() > 1 and "_per_s" not in c]
    varying.sort(key=lambda c: FIRST.index(c) if c in FIRST else len(FIRST))
    beside = {r for c in FIRST if c in varying for r in references(c, known)}
    return [c for c in varying if c not in beside or c in FIRST][:most]


def references(outcome, columns):
    """Columns that a summary number is read against, in the same unit."""
    for pattern, wanted in REFERENCES.items():
        if found := re.fullmatch(pattern, outcome):
            wanted = wanted.format(*found.groups())
            there = [c for c in columns if re.fullmatch(wanted, c) and c != outcome]
            return there[:5]
    return []


def is_log(outcome):
    """Whether a number is compared by ratios: perplexities."""
    return bool(re.search(r"ppl|perplexity", outcome))


def notebooks(table):
    """Columns that hold the paths of notebooks."""
    return [c for c in table if c.startswith("notebook_")]


def linked(table, start):
    """A table as HTML, everything escaped, its notebooks as links.

    Parameters
    ----------
    table : DataFrame
    start : Path
        Folder of the notebook that shows it: links are relative to it.
    """
    columns = notebooks(table)
    shown = table.drop(columns=columns).map(_cell)

    def links(row):
        return " ".join(
            f'<a href="{quote(os.path.relpath(project_root() / row[c], start))}">'
            f"{c[-2:]}</a>"
            for c in columns
            if isinstance(row[c], str) and row[c]
        )

    if columns:
        shown["notebooks"] = [links(row) for _, row in table[columns].iterrows()]
    shown.columns = [html.escape(c) for c in shown.columns]
    return shown.to_html(escape=False, index=False, border=0)


def _cell(value):
    if _is_missing(value):
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return html.escape(text if len(text) <= 300 else text[:299] + "…")


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
