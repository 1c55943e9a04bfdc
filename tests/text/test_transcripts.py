"""Words and their times, from files of every format."""

import json

import numpy as np
import pandas as pd
import pytest
from spoken import captions, table, textgrid

from anbn.text import stories
from anbn.text.textfiles import StimulusError
from anbn.text.transcripts import check_words

WORDS = ['"Oh,', "rabbit-hole", "would", "n't", "1,984", "naïve№"]
ONSET = [0.25, 0.75, 1.5, 1.75, 3601.001, 3602.0]
OFFSET = [0.5, 1.5, 1.75, 2.0, 3601.5, 3602.999]
TEXT = "\"Oh, rabbit-hole wouldn't 1,984 naïve№"
ROWS = list(zip(WORDS, ONSET, OFFSET, strict=True))
TIER = [("sp", 0, 0.25), *ROWS, ("", 3605.0, 3605.0)]
EVENTS = [(on, off - on, "word", w) for w, on, off in ROWS]
EVENTS = [(0.0, 9.0, "music", "n/a"), *EVENTS, ("4", "1", "phoneme", "a")]
FILES = {
    "long.TextGrid": textgrid([("word", TIER)]),
    "short.TextGrid": textgrid([("Words", TIER)], short=True),
    "plain.tsv": table(ROWS),
    "unquoted.tsv": "Word\tonset\toffset\n"
    + "".join(f"{word}\t{on}\t{off}\n" for word, on, off in ROWS),
    "plain.csv": table([(*row, "NN") for row in ROWS], "word start end pos", ","),
    "align.csv": table([(w, "<unk>", on, off) for w, on, off in ROWS], None, ","),
    "sub-01_task-story_events.tsv": table(EVENTS, "onset duration trial_type text"),
    "story.srt": captions(ROWS),
    "story.vtt": captions(ROWS, "."),
}


def assert_words(found, words, onset, offset):
    assert found["word"].tolist() == list(words)
    np.testing.assert_allclose(found["onset"], onset, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found["offset"], offset, rtol=0, atol=1e-9)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("name", FILES)
def test_the_same_six_words_in_every_format(read, name, newline, encoding):
    text = FILES[name].replace("\n", newline)
    words = read(text.encode(encoding), name).words
    assert list(words) == ["word", "onset", "offset", "timed", "start", "end"]
    assert_words(words, WORDS, ONSET, OFFSET)
    assert words["timed"].all()
    assert stories.join_words(words) == TEXT
    places = zip(words["start"], words["end"], strict=True)
    assert [TEXT[s:e] for s, e in places] == WORDS


FOUR = [
    ("The", 0.5, 0.7),
    ("old", 0.7, 1.0),
    ("keeper", 1.0, 1.6),
    ("slept", 1.7, 2.2),
]


def rows(line, head=""):
    """Lines of word, onset, offset, duration, in s, then ms, then units of 100 ns."""
    return head + "".join(
        line.format(w, *(scale * t for scale in (1, 1e3, 1e7) for t in (a, b, b - a)))
        for w, a, b in FOUR
    )


def listed(*, name="word", scale=1, **more):
    return [
        {name: w, "start": on * scale, "end": off * scale, **more}
        for w, on, off in FOUR
    ]


