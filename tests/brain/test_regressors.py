"""Regressors by name, from tables, and of several runs."""

import numpy as np
import pandas as pd
import pytest

from anbn.brain import clock as brain_clock
from anbn.brain import regressors
from anbn.brain.hrf import response_function
from anbn.brain.regressors import RegressorError, story_regressors, table
from anbn.stats import timeseries

CLOCK = {"n_times": 40, "tr": 1.5, "start": 3.0}


@pytest.fixture
def words(rng):
    onset = np.sort(rng.uniform(-5, 70, 120))
    onset[[7, 50]] = np.nan
    frame = pd.DataFrame({"word": "the", "onset": onset})
    frame["length"] = pd.Series(rng.integers(1, 9, 120), dtype="Int64")
    frame.loc[3, "length"] = pd.NA
    frame["surprisal"] = rng.exponential(size=120)
    frame.loc[[0, 30, 90], "surprisal"] = np.nan
    frame["timed"] = rng.random(120) < 0.5
    frame["entropy"] = np.nan
    frame["constant"] = 2.0
    return frame


def naive(words, values, hrf):
    """One volume and one word at a time."""
    x = np.zeros(CLOCK["n_times"])
    for t in range(len(x)):
        time = CLOCK["start"] + t * CLOCK["tr"]
        for onset, value in zip(words["onset"], values, strict=True):
            if np.isfinite(onset) and np.isfinite(value):
                if hrf == "none":
                    x[t] += value * (time <= onset < time + CLOCK["tr"])
                else:
                    x[t] += value * response_function(time - onset, hrf)
    return x


@pytest.mark.parametrize("hrf", ["spm", "glover", "none"])
def test_words_are_impulses_of_their_values(words, hrf):
    names = ["surprisal", "word_rate", "length", "timed"]
    found = story_regressors(words, [*names, "length"], **CLOCK, hrf=hrf)
    assert list(found) == names and found.shape == (40, 4)
    timed = words["onset"].notna()
    for name in ("surprisal", "length", "timed"):
        values = words[name].astype(float)
        centred = values - values[timed].mean()  # pandas leaves NaN out
        np.testing.assert_allclose(found[name], naive(words, centred, hrf), atol=1e-9)
    ones = np.ones(len(words))
    np.testing.assert_allclose(found["word_rate"], naive(words, ones, hrf), atol=1e-9)
    rate = brain_clock.word_rate(words["onset"], **CLOCK, hrf=hrf)
    np.testing.assert_array_equal(found["word_rate"], rate)
    assert list(story_regressors(words, "length", **CLOCK)) == ["length"]
    assert story_regressors(words, [], **CLOCK).shape == (40, 0)


def test_a_value_does_not_count_words(rng):
    """Values drawn anew for each word share nothing with word rate."""
    many = pd.DataFrame({"onset": np.sort(rng.uniform(0, 600, 3000))})
    many["value"] = 100 + rng.normal(size=3000)
    clock = {"n_times": 300, "tr": 2.0}
    found = story_regressors(many, ["word_rate", "value"], **clock).iloc[20:]
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.3
    assert found["value"].abs().mean() < 0.2 * found["word_rate"].mean()


def test_values_of_words_end_with_their_run(words):
    options = {"tr": 1.5, "hrf": "spm"}
    whole = {"n_times": 30, "start": 2.0, "run_lengths": [12, 18]}
    found = story_regressors(words, ["word_rate"], **options, **whole)["word_rate"]
    border = 2 + 12 * 1.5
    for run, rows, start in [
        (words[~(words["onset"] >= border)], slice(12), 2.0),
        (words[words["onset"] >= border], slice(12, 30), border),
    ]:
        expected = found[rows]
        clock = {"n_times": len(expected), "start": start}
        alone = story_regressors(run, ["word_rate"], **options, **clock)
        np.testing.assert_allclose(expected, alone["word_rate"])


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("suprisal", {}, r"'suprisal' \(did you mean 'surprisal'\?\). There are word_"),
        ("xyz", {}, "regressor 'xyz'. There are word_rate, speech, onset, length"),
        ("word", {}, "no regressor 'word': it is text, not numbers"),
        ("entropy", {}, "'entropy' has no value for any word. A masked model"),
        ("constant", {}, "'constant' is 2 for every word"),
        ("speech", {}, "'speech' needs the words' offset"),
        ("length", {"start": 500.0}, r"the words \(of .* 40 volumes.*500 to 56"),
        ("length", {"hrf": "gamma"}, "hrf must be spm, glover or none, found 'gamma'"),
    ],
)
def test_names_and_clocks_that_cannot_be(words, name, changed, message):
    with pytest.raises(ValueError, match=message):
        story_regressors(words, ["word_rate", name], **CLOCK | changed)


