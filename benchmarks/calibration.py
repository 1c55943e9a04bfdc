"""Calibration: how often chance passes for coupling, for every null that is offered.

Simulated: each data set is real recorded responses (of the quickstart study's story)
against time courses that know nothing of them: noise with the spectra and the
covariance of seven real resting-state networks. The mean of n subjects whose noise is
independent is the same as one such draw, for correlation does not see its scale. A null
is calibrated (``ok``) if the family-wise error at .05 lies in its binomial interval;
``fdr`` is the mean false discovery proportion, which without planted coupling is the
share of data sets with any discovery. Where BOLD holds the word rate and it is not
removed, only ``text`` keeps the timing: others should fail.

Real: BOLD of 27 people who heard a story (six regions) against what they did not hear:
that story reversed, or rolled by five lags, and another story from its onset and from
its middle. No simulation has the bursts, the moving heads and the onset of real BOLD.
People share the story and versions share the people, so that these are not as many
independent data sets as are counted: the binomial interval is a little too narrow.

``python benchmarks/calibration.py NAME ...`` runs some of the conditions only.
"""

import os

os.environ["TQDM_DISABLE"] = "1"  # a bar for each of thousands of nulls

import json
import sys
import time
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.linalg
import scipy.ndimage
import scipy.signal
import scipy.sparse
import xarray as xr
from scipy import stats

from anbn.brain import alice, regressors, simulate
from anbn.brain import clock as brain_clock
from anbn.core import artifacts, params
from anbn.core.paths import resolve, stage_dir
from anbn.coupling import encoding, synchrony, uncoupled
from anbn.models import forward, loading, stores
from anbn.stats import surrogates, timeseries
from anbn.text import stories as text_stories
from anbn.text import tokenization

N_DATASETS, N_DRAWS, LEVEL = 200, 99, 0.05  # 99: the level is exact
N_UNITS = 96  # of the 576 of each layer, drawn at random
N_RUNS, TR, KIND = 8, 2.0, "ffn_out"
ENCODING = "encoding, two bands, 5 folds: mean held-out r holds 0 in its interval"
N_DRIVERS, SIGNAL = 15, 0.7  # of planted networks; the signal in units of the noise
# 99 %, as there are some twenty rows
LOW, HIGH = (int(stats.binom.ppf(q, N_DATASETS, LEVEL)) for q in (0.005, 0.995))

# of the real nulls
REAL_UNITS, REAL_KIND = 100, "ffn_hidden"  # of each of 30 layers
N_WORDS = 4000  # of the other story: more than twice as long as the one that was heard
REAL = {  # regressors beside drift, and s that are left out at the start
    "word rate removed": (["word_rate"], 0.0),
    "word rate and speech removed": (["word_rate", "speech"], 0.0),
    "the same, 20 s left out": (["word_rate", "speech"], 20.0),
}


@dataclass
class Condition:
    """How null data are made and analysed."""

    n_times: int = 280
    runs: bool = False  # eight, each with noise and drift of its own
    rate: float = 0.0  # the word rate's share in the time courses
    late: float = 0.0  # s, delay of that share behind the canonical response
    remove_rate: bool = True
    motion: bool = False  # 24 confounds like those of motion
    planted: bool = False  # coupling in three of the networks


CONDITIONS = {
    "280 volumes": Condition(),
    "144 volumes": Condition(n_times=144),
    "96 volumes": Condition(n_times=96),
    "144 volumes, 24 motion confounds": Condition(n_times=144, motion=True),
    "280 volumes, 24 motion confounds": Condition(motion=True),
    "8 runs of 35 volumes": Condition(runs=True),
    "word rate in BOLD, not removed": Condition(rate=0.5, remove_rate=False),
    "word rate in BOLD 1 s late, removed": Condition(rate=0.5, late=1.0),
    "3 of 7 networks planted": Condition(planted=True),
}


