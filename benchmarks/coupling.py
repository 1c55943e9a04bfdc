"""Null distribution of synchrony: ours against a loop of numpy.corrcoef.

The loop is timed on a part of the permutations and scaled; both see the same data.
"""

import json
import time

import numpy as np

from anbn import coupling, hemodynamics
from anbn.artifacts import write_json
from anbn.paths import stage_dir

N_TIMES, N_NEURONS, N_NETWORKS, N_PERMUTATIONS, N_TIMED = 362, 46_080, 14, 200, 2


def main():
    rng = np.random.default_rng(0)
    responses = rng.normal(size=(N_TIMES, N_NEURONS)).astype(np.float32)
    timecourses = rng.normal(size=(N_TIMES, N_NETWORKS))
    basis = hemodynamics.orthonormal(hemodynamics.drift(N_TIMES, 2.0))
    responses = hemodynamics.remove(responses, basis)
    options = {"n_permutations": N_PERMUTATIONS, "rng": np.random.default_rng(1)}

    start = time.perf_counter()
    maxima = coupling.maximum_null(responses, timecourses, basis, **options)
    ours = time.perf_counter() - start

    peer_rng = np.random.default_rng(1)
    start = time.perf_counter()
    for i in range(N_TIMED):
        drawn = coupling.phase_randomise(timecourses, peer_rng)
        drawn = hemodynamics.remove(drawn, basis)
        for k in range(N_NETWORKS):
            r = [np.corrcoef(x, drawn[:, k])[0, 1] for x in responses.T[::100]]
            # every hundredth neuron: the maximum over them cannot exceed ours
            assert np.abs(r).max() <= maxima[i, k] + 1e-5
    peer = (time.perf_counter() - start) * 100 * N_PERMUTATIONS / N_TIMED

    row = {
        "claim": f"{N_NEURONS} neurons x {N_NETWORKS} networks x {N_PERMUTATIONS} "
        f"permutations x {N_TIMES} volumes, seconds; the loop timed on "
        f"{N_TIMED} permutations of every hundredth neuron and scaled",
        "ours": round(ours, 2),
        "peer": round(peer, 1),
        "ratio": round(peer / ours, 1),
        "bar": 50,
        "ok": peer / ours >= 50,
    }
    print(json.dumps(row, indent=1))
    write_json(stage_dir("benchmarks", "coupling.json"), [row])


if __name__ == "__main__":
    main()
