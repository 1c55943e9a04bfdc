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
# | stage 01 (clock, activations, documents); BOLD: simulated, the Alice regions, files, or a BIDS folder | `data/runs/`: cleaned BOLD · `data/maps.nii.gz`, `data/mask.nii.gz`, `data/maps.npy` (networks x voxels or regions), `data/subject_maps.npy` · `data/brain.npz`: time courses (subjects x times x networks), group BOLD, noise ceiling · `data/model_networks.npz` · tables `networks`, `model` (a row a network), `profiles`, `massive`, `overlap`, `between_models` (`.parquet`) · `data/names.json` · for simulated BOLD `data/bold/`, `data/truth.npz`, `data/truth.json` |
#
# Cost: about four minutes on two CPU cores for 20 subjects of 290 volumes at 8 mm and
# 10,240 tokens x 17,280 neurons.
#
# Networks: ICA of neurons (Liu et al. 2025, arXiv 2502.20408) with signs fixed; CanICA
# (Varoquaux et al. 2010) and DictLearning by nilearn; sparse dictionary learning; a
# volumetric sparse deep belief network (used by Liu et al. 2023, arXiv 2303.14871).
# Stability: do they come back in other documents and in other people?

# %% tags=["parameters"]
# fmt: off
study: str = "quickstart"  # name of the output folder
bold: str = "simulated"  # where BOLD comes from (one of simulated, alice, files, bids)
bold_files: list[str] = []  # for files: 4D NIfTI, CIFTI or tables of regions, one a run
confound_files: list[str] = []  # for files: one table a run, or none
bids_folder: str = ""  # for bids: derivatives of fMRIPrep or laid out alike
task: str = ""  # for bids: entity task
space: str = ""  # for bids: entity space
desc: str = ""  # for bids: entity desc
entities: dict[str, str] = {}  # for bids: any other entity by its value, as {dir: AP, run: "1,2", res: none}
subjects: list[str] = []  # for bids: such as sub-001; [] for all
max_subjects: int = 0  # draw so many of them at random by seed, 0 for all (0 to 100000)
same_story: bool = True  # whether all heard the story of stage 01; if not, there is no ISC
runs_are: str = "auto"  # several files of a subject: repeats of the story, its parts (the runs of stage 01's clock), or by their number and length (one of auto, repeats, parts)
alice_radius: str = "6mm"  # for alice: radius of the regions (one of 6mm, 10mm)
n_subjects: int = 20  # for simulated: number of subjects (3 to 1000)
signal: float = 0.38  # for simulated: s.d. of the shared signal, noise is 1 (0 to 10)
n_drivers: int = 15  # for simulated: neurons that drive each driven network (1 to 500)
resolution: int = 8  # for simulated: mm, voxel size (4 to 12)
mask_file: str = ""  # mask image; mni for nilearn's brain mask; "" to compute one
atlas_file: str = ""  # label or probabilistic atlas: its regions instead of voxels
voxel_size: float = 0.0  # mm, grid that runs are resampled to, 0 for their own (0 to 20)
smoothing: float = 0.0  # mm, full width at half maximum, 0 for none (0 to 30)
cut_start: int = 0  # volumes dropped at the beginning of each run (0 to 100000)
cut_end: int = 0  # volumes dropped at the end of each run (0 to 100000)
high_pass: float = 128.0  # s, slower drift is removed (20 to 100000)
confounds: list[str] = []  # columns of the confound tables to remove, such as trans_*
standardise: str = "zscore"  # of each voxel of a run (one of zscore, psc, none)
check_tr: bool = True  # whether the files' own TR must be that of stage 01
check_clock: bool = True  # whether first_volume of stage 01 must fit cut_start and the files' StartTime, where known
brain_method: str = "canica"  # regions: a table's as they are (one of canica, dictlearning, ica, dictionary, vsdbn, regions)
n_brain_networks: int = 14  # components of the brain (2 to 1000)
template_sets: list[str] = ["seitzman"]  # names or paths; the first one gives the labels
min_template_r: float = 0.4  # a map below this correlation with its template stays unnamed (0 to 1)
n_draws_null: int = 200  # surrogates of every null (20 to 1000000)
level: float = 0.05  # of the p-value of a label (0.0001 to 1)
model_kind: str = "ffn_out"  # neurons of the model, recorded over the corpora (one of ffn_hidden, ffn_out, qk, attn_out, hidden)
model_method: str = "ica"  # decomposition of the model (one of ica, dictionary, vsdbn)
n_model_networks: int = 10  # components of the model (2 to 1000)
standardise_neurons: bool = False  # whether each neuron is scaled to unit variance
leave_out_massive: bool = False  # whether massive neurons are left out of the networks
massive_ratio: float = 1000.0  # to what is typical, from which a neuron is massive (2 to 1000000)
solver: str = "fastica"  # of ICA (one of fastica, picard)
dictionary_penalty: float = 0.3  # for dictionary: L1 penalty (0.0001 to 1)
layer_sizes: list[int] = [100, 100]  # for vsdbn: hidden units of the depths below that of the networks (1 to 10000)
n_bootstrap: int = 8  # of documents or people with replacement, for stability (2 to 1000)
n_halves: int = 4  # splits of documents or people into halves, for stability (1 to 1000)
n_null_sets: int = 8  # data sets that share nothing, for stability; 0 if it need not be judged (0 to 1000)
only_stable: bool = False  # whether networks that are not stable are left out
membership: str = "z"  # what membership_threshold is (one of z, percent, fdr)
membership_threshold: float = 3.6  # z above which a neuron belongs to a network (published 1.96, 3.6); or percent; or rate (0 to 100)
two_sided: bool = False  # whether neurons of large negative weight belong, too
slice_tokens: int = 512  # tokens of a slice of a corpus, decomposed on its own (32 to 1000000)
n_views: int = 3  # maps of the brain to turn and cut in a browser, 1 to 4 MB each (0 to 1000)
widgets: bool = False  # whether a NiiVue widget shows them, too, in JupyterLab (needs ipyniivue)
scan: list[int] = []  # numbers of networks to compare, as [5, 10, 20, 40] (2 to 1000)
seed: int = 0  # of simulation and decompositions (0 to 4294900000)
device: str = "auto"  # where the model's networks are computed: auto, cpu, cuda, cuda:1
# fmt: on

