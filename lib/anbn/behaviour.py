"""What a language model prefers: minimal pairs and multiple choice by likelihood.

The model is run as it is: open a masking context around a call to see what it damages.
"""

import re

import numpy as np
import pandas as pd

from anbn import columns, forward
from anbn.evaluation import EvaluationError, check_causal
from anbn.tokenization import special_tokens, tokenize

NORMALISATIONS = ("characters", "tokens", "none")


def surprisals(language_model, sequences, *, before="", batch_size=32):
    """Surprisal of every token of many short texts, each on its own.

    Parameters
    ----------
    language_model : LanguageModel
        With a causal head.
    sequences : list of sequence of int
        Token ids. Equal texts are run once, texts of similar length together.
    before : str
        Read in front of each text, as a line break: many models spend the first token
        they read on a massive activation and hardly know which word it was.
    batch_size : int
        Texts at a time.

    Returns
    -------
    values : list of float64 arrays of shape (n_tokens,)
        Nats; NaN for a token with nothing before it.

    Raises
    ------
    EvaluationError
        Without a causal head, without texts, or if the model gives NaN.
    """
    check_causal(language_model, "surprisal")
    front = language_model.tokenizer(before, **_BARE)["input_ids"] if before else []
    keys = [(*front, *map(int, ids)) if len(ids) else () for ids in sequences]
    unique = sorted({ids for ids in keys if ids}, key=lambda ids: (len(ids), ids))
    if not unique:
        raise EvaluationError("nothing to evaluate: no text holds a token")
    lengths = [len(ids) for ids in unique]
    tokens = pd.DataFrame({"id": np.concatenate(unique)})
    tokens["document"] = np.repeat(np.arange(len(unique)), lengths)
    values = np.empty(len(tokens))
    whole = {"window": lengths[-1], "stride": lengths[-1], "batch_size": batch_size}
    for recorded in forward.forward_windows(
        language_model, tokens, surprisal=True, **whole
    ):
        values[recorded.rows] = recorded.surprisal
    first = np.r_[0, np.cumsum(lengths)[:-1]]
    bad = ~np.isfinite(values)
    if not special_tokens(language_model.tokenizer)[0]:
        bad[first] = False
    if bad.any():
        raise EvaluationError(
            f"the model gives no finite probability for {bad.sum()} of {bad.size} "
            "tokens: what was done to its neurons overflows its dtype. Change them "
            "less, or load the model as float32."
        )
    found = dict(zip(unique, np.split(values, first[1:]), strict=True))
    return [found[ids][len(front) :] if ids else np.empty(0) for ids in keys]


def minimal_pairs(language_model, pairs, *, before="", batch_size=32):
    """Does a model find the good sentence of each pair more likely than the bad one?

    Parameters
    ----------
    language_model : LanguageModel
        With a causal head.
    pairs : DataFrame
        Columns ``good`` and ``bad``: whole sentences; others are kept, as ``set``.
    before : str
        Read in front of each sentence, see ``surprisals``.
    batch_size : int
        Sentences at a time.

    Returns
    -------
    results : DataFrame
        ``pairs`` with ``margin`` (log-probability of the good sentence minus that of
        the bad one, nats) and ``correct`` (it is above 0). A first token with nothing
        before it does not count: pairs should then begin alike.
    """
    _check_table(pairs, ["good", "bad"], "pairs")
    texts = [*pairs["good"], *pairs["bad"]]
    coded = [language_model.tokenizer(t, **_BARE)["input_ids"] for t in texts]
    found = surprisals(language_model, coded, before=before, batch_size=batch_size)
    total = np.array([np.nansum(values) for values in found])
    margin = total[len(pairs) :] - total[: len(pairs)]
    return pairs.assign(margin=margin, correct=margin > 0)


def pairs_from_suite(suite):
    """Sentence pairs of a SyntaxGym suite of agreement or reflexives.

    Parameters
    ----------
    suite : syntaxgym.Suite
        With conditions ``match_x`` and ``mismatch_x``.

    Returns
    -------
    pairs : DataFrame
        ``set`` (the suite's name), ``item``, ``condition`` (x), ``good``, ``bad``.
    """
    rows = [
        (suite.name, item, name.removeprefix("match_"), text.text, other.text)
        for item, sentences in suite.items.items()
        for name, text in sentences.items()
        if name.startswith("match_") and (other := sentences.get(f"mis{name}"))
    ]
    if not rows:
        first = next(iter(suite.items.values()))
        raise EvaluationError(
            f"suite {suite.name!r} has no conditions match_x and mismatch_x: its "
            f"conditions are {columns.some(first)}. Use one whose name begins with "
            "number or reflexive."
        )
    return pd.DataFrame(rows, columns=["set", "item", "condition", "good", "bad"])


