"""Methods text of a study, from its manifests alone.

A statement is a function of one stage's results, a ``Ran``: it says one thing, with the
numbers of the manifest, or nothing where the parameters make it untrue. A statement
whose parameters a manifest does not have, as of an older notebook, is left out and
told.
"""

from dataclasses import dataclass, field

from anbn.core.artifacts import ArtifactError
from anbn.core.paths import NARRATIVES, canonical, stage_number
from anbn.study.wording import listed, number, percent, plural, source, value
from anbn.text.linguistics import frequency_known

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


def clock_runs(r):
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
    "Responses": [clock, clock_runs, left_out],
}


def bold(r):
    p, n = r.params, plural(r.summary["n_subjects"], "subject")
    if p["bold"] == "simulated":
        return (
            f"BOLD is simulated, not measured: {n} at {p['resolution']} mm. Some "
            f"networks are driven by groups of {p['n_drivers']} neurons of the model, "
            f"others by noise of the same spectrum; the shared signal has a standard "
            f"deviation of {p['signal']:g}, each subject's noise of 1."
        )
    if p["bold"] == "alice":
        return (
            f"BOLD is that of {n} who heard a chapter of Alice in Wonderland "
            f"[@brennan2016abstract], as mean time courses of regions with a radius of "
            f"{p['alice_radius'].removesuffix('mm')} mm."
        )
    if p["bold"] == "bids":
        folder = canonical(p["bids_folder"])
        narratives = folder.startswith(NARRATIVES)
        of = ", of the Narratives data [@nastase2021narratives]" * narratives
        entities = ("task", "space", "desc")
        named = listed(f"{k} {p[k]}" for k in entities if p[k])
        where = f"{source(folder)}{of}"
        return f"BOLD of {n} was read from the derivatives in {where} ({named})."
    files = plural(len(p["bold_files"]), "file")
    return f"BOLD of {n} was read from {files} named one by one."


def drawn(r):
    n = r.params["max_subjects"]
    if n:
        return f"These {n} were drawn at random (seed {r.params['seed']})."


def another_story(r):
    if not r.params["same_story"]:
        return (
            "The runs are not of the story that the model read, so there is neither "
            "inter-subject correlation nor coupling."
        )


def space(r):
    p, steps = r.params, []
    if p["atlas_file"]:
        steps.append(f"averaged over the regions of {source(p['atlas_file'])}")
    if r.voxels() and p["bold"] != "simulated":
        mask = {"": "one computed from the runs", "mni": "nilearn's brain mask"}
        mask = mask.get(p["mask_file"]) or source(p["mask_file"])
        steps.append(f"restricted to a mask ({mask})")
    if p["voxel_size"]:
        steps.insert(0, f"resampled to {p['voxel_size']:g} mm")
    if p["smoothing"]:
        steps.append(
            f"smoothed with {p['smoothing']:g} mm (full width at half maximum)"
        )
    if steps:
        return f"Volumes were {listed(steps)}."


def cleaning(r):
    p, cut = r.params, ""
    if p["cut_start"] or p["cut_end"]:
        cut = f"lost {p['cut_start']} volumes at its start, {p['cut_end']} at its end, "
    nuisance = f" and of confounds ({listed(p['confounds'])})" * bool(p["confounds"])
    scale = {
        "zscore": "was standardised to unit variance",
        "psc": "was scaled to percent signal change",
        "none": "was not scaled",
    }[p["standardise"]]
    return (
        f"Each run {cut}was rid of drift slower than {p['high_pass']:g} s{nuisance} by "
        f"one projection and {scale}."
    )


