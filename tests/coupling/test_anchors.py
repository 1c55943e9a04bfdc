import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from signals import smooth

from anbn.brain import regressors
from anbn.coupling import anchors, figures, reliability, synchrony
from anbn.stats import surrogates, timeseries


def mixed(rng, latents, n_neurons, noise=1.0):
    """Responses of neurons that resemble each other, as real ones do."""
    n_times, n_latents = latents.shape
    weights = rng.normal(size=(n_latents, n_neurons))
    own = smooth(rng, n_times, n_neurons)
    return (latents @ weights + noise * own).astype(np.float32)


def test_anchors_equal_a_loop(rng):
    r = rng.uniform(-1, 1, size=(50, 4)).astype(np.float32)
    r[7] = 0
    best_network, best_neurons, mutual = anchors.anchors(r, n=3)
    for i in range(50):
        expected = -1 if i == 7 else max(range(4), key=lambda k: abs(r[i, k]))
        assert best_network[i] == expected
    for k in range(4):
        ordered = sorted(range(50), key=lambda i: -abs(r[i, k]))[:3]
        assert list(best_neurons[:, k]) == ordered
        assert list(mutual[:, k]) == [best_network[i] == k for i in ordered]
    with pytest.raises(ValueError, match="n must be 1 to 50"):
        anchors.strongest_neurons(r, 51)


def test_a_network_that_neurons_follow_is_global_and_noise_is_not(rng):
    latents, others = smooth(rng, 150, 5), smooth(rng, 150, 4)
    responses = mixed(rng, latents, 400)
    timecourses = np.column_stack([latents[:, 0], others])
    basis = timeseries.orthonormal(timeseries.drift(150, 2.0))
    clean, bold = (timeseries.residuals(x, basis) for x in (responses, timecourses))
    drawn = anchors.surrogate_synchrony(clean, bold, basis, n_draws=99, rng=rng)
    null = [anchors.count(anchors.anchors(r)[0], 5) for r in drawn]
    best = anchors.anchors(synchrony.synchrony(clean, bold))[0]
    table = anchors.global_networks(best, 5, null_counts=null, names=list("abcde"))
    assert table["neurons"].sum() == 400 and table["share"].sum() == pytest.approx(1)
    assert table.loc["a", "neurons"] == (best == 0).sum()
    assert table.loc["a", "p_familywise"] == 0.01  # q of one of five: .05 at best
    assert table.loc["a", "q"] < 0.1 and table.loc["a", "share"] > 0.3
    assert (table["p"][1:] > 0.05).all()
    few = anchors.global_networks(np.array([0, 2, 2, -1]), 3, null_counts=[[1, 1, 1]])
    assert list(few["neurons"]) == [1, 0, 2] and list(few.index) == [0, 1, 2]


def test_surrogate_synchrony_passes_through_the_projection(rng):
    responses, timecourses = smooth(rng, 80, 30), smooth(rng, 80, 2)
    basis = timeseries.orthonormal(timeseries.drift(80, 2.0))
    clean, bold = (timeseries.residuals(x, basis) for x in (responses, timecourses))
    options = {"n_draws": 2, "null_method": "shift"}
    r = list(
        anchors.surrogate_synchrony(
            clean, bold, basis, **options, rng=np.random.default_rng(3)
        )
    )
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
        drift = regressors.run_drift(own, 2.0, 60.0)
        X = np.column_stack([drift, rate[rows]])
        clean = [
            y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
            for y in (responses[rows], side)
        ]
        n = responses.shape[1]
        pair.append(np.corrcoef(clean[0].T, clean[1].T)[:n, n:])
    return pair


@pytest.mark.parametrize("run_lengths", [(), (30, 60, 40)])
def test_reliability_equals_correlating_the_halves(rng, run_lengths):
    responses, rate = mixed(rng, smooth(rng, 130, 4), 300), smooth(rng, 130, 1)
    timecourses = smooth(rng, 130, 2, 3).swapaxes(0, 1)
    timecourses += np.linspace(0, 9, 130)[:, None]
    options = {"tr": 2.0, "high_pass": 60.0, "run_lengths": run_lengths}
    options |= {"n_splits": 4, "n_draws": 20, "rng": rng}
    table = reliability.reliability(responses, timecourses, rate, **options)
    z = (timecourses - timecourses.mean(1)[:, None]) / timecourses.std(1)[:, None]
    whole = [run_lengths or [130]] * 2
    of_time = [timecourses[:, rows] for rows in (slice(65), slice(65, 130))]
    of_time = [(t - t.mean(1)[:, None]) / t.std(1)[:, None] for t in of_time]
    of_time = [t.mean(0) for t in of_time]
    lengths = ((30, 35), (25, 40)) if run_lengths else ([65], [65])
    found = {  # two subjects have but one pair of halves
        "time": halves(responses, of_time, rate, (slice(65), slice(65, 130)), lengths),
        "subjects": halves(responses, z, rate, [slice(None)] * 2, whole),
    }
    for of, (a, b) in found.items():
        expected = [np.corrcoef(a[:, k], b[:, k])[0, 1] for k in range(3)]
        np.testing.assert_allclose(table[f"r_{of}"], expected, atol=1e-4)


