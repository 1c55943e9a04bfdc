"""What a language model prefers, by likelihood, and what it answers.

The model is run as it is: open a masking context around a call to see what it damages.
Preferences are minimal pairs and multiple choice; answers are generated greedily, and
labels read from them. Published maskings count an answer that names no label as wrong.
An accuracy of 0 then says that the format broke, not the knowledge: the parse rate is
reported apart.
"""

import itertools
import re

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm
from transformers import GenerationConfig

from anbn.core import tables
from anbn.masking.evaluation import EvaluationError, check_causal
from anbn.models import forward
from anbn.models.structure import input_device
from anbn.text.tokenization import special_tokens, tokenize

CONTEXT_WORDS, CHOICE_WORDS = 24, 8  # of a document, for multiple choice
SHOWN_WORDS = 20  # of a document whose kind is asked for
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


def minimal_pairs(language_model, pairs, *, before=""):
    """Does a model find the good sentence of each pair more likely than the bad one?

    Parameters
    ----------
    language_model : LanguageModel
        With a causal head.
    pairs : DataFrame
        Columns ``good`` and ``bad``: whole sentences; others are kept, as ``set``.
    before : str
        Read in front of each sentence, see ``surprisals``.

    Returns
    -------
    results : DataFrame
        ``pairs`` with ``margin`` (log-probability of the good sentence minus that of
        the bad one, nats) and ``correct`` (it is above 0). A first token with nothing
        before it does not count: pairs should then begin alike.
    """
    texts = [*pairs["good"], *pairs["bad"]]
    coded = [language_model.tokenizer(t, **_BARE)["input_ids"] for t in texts]
    found = surprisals(language_model, coded, before=before)
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
        raise EvaluationError(
            f"suite {suite.name!r} is one of agreement or reflexives by its name, but "
            "has no conditions match_x and mismatch_x: call it otherwise"
        )
    return pd.DataFrame(rows, columns=["set", "item", "condition", "good", "bad"])


