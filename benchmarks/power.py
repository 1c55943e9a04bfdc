"""Power: what of a planted coupling is found, on simulated BOLD.

Group means over subjects, in three networks driven by real recorded responses and four
that follow noise of the same spectrum, in the noise of ``simulate.simulate_bold``. The
noise of n subjects is independent, so that its mean is drawn at once, 1 / sqrt(n) as
large. Networks' time courses and maps come by dual regression from the true maps:
decomposition, which would add errors of its own, has no part in this, and a map is
recovered even where nothing is shared, from what a network does in each subject. One
setting varies at a time.
"""

import json
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy.ndimage
from nilearn.datasets import load_mni152_brain_mask
from scipy import stats
from tqdm import tqdm

from anbn.brain import simulate, templates
from anbn.core import artifacts
from anbn.core.paths import stage_dir
from anbn.coupling import synchrony
from anbn.stats import surrogates, timeseries

N_DATASETS, N_DRAWS, LEVEL = 40, 99, 0.05  # a point
TR, RESOLUTION, N_DRIVERS, RATE_SHARE, KIND = 2.0, 8, 15, 0.5, "ffn_out"
N_UNITS, EVERY = 576, 3  # of a layer; every third layer
BASE = {"signal": 0.3, "n_subjects": 20, "n_times": 287, "late": 0.0}
POINTS = {
    "signal": (0.0, 0.03, 0.06, 0.1, 0.2, 0.3, 0.5),
    "n_subjects": (1, 2, 5, 10, 20, 40),
    "n_times": (72, 108, 144, 216, 287),
    "late": (-2.0, -1.0, 0.0, 1.0, 2.0),
}
OTHERS = [*simulate.POPULATION, *simulate.WORD_RATE, *simulate.NOTHING]
LABELS = {
    "signal": "shared signal / one subject's noise (s.d. / s.d.)",
    "n_subjects": "subjects",
    "n_times": "length of the story (volumes of 2 s)",
    "late": "delay of the true response behind the assumed one (s)",
}
SCORES = {
    "found": "planted networks found",
    "drivers": "drivers among the top 1 % of neurons",
    "dice": "overlap of maps (Dice)",
    "false": "data sets with a false network",
}


def load():
    """Responses of every third layer, word rate, and what voxels are made of."""
    folder = stage_dir("quickstart", "01_activation_recording") / "data"
    file = folder / f"responses_model_{KIND}.npy"
    if not file.is_file():
        sys.exit(f"{file} is missing: run `make 01` first")
    responses = artifacts.read_array(file)
    responses = responses.reshape(len(responses), -1, N_UNITS)[:, ::EVERY]
    mask = load_mni152_brain_mask(resolution=RESOLUTION)
    atlas, names = templates.seitzman_templates(mask, sigma=1.2 * RESOLUTION)
    chosen = [*simulate.FEW, *OTHERS]
    rest, centres = simulate.rest_parcels()
    return {
        "responses": responses.reshape(len(responses), -1),
        "rate": artifacts.read_arrays(folder / "clock.npz")["word_rate"],
        "maps": atlas[[names.index(name) for name in chosen]],
        "rest": rest,
        "weights": simulate.spatial_weights(mask, centres, sigma=1.5 * RESOLUTION),
    }


def group_bold(given, signals, rate, *, signal, n_subjects, late, rng):
    """Mean over subjects (n_times, n_voxels), without drift."""
    maps, rest, n_times = given["maps"], given["rest"], len(signals)
    n_driven, n_networks = len(simulate.FEW), len(maps)
    copies = [signals[:, [i % n_driven]] for i in range(n_networks - n_driven)]
    undriven = [surrogates.draw_one(copy, rng, null_method="phase") for copy in copies]
    shared = timeseries.zscore(np.hstack([signals, *undriven]))
    shared += RATE_SHARE * timeseries.zscore(rate)[:, None]
    shared = scipy.ndimage.shift(shared, (late / TR, 0), mode="nearest")
    noise = simulate.surrogate_rest(rest, n_times, rng) @ given["weights"]
    noise = np.sqrt(0.75) * timeseries.zscore(noise)
    noise += np.sqrt(0.25) * rng.normal(size=noise.shape)
    parcels = rng.choice(rest.shape[1], n_networks, replace=False)
    own = simulate.surrogate_rest(rest, n_times, rng)[:, parcels]
    noise += timeseries.zscore(own) @ maps
    return signal * shared @ maps + noise / np.sqrt(n_subjects)


