"""Bootstrap, corrections over several tests, and statistics over subjects.

Over documents and draws: intervals and corrections over masks. Over subjects: random
effects, intervals, how many subjects are needed.
"""

import numpy as np
import pandas as pd
from nilearn.mass_univariate import permuted_ols
from scipy import stats

from anbn.stats import matching


def resample(domain, n_tokens, n, rng):
    """Weights of documents drawn anew within each domain; (n, n_documents), sum 1."""
    counts = np.empty((n, len(domain)))
    for name in np.unique(domain):
        inside = domain == name
        size = inside.sum()
        counts[:, inside] = rng.multinomial(size, np.full(size, 1 / size), size=n)
    weights = counts * n_tokens
    return weights / weights.sum(1, keepdims=True)


def resample_draws(n, n_draws, rng):
    """Weights of draws drawn anew; (n, n_draws), sum 1."""
    return rng.multinomial(n_draws, np.full(n_draws, 1 / n_draws), size=n) / n_draws


def interval(drawn, domain, n_draws=np.inf, *, level=0.95):
    """Percentiles of a bootstrap, widened for few documents or draws.

    ::

        tail = Phi(-sqrt(n / df) t),  df = n_documents - n_domains, or n_draws - 1

    whichever is less, with t the quantile of Student's distribution: the expanded
    percentile interval of Hesterberg 2015 (Am. Stat. 69:371). Of plain percentiles of
    five documents in each of four domains 10 to 13 % miss the truth in simulations, of
    these 5 to 8 %; with two documents a domain these miss it, too (13 %).

    Returns
    -------
    low, high : float
        NaN with one document a domain: no spread is seen.
    """
    n, free = len(domain), len(domain) - len(np.unique(domain))
    if not free:
        return np.full(2, np.nan)
    t = stats.t.ppf((1 + level) / 2, min(free, n_draws - 1))
    tail = 100 * stats.norm.cdf(-np.sqrt(n / free) * t)
    return np.percentile(drawn, [tail, 100 - tail], axis=0)


def wilson(share, n, *, level=0.95):
    """Interval of a share of n independent items (Wilson 1927).

    ::

        (share + z^2 / 2n +- z sqrt(share (1 - share) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Parameters
    ----------
    share : float or array
        0 to 1; where all or no items are right, the interval still has a width.
    n : int or array
    level : float
        Coverage of the interval.

    Returns
    -------
    low, high : as ``share``
    """
    z = stats.norm.ppf((1 + level) / 2)
    middle = share + z**2 / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)
    return np.maximum(low, 0.0), np.minimum(high, 1.0)


def holm(p):
    """Holm's step-down correction, family-wise; NaN is left out and stays NaN."""
    p = np.asarray(p, float)
    corrected = np.full(p.shape, np.nan)
    order = np.argsort(p)[: np.isfinite(p).sum()]  # NaN comes last
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.maximum.accumulate(steps).clip(max=1)
    return corrected


def max_p(values):
    """Family-wise p of several masks, by the largest of all of them in each draw.

    Under the null a mask is one more draw of its control. Each row is standardised by
    the mean and deviation of mask and draws together, so that all columns are alike,
    then (Westfall & Young's single step)::

        p = (1 + #(draws whose largest z over rows >= z of the mask)) / (1 + n_draws)

    Parameters
    ----------
    values : list of arrays of shape (1 + n_draws,)
        The mask's value, then those of its draws; large is more extreme. The first
        draws are used where some have more.

    Returns
    -------
    p : array of shape (n_masks,)
    """
    if not len(values):
        return np.empty(0)
    n = min(map(len, values))
    pooled = np.stack([v[:n] for v in values])
    middle, spread = pooled.mean(1, keepdims=True), pooled.std(1, keepdims=True)
    # what rounding leaves of equal values is no spread
    alike = spread <= 1e-9 * np.maximum(np.abs(middle), 1e-9)
    z = np.where(alike, 0, pooled - middle) / np.where(alike, 1, spread)
    largest = z[:, 1:].max(0)
    return (1 + (largest >= z[:, :1] - 1e-9).sum(1)) / n


def two_sided_max_p(observed, null):
    """Family-wise p of many two-sided tests, as ``max_p`` does for one-sided ones.

    Parameters
    ----------
    observed : array of shape (...)
        NaN where nothing was observed, which is left out.
    null : array of shape (n_draws, ...)

    Returns
    -------
    p : array of shape (...)
        At least 1 / (1 + n_draws), however many tests there are.
    """
    observed = np.asarray(observed, float)
    values = np.concatenate([observed[None], np.asarray(null, float)])
    values = values.reshape(len(values), -1)
    tested = np.isfinite(values).all(0)
    p = np.full(observed.size, np.nan)
    if tested.any():
        columns = [*values[:, tested].T, *-values[:, tested].T]
        p[tested] = np.minimum(*np.split(max_p(columns), 2))
    return p.reshape(observed.shape)


