# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04 Key-neuron masking
#
# **What breaks when groups of neurons are silenced, is it more than for like neurons of the
# same layers, and do neurons that follow a brain network matter more than others?**
#
# | reads | writes |
# |---|---|
# | stage 01 (model, documents), stage 02b (the model's networks), stage 03 (synchrony; only for `coupled`) | `data/damage.parquet`: loss of every mask, control and document · `data/comparisons.parquet`: masks against controls · `data/specificity.parquet`: networks x domains · `data/masks.npz`, `data/masks.parquet` (their names), `data/massive.npz` |
#
# Cost: six minutes on one CPU core for 135 million parameters, some 450 masks and 216
# tokens of text; it grows with masks x tokens.
#
# Silencing functional networks: Liu et al. 2025 (arXiv 2502.20408). Language localizer:
# arXiv 2411.02280. Wanda: arXiv 2306.11695. Matched controls, the comparison without
# massive activations and all intervals are this project's.

# %% tags=["parameters"]
# fmt: off
study: str = "quickstart"  # name of the output folder
sources: list[str] = ["networks", "coupled"]  # of masks, networks always (one of networks, stable, domain, coupled, localizer, magnitude, wanda, massive, file)
domain: str = "code"  # corpus of stage 01 that the networks of domain answer to most
coupled_network: str = ""  # brain network that neurons follow, "" for the one most do
coupled_by: str = "fdr"  # q or family-wise error at coupled_level, or the coupled_share (one of fdr, fwe, top)
coupled_level: float = 0.05  # error rate (0.0001 to 0.5)
coupled_share: float = 0.01  # of all neurons, by synchrony (0.00001 to 0.5)
localizer_folder: str = "package:brainscore_language/data/fedorenko2010_localization"  # of sentences and non-words
localizer_kind: str = "hidden"  # units of the language localizer (one of ffn_hidden, ffn_out, attn_out, hidden)
source_share: float = 0.01  # of all neurons: localizer, magnitude, wanda (0.00001 to 0.5)
mask_file: str = ""  # for file: .npz, .safetensors, .csv or .tsv
mask_kind: str = "ffn_out"  # of the neurons in mask_file (one of ffn_hidden, ffn_out, qk, attn_out, hidden)
silence_to: str = "zero"  # what stands where neurons are silenced: zero, or, but at special tokens, their mean or activations at other tokens (one of zero, mean, resample)
evaluation_corpora: list[str] = ["package:exllamav2/conversion/standard_cal_data/wiki.utf8", "package:exllamav2/conversion/standard_cal_data/tiny.utf8", "package:exllamav2/conversion/standard_cal_data/code.utf8"]  # plain text, one file a domain
evaluation_documents: int = 3  # of each domain (1 to 1000000)
evaluation_tokens: int = 24  # of each document, read in one window (2 to 10000000)
calibration_tokens: int = 1024  # of the text the networks were fitted on, about, for means and variances (32 to 100000000)
n_draws: int = 20  # random controls of every mask (2 to 10000)
random_share: float = 0.15  # of neurons, the published random control (0.00001 to 0.9)
n_single: int = 3  # networks silenced one at a time, those that halves of the documents agree on most, 0 for all (0 to 10000)
seed: int = 0  # of the random controls and bootstraps (0 to 4294967295)
device: str = "auto"  # auto, cpu, cuda, cuda:1, mps or balanced
batch_size: int = 16  # documents at a time (1 to 100000)
# fmt: on

# %% tags=["imports"]
import numpy as np
import pandas as pd

from anbn.core import artifacts
from anbn.core.generators import rng_of
from anbn.core.params import current
from anbn.core.paths import resolve
from anbn.masking import (
    calibration,
    controls,
    damage,
    evaluation,
    figures,
    intervene,
    localizer,
    pruning,
    selection,
)
from anbn.models import stores
from anbn.networks import massive as massive_activations
from anbn.text import holdout, stories

