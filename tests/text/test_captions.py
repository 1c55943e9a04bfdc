"""Captions that show words more than once, in pieces, or beside what is no word."""

import numpy as np
import pytest

from anbn.text import stories, transcripts
from anbn.text.textfiles import StimulusError

LINE = ["The", "lamp", "was", "lit."]
ONSET = [0.5, 0.82, 1.14, 1.46]
OFFSET = [0.8, 1.12, 1.44, 1.76]


def stamp(seconds, point):
    ms = round(1000 * seconds)
    return f"00:{ms // 60000:02d}:{ms // 1000 % 60:02d}{point}{ms % 1000:03d}"


def write_captions(tmp_path, cues, name="story.srt"):
    """A file of (onset, offset, text)."""
    point = "." if name.endswith(".vtt") else ","
    text = "WEBVTT\n\n" * name.endswith(".vtt")
    for i, (on, off, said) in enumerate(cues, 1):
        number = f"{i}\n" * (point == ",")
        text += f"{number}{stamp(on, point)} --> {stamp(off, point)}\n{said}\n\n"
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def highlighted(words, mark, gaps=True, times=(ONSET, OFFSET)):
    cues = []
    for k, (on, off) in enumerate(zip(*times, strict=True)):
        line = [mark.format(w) if i == k else w for i, w in enumerate(words)]
        cues.append((on, off, " ".join(line)))
        if gaps:
            cues.append((off, off + 0.02, " ".join(words)))
    return cues


@pytest.mark.parametrize("name", ["a.srt", "a.vtt", "a.srt.txt"])
@pytest.mark.parametrize("gaps", [True, False])
@pytest.mark.parametrize(
    "mark",
    [
        "<u>{}</u>",
        "<b>{}</b>",
        "<c.lit>{}</c>",
        '<font color="#00ff00">{}</font>',
        "{{\\c&H00FF00&}}{}{{\\r}}",
    ],
)
def test_a_cue_a_word(tmp_path, name, gaps, mark):
    found = transcripts.read(
        write_captions(tmp_path, highlighted(LINE, mark, gaps), name)
    )
    words = found.words
    assert words["word"].tolist() == LINE
    np.testing.assert_allclose(words["onset"], ONSET)
    np.testing.assert_allclose(words["offset"], OFFSET)
    assert words["timed"].all()
    assert "lines shown once for each word, read once: 1" in found.notes


def test_punctuation_may_stand_outside_the_highlight(tmp_path):
    cues = highlighted(["lamp", "lit"], "<u>{}</u>", times=(ONSET[:2], OFFSET[:2]))
    cues = [(on, off, f'"{said}."') for on, off, said in cues]
    words = transcripts.read_words(write_captions(tmp_path, cues))
    assert words["word"].tolist() == ['"lamp', 'lit."']
    np.testing.assert_allclose(words["onset"], ONSET[:2])


def test_the_same_word_twice_and_the_same_line_twice(tmp_path):
    cues = highlighted(["no", "no"], "<u>{}</u>", times=(ONSET[:2], OFFSET[:2]))
    again = [(on + 2, off + 2, said) for on, off, said in cues]
    words = transcripts.read_words(write_captions(tmp_path, cues + again))
    assert words["word"].tolist() == ["no"] * 4
    np.testing.assert_allclose(words["onset"], [0.5, 0.82, 2.5, 2.82])


def test_a_word_that_is_never_lit_is_untimed(tmp_path):
    cues = highlighted(LINE, "<u>{}</u>")
    del cues[2]  # lamp
    words = transcripts.read_words(write_captions(tmp_path, cues))
    assert words["word"].tolist() == LINE
    assert words["timed"].tolist() == [True, False, True, True]
    assert (words["onset"][1], words["offset"][1]) == (0.8, 1.14)


def test_a_line_of_one_word_and_one_of_two_rows(tmp_path):
    cues = [(0.0, 0.4, "<u>Yes.</u>"), (0.4, 0.5, "Yes.")]
    cues += [
        (0.5, 0.8, "<u>The</u> lamp\nwas lit."),
        (0.8, 1, "The lamp\n<u>was</u> lit."),
    ]
    words = transcripts.read_words(write_captions(tmp_path, cues))
    assert words["word"].tolist() == ["Yes.", *LINE]
    assert words["timed"].tolist() == [True, True, False, True, False]