def multiple_choice(language_model, questions, *, normalise="characters", batch_size=8):
    """Which of several continuations does a model find most likely?

    Parameters
    ----------
    language_model : LanguageModel
        With a causal head.
    questions : DataFrame
        Columns ``context``, ``choices`` (a list of str, joined to the context by a
        blank) and ``answer`` (index of the right one); others are kept.
    normalise : {"characters", "tokens", "none"}
        What the log-probability of a choice given the context is divided by: its number
        of characters (``acc_norm`` of lm-eval), of tokens, or nothing (``acc``).
    batch_size : int
        Choices at a time, each with its context.

    Returns
    -------
    results : DataFrame
        ``questions`` with ``n_choices``, ``chosen``, ``correct``, ``margin`` (of the
        right choice over the best other one, nats per what it is divided by) and
        ``correct_unnormalised`` (as ``correct``, with ``normalise="none"``).
    """
    _check_table(questions, ["context", "choices", "answer"], "questions")
    if normalise not in NORMALISATIONS:
        raise EvaluationError(
            f"normalise must be one of {NORMALISATIONS}, found {normalise!r}"
        )
    coded, begins, lengths, sizes = [], [], [], []
    for row, (context, choices, answer) in enumerate(
        zip(
            questions["context"], questions["choices"], questions["answer"], strict=True
        )
    ):
        _check_question(row, context, choices, answer)
        for choice in choices:
            ids, begin = _continuation(language_model.tokenizer, context, choice)
            coded.append(ids)
            begins.append(begin)
            by = {"characters": len(choice.strip()), "tokens": len(ids) - begin}
            lengths.append(by.get(normalise, 1))
        sizes.append(len(choices))
    found = surprisals(language_model, coded, batch_size=batch_size)
    total = [-v[b:].sum() for v, b in zip(found, begins, strict=True)]
    cuts = np.cumsum(sizes)[:-1]
    raw = np.split(np.array(total), cuts)
    scores = np.split(np.array(total) / lengths, cuts)
    answers = questions["answer"].to_numpy(int)
    chosen = np.array([s.argmax() for s in scores])
    best = [np.delete(s, a).max() for s, a in zip(scores, answers, strict=True)]
    right = [s[a] for s, a in zip(scores, answers, strict=True)]
    return questions.assign(
        n_choices=sizes,
        chosen=chosen,
        correct=chosen == answers,
        margin=np.subtract(right, best),
        correct_unnormalised=np.array([s.argmax() for s in raw]) == answers,
    )


def continuations(documents, *, n_choices, rng, n_context=40, n_words=12):
    """Questions from held-out text: which is a document's own continuation?

    Parameters
    ----------
    documents : DataFrame
        Columns ``corpus`` and ``text``.
    n_choices : int
        The right continuation and ``n_choices - 1`` of other documents of the same
        corpus, from the same place in them.
    rng : numpy Generator
    n_context, n_words : int
        Words of the context and of each choice. Shorter documents are left out.

    Returns
    -------
    questions : DataFrame
        For ``multiple_choice``: ``domain`` (the corpus), ``document`` (row of
        ``documents``), ``context``, ``choices``, ``answer``.
    """
    _check_table(documents, ["corpus", "text"], "documents")
    if n_choices < 2:
        raise EvaluationError(f"n_choices must be 2 or more, found {n_choices}")
    parts = {"domain": [], "document": [], "context": [], "choice": []}
    for row, (corpus, text) in enumerate(
        zip(documents["corpus"], documents["text"], strict=True)
    ):
        words = list(re.finditer(r"\S+", text))[: n_context + n_words]
        if len(words) == n_context + n_words:
            at = words[n_context].start()
            cut = [corpus, row, text[:at].rstrip(), text[at : words[-1].end()]]
            for name, value in zip(parts, cut, strict=True):
                parts[name].append(value)
    long = pd.DataFrame(parts)
    rows = []
    for domain in documents["corpus"].unique():
        group = long[long["domain"] == domain]
        if group["choice"].nunique() < n_choices:
            raise EvaluationError(
                f"corpus {domain!r} has {group['choice'].nunique()} documents of "
                f"{n_context + n_words} words or more with different continuations, "
                f"expected {n_choices} (n_choices): give more documents, or lower "
                "n_context, n_words or n_choices"
            )
        for question in group.itertuples():
            others = group["choice"][group["choice"] != question.choice].unique()
            choices = [*rng.choice(others, n_choices - 1, replace=False)]
            answer = int(rng.integers(n_choices))
            choices.insert(answer, question.choice)
            rows.append((domain, question.document, question.context, choices, answer))
    return pd.DataFrame(
        rows, columns=["domain", "document", "context", "choices", "answer"]
    )


_BARE = {"add_special_tokens": False, "verbose": False}


def _continuation(tokenizer, context, choice):
    """Ids of context and choice, and the first token of the choice."""
    context, choice = context.rstrip(), choice.strip()
    text = f"{context} {choice}"
    spans = {"start": [0, len(context)], "end": [len(context), len(text)]}
    tokens = tokenize(tokenizer, text, pd.DataFrame(spans))
    begin = int((tokens["word"].to_numpy() == 1).argmax())
    return tokens["id"].tolist(), begin


def _check_question(row, context, choices, answer):
    if isinstance(choices, str) or len(choices) < 2:
        raise EvaluationError(
            f"question {row}: choices must be a list of 2 texts or more, found "
            f"{choices!r}"
        )
    if not context.strip() or not all(choice.strip() for choice in choices):
        raise EvaluationError(f"question {row}: its context or a choice is empty")
    if not 0 <= answer < len(choices):
        raise EvaluationError(
            f"question {row}: answer must be the index of one of its {len(choices)} "
            f"choices, found {answer}"
        )


def _check_table(frame, expected, name):
    missing = [column for column in expected if column not in frame]
    if missing:
        raise EvaluationError(
            f"{name} has no column {missing[0]!r}: expected {expected}, found "
            f"{columns.some(frame.columns)}"
        )
    if not len(frame):
        raise EvaluationError(f"{name} is empty: nothing to evaluate")
