"""Captions that show words more than once, in pieces, or beside what is no word."""

import numpy as np
import pytest
from spoken import captions

from anbn.text import stories
from anbn.text.textfiles import StimulusError

LINE = ["The", "lamp", "was", "lit."]
ONSET = [0.5, 0.82, 1.14, 1.46]
OFFSET = [0.8, 1.12, 1.44, 1.76]


@pytest.fixture
def shown(read):
    """A function that reads captions of (text, onset, offset)."""

    def shown(cues, name="a.srt"):
        return read(captions(cues, "." if name.endswith(".vtt") else ","), name)

    return shown


def highlighted(words, mark, gaps=True):
    cues = []
    for k, (on, off) in enumerate(zip(ONSET, OFFSET, strict=True)):
        line = [mark.format(w) if i == k else w for i, w in enumerate(words)]
        cues.append((" ".join(line), on, off))
        if gaps:
            cues.append((" ".join(words), off, off + 0.02))
    return cues[: len(words) * (1 + gaps)]


MARKS = [
    "<u>{}</u>",
    "<b>{}</b>",
    "<c.lit>{}</c>",
    '<font color="#00ff00">{}</font>',
    "{{\\c&H00FF00&}}{}{{\\r}}",
]


@pytest.mark.parametrize("name", ["a.srt", "a.vtt", "a.srt.txt"])
@pytest.mark.parametrize("gaps", [True, False])
@pytest.mark.parametrize("mark", MARKS)
def test_a_cue_a_word(shown, name, gaps, mark):
    found = shown(highlighted(LINE, mark, gaps), name)
    assert found.words["word"].tolist() == LINE
    np.testing.assert_allclose(found.words["onset"], ONSET)
    np.testing.assert_allclose(found.words["offset"], OFFSET)
    assert found.words["timed"].all()
    assert "lines shown once for each word, read once: 1" in found.notes


LIT = highlighted(LINE, "<u>{}</u>")
NO = highlighted(["no", "no"], "<u>{}</u>")
QUOTED = highlighted(["lamp", "lit"], "<u>{}</u>")
SPOKEN = {  # captions, the words, their onsets and which of these are measured
    "punctuation outside the highlight": (
        *([(f'"{said}."', *times) for said, *times in QUOTED], '"lamp lit."'),
        *([0.5, 0.82], [True, True]),
    ),
    "the same word twice and the same line twice": (
        *(NO + [(said, on + 2, off + 2) for said, on, off in NO], "no no no no"),
        *([0.5, 0.82, 2.5, 2.82], [True] * 4),
    ),
    "a word that is never lit": (
        *(LIT[:2] + LIT[3:], "The lamp was lit."),
        *([0.5, 0.8, 1.14, 1.46], [True, False, True, True]),
    ),
    "a line of one word and one of two rows": (
        [
            *(("<u>Yes.</u>", 0.0, 0.4), ("Yes.", 0.4, 0.5)),
            ("<u>The</u> lamp\nwas lit.", 0.5, 0.8),
            ("The lamp\n<u>was</u> lit.", 0.8, 1),
        ],
        *("Yes. The lamp was lit.", [0, 0.5, 0.8, 0.8, np.nan]),
        [True, True, False, True, False],
    ),
    "what is said twice": (
        *([("No.", 0, 1), ("No.", 1, 2)], "No. No.", [0, 1], [True, True]),
    ),
    "what is said twice in italics": (
        *([("<i>No.</i>", 0, 1), ("<i>No.</i>", 1, 2)], "No. No.", [0, 1]),
        [True, True],
    ),
    "lines that roll on": (
        [
            *(("we sail", 0, 2), ("we sail", 2, 2.01), ("we sail\nthis", 2.01, 4)),
            *(("this", 4, 4.01), ("this\nno more", 4.01, 6)),
        ],
        *("we sail this no more", [0, 2 / 3, 2.01, 4.01, 4.01 + 1.99 / 3]),
        [True, False, True, True, False],
    ),
    "lines that grow": (
        [("The", 0, 1), ("The lamp", 1, 2), ("The lamp was lit.", 2, 3)],
        *("The lamp was lit.", [0, 1, 2, 2 + 3 / 7], [True] * 3 + [False]),
    ),
    "pieces of a word as cues": (
        [(" un", 0, 0.2), ("believ", 0.2, 0.4), ("able", 0.4, 0.6), (" it", 0.6, 0.9)],
        *("unbelievable it", [0, 0.6], [True, True]),
    ),
    "a piece without a blank goes on with its word": (
        [("un<00:00:01.200><c>able</c><00:00:01.700><c> now</c> or", 0.5, 2)],
        *("unable now or", [0.5, 1.7, 1.88], [True, True, False]),
    ),
    "a blank may end the piece before": (
        [("<00:00:00.500>The <00:00:00.820>lamp", 0.5, 2)],
        *("The lamp", [0.5, 0.82], [True, True]),
    ),
    "captions shown together": (
        [("one two three four", 0, 2), ("five", 1, 3), ("six", 1, 3)],
        *("one two three four five six", [0, 0.2, 0.4, 11 / 15, 1, 1 + 8 / 7]),
        [True, False, False, False, True, False],
    ),
    "captions without a word": (
        [("[MUSIC]", 0, 1), ("♪♪", 1, 2), ("Oh", 2, 3), ("(applause)", 3, 4)],
        *("Oh", [2], [True]),
    ),
    "an arrow that is said": (
        [("go --> there", 0, 1), ("A --> B\n<i>x</i> --> y", 1, 2), ("on -->", 2, 3)],
        *("go --> there A --> B x --> y on -->", [0, 0.2, 0.5, 1, 1.1, 1.4]),
        [True, False, False, True, False, False],
    ),
}


