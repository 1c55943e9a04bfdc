"""Calibration: how often chance passes for coupling, for every null that is offered.

Each data set is real recorded responses (of the quickstart study's story) against
time courses that know nothing of them: noise with the spectra and the covariance of
seven real resting-state networks. The mean of n subjects whose noise is independent is
the same as one such draw, for correlation does not see its scale: what holds here holds
for a subject and for a group. A null is calibrated (``ok``) if the family-wise error at
.05 lies in its binomial interval; ``fdr`` is the mean false discovery proportion, which
without planted coupling is the share of data sets with any discovery. Where BOLD holds
the word rate and it is not removed, only ``text`` keeps the timing: others should fail.

``python benchmarks/calibration.py NAME ...`` runs some of the conditions only.
"""

import os

os.environ["TQDM_DISABLE"] = "1"  # a bar for each of thousands of nulls

import json
import sys
import time
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.ndimage
import scipy.signal
import scipy.sparse
import torch
from scipy import stats

from anbn import (
    artifacts,
    coupling,
    encoding,
    hemodynamics,
    regressors,
    simulate,
    stores,
    surrogates,
    truth,
)
from anbn.paths import stage_dir

N_DATASETS, N_PERMUTATIONS, LEVEL = 200, 99, 0.05  # 99: the level is exact
N_UNITS = 96  # of the 576 of each layer, drawn at random
N_RUNS, TR, KIND = 8, 2.0, "ffn_out"
ENCODING = "encoding, two bands, 5 folds: mean held-out r holds 0 in its interval"
N_DRIVERS, SIGNAL = 15, 0.7  # of planted networks; the signal in units of the noise
# 99 %, as there are some twenty rows
LOW, HIGH = (int(stats.binom.ppf(q, N_DATASETS, LEVEL)) for q in (0.005, 0.995))


@dataclass
class Condition:
    """How null data are made and analysed."""

    n_times: int = 280
    runs: bool = False  # eight, each with noise and drift of its own
    rate: float = 0.0  # the word rate's share in the time courses
    late: float = 0.0  # s, delay of that share behind the canonical response
    remove_rate: bool = True
    motion: bool = False  # 24 confounds like those of motion
    planted: bool = False  # coupling in three of the networks


CONDITIONS = {
    "280 volumes": Condition(),
    "144 volumes": Condition(n_times=144),
    "96 volumes": Condition(n_times=96),
    "144 volumes, 24 motion confounds": Condition(n_times=144, motion=True),
    "280 volumes, 24 motion confounds": Condition(motion=True),
    "8 runs of 35 volumes": Condition(runs=True),
    "word rate in BOLD, not removed": Condition(rate=0.5, remove_rate=False),
    "word rate in BOLD 1 s late, removed": Condition(rate=0.5, late=1.0),
    "3 of 7 networks planted": Condition(planted=True),
}


def load():
    """Responses, alignment matrix, activations of the corpora and word rate."""
    folder = stage_dir("quickstart", "01_activation_recording") / "data"
    file = folder / f"responses_model_{KIND}.npy"
    if not file.is_file():
        sys.exit(f"{file} is missing: run `make 01` first")
    n_layers, n_units = stores.open_activations(folder / "corpora", KIND).shape[1:]
    units = np.random.default_rng(0).choice(n_units, N_UNITS, replace=False)
    responses = np.load(file, mmap_mode="r").reshape(-1, n_layers, n_units)
    texts = stores.open_activations(folder / "corpora", KIND)[..., np.sort(units)]
    return {
        "responses": responses[..., np.sort(units)].reshape(len(responses), -1),
        "H": scipy.sparse.load_npz(folder / "H.npz").tocsr(),
        "texts": texts.load(),
        "rate": artifacts.read_arrays(folder / "clock.npz")["word_rate"],
    }


def draw_noise(lengths, rng):
    """Time courses of the resting networks (n_times, 7), anew for every data set."""
    rest, _ = simulate.rest_parcels()
    averages, _ = simulate.rest_networks()
    for _ in range(N_DATASETS):
        noise = [simulate.surrogate_rest(rest, n, rng) @ averages for n in lengths]
        yield hemodynamics.zscore(np.concatenate(noise))


def draw_motion(n_times, rng):
    """Six slow wanderings, their differences, and the squares of both."""
    moved = scipy.signal.lfilter([1], [1, -0.95], rng.normal(size=(n_times, 6)), 0)
    six = np.column_stack([moved, np.diff(moved, axis=0, prepend=0)])
    return np.column_stack([six, six**2])


