import numpy as np
import pandas as pd
import pytest
import torch
from families import FAMILIES, make

from anbn.masking import controls, damage, evaluation, intervene, selection
from anbn.masking.evaluation import Trial
from anbn.models import forward, loading, neurons
from anbn.models.loading import LanguageModel
from anbn.models.structure import find_blocks

CAUSAL = [n for n, f in FAMILIES.items() if "Causal" in f.model.__name__] + ["gpt2"]


@pytest.fixture
def tokens(rng):
    documents = np.repeat(np.arange(5), [12, 12, 12, 9, 12])
    return pd.DataFrame({"id": rng.integers(3, 40, 57), "document": documents})


@pytest.fixture
def documents():
    return pd.DataFrame({"corpus": list("aabbb"), "text": [""] * 5})


def on(name, tokenizer):
    return LanguageModel(make(name), tokenizer, "causal")


def test_outcome_of_documents_is_the_models_own_loss(llama, tokens):
    tokens = tokens.assign(id=tokens["id"] % len(llama.tokenizer))
    found = evaluation.by_document(llama, tokens, batch_size=3).set_index("document")
    for document, rows in tokens.groupby("document"):
        ids = torch.tensor(rows["id"].to_numpy())[None]
        out = llama.model(ids, labels=ids)
        assert found["nll"][document] == pytest.approx(float(out.loss), rel=1e-5)
        right = (out.logits[0, :-1].argmax(-1) == ids[0, 1:]).float().mean()
        assert found["accuracy"][document] == pytest.approx(float(right))
        assert found["n_tokens"][document] == len(rows) - 1


def test_models_that_predict_nothing_are_refused(llama, bert, tokens, documents):
    with pytest.raises(evaluation.EvaluationError, match="needs a causal language"):
        evaluation.by_document(bert, tokens)
    tokens = tokens.assign(id=tokens["id"] % len(llama.tokenizer))
    every = np.ones((2, 24), bool)
    loud = evaluation.trials("loud", "hidden", every, action="amplify", factor=1e38)
    with pytest.raises(evaluation.EvaluationError, match="first under mask 'loud' in"):
        evaluation.measure(llama, tokens, documents, loud)


@pytest.mark.parametrize("name", CAUSAL)
def test_sharing_changes_nothing(name, tokenizer, tokens, documents, rng):
    """Passes that begin late give what passes from the beginning give, bit for bit."""
    language_model = on(name, tokenizer)
    trials = []
    for kind in ("ffn_out", "attn_out", "hidden", "qk"):
        mask = np.zeros(neurons.count_neurons(language_model.model, kind), bool)
        trials.append(Trial("none", kind, mask))
        for layer in (1, 2):
            late = mask.copy()
            late[layer:] = rng.random(late[layer:].shape) < 0.5
            trials.append(Trial(f"from {layer}", kind, late))
        trials.append(Trial("keep", kind, ~late, action="keep"))
    given = (language_model, tokens, documents, trials)
    shared = evaluation.measure(*given, batch_size=3)
    alone = evaluation.measure(*given, batch_size=3, share=False)
    pd.testing.assert_frame_equal(shared, alone, check_exact=True)
    intact = shared[shared["group"] == "intact"]["nll"].to_numpy()
    assert (
        shared[shared["group"] == "none"]["nll"].to_numpy() == np.tile(intact, 4)
    ).all()
    assert not np.isclose(
        shared[shared["group"] == "from 2"]["nll"], np.tile(intact, 4)
    ).all()
    assert not any("forward" in vars(b) for b in find_blocks(language_model.model))


def test_blocks_below_are_not_run(llama):
    ids, ran = torch.arange(1, 9)[None], []
    hook = llama.model.model.layers[0].mlp.register_forward_hook(
        lambda *_: ran.append(1)
    )
    with torch.inference_mode():
        with forward.remember(llama.model, [1]) as kept:
            plain = llama.model(ids).logits
        with forward.resume(llama.model, kept, 1):
            assert torch.equal(llama.model(ids).logits, plain)
    assert len(ran) == 1
    with pytest.raises(KeyError), forward.resume(llama.model, kept, 1):
        raise KeyError
    llama.model(ids)
    assert len(ran) == 2
    hook.remove()


def test_table_of_trials(tokenizer, tokens, documents, rng):
    language_model = on("llama", tokenizer)
    mask = rng.random((3, 24)) < 0.5
    trials = [
        Trial("networks", "ffn_out", mask),
        Trial("networks", "ffn_out", ~mask, "per layer", 4),
        Trial("louder", "ffn_out", mask, action="amplify", options={"factor": 2.0}),
    ]
    table = evaluation.measure(language_model, tokens, documents, trials)
    assert (
        table["group"].tolist() == ["intact"] * 5 + ["networks"] * 10 + ["louder"] * 5
    )
    assert table["domain"].tolist() == list("aabbb") * 4
    row = table.iloc[12]
    assert (row["control"], row["draw"], row["n"]) == ("per layer", 4, (~mask).sum())
    with intervene.amplify(language_model.model, mask, "ffn_out", factor=2.0):
        alone = evaluation.by_document(language_model, tokens)
    np.testing.assert_allclose(table["nll"][-5:], alone["nll"], rtol=1e-6)
    with pytest.raises(ValueError, match=r"expected a bool mask of shape \(3, 24\)"):
        evaluation.measure(
            language_model, tokens, documents, [Trial("bad", "ffn_out", mask[:, :5])]
        )


