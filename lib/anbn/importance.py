"""How much a feed-forward unit matters: scores (n_layers, n_neurons), larger to keep.

What calibration text gives (``mean_square``, ``variance``; see ``calibration``) is
passed in; the rest is read from the weights, by structure.
"""

import itertools
import warnings

import numpy as np
import torch
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning

from anbn import hemodynamics, neurons, svd, wiring
from anbn.architecture import (
    StructureError,
    find_layers,
    find_sites,
    input_device,
)


def output_norms(model, kind, *, ids=None):
    """How strongly a unit's activation acts on the residual stream.

    ::

        norm[l, j] = ||g[l] * W[:, j]||_2

    with W the linear layer that reads the units and g = 1 unless a norm follows it
    before the stream is added to (Gemma 2 and 3, OLMo 2). Such a norm divides by the
    length of all that the layer says at a token, |x[t]|: its gain on each unit of the
    stream is the slope of what it gives, y, on what it is given, x, every token
    counting the same::

        g[l, d] = sum_t y[t, d] x[t, d] / |x[t]|^2  /  sum_t x[t, d]^2 / |x[t]|^2

    Parameters
    ----------
    model : torch.nn.Module
    kind : str
        ``ffn_hidden``: W is the second feed-forward layer (of every expert, in a
        mixture of them); ``attn_out``: the output projection of attention. Units of
        ``ffn_out`` and ``hidden`` are in the stream already: norm 1. A constant by
        which all layers multiply what they add (Granite) is left out.
    ids : int array of shape (n_tokens,), optional
        Tokens of text over which the gain of norms is found; 256 random ones without
        it. Of no use to models without such norms.

    Returns
    -------
    norms : float32 array of shape (n_layers, n_neurons)

    Raises
    ------
    ValueError
        For ``qk``, which has no output weights.
    StructureError
        If the output projection is not found, or layers have different widths.
    """
    neurons.check_kinds([kind])
    if kind == "qk":
        raise ValueError(
            "qk has no output weights: a product sets how one token attends to "
            "another. Take attn_out, or ffn_hidden."
        )
    if kind in ("ffn_out", "hidden"):
        return np.ones(neurons.count_neurons(model, kind), np.float32)
    if kind == "attn_out":
        linears = wiring.output_projections(model)
        experts = [None] * len(linears)
    else:
        sites = find_sites(model, kind)
        experts = [module if place == "experts" else None for module, place in sites]
        linears = [module if place == "input" else module[0] for module, place in sites]
    gains = _gains(model, linears, ids)
    norms = [
        _norms(linear, gain=gain)
        if mixture is None
        else _expert_norms(mixture[1], gain)
        for linear, mixture, gain in zip(linears, experts, gains, strict=True)
    ]
    return _stack(model, norms)


def _gains(model, modules, ids):
    """Gain of the norm after each of some modules, (n_stream,); None where none is."""
    layers = find_layers(model)
    norms = [layer.after.get(m) for layer, m in zip(layers, modules, strict=True)]
    if not any(norms):
        return norms
    if ids is None:
        n_words = model.get_input_embeddings().num_embeddings
        ids = np.random.default_rng(0).integers(n_words, size=256)
    sums = {}

    def add(norm, args, output):
        x, y = args[0].double().flatten(0, -2), output.double().flatten(0, -2)
        length = x.norm(dim=1, keepdim=True).clamp_min(1e-30)
        x, y = x / length, y / length
        sums[norm] = (y * x).sum(0) / x.square().sum(0).clamp_min(1e-30)

    handles = [norm.register_forward_hook(add) for norm in norms if norm is not None]
    try:
        with torch.inference_mode():
            given = torch.as_tensor(np.asarray(ids)[None], device=input_device(model))
            model.base_model(input_ids=given)
    finally:
        for handle in handles:
            handle.remove()
    return [None if norm is None else sums[norm].float().cpu() for norm in norms]


def magnitude(model):
    """Length of all weights of a unit: its rows before, its column after::

        score[l, j] = sqrt(sum of W_up[j, :]^2 (and W_gate[j, :]^2) + W_down[:, j]^2)

    Biases do not count.

    Returns
    -------
    scores : float32 array of shape (n_layers, n_neurons)
    """
    scores = []
    for layer in wiring.find_feedforward(model):
        square = _norms(model.get_submodule(layer.down)) ** 2
        every = torch.arange(layer.width)
        for path, layout in layer.up.items():
            rows = wiring.matrix(model.get_submodule(path)).detach().float()
            rows = rows.square().sum(1).cpu()
            rows = rows[wiring.rows_of(every, layout, layer.width)]
            if layout == "pairs":
                rows = rows.view(-1, 2).sum(1)
            else:
                rows = rows.view(-1, layer.width).sum(0)
            square = square + rows.numpy()
        scores.append(np.sqrt(square))
    return _stack(model, scores)


def wanda(model, mean_square):
    """Weights times activations (Sun et al. 2024, arXiv 2306.11695), summed by unit::

        score[l, j] = sum_i |W_down[i, j]| * sqrt(mean_square[l, j])

    The published score is one of single weights; its sum over what reads a unit is the
    structured variant. Theirs has the length of x_j over tokens, which ranks the same.

    Parameters
    ----------
    model : torch.nn.Module
    mean_square : array of shape (n_layers, n_neurons)
        Of every unit over calibration tokens.

    Returns
    -------
    scores : float32 array of shape (n_layers, n_neurons)
    """
    weights = _stack(model, [_norms(down, 1) for down in _downs(model)])
    return weights * np.sqrt(_checked(mean_square, weights.shape, "mean_square"))


