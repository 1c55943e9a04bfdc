# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02b Model networks
#
# **Which networks does a language model form while it reads, do they come back in other
# text, and what do they answer to?**
#
# | reads | writes |
# |---|---|
# | stage 01 (activations over the corpora, documents, responses to the story) | `data/model_networks.npz`: networks and members (networks x layers x neurons), which are stable, agreement of draws and halves · tables `model` (a row a network), `profiles`, `massive`, `overlap`, `between_models` (`.parquet`) |
#
# Cost: about two minutes on two CPU cores for 10,240 tokens x 17,280 neurons; stability
# takes most of it.
#
# A model is (tokens x neurons), and a network is a group of neurons that vary together:
# ICA of neurons (Liu et al. 2025, arXiv 2502.20408) with signs fixed, sparse dictionary
# learning, or a sparse deep belief network (arXiv 2303.14871).

# %% tags=["parameters"]
# fmt: off
study: str = "quickstart"  # name of the output folder
model_kind: str = "ffn_out"  # neurons of the model, recorded over the corpora (one of ffn_hidden, ffn_out, qk, attn_out, hidden)
model_method: str = "ica"  # decomposition of the model (one of ica, dictionary, vsdbn)
n_model_networks: int = 10  # components of the model (2 to 1000)
standardise_neurons: bool = False  # whether each neuron is scaled to unit variance
leave_out_massive: bool = False  # whether massive neurons are left out of the networks
massive_ratio: float = 1000.0  # to what is typical, from which a neuron is massive (2 to 1000000)
solver: str = "fastica"  # of ICA (one of fastica, picard)
dictionary_penalty: float = 0.3  # for dictionary: L1 penalty (0.0001 to 1)
layer_sizes: list[int] = [100, 100]  # for vsdbn: hidden units of the depths below that of the networks (1 to 10000)
n_bootstrap: int = 8  # draws of documents with replacement, for stability (2 to 1000)
n_halves: int = 4  # splits of documents into halves, for stability (1 to 1000)
n_null_sets: int = 8  # data sets that share nothing, for stability; 0 if it need not be judged (0 to 1000)
only_stable: bool = False  # whether networks that are not stable are left out
membership: str = "z"  # what membership_threshold is (one of z, percent, fdr)
membership_threshold: float = 3.6  # z above which a neuron belongs to a network (published 1.96, 3.6); or percent; or rate (0 to 100)
two_sided: bool = False  # whether neurons of large negative weight belong, too
slice_tokens: int = 512  # tokens of a slice of a corpus, decomposed on its own (32 to 1000000)
n_draws_null: int = 200  # surrogates of recurrence, domains and features (20 to 1000000)
high_pass: float = 128.0  # s, slower drift is removed from responses to the story (20 to 100000)
scan: list[int] = []  # numbers of networks to compare, as [5, 10, 20, 40] (2 to 1000)
seed: int = 0  # of decompositions and surrogates (0 to 4294900000)
device: str = "auto"  # where networks are computed: auto, cpu, cuda, cuda:1
# fmt: on

# %% tags=["imports"]
import numpy as np
import pandas as pd

from anbn.brain import regressors
from anbn.core import artifacts
from anbn.core.generators import rng_of
from anbn.core.params import current
from anbn.models import loading, stores
from anbn.networks import decomposition, massive, profiles, recurrence, stability
from anbn.networks import figures as networks_figures
from anbn.stats import matching, timeseries

# %%
settings = current("02b_model_networks", globals())
recorded, manifest01 = artifacts.stage_inputs(study, "01_activation_recording")
out = artifacts.begin_stage(study, "02b_model_networks")

# %% [markdown]
# ## Load
#
# Text of several domains, a file each, in documents.

# %%
documents = pd.read_parquet(recorded / "data" / "documents.parquet")
tokens = stores.read_tokens(recorded / "data" / "corpora")
activations = stores.open_activations(recorded / "data" / "corpora", model_kind)
n_layers, n_neurons = activations.shape[1:]
domains = recurrence.domains(tokens, documents)
slices = recurrence.slices(domains, slice_tokens)
text = f"{len(tokens):,} tokens of {len(documents)} documents"
print(f"(tokens, layers, neurons): {activations.shape}")
print(f"{text}, of {len(domains)} domains: {', '.join(domains)}")

