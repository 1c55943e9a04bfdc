# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03b Functional organisation
#
# **Do a few atoms of all neurons' responses predict BOLD beyond the timing of words, and is
# the model organised as the brain is?**
#
# | reads | writes |
# |---|---|
# | stage 01 (responses, words), stage 02 (networks, cleaned runs, group BOLD) | `data/atoms.npz`: atoms and codes · `data/encoding.npz`: held-out scores and the noise ceiling · `data/atom_t_maps.npy` (atoms x voxels) · tables `scores`, `encoding_gain`, `organisation` (`.parquet`) |
#
# Cost: about two minutes on one CPU core for 17,280 neurons, 64 atoms, 14 networks, 20
# subjects of 3,700 voxels.
#
# Atoms as regressors of voxel-wise BOLD, and the networks they serve: Sun et al. 2024 (arXiv
# 2410.19542). Networks learned on one part of the subjects and predicted in another: arXiv
# 2604.24942. Nulls, held-out scores and controls are this project's.

# %% tags=["parameters"]
# fmt: off
study: str = "quickstart"  # name of the output folder
atoms_kind: str = "ffn_out"  # neurons that the atoms are learned from (one of ffn_hidden, ffn_out, qk, attn_out, hidden)
n_atoms: int = 64  # atoms of the dictionary (2 to 10000)
atom_penalty: float = 0.1  # L1 penalty for responses of unit norm (0.000001 to 0.999)
depth_bands: int = 0  # stretches of layers that are bands instead of the atoms, 0 for atoms (0 to 1000)
confounds: list[str] = ["word_rate", "speech"]  # of the words, removed where atoms are held against networks: word_rate, speech (on or off) or columns of words.parquet, as surprisal
confound_table: str = ""  # further regressors on the BOLD clock, as sound power, part of word timing in encoding: .tsv, .csv, .txt
confound_columns: list[str] = ["*"]  # of confound_table
sound_file: str = ""  # WAV whose power is a confound, and part of word timing
sound_onset: float = 0.0  # s, time of its first sample on the story's clock (-10000 to 10000)
run_lengths: list[int] = []  # volumes of each run, [] for those of stage 01's clock, which no others may differ from (1 to 1000000)
leave_out_start: float = 20.0  # s at the start of every run whose responses and BOLD are not used (0 to 10000)
delays: list[int] = [0]  # volumes by which features are delayed; more than one for hrf: none (0 to 100)
band_weights: int = 10  # random weights of the bands to choose from (1 to 10000)
n_folds: int = 5  # contiguous outer folds of encoding (2 to 50)
gap: float = 32.0  # s left out between training and test time (0 to 1000)
subject_weights: str = "group"  # people are predicted with weights fitted to the group's mean, or to each of them alone (one of group, own)
n_draws_encoding: int = 99  # rolled stories, whose gain the model's must exceed in a network (5 to 1000000)
n_lags: int = 5  # evenly spaced lags of the story, scored in all voxels, for the table (2 to 10000)
min_ceiling: float = 0.5  # score voxels whose noise ceiling is at least this; all, if none has it (0 to 1)
null_method: str = "shift"  # surrogates of atoms (one of shift, phase)
n_draws: int = 200  # surrogate atoms for the group's networks (20 to 1000000)
n_draws_atoms: int = 40  # surrogate atoms for subjects' own networks and their consistency (20 to 1000000)
overlap_percent: float = 10.0  # voxels of a map that count as its network (0.1 to 100)
level: float = 0.05  # family-wise error rate (0.0001 to 0.5)
n_views: int = 3  # maps to turn and cut in a browser, 1 to 4 MB each (0 to 3)
seed: int = 0  # of dictionary, band weights and surrogates (0 to 4294967295)
device: str = "auto"  # where atoms are computed: auto, cpu, cuda, cuda:1
# fmt: on

# %% tags=["imports"]
import re

import numpy as np
import pandas as pd
from IPython.display import display

from anbn.brain import figures as brain_figures
from anbn.brain import simulate, templates, views
from anbn.core import artifacts, workers
from anbn.core.generators import rng_of
from anbn.core.params import current
from anbn.coupling import atoms as dictionary
from anbn.coupling import encoding, folds, glm, halves, organisation, prepared
from anbn.coupling import figures as coupling_figures
from anbn.models import loading
from anbn.stats import inference, matching, surrogates, timeseries

