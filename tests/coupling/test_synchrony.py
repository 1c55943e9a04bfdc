import numpy as np
import pytest
import scipy.sparse
import scipy.stats
import xarray as xr
from signals import smooth

from anbn.coupling import synchrony
from anbn.stats import surrogates, timeseries


def test_synchrony_equals_pearson(rng):
    responses, timecourses = smooth(rng, 80, 6), smooth(rng, 80, 3)
    responses[:, 2] = 1.5
    r = synchrony.synchrony(responses, timecourses)
    for i in range(6):
        for k in range(3):
            expected = 0.0
            if i != 2:
                expected = scipy.stats.pearsonr(responses[:, i], timecourses[:, k])[0]
            assert r[i, k] == pytest.approx(expected, abs=1e-6)


def test_null_equals_a_loop_whatever_the_batch(rng):
    responses, timecourses = smooth(rng, 60, 40), smooth(rng, 60, 2)
    basis = timeseries.orthonormal(timeseries.drift(60, 2.0))
    clean = timeseries.residuals(responses, basis)
    nulls = [
        synchrony.null(
            clean,
            timecourses,
            basis,
            n_draws=7,
            rng=np.random.default_rng(5),
            batch_size=b,
        )
        for b in (1, 3, 50)
    ]
    loop_rng, counts = np.random.default_rng(5), 0
    coloured = surrogates.before_projection(timecourses, basis)
    for row in range(7):
        drawn = surrogates.draw_one(coloured, loop_rng)
        r = np.corrcoef(clean.T, timeseries.residuals(drawn, basis).T)[:40, 40:]
        hists = [np.histogram(np.abs(x), synchrony.N_BINS, (0, 1))[0] for x in r.T]
        counts += np.stack(hists)
        for null in nulls:
            np.testing.assert_allclose(np.abs(r).max(0), null.maxima[row], atol=1e-6)
    for null in nulls:
        assert null.counts.sum(1).tolist() == [7 * 40] * 2
        # rounding moves a value over a border now and then
        off = np.cumsum(null.counts, axis=1) - np.cumsum(counts, axis=1)
        assert np.abs(off).max() <= 2


def test_only_some_neurons_are_counted_but_the_maximum_is_of_all(rng, monkeypatch):
    monkeypatch.setattr(synchrony, "N_COUNTED", 10)
    monkeypatch.setattr(synchrony, "N_ROWS", 7)
    responses, timecourses = smooth(rng, 60, 40), smooth(rng, 60, 2)
    basis = timeseries.orthonormal(np.ones((60, 1)))
    options = {"n_draws": 5, "null_method": "shift"}
    null = synchrony.null(responses, timecourses, basis, rng=rng, **options)
    # every fourth neuron of five blocks of seven and one of five
    assert null.counts.sum(1).tolist() == [5 * 12] * 2
    monkeypatch.undo()
    with pytest.raises(ValueError, match="null_method must be one of"):
        options["null_method"] = "runs"
        synchrony.null(responses, timecourses, basis, rng=rng, **options)


def test_text_null_equals_a_loop(rng):
    activations = xr.DataArray(
        rng.normal(size=(90, 3, 4)), dims=("token", "layer", "neuron")
    )
    H = scipy.sparse.csr_array(rng.random((40, 50)) * (rng.random((40, 50)) < 0.2))
    timecourses = smooth(rng, 40, 2)
    basis = timeseries.orthonormal(np.ones((40, 1)))
    clean = timeseries.residuals(timecourses, basis)
    null = synchrony.text_null(
        activations, H, clean, basis, n_draws=4, rng=np.random.default_rng(3)
    )
    starts = np.random.default_rng(3).integers(90, size=4)
    for row, start in zip(null.maxima, starts, strict=True):
        text = np.roll(activations.to_numpy(), -start, axis=0)[:50].reshape(50, -1)
        r = np.corrcoef((H @ text).T, timecourses.T)[:12, 12:]
        np.testing.assert_allclose(np.abs(r).max(0), row, atol=1e-5)
    assert null.counts.sum(1).tolist() == [4 * 12] * 2


def test_text_synchrony_is_what_the_text_null_counts(rng):
    activations = xr.DataArray(
        rng.normal(size=(90, 3, 4)), dims=("token", "layer", "neuron")
    )
    H = scipy.sparse.csr_array(rng.random((40, 50)) * (rng.random((40, 50)) < 0.2))
    basis = timeseries.orthonormal(np.ones((40, 1)))
    timecourses = timeseries.residuals(smooth(rng, 40, 2), basis)
    given, cut = (activations, H, timecourses, basis), np.array([0.1, 0.2])
    null = synchrony.text_null(*given, n_draws=4, cut=cut, rng=np.random.default_rng(3))
    r = synchrony.text_synchrony(*given, n_draws=4, rng=np.random.default_rng(3))
    assert r.shape == (4, 12, 2)
    np.testing.assert_allclose(np.abs(r).max(1), null.maxima, atol=1e-3)
    shares = [synchrony.layer_shares(one, 3, cut).max(0) for one in r]
    np.testing.assert_allclose(shares, null.shares, atol=1e-6)


