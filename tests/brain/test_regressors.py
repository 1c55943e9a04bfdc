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
    frame["length"] = rng.integers(1, 9, 120)
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
    found = story_regressors(words, names, **CLOCK, hrf=hrf)
    assert list(found) == names
    assert found.shape == (40, 4)
    timed = words["onset"].notna()
    for name in ("surprisal", "length", "timed"):
        values = words[name].astype(float)
        centred = values - values[timed].mean()  # pandas leaves NaN out
        np.testing.assert_allclose(found[name], naive(words, centred, hrf), atol=1e-9)
    ones = np.ones(len(words))
    np.testing.assert_allclose(found["word_rate"], naive(words, ones, hrf), atol=1e-9)
    rate = brain_clock.word_rate(words["onset"], **CLOCK, hrf=hrf)
    np.testing.assert_array_equal(found["word_rate"], rate)


def test_a_value_does_not_count_words(rng):
    """Values drawn anew for each word share nothing with word rate."""
    many = pd.DataFrame({"onset": np.sort(rng.uniform(0, 600, 3000))})
    many["value"] = 100 + rng.normal(size=3000)
    clock = {"n_times": 300, "tr": 2.0}
    found = story_regressors(many, ["word_rate", "value"], **clock).iloc[20:]
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.3
    assert found["value"].abs().mean() < 0.2 * found["word_rate"].mean()


def test_each_name_once(words):
    found = story_regressors(words, ["length", "word_rate", "length"], **CLOCK)
    assert list(found) == ["length", "word_rate"]
    assert list(story_regressors(words, "length", **CLOCK)) == ["length"]
    assert story_regressors(words, [], **CLOCK).shape == (40, 0)


def test_columns_of_pandas_own_types(words):
    words["length"] = words["length"].astype("Int64")
    words.loc[3, "length"] = pd.NA
    values = words["length"].astype(float)
    centred = values - values[words["onset"].notna()].mean()
    found = story_regressors(words, ["length"], **CLOCK)["length"]
    np.testing.assert_allclose(found, naive(words, centred, "spm"), atol=1e-9)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("suprisal", r"'suprisal' \(did you mean 'surprisal'\?\). There are word_"),
        (
            "xyz",
            "no regressor 'xyz'. There are word_rate, speech, onset, length, surprisal",
        ),
        ("word", "no regressor 'word': it is text, not numbers"),
        ("entropy", "'entropy' has no value for any word. A masked model"),
        ("constant", "'constant' is 2 for every word"),
    ],
)
def test_names_that_cannot_be(words, name, message):
    with pytest.raises(RegressorError, match=message):
        story_regressors(words, ["word_rate", name], **CLOCK)


def test_values_of_words_end_with_their_run(words):
    clock = {"tr": 1.5, "start": 2.0}
    names = ["word_rate"]
    whole = {"n_times": 30, "run_lengths": [12, 18]}
    found = regressors.story_regressors(words, names, **clock, **whole)["word_rate"]
    first = words[words["onset"].isna() | (words["onset"] < 2 + 12 * 1.5)]
    alone = regressors.story_regressors(first, names, n_times=12, **clock)
    np.testing.assert_allclose(found[:12], alone["word_rate"])
    late = words[words["onset"] >= 2 + 12 * 1.5]
    clock["start"] = 2 + 12 * 1.5
    alone = regressors.story_regressors(late, names, n_times=18, **clock)
    np.testing.assert_allclose(found[12:], alone["word_rate"])


def test_a_story_beside_the_volumes(words):
    with pytest.raises(
        RegressorError, match=r"the words \(of .* 40 volumes.*500 to 56"
    ):
        story_regressors(words, ["length"], n_times=40, tr=1.5, start=500.0)
    with pytest.raises(ValueError, match="hrf must be spm, glover or none, found 'g"):
        story_regressors(words, ["length"], **CLOCK, hrf="gamma")
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
    found = table(path, ["*_2"], n_times=8)
    np.testing.assert_allclose(found["motion_2"], values[:, 1], rtol=1e-6)
    one = write(tmp_path / "power.txt", "\r\n".join(f"{v}" for v in values[:, 0]))
    assert list(table(one, n_times=8)) == ["power"]


def test_a_first_value_may_be_missing(tmp_path):
    path = write(tmp_path / "c.tsv", "fd\tx\nn/a\t1\n0.2\t2\n0.3\t3\n")
    assert table(path, ["fd"], n_times=3)["fd"].tolist() == [0, 0.2, 0.3]
    path = write(tmp_path / "c.tsv", "fd\tx\n0.1\t1\nn/a\t2\n0.3\t3\n")
    with pytest.raises(RegressorError, match="column 'fd', row 2 of 3, found 'n/a'; 1"):
        table(path, n_times=3)
    assert table(path, ["x"], n_times=3)["x"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_times": 4}, r"c\.tsv has 3 rows, expected 4, one a volume\. Give"),
        ({"n_times": 2}, r"c\.tsv has 3 rows, expected 2, one a volume\. Give"),
        (
            {"n_times": 3, "columns": ["fdx"]},
            r"'fdx' \(did you mean 'fd'\?\). There are fd",
        ),
        ({"n_times": 3, "columns": ["rot_*"]}, "no column matches 'rot_\\*'. There ar"),
    ],
)
def test_tables_that_do_not_fit(tmp_path, options, message):
    path = write(tmp_path / "c.tsv", "fd\tx\n0\t1\n0.2\t2\n0.3\t3\n")
    with pytest.raises(RegressorError, match=message):
        table(path, **options)


