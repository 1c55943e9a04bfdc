"""The story reversed and rolled: what a null finds where nothing can be coupled.

Surrogates drawn once more from the generator that gave the threshold pass it at its
level whatever they are worth. The user's own BOLD against a story that was not heard
can tell a wrong null from a right one.
"""

import numpy as np
import pandas as pd
from scipy import stats

from anbn.core.generators import rng_of
from anbn.coupling import synchrony
from anbn.stats import timeseries

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
    runs = timeseries.spans(n_times, run_lengths)
    orders = [np.arange(run.start, run.stop) for run in runs]
    rows = {"reversed": [order[::-1] for order in orders]}
    for k in range(1, n_rolls + 1):
        lags = [round(k * len(order) / (n_rolls + 1)) for order in orders]
        pairs = [*zip(orders, lags, strict=True)]
        rows[f"rolled {k}"] = [np.roll(order, lag) for order, lag in pairs]
        both = [np.roll(order[::-1], lag) for order, lag in pairs]
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
    null_method="shift",
    run_lengths=(),
    texts=None,
    n_rolls=N_ROLLS,
    names,
    batch_size=20,
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
        Each version of the story draws from one of its own, made from it.
    n_draws : int
        Draws; with 99 the level .05 is exact.
    level : float
    null_method, run_lengths
        See ``surrogates.draw``.
    texts : (activations, H), optional
        Of ``synchrony.text_null``, in place of ``synchrony.null``.
    n_rolls : int
        See ``versions``.
    names : list of str
        Of the data.
    batch_size, device
        Of ``synchrony.null``.

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
    if texts:
        activations, H = texts
        n_layers, n_units = activations.shape[1:]
        # the same number of each layer, as the store is read layer by layer
        activations = activations[..., spread(n_units, max(1, N_NEURONS // n_layers))]
    rows, seed = [], int(rng.integers(2**63))
    for version, order in versions(n_times, run_lengths, n_rolls).items():
        basis = timeseries.orthonormal(np.column_stack([drift, confounds[order]]))
        clean = timeseries.residuals(chosen[order], basis)
        brain = timeseries.residuals(side_by_side, basis)
        of_null = {"n_draws": n_draws, "rng": rng_of(seed, version)}
        if texts:
            turned = H.tocsr()[order]
            drawn = synchrony.text_null(activations, turned, brain, basis, **of_null)
        else:
            drawn = synchrony.null(
                clean,
                brain,
                basis,
                null_method=null_method,
                run_lengths=run_lengths,
                batch_size=batch_size,
                device=device,
                **of_null,
            )
        largest = np.abs(synchrony.synchrony(clean, brain)).max(0)
        largest = largest.reshape(n_data, n_networks)
        maxima = drawn.maxima.reshape(n_draws, n_data, n_networks)
        for i, name in enumerate(names):
            p = float(synchrony.familywise_p(largest[i].max(initial=0), maxima[:, i]))
            own = synchrony.familywise_p(largest[i], maxima[:, i], by_network=True)
            own = int((own <= level).sum())
            rows.append((version, name, p, p <= level, own, n_networks))
    columns = ["version", "data", "p", "found", "networks_found", "n_networks"]
    return pd.DataFrame(rows, columns=columns)


def interval(n, level=0.05):
    """Findings among n that chance allows: a binomial 99 % interval.

    Data of one story or of one subject are not independent: the truth is somewhat
    wider.

    Returns
    -------
    low, high : int
    """
    return tuple(map(int, stats.binom.interval(0.99, n, level)))


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
