"""The notebooks as text: one question each, one step a cell, any cell run again."""

import ast
import re

import jupytext
import pytest

from anbn.core import params
from anbn.study import notebooks

EVERY = [*notebooks.names(), "90_sweep_report"]
SCREEN = 50  # lines
REUSED = {"ax", "axes", "figure"}  # what is drawn on, and written at once
CHANGING = {"append", "extend", "insert", "update", "pop", "setdefault", "remove"}


def read(stage):
    return jupytext.read(params.notebook_path(stage))


def code(stage):
    """The code cells but that of the parameters, parsed, with their tags."""
    for cell in read(stage).cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code" and "parameters" not in tags:
            yield tags, cell.source, ast.parse(cell.source)


def bound(tree):
    """Names that a cell binds, without those of its loops."""
    looped = {
        name.id
        for node in ast.walk(tree)
        if isinstance(node, ast.For | ast.comprehension)
        for name in ast.walk(node.target)
        if isinstance(name, ast.Name)
    }
    names = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    return {name for name in names - looped - REUSED if not name.startswith("_")}


@pytest.mark.parametrize("stage", EVERY)
def test_begins_with_title_question_and_what_it_reads_and_writes(stage):
    notebook = read(stage)
    assert notebook.metadata.kernelspec.name == "python3"
    title = notebook.cells[0].source
    assert title.startswith(f"# {stage.partition('_')[0]} ")
    assert re.match(r"\*\*[^*]+\?\*\*", title.split("\n\n")[1])
    assert "| reads | writes |" in title and "Cost:" in title and "arXiv" in title


@pytest.mark.parametrize("stage", EVERY)
def test_imports_stand_in_one_cell_and_are_of_modules(stage):
    imports = [tree for tags, _, tree in code(stage) if "imports" in tags]
    others = [tree for tags, _, tree in code(stage) if "imports" not in tags]
    assert len(imports) == 1
    kinds = ast.Import | ast.ImportFrom
    assert all(isinstance(node, kinds) for node in imports[0].body)
    assert not any(isinstance(n, kinds) for tree in others for n in ast.walk(tree))
    for node in imports[0].body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("anbn"):
            depth = node.module.count(".")
            named = {alias.name for alias in node.names}
            assert depth == 1 or named <= {"current", "resolve", "cache_dir", "rng_of"}


@pytest.mark.parametrize("stage", EVERY)
def test_calls_are_written_out(stage):
    for _, source, tree in code(stage):
        for node in ast.walk(tree):
            kinds = ast.FunctionDef | ast.ClassDef | ast.Lambda
            assert not isinstance(node, kinds), ast.unparse(node)
            if isinstance(node, ast.AugAssign):
                assert not isinstance(node.op, ast.BitOr), ast.unparse(node)
            if isinstance(node, ast.Call):
                written = ast.unparse(node)
                assert all(keyword.arg for keyword in node.keywords), written
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                assert name != "partial", written
                stars = [a for a in node.args if isinstance(a, ast.Starred)]
                assert not stars or name in ("print", "zip"), written
        assert "default_rng(" not in source


@pytest.mark.parametrize("stage", EVERY)
def test_a_cell_is_one_step(stage):
    for tags, source, _ in code(stage):
        if "imports" not in tags:
            assert source.count("\n") < SCREEN, source[:200]


@pytest.mark.parametrize("stage", EVERY)
def test_a_cell_overwrites_nothing_of_another(stage):
    owner = dict.fromkeys(params.declared(stage), "the parameters")
    for _, source, tree in code(stage):
        own = bound(tree)
        for name in own & set(owner):
            pytest.fail(f"{name} of {owner[name]!r} is bound again in {source!r}")
        owner |= dict.fromkeys(own, source[:60])
        for node in ast.walk(tree):
            into = None
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
                into = node.value
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                into = node.func.value if node.func.attr in CHANGING else None
            while isinstance(into, ast.Subscript | ast.Attribute):
                into = into.value
            if isinstance(into, ast.Name):
                assert into.id not in owner or into.id in own, ast.unparse(node)
