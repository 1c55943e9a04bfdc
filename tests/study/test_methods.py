"""Methods text: all there is to say is said, and nothing that the parameters deny."""

import re

import pytest
from reported import (
    CUT,
    FIRST,
    FOURTH,
    KEPT,
    MODEL,
    ORGANISED,
    SECOND,
    SUMMARY,
    THIRD,
    manifest_of,
)

from anbn.core import params
from anbn.core.artifacts import ArtifactError
from anbn.study import methods, notebooks, references


def text_of(stage, **others):
    """Methods text of one stage, of which nothing may be missing."""
    manifests = {s: manifest_of(s) for s in notebooks.names() if s < stage}
    manifests[stage] = manifest_of(stage, **others)
    text, missing = methods.describe(manifests)
    assert not missing[stage]
    return " ".join(paragraph for _, paragraph in text[stage])


@pytest.mark.parametrize("stage", notebooks.names())
def test_the_present_notebooks_tell_all_that_is_said(stage):
    assert len(text_of(stage)) > 200


def test_what_was_left_out_of_a_transcript_is_told():
    text = text_of(FIRST)
    assert "31 marks of silence, noise or speaker left out" in text
    assert "the ends of 12 words clipped to the next onset" in text


@pytest.mark.parametrize("stage", notebooks.names())
def test_every_statement_is_one_for_every_choice(stage):
    """No parameter that has choices can take one that the text does not know."""
    for parameter in params.declared(stage).values():
        for choice in parameter.choices or []:
            value = [choice] if parameter.type.startswith("list") else choice
            text_of(stage, **{parameter.name: value})


@pytest.mark.parametrize("stage", notebooks.names())
def test_numbers_are_those_of_the_manifest(stage):
    """Other numbers in the manifest give other numbers in the text, and no others."""
    text = text_of(stage)
    words = re.sub(r"\[@[^]]*\]|R2|[a-z_]+\d\w*", " ", text)
    found = {n.rstrip(".,").replace(",", "") for n in re.findall(r"\d[\d.,]*", words)}
    given = _numbers(
        [manifest_of(s)["params"] for s in notebooks.names() if s <= stage]
    )
    given |= _numbers([SUMMARY[s] for s in notebooks.names() if s <= stage])
    assert not {n for n in found if float(n) not in given}


def _numbers(content):
    if isinstance(content, dict):
        return _numbers(list(content.values()))
    if isinstance(content, list):
        return set().union({float(len(content))}, *map(_numbers, content))
    if isinstance(content, str):
        return {float(n) for n in re.findall(r"\d+", content)}
    if isinstance(content, int | float):
        near = {float(f"{content:.3g}"), float(f"{content:.4g}")}
        near |= {float(f"{100 * content:.3g}"), float(f"{1 / (content + 1):.2g}")}
        return near | {float(content)}
    return set()


@pytest.mark.parametrize(
    "stage, changed, said, unsaid",
    [
        (SECOND, {"bold": "simulated"}, "BOLD is simulated", "Alice"),
        (SECOND, {"bold": "alice"}, "Alice in Wonderland [@brennan2016", "simulated"),
        (
            SECOND,
            {"bold": "bids", "bids_folder": "data/fmriprep", "task": "story"},
            "derivatives in data/fmriprep (task story)",
            "simulated",
        ),
        (
            SECOND,
            {"bold": "bids", "bids_folder": "narratives:derivatives/x", "task": "pie"},
            "[@nastase2021narratives]",
            "simulated",
        ),
        (
            SECOND,
            {"bold": "bids", "bids_folder": "openneuro:ds000001/x/y", "task": "pie"},
            "y (data set ds000001 of OpenNeuro) (task pie)",
            "Narratives",
        ),
        (
            SECOND,
            {"bold": "bids", "bids_folder": "openneuro:ds002345/x/y", "task": "pie"},
            "[@nastase2021narratives]",
            "ds002345",
        ),
        (
            SECOND,
            {"bold": "files", "bold_files": ["a.tsv", "b.tsv"]},
            "read from 2 files",
            "simulated",
        ),
        (SECOND, {"brain_method": "regions"}, "14 regions were taken", "CanICA"),
        (SECOND, {"brain_method": "vsdbn"}, "deep belief network", "CanICA"),
        (SECOND, {"same_story": False}, "not of the story", "correlation of networks'"),
        (SECOND, {"max_subjects": 5}, "5 were drawn at random", None),
        (SECOND, {"confounds": ["rot_*"]}, "of confounds (rot_*)", None),
        (MODEL, {"solver": "picard"}, "@ablin2018picard", "@hyvarinen1999"),
        (MODEL, {"membership": "percent"}, "% largest", "beyond z"),
        (MODEL, {"leave_out_massive": True}, "were left out of", "took part in"),
        (FIRST, {"hrf": "none"}, "not go through any haemodynamic", "canonical"),
        (FIRST, {"hrf": "glover"}, "Glover's", "SPM's"),
        (FIRST, {"simulated": False}, "word times of that transcript", "simulated"),
        (FIRST, {"kinds": ["hidden"]}, "residual stream", "@liu2025pruning"),
        (
            FIRST,
            {"kinds": ["qk"], "qk_pooling": "max"},
            "maximum of its",
            "mean of its",
        ),
        (FIRST, {"kinds": ["ffn_out"]}, "second feed-forward", "query"),
        (FIRST, {"comparison_models": []}, "The model was", "comparison"),
        (FIRST, {"layers": [3, 7]}, "of layers 3 and 7 (from 0)", "of all"),
        (THIRD, {"null_method": "shift"}, "rolled by a random lag", "phases"),
        (THIRD, {"null_method": "text"}, "other text", "phases"),
        (THIRD, {"confounds": ["surprisal"]}, "128 s and surprisal.", "word rate."),
        (THIRD, {"delays": [1, 2]}, "delayed by 1 and 2 volumes", None),
        (ORGANISED, {"depth_bands": 5}, "5 stretches of layers", None),
        (FOURTH, {"sources": ["wanda"]}, "@sun2023wanda", "stage 03"),
        (
            FOURTH,
            {"sources": ["coupled"], "coupled_by": "fwe"},
            "family-wise",
            "most synchronous",
        ),
        (FOURTH, {"silence_to": "mean"}, "set to their mean", "set to zero"),
        (KEPT, {"keep_components": [10, 64]}, "of 10 and 64 components", None),
        (CUT, {"criteria": ["random"]}, "scored by random scores", "Wanda"),
        (CUT, {"compensate": False}, "replaced by zero", "bias"),
        (CUT, {"first_layers": 3}, "The first 3 and last 0 layers", None),
    ],
)
def test_other_parameters_give_other_text(stage, changed, said, unsaid):
    text = text_of(stage, **changed)
    assert said in text
    if unsaid is None:  # it is an addition
        assert said not in text_of(stage)
    else:
        assert unsaid not in text


