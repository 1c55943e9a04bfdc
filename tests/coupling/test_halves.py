"""Networks of one half of the subjects come back in the other half, noise does not."""

import numpy as np

from anbn.coupling import encoding, halves
from anbn.stats import matching, timeseries


def people_of(rng, *, n_subjects=7, signal=1.0):
    """Subjects who share the time courses of two networks in voxels of their own."""
    maps = np.zeros((2, 200))
    maps[0, :20], maps[1, 50:70] = rng.uniform(1, 2, (2, 20))
    courses = timeseries.zscore(rng.normal(size=(150, 2)))
    return [
        signal * courses @ maps + rng.normal(size=(150, 200)) for _ in range(n_subjects)
    ], courses


def learn(people, rng):
    return halves.learn(
        people, method="ica", n_networks=2, mask=None, random_state=0, rng=rng
    )


def test_networks_of_one_half_have_their_time_courses_in_the_other(rng):
    people, courses = people_of(rng)
    found = learn(people, np.random.default_rng(1))
    subjects = np.concatenate([found.learned_in, found.scored_in])
    assert sorted(subjects) == list(range(7)) and len(found.learned_in) == 3
    assert [one.shape for one in found.timecourses] == [(150, 2)] * 4
    r = np.abs(matching.correlate(found.mean.T, courses.T))
    assert r.max(1).min() > 0.95 and len(set(r.argmax(1))) == 2
    again = learn(people, np.random.default_rng(1))
    np.testing.assert_array_equal(found.mean, again.mean)


def test_networks_of_noise_have_no_ceiling_in_the_other_half(rng):
    options = {"tr": 2.0, "gap": 10.0, "high_pass": None}
    driven, noise = people_of(rng)[0], people_of(rng, signal=0.0)[0]
    high, low = (
        encoding.ceilings(learn(people, rng).timecourses, **options)[0]
        for people in (driven, noise)
    )
    assert high.min() > 0.9 and low.max() < 0.6
