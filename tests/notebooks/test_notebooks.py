"""The notebooks as text, and the `ci` study from end to end."""

import json
import os
import re
from pathlib import Path

import pytest

from anbn.core import artifacts, params
from anbn.study import engine, fingerprints, notebooks, sweeps

REAL = ("04d_fingerprint",)
SUMMARY = {
    "01_activation_recording": "n_tokens n_words n_layers n_neurons perplexity "
    "tokens_per_s",
    "02_fbn_extraction": "n_subjects n_networks_brain n_networks_labelled isc_mean",
    "02b_model_networks": "n_networks_model n_networks_model_stable n_massive",
    "03_an_bn_coupling": "n_significant_neurons fwe_threshold max_synchrony "
    "planted_networks_found planted_networks_total "
    "false_networks_found driver_recall_top1pct map_dice_mean unheard_found "
    "unheard_total planted_networks_found_by_network",
    "03b_functional_organisation": "encoding_r_mean encoding_r_baseline_wordrate "
    "encoding_r_random_model noise_ceiling_mean n_networks_predicted "
    "population_networks_found false_encoding_networks_found",
    "04_key_neuron_masking": "ppl_base ppl_masked_networks ppl_masked_matched_random "
    "ppl_masked_uniform_random ppl_masked_top_variance frac_masked",
    "04b_keep_amplify_tasks": "sg_score_intact",
    "04c_cutting_out": "ppl_base ppl_cut sg_intact parameters_cut speedup",
    "04d_fingerprint": "auc_best",
}


@pytest.mark.parametrize("stage", notebooks.names())
def test_pipeline_knows_what_a_notebook_reads(stage):
    text = fingerprints.notebook_source(stage)
    assert re.findall(r'stage_inputs\(study, "(\w+)"\)', text) == list(
        notebooks.inputs()[stage]
    )


def test_all_models_are_loaded_before_anything_is_recorded():
    text = fingerprints.notebook_source("01_activation_recording")
    begin = text.index("recording.record(")
    before = text[:begin]
    assert before.count("loading.load_model(") == 2  # the model, comparison models
    assert "in compared.items()" in before
    assert before.count("recording.check_range(") == 3
    assert "del other" in before  # one at a time


def test_ci_study_end_to_end(monkeypatch):
    """What this study has left, where it has run: it takes minutes."""
    ran = os.environ.get("ANBN_CI_OUTPUTS")
    outputs = Path(ran) if ran else params.project_root() / "outputs"
    monkeypatch.setenv("ANBN_OUTPUTS", str(outputs))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    tasks, _ = engine.plan(sweeps.of_study("ci", notebooks.names()))
    stale = [one.stage for one in tasks.values() if not one.is_done]
    if stale and not ran:
        pytest.skip("study ci has not run, or is not up to date: make all STUDY=ci")
    assert stale == []
    for stage, names in SUMMARY.items():
        out = outputs / "ci" / stage
        manifest = json.loads((out / "manifest.json").read_text())
        assert set(names.split()) <= set(manifest["summary"])
        # word times and BOLD are; what 04d compares knows of neither
        assert manifest["simulated"] is (stage not in REAL)
        assert len(manifest["finding"]) > 40
        assert len(list((out / "figures").glob("*.png"))) >= 2
        assert (out / "notebook.html").stat().st_size > 100_000
        text = (out / "notebook.ipynb").read_text()
        assert "Warning" not in text.replace("ConvergenceWarning", "")
    found = {
        stage: json.loads((outputs / "ci" / stage / "manifest.json").read_text())
        for stage in SUMMARY
    }
    found = {stage.partition("_")[0]: m["summary"] for stage, m in found.items()}
    assert found["03"]["false_networks_found"] == 0
    assert found["03"]["map_dice_mean"] > 0.5
    masked = found["04"]
    assert masked["ppl_masked_networks"] > 10 * masked["ppl_masked_matched_random"]
    assert masked["ppl_masked_matched_random"] > masked["ppl_base"]
    saved = outputs / "ci" / "04_key_neuron_masking" / "data" / "masks.npz"
    masks = artifacts.read_arrays(saved)
    assert masked["n_masked"] == masks["networks_ffn_out"].sum()
    cut = found["04c"]
    assert cut["ppl_base"] < cut["ppl_cut"] < cut["ppl_random"]
    assert 0.1 < cut["parameters_cut"] < 0.25
    assert found["04d"]["auc_best"] > 0.9
