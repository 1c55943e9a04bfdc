import numpy as np
import pandas as pd
import pytest

from anbn.stats import inference


def test_family_wise_p_of_many_two_sided_tests_is_reached_with_few_draws(rng):
    null = rng.normal(size=(99, 84)) * np.linspace(1, 9, 84)
    observed = rng.normal(size=84) * 0.1
    observed[3], observed[80], observed[5] = -40.0, 90.0, np.nan
    p = inference.two_sided_max_p(observed.reshape(7, 12), null.reshape(99, 7, 12))
    p = p.ravel()
    assert p[3] == p[80] == 0.01
    assert np.isnan(p[5])
    rest = np.delete(p, [3, 5, 80])
    assert rest.min() > 0.5
    assert np.isnan(inference.two_sided_max_p(np.full(2, np.nan), null[:, :2])).all()


def test_two_sided_family_wise_error_is_what_is_asked_for(rng):
    n_sets, false = 300, 0
    for _ in range(n_sets):
        values = rng.normal(size=(40, 20))
        false += (inference.two_sided_max_p(values[0], values[1:]) <= 0.05).any()
    assert 3 <= false <= 28  # 99.9 % of 300 at .05


@pytest.mark.parametrize(
    ("n_draws", "n_tests", "said"),
    [
        (100, 84, "not testable with 100 draws"),  # 84 / 101
        (100, 1, 0),
        (1679, 84, 0),  # 84 / 1680
        (1678, 84, "not testable with 1678 draws"),
        (19, 1, 0),
        (18, 1, "not testable with 18 draws"),
    ],
)
def test_what_cannot_be_found_is_said(n_draws, n_tests, said):
    least = 1 / (1 + n_draws)
    test = {"draws": n_draws, "least_p": least, "tests": n_tests, "found": 0}
    tests = pd.DataFrame([test], ["a"], dtype=object)
    row = inference.attainable(tests, level=0.05).loc["a"]
    assert row["found"] == said
    assert row["least p"] == least
    assert row["least q"] == pytest.approx(min(1, n_tests * least))
