"""The language localizer: units that answer to sentences more than to non-words.

As the language network of each brain is found in fMRI (Fedorenko et al. 2010), so the
language units of a model (AlKhamissi et al. 2024, arXiv 2411.02280).
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from anbn.models import forward
from anbn.text import tokenization

STIMULI = "package:brainscore_language/data/fedorenko2010_localization"
FILES = [f"langloc_fmri_run{r}_stim_set{s}.csv" for r in (1, 2) for s in range(1, 6)]
WORDS = [f"stim{i}" for i in range(2, 14)]
# as in the published code: non-words make more tokens than words, and without the cut
# the last token tells their number
MAX_TOKENS = 12
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


def sentence_activations(language_model, sentences, kind, *, batch_size=16, **where):
    """Activations of a model's neurons to sentences, each read alone.

    Parameters
    ----------
    language_model : LanguageModel
    sentences : sequence of str
        Cut after ``MAX_TOKENS`` tokens, special tokens not counted.
    kind : str
        Of neuron.
    batch_size : int
        Sentences at a time.
    **where
        ``layers``, ``modules`` of ``neurons.capture``.

    Returns
    -------
    responses : float32 array of shape (n_sentences, n_layers, n_neurons)
        At each sentence's last token (as published).
    """
    tokens = [
        tokenization.tokenize(language_model.tokenizer, text).iloc[:MAX_TOKENS]
        for text in sentences
    ]
    tokens = [own.assign(document=i) for i, own in enumerate(tokens)]
    tokens = pd.concat(tokens, ignore_index=True)
    longest = int(tokens.groupby("document").size().max())
    last = tokens.index[~tokens["document"].duplicated(keep="last")].to_numpy()
    options = {"window": longest, "stride": longest, "batch_size": batch_size}
    responses = []
    for recorded in forward.forward_windows(
        language_model, tokens, kinds=[kind], **options, **where
    ):
        rows = recorded.rows
        at = last[(last >= rows.start) & (last < rows.stop)] - rows.start
        values = recorded.activations[kind][:, at]
        responses.append(values.transpose(0, 1).numpy())
    return np.concatenate(responses)


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
    t = np.empty(responses.shape[1:], np.float32)
    for layer in range(len(t)):  # float64 of one layer at a time
        values = np.asarray(responses[:, layer], np.float64)
        moving = np.ptp(values, 0) > 0  # scipy warns of the others
        sides = values[is_sentence][:, moving], values[~is_sentence][:, moving]
        t[layer] = 0
        t[layer, moving] = stats.ttest_ind(*sides, equal_var=False).statistic
    return t
