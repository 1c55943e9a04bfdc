"""Statements on stage 01: what the model read, brought to the BOLD clock.

Each takes a ``boilerplate.Ran`` and returns a sentence or None.
"""

from anbn.linguistics import frequency_known
from anbn.readable import listed, plural, source, value

KINDS = {
    "ffn_hidden": "units of the feed-forward hidden layers after their nonlinearity",
    "ffn_out": "output units of the second feed-forward layers",
    "qk": "dimensions of attention heads (query times key)",
    "attn_out": "dimensions of the attention heads' output",
    "hidden": "dimensions of the residual stream after each block",
}
STUDIED = {  # where such neurons were studied before
    "ffn_hidden": "liu2025pruning",
    "ffn_out": "liu2025networks; @sun2024organization",
    "qk": "liu2023coupling",
}
POOLED = {"mean": "averaged", "sum": "summed", "last": "represented by the last one"}
HRF = {
    "spm": "went through SPM's canonical haemodynamic response (nilearn [@nilearn])",
    "glover": "went through Glover's canonical haemodynamic response (nilearn "
    "[@nilearn])",
    "none": "did not go through any haemodynamic response",
}


def kind_name(kind):
    """A kind of neuron in words, with who studied it."""
    of = f" [@{STUDIED[kind]}]" if kind in STUDIED else ""
    return f"{KINDS[kind]} ({kind}){of}"


def model(r):
    return (
        f"The model was {source(r.params['model'])}, run in {r.params['model_dtype']} "
        "with transformers [@wolf2020transformers] and PyTorch [@paszke2019pytorch]."
    )


def kinds(r):
    n = plural(r.summary["n_layers"], "layer")
    chosen = r.params["layers"]
    where = f"layers {listed(chosen)} (from 0)" if chosen else f"all {n}"
    names = listed(map(kind_name, r.params["kinds"]))
    return (
        f"Artificial neurons were {names}, of {where}: "
        f"{r.summary['n_neurons']:,} of {r.params['kinds'][0]}."
    )


def places(r):
    if r.params["modules"]:
        return f"Modules were named by hand: {value(r.params['modules'])}."


def attention(r):
    if "qk" in [*r.params["kinds"], *r.params["corpora_kinds"]]:
        how = {"mean": "mean", "max": "maximum", "attention": "attention-weighted mean"}
        pooling = how[r.params["qk_pooling"]]
        return f"A query met the {pooling} of its products with the keys it attends to."


def comparisons(r):
    names = [
        f"the same architecture with random weights ({r.params['n_random']} draws, "
        f"seed {r.params['seed']})"
        if name == "random"
        else source(name)
        for name in r.params["comparison_models"]
    ]
    if names:
        return f"For comparison, {listed(names)} read the same story."


def story(r):
    words = f"{plural(r.summary['n_words'], 'word')} of {source(r.params['story'])}"
    tokens = plural(r.summary["n_tokens"], "token")
    start = r.params["story_start"]
    start = f", beginning at “{start}”" * bool(start)
    if r.simulated:
        return (
            f"The story was {words}{start} ({tokens}). The text has no times: word "
            "onsets are those of a simulated reader, not of real speech."
        )
    return (
        f"The story was {words}{start} ({tokens}), with the word times of that "
        "transcript."
    )


def untimed(r):
    n = r.summary["n_words_untimed"]
    if n:
        how = {
            "interpolate": "took their times from their neighbours",
            "drop": "were read by the model but left out of responses",
        }[r.params["words_without_time"]]
        return f"{plural(n, 'word')} without a measured time {how}."


def cleaned(r):
    n, clipped = r.summary.get("n_marks_left_out"), r.summary.get("n_words_clipped")
    parts = []
    if n:
        parts.append(f"{plural(n, 'mark')} of silence, noise or speaker left out")
    if clipped:
        parts.append(f"the ends of {plural(clipped, 'word')} clipped to the next onset")
    if parts:
        return f"In the transcript, {listed(parts)}."


def sound(r):
    if r.params["events"]:
        audio, events = r.params["audio"], source(r.params["events"])
        return f"Word times count from the onset of {audio or 'the audio'} in {events}."


def windows(r):
    p = r.params
    return (
        f"The model read in windows of {plural(p['window'], 'token')}, "
        f"{p['stride']:,} of them new; every token was recorded once."
    )


def left_out(r):
    if r.summary.get("n_tokens_left_out"):
        return (
            "Where a tokenizer puts no token before the text, the first token that is "
            "read, at which models hold massive activations, was left out of responses."
        )


def corpora(r):
    p = r.params
    if p["corpora"]:
        names = listed(source(c).split(" (")[0] for c in p["corpora"])
        n = plural(len(p["corpora"]), "text corpus", "text corpora")
        return (
            f"For the model's own networks it also read up to {p['corpus_tokens']:,} "
            f"tokens of each of {n} ({names}) in documents of up to "
            f"{p['document_tokens']:,} tokens; "
            f"recorded kinds: {listed(p['corpora_kinds'])}."
        )


def clock(r):
    p = r.params
    return (
        f"A word's tokens were {POOLED[p['token_pooling']]}, the words that begin in "
        f"one volume {POOLED[p['pooling']]}; the values {HRF[p['hrf']]} and were "
        f"sampled at {plural(r.summary['n_times'], 'volume')} of {p['tr']:g} s, the "
        f"first at {p['first_volume']:g} s of the story's clock."
    )


def runs(r):
    if r.params["run_lengths"]:
        of = listed(r.params["run_lengths"])
        return (
            f"The clock is made of runs of {of} volumes: a response ends with its run."
        )


def frequency(r):
    language = r.params["language"]
    if frequency_known(language):
        return f"Word frequencies are wordfreq's [@speer2022wordfreq] for “{language}”."


RECORDING = {
    "Model": [model, kinds, places, attention, comparisons],
    "Story and text": [story, untimed, cleaned, sound, windows, corpora, frequency],
    "Responses": [clock, runs, left_out],
}
