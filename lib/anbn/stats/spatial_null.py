"""Maps that a given map could have been by chance: a null for spatial correlations.

Neighbouring voxels resemble each other, and so do mirrored ones, so voxels cannot be
shuffled. A surrogate is a random Gaussian field with the smoothness and the left-right
symmetry of the map, given the map's own histogram.

Phase-randomised and rotated maps lose the symmetry, and are too seldom as high as a
symmetric map: ``benchmarks/labels.py`` measures all three.
"""

import nibabel
import numpy as np
from scipy import fft
from scipy.optimize import nnls
from scipy.special import ndtri
from scipy.stats import rankdata

SPACING = 4.0  # mm, largest distance of voxels that are kept of a finer mask
WIDTHS = 8  # Gaussian kernels the correlogram is made of, besides white noise


def surrogates(values, mask, n, *, rng, ranks=True):
    """Random maps as smooth and as symmetric as a given one, with the same values.

    Parameters
    ----------
    values : array of shape (n_voxels,)
        One map.
    mask : image
        Voxels of the map; x = 0 mm is taken for the plane of symmetry.
    n : int
        How many.
    rng : numpy Generator
    ranks : bool
        Whether smoothness is that of the map's ranks, or of its values: then a few
        strong blobs in noise stay as smooth as they are.

    Yields
    ------
    surrogate : float32 array of shape (n_voxels,)

    Notes
    -----
    The map is turned to normal scores s (with ``ranks``; its values are taken as they
    are without). Their correlogram is fitted, without negative weights, by Gaussians
    and a nugget, so that it is that of some random field::

        c(d) = w_0 [d = 0] + sum_k w_k exp(-d^2 / (4 sigma_k^2))  -  offset

    (the offset is what removing the map's mean took away). A field g with this
    correlogram is drawn by Fourier transform on a padded grid, and mixed with its
    mirror image so that mirrored voxels correlate by rho as in the map::

        cos(a) g(x) + sin(a) g(-x),    sin(2 a) = rho

    Its k-th largest voxel is given the map's k-th largest value. The variogram is
    matched as by Burt et al. (2020), doi:10.1016/j.neuroimage.2020.117038.
    """
    voxels = np.asarray(mask.dataobj) > 0
    where = np.argwhere(voxels)
    corner, end = where.min(0), where.max(0) + 1
    inside = voxels[tuple(map(slice, corner, end))]
    scores = ndtri((rankdata(values) - 0.5) / len(values)) if ranks else values
    scores = (scores - scores.mean()) / scores.std()
    sizes = np.sqrt((mask.affine[:3, :3] ** 2).sum(0))
    distance, correlation, _ = correlogram(scores, inside, sizes)
    widths = np.geomspace(0.4 * sizes.min(), 0.25 * max(inside.shape * sizes), WIDTHS)
    # every distance counts alike: the many pairs of far voxels share a few voxels'
    # worth of information, and would otherwise bend the fit at the near ones
    design = [_kernel(distance, widths), -np.ones(len(distance))]
    fitted, _ = nnls(np.column_stack(design), correlation)
    weights, offset = fitted[:-1], fitted[-1]
    shape = [fft.next_fast_len(int(1.5 * size)) for size in inside.shape]
    lag = np.sqrt(sum(d**2 for d in _lags(shape, sizes)))
    power = fft.fftn(_kernel(lag, widths) @ weights).real
    amplitude = np.sqrt(np.maximum(power, 0)).astype(np.float32)
    axis, mirror = _mirror(mask, corner, inside.shape)
    rho = 0.0
    if axis is not None:
        rho = _symmetry(scores, inside, sizes, axis, mirror, (weights, widths), offset)
    angle = np.arcsin(rho) / 2
    values = np.sort(np.asarray(values, np.float32))
    box = tuple(slice(size) for size in inside.shape)
    for i in range(0, n, 2):
        noise = rng.standard_normal((2, *shape), dtype=np.float32)
        # the real and the imaginary part are two independent fields
        pair = fft.ifftn(amplitude * (noise[0] + 1j * noise[1]))
        for field in (pair.real, pair.imag)[: n - i]:
            if rho > 0:
                near = np.cos(angle) * np.take(field, np.arange(shape[axis]), axis)
                position = (mirror - np.arange(shape[axis])) % shape[axis]
                field = near + np.sin(angle) * np.take(field, position, axis)
            surrogate = np.empty_like(values)
            surrogate[np.argsort(field[box][inside])] = values
            yield surrogate


