import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from anbn.masking import behaviour, intervene, syntaxgym, tasks
from anbn.masking.evaluation import Trial

SUITE = {
    "meta": {"name": "number_toy", "metric": "sum"},
    "region_meta": {"1": "subject", "2": "verb"},
    "predictions": [{"type": "formula", "formula": "(2;%match_a%) < (2;%mismatch_a%)"}],
    "items": [
        {
            "item_number": i,
            "conditions": [
                {
                    "condition_name": name,
                    "regions": [
                        {"region_number": 1, "content": f"the {subject}"},
                        {"region_number": 2, "content": verb},
                    ],
                }
                for name, verb in (("match_a", "sat"), ("mismatch_a", "ran far"))
            ],
        }
        for i, subject in enumerate(("cat", "dog", "mat"), 1)
    ],
}


@pytest.fixture
def battery(tmp_path, rng):
    (tmp_path / "number_toy.json").write_text(json.dumps(SUITE))
    words = "the cat sat on a mat would dog ran far away today".split()
    texts = [" ".join(rng.choice(words, 34)) for _ in range(8)]
    documents = pd.DataFrame({"corpus": ["a", "b"] * 4, "text": texts})
    suites = syntaxgym.load_suites(tmp_path)
    labels = {"a": "cat", "b": "dog"}
    return tasks.prepare(suites, documents, labels, before="", n_choices=3, rng=rng)


@pytest.fixture
def quick(monkeypatch):
    """Answers in words, without generating: the toy tokenizer cannot hold prompts."""

    def classify(language_model, prompts, labels, **options):
        assert not options["chat_template"]
        predicted = ["cat"] * (len(prompts) - 1) + [""]
        parsed = np.array(predicted) != ""
        return prompts.assign(parsed=parsed, correct=prompts["label"] == predicted)

    monkeypatch.setattr(behaviour, "classify", classify)


def test_every_task_is_run_and_counted(llama, battery, quick):
    found = tasks.run(llama, battery)
    sizes = found.groupby("task", sort=False).size()
    assert sizes.to_dict() == {
        "SyntaxGym": 3, "minimal pairs": 3, "multiple choice": 8, "classification": 6,
    }  # fmt: skip
    suites = syntaxgym.score(llama, battery.suites)
    of_suites = found["correct"][found["task"] == "SyntaxGym"]
    np.testing.assert_array_equal(of_suites, suites["correct"])
    pairs = behaviour.minimal_pairs(llama, battery.pairs)
    of_pairs = found["correct"][found["task"] == "minimal pairs"]
    np.testing.assert_array_equal(of_pairs, pairs["correct"])
    said = found[found["task"] == "classification"]
    assert said["parsed"].sum() == 5
    assert set(battery.questions["domain"]) == {"a", "b"}
    asked = [prompt.rsplit("Text: ", 1)[1] for prompt in battery.prompts["prompt"]]
    assert len(set(asked)) == 6  # the first of each corpus are the examples
    for prompt in battery.prompts["prompt"]:
        assert not any(text in prompt.rsplit("Text: ", 1)[0] for text in asked)


def test_tasks_under_masks(llama, battery, quick, rng):
    mask = rng.random((2, 24)) < 0.5
    trials = [Trial("half", "ffn_out", mask), Trial("half", "ffn_out", ~mask, "rest")]
    found = tasks.under(llama, battery, trials)
    n = len(found) // 3
    assert found["group"].tolist() == ["intact"] * n + ["half"] * 2 * n
    assert found["control"].tolist() == [""] * 2 * n + ["rest"] * n
    with intervene.silence(llama.model, ~mask, "ffn_out"):
        alone = tasks.run(llama, battery)
    np.testing.assert_array_equal(found["correct"][-n:], alone["correct"])


def test_what_is_said_under_masks(llama, rng):
    mask = rng.random((2, 24)) < 0.5
    trials = [Trial("half", "ffn_out", mask), Trial("half", "ffn_out", ~mask, "rest")]
    said = tasks.say(llama, "one two", trials, max_new_tokens=4)
    assert list(said) == ["intact", "half", "half: rest"]
    options = {"max_new_tokens": 4, "chat_template": False}
    with intervene.silence(llama.model, ~mask, "ffn_out"):
        assert [said["half: rest"]] == behaviour.generate(llama, ["one two"], **options)
    assert [said["intact"]] == behaviour.generate(llama, ["one two"], **options)


def test_summary_weighs_suites_alike_and_parses_apart():
    rows = [("SyntaxGym", "x", c) for c in (1, 1, 1, 0)]
    rows += [("SyntaxGym", "y", 0)]
    rows += [("minimal pairs", s, c) for s, c in (("x", 1), ("x", 1), ("y", 0))]
    rows += [("classification", "a", c) for c in (1, 0)]
    table = pd.DataFrame(rows, columns=["task", "set", "correct"])
    table = table.assign(group="intact", control="", draw=0, parsed=True)
    table.loc[len(table) - 1, "parsed"] = False
    rest = table.assign(control="per layer", correct=1)
    both = [table, rest, rest.assign(draw=1, correct=0)]
    table = pd.concat(both, ignore_index=True).astype({"correct": bool})
    found = tasks.summary(table).set_index(["control", "task"])
    assert found.loc[("", "SyntaxGym"), "score"] == pytest.approx((0.75 + 0) / 2)
    assert found.loc[("", "minimal pairs"), "score"] == pytest.approx(2 / 3)
    assert found.loc[("", "classification"), "score"] == 0.5
    assert found.loc[("", "parse rate"), "score"] == 0.5
    # two draws: as many items, the mean of both
    draws = found.loc[("per layer", "minimal pairs")]
    assert (draws["n_items"], draws["n_draws"], draws["score"]) == (3, 2, 0.5)
    interval = stats.binomtest(2, 3).proportion_ci(method="wilson")
    low, high = found.loc[("", "minimal pairs"), ["low", "high"]]
    assert (low, high) == pytest.approx((interval.low, interval.high))
    text = tasks.as_text(tasks.summary(table))
    assert list(text.index) == ["intact", "intact, per layer (mean of 2 draws)"]
    assert text.loc["intact", "classification (n = 2)"] == "0.50 [0.09, 0.91]"
