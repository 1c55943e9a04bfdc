"""What a file is: read where it can be, refused by name where it cannot."""

import json
import re

import numpy as np
import pytest

from anbn.core import paths
from anbn.text import stories, textfiles, transcripts
from anbn.text.textfiles import StimulusError

WORDS = [
    ("The", 0.5, 0.7),
    ("old", 0.7, 1.0),
    ("keeper", 1.0, 1.6),
    ("slept", 1.7, 2.2),
]
PROSE = "The old keeper slept. It was 12:30 when he woke, and {so} [on].\n"


def rows(line):
    return "".join(line.format(w, on, off, off - on) for w, on, off in WORDS)


def listed(*extra, name="word", scale=1, **more):
    return [
        {name: w, "start": on * scale, "end": off * scale, **more}
        for w, on, off in WORDS
    ]


SEGMENT = {"start": 0.5, "end": 2.2, "text": "The old keeper slept"}
OFFSETS = [
    {
        "timestamps": {"from": "00:00:00,500", "to": "00:00:00,700"},
        "offsets": {"from": round(1000 * on), "to": round(1000 * off)},
        "text": " " + w,
    }
    for w, on, off in WORDS
]
ENTRIES = [[on, off, w] for w, on, off in WORDS]
EAF = (
    '<?xml version="1.0"?><ANNOTATION_DOCUMENT><TIME_ORDER>'
    + "".join(
        f'<TIME_SLOT TIME_SLOT_ID="a{i}" TIME_VALUE="{1000 * on:.0f}"/>'
        f'<TIME_SLOT TIME_SLOT_ID="b{i}" TIME_VALUE="{1000 * off:.0f}"/>'
        for i, (_, on, off) in enumerate(WORDS)
    )
    + '</TIME_ORDER><TIER TIER_ID="words">'
    + "".join(
        f'<ALIGNABLE_ANNOTATION TIME_SLOT_REF1="a{i}" TIME_SLOT_REF2="b{i}">'
        f"<ANNOTATION_VALUE>{w}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>"
        for i, (w, _, _) in enumerate(WORDS)
    )
    + "</TIER></ANNOTATION_DOCUMENT>"
)
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
    "mfa.json": json.dumps(
        {
            "start": 0,
            "end": 3,
            "tiers": {
                "words": {"type": "interval", "entries": ENTRIES},
                "phones": {"type": "interval", "entries": [[0.5, 0.7, "DH"]]},
            },
        }
    ),
    "openai.json": json.dumps({"text": "", "segments": [SEGMENT], "words": listed()}),
    "named.json.txt": json.dumps({"words": listed()}),
    "labels.txt": rows("{1}\t{2}\t{0}\n"),
    "spectral.txt": rows("{1}\t{2}\t{0}\n\\\t10.0\t20.0\n"),
    "seconds.lab": rows("{1} {2} {0}\n"),
    "htk.lab": "".join(f"{a * 1e7:.0f} {b * 1e7:.0f} {w}\n" for w, a, b in WORDS),
    "scored.lab": "".join(
        f"{a * 1e7:.0f} {b * 1e7:.0f} {w} -12.5\n" for w, a, b in WORDS
    ),
    "xwaves.lab": "signal x\nnfields 1\n#\n0.5 121 sp\n0.7 121 The\n1.0 121 old\n"
    "1.6 121 keeper\n1.7 121 sp\n2.2 121 slept\n",
    "printed.txt": "".join(f"[{a:.2f}s -> {b:.2f}s] {w}\n" for w, a, b in WORDS),
    "elan.txt": "".join(
        f"wort\tAnn\t00:00:0{a:.3f}\t{a}\t00:00:0{b:.3f}\t{b}\t00:00:0{b - a:.3f}"
        f"\t{b - a:.3f}\t{w}\n"
        for w, a, b in WORDS
    ),
    "elan_whole.txt": rows("wort\t\t{1}\t{2}\t{0}\n").replace("1.0", "1"),
    "elan_s.tsv": rows("wort\t\t{1}\t{2}\t{0}\n"),
    "elan_duration.txt": rows("wort\t\t{1}\t{2}\t{3:.3f}\t{0}\n"),
    "elan_ms.txt": "".join(
        f"w\t\t{1e3 * a:.0f}\t{1e3 * b:.0f}\t{w}\n" for w, a, b in WORDS
    ),
    "elan_names.tsv": "Tier\tBegin Time - ss.msec\tEnd Time - ss.msec\tAnnotation\n"
    + rows("words\t{1}\t{2}\t{0}\n")
    + rows("utterance\t0.5\t2.2\tThe old keeper slept\n").split("\n")[0],
    "elan_names.txt": "Begin Time - hh:mm:ss.ms\tBegin Time - msec\t"
    "Duration - msec\twort\n"
    + "".join(
        f"00:00:0{a:.3f}\t{1e3 * a:.0f}\t{1e3 * (b - a):.0f}\t{w}\n"
        for w, a, b in WORDS
    ),
    "elan.csv": "Begin Time - hh:mm:ss.ms,End Time - hh:mm:ss.ms,wort\n"
    + rows("00:00:0{1:.3f},00:00:0{2:.3f},{0}\n"),
    "story.ctm": ";; made up\n" + rows("story 1 {1} {3:.3f} {0} 0.9\n"),
    "story.eaf": EAF,
    "named.eaf.txt": EAF,
    "table.txt": "word\tonset\toffset\n" + rows("{0}\t{1}\t{2}\n"),
    "captions.txt": "WEBVTT\n\n"
    + "".join(f"00:{a:06.3f} --> 00:{b:06.3f}\n{w}\n\n" for w, a, b in WORDS),
    "textgrid.txt": 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n3\n'
    '<exists>\n1\n"IntervalTier"\n"word"\n0\n3\n4\n' + rows('{1}\n{2}\n"{0}"\n'),
}