# %%
decomposition.check_membership(membership_threshold, by=membership)
if model_method != "vsdbn":
    decomposition.check_number(
        "n_model_networks",
        n_model_networks,
        min(rows.stop - rows.start for rows in slices.values()),
        remedy=f"raise slice_tokens (now {slice_tokens}) and corpus_tokens",
    )
    decomposition.check_number("scan", max(scan, default=0), len(tokens))

# %% [markdown]
# First, the few neurons that drown all others: *massive activations* (hundreds of times
# what is typical, mostly on first tokens; Sun et al. 2024, arXiv 2402.17762) and neurons of
# as outstanding a variance. They dominate any decomposition; `leave_out_massive` takes them
# out, and stage 04 reports their part.

# %%
peaks = massive.streaming_peaks(activations)
is_massive = massive.massive_neurons(
    peaks.peak,
    peaks.typical,
    peaks.variance,
    ratio=massive_ratio,
    variance_ratio=massive_ratio,
)
loudest = massive.describe_massive(peaks, is_massive, tokens)
print(
    f"{len(loudest)} massive neurons of {is_massive.size:,} hold "
    f"{loudest['share'].sum():.0%} of the variance over {len(tokens):,} tokens"
)
loudest.head(10).round(3)

# %% [markdown]
# ## Compute

# %%
networks_of_text = decomposition.decompose(
    activations,
    n_networks=n_model_networks,
    method=model_method,
    solver=solver,
    penalty=dictionary_penalty,
    layer_sizes=layer_sizes,
    keep=~is_massive.ravel() if leave_out_massive else None,
    standardise=standardise_neurons,
    whose=tokens["document"].to_numpy(),
    n_bootstrap=n_bootstrap,
    n_halves=n_halves,
    n_null_sets=n_null_sets,
    random_state=seed,
    device=loading.choose_device(device),
)
print(f"documents: {networks_of_text.stability.describe(n_model_networks)}")

# %%
kept = networks_of_text.only_stable() if only_stable else networks_of_text
n_networks = len(kept.networks)
weights = kept.networks.reshape(n_networks, n_layers, n_neurons)
members = decomposition.threshold(
    kept.networks, membership_threshold, by=membership, two_sided=two_sided
).reshape(n_networks, n_layers, n_neurons)
if not n_networks:
    print("no network is left: tables and figures of single networks are empty")

# %% [markdown]
# ## Look

# %%
if n_networks:
    ax = networks_figures.plot_layer_histogram(members.sum(2))
    ax.set_title(
        f"{model_kind} neurons of each network ({membership}: {membership_threshold:g})"
    )
    artifacts.write_figure(out, "model_networks", ax.figure)

# %% [markdown]
# A row is a network, strongest first; colour is how many of its neurons a layer holds.
# Networks of very few neurons that explain much variance are those of massive neurons.
#
# What does each network answer to?

# %%
described = profiles.describe_tokens(
    tokens, documents, language=manifest01["params"]["language"]
)
top = profiles.top_tokens(kept.timecourses, described, n=4, column="word")
words = top.groupby("network")["text"].agg(", ".join)
labels = [f"{k}: {words.get(k, '')}" for k in range(n_networks)]

# %%
means, selective = profiles.domain_selectivity(
    kept.timecourses,
    tokens,
    documents,
    n_draws=n_draws_null,
    rng=rng_of(seed, "domains dealt out anew"),
)

# %%
features = described.reindex(
    columns=["surprisal", "log_frequency", "content", "position"]
).dropna(axis=1, how="all")
answers = profiles.feature_correlations(
    kept.timecourses,
    features,
    tokens["document"],
    n_draws=n_draws_null,
    rng=rng_of(seed, "features shifted within documents"),
)
r_of_features = answers.pivot(index="network", columns="feature", values="r")

# %%
if n_networks and features.shape[1]:
    axes = networks_figures.plot_profiles(means, r_of_features, labels)
    artifacts.write_figure(out, "profiles", axes[0].figure)

# %% [markdown]
# Left: the mean response of each network to each domain; right: its correlation with
# features of the word at hand, within documents. p and q of the table below deal the domains
# out anew among whole documents, as tokens of a document are not independent.
#
# How do networks go together over time? Correlation of the mean signals of their neurons,
# ordered so that what is alike stands together.

