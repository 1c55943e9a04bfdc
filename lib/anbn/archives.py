"""Zip files of others, unpacked where they cannot do harm."""

import stat
import zipfile
from pathlib import Path, PurePosixPath

from anbn.paths import is_litter

MAX_FILES = 1000
MAX_BYTES = 4 * 2**30  # of all members, unpacked


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
