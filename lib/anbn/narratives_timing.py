"""When in a scan of the Narratives data each word was spoken.

Times of words come from Gentle's align.csv, on the clock of the sound file; the scan's
events say when that file began.
"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from anbn import narratives, stimuli
from anbn.narratives import TR, NarrativesError
from anbn.transcripts import read_words
from anbn.word_tables import read_table

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
    subject, task = narratives.subject_name(subject), narratives.task_of(story)
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
        Laid out as upstream, see ``narratives_fetch.fetch``.
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
    begin = stimuli.story_onset(events, f"{sound}_audio.wav")
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
