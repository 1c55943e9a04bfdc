"""Volumetric sparse deep belief network: stacked restricted Boltzmann machines."""

from dataclasses import dataclass

import numpy as np
import torch

from anbn.core import blocks

START = 0.1  # standard deviation of new weights: lasts 100 steps of the penalty


@dataclass(frozen=True)
class Layer:
    """What one depth of the network found."""

    maps: np.ndarray  # (n_hidden, n_units), down to the units of the data
    timecourses: np.ndarray  # (n_samples, n_hidden), linear activations
    errors: np.ndarray  # (n_epochs,), mean squared error of reconstruction


@dataclass(frozen=True)
class Machine:
    """A Gaussian-Bernoulli restricted Boltzmann machine; training changes it."""

    weights: torch.Tensor  # (n_visible, n_hidden)
    visible_bias: torch.Tensor  # (n_visible,)
    hidden_bias: torch.Tensor  # (n_hidden,)


def vsdbn(
    data,
    layer_sizes,
    *,
    random_state,
    l1=0.1,
    learning_rate=0.01,
    n_epochs=20,
    batch_size=20,
    noise=0.01,
    keep=None,
    device="cpu",
):
    """Networks at several depths: greedily trained, sparse Boltzmann machines.

    Samples are volumes or tokens, visible units voxels or neurons. Every machine is
    trained by ``contrast`` on the layer below::

        v0 = z(data)                     zero mean, unit variance of every unit
        a_d = v_(d-1) @ W_d + b_d        linear activations: the time courses
        v_d = z(a_d / ||a_d||)           the norm is each sample's own
        maps_d = (W_1 @ S_1 @ W_2 ... @ S_(d-1) @ W_d).T

    where S holds 1 / standard deviation, the scale that ``z`` applies on the way up.
    The reference code (three layers of 100) stacks ``a_d / ||a_d||`` as it is. With n
    hidden units its entries are about 1 / sqrt(n), and the gradients of deep weights
    smaller than the penalty. Hence ``z`` at every depth. It also starts from zero
    weights, where all hidden units are alike; here they are small and random (standard
    deviation 0.1).

    Signs are not arbitrary as those of ICA: a unit that is on adds its map.

    Source: Dong et al. 2020 (volumetric sparse deep belief network) and its public
    reference code, whose values are the defaults.

    Parameters
    ----------
    data : array or DataArray of shape (n_samples, ...), or list of such
        All dimensions but the first are units. Read in blocks, ``n_epochs + 2`` times:
        a memory map or a store need not fit into memory. Blocks are shuffled, and the
        samples within each.
    layer_sizes : sequence of int
        Hidden units of every depth, the first reads the data.
    random_state : int
    l1 : float
        Penalty on the absolute weights.
    learning_rate, n_epochs, batch_size
        Of every machine.
    noise : float
        Standard deviation of reconstructed visible units.
    keep : bool array of shape (n_units,), optional
        Units to use; the others are 0 for the network.
    device : str
        Results repeat for a seed on the same device.

    Returns
    -------
    layers : list of Layer
        One for every depth, the deepest last.

    Raises
    ------
    ValueError
        If the data holds NaN.
    FloatingPointError
        If training diverges: the learning rate is too large.
    """
    n_samples, _ = blocks.size(data)
    rng = np.random.default_rng(random_state)
    generator = torch.Generator(device).manual_seed(random_state)
    drawn = {"generator": generator, "device": device}
    down, found = None, []
    for depth, n_hidden in enumerate(layer_sizes, 1):
        mean, scale = _scaling(data)
        if down is None and keep is not None:
            scale = scale * np.ravel(keep).astype(scale.dtype)
        machine = Machine(
            torch.randn(len(mean), n_hidden, **drawn) * START,
            torch.zeros(len(mean), device=device),
            torch.zeros(n_hidden, device=device),
        )
        errors = []
        for epoch in range(1, n_epochs + 1):
            total = 0.0
            for batch in _shuffled(data, mean, scale, rng, batch_size, device):
                chance = torch.rand(len(batch), n_hidden, **drawn)
                jitter = noise * torch.randn(batch.shape, **drawn)
                options = {"learning_rate": learning_rate, "l1": l1}
                error = contrast(machine, batch, chance, jitter, **options)
                total += float(error) * len(batch)
            errors.append(total / n_samples)
            if not np.isfinite(errors[-1]) or not machine.weights.isfinite().all():
                raise FloatingPointError(
                    f"vsdbn diverged at depth {depth}, epoch {epoch}: lower "
                    f"learning_rate, found {learning_rate} (for {n_hidden} hidden "
                    "units; the more units, the lower)"
                )
        timecourses = _activations(data, mean, scale, machine, device)
        weights = machine.weights.cpu().numpy()
        if down is None:
            down = weights * (scale != 0)[:, None]
        else:
            down = (down * scale) @ weights
        found.append(Layer(down.T.copy(), timecourses, np.array(errors)))
        norm = np.linalg.norm(timecourses, axis=1, keepdims=True)
        data = timecourses / np.where(norm > 0, norm, 1)
    return found


