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
# **Which networks does the brain form while it listens, and what are they called?**
#
# | reads | writes |
# |---|---|
# | stage 01 (clock, word rate; for simulated BOLD also responses); BOLD: simulated, the Alice regions, files, or a BIDS folder | `data/runs/`: cleaned BOLD · `data/maps.nii.gz`, `data/mask.nii.gz`, `data/maps.npy` (networks x voxels or regions), `data/subject_maps.npy` · `data/brain.npz`: time courses (subjects x times x networks), group BOLD; without `same_story` `data/timecourses.npz` · `data/names.json`, `data/networks.parquet` (a row a network) · for simulated BOLD `data/bold/`, `data/truth.npz`, `data/truth.json` |
#
# Cost: about two minutes on two CPU cores for 20 subjects of 290 volumes at 8 mm.
#
# A network is a group of voxels that vary together. CanICA (Varoquaux et al. 2010) and DictLearning by
# nilearn; ICA; sparse dictionary learning; a volumetric sparse deep belief network (used by
# Liu et al. 2023, arXiv 2303.14871).

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
n_draws_null: int = 200  # surrogates of every map, for the p of its label (20 to 1000000)
level: float = 0.05  # of the p-value of a label (0.0001 to 1)
solver: str = "fastica"  # of ICA (one of fastica, picard)
dictionary_penalty: float = 0.3  # for dictionary: L1 penalty (0.0001 to 1)
layer_sizes: list[int] = [100, 100]  # for vsdbn: hidden units of the depths below that of the networks (1 to 10000)
n_bootstrap: int = 8  # draws of people with replacement, for stability (2 to 1000)
n_halves: int = 4  # splits of people into halves, for stability (1 to 1000)
n_null_sets: int = 8  # data sets that share nothing, for stability; 0 if it need not be judged (0 to 1000)
only_stable: bool = False  # whether networks that are not stable are left out
n_views: int = 3  # maps of the brain to turn and cut in a browser, 1 to 4 MB each (0 to 1000)
widgets: bool = False  # whether a NiiVue widget shows them, too, in JupyterLab (needs ipyniivue)
scan: list[int] = []  # numbers of networks to compare, as [5, 10, 20, 40] (2 to 1000)
seed: int = 0  # of simulation and decompositions (0 to 4294900000)
device: str = "auto"  # where vsdbn is computed: auto, cpu, cuda, cuda:1
# fmt: on

# %% tags=["imports"]
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
    group,
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
from anbn.core.generators import rng_of
from anbn.core.params import current
from anbn.models import loading
from anbn.networks import figures as networks_figures
from anbn.networks import stability
from anbn.stats import timeseries

# %%
settings = current("02_fbn_extraction", globals())
recorded, manifest01 = artifacts.stage_inputs(study, "01_activation_recording")
out = artifacts.begin_stage(study, "02_fbn_extraction")

# %%
simulated = bold == "simulated"
note = " (simulated BOLD)" if simulated else ""
tr = manifest01["params"]["tr"]
first_volume = manifest01["params"]["first_volume"]
run_lengths = manifest01["params"]["run_lengths"]
n_times = manifest01["summary"]["n_times"]
rate = artifacts.read_arrays(recorded / "data" / "clock.npz")["word_rate"]
drift = regressors.run_drift(run_lengths or [n_times], tr, high_pass)

# %%
templates.check_specs(template_sets)
brain_checks.check_story(n_times, tr=tr)

# %% [markdown]
# ## Load
#
# `quickstart` simulates volumes: networks of Seitzman's coordinates follow, through the
# haemodynamic response, groups of a few real neurons of the model (three networks),
# populations of hundreds of neurons (two), the rate of words alone (one), or noise with the
# same spectrum (one); each subject adds activity of its own, noise with the spectrum and
# spatial covariance of real rest, and drift. What was planted goes to `truth.npz` and
# `truth.json`, which only the last sections of notebooks 03 and 03b open.

