"""Synchrony's null against the products it needs, and against a loop.

The loop over neurons is timed on a part and scaled; all see the same data.
"""

import json
import subprocess
import sys
import time

import numpy as np
import torch

from anbn.core.artifacts import write_json
from anbn.core.paths import stage_dir
from anbn.coupling import synchrony
from anbn.stats import timeseries

N_TIMES, N_NEURONS, N_NETWORKS, N_DRAWS = 362, 46_080, 100, 1000
N_TURNS = 4  # each a part of the permutations, ours and the peer in turn


def example():
    """Noise in the sizes of a story: what is timed does not depend on values."""
    rng = np.random.default_rng(0)
    responses = rng.standard_normal((N_TIMES, N_NEURONS), dtype=np.float32)
    timecourses = rng.normal(size=(N_TIMES, N_NETWORKS))
    basis = timeseries.orthonormal(timeseries.drift(N_TIMES, 2.0))
    return timeseries.residuals(responses, basis), timecourses, basis


def time_products(responses, n_draws, batch_size=20):
    """Seconds of the products alone, in the same blocks, nothing kept."""
    units = synchrony.unit_rows(responses)
    brain = torch.randn(N_TIMES, batch_size * N_NETWORKS)
    out = torch.empty(synchrony.N_ROWS, brain.shape[1])
    start = time.perf_counter()
    for _ in range(0, n_draws, batch_size):
        for block in units.split(synchrony.N_ROWS):
            torch.mm(block, brain, out=out[: len(block)])
    return time.perf_counter() - start


def time_loop(responses, timecourses, basis):
    """Seconds of one permutation by numpy.corrcoef, from every hundredth neuron."""
    start = time.perf_counter()
    drawn = synchrony.surrogates.draw_one(timecourses, np.random.default_rng(1))
    for column in timeseries.residuals(drawn, basis).T:
        r = [np.corrcoef(x, column)[0, 1] for x in responses.T[::100]]
        assert np.abs(r).max() < 1
    return 100 * (time.perf_counter() - start)


def null_rows():
    responses, timecourses, basis = example()
    rng, n = np.random.default_rng(1), N_DRAWS // N_TURNS
    ours = bare = 0.0
    for _ in range(N_TURNS):
        start = time.perf_counter()
        synchrony.null(responses, timecourses, basis, n_draws=n, rng=rng)
        ours += time.perf_counter() - start
        bare += time_products(responses, n)
    loop = time_loop(responses, timecourses, basis) * N_DRAWS
    command = [sys.executable, __file__, "memory"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    peak = float(out.split()[-1])
    size = f"{N_NEURONS} neurons x {N_NETWORKS} networks x {N_DRAWS} permutations"
    return [
        row(
            f"{size} x {N_TIMES} volumes (s), against the bare products",
            ours,
            bare,
            1.5,
        ),
        row("the same, against numpy.corrcoef in a loop (scaled)", loop, ours, 50, True)
        | {"ours": round(ours, 1), "peer": round(loop)},
        row("peak memory (MB), own process, data included", peak, 2000, 1),
    ]


def row(claim, ours, peer, bar, at_least=False):
    """A line of the table; the ratio is ours / peer."""
    ratio = ours / peer
    ok = ratio >= bar if at_least else ratio <= bar
    numbers = {"ours": round(ours, 2), "peer": round(peer, 2), "ratio": round(ratio, 2)}
    return {"claim": claim, **numbers, "bar": bar, "ok": bool(ok)}


def peak_memory():
    """Peak of this process with a part of the permutations: it does not grow."""
    responses, timecourses, basis = example()
    rng = np.random.default_rng(1)
    synchrony.null(responses, timecourses, basis, n_draws=100, rng=rng)
    with open("/proc/self/status") as status:
        print(next(int(x.split()[1]) / 1024 for x in status if x.startswith("VmHWM")))


def main():
    rows = null_rows()
    print(json.dumps(rows, indent=1))
    write_json(stage_dir("benchmarks", "coupling.json"), rows)


if __name__ == "__main__":
    peak_memory() if sys.argv[1:] == ["memory"] else main()
