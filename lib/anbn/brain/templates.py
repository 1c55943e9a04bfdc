"""Templates of known brain networks, and labels for the networks that match them."""

from copy import deepcopy
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from nilearn import datasets
from nilearn.image import coord_transform
from scipy.spatial import cKDTree
from tqdm import tqdm

from anbn.brain import template_images
from anbn.brain.template_images import TemplateError
from anbn.core import downloads, style
from anbn.core.params import did_you_mean
from anbn.core.paths import resolve
from anbn.stats import matching, spatial_null, timeseries

OFFLINE = ("seitzman", "power")
DOWNLOADED = ("smith2009", "yeo2011_7", "yeo2011_17", "msdl", "difumo64")
BLOCK = 50  # surrogates correlated at once
COLUMNS = ["label", "template", "r", "dice", "p", "best", "best_r"]  # of labels
YEO_7 = [
    *("Visual", "Somatomotor", "Dorsal attention", "Ventral attention"),
    *("Limbic", "Frontoparietal", "Default"),
]
SMITH_10 = [
    *("Visual medial", "Visual occipital pole", "Visual lateral", "Default mode"),
    *("Cerebellum", "Sensorimotor", "Auditory", "Executive control"),
    *("Frontoparietal right", "Frontoparietal left"),
]


def load_templates(spec, mask):
    """Templates of brain networks by name or path, in the voxels of a mask.

    Parameters
    ----------
    spec : str or Path
        ``seitzman`` (300 regions in 13 networks) or ``power`` (264 regions, which
        nilearn does not group), from coordinates that come with nilearn;
        ``smith2009``, ``yeo2011_7``, ``yeo2011_17``, ``msdl`` or ``difumo64``, which
        nilearn downloads once; or the path of an image or of a folder of images (see
        ``anbn.brain.template_images.load_image_templates``).
    mask : image

    Returns
    -------
    templates : float32 array of shape (n_templates, n_voxels)
        Without those that are zero in the whole mask (a line says which).
    names : list of str

    Raises
    ------
    TemplateError
        Unknown name, a download that failed, a file that cannot be used, or templates
        in another space than the mask.
    """
    spec = str(spec)
    if spec in OFFLINE:
        width = 1.2 * np.sqrt((mask.affine[:3, :3] ** 2).sum(0)).max()
        make = seitzman_templates if spec == "seitzman" else _power_templates
        maps, names = make(mask, sigma=max(6.0, width))
        return maps.astype(np.float32), names
    if spec in DOWNLOADED:
        image, names = _download(spec)
        return template_images.load_image_templates(image, mask, names, source=spec)
    return template_images.load_image_templates(_resolve(spec), mask)


def check_specs(specs):
    """Refuse sets of templates that are not there, before maps are made.

    Raises
    ------
    TemplateError
        An unknown name or path, or no set at all.
    """
    if not specs:
        raise TemplateError(
            f"template_sets is empty: name one, such as {', '.join(OFFLINE)}"
        )
    for spec in map(str, specs):
        if spec not in (*OFFLINE, *DOWNLOADED):
            _resolve(spec)


def _resolve(spec):
    """Path of templates that are in a file or folder."""
    try:
        return resolve(spec)
    except FileNotFoundError as error:
        if "/" in spec or ".nii" in spec:
            raise TemplateError(f"templates {error}") from error
        known = [*OFFLINE, *DOWNLOADED]
        raise TemplateError(
            f"templates {spec!r} are unknown{did_you_mean(spec, known)}. There are "
            f"{', '.join(known)}, or the path of a 4D image, a label image or a folder "
            "of images."
        ) from error


def _download(spec):
    """Image and names of an atlas, by nilearn's fetchers."""
    yeo = datasets.fetch_atlas_yeo_2011
    fetch = {
        "smith2009": datasets.fetch_atlas_smith_2009,
        "yeo2011_7": partial(yeo, n_networks=7),
        "yeo2011_17": partial(yeo, n_networks=17),
        "msdl": datasets.fetch_atlas_msdl,
        "difumo64": datasets.fetch_atlas_difumo,
    }
    try:
        atlas = fetch[spec](verbose=0)
    except (OSError, ValueError) as error:
        raise TemplateError(
            f"templates {spec!r} could not be downloaded: {error}. nilearn downloads "
            "them once, so go online for the first time; without a network there are "
            f"{', '.join(OFFLINE)} and files of your own."
        ) from error
    try:  # nilearn compares no hashes
        downloads.check(Path(atlas.maps), spec)
    except downloads.DownloadError as error:
        raise TemplateError(f"templates {spec!r}: {error}") from error
    names = {"smith2009": SMITH_10, "yeo2011_7": YEO_7}.get(spec)
    if spec == "msdl":
        names = atlas.networks  # regions of one are added up
    elif spec == "difumo64":
        names = atlas.labels["difumo_names"]
    elif names is None:
        names = [name for name in atlas.labels if name != "Background"]
    return Path(atlas.maps), [str(name) for name in names]


def seitzman_templates(mask, *, sigma=6.0):
    """Maps of the Seitzman et al. 2018 networks, from nilearn's bundled coordinates.

    Parameters
    ----------
    mask : image
        Grid and voxels of the maps.
    sigma : float
        Width (standard deviation, mm) of the Gaussian at each region's centre.

    Returns
    -------
    templates : array of shape (n_templates, n_voxels)
        Largest of the regions' Gaussians, 0 to 1.
    names : list of str
    """
    seitzman = datasets.fetch_coords_seitzman_2018()
    centres = seitzman.rois[["x", "y", "z"]].to_numpy(float)
    networks = np.array(seitzman.networks)
    names = sorted(set(networks) - {"unassigned"})
    groups = [centres[networks == name] for name in names]
    return _gaussians(groups, mask, sigma), names