def multiple_choice(language_model, questions):
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

    Returns
    -------
    results : DataFrame
        ``questions`` with ``chosen``, ``correct`` and ``margin`` (of the right choice
        over the best other one, nats a character).
    """
    coded, begins, lengths = [], [], []
    for row, question in enumerate(questions.itertuples()):
        choices = question.choices
        if isinstance(choices, str) or not 0 <= question.answer < len(choices):
            raise EvaluationError(
                f"question {row}: expected a list of choices and the index of the "
                f"right one, found {choices!r} and {question.answer}"
            )
        for choice in choices:
            ids, begin = _continuation(
                language_model.tokenizer, question.context, choice
            )
            coded.append(ids)
            begins.append(begin)
            lengths.append(len(choice.strip()))
    found = surprisals(language_model, coded, batch_size=8)
    total = [-v[b:].sum() for v, b in zip(found, begins, strict=True)]
    cuts = np.cumsum(questions["choices"].map(len))[:-1]
    scores = np.split(np.array(total) / lengths, cuts)
    answers = questions["answer"].to_numpy(int)
    chosen = np.array([s.argmax() for s in scores])
    best = [np.delete(s, a).max() for s, a in zip(scores, answers, strict=True)]
    right = [s[a] for s, a in zip(scores, answers, strict=True)]
    return questions.assign(
        chosen=chosen, correct=chosen == answers, margin=np.subtract(right, best)
    )


def continuations(documents, *, n_choices, rng):
    """Questions from held-out text: which is a document's own continuation?

    Parameters
    ----------
    documents : DataFrame
        Columns ``corpus`` and ``text``. Those of less than ``CONTEXT_WORDS`` and
        ``CHOICE_WORDS`` are left out.
    n_choices : int
        The right continuation and ``n_choices - 1`` of other documents of the same
        corpus, from the same place in them.
    rng : numpy Generator

    Returns
    -------
    questions : DataFrame
        For ``multiple_choice``: ``domain`` (the corpus), ``document`` (row of
        ``documents``), ``context``, ``choices``, ``answer``.

    Raises
    ------
    EvaluationError
        If too few documents of a corpus are long enough.
    """
    n_words, rows = CONTEXT_WORDS + CHOICE_WORDS, []
    for domain, texts in documents["text"].groupby(documents["corpus"], sort=False):
        parts, longest = {}, 0
        for row, text in texts.items():
            words = list(re.finditer(r"\S+", text))
            longest = max(longest, len(words))
            if len(words) >= n_words:
                at, end = words[CONTEXT_WORDS].start(), words[n_words - 1].end()
                parts[row] = text[:at].rstrip(), text[at:end]
        every = pd.Series([choice for _, choice in parts.values()], dtype=object)
        if every.nunique() < n_choices:
            raise EvaluationError(
                f"corpus {domain!r}: multiple choice needs {n_choices} documents of "
                f"{n_words} words or more with different continuations, found "
                f"{every.nunique()} of {len(texts)} documents; the longest has "
                f"{longest} words. Raise task_tokens or task_documents."
            )
        for row, (context, choice) in parts.items():
            others = every[every != choice].unique()
            choices = [*rng.choice(others, n_choices - 1, replace=False)]
            answer = int(rng.integers(n_choices))
            choices.insert(answer, choice)
            rows.append((domain, row, context, choices, answer))
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


def generate(
    language_model, prompts, *, max_new_tokens=32, batch_size=8, chat_template=True
):
    """Continue prompts greedily, with a key-value cache.

    Parameters
    ----------
    language_model : LanguageModel
        With a causal head.
    prompts : list of str
    max_new_tokens, batch_size : int
        Prompts of a batch are padded on the left.
    chat_template : bool
        Whether a prompt is the user's turn in the tokenizer's chat template, if it has
        one.

    Returns
    -------
    answers : list of str
        Without the prompts and special tokens.
    """
    check_causal(language_model, "generation")
    if isinstance(prompts, str) or not all(prompts):
        raise EvaluationError(
            f"expected a list of prompts, none of them empty, found {prompts!r}"
        )
    model, tokenizer = language_model.model, language_model.tokenizer
    chat = chat_template and bool(getattr(tokenizer, "chat_template", None))
    if chat:  # the template writes the special tokens itself
        turn = {"tokenize": False, "add_generation_prompt": True}
        prompts = [
            tokenizer.apply_chat_template([{"role": "user", "content": p}], **turn)
            for p in prompts
        ]
    coded = [tokenizer(p, add_special_tokens=not chat)["input_ids"] for p in prompts]
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


def classify(language_model, prompts, labels, **options):
    """Classify by prompt: the model answers, the answer is searched for a label.

    Parameters
    ----------
    language_model : LanguageModel
        With a causal head.
    prompts : DataFrame
        Columns ``prompt`` and ``label`` (the right one); others are kept.
    labels : list of str
        What an answer may be.
    **options
        Of ``generate``.

    Returns
    -------
    results : DataFrame
        ``prompts`` with ``answer`` (text), ``parsed`` (its first line names exactly one
        label, as a whole word, in any case), ``predicted`` (that label, else "") and
        ``correct`` (False where not parsed).
    """
    answers = generate(language_model, prompts["prompt"].tolist(), **options)
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


def domain_prompts(documents, domains, *, examples, rng):
    """Prompts that ask which kind of text the beginning of a document is.

    Parameters
    ----------
    documents : DataFrame
        Columns ``corpus`` and ``text``.
    domains : dict of str to str
        Corpus -> its label, a word the model can be expected to say. Documents of other
        corpora are left out.
    examples : DataFrame
        Other documents, which are shown with their labels first: a small model knows
        what is asked only then. Give such prompts to ``classify`` with
        ``chat_template=False``.
    rng : numpy Generator
        Shuffles the labels and the examples of every prompt, so that a preference for
        the first or last does not look like knowledge.

    Returns
    -------
    prompts : DataFrame
        For ``classify``: ``document`` (row of ``documents``), ``label``, ``prompt``.

    Raises
    ------
    EvaluationError
        If labels cannot be told apart or fit no corpus, or an example is asked about.
    """
    labels = list(dict.fromkeys(domains.values()))
    if len(labels) < 2 or not all(label.strip() for label in labels):
        raise EvaluationError(
            f"domain_labels: expected 2 different words or more, found {labels}"
        )
    for label, other in itertools.permutations(labels, 2):
        if other.lower().startswith(label.lower()):
            raise EvaluationError(
                f"domain_labels: {label!r} is the beginning of {other!r}: an answer "
                "cut short cannot tell them apart. Rename one."
            )
    unknown = [corpus for corpus in domains if corpus not in set(documents["corpus"])]
    if unknown:
        raise EvaluationError(
            f"domain_labels: there is no corpus {unknown[0]!r}, the documents have "
            f"{tables.some(documents['corpus'].unique())}"
        )
    both = set(documents["text"]) & set(examples["text"])
    if both:
        raise EvaluationError(
            f"the example {min(both)[:40]!r} is also asked about: take others"
        )

    def shown(text):
        return f"Text: {' '.join(text.split()[:SHOWN_WORDS])}\n"

    solved = [
        f"{shown(text)}Kind: {domains[corpus]}\n\n"
        for corpus, text in zip(examples["corpus"], examples["text"], strict=True)
        if corpus in domains
    ]
    rows = []
    for row, (corpus, text) in enumerate(
        zip(documents["corpus"], documents["text"], strict=True)
    ):
        names, first = (rng.permutation(x).tolist() for x in (labels, solved))
        head = f"Kinds of text: {', '.join(names)}.\n\n"
        if corpus in domains:
            prompt = f"{head}{''.join(first)}{shown(text)}Kind:"
            rows.append((row, domains[corpus], prompt))
    return pd.DataFrame(rows, columns=["document", "label", "prompt"])
