"""Parameters that do not go together are told by their names, before anything runs."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from anbn.brain import checks as brain_checks
from anbn.core.params import ParamError
from anbn.masking import checks as masking_checks
from anbn.masking import fingerprint
from anbn.models import forward
from anbn.networks import checks as networks_checks

CORPUS = ["wiki"] * 300 + ["code"] * 100


def brain(n_columns, mask=None):
    return SimpleNamespace(runs=[np.zeros((50, n_columns))] * 2, mask=mask)


def networks(**changed):
    options = {"n_networks": 10, "slice_tokens": 512} | changed
    networks_checks.check_model_networks(CORPUS, **options)


def documents(n_words, n=4):
    texts = [" ".join(f"w{i}x{k}" for k in range(n_words)) for i in range(2 * n)]
    return pd.DataFrame({"corpus": ["wiki"] * n + ["code"] * n, "text": texts})


def tasks(n_words=40, labels=None, n_choices=2, task_tokens=64):
    labels = labels or {"wiki": "encyclopedia", "code": "code"}
    options = {"task_tokens": task_tokens, "n_choices": n_choices}
    masking_checks.check_tasks({}, documents(n_words), labels, **options)


def test_what_fits_passes():
    forward.check_windows(window=8, stride=8)
    brain_checks.check_story(10, tr=2.0)
    networks(scan=[399])
    brain_checks.check_brain_networks(brain(6), method="ica", n_networks=5)
    brain_checks.check_brain_networks(brain(6), method="regions", n_networks=14)
    tasks(32)
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
    "task_tokens": (
        lambda: tasks(20),
        "^task_tokens: 64 tokens of corpus 'wiki' .* 20 to 20 words; .* 2 of 32.*128",
    ),
    "domain_labels": (
        lambda: tasks(labels={"wiki": "a", "news": "b"}),
        "^domain_labels, .* 'news', the documents have",
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


def test_texts_of_fingerprints(tmp_path):
    path = tmp_path / "news.txt"
    path.write_text("\n\n".join(f"text {k} " + "word " * 60 for k in range(5)))
    options = {"fitting_texts": 3, "fingerprint_texts": 2, "text_words": 40}
    masking_checks.check_texts([path], **options)
    assert len(fingerprint.excerpts([path], 5, 40)) == 5
    message = r"^fitting_texts 3 .* fingerprint_texts 3 of text_words 40: .* has 5"
    with pytest.raises(ParamError, match=message):
        masking_checks.check_texts([path], **options | {"fingerprint_texts": 3})
