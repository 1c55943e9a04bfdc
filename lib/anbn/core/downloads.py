"""Large files over HTTPS: sizes and hashes checked, broken connections resumed.

pooch fetches whole files only; what is cut off after an hour has to go on from there.
The checksum of what came is kept beside it, ``.<name>.sha256`` of ``<name>``, which
``sha256sum -c .*.sha256`` reads too. Zip files of others are unpacked where they cannot
do harm.
"""

import errno
import fcntl
import functools
import hashlib
import os
import re
import stat
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import requests

from anbn.core import artifacts
from anbn.core.paths import is_litter

MAX_FILES = 1000
MAX_BYTES = 4 * 2**30  # of all members, unpacked
CHUNK = 2**14  # bytes; what a broken connection sent of one is lost
ABSENT = (404, 410)
LOOPBACK = ("127.0.0.1", "::1", "localhost")  # may be asked without encryption
MD5_HOSTS = ("amazonaws.com",)  # their ETag is an MD5, of what was uploaded in one part
PASSING = (408, 429)  # and all of 5xx: worth another try


class ArchiveError(ValueError):
    """An archive is damaged, or holds what it should not."""


def unpack(path, folder, *, max_files=MAX_FILES, max_bytes=MAX_BYTES):
    """Unpack a zip file whose members stay in a folder.

    What systems leave behind is passed over (see ``paths.is_litter``).

    Parameters
    ----------
    path, folder : path-like
    max_files, max_bytes : int
        A few kilobytes may unpack to more than a disk holds.

    Raises
    ------
    ArchiveError
        If it is no zip file, is damaged or encrypted, has a member that would be
        written elsewhere (an absolute name, ``..``) or is no plain file (a link), or
        unpacks to more than allowed.
    """
    left = max_bytes
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            members = [m for m in members if not is_litter(m.filename)]
            if len(members) > max_files:
                raise ArchiveError(
                    f"{path} holds {len(members)} files, more than {max_files}: unpack "
                    "it yourself and name the file or folder that is meant."
                )
            for member in members:
                target = Path(folder) / _place(member, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(target, "xb") as file:
                    # sizes in the header are claims: what comes is counted
                    while block := source.read(min(2**20, left + 1)):
                        left -= len(block)
                        if left < 0:
                            raise ArchiveError(
                                f"{path} unpacks to more than {max_bytes} bytes: "
                                "unpack it yourself and name the file that is meant."
                            )
                        file.write(block)
    except ArchiveError:
        raise
    except FileExistsError as error:
        raise ArchiveError(f"{path} holds the same name twice: {error}") from error
    except OSError as error:
        if error.filename is None or Path(error.filename) == Path(path):
            raise ArchiveError(f"{path} cannot be unpacked: {error}") from error
        raise
    except Exception as error:  # of damage zipfile raises all there is
        raise ArchiveError(
            f"{path} cannot be read as zip: {error}. Copy it again, it may be cut."
        ) from error


def _place(member, path):
    """Where in the folder a member goes."""
    name = PurePosixPath(member.filename.replace("\\", "/"))
    kind = stat.S_IFMT(member.external_attr >> 16)
    if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
        raise ArchiveError(
            f"{path}: its member {member.filename!r} would be written outside the "
            "folder it is unpacked to. Do not trust this file."
        )
    if kind not in (0, stat.S_IFREG):
        raise ArchiveError(
            f"{path}: its member {member.filename!r} is no plain file, but a link or "
            "device. Do not trust this file."
        )
    return name


class DownloadError(RuntimeError):
    """A file could not be fetched, or is no more what was fetched."""


def note_checksum(path):
    """Write down the hash of a file that has just come."""
    with artifacts.atomic(_note(path)) as temporary:
        line = f"{artifacts.sha256(path)}  {path.name}\n"
        temporary.write_text(line, encoding="utf-8")


def check(path, source, md5=""):
    """Compare a file with what came, and with what its server has.

    Parameters
    ----------
    path : Path
        Remembered now, if it was not.
    source : str
        Where it came from.
    md5 : str
        As published; empty if it is not.

    Raises
    ------
    DownloadError
        If it was changed, or is another version.
    """
    note = _note(path)
    if not note.is_file():
        with suppress(OSError):  # a folder that others fill
            note_checksum(path)
    known = note.read_text(encoding="utf-8").split()[:1] if note.is_file() else []
    if known and known != [artifacts.sha256(path)]:
        raise DownloadError(
            f"{path} was changed since it was downloaded: its SHA-256 is not that in "
            f"{note.name}. Delete both and run again; if the change is meant, delete "
            f"{note.name} only."
        )
    if not is_md5(path, md5):
        raise DownloadError(
            f"{path} has the size of {source}, but another MD5: it is damaged, or "
            "another version. Delete it and run again."
        )


def is_md5(path, md5):
    """Whether a file has this MD5; true for an empty one."""
    with open(path, "rb") as file:
        return not md5 or hashlib.file_digest(file, "md5").hexdigest() == md5


def _note(path):
    return path.with_name(f".{path.name}.sha256")


@dataclass(frozen=True)
class Remote:
    """A file on a server.

    Attributes
    ----------
    url : str
    size : int
        Bytes.
    version : str
        ETag or date, which change with the file; empty if the server names none.
    md5 : str
        Empty if the server does not publish it.
    """

    url: str
    size: int
    version: str
    md5: str = ""


class _Encrypted(requests.adapters.HTTPAdapter):
    """Refuses addresses without encryption, those of redirects too."""

    def send(self, request, **options):
        parts = urlsplit(request.url)
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise DownloadError(
                f"{request.url}: expected an address that begins with https://. Over "
                "http anyone on the way could change the file."
            )
        return super().send(request, **options)


@functools.cache
def _session():
    session = requests.Session()
    session.mount("http://", _Encrypted())
    session.headers["Accept-Encoding"] = "identity"  # else sizes are those of a gzip
    return session


def probe(url, *, retries=5, backoff=1.0, timeout=30.0):
    """What a server says about a file (HTTP HEAD).

    Parameters
    ----------
    url : str
    retries : int
        Further attempts after a broken connection or a busy server.
    backoff : float
        Seconds before the first of them; each next waits twice as long.
    timeout : float
        Seconds without an answer.

    Returns
    -------
    remote : Remote or None
        None if there is no such file.

    Raises
    ------
    DownloadError
        If the server cannot be reached, refuses, or does not tell the size.
    """
    return _try(lambda: _head(url, timeout), url, retries, backoff)


def _head(url, timeout):
    with _session().head(url, timeout=timeout, allow_redirects=True) as response:
        if response.status_code in ABSENT:
            return None
        _check_status(response)
        length = response.headers.get("Content-Length", "")
        if not length.isdigit():
            raise DownloadError(
                f"{url}: expected Content-Length, found {length!r}: a whole file could "
                "not be told from a part. Use another server (url)."
            )
        return Remote(url, int(length), _version(response), _md5(response))


def download(remote, path, *, retries=5, backoff=1.0, timeout=30.0, progress=None):
    """Fetch a file unless it is there, whole and as it came.

    What has come so far stays in ``<path>.<version>.part`` and is gone on with, at
    once or in a later run, as long as the file has not changed on the server.

    Parameters
    ----------
    remote : Remote
        From ``probe``.
    path : path-like
    retries, backoff, timeout
        As in ``probe``.
    progress : tqdm, optional
        Updated with bytes.

    Returns
    -------
    path : Path

    Raises
    ------
    DownloadError
        If the connection breaks more than ``retries`` times, the size or MD5 is not the
        one announced, the disk is full, another process fetches the same file, or the
        one that is there was changed since it came.
    """
    path = Path(path)
    tell = progress.update if progress is not None else lambda n: None
    if path.is_file() and path.stat().st_size == remote.size:
        check(path, remote.url, remote.md5)
        tell(remote.size)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    known = [remote]

    def attempt():
        # after a failure, ask again: the file may have been replaced meanwhile
        now = known.pop() if known else _head(remote.url, timeout)
        if now is None:
            raise DownloadError(f"{remote.url} was there and is there no more.")
        return _transfer(now, path, timeout, tell)

    return _try(attempt, remote.url, retries, backoff)


def _part(remote, path):
    """Where the bytes of this version of the file gather."""
    version = hashlib.sha256(f"{remote.version} {remote.size}".encode()).hexdigest()
    return path.with_name(f"{path.name}.{version[:12]}.part")


def _transfer(remote, path, timeout, tell):
    part = _part(remote, path)
    for old in path.parent.glob(f"{path.name}.*.part"):
        if old != part or not remote.version:
            old.unlink(missing_ok=True)
    try:
        with open(part, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _fill(file, remote, timeout, tell)
    except BlockingIOError as error:
        raise DownloadError(f"{part} is being written by another process.") from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        size = part.stat().st_size if part.exists() else 0
        raise DownloadError(
            f"{path}: the disk is full after {size} of {remote.size} bytes. Make room "
            f"and run again: it goes on from {part.name}."
        ) from error
    if not is_md5(part, remote.md5):
        part.unlink()
        raise requests.ConnectionError(f"its MD5 is not {remote.md5}")
    os.replace(part, path)
    note_checksum(path)
    return path


def _fill(file, remote, timeout, tell):
    """Append what is absent, or all if the server begins anew."""
    done = os.fstat(file.fileno()).st_size
    if done > remote.size:
        done = file.truncate(0)
    told = done
    tell(done)
    try:
        if done < remote.size:
            with _get(remote, done, timeout) as response:
                if response.status_code != 206 and done:
                    file.truncate(0)
                    tell(-done)
                    told = done = 0
                length = int(response.headers.get("Content-Length", remote.size - done))
                if done + length != remote.size:
                    file.truncate(0)  # of no use
                    raise DownloadError(
                        f"{remote.url}: {remote.size} bytes were announced, then "
                        f"{done + length}. Nothing of it is kept: try again later."
                    )
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    told += len(chunk)
                    tell(len(chunk))
        file.flush()
        size = os.fstat(file.fileno()).st_size
        if size > remote.size:
            file.truncate(0)
        if size != remote.size:
            raise requests.ConnectionError(f"{size} of {remote.size} bytes came")
    except BaseException:
        tell(-told)  # whoever goes on counts them again
        with suppress(OSError):
            file.flush()
        if os.fstat(file.fileno()).st_size == 0:
            os.unlink(file.name)
        raise


def _get(remote, begin, timeout):
    """Ask for a file from a byte on; the server may send all of it."""
    headers = {"Range": f"bytes={begin}-", "If-Range": remote.version} if begin else {}
    response = _session().get(remote.url, headers=headers, timeout=timeout, stream=True)
    try:
        _check_status(response)
        if _version(response) != remote.version:
            raise requests.ConnectionError("the file has changed on the server")
        span = response.headers.get("Content-Range", "")
        if response.status_code == 206 and not span.startswith(f"bytes {begin}-"):
            raise requests.ConnectionError(f"asked from byte {begin}, found {span!r}")
    except BaseException:
        response.close()
        raise
    return response


def _version(response):
    version = response.headers.get("ETag", "")
    # a weak ETag does not promise the same bytes
    if not version or version.startswith("W/"):
        version = response.headers.get("Last-Modified", "")
    return version


def _md5(response):
    tag = response.headers.get("ETag", "").strip('"')
    host = urlsplit(response.url).hostname or ""
    keyed = "kms" in response.headers.get("x-amz-server-side-encryption", "")
    known = host.endswith(MD5_HOSTS) and not keyed
    return tag if known and re.fullmatch("[0-9a-f]{32}", tag) else ""


def _check_status(response):
    code = response.status_code
    if 400 <= code < 500 and code not in PASSING:
        raise DownloadError(
            f"{response.url}: the server answers {code} {response.reason}. Check the "
            "address (url)."
        )
    response.raise_for_status()


def _try(attempt, url, retries, backoff):
    """Call again, a little later each time, as long as the connection fails."""
    for n in range(retries + 1):
        if n:
            time.sleep(backoff * 2 ** (n - 1))
        try:
            return attempt()
        except requests.RequestException as error:
            last = error
    raise DownloadError(
        f"{url}: gave up after {retries + 1} attempts, the last of which ended with: "
        f"{last}. Is there a network? What has come is kept: run again to go on."
    ) from last