# %%
bold_paths, mask_path = bold_files, mask_file
if simulated:
    ffn_hidden = artifacts.read_array(
        recorded / "data" / "responses_model_ffn_hidden.npy"
    )
    drift_and_rate = timeseries.orthonormal(np.column_stack([drift, rate]))
    truth = simulate.simulate_bold(
        timeseries.residuals(ffn_hidden, drift_and_rate),
        n_neurons=ffn_hidden.shape[1] // manifest01["summary"]["n_layers"],
        word_rate=rate,
        tr=tr,
        n_subjects=n_subjects,
        signal=signal,
        n_drivers=n_drivers,
        resolution=resolution,
        rng=rng_of(seed, "simulated BOLD"),
    )
    bold_paths, mask_path = simulate.write_simulation(truth, out / "data")

# %% [markdown]
# Which runs there are, and of whom. Several files of a subject are repeats of the story, or
# stand one after another as its parts (`runs_are`).

# %%
region_names = None
if bold == "alice":
    every_run, region_names = alice.load_timecourses(alice_radius)
elif bold == "bids":
    every_run = sources.runs_of_bids(
        bids_folder,
        task=task,
        space=space,
        desc=desc,
        subjects=subjects,
        entities=entities,
    )
else:
    every_run = sources.runs_of_files(bold_paths, confound_files)
runs = sources.draw_subjects(
    every_run, max_subjects, rng=rng_of(seed, "subjects that are drawn")
)
sources.check_method(runs, brain_method, atlas=atlas_file)

# %%
parts = same_story and sources.are_parts(
    runs, runs_are, run_lengths, cut=(cut_start, cut_end)
)
if check_clock and same_story and bold in ("bids", "files"):
    clocks = clock.check_start(
        sources.first_runs(runs) if parts else runs,
        tr=tr,
        first_volume=first_volume,
        cut_start=cut_start,
        by_events=bool(manifest01["params"]["events"]),
        whole_scans=bold == "bids",
    )
    print(clocks)

# %% [markdown]
# Each run is read, cut, smoothed, rid of drift and confounds by one projection, and
# standardised, one after another or each by a worker of Dask.

# %%
brain = bold_data.prepare(
    runs,
    out / "data" / "runs",
    tr=tr,
    names=region_names,
    mask=mask_path,
    atlas=atlas_file,
    voxel_size=voxel_size,
    smoothing=smoothing,
    high_pass=high_pass,
    confounds=confounds,
    cut=(cut_start, cut_end),
    standardise=standardise,
    n_times=n_times if same_story else None,
    check_tr=check_tr,
    run_lengths=run_lengths if same_story else (),
    parts=parts,
    client=workers.client(),
)
assert brain.mask is not None or not simulated, "simulated BOLD goes without atlas_file"
n_people = len(set(brain.subjects))
print(f"{len(brain.runs)} runs of {n_people} subjects{note}")
if parts:
    print(f"a subject's runs are parts of the story, of {run_lengths} volumes")
print(f"(volumes, voxels or regions) of the first: {brain.runs[0].shape}")

# %%
if same_story and runs_are != "repeats":
    alike = bold_data.check_repeats(brain, tr=tr, rng=rng_of(seed, "are runs repeats"))
    for who, r in alike.items():
        print(f"{who}: runs correlate at {r:.3f}")

# %% [markdown]
# Repeats of the story are averaged, if they correlate more than one of them rolled in time
# does; its parts are joined.

# %%
people, series = brain.by_subject() if same_story else (brain.run_names, brain.runs)
shared = same_story and n_people > 1  # one subject shares nothing
one = "subject" if same_story else "run"
over = f"{len(series)} {one}{'s' * (len(series) > 1)}"
assert brain.mask is None or brain_method != "regions", (
    "brain_method: regions is for tables and atlases"
)
brain_checks.check_brain_networks(
    brain, method=brain_method, n_networks=n_brain_networks
)
brain_checks.check_brain_networks(
    brain, method=brain_method, n_networks=max(scan, default=0), parameter="scan"
)

