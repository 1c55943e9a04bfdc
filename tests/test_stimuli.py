import numpy as np
import pandas as pd
import pytest

from anbn import stimuli

TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"
xmin = 0
xmax = 2
tiers? <exists>
size = 1
item []:
    item [1]:
        class = "IntervalTier"
        name = "word"
        xmin = 0
        xmax = 2
        intervals: size = {size}
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = "sp"
        intervals [2]:
            xmin = 0.5
            xmax = 1
            text = "It"
        intervals [3]:
            xmin = 1
            xmax = 1.2
            text = "'s"
        intervals [4]:
            xmin = 1.2
            xmax = 2
            text = "caf\u00e9"
"""


def table(tmp_path, rows, name="words.tsv"):
    path = tmp_path / name
    frame = pd.DataFrame(rows, columns=["word", "onset", "offset"])
    frame.to_csv(path, sep="\t" if name.endswith("tsv") else ",", index=False)
    return path


def test_textgrid(tmp_path):
    path = tmp_path / "story.TextGrid"
    path.write_text(TEXTGRID.format(size=4), encoding="utf-8")
    words, text, synthetic = stimuli.load_story(path)
    assert words["word"].tolist() == ["It", "'s", "caf\u00e9"]
    assert words["onset"].tolist() == [0.5, 1.0, 1.2]
    assert text == "It's caf\u00e9"
    assert [text[s:e] for s, e in zip(words["start"], words["end"], strict=True)] == (
        words["word"].tolist()
    )
    assert not synthetic


def test_textgrid_cut_short(tmp_path):
    path = tmp_path / "story.TextGrid"
    path.write_text(TEXTGRID.format(size=9))
    with pytest.raises(stimuli.StimulusError, match="found 4 of 9 intervals"):
        stimuli.read_words(path)


@pytest.mark.parametrize("name", ["words.tsv", "words.csv"])
def test_table(tmp_path, name):
    path = table(tmp_path, [("null", 0.0, 0.2), ("NA", 0.3, 0.4)], name)
    words, text, _ = stimuli.load_story(path, n_words=2)
    assert text == "null NA"  # words, not missing values
    assert words["offset"].tolist() == [0.2, 0.4]


@pytest.mark.parametrize(
    "rows, expected",
    [
        ([("a", 1.0, 1.1), ("b", 0.5, 0.7)], "before that of the word before.*'b'"),
        ([("a", 0.0, 1.0), ("b", 0.5, 1.5)], "overlaps the one before it, at word 2"),
        ([("a", -1.0, 0.0)], "onset is negative, at word 1 of 1, 'a'"),
        ([("a", 1.0, 0.5)], "offset lies before the onset"),
        ([("a", "soon", 0.5)], "onset is not a number"),
        ([("a", None, 0.5)], "onset is not a number"),
        ([], "holds no words"),
    ],
)
def test_bad_times_are_named(tmp_path, rows, expected):
    path = table(tmp_path, rows)
    with pytest.raises(stimuli.StimulusError, match=expected) as error:
        stimuli.read_words(path)
    assert "words.tsv" in str(error.value)


@pytest.mark.parametrize("name", ["story.txt", "story.tsv", "story.TextGrid"])
def test_empty_and_non_utf8_transcripts(tmp_path, name, rng):
    path = tmp_path / name
    path.write_bytes(b"  \n")
    with pytest.raises(stimuli.StimulusError, match="is empty"):
        stimuli.load_story(path, rng=rng)
    path.write_bytes("word\tonset\toffset\ncaf\u00e9\t0\t1".encode("latin-1"))
    with pytest.raises(stimuli.StimulusError, match="not UTF-8: byte 21 is 0xe9"):
        stimuli.load_story(path, rng=rng)


def test_wrong_columns_and_kinds(tmp_path):
    path = tmp_path / "words.tsv"
    path.write_text("w\tt\na\t1\n")
    with pytest.raises(stimuli.StimulusError, match="expected the columns word"):
        stimuli.read_words(path)
    with pytest.raises(stimuli.StimulusError, match=r"expected a \.TextGrid"):
        stimuli.read_words(tmp_path / "words.xlsx")


def test_gutenberg_and_start(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text(
        "Licence\n*** START OF X ***\nTitle\n\nOnce, there\n*** END OF X ***"
    )
    assert stimuli.read_text(path) == "Title\n\nOnce, there"
    assert stimuli.read_text(path, start_at="Once") == "Once, there"
    with pytest.raises(stimuli.StimulusError, match="does not hold 'Twice'"):
        stimuli.read_text(path, start_at="Twice")


def test_synthetic_timing_is_ordered_seeded_and_pauses(tmp_path):
    path = tmp_path / "story.txt"
    path.write_text("One two, three.  Four extraordinary\nwords! And so on. " * 50)
    words, text, synthetic = stimuli.load_story(path, rng=np.random.default_rng(3))
    again, _, _ = stimuli.load_story(path, rng=np.random.default_rng(3))
    assert synthetic
    pd.testing.assert_frame_equal(words, again)
    stimuli.check_words(words, "here")
    assert [text[s:e] for s, e in zip(words["start"], words["end"], strict=True)] == (
        words["word"].tolist()
    )
    gap = (words["onset"].shift(-1) - words["offset"]).iloc[:-1]
    stops = words["word"].str.endswith((".", "!")).iloc[:-1]
    assert gap[stops].mean() > 0.4 > gap[~stops].mean()
    length = words["offset"] - words["onset"]
    long = words["word"] == "extraordinary"
    assert length[long].mean() > 3 * length[words["word"] == "so"].mean()
    assert (
        len(stimuli.load_story(path, n_words=7, rng=np.random.default_rng(0))[0]) == 7
    )


def test_corpus_documents(tmp_path):
    path = tmp_path / "c.txt"
    body = "word " * 50
    path.write_text(f"<doc id=1>\n{body}one\n</doc>\n<doc id=2>\n{body}two\n</doc>")
    documents = stimuli.read_corpus(path)
    assert [d.split()[-1] for d in documents] == ["one", "two"]
    path.write_text(f"{body}\n\nshort\n\n{body}\n\ntail")
    assert [len(d.split()) for d in stimuli.read_corpus(path)] == [50, 51, 1]


def test_shared_sentences():
    ours = "The cat sat on the old mat. Yes. A dog ran far away from here!"
    theirs = ["Nothing here.", "the  CAT sat on the old mat! yes."]
    assert stimuli.shared_sentences(ours, theirs) == ["The cat sat on the old mat."]
    assert stimuli.shared_sentences(ours, ["yes."]) == []
