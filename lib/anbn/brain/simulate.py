"""Simulated BOLD with a known truth, and the score of what was found of it.

Some networks follow a few neurons of a model, some a population of hundreds, one the
rate of words alone, and one nothing that a model or a listener to words could know.
"""

import itertools
from dataclasses import dataclass

import nibabel
import numpy as np
import pandas as pd
from nilearn.datasets import load_mni152_brain_mask
from nilearn.masking import unmask

from anbn.brain import templates
from anbn.core import artifacts
from anbn.core.paths import resolve
from anbn.stats import surrogates, timeseries

REST = "package:brainfc/data/rest01"
# templates of Seitzman (2020), by what drives them
FEW = ["Auditory", "DefaultMode", "FrontoParietal"]
POPULATION = ["CinguloOpercular", "DorsalAttention"]
WORD_RATE = ["SomatomotorDorsal"]
NOTHING = ["Visual"]
N_MEMBERS = 400  # neurons of a population
MAX_CORRELATION = 0.3  # of the signals of two groups
RATE_SHARE = 0.5  # of the word rate in a network's time course


@dataclass(frozen=True)
class Simulation:
    """Simulated volumes and everything that was planted in them."""

    volumes: list  # a 4D image a subject
    mask: nibabel.Nifti1Image
    names: list  # of networks: those of FEW, POPULATION, WORD_RATE and NOTHING
    maps: np.ndarray  # (n_networks, n_voxels)
    timecourses: np.ndarray  # (n_times, n_networks), the same in all subjects
    drivers: np.ndarray  # (n_few, n_drivers), columns of the responses
    populations: np.ndarray  # (n_populations, n_members), columns of the responses


def driver_groups(responses, n_neurons, n_groups, n_drivers, rng, *, others=()):
    """Groups of neurons of one layer that respond alike, different between groups.

    A seed neuron is drawn in a layer of its own third of the depth (for three groups);
    the group is the seed and the neurons of its layer that correlate with it most.

    Parameters
    ----------
    responses : array of shape (n_times, n_layers * n_neurons)
        Without confounds.
    n_neurons : int
        Neurons in a layer.
    n_groups, n_drivers : int
    rng : numpy Generator
    others : sequence of arrays of shape (n_times,)
        Standardised signals that are taken already: those of groups correlate with
        them, and with each other, by less than 0.3.

    Returns
    -------
    drivers : int array of shape (n_groups, n_drivers)
    signals : array of shape (n_times, n_groups)
        Mean standardised response of each group, standardised.
    """
    n_layers = responses.shape[1] // n_neurons
    borders = np.linspace(0, n_layers, n_groups + 1).astype(int)
    drivers, signals = [], []
    for low, high in itertools.pairwise(borders):
        for _ in range(1000):
            layer = rng.integers(low, max(high, low + 1))
            columns = np.arange(layer * n_neurons, (layer + 1) * n_neurons)
            z = timeseries.zscore(responses[:, columns])
            likeness = z.T @ z[:, rng.integers(n_neurons)]
            members = np.argsort(-likeness, kind="stable")[:n_drivers]
            signal = timeseries.zscore(z[:, members].mean(1))
            taken = [abs(np.mean(signal * s)) for s in (*others, *signals)]
            if max(taken, default=0) < MAX_CORRELATION:
                break
        else:
            raise ValueError(
                f"no {n_groups} groups of {n_drivers} neurons that correlate less than "
                f"{MAX_CORRELATION}: ask for fewer groups"
            )
        drivers.append(columns[members])
        signals.append(signal)
    return np.stack(drivers), np.column_stack(signals)


def population_groups(responses, n_groups, n_members):
    """Populations of neurons from all layers, each following one time course.

    The time courses are principal components of all neurons' standardised responses,
    without the first, which is nearly the mean of all; the members are the neurons that
    load on one most, in either direction. No member follows it closely, and together
    they hold it.

    Parameters
    ----------
    responses : array of shape (n_times, n_layers * n_neurons)
        Without confounds.
    n_groups, n_members : int

    Returns
    -------
    members : int array of shape (n_groups, n_members)
    signals : array of shape (n_times, n_groups)
        Mean standardised response of each population, members that load negatively
        turned around; standardised.
    """
    z = timeseries.zscore(responses)
    _, components = np.linalg.eigh(z @ z.T)  # the largest last
    members, signals = [], []
    for component in components.T[::-1][1 : n_groups + 1]:
        loadings = z.T @ component
        chosen = np.argsort(-np.abs(loadings), kind="stable")[:n_members]
        loadings *= np.sign(loadings[chosen].sum())  # the sign of eigenvectors is free
        signal = (z[:, chosen] * np.sign(loadings[chosen])).mean(1)
        signals.append(timeseries.zscore(signal))
        members.append(chosen)
    return np.stack(members), np.column_stack(signals)


