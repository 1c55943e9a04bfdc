"""What a stage's manifest says, and whether it still says it.

A manifest carries a checksum of its own, so that a number edited by hand, or lost to a
failing disk, is noticed before it is reported.
"""

import hashlib
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import PurePosixPath

from anbn.paths import project_root

VERSIONS_OF = ("torch", "transformers", "nilearn", "scikit-learn", "himalaya", "numpy")
KINDS = {"stage": str, "simulated": bool, "summary": dict, "params": dict}
KINDS |= {"files": dict, "fingerprint": str | None}
PLACES = ("data", "figures")


def seal(manifest):
    """The manifest with its checksum."""
    return manifest | {"checksum": _checksum(manifest)}


def _checksum(manifest):
    content = {name: manifest[name] for name in manifest if name != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def complaint(manifest):
    """What is wrong with a manifest that was read; None if nothing is."""
    if not isinstance(manifest, dict):
        return f"expected a manifest, found {manifest!r:.40}"
    if manifest.get("checksum", "") not in ("", _checksum(manifest)):
        return "its checksum differs: it was edited by hand or damaged"
    for key, kind in KINDS.items():
        if key not in manifest or not isinstance(manifest[key], kind):
            return f"{key} is missing or wrong, found {manifest.get(key)!r:.40}"
    for name, file in manifest["files"].items():
        parts = PurePosixPath(name).parts
        if len(parts) < 2 or parts[0] not in PLACES or ".." in parts:
            return f"it lists {name!r:.80}, which is not in {' or '.join(PLACES)}"
        if not isinstance(file, dict) or {"sha256", "bytes"} - set(file):
            return f"sha256 and bytes of {name!r} are missing, found {file!r:.40}"
    return None


def provenance():
    """Versions, machine and commit that made a result."""
    commit = subprocess.run(
        ["git", "-C", str(project_root()), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
    )
    return {
        "commit": commit.stdout.strip() or None,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in VERSIONS_OF},
    }
