# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 AN-BN coupling
#
# **Which artificial neurons follow which brain network, beyond what chance and the word
# rate explain?**
#
# | reads | writes |
# |---|---|
# | stage 01 (responses, word rate), stage 02 (time courses, group BOLD, ceiling) | `data/synchrony.npz`: synchrony (neurons x networks), null, threshold · `data/atoms.npz`: atoms and codes · `data/encoding.npz`: held-out scores (voxels) · `data/significant.parquet` |
#
# Cost: about one minute on two CPU cores for 46,080 neurons, 14 networks, 3,700 voxels.
#
# Synchrony and anchors: Liu et al. 2023 (arXiv 2303.14871). Atoms as regressors of
# voxel-wise encoding: Sun et al. 2024 (arXiv 2410.19542). The null, the family-wise
# threshold, the held-out scores and the controls are this project's.

# %% tags=["parameters"]
# fmt: off
study: str = "quickstart"  # name of the output folder
kind: str = "ffn_hidden"  # neurons whose synchrony is measured (one of ffn_hidden, ffn_out, qk, attn_out, hidden)
remove_word_rate: bool = True  # whether word rate counts as a confound of synchrony
n_permutations: int = 200  # phase-randomised surrogates (20 to 1000000)
level: float = 0.05  # family-wise error rate (0.0001 to 0.5)
atoms_kind: str = "ffn_out"  # neurons that the atoms are learned from (one of ffn_hidden, ffn_out, qk, attn_out, hidden)
n_atoms: int = 64  # atoms of the dictionary (2 to 10000)
atom_alpha: float = 0.1  # L1 penalty for responses of unit norm (0.000001 to 1)
n_folds: int = 5  # contiguous outer folds of encoding (2 to 50)
gap: float = 16.0  # s left out between training and test time (0 to 1000)
shift: int = 60  # volumes by which the story is shifted for a control (1 to 100000)
min_ceiling: float = 0.5  # score voxels whose noise ceiling is at least this (0 to 1)
batch_size: int = 20  # surrogates a matrix product, bounds the memory (1 to 100000)
seed: int = 0  # of surrogates and dictionary (0 to 4294967295)
# fmt: on

# %%
import nibabel
import numpy as np
import pandas as pd

from anbn import (
    artifacts,
    coupling,
    encoding,
    hemodynamics,
    intersubject,
    networks,
    plots,
)
from anbn.params import current

# %%
settings = current("03_an_bn_coupling", globals())
recorded, manifest01 = artifacts.stage_inputs(study, "01_activation_recording")
extracted, manifest02 = artifacts.stage_inputs(study, "02_fbn_extraction")
assert manifest02["params"]["same_story"], "stage 02 ran with same_story: false"
out = artifacts.begin_stage(study, "03_an_bn_coupling")
rng = np.random.default_rng(seed)
simulated = manifest02["params"]["bold"] == "simulated"
note = " (simulated BOLD)" if simulated else ""

# %% [markdown]
# ## Load
#
# Network time courses are averaged over subjects; drift and word rate are removed from
# neurons and networks alike by one projection.

# %%
tr, n_layers = manifest01["params"]["tr"], manifest01["summary"]["n_layers"]
layers = manifest01["params"]["layers"] or list(range(n_layers))
rate = artifacts.read_arrays(recorded / "data" / "clock.npz")["word_rate"][:, None]
brain = artifacts.read_arrays(extracted / "data" / "brain.npz")
names = artifacts.read_json(extracted / "data" / "names.json")
group = hemodynamics.zscore(
    hemodynamics.zscore(brain["timecourses"].swapaxes(0, 1).astype(float)).mean(1)
)
responses = artifacts.read_array(recorded / "data" / f"responses_model_{kind}.npy")
drift = hemodynamics.drift(len(group), tr, manifest02["params"]["high_pass"])
drift_only = hemodynamics.orthonormal(drift)
with_rate = hemodynamics.orthonormal(np.column_stack([drift, rate]))
basis = with_rate if remove_word_rate else drift_only
print(f"responses {responses.shape}, networks {group.shape}{note}")
print(f"confounds: {basis.shape[1]} (drift{', word rate' * remove_word_rate})")

# %% [markdown]
# ## Compute: synchrony
#
# Pearson correlation of every neuron with every network, without and with the word rate
# removed; then the same for phase-randomised networks, which keep the spectrum that makes
# slow signals correlate by chance. The largest |r| over all neurons and networks in each
# surrogate gives the family-wise threshold.

