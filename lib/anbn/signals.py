"""How a model's functional networks go up and down along text, word by word."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import sparse

from anbn import massive, networks, stimuli, svd
from anbn.forward import forward_windows
from anbn.neurons import input_device
from anbn.tokenization import tokenize

LEAST_WORDS = 20  # a correlation over fewer says nothing
DEAD = 1e-4  # of the median unit's s.d.: below it nothing is going on


class SignalError(ValueError):
    """Texts, networks or fingerprints cannot be compared as asked."""


class NoNetworksError(SignalError):
    """A model has no functional network: there is nothing to take a fingerprint of."""


@dataclass(frozen=True)
class Networks:
    """What is needed to follow a model's networks through other text."""

    weights: sparse.csr_array  # float32 (n_networks, n_units): 1 / members
    shape: tuple  # n_layers, n_neurons
    kind: str

    @property
    def members(self):
        """Bool array of shape (n_networks, n_layers, n_neurons)."""
        return (self.weights.toarray() != 0).reshape(-1, *self.shape)


def excerpts(paths, n_texts, n_words):
    """The beginnings of the first documents of corpora that are long enough.

    Parameters
    ----------
    paths : list of path-like
        Plain-text corpora, see ``stimuli.read_corpus``.
    n_texts : int
        Of each corpus.
    n_words : int
        Of each text.

    Returns
    -------
    texts : list of str
    """
    texts = []
    for path in paths:
        parts = [stimuli.split_words(text) for text in stimuli.read_corpus(path)]
        long = [words["word"][:n_words] for words in parts if len(words) >= n_words]
        if len(long) < n_texts:
            raise SignalError(
                f"{path} has {len(long)} documents of {n_words} words or more, "
                f"expected {n_texts}: lower n_words or n_texts"
            )
        texts += [" ".join(words) for words in long[:n_texts]]
    return texts


def fit_activations(
    activations,
    n_networks,
    *,
    kind="hidden",
    alpha=3.6,
    over="samples",
    leave_out_massive=False,
    random_state=0,
    device="cpu",
):
    """Networks of recorded activations, and their members.

    Every unit is standardised over tokens, so that no massive one drowns the
    decomposition; a unit is a member where ``|z| > alpha``; and a network's signal is
    the plain mean of its members, as they are::

        signal = mean over members of x

    All as published, but for ``over``: there the networks' maps are independent. With
    independent time courses a model with a little noise on its weights stays more like
    itself.

    Parameters
    ----------
    activations : array or DataArray of shape (n_tokens, n_layers, n_neurons)
        A store may be larger than memory.
    n_networks : int
        Published: 64.
    kind : str
        Which the activations are of. Published: ``hidden``.
    alpha : float
        Published: 3.6.
    over : {"samples", "units"}
        What is independent, see ``networks.ica``. Published: units.
    leave_out_massive : bool
        Whether ``massive.massive_neurons`` may not be members: in a mean of units as
        they are, one of them is most of the signal.
    random_state : int
    device : str or torch device
        Of the singular value decomposition.

    Returns
    -------
    fitted : Networks
        Without networks that have no members: of random weights there are few others.

    Raises
    ------
    NoNetworksError
        No network has members.
    """
    shape = tuple(activations.shape[1:])
    peaks = massive.streaming_peaks(activations)
    # standardised, a dead unit (1e-32 in some models) would be as loud as any
    keep = (peaks.variance > DEAD**2 * np.median(peaks.variance)).ravel()
    if leave_out_massive:
        few = massive.massive_neurons(peaks.peak, peaks.typical, peaks.variance)
        keep &= ~few.ravel()
    reduction = svd.reduce(
        activations, n_networks, keep=keep, standardise=True, device=device
    )
    # signs from all units: the same whatever the order of a model's units
    turn = np.where((reduction.vt**3).sum(1) < 0, -1, 1)
    reduction = replace(
        reduction, u=reduction.u * turn, vt=reduction.vt * turn[:, None]
    )
    z = networks.ica(reduction, over=over, random_state=random_state).networks
    members = networks.threshold(z, alpha, two_sided=True) & keep
    members = members[members.any(1)]
    if not len(members):
        raise NoNetworksError(
            f"no unit has |z| > {alpha} in any of {n_networks} networks: lower alpha "
            "(published: 3.6)"
        )
    weights = members / members.sum(1, keepdims=True)
    return Networks(sparse.csr_array(weights.astype(np.float32)), shape, kind)


