"""Fingerprint of a model: do two models' functional networks go up and down together?

Functional Network Fingerprint (Liu et al. 2026, arXiv 2601.22692). Signals of networks
come from ``signals.fingerprint``.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from anbn import hemodynamics, matching
from anbn.signals import LEAST_WORDS

SCORES = ("best", "matched", "pair")


class LikenessError(ValueError):
    """Fingerprints cannot be compared as asked."""


def likeness(a, b):
    """|Spearman correlation| of every network of ``a`` with every one of ``b``.

    A unit's sign means nothing across models: without it, negative is as alike as
    positive. Published are signed correlations.

    Parameters
    ----------
    a, b : arrays of shape (n_words, n_networks)
        One text's signals in two models. Words that either lacks (NaN) are left out.

    Returns
    -------
    likeness : array of shape (n_networks of a, n_networks of b)
    """
    return np.abs(_correlate(*_ranks(a, b)))


def _ranks(a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    if len(a) != len(b):
        raise LikenessError(
            f"expected signals over the same words, found {len(a)} and {len(b)} words: "
            "take both fingerprints from the same texts"
        )
    known = np.isfinite(a).all(1) & np.isfinite(b).all(1)
    if known.sum() < LEAST_WORDS:
        raise LikenessError(
            f"expected {LEAST_WORDS} words or more that both models have signals for, "
            f"found {known.sum()}"
        )
    return tuple(hemodynamics.zscore(stats.rankdata(x[known], axis=0)) for x in (a, b))


def _correlate(a, b):
    return a.T @ b / len(a)


def compare(fingerprints, reference, related, *, n_null=99, rng):
    """How alike other models are to one, text by text, beside chance.

    Three scores of the likenesses L (networks of the reference x of the other)::

        best     mean over the reference's networks of the largest L in each row
        matched  sum of L over the one-to-one assignment that makes it largest,
                 divided by the number of the reference's networks
        pair     correlation of the one pair that is most alike over the *other* texts

    Published is the pair most alike over the same texts that it is reported for, which
    chance makes alike among 64 x 64 pairs. The null moves one model's words along the
    text in a circle, which keeps every signal's spectrum.

    Parameters
    ----------
    fingerprints : dict of str to list of arrays of shape (n_words, n_networks)
        Of each model, from ``fingerprint``, for two texts or more, the same for all.
    reference : str
        The model that others may descend from.
    related : collection of str
        Models known to descend from it.
    n_null : int
        Shifts at random for each text and model.
    rng : numpy Generator

    Returns
    -------
    table : DataFrame, a row a model, text and score
        ``model``, ``related`` (bool), ``text`` (number), ``score``, ``likeness``,
        ``null`` (mean over shifts), ``null_95`` (their 95th percentile) and ``p``.
    """
    wrong = {reference, *related} - set(fingerprints)
    if wrong or reference in related:
        raise LikenessError(
            f"expected reference and related to be different names of "
            f"{list(fingerprints)}, found {reference!r} and {list(related)}"
        )
    numbers = {name: len(texts) for name, texts in fingerprints.items()}
    if len(set(numbers.values())) > 1 or numbers[reference] < 2:
        raise LikenessError(
            f"expected the same texts for every model, two or more; found {numbers}"
        )
    if len(fingerprints) < 2:
        raise LikenessError(
            "expected fingerprints of another model than the reference, found none"
        )
    tables = [
        _against(fingerprints[reference], texts, n_null, rng).assign(model=name)
        for name, texts in fingerprints.items()
        if name != reference
    ]
    table = pd.concat(tables, ignore_index=True)
    table["related"] = table["model"].isin(list(related))
    first = ["model", "related", "text", "score"]
    return table[first + [c for c in table if c not in first]]


def _against(ours, theirs, n_null, rng):
    """Rows of ``compare`` for one other model."""
    ranks = [_ranks(a, b) for a, b in zip(ours, theirs, strict=True)]
    signed = np.stack([_correlate(a, b) for a, b in ranks])
    rows = []
    for i, (a, b) in enumerate(ranks):
        elsewhere = np.delete(signed, i, 0).mean(0)
        pair = np.unravel_index(np.abs(elsewhere).argmax(), elsewhere.shape)
        sign = np.sign(elsewhere[pair])
        found = _scores(signed[i], pair, sign)
        by = rng.integers(1, len(a), n_null)
        null = [_scores(_correlate(a, np.roll(b, n, 0)), pair, sign) for n in by]
        null = np.reshape(null, (n_null, len(SCORES)))
        rows.append(
            {
                "text": i,
                "score": SCORES,
                "likeness": found,
                "null": null.mean(0),
                "null_95": np.percentile(null, 95, axis=0),
                "p": matching.p_values(found, null),
            }
        )
    return pd.concat([pd.DataFrame(row) for row in rows], ignore_index=True)


def _scores(signed, pair, sign):
    """Values of ``SCORES``, from correlations (n_networks, n_others)."""
    alike = np.abs(signed)
    columns = matching.match(alike)
    rows = np.flatnonzero(columns >= 0)
    matched = alike[rows, columns[rows]].sum() / len(alike)  # none without a partner
    return [alike.max(1).mean(), matched, sign * signed[pair]]


class Roc(NamedTuple):
    """How well a likeness tells related models from unrelated ones."""

    false_positive: np.ndarray  # rates at each threshold
    true_positive: np.ndarray
    auc: float
    low: float  # 95 % interval over texts
    high: float


def roc(table, score="best", *, n_bootstrap=1000, rng):
    """Receiver operating characteristic over texts and models.

    Parameters
    ----------
    table : DataFrame
        From ``compare``.
    score : {"best", "matched", "pair"}
    n_bootstrap : int
        Texts are drawn with replacement, each with all its models. The interval is for
        other texts and the same models: with a few models it says nothing of others.
    rng : numpy Generator

    Returns
    -------
    curve : Roc
    """
    rows = table[table["score"] == score]
    kinds = rows["related"].unique()
    if len(kinds) < 2:
        raise LikenessError(
            f"expected {' and '.join(SCORES)} of related and of unrelated models, for "
            f"score {score!r} found {len(rows)} rows, related: {list(kinds)}"
        )
    truth, values = rows["related"].to_numpy(), rows["likeness"].to_numpy()
    text = pd.factorize(rows["text"])[0]
    share = np.full(text.max() + 1, 1 / (text.max() + 1))
    weights = rng.multinomial(len(share), share, n_bootstrap)[:, text]
    yes, no = weights[:, truth], weights[:, ~truth]
    # the area is the share of pairs in the right order
    above = np.sign(values[truth][:, None] - values[~truth]) / 2 + 0.5
    aucs = np.sum(yes @ above * no, 1) / (yes.sum(1) * no.sum(1))
    false, true, _ = roc_curve(truth, values)
    low, high = np.percentile(aucs, [2.5, 97.5]).tolist()
    return Roc(false, true, float(roc_auc_score(truth, values)), low, high)
