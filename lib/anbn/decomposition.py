"""One call for every way to decompose a matrix into networks, for brain and model."""

import tempfile
import warnings
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
from nilearn.decomposition import CanICA, DictLearning
from nilearn.masking import apply_mask, unmask

from anbn import intersubject, networks, stability, svd, vsdbn

METHODS = ("ica", "dictionary", "vsdbn")  # for any matrix
BRAIN_METHODS = (*METHODS, "canica", "dictlearning")


def decompose(
    data,
    n_networks,
    method,
    *,
    random_state,
    n_runs=5,
    over="samples",
    solver="fastica",
    bootstrap=True,
    alpha=0.3,
    layer_sizes=(100, 100, 100),
    depth=-1,
    mask=None,
    keep=None,
    standardise=False,
    device="cpu",
):
    """Networks of a matrix, and how stable each is over several runs.

    Parameters
    ----------
    data : array or DataArray of shape (n_samples, ...), or list of such
        Tokens x neurons, or the runs of a brain.
    n_networks : int
        ``vsdbn`` has those of ``layer_sizes`` instead.
    method : {"ica", "dictionary", "vsdbn", "canica", "dictlearning"}
        This project's own on the reduced matrix, or nilearn's on volumes.
    random_state : int
        Of the first run; the next ones count on.
    n_runs : int
        1 leaves stability unknown.
    over, solver : str
        Of ``networks.ica``.
    bootstrap : bool
        Whether the runs of ICA differ in samples drawn, or in their seed alone; a
        single run takes all samples.
    alpha : float
        Penalty of ``dictionary``.
    layer_sizes : sequence of int
        Of ``vsdbn``.
    depth : int
        Layer of ``vsdbn`` whose maps are the networks; -1 is the deepest.
    mask : image
        For nilearn's methods; data are lists of arrays of shape (n_times, n_voxels).
    keep : bool array of shape (n_units,), optional
        Units to use.
    standardise : bool
        Whether units are scaled to unit variance.
    device : str

    Returns
    -------
    decomposition : Decomposition

    Raises
    ------
    ValueError
        Unknown method, or more networks than the data can have.
    """
    if method not in BRAIN_METHODS:
        raise ValueError(
            f"method must be one of {', '.join(BRAIN_METHODS)}, found {method!r}"
        )
    if method in ("canica", "dictlearning"):
        if mask is None:
            raise ValueError(
                f"{method} needs volumes and their mask; for tables of regions and for "
                f"neurons choose one of {', '.join(METHODS)}"
            )
        once = partial(_nilearn, data, n_networks, method, mask)
    elif method == "vsdbn":
        options = {"layer_sizes": layer_sizes, "device": device}
        once = partial(_vsdbn, data, depth, keep, **options)
    else:
        options = {"keep": keep, "standardise": standardise, "device": device}
        reduction = svd.reduce(data, n_networks, random_state=random_state, **options)
        if method == "ica":
            options = {"over": over, "solver": solver}
            options["bootstrap"] = bootstrap and n_runs > 1
            once = partial(networks.ica, reduction, **options)
        else:
            once = partial(networks.dictionary, reduction, alpha=alpha)
    seeds = range(random_state, random_state + n_runs)
    estimates = [once(random_state=seed) for seed in seeds]
    return stability.icasso(estimates) if n_runs > 1 else estimates[0]


def _vsdbn(data, depth, keep, *, layer_sizes, random_state, device):
    """The maps of one depth of the belief network as networks."""
    layers = vsdbn.vsdbn(data, layer_sizes, random_state=random_state, device=device)
    layer = layers[depth]
    weights = layer.maps if keep is None else layer.maps * np.ravel(keep)
    # units are standardised inside: each has a variance of 1
    explained = (weights**2).sum(1) * layer.timecourses.var(0)
    explained /= max(explained.sum(), 1e-30)
    return networks.in_order(weights, layer.timecourses, explained)


def _nilearn(runs, n_networks, method, mask, *, random_state):
    """nilearn's decomposition of volumes, which it reads one run at a time."""
    options = {"smoothing_fwhm": None, "standardize": None, "detrend": False}
    options |= {"n_components": n_networks, "mask": mask, "random_state": random_state}
    if method == "canica":
        model = CanICA(threshold=None, n_init=3, **options)
    else:
        model = DictLearning(**options)
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for i, run in enumerate(runs):
            files.append(str(Path(folder) / f"{i}.nii"))
            nibabel.save(unmask(np.asarray(run, np.float32), mask), files[-1])
        with warnings.catch_warnings():
            # of single starts; how stable networks are is measured over runs
            warnings.filterwarnings("ignore", message=".*did not converge.*")
            model.fit(files)
    maps = apply_mask(model.components_img_, mask)
    timecourses = [intersubject.subject_timecourses(run, maps) for run in runs]
    timecourses = np.concatenate(timecourses)
    variance = np.concatenate([np.var(run, axis=0) for run in runs]).sum() / len(runs)
    explained = (maps**2).sum(1) * timecourses.var(0) / variance
    return networks.in_order(maps, timecourses, explained)
