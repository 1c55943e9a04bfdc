"""One call for every way to decompose a matrix into networks, for brain and model."""

import tempfile
import warnings
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
from nilearn.decomposition import CanICA, DictLearning
from nilearn.masking import apply_mask, unmask

from anbn import (
    blocks,
    hemodynamics,
    intersubject,
    networks,
    stability,
    svd,
    vsdbn,
)

METHODS = ("ica", "dictionary", "vsdbn")  # for any matrix
BRAIN_METHODS = (*METHODS, "canica", "dictlearning")


def decompose(
    data,
    n_networks,
    method,
    *,
    random_state,
    n_repeats=5,
    over="samples",
    solver="fastica",
    bootstrap=True,
    alpha=0.3,
    layer_sizes=(100, 100),
    mask=None,
    keep=None,
    standardise=False,
    device="cpu",
):
    """Networks of a matrix, and how stable each is when that is repeated.

    Parameters
    ----------
    data : array or DataArray of shape (n_samples, ...), or list of such
        Tokens x neurons, or the runs of a brain.
    n_networks : int
    method : {"ica", "dictionary", "vsdbn", "canica", "dictlearning"}
        This project's own, or nilearn's on volumes.
    random_state : int
        Of the first repeat; the next ones count on.
    n_repeats : int
        1 leaves stability unknown.
    over, solver : str
        Of ``networks.ica``.
    bootstrap : bool
        Whether repeats differ in what they are fitted on, too, drawn with replacement:
        for ICA the samples or units that it is over, for the dictionary units, for
        nilearn's methods the volumes of each run. ``vsdbn`` differs in its seed alone.
        A single fit takes all.
    alpha : float
        Penalty of ``dictionary``.
    layer_sizes : sequence of int
        Of ``vsdbn``: hidden units of each depth below that of the networks.
    mask : image
        For nilearn's methods; data are lists of arrays of shape (n_times, n_voxels).
    keep : bool array of shape (n_units,), optional
        Units to use; not for nilearn's methods.
    standardise : bool
        Whether units are scaled to unit variance; ``vsdbn`` always does that, nilearn's
        methods take data as they are.
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
    bootstrap = bootstrap and n_repeats > 1
    if method in ("canica", "dictlearning"):
        if mask is None:
            raise ValueError(
                f"{method} needs volumes and their mask; for tables of regions and for "
                f"neurons choose one of {', '.join(METHODS)}"
            )
        once = partial(_nilearn, data, n_networks, method, mask, bootstrap=bootstrap)
    elif method == "vsdbn":
        sizes = [*layer_sizes, n_networks]
        once = partial(_vsdbn, data, sizes, keep=keep, device=device)
    else:
        options = {"keep": keep, "standardise": standardise, "device": device}
        reduction = svd.reduce(data, n_networks, random_state=random_state, **options)
        if method == "ica":
            once = partial(networks.ica, reduction, over=over, solver=solver)
        else:
            once = partial(networks.dictionary, reduction, alpha=alpha)
        once = partial(once, bootstrap=bootstrap)
    estimates = [once(random_state=random_state + i) for i in range(n_repeats)]
    return stability.icasso(estimates) if n_repeats > 1 else estimates[0]


def _vsdbn(data, sizes, *, keep, random_state, device):
    """The maps of the deepest layer of a belief network as networks."""
    layer = vsdbn.vsdbn(
        data, sizes, keep=keep, random_state=random_state, device=device
    )[-1]
    explained = _share(data, layer.timecourses, keep)
    return networks.in_order(layer.maps, layer.timecourses, explained)


def _share(data, timecourses, keep=None):
    """Mean over units of r squared with each time course: a share of their variance."""
    mean, variance = blocks.moments(data)
    z = hemodynamics.zscore(timecourses)
    total = sum(
        z[rows].T @ (block.reshape(len(block), -1) - mean)
        for rows, block in blocks.blocks(data)
    )
    used = variance > 0 if keep is None else (variance > 0) & np.ravel(keep)
    r = total[:, used] / len(z) / np.sqrt(variance[used])
    return (r**2).mean(1)


def _nilearn(runs, n_networks, method, mask, *, bootstrap, random_state):
    """nilearn's decomposition of volumes, which it reads one run at a time."""
    options = {"smoothing_fwhm": None, "standardize": None, "detrend": False}
    options |= {"n_components": n_networks, "mask": mask, "random_state": random_state}
    if method == "canica":
        model = CanICA(threshold=None, n_init=3, **options)
    else:
        model = DictLearning(**options)
    rng = np.random.default_rng(random_state)
    beside = getattr(runs[0], "filename", None)
    with tempfile.TemporaryDirectory(
        prefix=".tmp-", dir=beside and Path(beside).parent
    ) as folder:
        files = []
        for i, run in enumerate(runs):
            drawn = rng.integers(len(run), size=len(run)) if bootstrap else ...
            files.append(str(Path(folder) / f"{i}.nii"))
            nibabel.save(unmask(np.asarray(run[drawn], np.float32), mask), files[-1])
        with warnings.catch_warnings():
            # of single starts; how stable networks are is measured over repeats
            warnings.filterwarnings("ignore", message=".*did not converge.*")
            model.fit(files)
    maps = apply_mask(model.components_img_, mask)
    series = [intersubject.subject_timecourses(run, maps) for run in runs]
    timecourses = np.concatenate(series)
    return networks.in_order(maps, timecourses, _share(list(runs), timecourses))
