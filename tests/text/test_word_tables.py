"""Tables of words: names of columns, units, separators, rows of several words."""

import numpy as np
import pytest

from anbn.text import stories, transcripts, word_tables
from anbn.text.textfiles import StimulusError

WORDS = [
    ("The", 0.5, 0.7),
    ("old", 0.7, 1.0),
    ("keeper", 1.0, 1.6),
    ("slept", 1.7, 2.2),
]
SENTENCES = [
    ("The old keeper opened the door.", 0, 4.2),
    ("It was dark and the wind blew.", 4.2, 9.1),
    ("Nobody came.", 9.1, 11.8),
]


def write_words(tmp_path, rows, names, name="words.csv", separator=",", form=str):
    lines = [names, *[[w, *map(form, times)] for w, *times in rows]]
    path = tmp_path / name
    path.write_text("\n".join(separator.join(line) for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "names",
    [
        ("word", "onset", "offset"),
        ("Word", "Start", "End"),
        ("text", "start_time", "end_time"),
        ("token", "begin", "end"),
        ("Label", "Begin", "End"),
        ("words", "xmin", "xmax"),
        ("word", "onset (s)", "offset (s)"),
        ("word", "start_sec", "end_sec"),
        ("transcription", "startTime", "endTime"),
        ("word", "onset", "stop"),
    ],
)
def test_names_of_columns(tmp_path, names):
    words = transcripts.read_words(write_words(tmp_path, WORDS, names))
    assert words["word"].tolist() == [w for w, *_ in WORDS]
    np.testing.assert_allclose(words["onset"], [on for _, on, _ in WORDS])
    np.testing.assert_allclose(words["offset"], [off for *_, off in WORDS])


@pytest.mark.parametrize(
    "names", [("word", "onset", "offset"), ("text", "start_ms", "end_ms")]
)
@pytest.mark.parametrize(
    "form", [lambda t: f"{1000 * t:.0f}", lambda t: f"{1000 * t:.1f}"]
)
def test_milliseconds_are_recognised(tmp_path, names, form):
    found = transcripts.read(write_words(tmp_path, WORDS, names, form=form))
    np.testing.assert_allclose(found.words["offset"], [0.7, 1.0, 1.6, 2.2])
    assert any(note.startswith("times read as milliseconds") for note in found.notes)


def test_milliseconds_by_name_need_no_whole_numbers(tmp_path):
    names = ("word", "onset[ms]", "duration[ms]")
    rows = [("a", 250.5, 300.25), ("b", 600.0, 100.0)]
    words = transcripts.read_words(write_words(tmp_path, rows, names))
    np.testing.assert_allclose(words["offset"], [0.55075, 0.7])


def test_whole_seconds_stay_seconds(tmp_path):
    rows = [("a", 0, 1), ("b", 1, 2), ("c", 10, 11), ("d", 300, 303)]
    words = transcripts.read_words(
        write_words(tmp_path, rows, ("word", "onset", "offset"))
    )
    assert words["offset"].tolist() == [1, 2, 11, 303]


@pytest.mark.parametrize(
    "scale, why",
    [
        (16000, "samples"),
        (44100, "samples"),
        (100, "frames of 10 ms"),
        (50, "frames of 20 ms"),
        (25, "frames of a film"),
        (1 / 60, "minutes"),
    ],
)
def test_other_units_are_refused(tmp_path, scale, why):
    rows = [(w, on * scale, off * scale) for w, on, off in WORDS * 1]
    rows += [("on", 2.3 * scale, 2.5 * scale)]
    form = (lambda t: f"{t:.0f}") if scale > 1 else (lambda t: f"{t:.6f}")
    path = write_words(tmp_path, rows, ("word", "onset", "offset"), form=form)
    with pytest.raises(StimulusError, match="milliseconds, samples or frames") as error:
        transcripts.read_words(path)
    assert "The" in str(error.value)


@pytest.mark.parametrize("unit", ["samples", "frame"])
def test_other_units_by_name_are_refused(tmp_path, unit):
    path = write_words(tmp_path, WORDS, ("word", f"start_{unit}", f"end_{unit}"))
    with pytest.raises(StimulusError, match=f"are in {unit}. Convert"):
        transcripts.read_words(path)


@pytest.mark.parametrize(
    "onset, end, is_duration",
    [
        ("onset_ms", "offset_ms", False),
        ("onset", "duration_ms", True),
        ("onset_ms", "duration", True),
        ("onset", "offset_ms", False),
        ("onset_ms", "offset", False),
        ("onset_s", "duration_ms", True),
        ("start_ms", "end_s", False),
    ],
)
def test_each_column_is_converted_by_its_own_name(tmp_path, onset, end, is_duration):
    rows = [
        (
            w,
            round(on * 1000 ** onset.endswith("_ms"), 3),
            round((off - on * is_duration) * 1000 ** end.endswith("_ms"), 3),
        )
        for w, on, off in WORDS
    ]
    found = transcripts.read(write_words(tmp_path, rows, ("word", onset, end)))
    np.testing.assert_allclose(found.words["onset"], [on for _, on, _ in WORDS])
    np.testing.assert_allclose(found.words["offset"], [off for *_, off in WORDS])
    assert found.n_clipped == 0
    assert any("milliseconds" in note for note in found.notes)


@pytest.mark.parametrize(
    "names, rows, expected",
    [
        # milliseconds in a column that names no unit, beside one that does
        ("onset_s,offset", "The,0.5,700\nold,0.7,1000", "lasts 849.4? s in the median"),
        ("onset_ms,offset_ms", "The,0.5,0.7\nold,0.7,1", "lasts 0.00025 s"),
        (
            "onset,duration_ms",
            "The,100500,200\nold,200700,300",
            "'onset' does not.*Name it onset_ms or onset_s",
        ),
        ("onset,duration_frames", "The,0.5,8", "'duration_frames' are in frames"),
        ("start,end", "The,00:00:01:12,00:00:03:00", "'start' holds time codes"),
        ("start,end", "The,00;00;01;12,00;00;03;00", "'start' holds time codes"),
    ],
)
def test_units_that_cannot_be(tmp_path, names, rows, expected):
    path = tmp_path / "a.csv"
    path.write_text(f"word,{names}\n{rows}\n")
    with pytest.raises(StimulusError, match=expected) as error:
        transcripts.read_words(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("scale", [1, 1000])
@pytest.mark.parametrize("name, separator", [("a.tsv", "\t"), ("a.csv", ";")])
def test_a_row_a_sentence(tmp_path, name, separator, scale):
    names = ("text", "start", "end")
    rows = [(w, on * scale, off * scale) for w, on, off in SENTENCES]
    form = (lambda t: f"{t:.0f}") if scale > 1 else str
    found = transcripts.read(write_words(tmp_path, rows, names, name, separator, form))
    words = found.words
    assert stories.join_words(words) == " ".join(w for w, *_ in SENTENCES)
    np.testing.assert_allclose(words["onset"][words["timed"]], [0, 4.2, 9.1])
    assert (~words["timed"]).sum() == 12
    assert words["offset"].iloc[-1] == pytest.approx(11.8)
    np.testing.assert_allclose(words["onset"][1], 4.2 * 3 / 26)
    said = "rows of several words: 3; times are spread over them, and those of 12 words"
    assert any(note.startswith(said) for note in found.notes)
    dropped = transcripts.read_words(tmp_path / name, missing="drop")
    assert dropped["onset"].notna().sum() == 3


@pytest.mark.parametrize("sep_line", ["", "sep=;\n"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_semicolons_decimal_commas_and_a_mark_of_order(tmp_path, name, sep_line):
    path = tmp_path / name
    rows = "".join(f"{w};{a};{b}\n".replace(".", ",") for w, a, b in WORDS)
    path.write_text(f"\ufeff{sep_line}word;onset;offset\n{rows}", encoding="utf-8")
    words = transcripts.read_words(path)
    assert words["word"].tolist() == [w for w, *_ in WORDS]
    np.testing.assert_allclose(words["offset"], [0.7, 1.0, 1.6, 2.2])


def test_pandas_index_is_passed_over(tmp_path):
    path = tmp_path / "a.csv"
    rows = "".join(f"{i},{w},{a},{b}\n" for i, (w, a, b) in enumerate(WORDS))
    for head in ("", "Unnamed: 0"):
        path.write_text(f"{head},word,start,end\n{rows}")
        words = transcripts.read_words(path)
        assert words["onset"].tolist() == [0.5, 0.7, 1.0, 1.7]


def test_our_own_words_can_be_read_again(tmp_path):
    path = write_words(tmp_path, WORDS, ("word", "onset", "offset"))
    words = transcripts.read_words(path)
    words.to_csv(tmp_path / "again.csv")
    again = transcripts.read_words(tmp_path / "again.csv")
    assert again.equals(words)


def test_times_of_day(tmp_path):
    rows = [("a", "0:01.5", "0:02"), ("b", "00:01:03,250", "1:04.5")]
    path = tmp_path / "a.tsv"
    path.write_text("\n".join("\t".join(r) for r in [("word", "start", "end"), *rows]))
    words = transcripts.read_words(path)
    assert words["onset"].tolist() == [1.5, 63.25]
    assert words["offset"].tolist() == [2, 64.5]


@pytest.mark.parametrize("kind", ["type", "tier", "Trial_Type"])
def test_rows_of_words_among_others(tmp_path, kind):
    path = tmp_path / "mfa.csv"
    path.write_text(
        f"Begin,End,Label,{kind},Speaker\n0.5,0.7,The,words,ann\n0.5,0.6,DH,phones,ann\n"
        "0.7,1.0,old,words,ann\n"
    )
    words = transcripts.read_words(path)
    assert words["word"].tolist() == ["The", "old"]


def test_speakers_in_a_table(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        "word,onset,offset,speaker\nwho,0,1,ann\nis,2,3,ann\nme,1.5,2.5,bob\n"
    )
    found = transcripts.read(path)
    assert found.words["word"].tolist() == ["who", "me", "is"]
    assert found.words["speaker"].tolist() == ["ann", "bob", "ann"]
    assert found.n_clipped == 1


@pytest.mark.parametrize(
    "head, expected",
    [
        ("text,token,start,end", "'text', 'token' can each be the word"),
        ("word,start,begin,end", "'start', 'begin' can each be the onset"),
        ("w,start,end,x", r"found \['w', 'start', 'end', 'x'\]"),
        ("word,start,x,y", r"expected the columns word, onset and offset"),
        ("The,0.5,0.7,x", r"expected the columns word, onset and offset"),
    ],
)
def test_columns_that_do_not_fit(tmp_path, head, expected):
    path = tmp_path / "a.csv"
    path.write_text(f"{head}\na,1,2,3\n")
    with pytest.raises(StimulusError, match=expected) as error:
        transcripts.read_words(path)
    assert str(path) in str(error.value)


def test_whisper_cpp_quotes_all_words(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('start,end,text\n0,400," Oh,"\n400,900," lamp"\n900,1200," lit"\n')
    words = transcripts.read_words(path)
    assert words["word"].tolist() == ["Oh,", "lamp", "lit"]
    assert words["offset"].tolist() == [0.4, 0.9, 1.2]


def test_places_in_a_text_are_no_times(tmp_path):
    names = ("text", "start", "end", "start_char", "end_char")
    rows = [("a", 0.5, 1, 0, 1), ("b", 1, 2, 2, 3)]
    words = transcripts.read_words(write_words(tmp_path, rows, names))
    assert words["onset"].tolist() == [0.5, 1]


def test_cells_are_those_of_the_table(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('start,end,text\n0,4,"Oh, the lamp"\n4,5,"It was lit."\n5,6,"Oh"\n')
    table = word_tables.read_table(path)
    assert table["text"].tolist() == ["Oh, the lamp", "It was lit.", "Oh"]
    # where commas part the cells, quotation marks around one are the table's
    path.write_text('start,end,text\n0,4,"Oh, the lamp"\n4,5,It was lit.\n5,6,"Oh"\n')
    table = word_tables.read_table(path)
    assert table["text"].tolist() == ["Oh, the lamp", "It was lit.", "Oh"]
    # where tabs do, they are the word's
    path = tmp_path / "a.tsv"
    path.write_text('start\tend\ttext\n0\t4\tOh, the lamp\n5\t6\t"Oh"\n')
    assert word_tables.read_table(path)["text"].tolist() == ["Oh, the lamp", '"Oh"']


@pytest.mark.parametrize(
    "rows, text",
    [
        ('"“",0.5,0.5\nOh,0.5,0.9\n"”",0.9,0.9\n', "“Oh”"),
        ('"Yes, sir",0.5,0.8\nhe,0.9,1.3\n"said",1.4,1.7\n', "Yes, sir he said"),
        ('Yes,0.5,0.8\n",",0.8,0.8\nhe,0.9,1.3\n".",1.4,1.4\n', "Yes, he."),
        ('"Oh,0.5,0.8\nlamp",0.9,1.3\n', '"Oh lamp"'),  # these are the words' own
        ('"The lamp\nwent",0.5,1.2\nout,1.3,1.6\n', "The lamp went out"),
        ('"The lamp,\n\nit\nwent",0.5,1.2\n"out",1.3,1.6\n', "The lamp, it went out"),
    ],
)
def test_quoted_cells(tmp_path, rows, text):
    path = tmp_path / "a.csv"
    path.write_text(f"word,onset,offset\n{rows}", encoding="utf-8")
    words = transcripts.read_words(path)
    assert stories.join_words(words) == text
    assert words["onset"].iloc[0] == 0.5


TOKENS = [
    (" Anna", 0, 400),
    (" har", 400, 600),
    ("bour", 600, 800),
    ("ed", 800, 900),
    (" doubts", 900, 1300),
    (",", 1300, 1350),
    (" he", 1400, 1600),
    (" said", 1600, 1900),
    (".", 1900, 2000),
]


@pytest.mark.parametrize(
    "form",
    [
        lambda piece: f'"{piece}"',  # whisper.cpp
        lambda piece: piece.replace(" ", "Ġ"),
        lambda piece: piece.replace(" ", "▁"),
        lambda piece: piece.strip() if piece[0] in " ,." else f"##{piece}",
    ],
)
@pytest.mark.parametrize("names", ["start_ms;end_ms", "start_ms;duration_ms"])
def test_pieces_of_words_are_joined(tmp_path, form, names):
    path = tmp_path / "a.csv"
    ends = [off - on * ("duration" in names) for _, on, off in TOKENS]
    rows = "".join(
        f"{on};{end};{form(w)}\n" for (w, on, _), end in zip(TOKENS, ends, strict=True)
    )
    path.write_text(f"{names};token\n{rows}", encoding="utf-8")
    found = transcripts.read(path)
    assert stories.join_words(found.words) == "Anna harboured doubts, he said."
    np.testing.assert_allclose(found.words["onset"], [0, 0.4, 0.9, 1.4, 1.6])
    np.testing.assert_allclose(found.words["offset"].iloc[1], 0.9)
    assert any(note.startswith("pieces of words, joined") for note in found.notes)


def test_a_comment_before_the_names(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("# made by hand\nword,onset,offset\nThe,0.5,0.7\n")
    assert transcripts.read_words(path)["word"].tolist() == ["The"]
