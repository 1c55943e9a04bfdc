"""Functional networks of any (samples x units) matrix, of voxels or of neurons.

``decompose`` is the one call for every method, for brain and model.
"""

import tempfile
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import nibabel
import numpy as np
from nilearn.decomposition import CanICA, DictLearning
from nilearn.masking import apply_mask, unmask
from picard import picard
from scipy import stats
from sklearn.decomposition import FastICA, MiniBatchDictionaryLearning, fastica
from sklearn.utils.extmath import randomized_svd

from anbn.core import blocks
from anbn.core.params import ParamError
from anbn.networks import dual_regression, parts, stability, svd, vsdbn
from anbn.stats import timeseries

METHODS = ("ica", "dictionary", "vsdbn")  # for any matrix
NILEARN = ("canica", "dictlearning")
BRAIN_METHODS = (*METHODS, *NILEARN)
STARTS = 3  # of CanICA, the sparsest is taken


@dataclass(frozen=True)
class Decomposition:
    """Networks of a matrix (n_samples x n_units), strongest first."""

    networks: np.ndarray  # (n_networks, n_units), z-scored over units, skew positive
    timecourses: np.ndarray  # (n_samples, n_networks), unit variance
    explained: np.ndarray  # (n_networks,), share of the matrix's variance
    stability: object = None  # stability.Stability, where it was asked for
    how: dict = field(default_factory=dict, repr=False)  # arguments of ``decompose``

    def only(self, kept):
        """Some of the networks (bool array of shape (n_networks,))."""
        return replace(
            self,
            networks=self.networks[kept],
            timecourses=self.timecourses[:, kept],
            explained=self.explained[kept],
            stability=self.stability and self.stability.of(kept),
        )

    def only_stable(self):
        """Without the networks that are not stable, which may leave none.

        Where stability cannot be judged, all are left.
        """
        return self if self.stability.reason else self.only(self.stability.stable)

    def refit(self, data, **changed):
        """Networks of other data found in the same way, or with something changed.

        Parameters
        ----------
        data : array or DataArray of shape (n_samples, ...), or list of such
        **changed
            Arguments of ``decompose`` in the place of those that these networks were
            found with. Stability is judged only where ``whose`` is among them.

        Returns
        -------
        decomposition : Decomposition
        """
        return decompose(data, **{**self.how, "whose": None, **changed})


def in_order(weights, timecourses, explained):
    """Decomposition with signs and order fixed.

    A network whose weights are skewed to the negative is flipped with its time course,
    so that a threshold does not depend on an arbitrary sign; then networks are sorted
    by explained variance.

    Parameters
    ----------
    weights : array of shape (n_networks, n_units)
    timecourses : array of shape (n_samples, n_networks)
    explained : array of shape (n_networks,)

    Returns
    -------
    decomposition : Decomposition
    """
    centred = weights - weights.mean(1, keepdims=True)
    sign = np.where((centred**3).sum(1) < 0, -1.0, 1.0)
    order = np.argsort(-explained)
    z = timeseries.zscore((weights * sign[:, None])[order].T).T
    timecourses = timeseries.zscore(timecourses * sign)[:, order]
    return Decomposition(z, timecourses, explained[order])


def ica(reduction, *, over="samples", solver="fastica", random_state, max_iter=500):
    """Independent component analysis of a reduced matrix.

    ``over="samples"`` finds time courses that are independent, as scikit-learn's
    FastICA does for (tokens x neurons) (Liu et al. 2025, arXiv 2502.20408): networks
    are the z-scored rows of the transposed mixing matrix. ``over="units"`` finds maps
    that are independent, as is usual for fMRI (McKeown et al. 1998).

    Parameters
    ----------
    reduction : Reduction
        From ``svd.reduce``: as many networks as it has components.
    over : {"samples", "units"}
    solver : {"fastica", "picard"}
        scikit-learn's FastICA (logcosh), or Picard-O (Ablin et al. 2018), which
        maximises the same function over rotations.
    random_state : int
        Of the first rotation. With FastICA over samples it is that of scikit-learn on
        the whole matrix, but for signs of vectors in which the first unit is near 0.
    max_iter : int

    Returns
    -------
    decomposition : Decomposition
    """
    if over not in ("samples", "units"):
        raise ValueError(f"over must be samples or units, found {over!r}")
    u, s, vt = reduction.u.astype(float), reduction.s, reduction.vt.astype(float)
    white, unwhite = _whiten(u if over == "samples" else vt.T)
    rotation = _rotate(white, solver, max_iter=max_iter, random_state=random_state)
    sources, mixing = white @ rotation.T, rotation @ unwhite
    if over == "samples":
        weights, timecourses = mixing * s @ vt, sources
    else:
        weights, timecourses = sources.T, u * s @ mixing.T
    return in_order(
        weights, timecourses, _explained(weights, timecourses, reduction.variance)
    )


