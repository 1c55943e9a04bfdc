"""Numbers and names as a reader of a report expects them."""

import functools
import re
from pathlib import Path

import yaml

NAMES = Path(__file__).with_name("summary_names.yaml")


@functools.cache
def _names():
    return yaml.safe_load(NAMES.read_text(encoding="utf-8"))


def summary_name(key):
    """What a key of a summary means, as words; the key itself, if it is not known."""
    if key in _names():
        return _names()[key]
    for pattern, name in _names().items():
        found = re.fullmatch(pattern, key) if "(" in pattern else None
        if found:
            return name % found[1].replace("_", " ")
    return key.replace("_", " ")


def number(value):
    """A number with three to four digits, thousands apart; anything else as text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.4g}"


def value(parameter):
    """A parameter's value as text."""
    if isinstance(parameter, list):
        return ", ".join(map(value, parameter)) or "none"
    if isinstance(parameter, dict):
        return ", ".join(f"{k}: {value(v)}" for k, v in parameter.items()) or "none"
    if isinstance(parameter, bool):
        return "yes" if parameter else "no"
    if isinstance(parameter, str):
        return repr(parameter) if parameter.strip() != parameter else parameter or "–"
    return f"{parameter:,}" if isinstance(parameter, int) else f"{parameter:g}"


def percent(share):
    """A share of 1 as ``12.5 %``."""
    return f"{100 * share:.3g} %"


def plural(n, one, many=None):
    """``1 word``, ``2 words``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(items):
    """``a``, ``a and b``, ``a, b and c``."""
    items = [str(item) for item in items]
    return " and ".join([", ".join(items[:-1]), items[-1]] if items[1:] else items)


def source(spec):
    """A parameter that names a file or a model, short: its end, and where from."""
    found = re.fullmatch(r"package:([^/]+)/(.+)", spec)
    if found:
        inner = found[2].split("/")[-1]
        return found[1] if inner == "model" else f"{inner} (Python package {found[1]})"
    found = re.fullmatch(r"openneuro:(ds\d+)/(.+)", spec)
    if found:
        return f"{found[2].split('/')[-1]} (data set {found[1]} of OpenNeuro)"
    found = re.fullmatch(r"(alice|narratives|data):(.+)", spec)
    if found:
        return f"{found[2].split('/')[-1]} ({found[1]} data)"
    return spec


def duration(seconds):
    """Seconds as people say them."""
    if seconds < 90:
        return f"some {seconds:.0f} s"
    if seconds < 5400:
        return f"some {seconds / 60:.0f} min"
    return f"some {seconds / 3600:.1f} h"
