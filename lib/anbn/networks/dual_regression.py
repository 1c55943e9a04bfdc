"""A group's networks in each subject: their time courses and maps."""

import numpy as np

from anbn.stats import timeseries


def subject_timecourses(bold, maps):
    """Time courses of group maps: each volume is regressed on all maps at once.

    Parameters
    ----------
    bold : array of shape (..., n_times, n_voxels)
    maps : array of shape (n_networks, n_voxels)

    Returns
    -------
    timecourses : array of shape (..., n_times, n_networks)
    """
    design = np.column_stack([maps.T, np.ones(maps.shape[1])])
    return (bold @ np.linalg.pinv(design).T)[..., :-1]


def subject_maps(bold, timecourses):
    """Maps of one run that belong to given time courses: temporal regression.

    With the group's own time courses of that run it is back-projection
    (back-reconstruction, Calhoun et al. 2001).

    Parameters
    ----------
    bold : array of shape (n_times, n_voxels)
    timecourses : array of shape (n_times, n_networks)

    Returns
    -------
    maps : array of shape (n_networks, n_voxels)
        Change of BOLD for one standard deviation of each time course, the others held.
    """
    design = timeseries.zscore(np.asarray(timecourses, float))
    return np.linalg.pinv(design) @ (bold - bold.mean(0))


def dual_regression(bold, maps):
    """Time courses and maps of group networks in one run (Nickerson et al. 2017).

    Both steps, ``subject_timecourses`` and ``subject_maps``, one after the other.
    """
    timecourses = subject_timecourses(bold, maps)
    return timecourses, subject_maps(bold, timecourses)
