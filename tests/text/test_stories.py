import re

import numpy as np
import pandas as pd
import pytest
from spoken import table, timed

from anbn.text import stories, transcripts
from anbn.text.textfiles import StimulusError


def assert_in_place(story):
    words = story.words
    places = zip(words["start"], words["end"], strict=True)
    assert [story.text[a:b] for a, b in places] == words["word"].tolist()


@pytest.mark.parametrize("missing", ["interpolate", "drop"])
def test_transcript(write, missing):
    path = write(
        table([("It", 0.5, 1), ("'s", "", ""), ("late", 1.2, 2), ("now", 3, 4)])
    )
    story = stories.read_story(path, n_words=3, missing=missing)
    assert story.words["timed"].tolist() == [True, False, True]
    assert story.words["onset"].isna().any() == (missing == "drop")
    assert story.text == "It's late" and not story.synthetic
    assert_in_place(story)


def test_the_licence_around_a_book_is_cut_off(write):
    text = "Licence\n*** START OF X ***\nTitle\n\nOnce, there\n*** END OF X ***"
    assert stories.read_prose(write(text, "book.txt"))[0] == "Title\n\nOnce, there"


def test_synthetic_timing_is_ordered_seeded_and_pauses(write):
    text = "One two, three.  Four extraordinary\nwords! And so on. " * 50
    path = write(text, "story.txt")
    story = stories.read_story(path)
    words = story.words
    assert story.synthetic and "timed" not in words  # no time is measured
    rng = np.random.default_rng(0)  # as without a generator
    pd.testing.assert_frame_equal(words, stories.read_story(path, rng=rng).words)
    transcripts.check_words(words, "here")
    assert_in_place(story)
    gap = (words["onset"].shift(-1) - words["offset"]).iloc[:-1]
    stops = words["word"].str.endswith((".", "!")).iloc[:-1]
    assert gap[stops].mean() > 0.4 > gap[~stops].mean()
    length = words["offset"] - words["onset"]
    long = words["word"] == "extraordinary"
    assert length[long].mean() > 3 * length[words["word"] == "so"].mean()
    fewer = stories.read_story(path, n_words=7).words
    pd.testing.assert_frame_equal(fewer, words[:7])  # times do not hang on what follows


def test_story_onset(write):
    rows = [(0.0, 9, "music", "stimuli/a_b.wav"), (4.5, 9, "story", "stimuli/b.wav")]
    rows += [(29.5, 9, "story", "stimuli/b.wav"), ("n/a", 9, "story", "c.wav")]
    path = write(table(rows, "onset duration trial_type stim_file"))
    assert stories.story_onset(path, "/somewhere/else/b.wav") == 4.5
    assert stories.story_onset(path, "a_b.wav") == 0.0
    for audio, expected in (
        ("d.wav", r"row of d\.wav; .*files a_b.wav, b.wav, c.wav"),
        ("c.wav", r"first row of c\.wav, found 'n/a'"),
    ):
        with pytest.raises(StimulusError, match=expected):
            stories.story_onset(path, audio)
    with pytest.raises(StimulusError, match="expected the column onset"):
        stories.story_onset(write("stim_file\tduration\na.wav\t1\n"), "a.wav")


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


BODY = "word " * 50
CORPORA = [  # texts, and the words of their documents
    (f"<doc id=1>\n{BODY}one\n</doc>\n<doc id=2>\n{BODY}two\n</doc>", [51, 51]),
    (f"{BODY}\n\nshort\n\n{BODY}\n\ntail", [50, 51, 1]),
    (f"{BODY}\n\nmore\n<|endoftext|>\n{BODY}\n<|endoftext|>", [51, 50]),
    (f"{BODY}\nshort\n{BODY}\n", [50, 51]),
]


@pytest.mark.parametrize("text, n_words", CORPORA)
def test_corpus_documents(write, text, n_words):
    documents = stories.read_corpus(write(text, "c.txt"))
    assert [len(document.split()) for document in documents] == n_words


def test_a_corpus_is_read_as_it_stands(write):
    """Words of a story are heard; a corpus may hold code, and lost characters."""
    text = (
        "for i in range(3):\n    print(i)  # a hyphen-\nated _note_, lost: \ufffd\n" * 6
    )
    documents = stories.read_corpus(write(text, "code.utf8"))
    lines = [line for one in documents for line in one.split("\n") if line]
    assert [line.strip() for line in lines] == [
        line.strip() for line in text.strip().split("\n")
    ]


