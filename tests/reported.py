"""Stages as if they had run, for tests of the report: parameters, numbers, a figure."""

import matplotlib.pyplot as plt

from anbn.core import artifacts, params

FIRST, SECOND = "01_activation_recording", "02_fbn_extraction"
MODEL, THIRD = "02b_model_networks", "03_an_bn_coupling"
ORGANISED, FOURTH = "03b_functional_organisation", "04_key_neuron_masking"
KEPT, CUT, LIKE = "04b_keep_amplify_tasks", "04c_cutting_out", "04d_fingerprint"
SUMMARY = {
    FIRST: {
        "n_tokens": 1910,
        "n_words": 1500,
        "n_layers": 30,
        "n_neurons": 46080,
        "n_times": 287,
        "n_words_untimed": 0,
        "n_marks_left_out": 31,
        "n_words_clipped": 12,
    },
    SECOND: {
        "n_subjects": 20,
        "n_networks_brain": 14,
        "n_networks_labelled": 8,
        "isc_mean": 0.2419,
        "word_rate_r_max": 0.5133,
    },
    MODEL: {
        "n_networks_model": 9,
        "n_networks_model_stable": 3,
        "n_massive": 27,
        "variance_massive": 0.943,
    },
    THIRD: {
        "n_significant_neurons": 3,
        "fwe_threshold": 0.5287,
        "max_synchrony": 0.7259,
    },
    ORGANISED: {
        "encoding_r_mean": 0.361,
        "encoding_r_baseline_wordrate": 0.396,
        "encoding_r_shifted": 0.373,
        "noise_ceiling_mean": 0.7496,
        "n_networks_predicted": 5,
    },
    FOURTH: {"n_masked": 210, "frac_masked": 0.01215, "ppl_base": 83.2},
    KEPT: {"sg_score_intact": 0.75},
    CUT: {"ppl_base": 61.7, "ppl_cut": 97.4, "parameters_cut": 0.171},
    LIKE: {"auc_best": 0.97},
}
FIGURES = {FIRST: ["word_rate", "raster"], SECOND: ["brain_networks"]}


def values_of(stage, study="quickstart", **changed):
    """Parameters of a shipped study, some of them changed."""
    return params.read(study, stage) | {"study": "mine"} | changed


def manifest_of(stage, *, simulated=True, files=(), summary=None, **changed):
    """What a manifest says, as far as the methods text reads it."""
    return {
        "params": values_of(stage, **changed),
        "summary": SUMMARY[stage] | (summary or {}),
        "files": dict.fromkeys(files),
        "simulated": simulated,
    }


def run(
    stage,
    *,
    study="mine",
    simulated=True,
    summary=None,
    title="A title",
    finding="3 of 9 were found.",
    size=(2, 1),
    **changed,
):
    """Write a stage's folder as a run by hand would, with figures of ``size`` inches.

    Parameters that the stage does not have are passed over.
    """
    out = artifacts.begin_stage(study, stage)
    artifacts.write_json(out / "data" / "a.json", {"a": 1})
    for name in FIGURES.get(stage, ["some_figure"]):
        figure, ax = plt.subplots(figsize=size)
        ax.set_title(title)
        artifacts.write_figure(out, name, figure)
        plt.close(figure)
    summary = SUMMARY[stage] | (summary or {})
    known = {k: v for k, v in changed.items() if k in params.declared(stage)}
    values = values_of(stage, **known)
    artifacts.finish_stage(
        out, summary, params=values, simulated=simulated, finding=finding
    )
    return out