# %%
settings = current("04_key_neuron_masking", globals())
recorded, manifest01 = artifacts.stage_inputs(study, "01_activation_recording")
extracted, manifest02b = artifacts.stage_inputs(study, "02b_model_networks")
if "coupled" in sources:
    coupled, manifest03 = artifacts.stage_inputs(study, "03_an_bn_coupling")
out = artifacts.begin_stage(study, "04_key_neuron_masking")

# %%
name = manifest01["params"]["model"]
layers = manifest01["params"]["layers"] or None  # that were recorded; all: None
modules = manifest01["params"]["modules"] or None
kind = manifest02b["params"]["model_kind"]
massive_ratio = manifest02b["params"]["massive_ratio"]
simulated = "coupled" in sources and manifest03["simulated"]
note = " (simulated data)" if simulated else ""
kind_of = {"magnitude": "ffn_hidden", "wanda": "ffn_hidden"}
kind_of["localizer"] = localizer_kind
kind_of["file"] = mask_kind
if "coupled" in sources:
    kind_of["coupled"] = manifest03["params"]["kind"]
kinds = [kind, *(kind_of[source] for source in sources if source in kind_of)]
assert silence_to == "zero" or "qk" not in kinds, (
    f"silence_to {silence_to!r}: qk neurons can be silenced to zero alone"
)

# %% [markdown]
# ## Load
#
# What was fitted on: the corpora of stage 01 and the story. What is evaluated shares no
# sentence with it, which is enforced by hashes of documents and sentences.

# %%
language_model = evaluation.load_causal(
    name, device=device, dtype=manifest01["params"]["model_dtype"]
)
words = pd.read_parquet(recorded / "data" / "words.parquet")
fitted = pd.read_parquet(recorded / "data" / "documents.parquet")
used = holdout.hashes([*fitted["text"], stories.join_words(words)])
tokens, documents = holdout.held_out_documents(
    language_model.tokenizer,
    [resolve(spec) for spec in evaluation_corpora],
    n_documents=evaluation_documents,
    document_tokens=evaluation_tokens,
    used=used,
)
holdout.check_disjoint(documents, used)
print(f"{name}: {len(tokens)} tokens of {len(documents)} documents to evaluate on")

# %% [markdown]
# **What the neurons do on average**, over some of the text the networks were fitted on:
# means, variances, largest values, and which neurons are *massive*.

# %%
calibration_text = calibration.some_text(
    stores.read_tokens(recorded / "data" / "corpora"), calibration_tokens
)
usual = calibration.calibrate(
    language_model,
    calibration_text,
    list(dict.fromkeys(kinds)),
    window=manifest01["params"]["window"],
    stride=manifest01["params"]["stride"],
    rng=rng_of(seed, "calibration samples"),
    layers=layers,
    modules=modules,
)
massive = {
    k: massive_activations.massive_neurons(
        c.peak,
        c.typical,
        c.variance,
        ratio=massive_ratio,
        variance_ratio=massive_ratio,
    )
    for k, c in usual.items()
}
shapes = {k: c.mean.shape for k, c in usual.items()}

# %% [markdown]
# ## Where masks come from
#
# The union of the model's functional networks, their neurons by stage 02b's threshold; of
# those that stage 02b found *stable* (halves of the documents agree on them beyond
# documents that share nothing); of those that answer to one `domain` of text most.

# %%
arrays = artifacts.read_arrays(extracted / "data" / "model_networks.npz")
members = arrays["members"]
of_networks = [selection.Mask("networks", kind, members.any(0))]
if "stable" in sources:
    of_networks.append(
        selection.Mask(
            "stable networks", kind, selection.stable(members, arrays["stable"])
        )
    )
print(
    f"{len(members)} networks, {int(arrays['stable'].sum())} of them stable; "
    f"{members.any(0).sum()} of {members[:1].size} {kind} neurons belong to one"
)

# %%
of_domain = []
if "domain" in sources:
    answers = pd.read_parquet(extracted / "data" / "model.parquet")
    chosen = selection.of_domain(members, answers, domain)
    of_domain.append(selection.Mask(f"networks of {domain}", kind, chosen))

