"""The Narratives data: its scans, who heard what, when, and fetching them.

345 people listened to 27 stories, TR 1.5 s (Nastase et al. 2021, Scientific Data 8:250;
OpenNeuro ds002345). A scan is a task; most stories have the name of theirs. Times of
words come from Gentle's align.csv, on the clock of the sound file; the scan's events
say when that file began. Files come over HTTPS, anonymously.
"""

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from anbn.brain import bids, openneuro
from anbn.core import artifacts, downloads
from anbn.core.artifacts import read_json
from anbn.core.tables import read_named
from anbn.text import stories
from anbn.text.transcripts import read_words
from anbn.text.word_tables import read_table

TR = 1.5  # s, of every scan
SPACE = "MNI152NLin2009cAsym"
SPLIT = 950.0  # s of the sound file: between slumlord and reach
# What is known of single stories:
#   task       that of their scans, where it has another name
#   version    the condition of those who heard this one of the task
#   sound      their sound file, where it has another name
#   window     first volume and number of volumes, published; of others: from the events
#   lead       s, see load_words
#   early      Gentle found the first words in the music before the story
#   words      s of the sound file between which theirs begin
#   part       which of the sound file's events it is, where that holds several stories
#   aligned    False: there is no align.csv
STORIES = {
    "pieman": {"window": (10, 281)},
    "piemanpni": {"lead": 8.7},
    "bronx": {"lead": 15.2},
    "black": {"window": (8, 533)},
    "forgot": {"window": (8, 558)},
    "shapesphysical": {"window": (33, 270)},
    "shapessocial": {"window": (33, 272)},
    # one volume before the onset in its events as they are now
    "lucy": {"window": (1, 361)},
    "slumlord": {
        "task": "slumlordreach",
        "sound": "slumlordreach",
        "window": (20, 602),
        "words": (-np.inf, SPLIT),
        "part": 0,
    },
    # begins with the first word from 950 s on (code/get_words.py)
    "reach": {
        "task": "slumlordreach",
        "sound": "slumlordreach",
        "window": (646, 550),
        "words": (SPLIT, np.inf),
        "part": 1,
    },
    "prettymouth": {"early": True},
    "merlin": {"early": True},
    "notthefallintact": {"early": True},
    "notthefalllongscram": {"aligned": False},
    "notthefallshortscram": {"aligned": False},
    "milkywayoriginal": {"task": "milkyway", "version": "original"},
    "milkywaysynonyms": {"task": "milkyway", "version": "synonyms", "early": True},
    "milkywayvodka": {"task": "milkyway", "version": "vodka"},
}
CLIPS = "bigbang friends himym santa seinfeld shame upintheair vinny".split()
STORIES |= {story: {"task": "schema"} for story in CLIPS}
URL = (  # in this order: the first that has a file
    "https://s3.amazonaws.com/openneuro.org/ds002345",
    "https://s3.amazonaws.com/fcp-indi/data/Projects/narratives",
)
SCAN_EXCLUDE = "code/scan_exclude.json"
EXCLUDED = (  # of the code of the paper
    "https://raw.githubusercontent.com/snastase/narratives/"
    f"886e3c121de57957d3af7665c4b327a3985e0d17/{SCAN_EXCLUDE}"
)
DESC = {"afni-smooth": "clean", "afni-nosmooth": "clean", "fmriprep": "preproc"}


class NarrativesError(ValueError):
    """What was asked for is not in the data set."""


def known(story, what, default):
    """What ``STORIES`` says of a story."""
    return STORIES.get(story, {}).get(what, default)


def task_of(story):
    """Task of a story: of slumlord and reach, slumlordreach; of most, its name."""
    return known(story, "task", story)


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
    table = read_named(Path(participants), NarrativesError)
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
    return task in heard and known(story, "version", heard[task]) == heard[task]


