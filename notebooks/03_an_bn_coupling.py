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
# **Which artificial neurons follow which brain network, beyond what chance and the timing
# of words explain, and is the model organised as the brain is?**
#
# | reads | writes |
# |---|---|
# | stage 01 (responses, activations, words), stage 02 (time courses, maps, cleaned runs, group BOLD, ceiling) | `data/synchrony.npz`: synchrony (layers x neurons x networks), q values, null, threshold · `data/subject_synchrony.npy` (subjects x neurons x networks) · `data/atoms.npz`: atoms and codes · `data/encoding.npz`: held-out scores · `data/atom_t_maps.npy` (atoms x voxels) · tables `significant`, `reliability`, `between_models`, `feature_effects`, `organisation` (`.parquet`) |
#
# Cost: about three minutes on one CPU core for 46,080 neurons, 14 networks, 20 subjects of
# 3,700 voxels.
#
# Synchrony and anchors: Liu et al. 2023 (arXiv 2303.14871). Atoms as regressors of
# voxel-wise encoding: Sun et al. 2024 (arXiv 2410.19542). Networks learned on one part of
# the subjects and predicted in another: arXiv 2604.24942. Nulls, thresholds, held-out
# scores and controls are this project's.

# %% tags=["parameters"]
# fmt: off
study: str = "quickstart"  # name of the output folder
kind: str = "ffn_hidden"  # neurons whose synchrony is measured (one of ffn_hidden, ffn_out, qk, attn_out, hidden)
confounds: list[str] = ["word_rate", "speech"]  # of the words, removed from synchrony: word_rate, speech (on or off) or columns of words.parquet, as surprisal
confound_table: str = ""  # further regressors on the BOLD clock, as sound power: .tsv, .csv, .txt
confound_columns: list[str] = ["*"]  # of confound_table
sound_file: str = ""  # WAV whose power is a confound
sound_onset: float = 0.0  # s, time of its first sample on the story's clock (-10000 to 10000)
run_lengths: list[int] = []  # volumes of each run, [] for those of stage 01's clock, which no others may differ from (1 to 1000000)
leave_out_start: float = 20.0  # s at the start of every run whose responses and BOLD are not used (0 to 10000)
null_method: str = "shift"  # surrogates of synchrony (one of shift, phase, text)
fdr_over: str = "network"  # what false discoveries are counted over: neurons of each network, or all of all (one of network, all)
n_draws: int = 200  # surrogates for the group (20 to 1000000)
n_draws_subject: int = 200  # surrogates for each subject, and for anchors, reliability, models and features (20 to 1000000)
n_draws_atoms: int = 40  # surrogate atoms for subjects' own networks and their consistency (20 to 1000000)
level: float = 0.05  # error rate, family-wise or of false discoveries (0.0001 to 0.5)
top: float = 0.01  # share of the neurons that are a network's top anchors (0.0001 to 0.5)
atoms_kind: str = "ffn_out"  # neurons that the atoms are learned from (one of ffn_hidden, ffn_out, qk, attn_out, hidden)
n_atoms: int = 64  # atoms of the dictionary (2 to 10000)
atom_penalty: float = 0.1  # L1 penalty for responses of unit norm (0.000001 to 0.999)
depth_bands: int = 0  # stretches of layers that are bands instead of the atoms, 0 for atoms (0 to 1000)
delays: list[int] = [0]  # volumes by which features are delayed; more than one for hrf: none (0 to 100)
band_weights: int = 10  # random weights of the bands to choose from (1 to 10000)
n_folds: int = 5  # contiguous outer folds of encoding (2 to 50)
gap: float = 32.0  # s left out between training and test time (0 to 1000)
subject_weights: str = "group"  # people are predicted with weights fitted to the group's mean, or to each of them alone (one of group, own)
n_draws_encoding: int = 99  # rolled stories, whose gain the model's must exceed in a network (5 to 1000000)
n_lags: int = 5  # evenly spaced lags of the story, scored in all voxels, for the table (2 to 10000)
min_ceiling: float = 0.5  # score voxels whose noise ceiling is at least this (0 to 1)
overlap_percent: float = 10.0  # voxels of a map that count as its network (0.1 to 100)
n_views: int = 3  # maps to turn and cut in a browser, 1 to 4 MB each (0 to 3)
batch_size: int = 20  # surrogates a matrix product, bounds the memory (1 to 100000)
seed: int = 0  # of surrogates and dictionary (0 to 4294967295)
device: str = "auto"  # where synchrony and atoms are computed: auto, cpu, cuda, cuda:1
# fmt: on

# %%
import re
from functools import partial

import numpy as np
import pandas as pd
import scipy.sparse
from IPython.display import display

from anbn.brain import bold as bold_data
from anbn.brain import clock as clock_of_study
from anbn.brain import figures as brain_figures
from anbn.brain import regressors, simulate, templates, views
from anbn.core import artifacts, workers
from anbn.core.params import current
from anbn.core.paths import resolve
from anbn.coupling import (
    anchors,
    encoding,
    explorer,
    folds,
    glm,
    meaning,
    organisation,
    reliability,
    synchrony,
    uncoupled,
)
from anbn.coupling import atoms as dictionary
from anbn.coupling import figures as coupling_figures
from anbn.models import loading, stores
from anbn.networks import decomposition, dual_regression
from anbn.stats import inference, matching, surrogates, timeseries

