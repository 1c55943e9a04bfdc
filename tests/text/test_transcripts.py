import csv
import io

import numpy as np
import pandas as pd
import pytest

from anbn.text import stories, textfiles, transcripts
from anbn.text.transcripts import StimulusError, check_words, read_words

WORDS = ['"Oh,', "rabbit-hole", "would", "n't", "1,984", "naïve№"]
ONSET = [0.25, 0.75, 1.5, 1.75, 3601.001, 3602.0]
OFFSET = [0.5, 1.5, 1.75, 2.0, 3601.5, 3602.999]
TEXT = "\"Oh, rabbit-hole wouldn't 1,984 naïve№"
ROWS = list(zip(WORDS, ONSET, OFFSET, strict=True))


def textgrid(rows, name="word", size=None, short=False):
    """A TextGrid as Praat writes it, a tier of points before that of the words."""
    intervals, last = [], 0.0
    for word, on, off in [*rows, ("", 3605.0, 3605.0)]:
        if on > last:
            intervals.append((last, on, "sp"))
        intervals.append((on, off, word.replace('"', '""')))
        last = off
    size = size or len(intervals)
    if short:
        lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", 0, 3605]
        lines += [
            "<exists>",
            2,
            '"TextTier"',
            '"clicks"',
            0,
            3605,
            1,
            0.1,
            '"item [1]"',
        ]
        lines += ['"IntervalTier"', f'"{name}"', 0, 3605, size]
        lines += [x for on, off, word in intervals for x in (on, off, f'"{word}"')]
        return "\n".join(map(str, lines))  # no newline at the end
    text = (
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0 \n'
        "xmax = 3605 \ntiers? <exists> \nsize = 2 \nitem []: \n    item [1]:\n"
        '        class = "TextTier" \n        name = "clicks" \n        xmin = 0 \n'
        "        xmax = 3605 \n        points: size = 1 \n        points [1]:\n"
        '            number = 1e-1 \n            mark = "item [1]" \n    item [2]:\n'
        f'        class = "IntervalTier" \n        name = "{name}" \n'
        f"        xmin = 0 \n        xmax = 3605 \n        intervals: size = {size} \n"
    )
    for i, (on, off, word) in enumerate(intervals, 1):
        text += (
            f"        intervals [{i}]:\n            xmin = {on} \n"
            f'            xmax = {off} \n            text = "{word}" \n'
        )
    return text


def table(rows, names=("word", "onset", "offset"), separator=","):
    file = io.StringIO()
    csv.writer(file, delimiter=separator).writerows([names, *rows] if names else rows)
    return file.getvalue()


def clock(seconds, point):
    ms = round(seconds * 1000)
    h, m, s, ms = ms // 3600000, ms // 60000 % 60, ms // 1000 % 60, ms % 1000
    return f"{h:02d}:{m:02d}:{s:02d}{point}{ms:03d}"


def captions(rows, point):
    cues = [
        f"{i}\n{clock(on, point)} --> {clock(off, point)}\n{word}\n"
        for i, (word, on, off) in enumerate(rows, 1)
    ]
    return "WEBVTT\n\n" * (point == ".") + "\n".join(cues)


GENTLE = [(w, "<unk>", on, off) for w, on, off in ROWS]
EVENTS = [(on, off - on, "word", w) for w, on, off in ROWS]
EVENTS = [(0.0, 9.0, "music", "n/a"), *EVENTS, ("4", "1", "phoneme", "a")]
FILES = {
    "long.TextGrid": textgrid(ROWS),
    "short.TextGrid": textgrid(ROWS, "Words", short=True),
    "plain.tsv": table(ROWS, separator="\t"),
    "unquoted.tsv": "\n".join(
        "\t".join(map(str, r)) for r in [("Word", "onset", "offset"), *ROWS]
    ),
    "plain.csv": table([(*row, "NN") for row in ROWS], ("word", "start", "end", "pos")),
    "align.csv": table(GENTLE, None),
    "sub-01_task-story_events.tsv": table(
        EVENTS, ("onset", "duration", "trial_type", "text"), "\t"
    ),
    "story.srt": captions(ROWS, ","),
    "story.vtt": captions(ROWS, "."),
}


