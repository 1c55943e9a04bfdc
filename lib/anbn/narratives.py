"""The Narratives data: its scans, and who heard what.

345 people listened to 27 stories, TR 1.5 s (Nastase et al. 2021, Scientific Data
8:250; OpenNeuro ds002345). A scan is a task; most stories have the name of theirs.
"""

import dataclasses
from pathlib import Path

import pandas as pd

from anbn import bids
from anbn.artifacts import read_json

TR = 1.5  # s, of every scan
SPACE = "MNI152NLin2009cAsym"
TASK_OF = {"slumlord": "slumlordreach", "reach": "slumlordreach"}
MILKYWAYS = ("milkywayoriginal", "milkywaysynonyms", "milkywayvodka")
TASK_OF |= dict.fromkeys(MILKYWAYS, "milkyway")
CLIPS = "bigbang friends himym santa seinfeld shame upintheair vinny".split()
TASK_OF |= dict.fromkeys(CLIPS, "schema")


class NarrativesError(ValueError):
    """What was asked for is not in the data set."""


def task_of(story):
    """Task of a story: of slumlord and reach, slumlordreach; of most, its name."""
    return TASK_OF.get(story, story)


def subject_name(subject):
    """``sub-001`` of 1, "001" or "sub-001"."""
    return f"sub-{str(subject).removeprefix('sub-').zfill(3)}"


def listeners(participants):
    """Who heard what.

    Parameters
    ----------
    participants : path-like
        ``participants.tsv``.

    Returns
    -------
    heard : dict of str to dict of str to str
        By subject and task, the condition ("n/a" if there was one only).
    """
    try:
        table = pd.read_csv(participants, sep="\t", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise NarrativesError(
            f"{participants} cannot be read as a table: {error}"
        ) from error
    absent = {"participant_id", "task", "condition"} - set(table)
    if absent:
        raise NarrativesError(
            f"{participants}: expected the columns participant_id, task and condition, "
            f"found {', '.join(table)}."
        )
    heard = {}
    for row in table.itertuples():
        tasks, conditions = row.task.split(","), row.condition.split(",")
        if len(tasks) != len(conditions) or row.participant_id in heard:
            raise NarrativesError(
                f"{participants}: expected one row of {row.participant_id}, with a "
                f"condition for each task; found {len(tasks)} tasks and "
                f"{len(conditions)} conditions. Fetch the file again."
            )
        heard[row.participant_id] = dict(zip(tasks, conditions, strict=True))
    return heard


def hears(heard, story):
    """Whether the tasks of a subject (from ``listeners``) hold a story.

    Of milkyway there are three versions; each subject heard one.
    """
    task = task_of(story)
    return task in heard and (story not in MILKYWAYS or story == task + heard[task])


def excluded(folder):
    """Scans that the authors of the data leave out: ``sub-022_task-pieman``.

    A name stands for this scan only: pieman does not mean piemanpni.
    """
    path = Path(folder) / "code/scan_exclude.json"
    try:
        tasks = read_json(path).values()
        return {scan for task in tasks for scans in task.values() for scan in scans}
    except (AttributeError, TypeError) as error:
        raise NarrativesError(
            f"{path}: expected lists of scans by task and reason. Fetch it again."
        ) from error


def description(derivative):
    """The entity desc of a derivative's finished volumes."""
    names = {"afni-smooth": "clean", "afni-nosmooth": "clean", "fmriprep": "preproc"}
    if derivative not in names:
        raise NarrativesError(
            f"derivative: expected one of {', '.join(names)}, found {derivative!r}"
        )
    return names[derivative]


def find_runs(
    folder,
    *,
    story,
    subjects=(),
    derivative="afni-smooth",
    space=SPACE,
    entities=None,
):
    """Runs in which a story was heard, without those that are to be left out.

    Parameters
    ----------
    folder : path-like
        Laid out as upstream, see ``narratives_fetch.fetch``.
    story : str
    subjects : sequence of str or int
        All there are, if empty.
    derivative, space : str
    entities : dict of str to str
        Any other entity, see ``bids.find_runs``.

    Returns
    -------
    runs : list of bids.Run
        With TR 1.5 s.

    Raises
    ------
    NarrativesError
        If nothing is left.
    bids.BidsError
        If a subject or the story is not in the folder.
    """
    folder, task = Path(folder), task_of(story)
    out = excluded(folder)
    one = isinstance(subjects, str | int)
    named = [subject_name(s) for s in ([subjects] if one else subjects)]
    left = [subject for subject in named if f"{subject}_task-{task}" not in out]
    for subject in sorted(set(named) - set(left)):
        print(f"{subject}_task-{task}: left out, as code/scan_exclude.json says")
    runs = []
    if left or not named:
        heard = listeners(folder / "participants.tsv")
        for run in bids.find_runs(
            folder / "derivatives" / derivative,
            task=task,
            subjects=left,
            space=space,
            desc=description(derivative),
            entities=entities,
        ):
            if run.name in out:
                print(f"{run.name}: left out, as code/scan_exclude.json says")
            elif hears(heard.get(run.subject, {}), story):
                runs.append(dataclasses.replace(run, tr=run.tr or TR))
            else:
                print(f"{run.subject} did not hear {story}: left out")
    if not runs:
        raise NarrativesError(
            f"{folder}: no run of {story} is left, see above. Name other subjects."
        )
    return runs