def test_truth_is_told_where_there_is_one():
    truth = {"planted_networks_total": 3, "planted_networks_found": 2}
    truth["false_networks_found"] = 1
    manifests = {s: manifest_of(s) for s in (FIRST, SECOND)}
    manifests[THIRD] = manifest_of(THIRD, summary=truth)
    text, _ = methods.describe(manifests)
    assert dict(text[THIRD])["Check against the truth"].startswith("Of 3 networks")
    assert "planted" not in text_of(THIRD)


def test_volumes_are_told_from_regions():
    mask = ["data/mask.nii.gz"]
    files = {"bold": "files", "bold_files": ["a.nii.gz"]}
    assert "one computed from the runs" in text_of(SECOND, files=mask, **files)
    assert "templates" in text_of(SECOND, files=mask)
    tables = text_of(SECOND, bold="files", bold_files=["a.tsv"])
    assert "mask" not in tables and "templates" not in tables


def test_an_older_manifest_says_less_and_tells_so():
    manifest = manifest_of(SECOND)
    del manifest["params"]["max_subjects"], manifest["summary"]["isc_mean"]
    text, missing = methods.describe({FIRST: manifest_of(FIRST), SECOND: manifest})
    assert missing[SECOND] == ["max_subjects"]
    assert "inter-subject" not in str(text[SECOND])
    assert "CanICA" in str(text[SECOND])


def test_a_number_of_the_wrong_type_is_named():
    manifest = manifest_of(FIRST, summary={"n_words": "many"})
    with pytest.raises(ArtifactError, match=r"stage 01_act.*Story and text.*again"):
        methods.describe({FIRST: manifest})


def test_references_are_whole():
    entries = references.load_bibliography()
    assert len(entries) > 20
    cited = re.findall(r"@(\w+\d{4}\w+|nilearn)\b", methods.TEXT.read_text("utf-8"))
    assert len(cited) > 20 and set(cited) <= set(entries)
    for key, entry in entries.items():
        text, url = references.describe(entry)
        assert entry["author"] and entry["title"] and "{" not in text, key
        assert not url or url.startswith("https://")
        assert entry["bibtex"].count("{") == entry["bibtex"].count("}")


def test_references_are_as_a_reader_expects_them():
    entries = references.load_bibliography()
    described = {key: references.describe(entry) for key, entry in entries.items()}
    assert described["nilearn"][0] == "Nilearn contributors. nilearn."
    assert described["dupre2022himalaya"] == (
        "Dupré la Tour et al. (2022). Feature-space Selection with Banded Ridge "
        "Regression. NeuroImage 264, 119728.",
        "https://doi.org/10.1016/j.neuroimage.2022.119728",
    )
    assert described["liu2023coupling"][0].endswith(
        "in BERT and Biological Neurons in the Human Brain. Proceedings of the AAAI "
        "Conference on Artificial Intelligence. arXiv:2303.14871."
    )
    assert "The “Narratives” fMRI Dataset" in described["nastase2021narratives"][0]
    assert "Language 157–158, 81–94." in described["brennan2016abstract"][0]


def test_citations_are_numbered_and_linked():
    assert references.cited(["a [@x; @y], b [@z]", "[@x]"]) == ["x", "y", "z"]
    link = '<a href="#ref-{0}">{0}</a>'.format
    assert references.linked("<a> [@x; @y], [@y]", ["x", "y"]) == (
        f"&lt;a&gt; [{link(1)}, {link(2)}], [{link(2)}]"
    )
    assert references.linked("a story called [@z]", ["x"]) == "a story called [@z]"
