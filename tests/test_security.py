"""What files, parameters and servers of others must not be able to do."""

import ast
import io
import json
import os
import pickle
import stat
import subprocess
import sys
import zipfile
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import yaml
from projects import FIRST
from serving import serving

from anbn.brain import narratives, openneuro, sources, template_images
from anbn.brain.images import BoldError
from anbn.core import artifacts, downloads, params, paths
from anbn.masking import selection
from anbn.models import loading
from anbn.study import pipeline, report

ROOT = params.project_root()
SOURCE = [
    *sorted((ROOT / "lib" / "anbn").rglob("*.py")),
    *sorted((ROOT / "notebooks").glob("*.py")),
    *sorted((ROOT / "requirements").glob("*.py")),
]
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
MODULES |= {"tarfile", "telnetlib", "ftplib"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
CALLS |= {"torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
CALLS |= {"pd.read_pickle", "pandas.read_pickle", "shutil.unpack_archive"}
METHODS = {"to_pickle", "read_pickle", "extractall", "save_hdf"}
KEYWORDS = {"shell", "allow_pickle", "trust_remote_code", "unsafe"}


@cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def dangers(tree):
    """Imports, calls and options that could run what a file says."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] * ((node.module or "").split(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found += [name] * (name in CALLS or name.split(".")[-1] in METHODS)
            for word in node.keywords:
                off = isinstance(word.value, ast.Constant) and word.value.value is False
                if word.arg in KEYWORDS and not off:
                    found.append(f"{name}({word.arg}=...)")
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                key = key.value if isinstance(key, ast.Constant) else None
                off = isinstance(value, ast.Constant) and value.value is False
                found += [str(key)] * (key in KEYWORDS and not off)
    return found


DANGERS = """import pickle
from joblib import Memory
eval(x)
torch.load(path)
np.load(p, allow_pickle=True)
subprocess.run(c, shell=True)
yaml.load(t)
AutoModel.from_pretrained(n, trust_remote_code=yes)
{'trust_remote_code': True}
archive.extractall(folder)"""


@pytest.mark.parametrize("text", DANGERS.split("\n"))
def test_the_search_for_dangers_finds_them(text):
    assert dangers(ast.parse(text))


def test_every_file_is_looked_at():
    everywhere = {
        Path(folder) / name
        for top in ("lib", "notebooks", "requirements")
        for folder, _, names in os.walk(ROOT / top)
        for name in names
        if name.endswith(".py")
    }
    assert set(SOURCE) == everywhere


def test_nothing_in_the_library_runs_what_a_file_says():
    found = {path: dangers(tree(path)) for path in SOURCE}
    # how a sweep's own functions travel to its own workers; no file is read by it
    runner = ROOT / "lib" / "anbn" / "study" / "engine.py"
    assert found.pop(runner) in ([], ["cloudpickle"])
    # a notebook is compiled for the names of what it imports, and not run
    assert found.pop(runner.with_name("fingerprints.py")) == ["compile"]
    assert {path: what for path, what in found.items() if what} == {}


class Trap:
    """Unpickled, it writes a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.fixture
def mark(tmp_path):
    """A file that must not come into being."""
    mark = tmp_path / "mark"
    pickle.loads(pickle.dumps(Trap(mark))).close()
    assert mark.exists()  # the trap works
    mark.unlink()
    yield mark
    assert not mark.exists(), "code of a file was run"


READERS = [
    ("a.npy", artifacts.read_array, artifacts.ArtifactError, "allow_pickle"),
    ("a.npz", artifacts.read_arrays, artifacts.ArtifactError, "allow_pickle"),
    (
        "a.npz",
        lambda path: selection.from_file(path, (2, 2)),
        artifacts.ArtifactError,
        "allow_pickle",
    ),
    ("a.npy", sources.read_npy, BoldError, "cannot be read as npy"),
]


@pytest.mark.parametrize("name, read, error, expected", READERS)
def test_no_reader_unpickles(tmp_path, mark, name, read, error, expected):
    trap = np.array([Trap(mark)], dtype=object)
    path = tmp_path / name
    if name.endswith("y"):
        np.save(path, trap, allow_pickle=True)
    else:
        np.savez(path, mask=trap)
    with pytest.raises(error, match=expected):
        read(path)
    path.write_bytes(pickle.dumps(Trap(mark)))  # a bare pickle
    with pytest.raises(error):
        read(path)


def test_no_writer_pickles(tmp_path):
    objects = np.array([{}], dtype=object)
    with pytest.raises(ValueError, match="pickle"):
        artifacts.write_arrays(tmp_path / "a.npz", a=objects)
    with pytest.raises(ValueError, match="pickle"):
        artifacts.write_array(tmp_path / "a.npy", objects)
    assert list(tmp_path.iterdir()) == []


def test_yaml_makes_no_objects(tmp_path, monkeypatch, mark):
    (tmp_path / "params" / "mine").mkdir(parents=True)
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    monkeypatch.setenv("ANBN_ROOT", str(tmp_path))
    call = f"level: !!python/object/apply:builtins.open ['{mark}', 'w']"
    yaml.unsafe_load(call)["level"].close()
    mark.unlink()  # the trap works
    path = tmp_path / "params" / "mine" / "03_an_bn_coupling.yaml"
    path.write_text(call)
    with pytest.raises(params.ParamError, match="not readable as YAML"):
        params.read("mine", path.stem)


CODE = """
from pathlib import Path
Path({mark!r}).touch()
from transformers import LlamaConfig, LlamaForCausalLM
class OurConfig(LlamaConfig):
    model_type = {kind!r}
class OurModel(LlamaForCausalLM):
    config_class = OurConfig
"""


@pytest.mark.parametrize("kind", ["llama", "unknown_to_transformers"])
@pytest.mark.parametrize("answer", ["", "y\n"])
def test_code_in_a_model_s_folder_is_not_run(
    llama, tmp_path, mark, monkeypatch, kind, answer
):
    folder = tmp_path / "model"
    llama.model.save_pretrained(folder)
    llama.tokenizer.save_pretrained(folder)
    (folder / "ours.py").write_text(CODE.format(mark=str(mark), kind=kind))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": kind, "auto_map": {}}
    for auto in ("AutoModel", "AutoModelForCausalLM"):
        config["auto_map"][auto] = "ours.OurModel"
    config["auto_map"]["AutoConfig"] = "ours.OurConfig"
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))  # transformers would ask
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    if kind == "llama":  # known to transformers, whose own code is taken
        assert type(loading.load_model(str(folder)).model).__module__.startswith(
            "transformers.models.llama"
        )
    else:
        with pytest.raises(
            loading.ModelError, match="code of its own, which is not run"
        ):
            loading.load_model(str(folder))


