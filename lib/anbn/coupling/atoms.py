"""Atoms of all neurons' responses: online dictionary learning, and sparse codes.

A neuron's response x, z-scored over time and of unit length, is a sparse sum of a few
time courses that all neurons share (Sun et al. 2024, arXiv 2410.19542)::

    responses ~ atoms @ codes
    minimise  mean over neurons of  0.5 ||x - atoms @ c||^2 + penalty |c|_1

On given atoms the code of each neuron is a lasso of its own. Neurons are read a block
at a time: memory beyond the responses and the codes does not grow with their number. On
a CPU each block runs on one thread and blocks run side by side, so that results depend
on the number of threads by rounding at most.
"""

import contextlib
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from scipy import stats

from anbn.stats import timeseries

BLOCK = 2048  # neurons at a time, 8 * (2 * n_times + 4 * n_atoms) bytes each a thread
_BATCH = 512  # neurons between two updates; a sixteenth of them where they are few
_FORGETTING = 8  # batch s of t weighs (s / t) ** 8: about the last ninth counts
_ROUGH = 1e-2  # duality gap while atoms still move; a smaller one learns no better
_UNUSED = 1e-6  # mean squared code below which an atom is drawn anew


def sparse_codes(
    responses, atoms, penalty, *, start=None, tol=1e-5, max_iter=5000, device="cpu"
):
    """Every neuron's sparse code on given atoms.

    Parameters
    ----------
    responses : array of shape (n_times, n_neurons)
        Of any float type; may be a memory map. z-scored and scaled to unit length here.
    atoms : array of shape (n_times, n_atoms)
        Of any length.
    penalty : float
        L1 penalty, larger than 0.
    start : float32 array of shape (n_atoms, n_neurons), optional
        Codes to start from, such as those on similar atoms; overwritten.
    tol : float
        Largest duality gap: the objective of no neuron (0.5 for a code of 0) is
        farther from its minimum. Single precision ends at about 1e-6.
    max_iter : int
        A warning tells when it does not suffice.
    device : str
        Where torch computes.

    Returns
    -------
    codes : float32 array of shape (n_atoms, n_neurons)
        0 for a constant neuron.
    """
    mean, scale = moments(responses)
    codes = start
    if start is None:
        codes = np.zeros((atoms.shape[1], responses.shape[1]), np.float32)
    atoms = torch.tensor(atoms, dtype=torch.float32, device=device)
    gram = atoms.T @ atoms

    def code(columns):
        x = standard(responses, columns, mean, scale).to(device)
        begin = torch.from_numpy(codes[:, columns]).to(device)
        options = {"tol": tol, "max_iter": max_iter}
        solved, gap = _solve(atoms.T @ x, gram, begin, penalty, **options)
        # a constant neuron keeps no code from the start
        codes[:, columns] = solved.cpu().numpy() * (scale[columns] > 0)
        return gap

    with one_thread() as n_threads:
        n_workers = n_threads if torch.device(device).type == "cpu" else 1
        with ThreadPoolExecutor(n_workers) as pool:
            gap = max(pool.map(code, column_slices(len(mean))))
    if gap > tol:
        warnings.warn(
            f"codes are up to {gap:.1e} from the minimum after {max_iter} steps, "
            f"expected tol {tol} at most: raise max_iter, penalty or tol",
            RuntimeWarning,
            stacklevel=2,
        )
    return codes


