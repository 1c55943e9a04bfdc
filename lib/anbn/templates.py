"""Templates of known brain networks, and labels for the networks that match them."""

import numpy as np
from nilearn.datasets import fetch_coords_seitzman_2018
from nilearn.image import coord_transform
from scipy.spatial import cKDTree

from anbn import matching


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
    seitzman = fetch_coords_seitzman_2018()
    centres = seitzman.rois[["x", "y", "z"]].to_numpy(float)
    networks = np.array(seitzman.networks)
    i, j, k = np.where(np.asarray(mask.dataobj) > 0)
    voxels = np.column_stack(coord_transform(i, j, k, mask.affine))
    names = sorted(set(networks) - {"unassigned"})
    templates = []
    for name in names:
        distance, _ = cKDTree(centres[networks == name]).query(voxels)
        templates.append(np.exp(-(distance**2) / (2 * sigma**2)))
    return np.stack(templates), names


def label(maps, templates, names, *, min_correlation=0.3):
    """Name maps after the templates they match one to one.

    Parameters
    ----------
    maps : array of shape (n_networks, n_voxels)
    templates : array of shape (n_templates, n_voxels)
    names : list of str
    min_correlation : float
        A map that correlates less with its template stays unnamed.

    Returns
    -------
    labels : list of str
        ``unlabelled-k`` for network k without a template.
    correlations : array of shape (n_networks,)
    """
    similarity = matching.correlate(maps, templates)
    column = matching.match(similarity)
    best = np.where(column < 0, 0.0, similarity[np.arange(len(maps)), column])
    labels = [
        names[c] if r >= min_correlation else f"unlabelled-{k}"
        for k, (c, r) in enumerate(zip(column, best, strict=True))
    ]
    return labels, best
