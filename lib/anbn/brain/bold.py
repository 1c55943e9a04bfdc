"""BOLD: runs read, cleaned and kept on disk, one at a time or one a worker."""

import re
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
from nilearn.masking import unmask
from tqdm import tqdm

from anbn.brain import cleaning, intersubject, sources
from anbn.brain.bids import Run
from anbn.brain.confounds import confound_table, read_confounds
from anbn.brain.images import BoldError
from anbn.core import artifacts, workers
from anbn.core.tables import choose, some
from anbn.stats import timeseries

LEVEL, N_DRAWS = 0.05, 1000  # of the test whether runs are repeats
BETTER = 6.0  # spreads of chance by which another lag must fit better to be named
INDEX = "runs.json"  # beside the runs: whose they are


@dataclass(frozen=True)
class Brain:
    """Cleaned runs on disk.

    Attributes
    ----------
    runs : list of float32 arrays of shape (n_times, n_voxels or n_regions)
        Memory-mapped ``.npy`` files.
    subjects : list of str
        Of each run.
    names : list of str or None
        Regions; None for voxels.
    mask : image or None
        3D, of voxels, without those constant in some run.
    standardise : str
    run_lengths : list of int
        Volumes of each run that the story's clock is made of, empty for one.
    parts : bool
        Whether a subject's files are these runs; else each file is the whole clock.
    """

    runs: list
    subjects: list
    names: list | None
    mask: nibabel.Nifti1Image | None
    standardise: str = "zscore"
    run_lengths: list = ()
    parts: bool = False

    @property
    def run_names(self):
        """Name of each run, as of its file."""
        return [Path(run.filename).stem for run in self.runs]

    def lengths_of(self, run):
        """Volumes of the runs that one of ``runs`` is made of."""
        return [len(run)] if self.parts or not self.run_lengths else self.run_lengths

    def by_subject(self):
        """One array a subject, on the clock of the story.

        Files that are the story's parts stand one after another. Several files of the
        same story are averaged, and standardised again.

        Returns
        -------
        subjects : list of str
            In the order of their first run.
        bold : list of float32 arrays of shape (n_times, n_voxels or n_regions)
            Still on disk for a subject of one run.

        Raises
        ------
        BoldError
            Repeats of different lengths.
        """
        lengths = Counter(len(run) for run in self.runs)
        if len(lengths) > 1 and not self.parts:
            raise BoldError(
                f"runs of {', '.join(map(str, sorted(lengths)))} volumes cannot be of "
                "the same story: cut them to one length, or set same_story: false."
            )
        of = self.runs_of_subjects()
        join = np.concatenate if self.parts else self._mean
        return list(of), [join(runs) for runs in of.values()]

    def runs_of_subjects(self):
        """Runs of every subject, in their order."""
        of = {subject: [] for subject in self.subjects}
        for subject, run in zip(self.subjects, self.runs, strict=True):
            of[subject].append(run)
        return of

    def _mean(self, runs):
        if len(runs) == 1:
            return runs[0]
        mean = sum(runs) / np.float32(len(runs))
        return timeseries.zscore(mean) if self.standardise == "zscore" else mean


