import nibabel
import numpy as np
import pytest
from nilearn.masking import apply_mask

from anbn.brain import cleaning, intersubject, simulate
from anbn.core import artifacts
from anbn.stats import timeseries

OPTIONS = {"tr": 2.0, "n_subjects": 4, "resolution": 12, "n_drivers": 8}
RATE = np.random.default_rng(1).normal(size=120)


@pytest.fixture(scope="module")
def responses():
    """Six layers of 50 neurons; in each, groups that respond alike."""
    rng = np.random.default_rng(0)
    common = np.repeat(rng.normal(size=(120, 30)), 10, axis=1)
    return common + 0.7 * rng.normal(size=(120, 300))


@pytest.fixture(scope="module")
def simulation(responses):
    rng = np.random.default_rng(2)
    return simulate.simulate_bold(responses, 50, RATE, signal=1.0, rng=rng, **OPTIONS)


def test_drivers_are_alike_within_and_different_between(responses, rng, monkeypatch):
    drivers, signals = simulate.driver_groups(responses, 50, 3, 8, rng)
    assert drivers.shape == (3, 8)
    layers = drivers // 50
    assert (layers == layers[:, :1]).all() and len(set(layers[:, 0])) == 3
    pairs = np.triu_indices(8, 1)
    within = [np.corrcoef(responses[:, d].T)[pairs].mean() for d in drivers]
    assert min(within) > 0.5
    between = np.corrcoef(signals.T)[np.triu_indices(3, 1)]
    assert np.abs(between).max() < 0.3
    monkeypatch.setattr(simulate, "MAX_CORRELATION", 0.0)
    with pytest.raises(ValueError, match="ask for fewer groups"):
        simulate.driver_groups(responses, 50, 3, 8, rng)


def test_surrogates_have_the_covariance_and_spectrum_of_rest(rng):
    rest, centres = simulate.rest_parcels()
    assert rest.shape == (150, 100) and centres.shape == (100, 3)
    noise, other = (simulate.surrogate_rest(rest, 6000, rng) for _ in range(2))
    r = np.corrcoef(np.cov(noise.T).ravel(), np.cov(rest.T).ravel())[0, 1]
    assert r > 0.9
    at_lag_1 = [(x[1:] * x[:-1]).mean() / (x**2).mean() for x in (noise, rest)]
    assert at_lag_1[0] == pytest.approx(at_lag_1[1], abs=0.05)
    pairs = zip(noise.T, other.T, strict=True)
    assert abs(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])) < 0.1


def core_isc(simulation):
    """Mean inter-subject correlation at the centre of each network."""
    data = np.stack([apply_mask(v, simulation.mask) for v in simulation.volumes])
    basis = timeseries.orthonormal(timeseries.drift(120, 2.0))
    cleaned = np.stack([cleaning.clean_run(d, basis, "zscore", "sim") for d in data])
    core = simulation.maps > 0.9
    return np.array([intersubject.correlation(cleaned[..., c]).mean() for c in core])


def test_signal_sets_the_intersubject_correlation(simulation, responses, rng):
    nothing = [
        simulate.simulate_bold(
            responses, 50, rng.normal(size=120), signal=0.0, rng=rng, **OPTIONS
        )
        for _ in range(3)
    ]
    assert core_isc(simulation).min() > 0.2
    # what a brain does as a whole makes one draw's networks alike
    assert abs(np.mean([core_isc(s).mean() for s in nothing])) < 0.1
    assert len(simulation.names) == simulation.timecourses.shape[1] == 7


def test_a_subject_is_the_same_however_many_there_are(responses):
    one, two = (
        simulate.simulate_bold(
            responses,
            50,
            RATE,
            signal=0.4,
            rng=np.random.default_rng(3),
            **OPTIONS | {"n_subjects": n},
        )
        for n in (1, 2)
    )
    np.testing.assert_array_equal(one.drivers, two.drivers)
    for a, b in zip(one.volumes, two.volumes[:1], strict=True):
        np.testing.assert_array_equal(a.get_fdata(), b.get_fdata())


