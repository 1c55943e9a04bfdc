"""SyntaxGym: does a language model expect what the grammar asks for?

A suite has items; an item has the same sentence in several conditions, cut into
numbered regions. A model gets an item right if the surprisals of its regions meet all
of the suite's predictions, as in ``(7;%match%) < (7;%mismatch%)``.

Sources: Hu et al. 2020 (ACL), Gauthier et al. 2020 (ACL demonstrations); the criteria
are checked against the ``brainscore_language`` package, which ships the suites.
"""

import json
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from anbn import behaviour, columns, criteria, paths

CIRCUITS = {  # the beginning of a suite's name, and its circuit in Hu et al. 2020
    "number": "Agreement",
    "npi": "Licensing",
    "reflexive": "Licensing",
    "mvrr": "Garden-path effects",
    "npz": "Garden-path effects",
    "subordination": "Gross syntactic state",
    "center_embed": "Center embedding",
    "fgd": "Long-distance dependencies",
    "cleft": "Long-distance dependencies",
}


class SuiteError(ValueError):
    """A test suite cannot be found or is malformed."""


class Sentence(NamedTuple):
    """A text and where its regions are, the blank in front of a region included."""

    text: str
    regions: tuple  # of (start, end), in characters; region 1 first


@dataclass(frozen=True)
class Suite:
    """A SyntaxGym test suite."""

    name: str
    circuit: str  # of Hu et al. 2020; "" for a suite they did not have
    predictions: tuple  # formulas, as ``criteria.parse`` gives them
    items: dict  # item number -> condition -> Sentence


def load_suites(folder, *, names=(), n_items=0):
    """Read test suites.

    Parameters
    ----------
    folder : str
        Of JSON files, a suite each; also ``package:name/inner/path``.
    names : sequence of str
        Suites by file name without ``.json``; all, if empty.
    n_items : int
        Of each suite, from its beginning; all, if 0.

    Returns
    -------
    suites : dict of str to Suite

    Raises
    ------
    SuiteError
        An unknown suite, or a file that is not as the suites' format says.
    """
    files = {f.stem: f for f in paths.tidy(paths.resolve(str(folder)).glob("*.json"))}
    if not files:
        raise SuiteError(f"{folder}: expected .json files, a suite each; found none")
    if n_items < 0:
        raise SuiteError(f"n_items must be 0 (all) or more, found {n_items}")
    for name in names:
        if name not in files:
            hint = columns.did_you_mean(name, files)
            raise SuiteError(
                f"no suite {name!r} in {folder}. {hint}There are {columns.some(files)}."
            )
    return {name: _read(files[name], n_items) for name in names or files}


def region_surprisal(language_model, suites, *, before="", batch_size=32, needed=False):
    """Surprisal of every region of every sentence.

    A token belongs to the region that holds most of its characters; a region's
    surprisal is the sum over its tokens. A token with nothing before it counts 0.

    Parameters
    ----------
    language_model : LanguageModel
        With a causal head.
    suites : dict of str to Suite
    before : str
        Read in front of each sentence, see ``behaviour.surprisals``.
    batch_size : int
        Sentences at a time. Equal ones are run once.
    needed : bool
        Run sentences only as far as a prediction asks; regions after that count 0.

    Returns
    -------
    totals : dict of (suite, item) to dict of (condition, region) to float
        Bits, as in the reference (its tolerance for ``=`` is in bits).
    """
    if not suites:
        raise SuiteError("no suites given: load some with load_suites")
    found = [
        (name, item, condition, given)
        for name, suite in suites.items()
        for item, sentences in suite.items.items()
        for condition, given in sentences.items()
    ]
    last = {name: _last_regions(suite) for name, suite in suites.items()}
    options = {"add_special_tokens": False, "return_offsets_mapping": True}
    coded = language_model.tokenizer([given.text for *_, given in found], **options)
    ids, owners = [], []
    for i, (name, _, condition, given) in enumerate(found):
        region = _regions_of_tokens(coded["offset_mapping"][i], given.regions)
        n = last[name].get(condition, 0) if needed else len(given.regions)
        kept = region <= n
        ids.append(np.array(coded["input_ids"][i])[kept])
        owners.append(region[kept])
    options = {"before": before, "batch_size": batch_size}
    surprisals = behaviour.surprisals(language_model, ids, **options)
    totals = {}
    for (name, item, condition, given), owner, values in zip(
        found, owners, surprisals, strict=True
    ):
        bits = np.nan_to_num(values) / np.log(2)
        sums = np.bincount(owner, bits, minlength=len(given.regions) + 1)[1:]
        regions = totals.setdefault((name, item), {})
        regions |= {(condition, i + 1): float(value) for i, value in enumerate(sums)}
    return totals


