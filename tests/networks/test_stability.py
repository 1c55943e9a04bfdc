import nibabel
import numpy as np
import pytest

from anbn.networks import decomposition, stability
from anbn.stats import matching

QUICK = {"n_bootstrap": 6, "n_halves": 3, "n_null_sets": 4}


def corpus(
    n_shared, seed, *, n_documents=16, n_tokens=50, n_own=1, n_units=200, size=20
):
    """Documents that share networks, each beside one that no other document has.

    Returns tokens of shape (n, 2 layers, n_units / 2 neurons), their documents, and the
    shared networks.
    """
    rng = np.random.default_rng(seed)

    def some(n):
        maps = np.zeros((n, n_units))
        for row in maps:
            row[rng.choice(n_units, size, replace=False)] = rng.uniform(2, 4, size)
        return maps

    shared, texts = some(n_shared), []
    for _ in range(n_documents):
        maps = np.vstack([shared, some(n_own)])
        sources = rng.laplace(size=(n_tokens, len(maps))) ** 3
        sources /= sources.std(0)
        texts.append(sources @ maps + rng.normal(size=(n_tokens, n_units)))
    whose = np.repeat(np.arange(n_documents), n_tokens)
    return (
        np.concatenate(texts).astype(np.float32).reshape(-1, 2, n_units // 2),
        whose,
        shared,
    )


def judged(data, whose, n, method="ica", **options):
    options = {**QUICK, "random_state": 0, "layer_sizes": [], **options}
    return decomposition.decompose(data, n, method, whose=whose, **options)


def only_shared_are_stable(found, shared, keep=slice(None), least=0.5):
    r = matching.correlate(found.networks[:, keep], shared[:, keep])
    real = np.abs(r).max(1) > least if len(shared) else np.zeros(len(r), bool)
    assert real.sum() == len(shared)
    np.testing.assert_array_equal(found.stability.stable, real)
    return real


@pytest.fixture(scope="module")
def three():
    """A corpus of three shared networks, and what is found in it."""
    data, whose, shared = corpus(3, 0)
    return data, whose, shared, judged(data, whose, 6)


@pytest.mark.parametrize("seed", range(4))
def test_networks_that_no_two_documents_share_are_never_stable(seed):
    data, whose, _ = corpus(0, seed)
    found = judged(data, whose, 10)
    assert not found.stability.stable.any()
    assert found.stability.halves.max() < 0.3
    # what many draws hold comes back in them all the same: no sign of anything shared
    assert found.stability.index.mean() > 2 * found.stability.halves.mean()
    assert "0 of 10 networks asked for are stable" in found.stability.describe(10)
    none = found.only_stable()
    assert none.networks.shape == (0, 200) and none.timecourses.shape == (800, 0)
    assert none.stability.halves.shape == (0,)


@pytest.mark.parametrize("standardise", [False, True])
def test_shared_networks_are_stable_and_no_others(standardise):
    data, whose, shared = corpus(5, 1)
    found = judged(data, whose, 10, standardise=standardise)
    real = only_shared_are_stable(found, shared)
    assert found.stability.halves[real].min() > 0.9
    all_shared, whose, _ = corpus(5, 1, n_own=0)
    found = judged(all_shared, whose, 5, standardise=standardise)
    assert found.stability.stable.all()
    found = judged(all_shared, whose, 5, standardise=standardise, n_null_sets=0)
    assert found.stability.halves.min() > 0.9
    assert not found.stability.stable.any()
    assert "n_null_sets" in found.stability.describe(5)


@pytest.mark.parametrize("n_shared", [0, 2, 4])
def test_networks_of_a_dictionary(n_shared):
    small = {"n_documents": 10, "n_units": 120, "size": 12, "n_own": int(n_shared < 4)}
    data, whose, shared = corpus(n_shared, 2, n_tokens=60, **small)
    found = judged(data, whose, 4, "dictionary", n_bootstrap=5, n_null_sets=3)
    only_shared_are_stable(found, shared)


@pytest.fixture(scope="module", params=[True, False], ids=["shared", "apart"])
def people(request):
    """Volumes of eight people: blobs that all have, or each has elsewhere."""
    rng = np.random.default_rng(0)
    inside = np.zeros((9, 10, 9), np.uint8)
    inside[1:-1, 1:-1, 1:-1] = 1
    mask = nibabel.Nifti1Image(inside, np.diag([8.0, 8, 8, 1]))
    at, runs = np.argwhere(inside), []
    centres = np.array([(2, 2, 2), (6, 7, 2), (3, 6, 6)])
    for _ in range(8):
        here = centres if request.param else at[rng.choice(len(at), 3, replace=False)]
        maps = np.stack([np.exp(-((at - c) ** 2).sum(1) / 3) for c in here])
        run = 6 * rng.normal(size=(30, 3)) @ maps
        run += rng.normal(size=run.shape)
        runs.append((run - run.mean(0)).astype(np.float32))
    return request.param, runs, mask


# the dictionary of this project takes long in so many voxels: above, in neurons
@pytest.mark.parametrize("method", ["ica", "vsdbn", "canica", "dictlearning"])
def test_networks_of_people(method, people):
    shared, runs, mask = people
    whose, n = [f"sub-{i}" for i in range(8)], 6 if method == "vsdbn" else 3
    options = {"n_bootstrap": 4, "over": "units", "mask": mask}
    stable = judged(runs, whose, n, method, **options).stability.stable
    if not shared:  # four null data sets let some pass by chance
        assert stable.mean() < 0.5
    elif method == "vsdbn":  # of six hidden units some are on in no volume
        assert stable.sum() >= 2
    else:
        assert stable.all()


def test_runs_of_one_person_and_tables_of_regions(rng):
    maps = rng.laplace(size=(2, 40))
    runs = []
    for _ in range(6):
        run = rng.laplace(size=(50, 2)) @ maps + 0.5 * rng.normal(size=(50, 40))
        runs.append(run.astype(np.float32))
    whose = [f"run-{i}" for i in range(6)]
    assert judged(runs, whose, 2, over="units").stability.stable.all()
    apart = [run[:, rng.permutation(40)] for run in runs]
    assert not judged(apart, whose, 2, over="units").stability.stable.any()


@pytest.mark.parametrize("n_parts", [1, 2, 3])
def test_too_few_parts_cannot_be_judged_and_all_goes_on(n_parts, three):
    data = three[0][:200]
    found = judged(data, np.arange(len(data)) % n_parts, 3)
    assert found.networks.shape == (3, 200)
    assert not found.stability.stable.any()
    assert np.isnan(found.stability.halves).all()
    told = found.stability.describe(3)
    assert "cannot be judged" in told
    assert f"need 4 documents, people or runs or more, found {n_parts}" in told
    assert found.only_stable() is found


def test_many_documents_are_dealt_into_groups(monkeypatch):
    monkeypatch.setattr(stability, "MOST_PARTS", 6)
    data, whose, shared = corpus(2, 0)
    only_shared_are_stable(judged(data, whose, 4), shared, least=0.7)


def test_few_documents_of_few_tokens_come_back_with_what_they_have():
    """A half of two documents of three tokens has at most five directions."""
    data, whose, _ = corpus(1, 0, n_documents=5, n_tokens=3)
    found = judged(data, whose, 8)
    assert found.stability.halves.shape == (8,)
    assert (found.stability.halves == 0).any()


def test_units_left_out_take_no_part(three):
    data, whose, shared, _ = three
    keep = np.arange(200) % 3 > 0
    only_shared_are_stable(judged(data, whose, 6, keep=keep), shared, keep, 0.7)


def test_the_same_seed_gives_the_same_and_unstable_ones_can_be_left_out(three):
    data, whose, _, found = three
    again = judged(data, whose, 6).stability
    np.testing.assert_array_equal(again.halves, found.stability.halves)
    np.testing.assert_array_equal(again.null_halves, found.stability.null_halves)
    stable = found.only_stable()
    assert stable.networks.shape == (3, 200)
    assert stable.timecourses.shape == (800, 3)
    assert stable.explained.shape == stable.stability.halves.shape == (3,)


def test_scan_shows_how_many_there_are(three):
    data, whose, _, found = three
    table = stability.scan(found, data, [2, 6])
    assert table.index.tolist() == [2, 6]
    assert table["n_stable"].tolist() == [2, 3]
    assert table["explained"].is_monotonic_increasing
    assert table.loc[6, "halves"] == found.stability.halves.mean()
    assert table.loc[2, "limit"] == judged(data, whose, 2).stability.limit


def test_variants_take_massive_neurons_out(three, monkeypatch):
    data, whose, _, _ = three
    loud = data.copy()
    loud[:, 1, 7] += 3000 * (np.arange(len(data)) % 50 == 0)  # at first tokens
    massive = np.zeros((2, 100), bool)
    massive[1, 7] = True
    found = judged(loud, whose, 6)
    fits, refit = [], decomposition.Decomposition.refit

    def counted(self, data, **changed):
        fits.append(changed)
        return refit(self, data, **changed)

    monkeypatch.setattr(decomposition.Decomposition, "refit", counted)
    table = stability.variants(found, loud, massive)
    assert len(fits) == 2  # with massive neurons in it is found itself
    assert table["found"].tolist() == table["asked for"].tolist() == [6, 6, 6]
    without = judged(loud, whose, 6, keep=~massive.ravel())
    names = list(table.index)
    assert table.loc[names[0], "halves, mean |r|"] == found.stability.halves.mean()
    assert table.loc[names[1], "halves, least |r|"] == without.stability.halves.min()
    assert table.loc[names[1], "stable"] == 3
    again = stability.variants(without, loud, np.zeros_like(massive))
    assert again.loc[names[0]].equals(again.loc[names[1]])  # nothing to leave out


def test_a_null_data_set_is_the_same_however_many_there_are(three):
    data, whose, _, found = three
    fewer = judged(data, whose, 6, n_null_sets=2).stability
    np.testing.assert_array_equal(fewer.null_halves, found.stability.null_halves[:2])
    np.testing.assert_array_equal(fewer.null_index, found.stability.null_index[:2])


def test_agreement_equals_a_naive_loop(rng):
    maps = rng.normal(size=(4, 200))
    pairs = [
        [rng.permutation(maps) + rng.normal(size=maps.shape) for _ in range(2)]
        for _ in range(3)
    ]
    found = stability.refit_agreement(maps, pairs)
    for k, row in enumerate(maps):
        expected = []
        for pair in pairs:
            a, b = (max(m, key=lambda x: abs(np.corrcoef(x, row)[0, 1])) for m in pair)
            expected.append(abs(np.corrcoef(a, b)[0, 1]))
        assert found[k] == pytest.approx(np.mean(expected), abs=1e-6)
    missing = [[maps, maps[:2]]]
    np.testing.assert_allclose(stability.refit_agreement(maps, missing), [1, 1, 0, 0])


def test_halves_are_disjoint_and_draws_are_with_replacement(rng):
    data, maps, counts = rng.normal(size=(70, 9)), rng.normal(size=(2, 9)), []

    def fit(gathered, drawn, seed):
        counts.append(drawn)
        return maps

    options = {"mask": None, "keep": None, "standardise": False, "n_rows": (2, 2)}
    options |= {"n_bootstrap": 40, "n_halves": 30, "n_null_sets": 0, "seed": 0}
    stability.judge(maps, data, np.arange(70) % 7, fit, **options)
    drawn, halves = np.array(counts[:40]), np.array(counts[40:]).reshape(30, 2, 7)
    assert (drawn.sum(1) == 7).all() and drawn.max() > 1
    assert (halves.sum(2) == 3).all() and (halves.sum(1) <= 1).all()


def test_the_limit_is_beyond_the_largest_and_three_deviations():
    null = np.array([0.1, 0.2, 0.15, 0.9])
    wide = stability.Stability(np.zeros(1), np.ones(1), null_halves=null)
    assert wide.limit == pytest.approx(null.mean() + 3 * null.std(ddof=1))
    narrow = np.array([0.1, 0.1, 0.1, 0.1])
    index, both = np.array([0.9, 0.9, 0.4]), np.array([0.3, 0.05, 0.3])
    found = stability.Stability(index, both, np.array([0.4, 0.6]), narrow)
    assert (found.limit, found.index_limit) == (pytest.approx(0.1), pytest.approx(0.5))
    assert found.stable.tolist() == [True, False, False]
    assert "1 of 6 networks asked for are stable (3 came back);" in found.describe(6)
    one = stability.Stability(index, both, index[:1], null[:1])
    assert one.limit == np.inf


def test_empty_networks_are_left_out(monkeypatch, rng):
    """Atoms that no unit takes part in are no networks."""
    maps = np.vstack([rng.normal(size=(2, 30)), np.zeros(30)])
    empty = decomposition.in_order(
        maps, rng.normal(size=(200, 3)), np.array([3, 2, 1.0])
    )
    monkeypatch.setattr(decomposition, "dictionary", lambda *_, **__: empty)
    data = rng.normal(size=(200, 30))
    found = decomposition.decompose(data, 3, "dictionary", random_state=0)
    assert found.networks.shape == (2, 30)
    assert found.timecourses.shape == (200, 2)
