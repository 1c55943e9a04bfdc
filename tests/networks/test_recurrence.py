import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from anbn.networks import decomposition, recurrence
from anbn.stats import matching


def random_members(rng, *shape, share=0.2):
    return rng.random(shape) < share


def naive_iou(a, b):
    either = (a | b).sum()
    return (a & b).sum() / either if either else 0.0


def test_iou_equals_a_loop(rng):
    a, b = random_members(rng, 4, 3, 20), random_members(rng, 6, 3, 20)
    a[2] = b[1] = False
    expected = [[naive_iou(x, y) for y in b] for x in a]
    np.testing.assert_allclose(recurrence.iou(a, b), expected)
    np.testing.assert_allclose(np.diag(recurrence.iou(b, b)), b.any((1, 2)))


def test_counts_and_their_null_equal_a_loop(rng):
    templates = random_members(rng, 3, 2, 30)
    individuals = random_members(rng, 8, 4, 2, 30)
    expected = np.zeros(3, int)
    for k, text, i in np.ndindex(3, 8, 4):
        expected[k] += naive_iou(templates[k], individuals[text, i]) > 0.12
    assert 0 < expected.sum() < 96
    found = recurrence.recurrence(templates, individuals, min_iou=0.12)
    np.testing.assert_array_equal(found, expected)
    null = recurrence.recurrence_null(
        templates,
        individuals,
        n_draws=5,
        rng=np.random.default_rng(7),
        min_iou=0.12,
    )
    again = np.random.default_rng(7)
    for draw in null:
        order = again.permuted(np.tile(np.arange(30), (2, 1)), axis=1)
        shuffled = np.zeros_like(templates)
        for k, layer, neuron in zip(*np.nonzero(templates), strict=True):
            shuffled[k, layer, order[layer, neuron]] = True
        assert (shuffled.sum(2) == templates.sum(2)).all()
        expected = recurrence.recurrence(shuffled, individuals, min_iou=0.12)
        np.testing.assert_array_equal(draw, expected)
    assert null.std() > 0


def test_planted_template_recurs_and_layers_alone_do_not(rng):
    """One template returns neuron by neuron, the other only in its layer."""
    templates = np.zeros((2, 5, 60), bool)
    templates[0, 4, rng.permutation(60)[:30]] = True
    templates[1, 3, rng.permutation(60)[:30]] = True
    individuals = np.zeros((20, 2, 5, 60), bool)
    for text in range(20):
        individuals[text, 0] = templates[0] & (rng.random((5, 60)) < 0.8)
        individuals[text, 1, 3, rng.permutation(60)[:30]] = True
    counts = recurrence.recurrence(templates, individuals)
    assert counts[0] == 20 and counts[1] >= 18  # both recur by the published measure
    null = recurrence.recurrence_null(
        templates, individuals, n_draws=199, rng=rng, min_iou=0.5
    )
    strict = recurrence.recurrence(templates, individuals, min_iou=0.5)
    p = matching.p_values(strict, null)
    assert p[0] == 1 / 200
    loose = recurrence.recurrence_null(templates, individuals, n_draws=199, rng=rng)
    assert matching.p_values(counts, loose)[1] > 0.05


def test_p_values_are_calibrated(rng):
    """Templates of no relation to the texts: p <= 0.05 in about 5 % or less."""
    small = 0
    for _ in range(120):
        templates = random_members(rng, 1, 2, 40, share=0.3)
        individuals = random_members(rng, 10, 3, 2, 40, share=0.3)
        counts = recurrence.recurrence(templates, individuals)
        null = recurrence.recurrence_null(templates, individuals, n_draws=59, rng=rng)
        small += matching.p_values(counts, null)[0] <= 0.05
    assert small <= stats.binom.ppf(0.999, 120, 0.05)


def test_p_values_by_hand():
    null = np.array([[1, 5], [2, 5], [3, 0]])
    np.testing.assert_allclose(matching.p_values([2, 6], null), [3 / 4, 1 / 4])
    p = matching.p_values([np.nan, 0.3], [[0.1, 0.3 - 1e-12], [0.2, 0.1]])
    np.testing.assert_allclose(p, [np.nan, 2 / 3])  # a tie within rounding is reached