def rest_parcels():
    """Real resting-state BOLD: 150 TR of 2 s in 100 parcels, and their MNI centres.

    Returns
    -------
    rest : array of shape (150, 100)
        Standardised, drift removed.
    centres : array of shape (100, 3)
        mm.
    """
    folder = resolve(REST)
    rest, centres = (
        pd.read_csv(folder / name, sep="\t") for name in ("timeseries.tsv", "rois.tsv")
    )
    basis = timeseries.orthonormal(timeseries.drift(len(rest), 2.0))
    rest = timeseries.residuals(rest.to_numpy(float), basis)
    return timeseries.zscore(rest), centres[["x", "y", "z"]].to_numpy(float)


def surrogate_rest(rest, n_times, rng):
    """New noise with the spatial covariance and the spectra of given BOLD, any length.

    Every principal component becomes Gaussian noise with that component's spectrum. A
    part is cut out of longer noise: what comes from one Fourier transform is periodic,
    as no scan is, and phase-randomised nulls would fit it too well.

    Parameters
    ----------
    rest : array of shape (n_rest, n_parcels)
    n_times : int
    rng : numpy Generator

    Returns
    -------
    noise : array of shape (n_times, n_parcels)
    """
    u, s, vt = np.linalg.svd(rest - rest.mean(0), full_matrices=False)
    power = np.abs(np.fft.rfft(u * s, axis=0)) ** 2
    # a periodogram is noisy: smooth it over five frequencies
    kernel = np.ones(5) / 5
    padded = np.pad(power[1:], ((2, 2), (0, 0)), mode="edge")
    power[1:] = np.apply_along_axis(np.convolve, 0, padded, kernel, mode="valid")
    n_drawn = n_times + len(rest)
    at, known = np.fft.rfftfreq(n_drawn), np.fft.rfftfreq(len(rest))
    power = np.stack([np.interp(at, known, column) for column in power.T], 1)
    shape = power.shape
    spectrum = np.sqrt(power) * (rng.normal(size=shape) + 1j * rng.normal(size=shape))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, n=n_drawn, axis=0)[:n_times]
    noise = timeseries.zscore(noise)
    return noise * (s / np.sqrt(len(rest))) @ vt


def spatial_weights(mask, centres, sigma):
    """Weights that carry parcel noise to voxels: Gaussian in distance, unit length.

    Returns
    -------
    weights : array of shape (n_parcels, n_voxels)
    """
    squared = ((centres[:, None] - templates.voxels_of(mask)) ** 2).sum(2)
    weights = np.exp(-(squared - squared.min(0)) / (2 * sigma**2))
    return weights / np.linalg.norm(weights, axis=0)


