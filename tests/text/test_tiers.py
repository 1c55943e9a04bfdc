"""Which tier holds the words, and marks that are none."""

import numpy as np
import pytest

from anbn.text import nonwords, stories, transcripts
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


def write_textgrid(tmp_path, tiers, sizes=None, n_tiers=None, name="a.TextGrid"):
    text = (
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 12\n'
    )
    text += f"tiers? <exists>\nsize = {n_tiers or len(tiers)}\nitem []:\n"
    for i, (tier, rows) in enumerate(tiers, 1):
        size = (sizes or {}).get(tier, len(rows))
        text += f'item [{i}]:\nclass = "IntervalTier"\nname = "{tier}"\nxmin = 0\n'
        text += f"xmax = 12\nintervals: size = {size}\n"
        for k, (word, on, off) in enumerate(rows, 1):
            text += f'intervals [{k}]:\nxmin = {on}\nxmax = {off}\ntext = "{word}"\n'
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "tiers",
    [
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
    ],
)
def test_the_tier_of_words_is_found_by_what_it_holds(tmp_path, tiers):
    words = transcripts.read_words(write_textgrid(tmp_path, tiers))
    assert words["word"].tolist() == ["the", "old", "keeper"]
    assert words["onset"].tolist() == [0, 0.3, 0.6]
    assert "speaker" not in words


def test_sentences_are_spread_where_there_are_no_words(tmp_path):
    found = transcripts.read(
        write_textgrid(tmp_path, [("trs", SAID), ("phones", PHONES)])
    )
    assert stories.join_words(found.words) == (
        "The old keeper opened the door. It was dark."
    )
    assert found.words["timed"].sum() == 2
    assert "rows of several words: 2;" in " ".join(found.notes)
    assert "words from the tier 'trs'; not read: 'phones'" in found.notes


@pytest.mark.parametrize("tier", ["y", "Y*", "y"])
def test_a_tier_can_be_named(tmp_path, tier):
    path = write_textgrid(tmp_path, [("x", WORDS), ("y", LEMMAS)])
    words = transcripts.read_words(path, tier=tier)
    assert words["word"].tolist() == ["the", "old", "keep"]
    with pytest.raises(
        StimulusError, match=r"no tier is named 'z'. There are: 'x' \(3"
    ):
        transcripts.read_words(path, tier="z")


@pytest.mark.parametrize(
    "tiers",
    [
        [("x", WORDS), ("y", LEMMAS)],
        [
            ("trs", SAID),
            ("eng", [("Er war alt dort.", 0, 4.2), ("So ist es.", 4.2, 9.1)]),
        ],
        [("words", WORDS), ("words old", LEMMAS)],
        [("phones", PHONES)],
        [("a", PHONES)],
        [("a", NUMBERS)],
    ],
)
def test_where_it_cannot_be_told_the_tiers_are_listed(tmp_path, tiers):
    with pytest.raises(StimulusError, match=r"story_tier.*There are: ") as error:
        transcripts.read_words(write_textgrid(tmp_path, tiers))
    assert all(repr(name) in str(error.value) for name, _ in tiers)


@pytest.mark.parametrize(
    "names",
    [("ann - words", "bob - words"), ("ann", "bob"), ("words_ann", "words_bob")],
)
def test_two_speakers_in_order_of_time(tmp_path, names):
    tiers = [(names[0], ANN), ("ann - phones", ANN), (names[1], BOB)]
    found = transcripts.read(write_textgrid(tmp_path, tiers))
    words = found.words
    assert words["word"].tolist() == ["who", "is", "there", "only", "me"]
    assert words["speaker"].tolist() == ["ann"] * 3 + ["bob"] * 2
    assert words["offset"].tolist() == [0.5, 0.8, 1.0, 2.5, 3.0]  # bob cuts in
    assert found.n_clipped == 1
    assert "2 speakers, in order of time: ann, bob" in found.notes
    one = transcripts.read_words(tmp_path / "a.TextGrid", tier=names[1])
    assert one["word"].tolist() == ["only", "me"]


def test_sizes_that_are_too_small(tmp_path):
    path = write_textgrid(
        tmp_path, [("a", SAID), ("words", WORDS)], {"words": 2}, n_tiers=1
    )
    found = transcripts.read(path)
    assert found.words["word"].tolist() == ["the", "old", "keeper"]
    assert "the file says 1 tiers and holds 2: all read" in found.notes
    assert "the tier 'words' says 2 intervals and holds 4: all read" in found.notes
    text = path.read_text().rsplit("xmax", 1)[0]  # cut within an interval
    path.write_text(text)
    with pytest.raises(StimulusError, match="Is the file whole"):
        transcripts.read(path)


MARKS = (
    "sp {BR} {LG} {NS} {CG} {LS} br lg ls ns cg sentence_start sentence_end spn <unk> "
    "<eps> [bracketed] <cutoff-the> [laughter] (laughs) <laugh> xxx &=laughs NOISE "
    "silence <sil> SIL # _ <usb> noise <p:> <s> </s> [NOISE] !SIL {breath} [laughter]. "
    "(.) (0.5) *coughs* ♪ >> [SPEAKER_00]: NSN"
).split()
KEPT = "door a sick-bed (Why) no! 'Twas 1984 x br2 I'm (he) A+ <3 silences &".split()


