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
# **What breaks when the neurons of the model's functional networks are silenced, and is it
# more than when other neurons of the same layers are?**
#
# | reads | writes |
# |---|---|
# | stage 01 (model, corpora, variances), stage 02 (model networks) | `data/damage.parquet`: perplexity of every mask · `data/masks.npz`: the networks' mask |
#
# Cost: some 80 passes of the model over the evaluation text; about four minutes on two
# CPU cores for 135 million parameters and 768 tokens.
#
# Silencing and keeping functional networks: Liu et al. 2025 (arXiv 2502.20408). Controls
# matched per layer, by variance, and without massive activations are this project's.

# %% tags=["parameters"]
# fmt: off
study: str = "quickstart"  # name of the output folder
alpha: float = 3.6  # z above which a neuron belongs to a network; published 1.96 and 3.6 (0 to 20)
evaluation_text: str = "package:reasoning_gym/data/in_the_year_2889.txt"  # plain text or transcript
evaluation_start: str = "Little though they seem"  # plain text begins at these words
evaluation_tokens: int = 768  # tokens of evaluation text (16 to 100000000)
window: int = 768  # tokens the model sees at a time (2 to 10000000)
stride: int = 512  # new tokens a window (1 to 10000000)
shares: list[float] = [0.0025, 0.005, 0.01, 0.02, 0.04]  # of neurons, to silence (0.00001 to 1)
keep_shares: list[float] = [0.1, 0.3, 0.6, 0.9]  # of neurons, to keep (0.00001 to 1)
n_draws: int = 3  # random controls a share (1 to 1000)
n_massive: int = 10  # neurons of largest variance, reported apart (0 to 10000)
seed: int = 0  # of the random controls (0 to 4294967295)
device: str = "auto"  # auto, cpu, cuda, cuda:1 or mps
# fmt: on

# %%
import numpy as np
import pandas as pd
from tqdm import tqdm

from anbn import (
    artifacts,
    evaluation,
    masking,
    models,
    networks,
    plots,
    stimuli,
    tokenization,
)
from anbn.params import current
from anbn.paths import resolve

# %%
settings = current("04_key_neuron_masking", globals())
recorded, manifest01 = artifacts.stage_inputs(study, "01_activation_recording")
extracted, manifest02 = artifacts.stage_inputs(study, "02_fbn_extraction")
out = artifacts.begin_stage(study, "04_key_neuron_masking")
rng = np.random.default_rng(seed)
kind = manifest02["params"]["model_kind"]

# %% [markdown]
# ## Load
#
# Networks were fitted on the corpora of stage 01; the damage is measured on other text,
# which is checked: no sentence of it may stand in a document the networks were fitted on.

# %%
name = manifest01["params"]["model"]
language_model = models.load_model(name, head="causal", device=device)
_, text, _ = stimuli.load_story(
    resolve(evaluation_text), start_at=evaluation_start, rng=rng
)
tokens = tokenization.tokenize(language_model.tokenizer, text).iloc[:evaluation_tokens]
fitted = pd.read_parquet(recorded / "data" / "documents.parquet")["text"]
evaluated = text[: tokens["end"].iloc[-1]]
shared = stimuli.shared_sentences(evaluated, fitted)
assert not shared, f"evaluated text was also fitted on: {shared[:2]}"
print(f"{name}: evaluated on {len(tokens)} tokens, fitted on {len(fitted)} documents")

# %%
z = artifacts.read_arrays(extracted / "data" / "model_networks.npz")["networks"]
statistics = artifacts.read_arrays(recorded / "data" / "statistics.npz")
variance = statistics[f"variance_{kind}"]
strength = z.max(0)  # how clearly a neuron belongs to its clearest network
mask = networks.threshold(z, alpha).any(0)
massive = masking.strongest(variance, n_massive)
print(
    f"networks (layers, neurons): {strength.shape}; z > {alpha}: {mask.sum()} neurons"
)
print(
    f"{(mask & massive).sum()} of the {n_massive} neurons of largest variance are among them"
)
print(
    f"these {n_massive} hold {variance[massive].sum() / variance.sum():.0%} of all variance"
)