# %%
from functools import partial

import nibabel
import numpy as np
import pandas as pd
from IPython.display import display
from nilearn.connectome import ConnectivityMeasure
from nilearn.masking import unmask
from sklearn.covariance import EmpiricalCovariance

from anbn.brain import (
    alice,
    clock,
    intersubject,
    regressors,
    simulate,
    sources,
    templates,
    views,
)
from anbn.brain import bold as bold_data
from anbn.brain import checks as brain_checks
from anbn.brain import figures as brain_figures
from anbn.core import artifacts, workers
from anbn.core.params import current
from anbn.models import loading, stores
from anbn.networks import (
    decomposition,
    dual_regression,
    massive,
    profiles,
    recurrence,
    stability,
)
from anbn.networks import figures as networks_figures
from anbn.stats import matching, timeseries

# %%
settings = current("02_fbn_extraction", globals())
recorded, manifest01 = artifacts.stage_inputs(study, "01_activation_recording")
out = artifacts.begin_stage(study, "02_fbn_extraction")
rng = np.random.default_rng(seed)
simulated = bold == "simulated"
note = " (simulated BOLD)" if simulated else ""
fitting = {"penalty": dictionary_penalty, "layer_sizes": layer_sizes, "solver": solver}
fitting |= {"random_state": seed, "device": loading.choose_device(device)}
judging = {"n_bootstrap": n_bootstrap, "n_halves": n_halves, "n_null_sets": n_null_sets}
belong = partial(
    decomposition.threshold,
    value=membership_threshold,
    by=membership,
    two_sided=two_sided,
)
belong(np.eye(2))  # complains now of a membership_threshold that does not fit
draws = {"rng": rng, "n_draws": n_draws_null}
templates.check_specs(template_sets)
documents = pd.read_parquet(recorded / "data" / "documents.parquet")
tokens = stores.read_tokens(recorded / "data" / "corpora")
domain = documents["corpus"].to_numpy()[tokens["document"]]
spans = {name: np.flatnonzero(domain == name) for name in dict.fromkeys(domain)}
if model_method != "vsdbn":
    smallest = min(slice_tokens, *map(len, spans.values()))
    remedy = f"raise slice_tokens (now {slice_tokens}) and corpus_tokens"
    decomposition.check_number("n_model_networks", n_model_networks, smallest, remedy)
    decomposition.check_number("scan", max(scan, default=0), len(tokens))
