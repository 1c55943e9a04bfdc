"""What a sweep found: one table, a row a point, gathered from the runs' manifests."""

import os

import pandas as pd

from anbn.core import artifacts
from anbn.core.paths import project_root, stage_number
from anbn.study import engine, task
from anbn.study.sweeps import as_text

REPORT = "90_sweep_report"


def gather(sweep, tasks, chains, answers):
    """Table of all points.

    ``tasks`` and ``chains`` are from ``engine.plan``; ``answers``, by fingerprint, are
    what has come back (see ``task.answer``).

    Returns
    -------
    table : DataFrame
        ``point``, ``status`` (done, failed, not run), ``failed_stage``, ``error``; a
        column for everything swept; summary numbers as ``03:max_synchrony``;
        ``notebook_01`` ...: paths from the project's root; ``simulated``, ``seconds``.
    """
    states = {key: _state(one, answers.get(key)) for key, one in tasks.items()}
    table = pd.DataFrame(
        _row(point, {stage: states[key] for stage, key in chain.items()})
        for point, chain in zip(sweep.points, chains, strict=True)
    )
    numbers = sorted(c for c in table if ":" in c)
    notebooks = sorted(c for c in table if c.startswith("notebook_"))
    swept = list(sweep.points[0].columns)
    kinds = dict.fromkeys(["failed_stage", "error", *notebooks], "str")
    table = table.astype(kinds | {"simulated": "boolean", "seconds": "float64"})
    first = ["point", "status", "failed_stage", "error", *swept]
    return table[[*first, *numbers, *notebooks, "simulated", "seconds"]]


def _row(point, states):
    """One point: its parameters, and what its stages found."""
    statuses = [status for status, *_ in states.values()]
    stage = next((s for s, state in states.items() if state[0] == "failed"), None)
    status = "failed" if stage else "not run" if "not run" in statuses else "done"
    row = {"point": point.label, "status": status, "failed_stage": stage}
    row["error"] = states[stage][1] if stage else None
    row |= {column: as_text(value) for column, value in point.columns.items()}
    flags, seconds = [], []
    for stage, (_, _, notebook, manifest) in states.items():
        number = stage_number(stage)
        row[f"notebook_{number}"] = notebook
        if manifest:
            for name, value in manifest["summary"].items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    row[f"{number}:{name}"] = value
            flags.append(manifest["simulated"])
            seconds.append(manifest.get("seconds") or 0)
    row["simulated"] = any(flags) if flags else None
    row["seconds"] = sum(seconds) or None
    return row


def _state(one, answer):
    """Status, error, notebook (a path or None) and manifest (or None) of a task."""
    status, error = (answer["status"], answer["error"]) if answer else ("not run", None)
    notebook, manifest = one.out / "failed.ipynb", None
    if status == "done":
        try:
            manifest = artifacts.read_manifest(one.out)
            notebook = one.out / "notebook.html"
        except artifacts.ArtifactError as damage:  # deleted since, or not seen yet
            status, error = "failed", str(damage)
    there = answer and (manifest or notebook.is_file())
    path = os.path.relpath(notebook, project_root()) if there else None
    error = error and task.one_line(f"{one.stage}, {error}")
    return status, error, path, manifest


def write(sweep, tasks, chains, answers):
    """Write ``results.parquet``, ``results.csv`` and ``sweep.json`` of a sweep."""
    folder, table = engine.folder_of(sweep), gather(sweep, tasks, chains, answers)
    artifacts.write_table(folder / "results.parquet", table)
    with artifacts.atomic(folder / "results.csv") as temporary:
        table.to_csv(temporary, index=False)
    about = {
        "sweep": sweep.name,
        "study": sweep.study,
        "stages": list(sweep.reads),
        "varied": sweep.varied,
        "n_points": len(sweep.points),
        "spec": sweep.spec | {"study": sweep.study},
    }
    artifacts.write_json(folder / "sweep.json", about)


def conclude(folder):
    """Print how a sweep ended; the exit code: 0 if all points ran."""
    table = pd.read_parquet(folder / "results.parquet")
    counts = table["status"].value_counts().to_dict()
    print(", ".join(f"{n} {status}" for status, n in counts.items()))
    for _, row in table[table["status"] == "failed"].iterrows():
        notebook = row[f"notebook_{stage_number(row['failed_stage'])}"]
        print(f"failed: {row['point']}: {row['error']}")
        if isinstance(notebook, str):  # none if it did not come to its first cell
            print(f"  {notebook}")
    print(f"table: {os.path.relpath(folder / 'results.csv')}")
    report = folder / REPORT / "notebook.html"
    if report.is_file():
        print(f"report: {os.path.relpath(report)}")
    return 0 if set(counts) <= {"done"} else 1