def test_words_without_time(words):
    words["onset"] = np.nan
    with pytest.raises(RegressorError, match="no time"):
        story_regressors(words, ["word_rate"], **CLOCK)


def write(path, text, **options):
    path.write_text(text, **options)
    return str(path)


def test_tables_with_names(tmp_path, rng):
    values = rng.normal(size=(6, 3))
    frame = pd.DataFrame(values, columns=["trans_x", "trans_y", "rot_x"])
    for name, separator in [("a.tsv", "\t"), ("a.csv", ","), ("a.txt", " ")]:
        text = frame.to_csv(sep=separator, index=False)
        path = write(tmp_path / name, text, encoding="utf-8-sig")
        found = table(path, ["rot_*", "trans_?", "*_x"], n_times=6)
        assert list(found) == ["rot_x", "trans_x", "trans_y"]
        np.testing.assert_allclose(found, values[:, [2, 0, 1]], rtol=1e-15)
        assert list(table(path, n_times=6)) == list(frame)
    frame.to_csv(tmp_path / "a.tsv.gz", sep="\t", index=False)
    found = table(str(tmp_path / "a.tsv.gz"), "rot_x", n_times=6)
    np.testing.assert_allclose(found["rot_x"], values[:, 2], rtol=1e-15)


def test_tables_without_names(tmp_path, rng):
    values = rng.normal(size=(8, 2))
    np.savetxt(tmp_path / "motion.scan.txt", values, fmt="%16.7e")
    path = str(tmp_path / "motion.scan.txt")
    found = table(path, n_times=8)
    assert list(found) == ["motion_1", "motion_2"]
    np.testing.assert_allclose(found, values, rtol=1e-6)
    assert list(table(path, ["*_2"], n_times=8)) == ["motion_2"]
    one = write(tmp_path / "power.txt", "\r\n".join(f"{v}" for v in values[:, 0]))
    assert list(table(one, n_times=8)) == ["power"]


GOOD = "fd\tx\nn/a\t1\n0.2\t2\n0.3\t3\n"


def test_a_first_value_may_be_missing(tmp_path):
    path = write(tmp_path / "c.tsv", GOOD)
    assert table(path, ["fd"], n_times=3)["fd"].tolist() == [0, 0.2, 0.3]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (GOOD, {"n_times": 4}, r"c\.tsv has 3 rows, expected 4, one a volume\. Give"),
        (GOOD, {"n_times": 2}, r"c\.tsv has 3 rows, expected 2"),
        (GOOD, {"columns": ["fdx"]}, r"'fdx' \(did you mean 'fd'\?\). There are fd"),
        (GOOD, {"columns": ["rot_*"]}, "no column matches 'rot_\\*'. There are"),
        ("", {}, "cannot be read as a table: No columns"),
        ("x\tx\n1\t2\n", {"n_times": 1}, "'x' names several columns"),
        ("1\n2\t3\t4\n", {}, "cannot be read as a table"),
        ("a\tb\n1\too\n", {"n_times": 1}, "column 'b', row 1 of 1, found 'oo'"),
        ("a\tb\ninf\t1\n", {"n_times": 1}, "column 'a', row 1 of 1, found 'inf'"),
        ("a\n1\nn/a\n3\n", {}, "column 'a', row 2 of 3, found 'n/a'; 1 such"),
    ],
)
def test_tables_that_do_not_fit(tmp_path, text, options, message):
    path = write(tmp_path / "c.tsv", text)
    with pytest.raises(RegressorError, match=message):
        table(path, **{"n_times": 3} | options)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing found at .*none\.tsv"):
        table(str(tmp_path / "none.tsv"), n_times=1)


