"""Small images on a coarse grid."""

import nibabel
import numpy as np

AFFINE = np.diag([8.0, 8, 8, 1])
AFFINE[:3, 3] = -16, -20, -24


def save(path, data, affine=AFFINE, dtype=np.float32, tr=2.0):
    image = nibabel.Nifti1Image(data.astype(dtype), affine)
    if data.ndim == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr))
    nibabel.save(image, path)
    return path