def test_one_subject_has_no_halves_and_a_dead_neuron_does_no_harm(rng):
    responses = mixed(rng, smooth(rng, 120, 4), 300)
    responses[:, 5] = 0
    timecourses, rate = smooth(rng, 120, 1, 2).swapaxes(0, 1), smooth(rng, 120, 1)
    options = {"tr": 2.0, "n_draws": 20, "rng": rng}
    table = reliability.reliability(responses, timecourses, rate, **options)
    assert table["r_subjects"].isna().all() and table["r_time"].notna().all()


def test_reliability_is_calibrated_although_neurons_resemble_each_other(rng):
    tables = []
    for _ in range(40):
        responses = mixed(rng, smooth(rng, 160, 3), 400, noise=0.5)
        timecourses = smooth(rng, 160, 4, 20).swapaxes(0, 1)
        options = {"tr": 2.0, "n_splits": 5, "n_draws": 60, "rng": rng}
        none = np.zeros((160, 0))
        tables.append(reliability.reliability(responses, timecourses, none, **options))
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
    shared = np.column_stack([latents[:, 0], smooth(rng, 300, 1)])
    timecourses = shared + 0.5 * smooth(rng, 300, 6, 2).swapaxes(0, 1)
    table = reliability.reliability(
        responses, timecourses, np.zeros((300, 0)), tr=2.0, rng=rng, names=["in", "out"]
    )
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
    with pytest.raises(ValueError, match="no multiple of n_layers = 7"):
        anchors.depth_profile(r, 7)


def anchor_signals(responses, r, top):
    """Signed mean of the standardised top anchors, network by network."""
    z = (responses - responses.mean(0)) / responses.std(0)
    n = round(top * len(r))
    best = np.argsort(-np.abs(r), axis=0)[:n]
    pairs = zip(best.T, r.T, strict=True)
    return np.stack([(z[:, some] * np.sign(x[some])).mean(1) for some, x in pairs], 1)


def test_depth_stands_beside_that_of_surrogates(rng):
    responses, timecourses = smooth(rng, 100, 60), smooth(rng, 100, 2)
    responses[:, 50:60] += timecourses[:, :1]
    basis = timeseries.orthonormal(np.ones((100, 1)))
    options = {"n_draws": 39, "rng": np.random.default_rng(2)}
    found, p = anchors.depth_beside_chance(
        responses, timecourses, basis, 6, top=0.1, **options
    )
    r = synchrony.synchrony(responses, timecourses)
    np.testing.assert_array_equal(found[:2], anchors.depth_profile(r, 6, top=0.1))
    options["rng"] = np.random.default_rng(2)
    draws = anchors.surrogate_synchrony(responses, timecourses, basis, **options)
    null = np.mean([anchors.depth_profile(x, 6, top=0.1) for x in draws], (0, 1))
    np.testing.assert_allclose(found[2], null)
    assert p[0] <= 0.05 < p[1]  # the first network's ten neurons are in one layer
    other = [rng.normal(size=(60, 2)), rng.normal(size=(60, 2))]  # as of other text
    found, _ = anchors.depth_beside_chance(
        responses, timecourses, basis, 6, top=0.1, draws=other
    )
    null = np.mean([anchors.depth_profile(x, 6, top=0.1) for x in other], (0, 1))
    np.testing.assert_allclose(found[2], null)


