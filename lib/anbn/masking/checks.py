"""What notebooks 04 and 05 ask of parameters and data before they begin."""

import re

import numpy as np

from anbn.core.params import ParamError
from anbn.masking import fingerprint, tasks
from anbn.masking.evaluation import EvaluationError
from anbn.text import stories


def check_tasks(suites, documents, labels, *, task_tokens, n_choices):
    """Whether the documents are long enough for the tasks.

    Parameters
    ----------
    suites : dict of str to syntaxgym.Suite
    documents : DataFrame
        From ``holdout.held_out_documents``, ``task_tokens`` of each.
    labels : dict of str to str
        The parameter ``domain_labels``.
    task_tokens, n_choices : int

    Raises
    ------
    ParamError
        Names ``task_tokens`` and how many about would do, or ``domain_labels``.
    """
    needed = tasks.CONTEXT_WORDS + tasks.CHOICE_WORDS
    n_words = documents["text"].map(lambda text: len(re.findall(r"\S+", text)))
    for corpus, counts in n_words.groupby(documents["corpus"], sort=False):
        if (counts >= needed).sum() < n_choices:
            short = counts.sort_values(ascending=False).iloc[n_choices - 1]
            enough = int(np.ceil(1.2 * task_tokens * needed / max(short, 1) / 8) * 8)
            raise ParamError(
                f"task_tokens: {task_tokens} tokens of corpus {corpus!r} are documents "
                f"of {counts.min()} to {counts.max()} words; multiple choice needs "
                f"{n_choices} of {needed} words. Raise task_tokens, to some {enough}."
            )
    try:
        rng = np.random.default_rng(0)  # whichever: what is drawn is not kept
        tasks.prepare(suites, documents, labels, n_choices=n_choices, rng=rng)
    except EvaluationError as error:
        raise ParamError(
            f"domain_labels, task_documents or task_tokens do not fit: {error}"
        ) from error


def check_texts(paths, *, fitting_texts, fingerprint_texts, text_words):
    """Whether corpora hold the texts that fingerprints are taken of.

    Raises
    ------
    ParamError
        Names the parameters, and how many texts there are.
    """
    n_texts = fitting_texts + fingerprint_texts
    try:
        fingerprint.excerpts(paths, n_texts, text_words)
    except (fingerprint.SignalError, stories.StimulusError) as error:
        raise ParamError(
            f"fitting_texts {fitting_texts} + fingerprint_texts {fingerprint_texts} of "
            f"text_words {text_words}: {error}. Lower one of these three, or name "
            "other evaluation_corpora."
        ) from error