SEGMENT = {"start": 0.5, "end": 2.2, "text": "The old keeper slept"}
OFFSETS = [
    {
        "timestamps": {"from": "00:00:00,500", "to": "00:00:00,700"},
        "offsets": {"from": round(1000 * on), "to": round(1000 * off)},
        "text": " " + w,
    }
    for w, on, off in FOUR
]
ENTRIES = [[on, off, w] for w, on, off in FOUR]
EAF = "<ANNOTATION_DOCUMENT><TIME_ORDER>" + rows(
    '<TIME_SLOT TIME_SLOT_ID="a{0}" TIME_VALUE="{4:.0f}"/>'
    '<TIME_SLOT TIME_SLOT_ID="b{0}" TIME_VALUE="{5:.0f}"/>'
)
EAF += '</TIME_ORDER><TIER TIER_ID="words">' + rows(
    '<ALIGNABLE_ANNOTATION TIME_SLOT_REF1="a{0}" TIME_SLOT_REF2="b{0}">'
    "<ANNOTATION_VALUE>{0}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>"
)
EAF += "</TIER></ANNOTATION_DOCUMENT>"
MFA = {
    "words": {"type": "interval", "entries": [[on, off, w] for w, on, off in FOUR]},
    "phones": {"type": "interval", "entries": [[0.5, 0.7, "DH"]]},
}
KNOWN = {
    "whisperx.json": json.dumps({"segments": [SEGMENT | {"words": listed(score=1)}]}),
    "word_segments.json": json.dumps({"word_segments": listed()}),
    "timestamped.json": json.dumps(
        {"text": "", "segments": [SEGMENT | {"words": listed(name="text")}]}
    ),
    "gentle.json": json.dumps({"words": listed(case="success")}),
    "cpp.json": json.dumps({"result": {"language": "en"}, "transcription": OFFSETS}),
    "vosk.json": json.dumps({"result": listed(conf=1.0), "text": "the"}),
    "list.json": json.dumps(listed()),
    "ms.json": json.dumps({"words": listed(name="text", scale=1000)}),
    "mfa.json": json.dumps({"start": 0, "end": 3, "tiers": MFA}),
    "openai.json": json.dumps({"text": "", "segments": [SEGMENT], "words": listed()}),
    "named.json.txt": json.dumps({"words": listed()}),
    "labels.txt": rows("{1}\t{2}\t{0}\n"),
    "spectral.txt": rows("{1}\t{2}\t{0}\n\\\t10.0\t20.0\n"),
    "seconds.lab": rows("{1} {2} {0}\n"),
    "htk.lab": rows("{7:.0f} {8:.0f} {0}\n"),
    "scored.lab": rows("{7:.0f} {8:.0f} {0} -12.5\n"),
    "xwaves.lab": "signal x\nnfields 1\n#\n0.5 121 sp\n0.7 121 The\n1.0 121 old\n"
    "1.6 121 keeper\n1.7 121 sp\n2.2 121 slept\n",
    "printed.txt": rows("[{1:.2f}s -> {2:.2f}s] {0}\n"),
    "elan.txt": rows(
        "w\tAnn\t00:00:0{1:.3f}\t{1}\t00:00:0{2:.3f}\t{2}\t00:00:0{3:.3f}\t{3:.3f}\t{0}\n"
    ),
    "elan_whole.txt": rows("wort\t\t{1}\t{2}\t{0}\n").replace("1.0", "1"),
    "elan_s.tsv": rows("wort\t\t{1}\t{2}\t{0}\n"),
    "elan_duration.txt": rows("wort\t\t{1}\t{2}\t{3:.3f}\t{0}\n"),
    "elan_ms.txt": rows("w\t\t{4:.0f}\t{5:.0f}\t{0}\n"),
    "elan_names.tsv": rows(
        "words\t{1}\t{2}\t{0}\n",
        "Tier\tBegin Time - ss.msec\tEnd Time - ss.msec\tAnnotation\n"
        "utterance\t0.5\t2.2\tThe old keeper slept\n",
    ),
    "elan_names.txt": rows(
        "00:00:0{1:.3f}\t{4:.0f}\t{6:.0f}\t{0}\n",
        "Begin Time - hh:mm:ss.ms\tBegin Time - msec\tDuration - msec\twort\n",
    ),
    "elan.csv": rows(
        "00:00:0{1:.3f},00:00:0{2:.3f},{0}\n",
        "Begin Time - hh:mm:ss.ms,End Time - hh:mm:ss.ms,wort\n",
    ),
    "story.ctm": rows("story 1 {1} {3:.3f} {0} 0.9\n", ";; made up\n"),
    "story.eaf": '<?xml version="1.0"?>' + EAF,
    "named.eaf.txt": EAF,
    "table.txt": table(FOUR),
    "captions.txt": rows("00:{1:06.3f} --> 00:{2:06.3f}\n{0}\n\n", "WEBVTT\n\n"),
    "textgrid.txt": textgrid([("word", FOUR)], short=True),
}


@pytest.mark.parametrize("name", KNOWN)
def test_four_words_in_every_format(write, name):
    words, text, synthetic, *_ = stories.read_story(write(KNOWN[name], name))
    assert text == "The old keeper slept" and not synthetic
    assert_words(words, *zip(*FOUR, strict=True))
    assert words["timed"].all()


def test_segments_without_words_are_spread(read):
    found = read(json.dumps({"segments": [SEGMENT | {"words": []}]}), "a.json")
    np.testing.assert_allclose(found.words["onset"], [0.5, 0.8, 1.1, 1.7])
    assert found.words["timed"].tolist() == [True, False, False, False]
    assert "those of 3 words are not measured" in found.notes[0]


