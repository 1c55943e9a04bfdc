"""Stage 02 may leave no network: what couples with none goes on, and finds nothing."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from anbn.coupling import (
    anchors,
    encoding,
    meaning,
    organisation,
    prepared,
    reliability,
    synchrony,
    uncoupled,
)
from anbn.stats import timeseries

NONE = np.zeros((90, 0))  # time courses
PEOPLE = np.zeros((3, 90, 0))
CONSTANT = timeseries.orthonormal(np.ones((90, 1)))


@pytest.fixture
def responses(rng):
    return rng.normal(size=(90, 40))  # four layers of ten neurons


def test_synchrony_with_no_network(responses, rng, tmp_path):
    r = synchrony.synchrony(responses, NONE)
    options = {"n_draws": 20, "rng": rng}
    null = synchrony.null(
        responses, NONE, CONSTANT, n_layers=4, cut=np.zeros(0), **options
    )
    assert r.shape == (40, 0) and null.maxima.shape == (20, 0)
    assert synchrony.familywise_threshold(null.maxima) == np.inf
    own = synchrony.familywise_threshold(null.maxima, by_network=True)
    assert own.shape == synchrony.cut_at(null.counts).shape == (0,)
    for over in ("network", "all"):
        q = synchrony.false_discovery_q(r, null.counts, over=over)
        assert q.shape == (40, 0)
    shares = synchrony.layer_shares(r, 4, np.zeros(0))
    p = synchrony.familywise_p(shares, null.shares, by_network=True)
    assert p.shape == (4, 0)
    file = tmp_path / "subjects.npy"
    each, limits = synchrony.subjects(responses, PEOPLE, CONSTANT, file, **options)
    assert each.shape == (3, 40, 0) and (limits == np.inf).all()
    table = uncoupled.false_findings(
        responses, NONE, np.ones((90, 1)), PEOPLE, names=list("abc"), **options
    )
    assert not table["found"].any()


@pytest.mark.filterwarnings("error")
def test_anchors_and_reliability_of_no_network(responses, rng):
    r, options = np.zeros((40, 0), np.float32), {"n_draws": 20, "rng": rng}
    null = list(anchors.surrogate_synchrony(responses, NONE, CONSTANT, **options))
    best_network, best_neuron, mutual = anchors.anchors(r)
    assert (best_network == -1).all() and len(best_neuron) == len(mutual) == 0
    assert anchors.global_networks(r, null, names=[]).empty
    profile, p = anchors.depth_beside_chance(responses, NONE, null, 4)
    assert profile.shape == (1, anchors.N_BINS) and p.shape == (0,)
    models = [(responses, 4), (responses, 4)]
    features = rng.normal(size=(90, 3))
    between = anchors.between_models(
        models, NONE, CONSTANT, features, names=[], **options
    )
    table = reliability.reliability(
        responses, PEOPLE, NONE, tr=2.0, names=[], **options
    )
    assert between.empty and table.empty and "familywise_time" in table


def test_what_neurons_of_no_network_answer_to(rng):
    activations = xr.DataArray(
        rng.normal(size=(60, 4, 10)), dims=("token", "layer", "neuron")
    )
    tokens = pd.DataFrame({"word": np.arange(60) // 2})
    words = pd.DataFrame({"length": rng.normal(size=30), "word": list("abc") * 10})
    story = activations, tokens, words
    r, coupled = np.zeros((40, 0), np.float32), np.zeros((0, 4, 10), bool)
    shifted = meaning.shifted_correlations(*story, ["length"], n_draws=5, rng=rng)
    table = meaning.feature_effects(
        meaning.feature_correlations(*story, ["length"]),
        coupled,
        r,
        rng=rng,
        null_synchrony=[r] * 5,
        null_correlations=shifted,
        names=[],
    )
    assert table.empty and {"familywise_shift", "familywise_surrogate"} <= set(table)
    assert meaning.top_words(*story, coupled, r, names=[]).empty


def test_encoding_and_organisation_of_no_network(rng):
    atoms, bold = rng.normal(size=(90, 3)), [rng.normal(size=(90, 20)) for _ in "abc"]
    gained = encoding.gain_over_shifts(
        {"rate": atoms[:, :1]}, {"atoms": atoms}, NONE, n_draws=5, rng=rng, tr=2.0,
        n_folds=3, gap=8,
    )  # fmt: skip
    assert gained.empty and "p" in gained
    removed = prepared.Confounds([], CONSTANT, NONE, CONSTANT, CONSTANT, None, [])
    options = {"null_method": "shift", "percent": 10, "level": 0.05, "n_draws": 5}
    maps = np.zeros((0, 20))
    overlap = organisation.atoms_in_networks(
        bold[0], atoms, maps, removed, rng=rng, **options
    )
    assert overlap.t.shape == overlap.p.shape == (3, 0)
    found = organisation.of_model(
        "m", atoms, np.eye(3).repeat(4, 1), overlap, prepared.Bold(bold, bold[0], None),
        prepared.Networks([], PEOPLE, NONE, maps, None), removed, n_layers=4, rng=rng,
        **options,
    )  # fmt: skip
    assert (found.serves == -1).all() and found.pool.sum() == 12
    assert found.table["network"].tolist() == ["mean"]
