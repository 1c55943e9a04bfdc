"""The page of an executed notebook."""

import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from anbn.core import params
from anbn.study import page

STAGE = "03_an_bn_coupling"


@pytest.fixture
def notebook():
    tagged = [("parameters", "level: float = 0.05"), ("imports", "import numpy")]
    cells = [new_markdown_cell("# 03 A title\n\n**A question?**\n\nCost: little.")]
    cells += [new_code_cell(code, metadata={"tags": [t]}) for t, code in tagged]
    injected = new_code_cell("level = 0.01", metadata={"tags": ["injected-parameters"]})
    output = nbformat.v4.new_output("stream", text="seen")
    cells += [injected, new_code_cell("print(1)", outputs=[output])]
    return new_notebook(cells=cells)


def manifest(**changed):
    values = {name: p.default for name, p in params.declared(STAGE).items()}
    return {
        "stage": STAGE,
        "simulated": False,
        "finding": "3 of 9 neurons, r < .4",
        "params": values | {"study": "mine", "level": 0.01},
    } | changed


def order(html, *texts):
    """Where texts stand on the page, in this order."""
    body = html[html.index("<body") :]
    places = [body.index(text) for text in texts]
    assert places == sorted(places)


def test_begins_with_title_question_and_finding(notebook):
    html = page.write_out(notebook, manifest())
    order(html, "A title", "A question?", "3 of 9 neurons, r &lt; .4", "Cost")
    assert "<title>03 A title</title>" in html
    assert "simulated" not in html[html.index("<body") :]


def test_says_that_data_is_simulated(notebook):
    html = page.write_out(notebook, manifest(simulated=True))
    assert "Found (some of the data is simulated):" in html


def test_parameters_are_a_table_with_what_differs_in_bold(notebook):
    html = page.write_out(notebook, manifest())
    (table,) = re.findall(r"<table class=.parameters.>.*?</table>", html, re.S)
    bold = re.findall(r"<b><code>(\w+)</code></b>", table)
    assert bold == ["level"] and "<b>0.01</b>" in table
    assert table.count("<code>") == len(params.declared(STAGE)) - 1  # without study
    assert "which 1 differ" in html
    assert "level: float" not in html and "level = 0.01" not in html


def test_imports_are_folded_and_code_is_not(notebook):
    html = page.write_out(notebook, manifest())
    folds = re.findall(r"<details class=.code.([^>]*)><summary>(\w+)<", html)
    assert folds == [("", "Imports"), (' open=""', "Code")]
    assert "seen" in html


def test_progress_is_left_out_and_warnings_are_not(notebook):
    for text in ("draws: 100%|###| 3/3 [00:04, 1.4it/s]", "UserWarning: look"):
        output = nbformat.v4.new_output("stream", name="stderr", text=text)
        notebook.cells.append(new_code_cell("draw()", outputs=[output]))
    html = page.write_out(notebook, manifest())
    assert "3/3" not in html and "UserWarning: look" in html


def test_a_notebook_without_words_has_a_page(notebook):
    notebook.cells = notebook.cells[-1:]
    html = page.write_out(notebook, manifest(finding=""))
    order(html, STAGE, "Parameters", "seen")
    assert "Found" not in html[html.index("<body") :]


def test_leaves_the_notebook_alone(notebook):
    before = nbformat.writes(notebook)
    page.write_out(notebook, manifest())
    assert nbformat.writes(notebook) == before
