# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04c Cutting out
#
# **How much of a model can be cut out for real, and which criterion spares it most?**
#
# | reads | writes |
# |---|---|
# | stage 01 (model, documents), stage 03 (synchrony; only for the criterion `coupled`) | `data/curves.parquet`: loss by criterion and share · `data/comparisons.parquet`: criteria against random scores · `data/grammar.parquet`: SyntaxGym · `data/size.parquet`: before and after, with speed · `data/cut.npz`: what is cut, and the mean that replaces it · with `keep_model` `data/model/`: the cut model, safetensors |
#
# Cost: about four minutes on one CPU core for 135 million parameters.
#
# Functional-network pruning: arXiv 2508.05239. Wanda: arXiv 2306.11695; FLAP: arXiv
# 2312.11983. One text and one length for all criteria are this project's.

# %% tags=["parameters"]
# fmt: off
study: str = "quickstart"  # name of the output folder
criteria: list[str] = ["functional", "wanda", "magnitude", "fluctuation", "random", "coupled"]  # units of low score are cut (one of functional, wanda, magnitude, fluctuation, random, coupled)
shares: list[float] = [0.1, 0.2, 0.3, 0.4, 0.5]  # of the feed-forward units that are cut (0.001 to 0.95)
budget: str = "uniform"  # the same share in every layer, or the lowest of all layers (one of uniform, global)
first_layers: int = 0  # that are not cut; published 3 (0 to 1000)
last_layers: int = 0  # that are not cut; published 2 (0 to 1000)
compensate: bool = True  # whether the mean of what is cut goes into the next layer's bias, alike at every token
n_components: int = 32  # of each layer, for functional; published 128 (2 to 10000)
n_texts: int = 40  # texts of a decomposition, for functional (1 to 100000)
cut_criterion: str = "fluctuation"  # of the model that is cut for real (one of functional, wanda, magnitude, fluctuation, random, coupled)
cut_share: float = 0.3  # of its feed-forward units (0.001 to 0.95)
n_draws: int = 20  # random scores that the criteria are compared with (2 to 10000)
n_random: int = 3  # of these, for grammar (2 to 1000)
multiple: int = 16  # units of a cut layer come in multiples of it, which is faster (1 to 1024)
keep_model: bool = False  # whether the cut model stays in data/model
speed_tokens: int = 512  # of a timed pass (16 to 1000000)
speed_turns: int = 3  # timed passes of each model, in turns (1 to 1000)
calibration_tokens: int = 1024  # of stage 01's corpora, about, for the scores (32 to 100000000)
evaluation_corpora: list[str] = ["package:exllamav2/conversion/standard_cal_data/wiki.utf8", "package:exllamav2/conversion/standard_cal_data/tiny.utf8", "package:exllamav2/conversion/standard_cal_data/code.utf8"]  # plain text, one file a domain
evaluation_documents: int = 3  # of each domain (1 to 1000000)
evaluation_tokens: int = 48  # of each document, read in one window (2 to 10000000)
suites_folder: str = "package:brainscore_language/benchmarks/syntaxgym/suites/syntaxgym-2020"  # SyntaxGym, a JSON file a suite
suites: list[str] = ["number_prep", "reflexive_prep_fem", "subordination", "npz_obj"]  # of SyntaxGym, [] for all
sentence_before: str = "\n"  # read in front of each sentence; published none, in which SmolLM2 fails
suite_items: int = 2  # of each suite, 0 for all (0 to 10000)
suite_shares: list[float] = [0.1, 0.3, 0.5]  # at which SyntaxGym is scored (0.001 to 0.95)
seed: int = 0  # of random scores, decompositions and bootstraps (0 to 4294967295)
device: str = "auto"  # auto, cpu, cuda, cuda:1 or mps
batch_size: int = 16  # documents at a time (1 to 100000)
# fmt: on

# %% tags=["imports"]
import shutil

import numpy as np
import pandas as pd

from anbn.core import artifacts
from anbn.core.generators import rng_of
from anbn.core.params import current
from anbn.core.paths import resolve
from anbn.masking import (
    calibration,
    damage,
    evaluation,
    figures,
    intervene,
    pruning,
    syntaxgym,
)
from anbn.models import loading, stores
from anbn.stats import inference
from anbn.text import holdout