def test_weights_that_are_pickles_are_not_read(llama, tmp_path, mark):
    folder = tmp_path / "model"
    llama.model.save_pretrained(folder)
    llama.tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Trap(mark)}, folder / "pytorch_model.bin")
    with pytest.raises(loading.ModelError, match="cannot be loaded"):
        loading.load_model(str(folder))


SPECS = {  # what an error says of names that lead elsewhere
    "leaves": (
        *("package:numpy/../../secret", "package:numpy/a/../../../x"),
        *("package:numpy//etc", "data:../x", "data:a/../../x", "data:/etc/passwd"),
        *("narratives:../x", "narratives:/etc/passwd", "narratives:a/.."),
        *("openneuro:../x", "openneuro:ds000001/../../x", "openneuro:ds002345/../x"),
        *("alice:../x", "alice:/etc/passwd", "alice:alice_data_shared/../../x"),
    ),
    "is not installed": tuple(
        f"package:{name}/x" for name in ("os.path", "xml.dom", "a.b", "", ".", "-m")
    ),
    r"climbs out.* the absolute path": (
        *("../x", "a/../../x", "./../x", "lib/../../x", ".."),
    ),
    "nothing found": ("x" * 300, "a\0b", "~nobody-of-that-name/x", "x/" * 3000),
}


@pytest.mark.parametrize(
    "spec, expected", [(spec, said) for said in SPECS for spec in SPECS[said]]
)
def test_a_path_leads_nowhere_else(spec, expected, monkeypatch, tmp_path):
    monkeypatch.setenv("ANBN_DATA", str(tmp_path))
    before = set(sys.modules)
    with pytest.raises(FileNotFoundError, match=expected):
        paths.resolve(spec)
    assert set(sys.modules) == before  # a package is named and never imported


