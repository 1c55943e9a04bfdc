import pytest

from anbn.text import transcripts


@pytest.fixture
def write(tmp_path):
    """A function that writes a file of a text or of bytes."""

    def write(text, name="a.tsv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return path

    return write


@pytest.fixture
def read(write):
    """A function that reads a transcript of such a text."""
    return lambda text, name="a.tsv", **how: transcripts.read(write(text, name), **how)