# %% [markdown]
# ## Compute
#
# The group's networks come from all runs at once, and again from draws and halves of the
# subjects (see *Stability* below). Regions of a table or an atlas may also be taken as they
# are (`brain_method: regions`).

# %%
drawn, _ = group.drawn(brain)
networks_of_brain = None
if brain_method != "regions":
    networks_of_brain = group.networks(
        brain,
        n_networks=n_brain_networks,
        method=brain_method,
        solver=solver,
        penalty=dictionary_penalty,
        layer_sizes=layer_sizes,
        n_bootstrap=n_bootstrap,
        n_halves=n_halves,
        n_null_sets=n_null_sets,
        random_state=seed,
        device=loading.choose_device(device),
    )
    print(f"{drawn}: {networks_of_brain.stability.describe(n_brain_networks)}")

# %% [markdown]
# Dual regression carries the group's maps to every subject.

# %%
if networks_of_brain is None:
    maps, subject_maps = None, None
    timecourses = [np.asarray(one) for one in series]
    numbered = brain.names
else:
    kept = networks_of_brain.only_stable() if only_stable else networks_of_brain
    maps = kept.networks
    timecourses, subject_maps = group.in_each(series, maps)
    numbered = [f"component {k}" for k in range(len(maps))]
n_networks = len(numbered)
print(f"{n_networks} networks in {over}")

# %% [markdown]
# A map is named after the template that an optimal one-to-one assignment gives it, if it
# correlates enough and if random maps of its smoothness and symmetry rarely fit any
# template as well (p). Maps that fit none stay unlabelled, which is where noise and
# artefacts end up (r without p: of the best template, which another network took).

# %%
labels, names = None, numbered
if brain.mask is not None:
    labels_by_set = templates.label_by(
        template_sets,
        maps,
        brain.mask,
        n_draws=n_draws_null,
        min_correlation=min_template_r,
        level=level,
        rng=rng_of(seed, "maps that templates fit by chance"),
    )
    labels = labels_by_set[template_sets[0]]
    names = labels["label"].tolist()
    fits = templates.fits(labels_by_set, level=level)
    print(fits.to_string() if len(fits) else "no map fits a template beyond chance")

# %% [markdown]
# ## Look

# %%
if labels is not None and n_networks:
    figure = brain_figures.plot_maps(
        maps,
        brain.mask,
        templates.titles(labels),
        title=f"Networks of the brain, and their templates, {over}{note}",
    )
    artifacts.write_figure(out, "brain_networks", figure)

# %% [markdown]
# Each panel cuts a network's map at its peak (z in mm). Colours: red above, blue below
# zero, the strongest tenth of the voxels.

# %%
if labels is not None and n_networks:
    is_named = labels["label"] == labels["template"]
    first = np.argsort(~is_named, kind="stable")[:n_views]
    seen = {names[k]: maps[k] for k in first}
    display(views.write_views(out, seen, brain.mask, note=note))
    if widgets:
        display(views.niivue(seen, brain.mask, note=note))

# %% [markdown]
# The same maps to turn and cut in a browser, named networks first (`n_views`). JupyterLab
# shows such a page after a click on *Trust HTML*.
#
# Do subjects share anything? Leave-one-out inter-subject correlation (ISC) is what a story
# drives alike in everyone, and so bounds what any model of the story can explain.

# %%
if shared and n_networks:
    isc = intersubject.correlation(timecourses)
    ax = brain_figures.plot_subjects(
        isc, names, "leave-one-out\ninter-subject correlation (r)"
    )
    ax.set_title(f"What {n_people} subjects share, drift removed{note}")
    artifacts.write_figure(out, "intersubject_correlation", ax.figure)