# %%
settings = current("04c_cutting_out", globals())
recorded, manifest01 = artifacts.stage_inputs(study, "01_activation_recording")
if "coupled" in criteria or cut_criterion == "coupled":
    coupled, manifest03 = artifacts.stage_inputs(study, "03_an_bn_coupling")
out = artifacts.begin_stage(study, "04c_cutting_out")

# %%
name = manifest01["params"]["model"]
kind = "ffn_hidden"
every_criterion = list(dict.fromkeys([*criteria, cut_criterion]))
every_share = sorted({*shares, *suite_shares, cut_share})
simulated, note = False, ""
if "coupled" in every_criterion:
    assert (
        manifest03["params"]["kind"] == kind and not manifest01["params"]["layers"]
    ), "the criterion `coupled` needs stage 03's synchrony of ffn_hidden, all layers"
    simulated = manifest03["simulated"]
    note = "; coupled: with simulated data" if simulated else ""

# %% [markdown]
# ## Load
#
# Scores come from some of stage 01's corpora; what is evaluated shares no sentence with
# them.

# %%
language_model = evaluation.load_causal(
    name, device=device, dtype=manifest01["params"]["model_dtype"]
)
model = language_model.model
fitted = pd.read_parquet(recorded / "data" / "documents.parquet")
used = holdout.hashes(fitted["text"])
tokens, documents = holdout.held_out_documents(
    language_model.tokenizer,
    [resolve(spec) for spec in evaluation_corpora],
    n_documents=evaluation_documents,
    document_tokens=evaluation_tokens,
    used=used,
)
holdout.check_disjoint(documents, used)
items = syntaxgym.load_suites(resolve(suites_folder), names=suites, n_items=suite_items)
print(f"{name}: {len(tokens)} tokens of {len(documents)} documents")

# %% [markdown]
# ## Which units matter
#
# Every criterion scores every unit of the feed-forward hidden layers; what scores low is
# cut. `functional`: how far a unit stands out in any functional network of its layer;
# `wanda`: weights times inputs; `magnitude`: weights alone; `fluctuation`: variance times
# weights (what hardly varies can be replaced by its mean); `coupled`: the largest
# |synchrony| with any brain network; `random`.

# %%
corpora = stores.read_tokens(recorded / "data" / "corpora")
calibration_text = calibration.some_text(corpora, calibration_tokens)
usual = calibration.calibrate(
    language_model,
    calibration_text,
    [kind],
    window=manifest01["params"]["window"],
    stride=manifest01["params"]["stride"],
    rng=rng_of(seed, "calibration samples"),
)[kind]
shape = usual.mean.shape
print(f"{usual.mean.size:,} units of {len(usual.mean)} layers")

# %%
scores = {
    "wanda": [pruning.wanda(model, usual.mean_square)],
    "magnitude": [pruning.magnitude(model)],
    "fluctuation": [pruning.fluctuation(model, usual.variance)],
    "random": [
        rng_of(seed, f"random scores {i}").random(shape, np.float32)
        for i in range(n_draws)
    ],
}
if "coupled" in every_criterion:
    arrays = artifacts.read_arrays(coupled / "data" / "synchrony.npz")
    scores["coupled"] = [np.abs(arrays["synchrony"]).max(-1, initial=0)]
if "functional" in every_criterion:
    functional = pruning.functional_of_text(
        language_model,
        calibration_text,
        window=manifest01["params"]["window"],
        stride=manifest01["params"]["stride"],
        n_texts=n_texts,
        n_components=n_components,
        random_state=seed,
    )
    scores["functional"] = [functional]

# %% [markdown]
# Calibration text holds no special tokens. Where a tokenizer begins every text with one, a
# model may keep massive activations there, and no bias stands for them, since it is the
# same at every token. So whatever the criterion, units stay whose loss at a special token
# moves the residual stream further than their whole layer does at a usual token. Many
# smaller losses there are not seen.

# %%
fill = usual.mean if compensate else None  # None: zero
needed = pruning.needed_at_special_tokens(
    model,
    calibration.at_special_tokens(language_model, calibration_text, kind),
    usual.mean_square,
    fill,
)
print(f"units that stay since they are needed at special tokens: {needed.sum()}")

