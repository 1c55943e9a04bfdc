"""Silencing neurons, keeping only some, and amplifying them, while a model runs.

A mask is a bool array (n_layers, n_neurons), True for the neurons it is about. Every
context here leaves the model as it was, after an error inside too; contexts nest; an
empty mask changes nothing, bit for bit.
"""

from contextlib import contextmanager, nullcontext

import numpy as np
import torch

from anbn.models import neurons


def check_mask(mask, shape, kind):
    """Raise ValueError unless a mask is bool and of the expected shape."""
    if mask.dtype != bool or mask.shape != tuple(shape):
        raise ValueError(
            f"expected a bool mask of shape {tuple(shape)} for the {kind} neurons of "
            f"this model, found {mask.dtype} of shape {mask.shape}"
        )


@contextmanager
def intervene(
    model, mask, kind, change, *, shape=None, layers=None, modules=None, spared=()
):
    """Change a mask's neurons in every forward pass inside the block.

    Parameters
    ----------
    model : torch.nn.Module
    mask : bool array of shape (n_layers, n_neurons)
    kind : str
        See ``neurons``. For ``qk`` the queries are changed: zero or scaled queries make
        zero or scaled products.
    change : callable
        ``change(activations, i)`` gives the new activations (..., n_neurons) of the
        mask's i-th layer; those outside of the mask are not used.
    shape : (int, int), optional
        Of the model's neurons, if known; else seen in a pass over two tokens.
    layers : list of int, optional
        Layers of the model that the mask's rows are; all by default.
    modules : dict of str to str, optional
        See ``structure.find_sites``.
    spared : sequence of int
        Ids of tokens at which nothing is changed, as the special tokens that a
        tokenizer adds (``tokenization.special_ids``).

    Raises
    ------
    ValueError
        If the mask does not fit the model.
    """
    where = {"layers": layers, "modules": modules}
    check_mask(mask, shape or neurons.count_neurons(model, kind, **where), kind)
    rows = layers or range(len(mask))
    spared = list(spared)
    read = {}  # the ids of the pass that runs
    functions = {
        rows[i]: _edited(torch.from_numpy(mask[i].copy()), change, i, spared, read)
        for i in np.flatnonzero(mask.any(1)).tolist()
    }
    with (
        _watch_ids(model, read) if spared else nullcontext(),
        neurons.edit(model, kind, functions, modules=modules),
    ):
        yield


@contextmanager
def _watch_ids(model, read):
    """Keep the ids that every pass inside the block looks up first."""

    def look(_, args, kwargs):
        read["ids"] = next(x for x in (*args, *kwargs.values()) if torch.is_tensor(x))

    embedding = model.get_input_embeddings()
    hook = embedding.register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _edited(chosen, change, i, spared, read):
    there = {}  # the mask, once on each device

    def edited(activations):
        device = activations.device
        if device not in there:
            there[device] = chosen.to(device), torch.tensor(spared, device=device)
        changed, spared_ids = there[device]
        new = torch.as_tensor(change(activations, i), device=device)
        if spared:
            at = torch.isin(read["ids"].to(device), spared_ids)
            at = at.reshape(activations.shape[:-1])  # OPT joins batch and position
            changed = changed & ~at[..., None]
        return torch.where(changed, new.to(activations.dtype), activations)

    return edited


def silence(model, mask, kind, *, to=None, rng=None, **where):
    """Take away what a mask's neurons say.

    Parameters
    ----------
    model, mask, kind
        See ``intervene``.
    to : array of shape (n_layers, n_neurons) or (n_samples, n_layers, n_neurons)
        What stands there instead: zero by default; the neurons' means over calibration
        text; or their activations at other tokens, of which every token gets those of
        a random one, the same for all layers (resampling). Calibration text holds no
        special tokens, and many models keep massive activations at the one that begins
        a text: name them in ``spared``, as ``evaluation.measure`` does.
    rng : numpy Generator
        For resampling. One number is drawn, now. It and all that was read up to a token
        decide which of the samples that token gets: neither what else is in its batch,
        nor padding, nor a key-value cache.
    **where
        ``shape``, ``layers``, ``modules``, ``spared`` of ``intervene``.
    """
    if to is None:
        return intervene(model, mask, kind, lambda a, i: a.new_zeros(()), **where)
    to = torch.as_tensor(np.asarray(to))
    if kind == "qk":
        raise ValueError(
            "qk can be silenced to zero and scaled, not set to other values: what is "
            "edited are the queries"
        )
    if to.shape[-2:] != mask.shape:
        raise ValueError(
            f"`to` must be of shape {mask.shape}, or samples of it, found "
            f"{tuple(to.shape)}"
        )
    if to.dim() == 2:
        return intervene(model, mask, kind, lambda a, i: to[i], **where)
    return _resample(model, mask, kind, to, int(rng.integers(2**63)), where)