def excluded_scans(folder):
    """Scans that the authors of the data leave out: ``sub-022_task-pieman``.

    A name stands for this scan only: pieman does not mean piemanpni.
    """
    path = Path(folder) / SCAN_EXCLUDE
    try:
        tasks = read_json(path).values()
        return {scan for task in tasks for scans in task.values() for scan in scans}
    except (AttributeError, TypeError) as error:
        raise NarrativesError(
            f"{path}: expected lists of scans by task and reason. Fetch it again."
        ) from error


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
        Laid out as upstream, see ``fetch``.
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
    out = excluded_scans(folder)
    named = [subject_name(subject) for subject in subjects]
    left = _not_excluded(named, task, out)
    runs = []
    if left or not named:
        heard = listeners(folder / "participants.tsv")
        for run in bids.find_runs(
            folder / "derivatives" / derivative,
            task=task,
            subjects=left,
            space=space,
            desc=_desc(derivative),
            entities=entities,
        ):
            if run.name in out:
                print(f"{run.name}: left out, as {SCAN_EXCLUDE} says")
            elif hears(heard.get(run.subject, {}), story):
                runs.append(dataclasses.replace(run, tr=run.tr or TR))
            else:
                print(f"{run.subject} did not hear {story}: left out")
    if not runs:
        raise NarrativesError(
            f"{folder}: no run of {story} is left, see above. Name other subjects."
        )
    return runs


def _not_excluded(subjects, task, excluded):
    """Subjects whose one scan of a task is not among those to be left out."""
    left = [s for s in subjects if f"{s}_task-{task}" not in excluded]
    for subject in sorted(set(subjects) - set(left)):
        print(f"{subject}_task-{task}: left out, as {SCAN_EXCLUDE} says")
    return left


def sounds_of(events):
    """Names of the sound files of a scan's stories, without ``_audio.wav``."""
    table = _read_events(events)
    files = table.loc[table["trial_type"] == "story", "stim_file"]
    return [Path(f).name.removesuffix("_audio.wav") for f in dict.fromkeys(files)]


def _read_events(events):
    table = read_table(events)
    absent = {"onset", "duration", "trial_type", "stim_file"} - set(table)
    if absent:
        raise NarrativesError(
            f"{events}: expected the columns onset, duration, trial_type and stim_file,"
            f" found {', '.join(table)}."
        )
    return table


def _sound(story, events):
    """Name of the sound file a story is in."""
    there = sounds_of(events)
    if story == "milkyway" and len(there) == 1:  # the version this subject heard
        return there[0]
    sound = known(story, "sound", story)
    if sound not in there:
        raise NarrativesError(
            f"{events}: expected a story in {sound}_audio.wav, found "
            f"{', '.join(there) or 'no story'}. Name one of these, or a subject who "
            f"heard {story}."
        )
    return sound


def _story_rows(story, events):
    """Onsets and durations (s) of the parts of a story's sound file."""
    table = _read_events(events)
    named = table["stim_file"].str.endswith(f"{_sound(story, events)}_audio.wav")
    rows = table.loc[named & (table["trial_type"] == "story"), ["onset", "duration"]]
    rows = rows.apply(pd.to_numeric, errors="coerce").to_numpy(float)
    if len(rows) <= known(story, "part", 0) or not np.isfinite(rows).all():
        raise NarrativesError(
            f"{events}: expected the onset and duration of {story} in seconds, in a "
            f"row of trial_type story; found {rows.tolist()}."
        )
    return rows


def scan_window(story, events=None):
    """Volumes during which a story was heard, without music and silence.

    Parameters
    ----------
    story : str
    events : path-like, optional
        Of a scan of the story; needed unless ``STORIES`` has it. Then::

            first = round(onset / TR), n = round(duration / TR)

        as in the data set's code/compile_metadata.py.

    Returns
    -------
    first, n : int
        First volume, from 0, and number of volumes.
    """
    window = known(story, "window", None)
    if window:
        return window
    if events is None:
        raise NarrativesError(
            f"{story}: give the events of a scan; without them the volumes are known "
            f"of {', '.join(n for n in STORIES if known(n, 'window', ()))} only."
        )
    rows = _story_rows(story, events)
    onset, duration = rows[0][0], sum(rows[-1]) - rows[0][0]
    return int(np.rint(onset / TR)), int(np.rint(duration / TR))


