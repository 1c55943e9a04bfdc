"""Data sets of OpenNeuro: files found on its server by patterns, and fetched.

The bucket lists names, sizes and hashes of all files over HTTPS, anonymously
(ListObjectsV2 of Amazon S3). A parameter names them as
``openneuro:ds000001/derivatives/fmriprep``; they are kept in ``openneuro/ds000001`` of
``ANBN_DATA`` (or the cache), laid out as upstream.
"""

import fnmatch
import itertools
import re
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

from anbn.brain import bids
from anbn.core import downloads
from anbn.core.downloads import Remote
from anbn.core.params import did_you_mean
from anbn.core.paths import OPENNEURO, tidy
from anbn.core.tables import some

URL = "https://s3.amazonaws.com/openneuro.org"
SHOWN = 40  # names of subjects in an error


class OpenNeuroError(ValueError):
    """What was asked for is not in the data set."""


def dataset_of(spec):
    """Data set and path inside it of ``openneuro:ds000001/inner/path``.

    Raises
    ------
    OpenNeuroError
        If it names no data set.
    """
    found = re.fullmatch(rf"{OPENNEURO}(ds\d{{6}})/*(.*?)/*", spec)
    if not found:
        raise OpenNeuroError(
            f"expected {OPENNEURO}ds000001/folder, a data set of OpenNeuro and a "
            f"folder or file in it, found {spec!r}"
        )
    return found[1], found[2]


def list_files(url, prefix, *, deep=True):
    """Files of a bucket whose names begin alike.

    Parameters
    ----------
    url : str
        Of the data set: server, bucket, data set.
    prefix : str
        What their paths in the data set begin with.
    deep : bool
        Whether those in folders below it are meant, too.

    Returns
    -------
    files : dict of str to Remote
        By their path in the data set.
    folders : list of str
        Below the prefix, each with a slash at its end; empty if ``deep``.

    Raises
    ------
    downloads.DownloadError
        If the server fails, lists nothing that can be read, or names a file that would
        be written outside the data set's folder.
    """
    server, key = _bucket(url)
    asked = {"list-type": "2", "prefix": f"{key}/{prefix}"}
    asked |= {} if deep else {"delimiter": "/"}
    files, folders = {}, []
    while True:
        content = downloads.get(server, params=asked).content
        try:
            page = ElementTree.fromstring(content)
        except ElementTree.ParseError as error:
            raise downloads.DownloadError(
                f"{server}: expected a list of the files in {asked['prefix']}, found "
                f"{content!r:.80}"
            ) from error
        for item in page.iterfind("{*}Contents"):
            name = item.findtext("{*}Key").removeprefix(f"{key}/")
            if PurePosixPath(name).is_absolute() or ".." in name.split("/"):
                raise downloads.DownloadError(
                    f"{url} lists {name!r}, which would be written outside the folder "
                    "of the data set. Do not trust this server."
                )
            etag, size = item.findtext("{*}ETag"), int(item.findtext("{*}Size"))
            # that of what was uploaded in one part is its MD5
            found = re.fullmatch('"([0-9a-f]{32})"', etag)
            address = f"{url}/{quote(name)}"
            files[name] = Remote(address, size, etag, found[1] if found else "")
        below = page.iterfind("{*}CommonPrefixes/{*}Prefix")
        folders += [folder.text.removeprefix(f"{key}/") for folder in below]
        token = page.findtext("{*}NextContinuationToken")
        if not token:
            return {n: r for n, r in files.items() if not n.endswith("/")}, folders
        asked["continuation-token"] = token


def _bucket(url):
    """Address of the bucket of a data set, and what its files' names begin with."""
    parts = urlsplit(url)
    bucket, _, key = parts.path.strip("/").partition("/")
    return f"{parts.scheme}://{parts.netloc}/{bucket}", key


def _listed(urls, prefix, **options):
    """``list_files`` of the first server that has any."""
    for url in urls:
        found = list_files(url, prefix, **options)
        if any(found):
            break
    return found


def find(urls, patterns, **values):
    """Files of a data set by patterns of their names.

    Parameters
    ----------
    urls : sequence of str
        Servers that have the data set, asked in this order for each pattern.
    patterns : sequence of str
        Such as ``{subject}/func/{subject}_task-{task}_*events.tsv``; ``*``, ``?`` and
        ``[]`` stand for what they do in a shell, ``*`` for slashes, too.
    **values
        Of what stands in braces: one, or a list of several.

    Returns
    -------
    remotes : dict of str to Remote
        By path in the data set.

    Raises
    ------
    OpenNeuroError
        If nothing matches a pattern (says what there is).
    downloads.DownloadError
        If a server fails.
    """
    several = [[v] if isinstance(v, str) else v for v in values.values()]
    filled = [dict(zip(values, v, strict=True)) for v in itertools.product(*several)]
    remotes = {}
    for pattern in dict.fromkeys(p.format(**v) for p in patterns for v in filled):
        prefix = re.split(r"[*?\[]", pattern)[0]
        for url in urls:
            there, _ = list_files(url, prefix)
            found = {n: r for n, r in there.items() if fnmatch.fnmatchcase(n, pattern)}
            if found:
                break
        else:
            folder = prefix[: prefix.rfind("/") + 1]
            files, folders = _listed(urls, folder, deep=False)
            server, key = _bucket(urls[0])
            raise OpenNeuroError(
                f"no {pattern} at {' or '.join(urls)}. In {folder or 'it'} there is "
                f"{some(sorted([*folders, *files]))}; all files: "
                f"{server}?list-type=2&prefix={key}/{folder}"
            )
        remotes |= found
    return remotes


