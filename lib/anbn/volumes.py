"""Images: 4D runs, checked and brought to one grid, a block of volumes at a time.

A whole 4D image is never in memory: what is kept of a block are the voxels of the mask
or the time courses of the atlas.
"""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nilearn.datasets import load_mni152_brain_mask
from nilearn.image import resample_img, smooth_img

BLOCK = 2**22  # voxels read at once: 16 MB
SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}


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
    try:
        yield
    except BoldError:
        raise
    except Exception as error:  # of damage nibabel raises all there is
        raise BoldError(
            f"{path} cannot be read as NIfTI: {error}. Copy it again, it may be cut."
        ) from error


def check_content(path):
    """Refuse a file whose content was not fetched.

    Raises
    ------
    BoldError
        A link to nothing, or the line that git-annex leaves in place of a file.
    """
    path = Path(path)
    gone = path.is_symlink() and not path.exists()
    if not gone and path.is_file() and path.stat().st_size < 1000:
        gone = b"annex/objects" in path.read_bytes()
    if gone:
        raise BoldError(
            f"{path}: its content is not here, only a link of git-annex or DataLad. "
            "Fetch it (`datalad get`), or copy the file itself."
        )


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
        Not NIfTI, no numbers, other dimensions, or an affine that is unknown (sform
        and qform code 0), singular, not finite, or of voxels of another size than the
        header says. (Nobody can see that an affine is shifted or turned.)
    """
    check_content(path)
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


def read_map(path):
    """What a mask or atlas holds: 3D, or 4D of several maps.

    Parameters
    ----------
    path : path-like
        3D or 4D; one volume that was saved as (x, y, z, 1) is 3D.

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
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), 0, values)
    if not np.isfinite(values).all():
        raise BoldError(f"{path}: expected finite values, found infinite ones")
    if not values.any():
        raise BoldError(f"{path}: all of it is 0 or NaN. Is it the right file?")
    return values, image.affine


def whole_numbers(values):
    """Labels that are whole numbers but for rounding; None if they are others.

    Scale factors of a header give 1.00000001 for 1.
    """
    rounded = np.rint(values)
    if np.allclose(values, rounded, rtol=1e-6, atol=1e-3):
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


def blocks(path, *, everywhere=True) -> Iterator[np.ndarray]:
    """Volumes of a 4D image, one block after another.

    A voxel that is NaN in every volume lies outside the brain, as SPM writes it, and is
    0.

    Parameters
    ----------
    path : path-like
    everywhere : bool
        Whether other values that are not finite are refused; else they are left to
        whoever knows which voxels are kept.

    Yields
    ------
    block : float32 array of shape (x, y, z, n_block)
        In the machine's byte order.

    Raises
    ------
    BoldError
        A file that is cut short or damaged; values that are not finite.
    """
    outside = None
    image = open_image(path)
    n_block = max(1, BLOCK // int(np.prod(image.shape[:3])))
    opener = gzip.open if str(path).endswith(".gz") else open
    with reading(path), opener(path, "rb") as stream:
        # an open stream is read on; by its name the file would be unpacked every time
        files = image.make_file_map({"image": stream})
        data = type(image).from_file_map(files).dataobj
        for start in range(0, image.shape[3], n_block):
            block = np.array(data[..., start : start + n_block], dtype=np.float32)
            if outside is None:
                outside = np.isnan(block[..., 0])
                if everywhere and outside.any():
                    print(f"{path}: {outside.sum()} voxels are NaN, taken as 0")
            if outside.any():
                missing = np.isnan(block[outside]).all(1)
                # who comes and goes is no outside, but damage
                block[outside] = np.where(missing, 0, np.nan)[:, None]
            if everywhere:
                _check_finite(block, start, path)
            yield block
        while stream.read(2**20):  # the checksum of a gzip file is at its end
            pass


def _check_finite(block, start, path):
    with np.errstate(over="ignore"):
        if np.isfinite(block.sum()):  # cheaper than a look at each
            return
    bad = np.argwhere(~np.isfinite(block))
    if len(bad):
        *voxel, volume = bad[bad[:, 3].argmin()].tolist()
        raise BoldError(
            f"{path}: {len(bad)} values are NaN or infinite, the first at volume "
            f"{start + volume}, voxel {tuple(voxel)}. Only a voxel that is NaN in all "
            "volumes counts as outside the brain. Set them to 0 outside the brain; "
            "inside it, repair the images."
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
    if voxel_size:
        return _mni_grid(paths, voxel_size)
    first = grid(open_image(paths[0]))
    for path in paths[1:]:
        found = grid(open_image(path))
        if not found.same(first):
            raise BoldError(
                f"{path} and {paths[0]} have different grids: shapes {found.shape} and "
                f"{first.shape}, affines {found.affine[:3].round(3).tolist()} and "
                f"{first.affine[:3].round(3).tolist()}. Set voxel_size (mm) to "
                "resample all runs to one grid."
            )
    return first


def _mni_grid(paths, voxel_size):
    affine = np.diag([voxel_size] * 3)
    box = load_mni152_brain_mask(2)
    found = grid(resample_img(box, affine, interpolation="nearest"))
    for path in paths:
        own = grid(open_image(path))
        middle = apply_affine(own.affine, np.array(own.shape) / 2)
        voxel = apply_affine(np.linalg.inv(found.affine), middle)
        if (voxel < 0).any() or (voxel > found.shape).any():
            raise BoldError(
                f"{path}: its middle is at {middle.round().tolist()} mm, far from a "
                "brain in MNI space. Is its affine right?"
            )
    return found


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
    spreads = bool(smoothing) or not grid(image).same(to)
    if spreads and not smoothing:
        to, inside = _crop(to, inside)
    keep = np.ravel_multi_index(np.nonzero(inside), inside.shape, order="F")
    n_columns = len(keep) if weights is None else weights.shape[1]
    of_maps = isinstance(weights, np.ndarray)
    # the fit to maps that overlap needs more digits
    kind = np.float64 if of_maps else np.float32
    data = np.empty((image.shape[3], n_columns), kind)
    largest = np.zeros(len(keep), np.float32)  # of each voxel, over volumes
    done = 0
    for block in blocks(path, everywhere=spreads):
        volumes = resample(nibabel.Nifti1Image(block, image.affine), to)
        if smoothing:
            volumes = smooth_img(volumes, smoothing)
        flat = np.asanyarray(volumes.dataobj).reshape(inside.size, -1, order="F").T
        for volume in flat:
            values = np.take(volume, keep)
            if not np.isfinite(values).all():
                first = keep[~np.isfinite(values)][0]
                voxel = np.unravel_index(first, inside.shape, order="F")
                raise BoldError(
                    f"{path}: {(~np.isfinite(values)).sum()} of the voxels kept are "
                    f"NaN or infinite, the first at volume {done}, voxel "
                    f"{tuple(int(i) for i in voxel)}. Repair the images, or leave "
                    "these voxels out of the mask."
                )
            data[done] = values if weights is None else values @ weights
            if of_maps:
                np.maximum(largest, np.abs(values), out=largest)
            done += 1
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


def _crop(to, inside):
    """The part of a grid that holds all of a mask: less to resample."""
    voxels = np.argwhere(inside)
    low, high = voxels.min(0), voxels.max(0) + 1
    box = tuple(slice(*ends) for ends in zip(low, high, strict=True))
    affine = to.affine @ from_matvec(np.eye(3), low)
    return Grid(inside[box].shape, affine), inside[box]
