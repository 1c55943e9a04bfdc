"""The page of a study: what it shows, what it warns of, what it refuses."""

import html
import re
import shutil
from contextlib import contextmanager
from html.parser import HTMLParser

import nbformat
import pytest
from reported import CUT, FIGURES, FIRST, FOURTH, SECOND, THIRD, run, values_of

from anbn.core import artifacts, params
from anbn.core.artifacts import ArtifactError
from anbn.study import fingerprints, notebooks, report, report_notebook

EVIL = '<script>alert("x")</script>'


@contextmanager
def project(folder):
    """Nothing has run yet; the project is the real one, with a study of its own."""
    real = params.project_root()
    for name in ("lib", "notebooks"):
        (folder / name).symlink_to(real / name)
    # what a run reads stays the real parameters of the quickstart study
    for study in ("mine", "quickstart"):
        shutil.copytree(real / "params" / "quickstart", folder / "params" / study)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANBN_ROOT", str(folder))
        patch.setenv("ANBN_CACHE", str(folder / "cache"))
        yield folder / "outputs"


@pytest.fixture
def outputs(tmp_path):
    with project(tmp_path) as outputs:
        yield outputs


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study of which all stages have run, and its page."""
    with project(tmp_path_factory.mktemp("project")) as outputs:
        for stage in notebooks.names():
            run(stage)
        return outputs / "mine", page_of()


def change(out, **changed):
    """Write a manifest anew with other content, properly."""
    manifest = artifacts.read_manifest(out) | changed
    artifacts.write_manifest(out, manifest)


def page_of(study="mine"):
    path, _ = report.write(study)
    return path.read_text(encoding="utf-8")


def text_of(page):
    """Words of a page, without styles."""
    body = re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(body))


def test_all_stages_on_one_page(whole):
    study, page = whole
    text = text_of(page)
    for stage in notebooks.names():
        title, _ = report_notebook.title_and_question(
            report_notebook.cells_of(study / stage)
        )
        number = stage.partition("_")[0]
        assert f'id="stage-{number}">{number} {html.escape(title)}</h2>' in page
        for name in FIGURES.get(stage, ["some_figure"]):
            assert artifacts.sha256(study / stage / "figures" / f"{name}.png") in text
    assert "Which neurons of a language model answer to which word" in text
    assert "The bars count the words that begin in each volume" in text  # a caption
    assert "largest synchrony (|r|) 0.726" in text
    assert "neurons in the networks' mask 210" in text
    assert page.count("<img ") == page.count('alt="Figure: A title"') == 10
    assert page.count("3 of 9 were found.") == 2 * len(notebooks.names())
    assert "BOLD is simulated, not measured: 20 subjects" in text
    bibtex = (study / "report.bib").read_text(encoding="utf-8")
    assert "@misc{liu2025networks," in bibtex and "brennan2016" not in bibtex
    assert bibtex.count("\n@") + 1 == len(re.findall('<li id="ref-', page))


class Outline(HTMLParser):
    """Tags of a page that are not closed in order, headings, addresses, ids."""

    def __init__(self):
        super().__init__()
        self.open, self.wrong, self.levels, self.urls, self.ids = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.urls += [attrs[k] for k in ("src", "href") if k in attrs]
        self.ids += [value for key, value in attrs.items() if key == "id"]
        self.levels += [int(t[1]) for t in (tag,) if re.fullmatch("h[1-6]", t)]
        if tag not in ("meta", "img", "br", "hr", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_the_page_is_whole_and_needs_nothing(whole):
    study, page = whole
    outline = Outline()
    outline.feed(page)
    assert not outline.wrong and not outline.open
    steps = zip(outline.levels, outline.levels[1:], strict=False)
    assert outline.levels[0] == 1 and all(b - a <= 1 for a, b in steps)
    assert len(outline.ids) == len(set(outline.ids))
    for url in outline.urls:
        if url.startswith("#"):
            assert url[1:] in outline.ids
        elif not url.startswith(("data:image/png;base64,", "https://")):
            assert (study / url).is_file(), url
    assert not re.search(r"<(script|iframe|link|object|embed)\b|url\(|@import", page)


def test_html_is_shown_as_text(outputs):
    run(
        FIRST,
        title=EVIL,
        summary={"perplexity": EVIL, EVIL: 1},
        story_start=EVIL,
        model=EVIL,
    )
    out = outputs / "mine" / FIRST
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_markdown_cell(f"# 01 {EVIL}\n\n**{EVIL}** ![](http://x/y.png)"),
        nbformat.v4.new_code_cell('artifacts.write_figure(out, "raster", figure)'),
        nbformat.v4.new_markdown_cell(f"{EVIL} [a](javascript:alert(1))"),
    ]
    stderr = nbformat.v4.new_output("stream", name="stderr", text=EVIL + "\n")
    notebook.cells[1].outputs = [stderr]
    nbformat.write(notebook, out / "notebook.ipynb")
    page = page_of()
    assert "<script" not in page and "http://x" not in page
    assert 'href="javascript' not in page
    # title, question, caption, alt text, number, its name, parameters, story, warning
    assert page.count("&lt;script&gt;") >= 10
    assert text_of(page).count(EVIL) >= 9


def test_what_a_reader_must_know(outputs):
    for stage in (FIRST, SECOND):
        run(stage, simulated=stage == SECOND)
    run(THIRD, simulated=False, n_draws=50)
    out = outputs / "mine"
    made = artifacts.read_manifest(out / SECOND)["provenance"]
    packages = made["packages"] | {"torch": "1.0"}
    other = made | {"commit": "abc-dirty", "packages": packages}
    change(out / SECOND, provenance=other)
    (out / FOURTH).mkdir()
    (out / FOURTH / "failed.ipynb").write_text("{}")
    text = text_of(page_of())
    assert "Simulated data. Stage 02 rests on" in text
    assert "different commits: " in text and "different versions of torch: " in text
    assert "not committed were in the project when" in text
    assert "n_draws is 50: p of the group's null cannot be below 1/51" in text
    assert "04_key_neuron_masking: It failed." in text
    assert "04c_cutting_out: It has not run." in text
    assert text.count("It was run by hand") == 3


def test_stages_that_are_not_up_to_date(outputs):
    for stage in (FIRST, SECOND, THIRD):
        run(stage)
    now, folder = {}, outputs / "mine"
    for stage, reads in notebooks.needed("mine", [THIRD]).items():
        values, upstream = params.read("mine", stage), {r: now[r] for r in reads}
        now[stage] = fingerprints.fingerprint(stage, values, upstream)
        change(folder / stage, fingerprint=now[stage])
    assert "p to date" not in text_of(page_of())
    change(folder / SECOND, fingerprint="0" * 64)
    text = text_of(page_of())
    assert text.count("Not up to date.") == 1
    assert "Its parameters are the same; its notebook, the library" in text
    older = values_of(SECOND, level=0.01) | {"gone": 1}
    del older["n_null_sets"]
    change(folder / SECOND, params=older)
    text = text_of(page_of())
    assert "Parameters changed since: level (0.01, now 0.05)." in text
    assert "no longer exist: gone." in text and "added since: n_null_sets." in text
    shutil.rmtree(outputs.parent / "params" / "mine")
    assert text_of(page_of()).count("Whether it is up to date cannot be told") >= 1


def test_figures_that_are_not_what_the_stage_wrote_are_left_out(outputs):
    out = run(FIRST)
    (out / "figures" / "raster.png").write_bytes(b"\x89PNG other")
    page = page_of()
    assert page.count("<img ") == 1
    assert "figure raster is missing, or is not the file the stage wrote" in page
    (out / "figures" / "word_rate.png").unlink()
    assert page_of().count("<img ") == 0


def test_a_figure_no_cell_names_is_shown_all_the_same(outputs):
    run(FOURTH)  # its notebook has no figure of this name
    page = page_of()
    assert page.count("<img ") == 1 and 'alt="Figure: A title"' in page


def test_views_to_turn_are_linked(outputs):
    out = run(SECOND)
    view = out / "figures" / "view_network_1.html"
    view.write_text("<p>x</p>")
    manifest = artifacts.read_manifest(out)
    listed = {"sha256": artifacts.sha256(view), "bytes": 8}
    files = manifest["files"] | {"figures/view_network_1.html": listed}
    change(out, files=files)
    assert f'href="{SECOND}/figures/view_network_1.html"' in page_of()


@pytest.mark.parametrize(
    "name, change_to, expected",
    [
        ("manifest.json", lambda _: "{", "cannot be read as JSON"),
        ("manifest.json", lambda _: "[]", "manifest"),
        ("manifest.json", lambda _: '{"stage": "01"}', "missing or wrong"),
        ("manifest.json", lambda text: text.replace("1500", "1501"), "checksum"),
        ("notebook.ipynb", lambda _: '{"cells": 3', "as a notebook"),
        ("notebook.ipynb", lambda _: '{"cells": 3, "nbformat": 4}', "as a notebook"),
        ("notebook.ipynb", lambda _: '{"cells": [], "nbformat": 4}', "as a notebook"),
    ],
)
def test_damage_is_named_and_nothing_is_written(outputs, name, change_to, expected):
    run(SECOND)
    path = run(FIRST) / name
    path.write_text(change_to(path.read_text() if path.is_file() else ""))
    with pytest.raises(ArtifactError, match=expected) as error:
        report.write("mine")
    assert str(path) in str(error.value)
    left = {p.name for p in (outputs / "mine").iterdir()}
    assert left == {FIRST, SECOND}


def test_an_interrupted_report_leaves_the_last_one(outputs, monkeypatch):
    run(FIRST)
    before = page_of()
    monkeypatch.setattr(
        report.Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError(28))
    )
    with pytest.raises(OSError):
        report.write("mine")
    monkeypatch.undo()
    folder = outputs / "mine"
    assert (folder / "report.html").read_text(encoding="utf-8") == before
    assert not list(folder.glob(".tmp-*"))


def test_the_command_prints_numbers_and_path(outputs, capsys):
    run(FIRST)
    report.main(["mine"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"mine/{FIRST} (simulated data)"
    assert any(re.fullmatch(r"  n_words +1500", line) for line in lines)
    assert f"mine/{CUT}: has not run" in lines
    assert lines[-1] == str(outputs / "mine" / "report.html")
    for study, expected in {"nothing": "has run", "../mine": "letters, digits"}.items():
        with pytest.raises(SystemExit, match=f"^error: .*{expected}"):
            report.main([study])


def test_progress_bars_are_no_warnings():
    def cell(text):
        output = nbformat.v4.new_output("stream", name="stderr", text=text)
        return nbformat.v4.new_code_cell("x", outputs=[output])

    bars = "windows: 100%|████| 62/62 [01:04<00:00,  1.04s/it]\n\rlabels: 3it [00:01]\n"
    bars += "labels: 100%|███| 10/10 [00:00<00:00, 10.41map/s]\n\x1b[A\n"
    warning = "lib.py:3: UserWarning: it is 3 % off\n"
    found = report_notebook.warnings([cell(bars), cell(warning), cell(warning)])
    assert found == [warning.strip()]


def test_captions_end_at_the_next_heading():
    cells = [
        nbformat.v4.new_code_cell("artifacts.write_figure(\n    out, 'one', f)"),
        nbformat.v4.new_markdown_cell("Of one.\n\n## Next\n\nNot of one."),
        nbformat.v4.new_code_cell('write_figure(out, "two", f)'),
        nbformat.v4.new_code_cell('write_figure(out, "three", f)'),
        nbformat.v4.new_markdown_cell("Of three."),
    ]
    found = report_notebook.figures(cells)
    assert [names for names, _ in found] == [["one"], ["two"], ["three"]]
    assert [text.strip() for _, text in found] == [
        "<p>Of one.</p>",
        "",
        "<p>Of three.</p>",
    ]
