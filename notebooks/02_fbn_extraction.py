# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 FBN extraction
#
# **Which networks does the brain form while it listens, and which does the model form
# while it reads?** One question for both sides: a brain is (volumes x voxels), a model is
# (tokens x neurons), and a network is a group of voxels or neurons that vary together.
#
# | reads | writes |
# |---|---|
# | stage 01 (words, clock, activations); BOLD: simulated, the Alice regions, or files | `data/brain.npz`: time courses (subjects x times x networks), group BOLD, noise ceiling · `data/maps.nii.gz`, `data/mask.nii.gz` · `data/names.json` · `data/model_networks.npz` · for simulated BOLD `data/bold/`, `data/truth.npz`, `data/truth.json` |
#
# Cost: about a minute on two CPU cores for 20 subjects of 290 volumes at 8 mm.
#
# Methods: CanICA (Varoquaux et al. 2010) by nilearn; networks of neurons by FastICA (Liu
# et al. 2025, arXiv 2502.20408), with signs fixed; template names from Seitzman et al. 2020.

# %% tags=["parameters"]
# fmt: off
study: str = "quickstart"  # name of the output folder
bold: str = "simulated"  # where BOLD comes from (one of simulated, alice, files)
bold_files: list[str] = []  # for files: one 4D NIfTI or one table of regions a subject
mask_file: str = ""  # for NIfTI files: mask image; empty to compute one
alice_radius: str = "6mm"  # for alice: radius of the regions (one of 6mm, 10mm)
n_subjects: int = 20  # for simulated: number of subjects (3 to 1000)
signal: float = 0.38  # for simulated: s.d. of the shared signal, noise is 1 (0 to 10)
n_drivers: int = 15  # for simulated: neurons that drive each driven network (1 to 500)
resolution: int = 8  # for simulated: mm, voxel size (4 to 12)
high_pass: float = 128.0  # s, slower drift is removed (20 to 100000)
n_brain_networks: int = 14  # components of CanICA (2 to 200)
min_template_r: float = 0.4  # a map below this correlation with its template stays unnamed (0 to 1)
n_model_networks: int = 10  # components of the model (2 to 1000)
alpha: float = 3.6  # z above which a neuron belongs to a network (0 to 20)
seed: int = 0  # of simulation and decompositions (0 to 4294967295)
# fmt: on

# %%
import nibabel
import numpy as np
import pandas as pd
from nilearn.decomposition import CanICA
from nilearn.masking import apply_mask, unmask

from anbn import (
    artifacts,
    hemodynamics,
    intersubject,
    matching,
    networks,
    plots,
    simulate,
    stores,
    templates,
)
from anbn import bold as bold_data
from anbn.params import current

# %%
settings = current("02_fbn_extraction", globals())
recorded, manifest01 = artifacts.stage_inputs(study, "01_activation_recording")
out = artifacts.begin_stage(study, "02_fbn_extraction")
rng = np.random.default_rng(seed)
simulated = bold == "simulated"
note = " (simulated BOLD)" if simulated else ""

# %% [markdown]
# ## The brain: load
#
# `quickstart` simulates volumes: some networks of Seitzman's coordinates are driven
# through the haemodynamic response by groups of real neurons of the model, others by
# noise with the same spectrum; each subject adds activity of its own, noise with the
# spectrum and spatial covariance of real rest, and drift. What was planted goes to
# `truth.npz` and `truth.json`, which only the last section of notebook 03 opens.

# %%
tr, n_times = manifest01["params"]["tr"], manifest01["summary"]["n_times"]
rate = artifacts.read_arrays(recorded / "data" / "clock.npz")["word_rate"]
drift = hemodynamics.drift(n_times, tr, high_pass)
files = bold_files
if simulated:
    ffn_hidden = artifacts.read_array(
        recorded / "data" / "responses_model_ffn_hidden.npy"
    )
    basis = hemodynamics.orthonormal(np.column_stack([drift, rate]))
    n_units = ffn_hidden.shape[1] // manifest01["summary"]["n_layers"]
    options = {"n_subjects": n_subjects, "signal": signal, "n_drivers": n_drivers}
    options |= {"resolution": resolution, "tr": tr, "rng": rng}
    clean = hemodynamics.remove(ffn_hidden, basis)
    truth = simulate.simulate_bold(clean, n_units, rate, **options)
    files = simulate.write_simulation(truth, out / "data")

