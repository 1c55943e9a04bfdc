"""Which tier holds the words, and marks that are none."""

import numpy as np
import pytest
from spoken import table, textgrid, timed

from anbn.text import nonwords, stories
from anbn.text.textfiles import StimulusError

WORDS = [("the", 0, 0.3), ("old", 0.3, 0.6), ("keeper", 0.6, 1.2), ("", 1.2, 12)]
SAID = [("The old keeper opened the door.", 0, 4.2), ("It was\ndark.", 4.2, 9.1)]
PHONES = [("DH", 0, 0.1), ("AH0", 0.1, 0.3), ("OW1", 0.3, 0.4), ("L", 0.4, 0.5)]
PHONES += [("D", 0.5, 0.6), ("K", 0.6, 0.8), ("IY1", 0.8, 1.0), ("P", 1.0, 1.2)]
SAMPA = [("D", 0, 0.1), ("@", 0.1, 0.3), ("@U", 0.3, 0.4), ("l", 0.4, 0.5)]
SAMPA += [("d", 0.5, 0.6), ("k", 0.6, 0.8), ("i:", 0.8, 1.0), ("p@", 1.0, 1.2)]
SYLLABLES = [("the", 0, 0.3), ("old", 0.3, 0.6), ("kee", 0.6, 0.9), ("per", 0.9, 1.2)]
LEMMAS = [("the", 0, 0.3), ("old", 0.3, 0.6), ("keep", 0.6, 1.2)]
NUMBERS = [("1", 0, 0.3), ("2", 0.3, 0.6), ("3.5", 0.6, 1.2)]
ANN = [("who", 0, 0.5), ("is", 0.5, 0.8), ("there", 0.8, 1.2), ("", 1.2, 12)]
BOB = [("", 0, 1), ("only", 1, 2.5), ("me", 2.5, 3.0)]


@pytest.fixture
def tiers(read):
    """A function that reads a TextGrid of tiers."""
    return lambda rows, tier="", **how: read(
        textgrid(rows, **how), "a.TextGrid", tier=tier
    )


FOUND = [
    [("utterance", SAID), ("ORT-MAU", WORDS), ("phones", WORDS)],
    [("Mary", SAID), ("Mary's", WORDS)],
    [("phones", PHONES), ("words", WORDS)],
    [("a", PHONES), ("b", WORDS)],
    [("a", SAMPA), ("b", WORDS)],
    [("MAU", SAMPA), ("KAN-MAU", WORDS), ("ORT-MAU", WORDS), ("TRN", SAID)],
    [("a", SYLLABLES), ("b", WORDS)],
    [("lemma", LEMMAS), ("b", WORDS)],
    [("token", WORDS), ("x", LEMMAS)],
    [("a", NUMBERS), ("b", WORDS)],
    [("empty", [("", 0, 12)]), ("b", WORDS)],
    [("a", WORDS), ("b", WORDS)],
    [("pauses", [("sp", 0, 1), ("sil", 1, 2)]), ("b", WORDS)],
]


@pytest.mark.parametrize("rows", FOUND)
def test_the_tier_of_words_is_found_by_what_it_holds(tiers, rows):
    words = tiers(rows).words
    assert words["word"].tolist() == ["the", "old", "keeper"]
    assert words["onset"].tolist() == [0, 0.3, 0.6]
    assert "speaker" not in words


def test_sentences_are_spread_where_there_are_no_words(tiers):
    found = tiers([("trs", SAID), ("phones", PHONES)])
    text = "The old keeper opened the door. It was dark."
    assert stories.join_words(found.words) == text
    assert found.words["timed"].sum() == 2
    assert "rows of several words: 2;" in " ".join(found.notes)
    assert "words from the tier 'trs'; not read: 'phones'" in found.notes


@pytest.mark.parametrize("name", ["y", "Y*"])
def test_a_tier_can_be_named(tiers, name):
    rows = [("x", WORDS), ("y", LEMMAS)]
    assert tiers(rows, name).words["word"].tolist() == ["the", "old", "keep"]
    with pytest.raises(StimulusError, match=r"no tier is named 'z'. .* are: 'x' \(3"):
        tiers(rows, "z")


UNCLEAR = [
    [("x", WORDS), ("y", LEMMAS)],
    [
        ("trs", SAID),
        ("eng", [("Er war alt dort.", 0, 4.2), ("So ist es.", 4.2, 9.1)]),
    ],
    [("words", WORDS), ("words old", LEMMAS)],
    [("phones", PHONES)],
    [("a", PHONES)],
    [("a", NUMBERS)],
]


@pytest.mark.parametrize("rows", UNCLEAR)
def test_where_it_cannot_be_told_the_tiers_are_listed(tiers, rows):
    with pytest.raises(StimulusError, match=r"story_tier.*There are: ") as error:
        tiers(rows)
    assert all(repr(name) in str(error.value) for name, _ in rows)


