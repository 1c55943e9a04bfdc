"""A begin-of-text token with a massive activation, and what fills and cuts do to it."""

import numpy as np
import pandas as pd
import pytest
import torch
from families import FAMILIES, captured, make
from transformers import PreTrainedTokenizerFast

from anbn.masking import calibration, evaluation, intervene, pruning
from anbn.masking.evaluation import Trial
from anbn.models import neurons
from anbn.models.loading import LanguageModel

BOS, UNIT = 1, 7
CAUSAL = [n for n, f in FAMILIES.items() if "Causal" in f.model.__name__] + ["gpt2"]


def tokenizer_of(template):
    """Ids of words are their numbers; 1 begins and 2 ends a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[PAD]", "<s>", "</s>", *(f"w{i}" for i in range(3, 50))]
    ids = {word: i for i, word in enumerate(words)}
    core = Tokenizer(models.WordLevel(ids, unk_token="w3"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if template:
        marks = [("<s>", 1), ("</s>", 2)]
        core.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=marks
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", pad_token="[PAD]"
    )


def with_massive_bos():
    """A Llama whose unit 7 of layer 0 is massive at the begin-of-text token alone."""
    model = make("llama")
    for name, weight in model.named_parameters():
        if weight.dim() > 1 and "mlp" not in name:
            weight.mul_(12)
    direction, mlp = torch.zeros(24), model.model.layers[0].mlp
    direction[3] = 1.0
    embedding = model.model.embed_tokens.weight
    embedding[:, 3] = 0.0
    embedding[BOS] = 20 * direction
    model.model.layers[0].self_attn.o_proj.weight[3] = 0.0
    for linear in (mlp.gate_proj, mlp.up_proj):
        linear.weight[UNIT] = 4 * direction
    mlp.down_proj.weight[:, UNIT] = torch.linspace(-1, 1, 24)
    return LanguageModel(model, tokenizer_of("<s> $A"), "causal")


@pytest.fixture
def tokens(rng):
    documents = np.repeat(np.arange(6), 16)
    return pd.DataFrame({"id": rng.integers(3, 50, 96), "document": documents})


@pytest.fixture
def usual(tokens, rng):
    options = {"window": 16, "stride": 16, "rng": rng}
    return calibration.calibrate(with_massive_bos(), tokens, ["ffn_hidden"], **options)


def losses(language_model, tokens):
    return evaluation.by_document(language_model, tokens)["nll"].to_numpy()


def test_the_unit_is_massive_at_the_special_token_alone(usual, tokens):
    lm = with_massive_bos()
    special = calibration.at_special_tokens(lm, tokens, "ffn_hidden")
    assert special.shape == (1, 3, 40)
    assert abs(special[0, 0, UNIT]) > 100 > 100 * usual["ffn_hidden"].peak[0, UNIT]
    ids = torch.tensor([[BOS, *tokens["id"][5:25]]])
    again = captured(lm.model, ["ffn_hidden"], ids)["ffn_hidden"][:, 0, 0]
    np.testing.assert_allclose(special[0], again, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("action", ["silence", "keep"])
@pytest.mark.parametrize("filled", ["mean", "samples"])
def test_filling_leaves_special_tokens_as_they_are(action, filled, usual, tokens, rng):
    lm, usual = with_massive_bos(), usual["ffn_hidden"]
    mask = rng.random((3, 40)) < 0.5
    mask[0, UNIT] = action == "silence"
    ids = torch.tensor([[BOS, *tokens["id"][:9]], [BOS, *tokens["id"][16:22], 0, 0, 0]])
    gone = torch.tensor(mask if action == "silence" else ~mask)
    plain = captured(lm.model, ["ffn_hidden"], ids)["ffn_hidden"]
    options = {"to": getattr(usual, filled), "rng": rng}
    trial = Trial("some", "ffn_hidden", mask, action=action, options=options)
    options = evaluation.options_of(trial, lm)
    with intervene.apply(lm.model, mask, "ffn_hidden", action, **options):
        shown = captured(lm.model, ["ffn_hidden"], ids)["ffn_hidden"]
    assert torch.equal(shown[:, :, 0], plain[:, :, 0])
    text = shown[:, 0, 1:]
    if filled == "mean":
        means = torch.from_numpy(usual.mean)[:, None].expand(-1, 9, -1)
        assert torch.equal(text.swapaxes(1, 2)[gone], means.swapaxes(1, 2)[gone])
    else:
        first = text[:, 0].numpy()  # of one sample in all layers
        same = (usual.samples == first) | ~gone.numpy()
        assert same.all((1, 2)).any()


def test_the_model_survives_a_fill(usual, tokens):
    """Measured with the special token left out of it, the unit does nothing."""
    lm, usual = with_massive_bos(), usual["ffn_hidden"]
    mask = np.zeros((3, 40), bool)
    mask[0, UNIT] = True
    documents = pd.DataFrame({"corpus": ["a"] * 6, "text": [""] * 6})
    options = [{"to": usual.mean}, {"to": usual.mean, "spared": ()}, {}]
    trials = [
        Trial(name, "ffn_hidden", mask, options=given)
        for name, given in zip(["spared", "filled", "zero"], options, strict=True)
    ]
    table = evaluation.measure(lm, tokens, documents, trials)
    change = {
        name: np.abs(part["nll"].to_numpy() - losses(lm, tokens)).max()
        for name, part in table.groupby("group")
    }
    assert change["intact"] == 0
    assert change["spared"] < 1e-4 < 0.01 < min(change["filled"], change["zero"])


def test_a_cut_keeps_what_is_needed_at_special_tokens(usual, tokens, rng):
    lm, usual = with_massive_bos(), usual["ffn_hidden"]
    special = calibration.at_special_tokens(lm, tokens, "ffn_hidden")
    for fill in (usual.mean, None):
        given = (lm.model, special, usual.mean_square, fill)
        needed = pruning.needed_at_special_tokens(*given)
        assert np.argwhere(needed).tolist() == [[0, UNIT]]
    scores = usual.variance  # the unit hardly varies over text: the first to go
    assert scores[0].argmin() == UNIT
    change = {}
    for name, spare in (("blind", None), ("spared", needed)):
        mask = pruning.choose(scores, 0.05, spare=spare)
        assert mask.sum() == 6 and mask[0, UNIT] == (name == "blind")
        cut = pruning.cut(lm, mask, mean=usual.mean)
        trial = Trial(
            name, "ffn_hidden", mask, options={"to": usual.mean, "spared": ()}
        )
        documents = pd.DataFrame({"corpus": ["a"] * 6, "text": [""] * 6})
        masked = evaluation.measure(lm, tokens, documents, [trial])
        masked = masked[masked["group"] == name]["nll"].to_numpy()
        np.testing.assert_allclose(losses(cut, tokens), masked, atol=1e-5)
        change[name] = np.abs(losses(cut, tokens) - losses(lm, tokens)).max()
    assert change["spared"] < 0.2 * change["blind"]


def test_nothing_is_needed_where_nothing_is_added(usual, tokens):
    lm = with_massive_bos()
    bare = LanguageModel(lm.model, tokenizer_of(""), "causal")
    special = calibration.at_special_tokens(bare, tokens, "ffn_hidden")
    assert special.shape == (0, 3, 40)
    needed = pruning.needed_at_special_tokens(
        lm.model, special, usual["ffn_hidden"].mean_square
    )
    assert not needed.any()


@pytest.mark.parametrize("budget", ["uniform", "global"])
@pytest.mark.parametrize("multiple", [1, 8])
def test_spared_units_stay_whatever_their_scores(budget, multiple, rng):
    scores, spare = rng.random((5, 40)), rng.random((5, 40)) < 0.1
    scores[spare] = -1.0
    mask = pruning.choose(
        scores, 0.5, budget=budget, multiple=multiple, spare=spare, protect=(1, 0)
    )
    assert not (mask & spare).any() and not mask[0].any()
    assert abs(mask.sum() - 100) <= (0 if multiple == 1 else 4 * 4)


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("kind", ["ffn_hidden", "ffn_out", "attn_out", "hidden"])
def test_spared_ids_in_every_family(name, kind, rng):
    if (name, kind) == ("mixtral", "ffn_hidden"):
        pytest.skip("units of experts are shown before they are edited")
    model = make(name)
    shape = neurons.count_neurons(model, kind)
    ids = torch.tensor([[1, 5, 6, 1, 7, 0], [1, 9, 10, 11, 12, 2]])
    mask = np.zeros(shape, bool)
    mask[0] = rng.random(shape[1]) < 0.5
    mean = rng.normal(size=shape).astype(np.float32)
    plain = captured(model, [kind], ids)[kind]
    with intervene.silence(model, mask, kind, to=mean, spared=[0, 1, 2]):
        changed = captured(model, ["hidden"], ids)["hidden"]
        shown = captured(model, [kind], ids)[kind]
    special = torch.isin(ids, torch.tensor([0, 1, 2]))
    assert not model.get_input_embeddings()._forward_pre_hooks
    if kind in ("ffn_out", "ffn_hidden", "hidden"):
        assert torch.equal(shown[0][special], plain[0][special])
        filled = shown[0][~special][:, mask[0]]
        assert torch.equal(filled, torch.tensor(mean[0, mask[0]]).expand_as(filled))
    hidden = captured(model, ["hidden"], ids)["hidden"]
    assert torch.equal(changed[0][special], hidden[0][special])
    assert not torch.allclose(changed[0][~special], hidden[0][~special])
