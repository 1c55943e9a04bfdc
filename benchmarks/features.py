"""How best to hand a model's responses to an encoding model: a table of ways.

The published way is 64 atoms (L1 dictionary learning of all neurons' responses). Beside
it stand more and fewer atoms, principal components of the same responses, stretches of
depth, the time courses of the model's networks (stage 02b), all neurons of a layer.
Every way is a band beside the word rate, in the same folds.

Simulated: time courses of networks that follow a population of the model (principal
components of its responses, or members of a network of 02b), few neurons, the word
rate alone, or nothing, as the mean of 20 people would show them. A network is found if
its gain over word rate, family-wise over the networks of a data set, is larger than
with the story rolled in time. Real: the six regions of ``alice``, of the group's mean,
and of people predicted with the group's weights.

Needs stages 01, 02 and 02b of the studies ``quickstart`` and ``alice``.
"""

import json
import os
import sys
import time

os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import pandas as pd

from anbn.brain import bold, regressors, simulate
from anbn.core import artifacts, params
from anbn.core.paths import stage_dir
from anbn.coupling import atoms, encoding
from anbn.stats import inference, surrogates, timeseries

N_DATASETS, N_SHIFTS, N_SUBJECTS, SIGNAL = 40, 39, 20, 0.5
KINDS = [
    "population: components",
    "population: networks",
    "few",
    "word rate",
    "nothing",
]
N_EACH = 2  # networks of each kind in a data set
LEVEL = 0.05


def load(study):
    """Responses without drift, timing, and clock of a study that ran up to 02b."""
    recorded = stage_dir(study, "01_activation_recording")
    extracted = stage_dir(study, "02_fbn_extraction")
    of_model = stage_dir(study, "02b_model_networks")
    for folder in (recorded, extracted, of_model):
        if not (folder / "manifest.json").is_file():
            sys.exit(f"{folder} has not run: `make 02 STUDY={study}` first")
    before = artifacts.read_json(recorded / "manifest.json")["params"]
    words = pd.read_parquet(recorded / "data" / "words.parquet")
    brain = artifacts.read_arrays(extracted / "data" / "brain.npz")
    n_times, tr = len(brain["group_bold"]), before["tr"]
    used, lengths = regressors.left_over([n_times], tr, 20.0)
    clock = {"n_times": n_times, "tr": tr, "start": before["first_volume"]}
    timing = regressors.story_regressors(words, ["word_rate"], **clock)
    if study == "alice":
        table = params.read("alice", "03_an_bn_coupling")["confound_table"]
        timing = timing.join(regressors.table(table, ["*"], n_times=n_times))
    drift = timeseries.orthonormal(regressors.run_drift(lengths, tr))
    responses = {
        kind: artifacts.read_array(str(recorded / "data" / f"responses_{kind}.npy"))
        for kind in ("model_ffn_out", "random_ffn_out", "model_ffn_hidden")
    }
    found = artifacts.read_arrays(of_model / "data" / "model_networks.npz")
    return {
        "responses": {
            name: timeseries.residuals(values[used].astype(float), drift)
            for name, values in responses.items()
        },
        "n_layers": artifacts.read_json(recorded / "data" / "models.json")["model"],
        "timing": timing.to_numpy()[used],
        "networks": found["networks"].reshape(len(found["networks"]), -1),
        "tr": tr,
        "used": used,
        "group": brain["group_bold"][used],
        "runs": extracted / "data" / "runs",
    }


