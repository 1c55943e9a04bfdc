"""Template images: what is in a file or folder, on the grid of a mask.

A template is a weight for every voxel: a continuous map, or the share of the voxel that
a labelled region fills. Label numbers themselves are never interpolated.
"""

import tempfile
import warnings
from pathlib import Path

import nibabel
import numpy as np
from nilearn.image.resampling import BoundingBoxError

from anbn.brain import atlas_names, images
from anbn.brain.atlas_names import stem_of
from anbn.core import downloads
from anbn.core.paths import tidy

MIN_IN_VIEW = 0.8  # of a template's weight must lie inside the mask's field of view
MIN_IN_MASK = 0.5  # of all templates' weight must lie in the mask


class TemplateError(ValueError):
    """Templates cannot be used."""


def load_image_templates(path, mask, names=None, source=None):
    """Templates of an image or of a folder, on a mask's grid.

    Parameters
    ----------
    path : Path
        A 4D image (one template a volume), a 3D image of labels (whole numbers: one
        template a label) or of one continuous map, a folder (one template a file), or
        a .zip of such. (x, y, z, 1) is 3D. What systems leave behind in folders and
        zip files is passed over.
    mask : image
    names : list of str or dict of int to str or None
        Instead of those in a text file beside the image (see ``atlas_names``). Equal
        names are one template, their sum.
    source : str or None
        What errors call the templates; the path, if None.

    Returns
    -------
    templates : float32 array of shape (n_templates, n_voxels)
    names : list of str

    Raises
    ------
    TemplateError
        A file that is no image, names that do not fit, templates in another space.
    """
    source = source or path
    if path.suffix == ".zip":
        with tempfile.TemporaryDirectory() as folder:
            try:
                downloads.unpack(path, folder)
            except downloads.ArchiveError as error:
                raise TemplateError(str(error)) from error
            files = _images_of(Path(folder).rglob("*"))
            folders = {file.parent for file in files}
            inside = folders.pop() if len(folders) == 1 else Path(folder)
            names = _names_beside(path.with_suffix(".nii")) if names is None else names
            inside = files[0] if len(files) == 1 else inside
            return load_image_templates(inside, mask, names, source)
    if path.is_dir():
        regions = _of_folder(path)
    else:
        names = _names_beside(path) if names is None else names
        regions = _of_file(path, names)
    templates, weights = {}, {}
    for name, values, affine in regions:
        values, weight = on_grid(values, affine, mask)
        templates[name] = templates.get(name, 0) + values
        weights[name] = weights.get(name, 0) + weight
    _same_space(weights, source)
    empty = [name for name, values in templates.items() if not values.any()]
    if empty:
        print(f"{source}: left out, nothing of them in the mask: {', '.join(empty)}")
    kept = [name for name in templates if name not in empty]
    return np.stack([templates[name] for name in kept]).astype(np.float32), kept


def _images_of(paths):
    return [path for path in tidy(paths) if stem_of(path) != path.name]


def _of_folder(folder):
    """Name, values and affine of every file's single template."""
    files = _images_of(folder.iterdir())
    if not files:
        raise TemplateError(f"{folder} has no .nii or .nii.gz in it: one a template.")
    for path in files:
        values, labels, affine = _read(path)
        if values.ndim == 4 or len(labels) > 1:
            found = "volumes" if values.ndim == 4 else f"{len(labels)} labels"
            raise TemplateError(
                f"{path} holds {found}; in a folder of templates every file is one 3D "
                "map. Name the file itself to use them all."
            )
        yield stem_of(path), values, affine


def _of_file(path, names):
    """Name, values and affine of every volume, label, or of the single map."""
    values, labels, affine = _read(path)
    if values.ndim == 4:
        called = _called(range(1, values.shape[3] + 1), names, path)
        for number, name in sorted(called.items()):
            yield name, values[..., number - 1], affine
    elif len(labels) > 1:
        for number, name in _called(labels.tolist(), names, path).items():
            yield name, np.abs(values - number) < 0.5, affine
    else:
        yield stem_of(path), values, affine


def _read(path):
    """Values of 3 or 4 dimensions, the labels if they are such, and the affine."""
    try:
        values, affine = images.read_map(path, may_be_empty=True)
    except images.BoldError as error:
        raise TemplateError(str(error)) from error
    whole = images.whole_numbers(np.unique(values)) if values.ndim == 3 else None
    labels = np.unique(whole[whole != 0]) if whole is not None else np.array([])
    n_negative = (labels < 0).sum()
    if n_negative == 1 and len(labels) > 2:
        raise TemplateError(
            f"{path} holds whole numbers, {labels[0]} among {len(labels) - 1} positive "
            "ones: labels or a map? Set what is no region to 0."
        )
    return values, labels[:0] if n_negative else labels, affine


