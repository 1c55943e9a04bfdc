"""Atoms and sparse codes, against scikit-learn, naive formulas and planted atoms."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import PCA, MiniBatchDictionaryLearning, sparse_encode

from anbn.coupling import atoms

ALPHA = 0.1


def smooth(rng, n_times, n):
    return gaussian_filter1d(rng.normal(size=(n_times, n)), 2, axis=0)


@pytest.fixture
def planted(rng):
    """Smooth atoms, each neuron a sum of one to three of them, and smooth noise."""
    n_times, n_neurons, n_atoms = 150, 1500, 8
    truth = smooth(rng, n_times, n_atoms)
    truth /= np.linalg.norm(truth, axis=0)
    n_used = rng.integers(1, 4, n_neurons)
    rank = rng.random((n_atoms, n_neurons)).argsort(0).argsort(0)
    codes = (rank < n_used) * rng.normal(size=rank.shape)
    responses = truth @ codes + 0.01 * smooth(rng, n_times, n_neurons)
    return responses.astype(np.float32), truth


@pytest.fixture
def mixed(rng):
    """Responses of any mean and scale on correlated atoms of unit length."""
    base = smooth(rng, 120, 10)
    base /= np.linalg.norm(base, axis=0)
    data = base @ rng.normal(size=(10, 300)) + 0.2 * rng.normal(size=(120, 300))
    return 50 + data * rng.uniform(0.1, 9, 300), base.astype(np.float32)


def unit(responses):
    x = np.asarray(responses, float) - np.mean(responses, axis=0, dtype=float)
    norm = np.linalg.norm(x, axis=0)
    return x / np.where(norm > 0, norm, 1)


def naive_objective(x, base, codes):
    """Of each neuron."""
    squares = [np.sum((x[:, i] - base @ codes[:, i]) ** 2) for i in range(x.shape[1])]
    return 0.5 * np.array(squares) + ALPHA * np.abs(codes).sum(0)


@pytest.mark.parametrize(
    ("alpha", "longest"), [(0.02, 1), (ALPHA, 1), (ALPHA, 3), (0.4, 1)]
)
def test_codes_are_those_of_scikit_learn(mixed, rng, alpha, longest):
    responses, base = mixed
    base = base * rng.uniform(1 / longest, longest, 10).astype(np.float32)
    tol = 1e-6 * longest
    codes = atoms.sparse_codes(responses, base, alpha, tol=tol)
    options = {"algorithm": "lasso_cd", "alpha": alpha, "max_iter": 20000}
    oracle = sparse_encode(unit(responses).T, base.T.astype(float), **options).T
    assert codes.dtype == np.float32
    np.testing.assert_allclose(codes, oracle, atol=1e-3 if longest > 1 else 2e-4)
    # a large mean costs no precision
    far = atoms.sparse_codes(responses + 1e3, base, alpha, tol=tol)
    np.testing.assert_allclose(far, codes, atol=1e-5 * longest**2)


@pytest.mark.parametrize("tol", [1e-2, 1e-4])
def test_no_neuron_is_farther_from_its_minimum_than_tol(mixed, tol):
    responses, base = mixed
    x = unit(responses)
    best = atoms.sparse_codes(responses, base, ALPHA, tol=1e-6)
    rough = atoms.sparse_codes(responses, base, ALPHA, tol=tol)
    more = naive_objective(x, base, rough) - naive_objective(x, base, best)
    assert -1e-6 < more.min() and more.max() <= tol
    assert np.abs(rough - best).max() > 1e-5  # tol is what stopped it


def test_codes_do_not_depend_on_block_start_or_threads(mixed, rng, monkeypatch):
    responses, base = mixed
    codes = atoms.sparse_codes(responses, base, ALPHA, tol=1e-6)
    start = rng.normal(size=codes.shape).astype(np.float32)
    again = atoms.sparse_codes(responses, base, ALPHA, start=start, tol=1e-6)
    assert again is start
    np.testing.assert_allclose(again, codes, atol=3e-4)
    n_threads, found = torch.get_num_threads(), []
    for block, threads in ((1, 1), (37, 1), (64, 3), (64, 1)):
        monkeypatch.setattr(atoms, "BLOCK", block)
        try:
            torch.set_num_threads(threads)
            found.append(atoms.sparse_codes(responses, base, ALPHA, tol=1e-6))
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(n_threads)
        np.testing.assert_allclose(found[-1], codes, atol=3e-4)
    np.testing.assert_allclose(*found[-2:], atol=1e-5)


def test_codes_that_do_not_converge_warn(mixed):
    with pytest.warns(RuntimeWarning, match="raise max_iter"):
        atoms.sparse_codes(*mixed, 0.01, tol=1e-6, max_iter=3)


def test_constant_neurons_have_no_code(planted):
    responses, _ = planted
    responses[:, 3], responses[:, 700] = 0.1, 0.0
    found, codes = atoms.learn(responses, 8, penalty=ALPHA, random_state=0)
    assert np.isfinite(found).all() and np.isfinite(codes).all()
    assert (codes[:, [3, 700]] == 0).all() and (codes != 0).any(0).sum() > 1400
    start = np.ones_like(codes)
    codes = atoms.sparse_codes(responses, found, ALPHA, start=start, tol=1e9)
    assert (codes[:, [3, 700]] == 0).all()


def test_planted_atoms_are_recovered(planted):
    responses, truth = planted
    found, codes = atoms.learn(responses, 8, penalty=ALPHA, random_state=0, n_epochs=5)
    r = np.abs(np.corrcoef(found.T, truth.T)[:8, 8:])
    rows, columns = linear_sum_assignment(-r)
    assert r[rows, columns].min() > 0.9
    # a code counts one to three atoms, seldom more
    assert (np.abs(codes) > 0.05).sum(0).mean() < 4


def test_objective_is_no_worse_than_that_of_scikit_learn(planted):
    responses, _ = planted
    found, codes = atoms.learn(responses, 8, penalty=ALPHA, random_state=0)
    options = {"batch_size": 512, "max_iter": 2, "fit_algorithm": "cd"}
    learner = MiniBatchDictionaryLearning(8, alpha=ALPHA, random_state=0, **options)
    peer = learner.fit(unit(responses).T).components_.T
    peer_codes = atoms.sparse_codes(responses, peer, ALPHA)
    x = unit(responses)
    ours = naive_objective(x, found, codes).mean()
    assert ours < 1.001 * naive_objective(x, peer, peer_codes).mean()


def test_atoms_and_codes_as_promised_and_deterministic(planted, monkeypatch):
    responses, _ = planted
    options = {"penalty": ALPHA, "random_state": 0}
    found, codes = atoms.learn(responses, 8, **options)
    assert found.shape == (150, 8) and codes.shape == (8, 1500)
    assert found.dtype == codes.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), 1, atol=1e-6)
    assert (np.diff(np.abs(codes).sum(1)) <= 0).all() and (codes.sum(1) >= 0).all()
    x, again = unit(responses), atoms.sparse_codes(responses, found, ALPHA)
    values = [naive_objective(x, found, c) for c in (codes, again)]
    assert np.abs(values[0] - values[1]).max() < 1.1e-5
    for a, b in zip(
        atoms.learn(responses.copy(), 8, **options), (found, codes), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    other, _ = atoms.learn(responses, 8, penalty=ALPHA, random_state=4)
    assert np.abs(other - found).max() > 1e-3
    monkeypatch.setattr(atoms, "BLOCK", 100)
    others, close = atoms.learn(responses, 8, **options)
    np.testing.assert_allclose(others, found, atol=1e-6)
    np.testing.assert_allclose(close, codes, atol=1e-2)
    assert naive_objective(x, others, close).mean() == pytest.approx(
        values[0].mean(), abs=1e-5
    )


def test_responses_may_be_a_memory_map_of_half_precision(planted, tmp_path):
    responses = planted[0].astype(np.float16)
    np.save(tmp_path / "responses.npy", responses)
    mapped = np.load(tmp_path / "responses.npy", mmap_mode="r")
    options = {"penalty": ALPHA, "random_state": 0}
    found, _ = atoms.learn(mapped, 8, **options)
    same, _ = atoms.learn(responses.astype(np.float32), 8, **options)
    np.testing.assert_allclose(found, same, atol=1e-6)


def test_as_many_atoms_as_neurons_explain_everything(rng):
    responses = rng.normal(size=(60, 12))
    options = {"penalty": 0.01, "random_state": 0, "n_epochs": 3}
    found, codes = atoms.learn(responses, 12, **options)
    rest = unit(responses) - found @ codes
    assert np.square(rest).sum(0).max() < 0.01


def test_unused_atoms_are_drawn_anew_from_badly_fitted_samples(rng):
    x = torch.eye(6)[:, :4]
    codes = torch.zeros(3, 4)
    codes[0, 0] = 1  # the first sample is fitted, the three others are not
    unused = torch.tensor([1, 2])
    for _ in range(20):
        base = torch.eye(6, dtype=torch.float64)[:, [0, 5, 5]]
        A, B = torch.ones(3, 3).double(), torch.ones(6, 3).double()
        atoms._draw_anew(unused, base, A, B, x, codes, rng)
        drawn = base[:, 1:].argmax(0).tolist()
        assert set(drawn) < {1, 2, 3} and len(set(drawn)) == 2
    assert (A[unused] == 0).all() and (A[:, unused] == 0).all() and A[0, 0] == 1
    assert (B[:, unused] == 0).all() and (B[:, 0] == 1).all()


def test_diversity_counts_atoms_by_their_use():
    base = np.eye(5)[:, :4]
    for use, expected in (
        ([1.0, -1, 1, -1], 4),
        ([0.5, 0.25, 0, 0], np.exp(stats.entropy([2, 1]))),
        ([0.5, 0.5, 0, 0], 2),
    ):
        found = atoms.diversity(np.diag(use), base)
        assert found["effective_atoms"] == pytest.approx(expected)
    # columns of the identity, centred over five times
    assert found["mean_abs_correlation"] == pytest.approx(0.25)
    one = atoms.diversity(np.ones((1, 3)), base[:, :1])
    assert one["effective_atoms"] == pytest.approx(1)
    assert np.isnan(one["mean_abs_correlation"])


def test_diversity_interval_is_over_layers(rng, monkeypatch):
    """Neurons of a layer are alike, and no independent witnesses."""
    monkeypatch.setattr(atoms, "BLOCK", 150)
    n_layers, n_neurons = 12, 200
    scale = np.repeat(rng.lognormal(0, 1, (6, n_layers)), n_neurons, axis=1)
    codes = scale * rng.normal(size=scale.shape) * (rng.random(scale.shape) < 0.2)
    found = atoms.diversity(codes, np.eye(6), n_layers=n_layers)
    value = found["effective_atoms"]
    low, high = found["effective_atoms_low"], found["effective_atoms_high"]
    by_layer = codes.reshape(6, n_layers, n_neurons)
    without = [
        atoms.diversity(np.delete(by_layer, k, 1).reshape(6, -1), np.eye(6))
        for k in range(n_layers)
    ]
    without = np.array([w["effective_atoms"] for w in without])
    error = np.sqrt(11 / 12 * ((without - without.mean()) ** 2).sum())
    half = stats.t.ppf(0.975, 11) * error
    assert (low, high) == pytest.approx((value - half, min(value + half, 6)))
    one = atoms.diversity(codes, np.eye(6))
    assert np.isnan(one["effective_atoms_low"])


@pytest.mark.parametrize(
    ("bad", "n_atoms", "message"),
    [
        (1.5, 0, "n_atoms must lie between 1 and the 19 neurons that vary"),
        (1.5, 20, "n_atoms must lie between 1 and the 19 neurons that vary"),
        (np.nan, 3, "neuron 4 are not finite"),
        (np.inf, 3, "neuron 4 are not finite"),
    ],
)
def test_learning_tells_what_is_wrong(rng, bad, n_atoms, message):
    responses = rng.normal(size=(30, 20))
    responses[:, 4] = bad
    with pytest.raises(ValueError, match=message):
        atoms.learn(responses, n_atoms, penalty=0.1, random_state=0)


def test_diversity_of_no_codes_is_refused():
    with pytest.raises(ValueError, match="codes are all 0"):
        atoms.diversity(np.zeros((4, 20)), np.ones((30, 4)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_finds_the_same(planted):
    responses, _ = planted
    options = {"penalty": ALPHA, "random_state": 0}
    found, codes = atoms.learn(responses, 8, **options)
    there, codes_there = atoms.learn(responses, 8, device="cuda", **options)
    x = unit(responses)
    ours = naive_objective(x, found, codes).mean()
    theirs = naive_objective(x, there, codes_there).mean()
    assert theirs == pytest.approx(ours, rel=1e-2)


def test_bands_by_depth_are_principal_components(rng):
    responses = rng.normal(size=(40, 6 * 10)) * rng.uniform(1, 9, 60) + 3
    bands = atoms.by_depth(responses, 6, 4, 5)
    assert list(bands) == ["layers 0-1", "layers 2-3", "layers 4-4", "layers 5-5"]
    z = (responses - responses.mean(0)) / responses.std(0)
    for name, columns in zip(
        bands, ([0, 20], [20, 40], [40, 50], [50, 60]), strict=True
    ):
        scores = PCA(5).fit_transform(z[:, slice(*columns)])
        r = np.abs((scores * bands[name]).sum(0))
        r /= np.linalg.norm(scores, axis=0) * np.linalg.norm(bands[name], axis=0)
        np.testing.assert_allclose(r, 1, atol=1e-4)
        np.testing.assert_allclose(
            bands[name].std(0), scores.std(0) / scores[:, 0].std(), rtol=1e-3
        )
    with pytest.raises(
        ValueError, match="depth_bands must be 1 to the 6 layers, found 7"
    ):
        atoms.by_depth(responses, 6, 7, 5)
