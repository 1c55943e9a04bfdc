"""Run the notebooks of a study, stage by stage, and skip what is up to date.

A stage is up to date when the fingerprint in its manifest is the one it would get
now: what its notebook says, its parameters, the modules it imports, the versions of the
libraries that compute, the stages and data files it reads. How it runs (device, jobs,
batch size) and when files were saved do not count.
"""

import argparse
import fcntl
import os
import shutil
import sys
import time
from contextlib import contextmanager

from anbn.brain import bids, narratives
from anbn.core import artifacts, params
from anbn.core.paths import project_root, stage_dir, stage_number
from anbn.study import fingerprints, notebooks


class StageError(RuntimeError):
    """A stage's notebook did not run to its end."""


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
    from nbconvert import HTMLExporter
    from traitlets.config import Config

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
        html, _ = HTMLExporter(exclude_input_prompt=True).from_filename(str(running))
        with artifacts.atomic(out / "notebook.html") as temporary:
            temporary.write_text(html, encoding="utf-8")
        os.replace(running, out / "notebook.ipynb")
        artifacts.write_manifest(
            out,
            artifacts.read_manifest(out)
            | {"fingerprint": expected, "seconds": round(time.perf_counter() - start)}
            | {"html": artifacts.sha256(out / "notebook.html")},
        )
    except BaseException as error:
        (out / artifacts.MANIFEST).unlink(missing_ok=True)
        if running.is_file():
            os.replace(running, out / "failed.ipynb")
        where = f"The notebook up to there: {os.path.relpath(out / 'failed.ipynb')}"
        if isinstance(error, papermill.PapermillExecutionError):
            what = f"cell {error.exec_count}: {error.ename}: {error.evalue}"
            raise StageError(f"{study}/{stage}, {what}\n{where}") from error
        # the last two come from a kernel that does not even begin
        if type(error) in (DeadKernelError, RuntimeError, TimeoutError):
            what = f"its kernel died: out of memory or disk, or killed ({error})"
            raise StageError(f"{study}/{stage}, {what}\n{where}") from error
        if isinstance(error, OSError):  # of a full disk, which does not say where
            raise StageError(f"{out} could not be written: {error}") from error
        raise
    finally:
        source.unlink(missing_ok=True)


@contextmanager
def study_lock(study):
    """Let one process at a time write a study.

    Raises
    ------
    SystemExit
        If another process holds it. The lock ends with its process, however that ends.
    """
    path = stage_dir(study, ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(
                f"study {study!r} is being run by another process ({path} is locked)"
            )
        yield


def remove_leftovers(study):
    """Remove temporary files that a killed run left in a study's folder."""
    for path in stage_dir(study, "").rglob(".tmp-*"):
        shutil.rmtree(path, ignore_errors=True)


def run_study(study, wanted):
    """Run the given stages of a study, and the earlier ones they read, where needed.

    Parameters
    ----------
    study : str
        A folder of ``params/``.
    wanted : list of str
        Names of stages, in order.

    Returns
    -------
    n_run : int
        How many stages were executed.
    """
    reads = notebooks.needed(study, wanted)
    # all parameters are checked before anything runs
    values = {stage: params.read(study, stage) for stage in reads}
    found, n_run = {}, 0
    with study_lock(study):
        remove_leftovers(study)
        for stage in reads:
            upstream = {name: found[name] for name in reads[stage]}
            found[stage] = fingerprints.fingerprint(stage, values[stage], upstream)
            if fingerprints.is_current(stage_dir(study, stage), found[stage]):
                print(f"{study}/{stage}: up to date", flush=True)
                continue
            _say_other_versions(study, stage)
            log = os.path.relpath(stage_dir(study, stage) / "stage.log")
            print(f"{study}/{stage}: running (progress in {log})", flush=True)
            start = time.perf_counter()
            run_stage(study, stage, values[stage], found[stage])
            n_run += 1
            seconds = time.perf_counter() - start
            print(f"{study}/{stage}: done in {seconds:.0f} s", flush=True)
    return n_run


def _say_other_versions(study, stage):
    try:
        manifest = artifacts.read_manifest(stage_dir(study, stage))
    except artifacts.ArtifactError:  # there is none, or it is damaged
        return
    for name, (made, here) in fingerprints.other_versions(manifest).items():
        print(f"{study}/{stage}: made with {name} {made}, here is {here}")


def _wanted(study, given, parser):
    """Full names of the stages asked for, by number or name; all without any."""
    every = notebooks.names()
    for name in given:
        if not any(name in (stage, stage_number(stage)) for stage in every):
            numbers = " ".join(map(stage_number, every))
            parser.error(f"no stage {name!r}; stages are {numbers}")
    if not given:
        return notebooks.of_study(study)
    return [s for s in every if s in given or stage_number(s) in given]


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m anbn.study.pipeline", description=__doc__
    )
    parser.add_argument("study", help="a folder of params/")
    parser.add_argument("stages", nargs="*", help="as 01 02; all if none is given")
    options = parser.parse_args(arguments)
    try:
        wanted = _wanted(options.study, options.stages, parser)
        run_study(options.study, wanted)
    except (
        params.ParamError,
        artifacts.ArtifactError,
        StageError,
        OSError,
        bids.BidsError,
        narratives.NarrativesError,
    ) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
