"""Statistics of damage, against loops, planted effects and null tables."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from anbn.masking import damage
from anbn.stats import inference

DOMAINS = ("wiki", "c4", "math", "code")


def table_of(rng, effects, *, n_draws=20, n_each=5, special=(), sd=0.1, **columns):
    """A table with ``effects`` (group -> nats); its controls lose .3 +- sd nats."""
    n_documents = n_each * len(DOMAINS)
    domain = np.repeat(DOMAINS, n_each)
    n_tokens = rng.integers(50, 300, n_documents)
    intact = 3 + 0.3 * rng.normal(size=n_documents)
    tender = 0.1 * rng.normal(size=n_documents)  # documents that any mask harms more

    def rows(group, control, draw, nats):
        nll = intact + nats * (1 + tender) + 0.02 * rng.normal(size=n_documents)
        if group == "special" and not control:
            nll += 0.5 * nats * np.isin(domain, special)
        nll = intact if group == "intact" else nll
        return pd.DataFrame(
            {
                "group": group,
                "control": control,
                "draw": draw,
                "domain": domain,
                "document": range(n_documents),
                "n_tokens": n_tokens,
                "nll": nll,
                "accuracy": 0.5 - 0.1 * (nll - intact),
                **columns,
            }
        )

    parts = [rows("intact", "", 0, 0)]
    for group, nats in effects.items():
        nats = 0.3 + sd * rng.normal() if nats is None else nats
        parts.append(rows(group, "", 0, nats))
        for k in range(n_draws):
            parts.append(rows(group, "per layer", k, 0.3 + sd * rng.normal()))
    return pd.concat(parts, ignore_index=True)


def test_perplexity_is_over_tokens(rng):
    table = table_of(rng, {"a": 1.0}, n_draws=2)
    found = damage.perplexity(table, by_domain=True)
    assert len(found) == 4 * len(DOMAINS)
    for row in found.itertuples():
        own = table[
            (table["group"] == row.group)
            & (table["control"] == row.control)
            & (table["draw"] == row.draw)
            & (table["domain"] == row.domain)
        ]
        nats = sum(own["nll"] * own["n_tokens"]) / sum(own["n_tokens"])
        assert row.perplexity == pytest.approx(np.exp(nats))
        assert row.n_tokens == own["n_tokens"].sum()
    found = damage.perplexity(table, rng=rng).set_index(["group", "control", "draw"])
    mask = found.loc[("a", "", 0)]
    assert mask["low"] < mask["perplexity"] < mask["high"] < 1.3 * mask["low"]
    assert np.isnan(found.loc[("a", "per layer", 0), "low"])


def test_settings_are_kept_apart(rng):
    few, many = (table_of(rng, {"a": n / 10}, n_draws=3, n=n) for n in (5, 20))
    found = damage.perplexity(pd.concat([few, many[many["group"] != "intact"]]))
    masks = found[(found["group"] == "a") & (found["control"] == "")]
    assert masks["n"].tolist() == [5, 20]
    assert masks["perplexity"].is_monotonic_increasing


def test_compare_all_equals_a_loop(rng):
    table = table_of(rng, {"a": 0.6, "b": 0.1})
    shuffled = table.sample(frac=1, random_state=0)
    row = damage.compare_all(shuffled, rng=rng).set_index("group").loc["a"]
    tokens = table[table["group"] == "intact"]["n_tokens"].to_numpy()

    def mean(part, measure):
        return (part.sort_values("document")[measure] * tokens).sum() / tokens.sum()

    own = table[table["group"] == "a"]
    mask = mean(own[own["control"] == ""], "nll")
    draws = [mean(d, "nll") for _, d in own[own["control"] != ""].groupby("draw")]
    intact = mean(table[table["group"] == "intact"], "nll")
    assert row["nll"] == pytest.approx(mask)
    assert row["damage"] == pytest.approx(mask - intact)
    assert row["difference"] == pytest.approx(mask - np.mean(draws))
    assert row["effect"] == pytest.approx(
        (mask - np.mean(draws)) / np.std(draws, ddof=1)
    )
    assert row["p"] == (1 + sum(d >= mask for d in draws)) / 21
    assert row["low"] < row["difference"] < row["high"]
    assert (row["n_draws"], row["n_documents"]) == (20, 20)
    # accuracy falls by a tenth of the nats: the same test with another sign
    assert row["accuracy_difference"] == pytest.approx(-row["difference"] / 10)
    assert row["accuracy_low"] == pytest.approx(-row["high"] / 10)
    assert row["accuracy_p"] == row["p"]
    more = damage.compare_all(table, rng=rng).set_index("group").loc["b"]
    kept = table.assign(action="keep")
    less = damage.compare_all(kept, rng=rng).set_index("group").loc["b"]
    assert less["p"] == less["accuracy_p"] < more["p"]


def test_bootstrap_equals_a_loop(rng):
    pairs = damage.paired(table_of(rng, {"a": 0.6}), "a", "per layer")
    drawn = damage._differences(pairs, 4000, np.random.default_rng(1))
    naive = []
    for _ in range(4000):
        chosen = np.concatenate(
            [rng.choice(np.flatnonzero(pairs.domain == d), 5) for d in DOMAINS]
        )
        draws = rng.integers(20, size=20)
        w = pairs.n_tokens[chosen]
        both = pairs.mask[chosen], pairs.controls[np.ix_(draws, chosen)].mean(0)
        naive.append(((both[0] - both[1]) * w).sum() / w.sum())
    assert drawn.mean() == pytest.approx(np.mean(naive), abs=0.003)
    assert drawn.std() == pytest.approx(np.std(naive), rel=0.1)


def test_intervals_hold_the_truth(rng):
    """Coverage over tables: fresh documents and draws each time, a known effect."""
    missed, plain = [], []
    for _ in range(300):
        domain = np.repeat(np.arange(4), 5).astype(str)
        tokens = rng.integers(50, 300, 20).astype(float)
        mask = 0.6 + 0.4 * rng.normal(size=20)
        draws = 0.1 * rng.normal(size=(20, 1)) + 0.1 * rng.normal(size=(20, 20))
        pairs = damage.Paired(mask, draws, np.zeros(20), tokens, domain)
        drawn = damage._differences(pairs, 500, rng)
        low, high = inference.interval(drawn, domain, 20)
        missed.append(not low <= 0.6 <= high)
        low, high = np.percentile(drawn, [2.5, 97.5])
        plain.append(not low <= 0.6 <= high)
    assert 0.01 <= np.mean(missed) <= 0.085
    assert np.mean(plain) > np.mean(missed)


def test_intervals_of_one_document_a_domain_are_unknown(rng):
    row = damage.compare_all(table_of(rng, {"a": 1.0}, n_each=1), rng=rng).iloc[0]
    assert np.isnan(row["low"])
    assert np.isfinite(row["difference"])


def test_compare_all_finds_what_was_planted(rng):
    effects = {"strong": 2.0} | {f"null {k}": None for k in range(8)}
    found = damage.compare_all(table_of(rng, effects), rng=rng).set_index("group")
    # no p is below 1 / 21: Holm over nine masks cannot find what max_p does
    assert found.loc["strong", "p_holm"] == pytest.approx(9 / 21)
    assert found.loc["strong", "p_fwe"] == pytest.approx(1 / 21)
    assert (found.drop("strong")["p_fwe"] > 0.05).all()
    kept = table_of(rng, {"kept": 0.0}, action="keep")
    assert damage.compare_all(kept, rng=rng)["p"].item() == pytest.approx(1 / 21)


def test_family_of_null_masks_is_calibrated(rng):
    """Any of 8 masks, each one more draw of its control, is found in 5 % of tables."""
    spread = rng.uniform(0.1, 10, size=(8, 1))
    smallest, alone = [], []
    for _ in range(2000):
        values = list(spread * rng.standard_exponential((8, 20)))
        smallest.append(inference.max_p(values).min())
        alone.append(inference.max_p(values[:1])[0])
    # p <= 1 / 20 happens in 1 / 20 of the tables
    assert np.mean(np.array(smallest) <= 0.05) == pytest.approx(0.05, abs=0.015)
    assert np.mean(np.array(alone) <= 0.05) == pytest.approx(0.05, abs=0.015)
    assert np.mean(np.array(alone) <= 0.5) == pytest.approx(0.5, abs=0.04)


def test_holm_equals_a_loop(rng):
    p = np.append(rng.uniform(0, 0.1, 9), np.nan)
    order, largest = np.argsort(p[:9]), 0
    expected = np.full(10, np.nan)
    for step, i in enumerate(order):
        largest = max(largest, (9 - step) * p[i])
        expected[i] = min(largest, 1)
    np.testing.assert_allclose(inference.holm(p), expected)
    assert inference.holm([0.01, 0.04]).tolist() == [0.02, 0.04]


def test_domain_matrix(rng):
    table = table_of(rng, {"a": 1.0, "b": 0.2}, n_draws=3)
    matrix = damage.domain_matrix(table)
    assert matrix.columns.tolist() == list(DOMAINS)
    part = table[(table["group"] == "b") & (table["control"] == "")]
    intact = table[table["group"] == "intact"]
    inside = (part["domain"] == "math").to_numpy()
    w = part["n_tokens"].to_numpy()[inside]
    lost = (part["nll"].to_numpy() - intact["nll"].to_numpy())[inside]
    assert matrix.loc["b", "math"] == pytest.approx((lost * w).sum() / w.sum())
    assert matrix.index.tolist() == ["a", "b"]


def test_specificity_finds_the_planted_domain(rng):
    effects = {"special": 0.3} | {f"null {k}": None for k in range(4)}
    table = table_of(rng, effects, n_each=8, special=["math"], sd=0.05)
    found = damage.specificity_all(table, "per layer", rng=rng)
    found = found.set_index(["group", "domain"])
    planted = found.loc[("special", "math")]
    assert planted["p_fwe"] <= 0.05
    assert 0 < planted["low"] < planted["difference"] < planted["high"]
    assert (found.drop(("special", "math"))["p_fwe"] > 0.05).all()
    one = found.loc["special"]
    above = one["damage"].to_numpy()
    others = (above.sum() - above) / 3
    np.testing.assert_allclose(one["profile"], (above - others) / above.mean())
    # harm that is larger, but alike in all domains, is no specificity
    table = table_of(rng, {"large": 5.0}, n_each=8)
    assert (damage.specificity_all(table, "per layer", rng=rng)["p"] > 0.1).all()


def test_null_specificity_is_calibrated(rng, monkeypatch):
    monkeypatch.setattr(damage, "N_BOOTSTRAP", 2)
    tables = (table_of(rng, {"a": None}, n_draws=9, n_each=2) for _ in range(60))
    p = [damage.specificity_all(t, "per layer", rng=rng)["p"] for t in tables]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.06)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(index=25), "mask 'a', control 'per layer' .* same documents"),
        (
            lambda t: t.assign(n_tokens=t["n_tokens"] + (t["control"] != "")),
            "not on the same tokens",
        ),
        (lambda t: pd.concat([t, t]), "duplicate entries"),
    ],
)
def test_what_was_not_measured_alike_is_refused(rng, change, message):
    table = change(table_of(rng, {"a": 1.0}, n_draws=3))
    with pytest.raises(ValueError, match=message):
        damage.compare_all(table, rng=rng)


def test_nothing_to_compare_leaves_empty_tables(rng):
    table = table_of(rng, {"a": 1.0}, n_draws=3, n=5)
    one = table[table["domain"] == "wiki"]
    special = damage.specificity_all(one, "per layer", rng=rng)
    whole = damage.specificity_all(table, "per layer", rng=rng)
    assert len(special) == 0 and set(special) == set(whole)
    matrix = damage.domain_matrix(one)
    assert damage.stars(special, matrix).to_numpy().tolist() == [[False]]
    intact = table[table["group"] == "intact"]
    found = damage.compare_all(intact, rng=rng)
    assert len(found) == 0 and set(found) == set(damage.compare_all(table, rng=rng))
    assert damage.by_share(damage.perplexity(intact), 100).empty


def test_a_mask_has_the_same_intervals_whatever_is_beside_it(rng):
    """To the last bit, but for what is corrected over masks."""
    table = table_of(rng, {"a": 0.6, "b": 0.1}, n_draws=5)
    other = pd.concat([table[table["group"] == g] for g in ("intact", "b")])
    both, alone = (
        damage.compare_all(t, rng=np.random.default_rng(1)).set_index("group")
        for t in (table, other)
    )
    columns = [c for c in both if c not in ("p_holm", "p_fwe")]
    assert both.loc["b", columns].equals(alone.loc["b", columns])
    both, alone = (
        damage.perplexity(t, rng=np.random.default_rng(1)).set_index(["group", "draw"])
        for t in (table, other)
    )
    columns = ["low", "high"]
    assert both.loc["b"].equals(alone.loc["b"])
    both, alone = (
        damage.specificity_all(t, "per layer", rng=np.random.default_rng(1))
        for t in (table, other)
    )
    columns = ["low", "high", "p", "difference"]
    np.testing.assert_array_equal(
        both.loc[both["group"] == "b", columns], alone[columns]
    )


def test_stars_are_the_special_cells(rng):
    effects = {"special": 0.3} | {f"null {k}": None for k in range(4)}
    table = table_of(rng, effects, n_each=8, special=["math"], sd=0.05)
    special = damage.specificity_all(table, "per layer", rng=rng)
    stars = damage.stars(special, damage.domain_matrix(table))
    assert np.argwhere(stars).tolist() == [[0, DOMAINS.index("math")]]


def test_lines_by_share(rng):
    few, many = (table_of(rng, {"a": n / 10}, n_draws=5, n=n) for n in (5, 20))
    table = pd.concat([few, many[many["group"] != "intact"]])
    each = damage.perplexity(table)
    lines = damage.by_share(each, 100).set_index(["group", "share"])
    assert lines.index.tolist() == [
        ("a", 0.05),
        ("a: random per layer", 0.05),
        ("a", 0.2),
        ("a: random per layer", 0.2),
    ]
    draws = each[(each["control"] != "") & (each["n"] == 20)]["perplexity"]
    row = lines.loc[("a: random per layer", 0.2)]
    assert row["perplexity"] == draws.median()
    assert (row["low"], row["high"]) == (draws.min(), draws.max())


def test_criteria_beside_random_scores(rng):
    """Random scores are the draws of a group; shares that were not drawn are left."""
    table = table_of(rng, {"good": 0.0}, n_draws=5, n=10)
    intact, good = (table[table["group"] == name] for name in ("intact", "good"))
    drawn = good[good["control"] != ""].assign(group="random", control="", n=12)
    good = good[good["control"] == ""]
    bare = pd.concat([intact, good, good.assign(n=30)])
    table = pd.concat([bare, drawn])
    share_of = {("good", 10): 0.1, ("good", 30): 0.3, ("random", 12): 0.1}
    (row,) = damage.compare_with_random(table, share_of, rng=rng).itertuples()
    assert (row.group, row.control, row.n, row.share) == ("good", "random", 10, 0.1)
    assert row.n_draws == 5 and row.p == 1 / 6
    lines = damage.with_range(damage.perplexity(table), "random")
    assert lines["group"].tolist() == ["intact", "good", "good", "random"]
    values = damage.perplexity(drawn.assign(control="x"))["perplexity"]
    last = lines.iloc[-1]
    assert last["perplexity"] == pytest.approx(np.median(values))
    assert (last["low"], last["high"]) == pytest.approx((values.min(), values.max()))
    assert len(damage.with_range(damage.perplexity(bare), "random")) == 3
    assert len(damage.compare_with_random(bare, {("good", 10): 0.1}, rng=rng)) == 0


def test_interval_of_many_documents_is_the_percentiles(rng):
    drawn = rng.normal(size=5000)
    wide = inference.interval(drawn, np.repeat("a", 10_000))
    np.testing.assert_allclose(wide, np.percentile(drawn, [2.5, 97.5]), atol=0.01)
    low, high = inference.interval(drawn, np.repeat("a", 8))
    t = stats.t.ppf(0.975, 7) * np.sqrt(8 / 7)
    np.testing.assert_allclose([low, high], [-t, t], atol=0.25)


def test_masks_like_their_draws_are_found_by_neither_p(rng):
    """Rounding is no spread: a factor of 1 must not be special."""
    table = table_of(rng, {"a": 0.5}, n_draws=20)
    for seed in range(5):
        noise = np.random.default_rng(seed).normal(2, 0.5, 20)
        same = table.copy()
        masks = same["group"] != "intact"
        same.loc[masks, "nll"] = noise[same.loc[masks, "document"]]
        row = damage.compare_all(same, rng=rng).iloc[0]
        assert row["p"] == row["p_fwe"] == 1


def test_what_is_cut_is_asked_to_harm_less(rng):
    harmless = table_of(rng, {"a": 0.0}, n_draws=20, action="cut")
    row = damage.compare_all(harmless, rng=rng).iloc[0]
    assert row["p"] == 1 / 21 and row["high"] < 0
    silenced = harmless.assign(action="silence")
    assert damage.compare_all(silenced, rng=rng).iloc[0]["p"] == 1
