"""The Narratives data: its scans, who heard what, when, and fetching them.

345 people listened to 27 stories, TR 1.5 s (Nastase et al. 2021, Scientific Data 8:250;
OpenNeuro ds002345). A scan is a task; most stories have the name of theirs. Times of
words come from Gentle's align.csv, on the clock of the sound file; the scan's events
say when that file began. Files come over HTTPS, anonymously.
"""

import dataclasses
import functools
import shutil
import warnings
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
from tqdm import tqdm

from anbn.brain import bids
from anbn.core import artifacts
from anbn.core.artifacts import read_json
from anbn.core.downloads import download, probe
from anbn.core.params import did_you_mean
from anbn.core.tables import read_named
from anbn.text import stories
from anbn.text.transcripts import read_words
from anbn.text.word_tables import read_table

TR = 1.5  # s, of every scan
SPACE = "MNI152NLin2009cAsym"
TASK_OF = {"slumlord": "slumlordreach", "reach": "slumlordreach"}
MILKYWAYS = ("milkywayoriginal", "milkywaysynonyms", "milkywayvodka")
TASK_OF |= dict.fromkeys(MILKYWAYS, "milkyway")
CLIPS = "bigbang friends himym santa seinfeld shame upintheair vinny".split()
TASK_OF |= dict.fromkeys(CLIPS, "schema")
# first volume and number of volumes, published; of other stories: from the events.
# lucy begins one volume before the onset in its events as they are now.
WINDOWS = {
    "pieman": (10, 281),
    "black": (8, 533),
    "forgot": (8, 558),
    "shapesphysical": (33, 270),
    "shapessocial": (33, 272),
    "slumlord": (20, 602),
    "reach": (646, 550),
    "lucy": (1, 361),
}
LEADS = {"piemanpni": 8.7, "bronx": 15.2}  # s, see load_words
EARLY = ("prettymouth", "merlin", "notthefallintact", "milkywaysynonyms")
SPLIT = 950.0  # s of the sound file: between slumlord and reach
URL = (  # in this order: the first that has a file
    "https://s3.amazonaws.com/openneuro.org/ds002345",
    "https://s3.amazonaws.com/fcp-indi/data/Projects/narratives",
    # the code of the paper: scan_exclude.json
    "https://raw.githubusercontent.com/snastase/narratives/"
    "886e3c121de57957d3af7665c4b327a3985e0d17",
)
# stories without an align.csv
UNALIGNED = ("notthefalllongscram", "notthefallshortscram")


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
    return task in heard and (story not in MILKYWAYS or story == task + heard[task])


def excluded_scans(folder):
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
    if story in ("slumlord", "reach"):
        return "slumlordreach"
    there = sounds_of(events)
    if story == "milkyway" and len(there) == 1:  # the version this subject heard
        return there[0]
    if story not in there:
        raise NarrativesError(
            f"{events}: expected a story in {story}_audio.wav, found "
            f"{', '.join(there) or 'no story'}. Name one of these, or a subject who "
            f"heard {story}."
        )
    return story


def _story_rows(story, events):
    """Onsets and durations (s) of the parts of a story's sound file."""
    table = _read_events(events)
    named = table["stim_file"].str.endswith(f"{_sound(story, events)}_audio.wav")
    rows = table.loc[named & (table["trial_type"] == "story"), ["onset", "duration"]]
    rows = rows.apply(pd.to_numeric, errors="coerce").to_numpy(float)
    if len(rows) <= (story == "reach") or not np.isfinite(rows).all():
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
        Of a scan of the story; needed unless ``WINDOWS`` has it. Then::

            first = round(onset / TR), n = round(duration / TR)

        as in the data set's code/compile_metadata.py.

    Returns
    -------
    first, n : int
        First volume, from 0, and number of volumes.
    """
    if story in WINDOWS:
        return WINDOWS[story]
    if events is None:
        raise NarrativesError(
            f"{story}: give the events of a scan; without them the volumes are known "
            f"of {', '.join(WINDOWS)} only."
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


def drop_early(words, onset):
    """Drop words until the last that begins before the story does.

    Of some stories Gentle found the first words in the music before them.

    Parameters
    ----------
    words : DataFrame
        From ``transcripts.read_words``.
    onset : float
        Of the story on the clock of its sound file, seconds.
    """
    early = np.flatnonzero(words["onset"] < onset)
    return _cut(words, early[-1] + 1 if len(early) else 0, len(words))


def split_parts(words, story):
    """Words of slumlord or of reach, which share a sound file and a scan.

    reach begins with the first word from 950 s on (code/get_words.py).
    """
    late = np.flatnonzero(words["onset"] >= SPLIT)
    first = late[0] if len(late) else len(words)
    return _cut(words, *((0, first) if story == "slumlord" else (first, len(words))))


def _cut(words, first, end):
    words = words.iloc[first:end].reset_index(drop=True)
    if len(words):
        words[["start", "end"]] -= words["start"].iloc[0]
    return words


def load_words(folder, story, subject, *, missing="interpolate", lead=None):
    """Words of a story and when in a subject's scan they were spoken::

        scan time = onset of the first event of the sound file + lead + align time

    The first event is the music that most files begin with. Words placed before the
    story are dropped for ``EARLY``; slumlord and reach are told apart.

    Parameters
    ----------
    folder : path-like
        Laid out as upstream, see ``fetch``.
    story : str
    subject : str or int
        The first of its scans is taken; the timing of repeats is the same.
    missing : {"interpolate", "drop"}
        See ``transcripts.read_words``.
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
    words = read_words(align, missing=missing)
    begin = stories.story_onset(events, f"{sound}_audio.wav")
    if sound in EARLY:
        words = drop_early(words, _story_rows(story, events)[0][0] - begin)
    if sound == "slumlordreach" and story != sound:
        words = split_parts(words, story)
    if not len(words):
        raise NarrativesError(f"{align}: no word of {story} is left.")
    words[["onset", "offset"]] += begin + (
        LEADS.get(sound, 0.0) if lead is None else lead
    )
    end = sum(_story_rows(story, events)[-1 if story != "slumlord" else 0])
    late = words["offset"].max() - end
    if late > 2 * TR:
        warnings.warn(
            f"{align}: words of {story} end {late:.1f} s after the story does, at "
            f"{end:g} s in {events.name}. Is the lead right?",
            stacklevel=2,
        )
    return words


