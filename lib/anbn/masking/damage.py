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

from anbn.stats import inference, matching

SETTING = ("kind", "action", "n", "share", "factor")
MEASURES = ("nll", "accuracy")


class DamageError(ValueError):
    """A table of damage is not what it must be, or holds too little."""


class Paired(NamedTuple):
    """One mask, its controls and the intact model on the same documents."""

    mask: np.ndarray  # (n_documents,)
    controls: np.ndarray  # (n_draws, n_documents)
    intact: np.ndarray  # (n_documents,)
    n_tokens: np.ndarray  # (n_documents,)
    domain: np.ndarray  # (n_documents,) str


def perplexity(table, *, by_domain=False, rng=None, n_bootstrap=2000, level=0.95):
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
    n_bootstrap : int
    level : float
        Share of draws of documents inside the interval.

    Returns
    -------
    table : DataFrame, a row a mask
        ``perplexity``, ``nll``, ``accuracy``, ``n_tokens``.
    """
    check(table)
    keys = [*_setting(table), "group", "control", "draw"] + ["domain"] * by_domain
    intact = table[table["group"] == "intact"].drop_duplicates("document")
    intact = intact.set_index("document")["nll"]
    if rng is not None and not table["document"].isin(intact.index).all():
        raise DamageError("intervals need the intact model on all documents")
    rows = []
    for key, part in table.groupby(keys, sort=False, dropna=False):
        n = part["n_tokens"].to_numpy(float)
        means = {m: np.average(part[m], weights=n) for m in MEASURES}
        row = dict(zip(keys, key, strict=True)) | {"perplexity": np.exp(means["nll"])}
        if rng is not None and not row["control"]:
            domain, own = part["domain"].to_numpy(str), intact[part["document"]]
            weights = inference.resample(domain, n, n_bootstrap, rng)
            drawn = weights @ (part["nll"].to_numpy() - own.to_numpy())
            lost = inference.interval(drawn, domain, level=level)
            low, high = np.exp(np.average(own, weights=n) + lost)
            row |= {"low": low, "high": high}
        rows.append(row | means | {"n_tokens": int(n.sum())})
    return pd.DataFrame(rows)


def compare_all(table, *, rng, n_bootstrap=2000, level=0.95):
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
    n_bootstrap, level
        Of the intervals, for other documents and the mean of all possible draws. That
        0 lies outside does not say that the mask is unlike a draw: p does.

    Returns
    -------
    rows : DataFrame, a row a mask and control
        The setting; ``nll`` of the mask, ``damage`` (above intact), ``control_damage``
        (mean over draws), ``difference`` with ``low``, ``high``, ``effect``, ``p``, all
        in nats a token; ``accuracy`` with ``accuracy_difference`` (negative for harm),
        ``accuracy_low``, ...; ``p_holm``: Holm over the masks of one kind, action and
        control; ``p_fwe``: the same error rate from ``inference.max_p``. With 20 draws
        p is 1/21 at least, so that Holm over two masks finds nothing, whatever the
        effect.
    """
    check(table)
    setting = _setting(table)
    intact, masks = table["group"] == "intact", table["group"] != "intact"
    rows, values = [], []
    for key, part in table[masks].groupby(
        [*setting, "group"], sort=False, dropna=False
    ):
        of_part = dict(zip(setting, key, strict=False))
        less = of_part.get("action") in ("keep", "cut")
        both = pd.concat([table[intact], part])
        for control in filter(None, part["control"].unique()):
            options = (control, less, rng, n_bootstrap, level)
            row, pooled = _compare(both, key[-1], *options)
            rows.append(of_part | row)
            values.append(pooled)
    if not rows:
        raise DamageError("the table has no controls: nothing to compare with")
    rows = pd.DataFrame(rows)
    family = [c for c in ("kind", "action", "control") if c in rows]
    for _, part in rows.groupby(family, dropna=False):
        rows.loc[part.index, "p_holm"] = inference.holm(part["p"])
        rows.loc[part.index, "p_fwe"] = inference.max_p([values[i] for i in part.index])
    return rows