def brain_networks(r):
    p, n = r.params, plural(r.summary["n_networks_brain"], "network")
    method = {
        "canica": "CanICA [@varoquaux2010canica] of nilearn [@nilearn]",
        "dictlearning": "dictionary learning of nilearn [@nilearn]",
        "ica": f"spatial ICA ({_solver(p)})",
        "dictionary": _dictionary(p),
        "vsdbn": _belief(p),
    }
    if p["brain_method"] == "regions":
        return (
            f"The {n.replace('network', 'region')} were taken as networks as they are."
        )
    asked = f" ({p['n_brain_networks']} components asked for)"
    return f"Networks of the brain come from {method[p['brain_method']]}: {n}{asked}."


def _solver(p):
    return {
        "fastica": "FastICA [@hyvarinen1999fastica] of scikit-learn "
        "[@pedregosa2011sklearn]",
        "picard": "Picard [@ablin2018picard]",
    }[p["solver"]]


def _dictionary(p):
    return (
        "sparse dictionary learning [@mairal2009dictionary] of scikit-learn "
        f"[@pedregosa2011sklearn] (L1 penalty {p['dictionary_penalty']:g})"
    )


def _belief(p):
    sizes = listed(p["layer_sizes"])
    return f"a sparse deep belief network ({sizes} hidden units below the networks)"


def repeats(r):
    p, left = r.params, ""
    if p["only_stable"]:
        left = " Networks that are not stable were left out."
    if not p["n_null_sets"]:
        return f"Which networks are stable was not judged.{left}"
    return (
        f"Decompositions were repeated on {p['n_bootstrap']} draws with replacement "
        f"and on {p['n_halves']} splits into halves of whole documents or subjects, "
        "from standardising on; a network is stable if its halves agree beyond all "
        f"networks of {p['n_null_sets']} data sets in which nothing is shared.{left}"
    )


def labels(r):
    if r.voxels() and r.params["brain_method"] != "regions":
        p, n = r.params, r.summary["n_networks_labelled"]
        sets = [
            s + " [@seitzman2020networks]" * (s == "seitzman")
            for s in [source(s) for s in p["template_sets"]]
        ]
        return (
            f"Maps were held against templates ({listed(sets)}): {n} got a name, by a "
            f"correlation of at least {p['min_template_r']:g} and p of at most "
            f"{p['level']:g} against {p['n_draws_null']:,} random maps of the same "
            "smoothness."
        )


def shared(r):
    if r.params["same_story"]:
        isc, rate = r.summary["isc_mean"], r.summary["word_rate_r_max"]
        return (
            "Leave-one-out inter-subject correlation of networks' time courses is "
            f"{number(isc)} on average; word rate correlates with the group's mean by "
            f"at most |r| = {number(rate)}."
        )


def model_networks(r):
    p = r.params
    method = {
        "ica": f"ICA over tokens ({_solver(p)}) as in [@liu2025networks]",
        "dictionary": _dictionary(p),
        "vsdbn": _belief(p),
    }[p["model_method"]]
    scaled = ", each neuron scaled to unit variance" * p["standardise_neurons"]
    n, stable = r.summary["n_networks_model"], r.summary.get("n_networks_model_stable")
    judged = f", {stable} of them stable" if stable is not None else ""
    return (
        f"Networks of the model are groups of {p['model_kind']} neurons that vary "
        f"together over the corpora, by {method}{scaled}: {n} of "
        f"{p['n_model_networks']} asked for{judged}."
    )


def members(r):
    p = r.params
    threshold = f"{p['membership_threshold']:g}"
    least = {
        "z": f"beyond z = {threshold}",
        "percent": f"among the {threshold} % largest",
        "fdr": f"beyond an empirical null [@efron2004null] at a rate of {threshold}",
    }[p["membership"]]
    sides = "either sign" if p["two_sided"] else "the positive side, after signs were "
    sides += "" if p["two_sided"] else "fixed by skew"
    return f"A neuron belongs to a network if its weight lies {least} ({sides})."


def massive(r):
    p, s = r.params, r.summary
    left = "were left out of" if p["leave_out_massive"] else "took part in"
    return (
        f"{plural(s['n_massive'], 'massive neuron')} [@sun2024massive] (from "
        f"{p['massive_ratio']:g} times what is typical) hold "
        f"{percent(s['variance_massive'])} of the variance and {left} the networks."
    )


