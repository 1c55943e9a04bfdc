"""The prediction formulas of SyntaxGym: parsed by a small grammar, never evaluated.

::

    truth      = comparison (("&" | "|") comparison)*          from left to right
    comparison = sum (("<" | ">" | "=") sum)?
    sum        = atom (("+" | "-") atom)*
    atom       = number | "(" region ";%" condition "%)" | "(" truth ")"

A region is a number, or ``*`` for the sum over all regions of the condition.
"""

import operator
import re

import numpy as np

from anbn import columns

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
    "&": lambda a, b: a and b,
    "|": lambda a, b: a or b,
}
LEVELS = ("&|", "<>=", "+-")  # what binds weakest first


class FormulaError(ValueError):
    """A prediction formula cannot be read."""


def parse(formula, conditions=None, n_regions=None):
    """A formula as nested tuples.

    Parameters
    ----------
    formula : str
    conditions : collection of str, optional
        Those a region may be of.
    n_regions : int, optional
        Regions are numbered from 1 to this.

    Returns
    -------
    tree : tuple
        ``(operator, left, right)``, ``("region", condition, number)`` with None for
        ``*``, or ``("number", value)``.

    Raises
    ------
    FormulaError
        If the text is no formula, mixes numbers and truth values (``a < b < c``), or
        refers to an unknown condition or region.
    """
    tree, at = _level(formula, 0, 0)
    if at < len(formula):
        raise _error(formula, at, "an operator or the end")
    if not _is_truth(tree):
        raise FormulaError(f"formula {formula!r} compares nothing: expected < > or =")
    for condition, number in regions_of(tree):
        if conditions is not None and condition not in conditions:
            raise FormulaError(
                f"formula {formula!r} refers to the condition {condition!r}. "
                f"{columns.did_you_mean(condition, conditions)}There are "
                f"{columns.some(sorted(conditions))}."
            )
        if None not in (number, n_regions) and not 1 <= number <= n_regions:
            raise FormulaError(
                f"formula {formula!r} refers to region {number} of 1 to {n_regions}"
            )
    return tree


def holds(tree, regions):
    """Whether a parsed formula is true of one item.

    Parameters
    ----------
    tree : tuple
        From ``parse``.
    regions : dict of (condition, region number) to float
        Surprisals, bits.
    """
    return bool(_value(tree, regions))


def regions_of(tree):
    """The regions (condition, number) a formula refers to; None as number: all."""
    if tree[0] == "region":
        return {tree[1:]}
    if tree[0] == "number":
        return set()
    return regions_of(tree[1]) | regions_of(tree[2])


def _value(tree, regions):
    if tree[0] == "number":
        return tree[1]
    if tree[0] == "region":
        _, condition, number = tree
        if number is None:
            return sum(v for (name, _), v in regions.items() if name == condition)
        return regions[condition, number]
    return OPERATORS[tree[0]](_value(tree[1], regions), _value(tree[2], regions))


def _is_truth(tree):
    return tree[0] in OPERATORS and tree[0] not in "+-"


def _level(formula, at, level):
    """Parse what binds as strongly as ``LEVELS[level]`` or more, from ``at`` on."""
    if level == len(LEVELS):
        return _atom(formula, at)
    tree, at = _level(formula, at, level + 1)
    while at < len(formula) and formula[at] in LEVELS[level]:
        name, begin = formula[at], at
        right, at = _level(formula, at + 1, level + 1)
        if {_is_truth(tree), _is_truth(right)} != {name in "&|"}:
            wanted = "comparisons" if name in "&|" else "numbers"
            raise _error(formula, begin, f"{wanted} on both sides of {name}")
        tree = (name, tree, right)
    return tree, at


def _atom(formula, at):
    at = _skip(formula, at)
    if match := REGION.match(formula, at):
        number = None if match[1] == "*" else int(match[1])
        return ("region", match[2], number), _skip(formula, match.end())
    if match := NUMBER.match(formula, at):
        return ("number", float(match[0])), _skip(formula, match.end())
    if formula[at : at + 1] != "(":
        raise _error(formula, at, "a number, a region (7;%condition%) or a bracket")
    tree, at = _level(formula, at + 1, 0)
    if formula[at : at + 1] != ")":
        raise _error(formula, at, "a closing bracket")
    return tree, _skip(formula, at + 1)


def _skip(formula, at):
    return at + len(formula[at:]) - len(formula[at:].lstrip())


def _error(formula, at, expected):
    found = formula[at : at + 10] or "the end"
    return FormulaError(
        f"formula {formula!r}, character {at + 1}: expected {expected}, found {found!r}"
    )
