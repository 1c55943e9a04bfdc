"""Loading a language model and its tokenizer: hub id, local folder or GGUF file."""

import atexit
import hashlib
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import dispatch_model, infer_auto_device_map
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForTextEncoding,
    AutoTokenizer,
    GgufConfig,
)
from transformers.utils import logging as transformers_logging

from anbn.core import artifacts
from anbn.core.paths import PACKAGE, cache_dir, project_root, resolve
from anbn.models import resizing
from anbn.models.structure import input_device

transformers_logging.disable_progress_bar()

AUTO_CLASSES = {
    "none": AutoModel,
    "causal": AutoModelForCausalLM,
    "masked": AutoModelForMaskedLM,
}

# No code that comes with a model is run (None would ask whoever is there), and weights
# are read from safetensors only: those in .bin are pickles.
LOCAL_CODE = {"trust_remote_code": False}
SAFE = {**LOCAL_CODE, "use_safetensors": True}


class ModelError(ValueError):
    """A model cannot be found, read, or used as asked."""


@dataclass(frozen=True)
class LanguageModel:
    """A model in evaluation mode, its tokenizer, and the head it was loaded with."""

    model: torch.nn.Module
    tokenizer: object
    head: str  # none, causal or masked

    @property
    def max_tokens(self):
        """Longest window the model takes, in tokens, special tokens included."""
        limits = [self.tokenizer.model_max_length]
        config = self.model.config.get_text_config()
        n_positions = getattr(config, "max_position_embeddings", None)
        if n_positions:
            limits.append(n_positions)
        for module in self.model.modules():  # RoBERTa counts from its padding on
            if isinstance(module, torch.nn.Embedding) and module.padding_idx:
                if module.num_embeddings == n_positions:
                    limits.append(n_positions - module.padding_idx - 1)
        return min(limits)

    def fingerprint(self):
        """SHA-256 of the configuration and of some of every weight."""
        total = hashlib.sha256(self.model.config.to_json_string().encode())
        total.update(f"{type(self.model).__name__} {self.model.dtype}".encode())
        for name, weight in self.model.named_parameters():
            total.update(name.encode())
            if weight.device.type != "meta":  # kept on disk
                some = weight.flatten()[:: max(1, weight.numel() // 64)]
                total.update(some.float().cpu().numpy().tobytes())
        return total.hexdigest()


def choose_device(device="auto"):
    """``auto`` is CUDA, then Apple's MPS, then the CPU."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def comparisons(model, names, *, n_random=1, seed=0, parameter="comparison_models"):
    """Models to compare one with: others, and itself with fresh weights.

    Parameters
    ----------
    model : str
        Hub id, folder or GGUF file.
    names : list of str
        The same, or "random": ``model`` with random weights.
    n_random : int
        Models that "random" stands for, each with weights of its own: one draw alone
        does not say how much of a score hangs on it.
    seed : int
        Of the first.
    parameter : str
        Named in errors.

    Returns
    -------
    specs : dict of str to (str, int or None)
        By label ("random", "random 2", ...): what to load, and ``random_weights`` of
        ``load_model``.

    Raises
    ------
    ModelError
        If two labels are the same as names of files, or one is "model", which the
        model itself is called.
    """
    specs = {}
    for name in names:
        drawn = range(n_random) if name == "random" else [None]
        for i in drawn:
            label = f"random {i + 1}" if i else name
            taken = {"model": model} | {artifacts.slug(known): known for known in specs}
            same = taken.get(artifacts.slug(label))
            if same is not None:
                raise ModelError(
                    f"{parameter}: {same!r} and {label!r} would be written under "
                    f"one name, {artifacts.slug(label)!r}. Leave one out, or give a "
                    "link to its folder another name"
                )
            specs[label] = (model, seed + i) if name == "random" else (name, None)
    return specs


def load_model(
    spec, *, head="auto", device="auto", dtype="float32", random_weights=None
):
    """Load a language model and its tokenizer.

    Parameters
    ----------
    spec : str
        A hub id (``gpt2``), a local folder, a ``.gguf`` file, or either of the last two
        inside an installed package (``package:name/inner/path``).
    head : {"auto", "none", "causal", "masked"}
        ``auto`` takes the head the checkpoint was saved with: causal, else masked, else
        none. If its weights hold no such head, as in sentence models whose
        configuration still names one, or if a "causal" one predicts a token with that
        token in view (XLNet, a BERT saved as a decoder), the model is read without, and
        a note is printed.
    device : str or dict
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``balanced`` spreads a model
        that one device cannot hold over all GPUs, then memory, then disk (accelerate's
        device map, which can also be given itself).
    dtype : {"float32", "bfloat16", "float16"}
    random_weights : int, optional
        Seed for fresh weights of the same architecture, drawn by the architecture's own
        initialisation, instead of the trained ones: a control.

    Returns
    -------
    language_model : LanguageModel
        Of an encoder-decoder without a head asked for, the encoder alone.

    Raises
    ------
    ModelError
        If the model is not found, its files are damaged, or it has not the head asked
        for (transformers would add one with random weights).
    """
    folder = local_copy(spec)
    name = str(folder or spec)
    try:
        config = AutoConfig.from_pretrained(name, **LOCAL_CODE)
        tokenizer = AutoTokenizer.from_pretrained(name, **LOCAL_CODE)
    except (OSError, ValueError) as error:
        raise ModelError(_not_found(spec, folder, error)) from error
    auto = head == "auto"
    head = _saved_head(config) if auto else head
    own_class = _own_class(spec, config, head)
    model_class = own_class or _auto_class(spec, config, head)
    spread = {}
    if isinstance(device, dict) or device == "balanced":
        spread = {"device_map": device, "offload_folder": _offload_folder()}
    options = {"dtype": getattr(torch, dtype)}
    if random_weights is not None:
        with torch.random.fork_rng([]):  # what others draw goes on as it would
            torch.default_generator.manual_seed(random_weights)
            model = model_class.from_config(config, **options, **LOCAL_CODE)
    else:
        options |= spread
        model, missing, of_head = _pretrained(spec, folder, model_class, options)
        if missing and of_head and auto and head != "none" and not own_class:
            print(
                f"note: {spec} is saved as {config.architectures}, but without weights "
                f"of a {head} head ({missing[0]}, ...): read without it"
            )
            head = "none"
            model_class = _auto_class(spec, config, head)
            model, missing, of_head = _pretrained(spec, folder, model_class, options)
        if missing:
            _refuse_missing(spec, config, head, missing, of_head)
    if head == "none" and own_class:
        model = model.base_model
    elif head == "none" and config.is_encoder_decoder:
        if model_class is not AutoModelForTextEncoding:  # is an encoder itself
            model = model.get_encoder()
    if not spread:
        model = model.to(choose_device(device))
    elif random_weights is not None:
        whole = model._no_split_modules
        plan = infer_auto_device_map(model, no_split_module_classes=whole)
        plan = device if isinstance(device, dict) else plan
        model = dispatch_model(model, plan, offload_dir=spread["offload_folder"])
    model.config.get_text_config().use_cache = False  # a window is read in one pass
    model = model.eval().requires_grad_(False)
    if head == "causal" and _sees_ahead(model):
        if not auto:
            raise ModelError(
                f"model {spec!r} ({type(model).__name__}) predicts tokens with later "
                "ones in view: its losses would mean nothing. Use head='none', or a "
                "model that is causal."
            )
        print(
            f"note: {spec} ({type(model).__name__}) predicts tokens with later ones in "
            "view: read without its head, so there is no surprisal"
        )
        head = "none"
    return LanguageModel(model, tokenizer, head)


def _auto_class(spec, config, head):
    """The Auto class to load a model with, if its architecture has such a head."""
    has = [
        name
        for name, auto_class in AUTO_CLASSES.items()
        if type(config) in auto_class._model_mapping
    ]
    if head not in has:
        advice = " or ".join(f"head={name!r}" for name in has) or "another model"
        raise ModelError(
            f"model {spec!r} is of type {config.model_type!r}, which has no {head} "
            f"head: use {advice}."
        )
    if head == "none" and type(config) in AutoModelForTextEncoding._model_mapping:
        if config.is_encoder_decoder:
            return AutoModelForTextEncoding  # T5's encoder alone
    return AUTO_CLASSES[head]


def _pretrained(spec, folder, model_class, options):
    """A model with its saved weights, those missing, and whether all are its head's."""
    try:
        model, info = model_class.from_pretrained(
            str(folder or spec), output_loading_info=True, **options, **SAFE
        )
    except SafetensorError as error:
        raise ModelError(_damaged(spec, folder, error)) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(_not_found(spec, folder, error)) from error
    missing = sorted(k for k in info["missing_keys"] if not _needless(model, k))
    prefix = f"{model.base_model_prefix}."
    below = model.base_model is model or any(k.startswith(prefix) for k in missing)
    return model, missing, not below


def _needless(model, name):
    """Whether a weight may be missing: of a pooler, or computed and never saved."""
    module = type(model.get_submodule(name.rpartition(".")[0])).__name__
    return "pooler" in name or "Sinusoidal" in module


def _refuse_missing(spec, config, head, missing, of_head):
    some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    saved = f"It was saved as {config.architectures}"
    if of_head:
        advice = f"{saved}; use head='none', which its weights have, or another model."
    else:
        advice = (
            f"{saved}. With any head these would be missing: the files are not whole, "
            "or the configuration is of another model. Download it again."
        )
    raise ModelError(
        f"model {spec!r} has no weights for {some} ({len(missing)} in all): with "
        f"head={head!r} they would be random. {advice}"
    )


def _sees_ahead(model):
    """Whether a model's predictions change with tokens after them."""
    middle = model.config.get_text_config().vocab_size // 2  # away from special tokens
    ids = middle + torch.tensor(
        [[1, 2, 3, 4], [1, 2, 3, 0]], device=input_device(model)
    )
    with torch.inference_mode():
        logits = model(ids).logits[:, :-1].float()
    moved = (logits[0] - logits[1]).abs().max()
    return bool(moved > 50 * torch.finfo(model.dtype).eps * logits.abs().max())


def _offload_folder():
    """A folder for weights that fit no memory, gone when Python ends."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="offload-", dir=cache_dir())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _own_class(spec, config, head):
    """Class of a model that was cut to widths of its own, else None."""
    try:
        own_class = resizing.saved_class(config)
    except ValueError as error:
        raise ModelError(f"model {spec!r}: {error}") from error
    if own_class and head not in ("none", _saved_head(config)):
        raise ModelError(
            f"model {spec!r} was cut as {config.architectures}: use "
            f"head={_saved_head(config)!r} or 'none', found {head!r}"
        )
    return own_class


def _saved_head(config):
    """The head that a configuration names; that of decoders if it names nothing."""
    saved = " ".join(config.architectures or [])
    causal, masked = (
        type(config) in AUTO_CLASSES[h]._model_mapping for h in ("causal", "masked")
    )
    if config.is_encoder_decoder:
        return "none"  # T5WithLMHeadModel
    if ("CausalLM" in saved or "LMHead" in saved) and causal:
        return "causal"
    if "MaskedLM" in saved or ("LMHead" in saved and masked):
        return "masked"
    return "causal" if not saved and causal and not masked else "none"


def local_copy(spec):
    """Folder with the model, or None for a hub id."""
    looks_local = spec.startswith((PACKAGE, "/", ".", "~")) or spec.endswith(".gguf")
    if not looks_local and not (project_root() / spec).exists():
        return None
    try:
        path = resolve(spec)
    except FileNotFoundError as error:
        raise ModelError(f"model {error}") from error
    return _dequantised(path, spec) if path.suffix == ".gguf" else path


def _dequantised(path, spec):
    """Folder with the dequantised copy of a GGUF file, made once for its content."""
    folder = cache_dir() / "models" / artifacts.sha256(path)[:16]
    if folder.is_dir():
        return folder
    where = {"gguf_file": path.name, **LOCAL_CODE}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path.parent,
            **where,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **where)
    except Exception as error:  # the gguf reader raises whatever numpy raises
        raise ModelError(_damaged(spec, path, error)) from error
    with artifacts.atomic(folder) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    return folder


def _damaged(spec, path, error):
    return (
        f"model {spec!r}: the file at {path} is damaged or cut short ({error}). "
        "Download or install it again."
    )


def _not_found(spec, folder, error):
    if folder is None:
        return (
            f"model {spec!r} is no file or folder here, and the Hugging Face hub did "
            f"not give it (offline, no such id, or no access): {_first_line(error)} "
            "Check the spelling, go online once, or name a local folder or .gguf file."
        )
    reason = _first_line(error)
    if "custom code" in reason:
        reason = "it needs code of its own, which is not run: take one without."
    if Path(folder).is_dir() and not (Path(folder) / "config.json").is_file():
        reason = f"{folder} has no config.json."
    return f"model {spec!r} cannot be loaded from {folder}: {reason}"


def _first_line(error):
    return str(error).strip().split("\n")[0]
