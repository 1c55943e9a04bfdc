"""How well a language model still does, intact and with neurons changed."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from anbn.core.generators import rng_of
from anbn.masking import intervene
from anbn.models import forward, loading, neurons
from anbn.text import tokenization


class EvaluationError(ValueError):
    """A model or text cannot be evaluated as asked."""


class Trial(NamedTuple):
    """Neurons that are changed, and how."""

    group: str  # name of the mask
    kind: str  # of neuron
    mask: np.ndarray  # bool (n_layers, n_neurons)
    control: str = ""  # which control of the mask this is; "" for itself
    draw: int = 0
    action: str = "silence"  # see intervene.apply
    options: dict = {}  # of the action, as {"factor": 2.0}
    n: int | None = None  # neurons of the mask this is a control of; None: its own
    seed: int = 0  # for resampling


def trials(
    group,
    kind,
    mask,
    drawn=None,
    *,
    action="silence",
    to=None,
    factor=None,
    plus=0.0,
    seed=0,
):
    """A mask and the draws of its controls as trials.

    Parameters
    ----------
    group, kind : str
    mask : bool array of shape (n_layers, n_neurons)
    drawn : dict of str to list of masks, optional
        From ``controls.draw``.
    action : {"silence", "keep", "amplify"}
    to : array, optional
        To silence and keep: what stands where neurons are silenced, zero by default;
        see ``intervene.silence``.
    factor, plus : float
        To amplify.
    seed : int
        For resampling, with the names of group, control and draw.
    """
    options = {"to": to} if factor is None else {"factor": factor, "plus": plus}
    masks = [("", 0, mask)]
    masks += [(c, i, m) for c, ms in (drawn or {}).items() for i, m in enumerate(ms)]
    n = int(np.sum(mask))
    return [Trial(group, kind, m, c, i, action, options, n, seed) for c, i, m in masks]


def trials_of_masks(masks, drawn, instead, *, seed):
    """Trials that silence every mask, and every draw of its controls.

    Parameters
    ----------
    masks : list of selection.Mask
    drawn : dict of str to dict
        From ``controls.of_masks``, by group.
    instead : dict of str to array or None
        What stands where neurons of a kind are silenced, ``calibration.stand_ins``.
    seed : int
        See ``trials``.
    """
    return [
        trial
        for group, kind, mask, _ in masks
        for trial in trials(
            group, kind, mask, drawn[group], to=instead[kind], seed=seed
        )
    ]


def options_of(trial, language_model):
    """Options of a trial's action.

    What is not set to zero is left as it is at special tokens, which no calibration
    text holds (``spared`` of ``intervene.intervene``), unless the trial says otherwise.
    What is resampled hangs on the trial's seed and its names.
    """
    if trial.options.get("to") is None:
        return trial.options
    step = f"stand-ins of {trial.group}, {trial.control}, {trial.draw}, {trial.action}"
    return {
        "spared": tokenization.special_ids(language_model.tokenizer),
        "rng": rng_of(trial.seed, step),
        **trial.options,
    }


def load_causal(spec, *, device, dtype):
    """A model that predicts next words, which is how damage is measured.

    Parameters
    ----------
    spec, device, dtype
        See ``loading.load_model``.

    Returns
    -------
    language_model : LanguageModel
        With a causal head.

    Raises
    ------
    EvaluationError
        Without one, or if the model cannot be loaded.
    """
    try:
        return loading.load_model(spec, head="causal", device=device, dtype=dtype)
    except loading.ModelError as error:
        raise EvaluationError(
            f"{error} (What neurons do for a model is measured by its predictions of "
            "next words, in stages 04 to 04d: the `model` of stage 01 must have a "
            "causal head, as GPT-2, Llama or SmolLM2 have. For other models leave the "
            "params files of these stages out.)"
        ) from error


def check_causal(language_model, what):
    """Raise EvaluationError unless a model can predict next tokens."""
    if language_model.head != "causal":
        raise EvaluationError(
            f"{what} needs a causal language model; this one was loaded with "
            f"head={language_model.head!r}"
        )


def by_document(language_model, tokens, *, batch_size=8):
    """Loss and accuracy of predicting the next token, for each document.

    Parameters
    ----------
    language_model : LanguageModel
        With a causal head.
    tokens : DataFrame
        From ``holdout.held_out_documents``. Each document is read in one window, as far
        as the model's longest; its first token is not predicted.
    batch_size : int
        Documents at a time.

    Returns
    -------
    outcome : DataFrame
        A row a document: ``document``, ``n_tokens`` (that are predicted), ``nll`` (mean
        surprisal, nats a token), ``accuracy`` (share whose likeliest token came).

    Raises
    ------
    EvaluationError
        If the model has no causal head.
    """
    check_causal(language_model, "perplexity")
    longest = int(tokens.groupby("document").size().max())
    surprisal = np.full(len(tokens), np.nan)
    hits = np.full(len(tokens), np.nan)
    for recorded in forward.forward_windows(
        language_model,
        tokens,
        window=longest,
        stride=longest,
        batch_size=batch_size,
        surprisal=True,
        hits=True,
    ):
        surprisal[recorded.rows] = recorded.surprisal.numpy()
        hits[recorded.rows] = recorded.hits.numpy()
    scored = tokens[["document"]].assign(nll=surprisal, accuracy=hits)
    outcome = scored.groupby("document").agg(
        n_tokens=("nll", "count"), nll=("nll", "mean"), accuracy=("accuracy", "mean")
    )
    return outcome.reset_index()


def measure(
    language_model, tokens, documents, trials, *, batch_size=8, share=True, **where
):
    """Outcome of every trial on every document, beside that of the intact model.

    Text is tokenised once, and a trial's pass begins at the first block that it
    changes, with what the intact model brought there.

    Parameters
    ----------
    language_model : LanguageModel
    tokens, documents : DataFrame
        From ``holdout.held_out_documents``.
    trials : list of Trial
    batch_size : int
        Documents at a time; what the intact model brought to the blocks is held for so
        many.
    share : bool
        Whether to begin at the first block that is changed.
    **where
        ``layers``, ``modules`` of ``intervene.intervene``.

    Returns
    -------
    table : DataFrame
        A row a trial and document: ``group``, ``control``, ``draw``, ``kind``,
        ``action``, ``n`` (neurons of the mask, in rows of its controls too),
        ``n_changed`` (neurons of this very trial), ``domain``, ``document``,
        ``n_tokens``, ``nll``, ``accuracy``. The intact model's rows are the group
        ``intact``.

    Raises
    ------
    ValueError
        If a mask does not fit the model.
    EvaluationError
        If the model predicts nothing finite under a mask.
    """
    model = language_model.model
    shapes = {
        kind: neurons.count_neurons(model, kind, **where)
        for kind in {trial.kind for trial in trials}
    }
    begins = [intervene.first_layer(t.mask, t.action) for t in trials]
    if layers := where.get("layers"):  # a mask's rows are only some layers
        begins = [[*layers, len(layers)][row] for row in begins]
    numbers = tokens["document"].unique()
    batches = [
        tokens[tokens["document"].isin(numbers[i : i + batch_size])]
        for i in range(0, len(numbers), batch_size)
    ]
    found = []
    bar = tqdm(total=len(batches) * len(trials), desc="trials", mininterval=5)
    for batch in batches:
        with forward.remember(model, begins if share else ()) as kept:
            intact = by_document(language_model, batch, batch_size=batch_size)
        found.append(intact.assign(trial=-1))
        for i, (trial, begin) in enumerate(zip(trials, begins, strict=True)):
            own = options_of(trial, language_model)
            options = {"shape": shapes[trial.kind], **own, **where}
            with (
                intervene.apply(model, trial.mask, trial.kind, trial.action, **options),
                forward.resume(model, kept, begin),
            ):
                outcome = by_document(language_model, batch, batch_size=batch_size)
            found.append(outcome.assign(trial=i))
            bar.update()
    bar.close()
    about = pd.DataFrame([Trial("intact", "", np.zeros(0, bool)), *trials])
    about["trial"] = range(-1, len(trials))
    about["n_changed"] = [int(mask.sum()) for mask in about["mask"]]
    about["n"] = about["n"].fillna(about["n_changed"]).astype(int)
    about["factor"] = [options.get("factor", np.nan) for options in about["options"]]
    table = pd.concat(found).merge(about, on="trial").sort_values(["trial", "document"])
    bad = table[~np.isfinite(table["nll"])]
    if len(bad):
        first = bad.iloc[0]
        raise EvaluationError(
            f"the model predicts nothing finite in {len(bad)} cases, first under mask "
            f"{first['group']!r} in document {first['document']}: what was done to its "
            "neurons overflows its dtype. Change them less, or load it as float32"
        )
    table["domain"] = documents["corpus"].to_numpy()[table["document"]]
    names = "group control draw kind action n n_changed factor domain document "
    names += "n_tokens nll accuracy"
    return table[names.split()].reset_index(drop=True)
