import itertools
import json

import families
import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from anbn.masking import intervene, pruning
from anbn.models import loading, neurons, resizing, wiring
from anbn.models.structure import StructureError

PHI3 = families.Family(
    transformers.Phi3ForCausalLM,
    transformers.Phi3Config,
    families.SMALL,
    *("mlp", ("mlp.gate_up_proj",), "mlp.activation_fn", "mlp.down_proj"),
    "self_attn.o_proj",
)
ALL = {**families.FAMILIES, "phi3": PHI3}
DENSE = [name for name in ALL if name != "mixtral"]
NO_BIAS = ("mistral", "qwen2", "qwen3", "gemma3", "olmo2", "t5")
NO_BIAS = (*NO_BIAS, "phi3")  # nor a switch for it


@pytest.fixture(autouse=True)
def with_phi3(monkeypatch):
    monkeypatch.setattr(families, "FAMILIES", ALL)


def family(name, tokenizer=None, **options):
    return loading.LanguageModel(families.make(name, **options), tokenizer, "causal")


def output(lm, ids=families.IDS):
    with torch.inference_mode():
        return lm.model(ids)[0]


def silenced(lm, mask, to=None):
    with intervene.silence(lm.model, mask, "ffn_hidden", to=to):
        return output(lm)


def width_of(lm):
    return neurons.count_neurons(lm.model, "ffn_hidden")


def even(lm, rng, share=0.3):
    return pruning.choose(rng.random(width_of(lm)), share)


def uneven(lm, rng):
    return rng.random(width_of(lm)) < [[0.2], [0.0], [0.6]]


@pytest.mark.parametrize("name", DENSE)
def test_layers_are_found(name):
    found = wiring.find_feedforward(families.make(name))
    for layer in found:
        block = layer.down.removesuffix(ALL[name].down)
        assert set(layer.up) == {block + path for path in ALL[name].up}
    layouts = {layout for layer in found for layout in layer.up.values()}
    assert layouts == {"halves" if name == "phi3" else "plain"}


@pytest.mark.parametrize("name", DENSE)
def test_cut_equals_silenced(name, rng):
    lm = family(name)
    whole, before = output(lm), pruning.size(lm)
    for mask in (even(lm, rng), uneven(lm, rng)):
        cut = pruning.cut(lm, mask)
        expected = silenced(lm, mask)
        torch.testing.assert_close(output(cut), expected, atol=1e-5, rtol=1e-5)
        assert (expected - whole).abs().max() > 1e-3
        a_unit = sum(
            weight.numel()
            for path in (*ALL[name].up, ALL[name].down)
            for weight in neurons.find_blocks(lm.model)[0]
            .get_submodule(path)
            .parameters()
            if weight.dim() == 2
        )
        lost = before["parameters"] - pruning.size(cut)["parameters"]
        assert lost >= mask.sum() * a_unit // mask.shape[1]
    assert torch.equal(output(lm), whole) and pruning.size(lm) == before


@pytest.mark.parametrize("name", DENSE)
def test_compensation_equals_units_at_their_means(name, rng):
    lm = family(name)
    mean = rng.normal(size=width_of(lm)).astype(np.float32)
    for mask in (even(lm, rng), uneven(lm, rng)):

        def set_to_mean(layer, mask=mask):
            cut, to = torch.tensor(mask[layer]), torch.tensor(mean[layer])
            return lambda activations: torch.where(cut, to, activations)

        with neurons.edit(
            lm.model, "ffn_hidden", {i: set_to_mean(i) for i in range(3)}
        ):
            expected = output(lm)
        cut = pruning.cut(lm, mask, mean=mean)
        torch.testing.assert_close(output(cut), expected, atol=1e-5, rtol=1e-5)
        assert (expected - output(pruning.cut(lm, mask))).abs().max() > 1e-3


@pytest.mark.parametrize("compensated", [False, True])
@pytest.mark.parametrize("name", DENSE)
def test_one_width_needs_no_key_of_ours(name, compensated, rng):
    """The same class, built from the configuration, takes the weights."""
    lm = family(name)
    mean = rng.normal(size=width_of(lm)) if compensated else None
    cut = pruning.cut(lm, even(lm, rng), mean=mean)
    own = hasattr(cut.model.config, resizing.KEY)
    assert own == (compensated and name in NO_BIAS)
    if not own:
        other = type(cut.model)(cut.model.config).eval()
        other.load_state_dict(cut.model.state_dict())
        again = loading.LanguageModel(other, None, "causal")
        torch.testing.assert_close(output(again), output(cut), atol=0, rtol=0)