# %% [markdown]
# Neurons *coupled* with a brain network in stage 03. None may be: `coupled_by: top` takes
# the strongest, significant or not.

# %%
of_brain = []
if "coupled" in sources:
    brain, follow = selection.coupled(
        artifacts.read_arrays(coupled / "data" / "synchrony.npz"),
        artifacts.read_json(coupled / "data" / "names.json"),
        coupled_network,
        by=coupled_by,
        level=coupled_level,
        share=coupled_share,
    )
    of_brain.append(
        selection.Mask(f"coupled: {brain}{note}", kind_of["coupled"], follow)
    )
    print(f"{follow.sum()} neurons are coupled with {brain}, by {coupled_by}{note}")

# %% [markdown]
# The *language localizer*: neurons that answer to sentences more than to non-words.

# %%
of_localizer, used_by_localizer = [], {}
if "localizer" in sources:
    read = localizer.load_sentences(resolve(localizer_folder))
    used_by_localizer = holdout.hashes(read["sentence"])
    holdout.check_disjoint(documents, used_by_localizer)
    responses = localizer.sentence_activations(
        language_model,
        read["sentence"],
        localizer_kind,
        layers=layers,
        modules=modules,
    )
    t = localizer.localize(responses, read["condition"] == "sentence")
    chosen_t = selection.highest(t, round(source_share * t.size))
    of_localizer.append(selection.Mask("language localizer", localizer_kind, chosen_t))

# %% [markdown]
# The largest weights, the largest weights times inputs (*Wanda*), massive activations, a
# file.

# %%
rows = layers or slice(None)  # of all layers
of_weights = []
if "magnitude" in sources:
    magnitude = pruning.magnitude(language_model.model)[rows]
    largest_weights = selection.highest(magnitude, round(source_share * magnitude.size))
    of_weights.append(selection.Mask("largest weights", "ffn_hidden", largest_weights))
if "wanda" in sources:
    wanda = pruning.wanda(language_model.model, usual["ffn_hidden"].mean_square, layers)
    largest_wanda = selection.highest(wanda, round(source_share * wanda.size))
    of_weights.append(selection.Mask("Wanda", "ffn_hidden", largest_wanda))
if "massive" in sources:
    of_weights.append(selection.Mask("massive neurons", kind, massive[kind]))
if "file" in sources:
    from_file = selection.from_file(resolve(mask_file), shapes[mask_kind])
    of_weights.append(selection.Mask("file", mask_kind, from_file))

# %% [markdown]
# A source without neurons is left out. A mask that holds *massive* neurons is compared a
# second time without them, since a few of these can be all that matters.

# %%
whole_masks, left_out = selection.usable(
    [*of_networks, *of_brain, *of_localizer, *of_weights, *of_domain], shapes
)
masks = selection.and_without_massive(whole_masks, massive)
for group, why in left_out.items():
    print(f"left out: {group}, {why}")
pd.DataFrame(
    {
        "mask": [mask.group for mask in masks],
        "kind": [mask.kind for mask in masks],
        "neurons": [mask.neurons.sum() for mask in masks],
        "of": [mask.neurons.size for mask in masks],
    }
)

# %% [markdown]
# **Controls** of every mask: as many neurons at random *in each layer*; from all layers
# alike; in each layer the like in variance; the like in what they add to the residual
# stream (mean |activation| times the norm of their output weights, after a norm that may
# follow them). The networks also meet the published control, `random_share` of all
# neurons. No control holds a neuron of its mask, unless a layer has too few others:
# `overlap` is the share of the mask's neurons that its controls hold, too.

# %%
quantities = controls.sizes(
    language_model.model,
    usual,
    ids=calibration_text["id"].to_numpy()[:512],
    layers=layers,
)
drawn = controls.of_masks(
    masks,
    quantities,
    seed=seed,
    n_draws=n_draws,
    random_share=random_share,
)
controls.balance_of_masks(masks, drawn, quantities).round(2)

