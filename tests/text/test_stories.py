import numpy as np
import pandas as pd
import pytest

from anbn.text import stories, transcripts
from anbn.text.textfiles import StimulusError


@pytest.mark.parametrize("missing", ["interpolate", "drop"])
def test_transcript(tmp_path, missing):
    path = tmp_path / "story.csv"
    path.write_text("word,onset,offset\nIt,0.5,1\n's,,\nlate,1.2,2\nnow,3,4\n")
    words, text, synthetic, *_ = stories.read_story(path, n_words=3, missing=missing)
    assert words["timed"].tolist() == [True, False, True]
    assert words["onset"].isna().any() == (missing == "drop")
    assert text == "It's late"
    assert [text[s:e] for s, e in zip(words["start"], words["end"], strict=True)] == (
        words["word"].tolist()
    )
    assert not synthetic


@pytest.mark.parametrize("name", ["story.txt", "story.tsv", "story.srt"])
def test_empty_and_non_utf8_transcripts(tmp_path, name, rng):
    path = tmp_path / name
    path.write_bytes(b"  \n")
    with pytest.raises(stories.StimulusError, match="is empty"):
        stories.read_story(path, rng=rng)
    path.write_bytes("word\tonset\toffset\ncaf\u00e9\t0\t1".encode("latin-1"))
    with pytest.raises(stories.StimulusError, match="not UTF-8: byte 21 is 0xe9"):
        stories.read_story(path, rng=rng)


def test_gutenberg_and_start(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text(
        "Licence\n*** START OF X ***\nTitle\n\nOnce, there\n*** END OF X ***"
    )
    assert stories.read_prose(path)[0] == "Title\n\nOnce, there"
    assert stories.read_prose(path, start_at="Once")[0] == "Once, there"
    path.write_text("*** START OF X ***\n\n*** END OF X ***")
    with pytest.raises(stories.StimulusError, match="is empty"):
        stories.read_prose(path)
    path.write_text("Once, there")
    with pytest.raises(stories.StimulusError, match="does not hold 'Twice'"):
        stories.read_prose(path, start_at="Twice")


def test_synthetic_timing_is_ordered_seeded_and_pauses(tmp_path):
    path = tmp_path / "story.txt"
    path.write_text("One two, three.  Four extraordinary\nwords! And so on. " * 50)
    words, text, synthetic, *_ = stories.read_story(path, rng=np.random.default_rng(3))
    again, *_ = stories.read_story(path, rng=np.random.default_rng(3))
    assert synthetic
    assert "timed" not in words  # no time is measured
    pd.testing.assert_frame_equal(words, again)
    transcripts.check_words(words, "here")
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
        len(stories.read_story(path, n_words=7, rng=np.random.default_rng(0))[0]) == 7
    )


def test_story_onset(tmp_path):
    path = tmp_path / "sub-01_events.tsv"
    rows = ["onset\tduration\ttrial_type\tstim_file", "0.0\t9\tmusic\tstimuli/a_b.wav"]
    rows += ["4.5\t9\tstory\tstimuli/b.wav", "29.5\t9\tstory\tstimuli/b.wav"]
    path.write_text("\n".join([*rows, "n/a\t9\tstory\tc.wav"]))
    assert stories.story_onset(path, "/somewhere/else/b.wav") == 4.5
    assert stories.story_onset(path, "a_b.wav") == 0.0
    with pytest.raises(
        stories.StimulusError, match=r"row of d\.wav; .*files a_b.wav, b.wav, c.wav"
    ):
        stories.story_onset(path, "d.wav")
    with pytest.raises(
        stories.StimulusError, match=r"first row of c\.wav, found 'n/a'"
    ):
        stories.story_onset(path, "c.wav")
    path.write_text("stim_file\tduration\na.wav\t1\n")
    with pytest.raises(stories.StimulusError, match="expected the column onset"):
        stories.story_onset(path, "a.wav")


@pytest.mark.parametrize(
    "run, audio, onset",
    [
        ("sub-001_task-pieman_run-1", "pieman_audio.wav", 0.0),
        ("sub-016_task-slumlordreach", "slumlordreach_audio.wav", 4.5),
        ("sub-127_task-black", "black_audio.wav", 12.0),
    ],
)
def test_story_onset_of_narratives(alice_data, run, audio, onset):
    events = alice_data / "ds002345_bids_text" / f"{run}_events.tsv"
    assert stories.story_onset(events, audio) == onset


def test_corpus_documents(tmp_path):
    path = tmp_path / "c.txt"
    body = "word " * 50
    path.write_text(f"<doc id=1>\n{body}one\n</doc>\n<doc id=2>\n{body}two\n</doc>")
    documents = stories.read_corpus(path)
    assert [d.split()[-1] for d in documents] == ["one", "two"]
    path.write_text(f"{body}\n\nshort\n\n{body}\n\ntail")
    assert [len(d.split()) for d in stories.read_corpus(path)] == [50, 51, 1]
    path.write_text(f"{body}\n\nmore\n<|endoftext|>\n{body}\n<|endoftext|>")
    assert [len(d.split()) for d in stories.read_corpus(path)] == [51, 50]
    path.write_text(f"{body}\nshort\n{body}\n")
    assert [len(d.split()) for d in stories.read_corpus(path)] == [50, 51]


