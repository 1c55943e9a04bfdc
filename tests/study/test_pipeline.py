import ast
import functools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from projects import FIFTH, FIRST, FOURTH, SECOND, THIRD, contents

from anbn.core import artifacts, params
from anbn.study import fingerprints, notebooks, pipeline, report, sweeps


def now():
    found = {}
    for stage, reads in notebooks.inputs().items():
        values = params.read("mine", stage)
        upstream = {r: found[r] for r in reads}
        found[stage] = fingerprints.fingerprint(stage, values, upstream)
    return found


def changed(before):
    return [stage for stage, value in now().items() if value != before[stage]]


def test_what_counts_and_what_does_not(project):
    before = now()
    notebook = project / "notebooks" / f"{FOURTH}.py"
    text = notebook.read_text()
    for path in project.rglob("*.py"):
        path.touch()
    notebook.write_text(text.replace("Python 3 (ipykernel)", "Other"))  # header
    parameters = project / "params" / "mine"
    (parameters / f"{FIRST}.yaml").write_text("value: 2  # a comment\ndevice: cuda\n")
    assert changed(before) == []
    (parameters / f"{FOURTH}.yaml").write_text("value: 3")
    assert changed(before) == [FOURTH]
    (parameters / f"{FOURTH}.yaml").write_text("value: 2")
    notebook.write_text(text + "\n# %%\nprint(1)\n")
    assert changed(before) == [FOURTH]
    notebook.write_text(text)
    masking = project / "lib" / "anbn" / "masking" / "intervene.py"
    masking.write_text(masking.read_text() + "\n")
    assert changed(before) == [FOURTH]
    (parameters / f"{SECOND}.yaml").write_text("value: 5")
    assert changed(before) == [SECOND, THIRD, FOURTH, FIFTH]


def test_imports_are_followed(project):
    found = fingerprints.imported_modules("from anbn.masking import intervene")
    assert {"anbn.masking", "anbn.masking.intervene", "anbn.models.neurons"} <= set(
        found
    )
    assert "anbn.brain.bold" not in found
    found = fingerprints.imported_modules("from anbn.core.params import current")
    expected = ["anbn", "anbn.core", "anbn.core.params", "anbn.core.paths"]
    assert list(found) == expected
    assert found["anbn.core"].name == "__init__.py"


@pytest.mark.parametrize(
    "line",
    [
        "from anbn.house import room",
        "from anbn.house.room import thing",
        "import anbn.house.room as place",
        "from anbn import house\nfrom anbn.house.hall import x",
        "def f():\n    from anbn.house import room",
    ],
)
def test_every_form_of_import_is_followed(project, line):
    house = project / "lib" / "anbn" / "house"
    house.mkdir()
    (house / "__init__.py").write_text("")
    (house / "hall.py").write_text("def g():\n    from .room import x\n")
    (house / "room.py").write_text("from . import cellar\n")
    (house / "cellar.py").write_text("import numpy.linalg\nfrom ..core import paths\n")
    (house / "attic.py").write_text("from anbn.house import cellar\n")
    found = set(fingerprints.imported_modules(line))
    assert {"anbn.house.room", "anbn.house.cellar", "anbn.core.paths"} <= found
    assert "anbn.house.attic" not in found and not [m for m in found if "numpy" in m]


ROOT = params.project_root()
NOTEBOOKS = {
    stage: fingerprints.notebook_source(stage)
    for stage in [*notebooks.names(), "90_sweep_report"]
}
PACKAGES = sorted(p.name for p in (ROOT / "lib" / "anbn").iterdir() if p.is_dir())
PACKAGES = [name for name in PACKAGES if name != "__pycache__"]


def hashes_of_notebooks():
    """Hashes of the modules that each of the project's own notebooks uses."""
    found = {}
    for stage, source in NOTEBOOKS.items():
        used = fingerprints.imported_modules(source)
        found[stage] = {name: artifacts.sha256(path) for name, path in used.items()}
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_an_edited_module_makes_stale_what_uses_it_and_nothing_else(project, package):
    """A module in each package, against Python's own account of what is loaded."""
    loaded, before = loaded_by_notebooks(), hashes_of_notebooks()
    for path in sorted((project / "lib" / "anbn" / package).glob("*.py")):
        path.write_text(path.read_text() + "\n")
        now = hashes_of_notebooks()
        stale = {stage for stage in NOTEBOOKS if now[stage] != before[stage]}
        name = f"anbn.{package}.{path.stem}".removesuffix(".__init__")
        assert stale == {stage for stage in NOTEBOOKS if name in loaded[stage]}
        before = now