def fetch(
    folder,
    *,
    subjects,
    stories,
    derivative="afni-smooth",
    space=SPACE,
    url=URL,
    retries=5,
    backoff=1.0,
    timeout=30.0,
):
    """Download volumes and timing of some subjects and stories, laid out as upstream.

    Only what is not there yet; a download that was cut off goes on where it was.
    Scans that ``code/scan_exclude.json`` lists are left out, and so are stories that a
    subject did not hear; both are printed.

    Parameters
    ----------
    folder : path-like
        Gets ``participants.tsv``, ``code/scan_exclude.json``,
        ``derivatives/<derivative>/sub-*/func/*_bold.nii.gz`` (with confounds, of
        fmriprep), ``sub-*/func/*_events.tsv``, ``stimuli/gentle/*/align.csv``.
    subjects : sequence of str or int
        "sub-001", "001" or 1.
    stories : sequence of str
        Tasks such as "pieman"; parts of one: "slumlord", "reach"; versions that some
        heard: "milkywayoriginal".
    derivative : {"afni-smooth", "afni-nosmooth", "fmriprep"}
    space : str
        Of volumes.
    url : str or sequence of str
        Servers, asked in this order for each file.
    retries, backoff, timeout
        See ``downloads.probe``.

    Returns
    -------
    bold : list of Path

    Raises
    ------
    NarrativesError
        If a subject or story does not exist, nothing is left to fetch, or the disk has
        not enough room.
    downloads.DownloadError
        If a server fails.
    """
    folder = Path(folder)
    patience = {"retries": retries, "backoff": backoff, "timeout": timeout}
    urls = [u.rstrip("/") for u in _several(url)]
    bold_name, *more_names = _names(derivative, space)

    @functools.cache
    def find(name):
        found = (probe(f"{u}/{name}", **patience) for u in urls)
        return next((remote for remote in found if remote is not None), None)

    def require(name):
        remote = find(name)
        if remote is None:
            raise NarrativesError(_absent(name, urls))
        return remote

    def get(name):
        return download(require(name), folder / name, **patience)

    for name in ("dataset_description.json", "code/scan_exclude.json"):
        get(name)
    scans = _scans(get("participants.tsv"), _several(subjects), _several(stories))
    remotes, bold, sounds = {}, [], set()
    for subject, task in scans:
        stems, n_excluded = _stems(subject, task, folder, bold_name, find)
        if not stems and not n_excluded:
            raise NarrativesError(_absent(bold_name(f"{subject}_task-{task}"), urls))
        for stem in stems:
            bold.append(folder / bold_name(stem))
            for name in [bold_name(stem), *(other(stem) for other in more_names)]:
                remotes[name] = require(name)
            events = get(f"{subject}/func/{stem}_events.tsv")
            sounds |= set(sounds_of(events))
    if not bold:
        raise NarrativesError(
            "every scan asked for is left out, see above. Name other subjects."
        )
    for sound in sorted(sounds):
        if sound in UNALIGNED:
            print(f"{sound}: the times of its words are not in the data set")
        else:
            name = f"stimuli/gentle/{sound}/align.csv"
            remotes[name] = require(name)
    absent = [r.size for name, r in remotes.items() if not (folder / name).exists()]
    free = shutil.disk_usage(folder).free
    if sum(absent) > free:
        raise NarrativesError(
            f"{folder}: {sum(absent) / 1e9:.1f} GB are to be fetched, the disk has "
            f"{free / 1e9:.1f} GB free. Make room or name fewer subjects."
        )
    total = sum(remote.size for remote in remotes.values())
    with tqdm(
        total=total, desc="narratives", unit="B", unit_scale=True, mininterval=5
    ) as progress:
        for name, remote in remotes.items():
            download(remote, folder / name, progress=progress, **patience)
    return bold


