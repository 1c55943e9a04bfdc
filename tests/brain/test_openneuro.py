"""Data sets other than Narratives, from a server that lists files as OpenNeuro's."""

import json

import pytest
from serving import serving

from anbn.brain import openneuro, sources
from anbn.brain.bids import BidsError
from anbn.brain.openneuro import OpenNeuroError
from anbn.core import downloads
from anbn.core.downloads import DownloadError
from anbn.core.paths import resolve

MNI = "space-MNI152NLin2009cAsym_desc-preproc"
FUNC = "derivatives/fmriprep/{0}/ses-1/func/{0}_ses-1_task-{1}"
ASKED = {"task": "story", "space": "MNI152NLin2009cAsym", "desc": "preproc"}


def write(folder, name, content=""):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content or name)


@pytest.fixture
def server(tmp_path, prompt, monkeypatch):
    """ds000001 with three subjects, one of whom did not hear the story."""
    folder = tmp_path / "server" / "openneuro.org" / "ds000001"
    write(folder, "dataset_description.json", "{}")
    write(folder, "stimuli/story.tsv", "word\tonset\toffset\na\t0\t1\n")
    write(folder, "stimuli/story.tsv.old")
    write(folder, "stimuli/sounds/a+b.wav")
    write(folder, "derivatives/fmriprep/dataset_description.json", "{}")
    content = json.dumps({"RepetitionTime": 2.0})
    write(folder, "derivatives/fmriprep/task-story_bold.json", content)
    for subject, task in (("sub-01", "story"), ("sub-02", "story"), ("sub-03", "rest")):
        stem = FUNC.format(subject, task)
        write(folder, f"{stem}_{MNI}_bold.nii.gz", f"volumes of {subject}" * 9000)
        write(folder, f"{stem}_{MNI}_bold.json", json.dumps({"StartTime": 0.5}))
        write(folder, f"{stem}_{MNI}_mask.nii.gz")
        write(folder, f"{stem}_space-T1w_desc-preproc_bold.nii.gz")
        write(folder, f"{stem}_space-T1w_desc-preproc_bold.json", "{}")
        write(folder, f"{stem}_desc-confounds_timeseries.tsv", "rot_x\n0\n")
    with serving(tmp_path / "server") as server:
        server.page = 4  # lists come in many parts
        monkeypatch.setattr(openneuro, "URL", f"{server.host}/openneuro.org")
        server.data, server.urls = folder, [f"{openneuro.URL}/ds000001"]
        yield server


def files_in(folder):
    paths = [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".sha256"]
    return sorted(p.relative_to(folder).as_posix() for p in paths)


SPEC = "openneuro:ds000001/derivatives/fmriprep"


def fetch(tmp_path, subjects, **changes):
    asked = ASKED | changes
    openneuro.fetch(SPEC, tmp_path / "openneuro", subjects=subjects, **asked)


def test_runs_with_what_belongs_to_them(server, tmp_path, monkeypatch):
    monkeypatch.setenv("ANBN_DATA", str(tmp_path))
    fetch(tmp_path, ["2", "sub-01"])
    stems = [FUNC.format(subject, "story") for subject in ("sub-01", "sub-02")]
    ends = [f"{MNI}_bold.json", f"{MNI}_bold.nii.gz"]
    ends += ["desc-confounds_timeseries.tsv"]
    expected = ["derivatives/fmriprep/task-story_bold.json"]
    expected += [f"{stem}_{end}" for stem in stems for end in ends]
    folder = tmp_path / "openneuro" / "ds000001"
    assert files_in(folder) == sorted(expected)
    for name in expected:
        assert (folder / name).read_bytes() == (server.data / name).read_bytes()
    runs = sources.runs_of_bids(SPEC, **ASKED)
    assert [r.name for r in runs] == [f"sub-0{i}_ses-1_task-story" for i in (1, 2)]
    assert [(r.tr, r.start_time) for r in runs] == [(2.0, 0.5)] * 2
    assert all(run.confounds for run in runs)
    server.seen.clear()
    fetch(tmp_path, ["01", "02"])
    assert not server.seen


def test_what_was_cut_off_is_gone_on_with(server, tmp_path):
    name = f"{FUNC.format('sub-01', 'story')}_{MNI}_bold.nii.gz"
    short = name.rpartition("/")[2]
    server.cut[short] = downloads.CHUNK
    with pytest.raises(DownloadError, match="gave up"):
        fetch(tmp_path, ["01"])
    server.cut.clear()
    server.seen.clear()
    fetch(tmp_path, ["01"])
    assert server.asked(short) == [f"bytes={3 * downloads.CHUNK}-"]
    folder = tmp_path / "openneuro" / "ds000001"
    assert (folder / name).read_bytes() == (server.data / name).read_bytes()


def test_a_size_that_is_not_the_one_listed(server, tmp_path):
    name = f"{FUNC.format('sub-01', 'story')}_{MNI}_bold.nii.gz".rpartition("/")[2]
    server.lists[name] = 5
    with pytest.raises(DownloadError, match=rf"{name}: 5 bytes .* were announced, th"):
        fetch(tmp_path, ["01"])