# %%
before = coupling.synchrony(hemodynamics.remove(responses, drift_only), group)
clean = hemodynamics.remove(responses, basis)
clean_group = hemodynamics.remove(group, basis)
synchrony = coupling.synchrony(clean, clean_group)
drawing = {"n_permutations": n_permutations, "batch_size": batch_size, "rng": rng}
maxima = coupling.maximum_null(clean, clean_group, basis, **drawing)
threshold = coupling.familywise_threshold(maxima, level=level)
significant = np.abs(synchrony) >= threshold
print(f"family-wise threshold |r| = {threshold:.3f}")
print(f"neurons beyond it: {significant.any(1).sum()} of {len(synchrony)}")

# %%
table = pd.DataFrame(
    {
        "largest |r|, drift removed": np.abs(before).max(0),
        "largest |r|, word rate removed too": np.abs(synchrony).max(0),
        "null of this network, 95 %": np.percentile(maxima, 95, axis=0),
        "significant neurons": significant.sum(0),
        "p of the best": coupling.familywise_p(np.abs(synchrony).max(0), maxima),
    },
    index=names,
)
table.round(3)

# %% [markdown]
# ## Look

# %%
ax = plots.plot_synchrony_by_layer(synchrony, layers, threshold, maxima, names)
ax.set_title(f"The most synchronous neuron of each layer, word rate removed{note}")
artifacts.write_figure(out, "synchrony_by_layer", ax.figure)

# %% [markdown]
# The grey band is where the largest of *all* neurons and networks falls when the brain's
# phases are random; only what stands above the dashed line is coupling. Note how high
# chance reaches: with tens of thousands of neurons and slow signals, |r| of .4 is nothing.

# %%
best_network, best_neuron = coupling.anchors(synchrony)
of_layer = best_network.reshape(n_layers, -1)
counts = np.stack([(of_layer == k).sum(1) for k in range(len(names))], 1)
ax = plots.plot_anchors(counts, layers, names)
ax.set_title(f"The network each neuron follows best, by layer{note}")
artifacts.write_figure(out, "anchors", ax.figure)
n_units = responses.shape[1] // n_layers
best = [f"layer {layers[i // n_units]}, unit {i % n_units}" for i in best_neuron]
mutual = best_network[best_neuron] == np.arange(len(names))
r = synchrony[best_neuron, np.arange(len(names))]
pd.DataFrame({"best neuron": best, "r": r, "mutual": mutual}, index=names).round(3)

# %% [markdown]
# Anchors go both ways (Liu et al. 2023): a column of the figure says how a layer's neurons
# divide among networks, the table which neuron anchors each network. Every neuron has an
# anchor, by chance too: the figure describes, the threshold above decides.

# %% [markdown]
# ## Compute: atoms and encoding
#
# 64 atoms are learned from the responses of all neurons (no brain data involved), for the
# model and for each comparison model. Banded ridge regression (a penalty for word rate,
# another for the atoms) then predicts held-out BOLD from word rate alone, and from both.

# %%
models = ["model", *manifest01["params"]["comparison_models"]]
atoms, codes = {}, {}
for name in map(artifacts.slug, models):
    file = recorded / "data" / f"responses_{name}_{atoms_kind}.npy"
    cleaned = hemodynamics.remove(artifacts.read_array(file), drift_only)
    atoms[name], codes[name] = networks.atoms(
        cleaned, n_atoms, alpha=atom_alpha, random_state=seed
    )
    used = (codes[name] != 0).mean()
    print(
        f"{name}: atoms {atoms[name].shape}, codes {codes[name].shape}, {used:.1%} non-zero"
    )

# %%
clean_rate = hemodynamics.remove(rate, drift_only)
shifted = np.roll(atoms["model"], shift, axis=0)
bands = {"word rate": [clean_rate], "model shifted + word rate": [clean_rate, shifted]}
for name in sorted(atoms, key=lambda name: (name == "model", name != "random")):
    bands[f"{name} + word rate"] = [clean_rate, atoms[name]]
options = {"n_folds": n_folds, "gap": round(gap / tr), "random_state": seed}
target = brain["group_bold"]
scores = {name: encoding.encode(b, target, **options) for name, b in bands.items()}

