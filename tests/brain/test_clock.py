"""Volumes of the clock, and where two clocks must agree."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from anbn.brain import clock
from anbn.brain.bids import Run
from anbn.stats import timeseries

TR = 2.0


def test_volumes_of_the_clock():
    count = clock.count_volumes
    assert count(100, tr=2, first_volume=0) == 56
    assert count(100, tr=2, first_volume=20, n_volumes=30) == 30
    assert count(100, tr=2, first_volume=0, run_lengths=[20, 30]) == 50
    assert count(100, tr=2, first_volume=0, n_volumes=50, run_lengths=[20, 30]) == 50


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: clock.count_volumes(
                100, tr=2, first_volume=0, n_volumes=40, run_lengths=[20, 30]
            ),
            r"\[20, 30\] add up to 50 volumes, n_volumes is 40. Set .* 50 or 0",
        ),
        (
            lambda: clock.count_volumes(100, tr=2, first_volume=200),
            "first_volume: .* at 200 s of the story, which ends at 100 s. Lower",
        ),
        (
            lambda: clock.agreed_runs([20, 30], [25, 25]),
            r"run_lengths is \[25, 25\] here and \[20, 30\] in stage 01",
        ),
        (lambda: clock.agreed_runs([], [25, 25]), r"\[25, 25\] here and \[\] in"),
    ],
)
def test_lengths_that_do_not_agree(call, message):
    with pytest.raises(clock.ClockError, match=message):
        call()


def test_later_stages_take_the_runs_of_the_clock():
    assert clock.agreed_runs(np.array([20, 30]), []) == [20, 30]
    assert clock.agreed_runs([20, 30], [20, 30]) == [20, 30]
    assert clock.agreed_runs([], []) == []


def run(start_time=None):
    return Run("sub-1", "a", Path("sub-1_bold.nii.gz"), None, TR, start_time)


AGREES = [  # StartTime, cut_start, first_volume, by events, whole scans
    (0.98, 0, 0.98, True, True),
    (0.98, 10, 20.98, True, True),
    (0.98, 10, 20.98, False, True),
    (0.98, 0, 0.98, False, False),
    (None, 10, 20.0, True, True),
    (None, 0, 0.0, True, True),
    (None, 0, 20.0, True, False),  # files that were cut before
    (None, 10, 0.0, False, True),  # word times from the beginning of the sound
    (0.98, 10, 0.98, False, True),  # the same, begun with a volume
    (0.0, 0, 4.3, False, True),
]
DIFFERS = [
    (0.98, 0, 0.0, False, True, "Set first_volume: 0.98 there"),
    (0.98, 0, 20.0, False, True, r"0.98 there if .* or 20.98 if"),
    (0.98, 10, 0.0, False, False, r"Set first_volume: 20.98 .* or 0.98 if"),
    (0.98, 0, 0.0, True, True, "at 0.98 s of the scan .*Set first_volume: 0.98"),
    (0.98, 10, 0.98, True, False, "at 20.98 s of the scan .*first_volume: 20.98"),
    (None, 10, 0.0, True, True, "cut_start 10 x tr 2 s.*Set first_volume: 20 there"),
    (None, 10, 0.0, True, False, "Set first_volume: 20 there"),
    (None, 0, 20.0, True, True, "Set first_volume: 0 there, or correct cut_start"),
]


def check(start_time, cut, first, events, whole):
    options = {"first_volume": first, "cut_start": cut}
    options |= {"by_events": events, "whole_scans": whole}
    return clock.check_start([run(start_time)], tr=TR, **options)


@pytest.mark.parametrize("given", AGREES)
def test_clocks_that_agree_or_cannot_be_compared(given):
    assert f"{given[2]:g} s on the story" in check(*given)


@pytest.mark.parametrize("given", DIFFERS)
def test_clocks_that_differ(given):
    with pytest.raises(clock.ClockError, match=given[-1]) as error:
        check(*given[:-1])
    assert "sub-1_bold.nii.gz" in str(error.value)
    assert "check_clock: false" in str(error.value)


@pytest.fixture
def story(rng):
    """Words with pauses, as people tell a story: onsets of 400 s."""
    rate = np.repeat(rng.uniform(0.2, 4, 40), 10)
    return np.sort(np.flatnonzero(rng.random(4000) < np.repeat(rate, 10) / 10) / 10)


@pytest.mark.parametrize("first", [0.0, 1.0, 20.0, -16.0])
def test_the_clock_that_fits_is_found(rng, story, first):
    volumes = {"n_times": 150, "tr": TR}
    basis = timeseries.orthonormal(timeseries.drift(150, TR))
    true = clock.word_rate(story, start=first, **volumes)
    bold = np.column_stack([true + 0.1 * rng.normal(size=150), rng.normal(size=150)])
    bold = timeseries.residuals(bold, basis)
    options = {**volumes, "hrf": "spm", "basis": basis}
    best, r, r_now = clock.best_offset(bold, story, start=0.0, **options)
    assert best == first
    assert r > 0.9
    line = clock.offset_line(0.0, best, r, r_now, 150, TR)
    if first == 0:
        assert "fits the clock" in line
    else:
        way = "later" if first > 0 else "earlier"
        assert f"fits best {abs(first):g} s {way}" in line
        assert line.endswith(f"is first_volume {first:g}?")
        assert r_now < r


def test_noise_names_no_clock(rng, story):
    volumes = {"n_times": 150, "tr": TR}
    basis = timeseries.orthonormal(timeseries.drift(150, TR))
    noise = timeseries.residuals(rng.normal(size=(150, 3)), basis)
    options = {**volumes, "hrf": "spm", "basis": basis}
    fits = clock.best_offset(noise, story, start=0.0, **options)
    assert "unknown clock" in clock.offset_line(0.0, *fits, 150, TR)


def two(first, second):
    return [
        Run("sub-1", "a", Path("sub-1_bold.nii.gz"), None, TR, first),
        Run("sub-2", "b", Path("sub-2_bold.nii.gz"), None, TR, second),
    ]


CHECK = {"tr": TR, "by_events": False, "whole_scans": True}


@pytest.mark.parametrize("other, said", [(0.0, "has 0 s"), (None, "has none")])
def test_runs_whose_volumes_stand_for_different_moments(other, said):
    for runs in (two(0.98, other), two(other, 0.98)):
        with pytest.raises(clock.ClockError, match=r"StartTime 0\.98 s") as error:
            clock.check_start(runs, first_volume=0.98, **CHECK)
        for part in ("sub-1_bold", "sub-2_bold", said, "check_clock: false"):
            assert part in str(error.value)
    clock.check_start(two(0.98, 1.0), first_volume=0.98, **CHECK)
    clock.check_start(two(None, 0.0), first_volume=0.0, **CHECK)
    with pytest.raises(clock.ClockError, match=r"StartTime 980 s .* Is it in ms\?"):
        clock.check_start(two(980.0, 980.0), first_volume=0.98, **CHECK)


def test_discarded_volumes_are_said():
    (one, _) = two(0.0, 0.0)
    one = dataclasses.replace(one, discarded=4)
    options = CHECK | {"by_events": True}
    line = clock.check_start([one], first_volume=0.0, **options)
    assert "4 volumes were discarded" in line
    assert "first_volume is 8" in line
    assert "discarded" not in clock.check_start([one], first_volume=0.0, **CHECK)


def test_words_after_the_last_volume():
    onset = [0.0, 10.0, np.nan, 20.0, 30.0]
    after = clock.words_after
    line = after(onset, n_times=8, tr=2.0, first_volume=4.0)
    assert line.startswith("2 of 5 words begin after the last volume, which ends at 20")
    assert after(onset, n_times=14, tr=2.0, first_volume=4.0) == ""


def test_a_clock_fits_within_a_volume_only():
    fits = "fits the clock"
    assert fits in clock.offset_line(0.0, 2.0, 0.5, 0.45, 150, TR)
    line = clock.offset_line(0.0, 20.0, 0.5, 0.45, 150, TR)
    assert "20 s later about as well" in line
    assert fits not in line