@pytest.mark.parametrize("name", CAUSAL)
def test_stand_ins_hang_on_document_and_position(name, tokenizer, tokens, documents):
    """Not on what is in a batch, its padding, or other trials."""
    language_model, rng = on(name, tokenizer), np.random.default_rng(5)
    shape = neurons.count_neurons(language_model.model, "ffn_out")
    samples = rng.normal(size=(50, *shape)).astype(np.float32)
    masks = [rng.random(shape) < 0.3 for _ in range(3)]
    drawn = {"per layer": masks[1:]}
    trials = evaluation.trials("a", "ffn_out", masks[0], drawn, to=samples, seed=1)
    keep = {"action": "keep", "to": samples, "seed": 1}
    trials += evaluation.trials("a", "ffn_out", masks[0], **keep)

    def nll(trials, **options):
        given = language_model, tokens, documents, trials
        found = evaluation.measure(*given, **options).query("group != 'intact'")
        return found["nll"].to_numpy().reshape(len(trials), -1)

    alone, together = nll(trials, batch_size=1), nll(trials, batch_size=16)
    np.testing.assert_allclose(alone, together, rtol=1e-5)
    np.testing.assert_array_equal(nll(trials[1:2], batch_size=1)[0], alone[1])
    other = evaluation.trials("b", "ffn_out", masks[0], to=samples, seed=1)
    assert (np.abs(nll(other, batch_size=1)[0] - alone[0]) > 1e-4).any()


def test_the_same_document_gets_the_same_stand_ins(tokenizer, tokens, documents, rng):
    language_model = on("llama", tokenizer)
    mask = rng.random((3, 24)) < 0.5
    samples = rng.normal(size=(50, 3, 24)).astype(np.float32)
    trials = evaluation.trials("a", "ffn_out", mask, to=samples, seed=1)
    every = evaluation.measure(language_model, tokens, documents, trials)
    last = evaluation.measure(
        language_model, tokens[tokens["document"] > 2], documents, trials
    )
    both = every.merge(last, on=["group", "document"])
    assert len(both) == 4
    np.testing.assert_allclose(both["nll_x"], both["nll_y"], rtol=1e-5)


def test_masks_of_some_layers(tokenizer, tokens, documents, rng):
    language_model = on("qwen2", tokenizer)
    mask = rng.random((1, 40)) < 0.5
    trials = [Trial("one", "ffn_hidden", mask)]
    found = evaluation.measure(language_model, tokens, documents, trials, layers=[2])
    whole = np.zeros((3, 40), bool)
    whole[2] = mask[0]
    trials = [Trial("one", "ffn_hidden", whole)]
    wanted = evaluation.measure(language_model, tokens, documents, trials)
    pd.testing.assert_frame_equal(found, wanted, check_exact=True)


def test_models_without_a_causal_head_are_told_what_is_needed(monkeypatch):
    def refuse(*_, head, **__):
        raise loading.ModelError(f"it has no {head} head.")

    monkeypatch.setattr(loading, "load_model", refuse)
    with pytest.raises(
        evaluation.EvaluationError, match=r"no causal head\. .*stage 01"
    ):
        evaluation.load_causal("bert", device="cpu", dtype="float32")


def test_measured_and_compared_in_one(tokenizer, tokens, documents, rng):
    language_model = on("llama", tokenizer)
    masks = [
        selection.Mask("a", "ffn_out", rng.random((3, 24)) < 0.3),
        selection.Mask("b", "ffn_hidden", rng.random((3, 40)) < 0.3),
    ]
    drawn = controls.of_masks(masks, {}, seed=0, n_draws=3, random_share=0.1)
    instead = {"ffn_out": None, "ffn_hidden": np.zeros((3, 40), np.float32)}
    trials = evaluation.trials_of_masks(masks, drawn, instead, seed=0)
    assert len(trials) == 2 * 7 and trials[7].n == masks[1].neurons.sum()
    given = language_model, tokens, documents
    found = damage.measure_and_compare(*given, trials, rng=rng, batch_size=2)
    pd.testing.assert_frame_equal(
        found.by_document, evaluation.measure(*given, trials, batch_size=2)
    )
    each = damage.perplexity(found.by_document)
    assert found.base == each["perplexity"][0]
    np.testing.assert_array_equal(found.by_mask["perplexity"], each["perplexity"])
    assert found.comparisons["control"].tolist() == ["per layer", "uniform"] * 2
    nothing = damage.measure_and_compare(*given, [], rng=rng)
    assert nothing.base == pytest.approx(found.base) and len(nothing.by_mask) == 1
    assert nothing.comparisons.empty
