"""What a sweep found: one table, a row a point, gathered from the runs' manifests."""

import os

import pandas as pd

from anbn.core import artifacts
from anbn.core.paths import project_root, stage_number
from anbn.study import sweep_plan, sweep_stage
from anbn.study.sweeps import as_text

REPORT = "90_sweep_report"


def gather(folder, sweep, runs, chains, answers):
    """Table of all points.

    Parameters
    ----------
    folder : Path
        The sweep's outputs.
    sweep : anbn.study.sweeps.Sweep
    runs, chains
        From ``sweep_plan.plan``.
    answers : dict of str to dict
        What is known of runs, by fingerprint: ``status``, ``error``.

    Returns
    -------
    table : DataFrame
        ``point``, ``status`` (done, failed, not run), ``failed_stage``, ``error``; a
        column for everything swept; summary numbers as ``03:max_synchrony``;
        ``notebook_01`` ...: paths from the project's root; ``simulated``, ``seconds``.
    """
    states = {key: state_of(folder, run, answers.get(key)) for key, run in runs.items()}
    rows = []
    for point, chain in zip(sweep.points, chains, strict=True):
        of_point = {stage: states[key] for stage, key in chain.items()}
        failed = [s for s, state in of_point.items() if state["status"] == "failed"]
        done = all(state["status"] == "done" for state in of_point.values())
        manifests = {
            stage_number(stage): state["manifest"]
            for stage, state in of_point.items()
            if state["status"] == "done"
        }
        row = {
            "point": point.label,
            "status": "failed" if failed else "done" if done else "not run",
            "failed_stage": failed[0] if failed else None,
            "error": of_point[failed[0]]["error"] if failed else None,
        }
        row |= {column: as_text(value) for column, value in point.columns.items()}
        for number, manifest in manifests.items():
            for name, value in manifest["summary"].items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    row[f"{number}:{name}"] = value
        for stage, state in of_point.items():
            row[f"notebook_{stage_number(stage)}"] = state["notebook"]
        seconds = [m.get("seconds") for m in manifests.values()]
        row["simulated"] = (
            any(m["simulated"] for m in manifests.values()) if manifests else None
        )
        row["seconds"] = sum(s for s in seconds if s) if any(seconds) else None
        rows.append(row)
    table = pd.DataFrame(rows)
    for name in ("failed_stage", "error", *(c for c in table if "notebook_" in c[:9])):
        table[name] = table[name].astype("str")
    table["simulated"] = table["simulated"].astype("boolean")
    table["seconds"] = table["seconds"].astype("float64")
    return table[_in_order(table, sweep)]


def _in_order(table, sweep):
    """Parameters, then numbers by stage, then notebooks, then the rest."""
    first = ["point", "status", "failed_stage", "error", *sweep.points[0].columns]
    numbers = sorted(c for c in table if ":" in c)
    notebooks = sorted(c for c in table if c.startswith("notebook_"))
    return [*first, *numbers, *notebooks, "simulated", "seconds"]


def state_of(folder, run, answer=None):
    """Status of one run, from what has come back or what lies there.

    Parameters
    ----------
    folder : Path
    run : Run
    answer : dict, optional
        ``status``, ``error``; without it the run counts as not run, or as failed if
        the last sweep left it so.

    Returns
    -------
    state : dict
        ``status``, ``error``, ``notebook`` (path or None), ``manifest`` (or None).
    """
    out = sweep_plan.out_of(folder, run)
    state = {"status": "not run", "error": None, "notebook": None, "manifest": None}
    before = sweep_stage.read_failure(out)
    if answer is None and before and before.get("fingerprint") == run.fingerprint:
        answer = {"status": "failed", "error": before.get("error")}
    if answer is None:
        return state
    state |= {"status": answer["status"], "error": answer.get("error")}
    if state["status"] == "done":
        state["notebook"] = _path(out / "notebook.html")
        try:
            state["manifest"] = artifacts.read_manifest(out)
        except artifacts.ArtifactError as error:  # deleted since, or not seen yet
            state |= {"status": "failed", "error": sweep_stage.one_line(error)}
    elif state["status"] == "failed" and (out / "failed.ipynb").is_file():
        state["notebook"] = _path(out / "failed.ipynb")
    return state


def _path(path):
    return os.path.relpath(path, project_root())


def write(folder, sweep, table):
    """Write ``results.parquet``, ``results.csv`` and ``sweep.json``."""
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


def conclude(folder, table):
    """Print how a sweep ended; the exit code."""
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