# %%
settings = current("03b_functional_organisation", globals())
recorded, manifest01 = artifacts.stage_inputs(study, "01_activation_recording")
extracted, manifest02 = artifacts.stage_inputs(study, "02_fbn_extraction")
out = artifacts.begin_stage(study, "03b_functional_organisation")

# %%
recording, extraction = manifest01["params"], manifest02["params"]
assert extraction["same_story"], "stage 02 ran with same_story: false"
high_pass = extraction["high_pass"]
has_truth = extraction["bold"] == "simulated"
note = " (simulated BOLD)" if has_truth else ""
compute_device = loading.choose_device(device)

# %% [markdown]
# ## Load
#
# The first `leave_out_start` seconds of every run are not used: BOLD and responses both rise
# when speech sets in, whatever is said. What is known of the story's timing without any model
# (word rate, and sound power where it is known) is the baseline that a model must exceed.

# %%
clock = prepared.clock(
    recording,
    manifest01["summary"]["n_times"],
    run_lengths=run_lengths,
    leave_out_start=leave_out_start,
    delays=delays,
)
runs = clock.runs or None
folds.check(
    clock.n_used, n_folds=n_folds, gap=gap, tr=clock.tr, delays=delays, runs=runs
)
words = pd.read_parquet(recorded / "data" / "words.parquet")
removed = prepared.confounds(
    words,
    clock,
    names=confounds,
    table=confound_table,
    columns=confound_columns,
    sound_file=sound_file,
    sound_onset=sound_onset,
    high_pass=high_pass,
)
assert n_atoms + removed.basis.shape[1] < clock.n_used, (
    f"n_atoms: {n_atoms} atoms and {removed.basis.shape[1]} confounds are too many for "
    f"{clock.n_used} volumes: ask for fewer atoms, or take a longer story"
)
print(f"{clock.n_used} of {clock.n_times} volumes of {clock.tr:g} s are used")

# %%
brain = prepared.networks(extracted, clock)
bold = prepared.bold(extracted, clock)
names, mask = brain.names, brain.mask
n_networks, n_subjects = len(names), len(bold.subjects)
n_voxels = bold.group.shape[1]
unit_of_brain = "regions" if mask is None else "voxels"
depths = {"model": 0} | artifacts.read_json(recorded / "data" / "models.json")
# the first of several models with random weights stands for them, but in scores
fresh = [name for name in depths if re.fullmatch(r"random(_\d+)?", name)]
shown_depths = {name: n for name, n in depths.items() if name not in fresh[1:]}
print(
    f"{n_subjects} subjects, {n_voxels:,} {unit_of_brain}, {n_networks} networks{note}"
)
print(f"models: {', '.join(depths)}")
if not n_networks:
    print(
        "stage 02 left no network: voxels or regions are predicted, nothing is served"
    )

# %% [markdown]
# The noise ceiling is what a perfect model could score in the test sets, given how much
# subjects share there. Scores are means where it is at least `min_ceiling`.

# %%
ceiling, ceilings = encoding.ceilings(
    bold.subjects,
    tr=clock.tr,
    n_folds=n_folds,
    gap=gap,
    high_pass=high_pass,
    runs=runs,
)
reliable = ceiling >= min_ceiling
scored = reliable if reliable.any() else np.ones(n_voxels, bool)
if reliable.any():
    where_scored = f"where the ceiling is at least {min_ceiling:g}"
else:
    where_scored = f"everywhere, as no known ceiling reaches {min_ceiling:g}"
print(f"{scored.sum():,} of {n_voxels:,} {unit_of_brain} are scored: {where_scored}")
print(f"noise ceiling, mean of these: {ceiling[scored].mean():.2f}")

# %% [markdown]
# ## Compute: atoms
#
# Atoms are learned from the responses of all neurons (no brain data involved), for the model
# and for each comparison model; every neuron is a sparse sum of a few of them (its *code*).

# %%
atoms, codes, diversity = {}, {}, {}
for name, n in depths.items():
    file = recorded / "data" / f"responses_{name}_{atoms_kind}.npy"
    responses = artifacts.read_array(file)[clock.kept]
    atoms[name], codes[name] = dictionary.learn(
        timeseries.residuals(responses, removed.drift_basis),
        n_atoms,
        penalty=atom_penalty,
        random_state=seed,
        device=compute_device,
    )
    diversity[name] = dictionary.diversity(codes[name], atoms[name], n_layers=n)
pd.DataFrame(diversity).T.round(3)

