"""Tables of words: names of columns, units, separators, rows of several words."""

import numpy as np
import pytest
from spoken import table

from anbn.text import stories, word_tables

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


def assert_words(found, rows=WORDS):
    assert found.words["word"].tolist() == [w for w, *_ in rows]
    np.testing.assert_allclose(found.words["onset"], [on for _, on, _ in rows])
    np.testing.assert_allclose(found.words["offset"], [off for *_, off in rows])


NAMES = [
    *("word,onset,offset", "Word,Start,End", "text,start_time,end_time"),
    *("token,begin,end", "Label,Begin,End", "words,xmin,xmax", "word,onset,stop"),
    *("word,onset (s),offset (s)", "word,start_sec,end_sec"),
    "transcription,startTime,endTime",
]


@pytest.mark.parametrize("names", NAMES)
def test_names_of_columns(read, names):
    assert_words(read(f"{names}\n{table(WORDS, None, ',')}", "a.csv"))


@pytest.mark.parametrize("names", ["word onset offset", "text start_ms end_ms"])
@pytest.mark.parametrize("digits", [0, 1])
def test_milliseconds_are_recognised(read, names, digits):
    rows = [
        (w, f"{1e3 * on:.{digits}f}", f"{1e3 * off:.{digits}f}") for w, on, off in WORDS
    ]
    found = read(table(rows, names))
    assert_words(found)
    assert any(note.startswith("times read as milliseconds") for note in found.notes)


def test_whole_seconds_stay_seconds(read):
    rows = [("a", 0, 1), ("b", 1, 2), ("c", 10, 11), ("d", 300, 303)]
    assert_words(read(table(rows)), rows)


@pytest.mark.parametrize(
    "onset, end",
    [
        *(
            ("onset_ms", "offset_ms"),
            ("onset", "duration_ms"),
            ("onset_ms", "duration"),
        ),
        *(("onset", "offset_ms"), ("onset_ms", "offset"), ("onset_s", "duration_ms")),
        *(("start_ms", "end_s"), ("onset[ms]", "duration[ms]")),
    ],
)
def test_each_column_is_converted_by_its_own_name(read, onset, end):
    scale = [1000 if "ms" in name else 1 for name in (onset, end)]
    rows = [
        (w, round(on * scale[0], 3), round((off - on * ("dur" in end)) * scale[1], 3))
        for w, on, off in WORDS
    ]
    found = read(table(rows, f"word {onset} {end}"))
    assert_words(found)
    assert found.n_clipped == 0
    assert any("milliseconds" in note for note in found.notes)


@pytest.mark.parametrize("scale", [1, 1000])
@pytest.mark.parametrize("name, separator", [("a.tsv", "\t"), ("a.csv", ";")])
def test_a_row_a_sentence(read, name, separator, scale):
    rows = [(w, *(round(scale * t, 1) for t in times)) for w, *times in SENTENCES]
    rows = [(w, *(f"{t:g}" for t in times)) for w, *times in rows]
    text = table(rows, "text start end", separator)
    found = read(text, name)
    words = found.words
    assert stories.join_words(words) == " ".join(w for w, *_ in SENTENCES)
    np.testing.assert_allclose(words["onset"][words["timed"]], [0, 4.2, 9.1])
    assert (~words["timed"]).sum() == 12
    assert words["offset"].iloc[-1] == pytest.approx(11.8)
    np.testing.assert_allclose(words["onset"][1], 4.2 * 3 / 26)
    said = "rows of several words: 3; times are spread over them, and those of 12 words"
    assert any(note.startswith(said) for note in found.notes)
    assert read(text, name, missing="drop").words["onset"].notna().sum() == 3


