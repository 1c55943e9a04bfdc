"""JupyterLab as people use it: `make lab` driven in a headless Chromium.

`make test-browser` runs it. It works on a copy of the project, in a home of its own in
which traps lie: a kernel of the same name, a startup file, server settings.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jupytext
import pytest
import yaml
from browsing import (
    ask,
    close_notebook,
    edit,
    explorer_redraws,
    interpreter,
    kernel_of,
    lacking,
    links_of_views,
    open_notebook,
    picture_of,
    run_all,
    run_cell,
    save,
    shoot,
)

from anbn.core.paths import project_root

pytestmark = pytest.mark.browser

ROOT = project_root()
COPIED = ("notebooks", "lib", "params", "requirements", ".jupyter")
READ = ("01_activation_recording", "02_fbn_extraction")
STAGE, MAPS = "03_an_bn_coupling", "03b_functional_organisation"
NOTEBOOKS = sorted(p.name for p in (ROOT / "notebooks").glob("*.py"))


def with_values(text, values):
    """Text of a notebook with other values standing in its parameters cell."""
    for name, value in values.items():
        value = repr(value) if isinstance(value, bool) else json.dumps(value)
        line = rf"(?m)^({name}: [^=\n]+ = ).*?(?=  # )"
        text, n = re.subn(line, lambda found, v=value: found[1] + v, text)
        assert n == 1, f"{name} is not in the parameters cell"
    return text


def files_in(folder, *, but=()):
    """Files below a folder, without those below the named folders."""
    files = (p.relative_to(folder) for p in folder.rglob("*") if not p.is_dir())
    return {str(p) for p in files if not str(p).startswith(tuple(but))}


@pytest.fixture(scope="module")
def project(chromium, tmp_path_factory):
    """Copy of the project, with what notebook 03 reads of the study `ci`."""
    outputs = Path(os.environ.get("ANBN_CI_OUTPUTS") or ROOT / "outputs") / "ci"
    lack = [s for s in READ if not (outputs / s / "manifest.json").is_file()]
    if lack or not (ROOT / ".venv").is_dir():
        lacking(f"nothing to couple in {outputs}: run `make 02 STUDY=ci` first")
    folder = tmp_path_factory.mktemp("project with blanks")
    unwanted = shutil.ignore_patterns(
        "*.ipynb", "__pycache__", "data", "lab", "ipython"
    )
    for name in COPIED:
        ignore = unwanted if name in ("notebooks", "lib", ".jupyter") else None
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("Makefile", "jupytext.toml", "pyproject.toml"):
        shutil.copy2(ROOT / name, folder)
    for stage in READ:
        shutil.copytree(outputs / stage, folder / "outputs" / "ci" / stage)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    for stage in (STAGE, MAPS):
        values = yaml.safe_load((ROOT / "params" / "ci" / f"{stage}.yaml").read_text())
        notebook = folder / "notebooks" / f"{stage}.py"
        notebook.write_text(with_values(notebook.read_text(), values | {"study": "ci"}))
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home full of settings that would break the notebooks if they were read."""
    home = tmp_path_factory.mktemp("home")
    broken = {"argv": ["false"], "display_name": "broken", "language": "python"}
    for path, text in {
        ".local/share/jupyter/kernels/python3/kernel.json": json.dumps(broken),
        "Library/Jupyter/kernels/python3/kernel.json": json.dumps(broken),
        ".jupyter/jupyter_server_config.py": "raise SystemExit('settings of the home')",
        ".ipython/profile_default/startup/00.py": "raise SystemExit('startup file')",
    }.items():
        (home / path).parent.mkdir(parents=True)
        (home / path).write_text(text)
    return home


