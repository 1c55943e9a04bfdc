"""What `make data` fetches of a study whose files are on OpenNeuro."""

import numpy as np
import pytest
import yaml
from nifti import save
from serving import serving

from anbn.brain import openneuro
from anbn.core import params
from anbn.study import data, fingerprints

STUDY = {
    "01_activation_recording": {"story": "openneuro:ds000001/stimuli/story.tsv"},
    "02_fbn_extraction": {
        "bold": "bids",
        "bids_folder": "openneuro:ds000001/derivatives/fmriprep",
        "task": "story",
        "mask_file": "openneuro:ds000001/masks/mask.nii.gz",
    },
}


@pytest.fixture
def study(tmp_path, prompt, monkeypatch):
    """A study `mine`, and a server of what it names."""
    folder = tmp_path / "server" / "openneuro.org" / "ds000001"
    for subject in ("sub-01", "sub-02"):
        func = folder / "derivatives/fmriprep" / subject / "func"
        func.mkdir(parents=True)
        save(func / f"{subject}_task-story_bold.nii.gz", np.ones((2, 2, 2, 9)))
    (folder / "masks").mkdir()
    save(folder / "masks/mask.nii.gz", np.ones((2, 2, 2)))
    (folder / "stimuli").mkdir()
    (folder / "stimuli/story.tsv").write_text("word\tonset\toffset\na\t0\t1\n")
    (tmp_path / "notebooks").symlink_to(params.project_root() / "notebooks")
    for stage, values in STUDY.items():
        path = tmp_path / "params" / "mine" / f"{stage}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(values))
    monkeypatch.setenv("ANBN_ROOT", str(tmp_path))
    monkeypatch.setenv("ANBN_DATA", str(tmp_path / "data"))
    with serving(tmp_path / "server") as server:
        monkeypatch.setattr(openneuro, "URL", f"{server.host}/openneuro.org")
        yield tmp_path / "data" / "openneuro" / "ds000001"


def test_runs_and_files_are_fetched_and_named(study, capsys):
    data.main(["mine", "--subjects", "sub-02"])
    printed = capsys.readouterr().out
    bold = study / "derivatives/fmriprep/sub-02/func/sub-02_task-story_bold.nii.gz"
    for path in (bold, study / "masks/mask.nii.gz", study / "stimuli/story.tsv"):
        assert path.is_file() and f"  {path}\n" in printed
    assert not (study / "derivatives/fmriprep/sub-01").exists()
    values = params.read("mine", "02_fbn_extraction")
    assert str(bold) in fingerprints.data_specs(values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine"], "expected the name of a subject or more, found none"),
        (["mine", "--subjects", "sub-01,sub-03"], "no subject 'sub-03'"),
        (["quickstrat"], "quickstrat"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(study, arguments, message):
    with pytest.raises(SystemExit, match=message) as error:
        data.main(arguments)
    assert str(error.value).startswith("error: ") and not study.exists()