def test_two_models_agree_beyond_what_the_shared_story_gives(rng):
    latents = smooth(rng, 200, 8)
    story = [mixed(rng, latents, 240), mixed(rng, latents, 180)]
    # neurons of one layer each follow the first network
    followed = smooth(rng, 200, 1)
    story[0][:, 160:170] = followed + 0.5 * smooth(rng, 200, 10)
    story[1][:, 120:130] = followed + 0.5 * smooth(rng, 200, 10)
    timecourses = np.column_stack([followed, smooth(rng, 200, 3)])
    features = pd.DataFrame(latents[:, :4], columns=list("abcd"))
    basis = timeseries.orthonormal(timeseries.drift(200, 2.0))
    models = [
        (timeseries.residuals(r, basis), n) for r, n in zip(story, (12, 6), strict=True)
    ]
    bold = timeseries.residuals(timecourses, basis)
    options = {"top": 0.04, "n_bins": 6, "n_draws": 99, "names": list("wxyz")}
    table = anchors.between_models(models, bold, basis, features, rng=rng, **options)
    assert table.loc["w", "p_signals"] == 0.01 and table.loc["w", "p_depth"] < 0.05
    # noise: the models' signals agree well, as they would for any time course
    rest = table.loc[["x", "y", "z"]]
    assert rest["r_signals"].min() > 0.3 and rest["p_signals"].min() > 0.02

    def agreement(pair):
        a, b = (
            anchor_signals(responses, r, top=0.04)
            for (responses, _), r in zip(models, pair, strict=True)
        )
        return [np.corrcoef(a[:, k], b[:, k])[0, 1] for k in range(4)]

    expected = agreement([synchrony.synchrony(r, bold) for r, _ in models])
    np.testing.assert_allclose(table["r_signals"], expected, atol=1e-4)
    # the null: anchors of the same surrogates in both models
    options["n_draws"] = 5
    table = anchors.between_models(
        models, bold, basis, features, rng=np.random.default_rng(7), **options
    )
    drawn = [
        anchors.surrogate_synchrony(
            r, bold, basis, n_draws=5, rng=np.random.default_rng(7)
        )
        for r, _ in models
    ]
    null = [agreement(pair) for pair in zip(*drawn, strict=True)]
    expected = np.percentile(null, 95, axis=0)
    np.testing.assert_allclose(table["null_signals"], expected, atol=1e-4)


def test_figures_draw_what_the_tables_hold():
    columns = [f"{x}_{of}" for of in ("subjects", "time") for x in ("r", "null", "p")]
    table = pd.DataFrame([[0.8, 0.2, 0.01, 0.3, 0.1, 0.02]] * 2, ["a", "b"], columns)
    ax = figures.plot_reliability(table)
    assert [bar.get_height() for bar in ax.patches] == [0.8, 0.8, 0.3, 0.3]
    alone = table.assign(r_subjects=np.nan, null_subjects=np.nan)
    assert len(figures.plot_reliability(alone).patches) == 2
    even = {"A": np.full((2, 10), 0.1), "B": np.full((2, 10), 0.1)}
    axes = figures.plot_depth_profiles(even, ["a", "b"])
    assert [ax.get_title() for ax in axes] == ["A", "B"]
    assert (axes[0].images[0].get_array() == 0).all()
    effects = pd.DataFrame(
        {
            "network": ["a", "a", "b", "b"],
            "feature": ["x", "y"] * 2,
            "d": [1.0, -2.0, 0.1, np.nan],
            "q": [0.01, 0.01, 0.3, np.nan],
        }
    )
    ax = figures.plot_feature_effects(effects)
    assert [t.get_text() for t in ax.texts] == ["•", "•", "", ""]
    effects["familywise_surrogate"] = [0.2, 0.01, 0.3, np.nan]
    ax = figures.plot_feature_effects(effects)
    assert [t.get_text() for t in ax.texts] == ["•", "★", "", ""]
    effects["familywise_shift"] = [0.01, 0.2, 0.3, np.nan]
    ax = figures.plot_feature_effects(effects)
    assert [t.get_text() for t in ax.texts] == ["•", "•", "", ""]
    plt.close("all")


def test_what_has_no_text_null_says_so(rng):
    responses, timecourses = smooth(rng, 80, 20), smooth(rng, 80, 2)
    basis = timeseries.orthonormal(np.ones((80, 1)))
    options = {"n_draws": 3, "null_method": "text", "rng": rng}
    expected = "null_method must be one of shift, phase; found 'text'"
    with pytest.raises(ValueError, match=expected):
        next(anchors.surrogate_synchrony(responses, timecourses, basis, **options))
    with pytest.raises(ValueError, match=expected):
        reliability.reliability(
            responses, timecourses[None], np.zeros((80, 0)), tr=2.0, **options
        )