@pytest.fixture(scope="module")
def lab(project, home, tmp_path_factory):
    """`make lab` on a free port, with its token."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    arguments = f"--no-browser --port={port} --expose-app-in-browser"
    if os.geteuid() == 0:
        arguments += " --allow-root"
    ours = ("JUPYTER", "IPYTHON", "XDG_", "MAKE", "MFLAGS", "ANBN_OUTPUTS", "ANBN_ROOT")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    environment |= {"HOME": str(home), "PYTHONPATH": str(project / "lib")}
    log = tmp_path_factory.mktemp("log") / "lab.log"
    with open(log, "w") as file:
        server = subprocess.Popen(
            # the environment is the one that the tests run in: not to be remade
            ["make", "--old-file=.venv/.installed", "lab", f"ARGS={arguments}"],
            cwd=project,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        runtime, running = project / ".jupyter" / "data" / "runtime", []
        give_up = time.monotonic() + 90
        while not running and server.poll() is None and time.monotonic() < give_up:
            time.sleep(0.3)
            running = list(runtime.glob("jpserver-*.json"))
        assert running, f"make lab did not start:\n{log.read_text()[-3000:]}"
        about = json.loads(running[0].read_text())
        assert about["port"] == port and about["token"]
        yield SimpleNamespace(
            folder=project,
            home=home,
            log=log,
            url=about["url"],
            token=about["token"],
            runtime=runtime,
        )
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # its own session
        server.wait(30)


@pytest.fixture(scope="module")
def page(lab, chromium):
    from playwright.sync_api import sync_playwright

    flags = ["--disable-gpu", "--no-first-run", "--disable-background-networking"]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(f"{lab.url}lab/tree/notebooks?token={lab.token}")
        page.locator(".jp-DirListing-item").first.wait_for(timeout=60_000)
        yield page
        browser.close()


def sources(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def test_only_notebooks_are_paired_and_nothing_comes_from_the_home(lab, page):
    shoot(page, "start")
    assert "settings of the home" not in lab.log.read_text()
    spec = ask(lab, "api/kernelspecs")["kernelspecs"]["python3"]
    assert spec["spec"]["argv"] != ["false"]
    # a module opened and saved as a notebook stays as it is
    module = lab.folder / "lib" / "anbn" / "core" / "paths.py"
    before, address = module.read_text(), "api/contents/lib/anbn/core/paths.py"
    opened = ask(lab, f"{address}?type=notebook&content=1")
    assert opened["content"]["nbformat"] == 4
    module.write_text("")
    ask(lab, address, {"type": "notebook", "content": opened["content"]})
    assert module.read_text() == before
    assert not list(module.parent.glob("*.ipynb"))


def test_every_notebook_opens_by_its_py(lab, page):
    for name in NOTEBOOKS:
        expected = len(jupytext.read(lab.folder / "notebooks" / name).cells)
        assert open_notebook(page, name) == expected, name
        assert page.locator(".jp-Notebook:visible").count() == 1
        shoot(page, name.partition("_")[0])
        assert kernel_of(lab, name)["name"] == "python3"
        close_notebook(page)


def test_notebook_03_runs_and_both_files_are_saved(lab, page):
    notebook = lab.folder / "notebooks" / f"{STAGE}.py"
    before = notebook.read_text()
    open_notebook(page, notebook.name)
    run_all(page)
    shoot(page, "ran")
    explorer_redraws(page)
    assert interpreter(lab, kernel_of(lab, notebook.name)["id"]) == sys.prefix

    edit(page, "top: float = 0.01", "0.02")
    save(page)
    shoot(page, "edited")

    edited = with_values(before, {"top": 0.02})
    assert edited != before and notebook.read_text() == edited
    saved = jupytext.read(notebook.with_suffix(".ipynb"))
    assert sources(saved) == sources(jupytext.read(notebook))
    code = [cell for cell in saved.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    outputs = [output for cell in code for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    assert sum("image/png" in o.get("data", {}) for o in outputs) > 5
    done = json.loads(
        (lab.folder / "outputs" / "ci" / STAGE / "manifest.json").read_text()
    )
    assert done["params"]["top"] == 0.01  # it ran before the edit
    assert files_in(lab.folder / "notebooks", but=[".ipynb_checkpoints"]) == {
        "jupytext.toml",
        *(f"{Path(n).stem}{e}" for n in NOTEBOOKS for e in (".py", ".ipynb")),
    }

    text = notebook.with_suffix(".ipynb").read_text()
    sync = [sys.executable, "-m", "jupytext", "--sync", str(notebook)]
    subprocess.run(sync, check=True, cwd=lab.folder)
    assert notebook.read_text() == edited
    assert notebook.with_suffix(".ipynb").read_text() == text


def test_a_changed_parameter_and_a_cell_run_again_give_the_same_figure(lab, page):
    """Change a parameter, run all, run one middle cell again: the same figure."""
    edit(page, "level: float = 0.05", "0.20")
    run_all(page)
    cell = '"synchrony_by_layer"'
    before = picture_of(page, cell)
    run_cell(page, cell)
    assert picture_of(page, cell) == before
    done = lab.folder / "outputs" / "ci" / STAGE / "manifest.json"
    assert json.loads(done.read_text())["params"]["level"] == 0.2
    close_notebook(page)


def test_the_links_of_maps_lead_to_files(lab, page):
    open_notebook(page, f"{MAPS}.py")
    run_all(page)
    views = links_of_views(page)
    assert views and all((lab.folder / view).is_file() for view in views), views
    close_notebook(page)


def test_nothing_was_written_in_the_home(lab, page):
    """Nothing but caches that are no business of Jupyter's."""
    caches = (".cache", ".config/matplotlib", "nilearn_data")
    assert len(files_in(lab.home)) >= 4
    assert files_in(lab.home, but=caches) == {
        ".local/share/jupyter/kernels/python3/kernel.json",
        "Library/Jupyter/kernels/python3/kernel.json",
        ".jupyter/jupyter_server_config.py",
        ".ipython/profile_default/startup/00.py",
    }
