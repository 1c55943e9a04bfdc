"""Files over HTTPS: kept, placed and checked by pooch, broken transfers resumed.

pooch fetches whole files only; what is cut off after an hour has to go on from there.
The checksum of what came is kept beside it, ``.<name>.sha256`` of ``<name>``, which
``sha256sum -c .*.sha256`` reads too. Zip files of others are unpacked where they cannot
do harm.
"""

import errno
import fcntl
import functools
import glob
import hashlib
import lzma
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pooch
import requests
from tqdm import tqdm
from urllib3.util import Retry

from anbn.core import artifacts
from anbn.core.paths import is_litter

MAX_FILES = 1000  # of a zip file
MAX_BYTES = 4 * 2**30  # of all its members, unpacked
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError)
DAMAGE += (RuntimeError, ValueError)  # encrypted, of an unknown method, odd names
CHUNK = 2**14  # bytes; what a broken connection sent of one is lost
RETRIES = 5  # after a broken connection or a busy server
BACKOFF = 1.0  # s before the second of them; each next waits twice as long
TIMEOUT = 30.0  # s without an answer
BUSY = (408, 429, 500, 502, 503, 504)
LOOPBACK = ("127.0.0.1", "::1", "localhost")  # may be asked without encryption


class ArchiveError(ValueError):
    """An archive is damaged, or holds what it should not."""


def unpack(path, folder):
    """Unpack a zip file whose members stay in a folder.

    What systems leave behind is passed over (see ``paths.is_litter``).

    Raises
    ------
    ArchiveError
        If it is no zip file, is damaged or encrypted, has a member that would be
        written elsewhere (an absolute name, ``..``) or is no plain file (a link), or
        unpacks to more than ``MAX_FILES`` or ``MAX_BYTES``: a few kilobytes may hold
        more than a disk does.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            members = [m for m in members if not is_litter(m.filename)]
            # zipfile reads no more of a member than its header says
            n_bytes = sum(member.file_size for member in members)
            if len(members) > MAX_FILES or n_bytes > MAX_BYTES:
                raise ArchiveError(
                    f"{path} unpacks to {len(members)} files, {n_bytes} bytes: more "
                    f"than {MAX_FILES} files or {MAX_BYTES} bytes. Unpack it yourself "
                    "and name the file or folder that is meant."
                )
            for member in members:
                member.filename = str(_place(member, path))
            if len({member.filename for member in members}) < len(members):
                raise ArchiveError(f"{path} holds the same name twice")
            for member in members:
                archive.extract(member, folder)
    except ArchiveError:
        raise
    except DAMAGE as error:
        raise ArchiveError(
            f"{path} cannot be read as zip: {error}. Copy it again, it may be cut."
        ) from error
    except OSError as error:
        raise ArchiveError(f"{path} cannot be unpacked: {error}") from error


def _place(member, path):
    """Where in the folder a member goes."""
    name = PurePosixPath(member.filename.replace("\\", "/"))
    kind = stat.S_IFMT(member.external_attr >> 16)
    if name.is_absolute() or ".." in name.parts or re.match("[^/]*:", str(name)):
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
    if md5 and pooch.file_hash(path, "md5") != md5:
        raise DownloadError(
            f"{path} has the size of {source}, but another MD5: it is damaged, or "
            "another version. Delete it and run again."
        )


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
    etag : str
        Changes with the file.
    md5 : str
        Empty if the server does not publish it.
    """

    url: str
    size: int
    etag: str
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
    patience = Retry(RETRIES, backoff_factor=BACKOFF, status_forcelist=BUSY)
    session.mount("https://", requests.adapters.HTTPAdapter(max_retries=patience))
    session.mount("http://", _Encrypted(max_retries=patience))
    session.headers["Accept-Encoding"] = "identity"  # else sizes are those of a gzip
    return session


def get(url, **options):
    """Ask a server, again if it is busy or not to be reached.

    Parameters
    ----------
    url : str
    **options
        Of ``requests.get``.

    Returns
    -------
    response : requests.Response

    Raises
    ------
    DownloadError
        If the server cannot be reached or refuses.
    """
    try:
        response = _session().get(url, timeout=TIMEOUT, **options)
    except requests.RequestException as error:
        raise _gave_up(url, error) from error
    if not response.ok:
        response.close()
        raise DownloadError(
            f"{response.url}: the server answers {response.status_code} "
            f"{response.reason}. Check the address."
        )
    return response


