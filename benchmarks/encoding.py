"""Encoding of many voxels: ours against himalaya's RidgeCV in a plain loop of folds.

Both use the same outer folds, inner folds, drift removal, standardising and penalties,
and score the same way; the peer gets all voxels at once, with and without himalaya's
own batches of targets, and the faster of the two counts.
"""

import json
import statistics
import time

import numpy as np
from himalaya.ridge import RidgeCV
from himalaya.scoring import correlation_score

from anbn.brain.hrf import HRF_LENGTH
from anbn.core.artifacts import write_json
from anbn.core.paths import stage_dir
from anbn.coupling import encoding, folds

N_TIMES, N_ATOMS, N_VOXELS, TR = 362, 64, 100_000, 2.0
DELAYS, ALPHAS, N_FOLDS, N_TURNS = (1, 2, 3, 4), np.logspace(0, 6, 10), 5, 3
BATCH = 2000  # targets, for the peer


def encoding_rows(n_voxels=N_VOXELS):
    rng = np.random.default_rng(0)
    atoms = rng.normal(size=(N_TIMES, N_ATOMS)).astype(np.float32)
    weights = rng.normal(size=(N_ATOMS, n_voxels)).astype(np.float32)
    bold = np.roll(atoms, 2, axis=0) @ (weights * rng.random(n_voxels, np.float32) / 8)
    bold += rng.standard_normal(bold.shape, np.float32)
    turns = {"ours": [], "peer": [], "peer in batches": []}
    for _ in range(N_TURNS):
        found = {
            "ours": _timed(_ours, turns["ours"], atoms, bold),
            "peer": _timed(_peer, turns["peer"], atoms, bold, {}),
            "peer in batches": _timed(
                _peer,
                turns["peer in batches"],
                atoms,
                bold,
                {"n_targets_batch": BATCH, "n_targets_batch_refit": BATCH},
            ),
        }
    for name in ("peer", "peer in batches"):
        # rounding may turn the choice between two penalties that are as good
        assert (np.abs(found["ours"] - found[name]) > 1e-3).mean() < 1e-4
    seconds = {name: statistics.median(taken) for name, taken in turns.items()}
    ours, peer = seconds["ours"], min(seconds["peer"], seconds["peer in batches"])
    return [
        {
            "claim": f"{N_ATOMS} atoms at {len(DELAYS)} delays to {n_voxels} voxels, "
            f"{len(ALPHAS)} penalties, {N_FOLDS} outer and inner folds of {N_TIMES} "
            "volumes, seconds; the peer is himalaya's RidgeCV in a loop, all voxels at "
            f"once {seconds['peer']:.1f} s, in its own batches "
            f"{seconds['peer in batches']:.1f} s; the same scores within .001, but for "
            "1 in 10,000",
            "ours": round(ours, 2),
            "peer": round(peer, 2),
            "ratio": round(ours / peer, 3),
            "bar": 1.05,
            "ok": ours / peer <= 1.05,
        }
    ]


def _timed(function, taken, *args):
    start = time.perf_counter()
    result = function(*args)
    taken.append(time.perf_counter() - start)
    return result


def _ours(atoms, bold):
    options = {"tr": TR, "n_folds": N_FOLDS, "alphas": ALPHAS, "delays": DELAYS}
    return encoding.encode({"atoms": atoms}, bold, **options).r


def _peer(atoms, bold, params):
    """What one would write without this library (the folds are taken from it)."""
    features = folds.delayed(atoms, DELAYS)
    run = np.zeros(len(bold), int)
    gap = folds.gap_volumes(HRF_LENGTH, TR, DELAYS)
    scores = []
    for train, test in folds.contiguous_folds(len(bold), N_FOLDS, gap):
        basis = folds.drift_basis(train, run, TR, 128.0).astype(np.float32)
        x = features[train] - features[train].mean(0)
        y = bold[train] - bold[train].mean(0)
        x, y = x - basis @ (basis.T @ x), y - basis @ (basis.T @ y)
        x_test = (features[test] - features[train].mean(0)) / x.std(0)
        y_test = (bold[test] - bold[train].mean(0)) / y.std(0)
        inner = folds.folds_within(train, run[train], N_FOLDS, gap)
        model = RidgeCV(ALPHAS, cv=inner, solver_params={"warn": False, **params})
        model.fit(x / x.std(0), y / y.std(0))
        predicted = model.predict(x_test)
        basis = folds.drift_basis(test, run, TR, 128.0).astype(np.float32)
        predicted = predicted - basis @ (basis.T @ predicted)
        y_test = y_test - basis @ (basis.T @ y_test)
        scores.append(correlation_score(y_test, predicted))
    return np.mean(scores, 0)


if __name__ == "__main__":
    rows = encoding_rows()
    print(json.dumps(rows, indent=1))
    write_json(stage_dir("benchmarks", "encoding.json"), rows)
