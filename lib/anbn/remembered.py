"""Hashes of what was downloaded, kept beside it: ``.<name>.sha256`` of ``<name>``.

``sha256sum -c .*.sha256`` reads them too.
"""

import hashlib
from contextlib import suppress

from anbn import artifacts


class DownloadError(RuntimeError):
    """A file could not be fetched, or is no more what was fetched."""


def remember(path):
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
            remember(path)
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