def load():
    """Responses, alignment matrix, activations of the corpora and word rate."""
    folder = stage_dir("quickstart", "01_activation_recording") / "data"
    file = folder / f"responses_model_{KIND}.npy"
    if not file.is_file():
        sys.exit(f"{file} is missing: run `make 01` first")
    n_layers, n_units = stores.open_activations(folder / "corpora", KIND).shape[1:]
    units = np.random.default_rng(0).choice(n_units, N_UNITS, replace=False)
    responses = np.load(file, mmap_mode="r").reshape(-1, n_layers, n_units)
    texts = stores.open_activations(folder / "corpora", KIND)[..., np.sort(units)]
    return {
        "responses": responses[..., np.sort(units)].reshape(len(responses), -1),
        "H": scipy.sparse.load_npz(folder / "H.npz").tocsr(),
        "texts": texts.load(),
        "rate": artifacts.read_arrays(folder / "clock.npz")["word_rate"],
    }


def rest_networks():
    """The parcels' seven networks (Schaefer 2018, after Yeo 2011), as averages.

    Returns
    -------
    averages : array of shape (100, 7)
        ``rest @ averages`` are the networks' time courses.
    """
    table = pd.read_csv(resolve(simulate.REST) / "rois.tsv", sep="\t")
    members = pd.get_dummies(table["network"], dtype=float)
    return (members / members.sum()).to_numpy()


def draw_noise(lengths, rng):
    """Time courses of the resting networks (n_times, 7), anew for every data set."""
    rest, _ = simulate.rest_parcels()
    averages = rest_networks()
    for _ in range(N_DATASETS):
        noise = [simulate.surrogate_rest(rest, n, rng) @ averages for n in lengths]
        yield timeseries.zscore(np.concatenate(noise))


def draw_motion(n_times, rng):
    """Six slow wanderings, their differences, and the squares of both."""
    moved = scipy.signal.lfilter([1], [1, -0.95], rng.normal(size=(n_times, 6)), 0)
    six = np.column_stack([moved, np.diff(moved, axis=0, prepend=0)])
    return np.column_stack([six, six**2])


