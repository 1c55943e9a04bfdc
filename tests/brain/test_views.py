"""Pages of brain maps: offline, escaped, linked from where the notebook lies."""

import json
import re
import sys
import types
from html import unescape
from html.parser import HTMLParser
from urllib.parse import unquote

import nibabel
import numpy as np
import pytest
from nilearn.datasets import load_mni152_brain_mask

from anbn.brain import views
from anbn.core import artifacts, paths

MAKE = {"cuts": views.volume_page, "surface": views.surface_page}
EVIL = 'a</script><script>alert("1")</script> & \\ <img src=x>'


@pytest.fixture(scope="module")
def mask():
    return load_mni152_brain_mask(resolution=12)


@pytest.fixture(scope="module")
def values(mask):
    n_voxels = int(mask.get_fdata().sum())
    return np.random.default_rng(0).normal(size=n_voxels)


@pytest.fixture(scope="module")
def pages(values, mask):
    title = EVIL + " (simulated BOLD)"
    return {kind: make(values, mask, title) for kind, make in MAKE.items()}


class Tags(HTMLParser):
    """What a browser would load, and how many scripts it would see."""

    def __init__(self):
        super().__init__()
        self.urls, self.scripts, self.images = [], 0, []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.scripts += tag == "script"
        self.images += [attrs.get("src", "")] if tag == "img" else []
        self.urls += [attrs[name] for name in ("src", "href") if attrs.get(name)]


@pytest.mark.parametrize("kind", ["cuts", "surface"])
def test_a_page_loads_nothing_and_runs_only_nilearns_scripts(pages, kind, values, mask):
    tags, plain = Tags(), Tags()
    tags.feed(pages[kind])
    plain.feed(MAKE[kind](values, mask, "harmless"))
    assert tags.scripts == plain.scripts > 0
    assert len(tags.images) == len(plain.images) and "x" not in tags.images
    assert all(url.startswith("data:") for url in tags.urls)
    assert 200_000 < len(pages[kind]) < 4_500_000


@pytest.mark.parametrize("kind", ["cuts", "surface"])
def test_a_title_is_shown_as_it_is(pages, kind):
    shown = [r"<h1[^>]*>(.*?)</h1>", r'id="page-title">(.*?)</div>'][kind == "surface"]
    for pattern in (shown, "<title>(.*?)</title>"):
        found = re.search(pattern, pages[kind], re.S)[1]
        assert unescape(found) == EVIL + " (simulated BOLD)"


def test_scripts_of_the_surface_wait_for_the_canvas(pages):
    """nilearn's template looks for the canvas before it is there."""
    head, canvas, _ = pages["surface"].partition('<canvas id="gl">')
    assert canvas and '<script type="module" async>' not in head
    late = re.findall(r"<script([^>]*)>(?:(?!</script>).)*?ById\(\"gl\"\)", head, re.S)
    assert late and all("module" in attributes for attributes in late)


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.setenv("ANBN_OUTPUTS", str(tmp_path))
    out = tmp_path / "mine" / "02_fbn_extraction"
    (out / "data").mkdir(parents=True)
    (out / "figures").mkdir()
    return out


def hrefs(links):
    return [unquote(unescape(u)) for u in re.findall('href="(.*?)"', links.data)]


@pytest.mark.parametrize("unattended", [True, False])
def test_links_hold_from_where_the_notebook_lies(
    out, values, mask, monkeypatch, unattended
):
    for page in ("volume_page", "surface_page"):
        monkeypatch.setattr(views, page, lambda values, mask, title: title)
    monkeypatch.delenv("ANBN_UNATTENDED", raising=False)
    if unattended:
        monkeypatch.setenv("ANBN_UNATTENDED", "1")
    start = out if unattended else paths.project_root() / "notebooks"
    maps = {"Default <b>": values, "Default-b": -values, "../x": values}
    links = views.write_views(out, maps, mask, note=" (simulated BOLD)")
    found = [(start / href).resolve() for href in hrefs(links)]
    assert len(set(found)) == 4  # three maps, the first on the surface too
    assert all(p.is_file() and p.parent == out / "figures" for p in found)
    assert "<b>" not in links.data and "Default &lt;b&gt;" in links.data
    assert "simulated BOLD" in found[0].read_text() and "MB" in links.data
    artifacts.finish_stage(out, {}, params={}, simulated=True)
    listed = json.loads((out / "manifest.json").read_text())["files"]
    assert {f"figures/{p.name}" for p in found} <= set(listed)


def test_no_maps_no_pages(out, mask):
    assert views.write_views(out, {}, mask).data == ""
    assert not any((out / "figures").iterdir())


class StandIn:
    """Takes what ipyniivue's NiiVue takes."""

    def __init__(self, height):
        self.volumes = []

    def load_volumes(self, volumes):
        self.volumes = [types.SimpleNamespace(**volume) for volume in volumes]


@pytest.mark.parametrize("real", [False, True])
def test_niivue_holds_template_and_maps(values, mask, monkeypatch, real):
    monkeypatch.delenv("ANBN_UNATTENDED", raising=False)
    if real:
        pytest.importorskip("ipyniivue", reason="optional: pip install -e .[niivue]")
    else:
        fake = types.SimpleNamespace(NiiVue=StandIn)
        monkeypatch.setitem(sys.modules, "ipyniivue", fake)
    widget = views.niivue({"a <b>": values, "c": values}, mask)
    template, first, second = widget.volumes
    assert template.name == "template.nii" and template.colormap == "gray"
    assert first.name == "1_a_b.nii" and first.opacity == 1
    assert second.opacity == 0
    assert first.cal_max == np.abs(values).max() > first.cal_min > 0
    image = nibabel.Nifti1Image.from_bytes(first.data)
    np.testing.assert_allclose(image.affine, mask.affine)
    inside = image.get_fdata()[mask.get_fdata() > 0]
    np.testing.assert_allclose(inside, values, rtol=1e-5)


def test_niivue_where_nobody_looks_or_it_is_not_there(values, mask, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipyniivue", None)
    monkeypatch.setenv("ANBN_UNATTENDED", "1")
    assert "no NiiVue widget" in views.niivue({"a": values}, mask).data
    monkeypatch.delenv("ANBN_UNATTENDED")
    with pytest.raises(ImportError, match=r"pip install -e \.\[niivue\]"):
        views.niivue({"a": values}, mask)