def test_agreement_is_the_best_one_to_one_pairing(rng):
    a, b = random_members(rng, 3, 2, 25), random_members(rng, 5, 2, 25)
    best = max(
        np.mean([naive_iou(a[i], b[j]) for i, j in enumerate(choice)])
        for choice in itertools.permutations(range(5), 3)
    )
    assert recurrence.member_agreement(a, b) == pytest.approx(best)
    assert recurrence.member_agreement(a, a[[2, 0, 1]]) == 1
    with pytest.raises(ValueError, match="different units"):
        recurrence.member_agreement(a, b[..., 1:])


def test_agreement_of_timecourses(rng):
    source = rng.laplace(size=(400, 4))
    a = source[:, [1, 0, 3]] + 0.3 * rng.normal(size=(400, 3))
    b = -source + 0.3 * rng.normal(size=(400, 4))  # signs aside
    r = [abs(stats.pearsonr(a[:, i], b[:, j])[0]) for i, j in enumerate([1, 0, 3])]
    mean = recurrence.timecourse_agreement(a, b)
    assert mean == pytest.approx(np.mean(r)) and mean > 0.8
    assert recurrence.timecourse_agreement(a, rng.normal(size=(400, 4))) < 0.2


def test_pairwise_is_a_symmetric_table(rng):
    sets = {name: rng.random((3, 2, 40)) < 0.3 for name in "abc"}
    table = recurrence.pairwise(sets, recurrence.member_agreement)
    assert list(table) == list(table.index) == ["a", "b", "c"]
    np.testing.assert_allclose(np.diag(table), 1)
    np.testing.assert_allclose(table, table.T)
    assert table.loc["a", "c"] == recurrence.member_agreement(sets["a"], sets["c"])


def test_domains_are_cut_into_slices():
    documents = pd.DataFrame({"corpus": ["wiki", "wiki", "code"]})
    tokens = pd.DataFrame({"document": [0] * 4 + [1] * 3 + [2] * 2})
    domains = recurrence.domains(tokens, documents)
    assert domains == {"wiki": slice(0, 7), "code": slice(7, 9)}
    assert recurrence.slices(domains, 3) == {
        "wiki 0": slice(0, 3),
        "wiki 1": slice(3, 6),
        "code 0": slice(7, 9),  # shorter than a slice
    }


def test_networks_of_parts_are_found_as_those_of_all_text(rng):
    data = rng.laplace(size=(240, 3)) ** 3 @ rng.normal(size=(3, 60))
    data = data.reshape(240, 2, 30)
    networks = decomposition.decompose(data, 3, "ica", random_state=4)
    rows = {"a": slice(0, 100), "b": slice(100, 240)}
    found = recurrence.members_of_parts(
        networks, data, rows, membership_threshold=1.5, membership="z", two_sided=True
    )
    assert list(found) == ["a", "b"]
    for name, part in rows.items():
        alone = decomposition.decompose(data[part], 3, "ica", random_state=4)
        z = alone.networks.reshape(3, 2, 30)
        np.testing.assert_array_equal(found[name], np.abs(z) > 1.5)


def test_shuffled_networks_keep_their_layers(rng):
    members = random_members(rng, 5, 3, 200)
    drawn = recurrence.shuffled(members, np.random.default_rng(1))
    np.testing.assert_array_equal(drawn.sum(2), members.sum(2))
    assert np.diag(recurrence.iou(members, drawn)).max() < 0.3
    fewer = recurrence.shuffled(members[:2], np.random.default_rng(1))
    np.testing.assert_array_equal(fewer, drawn[:2])


@pytest.mark.filterwarnings("error")
def test_no_network_comes_back_in_nothing(rng):
    none, some = np.zeros((0, 2, 30), bool), random_members(rng, 3, 2, 30)
    assert recurrence.recurrence(none, some).shape == (0,)
    null = recurrence.recurrence_null(none, some, n_draws=4, rng=rng)
    assert null.shape == (4, 0)
    assert recurrence.recurrence(some, none).tolist() == [0, 0, 0]
    assert recurrence.shuffled(none, rng).shape == none.shape
    table = recurrence.pairwise(
        {"none": none, "some": some}, recurrence.member_agreement
    )
    assert table.loc["some", "some"] == 1 and np.isnan(table["none"]).all()
    assert recurrence.pairwise({}, recurrence.timecourse_agreement).empty
    assert decomposition.threshold(np.zeros((0, 9)), 0.1, by="fdr").shape == (0, 9)