def fetch_story(folder, story, **options):
    """Fetch one story, and write its words in scan time to ``words/<story>.tsv``.

    Parameters
    ----------
    folder : path-like
    story : str
    **options
        See ``fetch``.

    Returns
    -------
    words : Path
        Columns ``word``, ``onset``, ``offset`` (s from the first volume), by the rules
        of ``load_words``.
    """
    bold = fetch(folder, stories=[story], **options)
    subject = bold[0].name.partition("_")[0]
    words = load_words(folder, story, subject)
    events = events_of(folder, story, subject)
    first, n_volumes = scan_window(story, events)
    print(
        f"{story}: cut_start {first}, first_volume {first * TR:g} s, "
        f"n_volumes {n_volumes}"
    )
    path = Path(folder) / "words" / f"{story}.tsv"
    with artifacts.atomic(path) as temporary:
        columns = ["word", "onset", "offset"]
        words[columns].to_csv(temporary, sep="\t", index=False)
    return path


def _several(values):
    return [values] if isinstance(values, str | int) else list(values)


def _names(derivative, space):
    """Functions from a scan to the files of a derivative; the volumes first."""
    desc = description(derivative)
    if not space.startswith("MNI"):
        raise NarrativesError(
            f"space: expected one of volumes, such as {SPACE}, found {space!r}: "
            "surfaces are not read."
        )

    def func(stem):
        return f"derivatives/{derivative}/{stem.split('_')[0]}/func/{stem}"

    names = [lambda s: f"{func(s)}_space-{space}_res-native_desc-{desc}_bold.nii.gz"]
    if derivative == "fmriprep":
        names.append(lambda s: f"{func(s)}_desc-confounds_regressors.tsv")
    return names


def _absent(name, urls):
    parts = urlsplit(urls[0])
    bucket, _, prefix = parts.path.strip("/").partition("/")
    parent = f"{prefix}/{name.rpartition('/')[0]}".strip("/")
    return (
        f"no {name} at {' or '.join(urls)}. Check the subject, the story, derivative "
        "and space. participants.tsv lists who heard what; files are listed at "
        f"{parts.scheme}://{parts.netloc}/{bucket}?list-type=2&prefix={parent}/"
    )


def _scans(participants, subjects, stories):
    """Pairs (subject, task) of those who heard the stories."""
    heard = listeners(participants)
    subjects = [subject_name(subject) for subject in subjects]
    known = {task for tasks in heard.values() for task in tasks}
    known |= {story for story, task in TASK_OF.items() if task in known}
    for what, given, there in (
        ("subject", subjects, set(heard)),
        ("story", stories, known),
    ):
        unknown = [name for name in given if name not in there]
        if given and not unknown:
            continue
        found, names = "found none", sorted(there)
        if unknown:
            hint = did_you_mean(unknown[0], names)
            found = f"there is no {what} {unknown[0]!r}{hint}"
        raise NarrativesError(
            f"{participants}: expected the name of a {what} or more, {found}."
            f" There are {len(names)}: {', '.join(names[:40])}"
            + " and so on."
            * (len(names) > 40)
        )
    scans = {}
    for subject in subjects:
        for story in stories:
            task = task_of(story)
            if hears(heard[subject], story):
                scans[subject, task] = None
            else:
                print(f"{subject} did not hear {story}: left out")
    if not scans:
        raise NarrativesError(
            f"none of the {len(subjects)} subjects heard {' or '.join(stories)}. "
            f"{participants} lists who heard what."
        )
    return list(scans)


def _stems(subject, task, folder, bold_name, find):
    """Names of the scans there are; only repeated ones have a run."""
    excluded, stems, n_excluded = excluded_scans(folder), [], 0
    for run in range(10):
        stem = f"{subject}_task-{task}" + f"_run-{run}" * (run > 0)
        if stem in excluded:
            print(f"{stem}: left out, as code/scan_exclude.json says")
            n_excluded += 1
        elif find(bold_name(stem)) is not None:
            stems.append(stem)
        elif run > 0:
            break
        if run == 0 and (stems or n_excluded):
            break
    return stems, n_excluded
