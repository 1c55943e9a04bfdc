"""Fingerprint of a model: do two models' functional networks go up and down together?

Functional Network Fingerprint (Liu et al. 2026, arXiv 2601.22692): signals of networks
along text, word by word, are alike in a model and what was made from it. Descendants of
a model are made here with noise on the weights, or by a little training.
"""

import copy
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import sparse, stats
from sklearn.metrics import roc_auc_score, roc_curve

from anbn.core import artifacts
from anbn.core.generators import rng_of
from anbn.models import loading
from anbn.models.forward import forward_windows
from anbn.models.structure import input_device
from anbn.networks import decomposition, massive, svd
from anbn.stats import matching, timeseries
from anbn.text import stories
from anbn.text.tokenization import special_tokens, tokenize

KIND, WINDOW = "hidden", 512  # neurons, as published, and tokens they are read with
LEAST_WORDS = 20  # a correlation over fewer says nothing
DEAD = 1e-4  # of the median unit's s.d.: below it nothing is going on
SCORES = ("best", "matched", "pair")
COLUMNS = ("model", "related", "text", "score", "likeness", "null", "null_95", "p")


class FingerprintError(ValueError):
    """Fingerprints cannot be taken or compared, or a descendant made, as asked."""


class NoNetworksError(FingerprintError):
    """A model has no functional network: there is nothing to take a fingerprint of."""