def _power_templates(mask, sigma):
    """As above, a map for each of the 264 regions of Power et al. 2011.

    They are called ``power 1`` and on: nilearn's table does not say of which network.
    """
    rois = datasets.fetch_coords_power_2011().rois
    centres = rois[["x", "y", "z"]].to_numpy(float)
    names = [f"power {roi}" for roi in rois["roi"]]
    return _gaussians(centres[:, None], mask, sigma), names


def _gaussians(groups, mask, sigma):
    voxels, templates = voxels_of(mask), []
    for centres in groups:
        distance, _ = cKDTree(centres).query(voxels)
        templates.append(np.exp(-(distance**2) / (2 * sigma**2)))
    return np.stack(templates)


def voxels_of(mask):
    """Where the voxels of a mask are (mm), of shape (n_voxels, 3)."""
    indices = np.where(np.asarray(mask.dataobj) > 0)
    return np.column_stack(coord_transform(*indices, mask.affine))


def label(
    maps,
    templates,
    names,
    mask,
    *,
    n_draws=200,
    level=0.05,
    min_correlation=0.3,
    rng,
):
    """Name maps after templates, with the chance that noise fits as well.

    Parameters
    ----------
    maps : array of shape (n_networks, n_voxels)
        Signs matter: a map is not named after a template that it mirrors.
    templates : array of shape (n_templates, n_voxels)
    names : list of str
    mask : image
        Voxels of both.
    n_draws : int
        Surrogates of every map (see ``spatial_null``), on a grid of about 4 mm if the
        mask is finer.
    level : float
    min_correlation : float
        A map with a larger p than ``level`` or a smaller r than this stays unnamed.
    rng : numpy Generator
        Every map has one of its own made from it.

    Returns
    -------
    labels : DataFrame of n_networks rows
        ``label`` (``unlabelled-k`` for network k without one); ``template``, ``r``,
        ``dice`` and ``p`` of the optimal one-to-one assignment (None and NaN for
        networks left over); ``best`` and ``best_r``, of the best match, which several
        networks may share. Dice counts as many of a map's highest voxels as the
        template has, so that it does not hang on a map's scale, and is the share of the
        template that the map finds. p is corrected for the choice among templates, not
        for the number of networks::

            p = (1 + #{surrogates whose largest r with any template >= r})
                / (1 + n_draws)
    """
    similarity = matching.correlate(maps, templates)
    column = matching.match(similarity)
    thin, kept = spatial_null.thinned(mask)
    chance = [
        _chance(values[kept], templates[:, kept], thin, n_draws, own)
        for values, own in zip(
            tqdm(maps, desc="labels", unit="map"), rng.spawn(len(maps)), strict=True
        )
    ]
    rows = []
    for k, (c, best) in enumerate(zip(column, similarity.argmax(1), strict=True)):
        row = {"label": f"unlabelled-{k}", "template": None}
        row |= {"r": np.nan, "dice": np.nan, "p": np.nan}
        if c >= 0:
            r = similarity[k, c]
            p = float(matching.p_values(r, chance[k]))
            dice = _dice(maps[k], templates[c])
            row |= {"template": names[c], "r": r, "dice": dice, "p": p}
            if p <= level and r >= min_correlation:
                row["label"] = names[c]
        rows.append(row | {"best": names[best], "best_r": similarity[k, best]})
    return pd.DataFrame(rows, columns=COLUMNS)


def label_by(specs, maps, mask, *, rng, **options):
    """Name maps after several sets of templates, see ``load_templates`` and ``label``.

    Returns
    -------
    labels : dict of str to DataFrame
        For each of ``specs``. All are held against the same surrogates.
    """
    return {
        spec: label(
            maps, *load_templates(spec, mask), mask, rng=deepcopy(rng), **options
        )
        for spec in specs
    }


def fits(labels_by_set, *, level):
    """The templates that fit maps beyond chance, of all sets.

    Parameters
    ----------
    labels_by_set : dict of str to DataFrame
        From ``label_by``.
    level : float
        Of p.

    Returns
    -------
    fits : DataFrame
        A row a set (by a short name) and network: ``template``, ``r``, ``dice``
        and ``p``, rounded.
    """
    short = style.model_names([str(spec) for spec in labels_by_set])
    tables = labels_by_set.values()
    every = pd.concat(tables, keys=short, names=["templates", "network"])
    beyond = every[every["p"].astype(float) <= level]
    return beyond[["template", "r", "dice", "p"]].round(3)


def titles(labels):
    """A title for each map of a table of labels: name, r, and p where there is one."""
    return [
        f"{row.label}\n"
        + (
            f"r = {row.r:.2f}, p = {row.p:.3f}"
            if np.isfinite(row.p)
            else f"r = {row.best_r:.2f}"
        )
        for row in labels.itertuples()
    ]


def _chance(values, templates, mask, n, rng):
    """Largest correlation of each surrogate of a map with any template."""
    if np.ptp(values) == 0:
        return np.full(n, np.inf)
    random_maps = spatial_null.surrogates(values, mask, n, rng=rng)
    standard = timeseries.zscore(templates.T).astype(np.float32)
    standard /= len(standard) * values.std()
    blocks = iter(lambda: list(islice(random_maps, BLOCK)), [])
    return np.concatenate([(np.stack(block) @ standard).max(1) for block in blocks])


def _dice(values, template):
    """Dice overlap with the template's voxels of half its largest value and more."""
    wanted = template >= template.max() / 2
    found = np.zeros(len(values), bool)
    found[np.argsort(-values, kind="stable")[: wanted.sum()]] = True
    return float(matching.dice(found[None], wanted[None])[0, 0])
