"""Statements on stages 04 and 05: neurons silenced, kept, amplified, cut out.

Each takes a ``boilerplate.Ran`` and returns a sentence or None.
"""

from anbn.readable import listed, number, percent, plural, source

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


def controls(r):
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
        parts += f", or those beyond z = {p['keep_alpha']:g} of {numbers} components"
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
        f"Tasks ran under {n} and {plural(p['n_task_draws'], 'random control')} of "
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
    "Masks and their controls": [sources, masked, silenced, controls],
    "What was measured": [evaluated, single, kept, amplified, grammar, tasks],
}
CUTTING = {
    "Cutting out": [criteria, functional, protected, needed, filled, evaluated, cut],
    "Grammar and likeness": [grammar, fingerprint],
}