def _record(language_model, texts, kind, window, batch_size):
    """Tokens of texts, of each its word, and an iterator over their activations."""
    parts, n_words = [], 0
    for i, text in enumerate(texts):
        words = stimuli.split_words(text)
        tokens = tokenize(language_model.tokenizer, text, words)
        known = tokens["word"] >= 0
        tokens["word"] = np.where(known, tokens["word"] + n_words, -1)
        parts.append(tokens.assign(document=i))
        n_words += len(words)
    tokens = pd.concat(parts, ignore_index=True)
    options = {"window": window, "stride": max(1, window // 2), "kinds": [kind]}
    options["batch_size"] = batch_size
    passes = forward_windows(language_model, tokens, **options)
    rows = ((r.rows, r.activations[kind].transpose(0, 1).numpy()) for r in passes)
    return tokens, n_words, rows


def fit(
    language_model,
    texts,
    n_networks,
    *,
    kind="hidden",
    window=512,
    batch_size=1,
    **options,
):
    """Networks of a model, from a little text.

    Parameters
    ----------
    language_model : LanguageModel
    texts : list of str
        Held in memory as activations of 4 bytes times tokens, layers and neurons; for
        more text or larger models record a store and call ``fit_activations``.
    n_networks : int
    kind : str
    window, batch_size : int
        Tokens, and windows at a time.
    **options
        ``alpha``, ``over``, ``leave_out_massive``, ``random_state`` of
        ``fit_activations``.

    Returns
    -------
    fitted : Networks
    """
    tokens, _, passes = _record(language_model, texts, kind, window, batch_size)
    activations = None
    for rows, values in passes:
        if activations is None:
            activations = np.empty((len(tokens), *values.shape[1:]), np.float32)
        activations[rows] = values
    options["device"] = input_device(language_model.model)
    return fit_activations(activations, n_networks, kind=kind, **options)


def signals(language_model, texts, fitted, *, window=512, batch_size=1):
    """Signals of networks on a clock that all tokenizers share: words.

    Parameters
    ----------
    language_model : LanguageModel
    texts : list of str
        Of 20 words or more each.
    fitted : Networks
        Of this model, or of one of its size.
    window, batch_size : int
        Tokens, and windows at a time.

    Returns
    -------
    signals : list of float64 arrays of shape (n_words, n_networks)
        For each text the mean signal over every word's tokens; NaN where a word has
        none.
    """
    lengths = [len(stimuli.split_words(text)) for text in texts]
    if not lengths or min(lengths) < LEAST_WORDS:
        raise SignalError(
            f"expected texts of {LEAST_WORDS} words or more, found {lengths} words"
        )
    options = (fitted.kind, window, batch_size)
    tokens, n_words, passes = _record(language_model, texts, *options)
    values = np.empty((len(tokens), fitted.weights.shape[0]))
    for rows, block in passes:
        if block.shape[1:] != fitted.shape:
            raise SignalError(
                f"the networks are of (layers, {fitted.kind} neurons) {fitted.shape}, "
                f"this model has {block.shape[1:]}: fit networks of this model"
            )
        values[rows] = (fitted.weights @ block.reshape(len(block), -1).T).T
    if not np.isfinite(values).all():
        raise SignalError("activations hold NaN or infinity: is the model damaged?")
    word = tokens["word"].to_numpy()
    inside = word >= 0
    count = np.bincount(word[inside], minlength=n_words)
    total = np.stack(
        [np.bincount(word[inside], v[inside], n_words) for v in values.T], 1
    )
    mean = np.where(count > 0, 1.0, np.nan)[:, None] * total
    mean /= np.maximum(count, 1)[:, None]
    return np.split(mean, np.cumsum(lengths)[:-1])


def fingerprint(language_model, fitting, texts, n_networks, **options):
    """Signals, in some texts, of the networks found in other texts.

    Parameters
    ----------
    language_model : LanguageModel
    fitting, texts : list of str
        No sentence may stand in both.
    n_networks : int
    **options
        Of ``fit``.

    Returns
    -------
    signals : list of arrays of shape (n_words, n_networks), one for each text

    Raises
    ------
    SignalError
        Texts overlap, are too short, or no network has members.
    """
    for i, text in enumerate(texts):
        shared = stimuli.shared_sentences(text, fitting)
        if shared:
            raise SignalError(
                f"text {i} shares a sentence with the fitting texts: {shared[0]!r}. "
                "Networks are compared in text that they were not fitted on"
            )
    fitted = fit(language_model, fitting, n_networks, **options)
    reading = {k: options[k] for k in ("window", "batch_size") if k in options}
    return signals(language_model, texts, fitted, **reading)