def write(tmp_path, text, name="words.tsv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("name", FILES)
def test_the_same_six_words_in_every_format(tmp_path, name, newline, encoding):
    text = FILES[name].replace("\r\n", "\n").replace("\n", newline)
    words = read_words(write(tmp_path, text, name, encoding))
    assert list(words) == ["word", "onset", "offset", "timed", "start", "end"]
    assert words["word"].tolist() == WORDS
    np.testing.assert_allclose(words["onset"], ONSET, rtol=0, atol=1e-9)
    np.testing.assert_allclose(words["offset"], OFFSET, rtol=0, atol=1e-9)
    assert words["timed"].all()
    assert stories.join_words(words) == TEXT
    assert [TEXT[s:e] for s, e in zip(words["start"], words["end"], strict=True)] == (
        WORDS
    )


def test_contractions_alone_are_glued(tmp_path):
    rows = ["said", "'Twas", "Alice", "’s,", "he", "'LL", "'em"]
    rows = [(word, i, i + 1) for i, word in enumerate(rows)]
    words = read_words(write(tmp_path, table(rows, separator="\t")))
    assert stories.join_words(words) == "said 'Twas Alice’s, he'LL 'em"


def test_textgrid_tiers(tmp_path):
    rows = [("a", 0.0, 1.0)]
    phones = (
        textgrid(rows).replace('"word"', '"phones"').replace("size = 2", "size = 3")
    )
    both = phones + textgrid([("b", 0.0, 1.0)]).split("    item [2]:\n")[1]
    assert read_words(write(tmp_path, both, "a.TextGrid"))["word"].tolist() == ["b"]
    first = both.replace('"word"', '"utterances"')
    assert read_words(write(tmp_path, first, "b.TextGrid"))["word"].tolist() == ["b"]
    with pytest.raises(StimulusError, match=r"found 1 interval tiers, and 2 of \[3"):
        read_words(write(tmp_path, phones, "cut.TextGrid"))
    cut = both[: both.rindex("intervals: size")]  # within the head of the last tier
    with pytest.raises(StimulusError, match=r"found 1 interval tiers, and 2 of \[3"):
        read_words(write(tmp_path, cut, "cut.TextGrid"))
    points = textgrid(rows).replace('"IntervalTier"', '"TextTier"')
    with pytest.raises(StimulusError, match="found 0 interval tiers"):
        read_words(write(tmp_path, points, "points.TextGrid"))
    with pytest.raises(StimulusError, match="found 0 interval tiers"):
        read_words(write(tmp_path, "word onset", "no.TextGrid"))


@pytest.mark.parametrize("short", [False, True])
def test_textgrid_cut_short(tmp_path, short):
    path = write(tmp_path, textgrid(ROWS, size=99, short=short), "x.TextGrid")
    with pytest.raises(StimulusError, match="found 12 of 99 intervals in the tier 'wo"):
        read_words(path)


@pytest.mark.parametrize("name", ["words.tsv", "words.csv"])
def test_words_are_no_missing_values(tmp_path, name):
    rows = [("null", 0.0, 0.2), ("NA", 0.3, 0.4), ("n/a", 0.5, 0.6), ("", 0.6, 0.7)]
    text = table(rows, separator="\t" if name.endswith("tsv") else ",")
    words = read_words(write(tmp_path, text, name))
    assert words["word"].tolist() == ["null", "NA"]
    assert words["offset"].tolist() == [0.2, 0.4]


def test_quotation_marks(tmp_path):
    plain = 'word,onset,offset\n"No.",0,1\n"Oh,1,2\n"yes, sir",2,3\nI"m,3,4\n'
    words = read_words(write(tmp_path, plain, "plain.csv"))
    assert words["word"].tolist() == ['"No."', '"Oh', "yes,", "sir", 'I"m']
    quoted = '"word","onset","offset"\n"No.",0,1\n"""Oh",1,2\n'
    words = read_words(write(tmp_path, quoted, "quoted.csv"))
    assert words["word"].tolist() == ["No.", '"Oh']


@pytest.mark.parametrize(
    "rows, expected",
    [
        ([("a", 1.0, 1.1), ("b", 0.5, 0.7)], "before that of the word before.*'b'"),
        ([("a", 1, 2), ("b", "", ""), ("c", 0, 1)], "before that of .* at word 3"),
        ([("a", -1.0, 0.0)], "onset is negative, at word 1 of 1, 'a'"),
        ([("a", 1.0, 0.5)], "offset lies before the onset"),
        ([("a", "soon", 0.5)], "onset is not a number"),
        ([("a", "nan", "nan")], "onset is not a number"),
        ([("a", 0, "inf")], "offset is not a number"),
        ([("a", None, 0.5)], "onset is not a number"),
        ([("a", 0.5, "n/a")], "offset is not a number"),
        ([("a", "", "n/a"), ("b", "", "")], "none of its 2 words has a time"),
        ([], "holds no words"),
    ],
)
def test_bad_times_are_named(tmp_path, rows, expected):
    path = write(tmp_path, table(rows, separator="\t"))
    with pytest.raises(StimulusError, match=expected) as error:
        read_words(path)
    assert "words.tsv" in str(error.value)


@pytest.mark.parametrize(
    "row, expected",
    [
        (("n/a", "0.5"), "onset is not a number"),
        (("0.5", "n/a"), "offset is not a number"),
        (("soon", "0.5"), "onset is not a number"),
        (("0.5", "long"), "offset is not a number, at word 1 of 1, 'a' .0.5 to long"),
        (("0.5", "-1"), "offset lies before the onset"),
    ],
)
def test_bad_events_are_named(tmp_path, row, expected):
    text = table([(*row, "a")], ("onset", "duration", "word"), "\t")
    with pytest.raises(StimulusError, match=expected):
        read_words(write(tmp_path, text, "events.tsv"))


def test_wrong_columns_and_kinds(tmp_path):
    with pytest.raises(
        StimulusError, match=r"expected the columns word.*\['w', 'tt'\]"
    ):
        read_words(write(tmp_path, "w\ttt\na\t1\n"))
    with pytest.raises(StimulusError, match="expected the columns word"):
        read_words(write(tmp_path, "word\tduration\na\t1\n"))
    with pytest.raises(StimulusError, match=r"line 4: expected 3 columns .*, found 2"):
        read_words(write(tmp_path, "word\tonset\toffset\na\t1\t2\n\nb\t3\n"))
    with pytest.raises(StimulusError, match="line 2: expected 3 columns"):
        read_words(write(tmp_path, 'word\tonset\toffset\n"a\t1\n'))
    with pytest.raises(StimulusError, match=r"an Excel table.*\.TextGrid"):
        read_words(tmp_path / "words.xlsx")
    with pytest.raises(
        ValueError, match=r"missing must be interpolate or drop.*'skip'"
    ):
        read_words(tmp_path / "words.tsv", missing="skip")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_empty_and_other_encodings(tmp_path, encoding):
    path = write(tmp_path, " \n")
    with pytest.raises(StimulusError, match="is empty"):
        textfiles.decode(path)
    path.write_bytes("caf\u00e9 x".encode(encoding)[:-1])
    expected = {"latin-1": "not UTF-8: byte 3 is 0xe9", "utf-16": "not UTF-16: byte"}
    with pytest.raises(StimulusError, match=expected[encoding]):
        textfiles.decode(path)


def test_words_without_time(tmp_path):
    rows = ["um,,,", "Once,once,1.0,1.5", "a,,,", "rab,,,", "hole,hole,2.3,3.0"]
    rows += ["there,,,", "was,was,3.0,3.2", "end,,,"]
    path = write(tmp_path, "\n".join(rows), "align.csv")
    words = read_words(path)
    nan = np.nan
    # 0.8 s between Once and hole for 1 + 3 letters; none before "was"
    onset = [nan, 1.0, 1.5, 1.7, 2.3, 3.0, 3.0, nan]
    offset = [nan, 1.5, 1.7, 2.3, 3.0, 3.0, 3.2, nan]
    np.testing.assert_allclose(words["onset"], onset)
    np.testing.assert_allclose(words["offset"], offset)
    timed = [False, True, False, False, True, False, True, False]
    assert words["timed"].tolist() == timed
    dropped = read_words(path, missing="drop")
    np.testing.assert_array_equal(dropped["onset"].notna(), timed)
    np.testing.assert_array_equal(dropped["offset"].notna(), timed)
    for found in (words, dropped):
        assert stories.join_words(found) == "um Once a rab hole there was end"


def naive_interpolation(words):
    words = words.copy()
    for i in range(len(words)):
        if np.isfinite(words["onset"][i]):
            continue
        before = [j for j in range(i) if words["timed"][j]]
        after = [j for j in range(i, len(words)) if words["timed"][j]]
        if before and after:
            begin, end = words["offset"][before[-1]], words["onset"][after[0]]
            run = words["word"][before[-1] + 1 : after[0]].str.len()
            share = run[: i - before[-1] - 1].sum() / run.sum()
            words.loc[i, "onset"] = begin + share * (end - begin)
            words.loc[i, "offset"] = words.loc[i, "onset"] + (
                len(words["word"][i]) / run.sum() * (end - begin)
            )
    return words


def test_interpolation_against_a_loop(tmp_path, rng):
    times = np.sort(rng.uniform(0, 100, 120)).reshape(60, 2).round(3)
    rows = [("w" * rng.integers(1, 9), *t) for t in times]
    rows = [r if rng.random() < 0.6 else (r[0], "", "") for r in rows]
    path = write(tmp_path, table(rows, separator="\t"))
    expected = naive_interpolation(read_words(path, missing="drop"))
    pd.testing.assert_frame_equal(read_words(path), expected)


def test_small_overlaps_are_clipped():
    rows = [("a", 0, 1.01), ("b", np.nan, np.nan), ("c", 1.0, 1.2), ("d", 1.2, 1.21)]
    rows += [("e", 1.19, 1.195)]
    rows = pd.DataFrame(rows, columns=["word", "onset", "offset"])
    words = check_words(rows, "x", slack=0.05)
    np.testing.assert_allclose(words["onset"], [0, np.nan, 1.0, 1.2, 1.2])
    np.testing.assert_allclose(words["offset"], [1.0, np.nan, 1.2, 1.2, 1.2])


def test_only_gentle_may_swap_words(tmp_path):
    rows = "a,a,0.51,1.5\nb,b,0.48,1.9\n"
    gentle = read_words(write(tmp_path, rows, "align.csv"))
    assert gentle["onset"].tolist() == [0.51, 0.51]
    plain = "word,onset,offset\n" + rows.replace("a,a", "a").replace("b,b", "b")
    with pytest.raises(StimulusError, match=r"before that of the word before.*Correct"):
        read_words(write(tmp_path, plain, "words.csv"))


def test_ends_that_overlap_are_clipped_counted_and_said(tmp_path):
    rows = [("a", 0.0, 1.0), ("b", 0.83, 1.5), ("c", "", ""), ("d", 1.4, 2.0)]
    rows += [("e", 2.0005, 2.5), ("f", 2.07, 3.0), ("g", 3.0, 4.0)]
    found = transcripts.read(write(tmp_path, table(rows, separator="\t")))
    onset = [0.0, 0.83, 1.4, 1.4, 2.0005, 2.07, 3.0]  # no time is left for c
    np.testing.assert_allclose(found.words["onset"], onset)
    offset = [0.83, 1.4, 1.4, 2.0, 2.07, 3.0, 4.0]
    np.testing.assert_allclose(found.words["offset"], offset)
    assert found.n_clipped == 3
    assert any("next began: 3" in n and "0.43 s" in n for n in found.notes)


def test_times_that_begin_anew(tmp_path):
    rows = [(w, i % 3 + 0.5, i % 3 + 1) for i, w in enumerate("abcdefgh")]
    with pytest.raises(StimulusError) as error:
        read_words(write(tmp_path, table(rows, separator="\t")))
    said = str(error.value)
    assert "anew at word 4 (2.5 s, then 0.5 s), 7 (2.5 s, then 0.5 s)" in said
    assert "add to the times of each the second at which it begins" in said
    assert "sort" not in said


def test_clipping_leaves_sound_words_alone(rng):
    times = np.sort(rng.uniform(0, 9, 40)).reshape(20, 2)
    words = pd.DataFrame({"word": "w", "onset": times[:, 0], "offset": times[:, 1]})
    pd.testing.assert_frame_equal(check_words(words, "x"), words)
    assert check_words(words[5:], "x").index.tolist() == list(range(15))


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


def test_srt(tmp_path):
    words = read_words(write(tmp_path, SRT, "story.srt"))
    text = "Hello, you & me In 1984 I <3 it 42"  # the dash: another speaker
    assert stories.join_words(words) == text
    np.testing.assert_allclose(words["onset"][:5], [1, 1.5, 1.75, 1 + 10 / 12, 2.5])
    np.testing.assert_allclose(words["offset"][:4], [1.5, 1.75, 1 + 10 / 12, 2])
    assert words["offset"].iloc[-1] == 4.5
    assert words.index[words["timed"]].tolist() == [0, 4, 6]
    dropped = read_words(tmp_path / "story.srt", missing="drop")
    assert dropped.index[dropped["onset"].notna()].tolist() == [0, 4, 6]
    bare = SRT[2:].replace("\n2\n", "\n").replace("\n3\n", "\n\n")  # no numbers
    words = read_words(write(tmp_path, bare, "bare.srt"))
    assert stories.join_words(words) == text


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


def test_vtt_with_times_of_words(tmp_path):
    words = read_words(write(tmp_path, ROLLING, "story.vtt"))
    assert words["word"].tolist() == ["hello", "world", "this", "is", "it", "now"]
    np.testing.assert_allclose(words["onset"], [0, 0.5, 2.01, 2.5, 3.0, 3.4])
    np.testing.assert_allclose(words["offset"], [0.5, 2.0, 2.5, 3.0, 3.4, 4.0])
    assert words["timed"].tolist() == [True] * 5 + [False]


def test_vtt_speakers_and_names_of_cues(tmp_path):
    text = "WEBVTT\n\nfirst\n00:01.000 --> 00:02.000\n<v Bob><i.loud>Hi</i></v> there\n"
    text += "\nsecond\n00:03.000 --> 00:04.000\nthere\n\n\nNOTE over\n"
    words = read_words(write(tmp_path, text, "story.vtt"))
    assert stories.join_words(words) == "Hi there there"


@pytest.mark.parametrize("name", ["a.srt", "a.vtt"])
def test_bad_captions(tmp_path, name):
    text = "WEBVTT\n\n1\n00:00:01,000 --> 00:00:02,000\nHi\n"
    for wrong in ("00:00:0x,000", "00:00:02,0o0", ""):
        path = write(tmp_path, text.replace("00:00:02,000", wrong), name)
        with pytest.raises(StimulusError, match=f"{name}, line 4: expected two times"):
            read_words(path)
    with pytest.raises(StimulusError, match="holds no words"):
        read_words(write(tmp_path, "WEBVTT\n", name))
    text += "\n2\n00:00:01,500 --> 00:00:03,000\nHo\n"
    found = transcripts.read(write(tmp_path, text, name))
    assert found.words["offset"].tolist() == [1.5, 3.0] and found.n_clipped == 1
    text += "\n3\n00:00:00,500 --> 00:00:04,000\nHe\n"
    with pytest.raises(
        StimulusError, match="before that of the word before, at word 3"
    ):
        read_words(write(tmp_path, text, name))


@pytest.mark.parametrize(
    "times, onset, offset, timed, n_ends, n_onsets",
    [
        # a word without its end lasts until the next begins
        (
            [(0.5, 0.7), (0.9, ""), (1.4, 1.8)],
            [0.5, 0.9, 1.4],
            [0.7, 1.4, 1.8],
            3,
            1,
            0,
        ),
        # the last one as long as words do in the median
        (
            [(0.5, 0.7), (0.9, 1.3), (1.4, "")],
            [0.5, 0.9, 1.4],
            [0.7, 1.3, 1.7],
            3,
            1,
            0,
        ),
        # one without its beginning begins where the one before ends
        (
            [(0.5, 0.7), ("", 1.2), (1.4, 1.8)],
            [0.5, 0.7, 1.4],
            [0.7, 1.2, 1.8],
            2,
            0,
            1,
        ),
        # two that share two known times share what is between
        ([(0.5, ""), ("", 1.3), (1.4, 1.8)], [0.5, 0.9, 1.4], [0.9, 1.3, 1.8], 2, 1, 1),
        # and so does one between them that has no time at all
        ([(0.5, ""), ("", ""), (1.5, 1.8)], [0.5, 1.0, 1.5], [1.0, 1.5, 1.8], 2, 1, 0),
    ],
)
def test_words_that_have_one_of_their_times(
    tmp_path, times, onset, offset, timed, n_ends, n_onsets
):
    path = tmp_path / "story.tsv"
    rows = [("abc"[i], a, b) for i, (a, b) in enumerate(times)]
    path.write_text(table(rows, separator="\t"))
    found = transcripts.read(path)
    np.testing.assert_allclose(found.words["onset"], onset)
    np.testing.assert_allclose(found.words["offset"], offset)
    assert found.words["timed"].sum() == timed and found.n_clipped == 0
    notes = " ".join(found.notes)
    assert ("without an end, which last until the next: 1" in notes) == n_ends
    assert ("without an onset, begun with the end before: 1" in notes) == n_onsets
