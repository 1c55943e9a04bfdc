"""The results of a sweep as tables: what varied, means over seeds, what failed."""

import html
import itertools
import os
import re
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from scipy import stats

from anbn.core import artifacts
from anbn.core.params import did_you_mean
from anbn.core.paths import project_root, stage_dir

RESULTS = "results.parquet"
# Shown first, where they vary, and what each is read against: drawn in its figure. All
# others come after, in the order of the table; perplexities are read against the base.
FIRST = {
    "03b:encoding_r_mean": r"03b:(noise_ceiling_mean|encoding_r_.*)",
    "03:max_synchrony": "03:fwe_threshold",
    "03b:n_networks_predicted": "",
    "03:n_significant_neurons": "",
    "03:planted_networks_found": "03:planted_networks_total",
    "03:false_networks_found": "",
    "04:ppl_masked_networks": "04:ppl_(base|masked_(matched|uniform)_random)",
    "04c:ppl_cut": "04c:ppl_(base|random)",
    "02:isc_mean": "",
    "02:n_networks_brain": "02:n_networks_labelled",
    "02b:n_networks_model": "02b:n_networks_model_stable",
    "01:perplexity": "",
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
    if not is_bool_dtype(column):
        try:
            return pd.to_numeric(column)
        except ValueError:
            pass
    return column.astype(str)


def done(table):
    """Points that ran to their end."""
    return table[table["status"] == "done"]


def failed(table):
    """Points that did not run to their end, with what happened."""
    columns = ["point", "status", "failed_stage", "error", *notebooks(table)]
    return table.loc[table["status"] != "done", columns]


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
        together, key=lambda c: (not is_numeric_dtype(table[c]), -table[c].nunique())
    )
    n_combinations = int(np.prod([table[c].nunique() for c in order]))
    full = len(table[order].drop_duplicates()) == n_combinations if order else True
    return Design(order, together, seeds, full)


def n_seeds(table, design):
    """Seeds that the settings of a sweep have, the least of all that ran; 0 if none."""
    ran = done(table)
    if not design.parameters or ran.empty:
        return len(ran)
    return int(ran.groupby(design.parameters).size().min())


def _follows(table, name, leader):
    """Whether a parameter changes only with another, by design and not by chance.

    One value for each of the leader's; where these are numbers, which a random search
    never draws twice, another one for each, and numbers must go up or down with it.
    """
    pairs = table[[leader, name]].drop_duplicates().sort_values(leader)
    if not pairs[leader].is_unique or not is_numeric_dtype(pairs[leader]):
        return pairs[leader].is_unique
    found = pairs[name]
    ordered = found.is_monotonic_increasing or found.is_monotonic_decreasing
    return found.is_unique and (ordered or not is_numeric_dtype(found))


def values(column):
    """A parameter's values: numbers in order, all others as they come."""
    found = column.unique()
    return sorted(found) if is_numeric_dtype(column) else list(found)


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
    known = [c for c in table if re.match(r"\w+:", c) and is_numeric_dtype(table[c])]
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
    first = list(FIRST)
    varying.sort(key=lambda c: first.index(c) if c in first else len(first))
    beside = {r for c in varying if c in FIRST for r in references(c, known)}
    return [c for c in varying if c not in beside or c in FIRST][:most]


def references(outcome, columns):
    """Columns that a summary number is read against, in the same unit."""
    base = re.fullmatch("(04[a-z]?:ppl_).*", outcome)
    wanted = FIRST.get(outcome) or (base[1] + "base" if base else "")
    return [c for c in columns if re.fullmatch(wanted, c) and c != outcome][:5]


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
    shown = table.drop(columns=columns).map(
        lambda v: f"{v:.4g}" if isinstance(v, float) else html.escape(str(v)),
        na_action="ignore",
    )

    def link(path, number):
        url = quote(os.path.relpath(project_root() / path, start))
        return f'<a href="{url}">{number}</a>'

    if columns:
        shown["notebooks"] = [
            " ".join(
                link(row[c], c.removeprefix("notebook_"))
                for c in columns
                if pd.notna(row[c])
            )
            for _, row in table.iterrows()
        ]
    shown = shown.rename(columns=html.escape)
    return shown.to_html(escape=False, index=False, border=0, na_rep="")


def means(table, parameters, outcomes):
    """Mean of each outcome over the seeds of each setting.

    Perplexities have geometric means.

    Returns
    -------
    means : DataFrame
        The parameters, ``outcome``, ``n`` (seeds), ``mean``, ``sd`` and, from three
        seeds on, ``low`` and ``high``: Student's 95 % interval of the mean over seeds.
    """
    rows, keys = [], list(parameters)
    groups = done(table).groupby(keys) if keys else [((), done(table))]
    for (values, group), name in itertools.product(groups, outcomes):
        found = group[name].dropna().astype(float)
        n = len(found)
        if not n:
            continue
        scaled = np.log(found) if is_log(name) else found
        half = np.nan
        if n > 2:
            half = stats.t.ppf(0.975, n - 1) * scaled.std() / n**0.5
        limits = scaled.mean() + np.array([0, -half, half])
        limits = np.exp(limits) if is_log(name) else limits
        rows.append((*values, name, n, limits[0], found.std(), *limits[1:]))
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
