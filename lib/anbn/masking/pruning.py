"""Pruning: feed-forward units cut out of a model for real.

How much a unit matters are scores (n_layers, n_neurons), larger to keep. What
calibration text gives of them (``mean_square``, ``variance``; see ``calibration``) is
passed in; the rest is read from the weights, by structure. ``choose`` says which units
go; a cut model has fewer weights and less to compute.
"""

import copy
import itertools
import tempfile
import time
import warnings
from dataclasses import replace

import numpy as np
import torch
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning

from anbn.core import artifacts
from anbn.core.paths import cache_dir
from anbn.masking import intervene
from anbn.models import neurons, recording, resizing, stores, wiring
from anbn.models.structure import StructureError, find_layers, find_sites, input_device
from anbn.networks import svd
from anbn.stats import timeseries


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
        ``ffn_out`` and ``hidden`` are in the stream already: norm 1; ``qk`` has no
        output weights. A constant by which all layers multiply what they add (Granite)
        is left out.
    ids : int array of shape (n_tokens,), optional
        Tokens of text over which the gain of norms is found; 256 random ones without
        it. Of no use to models without such norms.

    Returns
    -------
    norms : float32 array of shape (n_layers, n_neurons)

    Raises
    ------
    StructureError
        If the output projection is not found, or layers have different widths.
    """
    if kind in ("ffn_out", "hidden"):
        return np.ones(neurons.count_neurons(model, kind), np.float32)
    if kind == "attn_out":
        linears = wiring.output_projections(model)
        weights = [wiring.matrix(linear) for linear in linears]
    else:
        linears, weights = [], []
        for module, place in find_sites(model, kind):
            if place == "experts":
                mixture, experts = module
                weight = experts.down_proj  # (n_experts, n_stream, n_units)
                linears.append(mixture)
                weights.append(weight.mT if experts.is_transposed else weight)
            else:
                linears.append(module)
                weights.append(wiring.matrix(module))
    gains = _gains(model, linears, ids)
    norms = [_norms(w, gain=g) for w, g in zip(weights, gains, strict=True)]
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
            given = torch.tensor(np.asarray(ids)[None], device=input_device(model))
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
        square = _norms(wiring.matrix(model.get_submodule(layer.down))) ** 2
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


def wanda(model, mean_square, layers=None):
    """Weights times activations (Sun et al. 2024, arXiv 2306.11695), summed by unit::

        score[l, j] = sum_i |W_down[i, j]| * sqrt(mean_square[l, j])

    The published score is one of single weights; its sum over what reads a unit is the
    structured variant. Theirs has the length of x_j over tokens, which ranks the same.

    Parameters
    ----------
    model : torch.nn.Module
    mean_square : array of shape (n_layers, n_neurons)
        Of every unit over calibration tokens.
    layers : list of int, optional
        Layers of the model that its rows are; all by default.

    Returns
    -------
    scores : float32 array of shape (n_layers, n_neurons)
    """
    return _stack(model, _down_norms(model, 1, layers)) * np.sqrt(mean_square)


def fluctuation(model, variance):
    """Weighted fluctuation, WIFV of FLAP (An et al. 2024, arXiv 2312.11983)::

        score[l, j] = variance[l, j] * ||W_down[:, j]||_2^2

    A unit that hardly varies can be replaced by its mean: see ``mean`` of
    ``cut``.

    Parameters
    ----------
    model : torch.nn.Module
    variance : array of shape (n_layers, n_neurons)
        Of every unit over calibration tokens.

    Returns
    -------
    scores : float32 array of shape (n_layers, n_neurons)
    """
    return _stack(model, _down_norms(model, 2)) ** 2 * variance


def functional(activations, *, documents, n_texts, n_components, random_state):
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
    documents : int array of shape (n_tokens,)
        The text of every token, in runs of equal numbers.
    n_texts : int
        Texts of a run; the last run may have fewer.
    n_components : int
        128 in the paper; 256 is the default of their code. What does not converge in
        300 iterations of FastICA is used as it is, as in the original.
    random_state : int

    Returns
    -------
    scores : float32 array of shape (n_layers, n_neurons)

    Raises
    ------
    ValueError
        More components than a run has tokens, or NaN.
    """
    scores = np.zeros(activations.shape[1:], np.float32)
    begins = np.flatnonzero(np.diff(documents, prepend=documents[:1] - 1))
    borders = [*begins[::n_texts].tolist(), len(documents)]
    for run in (slice(a, b) for a, b in itertools.pairwise(borders)):
        for layer in range(len(scores)):
            try:
                reduction = svd.reduce(
                    activations[run, layer],
                    n_components,
                    standardise=True,
                    random_state=random_state,
                )
            except ValueError as error:
                raise ValueError(
                    f"functional, n_components, n_texts: layer {layer}, tokens "
                    f"{run.start} to {run.stop - 1}: {error}"
                ) from error
            ica = FastICA(fun="cube", max_iter=300, random_state=random_state)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                maps = ica.fit_transform(reduction.vt.T.astype(float))
            z = np.abs(timeseries.zscore(maps)).max(1)
            scores[layer] = np.maximum(scores[layer], z)
    return scores


