"""The report in Chromium: accessible, nothing fetched, nothing wider than a phone.

axe-core comes from npm (`tests/report_a11y/package-lock.json`); without it, Chromium or
Playwright the tests are skipped, and fail where they were asked for
(`make test-browser`).
"""

import shutil
import subprocess

import pytest
from browsing import lacking
from reported import run

from anbn.core.paths import project_root
from anbn.study import notebooks, report

pytestmark = pytest.mark.browser

A11Y = project_root() / "tests" / "report_a11y"


@pytest.fixture(scope="module")
def axe():
    """Source of axe-core; npm fetches it by its hash where it is not there."""
    script = A11Y / "node_modules" / "axe-core" / "axe.min.js"
    if not script.is_file():
        if not shutil.which("npm"):
            lacking("axe-core is not there and npm is not installed")
        command = ["npm", "ci", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=A11Y, capture_output=True, text=True)
        if done.returncode:
            lacking(f"npm could not fetch axe-core: {done.stderr.strip()[-300:]}")
    return script.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser(chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"]
        )


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    """Report of a study with warnings, all stages, long values and wide figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANBN_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        for stage in notebooks.names():
            run(stage, study="a11y", size=(9, 3), n_draws=20)
        path, _ = report.write("a11y")
    return path


@pytest.fixture(params=[390, 1200])
def page(browser, page_path, request):
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    page.fetched = []
    page.on("request", lambda r: page.fetched.append(r.url))
    page.goto(page_path.as_uri())
    yield page
    page.close()


def test_no_violation_of_accessibility(page, axe):
    page.evaluate(axe)
    found = page.evaluate("axe.run()")
    told = [
        f"{v['id']} ({v['impact']}): {v['nodes'][0]['html'][:200]}"
        for v in found["violations"]
    ]
    assert not told, "\n".join(told)
    assert len(found["passes"]) > 30  # it did check something


def test_axe_finds_what_is_wrong(page, axe):
    page.evaluate(axe)
    page.evaluate("document.querySelector('img').removeAttribute('alt')")
    page.evaluate("document.documentElement.removeAttribute('lang')")
    found = page.evaluate("axe.run()")
    assert {"image-alt", "html-has-lang"} <= {v["id"] for v in found["violations"]}


def test_it_fits_and_fetches_nothing(page, page_path):
    assert page.fetched[0] == page_path.as_uri()
    assert all(url.startswith("data:") for url in page.fetched[1:])
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= page.viewport_size["width"]
    loaded = "[...document.images].every(i => i.complete && i.naturalWidth > 0)"
    assert page.evaluate(loaded)


def test_it_prints_whole(browser, page_path):
    page = browser.new_page(viewport={"width": 680, "height": 900})  # A4 less margins
    page.goto(page_path.as_uri())
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    cut = """[...document.querySelectorAll('.wide')]
        .filter(box => box.scrollWidth > box.clientWidth + 1)
        .map(box => box.getAttribute('aria-label'))"""
    assert page.evaluate(cut) == []
    assert len(page.pdf(format="A4")) > 20_000
    page.close()