def _solve(q, gram, start, penalty, *, tol, max_iter):
    """Lasso codes of samples of unit length (or 0), and the largest duality gap.

    Accelerated proximal gradient (Beck & Teboulle 2009) in which every sample restarts
    by itself when its step points uphill (O'Donoghue & Candes 2015): plain matrix
    products, 1.1 to 4 times as fast as coordinate descent over samples side by side.
    ``q`` is atoms' samples (n_atoms, n_samples), ``gram`` atoms' atoms; codes and
    ``start`` have the shape of q.
    """
    bound = 1.0001 * torch.linalg.eigvalsh(gram)[-1].item() + 1e-30
    shrink = penalty / bound
    # code - gradient / bound = target + keep @ code
    target, keep = q / bound, torch.eye(len(gram)).to(gram) - gram / bound
    code, ahead = start.clone(), start.clone()
    new, moved = torch.empty_like(q), torch.empty_like(q)
    t = torch.ones_like(q[0])
    for i in range(1, max_iter + 1):
        torch.addmm(target, keep, ahead, out=moved)
        torch.clamp(moved, -shrink, shrink, out=new)
        torch.sub(moved, new, out=new)
        change = torch.sub(new, code, out=code)
        t_new = (1 + torch.sqrt(1 + 4 * t * t)) / 2
        momentum = (t - 1) / t_new
        if i % 3 == 0:  # at every step it would cost more than it saves
            uphill = torch.linalg.vecdot(ahead.sub_(new), change, dim=0) > 0
            t_new, momentum = t_new.where(~uphill, 1.0), momentum.where(~uphill, 0.0)
        torch.addcmul(new, change, momentum, out=ahead)
        t, code, new = t_new, new, code
        if i % 5 == 0 or i == max_iter:
            gap = _gap(q, gram, code, penalty)
            if gap <= tol:
                break
    return code, gap


def _gap(q, gram, code, penalty):
    """Largest duality gap, written without differences of large numbers."""
    z = q - gram @ code  # of the residual; times s it is feasible in the dual
    s = (penalty / z.abs().amax(0)).clamp(max=1)
    residual = 1 - (code * (q + z)).sum(0)
    gap = 0.5 * (1 - s) ** 2 * residual + (penalty * code.abs() - s * code * z).sum(0)
    return gap.max().item()


def moments(responses):
    """Mean of every neuron, and the factor that makes it of unit length; in float64.

    The factor is 0 for a constant neuron.
    """
    n_neurons = responses.shape[1]
    mean, scale = np.empty(n_neurons), np.empty(n_neurons)
    for columns in column_slices(n_neurons):
        x = np.asarray(responses[:, columns], float)
        mean[columns] = x.mean(0)
        with np.errstate(invalid="ignore"):  # told below
            norm = np.linalg.norm(x - mean[columns], axis=0)
        if not np.isfinite(norm).all():
            bad = columns.start + int(np.argmin(np.isfinite(norm)))
            raise ValueError(
                f"responses of neuron {bad} are not finite: leave such neurons out"
            )
        tiny = norm <= 1e-6 * np.abs(x).max(0) * np.sqrt(len(x))
        scale[columns] = np.where(tiny, 0, 1 / np.where(tiny, 1, norm))
    return mean, scale


def standard(responses, columns, mean, scale):
    """Some neurons' responses of zero mean and unit length, as a float32 tensor."""
    x = (responses[:, columns] - mean[columns]) * scale[columns]
    return torch.from_numpy(np.asarray(x, np.float32))


def column_slices(n):
    """Slices of ``BLOCK`` that cover ``n`` columns."""
    return [slice(begin, min(begin + BLOCK, n)) for begin in range(0, n, BLOCK)]