def functional_of_text(
    language_model,
    tokens,
    *,
    window,
    stride,
    n_texts,
    n_components,
    random_state,
):
    """``functional`` of a model's units over some text, recorded for it alone.

    Parameters
    ----------
    language_model : LanguageModel
    tokens : DataFrame
        With ``document``, see ``forward.forward_windows``.
    window, stride : int
        Tokens.
    n_texts, n_components, random_state
        See ``functional``.

    Returns
    -------
    scores : float32 array of shape (n_layers, n_neurons)
    """
    kind = "ffn_hidden"
    with tempfile.TemporaryDirectory(dir=cache_dir()) as folder:
        recording.record(
            language_model,
            tokens,
            f"{folder}/store",
            kinds=[kind],
            predictions=False,
            window=window,
            stride=stride,
        )
        return functional(
            stores.open_activations(f"{folder}/store", kind),
            documents=tokens["document"].to_numpy(),
            n_texts=n_texts,
            n_components=n_components,
            random_state=random_state,
        )


def _down_norms(model, order, layers=None):
    sites = find_sites(model, "ffn_hidden")
    if any(place == "experts" for _, place in sites):
        raise StructureError(
            f"{type(model).__name__} is a mixture of experts, whose units cannot be "
            "cut out: choose a model without experts"
        )
    chosen = [sites[i] for i in layers] if layers else sites
    return [_norms(wiring.matrix(down), order) for down, _ in chosen]


def _norms(weight, order=2, gain=None):
    """Norm of the weights (..., n_out, n_in) that read each input, outputs scaled."""
    weight = weight.detach().float()
    if gain is not None:
        weight = weight * gain.to(weight.device)[:, None]
    return torch.linalg.vector_norm(weight, order, dim=-2).flatten().cpu().numpy()


def _stack(model, rows):
    if len({len(row) for row in rows}) > 1:
        raise StructureError(
            f"{type(model).__name__}: layers have different numbers of units, "
            f"{sorted({len(row) for row in rows})}: take the model before it was cut"
        )
    return np.stack(rows).astype(np.float32)


