"""What each network of a model answers to."""

import string

import numpy as np
import pandas as pd
from scipy import stats

from anbn.core import blocks
from anbn.stats import matching, timeseries
from anbn.text import linguistics, stories

VISIBLE = {"\n": "⏎", "\t": "⇥", " ": "␣"}  # of tokens that are blank


def top_tokens(timecourses, tokens, *, n=10, min_count=3, column="token"):
    """Tokens, or words, with the largest mean response of each network.

    Parameters
    ----------
    timecourses : array of shape (n_tokens, n_networks)
        High where a network is on.
    tokens : DataFrame
        A row a token. Blanks around a text are cut off, so `` the`` and ``the`` count
        as one; texts that are blank are shown as ``⏎``, ``⇥``, ``␣``.
    n : int
        For each network; fewer if there are fewer.
    min_count : int
        Occurrences below which a token is left out: its mean is mostly chance.
    column : str
        Of ``tokens``: "token", or "word" of ``describe_tokens``.

    Returns
    -------
    top : DataFrame
        Columns ``network``, ``rank`` (from 1), ``text``, ``response`` (mean z over
        occurrences), ``count``.
    """
    z = timeseries.zscore(np.asarray(timecourses, float))
    text = tokens[column].astype(str).map(visible).to_numpy()
    there = text != ""  # the word of a token that is blank
    grouped = pd.DataFrame(z[there]).groupby(text[there])
    count = grouped.size()
    mean = grouped.mean()[count >= min_count]
    rows = []
    for network in mean:
        best = mean[network].sort_values(ascending=False, kind="stable")[:n]
        rows += [
            (network, rank, name, response, count[name])
            for rank, (name, response) in enumerate(best.items(), 1)
        ]
    return pd.DataFrame(rows, columns=["network", "rank", "text", "response", "count"])


def visible(text):
    """A token's text without blanks and punctuation around it, unless that is all.

    Blanks alone are shown by signs.
    """
    bare = text.strip()
    signs = "".join(VISIBLE.get(letter, letter) for letter in text)
    return bare.strip(string.punctuation + "’“”") or bare or signs


def domain_selectivity(timecourses, tokens, documents, *, rng, n_draws=1000):
    """How much networks answer to one domain of text more than to others.

    ::

        eta_squared = sum_d n_d * mean_d(z) ** 2 / n_tokens

    the share of a network's variance over tokens that lies between domains. Its null
    deals the domains out anew among whole documents: tokens of one document are not
    independent. With few documents p cannot be small, whatever the number of tokens.

    Parameters
    ----------
    timecourses : array of shape (n_tokens, n_networks)
    tokens : DataFrame
        Column ``document``: row of ``documents``.
    documents : DataFrame
        Column ``corpus``: the domain.
    rng : numpy Generator
    n_draws : int

    Returns
    -------
    means : DataFrame of shape (n_networks, n_domains)
        Mean z of each network in each domain.
    tests : DataFrame, a row a network
        ``eta_squared``, ``p``, and ``q`` (Benjamini-Hochberg over networks); with one
        domain, or one document a domain, there is no test and these are NaN.
    """
    z = timeseries.zscore(np.asarray(timecourses, float))
    found, at = np.unique(tokens["document"].to_numpy(int), return_inverse=True)
    names, domain = np.unique(
        documents["corpus"].iloc[found].to_numpy(str), return_inverse=True
    )
    n_tokens = np.bincount(at)
    totals = np.zeros((len(found), z.shape[1]))
    np.add.at(totals, at, z)

    def domain_means(domain):
        belongs = np.eye(len(names))[:, domain]
        n = belongs @ n_tokens
        mean = belongs @ totals / n[:, None]
        return mean, n @ mean**2 / len(z)

    means, observed = domain_means(domain)
    index = pd.RangeIndex(z.shape[1], name="network")
    tests = dict.fromkeys(("eta_squared", "p", "q"), np.nan)
    if 1 < len(names) < len(found) and z.shape[1]:
        null = [domain_means(rng.permutation(domain))[1] for _ in range(n_draws)]
        p = matching.p_values(observed, null)
        tests = {"eta_squared": observed, "p": p, "q": stats.false_discovery_control(p)}
    return pd.DataFrame(means.T, index, names), pd.DataFrame(tests, index)


