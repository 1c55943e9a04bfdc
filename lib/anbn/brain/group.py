"""Networks of a group of people, and how each of them has these."""

from anbn.core import artifacts
from anbn.networks import decomposition, dual_regression


def drawn(brain):
    """What stability draws: people, or the runs of a single one.

    Parameters
    ----------
    brain : bold.Brain

    Returns
    -------
    what : {"subjects", "runs"}
    whose : list of str
        Of each run.
    """
    if len(set(brain.subjects)) > 1:
        return "subjects", brain.subjects
    return "runs", brain.run_names


def networks(
    brain,
    n_networks,
    method,
    *,
    solver,
    penalty,
    layer_sizes,
    n_bootstrap,
    n_halves,
    n_null_sets,
    random_state,
    device,
):
    """Networks of all runs together, and which come back when people are drawn.

    Maps are what is independent (``over="units"``), as is usual for fMRI; see
    ``decomposition.decompose`` for the arguments.

    Parameters
    ----------
    brain : bold.Brain

    Returns
    -------
    networks : decomposition.Decomposition
    """
    return decomposition.decompose(
        brain.runs,
        n_networks,
        method,
        over="units",
        mask=brain.mask,
        whose=drawn(brain)[1],
        solver=solver,
        penalty=penalty,
        layer_sizes=layer_sizes,
        n_bootstrap=n_bootstrap,
        n_halves=n_halves,
        n_null_sets=n_null_sets,
        random_state=random_state,
        device=device,
    )


def in_each(series, maps):
    """The group's networks in every subject or run, by dual regression.

    Parameters
    ----------
    series : list of arrays of shape (n_times, n_voxels)
    maps : array of shape (n_networks, n_voxels)

    Returns
    -------
    timecourses : list of arrays of shape (n_times, n_networks)
    subject_maps : list of arrays of shape (n_networks, n_voxels)
    """
    both = [dual_regression.dual_regression(one, maps) for one in series]
    return [one[0] for one in both], [one[1] for one in both]


def write_timecourses(path, names, timecourses):
    """Write time courses of different lengths as npz, an array a run.

    Parameters
    ----------
    path : Path
    names : list of str
    timecourses : list of arrays of shape (n_times, n_networks)
    """
    artifacts.write_arrays(path, **dict(zip(names, timecourses, strict=True)))