def ways(given):
    """Bands of every way, by name, and the seconds they took."""
    x, n_layers = given["responses"]["model_ffn_out"], given["n_layers"]
    n_neurons = x.shape[1] // n_layers
    made, seconds = {"word rate": {}}, {"word rate": 0.0}

    def add(name, make):
        start = time.perf_counter()
        made[name] = make()
        seconds[name] = time.perf_counter() - start

    def learned(values, n):
        found, _ = atoms.learn(values, n, penalty=0.1, random_state=0)
        return {"atoms": found}

    for n in (64, 128, 20, 10):
        add(f"{n} atoms", lambda n=n: learned(x, n))
    for n in (5, 10, 20, 64):
        add(f"{n} components", lambda n=n: atoms.by_depth(x, n_layers, 1, n))
    add("4 stretches of depth, 5 each", lambda: atoms.by_depth(x, n_layers, 4, 5))
    z = timeseries.zscore(x)
    add("networks of 02b", lambda: {"networks": z @ np.linalg.pinv(given["networks"])})
    made["20 atoms and networks of 02b"] = made["20 atoms"] | made["networks of 02b"]
    seconds["20 atoms and networks of 02b"] = 0.0
    layer = slice(2 * n_layers // 3 * n_neurons, (2 * n_layers // 3 + 1) * n_neurons)
    add("all neurons of a layer", lambda: {"layer": z[:, layer]})
    fresh = given["responses"]["random_ffn_out"]
    add("20 atoms, random weights", lambda: learned(fresh, 20))
    return made, seconds


def simulated(given, rng):
    """Time courses of the mean of people (n_times, n_datasets * n_networks)."""
    n_times, rate = len(given["timing"]), timeseries.zscore(given["timing"])
    confounds = timeseries.orthonormal(np.column_stack([rate, np.ones(n_times)]))
    hidden = timeseries.residuals(given["responses"]["model_ffn_hidden"], confounds)
    out = timeseries.residuals(given["responses"]["model_ffn_out"], confounds)
    n_hidden = hidden.shape[1] // given["n_layers"]
    _, components = simulate.population_groups(hidden, 6, simulate.N_MEMBERS)
    z = timeseries.zscore(out)
    size = np.abs(given["networks"])
    strongest = size >= np.sort(size, 1)[:, [-simulate.N_MEMBERS]]
    of_networks = timeseries.zscore(z @ (strongest * np.sign(given["networks"])).T)
    rest, _ = simulate.rest_parcels()
    brains = []
    for _ in range(N_DATASETS):
        _, few = simulate.driver_groups(hidden, n_hidden, N_EACH, 15, rng)
        unknown = [surrogates.draw_one(few, rng, null_method="phase")]
        chosen = (
            components[:, rng.choice(components.shape[1], N_EACH, replace=False)],
            of_networks[:, rng.choice(len(size), N_EACH, replace=False)],
            few,
            np.repeat(rate[:, :1], N_EACH, 1),
            timeseries.zscore(unknown[0]),
        )
        shared = np.hstack([*chosen[:3], np.sqrt(1.25) * chosen[3], chosen[4]])
        shared[:, : 3 * N_EACH] += 0.5 * rate[:, :1]
        own = simulate.surrogate_rest(rest, n_times, rng)[:, : shared.shape[1]]
        # noise of N_SUBJECTS people, each of twice unit variance
        noise = np.sqrt(2 / N_SUBJECTS) * timeseries.zscore(own)
        brains.append(SIGNAL * shared + noise)
    return np.hstack(brains)


def gains(given, bands, target, lags):
    """Held-out r and gain over word rate, and gains with the story rolled."""
    fit = {"tr": given["tr"], "random_state": 0}
    rate = {"word rate": given["timing"]}
    alone = encoding.encode(rate, target, **fit).r
    if not bands:
        return alone, np.zeros_like(alone), np.zeros((len(lags), len(alone)))
    r = encoding.encode({**rate, **bands}, target, **fit).r
    null = []
    for lag in lags:
        rolled = {name: np.roll(values, lag, axis=0) for name, values in bands.items()}
        null.append(encoding.encode({**rate, **rolled}, target, **fit).r - alone)
    return r, r - alone, np.stack(null)


def lags(n_times, tr):
    """Of the rolled story, spread evenly, 20 s or more from where it was."""
    least = int(np.ceil(20 / tr))
    return np.linspace(least, n_times - least, N_SHIFTS).round().astype(int)


def simulation_rows():
    given = load("quickstart")
    target = simulated(given, np.random.default_rng(0))
    made, seconds = ways(given)
    shape, rows = (N_DATASETS, len(KINDS), N_EACH), []
    for name, bands in made.items():
        r, gain, null = gains(given, bands, target, lags(len(target), given["tr"]))
        both = np.concatenate([gain[None], null]).reshape(1 + N_SHIFTS, N_DATASETS, -1)
        p = np.stack([inference.max_p([*of_set.T]) for of_set in both.swapaxes(0, 1)])
        found = (p.reshape(shape) <= LEVEL).mean((0, 2))
        mean = gain.reshape(shape).mean((0, 2))
        row = {"way": name, "s to make": round(seconds[name], 1), "r": float(r.mean())}
        for kind, share, of_kind in zip(KINDS, found, mean, strict=True):
            row |= {f"{kind}: found": float(share), f"{kind}: gain": float(of_kind)}
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def alice_rows():
    given = load("alice")
    made, _ = ways(given)
    _, series = bold.reopen(given["runs"]).by_subject()
    series = [one[given["used"]] for one in series]
    fit = {"tr": given["tr"], "random_state": 0}
    rate, rows = {"word rate": given["timing"]}, []
    alone = encoding.encode(rate, given["group"], subjects=series, **fit).r_subjects
    for name, bands in made.items():
        every = lags(len(given["timing"]), given["tr"])
        r, gain, null = gains(given, bands, given["group"], every)
        p = inference.max_p([*np.concatenate([gain[None], null]).T])
        scores = encoding.encode(
            {**rate, **bands}, given["group"], subjects=series, **fit
        )
        people = scores.r_subjects.mean(1)
        more = (np.arctanh(scores.r_subjects) - np.arctanh(alone)).mean(1)
        t = more.mean() / (more.std(ddof=1) / np.sqrt(len(more))) if bands else 0.0
        rows.append(
            {
                "way": name,
                "group r": float(r.mean()),
                "gain": float(gain.mean()),
                "regions found": int((p <= LEVEL).sum()),
                "people r": float(people.mean()),
                "t of their gain": float(t) if bands else None,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


if __name__ == "__main__":
    tables = {"simulated": simulation_rows(), "alice": alice_rows()}
    for rows in tables.values():
        print(pd.DataFrame(rows).round(3).to_string(index=False))
    artifacts.write_json(stage_dir("benchmarks", "features.json"), tables)