def _called(numbers, names, path):
    """Name of every number that has one; by number where none are given."""
    if names is None:
        return {number: f"{stem_of(path)} {number}" for number in numbers}
    if not isinstance(names, dict):
        if len(names) != len(numbers):
            raise TemplateError(
                f"{path} holds {len(numbers)} templates, and there are {len(names)} "
                "names for them. Give one name a template, or `name, number, ...`."
            )
        return dict(zip(numbers, names, strict=True))
    known = {number: name for number, name in names.items() if number in numbers}
    if not known:
        raise TemplateError(
            f"{path} holds templates {numbers[0]} to {numbers[-1]}; none of these has "
            f"a name: there are names for {', '.join(map(str, sorted(names)[:5]))} ..."
        )
    return known


def _names_beside(path):
    file = atlas_names.file_beside(path)
    return None if file is None else atlas_names.read(file, TemplateError)


def on_grid(values, affine, mask):
    """A template's weights in a mask's voxels, and where its weight lies.

    Voxels much smaller than the mask's are averaged first: linear interpolation alone
    would look at eight of them and miss the rest.

    Parameters
    ----------
    values : array of shape (n_x, n_y, n_z)
    affine : array of shape (4, 4)
    mask : image

    Returns
    -------
    values : float32 array of shape (n_voxels,)
    weight : array of shape (3,)
        Sum of absolute values: all, in the mask's field of view, in the mask.
    """
    values, affine = _blocks(np.asarray(values, np.float32), affine, mask)
    inside = np.asarray(mask.dataobj).reshape(mask.shape[:3]) > 0
    where = np.argwhere(values)
    weight = np.abs(values[tuple(where.T)]).astype(float)
    to_mask = np.linalg.inv(mask.affine) @ affine
    voxel = np.rint(nibabel.affines.apply_affine(to_mask, where))
    in_view = ((voxel >= 0) & (voxel < inside.shape)).all(1)
    in_mask = inside[tuple(voxel[in_view].astype(int).T)]
    image = nibabel.Nifti1Image(values, affine)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Resampling binary images")
        try:
            to = images.Grid(inside.shape, mask.affine)
            image = images.resample(image, to, "linear")
        except BoundingBoxError:  # none of it in view, as the weights say
            image = nibabel.Nifti1Image(np.zeros(inside.shape), mask.affine)
    sums = [weight.sum(), weight[in_view].sum(), weight[in_view][in_mask].sum()]
    return np.asarray(image.dataobj, np.float32)[inside], np.array(sums)


def _blocks(values, affine, mask):
    """Means over blocks of two thirds of the mask's voxels, and their affine."""
    sizes = nibabel.affines.voxel_sizes(affine)
    coarse = nibabel.affines.voxel_sizes(mask.affine).min()
    n = np.maximum(1, np.rint(coarse / 1.5 / sizes)).astype(int)
    if (n == 1).all():
        return values, affine
    values = np.pad(values, [(0, extra) for extra in -np.array(values.shape) % n])
    x, y, z = values.shape // n
    values = values.reshape(x, n[0], y, n[1], z, n[2]).mean((1, 3, 5))
    affine = affine @ nibabel.affines.from_matvec(np.diag(n), (n - 1) / 2)
    return values, affine


def _same_space(weights, source):
    """Refuse templates that lie elsewhere than the mask."""
    advice = (
        "Is it in another space (native, Talairach)? Bring both to one space, such as "
        "MNI152, or use a mask of the whole brain."
    )
    for name, (whole, in_view, _) in weights.items():
        if in_view < MIN_IN_VIEW * whole:
            raise TemplateError(
                f"{source}: {in_view / whole:.0%} of template {name!r} lie inside the "
                f"mask's field of view, {MIN_IN_VIEW:.0%} are needed. {advice}"
            )
    whole, _, in_mask = np.sum(list(weights.values()), axis=0)
    if in_mask < MIN_IN_MASK * whole or whole == 0:
        raise TemplateError(
            f"{source}: {in_mask / max(whole, 1e-9):.0%} of the templates lie in the "
            f"mask, {MIN_IN_MASK:.0%} are needed. {advice}"
        )