def _compare(table, group, control, less, rng, n_bootstrap, level):
    """A row of the table, and nll of mask and draws, larger for what is tested."""
    seed = rng.integers(2**63)  # the same documents for both measures
    results, values = {}, []
    for measure in MEASURES:
        pairs = paired(table, group, control, measure)
        mask, draws, intact = over_documents(pairs)
        worse = -1 if (measure == "nll") == less else 1
        drawn = _differences(pairs, n_bootstrap, np.random.default_rng(seed))
        low, high = inference.interval(drawn, pairs.domain, len(draws), level=level)
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
    DamageError
        If the mask, the intact model or two draws of the control are not there, a mask
        has several rows for a document, or documents differ between masks.
    """
    check(table)
    own = table["group"] == group
    parts = {
        "the intact model": table[table["group"] == "intact"],
        f"mask {group!r}": table[own & (table["control"] == "")],
        f"control {control!r} of {group!r}": table[own & (table["control"] == control)],
    }
    wide, expected = [], None
    for (name, part), least in zip(parts.items(), (1, 1, 2), strict=True):
        n_draws = part["draw"].nunique()
        if n_draws < least or (least == 1 and n_draws > 1):
            raise DamageError(
                f"{name}: expected {least} draw{'s or more' * (least > 1)}, found "
                f"{n_draws}"
            )
        if part.duplicated(["draw", "document"]).any():
            raise DamageError(
                f"{name} has several rows for one draw and document: choose rows of "
                f"one {', '.join(_setting(table)) or 'mask'} first"
            )
        values = part.pivot(index="draw", columns="document", values=measure)
        documents = part[["document", "n_tokens", "domain"]].drop_duplicates()
        documents = documents.sort_values("document").to_numpy(str)
        expected = documents if expected is None else expected
        if values.isna().any(axis=None) or not np.array_equal(documents, expected):
            raise DamageError(
                f"{name} was measured on other documents, or other tokens of them, "
                "than the intact model"
            )
        wide.append(values.to_numpy(float))
    intact, mask, controls = wide
    n_tokens, domain = expected[:, 1].astype(float), expected[:, 2]
    return Paired(mask[0], controls, intact[0], n_tokens, domain)


def over_documents(pairs):
    """Mean over tokens under the mask, each draw of its control, and intact.

    Returns
    -------
    mask : float
    controls : array of shape (n_draws,)
    intact : float
    """
    weight = pairs.n_tokens / pairs.n_tokens.sum()
    # one product: equal rows give equal numbers, to the last bit
    means = np.vstack([pairs.mask, pairs.intact, pairs.controls]) @ weight
    return means[0], means[2:], means[1]


def check(table):
    """Raise DamageError unless this is a table of damage."""
    needed = ["group", "control", "draw", "domain", "document", "n_tokens", *MEASURES]
    missing = [c for c in needed if c not in table]
    if missing:
        raise DamageError(f"the table of damage has no columns {', '.join(missing)}")
    finite = np.isfinite(table[["nll", "accuracy"]]).all(axis=1)
    wrong = ~(finite & (table["n_tokens"] >= 1))
    if wrong.any():
        first = table[wrong].iloc[0]
        raise DamageError(
            f"{wrong.sum()} rows hold NaN, infinity or no tokens, first mask "
            f"{first['group']!r} in document {first['document']}: leave such documents "
            "out of all masks"
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
    setting = means[[c for c in SETTING if c in means] + ["group"]]
    if setting.drop_duplicates()["group"].duplicated().any():
        raise DamageError(
            "a mask was measured in several settings: choose rows of one "
            f"{', '.join(setting.columns[:-1])} first"
        )
    means = means.groupby(["group", "domain"], sort=False)["nll"].mean().unstack()
    if "intact" not in means.index:
        raise DamageError("the table has no rows of the intact model")
    above = (means - means.loc["intact"]).drop("intact")
    return above[list(dict.fromkeys(table["domain"]))]


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


def specificity_all(table, control, *, rng, n_bootstrap=2000, level=0.95):
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
    rng, n_bootstrap, level
        See ``compare_all``.

    Returns
    -------
    table : DataFrame, a row a mask and domain
        ``damage`` (nats above intact), ``control_damage`` (mean over draws),
        ``profile``, ``control_profile``, ``difference`` of the two with ``low`` and
        ``high``, and ``p``: (1 + #(draws whose profile reaches the mask's)) / (1 +
        n_draws); ``p_holm`` and ``p_fwe`` over masks x domains, see ``compare_all``.
    """
    groups = table.loc[table["control"] == control, "group"].unique()
    if not len(groups):
        raise DamageError(f"no mask has a control {control!r}")
    found = [_specificity(table, g, control, rng, n_bootstrap, level) for g in groups]
    rows = pd.concat([part for part, _ in found], ignore_index=True)
    values = [column for _, profiles in found for column in profiles.T]
    return rows.assign(p_holm=inference.holm(rows["p"]), p_fwe=inference.max_p(values))


def _specificity(table, group, control, rng, n_bootstrap, level):
    """Rows of one mask, and profiles of it and the draws (1 + n_draws, n_domains)."""
    pairs = paired(table, group, control)
    domains = list(dict.fromkeys(table["domain"].astype(str)))
    if len(domains) < 2:
        raise DamageError(
            f"specificity needs two domains or more, found {', '.join(domains)}"
        )
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
    weights = inference.resample(pairs.domain, pairs.n_tokens, n_bootstrap, rng)
    drawn = profile(by_domain(weights))
    shares = inference.resample_draws(n_bootstrap, len(pairs.controls), rng)
    drawn = drawn[:, 0] - (drawn[:, 1:] * shares[..., None]).sum(1)
    # a profile hangs on its own domain most, so the smallest sets the width
    smallest = pairs.domain[min(inside, key=np.sum)]
    n_draws = len(pairs.controls)
    low, high = inference.interval(drawn, smallest, n_draws, level=level)
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