# %% [markdown]
# *Diversity* is the effective number of atoms, exp of the entropy of code mass; its interval
# is over layers.
#
# ## Compute: encoding
#
# Ridge regression, with penalties of their own for word timing and atoms, predicts BOLD in
# held-out, contiguous time. A model must earn its place above word timing alone, above the
# same architecture with random weights, and above its own atoms rolled in time; the latter
# two are scored draw by draw.

# %%
timing = {"word timing": removed.timing.to_numpy()}
rolled = [
    surrogates.rolled(atoms["model"], k / (n_lags + 1), clock.runs)
    for k in range(1, n_lags + 1)
]
sets = {"word rate": [timing]}
sets["model shifted + word rate"] = [timing | {"atoms": one} for one in rolled]
if fresh:
    sets["random + word rate"] = [timing | {"atoms": atoms[name]} for name in fresh]
for name in shown_depths:
    if name != "model" and name not in fresh:
        sets[f"{name} + word rate"] = [timing | {"atoms": atoms[name]}]
sets["model + word rate"] = [timing | {"atoms": atoms["model"]}]

# %% [markdown]
# People are predicted with the weights that fit the group's mean in training time
# (`subject_weights: own` fits each of them alone, which takes long runs).

# %%
people_of = list(sets)
if subject_weights == "own" and n_voxels > 1000:  # these take long enough
    people_of = ["word rate", "model + word rate"]
scores = encoding.encode_sets(
    sets,
    bold.group,
    bold.subjects,
    subject_weights=subject_weights,
    people_of=people_of,
    client=workers.client(),  # None: one subject after another
    tr=clock.tr,
    n_folds=n_folds,
    gap=gap,
    high_pass=high_pass,
    runs=runs,
    delays=delays,
    n_iter=band_weights,
    random_state=seed,
)

# %%
of_past = encoding.previous_volume(
    bold.group,
    tr=clock.tr,
    n_folds=n_folds,
    gap=gap,
    high_pass=high_pass,
    runs=runs,
)
group_r = scores.group | {"previous volume": of_past}
table = inference.score_table(
    scores.draws | {"previous volume": of_past[None]},
    scores.people,
    ceiling,
    ceilings,
    scored,
    rng=rng_of(seed, "bootstrap of scores over subjects"),
)
table.round(3)

# %% [markdown]
# `group` is the score of the group mean, `share` the same as a share of its ceiling, with
# an interval over draws where there are several; `subjects` is the mean of single subjects
# with its 95 % interval over them: over other people who hear this story and, with weights of
# the group, for these weights. *Previous volume* knows no words but the last value of BOLD
# itself: it shows how much of a time course its own past explains.

# %%
if brain.maps is None and n_voxels <= 20:
    ax = coupling_figures.plot_encoding_bars(scores.group, names, ceiling)
    ax.set_title(f"Encoding of the group mean in held-out time{note}")
    artifacts.write_figure(out, "encoding", ax.figure)
ax = coupling_figures.plot_score_distribution(
    {name: values[scored] for name, values in group_r.items()}, ceiling[scored]
)
ax.set_title(f"Held-out scores {where_scored}{note}")
artifacts.write_figure(out, "encoding_scores", ax.figure)

# %% [markdown]
# Boxes are over voxels or regions. Look for the model above all others but the ceiling, and
# by how much: a rolled story has as many features, as slow and as alike.
#
# ## Compute: what each band adds
#
# All bands in one model: word timing, surprisal where it is known, and the atoms (or, with
# `depth_bands`, principal components of stretches of layers).

# %%
model_bands = {"atoms": atoms["model"]}
if depth_bands:
    responses_of_model = artifacts.read_array(
        recorded / "data" / f"responses_model_{atoms_kind}.npy"
    )[clock.kept]
    model_bands = dictionary.by_depth(
        timeseries.residuals(responses_of_model, removed.drift_basis),
        depths["model"],
        depth_bands,
        n_atoms,
    )
of_surprisal = {}
if words["surprisal"].nunique() > 1:
    surprisal = clock.regressors(words, ["surprisal"]).to_numpy()
    of_surprisal = {"surprisal": surprisal[clock.kept]}
split = encoding.encode(
    timing | model_bands | of_surprisal,
    bold.group,
    tr=clock.tr,
    n_folds=n_folds,
    gap=gap,
    high_pass=high_pass,
    runs=runs,
    delays=delays,
    n_iter=band_weights,
    random_state=seed,
)

