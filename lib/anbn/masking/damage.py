"""What a mask costs a model beside its controls: paired statistics over documents.

A table of damage has a row for each mask and document: ``group`` (name of the mask, or
"intact"), ``control`` ("" for the mask itself, else the name of a control), ``draw``,
``domain``, ``document``, ``n_tokens`` (predicted tokens), ``nll`` (nats, their mean)
and ``accuracy`` (share of next tokens that are right). Where there, ``kind``,
``action``, ``n``, ``share`` and ``factor`` tell masks of one name apart.

All means are over tokens. Intervals resample documents within each domain, as the
domains were chosen, and the draws of a control. Specificity asks whether a network is
special to a domain.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from anbn.masking import evaluation
from anbn.stats import inference, matching

SETTING = ("kind", "action", "n", "share", "factor")
MEASURES = ("nll", "accuracy")
N_BOOTSTRAP = 2000  # draws of documents and of controls; intervals are of 95 %
TESTED = ("difference", "low", "high", "effect", "p")
COMPARISON = ("group", "control", "n_draws", "n_documents", "nll", "damage")
COMPARISON += ("control_damage", *TESTED, "accuracy")
COMPARISON += (*(f"accuracy_{name}" for name in TESTED), "p_holm", "p_fwe")
SPECIFICITY = ("group", "domain", "damage", "control_damage", "profile")
SPECIFICITY += ("control_profile", *TESTED[:3], "p", "p_holm", "p_fwe")


class DamageError(ValueError):
    """A table of damage holds too little, or measures on other documents."""


class Paired(NamedTuple):
    """One mask, its controls and the intact model on the same documents."""

    mask: np.ndarray  # (n_documents,)
    controls: np.ndarray  # (n_draws, n_documents)
    intact: np.ndarray  # (n_documents,)
    n_tokens: np.ndarray  # (n_documents,)
    domain: np.ndarray  # (n_documents,) str


class Compared(NamedTuple):
    """What masks cost, beside their controls."""

    by_document: pd.DataFrame  # a row a mask or draw and document, see the module
    by_mask: pd.DataFrame  # a row a mask or draw, of ``perplexity``
    comparisons: pd.DataFrame  # a row a mask and control, of ``compare_all``

    @property
    def base(self):
        """Perplexity of the intact model."""
        rows = self.by_mask
        return rows.loc[rows["group"] == "intact", "perplexity"].item()


def measure_and_compare(
    language_model,
    tokens,
    documents,
    trials,
    *,
    rng,
    batch_size=8,
    layers=None,
    modules=None,
):
    """Every trial on every document, and every mask against its controls.

    Parameters
    ----------
    language_model : LanguageModel
        With a causal head.
    tokens, documents : DataFrame
        From ``holdout.held_out_documents``.
    trials : list of evaluation.Trial
        Of masks and their controls, ``evaluation.trials``. Without any, tables hold the
        intact model alone.
    rng : numpy Generator
        Of bootstraps.
    batch_size : int
        Documents at a time.
    layers, modules
        See ``intervene.intervene``.

    Returns
    -------
    compared : Compared
    """
    by_document = evaluation.measure(
        language_model,
        tokens,
        documents,
        trials,
        batch_size=batch_size,
        layers=layers,
        modules=modules,
    )
    by_mask = perplexity(by_document, rng=rng)
    return Compared(by_document, by_mask, compare_all(by_document, rng=rng))


def perplexity(table, *, by_domain=False, rng=None):
    """Perplexity and accuracy under every mask and every draw of its controls.

    ::

        perplexity = exp(sum nll * n_tokens / sum n_tokens)

    Parameters
    ----------
    table : DataFrame
        See the module.
    by_domain : bool
        A row for each domain.
    rng : numpy Generator, optional
        Adds ``low`` and ``high`` of the masks' perplexity (NaN for draws of controls):
        an interval over documents of the nats lost on them, added to the intact
        model's, so that it does not tell how documents differ for any model.

    Returns
    -------
    table : DataFrame, a row a mask
        ``perplexity``, ``nll``, ``accuracy``, ``n_tokens``.
    """
    keys = [*_setting(table), "group", "control", "draw"] + ["domain"] * by_domain
    # every mask gets the same documents drawn anew, whatever else is in the table
    seed = None if rng is None else rng.integers(2**63)
    intact = table[table["group"] == "intact"].drop_duplicates("document")
    intact = intact.set_index("document")["nll"]
    rows = []
    for key, part in table.groupby(keys, sort=False, dropna=False):
        n = part["n_tokens"].to_numpy(float)
        means = {m: np.average(part[m], weights=n) for m in MEASURES}
        row = dict(zip(keys, key, strict=True)) | {"perplexity": np.exp(means["nll"])}
        if seed is not None and not row["control"]:
            domain, own = part["domain"].to_numpy(str), intact[part["document"]]
            same = np.random.default_rng(seed)
            weights = inference.resample(domain, n, N_BOOTSTRAP, same)
            drawn = weights @ (part["nll"].to_numpy() - own.to_numpy())
            lost = inference.interval(drawn, domain)
            low, high = np.exp(np.average(own, weights=n) + lost)
            row |= {"low": low, "high": high}
        rows.append(row | means | {"n_tokens": int(n.sum())})
    return pd.DataFrame(rows)


def with_range(by_mask, group):
    """Rows of ``perplexity``, the draws of one group as one row for each ``n``.

    Parameters
    ----------
    by_mask : DataFrame
        From ``perplexity``, with ``n``.
    group : str

    Returns
    -------
    rows : DataFrame
        That group's last: ``perplexity`` is the median over draws, ``low`` and ``high``
        are their range.
    """
    of_draws = by_mask["group"] == group
    drawn, others = by_mask[of_draws], by_mask[~of_draws].reset_index(drop=True)
    if not len(drawn):
        return others
    over_draws = drawn.groupby("n", as_index=False)["perplexity"]
    middle = over_draws.agg(perplexity="median", low="min", high="max")
    middle = middle.assign(group=group, control="")
    return pd.concat([others, middle], ignore_index=True)


def by_share(by_mask, n_neurons):
    """Perplexity by the share of neurons, a line a mask and control.

    Parameters
    ----------
    by_mask : DataFrame
        From ``perplexity``, with ``n``.
    n_neurons : int
        In all.

    Returns
    -------
    lines : DataFrame
        For ``figures.plot_shares``: ``group`` (with its control), ``share``, and over
        draws the median ``perplexity`` with its range, ``low`` to ``high``.
    """
    rows = by_mask[by_mask["group"] != "intact"]
    control = rows["control"].map(": random {}".format).where(rows["control"] != "", "")
    rows = rows.assign(group=rows["group"] + control, share=rows["n"] / n_neurons)
    over_draws = rows.groupby(["group", "share"], sort=False)["perplexity"]
    return over_draws.agg(perplexity="median", low="min", high="max").reset_index()


def compare_all(table, *, rng):
    """Every mask against the draws of every control it has, paired over documents.

    ::

        difference = nll of the mask - mean over draws of nll of the control
        effect     = difference / standard deviation over draws
        p          = (1 + #(draws at least as damaging)) / (1 + n_draws)

    A mask that is kept, or cut as what is least needed (``action`` "keep" or "cut"), is
    tested for less damage than its control, any other for more.

    Parameters
    ----------
    table : DataFrame
        See the module.
    rng : numpy Generator

    Returns
    -------
    rows : DataFrame, a row a mask and control
        The setting; ``nll`` of the mask, ``damage`` (above intact), ``control_damage``
        (mean over draws), ``difference`` with ``low``, ``high`` (for other documents
        and the mean of all possible draws: that 0 lies outside does not say that the
        mask is unlike a draw, p does), ``effect``, ``p``, all in nats a token;
        ``accuracy`` with ``accuracy_difference`` (negative for harm),
        ``accuracy_low``, ...; ``p_holm``: Holm over the masks of one kind, action and
        control; ``p_fwe``: the same error rate from ``inference.max_p``. With 20 draws
        p is 1/21 at least, so that Holm over two masks finds nothing, whatever the
        effect.
    """
    setting, seed = _setting(table), rng.integers(2**63)
    intact, masks = table["group"] == "intact", table["group"] != "intact"
    rows, values = [], []
    for key, part in table[masks].groupby(
        [*setting, "group"], sort=False, dropna=False
    ):
        of_part = dict(zip(setting, key, strict=False))
        less = of_part.get("action") in ("keep", "cut")
        both = pd.concat([table[intact], part])
        for control in filter(None, part["control"].unique()):
            row, pooled = _compare(both, key[-1], control, less, seed)
            rows.append(of_part | row)
            values.append(pooled)
    if not rows:
        return pd.DataFrame(columns=[*setting, *COMPARISON])
    rows = pd.DataFrame(rows)
    family = [c for c in ("kind", "action", "control") if c in rows]
    for _, part in rows.groupby(family, dropna=False):
        rows.loc[part.index, "p_holm"] = inference.holm(part["p"])
        rows.loc[part.index, "p_fwe"] = inference.max_p([values[i] for i in part.index])
    return rows


def compare_with_random(table, share_of, *, group="random", rng):
    """Criteria by which units are cut against random ones, where as many are cut.

    Parameters
    ----------
    table : DataFrame
        See the module. Random scores are the draws of one group.
    share_of : dict of (str, int) to float
        Share of all units, by group and ``n``; the same shares are compared.
    group : str
        Of the random scores.
    rng : numpy Generator

    Returns
    -------
    rows : DataFrame, a row a criterion and share
        Of ``compare_all``, with ``share``; none without random scores.
    """
    drawn = {
        share_of[group, n]: rows
        for n, rows in table[table["group"] == group].groupby("n")
    }
    beside = [table[table["group"] == "intact"]]
    for (criterion, n), share in share_of.items():
        if criterion != group and share in drawn:
            own = table[(table["group"] == criterion) & (table["n"] == n)]
            rest = drawn[share].assign(group=criterion, control=group, n=n)
            beside += [rows.assign(action="cut") for rows in (own, rest)]
    rows = compare_all(pd.concat(beside), rng=rng)
    shares = [share_of[row.group, row.n] for row in rows.itertuples()]
    return rows.assign(share=np.array(shares, float))


def _compare(table, group, control, less, seed):
    """A row of the table, and nll of mask and draws, larger for what is tested.

    The same seed for all: the same documents for both measures and every mask.
    """
    results, values = {}, []
    for measure in MEASURES:
        pairs = paired(table, group, control, measure)
        weight = pairs.n_tokens / pairs.n_tokens.sum()
        # one product: equal rows give equal numbers, to the last bit
        means = np.vstack([pairs.mask, pairs.intact, pairs.controls]) @ weight
        mask, intact, draws = means[0], means[1], means[2:]
        worse = -1 if (measure == "nll") == less else 1
        drawn = _differences(pairs, N_BOOTSTRAP, np.random.default_rng(seed))
        low, high = inference.interval(drawn, pairs.domain, len(draws))
        spread = draws.std(ddof=1)
        results[measure] = {
            measure: mask,
            "damage": mask - intact,
            "control_damage": draws.mean() - intact,
            "difference": mask - draws.mean(),
            "low": low,
            "high": high,
            "effect": (mask - draws.mean()) / spread if spread > 1e-12 else np.nan,
            "p": float(matching.p_values(worse * mask, worse * draws)),
        }
        values.append(worse * np.r_[mask, draws])
    counts = {"n_draws": len(draws), "n_documents": len(pairs.n_tokens)}
    accuracy = results["accuracy"]
    named = {f"accuracy_{key}": accuracy[key] for key in list(accuracy)[3:]}
    row = {"group": group, "control": control} | counts | results["nll"]
    return row | {"accuracy": accuracy["accuracy"]} | named, values[0]


def paired(table, group, control, measure="nll"):
    """A mask, its controls and the intact model, on the same documents in one order.

    Returns
    -------
    paired : Paired

    Raises
    ------
    ValueError
        If there are several rows for a mask or draw and a document.
    DamageError
        If documents differ between the mask, its controls and the intact model.
    """
    own = (table["group"] == group) & table["control"].isin(["", control])
    rows = table[own | (table["group"] == "intact")]
    wide = rows.pivot(
        index=["group", "control", "draw"], columns="document", values=measure
    )
    documents = rows[["document", "n_tokens", "domain"]].drop_duplicates()
    if wide.isna().any(axis=None) or len(documents) > wide.shape[1]:
        raise DamageError(
            f"mask {group!r}, control {control!r} and the intact model were not "
            "measured on the same documents, or not on the same tokens of them"
        )
    documents = documents.sort_values("document")
    return Paired(
        wide.loc[group, ""].to_numpy()[0],
        wide.loc[group, control].to_numpy(),
        wide.loc["intact", ""].to_numpy()[0],
        documents["n_tokens"].to_numpy(float),
        documents["domain"].to_numpy(str),
    )


def _setting(table):
    return [c for c in SETTING if c in table]


def _differences(pairs, n, rng):
    """Mask less mean control, documents and draws drawn anew; (n,)."""
    weights = inference.resample(pairs.domain, pairs.n_tokens, n, rng)
    controls = weights @ pairs.controls.T
    return weights @ pairs.mask - (
        controls * inference.resample_draws(*controls.shape, rng)
    ).sum(1)


def domain_matrix(table):
    """Damage of every mask in every domain of text, nats a token above intact.

    Parameters
    ----------
    table : DataFrame
        See the module; with one setting of each mask.

    Returns
    -------
    matrix : DataFrame of shape (n_masks, n_domains)
    """
    means = perplexity(table[table["control"] == ""], by_domain=True)
    means = means.pivot(index="group", columns="domain", values="nll")
    above = means - means.loc["intact"]
    groups, domains = (list(dict.fromkeys(table[by])) for by in ("group", "domain"))
    return above.loc[[group for group in groups if group != "intact"], domains]


def profile(above):
    """How much more harm is done in each domain than in the others, relative.

    ::

        profile_d = (above_d - mean of the other domains) / mean |above|

    0 where all domains are harmed alike, however much; bounded by twice the number of
    domains, even where next to no harm is done.

    Parameters
    ----------
    above : array of shape (..., n_domains)
        Nats above intact.
    """
    n = above.shape[-1]
    others = (above.sum(-1, keepdims=True) - above) / (n - 1)
    size = np.abs(above).mean(-1, keepdims=True)
    return (above - others) / np.where(size > 0, size, 1)


def specificity_all(table, control, *, rng):
    """Domains that masks harm more than their controls do, relative to other domains.

    Any mask harms some domains more than others, so its ``profile`` is compared with
    those of the draws of its control. Where a mask does far more harm than its control
    the two are not alike for that reason alone: harm is bounded, and the easier text
    has more to lose. Draws that do next to no harm have wild profiles, which makes p
    larger, never smaller.

    Parameters
    ----------
    table : DataFrame
        See the module; with one setting of each mask.
    control : str
    rng : numpy Generator

    Returns
    -------
    table : DataFrame, a row a mask and domain
        ``damage`` (nats above intact), ``control_damage`` (mean over draws),
        ``profile``, ``control_profile``, ``difference`` of the two with ``low`` and
        ``high``, and ``p``: (1 + #(draws whose profile reaches the mask's)) / (1 +
        n_draws); ``p_holm`` and ``p_fwe`` over masks x domains, see ``compare_all``. No
        row where there is one domain alone: it has no other to be compared with.
    """
    groups = table.loc[table["control"] == control, "group"].unique()
    if not len(groups) or table["domain"].nunique() < 2:
        return pd.DataFrame(columns=SPECIFICITY)
    seed = rng.integers(2**63)
    found = [_specificity(table, group, control, seed) for group in groups]
    rows = pd.concat([part for part, _ in found], ignore_index=True)
    values = [column for _, profiles in found for column in profiles.T]
    return rows.assign(p_holm=inference.holm(rows["p"]), p_fwe=inference.max_p(values))


def stars(special, matrix, *, level=0.05):
    """Which cells of ``domain_matrix`` are special to their domain.

    Parameters
    ----------
    special : DataFrame
        From ``specificity_all``.
    matrix : DataFrame of shape (n_masks, n_domains)
    level : float
        Of ``p_fwe``.

    Returns
    -------
    stars : DataFrame of bool, of shape (n_masks, n_domains)
    """
    marked = pd.DataFrame(False, index=matrix.index, columns=matrix.columns)
    for row in special[special["p_fwe"] <= level].itertuples():
        marked.loc[row.group, row.domain] = True
    return marked


def _specificity(table, group, control, seed):
    """Rows of one mask, and profiles of it and the draws (1 + n_draws, n_domains)."""
    rng = np.random.default_rng(seed)
    pairs = paired(table, group, control)
    domains = list(dict.fromkeys(table["domain"].astype(str)))
    inside = [pairs.domain == domain for domain in domains]
    above = np.vstack([pairs.mask, pairs.controls]) - pairs.intact

    def by_domain(weights):  # (n, n_documents) -> (n, 1 + n_draws, n_domains)
        means = [
            weights[:, i] @ above[:, i].T / weights[:, i].sum(1)[:, None]
            for i in inside
        ]
        return np.stack(means, -1)

    means = by_domain(pairs.n_tokens[None])[0]
    profiles = profile(means)
    weights = inference.resample(pairs.domain, pairs.n_tokens, N_BOOTSTRAP, rng)
    drawn = profile(by_domain(weights))
    shares = inference.resample_draws(N_BOOTSTRAP, len(pairs.controls), rng)
    drawn = drawn[:, 0] - (drawn[:, 1:] * shares[..., None]).sum(1)
    # a profile hangs on its own domain most, so the smallest sets the width
    smallest = pairs.domain[min(inside, key=np.sum)]
    n_draws = len(pairs.controls)
    low, high = inference.interval(drawn, smallest, n_draws)
    columns = {
        "group": group,
        "domain": domains,
        "damage": means[0],
        "control_damage": means[1:].mean(0),
        "profile": profiles[0],
        "control_profile": profiles[1:].mean(0),
        "difference": profiles[0] - profiles[1:].mean(0),
        "low": low,
        "high": high,
        "p": matching.p_values(profiles[0], profiles[1:]),
    }
    return pd.DataFrame(columns), profiles
