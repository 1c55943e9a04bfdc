"""The story reversed and rolled: what a null finds where nothing can be coupled.

Surrogates drawn once more from the generator that gave the threshold pass it at its
level whatever they are worth. The user's own BOLD against a story that was not heard
can tell a wrong null from a right one.
"""

import numpy as np
import pandas as pd
from scipy import stats

from anbn.coupling import synchrony
from anbn.stats import surrogates, timeseries

N_NEURONS = 3000  # spread evenly over all
N_ROLLS = 5


def versions(n_times, run_lengths=(), n_rolls=N_ROLLS):
    """Orders of volumes in which nobody heard the story.

    Reversed, rolled by lags that divide a run evenly, and both. Runs are kept apart.
    The null ``shift`` holds the rolled ones in itself, so that these cannot fail for
    it; those that are reversed can fail for any null.

    Parameters
    ----------
    n_times : int
    run_lengths : sequence of int
        See ``surrogates.draw``.
    n_rolls : int

    Returns
    -------
    rows : dict of str to int array of shape (n_times,)
    """
    runs = surrogates.spans(n_times, run_lengths)
    rows = {"reversed": [np.arange(run.stop - 1, run.start - 1, -1) for run in runs]}
    for k in range(1, n_rolls + 1):
        rolled, both = [], []
        for run in runs:
            order = np.arange(run.start, run.stop)
            by = round(k * len(order) / (n_rolls + 1))
            rolled.append(np.roll(order, by))
            both.append(np.roll(order[::-1], by))
        rows[f"rolled {k}"] = rolled
        rows[f"reversed, rolled {k}"] = both
    return {name: np.concatenate(parts) for name, parts in sorted(rows.items())}


def spread(n_neurons, n=N_NEURONS):
    """Some neurons, spread evenly over all."""
    return np.unique(np.linspace(0, n_neurons - 1, min(n, n_neurons)).astype(int))


def false_findings(
    responses,
    confounds,
    drift,
    timecourses,
    *,
    rng,
    n_draws=99,
    level=0.05,
    run_lengths=(),
    null_method="shift",
    texts=None,
    n_rolls=N_ROLLS,
    names=None,
    batch_size=2,
    device="cpu",
):
    """How often a null finds coupling with a story that was not heard.

    Parameters
    ----------
    responses : array of shape (n_times, n_neurons)
        With confounds; ``N_NEURONS`` of them are used.
    confounds : array of shape (n_times, n_confounds)
        Of the story: they are reversed and rolled with it.
    drift : array of shape (n_times, n_drift)
        Of the scanner.
    timecourses : array of shape (n_data, n_times, n_networks)
        Of the group and of single subjects, say.
    rng : numpy Generator
    n_draws : int
        Draws; with 99 the level .05 is exact.
    level : float
    run_lengths, null_method, batch_size, device
        See ``synchrony.null``; null_method may be ``text``.
    texts : (activations, H)
        For ``text``: see ``surrogates.other_texts``.
    n_rolls : int
        See ``versions``.
    names : list of str, optional
        Of the data.

    Returns
    -------
    table : DataFrame, a row a version of the story and one of the data
        ``version``, ``data``, ``p`` (family-wise, over neurons and networks),
        ``found`` (p <= level), ``networks_found``: of ``n_networks`` those that pass
        the family-wise level of their own.
    """
    some = spread(responses.shape[1])
    chosen = np.asarray(responses[:, some], float)
    n_data, n_times, n_networks = timecourses.shape
    side_by_side = np.swapaxes(timecourses, 0, 1).reshape(n_times, -1)
    if null_method == "text":
        activations, H = texts
        n_layers, n_units = activations.shape[1:]
        # the same number of each layer, as the store is read layer by layer
        activations = activations[..., spread(n_units, max(1, N_NEURONS // n_layers))]
    rows = []
    for version, order in versions(n_times, run_lengths, n_rolls).items():
        basis = timeseries.orthonormal(np.column_stack([drift, confounds[order]]))
        clean = timeseries.residuals(chosen[order], basis)
        brain = timeseries.residuals(side_by_side, basis)
        if null_method == "text":
            drawn = synchrony.text_null(
                activations,
                H.tocsr()[order],
                brain,
                basis,
                n_draws=n_draws,
                rng=rng,
            )
        else:
            drawn = synchrony.null(
                clean,
                brain,
                basis,
                null_method=null_method,
                run_lengths=run_lengths,
                n_draws=n_draws,
                rng=rng,
                batch_size=batch_size,
                device=device,
            )
        largest = np.abs(synchrony.synchrony(clean, brain)).max(0)
        largest = largest.reshape(n_data, n_networks)
        maxima = drawn.maxima.reshape(n_draws, n_data, n_networks)
        for i in range(n_data):
            p = float(synchrony.familywise_p(largest[i].max(), maxima[:, i]))
            own = synchrony.familywise_p(largest[i], maxima[:, i], by_network=True)
            rows.append(
                {
                    "version": version,
                    "data": i if names is None else names[i],
                    "p": p,
                    "found": p <= level,
                    "networks_found": int((own <= level).sum()),
                    "n_networks": n_networks,
                }
            )
    return pd.DataFrame(rows)


def interval(n, level=0.05, inside=0.99):
    """Findings among n that chance allows: a binomial interval.

    Data of one story or of one subject are not independent: the truth is somewhat
    wider.

    Returns
    -------
    low, high : int
    """
    tail = (1 - inside) / 2
    return tuple(int(stats.binom.ppf(q, n, level)) for q in (tail, 1 - tail))


def verdict(table, level=0.05):
    """One sentence on a table of ``false_findings``."""
    n, found = len(table), int(table["found"].sum())
    low, high = interval(n, level)
    said = (
        f"On these data, where nothing can be coupled, this null finds coupling in "
        f"{found} of {n} ({level * n:.0f} expected, {low} to {high} by chance)"
    )
    if found > high:
        return f"{said}: too often. Do not believe its p values here; take text."
    return f"{said}."
