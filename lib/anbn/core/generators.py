"""Random numbers: a generator of its own for every random step of a study."""

import numpy as np


def rng_of(seed, step):
    """Generator of one random step, made from the study's seed and the step's name.

    What other steps draw, their order, and how many numbers they take change nothing
    here; the same call gives the same numbers again.

    Parameters
    ----------
    seed : int
        The notebook's parameter.
    step : str
        Name of the step, as "null of synchrony": another one gives other numbers.

    Returns
    -------
    rng : numpy.random.Generator
        Of ``SeedSequence([seed, *step])``, the step as UTF-8 bytes.

    Examples
    --------
    >>> rng_of(0, "controls").integers(100) == rng_of(0, "controls").integers(100)
    True
    """
    return np.random.default_rng([seed, *step.encode()])