def _scaling(data):
    """Mean and 1 / standard deviation (0 where constant) of every unit."""
    mean, variance = blocks.moments(data)
    alive = variance > (1e-6 * mean) ** 2
    scale = np.where(alive, 1 / np.sqrt(np.where(alive, variance, 1)), 0)
    return mean.astype(np.float32), scale.astype(np.float32)


def _standardise(block, mean, scale, device):
    flat = block.reshape(len(block), -1).astype(np.float32)
    return torch.from_numpy((flat - mean) * scale).to(device)


def _shuffled(data, mean, scale, rng, batch_size, device):
    """Minibatches of one epoch."""
    n_rows = batch_size * max(1, blocks.N_ROWS // batch_size)
    parts = data if isinstance(data, list) else [data]
    spans = [(part, i) for part in parts for i in range(0, len(part), n_rows)]
    for k in rng.permutation(len(spans)):
        part, begin = spans[k]
        for _, block in blocks.walk(part[begin : begin + n_rows], n_rows):
            block = _standardise(block, mean, scale, device)
            order = torch.from_numpy(rng.permutation(len(block))).to(device)
            yield from block[order].split(batch_size)


def contrast(machine, v0, chance, jitter, *, learning_rate, l1):
    """One step of contrastive divergence (CD-1) with an L1 penalty, in place.

    For energy ``E = |v - a|^2 / 2 - b.h - v.W.h`` and n samples::

        p0 = sigmoid(v0 @ W + b),  h0 = p0 > chance
        v1 = h0 @ W.T + a + jitter
        h1 = sigmoid(v1 @ W + b)
        W <- shrink(W + rate / n * (v0.T @ h0 - v1.T @ h1), rate * l1)
        a <- a + rate * mean(v0 - v1)
        b <- b + rate * mean(h0 - h1)

    ``shrink(w, t) = sign(w) * max(|w| - t, 0)`` is the proximal step of the penalty.
    The reference code subtracts ``rate * l1 * sign(W)`` instead, which never gives
    exact zeros.

    Parameters
    ----------
    machine : Machine
    v0 : Tensor of shape (n, n_visible)
    chance : Tensor of shape (n, n_hidden)
        Uniform random numbers of 0 to 1.
    jitter : Tensor of shape (n, n_visible)
    learning_rate, l1 : float

    Returns
    -------
    error : Tensor of shape ()
        Mean of ``(v0 - v1) ** 2``.
    """
    weights, visible_bias = machine.weights, machine.visible_bias
    hidden_bias = machine.hidden_bias
    rate = learning_rate / len(v0)
    h0 = (torch.sigmoid(v0 @ weights + hidden_bias) > chance).to(v0.dtype)
    v1 = h0 @ weights.T + visible_bias + jitter
    h1 = torch.sigmoid(v1 @ weights + hidden_bias)
    weights.addmm_(v0.T, h0, alpha=rate).addmm_(v1.T, h1, alpha=-rate)
    weights.sub_(weights.clamp(-learning_rate * l1, learning_rate * l1))
    visible_bias.add_((v0 - v1).mean(0), alpha=learning_rate)
    hidden_bias.add_((h0 - h1).mean(0), alpha=learning_rate)
    return ((v0 - v1) ** 2).mean()


def _activations(data, mean, scale, machine, device):
    """Linear activations of the hidden units."""
    total = []
    for _, block in blocks.walk(data):
        visible = _standardise(block, mean, scale, device)
        total.append((visible @ machine.weights + machine.hidden_bias).cpu().numpy())
    return np.concatenate(total)
