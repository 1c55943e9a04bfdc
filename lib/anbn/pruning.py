"""Cutting feed-forward units out of a model for real: fewer weights, less to compute.

Which units: scores of ``importance``, larger for what is to be kept, and ``choose``.
"""

import copy
from dataclasses import replace

import numpy as np
import torch

from anbn import artifacts, masking, reshaping, wiring

BUDGETS = ("uniform", "global")


def choose(
    scores,
    share,
    *,
    budget="uniform",
    standardise=True,
    protect=(0, 0),
    multiple=1,
):
    """Mask of the units with the lowest scores.

    Parameters
    ----------
    scores : array of shape (n_layers, n_neurons)
        Larger for what is to be kept.
    share : float
        Of all units of the model, protected layers included, so that shares can be
        compared.
    budget : {"uniform", "global"}
        The same number of units in every layer that is not protected, or the lowest of
        them all. Either way a layer keeps at least its best unit: ``cut`` cannot make a
        layer of none.
    standardise : bool
        For the global budget, whether scores are z-scored within layers first (as in
        FLAP, arXiv 2312.11983): layers differ in scale.
    protect : (int, int)
        First and last layers that are not touched (3 and 2 in arXiv 2508.05239).
    multiple : int
        What is left of a layer is rounded to a multiple of so many units, and the share
        met as well as that allows: matrices of odd sizes are slower. 16 or 64 are
        usual.

    Returns
    -------
    mask : bool array of shape (n_layers, n_neurons)
        True for the units to be cut out; of equal scores the first ones are.

    Raises
    ------
    ValueError
        If scores are not finite, or so many units cannot be cut out.
    """
    scores = np.asarray(scores, float)
    if scores.ndim != 2 or not np.isfinite(scores).all():
        raise ValueError(
            "scores must be finite and of shape (n_layers, n_neurons), found shape "
            f"{scores.shape} with {np.sum(~np.isfinite(scores))} NaN or infinite values"
        )
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in 0 to 1, found {share}")
    if not (isinstance(multiple, int | np.integer) and multiple >= 1):
        raise ValueError(f"multiple must be an integer of 1 or more, found {multiple}")
    if budget not in BUDGETS:
        raise ValueError(
            f"budget must be one of {', '.join(BUDGETS)}, found {budget!r}"
        )
    n_layers, n_neurons = scores.shape
    first, last = protect
    if min(first, last) < 0 or first + last >= n_layers:
        raise ValueError(
            f"protect must leave some of the {n_layers} layers, found {protect}"
        )
    free = slice(first, n_layers - last)
    n_free = n_layers - first - last
    wanted = round(share * scores.size)
    most = n_free * (n_neurons - 1)
    per_layer = round(wanted / n_free)
    if wanted > most or (budget == "uniform" and per_layer >= n_neurons):
        raise ValueError(
            f"share {share} of {n_layers} layers is {wanted} units, but with "
            f"protect={tuple(protect)} and one unit left in every layer at most {most} "
            f"can be cut out: a share of {most / scores.size:.3f}"
        )
    if budget == "uniform":
        counts = np.full(n_free, per_layer)
    else:
        counts = _global_counts(scores[free], wanted, standardise)
    left = multiple * np.round((n_neurons - counts) / multiple).astype(int)
    left = np.clip(left, min(multiple, n_neurons), n_neurons)
    counts = np.where(counts > 0, n_neurons - left, 0)
    mask = np.zeros(scores.shape, bool)
    for layer, n in zip(range(first, n_layers - last), counts, strict=True):
        mask[layer, np.argsort(scores[layer], kind="stable")[:n]] = True
    return mask