responses_of = (str(recorded / "data") + "/responses_{}_{}.npy").format
corpora = stores.open_activations(recorded / "data" / "corpora", model_kind)

# %% [markdown]
# ## The brain: load
#
# `quickstart` simulates volumes: networks of Seitzman's coordinates follow, through the
# haemodynamic response, groups of a few real neurons of the model (three networks),
# populations of hundreds of neurons (two), the rate of words alone (one), or noise with the
# same spectrum (one); each subject adds activity of its own, noise with the spectrum and
# spatial covariance of real rest, and drift. What was planted goes to `truth.npz` and
# `truth.json`, which only the last section of notebook 03 opens.

# %%
before01 = manifest01["params"]
tr, n_times = before01["tr"], manifest01["summary"]["n_times"]
run_lengths = before01["run_lengths"]
brain_checks.check_story(n_times, tr=tr)
rate = artifacts.read_arrays(recorded / "data" / "clock.npz")["word_rate"]
drift = regressors.run_drift(run_lengths or [n_times], tr, high_pass)
files, mask_path = bold_files, mask_file
if simulated:
    ffn_hidden = artifacts.read_array(responses_of("model", "ffn_hidden"))
    basis = timeseries.orthonormal(np.column_stack([drift, rate]))
    n_units = ffn_hidden.shape[1] // manifest01["summary"]["n_layers"]
    options = {"n_subjects": n_subjects, "signal": signal, "n_drivers": n_drivers}
    options |= {"resolution": resolution, "tr": tr, "rng": rng}
    clean = timeseries.residuals(ffn_hidden, basis)
    truth = simulate.simulate_bold(clean, n_units, rate, **options)
    files = simulate.write_simulation(truth, out / "data")
    mask_path = str(out / "data" / "mask.nii.gz")

# %%
region_names = None
if bold == "alice":
    found, region_names = alice.load_timecourses(alice_radius)
elif bold == "bids":
    found = sources.runs_of_bids(
        bids_folder,
        task=task,
        space=space,
        desc=desc,
        subjects=subjects,
        entities=entities,
    )
else:
    found = sources.runs_of_files(files, confound_files)
draw = np.random.default_rng(seed)
found = sources.draw_subjects(found, max_subjects, rng=draw)
sources.check_method(found, brain_method, atlas=atlas_file)
cut = (cut_start, cut_end)
parts = same_story and sources.are_parts(found, runs_are, run_lengths, cut)
if check_clock and same_story and bold in ("bids", "files"):
    line = clock.check_start(
        sources.first_runs(found) if parts else found,
        tr=tr,
        first_volume=before01["first_volume"],
        cut_start=cut_start,
        by_events=bool(before01["events"]),
        whole_scans=bold == "bids",
    )
    print(line)

# %%
client = workers.client()  # None: one run after another
brain = bold_data.prepare(
    found,
    out / "data" / "runs",
    tr=tr,
    names=region_names,
    mask=mask_path,
    atlas=atlas_file,
    voxel_size=voxel_size,
    smoothing=smoothing,
    high_pass=high_pass,
    confounds=confounds,
    cut=cut,
    standardise=standardise,
    n_times=n_times if same_story else None,
    check_tr=check_tr,
    run_lengths=run_lengths if same_story else (),
    parts=parts,
    client=client,
)
if same_story and runs_are != "repeats":
    alike = bold_data.check_repeats(brain, tr=tr, rng=np.random.default_rng(seed))
    print("\n".join(f"{who}: runs correlate at {r:.3f}" for who, r in alike.items()))