@pytest.mark.parametrize("batch_size", [3, 20])
def test_shares_of_layers_equal_a_loop(rng, monkeypatch, batch_size):
    monkeypatch.setattr(synchrony, "N_ROWS", 7)  # blocks that cut through layers
    responses, timecourses = smooth(rng, 60, 30), smooth(rng, 60, 2)
    basis = timeseries.orthonormal(np.ones((60, 1)))
    clean, cut = timeseries.residuals(responses, basis), np.array([0.1, 0.3])
    options = {"n_draws": 5, "batch_size": batch_size}
    null = synchrony.null(
        clean,
        timecourses,
        basis,
        n_layers=3,
        cut=cut,
        rng=np.random.default_rng(5),
        **options,
    )
    one = np.random.default_rng(5)
    coloured = surrogates.before_projection(timecourses, basis)
    for row in null.shares:
        drawn = timeseries.residuals(surrogates.draw_one(coloured, one), basis)
        r = np.abs(np.corrcoef(clean.T, drawn.T)[:30, 30:])
        expected = [
            max((r[k : k + 10, i] >= cut[i]).mean() for k in (0, 10, 20))
            for i in range(2)
        ]
        np.testing.assert_allclose(row, expected, atol=1e-6)
    shares = synchrony.layer_shares(r, 3, cut)
    np.testing.assert_allclose(shares.max(0), null.shares[-1], atol=1e-6)


def test_many_weak_neurons_of_a_layer_are_found_that_none_alone_would_be(rng):
    timecourses = smooth(rng, 150, 2)
    responses = smooth(rng, 150, 600)
    responses[:, 200:300] += 0.45 * timecourses[:, :1]
    basis = timeseries.orthonormal(np.ones((150, 1)))
    pilot = synchrony.null(responses, timecourses, basis, n_draws=20, rng=rng)
    cut = synchrony.cut_at(pilot.counts, 0.01)
    null = synchrony.null(
        responses,
        timecourses,
        basis,
        n_draws=99,
        n_layers=6,
        cut=cut,
        rng=rng,
    )
    r = synchrony.synchrony(responses, timecourses)
    shares = synchrony.layer_shares(r, 6, cut)
    p = synchrony.familywise_p(shares, null.shares, by_network=True)
    assert np.argwhere(p <= 0.05).tolist() == [[2, 0]]
    # single neurons: few or none of the hundred
    limit = synchrony.familywise_threshold(null.maxima, by_network=True)
    assert (np.abs(r[200:300, 0]) >= limit[0]).mean() < 0.3


def test_cut_is_the_null_s_quantile(rng):
    pool = np.abs(rng.normal(size=(2, 20_000)) * [[0.1], [0.2]]).clip(max=0.999)
    counts = np.stack([np.histogram(x, synchrony.N_BINS, (0, 1))[0] for x in pool])
    expected = np.quantile(pool, 0.99, axis=1)
    np.testing.assert_allclose(synchrony.cut_at(counts), expected, atol=1e-3)


def test_threshold_and_p_agree(rng):
    maxima = rng.random((99, 2)) * [1, 0.5]
    threshold = synchrony.familywise_threshold(maxima, level=0.05)
    highest = np.sort(maxima.max(1))
    assert threshold == highest[94]
    p = synchrony.familywise_p(np.array([0.0, threshold, 1.1]), maxima)
    assert p == pytest.approx([1.0, 0.06, 0.01])
    own = synchrony.familywise_threshold(maxima, by_network=True)
    np.testing.assert_array_equal(own, np.sort(maxima, 0)[94])
    values = np.array([[0.0, 0.0], own, [-1.1, -1.1]])
    p = synchrony.familywise_p(values, maxima, by_network=True)
    np.testing.assert_allclose(p, [[1, 1], [0.06, 0.06], [0.01, 0.01]])
    for by_network in (False, True):
        with pytest.raises(ValueError, match="5 draws are too few"):
            synchrony.familywise_threshold(maxima[:5], by_network=by_network)


def test_q_values_are_benjamini_hochberg_of_each_network_s_own_p(rng):
    pool = np.abs(rng.normal(size=(2, 20_000)) * [[0.15], [0.05]]).clip(max=0.999)
    counts = np.stack([np.histogram(x, synchrony.N_BINS, (0, 1))[0] for x in pool])
    r = (rng.normal(size=(300, 2)) * [0.15, 0.05]).clip(-0.9, 0.9)
    r[:6, 0], r[:6, 1] = -0.8, 0.3
    p = [
        [(1 + (pool[k] >= x).sum()) / 20_001 for k, x in enumerate(row)]
        for row in np.abs(r)
    ]
    q = synchrony.false_discovery_q(r, counts)
    expected = scipy.stats.false_discovery_control(p, axis=0)
    np.testing.assert_allclose(q, expected, rtol=0.07, atol=1e-3)
    assert (q[:6] < 0.05).all() and (q <= 0.05).sum() <= 16
    q = synchrony.false_discovery_q(r, counts, over="all")
    expected = scipy.stats.false_discovery_control(np.ravel(p)).reshape(300, 2)
    np.testing.assert_allclose(q, expected, rtol=0.07, atol=1e-3)
    with pytest.raises(ValueError, match="network or all, found 'both'"):
        synchrony.false_discovery_q(r, counts, over="both")