def test_sizes_that_coincide_do_not_mislead(rng):
    """As many queries and words as hidden units, before cutting or after."""
    for n_out, n_left in ((40, 28), (40, 20), (24, 28)):
        config = transformers.Qwen3Config(
            **{**families.SMALL, "head_dim": n_out // 4, "vocab_size": 40}
        )
        torch.manual_seed(0)
        model = transformers.Qwen3ForCausalLM(config).eval().requires_grad_(False)
        lm = loading.LanguageModel(model, None, "causal")
        mask = even(lm, rng, 1 - n_left / 40)
        cut = pruning.cut(lm, mask)
        torch.testing.assert_close(output(cut), silenced(lm, mask))
        assert cut.model.config.intermediate_size == n_left
        assert cut.model.config.vocab_size == 40


@pytest.mark.parametrize("name", ["qwen3", "llama", "opt"])
def test_as_wide_as_the_residual_stream(name, rng):
    """There the output projection of attention must not pass for the layer."""
    lm = family(name)  # heads of qwen3 put out 40 units, the stream has 24
    mask = even(lm, rng, 0.4)
    cut = pruning.cut(lm, mask)
    assert width_of(cut) == (3, 24)
    torch.testing.assert_close(output(cut), silenced(lm, mask), atol=1e-5, rtol=1e-5)
    again = type(cut.model)(cut.model.config).eval()
    again.load_state_dict(cut.model.state_dict())
    found = wiring.find_feedforward(again)
    assert [layer.down for layer in found] == [
        layer.down for layer in wiring.find_feedforward(lm.model)
    ]


def test_in_inference_mode_and_with_shared_weights(rng):
    lm = family("gpt2")  # input and output embeddings are one
    with torch.inference_mode():
        cut = pruning.cut(lm, even(lm, rng))
    assert cut.model.lm_head.weight is cut.model.transformer.wte.weight
    assert not any(p.is_inference() for p in cut.model.parameters())
    whole = sum(p.numel() for p in {id(p): p for p in cut.model.parameters()}.values())
    assert pruning.size(cut) == {"parameters": whole, "bytes": 4 * whole}


def test_precision_is_kept_and_an_empty_mask_changes_nothing(rng):
    lm = family("llama")
    cut = pruning.cut(lm, np.zeros((3, 40), bool))
    assert torch.equal(output(cut), output(lm))
    assert cut.fingerprint() == lm.fingerprint()
    lm.model.bfloat16()
    cut = pruning.cut(lm, even(lm, rng), mean=np.ones(width_of(lm)))
    assert {p.dtype for p in cut.model.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in cut.model.parameters())


def test_cut_twice_and_what_cannot_be_cut(rng):
    lm = family("llama")
    mask = even(lm, rng)
    once = pruning.cut(lm, mask)
    twice = pruning.cut(once, even(once, rng, 0.5))
    assert twice.model.config.intermediate_size == 14
    ragged, whole = pruning.cut(lm, uneven(lm, rng)), np.zeros((3, 40), bool)
    whole[1] = True
    for message, given, wrong in [
        ("different numbers of units already", ragged, mask),
        (r"all 40 units of layers \[1\]", lm, whole),
        (r"bool mask of shape \(3, 40\)", lm, np.zeros((3, 41), bool)),
        ("mixture of experts cannot be cut", family("mixtral"), np.zeros((3, 160))),
    ]:
        with pytest.raises(ValueError, match=message):
            pruning.cut(given, wrong)


def test_hidden_units_that_mix_are_refused():
    """As in BitNet: a norm between the gated units and the layer after them."""
    lm = family("llama")
    mlp = lm.model.model.layers[1].mlp
    mlp.act_fn = torch.nn.Sequential(torch.nn.SiLU(), torch.nn.LayerNorm(40))
    with pytest.raises(StructureError, match=r"block 1.*with units that mix"):
        pruning.cut(lm, np.zeros((3, 40), bool))


def test_gate_and_up_in_turns(rng):
    """As in gpt-oss: gate, up, gate, up, ..."""

    class Pairs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.both = torch.nn.Linear(24, 80)
            self.down_proj = torch.nn.Linear(40, 24)

        def forward(self, x):
            both = self.both(x)
            return self.down_proj(both[..., ::2].sigmoid() * both[..., 1::2])

    lm = family("llama")
    torch.manual_seed(0)
    for layer in lm.model.model.layers:
        layer.mlp = Pairs()
    found = wiring.find_feedforward(lm.model)
    assert found[2].up == {"model.layers.2.mlp.both": "pairs"}
    rows = wiring.rows_of(torch.tensor([0, 3]), "pairs", 40)
    assert rows.tolist() == [0, 1, 6, 7]


@pytest.fixture
def saved(tokenizer, tmp_path, rng):
    """Saves a family's model, cut, and gives it with its folder."""

    def save(name, kind, compensated):
        lm = family(name, tokenizer)
        mask = even(lm, rng) if kind == "even" else uneven(lm, rng)
        mean = rng.normal(size=mask.shape) if compensated else None
        cut = pruning.cut(lm, mask, mean=mean)
        cut.model.config.use_cache = False
        pruning.save(cut, tmp_path / "model")
        assert cut.model.config.use_cache is False
        return cut, tmp_path / "model"

    return save


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "falcon", "phi3"])
def test_plain_transformers_load_it(saved, name):
    for compensated in (False, True)[: 1 if name in NO_BIAS else 2]:
        cut, folder = saved(name, "even", compensated)
        plain = AutoModelForCausalLM.from_pretrained(folder)
        torch.testing.assert_close(
            plain(families.IDS).logits, output(cut), atol=0, rtol=0
        )
        assert plain.config.use_cache
        loaded = loading.load_model(str(folder), device="cpu")
        assert loaded.fingerprint() == cut.fingerprint()


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3", "phi3"])
def test_widths_of_their_own_need_our_loader(saved, name):
    for kind, compensated in itertools.product(("even", "uneven"), (False, True)):
        if kind == "even" and not (compensated and name in NO_BIAS):
            continue
        cut, folder = saved(name, kind, compensated)
        for auto in (AutoModelForCausalLM, type(cut.model)):
            with pytest.raises(OSError, match=r"no file named model\.safetensors"):
                auto.from_pretrained(folder)
        loaded = loading.load_model(str(folder), device="cpu")
        assert type(loaded.model) is type(cut.model) and loaded.head == "causal"
        torch.testing.assert_close(output(loaded), output(cut), atol=0, rtol=0)
        listed = json.loads((folder / "config.json").read_text())[resizing.KEY]
        for path, (n_in, n_out, bias) in listed.items():
            linear = loaded.model.get_submodule(path)
            assert tuple(wiring.matrix(linear).shape) == (n_out, n_in)
            assert (linear.bias is not None) == bias


