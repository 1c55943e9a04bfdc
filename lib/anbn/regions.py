"""Where to look in a volume: masks and atlases, laid over the runs' grid."""

import io
import re
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import scipy.sparse
from nilearn.datasets import load_mni152_brain_mask
from nilearn.masking import compute_epi_mask, intersect_masks

from anbn import volumes

ROUNDING = 1e-6  # of a mask's height: what is lower is 0
MIN_OVERLAP = 0.8  # of an atlas must lie inside every run's field of view


def overlap(image, other):
    """Share of an image's voxels that are not 0 and lie inside another grid."""
    inside = np.asanyarray(image.dataobj) != 0
    voxels = np.argwhere(inside if inside.ndim == 3 else inside.any(3))
    if not len(voxels):
        return 0.0
    to_other = np.linalg.inv(other.affine) @ image.affine
    found = nibabel.affines.apply_affine(to_other, voxels)
    return ((found >= -0.5) & (found <= np.array(other.shape) - 0.5)).all(1).mean()


def check_space(path, image, runs, *, minimum=0.0):
    """Check that an atlas or mask (its file, and the image in it) lies where runs are.

    Raises
    ------
    BoldError
        File names of different spaces (BIDS entities ``space`` and ``tpl``), or no
        more than ``minimum`` of its voxels inside a run's field of view.
    """
    seen = []
    for run in runs:
        spaces = [
            re.findall(r"(?:^|_)(?:space|tpl)-([A-Za-z0-9]+)", Path(p).name)
            for p in (path, run)
        ]
        if all(spaces) and spaces[0] != spaces[1]:
            raise volumes.BoldError(
                f"{path} is in space {spaces[0][0]}, {run} in {spaces[1][0]}: use both "
                "in one space, or resample one and say so in its name."
            )
        own = volumes.grid(volumes.open_image(run))
        if any(own.same(other) for other in seen):
            continue
        seen.append(own)
        share = overlap(image, own)
        if share <= minimum:
            raise volumes.BoldError(
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
        found = volumes.resample(load_mni152_brain_mask(2), to, "nearest")
    else:
        values, affine = volumes.read_map(mask)
        values = values.astype(float)  # the smallest integers have no absolute value
        highest = values.flat[np.abs(values).argmax()]
        heights = values / highest
        # of one height, but for the rounding of a scale factor
        whole = (np.abs(heights) > ROUNDING).astype(np.uint8)
        if values.ndim != 3 or not np.allclose(heights[whole > 0], 1, atol=1e-3):
            several = np.unique(values)
            raise volumes.BoldError(
                f"{mask}: a mask is 3D, 0 outside and one other value inside, found "
                f"shape {values.shape} and {len(several)} values from {several[0]:g} "
                f"to {several[-1]:g}. Threshold it, or name it as atlas_file."
            )
        image = nibabel.Nifti1Image(whole, affine)
        check_space(mask, image, runs)
        found = volumes.resample(image, to, "nearest")
    inside = np.asanyarray(found.dataobj) != 0
    if not inside.any():
        raise volumes.BoldError(
            f"mask {mask or 'computed from the runs'!r} keeps no voxel of {runs[0]}. "
            "Name a mask file that fits the images."
        )
    return nibabel.Nifti1Image(inside.astype(np.uint8), to.affine)


def _epi_mask(run, to):
    """nilearn's EPI mask of one run."""
    image, total, first = volumes.open_image(run), 0.0, None
    for block in volumes.blocks(run):
        first = np.abs(block[..., 0]).mean() if first is None else first
        total = total + block.sum(3, dtype=np.float64)
    mean = (total / image.shape[3]).astype(np.float32)
    if np.abs(mean).mean() <= 0.1 * first:
        what = "is 0 everywhere" if first == 0 else "has a mean of about 0 (cleaned?)"
        raise volumes.BoldError(
            f"{run} {what}: no mask can be computed from it. Leave it out, or set the "
            "mask to a file or to mni."
        )
    return compute_epi_mask(
        volumes.resample(nibabel.Nifti1Image(mean, image.affine), to)
    )


def atlas_weights(atlas, runs, to, inside=None):
    """What an atlas makes of a volume: ``regions = voxels @ weights``.

    Labels give the mean over a region's voxels; maps are fitted by least squares, in
    ``volumes.extract``, to the voxels that hold something::

        weights[v, k] = [label[v] = k] / n_k        weights = maps

    Parameters
    ----------
    atlas : path-like
        Label (3D) or probabilistic (4D) image, resampled to the grid. One volume that
        was saved as (x, y, z, 1) is of labels if its values are whole numbers, else a
        map. NaN is 0. Names come from a table beside it (see ``region_names``).
    runs : list of path-like
    to : volumes.Grid
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
    data = np.array(volumes.resample(image, to, how).dataobj, float)
    if inside is not None:
        data[~inside] = 0
    of_labels = labels is not None
    if of_labels:
        kept = data != 0
        of_voxel = data[kept].astype(int) - 1
        size = np.bincount(of_voxel, minlength=len(labels))
        entries = (1 / size[of_voxel], (np.arange(len(of_voxel)), of_voxel))
        weights = scipy.sparse.csr_array(entries, shape=(len(of_voxel), len(labels)))
    else:
        labels = np.arange(1, data.shape[3] + 1)
        size, kept = (data != 0).sum((0, 1, 2)), (data != 0).any(3)
    if not size.any():
        raise volumes.BoldError(f"{atlas}: no region has a voxel of the runs' grid")
    names = np.array(region_names(atlas, labels))
    if not size.all():
        print(f"no voxel on the runs' grid, left out: {', '.join(names[size == 0])}")
    if of_labels:
        weights = weights[:, size > 0]
    else:
        weights = data[kept][:, size > 0]
    return weights, kept, names[size > 0].tolist()


def _labels_or_maps(atlas):
    """Ranks of labels (3D, 0 outside) and the labels, or maps (4D) and None."""
    values, affine = volumes.read_map(atlas)
    single = volumes.open_image(atlas, (3, 4)).ndim > 3
    if values.ndim == 4:
        return values.astype(np.float32), None, affine
    whole = volumes.whole_numbers(values)
    if whole is None and single:
        return values.astype(np.float32)[..., None], None, affine
    if whole is None:
        odd = values[np.abs(values - np.rint(values)) > 1e-3]
        raise volumes.BoldError(
            f"{atlas}: expected whole numbers as labels in 3D or maps in 4D, found "
            f"{odd.flat[-1]:g}. A single map is saved as (x, y, z, 1)."
        )
    labels = np.unique(whole[whole != 0])
    if single:
        print(
            f"{atlas}: one volume of whole numbers, taken as {len(labels)} labels "
            f"({labels[0]} to {labels[-1]}). If it is one map, in percent say, divide "
            "it by 100 and save it as float."
        )
    if labels[0] < 0:
        raise volumes.BoldError(
            f"{atlas}: expected labels above 0, found {labels[0]}. Set what is no "
            "region to 0, or save it with an unsigned or larger type if a label did "
            "not fit."
        )
    # ranks: labels of some atlases do not fit what an image is resampled in
    ranks = np.where(whole != 0, 1 + np.searchsorted(labels, whole), 0)
    return ranks.astype(np.int32), labels, affine


def _missing(table):
    """Whether a name or index is missing; other columns may be anything."""
    needed = [name for name in ("index", "name") if name in table]
    cells = table[needed].fillna("").apply(lambda column: column.str.strip())
    return bool(cells.isin(["", "n/a"]).to_numpy().any())


def region_names(atlas, labels):
    """Names of an atlas's regions, from a table beside it with the same stem.

    A ``.tsv`` or ``.csv`` has a column ``name`` and, for labels in another order, one
    called ``index`` (as in BIDS); a ``.txt`` has one name a line. Without a table
    regions are called ``region 12`` after their label.

    Parameters
    ----------
    atlas : path-like
    labels : int array of shape (n_regions,)
        Ascending.

    Returns
    -------
    names : list of str
    """
    stem = re.sub(r"\.nii(\.gz)?$", "", str(atlas))
    beside = [Path(stem + end) for end in (".tsv", ".csv", ".txt")]
    path = next((p for p in beside if p.is_file()), None)
    if path is None:
        return [f"region {label}" for label in labels]
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = [line for line in text.split("\n") if line.strip()]
        table = pd.DataFrame({"name": lines})
        if path.suffix != ".txt":
            separator = "\t" if path.suffix == ".tsv" else ","
            if ";" in lines[0] and separator not in lines[0]:
                separator = ";"
            # NA may be the name of a region
            options = {"sep": separator, "dtype": str, "keep_default_na": False}
            table = pd.read_csv(io.StringIO(text), **options)
            table.columns = table.columns.str.lower()
        index = pd.to_numeric(table["index"]) if "index" in table else labels
        if len(set(index)) < len(index) or _missing(table):
            raise ValueError("an index is there twice, or a name is missing")
    except (OSError, ValueError) as error:
        raise volumes.BoldError(
            f"{path} cannot be read as names of {atlas}: {error}"
        ) from error
    if "name" not in table or ("index" not in table and len(table) != len(labels)):
        raise volumes.BoldError(
            f"{path}: expected a column name and {len(labels)} rows or a column index, "
            f"for {atlas}; found columns {', '.join(table)} and {len(table)} rows"
        )
    names = dict(zip(index, table["name"].str.strip(), strict=True))
    missing = [label for label in labels.tolist() if label not in names]
    if missing:
        raise volumes.BoldError(f"{path}: no name for label {missing[0]} of {atlas}")
    return [names[label] for label in labels.tolist()]