def data_set(given, *, signal, n_subjects, n_times, late, rng):
    """Scores of one simulated data set."""
    rate = given["rate"][:n_times]
    drift = timeseries.drift(n_times, TR)
    basis = timeseries.orthonormal(np.column_stack([drift, rate]))
    responses = timeseries.residuals(given["responses"][:n_times], basis)
    n_driven = len(simulate.FEW)
    drivers, signals = simulate.driver_groups(
        responses, N_UNITS, n_driven, N_DRIVERS, rng
    )
    options = {"signal": signal, "n_subjects": n_subjects, "late": late, "rng": rng}
    bold = timeseries.residuals(group_bold(given, signals, rate, **options), basis)
    timecourses = np.linalg.lstsq(given["maps"].T, bold.T)[0].T
    maps = np.linalg.lstsq(timeseries.zscore(timecourses), bold)[0]
    r = synchrony.synchrony(responses, timecourses)
    options = {"n_draws": N_DRAWS, "rng": rng}
    null = synchrony.null(responses, timecourses, basis, **options)
    threshold = synchrony.familywise_threshold(null.maxima, level=LEVEL)
    planted = {"few": simulate.FEW, "population": [], "drivers": drivers}
    names = [*simulate.FEW, *OTHERS]
    score = simulate.score_synchrony(r, threshold, names, maps, planted, given["maps"])
    return {
        "found": score["planted_networks_found"] / n_driven,
        "drivers": score["driver_recall_top1pct"],
        "dice": score["map_dice_mean"],
        "false": float(score["false_networks_found"] > 0),
    }


def plot(table):
    """Four panels, one a setting."""
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), sharey=True)
    for ax, (name, label) in zip(axes.flat, LABELS.items(), strict=True):
        rows = table[table["setting"] == name]
        for key, style in zip(SCORES, ("o-", "s-", "^-", "x-"), strict=True):
            colour = "tab:red" if key == "false" else None
            ax.plot(rows["value"], rows[key], style, color=colour, label=SCORES[key])
        ax.axhline(LEVEL, color="0.5", ls="--", lw=0.8, label="level of the test, .05")
        ax.set(xlabel=label, ylim=(-0.03, 1.05))
        if name == "n_subjects":
            ax.set_xscale("log")
            ax.set_xticks(rows["value"], rows["value"].astype(int))
            ax.minorticks_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("share, or Dice (0 to 1)")
    base = f"signal {BASE['signal']}, {BASE['n_subjects']} subjects, "
    base += f"{BASE['n_times']} volumes"
    figure.suptitle(f"What of a planted coupling is found (simulated BOLD; {base})")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.legend(handles, labels, loc="lower center", ncols=3, fontsize=9)
    return figure


def main():
    given, rows = load(), []
    for name, values in POINTS.items():
        for value in tqdm(values, name):
            # other data at every point: their errors are independent
            options = {**BASE, name: value, "rng": np.random.default_rng(len(rows))}
            scores = [data_set(given, **options) for _ in range(N_DATASETS)]
            means = pd.DataFrame(scores).mean().to_dict()
            row = {"claim": f"simulated, {LABELS[name]}: {value:g}", "setting": name}
            rows.append(row | {"value": value, "n_datasets": N_DATASETS} | means)
            print(json.dumps(rows[-1]), flush=True)
    table = pd.DataFrame(rows)
    print(table.drop(columns="claim").round(3).to_string(index=False))
    right = table[(table["setting"] != "late") | (table["value"] == 0)]
    n, n_false = len(right) * N_DATASETS, round(right["false"].sum() * N_DATASETS)
    high = stats.binom.ppf(0.995, n, LEVEL) / n
    row = {
        "claim": "simulated: data sets with a false network, true response known",
        "n_datasets": n,
        "false": n_false / n,
        "bar": high,
        "ok": bool(n_false / n <= high),
    }
    print(json.dumps(row))
    artifacts.write_json(stage_dir("benchmarks", "power.json"), [*rows, row])
    with artifacts.atomic(stage_dir("benchmarks", "power.png")) as temporary:
        plot(table).savefig(temporary, dpi=110)


if __name__ == "__main__":
    main()
