"""Images: runs checked and brought to one grid, and where to look in them.

A whole 4D image is never in memory: it is read a block of volumes at a time, nilearn
resamples and smooths the block, and what is kept of it are the voxels of the mask or
the time courses of the atlas. The numbers are those of nilearn's maskers, which hold
three to ten times as much in memory and take values that are not finite for 0. CIFTI-2
files hold grayordinates or parcels.
"""

import gzip
import re
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import scipy.sparse
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.cifti2 import BrainModelAxis, Cifti2Image, ParcelsAxis, SeriesAxis
from nilearn.datasets import load_mni152_brain_mask
from nilearn.image import crop_img, resample_img, smooth_img
from nilearn.masking import compute_epi_mask, intersect_masks

from anbn.brain import atlas_names

BLOCK = 2**22  # voxels read at once: 16 MB
SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}
ROUNDING = 1e-6  # of a mask's height: what is lower is 0
MIN_OVERLAP = 0.8  # of an atlas must lie inside every run's field of view
SERIES = [SeriesAxis, BrainModelAxis], [SeriesAxis, ParcelsAxis]  # of CIFTI-2


class BoldError(ValueError):
    """BOLD data cannot be used."""


class Grid(NamedTuple):
    """Where voxels are: shape (x, y, z) and the affine to mm."""

    shape: tuple[int, int, int]
    affine: np.ndarray

    def same(self, other):
        return self.shape == other.shape and np.allclose(
            self.affine, other.affine, atol=1e-3
        )


@contextmanager
def reading(path):
    """What goes wrong is a ``BoldError`` that names the file, or missing content."""
    try:
        yield
    except BoldError:
        raise
    except Exception as error:  # of damage nibabel raises all there is
        path = Path(path)
        gone = path.is_symlink() and not path.exists()
        if not gone and path.is_file() and path.stat().st_size < 1000:
            gone = b"annex/objects" in path.read_bytes()
        if gone:
            raise BoldError(
                f"{path}: its content is not here, only a link of git-annex or "
                "DataLad. Fetch it (`datalad get`), or copy the file itself."
            ) from error
        raise BoldError(
            f"{path} cannot be read as NIfTI: {error}. Copy it again, it may be cut."
        ) from error


def open_image(path, n_dimensions=(4,)):
    """Header of a NIfTI image, checked; its data is not read.

    Parameters
    ----------
    path : path-like
    n_dimensions : tuple of int
        Allowed.

    Returns
    -------
    image : nibabel.Nifti1Image

    Raises
    ------
    BoldError
        Not NIfTI or not there, no numbers, other dimensions, or an affine that is
        unknown (sform and qform code 0), singular, not finite, or of voxels of another
        size than the header says.
    """
    with reading(path):
        image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Image):
        raise BoldError(f"{path}: expected one NIfTI file, found {type(image)}")
    expected = " or ".join(f"{n}D" for n in n_dimensions)
    # one volume may be saved as (x, y, z, 1)
    single = 3 in n_dimensions and image.ndim > 3 and set(image.shape[3:]) == {1}
    if not (image.ndim in n_dimensions or single) or min(image.shape) < 1:
        raise BoldError(f"{path}: expected a {expected} image, found {image.shape}")
    if image.get_data_dtype().kind not in "fiu":
        raise BoldError(f"{path}: expected numbers, found {image.get_data_dtype()}")
    if not (image.header["sform_code"] or image.header["qform_code"]):
        raise BoldError(
            f"{path}: sform and qform codes are 0, so nobody knows where its voxels "
            "are. Set the affine of the image it was made of (nibabel: "
            "image.set_sform(affine, code=1)) and save it again."
        )
    found = image.affine
    if not np.isfinite(found).all() or abs(np.linalg.det(found[:3, :3])) < 1e-9:
        raise BoldError(
            f"{path}: its affine {found[:3].round(3).tolist()} is singular or not "
            "finite. Repair the header's sform."
        )
    sizes, zooms = voxel_sizes(found), image.header.get_zooms()[:3]
    unset = np.allclose(zooms, 1)
    if not unset and not np.allclose(sizes, zooms, rtol=0.1):
        raise BoldError(
            f"{path}: its voxels are {np.round(sizes, 3).tolist()} mm by its affine, "
            f"{np.round(zooms, 3).tolist()} mm by pixdim. One of them is damaged: copy "
            "the file again, or repair its header."
        )
    return image


