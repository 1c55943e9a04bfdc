"""Files of others, cut short, with bits flipped, or edited by hand.

What no reader can see, and so is not counted as wrong here: a value replaced by another
of the same kind (a sample, a time between its neighbours', an affine that is shifted).
A .nii.gz, .npz and .zip have a checksum; a .nii, .npy and a table have none.
"""

import gzip
import warnings

import foreign
import numpy as np
import pytest
from mutations import damage, mutate, seeded

from anbn.brain.bids import BidsError
from anbn.brain.images import BoldError
from anbn.brain.narratives import NarrativesError
from anbn.brain.regressors import RegressorError
from anbn.brain.template_images import TemplateError
from anbn.core.artifacts import ArtifactError
from anbn.masking.selection import SelectionError
from anbn.text.transcripts import StimulusError

OWN = (BoldError, BidsError, TemplateError, SelectionError, RegressorError)
OWN += (NarrativesError, StimulusError, ArtifactError)
TEXT = (".tsv", ".csv", ".json")


@pytest.mark.parametrize("n", [4, pytest.param(40, marks=pytest.mark.faults)])
@pytest.mark.parametrize("name", foreign.TRANSCRIPTS)
def test_mutated_transcripts(tmp_path, tally, name, n):
    path, text = tmp_path / name, foreign.TRANSCRIPTS[name]
    path.write_text(text, encoding="utf-8")
    assert foreign.words_are_sound(*foreign.read_transcript(path)[:2])
    for i in range(n):
        rng = seeded(name, i)
        raw = mutate(text, rng).encode("utf-8", "surrogatepass")
        raw = damage(text.encode(), rng) if i % 4 == 0 else raw
        path.write_bytes(raw)
        missing = rng.choice(("interpolate", "drop"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                words, read, _ = foreign.read_transcript(path, missing)
            except StimulusError as error:
                named = str(path) in str(error)
                tally("transcripts", "clear error" if named else "otherwise", error)
                continue
            except Exception as error:
                tally("transcripts", "otherwise", f"{name} {i}: {error!r}")
                continue
        sound = foreign.words_are_sound(words, read)
        ending = "right result" if sound else "otherwise"
        tally("transcripts", ending, f"{name} {i}: {words}")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return folder, foreign.make(folder)


def mutated(name, original, i):
    rng = seeded(name, i)
    if name.endswith(TEXT) and i % 4:
        return mutate(original.decode(), rng).encode("utf-8", "surrogatepass")
    if name.endswith(".gz") and i % 2:  # what is inside
        return gzip.compress(damage(gzip.decompress(original), rng))
    return damage(original, rng)


@pytest.mark.parametrize("n", [3, pytest.param(60, marks=pytest.mark.faults)])
def test_mutated_images_tables_and_arrays(files, tally, n, capfd):
    folder, readers = files
    for name, read in readers.items():
        path = folder / name
        original = path.read_bytes()
        shape = np.shape(read(path))
        for i in range(n):
            path.write_bytes(mutated(name, original, i))
            kind = f"{''.join(path.suffixes)} of others"
            try:
                with warnings.catch_warnings():
                    # nibabel says so of parts of a header that nothing here reads
                    warnings.simplefilter("error", RuntimeWarning)
                    values = np.asarray(read(path), float)
            except OWN:
                tally(kind, "clear error")
            except Exception as error:
                tally(kind, "otherwise", f"{name} {i}: {error!r}")
            else:
                good = np.isfinite(values).all() and values.ndim == len(shape)
                tally(kind, "right result" if good else "otherwise", f"{name} {i}")
        path.write_bytes(original)
        capfd.readouterr()


def test_a_gzipped_image_never_comes_back_changed(files, tally):
    folder, readers = files
    path = folder / "run.nii.gz"
    original = path.read_bytes()
    expected = readers[path.name](path)
    for i in range(40):
        path.write_bytes(damage(original, seeded("gz", i)))
        try:
            same = np.array_equal(readers[path.name](path), expected)
            tally(".nii.gz, bits", "right result" if same else "otherwise", str(i))
        except BoldError:
            tally(".nii.gz, bits", "clear error")
    path.write_bytes(original)


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda s: s.replace("\n", "\n\n", 5).replace("\n\n", "\n", 4), "NaN|text"),
        (lambda s: s.split("\n", 1)[1], "first line of names"),
        (lambda s: s.replace("a\tb\tc\td", "a\tb\tc"), "more cells than"),
    ],
)
def test_a_table_that_would_shift(files, tmp_path, change, expected):
    folder, readers = files
    path = tmp_path / "regions.tsv"
    path.write_text(change((folder / path.name).read_text()))
    with pytest.raises(BoldError, match=expected):
        readers[path.name](path)


@pytest.mark.parametrize("text", ["00:00:61,000 --> 00:01:02,000", "1 --> 2"])
def test_times_that_are_none(tmp_path, text):
    path = tmp_path / "a.srt"
    path.write_text(f"1\n{text}\nword\n")
    with pytest.raises(StimulusError, match="expected two times"):
        foreign.read_transcript(path)


def test_milliseconds(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("word\tonset\toffset\nhello\t0\t500\nend\t1800000\t1800400\n")
    words, _, _ = foreign.read_transcript(path)
    assert words["offset"].tolist() == [0.5, 1800.4]
    path.write_text("word\tonset\toffset\nhello\t0\t16000\nend\t64000\t80000\n")
    with pytest.raises(StimulusError, match="milliseconds, samples or frames"):
        foreign.read_transcript(path)


def test_a_sound_cut_short(files, tmp_path):
    folder, readers = files
    raw = (folder / "sound.wav").read_bytes()
    for size in (100, 5000, len(raw) - 2):
        (tmp_path / "sound.wav").write_bytes(raw[:size])
        with pytest.raises(RegressorError, match="cannot be read as WAV"):
            readers["sound.wav"](tmp_path / "sound.wav")


def test_values_that_are_no_bold(files, tmp_path):
    folder, readers = files
    values = np.load(folder / "regions.npy")
    values[3, 1] = 1e30
    np.save(tmp_path / "regions.npy", values)
    with pytest.raises(BoldError, match="is no BOLD"):
        readers["regions.npy"](tmp_path / "regions.npy")


def test_an_affine_of_other_voxels(files, tmp_path):
    folder, readers = files
    raw = bytearray((folder / "run.nii").read_bytes())
    raw[280:284] = np.float32(6.0).tobytes()  # srow_x[0]
    (tmp_path / "run.nii").write_bytes(raw)
    with pytest.raises(BoldError, match="by its affine"):
        readers["run.nii"](tmp_path / "run.nii")
