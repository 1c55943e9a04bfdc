"""Files from a server in this process, which misbehaves."""

import errno
import fcntl
import hashlib
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from serving import serving

from anbn.core import downloads
from anbn.core.downloads import DownloadError

pytestmark = pytest.mark.usefixtures("prompt")
CHUNK = downloads.CHUNK


@pytest.fixture
def big(tmp_path, rng):
    """A server of one file, and the file's bytes."""
    content = rng.integers(0, 256, 5 * CHUNK + 17, dtype=np.uint8).tobytes()
    (tmp_path / "served").mkdir()
    (tmp_path / "served/big.bin").write_bytes(content)
    with serving(tmp_path / "served") as server:
        yield server, content


def fetch(server, folder, remote=None):
    remote = remote or server.remote("big.bin")
    downloads.fetch({"a/b.bin": remote}, folder, name="test")
    return folder / "a/b.bin"


def parts(folder):
    return sorted(folder.rglob("*.part"))


def test_a_file_comes_whole_and_once(big, tmp_path, capfd):
    server, content = big
    path = fetch(server, tmp_path)
    assert path.read_bytes() == content and "test: 100%" in capfd.readouterr().err
    assert fetch(server, tmp_path) == path
    assert server.asked("big.bin") == [None]
    names = {".b.bin.sha256", "b.bin"}
    assert {p.name for p in path.parent.iterdir()} == names


def test_a_broken_download_goes_on_where_it_was(big, tmp_path, monkeypatch):
    server, content = big
    half = 3 * CHUNK
    server.cut["big.bin"] = half + 5  # less than a chunk is lost
    monkeypatch.setattr(downloads, "RETRIES", 0)
    with pytest.raises(DownloadError, match="gave up after 0 retries"):
        fetch(server, tmp_path)
    assert not (tmp_path / "a/b.bin").exists()
    assert parts(tmp_path)[0].read_bytes() == content[:half]
    del server.cut["big.bin"]
    assert fetch(server, tmp_path).read_bytes() == content
    assert server.asked("big.bin") == [None, f"bytes={half}-"]
    assert not parts(tmp_path)


def test_a_download_that_breaks_is_resumed_at_once(big, tmp_path, capfd):
    server, content = big
    server.cut["big.bin"] = cut = 3 * CHUNK
    assert fetch(server, tmp_path).read_bytes() == content
    assert server.asked("big.bin") == [None, f"bytes={cut}-"]
    assert "100%" in capfd.readouterr().err.splitlines()[-1]


def test_a_server_that_keeps_breaking(big, tmp_path):
    server, content = big
    server.cut["big.bin"] = cut = CHUNK
    with pytest.raises(DownloadError, match=r"gave up after 2 retries.*run again"):
        fetch(server, tmp_path)
    assert not (tmp_path / "a/b.bin").exists()
    assert parts(tmp_path)[0].read_bytes() == content[: 3 * cut]
    assert server.asked("big.bin") == [None, f"bytes={cut}-", f"bytes={2 * cut}-"]


def test_a_server_without_ranges_begins_anew(big, tmp_path):
    server, content = big
    server.cut["big.bin"], server.ranges = 40000, False
    with pytest.raises(DownloadError):
        fetch(server, tmp_path)
    del server.cut["big.bin"]
    assert fetch(server, tmp_path).read_bytes() == content


@pytest.mark.parametrize("change", [b"", b"more"])
def test_a_file_that_changed_is_begun_anew(big, tmp_path, monkeypatch, change):
    server, content = big
    monkeypatch.setattr(downloads, "RETRIES", 0)
    server.cut["big.bin"] = 40000
    known = server.remote("big.bin")
    with pytest.raises(DownloadError):
        fetch(server, tmp_path)
    assert parts(tmp_path)
    del server.cut["big.bin"]
    new = content[::-1] + change
    (server.root / "big.bin").write_bytes(new)
    # neither with what was known before the change, nor afresh, are the two mixed
    with pytest.raises(DownloadError, match=r"were announced, then .*Run again"):
        fetch(server, tmp_path, known)
    assert not (tmp_path / "a/b.bin").exists()
    assert fetch(server, tmp_path).read_bytes() == new and not parts(tmp_path)


@pytest.mark.parametrize(
    ("off", "length", "cut", "message"),
    [
        (-10, 0, None, r"\d+ bytes of version .* were announced, then \d+"),
        (10, 0, None, r"\d+ bytes of version .* were announced, then \d+"),
        (10, 10, None, "gave up|were announced"),  # more than is sent
        (0, None, CHUNK, f"gave up.* {CHUNK} of .* bytes came"),
        (-10, None, None, r"gave up.* \d+ of \d+ bytes came"),
    ],
)
def test_a_size_that_is_not_the_one_announced(
    big, tmp_path, monkeypatch, off, length, cut, message
):
    """A length of None: the end is where the connection closes."""
    server, content = big
    monkeypatch.setattr(downloads, "RETRIES", 0)
    server.lists["big.bin"] = len(content) + off
    if length is None or length:
        server.says["big.bin"] = length and len(content) + length
    server.cut |= {"big.bin": cut} if cut else {}
    with pytest.raises(DownloadError, match=message):
        fetch(server, tmp_path)
    assert not (tmp_path / "a/b.bin").exists()
    server.lists, server.says, server.cut = {}, {}, {}
    assert fetch(server, tmp_path).read_bytes() == content