def simulate_bold(
    responses,
    n_neurons,
    word_rate,
    *,
    tr,
    n_subjects,
    signal,
    rng,
    resolution=8,
    n_drivers=30,
):
    """Simulate volumes of several subjects who hear the same story.

    In each network's voxels, in units of the noise's standard deviation::

        bold = map * (signal * (timecourse + rate / 2) + own) + noise + drift

    The time courses are those of groups of a few neurons (``FEW``) and of populations
    (``POPULATION``), of the rate of words alone (``WORD_RATE``), and phase-randomised
    ones of a group's spectrum, to which no rate is added (``NOTHING``); all have the
    same variance. ``own`` is what a network does in one subject alone, of unit variance
    and a real parcel's spectrum.
    The noise, a new draw for every subject, has the spectrum and spatial covariance of
    real rest in three quarters of its variance, and is white in the rest.

    Parameters
    ----------
    responses : array of shape (n_times, n_layers * n_neurons)
        On the BOLD clock, without confounds.
    n_neurons : int
        Neurons in a layer.
    word_rate : array of shape (n_times,)
    tr : float
        s.
    n_subjects : int
    signal : float
        Standard deviation of the shared signal at a network's centre; it sets the
        inter-subject correlation.
    rng : numpy Generator
        Drivers, the network of nothing and every subject have a generator of their own
        made from it: a subject is the same however many there are.
    resolution : int
        Voxel size, mm.
    n_drivers : int
        Neurons of each group of a few.

    Returns
    -------
    simulation : Simulation
    """
    of_drivers, of_nothing, *of_subjects = rng.spawn(2 + n_subjects)
    n_times = len(responses)
    mask = load_mni152_brain_mask(resolution=resolution)
    atlas, names = templates.seitzman_templates(mask, sigma=1.2 * resolution)
    chosen = [*FEW, *POPULATION, *WORD_RATE, *NOTHING]
    maps = atlas[[names.index(name) for name in chosen]]
    n_members = min(N_MEMBERS, responses.shape[1] // 10)
    populations, of_populations = population_groups(
        responses, len(POPULATION), n_members
    )
    drivers, of_few = driver_groups(
        responses, n_neurons, len(FEW), n_drivers, of_drivers, others=of_populations.T
    )
    rate = timeseries.zscore(word_rate)[:, None]
    unknown = [
        surrogates.draw_one(of_few[:, [0]], of_nothing, null_method="phase")
        for _ in NOTHING
    ]
    shared = np.hstack(
        [
            of_few + RATE_SHARE * rate,
            of_populations + RATE_SHARE * rate,
            np.sqrt(1 + RATE_SHARE**2) * np.repeat(rate, len(WORD_RATE), axis=1),
            np.sqrt(1 + RATE_SHARE**2) * timeseries.zscore(np.hstack(unknown)),
        ]
    )
    rest, centres = rest_parcels()
    weights = spatial_weights(mask, centres, sigma=1.5 * resolution)
    slow = timeseries.drift(n_times, tr)[:, :-1]
    volumes = []
    for own_rng in of_subjects:
        noise = timeseries.zscore(surrogate_rest(rest, n_times, own_rng) @ weights)
        white = own_rng.normal(size=noise.shape)
        noise = np.sqrt(0.75) * noise + np.sqrt(0.25) * white
        wander = slow @ own_rng.normal(size=(slow.shape[1], noise.shape[1]))
        parcels = own_rng.choice(rest.shape[1], len(chosen), replace=False)
        own = timeseries.zscore(surrogate_rest(rest, n_times, own_rng)[:, parcels])
        bold = (signal * shared + own) @ maps + noise + wander
        image = unmask((1000 + 10 * bold).astype(np.float32), mask)
        image.header.set_zooms((*image.header.get_zooms()[:3], tr))
        volumes.append(image)
    return Simulation(volumes, mask, chosen, maps, shared, drivers, populations)


def write_simulation(simulation, folder):
    """Write the volumes, the mask and the truth of a simulation.

    Parameters
    ----------
    simulation : Simulation
    folder : Path
        Gets ``bold/sub-XX_bold.nii.gz`` (16 bit), ``bold/mask.nii.gz``, ``truth.npz``
        and ``truth.json``.

    Returns
    -------
    files : list of str
        The volumes.
    mask : str
    """
    files = []
    for i, image in enumerate(simulation.volumes, 1):
        path = folder / "bold" / f"sub-{i:02d}_bold.nii.gz"
        with artifacts.atomic(path) as temporary:
            image.set_data_dtype(np.int16)  # scaled to the data's range by nibabel
            nibabel.save(image, temporary)
        files.append(str(path))
    mask = folder / "bold" / "mask.nii.gz"
    with artifacts.atomic(mask) as temporary:
        nibabel.save(simulation.mask, temporary)
    artifacts.write_arrays(
        folder / "truth.npz",
        maps=simulation.maps,
        timecourses=simulation.timecourses,
        drivers=simulation.drivers,
        populations=simulation.populations,
    )
    truth = {
        "simulated": True,
        "networks": simulation.names,
        "few": FEW,
        "population": POPULATION,
        "word_rate": WORD_RATE,
        "nothing": NOTHING,
        "drivers": simulation.drivers.tolist(),
        "populations": simulation.populations.tolist(),
    }
    artifacts.write_json(folder / "truth.json", truth)
    return files, str(mask)


def score_synchrony(synchrony, threshold, names, maps, truth, true_maps):
    """Score coupling of single neurons against what a simulation planted.

    Parameters
    ----------
    synchrony : array of shape (n_neurons, n_networks)
    threshold : float or array of shape (n_networks,)
    names : list of str
        Labels of the networks.
    maps : array of shape (n_networks, n_voxels)
    truth : dict
        As in ``truth.json``: names of the networks that follow a ``few`` neurons, the
        ``drivers`` of each of these, and networks that follow a ``population``.
    true_maps : array of shape (n_planted, n_voxels)
        Of the networks that few neurons drive first.

    Returns
    -------
    score : dict
        ``planted_networks_found`` of ``planted_networks_total``: networks driven by few
        neurons that have a significant one;
        ``population_networks_coupled``: networks driven by a population that have one;
        ``false_networks_found``: other named networks that have one;
        ``leftover_components_coupled``: the same for components without a name, which
        can be fragments of a driven network that the decomposition split off;
        ``driver_recall_top1pct``: drivers among the 1 % most synchronous neurons of
        their network; ``map_dice_mean``: overlap of each planted map's upper half with
        as many of the strongest voxels of the map that carries its name (0 if none).
    """
    reached = (np.abs(synchrony) >= threshold).any(0)
    coupled = {name for name, r in zip(names, reached, strict=True) if r}
    others = coupled - {*truth["few"], *truth["population"]}
    leftover = {name for name in others if name.startswith("unlabelled")}
    n_top, recall, overlap = max(1, len(synchrony) // 100), [], []
    for planted, drivers, true_map in zip(
        truth["few"], truth["drivers"], true_maps, strict=False
    ):
        if planted not in names:
            recall.append(0.0)
            overlap.append(0.0)
            continue
        k = names.index(planted)
        top = np.argsort(-np.abs(synchrony[:, k]), kind="stable")[:n_top]
        recall.append(np.isin(drivers, top).mean())
        core = true_map > 0.5
        strongest = maps[k] >= np.sort(maps[k])[-core.sum()]
        overlap.append(2 * (core & strongest).sum() / (core.sum() + strongest.sum()))
    return {
        "planted_networks_found": len(coupled & {*truth["few"]}),
        "planted_networks_total": len(truth["few"]),
        "population_networks_coupled": len(coupled & {*truth["population"]}),
        "false_networks_found": len(others - leftover),
        "leftover_components_coupled": len(leftover),
        "driver_recall_top1pct": float(np.mean(recall)),
        "map_dice_mean": float(np.mean(overlap)),
    }


def score_encoding(gain, names, p, truth, true_maps, *, level=0.05):
    """Score a model's held-out gain over word rate against what a simulation planted.

    Parameters
    ----------
    gain : array of shape (n_voxels,)
        Held-out r with the model less r of word rate alone, of the group mean.
    names : list of str
        Labels of the networks.
    p : array of shape (n_networks,)
        Family-wise, of each network's gain (``encoding.gain_over_shifts``).
    truth : dict
        As in ``truth.json``.
    true_maps : array of shape (n_planted, n_voxels)
        In the order of ``truth["networks"]``.
    level : float

    Returns
    -------
    score : dict
        ``encoding_gain_planted``: mean gain in the cores (upper half of the map) of
        networks that a population drives; ``encoding_gain_elsewhere``: in those that no
        neuron drives; ``population_networks_found`` of ``population_networks_total``:
        those with a gain beyond rolled stories; ``false_encoding_networks_found``: the
        same for networks that no neuron drives.
    """
    core = dict(zip(truth["networks"], np.asarray(true_maps) > 0.5, strict=True))
    undriven = [*truth["word_rate"], *truth["nothing"]]
    found = {name for name, p_of in zip(names, p, strict=True) if p_of <= level}

    def mean_gain(names):
        return float(np.mean([gain[core[name]].mean() for name in names]))

    return {
        "encoding_gain_planted": mean_gain(truth["population"]),
        "encoding_gain_elsewhere": mean_gain(undriven),
        "population_networks_found": len(found & {*truth["population"]}),
        "population_networks_total": len(truth["population"]),
        "false_encoding_networks_found": len(found & {*undriven}),
    }
