import families
import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats
from sklearn.decomposition import FastICA

from anbn.masking import pruning
from anbn.models import forward, neurons
from anbn.models.structure import StructureError
from anbn.text import tokenization

DENSE = [name for name in families.FAMILIES if name != "mixtral"]


def matrices(name, paths):
    """Weights (n_outputs, n_inputs) of named linear layers, block by block."""
    blocks = neurons.find_blocks(families.make(name))
    found = []
    for block in blocks:
        linears = [block.get_submodule(path) for path in paths]
        transposed = name == "gpt2"
        weights = [m.weight.T if transposed else m.weight for m in linears]
        found.append([w.double().numpy() for w in weights])
    return found


def naive(name, score):
    """``score(up matrices, down matrix, unit)`` of every unit."""
    family = families.FAMILIES[name]
    rows = []
    for *up, down in matrices(name, [*family.up, family.down]):
        rows.append([score(up, down, j) for j in range(down.shape[1])])
    return np.array(rows)


@pytest.mark.parametrize("name", DENSE)
def test_magnitude(name):
    def score(up, down, j):
        every = [*(w[j] for w in up), down[:, j]]
        return np.sqrt(sum((w**2).sum() for w in every))

    expected = naive(name, score)
    found = pruning.magnitude(families.make(name))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
def test_wanda_and_fluctuation(name, rng):
    model = families.make(name)
    x = rng.normal(size=(50, *neurons.count_neurons(model, "ffn_hidden"))) + 0.5
    lengths = np.linalg.norm(x, axis=0) / np.sqrt(50)
    down = naive(name, lambda up, down, j: np.abs(down[:, j]).sum())
    found = pruning.wanda(model, (x**2).mean(0))
    np.testing.assert_allclose(found, down * lengths, rtol=1e-5)
    some = pruning.wanda(model, (x**2).mean(0)[[1]], [1])
    np.testing.assert_array_equal(some, found[[1]])
    squares = naive(name, lambda up, down, j: (down[:, j] ** 2).sum())
    found = pruning.fluctuation(model, x.var(0))
    np.testing.assert_allclose(found, squares * x.var(0), rtol=1e-5)


def test_gate_and_up_fused():
    import transformers

    torch.manual_seed(0)
    model = transformers.Phi3ForCausalLM(transformers.Phi3Config(**families.SMALL))
    found = pruning.magnitude(model.eval())
    for row, layer in zip(found, model.model.layers, strict=True):
        both = layer.mlp.gate_up_proj.weight.detach().numpy()
        down = layer.mlp.down_proj.weight.detach().numpy()
        for j in range(40):
            every = np.concatenate([both[j], both[40 + j], down[:, j]])
            assert row[j] == pytest.approx(np.linalg.norm(every), rel=1e-5)


PLAIN = [name for name, family in families.FAMILIES.items() if not family.added]