def recurrence(r):
    p = r.params
    return (
        f"Networks were looked for again in slices of {p['slice_tokens']} "
        f"tokens; the null shuffles neurons in layers ({p['n_draws_null']:,} draws)."
    )


def scan(r):
    if r.params["scan"]:
        return f"Numbers of networks compared: {listed(r.params['scan'])}."


EXTRACTION = {
    "BOLD": [bold, drawn, another_story, space, cleaning],
    "Networks of the brain": [brain_networks, repeats, labels, shared],
    "Networks of the model": [model_networks, members, massive, recurrence, scan],
}


def confounds(r):
    p = r.params
    of_words = [
        "speech, on or off" if c == "speech" else c.replace("_", " ")
        for c in p["confounds"]
    ]
    if p["sound_file"]:
        of_words.append(f"the power of {source(p['sound_file'])}")
    if p["confound_table"]:
        columns = p["confound_columns"]
        which = "all columns" if columns == ["*"] else f"columns {listed(columns)}"
        of_words.append(f"{which} of {source(p['confound_table'])}")
    slow = r.before["02"].params["high_pass"]
    return (
        "One projection removed from neurons and networks alike: "
        f"{listed([f'drift slower than {slow:g} s', *of_words])}."
        + (
            f" The first {p['leave_out_start']:g} s were left out."
            if p["leave_out_start"]
            else ""
        )
    )


def synchrony(r):
    of_group = f"{plural(r.before['02'].summary['n_subjects'], 'subject')}"
    return (
        "Synchrony [@liu2023coupling] is Pearson's correlation of the response of each "
        f"{r.params['kind']} neuron with the time course of each network, averaged "
        f"over {of_group}."
    )


def delays(r):
    if r.params["delays"] != [0]:
        of = listed(r.params["delays"])
        return f"Responses and regressors were delayed by {of} volumes."


def null(r):
    drawn = {
        "phase": "time courses with their Fourier phases turned "
        "[@prichard1994surrogates]",
        "shift": "time courses rolled by a random lag",
        "text": "responses to other text, spoken with the timing of this story",
    }[r.params["null_method"]]
    return (
        f"Its null are {r.params['n_draws']:,} surrogates: {drawn}. The largest "
        "|r| over all neurons and networks gives the family-wise threshold at "
        f"{r.params['level']:g}, the |r| with each network its rate of false "
        "discoveries."
    )


def runs(r):
    of = r.params["run_lengths"] or r.before["01"].params["run_lengths"]
    if of:
        return f"Drift, surrogates and folds are those of runs of {listed(of)} volumes."


def found(r):
    s = r.summary
    return (
        f"{plural(s['n_significant_neurons'], 'neuron')} passed the threshold of "
        f"|r| = {number(s['fwe_threshold'])}; the largest |r| is "
        f"{number(s['max_synchrony'])}."
    )


def subjects(r):
    n = r.params["n_draws_subject"]
    return f"Single subjects have nulls of their own ({n:,} surrogates each)."


def anchors(r):
    top = percent(r.params["top"])
    return f"A network's top anchors are the {top} of neurons of largest |r| with it."


def truth(r):
    if "planted_networks_total" in r.summary:
        s = r.summary
        return (
            f"Of {s['planted_networks_total']} networks that were planted as driven, "
            f"{s['planted_networks_found']} were found; of networks that were not, "
            f"{s['false_networks_found']} passed the threshold."
        )


def atoms(r):
    p = r.params
    return (
        f"{p['n_atoms']} atoms [@sun2024organization] were learned from responses of "
        f"{p['atoms_kind']} neurons by sparse dictionary learning "
        f"[@mairal2009dictionary] with an L1 penalty of {p['atom_penalty']:g}, without "
        "brain data."
    )


