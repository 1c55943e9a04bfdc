import numpy as np
from nilearn.datasets import load_mni152_brain_mask

from anbn import templates


def test_templates_and_labels(rng):
    mask = load_mni152_brain_mask(resolution=8)
    known, names = templates.seitzman_templates(mask, sigma=8)
    assert known.shape == (len(names), int(mask.get_fdata().sum()))
    assert "unassigned" not in names
    chosen = [names.index("Visual"), names.index("DefaultMode")]
    noise = rng.normal(size=known.shape[1])
    maps = np.vstack([known[chosen] + 0.1 * rng.normal(size=(2, len(noise))), noise])
    labels, r = templates.label(maps, known, names)
    assert labels == ["Visual", "DefaultMode", "unlabelled-2"]
    assert r[:2].min() > 0.8