@pytest.mark.parametrize("case", SPOKEN)
@pytest.mark.parametrize("name", ["a.srt", "a.vtt"])
def test_what_is_spoken_is_read_once(shown, case, name):
    cues, text, onset, timed = SPOKEN[case]
    found = shown(cues, name)
    assert found.words["word"].tolist() == text.split()
    n = len(onset)
    np.testing.assert_allclose(found.words["onset"][:n], onset, atol=2e-3)
    assert found.words["timed"].tolist()[:n] == timed
    assert found.words["onset"].dropna().is_monotonic_increasing
    n_spread = int((~found.words["timed"]).sum())
    said = f"times are spread over them, and those of {n_spread} words are not measured"
    assert any(said in note for note in found.notes) == bool(n_spread)


@pytest.mark.parametrize("line", ["from 5 --> 6 at", "1 --> 2", "--> 00:00:04,000"])
def test_an_arrow_that_may_be_a_damaged_time(shown, line):
    with pytest.raises(StimulusError, match=r"line 3: expected two times .* -->"):
        shown([(line, 0, 1)])


def test_what_whisper_prints(read):
    text = "[00:00.000 --> 00:04.200]  The keeper.\n[00:04.200 --> 00:05.000]  Oh.\n"
    words = read(text, "printed.txt").words
    assert words["word"].tolist() == ["The", "keeper.", "Oh."]
    assert words["onset"].iloc[-1] == 4.2


NO_WORDS = [
    ("[SPEAKER_00]: Who is there?", "Who is there?", ["[SPEAKER_00]"]),
    ("SPEAKER_01: Only me.", "Only me.", ["SPEAKER_01:"]),
    ("Speaker 2: Only me.", "Only me.", ["Speaker 2:"]),
    ("ANN: Who is there?", "Who is there?", ["ANN:"]),
    ("- Who is there?\n- Me.", "Who is there? Me.", ["-", "-"]),
    (">> Who is there?", "Who is there?", [">>"]),
    ("&gt;&gt;&gt; Who?", "Who?", [">>>"]),
    (">> BOB: Who?", "Who?", [">>", "BOB:"]),
    ("[MUSIC] Oh", "Oh", ["[MUSIC]"]),
    ("[MUSIC PLAYING]\nOh", "Oh", ["[MUSIC PLAYING]"]),
    ("(laughs) Oh", "Oh", ["(laughs)"]),
    ("(SPEAKS FRENCH)\nOh", "Oh", ["(SPEAKS FRENCH)"]),
    ("Oh *sighs* well", "Oh well", ["*sighs*"]),
    ("♪ la la ♪", "la la", ["♪", "♪"]),
    ("Oh (so he said) well", "Oh (so he said) well", []),
    ("It is 2 > 1, I <3 it", "It is 2 > 1, I <3 it", []),
    ("well-known - or not", "well-known - or not", []),
    # names in round brackets are names where one recurs
    ("(Anna) Come in.|So.|(Anna) Sit.", "Come in. So. Sit.", ["(Anna)", "(Anna)"]),
    ("(A B.): Oh.|(Bob) No.|(Bob) So.", "Oh. No. So.", ["(A B.)", "(Bob)", "(Bob)"]),
    ("(Perhaps) he came.|So.", "(Perhaps) he came. So.", []),
    # a line of its own is a name where all captions begin with one
    ("Ann\nThe lamp.|Bob\nWho?", "The lamp. Who?", ["Ann", "Bob"]),
    ("Ann Lee\nOh.|Speaker 2\nWho?", "Oh. Who?", ["Ann Lee", "Speaker 2"]),
    ("Ann\nand Bob|Bob\ncame", "Ann and Bob Bob came", []),
    ("Ann\nThe lamp.|Who?", "Ann The lamp. Who?", []),
]