# %%
chosen = {}  # by criterion and share: one mask, or one for each random score
for criterion in every_criterion:
    for share in every_share:
        chosen[criterion, share] = [
            pruning.choose(
                one,
                share,
                budget=budget,
                multiple=multiple,
                spare=needed,
                protect=(first_layers, last_layers),
            )
            for one in scores[criterion]
        ]
cut_mask = chosen[cut_criterion, cut_share][0]

# %% [markdown]
# ## Curves
#
# The same text, the same length, the same shares for all. Units are set to their mean
# (`compensate`) or to zero, at special tokens too, which gives what the cut model gives.
# At `cut_share` the gap is filled the other way, too.

# %%
other_fill = None if compensate else usual.mean
trials, share_of = [], {}
for (criterion, share), masks in chosen.items():
    n = int(masks[0].sum())
    if (criterion, n) in share_of:  # rounded to a multiple, two shares can be one
        continue
    share_of[criterion, n] = share
    for draw, mask in enumerate(masks):
        trials.append(
            evaluation.Trial(
                group=criterion,
                kind=kind,
                mask=mask,
                draw=draw,
                options={"to": fill, "spared": ()},
                n=n,
            )
        )
for criterion in criteria:
    trials.append(
        evaluation.Trial(
            group=f"{criterion}, other",
            kind=kind,
            mask=chosen[criterion, cut_share][0],
            options={"to": other_fill, "spared": ()},
        )
    )
measured = evaluation.measure(
    language_model, tokens, documents, trials, batch_size=batch_size
)

# %%
by_mask = damage.perplexity(measured, rng=rng_of(seed, "bootstrap of curves"))
base = by_mask.loc[by_mask["group"] == "intact", "perplexity"].item()
curves = damage.with_range(by_mask, "random")
curves["share"] = curves["n"] / usual.mean.size
lines = pd.concat(
    [curves[:0], *(curves[curves["group"] == criterion] for criterion in criteria)]
)
if len(lines):
    ax = figures.plot_shares(lines, base)
    filled = "mean" if compensate else "zero"
    title = f"Feed-forward units cut, {budget} budget, replaced by {filled}{note}"
    ax.set_title(title)
    artifacts.write_figure(out, "perplexity_by_share", ax.figure)

# %% [markdown]
# The lower the better; bands are intervals over documents, that of `random` the range of its
# draws. A criterion that is not below `random` knows nothing about the model:

# %%
compared = damage.compare_with_random(
    measured, share_of, rng=rng_of(seed, "bootstrap of criteria")
)
shown = ["damage", "control_damage", "difference", "low", "high"]
shown += ["effect", "p", "p_fwe"]
compared.set_index(["group", "share"])[shown].astype(float).round(3)

# %% [markdown]
# Nats a token above the intact model, beside `n_draws` random scores: the difference with
# its interval over documents and draws, and the share of draws that harm as little.
#
# ## Grammar

# %%
intact_grammar = syntaxgym.score(language_model, items, before=sentence_before)
parts = [intact_grammar.assign(group="intact", share=0.0, draw=0)]
for criterion in criteria:
    for share in dict.fromkeys(suite_shares):
        for draw, mask in enumerate(chosen[criterion, share][:n_random]):
            with intervene.silence(model, mask, kind, to=fill):
                results = syntaxgym.score(language_model, items, before=sentence_before)
            parts.append(results.assign(group=criterion, share=share, draw=draw))
grammar = pd.concat(parts)
of_suites = grammar.groupby(["group", "share", "suite"], sort=False)["correct"].mean()
accuracy = of_suites.groupby(["group", "share"], sort=False).mean().rename("accuracy")

# %%
sg_intact = float(accuracy["intact", 0.0])
n_items = len(intact_grammar)
grammar_lines = accuracy.drop("intact").reset_index()
low, high = inference.wilson(grammar_lines["accuracy"], n_items)
if len(grammar_lines):
    ax = figures.plot_shares(
        grammar_lines.assign(low=low, high=high), sg_intact, value="accuracy"
    )
    ax.set(
        ylabel="SyntaxGym score",
        ylim=(-0.03, 1.03),
        title=f"Grammar, {n_items} items, band: 95 % for other items{note}",
    )
    artifacts.write_figure(out, "syntaxgym_by_share", ax.figure)