def test_everything_planted_is_written(simulation, tmp_path):
    files, mask = simulate.write_simulation(simulation, tmp_path)
    assert len(files) == 4
    inside = np.asarray(simulation.mask.dataobj)
    np.testing.assert_array_equal(nibabel.load(mask).get_fdata(), inside)
    image = nibabel.load(files[0])
    assert image.header.get_zooms()[3] == 2.0
    kept = np.asarray(simulation.volumes[0].dataobj)
    np.testing.assert_allclose(image.get_fdata(), kept, atol=0.05)
    truth = artifacts.read_json(tmp_path / "truth.json")
    assert truth["simulated"] is True
    assert truth["few"] == simulate.FEW
    groups = [truth[key] for key in ("few", "population", "word_rate", "nothing")]
    assert [name for group in groups for name in group] == truth["networks"]
    arrays = artifacts.read_arrays(tmp_path / "truth.npz")
    for key in ("drivers", "populations"):
        np.testing.assert_array_equal(arrays[key], truth[key])


def test_what_drives_a_network_is_what_it_follows(simulation, responses):
    """Few neurons and populations beside word rate; word rate alone; nothing known."""
    planted = dict(zip(simulation.names, simulation.timecourses.T, strict=True))
    for name in simulate.WORD_RATE:
        assert np.corrcoef(planted[name], RATE)[0, 1] == pytest.approx(1)
    known = np.column_stack([RATE, *(planted[name] for name in simulate.FEW)])
    for name in simulate.NOTHING:
        assert np.abs(np.corrcoef(planted[name], known.T)[0, 1:]).max() < 0.3
    few = zip(simulate.FEW, simulation.drivers, strict=True)
    many = zip(simulate.POPULATION, simulation.populations, strict=True)
    z = timeseries.zscore(responses)
    for name, members in [*few, *many]:
        r = np.abs(z.T @ timeseries.zscore(planted[name])) / 120
        assert r[members].mean() > 3 * np.delete(r, members).mean()
        assert np.corrcoef(planted[name], RATE)[0, 1] > 0.25
    deviations = simulation.timecourses.std(0)
    np.testing.assert_allclose(deviations, deviations[0], rtol=0.15)


def test_a_population_is_followed_by_no_single_neuron(rng):
    """Its members hold its time course together, from all layers and in both signs."""
    common = rng.normal(size=(200, 6))
    weights = rng.normal(size=(6, 2000)) * np.array([[3, 2, 1.5, 0.3, 0.3, 0.3]]).T
    responses = common @ weights + 6 * rng.normal(size=(200, 2000))
    members, signals = simulate.population_groups(responses, 2, 200)
    z = timeseries.zscore(responses)
    for chosen, signal, truth in zip(members, signals.T, common.T[1:3], strict=True):
        assert abs(np.corrcoef(signal, truth)[0, 1]) > 0.9
        assert np.abs(z.T @ signal).max() / 200 < 0.75
        assert len(set(chosen // 400)) == 5
        r = z[:, chosen].T @ signal
        assert (r > 0).any() and (r < 0).any()
    assert abs(np.corrcoef(signals.T)[0, 1]) < 0.2


def test_same_seed_same_volumes(responses, simulation):
    rng = np.random.default_rng(2)
    again = simulate.simulate_bold(responses, 50, RATE, signal=1.0, rng=rng, **OPTIONS)
    for a, b in zip(simulation.volumes, again.volumes, strict=True):
        np.testing.assert_array_equal(a.dataobj, b.dataobj)


def test_surrogate_rest_is_not_periodic(rng):
    rest, _ = simulate.rest_parcels()
    draws = np.stack([simulate.surrogate_rest(rest, 100, rng) for _ in range(20)])
    seam = np.mean((draws[:, 0] - draws[:, -1]) ** 2)
    step = np.mean(np.diff(draws, axis=1) ** 2)
    assert seam > 2 * step  # periodic noise would go on as smoothly at the seam
