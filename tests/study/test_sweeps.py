import os

import pytest
from projects import FIRST, SECOND, THIRD
from sweeping import write

from anbn.core import params
from anbn.study import engine, sweeps

VALUES = f"{FIRST}.value"


def read(quick, text):
    write(quick, text)
    return sweeps.read("s")


def test_grid_points_seeds_and_set(quick):
    sweep = read(
        quick,
        f"""study: mine
stages: [02]
set: {{{SECOND}.names: [a, b]}}
points:
  - {{{FIRST}.value: 7}}
  - {{{FIRST}.names: [x, y]}}
grid: {{02.value: [5, 6.0]}}
seeds: [0, 3]
""",
    )
    assert list(sweep.reads) == [FIRST, SECOND]
    assert len(sweep.points) == 8
    found = [
        [
            p.values[FIRST][k] if k != "two" else p.values[SECOND]["value"]
            for k in ("value", "names", "two", "seed")
        ]
        for p in sweep.points
    ]
    expected = [
        [value, names, two, seed]
        for value, names in ((7, []), (2, ["x", "y"]))
        for two in (5, 6)
        for seed in (0, 3)
    ]
    assert found == expected
    assert all(p.values[SECOND]["names"] == ["a", "b"] for p in sweep.points)
    assert all(
        p.values[FIRST]["seed"] == p.values[SECOND]["seed"] for p in sweep.points
    )
    columns = [VALUES, f"{FIRST}.names", f"{SECOND}.value", "seed"]
    assert list(sweep.points[0].columns) == sweep.varied == columns
    assert sweep.points[0].label == "01.value=7,names=none,02.value=5,seed=0"
    assert sweep.points[-1].label == "01.value=2,names=x+y,02.value=6,seed=3"
    runs, chains = engine.plan(sweep)
    assert len(runs) == 4 + 8
    assert len(chains) == 8
    assert sorted(len(run.points) for run in runs.values()) == [1] * 8 + [2] * 4


def test_all_stages_and_another_study(quick):
    text = f"study: nothing\ngrid: {{{VALUES}: [3]}}\n"
    write(quick, text)
    sweep = sweeps.read("s", "mine")
    assert list(sweep.reads) == [FIRST, SECOND, THIRD]
    assert sweep.varied == []
    assert [p.label for p in sweep.points] == ["point"]
    with pytest.raises(params.ParamError, match="there is no study 'nothing'"):
        sweeps.read("s")


def test_labels_are_file_names(quick):
    long = ", ".join(f"w{i}" for i in range(60))
    sweep = read(
        quick,
        f"study: mine\nstages: [01]\ngrid: {{{FIRST}.names: [[{long}], [a/b, '..'], "
        "['é ü'], ['? *']]}",
    )
    labels = [p.label for p in sweep.points]
    assert labels[0].startswith("001-names=w0+w1")
    assert len(labels[0]) < 80
    assert labels[2] != labels[3]
    assert len(set(labels)) == 4
    for label in labels:
        (quick / "labels" / label).mkdir(parents=True)
        assert "/" not in label
        assert label.isascii()
    assert sweeps.as_text(["a", "b"]) == "a, b"
    assert sweeps.as_text([]) == "[]"


