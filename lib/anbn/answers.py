"""What a language model answers: greedy generation, and labels read from it.

Published maskings count an answer that names no label as wrong. An accuracy of 0 then
says that the format broke, not the knowledge: the parse rate is reported apart.
"""

import re

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm
from transformers import GenerationConfig

from anbn import columns
from anbn.architecture import input_device
from anbn.evaluation import EvaluationError, check_causal

GREEDY = {  # all said, for what is not comes from the checkpoint's own settings
    "do_sample": False,
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 50,
}


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
            f"{columns.some(prompts.columns)}"
        )
    unknown = sorted(set(prompts["label"]) - set(labels))
    if unknown:
        raise EvaluationError(
            f"prompts have the label {unknown[0]!r}, which is not among the labels "
            f"{labels}. {columns.did_you_mean(unknown[0], labels)}"
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
            f"{columns.some(documents['corpus'].unique())}"
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
