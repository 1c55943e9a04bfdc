"""SyntaxGym: does a language model expect what the grammar asks for?

A suite has items; an item has the same sentence in several conditions, cut into
numbered regions. A model gets an item right if the surprisals of its regions meet all
of the suite's formulas, as ``(7;%match%) < (7;%mismatch%)``. Formulas are read by a
small grammar, never evaluated as code::

    truth      = comparison (("&" | "|") comparison)*          from left to right
    comparison = sum (("<" | ">" | "=") sum)?
    sum        = atom (("+" | "-") atom)*
    atom       = number | "(" region ";%" condition "%)" | "(" truth ")"

A region is a number, or ``*`` for the sum over all regions of the condition.

Sources: Hu et al. 2020 (ACL), Gauthier et al. 2020 (ACL demonstrations); the formulas
are checked against the ``brainscore_language`` package, which ships the suites.
"""

import itertools
import json
import operator
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from anbn.core import params, paths, tables
from anbn.masking import behaviour
from anbn.stats import inference

# "=" of the reference: |a - b| <= ATOL + RTOL |b|, in bits
RTOL, ATOL = 1e-5, 1e-3
REGION = re.compile(r"\(\s*(\d+|\*)\s*;%\s*([A-Za-z0-9_-]+)\s*%\s*\)")
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
OPERATORS = {
    "+": operator.add,
    "-": operator.sub,
    "<": operator.lt,
    ">": operator.gt,
    "=": lambda a, b: bool(np.isclose(a, b, rtol=RTOL, atol=ATOL)),
    "&": operator.and_,
    "|": operator.or_,
}
LEVELS = ("&|", "<>=", "+-")  # what binds weakest first
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
    """A test suite cannot be found, or it or a formula of it is malformed."""


def holds(formula, regions):
    """Whether a prediction formula is true of one item.

    Parameters
    ----------
    formula : str
    regions : dict of (condition, region number) to float
        Surprisals, bits.

    Raises
    ------
    SuiteError
        If the text is no formula, or mixes numbers and truth values (``a < b < c``).
    """
    found, at = _level(formula, regions, 0, 0)
    if at < len(formula):
        raise _error(formula, at, "an operator or the end")
    if not isinstance(found, bool):
        raise SuiteError(f"formula {formula!r} compares nothing: expected < > or =")
    return found


def _level(formula, regions, at, level):
    """Value of what binds as strongly as ``LEVELS[level]`` or more, and its end."""
    if level == len(LEVELS):
        return _atom(formula, regions, at)
    left, at = _level(formula, regions, at, level + 1)
    while at < len(formula) and formula[at] in LEVELS[level]:
        name, begin = formula[at], at
        right, at = _level(formula, regions, at + 1, level + 1)
        if {isinstance(left, bool), isinstance(right, bool)} != {name in "&|"}:
            wanted = "comparisons" if name in "&|" else "numbers"
            raise _error(formula, begin, f"{wanted} on both sides of {name}")
        left = OPERATORS[name](left, right)
    return left, at


def _atom(formula, regions, at):
    at = _skip(formula, at)
    if match := REGION.match(formula, at):
        number, condition = match.groups()
        if number == "*":
            found = sum(v for (name, _), v in regions.items() if name == condition)
        else:
            found = regions[condition, int(number)]
        return float(found), _skip(formula, match.end())
    if match := NUMBER.match(formula, at):
        return float(match[0]), _skip(formula, match.end())
    if formula[at : at + 1] != "(":
        raise _error(formula, at, "a number, a region (7;%condition%) or a bracket")
    found, at = _level(formula, regions, at + 1, 0)
    if formula[at : at + 1] != ")":
        raise _error(formula, at, "a closing bracket")
    return found, _skip(formula, at + 1)


def _skip(formula, at):
    return at + len(formula[at:]) - len(formula[at:].lstrip())


def _error(formula, at, expected):
    found = formula[at : at + 10] or "the end"
    return SuiteError(
        f"formula {formula!r}, character {at + 1}: expected {expected}, found {found!r}"
    )


class Sentence(NamedTuple):
    """A text and where its regions are, the blank in front of a region included."""

    text: str
    regions: tuple  # of (start, end), in characters; region 1 first


@dataclass(frozen=True)
class Suite:
    """A SyntaxGym test suite."""

    name: str
    circuit: str  # of Hu et al. 2020; "" for a suite they did not have
    predictions: list  # of str, formulas
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
    for name in names:
        if name not in files:
            hint = params.did_you_mean(name, files)
            raise SuiteError(
                f"no suite {name!r} in {folder}{hint}. There are {tables.some(files)}."
            )
    return {name: _read(files[name], n_items) for name in names or files}


