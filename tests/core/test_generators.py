import numpy as np

from anbn.core.generators import rng_of


def test_a_step_draws_the_same_whatever_was_drawn_before():
    first = rng_of(3, "null of synchrony").standard_normal(5)
    rng_of(3, "halves").standard_normal(1000)
    np.testing.assert_array_equal(
        first, rng_of(3, "null of synchrony").standard_normal(5)
    )


def test_steps_and_seeds_draw_apart():
    drawn = [
        rng_of(seed, step).integers(2**62)
        for seed in (0, 1, 256)
        for step in ("controls", "controls 1", "controls 11", "")
    ]
    assert len(set(drawn)) == len(drawn)


def test_is_that_of_the_seed_and_the_bytes_of_the_name():
    expected = np.random.default_rng([7, *b"null"]).random(4)
    np.testing.assert_array_equal(rng_of(7, "null").random(4), expected)