def test_drift_of_runs(rng):
    one = timeseries.drift(50, 2.0, 40.0)
    np.testing.assert_array_equal(regressors.run_drift([50], 2.0, 40.0), one)
    lengths, data = [50, 30, 70], rng.normal(size=(150, 4))
    expected = []
    for own in np.split(data, np.cumsum(lengths)[:-1]):  # one run at a time
        drift = timeseries.drift(len(own), 2.0, 40.0)
        beta = np.linalg.lstsq(drift, own, rcond=None)[0]
        expected.append(own - drift @ beta)
    basis = timeseries.orthonormal(regressors.run_drift(lengths, 2.0, 40.0))
    cleaned = timeseries.residuals(data, basis)
    np.testing.assert_allclose(cleaned, np.concatenate(expected), atol=1e-10)
    whole = timeseries.orthonormal(timeseries.drift(150, 2.0, 40.0))
    assert np.abs(timeseries.residuals(data, whole) - cleaned).max() > 0.1
    assert regressors.run_drift([1, 30], 2.0).shape[0] == 31


def test_sound_power_as_published(alice_data):
    """All subjects heard the same; the file of the one who is left out is its rate."""
    folder = alice_data / "alice/alice_data_shared"
    power = table("alice:alice_data_shared/s18-sndpwr.txt", n_times=362)["s18-sndpwr"]
    for path in sorted(folder.glob("*-sndpwr.txt")):
        other = np.loadtxt(path)
        r = np.corrcoef(power, other)[0, 1]
        if path.name.startswith("s33"):
            assert r < 0.5
            np.testing.assert_array_equal(other, np.loadtxt(folder / "s33-rate.txt"))
        else:
            assert r > 0.9999
    rate = table("alice:alice_data_shared/s18-rate.txt", n_times=362)["s18-rate"]
    basis = timeseries.orthonormal(timeseries.drift(362, 2.0))
    both = timeseries.residuals(np.column_stack([power, rate]), basis)
    assert 0.4 < np.corrcoef(both.T)[0, 1] < 0.55
    # the other predictors begin with the ten volumes that were discarded
    name = "sept18-generic-predictors-under-hrf-with-logfrqhal.txt"
    shipped = np.loadtxt(folder / name)[:, 0]
    fits = [np.corrcoef(shipped[k : k + 362], rate)[0, 1] for k in (0, 5, 9, 10)]
    assert np.argmax(fits) == 3 and fits[3] > 0.97


@pytest.mark.parametrize("hrf", ["spm", "glover", "none"])
def test_speech_is_a_boxcar_through_the_response(hrf):
    # 10 to 20 s with short pauses and a word without time; 40 to 41 s
    onset = [10.0, 12.0, np.nan, 14.5, 14.6, 40.0]
    offset = [11.5, 14.0, np.nan, 20.0, 15.0, 41.0]
    words = pd.DataFrame({"onset": onset, "offset": offset})
    found = regressors.speech(words, **CLOCK, hrf=hrf)
    at = np.arange(-30, 80, 0.01)
    on = ((at >= 10) & (at < 20)) | ((at >= 40) & (at < 41))
    times = 3.0 + 1.5 * np.arange(40)
    if hrf == "none":
        expected = [on[(at >= t) & (at < t + 1.5)].mean() for t in times]
    else:
        expected = [(response_function(t - at, hrf) * on).sum() * 0.01 for t in times]
    np.testing.assert_allclose(found, expected, atol=0.07 if hrf == "none" else 0.01)


def test_speech_takes_the_ramp_at_the_onset_away():
    onset = np.arange(0, 300, 0.4)
    words = pd.DataFrame({"onset": onset, "offset": onset + 0.3})
    names = ["word_rate", "speech"]
    found = story_regressors(words, names, n_times=150, tr=2.0)
    assert list(found) == names
    assert found["speech"][0] == pytest.approx(0, abs=1e-3)
    assert found["speech"][30:].to_numpy() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("lengths", "tr", "seconds", "first"),
    [
        ([40], 2.0, 20.0, 10),
        ([40], 2.0, 0.0, 0),
        ([40], 1.5, 20.0, 14),
        ([40], 0.1, 0.3, 3),
        ([30, 50], 2.0, 5.0, 3),
    ],
)
def test_first_seconds_of_each_run_are_left_out(lengths, tr, seconds, first):
    kept, left = regressors.left_over(lengths, tr, seconds)
    assert left == [n - first for n in lengths]
    expected = np.concatenate([np.arange(n) for n in lengths]) >= first
    rows = np.arange(sum(lengths))
    np.testing.assert_array_equal(rows[kept], rows[expected])


def test_a_run_that_is_too_short_to_lose_its_start():
    with pytest.raises(RegressorError, match=r"leave_out_start.* shortest run has 15"):
        regressors.left_over([40, 15], 2.0, 20.0)
