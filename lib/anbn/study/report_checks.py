"""What a reader must know before believing a report: warnings, with their stage."""

from anbn.core import artifacts, params
from anbn.core.paths import stage_number
from anbn.study import fingerprints, notebooks
from anbn.study.wording import listed, plural, value

# Draws below which a p-value can hardly be small, by stage, and what they are of.
LOW = {
    "02_fbn_extraction": {"n_draws_null": "labels and other nulls"},
    "03_an_bn_coupling": {
        "n_draws": "the group's null",
        "n_draws_subject": "each subject's null",
    },
    "04_key_neuron_masking": {"n_draws": "the controls of a mask"},
    "05_cutting_out": {"n_draws": "random scores"},
}
ENOUGH = 100
DOCUMENTS = 10  # below which an interval over documents says little


def of_study(study, manifests):
    """Warnings on a study as a whole.

    Parameters
    ----------
    study : str
    manifests : dict of str to dict
        Of the stages that have run.

    Returns
    -------
    warnings : list of str
    """
    found = []
    simulated = [
        stage_number(stage) for stage, m in manifests.items() if m["simulated"]
    ]
    if simulated:
        many = len(simulated) > 1
        stages = f"Stage{'s' * many} {listed(simulated)} rest{'s' * (not many)}"
        found.append(
            f"Simulated data. {stages} on data that is simulated, in whole or in "
            "part: what they show holds for the simulation, not for any brain."
        )
    made_by = {stage: m.get("provenance") or {} for stage, m in manifests.items()}
    several = {"commit": "commits", "platform": "machines", "python": "Python versions"}
    for key, what in several.items():
        found += _differing(what, {s: p.get(key) for s, p in made_by.items()})
    packages = sorted(
        {name for p in made_by.values() for name in p.get("packages", {})}
    )
    for name in packages:
        versions = {s: p.get("packages", {}).get(name) for s, p in made_by.items()}
        found += _differing(f"versions of {name}", versions)
    dirty = [
        stage_number(s)
        for s, p in made_by.items()
        if str(p.get("commit")).endswith("dirty")
    ]
    if dirty:
        found.append(
            f"Changes that were not committed were in the project when {listed(dirty)} "
            "ran: the commit alone does not give the code."
        )
    return found


def _differing(what, by_stage):
    values = {}
    for stage, found in by_stage.items():
        values.setdefault(str(found), []).append(stage_number(stage))
    if len(values) < 2:
        return []
    parts = [f"{found} ({listed(stages)})" for found, stages in values.items()]
    return [f"Stages were made with different {what}: {', '.join(parts)}."]


def not_run(study, stage, out):
    """Why a stage has no results."""
    if (out / "failed.ipynb").is_file():
        return "It failed. The notebook up to the cell that failed is kept."
    if stage not in notebooks.of_study(study):
        return "It is not part of this study."
    return "It has not run."


def of_currency(study, manifests):
    """Whether stages are up to date with their notebook, parameters, code and data.

    Returns
    -------
    warnings : dict of str to list of str
        By stage.
    """
    found, now = {stage: [] for stage in manifests}, {}
    for stage, reads in notebooks.needed(study, list(manifests)).items():
        try:
            values = params.read(study, stage)
            upstream = {name: now[name] for name in reads}
            now[stage] = fingerprints.fingerprint(stage, values, upstream)
        except KeyError:
            continue  # said of the stage it reads
        except (params.ParamError, artifacts.ArtifactError, OSError, ValueError) as e:
            if stage in manifests:
                found[stage].append(f"Whether it is up to date cannot be told: {e}")
            continue
        if stage not in manifests:
            continue
        made = manifests[stage]
        if made["fingerprint"] is None:
            found[stage].append(
                "It was run by hand, from JupyterLab: whether it is up to date is not "
                "known."
            )
        elif made["fingerprint"] != now[stage]:
            found[stage].append(
                f"Not up to date. {_changed(made, values)} To run it again: make "
                f"{stage_number(stage)} STUDY={study}."
            )
    return found


def _changed(made, values):
    before = {k: v for k, v in made["params"].items() if k != "study"}
    kept = {k: v for k, v in values.items() if k not in params.EXECUTION_KNOBS}
    gone = [name for name in before if name not in values]
    new = [name for name in kept if name not in before]
    differ = [
        f"{name} ({value(before[name])}, now {value(v)})"
        for name, v in kept.items()
        if name in before and before[name] != v
    ]
    told = [f"Parameters changed since: {listed(differ)}."] if differ else []
    told += [f"Parameters that no longer exist: {listed(gone)}."] if gone else []
    told += [f"Parameters added since: {listed(new)}."] if new else []
    others = [
        f"{name} {then}, now {here}"
        for name, (then, here) in fingerprints.other_versions(made).items()
    ]
    told += [f"Made with other versions: {listed(others)}."] if others else []
    if not told:
        told = [
            "Its parameters are the same; its notebook, the library, the data or a "
            "stage that it reads changed since."
        ]
    return " ".join(told)


def of_stage(manifest, stderr, missing):
    """Warnings on one stage that need nothing but its own results.

    Parameters
    ----------
    manifest : dict
    stderr : list of str
        From ``report_notebook.warnings``.
    missing : list of str
        From ``methods.describe``.
    """
    found, values = [], manifest["params"]
    for name, of in LOW.get(manifest["stage"], {}).items():
        n = values.get(name)
        if isinstance(n, int) and n < ENOUGH:
            found.append(
                f"{name} is {n}: p of {of} cannot be below 1/{n + 1}, which is "
                f"{1 / (n + 1):.2g}."
            )
    documents = values.get("evaluation_documents")
    if isinstance(documents, int):
        n = documents * len(values.get("evaluation_corpora", []))
        if n < DOCUMENTS:
            found.append(
                f"Loss was measured on {plural(n, 'document')} only: intervals over "
                "documents are wide, and say little."
            )
    if missing:
        found.append(
            "The methods text leaves out what this manifest, of an older notebook, "
            f"does not tell: {listed(missing)}."
        )
    found += [f"Its notebook warned: {line}" for line in stderr]
    return found