def test_shared_sentences():
    ours = "The cat sat on the old mat. Yes. A dog ran far away from here!"
    theirs = ["Nothing here.", "the  CAT sat on the old mat! yes."]
    assert stories.shared_sentences(ours, theirs) == ["The cat sat on the old mat."]
    assert stories.shared_sentences(ours, ["yes."]) == []


PROSE = [
    "The old keeper slept. It was 12:30 when he woke, and {so} [on].\n",
    "[Chapter 1] Down the hole.\n\nShe fell.\n",
    "{Curious} and curiouser!\n",
    "1 2\n\nBuckle my shoe, she said, and went on with it for a while.\n",
    "1:1 In the beginning\n1:2 And the earth\n1:10 And God\n1:11 And God\n",
    "<doc id=1>\nThe old keeper.\n</doc>\n",
    "# Title\n\nThe *old* keeper `slept` <b>well</b>.\n\nIt was dark.\n\nSo.\n",
    "word, onset and offset are columns.\nThe old keeper knew.\n",
    "In 1912 3 men\ncame, and 4 went.\n",
    "1:10 And God\n1:11 And God\n1:12 And the\n1:13 And the evening\n",
    "In 1911 there were 3 ships. 12 men at 10:45, 4.5 miles out; 0.7 % lived.\n",
    "10:30 Woke late. The ferry had gone.\n\nI walked to the harbour.\nCold.\n",
    "He read (3:16) and\nthen he slept.\nIt was late.\nSo (4:12) he left.\n",
    "At 10:30 he came.\nAt 11:15 he ate.\nAt 12:00 he left.\n",
    "Ann: who is it?\nBob: me.\nAnn: at 10:30?\n",
]


@pytest.mark.parametrize("text", PROSE)
@pytest.mark.parametrize("name", ["a.txt", "a.MD"])
def test_prose_is_prose(write, name, text):
    words, read, synthetic, *_ = stories.read_story(write(text, name))
    assert synthetic
    if name == "a.MD":
        text = re.sub(r"^# |[*`]|</?b>", "", text)
    assert read == " ".join(text.split())
    assert " ".join(words["word"]) == read


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


def test_the_signs_of_markdown_are_no_words(write):
    path = write(MARKDOWN, "story.md")
    story = stories.read_story(path)
    assert story.text == (
        "The Lamp It was late, very late. The ferryman *slept* at home. He said no. "
        "one thing a_b and 2 * 3 * 4"
    )
    note = next(note for note in story.notes if "Markdown" in note)
    for kind in ("front matter 1", "headings 1", "emphasis 3", "links 1", "images 1"):
        assert kind in note
    assert stories.read_prose(path)[0].split() == story.text.split()


# files, their text, and what is said of how they were read
CLEANED = [
    ("a.txt", "It was _late_ * so *.\n", "It was _late_ * so *.", "('_late_'): 1"),
    (
        *("a.txt", "The ferry\u00adman \u202bslept\u202c\u200b. می\u200cخواهم\n"),
        *("The ferryman slept. می\u200cخواهم", "nobody sees, left out: 4"),
    ),
    (
        "a.tsv",
        table(timed(["The", "ferry\u00adman", "\u200b", "\u202bslept\u202c"])),
        *("The ferryman slept", "nobody sees, left out: 4"),
    ),
    (
        *("a.txt", "The well-\nknown man - he\nslept -\nsnored.\n"),
        *("The well-known man - he slept - snored.", "lines: 1, such as 'well-known'"),
    ),
]


@pytest.mark.parametrize("name, content, text, note", CLEANED)
def test_what_is_left_out_or_kept_is_said(write, name, content, text, note):
    story = stories.read_story(write(content, name))
    assert story.text == text
    assert any(note in said for said in story.notes)
    assert_in_place(story)


def test_a_story_that_starts_late(write):
    path = write("Title\n\nIt was\n  late. The lamp\n", "story.txt")
    assert stories.read_story(path, start_at="was late").text == "was late. The lamp"
    path = write(table(timed("Title It was late , so we slept".split())))
    story = stories.read_story(path, start_at="was late,", n_words=3)
    assert story.text == "was late, so"
    assert story.words["onset"].tolist() == [2, 3, 5]  # on the clock of the file
    assert_in_place(story)