def bands(r):
    if r.params["depth_bands"]:
        n = r.params["depth_bands"]
        return f"Atoms of {n} stretches of layers were bands of their own."


def encoding(r):
    p = r.params
    return (
        "BOLD was predicted by banded ridge regression (himalaya "
        f"[@dupre2022himalaya]; {plural(p['band_weights'], 'random weighting')} of "
        f"bands to choose from) in {p['n_folds']} contiguous folds, {p['gap']:g} s "
        "left out between training and test time."
    )


def controls(r):
    p = r.params
    weights = {"group": "the group's mean", "own": "each of them alone"}
    weights = weights[p["subject_weights"]]
    return (
        "Controls are word rate alone, every comparison model of stage 01, and the "
        f"atoms with the story rolled by {plural(p['n_lags'], 'evenly spaced lag')}; "
        "scores are means where the noise ceiling is at least "
        f"{p['min_ceiling']:g}. Ceilings "
        "are those of the test sets. Single people were predicted with weights fitted "
        f"to {weights}. A network counts as predicted if its gain over word timing "
        f"exceeds that of {p['n_draws_encoding']} rolled stories, family-wise "
        "over networks."
    )


def encoded(r):
    s = r.summary
    return (
        f"Held-out r of the group's mean: {number(s['encoding_r_mean'])} for atoms and "
        f"word rate, {number(s['encoding_r_baseline_wordrate'])} for word rate alone, "
        f"{number(s['encoding_r_shifted'])} for the rolled story; noise ceiling "
        f"{number(s['noise_ceiling_mean'])}. Beyond rolled stories "
        f"{plural(s['n_networks_predicted'], 'network')} gained."
    )


def organisation(r):
    p = r.params
    return (
        "Atoms were then fixed regressors of BOLD [@sun2024organization]: an atom "
        "serves the network in whose core its t is largest, if p is at most "
        f"{p['level']:g} against surrogate atoms; the strongest "
        f"{p['overlap_percent']:g} % of a map count as its network."
    )


COUPLING = {
    "Synchrony": [confounds, synchrony, delays, runs, null, found, subjects, anchors],
    "Encoding": [atoms, bands, encoding, controls, encoded, organisation],
    "Check against the truth": [truth],
}


CRITERIA = {
    "functional": "functional networks of each layer [@liu2025pruning]",
    "wanda": "weights times inputs (Wanda [@sun2023wanda])",
    "magnitude": "weights alone",
    "fluctuation": "variance times weights (after FLAP [@an2023flap])",
    "random": "random scores",
    "coupled": "the largest synchrony with a brain network in stage 03",
}


def sources(r):
    p = r.params
    share = f"the {percent(p['source_share'])} of neurons with the largest"
    named = {
        "networks": "the union of the model's functional networks [@liu2025networks]",
        "stable": "networks that halves of the documents agree on",
        "domain": f"networks that answer most to {p['domain']}",
        "coupled": _coupled(p),
        "localizer": f"{share} difference of {p['localizer_kind']} between sentences "
        "and non-words (language localizer [@alkhamissi2024localizer])",
        "magnitude": f"{share} weights",
        "wanda": f"{share} weights times inputs [@sun2023wanda]",
        "massive": "massive activations [@sun2024massive]",
        "file": f"{p['mask_kind']} neurons of {source(p['mask_file'])}",
    }
    chosen = dict.fromkeys(["networks", *p["sources"]])
    return f"Masks: {'; '.join(named[s] for s in chosen)}."


def _coupled(p):
    by = {
        "fdr": f"at a rate of false discoveries of {p['coupled_level']:g}",
        "fwe": f"at a family-wise error of {p['coupled_level']:g}",
        "top": f"the {percent(p['coupled_share'])} most synchronous",
    }[p["coupled_by"]]
    network = p["coupled_network"] or "the brain network that most neurons follow"
    return f"neurons that follow {network} in stage 03, {by}"