LOADED = """
import json, sys
found = {}
for stage, code in json.load(sys.stdin).items():  # other libraries are loaded once
    for name in [m for m in sys.modules if m.split(".")[0] == "anbn"]:
        del sys.modules[name]
    exec(code, {})
    found[stage] = [m for m in sys.modules if m.startswith("anbn")]
print(json.dumps(found))
"""


@functools.cache
def loaded_by_notebooks():
    """Modules of anbn that are loaded after the import cells of each notebook."""
    imports = {}
    for stage, source in NOTEBOOKS.items():
        nodes = ast.parse(source).body
        nodes = [n for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)]
        imports[stage] = "\n".join(map(ast.unparse, nodes))
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        input=json.dumps(imports),
        capture_output=True,
        text=True,
        check=True,
    )
    return {stage: set(names) for stage, names in json.loads(done.stdout).items()}


def test_other_versions_of_libraries_run_a_stage_again(project, monkeypatch, capsys):
    assert pipeline.run_study("mine", [FIRST]) == 1
    real = artifacts.versions
    build = {"torch": real(["torch"])["torch"].partition("+")[0] + "+cu999"}
    monkeypatch.setattr(artifacts, "versions", lambda names: real(names) | build)
    assert pipeline.run_study("mine", [FIRST]) == 0
    other = {"numpy": "9.9.9"}
    monkeypatch.setattr(artifacts, "versions", lambda names: real(names) | other)
    page, _ = report.write("mine")
    assert re.search(
        r"Made with other versions: numpy [\d.]+, now 9.9.9", page.read_text()
    )
    capsys.readouterr()
    assert pipeline.run_study("mine", [FIRST]) == 1
    said = capsys.readouterr().out
    assert f"mine/{FIRST}: made with numpy" in said and "here is 9.9.9" in said


@pytest.mark.parametrize("provenance", [None, "x", {}, {"packages": None}])
def test_a_manifest_that_tells_no_versions(provenance):
    assert fingerprints.other_versions({"provenance": provenance}) == {}


def test_data_files_count(project):
    (project / "story.txt").write_text("one")
    values = project / "params" / "mine" / f"{FIRST}.yaml"
    values.write_text("file: story.txt")
    before = now()
    (project / "story.txt").touch()
    assert changed(before) == []
    (project / "story.txt").write_text("two")
    assert changed(before) == notebooks.names()


def test_bytecode_in_a_folder_of_data_does_not_count(project):
    """Else another installation of the package that holds it would run stages again."""
    (project / "lists" / "__pycache__").mkdir(parents=True)
    (project / "lists" / "a.csv").write_text("one")
    (project / "params" / "mine" / f"{FIRST}.yaml").write_text("file: ./lists")
    before = now()
    (project / "lists" / "__pycache__" / "a.pyc").write_text("of another time")
    assert changed(before) == []
    (project / "lists" / "b.csv").write_text("two")
    assert changed(before) == notebooks.names()


def test_run_skip_and_rerun(project, capsys):
    assert pipeline.run_study("mine", notebooks.names()) == 5
    for stage in notebooks.names():
        out = project / "outputs" / "mine" / stage
        names = {p.name for p in out.iterdir()}
        assert {"notebook.ipynb", "notebook.html", "manifest.json", "data"} <= names
        assert not names & {"running.ipynb", "source.ipynb", "failed.ipynb"}
        assert "value = 2" in (out / "notebook.ipynb").read_text()
    assert pipeline.run_study("mine", notebooks.names()) == 0
    assert capsys.readouterr().out.count("up to date") == 5
    (project / "outputs" / "mine" / FOURTH / "data" / "a.npy").unlink()
    assert pipeline.run_study("mine", [FIFTH]) == 0  # does not read the fourth
    assert pipeline.run_study("mine", [FOURTH]) == 1


