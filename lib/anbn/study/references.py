"""The studies and tools a report cites: read from ``references.bib``, numbered."""

import functools
import re
from pathlib import Path

import bibtexparser
from bibtexparser.middlewares import SeparateCoAuthors, SplitNameParts
from markupsafe import Markup, escape
from pylatexenc.latex2text import LatexNodes2Text

BIB = Path(__file__).with_name("references.bib")
_CITED = re.compile(r"\[(@[\w-]+(?:; @[\w-]+)*)\]")


@functools.cache
def load_bibliography():
    """All entries.

    Returns
    -------
    entries : dict of str to dict
        By key: the fields, authors as a list of surnames, and ``bibtex``, the entry as
        it stands.
    """
    authors = [SeparateCoAuthors(), SplitNameParts()]
    entries = {}
    for entry in bibtexparser.parse_file(BIB, append_middleware=authors).entries:
        fields = {name: field.value for name, field in entry.fields_dict.items()}
        fields["author"] = [" ".join(p.von + p.last) for p in fields["author"]]
        entries[entry.key] = fields | {"bibtex": entry.raw}
    return entries


def cited(texts):
    """Keys cited as ``[@key]`` or ``[@one; @two]``, in the order of their first use."""
    groups = [group for text in texts for group in _CITED.findall(text)]
    return list(dict.fromkeys(re.findall(r"@([\w-]+)", " ".join(groups))))


def linked(text, keys):
    """Text as HTML, its citations as links to the numbered references.

    Parameters
    ----------
    text : str
        Is escaped.
    keys : list of str
        Of the references, in order; what has none, as in a parameter, stays text.
    """

    def links(found):
        numbers = [keys.index(key) + 1 for key in cited([found[0]]) if key in keys]
        to = [f'<a href="#ref-{number}">{number}</a>' for number in numbers]
        return f"[{', '.join(to)}]" if to else found[0]

    return Markup(_CITED.sub(links, str(escape(text))))


def describe(entry):
    """An entry as text, and where it is.

    Returns
    -------
    text, url : str
        The address is empty where none is known.
    """
    people, rest = entry["author"], []
    if people[-1] == "others" or len(people) > 3:
        people = [f"{people[0]} et al."]
    year = f" ({entry['year']})" if "year" in entry else ""
    place = entry.get("journal", entry.get("booktitle"))
    if place:
        numbers = ", ".join(entry[k] for k in ("volume", "pages") if k in entry)
        rest.append(f"{place} {numbers}".strip())
    if "eprint" in entry:
        rest.append(f"arXiv:{entry['eprint']}")
    text = ". ".join([f"{', '.join(people)}{year}", entry["title"], *rest]) + "."
    text = LatexNodes2Text().latex_to_text(text)
    if "doi" in entry:
        return text, f"https://doi.org/{entry['doi']}"
    if "eprint" in entry:
        return text, f"https://arxiv.org/abs/{entry['eprint']}"
    return text, entry.get("url", "")
