"""Brain maps to turn and cut in a browser, saved beside the notebook.

nilearn makes the pages. All their JavaScript stands in them, so that they open offline;
the surface (fsaverage5) comes with nilearn.
"""

import os
import re
import warnings
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np
from IPython.display import HTML
from nilearn import plotting
from nilearn.datasets import load_fsaverage, load_fsaverage_data, load_mni152_template
from nilearn.masking import unmask
from nilearn.surface import SurfaceImage

from anbn.core import artifacts
from anbn.core.paths import project_root

_STRONGEST = 90  # percentile of |map| below which nothing is coloured


def attended():
    """Whether somebody may be looking: not when the pipeline runs the notebook."""
    return "ANBN_UNATTENDED" not in os.environ


def volume_page(values, mask, title):
    """A map on three cuts of the MNI template that follow the mouse.

    Parameters
    ----------
    values : array of shape (n_voxels,)
        Its strongest tenth is coloured.
    mask : image
    title : str
        May hold anything: it is escaped.

    Returns
    -------
    page : str
        HTML.
    """
    image = unmask(np.asarray(values, np.float32), mask)
    with warnings.catch_warnings():
        # of numpy, about nilearn; and of nilearn, about views that are gone
        warnings.filterwarnings("ignore", message=".*'partition' will ignore the")
        warnings.filterwarnings("ignore", message="It seems you have created more")
        # its own title would stand in JavaScript, unescaped, and be cut off
        view = plotting.view_img(image, threshold=_threshold(values), title="")
    page = _page(view, title)
    heading = f'<h1 style="font: 18px sans-serif">{escape(title)}</h1>'
    return page.replace("<body>", f"<body>{heading}", 1)


def surface_page(values, mask, title):
    """A map on the inflated cortex (fsaverage5) that can be turned; needs WebGL.

    Parameters and return value as of ``volume_page``. Drawn by NiiVue, as nilearn's
    other pages of surfaces need a further package.
    """
    image = unmask(np.asarray(values, np.float32), mask)
    meshes = load_fsaverage("fsaverage5")
    with warnings.catch_warnings():
        # vertices without a voxel
        warnings.filterwarnings("ignore", message="Mean of empty slice")
        warnings.filterwarnings("ignore", message="It seems you have created more")
        texture = SurfaceImage.from_volume(
            meshes["pial"], image, inner_mesh=meshes["white_matter"]
        )
        parts = {h: np.nan_to_num(part) for h, part in texture.data.parts.items()}
        view = plotting.view_surf(
            surf_map=SurfaceImage(meshes["inflated"], parts),
            bg_map=load_fsaverage_data(mesh_type="inflated", data_type="sulcal"),
            hemi="both",
            threshold=_threshold(values),
            title=escape(title),
            engine="niivue",
        )
    return _page(view, title)


def _threshold(values):
    return float(np.nanpercentile(np.abs(values), _STRONGEST))


def _page(view, title):
    """HTML of a view that asks nothing of the network and waits for its own parts."""
    page = re.sub(r'<link rel="icon".*?>', "", view.get_standalone(), flags=re.S)
    named = f"<title>{escape(title)}</title>"
    page = re.sub("<title>.*?</title>", lambda _: named, page, count=1, flags=re.S)
    # these two look for elements that stand below them
    page = page.replace('<script type="module" async>', '<script type="module">')
    late = r'<script>(?=\s*document\.getElementById\("gl"\))'
    return re.sub(late, '<script type="module">', page)


def write_views(out, maps, mask, *, note=""):
    """Write pages of maps as ``figures/view_*.html``, the first on the surface, too.

    Parameters
    ----------
    out : Path
        Folder of the stage.
    maps : dict of str to array of shape (n_voxels,)
        By name, in the order of the links.
    mask : image
    note : str
        Goes into every title, as ``(simulated BOLD)``.

    Returns
    -------
    links : IPython HTML
        A line a map, with the size of its pages. They hold from the stage's own folder
        where the pipeline runs the notebook, else from ``notebooks/``.
    """
    lines = []
    for i, (name, values) in enumerate(maps.items()):
        pages, stem = {"cuts": volume_page}, f"view_{i + 1}_{artifacts.slug(name)[:40]}"
        if i == 0:
            pages["surface"] = surface_page
        links = []
        for kind, make in pages.items():
            path = Path(out) / "figures" / f"{stem}_{kind}.html"
            with artifacts.atomic(path) as temporary:
                temporary.write_text(make(values, mask, name + note), encoding="utf-8")
            size = f"{path.stat().st_size / 1e6:.1f} MB"
            links.append(f'<a href="{_link(path)}" target="_blank">{kind}</a> ({size})')
        lines.append(f"<li>{escape(name)}: {', '.join(links)}</li>")
    if not lines:
        return HTML("")
    return HTML(f"<p>Interactive views{escape(note)}:</p><ul>{''.join(lines)}</ul>")


def _link(path):
    """URL of a figure, relative to where the notebook that links it lies."""
    start = project_root() / "notebooks" if attended() else path.parents[1]
    return escape(quote(Path(os.path.relpath(path, start)).as_posix()))


def niivue(maps, mask, *, note=""):
    """A NiiVue widget: the MNI template and maps over it, for a live notebook.

    Parameters
    ----------
    maps : dict of str to array of shape (n_voxels,)
        The first is shown, the others are there at opacity 0 (``widget.volumes``).
    mask : image
    note : str

    Returns
    -------
    widget : ipyniivue.NiiVue or IPython HTML
        Where the pipeline runs the notebook, a line that says that there is none.

    Raises
    ------
    ImportError
        If ipyniivue is not installed: it is optional.
    """
    if not attended():
        return HTML("<p>Nobody looks on: no NiiVue widget was made (widgets).</p>")
    try:
        from ipyniivue import NiiVue
    except ImportError as error:
        raise ImportError(
            f"widgets: True needs ipyniivue, which is not installed ({error}). Run "
            "`.venv/bin/python -m pip install -e .[niivue]` and restart JupyterLab, or "
            "set widgets: False."
        ) from error
    template = load_mni152_template(resolution=2)
    volumes = [_volume(template, "template", colormap="gray", colorbar_visible=False)]
    for i, (name, values) in enumerate(maps.items()):
        image = unmask(np.asarray(values, np.float32), mask)
        low, high = _threshold(values), float(np.abs(values).max())
        about = {"colormap": "warm", "colormap_negative": "winter"}
        about |= {"cal_min": low, "cal_max": high, "opacity": float(i == 0)}
        about |= {"cal_min_neg": -high, "cal_max_neg": -low}
        called = artifacts.slug(f"{i + 1} {name}{note}")
        volumes.append(_volume(image, called, colorbar_visible=i == 0, **about))
    widget = NiiVue(height=400)
    widget.load_volumes(volumes)
    return widget


def _volume(image, name, **options):
    # the name's ending says what the bytes are
    return {"data": image.to_bytes(), "name": f"{name}.nii", **options}
