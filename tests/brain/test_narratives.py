"""Fetching from a server in this process, and the timing rules of each story."""

import json
import os
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from serving import serving

from anbn.brain import narratives, sources
from anbn.brain.bids import BidsError
from anbn.brain.narratives import (
    STORIES,
    NarrativesError,
    events_of,
    fetch,
    find_runs,
    hears,
    listeners,
    load_words,
    scan_window,
)
from anbn.brain.openneuro import OpenNeuroError
from anbn.core import params
from anbn.core.paths import resolve
from anbn.study import data, fingerprints
from anbn.text.transcripts import read_words

HEADER = "onset\tduration\ttrial_type\tstim_file\n"
EVENTS = {
    "pieman": "0.0\t13.0\tmusic\tpieman\n15.0\t422.0\tstory\tpieman\n",
    "piemanpni": "12.0\t400.0\tstory\tpiemanpni\n",
    "bronx": "12.0\t536.0\tstory\tbronx\n",
    "tunnel": "3.0\t1534.0\tstory\ttunnel\n",
    "milkyway": "0.0\t18.0\tmusic\tmilkyway{0}\n21.0\t404.0\tstory\tmilkyway{0}\n",
    "prettymouth": "0.0\t18.0\tmusic\tprettymouth\n21.0\t676.0\tstory\tprettymouth\n",
    "merlin": "4.5\t25.0\tmusic\tmerlin\n33.5\t886.0\tstory\tmerlin\n",
    "notthefallintact": "4.5\t22.0\tmusic\tnotthefallintact\n"
    "29.5\t547.0\tstory\tnotthefallintact\n",
    "notthefalllongscram": "29.5\t547.0\tstory\tnotthefalllongscram\n",
    "slumlordreach": "4.5\t22.0\tmusic\tslumlordreach\n"
    "29.5\t903.0\tstory\tslumlordreach\n944.5\t22.0\tmusic\tslumlordreach\n"
    "969.5\t825.0\tstory\tslumlordreach\n",
    "schema": "10\t5\tmovie\tn/a\n100.0\t180.0\tstory\tshame\n300\t170\tstory\tvinny\n",
}
PEOPLE = {  # subject: tasks, conditions; a task once where it was repeated
    "sub-001": ("pieman,tunnel", "n/a,n/a"),
    "sub-002": ("pieman", "n/a"),
    "sub-013": ("pieman", "n/a"),
    "sub-021": ("pieman,piemanpni", "n/a,n/a"),
    "sub-023": ("milkyway", "vodka"),
    "sub-034": ("milkyway,notthefalllongscram", "original,intact-longscram"),
    "sub-075": ("schema", "n/a"),
}
EXCLUDED = {
    "pieman": {
        "sub-001": ["sub-001_task-pieman_run-1", "sub-001_task-pieman_run-2"],
        "sub-013": ["sub-013_task-pieman_run-2"],
        "sub-021": ["sub-021_task-pieman"],
    },
    "tunnel": {},
}
BOLD = "derivatives/afni-smooth/{0}/func/{1}_space-MNI152NLin2009cAsym_res-native_desc-clean_bold.nii.gz"  # noqa: E501


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def write_events(folder, subject, task, version="", run=""):
    rows = EVENTS[task].format(version)
    rows = re.sub(r"(\w)$", r"\1_audio.wav", rows, flags=re.MULTILINE)
    rows = rows.replace("n/a_audio.wav", "n/a")
    name = f"{subject}/func/{subject}_task-{task}{run}_events.tsv"
    return write(folder, name, HEADER + rows)


def write_words(folder, sound, times):
    rows = [f"w{i},w{i},{a},{b}\n" for i, (a, b) in enumerate(times)]
    return write(folder, f"stimuli/gentle/{sound}/align.csv", "".join(rows))