def test_other_ways_to_load_widths_of_their_own(saved, rng):
    cut, folder = saved("llama", "uneven", True)
    loaded = loading.load_model(str(folder), head="none", device="cpu")
    with torch.inference_mode():
        expected = cut.model.model(families.IDS)[0]
    assert loaded.head == "none" and torch.equal(output(loaded), expected)
    again = loading.load_model(str(folder), dtype="bfloat16", device="cpu")
    assert {p.dtype for p in again.model.parameters()} == {torch.bfloat16}
    a, b, c = (
        loading.load_model(str(folder), random_weights=s, device="cpu")
        for s in (1, 1, 2)
    )
    assert pruning.size(a) == pruning.size(cut)
    assert torch.equal(output(a), output(b)) and not torch.equal(output(a), output(c))
    with pytest.raises(loading.ModelError, match=r"use head='causal' or 'none', found"):
        loading.load_model(str(folder), head="masked")


def test_a_configuration_that_does_not_fit_its_weights(saved):
    _, folder = saved("llama", "uneven", False)
    config = json.loads((folder / "config.json").read_text())
    listed, key = config[resizing.KEY], "model.layers.0.mlp.down_proj"
    others = listed | {"model.layers.9.mlp": listed[key]}
    n_in, n_out, bias = listed[key]
    for change, message in [
        ({resizing.KEY: listed | {key: [n_in + 1, n_out, bias]}}, "cannot be loaded"),
        ({resizing.KEY: others}, r"model\.layers\.9\.mlp"),
        ({"architectures": ["SomethingElse"]}, "has no class SomethingElse"),
    ]:
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(loading.ModelError, match=message):
            loading.load_model(str(folder), device="cpu")


