"""Masking and resampling of volumes: ours against nilearn's NiftiMasker.

Both read the same files from disk (made on the spot) and must give the same numbers;
the median of several turns counts, in which they take turns at going first.
"""

import time
import tracemalloc
import warnings
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import nibabel
import numpy as np
import pandas as pd
from nilearn.maskers import NiftiMasker

from anbn.brain import images
from anbn.brain.images import mask_of
from anbn.core.artifacts import write_json
from anbn.core.paths import stage_dir

SHAPE, N_TIMES, N_FILES, N_TURNS = (64, 76, 64), 150, 4, 5
VOXEL, COARSE = 3.0, 4.0  # mm
MEGABYTE = 2**20


def write_runs(folder, end, rng):
    """4D noise around a mean of 1,000, on an MNI-like grid."""
    affine = np.diag([VOXEL, VOXEL, VOXEL, 1])
    affine[:3, 3] = -96, -132, -72
    paths = [folder / f"sub-{k:02d}{end}" for k in range(N_FILES)]
    for path in paths:
        data = rng.standard_normal((*SHAPE, N_TIMES), dtype=np.float32) + 1000
        nibabel.save(nibabel.Nifti1Image(data.round(1), affine), path)
    return paths


def compare(paths, to, n_turns=N_TURNS):
    """Seconds of ours and of nilearn, and the peak memory of one run (MB)."""
    mask = mask_of("mni", paths, to)
    inside = np.asarray(mask.dataobj) > 0
    warnings.filterwarnings("ignore", "imgs are being resampled")  # as is meant
    masker = NiftiMasker(mask, standardize=None, dtype="float32").fit()
    ways = {
        "ours": lambda path: images.extract(path, to, inside),
        "peer": masker.transform,
    }
    a, b = (way(paths[0]) for way in ways.values())
    np.testing.assert_allclose(a, b, rtol=1e-5)
    peaks = {}
    for name, way in ways.items():
        tracemalloc.start()
        way(paths[0])
        peaks[name] = tracemalloc.get_traced_memory()[1] / MEGABYTE
        tracemalloc.stop()
    seconds = {name: [] for name in ways}
    for turn in range(n_turns):
        for name in list(ways)[:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            for path in paths:
                ways[name](path)
            seconds[name].append(time.perf_counter() - start)
    return {name: median(taken) for name, taken in seconds.items()}, peaks


def row(claim, found, bar=1.0):
    ratio = found["ours"] / found["peer"]
    rounded = {name: round(value, 2) for name, value in found.items()}
    return {
        "claim": claim,
        **rounded,
        "ratio": round(ratio, 2),
        "bar": bar,
        "ok": ratio <= bar,
    }


def main():
    rng, rows = np.random.default_rng(0), []
    size = f"{'x'.join(map(str, SHAPE))}x{N_TIMES}"
    with TemporaryDirectory() as folder:
        for end in (".nii", ".nii.gz"):
            paths = write_runs(Path(folder), end, rng)
            own = images.common_grid(paths)
            seconds, peaks = compare(paths, own)
            rows.append(row(f"masking {N_FILES} {end} of {size} (s)", seconds))
            if end == ".nii.gz":  # nilearn maps what is not compressed: not counted
                rows.append(row(f"masking one {end}, peak memory (MB)", peaks))
            if end == ".nii":
                coarse = images.common_grid(paths, COARSE)
                seconds, _ = compare(paths[:1], coarse, 3)
                what = f"one {end} from {VOXEL:g} to {COARSE:g} mm"
                rows.append(row(f"resampling and masking {what} (s)", seconds))
    print(pd.DataFrame(rows).to_string(index=False))
    write_json(stage_dir("benchmarks", "volumes.json"), rows)


if __name__ == "__main__":
    main()
