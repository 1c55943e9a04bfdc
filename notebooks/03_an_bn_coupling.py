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
# of words explain?**
#
# | reads | writes |
# |---|---|
# | stage 01 (responses, activations, words), stage 02 (time courses and maps of networks) | `data/synchrony.npz`: synchrony (layers x neurons x networks), q values, null, thresholds · `data/subject_synchrony.npy` (subjects x neurons x networks) · `data/names.json` of the networks · tables `significant`, `anchors`, `reliability`, `between_models`, `feature_effects`, `unheard` (`.parquet`) |
#
# Cost: about two minutes on one CPU core for 46,080 neurons, 14 networks, 20 subjects.
#
# Synchrony and anchors: Liu et al. 2023 (arXiv 2303.14871). Nulls, thresholds and controls
# are this project's.

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
delays: list[int] = [0]  # volumes by which responses are delayed, their mean is taken; more than one for hrf: none (0 to 100)
null_method: str = "shift"  # surrogates of synchrony (one of shift, phase, text)
fdr_over: str = "network"  # what false discoveries are counted over: neurons of each network, or all of all (one of network, all)
n_draws: int = 200  # surrogates for the group (20 to 1000000)
n_draws_subject: int = 200  # surrogates for each subject, and for anchors, reliability, models and features (20 to 1000000)
level: float = 0.05  # error rate, family-wise or of false discoveries (0.0001 to 0.5)
top: float = 0.01  # share of the neurons that are a network's top anchors (0.0001 to 0.5)
batch_size: int = 20  # surrogates a matrix product, bounds the memory (1 to 100000)
seed: int = 0  # of surrogates (0 to 4294967295)
device: str = "auto"  # where synchrony is computed: auto, cpu, cuda, cuda:1
# fmt: on

# %% tags=["imports"]
import re

import numpy as np
import pandas as pd

from anbn.brain import simulate
from anbn.core import artifacts, workers
from anbn.core.generators import rng_of
from anbn.core.params import current
from anbn.coupling import (
    anchors,
    explorer,
    meaning,
    prepared,
    reliability,
    synchrony,
    uncoupled,
)
from anbn.coupling import figures as coupling_figures
from anbn.models import loading, stores
from anbn.stats import inference, surrogates, timeseries

# %%
settings = current("03_an_bn_coupling", globals())
recorded, manifest01 = artifacts.stage_inputs(study, "01_activation_recording")
extracted, manifest02 = artifacts.stage_inputs(study, "02_fbn_extraction")
out = artifacts.begin_stage(study, "03_an_bn_coupling")

# %%
recording, extraction = manifest01["params"], manifest02["params"]
assert extraction["same_story"], "stage 02 ran with same_story: false"
assert null_method != "text" or kind in recording["corpora_kinds"], (
    f"null_method: text needs {kind} of other text: add it to corpora_kinds of stage 01"
)
has_truth = extraction["bold"] == "simulated"
note = " (simulated BOLD)" if has_truth else ""
compute_device = loading.choose_device(device)
# other text replaces responses, so it can be no null of other models
turning = "shift" if null_method == "text" else null_method
if null_method == "text":
    print("null by text: synchrony of group and subjects, anchors, depth, features")
    print("null by shift: reliability, comparison models")

# %% [markdown]
# ## Load
#
# Drift, the word rate (or what else `confounds` names), and sound power where it is known
# are removed from neurons and networks alike by one projection. Subjects' time courses are
# standardised and averaged for the group.
#
# BOLD and responses both rise when speech sets in, whatever is said, so that any story
# "couples" at its start: `speech` (on or off) is a confound, and the first
# `leave_out_start` seconds of every run are not used.

# %%
clock = prepared.clock(
    recording,
    manifest01["summary"]["n_times"],
    run_lengths=run_lengths,
    leave_out_start=leave_out_start,
    delays=delays,
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
    high_pass=extraction["high_pass"],
)
print(f"{clock.n_used} of {clock.n_times} volumes of {clock.tr:g} s are used")
print(
    f"removed: {removed.drift_basis.shape[1]} of drift, {removed.of_story.shape[1]} of"
)
print(f"the story ({', '.join(removed.names) or 'none'})")