def _whiten(rows):
    """White data, and what undoes it: ``rows - mean = white @ unwhite``."""
    n_rows, n = rows.shape
    mean = rows.mean(0)
    if np.allclose(rows.T @ rows - n_rows * np.outer(mean, mean), np.eye(n), atol=1e-4):
        # singular vectors are left as they are, signs and all
        return (rows - mean) * np.sqrt(n_rows), np.eye(n) / np.sqrt(n_rows)
    u, s, vt = np.linalg.svd(rows - mean, full_matrices=False)
    return u * np.sqrt(n_rows), s[:, None] * vt / np.sqrt(n_rows)


def _rotate(white, solver, **options):
    """Rotation of white data (n_rows, k) to independent sources."""
    options["tol"] = 1e-4
    with warnings.catch_warnings():
        # what does not converge differs between starts: stability tells
        warnings.filterwarnings("ignore", message=".*did not converge.*")
        if solver == "picard":
            return picard(white.T, whiten=False, centering=False, **options)[1]
        return FastICA(whiten=False, **options).fit(white).components_


def _explained(weights, timecourses, variance):
    return (weights**2).sum(1) * timecourses.var(0) / variance


def dictionary(reduction, *, penalty, random_state):
    """Networks by sparse dictionary learning in a reduced matrix.

    The time course of every unit, of unit length, is a sparse sum of those of the
    networks (Mairal et al. 2009; scikit-learn)::

        data ~ timecourses @ networks,  sparse networks (L1 ``penalty``)

    Parameters
    ----------
    reduction : Reduction
        From ``svd.reduce``: as many networks as it has components.
    penalty : float
        Penalty, 0 to 1: of 1 or more no unit would belong to any network.
    random_state : int

    Returns
    -------
    decomposition : Decomposition
        Shares of explained variance do not add up where networks overlap.
    """
    loadings = reduction.vt.T.astype(float) * reduction.s
    length = np.linalg.norm(loadings, axis=1)
    samples = loadings / np.where(length > 0, length, 1)[:, None]
    learner = MiniBatchDictionaryLearning(
        len(reduction.s),
        alpha=penalty,
        batch_size=512,
        max_iter=10,  # passes over the units
        fit_algorithm="cd",
        transform_algorithm="lasso_cd",
        transform_alpha=penalty,
        transform_max_iter=20000,
        random_state=random_state,
    ).fit(samples)
    atoms, codes = learner.components_, learner.transform(samples).T
    timecourses = reduction.u @ atoms.T
    explained = _explained(codes * length, timecourses, reduction.variance)
    return in_order(codes, timecourses, explained)


def threshold(networks, value, *, by="z", two_sided=False):
    """Units that belong to each network.

    Parameters
    ----------
    networks : array of shape (n_networks, n_units)
        z-scored over units.
    value : float
        For ``z`` the least z (published: 1.96, and 3.6 for masks); for ``percent`` the
        percentage of units with the largest z; for ``fdr`` the share of false members.
    by : {"z", "percent", "fdr"}
        ``fdr`` takes each network's z values for a mixture of a normal distribution,
        fitted to their middle half (the empirical null), and of members beyond it
        (Efron 2004), and counts from the least t at which::

            Fdr(t) = P(null > t) / share of units > t  <=  value

    two_sided : bool
        Whether |z| counts.

    Returns
    -------
    members : bool array of shape (n_networks, n_units)
    """
    check_membership(value, by=by)
    z = np.asarray(networks, float)
    size = np.abs(z) if two_sided else z
    if by == "z":
        return size > value
    if by == "percent":
        least = np.quantile(size, 1 - value / 100, axis=1, keepdims=True)
        return (size >= least) & (size > 0)
    members = np.zeros(z.shape, bool)
    for row, of_network in zip(z, members, strict=True):
        of_network[:] = _fdr_members(row, value, two_sided)
    return members


def check_membership(value, *, by):
    """Raise ParamError if the threshold of ``threshold`` is none for what it is."""
    most, such = {"z": (np.inf, 3.6), "percent": (100, 1), "fdr": (1, 0.05)}[by]
    if by != "z" and not 0 < value < most:
        raise ParamError(
            f"membership_threshold is {value}: as membership {by} it must lie between "
            f"0 and {most}, such as {such}"
        )


def check_number(parameter, n_networks, n_tokens, remedy="raise corpus_tokens"):
    """Raise ParamError if networks as many as a parameter asks for need more tokens."""
    if n_networks >= n_tokens:
        raise ParamError(
            f"{parameter}: {n_networks} networks cannot be found in {n_tokens} tokens. "
            f"Lower it, or {remedy} of stage 01."
        )


def _fdr_members(z, level, two_sided):
    """Units beyond the least threshold at which at most ``level`` are false."""
    low, centre, high = np.quantile(z, [0.25, 0.5, 0.75])
    if high == low:  # most weights are exactly zero, as in a sparse code
        return (np.abs(z - centre) if two_sided else z - centre) > 0
    null = (z - centre) / ((high - low) / (2 * stats.norm.ppf(0.75)))
    distance = np.abs(null) if two_sided else null
    order = np.argsort(-distance)
    tail = stats.norm.sf(distance[order]) * (2 if two_sided else 1)
    fdr = tail * len(z) / np.arange(1, len(z) + 1)  # as if all could be null
    good = np.flatnonzero(fdr <= level)
    members = np.zeros(len(z), bool)
    members[order[: good[-1] + 1 if len(good) else 0]] = True
    return members