def attainable(tests, level=0.05):
    """What each test could have found at best, beside what it found.

    A p of n draws cannot be less than 1 / (1 + n), and the q of Benjamini and Hochberg
    of one test alone cannot be less than that times the number of tests: where this is
    above the level, "none" would say nothing.

    Parameters
    ----------
    tests : DataFrame, a row a test
        ``draws``, ``least_p`` (see ``surrogates.least_p``), ``tests`` that q corrects
        for (1 where a p stands for itself or is family-wise), and ``found``.
    level : float

    Returns
    -------
    table : DataFrame, a row a test
        ``draws``, ``least p``, ``least q`` (of one test alone), and ``found``: a number
        or "not testable with n draws".
    """
    least = (tests["least_p"] * tests["tests"]).clip(upper=1).astype(float)
    untestable = "not testable with " + tests["draws"].astype(str) + " draws"
    table = tests[["draws", "least_p"]].assign(least_q=least)
    table["found"] = tests["found"].where(least <= level, untestable)
    table.columns = ["draws", "least p", "least q", "found"]
    return table.infer_objects()


def random_effects(maps, *, n_draws=1000, rng):
    """Test in every voxel whether the mean over subjects differs from zero.

    It generalises to other subjects, **not to other stories**: all subjects heard one
    story, so that what is peculiar to this story comes back in each of them. That a
    model's responses belong to this story and not to any slow signal is what the nulls
    of ``coupling`` test.

    ::

        t = mean / (sd / sqrt(n_subjects))

    Family-wise p by sign flips of whole subjects and the largest |t| over voxels
    (Nichols & Holmes 2002; nilearn).

    Parameters
    ----------
    maps : array of shape (n_subjects, n_voxels)
        Values whose null is symmetric about 0: t values, betas, or ``arctanh`` of
        correlations.
    n_draws : int
        With n subjects no p is below about 2 ** (1 - n), however many are asked for.
    rng : numpy Generator

    Returns
    -------
    t, p : arrays of shape (n_voxels,)
        One-sample t; p two-sided, family-wise over voxels. 0 and 1 in voxels that are
        the same in all subjects.
    """
    # a voxel outside a subject's brain would be 0 / 0
    alive = np.flatnonzero(maps.std(0) > 1e-6 * np.abs(maps).max(0, initial=0))
    t, p = np.zeros(maps.shape[1]), np.ones(maps.shape[1])
    if len(alive):
        result = permuted_ols(
            np.ones((len(maps), 1)),
            maps[:, alive],
            model_intercept=False,
            n_perm=n_draws,
            random_state=int(rng.integers(2**31)),
            output_type="dict",
        )
        t[alive] = result["t"][0]
        p[alive] = 10.0 ** -result["logp_max_t"][0]
    return t, p


def bootstrap_interval(values, *, rng, n=2000, level=0.95):
    """Percentile interval of the mean over subjects, drawn with replacement.

    With few subjects it is a little narrow: by about sqrt((n - 1) / n).

    Parameters
    ----------
    values : array of shape (n_subjects, ...)
    rng : numpy Generator
    n : int
        Draws.
    level : float

    Returns
    -------
    low, high : arrays of shape (...)
    """
    flat = values.reshape(len(values), -1)
    means = resample_draws(n, len(values), rng) @ flat
    tails = 50 * (1 - level), 50 * (1 + level)
    return np.percentile(means, tails, axis=0).reshape(2, *values.shape[1:])


def subject_agreement(members, *, rng, n=2000):
    """How much the voxels of a network agree between subjects.

    ::

        agreement = mean over pairs of subjects of 2 |a and b| / (|a| + |b|)     (Dice)

    Parameters
    ----------
    members : bool array of shape (n_subjects, n_networks, n_voxels)
    rng : numpy Generator
    n : int
        Bootstrap draws of subjects with replacement. A subject drawn twice makes no
        pair with itself, which would agree perfectly.

    Returns
    -------
    agreement : array of shape (n_networks,)
        NaN for a network without voxels, and for a single subject.
    draws : array of shape (n_draws, n_networks)
        The same for subjects drawn with replacement, without the rare draws of one
        subject alone.
    """
    n_subjects = len(members)
    each = np.full(n_subjects, 1 / n_subjects)
    counts = rng.multinomial(n_subjects, each, size=n).astype(float)
    pairs = n_subjects**2 - (counts**2).sum(1)
    counts, pairs = counts[pairs > 0], pairs[pairs > 0]
    found = np.full(members.shape[1], np.nan)
    draws = np.full((max(len(counts), 1), len(found)), np.nan)
    if n_subjects < 2:
        return found, draws
    for k in np.flatnonzero(members.any((0, 2))):
        likeness = matching.dice(members[:, k], members[:, k])
        np.fill_diagonal(likeness, 0)
        found[k] = likeness.sum() / (n_subjects * (n_subjects - 1))
        draws[:, k] = ((counts @ likeness) * counts).sum(1) / pairs
    return found, draws