def make(given, condition, rng):
    """Data sets of one condition, without confounds.

    Returns
    -------
    responses : array of shape (n_times, n_neurons)
    brains : array of shape (n_datasets, n_times, n_networks)
    basis : array of shape (n_times, n_kept)
    lengths : tuple of int
        Volumes of the runs.
    """
    n_times, lengths = condition.n_times, (condition.n_times,)
    if condition.runs:
        lengths = (n_times // N_RUNS,) * N_RUNS
    rate = given["rate"][:n_times, None]
    confounds = regressors.run_drift(lengths, TR)
    if condition.remove_rate:
        confounds = np.column_stack([confounds, rate])
    if condition.motion:
        confounds = np.column_stack([confounds, draw_motion(n_times, rng)])
    basis = hemodynamics.orthonormal(confounds)
    responses = hemodynamics.remove(given["responses"][:n_times], basis)
    late = scipy.ndimage.shift(rate[:, 0], condition.late / TR, mode="nearest")
    shared, brains = condition.rate * hemodynamics.zscore(late)[:, None], []
    for noise in draw_noise(lengths, rng):
        brain = noise + shared
        if condition.planted:
            groups = simulate.driver_groups(responses, N_UNITS, 3, N_DRIVERS, rng)
            brain[:, :3] += SIGNAL * groups[1]
        brains.append(hemodynamics.remove(brain, basis))
    return responses, np.stack(brains), basis, lengths


def text_nulls(given, brains, basis):
    """``coupling.text_null`` of all data sets at once: the texts are the same."""
    n_datasets, n_times, n_networks = brains.shape
    brain = coupling.unit_rows(brains.swapaxes(0, 1).reshape(n_times, -1)).T
    maxima = torch.zeros(N_PERMUTATIONS, brain.shape[1])
    counts = torch.zeros(n_datasets * coupling.N_BINS, dtype=torch.int64)
    first = coupling.N_BINS * torch.arange(n_datasets).repeat_interleave(n_networks)
    draws = surrogates.other_texts(
        given["texts"], given["H"][:n_times], N_PERMUTATIONS, np.random.default_rng(1)
    )
    for _, drawn in draws:
        for highest, responses in zip(maxima, drawn, strict=True):
            clean = hemodynamics.remove(responses, basis)
            r = (coupling.unit_rows(clean) @ brain).abs_().clamp_(max=1 - 1e-6)
            torch.maximum(highest, r.amax(0), out=highest)
            bins = (r * coupling.N_BINS).long().add_(first)
            counts += torch.bincount(bins.ravel(), minlength=len(counts))
    maxima = maxima.double().numpy().reshape(N_PERMUTATIONS, n_datasets, n_networks)
    counts = counts.numpy().reshape(n_datasets, -1)
    return [coupling.Null(maxima[:, i], counts[i]) for i in range(n_datasets)]


def nulls(kind, given, responses, brains, basis, lengths):
    """The null of every data set, one after another."""
    if kind == "text":
        yield from text_nulls(given, brains, basis)
        return
    if kind == "runs":  # one run is cut in as many
        lengths = (len(responses) // N_RUNS,) * N_RUNS
    rng = np.random.default_rng(2)
    options = {"n_permutations": N_PERMUTATIONS, "rng": rng, "run_lengths": lengths}
    for brain in brains:
        yield coupling.null(responses, brain, basis, kind=kind, **options)


def judge(claim, condition, responses, brains, basis, drawn):
    """One row: how often thresholds are passed where nothing was planted."""
    planted = np.arange(brains.shape[2]) < 3 * condition.planted
    n_free = len(responses) - basis.shape[1]
    familywise, parametric, shares, naive, power = 0, 0, [], [], []
    for brain, null in zip(brains, drawn, strict=True):
        r = coupling.synchrony(responses, brain)
        p = coupling.familywise_p(r, null.maxima) <= LEVEL
        familywise += int(p[:, ~planted].any())
        found = coupling.false_discovery_q(r, null.counts) <= LEVEL
        shares.append(truth.false_share(found, planted))
        p_r = coupling.parametric_p(r, n_free)
        parametric += int((p_r[:, ~planted] * r.size <= LEVEL).any())
        q = stats.false_discovery_control(p_r.ravel()).reshape(r.shape)
        naive.append(truth.false_share(q <= LEVEL, planted))
        power.append(p[:, planted].any(0))
    row = {
        "claim": claim,
        "n_datasets": N_DATASETS,
        "familywise": familywise / N_DATASETS,
        "n_false": familywise,
        "interval": [LOW / N_DATASETS, HIGH / N_DATASETS],
        "fdr": float(np.mean(shares)),
        "fdr_error": float(np.std(shares) / np.sqrt(N_DATASETS)),
        "parametric": parametric / N_DATASETS,
        "parametric_fdr": float(np.mean(naive)),
    }
    if condition.planted:  # the four others have less than all of the level
        row["planted_found"] = float(np.mean(power))
        return row | {"ok": familywise <= HIGH}
    return row | {"ok": LOW <= familywise <= HIGH}


def encode(given):
    """One row: held-out r of one layer's responses, which no data set knows of."""
    brains = list(draw_noise((len(given["rate"]),), np.random.default_rng(4)))
    bands = {
        "word rate": given["rate"][:, None],
        "layer": np.asarray(given["responses"][:, 15 * N_UNITS : 16 * N_UNITS]),
    }
    r = encoding.encode(bands, np.hstack(brains), tr=TR).r.reshape(N_DATASETS, -1)
    mean, half = r.mean(), stats.norm.ppf(0.995) * r.mean(1).std() / N_DATASETS**0.5
    return {
        "claim": ENCODING,
        "n_datasets": N_DATASETS,
        "mean_r": float(mean),
        "interval": [float(mean - half), float(mean + half)],
        "ok": bool(abs(mean) <= half),
    }


def main(names):
    warnings.filterwarnings("ignore", message="Sparse")
    given, rows = load(), []
    for name in names or [*CONDITIONS, "encoding"]:
        if name == "encoding":
            rows.append(encode(given))
            continue
        start, condition = time.perf_counter(), CONDITIONS[name]
        data = make(given, condition, np.random.default_rng(3))
        for kind in (*surrogates.KINDS, "text"):
            drawn = nulls(kind, given, *data)
            claim = f"{name}; null {kind}; {data[0].shape[1]} neurons"
            rows.append(judge(claim, condition, *data[:3], drawn))
            seconds = time.perf_counter() - start
            print(json.dumps(rows[-1]), f"{seconds:.0f} s", flush=True)
    print(pd.DataFrame(rows).to_string(index=False))
    if not names:
        artifacts.write_json(stage_dir("benchmarks", "calibration.json"), rows)


if __name__ == "__main__":
    main(sys.argv[1:])
