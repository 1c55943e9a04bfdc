"""Tables of a sweep, on made-up results like those a sweep leaves."""

import itertools

import numpy as np
import pandas as pd
import pytest
from sweep_tables import ATOMS, HRF, KINDS, results, write

from anbn.core import artifacts
from anbn.study import sweep_table


def test_found_by_hand_and_by_the_sweep(outputs, monkeypatch):
    write(outputs / "sweeps" / "made", results({ATOMS: [8, 16]}), [ATOMS])
    assert sweep_table.study_of("made") == "sweeps/made"
    with pytest.raises(artifacts.ArtifactError, match=r"mode.*did you mean 'made'"):
        sweep_table.study_of("mode")
    monkeypatch.setenv("ANBN_OUTPUTS", str(outputs / "sweeps"))
    assert sweep_table.study_of("made") == "made"


def test_read_types(outputs):
    varied = {ATOMS: [8, 16], KINDS: ["['a']", "['a', 'b']"], "seed": [0]}
    table = results(varied).assign(listed=["8", "16", "32", "64"], flag=True)
    write(outputs / "made", table, [*varied, "listed", "flag"])
    read, about = sweep_table.read(outputs / "made")
    assert about["n_points"] == 4
    assert read["listed"].tolist() == [8, 16, 32, 64]
    assert set(read["flag"]) == {"True"}
    numeric = [c for c in about["varied"] if pd.api.types.is_numeric_dtype(read[c])]
    assert numeric == [ATOMS, "seed", "listed"]


@pytest.mark.parametrize("broken", ["results.parquet", "sweep.json", "columns"])
def test_damaged_results_are_named(outputs, broken):
    write(outputs / "made", results({ATOMS: [8, 16]}), [ATOMS])
    if broken == "columns":
        write(outputs / "other", results({HRF: ["spm"]}), [ATOMS])
        folder, broken = outputs / "other", ATOMS
    else:
        folder = outputs / "made"
        (folder / broken).write_bytes((folder / broken).read_bytes()[:40])
    with pytest.raises(artifacts.ArtifactError, match=broken):
        sweep_table.read(folder)


def test_design():
    table = results({HRF: ["spm", "fir"], ATOMS: [8, 16, 32], "seed": [0, 1]})
    table["02_x.linked"] = table[ATOMS].map({8: "c", 16: "a", 32: "b"})
    table["02_x.constant"] = 1
    varied = [HRF, ATOMS, "seed", "02_x.linked", "02_x.constant"]
    found = sweep_table.design(table, varied)
    assert found.parameters == [ATOMS, HRF] and found.seeds == ["seed"] and found.full
    assert found.together == {HRF: [], ATOMS: ["02_x.linked"]}
    table["02_x.group"] = table[HRF].map({"spm": "one", "fir": "two"})
    led = sweep_table.design(table, [HRF, ATOMS, "02_x.group"])
    assert led.together[HRF] == ["02_x.group"]
    listed = table.drop(index=[0, 1])  # one setting is not in the list
    assert not sweep_table.design(listed, varied).full
    nothing = sweep_table.design(table[table[ATOMS] < 9], [ATOMS])
    assert nothing.parameters == [] and nothing.full


def test_random_search_is_not_taken_for_one_parameter():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"1.a": rng.random(12), "1.b": rng.random(12)})
    table["1.c"] = rng.choice(["x", "y"], 12)
    found = sweep_table.design(table, list(table))
    assert sorted(found.parameters) == list(table) and not found.full
    hrf = pd.DataFrame(
        {"1.hrf": ["spm", "glover", "none"], "1.delays": ["0", "0", "1, 2"]}
    )
    assert sweep_table.design(hrf, list(hrf)).together == {"1.hrf": ["1.delays"]}


def test_outcomes_are_those_that_vary():
    table = results({ATOMS: [8, 16, 32]}, failed=[1])
    found = sweep_table.outcomes(table)
    first = ["03b:encoding_r_mean", "03:max_synchrony", "04:ppl_masked_networks"]
    assert found == [*first, "02:n_networks_brain"] or found == first
    assert sweep_table.outcomes(table, most=1) == ["03b:encoding_r_mean"]
    assert sweep_table.outcomes(table, ["01:perplexity"]) == ["01:perplexity"]
    with pytest.raises(artifacts.ArtifactError, match=r"did you mean '01:perplexity'"):
        sweep_table.outcomes(table, ["01:perplexty"])
    beside = sweep_table.references("03b:encoding_r_mean", table.columns)
    assert set(beside) == {
        "03b:encoding_r_baseline_wordrate",
        "03b:encoding_r_random_model",
        "03b:noise_ceiling_mean",
    }
    assert sweep_table.references("04:ppl_masked_top", table.columns) == ["04:ppl_base"]
    assert sweep_table.references("02:isc_mean", table.columns) == []