# %%
with_neurons = members.any((1, 2))
if with_neurons.any():
    signals = profiles.mean_signals(activations, members[with_neurons])
    side = f"model, {len(tokens):,} tokens"
    axes = networks_figures.plot_connectivity(
        {side: np.atleast_2d(np.corrcoef(signals, rowvar=False))},
        {side: np.array([label.split(", ")[0] for label in labels])[with_neurons]},
    )
    artifacts.write_figure(out, "connectivity", axes[0].figure)

# %% [markdown]
# Blocks along the diagonal are groups of networks that rise and fall together. The matrix
# is that of the networks' neurons: time courses of independent components would not
# correlate by construction. Stage 02 draws the brain's.
#
# ## Check: stability
#
# Would other documents have given the same networks? Each document is drawn as a whole, and
# everything is done again on what was drawn: standardising, reduction, decomposition.
#
# - **Draws**: as many documents, with replacement, `n_bootstrap` times; how alike a network is
#   in two draws. Draws share documents, so this is high for the network of one loud
#   document, too.
# - **Halves**: how alike it is in two halves that have no document in common, over
#   `n_halves` random splits.
# - **Where nothing is shared**: the same for `n_null_sets` data sets in which every document
#   has networks of its own: its neurons are permuted within their layers.
#
# A network is **stable** if its halves agree beyond any network of any of these data sets
# (or, as they are few, beyond three standard deviations above the mean of their largest),
# and its draws beyond what the largest of these data sets' draws reach on average. With
# fewer than four documents it cannot be judged.

# %%
axes = networks_figures.plot_stability(
    {"model (documents)": networks_of_text.stability}
)
artifacts.write_figure(out, "stability", axes[0].figure)

# %% [markdown]
# Networks from left to right, strongest first: bars are draws, dots halves. Full dots are
# stable: both agree beyond what is reached where nothing is shared (dashed: halves; dotted:
# draws; black marks at the right: each such data set's largest). Stable is not the same as
# alike: |r| says how alike. `scan` shows how it depends on the number of networks.

# %%
if scan:
    scanned = stability.scan(networks_of_text, activations, scan)
    axes = networks_figures.plot_scan({"model": scanned})
    artifacts.write_figure(out, "numbers_of_networks", axes[0].figure)
    print(scanned.round(2).to_string())

# %% [markdown]
# Massive neurons make the difference: few tokens carry them, and documents share them.

# %%
stability.variants(networks_of_text, activations, is_massive).round(2)

# %% [markdown]
# ## Check: other text
#
# Do the networks of all text come back in slices of it? A slice is `slice_tokens` tokens of
# one corpus in a row, across its documents. A match is an overlap (IoU) above .2, as
# published. Its null shuffles the neurons within each layer: networks that sit in
# the same layers overlap by chance.

# %%
members_of_slices = recurrence.members_of_parts(
    networks_of_text,
    activations,
    slices,
    membership_threshold=membership_threshold,
    membership=membership,
    two_sided=two_sided,
)
individual = np.concatenate(list(members_of_slices.values()))

# %%
matches = recurrence.recurrence(members, individual)
matches_by_chance = recurrence.recurrence_null(
    members,
    individual,
    n_draws=n_draws_null,
    rng=rng_of(seed, "null of recurrence"),
)
p_of_recurrence = matching.p_values(matches, matches_by_chance)

# %%
if n_networks:
    ax = networks_figures.plot_recurrence(matches, matches_by_chance, len(individual))
    ax.set_title(f"Networks of all text that come back in {len(slices)} slices")
    artifacts.write_figure(out, "recurrence", ax.figure)

# %% [markdown]
# Bars above the black marks come back more often than their place in the layers explains.
#
# And in the domains, each on its own? Beside them the same text from another random start,
# and networks of as many other neurons in each layer.

# %%
members_of_domains = recurrence.members_of_parts(
    networks_of_text,
    activations,
    domains,
    membership_threshold=membership_threshold,
    membership=membership,
    two_sided=two_sided,
)
other_seed = networks_of_text.refit(activations, random_state=seed + 1000).networks
members_of_other_seed = decomposition.threshold(
    other_seed, membership_threshold, by=membership, two_sided=two_sided
).reshape(len(other_seed), n_layers, n_neurons)
shuffled = recurrence.shuffled(members, rng_of(seed, "neurons shuffled"))

