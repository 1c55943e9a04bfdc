"""What a report takes from a stage's notebook: its question, figures in order, text."""

import re

import jupytext
import mistune
import nbformat
from markupsafe import Markup

from anbn.core.artifacts import ArtifactError
from anbn.core.params import notebook_path

_FIGURE = re.compile(r"write_figure\(\s*out,\s*[\"']([^\"']+)[\"']")
_PROGRESS = re.compile(r"\d+%\||\d+(?:\.\d+)?(?:it|s|\w+)/s\b|\d+it \[")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def cells_of(out):
    """Cells of the notebook that wrote a stage.

    Parameters
    ----------
    out : Path
        The stage's folder. If it has no ``notebook.ipynb`` (a run by hand), the cells
        are those of the project's notebook as it stands.

    Returns
    -------
    cells : list of NotebookNode

    Raises
    ------
    ArtifactError
        If the notebook cannot be read.
    """
    path = out / "notebook.ipynb"
    if not path.is_file():
        path = notebook_path(out.name)
    wrong = (OSError, ValueError, AttributeError, LookupError, TypeError)
    try:
        cells = jupytext.read(path).cells
        cells[0].source  # noqa: B018 - a notebook has a title
    except (*wrong, nbformat.ValidationError) as error:
        raise ArtifactError(
            f"{path} cannot be read as a notebook: {error}. Run the stage again."
        ) from error
    return cells


def title_and_question(cells):
    """Title of a notebook, without its number, and the question under it, as HTML."""
    paragraphs = cells[0].source.strip().split("\n\n")
    title = re.sub(r"^#+\s*(?:\d+[a-z]?\s+)?", "", paragraphs[0].strip())
    question = [p for p in paragraphs[1:] if not p.startswith(("|", "Cost"))]
    return title, to_html(question[0] if question else "")


def figures(cells):
    """Names of figures in the notebook's order, with the text after each group.

    Returns
    -------
    groups : list of (list of str, Markup)
        The figures one cell writes, and what the markdown cell right after it says
        about them, up to its next heading.
    """
    groups = []
    for cell, following in zip(cells, [*cells[1:], None], strict=True):
        names = _FIGURE.findall(cell.source) if cell.cell_type == "code" else []
        if names:
            text = ""
            if following is not None and following.cell_type == "markdown":
                text = re.split(r"(?m)^#", following.source)[0].strip()
            groups.append((list(dict.fromkeys(names)), to_html(text)))
    return groups


def warnings(cells):
    """Lines a notebook wrote to standard error, without progress bars."""
    lines = []
    for cell in cells:
        for output in cell.get("outputs", []):
            if output.get("output_type") == "stream" and output.get("name") == "stderr":
                text = _ANSI.sub("", "".join(output.get("text", "")))
                lines += re.split(r"[\r\n]+", text)
    lines = [line.strip() for line in lines]
    kept = [line for line in lines if line and not _PROGRESS.search(line)]
    return list(dict.fromkeys(kept))


class _Renderer(mistune.HTMLRenderer):
    """Markdown of notebooks; nothing that would be fetched, headings as plain text."""

    def image(self, text, url, title=None):
        return mistune.escape(text)

    def heading(self, text, level, **attrs):
        return f"<p><strong>{text}</strong></p>\n"


def to_html(text):
    """Markdown as HTML; HTML in it is shown as text."""
    render = mistune.create_markdown(renderer=_Renderer(escape=True), plugins=["table"])
    return Markup(render(text))
