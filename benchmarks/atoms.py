"""Dictionary learning and codes: ours against scikit-learn, on planted atoms."""

import json
import time
import warnings

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode
from sklearn.linear_model import Lasso
from threadpoolctl import threadpool_limits

from anbn.core.artifacts import write_json
from anbn.core.paths import stage_dir
from anbn.coupling import atoms

N_TIMES, N_NEURONS, N_ATOMS, ALPHA, N_THREADS = 362, 46_080, 64, 0.1, 2


def planted_responses(n_times, n_neurons, n_atoms, rng, noise=1.0):
    """Responses (float32) that are sparse sums of smooth atoms, and smooth noise.

    Each neuron has 1 to 6 atoms with normal weights; atoms are used unequally.
    """

    def smooth(n):
        x = gaussian_filter1d(rng.normal(size=(n_times, n)).astype(np.float32), 2, 0)
        return x / np.linalg.norm(x, axis=0)

    usage = 1 / np.sqrt(np.arange(1, n_atoms + 1))
    rank = np.log(rng.random((n_atoms, n_neurons))) / usage[:, None]
    n_used = rng.integers(1, 7, n_neurons)
    used = np.argsort(np.argsort(-rank, axis=0), axis=0) < n_used
    codes = used * rng.normal(size=used.shape) / np.sqrt(n_used)
    truth = smooth(n_atoms)
    return truth @ codes.astype(np.float32) + noise * smooth(n_neurons), truth


def objective(x, base, codes):
    """Mean over neurons (columns of x, of unit length) of what codes minimise."""
    squares = np.square(x - base @ codes).sum(dtype=float)
    size = np.abs(codes).sum(dtype=float)
    return float((0.5 * squares + ALPHA * size) / x.shape[1])


def atoms_rows():
    rng = np.random.default_rng(0)
    responses, _ = planted_responses(N_TIMES, N_NEURONS, N_ATOMS, rng)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(N_THREADS)
    start = time.perf_counter()
    options = {"penalty": ALPHA, "random_state": 0}
    ours_atoms, ours_codes = atoms.learn(responses, N_ATOMS, **options)
    ours = time.perf_counter() - start
    torch.set_num_threads(n_threads)

    mean, scale = atoms.moments(responses)
    samples = atoms.standard(responses, slice(None), mean, scale).numpy().T
    learner = MiniBatchDictionaryLearning(
        N_ATOMS,
        alpha=ALPHA,
        batch_size=512,
        max_iter=2,
        fit_algorithm="cd",
        transform_algorithm="lasso_cd",
        transform_alpha=ALPHA,
        random_state=0,
    )
    with threadpool_limits(N_THREADS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*did not converge.*")
        start = time.perf_counter()
        peer_codes = learner.fit(samples).transform(samples).T
        peer = time.perf_counter() - start
    peer_atoms = learner.components_.T
    objectives = [
        objective(samples.T, a, c)
        for a, c in [(ours_atoms, ours_codes), (peer_atoms, peer_codes)]
    ]
    what = f"{N_NEURONS} neurons x {N_TIMES} volumes, {N_ATOMS} atoms"
    return [
        {
            "claim": f"dictionary learning and codes of {what}, seconds against "
            f"scikit-learn's MiniBatchDictionaryLearning, {N_THREADS} threads each",
            "ours": round(ours, 2),
            "peer": round(peer, 1),
            "ratio": round(peer / ours, 1),
            "bar": 3,
            "ok": peer / ours >= 3,
        },
        {
            "claim": "its objective, mean over neurons; ratio at most",
            "ours": round(objectives[0], 5),
            "peer": round(objectives[1], 5),
            "ratio": round(objectives[0] / objectives[1], 4),
            "bar": 1,
            "ok": objectives[0] <= objectives[1],
        },
        *codes_rows(responses, samples, peer_atoms, what),
    ]


def codes_rows(responses, samples, base, what):
    """Codes alone, on the same atoms, one thread each.

    Of scikit-learn's the faster: ``sparse_encode``, whose tolerance is fixed (1e-8),
    and the solver it calls, with the tolerance of ours.
    """
    base = base.astype(np.float32)
    options = {"fit_intercept": False, "tol": 1e-5, "max_iter": 5000}
    lasso = Lasso(ALPHA / N_TIMES, precompute=base.T @ base, **options)
    solvers = {
        "ours": lambda: atoms.sparse_codes(responses, base, ALPHA, tol=1e-5),
        "sparse_encode": lambda: (
            sparse_encode(
                samples, base.T, algorithm="lasso_cd", alpha=ALPHA, max_iter=5000
            ).T
        ),
        "Lasso": lambda: lasso.fit(base, samples.T).coef_.T,
    }
    seconds, found, n_threads = {}, {}, torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*did not converge.*")
        for name, solve in solvers.items():
            start = time.perf_counter()
            codes = solve()
            seconds[name] = time.perf_counter() - start
            found[name] = objective(samples.T, base, codes)
    torch.set_num_threads(n_threads)
    ours, peer = seconds.pop("ours"), min(seconds, key=seconds.get)
    each = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    return [
        {
            "claim": f"codes alone of {what}, on the same atoms, seconds against the "
            f"faster of scikit-learn's ({each}), one thread each",
            "ours": round(ours, 2),
            "peer": round(seconds[peer], 1),
            "ratio": round(seconds[peer] / ours, 1),
            "bar": 1,
            "ok": seconds[peer] >= ours,
        },
        {
            "claim": f"its objective, mean over neurons, against {peer}; at most",
            "ours": round(found["ours"], 6),
            "peer": round(found[peer], 6),
            "ratio": round(found["ours"] / found[peer], 6),
            "bar": 1.0001,
            "ok": found["ours"] <= 1.0001 * found[peer],
        },
    ]


if __name__ == "__main__":
    rows = atoms_rows()
    print(json.dumps(rows, indent=1))
    write_json(stage_dir("benchmarks", "atoms.json"), rows)