def choose(
    scores,
    share,
    *,
    budget="uniform",
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
        them all, z-scored within layers first (as in FLAP, arXiv 2312.11983): layers
        differ in scale. Either way a layer keeps at least its best unit: ``cut`` cannot
        make a layer of none.
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
        If so many units cannot be cut out.
    """
    scores = np.array(scores, float)
    n_layers, n_neurons = scores.shape
    spare = np.zeros(scores.shape, bool) if spare is None else spare
    first, last = protect
    if first + last >= n_layers:
        raise ValueError(
            f"first_layers {first} and last_layers {last} are not cut: expected to "
            f"leave some of the {n_layers} layers"
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
            f"a share of {share} is {wanted} units of {n_layers} layers, but with "
            f"first_layers {first}, last_layers {last}, {spare.sum()} units to spare "
            f"and one unit left in every layer at most {most} can be cut out: a share "
            f"of {most / scores.size:.3f}"
        )
    if budget == "uniform":
        counts = np.full(n_free, per_layer)
    else:
        counts = _global_counts(scores[free], spare[free], wanted)
    left = multiple * np.round((n_neurons - counts) / multiple).astype(int)
    left = np.maximum(left, multiple * np.ceil(at_least / multiple).astype(int))
    counts = np.where(counts > 0, n_neurons - np.minimum(left, n_neurons), 0)
    scores[spare] = np.inf
    mask = np.zeros(scores.shape, bool)
    for layer, n in zip(range(first, n_layers - last), counts, strict=True):
        mask[layer, np.argsort(scores[layer], kind="stable")[:n]] = True
    return mask


def _global_counts(scores, spare, wanted):
    """How many of the lowest units of all layers lie in each; the best do not count."""
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
    norms = output_norms(model, "ffn_hidden")
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
        lose all of its units. (Matrices without a row or column are refused by many
        kernels and file formats, and a width of 0 reads as "not set" in some
        configurations; so a unit has to stay.)
    """
    layers = wiring.find_feedforward(language_model.model)
    widths = [layer.width for layer in layers]
    if len(set(widths)) > 1:
        raise ValueError(
            f"layers have different numbers of units already, {min(widths)} to "
            f"{max(widths)}: cut all that is to go out of the model as it was"
        )
    shape = len(layers), widths[0]
    intervene.check_mask(mask, shape, "ffn_hidden")
    if mask.all(1).any():
        raise ValueError(
            f"the mask takes all {widths[0]} units of layers "
            f"{np.flatnonzero(mask.all(1)).tolist()}: leave at least one unit in each"
        )
    model = copy.deepcopy(language_model.model)
    for i in np.flatnonzero(mask.any(1)):
        down = model.get_submodule(layers[i].down)
        device = down.weight.device
        cut_out, kept = (
            torch.from_numpy(np.flatnonzero(m)).to(device) for m in (mask[i], ~mask[i])
        )
        if mean is not None:
            weight = wiring.matrix(down)[:, cut_out].float()
            gone = torch.from_numpy(mean[i, mask[i]].astype(np.float32))
            given = weight @ gone.to(device)
            if down.bias is not None:
                given = given + down.bias.float()
            resizing.set_parameter(down, "bias", given.to(down.weight.dtype))
        resizing.resize(down, columns=kept)
        for path, layout in layers[i].up.items():
            up = model.get_submodule(path)
            rows = wiring.rows_of(kept.to(up.weight.device), layout, widths[0])
            resizing.resize(up, rows=rows)
    resizing.declare(model)
    return replace(language_model, model=model)


def save(language_model, folder):
    """Write a model, cut or not: safetensors, configuration and tokenizer.

    If the architecture's own configuration can express it (all layers of one width;
    biases it knows), any program that reads such models can load it, with
    ``AutoModelForCausalLM.from_pretrained(folder)`` for one. Otherwise only
    ``loading.load_model`` does, and plain transformers says that it finds no
    model.safetensors.

    Parameters
    ----------
    language_model : LanguageModel
    folder : path-like
        Replaced if it is there.
    """
    model, config = language_model.model, language_model.model.config
    text = config.get_text_config()
    own = hasattr(config, resizing.KEY)
    use_cache = getattr(text, "use_cache", None)
    with artifacts.atomic(folder) as temporary:
        try:
            if use_cache is False:  # our own setting: who generates wants the cache
                text.use_cache = True
            model.save_pretrained(temporary, variant=resizing.VARIANT if own else None)
        finally:
            if use_cache is False:
                text.use_cache = False
        language_model.tokenizer.save_pretrained(temporary)


def speed(models, ids, *, n_turns):
    """Tokens a second of some models over one text, in turns.

    Parameters
    ----------
    models : dict of str to LanguageModel
    ids : int array of shape (n_tokens,)
    n_turns : int
        Timed passes of each, after one that warms up; their median counts.

    Returns
    -------
    speed : dict of str to int
        Timings: never the same twice.
    """
    seconds = {name: [] for name in models}
    for _ in range(n_turns + 1):
        for name, language_model in models.items():
            model = language_model.model
            given = torch.tensor(np.asarray(ids)[None], device=input_device(model))
            start = time.perf_counter()
            with torch.inference_mode():
                model(given).logits[0, -1, -1].item()
            seconds[name].append(time.perf_counter() - start)
    return {name: round(len(ids) / np.median(s[1:])) for name, s in seconds.items()}


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
