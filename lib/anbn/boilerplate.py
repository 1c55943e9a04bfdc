"""Methods text of a study, from its manifests alone.

A statement is a function of one stage's results: it says one thing, with the numbers of
the manifest, or nothing where the parameters make it untrue. A statement whose
parameters a manifest does not have, as of an older notebook, is left out and told.
"""

from dataclasses import dataclass, field

from anbn import methods_brain, methods_coupling, methods_masking, methods_recording
from anbn.artifacts import ArtifactError


@dataclass(frozen=True)
class Ran:
    """What a stage's manifest says."""

    params: dict
    summary: dict
    files: frozenset = frozenset()
    simulated: bool = False
    before: dict = field(default_factory=dict)  # "01": Ran, of the stages it may read

    def voxels(self):
        """Whether BOLD came as voxels, not as regions of a table or atlas."""
        return "data/mask.nii.gz" in self.files


STATEMENTS = {
    "01_activation_recording": methods_recording.RECORDING,
    "02_fbn_extraction": methods_brain.EXTRACTION,
    "03_an_bn_coupling": methods_coupling.COUPLING,
    "04_key_neuron_masking": methods_masking.MASKING,
    "05_cutting_out": methods_masking.CUTTING,
}


def describe(manifests):
    """Methods of all stages that have run.

    Parameters
    ----------
    manifests : dict of str to dict
        By stage, in order.

    Returns
    -------
    text : dict of str to list of (str, str)
        For every stage, paragraphs with a heading; citations stand as ``[@key]``.
    missing : dict of str to list of str
        Parameters or numbers of each stage that statements looked for in vain.
    """
    text, missing, ran = {}, {}, {}
    for stage, manifest in manifests.items():
        of_stage = Ran(
            manifest["params"],
            manifest["summary"],
            frozenset(manifest["files"]),
            manifest["simulated"],
            dict(ran),
        )
        text[stage], missing[stage] = _paragraphs(stage, STATEMENTS[stage], of_stage)
        ran[stage[:2]] = of_stage
    return text, missing


def _paragraphs(name, groups, of_stage):
    paragraphs, missing = [], []
    for heading, statements in groups.items():
        said = []
        for statement in statements:
            try:
                said.append(statement(of_stage))
            except KeyError as error:
                missing.append(str(error.args[0]))
            except (TypeError, ValueError, AttributeError) as error:
                raise ArtifactError(
                    f"the manifest of stage {name} holds a parameter or number that is "
                    f"not of its type, seen in {statement.__name__}: {error}. Run the "
                    "stage again."
                ) from error
        said = [sentence for sentence in said if sentence]
        if said:
            paragraphs.append((heading, " ".join(said)))
    return paragraphs, list(dict.fromkeys(missing))