def thinned(mask):
    """A mask of every second, third, ... voxel, for maps finer than they are smooth.

    A correlation with far fewer voxels is the same up to noise, and so is its null; for
    maps that are rough at this spacing the null is wider, so p errs upwards.

    Parameters
    ----------
    mask : image

    Returns
    -------
    mask : image
    kept : bool array of shape (n_voxels,)
        Which of the mask's voxels those are.
    """
    inside = np.asarray(mask.dataobj) > 0
    sizes = np.sqrt((mask.affine[:3, :3] ** 2).sum(0))
    steps = np.maximum(1, SPACING / sizes + 1e-3).astype(int)
    some = tuple(slice(None, None, step) for step in steps)
    kept = np.zeros(inside.shape, bool)
    kept[some] = True
    affine = mask.affine @ np.diag([*steps, 1])
    return nibabel.Nifti1Image(inside[some].astype(np.uint8), affine), kept[inside]


def correlogram(values, inside, sizes):
    """Mean product of pairs of voxels by their distance, over all pairs in the mask.

    Parameters
    ----------
    values : array of shape (n_voxels,)
        Standardised.
    inside : bool array of shape (n_x, n_y, n_z)
    sizes : array of shape (3,)
        Of a voxel, mm.

    Returns
    -------
    distance, correlation, n_pairs : arrays of shape (n_bins,)
        In bins of half the smallest voxel, up to half the box; the first is distance 0.
    """
    shape = [fft.next_fast_len(2 * size) for size in inside.shape]  # no wrapping round
    box = tuple(slice(size) for size in inside.shape)
    field, voxels = np.zeros((2, *shape), np.float32)
    field[box][inside] = values
    voxels[box] = inside
    product = fft.irfftn(np.abs(fft.rfftn(field)) ** 2, shape)
    pairs = np.round(fft.irfftn(np.abs(fft.rfftn(voxels)) ** 2, shape))
    lag = np.sqrt(sum(d**2 for d in _lags(shape, sizes)))
    kept = (lag <= max(inside.shape * sizes) / 2) & (pairs > 0)
    bins = np.round(lag[kept] / (sizes.min() / 2)).astype(int)
    n_pairs = np.bincount(bins, pairs[kept])
    some = n_pairs > 0
    mean = [np.bincount(bins, x)[some] / n_pairs[some] for x in
            (lag[kept] * pairs[kept], product[kept])]  # fmt: skip
    return *mean, n_pairs[some]


def _kernel(distance, widths):
    """White noise and Gaussians' correlograms, in the last axis."""
    d = np.asarray(distance)[..., None]
    return np.concatenate([d == 0, np.exp(-(d**2) / (4 * widths**2))], axis=-1)


def _lags(shape, sizes):
    """Distance along each axis from the first voxel of a periodic grid, mm."""
    steps = [fft.fftfreq(n, 1 / n) * size for n, size in zip(shape, sizes, strict=True)]
    return np.meshgrid(*steps, indexing="ij", sparse=True)


def _mirror(mask, corner, shape):
    """Axis across x = 0 and the sum of mirrored indices, or None, None."""
    x = mask.affine[0]
    axis = int(np.argmax(np.abs(x[:3])))
    if np.abs(np.delete(x[:3], axis)).max() > 0.1 * abs(x[axis]):
        return None, None  # oblique: voxels have no mirror images on the grid
    mirror = round(-2 * x[3] / x[axis]) - 2 * corner[axis]
    return (axis, mirror) if 0 < mirror < 2 * shape[axis] else (None, None)


def _symmetry(scores, inside, sizes, axis, mirror, kernels, offset):
    """How much mirrored voxels correlate beyond what their distance explains.

    With m the correlation found and e the one expected without symmetry, the mix of a
    field and its mirror image has ``m = (rho + e) / (1 + rho e)``.
    """
    field = np.zeros(inside.shape)
    field[inside] = scores
    index = np.arange(inside.shape[axis])
    across = mirror - index
    kept = (across >= 0) & (across < len(index)) & (across != index)
    index, across = index[kept], across[kept]
    both = np.take(inside, index, axis) & np.take(inside, across, axis)
    if not both.any():
        return 0.0
    left, right = (np.take(field, i, axis)[both] for i in (index, across))
    found = (left @ right) / (left @ left)
    apart = np.abs(index - across) * sizes[axis]
    n_pairs = np.moveaxis(both, axis, -1).reshape(-1, len(index)).sum(0)
    weights, widths = kernels
    expected = np.average(_kernel(apart, widths) @ weights, weights=n_pairs) - offset
    expected = np.clip(expected / max(weights.sum() - offset, 1e-6), -1, 1)
    return float(np.clip((found - expected) / max(1 - found * expected, 1e-6), 0, 1))