def test_absolute_paths_and_links_are_the_user_s_own(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "link.txt").symlink_to(tmp_path / "mine.txt")
    for name in ("mine.txt", "link.txt"):
        assert paths.resolve(str(tmp_path / name)) == tmp_path / name
    assert paths.resolve("lib/../params") == ROOT / "lib" / ".." / "params"


@pytest.mark.parametrize(
    "study", ["..", "../x", "a/../b", "/tmp/x", "", "a b", ".hidden", "a\0", "a/", "~"]
)
def test_outputs_stay_in_their_folder(study, monkeypatch):
    with pytest.raises(FileNotFoundError, match="there can be no study"):
        paths.stage_dir(study, FIRST)
    monkeypatch.setattr(sys, "argv", ["anbn", "--", study])
    for command in (pipeline, report):
        with pytest.raises(SystemExit, match=r"error: .*study"):
            command.main()


def test_clean_deletes_outputs_only(tmp_path):
    command = ["make", "-f", str(ROOT / "Makefile"), "clean"]
    for name in ("outputs/mine", "lib"):
        (tmp_path / name).mkdir(parents=True)
    for study in ("../lib", "", ".", "..", "mine/..", "a b"):
        done = subprocess.run(
            [*command, f"STUDY={study}"], cwd=tmp_path, capture_output=True
        )
        assert done.returncode
    assert (tmp_path / "lib").is_dir() and (tmp_path / "outputs" / "mine").is_dir()
    subprocess.run([*command, "STUDY=mine"], cwd=tmp_path, check=True)
    assert (tmp_path / "lib").is_dir() and not (tmp_path / "outputs" / "mine").exists()


# Archives


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


LINK = zipfile.ZipInfo("link")
LINK.external_attr = (stat.S_IFLNK | 0o777) << 16
OUTSIDE = ["../out.txt", "a/../../out.txt", "/out.txt", "C:/out.txt", "..\\out.txt"]
ARCHIVES = [  # members of a zip, or bytes that are none; what is said of it
    *(({"fine.nii": b"1", name: b"2"}, "outside") for name in OUTSIDE),
    ({LINK: b"/etc/passwd"}, "no plain file"),
    ({"a.nii": bytes(10**7)}, "10000000 bytes.* 1000000 bytes"),  # a bomb
    ({str(i): b"" for i in range(20)}, "20 files.* more than 10 files"),
    *((raw, r"a\.zip") for raw in (b"", b"PK\x03\x04 cut", b"no zip at all")),
]


@pytest.mark.parametrize("members, expected", ARCHIVES)
def test_archives_that_are_not_unpacked(tmp_path, monkeypatch, members, expected):
    monkeypatch.setattr(downloads, "MAX_BYTES", 10**6)
    monkeypatch.setattr(downloads, "MAX_FILES", 10)
    path = tmp_path / "a.zip"
    if isinstance(members, bytes):
        path.write_bytes(members)
    else:
        zipped(path, members)
    assert path.stat().st_size < 20000
    with pytest.raises(downloads.ArchiveError, match=expected):
        downloads.unpack(path, tmp_path / "in")
    found = [p for p in tmp_path.rglob("*") if p.is_file() and p != path]
    assert {p.relative_to(tmp_path).parts[0] for p in found} <= {"in"}
    assert all(p.stat().st_size <= 10**6 and not p.is_symlink() for p in found)


