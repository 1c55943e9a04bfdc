"""The studies and tools a report cites: read from ``references.bib``, numbered."""

import re
from pathlib import Path

BIB = Path(__file__).with_name("references.bib")
_ENTRY = re.compile(r"^@(\w+)\{([^,\s]+),\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", re.MULTILINE)
_CITED = re.compile(r"\[(@[\w-]+(?:; @[\w-]+)*)\]")


def load_bibliography():
    """All entries.

    Returns
    -------
    entries : dict of str to dict
        By key: the fields, and ``bibtex``, the entry as it stands.
    """
    text = BIB.read_text(encoding="utf-8")
    return {
        m[2]: dict(_FIELD.findall(m[3])) | {"bibtex": m[0]}
        for m in _ENTRY.finditer(text)
    }


def cited(texts):
    """Keys cited as ``[@key]`` or ``[@one; @two]``, in the order of their first use."""
    groups = [group for text in texts for group in _CITED.findall(text)]
    return list(dict.fromkeys(re.findall(r"@([\w-]+)", " ".join(groups))))


def split(text, numbers):
    """Cut text at its citations.

    Parameters
    ----------
    text : str
    numbers : dict of str to int
        Number of each key.

    Returns
    -------
    parts : list of (str, list of int)
        Text, and the numbers cited after it.
    """
    pieces = _CITED.split(text)
    parts = []
    for i in range(0, len(pieces), 2):
        group = pieces[i + 1] if i + 1 < len(pieces) else ""
        keys = re.findall(r"@([\w-]+)", group)
        parts.append((pieces[i], [numbers[key] for key in keys]))
    return parts


def describe(entry):
    """An entry as text, and where it is.

    Returns
    -------
    text, url : str
        The address is empty where none is known.
    """
    names = entry["author"].split(" and ")
    people = [_plain(name).split(",")[0].strip() for name in names]
    if people[-1] == "others" or len(people) > 3:
        people = [f"{people[0]} et al."]
    year = f" ({entry['year']})" if "year" in entry else ""
    text = f"{_joined(people)}{year}. {_plain(entry['title'])}."
    place = entry.get("journal", entry.get("booktitle"))
    if place:
        numbers = [entry[k] for k in ("volume", "pages") if k in entry]
        text += f" {_plain(place)}{' ' * bool(numbers)}{_plain(', '.join(numbers))}."
    if "eprint" in entry:
        text += f" arXiv:{entry['eprint']}."
    if "doi" in entry:
        return text, f"https://doi.org/{entry['doi']}"
    if "eprint" in entry:
        return text, f"https://arxiv.org/abs/{entry['eprint']}"
    return text, entry.get("url", "")


def _joined(people):
    return people[0] if len(people) == 1 else f"{', '.join(people[:-1])}, {people[-1]}"


def _plain(text):
    """BibTeX to text: quotes, dashes, braces."""
    for old, new in {"``": "“", "''": "”", "--": "–", "{": "", "}": ""}.items():
        text = text.replace(old, new)
    return text
