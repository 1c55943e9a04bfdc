"""One neuron beside one brain network: a widget in JupyterLab, or one static figure."""

import io
import textwrap
from dataclasses import dataclass, field

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from nilearn import plotting
from nilearn.masking import unmask

from anbn.brain.views import attended
from anbn.core import style
from anbn.core.style import COLOURS
from anbn.coupling import meaning
from anbn.stats import timeseries

N_WORDS = 12  # shown, of highest activation
ALL = -1  # layers; JupyterLab shows a choice whose value is None as none
# a place given saves matplotlib the time to find one
TITLE = {"fontsize": 10, "y": 1.01, "parse_math": False}


@dataclass(frozen=True)
class Coupling:
    """What the explorer draws from; neurons are numbered layer by layer."""

    responses: np.ndarray  # (n_times, n_neurons), on the BOLD clock, without confounds
    timecourses: np.ndarray  # (n_times, n_networks), group mean, without confounds
    synchrony: np.ndarray  # (n_neurons, n_networks)
    threshold: float  # family-wise, of |r|
    names: list  # of the networks
    layers: list  # that were recorded, int
    activations: xr.DataArray  # (n_tokens, n_layers, n_units) of the story
    tokens: pd.DataFrame  # of the story, as the words: see ``meaning.word_responses``
    words: pd.DataFrame
    tr: float  # s
    start: float = 0.0  # s, of the first volume
    maps: np.ndarray | None = None  # (n_networks, n_voxels), None for regions
    mask: object = None  # image, of the maps
    note: str = ""  # ends the title, as "(simulated BOLD)"
    pictures: dict = field(default_factory=dict)  # of maps, drawn once

    @property
    def n_units(self):
        return len(self.synchrony) // len(self.layers)

    @property
    def best(self):
        """Network and neuron of the largest |r|."""
        if not self.synchrony.size:
            return 0, 0
        largest = np.nan_to_num(np.abs(self.synchrony)).argmax()
        neuron, network = divmod(largest, len(self.names))
        return int(network), int(neuron)

    def order(self, network, layer=ALL):
        """Neurons by |synchrony| with a network, largest first.

        ``layer`` is an index of ``layers``; all, if ``ALL``.
        """
        found = np.argsort(-np.abs(self.synchrony[:, network]), kind="stable")
        return found if layer == ALL else found[found // self.n_units == layer]


def words_of(coupling, neuron):
    """The ``N_WORDS`` words at a neuron's highest activations, highest first.

    Rows of ``words`` with ``z``: the mean activation over the word's tokens in standard
    deviations over words.
    """
    layer, unit = divmod(neuron, coupling.n_units)
    one = coupling.activations[:, layer : layer + 1, unit : unit + 1]
    found = meaning.word_responses(one, coupling.tokens, coupling.words, [0])[:, 0]
    z = (found - np.nanmean(found)) / max(np.nanstd(found), 1e-9)
    return coupling.words.assign(z=z).nlargest(N_WORDS, "z")


def plot_neuron(coupling, network, neuron):
    """Time courses, words, place among all neurons, and the network's map: a figure.

    ``network`` and ``neuron`` are column and row of ``coupling.synchrony``.
    """
    if not coupling.synchrony.size:
        return style.nothing(what="neurons or networks").figure
    rows = [["time"] * 3, ["words", "distribution", "map"]]
    if coupling.maps is None:
        rows = [["time"] * 2, ["words", "distribution"]]
    figure, axes = plt.subplot_mosaic(rows, figsize=(11, 6.2), height_ratios=[1, 1.15])
    figure.subplots_adjust(0.14, 0.09, 0.985, 0.88, wspace=0.32, hspace=0.38)
    name, (layer, unit) = coupling.names[network], divmod(neuron, coupling.n_units)
    r = coupling.synchrony[neuron, network]
    rank = 1 + int((np.abs(coupling.synchrony[:, network]) > abs(r)).sum())
    who = f"layer {coupling.layers[layer]}, unit {unit}"
    place = f"r = {r:.2f}, rank {rank} of {len(coupling.synchrony)}"
    title = f"{who} beside {name}: {place}{coupling.note}"
    figure.suptitle(textwrap.fill(title, 110), fontsize=11, parse_math=False)
    top = words_of(coupling, neuron)
    _plot_time(axes["time"], coupling, network, neuron, top)
    _plot_words(axes["words"], top)
    _plot_place(axes["distribution"], coupling, network, r)
    if coupling.maps is not None:
        axes["map"].imshow(_picture(coupling, network))
        axes["map"].set_axis_off()
        axes["map"].set_title("map of the network", **TITLE)
    return figure


def _plot_time(ax, coupling, network, neuron, top):
    times = timeseries.frame_times(len(coupling.responses), coupling.tr, coupling.start)
    for colour, label, values in (
        ("0.35", "the network (group mean)", coupling.timecourses[:, network]),
        (COLOURS[3], "the neuron, after the HRF", coupling.responses[:, neuron]),
    ):
        z = timeseries.zscore(np.asarray(values, float))
        ax.plot(times, z, color=colour, lw=1.2, label=label)
    low, high = ax.get_ylim()
    onset = top["onset"][top["onset"].between(times[0], times[-1])]
    at = {"ls": "", "marker": "^", "clip_on": False, "label": "words below"}
    ax.plot(onset, np.full(len(onset), low), color=COLOURS[0], **at)
    ax.set(xlim=(times[0], times[-1]), ylim=(low, high + 0.35 * (high - low)))
    ax.set(xlabel="time on the story's clock (s)", ylabel="z")
    ax.legend(loc="upper right", ncols=3, fontsize=9, framealpha=0.9)


def _plot_words(ax, top):
    ax.barh(range(len(top)), top["z"], color=COLOURS[0])
    pairs = zip(top["word"], top["onset"], strict=True)
    labels = [f"{str(word)[:14]} ({onset:.0f} s)" for word, onset in pairs]
    ax.set_yticks(range(len(top)), labels, fontsize=8, parse_math=False)
    ax.invert_yaxis()
    ax.set_xlabel("activation (s.d. over words)")
    ax.set_title("words at its highest activations", **TITLE)


def _plot_place(ax, coupling, network, r):
    values, limit = coupling.synchrony[:, network], coupling.threshold
    values = values[np.isfinite(values)]
    ax.stairs(*np.histogram(values, 80), fill=True, color="0.75")
    ax.set_yscale("log" if len(values) else "linear")
    ax.minorticks_off()
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.axvline(r, color=COLOURS[3], lw=2, label="this neuron")
    ax.axvline(limit, color="k", ls="--", lw=1, label="threshold,\nfamily-wise")
    ax.axvline(-limit, color="k", ls="--", lw=1)
    ax.set(xlabel="synchrony with the network (r)", ylabel="neurons")
    ax.set_title("among all neurons", **TITLE)
    ax.set_ylim(top=ax.get_ylim()[1] * 8)  # room for the legend
    ax.legend(loc="upper center", ncols=2, fontsize=8)


def _picture(coupling, network):
    """A network's map, drawn once: nilearn takes longer than one waits for."""
    if network not in coupling.pictures:
        values = np.nan_to_num(np.asarray(coupling.maps[network], np.float32))
        image = unmask(values, coupling.mask)
        figure, ax = plt.subplots(figsize=(4, 3.4), dpi=150)
        display = plotting.plot_stat_map(
            image,
            display_mode="z",
            cut_coords=1,
            threshold=float(np.percentile(np.abs(values), 90)),
            colorbar=True,
            axes=ax,
        )
        figure.canvas.draw()
        coupling.pictures[network] = np.asarray(figure.canvas.buffer_rgba())[..., :3]
        display.close()
        plt.close(figure)
    return coupling.pictures[network]


def explore(coupling, figure):
    """The widget of a live notebook; None where the pipeline runs it, or of nothing.

    ``figure`` is the static one, which a live notebook need not show.
    """
    if not attended() or not coupling.synchrony.size:
        return None
    plt.close(figure)
    networks = [(name, k) for k, name in enumerate(coupling.names)]
    layers = [("all", ALL), *((str(n), i) for i, n in enumerate(coupling.layers))]
    network = ipywidgets.Dropdown(
        options=networks, value=coupling.best[0], description="network"
    )
    layer = ipywidgets.Dropdown(options=layers, value=ALL, description="layer")
    rank = ipywidgets.BoundedIntText(1, min=1, description="rank")
    unit = ipywidgets.BoundedIntText(0, max=coupling.n_units - 1, description="unit")
    picture = ipywidgets.Image(format="png", layout={"max_width": "1000px"})
    boxes = (network, layer, rank, unit)

    def draw(moved):
        if moved is unit and layer.value == ALL:  # a unit of the layer that is shown
            shown = coupling.order(network.value)[rank.value - 1]
            layer.value = int(shown // coupling.n_units)
        order = coupling.order(network.value, layer.value)
        if moved is not rank:
            rank.max, rank.value = len(order), 1
        if moved is unit:
            neuron = layer.value * coupling.n_units + unit.value
            rank.value = 1 + int(np.flatnonzero(order == neuron)[0])
        neuron = int(order[rank.value - 1])
        unit.value = neuron % coupling.n_units
        file, figure = io.BytesIO(), plot_neuron(coupling, network.value, neuron)
        figure.savefig(file, dpi=90)
        plt.close(figure)
        picture.value = file.getvalue()

    def show(change):
        for box in boxes:  # they follow each other, and each shows once
            box.unobserve(show, "value")
        try:
            draw(change["owner"])
        finally:
            for box in boxes:
                box.observe(show, "value")

    draw(network)
    for box in boxes:
        box.observe(show, "value")
    return ipywidgets.VBox([ipywidgets.HBox(boxes), picture])