def test_pieces_of_words_in_json(read):
    words = [
        {"word": w, "start": i, "end": i + 1}
        for i, w in enumerate([" un", "believ", "able", " it", "'s"])
    ]
    words = read(
        json.dumps({"segments": [{"text": "", "words": words}]}), "a.json"
    ).words
    assert stories.join_words(words) == "unbelievable it's"
    assert words["word"].tolist()[0] == "unbelievable"
    assert words["offset"].tolist()[0] == 3


TOKENS = {
    "[_BEG_]": (0, 0),
    " Anna": (0, 400),
    " har": (400, 600),
    "bour": (600, 800),
    "ed": (800, 900),
    " doubts": (900, 1300),
    ",": (1300, 1350),
    "[_TT_100]": (2000, 2000),
}


@pytest.mark.parametrize("is_whole", [True, False])
def test_tokens_of_whisper_cpp(read, is_whole):
    tokens = [
        {"text": text, "offsets": {"from": a, "to": b}, "id": 1}
        for text, (a, b) in TOKENS.items()
    ]
    if not is_whole:  # a token that holds half a character
        tokens[3]["text"] = "bo\ufffd"
    segment = {"text": " Anna harboured doubts,", "offsets": {"from": 0, "to": 2000}}
    segments = [segment | {"tokens": tokens}]
    words = read(json.dumps({"transcription": segments}), "ojf.json").words
    assert stories.join_words(words) == "Anna harboured doubts,"
    if is_whole:
        assert words["onset"].tolist() == [0, 0.4, 0.9]
        assert words["offset"].tolist() == [0.4, 0.9, 1.35]
    assert words["timed"].tolist() == [True, is_whole, is_whole]


def test_gentle_in_json(read):
    text = '"Well," the Gryphon slept.\nOn'
    found = [
        {"word": w, "startOffset": text.index(w), "endOffset": text.index(w) + len(w)}
        for w in ("Well", "the", "Gryphon", "slept", "On")
    ]
    times = [(0.5, 0.8), None, (1.0, 1.5), (1.5, 2.0), (2.0, 2.5)]
    for word, time in zip(found, times, strict=True):
        word["case"] = "success" if time else "not-found-in-audio"
        word["alignedWord"] = "<unk>"  # not in Gentle's vocabulary: still a word
        if time:
            word["start"], word["end"] = time
    words = read(json.dumps({"transcript": text, "words": found}), "a.json").words
    assert stories.join_words(words) == '"Well," the Gryphon slept. On'
    assert words["timed"].tolist() == [True, False, True, True, True]
    assert words["onset"].tolist() == [0.5, 0.8, 1.0, 1.5, 2.0]


def test_speakers_in_json(read):
    said = [("who", 0, "A"), ("only", 0.5, "B"), ("is", 1, "A"), ("me", 1.5, "B")]
    segments = [
        {
            "speaker": s,
            "text": "",
            "words": [
                {"word": w, "start": t, "end": t + 0.6}
                for w, t, who in said
                if who == s
            ],
        }
        for s in "AB"
    ]
    found = read(json.dumps({"segments": segments}), "whisperx.json")
    assert found.words["word"].tolist() == ["who", "only", "is", "me"]
    assert found.words["speaker"].tolist() == list("ABAB")
    assert found.n_clipped == 3


@pytest.mark.parametrize("name", ["words.tsv", "words.csv"])
def test_words_are_no_missing_values(read, name):
    rows = [("null", 0.0, 0.2), ("NA", 0.3, 0.4), ("n/a", 0.5, 0.6), ("", 0.6, 0.7)]
    text = table(rows, separator="\t" if name.endswith("tsv") else ",")
    assert_words(read(text, name).words, ["null", "NA"], [0, 0.3], [0.2, 0.4])


def test_words_without_time(read):
    rows = ["um,,,", "Once,once,1.0,1.5", "a,,,", "rab,,,", "hole,hole,2.3,3.0"]
    rows += ["there,,,", "was,was,3.0,3.2", "end,,,"]
    text, nan = "\n".join(rows), np.nan
    words, dropped = (
        read(text, "align.csv", missing=how).words for how in ("interpolate", "drop")
    )
    # 0.8 s between Once and hole for 1 + 3 letters; none before "was"
    onset = [nan, 1.0, 1.5, 1.7, 2.3, 3.0, 3.0, nan]
    offset = [nan, 1.5, 1.7, 2.3, 3.0, 3.0, 3.2, nan]
    assert_words(words, [row.split(",")[0] for row in rows], onset, offset)
    timed = [False, True, False, False, True, False, True, False]
    assert words["timed"].tolist() == timed
    assert dropped[["onset", "offset"]].notna().all(axis=1).tolist() == timed
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


