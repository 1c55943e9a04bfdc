"""Where things are: the project's folders, the cache, files in installed packages.

A parameter names files in the project, in an installed package or in a data set by a
path inside it, which ``..`` cannot leave; anything else on the machine is named by an
absolute path, so that it is seen to be meant. Links are followed.
"""

import importlib.util
import os
import re
from pathlib import Path, PurePath

import pooch

PACKAGE = "package:"  # marks a file or folder inside an installed Python package
ALICE = "alice:"  # marks one of the Alice data set (Brennan et al. 2016)
OPENNEURO = "openneuro:"  # marks one of a data set there: openneuro:ds000001/...
NARRATIVES = "narratives:"  # marks one of the Narratives data set (ds002345)
DATA = "data:"  # marks one inside the folder ANBN_DATA
STUDY_NAME = r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*"  # that of a sweep has a slash
SOURCES = (PACKAGE, ALICE, NARRATIVES, OPENNEURO, DATA)
ALICE_URL = (
    "https://raw.githubusercontent.com/daandouwe/Thesis/"
    "ec54039b6ac5ad7bf8c81b91768108e5be5c1ce0/brain-data/syntax-in-rnng/"
)


def project_root():
    """Folder that holds ``notebooks/`` and ``params/``, wherever Python was started.

    ``ANBN_ROOT`` overrides it; else the package's own checkout (editable install).

    Raises
    ------
    FileNotFoundError
        If no such folder is found.
    """
    root = Path(os.environ.get("ANBN_ROOT") or Path(__file__).resolve().parents[3])
    if not (root / "notebooks").is_dir():
        raise FileNotFoundError(
            f"no project at {root}: it has no notebooks/ folder. Install anbn from its "
            "checkout (`make env`) or set ANBN_ROOT to the checkout."
        )
    return root


def stage_number(stage):
    """What a stage is called for short: "01" of "01_activation_recording"."""
    return stage.partition("_")[0]


def stage_dir(study, stage):
    """Output folder of one stage of one study (``ANBN_OUTPUTS`` moves ``outputs/``).

    Raises
    ------
    FileNotFoundError
        If the study has a name that could lead elsewhere.
    """
    if not re.fullmatch(STUDY_NAME, study):
        raise FileNotFoundError(
            f"there can be no study {study!r}: a name has letters, digits, _ and - only"
        )
    return outputs_dir() / study / stage


def outputs_dir():
    """``outputs/``, or where ``ANBN_OUTPUTS`` says (relative to the project)."""
    return project_root() / (os.environ.get("ANBN_OUTPUTS") or "outputs")


