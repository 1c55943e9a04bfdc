"""Fetch what a study needs from outside: ``make data STUDY=name SUBJECTS="sub-001"``.

Runs of BOLD that ``bids_folder`` names on OpenNeuro, and every file that a parameter
names. Where each is, is printed.
"""

import argparse
import sys
from pathlib import Path

from anbn.brain import bids, narratives, openneuro
from anbn.core import downloads, params
from anbn.core.paths import NARRATIVES, OPENNEURO, canonical, data_dir, resolve
from anbn.study import fingerprints, notebooks
from anbn.text.textfiles import StimulusError


def fetch(study, subjects=()):
    """Fetch, or find, every file a study's parameters name, and say where it is.

    Parameters
    ----------
    study : str
    subjects : sequence of str
        Whose BOLD to fetch from OpenNeuro, instead of the study's own.
    """
    values = {stage: params.read(study, stage) for stage in notebooks.of_study(study)}
    of_brain = values.get("02_fbn_extraction", {})
    folder = canonical(of_brain.get("bids_folder", ""))
    story = values.get("01_activation_recording", {}).get("story", "")
    names = ("task", "space", "desc", "entities")
    asked = {name: of_brain[name] for name in names if name in of_brain}
    asked["subjects"] = subjects or of_brain.get("subjects", ())
    if of_brain.get("bold") == "bids" and folder.startswith(NARRATIVES):
        narratives.fetch(
            data_dir("narratives"),
            Path(story).stem if story.startswith(NARRATIVES) else asked["task"],
            subjects=asked["subjects"],
            derivative=Path(folder).name,
            space=asked["space"],
        )
    elif of_brain.get("bold") == "bids" and folder.startswith(OPENNEURO):
        openneuro.fetch(folder, data_dir("openneuro"), **asked)
    for of_stage in values.values():
        lists = [v if isinstance(v, list) else [v] for v in of_stage.values()]
        for spec in {v for values in lists for v in values if isinstance(v, str)}:
            if canonical(spec).startswith(OPENNEURO) and canonical(spec) != folder:
                openneuro.fetch(spec, data_dir("openneuro"))
    for of_stage in values.values():
        for spec in fingerprints.data_specs(of_stage):
            print(f"{spec}\n  {resolve(spec)}")


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m anbn.study.data", description=__doc__
    )
    parser.add_argument("study", help="a folder of params/")
    parser.add_argument("--subjects", default="", help="whose BOLD to fetch")
    options = parser.parse_args(arguments)
    try:
        fetch(options.study, options.subjects.replace(",", " ").split())
    except (
        params.ParamError,
        OSError,
        bids.BidsError,
        downloads.DownloadError,
        narratives.NarrativesError,
        openneuro.OpenNeuroError,
        StimulusError,
    ) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