# %%
brain = prepared.networks(extracted, clock)
names = brain.names
n_subjects, _, n_networks = brain.timecourses.shape
depths = {"model": 0} | artifacts.read_json(recorded / "data" / "models.json")
responses = clock.delayed(
    artifacts.read_array(recorded / "data" / f"responses_model_{kind}.npy")
)
n_layers, n_neurons = depths["model"], responses.shape[1]
n_units = n_neurons // n_layers
layers = recording["layers"] or list(range(n_layers))
print(f"responses: {clock.n_used} volumes x {n_neurons:,} {kind} neurons")
print(f"time courses: {n_networks} networks of {n_subjects} subjects{note}")
if not n_networks:
    print("stage 02 left no network: there is nothing to follow, and nothing to draw")

# %% [markdown]
# ## Compute: synchrony
#
# Pearson correlation of every neuron with every network, with drift alone removed and with
# all confounds removed.

# %%
clean = timeseries.residuals(responses, removed.basis)
clean_mean = timeseries.residuals(brain.mean, removed.basis)
units = synchrony.unit_rows(clean)
coupling_r = synchrony.synchrony(units, clean_mean)
without_drift = synchrony.synchrony(
    timeseries.residuals(responses, removed.drift_basis), brain.mean
)

# %% [markdown]
# The same for surrogates of the networks, which pass through the same projection: by `shift`
# the time courses are rolled, which keeps all that makes slow and bursting signals correlate
# by chance. (`phase` keeps the spectrum only, `text` replaces the story by other text on its
# clock.)
#
# A first few surrogates say which |r| 1 % of all neurons reach by chance. The others, drawn
# apart from these, give the largest |r| over all neurons and networks, and the largest share
# of a layer's neurons beyond that 1 %.

# %%
texts = None
if null_method == "text":
    texts = prepared.other_texts(recorded, kind, clock)
pilot = synchrony.null(
    units,
    clean_mean,
    removed.basis,
    null_method=null_method,
    texts=texts,
    run_lengths=clock.runs,
    n_draws=20,
    batch_size=batch_size,
    device=compute_device,
    rng=rng_of(seed, "pilot of the null of synchrony"),
)
one_percent = synchrony.cut_at(pilot.counts, share=0.01)

# %%
null = synchrony.null(
    units,
    clean_mean,
    removed.basis,
    null_method=null_method,
    texts=texts,
    run_lengths=clock.runs,
    n_draws=n_draws,
    n_layers=n_layers,
    cut=one_percent,
    batch_size=batch_size,
    device=compute_device,
    rng=rng_of(seed, "null of synchrony"),
)
least_p = surrogates.least_p(
    n_draws,
    null_method=null_method,
    n_times=clock.n_used,
    run_lengths=clock.runs,
)

# %% [markdown]
# The largest |r| of all gives the family-wise threshold, that over the neurons of one network
# the network's own, and each network's |r| its false discovery rate (q). Where single neurons
# are too weak, the share of a layer's neurons is held against the largest share of any layer.

# %%
threshold = synchrony.familywise_threshold(null.maxima, level=level)
own_threshold = synchrony.familywise_threshold(
    null.maxima, level=level, by_network=True
)
significant = np.abs(coupling_r) >= threshold
q = synchrony.false_discovery_q(coupling_r, null.counts, over=fdr_over)
layer_share = synchrony.layer_shares(coupling_r, n_layers, one_percent)
layer_p = synchrony.familywise_p(layer_share, null.shares, by_network=True)
p_of_best = synchrony.familywise_p(np.abs(coupling_r).max(0), null.maxima)
print(f"family-wise threshold |r| = {threshold:.3f} ({null_method}, {n_draws} draws)")
print(f"neurons beyond it: {significant.any(1).sum():,} of {n_neurons:,}")

# %% [markdown]
# ## Look: which networks have neurons that follow them

# %%
if n_networks:
    ax = coupling_figures.plot_synchrony_by_layer(
        coupling_r, layers, threshold, null.maxima, names
    )
    ax.set_title(f"The most synchronous neuron of each layer, confounds removed{note}")
    artifacts.write_figure(out, "synchrony_by_layer", ax.figure)
by_network = pd.DataFrame(
    {
        "largest |r|, drift removed": np.abs(without_drift).max(0),
        "all confounds removed": np.abs(coupling_r).max(0),
        "threshold of this network": own_threshold,
        "neurons beyond family-wise": significant.sum(0),
        "beyond this network's own": (np.abs(coupling_r) >= own_threshold).sum(0),
        "neurons with q <= level": (q <= level).sum(0),
        "layers beyond their share": (layer_p <= level).sum(0),
        "p of the best": np.maximum(p_of_best, least_p),
    },
    index=names,
)
by_network.round(3)