people = set(brain.subjects)
assert len(people) > 1 or not same_story, (
    "one subject shares nothing: same_story: false"
)
assert brain.mask is not None or not simulated, "simulated BOLD goes without atlas_file"
print(f"{len(brain.runs)} runs of {len(people)} subjects{note}")
if parts:
    print(f"a subject's runs are parts of the story, of {run_lengths} volumes")
print(f"(volumes, voxels or regions) of the first: {brain.runs[0].shape}")

# %% [markdown]
# ## The brain: networks
#
# Each run was read, cut, smoothed, rid of drift and confounds by one projection, and
# standardised, one after another. Several files of a subject are averaged as repeats of
# the story, if they correlate more than one of them rolled in time does, or stand one
# after another as its parts (`runs_are`). Group networks come from all runs at once, and
# again from draws and halves of the subjects (see *Stability* below). Dual regression
# carries the group's maps to every subject.

# %%
brain_checks.check_brain_networks(
    brain, method=brain_method, n_networks=n_brain_networks
)
of_brain = {"method": brain_method, "n_networks": n_brain_networks, "over": "units"}
of_brain |= {"mask": brain.mask, **fitting}
drawn = "subjects" if len(set(brain.subjects)) > 1 else "runs"
whose = brain.subjects if drawn == "subjects" else brain.run_names
judged_brain = {"whose": whose, **judging}
people, series = brain.by_subject() if same_story else (brain.run_names, brain.runs)

# %%
if brain_method == "regions":
    assert brain.mask is None, "brain_method: regions is for tables and atlases"
    brain_networks, names = None, brain.names
    timecourses = [*map(np.asarray, series)]
else:
    brain_networks = decomposition.decompose(brain.runs, **of_brain, **judged_brain)
    print(f"brain, {drawn}: {brain_networks.stability.describe(n_brain_networks)}")
    if only_stable:
        brain_networks = brain_networks.only_stable()
    maps = brain_networks.networks
    both = [dual_regression.dual_regression(one, maps) for one in series]
    timecourses, subject_maps = map(list, zip(*both, strict=True))
    names = [f"component {k}" for k in range(len(maps))]
print(f"{len(names)} networks of {len(series)} subjects or runs")

# %%
labels = None
if brain.mask is not None:
    naming = {"min_correlation": min_template_r, "level": level, **draws}
    several = templates.label_by(template_sets, maps, brain.mask, **naming)
    labels = several[template_sets[0]]
    names = labels["label"].tolist()
    title = f"Networks of the brain, and their templates{note}"
    figure = brain_figures.plot_maps(
        maps, brain.mask, templates.titles(labels), title=title
    )
    artifacts.write_figure(out, "brain_networks", figure)
    table = pd.concat(several, names=["templates", "network"]).round(3)
    fits = table[table["p"] <= level].drop(columns=["label", "best", "best_r"])
    print(fits.rename(index=lambda k: str(k).split("/")[-1][:24]).to_string())

# %% [markdown]
# Each panel cuts a network's map at its peak (z in mm). A map is named after the template
# that an optimal one-to-one assignment gives it, if it correlates enough and if random
# maps of its smoothness and symmetry rarely fit any template as well (p). Maps that fit
# none stay unlabelled, which is where noise and artefacts end up (r without p: of the best
# template, which another network took). Colours: red above, blue below zero, the strongest
# tenth of the voxels.

# %%
if labels is not None:
    named = labels["label"] == labels["template"]
    first = np.argsort(~named, kind="stable")[:n_views]
    seen = {names[k]: maps[k] for k in first}
    display(views.write_views(out, seen, brain.mask, note=note))
    if widgets:
        display(views.niivue(seen, brain.mask, note=note))

# %% [markdown]
# The same maps to turn and cut in a browser, named networks first (`n_views`). JupyterLab
# shows such a page after a click on *Trust HTML*.

# %% [markdown]
# ## The brain: look
#
# Do subjects share anything? Leave-one-out inter-subject correlation (ISC) is what a story
# drives alike in everyone, and so bounds what any model of the story can explain.