# %%
settings = current("03_an_bn_coupling", globals())
recorded, manifest01 = artifacts.stage_inputs(study, "01_activation_recording")
extracted, manifest02 = artifacts.stage_inputs(study, "02_fbn_extraction")
before01, before02 = manifest01["params"], manifest02["params"]
assert before02["same_story"], "stage 02 ran with same_story: false"
assert null_method != "text" or kind in before01["corpora_kinds"], (
    f"null_method: text needs {kind} of other text: add it to corpora_kinds of stage 01"
)
out = artifacts.begin_stage(study, "03_an_bn_coupling")
device = loading.choose_device(device)
note = " (simulated BOLD)" if before02["bold"] == "simulated" else ""
runs = clock_of_study.agreed_runs(before01["run_lengths"], run_lengths)
# other text replaces responses, so it can be no null of atoms or of other models
turning = "shift" if null_method == "text" else null_method
if null_method == "text":
    print(
        "null by other text: synchrony of group and subjects, anchors, depth, features"
    )
    print("null by shift: reliability, comparison models, atoms")

# %% [markdown]
# ## Load
#
# Drift, the word rate (or what else `confounds` names), and sound power where it is known
# are removed from neurons and networks alike by one projection. Subjects' time courses are
# standardised and averaged for the group.
#
# BOLD and responses both rise when speech sets in, whatever is said, so that any story
# "couples" at its start: `speech` (on or off) is a confound, and the first
# `leave_out_start` seconds of every run are not used in this notebook.

# %%
depths = {"model": 0} | artifacts.read_json(recorded / "data" / "models.json")
# the first of several models with random weights stands for them, but in scores
fresh = [name for name in depths if re.fullmatch(r"random(_\d+)?", name)]
shown_depths = {name: n for name, n in depths.items() if name not in fresh[1:]}
words = pd.read_parquet(recorded / "data" / "words.parquet")
brain = artifacts.read_arrays(extracted / "data" / "brain.npz")
names = artifacts.read_json(extracted / "data" / "names.json")
n_subjects, n_times, n_networks = brain["timecourses"].shape
tr, high_pass = before01["tr"], before02["high_pass"]
used, lengths_left = regressors.left_over(runs or [n_times], tr, leave_out_start)
runs_left = lengths_left if runs else []
held_out = {"tr": tr, "n_folds": n_folds, "gap": gap, "runs": runs_left or None}
folds.check(sum(lengths_left), delays=delays, **held_out)
_, series = bold_data.reopen(extracted / "data" / "runs").by_subject()
series = [one[used] for one in series]
ceiling, ceilings = encoding.ceilings(series, high_pass=high_pass, **held_out)
scored = ceiling >= min_ceiling
assert scored.any(), (
    f"min_ceiling: no voxel or region has a noise ceiling of {min_ceiling}, the highest "
    f"is {ceiling.max():.2f}: lower min_ceiling"
)
clock = {"n_times": n_times, "tr": tr, "start": before01["first_volume"]}
clock |= {"hrf": before01["hrf"], "run_lengths": runs}
timing = regressors.story_regressors(words, ["word_rate"], **clock)
if sound_file:
    options = {**clock, "sound_onset": sound_onset}
    timing["sound_power"] = regressors.power(resolve(sound_file), **options)
if confound_table:
    given = regressors.table(confound_table, confound_columns, n_times=n_times)
    timing = timing.join(given)

# %%
turned = {"null_method": turning, "run_lengths": runs_left}
delayed = partial(folds.mean_delayed, delays=delays, runs=runs or None, kept=used)
of_words = regressors.story_regressors(words, confounds, **clock)
nuisance = of_words.join(timing.drop(columns="word_rate"))
drift = regressors.run_drift(lengths_left, tr, high_pass)
drift_only = timeseries.orthonormal(drift)
confounding = delayed(nuisance.to_numpy())
basis = timeseries.orthonormal(np.column_stack([drift, confounding]))
responses_of = (str(recorded / "data") + "/responses_{}_{}.npy").format
responses = delayed(artifacts.read_array(responses_of("model", kind)))
n_layers, n_units = depths["model"], responses.shape[1] // depths["model"]
people = brain["timecourses"][:, used].astype(float)
people = np.stack([*map(timeseries.zscore, people)])
mean = timeseries.zscore(people.mean(0))
maps, mask = bold_data.maps_of(extracted / "data")
print(f"responses {responses.shape}; time courses {people.shape}{note}")
print(f"confounds: {drift_only.shape[1]} of drift, {', '.join(nuisance) or 'no other'}")

# %% [markdown]
# ## Compute: synchrony
#
# Pearson correlation of every neuron with every network, with drift alone removed and with
# all confounds removed; then the same for surrogates of the networks, which pass through
# the same projection: by `shift` the time courses are rolled, which keeps all that makes
# slow and bursting signals correlate by chance. (`phase` keeps the spectrum only, `text`
# replaces the story by other text on its clock.)
#
# The largest |r| over all neurons and networks gives the family-wise threshold, that over
# the neurons of one network the network's own, and each network's |r| its false discovery
# rate (q). Where single neurons are too weak, the share of a layer's neurons beyond what
# 1 % of all reach by chance is held against the largest share of any layer.

# %%
before = synchrony.synchrony(timeseries.residuals(responses, drift_only), mean)
clean, clean_mean = (timeseries.residuals(x, basis) for x in (responses, mean))
units = synchrony.unit_rows(clean)
coupling_r = synchrony.synchrony(units, clean_mean)
on_device = {"batch_size": batch_size, "device": device}
draw_null = partial(synchrony.null, units, n_layers=n_layers, **turned, **on_device)
if null_method == "text":
    H = scipy.sparse.load_npz(recorded / "data" / "H.npz")
    H = scipy.sparse.csr_array(delayed(H.toarray()))
    corpus = stores.open_activations(recorded / "data" / "corpora", kind)
    kept = ~stores.read_tokens(recorded / "data" / "corpora")["left_out"].to_numpy()
    corpus = corpus[kept]  # without first tokens, as in the story
    draw_null = partial(synchrony.text_null, corpus, H)