def feature_correlations(timecourses, features, document, *, rng, n_draws=1000):
    """Correlation of networks with surprisal, frequency, position and such.

    Both are centred within each document, so that r does not come of documents that
    differ as a whole. The null shifts the features of each document in a circle by a
    random number of tokens: both sides keep their autocorrelation.

    Parameters
    ----------
    timecourses : array of shape (n_tokens, n_networks)
    features : DataFrame, a row a token
        Numbers; tokens where a feature is NaN are left out of its correlation.
    document : array of shape (n_tokens,)
        The document of each token. Tokens of one follow one another.
    rng : numpy Generator
    n_draws : int

    Returns
    -------
    correlations : DataFrame
        Columns ``network``, ``feature``, ``r`` (Pearson, within documents), ``p``
        (two-sided), ``q`` (Benjamini-Hochberg over the table). Constant features
        give NaN.
    """
    at = pd.factorize(np.asarray(document))[0]
    if (np.diff(at) < 0).any():
        raise ValueError("tokens of one document must follow one another: sort them")
    lengths = np.bincount(at)
    starts = np.cumsum(lengths) - lengths
    z = timeseries.zscore(np.asarray(timecourses, float))
    z = z - pd.DataFrame(z).groupby(at).transform("mean").to_numpy()
    values = features.astype(float)
    values = (values - values.groupby(at).transform("mean")).to_numpy()
    known = np.isfinite(values)
    values = np.where(known, values, 0)
    inside = np.arange(len(z)) - starts[at]
    observed = _correlate(values, known, z)
    null = np.empty((n_draws, *observed.shape))
    for draw in null:
        shift = rng.integers(lengths)[at]
        order = starts[at] + (inside + shift) % lengths[at]
        draw[:] = _correlate(values[order], known[order], z)
    p = matching.p_values(np.abs(observed), np.abs(null))
    table = pd.DataFrame(
        [(k, name) for k in range(z.shape[1]) for name in features],
        columns=["network", "feature"],
    ).assign(r=observed.T.ravel(), p=p.T.ravel(), q=np.nan)
    tested = table["p"].notna()
    if not tested.any():
        return table
    table.loc[tested, "q"] = stats.false_discovery_control(table.loc[tested, "p"])
    return table


def _correlate(values, known, z):
    """Pearson r (features x networks) over the tokens where a feature is known."""
    known = known.astype(float)
    n = np.maximum(known.sum(0), 1)[:, None]
    x, y, x2, y2 = values.sum(0)[:, None], known.T @ z, values**2, known.T @ z**2
    cov = values.T @ z - x * y / n
    spread = (x2.sum(0)[:, None] - x**2 / n) * (y2 - y**2 / n)
    return np.divide(
        cov,
        np.sqrt(np.maximum(spread, 0)),
        np.full_like(cov, np.nan),
        where=spread > 1e-9,
    )


def describe_tokens(tokens, documents, *, language="en"):
    """The word each token belongs to, and its features.

    Parameters
    ----------
    tokens : DataFrame
        Columns ``token``, ``start``, ``end`` (characters of its document's text) and
        ``document``; ``surprisal`` and ``entropy`` are passed on.
    documents : DataFrame
        Column ``text``.
    language : str
        See ``linguistics.annotate``.

    Returns
    -------
    described : DataFrame, index of ``tokens``
        ``word``: the word (without blanks) that holds the token's last visible
        character, "" for blanks. ``length``, ``log_frequency``, ``content`` and
        ``position_in_sentence``: of that word, see ``linguistics.annotate``.
        ``position``: of the token in its document, from 0.
    """
    pieces = []
    for document, part in tokens.groupby("document", sort=False):
        words = stories.split_words(documents["text"].iloc[int(document)])
        features = linguistics.annotate(words, language=language)
        features = features.rename(columns={"position": "position_in_sentence"})
        features = features.drop(columns="sentence").assign(word=words["word"])
        last = part["start"] + part["token"].str.rstrip().str.len() - 1
        owner = np.searchsorted(words["start"], last, side="right") - 1
        blank = part["token"].str.strip() == ""
        piece = features.reindex(np.where(blank, -1, owner)).set_index(part.index)
        piece["word"] = piece["word"].fillna("")
        pieces.append(piece.assign(position=np.arange(len(part))))
    described = pd.concat(pieces).loc[tokens.index]
    passed = [name for name in ("surprisal", "entropy") if name in tokens]
    return described.join(tokens[passed])


def mean_signals(activations, members):
    """Mean signal of each network's neurons, every neuron standardised.

    Unlike the time courses of independent components these may correlate (mean signals
    as in arXiv 2601.22692).

    Parameters
    ----------
    activations : array or DataArray of shape (n_tokens, n_layers, n_neurons)
    members : bool array of shape (n_networks, n_layers, n_neurons)

    Returns
    -------
    signals : array of shape (n_tokens, n_networks)
        0 for a network without neurons.
    """
    mean, variance = blocks.moments(activations)
    weights = (
        members.reshape(len(members), -1) / np.maximum(members.sum((1, 2)), 1)[:, None]
    )
    weights = (weights / np.sqrt(np.where(variance > 0, variance, np.inf))).T
    signals = np.empty((len(activations), len(members)))
    for rows, block in blocks.walk(activations):
        signals[rows] = (block.reshape(len(block), -1) - mean) @ weights
    return signals