# %%
table = pd.DataFrame(index=names)
if same_story:
    isc = intersubject.correlation(timecourses)
    label = "leave-one-out\ninter-subject correlation (r)"
    ax = brain_figures.plot_subjects(isc, names, label)
    ax.set_title(f"What subjects share, drift removed{note}")
    artifacts.write_figure(out, "intersubject_correlation", ax.figure)
    table["isc"] = isc.mean(0)
    print(table.round(3).to_string())
if same_story and brain.mask is not None:
    ax = brain_figures.plot_encoding_map(
        intersubject.correlation(series).mean(0), brain.mask
    )
    ax.set_title(
        f"Inter-subject correlation (r) of every voxel, mean of subjects{note}"
    )
    artifacts.write_figure(out, "isc_map", ax.figure)

# %% [markdown]
# Dots are subjects; the map shows the same for single voxels. Networks far above zero follow the story (or anything else that all
# share, the word rate first of all); networks near zero go their own way in everyone.

# %%
if same_story:
    group = timeseries.zscore(np.mean([*map(timeseries.zscore, timecourses)], 0))
    steps = np.arange(-10, 11)
    clean_rate = timeseries.residuals(rate, timeseries.orthonormal(drift))
    lagged = intersubject.lagged_correlation(group, clean_rate, steps, run_lengths)
    heard = pd.read_parquet(recorded / "data" / "words.parquet")["onset"]
    fits = clock.best_offset(
        group,
        heard,
        n_times=n_times,
        tr=tr,
        start=before01["first_volume"],
        hrf=before01["hrf"],
        basis=timeseries.orthonormal(drift),
        run_lengths=run_lengths,
    )
    line = clock.offset_line(before01["first_volume"], *fits, n_times, tr)
    ax = brain_figures.plot_lag_profile(steps * tr, lagged, names)
    ax.set_title(f"Group mean against word rate{note}\n{line}", fontsize=10)
    print(line)
    artifacts.write_figure(out, "word_rate_lags", ax.figure)
    table["word rate, r at 0 s"] = lagged[steps == 0][0]
    table["peak lag (s)"] = steps[np.abs(lagged).argmax(0)] * tr
    print(table.round(3).to_string())

# %% [markdown]
# If clock and haemodynamic response are right, networks that follow speech peak at a lag
# of 0 s, and lags of several volumes are the control. A common peak elsewhere means a
# wrong `first_volume` in stage 01: do not go on before it is understood. The line above the
# figure says which `first_volume` within a minute fits best, to half a TR.

# %% [markdown]
# ## The model: load
#
# The same question for neurons, over text of several domains. First, the few neurons that
# drown all others: *massive activations* (hundreds of times what is typical, mostly on
# first tokens; Sun et al. 2024) and neurons of as outstanding a variance. They dominate
# any decomposition; `leave_out_massive` takes them out, and stage 04 reports their part.

# %%
n_layers, n_neurons = corpora.shape[1:]
peaks = massive.streaming_peaks(corpora)
limits = {"ratio": massive_ratio, "variance_ratio": massive_ratio}
is_massive = massive.massive_neurons(
    peaks.peak, peaks.typical, peaks.variance, **limits
)
loudest = massive.describe_massive(peaks, is_massive, tokens)
print(f"(tokens, layers, neurons): {corpora.shape}; {len(documents)} documents")
print(
    f"{len(loudest)} massive neurons hold {loudest['share'].sum():.0%} of the variance"
)
loudest.head(10).round(3)

# %% [markdown]
# ## The model: networks

# %%
of_model = {"standardise": standardise_neurons, **fitting}
of_model |= {"keep": ~is_massive.ravel() if leave_out_massive else None}
judged_model = {"whose": tokens["document"].to_numpy(), **judging}
options = {"method": model_method, "n_networks": n_model_networks}
of_text = partial(decomposition.decompose, **options)
model_found = of_text(corpora, **of_model, **judged_model)
print(f"model, documents: {model_found.stability.describe(n_model_networks)}")
model_networks = model_found.only_stable() if only_stable else model_found
n_found = len(model_networks.networks)
shape = (n_found, n_layers, n_neurons)
members = belong(model_networks.networks).reshape(shape)
ax = networks_figures.plot_layer_histogram(members.sum(2))
ax.set_title(
    f"{model_kind} neurons of each network ({membership}: {membership_threshold})"
)
artifacts.write_figure(out, "model_networks", ax.figure)