# %%
shares = dict(zip(split.bands, split.split[:, scored], strict=True))
ax = coupling_figures.plot_score_distribution(
    shares | {"all bands": sum(shares.values())},
    ceiling[scored] ** 2,
    label="held-out R2",
)
ax.set_title(f"What each band adds to the group's R2 in held-out time{note}")
artifacts.write_figure(out, "encoding_split", ax.figure)

# %% [markdown]
# The bands' shares add up to the joint R2; a share below zero harms the prediction. The
# ceiling is the square of the group's.
#
# ## Check: which networks the model predicts
#
# A mean over voxels hides where a model helps. For every network: its gain over word timing
# in held-out time, against the gain of the same atoms with the story rolled, family-wise
# over networks. The subjects cannot answer this, since all heard the same story, and chance
# likeness of a prediction to what they share comes back in each of them.

# %%
gained = encoding.gain_over_shifts(
    timing,
    {"atoms": atoms["model"]},
    brain.mean,
    n_draws=n_draws_encoding,
    rng=rng_of(seed, "rolled stories"),
    run_lengths=clock.runs,
    level=level,
    tr=clock.tr,
    n_folds=n_folds,
    gap=gap,
    high_pass=high_pass,
    runs=runs,
    delays=delays,
    n_iter=band_weights,
    random_state=seed,
)

# %%
encoding_gain = gained.assign(network=names)[["network", *gained]]
if fresh:  # does any architecture that hears the words do as well?
    of_fresh = encoding.encode(
        timing | {"atoms": atoms[fresh[0]]},
        brain.mean,
        tr=clock.tr,
        n_folds=n_folds,
        gap=gap,
        high_pass=high_pass,
        runs=runs,
        delays=delays,
        n_iter=band_weights,
        random_state=seed,
    )
    encoding_gain = encoding_gain.assign(gain_random=of_fresh.r - gained["r_base"])
if n_networks:
    ax = coupling_figures.plot_beside_null(
        encoding_gain.set_index("network"),
        "gain",
        "gain in held-out\ncorrelation (r)",
        level=level,
    )
    ax.set_title(f"Networks that the model predicts beyond word timing{note}")
    artifacts.write_figure(out, "encoding_gain", ax.figure)
encoding_gain.round(3)

# %% [markdown]
# A bar is the model's gain, the grey mark the mean and the black one the 95th percentile of
# rolled stories; a star holds family-wise. Useless features cost a little: rolled ones lie
# below 0. Rolling takes away the words' timing as well: features that hold a timing which the
# regressors lack (another delay of the response) would gain, too. Random weights, which hear
# the same timing, show how much that is (`gain_random`).
#
# ## Look: where people gain

# %%
gain = np.arctanh(scores.people["model + word rate"]) - np.arctanh(
    scores.people["word rate"]
)
gain_t, gain_p = inference.random_effects(
    gain, rng=rng_of(seed, "signs of subjects' gains")
)
if subject_weights == "own":  # else the subjects share their prediction
    beyond = gain_p <= level
    print(f"{unit_of_brain} above word rate {(beyond & (gain_t > 0)).sum()}, below")
    print(f"{(beyond & (gain_t < 0)).sum()}, of {n_voxels}, family-wise")
if mask is not None and n_subjects > 1:
    ax = brain_figures.plot_encoding_map(gain_t, mask, label="t")
    ax.set_title(f"Gain of atoms over word rate, t over subjects{note}", fontsize=11)
    artifacts.write_figure(out, "encoding_map", ax.figure)
    figure = coupling_figures.plot_surface(gain_t, mask, f"gain, t{note}")
    artifacts.write_figure(out, "encoding_surface", figure)
else:
    print("no map over subjects: regions have no mask, and one subject no t")

# %% [markdown]
# t over subjects shows where the gain is alike in people. It speaks for other subjects, not
# for other stories, since all heard this one; with weights of the group the subjects share
# the prediction, too, and no significance is told. With weights of their own
# (`subject_weights: own`) it is, and a curve shows how the mean maps of two groups of subjects
# agree.

# %%
if subject_weights == "own" and n_subjects > 3:  # the group's fit both groups at once
    curve, needed = inference.subjects_needed(
        scores.people["model + word rate"], rng=rng_of(seed, "groups of subjects")
    )
    ax = coupling_figures.plot_subjects_needed(curve, needed)
    ax.set_title(f"Subjects that a stable map needs{note}")
    artifacts.write_figure(out, "subjects_needed", ax.figure)

