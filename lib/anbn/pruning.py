"""Cutting feed-forward units out of a model for real: fewer weights, less to compute.

Which units: scores of ``importance``, larger for what is to be kept, and ``choose``.
"""

import copy
from dataclasses import replace

import numpy as np
import torch

from anbn import artifacts, importance, masking, reshaping, wiring

BUDGETS = ("uniform", "global")


def choose(
    scores,
    share,
    *,
    budget="uniform",
    standardise=True,
    protect=(0, 0),
    multiple=1,
    spare=None,
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
    spare : bool array of shape (n_layers, n_neurons), optional
        Units that stay whatever their scores, as from ``needed_at_special_tokens``.

    Returns
    -------
    mask : bool array of shape (n_layers, n_neurons)
        True for the units to be cut out; of equal scores the first ones are.

    Raises
    ------
    ValueError
        If scores are not finite, or so many units cannot be cut out.
    """
    scores = np.array(scores, float)
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
    spare = np.zeros(scores.shape, bool) if spare is None else np.asarray(spare)
    spare = masking.check_mask(spare, scores.shape, "ffn_hidden")
    first, last = protect
    if min(first, last) < 0 or first + last >= n_layers:
        raise ValueError(
            f"protect must leave some of the {n_layers} layers, found {protect}"
        )
    free = slice(first, n_layers - last)
    n_free = n_layers - first - last
    wanted = round(share * scores.size)
    at_least = np.maximum(spare[free].sum(1), 1)  # units left in every layer
    most = int((n_neurons - at_least).sum())
    per_layer = round(wanted / n_free)
    if wanted > most or (
        budget == "uniform" and per_layer > n_neurons - at_least.max()
    ):
        raise ValueError(
            f"share {share} of {n_layers} layers is {wanted} units, but with "
            f"protect={tuple(protect)}, {spare.sum()} units to spare and one unit left "
            f"in every layer at most {most} can be cut out: a share of "
            f"{most / scores.size:.3f}"
        )
    if budget == "uniform":
        counts = np.full(n_free, per_layer)
    else:
        counts = _global_counts(scores[free], spare[free], wanted, standardise)
    left = multiple * np.round((n_neurons - counts) / multiple).astype(int)
    left = np.maximum(left, multiple * np.ceil(at_least / multiple).astype(int))
    counts = np.where(counts > 0, n_neurons - np.minimum(left, n_neurons), 0)
    scores[spare] = np.inf
    mask = np.zeros(scores.shape, bool)
    for layer, n in zip(range(first, n_layers - last), counts, strict=True):
        mask[layer, np.argsort(scores[layer], kind="stable")[:n]] = True
    return mask


def _global_counts(scores, spare, wanted, standardise):
    """How many of the lowest units of all layers lie in each; the best do not count."""
    if standardise:
        spread = scores.std(1, keepdims=True)
        scores = scores - scores.mean(1, keepdims=True)
        scores = scores / np.where(spread > 0, spread, 1)
    ranked = np.sort(np.where(spare, np.inf, scores), axis=1)[:, :-1]
    lowest = np.argsort(ranked, axis=None, kind="stable")[:wanted]
    return np.bincount(lowest // ranked.shape[1], minlength=len(ranked))


def needed_at_special_tokens(model, special, mean_square, fill=None):
    """Units that a cut would take away where it cannot be made good.

    Calibration text holds no special tokens, but a model may keep a massive activation
    at the one that begins every text, and all that attends to it hangs on that. A bias
    makes good what units do on average over text; it is the same at every token, so
    nothing makes good what they do at one. A unit is needed if its loss at a special
    token moves the residual stream further than its whole layer does at a usual token::

        |a[s, l, j] - fill[l, j]| ||W_down[:, j]|| > t[l]
        t[l]^2 = sum_j mean_square[l, j] ||W_down[:, j]||^2

    Single units alone are seen: many that are lost together may do harm as well.

    Parameters
    ----------
    model : torch.nn.Module
    special : array of shape (n_special, n_layers, n_neurons)
        ``ffn_hidden`` activations, from ``calibration.at_special_tokens``; nothing is
        needed if there are none.
    mean_square : array of shape (n_layers, n_neurons)
        Over calibration text.
    fill : array of shape (n_layers, n_neurons), optional
        What stands in place of units that are cut, their means; zero by default.

    Returns
    -------
    needed : bool array of shape (n_layers, n_neurons)
        For ``spare`` of ``choose``.
    """
    norms = importance.output_norms(model, "ffn_hidden")
    usual = np.sqrt((mean_square * norms**2).sum(1))
    lost = np.abs(special - (0 if fill is None else fill)) * norms
    return (lost > usual[:, None]).any(0)


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

        Then the copy says what the model says with these units set to their means, at
        special tokens too: a bias is the same at every token. So units that are needed
        there have to stay (``needed_at_special_tokens``).

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