# %% [markdown]
# A row is a network, strongest first; colour is how many of its neurons a layer holds.
# Networks of very few neurons that explain much variance are those of massive neurons.

# %% [markdown]
# ## Stability
#
# Would other documents, or other people, have given the same networks? Each document (for
# the brain: each subject, or each run of a single one) is drawn as a whole, and everything
# is done again on what was drawn: standardising, reduction, decomposition.
#
# - **Draws**: as many documents, with replacement, `n_bootstrap` times; how alike a network is
#   in two draws. Draws share documents, so this is high for the network of one loud
#   document, too.
# - **Halves**: how alike it is in two halves that have no document in common, over
#   `n_halves` random splits.
# - **Where nothing is shared**: the same for `n_null_sets` data sets in which every document
#   has networks of its own: its neurons are permuted within their layers (regions: all of
#   them; voxels: a subject's maps are replaced by random ones as smooth, as symmetric and of
#   the same histogram).
#
# A network is **stable** if its halves agree beyond any network of any of these data sets
# (or, as they are few, beyond three standard deviations above the mean of their largest),
# and its draws beyond what the largest of these data sets' draws reach on average. With
# fewer than four documents, subjects or runs it cannot be judged.

# %%
reliable = {"model (documents)": model_found.stability}
if brain_networks is not None:
    reliable[f"brain ({drawn}){note}"] = brain_networks.stability
axes = networks_figures.plot_stability(reliable)
artifacts.write_figure(out, "stability", axes[0].figure)
if scan:
    again = partial(of_text, corpora, **of_model, **judged_model)
    scanned = {"model": stability.scan(again, scan)}
    if brain_networks is not None:
        again = {k: v for k, v in of_brain.items() if k != "n_networks"}
        again = partial(decomposition.decompose, brain.runs, **again, **judged_brain)
        scanned["brain"] = stability.scan(again, scan)
    axes = networks_figures.plot_scan(scanned)
    artifacts.write_figure(out, "numbers_of_networks", axes[0].figure)

# %% [markdown]
# Networks from left to right, strongest first: bars are draws, dots halves. Full dots are
# stable: both agree beyond what is reached where nothing is shared (dashed: halves; dotted:
# draws; black marks at the right: each such data set's largest). Stable is not the same as
# alike: |r| says how alike. `scan` shows how it depends on the number of networks.

# %% [markdown]
# Massive neurons make the difference: few tokens carry them, and documents share them.

# %%
variants = {"massive neurons in": (False, False)}
variants["massive neurons left out"] = (True, False)
variants["every neuron standardised"] = (False, True)

# %%
shown = {}
for name, (out_of, scaled) in variants.items():
    other, keep = model_found, ~is_massive.ravel() if out_of else None
    if (out_of, scaled) != (leave_out_massive, standardise_neurons):
        again = {**of_model, "keep": keep, "standardise": scaled}
        other = of_text(corpora, **again, **judged_model)
    judged = other.stability
    shown[name] = {"stable": int(judged.stable.sum()), "found": len(judged.halves)}
    shown[name] |= {"asked for": n_model_networks}
    shown[name] |= {"draws, mean |r|": judged.index.mean()}
    shown[name] |= {"halves, mean |r|": judged.halves.mean()}
    shown[name] |= {"halves, least |r|": judged.halves.min()}
    shown[name] |= {"draws, limit": judged.index_limit, "halves, limit": judged.limit}
    shown[name]["variance explained (%)"] = 100 * other.explained.sum()
pd.DataFrame(shown).T.round(2)

# %% [markdown]
# Do the networks of all text come back in slices of it? A slice is `slice_tokens` tokens of
# one corpus in a row, across its documents. A match is an overlap (IoU) above .2, as
# published. Its null shuffles the neurons within each layer: networks that sit in
# the same layers overlap by chance.

