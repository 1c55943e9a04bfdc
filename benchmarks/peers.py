"""Record the FFN hidden activations of a Llama-like model with one peer library.

``python peers.py {nnsight|transformer_lens|bare} MODEL_FOLDER IDS.npy OUT.npy WINDOW``

The token ids are read in windows of WINDOW tokens, one at a time and without overlap;
the input of every block's ``mlp.down_proj`` goes to OUT.npy as float16 (token, layer,
neuron). ``bare`` is the forward pass alone, without hooks, and writes no OUT.npy.
Writing is timed, loading and a warm-up on 64 tokens are not. Prints one JSON line.
Needs the packages of ``peers.txt``, in an environment of their own.
"""

import json
import os
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the hub client is imported

import numpy as np
import torch
from numpy.lib.format import open_memmap

N_WARM_UP = 64  # tokens


def load_base(folder):  # without its head: the logits are never computed
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder, dtype=torch.float32).eval()


def load_bare(folder):
    model = load_base(folder)
    return lambda ids, _: model(ids, use_cache=False)


def load_nnsight(folder):
    from nnsight import NNsight

    model = NNsight(load_base(folder))

    def record(ids, write):
        with model.trace(ids, use_cache=False):
            for i, layer in enumerate(model.layers):
                write(i, layer.mlp.down_proj.input)

    return record


def load_lens(folder):
    from transformer_lens.model_bridge import TransformerBridge

    model = TransformerBridge.boot_transformers(folder, device="cpu")
    names = [f"blocks.{i}.mlp.hook_post" for i in range(model.cfg.n_layers)]
    # no attention maps, logits of one token, no key-value cache: the least it can do
    options = {"output_attentions": False, "logits_to_keep": 1, "use_cache": False}
    options |= {"names_filter": names, "return_type": None}

    def record(ids, write):
        _, cache = model.run_with_cache(ids, **options)
        for i, name in enumerate(names):
            write(i, cache[name])

    return record


PEERS = {"bare": load_bare, "nnsight": load_nnsight, "transformer_lens": load_lens}


def record_window(record, ids, out):
    def write(i, activations):
        out[:, i] = activations[0].half().numpy()

    with torch.inference_mode():
        record(torch.from_numpy(ids)[None], write)


def main(peer, folder, ids_path, out_path, window):
    record = PEERS[peer](folder)
    ids, window = np.load(ids_path).astype(np.int64), int(window)
    config = json.loads((Path(folder) / "config.json").read_text())
    shape = (len(ids), config["num_hidden_layers"], config["intermediate_size"])
    record_window(record, ids[:N_WARM_UP], np.empty((N_WARM_UP, *shape[1:]), "f2"))

    begin, out = time.perf_counter(), None
    if peer != "bare":
        open_memmap(out_path, "w+", np.float16, shape)
    for start in range(0, len(ids), window):
        rows = slice(start, start + window)
        if peer != "bare":  # mapped anew, or the whole file would count as memory
            out = open_memmap(out_path, "r+")[rows]
        record_window(record, ids[rows], out)
    seconds = time.perf_counter() - begin

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    peak /= 2**20 if sys.platform == "darwin" else 2**10
    row = {"peer": peer, "version": version("transformers" if peer == "bare" else peer)}
    row |= {"seconds": round(seconds, 2), "tokens_per_s": round(len(ids) / seconds, 1)}
    print(json.dumps(row | {"peak_rss_mb": round(peak)}))


if __name__ == "__main__":
    if len(sys.argv) != 6 or sys.argv[1] not in PEERS:
        sys.exit(__doc__)
    main(*sys.argv[1:])