@pytest.mark.parametrize(
    ("subjects", "changes", "message"),
    [
        (["09"], {}, r"no subject 'sub-09' \(did you.* There are 3: sub-01, sub-02"),
        ([], {}, "expected the name of a subject or more, found none.*There are 3"),
        (["03"], {}, "task-story .*task there: rest"),
        (["01", "03"], {}, "sub-03"),
        (["01"], {"space": "MNI"}, "space-MNI .*there: MNI152NLin2009cAsym, T1w"),
        (["01"], {"space": ""}, "2 files of one run are left.*Set space: MNI152"),
    ],
)
def test_what_the_server_has_not(server, tmp_path, subjects, changes, message):
    with pytest.raises((OpenNeuroError, BidsError), match=message) as error:
        fetch(tmp_path, subjects, **changes)
    assert "derivatives/fmriprep" in str(error.value)
    assert not (tmp_path / "openneuro").exists()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("openneuro:ds000001/derivatives", "expected folders sub-.*found .*fmriprep"),
        ("openneuro:ds000009/derivatives", "expected folders sub-.*found nothing"),
        ("openneuro:derivatives/fmriprep", "expected openneuro:ds000001/folder"),
        ("openneuro:ds1/derivatives", "expected openneuro:ds000001/folder"),
    ],
)
def test_folders_without_subjects(server, tmp_path, spec, message):
    with pytest.raises(OpenNeuroError, match=message):
        openneuro.fetch(spec, tmp_path, subjects=["01"], **ASKED)


def test_a_file_and_a_folder(server, tmp_path):
    openneuro.fetch("openneuro:ds000001/stimuli/story.tsv", tmp_path)
    assert files_in(tmp_path / "ds000001") == ["stimuli/story.tsv"]
    openneuro.fetch("openneuro:ds000001/stimuli/", tmp_path)
    names = ["stimuli/sounds/a+b.wav", "stimuli/story.tsv", "stimuli/story.tsv.old"]
    assert files_in(tmp_path / "ds000001") == names
    for name in ("stimuli/storm.tsv", "stim"):
        with pytest.raises(OpenNeuroError, match=rf"no {name} .*there is .*stimuli/"):
            openneuro.fetch(f"openneuro:ds000001/{name}", tmp_path)


def test_patterns(server):
    patterns = ["derivatives/*/{subject}/*_task-{task}_*confounds_*.tsv", "data*"]
    subjects = ["sub-01", "sub-02"]
    found = openneuro.find(server.urls, patterns, subject=subjects, task="story")
    stems = [FUNC.format(f"sub-0{k}", "story") for k in (1, 2)]
    tables = [f"{stem}_desc-confounds_timeseries.tsv" for stem in stems]
    assert list(found) == [*tables, "dataset_description.json"]
    content = (server.data / tables[0]).read_bytes()
    assert found[tables[0]].size == len(content)
    assert found[tables[0]].md5 in found[tables[0]].etag
    assert openneuro.find(server.urls, ["{a}"], a=[]) == {}
    with pytest.raises(OpenNeuroError, match=r"no derivatives/fmriprep/sub-01/x\*"):
        openneuro.find(server.urls, ["derivatives/fmriprep/{s}/x*"], s=["sub-01"])


def listing(monkeypatch, body):
    page = type("Page", (), {"content": body})
    monkeypatch.setattr(downloads, "get", lambda *_, **__: page)


ENTRY = b"<a><Contents><Key>d/%s</Key><Size>1</Size><ETag>%s</ETag></Contents></a>"


@pytest.mark.parametrize("name", [b"../x", b"sub-01/../../x", b"/etc/x"])
def test_a_name_that_would_leave_the_folder(monkeypatch, name):
    listing(monkeypatch, ENTRY % (name, b""))
    with pytest.raises(DownloadError, match="outside the folder"):
        openneuro.list_files("https://host/bucket/d", "")


def test_lists_that_cannot_be_read(monkeypatch):
    listing(monkeypatch, b"<html><p>Not here")
    with pytest.raises(DownloadError, match="expected a list of the files in d/x"):
        openneuro.list_files("https://host/bucket/d", "x")


@pytest.mark.parametrize(
    ("etag", "known"), [(b'"%s"', True), (b'"%s-7"', False), (b'W/"%s"', False)]
)
def test_which_etags_are_an_md5(monkeypatch, etag, known):
    """Not those of what was uploaded in parts."""
    listing(monkeypatch, ENTRY % (b"x", etag % (b"0123456789abcdef" * 2)))
    files, _ = openneuro.list_files("https://host/bucket/d", "")
    assert bool(files["x"].md5) == known


def test_where_a_data_set_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("ANBN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"make data .*that holds openneuro/"):
        resolve(SPEC)
    folder = tmp_path / "openneuro/ds000001/derivatives/fmriprep"
    folder.mkdir(parents=True)
    assert resolve(SPEC) == folder
