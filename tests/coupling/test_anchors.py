import numpy as np
import pandas as pd
import pytest
from signals import smooth

from anbn.brain import regressors
from anbn.coupling import anchors, reliability, synchrony
from anbn.stats import surrogates, timeseries


def mixed(rng, latents, n_neurons, noise=1.0):
    """Responses of neurons that resemble each other, as real ones do."""
    n_times, n_latents = latents.shape
    weights = rng.normal(size=(n_latents, n_neurons))
    own = smooth(rng, n_times, n_neurons)
    return (latents @ weights + noise * own).astype(np.float32)


def cleaned(n_times, *data):
    basis = timeseries.orthonormal(timeseries.drift(n_times, 2.0))
    return *(timeseries.residuals(x, basis) for x in data), basis


def test_anchors_equal_a_loop(rng):
    r = rng.uniform(-1, 1, size=(50, 4)).astype(np.float32)
    r[7] = 0
    best_network, best_neuron, mutual = anchors.anchors(r)
    for i in range(50):
        expected = -1 if i == 7 else max(range(4), key=lambda k: abs(r[i, k]))
        assert best_network[i] == expected
    for k in range(4):
        ordered = sorted(range(50), key=lambda i: -abs(r[i, k]))
        assert list(anchors.strongest_neurons(r, 3)[:, k]) == ordered[:3]
        assert best_neuron[k] == ordered[0]
        assert mutual[k] == (best_network[ordered[0]] == k)


def test_a_network_that_neurons_follow_is_global_and_noise_is_not(rng):
    latents, others = smooth(rng, 150, 5), smooth(rng, 150, 4)
    brain = np.column_stack([latents[:, 0], others])
    clean, bold, basis = cleaned(150, mixed(rng, latents, 400), brain)
    drawn = anchors.surrogate_synchrony(clean, bold, basis, n_draws=99, rng=rng)
    r = synchrony.synchrony(clean, bold)
    table = anchors.global_networks(r, drawn, names=list("abcde"))
    assert table["neurons"].sum() == 400 and table["share"].sum() == pytest.approx(1)
    assert table.loc["a", "neurons"] == (np.abs(r).argmax(1) == 0).sum()
    assert table.loc["a", "p_familywise"] == 0.01  # q of one of five: .05 at best
    assert table.loc["a", "q"] < 0.1 and table.loc["a", "share"] > 0.3
    assert (table["p"][1:] > 0.05).all()


def test_surrogate_synchrony_passes_through_the_projection(rng):
    clean, bold, basis = cleaned(80, smooth(rng, 80, 30), smooth(rng, 80, 2))
    r = anchors.surrogate_synchrony(clean, bold, basis, n_draws=2, rng=rng)
    coloured = surrogates.before_projection(bold, basis)
    rolled = [
        timeseries.residuals(np.roll(coloured, n, axis=0), basis) for n in range(80)
    ]
    each = [np.corrcoef(clean.T, x.T)[:30, 30:] for x in rolled]
    for drawn in r:
        assert min(np.abs(drawn - x).max() for x in each) < 1e-5


def halves(responses, timecourses, rate, parts, lengths):
    """Synchrony in two halves, each with a least squares fit of its own drift."""
    pair = []
    for rows, side, own in zip(parts, timecourses, lengths, strict=True):
        X = np.column_stack([regressors.run_drift(own, 2.0, 60.0), rate[rows]])
        clean = [
            y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
            for y in (responses[rows], side)
        ]
        n = responses.shape[1]
        pair.append(np.corrcoef(clean[0].T, clean[1].T)[:n, n:])
    return pair


def measured(*given, n_draws=20, **options):
    names = range(given[1].shape[2])
    options = {"tr": 2.0, "n_draws": n_draws, "names": names} | options
    return reliability.reliability(*given, **options)


