"""Linear layers of a model made narrower for good, and the configuration with them.

A narrowed model's configuration says so. Where the architecture's own settings can (one
width for all layers), they do. Otherwise the configuration lists the layers that differ
under the key ``KEY``, and the weights are saved as the variant ``VARIANT``, so that
plain ``transformers`` finds none: it would leave out an added bias without an error.
"""

import copy
import itertools

import torch
import transformers
from torch.nn import Parameter
from transformers.pytorch_utils import Conv1D

from anbn.models.structure import _shape

KEY, VARIANT = "anbn_linears", "pruned"
WIDTH_WORDS = ("inner", "intermediate", "ffn")  # in names of widths left at None


def resize(linear, *, rows=slice(None), columns=slice(None)):
    """Leave a linear layer only some outputs (rows) and inputs (columns), in place."""
    conv = isinstance(linear, Conv1D)
    weight = linear.weight.T if conv else linear.weight
    weight = weight[rows][:, columns]
    # a copy: a view would keep all of the old weight in memory
    weight = (weight.T if conv else weight).clone(memory_format=torch.contiguous_format)
    set_parameter(linear, "weight", weight)
    if linear.bias is not None:
        set_parameter(linear, "bias", linear.bias[rows].clone())
    n_in, n_out = _shape(linear)
    names = ("nx", "nf") if conv else ("in_features", "out_features")
    for name, n in zip(names, (n_in, n_out), strict=True):
        setattr(linear, name, n)


def set_parameter(module, name, value):
    """Put a tensor in a parameter's place, frozen like the weights beside it."""
    frozen = not module.weight.requires_grad
    setattr(module, name, Parameter(value.detach(), requires_grad=not frozen))


def declare(model):
    """Make a narrowed model's configuration true, by its own settings if they can.

    Tried are the setting that holds the old width (``intermediate_size``, ``ffn_dim``,
    ...) and, for a bias that the architecture has not by default, those that switch
    biases on (Llama: ``mlp_bias``); biases that come with it are set to zero. What
    fits is a model that is built from the configuration and has weights of the same
    names and shapes.
    """
    config = model.config
    if hasattr(config, KEY):
        delattr(config, KEY)
    found, usual = _shapes(model), _shapes(_built(model, {}))
    linears = {
        n: m
        for n, m in model.named_modules()
        if isinstance(m, torch.nn.Linear | Conv1D)
    }
    biases = {f"{name}.bias" for name in linears}
    for changes in _settings(config, usual, found):
        try:
            expected = _shapes(_built(model, changes)) if changes else usual
        except Exception:  # each architecture refuses what it cannot be in its own way
            continue
        missing = expected.keys() - found.keys()
        if found.items() <= expected.items() and missing <= biases:
            for name in missing:
                linear = model.get_submodule(name.removesuffix(".bias"))
                set_parameter(linear, "bias", linear.weight.new_zeros(expected[name]))
            for key, value in changes.items():
                setattr(config.get_text_config(), key, value)
            return
    names = [
        name
        for name in linears
        if any(found.get(n) != usual.get(n) for n in (f"{name}.weight", f"{name}.bias"))
    ]
    sizes = {n: [*_shape(linears[n]), linears[n].bias is not None] for n in names}
    setattr(config, KEY, sizes)


def _settings(config, usual, found):
    """Changes of a configuration to be tried, that of least first."""
    sizes = {
        (usual[n], found[n])
        for n in usual.keys() & found.keys()
        if usual[n] != found[n]
    }
    pairs = {p for a, b in sizes for p in zip(a, b, strict=True) if p[0] != p[1]}
    if len(pairs) > 2:  # a fused layer shows two, layers of many widths more
        return []
    values = config.get_text_config().to_dict()
    widths, switches = [{}], [{}]
    for old, new in sorted(pairs):
        keys = [k for k, v in values.items() if type(v) is int and v == old]
        for key, value in values.items():
            if value is None and any(word in key for word in WIDTH_WORDS):
                keys.append(key)
        widths += [{key: new} for key in keys]
    if found.keys() - usual.keys():  # there are new biases
        switches += [{k: True} for k, v in values.items() if v is False and "bias" in k]
    return [a | b for a, b in itertools.product(widths, switches)]


def _built(model, changes):
    """A model of the same class from a changed configuration, without memory."""
    config = copy.deepcopy(model.config)
    for key, value in changes.items():
        setattr(config.get_text_config(), key, value)
    with torch.device("meta"):
        return type(model)(config)


def _shapes(model):
    return {name: tuple(weight.shape) for name, weight in model.state_dict().items()}


def saved_class(config):
    """Class that builds and loads a model with widths of its own; None if it has none.

    Its ``from_config`` and ``from_pretrained`` are like those of transformers'
    ``AutoModel``; what they return is of the architecture's class.
    """
    sizes = getattr(config, KEY, None)
    if sizes is None:
        return None
    name = (config.architectures or ["none"])[0]
    model_class = getattr(transformers, name, None)
    if model_class is None:
        raise ValueError(f"transformers {transformers.__version__} has no class {name}")

    class Narrowed(model_class):
        def __init__(self, config, *args, **options):
            super().__init__(config, *args, **options)
            _narrow(self, sizes)
            self.__class__ = model_class

        @classmethod
        def from_config(cls, config, *, trust_remote_code, **options):
            return cls._from_config(config, **options)

        @classmethod
        def from_pretrained(cls, folder, **options):
            return super().from_pretrained(folder, variant=VARIANT, **options)

    return Narrowed


def _narrow(model, sizes):
    """Give linear layers the sizes that a configuration lists."""
    modules = dict(model.named_modules())
    for path, (n_in, n_out, bias) in sizes.items():
        linear = modules.get(path)
        if not isinstance(linear, torch.nn.Linear | Conv1D):
            raise ValueError(
                f"config.json, {KEY}: {path} is no linear layer of a "
                f"{type(model).__mro__[1].__name__}: save the model again"
            )
        if bias and linear.bias is None:
            set_parameter(linear, "bias", linear.weight.new_zeros(_shape(linear)[1]))
        resize(linear, rows=slice(n_out), columns=slice(n_in))
