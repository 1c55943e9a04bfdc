"""What a language model can still do: a few tasks, run intact and under masks."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from anbn.masking import behaviour, intervene, syntaxgym
from anbn.masking.evaluation import Trial, options_of
from anbn.stats import inference

N_EXAMPLES = 1  # of each corpus: small models do not know what is asked without any


class Tasks(NamedTuple):
    """Items of every task."""

    suites: dict  # of str to syntaxgym.Suite
    pairs: pd.DataFrame  # good and bad sentences, of the suites of agreement
    questions: pd.DataFrame  # contexts and their possible continuations
    prompts: pd.DataFrame  # which kind of text is this?
    labels: list  # answers to the prompts
    before: str  # read in front of every sentence of suites and pairs


def prepare(suites, documents, labels, *, before, n_choices, rng):
    """Tasks from SyntaxGym suites and held-out documents.

    A prompt shows the first ``N_EXAMPLES`` documents of each corpus with their labels;
    the others are asked about.

    Parameters
    ----------
    suites : dict of str to syntaxgym.Suite
    documents : DataFrame
        From ``holdout.held_out_documents``.
    labels : dict of str to str
        Corpus -> the word a prompt calls this kind of text.
    before : str
        See ``syntaxgym.score``.
    n_choices : int
        Of a multiple-choice question.
    rng : numpy Generator
        One child of it draws choices, another one shuffles prompts.
    """
    of_choices, of_prompts = rng.spawn(2)
    agreement = [s for n, s in suites.items() if n.startswith(("number", "reflexive"))]
    pairs = [behaviour.pairs_from_suite(suite) for suite in agreement]
    columns = ["set", "item", "condition", "good", "bad"]
    shown = documents.groupby("corpus").cumcount() < N_EXAMPLES
    return Tasks(
        suites,
        pd.concat(pairs, ignore_index=True) if pairs else pd.DataFrame(columns=columns),
        behaviour.continuations(documents, n_choices=n_choices, rng=of_choices),
        behaviour.domain_prompts(
            documents[~shown], labels, examples=documents[shown], rng=of_prompts
        ),
        list(dict.fromkeys(labels.values())),
        before,
    )


def run(language_model, tasks):
    """Every item of every task.

    Returns
    -------
    results : DataFrame
        ``task`` (SyntaxGym, minimal pairs, multiple choice, classification), ``set``
        (suite or corpus), ``item``, ``correct``, ``parsed`` (False where an answer in
        words names no label; it is then not correct).
    """
    before = {"before": tasks.before}
    suites = syntaxgym.score(language_model, tasks.suites, **before)
    parts = {"SyntaxGym": suites.assign(set=suites["suite"])}
    if len(tasks.pairs):
        parts["minimal pairs"] = behaviour.minimal_pairs(
            language_model, tasks.pairs, **before
        )
    chosen = behaviour.multiple_choice(language_model, tasks.questions)
    parts["multiple choice"] = chosen.assign(set=chosen["domain"])
    options = {"max_new_tokens": 4, "chat_template": False}
    said = behaviour.classify(language_model, tasks.prompts, tasks.labels, **options)
    parts["classification"] = said.assign(set=said["label"])
    rows = [
        pd.DataFrame(
            {
                "task": task,
                "set": part["set"].to_numpy(),
                "item": range(len(part)),
                "correct": part["correct"].to_numpy(bool),
                "parsed": part["parsed"].to_numpy(bool) if "parsed" in part else True,
            }
        )
        for task, part in parts.items()
    ]
    return pd.concat(rows, ignore_index=True)


def under(language_model, tasks, trials, **where):
    """``run`` of the intact model and under every trial.

    Parameters
    ----------
    language_model : LanguageModel
    tasks : Tasks
    trials : list of evaluation.Trial
    **where
        ``layers``, ``modules`` of ``intervene.intervene``.

    Returns
    -------
    results : DataFrame
        Columns of ``run`` with ``group``, ``control``, ``draw``.
    """
    intact = Trial("intact", "", np.zeros(0, bool))
    found = [(intact, run(language_model, tasks))]
    for trial in tqdm(trials, "tasks under masks", mininterval=5):
        options = {**options_of(trial, language_model), **where}
        model = language_model.model
        with intervene.apply(model, trial.mask, trial.kind, trial.action, **options):
            found.append((trial, run(language_model, tasks)))
    return pd.concat(
        [r.assign(group=t.group, control=t.control, draw=t.draw) for t, r in found],
        ignore_index=True,
    )


def say(language_model, prompt, trials, *, max_new_tokens=16, **where):
    """How the intact model, and the model under every trial, continue a prompt.

    Parameters
    ----------
    language_model : LanguageModel
    prompt : str
    trials : list of evaluation.Trial
    max_new_tokens : int
        Tokens, each the likeliest.
    **where
        ``layers``, ``modules`` of ``intervene.intervene``.

    Returns
    -------
    said : dict of str to str
        By ``intact``, mask, or ``mask: control``.
    """
    options = {"max_new_tokens": max_new_tokens, "chat_template": False}
    said = {"intact": behaviour.generate(language_model, [prompt], **options)[0]}
    model = language_model.model
    for trial in trials:
        name = f"{trial.group}: {trial.control}".removesuffix(": ")
        changed = {**options_of(trial, language_model), **where}
        with intervene.apply(model, trial.mask, trial.kind, trial.action, **changed):
            said[name] = behaviour.generate(language_model, [prompt], **options)[0]
    return said


def summary(results):
    """Share of items that are right, by mask and task, and the parse rate apart.

    Parameters
    ----------
    results : DataFrame
        From ``under``.

    Returns
    -------
    table : DataFrame, a row a mask or control and task
        ``group``, ``control``, ``task`` (also ``parse rate``, of the classification),
        ``n_items``, ``n_draws`` of the control, ``score`` (SyntaxGym: mean over suites;
        mean over draws), ``low`` and ``high`` (Wilson's 95 % interval for other items
        like these; those of one suite or document are taken as independent).
    """
    said = results[results["task"] == "classification"]
    said = said.assign(task="parse rate", correct=said["parsed"])
    results = pd.concat([results, said], ignore_index=True)
    by = ["group", "control", "task"]
    of_sets = results.groupby([*by, "set"], sort=False)["correct"]
    of_sets = of_sets.agg(["mean", "size"]).reset_index()
    # published SyntaxGym scores give every suite the same weight
    suites = of_sets["task"] == "SyntaxGym"
    of_sets["weight"] = of_sets["size"].where(~suites, 1)
    of_sets["mean"] *= of_sets["weight"]
    sums = of_sets.groupby(by, sort=False)[["mean", "weight", "size"]].sum()
    n_draws = results.groupby(by, sort=False)["draw"].nunique()
    n_items = sums["size"] // n_draws
    score = sums["mean"] / sums["weight"]
    low, high = inference.wilson(score, n_items)
    columns = {"n_items": n_items, "n_draws": n_draws, "score": score}
    return pd.DataFrame(columns | {"low": low, "high": high}).reset_index()


def as_text(table):
    """``summary`` to be read: masks x tasks, ``score [low, high]``.

    Returns
    -------
    text : DataFrame of str
        Rows ``mask`` or ``mask, control (n draws)``, columns ``task (n = items)``.
    """
    draws = table["n_draws"].map(" (mean of {} draws)".format)
    control = ", " + table["control"] + draws.where(table["n_draws"] > 1, "")
    mask = table["group"] + control.where(table["control"] != "", "")
    task = table["task"] + table["n_items"].map(" (n = {})".format)
    columns = table[["score", "low", "high"]].itertuples(index=False)
    said = [f"{score:.2f} [{low:.2f}, {high:.2f}]" for score, low, high in columns]
    text = pd.DataFrame({"mask": mask, "task": task, "said": said})
    order = list(dict.fromkeys(mask)), list(dict.fromkeys(task))
    return text.pivot(index="mask", columns="task", values="said").loc[order]
