"""Time series in CIFTI-2 files: grayordinates or parcels."""

import nibabel
import numpy as np
from nibabel.cifti2 import BrainModelAxis, Cifti2Image

from anbn.volumes import BoldError, reading


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
    if isinstance(space, BrainModelAxis):
        names = []
        for structure, _, model in space.iter_structures():
            name = structure.removeprefix("CIFTI_STRUCTURE_").replace("_", " ").lower()
            places = range(len(model)) if model.volume_mask.any() else model.vertex
            names += [f"{name} {place}" for place in places]
    else:
        names = [str(name) for name in space.name]
    return data, names


def cifti_tr(path):
    """Repetition time (s) of a CIFTI time series."""
    series, _ = _axes(path)
    return float(series.step) if series.unit == "SECOND" else np.nan


def cifti_volumes(path):
    """Volumes of a CIFTI time series, of its header."""
    series, _ = _axes(path)
    return len(series)


def _axes(path):
    with reading(path):
        image = nibabel.load(path)
        if isinstance(image, Cifti2Image):
            axes = image.header.get_axis(0), image.header.get_axis(1)
            if hasattr(axes[0], "step") and hasattr(axes[1], "name"):
                return axes
    raise BoldError(
        f"{path}: expected a CIFTI-2 time series (.dtseries.nii, .ptseries.nii)"
    )
