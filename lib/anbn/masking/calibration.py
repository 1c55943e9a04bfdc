"""What every neuron does on average, over text that is not evaluated on."""

from typing import NamedTuple

import numpy as np
import torch

from anbn.models import forward, neurons
from anbn.models.structure import input_device
from anbn.text import tokenization

N_BESIDE = 64  # tokens of text that special tokens are read with
N_SAMPLES = 64  # random tokens whose activations are kept, for resampling


class Calibration(NamedTuple):
    """Statistics of one kind of neuron over calibration text."""

    mean: np.ndarray  # (n_layers, n_neurons)
    mean_abs: np.ndarray  # (n_layers, n_neurons), of |activation|
    mean_square: np.ndarray  # (n_layers, n_neurons)
    variance: np.ndarray  # (n_layers, n_neurons)
    peak: np.ndarray  # (n_layers, n_neurons), largest |activation|
    typical: np.ndarray  # (n_layers,), median |activation| over the samples
    samples: np.ndarray  # (n_samples, n_layers, n_neurons), at random tokens


def some_text(tokens, n_tokens):
    """Documents spread over a text, about ``n_tokens`` tokens in all.

    Parameters
    ----------
    tokens : DataFrame
        With ``document``, as ``stores.read_tokens`` of stage 01's corpora.
    n_tokens : int

    Returns
    -------
    tokens : DataFrame
        Every so many of the documents, whole.
    """
    every = max(1, len(tokens) // n_tokens)
    return tokens[tokens["document"] % every == 0].reset_index(drop=True)


def calibrate(language_model, tokens, kinds, *, window, stride, rng, **where):
    """Statistics of neurons over text, in one pass and bounded memory.

    Parameters
    ----------
    language_model : LanguageModel
    tokens : DataFrame
        Calibration text, see ``tokenization.tokenize_corpora``.
    kinds : list of str
    window, stride : int
        See ``forward.forward_windows``.
    rng : numpy Generator
        Chooses the samples.
    **where
        ``layers``, ``modules`` of ``neurons.capture``.

    Returns
    -------
    calibrations : dict of str to Calibration

    Raises
    ------
    ValueError
        If activations are not finite.
    """
    n = len(tokens)
    at = np.sort(rng.choice(n, min(N_SAMPLES, n), replace=False))
    options = {"window": window, "stride": stride, "kinds": kinds, **where}
    sums, samples = {}, {kind: [] for kind in kinds}
    for recorded in forward.forward_windows(language_model, tokens, **options):
        rows = recorded.rows
        inside = at[(at >= rows.start) & (at < rows.stop)] - rows.start
        for kind, activations in recorded.activations.items():
            values = activations.numpy()  # (n_layers, n, n_neurons)
            size = np.abs(values)
            found = values.sum(1, dtype=float), size.sum(1, dtype=float)
            found += (np.einsum("lnu,lnu->lu", values, values, dtype=float),)
            total, peak = sums.get(kind, (0.0, 0.0))
            sums[kind] = total + np.stack(found), np.maximum(peak, size.max(1))
            samples[kind].append(values[:, inside].swapaxes(0, 1).copy())
    calibrations = {}
    for kind in kinds:
        total, peak = sums[kind]
        if not np.isfinite(total).all():
            raise ValueError(
                f"{kind} activations hold NaN or infinity: load the model in float32 "
                "or bfloat16, or choose another kind"
            )
        mean, mean_abs, mean_square = total / n
        variance = np.maximum(mean_square - mean**2, 0)
        arrays = (mean, mean_abs, mean_square, variance, peak)
        every = np.concatenate(samples[kind])
        calibrations[kind] = Calibration(
            *(a.astype(np.float32) for a in arrays),
            np.median(np.abs(every), axis=(0, 2)).astype(np.float32),
            every,
        )
    return calibrations


def stand_ins(calibrations, silence_to):
    """What stands where neurons are silenced, for ``to`` of ``intervene.silence``.

    Parameters
    ----------
    calibrations : dict of str to Calibration
        By kind.
    silence_to : {"zero", "mean", "resample"}

    Returns
    -------
    instead : dict of str to array or None
    """
    return {
        kind: {"zero": None, "mean": c.mean, "resample": c.samples}[silence_to]
        for kind, c in calibrations.items()
    }


def at_special_tokens(language_model, tokens, kind, **where):
    """Activations at the special tokens that a tokenizer adds to a text.

    In a causal model those at tokens before the text are the same for every text.

    Parameters
    ----------
    language_model : LanguageModel
    tokens : DataFrame
        Calibration text; its beginning is read.
    kind : str
    **where
        ``layers``, ``modules`` of ``neurons.capture``.

    Returns
    -------
    activations : float32 array of shape (n_special, n_layers, n_neurons)
        Those before the text, then those after it; none for a tokenizer that adds none.
    """
    before, after = tokenization.special_tokens(language_model.tokenizer)
    model, n_special = language_model.model, len(before) + len(after)
    n = max(1, min(N_BESIDE, language_model.max_tokens - n_special))
    ids = [*before, *tokens["id"].to_numpy()[:n].tolist(), *after]
    at = [i for i in range(len(ids)) if not len(before) <= i < len(ids) - len(after)]
    found = {}

    def receive(_, i, activations):
        values = activations.reshape(len(ids), -1)[at]
        found[i] = values.float().cpu().numpy()

    with (
        torch.inference_mode(),
        neurons.capture(model, [kind], receive, **where) as n_layers,
    ):
        model.base_model(torch.tensor([ids], device=input_device(model)))
    return np.stack([found[i] for i in range(n_layers)], 1)