def test_a_failed_stage_leaves_its_notebook_and_no_manifest(project):
    (project / "params" / "mine" / f"{SECOND}.yaml").write_text("value: 13")
    done = subprocess.run(
        [sys.executable, "-m", "anbn.study.pipeline", "mine", "03"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "AssertionError: unlucky" in done.stderr
    assert "Traceback" not in done.stderr
    out = project / "outputs" / "mine"
    assert (out / FIRST / "manifest.json").is_file()
    assert (out / SECOND / "failed.ipynb").is_file()
    assert not (out / SECOND / "manifest.json").exists()
    assert not (out / SECOND / "notebook.ipynb").exists()
    assert not (out / THIRD).exists()
    (project / "params" / "mine" / f"{SECOND}.yaml").write_text("value: 2")
    assert pipeline.run_study("mine", [SECOND]) == 1
    assert not (out / SECOND / "failed.ipynb").exists()


def test_a_number_asks_for_its_stages_with_letters_too(project):
    def asked(*names):
        return pipeline._wanted("mine", names, None)

    assert asked("04") == [FOURTH, FIFTH]
    assert asked("04b") == [FIFTH] and asked(FOURTH) == [FOURTH]
    assert asked("04b", "01") == [FIRST, FIFTH]
    assert asked() == notebooks.names()
    (project / "params" / "mine" / f"{FIFTH}.yaml").unlink()
    assert asked("04") == [FOURTH]  # the study has no other
    assert asked("04b") == [FIFTH]  # the missing file is named when it is read


@pytest.mark.parametrize("arguments", [["nothing"], ["mine", "05"], ["mine", "03"]])
def test_bad_calls_run_nothing(project, arguments):
    (project / "params" / "mine" / f"{THIRD}.yaml").write_text("valu: 3")
    done = subprocess.run(
        [sys.executable, "-m", "anbn.study.pipeline", *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "no stage" in done.stderr or "did you mean 'value'" in done.stderr
    assert not (project / "outputs").exists()


@pytest.mark.faults
def test_sigkill_at_any_moment_ends_in_the_same_result(quick):
    """Without papermill; tests/faults has it with."""
    command = [sys.executable, "-m", "anbn.study.pipeline", "mine"]
    start = time.monotonic()
    subprocess.run(command, check=True)
    length = time.monotonic() - start
    expected = contents(quick)
    assert len(expected) == 3
    shutil.rmtree(quick / "outputs")
    moments = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.DEVNULL
        )
        time.sleep(moments.uniform(0.1, length))
        os.kill(process.pid, signal.SIGKILL)  # its kernel is left to notice by itself
        process.wait()
        for manifest in (quick / "outputs").glob("mine/*/manifest.json"):
            assert json.loads(manifest.read_text())["stage"] == manifest.parent.name
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert contents(quick) == expected
    assert (
        subprocess.run(command, capture_output=True, text=True).stdout.count(
            "up to date"
        )
        == 3
    )
    assert not list((quick / "outputs").rglob(".tmp-*"))


def test_two_runs_of_one_study_do_not_mix(project):
    with pipeline.only_one(project / "outputs" / "mine"):
        done = subprocess.run(
            [sys.executable, "-m", "anbn.study.pipeline", "mine"],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 1
    assert "is being run by another process" in done.stderr


def test_a_check_runs_nothing(project, capsys):
    pipeline.main(["mine", "02", "--check"])
    said = capsys.readouterr().out
    assert "study mine, stages 01 02" in said and "0 up to date" in said
    assert "2 to run" in said and "GB free" in said
    assert not (project / "outputs").exists()


def test_jobs_side_by_side_end_in_the_same_result(quick):
    """On two workers, that notebooks may give their subjects to."""
    command = [sys.executable, "-m", "anbn.study.pipeline", "mine"]
    subprocess.run(command, check=True)
    expected = contents(quick)
    shutil.rmtree(quick / "outputs")
    path = quick / "notebooks" / f"{FIRST}.py"
    workers = "\nopen('workers.txt', 'w').write(os.environ['ANBN_WORKERS'])\n"
    path.write_text(path.read_text() + workers)
    command += ["--jobs", "2"]
    options = {"capture_output": True, "text": True}
    done = subprocess.run(command, **options)
    assert "[3/3] " in done.stdout, done.stderr
    assert contents(quick) == expected
    assert (quick / "workers.txt").read_text().startswith("tcp://")
    assert subprocess.run(command, **options).stdout.count("up to date") == 3
    (quick / "params" / "mine" / f"{SECOND}.yaml").write_text("value: 13")
    done = subprocess.run(command, **options)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"mine/{SECOND}, cell 2: AssertionError: unlucky" in done.stderr
    assert f"{THIRD} of mine: not run" in done.stdout
    assert not (quick / "outputs" / "mine" / SECOND / "manifest.json").exists()


def test_a_study_may_leave_out_what_a_stage_can_do_without(project):
    (project / "params" / "mine" / f"{THIRD}.yaml").unlink()
    text = (project / "notebooks" / f"{FOURTH}.py").read_text()
    (project / "notebooks" / f"{FOURTH}.py").write_text(text.replace("if 1:", "if 0:"))
    assert pipeline.run_study("mine", [FOURTH]) == 3
    (project / "params" / "mine" / f"{SECOND}.yaml").unlink()
    with pytest.raises(params.ParamError):
        pipeline.run_study("mine", [FOURTH])


MINE = """# %% tags=["parameters"]
study: str = "mine"  # name
value: int = 1  # a number (0 to 99)

# %%
from anbn.core import artifacts
_, first = artifacts.stage_inputs(study, "01_activation_recording")
out = artifacts.begin_stage(study, "06_mine")
# %%
summary = {"double": 2 * first["summary"]["value"] + value}
artifacts.finish_stage(out, summary, params={"value": value}, simulated=False)
"""


def test_a_notebook_and_its_parameters_are_a_stage(project, capsys):
    """Nothing else is told of it: it runs, is reported, and may be swept over."""
    (project / "notebooks" / "06_mine.py").write_text(MINE)
    (project / "params" / "mine" / "06_mine.yaml").write_text("value: 3")
    assert notebooks.names()[-1] == "06_mine"
    assert notebooks.needed("mine", ["06_mine"]) == {FIRST: [], "06_mine": [FIRST]}
    pipeline.main(["mine", "06"])
    manifest = artifacts.read_manifest(project / "outputs" / "mine" / "06_mine")
    assert manifest["summary"] == {"double": 7}
    pipeline.main(["mine", "06_mine"])
    assert "06_mine: up to date" in capsys.readouterr().out
    page, _ = report.write("mine")
    assert "06_mine" in page.read_text()
    (project / "params" / "sweeps").mkdir()
    spec = "study: mine\nstages: [06]\ngrid: {06_mine.value: [4, 5]}\n"
    (project / "params" / "sweeps" / "s.yaml").write_text(spec)
    assert list(sweeps.read("s").reads) == [FIRST, "06_mine"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("06_mine", "07_mine"), "06_mine.py begins the stage '07_mine'"),
        (("01_activation_recording", "01_activation"), "reads the stage '01_activ"),
        (("01_activation_recording", "06_mine"), "reads the stage '06_mine', which is"),
        (('"01_activation_recording"', "study"), "line 7: stage_inputs must name a"),
        (("_, first =", "_ first ="), "06_mine.py: invalid syntax"),
    ],
)
def test_a_notebook_that_is_no_stage_is_named(project, change, expected):
    (project / "notebooks" / "06_mine.py").write_text(MINE.replace(*change))
    with pytest.raises(params.ParamError, match=expected):
        notebooks.names()


@pytest.mark.parametrize(
    "call",
    [
        'stage_inputs(study, "01_activation_recording")',
        'stage_inputs(stage="01_activation_recording", study=study)',
        'artifacts.stage_inputs(study, stage="01_activation_recording")',
    ],
)
def test_every_form_of_a_call_is_found(project, call):
    text = MINE.replace(
        'artifacts.stage_inputs(study, "01_activation_recording")', call
    )
    assert call in text
    path = project / "notebooks" / "06_mine.py"
    path.write_text(text)
    assert notebooks.inputs()["06_mine"] == {FIRST: True}
    path.write_text(text.replace(f"_, first = {call}", f"if value:\n    {call}"))
    assert notebooks.inputs()["06_mine"] == {FIRST: False}


def test_numbers_tell_stages_apart(project):
    for name in ("06_mine", "06_yours"):
        text = MINE.replace("06_mine", name)
        (project / "notebooks" / f"{name}.py").write_text(text)
    with pytest.raises(
        params.ParamError, match=r"06_yours.py: 06 is the stage 06_mine"
    ):
        notebooks.names()


def test_notebooks_that_begin_no_stage_are_left_alone(project):
    before = notebooks.inputs()
    (project / "notebooks" / "scratch.py").write_text("%matplotlib inline\nx = 1")
    assert notebooks.inputs() == before


def test_two_notebooks_do_not_write_one_stage(project, monkeypatch):
    artifacts.begin_stage("mine", FIRST)
    artifacts.begin_stage("mine", FIRST)  # the same kernel may run its cell again
    code = (
        "from anbn.core import artifacts, paths; "
        f"artifacts.hold(paths.stage_dir('mine', '{FIRST}'), 0.5)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "is being written by another process" in done.stderr
    artifacts.finish_stage(
        artifacts.stage_dir("mine", FIRST), {}, params={}, simulated=False
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