# %%
of_slices = []
for rows in spans.values():
    step = min(slice_tokens, len(rows))
    for first in range(rows[0], rows[-1] + 2 - step, step):
        of_slice = of_text(corpora[first : first + step], **of_model)
        of_slices.append(belong(of_slice.networks).reshape(-1, n_layers, n_neurons))
counts = recurrence.recurrence(members, np.stack(of_slices))
null = recurrence.recurrence_null(members, np.stack(of_slices), **draws)
ax = networks_figures.plot_recurrence(counts, null, sum(map(len, of_slices)))
ax.set_title(f"Networks of all text that come back in {len(of_slices)} slices")
artifacts.write_figure(out, "recurrence", ax.figure)

# %% [markdown]
# Bars above the black marks come back more often than their place in the layers explains.

# %%
of_domain = {"all text": members}
others = {name: (corpora[r[0] : r[-1] + 1], seed) for name, r in spans.items()}
others["all text, other seed"] = (corpora, seed + 1000)
for name, (part, start) in others.items():
    other = of_text(part, **{**of_model, "random_state": start})
    of_domain[name] = belong(other.networks).reshape(-1, n_layers, n_neurons)
shuffled = rng.permuted(members.swapaxes(0, 2), axis=0).swapaxes(0, 2)
of_domain["all text, neurons shuffled"] = shuffled
print("Jaccard index of networks, paired one to one, mean:")
overlap = recurrence.pairwise(of_domain, recurrence.member_agreement)
overlap.round(2)

# %%
on_story = {}
drift_only = timeseries.orthonormal(drift)
compared = ["model", *map(artifacts.slug, manifest01["params"]["comparison_models"])]
few = n_model_networks < n_times - drift.shape[1]
for name in compared if few and model_kind in manifest01["params"]["kinds"] else []:
    responses = artifacts.read_array(responses_of(name, model_kind))
    again = {**of_model, "keep": None, "standardise": True}
    other = of_text(timeseries.residuals(responses, drift_only), **again)
    on_story[name] = other.timecourses
print("networks of the responses to the story, |r| of time courses, paired one to one:")
between = recurrence.pairwise(on_story, recurrence.timecourse_agreement)
between.round(2)

# %% [markdown]
# The first table pairs networks by their neurons, the second by their time courses on the
# same story, as neurons of different models cannot be paired. The random-weights model
# shows how much of that any network of neurons shares that reads the same words.

# %% [markdown]
# What does each network answer to?

# %%
language = manifest01["params"]["language"]
described = profiles.describe_tokens(tokens, documents, language=language)
answer = model_networks.timecourses
top = profiles.top_tokens(answer, described, n=4, column="word")
words = top.groupby("network")["text"].agg(", ".join)
labels_of_model = [f"{k}: {words.get(k, '')}" for k in range(n_found)]
means, selective = profiles.domain_selectivity(answer, tokens, documents, **draws)
asked = ["surprisal", "log_frequency", "content", "position"]
features = described.reindex(columns=asked).dropna(axis=1, how="all")
answers = profiles.feature_correlations(answer, features, tokens["document"], **draws)

# %%
r = answers.pivot(index="network", columns="feature", values="r")
axes = networks_figures.plot_profiles(means, r, labels_of_model)
artifacts.write_figure(out, "profiles", axes[0].figure)
of_networks = selective.join([r.add_prefix("r "), means.add_prefix("mean ")])
of_networks["words"] = labels_of_model
of_networks["draws"] = model_networks.stability.index
of_networks["halves"] = model_networks.stability.halves
of_networks["stable"] = model_networks.stability.stable
of_networks["recurrence"] = counts
of_networks["p of recurrence"] = matching.p_values(counts, null)
of_networks.round(3)

# %% [markdown]
# Left: the mean response of each network to each domain; right: its correlation with
# features of the word at hand, within documents. p and q of the table deal the domains
# out anew among whole documents, as tokens of a document are not independent.

