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

from anbn import artifacts, reshaping
from anbn.paths import PACKAGE, cache_dir, project_root, resolve

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
        none.
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
    head = _saved_head(config) if head == "auto" else head
    auto_class = AUTO_CLASSES[head]
    if head == "none" and config.is_encoder_decoder:
        auto_class = AutoModelForTextEncoding  # T5's encoder alone
    own_class = _own_class(spec, config, head)
    auto_class = own_class or auto_class
    spread = {}
    if isinstance(device, dict) or device == "balanced":
        spread = {"device_map": device, "offload_folder": _offload_folder()}
    if random_weights is not None:
        torch.manual_seed(random_weights)
        code = {} if own_class else LOCAL_CODE  # Auto classes alone take it
        model = auto_class.from_config(config, dtype=getattr(torch, dtype), **code)
    else:
        try:
            model, info = auto_class.from_pretrained(
                name,
                dtype=getattr(torch, dtype),
                output_loading_info=True,
                **spread,
                **SAFE,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(_not_found(spec, folder, error)) from error
        except Exception as error:  # safetensors' own error has no public base class
            if type(error).__name__ != "SafetensorError":
                raise
            raise ModelError(_damaged(spec, folder, error)) from error
        missing = sorted(k for k in info["missing_keys"] if "pooler" not in k)
        if missing:
            raise ModelError(
                f"model {spec!r} has no weights for {missing[:3]}: with head={head!r} "
                f"they would be random. It was saved as {config.architectures}; use "
                f"head={_saved_head(config)!r} or another model."
            )
    if own_class and head == "none":
        model = model.base_model
    if not spread:
        model = model.to(choose_device(device))
    elif random_weights is not None:
        spread["device_map"] = device if isinstance(device, dict) else None
        model = _dispatch(model, **spread)
    model.config.get_text_config().use_cache = False  # a window is read in one pass
    return LanguageModel(model.eval().requires_grad_(False), tokenizer, head)


def _dispatch(model, *, device_map, offload_folder):
    plan = device_map or infer_auto_device_map(
        model, no_split_module_classes=model._no_split_modules
    )
    return dispatch_model(model, plan, offload_dir=offload_folder)


def _offload_folder():
    """A folder for weights that fit no memory, gone when Python ends."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="offload-", dir=cache_dir())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _own_class(spec, config, head):
    """Class of a model that was cut to widths of its own, else None."""
    try:
        own_class = reshaping.saved_class(config)
    except ValueError as error:
        raise ModelError(f"model {spec!r}: {error}") from error
    if own_class and head not in ("none", _saved_head(config)):
        raise ModelError(
            f"model {spec!r} was cut as {config.architectures}: use "
            f"head={_saved_head(config)!r} or 'none', found {head!r}"
        )
    return own_class


def _saved_head(config):
    saved = " ".join(config.architectures or [])
    if "CausalLM" in saved or "LMHead" in saved:
        return "causal"
    return "masked" if "MaskedLM" in saved else "none"


def local_copy(spec):
    """Folder with the model, or None for a hub id."""
    looks_local = spec.startswith((PACKAGE, "/", ".", "~")) or spec.endswith(".gguf")
    if looks_local or (project_root() / spec).exists():
        try:
            path = resolve(spec)
        except FileNotFoundError as error:
            raise ModelError(f"model {error}") from error
        return _dequantised(path, spec) if path.suffix == ".gguf" else path
    return None


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