def spoken(*onsets, length=0.2):
    return [(t, round(t + length, 3)) if t != "" else ("", "") for t in onsets]


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    """A small data set as upstream has it, under the path of a bucket."""
    root = tmp_path_factory.mktemp("server")
    folder = root / "openneuro.org" / "ds002345"
    rng = np.random.default_rng(0)
    write(folder, "dataset_description.json", '{"Name": "Narratives"}')
    write(folder, "code/scan_exclude.json", json.dumps(EXCLUDED))
    table = ["participant_id\tage\tsex\ttask\tcondition\tcomprehension"]
    for subject, (tasks, conditions) in PEOPLE.items():
        table.append(f"{subject}\t20\tF\t{tasks}\t{conditions}\tn/a")
        for task, version in zip(tasks.split(","), conditions.split(","), strict=True):
            twice = task == "pieman" and subject in ("sub-001", "sub-013")
            for run in ("_run-1", "_run-2") if twice else ("",):
                write_events(folder, subject, task, version, run)
                stem = f"{subject}_task-{task}{run}"
                path = folder / BOLD.format(subject, stem)
                path.parent.mkdir(parents=True, exist_ok=True)
                data = rng.standard_normal((8, 8, 8, 50)).astype(np.float32)
                image = nibabel.Nifti1Image(data, np.eye(4))
                image.header.set_zooms((1, 1, 1, 1.5))
                nibabel.save(image, path)
    write(folder, "participants.tsv", "\n".join(table) + "\n")
    for sound in ("pieman", "piemanpni", "tunnel", "shame", "vinny"):
        write_words(folder, sound, spoken(15.5, 16, 17))
    for version in ("original", "vodka"):
        write_words(folder, f"milkyway{version}", spoken(21.5, 22))
    return root


@pytest.fixture
def server(upstream, prompt, monkeypatch):
    with serving(upstream) as server:
        server.url = f"{server.host}/openneuro.org/ds002345"
        excluded = f"{server.url}/{narratives.SCAN_EXCLUDE}"
        monkeypatch.setattr(narratives, "EXCLUDED", excluded)
        monkeypatch.setattr(narratives, "URL", [server.url])
        yield server


# --- fetching the data set


def test_fetch_lays_out_as_upstream(server, upstream, tmp_path, capfd):
    bold = fetch(tmp_path, "piemanpni", subjects=["sub-002", 21])
    assert "sub-002 did not hear piemanpni: left out" in capfd.readouterr().out
    bold += fetch(tmp_path, "pieman", subjects=["sub-002", 21])
    files = sorted(
        p.relative_to(tmp_path).as_posix()
        for p in tmp_path.rglob("*")
        if p.is_file() and p.suffix != ".sha256"
    )
    made = ["words/pieman.tsv", "words/piemanpni.tsv"]
    fetched = [
        "dataset_description.json",
        "participants.tsv",
        "code/scan_exclude.json",
        "sub-002/func/sub-002_task-pieman_events.tsv",
        "sub-021/func/sub-021_task-piemanpni_events.tsv",
        "stimuli/gentle/pieman/align.csv",
        "stimuli/gentle/piemanpni/align.csv",
        BOLD.format("sub-021", "sub-021_task-piemanpni"),
        BOLD.format("sub-002", "sub-002_task-pieman"),
    ]
    assert files == sorted(made + fetched)
    origin = upstream / "openneuro.org" / "ds002345"
    for name in fetched:
        assert (tmp_path / name).read_bytes() == (origin / name).read_bytes()
    assert bold == [tmp_path / name for name in fetched[-2:]]
    out, err = capfd.readouterr()
    # pieman of sub-021 is left out, piemanpni of sub-021 is not
    assert "sub-021_task-pieman: left out, as code/scan_exclude.json says" in out
    assert "narratives: 100%" in err
    server.seen.clear()
    assert fetch(tmp_path, "pieman", subjects=["002", 21]) == bold[1:]
    assert not server.seen


