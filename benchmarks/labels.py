"""Labels: how often chance passes for a label, for three nulls.

Random maps on an 8 mm MNI mask, unrelated to any template; a null is calibrated if
p <= .05 for about 5 % of them, whatever their smoothness and shape.
"""

import json

import numpy as np
import pandas as pd
from nilearn.datasets import load_mni152_brain_mask
from scipy import fft, ndimage, stats
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from anbn.brain import templates
from anbn.core.artifacts import write_json
from anbn.core.paths import stage_dir
from anbn.stats import spatial_null, timeseries

N_MAPS, N_SURROGATES, LEVEL = 100, 99, 0.05
SMOOTHNESS = (0.5, 1.0, 2.0)  # voxels, standard deviation
KINDS = ("Gaussian", "symmetric", "peaked")


def random_map(inside, sigma, kind, rng):
    """Smooth noise (n_voxels,), symmetric about the middle of x or peaked if asked."""
    pad = int(np.ceil(3 * sigma))
    noise = rng.normal(size=np.array(inside.shape) + 2 * pad)
    field = ndimage.gaussian_filter(noise, sigma, mode="wrap")
    field = field[(slice(pad, -pad),) * 3]
    field = field + field[::-1] if kind == "symmetric" else field
    values = stats.zscore(field[inside])
    return np.exp(values) if kind == "peaked" else values


def phase_randomised(values, inside, rng):
    """Phases of the map in its box replaced by those of white noise."""
    box = np.zeros(inside.shape)
    box[inside] = values - values.mean()
    size = np.abs(fft.rfftn(box))
    for _ in range(N_SURROGATES):
        noise = fft.rfftn(rng.normal(size=box.shape))
        yield fft.irfftn(size * noise / np.abs(noise), box.shape)[inside]


def rotated(values, inside, rng):
    """The map turned about the middle of its box; outside the brain it is its mean."""
    box = np.full(inside.shape, values.mean())
    box[inside] = values
    middle = (np.array(box.shape) - 1) / 2
    for turn in Rotation.random(N_SURROGATES, random_state=rng):
        matrix = turn.as_matrix()
        offset = middle - matrix @ middle
        yield ndimage.affine_transform(
            box, matrix, offset, order=1, cval=values.mean()
        )[inside]


def main():
    rng, rows = np.random.default_rng(0), []
    mask = load_mni152_brain_mask(resolution=8)
    whole = np.asarray(mask.dataobj) > 0
    # a box that is symmetric about the middle of the brain
    corners = [
        np.flatnonzero(whole.any(axis))[[0, -1]] for axis in ((1, 2), (0, 2), (0, 1))
    ]
    box = tuple(slice(low, high + 1) for low, high in corners)
    inside = whole[box]
    known = timeseries.zscore(templates.load_templates("seitzman", mask)[0].T)
    nulls = {
        "phase randomisation": lambda v: phase_randomised(v, inside, rng),
        "rotation": lambda v: rotated(v, inside, rng),
        "ours": lambda v: spatial_null.surrogates(v, mask, N_SURROGATES, rng=rng),
    }
    for kind in KINDS:
        for sigma in SMOOTHNESS:
            hits = dict.fromkeys(nulls, 0)
            for _ in tqdm(range(N_MAPS), f"{kind}, {sigma} voxels"):
                values = random_map(inside, sigma, kind, rng)
                best = (stats.zscore(values) @ known).max()
                for name, null in nulls.items():
                    drawn = stats.zscore(np.stack(list(null(values))), axis=1)
                    above = ((drawn @ known).max(1) >= best).sum()
                    hits[name] += (1 + above) / (1 + N_SURROGATES) <= LEVEL
            high = stats.binom.ppf(0.975, N_MAPS, LEVEL)
            row = {
                "claim": f"{kind} maps, s.d. {sigma * 8:g} mm: share of p <= {LEVEL}"
            }
            row |= {name: n / N_MAPS for name, n in hits.items()}
            rows.append(row | {"bar": high / N_MAPS, "ok": bool(hits["ours"] <= high)})
            print(json.dumps(rows[-1]), flush=True)
    print(pd.DataFrame(rows).to_string(index=False))
    write_json(stage_dir("benchmarks", "labels.json"), rows)


if __name__ == "__main__":
    main()
