"""Any matrix (n_samples x n_units), block by block: stores, runs of BOLD, arrays."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

N_ROWS = 512  # samples of a block


def size(data):
    """Shape of what ``walk`` goes through.

    Parameters
    ----------
    data : array or DataArray of shape (n_samples, ...), or list of such
        Of a list, the samples follow one another.

    Returns
    -------
    n_samples, n_units : int
    """
    parts = data if isinstance(data, list) else [data]
    n_units = {int(np.prod(part.shape[1:])) for part in parts}
    if len(n_units) != 1:
        raise ValueError(f"parts differ in their number of units: {sorted(n_units)}")
    return sum(len(part) for part in parts), n_units.pop()


def walk(data, n_rows=N_ROWS):
    """Walk through a matrix that need not fit into memory.

    The next block is read while one is worked on.

    Parameters
    ----------
    data : array or DataArray of shape (n_samples, ...), or list of such
    n_rows : int
        Most samples of a block; blocks do not reach over the parts of a list.

    Yields
    ------
    rows : slice
        Of the samples.
    block : array of shape (n, ...)
        In the data's own type.
    """
    parts, spans = data if isinstance(data, list) else [data], []
    start = 0
    for part in parts:
        for begin in range(0, len(part), n_rows):
            end = min(begin + n_rows, len(part))
            spans.append((part, slice(begin, end), slice(start + begin, start + end)))
        start += len(part)
    if not spans:
        return

    def read(part, inside, rows):
        block = part[inside]
        # a DataArray loads here, and a memory map here rather than in the sum
        block = block.to_numpy() if hasattr(block, "to_numpy") else np.array(block)
        return rows, block

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, *spans[0])
        for following in [*spans[1:], None]:
            block = coming.result()
            if following:
                coming = reader.submit(read, *following)
            yield block


def floats(data, device):
    """Blocks as float32 tensors (n, n_units), all in the same memory.

    Finding memory anew for every block takes longer than converting it.

    Yields
    ------
    rows : slice
    block : Tensor of shape (n, n_units)
        To be used, or overwritten, before the next is asked for.
    """
    memory = torch.empty(0, device=device)
    for rows, block in walk(data):
        block = torch.from_numpy(block.reshape(len(block), -1)).to(device)
        if len(memory) < len(block):
            memory = torch.empty(block.shape, device=device)
        yield rows, memory[: len(block)].copy_(block)


def moments(data, *, device="cpu"):
    """Mean and variance of every unit over samples, streamed, in float64.

    Returns
    -------
    mean, variance : float64 arrays of shape (n_units,)

    Raises
    ------
    ValueError
        If a value is NaN or infinite.
    """
    n, mean, squares = 0, 0.0, 0.0
    for rows, x in floats(data, device):
        m, centre = n + len(x), x.mean(0)
        if not torch.isfinite(centre).all():
            raise ValueError(
                f"the data holds NaN or infinite values in samples {rows.start} to "
                f"{rows.stop - 1}: record or load it again"
            )
        # Chan et al. 1979: merge the block's moments into those so far
        delta = centre.double() - mean
        squares = squares + x.sub_(centre).square_().sum(0).double()
        squares = squares + delta**2 * n * len(x) / m
        mean, n = mean + delta * len(x) / m, m
    return mean.cpu().numpy(), (squares / n).cpu().numpy()
