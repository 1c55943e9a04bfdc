"""Check what Binder needs as far as it can be checked here (`make binder-check`).

Prints what was checked, what failed and what was not checked; ends with 1 if anything
failed. An image is never built. Needs an index of packages for the parts that install.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import jupytext
import yaml
from packaging.specifiers import SpecifierSet

sys.path.insert(0, str(Path(__file__).parent))
from make_lock import pip_section

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("lock.txt", "lock-torch.txt")
PINNED = re.compile(r"(?m)^[A-Za-z0-9_.-]+==[^\s;]+")


class Failed(Exception):
    """A check found something wrong."""


class Unchecked(Exception):
    """A check could not be made here."""


def run(*command, **options):
    """What a command prints; Failed, with the end of it, if the command fails."""
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, **both, **options)
    if done.returncode:
        raise Failed("\n".join(done.stdout.strip().splitlines()[-5:]))
    return done.stdout


def install(folder, *what):
    """Interpreter of a new environment in a folder, with packages in it."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    try:
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run(*pip, *what)
    except Failed as error:
        raise Unchecked(f"{what[-1]} could not be installed: {error}") from error
    return python


def checkout(folder):
    """Copy of the files that git has or would take, as Binder gets them."""
    listed = run("git", "ls-files", "-co", "--exclude-standard", "-z", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def environment(_):
    """environment.yml: a name, a channel, Python, pip, and the project itself"""
    found = yaml.safe_load((ROOT / "environment.yml").read_text())
    names = [re.split(r"[<>=]", d)[0] for d in found["dependencies"] if type(d) is str]
    (pip,) = [d["pip"] for d in found["dependencies"] if isinstance(d, dict)]
    if not (found["name"] and found["channels"] and pip[-1] == "-e ."):
        raise Failed(
            "name, channels or `-e .` at the end of its pip section is missing"
        )
    if not {"python", "pip"} <= set(names):
        raise Failed(f"python and pip must be among {', '.join(names)}")
    return f"{len(names)} conda packages, {len(pip) - 1} by pip"


def resolves(folder):
    """the pip section resolves, and to the versions that are locked"""
    locked = "".join((ROOT / "requirements" / name).read_text() for name in LOCKS)
    out = folder / "lock.txt"
    out.write_text("\n".join(PINNED.findall(locked)))  # uv prefers what stands there
    command = [sys.executable, "-m", "uv", "pip", "compile", "-", "--quiet"]
    command += ["--universal", "--python-version", "3.11", "--no-annotate"]
    try:
        run(*command, "-o", str(out), input="\n".join(pip_section()))
    except Failed as error:
        if "fetch" in str(error) or "No module named uv" in str(error):
            raise Unchecked(str(error)) from error
        raise
    now, before = set(PINNED.findall(out.read_text())), set(PINNED.findall(locked))
    if now != before:
        raise Failed(f"run `make lock`: {', '.join(sorted(now ^ before))}")
    return f"{len(now)} pinned packages"


def detected(folder):
    """repo2docker takes environment.yml and postBuild"""
    python = install(folder / "repo2docker", "jupyter-repo2docker")
    command = [python, "-m", "repo2docker", "--no-build", "--debug"]
    command += ["--user-id", "1000", "--user-name", "jovyan", "."]
    said = run(*command, cwd=checkout(folder / "checkout"))
    for step in ('env update -p .* --file "environment.yml"', r"RUN \./postBuild"):
        if not re.search(step, said):
            raise Failed(f"its Dockerfile has no step {step!r}")
    version = re.search(r"conda environment for python=([\d.]+)", said)[1]
    found = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (asked,) = [d for d in found if type(d) is str and d.startswith("python")]
    allowed = re.sub(r"^=(?==?\d)", "==", re.sub(r"^python\s*", "", asked))
    allowed = re.sub(r"^=(\d[\d.]*)$", r"==\1.*", allowed)
    if version not in SpecifierSet(allowed):
        raise Failed(
            f"it starts from Python {version}, which is not {asked}: it understands "
            "only `python=3.x`"
        )
    return f"a Dockerfile, Python {version}"


def post_build(folder):
    """postBuild runs in a new environment"""
    if not os.access(ROOT / "postBuild", os.X_OK):
        raise Failed("it is not executable")
    run("bash", "-n", str(ROOT / "postBuild"))
    lock = (ROOT / "requirements" / "lock.txt").read_text()
    python = install(folder / "env", *re.findall(r"(?m)^jupytext==[^\s;]+", lock))
    path = f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"
    there = checkout(folder / "built")
    run(str(there / "postBuild"), cwd=folder, env=os.environ | {"PATH": path})
    made = {p.stem for p in there.glob("notebooks/*.ipynb")}
    if made != {p.stem for p in there.glob("notebooks/*.py")}:
        raise Failed(f"it made only {sorted(made)} of notebooks/*.ipynb")
    return f"models and texts installed, {len(made)} notebooks paired"


def notebooks(_):
    """the notebooks open, with the kernel that Binder has"""
    paths = sorted((ROOT / "notebooks").glob("*.py"))
    for path in paths:
        opened = jupytext.read(path)
        if opened.metadata.get("kernelspec", {}).get("name") != "python3":
            raise Failed(f"{path.name}: its kernel is not python3")
    return f"{len(paths)} notebooks"


def conda(_):
    """conda solves environment.yml"""
    found = next(
        filter(None, map(shutil.which, ("conda", "mamba", "micromamba"))), None
    )
    if not found:
        raise Unchecked("no conda, mamba or micromamba here")
    command = ("env", "create") if found.endswith("a") else ("create",)
    run(
        found,
        *command,
        "--dry-run",
        "-n",
        "anbn-check",
        "-f",
        "environment.yml",
        cwd=ROOT,
    )
    return found


def image(_):
    """the image is built and starts (`repo2docker .`; mybinder.org)"""
    raise Unchecked("never done here")


CHECKS = (environment, notebooks, resolves, detected, post_build, conda, image)


def main():
    n_failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        for check in CHECKS:
            folder = Path(temporary) / check.__name__
            folder.mkdir()
            try:
                state, said = "checked", check(folder)
            except Unchecked as error:
                state, said = "NOT CHECKED", error
            except Failed as error:
                state, said, n_failed = "FAILED", error, n_failed + 1
            print(f"{state:12}{check.__doc__}: {said}", flush=True)
    sys.exit(1 if n_failed else 0)


if __name__ == "__main__":
    main()
