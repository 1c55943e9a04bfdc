"""One call for every way to decompose a matrix into networks, for brain and model."""

import tempfile
import warnings
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
from nilearn.decomposition import CanICA, DictLearning
from nilearn.masking import apply_mask, unmask
from sklearn.decomposition import fastica
from sklearn.utils.extmath import randomized_svd

from anbn import (
    blocks,
    hemodynamics,
    intersubject,
    networks,
    stability,
    svd,
    vsdbn,
)
from anbn import parts as reduced

METHODS = ("ica", "dictionary", "vsdbn")  # for any matrix
NILEARN = ("canica", "dictlearning")
BRAIN_METHODS = (*METHODS, *NILEARN)
STARTS = 3  # of CanICA, the sparsest is taken
MOST_PARTS = 256  # beyond it documents are dealt into so many groups of whole ones
ROWS = 1280  # directions of all parts together, about


def decompose(
    data,
    n_networks,
    method,
    *,
    random_state,
    over="samples",
    solver="fastica",
    alpha=0.3,
    layer_sizes=(100, 100),
    mask=None,
    keep=None,
    standardise=False,
    device="cpu",
    whose=None,
    n_draws=8,
    n_halves=4,
    n_nulls=8,
):
    """Networks of a matrix, and which of them come back in other documents or people.

    Parameters
    ----------
    data : array or DataArray of shape (n_samples, ...), or list of such
        Tokens x neurons, or the runs of a brain.
    n_networks : int
    method : {"ica", "dictionary", "vsdbn", "canica", "dictlearning"}
        This project's own, or nilearn's on volumes.
    random_state : int
    over, solver : str
        Of ``networks.ica``.
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
    whose : sequence, optional
        The document of each sample; of a list, the person (or run) of each array. Then
        stability is judged, see ``judge``.
    n_draws, n_halves, n_nulls : int
        Of ``judge``.

    Returns
    -------
    decomposition : Decomposition
        Without networks that are empty, such as atoms that no unit takes part in.

    Raises
    ------
    ValueError
        Unknown method, or more networks than the data can have.
    """
    if method not in BRAIN_METHODS:
        raise ValueError(
            f"method must be one of {', '.join(BRAIN_METHODS)}, found {method!r}"
        )
    if method in NILEARN:
        if mask is None:
            raise ValueError(
                f"{method} needs volumes and their mask; for tables of regions and for "
                f"neurons choose one of {', '.join(METHODS)}"
            )
        found = _nilearn(data, n_networks, method, mask, random_state=random_state)
    elif method == "vsdbn":
        sizes = [*layer_sizes, n_networks]
        options = {"random_state": random_state, "device": device}
        found = _vsdbn(data, sizes, keep=keep, **options)
    else:
        options = {"keep": keep, "standardise": standardise, "device": device}
        reduction = svd.reduce(data, n_networks, random_state=random_state, **options)
        if method == "ica":
            options = {"over": over, "solver": solver}
            found = networks.ica(reduction, random_state=random_state, **options)
        else:
            options = {"alpha": alpha, "random_state": random_state}
            found = networks.dictionary(reduction, **options)
    found = found.only(np.ptp(found.networks, axis=1) > 0)
    if whose is None:
        return found
    fit = partial(
        _refit,
        n_networks=n_networks,
        method=method,
        over=over,
        solver=solver,
        alpha=alpha,
        layer_sizes=layer_sizes,
        mask=mask,
        standardise=standardise,
        device=device,
    )
    judged = judge(
        found.networks,
        data,
        whose,
        fit,
        mask=mask,
        keep=keep,
        standardise=standardise or method == "vsdbn",
        n_rows=n_networks if method in NILEARN else 16,
        most_rows=n_networks if method in NILEARN else max(64, 2 * n_networks),
        n_draws=n_draws,
        n_halves=n_halves,
        n_nulls=n_nulls,
        seed=random_state,
    )
    return networks.Decomposition(
        found.networks, found.timecourses, found.explained, judged
    )