def score_table(scores, of_subjects, ceiling, ceilings, scored, *, rng):
    """Encoding scores beside their ceilings, means over voxels or regions.

    Parameters
    ----------
    scores : dict of arrays of shape (n_draws, n_voxels)
        Of the group's mean BOLD; a draw for each model with random weights, or each
        lag of a shifted story, else one.
    of_subjects : dict of arrays of shape (n_subjects, n_voxels)
        Of some of the models, in single subjects; means over draws.
    ceiling : array of shape (n_voxels,)
        Of the group's mean.
    ceilings : array of shape (n_subjects, n_voxels)
        Of single subjects. Both from ``encoding.ceilings``.
    scored : bool array of shape (n_voxels,)
        Voxels that count.
    rng : numpy Generator
        Of the bootstrap over subjects, which draws the same ones for every model.

    Returns
    -------
    table : DataFrame, a row a model and one for the ceiling
        ``group`` (mean over draws) and its ``share`` of the ceiling (NaN where subjects
        share nothing), ``n_draws`` and
        the 95 % interval ``group_low`` to ``group_high`` over them (Student's t; NaN
        for one); ``subjects`` (mean), its 95 % interval ``low`` to ``high`` over
        subjects, and its share ``subjects_share``.
    """
    rows, seed = {}, int(rng.integers(2**63))
    for name, values in [*scores.items(), ("noise ceiling", ceiling[None])]:
        draws = values[:, scored].mean(1)
        n, mean = len(draws), draws.mean()
        spread = draws.std(ddof=1) if n > 1 else np.nan
        half = stats.t.ppf(0.975, n - 1) * spread / np.sqrt(n)
        rows[name] = {"group": mean, "n_draws": n}
        rows[name] |= {"group_low": mean - half, "group_high": mean + half}
    for name, values in [*of_subjects.items(), ("noise ceiling", ceilings)]:
        each = values[:, scored].mean(1)
        low, high = bootstrap_interval(each, rng=np.random.default_rng(seed))
        rows[name] |= {"subjects": each.mean(), "low": float(low), "high": float(high)}
    table = pd.DataFrame(rows).T
    top = table.loc["noise ceiling"].where(table.loc["noise ceiling"] > 0)
    shares = table["group"] / top["group"], table["subjects"] / top["subjects"]
    table.insert(1, "share", shares[0])
    return table.assign(subjects_share=shares[1])


def subjects_needed(maps, *, rng, n_draws=50, target=0.8):
    """How many subjects make a map that another such group would give again.

    Two groups of n subjects, without a subject in common, are drawn again and again;
    r is the correlation over voxels of their mean maps. Beyond half of the subjects
    by Spearman and Brown, from the r of single subjects that fits the largest groups::

        r(n) = n r(1) / (1 + (n - 1) r(1))

    Parameters
    ----------
    maps : array of shape (n_subjects, n_voxels)
    rng : numpy Generator
        Each size of a group has a child.
    n_draws : int
    target : float
        r that is enough, below 1.

    Returns
    -------
    table : DataFrame
        ``n`` (up to half of the subjects), mean ``r`` over draws, ``low`` and ``high``
        (95 % of the draws; these share subjects, so it is no confidence interval), and
        ``predicted`` by Spearman-Brown.
    needed : float
        The least n whose mean r reaches the target; else the predicted one; infinity
        where maps do not correlate between subjects.
    """
    sizes = np.arange(1, len(maps) // 2 + 1)
    centred = maps - maps.mean(1, keepdims=True)
    gram = (centred @ centred.T).astype(float)  # all that means of subjects need
    rows = []
    for size, of_size in zip(sizes, rng.spawn(len(sizes)), strict=True):
        orders = [of_size.permutation(len(maps)) for _ in range(n_draws)]
        r = [_between(gram, order, size) for order in orders]
        rows.append((size, np.mean(r), *np.percentile(r, [2.5, 97.5])))
    table = pd.DataFrame(rows, columns=["n", "r", "low", "high"])
    n, r = sizes[-1], table["r"].iloc[-1]
    single = r / (n - (n - 1) * r)
    table["predicted"] = sizes * single / (1 + (sizes - 1) * single)
    reached = table["n"][table["r"] >= target]
    if len(reached):
        return table, float(reached.iloc[0])
    if single <= 0:
        return table, np.inf
    return table, float(np.ceil(target * (1 - single) / (single * (1 - target))))


def _between(gram, order, size):
    """Correlation of the mean maps of two disjoint groups, the first of the order."""
    a, b = order[:size], order[size : 2 * size]
    variance = gram[np.ix_(a, a)].sum() * gram[np.ix_(b, b)].sum()
    return gram[np.ix_(a, b)].sum() / np.sqrt(variance) if variance > 0 else 0.0
