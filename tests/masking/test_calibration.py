import copy

import numpy as np
import pandas as pd
import pytest
import torch

from anbn.masking import calibration
from anbn.models import forward
from anbn.models.loading import LanguageModel
from anbn.text import tokenization


def test_statistics_equal_those_of_all_activations(llama, text):
    tokens = tokenization.tokenize(llama.tokenizer, text).iloc[:90]
    tokens["document"] = np.repeat([0, 1, 2], 30)
    options = {"window": 16, "stride": 8}
    kinds = ["ffn_hidden", "qk"]
    rng = np.random.default_rng(0)
    found = calibration.calibrate(llama, tokens, kinds, **options, rng=rng)
    every = {kind: [] for kind in kinds}
    for recorded in forward.forward_windows(llama, tokens, kinds=kinds, **options):
        for kind, values in recorded.activations.items():
            every[kind].append(values.numpy().swapaxes(0, 1).copy())
    for kind in kinds:
        values, c = np.concatenate(every[kind]), found[kind]
        np.testing.assert_allclose(c.mean, values.mean(0), atol=1e-6)
        np.testing.assert_allclose(c.mean_abs, np.abs(values).mean(0), atol=1e-6)
        np.testing.assert_allclose(c.mean_square, (values**2).mean(0), atol=1e-6)
        np.testing.assert_allclose(c.variance, values.var(0), atol=1e-6)
        np.testing.assert_allclose(c.peak, np.abs(values).max(0))
        at = np.sort(np.random.default_rng(0).choice(90, 64, replace=False))
        np.testing.assert_array_equal(c.samples, values[at])
        np.testing.assert_allclose(c.typical, np.median(np.abs(values[at]), (0, 2)))


def test_some_layers_and_little_text(llama, text, rng):
    tokens = tokenization.tokenize(llama.tokenizer, text).iloc[:10]
    options = {"window": 16, "stride": 16, "rng": rng}
    c = calibration.calibrate(llama, tokens, ["ffn_out"], layers=[1], **options)
    assert c["ffn_out"].mean.shape == (1, 24)
    assert len(c["ffn_out"].samples) == 10


def test_activations_that_overflow(llama, text, rng):
    model = copy.deepcopy(llama.model)
    model.model.embed_tokens.weight[:] = torch.inf
    broken = LanguageModel(model, llama.tokenizer, "causal")
    tokens = tokenization.tokenize(llama.tokenizer, text)
    options = {"window": 16, "stride": 16, "rng": rng}
    with pytest.raises(ValueError, match=r"hidden activations hold NaN .* float32"):
        calibration.calibrate(broken, tokens, ["hidden"], **options)


def test_some_text_is_whole_documents_spread_over_it():
    tokens = pd.DataFrame({"id": range(100), "document": np.repeat(range(10), 10)})
    some = calibration.some_text(tokens, 50)
    assert some["document"].unique().tolist() == [0, 2, 4, 6, 8]
    assert some.groupby("document").size().eq(10).all()
    assert len(calibration.some_text(tokens, 1000)) == 100


def test_what_stands_where_neurons_are_silenced(rng):
    mean, samples = rng.random((1, 24)), rng.random((5, 1, 24))
    usual = {"hidden": calibration.Calibration(*[mean] * 5, mean[:, 0], samples)}
    assert calibration.stand_ins(usual, "zero") == {"hidden": None}
    assert calibration.stand_ins(usual, "mean")["hidden"] is mean
    assert calibration.stand_ins(usual, "resample")["hidden"] is samples
