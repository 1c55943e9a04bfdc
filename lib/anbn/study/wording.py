"""Numbers and names as a reader of a report expects them."""

import re

# Headline numbers of the stages' summaries; %s is what a pattern's group found.
_NAMES = {
    "n_tokens": "tokens of the story",
    "n_words": "words of the story",
    "n_words_untimed": "words whose time was not measured",
    "n_marks_left_out": "marks of the transcript that are no words, left out",
    "n_words_clipped": "words whose end was clipped to the next word's onset",
    "n_tokens_left_out": "first tokens left out of responses",
    "n_layers": "layers of the model",
    "n_neurons": "neurons of the first kind recorded",
    "n_times": "volumes",
    "perplexity": "perplexity of the model on the story",
    "tokens_per_s": "tokens recorded per second",
    "n_subjects": "subjects",
    "n_networks_brain": "networks of the brain",
    "n_networks_labelled": "networks of the brain named after a template",
    "n_networks_model": "networks of the model",
    "n_networks_model_stable": "stable networks of the model",
    "n_massive": "massive neurons",
    "variance_massive": "share of variance that massive neurons hold",
    "isc_mean": "inter-subject correlation, mean of networks (r)",
    "word_rate_r_max": "largest |r| of a network with word rate",
    "n_significant_neurons": "neurons beyond the family-wise threshold",
    "fwe_threshold": "family-wise threshold of synchrony (|r|)",
    "max_synchrony": "largest synchrony (|r|)",
    "encoding_r_mean": "encoding, atoms and word rate (r)",
    "encoding_r_baseline_wordrate": "encoding, word rate alone (r)",
    "encoding_r_random_model": "encoding, random weights and word rate (r)",
    "encoding_r_shifted": "encoding, shifted story and word rate (r)",
    "encoding_r_people": "encoding of single people, atoms and word rate (r)",
    "encoding_r_people_wordrate": "encoding of single people, word rate alone (r)",
    "n_networks_predicted": "networks predicted beyond rolled stories",
    r"encoding_r_(.+)": "encoding, %s and word rate (r)",
    "noise_ceiling_mean": "noise ceiling of the group (r)",
    "planted_networks_total": "networks driven by few neurons, planted",
    "planted_networks_found": "of these, found by synchrony",
    "population_networks_coupled": "networks of populations with a coupled neuron",
    "false_networks_found": "networks found by synchrony that no neuron drives",
    "encoding_gain_planted": "gain over word rate where a population drives (r)",
    "encoding_gain_elsewhere": "gain over word rate where no neuron drives (r)",
    "population_networks_total": "networks driven by a population, planted",
    "population_networks_found": "of these, found by encoding",
    "false_encoding_networks_found": "networks found by encoding that no neuron drives",
    "leftover_components_coupled": "unnamed components that couple",
    "driver_recall_top1pct": "share of planted neurons among the top 1 %",
    "map_dice_mean": "overlap of found and planted maps (Dice)",
    "ppl_base": "perplexity of the intact model",
    "ppl_masked_networks": "perplexity, networks silenced",
    "ppl_masked_matched_random": "perplexity, random neurons of the same layers",
    "ppl_masked_uniform_random": "perplexity, random neurons of all layers",
    "ppl_masked_random_share": "perplexity, the published share of random neurons",
    "ppl_masked_top_variance": "perplexity, neurons of largest variance silenced",
    "ppl_masked_coupled": "perplexity, coupled neurons silenced",
    r"ppl_masked_(\w+)_without_massive": "perplexity, %s, massive neurons left out",
    r"ppl_masked_(\w+)_coupled": "perplexity, %s of the coupled neurons",
    r"ppl_masked_(.+)": "perplexity, %s silenced",
    "n_masked": "neurons in the networks' mask",
    "frac_masked": "share of its kind in the networks' mask",
    "sg_score_intact": "SyntaxGym score of the intact model",
    "sg_intact": "SyntaxGym score of the intact model",
    "ppl_cut": "perplexity of the model that was cut",
    "n_needed_at_special_tokens": "units that stay for the sake of special tokens",
    "parameters_cut": "share of parameters cut",
    "speedup": "speed of the cut model, of the intact one's",
    r"ppl_(.+)": "perplexity, cut by %s",
    r"auc_(.+)": "area under the curve, likeness by %s",
}


def summary_name(key):
    """What a key of a summary means, as words; the key itself, if it is not known."""
    if key in _NAMES:
        return _NAMES[key]
    for pattern, name in _NAMES.items():
        found = re.fullmatch(pattern, key) if "(" in pattern else None
        if found:
            return name % found[1].replace("_", " ")
    return key.replace("_", " ")


def number(value):
    """A number with three to four digits, thousands apart; anything else as text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.4g}"


def value(parameter):
    """A parameter's value as text."""
    if isinstance(parameter, list):
        return ", ".join(map(value, parameter)) or "none"
    if isinstance(parameter, dict):
        return ", ".join(f"{k}: {value(v)}" for k, v in parameter.items()) or "none"
    if isinstance(parameter, bool):
        return "yes" if parameter else "no"
    if isinstance(parameter, str):
        return repr(parameter) if parameter.strip() != parameter else parameter or "–"
    return f"{parameter:,}" if isinstance(parameter, int) else f"{parameter:g}"


def percent(share):
    """A share of 1 as ``12.5 %``."""
    return f"{100 * share:.3g} %"


def plural(n, one, many=None):
    """``1 word``, ``2 words``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(items):
    """``a``, ``a and b``, ``a, b and c``."""
    items = [str(item) for item in items]
    return " and ".join([", ".join(items[:-1]), items[-1]] if items[1:] else items)


def source(spec):
    """A parameter that names a file or a model, short: its end, and where from."""
    found = re.fullmatch(r"package:([^/]+)/(.+)", spec)
    if found:
        inner = found[2].split("/")[-1]
        return found[1] if inner == "model" else f"{inner} (Python package {found[1]})"
    found = re.fullmatch(r"openneuro:(ds\d+)/(.+)", spec)
    if found:
        return f"{found[2].split('/')[-1]} (data set {found[1]} of OpenNeuro)"
    found = re.fullmatch(r"(alice|narratives|data):(.+)", spec)
    if found:
        return f"{found[2].split('/')[-1]} ({found[1]} data)"
    return spec
