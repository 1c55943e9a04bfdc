"""Template images: what is in a file or folder, on the grid of a mask.

A template is a weight for every voxel: a continuous map, or the share of the voxel that
a labelled region fills. Label numbers themselves are never interpolated.
"""

import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
from nilearn.image.resampling import BoundingBoxError

from anbn.brain import atlas_names, images
from anbn.brain.atlas_names import stem_of
from anbn.core import downloads
from anbn.core.paths import tidy

BLOCK = 2**24  # voxels read at once: 64 MB
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
            files = [p for p in tidy(Path(folder).rglob("*")) if stem_of(p) != p.name]
            folders = {p.parent for p in files}
            inside = files[0] if len(files) == 1 else Path(folder)
            if len(files) > 1 and len(folders) == 1:
                inside = folders.pop()
            names = _names_beside(path.with_suffix(".nii")) if names is None else names
            return load_image_templates(inside, mask, names, source)
    if path.is_dir():
        files = [p for p in tidy(path.iterdir()) if stem_of(p) != p.name]
        if not files:
            raise TemplateError(f"{path} has no .nii or .nii.gz in it: one a template.")
        regions = _of_folder(files)
    else:
        found = names if names is not None else _names_beside(path)
        regions = _of_file(path, found)
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


def _of_folder(files):
    """Name, values and affine of every file's single template."""
    for path in files:
        with _as_template():
            image = images.open_image(path, (3, 4))
        if image.shape[3:] not in ((), (1,)):
            raise TemplateError(
                f"{path} has shape {image.shape}; in a folder of templates every file "
                "is one 3D map. Name the file itself to use its volumes."
            )
        values = _read(path, image).reshape(image.shape[:3])
        labels = _labels(values, path)
        if len(labels) > 1:
            raise TemplateError(
                f"{path} holds {len(labels)} labels; in a folder of templates "
                "every file is one map. Name the file itself to use its labels."
            )
        yield stem_of(path), values, image.affine


def _of_file(path, names):
    """Name, values and affine of every volume, label, or of the single map."""
    with _as_template():
        image = images.open_image(path, (3, 4))
    if len(image.shape) == 4 and image.shape[3] > 1:
        numbers = range(1, image.shape[3] + 1)
        called = _called(numbers, names, path)
        step = max(1, BLOCK // int(np.prod(image.shape[:3])))
        for start in range(0, len(numbers), step):
            block = _read(path, image, start, start + step)
            for k in range(block.shape[3]):
                if start + k + 1 in called:
                    yield called[start + k + 1], block[..., k], image.affine
        return
    values = _read(path, image).reshape(image.shape[:3])
    labels = _labels(values, path)
    if len(labels) < 2:
        yield stem_of(path), values, image.affine
        return
    for number, name in _called(labels, names, path).items():
        yield name, np.abs(values - number) < 0.5, image.affine


def _called(numbers, names, path):
    """Name of every number that has one; by number where none are given."""
    numbers = [int(number) for number in numbers]
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
    values, affine = _blocks(
        np.nan_to_num(np.asarray(values, np.float32)), affine, mask
    )
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


def _labels(values, path):
    """Whole numbers above zero, if all values are such; none for a continuous map."""
    whole = images.whole_numbers(np.unique(values[np.isfinite(values)]))
    if whole is None:
        return np.array([])
    labels = np.unique(whole[whole != 0])
    n_negative = (labels < 0).sum()
    if n_negative == 1 and len(labels) > 2:
        raise TemplateError(
            f"{path} holds whole numbers, {labels[0]} among {len(labels) - 1} positive "
            "ones: labels or a map? Set what is no region to 0."
        )
    return np.array([]) if n_negative else labels


@contextmanager
def _as_template():
    """Errors of reading, as those of templates."""
    try:
        yield
    except images.BoldError as error:
        raise TemplateError(str(error)) from error


def _read(path, image, *block):
    """Values in float32: all, or volumes from and to."""
    part = (..., slice(*block)) if block else ...
    with _as_template(), images.reading(path):
        return np.asarray(image.dataobj[part], np.float32)
