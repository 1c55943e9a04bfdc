"""The explorer: what it shows of a neuron, and that its boxes follow each other."""

import subprocess
import sys
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from nilearn.datasets import load_mni152_brain_mask

from anbn.coupling import explorer, meaning

pytestmark = pytest.mark.usefixtures("close_figures")
N_TIMES, N_LAYERS, N_UNITS, N_WORDS = 60, 3, 20, 40


@pytest.fixture(scope="module")
def parts():
    rng = np.random.default_rng(0)
    responses = rng.normal(size=(N_TIMES, N_LAYERS * N_UNITS))
    timecourses = rng.normal(size=(N_TIMES, 2))
    timecourses[:, 1] = -responses[:, 27]  # the best pair: layer 1, unit 7
    z = [(x - x.mean(0)) / x.std(0) for x in (responses, timecourses)]
    tokens = pd.DataFrame({"word": np.repeat(np.arange(N_WORDS), 2)})
    words = pd.DataFrame({"word": [f"w{i}" for i in range(N_WORDS)]})
    words["onset"] = np.arange(N_WORDS) * 1.5
    words.loc[5, "word"] = "<script>$x$"
    activations = rng.normal(size=(2 * N_WORDS, N_LAYERS, N_UNITS)).astype("f2")
    activations[10:12, 1, 7] = 20  # both tokens of word 5
    return {
        "responses": responses,
        "timecourses": timecourses,
        "synchrony": z[0].T @ z[1] / N_TIMES,
        "threshold": 0.5,
        "names": ["one", "$two$ <b>"],
        "layers": [0, 4, 8],
        "activations": xr.DataArray(activations, dims=("token", "layer", "neuron")),
        "tokens": tokens,
        "words": words,
        "tr": 1.5,
        "note": " (simulated BOLD)",
    }


@pytest.fixture(scope="module")
def coupling(parts):
    mask = load_mni152_brain_mask(resolution=12)
    maps = np.random.default_rng(1).normal(size=(2, int(mask.get_fdata().sum())))
    return explorer.Coupling(**parts, maps=maps, mask=mask)


def test_best_pair_and_ranks(coupling):
    assert coupling.best == (1, 27)
    assert coupling.order(1)[0] == 27
    of_layer = coupling.order(0, 2)
    assert sorted(of_layer) == list(range(40, 60))
    assert (np.diff(np.abs(coupling.synchrony[of_layer, 0])) <= 0).all()


def test_words_are_those_of_the_one_column_read(coupling, monkeypatch):
    real, read = meaning.word_responses, []

    def spy(activations, *rest):
        read.append(activations.shape)
        return real(activations, *rest)

    monkeypatch.setattr(meaning, "word_responses", spy)
    top = explorer.words_of(coupling, 27)
    assert read == [(2 * N_WORDS, 1, 1)]
    assert top["word"].iloc[0] == "<script>$x$" and len(top) == explorer.N_WORDS
    given = (coupling.activations, coupling.tokens, coupling.words, [27])
    whole = real(*given)[:, 0]
    expected = (whole - np.nanmean(whole)) / np.nanstd(whole)
    np.testing.assert_allclose(top["z"], np.sort(expected[:-1])[::-1][:12], rtol=1e-4)
    assert (np.diff(top["z"]) <= 0).all()


def axes_of(figure):
    return {ax.get_label(): ax for ax in figure.axes}


def test_figure_says_what_it_shows(coupling, parts):
    figure = explorer.plot_neuron(coupling, 1, 27)
    figure.canvas.draw()
    assert figure.get_suptitle() == (
        "layer 4, unit 7 beside $two$ <b>: r = -1.00, rank 1 of 60 (simulated BOLD)"
    )
    axes = axes_of(figure)
    assert set(axes) == {"time", "words", "distribution", "map"}
    assert "(s)" in axes["time"].get_xlabel() and axes["time"].get_ylabel() == "z"
    network, neuron = (line.get_ydata() for line in axes["time"].lines[:2])
    assert np.corrcoef(network, neuron)[0, 1] == pytest.approx(-1)
    assert np.std(neuron) == pytest.approx(1)
    at = axes["time"].lines[0].get_xdata()
    np.testing.assert_allclose(at, np.arange(N_TIMES) * 1.5)
    labels = [text.get_text() for text in axes["words"].get_yticklabels()]
    assert labels[0] == "<script>$x$ (8 s)"
    marks = [line.get_xdata()[0] for line in axes["distribution"].lines]
    assert marks == [pytest.approx(-1), 0.5, -0.5]
    picture = coupling.pictures[1]  # a map is drawn once
    explorer.plot_neuron(coupling, 1, 28)
    assert coupling.pictures[1] is picture and set(coupling.pictures) == {1}
    figure = explorer.plot_neuron(explorer.Coupling(**parts), 0, 3)  # of regions
    assert set(axes_of(figure)) == {"time", "words", "distribution"}