def judge(
    maps,
    data,
    whose,
    fit,
    *,
    mask,
    keep,
    standardise,
    n_rows,
    most_rows,
    n_draws,
    n_halves,
    n_nulls,
    seed,
):
    """Which networks come back when documents, people or runs are drawn.

    Each document (person, run) is reduced once to its leading directions
    (``parts.reduce_each``); on every draw and half of them units are centred and
    scaled, the data reduced and decomposed anew. Where nothing is shared, each has its
    own permutation of units within layers; voxels of a mask have random maps of the
    same smoothness instead, which permuted ones would not have.

    Parameters
    ----------
    maps : array of shape (n_networks, n_units)
        Of all data.
    data, whose, mask, keep
        See ``decompose``.
    fit : callable
        See ``stability.judge``.
    standardise : bool
        Of ``parts.reduce_each``.
    n_rows, most_rows : int
        Least and most directions of a part; between them about ``ROWS`` in all.
    n_draws : int
        Draws with replacement.
    n_halves : int
        Random splits into halves.
    n_nulls : int
        Data sets in which nothing is shared, 0 for none: then it is not judged which
        networks are stable.
    seed : int

    Returns
    -------
    stability : stability.Stability
    """
    whose, rng = np.asarray(whose), np.random.default_rng([seed, 2])
    labels, number = np.unique(whose, return_inverse=True)
    if len(labels) < stability.FEWEST:
        return stability.judge(
            maps, list(labels), fit, [], n_draws=0, n_halves=0, seed=0
        )
    if len(labels) > MOST_PARTS:
        whose = rng.permutation(len(labels))[number] % MOST_PARTS
    n_parts = min(len(labels), MOST_PARTS)
    rows = int(np.clip(ROWS // n_parts, n_rows, most_rows))
    gather = partial(reduced.gather, scaled=standardise)
    options = {"keep": keep, "standardise": standardise}
    parts = reduced.reduce_each(data, whose, rows, **options)
    used = slice(None) if keep is None else np.ravel(keep).astype(bool)
    if mask is None:
        first = data[0] if isinstance(data, list) else data
        shape = first.shape[1:] if len(first.shape) == 3 else (1, maps.shape[1])
        layer = np.repeat(np.arange(shape[0]), shape[1])[used]
        nulls = (reduced.permuted(parts, layer, rng) for _ in range(n_nulls))
    else:
        nulls = reduced.redrawn(parts, mask, n_nulls, rng)
    counts = {"n_draws": n_draws, "n_halves": n_halves, "seed": seed}
    nulls = map(gather, nulls)
    return stability.judge(maps[:, used], gather(parts), fit, nulls, **counts)


def _refit(
    gathered,
    counts,
    seed,
    *,
    n_networks,
    method,
    over,
    solver,
    alpha,
    layer_sizes,
    mask,
    standardise,
    device,
):
    """Maps of the networks of a draw of documents or people."""
    parts = gathered.parts
    if method == "canica":
        return _canica([part.z for part in parts], counts, n_networks, seed)
    if method == "dictlearning":
        images = [unmask(part.z, mask) for part in parts]
        drawn = [images[i] for i in np.repeat(np.arange(len(parts)), counts)]
        try:
            model = _fitted(drawn, n_networks, method, mask, seed)
        except ValueError as error:
            if "No component found" not in str(error):
                raise
            return np.empty((0, parts[0].z.shape[1]))
        return apply_mask(model.components_img_, mask)
    if method == "vsdbn":
        drawn = reduced.samples(gathered, counts, np.random.default_rng(seed))
        sizes = [*layer_sizes, n_networks]
        return vsdbn.vsdbn(drawn, sizes, random_state=seed, device=device)[-1].maps
    options = {"standardise": standardise}
    reduction = reduced.reduction(gathered, counts, n_networks, **options)
    if method == "ica":
        options = {"over": over, "solver": solver, "random_state": seed}
        return networks.ica(reduction, **options).networks
    return networks.dictionary(reduction, alpha=alpha, random_state=seed).networks


def _canica(maps, counts, n_networks, seed):
    """The group's part of nilearn's CanICA, which takes x ** 3 ten times as long.

    ``maps`` holds each person's leading maps, longest first.
    """
    drawn = [maps[i] for i in np.repeat(np.arange(len(maps)), counts)]
    own = [rows[:n_networks] for rows in drawn]
    stacked = np.concatenate(own).astype(np.float32)
    stacked /= np.linalg.norm(stacked, axis=1, keepdims=True)
    n = min(n_networks, len(stacked) - 1)
    options = {"n_iter": 3, "transpose": True, "random_state": seed}
    group, _, _ = randomized_svd(stacked.T, n_components=n, **options)
    starts = np.random.RandomState(seed).randint(np.iinfo(np.int32).max, size=STARTS)
    found = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*did not converge.*")
        for start in starts:
            options = {"whiten": "arbitrary-variance", "fun": _cube}
            sources = fastica(group.astype(float), random_state=start, **options)[2]
            found.append(sources.T)
    return min(found, key=lambda rows: np.abs(rows).sum(1).max())


def _cube(x):
    square = x * x
    return square * x, 3 * square.mean(-1)


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


def _fitted(images, n_networks, method, mask, random_state):
    """nilearn's decomposition of images or files."""
    options = {"smoothing_fwhm": None, "standardize": None, "detrend": False}
    options |= {"n_components": n_networks, "mask": mask, "random_state": random_state}
    if method == "canica":
        model = CanICA(threshold=None, n_init=STARTS, **options)
    else:
        model = DictLearning(**options)
    with warnings.catch_warnings():
        # of single starts; whether networks come back is measured
        warnings.filterwarnings("ignore", message=".*did not converge.*")
        return model.fit(images)


def _nilearn(runs, n_networks, method, mask, *, random_state):
    """nilearn's decomposition of volumes, which it reads one run at a time."""
    beside = getattr(runs[0], "filename", None)
    with tempfile.TemporaryDirectory(
        prefix=".tmp-", dir=beside and Path(beside).parent
    ) as folder:
        files = []
        for i, run in enumerate(runs):
            files.append(str(Path(folder) / f"{i}.nii"))
            nibabel.save(unmask(np.asarray(run, np.float32), mask), files[-1])
        model = _fitted(files, n_networks, method, mask, random_state)
    maps = apply_mask(model.components_img_, mask)
    series = [intersubject.subject_timecourses(run, maps) for run in runs]
    timecourses = np.concatenate(series)
    return networks.in_order(maps, timecourses, _share(list(runs), timecourses))