# %% [markdown]
# ## Compute
#
# Neurons are ranked by the largest z of any network; the first share of them is silenced
# (set to zero). Controls: as many neurons *in each layer* at random, as many from all
# layers at random, the neurons of largest variance, and the networks' neurons without the
# massive ones with a per-layer control of its own. The first size is that of the networks
# at the published threshold, z > `alpha`.

# %%
options = {"window": window, "stride": stride}
base = evaluation.perplexity(language_model, tokens, **options)
sizes = [int(mask.sum()), *(round(share * mask.size) for share in shares)]
ranked = (strength, variance, massive)
print(f"intact perplexity {base:.2f}; numbers of neurons silenced: {sorted(sizes)}")

# %%
rows = []
for n in tqdm(sizes, "sizes silenced"):
    several = masking.with_controls(n, *ranked, rng, n_draws=n_draws)
    for group, chosen in [(g, m) for g, masks in several.items() for m in masks]:
        with masking.silence(language_model.model, chosen, kind):
            ppl = evaluation.perplexity(language_model, tokens, **options)
        rows.append({"group": group, "n": n, "share": n / mask.size, "ppl": ppl})
damage = pd.DataFrame(rows)

# %%
table = damage.pivot_table("ppl", "group", "share", aggfunc="median")
table.rename(columns="{:.2%}".format).round(1)

# %% [markdown]
# ## Look

# %%
ax = plots.plot_damage(damage, base)
ax.set_title(f"Damage by silencing {kind} neurons")
artifacts.write_figure(out, "silencing", ax.figure)

# %% [markdown]
# The networks' curve must be compared with the *per-layer* control: uniform random
# neurons mostly fall in layers that matter less. Where "networks" and "largest variance"
# run together, a few massive activations do the damage; what remains between "networks
# without massive" and its own per-layer control is owed to the networks.

# %%
rows = []
for n in tqdm([round(share * mask.size) for share in keep_shares], "sizes kept"):
    several = masking.with_controls(n, *ranked, rng, n_draws=1)
    for group in ["networks", "random, same per layer", "largest variance"]:
        with masking.keep_only(language_model.model, several[group][0], kind):
            ppl = evaluation.perplexity(language_model, tokens, **options)
        rows.append({"group": group, "n": n, "share": n / mask.size, "ppl": ppl})
keeping = pd.DataFrame(rows)

# %%
ax = plots.plot_damage(keeping, base)
ax.set_title(f"What is left when only these {kind} neurons are kept")
artifacts.write_figure(out, "keeping", ax.figure)

# %% [markdown]
# Lower is better here. A network worth its name keeps more of the model alive than as many
# random neurons of the same layers.

# %% [markdown]
# ## Check and headline
#
# The published threshold, the union of all networks at z > alpha, against its controls. An
# empty mask must change nothing, bit for bit.

# %%
with masking.silence(language_model.model, np.zeros_like(mask), kind):
    assert evaluation.perplexity(language_model, tokens, **options) == base
headline = damage[damage["n"] == mask.sum()].groupby("group")["ppl"].median()
print(f"{mask.sum()} neurons ({mask.mean():.2%}) with z > {alpha}; intact {base:.2f}")
print(headline.round(2).to_string())

# %% [markdown]
# ## Write

# %%
damage = pd.concat([damage.assign(action="silence"), keeping.assign(action="keep")])
artifacts.write_table(out / "data" / "damage.parquet", damage.reset_index(drop=True))
artifacts.write_arrays(out / "data" / "masks.npz", networks=mask, massive=massive)

# %%
keys = {"networks": "networks", "largest variance": "top_variance"}
keys |= {
    "random, same per layer": "matched_random",
    "random, uniform": "uniform_random",
}
keys |= {"networks without massive": "networks_without_massive"}
keys |= {"random per layer, without massive": "matched_random_without_massive"}
summary = {f"ppl_masked_{key}": headline[group] for group, key in keys.items()}
summary |= {"ppl_base": base, "frac_masked": mask.mean(), "n_masked": int(mask.sum())}
artifacts.finish_stage(out, summary, params=settings, simulated=False)