@pytest.mark.parametrize("name", PLAIN)
def test_output_norms_of_attention(name):
    path = families.FAMILIES[name].attn_out
    expected = [np.linalg.norm(w, axis=0) for (w,) in matrices(name, [path])]
    model = families.make(name)
    found = pruning.output_norms(model, "attn_out")
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.shape == neurons.count_neurons(model, "attn_out")
    assert not any(m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("name", [name for name in DENSE if name in PLAIN])
def test_output_norms_of_hidden_units(name):
    expected = naive(name, lambda up, down, j: np.linalg.norm(down[:, j]))
    found = pruning.output_norms(families.make(name), "ffn_hidden")
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["ffn_hidden", "attn_out"])
@pytest.mark.parametrize("name", ["gemma2", "gemma3", "olmo2", "exaone4"])
def test_a_norm_before_the_stream_is_in_the_contribution(name, kind, rng):
    """What a unit adds to the stream: its share of what a linear layer gives, scaled as
    the norm scales that at each token."""
    model = uneven_norms(name, rng)
    ids = torch.tensor(rng.integers(3, 50, (1, 200)))
    family = families.FAMILIES.get(name) or families.FAMILIES["gemma3"]
    ffn = kind == "ffn_hidden"
    linear = family.down if ffn else family.attn_out
    norm = family.added if ffn else family.attn_added
    blocks = neurons.find_blocks(model)
    x, whole, scaled = {}, {}, {}
    handles = []
    for i, block in enumerate(blocks):

        def of_linear(module, args, output, i=i):
            x[i], whole[i] = args[0][0], output[0]

        def of_norm(module, args, output, i=i):
            scaled[i] = output[0]

        handles.append(block.get_submodule(linear).register_forward_hook(of_linear))
        handles.append(block.get_submodule(norm).register_forward_hook(of_norm))
    with torch.inference_mode():
        model(ids)
    for handle in handles:
        handle.remove()
    truth, share = [], []
    for i, block in enumerate(blocks):
        weight = block.get_submodule(linear).weight.detach()
        scale = scaled[i] / whole[i]  # (token, unit of the stream)
        added = [
            (x[i][:, [j]] * weight[:, j] * scale).norm(dim=1).mean()
            for j in range(weight.shape[1])
        ]
        truth.append(np.array(added))
        share.append(x[i].abs().mean(0).numpy())
    truth, size = np.array(truth), np.array(share)
    found = size * pruning.output_norms(model, kind, ids=ids[0])
    assert stats.spearmanr(found.ravel(), truth.ravel())[0] > 0.98
    np.testing.assert_allclose(found, truth, rtol=0.5)
    # random tokens will do where there is no text
    found = size * pruning.output_norms(model, kind)
    assert stats.spearmanr(found.ravel(), truth.ravel())[0] > 0.97
    linears = [block.get_submodule(linear) for block in blocks]
    bare = [np.linalg.norm(m.weight.detach(), axis=0) for m in linears]
    assert stats.spearmanr((size * bare).ravel(), truth.ravel())[0] < 0.9


def uneven_norms(name, rng):
    """A model whose layers say little or much before their norms, as if trained."""
    if name in families.FAMILIES:
        model = families.make(name)
    else:
        model = families.make_other(name)
    for i, block in enumerate(neurons.find_blocks(model)):
        for path in ("mlp.down_proj", "self_attn.o_proj"):
            block.get_submodule(path).weight.mul_([30, 1, 0.1][i])
        for path in ("post_feedforward_layernorm", "post_attention_layernorm"):
            gain = torch.tensor(rng.lognormal(0, 1, 24) * [0.2, 1, 3][i]).float()
            block.get_submodule(path).weight.copy_(gain)
    return model


def test_output_norms_say_what_a_unit_does():
    """What one unit of an expert adds to the mixture's output is as long as its norm.

    Experts weigh what they put out: all units of an expert by the same number.
    """
    model = families.make("mixtral")
    norms = pruning.output_norms(model, "ffn_hidden")
    assert norms.shape == neurons.count_neurons(model, "ffn_hidden")
    ids = families.IDS[:1, :1]

    def pulled(unit):
        seen = {}

        def one(activations):
            changed = activations.clone()
            changed[..., unit] += 1
            return changed

        def receive(_, i, activations):
            seen[i] = activations.clone()

        with torch.inference_mode(), neurons.edit(model, "ffn_hidden", {0: one}):
            with neurons.capture(model, ["ffn_out"], receive):
                model(ids)
        return seen[0]

    with torch.inference_mode():
        seen = {}
        with neurons.capture(
            model, ["ffn_out"], lambda _, i, a: seen.setdefault(i, a.clone())
        ):
            model(ids)
    for expert in range(4):
        units = [expert * 40 + j for j in (0, 7, 39)]
        moved = np.array([float((pulled(u) - seen[0]).norm()) for u in units])
        if moved.any():  # the token was sent to this expert
            ratio = moved / norms[0, units]
            np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
            return
    raise AssertionError("the token was sent to no expert")


