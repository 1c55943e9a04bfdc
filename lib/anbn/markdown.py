"""Markdown as the prose that it shows: signs of markup are no words."""

import re
from collections import Counter

FRONT_MATTER = re.compile(r"\A---\n(?:[^\n]*\n)*?(?:---|\.\.\.)\n")
CODE = re.compile(r"^(```|~~~)[^\n]*\n.*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
# what is taken out, by name: the pattern, and what stays of it
SIGNS = (
    ("comments", re.compile(r"<!--.*?-->", re.DOTALL), ""),
    ("rows of tables", re.compile(r"^[ \t]*\|.*\|[ \t]*$", re.MULTILINE), ""),
    ("images", re.compile(r"!\[[^\]\n]*\](?:\([^()\n]*\)|\[[^\]\n]*\])"), ""),
    ("notes", re.compile(r"^\[\^?[^\]\n]+\]:[^\n]*$", re.MULTILINE), ""),
    ("marks of notes", re.compile(r"\[\^[^\]\n]+\]"), ""),
    ("links", re.compile(r"\[([^\]\n]*)\](?:\([^()\n]*\)|\[[^\]\n]*\])"), r"\1"),
    ("tags", re.compile(r"</?(?:p|b|i|em|strong|sub|sup|span|div)\b[^<>\n]*>"), ""),
    ("line breaks", re.compile(r"<br\b[^<>\n]*>"), " "),
    ("rules", re.compile(r"^[ \t]*(?:[-*_][ \t]*){3,}$", re.MULTILINE), ""),
    ("headings", re.compile(r"^#{1,6}[ \t]+(.*?)[ \t]*#*$", re.MULTILINE), r"\1"),
    ("underlines", re.compile(r"(?<=\S\n)(?:=+|-+)[ \t]*$", re.MULTILINE), ""),
    ("quotes", re.compile(r"^[ \t]*(?:>[ \t]?)+", re.MULTILINE), ""),
    ("lists", re.compile(r"^[ \t]*(?:[-*+]|\d{1,3}[.)])[ \t]+", re.MULTILINE), ""),
    ("code", re.compile(r"(`+)([^`\n]+)\1"), r"\2"),
    (
        "emphasis",
        re.compile(
            r"(?<![\w*\\])(\*{1,3})(?=[^\s*])([^*]*?[^\s*])\1(?![\w*])|"
            r"(?<![\w_\\])(_{1,3})(?=[^\s_])([^_]*?[^\s_])\3(?![\w_])"
        ),
        r"\2\4",
    ),
)
ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+.!>~|-])")


def plain(text):
    """The prose of Markdown.

    Words of headings, links, lists and emphasis stay; front matter, images, notes,
    tables, rules and fenced code go.

    Parameters
    ----------
    text : str

    Returns
    -------
    text : str
    left_out : Counter
        How often each kind of sign was taken out.
    """
    left_out = Counter()
    for name, pattern in (("front matter", FRONT_MATTER), ("blocks of code", CODE)):
        text, left_out[name] = pattern.subn("", text)
    for name, pattern, stays in SIGNS:
        text, left_out[name] = pattern.subn(stays, text)
    text, left_out["emphasis within emphasis"] = SIGNS[-1][1].subn(r"\2\4", text)
    text = ESCAPED.sub(r"\1", text)
    return text, +left_out