@contextlib.contextmanager
def one_thread():
    """One torch thread: in small products several would wait for each other."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads started from here on take it over
    try:
        yield n_threads
    finally:
        torch.set_num_threads(n_threads)


def learn(responses, n_atoms, *, penalty, random_state, n_epochs=2, device="cpu"):
    """Atoms and the neurons' sparse codes on them.

    For each batch of neurons: codes on the present atoms, sums of what the atoms have
    to explain, in which old batches fade, and one pass of exact updates over the atoms
    (Mairal et al. 2009, algorithms 1 and 2, section 3.4)::

        A <- fade A + codes codes',  B <- fade B + x codes'
        atom_j <- unit(atom_j + (B_j - atoms A_j) / A_jj)

    An atom that no neuron uses is drawn anew from the neurons that are fitted badly.

    Parameters
    ----------
    responses : array of shape (n_times, n_neurons)
        Of any float type; may be a memory map.
    n_atoms : int
        Published: 64.
    penalty : float
        L1 penalty, between 0 and 1: of 1 or more no neuron would have a code. The
        published value is not known.
    random_state : int
        Of the first atoms and the order of the neurons.
    n_epochs : int
        Passes over the neurons.
    device : str
        Where torch computes.

    Returns
    -------
    atoms : float32 array of shape (n_times, n_atoms)
        Unit length, the most used first, signed so that each one's codes have a
        positive sum.
    codes : float32 array of shape (n_atoms, n_neurons)
        0 for a constant neuron.
    """
    mean, scale = moments(responses)
    alive = np.flatnonzero(scale)
    if not 1 <= n_atoms <= len(alive):
        raise ValueError(
            f"n_atoms must lie between 1 and the {len(alive)} neurons that vary, "
            f"found {n_atoms}"
        )
    rng = np.random.default_rng(random_state)
    codes = np.zeros((n_atoms, responses.shape[1]), np.float32)
    batch_size = min(_BATCH, max(n_atoms, len(alive) // 16))

    def read(neurons):
        return standard(responses, neurons, mean, scale).to(device)

    with one_thread():
        drawn = rng.choice(alive, min(len(alive), 32 * n_atoms), replace=False)
        atoms = _spread(read(np.sort(drawn)), n_atoms, rng).double()
        A, B, weight = atoms.new_zeros(n_atoms, n_atoms), torch.zeros_like(atoms), 0
        for step, neurons in enumerate(_batches(alive, batch_size, n_epochs, rng)):
            x, now = read(neurons), atoms.float()
            start = torch.from_numpy(codes[:, neurons]).to(device)
            options = {"tol": _ROUGH, "max_iter": 1000}
            c, _ = _solve(now.T @ x, now.T @ now, start, penalty, **options)
            codes[:, neurons] = c.cpu().numpy()
            fade = (step / (step + 1)) ** _FORGETTING
            weight = fade * weight + len(neurons)
            A.mul_(fade).add_(c @ c.T)
            B.mul_(fade).add_(x @ c.T)
            unused = torch.nonzero(A.diagonal() <= _UNUSED * weight)[:, 0]
            if len(unused):
                _draw_anew(unused, atoms, A, B, x, c, rng)
            _update(atoms, A, B)
    atoms = atoms.float().cpu().numpy()
    sparse_codes(responses, atoms, penalty, start=codes, device=device)
    order = np.argsort([-np.abs(row).sum(dtype=float) for row in codes], kind="stable")
    sign = np.array([-1.0 if codes[j].sum(dtype=float) < 0 else 1.0 for j in order])
    for columns in column_slices(codes.shape[1]):
        codes[:, columns] = codes[order, columns] * sign[:, None]
    return np.ascontiguousarray(atoms[:, order] * sign, np.float32), codes


def diversity(codes, atoms, *, n_layers=1):
    """How evenly neurons use the atoms, and how alike the atoms are.

    ::

        share_j = sum over neurons of |codes_j| / sum over neurons and atoms of |codes|
        effective_atoms = exp(-sum over atoms of share log share)

    Parameters
    ----------
    codes : array of shape (n_atoms, n_layers * n_neurons)
    atoms : array of shape (n_times, n_atoms)
    n_layers : int

    Returns
    -------
    diversity : dict
        ``effective_atoms`` (1 to n_atoms) with ``effective_atoms_low`` and
        ``effective_atoms_high``, a 95 % interval over layers (jackknife: one left out
        at a time; NaN for one layer), and ``mean_abs_correlation`` between different
        atoms (NaN if there is one). Neurons of a layer follow the same signals: taken
        one by one as if they were independent, tens of thousands of them give an
        interval of no width.
    """
    n_atoms, n_neurons = np.shape(codes)
    mass, of_layer = np.zeros((n_atoms, n_layers)), n_neurons // n_layers
    for columns in column_slices(n_neurons):
        neurons = np.arange(n_neurons)[columns]
        begins = np.flatnonzero(np.diff(neurons // of_layer, prepend=-1))
        size = np.abs(codes[:, columns]).astype(float)
        mass[:, neurons[begins] // of_layer] += np.add.reduceat(size, begins, axis=1)
    total = mass.sum(1)
    if not total.sum() > 0:
        raise ValueError("codes are all 0, expected sparse ones: lower penalty")
    r = np.atleast_2d(np.corrcoef(atoms, rowvar=False))
    between = np.abs(r[np.triu_indices(n_atoms, 1)])
    found, low, high = _effective(total), np.nan, np.nan
    if n_layers > 1:
        without = _effective(total[:, None] - mass)
        error = np.sqrt((n_layers - 1) * without.var())
        half = stats.t.ppf(0.975, n_layers - 1) * error
        low, high = np.clip([found - half, found + half], 1, n_atoms)
    return {
        "effective_atoms": float(found),
        "effective_atoms_low": float(low),
        "effective_atoms_high": float(high),
        "mean_abs_correlation": float(between.mean()) if n_atoms > 1 else np.nan,
    }


def by_depth(responses, n_layers, n_bands, n_components):
    """Principal components of stretches of layers: bands for an encoding model.

    Parameters
    ----------
    responses : array of shape (n_times, n_neurons)
        Layer by layer; z-scored here.
    n_layers, n_bands : int
        Layers, and stretches of as many of them as possible each.
    n_components : int
        Of each stretch.

    Returns
    -------
    bands : dict of float32 arrays of shape (n_times, n_components)
        By name, as "layers 0-4"; in units of the first component's standard deviation.
    """
    if not 1 <= n_bands <= n_layers:
        raise ValueError(
            f"depth_bands must be 1 to the {n_layers} layers, found {n_bands}"
        )
    n_times, n_units = len(responses), responses.shape[1] // n_layers
    bands = {}
    for part in np.array_split(np.arange(n_layers), n_bands):
        gram = np.zeros((n_times, n_times))
        for layer in part:
            block = responses[:, layer * n_units : (layer + 1) * n_units]
            z = timeseries.zscore(np.asarray(block, np.float32))
            gram += z @ z.T
        values, vectors = np.linalg.eigh(gram)
        kept = slice(None, -min(n_components, n_times) - 1, -1)
        size = np.sqrt(np.maximum(values[kept], 0) / values[-1] * n_times)
        name = f"layers {part[0]}-{part[-1]}"
        bands[name] = (vectors[:, kept] * size).astype(np.float32)
    return bands


def _effective(mass):
    """exp of the entropy of the shares, along the first axis."""
    share = mass / mass.sum(0)
    return np.exp(-(share * np.log(np.where(share > 0, share, 1))).sum(0))


def _spread(x, n_atoms, rng):
    """Samples unlike each other whatever their sign, drawn as in k-means++."""
    far, picked = np.ones(x.shape[1]), []
    for _ in range(n_atoms):
        picked.append(int(rng.choice(len(far), p=far / far.sum())))
        r = (x[:, picked[-1]] @ x).double().cpu().numpy()
        # the least keeps copies drawable, but no sample is drawn twice
        far = np.minimum(far, np.maximum(1 - r**2, 1e-9))
        far[picked] = 0
    return x[:, picked]


def _batches(neurons, size, n_epochs, rng):
    """Neurons in random order, once an epoch; ascending within a batch to read fast."""
    for _ in range(n_epochs):
        order = rng.permutation(neurons)
        for begin in range(0, len(order), size):
            yield np.sort(order[begin : begin + size])


def _draw_anew(unused, atoms, A, B, x, codes, rng):
    """Put badly fitted samples in the place of unused atoms, in place."""
    badly = (x - atoms.float() @ codes).square().sum(0).double().cpu().numpy() + 1e-12
    unused = unused[: len(badly)]
    drawn = rng.choice(len(badly), len(unused), replace=False, p=badly / badly.sum())
    atoms[:, unused] = x[:, torch.from_numpy(drawn).to(x.device)].double()
    A[unused], A[:, unused], B[:, unused] = 0, 0, 0


def _update(atoms, A, B):
    """One pass over the atoms, each the best of unit length given the others."""
    for j in torch.nonzero(A.diagonal())[:, 0].tolist():
        atom = A[j, j] * atoms[:, j] + B[:, j] - atoms @ A[:, j]
        atoms[:, j] = atom / torch.linalg.norm(atom).clamp(min=1e-30)