@pytest.mark.parametrize("said", ["No.", "<i>No.</i>", "I <i>do</i> know."])
def test_what_is_said_twice_is_read_twice(tmp_path, said):
    words = transcripts.read_words(
        write_captions(tmp_path, [(0, 1, said), (1, 2, said)])
    )
    assert words["onset"].iloc[len(words) // 2] == 1
    assert words["word"].tolist()[: len(words) // 2] * 2 == words["word"].tolist()


def test_lines_that_roll_on_without_times_of_words(tmp_path):
    cues = [(0, 2, "hello world"), (2, 2.01, "hello world")]
    cues += [(2.01, 4, "hello world\nthis is it"), (4, 4.01, "this is it")]
    cues += [(4.01, 6, "this is it\nno more")]
    words = transcripts.read_words(write_captions(tmp_path, cues))
    assert stories.join_words(words) == "hello world this is it no more"
    assert words["onset"][words["timed"]].tolist() == [0, 2.01, 4.01]


def test_lines_that_grow(tmp_path):
    cues = [(0, 1, "The"), (1, 2, "The lamp"), (2, 3, "The lamp was lit.")]
    words = transcripts.read_words(write_captions(tmp_path, cues))
    assert words["word"].tolist() == LINE
    assert words["onset"].tolist()[:3] == [0, 1, 2]


# pieces ---------------------------------------------------------------------------


def test_a_piece_without_a_blank_goes_on_with_its_word(tmp_path):
    said = "that's un<00:00:01.200><c>believ</c><00:00:01.400><c>able</c>"
    said += "<00:00:01.700><c> now</c> or"
    words = transcripts.read_words(write_captions(tmp_path, [(0.5, 2, said)], "a.vtt"))
    assert words["word"].tolist() == ["that's", "unbelievable", "now", "or"]
    np.testing.assert_allclose(words["onset"], [0.5, 1.025, 1.7, 1.88], atol=1e-3)
    np.testing.assert_allclose(words["offset"][:2], [1.025, 1.7], atol=1e-3)
    assert words["timed"].tolist() == [True, False, True, False]


def test_a_blank_may_end_the_piece_before(tmp_path):
    said = "<00:00:00.500>The <00:00:00.820>lamp"
    words = transcripts.read_words(write_captions(tmp_path, [(0.5, 2, said)], "a.vtt"))
    assert words["word"].tolist() == ["The", "lamp"]
    assert words["onset"].tolist() == [0.5, 0.82]


def test_cues_that_are_pieces(tmp_path):
    cues = [
        (0, 0.2, " un"),
        (0.2, 0.4, "believ"),
        (0.4, 0.6, "able"),
        (0.6, 0.9, " it"),
    ]
    words = transcripts.read_words(write_captions(tmp_path, cues))
    assert words["word"].tolist() == ["unbelievable", "it"]
    assert words["onset"].tolist() == [0, 0.6]
    assert words["offset"].tolist() == [0.6, 0.9]


def test_what_whisper_prints(tmp_path):
    path = tmp_path / "printed.txt"
    path.write_text(
        "[00:00.000 --> 00:04.200]  The old keeper.\n[00:04.200 --> 00:05.000]  Oh.\n"
    )
    words = transcripts.read_words(path)
    assert words["word"].tolist() == ["The", "old", "keeper.", "Oh."]
    assert words["onset"].iloc[-1] == 4.2


# no words -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said, text, left_out",
    [
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
    ],
)
def test_what_is_no_word(tmp_path, said, text, left_out):
    found = transcripts.read(write_captions(tmp_path, [(1, 2, said)]))
    assert stories.join_words(found.words) == text
    assert sorted(found.left_out.elements()) == sorted(left_out)
    assert any("no words left out" in n for n in found.notes) == bool(left_out)


def test_cues_that_hold_no_word_at_all(tmp_path):
    cues = [(0, 1, "[MUSIC]"), (1, 2, "♪♪"), (2, 3, "Oh"), (3, 4, "(applause)")]
    words = transcripts.read_words(write_captions(tmp_path, cues))
    assert words["word"].tolist() == ["Oh"] and words["onset"].tolist() == [2]
    with pytest.raises(StimulusError, match="holds no words"):
        transcripts.read_words(write_captions(tmp_path, cues[:2]))


def test_captions_shown_together(tmp_path):
    cues = [(0, 2, "one two three four"), (1, 3, "five"), (1, 3, "six")]
    words = transcripts.read_words(write_captions(tmp_path, cues))
    assert words["word"].tolist() == "one two three four five six".split()
    assert words["onset"].is_monotonic_increasing
    assert words["onset"].tolist()[3:] == pytest.approx([11 / 15, 1, 1 + 8 / 7])


# .ass -----------------------------------------------------------------------------

HEAD = "[Script Info]\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, "
HEAD += "MarginR, MarginV, Effect, Text\n"


def test_ass(tmp_path):
    path = tmp_path / "story.ass"
    row = "Dialogue: {},{},{},Default,,0,0,0,,{}\n"
    path.write_text(
        HEAD
        + row.format(0, "0:00:03.00", "0:00:04.00", "Oh,\\Nwell")  # in any order
        + row.format(0, "0:00:00.50", "0:00:02.20", "{\\an8}The {\\i1}old{\\i0} one")
        + row.format(0, "0:00:00.50", "0:00:02.20", "{\\an8}The {\\i1}old{\\i0} one")
        + row.format(0, "0:00:01.00", "0:00:02.20", "{\\p1}m 0 0 l 1 1{\\p0}")
        + row.format(0, "0:00:05.00", "0:00:07.00", "{\\k50}Hel{\\k20}lo {\\kf30}you")
        + "Comment: 0,0:00:08.00,0:00:09.00,Default,,0,0,0,,nothing\n"
    )
    words = transcripts.read_words(path)
    assert words["word"].tolist() == "The old one Oh, well Hello you".split()
    np.testing.assert_allclose(words["onset"][[0, 3, 5, 6]], [0.5, 3, 5, 5.7])
    assert words["offset"][5] == pytest.approx(5.7)
    path.write_text(HEAD + row.format(0, "soon", "0:00:02.20", "Oh"))
    with pytest.raises(StimulusError, match="line 4: expected a Dialogue with times"):
        transcripts.read_words(path)


def test_layers_that_say_the_same_at_once(tmp_path):
    layers = (r"0,{0},{1},Shadow,,0,0,0,,{{\blur5}}", "1,{0},{1},Default,,0,0,0,,")
    path = tmp_path / "a.ass"
    lines = [
        "Dialogue: "
        + layer.format(f"0:00:0{on}.00", f"0:00:0{on + 1}.00")
        + "We sailed"
        for on in (1, 3)
        for layer in layers
    ]
    path.write_text("\n".join(["[Script Info]", *lines]) + "\n")
    found = transcripts.read(path)
    assert found.words["word"].tolist() == ["We", "sailed"] * 2
    np.testing.assert_allclose(found.words["onset"], [1, 1.25, 3, 3.25])
    assert "captions drawn in several layers, read once: 2" in found.notes


@pytest.mark.parametrize(
    "said, text, left_out",
    [
        # names in round brackets are names where one recurs
        (["(Anna) Come in.", "So.", "(Anna) Sit."], "Come in. So. Sit.", {"(Anna)": 2}),
        (["(Anna B.): Oh.", "(Bob) No.", "(Bob) So."], "Oh. No. So.", {"(Bob)": 2}),
        (["(Perhaps) he came.", "So."], "(Perhaps) he came. So.", {}),
        # a line of its own is a name where all captions begin with one
        (["Ann\nThe lamp.", "Bob\nWho?"], "The lamp. Who?", {"Ann": 1, "Bob": 1}),
        (["Ann Lee\nThe lamp.", "Speaker 2\nWho?"], "The lamp. Who?", {"Ann Lee": 1}),
        (["Ann\nand Bob", "Bob\ncame"], "Ann and Bob Bob came", {}),
        (["Ann\nThe lamp.", "Who?"], "Ann The lamp. Who?", {}),
    ],
)
def test_names_of_speakers(tmp_path, said, text, left_out):
    path = write_captions(tmp_path, [(2 * i, 2 * i + 1, s) for i, s in enumerate(said)])
    found = transcripts.read(path)
    assert stories.join_words(found.words) == text
    assert left_out.items() <= found.left_out.items()
    assert bool(found.left_out) == bool(left_out)
    assert any("may name who speaks" in n for n in found.notes) == ("(Perhaps" in text)


def test_names_of_speakers_in_ass(tmp_path):
    path = tmp_path / "a.ass"
    lines = [
        f"Dialogue: 0,0:00:0{i}.00,0:00:0{i + 1}.00,D,,0,0,0,,(Ann) Hi" for i in (1, 3)
    ]
    path.write_text("\n".join(["[Script Info]", *lines]) + "\n")
    found = transcripts.read(path)
    assert found.words["word"].tolist() == ["Hi", "Hi"]
    assert found.left_out == {"(Ann)": 2}


def test_times_that_are_shared_out_are_said(tmp_path):
    found = transcripts.read(
        write_captions(tmp_path, [(0, 1, "Oh"), (1, 2, "we sailed home")])
    )
    assert found.notes == [
        "captions of several words: times are spread over them, and those of 2 words "
        "are not measured"
    ]
    assert (
        transcripts.read(write_captions(tmp_path, [(0, 1, "Oh"), (1, 2, "we")])).notes
        == []
    )