def score(language_model, suites, *, before="", batch_size=32):
    """Which items of some suites a language model gets right.

    Parameters
    ----------
    language_model : LanguageModel
        With a causal head. It is run as it is: open a masking context around the call.
    suites : dict of str to Suite
    before : str
        Read in front of each sentence; nothing in the reference. SmolLM2-135M gets 9 %
        of the suite ``subordination`` right so, whose sentences differ in their first
        word, and 96 % after a line break.
    batch_size : int
        Sentences at a time.

    Returns
    -------
    results : DataFrame
        A row an item: ``suite``, ``circuit``, ``item``, ``correct`` (all of the
        suite's predictions hold).
    """
    options = {"before": before, "batch_size": batch_size, "needed": True}
    totals = region_surprisal(language_model, suites, **options)
    rows = [
        (name, suites[name].circuit, item, is_correct(suites[name], regions))
        for (name, item), regions in totals.items()
    ]
    return pd.DataFrame(rows, columns=["suite", "circuit", "item", "correct"])


def is_correct(suite, regions):
    """Whether an item's surprisals (condition, region) -> bits meet all predictions."""
    return all(criteria.holds(tree, regions) for tree in suite.predictions)


def accuracy(results):
    """Share of items that are right, a row a suite, from the results of ``score``.

    Returns
    -------
    table : DataFrame
        ``suite``, ``circuit``, ``n_items``, ``accuracy``.
    """
    groups = results.groupby(["suite", "circuit"], sort=False)["correct"]
    return groups.agg(n_items="size", accuracy="mean").reset_index()


def _read(path, n_items):
    """A Suite from its file, every part checked."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        formulas = tuple(str(p["formula"]) for p in given["predictions"])
        kinds = {str(p["type"]) for p in given["predictions"]}
        metric, n_regions = given["meta"]["metric"], len(given["region_meta"])
        numbers = [item["item_number"] for item in given["items"]]
        items = {
            item["item_number"]: {
                c["condition_name"]: [
                    (r["region_number"], r["content"]) for r in c["regions"]
                ]
                for c in item["conditions"]
            }
            for item in given["items"]
        }
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: not JSON ({error})") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise SuiteError(
            f"{path}: not a suite with meta, region_meta, predictions and items: "
            f"{type(error).__name__} {error}"
        ) from error
    if not items or not formulas:
        raise SuiteError(f"{path}: {len(items)} items and {len(formulas)} predictions")
    if len(set(numbers)) < len(numbers):
        raise SuiteError(f"{path}: an item_number is there twice, found {numbers}")
    if metric != "sum" or kinds != {"formula"}:
        raise SuiteError(
            f"{path}: metric {metric!r} and predictions of type {sorted(kinds)}; only "
            "the metric 'sum' and the type 'formula' are supported"
        )
    conditions = set(next(iter(items.values())))
    for number, item in items.items():
        if set(item) != conditions:
            raise SuiteError(
                f"{path}: item {number} has the conditions {sorted(item)}, expected "
                f"those of the first item, {sorted(conditions)}"
            )
        for condition, regions in item.items():
            _check_regions(f"{path}: item {number}, {condition}", regions, n_regions)
    try:
        predictions = [criteria.parse(f, conditions, n_regions) for f in formulas]
    except criteria.FormulaError as error:
        raise SuiteError(f"{path}: {error}") from error
    return Suite(
        name=path.stem,
        circuit=next((c for k, c in CIRCUITS.items() if path.stem.startswith(k)), ""),
        predictions=tuple(predictions),
        items={
            number: {
                c: sentence([r[1] for r in regions]) for c, regions in item.items()
            }
            for number, item in list(items.items())[: n_items or None]
        },
    )


def _check_regions(where, regions, n_regions):
    numbers = [number for number, _ in regions]
    if numbers != list(range(1, n_regions + 1)):
        raise SuiteError(
            f"{where}: regions are numbered {numbers}, expected 1 to {n_regions} in "
            "order, as in region_meta"
        )
    texts = [content for _, content in regions if isinstance(content, str)]
    if len(texts) < n_regions or not "".join(texts).strip():
        raise SuiteError(f"{where}: regions must hold text, and not all be empty")


def sentence(contents):
    """The Sentence of some regions' contents.

    They are joined by blanks, without those before punctuation: the reference's
    surprisals of ``.`` (1.5 bits) are those of ``room.``, not of ``room .``.
    """
    text, spans = "", []
    for content in contents:
        content = re.sub(r"\s+([.,!?;:])", r"\1", " ".join(content.split()))
        start = len(text)
        if text and content and content[0] not in ".,!?;:":
            text += " "
        text += content
        spans.append((start, len(text)))
    return Sentence(text, tuple(spans))


def _regions_of_tokens(offsets, regions):
    """Number of the region with most of a token's characters, the later if equal."""
    (start, end), (first, last) = np.transpose(offsets), np.transpose(regions)
    shared = np.minimum.outer(end, last) - np.maximum.outer(start, first)
    return len(regions) - shared[:, ::-1].argmax(1)


def _last_regions(suite):
    """The last region of every condition that any prediction needs."""
    last = {}
    for tree in suite.predictions:
        for condition, number in criteria.regions_of(tree):
            last[condition] = max(last.get(condition, 0), number or np.inf)
    return last