def test_shared_sentences():
    ours = "The cat sat on the old mat. Yes. A dog ran far away from here!"
    theirs = ["Nothing here.", "the  CAT sat on the old mat! yes."]
    assert stories.shared_sentences(ours, theirs) == ["The cat sat on the old mat."]
    assert stories.shared_sentences(ours, ["yes."]) == []


MARKDOWN = """---
title: The Lamp
---
# The *Lamp*

It was _late_, **very** late.[^1]
The [ferryman](http://x.org) \\*slept\\* at `home`.<br>

> He said no.

![a picture](a.png)

***

| a | table |
|---|---|

1. one thing
- a_b and 2 * 3 * 4

[^1]: A note.
"""


def test_the_signs_of_markdown_are_no_words(tmp_path):
    path = tmp_path / "story.md"
    path.write_text(MARKDOWN)
    story = stories.read_story(path)
    assert story.text == (
        "The Lamp It was late, very late. The ferryman *slept* at home. He said no. "
        "one thing a_b and 2 * 3 * 4"
    )
    note = next(note for note in story.notes if "Markdown" in note)
    for kind in ("front matter 1", "headings 1", "emphasis 3", "links 1", "images 1"):
        assert kind in note
    assert stories.read_prose(path)[0].split() == story.text.split()
    path = tmp_path / "story.txt"
    path.write_text("It was _late_ * so *.\n")
    story = stories.read_story(path)  # a .txt file is no Markdown
    assert story.text == "It was _late_ * so *."
    assert any("between underscores ('_late_'): 1" in note for note in story.notes)


def test_characters_that_nobody_sees(tmp_path):
    path = tmp_path / "story.txt"
    path.write_text(
        "The ferry\u00adman \u202bslept\u202c\u200b. می\u200cخواهم\n", "utf-8"
    )
    story = stories.read_story(path)
    assert story.text == "The ferryman slept. می\u200cخواهم"
    assert "characters that nobody sees, left out: 4" in story.notes
    path = tmp_path / "story.tsv"
    rows = "The\t0\t1\nferry\u00adman\t1\t2\n\u200b\t2\t3\n\u202bslept\u202c\t3\t4\n"
    path.write_text("word\tonset\toffset\n" + rows, "utf-8")
    story = stories.read_story(path)
    assert story.text == "The ferryman slept"
    assert story.words["onset"].tolist() == [0, 1, 3]
    assert "characters that nobody sees, left out: 4" in story.notes


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.txt", "The sa\ufffdl went.\n"),
        ("a.tsv", "word\tonset\toffset\nsa\ufffdl\t0\t1\n"),
    ],
)
def test_lost_characters_are_refused(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, "utf-8")
    with pytest.raises(StimulusError, match=r"U\+FFFD.*in 1 words, such as 'sa.l'"):
        stories.read_story(path)


def test_a_hyphen_at_the_end_of_a_line(tmp_path):
    path = tmp_path / "story.txt"
    path.write_text("The well-\nknown man - he\nslept -\nsnored.\n")
    story = stories.read_story(path)
    assert story.text == "The well-known man - he slept - snored."
    assert any("ends of lines: 1, such as 'well-known'" in n for n in story.notes)


def test_a_story_that_starts_late(tmp_path):
    path = tmp_path / "story.txt"
    path.write_text("Title\n\nIt was\n  late. The lamp\n")
    assert (
        stories.read_story(path, start_at="It was late").text == "It was late. The lamp"
    )
    path = tmp_path / "story.tsv"
    words = "Title It was late , so we slept".split()
    rows = "".join(f"{w}\t{i}\t{i + 0.5}\n" for i, w in enumerate(words))
    path.write_text("word\tonset\toffset\n" + rows)
    story = stories.read_story(path, start_at="was late,", n_words=3)
    assert story.text == "was late, so"
    assert story.words["onset"].tolist() == [2, 3, 5]  # on the clock of the file
    for a, b, word in zip(
        *(story.words[c] for c in ("start", "end", "word")), strict=True
    ):
        assert story.text[a:b] == word
    for path in (tmp_path / "story.tsv", tmp_path / "story.txt"):
        with pytest.raises(
            StimulusError, match=r"does not hold 'Once'. Check `start_at`"
        ):
            stories.read_story(path, start_at="Once")


def test_parameters_that_cannot_be(tmp_path):
    path = tmp_path / "story.txt"
    path.write_text("It was late.\n")
    with pytest.raises(StimulusError, match=r"story.txt: expected n_words .* found -5"):
        stories.read_story(path, n_words=-5)
    with pytest.raises(FileNotFoundError, match=r"none.txt is not there"):
        stories.read_story(tmp_path / "none.txt")
    once, again = (stories.read_story(path).words for _ in range(2))
    assert once.equals(again)  # without a generator, the same times
    assert once.equals(stories.read_story(path, rng=np.random.default_rng(0)).words)


def test_a_corpus_is_read_as_it_stands(tmp_path):
    """Words of a story are heard; a corpus may hold code, and lost characters."""
    text = (
        "for i in range(3):\n    print(i)  # a hyphen-\nated note, _so_ lost: \ufffd\n"
        * 6
    )
    path = tmp_path / "code.utf8"
    path.write_text(text, encoding="utf-8")
    lines = [line for one in stories.read_corpus(path) for line in one.split("\n")]
    assert [line.strip() for line in lines if line] == [
        line.strip() for line in text.strip().split("\n")
    ]
    with pytest.raises(stories.StimulusError, match="FFFD"):
        stories.read_prose(path)
