"""One writer at a time: a stage's folder is held until it is finished.

A lock ends with its process, however that ends.
"""

import fcntl
import time

_held = {}  # folders this process is writing -> open lock file


def hold(folder, patience=20.0):
    """Keep other processes from writing a folder until it is released or we end.

    Parameters
    ----------
    folder : Path
        May be held already, by this process.
    patience : float
        Seconds: the kernel of a killed run takes a second to notice.

    Raises
    ------
    TimeoutError
        If another process holds it.
    """
    if folder in _held:
        return
    file = open(folder / ".lock", "w")
    give_up = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > give_up:
                file.close()
                raise TimeoutError(
                    f"{folder} is being written by another process, perhaps a notebook "
                    "open in JupyterLab: run it to its end or shut its kernel down."
                ) from None
            time.sleep(0.2)
    _held[folder] = file


def release(folder):
    """Let others write a folder."""
    if folder in _held:
        _held.pop(folder).close()
