"""Networks that are learned in one half of the subjects and predicted in the other.

Source: arXiv 2604.24942 learns networks in subjects that the model is not scored in, so
that what is predicted was not chosen for being predictable there.
"""

from dataclasses import dataclass

import numpy as np

from anbn.networks import decomposition, dual_regression
from anbn.stats import timeseries

LEAST = 6  # subjects: three to learn from, three to score in


@dataclass(frozen=True)
class Learned:
    """Networks of some subjects, and their time courses in the others.

    Attributes
    ----------
    networks : array of shape (n_networks, n_voxels)
    learned_in, scored_in : int arrays of shape (n_subjects_of_half,)
        Subjects.
    timecourses : list of arrays of shape (n_times, n_networks)
        Of the subjects in ``scored_in``, standardised.
    mean : array of shape (n_times, n_networks)
        Of these, standardised.
    """

    networks: np.ndarray
    learned_in: np.ndarray
    scored_in: np.ndarray
    timecourses: list
    mean: np.ndarray


def learn(subjects, *, method, n_networks, mask, random_state, rng):
    """Networks of one random half of the subjects, and their time courses in the other.

    Parameters
    ----------
    subjects : list of arrays of shape (n_times, n_voxels)
        At least two; halves of fewer than ``LEAST`` say little.
    method, n_networks, mask, random_state
        Of ``decomposition.decompose``.
    rng : numpy Generator
        Of the halves.

    Returns
    -------
    learned : Learned
    """
    order = rng.permutation(len(subjects))
    learned_in, scored_in = np.split(order, [len(order) // 2])
    found = decomposition.decompose(
        [subjects[i] for i in learned_in],
        n_networks,
        method,
        mask=mask,
        over="units",
        random_state=random_state,
    ).networks
    heard = [dual_regression.subject_timecourses(subjects[i], found) for i in scored_in]
    heard = [*map(timeseries.zscore, heard)]
    mean = timeseries.zscore(np.mean(heard, axis=0))
    return Learned(found, learned_in, scored_in, heard, mean)