def test_of_nothing_there_is_a_figure_and_no_widget(parts, monkeypatch):
    monkeypatch.delenv("ANBN_UNATTENDED", raising=False)
    none = {**parts, "names": [], "synchrony": parts["synchrony"][:, :0]}
    coupling = explorer.Coupling(**none)
    figure = explorer.plot_neuron(coupling, *coupling.best)
    assert "nothing to show" in figure.axes[0].texts[0].get_text()
    assert explorer.explore(coupling, figure) is None


def test_a_network_of_which_nothing_is_known_is_not_the_best(parts):
    synchrony = parts["synchrony"].copy()
    synchrony[:, 0] = np.nan
    coupling = explorer.Coupling(**{**parts, "synchrony": synchrony})
    assert coupling.best == (1, 27)
    explorer.plot_neuron(coupling, 0, 3).canvas.draw()


def test_boxes_change_the_figure_and_follow_each_other(coupling, monkeypatch):
    monkeypatch.delenv("ANBN_UNATTENDED", raising=False)
    real, shown = explorer.plot_neuron, []

    def spy(given, network, neuron):
        shown.append((network, neuron))
        return real(given, network, neuron)

    monkeypatch.setattr(explorer, "plot_neuron", spy)
    widget = explorer.explore(coupling, plt.figure())
    boxes = {box.description: box for box in widget.children[0].children}
    picture = widget.children[1]
    assert shown == [(1, 27)] and boxes["unit"].value == 7
    assert bytes(picture.value).startswith(b"\x89PNG")

    def change(name, value):
        before, n = picture.value, len(shown)
        boxes[name].value = value
        assert picture.value != before and len(shown) == n + 1  # drawn once
        return shown[-1]

    assert change("rank", 3) == (1, coupling.order(1)[2])
    network, neuron = change("network", 0)
    assert (network, neuron) == (0, coupling.order(0)[0]) and boxes["rank"].value == 1
    assert change("layer", 2) == (0, coupling.order(0, 2)[0])
    assert boxes["rank"].max == N_UNITS
    other = 5 if boxes["unit"].value != 5 else 6
    assert change("unit", other) == (0, 40 + other)
    assert coupling.order(0, 2)[boxes["rank"].value - 1] == 40 + other
    assert boxes["layer"].value == 2
    change("layer", explorer.ALL)
    assert boxes["rank"].max == N_LAYERS * N_UNITS
    # a number without a layer means the layer that is shown
    layer = coupling.order(0)[0] // N_UNITS
    other = 11 if boxes["unit"].value != 11 else 12
    assert change("unit", other) == (0, layer * N_UNITS + other)
    assert boxes["layer"].value == layer
    # a box cannot leave the data
    boxes["rank"].value = boxes["unit"].value = 10_000
    assert boxes["unit"].value == shown[-1][1] % N_UNITS == N_UNITS - 1


def test_nothing_lives_where_nobody_looks(coupling, monkeypatch):
    figure = explorer.plot_neuron(coupling, *coupling.best)
    monkeypatch.setenv("ANBN_UNATTENDED", "1")
    assert explorer.explore(coupling, figure) is None
    assert plt.fignum_exists(figure.number)  # it is what the notebook shows
    monkeypatch.delenv("ANBN_UNATTENDED")
    assert explorer.explore(coupling, figure) is not None
    assert not plt.fignum_exists(figure.number)


def test_fast_enough_for_all_neurons_of_a_model(parts, rng, tmp_path):
    """46,080 neurons: no step may grow with their number squared or read them all."""
    n_units, n_layers = 1536, 30
    big = {**parts, "layers": list(range(n_layers))}
    big["synchrony"] = rng.normal(size=(n_layers * n_units, 2)) / 10
    big["responses"] = rng.normal(size=(N_TIMES, n_layers * n_units)).astype("f4")
    zeros = np.zeros((2 * N_WORDS, n_layers, n_units), "f2")
    big["activations"] = xr.DataArray(zeros, dims=("token", "layer", "neuron"))
    coupling = explorer.Coupling(**big)
    explorer.plot_neuron(coupling, 0, 5)
    seconds = []
    for neuron in (20_000, 30_000, 40_000):
        start = time.process_time()  # not of other processes
        coupling.order(1)
        explorer.plot_neuron(coupling, 1, neuron).savefig(tmp_path / "one.png", dpi=90)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 1.0  # 0.4 on a slow core


def test_bars_of_other_libraries_are_plain_text_in_a_kernel():
    """A bar as a widget would stand at 0 % in executed notebooks."""
    code = (
        "import sys, ipykernel.zmqshell, anbn\n"
        "import huggingface_hub.utils, transformers.utils.logging as logging\n"
        "from transformers.modeling_gguf_pytorch_utils import tqdm\n"
        "classes = [*tqdm.__mro__, *huggingface_hub.utils.tqdm.__mro__]\n"
        "classes += type(logging.tqdm(range(2))).__mro__\n"
        "assert not [c for c in classes if 'notebook' in c.__module__], classes\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