def test_output_norms_of_the_stream():
    model = families.make("llama")
    for kind in ("ffn_out", "hidden"):
        assert (pruning.output_norms(model, kind) == np.ones((3, 24))).all()


def test_a_mixture_of_experts_is_refused():
    mixture = families.make("mixtral")
    for score in (pruning.wanda, pruning.fluctuation):
        with pytest.raises(StructureError, match="mixture of experts"):
            score(mixture, np.ones((3, 160)))


@pytest.fixture
def planted_activations(rng):
    """Tokens x 2 layers x 300 neurons; the first 12 of layer 1 are a network."""
    activations = rng.normal(size=(600, 2, 300))
    for begin in range(24, 84, 12):  # others, in both layers, weaker and denser
        activations[:, :, begin : begin + 200] += 0.3 * rng.normal(size=(600, 2, 1))
    activations[:, 1, :12] += 3 * rng.laplace(size=(600, 1))
    scale = 10.0 ** rng.uniform(-2, 2, size=(2, 300))  # standardising undoes it
    return (activations * scale).astype(np.float32)


def test_functional_finds_a_planted_network(planted_activations):
    options = {"documents": np.zeros(600), "n_texts": 1, "n_components": 6}
    scores = pruning.functional(planted_activations, **options, random_state=0)
    assert set(np.argsort(-scores[1])[:12]) == set(range(12))
    assert scores[1, :12].min() > 3.6
    assert len(set(np.argsort(-scores[0])[:12]) & set(range(12))) < 6
    given = xr.DataArray(planted_activations)
    again = pruning.functional(given, **options, random_state=0)
    np.testing.assert_allclose(again, scores, atol=1e-3)


@pytest.mark.filterwarnings("ignore:FastICA did not converge")
def test_functional_against_scikit_learn(planted_activations):
    """The exact singular vectors, for each run, and the largest |z|."""
    options = {"documents": np.repeat(np.arange(6), 100), "n_texts": 4}
    scores = pruning.functional(
        planted_activations, **options, n_components=4, random_state=3
    )
    expected = np.zeros((2, 300))
    for run in (slice(0, 400), slice(400, 600)):
        for layer in range(2):
            x = stats.zscore(planted_activations[run, layer].astype(float))
            vectors = np.linalg.svd(x, full_matrices=False)[2][:4]
            ica = FastICA(fun="cube", tol=1e-4, max_iter=300, random_state=3)
            maps = stats.zscore(ica.fit_transform(vectors.T))
            expected[layer] = np.maximum(expected[layer], np.abs(maps).max(1))
    # two fits may stop at different turns of what is as good as noise
    assert np.corrcoef(scores.ravel(), expected.ravel())[0, 1] > 0.95
    np.testing.assert_allclose(scores[1, :12], expected[1, :12], rtol=0.05)
    with pytest.raises(ValueError, match=r"n_components, .* tokens 400 to 599: .* 250"):
        pruning.functional(
            planted_activations, **options, n_components=250, random_state=3
        )


def test_functional_scores_of_text_are_those_of_its_activations(llama, text):
    tokens = tokenization.tokenize(llama.tokenizer, text).iloc[:120]
    tokens = tokens.assign(document=np.repeat(range(6), 20))
    options = {"n_texts": 3, "n_components": 4, "random_state": 0}
    found = pruning.functional_of_text(llama, tokens, window=32, stride=16, **options)
    passes = forward.forward_windows(
        llama, tokens, kinds=["ffn_hidden"], window=32, stride=16
    )
    values = [r.activations["ffn_hidden"].numpy().swapaxes(0, 1).copy() for r in passes]
    documents = tokens["document"].to_numpy()
    stored = np.concatenate(values).astype(np.float16)
    expected = pruning.functional(stored, documents=documents, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_speed_is_in_tokens_a_second(llama):
    speed = pruning.speed({"a": llama, "b": llama}, np.arange(1, 9), n_turns=2)
    assert list(speed) == ["a", "b"] and all(value > 0 for value in speed.values())