# a generator for each step: what was drawn before changes nothing
pilot = draw_null(clean_mean, basis, n_draws=20, rng=np.random.default_rng([seed, 1]))
cut = synchrony.cut_at(pilot.counts, share=0.01)
drawn = draw_null(
    clean_mean,
    basis,
    n_draws=n_draws,
    cut=cut,
    rng=np.random.default_rng([seed, 2]),
)
threshold = synchrony.familywise_threshold(drawn.maxima, level=level)
own_threshold = synchrony.familywise_threshold(
    drawn.maxima, level=level, by_network=True
)
significant = np.abs(coupling_r) >= threshold
q = synchrony.false_discovery_q(coupling_r, drawn.counts, over=fdr_over)
layer_share = synchrony.layer_shares(coupling_r, n_layers, cut)
layer_p = synchrony.familywise_p(layer_share, drawn.shares, by_network=True)

# %%
print(f"family-wise threshold |r| = {threshold:.3f} by {null_method} null")
print(f"neurons beyond it: {significant.any(1).sum()} of {len(coupling_r)}")
rolls = {"n_times": lengths_left[0], "run_lengths": runs_left}
least = surrogates.least_p(n_draws, null_method=null_method, **rolls)
p_best = synchrony.familywise_p(np.abs(coupling_r).max(0), drawn.maxima)
table = {"largest |r|, drift removed": np.abs(before).max(0)}
table["all confounds removed"] = np.abs(coupling_r).max(0)
table["threshold of this network"] = own_threshold
table["neurons beyond family-wise"] = significant.sum(0)
table["beyond this network's own"] = (np.abs(coupling_r) >= own_threshold).sum(0)
table["neurons with q <= level"] = (q <= level).sum(0)
table["layers beyond their share"] = (layer_p <= level).sum(0)
table["p of the best"] = np.maximum(p_best, least)  # no less than draws can give
layers = before01["layers"] or list(range(n_layers))
ax = coupling_figures.plot_synchrony_by_layer(
    coupling_r, layers, threshold, drawn.maxima, names
)
ax.set_title(f"The most synchronous neuron of each layer, confounds removed{note}")
artifacts.write_figure(out, "synchrony_by_layer", ax.figure)
pd.DataFrame(table, names).round(3)

# %% [markdown]
# The grey band is where the largest of *all* neurons and networks falls by chance; only
# what stands above the dashed line is coupling. Note how high chance reaches: with tens of
# thousands of neurons and slow signals, |r| of .4 is nothing. The network's own threshold
# leaves the number of networks out: of 20 networks without coupling one passes it.

# %%
clean_people = np.stack([timeseries.residuals(one, basis) for one in people])
file = out / "data" / "subject_synchrony.npy"
drawing = {**turned, **on_device, "n_draws": n_draws_subject}
drawing["rng"] = np.random.default_rng([seed, 3])
if null_method == "text":  # the same texts for all subjects, read once
    side_by_side = np.hstack([*clean_people])
    of_texts = draw_null(
        side_by_side,
        basis,
        n_draws=n_draws_subject,
        rng=np.random.default_rng([seed, 3]),
    )
    maxima = of_texts.maxima.reshape(-1, n_subjects, n_networks)
    drawing = {"maxima": maxima.swapaxes(0, 1)}
client = workers.client()  # None: one subject after another
each, limits = synchrony.subjects(
    units, clean_people, basis, file, level=level, client=client, **drawing
)
largest = np.stack([np.abs(one).max(0) for one in each])
ax = coupling_figures.plot_subject_synchrony(largest, limits, names)
ax.set_title(f"The most synchronous neuron of every subject{note}")
artifacts.write_figure(out, "subject_synchrony", ax.figure)
stable = reliability.reliability(
    responses,
    people,
    confounding,
    tr=tr,
    high_pass=high_pass,
    n_draws=n_draws_subject,
    names=names,
    rng=np.random.default_rng([seed, 4]),
    **turned,
)
ax = coupling_figures.plot_reliability(stable)
ax.set_title(f"Does synchrony come back?{note}")
artifacts.write_figure(out, "reliability", ax.figure)
stable.round(3)

# %% [markdown]
# Single subjects are noisier than their mean, and each has a null of its own (grey band). A
# network in which the group passes and no subject does is a small effect that all share.
#
# Reliability is Pearson's r, over neurons, of a network's synchrony in two halves. Halves of
# *subjects* agree wherever subjects' time courses do, whether or not the model has a part
# in it; only halves of *time* show that the same neurons follow the network in other minutes
# of the story. Black marks: what surrogates reach, as neurons resemble each other.
#
# Anchors go both ways (Liu et al. 2023): the network each neuron follows best, and the
# neuron each network follows best. Every neuron has an anchor, by chance too: a network
# is *global* only if it anchors more neurons than its own surrogates do.

# %%
again = {"n_draws": n_draws_subject, **turned}
if null_method == "text":
    texts = synchrony.text_synchrony(
        corpus,
        H,
        clean_mean,
        basis,
        n_draws=n_draws_subject,
        rng=np.random.default_rng([seed, 5]),
    )
