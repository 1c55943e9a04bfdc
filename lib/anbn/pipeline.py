"""Run the notebooks of a study, stage by stage, and skip what is up to date.

A stage is up to date when the fingerprint in its manifest is the one it would get
now: what its notebook says, its parameters, the modules it imports, the stages and
data files it reads. How it runs (device, jobs, batch size) and when files were saved do
not count.
"""

import argparse
import ast
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import time
from contextlib import contextmanager

from anbn import artifacts, params
from anbn.paths import ALICE, PACKAGE, cache_dir, project_root, resolve, stage_dir

# What each stage reads of earlier ones (its notebook's `stage_inputs` calls).
STAGES = {
    "01_activation_recording": [],
    "02_fbn_extraction": ["01_activation_recording"],
    "03_an_bn_coupling": ["01_activation_recording", "02_fbn_extraction"],
    "04_key_neuron_masking": ["01_activation_recording", "02_fbn_extraction"],
}


class StageError(RuntimeError):
    """A stage's notebook did not run to its end."""


def notebook_source(stage):
    """Text of a stage's notebook without its jupytext header."""
    text = params.notebook_path(stage).read_text(encoding="utf-8")
    return re.sub(r"\A# ---\n.*?\n# ---\n", "", text, flags=re.DOTALL)


def imported_modules(source):
    """Names of the anbn modules that Python source imports, and those they import."""
    folder = project_root() / "lib" / "anbn"
    found, todo = set(), [source]
    while todo:
        for node in ast.walk(ast.parse(todo.pop())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module == "anbn":
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module.removeprefix("anbn.")]
            elif isinstance(node, ast.Import):
                names = [alias.name.removeprefix("anbn.") for alias in node.names]
            for name in names:
                if name not in found and (folder / f"{name}.py").is_file():
                    found.add(name)
                    todo.append((folder / f"{name}.py").read_text(encoding="utf-8"))
    return sorted(found)


def fingerprint(study, stage, upstream):
    """SHA-256 of all that decides a stage's result.

    Parameters
    ----------
    study, stage : str
    upstream : dict of str to str
        Fingerprints of the stages it reads.

    Returns
    -------
    fingerprint : str
        64 hexadecimal digits.
    """
    source, values = notebook_source(stage), params.read(study, stage)
    folder = project_root() / "lib" / "anbn"
    parts = {
        "notebook": source,
        "params": {k: v for k, v in values.items() if k not in params.EXECUTION_KNOBS},
        "modules": {
            m: artifacts.sha256(folder / f"{m}.py") for m in imported_modules(source)
        },
        "lists": {p.name: artifacts.sha256(p) for p in sorted(folder.glob("*.txt"))},
        "upstream": upstream,
        "data": {spec: _data_hash(spec) for spec in _data_specs(values)},
    }
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _data_specs(values):
    """Parameter values that name data: `package:...`, `alice:...`, or a path."""
    lists = [v if isinstance(v, list) else [v] for v in values.values()]
    named = {v for values in lists for v in values if isinstance(v, str) and v}
    if values.get("bold") == "alice":
        named.add(f"{ALICE}alice_data_shared/{values['alice_radius']}")
    root = project_root()
    return sorted(
        v
        for v in named
        if v.startswith((PACKAGE, ALICE))
        or (root / v).is_file()
        or ("/" in v and (root / v).is_dir())
    )


def _data_hash(spec):
    """Hash of a data file, remembered by its path, size and time of change."""
    path = resolve(spec)
    files = sorted(
        p for p in (path.rglob("*") if path.is_dir() else [path]) if p.is_file()
    )
    stats = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()
    known = cache_dir() / "hashes" / key
    if not known.is_file():
        with artifacts.atomic(known) as temporary:
            temporary.write_text(artifacts.sha256(path))
    return known.read_text()


def is_current(study, stage, expected):
    """Whether a stage's manifest has this fingerprint and its files are all there."""
    out = stage_dir(study, stage)
    try:
        manifest = artifacts.read_json(out / artifacts.MANIFEST)
        files = manifest["files"].items()
        whole = all(artifacts.size(out / name) == f["bytes"] for name, f in files)
    except (artifacts.ArtifactError, KeyError, OSError):
        return False
    whole &= all((out / f"notebook.{kind}").is_file() for kind in ("ipynb", "html"))
    return whole and manifest["fingerprint"] == expected


