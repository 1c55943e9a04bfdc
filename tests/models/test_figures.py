"""Figures of activations draw, with labelled axes."""

import pytest
import xarray as xr
from labels import labelled

from anbn.models import figures

pytestmark = pytest.mark.usefixtures("close_figures")


def test_raster_and_variance(rng):
    data = xr.DataArray(rng.normal(size=(50, 4, 20)), dims=("token", "layer", "neuron"))
    data = data.assign_coords(
        layer=[0, 2, 4, 6], text=("token", ["<b>", "$x$", " "] * 16 + ["a", "b"])
    )
    labelled(figures.plot_raster(data, n_tokens=10, n_neurons=6))
    labelled(
        figures.plot_layer_variance({"ffn_out": rng.random((4, 20))}, [0, 2, 4, 6])
    )


@pytest.mark.parametrize("n_tokens", [1, 2, 3, 23])
def test_raster_of_a_short_story(rng, n_tokens):
    data = xr.DataArray(
        rng.normal(size=(n_tokens, 2, 9)),
        dims=("token", "layer", "neuron"),
        coords={"layer": [0, 1], "text": ("token", ["a"] * n_tokens)},
    )
    ax = labelled(figures.plot_raster(data, n_tokens=24, n_neurons=40))
    assert len(ax.get_xticks()) == n_tokens
    assert len(ax.get_yticks()) == 18