def _gave_up(url, error):
    return DownloadError(
        f"{url}: gave up after {RETRIES} retries, the last of which ended with: "
        f"{error}. Is there a network? What has come is kept: run again to go on."
    )


def fetch(remotes, folder, *, name):
    """Fetch files, except those that are there, whole and as they came.

    What has come so far of a file stays in ``<path>.<version>.part`` and is gone on
    with, at once or in a later run, as long as the file has not changed on the server.

    Parameters
    ----------
    remotes : dict of str to Remote
        By their path in the folder.
    folder : path-like
    name : str
        Of what is fetched, for the bar of progress.

    Raises
    ------
    DownloadError
        If they need more room than there is (nothing is fetched then), the connection
        breaks more than ``RETRIES`` times, the size or MD5 is not the one announced,
        the disk is full, another process fetches the same file, or one that is there
        was changed since it came.
    """
    folder, absent = Path(folder), {}
    for file, remote in remotes.items():
        path = folder / file
        if path.is_file() and path.stat().st_size == remote.size:
            check(path, remote.url, remote.md5)
        else:
            absent[file] = remote
    parts = {file: _part(folder / file, remote) for file, remote in absent.items()}
    size = sum(remote.size for remote in absent.values())
    size -= sum(part.stat().st_size for part in parts.values() if part.is_file())
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise DownloadError(
            f"{folder}: {size / 1e9:.1f} GB are to be fetched, the disk has "
            f"{free / 1e9:.1f} GB free. Make room or name fewer subjects."
        )
    pooch.get_logger().setLevel("WARNING")  # the bar says what comes
    known = {f: f"md5:{r.md5}" if r.md5 else None for f, r in absent.items()}
    urls = {file: remote.url for file, remote in absent.items()}
    fetcher = pooch.Pooch(folder, "", known, urls, retry_if_failed=RETRIES)
    total = sum(remote.size for remote in absent.values())
    options = {"unit": "B", "unit_scale": True, "mininterval": 5}
    with tqdm(total=total, desc=name, disable=not absent, **options) as progress:
        for file, remote in absent.items():
            (folder / file).unlink(missing_ok=True)  # of another size

            def tell(n_bytes, begin=progress.n):
                progress.update(begin + n_bytes - progress.n)

            come = functools.partial(_come, remote, parts[file], tell)
            try:
                fetcher.fetch(file, downloader=come)
            except (ValueError, requests.RequestException) as error:
                raise _gave_up(remote.url, error) from error
            note_checksum(folder / file)


def _part(path, remote):
    """Where the bytes of this version of the file gather."""
    version = hashlib.sha256(f"{remote.etag} {remote.size}".encode()).hexdigest()
    return path.with_name(f"{path.name}.{version[:12]}.part")


def _come(remote, part, tell, url, output_file, fetcher):
    """A downloader of pooch (the last three arguments) that goes on with a part."""
    name = part.name.rsplit(".", 2)[0]
    for old in part.parent.glob(f"{glob.escape(name)}.*.part"):
        if old != part:
            old.unlink()
    try:
        with open(part, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _fill(file, remote, tell)
    except BlockingIOError as error:
        raise DownloadError(f"{part} is being written by another process.") from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DownloadError(
            f"{part}: the disk is full, {remote.size} bytes are needed. Make room and "
            "run again: it goes on from there."
        ) from error
    os.replace(part, output_file)


def _fill(file, remote, tell):
    """Append what is absent, or all if the server begins anew."""
    done = file.tell()
    tell(done)
    if done < remote.size:
        # the server may send all of it
        headers = {"Range": f"bytes={done}-", "If-Range": remote.etag} if done else {}
        with get(remote.url, headers=headers, stream=True) as response:
            if done and response.status_code != 206:
                done = _empty(file)
            length = int(response.headers.get("Content-Length", remote.size - done))
            found = response.headers.get("ETag", "")
            if found != remote.etag or done + length != remote.size:
                raise DownloadError(
                    f"{remote.url}: {remote.size} bytes of version {remote.etag} were "
                    f"announced, then {done + length} of {found}. Run again: it may "
                    "have been replaced meanwhile."
                )
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                tell(file.tell())
    if file.tell() != remote.size:
        n_came = file.tell()
        if n_came > remote.size:
            _empty(file)
        raise requests.ConnectionError(f"{n_came} of {remote.size} bytes came")


def _empty(file):
    file.truncate(0)
    return file.seek(0)
