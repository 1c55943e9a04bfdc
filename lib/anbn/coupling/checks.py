"""What notebook 03 asks of parameters and data before it begins."""

import numpy as np

from anbn.core.params import ParamError
from anbn.coupling import folds
from anbn.stats import surrogates


def check_coupling(
    n_times,
    *,
    n_folds,
    gap,
    tr,
    delays,
    run_lengths=(),
    null_method="shift",
):
    """Whether the story is long enough for what stage 03 does with it.

    Parameters
    ----------
    n_times : int
        Volumes that are used: without those of `leave_out_start`.
    n_folds, gap, tr, delays, run_lengths, null_method
        Parameters of stage 03, and the clock.

    Raises
    ------
    ParamError
        Names the parameter and what would do.
    """
    shortest = min(run_lengths) if run_lengths else n_times
    if max(delays) >= shortest:
        raise ParamError(
            f"delays: {max(delays)} volumes are not in a run of {shortest}. Lower it."
        )
    volumes = folds.gap_volumes(gap, tr, delays)
    try:
        run = folds.run_of(n_times, run_lengths or None)
        for train, _ in folds.folds_within(np.arange(n_times), run, n_folds, volumes):
            folds.folds_within(train, run[train], n_folds, volumes)
    except ValueError as error:
        raise ParamError(
            f"n_folds {n_folds}, gap {gap:g} s: {error}. The story has {n_times} "
            f"volumes of {tr:g} s"
            + (f" in runs of {list(run_lengths)}" if run_lengths else "")
            + ": lower n_folds, gap or leave_out_start, or take a longer story."
        ) from error
    try:
        rng = np.random.default_rng(0)
        surrogates.draw(
            np.zeros((n_times, 1)),
            1,
            null_method=null_method,
            run_lengths=run_lengths,
            rng=rng,
        )
    except ValueError as error:
        raise ParamError(f"null_method, run_lengths: {error}") from error


def check_ceiling(ceiling, *, min_ceiling):
    """Whether any voxel or region is to be scored.

    Parameters
    ----------
    ceiling : array of shape (n_voxels,)
    min_ceiling : float

    Raises
    ------
    ParamError
        Names ``min_ceiling`` and the highest ceiling there is.
    """
    if not (ceiling >= min_ceiling).any():
        raise ParamError(
            f"min_ceiling: no voxel or region has a noise ceiling of {min_ceiling:g}, "
            f"the highest is {ceiling.max():.2f}. Lower min_ceiling."
        )