def test_what_is_no_table(tmp_path):
    for content, message in [
        ("", "cannot be read as a table: No columns"),
        ("x\tx\n1\t2\n", "'x' names several columns"),
        ("1\n2\t3\t4\n", "cannot be read as a table"),
        ("a\tb\n1\toops\n", "column 'b', row 1 of 1, found 'oops'"),
        ("a\tb\ninf\t1\n", "column 'a', row 1 of 1, found 'inf'"),
    ]:
        path = write(tmp_path / "c.tsv", content)
        with pytest.raises(RegressorError, match=message):
            table(path, n_times=1)
    with pytest.raises(FileNotFoundError, match=r"nothing found at .*none\.tsv"):
        table(str(tmp_path / "none.tsv"), n_times=1)


def test_drift_of_runs(rng):
    one = timeseries.drift(50, 2.0, 40.0)
    np.testing.assert_array_equal(regressors.run_drift([50], 2.0, 40.0), one)
    lengths = [50, 30, 70]
    found = regressors.run_drift(lengths, 2.0, 40.0)
    data = rng.normal(size=(150, 4))
    expected, start = [], 0
    for n in lengths:  # one run at a time
        drift = timeseries.drift(n, 2.0, 40.0)
        own = data[start : start + n]
        beta = np.linalg.lstsq(drift, own, rcond=None)[0]
        expected.append(own - drift @ beta)
        start += n
    cleaned = timeseries.residuals(data, timeseries.orthonormal(found))
    np.testing.assert_allclose(cleaned, np.concatenate(expected), atol=1e-10)
    whole = timeseries.drift(150, 2.0, 40.0)
    other = timeseries.residuals(data, timeseries.orthonormal(whole))
    assert np.abs(other - cleaned).max() > 0.1
    for lengths in ([], [50, 0]):
        with pytest.raises(RegressorError, match="run_lengths: found"):
            regressors.run_drift(lengths, 2.0)


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
    fits = []
    for first in (0, 5, 9, 10):
        fits.append(np.corrcoef(shipped[first : first + 362], rate)[0, 1])
    assert np.argmax(fits) == 3 and fits[3] > 0.97


def told(onset, offset):
    return pd.DataFrame({"onset": onset, "offset": offset})


@pytest.mark.parametrize("hrf", ["spm", "glover", "none"])
def test_speech_is_a_boxcar_through_the_response(hrf):
    # 10 to 20 s with short pauses and a word without time; 40 to 41 s
    words = told(
        [10.0, 12.0, np.nan, 14.5, 14.6, 40.0], [11.5, 14.0, np.nan, 20.0, 15.0, 41.0]
    )
    clock = {"n_times": 40, "tr": 1.5, "start": 3.0}
    found = regressors.speech(words, **clock, hrf=hrf)
    at = np.arange(-30, 80, 0.01)
    on = ((at >= 10) & (at < 20)) | ((at >= 40) & (at < 41))
    times = 3.0 + 1.5 * np.arange(40)
    if hrf == "none":
        expected = [on[(at >= t) & (at < t + 1.5)].mean() for t in times]
    else:
        expected = [(response_function(t - at, hrf) * on).sum() * 0.01 for t in times]
    np.testing.assert_allclose(found, expected, atol=0.07 if hrf == "none" else 0.01)


def test_speech_takes_the_ramp_at_the_onset_away(rng):
    onset = np.arange(0, 300, 0.4)
    words = told(onset, onset + 0.3)
    clock = {"n_times": 150, "tr": 2.0}
    names = ["word_rate", "speech"]
    found = story_regressors(words, names, **clock)
    assert list(found) == names
    found = found["speech"]
    assert found[0] == pytest.approx(0, abs=1e-3)
    assert found[30:].to_numpy() == pytest.approx(1, abs=0.01)
    one = story_regressors(words, ["speech"], **clock)
    np.testing.assert_array_equal(one["speech"], found)
    with pytest.raises(RegressorError, match="'speech' needs the words' offset"):
        story_regressors(words[["onset"]], ["speech"], **clock)


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
    with pytest.raises(
        RegressorError, match=r"leave_out_start.*the shortest run has 15"
    ):
        regressors.left_over([40, 15], 2.0, 20.0)