def prepare(
    runs,
    folder,
    *,
    tr,
    names=None,
    mask="",
    atlas="",
    voxel_size=0.0,
    smoothing=0.0,
    high_pass=128.0,
    n_times=None,
    cut=(0, 0),
    confounds=(),
    standardise="zscore",
    check_tr=True,
    run_lengths=(),
    parts=False,
    client=None,
):
    """Clean runs and keep them on disk: one after another, or on workers of Dask.

    NIfTI runs are resampled, smoothed and reduced to the voxels of a mask or the
    regions of an atlas; all are cut, and drift and confounds leave in one projection.

    Parameters
    ----------
    runs : list of Run, or dict of str to array of shape (n_volumes, n_regions)
        Or to a pair of it and its confounds, a DataFrame of n_volumes rows.
    folder : path-like
        Gets one ``<name>.npy`` a run.
    tr : float
        s.
    names : list of str, optional
        Regions of arrays.
    mask : path-like or {"", "mni"}
        See ``images.mask_of``; with an atlas, "" stands for no mask.
    atlas : path-like, optional
        See ``images.atlas_weights``.
    voxel_size : float
        mm, of the grid that runs are resampled to; 0 keeps their own.
    smoothing : float
        mm, full width at half maximum; 0 for none.
    high_pass : float
        s, slower drift is removed.
    n_times : int, optional
        Volumes kept, after the cut.
    cut : tuple of int
        Volumes dropped at the beginning and at the end.
    confounds : sequence of str
        Columns of the runs' tables of confounds that are removed.
    standardise : {"zscore", "psc", "none"}
        Unit variance, percent of the voxel's mean, or the units of the data. The mean
        is removed by all.
    check_tr : bool
        Whether the files' own TR must be ``tr``; tables have none.
    run_lengths : sequence of int
        Volumes of each run that the clock of ``n_times`` volumes is made of, () for
        one. Drift, confounds and scale are those of a run.
    parts : bool
        Whether a subject's files are these runs, in their order; else each file holds
        them all.
    client : distributed.Client, optional
        See ``workers.each``: a worker reads, cleans and writes a run at a time.

    Returns
    -------
    brain : Brain

    Raises
    ------
    BoldError
        Data that cannot be used, with the file, what was found and what to do.
    """
    if not runs:
        raise BoldError("no runs: name one file a run in bold_files")
    if standardise not in cleaning.STANDARDISE:
        raise BoldError(
            f"standardise: found {standardise!r}, expected {cleaning.STANDARDISE}"
        )
    if not (np.isfinite(tr) and tr > 0):
        raise BoldError(f"tr: found {tr} s, expected more than 0")
    read, strict = partial(_read_given, names=names), True
    given, folder = isinstance(runs, dict), Path(folder).absolute()
    if given:
        runs, mask = [_given(name, data) for name, data in runs.items()], None
    else:
        images = {"voxel_size": voxel_size, "smoothing": smoothing}
        read, mask, strict = sources.reader(runs, mask=mask, atlas=atlas, **images)
    if check_tr and not given:
        for run in runs:
            sources.check_tr(run, tr)
    optional = ()
    if confounds:
        there = {run.name: _names_of(run, confounds) for run in runs}
        optional = cleaning.optional_patterns(there, confounds)
    paths, seen, items = [], Counter(), []
    for run in runs:
        path = folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', run.name)}.npy"
        if path in paths:
            raise BoldError(f"{run.bold}: another run is called {run.name} as well")
        paths.append(path)
        own = n_times, run_lengths
        if parts:
            own = run_lengths[seen[run.subject]], ()
        seen[run.subject] += 1
        items.append((run, path, *own))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder) as wanted:
        task = partial(
            _prepare_run,
            wanted=Path(wanted),
            tr=tr,
            high_pass=high_pass,
            cut=cut,
            confounds=confounds,
            optional=optional,
            standardise=standardise,
            strict=strict,
        )
        names, varies = None, True
        with closing(workers.each(task, items, client, shared=[read])) as results:
            progress = {"mininterval": 5, "disable": len(runs) < 2, "total": len(runs)}
            results = tqdm(results, "runs", **progress)
            for run, (found, varied) in zip(runs, results, strict=True):
                if run is not runs[0]:
                    _check_names(run, names, found, varies, varied)
                names, varies = found, varies & varied
                cleaning.check_coverage(varies, run, names)
    if not varies.all():
        names, mask = _leave_out(varies, paths, names, mask)
    loaded = [np.load(path, mmap_mode="r") for path in paths]
    _check_distinct(runs, loaded)
    if strict:
        _check_shared_columns(runs, loaded, names)
    about = {
        "runs": [path.stem for path in paths],
        "subjects": [run.subject for run in runs],
        "names": names,
        "standardise": standardise,
        "run_lengths": list(run_lengths),
        "parts": parts,
    }
    artifacts.write_json(folder / INDEX, about)
    return replace(reopen(folder), mask=mask)


def reopen(folder):
    """Runs that ``prepare`` has kept in a folder, but for their mask.

    Returns
    -------
    brain : Brain
    """
    about = artifacts.read_json(Path(folder) / INDEX)
    files = [Path(folder) / f"{name}.npy" for name in about.pop("runs")]
    return Brain([np.load(f, mmap_mode="r") for f in files], mask=None, **about)