def test_means_against_a_loop():
    table = results({ATOMS: [8, 16], HRF: ["spm", "fir"], "seed": range(4)}, failed=[3])
    names = ["03b:encoding_r_mean", "04:ppl_masked_networks"]
    found = sweep_table.means(table, [ATOMS, HRF], names)
    assert len(found) == 8
    for _, row in found.iterrows():
        here = (table[ATOMS] == row[ATOMS]) & (table[HRF] == row[HRF])
        y = table.loc[here & (table["status"] == "done"), row["outcome"]].astype(float)
        log = row["outcome"] == names[1]
        expected = np.exp(np.log(y).mean()) if log else y.mean()
        assert row["n"] == len(y) and np.isclose(row["mean"], expected)
        assert row["low"] < row["mean"] < row["high"]
    # Student's interval of the mean, four seeds: 3.182 standard errors
    row = found.query("outcome == @names[0] and n == 4").iloc[0]
    assert np.isclose(row["high"] - row["mean"], 3.18245 * row["sd"] / 2)


def test_intervals_cover_the_true_mean():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(400):
        table = pd.DataFrame({"status": "done", "03:x": rng.standard_normal(3)})
        row = sweep_table.means(table, [], ["03:x"]).iloc[0]
        covered += row["low"] < 0 < row["high"]
    assert 0.92 < covered / 400 < 0.98


def test_variance_of_planted_effects():
    values = list(itertools.product(range(4), "ab", range(50)))
    table = pd.DataFrame(values, columns=["1.x", "1.y", "seed"]).assign(status="done")
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(len(table))
    b = table["1.y"] == "b"
    # variances: 1.25 of x, 0.25 of y, 0.25 of both together, 1 of seeds
    together = 0.5 * np.where(b, 1, -1) * np.where(table["1.x"] % 2, 1, -1)
    table["03:r"] = table["1.x"] + b + together + noise
    found = sweep_table.variance(table, ["1.x", "1.y"], ["03:r"]).set_index("source")
    expected = pd.Series({"1.x": 1.25, "1.y": 0.25, "interplay": 0.25, "seeds": 1.0})
    error = found["share"] - expected / expected.sum()
    assert np.isclose(found["share"].sum(), 1) and error.abs().max() < 0.05
    table["03:r"] = noise  # nothing planted: what chance gives, on average
    shares = [
        sweep_table.variance(
            table.assign(**{"03:r": rng.permutation(noise)}), ["1.x", "1.y"], ["03:r"]
        ).set_index("source")
        for _ in range(200)
    ]
    mean = pd.concat([s["share"] for s in shares], axis=1).mean(axis=1)
    assert np.allclose(mean, shares[0]["chance"].reindex(mean.index), atol=0.002)


def test_variance_says_what_it_cannot_know():
    one = results({ATOMS: [8, 16, 32], HRF: ["spm", "fir"]})
    found = sweep_table.variance(one, [ATOMS, HRF], ["03b:encoding_r_mean"])
    found = found.set_index("source")["share"]
    assert "seeds" not in found and np.isnan(found["interplay"])
    missing = one.assign(**{"03b:encoding_r_mean": np.nan})
    assert sweep_table.variance(missing, [ATOMS], ["03b:encoding_r_mean"]).empty
    assert sweep_table.means(missing, [ATOMS], ["03b:encoding_r_mean"]).empty


def test_failures_are_linked_and_escaped(outputs, tmp_path):
    table = results({ATOMS: [8, 16, 32]}, failed=[1])
    table.loc[2, "status"] = "not run"
    table.loc[2, ["notebook_01", "notebook_03b"]] = None
    found = sweep_table.failed(table)
    assert found["point"].tolist() == ["p001", "p002"]
    text = sweep_table.linked(found, sweep_table.project_root() / "notebooks")
    link = "../outputs/sweeps/made/points/p001/03b_functional_organisation"
    link += "/notebook.ipynb"
    assert f'<a href="{link}">03b</a>' in text and text.count("<a ") == 2
    assert "<script>" not in text and "&lt;script&gt;" in text
    assert sweep_table.failed(results({ATOMS: [8]})).empty
