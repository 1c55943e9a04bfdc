"""Tests of anbn.masking.fingerprint."""

import numpy as np
import pytest
import torch

from anbn.masking import fingerprint
from anbn.masking.fingerprint import DescendantError
from anbn.models import forward
from anbn.models.loading import LanguageModel
from anbn.text import tokenization

STEPS = {"n_steps": 12, "learning_rate": 1e-2, "window": 16, "batch_size": 3, "seed": 0}


@pytest.fixture
def tokens(tokenizer, text):
    return tokenization.tokenize(tokenizer, text)


def loss(language_model, tokens, window):
    """Mean surprisal (nats a token)."""
    options = {"window": window, "stride": window // 2, "surprisal": True}
    passes = forward.forward_windows(language_model, tokens, **options)
    return float(np.nanmean(np.concatenate([p.surprisal for p in passes])))


def weights(language_model):
    return {k: v.clone() for k, v in language_model.model.named_parameters()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_noise_has_the_size_asked_for(llama, rng):
    before = weights(llama)
    after = weights(fingerprint.noised(llama, 0.3, rng))
    assert same(before, weights(llama))
    for name, weight in before.items():
        noise = after[name] - weight
        if weight.ndim > 1:
            expected = 0.3 * weight.std()
            assert noise.std() == pytest.approx(float(expected), rel=0.15)
            both = torch.stack([noise.ravel(), weight.ravel()])
            assert abs(torch.corrcoef(both)[0, 1]) < 0.15
        else:
            assert torch.equal(after[name], weight)


def test_noise_follows_the_seed(llama):
    draws = [
        weights(fingerprint.noised(llama, 0.3, np.random.default_rng(seed)))
        for seed in (1, 1, 2)
    ]
    assert same(draws[0], draws[1]) and not same(draws[0], draws[2])
    none = fingerprint.noised(llama, 0, np.random.default_rng(0))
    assert same(weights(none), weights(llama))


@pytest.mark.parametrize("scale", [-0.1, np.nan, np.inf])
def test_noise_of_no_size(llama, rng, scale):
    with pytest.raises(DescendantError, match="scale must be a number of 0 or more"):
        fingerprint.noised(llama, scale, rng)


def test_fine_tuning_learns_the_text_and_leaves_the_original(llama, tokens):
    before = weights(llama)
    tuned, losses = fingerprint.fine_tuned(llama, tokens, **STEPS)
    assert same(before, weights(llama)) and not llama.model.training
    assert losses.shape == (12,) and losses[-3:].mean() < losses[:3].mean() - 0.3
    assert loss(tuned, tokens, 32) < loss(llama, tokens, 32) - 0.2
    model = tuned.model
    assert not any(m.training for m in model.modules())
    assert not any(w.requires_grad or w.grad is not None for w in model.parameters())


def test_first_loss_is_that_of_the_original(llama, tokens):
    _, losses = fingerprint.fine_tuned(
        llama, tokens.iloc[:16], **{**STEPS, "n_steps": 1, "batch_size": 1}
    )
    expected = [loss(llama, tokens.iloc[:16], 16)]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_fine_tuning_follows_the_seed_and_leaves_the_global_one(llama, tokens):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    runs = [
        fingerprint.fine_tuned(llama, tokens, **{**STEPS, "n_steps": 3, "seed": seed})
        for seed in (1, 1, 2)
    ]
    assert torch.rand(1) == expected
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
    assert same(weights(runs[0][0]), weights(runs[1][0]))
    assert not same(weights(runs[0][0]), weights(runs[2][0]))


def test_windows_keep_to_documents(tokens):
    tokens = tokens.assign(document=np.arange(len(tokens)) // 25)
    found = fingerprint._windows(tokens, 10)
    ids = tokens["id"].to_numpy()
    starts = [d * 25 + i for d in range(len(tokens) // 25) for i in (0, 10)]
    np.testing.assert_array_equal(found, [ids[s : s + 10] for s in starts])


def test_all_windows_are_used_before_any_again(rng):
    rows = np.arange(6)[:, None]
    batches = fingerprint._batches(rows, 2, rng)
    epoch = np.concatenate([next(batches) for _ in range(3)])
    assert sorted(epoch.ravel()) == list(range(6))


def test_what_cannot_be_fine_tuned(llama, bert, tokens):
    with pytest.raises(DescendantError, match=r"causal language model.*head='none'"):
        fingerprint.fine_tuned(bert, tokens, **STEPS)
    with pytest.raises(DescendantError, match="1 windows of 16 tokens, expected batch"):
        fingerprint.fine_tuned(llama, tokens.iloc[:20], **STEPS)
    with pytest.raises(DescendantError, match="window must lie in 2 to 64"):
        fingerprint.fine_tuned(llama, tokens, **{**STEPS, "window": 65})
    with pytest.raises(DescendantError, match="n_steps must be 1 or more, found 0"):
        fingerprint.fine_tuned(llama, tokens, **{**STEPS, "n_steps": 0})


def test_a_loss_that_explodes(llama, tokens):
    broken = fingerprint.noised(llama, 0, np.random.default_rng(0))
    broken.model.lm_head.weight[0] = torch.inf
    with pytest.raises(DescendantError, match="loss of step 1 is nan: lower learning"):
        fingerprint.fine_tuned(broken, tokens, **STEPS)


def test_weights_on_disk(llama, rng):
    with torch.device("meta"):
        model = type(llama.model)(llama.model.config)
    elsewhere = LanguageModel(model, llama.tokenizer, "causal")
    with pytest.raises(DescendantError, match="kept on disk: load it on one device"):
        fingerprint.noised(elsewhere, 0.1, rng)