else:
    print("no inter-subject correlation: of one story, two subjects and a network")

# %%
if shared and brain.mask is not None:
    ax = brain_figures.plot_encoding_map(
        intersubject.correlation(series).mean(0), brain.mask, label="r"
    )
    ax.set_title(
        f"Inter-subject correlation (r) of every voxel, mean of {n_people} subjects{note}"
    )
    artifacts.write_figure(out, "isc_map", ax.figure)

# %% [markdown]
# Dots are subjects; the map shows the same for single voxels. Networks far above zero follow
# the story (or anything else that all share, the word rate first of all); networks near zero
# go their own way in everyone.

# %%
steps = np.arange(-10, 11)  # volumes
if same_story and n_networks:
    standard = [timeseries.zscore(one) for one in timecourses]
    group_mean = timeseries.zscore(np.mean(standard, 0))
    drift_basis = timeseries.orthonormal(drift)
    lagged = intersubject.lagged_correlation(
        group_mean, timeseries.residuals(rate, drift_basis), steps, run_lengths
    )
    best, r_best, r_now = clock.best_offset(
        group_mean,
        pd.read_parquet(recorded / "data" / "words.parquet")["onset"],
        n_times=n_times,
        tr=tr,
        start=first_volume,
        hrf=manifest01["params"]["hrf"],
        basis=drift_basis,
        run_lengths=run_lengths,
    )
    fit_of_clock = clock.offset_line(first_volume, best, r_best, r_now, n_times, tr)
    ax = brain_figures.plot_lag_profile(steps * tr, lagged, names)
    ax.set_title(f"Mean of {over} against word rate{note}\n{fit_of_clock}", fontsize=10)
    print(fit_of_clock)
    artifacts.write_figure(out, "word_rate_lags", ax.figure)

# %% [markdown]
# If clock and haemodynamic response are right, networks that follow speech peak at a lag
# of 0 s, and lags of several volumes are the control. A common peak elsewhere means a
# wrong `first_volume` in stage 01: do not go on before it is understood. The line above the
# figure says which `first_volume` within a minute fits best, to half a TR.
#
# How networks go together over time: the correlation of their time courses, ordered so that
# what is alike stands together.

# %%
if n_networks:
    connectivity = ConnectivityMeasure(
        cov_estimator=EmpiricalCovariance(), kind="correlation", standardize=False
    ).fit_transform(timecourses)
    side = f"brain, mean of {over}{note}"
    axes = networks_figures.plot_connectivity(
        {side: connectivity.mean(0)}, {side: names}
    )
    artifacts.write_figure(out, "connectivity", axes[0].figure)

# %% [markdown]
# Blocks along the diagonal are groups of networks that rise and fall together. Stage 02b
# draws the same for the model's networks.
#
# ## Stability
#
# Would other people have given the same networks? Each subject (or each run of a single
# one) is drawn as a whole, and everything is done again on what was drawn: standardising,
# reduction, decomposition.
#
# - **Draws**: as many subjects, with replacement, `n_bootstrap` times; how alike a network
#   is in two draws. Draws share subjects, so this is high for the network of one loud
#   subject, too.
# - **Halves**: how alike it is in two halves that have no subject in common, over
#   `n_halves` random splits.
# - **Where nothing is shared**: the same for `n_null_sets` data sets in which every subject
#   has networks of its own: a subject's maps are replaced by random ones as smooth, as
#   symmetric and of the same histogram (regions: all of them are permuted).
#
# A network is **stable** if its halves agree beyond any network of any of these data sets
# (or, as they are few, beyond three standard deviations above the mean of their largest),
# and its draws beyond what the largest of these data sets' draws reach on average. With
# fewer than four subjects or runs it cannot be judged.

# %%
if networks_of_brain is not None:
    axes = networks_figures.plot_stability(
        {f"brain ({drawn}){note}": networks_of_brain.stability}
    )
    artifacts.write_figure(out, "stability", axes[0].figure)

