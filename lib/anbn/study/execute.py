"""One run of a stage: its notebook executed by papermill, its manifest completed.

`python -m anbn.study.execute` does it in a process of its own: the run comes as JSON on
standard input, the answer goes out as the last line of standard output. If the process
that started it ends, it ends itself and its kernel.
"""

import json
import os
import shutil
import sys
import threading
import time

from anbn.core import artifacts, params
from anbn.core.paths import project_root, stage_dir
from anbn.study import fingerprints
from anbn.study.task import answer, end

PATIENCE = 60.0  # s, for what a killed worker left behind to end itself


class StageError(RuntimeError):
    """A stage's notebook did not run to its end."""


class UnfitError(RuntimeError):
    """What was planned cannot run in this process."""


def run_stage(study, stage, values, expected):
    """Execute one stage's notebook by papermill, export HTML, complete its manifest.

    Parameters
    ----------
    study, stage : str
        It is written to ``stage_dir(study, stage)``.
    values : dict
        The notebook's parameters, checked.
    expected : str
        Its fingerprint.

    Raises
    ------
    StageError
        If a cell fails or the kernel dies. What ran so far stands in ``failed.ipynb``.
    """
    import jupytext
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    from anbn.study import page

    # A kernel of the user's home must not shadow the one of this environment.
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    os.environ["ANBN_UNATTENDED"] = "1"  # figures instead of widgets
    out = stage_dir(study, stage)
    out.mkdir(parents=True, exist_ok=True)
    for name in (artifacts.MANIFEST, "notebook.ipynb", "notebook.html", "failed.ipynb"):
        (out / name).unlink(missing_ok=True)
    running, source = out / "running.ipynb", out / "source.ipynb"
    start = time.perf_counter()
    try:
        nbformat.write(jupytext.read(params.notebook_path(stage)), source)
        with open(out / "stage.log", "w", encoding="utf-8") as log:
            papermill.execute_notebook(
                # papermill formats braces in paths
                *(
                    str(p).replace("{", "{{").replace("}", "}}")
                    for p in (source, running)
                ),
                parameters=values | {"study": study},
                kernel_name="python3",
                language="python",  # a .py without jupytext's header does not say
                progress_bar=False,
                coalesce_streams=True,  # a progress bar is one line, not hundreds
                config=Config({"KernelManager": {"transport_encryption": "auto"}}),
                stdout_file=log,
                stderr_file=log,
                cwd=str(project_root()),
            )
        manifest = artifacts.read_manifest(out)
        html = page.write_out(nbformat.read(running, as_version=4), manifest)
        with artifacts.atomic(out / "notebook.html") as temporary:
            temporary.write_text(html, encoding="utf-8")
        os.replace(running, out / "notebook.ipynb")
        artifacts.write_manifest(
            out,
            manifest
            | {"fingerprint": expected, "seconds": round(time.perf_counter() - start)}
            | {"html": artifacts.sha256(out / "notebook.html")},
        )
    except BaseException as error:
        (out / artifacts.MANIFEST).unlink(missing_ok=True)
        if running.is_file():
            os.replace(running, out / "failed.ipynb")
        if isinstance(error, papermill.PapermillExecutionError):
            what = f"cell {error.exec_count}: {error.ename}: {error.evalue}"
            raise StageError(what) from error
        # the last two come from a kernel that does not even begin
        if type(error) in (DeadKernelError, RuntimeError, TimeoutError):
            what = f"its kernel died: out of memory or disk, or killed ({error})"
            raise StageError(what) from error
        if isinstance(error, OSError):  # of a full disk, which does not say where
            raise StageError(f"{out} could not be written: {error}") from error
        raise
    finally:
        source.unlink(missing_ok=True)


def run(study, stage, values, fingerprint, upstream, versions=None):
    """Run one stage, unless it is up to date.

    Parameters
    ----------
    study, stage : str
    values : dict
        The notebook's parameters, checked.
    fingerprint : str
    upstream : dict of str to str
        Fingerprints of the stages it reads.
    versions : dict of str to str, optional
        Of the libraries where the fingerprint was made.

    Returns
    -------
    answer : dict
        See ``task.answer``.
    """
    out, start = stage_dir(study, stage), time.monotonic()
    try:
        if not out.parent.is_dir():
            raise UnfitError(
                f"{os.uname().nodename} does not see {out.parent}: outputs/ must be on "
                "a disk that all workers see (ANBN_OUTPUTS moves it)"
            )
        out.mkdir(exist_ok=True)
        # who ran it before, or its kernel, may not have noticed yet that it should end
        artifacts.hold(out, PATIENCE, ".running")
        artifacts.hold(out, PATIENCE)
        artifacts.release(out)
        (out / "failed.ipynb").unlink(missing_ok=True)
        if fingerprints.is_current(out, fingerprint):
            return answer("done")
        for path in out.rglob(".tmp-*"):
            shutil.rmtree(path, ignore_errors=True)
        _check_same(stage, values, fingerprint, upstream, versions)
        _check_upstream(out, upstream)
        run_stage(study, stage, values, fingerprint)
        _check_upstream(out, upstream)
    except UnfitError as error:
        return answer("unfit", str(error))
    except (StageError, artifacts.ArtifactError, params.ParamError, OSError) as error:
        seconds = time.monotonic() - start
        return answer("failed", str(error), ran=True, seconds=seconds)
    finally:
        artifacts.release(out, ".running")
    return answer("done", ran=True, seconds=time.monotonic() - start)


def _check_upstream(out, upstream):
    """What a stage reads is still what was planned: it may be run by hand meanwhile."""
    for name, expected in upstream.items():
        folder = out.parent / name
        if not folder.is_dir():  # the table that the report of a sweep reads
            continue
        if artifacts.read_manifest(folder)["fingerprint"] != expected:
            (out / artifacts.MANIFEST).unlink(missing_ok=True)
            raise StageError(
                f"{folder} was written by something else meanwhile: give the same "
                "command again"
            )


def _check_same(stage, values, fingerprint, upstream, versions):
    """What is to be run is what was planned, perhaps on another machine."""
    here = fingerprints.versions()
    others = [name for name in versions or () if versions[name] != here.get(name)]
    if others:
        wanted = ", ".join(f"{n} {here.get(n)}, not {versions[n]}" for n in others)
        raise UnfitError(
            f"{sys.executable} on {os.uname().nodename} computes with {wanted}. Give "
            "it the versions of requirements/."
        )
    if fingerprints.fingerprint(stage, values, upstream) != fingerprint:
        raise UnfitError(
            "the notebook, the library, its versions or data changed since this "
            f"began, or are others on {os.uname().nodename}: give the same command "
            "again"
        )


def _end_with(parent):
    """End this process and its kernel when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(0.3)
    end(os.getpid())


def main():
    job = json.load(sys.stdin)
    parent = job.pop("parent")
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    print("\n" + json.dumps(run(**job)), flush=True)


if __name__ == "__main__":
    main()
