"""Whether a stage is up to date: what its result depends on, as one hash."""

import functools
import hashlib
import json
import modulefinder
import os
import re
from pathlib import Path

from anbn.core import artifacts, params
from anbn.core.paths import ALICE, SOURCES, cache_dir, project_root, resolve, tidy


def notebook_source(stage):
    """Text of a stage's notebook without its jupytext header."""
    text = params.notebook_path(stage).read_text(encoding="utf-8")
    return re.sub(r"\A# ---\n.*?\n# ---\n", "", text, flags=re.DOTALL)


def imported_modules(source):
    """The anbn modules that Python source imports, and those that they import.

    Followed are imports of any form, also relative ones and those in functions.

    Parameters
    ----------
    source : str
        Python, not in a package itself, such as a notebook.

    Returns
    -------
    modules : dict of str to Path
        By dotted name, as "anbn.coupling.encoding"; packages by their own.
    """
    return _imported_modules(source, str(project_root() / "lib"))


@functools.cache  # a sweep asks for the same text many times
def _imported_modules(source, library):
    finder = modulefinder.ModuleFinder([library])
    code = compile(source, "<notebook>", "exec")
    finder.scan_code(code, finder.add_module("__main__"))
    found = {name: module.__file__ for name, module in finder.modules.items()}
    return {name: Path(found[name]) for name in sorted(found) if found[name]}


def fingerprint(stage, values, upstream):
    """SHA-256 of all that decides a stage's result.

    Parameters
    ----------
    stage : str
    values : dict
        All its parameters, checked.
    upstream : dict of str to str
        Fingerprints of the stages it reads.

    Returns
    -------
    fingerprint : str
        64 hexadecimal digits.
    """
    source = notebook_source(stage)
    folder = project_root() / "lib" / "anbn"
    parts = {
        "notebook": source,
        "params": {k: v for k, v in values.items() if k not in params.EXECUTION_KNOBS},
        "modules": {
            name: artifacts.sha256(path)
            for name, path in imported_modules(source).items()
        },
        "lists": {
            p.relative_to(folder).as_posix(): artifacts.sha256(p)
            for p in sorted(folder.rglob("*.txt"))
        },
        "versions": versions(),
        "upstream": upstream,
        "data": {spec: _data_hash(spec) for spec in data_specs(values)},
    }
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def data_specs(values):
    """Parameter values that name data: `package:...`, `alice:...`, ..., or a path."""
    lists = [v if isinstance(v, list) else [v] for v in values.values()]
    named = {v for values in lists for v in values if isinstance(v, str) and v}
    if values.get("bold") == "alice":
        named.add(f"{ALICE}alice_data_shared/{values['alice_radius']}")
    if values.get("bold") == "bids":  # the runs that are read, not the whole folder
        from anbn.brain import sources  # takes a second to load

        named.discard(values["bids_folder"])
        asked = ("task", "space", "desc", "subjects", "entities")
        asked = {name: values[name] for name in asked}
        for run in sources.runs_of_bids(values["bids_folder"], **asked):
            named |= {str(path) for path in (run.bold, run.confounds) if path}
    root = project_root()
    named |= {str(path) for spec in named for path in _beside(spec)}
    return sorted(
        v
        for v in named
        if v.startswith(SOURCES)
        or os.path.isfile(root / v)  # Path.is_file raises where a name is too long
        or ("/" in v and os.path.isdir(root / v))
    )


def _beside(spec):
    """Text files beside an image that say what it is: its TR, names of its regions."""
    if not re.search(r"\.(nii|nii\.gz|zip)$", spec):
        return []
    path = resolve(spec)
    stem = re.sub(r"(_[^_]*)?\.(nii|nii\.gz|zip)$", "", path.name)
    texts = (".json", ".tsv", ".csv", ".txt")
    return [p for p in tidy(path.parent.glob(f"{stem}*")) if p.suffix in texts]


def _data_hash(spec):
    """Hash of a data file, remembered by its path, size and times of change."""
    path = resolve(spec)
    files = tidy(path.rglob("*")) if path.is_dir() else [path]
    files = [p for p in files if p.is_file()]
    # archives set the time of change back (st_mtime), nobody sets st_ctime
    stats = [(p, p.stat()) for p in files]
    stats = [(str(p), s.st_size, s.st_mtime_ns, s.st_ctime_ns) for p, s in stats]
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()
    known = cache_dir() / "hashes" / key
    if known.is_file():
        found = known.read_text(encoding="utf-8", errors="replace")
        if re.fullmatch("[0-9a-f]{64}", found):
            return found
    found = artifacts.sha256(path)
    with artifacts.atomic(known) as temporary:
        temporary.write_text(found)
    return found


def versions():
    """Versions of the libraries that decide a number.

    The build does not count: torch is the same for a CPU and for CUDA.
    """
    found = artifacts.versions(artifacts.COMPUTING)
    return {name: version.partition("+")[0] for name, version in found.items()}


def other_versions(manifest):
    """Libraries that a stage's result was made with in another version than is here.

    Parameters
    ----------
    manifest : dict
        Of the stage.

    Returns
    -------
    others : dict of str to (str, str)
        By library: its version then and now.
    """
    provenance = manifest.get("provenance")
    made = provenance.get("packages") if isinstance(provenance, dict) else None
    made = made if isinstance(made, dict) else {}
    then = {name: str(made.get(name)).partition("+")[0] for name in made}
    return {
        name: (then[name], here)
        for name, here in versions().items()
        if name in then and then[name] != here
    }


def is_current(out, expected):
    """Whether a stage's folder has this fingerprint and all its files are whole."""
    try:
        manifest = artifacts.read_manifest(out)
        if manifest["fingerprint"] != expected or "checksum" not in manifest:
            return False
        notebook = artifacts.read_json(out / "notebook.ipynb")
        hashes = {name: f["sha256"] for name, f in manifest["files"].items()}
        hashes["notebook.html"] = manifest["html"]
        # a notebook may be saved again where it lies: its content is not compared
        return bool(notebook["cells"]) and all(
            artifacts.sha256(out / name) == found for name, found in hashes.items()
        )
    except (artifacts.ArtifactError, KeyError, TypeError, OSError):
        return False
