"""Alice in Wonderland: fMRI of 27 listeners (Brennan et al. 2016)."""

import numpy as np
import pandas as pd

from anbn.core.paths import fetch_alice, resolve, tidy

REGIONS = ["LATL", "RATL", "LPTL", "LIPL", "LPreM", "LIFG"]
EMPTY = "s33"  # all zeros as published
DISCARDED = 10  # volumes that the tables of motion hold, the time courses do not
MOTION = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]  # mm, rad


def load_timecourses(radius="6mm"):
    """Region time courses of 27 people who listened to Alice in Wonderland.

    Returns
    -------
    runs : dict of str to (array of shape (362, 6), DataFrame of shape (362, 6))
        Of each subject: BOLD in raw units, and the head's motion, ``trans_*`` (mm) and
        ``rot_*`` (rad). The tables of motion start ten volumes before the time courses;
        these rows are left. s33, all zeros, is left out.
    regions : list of str

    Raises
    ------
    FileNotFoundError
        If a file is missing or not the published one.
    """
    folder = resolve(f"alice:alice_data_shared/{radius}")
    loaded = {path.name[:3]: np.loadtxt(path) for path in tidy(folder.iterdir())}
    del loaded[EMPTY]
    loaded = {name: (data, _motion(name)) for name, data in loaded.items()}
    return loaded, REGIONS


def _motion(subject):
    """Motion while the story was heard."""
    start = fetch_alice(f"alice_data_shared/{subject}-rp_")
    (path,) = tidy(start.parent.glob(f"{start.name}*.txt"))
    return pd.DataFrame(np.loadtxt(path)[DISCARDED:], columns=MOTION)
