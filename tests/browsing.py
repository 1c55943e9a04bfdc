"""What a person does in JupyterLab, with Playwright, and what its server says of it."""

import json
import os
import re
from pathlib import Path
from urllib.parse import unquote
from urllib.request import Request, urlopen

import pytest
from jupyter_client import BlockingKernelClient

SHOWN = "window.jupyterapp.shell.currentWidget"
SHOTS = os.environ.get("ANBN_SHOTS")  # a folder for screenshots, if wanted


def lacking(reason):
    """Skip; fail where the tests were asked for (`make test-browser`)."""
    (pytest.fail if os.environ.get("ANBN_BROWSER") else pytest.skip)(reason)


def ask(lab, path, given=None):
    """What the server's REST interface answers; `given` is put there."""
    body = None if given is None else json.dumps(given).encode()
    request = Request(f"{lab.url}{path}", body, method="PUT" if body else "GET")
    request.add_header("Authorization", f"token {lab.token}")
    with urlopen(request) as answer:
        return json.load(answer)


def kernel_of(lab, name):
    (session,) = [s for s in ask(lab, "api/sessions") if s["path"].endswith(name)]
    return session["kernel"]


def interpreter(lab, kernel):
    """`sys.prefix` of a running kernel, links followed; asked beside the notebook."""
    client = BlockingKernelClient()
    client.load_connection_file(str(lab.runtime / f"kernel-{kernel}.json"))
    client.start_channels()
    asked = "str(__import__('pathlib').Path(__import__('sys').prefix).resolve())"
    reply = client.execute_interactive(
        "", silent=True, user_expressions={"prefix": asked}, timeout=30
    )
    client.stop_channels()
    told = reply["content"]["user_expressions"]["prefix"]["data"]["text/plain"]
    return told.strip("'")


def shoot(page, name):
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"lab_{name}.png")


def no_dialog(page):
    dialog = page.locator(".jp-Dialog")
    assert dialog.count() == 0, dialog.inner_text()


def open_notebook(page, name):
    """Double-click on a file; returns how many cells the notebook has."""
    page.locator(".jp-DirListing-item", has_text=re.compile(rf"^{name}")).dblclick()
    page.wait_for_function(
        f"""name => {{
            const shown = {SHOWN};
            return shown?.context?.path?.endsWith(name) && shown.context.isReady
                && shown.content.model?.cells && shown.sessionContext.isReady
        }}""",
        arg=name,
        timeout=60_000,
    )
    no_dialog(page)
    return page.evaluate(f"{SHOWN}.content.model.cells.length")


def close_notebook(page):
    page.evaluate(f"{SHOWN}.sessionContext.shutdown()")
    page.evaluate(f"{SHOWN}.dispose()")


def run_all(page, seconds=240):
    """Run > Run All Cells, and wait until no cell runs or waits."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).first.click()
    page.wait_for_function(
        f"""() => {{
            const cells = [...{SHOWN}.content.model.cells];
            const code = cells.filter(cell => cell.type === "code");
            return code.some(cell => cell.executionCount)
                && code.every(cell => cell.executionState !== "running")
        }}""",
        timeout=1000 * seconds,
        polling=500,
    )


def run_cell(page, text, seconds=60):
    """Run the first cell that holds a text, and wait for it."""
    show_cell(page, text)
    cell = f"{SHOWN}.content.activeCell.model"
    count = page.evaluate(f"{cell}.executionCount")
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-cell')")
    page.wait_for_function(
        f"""count => {cell}.executionCount > count
            && {cell}.executionState !== "running" """,
        arg=count,
        timeout=1000 * seconds,
    )


def picture_of(page, text):
    """The picture that the first cell that holds a text shows, in base64."""
    show_cell(page, text)
    shown = page.evaluate(
        f"""() => {{
            const outputs = {SHOWN}.content.activeCell.model.outputs.toJSON();
            return outputs.map(one => one.data?.["image/png"]).filter(Boolean)
        }}"""
    )
    assert shown, f"the cell with {text} shows no picture"
    return shown


def save(page):
    page.keyboard.press("Escape")
    page.keyboard.press("Control+s")
    page.wait_for_function(f"!{SHOWN}.context.model.dirty")
    no_dialog(page)


def show_cell(page, text):
    """Scroll to the first cell that holds a text: cells out of sight are not drawn."""
    page.evaluate(
        f"""async text => {{
            const notebook = {SHOWN}.content;
            const at = [...notebook.model.cells].findIndex(
                cell => cell.sharedModel.source.includes(text));
            notebook.activeCellIndex = at;
            await notebook.scrollToItem(at, "start")
        }}""",
        text,
    )


def edit(page, text, end):
    """Type another end of a text that begins a line of a code cell."""
    show_cell(page, text)
    line = page.locator(".cm-line", has_text=re.compile(f"^{re.escape(text)}"))
    line.scroll_into_view_if_needed()
    line.click(position={"x": 5, "y": 8})
    page.keyboard.press("Home")
    for _ in text[: -len(end)]:
        page.keyboard.press("ArrowRight")
    for _ in end:
        page.keyboard.press("Delete")
    page.keyboard.type(end)


def explorer_redraws(page):
    """The widget of notebook 03 is there, and another network is another picture."""
    show_cell(page, "explorer.explore(")
    picture = page.locator(".widget-image")
    picture.wait_for(timeout=20_000)
    there = "document.querySelector('.widget-image').naturalHeight > 200"
    page.wait_for_function(there)
    before = picture.get_attribute("src")
    network = page.locator(".widget-dropdown", has_text="network").locator("select")
    names = network.locator("option").all_inner_texts()
    chosen = network.locator("option:checked").inner_text()
    network.select_option(next(name for name in names if name != chosen))
    page.wait_for_function(
        "src => document.querySelector('.widget-image').src !== src",
        arg=before,
        timeout=20_000,
    )
    page.wait_for_function(there)
    picture.scroll_into_view_if_needed()
    shoot(page, "explorer")


def links_of_views(page):
    """Where the links of the interactive views lead, relative to the project."""
    show_cell(page, "views.write_views(")
    links = page.locator(".jp-OutputArea a", has_text=re.compile("^(cuts|surface)$"))
    links.first.wait_for(timeout=20_000)
    # JupyterLab makes addresses of its server of relative links
    page.wait_for_function(
        "text => [...document.querySelectorAll('.jp-OutputArea a')].filter("
        "a => a.textContent === text).every(a => a.href.includes('/files/'))",
        arg="cuts",
    )
    shoot(page, "views")
    found = links.evaluate_all("all => all.map(a => new URL(a.href).pathname)")
    return [unquote(path).partition("/files/")[2] for path in found]
