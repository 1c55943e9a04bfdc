"""Statements on stage 02: BOLD, networks of the brain, networks of the model.

Each takes a ``boilerplate.Ran`` and returns a sentence or None.
"""

from anbn.readable import listed, number, percent, plural, source


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
        narratives = p["bids_folder"].startswith("narratives:")
        of = ", of the Narratives data [@nastase2021narratives]" * narratives
        entities = ("task", "space", "desc")
        named = listed(f"{k} {p[k]}" for k in entities if p[k])
        folder = source(p["bids_folder"])
        return f"BOLD of {n} was read from the derivatives in {folder}{of} ({named})."
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
        f"[@pedregosa2011sklearn] (L1 penalty {p['dictionary_alpha']:g})"
    )


def _belief(p):
    sizes = listed(p["layer_sizes"])
    return f"a sparse deep belief network ({sizes} hidden units below the networks)"


def repeats(r):
    p, left = r.params, ""
    if p["only_stable"]:
        left = " Networks that are not stable were left out."
    if not p["n_nulls"]:
        return f"Which networks are stable was not judged.{left}"
    return (
        f"Decompositions were repeated on {p['n_draws']} draws with replacement and on "
        f"{p['n_halves']} splits into halves of whole documents or subjects, from "
        "standardising on; a network is stable if its halves agree beyond all networks "
        f"of {p['n_nulls']} data sets in which nothing is shared.{left}"
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
            f"{p['level']:g} against {p['n_permutations']:,} random maps of the same "
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
    least = {
        "z": f"beyond z = {p['alpha']:g}",
        "percent": f"among the {p['alpha']:g} % largest",
        "fdr": f"beyond an empirical null [@efron2004null] at a rate of {p['alpha']:g}",
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
        f"Networks were looked for again in single texts of {p['sample_tokens']} "
        f"tokens; the null shuffles neurons in layers ({p['n_permutations']:,} draws)."
    )


def scan(r):
    if r.params["scan"]:
        return f"Numbers of networks compared: {listed(r.params['scan'])}."


EXTRACTION = {
    "BOLD": [bold, drawn, another_story, space, cleaning],
    "Networks of the brain": [brain_networks, repeats, labels, shared],
    "Networks of the model": [model_networks, members, massive, recurrence, scan],
}