# %%
seen = {
    "Gain over word rate, t over subjects": gain_t,
    "Held-out r of word rate and atoms": group_r["model + word rate"],
    "Noise ceiling, r": ceiling,
}
if mask is not None:
    known = {name: seen[name] for name in seen if np.isfinite(seen[name]).any()}
    shown_views = {name: known[name] for name in list(known)[:n_views]}
    display(views.write_views(out, shown_views, mask, note=note))

# %% [markdown]
# Maps to turn and cut in a browser (`n_views`; JupyterLab: click on *Trust HTML*).
#
# ## Compute: atoms in the networks' cores
#
# The published way (Sun et al. 2024): atoms as fixed regressors of BOLD. The map of an atom
# is held against the networks: an atom serves the network in whose core its t is largest,
# if surrogate atoms, regressed on the same BOLD, rarely reach as much anywhere. A neuron
# serves the network of its strongest atom.

# %%
# atoms are made of used volumes already
regressors = {
    name: folds.mean_delayed(atoms[name], delays, runs) for name in shown_depths
}
in_cores = {}
for name in shown_depths:
    in_cores[name] = organisation.atoms_in_networks(
        bold.group,
        regressors[name],
        brain.maps,
        removed,
        null_method=null_method,
        percent=overlap_percent,
        level=level,
        n_draws=n_draws,
        rng=rng_of(seed, f"surrogate atoms of {name}"),
    )
of_model = in_cores["model"]

# %%
if n_networks:
    ax = coupling_figures.plot_overlap(
        of_model.t,
        of_model.p_familywise <= level,
        names=names,
        threshold=of_model.threshold,
    )
    ax.set_title(f"Atoms in the networks' cores{note}", loc="right")
    artifacts.write_figure(out, "atoms_in_networks", ax.figure)
pd.DataFrame(
    {"p, all atoms together": of_model.p_networks, "q": of_model.q_networks}, names
).round(3)

# %% [markdown]
# A row is a network, a dot an atom in its core beyond all surrogate atoms and networks. Signal
# that many similar atoms share is seen in none of them alone: the table sums over atoms.
#
# Are other networks served better? The same atoms against templates, and against each
# subject's own maps.

# %%
largest = {"group's networks": of_model.largest}
if mask is not None:
    template_maps, _ = templates.load_templates(extraction["template_sets"][0], mask)
    largest["templates"] = organisation.atoms_in_networks(
        bold.group,
        regressors["model"],
        template_maps,
        removed,
        null_method=null_method,
        percent=overlap_percent,
        level=level,
        n_draws=n_draws,
        rng=rng_of(seed, "surrogate atoms in templates"),
    ).largest
if bold.subject_maps is not None:
    largest["subjects' own networks"] = organisation.atoms_in_networks(
        bold.subjects,
        regressors["model"],
        bold.subject_maps,
        removed,
        null_method=null_method,
        percent=overlap_percent,
        level=level,
        n_draws=n_draws_atoms,
        rng=rng_of(seed, "surrogate atoms in subjects"),
    ).largest
pd.concat(largest, names=["networks", "measure"]).round(3)

# %% [markdown]
# The largest overlap of any atom with any network against that of surrogate atoms. Spatial
# correlation and Dice are high by chance: any regressor's map of BOLD looks like BOLD's own
# networks, so the t in a network's core decides.

# %%
t_maps = glm.fixed_regressors(bold.group, regressors["model"], removed.basis)
artifacts.write_array(out / "data" / "atom_t_maps.npy", t_maps)
largest_t = np.abs(t_maps).max(0)
r_with_score = matching.correlate(
    largest_t[None], group_r["model + word rate"][None].astype(float)
)[0, 0]
print(f"published t maps: largest |t| {largest_t.max():.1f}; correlation with the")
print(f"held-out r of the same {n_voxels:,} {unit_of_brain}: {r_with_score:.2f}")

# %% [markdown]
# The published t maps (all atoms in one model, fitted and tested on the same volumes) can be
# large where nothing is predicted: the line above correlates them, over voxels or regions,
# with the score in held-out time. They are written beside the rest.
#
# ## Compute: who serves what
#
# Here an atom serves a network at p <= `level` over the networks, not over the atoms: about
# `level` of them do by chance.

