"""Remake the hashed lock files from environment.yml and pyproject.toml (`make lock`).

Writes `lock.txt` (everything but torch), `lock-torch.txt` (torch as on PyPI: with CUDA
on Linux, Metal on macOS) and `lock-torch-cpu.txt` (the small CPU-only build, which pip
finds only where a CPU wheel index or folder is configured). `make env` installs the
first and one of the other two. `lock-browser.txt` is what `make test-browser` adds.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

HERE = Path(__file__).parent
TORCH = re.compile(r"(torch==|nvidia|cuda|triton)")
TORCH_CPU = """torch==2.13.0+cpu \\
    --hash=sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b
""".rstrip()  # torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl


def pip_section():
    """Requirements of environment.yml's pip section, without the project itself."""
    environment = yaml.safe_load((HERE.parent / "environment.yml").read_text())
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    return [requirement for requirement in pip if not requirement.startswith("-e")]


def browser_group():
    """Requirements of the dependency group for tests in a browser."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
    return project["dependency-groups"]["browser"]


def compile_lock(requirements):
    """All pinned packages with their hashes, for every platform, by uv."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "-", "--quiet"]
    command += ["--universal", "--python-version", "3.11", "--generate-hashes"]
    command += ["--no-annotate", "--no-header"]
    text = "\n".join(requirements)
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return re.split(r"\n(?=\S)", done.stdout.rstrip("\n"))


def name_of(pinned):
    return pinned.split("==")[0]


def main():
    locked = compile_lock(pip_section())
    there = {name_of(pinned) for pinned in locked}
    browser = [p for p in compile_lock(browser_group()) if name_of(p) not in there]
    header = "# Made by `make lock`; do not edit.\n"
    files = {
        "lock.txt": [p for p in locked if not TORCH.match(p)],
        "lock-torch.txt": [p for p in locked if TORCH.match(p)],
        "lock-torch-cpu.txt": [TORCH_CPU],
        "lock-browser.txt": browser,
    }
    for name, pinned in files.items():
        (HERE / name).write_text(header + "\n".join(pinned) + "\n")
        print(f"requirements/{name}: {len(pinned)} pinned packages")


if __name__ == "__main__":
    main()
