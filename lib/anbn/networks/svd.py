"""Singular vectors of a matrix too large for memory, from a few passes over it."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from anbn.core.blocks import floats, moments, size

N_EXTRA = 16  # vectors beyond those asked for in a block
TINY = 1e-7  # of the largest singular value: below it is rounding


@dataclass(frozen=True)
class Reduction:
    """Leading singular vectors: ``(data - mean) * scale ~ u @ diag(s) @ vt``."""

    u: np.ndarray  # float32 (n_samples, n_components)
    s: np.ndarray  # float64 (n_components,), falling
    vt: np.ndarray  # float32 (n_components, n_units)
    mean: np.ndarray  # float64 (n_units,)
    variance: float  # of all units together, after scaling


def reduce(
    data,
    n_components,
    *,
    keep=None,
    standardise=False,
    n_passes=7,
    random_state=0,
    device="cpu",
):
    """Truncated singular value decomposition by a randomised block Krylov method.

    Every pass multiplies one block of vectors by ``X' X``, a few hundred samples at a
    time; the singular vectors are the best ones in the span of all blocks (Musco and
    Musco 2015, arXiv 1504.05477). Memory grows with ``n_samples + n_units``, never with
    their product.

    Parameters
    ----------
    data : array or DataArray of shape (n_samples, ...), or list of such
        Any number type. Units are centred.
    n_components : int
    keep : bool array of shape (n_units,), optional
        Units to use; the others get weight 0.
    standardise : bool
        Whether every unit is scaled to unit variance.
    n_passes : int
        More give more exact vectors. Products are in float32, sums over blocks and
        orthogonalisation in float64.
    random_state : int
    device : str or torch device

    Returns
    -------
    reduction : Reduction
        Signs as in scikit-learn's FastICA: the first unit's weights are positive.

    Raises
    ------
    ValueError
        Too many components for the data, or NaN in it.
    """
    if str(device).startswith("mps"):
        device = "cpu"  # Metal has no float64
    n_samples, n_units = size(data)
    limit = min(n_samples - 1, n_units if keep is None else int(np.sum(keep)))
    if not 1 <= n_components <= limit:
        raise ValueError(
            f"the number of components must lie in 1 to {limit} for {n_samples} "
            f"samples x {n_units} units, found {n_components}"
        )
    mean, variance = moments(data, device=device)
    scale = np.ones(n_units) if keep is None else np.asarray(keep, float).ravel()
    if standardise:
        scale = scale / np.sqrt(np.where(variance > 0, variance, np.inf))
    centre = torch.from_numpy(mean).float().to(device)
    weight = torch.from_numpy(scale).float().to(device)
    scaled = bool((scale != 1).any())
    width = min(n_components + N_EXTRA, limit)
    generator = torch.Generator().manual_seed(random_state)
    start = torch.randn(n_units, width, generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(start.to(device) * weight[:, None].double())[0]
    krylov, products = [], []
    n_passes = min(n_passes, -(-limit // width))
    for i in range(n_passes):
        basis = basis[:, : limit - i * width]  # no more directions than there are
        krylov.append(basis)
        product = torch.empty(n_samples, basis.shape[1], device=device)
        back = torch.zeros_like(basis)
        single = basis.float()
        for rows, x in floats(data, device):
            x.sub_(centre)
            if scaled:
                x.mul_(weight)
            torch.matmul(x, single, out=product[rows])
            if i < n_passes - 1:
                back += x.T @ product[rows]
        products.append(product)
        for _ in range(2):  # what is left after the first time is mostly rounding
            for other in krylov:
                back.addmm_(other, other.T @ back, alpha=-1)
            back = torch.linalg.qr(back)[0]
        basis = back
    found = _ritz(krylov, products, n_components, mean, float(variance @ scale**2))
    return replace(found, vt=found.vt * (scale != 0))


def _ritz(krylov, products, n_components, mean, variance):
    """Singular vectors in the span of a basis, from the data times the basis."""
    n = sum(p.shape[1] for p in products)
    gram = torch.zeros(n, n, dtype=torch.float64, device=products[0].device)
    for rows in torch.arange(len(products[0])).split(2**14):
        part = torch.cat([p[rows] for p in products], 1).double()
        gram += part.T @ part
    values, vectors = torch.linalg.eigh(gram)
    s = values.flip(0)[:n_components].clamp(min=0).sqrt()
    vectors = vectors.flip(1)[:, :n_components]
    if s[-1] <= TINY * s[0]:
        raise ValueError(
            f"the data has rank {int((s > TINY * s[0]).sum())}, less than the "
            f"{n_components} components asked for"
        )
    parts = vectors.split([p.shape[1] for p in products])
    v = sum(q @ w for q, w in zip(krylov, parts, strict=True))
    v, correction = torch.linalg.qr(v)  # of rounding; diagonal of +-1
    turn = torch.sign(torch.diagonal(correction))
    turn = turn * torch.where(v[0] * turn < 0, -1.0, 1.0)
    u = sum(p @ w.float() for p, w in zip(products, parts, strict=True)) / s.float()
    flip = turn * torch.sign(torch.diagonal(correction))
    return Reduction(
        (u * flip.float()).cpu().numpy(),
        s.cpu().numpy(),
        (v * turn).T.float().cpu().numpy(),
        mean,
        variance,
    )
