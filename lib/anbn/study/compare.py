"""Two studies side by side: what differs in parameters, in versions and in results."""

import argparse
import json
import os
import sys

import pandas as pd

from anbn.core import artifacts
from anbn.core.params import EXECUTION_KNOBS, ParamError, did_you_mean
from anbn.core.paths import outputs_dir, stage_number
from anbn.study import notebooks

COLUMNS = ("part", "stage", "name", "a", "b", "difference", "ratio")
ABSENT = "-"  # in a table: one of the two does not have it
WIDTH = 44  # characters of a value when printed


def study_folder(name):
    """Folder of a study, or of a point of a sweep, written `sweep/point`.

    Raises
    ------
    ParamError
        If there is none; says which there are.
    """
    there = _studies()
    if name not in there:
        sweep, slash, _ = name.partition("/")
        near = [n for n in there if n.startswith(f"{sweep}/")] if slash else list(there)
        kind = f"no results of a point {name!r}" if slash else f"no results of {name!r}"
        kind = kind if name else f"{kind} (compare two: A=study1 B=study2)"
        listed = ", ".join((near or list(there))[:12])
        raise ParamError(
            f"{kind}{did_you_mean(name, list(there))}. There are: {listed or 'none'}. "
            f"Run `make {'sweep SWEEP=' + sweep if slash else 'all STUDY=' + name}`."
        )
    return there[name]


def _studies():
    """Name -> folder of whatever has results."""
    outputs = outputs_dir()
    found = {}
    for pattern in ("*", "sweeps/*/points/*"):
        for folder in sorted(outputs.glob(pattern)):
            if any((folder / stage).is_dir() for stage in notebooks.names()):
                parts = folder.relative_to(outputs).parts
                name = f"{parts[1]}/{parts[3]}" if len(parts) > 1 else parts[0]
                found[name] = folder
    return found


def manifests(folder, name):
    """Manifests of the stages that have run, and what is wrong with the others.

    Returns
    -------
    found : dict of str to dict
        With the versions of packages beside the rest of ``provenance``.
    problems : dict of str to str
        Of stages that did not run to their end, or whose manifest is damaged.
    """
    found, problems = {}, {}
    point = "/" in name
    asked = [] if point else notebooks.of_study(name)
    for stage in notebooks.names():
        out = folder / stage
        if (out / artifacts.MANIFEST).is_file():
            try:
                manifest = artifacts.read_manifest(out)
                made = manifest["provenance"]
                manifest["provenance"] = made | made.pop("packages")
                found[stage] = manifest
            except artifacts.ArtifactError as error:
                problems[stage] = f"damaged: {error}"
            except (KeyError, TypeError, AttributeError):
                problems[stage] = f"damaged: {out / artifacts.MANIFEST}: no provenance"
        elif (out / "failed.ipynb").is_file():
            problems[stage] = f"failed, see {os.path.relpath(out / 'failed.ipynb')}"
        elif out.is_dir() or out.is_symlink() or stage in asked:
            again = (
                "make sweep" if point else f"make {stage_number(stage)} STUDY={name}"
            )
            problems[stage] = f"has not run (`{again}`)"
    return found, problems


def differences(a, b):
    """Everything that differs between two studies.

    Parameters
    ----------
    a, b : dict of str to dict
        Manifests of their stages.

    Returns
    -------
    table : DataFrame
        ``part`` (parameter, run, version, files, result), ``stage``, ``name``, ``a``,
        ``b``; of results that are numbers also ``difference`` (b - a) and ``ratio``
        (b / a). Results are listed also where they are equal.
    """
    rows = []
    for stage in (s for s in notebooks.names() if s in a and s in b):
        one, other = a[stage], b[stage]
        for part, key in (("parameter", "params"), ("version", "provenance")):
            for name, x, y in _pairs(one[key], other[key]):
                how = "run" if key == "params" and name in EXECUTION_KNOBS else part
                if x != y and name != "study":
                    rows.append((how, stage, name, x, y, None, None))
        n_files = len(one["files"]), len(other["files"])
        shared = set(one["files"]) & set(other["files"])
        n_other = sum(
            one["files"][f]["sha256"] != other["files"][f]["sha256"] for f in shared
        )
        counts = f"{n_other} of {len(shared)} shared files differ"
        rows.append(("files", stage, counts, *n_files, None, None))
    for stage in notebooks.names():
        summaries = [m.get(stage, {}).get("summary", {}) for m in (a, b)]
        for name, x, y in _pairs(*summaries):
            numbers = {type(x), type(y)} <= {int, float}
            ratio = y / x if numbers and x else None
            rows.append(
                ("result", stage, name, x, y, y - x if numbers else None, ratio)
            )
    return pd.DataFrame(rows, columns=COLUMNS).astype(object)


def _pairs(one, other):
    for name in sorted(set(one) | set(other)):
        yield name, one.get(name, ABSENT), other.get(name, ABSENT)