def test_a_name_that_stands_twice(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = zipped(tmp_path / "a.zip", {"a": b"1", zipfile.ZipInfo("a"): b"2"})
    with pytest.raises(downloads.ArchiveError, match="the same name twice"):
        downloads.unpack(path, tmp_path / "in")


def test_a_header_that_lies_about_the_size(tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.nii": bytes(10**6)})
    raw = path.read_bytes().replace((10**6).to_bytes(4, "little"), b"\x10\0\0\0")
    path.write_bytes(raw)
    with pytest.raises(downloads.ArchiveError):
        downloads.unpack(path, tmp_path / "in")
    assert (tmp_path / "in" / "a.nii").stat().st_size <= 16


def test_templates_in_a_zip(tmp_path):
    labels = np.zeros((6, 6, 6), np.int16)
    labels[1:3], labels[3:5] = 1, 2
    image = nibabel.Nifti1Image(labels, np.eye(4))
    mask = nibabel.Nifti1Image(np.ones((6, 6, 6), np.uint8), np.eye(4))
    content = image.to_bytes()
    good = zipped(tmp_path / "good.zip", {"a.nii": content})
    assert len(template_images.load_image_templates(good, mask)[1]) == 2
    bad = zipped(tmp_path / "bad.zip", {"../a.nii": content})
    with pytest.raises(template_images.TemplateError, match="outside"):
        template_images.load_image_templates(bad, mask)


# Pages


class Scripts(HTMLParser):
    """Scripts, and attributes that are code, of a page."""

    def __init__(self, text):
        super().__init__()
        self.open, self.code, self.shown = False, [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.open = tag == "script"
        self.code += [v or "" for k, v in attributes if k.startswith("on")]

    def handle_endtag(self, tag):
        self.open = False

    def handle_data(self, data):
        if self.open:
            self.code.append(data)
        else:
            self.shown += data


WORD = "<script>alert(1)</script><img/src=x/onerror=alert(1)>"  # one: no blanks


def test_a_word_of_a_transcript_shows_as_text(project):
    (project / "story.tsv").write_text(
        f"word\tonset\toffset\n{WORD}\t0\t1\nplain\t1\t2\n"
    )
    notebook = project / "notebooks" / f"{FIRST}.py"
    notebook.write_text(
        notebook.read_text()
        + "\n# %%\nfrom anbn.text import stories\n"
        + "words, text, *_ = stories.read_story('story.tsv')\nprint(text)\nwords\n"
        + "# %%\nwords.set_index('word').T\n# %%\ntext\n"
        + "# %%\nimport matplotlib.pyplot as plt\nfigure, ax = plt.subplots()\n"
        + "ax.set_title(text)\nax\n"
        + "# %%\nartifacts.write_figure(out, 'words', figure)\n"
    )
    assert pipeline.run_study("mine", [FIRST]) == 1
    page = (artifacts.stage_dir("mine", FIRST) / "notebook.html").read_text()
    found = Scripts(page)
    assert found.shown.count(WORD) >= 4  # printed, a table, its names, a text
    assert not [code for code in found.code if code.strip() == "alert(1)"]


def test_an_error_s_text_shows_as_text():
    import nbformat
    from nbconvert import HTMLExporter

    output = nbformat.v4.new_output(
        "error", ename="E", evalue=WORD, traceback=[f"\x1b[31m{WORD}\x1b[0m"]
    )
    cell = nbformat.v4.new_code_cell("1", outputs=[output])
    page, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    found = Scripts(page)
    assert WORD in found.shown
    assert not [code for code in found.code if code.strip() == "alert(1)"]


# Downloads


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.org/a", "http://127.0.0.1.example.org/a"),
        *("http://127.0.0.1:80@example.org/a", "http://localhost.example.org/"),
    ],
)
def test_addresses_without_encryption_are_refused(url):
    with pytest.raises(downloads.DownloadError, match="begins with https"):
        downloads.get(url)


def test_redirects_to_such_addresses_are_refused(tmp_path):
    with serving(tmp_path) as server:
        server.codes["a"] = [302]
        server.headers["a"] = {"Location": "http://example.org/a"}
        with pytest.raises(downloads.DownloadError, match="begins with https"):
            downloads.get(f"{server.host}/a")


def test_every_address_in_the_library_is_encrypted():
    urls = [paths.ALICE_URL, openneuro.URL, narratives.EXCLUDED, *narratives.URL]
    assert all(url.startswith("https://") for url in urls)
    for path in SOURCE:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                known = node.value in ("http://", "http://www.w3.org/")
                local = "localhost" in node.value or "127.0.0.1" in node.value
                bare = node.value.startswith("http://")
                assert not bare or known or local, f"{path}: {node.value}"


def test_every_file_of_alice_has_a_published_hash():
    lines = (ROOT / "lib/anbn/core/alice_registry.txt").read_text().splitlines()
    assert len(lines) > 50
    assert all(len(line.rpartition(" sha256:")[2]) == 64 for line in lines)