def masked(r):
    n, share = r.summary["n_masked"], r.summary["frac_masked"]
    return f"The networks' mask holds {n:,} neurons, {percent(share)} of their kind."


def silenced(r):
    to = {
        "zero": "set to zero",
        "mean": "set to their mean, but at special tokens",
        "resample": "given their activations at other tokens, but at special tokens",
    }[r.params["silence_to"]]
    return f"Silenced neurons were {to}."


def mask_controls(r):
    p = r.params
    return (
        f"Every mask met {p['n_draws']} random draws each of its controls: as many "
        "neurons in the same layers, from all layers alike, alike in variance, and "
        "(but for qk) alike in contribution to the residual stream; with "
        f"{p['n_draws']} draws p cannot be below {1 / (p['n_draws'] + 1):.2g}. A mask "
        "that holds massive neurons was compared a second time without them. "
        f"The networks also met the published control, {percent(p['random_share'])} of "
        "all neurons at random."
    )


def evaluated(r):
    p = r.params
    n = plural(p["evaluation_documents"], "document")
    names = [source(c).split(" (")[0] for c in p["evaluation_corpora"]]
    return (
        f"Loss was measured on {n} of up to {p['evaluation_tokens']:,} tokens of each "
        f"of {listed(names)}, none of which shares a sentence with text that networks "
        "or scores were fitted on."
    )


def single(r):
    n = r.params["n_single"]
    which = f"The {n} most stable networks" if n else "All networks"
    return f"{which} were silenced one at a time and compared domain by domain."


def kept(r):
    p = r.params
    shares = listed(map(percent, p["keep_shares"]))
    parts = f"the {shares} of neurons that belong most clearly to a network"
    if p["keep_components"]:
        numbers = listed(p["keep_components"])
        parts += (
            f", or those beyond z = {p['keep_z_threshold']:g} of {numbers} components"
        )
    n = plural(p["n_draws"], "random control")
    return f"Kept alone were {parts} ({n} of the same layers each)."


def amplified(r):
    p = r.params
    plus = f", plus {p['plus']:g}" * bool(p["plus"])
    factors = listed(f"{f:g}" for f in p["factors"])
    n = plural(p["n_draws"], "random control")
    return (
        f"The networks' neurons were multiplied by {factors}{plus}, beside {n} of the "
        "same layers."
    )


def grammar(r):
    p, suites = r.params, r.params["suites"]
    which = plural(len(suites), "suite") if suites else "all suites"
    items = f"{p['suite_items']} items" if p["suite_items"] else "all items"
    before = {"": "nothing", "\n": "a line break"}.get(
        p["sentence_before"], repr(p["sentence_before"])
    )
    return (
        f"Grammar: {which} of SyntaxGym [@hu2020syntaxgym], {items} of each, with "
        f"{before} in front of a sentence."
    )


def tasks(r):
    p = r.params
    n = f"the first {p['n_task_masks']} masks" if p["n_task_masks"] else "every mask"
    return (
        f"Tasks ran under {n} and {plural(p['n_draws_tasks'], 'random control')} of "
        f"each, on {plural(p['task_documents'], 'document')} of each domain of up to "
        f"{p['task_tokens']} tokens."
    )


def criteria(r):
    p = r.params
    names = listed(CRITERIA[c] for c in p["criteria"])
    shares = listed(map(percent, p["shares"]))
    where = {"uniform": "the same share in every layer", "global": "the lowest of all"}
    return (
        f"Feed-forward units were scored by {names}. The lowest {shares} were taken "
        f"out, {where[p['budget']]}, in multiples of {p['multiple']} units."
    )


def functional(r):
    p = r.params
    if "functional" in [*p["criteria"], p["cut_criterion"]]:
        n, texts = p["n_components"], p["n_texts"]
        return (
            f"Functional networks: {n} components of each layer, {texts} texts a run."
        )


def protected(r):
    first, last = r.params["first_layers"], r.params["last_layers"]
    if first or last:
        return f"The first {first} and last {last} layers were left whole."


