"""Parameters that do not go together are told by their names, before anything runs."""

from types import SimpleNamespace

import numpy as np
import pytest

from anbn.brain import checks as brain_checks
from anbn.core.params import ParamError
from anbn.coupling import checks as coupling_checks
from anbn.models import forward
from anbn.networks import checks as networks_checks

CORPUS = ["wiki"] * 300 + ["code"] * 100
COUPLING = {"n_folds": 5, "gap": 32.0, "tr": 2.0, "delays": [0]}


def brain(n_columns, mask=None):
    return SimpleNamespace(runs=[np.zeros((50, n_columns))] * 2, mask=mask)


def networks(**changed):
    options = {"n_networks": 10, "slice_tokens": 512} | changed
    networks_checks.check_model_networks(CORPUS, **options)


def coupling(n_times=200, **changed):
    coupling_checks.check_coupling(n_times, **COUPLING | changed)


def test_what_fits_passes():
    forward.check_windows(window=8, stride=8)
    brain_checks.check_story(10, tr=2.0)
    networks(scan=[399])
    brain_checks.check_brain_networks(brain(6), method="ica", n_networks=5)
    brain_checks.check_brain_networks(brain(6), method="regions", n_networks=14)
    coupling()
    coupling_checks.check_ceiling(np.array([0.1, 0.6]), min_ceiling=0.5)
    coupling(run_lengths=[100, 100])
    coupling(run_lengths=[40] * 5, null_method="phase")
    networks_checks.check_components([], 10, name="keep_components")
    networks_checks.check_components([9], 10, name="keep_components")


REFUSED = {
    "n_words": (
        lambda: brain_checks.check_story(9, tr=2.0),
        "has 9 volumes of 2 s, BOLD needs 10 or more. Raise n_words or n_volumes",
    ),
    "stride": (
        lambda: forward.check_windows(window=8, stride=9),
        "^stride: 9 .* its 8 tokens",
    ),
    "slice_tokens": (
        lambda: networks(slice_tokens=8),
        "^n_model_networks: 10 .* 8 tokens .slice_tokens is 8, .* 100.*corpus_tokens",
    ),
    "corpus_tokens": (lambda: networks(n_networks=100), "smallest corpus has 100"),
    "scan": (lambda: networks(scan=[5, 400]), "^scan: 400 .* 400 tokens"),
    "n_brain_networks": (
        lambda: brain_checks.check_brain_networks(
            brain(6), method="ica", n_networks=14
        ),
        "^n_brain_networks: 14 .* 6 voxels or regions. .*at most 5, .*: regions",
    ),
    "gap": (lambda: coupling(gap=300.0), "^n_folds 5, gap 300 s: .*200 volumes of 2 s"),
    "n_folds": (lambda: coupling(40, n_folds=20), "^n_folds 20, gap 32 s"),
    "inner": (lambda: coupling(61, gap=40.0), "^n_folds 5, gap 40 s"),
    "delays": (
        lambda: coupling(run_lengths=[195, 5], delays=[0, 5]),
        "^delays: 5 volumes are not in a run of 5",
    ),
    "null_method": (
        lambda: coupling(run_lengths=[100, 100], null_method="runs"),
        "^null_method, run_lengths: .*no longer offered.*shift",
    ),
    "run_lengths": (lambda: coupling(run_lengths=[100, 90]), "run_lengths .* 190"),
    "min_ceiling": (
        lambda: coupling_checks.check_ceiling(np.array([0.1, 0.3]), min_ceiling=0.5),
        "^min_ceiling: .* 0.5, the highest is 0.30",
    ),
    "keep_components": (
        lambda: networks_checks.check_components([4, 10], 10, name="keep_components"),
        "^keep_components: 10 components .* 10 tokens",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_told_by_its_parameter(what):
    call, message = REFUSED[what]
    with pytest.raises(ParamError, match=message):
        call()
