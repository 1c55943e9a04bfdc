"""What stages 01 and 02 left, on the volumes that are used, and what is removed of it.

Notebooks 03 and 03b begin here: the story's clock, the confounds on it, the brain's
networks and its voxels, and other text in the story's place.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse

from anbn.brain import bold as bold_data
from anbn.brain import clock as clock_of_study
from anbn.brain import regressors
from anbn.core import artifacts
from anbn.core.params import ParamError
from anbn.core.paths import resolve
from anbn.coupling import folds
from anbn.models import stores
from anbn.stats import timeseries


@dataclass(frozen=True)
class Clock:
    """The story's clock, and which of its volumes are used.

    Attributes
    ----------
    n_times : int
        Volumes of the clock.
    tr, start : float
        s; of a volume, and of the first one.
    hrf : str
    run_lengths : list of int
        Volumes of each run of the clock, [] for one run.
    delays : list of int
        Volumes by which words and responses are delayed.
    kept : slice, or bool array of shape (n_times,)
        Volumes that are used.
    lengths : list of int
        How many are used of each run; one number for one run.
    """

    n_times: int
    tr: float
    start: float
    hrf: str
    run_lengths: list
    delays: list
    kept: slice | np.ndarray
    lengths: list

    @property
    def runs(self):
        """Used volumes of each run as surrogates and folds take them, [] for one."""
        return self.lengths if self.run_lengths else []

    @property
    def n_used(self):
        """Used volumes of all runs."""
        return sum(self.lengths)

    @property
    def first(self):
        """Time of the first used volume on the story's clock, s."""
        return self.start + self.tr * float(np.arange(self.n_times)[self.kept][0])

    def delayed(self, data):
        """Columns (n_times, n_columns), delayed, on the used volumes.

        The mean over the delays, see ``folds.mean_delayed``.
        """
        return folds.mean_delayed(
            data, self.delays, self.run_lengths or None, self.kept
        )

    def regressors(self, words, names):
        """Regressors of the words on the whole clock, a DataFrame of n_times rows."""
        return regressors.story_regressors(
            words,
            names,
            n_times=self.n_times,
            tr=self.tr,
            start=self.start,
            hrf=self.hrf,
            run_lengths=self.run_lengths,
        )


def clock(recording, n_times, *, run_lengths, leave_out_start, delays):
    """The clock of a study.

    Parameters
    ----------
    recording : dict
        Parameters of stage 01, whose clock it is.
    n_times : int
        Volumes of BOLD.
    run_lengths : list of int
        [] for those of stage 01, which no others may differ from.
    leave_out_start : float
        s at the start of every run that are not used.
    delays : list of int

    Returns
    -------
    clock : Clock

    Raises
    ------
    ParamError
        Delays that the shortest run has no volumes for.
    """
    agreed = clock_of_study.agreed_runs(recording["run_lengths"], run_lengths)
    kept, lengths = regressors.left_over(
        agreed or [n_times], recording["tr"], leave_out_start
    )
    if not delays or max(delays) >= min(lengths):
        raise ParamError(
            f"delays: expected one or more from 0 to {min(lengths) - 1} volumes, as "
            f"the shortest run has {min(lengths)}; found {delays}"
        )
    return Clock(
        n_times=n_times,
        tr=recording["tr"],
        start=recording["first_volume"],
        hrf=recording["hrf"],
        run_lengths=agreed,
        delays=delays,
        kept=kept,
        lengths=lengths,
    )


@dataclass(frozen=True)
class Confounds:
    """What is removed from responses and time courses, on the used volumes.

    Attributes
    ----------
    names : list of str
        Beside drift.
    drift : array of shape (n_used, n_drift)
        A constant and slow cosines of every run.
    of_story : array of shape (n_used, n_confounds)
        The others, delayed as the responses are.
    drift_basis : array of shape (n_used, n_drift)
        Orthonormal basis of drift alone.
    basis : array of shape (n_used, n_basis)
        Orthonormal basis of all: what ``timeseries.residuals`` removes.
    timing : DataFrame of shape (n_used, n_timing)
        What is known of the story's timing without any model: word rate, sound power
        and the table of confounds, not delayed. The baseline of encoding.
    runs : list of int
        Used volumes of each run, [] for one.
    """

    names: list
    drift: np.ndarray
    of_story: np.ndarray
    drift_basis: np.ndarray
    basis: np.ndarray
    timing: pd.DataFrame
    runs: list


