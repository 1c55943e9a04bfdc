"""Where things are: the project's folders, the cache, files in installed packages."""

import importlib.util
import os
from pathlib import Path

import pooch

PACKAGE = "package:"  # marks a file or folder inside an installed Python package
ALICE = "alice:"  # marks one of the Alice data set (Brennan et al. 2016)
NARRATIVES = "narratives:"  # marks one of the Narratives data set (ds002345)
DATA = "data:"  # marks one inside the folder ANBN_DATA
SOURCES = (PACKAGE, ALICE, NARRATIVES, DATA)
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
    root = Path(os.environ.get("ANBN_ROOT") or Path(__file__).resolve().parents[2])
    if not (root / "notebooks").is_dir():
        raise FileNotFoundError(
            f"no project at {root}: it has no notebooks/ folder. Install anbn from its "
            "checkout (`make env`) or set ANBN_ROOT to the checkout."
        )
    return root


def stage_dir(study, stage):
    """Output folder of one stage of one study (``ANBN_OUTPUTS`` moves ``outputs/``)."""
    outputs = os.environ.get("ANBN_OUTPUTS") or project_root() / "outputs"
    return Path(outputs) / study / stage


def cache_dir():
    """Per-user cache for what is derived once (``ANBN_CACHE`` overrides it)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(os.environ.get("ANBN_CACHE") or Path(base) / "anbn")
    path.mkdir(parents=True, exist_ok=True)
    return path


def resolve(spec):
    """Path of a parameter that names a file or folder.

    Parameters
    ----------
    spec : str
        ``package:name/inner/path`` (a file shipped in an installed package, which is
        never imported), ``alice:inner/path`` (see ``fetch_alice``),
        ``narratives:inner/path`` (see ``anbn.narratives_fetch``), ``data:inner/path``
        (inside ``ANBN_DATA``), an absolute path, or one relative to the project's root.

    Raises
    ------
    FileNotFoundError
        If there is nothing at that path.
    """
    if spec.startswith(PACKAGE):
        name, _, inner = spec.removeprefix(PACKAGE).partition("/")
        found = importlib.util.find_spec(name)
        if found is None or not found.submodule_search_locations:
            raise FileNotFoundError(
                f"{spec!r}: the Python package {name!r} is not installed. Run `make "
                "env` (it installs requirements/data.txt), or name a file of your own."
            )
        path = Path(next(iter(found.submodule_search_locations))) / inner
    elif spec.startswith(ALICE):
        path = fetch_alice(spec.removeprefix(ALICE))
    elif spec.startswith(NARRATIVES):
        path = data_dir("narratives") / spec.removeprefix(NARRATIVES)
        if not path.exists():
            raise FileNotFoundError(
                f"{spec!r}: nothing at {path}. Fetch it: `make data STUDY=... "
                'SUBJECTS="sub-001 sub-002"`, or set ANBN_DATA to a folder that holds '
                "narratives/."
            )
    elif spec.startswith(DATA):
        if not os.environ.get("ANBN_DATA"):
            raise FileNotFoundError(
                f"{spec!r}: the environment variable ANBN_DATA is not set. Set it to "
                f"the folder that holds {spec.removeprefix(DATA)}."
            )
        path = data_dir(spec.removeprefix(DATA))
    else:
        path = project_root() / Path(spec).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{spec!r}: nothing found at {path}. Check the path.")
    return path


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