def cache_dir():
    """Per-user cache for what is derived once (``ANBN_CACHE`` overrides it)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = project_root() / (os.environ.get("ANBN_CACHE") or Path(base) / "anbn")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror}: {path}. Set ANBN_CACHE to a folder you can write to",
        ) from error
    return path


def resolve(spec):
    """Path of a parameter that names a file or folder.

    Parameters
    ----------
    spec : str
        ``package:name/inner/path`` (a file shipped in an installed package, which is
        never imported), ``alice:inner/path`` (see ``fetch_alice``),
        ``narratives:inner/path`` (see ``anbn.brain.narratives``),
        ``openneuro:ds000001/inner/path`` (see ``anbn.brain.openneuro``),
        ``data:inner/path`` (inside ``ANBN_DATA``), an absolute path, or one relative
        to the project's root.

    Raises
    ------
    FileNotFoundError
        If there is nothing at that path, or it leaves where it begins.
    """
    spec = canonical(spec)
    source = next((s for s in SOURCES if spec.startswith(s)), "")
    _check_inside(spec, source)
    if source == PACKAGE:
        name, _, inner = spec.removeprefix(PACKAGE).partition("/")
        # of a dotted name Python would import (run) the package before the dot
        found = importlib.util.find_spec(name) if name.isidentifier() else None
        if found is None or not found.submodule_search_locations:
            raise FileNotFoundError(
                f"{spec!r}: the Python package {name!r} is not installed. Run `make "
                "env` (it installs requirements/data.txt), or name a file of your own."
            )
        path = Path(next(iter(found.submodule_search_locations))) / inner
    elif source == ALICE:
        path = fetch_alice(spec.removeprefix(ALICE))
    elif source in (NARRATIVES, OPENNEURO):
        name = source.removesuffix(":")
        path = data_dir(name) / spec.removeprefix(source)
        if not os.path.lexists(path):
            raise FileNotFoundError(
                f"{spec!r}: nothing at {path}. Fetch it: `make data STUDY=... "
                'SUBJECTS="sub-001 sub-002"`, or set ANBN_DATA to a folder that holds '
                f"{name}/."
            )
    elif source == DATA:
        if not os.environ.get("ANBN_DATA"):
            raise FileNotFoundError(
                f"{spec!r}: the environment variable ANBN_DATA is not set. Set it to "
                f"the folder that holds {spec.removeprefix(DATA)}."
            )
        path = data_dir(spec.removeprefix(DATA))
    else:
        path = project_root() / os.path.expanduser(spec)
    if os.path.islink(path) and not os.path.exists(path):
        raise FileNotFoundError(
            f"{spec!r}: {path} is a link to {os.readlink(path)!r:.200}, which is not "
            "here. Fetch the content (of git-annex or DataLad: `datalad get`)."
        )
    if not os.path.exists(path):  # Path.exists raises where a name is too long
        raise FileNotFoundError(f"{spec!r}: nothing found at {path}. Check the path.")
    return path


def canonical(spec):
    """``narratives:...`` of ``openneuro:ds002345/...``: more is known of that one."""
    return re.sub(f"^{OPENNEURO}ds002345/", NARRATIVES, spec)


def is_litter(path):
    """Whether a file or folder is what systems leave behind, not what people put there.

    macOS writes ``._name`` beside every ``name`` on a foreign disk, ``.DS_Store`` in
    folders and ``__MACOSX`` in zip files; Windows ``Thumbs.db`` and ``desktop.ini``;
    Python its bytecode, which differs between installations of the same package.
    """
    path = PurePath(path)
    folders = {"__MACOSX", "__pycache__"}
    hidden = path.name.startswith("._") or not folders.isdisjoint(path.parts)
    return hidden or path.name in (".DS_Store", "Thumbs.db", "desktop.ini")


def tidy(paths):
    """Paths in order, without what systems leave behind (``is_litter``)."""
    return sorted(path for path in paths if not is_litter(path))


def _check_inside(spec, source):
    """Refuse a relative path that climbs out of the project, package or data set."""
    inner = spec.removeprefix(source)
    if source == PACKAGE:
        inner = inner.partition("/")[2]
    if source and (inner.startswith("/") or ".." in Path(inner).parts):
        raise FileNotFoundError(
            f"{spec!r} leaves {source!r}: write a path inside it, without `..`, or the "
            "absolute path of a file of your own."
        )
    inner = os.path.normpath(inner)
    if inner.split(os.sep)[0] == os.pardir:
        raise FileNotFoundError(
            f"{spec!r} climbs out of the project. If it is meant, write the absolute "
            f"path: {os.path.normpath(project_root() / inner)}"
        )


def data_dir(name):
    """Folder of a data set: ``ANBN_DATA/name`` where that is set, else in the cache."""
    local = os.environ.get("ANBN_DATA")
    return (Path(local).resolve() if local else cache_dir()) / name


def fetch_alice(inner=""):
    """Path of a file or folder of the Alice data, after every SHA-256 was compared.

    Read from ``ANBN_DATA/alice`` where that variable is set, else downloaded once from
    the pinned public commit into the cache.

    Parameters
    ----------
    inner : str
        As in ``alice_data_shared/6mm``; all files, if empty.

    Raises
    ------
    FileNotFoundError
        If a file is missing, cannot be downloaded, or is not the published one.
    """
    local, folder = os.environ.get("ANBN_DATA"), data_dir("alice")
    fetcher = pooch.create(path=folder, base_url=ALICE_URL)
    fetcher.load_registry(Path(__file__).with_name("alice_registry.txt"))
    wanted = [name for name in fetcher.registry if name.startswith(inner)]
    if not wanted:
        raise FileNotFoundError(
            f"alice:{inner}: the data set has no such file or folder"
        )
    for name in wanted:
        path = folder / name
        try:
            if not local:
                fetcher.fetch(name)
            elif pooch.file_hash(path) != fetcher.registry[name].removeprefix(
                "sha256:"
            ):
                raise ValueError("its SHA-256 is not that of the published file")
        except (OSError, ValueError) as error:
            raise FileNotFoundError(
                f"{path}: {error}. Set ANBN_DATA to a folder that holds alice/, or "
                "unset it and go online once: `make data STUDY=alice`."
            ) from error
    return folder / inner