by_chance = anchors.surrogate_synchrony(
    clean, clean_mean, basis, rng=np.random.default_rng([seed, 5]), **again
)
by_chance = texts if null_method == "text" else by_chance
of_networks = anchors.global_networks(coupling_r, by_chance, names=names)
ax = coupling_figures.plot_beside_null(
    of_networks,
    "share",
    "share of the neurons whose\nbest network this is",
    p="p_familywise",
    level=level,
)
ax.set_title(f"Neurons that follow this network best{note}")
artifacts.write_figure(out, "anchors", ax.figure)
_, best_neuron, mutual = anchors.anchors(coupling_r)
layer, unit = np.divmod(best_neuron, n_units)
best = [f"layer {layers[i]}, unit {k}" for i, k in zip(layer, unit, strict=True)]
best = {"best neuron": best, "r": coupling_r[best_neuron, range(n_networks)]}
of_networks.assign(**best, mutual=mutual).round(3)

# %%
known = [name for name in meaning.FEATURES if words[name].nunique() > 1]
features = regressors.story_regressors(words, known, **clock)
features = delayed(features.to_numpy(float))
depth, depth_p, between = {}, {}, {}
for name, n in shown_depths.items():
    other = delayed(artifacts.read_array(responses_of(name, kind)))
    other = timeseries.residuals(other, basis)
    by_chance = anchors.surrogate_synchrony(
        other, clean_mean, basis, rng=np.random.default_rng([seed, 6]), **again
    )
    if null_method == "text" and name == "model":
        by_chance = texts
    depth[name], depth_p[name] = anchors.depth_beside_chance(
        other, clean_mean, by_chance, n, top=top
    )
    if name != "model":
        between[name] = anchors.between_models(
            [(clean, n_layers), (other, n)],
            clean_mean,
            basis,
            features,
            names=names,
            top=top,
            rng=np.random.default_rng([seed, 7]),
            **again,
        )
axes = coupling_figures.plot_depth_profiles(depth, [*names, "surrogates, mean"])
axes[0].figure.suptitle(f"Where the top {top:.0%} of neurons lie{note}")
artifacts.write_figure(out, "anchor_depths", axes[0].figure)
print("p of the mean depth of the top neurons, family-wise over networks:")
depth_p = pd.DataFrame(depth_p, names)  # no p is less than draws can give
depth_p = depth_p.clip(lower=surrogates.least_p(n_draws_subject, **rolls))
print(depth_p.round(3).to_string())
between = pd.concat(between, names=["model"]) if between else pd.DataFrame()
between.round(2)

# %% [markdown]
# Where in each model a network's top anchors lie (relative to an even spread; last row:
# surrogates, which need not be even), and
# how alike they are between models: in their mean signal, over depth, and in the word
# features that drive them. Surrogates choose anchors in both models, too (`null_*`: their
# 95th percentile), so agreement below that is what any slow signal gives.

# %%
activations = stores.open_activations(recorded / "data" / "story", kind)
of_story = (activations, stores.read_tokens(recorded / "data" / "story"), words)
chosen = np.abs(coupling_r) >= np.quantile(np.abs(coupling_r), 1 - top, axis=0)
chosen = chosen.T.reshape(n_networks, n_layers, n_units)
correlations = meaning.feature_correlations(*of_story, known)
shifted = meaning.shifted_correlations(
    *of_story,
    known,
    n_draws=n_draws_subject,
    rng=np.random.default_rng([seed, 8]),
)
drawn_by = anchors.surrogate_synchrony(
    clean, clean_mean, basis, rng=np.random.default_rng([seed, 9]), **again
)
answers = meaning.feature_effects(
    correlations,
    chosen,
    coupling_r,
    null_correlations=shifted,
    null_synchrony=texts if null_method == "text" else drawn_by,
    names=names,
    rng=np.random.default_rng([seed, 10]),
)
ax = coupling_figures.plot_feature_effects(answers, level=level)
ax.set_title(f"What the top {top:.0%} of neurons answer to{note}")
artifacts.write_figure(out, "feature_effects", ax.figure)
driving = meaning.top_words(*of_story, chosen, coupling_r, n=8, names=names)
driving.groupby("network", sort=False)["text"].agg(", ".join).to_frame("driven by")

# %% [markdown]
# Effect sizes (Cohen's d) of top neurons against other neurons of their layers; positive
# where the network is high when the feature is. Dots treat neurons as independent, which
# they are not. A star holds against neurons that follow a surrogate of the network *and*
# against words that are shifted in time, family-wise over all rows; each alone is too
# easily passed.

# %% [markdown]
# ## Compute: atoms and encoding
#
# 64 atoms are learned from the responses of all neurons (no brain data involved), for the
# model and for each comparison model. Banded ridge regression, with penalties of their own
# for word timing, surprisal and atoms, then predicts BOLD in held-out, contiguous time.

# %%
atoms, codes, diversity = {}, {}, {}
for name, n in depths.items():
    cleaned = timeseries.residuals(
        artifacts.read_array(responses_of(name, atoms_kind))[used], drift_only
    )
    atoms[name], codes[name] = dictionary.learn(
        cleaned, n_atoms, penalty=atom_penalty, random_state=seed, device=device
    )
    diversity[name] = dictionary.diversity(codes[name], atoms[name], n_layers=n)
    if name == "model" and depth_bands:
        parts = dictionary.by_depth(cleaned, n_layers, depth_bands, n_atoms)
pd.DataFrame(diversity).T.round(3)

