"""What notebook 02 asks of parameters and data before it begins."""

from anbn.brain.cleaning import MIN_VOLUMES
from anbn.core.params import ParamError


def check_story(n_times, *, tr):
    """Whether the story is long enough for BOLD.

    Raises
    ------
    ParamError
        Fewer volumes than a run must have.
    """
    if n_times < MIN_VOLUMES:
        raise ParamError(
            f"the story of stage 01 has {n_times} volumes of {tr:g} s, BOLD needs "
            f"{MIN_VOLUMES} or more. Raise n_words or n_volumes there."
        )


def check_brain_networks(brain, *, method, n_networks, parameter="n_brain_networks"):
    """Whether there are enough voxels or regions for so many networks.

    Parameters
    ----------
    brain : bold.Brain
    method : str
    n_networks : int
    parameter : str
        That asks for them.

    Raises
    ------
    ParamError
        Names the parameter, and the largest number that will do.
    """
    most = min(brain.runs[0].shape[1], sum(map(len, brain.runs))) - 1
    if method not in ("regions", "vsdbn") and n_networks > most:
        raise ParamError(
            f"{parameter}: {n_networks} networks cannot be found in "
            f"{brain.runs[0].shape[1]} voxels or regions. Set it to at most {most}"
            + (", or brain_method: regions." if brain.mask is None else ".")
        )