ROWS = table(WORDS, None, ",")
DECIMALS = "word;onset;offset\n" + table(WORDS, None, ";").replace(".", ",")
INDEX = [(i, *row) for i, row in enumerate(WORDS)]
FORMS = {  # the same words in other tables
    "semicolons and decimal commas": DECIMALS,
    "a mark of order and Excel's separator": f"\ufeffsep=;\n{DECIMALS}",
    "an index without a name": ",word,start,end\n" + table(INDEX, None, ","),
    "pandas' index": "Unnamed: 0,word,start,end\n" + table(INDEX, None, ","),
    "a comment": f"# made by hand\nword,onset,offset\n{ROWS}",
    "times of day": "word,start,end\nThe,0:00.5,0:00.70\nold,00:00:00.700,0:01\n"
    "keeper,0:01.0,0:01.6\nslept,1.7,00:02.200\n",
    "kinds of rows": "Begin,End,Label,Type\n0.5,0.6,DH,phones\n"
    + "".join(f"{on},{off},{w},words\n" for w, on, off in WORDS),
    "rows of a tier": "Begin,End,Label,tier,Speaker\n0.5,0.6,DH,phones,ann\n"
    + "".join(f"{on},{off},{w},words,ann\n" for w, on, off in WORDS),
    "whisper.cpp quotes all words": "start,end,text\n"
    + "".join(f'{1e3 * on:.0f},{1e3 * off:.0f}," {w}"\n' for w, on, off in WORDS),
    "places in a text are no times": "text,start,end,start_char,end_char\n"
    + "".join(f"{w},{on},{off},0,1\n" for w, on, off in WORDS),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_forms_of_tables(read, form, name):
    assert_words(read(FORMS[form], name))


def test_our_own_words_can_be_read_again(read):
    words = read(table(WORDS)).words
    assert read(words.to_csv(), "again.csv").words.equals(words)


def test_speakers_in_a_table(read):
    rows = [("who", 0, 1, "ann"), ("is", 2, 3, "ann"), ("me", 1.5, 2.5, "bob")]
    found = read(table(rows, "word onset offset speaker"))
    assert found.words["word"].tolist() == ["who", "me", "is"]
    assert found.words["speaker"].tolist() == ["ann", "bob", "ann"]
    assert found.n_clipped == 1


def test_cells_are_those_of_the_table(write):
    cells = ["Oh, the lamp", "It was lit.", "Oh"]
    # where commas part the cells, quotation marks around one are the table's
    for last in ('"It was lit."', "It was lit."):
        text = f'start,end,text\n0,4,"Oh, the lamp"\n4,5,{last}\n5,6,"Oh"\n'
        assert word_tables.read_table(write(text, "a.csv"))["text"].tolist() == cells
    # where tabs do, they are the word's
    text = 'start\tend\ttext\n0\t4\tOh, the lamp\n5\t6\t"Oh"\n'
    cells = word_tables.read_table(write(text))["text"].tolist()
    assert cells == ["Oh, the lamp", '"Oh"']


QUOTED = [  # rows, and the words in them
    ('"“",0.5,0.5\nOh,0.5,0.9\n"”",0.9,0.9\n', "“Oh”"),
    ('"Yes, sir",0.5,0.8\nhe,0.9,1.3\n"said",1.4,1.7\n', "Yes, sir he said"),
    ('Yes,0.5,0.8\n",",0.8,0.8\nhe,0.9,1.3\n".",1.4,1.4\n', "Yes, he."),
    ('"Oh,0.5,0.8\nlamp",0.9,1.3\n', '"Oh lamp"'),  # these are the words' own
    ('"No.",.5,.6\n"Oh,.6,.7\n"yes, sir",.7,.8\nI"m,.8,.9\n', '"No." "Oh yes, sir I"m'),
    ('"No.",0.5,1\n"""Oh",1,2\n', 'No. "Oh'),
    ('"The lamp\nwent",0.5,1.2\nout,1.3,1.6\n', "The lamp went out"),
    ('"The lamp,\n\nit\nwent",0.5,1.2\n"out",1.3,1.6\n', "The lamp, it went out"),
]


@pytest.mark.parametrize("rows, text", QUOTED)
def test_quoted_cells(read, rows, text):
    words = read(f"word,onset,offset\n{rows}", "a.csv").words
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
def test_pieces_of_words_are_joined(read, form, names):
    rows = "".join(
        f"{on};{off - on * ('duration' in names)};{form(w)}\n" for w, on, off in TOKENS
    )
    found = read(f"{names};token\n{rows}", "a.csv")
    assert stories.join_words(found.words) == "Anna harboured doubts, he said."
    np.testing.assert_allclose(found.words["onset"], [0, 0.4, 0.9, 1.4, 1.6])
    np.testing.assert_allclose(found.words["offset"].iloc[1], 0.9)
    assert any(note.startswith("pieces of words, joined") for note in found.notes)
