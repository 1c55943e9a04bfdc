"""Simulated BOLD with a known truth: networks driven by real neurons, and others."""

import itertools
from dataclasses import dataclass

import nibabel
import numpy as np
import pandas as pd
from nilearn.datasets import load_mni152_brain_mask
from nilearn.image import coord_transform
from nilearn.masking import unmask

from anbn import artifacts, hemodynamics, surrogates, templates
from anbn.paths import resolve

REST = "package:brainfc/data/rest01"
DRIVEN = ["Auditory", "DefaultMode", "FrontoParietal"]
UNDRIVEN = ["CinguloOpercular", "DorsalAttention", "SomatomotorDorsal", "Visual"]


@dataclass(frozen=True)
class Simulation:
    """Simulated volumes and everything that was planted in them."""

    volumes: list  # a 4D image a subject
    mask: nibabel.Nifti1Image
    names: list  # networks, the driven ones first
    driven: np.ndarray  # (n_networks,) bool
    maps: np.ndarray  # (n_networks, n_voxels)
    timecourses: np.ndarray  # (n_times, n_networks), the same in all subjects
    drivers: np.ndarray  # (n_driven, n_drivers), columns of the responses


def driver_groups(
    responses, n_neurons, n_groups, n_drivers, rng, *, max_correlation=0.3
):
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
    max_correlation : float
        Signals of two groups correlate less than this.

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
            z = hemodynamics.zscore(responses[:, columns])
            likeness = z.T @ z[:, rng.integers(n_neurons)]
            members = np.argsort(-likeness, kind="stable")[:n_drivers]
            signal = hemodynamics.zscore(z[:, members].mean(1))
            others = [abs(np.mean(signal * s)) for s in signals]
            if max(others, default=0) < max_correlation:
                break
        else:
            raise ValueError(
                f"no {n_groups} groups of {n_drivers} neurons that correlate less than "
                f"{max_correlation}: ask for fewer groups"
            )
        drivers.append(columns[members])
        signals.append(signal)
    return np.stack(drivers), np.column_stack(signals)


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
    rest = pd.read_csv(folder / "timeseries.tsv", sep="\t").to_numpy(float)
    centres = pd.read_csv(folder / "rois.tsv", sep="\t")[["x", "y", "z"]].to_numpy(
        float
    )
    basis = hemodynamics.orthonormal(hemodynamics.drift(len(rest), 2.0))
    return hemodynamics.zscore(hemodynamics.remove(rest, basis)), centres


def rest_networks():
    """The parcels' seven networks (Schaefer 2018, after Yeo 2011), as averages.

    Returns
    -------
    averages : array of shape (100, 7)
        ``rest @ averages`` are the networks' time courses.
    names : list of str
    """
    table = pd.read_csv(resolve(REST) / "rois.tsv", sep="\t")
    members = pd.get_dummies(table["network"], dtype=float)
    return (members / members.sum()).to_numpy(), list(members)


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
    noise = hemodynamics.zscore(noise)
    return noise * (s / np.sqrt(len(rest))) @ vt


def spatial_weights(mask, centres, sigma):
    """Weights that carry parcel noise to voxels: Gaussian in distance, unit length.

    Returns
    -------
    weights : array of shape (n_parcels, n_voxels)
    """
    i, j, k = np.where(np.asarray(mask.dataobj) > 0)
    voxels = np.column_stack(coord_transform(i, j, k, mask.affine))
    squared = ((centres[:, None] - voxels) ** 2).sum(2)
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
    rate_share=0.5,
):
    """Simulate volumes of several subjects who hear the same story.

    In each network's voxels, in units of the noise's standard deviation::

        bold = map * (signal * (timecourse + rate_share * rate) + own) + noise + drift

    The time courses of the networks in ``DRIVEN`` are those of groups of real neurons;
    of those in ``UNDRIVEN``, phase-randomised ones of the same spectrum. ``own`` is
    what a network does in one subject alone, of unit variance and a real parcel's
    spectrum.
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
    resolution : int
        Voxel size, mm.

    Returns
    -------
    simulation : Simulation
    """
    n_times = len(responses)
    mask = load_mni152_brain_mask(resolution=resolution)
    atlas, names = templates.seitzman_templates(mask, sigma=1.2 * resolution)
    chosen = [*DRIVEN, *UNDRIVEN]
    maps = atlas[[names.index(name) for name in chosen]]
    drivers, driven = driver_groups(responses, n_neurons, len(DRIVEN), n_drivers, rng)
    copies = [driven[:, [i % len(DRIVEN)]] for i in range(len(UNDRIVEN))]
    turned = [surrogates.draw_one(copy, rng, kind="phase") for copy in copies]
    undriven = np.hstack(turned)
    timecourses = hemodynamics.zscore(np.hstack([driven, undriven]))
    shared = timecourses + rate_share * hemodynamics.zscore(word_rate)[:, None]
    rest, centres = rest_parcels()
    weights = spatial_weights(mask, centres, sigma=1.5 * resolution)
    slow = hemodynamics.drift(n_times, tr)[:, :-1]
    volumes = []
    for _ in range(n_subjects):
        noise = hemodynamics.zscore(surrogate_rest(rest, n_times, rng) @ weights)
        white = rng.normal(size=noise.shape)
        noise = np.sqrt(0.75) * noise + np.sqrt(0.25) * white
        wander = slow @ rng.normal(size=(slow.shape[1], noise.shape[1]))
        parcels = rng.choice(rest.shape[1], len(chosen), replace=False)
        own = hemodynamics.zscore(surrogate_rest(rest, n_times, rng)[:, parcels])
        bold = (signal * shared + own) @ maps + noise + wander
        image = unmask((1000 + 10 * bold).astype(np.float32), mask)
        image.header.set_zooms((*image.header.get_zooms()[:3], tr))
        volumes.append(image)
    is_driven = np.arange(len(chosen)) < len(DRIVEN)
    return Simulation(volumes, mask, chosen, is_driven, maps, timecourses, drivers)


def write_simulation(simulation, folder):
    """Write the volumes, the mask and the truth of a simulation.

    Parameters
    ----------
    simulation : Simulation
    folder : Path
        Gets ``bold/sub-XX_bold.nii.gz`` (16 bit), ``mask.nii.gz``, ``truth.npz`` and
        ``truth.json``.

    Returns
    -------
    files : list of str
        The volumes.
    """
    files = []
    for i, image in enumerate(simulation.volumes, 1):
        path = folder / "bold" / f"sub-{i:02d}_bold.nii.gz"
        with artifacts.atomic(path) as temporary:
            image.set_data_dtype(np.int16)  # scaled to the data's range by nibabel
            nibabel.save(image, temporary)
        files.append(str(path))
    with artifacts.atomic(folder / "mask.nii.gz") as temporary:
        nibabel.save(simulation.mask, temporary)
    artifacts.write_arrays(
        folder / "truth.npz",
        driven=simulation.driven,
        maps=simulation.maps,
        timecourses=simulation.timecourses,
        drivers=simulation.drivers,
    )
    truth = {
        "simulated": True,
        "driven": [
            n for n, d in zip(simulation.names, simulation.driven, strict=True) if d
        ],
        "undriven": [
            n for n, d in zip(simulation.names, simulation.driven, strict=True) if not d
        ],
        "drivers": simulation.drivers.tolist(),
    }
    artifacts.write_json(folder / "truth.json", truth)
    return files