def filled(r):
    if r.params["compensate"]:
        return "The mean of what is cut went into the next layer's bias."
    return "What is cut was replaced by zero."


def needed(r):
    n = r.summary.get("n_needed_at_special_tokens")
    if n:
        return (
            f"{plural(n, 'unit')} stayed whatever the criterion, as their loss at a "
            "special token would move the residual stream further than their layer "
            "usually does."
        )


def cut(r):
    p, s = r.params, r.summary
    return (
        f"For real, {percent(p['cut_share'])} of units were cut by "
        f"{p['cut_criterion']}, {percent(s['parameters_cut'])} of all parameters. "
        f"Perplexity: {number(s['ppl_base'])} before, {number(s['ppl_cut'])} after."
    )


def fingerprint(r):
    p = r.params
    others = listed(["random weights", *map(source, p["other_models"])])
    noise = listed(f"{scale:g}" for scale in p["noise_scales"])
    return (
        f"Fingerprints [@liu2026fingerprint] of {p['n_networks']} networks, fitted on "
        f"{p['fitting_texts']} and compared on {p['fingerprint_texts']} texts of "
        f"{p['text_words']} words of each corpus, hold the model against its "
        f"descendants (cut; noised by {noise} s.d.; fine-tuned for {p['tune_steps']} "
        f"steps at {p['tune_rate']:g}) and against {others}."
    )


MASKING = {
    "Masks and their controls": [sources, masked, silenced, mask_controls],
    "What was measured": [evaluated, single, kept, amplified, grammar, tasks],
}
CUTTING = {
    "Cutting out": [criteria, functional, protected, needed, filled, evaluated, cut],
    "Grammar and likeness": [grammar, fingerprint],
}


@dataclass(frozen=True)
class Ran:
    """What a stage's manifest says."""

    params: dict
    summary: dict
    files: frozenset = frozenset()
    simulated: bool = False
    before: dict = field(default_factory=dict)  # "01": Ran, of the stages it may read

    def voxels(self):
        """Whether BOLD came as voxels, not as regions of a table or atlas."""
        return "data/mask.nii.gz" in self.files


STATEMENTS = {
    "01_activation_recording": RECORDING,
    "02_fbn_extraction": EXTRACTION,
    "03_an_bn_coupling": COUPLING,
    "04_key_neuron_masking": MASKING,
    "05_cutting_out": CUTTING,
}


def describe(manifests):
    """Methods of all stages that have run.

    Parameters
    ----------
    manifests : dict of str to dict
        By stage, in order.

    Returns
    -------
    text : dict of str to list of (str, str)
        For every stage, paragraphs with a heading; citations stand as ``[@key]``.
    missing : dict of str to list of str
        Parameters or numbers of each stage that statements looked for in vain.
    """
    text, missing, ran = {}, {}, {}
    for stage, manifest in manifests.items():
        of_stage = Ran(
            manifest["params"],
            manifest["summary"],
            frozenset(manifest["files"]),
            manifest["simulated"],
            dict(ran),
        )
        text[stage], missing[stage] = _paragraphs(
            stage, STATEMENTS.get(stage, {}), of_stage
        )
        ran[stage_number(stage)] = of_stage
    return text, missing


def _paragraphs(name, groups, of_stage):
    paragraphs, missing = [], []
    for heading, statements in groups.items():
        said = []
        for statement in statements:
            try:
                said.append(statement(of_stage))
            except KeyError as error:
                missing.append(str(error.args[0]))
            except (TypeError, ValueError, AttributeError) as error:
                raise ArtifactError(
                    f"the manifest of stage {name} holds a parameter or number that is "
                    f"not of its type, seen in {statement.__name__}: {error}. Run the "
                    "stage again."
                ) from error
        said = [sentence for sentence in said if sentence]
        if said:
            paragraphs.append((heading, " ".join(said)))
    return paragraphs, list(dict.fromkeys(missing))