# %% [markdown]
# How alike masks and controls are: the controls' variance and contribution (geometric
# means over neurons), divided by the mask's. 1 is a perfect match; a massive activation
# has no like, so what is matched with it stays smaller.
#
# ## Silence
#
# Every mask and every draw of its controls, on the same documents. Beside them the neurons
# of largest variance, as many as the networks have. Means and other tokens' activations
# (`silence_to`) come from text without special tokens: at those that the tokenizer adds,
# neurons stay as they are.

# %%
instead = calibration.stand_ins(usual, silence_to)
n_masked = int(members.any(0).sum())
of_masks = evaluation.trials_of_masks(masks, drawn, instead, seed=seed)
of_variance = []
if n_masked:
    of_variance = evaluation.trials(
        "largest variance",
        kind,
        selection.highest(usual[kind].variance, n_masked),
        to=instead[kind],
        seed=seed,
    )
silenced = damage.measure_and_compare(
    language_model,
    tokens,
    documents,
    [*of_masks, *of_variance],
    rng=rng_of(seed, "bootstrap of silencing"),
    batch_size=batch_size,
    layers=layers,
    modules=modules,
)

# %%
shown = ["damage", "control_damage", "difference", "low", "high"]
shown += ["effect", "p", "p_fwe"]
compared = silenced.comparisons.set_index(["group", "n", "control"])[shown]
compared.astype(float).round(3)

# %% [markdown]
# Nats a token above the intact model, by the mask and on average by its control; the
# difference with its interval over documents; the same in standard deviations of the
# draws (`effect`); the share of draws that are as damaging (`p`), corrected over masks
# (`p_fwe`).

# %%
over = f"{len(documents)} documents, {n_draws} draws"
if masks:
    ax = figures.plot_against_controls(silenced.by_mask, silenced.base)
    ax.set_title(f"Silenced (to {silence_to}); {over}")
    artifacts.write_figure(out, "silencing", ax.figure)
else:
    print("no source gave a mask, so none was silenced")

# %% [markdown]
# Where a mask lies right of all its controls, its neurons matter more than their number,
# layer, variance and contribution explain. Where that is gone with the massive neurons
# out, a few massive activations did it. Uniform random neurons mostly fall in layers that
# matter less. The published control, `random_share` of all neurons, has many more neurons
# than the mask. *Coupled* neurons that lie among their controls matter no more than
# others: following the brain is then no sign of importance to the model.
#
# ## One network at a time, domain by domain
#
# Is a network special to a domain of text? Any mask harms some domains more than others,
# so the profile of its harm over domains is compared with those of its controls.

# %%
with_members = np.flatnonzero(members.any((1, 2)))
by_halves = with_members[np.argsort(-arrays["halves"][with_members], kind="stable")]
of_single = []
for i in by_halves[: n_single or None]:
    alike = controls.draw_per_layer(
        members[i], name=f"network {i}", seed=seed, n_draws=n_draws
    )
    of_single += evaluation.trials(
        f"network {i}",
        kind,
        members[i],
        {"per layer": alike},
        to=instead[kind],
        seed=seed,
    )
single = damage.measure_and_compare(
    language_model,
    tokens,
    documents,
    of_single,
    rng=rng_of(seed, "bootstrap of single networks"),
    batch_size=batch_size,
    layers=layers,
    modules=modules,
)
alone = single.comparisons.set_index(["group", "n"])[[*shown, "p_holm"]]
alone.astype(float).round(3)

# %%
special = damage.specificity_all(
    single.by_document, "per layer", rng=rng_of(seed, "bootstrap of domains")
)
if of_single:
    matrix = damage.domain_matrix(single.by_document)
    ax = figures.plot_domain_matrix(matrix, damage.stars(special, matrix))
    ax.set_title(f"One network silenced at a time; {over}")
    artifacts.write_figure(out, "networks_by_domain", ax.figure)
else:
    print("no network, so none was silenced")