@pytest.mark.parametrize("name", KNOWN)
def test_four_words_in_every_format(tmp_path, name):
    path = tmp_path / name
    path.write_text(KNOWN[name], encoding="utf-8")
    words, text, synthetic, *_ = stories.read_story(path)
    assert text == "The old keeper slept" and not synthetic
    assert words["word"].tolist() == [w for w, _, _ in WORDS]
    np.testing.assert_allclose(words["onset"], [on for _, on, _ in WORDS], atol=1e-9)
    np.testing.assert_allclose(words["offset"], [off for *_, off in WORDS], atol=1e-9)
    assert words["timed"].all()


def test_segments_without_words_are_spread(tmp_path):
    path = tmp_path / "whisper.json"
    path.write_text(json.dumps({"segments": [SEGMENT | {"words": []}]}))
    found = transcripts.read(path)
    np.testing.assert_allclose(found.words["onset"], [0.5, 0.8, 1.1, 1.7])
    assert found.words["timed"].tolist() == [True, False, False, False]
    assert "those of 3 words are not measured" in found.notes[0]


def test_pieces_of_words_in_json(tmp_path):
    said = [" un", "believ", "able", " it", "'s"]
    words = [{"word": w, "start": i, "end": i + 1} for i, w in enumerate(said)]
    path = tmp_path / "whisper.json"
    path.write_text(json.dumps({"segments": [{"text": "", "words": words}]}))
    words = transcripts.read_words(path)
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
def test_tokens_of_whisper_cpp(tmp_path, is_whole):
    tokens = [
        {"text": text, "offsets": {"from": a, "to": b}, "id": 1}
        for text, (a, b) in TOKENS.items()
    ]
    if not is_whole:  # a token that holds half a character
        tokens[3]["text"] = "bo\ufffd"
    segment = {"text": " Anna harboured doubts,", "offsets": {"from": 0, "to": 2000}}
    path = tmp_path / "ojf.json"
    path.write_text(json.dumps({"transcription": [segment | {"tokens": tokens}]}))
    words = transcripts.read_words(path)
    assert stories.join_words(words) == "Anna harboured doubts,"
    if is_whole:
        assert words["onset"].tolist() == [0, 0.4, 0.9]
        assert words["offset"].tolist() == [0.4, 0.9, 1.35]
    assert words["timed"].tolist() == [True, is_whole, is_whole]


def test_json_lines_are_named(tmp_path):
    path = tmp_path / "vosk.json"
    path.write_text('{"result": []}\n{"result": []}\n')
    with pytest.raises(StimulusError, match=r"vosk.json holds JSON lines \(2 objects"):
        transcripts.read(path)


def test_gentle_in_json(tmp_path):
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
    path = tmp_path / "align.json"
    path.write_text(json.dumps({"transcript": text, "words": found}))
    words = transcripts.read_words(path)
    assert stories.join_words(words) == '"Well," the Gryphon slept. On'
    assert words["timed"].tolist() == [True, False, True, True, True]
    assert words["onset"].tolist() == [0.5, 0.8, 1.0, 1.5, 2.0]


def test_speakers_in_json(tmp_path):
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
    path = tmp_path / "whisperx.json"
    path.write_text(json.dumps({"segments": segments}))
    found = transcripts.read(path)
    assert found.words["word"].tolist() == ["who", "only", "is", "me"]
    assert found.words["speaker"].tolist() == list("ABAB")
    assert found.n_clipped == 3