def decompose(
    data,
    n_networks,
    method,
    *,
    random_state,
    over="samples",
    solver="fastica",
    penalty=0.3,
    layer_sizes=(100, 100),
    mask=None,
    keep=None,
    standardise=False,
    device="cpu",
    whose=None,
    n_bootstrap=8,
    n_halves=4,
    n_null_sets=8,
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
        Of ``ica``.
    penalty : float
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
        stability is judged, see ``stability.judge``.
    n_bootstrap, n_halves, n_null_sets : int
        Of ``stability.judge``.

    Returns
    -------
    decomposition : Decomposition
        Without networks that are empty, such as atoms that no unit takes part in. It
        knows how it was made, see ``Decomposition.refit``.

    Raises
    ------
    ValueError
        Unknown method, or more networks than the data can have.
    """
    # all arguments, before anything else has a name here
    how = {name: value for name, value in locals().items() if name != "data"}
    if method not in BRAIN_METHODS:
        raise ValueError(
            f"method must be one of {', '.join(BRAIN_METHODS)}, found {method!r}"
        )
    if method in NILEARN and mask is None:
        raise ValueError(
            f"{method} needs volumes and their mask; for tables of regions and for "
            f"neurons choose one of {', '.join(METHODS)}"
        )
    sizes = [*layer_sizes, n_networks]

    def of_reduction(reduction, seed):
        if method == "ica":
            return ica(reduction, over=over, solver=solver, random_state=seed)
        return dictionary(reduction, penalty=penalty, random_state=seed)

    def of_draw(gathered, counts, seed):
        if method in NILEARN:
            z = [part.z for part in gathered.parts]
            drawn = [z[i] for i in np.repeat(np.arange(len(z)), counts)]
            if method == "canica":
                return _canica(drawn, n_networks, seed)
            return _dictlearning(drawn, n_networks, mask, seed)
        if method == "vsdbn":
            drawn = parts.samples(gathered, counts, np.random.default_rng(seed))
            found = vsdbn.vsdbn(drawn, sizes, random_state=seed, device=device)
            return found[-1].maps
        options = {"standardise": standardise}
        reduction = parts.reduction(gathered, counts, n_networks, **options)
        return of_reduction(reduction, seed).networks

    if method in NILEARN:
        found = _nilearn(data, n_networks, method, mask, random_state=random_state)
    elif method == "vsdbn":
        options = {"keep": keep, "random_state": random_state, "device": device}
        layer = vsdbn.vsdbn(data, sizes, **options)[-1]
        explained = _share(data, layer.timecourses, keep)
        found = in_order(layer.maps, layer.timecourses, explained)
    else:
        options = {"keep": keep, "standardise": standardise, "device": device}
        reduction = svd.reduce(data, n_networks, random_state=random_state, **options)
        found = of_reduction(reduction, random_state)
    found = replace(found.only(np.ptp(found.networks, axis=1) > 0), how=how)
    if whose is None:
        return found
    judged = stability.judge(
        found.networks,
        data,
        whose,
        of_draw,
        mask=mask,
        keep=keep,
        standardise=standardise or method == "vsdbn",
        n_rows=[n_networks] * 2 if method in NILEARN else [16, max(64, 2 * n_networks)],
        n_bootstrap=n_bootstrap,
        n_halves=n_halves,
        n_null_sets=n_null_sets,
        seed=random_state,
    )
    return replace(found, stability=judged)


def _dictlearning(drawn, n_networks, mask, seed):
    """Maps of nilearn's DictLearning in a draw of people's maps; none if it fails."""
    images = [unmask(maps, mask) for maps in drawn]
    try:
        model = _fitted(images, n_networks, "dictlearning", mask, seed)
    except ValueError as error:
        if "No component found" not in str(error):
            raise
        return np.empty((0, drawn[0].shape[1]))
    return apply_mask(model.components_img_, mask)


def _canica(drawn, n_networks, seed):
    """The group's part of nilearn's CanICA, which takes x ** 3 ten times as long.

    ``drawn`` holds each person's leading maps, longest first.
    """
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


def _share(data, timecourses, keep=None):
    """Mean over units of r squared with each time course: a share of their variance."""
    mean, variance = blocks.moments(data)
    z = timeseries.zscore(timecourses)
    total = sum(
        z[rows].T @ (block.reshape(len(block), -1) - mean)
        for rows, block in blocks.walk(data)
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
    series = [dual_regression.subject_timecourses(run, maps) for run in runs]
    timecourses = np.concatenate(series)
    return in_order(maps, timecourses, _share(list(runs), timecourses))
