"""Is a network special to a domain of text?"""

import numpy as np
import pandas as pd

from anbn import damage, inference, matching


def domain_matrix(table, groups=None, *, control=""):
    """Damage of every mask in every domain of text, nats a token above intact.

    Parameters
    ----------
    table : DataFrame
        See ``damage``.
    groups : list of str, optional
        All masks by default.
    control : str
        Empty for the masks themselves, else of their controls (mean over draws).

    Returns
    -------
    matrix : DataFrame of shape (n_groups, n_domains)
    """
    rows = table[(table["group"] == "intact") | (table["control"] == control)]
    means = damage.perplexity(rows, by_domain=True)
    setting = means[[c for c in damage.SETTING if c in means] + ["group"]]
    if setting.drop_duplicates()["group"].duplicated().any():
        raise damage.DamageError(
            "a mask was measured in several settings: choose rows of one "
            f"{', '.join(setting.columns[:-1])} first"
        )
    means = means.groupby(["group", "domain"], sort=False)["nll"].mean().unstack()
    known = [group for group in means.index if group != "intact"]
    groups = known if groups is None else list(groups)
    missing = [group for group in ["intact", *groups] if group not in means.index]
    if missing:
        raise damage.DamageError(
            f"no rows of group {missing[0]!r} with control {control!r}; there are "
            f"{', '.join(known)}"
        )
    above = means - means.loc["intact"]
    return above.loc[groups, list(dict.fromkeys(table["domain"]))]


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


def specificity(table, group, control, *, rng, n_bootstrap=2000, level=0.95):
    """Domains that a mask harms more than its controls do, relative to other domains.

    Any mask harms some domains more than others, so its ``profile`` is compared with
    those of the draws of its control. Where a mask does far more harm than its control
    the two are not alike for that reason alone: harm is bounded, and the easier text
    has more to lose. Read both with ``domain_matrix``. Draws that do next to no harm
    have wild profiles, which makes p larger, never smaller.

    Parameters
    ----------
    table, group, control, rng, n_bootstrap, level
        See ``damage.compare``.

    Returns
    -------
    table : DataFrame, a row a domain
        ``damage`` (nats above intact), ``control_damage`` (mean over draws),
        ``profile``, ``control_profile``, ``difference`` of the two with ``low`` and
        ``high``, and ``p``: (1 + #(draws whose profile reaches the mask's)) / (1 +
        n_draws).
    """
    return _specificity(table, group, control, rng, n_bootstrap, level)[0]


def specificity_all(table, control, *, rng, groups=None, n_bootstrap=2000, level=0.95):
    """``specificity`` of every mask, corrected over masks x domains.

    Returns
    -------
    table : DataFrame, a row a mask and domain
        Columns of ``specificity``; ``p_holm`` and ``p_fwe``, see
        ``damage.compare_all``.
    """
    if groups is None:
        groups = table.loc[table["control"] == control, "group"].unique()
    if not len(groups):
        raise damage.DamageError(f"no mask has a control {control!r}")
    found = [_specificity(table, g, control, rng, n_bootstrap, level) for g in groups]
    rows = pd.concat([part for part, _ in found], ignore_index=True)
    values = [column for _, profiles in found for column in profiles.T]
    return rows.assign(p_holm=inference.holm(rows["p"]), p_fwe=inference.max_p(values))


def _specificity(table, group, control, rng, n_bootstrap, level):
    """The table, and profiles of the mask and the draws (1 + n_draws, n_domains)."""
    pairs = damage.paired(table, group, control)
    domains = list(dict.fromkeys(table["domain"].astype(str)))
    if len(domains) < 2:
        raise damage.DamageError(
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