def region_surprisal(language_model, suites, *, before="", needed=False):
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
    needed : bool
        Run sentences only as far as a prediction asks; regions after that count 0.

    Returns
    -------
    totals : dict of (suite, item) to dict of (condition, region) to float
        Bits, as in the reference (its tolerance for ``=`` is in bits).
    """
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
    surprisals = behaviour.surprisals(language_model, ids, before=before)
    totals = {}
    for (name, item, condition, given), owner, values in zip(
        found, owners, surprisals, strict=True
    ):
        bits = np.nan_to_num(values) / np.log(2)
        sums = np.bincount(owner, bits, minlength=len(given.regions) + 1)[1:]
        regions = totals.setdefault((name, item), {})
        regions |= {(condition, i + 1): float(value) for i, value in enumerate(sums)}
    return totals


def score(language_model, suites, *, before=""):
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

    Returns
    -------
    results : DataFrame
        A row an item: ``suite``, ``circuit``, ``item``, ``correct`` (all of the
        suite's predictions hold).
    """
    totals = region_surprisal(language_model, suites, before=before, needed=True)
    rows = [
        (name, suites[name].circuit, item, is_correct(suites[name], regions))
        for (name, item), regions in totals.items()
    ]
    return pd.DataFrame(rows, columns=["suite", "circuit", "item", "correct"])


def is_correct(suite, regions):
    """Whether an item's surprisals (condition, region) -> bits meet all predictions."""
    return all(holds(formula, regions) for formula in suite.predictions)


def accuracy(results):
    """Share of items that are right, a row a suite, from the results of ``score``.

    Returns
    -------
    table : DataFrame
        ``suite``, ``circuit``, ``n_items``, ``accuracy``.
    """
    groups = results.groupby(["suite", "circuit"], sort=False)["correct"]
    return groups.agg(n_items="size", accuracy="mean").reset_index()


def both_ways(language_model, suites, *, before):
    """Score of every suite, sentences read after some text and alone.

    Parameters
    ----------
    language_model : LanguageModel
    suites : dict of str to Suite
    before : str
        See ``score``.

    Returns
    -------
    table : DataFrame, a row a suite
        ``suite``, ``circuit``, ``n_items``, ``accuracy`` after ``before``, ``accuracy
        alone``, and ``low`` and ``high``: 95 % interval of ``accuracy`` for other items
        (``inference.wilson``).
    """
    table = accuracy(score(language_model, suites, before=before))
    alone = accuracy(score(language_model, suites))
    table["accuracy alone"] = alone["accuracy"]
    low, high = inference.wilson(table["accuracy"], table["n_items"])
    return table.assign(low=low, high=high)


def _read(path, n_items):
    """A Suite from its file, every part checked."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        formulas = [str(p["formula"]) for p in given["predictions"]]
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
            where = f"{path}: item {number}, {condition}"
            found = [n for n, _ in regions]
            if found != list(range(1, n_regions + 1)):
                raise SuiteError(
                    f"{where}: regions are numbered {found}, expected 1 to {n_regions} "
                    "in order, as in region_meta"
                )
            texts = [content for _, content in regions if isinstance(content, str)]
            if len(texts) < n_regions or not "".join(texts).strip():
                raise SuiteError(f"{where}: regions must hold text, not all be empty")
    for formula in formulas:
        _check_formula(path, formula, conditions, n_regions)
    return Suite(
        name=path.stem,
        circuit=next((c for k, c in CIRCUITS.items() if path.stem.startswith(k)), ""),
        predictions=formulas,
        items={
            number: {
                c: sentence([r[1] for r in regions]) for c, regions in item.items()
            }
            for number, item in list(items.items())[: n_items or None]
        },
    )


def _check_formula(path, formula, conditions, n_regions):
    """Refuse what is no formula, or is about what the suite does not have."""
    for number, condition in REGION.findall(formula):
        if condition not in conditions:
            raise SuiteError(
                f"{path}: formula {formula!r} refers to the condition {condition!r}"
                f"{params.did_you_mean(condition, conditions)}. There are "
                f"{tables.some(sorted(conditions))}."
            )
        if number != "*" and not 1 <= int(number) <= n_regions:
            raise SuiteError(
                f"{path}: formula {formula!r} refers to region {number} of 1 to "
                f"{n_regions}"
            )
    regions = dict.fromkeys(itertools.product(conditions, range(1, n_regions + 1)), 0)
    try:
        holds(formula, regions)
    except SuiteError as error:
        raise SuiteError(f"{path}: {error}") from error


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
    for number, condition in REGION.findall(" ".join(suite.predictions)):
        number = np.inf if number == "*" else int(number)
        last[condition] = max(last.get(condition, 0), number)
    return last
