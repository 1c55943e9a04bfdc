"""Which stages a sweep runs, once each, where they are written, and what they cost.

A stage run is known by its fingerprint. It is written as a study of its own, named by
the first digits of it, beside links to the stages it reads; every point is a folder of
links to its runs::

    outputs/sweeps/<name>/runs/<12 digits>/<stage>/
    outputs/sweeps/<name>/points/<label>/<stage> -> ../../runs/<12 digits>/<stage>
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from anbn.core import artifacts
from anbn.core.paths import stage_dir
from anbn.study import fingerprints

NOT_TAKEN = (".lock", "failed.ipynb", "running.ipynb", "source.ipynb")
COPIED = ("manifest.json", "notebook.ipynb", "notebook.html", "stage.log")


class SweepError(RuntimeError):
    """A sweep cannot run or go on."""


@dataclass(frozen=True)
class Run:
    """One stage run, shared by all points that need it."""

    stage: str
    values: dict
    fingerprint: str
    upstream: dict  # stage -> fingerprint
    points: list  # numbers of the points that need it

    @property
    def name(self):
        """Of its folder and, to its notebook, of its study."""
        return self.fingerprint[:12]


def plan(sweep):
    """Runs of a sweep after sharing, and the runs of every point.

    Parameters
    ----------
    sweep : anbn.study.sweeps.Sweep

    Returns
    -------
    runs : dict of str to Run
        By fingerprint; what a run reads stands before it.
    chains : list of dict of str to str
        Of every point: stage -> fingerprint.

    Raises
    ------
    FileNotFoundError
        If a data file that a parameter names is not there.
    """
    runs, chains, known = {}, [], {}
    for number, point in enumerate(sweep.points):
        chain = {}
        for stage, reads in sweep.reads.items():
            upstream = {name: chain[name] for name in reads}
            key = json.dumps([stage, point.values[stage], upstream], sort_keys=True)
            if key not in known:
                known[key] = fingerprints.fingerprint(
                    stage, point.values[stage], upstream
                )
            found = chain[stage] = known[key]
            if found not in runs:
                values = point.values[stage]
                runs[found] = Run(stage, values, found, upstream, [])
            runs[found].points.append(number)
        chains.append(chain)
    return runs, chains


def folder_of(name):
    """Folder of a sweep's outputs, absolute."""
    return Path(os.path.abspath(stage_dir("sweeps", name)))


def out_of(folder, run):
    """Where a run is written."""
    return folder / "runs" / run.name / run.stage


def is_done(folder, run):
    """Whether a run is complete."""
    return fingerprints.is_current(out_of(folder, run), run.fingerprint)


def taken_from(sweep, run):
    """The base study's folder of the same stage, if it holds this very run, or None."""
    there = stage_dir(sweep.study, run.stage)
    return there if fingerprints.is_current(there, run.fingerprint) else None


def lay_out(folder, sweep, runs, chains):
    """Make the links between runs, and the folders of points anew."""
    for run in runs.values():
        (folder / "runs" / run.name).mkdir(parents=True, exist_ok=True)
        for stage, fingerprint in run.upstream.items():
            link = folder / "runs" / run.name / stage
            _link(link, Path("..") / fingerprint[:12] / stage)
    shutil.rmtree(folder / "points", ignore_errors=True)
    for point, chain in zip(sweep.points, chains, strict=True):
        (folder / "points" / point.label).mkdir(parents=True)
        for stage, fingerprint in chain.items():
            link = folder / "points" / point.label / stage
            _link(link, Path("../../runs") / fingerprint[:12] / stage)


def _link(link, target):
    if not link.is_symlink() or os.readlink(link) != str(target):
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def take(source, out):
    """Take over a stage that the base study has: data by hard link, the rest copied.

    Writers replace files, they do not write into them: the study's next run leaves
    what is linked here alone.
    """
    with artifacts.atomic(out) as temporary:
        shutil.copytree(
            source,
            temporary,
            ignore=shutil.ignore_patterns(*NOT_TAKEN, ".tmp-*"),
            copy_function=_link_or_copy,
        )


def _link_or_copy(source, target):
    if os.path.basename(source) not in COPIED:
        try:
            os.link(source, target)
            return
        except OSError:  # another disk, or one without hard links
            pass
    shutil.copy2(source, target)