def excerpts(paths, n_texts, n_words):
    """The beginnings of the first documents of corpora that are long enough.

    Parameters
    ----------
    paths : list of path-like
        Plain-text corpora, see ``stories.read_corpus``.
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
        parts = [stories.split_words(text) for text in stories.read_corpus(path)]
        long = [words["word"][:n_words] for words in parts if len(words) >= n_words]
        if len(long) < n_texts:
            raise FingerprintError(
                f"{path} has {len(long)} documents of {n_words} words or more "
                f"(text_words), expected {n_texts} (fitting_texts + fingerprint_texts)."
                " Lower one of these three, or name other evaluation_corpora."
            )
        texts += [" ".join(words) for words in long[:n_texts]]
    return texts


def two_sets(paths, *, n_fitting, n_compared, n_words):
    """Texts to find networks in, and others to compare models on.

    Parameters
    ----------
    paths : list of path-like
    n_fitting, n_compared : int
        Of each corpus.
    n_words : int
        Of each text.

    Returns
    -------
    fitting, compared : list of str
        See ``excerpts``.
    """
    each = n_fitting + n_compared
    texts = excerpts(paths, each, n_words)
    fitting = [text for i, text in enumerate(texts) if i % each < n_fitting]
    return fitting, [text for i, text in enumerate(texts) if i % each >= n_fitting]


def fit_activations(activations, n_networks, *, z_threshold=3.6, device="cpu"):
    """Networks of recorded activations: how each weighs units for its signal.

    Every unit is standardised over tokens, so that no massive one drowns the
    decomposition; a unit is a member where ``|z| > z_threshold``; and a network's
    signal is the plain mean of its members, as they are::

        signal = mean over members of x

    A massive unit that is a member is most of the signal. All as published, but that
    the networks' time courses are independent, not their maps: so a model with a little
    noise on its weights stays more like itself.

    Parameters
    ----------
    activations : array or DataArray of shape (n_tokens, n_layers, n_neurons)
        A store may be larger than memory.
    n_networks : int
        Published: 64.
    z_threshold : float
        Published: 3.6.
    device : str or torch device
        Of the singular value decomposition.

    Returns
    -------
    weights : float32 csr_array of shape (n_networks, n_layers * n_neurons)
        1 / members. Without networks that have no members: of random weights there are
        few others.

    Raises
    ------
    NoNetworksError
        No network has members.
    """
    peaks = massive.streaming_peaks(activations)
    # standardised, a dead unit (1e-32 in some models) would be as loud as any
    keep = (peaks.variance > DEAD**2 * np.median(peaks.variance)).ravel()
    reduction = svd.reduce(
        activations, n_networks, keep=keep, standardise=True, device=device
    )
    # signs from all units: the same whatever the order of a model's units
    turn = np.where((reduction.vt**3).sum(1) < 0, -1, 1)
    reduction = replace(
        reduction, u=reduction.u * turn, vt=reduction.vt * turn[:, None]
    )
    z = decomposition.ica(reduction, random_state=0).networks
    members = decomposition.threshold(z, z_threshold, two_sided=True) & keep
    members = members[members.any(1)]
    if not len(members):
        raise NoNetworksError(
            f"no unit has |z| > {z_threshold} in any of {n_networks} networks: fewer "
            "networks of more text may hold some, or a lower z_threshold"
        )
    weights = members / members.sum(1, keepdims=True)
    return sparse.csr_array(weights.astype(np.float32))


def _record(language_model, texts):
    """Tokens of texts, of each its word, and an iterator over their activations."""
    parts, n_words = [], 0
    for i, text in enumerate(texts):
        words = stories.split_words(text)
        tokens = tokenize(language_model.tokenizer, text, words)
        known = tokens["word"] >= 0
        tokens["word"] = np.where(known, tokens["word"] + n_words, -1)
        parts.append(tokens.assign(document=i))
        n_words += len(words)
    tokens = pd.concat(parts, ignore_index=True)
    options = {"window": WINDOW, "stride": WINDOW // 2, "kinds": [KIND]}
    passes = forward_windows(language_model, tokens, **options)
    rows = ((r.rows, r.activations[KIND].transpose(0, 1).numpy()) for r in passes)
    return tokens, n_words, rows


def signals(language_model, texts, weights):
    """Signals of networks on a clock that all tokenizers share: words.

    Parameters
    ----------
    language_model : LanguageModel
    texts : list of str
    weights : csr_array
        The model's networks, from ``fit_activations``.

    Returns
    -------
    signals : list of float64 arrays of shape (n_words, n_networks)
        For each text the mean signal over every word's tokens; NaN where a word has
        none.
    """
    tokens, n_words, passes = _record(language_model, texts)
    values = np.empty((len(tokens), weights.shape[0]))
    for rows, block in passes:
        values[rows] = (weights @ block.reshape(len(block), -1).T).T
    word = tokens["word"].to_numpy()
    inside = word >= 0
    count = np.bincount(word[inside], minlength=n_words)
    total = np.stack(
        [np.bincount(word[inside], v[inside], n_words) for v in values.T], 1
    )
    mean = np.where(count > 0, 1.0, np.nan)[:, None] * total
    mean /= np.maximum(count, 1)[:, None]
    lengths = [len(stories.split_words(text)) for text in texts]
    return np.split(mean, np.cumsum(lengths)[:-1])


def fingerprint(language_model, fitting, texts, n_networks, **options):
    """Signals, in some texts, of the networks found in other texts.

    Activations of the texts that are fitted on are held in memory: 4 bytes times
    tokens, layers and neurons.

    Parameters
    ----------
    language_model : LanguageModel
    fitting, texts : list of str
        No sentence may stand in both.
    n_networks : int
    **options
        ``z_threshold`` of ``fit_activations``.

    Returns
    -------
    signals : list of arrays of shape (n_words, n_networks), one for each text

    Raises
    ------
    FingerprintError
        Texts overlap, or no network has members.
    """
    for i, text in enumerate(texts):
        shared = stories.shared_sentences(text, fitting)
        if shared:
            raise FingerprintError(
                f"text {i} shares a sentence with the fitting texts: {shared[0]!r}. "
                "Networks are compared in text that they were not fitted on"
            )
    tokens, _, passes = _record(language_model, fitting)
    activations = None
    for rows, values in passes:
        if activations is None:
            activations = np.empty((len(tokens), *values.shape[1:]), np.float32)
        activations[rows] = values
    device = input_device(language_model.model)
    weights = fit_activations(activations, n_networks, device=device, **options)
    return signals(language_model, texts, weights)


def of_models(models, fitting, texts, n_networks):
    """Fingerprints of several models; which has no networks is a result.

    Parameters
    ----------
    models : dict of str to LanguageModel
    fitting, texts, n_networks
        See ``fingerprint``.

    Returns
    -------
    fingerprints : dict of str to list of arrays
    left_out : dict of str to str
        By name, why.
    """
    fingerprints, left_out = {}, {}
    for name, language_model in models.items():
        try:
            fingerprints[name] = fingerprint(language_model, fitting, texts, n_networks)
        except NoNetworksError as error:
            left_out[name] = str(error)
    return fingerprints, left_out


def of_strangers(specs, fitting, texts, n_networks, *, taken=(), device="auto"):
    """Fingerprints of models that are loaded one after another.

    Parameters
    ----------
    specs : dict of str to (str, int or None)
        From ``loading.comparisons``.
    fitting, texts, n_networks
        See ``fingerprint``.
    taken : collection of str
        Names of other models: a stranger of the same name is called "unrelated ...".
    device : str

    Returns
    -------
    fingerprints, left_out : dict
        See ``of_models``; by names that can be told from each other.
    """
    fingerprints, left_out = {}, {}
    for label, (spec, random_weights) in specs.items():
        stranger = loading.load_model(
            spec, device=device, random_weights=random_weights
        )
        name = artifacts.slug(label).replace("_", " ")
        name = f"unrelated {name}" if name in taken else name
        one, none = of_models({name: stranger}, fitting, texts, n_networks)
        fingerprints, left_out = fingerprints | one, left_out | none
    return fingerprints, left_out


def _ranks(a, b):
    known = np.isfinite(a).all(1) & np.isfinite(b).all(1)
    if known.sum() < LEAST_WORDS:
        raise FingerprintError(
            f"expected {LEAST_WORDS} words or more that both models have signals for, "
            f"found {known.sum()}"
        )
    return tuple(timeseries.zscore(stats.rankdata(x[known], axis=0)) for x in (a, b))


def _correlate(a, b):
    return a.T @ b / len(a)


def compare_models(fingerprints, reference, related, *, n_draws=99, rng):
    """How alike other models are to one, text by text, beside chance.

    Three scores of the likenesses L (networks of the reference x of the other), the
    |Spearman correlations| of signals over words that both models have signals for. A
    unit's sign means nothing across models: without it, negative is as alike as
    positive (published are signed correlations)::

        best     mean over the reference's networks of the largest L in each row
        matched  sum of L over the one-to-one assignment that makes it largest,
                 divided by the number of the reference's networks
        pair     correlation of the one pair that is most alike over the *other* texts

    Published is the pair most alike over the same texts that it is reported for, which
    chance makes alike among 64 x 64 pairs. The null moves one model's words along the
    text in a circle, which keeps every signal's spectrum.

    Parameters
    ----------
    fingerprints : dict of str to list of arrays of shape (n_words, n_networks)
        Of each model, from ``of_models``, for two texts or more, the same for all.
    reference : str
        The model that others may descend from.
    related : collection of str
        Models known to descend from it.
    n_draws : int
        Shifts at random for each text and model.
    rng : numpy Generator
        One number is drawn. It, a model's name and a text's number decide the shifts.

    Returns
    -------
    table : DataFrame, a row a model, text and score
        ``model``, ``related`` (bool), ``text`` (number), ``score``, ``likeness``,
        ``null`` (mean over shifts), ``null_95`` (their 95th percentile) and ``p``. No
        row without a fingerprint of the reference, or of another model.
    """
    seed = int(rng.integers(2**63))
    tables = [
        _against(fingerprints[reference], texts, n_draws, seed, name)
        for name, texts in fingerprints.items()
        if name != reference and reference in fingerprints
    ]
    if not tables:
        return pd.DataFrame(columns=COLUMNS)
    table = pd.concat(tables, ignore_index=True)
    table["related"] = table["model"].isin(list(related))
    return table[list(COLUMNS)]


def _against(ours, theirs, n_draws, seed, name):
    """Rows of ``compare_models`` for one other model."""
    ranks = [_ranks(a, b) for a, b in zip(ours, theirs, strict=True)]
    signed = np.stack([_correlate(a, b) for a, b in ranks])
    rows = []
    for i, (a, b) in enumerate(ranks):
        elsewhere = np.delete(signed, i, 0).mean(0)
        pair = np.unravel_index(np.abs(elsewhere).argmax(), elsewhere.shape)
        sign = np.sign(elsewhere[pair])
        found = _scores(signed[i], pair, sign)
        by = rng_of(seed, f"{name}, text {i}").integers(1, len(a), n_draws)
        null = [_scores(_correlate(a, np.roll(b, n, 0)), pair, sign) for n in by]
        null = np.reshape(null, (n_draws, len(SCORES)))
        rows.append(
            {
                "text": i,
                "score": SCORES,
                "likeness": found,
                "null": null.mean(0),
                "null_95": np.percentile(null, 95, axis=0),
                "p": matching.p_values(found, null),
            }
        )
    tables = [pd.DataFrame(row) for row in rows]
    return pd.concat(tables, ignore_index=True).assign(model=name)


def _scores(signed, pair, sign):
    """Values of ``SCORES``, from correlations (n_networks, n_others)."""
    alike = np.abs(signed)
    columns = matching.match(alike)
    rows = np.flatnonzero(columns >= 0)
    matched = alike[rows, columns[rows]].sum() / len(alike)  # none without a partner
    return [alike.max(1).mean(), matched, sign * signed[pair]]


class Roc(NamedTuple):
    """How well a likeness tells related models from unrelated ones."""

    false_positive: np.ndarray  # rates at each threshold
    true_positive: np.ndarray
    auc: float
    low: float  # 95 % interval over texts
    high: float


def roc(table, score="best", *, n_bootstrap=1000, rng):
    """Receiver operating characteristic over texts and models.

    Parameters
    ----------
    table : DataFrame
        From ``compare_models``, with related and unrelated models.
    score : {"best", "matched", "pair"}
    n_bootstrap : int
        Texts are drawn with replacement, each with all its models. The interval is for
        other texts and the same models: with a few models it says nothing of others.
    rng : numpy Generator

    Returns
    -------
    curve : Roc
    """
    rows = table[table["score"] == score]
    truth, values = rows["related"].to_numpy(), rows["likeness"].to_numpy()
    text = pd.factorize(rows["text"])[0]
    share = np.full(text.max() + 1, 1 / (text.max() + 1))
    weights = rng.multinomial(len(share), share, n_bootstrap)[:, text]
    yes, no = weights[:, truth], weights[:, ~truth]
    # the area is the share of pairs in the right order
    above = np.sign(values[truth][:, None] - values[~truth]) / 2 + 0.5
    aucs = np.sum(yes @ above * no, 1) / (yes.sum(1) * no.sum(1))
    false, true, _ = roc_curve(truth, values)
    low, high = np.percentile(aucs, [2.5, 97.5]).tolist()
    return Roc(false, true, float(roc_auc_score(truth, values)), low, high)


def noised(language_model, scale, rng):
    """A copy of a model with normal noise on every weight matrix.

    ::

        weight + scale * s.d. of the matrix * noise

    Vectors (norms, biases) stay; matrices that are tied stay tied.

    Parameters
    ----------
    language_model : LanguageModel
        Left as it is.
    scale : float
    rng : numpy Generator

    Returns
    -------
    descendant : LanguageModel
    """
    model = copy.deepcopy(language_model.model)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                noise = torch.randn(weight.shape, generator=generator)
                factor = scale * float(weight.float().std())
                weight.add_(noise.to(weight), alpha=factor)
    return replace(language_model, model=model)


def fine_tuned(
    language_model, tokens, *, n_steps, learning_rate, window, batch_size, seed
):
    """A copy of a causal model after some steps of AdamW on text.

    All weights are trained, with PyTorch's default AdamW and a constant rate. Needs
    memory for four times the model.

    Parameters
    ----------
    language_model : LanguageModel
        With a causal head. Left as it is.
    tokens : DataFrame
        From ``tokenization.tokenize``, with ``document``. Documents are cut into
        windows, and what is left over at the end of one is dropped.
    n_steps : int
    learning_rate : float
    window : int
        Tokens; the model's special tokens before a text are added.
    batch_size : int
        Windows a step, drawn without replacement until all have been used.
    seed : int
        Of the windows' order, and of dropout where the model has it.

    Returns
    -------
    descendant : LanguageModel
        In evaluation mode, without gradients.
    losses : array of shape (n_steps,)
        Mean loss (nats a token) of each step's windows before the step.

    Raises
    ------
    FingerprintError
        Too little text, or a loss that is not finite.
    """
    before, _ = special_tokens(language_model.tokenizer)
    given = [
        [*before, *ids.to_numpy()[i : i + window]]
        for _, ids in tokens["id"].groupby(tokens["document"])
        for i in range(0, len(ids) - window + 1, window)
    ]
    given = torch.tensor(np.array(given, int))
    n_batches = len(given) // batch_size
    if not n_batches:
        raise FingerprintError(
            f"the text has {len(given)} windows of {window} tokens, expected "
            f"{batch_size} or more: give more text (tune_tokens)"
        )
    model = copy.deepcopy(language_model.model)
    rng, losses = np.random.default_rng(seed), []
    with torch.inference_mode(False), torch.random.fork_rng():
        torch.manual_seed(seed)
        model.train().requires_grad_(True)
        optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
        for step in range(n_steps):
            if step % n_batches == 0:  # all windows before any comes again
                order = rng.permutation(len(given))[: n_batches * batch_size]
                batches = order.reshape(n_batches, batch_size)
            ids = given[batches[step % n_batches]].to(input_device(model))
            loss = model(input_ids=ids, labels=ids).loss
            losses.append(float(loss.detach()))
            if not np.isfinite(losses[-1]):
                raise FingerprintError(
                    f"the loss of step {len(losses)} is {losses[-1]}: lower the "
                    f"learning rate (tune_rate, {learning_rate}), or load the model in "
                    "float32"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)  # gradients take as much as the weights
    model.eval().requires_grad_(False)
    return replace(language_model, model=model), np.array(losses)