def read_map(path, *, may_be_empty=False):
    """What a mask or atlas holds: 3D, or 4D of several maps.

    Parameters
    ----------
    path : path-like
        3D or 4D; one volume that was saved as (x, y, z, 1) is 3D.
    may_be_empty : bool
        Whether there may be nothing in it.

    Returns
    -------
    values : float array of shape (x, y, z) or (x, y, z, n_maps)
        NaN, as some write outside the brain, is 0.
    affine : array of shape (4, 4)

    Raises
    ------
    BoldError
        As by ``open_image``; infinite values, or nothing but NaN and 0.
    """
    image = open_image(path, (3, 4))
    with reading(path):
        values = np.asanyarray(image.dataobj)
    kept = [n for n in values.shape[3:] if n > 1]
    values = values.reshape(*values.shape[:3], *kept)
    if values.dtype.kind == "f" and np.isnan(values).any():
        values = np.where(np.isnan(values), 0, values)
    if not np.isfinite(values).all():
        raise BoldError(f"{path}: expected finite values, found infinite ones")
    if not (may_be_empty or values.any()):
        raise BoldError(f"{path}: all of it is 0 or NaN. Is it the right file?")
    return values, image.affine


def whole_numbers(values):
    """Labels that are whole numbers but for rounding; None if others, or all about 0.

    Scale factors of a header give 1.00000001 for 1.
    """
    rounded = np.rint(values)
    if rounded.any() and np.allclose(values, rounded, rtol=1e-6, atol=1e-3):
        return rounded.astype(np.int64)
    return None


def grid(image):
    """Grid of an image's first three dimensions."""
    return Grid(tuple(image.shape[:3]), image.affine)


def header_tr(path):
    """Repetition time (s) of a 4D image's header; 0 or NaN where it says nothing."""
    header = open_image(path).header
    with reading(path):
        return float(header.get_zooms()[3]) * SECONDS[header.get_xyzt_units()[1]]


