"""Methods text of a study, from its manifests alone.

The text stands in ``methods.md.j2``, whose first lines say how it is written.
"""

import functools
import re
from pathlib import Path
from types import SimpleNamespace

import jinja2

from anbn.core.artifacts import ArtifactError
from anbn.core.paths import canonical, stage_number
from anbn.study import wording
from anbn.text.linguistics import frequency_known

TEXT = Path(__file__).with_name("methods.md.j2")


class _Missing(jinja2.StrictUndefined):
    """What is not there is an error where it is looked up, not only where it is used.

    So no filter, and no condition, can take it for a value.
    """

    def __init__(self, hint=None, obj=None, name=None, exc=jinja2.UndefinedError):
        raise exc(str(name))


@functools.cache
def _sentences():
    """By stage: the heading of each sentence, and the sentence as a template."""
    environment = jinja2.Environment(
        undefined=_Missing, extensions=["jinja2.ext.do"], autoescape=False
    )
    functions = {
        name: getattr(wording, name)
        for name in ("listed", "number", "percent", "plural", "source", "value")
    }
    environment.filters |= functions | {"canonical": canonical}
    environment.filters["of"] = lambda key, names: names[key]
    environment.tests["known_to_wordfreq"] = frequency_known
    common, *stages = re.split(r"(?m)^# ", TEXT.read_text(encoding="utf-8"))
    environment.globals |= functions
    environment.globals |= vars(environment.from_string(common).module)
    found = {}
    for section in stages:
        stage, *paragraphs = section.split("\n## ")
        found[stage.strip()] = [
            (heading, environment.from_string(sentence))
            for heading, *sentences in (
                re.split(r"\n\s*\n", paragraph.strip()) for paragraph in paragraphs
            )
            for sentence in sentences
        ]
    return found


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
        Parameters or numbers of each stage that sentences looked for in vain; those
        sentences are left out.

    Raises
    ------
    ArtifactError
        If a parameter or number is not of its type.
    """
    text, missing, earlier = {}, {}, {}
    for stage, manifest in manifests.items():
        told = {"p": SimpleNamespace(**manifest["params"]), "s": manifest["summary"]}
        more = {
            "simulated": manifest["simulated"],
            "voxels": "data/mask.nii.gz" in manifest["files"],
            "earlier": earlier,
        }
        said, lacking = {}, []
        for heading, sentence in _sentences().get(stage, []):
            try:
                words = sentence.render(told | more).split()
            except (KeyError, jinja2.UndefinedError) as error:
                lacking.append(str(error.args[0]))
            except (TypeError, ValueError, AttributeError) as error:
                raise ArtifactError(
                    f"the manifest of stage {stage} holds a parameter or number that "
                    f"is not of its type, seen in “{heading}” of the methods text: "
                    f"{error}. Run the stage again."
                ) from error
            else:
                said.setdefault(heading, []).extend(words)
        text[stage] = [(h, " ".join(words)) for h, words in said.items() if words]
        missing[stage] = list(dict.fromkeys(lacking))
        earlier = earlier | {stage_number(stage): told}
    return text, missing