# %% [markdown]
# The grey band is where the largest of *all* neurons and networks falls by chance; only
# what stands above the dashed line is coupling. Note how high chance reaches: with tens of
# thousands of neurons and slow signals, |r| of .4 is nothing. The network's own threshold
# leaves the number of networks out: of 20 networks without coupling one passes it.

# %% [markdown]
# ## Check: single subjects
#
# Each subject has a null of its own.

# %%
clean_people = np.stack(
    [timeseries.residuals(one, removed.basis) for one in brain.timecourses]
)
subject_r, subject_thresholds = synchrony.subjects(
    units,
    clean_people,
    removed.basis,
    out / "data" / "subject_synchrony.npy",
    null_method=null_method,
    texts=texts,
    run_lengths=clock.runs,
    n_draws=n_draws_subject,
    level=level,
    batch_size=batch_size,
    device=compute_device,
    client=workers.client(),  # None: one subject after another
    rng=rng_of(seed, "null of single subjects"),
)
subject_largest = np.stack([np.abs(one).max(0) for one in subject_r])
if n_networks:
    ax = coupling_figures.plot_subject_synchrony(
        subject_largest, subject_thresholds, names
    )
    ax.set_title(f"The most synchronous neuron of every subject{note}")
    artifacts.write_figure(out, "subject_synchrony", ax.figure)

# %% [markdown]
# Single subjects are noisier than their mean (grey band: their thresholds). A network in
# which the group passes and no subject does is a small effect that all share.
#
# ## Check: reliability
#
# Pearson's r, over neurons, of a network's synchrony in two halves: of subjects, and of the
# story.

# %%
halves = reliability.reliability(
    responses,
    brain.timecourses,
    removed.of_story,
    tr=clock.tr,
    high_pass=extraction["high_pass"],
    null_method=turning,
    run_lengths=clock.runs,
    n_draws=n_draws_subject,
    names=names,
    rng=rng_of(seed, "reliability"),
)
if n_networks:
    ax = coupling_figures.plot_reliability(halves)
    ax.set_title(f"Does synchrony come back?{note}")
    artifacts.write_figure(out, "reliability", ax.figure)
halves.round(3)

# %% [markdown]
# Halves of *subjects* agree wherever subjects' time courses do, whether or not the model has a
# part in it; only halves of *time* show that the same neurons follow the network in other
# minutes of the story. Black marks: what surrogates reach, as neurons resemble each other.
#
# ## Compute: anchors, both ways
#
# The network each neuron follows best, and the neuron each network follows best (Liu et al.
# 2023). Every neuron has an anchor, by chance too: a network is *global* only if it anchors
# more neurons than its own surrogates do.

# %%
by_text = None
if null_method == "text":  # read once for anchors, depth and features
    by_text = synchrony.text_synchrony(
        texts[0],
        texts[1],
        clean_mean,
        removed.basis,
        n_draws=n_draws_subject,
        rng=rng_of(seed, "other texts for anchors"),
    )
of_networks = anchors.global_networks(
    coupling_r,
    anchors.surrogate_synchrony(
        clean,
        clean_mean,
        removed.basis,
        null_method=turning,
        run_lengths=clock.runs,
        n_draws=n_draws_subject,
        drawn=by_text,
        rng=rng_of(seed, "null of anchors"),
    ),
    names=names,
)

# %%
if n_networks:
    ax = coupling_figures.plot_beside_null(
        of_networks,
        "share",
        "share of the neurons whose\nbest network this is",
        p="p_familywise",
        level=level,
    )
    ax.set_title(f"Neurons that follow this network best{note}")
    artifacts.write_figure(out, "anchors", ax.figure)
