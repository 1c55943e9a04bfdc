"""Loading BOLD: volumes with a mask, tables of regions, the Alice data set.

A subject's data is a float32 array (n_times, n_voxels or n_regions).
"""

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
from nilearn.maskers import NiftiMasker
from nilearn.masking import unmask

from anbn import hemodynamics
from anbn.paths import resolve

ALICE_REGIONS = ["LATL", "RATL", "LPTL", "LIPL", "LPreM", "LIFG"]
ALICE_EMPTY = "s33"  # all zeros as published
MIN_COVERAGE = 0.8  # of a mask's voxels must vary in every subject


class BoldError(ValueError):
    """BOLD data cannot be used."""


def check_bold(data, source, *, n_times=None):
    """Check one subject's data and cut it to the story.

    Parameters
    ----------
    data : array of shape (n_volumes, n_voxels or n_regions)
    source : str
        Named in errors.
    n_times : int, optional
        Volumes of the story; further ones are cut off.

    Returns
    -------
    data : float32 array of shape (n_times, n_voxels or n_regions)

    Raises
    ------
    BoldError
        NaN or infinite values, a constant region, fewer volumes than the story.
    """
    data = np.asarray(data)
    if data.ndim != 2:
        raise BoldError(
            f"{source}: expected (volumes x regions), found shape {data.shape}"
        )
    n_times = len(data) if n_times is None else n_times
    if len(data) < n_times:
        raise BoldError(
            f"{source} has {len(data)} volumes, the story needs {n_times}. Shorten the "
            "story (n_words or n_volumes of stage 01) or check tr and first_volume."
        )
    data = data[:n_times]
    bad = np.argwhere(~np.isfinite(data))
    if len(bad):
        raise BoldError(
            f"{source}: {len(bad)} values are NaN or infinite, the first at volume "
            f"{bad[0][0]}, column {bad[0][1]}. Mask or interpolate them first."
        )
    constant = np.flatnonzero(np.ptp(data, axis=0) == 0)
    if len(constant):
        raise BoldError(
            f"{source}: {len(constant)} of {data.shape[1]} columns are constant, the "
            f"first is column {constant[0]}. Leave this subject or region out."
        )
    return np.ascontiguousarray(data, dtype=np.float32)


def load_alice(radius="6mm"):
    """Region time courses of 27 people who listened to Alice in Wonderland.

    Returns
    -------
    bold : dict of str to array of shape (362, 6)
        Raw units, by subject. s33, all zeros, is left out.
    regions : list of str
    """
    folder = resolve(f"alice:alice_data_shared/{radius}")
    loaded = {path.name[:3]: np.loadtxt(path) for path in sorted(folder.iterdir())}
    del loaded[ALICE_EMPTY]
    return loaded, ALICE_REGIONS


def load_table(path):
    """One subject's regions from a TSV or CSV table with a header row.

    Returns
    -------
    data : array of shape (n_times, n_regions)
    names : list of str
    """
    separator = "\t" if str(path).endswith(".tsv") else ","
    table = pd.read_csv(path, sep=separator)
    words = [c for c in table if not pd.api.types.is_numeric_dtype(table[c])]
    if words:
        raise BoldError(f"{path}: expected numbers, found text in column {words[0]!r}")
    return table.to_numpy(float), [str(c) for c in table]


def load_volumes(path, mask):
    """One subject's voxels from a 4D NIfTI.

    Parameters
    ----------
    path : path-like or image
    mask : image
        3D; the data is resampled to its grid by nilearn where grids differ.

    Returns
    -------
    data : float32 array of shape (n_times, n_voxels)
    """
    try:
        image = nibabel.load(path) if isinstance(path, str | Path) else path
        if len(image.shape) != 4:
            raise BoldError(f"{path}: expected a 4D image, found shape {image.shape}")
        masker = NiftiMasker(mask, standardize=None, dtype="float32")
        # nilearn sets NaN to 0 unless it is looked for first
        if not np.isfinite(np.asanyarray(image.dataobj)).all():
            raise BoldError(
                f"{path} holds NaN or infinite values. Repair or mask them."
            )
        return masker.fit_transform(image)
    except (OSError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        raise BoldError(f"{path} cannot be read as NIfTI: {error}") from error


def load_subjects(files, mask_file=None):
    """Several subjects' own data: all NIfTI (with a mask) or all tables.

    Parameters
    ----------
    files : list of str
        One 4D NIfTI or one TSV/CSV a subject.
    mask_file : str, optional
        Mask image; without it nilearn computes one from the first subject.

    Returns
    -------
    bold : dict of str to array of shape (n_volumes, n_voxels or n_regions)
    names : list of str or None
        Region names of tables.
    mask : image or None
        Mask of volumes, without the voxels that are constant in some subject.

    Raises
    ------
    BoldError
        Tables of different regions, unreadable images, a mask that misses the data.
    """
    paths = [resolve(file) for file in files]
    if not paths:
        raise BoldError("bold_files is empty: name one file a subject")
    if not any(".nii" in p.name for p in paths):
        tables = {f: load_table(p) for f, p in zip(files, paths, strict=True)}
        names = next(iter(tables.values()))[1]
        for file, (_, found) in tables.items():
            if found != names:
                raise BoldError(f"{file}: columns {found} differ from {names}")
        return {file: data for file, (data, _) in tables.items()}, names, None
    if mask_file:
        mask = nibabel.load(resolve(mask_file))
    else:
        mask = NiftiMasker(standardize=None).fit(nibabel.load(paths[0])).mask_img_
    loaded = {f: load_volumes(p, mask) for f, p in zip(files, paths, strict=True)}
    varies = np.all([np.ptp(data, axis=0) > 0 for data in loaded.values()], axis=0)
    if varies.mean() < MIN_COVERAGE:
        raise BoldError(
            f"only {varies.mean():.0%} of the mask's {len(varies)} voxels vary in "
            f"every subject, expected {MIN_COVERAGE:.0%}. Does the mask fit the images?"
        )
    if not varies.all():
        print(f"{(~varies).sum()} voxels are constant in some subject: left out")
        mask = unmask(varies.astype(np.uint8), mask)
    return {file: data[:, varies] for file, data in loaded.items()}, None, mask


def clean(bold, basis):
    """Remove confounds from every subject and standardise.

    Parameters
    ----------
    bold : list of arrays of shape (n_times, n_voxels)
    basis : array of shape (n_times, n_kept)
        From ``hemodynamics.orthonormal``.

    Returns
    -------
    cleaned : float32 array of shape (n_subjects, n_times, n_voxels)
    """
    cleaned = [
        hemodynamics.zscore(hemodynamics.remove(hemodynamics.zscore(b), basis))
        for b in bold
    ]
    return np.stack(cleaned).astype(np.float32)
