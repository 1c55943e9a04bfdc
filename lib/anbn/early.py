"""Parameters that do not go together, told before anything long runs."""

import re
from collections import Counter

import numpy as np

from anbn import folds, signals, stimuli, surrogates, tasks
from anbn.cleaning import MIN_VOLUMES
from anbn.evaluation import EvaluationError
from anbn.params import ParamError


def check_windows(*, window, stride):
    """Whether windows leave no gap.

    Raises
    ------
    ParamError
        If ``stride`` is larger than ``window``.
    """
    if stride > window:
        raise ParamError(
            f"stride: {stride} new tokens a window are more than its {window} tokens "
            "(window). Set stride to at most window."
        )


def check_story(n_times, *, tr):
    """Whether the story is long enough for BOLD.

    Raises
    ------
    ParamError
        Fewer volumes than a run must have.
    """
    if n_times < MIN_VOLUMES:
        raise ParamError(
            f"the story of stage 01 has {n_times} volumes of {tr:g} s, BOLD needs "
            f"{MIN_VOLUMES} or more. Raise n_words or n_volumes there."
        )


def check_model_networks(corpus, *, n_networks, sample_tokens, scan=()):
    """Whether texts are long enough for the model's networks.

    Parameters
    ----------
    corpus : sequence
        Of each token.
    n_networks, sample_tokens : int
    scan : sequence of int
        As the parameters of stage 02.

    Raises
    ------
    ParamError
        If a single text, or all text for ``scan``, has too few tokens.
    """
    n_tokens = Counter(corpus).values()
    least = min(sample_tokens, *n_tokens)
    if n_networks >= least:
        raise ParamError(
            f"n_model_networks: {n_networks} networks cannot be found in a single text "
            f"of {least} tokens (sample_tokens is {sample_tokens}, the smallest corpus "
            f"has {min(n_tokens)}). Lower n_model_networks, or raise sample_tokens and "
            "corpus_tokens of stage 01."
        )
    if scan and max(scan) >= sum(n_tokens):
        raise ParamError(
            f"scan: {max(scan)} networks cannot be found in {sum(n_tokens)} tokens. "
            "Leave it out, or raise corpus_tokens of stage 01."
        )


def check_brain_networks(brain, *, method, n_networks):
    """Whether there are enough voxels or regions for so many networks.

    Parameters
    ----------
    brain : bold.Brain
    method : str
    n_networks : int

    Raises
    ------
    ParamError
        Names ``n_brain_networks``, and the largest number that will do.
    """
    most = min(brain.runs[0].shape[1], sum(map(len, brain.runs))) - 1
    if method not in ("regions", "vsdbn") and n_networks > most:
        raise ParamError(
            f"n_brain_networks: {n_networks} networks cannot be found in "
            f"{brain.runs[0].shape[1]} voxels or regions. Set it to at most {most}"
            + (", or brain_method: regions." if brain.mask is None else ".")
        )


def check_coupling(
    n_times,
    *,
    n_folds,
    gap,
    tr,
    delays,
    run_lengths=(),
    null_method="shift",
):
    """Whether the story is long enough for what stage 03 does with it.

    Parameters
    ----------
    n_times : int
        Volumes that are used: without those of `leave_out_start`.
    n_folds, gap, tr, delays, run_lengths, null_method
        Parameters of stage 03, and the clock.

    Raises
    ------
    ParamError
        Names the parameter and what would do.
    """
    shortest = min(run_lengths) if run_lengths else n_times
    if max(delays) >= shortest:
        raise ParamError(
            f"delays: {max(delays)} volumes are not in a run of {shortest}. Lower it."
        )
    volumes = folds.gap_volumes(gap, tr, delays)
    try:
        run = folds.run_of(n_times, run_lengths or None)
        for train, _ in folds.held_out(np.arange(n_times), run, n_folds, volumes):
            folds.held_out(train, run[train], n_folds, volumes)
    except ValueError as error:
        raise ParamError(
            f"n_folds {n_folds}, gap {gap:g} s: {error}. The story has {n_times} "
            f"volumes of {tr:g} s"
            + (f" in runs of {list(run_lengths)}" if run_lengths else "")
            + ": lower n_folds, gap or leave_out_start, or take a longer story."
        ) from error
    try:
        rng = np.random.default_rng(0)
        surrogates.draw(
            np.zeros((n_times, 1)),
            1,
            kind=null_method,
            run_lengths=run_lengths,
            rng=rng,
        )
    except ValueError as error:
        raise ParamError(f"null_method, run_lengths: {error}") from error


def check_ceiling(ceiling, *, min_ceiling):
    """Whether any voxel or region is to be scored.

    Parameters
    ----------
    ceiling : array of shape (n_voxels,)
    min_ceiling : float

    Raises
    ------
    ParamError
        Names ``min_ceiling`` and the highest ceiling there is.
    """
    if not (ceiling >= min_ceiling).any():
        raise ParamError(
            f"min_ceiling: no voxel or region has a noise ceiling of {min_ceiling:g}, "
            f"the highest is {ceiling.max():.2f}. Lower min_ceiling."
        )


def check_tasks(
    suites, documents, labels, *, task_tokens, n_choices, seed=0, before=""
):
    """Whether the documents are long enough for the tasks.

    Parameters
    ----------
    suites : dict of str to syntaxgym.Suite
    documents : DataFrame
        From ``holdout.held_out``, ``task_tokens`` of each.
    labels : dict of str to str
        The parameter ``domain_labels``.
    task_tokens, n_choices, seed : int
    before : str

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
        rng = np.random.default_rng(seed)
        tasks.prepare(
            suites, documents, labels, n_choices=n_choices, before=before, rng=rng
        )
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
        signals.excerpts(paths, n_texts, text_words)
    except (signals.SignalError, stimuli.StimulusError) as error:
        raise ParamError(
            f"fitting_texts {fitting_texts} + fingerprint_texts {fingerprint_texts} of "
            f"text_words {text_words}: {error}. Lower one of these three, or name "
            "other evaluation_corpora."
        ) from error


def check_components(n_components, n_tokens, *, name):
    """Whether some text has as many tokens as components are asked of it.

    Parameters
    ----------
    n_components : sequence of int
    n_tokens : int
    name : str
        The parameter.

    Raises
    ------
    ParamError
        If it has not.
    """
    if len(n_components) and max(n_components) >= n_tokens:
        raise ParamError(
            f"{name}: {max(n_components)} components cannot be found in {n_tokens} "
            "tokens. Lower it, or raise corpus_tokens of stage 01."
        )