# %% [markdown]
# The interval of the effective number of atoms is over layers.
#
# People are predicted with the weights that fit the group's mean in training time
# (`subject_weights: own` fits each of them alone, which takes long runs). The ceiling is
# that of the same folds, without the same drift. Models with random weights and rolled
# stories are scored draw by draw.

# %%
rate = {"word timing": timing.to_numpy()[used]}
model_bands = parts if depth_bands else {"atoms": atoms["model"]}
# of every encoding model in this notebook
fit = {
    "tr": tr,
    "n_folds": n_folds,
    "gap": gap,
    "runs": runs_left or None,
    "high_pass": high_pass,
    "delays": delays,
    "n_iter": band_weights,
    "random_state": seed,
}
rolled = [
    surrogates.rolled(atoms["model"], k / (n_lags + 1), runs_left)
    for k in range(1, n_lags + 1)
]
sets = {"word rate": [rate]}
sets["model shifted + word rate"] = [{**rate, "atoms": one} for one in rolled]
if fresh:
    sets["random + word rate"] = [{**rate, "atoms": atoms[name]} for name in fresh]
for name in shown_depths:
    if name != "model" and name not in fresh:
        sets[f"{name} + word rate"] = [{**rate, "atoms": atoms[name]}]
sets["model + word rate"] = [{**rate, "atoms": atoms["model"]}]
rich = {**rate, **model_bands}
if "surprisal" in known:
    surprisal = regressors.story_regressors(words, ["surprisal"], **clock)
    rich["surprisal"] = surprisal[used]

# %%
target = brain["group_bold"][used]
told = sets
if subject_weights == "own" and target.shape[1] > 1000:  # these take long enough
    told = ["word rate", "model + word rate"]
draws, of_people = {}, {}
for name, several in sets.items():
    whole_group = subject_weights == "group"
    found = [
        encoding.encode(bands, target, subjects=series if whole_group else [], **fit)
        for bands in several
    ]
    draws[name] = np.stack([one.r for one in found])
    if whole_group:
        of_people[name] = np.mean([one.r_subjects for one in found], axis=0)
    elif name in told:
        each = [
            encoding.encode_subjects(bands, series, client=client, **fit)
            for bands in several
        ]
        of_people[name] = np.mean(each, axis=0)
scores = {name: several.mean(0) for name, several in draws.items()}
split = encoding.encode(rich, target, **fit)

# %%
scores["previous volume"] = encoding.previous_volume(target, **held_out)
draws["previous volume"] = scores["previous volume"][None]
table = inference.score_table(
    draws, of_people, ceiling, ceilings, scored, rng=np.random.default_rng([seed, 14])
)
table.round(3)

# %% [markdown]
# `group` is the score of the group mean, `share` the same as a share of its ceiling, with
# an interval over draws where there are several; `subjects` is the mean of single subjects
# with its 95 % interval over them: over other people who hear this story and, with weights of
# the group, for these weights. A model must earn its place above word rate alone, above
# the same architecture with random weights and above its own atoms shifted in time.
# *Previous volume* knows no words but the last value of BOLD itself: it shows how much of a
# time course its own past explains.
#
# ## Compute: which networks the model predicts
#
# A mean over voxels hides where a model helps. For every network: its gain over word timing
# in held-out time, against the gain of the same atoms with the story rolled, family-wise
# over networks. The subjects cannot answer this, since all heard the same story, and chance
# likeness of a prediction to what they share comes back in each of them.

# %%
gained = encoding.gain_over_shifts(
    rate,
    {"atoms": atoms["model"]},
    mean,
    n_draws=n_draws_encoding,
    rng=np.random.default_rng([seed, 15]),
    run_lengths=runs_left,
    level=level,
    **fit,
)
gained.insert(0, "network", names)
if fresh:  # does any architecture that hears the words do as well?
    strangers = {**rate, "atoms": atoms[fresh[0]]}
    gained["gain_random"] = encoding.encode(strangers, mean, **fit).r - gained["r_base"]
ax = coupling_figures.plot_beside_null(
    gained.set_index("network"),
    "gain",
    "gain in held-out\ncorrelation (r)",
    level=level,
)
ax.set_title(f"Networks that the model predicts beyond word timing{note}")
artifacts.write_figure(out, "encoding_gain", ax.figure)
gained.round(3)

# %% [markdown]
# A bar is the model's gain, the grey mark the mean and the black one the 95th percentile of
# rolled stories; a star holds family-wise. Useless features cost a little: rolled ones lie
# below 0. Rolling takes away the words' timing as well: features that hold a timing which the
# regressors lack (another delay of the response) would gain, too. Random weights, which hear
# the same timing, show how much that is (`gain_random`).

# %%
if maps is None and len(scored) <= 20:
    shown = {name: r for name, r in scores.items() if name != "previous volume"}
    ax = coupling_figures.plot_encoding_bars(shown, names, ceiling)
    ax.set_title(f"Encoding of the group mean in held-out time{note}")
    artifacts.write_figure(out, "encoding", ax.figure)
kept = {name: values[scored] for name, values in scores.items()}
ax = coupling_figures.plot_score_distribution(kept, ceiling[scored])
ax.set_title(f"Held-out scores where the ceiling is above {min_ceiling}{note}")
artifacts.write_figure(out, "encoding_scores", ax.figure)
shares = dict(zip(split.bands, split.split[:, scored], strict=True))
shares["all bands"] = sum(shares.values())
ax = coupling_figures.plot_score_distribution(
    shares, ceiling[scored] ** 2, label="held-out R2"
)
ax.set_title(f"What each band adds to the group's R2 in held-out time{note}")
artifacts.write_figure(out, "encoding_split", ax.figure)

