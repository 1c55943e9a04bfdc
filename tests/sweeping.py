"""A project with stages quick enough to sweep over."""

from projects import FIRST, SECOND

STAGE = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% tags=["parameters"]
study: str = "mine"  # name
value: int = 1  # a number (0 to 99)
names: list[str] = []  # words
seed: int = 0  # of nothing (0 to 99)
device: str = "auto"  # where

# %%
import os, time
import numpy as np
from anbn.core import artifacts
before = [{reads}]
note = f"{stage} {{study}} {{os.environ['OMP_NUM_THREADS']}}\\n"
with open("started.txt", "a") as file:
    file.write(note)
out = artifacts.begin_stage(study, "{stage}")
# %%
assert value != 13, "unlucky"
time.sleep({pause})
total = sum(m["summary"]["total"] for _, m in before) + value + seed / 10
artifacts.write_array(out / "data" / "a.npy", np.arange(value * 1000) + total)
# %%
summary = {{"total": total, "label": "text"}}
settings = {{"value": value, "names": names, "seed": seed}}
artifacts.finish_stage(out, summary, params=settings, simulated=True)
with open("finished.txt", "a") as file:
    file.write(note)
"""
# As a kernel does: a session of its own, and an end of its own when its parent is gone.
WITHOUT_PAPERMILL = """

def run_stage(study, stage, values, expected):
    import threading

    out, start = stage_dir(study, stage), time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    for name in (artifacts.MANIFEST, "notebook.ipynb", "notebook.html", "failed.ipynb"):
        (out / name).unlink(missing_ok=True)
    (out / "running.ipynb").write_text('{"cells": [1]}')
    parent, child = os.getpid(), os.fork()
    if not child:
        os.setsid()
        os.closerange(3, 64)

        def watch():
            while os.getppid() == parent:
                time.sleep(0.5)
            os._exit(3)

        threading.Thread(target=watch, daemon=True).start()
        cells = params.notebook_path(stage).read_text().split("# %%")
        try:
            os.chdir(project_root())
            names = {}
            exec(cells[1].partition("\\n")[2], names)
            names |= values | {"study": study}
            for cell in cells[2:]:
                exec(cell, names)
        except Exception as error:
            (out / "failed.ipynb").write_text(f"{type(error).__name__}: {error}")
            os._exit(1)
        os._exit(0)
    code = os.waitpid(child, 0)[1]
    if code:
        (out / artifacts.MANIFEST).unlink(missing_ok=True)
        (out / "running.ipynb").unlink()
        raise StageError(f"cell 2: {(out / 'failed.ipynb').read_text()}")
    (out / "running.ipynb").rename(out / "notebook.ipynb")
    (out / "notebook.html").write_text("page")
    manifest = artifacts.read_manifest(out) | {"fingerprint": expected}
    manifest["html"] = artifacts.sha256(out / "notebook.html")
    manifest["seconds"] = round(time.perf_counter() - start)
    artifacts.write_manifest(out, manifest)
"""
GRID = f"study: mine\nstages: [02]\ngrid: {{{FIRST}.value: [3, 4], {SECOND}.value: "
TWELVE = GRID + "[5, 6, 7]}\nseeds: [0, 1]\n"
FOUR = GRID + "[6, 7]}\n"


def write(project, text, name="s"):
    (project / "params" / "sweeps" / f"{name}.yaml").write_text(text)


def stage_notebook(name, reads, pause):
    """A notebook that reads some stages and takes a while."""
    reads = ", ".join(f'artifacts.stage_inputs(study, "{r}")' for r in reads)
    return STAGE.format(stage=name, reads=reads, pause=pause)