def test_marks_are_no_words_and_are_counted(tmp_path):
    rows = [(w, i, i + 0.5) for i, w in enumerate([*MARKS, *KEPT])]
    found = transcripts.read(write_textgrid(tmp_path, [("word", rows)]))
    assert found.words["word"].tolist() == KEPT
    assert sum(found.left_out.values()) == len(MARKS)
    assert found.left_out["{LG}"] == found.left_out["lg"] == 1
    assert f"marks that are no words left out, {len(MARKS)} in all: " in " ".join(
        found.notes
    )


def test_marks_over_several_rows(tmp_path):
    said = "so [MUSIC PLAYING] he ( upbeat music ) went (she said) {door slams} in"
    rows = [(w, i, i + 0.5) for i, w in enumerate(said.split())]
    found = transcripts.read(write_textgrid(tmp_path, [("word", rows)]))
    assert stories.join_words(found.words) == "so he went (she said) in"
    assert set(found.left_out) == {
        "[MUSIC PLAYING]",
        "( upbeat music )",
        "{door slams}",
    }


def test_silence_may_be_spoken(tmp_path):
    said = "in the silence he heard a noise silence and NOISE laughed".split()
    rows = [(w, i / 2, i / 2 + 0.5) for i, w in enumerate(said)]
    found = transcripts.read(write_textgrid(tmp_path, [("word", rows)]))
    assert stories.join_words(found.words) == (
        "in the silence he heard a noise and laughed"
    )
    rare = [(f"w{i}", i, i + 1) for i in range(300)]
    rare[200] = ("silence", 200, 201)
    found = transcripts.read(write_textgrid(tmp_path, [("word", rare)]))
    assert len(found.words) == 300


@pytest.mark.parametrize("name", ["a.tsv", "a.csv"])
def test_marks_in_tables(tmp_path, name):
    separator = "\t" if name.endswith("tsv") else ","
    rows = [
        ("word", "onset", "offset"),
        ("sp", 0, 1),
        ("Silence", 1, 2),
        ("<unk>", 2, 3),
    ]
    path = tmp_path / name
    path.write_text("\n".join(separator.join(map(str, row)) for row in rows))
    found = transcripts.read(path)
    assert found.words["word"].tolist() == ["Silence"]
    assert found.left_out == {"sp": 1, "<unk>": 1}


def test_many_marks_are_named_shortly():
    left, left_out = nonwords.blank_out(" ".join(f"[m{i}]" for i in range(30)))
    assert not left.strip()
    assert nonwords.name_them(left_out).endswith("[m11] 1 and 18 other kinds")


def test_words_of_elan_that_have_one_of_their_times(tmp_path):
    times = {"a": 500, "b": None, "c": None, "d": 1400, "e": 1600, "f": 2000}
    slots = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="{name}"'
        + (f' TIME_VALUE="{time}"/>' if time else "/>")
        for name, time in times.items()
    )
    words = zip(("Wir", "sie", "heim."), ("ab", "cd", "ef"), strict=True)
    path = tmp_path / "a.eaf"
    path.write_text(
        f"<ANNOTATION_DOCUMENT><TIME_ORDER>{slots}</TIME_ORDER>"
        '<TIER TIER_ID="words">'
        + "".join(
            f'<ALIGNABLE_ANNOTATION TIME_SLOT_REF1="{on}" TIME_SLOT_REF2="{off}">'
            f"<ANNOTATION_VALUE>{word}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>"
            for word, (on, off) in words
        )
        + "</TIER></ANNOTATION_DOCUMENT>"
    )
    found = transcripts.read(path)
    np.testing.assert_allclose(found.words["onset"], [0.5, 0.95, 1.6])
    np.testing.assert_allclose(found.words["offset"], [0.95, 1.4, 2.0])
    assert found.words["timed"].tolist() == [True, False, True]


def test_marks_of_aligners_alone(tmp_path):
    said = ["pau", "we", "xx", "%fp", "sail", "#", "home"]
    rows = [(word, i, i + 1) for i, word in enumerate(said)]
    found = transcripts.read(write_textgrid(tmp_path, [("words", rows)]))
    assert found.words["word"].tolist() == ["we", "sail", "home"]
    assert found.left_out == {"pau": 1, "xx": 1, "%fp": 1, "#": 1}
    path = tmp_path / "a.tsv"  # a story's own words
    lines = [f"{word}\t{on}\t{off}" for word, on, off in rows[:3]]
    path.write_text("\n".join(["word\tonset\toffset", *lines]))
    assert transcripts.read_words(path)["word"].tolist() == ["pau", "we", "xx"]


@pytest.mark.parametrize("mark, n", [("breath", 4), ("cough", 1)])
def test_breaths_are_marks_where_they_recur(tmp_path, mark, n):
    said = ["we", "sail", "home"] * 4
    for i in range(n):
        said.insert(4 * i + 1, mark)
    rows = [(word, i, i + 1) for i, word in enumerate(said)]
    found = transcripts.read(write_textgrid(tmp_path, [("words", rows)]))
    assert len(found.words) == 12 + (n == 1)
    assert found.left_out == ({mark: n} if n > 1 else {})