@pytest.mark.parametrize("said, text, left_out", NO_WORDS)
def test_what_is_no_word(shown, said, text, left_out):
    found = shown([(s, 2 * i, 2 * i + 1) for i, s in enumerate(said.split("|"))])
    assert stories.join_words(found.words) == text
    assert sorted(found.left_out.elements()) == sorted(left_out)
    assert any("no words left out" in n for n in found.notes) == bool(left_out)
    assert any("may name who speaks" in n for n in found.notes) == ("(Perhaps" in text)


SRT = """1
00:00:01,000 --> 00:00:02,000 X1:10
{\\an8}<i>Hello</i>,
<font color="red">you</font> &amp; me

2
00:00:02,500 --> 00:00:03,500
- In

1984
3
00:00:04,000 --> 00:00:04,5
I <3 it
42
"""


def test_srt(read):
    words = read(SRT, "story.srt").words
    text = "Hello, you & me In 1984 I <3 it 42"  # the dash: another speaker
    assert stories.join_words(words) == text
    np.testing.assert_allclose(words["onset"][:5], [1, 1.5, 1.75, 1 + 10 / 12, 2.5])
    np.testing.assert_allclose(words["offset"][:4], [1.5, 1.75, 1 + 10 / 12, 2])
    assert words["offset"].iloc[-1] == 4.5
    assert words.index[words["timed"]].tolist() == [0, 4, 6]
    dropped = read(SRT, "story.srt", missing="drop").words
    assert dropped.index[dropped["onset"].notna()].tolist() == [0, 4, 6]
    bare = SRT[2:].replace("\n2\n", "\n").replace("\n3\n", "\n\n")  # no numbers
    assert stories.join_words(read(bare, "bare.srt").words) == text


# as YouTube writes them: times of words, and lines that roll on
ROLLING = """WEBVTT
Kind: captions

STYLE
::cue { color: red }

NOTE not a
caption

00:00.000 --> 00:02.000 align:start position:0%
\x20
hello<00:00:00.500><c> world</c>

00:02.000 --> 00:02.010 align:start
hello world
\x20

00:02.010 --> 00:04.000
hello world
this<00:00:02.500><c> is</c><00:00:03.000> it now
"""


def test_vtt_with_times_of_words(read):
    words = read(ROLLING, "story.vtt").words
    assert words["word"].tolist() == ["hello", "world", "this", "is", "it", "now"]
    np.testing.assert_allclose(words["onset"], [0, 0.5, 2.01, 2.5, 3.0, 3.4])
    np.testing.assert_allclose(words["offset"], [0.5, 2.0, 2.5, 3.0, 3.4, 4.0])
    assert words["timed"].tolist() == [True] * 5 + [False]


def test_vtt_speakers_and_names_of_cues(read):
    text = "WEBVTT\n\nfirst\n00:01.000 --> 00:02.000\n<v Bob><i.loud>Hi</i></v> there\n"
    text += "\nsecond\n00:03.000 --> 00:04.000\nthere\n\n\nNOTE over\n"
    assert stories.join_words(read(text, "a.vtt").words) == "Hi there there"


def test_captions_that_overlap_are_clipped(shown):
    found = shown([("Hi", 1, 2), ("Ho", 1.5, 3)])
    assert found.words["offset"].tolist() == [1.5, 3.0] and found.n_clipped == 1


ASS = "[Script Info]\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, "
ASS += "MarginR, MarginV, Effect, Text\n"
ROW = "Dialogue: {},0:00:0{}.00,0:00:0{}.00,{},,0,0,0,,{}\n"


def test_ass(read):
    rows = [
        (0, 3, 4, "D", "(Ann) Oh,\\Nwell"),  # in any order
        *[(0, 0, 2, "D", "{\\an8}The {\\i1}old{\\i0} one")] * 2,
        (0, 1, 2, "D", "{\\p1}m 0 0 l 1 1{\\p0}"),
        (0, 5, 7, "D", "{\\k50}Hel{\\k20}lo {\\kf30}you"),
        (0, 7, 8, "D", "(Ann) Hi"),
        # layers that say the same at once
        *((0, 8, 9, "Shadow", "{\\blur5}We"), (1, 8, 9, "D", "We")),
    ]
    comment = "Comment: 0,0:00:08.00,0:00:09.00,Default,,0,0,0,,nothing\n"
    found = read(ASS + "".join(ROW.format(*row) for row in rows) + comment, "a.ass")
    words = found.words
    assert words["word"].tolist() == "The old one Oh, well Hello you Hi We".split()
    np.testing.assert_allclose(words["onset"][[0, 3, 5, 6, 8]], [0, 3, 5, 5.7, 8])
    assert words["offset"][5] == pytest.approx(5.7)
    assert "captions drawn in several layers, read once: 2" in found.notes
    assert found.left_out == {"(Ann)": 2}