def run_stage(study, stage, expected):
    """Execute one stage's notebook by papermill, export HTML, complete its manifest.

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
    # tqdm's widgets are not used; their absence needs no warning in a notebook.
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"
    out = stage_dir(study, stage)
    out.mkdir(parents=True, exist_ok=True)
    for name in (artifacts.MANIFEST, "notebook.ipynb", "notebook.html", "failed.ipynb"):
        (out / name).unlink(missing_ok=True)
    running, source = out / "running.ipynb", out / "source.ipynb"
    nbformat.write(jupytext.read(params.notebook_path(stage)), source)
    try:
        with open(out / "stage.log", "w", encoding="utf-8") as log:
            papermill.execute_notebook(
                # papermill formats braces in paths
                *(
                    str(p).replace("{", "{{").replace("}", "}}")
                    for p in (source, running)
                ),
                parameters=params.read(study, stage),
                kernel_name="python3",
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
        manifest = artifacts.read_json(out / artifacts.MANIFEST)
        artifacts.write_json(
            out / artifacts.MANIFEST, manifest | {"fingerprint": expected}
        )
    except BaseException as error:
        (out / artifacts.MANIFEST).unlink(missing_ok=True)
        if running.is_file():
            os.replace(running, out / "failed.ipynb")
        where = f"The notebook up to there: {os.path.relpath(out / 'failed.ipynb')}"
        if isinstance(error, papermill.PapermillExecutionError):
            what = f"cell {error.exec_count}: {error.ename}: {error.evalue}"
            raise StageError(f"{study}/{stage}, {what}\n{where}") from error
        if isinstance(error, DeadKernelError):
            what = "its kernel died: out of memory, or killed"
            raise StageError(f"{study}/{stage}, {what}\n{where}") from error
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


def run_study(study, stages):
    """Run the given stages of a study, and the earlier ones they read, where needed.

    Parameters
    ----------
    study : str
        A folder of ``params/``.
    stages : list of str
        Names of stages, in order.

    Returns
    -------
    n_run : int
        How many stages were executed.
    """
    wanted = [s for s in STAGES if s in stages or any(s in STAGES[t] for t in stages)]
    for stage in wanted:  # all parameters are checked before anything runs
        params.read(study, stage)
    fingerprints, n_run = {}, 0
    with study_lock(study):
        remove_leftovers(study)
        for stage in wanted:
            reads = {name: fingerprints[name] for name in STAGES[stage]}
            fingerprints[stage] = fingerprint(study, stage, reads)
            if is_current(study, stage, fingerprints[stage]):
                print(f"{study}/{stage}: up to date", flush=True)
                continue
            log = os.path.relpath(stage_dir(study, stage) / "stage.log")
            print(f"{study}/{stage}: running (progress in {log})", flush=True)
            start = time.perf_counter()
            run_stage(study, stage, fingerprints[stage])
            n_run += 1
            seconds = time.perf_counter() - start
            print(f"{study}/{stage}: done in {seconds:.0f} s", flush=True)
    return n_run


def fetch_data(study):
    """Fetch, or find, every file a study's parameters name, and say where it is."""
    for stage in STAGES:
        for spec in _data_specs(params.read(study, stage)):
            print(f"{spec}\n  {resolve(spec)}")


def report(study):
    """Print the summary of every stage that has run."""
    for stage in STAGES:
        path = stage_dir(study, stage) / artifacts.MANIFEST
        if not path.is_file():
            print(f"{study}/{stage}: has not run")
            continue
        manifest = artifacts.read_json(path)
        print(f"{study}/{stage}" + " (simulated data)" * manifest["simulated"])
        for name, value in sorted(manifest["summary"].items()):
            print(f"  {name:34} {value}")


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m anbn.pipeline", description=__doc__
    )
    parser.add_argument("study", help="a folder of params/")
    parser.add_argument(
        "stages", nargs="*", help="as 01 02 03 04; all if none is given"
    )
    parser.add_argument("--data", action="store_true", help="only fetch the data")
    parser.add_argument(
        "--report", action="store_true", help="only print the summaries"
    )
    options = parser.parse_args(arguments)
    numbers = [name[:2] for name in STAGES]
    unknown = [n for n in options.stages if n not in numbers]
    if unknown:
        parser.error(f"no stage {unknown[0]!r}; stages are {' '.join(numbers)}")
    chosen = [s for s in STAGES if not options.stages or s[:2] in options.stages]
    try:
        if options.data:
            fetch_data(options.study)
        elif options.report:
            report(options.study)
        else:
            run_study(options.study, chosen)
    except (
        params.ParamError,
        artifacts.ArtifactError,
        StageError,
        FileNotFoundError,
    ) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
