"""Downloading the Narratives data (OpenNeuro ds002345) over HTTPS, anonymously."""

import difflib
import functools
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from anbn import artifacts, narratives, narratives_timing
from anbn.downloads import download, probe
from anbn.narratives import SPACE, NarrativesError

URL = (  # in this order: the first that has a file
    "https://s3.amazonaws.com/openneuro.org/ds002345",
    "https://s3.amazonaws.com/fcp-indi/data/Projects/narratives",
    # the code of the paper: scan_exclude.json
    "https://raw.githubusercontent.com/snastase/narratives/"
    "886e3c121de57957d3af7665c4b327a3985e0d17",
)
# stories without an align.csv
UNALIGNED = ("notthefalllongscram", "notthefallshortscram")


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
            sounds |= set(narratives_timing.sounds_of(events))
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
        of ``narratives_timing.load_words``.
    """
    bold = fetch(folder, stories=[story], **options)
    subject = bold[0].name.partition("_")[0]
    words = narratives_timing.load_words(folder, story, subject)
    events = narratives_timing.events_of(folder, story, subject)
    first, n_volumes = narratives_timing.scan_window(story, events)
    print(
        f"{story}: cut_start {first}, first_volume {first * narratives.TR:g} s, "
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
    desc = narratives.description(derivative)
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
    heard = narratives.listeners(participants)
    subjects = [narratives.subject_name(subject) for subject in subjects]
    known = {task for tasks in heard.values() for task in tasks}
    known |= {story for story, task in narratives.TASK_OF.items() if task in known}
    for what, given, there in (
        ("subject", subjects, set(heard)),
        ("story", stories, known),
    ):
        unknown = [name for name in given if name not in there]
        if given and not unknown:
            continue
        found = f"there is no {what} {unknown[0]!r}" if unknown else "found none"
        close = difflib.get_close_matches(unknown[0], sorted(there)) if unknown else []
        names = sorted(there)
        raise NarrativesError(
            f"{participants}: expected the name of a {what} or more, {found}."
            + (f" Did you mean {' or '.join(close)}?" if close else "")
            + f" There are {len(names)}: {', '.join(names[:40])}"
            + " and so on." * (len(names) > 40)
        )
    scans = {}
    for subject in subjects:
        for story in stories:
            task = narratives.task_of(story)
            if narratives.hears(heard[subject], story):
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
    excluded, stems, n_excluded = narratives.excluded(folder), [], 0
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