def find_runs(urls, folder, *, subjects, **entities):
    """Runs of a folder of derivatives on a server, as ``bids.find_runs`` finds them.

    Parameters
    ----------
    urls : sequence of str
        See ``find``.
    folder : str
        In the data set, such as ``derivatives/fmriprep``; "" for itself.
    subjects : sequence of str
        "sub-001" or "001".
    **entities
        As for ``bids.find_runs``: task, space, desc, entities.

    Returns
    -------
    runs : dict of str to dict of str to Remote
        By name of the run its files, the volumes first: then the table of confounds
        and JSON files that apply to it, where there are such.

    Raises
    ------
    OpenNeuroError
        If there is no such folder or subject.
    bids.BidsError
        If no file, or several of a run, have these entities.
    """
    folder = f"{folder}/" if folder else ""
    top, folders = _listed(urls, folder, deep=False)
    where = f"{urls[0]}/{folder}"
    people = [PurePosixPath(f).name for f in folders]
    people = [name for name in people if name.startswith("sub-")]
    if not people:
        raise OpenNeuroError(
            f"{where}: expected folders sub-*, found {some(sorted([*folders, *top]))}. "
            "Name the folder that holds them."
        )
    subjects = [_called(subject, people) for subject in subjects]
    check_names("subject", subjects, people, where)
    there = dict(top)
    for subject in subjects:
        there |= _listed(urls, f"{folder}{subject}/")[0]
    paths = tidy(map(PurePosixPath, there))
    chosen = bids.choose(paths, where, subjects=subjects, **entities)
    runs = {}
    for name, path in chosen.items():
        of_run = [p for p in paths if p.parent in path.parents]
        table = bids.confounds_of(path, [p for p in of_run if p.parent == path.parent])
        files = [path, *([table] if table else []), *bids.sidecars_of(path, of_run)]
        runs[name] = {str(p): there[str(p)] for p in files}
    return runs


def _called(subject, people):
    """``sub-01`` of "1", "01" or "sub-01", where there is one."""
    bare = str(subject).removeprefix("sub-")
    alike = [p for p in people if bids.same(p.removeprefix("sub-"), bare)]
    return alike[0] if alike else f"sub-{bare}"


def check_names(what, given, known, where):
    """Refuse names of subjects or stories that are not known, and none at all.

    Raises
    ------
    OpenNeuroError
        Says which there are.
    """
    unknown = [name for name in given if name not in known]
    if given and not unknown:
        return
    found, names = "found none", sorted(known)
    if unknown:
        hint = did_you_mean(unknown[0], names)
        found = f"there is no {what} {unknown[0]!r}{hint}"
    more = " and so on" * (len(names) > SHOWN)
    raise OpenNeuroError(
        f"{where}: expected the name of a {what} or more, {found}. There are "
        f"{len(names)}: {', '.join(names[:SHOWN])}{more}."
    )


def fetch(spec, folder, *, subjects=(), **entities):
    """Fetch runs of an OpenNeuro data set, or a file or folder of it.

    What is there and whole is not fetched again, see ``downloads.fetch``.

    Parameters
    ----------
    spec : str
        ``openneuro:ds000001/derivatives/fmriprep``.
    folder : path-like
        Gets ``ds000001/derivatives/fmriprep/...``.
    subjects : sequence of str
        Such as sub-001.
    **entities
        See ``bids.find_runs``: runs with these, their confounds and JSON files. None:
        all there is at that path.

    Raises
    ------
    OpenNeuroError, bids.BidsError
        If the data set has not what is asked for.
    downloads.DownloadError
        If the server fails, or the disk has not enough room.
    """
    dataset, inner = dataset_of(spec)
    urls = [f"{URL}/{dataset}"]
    if not entities:
        remotes, _ = list_files(urls[0], inner)
        remotes = {
            n: r for n, r in remotes.items() if n == inner or n.startswith(f"{inner}/")
        }
        remotes = remotes or find(urls, [inner])
    else:
        runs = find_runs(urls, inner, subjects=subjects, **entities)
        remotes = {name: r for files in runs.values() for name, r in files.items()}
    downloads.fetch(remotes, Path(folder) / dataset, name=dataset)