SAID = ["The lamp went out.", "Who saw it go?", "Nobody did, said Ann."]
STAMPED = {  # how a transcript's lines show times, and what it is called
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
def test_times_and_markup_are_no_prose(tmp_path, name, line):
    path = tmp_path / name
    lines = [line.format(said=said, i=i) for i, said in enumerate(SAID)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(StimulusError, match=STAMPED[line]) as error:
        stories.read_story(path)
    assert str(path) in str(error.value) and "Can be read" in str(error.value)


REFUSED = {
    "story.docx": (b"PK\x03\x04", "a Word document: save it as plain text"),
    "story.xml": (b"<a/>", "is XML"),
    "story.trs": (b"<a/>", "Transcriber"),
    "story.xyz": (b"The old", r"not known \('.xyz'\)"),
    "story": (b"The old", r"not known \('no'\)"),
    "zip.txt": (b"PK\x03\x04", "a zip archive"),
    "pdf.txt": (b"%PDF-1.4", "a PDF"),
    "rtf.txt": (b"{\\rtf1 The old", "rich text"),
    "._story.txt": (b"\x00\x05\x16\x07\x00", "without `._`"),
    "binary.TextGrid": (b"ooBinaryFile\x08TextGrid", "Praat's binary format"),
    "wide.txt": (PROSE.encode("utf-16-le"), "NUL bytes: it is UTF-16 without"),
    "wide.tsv": ("word\tonset".encode("utf-16-be"), "NUL bytes: it is UTF-16 without"),
    "wider.txt": (PROSE.encode("utf-32"), "NUL characters"),
    "annex.txt": (b"/annex/objects/MD5E-s12--ab.txt\n", "a pointer of git-annex"),
    "link.tsv": (b"../../.git/annex/objects/Qx/MD5E-s1--a.tsv", "git-annex or Git LFS"),
    "lfs.json": (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "unknown.json": (
        b'{"a": 1, "b": []}',
        "structure not known: an object with 'a', 'b'",
    ),
    "list.json": (b'[{"id": 3}]', "a list of 1, the first an object with 'id'"),
    "cut.json": (b'{"words": [{"word"', "cannot be read as JSON.*whole"),
    "json.txt": (b'{"a": 1}', "structure not known"),
    "cut.txt": (b'{"words": [{"word"', "looks like JSON that is cut off"),
    "lines.txt": (b'{"text": "a"}\n{"text": "b"}\n', "looks like JSON lines"),
    "xml.txt": (b'<?xml version="1.0"?>\n<a>The</a>', "markup"),
    "html.md": (b"<html><body>The old</body></html>", "markup"),
    "tags.txt": (b"<p>The old</p>\n<p>keeper</p>\n", "markup"),
    "named.txt": (b"The 0.5 0.7\nold 0.7 1.0\n", "a table of times without names"),
    "comma.txt": (b"The,0.5,0.7\nold,0.7,1.0\n", "a table of times without names"),
    "clocks.txt": (b"0:01\nThe old\n0:05\nkeeper\n", "text with time stamps"),
    "lyrics.txt": (b"[00:12.00]The\n[00:15.30]old\n", "text with time stamps"),
    "praat.txt": (
        b'File type = "ooTextFile"\nObject class = "PitchTier"\n',
        "a Praat object that is no TextGrid",
    ),
    "said.lab": (b"the old keeper\n", "line 1: expected a start, an end and a word"),
    "two.ctm": (b"a 1 0 1 The\nb 1 0 1 old\n", "holds 2 recordings"),
    "bad.ctm": (b"a 1 0 x The\n", "line 1: expected recording, channel, start"),
    "bad.eaf": (b"<ANNOTATION_DOCUMENT><TIER>", "is no whole XML"),
    "none.eaf": (b"<ANNOTATION_DOCUMENT/>", "found 0 tiers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_by_name(tmp_path, name):
    raw, expected = REFUSED[name]
    path = tmp_path / name
    path.write_bytes(raw)
    with pytest.raises(StimulusError, match=expected) as error:
        stories.read_story(path, rng=np.random.default_rng(0))
    assert str(path) in str(error.value)


def test_a_link_without_its_content(tmp_path):
    path = tmp_path / "story.txt"
    path.symlink_to(".git/annex/objects/x/y")
    with pytest.raises(StimulusError, match=r"annex/objects/x/y.*datalad get"):
        stories.read_prose(path)
    with pytest.raises(FileNotFoundError, match=r"annex/objects/x/y.*datalad get"):
        paths.resolve(str(path))
    with pytest.raises(StimulusError, match="is a folder"):
        textfiles.decode(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
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
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.MD"])
def test_prose_is_prose(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    words, read, synthetic, *_ = stories.read_story(path, rng=np.random.default_rng(0))
    assert synthetic
    if name == "a.MD":
        text = re.sub(r"^# |[*`]|</?b>", "", text)
    assert read == " ".join(text.split())
    assert " ".join(words["word"]) == read


def test_a_corpus_is_prose_too(tmp_path):
    path = tmp_path / "c.txt"
    path.write_text('{"words": []}')
    with pytest.raises(StimulusError, match="expected prose, found json"):
        stories.read_corpus(path)
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "a"}')
    with pytest.raises(StimulusError, match="JSON lines"):
        stories.read_corpus(path)


def test_plain_text_is_no_transcript(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(PROSE)
    with pytest.raises(StimulusError, match="plain text: expected a transcript"):
        transcripts.read_words(path)