def test_planted_coupling_is_found(rng):
    responses, timecourses = smooth(rng, 150, 300), smooth(rng, 150, 2)
    responses[:, 17] = timecourses[:, 1] + 0.5 * smooth(rng, 150)
    basis = timeseries.orthonormal(np.ones((150, 1)))
    r = synchrony.synchrony(responses, timecourses)
    null = synchrony.null(responses, timecourses, basis, n_draws=60, rng=rng)
    beyond = np.argwhere(np.abs(r) >= synchrony.familywise_threshold(null.maxima))
    assert beyond.tolist() == [[17, 1]]
    found = synchrony.false_discovery_q(r, null.counts) <= 0.05
    assert found[17, 1]
    assert found.sum() <= 3


def test_text_is_a_null_of_the_group_and_read_once_for_all_subjects(rng, tmp_path):
    activations = xr.DataArray(
        rng.normal(size=(90, 3, 4)), dims=("token", "layer", "neuron")
    )
    H = scipy.sparse.csr_array(rng.random((40, 50)) * (rng.random((40, 50)) < 0.2))
    basis = timeseries.orthonormal(np.ones((40, 1)))
    people = timeseries.residuals(
        np.stack([smooth(rng, 40, 2) for _ in range(3)], 1), basis
    ).swapaxes(0, 1)
    responses = timeseries.residuals(
        H @ activations.to_numpy()[:50].reshape(50, -1), basis
    )
    options = {"null_method": "text", "texts": (activations, H), "n_draws": 20}
    group = synchrony.null(
        responses, people[0], basis, rng=np.random.default_rng(1), **options
    )
    direct = synchrony.text_null(
        activations, H, people[0], basis, n_draws=20, rng=np.random.default_rng(1)
    )
    np.testing.assert_array_equal(group.maxima, direct.maxima)
    _, thresholds = synchrony.subjects(
        responses,
        people,
        basis,
        tmp_path / "synchrony.npy",
        rng=np.random.default_rng(1),
        **options,
    )
    expected = synchrony.familywise_threshold(direct.maxima)
    assert thresholds[0] == pytest.approx(expected, abs=1e-6)


def test_every_subject_has_its_own_null(rng, tmp_path):
    responses = smooth(rng, 60, 30)
    people = np.stack([smooth(rng, 60, 2) for _ in range(3)])
    basis = timeseries.orthonormal(np.ones((60, 1)))
    options = {"n_draws": 40, "rng": np.random.default_rng(1)}
    path = tmp_path / "data" / "synchrony.npy"
    found, thresholds = synchrony.subjects(responses, people, basis, path, **options)
    assert found.shape == (3, 30, 2)
    own = np.random.default_rng(1).spawn(3)
    each = zip(found, thresholds, people, own, strict=True)
    for r, threshold, person, one in each:
        np.testing.assert_allclose(r, synchrony.synchrony(responses, person), atol=1e-6)
        null = synchrony.null(responses, person, basis, n_draws=40, rng=one)
        assert threshold == synchrony.familywise_threshold(null.maxima)
    maxima = rng.random((3, 40, 2))
    _, given = synchrony.subjects(responses, people, basis, path, maxima=maxima)
    expected = [synchrony.familywise_threshold(one) for one in maxima]
    np.testing.assert_array_equal(given, expected)
    with pytest.raises(ValueError, match="null_method must be one of"):
        synchrony.subjects(responses, people, basis, path, null_method="x", **options)
    np.testing.assert_array_equal(np.load(path), found)


@pytest.mark.parametrize("options", [{}, {"null_method": "phase", "batch_size": 7}])
def test_subjects_on_workers_are_those_of_the_loop(rng, tmp_path, two_workers, options):
    people = np.stack([smooth(rng, 60, 2) for _ in range(5)])
    given = smooth(rng, 60, 30), people, timeseries.orthonormal(np.ones((60, 1)))
    found, generators = [], []
    for client in (None, two_workers):
        generators.append(np.random.default_rng(1))
        drawing = {"n_draws": 40, "run_lengths": [20, 40], "rng": generators[-1]}
        path = tmp_path / f"{len(found)}.npy"
        found.append(
            synchrony.subjects(*given, path, client=client, **drawing | options)
        )
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert generators[0].random() == generators[1].random()
    maxima = rng.random((5, 40, 2))
    _, known = synchrony.subjects(*given, path, maxima=maxima, client=two_workers)
    assert list(known) == [synchrony.familywise_threshold(one) for one in maxima]