# %% [markdown]
# Perplexity with and without bias compensation, at `cut_share`; of `random` the first draw:

# %%
first = by_mask[by_mask["draw"] == 0].set_index(["group", "n"])["perplexity"]
n_cut = {
    criterion: int(chosen[criterion, cut_share][0].sum())
    for criterion in every_criterion
}
ways = ["replaced by mean", "replaced by zero"]
pd.DataFrame(
    {
        criterion: [
            first[criterion, n_cut[criterion]],
            first[f"{criterion}, other", n_cut[criterion]],
        ]
        for criterion in criteria
    },
    index=ways if compensate else ways[::-1],
).T.round(1)

# %% [markdown]
# ## Cut out for real
#
# Rows of the up and gate projections and columns of the down projection are left out.

# %%
cut_model = pruning.cut(language_model, cut_mask, mean=fill)
versions = {"intact": language_model, "cut": cut_model}
cut_file = out / "data" / "cut.npz"
if compensate:
    artifacts.write_arrays(cut_file, mask=cut_mask, mean=usual.mean)
else:
    artifacts.write_arrays(cut_file, mask=cut_mask)

# %% [markdown]
# **Check.** The cut model must say what the masked one said, from memory and from disk.

# %%
folder = out / "data" / "model"
bytes_on_disk = {}
for label, version in versions.items():
    pruning.save(version, folder)
    bytes_on_disk[label] = artifacts.size(folder)
loaded = loading.load_model(str(folder), head="causal", device=device)
if not keep_model:
    shutil.rmtree(folder)
as_masked = measured[
    (measured["group"] == cut_criterion)
    & (measured["n"] == n_cut[cut_criterion])
    & (measured["draw"] == 0)
]
for version in (cut_model, loaded):
    again = evaluation.by_document(version, tokens, batch_size=batch_size)
    assert np.allclose(again["nll"], as_masked["nll"], atol=1e-4), "not as masked"

# %% [markdown]
# What it weighs and how fast it reads, in turns with the intact model. The speed is a
# timing: it is never the same twice.

# %%
speed = pruning.speed(
    versions, corpora["id"].to_numpy()[:speed_tokens], n_turns=speed_turns
)
ppl_cut = first[cut_criterion, n_cut[cut_criterion]]
size = pd.DataFrame(
    {label: pruning.size(version) for label, version in versions.items()}
).T
size["bytes on disk"] = bytes_on_disk
size["tokens/s"] = speed
size["perplexity"] = [base, ppl_cut]
size

# %%
parameters_cut = 1 - size.loc["cut", "parameters"] / size.loc["intact", "parameters"]
speedup = speed["cut"] / speed["intact"]
own = compared[compared["group"] == cut_criterion]
at_share = own[own["share"] == cut_share]
finding = (
    f"With {cut_share:.0%} of the feed-forward units cut out by {cut_criterion} "
    f"({cut_mask.sum():,} of {cut_mask.size:,}) the model has {parameters_cut:.1%} fewer "
    f"parameters and its perplexity goes from {base:.1f} to {ppl_cut:.1f} "
    f"({len(documents)} documents)."
)
for row in at_share.itertuples():
    finding += (
        f" That is {row.damage:.2f} nats a token, beside {row.control_damage:.2f} by "
        f"random scores (p {row.p:.3f} of {row.n_draws} draws)."
    )
print(finding)

# %% [markdown]
# ## Write

# %%
tables = {
    "curves": curves,
    "grammar": grammar,
    "comparisons": compared,
    "size": size.rename_axis("model").reset_index(),
}
for label, table in tables.items():
    path = out / "data" / f"{label}.parquet"
    artifacts.write_table(path, table.reset_index(drop=True))

# %%
medians = curves.set_index(["group", "n"])["perplexity"]  # of `random` over draws
summary = {
    "ppl_base": base,
    "ppl_cut": ppl_cut,
    "sg_intact": sg_intact,
    "n_needed_at_special_tokens": int(needed.sum()),
    "parameters_cut": parameters_cut,
    "speedup": speedup,
}
for criterion in criteria:
    summary[f"ppl_{criterion}"] = medians[criterion, n_cut[criterion]]
artifacts.finish_stage(
    out, summary, params=settings, simulated=simulated, finding=finding
)
