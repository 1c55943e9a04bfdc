"""What a language model prefers, by likelihood, and what it answers.

The model is run as it is: open a masking context around a call to see what it damages.
Preferences are minimal pairs and multiple choice; answers are generated greedily, and
labels read from them. Published maskings count an answer that names no label as wrong.
An accuracy of 0 then says that the format broke, not the knowledge: the parse rate is
reported apart.
"""

import re

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm
from transformers import GenerationConfig

from anbn.core import params, tables
from anbn.masking.evaluation import EvaluationError, check_causal
from anbn.models import forward
from anbn.models.structure import input_device
from anbn.text.tokenization import special_tokens, tokenize

_BARE = {"add_special_tokens": False, "verbose": False}
GREEDY = {  # all said, for what is not comes from the checkpoint's own settings
    "do_sample": False,
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 50,
}


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
            f"conditions are {tables.some(first)}. Use one whose name begins with "
            "number or reflexive."
        )
    return pd.DataFrame(rows, columns=["set", "item", "condition", "good", "bad"])


def multiple_choice(language_model, questions, *, batch_size=8):
    """Which of several continuations does a model find most likely?

    The log-probability of a choice given the context is divided by its number of
    characters (``acc_norm`` of lm-eval), so that short choices have no advantage.

    Parameters
    ----------
    language_model : LanguageModel
        With a causal head.
    questions : DataFrame
        Columns ``context``, ``choices`` (a list of str, joined to the context by a
        blank) and ``answer`` (index of the right one); others are kept.
    batch_size : int
        Choices at a time, each with its context.

    Returns
    -------
    results : DataFrame
        ``questions`` with ``n_choices``, ``chosen``, ``correct``, ``margin`` (of the
        right choice over the best other one, nats a character) and
        ``correct_unnormalised`` (as ``correct``, undivided: ``acc`` of lm-eval).
    """
    _check_table(questions, ["context", "choices", "answer"], "questions")
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
            lengths.append(len(choice.strip()))
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
            f"{tables.some(frame.columns)}"
        )
    if not len(frame):
        raise EvaluationError(f"{name} is empty: nothing to evaluate")


def generate(
    language_model, prompts, *, max_new_tokens=32, batch_size=8, chat_template="auto"
):
    """Continue prompts greedily, with a key-value cache.

    Parameters
    ----------
    language_model : LanguageModel
        With a causal head.
    prompts : list of str
    max_new_tokens, batch_size : int
        Prompts of a batch are padded on the left.
    chat_template : {"auto", "yes", "no"}
        Whether a prompt is the user's turn in the tokenizer's chat template; ``auto``:
        if it has one.

    Returns
    -------
    answers : list of str
        Without the prompts and special tokens.
    """
    check_causal(language_model, "generation")
    if isinstance(prompts, str) or not len(prompts):
        raise EvaluationError(f"prompts must be a list of texts, found {prompts!r}")
    model, tokenizer = language_model.model, language_model.tokenizer
    coded = _coded(tokenizer, list(prompts), chat_template)
    longest = max(map(len, coded))
    if longest + max_new_tokens > language_model.max_tokens:
        raise EvaluationError(
            f"a prompt of {longest} tokens and {max_new_tokens} new ones exceed the "
            f"{language_model.max_tokens} the model takes: shorten the prompts or "
            "lower max_new_tokens"
        )
    own = model.generation_config
    ends = own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id
    stops = [] if ends is None else np.ravel(ends).tolist()
    known = [tokenizer.pad_token_id, *stops, 0]
    padding = next(one for one in known if one is not None)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        use_cache=True,
        eos_token_id=ends,
        pad_token_id=padding,
        **GREEDY,
    )
    order = np.argsort([len(ids) for ids in coded], kind="stable")
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    answers, device = [""] * len(coded), input_device(model)
    for batch in tqdm(batches, "answers", mininterval=5, disable=len(batches) < 4):
        n = max(len(coded[i]) for i in batch)
        ids = [[padding] * (n - len(coded[i])) + coded[i] for i in batch]
        seen = [[0] * (n - len(coded[i])) + [1] * len(coded[i]) for i in batch]
        with torch.inference_mode():
            new = model.generate(
                input_ids=torch.tensor(ids, device=device),
                attention_mask=torch.tensor(seen, device=device),
                generation_config=config,
            )[:, n:]
        for i, row in zip(batch, new.tolist(), strict=True):
            stop = next((at for at, one in enumerate(row) if one in stops), len(row))
            answers[i] = tokenizer.decode(row[:stop], skip_special_tokens=True)
    return answers