# %% [markdown]
# The band's shares add up to the joint R2; a share below zero harms the prediction. The
# ceiling is the square of the group's.

# %%
gain = np.arctanh(of_people["model + word rate"]) - np.arctanh(of_people["word rate"])
# significance is told for weights of their own alone, see below
gain_t, gain_p = inference.random_effects(gain, rng=np.random.default_rng([seed, 16]))
if subject_weights == "own":
    up, down = (((s * gain_t > 0) & (gain_p <= level)).sum() for s in (1, -1))
    print(f"voxels or regions above word rate {up}, below {down}, of {len(gain_t)}")
if mask is not None:
    ax = brain_figures.plot_encoding_map(gain_t, mask)
    ax.set_title(f"Gain of atoms over word rate, t over subjects{note}", fontsize=11)
    artifacts.write_figure(out, "encoding_map", ax.figure)
    figure = coupling_figures.plot_surface(gain_t, mask, f"gain, t{note}")
    artifacts.write_figure(out, "encoding_surface", figure)
if subject_weights == "own":  # the group's weights are fitted to both groups at once
    curve = inference.subjects_needed(
        of_people["model + word rate"], rng=np.random.default_rng([seed, 17])
    )
    ax = coupling_figures.plot_subjects_needed(*curve)
    ax.set_title(f"Subjects that a stable map needs{note}")
    artifacts.write_figure(out, "subjects_needed", ax.figure)

# %% [markdown]
# t over subjects shows where the gain is alike in people. It speaks for other subjects, not
# for other stories, since all heard this one; with weights of the group the subjects share
# the prediction, too, and no significance is told. With weights of their own
# (`subject_weights: own`) it is, and a curve shows how the mean maps of two groups of subjects
# agree.

# %% [markdown]
# ## Compute: functional organisation
#
# The published way (Sun et al. 2024): atoms as fixed regressors of BOLD. The map of an atom
# is held against the networks: an atom serves the network in whose core its t is largest,
# if surrogate atoms, regressed on the same BOLD, rarely reach as much anywhere. A neuron
# serves the network of its strongest atom.

# %%
one_surrogate = partial(surrogates.draw_one, basis=drift_only, **turned)
fitted = {"basis": basis, "draw": one_surrogate, "percent": overlap_percent}
# atoms are made of volumes that are left already
regular = {
    name: folds.mean_delayed(values, delays, runs_left or None)
    for name, values in atoms.items()
    if name in shown_depths
}
references = {"group's networks": (target, maps)}
if mask is not None:
    known_maps, _ = templates.load_templates(before02["template_sets"][0], mask)
    references["templates"] = (target, known_maps)
if maps is not None:
    own = np.load(extracted / "data" / "subject_maps.npy", mmap_mode="r")
    references["subjects' own networks"] = (series, own)
overlaps, likeness = organisation.overlap_with_sets(
    references,
    regular["model"],
    n_draws=n_draws,
    n_draws_subjects=n_draws_atoms,
    rng=np.random.default_rng([seed, 18]),
    **fitted,
)
likeness.round(3)

# %%
observed, drawn_maps = overlaps["group's networks"]
p_of_atoms, p_largest = organisation.p_values(observed["t"], drawn_maps["t"])
in_cores = {"model": (observed["t"], p_of_atoms)}
limit = np.quantile(np.abs(drawn_maps["t"]).max((1, 2)), 1 - level)
where = {"names": names, "threshold": limit}
ax = coupling_figures.plot_overlap(observed["t"], p_largest <= level, **where)
ax.set_title(f"Atoms in the networks' cores{note}", loc="right")
artifacts.write_figure(out, "atoms_in_networks", ax.figure)
p_all, q_all = organisation.network_p_values(observed["t"], drawn_maps["t"])
fixed = glm.fixed_regressors(target, regular["model"], basis)
artifacts.write_array(out / "data" / "atom_t_maps.npy", fixed)
r = np.corrcoef(np.abs(fixed).max(0), scores["model + word rate"])[0, 1]
print(
    f"published t maps, largest |t| {np.abs(fixed).max():.1f}; with held-out r: {r:.2f}"
)
pd.DataFrame({"p, all atoms together": p_all, "q": q_all}, names).round(3)

# %% [markdown]
# The published t maps (all atoms in one model, fitted and tested on the same volumes) can be
# large where nothing is predicted: the line above correlates them, over voxels or regions,
# with the score in held-out time. They are written beside the rest.
#
# The table holds the largest overlap of any atom with any network against that of surrogate
# atoms. Spatial correlation and Dice are high by chance: any regressor's map of BOLD looks
# like BOLD's own networks, so the t in a network's core decides. Signal that many similar
# atoms share is seen in none of them alone: the second table sums over atoms.

# %%
rows, counts, pools = [], {}, {}
for i, (name, of_model) in enumerate(regular.items()):
    if name != "model":
        overlap, null = organisation.overlap_beside_null(
            target,
            of_model,
            maps,
            n_draws=n_draws,
            rng=np.random.default_rng([seed, 21, i]),
            **fitted,
        )
        p_of_atoms, _ = organisation.p_values(overlap["t"], null["t"])
        in_cores[name] = overlap["t"], p_of_atoms
    serves = organisation.serve(in_cores[name][0], in_cores[name][1] <= level)
    serving = serves == np.arange(n_networks)[:, None]
    counts[name], pools[name] = organisation.subgroups(
        codes[name], serves, depths[name], n_networks
    )
    rows.append(
        organisation.describe(
            series,
            of_model,
            serving,
            maps,
            reference=target,
            n_draws=n_draws_atoms,
            rng=np.random.default_rng([seed, 19, i]),
            counts=counts[name],
            pool=pools[name],
            names=names,
            model=name,
            **fitted,
        )
    )