def make(given, condition, rng):
    """Data sets of one condition, without confounds.

    Returns
    -------
    responses : array of shape (n_times, n_neurons)
    brains : array of shape (n_datasets, n_times, n_networks)
    basis : array of shape (n_times, n_kept)
    lengths : tuple of int
        Volumes of the runs.
    """
    n_times, lengths = condition.n_times, (condition.n_times,)
    if condition.runs:
        lengths = (n_times // N_RUNS,) * N_RUNS
    rate = given["rate"][:n_times, None]
    confounds = regressors.run_drift(lengths, TR)
    if condition.remove_rate:
        confounds = np.column_stack([confounds, rate])
    if condition.motion:
        confounds = np.column_stack([confounds, draw_motion(n_times, rng)])
    basis = timeseries.orthonormal(confounds)
    responses = timeseries.residuals(given["responses"][:n_times], basis)
    late = scipy.ndimage.shift(rate[:, 0], condition.late / TR, mode="nearest")
    shared, brains = condition.rate * timeseries.zscore(late)[:, None], []
    for noise in draw_noise(lengths, rng):
        brain = noise + shared
        if condition.planted:
            groups = simulate.driver_groups(responses, N_UNITS, 3, N_DRIVERS, rng)
            brain[:, :3] += SIGNAL * groups[1]
        brains.append(timeseries.residuals(brain, basis))
    return responses, np.stack(brains), basis, lengths


def text_nulls(given, brains, basis):
    """``synchrony.text_null`` of all data sets at once: the texts are the same."""
    n_datasets, n_times, n_networks = brains.shape
    null = synchrony.text_null(
        given["texts"],
        given["H"][:n_times],
        brains.swapaxes(0, 1).reshape(n_times, -1),
        basis,
        n_draws=N_DRAWS,
        rng=np.random.default_rng(1),
    )
    maxima = null.maxima.reshape(N_DRAWS, n_datasets, n_networks)
    counts = null.counts.reshape(n_datasets, n_networks, -1)
    return [synchrony.Null(maxima[:, i], counts[i]) for i in range(n_datasets)]


def nulls(kind, given, responses, brains, basis, lengths):
    """The null of every data set, one after another."""
    if kind == "text":
        yield from text_nulls(given, brains, basis)
        return
    rng = np.random.default_rng(2)
    options = {"n_draws": N_DRAWS, "rng": rng, "run_lengths": lengths}
    for brain in brains:
        yield synchrony.null(responses, brain, basis, null_method=kind, **options)


def false_share(found, planted):
    """Share of discoveries that lie in networks that nothing drives.

    Its mean over data sets is the false discovery rate.
    """
    return float(found[:, ~planted].sum() / max(found.sum(), 1))


def parametric_p(synchrony, n_free):
    """Two-sided p of Pearson's r for independent samples: far too small for BOLD.

    ``n_free`` is volumes less removed regressors.
    """
    r = np.abs(synchrony).clip(max=1 - 1e-7)
    t = r * np.sqrt((n_free - 2) / (1 - r**2))
    return 2 * stats.t.sf(t, n_free - 2)


def judge(claim, condition, responses, brains, basis, drawn):
    """One row: how often thresholds are passed where nothing was planted."""
    planted = np.arange(brains.shape[2]) < 3 * condition.planted
    n_free = len(responses) - basis.shape[1]
    familywise, parametric, shares, naive, power, by_network = 0, 0, [], [], [], []
    for brain, null in zip(brains, drawn, strict=True):
        r = synchrony.synchrony(responses, brain)
        p = synchrony.familywise_p(r, null.maxima) <= LEVEL
        familywise += int(p[:, ~planted].any())
        found = synchrony.false_discovery_q(r, null.counts, over="all") <= LEVEL
        own = synchrony.familywise_p(r, null.maxima, by_network=True) <= LEVEL
        by_network.append(own[:, ~planted].any(0).mean())
        shares.append(false_share(found, planted))
        p_r = parametric_p(r, n_free)
        parametric += int((p_r[:, ~planted] * r.size <= LEVEL).any())
        q = stats.false_discovery_control(p_r.ravel()).reshape(r.shape)
        naive.append(false_share(q <= LEVEL, planted))
        power.append(p[:, planted].any(0))
    row = {
        "claim": claim,
        "n_datasets": N_DATASETS,
        "familywise": familywise / N_DATASETS,
        "n_false": familywise,
        "interval": [LOW / N_DATASETS, HIGH / N_DATASETS],
        "by_network": float(np.mean(by_network)),
        "fdr": float(np.mean(shares)),
        "fdr_error": float(np.std(shares) / np.sqrt(N_DATASETS)),
        "parametric": parametric / N_DATASETS,
        "parametric_fdr": float(np.mean(naive)),
    }
    if condition.planted:  # the four others have less than all of the level
        row["planted_found"] = float(np.mean(power))
        return row | {"ok": familywise <= HIGH}
    return row | {"ok": LOW <= familywise <= HIGH}


def encode(given):
    """One row: held-out r of one layer's responses, which no data set knows of."""
    brains = list(draw_noise((len(given["rate"]),), np.random.default_rng(4)))
    bands = {
        "word rate": given["rate"][:, None],
        "layer": np.asarray(given["responses"][:, 15 * N_UNITS : 16 * N_UNITS]),
    }
    r = encoding.encode(bands, np.hstack(brains), tr=TR).r.reshape(N_DATASETS, -1)
    mean, half = r.mean(), stats.norm.ppf(0.995) * r.mean(1).std() / N_DATASETS**0.5
    return {
        "claim": ENCODING,
        "n_datasets": N_DATASETS,
        "mean_r": float(mean),
        "interval": [float(mean - half), float(mean + half)],
        "ok": bool(abs(mean) <= half),
    }


def record():
    """Activations of both stories and of the corpora; kept, as it takes two minutes.

    Returns
    -------
    recorded : dict of str to array of shape (n_tokens, n_layers, n_units)
    words : dict of str to (DataFrame of words, int array of each token's word)
    """
    heard = params.read("alice", "01_activation_recording")
    other = params.read("quickstart", "01_activation_recording")
    file = stage_dir("benchmarks", "calibration_recorded.npz")
    model = loading.load_model(heard["model"])
    stories = {
        "heard": (heard["story"], heard["story_start"], heard["n_words"]),
        "other": (other["story"], other["story_start"], N_WORDS),
    }
    tokens, words = {}, {}
    for name, (story, start, n_words) in stories.items():
        timed, text, *_ = text_stories.read_story(
            resolve(story),
            n_words=n_words,
            start_at=start,
            rng=np.random.default_rng(0),
            missing="interpolate",
        )
        tokens[name] = tokenization.tokenize(model.tokenizer, text, timed)
        words[name] = timed, tokens[name]["word"].to_numpy()
    files = [resolve(corpus) for corpus in heard["corpora"]]
    limits = heard["corpus_tokens"], heard["document_tokens"]
    tokens["texts"], _ = tokenization.tokenize_corpora(model.tokenizer, files, *limits)
    if file.is_file():
        return artifacts.read_arrays(file), words
    recorded = {}
    for name, of_story in tokens.items():
        parts = []
        for window in forward.forward_windows(
            model, of_story, kinds=[REAL_KIND], window=1024, stride=512, batch_size=1
        ):
            values = window.activations[REAL_KIND].numpy()
            some = uncoupled.spread(values.shape[2], REAL_UNITS)
            parts.append(values[..., some].swapaxes(0, 1).astype(np.float16))
        recorded[name] = np.concatenate(parts)
    artifacts.write_arrays(file, **recorded)
    return recorded, words


def on_clock(words, of_token, names, n_times, start=0.0):
    """Alignment matrix and regressors of a story from some second on."""
    clock = {"n_times": n_times, "tr": TR, "start": start}
    H = brain_clock.alignment_matrix(of_token, words["onset"], **clock)
    return H.tocsr(), regressors.story_regressors(words, names, **clock).to_numpy()


def unheard(recorded, words, names, n_times):
    """Versions of stories that nobody heard.

    Yields
    ------
    name : str
    H : sparse array of shape (n_times, n_tokens)
    story : str
        Whose tokens these are.
    confounds : array of shape (n_times, n_names)
    """
    H, confounds = on_clock(*words["heard"], names, n_times, start=20.0)
    orders = uncoupled.versions(n_times)
    for name in ("reversed", *(n for n in orders if n.startswith("rolled"))):
        yield name, H[orders[name]], "heard", confounds[orders[name]]
    middle = float(words["other"][0]["offset"].max() / 2)
    for name, start in (("other, onset", 0.0), ("other, middle", middle)):
        H, confounds = on_clock(*words["other"], names, n_times, start=start)
        yield name, H, "other", confounds


def people():
    """Single people, three groups of nine, and all; (n_data, n_times, n_regions)."""
    runs, _ = alice.load_timecourses()
    one_by_one = [timeseries.zscore(bold) for bold, _ in runs.values()]
    drift = timeseries.orthonormal(timeseries.drift(len(one_by_one[0]), TR))
    each = [timeseries.zscore(timeseries.residuals(x, drift)) for x in one_by_one]
    groups = [np.mean(each[k::3], 0) for k in range(3)] + [np.mean(each, 0)]
    return np.stack([*each, *map(timeseries.zscore, groups)]), len(each)


def wavelet(data, n, rng):
    """Coefficients of a wavelet (Daubechies, 4 moments) dealt anew at each scale."""
    low = [0.2304, 0.7148, 0.6309, -0.0280, -0.1870, 0.0308, 0.0329, -0.0106]
    low = np.array(low) / np.linalg.norm(low)
    high = low[::-1] * (-1.0) ** np.arange(8)
    n_times, size = len(data), 1 << int(np.ceil(np.log2(len(data))))
    before = (size - n_times) // 2
    pad = ((before, size - n_times - before), (0, 0))
    smooth, details = np.pad(data, pad, mode="reflect"), []
    places = []
    while len(smooth) > 8:
        at = 2 * np.arange(len(smooth) // 2)[:, None] + np.arange(8)
        at %= len(smooth)
        details.append(np.einsum("k,ikn->in", high, smooth[at]))
        smooth = np.einsum("k,ikn->in", low, smooth[at])
        places.append(at)
    drawn = []
    for _ in range(n):
        level = smooth[rng.permutation(len(smooth))]
        for detail, at in zip(details[::-1], places[::-1], strict=True):
            detail = detail[rng.permutation(len(detail))]
            finer = np.zeros((2 * len(level), data.shape[1]))
            for k in range(8):
                np.add.at(finer, at[:, k], low[k] * level + high[k] * detail)
            level = finer
        drawn.append(level[before : before + n_times])
    return np.stack(drawn, 1)


def amplitude_adjusted(data, n, rng, n_iter=30):
    """Spectrum and distribution of values kept (Schreiber & Schmitz 1996)."""
    size = np.abs(np.fft.rfft(data, axis=0))[:, None]
    values = np.broadcast_to(np.sort(data, 0)[:, None], (len(data), n, data.shape[1]))
    drawn = surrogates.draw(data, n, null_method="phase", rng=rng)
    for _ in range(n_iter):
        rank = drawn.argsort(0).argsort(0)
        spectrum = np.fft.rfft(np.take_along_axis(values, rank, 0), axis=0)
        turned = size * spectrum / np.maximum(np.abs(spectrum), 1e-12)
        drawn = np.fft.irfft(turned, n=len(data), axis=0)
    return drawn


def tapered(data, n, rng, n_faded=10):
    """Rolled, with both ends faded, so that none jumps where it is wrapped."""
    fade = np.ones(len(data))
    fade[:n_faded] = np.sin(np.pi / 2 * (np.arange(n_faded) + 0.5) / n_faded) ** 2
    fade[-n_faded:] = fade[:n_faded][::-1]
    return surrogates.draw(data * fade[:, None], n, null_method="shift", rng=rng)


# tried, and not offered
CANDIDATES = {
    "wavelet": wavelet,
    "amplitude-adjusted": amplitude_adjusted,
    "tapered shift": tapered,
}


def maxima_of(draw, clean, brain, basis, rng):
    """Largest |r| of a candidate's surrogates, by draw and column of time courses."""
    units, maxima = synchrony.unit_rows(clean), []
    coloured = surrogates.before_projection(brain, basis)
    for _ in range(0, N_DRAWS, 3):
        drawn = draw(coloured, 3, rng)
        drawn = timeseries.residuals(drawn.reshape(len(brain), -1), basis)
        r = np.abs(synchrony.synchrony(units, drawn)).max(0)
        maxima.append(r.reshape(3, -1))
    return np.concatenate(maxima)


def prewhitened(clean, brain, order):
    """Largest |r| of residuals of every column's autoregression, and in other orders.

    The neurons pass through the same filter, so that r means what it means for ridge
    weights of independent samples. Assumes that BOLD is linear and stationary.

    Returns
    -------
    observed : array of shape (n_columns,)
    maxima : array of shape (n_draws, n_columns)
    """
    rng, largest = np.random.default_rng(5), []
    orders = [rng.permutation(len(brain) - order) for _ in range(N_DRAWS)]
    for column in brain.T:
        lags = [column[k:] @ column[: len(column) - k] for k in range(order + 1)]
        weights = np.linalg.solve(scipy.linalg.toeplitz(lags[:-1]), lags[1:])
        taps = np.r_[1, -weights]
        x = scipy.signal.lfilter(taps, 1, column)[order:]
        units = synchrony.unit_rows(
            scipy.signal.lfilter(taps, 1, clean, axis=0)[order:]
        )
        drawn = np.column_stack([x, *(x[o] for o in orders)])
        r = np.abs(synchrony.synchrony(units, drawn)).max(0)
        largest.append(r)
    return np.array(largest)[:, 0], np.array(largest)[:, 1:].T


def real(names):
    """Rows: how often each null finds coupling in real BOLD with an unheard story."""
    recorded, words = record()
    of_people, n_people = people()
    n_data, n_times = of_people.shape[:2]
    texts = xr.DataArray(recorded["texts"], dims=("token", "layer", "neuron"))
    rows = []
    for condition, (confound_names, left_out) in REAL.items():
        if names and f"real: {condition}" not in names:
            continue
        last = condition == list(REAL)[-1]
        found = {}
        used, lengths = regressors.left_over([n_times], TR, left_out)
        drift = regressors.run_drift(lengths, TR)
        for version, H, story, confounds in unheard(
            recorded, words, confound_names, n_times
        ):
            basis = np.column_stack([drift, confounds[used]])
            basis = timeseries.orthonormal(basis)
            tokens = recorded[story].reshape(len(recorded[story]), -1)
            clean = timeseries.residuals(H[used] @ tokens.astype(float), basis)
            side_by_side = np.swapaxes(of_people[:, used], 0, 1)
            brain = side_by_side.reshape(len(clean), -1)
            brain = timeseries.residuals(brain, basis)
            r = synchrony.synchrony(clean, brain)
            kinds = [*surrogates.METHODS, *(["text", *CANDIDATES] if last else [])]
            options = {"n_draws": N_DRAWS}
            for kind in kinds:
                options["rng"] = np.random.default_rng(6)
                if kind == "text":
                    heard = np.flatnonzero(abs(H).sum(0))
                    H_used = H[used][:, heard.min() : heard.max() + 1]
                    drawn = synchrony.text_null(texts, H_used, brain, basis, **options)
                elif kind in CANDIDATES:
                    of = CANDIDATES[kind], clean, brain, basis, options["rng"]
                    drawn = synchrony.Null(maxima_of(*of), None)
                else:
                    drawn = synchrony.null(
                        clean, brain, basis, null_method=kind, batch_size=2, **options
                    )
                found.setdefault(kind, []).append((version, *errors(r, drawn, n_data)))
            for order in (1, 3) if last else ():
                observed, maxima = prewhitened(clean, brain, order)
                drawn = synchrony.Null(maxima, None)
                one = (version, *errors(observed[None], drawn, n_data))
                found.setdefault(f"residuals of AR({order})", []).append(one)
        for kind, of_kind in found.items():
            rows += judge_real(f"real: {condition}; null {kind}", of_kind, n_people)
            print(*map(json.dumps, rows[-2:]), sep="\n", flush=True)
    return rows


def errors(r, drawn, n_data):
    """False findings of each of the data: over networks, their share, and by q."""
    size = np.abs(r).max(0).reshape(n_data, -1)
    maxima = drawn.maxima.reshape(N_DRAWS, *size.shape)
    over_all = np.array(
        [synchrony.familywise_p(one.max(), maxima[:, i]) for i, one in enumerate(size)]
    )
    own = [
        synchrony.familywise_p(one, maxima[:, i], by_network=True)
        for i, one in enumerate(size)
    ]
    discovered = np.full(n_data, np.nan)
    if drawn.counts is not None:
        q = synchrony.false_discovery_q(r, drawn.counts)
        discovered = (q <= LEVEL).any(0).reshape(n_data, -1).mean(1)
    return over_all <= LEVEL, (np.array(own) <= LEVEL).mean(1), discovered


def judge_real(claim, of_kind, n_people):
    """Rows of single people and of groups."""
    versions, over_all, own, discovered = zip(*of_kind, strict=True)
    over_all, own, discovered = map(np.stack, (over_all, own, discovered))
    rows, untested = [], bool(np.isnan(discovered).any())
    for what, some in (("people", slice(n_people)), ("groups", slice(n_people, None))):
        n_false, n = int(over_all[:, some].sum()), over_all[:, some].size
        low, high = uncoupled.interval(n, LEVEL)
        by_version = dict(zip(versions, over_all[:, some].sum(1).tolist(), strict=True))
        rows.append(
            {
                "claim": f"{claim}; {what}",
                "n_datasets": n,
                "familywise": n_false / n,
                "n_false": n_false,
                "interval": [low / n, high / n],
                "by_network": float(own[:, some].mean()),
                "fdr": None if untested else float(discovered[:, some].mean()),
                "by_version": by_version,
                "ok": bool(low <= n_false <= high),
            }
        )
    return rows


def main(names):
    warnings.filterwarnings("ignore", message="Sparse")
    wanted = names or [*CONDITIONS, "encoding"]
    simulated = [name for name in wanted if not name.startswith("real")]
    rows = []
    if not names or len(simulated) < len(names):
        rows += real([name for name in names if name != "real"])
    given = load() if simulated else None
    for name in simulated:
        if name == "encoding":
            rows.append(encode(given))
            continue
        start, condition = time.perf_counter(), CONDITIONS[name]
        data = make(given, condition, np.random.default_rng(3))
        for kind in (*surrogates.METHODS, "text"):
            drawn = nulls(kind, given, *data)
            claim = f"{name}; null {kind}; {data[0].shape[1]} neurons"
            rows.append(judge(claim, condition, *data[:3], drawn))
            seconds = time.perf_counter() - start
            print(json.dumps(rows[-1]), f"{seconds:.0f} s", flush=True)
    print(pd.DataFrame(rows).to_string(index=False))
    if not names:
        artifacts.write_json(stage_dir("benchmarks", "calibration.json"), rows)


if __name__ == "__main__":
    main(sys.argv[1:])