# %%
if bold == "alice":
    subjects, region_names, mask = *bold_data.load_alice(alice_radius), None
else:
    mask_path = str(out / "data" / "mask.nii.gz") if simulated else mask_file
    subjects, region_names, mask = bold_data.load_subjects(files, mask_path)
subjects = {
    name: bold_data.check_bold(data, name, n_times=n_times)
    for name, data in subjects.items()
}
shape = next(iter(subjects.values())).shape
print(
    f"{len(subjects)} subjects, {shape[0]} volumes x {shape[1]} voxels or regions{note}"
)

# %% [markdown]
# ## The brain: compute
#
# Drift slower than `high_pass` is removed by projection and every voxel is standardised.
# Volumes are then decomposed by group ICA; tables of regions are taken as they are.

# %%
clean = bold_data.clean(subjects.values(), hemodynamics.orthonormal(drift))
if mask is None:
    names, maps, timecourses = region_names, np.eye(clean.shape[2]), clean
else:
    options = {"smoothing_fwhm": None, "threshold": None, "n_init": 3}
    options |= {"standardize": "zscore_sample", "random_state": seed}
    canica = CanICA(n_components=n_brain_networks, mask=mask, **options)
    canica.fit([unmask(subject, mask) for subject in clean])
    maps = apply_mask(canica.components_img_, mask)
    timecourses = intersubject.subject_timecourses(clean, maps)
print(f"{len(maps)} networks; (subjects, times, networks): {timecourses.shape}")

# %%
if mask is not None:
    sigma = 1.2 * np.abs(np.diag(mask.affine))[:3].max()
    known, template_names = templates.seitzman_templates(mask, sigma=sigma)
    names, similarity = templates.label(
        maps, known, template_names, min_correlation=min_template_r
    )
    titles = [
        f"{name} (r = {r:.2f})" for name, r in zip(names, similarity, strict=True)
    ]
    figure = plots.plot_maps(maps, mask, titles)
    figure.suptitle(
        f"Networks of the brain, and correlation with their template{note}", y=0.95
    )
    artifacts.write_figure(out, "brain_networks", figure)

# %% [markdown]
# Each panel cuts a network's map at its peak (z in mm). A map is named after the Seitzman
# template that an optimal one-to-one assignment gives it; maps that fit none stay
# unlabelled, which is where noise and artefacts end up. Colours: red above, blue below
# zero, the strongest tenth of the voxels. (FastICA may warn of starts that did not
# converge: CanICA keeps the best of three.)

# %% [markdown]
# ## The brain: look
#
# Do subjects share anything? Leave-one-out inter-subject correlation (ISC) is what a story
# drives alike in everyone, and so bounds what any model of the story can explain.

# %%
isc = intersubject.correlation(timecourses)
ax = plots.plot_subjects(isc, names, "leave-one-out\ninter-subject correlation (r)")
ax.set_title(f"What subjects share, drift removed{note}")
artifacts.write_figure(out, "intersubject_correlation", ax.figure)
table = pd.DataFrame({"drift removed": isc.mean(0)}, index=names)
if mask is None:
    line = np.column_stack([np.ones(n_times), np.arange(n_times)])
    for column, trend in [("raw", line[:, :1]), ("linear trend removed", line)]:
        other = bold_data.clean(subjects.values(), hemodynamics.orthonormal(trend))
        table[column] = intersubject.correlation(other).mean(0)
print(table.round(3).to_string())

# %% [markdown]
# Dots are subjects. Networks far above zero follow the story (or anything else that all
# share, the word rate first of all); networks near zero go their own way in everyone.

