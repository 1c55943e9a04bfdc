"""Parameter files that somebody, or something, has changed at random."""

import math

import pytest
import yaml
from mutations import mutate, seeded

from anbn.core import params
from anbn.study import fingerprints

SHIPPED = sorted((params.project_root() / "params").glob("*/0*.yaml"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "params" / "mine").mkdir(parents=True)
    (tmp_path / "notebooks").symlink_to(params.project_root() / "notebooks")
    monkeypatch.setenv("ANBN_ROOT", str(tmp_path))
    monkeypatch.setenv("ANBN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "params" / "mine"


@pytest.mark.parametrize("n", [40, pytest.param(500, marks=pytest.mark.faults)])
def test_mutated_parameters(folder, tally, n, monkeypatch):
    known = {p.stem: params.declared(p.stem) for p in SHIPPED}
    monkeypatch.setattr(params, "declared", known.get)  # read 500 times else
    for i in range(n):
        rng, shipped = seeded("parameters", i), SHIPPED[i % len(SHIPPED)]
        text = shipped.read_text().replace(f"study: {shipped.parent.name}", "")
        declared = known[shipped.stem]
        if rng.random() < 0.3:
            every = {k: p.default for k, p in declared.items() if k != "study"}
            text = yaml.safe_dump(every)
        text = mutate(text, rng)
        path = folder / shipped.name
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            values = params.read("mine", shipped.stem)
            fingerprints.data_specs(values)
        except params.ParamError as error:
            named = str(path) in str(error) and len(str(error)) < 5000
            tally("parameter files", "clear error" if named else "otherwise", error)
            continue
        except FileNotFoundError:  # a valid name of data that is not there
            tally("parameter files", "clear error")
            continue
        except Exception as error:
            tally("parameter files", "otherwise", f"{i}: {error!r}\n{text}")
            continue
        good = list(values) == list(declared)
        for name, p in declared.items():
            good &= params.check(p, values[name], "again") == values[name]
            items = values[name] if isinstance(values[name], list) else [values[name]]
            good &= all(math.isfinite(v) for v in items if isinstance(v, float))
        ending = "right result" if good else "otherwise"
        tally("parameter files", ending, f"{i}: {values}")


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{n}: &{n} [{','.join(['*' + p] * 9)}]\n"
    for p, n in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("level: .nan", "level must be a finite number"),
        ("level: .inf", "level must be a finite number"),
        ("n_draws: " + "9" * 400, "n_draws must be a finite number"),
        ("n_draws: 0x" + "f" * 5000, "thousands of digits"),
        ("n_draws: " + "9" * 5000, "not readable as YAML"),
        ("level: 2001-99-99", "not readable as YAML"),
        ("level: !!timestamp x", "not readable as YAML"),
        ("level: 0.01\nn_draws: 80\nlevel: 0.02", "'level' stands twice"),
        ("level: " + "[" * 5000, "not readable as YAML"),
        ('kind: "a\\0b"', "kind holds characters that are no text"),
        ('kind: "\\ud800"', "kind holds characters that are no text"),
        ("level: &a [*a]", "level must be float"),
        (BOMB, "unknown parameter 'a'"),
        (BOMB.replace("i:", "level:"), "unknown parameter 'a'"),
        ("level: !!python/object/apply:os.getcwd []", "not readable as YAML"),
    ],
)
def test_traps_of_yaml(folder, text, expected):
    stage = "03_an_bn_coupling"
    (folder / f"{stage}.yaml").write_text(text)
    with pytest.raises(params.ParamError, match=expected) as error:
        params.read("mine", stage)
    assert len(str(error.value)) < 5000


def test_a_value_that_unfolds_is_cut_in_the_error(folder):
    level = params.declared("03_an_bn_coupling")["level"]
    with pytest.raises(params.ParamError) as error:
        params.check(level, yaml.safe_load(BOMB)["i"], "here")
    assert len(str(error.value)) < 5000