def volume_blocks(path, inside=None):
    """Volumes of a 4D image, one block after another.

    A voxel that is NaN in every volume lies outside the brain, as SPM writes it, and is
    0.

    Parameters
    ----------
    path : path-like
    inside : bool array of shape (x, y, z), optional
        Voxels that are used; all, if None. In others any value goes.

    Yields
    ------
    rows : slice
        Which volumes.
    block : float32 array of shape (x, y, z, n_block)
        In the machine's byte order.

    Raises
    ------
    BoldError
        A file that is cut short or damaged; values that are not finite.
    """
    image = open_image(path)
    n_block = max(1, BLOCK // int(np.prod(image.shape[:3])))
    opener = gzip.open if str(path).endswith(".gz") else open
    with reading(path), opener(path, "rb") as stream:
        # an open stream is read on; by its name the file would be unpacked every time
        files = image.make_file_map({"image": stream})
        data = type(image).from_file_map(files).dataobj
        for start in range(0, image.shape[3], n_block):
            block = np.array(data[..., start : start + n_block], dtype=np.float32)
            if start == 0:
                outside = np.isnan(block[..., 0])
                if inside is None and outside.any():
                    print(f"{path}: {outside.sum()} voxels are NaN, taken as 0")
            if outside.any():
                missing = np.isnan(block[outside]).all(1)
                # who comes and goes is no outside, but damage
                block[outside] = np.where(missing, 0, np.nan)[:, None]
            _check_finite(block, inside, start, path)
            yield slice(start, start + block.shape[3]), block
        while stream.read(2**20):  # the checksum of a gzip file is at its end
            pass


def _check_finite(block, inside, start, path):
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(block.sum()):  # cheaper than a look at each
            return
    bad = ~np.isfinite(block) & (True if inside is None else inside[..., None])
    if bad.any():
        volume = int(bad.any((0, 1, 2)).argmax())
        voxel = tuple(np.argwhere(bad[..., volume])[0].tolist())
        raise BoldError(
            f"{path}: {bad.sum()} values are NaN or infinite, the first at volume "
            f"{start + volume}, voxel {voxel}. Only a voxel that is NaN in all volumes "
            "counts as outside the brain. Set them to 0 outside the brain, or leave "
            "them out of the mask; inside it, repair the images."
        )


def common_grid(paths, voxel_size=0.0):
    """The grid that all runs are brought to.

    Parameters
    ----------
    paths : list of path-like
    voxel_size : float
        mm; that of the box of nilearn's MNI152 brain mask. With 0 the runs' own grid,
        which must be the same in all.

    Raises
    ------
    BoldError
        Grids differ and no voxel size is given, or a run is not in the box.
    """
    grids = [grid(open_image(path)) for path in paths]
    if not voxel_size:
        first = grids[0]
        for path, own in zip(paths, grids, strict=True):
            if not own.same(first):
                raise BoldError(
                    f"{path} and {paths[0]} have different grids: shapes {own.shape} "
                    f"and {first.shape}, affines {own.affine[:3].round(3).tolist()} "
                    f"and {first.affine[:3].round(3).tolist()}. Set voxel_size (mm) "
                    "to resample all runs to one grid."
                )
        return first
    box = load_mni152_brain_mask(2)
    box = grid(resample_img(box, np.diag([voxel_size] * 3), interpolation="nearest"))
    for path, own in zip(paths, grids, strict=True):
        middle = apply_affine(own.affine, np.array(own.shape) / 2)
        voxel = apply_affine(np.linalg.inv(box.affine), middle)
        if (voxel < 0).any() or (voxel > box.shape).any():
            raise BoldError(
                f"{path}: its middle is at {middle.round().tolist()} mm, far from a "
                "brain in MNI space. Is its affine right?"
            )
    return box


def resample(image, to, interpolation="continuous"):
    """An image on another grid, by nilearn: cubic splines, "linear" or "nearest"."""
    if grid(image).same(to):
        return image
    # unclipped: the range of a block is not that of the whole
    return resample_img(
        image, to.affine, to.shape, interpolation, copy=False, clip=False
    )


def extract(path, to, inside, *, weights=None, smoothing=0.0):
    """Time courses of a run's voxels or regions.

    Parameters
    ----------
    path : path-like
        4D NIfTI.
    to : Grid
        The run is resampled to it (cubic splines) where its own differs.
    inside : bool array of shape (x, y, z)
        Voxels kept, in C order.
    weights : array or sparse array of shape (n_voxels, n_regions), optional
        Of an atlas. Sparse ones are means, ``regions = voxels @ weights``; an array is
        of maps, fitted by least squares to the voxels inside, those of the run that
        are not 0 in all volumes::

            regions = voxels[inside] @ pinv(maps[inside])'
    smoothing : float
        Full width at half maximum of a Gaussian (mm), before the mask is applied.

    Returns
    -------
    data : float32 array of shape (n_times, n_voxels or n_regions)

    Raises
    ------
    BoldError
        Values that are not finite: in the voxels kept, and anywhere if the run is
        smoothed or resampled, which would spread them.
    """
    image = open_image(path)
    n_times, of_maps = image.shape[3], isinstance(weights, np.ndarray)
    same = grid(image).same(to)
    if not (same or smoothing):  # less to resample
        mask = nibabel.Nifti1Image(inside.astype(np.int8), to.affine)
        mask = crop_img(mask, pad=False)
        to, inside = grid(mask), np.asanyarray(mask.dataobj) > 0
    n_columns = inside.sum() if weights is None else weights.shape[1]
    # the fit to maps that overlap needs more digits
    data = np.empty((n_times, n_columns), np.float64 if of_maps else np.float32)
    largest = 0.0  # of each voxel, over volumes
    used = inside if same and not smoothing else None
    for rows, block in volume_blocks(path, used):
        volumes = resample(nibabel.Nifti1Image(block, image.affine), to)
        if smoothing:
            volumes = smooth_img(volumes, smoothing)
        values = np.asanyarray(volumes.dataobj)[inside].T
        data[rows] = values if weights is None else values @ weights
        if of_maps:
            largest = np.maximum(largest, np.abs(values).max(0))
    if of_maps:
        # where resampled volumes are empty, splines leave a ripple
        there = largest > 1e-6 * largest.max()
        if not there.all():
            print(
                f"{path}: {(~there).sum()} of the {len(there)} voxels of the maps are "
                "0 or NaN in all volumes: maps are fitted to the others"
            )
        # empty voxels add nothing to voxels @ maps, so that this is the fit without
        data = data @ np.linalg.pinv(
            weights[there].T @ weights[there], rcond=1e-10, hermitian=True
        )
        data = data.astype(np.float32)
    return data


def check_space(path, image, runs, *, minimum=0.0):
    """Check that an atlas or mask (its file, and the image in it) lies where runs are.

    Raises
    ------
    BoldError
        File names of different spaces (BIDS entities ``space`` and ``tpl``), or no
        more than ``minimum`` of its voxels inside a run's field of view.
    """
    filled = np.asanyarray(image.dataobj) != 0
    filled = np.argwhere(filled if filled.ndim == 3 else filled.any(3))
    seen = []
    for run in runs:
        spaces = [
            re.findall(r"(?:^|_)(?:space|tpl)-([A-Za-z0-9]+)", Path(p).name)
            for p in (path, run)
        ]
        if all(spaces) and spaces[0] != spaces[1]:
            raise BoldError(
                f"{path} is in space {spaces[0][0]}, {run} in {spaces[1][0]}: use both "
                "in one space, or resample one and say so in its name."
            )
        own = grid(open_image(run))
        if any(own.same(other) for other in seen):
            continue
        seen.append(own)
        voxel = apply_affine(np.linalg.inv(own.affine) @ image.affine, filled)
        inside = (voxel >= -0.5) & (voxel <= np.array(own.shape) - 0.5)
        share = inside.all(1).mean()
        if share <= minimum:
            raise BoldError(
                f"only {share:.0%} of {path} lies inside the field of view of {run}, "
                f"expected more than {minimum:.0%}. Are both in the same space?"
            )


def mask_of(mask, runs, to):
    """Mask on the runs' grid.

    Parameters
    ----------
    mask : path-like or {"", "mni"}
        File of two values; "" computes it from each run's mean (nilearn's EPI mask) and
        keeps what all share; "mni" is nilearn's MNI152 brain mask.
    runs : list of path-like
    to : Grid

    Returns
    -------
    mask : uint8 image

    Raises
    ------
    BoldError
        A mask outside the volume, of several values, or without voxels.
    """
    if mask == "":
        found = intersect_masks([_epi_mask(run, to) for run in runs], threshold=1)
    elif mask == "mni":
        found = resample(load_mni152_brain_mask(2), to, "nearest")
    else:
        values, affine = read_map(mask)
        values = values.astype(float)  # the smallest integers have no absolute value
        highest = values.flat[np.abs(values).argmax()]
        heights = values / highest
        # of one height, but for the rounding of a scale factor
        whole = (np.abs(heights) > ROUNDING).astype(np.uint8)
        if values.ndim != 3 or not np.allclose(heights[whole > 0], 1, atol=1e-3):
            several = np.unique(values)
            raise BoldError(
                f"{mask}: a mask is 3D, 0 outside and one other value inside, found "
                f"shape {values.shape} and {len(several)} values from {several[0]:g} "
                f"to {several[-1]:g}. Threshold it, or name it as atlas_file."
            )
        image = nibabel.Nifti1Image(whole, affine)
        check_space(mask, image, runs)
        found = resample(image, to, "nearest")
    inside = np.asanyarray(found.dataobj) != 0
    if not inside.any():
        raise BoldError(
            f"mask {mask or 'computed from the runs'!r} keeps no voxel of {runs[0]}. "
            "Name a mask file that fits the images."
        )
    return nibabel.Nifti1Image(inside.astype(np.uint8), to.affine)


def _epi_mask(run, to):
    """nilearn's EPI mask of one run."""
    image, total, first = open_image(run), 0.0, None
    for _, block in volume_blocks(run):
        first = np.abs(block[..., 0]).mean() if first is None else first
        total = total + block.sum(3, dtype=np.float64)
    mean = (total / image.shape[3]).astype(np.float32)
    if np.abs(mean).mean() <= 0.1 * first:
        what = "is 0 everywhere" if first == 0 else "has a mean of about 0 (cleaned?)"
        raise BoldError(
            f"{run} {what}: no mask can be computed from it. Leave it out, or set the "
            "mask to a file or to mni."
        )
    return compute_epi_mask(resample(nibabel.Nifti1Image(mean, image.affine), to))


def atlas_weights(atlas, runs, to, inside=None):
    """What an atlas makes of a volume: ``regions = voxels @ weights``.

    Labels give the mean over a region's voxels; maps are fitted by least squares, in
    ``extract``, to the voxels that hold something::

        weights[v, k] = [label[v] = k] / n_k        weights = maps

    Parameters
    ----------
    atlas : path-like
        Label (3D) or probabilistic (4D) image, resampled to the grid. One volume that
        was saved as (x, y, z, 1) is of labels if its values are whole numbers, else a
        map. NaN is 0. Names come from a file beside it (see ``region_names``).
    runs : list of path-like
    to : Grid
    inside : bool array of shape (x, y, z), optional
        Voxels outside do not count.

    Returns
    -------
    weights : array or sparse array of shape (n_voxels, n_regions)
        Sparse for labels.
    kept : bool array of shape (x, y, z)
        The voxels, in C order.
    names : list of str

    Raises
    ------
    BoldError
        An atlas in another space or without regions on this grid; labels that are
        negative or no whole numbers.
    """
    values, labels, affine = _labels_or_maps(atlas)
    image = nibabel.Nifti1Image(values, affine)
    check_space(atlas, image, runs, minimum=MIN_OVERLAP)
    how = "linear" if labels is None else "nearest"
    data = np.array(resample(image, to, how).dataobj, float)
    if inside is not None:
        data[~inside] = 0
    if labels is None:
        labels, kept = np.arange(1, data.shape[3] + 1), data.any(3)
        weights = data[kept]
        size = (weights != 0).sum(0)
    else:
        kept = data != 0
        of_voxel = data[kept].astype(int) - 1
        size = np.bincount(of_voxel, minlength=len(labels))
        entries = (1 / size[of_voxel], (np.arange(len(of_voxel)), of_voxel))
        weights = scipy.sparse.csr_array(entries, shape=(len(of_voxel), len(labels)))
    if not size.any():
        raise BoldError(f"{atlas}: no region has a voxel of the runs' grid")
    names = np.array(region_names(atlas, labels))
    if not size.all():
        print(f"no voxel on the runs' grid, left out: {', '.join(names[size == 0])}")
    return weights[:, size > 0], kept, names[size > 0].tolist()


def _labels_or_maps(atlas):
    """Ranks of labels (3D, 0 outside) and the labels, or maps (4D) and None."""
    values, affine = read_map(atlas)
    single = open_image(atlas, (3, 4)).ndim > 3
    if values.ndim == 4:
        return values.astype(np.float32), None, affine
    whole = whole_numbers(values)
    if whole is None and single:
        return values.astype(np.float32)[..., None], None, affine
    if whole is None:
        odd = values.flat[np.abs(values - np.rint(values)).argmax()]
        raise BoldError(
            f"{atlas}: expected whole numbers as labels in 3D or maps in 4D, found "
            f"{odd:g}. A single map is saved as (x, y, z, 1)."
        )
    labels = np.unique(whole[whole != 0])
    if single:
        print(
            f"{atlas}: one volume of whole numbers, taken as {len(labels)} labels "
            f"({labels[0]} to {labels[-1]}). If it is one map, in percent say, divide "
            "it by 100 and save it as float."
        )
    if labels[0] < 0:
        raise BoldError(
            f"{atlas}: expected labels above 0, found {labels[0]}. Set what is no "
            "region to 0, or save it with an unsigned or larger type if a label did "
            "not fit."
        )
    # ranks: labels of some atlases do not fit what an image is resampled in
    ranks = np.where(whole != 0, 1 + np.searchsorted(labels, whole), 0)
    return ranks.astype(np.int32), labels, affine


def region_names(atlas, labels):
    """Names of an atlas's regions, from a text file beside it (see ``atlas_names``).

    Without one regions are called ``region 12`` after their label.

    Parameters
    ----------
    atlas : path-like
    labels : int array of shape (n_regions,)
        Ascending.

    Returns
    -------
    names : list of str
    """
    file = atlas_names.file_beside(atlas)
    if file is None:
        return [f"region {label}" for label in labels]
    names = atlas_names.read(file, BoldError)
    if isinstance(names, list):
        if len(names) != len(labels):
            raise BoldError(
                f"{file}: expected {len(labels)} names or a column index, for {atlas}; "
                f"found {len(names)} names"
            )
        names = dict(zip(labels.tolist(), names, strict=True))
    missing = [label for label in labels.tolist() if label not in names]
    if missing:
        raise BoldError(f"{file}: no name for label {missing[0]} of {atlas}")
    return [names[label] for label in labels.tolist()]


def read_cifti(path):
    """Grayordinates of a ``.dtseries.nii`` or parcels of a ``.ptseries.nii``.

    Returns
    -------
    data : float32 array of shape (n_times, n_grayordinates or n_parcels)
    names : list of str
        Parcels by name, grayordinates as ``cortex left 123``: structure, and vertex or
        place in the list of its voxels.

    Raises
    ------
    BoldError
        Not CIFTI-2, or not a time series.
    """
    series, space = _axes(path)
    with reading(path):
        data = np.array(nibabel.load(path).dataobj, dtype=np.float32)
        expected = len(series), len(space)
        if data.shape != expected:
            raise ValueError(f"{data.shape} values where the header has {expected}")
    # what was not measured is NaN in some programs: a constant column is left out
    data[:, np.isnan(data).all(0)] = 0
    if not isinstance(space, BrainModelAxis):
        return data, [str(name) for name in space.name]
    names = []
    for structure, _, model in space.iter_structures():
        name = structure.removeprefix("CIFTI_STRUCTURE_").replace("_", " ").lower()
        places = range(len(model)) if model.volume_mask.any() else model.vertex
        names += [f"{name} {place}" for place in places]
    return data, names


def cifti_tr(path):
    """Repetition time (s) of a CIFTI time series; NaN if its header says none."""
    series = _axes(path)[0]
    return float(series.step) if series.unit == "SECOND" else np.nan


def cifti_volumes(path):
    """Volumes of a CIFTI time series, of its header."""
    return len(_axes(path)[0])


def _axes(path):
    with reading(path):
        image = nibabel.load(path)
        if isinstance(image, Cifti2Image):
            axes = image.header.get_axis(0), image.header.get_axis(1)
            if [type(axis) for axis in axes] in SERIES:
                return axes
    raise BoldError(
        f"{path}: expected a CIFTI-2 time series (.dtseries.nii, .ptseries.nii)"
    )
