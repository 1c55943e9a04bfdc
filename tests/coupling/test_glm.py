import numpy as np
import pytest
from nilearn.glm.contrasts import compute_contrast
from nilearn.glm.first_level import run_glm

from anbn.coupling import glm
from anbn.stats import timeseries

N_TIMES, N_ATOMS, N_VOXELS = 120, 5, 40


@pytest.fixture
def data(rng):
    """Autocorrelated BOLD far from zero, atoms that drive some of it, confounds."""
    atoms = rng.normal(size=(N_TIMES, N_ATOMS))
    rate = rng.normal(size=(N_TIMES, 1)) + atoms[:, :1]
    confounds = np.column_stack([timeseries.drift(N_TIMES, 2.0), rate])
    noise = rng.normal(size=(N_TIMES, N_VOXELS))
    strength = np.linspace(0, 0.9, N_VOXELS)  # voxels differ in autocorrelation
    for i in range(1, N_TIMES):
        noise[i] += strength * noise[i - 1]
    effects = np.where(rng.random((N_ATOMS, N_VOXELS)) < 0.3, 1.0, 0.0)
    return atoms @ effects + noise + 1000, atoms, confounds, effects


def test_equals_contrasts_of_nilearn(data, monkeypatch):
    bold, atoms, confounds, _ = data
    monkeypatch.setattr(glm, "N_VOXELS", 15)
    t = glm.fixed_regressors(bold, atoms, confounds)
    design = np.column_stack([atoms, confounds])
    labels, results = run_glm(bold, design, noise_model="ar1")
    for k in range(N_ATOMS):
        contrast = compute_contrast(labels, results, np.eye(design.shape[1])[k])
        np.testing.assert_allclose(t[k], contrast.stat(), rtol=1e-4, atol=1e-5)


def test_planted_effects_are_found(data):
    bold, atoms, confounds, planted = data
    t = glm.fixed_regressors(bold, atoms, confounds)
    assert t[planted > 0].min() > t[planted == 0].max()


def test_noise_that_is_slow_does_not_make_t_large(rng):
    walk = rng.normal(size=(2, 200, 300))
    for i in range(1, 200):
        walk[:, i] += 0.8 * walk[:, i - 1]
    bold, atoms = walk[0], walk[1][:, :5]
    confounds = np.ones((200, 1))
    t = glm.fixed_regressors(bold, atoms, confounds)
    assert t.std() == pytest.approx(1, abs=0.2)
    assert (
        glm.single_regressor_t(bold, atoms, confounds / np.sqrt(200)).std() > 1.5
    )  # white noise


def test_constant_voxels_score_zero(data):
    bold, atoms, confounds, _ = data
    bold[:, [3, 20]] = 1000.1
    t = glm.fixed_regressors(bold, atoms, confounds)
    assert not t[:, [3, 20]].any()
    assert np.isfinite(t).all()
    assert t[:, 4].any()


def test_atoms_that_others_explain_are_refused(data):
    bold, atoms, confounds, _ = data
    with pytest.raises(ValueError, match="in 9 volumes: use fewer atoms"):
        glm.fixed_regressors(bold[:9], atoms[:9], confounds[:9])
    twice = np.column_stack([atoms, atoms[:, 0] - atoms[:, 1]])
    with pytest.raises(ValueError, match=r"6 atoms and .* collinear"):
        glm.fixed_regressors(bold, twice, confounds)
