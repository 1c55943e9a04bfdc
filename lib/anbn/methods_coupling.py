"""Statements on stage 03: synchrony, anchors, atoms, encoding, organisation.

Each takes a ``boilerplate.Ran`` and returns a sentence or None.
"""

from anbn.readable import listed, number, percent, plural, source


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
        f"Its null are {r.params['n_permutations']:,} surrogates: {drawn}. The largest "
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
    n = r.params["n_permutations_subject"]
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
        f"[@mairal2009dictionary] with an L1 penalty of {p['atom_alpha']:g}, without "
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
        f"atoms with the story rolled by {plural(p['n_shifts'], 'evenly spaced lag')}; "
        "scores are means where the noise ceiling is at least "
        f"{p['min_ceiling']:g}. Ceilings "
        "are those of the test sets. Single people were predicted with weights fitted "
        f"to {weights}. A network counts as predicted if its gain over word timing "
        f"exceeds that of {p['n_permutations_encoding']} rolled stories, family-wise "
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