BASE = "study: mine\nstages: [02]\n"
GRID = BASE + "grid: "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study: mine", "nothing varies"),
        ("", "must hold `name: value` lines, found None"),
        ("[1]", "must hold `name: value` lines"),
        ("study: [", "is not readable as YAML"),
        ("study: mine\ngird: {}", r"unknown key 'gird' \(did you mean 'grid'\?\)"),
        (f"study: mine\n{VALUES}: [1]", "Parameters of stages go below"),
        ("study: mie\nseeds: [1]", r"no study 'mie' \(did you mean 'mine'\?\)"),
        ("seeds: [1]", "there is no study None"),
        ("study: sweeps\nseeds: [1]", "there is no study 'sweeps'"),
        ("study: 2001-99-99\nseeds: [1]", "is not readable as YAML"),
        ("study: mine\nstages: []\nseeds: [1]", "stages must be a list"),
        ("study: mine\nstages: 02\nseeds: [1]", "stages must be a list"),
        (
            "study: mine\nstages: [04]\nseeds: [1]",
            "04_.* is not run here",
        ),
        ("study: mine\nstages: [04b]\nseeds: [1]", "04b_.* is not run here"),
        ("study: mine\nstages: [09]\nseeds: [1]", "unknown stage '09'"),
        (
            "study: mine\nstages: [02_fbn_extract]\nseeds: [1]",
            "did you mean '02_fbn_extr",
        ),
        (GRID + "{}", "grid is empty"),
        (GRID + "[1]", "grid is empty or not a block"),
        (GRID + "{02.value: []}", "02.value must be a list that is not empty"),
        (GRID + "{02.value: 5}", "02.value must be a list that is not empty, found 5"),
        (GRID + "{value: [5]}", "must be <stage>.<parameter>"),
        (GRID + "{03.value: [5]}", "stage 03_an_bn_coupling is not run here"),
        (GRID + "{12_x.value: [5]}", "unknown stage '12_x'"),
        (GRID + "{02.valu: [5]}", r"no parameter 'valu' \(did you mean 'value'\?\)"),
        (GRID + "{02.value: [many]}", "value must be int, found 'many'"),
        (GRID + "{02.value: [100]}", "value must lie in 0 to 99, found 100"),
        (GRID + "{02.value: [.nan]}", "finite"),
        (GRID + "{02.names: [a, b]}", r"list of lists, as \[\[a\], \[...\]\]"),
        (GRID + "{02.names: [[a], b]}", "a list of lists"),
        (GRID + "{02.device: [cpu, cuda]}", "does not change what a stage finds"),
        (GRID + "{02.study: [a, b]}", "the folder is chosen by the sweep"),
        (GRID + "{02.value: [5], 02.value: [6]}", "'02.value' stands twice"),
        (GRID + f"{{02.value: [5], {SECOND}.value: [6]}}", "value is given twice"),
        (GRID + "{02.value: [5, 5.0]}", "two points are the same: .* Delete one"),
        (GRID + "{02.value: [5]}\nset: {02.value: 6}", "twice: by set and by grid"),
        (GRID + "{02.seed: [5]}\nseeds: [6]", "given twice: by grid: 02.seed and by s"),
        (BASE + "points: [{02.value: 5}]\nset: {02.value: 6}", "by set and by points"),
        (BASE + "set: [1]\nseeds: [1]", "set must hold `<stage>.<parameter>: value`"),
        (BASE + "points: []", "points must be a list that is not empty"),
        (BASE + "points: [5]", "points, number 1 must hold"),
        (BASE + "points: [{}, {02.value: 2}]", "two points are the same"),
        (BASE + "seeds: []", "seeds must be a list that is not empty"),
        (BASE + "seeds: [a]", "seeds: .* seed must be int, found 'a'"),
        (BASE + "seeds: [1, 1]", "two points are the same"),
        ("study: mine\nstages: [01]\nsubjects: [3]", "subjects: stage 02_fbn_ext"),
        (
            GRID + f"{{01.value: {list(range(100))}, 02.value: {list(range(100))}}}\n"
            "seeds: [0, 1]",
            "20000 points",
        ),
    ],
)
def test_wrong_specs(quick, text, message):
    with pytest.raises(params.ParamError, match=message) as error:
        read(quick, text)
    assert "s.yaml" in str(error.value)
    assert not (quick / "outputs").exists()


@pytest.mark.parametrize("name", ["nothing", "../mine", "", "a b"])
def test_no_such_sweep(quick, name):
    with pytest.raises(params.ParamError, match=r"there is no sweep .*here: s\."):
        sweeps.read(name)


PEOPLE = """
bold: str = "simulated"  # where from
n_subjects: int = 20  # number (3 to 1000)
max_subjects: int = 0  # of all (0 to 1000)
subjects: list[str] = []  # names
"""


@pytest.mark.parametrize(
    ("bold", "subjects", "column"),
    [
        ("simulated", [6, 12], "n_subjects"),
        ("alice", [6, 12], "max_subjects"),
        ("bids", [["sub-1", "sub-2"], ["sub-3"]], "subjects"),
    ],
)
def test_subjects(quick, bold, subjects, column):
    path = quick / "notebooks" / f"{SECOND}.py"
    text = path.read_text()
    path.write_text(
        text.replace('\ndevice: str = "auto"', PEOPLE + 'device: str = "a"')
    )
    (quick / "params" / "mine" / f"{SECOND}.yaml").write_text(f"bold: {bold}\n")
    sweep = read(quick, BASE + f"subjects: {subjects}")
    assert sweep.varied == [f"{SECOND}.{column}"]
    assert [p.values[SECOND][column] for p in sweep.points] == subjects
    labels = {"simulated": "n_subjects=6", "alice": "max_subjects=6"}
    assert sweep.points[0].label == labels.get(bold, "subjects=sub-1+sub-2")
    conflict = BASE + f"subjects: {subjects}\nset: {{02.{column}: {subjects[0]}}}"
    with pytest.raises(params.ParamError, match="given twice"):
        read(quick, conflict)
    if bold != "bids":
        with pytest.raises(params.ParamError, match="need bold: bids"):
            read(quick, BASE + "subjects: [[sub-1]]")
    with pytest.raises(params.ParamError, match="subjects"):
        read(quick, BASE + "subjects: [1.5]")
    several = f"subjects: {subjects}\ngrid: {{02.bold: [simulated, bids]}}"
    with pytest.raises(params.ParamError, match=r"same .*bold at all"):
        read(quick, BASE + several)


def test_aliases_without_end(quick):
    deep = "a0: &a0 [1]\n" + "".join(
        f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)
    )
    with pytest.raises(params.ParamError, match="unknown key 'a0'"):
        read(quick, deep)
    with pytest.raises(params.ParamError, match="found"):
        read(quick, BASE + "grid: {02.value: &a [*a]}")


@pytest.mark.parametrize("name", list(sweeps.names()))
def test_shipped_sweeps(name):
    study = sweeps.load_spec(name)[0]["study"]
    sweep = sweeps.read(name)
    assert len(sweep.points) > 1
    assert sweeps.names()[name]  # says in its first line what it is for
    if study == "alice" and not os.environ.get("ANBN_DATA"):
        pytest.skip("ANBN_DATA is not set to a folder that holds alice/")
    runs, chains = engine.plan(sweep)
    assert len(runs) <= sum(map(len, chains))