def caveats(a, b, table):
    """Why a difference in results cannot be read as one of parameters; none if it can.

    Returns
    -------
    reasons : list of str
    """
    reasons = []
    versions = table[table["part"] == "version"]
    commits = versions[versions["name"] == "commit"]
    for (x, y), rows in commits.groupby(["a", "b"], dropna=False):
        reasons.append(
            f"other code: commit {x} against {y} ({_stages_of(rows['stage'])})"
        )
    for label, study in (("A", a), ("B", b)):
        commit = {s: str(m["provenance"].get("commit")) for s, m in study.items()}
        dirty = [s for s, c in commit.items() if c.endswith("-dirty") or c == "None"]
        if dirty:
            reasons.append(
                f"{label} ran on code that no commit holds ({_stages_of(dirty)})"
            )
        by_hand = [s for s, m in study.items() if not m["fingerprint"]]
        if by_hand:
            reasons.append(f"{label} ran by hand ({_stages_of(by_hand)})")
    others = sorted(set(versions["name"]) - {"commit"})
    if others:
        reasons.append(f"other versions or machine: {', '.join(others)}")
    shared = [s for s in a if s in b]
    if any(a[s]["simulated"] != b[s]["simulated"] for s in shared):
        reasons.append("one has simulated data, the other real data")
    n_changed = (table["part"] == "parameter").sum()
    if n_changed > 1:
        reasons.append(f"{n_changed} parameters differ, not one")
    elif not n_changed and any(
        a[s]["fingerprint"] != b[s]["fingerprint"] for s in shared
    ):
        reasons.append("equal parameters, other notebooks, library or data files")
    return reasons


def _stages_of(names):
    return f"stages {', '.join(map(stage_number, names))}"


def print_comparison(names, a, b, problems, table):
    """Print what differs as text tables."""
    print("\n".join(f"{k} = {n}" for k, n in zip("AB", names, strict=True)))
    for label, name, wrong in zip("AB", names, problems, strict=True):
        for stage, what in wrong.items():
            print(f"  {label} ({name}), {stage}: {what}")
    for stage in (s for s in notebooks.names() if (s in a) != (s in b)):
        print(f"  {stage}: results only in {'A' if stage in a else 'B'}")
    table = table.assign(stage=table["stage"].map(stage_number))
    parts = {"parameter": "Parameters", "run": "How it was run", "version": "Versions"}
    for part, heading in parts.items():
        rows = table[table["part"] == part]
        print(f"\n{heading}{'' if len(rows) else ': no difference'}")
        if part != "parameter" and len(rows):  # the same in most stages
            rows = rows.groupby(["name", "a", "b"], sort=False, dropna=False)["stage"]
            rows = rows.agg(" ".join).reset_index()
        _print(rows, ["stage", "name", "a", "b"])
    counts = table[table["part"] == "files"]
    counts = "; ".join(counts["stage"] + ": " + counts["name"])
    print(f"\nOutput files: {counts}\n\nResults")
    _print(table[table["part"] == "result"], list(COLUMNS[1:]))
    reasons = caveats(a, b, table)
    print("\nA difference in results is not simply one of parameters:" * bool(reasons))
    print("\n".join(f"  - {reason}" for reason in reasons))
    print("One run against one: without several seeds, chance is not told apart.")


def _print(rows, columns):
    if len(rows):
        shown = rows[columns].copy()
        pairs = [_abridged(x, y) for x, y in zip(rows["a"], rows["b"], strict=True)]
        shown[["a", "b"]] = pairs
        for name in shown.columns.intersection(["difference", "ratio"]):
            shown[name] = ["" if pd.isna(v) else f"{v:.4g}" for v in rows[name]]
        print(shown.rename(columns={"a": "A", "b": "B"}).to_string(index=False))


def _abridged(x, y):
    """Two values as text, long ones from shortly before where they differ."""
    texts = [_text(v) for v in (x, y)]
    unlike = (i for i, (p, q) in enumerate(zip(*texts, strict=False)) if p != q)
    same = next(unlike, min(map(len, texts)))
    if max(map(len, texts)) > WIDTH and same > 8:
        texts = ["…" + t[same - 8 :] for t in texts]
    return [t if len(t) <= WIDTH else t[: WIDTH - 1] + "…" for t in texts]


def _text(value):
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and value:
        return value
    return json.dumps(value, sort_keys=True)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m anbn.study.compare", description=__doc__
    )
    for name in ("a", "b"):
        parser.add_argument(name, help="a study, or sweep/point")
    options = parser.parse_args(arguments)
    names = [options.a.strip("/"), options.b.strip("/")]
    try:
        folders = [study_folder(name) for name in names]
        read = [manifests(f, n) for f, n in zip(folders, names, strict=True)]
    except ParamError as error:
        sys.exit(f"error: {error}")
    (a, _), (b, _) = read
    problems = [wrong for _, wrong in read]
    table = differences(a, b)
    print_comparison(names, a, b, problems, table)
    outputs = outputs_dir()
    label = "_vs_".join(name.replace("/", "_") for name in names)
    path = outputs / "compare" / f"{label}.csv"
    for name in ("a", "b"):
        table[name] = table[name].map(_text)
    with artifacts.atomic(path) as temporary:
        table.to_csv(temporary, index=False)
    print(f"\nwritten: {os.path.relpath(path)}")
    damaged = [s for wrong in problems for s in wrong.values() if "damaged" in s]
    return 1 if damaged or not (a and b) else 0


if __name__ == "__main__":
    sys.exit(main())
