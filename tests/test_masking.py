import numpy as np
import pytest
import torch
from families import captured

from anbn import evaluation, masking, neurons, tokenization

IDS = torch.arange(1, 13)[None]


@pytest.mark.parametrize("kind", ["ffn_hidden", "ffn_out", "attn_out", "hidden"])
def test_silence_sets_only_the_masked_neurons_to_zero(llama, kind, rng):
    mask = rng.random(neurons.count_neurons(llama.model, kind)) < 0.3
    with masking.silence(llama.model, mask, kind):
        shown = captured(llama.model, [kind], IDS)[kind]
    for layer, values in enumerate(shown):
        assert not values[..., mask[layer]].any()
        assert values[..., ~mask[layer]].all()


def test_silencing_hidden_units_equals_zero_weights(llama, rng):
    import copy

    mask = rng.random((2, 40)) < 0.5
    other = copy.deepcopy(llama.model)
    for layer, block in enumerate(other.model.layers):
        block.mlp.down_proj.weight[:, mask[layer]] = 0
    with torch.inference_mode(), masking.silence(llama.model, mask, "ffn_hidden"):
        masked = llama.model(IDS).logits
    np.testing.assert_allclose(masked, other(IDS).logits, atol=1e-5)


def test_empty_mask_is_exact_and_errors_leave_no_hook(llama):
    empty = np.zeros((2, 24), bool)
    with torch.inference_mode():
        plain = llama.model(IDS).logits
        with masking.silence(llama.model, empty, "ffn_out"):
            assert torch.equal(llama.model(IDS).logits, plain)
        with pytest.raises(KeyError), masking.silence(llama.model, ~empty, "ffn_out"):
            raise KeyError
        assert torch.equal(llama.model(IDS).logits, plain)
        with masking.keep_only(llama.model, ~empty, "ffn_out"):
            assert torch.equal(llama.model(IDS).logits, plain)


@pytest.mark.parametrize("mask", [np.zeros((2, 23), bool), np.zeros((2, 24))])
def test_masks_of_another_model_are_refused(llama, mask):
    with (
        pytest.raises(
            ValueError, match=r"bool mask of shape \(2, 24\) for the ffn_out"
        ),
        masking.silence(llama.model, mask, "ffn_out"),
    ):
        pass


def test_controls_are_matched(rng):
    strength, variance = rng.random((4, 50)), rng.random((4, 50))
    massive = masking.strongest(variance, 5)
    several = masking.with_controls(60, strength, variance, massive, rng, n_draws=3)
    sizes = {name: [m.sum() for m in masks] for name, masks in several.items()}
    assert all(n == 60 for group in sizes.values() for n in group)
    (chosen,), (calm,) = several["networks"], several["networks without massive"]
    assert strength[chosen].min() > strength[~chosen].max()
    assert not (calm & massive).any()
    for control in several["random, same per layer"]:
        assert control.sum(1).tolist() == chosen.sum(1).tolist()
    for control in several["random per layer, without massive"]:
        assert control.sum(1).tolist() == calm.sum(1).tolist()
        assert not (control & massive).any()
    a, b, _ = several["random, uniform"]
    assert (a != b).any()
    assert (
        variance[several["largest variance"][0]].min() >= np.sort(variance.ravel())[-60]
    )
    with pytest.raises(ValueError, match="cannot draw 60 control neurons: only 50"):
        masking.random_uniform(60, rng, among=np.ones((1, 50), bool))


def test_perplexity_is_exp_of_the_mean_loss(llama, bert, text):
    tokens = tokenization.tokenize(llama.tokenizer, text).iloc[:40]
    ids = torch.tensor(tokens["id"].to_numpy())[None]
    expected = float(torch.exp(llama.model(ids, labels=ids).loss))
    found = evaluation.perplexity(llama, tokens, window=40, stride=40)
    assert found == pytest.approx(expected, rel=1e-5)
    with pytest.raises(
        evaluation.EvaluationError, match="needs a causal language model"
    ):
        evaluation.perplexity(bert, tokens, window=40, stride=40)
    with pytest.raises(evaluation.EvaluationError, match="2 tokens or more, found 1"):
        evaluation.perplexity(llama, tokens.iloc[:1], window=40, stride=40)
