"""What cannot be read is refused: file, what was found, what was expected, what to do.

A row is a file's name, what it holds and words of the error, in their order.
"""

import json

import pytest
from spoken import captions, table, textgrid, timed

from anbn.core import paths
from anbn.text import stories, textfiles, transcripts
from anbn.text.textfiles import StimulusError

PROSE = "The old keeper slept. It was 12:30 when he woke, and {so} [on].\n"
FILES = [
    # by name, or by the first bytes
    ("story.docx", b"PK\x03\x04", "a Word", "save it as plain text", "Can be read"),
    ("words.xlsx", "a", "an Excel", "save it as .csv"),
    ("story.xml", "<a/>", "is XML"),
    ("story.trs", "<a/>", "Transcriber"),
    ("c.jsonl", '{"text": "a"}', "JSON lines"),
    ("story.xyz", "The old", "not known ('.xyz')"),
    ("story", "The old", "not known ('no')"),
    ("zip.txt", b"PK\x03\x04", "a zip archive"),
    ("pdf.txt", b"%PDF-1.4", "a PDF"),
    ("rtf.txt", b"{\\rtf1 The old", "rich text"),
    ("sound.txt", b"RIFF\x01", "a sound, not its transcript"),
    ("._story.txt", b"\x00\x05\x16\x07\x00", "without `._`"),
    ("binary.TextGrid", b"ooBinaryFile\x08TextGrid", "Praat's binary format"),
    ("annex.txt", "/annex/objects/MD5E-s12--ab.txt\n", "a pointer of git-annex"),
    ("link.tsv", "../../.git/annex/objects/Qx/MD5E-s1--a.tsv", "git-annex or Git LFS"),
    ("lfs.json", "version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    # encodings
    *((f"a.{end}", b"  \n", "is empty") for end in ("txt", "tsv", "srt")),
    ("latin.tsv", "word\tcaf\u00e9".encode("latin-1"), "not UTF-8: byte 8 is 0xe9"),
    ("cut.txt", "caf\u00e9".encode("utf-16")[:-1], "not UTF-16: byte"),
    ("wide.txt", PROSE.encode("utf-16-le"), "NUL bytes: it is UTF-16 without"),
    ("wide.tsv", "word\tonset".encode("utf-16-be"), "NUL bytes: it is UTF-16 without"),
    ("wider.txt", PROSE.encode("utf-32"), "NUL characters"),
    ("lost.txt", "The sa\ufffdl went.\n", "U+FFFD", "in 1 words, such as 'sa\ufffdl'"),
    ("lost.tsv", table([("sa\ufffdl", 0, 1)]), "U+FFFD", "in 1 words, such as 'sa"),
    # JSON
    ("a.json", '{"a": 1, "b": []}', "structure not known: an object with 'a', 'b'"),
    ("list.json", '[{"id": 3}]', "a list of 1, the first an object with 'id'"),
    ("cut.json", '{"words": [{"word"', "cannot be read as JSON", "whole"),
    ("vosk.json", '{"result": []}\n{"result": []}\n', "line 2", "JSON lines"),
    ("json.txt", '{"a": 1}', "structure not known"),
    ("cut.txt", '{"words": [{"word"', "looks like JSON that is cut off"),
    ("lines.txt", '{"text": "a"}\n{"text": "b"}\n', "looks like JSON lines"),
    ("mfa.json", json.dumps({"tiers": {"w": {"entries": [[0, "a"]]}}}), "'w', found"),
    # no prose
    ("xml.txt", '<?xml version="1.0"?>\n<a>The</a>', "markup"),
    ("html.md", "<html><body>The old</body></html>", "markup"),
    ("tags.txt", "<p>The old</p>\n<p>keeper</p>\n", "markup"),
    ("named.txt", "The 0.5 0.7\nold 0.7 1.0\n", "a table of times without names"),
    ("comma.txt", "The,0.5,0.7\nold,0.7,1.0\n", "a table of times without names"),
    ("clocks.txt", "0:01\nThe old\n0:05\nkeeper\n", "text with time stamps"),
    ("lyrics.txt", "[00:12.00]The\n[00:15.30]old\n", "text with time stamps"),
    ("latex.txt", "\\begin{document}\nThe old\nkeeper.\nSo.\nOn.\n", "LaTeX"),
    ("base64.txt", "QUJD" * 40, "encoded data"),
    ("licence.txt", "*** START OF X ***\n\n*** END OF X ***", "is empty"),
    # other formats
    ("praat.txt", 'File type = "ooTextFile"\n"PitchTier"\n', "no TextGrid"),
    ("said.lab", "the old keeper\n", "line 1: expected a start, an end and a word"),
    ("two.ctm", "a 1 0 1 The\nb 1 0 1 old\n", "holds 2 recordings"),
    ("bad.ctm", "a 1 0 x The\n", "line 1: expected recording, channel, start"),
    ("bad.eaf", "<ANNOTATION_DOCUMENT><TIER>", "is no whole XML"),
    ("none.eaf", "<ANNOTATION_DOCUMENT/>", "found 0 tiers"),
    ("doc.eaf", "<!DOCTYPE a>", "no DOCTYPE"),
    ("a.ass", "[Script Info]\nDialogue: 0,soon,0:00:02.20,,,,,,,Oh", "line 2", "times"),
    ("elan.tsv", "Begin Time - msec\tw\n1\ta\n", "End Time or Duration", "Export it"),
    ("elan.txt", "w\t\t1.5\t1.0\tThe\nw\t\t2.5\t2.0\told\n", "tier, participant"),
    ("elan.txt", "w\t\t1.5\t1.0\tThe\nw\t\t2.5\t3\t3\told\n", "expected 6 cells"),
    # names of columns
    ("a.tsv", "w\ttt\na\t1\n", "expected the columns word", "['w', 'tt']"),
    ("a.tsv", "word\tduration\na\t1\n", "expected the columns word"),
    ("a.csv", "word,start,x,y\na,1,2,3\n", "the columns word, onset and offset"),
    ("a.csv", "The,0.5,0.7,x\na,1,2,3\n", "the columns word, onset and offset"),
    (
        "a.csv",
        "text,token,start,end\na,1,2,3\n",
        "'text', 'token' can each be the word",
    ),
    ("a.csv", "word,start,begin,end\na,1,2,3\n", "'begin' can each be the onset"),
    (
        "a.tsv",
        "word\tonset\toffset\na\t1\t2\n\nb\t3\n",
        "line 4",
        "3 columns",
        "found 2",
    ),
    ("a.tsv", 'word\tonset\toffset\n"a\t1\n', "line 2: expected 3 columns"),
    # units
    ("a.csv", "word,start_samples,end_samples\na,1,2\n", "are in samples. Convert"),
    ("a.csv", "word,start_frame,end_frame\na,1,2\n", "are in frame. Convert"),
    ("a.csv", "word,onset,duration_frames\na,.5,8\n", "'duration_frames'", "in frames"),
    ("a.csv", "word,onset_s,offset\na,.5,700\nb,.7,1000\n", "lasts 849.4 s in the"),
    ("a.csv", "word,onset_ms,offset_ms\na,.5,.7\nb,.7,1\n", "lasts 0.00025 s"),
    ("a.csv", "word,onset,duration_ms\na,100500,200\nb,200700,3\n", "'onset' does not"),
    (
        "a.csv",
        "word,start,end\na,00:00:01:12,00:00:03:00\n",
        "'start' holds time codes",
    ),
    (
        "a.csv",
        "word,start,end\na,00;00;01;12,00;00;03;00\n",
        "'start' holds time codes",
    ),
    # times
    ("a.tsv", table([]), "holds no words"),
    (
        "a.tsv",
        table([("a", 1, 1.1), ("b", 0.5, 1)]),
        "the word before",
        "'b'",
        "Correct",
    ),
    ("a.tsv", table([("a", 1, 2), ("b", "", ""), ("c", 0, 1)]), "before", "at word 3"),
    ("a.tsv", table([("a", -1, 0)]), "onset is negative, at word 1 of 1, 'a'"),
    ("a.tsv", table([("a", 1, 0.5)]), "offset lies before the onset"),
    ("a.tsv", table([("a", "soon", 0.5)]), "onset is not a number"),
    ("a.tsv", table([("a", "nan", "nan")]), "onset is not a number"),
    ("a.tsv", table([("a", 0, "inf")]), "offset is not a number"),
    ("a.tsv", table([("a", "", 0.5)]), "onset is not a number"),
    ("a.tsv", table([("a", 0.5, "n/a")]), "offset is not a number"),
    (
        "a.tsv",
        table([("a", "", "n/a"), ("b", "", "")]),
        "none of its 2 words has a time",
    ),
    ("a.tsv", table([("a", 0, 2e6)]), "in seconds a word lasts", "milliseconds"),
    *(
        ("events.tsv", table([row], "onset duration word"), *expected)
        for row, *expected in (
            (("n/a", 0.5, "a"), "onset is not a number"),
            ((0.5, "n/a", "a"), "offset is not a number"),
            (("soon", 0.5, "a"), "onset is not a number"),
            ((0.5, "long", "a"), "offset is not a number, at word 1", "(0.5 to long"),
            ((0.5, -1, "a"), "offset lies before the onset"),
        )
    ),
    # a clock of its own for each section
    (
        *(
            "a.tsv",
            table([(w, i % 3 + 0.5, i % 3 + 1) for i, w in enumerate("abcdefg")]),
        ),
        *(
            "anew at word 4 (2.5 s, then 0.5 s), 7 (2.5 s, then 0.5 s)",
            "add to the times",
        ),
    ),
    # captions
    ("a.srt", captions([("[MUSIC]", 0, 1), ("♪♪", 1, 2)]), "holds no words"),
    ("a.vtt", "WEBVTT\n", "holds no words"),
    ("a.srt", captions([("a", 1, 2), ("b", 0.5, 3)]), "word before, at word 2"),
    ("a.srt", captions([("a", 2, 1)]), "offset lies before the onset in the caption"),
    *(
        (f"a.{end}", f"\n1\n{times}\nHi\n", f"a.{end}, line 3: expected two times")
        for end in ("srt", "vtt")
        for times in (
            *("00:00:01,000 --> 00:00:0x,000", "00:00:01,000 --> 00:00:02,0o0"),
            *("00:00:01,000 --> ", "1 --> 2", "soon --> later", "-->"),
        )
    ),
    # TextGrids
    ("a.TextGrid", "word onset", "found 0 interval tiers"),
    ("a.TextGrid", textgrid([]), "found 0 interval tiers", "points, clicks, hold no"),
    ("a.TextGrid", textgrid([("w", [])], n_tiers=3), "found 1 interval", "2 of [3"),
    *(
        (
            *(
                "a.TextGrid",
                textgrid([("w", timed("ab"))], sizes={"w": 9}, short=short),
            ),
            *("found 2 of 9 intervals in the tier 'w'", "Is the file whole"),
        )
        for short in (False, True)
    ),
]


@pytest.mark.parametrize(
    ("name", "content", "expected"), [(*f[:2], f[2:]) for f in FILES]
)
def test_a_clear_error(write, name, content, expected):
    path = write(content, name)
    with pytest.raises(StimulusError) as error:
        stories.read_story(path)
    said, at = str(error.value), 0
    assert str(path) in said
    for words in expected:
        at = said.find(words, at)
        assert at >= 0, said


SCALES = {16000: "samples", 100: "frames of 10 ms", 25: "of a film", 1 / 60: "minutes"}


@pytest.mark.parametrize("scale", SCALES)
def test_other_units_are_refused(read, scale):
    times = [0.5, 0.7, 1.0, 1.6, 2.2, 2.5]
    digits = 0 if scale > 1 else 6
    times = [f"{scale * time:.{digits}f}" for time in times]
    rows = zip("abcde", times[:-1], times[1:], strict=True)
    with pytest.raises(
        StimulusError, match=r"of 'a'\): are they milliseconds, samples"
    ):
        read(table(rows))


SAID = ["The lamp went out.", "Who saw it go?", "Nobody did, said Ann."]
STAMPED = {  # how lines are that are no prose, and what they are called
    "{said} #00:0{i}:03-1#": "text with time stamps",
    "{said} [00:0{i}]": "text with time stamps",
    "[00:0{i}:12] {said}": "text with time stamps",
    "Ann: [00:0{i}:12] {said}": "text with time stamps",
    "[00:0{i}] The lamp [00:0{i}] went out.": "text with time stamps",
    "Ann  0:0{i}\n{said}\n": "text with time stamps",
    "Speaker 1: (00:0{i})\n{said}\n": "text with time stamps",
    "Ann (00:0{i}): {said}": "text with time stamps",
    ">> Ann [0:0{i}]: {said}": "text with time stamps",
    "<00:0{i}> {said}": "text with time stamps",
    "[Ann] 15:0{i}:11\n{said}\n": "text with time stamps",
    "15:0{i}:11 From Ann : {said}": "with time",
    "00:{i}3 {said}": "with time",
    "00:00:0{i}:12 - 00:00:0{i}:20\nSpeaker 1\n{said}\n": "that count frames",
    "00;00;0{i};12 - 00;00;0{i};20\n{said}\n": "that count frames",
    "0{i}:0x:03 --> 0{i}:04:x3\n{said}\n": "captions with damaged times",
    "{{2{i}}}{{3{i}}}{said}": "MicroDVD captions",
    "{i}.5-{i}.9: said": "words with their times",
    "said [{i}.5-{i}.9]": "words with their times",
    "{i}.5 said": "a table of two columns without names",
    "said\t{i}": "a table of two columns without names",
    "- word: said\n  onset: {i}.5\n  offset: {i}.7": "YAML",
    "| said | {i}.5 | {i}.7 |": "a Markdown table",
    "{i}\tsaid\tsay\tVERB\tVBD\t_\t0\troot\t_\t_": "CoNLL",
    "*PAR:\t{said} \x15{i}00_{i}50\x15": "CHAT",
    "\\section{{One}} {said}": "LaTeX",
    "The/DT lamp/NN went/VBD out/RP ./.": "words with tags",
}


@pytest.mark.parametrize("line", STAMPED)
@pytest.mark.parametrize("name", ["a.txt", "a.md"])
def test_times_and_markup_are_no_prose(write, name, line):
    lines = [line.format(said=said, i=i) for i, said in enumerate(SAID)]
    path = write("\n".join(lines) + "\n", name)
    with pytest.raises(StimulusError, match=STAMPED[line]) as error:
        stories.read_story(path)
    assert str(path) in str(error.value) and "Can be read" in str(error.value)


def test_what_is_not_there_and_what_is_no_file(tmp_path):
    path = tmp_path / "story.txt"
    with pytest.raises(FileNotFoundError, match=r"story.txt is not there"):
        stories.read_story(path)
    path.symlink_to(".git/annex/objects/x/y")
    with pytest.raises(StimulusError, match=r"annex/objects/x/y.*datalad get"):
        stories.read_prose(path)
    with pytest.raises(FileNotFoundError, match=r"annex/objects/x/y.*datalad get"):
        paths.resolve(str(path))
    with pytest.raises(StimulusError, match="is a folder"):
        textfiles.decode(tmp_path)


def test_what_was_asked_for_and_cannot_be(write):
    path = write(PROSE, "a.txt")
    with pytest.raises(StimulusError, match=r"a.txt: expected n_words .* found -5"):
        stories.read_story(path, n_words=-5)
    with pytest.raises(StimulusError, match="plain text: expected a transcript"):
        transcripts.read(path)
    with pytest.raises(ValueError, match=r"interpolate or drop.*'skip'"):
        transcripts.read(path, missing="skip")
    for story in (path, write(table(timed("ab")))):
        with pytest.raises(StimulusError, match="does not hold 'Once'"):
            stories.read_story(story, start_at="Once")
    with pytest.raises(StimulusError, match="expected prose, found json"):
        stories.read_corpus(write('{"words": []}', "c.txt"))