def _global_counts(scores, wanted, standardise):
    """How many of the lowest units of all layers lie in each; the best do not count."""
    if standardise:
        spread = scores.std(1, keepdims=True)
        scores = scores - scores.mean(1, keepdims=True)
        scores = scores / np.where(spread > 0, spread, 1)
    ranked = np.sort(scores, axis=1)[:, :-1]
    lowest = np.argsort(ranked, axis=None, kind="stable")[:wanted]
    return np.bincount(lowest // ranked.shape[1], minlength=len(ranked))


@torch.inference_mode(False)  # weights made in it could not be used outside
@torch.no_grad()
def cut(language_model, mask, *, mean=None):
    """A copy of a model without some of its feed-forward hidden units.

    Their rows of the linear layers before them and their columns of the one after them
    are left out, so the copy says what the model says with these units silenced, in
    less memory and time.

    Parameters
    ----------
    language_model : LanguageModel
        Not changed. Dense feed-forward layers of any kind: plain, gated, with gate and
        up fused.
    mask : bool array of shape (n_layers, n_neurons)
        ``ffn_hidden`` units to be cut out.
    mean : array of shape (n_layers, n_neurons), optional
        Mean of every unit over calibration text: what the units cut out give on average
        is added to the bias of the layer after them, which is made where there is none
        (bias compensation of FLAP, arXiv 2312.11983)::

            bias += W_down[:, cut] @ mean[cut]

        Then the copy says what the model says with these units set to their means.

    Returns
    -------
    language_model : LanguageModel
        Its configuration has the new width, or the widths of all layers.

    Raises
    ------
    StructureError
        If the layers are not recognised, as for a mixture of experts.
    ValueError
        If the mask does not fit, layers have different widths already, or a layer would
        lose all of its units. (That layer were a constant. Matrices without a row or
        column are refused by many kernels and file formats, and a width of 0 reads as
        "not set" in some configurations; so a unit has to stay.)
    """
    layers = wiring.find_feedforward(language_model.model)
    widths = [layer.width for layer in layers]
    if len(set(widths)) > 1:
        raise ValueError(
            f"layers have different numbers of units already, {min(widths)} to "
            f"{max(widths)}: cut all that is to go out of the model as it was"
        )
    shape = len(layers), widths[0]
    mask = masking.check_mask(mask, shape, "ffn_hidden")
    if mask.all(1).any():
        raise ValueError(
            f"the mask takes all {widths[0]} units of layers "
            f"{np.flatnonzero(mask.all(1)).tolist()}: leave at least one unit in each"
        )
    if mean is not None:
        mean = np.asarray(mean, np.float32)
        if mean.shape != shape or not np.isfinite(mean[mask]).all():
            raise ValueError(
                f"mean must be of shape {shape} and finite where units are cut out, "
                f"found shape {mean.shape}"
            )
    model = copy.deepcopy(language_model.model)
    for i in np.flatnonzero(mask.any(1)):
        _cut_layer(model, layers[i], mask[i], None if mean is None else mean[i])
    reshaping.declare(model)
    return replace(language_model, model=model)


def _cut_layer(model, layer, gone, mean):
    down = model.get_submodule(layer.down)
    device = down.weight.device
    cut_out, kept = (
        torch.from_numpy(np.flatnonzero(m)).to(device) for m in (gone, ~gone)
    )
    if mean is not None:
        weight = wiring.matrix(down)[:, cut_out].float()
        given = weight @ torch.from_numpy(mean[gone]).to(device)
        if down.bias is not None:
            given = given + down.bias.float()
        reshaping.set_parameter(down, "bias", given.to(down.weight.dtype))
    reshaping.resize(down, columns=kept)
    for path, layout in layer.up.items():
        up = model.get_submodule(path)
        rows = wiring.rows_of(kept.to(up.weight.device), layout, layer.width)
        reshaping.resize(up, rows=rows)


def save(language_model, folder):
    """Write a model, cut or not: safetensors, configuration and tokenizer.

    If the architecture's own configuration can express it (all layers of one width;
    biases it knows), any program that reads such models can load it, with
    ``AutoModelForCausalLM.from_pretrained(folder)`` for one. Otherwise only
    ``models.load_model`` does, and plain transformers says that it finds no
    model.safetensors.

    Parameters
    ----------
    language_model : LanguageModel
    folder : path-like
        Replaced if it is there.
    """
    model, config = language_model.model, language_model.model.config
    text = config.get_text_config()
    own = hasattr(config, reshaping.KEY)
    use_cache = getattr(text, "use_cache", None)
    with artifacts.atomic(folder) as temporary:
        try:
            if use_cache is False:  # our own setting: who generates wants the cache
                text.use_cache = True
            model.save_pretrained(temporary, variant=reshaping.VARIANT if own else None)
        finally:
            if use_cache is False:
                text.use_cache = False
        language_model.tokenizer.save_pretrained(temporary)


def size(language_model):
    """Number of a model's weights, shared ones counted once, and their memory.

    Returns
    -------
    size : dict of str to int
        ``parameters`` and ``bytes``.
    """
    weights = list(language_model.model.parameters())
    return {
        "parameters": sum(w.numel() for w in weights),
        "bytes": sum(w.numel() * w.element_size() for w in weights),
    }