# %% [markdown]
# Rows are networks, the most stable first, columns domains of text. A star marks a domain
# that a network harms more than its controls do, relative to the other domains, corrected
# over all cells. With one domain there is nothing to be special to.
#
# ## Check and headline
#
# An empty mask must change nothing, bit for bit; text that was evaluated was not fitted on.

# %%
holdout.check_disjoint(documents, used | used_by_localizer)
nothing = np.zeros(shapes[kind], bool)
with intervene.silence(
    language_model.model, nothing, kind, layers=layers, modules=modules
):
    again = evaluation.by_document(language_model, tokens, batch_size=batch_size)
intact = silenced.by_document[silenced.by_document["group"] == "intact"]
assert (again["nll"].to_numpy() == intact["nll"].to_numpy()).all()

# %% [markdown]
# Perplexities, medians over draws. Then, in nats a token, each mask against its most
# harmful matched control: what it does beyond that, with the interval over documents and
# draws, is owed to the mask, and with the massive neurons out, to more than a few outliers
# (`p` of one mask; corrected above). The published claim is the last line: few neurons of
# networks against many at random.

# %%
headline = silenced.by_mask.groupby(["group", "control"], sort=False)["perplexity"]
perplexities = headline.median()
print(perplexities.unstack(sort=False).round(1).to_string(na_rep=""))

# %%
published_control = controls.random_name(random_share)
table = silenced.comparisons
matched = table[table["control"] != published_control]
nearest = matched.sort_values("difference").drop_duplicates("group").sort_index()
claim = table[table["control"] == published_control]
print("nats a token above intact: mask, control, difference [95 % interval], p")
for row in pd.concat([nearest, claim]).itertuples():
    print(
        f"{row.group} {row.damage:.2f}; {row.control} {row.control_damage:.2f}; "
        f"{row.difference:.2f} [{row.low:.2f}, {row.high:.2f}], p {row.p:.3f} "
        f"({row.n_documents} documents, {row.n_draws} draws)"
    )

# %%
told = ("networks", "networks, massive out", "coupled: ")
sentences = [
    f"{row.group} ({row.n} {row.kind} neurons) {row.damage:.2f} nats a token, "
    f"{row.control_damage:.2f} by the most harmful control ({row.control}; p {row.p:.3f})"
    for row in nearest.itertuples()
    if row.group in told[:2] or row.group.startswith(told[2])
]
finding = f"Silencing costs, over {over}: {'; '.join(sentences)}."
if not sentences:
    finding = "No source gave a mask of networks or coupled neurons to silence."
if left_out:
    reasons = "; ".join(f"{group}, {why}" for group, why in left_out.items())
    finding += f" Left out: {reasons}."
print(finding)

# %% [markdown]
# ## Write

# %%
loss = pd.concat(
    {"silence": silenced.by_document, "single": single.by_document},
    names=["experiment"],
)
tables = {
    "damage": loss.reset_index(level=0),
    "comparisons": pd.concat([silenced.comparisons, single.comparisons]),
    "specificity": special,
}
for label, one in tables.items():
    path = out / "data" / f"{label}.parquet"
    artifacts.write_table(path, one.reset_index(drop=True))
selection.write(out / "data", masks, massive)

# %%
keys = {"networks": "", "networks, massive out": "_without_massive"}
if of_brain:
    keys[of_brain[0].group] = "_coupled"
named = {"": "networks", "per layer": "matched_random", "uniform": "uniform_random"}
named[published_control] = "random_share"
summary = {"ppl_base": silenced.base}
if n_masked:
    summary["ppl_masked_top_variance"] = perplexities["largest variance", ""]
for group, key in keys.items():
    for control, what in named.items():
        if (group, control) in perplexities:
            entry = f"ppl_masked_{what}{key}".replace("networks_coupled", "coupled")
            summary[entry] = perplexities[group, control]
summary["n_masked"] = n_masked
summary["frac_masked"] = n_masked / nothing.size
artifacts.finish_stage(
    out, summary, params=settings, simulated=simulated, finding=finding
)