# %%
organised = {}
for name in shown_depths:
    organised[name] = organisation.of_model(
        name,
        regressors[name],
        codes[name],
        in_cores[name],
        bold,
        brain,
        removed,
        n_layers=depths[name],
        null_method=null_method,
        percent=overlap_percent,
        level=level,
        n_draws=n_draws_atoms,
        rng=rng_of(seed, f"organisation of {name}"),
    )
    n_serving = int((organised[name].serves >= 0).sum())
    print(f"{name}: {n_serving} of {n_atoms} atoms serve a network")

# %%
if n_networks:
    axes = coupling_figures.plot_subgroups(
        {name: one.counts for name, one in organised.items()},
        {name: one.pool for name, one in organised.items()},
        names,
    )
    axes[0].figure.suptitle(f"Neurons that serve each network{note}")
    artifacts.write_figure(out, "subgroups", axes[0].figure)

# %% [markdown]
# A column is a layer; the one at the right is the share over all layers, what every layer
# would hold without any organisation by depth.

# %%
organisation_table = pd.concat(
    [one.table for one in organised.values()], ignore_index=True
)
if n_networks:
    axes = coupling_figures.plot_organisation(
        organisation_table,
        {name: diversity[name]["effective_atoms"] for name in shown_depths},
    )
    axes[0].figure.suptitle(f"Diversity and consistency{note}")
    artifacts.write_figure(out, "organisation", axes[0].figure)
organisation_table[organisation_table["network"] == "mean"].round(3)

# %% [markdown]
# *Consistency* is how much subjects agree (Dice of pairs) on the voxels of a network as its
# atoms draw them, with 95 % intervals over subjects; the grey and black marks are surrogate
# atoms, chosen for the network in the same way. A model is more brain-like only where it
# stands above these.
#
# ## Check: networks learned in other subjects
#
# Networks are learned in one half of the subjects, and their time courses in the other half
# are predicted like voxels (arXiv 2604.24942). Components of noise should score nothing.

# %%
learned = None
if brain.maps is None:
    print("regions were taken as they are: no networks to learn")
elif n_subjects < halves.LEAST:
    print(f"{n_subjects} subjects are too few for halves: {halves.LEAST} are needed")
else:
    learned = halves.learn(
        bold.subjects,
        method=extraction["brain_method"],
        n_networks=extraction["n_brain_networks"],
        mask=mask,
        random_state=seed,
        rng=rng_of(seed, "halves of the subjects"),
    )

# %%
if learned:
    compared = ["word rate", "model shifted + word rate", "model + word rate"]
    predicted = encoding.encode_sets(
        {name: sets[name] for name in compared},
        learned.mean,
        learned.timecourses,
        subject_weights="group",
        tr=clock.tr,
        n_folds=n_folds,
        gap=gap,
        high_pass=high_pass,
        runs=runs,
        delays=delays,
        n_iter=band_weights,
        random_state=seed,
    )
    learned_ceiling, _ = encoding.ceilings(
        learned.timecourses,
        tr=clock.tr,
        n_folds=n_folds,
        gap=gap,
        high_pass=high_pass,
        runs=runs,
    )
    likeness = matching.correlate(learned.networks, brain.maps)
    ax = coupling_figures.plot_encoding_bars(
        predicted.group, matching.named_after(likeness, names), learned_ceiling
    )
    ax.set_title(f"Networks learned in other subjects, predicted{note}")
    artifacts.write_figure(out, "components", ax.figure)

# %% [markdown]
# Bars of the shifted story and of word timing are the controls, the black line is what a
# perfect model would reach. Names are those of the networks of all subjects.
#
# ## Check: the truth
#
# Where BOLD was simulated, a network that a population of neurons drives is for the encoding
# model to find: a gain over word rate beyond rolled stories, and none where nothing but word
# rate, or nothing known, drives a network.

# %%
of_truth = {}
if has_truth:
    of_truth = simulate.score_encoding(
        group_r["model + word rate"] - group_r["word rate"],
        names,
        gained["p"],
        artifacts.read_json(extracted / "data" / "truth.json"),
        artifacts.read_arrays(extracted / "data" / "truth.npz")["maps"],
        level=level,
    )
    print(pd.Series(of_truth).round(3).to_string())
else:
    print("BOLD is measured: no truth is known")

# %% [markdown]
# ## Check: what could have been found
#
# n draws give no p below 1 / (1 + n), and rolls of one run no less than one in as many as
# there are. Where that is above `level`, "none" would say nothing.