def fluctuation(model, variance):
    """Weighted fluctuation, WIFV of FLAP (An et al. 2024, arXiv 2312.11983)::

        score[l, j] = variance[l, j] * ||W_down[:, j]||_2^2

    A unit that hardly varies can be replaced by its mean: see ``mean`` of
    ``pruning.cut``.

    Parameters
    ----------
    model : torch.nn.Module
    variance : array of shape (n_layers, n_neurons)
        Of every unit over calibration tokens.

    Returns
    -------
    scores : float32 array of shape (n_layers, n_neurons)
    """
    norms = _stack(model, [_norms(down) for down in _downs(model)])
    return norms**2 * _checked(variance, norms.shape, "variance")


def random(shape, rng):
    """Random scores, the baseline.

    Parameters
    ----------
    shape : (n_layers, n_neurons)
    rng : numpy Generator
    """
    return rng.random(shape, np.float32)


def functional(
    activations,
    *,
    documents=None,
    n_texts=40,
    n_components=128,
    max_iter=300,
    tol=1e-4,
    random_state=0,
    device="cpu",
):
    """How far a unit stands out in any functional network of its layer.

    For every layer and run of ``n_texts`` texts, units are standardised over tokens,
    reduced to ``n_components`` singular vectors over units, and these are turned by
    FastICA (cube) to independent maps, as for fMRI; with every map z-scored over the
    layer's units::

        score[l, j] = max over runs and maps of |z[j]|

    so that ``score > threshold`` is the union of networks of Liu et al. 2025 (arXiv
    2508.05239; threshold 3.6 in their code), who keep it and cut the rest. They take
    the union over outputs of the up-projection and of the activation function; here a
    unit is one of ``ffn_hidden``, the product of the two in a gated layer.

    Parameters
    ----------
    activations : array or DataArray of shape (n_tokens, n_layers, n_neurons)
        Of a store (``stores.open_activations``), or any array.
    documents : int array of shape (n_tokens,), optional
        The text of every token, in runs of equal numbers; without it all tokens are
        one run.
    n_texts : int
        Texts of a run; the last run may have fewer.
    n_components : int
        128 in the paper; 256 is the default of their code.
    max_iter, tol : int, float
        Of FastICA. What does not converge is used as it is, as in the original.
    random_state : int
    device : str
        For the singular vectors.

    Returns
    -------
    scores : float32 array of shape (n_layers, n_neurons)

    Raises
    ------
    ValueError
        More components than a run has tokens, or NaN.
    """
    n_tokens, n_layers, n_neurons = activations.shape
    scores = np.zeros((n_layers, n_neurons), np.float32)
    for run in _runs(documents, n_tokens, n_texts):
        for layer in range(n_layers):
            try:
                reduction = svd.reduce(
                    activations[run, layer],
                    n_components,
                    standardise=True,
                    random_state=random_state,
                    device=device,
                )
            except ValueError as error:
                raise ValueError(
                    f"layer {layer}, tokens {run.start} to {run.stop - 1}: {error}"
                ) from error
            ica = FastICA(
                fun="cube",
                whiten="unit-variance",
                max_iter=max_iter,
                tol=tol,
                random_state=random_state,
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                maps = ica.fit_transform(reduction.vt.T.astype(float))
            z = np.abs(hemodynamics.zscore(maps)).max(1)
            scores[layer] = np.maximum(scores[layer], z)
    return scores


def _runs(documents, n_tokens, n_texts):
    """Tokens of every run of texts, one after another."""
    if documents is None:
        return [slice(0, n_tokens)]
    documents = np.asarray(documents)
    begins = np.flatnonzero(np.diff(documents, prepend=documents[:1] - 1))
    if len(documents) != n_tokens or len(np.unique(documents)) != len(begins):
        raise ValueError(
            f"documents must name the text of each of the {n_tokens} tokens, every "
            f"text in one piece; found {len(documents)} entries, {len(begins)} pieces "
            f"of {len(np.unique(documents))} texts"
        )
    borders = [*begins[::n_texts].tolist(), n_tokens]
    return [slice(a, b) for a, b in itertools.pairwise(borders)]


def _downs(model):
    sites = find_sites(model, "ffn_hidden")
    if any(place == "experts" for _, place in sites):
        raise StructureError(
            f"{type(model).__name__} is a mixture of experts, whose units cannot be "
            "cut out: choose a model without experts"
        )
    return [down for down, _ in sites]


def _norms(linear, order=2, gain=None):
    """Norm of the weights that read each input of a linear layer, outputs scaled."""
    weight = wiring.matrix(linear).detach().float()
    if gain is not None:
        weight = weight * gain.to(weight.device)[:, None]
    return torch.linalg.vector_norm(weight, order, dim=0).cpu().numpy()


def _expert_norms(experts, gain=None):
    weight = experts.down_proj.detach().float()  # (n_experts, n_stream, n_units)
    weight = weight.transpose(1, 2) if experts.is_transposed else weight
    if gain is not None:
        weight = weight * gain.to(weight.device)[:, None]
    norms = torch.linalg.vector_norm(weight, dim=1)
    return norms.flatten().cpu().numpy()


def _stack(model, rows):
    if len({len(row) for row in rows}) > 1:
        raise StructureError(
            f"{type(model).__name__}: layers have different numbers of units, "
            f"{sorted({len(row) for row in rows})}: take the model before it was cut"
        )
    return np.stack(rows).astype(np.float32)


def _checked(values, shape, name):
    values = np.asarray(values)
    if values.shape != shape or not (values >= 0).all():
        raise ValueError(
            f"{name} must be of shape {shape} and not negative or NaN, found shape "
            f"{values.shape}"
        )
    return values
