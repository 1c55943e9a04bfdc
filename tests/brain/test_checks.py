"""Parameters that do not go together are told by their names, before anything runs."""

from types import SimpleNamespace

import numpy as np
import pytest

from anbn.brain import checks
from anbn.core.params import ParamError


def brain(n_columns, mask=None):
    return SimpleNamespace(runs=[np.zeros((50, n_columns))] * 2, mask=mask)


def test_what_fits_passes():
    checks.check_story(10, tr=2.0)
    checks.check_brain_networks(brain(6), method="ica", n_networks=5)
    checks.check_brain_networks(brain(6), method="regions", n_networks=14)


def test_what_does_not_fit_is_told_by_its_parameter():
    message = "has 9 volumes of 2 s, BOLD needs 10 or more. Raise n_words or n_volumes"
    with pytest.raises(ParamError, match=message):
        checks.check_story(9, tr=2.0)
    message = "^n_brain_networks: 14 .* 6 voxels or regions. .*at most 5, .*: regions"
    with pytest.raises(ParamError, match=message):
        checks.check_brain_networks(brain(6), method="ica", n_networks=14)
    with pytest.raises(ParamError, match=r"^scan: 9 networks"):
        checks.check_brain_networks(
            brain(6), method="ica", n_networks=9, parameter="scan"
        )