def events_of(folder, story, subject):
    """Path of the events of the first scan in which a subject heard a story.

    Raises
    ------
    NarrativesError
        If there is none.
    """
    subject, task = subject_name(subject), task_of(story)
    func = Path(folder) / subject / "func"
    paths = [*func.glob(f"{subject}_task-{task}_events.tsv")]
    paths += sorted(func.glob(f"{subject}_task-{task}_run-*_events.tsv"))
    if not paths:
        raise NarrativesError(
            f"{func}: no {subject}_task-{task}_*events.tsv. Did {subject} hear {story} "
            "(participants.tsv)? If so, fetch it."
        )
    return paths[0]


def load_words(folder, story, subject, *, lead=None):
    """Words of a story and when in a subject's scan they were spoken::

        scan time = onset of the first event of the sound file + lead + align time

    The first event is the music that most files begin with. Words placed before the
    story are dropped where Gentle found some; slumlord and reach are told apart.

    Parameters
    ----------
    folder : path-like
        Laid out as upstream, see ``fetch``.
    story : str
    subject : str or int
        The first of its scans is taken; the timing of repeats is the same.
    lead : float, optional
        Seconds, added to all times. By default 8.7 for piemanpni and 15.2 for bronx,
        else 0. The data set does not document these two, so check them against the
        data (an encoding model should do best at the right lead) and pass 0 if words
        then run past the end of the story, which warns.

    Returns
    -------
    words : DataFrame
        As of ``transcripts.read_words``; ``onset`` and ``offset`` in seconds from the
        first volume of the scan. The text begins with the first word kept.

    Raises
    ------
    NarrativesError
        If the subject did not hear the story or no word is left.
    transcripts.StimulusError
        If the events or the transcript cannot be used.

    Warns
    -----
    UserWarning
        If words end more than 3 s after the story does.
    """
    folder = Path(folder)
    events = events_of(folder, story, subject)
    sound = _sound(story, events)
    align = folder / "stimuli" / "gentle" / sound / "align.csv"
    if not align.is_file():
        raise NarrativesError(
            f"{align} is missing. Fetch {story} (the scrambled versions of notthefall "
            "have none)."
        )
    words = read_words(align)
    begin = stories.story_onset(events, f"{sound}_audio.wav")
    onset, (low, high) = words["onset"], known(story, "words", (-np.inf, np.inf))
    late = np.flatnonzero(onset >= high)
    first, end = 0, late[0] if len(late) else len(words)
    if known(sound, "early", False):
        low = _story_rows(story, events)[0][0] - begin
        first = 1 + max(np.flatnonzero(onset < low), default=-1)
    elif low > -np.inf:
        first = next(iter(np.flatnonzero(onset >= low)), len(words))
    words = words.iloc[first:end].reset_index(drop=True)
    if not len(words):
        raise NarrativesError(f"{align}: no word of {story} is left.")
    words[["start", "end"]] -= words["start"].iloc[0]
    words[["onset", "offset"]] += begin + (
        known(sound, "lead", 0.0) if lead is None else lead
    )
    over = sum(_story_rows(story, events)[known(story, "part", -1)])
    late = words["offset"].max() - over
    if late > 2 * TR:
        warnings.warn(
            f"{align}: words of {story} end {late:.1f} s after the story does, at "
            f"{over:g} s in {events.name}. Is the lead right?",
            stacklevel=2,
        )
    return words


