"""Text files of others, read as text: encoding, and whether it is text at all."""

import os
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from anbn.core.tables import encoding_of

READ = (
    "Can be read: Praat .TextGrid, ELAN .eaf and the tables it exports; .json of "
    "Whisper, WhisperX, whisper.cpp, Gentle, Vosk or the Montreal Forced Aligner; .tsv "
    "and .csv with word, onset and offset, BIDS events, Gentle's align.csv; captions "
    ".srt, .vtt, .ass; labels of Audacity (.txt), .lab, .ctm; and, without times, "
    "plain text in .txt or .md"
)
BEGINNINGS = {
    b"PK\x03\x04": "a zip archive, as .docx, .xlsx and .odt are: save it as plain text",
    b"%PDF": "a PDF: save its text as .txt",
    b"{\\rtf": "rich text: save it as plain text",
    b"\x1f\x8b": "compressed with gzip: unpack it",
    b"\xd0\xcf\x11\xe0": "an old Office document: save it as plain text or .csv",
    b"\x00\x05\x16\x07": "the companion that macOS writes beside a file (AppleDouble): "
    "name the file without `._`",
    b"ooBinaryFile": "in Praat's binary format: in Praat, save it as a text file",
    (b"RIFF", b"OggS", b"fLaC", b"ID3"): "a sound, not its transcript",
    b"PAR1": "a parquet table: save it as .csv",
}
POINTERS = re.compile(
    rb"(?:version https://git-lfs\.|version https://hawser\.|"
    rb"(?:\.\./)*(?:\.git)?/?annex/objects/)"
)

# zero-width blanks and joiners, soft hyphens, marks of the direction of writing; but
# not U+200C and U+200D, which Persian, Hindi and emoji need
INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
LOST = "\ufffd"


class StimulusError(ValueError):
    """A transcript or text cannot be used."""


class Found(NamedTuple):
    """Words of a file, and what was done to get them."""

    words: pd.DataFrame  # word, onset, offset; also timed, blank, speaker, aligned
    notes: list  # of str, to be printed: what was left out, clipped, spread
    left_out: Counter = Counter()  # marks that are no words, and how often each
    n_clipped: int = 0  # words whose end was clipped to the next one's onset
    unit: str | None = None  # of the times: "s", or not said


def decode(path):
    """Text of a file in UTF-8, or in UTF-16 with a byte order mark; lines end in \\n.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    StimulusError
        If the file is empty, in another encoding, no text, or stands for content that
        was not fetched (git-annex, Git LFS).
    """
    path = Path(path)
    if path.is_symlink() and not path.exists():
        raise StimulusError(
            f"{path} is a link to {os.readlink(path)!r:.200}, which is not here: fetch "
            "the content (of git-annex or DataLad: `datalad get` with the file's name)."
        )
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: expected a transcript or text.")
    if path.is_dir():
        raise StimulusError(f"{path} is a folder: name a file in it. {READ}.")
    raw = path.read_bytes()
    if POINTERS.match(raw):
        raise StimulusError(
            f"{path} is a pointer of git-annex or Git LFS, not the file itself: fetch "
            "the content (`datalad get`, `git annex get` or `git lfs pull` with the "
            "file's name)."
        )
    for beginning, what in BEGINNINGS.items():
        if raw.startswith(beginning):
            raise StimulusError(f"{path} is {what}. {READ}.")
    encoding = encoding_of(raw)
    if b"\0" in raw and encoding != "utf-16":
        raise StimulusError(
            f"{path} holds NUL bytes: it is UTF-16 without a byte order mark, or no "
            "text. Save it as UTF-8."
        )
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        expected = encoding.removesuffix("-sig").upper()
        raise StimulusError(
            f"{path} is not {expected}: byte {error.start} is "
            f"{error.object[error.start]:#x}. Save it as UTF-8."
        ) from error
    if "\0" in text:
        raise StimulusError(
            f"{path} holds NUL characters: it is UTF-32, or damaged. Save it as UTF-8."
        )
    if not text.strip():
        raise StimulusError(f"{path} is empty: expected text.")
    return re.sub(r"\r\n?", "\n", text)


def visible(text):
    """Text without characters that nobody sees, and how many were taken out."""
    return INVISIBLE.subn("", text)


def check_whole(text, path):
    """Raise StimulusError for a text in which characters were lost (U+FFFD)."""
    lost = [word for word in text.split() if LOST in word]
    if lost:
        raise StimulusError(
            f"{path} holds U+FFFD, which stands where a character was lost, in "
            f"{len(lost)} words, such as {lost[0]!r:.60}. Convert the file again from "
            "its source, or correct these words."
        )
