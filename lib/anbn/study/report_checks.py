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
    "03b_functional_organisation": {
        "n_draws": "atoms in the networks' cores",
        "n_draws_atoms": "subjects' own networks and their consistency",
        "n_draws_encoding": "the gain over rolled stories",
    },
    "04_key_neuron_masking": {"n_draws": "the controls of a mask"},
    "04b_keep_amplify_tasks": {"n_draws": "the controls of what is kept and amplified"},
    "02b_model_networks": {"n_draws_null": "recurrence and other nulls"},
    "04c_cutting_out": {"n_draws": "random scores"},
}
ENOUGH = 100
DOCUMENTS = 10  # below which an interval over documents says little


def provenance(manifests):
    """What each stage was made with.

    Parameters
    ----------
    manifests : dict of str to dict
        Of the stages that have run.

    Returns
    -------
    rows : dict of str to dict
        By ``commit``, ``python``, ``platform`` or name of a package: by number of the
        stage, None where its manifest does not tell.
    """
    made = {stage_number(s): m.get("provenance") or {} for s, m in manifests.items()}
    packages = {stage: found.get("packages", {}) for stage, found in made.items()}
    rows = dict.fromkeys(("commit", "python", "platform"), made)
    rows |= dict.fromkeys(sorted(set().union(*packages.values())), packages)
    return {
        name: {stage: found.get(name) for stage, found in by_stage.items()}
        for name, by_stage in rows.items()
    }


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