def confounds(
    words, clock, *, names, table, columns, sound_file, sound_onset, high_pass
):
    """What is removed from responses and time courses alike, by one projection.

    Parameters
    ----------
    words : DataFrame of n_words rows
        Of stage 01.
    clock : Clock
    names : list of str
        Of the words' regressors, see ``regressors.story_regressors``.
    table, columns
        Of ``regressors.table``; "" for none.
    sound_file : str
        WAV whose power is a confound; "" for none.
    sound_onset : float
        s, of its first sample.
    high_pass : float
        s, slower is drift.

    Returns
    -------
    confounds : Confounds
    """
    timing = clock.regressors(words, [regressors.WORD_RATE])
    if sound_file:
        timing["sound_power"] = regressors.power(
            resolve(sound_file),
            sound_onset=sound_onset,
            n_times=clock.n_times,
            tr=clock.tr,
            start=clock.start,
            hrf=clock.hrf,
            run_lengths=clock.run_lengths,
        )
    if table:
        given = regressors.table(table, columns, n_times=clock.n_times)
        timing = timing.join(given)
    removed = clock.regressors(words, names)
    removed = removed.join(timing.drop(columns=regressors.WORD_RATE))
    of_story = clock.delayed(removed.to_numpy())
    drift = regressors.run_drift(clock.lengths, clock.tr, high_pass)
    return Confounds(
        names=list(removed),
        drift=drift,
        of_story=of_story,
        drift_basis=timeseries.orthonormal(drift),
        basis=timeseries.orthonormal(np.column_stack([drift, of_story])),
        timing=timing.iloc[clock.kept],
        runs=clock.runs,
    )


@dataclass(frozen=True)
class Networks:
    """The brain's networks, on the used volumes.

    Attributes
    ----------
    names : list of str
    timecourses : array of shape (n_subjects, n_used, n_networks)
        Each subject standardised.
    mean : array of shape (n_used, n_networks)
        Of the subjects, standardised.
    maps : array of shape (n_networks, n_voxels) or None
        None where regions were taken as they are.
    mask : image or None
        None for regions.
    """

    names: list
    timecourses: np.ndarray
    mean: np.ndarray
    maps: np.ndarray | None
    mask: object | None


def networks(extracted, clock):
    """The networks that stage 02 wrote to its folder.

    Parameters
    ----------
    extracted : Path
    clock : Clock

    Returns
    -------
    networks : Networks
    """
    people = artifacts.read_arrays(extracted / "data" / "brain.npz")["timecourses"]
    people = people[:, clock.kept].astype(float)
    people = np.stack([*map(timeseries.zscore, people)])
    maps, mask = bold_data.maps_of(extracted / "data")
    return Networks(
        names=artifacts.read_json(extracted / "data" / "names.json"),
        timecourses=people,
        mean=timeseries.zscore(people.mean(0)),
        maps=maps,
        mask=mask,
    )


@dataclass(frozen=True)
class Bold:
    """BOLD of voxels or regions, on the used volumes.

    Attributes
    ----------
    subjects : list of arrays of shape (n_used, n_voxels)
        Where a subject has one run they stay on disk.
    group : array of shape (n_used, n_voxels)
        Mean of the subjects.
    subject_maps : array of shape (n_subjects, n_networks, n_voxels) or None
        Each subject's own maps of the group's networks, mapped from disk; None where
        regions were taken as they are.
    """

    subjects: list
    group: np.ndarray
    subject_maps: np.ndarray | None


def bold(extracted, clock):
    """The cleaned BOLD that stage 02 wrote to its folder.

    Parameters
    ----------
    extracted : Path
    clock : Clock

    Returns
    -------
    bold : Bold
    """
    _, subjects = bold_data.reopen(extracted / "data" / "runs").by_subject()
    group = artifacts.read_arrays(extracted / "data" / "brain.npz")["group_bold"]
    maps = extracted / "data" / "subject_maps.npy"
    return Bold(
        subjects=[one[clock.kept] for one in subjects],
        group=group[clock.kept],
        subject_maps=np.load(maps, mmap_mode="r") if maps.exists() else None,
    )


def other_texts(recorded, kind, clock):
    """Other text, and what speaks it with this story's timing: for ``text`` nulls.

    Parameters
    ----------
    recorded : Path
        Folder of stage 01.
    kind : str
        Of neurons.
    clock : Clock

    Returns
    -------
    activations : DataArray of shape (n_tokens, n_layers, n_units)
        Of the corpora, read from disk layer by layer, without the tokens that are left
        out of the story, too: the first ones of documents.
    H : sparse array of shape (n_used, n_tokens)
        See ``surrogates.other_texts``.
    """
    H = scipy.sparse.load_npz(recorded / "data" / "H.npz")
    H = scipy.sparse.csr_array(clock.delayed(H.toarray()))
    corpora = recorded / "data" / "corpora"
    left_out = stores.read_tokens(corpora)["left_out"].to_numpy()
    return stores.open_activations(corpora, kind)[~left_out], H
