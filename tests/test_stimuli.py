import numpy as np
import pandas as pd
import pytest

from anbn import stimuli, transcripts


@pytest.mark.parametrize("missing", ["interpolate", "drop"])
def test_transcript(tmp_path, missing):
    path = tmp_path / "story.csv"
    path.write_text("word,onset,offset\nIt,0.5,1\n's,,\nlate,1.2,2\nnow,3,4\n")
    words, text, synthetic = stimuli.load_story(path, n_words=3, missing=missing)
    assert words["timed"].tolist() == [True, False, True]
    assert words["onset"].isna().any() == (missing == "drop")
    assert text == "It's late"
    assert [text[s:e] for s, e in zip(words["start"], words["end"], strict=True)] == (
        words["word"].tolist()
    )
    assert not synthetic


@pytest.mark.parametrize("name", ["story.txt", "story.tsv", "story.srt"])
def test_empty_and_non_utf8_transcripts(tmp_path, name, rng):
    path = tmp_path / name
    path.write_bytes(b"  \n")
    with pytest.raises(stimuli.StimulusError, match="is empty"):
        stimuli.load_story(path, rng=rng)
    path.write_bytes("word\tonset\toffset\ncaf\u00e9\t0\t1".encode("latin-1"))
    with pytest.raises(stimuli.StimulusError, match="not UTF-8: byte 21 is 0xe9"):
        stimuli.load_story(path, rng=rng)


def test_gutenberg_and_start(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text(
        "Licence\n*** START OF X ***\nTitle\n\nOnce, there\n*** END OF X ***"
    )
    assert stimuli.read_text(path) == "Title\n\nOnce, there"
    assert stimuli.read_text(path, start_at="Once") == "Once, there"
    path.write_text("*** START OF X ***\n\n*** END OF X ***")
    with pytest.raises(stimuli.StimulusError, match="is empty"):
        stimuli.read_text(path)
    path.write_text("Once, there")
    with pytest.raises(stimuli.StimulusError, match="does not hold 'Twice'"):
        stimuli.read_text(path, start_at="Twice")


def test_synthetic_timing_is_ordered_seeded_and_pauses(tmp_path):
    path = tmp_path / "story.txt"
    path.write_text("One two, three.  Four extraordinary\nwords! And so on. " * 50)
    words, text, synthetic = stimuli.load_story(path, rng=np.random.default_rng(3))
    again, _, _ = stimuli.load_story(path, rng=np.random.default_rng(3))
    assert synthetic
    assert "timed" not in words  # no time is measured
    pd.testing.assert_frame_equal(words, again)
    transcripts.check_words(words, "here")
    assert [text[s:e] for s, e in zip(words["start"], words["end"], strict=True)] == (
        words["word"].tolist()
    )
    gap = (words["onset"].shift(-1) - words["offset"]).iloc[:-1]
    stops = words["word"].str.endswith((".", "!")).iloc[:-1]
    assert gap[stops].mean() > 0.4 > gap[~stops].mean()
    length = words["offset"] - words["onset"]
    long = words["word"] == "extraordinary"
    assert length[long].mean() > 3 * length[words["word"] == "so"].mean()
    assert (
        len(stimuli.load_story(path, n_words=7, rng=np.random.default_rng(0))[0]) == 7
    )


def test_story_onset(tmp_path):
    path = tmp_path / "sub-01_events.tsv"
    rows = ["onset\tduration\ttrial_type\tstim_file", "0.0\t9\tmusic\tstimuli/a_b.wav"]
    rows += ["4.5\t9\tstory\tstimuli/b.wav", "29.5\t9\tstory\tstimuli/b.wav"]
    path.write_text("\n".join([*rows, "n/a\t9\tstory\tc.wav"]))
    assert stimuli.story_onset(path, "/somewhere/else/b.wav") == 4.5
    assert stimuli.story_onset(path, "a_b.wav") == 0.0
    with pytest.raises(
        stimuli.StimulusError, match=r"row of d\.wav; .*files a_b.wav, b.wav, c.wav"
    ):
        stimuli.story_onset(path, "d.wav")
    with pytest.raises(
        stimuli.StimulusError, match=r"first row of c\.wav, found 'n/a'"
    ):
        stimuli.story_onset(path, "c.wav")
    path.write_text("stim_file\tduration\na.wav\t1\n")
    with pytest.raises(stimuli.StimulusError, match="expected the column onset"):
        stimuli.story_onset(path, "a.wav")


@pytest.mark.parametrize(
    "run, audio, onset",
    [
        ("sub-001_task-pieman_run-1", "pieman_audio.wav", 0.0),
        ("sub-016_task-slumlordreach", "slumlordreach_audio.wav", 4.5),
        ("sub-127_task-black", "black_audio.wav", 12.0),
    ],
)
def test_story_onset_of_narratives(alice_data, run, audio, onset):
    events = alice_data / "ds002345_bids_text" / f"{run}_events.tsv"
    assert stimuli.story_onset(events, audio) == onset


def test_corpus_documents(tmp_path):
    path = tmp_path / "c.txt"
    body = "word " * 50
    path.write_text(f"<doc id=1>\n{body}one\n</doc>\n<doc id=2>\n{body}two\n</doc>")
    documents = stimuli.read_corpus(path)
    assert [d.split()[-1] for d in documents] == ["one", "two"]
    path.write_text(f"{body}\n\nshort\n\n{body}\n\ntail")
    assert [len(d.split()) for d in stimuli.read_corpus(path)] == [50, 51, 1]
    path.write_text(f"{body}\n\nmore\n<|endoftext|>\n{body}\n<|endoftext|>")
    assert [len(d.split()) for d in stimuli.read_corpus(path)] == [51, 50]
    path.write_text(f"{body}\nshort\n{body}\n")
    assert [len(d.split()) for d in stimuli.read_corpus(path)] == [50, 51]


def test_shared_sentences():
    ours = "The cat sat on the old mat. Yes. A dog ran far away from here!"
    theirs = ["Nothing here.", "the  CAT sat on the old mat! yes."]
    assert stimuli.shared_sentences(ours, theirs) == ["The cat sat on the old mat."]
    assert stimuli.shared_sentences(ours, ["yes."]) == []