def check_repeats(brain, *, tr, rng):
    """Whether runs of a subject that are to be averaged are of one story at all.

    Their correlation, mean over voxels or regions, pairs of runs and subjects, is held
    against the same with one run of each pair rolled by a random lag. The first 30 s
    are left out (at most a quarter of the run): any sound that sets in looks alike.

    Parameters
    ----------
    brain : Brain
    tr : float
        s.
    rng : numpy Generator

    Returns
    -------
    r : dict of str to float
        Mean correlation of each subject's runs; empty if no subject has several.

    Raises
    ------
    BoldError
        If they correlate no more than by chance: says what to set. Where they fit much
        better when one begins later, this is named there, or else printed.
    """
    several = {k: v for k, v in brain.runs_of_subjects().items() if len(v) > 1}
    if brain.parts or not several:
        return {}
    skip = min(round(30 / tr), len(brain.runs[0]) // 4)
    curves = {
        subject: [
            intersubject.correlation_by_lag(one[skip:], other[skip:])
            for one, other in combinations(runs, 2)
        ]
        for subject, runs in several.items()
    }
    r = {subject: float(np.mean(c, 0)[0]) for subject, c in curves.items()}
    pairs = np.concatenate(list(curves.values()))
    # nearer lags are those of the same story, too
    near = min(round(20 / tr), pairs.shape[1] // 4)
    lags = rng.integers(near, pairs.shape[1] - near + 1, size=(N_DRAWS, len(pairs)))
    null = pairs[np.arange(len(pairs)), lags].mean(1)
    observed = pairs[:, 0].mean()
    p = (1 + (null >= observed).sum()) / (1 + N_DRAWS)
    begun = _begun_later(curves, tr)
    if p <= LEVEL and begun:
        print(f"{begun}: is its beginning cut off, or the wrong file named?")
    if p > LEVEL:
        hint = f"{begun}: cut them to one beginning. " if begun else ""
        subject, runs = next(iter(several.items()))
        lengths = [len(run) for run in runs]
        raise BoldError(
            f"runs of a subject would be averaged as repeats of one story, but "
            f"correlate no more than by chance: r = {observed:.3f} over {len(r)} "
            f"subjects with several runs, {np.quantile(null, 1 - LEVEL):.3f} by chance "
            f"(p = {p:.2g}). {hint}If they are parts of one story, set in stage 01 "
            f"run_lengths (of {subject} as {lengths}) with word times that go on from "
            "part to part, and runs_are: parts here. If they are of other stories, "
            "name the runs of one (entities or bold_files) or set same_story: false. "
            "If they are repeats all the same, set runs_are: repeats."
        )
    return r


def _begun_later(curves, tr):
    """Who has runs that fit much better when one is taken to begin later; or ""."""
    lines = []
    for subject, pairs in curves.items():
        for pair, curve in enumerate(pairs):
            best = int(curve.argmax())
            lag = best if best <= len(curve) // 2 else best - len(curve)
            # of all lags, of which most are chance
            spread = 1.4826 * np.median(np.abs(curve - np.median(curve)))
            if abs(lag) < 2 or curve[best] - max(curve[0], 0) < BETTER * spread:
                continue
            way = "later" if lag > 0 else "earlier"
            lines.append(
                f"{subject}, pair {pair + 1} of its runs: the second begins about "
                f"{abs(lag) * tr:g} s {way} than the first (r = {curve[best]:.2f} for "
                f"{curve[0]:.2f})"
            )
    return "; ".join(lines[:3]) + (f"; and {len(lines) - 3} more" * (len(lines) > 3))


def maps_of(folder):
    """Group maps and mask as stage 02 wrote them.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    maps : array of shape (n_networks, n_voxels or n_regions) or None
        None if regions were taken as they are.
    mask : image or None
        None for tables and atlases.
    """
    maps, mask = folder / "maps.npy", folder / "mask.nii.gz"
    return (
        artifacts.read_array(maps) if maps.exists() else None,
        nibabel.load(mask) if mask.exists() else None,
    )


def _prepare_run(
    item,
    read,
    *,
    wanted,
    tr,
    high_pass,
    cut,
    confounds,
    optional,
    standardise,
    strict,
):
    """Clean one run; its data is gone before the next one is read."""
    run, path, n_times, run_lengths = item
    data, names = read(run)
    # columns with names are regions, whatever their neighbours look like
    if strict and Path(str(run.bold)).suffix.lower() not in (".tsv", ".csv"):
        cleaning.check_orientation(data, run.bold, n_times, cut)
    rows = cleaning.rows_kept(len(data), run.bold, n_times, cut)
    if confounds:
        nuisance = _confounds(run, confounds, len(data), optional)[rows]
    data = cleaning.check_values(data[rows], run.bold, constant=not strict, names=names)
    cleaning.check_volumes(data, run.bold, first=rows.start)
    spread = np.ptp(data, axis=0)
    for span in timeseries.spans(len(data), run_lengths):
        regressors = timeseries.drift(span.stop - span.start, tr, high_pass)
        if confounds:
            regressors = np.column_stack([regressors, nuisance[span]])
        basis = timeseries.orthonormal(regressors)
        if len(basis) <= basis.shape[1] + 2:
            raise BoldError(
                f"{run.bold}: {len(basis)} volumes are too few to remove "
                f"{basis.shape[1]} regressors of drift and confounds from. Raise "
                "high_pass or name fewer confounds."
            )
        data[span] = cleaning.clean_run(data[span], basis, standardise, run.bold)
    if (
        not wanted.is_dir()
    ):  # on a worker: who asked has stopped, and may have begun anew
        raise InterruptedError(f"{path} is no longer wanted")
    artifacts.write_array(path, data)
    # where resampled volumes are empty, splines leave a ripple
    return names, spread > 1e-6 * spread.max()


def _check_names(run, names, found, varies, varied):
    if names == found and len(varies) == len(varied):
        return
    pairs = zip(names, found, strict=False)
    other = next((f"{f!r} where they have {n!r}" for n, f in pairs if n != f), "")
    raise BoldError(
        f"{run.bold} and the runs before it have different columns: {len(found)} and "
        f"{len(names)}{', ' + other if other else ''}. Runs need the same regions in "
        "the same order."
    )


def _leave_out(varies, paths, names, mask):
    """Take columns that are constant in some run out of all."""
    what = "voxels" if names is None else "regions"
    line = f"{(~varies).sum()} {what} are constant in some run: left out"
    if names is not None:
        line += f" ({some(n for n, v in zip(names, varies, strict=True) if not v)})"
    print(line)
    for path in paths:
        artifacts.write_array(path, np.load(path, mmap_mode="r")[:, varies])
    if names is None:
        return None, unmask(varies.astype(np.uint8), mask)
    return [name for name, v in zip(names, varies, strict=True) if v], mask


@dataclass(frozen=True)
class _Given(Run):
    """A run of an array; its confounds are a DataFrame."""

    data: np.ndarray | None = None


def _given(name, data):
    data, confounds = data if isinstance(data, tuple) else (data, None)
    return _Given(name, name, Path(name), confounds, None, data=data)


def _read_given(run, names):
    data = np.array(run.data)  # a copy: cleaning is done in place
    return data, list(names or sources.numbered(run.name, data))


def _names_of(run, wanted):
    """Columns of a run's table of confounds."""
    cleaning.check_there(run, wanted)
    given = isinstance(run.confounds, pd.DataFrame)
    return [*map(str, run.confounds if given else confound_table(run.confounds))]


def _confounds(run, columns, n_volumes, optional):
    if not isinstance(run.confounds, pd.DataFrame):
        options = {"n_volumes": n_volumes, "optional": optional}
        return read_confounds(run.confounds, columns, **options)
    source = f"confounds of {run.name}"
    found = choose(run.confounds, columns, source, BoldError, optional)
    found = found.to_numpy(float)
    if len(found) != n_volumes or not np.isfinite(found).all():
        raise BoldError(
            f"{source}: found {len(found)} rows, {(~np.isfinite(found)).sum()} values "
            f"missing or infinite; expected {n_volumes} rows, one a volume, of finite "
            "numbers."
        )
    return found


def _check_distinct(runs, loaded):
    """Refuse files that hold the same in several subjects."""
    seen = {}
    for run, data in zip(runs, loaded, strict=True):
        other = seen.setdefault(data[:3].tobytes(), run)  # no two scans begin alike
        if other.subject != run.subject:
            raise BoldError(
                f"{run.bold} holds the same values as {other.bold}, of another "
                "subject. Name each subject's own file."
            )


def _check_shared_columns(runs, loaded, names):
    """Refuse columns that are the same in all subjects."""
    people = {run.subject for run in runs}
    first, same = loaded[0], np.ones(loaded[0].shape[1], bool)
    for data in loaded:
        if len(data) != len(first):
            return
        same &= np.isclose(data, first, atol=1e-3).all(0)
    if len(people) > 1 and same.any():
        column = names[int(np.flatnonzero(same)[0])]
        raise BoldError(
            f"column {column!r} is the same in all {len(people)} subjects, from "
            f"{runs[0].bold} on: it is no BOLD (time, stimulus?) and would be a region "
            "that all share. Take it out of the tables."
        )