@contextmanager
def _resample(model, mask, kind, to, key, where):
    with _watch_text(model, key) as read:

        def another(activations, i):
            at = read["number"] % len(to)  # (batch, position)
            return to[at.reshape(activations.shape[:-1]), i]

        with intervene(model, mask, kind, another, **where):
            yield


@contextmanager
def _watch_text(model, key):
    """A number for every token of a pass, made from a key and all read up to it.

    Yields
    ------
    read : dict
        ``number``: int64 array of shape (batch, position), of the pass that runs.
    """
    read = {}

    def see_arguments(_, args, kwargs):
        cache = kwargs.get("past_key_values")
        read["goes_on"] = bool(cache is not None and cache.get_seq_length())
        read["attended"] = kwargs.get("attention_mask")

    def see_ids(_, args, kwargs):
        ids = next(x for x in (*args, *kwargs.values()) if torch.is_tensor(x))
        ids = ids.cpu().numpy().astype(np.uint64)
        attended = read["attended"]
        if torch.is_tensor(attended) and attended.dim() == 2:
            attended = attended.cpu().numpy()[:, -ids.shape[1] :] > 0
        else:
            attended = np.ones(ids.shape, bool)
        state = read["state"] if read["goes_on"] else np.full(len(ids), key, np.uint64)
        numbers = np.empty_like(ids)
        for t in range(ids.shape[1]):
            state = np.where(attended[:, t], _scrambled(state ^ ids[:, t]), state)
            numbers[:, t] = state
        read["state"] = state
        read["number"] = (numbers >> np.uint64(1)).astype(np.int64)

    modules = dict.fromkeys([model, model.base_model])  # one may be the other
    hooks = [
        m.register_forward_pre_hook(see_arguments, with_kwargs=True) for m in modules
    ]
    embedding = model.get_input_embeddings()
    hooks.append(embedding.register_forward_pre_hook(see_ids, with_kwargs=True))
    try:
        yield read
    finally:
        for hook in hooks:
            hook.remove()


def _scrambled(numbers):
    """Other uint64 numbers, alike for equal ones: splitmix64 (Steele et al. 2014)."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(31))


def keep_only(model, mask, kind, **options):
    """Silence all neurons of a kind but those of the mask; see ``silence``."""
    return silence(model, ~mask, kind, **options)


def amplify(model, mask, kind, *, factor=1.0, plus=0.0, **where):
    """Multiply a mask's neurons by a factor, then add a constant to them.

    The constant is that of Liu et al. 2025 (arXiv 2502.20408, revision).

    Parameters
    ----------
    model, mask, kind, **where
        As for ``silence``.
    factor, plus : float
    """
    if kind == "qk" and plus:
        raise ValueError(f"plus must be 0 for qk: queries are edited; found {plus}")
    return intervene(
        model, mask, kind, lambda activations, i: activations * factor + plus, **where
    )


def apply(model, mask, kind, action, **options):
    """The context of an action's name: silence, keep or amplify."""
    contexts = {"silence": silence, "keep": keep_only, "amplify": amplify}
    return contexts[action](model, mask, kind, **options)


def first_layer(mask, action="silence"):
    """First row that an action on a mask changes; the number of rows, if it does none.

    Layers below it run as in the intact model.
    """
    changed = ~mask if action == "keep" else mask
    return int(np.flatnonzero(np.append(changed.any(1), True))[0])
