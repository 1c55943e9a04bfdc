"""The language localizer: units that answer to sentences more than to non-words.

As the language network of each brain is found in fMRI (Fedorenko et al. 2010), so the
language units of a model (AlKhamissi et al. 2024, arXiv 2411.02280).
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats

from anbn.models import forward
from anbn.text import tokenization

STIMULI = "package:brainscore_language/data/fedorenko2010_localization"
FILES = [f"langloc_fmri_run{r}_stim_set{s}.csv" for r in (1, 2) for s in range(1, 6)]
WORDS = [f"stim{i}" for i in range(2, 14)]
CONDITIONS = {"S": "sentence", "N": "non-words"}


class LocalizerError(ValueError):
    """Stimuli or responses of the localizer are not what they must be."""


def load_sentences(folder):
    """Sentences and strings of non-words of the fMRI language localizer.

    Parameters
    ----------
    folder : path-like
        Holds ``langloc_fmri_run{1,2}_stim_set{1..5}.csv``, see ``STIMULI``.

    Returns
    -------
    stimuli : DataFrame of 480 rows
        ``sentence``: twelve words in lower case (as published), ``condition``:
        "sentence" or "non-words", ``run``, ``set``.

    Raises
    ------
    LocalizerError
        If a file is missing or a row is not twelve words and S or N; if a stimulus
        comes twice or the conditions differ in number.
    """
    tables = []
    for name in FILES:
        path = Path(folder) / name
        if not path.is_file():
            raise LocalizerError(f"{path} is missing: expected {len(FILES)} such files")
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
        missing = [c for c in [*WORDS, "stim14"] if c not in rows]
        if missing:
            raise LocalizerError(f"{path} has no columns {', '.join(missing)}")
        wrong = ~rows["stim14"].isin(CONDITIONS) | (rows[WORDS] == "").any(axis=1)
        if wrong.any():
            at = int(wrong.argmax())
            raise LocalizerError(
                f"{path}, line {at + 2}: expected twelve words and S or N, found "
                f"{', '.join(rows.iloc[at])}"
            )
        sentence = rows[WORDS].agg(" ".join, axis=1).str.lower()
        columns = {"condition": rows["stim14"].map(CONDITIONS), "run": int(name[16])}
        tables.append(pd.DataFrame({"sentence": sentence, **columns, "set": name[-5]}))
    stimuli = pd.concat(tables, ignore_index=True).astype({"set": int})
    twice = stimuli["sentence"].duplicated()
    if twice.any():
        raise LocalizerError(
            f"{folder}: {twice.sum()} stimuli come twice, first "
            f"{stimuli['sentence'][twice].iloc[0]!r}"
        )
    counts = stimuli["condition"].value_counts()
    if len(counts) < 2 or counts.nunique() > 1:
        raise LocalizerError(
            f"{folder}: expected as many sentences as strings of non-words, found "
            f"{counts.to_dict()}"
        )
    return stimuli


def sentence_activations(
    language_model,
    sentences,
    kind,
    *,
    pooling="last",
    max_tokens=12,
    batch_size=16,
    layers=None,
    modules=None,
):
    """Activations of a model's neurons to sentences, each read alone.

    Parameters
    ----------
    language_model : LanguageModel
    sentences : sequence of str, or DataFrame
        As from ``load_sentences``.
    kind : str
        Of neuron.
    pooling : {"last", "mean"}
        At the last token (as published), or the mean over tokens.
    max_tokens : int or None
        Sentences are cut there, special tokens not counted. 12 as in the published
        code: non-words make more tokens than words, and without the cut the last token
        tells their number. None for all.
    batch_size : int
        Sentences at a time.
    layers, modules
        Of ``neurons.capture``.

    Returns
    -------
    responses : float32 array of shape (n_sentences, n_layers, n_neurons)
    """
    if isinstance(sentences, pd.DataFrame):
        sentences = sentences["sentence"]
    if pooling not in ("last", "mean"):
        raise LocalizerError(f"pooling must be 'last' or 'mean', found {pooling!r}")
    tokens = []
    for document, text in enumerate(sentences):
        own = tokenization.tokenize(language_model.tokenizer, text).iloc[:max_tokens]
        if own.empty:
            raise LocalizerError(f"sentence {document} ({text!r}) has no tokens")
        tokens.append(own.assign(document=document))
    lengths = torch.tensor([len(own) for own in tokens])
    owner = torch.repeat_interleave(torch.arange(len(tokens)), lengths)
    share = torch.repeat_interleave(1 / lengths, lengths)
    if pooling == "last":
        share = torch.zeros(len(owner)).index_fill(0, lengths.cumsum(0) - 1, 1.0)
    longest, pooled = int(lengths.max()), None
    for recorded in forward.forward_windows(
        language_model,
        pd.concat(tokens, ignore_index=True),
        window=longest,
        stride=longest,
        batch_size=batch_size,
        kinds=[kind],
        layers=layers,
        modules=modules,
    ):
        values = recorded.activations[kind]
        if pooled is None:
            pooled = torch.zeros(len(tokens), len(values), values.shape[2])
        used = share[recorded.rows] > 0
        weighted = values[:, used] * share[recorded.rows][used, None]
        pooled.index_add_(0, owner[recorded.rows][used], weighted.transpose(0, 1))
    return pooled.numpy()


def localize(responses, is_sentence):
    """Welch's t of every neuron, sentences against non-words.

    ::

        t = (mean_S - mean_N) / sqrt(var_S / n_S + var_N / n_N)

    Of the activations as they are; one published code takes |activation|.

    Parameters
    ----------
    responses : array of shape (n_sentences, n_layers, n_neurons)
    is_sentence : bool array of shape (n_sentences,)

    Returns
    -------
    t : float32 array of shape (n_layers, n_neurons)
        0 for a neuron that never changes.
    """
    is_sentence = np.asarray(is_sentence)
    if is_sentence.dtype != bool or is_sentence.shape != responses.shape[:1]:
        raise LocalizerError(
            f"expected is_sentence, bool of shape {responses.shape[:1]}, found "
            f"{is_sentence.dtype} of shape {is_sentence.shape}"
        )
    n = np.bincount(is_sentence, minlength=2)
    if n.min() < 2:
        raise LocalizerError(
            f"expected two or more of each condition, found {n[1]} sentences and "
            f"{n[0]} strings of non-words"
        )
    t = np.empty(responses.shape[1:], np.float32)
    for layer in range(len(t)):  # float64 of one layer at a time
        values = np.asarray(responses[:, layer], np.float64)
        if not np.isfinite(values).all():
            raise LocalizerError(f"responses of layer {layer} hold NaN or infinity")
        moving = np.ptp(values, 0) > 0  # scipy warns of the others
        sides = values[is_sentence][:, moving], values[~is_sentence][:, moving]
        t[layer] = 0
        t[layer, moving] = stats.ttest_ind(*sides, equal_var=False).statistic
    return t
