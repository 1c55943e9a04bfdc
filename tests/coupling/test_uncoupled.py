import numpy as np
import pytest
import scipy.sparse
import xarray as xr
from signals import smooth

from anbn.coupling import uncoupled
from anbn.stats import surrogates


def test_versions_are_orders_in_which_nobody_heard_the_story():
    rows = uncoupled.versions(30, n_rolls=2)
    order = np.arange(30)
    assert len(rows) == 5
    np.testing.assert_array_equal(rows["reversed"], order[::-1])
    np.testing.assert_array_equal(rows["rolled 1"], np.roll(order, 10))
    np.testing.assert_array_equal(rows["reversed, rolled 2"], np.roll(order[::-1], 20))
    for order in uncoupled.versions(30, [12, 18], 2).values():
        assert sorted(order[:12]) == list(range(12))
        assert sorted(order) == list(range(30))


def data_of(rng, n_data=20, coupled=0.0):
    responses = smooth(rng, 120, 80)
    confounds = smooth(rng, 120, 1)
    timecourses = smooth(rng, 120, n_data, 2).swapaxes(0, 1)
    timecourses[..., 0] += coupled * responses[:, 5] + 2 * confounds[:, 0]
    return responses, confounds, np.ones((120, 1)), timecourses


def test_a_right_null_is_told_from_a_wrong_one(rng, monkeypatch):
    given = data_of(rng, coupled=3.0)  # coupled to the story as it was heard
    options = {"rng": rng, "n_draws": 39, "n_rolls": 3, "names": range(20)}
    table = uncoupled.false_findings(*given, **options)
    assert len(table) == 7 * 20 and (table["n_networks"] == 2).all()
    assert table["found"].sum() <= uncoupled.interval(140)[1]
    assert uncoupled.verdict(table).endswith("by chance).")

    def white(data, n, *, rng, **_):
        return rng.normal(size=(len(data), n, data.shape[1]))

    monkeypatch.setattr(surrogates, "draw", white)
    table = uncoupled.false_findings(*given, **options)
    assert table["found"].sum() > uncoupled.interval(140)[1]
    assert "too often" in uncoupled.verdict(table)


def test_a_burst_that_phase_takes_for_coupling_and_shift_does_not():
    """BOLD and responses with bursts of their own, as of a head that moves."""
    rng = np.random.default_rng(3)
    responses = smooth(rng, 200, 300)
    spikes = 14 * np.exp(
        -0.5 * ((np.arange(200)[:, None] - rng.integers(200, size=300)) / 1.5) ** 2
    )
    responses += spikes
    people = smooth(rng, 200, 20, 2).swapaxes(0, 1)
    at = rng.integers(200, size=(20, 1, 1))
    people = people + 14 * np.exp(-0.5 * ((np.arange(200)[:, None] - at) / 1.5) ** 2)
    given = (responses, np.zeros((200, 0)), np.ones((200, 1)), people)
    found = {}
    for null_method in ("phase", "shift"):
        table = uncoupled.false_findings(
            *given,
            null_method=null_method,
            rng=np.random.default_rng(4),
            n_rolls=1,
            names=range(20),
        )
        found[null_method] = int(table["found"].sum())
    high = uncoupled.interval(60)[1]
    assert found["shift"] <= high < found["phase"]


def test_texts_stand_in_for_the_story_and_its_clock_is_turned_too(rng):
    tokens = xr.DataArray(
        rng.normal(size=(300, 4, 20)), dims=("token", "layer", "neuron")
    )
    H = scipy.sparse.csr_array(rng.random((120, 150)) * (rng.random((120, 150)) < 0.1))
    _, confounds, drift, timecourses = data_of(rng, n_data=3)
    responses = H @ tokens.to_numpy()[:150].reshape(150, -1)
    options = {"rng": rng, "n_draws": 39, "n_rolls": 1, "names": list("abc")}
    given = responses, confounds, drift, timecourses
    table = uncoupled.false_findings(*given, texts=(tokens, H), **options)
    assert list(table["data"]) == list("abc") * 3
    assert table["found"].sum() <= 3
    assert table["p"].between(1 / 40, 1).all()


@pytest.mark.parametrize(
    ("n", "level", "expected"), [(200, 0.05, (3, 19)), (1, 0.05, (0, 1))]
)
def test_interval_is_binomial(n, level, expected):
    assert uncoupled.interval(n, level) == expected