@pytest.mark.parametrize("run_lengths", [(), (30, 60, 40)])
def test_reliability_equals_correlating_the_halves(rng, run_lengths):
    responses, rate = mixed(rng, smooth(rng, 130, 4), 300), smooth(rng, 130, 1)
    timecourses = smooth(rng, 130, 2, 3).swapaxes(0, 1)
    timecourses += np.linspace(0, 9, 130)[:, None]
    options = {"high_pass": 60.0, "run_lengths": run_lengths, "rng": rng}
    table = measured(responses, timecourses, rate, **options)
    z = (timecourses - timecourses.mean(1)[:, None]) / timecourses.std(1)[:, None]
    of_time = [timecourses[:, rows] for rows in (slice(65), slice(65, 130))]
    of_time = [(t - t.mean(1)[:, None]) / t.std(1)[:, None] for t in of_time]
    of_time = [t.mean(0) for t in of_time]
    whole = [run_lengths or [130]] * 2
    lengths = ((30, 35), (25, 40)) if run_lengths else ([65], [65])
    found = {  # two subjects have but one pair of halves
        "time": halves(responses, of_time, rate, (slice(65), slice(65, 130)), lengths),
        "subjects": halves(responses, z, rate, [slice(None)] * 2, whole),
    }
    for of, (a, b) in found.items():
        expected = [np.corrcoef(a[:, k], b[:, k])[0, 1] for k in range(3)]
        np.testing.assert_allclose(table[f"r_{of}"], expected, atol=1e-4)


def test_reliability_is_calibrated_although_neurons_resemble_each_other(
    rng, monkeypatch
):
    monkeypatch.setattr(reliability, "N_SPLITS", 5)
    tables = []
    for _ in range(40):
        responses = mixed(rng, smooth(rng, 160, 3), 400, noise=0.5)
        timecourses = smooth(rng, 160, 4, 20).swapaxes(0, 1)
        given = responses, timecourses, np.zeros((160, 0))
        tables.append(measured(*given, n_draws=60, rng=rng))
    table = pd.concat(tables)
    rates = (table[["p_time", "p_subjects"]] <= 0.05).mean()
    assert rates["p_time"] < 0.08  # 800 values, not quite independent
    assert rates["p_subjects"] < 0.05  # conservative
    assert 0.4 < (table["p_time"] <= 0.5).mean() < 0.6
    # of independent neurons, 95 of 100 would have an r within .1
    assert (table["r_time"].abs() > 2 / np.sqrt(400)).mean() > 0.5


def test_planted_network_is_reliable_in_time_and_shared_noise_in_subjects_only(rng):
    latents = smooth(rng, 300, 6)
    responses = mixed(rng, latents, 500)
    responses[:, 5] = 0  # a dead neuron does no harm
    shared = np.column_stack([latents[:, 0], smooth(rng, 300, 1)])
    timecourses = shared + 0.5 * smooth(rng, 300, 6, 2).swapaxes(0, 1)
    given = responses, timecourses, np.zeros((300, 0))
    table = measured(*given, n_draws=200, rng=rng, names=["in", "out"])
    assert table.loc["in", "p_time"] < 0.02 and table.loc["in", "r_time"] > 0.7
    assert table.loc["out", "r_subjects"] > 0.7 and table.loc["out", "p_time"] > 0.05


