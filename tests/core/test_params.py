import re

import pytest
import yaml

from anbn.core import params
from anbn.study import notebooks

STAGE = "03_an_bn_coupling"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the notebooks with a params folder of its own."""
    real = params.project_root()
    (tmp_path / "params" / "mine").mkdir(parents=True)
    (tmp_path / "notebooks").symlink_to(real / "notebooks")
    monkeypatch.setenv("ANBN_ROOT", str(tmp_path))
    return tmp_path / "params" / "mine" / f"{STAGE}.yaml"


@pytest.mark.parametrize(
    "line, expected",
    [
        (
            "n_draw: 5",
            r"unknown parameter 'n_draw' \(did you mean 'n_draws",
        ),
        ("n_draws: many", r"n_draws must be int, found 'many' \(str\)"),
        ("n_draws: 2.5", "n_draws must be int"),
        ("n_draws: 3", "n_draws must lie in 20 to"),
        ("level: 1e-3", "YAML reads 1e-3 as text: write 1.0e-3"),
        ("level: 0.9", "level must lie in 0.0001 to 0.5, found 0.9"),
        ("kind: ffn_hiden", r"one of .*found 'ffn_hiden' \(did you mean 'ffn_hidden'"),
        ("kind: [ffn_out]", "kind must be str"),
        ("null_method: runs", "'runs' is no longer offered. Take shift, which rolls"),
        ("study: other", "study must be 'mine', found 'other'"),
        ("- a list", "must hold `name: value` lines"),
        ("kind: [unclosed", "not readable as YAML"),
    ],
)
def test_bad_parameters_are_named(project, line, expected):
    project.write_text(line)
    with pytest.raises(params.ParamError, match=expected) as error:
        params.read("mine", STAGE)
    assert project.name in str(error.value)


def test_defaults_and_overrides(project):
    project.write_text("level: 0.01\nn_draws: 80\nbatch_size: 3\nleave_out_start: 4\n")
    values = params.read("mine", STAGE)
    assert (values["level"], values["n_draws"], values["study"]) == (0.01, 80, "mine")
    assert isinstance(values["leave_out_start"], float)
    assert values["seed"] == params.declared(STAGE)["seed"].default


def test_empty_file_gives_defaults(project):
    project.write_text("")
    assert params.read("mine", STAGE)["n_draws"] == 200


def test_unknown_study_suggests(monkeypatch):
    with pytest.raises(params.ParamError, match="did you mean 'quickstart'"):
        params.read("quikstart", STAGE)


@pytest.mark.parametrize("stage", notebooks.names())
def test_every_shipped_study_is_valid(stage):
    folder = params.project_root() / "params"
    studies = [p.name for p in folder.iterdir() if p.is_dir() and p.name != "sweeps"]
    assert {"quickstart", "alice", "ci"} <= set(studies)
    for study in studies:
        if stage in notebooks.of_study(study):
            assert params.read(study, stage)["study"] == study


def test_a_study_may_have_some_stages_only():
    stages = notebooks.names()
    assert notebooks.of_study("quickstart") == stages
    assert notebooks.of_study("volumes") == stages[:3]
    assert "02_fbn_extraction" not in notebooks.of_study("key_neurons")
    assert (
        notebooks.of_study("quikstart") == stages
    )  # so that its name is complained of


@pytest.mark.parametrize("stage", notebooks.names())
def test_parameters_cells_document_every_parameter(stage):
    for parameter in params.declared(stage).values():
        assert parameter.comment, f"{stage}: {parameter.name} has no comment"
        # YAML reads names such as null, on or yes as something else
        assert list(yaml.safe_load(f"{parameter.name}: 1")) == [parameter.name]
        if parameter.type in ("int", "float"):
            low, high = parameter.bounds
            assert low <= parameter.default <= high
        assert params.check(parameter, parameter.default, stage) == parameter.default


@pytest.mark.parametrize("stage", notebooks.names())
def test_papermill_can_read_the_parameters(stage, tmp_path):
    import jupytext
    import nbformat
    import papermill

    path = tmp_path / "notebook.ipynb"
    nbformat.write(jupytext.read(params.notebook_path(stage)), path)
    found = papermill.inspect_notebook(str(path))
    assert set(found) == set(params.declared(stage))


def test_current_checks_a_running_notebook():
    values = {name: p.default for name, p in params.declared(STAGE).items()}
    assert params.current(STAGE, values) == values
    with pytest.raises(params.ParamError, match="notebook 03_an_bn_coupling: level"):
        params.current(STAGE, values | {"level": 2.0})


def test_study_name_cannot_leave_the_outputs_folder():
    study = params.declared(STAGE)["study"]
    with pytest.raises(params.ParamError, match="letters, digits"):
        params.check(study, "../elsewhere", "here")


@pytest.mark.parametrize("value", ["x", ["x"], {"ffn_out": 3}, {1: "x"}])
def test_a_mapping_maps_text_to_text(value):
    modules = params.declared("01_activation_recording")["modules"]
    paths = {"ffn_out": "layers.*.mlp"}
    assert params.check(modules, paths, "here") == paths
    with pytest.raises(params.ParamError, match="here: modules must map text to text"):
        params.check(modules, value, "here")


def test_text_is_no_bool():
    parameter = params.declared("02_fbn_extraction")["check_tr"]
    with pytest.raises(params.ParamError, match="check_tr must be bool, found 'false'"):
        params.check(parameter, "false", "here")


@pytest.mark.parametrize(
    ("stage", "old", "new"),
    [
        (stage, old, re.match(r"\w+", new)[0])
        for stage, names in params.REPLACED.items()
        for old, new in names.items()
    ],
)
def test_parameters_that_were_replaced_are_named(stage, old, new):
    known = list(params.declared(stage))
    assert old not in known and (new in known or new == "nothing")
    told = params.hint(stage, old, known)
    assert "was replaced by" in told and new in told
    assert "did you mean" in params.hint(stage, "sedd", known)


def study_of(tmp_path, monkeypatch, files):
    """A project with the notebooks of this one and a study `mine` of these files."""
    (tmp_path / "notebooks").symlink_to(params.project_root() / "notebooks")
    (tmp_path / "params" / "mine").mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / "params" / "mine" / f"{name}.yaml").write_text(text)
    monkeypatch.setenv("ANBN_ROOT", str(tmp_path))


@pytest.mark.parametrize(
    ("stage", "name", "expected"),
    [
        ("02_fbn_extraction", "n_model_networks", "02b_model_networks"),
        ("03_an_bn_coupling", "n_atoms", "03b_functional_organisation"),
        ("04_key_neuron_masking", "keep_shares", "04b_keep_amplify_tasks"),
    ],
)
def test_a_parameter_of_a_divided_notebook_is_sent_to_its_new_place(
    stage, name, expected, tmp_path, monkeypatch
):
    study_of(tmp_path, monkeypatch, {stage: f"{name}: 3"})
    with pytest.raises(
        params.ParamError, match=f"{name}.* is a parameter of {expected}"
    ):
        params.read("mine", stage)


def test_a_file_of_a_notebook_that_is_gone_says_where_its_keys_belong(
    tmp_path, monkeypatch
):
    text = "criteria: [wanda]\nn_networks: 12\nseed: 1\nnonsense: 2\n"
    study_of(tmp_path, monkeypatch, {"05_cutting_out": text})
    with pytest.raises(params.ParamError) as found:
        params.check_files("mine")
    lines = str(found.value).splitlines()
    assert lines[0].endswith("and delete this one:")
    assert "05_cutting_out became 04c_cutting_out and 04d_fingerprint" in lines[0]
    assert lines[1:] == [
        "  criteria: 04c_cutting_out",
        "  n_networks: 04d_fingerprint",
        "  seed: 04c_cutting_out and 04d_fingerprint",
        "  nonsense: nowhere, delete it",
    ]


def test_a_file_of_no_notebook_is_named(tmp_path, monkeypatch):
    study_of(tmp_path, monkeypatch, {"03b_organisation": "seed: 1"})
    with pytest.raises(params.ParamError, match="did you mean '03b_functional_org"):
        params.check_files("mine")


def test_shipped_studies_have_files_of_notebooks_only():
    for study in params.studies():
        params.check_files(study)


def test_notebooks_that_were_one_are_told_apart(tmp_path, monkeypatch):
    files = {
        "03_an_bn_coupling": "delays: [1, 2]\nn_draws: 200\nlevel: 0.01\nkind: qk\n",
        "03b_functional_organisation": "level: 0.02\n",
        "04_key_neuron_masking": "",
    }
    study_of(tmp_path, monkeypatch, files)
    missing, *others = params.apart("mine")[::-1]
    assert missing.endswith(
        "04b_keep_amplify_tasks.yaml: 04b_keep_amplify_tasks is not run"
    )
    assert others == [
        "delays is [1, 2] in 03_an_bn_coupling.yaml; 03b_functional_organisation.yaml "
        "leaves it at [0]"
    ]


def test_shipped_studies_set_nothing_apart():
    for study in ("quickstart", "alice", "ci", "key_neurons", "volumes"):
        assert params.apart(study) == []