def test_an_encoder_is_saved_and_loaded(bert, tmp_path, rng):
    ids = torch.arange(1, 9)[None]
    for mask in (even(bert, rng), uneven(bert, rng)):
        cut = pruning.cut(bert, mask)
        pruning.save(cut, tmp_path / "model")
        loaded = loading.load_model(str(tmp_path / "model"), device="cpu")
        torch.testing.assert_close(output(loaded, ids), output(cut, ids))


def test_saving_leaves_nothing_half_done(llama, tmp_path, monkeypatch):
    pruning.save(llama, tmp_path / "model")

    def full(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(llama.tokenizer, "save_pretrained", full, raising=False)
    with pytest.raises(OSError, match="no space"):
        pruning.save(llama, tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    loading.load_model(str(tmp_path / "model"), device="cpu")


def test_choose_uniform_against_a_loop(rng):
    scores = rng.normal(size=(6, 10)) * np.arange(1, 7)[:, None]
    for protect, count in (((0, 0), 3), ((1, 2), 6)):
        mask = pruning.choose(scores, 0.3, protect=protect)
        for i, row in enumerate(scores):
            n = count if protect[0] <= i < 6 - protect[1] else 0
            assert set(np.flatnonzero(mask[i])) == set(np.argsort(row)[:n])
        assert mask.sum() == 18


def test_choose_global_against_a_loop(rng):
    scores = rng.gamma(1.0, size=(6, 10)) * 10.0 ** np.arange(6)[:, None]
    mask = pruning.choose(scores, 0.25, budget="global", protect=(1, 1))
    candidates = []
    for layer in range(1, 5):
        row = scores[layer]
        z = (row - row.mean()) / row.std()
        candidates += [(z[j], layer, j) for j in range(10) if j != row.argmax()]
    lowest = {(i, j) for _, i, j in sorted(candidates)[:15]}
    assert set(map(tuple, np.argwhere(mask))) == lowest


def test_choose_leaves_a_unit_in_every_layer():
    scores = np.stack([np.zeros(5), np.arange(5.0), np.full(5, 9.0)])
    for budget in ("uniform", "global"):
        mask = pruning.choose(scores, 0.8, budget=budget)
        assert mask.sum(1).tolist() == [4, 4, 4]
    assert not pruning.choose(scores, 0.0).any()
    assert mask[2].tolist() == [True] * 4 + [False]  # the first of equals


def test_choose_leaves_round_numbers(rng):
    scores = rng.normal(size=(6, 50)) ** 2
    mask = pruning.choose(scores, 0.3, multiple=8)
    assert (~mask).sum(1).tolist() == [32] * 6  # of 35
    assert (mask <= pruning.choose(scores, 18 / 50)).all()
    exact = pruning.choose(scores, 0.3, budget="global", protect=(1, 0))
    mask = pruning.choose(scores, 0.3, budget="global", protect=(1, 0), multiple=8)
    left = (~mask).sum(1)
    assert left[0] == 50 and set(left[1:]) <= {8, 16, 24, 32, 40, 48}
    assert (np.abs(left - (~exact).sum(1)) <= 4).all()
    assert not pruning.choose(scores, 0.0, multiple=8).any()


@pytest.mark.parametrize(
    ("share", "options", "message"),
    [
        (1.0, {}, "at most 27 can be cut out: a share of 0.900"),
        (1.0, {"budget": "global"}, "at most 27"),
        (0.5, {"protect": (1, 1)}, "first_layers 1, last_layers 1.* share of 0.300"),
        (0.1, {"protect": (2, 1)}, "first_layers 2 and last_layers 1 .* the 3 layers"),
        (0.5, {"spare": np.ones((3, 10), bool)}, "30 units to spare"),
    ],
)
def test_choose_refuses(share, options, message):
    with pytest.raises(ValueError, match=message):
        pruning.choose(np.ones((3, 10)), share, **options)


@pytest.mark.filterwarnings("error")
def test_speed_reads_tokens_that_cannot_be_written(llama):
    ids = np.arange(12)
    ids.flags.writeable = False  # as columns of a table are
    found = pruning.speed({"intact": llama}, ids, n_turns=1)
    assert list(found) == ["intact"] and found["intact"] > 0