# %%
scored = brain["ceiling"] >= min_ceiling
assert scored.any(), f"no voxel or region has a noise ceiling of {min_ceiling}"
means = pd.Series({name: values[scored].mean() for name, values in scores.items()})
ceiling = brain["ceiling"][scored].mean()
print(f"{scored.sum()} of {len(scored)} voxels or regions; ceiling {ceiling:.3f}")
print(means.round(3).to_string())

# %% [markdown]
# A model must earn its place: above word rate alone, above the same architecture with
# random weights, and above its own atoms shifted in time.

# %%
if len(scored) <= 20:
    ax = plots.plot_encoding_bars(scores, names, brain["ceiling"])
    ax.set_title(f"Encoding of the group mean in held-out time{note}")
else:
    mask = nibabel.load(extracted / "data" / "mask.nii.gz")
    gain = scores["model + word rate"] - scores["word rate"]
    ax = plots.plot_encoding_map(gain, mask)
    ax.set_title(f"Gain of atoms over word rate alone, held-out r{note}", fontsize=11)
artifacts.write_figure(out, "encoding", ax.figure)

# %%
kept = {name: values[scored] for name, values in scores.items()}
ax = plots.plot_score_distribution(kept, brain["ceiling"][scored])
ax.set_title(
    f"Held-out scores of the voxels or regions with a ceiling above {min_ceiling}{note}"
)
artifacts.write_figure(out, "encoding_scores", ax.figure)

# %% [markdown]
# Read the second figure from the bottom: word rate, the shifted story and random weights
# are what a useless model would reach. The last row is the ceiling: the correlation that
# the true signal would reach with this group mean, from how well subjects agree.

# %% [markdown]
# ## Check
#
# Against the truth, where BOLD was simulated. A planted network counts as found if a map
# carries its name and a neuron couples with it beyond the family-wise threshold; another
# named network with such a neuron counts as false. Components without a name are counted
# apart: ICA can split a fragment off a driven network, which then couples as well.

# %%
score = {}
if simulated:
    truth = artifacts.read_json(extracted / "data" / "truth.json")
    arrays = artifacts.read_arrays(extracted / "data" / "truth.npz")
    maps = intersubject.read_maps(extracted / "data")
    score = coupling.score_truth(
        synchrony, threshold, names, maps, truth, arrays["maps"]
    )
    print(pd.Series(score).round(3).to_string())

# %% [markdown]
# A second check holds for any data: of fresh surrogates, which the threshold was not taken
# from, about `level` may have any neuron beyond it.

# %%
fresh = coupling.maximum_null(clean, clean_group, basis, **drawing)
n_beyond = int((fresh.max(1) >= threshold).sum())
print(f"fresh surrogates beyond the threshold: {n_beyond} of {n_permutations}")
assert n_beyond <= 3 * level * n_permutations + 3, "the threshold is not calibrated"

# %% [markdown]
# ## Write

# %%
artifacts.write_arrays(
    out / "data" / "synchrony.npz",
    synchrony=synchrony.reshape(n_layers, n_units, -1),
    maxima=maxima,
    threshold=threshold,
)

# %%
neuron, network = np.nonzero(significant)
found = pd.DataFrame({"layer": neuron // n_units, "unit": neuron % n_units})
found = found.assign(network=[names[k] for k in network], r=synchrony[neuron, network])
artifacts.write_table(out / "data" / "significant.parquet", found)
artifacts.write_arrays(
    out / "data" / "atoms.npz", atoms=atoms["model"], codes=codes["model"]
)
artifacts.write_arrays(
    out / "data" / "encoding.npz",
    **{artifacts.slug(name): values for name, values in scores.items()},
    ceiling=brain["ceiling"],
)

# %%
summary = {
    "n_significant_neurons": int(significant.any(1).sum()),
    "fwe_threshold": threshold,
    "max_synchrony": float(np.abs(synchrony).max()),
    "encoding_r_mean": means["model + word rate"],
    "encoding_r_baseline_wordrate": means["word rate"],
    "encoding_r_shifted": means["model shifted + word rate"],
    "noise_ceiling_mean": float(ceiling),
    **score,
}
names_of_others = {n: f"encoding_r_{n}" for n in atoms if n not in ("model", "random")}
names_of_others |= {"random": "encoding_r_random_model"} if "random" in atoms else {}
summary |= {key: means[f"{n} + word rate"] for n, key in names_of_others.items()}
artifacts.finish_stage(out, summary, params=settings, simulated=manifest02["simulated"])