@pytest.mark.parametrize(
    "names",
    [("ann - words", "bob - words"), ("ann", "bob"), ("words_ann", "words_bob")],
)
def test_two_speakers_in_order_of_time(tiers, names):
    rows = [(names[0], ANN), ("ann - phones", ANN), (names[1], BOB)]
    found = tiers(rows)
    words = found.words
    assert words["word"].tolist() == ["who", "is", "there", "only", "me"]
    assert words["speaker"].tolist() == ["ann"] * 3 + ["bob"] * 2
    assert words["offset"].tolist() == [0.5, 0.8, 1.0, 2.5, 3.0]  # bob cuts in
    assert found.n_clipped == 1
    assert "2 speakers, in order of time: ann, bob" in found.notes
    assert tiers(rows, names[1]).words["word"].tolist() == ["only", "me"]


def test_sizes_that_are_too_small(tiers, read):
    rows = [("a", SAID), ("words", WORDS)]
    found = tiers(rows, sizes={"words": 2}, n_tiers=1)
    assert found.words["word"].tolist() == ["the", "old", "keeper"]
    assert "the file says 1 tiers and holds 3: all read" in found.notes
    assert "the tier 'words' says 2 intervals and holds 4: all read" in found.notes
    cut = textgrid(rows, sizes={"words": 2}).rsplit("xmax", 1)[0]  # in an interval
    with pytest.raises(StimulusError, match="Is the file whole"):
        read(cut, "a.TextGrid")


MARKS = (
    "sp {BR} {LG} {NS} {CG} {LS} br lg ls ns cg sentence_start sentence_end spn <unk> "
    "<eps> [bracketed] <cutoff-the> [laughter] (laughs) <laugh> xxx &=laughs NOISE "
    "silence <sil> SIL # _ <usb> noise <p:> <s> </s> [NOISE] !SIL {breath} [laughter]. "
    "(.) (0.5) *coughs* ♪ >> [SPEAKER_00]: NSN"
).split()
KEPT = "door a sick-bed (Why) no! 'Twas 1984 x br2 I'm (he) A+ <3 silences &".split()


def test_marks_are_no_words_and_are_counted(tiers):
    found = tiers([("word", timed([*MARKS, *KEPT]))])
    assert found.words["word"].tolist() == KEPT
    assert sum(found.left_out.values()) == len(MARKS)
    assert found.left_out["{LG}"] == found.left_out["lg"] == 1
    said = f"marks that are no words left out, {len(MARKS)} in all: "
    assert said in " ".join(found.notes)


# rows of a tier, their text, and the marks among them
AMONG = [
    (
        "so [MUSIC PLAYING] he ( upbeat music ) went (she said) {door slams} in",
        "so he went (she said) in",
        {"[MUSIC PLAYING]": 1, "( upbeat music )": 1, "{door slams}": 1},
    ),
    # silence may be spoken; breaths are marks where they recur
    (
        "in the silence he heard a noise silence and NOISE laughed",
        "in the silence he heard a noise and laughed",
        {"silence": 1, "NOISE": 1},
    ),
    ("w " * 200 + "silence" + " w" * 100, "w " * 200 + "silence" + " w" * 100, {}),
    ("we breath sail home " * 4, "we sail home " * 4, {"breath": 4}),
    ("we cough sail home", "we cough sail home", {}),
    # marks of aligners alone
    (
        "pau we xx %fp sail # home",
        "we sail home",
        {"pau": 1, "xx": 1, "%fp": 1, "#": 1},
    ),
]


@pytest.mark.parametrize("said, text, left_out", AMONG)
def test_marks_among_words(tiers, said, text, left_out):
    rows = [(word, i / 2, i / 2 + 0.5) for i, word in enumerate(said.split())]
    found = tiers([("word", rows)])
    assert stories.join_words(found.words) == text.strip()
    assert found.left_out == left_out


@pytest.mark.parametrize("separator", ["\t", ","])
def test_marks_in_tables(read, separator):
    rows = timed(["sp", "Silence", "<unk>", "pau", "xx"])  # the last are its own words
    found = read(table(rows, separator=separator), "a.csv")
    assert found.words["word"].tolist() == ["Silence", "pau", "xx"]
    assert found.left_out == {"sp": 1, "<unk>": 1}


def test_many_marks_are_named_shortly():
    left, left_out = nonwords.blank_out(" ".join(f"[m{i}]" for i in range(30)))
    assert not left.strip()
    assert nonwords.name_them(left_out).endswith("[m11] 1 and 18 other kinds")


def test_words_of_elan_that_have_one_of_their_times(read):
    times = {"a": 500, "b": None, "c": None, "d": 1400, "e": 1600, "f": 2000}
    slots = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="{name}"'
        + (f' TIME_VALUE="{time}"/>' if time else "/>")
        for name, time in times.items()
    )
    words = zip(("Wir", "sie", "heim."), ("ab", "cd", "ef"), strict=True)
    found = read(
        f"<ANNOTATION_DOCUMENT><TIME_ORDER>{slots}</TIME_ORDER>"
        '<TIER TIER_ID="words">'
        + "".join(
            f'<ALIGNABLE_ANNOTATION TIME_SLOT_REF1="{on}" TIME_SLOT_REF2="{off}">'
            f"<ANNOTATION_VALUE>{word}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>"
            for word, (on, off) in words
        )
        + "</TIER></ANNOTATION_DOCUMENT>",
        "a.eaf",
    )
    np.testing.assert_allclose(found.words["onset"], [0.5, 0.95, 1.6])
    np.testing.assert_allclose(found.words["offset"], [0.95, 1.4, 2.0])
    assert found.words["timed"].tolist() == [True, False, True]
