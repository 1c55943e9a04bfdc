"""The haemodynamic response function (HRF)."""

from functools import cache

import numpy as np
from nilearn.glm.first_level import glover_hrf, spm_hrf

HRF_LENGTH = 32.0  # s
_STEP = 0.01  # s, grid on which the response is tabulated


def response_function(seconds, hrf="spm"):
    """Haemodynamic response at given times after an event.

    Parameters
    ----------
    seconds : array
        Time since the event; the response is 0 before it and after 32 s.
    hrf : {"spm", "glover"}
        nilearn's canonical responses.

    Returns
    -------
    response : array of the same shape
        Per second: its integral is 1.
    """
    table = _table(hrf)
    at = np.linspace(0, HRF_LENGTH, len(table))
    return np.interp(seconds, at, table / _STEP, left=0.0, right=0.0)


@cache
def _table(hrf):
    functions = {"spm": spm_hrf, "glover": glover_hrf}
    if hrf not in functions:
        raise ValueError(f"hrf must be spm, glover or none, found {hrf!r}")
    return functions[hrf](1.0, oversampling=round(1 / _STEP), time_length=HRF_LENGTH)