# %%
group = hemodynamics.zscore(hemodynamics.zscore(timecourses.swapaxes(0, 1)).mean(1))
steps = np.arange(-10, 11)
clean_rate = hemodynamics.remove(rate, hemodynamics.orthonormal(drift))
lagged = intersubject.lagged_correlation(group, clean_rate, steps)
ax = plots.plot_lag_profile(steps * tr, lagged, names)
ax.set_title(f"Group mean against word rate{note}")
artifacts.write_figure(out, "word_rate_lags", ax.figure)
peak = steps[np.abs(lagged).argmax(0)] * tr
profile = pd.DataFrame(
    {"r at 0 s": lagged[steps == 0][0], "peak lag (s)": peak}, index=names
)
print(profile.round(3).to_string())

# %% [markdown]
# If clock and haemodynamic response are right, networks that follow speech peak at a lag
# of 0 s, and lags of several volumes are the control. A common peak elsewhere means a
# wrong `first_volume` in stage 01: do not go on before it is understood.

# %% [markdown]
# ## The model
#
# The same question for neurons: independent components of (tokens x neurons) over text of
# several corpora. Signs are fixed (positive skew) before the threshold is applied.

# %%
corpora = stores.open_activations(recorded / "data" / "corpora", "ffn_out")
n_layers = corpora.sizes["layer"]
flat = corpora.to_numpy().astype(np.float32).reshape(corpora.sizes["token"], -1)
model_networks = networks.ica(flat, n_model_networks, random_state=seed)
members = networks.threshold(model_networks.networks, alpha)
counts = members.reshape(n_model_networks, n_layers, -1).sum(2)
ax = plots.plot_layer_histogram(counts)
ax.set_title(f"Neurons with z > {alpha} in each of the model's networks (ffn_out)")
artifacts.write_figure(out, "model_networks", ax.figure)
explained = model_networks.explained
pd.DataFrame(
    {"neurons": members.sum(1), "variance explained (%)": 100 * explained}
).round(2).T

# %% [markdown]
# Networks with very few neurons that explain much variance are *massive activations*: a
# handful of neurons with values hundreds of times larger than the rest, mostly on first
# tokens. Stage 04 reports what they do apart from all else.

# %% [markdown]
# ## Check
#
# Networks of the same data in another order of tokens and from another seed must be the
# same ones: the best matching |r| of each network tells which are stable.

# %%
order = rng.permutation(len(flat))
again = networks.ica(flat[order], n_model_networks, random_state=seed + 1)
stability = np.abs(matching.correlate(model_networks.networks, again.networks)).max(1)
print("best match of each model network in a second run, |r|:", stability.round(3))
assert np.isfinite(timecourses).all() and np.isfinite(model_networks.networks).all()

# %% [markdown]
# ## Write

# %%
artifacts.write_arrays(
    out / "data" / "brain.npz",
    timecourses=timecourses.astype(np.float32),
    group_bold=hemodynamics.zscore(clean.mean(0)).astype(np.float32),
    ceiling=intersubject.group_noise_ceiling(clean),
)
artifacts.write_json(out / "data" / "names.json", names)
artifacts.write_arrays(
    out / "data" / "model_networks.npz",
    networks=model_networks.networks.reshape(n_model_networks, n_layers, -1),
    stability=stability,
)

# %%
if mask is not None:
    with artifacts.atomic(out / "data" / "maps.nii.gz") as temporary:
        nibabel.save(unmask(maps.astype(np.float32), mask), temporary)
    with artifacts.atomic(out / "data" / "mask.nii.gz") as temporary:
        nibabel.save(mask, temporary)

# %%
artifacts.write_table(out / "data" / "networks.parquet", table.join(profile))
summary = {
    "n_subjects": len(subjects),
    "n_networks_brain": len(names),
    "n_networks_labelled": sum(not name.startswith("unlabelled") for name in names),
    "n_networks_model": n_model_networks,
    "n_networks_model_stable": int((stability > 0.9).sum()),
    "isc_mean": isc.mean(),
    "word_rate_r_max": np.abs(lagged[steps == 0]).max(),
}
artifacts.finish_stage(
    out, summary, params=settings, simulated=simulated or manifest01["simulated"]
)
