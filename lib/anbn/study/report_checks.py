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
_MADE_BY = {"commit": "commits", "python": "Python versions", "platform": "machines"}


def provenance(manifests):
    """What each stage was made with.

    Parameters
    ----------
    manifests : dict of str to dict
        Of the stages that have run.

    Returns
    -------
    rows : dict of str to list
        By ``commit``, ``python``, ``platform``, name of a package, ``seconds it
        took``: of every stage, in order; None where its manifest does not tell.
    """
    made = [m.get("provenance") or {} for m in manifests.values()]
    packages = [m.get("packages", {}) for m in made]
    rows = {what: [m.get(what) for m in made] for what in _MADE_BY}
    for name in sorted(set().union(*packages)):
        rows[name] = [found.get(name) for found in packages]
    return rows | {"seconds it took": [m.get("seconds") for m in manifests.values()]}


def of_study(manifests):
    """Warnings on a study as a whole.

    Parameters
    ----------
    manifests : dict of str to dict
        Of the stages that have run.

    Returns
    -------
    warnings : list of str
    """
    found, numbers = [], [stage_number(stage) for stage in manifests]
    simulated = [stage_number(s) for s, m in manifests.items() if m["simulated"]]
    if simulated:
        many = len(simulated) > 1
        stages = f"Stage{'s' * many} {listed(simulated)} rest{'s' * (not many)}"
        found.append(
            f"Simulated data. {stages} on data that is simulated, in whole or in "
            "part: what they show holds for the simulation, not for any brain."
        )
    made = provenance(manifests)
    for name, values in made.items():
        if name == "seconds it took" or len(set(values)) < 2:
            continue
        by = [
            f"{v} ({listed(n for n, w in zip(numbers, values, strict=True) if w == v)})"
            for v in dict.fromkeys(values)
        ]
        what = _MADE_BY.get(name, f"versions of {name}")
        found.append(f"Stages were made with different {what}: {', '.join(by)}.")
    commits = zip(numbers, made["commit"], strict=True)
    dirty = [number for number, commit in commits if str(commit).endswith("dirty")]
    if dirty:
        found.append(
            f"Changes that were not committed were in the project when {listed(dirty)} "
            "ran: the commit alone does not give the code."
        )
    return found


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
            if not set(reads) <= set(now):
                continue  # said of the stage it reads
            upstream = {name: now[name] for name in reads}
            now[stage] = fingerprints.fingerprint(stage, values, upstream)
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
    told = {
        "Parameters changed since": [
            f"{name} ({value(before[name])}, now {value(v)})"
            for name, v in kept.items()
            if name in before and before[name] != v
        ],
        "Parameters that no longer exist": [n for n in before if n not in values],
        "Parameters added since": [n for n in kept if n not in before],
        "Made with other versions": [
            f"{name} {then}, now {here}"
            for name, (then, here) in fingerprints.other_versions(made).items()
        ],
    }
    return " ".join(f"{what}: {listed(of)}." for what, of in told.items() if of) or (
        "Its parameters are the same; its notebook, the library, the data or a "
        "stage that it reads changed since."
    )


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
    return found + [f"Its notebook warned: {line}" for line in stderr]