def test_interpolation_against_a_loop(read, rng):
    times = np.sort(rng.uniform(0, 100, 120)).reshape(60, 2).round(3)
    rows = [("w" * rng.integers(1, 9), *t) for t in times]
    rows = [r if rng.random() < 0.6 else (r[0], "", "") for r in rows]
    expected = naive_interpolation(read(table(rows), missing="drop").words)
    pd.testing.assert_frame_equal(read(table(rows)).words, expected)


def test_small_overlaps_are_clipped():
    rows = [("a", 0, 1.01), ("b", np.nan, np.nan), ("c", 1.0, 1.2), ("d", 1.2, 1.21)]
    rows += [("e", 1.19, 1.195)]
    rows = pd.DataFrame(rows, columns=["word", "onset", "offset"])
    words = check_words(rows, "x", slack=0.05)
    np.testing.assert_allclose(words["onset"], [0, np.nan, 1.0, 1.2, 1.2])
    np.testing.assert_allclose(words["offset"], [1.0, np.nan, 1.2, 1.2, 1.2])


def test_only_gentle_may_swap_words(read):
    rows = "a,a,0.51,1.5\nb,b,0.48,1.9\n"
    assert read(rows, "align.csv").words["onset"].tolist() == [0.51, 0.51]
    with pytest.raises(StimulusError, match="before that of the word before"):
        read("word,x,onset,offset\n" + rows, "words.csv")


def test_ends_that_overlap_are_clipped_counted_and_said(read):
    rows = [("a", 0.0, 1.0), ("b", 0.83, 1.5), ("c", "", ""), ("d", 1.4, 2.0)]
    rows += [("e", 2.0005, 2.5), ("f", 2.07, 3.0), ("g", 3.0, 4.0)]
    found = read(table(rows))
    onset = [0.0, 0.83, 1.4, 1.4, 2.0005, 2.07, 3.0]  # no time is left for c
    assert_words(found.words, "abcdefg", onset, [0.83, 1.4, 1.4, 2.0, 2.07, 3.0, 4.0])
    assert found.n_clipped == 3
    assert any("next began: 3" in n and "0.43 s" in n for n in found.notes)


def test_clipping_leaves_sound_words_alone(rng):
    times = np.sort(rng.uniform(0, 9, 40)).reshape(20, 2)
    words = pd.DataFrame({"word": "w", "onset": times[:, 0], "offset": times[:, 1]})
    pd.testing.assert_frame_equal(check_words(words, "x"), words)
    assert check_words(words[5:], "x").index.tolist() == list(range(15))


HALVES = [
    # a word without its end lasts until the next begins
    ([(0.5, 0.7), (0.9, ""), (1.4, 1.8)], [0.5, 0.9, 1.4], [0.7, 1.4, 1.8], 3, 1, 0),
    # the last one as long as words do in the median
    ([(0.5, 0.7), (0.9, 1.3), (1.4, "")], [0.5, 0.9, 1.4], [0.7, 1.3, 1.7], 3, 1, 0),
    # one without its beginning begins where the one before ends
    ([(0.5, 0.7), ("", 1.2), (1.4, 1.8)], [0.5, 0.7, 1.4], [0.7, 1.2, 1.8], 2, 0, 1),
    # two that share two known times share what is between
    ([(0.5, ""), ("", 1.3), (1.4, 1.8)], [0.5, 0.9, 1.4], [0.9, 1.3, 1.8], 2, 1, 1),
    # and so does one between them that has no time at all
    ([(0.5, ""), ("", ""), (1.5, 1.8)], [0.5, 1.0, 1.5], [1.0, 1.5, 1.8], 2, 1, 0),
    # before and after the halves, words without any time are left
    (
        [(0.5, 0.9), (1.0, ""), ("", "")],
        [0.5, 1.0, np.nan],
        [0.9, 1.4, np.nan],
        2,
        1,
        0,
    ),
]


@pytest.mark.parametrize("times, onset, offset, n_timed, n_ends, n_onsets", HALVES)
def test_words_that_have_one_of_their_times(
    read, times, onset, offset, n_timed, n_ends, n_onsets
):
    found = read(table([("abc"[i], a, b) for i, (a, b) in enumerate(times)]))
    assert_words(found.words, "abc", onset, offset)
    assert found.words["timed"].sum() == n_timed and found.n_clipped == 0
    notes = " ".join(found.notes)
    assert ("without an end, which last until the next: 1" in notes) == n_ends
    assert ("without an onset, begun with the end before: 1" in notes) == n_onsets