def classify(
    language_model,
    prompts,
    labels,
    *,
    max_new_tokens=16,
    batch_size=8,
    chat_template="auto",
):
    """Classify by prompt: the model answers, the answer is searched for a label.

    Parameters
    ----------
    language_model : LanguageModel
        With a causal head.
    prompts : DataFrame
        Columns ``prompt`` and ``label`` (the right one); others are kept.
    labels : list of str
        What an answer may be.
    max_new_tokens, batch_size, chat_template
        See ``generate``.

    Returns
    -------
    results : DataFrame
        ``prompts`` with ``answer`` (text), ``parsed`` (its first line names exactly one
        label, as a whole word, in any case), ``predicted`` (that label, else "") and
        ``correct`` (False where not parsed).
    """
    labels = _checked(labels)
    missing = {"prompt", "label"} - set(prompts)
    if missing:
        raise EvaluationError(
            f"prompts has no column {min(missing)!r}: expected prompt and label, found "
            f"{tables.some(prompts.columns)}"
        )
    unknown = sorted(set(prompts["label"]) - set(labels))
    if unknown:
        raise EvaluationError(
            f"prompts have the label {unknown[0]!r}, which is not among the labels "
            f"{labels}{params.did_you_mean(unknown[0], labels)}"
        )
    answers = generate(
        language_model,
        prompts["prompt"].tolist(),
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        chat_template=chat_template,
    )
    predicted = np.array([named_label(answer, labels) for answer in answers], object)
    parsed = predicted != ""
    return prompts.assign(
        answer=answers,
        parsed=parsed,
        predicted=predicted,
        correct=parsed & (predicted == prompts["label"].to_numpy()),
    )


def named_label(answer, labels):
    """The one label that an answer's first line names as a whole word; else ""."""
    line = answer.strip().split("\n")[0]
    named = [
        label
        for label in labels
        if re.search(rf"(?<!\w){re.escape(label)}(?!\w)", line, re.IGNORECASE)
    ]
    return named[0] if len(named) == 1 else ""


def domain_prompts(documents, domains, *, examples=None, n_words=20, rng=None):
    """Prompts that ask which kind of text the beginning of a document is.

    Parameters
    ----------
    documents : DataFrame
        Columns ``corpus`` and ``text``.
    domains : dict of str to str
        Corpus -> its label, a word the model can be expected to say. Documents of other
        corpora are left out.
    examples : DataFrame, optional
        Other documents that are shown with their labels first. A small model knows what
        is asked only then; give such prompts to ``classify`` with
        ``chat_template="no"``.
    n_words : int
        Shown of each document.
    rng : numpy Generator, optional
        Shuffles the labels and the examples of every prompt, so that a preference for
        the first or last does not look like knowledge.

    Returns
    -------
    prompts : DataFrame
        For ``classify``: ``document`` (row of ``documents``), ``label``, ``prompt``.
    """
    labels = _checked(list(dict.fromkeys(domains.values())))
    unknown = [corpus for corpus in domains if corpus not in set(documents["corpus"])]
    if unknown:
        raise EvaluationError(
            f"domains has the corpus {unknown[0]!r}, the documents have "
            f"{tables.some(documents['corpus'].unique())}"
        )
    shown = [
        (f"Text: {' '.join(text.split()[:n_words])}\n", domains.get(corpus))
        for corpus, text in zip(documents["corpus"], documents["text"], strict=True)
    ]
    solved = []
    if examples is not None:
        solved = [
            f"Text: {' '.join(text.split()[:n_words])}\nKind: {domains[corpus]}\n\n"
            for corpus, text in zip(examples["corpus"], examples["text"], strict=True)
            if corpus in domains
        ]
        both = set(documents["text"]) & set(examples["text"])
        if both:
            raise EvaluationError(
                f"the example {min(both)[:40]!r} is also asked about: take others"
            )
    rows = []
    for row, (text, label) in enumerate(shown):
        names, first = (
            list(x) if rng is None else rng.permutation(x).tolist()
            for x in (labels, solved)
        )
        if solved:
            head = f"Kinds of text: {', '.join(names)}.\n\n"
            prompt = f"{head}{''.join(first)}{text}Kind:"
        else:
            kinds = f"{', '.join(names[:-1])} or {names[-1]}"
            question = f"Which kind of text is this: {kinds}?"
            prompt = f"{text}\n{question} Answer with one word."
        if label:
            rows.append((row, label, prompt))
    return pd.DataFrame(rows, columns=["document", "label", "prompt"])


def _coded(tokenizer, prompts, chat_template):
    """Token ids of prompts, with or without the chat template around them."""
    has_one = bool(getattr(tokenizer, "chat_template", None))
    if chat_template not in ("auto", "yes", "no"):
        raise EvaluationError(
            f"chat_template must be auto, yes or no, found {chat_template!r}"
        )
    if chat_template == "yes" and not has_one:
        raise EvaluationError(
            "chat_template is 'yes', but this tokenizer has none: use 'auto' or 'no'"
        )
    chat = has_one and chat_template != "no"
    if chat:  # the template writes the special tokens itself
        turn = {"tokenize": False, "add_generation_prompt": True}
        prompts = [
            tokenizer.apply_chat_template([{"role": "user", "content": p}], **turn)
            for p in prompts
        ]
    coded = [tokenizer(p, add_special_tokens=not chat)["input_ids"] for p in prompts]
    if not all(coded):
        raise EvaluationError("a prompt is empty: nothing to continue")
    return coded


def _checked(labels):
    """Labels that an answer can be told apart by."""
    labels = list(labels)
    if len(labels) < 2 or not all(label.strip() for label in labels):
        raise EvaluationError(f"labels must be 2 words or more, found {labels}")
    for label in labels:
        for other in labels:
            if other is not label and other.lower().startswith(label.lower()):
                raise EvaluationError(
                    f"the label {label!r} is the beginning of {other!r}: an answer cut "
                    "short cannot tell them apart. Rename one."
                )
    return labels