def test_busy_and_refusing_servers(big, tmp_path):
    server, content = big
    server.codes["big.bin"] = [503, 429]
    server.headers["big.bin"] = {"Retry-After": "0"}
    assert fetch(server, tmp_path).read_bytes() == content
    server.codes["big.bin"] = [503] * 9
    with pytest.raises(DownloadError, match=r"gave up after 2 retries.*503"):
        downloads.get(f"{server.host}/big.bin")
    for code in (403, 404):
        server.codes["big.bin"] = [code]
        with pytest.raises(DownloadError, match=f"answers {code}"):
            downloads.get(f"{server.host}/big.bin")
    assert len(server.asked("big.bin")) == 3 + 3 + 2


def test_no_server_and_one_that_hangs(monkeypatch):
    with pytest.raises(DownloadError, match="gave up after 2 retries"):
        downloads.get("http://127.0.0.1:9/a")
    monkeypatch.setattr(downloads, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a"
        with pytest.raises(DownloadError, match="timed out"):
            downloads.get(url)


def test_a_disk_with_too_little_room(big, tmp_path, monkeypatch):
    server, content = big
    usage = type("Usage", (), {"free": len(content) - 1})
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DownloadError, match=r"0.0 GB free. Make room"):
        fetch(server, tmp_path)
    assert not server.seen and not (tmp_path / "a").exists()
    # what has come already needs no room
    part = downloads._part(tmp_path / "a/b.bin", server.remote("big.bin"))
    part.parent.mkdir()
    part.write_bytes(content[:10])
    assert fetch(server, tmp_path).read_bytes() == content


def test_a_disk_that_fills_up(big, tmp_path, monkeypatch):
    server, content = big

    class Full:
        def __init__(self, *args):
            self.file = open(*args)

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, chunk):
            if self.file.tell() + len(chunk) > 2 * CHUNK:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(chunk)

    monkeypatch.setattr(downloads, "open", Full, raising=False)
    with pytest.raises(DownloadError, match=r"the disk is full.*run again"):
        fetch(server, tmp_path)
    monkeypatch.undo()
    assert not (tmp_path / "a/b.bin").exists()
    begin = parts(tmp_path)[0].stat().st_size
    assert 0 < begin < len(content)
    assert fetch(server, tmp_path).read_bytes() == content
    assert server.asked("big.bin") == [None, f"bytes={begin}-"]


def test_a_disk_that_is_really_full(big, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    server, _ = big
    part = downloads._part(tmp_path / "a/b.bin", server.remote("big.bin"))
    part.parent.mkdir()
    part.symlink_to("/dev/full")
    with pytest.raises(DownloadError, match="disk is full"):
        fetch(server, tmp_path)
    assert not (tmp_path / "a/b.bin").exists()


def test_two_processes_do_not_mix(big, tmp_path):
    server, _ = big
    part = downloads._part(tmp_path / "a/b.bin", server.remote("big.bin"))
    part.parent.mkdir()
    with open(part, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DownloadError, match="another process"):
            fetch(server, tmp_path)


def test_what_was_downloaded_is_remembered(big, tmp_path):
    server, content = big
    path = fetch(server, tmp_path)
    note = path.with_name(".b.bin.sha256")
    assert note.read_text() == f"{hashlib.sha256(content).hexdigest()}  b.bin\n"
    path.write_bytes(content[::-1])  # of the same size
    with pytest.raises(DownloadError, match="was changed since"):
        fetch(server, tmp_path)
    os.unlink(note)  # the change is meant, but the server has another
    with pytest.raises(DownloadError, match="another MD5"):
        fetch(server, tmp_path)
    path.write_bytes(content[:-1])
    assert fetch(server, tmp_path).read_bytes() == content


def test_a_published_md5_is_compared(big, tmp_path):
    server, content = big
    wrong = downloads.Remote(**vars(server.remote("big.bin")) | {"md5": "0" * 32})
    with pytest.raises(DownloadError, match=r"gave up.*does not match the known hash"):
        fetch(server, tmp_path, wrong)
    assert not list(tmp_path.joinpath("a").iterdir())
    assert len(server.asked("big.bin")) == 3
    unknown = downloads.Remote(**vars(wrong) | {"md5": ""})
    assert fetch(server, tmp_path, unknown).read_bytes() == content
