"""Parameters that do not go together are told by their names, before anything runs."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from anbn.brain import checks as brain_checks
from anbn.core.params import ParamError
from anbn.masking import checks as masking_checks
from anbn.masking import fingerprint


def brain(n_columns, mask=None):
    return SimpleNamespace(runs=[np.zeros((50, n_columns))] * 2, mask=mask)


def documents(n_words, n=4):
    texts = [" ".join(f"w{i}x{k}" for k in range(n_words)) for i in range(2 * n)]
    return pd.DataFrame({"corpus": ["wiki"] * n + ["code"] * n, "text": texts})


def tasks(n_words=40, labels=None, n_choices=2, task_tokens=64):
    labels = labels or {"wiki": "encyclopedia", "code": "code"}
    options = {"task_tokens": task_tokens, "n_choices": n_choices}
    masking_checks.check_tasks({}, documents(n_words), labels, **options)


def test_what_fits_passes():
    brain_checks.check_story(10, tr=2.0)
    brain_checks.check_brain_networks(brain(6), method="ica", n_networks=5)
    brain_checks.check_brain_networks(brain(6), method="regions", n_networks=14)
    tasks(32)


REFUSED = {
    "n_words": (
        lambda: brain_checks.check_story(9, tr=2.0),
        "has 9 volumes of 2 s, BOLD needs 10 or more. Raise n_words or n_volumes",
    ),
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