def fetch(folder, story, *, subjects, derivative="afni-smooth", space=SPACE):
    """Download volumes and timing of a story, laid out as upstream.

    Only what is not there yet; a download that was cut off goes on where it was.
    Scans that ``code/scan_exclude.json`` lists are left out, and so are subjects who
    did not hear the story; both are printed.

    Parameters
    ----------
    folder : path-like
        Gets ``participants.tsv``, ``code/scan_exclude.json``,
        ``derivatives/<derivative>/sub-*/func/*_bold.nii.gz`` (with confounds, of
        fmriprep), ``sub-*/func/*_events.tsv``, ``stimuli/gentle/*/align.csv`` and,
        made of these, ``words/<story>.tsv``: columns ``word``, ``onset``, ``offset``
        (s from the first volume), by the rules of ``load_words``.
    story : str
        A task such as "pieman"; a part of one: "slumlord", "reach"; a version that
        some heard: "milkywayoriginal".
    subjects : sequence of str or int
        "sub-001", "001" or 1.
    derivative : {"afni-smooth", "afni-nosmooth", "fmriprep"}
    space : str
        Of volumes.

    Returns
    -------
    bold : list of Path

    Raises
    ------
    NarrativesError, openneuro.OpenNeuroError, bids.BidsError
        If a subject or story does not exist, nothing is left to fetch, or a file is
        not on a server.
    downloads.DownloadError
        If a server fails or the disk has not enough room.
    """
    folder, task, desc = Path(folder), task_of(story), _desc(derivative)
    about = ("dataset_description.json", "participants.tsv")
    downloads.fetch(openneuro.find(URL, about), folder, name="narratives")
    if not (folder / SCAN_EXCLUDE).is_file():
        with artifacts.atomic(folder / SCAN_EXCLUDE) as temporary:
            temporary.write_bytes(downloads.get(EXCLUDED).content)
    heard = listeners(folder / "participants.tsv")
    subjects = [subject_name(subject) for subject in subjects]
    openneuro.check_names("subject", subjects, heard, folder / "participants.tsv")
    tasks = {name for tasks in heard.values() for name in tasks}
    names = tasks | {name for name in STORIES if task_of(name) in tasks}
    openneuro.check_names("story", [story], names, folder / "participants.tsv")
    for subject in subjects:
        if not hears(heard[subject], story):
            print(f"{subject} did not hear {story}: left out")
    subjects = [subject for subject in subjects if hears(heard[subject], story)]
    if not subjects:
        raise NarrativesError(
            f"none of the subjects heard {story}. {folder / 'participants.tsv'} lists "
            "who heard what."
        )
    out = excluded_scans(folder)
    subjects = _not_excluded(subjects, task, out)
    runs = subjects and openneuro.find_runs(
        URL,
        f"derivatives/{derivative}",
        subjects=subjects,
        task=task,
        space=space,
        desc=desc,
        entities={"res": "native"},
    )
    for name in sorted(out & set(runs)):
        print(f"{name}: left out, as {SCAN_EXCLUDE} says")
        del runs[name]
    if not runs:
        raise NarrativesError(
            "every scan asked for is left out, see above. Name other subjects."
        )
    events = [f"{name.partition('_')[0]}/func/{name}_events.tsv" for name in runs]
    downloads.fetch(openneuro.find(URL, events), folder, name="narratives")
    sounds = sorted({s for file in events for s in sounds_of(folder / file)})
    for sound in sounds:
        if not known(sound, "aligned", True):
            print(f"{sound}: the times of its words are not in the data set")
    sounds = [sound for sound in sounds if known(sound, "aligned", True)]
    remotes = {name: r for files in runs.values() for name, r in files.items()}
    remotes |= openneuro.find(URL, ["stimuli/gentle/{sound}/align.csv"], sound=sounds)
    downloads.fetch(remotes, folder, name="narratives")
    if sounds:
        _write_words(folder, story, next(iter(runs)).partition("_")[0])
    return [folder / next(iter(files)) for files in runs.values()]


def _write_words(folder, story, subject):
    words = load_words(folder, story, subject)
    first, n_volumes = scan_window(story, events_of(folder, story, subject))
    print(
        f"{story}: cut_start {first}, first_volume {first * TR:g} s, "
        f"n_volumes {n_volumes}"
    )
    with artifacts.atomic(folder / "words" / f"{story}.tsv") as temporary:
        columns = ["word", "onset", "offset"]
        words[columns].to_csv(temporary, sep="\t", index=False)


def _desc(derivative):
    """The entity desc of a derivative's finished volumes."""
    if derivative not in DESC:
        raise NarrativesError(
            f"derivative: expected one of {', '.join(DESC)}, found {derivative!r}"
        )
    return DESC[derivative]