def test_depth_profiles_of_models_of_30_and_12_and_6_layers_compare(rng):
    profiles = []
    for n_layers in (30, 12, 6):
        depth = np.repeat((np.arange(n_layers) + 0.5) / n_layers, 600 // n_layers)
        likely = np.exp(-((depth - 0.7) ** 2) / 0.02) + 0.01
        r = np.zeros((600, 1))
        r[rng.choice(600, 60, replace=False, p=likely / likely.sum())] = 1
        profiles.append(anchors.depth_profile(r, n_layers, top=0.1))
        # the naive way: spread each anchor over its layer's span
        at = np.repeat(np.flatnonzero(r[:, 0]) // (600 // n_layers), 3000)
        at = (at + np.tile((np.arange(3000) + 0.5) / 3000, 60)) / n_layers
        naive = np.histogram(at, np.linspace(0, 1, 11))[0] / len(at)
        np.testing.assert_allclose(profiles[-1][0], naive, atol=1e-3)
    assert np.corrcoef(np.vstack(profiles))[0, 1] > 0.8


def test_depth_stands_beside_that_of_surrogates(rng):
    responses, timecourses = smooth(rng, 100, 60), smooth(rng, 100, 2)
    responses[:, 50:60] += timecourses[:, :1]
    given = responses, timecourses
    basis = timeseries.orthonormal(np.ones((100, 1)))
    null = list(anchors.surrogate_synchrony(*given, basis, n_draws=39, rng=rng))
    found, p = anchors.depth_beside_chance(*given, null, 6, top=0.1)
    r = synchrony.synchrony(*given)
    np.testing.assert_array_equal(found[:2], anchors.depth_profile(r, 6, top=0.1))
    null = np.mean([anchors.depth_profile(x, 6, top=0.1) for x in null], (0, 1))
    np.testing.assert_allclose(found[2], null)
    assert p[0] <= 0.05 < p[1]  # the first network's ten neurons are in one layer


def anchor_signals(responses, r, top):
    """Signed mean of the standardised top anchors, network by network."""
    z = (responses - responses.mean(0)) / responses.std(0)
    best = np.argsort(-np.abs(r), axis=0)[: round(top * len(r))]
    pairs = zip(best.T, r.T, strict=True)
    return np.stack([(z[:, some] * np.sign(x[some])).mean(1) for some, x in pairs], 1)


def test_two_models_agree_beyond_what_the_shared_story_gives(rng):
    latents = smooth(rng, 200, 8)
    story = [mixed(rng, latents, 240), mixed(rng, latents, 180)]
    # neurons of one layer each follow the first network
    followed = smooth(rng, 200, 1)
    story[0][:, 160:170] = followed + 0.5 * smooth(rng, 200, 10)
    story[1][:, 120:130] = followed + 0.5 * smooth(rng, 200, 10)
    *story, bold, basis = cleaned(
        200, *story, np.hstack([followed, smooth(rng, 200, 3)])
    )
    given = [*zip(story, (12, 6), strict=True)], bold, basis, latents[:, :4]
    options = {"top": 0.04, "names": list("wxyz")}
    table = anchors.between_models(*given, rng=rng, n_draws=99, **options)
    assert table.loc["w", "p_signals"] == 0.01 and table.loc["w", "p_depth"] < 0.05
    # noise: the models' signals agree well, as they would for any time course
    rest = table.loc[["x", "y", "z"]]
    assert rest["r_signals"].min() > 0.3 and rest["p_signals"].min() > 0.02

    def agreement(pair):
        a, b = (anchor_signals(x, r, 0.04) for x, r in zip(story, pair, strict=True))
        return [np.corrcoef(a[:, k], b[:, k])[0, 1] for k in range(4)]

    expected = agreement([synchrony.synchrony(r, bold) for r in story])
    np.testing.assert_allclose(table["r_signals"], expected, atol=1e-4)
    # the null: anchors of the same surrogates in both models
    options |= {"n_draws": 5, "rng": np.random.default_rng(7)}
    table = anchors.between_models(*given, **options)
    drawn = [
        anchors.surrogate_synchrony(
            r, bold, basis, n_draws=5, rng=np.random.default_rng(7)
        )
        for r in story
    ]
    null = [agreement(pair) for pair in zip(*drawn, strict=True)]
    expected = np.percentile(null, 95, axis=0)
    np.testing.assert_allclose(table["null_signals"], expected, atol=1e-4)


@pytest.mark.filterwarnings("error")
def test_a_single_subject_has_no_halves_of_subjects(rng):
    responses, rate = mixed(rng, smooth(rng, 130, 4), 50), smooth(rng, 130, 1)
    table = measured(responses, smooth(rng, 130, 3)[None], rate, rng=rng)
    assert table.filter(like="_subjects").isna().all(axis=None)
    assert table.filter(like="_time").notna().all(axis=None)