def test_data_of_a_study(server, tmp_path, monkeypatch, capsys):
    """As `make data STUDY=narratives_bert SUBJECTS="sub-002"`, from a local server."""
    monkeypatch.setenv("ANBN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"nothing at .*make data STUDY="):
        resolve("narratives:words/pieman.tsv")
    data.main(["narratives_bert", "--subjects", "sub-002"])
    printed = capsys.readouterr().out
    values = params.read("narratives_bert", "01_activation_recording")
    cut_start = params.read("narratives_bert", "02_fbn_extraction")["cut_start"]
    assert (cut_start, values["n_volumes"]) == scan_window("pieman")
    assert values["first_volume"] == 1.5 * cut_start
    assert "pieman: cut_start 10, first_volume 15 s, n_volumes 281" in printed
    words = resolve("narratives:words/pieman.tsv")
    assert resolve("openneuro:ds002345/words/pieman.tsv") == words
    assert str(words) in printed
    assert read_words(words)["onset"].tolist() == [15.5, 16, 17]
    values = params.read("narratives_bert", "02_fbn_extraction")
    specs = fingerprints.data_specs(values)
    volumes = [s for s in specs if s.endswith("_bold.nii.gz")]
    assert len(volumes) == 1 and "sub-002_task-pieman" in volumes[0]
    assert values["bids_folder"] not in specs  # other subjects do not count
    entities = {k: values[k] for k in ("task", "space", "desc")}
    for folder in (values["bids_folder"], "openneuro:ds002345/derivatives/afni-smooth"):
        (run,) = sources.runs_of_bids(folder, **entities)
        assert run.tr == 1.5  # as of Narratives, by either name


def test_repeated_scans_have_a_run(server, tmp_path, capsys):
    bold = fetch(tmp_path, "pieman", subjects=["sub-013"])
    assert [p.name.split("_space")[0] for p in bold] == ["sub-013_task-pieman_run-1"]
    assert "sub-013_task-pieman_run-2: left out" in capsys.readouterr().out
    for excluded in ("sub-001", "sub-021"):
        with pytest.raises(NarrativesError, match="every scan asked for is left out"):
            fetch(tmp_path, "pieman", subjects=[excluded])
        assert not any(excluded in path.name for path in tmp_path.rglob("*"))


def test_a_story_of_versions(server, tmp_path, capsys):
    bold = fetch(tmp_path, "milkywayvodka", subjects=[23, 34])
    assert [p.name.split("_space")[0] for p in bold] == ["sub-023_task-milkyway"]
    assert "sub-034 did not hear milkywayvodka" in capsys.readouterr().out
    fetch(tmp_path, "milkyway", subjects=[34])
    runs = find_runs(tmp_path, story="milkywayvodka")
    assert [run.subject for run in runs] == ["sub-023"]
    assert len(find_runs(tmp_path, story="milkyway")) == 2
    with pytest.raises(NarrativesError, match="no run of milkywaysynonyms is left"):
        find_runs(tmp_path, story="milkywaysynonyms")


def test_stories_without_times_and_of_several_sounds(server, tmp_path, capsys):
    fetch(tmp_path, "notthefalllongscram", subjects=[34])
    assert "notthefalllongscram: the times of its words" in capsys.readouterr().out
    fetch(tmp_path, "shame", subjects=[75])
    gentle = tmp_path / "stimuli" / "gentle"
    assert sorted(p.name for p in gentle.iterdir()) == ["shame", "vinny"]
    words = load_words(tmp_path, "shame", 75)
    np.testing.assert_allclose(words["onset"], [115.5, 116, 117])
    assert [p.name for p in (tmp_path / "words").iterdir()] == ["shame.tsv"]


def test_fmriprep_comes_with_confounds(server, upstream, tmp_path):
    folder = upstream / "openneuro.org/ds002345/derivatives/fmriprep/sub-002/func"
    stem = "sub-002_task-pieman"
    write(folder, f"{stem}_desc-confounds_regressors.tsv", "rot_x\n0\n")
    image = f"{stem}_space-MNI152NLin2009cAsym_res-native_desc-preproc_bold.nii.gz"
    write(folder, image, "not looked at")
    write(folder, image.replace("native", "2"), "not looked at")
    fetch(tmp_path, "pieman", subjects=[2], derivative="fmriprep")
    run = find_runs(tmp_path, story="pieman", derivative="fmriprep")[0]
    assert run.bold.name == image
    assert run.confounds.name == f"{stem}_desc-confounds_regressors.tsv"


def test_the_next_server_is_asked(server, upstream, tmp_path, monkeypatch):
    other = upstream / "mirror"
    write(other, "a/stimuli/gentle/pieman/align.csv", "w,w,16,17\n")
    gentle = upstream / "openneuro.org/ds002345/stimuli/gentle"
    (gentle / "pieman").rename(gentle / "away")
    try:
        with pytest.raises(OpenNeuroError, match=r"no stimuli/gentle/pieman/align.csv"):
            fetch(tmp_path, "pieman", subjects=[2])
        urls = [server.url, f"{server.host}/mirror/a"]
        monkeypatch.setattr(narratives, "URL", urls)
        fetch(tmp_path, "pieman", subjects=[2])
    finally:
        (gentle / "away").rename(gentle / "pieman")
    align = tmp_path / "stimuli/gentle/pieman/align.csv"
    assert align.read_text() == "w,w,16,17\n"


@pytest.mark.parametrize(
    ("subjects", "story", "options", "message"),
    [
        ([999], "pieman", {}, "no subject 'sub-999'.*There are 7: sub-001"),
        ([2], "piemna", {}, r"no story 'piemna' \(did you mean 'pieman'.*There are"),
        ([], "pieman", {}, "expected the name of a subject or more, found none"),
        ([2], "tunnel", {}, "none of the subjects heard tunnel"),
        ([2], "pieman", {"space": "T1w"}, "no file with space-T1w.* there: MNI152"),
        ([2], "pieman", {"derivative": "spm"}, "expected one of afni-smooth"),
    ],
)
def test_what_does_not_exist(server, tmp_path, subjects, story, options, message):
    errors = NarrativesError, OpenNeuroError, BidsError
    with pytest.raises(errors, match=message):
        fetch(tmp_path, story, subjects=subjects, **options)


def test_find_runs_leaves_out_what_is_excluded(upstream, capsys):
    folder = upstream / "openneuro.org" / "ds002345"
    runs = find_runs(folder, story="pieman")
    assert [run.name for run in runs] == [
        "sub-002_task-pieman",
        "sub-013_task-pieman_run-1",
    ]
    assert {run.tr for run in runs} == {1.5} and runs[0].confounds is None
    out = capsys.readouterr().out
    assert "sub-001_task-pieman_run-1: left out" in out
    named = find_runs(folder, story="pieman", subjects=[21, "sub-002"])
    assert [run.name for run in named] == ["sub-002_task-pieman"]
    assert [r.subject for r in find_runs(folder, story="piemanpni")] == ["sub-021"]
    with pytest.raises(NarrativesError, match="no run of pieman is left"):
        find_runs(folder, story="pieman", subjects=["sub-021"])


# --- when words were spoken


def story(folder, task, times, *, subject="sub-001", version="", sound=None):
    write_events(folder, subject, task, version)
    write_words(folder, sound or task, times)
    return folder


def test_scan_time_counts_from_the_first_event_of_the_file(tmp_path):
    # the story begins at 15 s, the file with music at 0 s
    story(tmp_path, "pieman", spoken(15.4, "", 17.0))
    words = load_words(tmp_path, "pieman", 1)
    np.testing.assert_allclose(words["onset"], [15.4, 15.6, 17.0])
    np.testing.assert_allclose(words["offset"], [15.6, 17.0, 17.2])
    assert words["timed"].tolist() == [True, False, True]


def test_scan_time_where_the_file_begins_later(tmp_path):
    story(tmp_path, "tunnel", spoken(0.5, 2.0))
    words = load_words(tmp_path, "tunnel", "sub-001")
    np.testing.assert_allclose(words["onset"], [3.5, 5.0])


@pytest.mark.parametrize(("task", "lead"), [("piemanpni", 8.7), ("bronx", 15.2)])
def test_unexplained_leads(tmp_path, task, lead):
    story(tmp_path, task, spoken(0.5, 2.0))
    words = load_words(tmp_path, task, 1)
    np.testing.assert_allclose(words["onset"], [12.5 + lead, 14 + lead])
    np.testing.assert_allclose(words["offset"], [12.7 + lead, 14.2 + lead])
    plain = load_words(tmp_path, task, 1, lead=0.0)
    np.testing.assert_allclose(plain["onset"], [12.5, 14])


def test_a_lead_that_runs_past_the_story_warns(tmp_path):
    story(tmp_path, "bronx", spoken(15.5, 534.0))
    with pytest.warns(UserWarning, match=r"words of bronx end 13\.4 s after the story"):
        load_words(tmp_path, "bronx", 1)


@pytest.mark.parametrize(
    ("task", "version", "sound", "story_at", "file_at"),
    [
        ("prettymouth", "", "prettymouth", 21.0, 0.0),
        ("merlin", "", "merlin", 29.0, 4.5),
        ("notthefallintact", "", "notthefallintact", 25.0, 4.5),
        ("milkyway", "synonyms", "milkywaysynonyms", 21.0, 0.0),
    ],
)
def test_words_before_the_story_are_dropped(
    tmp_path, task, version, sound, story_at, file_at
):
    times = spoken(2.0, 3.5, story_at, story_at + 1)
    story(tmp_path, task, times, version=version, sound=sound)
    words = load_words(tmp_path, sound, 1)
    assert words["word"].tolist() == ["w2", "w3"]
    np.testing.assert_allclose(words["onset"] - file_at, [story_at, story_at + 1])
    assert words[["start", "end"]].to_numpy().tolist() == [[0, 2], [3, 5]]


def test_early_words_of_other_stories_are_kept(tmp_path):
    story(tmp_path, "pieman", spoken(2.0, 15.5))
    assert len(load_words(tmp_path, "pieman", 1)) == 2
    story(
        tmp_path, "milkyway", spoken(2.0, 21.5), version="vodka", sound="milkywayvodka"
    )
    # which version it was, the events of the subject say
    assert len(load_words(tmp_path, "milkyway", 1)) == 2
    with pytest.raises(
        NarrativesError, match=r"expected a story in milkywayorig.*vodka"
    ):
        load_words(tmp_path, "milkywayoriginal", 1)


def test_slumlord_and_reach_share_a_scan(tmp_path):
    times = spoken(25.5, 899.0, "", 900.0, 965.5, 1700.0)
    story(tmp_path, "slumlordreach", times)
    first = load_words(tmp_path, "slumlord", 1)
    second = load_words(tmp_path, "reach", 1)
    assert first["word"].tolist() == ["w0", "w1", "w2", "w3"]
    assert second["word"].tolist() == ["w4", "w5"]
    np.testing.assert_allclose(first["onset"], [30.0, 903.5, 903.7, 904.5])
    np.testing.assert_allclose(second["onset"], [970.0, 1704.5])
    assert second["start"].tolist() == [0, 3]
    assert len(load_words(tmp_path, "slumlordreach", 1)) == 6
    for part, words in (("slumlord", first), ("reach", second)):
        begin, n = scan_window(part)
        assert begin * 1.5 <= words["onset"].min()
        assert words["offset"].max() <= (begin + n) * 1.5


def test_published_windows():
    assert scan_window("pieman") == (10, 281)
    assert scan_window("slumlord") == (20, 602)
    assert scan_window("reach") == (646, 550)
    assert scan_window("lucy") == (1, 361)
    assert scan_window("black") == (8, 533) and scan_window("forgot") == (8, 558)
    assert scan_window("shapesphysical") == (33, 270)
    assert scan_window("shapessocial") == (33, 272)


def test_windows_of_other_stories_come_from_the_events(tmp_path):
    assert scan_window("tunnel", write_events(tmp_path, "s", "tunnel")) == (2, 1023)
    assert scan_window("merlin", write_events(tmp_path, "s", "merlin")) == (22, 591)
    schema = write_events(tmp_path, "s", "schema")
    assert scan_window("vinny", schema) == (200, 113)
    both = write_events(tmp_path, "s", "slumlordreach")
    assert scan_window("slumlordreach", both) == (20, 1177)
    with pytest.raises(NarrativesError, match="tunnel: give the events"):
        scan_window("tunnel")
    with pytest.raises(NarrativesError, match=r"expected a story in bronx.*shame, vin"):
        scan_window("bronx", schema)


def test_windows_and_people_of_the_real_data(tmp_path):
    data = Path(os.environ.get("ANBN_DATA", "")) / "ds002345_bids_text"
    if not os.environ.get("ANBN_DATA") or not data.is_dir():
        pytest.skip("ANBN_DATA is not set to a folder that holds ds002345_bids_text/")
    seen = {}
    for events in data.glob("*_events.tsv"):
        task = re.search("task-([^_]+)", events.name)[1]
        if task == "slumlordreach":
            continue
        published = STORIES.get(task, {}).get("window")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(narratives, "STORIES", {})
            seen[task] = scan_window(task, events)
        if published:
            # lucy alone is published one volume earlier than its events say
            shift = [1, 0] if task == "lucy" else [0, 0]
            assert np.subtract(seen[task], published).tolist() == shift
    assert {"pieman", "black", "forgot", "lucy", "shapessocial"} <= set(seen)
    heard = listeners(data / "participants.tsv")
    assert len(heard) == 345 and sum(map(len, heard.values())) == 769
    for story in ("milkywayoriginal", "milkywaysynonyms", "milkywayvodka"):
        assert 17 <= sum(hears(tasks, story) for tasks in heard.values()) <= 18


@pytest.mark.parametrize(
    ("onset", "message"),
    [("n/a", r"expected the onset and duration|expected an onset"), ("x", "onset")],
)
def test_events_without_times(tmp_path, onset, message):
    write_words(tmp_path, "tunnel", spoken(1.0))
    row = f"{onset}\t10\tstory\ttunnel_audio.wav\n"
    write(tmp_path, "sub-001/func/sub-001_task-tunnel_events.tsv", HEADER + row)
    with pytest.raises(ValueError, match=message):
        load_words(tmp_path, "tunnel", 1)


def test_what_is_missing_for_words(tmp_path):
    with pytest.raises(NarrativesError, match=r"no sub-001_task-pieman_.*fetch it"):
        load_words(tmp_path, "pieman", 1)
    write_events(tmp_path, "sub-001", "pieman", run="_run-2")
    assert events_of(tmp_path, "pieman", 1).name.endswith("run-2_events.tsv")
    with pytest.raises(NarrativesError, match=r"align.csv is missing. Fetch pieman"):
        load_words(tmp_path, "pieman", 1)
    write(tmp_path, "sub-001/func/sub-001_task-black_events.tsv", "onset\tword\n1\ta\n")
    with pytest.raises(NarrativesError, match="columns onset, duration, trial_type"):
        load_words(tmp_path, "black", 1)


def test_the_table_of_stories():
    assert narratives.task_of("reach") == "slumlordreach"
    assert narratives.task_of("milkywayvodka") == "milkyway"
    assert narratives.task_of("shame") == "schema"
    assert narratives.task_of("pieman") == "pieman"