# %%
least_p_encoding = surrogates.least_p(
    n_draws_encoding,
    null_method="shift",
    n_times=clock.n_used,
    run_lengths=clock.runs,
)
least_p_atoms = surrogates.least_p(
    n_draws,
    null_method=null_method,
    n_times=clock.n_used,
    run_lengths=clock.runs,
)
least_p_people = surrogates.least_p(
    n_draws_atoms,
    null_method=null_method,
    n_times=clock.n_used,
    run_lengths=clock.runs,
)
n_predicted = int((gained["p"] <= level).sum())
atoms_found = int((of_model.p_familywise <= level).any(1).sum())
consistent = organised["model"].table
consistent_found = int(
    (consistent["p"][consistent["network"] != "mean"] <= level).sum()
)
rows = [
    ("networks predicted", n_draws_encoding, least_p_encoding, 1, n_predicted),
    ("atoms in a network's core", n_draws, least_p_atoms, 1, atoms_found),
    ("networks alike in people", n_draws_atoms, least_p_people, 1, consistent_found),
]
tests = pd.DataFrame(
    rows, columns=["test", "draws", "least_p", "tests", "found"], dtype=object
)
inference.attainable(tests.set_index("test"), level)

# %% [markdown]
# ## Write

# %%
artifacts.write_arrays(
    out / "data" / "atoms.npz", atoms=atoms["model"], codes=codes["model"]
)
encoding.write_scores(out / "data" / "encoding.npz", group_r, ceiling=ceiling)
tables = {
    "scores": table,
    "encoding_gain": encoding_gain,
    "organisation": organisation_table,
}
for name, written in tables.items():
    artifacts.write_table(out / "data" / f"{name}.parquet", written.reset_index())

# %%
means = table["group"]
predicted_names = [
    name for name, p in zip(names, gained["p"], strict=True) if p <= level
]
serving = organised["model"].serves
n_serving_atoms = int((serving >= 0).sum())
controls = {
    "random + word rate": "random weights",
    "model shifted + word rate": "rolled",
}
beside = [f"{said} {means[k]:.2f}" for k, said in controls.items() if k in means]
if n_subjects > 1:
    beside.append(f"noise ceiling {means['noise ceiling']:.2f}")
lead = (
    f"Atoms and word timing predict the mean of {n_subjects} subject(s) in held-out "
    f"time at r = {means['model + word rate']:.2f}, word timing alone at "
    f"{means['word rate']:.2f} ({', '.join(beside)}; means of {scored.sum():,} "
    f"{unit_of_brain} {where_scored})."
)
if not n_networks:
    of_gain = "Stage 02 left no network to gain"
elif predicted_names:
    shown = ", ".join(predicted_names[:4]) + (
        ", ..." if len(predicted_names) > 4 else ""
    )
    of_gain = f"Networks that gain: {n_predicted} of {n_networks} ({shown}),"
else:
    of_gain = f"No network of {n_networks} gains"
if n_serving_atoms:
    of_atoms = f"atoms that serve a network are {n_serving_atoms} of {n_atoms}"
else:
    of_atoms = f"no atom of {n_atoms} serves a network"
finding = (
    f"{lead} {of_gain} beyond {n_draws_encoding} rolled stories (family-wise); "
    f"{of_atoms} ({level * n_atoms:.1f} expected by chance)."
    f"{' BOLD is simulated.' if has_truth else ''}"
)
print(finding)

# %%
called = {"model": "mean", "random": "random_model", "model shifted": "shifted"}
encoded = {}
for name, r in means.items():
    model_of_set = name.removesuffix(" + word rate")
    if model_of_set in depths or model_of_set == "model shifted":
        encoded[f"encoding_r_{called.get(model_of_set, model_of_set)}"] = r
summary = {
    "encoding_r_baseline_wordrate": means["word rate"],
    "noise_ceiling_mean": means["noise ceiling"],
    "encoding_r_people": table.loc["model + word rate", "subjects"],
    "encoding_r_people_wordrate": table.loc["word rate", "subjects"],
    "n_networks_predicted": n_predicted,
}
known_numbers = {  # of a single subject there is no ceiling
    name: value
    for name, value in (encoded | summary | of_truth).items()
    if np.isfinite(value)
}
artifacts.finish_stage(
    out,
    known_numbers,
    params=settings,
    simulated=manifest02["simulated"],
    finding=finding,
)