# %% [markdown]
# ## Brain and model side by side
#
# How networks go together over time: correlation of the brain's time courses (mean over
# subjects) and of the mean signals of the model's networks, ordered so that what is alike
# stands together.

# %%
connect = ConnectivityMeasure(EmpiricalCovariance(), "correlation", standardize=False)
matrices = {f"brain{note}": connect.fit_transform(timecourses).mean(0)}
some = members.any((1, 2))
signals = profiles.mean_signals(corpora, members[some])
matrices["model"] = np.corrcoef(signals.T).reshape(some.sum(), -1)
short = [text.split(", ")[0] for text in labels_of_model]
labels_of = {f"brain{note}": names, "model": np.array(short)[some]}
if not some.any():
    del matrices["model"], labels_of["model"]
axes = networks_figures.plot_connectivity(matrices, labels_of)
artifacts.write_figure(out, "connectivity", axes[0].figure)

# %% [markdown]
# Blocks along the diagonal are groups of networks that rise and fall together. The model's
# matrix is that of its networks' neurons: time courses of independent components would
# not correlate by construction.

# %% [markdown]
# ## Check
#
# All numbers are finite, and runs are clean of drift.

# %%
assert all(np.isfinite(one).all() for one in timecourses)
assert np.isfinite(model_networks.networks).all()
slow = regressors.run_drift(brain.lengths_of(brain.runs[0]), tr, high_pass)
left = np.linalg.norm(timeseries.orthonormal(slow).T @ brain.runs[0], axis=0)
left = (left / np.linalg.norm(brain.runs[0], axis=0)).max()
print(
    f"drift left in the first run: at most {left:.1e} of a voxel's standard deviation"
)
assert left < 1e-3
print(f"networks of the model: {model_found.stability.describe(n_model_networks)}")

# %% [markdown]
# ## Write

# %%
if same_story:
    artifacts.write_arrays(
        out / "data" / "brain.npz",
        timecourses=np.stack(timecourses).astype(np.float32),
        group_bold=timeseries.zscore(sum(series) / len(series)).astype(np.float32),
    )
else:
    each = dict(zip(people, timecourses, strict=True))
    artifacts.write_arrays(out / "data" / "timecourses.npz", **each)
artifacts.write_json(out / "data" / "names.json", names)
tables = {"networks": table, "profiles": answers, "model": of_networks}
tables |= {"massive": loudest, "overlap": overlap, "between_models": between}
for name, written in tables.items():
    artifacts.write_table(out / "data" / f"{name}.parquet", written)

# %%
artifacts.write_arrays(
    out / "data" / "model_networks.npz",
    networks=model_networks.networks.reshape(shape),
    members=members,
    stable=model_networks.stability.stable,
    draws=model_networks.stability.index,
    halves=model_networks.stability.halves,
)

# %%
if brain.mask is not None:
    images = {"mask": brain.mask, "maps": unmask(maps.astype(np.float32), brain.mask)}
    for name, image in images.items():
        with artifacts.atomic(out / "data" / f"{name}.nii.gz") as temporary:
            nibabel.save(image, temporary)
if brain_networks is not None:
    stacked = np.stack(subject_maps).astype(np.float32)
    artifacts.write_array(out / "data" / "subject_maps.npy", stacked)
    artifacts.write_array(out / "data" / "maps.npy", maps.astype(np.float32))

# %%
summary = {"n_subjects": len(set(brain.subjects)), "n_networks_brain": len(names)}
if labels is not None:
    summary["n_networks_labelled"] = int((labels["label"] == labels["template"]).sum())
summary["n_networks_model"] = n_found
for side, judged in {"model": model_found, "brain": brain_networks}.items():
    if judged is not None and not judged.stability.reason:
        summary[f"n_networks_{side}_stable"] = int(judged.stability.stable.sum())
summary["n_massive"] = int(is_massive.sum())
summary["variance_massive"] = loudest["share"].sum()
if same_story:
    summary["isc_mean"] = isc.mean()
    summary["word_rate_r_max"] = np.abs(lagged[steps == 0]).max()
artifacts.finish_stage(
    out, summary, params=settings, simulated=simulated or manifest01["simulated"]
)
