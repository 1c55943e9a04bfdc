"""The page of an executed notebook: it begins with the question and the finding.

The notebook stays as it is; on its page the cells of parameters are a table, and code
can be folded. How it looks stands in ``page_template/index.html.j2``, a template of nbconvert.
"""

import copy
from html import escape
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter

from anbn.core import params
from anbn.study import report_notebook
from anbn.study.wording import value as as_text


def write_out(notebook, manifest):
    """The page as HTML.

    Parameters
    ----------
    notebook : NotebookNode
        Executed; its first cell is title, question and the rest, in paragraphs, or, of
        one that says nothing, code.
    manifest : dict
        What the stage found and with which parameters.

    Returns
    -------
    html : str
    """
    page = copy.deepcopy(notebook)
    cells = page.cells
    head, rest = [f"# {manifest['stage']}"], []
    if cells and cells[0].cell_type == "markdown":
        paragraphs = cells.pop(0).source.strip().split("\n\n")
        head, rest = paragraphs[:2], paragraphs[2:]
    about = [
        _text([*head, _finding(manifest)]),
        _text(rest),
        _text([_parameters(manifest["stage"], manifest["params"])]),
    ]
    kept = [c for c in cells if not _tags(c) & {"parameters", "injected-parameters"}]
    for cell in kept:
        if cell.cell_type == "code":
            cell.outputs = _without_progress(cell)
    page.cells = about + kept
    page.metadata["title"] = head[0].lstrip("# ")
    exporter = HTMLExporter(
        template_name="page_template",
        extra_template_basedirs=[str(Path(__file__).parent)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    return exporter.from_notebook_node(page)[0]


def _tags(cell):
    return set(cell.metadata.get("tags", []))


def _without_progress(cell):
    """Outputs of a cell; standard error only if it says more than how far it is."""
    said = report_notebook.warnings([cell])
    return [o for o in cell.outputs if said or o.get("name") != "stderr"]


def _text(paragraphs):
    return nbformat.v4.new_markdown_cell("\n\n".join(paragraphs))


def _finding(manifest):
    """What was found, as a paragraph that stands out."""
    if not manifest.get("finding"):
        return ""
    kind = "finding simulated" if manifest["simulated"] else "finding"
    part = " (some of the data is simulated)" * manifest["simulated"]
    text = escape(manifest["finding"], quote=False)
    return f'<div class="{kind}"><p><b>Found{part}:</b> {text}</p></div>'


def _parameters(stage, values):
    """The parameters as a folded table, what differs from the default in bold."""
    declared = params.declared(stage)
    rows, n_changed = [], 0
    for name in [name for name in values if name != "study"]:
        value, known = values[name], declared.get(name)
        changed = known is None or value != known.default
        n_changed += changed
        texts = [f"<code>{name}</code>", escape(as_text(value))]
        texts = [f"<b>{text}</b>" for text in texts] if changed else texts
        texts.append(escape(known.comment if known else ""))
        rows.append("<tr>" + "".join(f"<td>{text}</td>" for text in texts) + "</tr>")
    header = "<tr><th>parameter</th><th>value</th><th>meaning</th></tr>"
    return (
        f'<details class="folded"><summary>Parameters: {len(rows)}, of which '
        f"{n_changed} differ from the notebook's defaults (bold)</summary>"
        f'<table class="parameters">{header}{"".join(rows)}</table></details>'
    )