# %%
overlap = recurrence.pairwise(
    {"all text": members}
    | members_of_domains
    | {
        "all text, other seed": members_of_other_seed,
        "all text, neurons shuffled": shuffled,
    },
    recurrence.member_agreement,
)
print("Jaccard index of networks, paired one to one, mean:")
overlap.round(2)

# %% [markdown]
# ## Check: other models
#
# Neurons of different models cannot be paired, but their networks can, by their time
# courses on the same story: those of responses on the BOLD clock, every neuron standardised
# and rid of drift.

# %%
n_times = manifest01["summary"]["n_times"]
drift = regressors.run_drift(
    manifest01["params"]["run_lengths"] or [n_times],
    manifest01["params"]["tr"],
    high_pass,
)
long_enough = n_model_networks < n_times - drift.shape[1]
compared = ["model"]
for name in manifest01["params"]["comparison_models"]:
    compared.append(artifacts.slug(name))
if model_kind not in manifest01["params"]["kinds"] or not long_enough:
    compared = []
    print(f"no responses of {model_kind} neurons to the story, or too short a story")

# %%
on_story = {}
for name in compared:
    file = recorded / "data" / f"responses_{name}_{model_kind}.npy"
    responses = timeseries.residuals(
        artifacts.read_array(file), timeseries.orthonormal(drift)
    )
    on_story[name] = networks_of_text.refit(
        responses, keep=None, standardise=True
    ).timecourses
between = recurrence.pairwise(on_story, recurrence.timecourse_agreement)
print("networks of the responses to the story, |r| of time courses, paired one to one:")
between.round(2)

# %% [markdown]
# The first table pairs networks by their neurons, the second by their time courses. The
# random-weights model shows how much of that any network of neurons shares that reads the
# same words.
#
# ## Write

# %%
assert np.isfinite(weights).all()
table = selective.join([r_of_features.add_prefix("r "), means.add_prefix("mean ")])
table["words"] = labels
table["draws"] = kept.stability.index
table["halves"] = kept.stability.halves
table["stable"] = kept.stability.stable
table["recurrence"] = matches
table["p of recurrence"] = p_of_recurrence
table.round(3)

# %%
artifacts.write_table(out / "data" / "model.parquet", table)
artifacts.write_table(out / "data" / "profiles.parquet", answers)
artifacts.write_table(out / "data" / "massive.parquet", loudest)
artifacts.write_table(out / "data" / "overlap.parquet", overlap)
artifacts.write_table(out / "data" / "between_models.parquet", between)
artifacts.write_arrays(
    out / "data" / "model_networks.npz",
    networks=weights,
    members=members,
    stable=kept.stability.stable,
    draws=kept.stability.index,
    halves=kept.stability.halves,
)

# %%
judged = networks_of_text.stability
summary = {
    "n_networks_model": n_networks,
    "n_massive": int(is_massive.sum()),
    "variance_massive": loudest["share"].sum(),
}
sentences = [f"{n_networks} networks of {model_kind} neurons in {text}."]
if judged.reason:
    sentences.append(f"Whether they are stable cannot be judged: {judged.reason}.")
else:
    n_stable = int(judged.stable.sum())
    summary["n_networks_model_stable"] = n_stable
    sentences.append(
        f"{n_stable} of {n_model_networks} asked for are stable, that is, come back in "
        "other documents beyond what documents that share nothing reach."
    )
if n_networks:
    n_selective = int((selective["q"] <= 0.05).sum())
    n_recurrent = int((p_of_recurrence <= 0.05).sum())
    sentences.append(
        f"{n_selective} of {n_networks} answer to one of {len(domains)} domains more "
        f"than to others (q <= 0.05), and {n_recurrent} come back in {len(slices)} "
        "slices of the text more often than networks of other neurons in the same "
        "layers (p <= 0.05)."
    )
sentences.append(
    f"{len(loudest)} of {is_massive.size:,} neurons are massive and hold "
    f"{loudest['share'].sum():.0%} of the variance."
)
finding = " ".join(sentences)
finding

# %%
artifacts.finish_stage(
    out,
    summary,
    params=settings,
    simulated=manifest01["simulated"],
    finding=finding,
)