_, best_neuron, is_mutual = anchors.anchors(coupling_r)
best = pd.DataFrame(
    {
        "layer": [layers[i // n_units] for i in best_neuron],
        "unit": best_neuron % n_units,
        "r": coupling_r[best_neuron, range(n_networks)],
        "mutual": is_mutual,
    },
    index=of_networks.index,
)
of_networks.join(best).round(3)

# %% [markdown]
# The table ends with each network's best neuron, and whether the network is that neuron's
# best, too (*mutual*).
#
# ## Compute: anchors of several models
#
# Where in each model a network's top anchors lie. The first of several models with random
# weights stands for them.

# %%
fresh = [name for name in depths if re.fullmatch(r"random(_\d+)?", name)]
shown_depths = {name: n for name, n in depths.items() if name not in fresh[1:]}
depth, p_of_depth = {}, {}
for name, n in shown_depths.items():
    file = recorded / "data" / f"responses_{name}_{kind}.npy"
    of_model = clock.delayed(artifacts.read_array(file))
    of_model = timeseries.residuals(of_model, removed.basis)
    by_chance = anchors.surrogate_synchrony(
        of_model,
        clean_mean,
        removed.basis,
        null_method=turning,
        run_lengths=clock.runs,
        n_draws=n_draws_subject,
        drawn=by_text if name == "model" else None,
        rng=rng_of(seed, "null of depth"),
    )
    depth[name], p_of_depth[name] = anchors.depth_beside_chance(
        of_model, clean_mean, by_chance, n, top=top
    )

# %%
least_p_few = surrogates.least_p(
    n_draws_subject,
    null_method=null_method,
    n_times=clock.n_used,
    run_lengths=clock.runs,
)
if n_networks:
    axes = coupling_figures.plot_depth_profiles(depth, [*names, "surrogates, mean"])
    axes[0].figure.suptitle(f"Where the top {top:.0%} of neurons lie{note}")
    artifacts.write_figure(out, "anchor_depths", axes[0].figure)
depth_p = pd.DataFrame(p_of_depth, names)
for name in depth_p:  # other models have no null of other text
    least = surrogates.least_p(
        n_draws_subject,
        null_method=null_method if name == "model" else turning,
        n_times=clock.n_used,
        run_lengths=clock.runs,
    )
    depth_p[name] = depth_p[name].clip(lower=least)
print("p of the mean depth of the top neurons, family-wise over networks:")
depth_p.round(3)

# %% [markdown]
# Colours are relative to an even spread over depth. The last row is the mean over surrogates,
# which need not be even.

# %%
known = [name for name in meaning.FEATURES if words[name].nunique() > 1]
features = clock.delayed(clock.regressors(words, known).to_numpy(float))
tables_of_pairs = {}
for name, n in shown_depths.items():
    if name == "model":
        continue
    file_of_other = recorded / "data" / f"responses_{name}_{kind}.npy"
    other = clock.delayed(artifacts.read_array(file_of_other))
    tables_of_pairs[name] = anchors.between_models(
        [(clean, n_layers), (timeseries.residuals(other, removed.basis), n)],
        clean_mean,
        removed.basis,
        features,
        null_method=turning,
        run_lengths=clock.runs,
        n_draws=n_draws_subject,
        top=top,
        names=names,
        rng=rng_of(seed, "null between models"),
    )
between = pd.DataFrame()
if tables_of_pairs:
    between = pd.concat(tables_of_pairs, names=["model"])
else:
    print("no comparison model was recorded: nothing to compare anchors with")
between.round(2)

# %% [markdown]
# How alike a network's top anchors are between the model and each other one: in their mean
# signal, over depth, and in the word features that drive them. Surrogates choose anchors in
# both models, too (`null_*`: their 95th percentile), so agreement below that is what any slow
# signal gives.
#
# ## Compute: what the top neurons answer to
#
# Their correlation with features of the words, over words, beside that of other neurons of
# their layers; the same with the words shifted along the story, and for neurons that follow
# surrogates of the network.

# %%
activations = stores.open_activations(recorded / "data" / "story", kind)
tokens = stores.read_tokens(recorded / "data" / "story")
chosen = np.abs(coupling_r) >= np.quantile(np.abs(coupling_r), 1 - top, axis=0)
chosen_neurons = chosen.T.reshape(n_networks, n_layers, n_units)
feature_r = meaning.feature_correlations(activations, tokens, words, known)
shifted_r = meaning.shifted_correlations(
    activations,
    tokens,
    words,
    known,
    n_draws=n_draws_subject,
    rng=rng_of(seed, "words shifted along the story"),
)

# %%
answers = meaning.feature_effects(
    feature_r,
    chosen_neurons,
    coupling_r,
    null_correlations=shifted_r,
    null_synchrony=anchors.surrogate_synchrony(
        clean,
        clean_mean,
        removed.basis,
        null_method=turning,
        run_lengths=clock.runs,
        n_draws=n_draws_subject,
        drawn=by_text,
        rng=rng_of(seed, "null of features"),
    ),
    names=names,
    rng=rng_of(seed, "labels dealt anew"),
)

# %%
if n_networks:
    ax = coupling_figures.plot_feature_effects(answers, level=level)
    ax.set_title(f"What the top {top:.0%} of neurons answer to{note}")
    artifacts.write_figure(out, "feature_effects", ax.figure)
driving = meaning.top_words(
    activations, tokens, words, chosen_neurons, coupling_r, n=8, names=names
)
driving.groupby("network", sort=False)["text"].agg(", ".join).to_frame("driven by")

# %% [markdown]
# Effect sizes (Cohen's d) of top neurons against other neurons of their layers; positive
# where the network is high when the feature is. Dots treat neurons as independent, which
# they are not. A star holds against neurons that follow a surrogate of the network *and*
# against words that are shifted in time, family-wise over all rows; each alone is too
# easily passed.
#
# ## Look: by hand
#
# The explorer: choose a network and a neuron, by its rank in synchrony with the network or by
# its layer and number. In an executed notebook it stands still at the most synchronous pair.

# %%
coupled = explorer.Coupling(
    responses=clean,
    timecourses=clean_mean,
    synchrony=coupling_r,
    threshold=threshold,
    names=names,
    layers=layers,
    activations=activations,
    tokens=tokens,
    words=words,
    tr=clock.tr,
    start=clock.first,
    maps=brain.maps if brain.mask is not None else None,
    mask=brain.mask,
    note=note,
)
if n_networks:
    network, neuron = coupled.best
    figure = explorer.plot_neuron(coupled, network, neuron)
    artifacts.write_figure(out, "explorer", figure)
explorer.explore(coupled, figure) if n_networks else None

# %% [markdown]
# The words are those at the neuron's highest activations, whatever the network does then;
# BOLD answers seconds later. The best of so many neurons always looks good: what counts is
# whether it stands beyond the dashed threshold.
#
# ## Check: the truth
#
# Where BOLD was simulated. A network that few neurons drive counts as found if a map carries
# its name and a neuron couples with it beyond the family-wise threshold; one that no neuron
# drives counts as false if it has such a neuron. Components without a name are counted apart:
# ICA can split a fragment off a driven network, which then couples as well.

# %%
of_truth = {}
if has_truth:
    planted = artifacts.read_json(extracted / "data" / "truth.json")
    planted_maps = artifacts.read_arrays(extracted / "data" / "truth.npz")["maps"]
    of_truth = simulate.score_synchrony(
        coupling_r, threshold, names, brain.maps, planted, planted_maps
    )
    by_own = simulate.score_synchrony(
        coupling_r, own_threshold, names, brain.maps, planted, planted_maps
    )
    of_truth["planted_networks_found_by_network"] = by_own["planted_networks_found"]
    of_truth["false_networks_found_by_network"] = by_own["false_networks_found"]
    print(pd.Series(of_truth).round(3).to_string())
else:
    print("BOLD is measured: no truth is known")

# %% [markdown]
# ## Check: a story that was not heard
#
# The story reversed, and rolled, and both. Nobody heard it so, and nothing can be coupled;
# what the null finds there is chance, or a wrong null. (Rolled ones are among the draws of
# `shift` itself and cannot fail for it; reversed ones can.) Some 3,000 neurons, spread evenly,
# and 30 subjects at most stand for all.

# %%
some_subjects = uncoupled.spread(n_subjects, 30)
unheard = uncoupled.false_findings(
    responses,
    removed.of_story,
    removed.drift,
    np.concatenate([brain.mean[None], brain.timecourses[some_subjects]]),
    null_method=turning,
    texts=texts,
    run_lengths=clock.runs,
    n_rolls=1 if null_method == "text" else uncoupled.N_ROLLS,  # texts take long
    names=["group", *[f"subject {i}" for i in some_subjects]],
    level=level,
    batch_size=batch_size,
    device=compute_device,
    rng=rng_of(seed, "a story that was not heard"),
)
print(uncoupled.verdict(unheard, level))
ax = coupling_figures.plot_uncoupled(unheard, level=level)
ax.set_title(f"Coupling with a story that was not heard, null {null_method}{note}")
artifacts.write_figure(out, "uncoupled", ax.figure)

# %% [markdown]
# Bars within the grey band are chance. Where they stand above it, on your data this null
# takes chance for coupling, and no p value above can be believed: take `null_method: text`.
#
# ## Check: what could have been found
#
# n draws give no p below 1 / (1 + n), and rolls of one run no less than one in as many as
# there are. Where that is above `level`, "none" would say nothing.

# %%
least_p_half = surrogates.least_p(
    n_draws_subject, null_method=turning, n_times=clock.n_used // 2
)
n_q = n_neurons * (n_networks if fdr_over == "all" else 1)
least_p_q = 1 / null.counts.sum(1).min() if n_networks else 1.0
subjects_found = int((subject_largest >= subject_thresholds[:, None]).any(1).sum())
reliable_found = int((halves["familywise_time"] <= level).sum())
effects_p = answers[["familywise_surrogate", "familywise_shift"]].max(axis=1)
global_found = int((of_networks["p_familywise"] <= level).sum())
few = n_draws_subject
rows = [
    ("neurons, family-wise", n_draws, least_p, 1, significant.any(1).sum()),
    (
        "neurons, q",
        n_draws,
        least_p_q,
        n_q,
        (q <= level).any(1).sum(),
    ),
    ("layers, over layers", n_draws, least_p, 1, (layer_p <= level).sum()),
    ("subjects", few, least_p_few, 1, subjects_found),
    ("global networks", few, least_p_few, 1, global_found),
    ("reliable in time", few, least_p_half, 1, reliable_found),
    ("depth of anchors", few, least_p_few, 1, (depth_p["model"] <= level).sum()),
    ("features", few, 1 / (1 + few), 1, (effects_p <= level).sum()),
]
tests = pd.DataFrame(
    rows, columns=["test", "draws", "least_p", "tests", "found"], dtype=object
)
inference.attainable(tests.set_index("test"), level)

# %% [markdown]
# ## Write

# %%
cube = (n_layers, n_units, n_networks)
artifacts.write_arrays(
    out / "data" / "synchrony.npz",
    synchrony=coupling_r.reshape(cube),
    q=q.astype("f4").reshape(cube),
    maxima=null.maxima,
    threshold=threshold,
    subject_thresholds=subject_thresholds,
    own_threshold=own_threshold,
    layer_share=layer_share,
    layer_p=layer_p,
)
artifacts.write_json(out / "data" / "names.json", names)

# %%
neuron_found, network_found = np.nonzero(significant)
found_pairs = pd.DataFrame(
    {
        "layer": neuron_found // n_units,
        "unit": neuron_found % n_units,
        "network": np.array(names, object)[network_found],
        "r": coupling_r[neuron_found, network_found],
    }
)
tables = {
    "significant": found_pairs,
    "anchors": of_networks,
    "reliability": halves,
    "between_models": between,
    "feature_effects": answers,
    "unheard": unheard,
}
for name, table in tables.items():
    artifacts.write_table(out / "data" / f"{name}.parquet", table.reset_index())

# %%
n_found = int(significant.any(1).sum())
networks_found = np.array(names, object)[significant.any(0)].tolist()
shown = ", ".join(networks_found[:4]) + (", ..." if len(networks_found) > 4 else "")
largest_r = float(np.abs(coupling_r).max(initial=0))
if not n_networks:
    lead = f"Stage 02 left no network for {n_neurons:,} neurons to follow."
elif n_found:
    lead = (
        f"Neurons that follow a brain network beyond chance: {n_found:,} of "
        f"{n_neurons:,}, in {len(networks_found)} of {n_networks} networks ({shown})."
    )
else:
    lead = f"No neuron of {n_neurons:,} follows a brain network, of {n_networks}."
of_chance = ""
if n_networks:
    of_chance = (
        f" The largest |r| with the mean of all subjects is {largest_r:.2f}, "
        f"the family-wise threshold {threshold:.2f} ({null_method} null, {n_draws} "
        f"draws); a neuron passes in {subjects_found} of {n_subjects} single subjects, "
        f"and neurons of {reliable_found} networks come back in the other half of the "
        f"story."
    )
of_null = ""
if int(unheard["found"].sum()) > uncoupled.interval(len(unheard), level)[1]:
    of_null = f" {uncoupled.verdict(unheard, level)}"
finding = f"{lead}{of_chance}{of_null}{' BOLD is simulated.' if has_truth else ''}"
print(finding)

# %%
of_coupling = {}
if n_networks:
    of_coupling = {
        "fwe_threshold": threshold,
        "max_synchrony": largest_r,
        "unheard_found": int(unheard["found"].sum()),
        "unheard_total": len(unheard),
    }
of_counts = {
    "n_significant_neurons": n_found,
    "n_layers_beyond_share": int((layer_p <= level).sum()),
}
artifacts.finish_stage(
    out,
    of_counts | of_coupling | of_truth,
    params=settings,
    simulated=manifest02["simulated"],
    finding=finding,
)