# %% [markdown]
# Networks from left to right, strongest first: bars are draws, dots halves. Full dots are
# stable: both agree beyond what is reached where nothing is shared (dashed: halves; dotted:
# draws; black marks at the right: each such data set's largest). Stable is not the same as
# alike: |r| says how alike. `scan` shows how it depends on the number of networks.

# %%
if networks_of_brain is not None and scan:
    scanned = stability.scan(networks_of_brain, brain.runs, scan)
    axes = networks_figures.plot_scan({f"brain{note}": scanned})
    artifacts.write_figure(out, "numbers_of_networks", axes[0].figure)
    print(scanned.round(2).to_string())

# %% [markdown]
# ## Check
#
# All numbers are finite, and runs are clean of drift.

# %%
assert all(np.isfinite(one).all() for one in timecourses)
slow = regressors.run_drift(brain.lengths_of(brain.runs[0]), tr, high_pass)
of_drift = np.linalg.norm(timeseries.orthonormal(slow).T @ brain.runs[0], axis=0)
left = (of_drift / np.linalg.norm(brain.runs[0], axis=0)).max()
print(
    f"drift left in the first run: at most {left:.1e} of a voxel's standard deviation"
)
assert left < 1e-3

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
    group.write_timecourses(out / "data" / "timecourses.npz", people, timecourses)

# %%
if brain.mask is not None:
    images = {"mask": brain.mask, "maps": unmask(maps.astype(np.float32), brain.mask)}
    for name, image in images.items():
        with artifacts.atomic(out / "data" / f"{name}.nii.gz") as temporary:
            nibabel.save(image, temporary)
if maps is not None:
    stacked = np.stack(subject_maps).astype(np.float32)
    artifacts.write_array(out / "data" / "subject_maps.npy", stacked)
    artifacts.write_array(out / "data" / "maps.npy", maps.astype(np.float32))

# %%
table = pd.DataFrame(index=names)
if shared and n_networks:
    table["isc"] = isc.mean(0)
if same_story and n_networks:
    table["word rate, r at 0 s"] = lagged[steps == 0][0]
    table["peak lag (s)"] = steps[np.abs(lagged).argmax(0)] * tr
artifacts.write_table(out / "data" / "networks.parquet", table)
artifacts.write_json(out / "data" / "names.json", names)
table.round(3)

# %%
summary = {"n_subjects": n_people, "n_networks_brain": n_networks}
sentences = [f"{n_networks} networks of the brain in {over}{note}."]
if networks_of_brain is not None:
    judged = networks_of_brain.stability
    if judged.reason:
        sentences.append(f"Whether they are stable cannot be judged: {judged.reason}.")
    else:
        n_stable = int(judged.stable.sum())
        summary["n_networks_brain_stable"] = n_stable
        sentences.append(
            f"{n_stable} of {n_brain_networks} asked for are stable, that is, come back "
            f"in other {drawn} beyond what {drawn} that share nothing reach."
        )
if labels is not None:
    n_labelled = int((labels["label"] == labels["template"]).sum())
    summary["n_networks_labelled"] = n_labelled
    sentences.append(
        f"{n_labelled} of {n_networks} have a name, that is, fit a template better than "
        f"random maps do (r >= {min_template_r:g}, p <= {level:g})."
    )
if shared and n_networks:
    summary["isc_mean"] = isc.mean()
    sentences.append(
        f"Networks of one subject and the mean of the other {n_people - 1} correlate at "
        f"{isc.mean():.2f} on average."
    )
if same_story and n_networks:
    summary["word_rate_r_max"] = np.abs(lagged[steps == 0]).max()
finding = " ".join(sentences)
finding

# %%
artifacts.finish_stage(
    out,
    summary,
    params=settings,
    simulated=simulated or manifest01["simulated"],
    finding=finding,
)