# %%
organised = pd.concat(rows, ignore_index=True)
axes = coupling_figures.plot_subgroups(counts, pools, names)
axes[0].figure.suptitle(f"Neurons that serve each network{note}")
artifacts.write_figure(out, "subgroups", axes[0].figure)
effective = {name: diversity[name]["effective_atoms"] for name in shown_depths}
axes = coupling_figures.plot_organisation(organised, effective)
axes[0].figure.suptitle(f"Diversity and consistency{note}")
artifacts.write_figure(out, "organisation", axes[0].figure)
organised[organised["network"] == "mean"].round(3)

# %% [markdown]
# Here an atom serves a network at p <= `level` over the networks, not over the atoms: about
# `level` of them do by chance. *Diversity* is the effective number of atoms, exp of the
# entropy of code mass. *Consistency* is how much subjects agree (Dice of pairs) on the
# voxels of a network as its atoms draw them, with 95 % intervals over subjects; the grey
# and black marks are surrogate atoms, chosen for the network in the same way. A model is
# more brain-like only where it stands above these.

# %% [markdown]
# ## Compute: networks learned in other subjects
#
# Networks are learned in one half of the subjects, and their time courses in the other half
# are predicted like voxels (arXiv 2604.24942). Components of noise should score nothing.

# %%
if maps is not None and n_subjects >= 6:
    learned_in, scored_in = np.split(
        np.random.default_rng([seed, 20]).permutation(n_subjects), [n_subjects // 2]
    )
    method = {"method": before02["brain_method"], "mask": mask, "over": "units"}
    method |= {"n_networks": before02["n_brain_networks"]}
    some = [series[i] for i in learned_in]
    found = decomposition.decompose(some, **method, random_state=seed).networks
    heard = [dual_regression.subject_timecourses(series[i], found) for i in scored_in]
    heard = [*map(timeseries.zscore, heard)]
    heard_by_all = timeseries.zscore(np.mean(heard, 0))
    compared = ["word rate", "model shifted + word rate", "model + word rate"]
    predicted = {
        n: np.mean([encoding.encode(b, heard_by_all, **fit).r for b in sets[n]], axis=0)
        for n in compared
    }
    called = matching.named_after(matching.correlate(found, maps), names)
    limit, _ = encoding.ceilings(heard, high_pass=high_pass, **held_out)
    ax = coupling_figures.plot_encoding_bars(predicted, called, limit)
    ax.set_title(f"Networks learned in other subjects, predicted{note}")
    artifacts.write_figure(out, "components", ax.figure)

# %% [markdown]
# Bars of the shifted story and of word timing are the controls, the black line is what a
# perfect model would reach. Names are those of the networks of all subjects.

# %% [markdown]
# ## Look: by hand
#
# Maps to turn and cut in a browser (JupyterLab: click on *Trust HTML*), and the explorer:
# choose a network and a neuron, by its rank in synchrony with the network or by its layer
# and number. In an executed notebook it stands still at the most synchronous pair.

# %%
seen = {"Gain over word rate, t over subjects": gain_t}
seen["Held-out r of word rate and atoms"] = scores["model + word rate"]
seen["Noise ceiling, r"] = ceiling
if mask is not None:
    seen = {name: seen[name] for name in list(seen)[:n_views]}
    display(views.write_views(out, seen, mask, note=note))
at = {"tr": tr, "start": before01["first_volume"] + tr * np.arange(n_times)[used][0]}
at |= {"maps": maps, "mask": mask} if mask is not None else {}
found = (clean, clean_mean, coupling_r, threshold, names, layers, *of_story)
coupled = explorer.Coupling(*found, **at, note=note)
figure = explorer.plot_neuron(coupled, *coupled.best)
artifacts.write_figure(out, "explorer", figure)
explorer.explore(coupled, figure)

# %% [markdown]
# The words are those at the neuron's highest activations, whatever the network does then;
# BOLD answers seconds later. The best of so many neurons always looks good: what counts is
# whether it stands beyond the dashed threshold.

# %% [markdown]
# ## Check
#
# Against the truth, where BOLD was simulated. A network that few neurons drive counts as
# found if a map carries its name and a neuron couples with it beyond the family-wise
# threshold; one that no neuron drives counts as false if it has such a neuron. Components
# without a name are counted apart: ICA can split a fragment off a driven network, which
# then couples as well. A network that a population drives is for the encoding model to
# find: a gain over word rate beyond rolled stories, and none where nothing but word rate, or
# nothing known, drives a network.
#
# A second check holds for any data: the story reversed, and rolled, and both. Nobody heard
# it so, and nothing can be coupled; what the null finds there is chance, or a wrong null.
# (Rolled ones are among the draws of `shift` itself and cannot fail for it; reversed ones
# can.) Some 3,000 neurons, spread evenly, and 30 subjects at most stand for all.

# %%
score = {}
if note:
    planted = artifacts.read_json(extracted / "data" / "truth.json")
    arrays = artifacts.read_arrays(extracted / "data" / "truth.npz")
    score = simulate.score_synchrony(
        coupling_r, threshold, names, maps, planted, arrays["maps"]
    )
    of_own = simulate.score_synchrony(
        coupling_r, own_threshold, names, maps, planted, arrays["maps"]
    )
    for found in ("planted_networks_found", "false_networks_found"):
        score[f"{found}_by_network"] = of_own[found]
    score |= simulate.score_encoding(
        scores["model + word rate"] - scores["word rate"],
        names,
        gained["p"],
        planted,
        arrays["maps"],
        level=level,
    )
    print(pd.Series(score).round(3).to_string())

# %%
some = uncoupled.spread(n_subjects, 30)
unheard = uncoupled.false_findings(
    responses,
    confounding,
    drift,
    np.concatenate([mean[None], people[some]]),
    texts=(corpus, H) if null_method == "text" else None,
    n_rolls=1 if null_method == "text" else uncoupled.N_ROLLS,  # texts take long
    names=["group", *[f"subject {i}" for i in some]],
    level=level,
    rng=np.random.default_rng([seed, 11]),
    **turned,
    **on_device,
)
said = uncoupled.verdict(unheard, level)
print(said)
ax = coupling_figures.plot_uncoupled(unheard, level=level)
ax.set_title(f"Coupling with a story that was not heard, null {null_method}{note}")
artifacts.write_figure(out, "uncoupled", ax.figure)

# %% [markdown]
# Bars within the grey band are chance. Where they stand above it, on your data this null
# takes chance for coupling, and no p value above can be believed: take `null_method: text`.
#
# What each test could have found at best: n draws give no p below 1 / (1 + n), and rolls
# of one run no less than one in as many as there are. Where that is above `level`, "none"
# would say nothing.

# %%
n, n_few = n_draws, n_draws_subject
least_few = surrogates.least_p(n_few, null_method=null_method, **rolls)
least_half = surrogates.least_p(
    n_few, null_method=turning, n_times=sum(lengths_left) // 2
)
n_tests = len(coupling_r) * (n_networks if fdr_over == "all" else 1)
in_subjects = (largest >= limits[:, None]).any(1).sum()
in_features = answers[["familywise_surrogate", "familywise_shift"]].max(axis=1)
tests = {
    "neurons, family-wise": [n, least, 1, significant.any(1).sum()],
    "neurons, q": [
        n,
        1 / drawn.counts.sum(1).min(),
        n_tests,
        (q <= level).any(1).sum(),
    ],
    "layers, over layers": [n, least, 1, (layer_p <= level).sum()],
    "subjects": [n_few, least_few, 1, in_subjects],
    "global networks": [
        n_few,
        least_few,
        1,
        (of_networks["p_familywise"] <= level).sum(),
    ],
    "reliable in time": [
        n_few,
        least_half,
        1,
        (stable["familywise_time"] <= level).sum(),
    ],
    "depth of anchors": [
        n_few,
        least_few,
        1,
        (depth_p["model"] <= level).sum(),
    ],
    "features": [n_few, 1 / (1 + n_few), 1, (in_features <= level).sum()],
    "networks predicted": [
        n_draws_encoding,
        surrogates.least_p(n_draws_encoding, null_method="shift", **rolls),
        1,
        (gained["p"] <= level).sum(),
    ],
}
columns = ["draws", "least_p", "tests", "found"]
tests = pd.DataFrame.from_dict(tests, orient="index", columns=columns, dtype=object)
inference.attainable(tests, level)

# %% [markdown]
# ## Write

# %%
data, cube = out / "data", (n_layers, n_units, n_networks)
arrays = {"synchrony": coupling_r.reshape(cube), "q": q.astype("f4").reshape(cube)}
arrays |= {"maxima": drawn.maxima, "threshold": threshold, "subject_thresholds": limits}
arrays |= {
    "own_threshold": own_threshold,
    "layer_share": layer_share,
    "layer_p": layer_p,
}
artifacts.write_arrays(data / "synchrony.npz", **arrays)
artifacts.write_arrays(data / "atoms.npz", atoms=atoms["model"], codes=codes["model"])
shown = {artifacts.slug(name): values for name, values in scores.items()}
artifacts.write_arrays(data / "encoding.npz", **shown, ceiling=ceiling)
neuron, k = np.nonzero(significant)
found = pd.DataFrame({"layer": neuron // n_units, "unit": neuron % n_units})
found = found.assign(network=np.array(names)[k], r=coupling_r[neuron, k])
tables = {"significant": found, "scores": table, "organisation": organised}
tables |= {"reliability": stable, "between_models": between, "feature_effects": answers}
tables |= {"unheard": unheard, "anchors": of_networks, "encoding_gain": gained}
for name, written in tables.items():
    artifacts.write_table(data / f"{name}.parquet", written.reset_index())

# %%
called = {"model": "mean", "random": "random_model", "model shifted": "shifted"}
means = {k.replace(" + word rate", ""): mean for k, mean in table["group"].items()}
encoded = {k: v for k, v in means.items() if k in depths or k == "model shifted"}
people_r = table["subjects"]
summary = {
    "n_significant_neurons": int(significant.any(1).sum()),
    "fwe_threshold": threshold,
    "max_synchrony": float(np.abs(coupling_r).max()),
    "n_layers_beyond_share": int((layer_p <= level).sum()),
    "unheard_found": int(unheard["found"].sum()),
    "unheard_total": len(unheard),
    **{f"encoding_r_{called.get(name, name)}": r for name, r in encoded.items()},
    "encoding_r_baseline_wordrate": means["word rate"],
    "noise_ceiling_mean": means["noise ceiling"],
    "encoding_r_people": people_r["model + word rate"],
    "encoding_r_people_wordrate": people_r["word rate"],
    "n_networks_predicted": int((gained["p"] <= level).sum()),
    **score,
}
artifacts.finish_stage(out, summary, params=settings, simulated=manifest02["simulated"])
