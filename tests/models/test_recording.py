import copy
import itertools
import json
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from families import captured, make
from tokenizers.processors import TemplateProcessing

from anbn.brain import clock as brain_clock
from anbn.core import artifacts
from anbn.core.artifacts import sha256
from anbn.core.paths import project_root
from anbn.models import forward, loading, neurons, recording, stores
from anbn.models.loading import LanguageModel
from anbn.text import stories, tokenization

KINDS = ["ffn_hidden", "ffn_out"]
WHOLE = {"window": 64, "stride": 64}


@pytest.fixture
def tokens(tokenizer, text):
    return tokenization.tokenize(tokenizer, text)


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_store_equals_a_plain_forward_pass(name, request, tokens, tmp_path):
    lm, tokens = request.getfixturevalue(name), tokens.iloc[:20]
    options = {"kinds": neurons.KINDS, "dtype": "float32", **WHOLE}
    recording.record(lm, tokens, tmp_path / "s", **options)
    found = {kind: [] for kind in neurons.KINDS}

    def receive(kind, i, activations):
        assert len(found[kind]) == i
        found[kind].append(activations[0].clone())

    with torch.inference_mode(), neurons.capture(lm.model, neurons.KINDS, receive):
        lm.model(torch.tensor(tokens["id"].to_numpy())[None])
    for kind in neurons.KINDS:
        stored = stores.open_activations(tmp_path / "s", kind)
        assert stored.dims == ("token", "layer", "neuron")
        np.testing.assert_array_equal(stored, torch.stack(found[kind], 1))


def test_statistics_of_a_store(llama, tokens, tmp_path):
    store = tmp_path / "story"
    recording.record(
        llama, tokens.iloc[:20], store, kinds=["ffn_out"], window=8, stride=4
    )
    stores.write_statistics(tmp_path / "s.npz", store, ["ffn_out"])
    found = artifacts.read_arrays(tmp_path / "s.npz")
    activations = stores.open_activations(store, "ffn_out").to_numpy().astype(float)
    np.testing.assert_allclose(found["mean_ffn_out"], activations.mean(0), atol=1e-6)
    np.testing.assert_allclose(found["variance_ffn_out"], activations.var(0), atol=1e-6)


def test_documents_are_kept_apart(llama, tokens, tmp_path):
    tokens["document"] = np.repeat([0, 1], [60, len(tokens) - 60])
    options = {"kinds": KINDS, "dtype": "float32", **WHOLE}
    recording.record(llama, tokens, tmp_path / "both", **options)
    second = tokens.iloc[60:].reset_index(drop=True)
    recording.record(llama, second, tmp_path / "one", **options)
    both, one = (
        stores.open_activations(tmp_path / n, "ffn_out") for n in ("both", "one")
    )
    np.testing.assert_array_equal(both[60:], one)
    losses = stores.read_tokens(tmp_path / "both")["surprisal"]
    assert losses.isna().to_numpy().nonzero()[0].tolist() == [0, 60]


def test_every_token_has_its_context(llama, tokens):
    """In windows each token is what it is after exactly those tokens before it."""
    options = {"window": 20, "stride": 7, "kinds": ["hidden"], "surprisal": True}
    at = 0
    for recorded in forward.forward_windows(llama, tokens, **options):
        assert recorded.rows.start == at
        at = end = recorded.rows.stop
        begin = max(0, end - 20)
        assert end == len(tokens) or recorded.rows.start - begin >= min(
            recorded.rows.start, 13
        )
        ids = torch.tensor(tokens["id"].to_numpy()[begin:end])[None]
        logits = llama.model(ids).logits[0]
        n = end - recorded.rows.start
        expected = captured(llama.model, ["hidden"], ids)["hidden"][:, 0, -n:]
        np.testing.assert_allclose(
            recorded.activations["hidden"], expected, atol=1e-6, rtol=0
        )
        losses = torch.nn.functional.cross_entropy(
            logits[:-1], ids[0, 1:], reduction="none"
        )
        np.testing.assert_allclose(
            recorded.surprisal[-len(losses) :], losses[-n:], atol=1e-5
        )
    assert at == len(tokens)


@pytest.mark.parametrize(
    "family", ["llama", "gpt2", "opt", "roberta", "mpnet", "t5", "mixtral", "mistral"]
)
def test_padded_batches_equal_one_by_one(family, tokenizer, tokens):
    causal = family in ("llama", "gpt2", "opt", "mixtral", "mistral")
    padded = type(tokenizer)(
        tokenizer_object=tokenizer.backend_tokenizer,
        unk_token="[UNK]",
        pad_token="[UNK]",
    )
    lm = LanguageModel(make(family), padded, "causal" if causal else "none")
    lengths = [5, 30, 1, 12, 40, 8]  # documents, some longer than a window
    tokens = tokens.iloc[: sum(lengths)].assign(
        document=np.repeat(np.arange(len(lengths)), lengths)
    )
    tokens["id"] = tokens["id"].clip(lower=3)  # none that looks like padding
    options = {"kinds": neurons.KINDS, "window": 16, "stride": 8}
    options |= {"surprisal": True, "entropy": True}
    one, many = (collect(lm, tokens, batch_size=n, **options) for n in (1, 4))
    for name, values in one.items():
        np.testing.assert_allclose(values, many[name], atol=1e-4, err_msg=name)
    assert (causal and np.isfinite(one["entropy"]).sum()) == (
        causal and len(tokens) - len(lengths)
    )


def collect(lm, tokens, **options):
    """All that a model does over some tokens, in memory."""
    parts = []
    for r in forward.forward_windows(lm, tokens, **options):
        copies = {k: v.clone().movedim(0, 1) for k, v in r.activations.items()}
        extra = {"surprisal": r.surprisal, "entropy": r.entropy}
        parts.append(copies | {k: v for k, v in extra.items() if v is not None})
    return {k: torch.cat([p[k] for p in parts]).numpy() for k in parts[0]}


def test_surprisal_and_entropy_are_the_models_own(llama, tokens):
    tokens = tokens.iloc[:40]
    ids = torch.tensor(tokens["id"].to_numpy())
    found = collect(llama, tokens, **WHOLE, surprisal=True, entropy=True)
    output = llama.model(ids[None], labels=ids[None])
    assert np.nanmean(found["surprisal"]) == pytest.approx(float(output.loss), rel=1e-5)
    p = output.logits[0, :-1].softmax(-1).double()
    np.testing.assert_allclose(found["entropy"][1:], -(p * p.log()).sum(-1), atol=1e-5)
    assert np.isnan(found["entropy"][0]) and np.isnan(found["surprisal"][0])


def test_chosen_layers(llama, tokens, tmp_path):
    options = {"kinds": KINDS, "dtype": "float32", **WHOLE}
    recording.record(llama, tokens, tmp_path / "all", **options)
    recording.record(llama, tokens, tmp_path / "one", layers=[1], **options)
    every = stores.open_activations(tmp_path / "all", "ffn_hidden")
    one = stores.open_activations(tmp_path / "one", "ffn_hidden")
    np.testing.assert_array_equal(one.sel(layer=1), every.sel(layer=1))
    with pytest.raises(KeyError):
        one.sel(layer=0)


@pytest.mark.parametrize(
    ("where", "name", "error"),
    [
        (forward, "_forward", KeyboardInterrupt()),
        (stores.Writer, "_write", OSError(28, "No space left on device")),
    ],
)
def test_interrupted_recording_goes_on(
    where, name, error, llama, tokens, tmp_path, monkeypatch
):
    monkeypatch.setattr(stores, "TOKEN_BLOCK", 16)
    run, seen, last = getattr(where, name), [], [0]

    def dying(*args, **options):
        seen.append(args)
        if len(seen) == last[0]:
            raise error
        return run(*args, **options)

    monkeypatch.setattr(where, name, dying)
    options = {"kinds": KINDS, "window": 24, "stride": 10, "batch_size": 2}
    recording.record(llama, tokens, tmp_path / "whole", **options)
    n_whole = len(seen)
    last[0] = n_whole + 5
    with pytest.raises(type(error)):
        recording.record(llama, tokens, tmp_path / "s", **options)
    partial = json.loads((tmp_path / "s.partial" / "store.json").read_text())
    assert 0 < partial["n_recorded"] < partial["n_tokens"] == len(tokens)
    assert not (tmp_path / "s").exists()
    recording.record(llama, tokens, tmp_path / "s", **options)
    assert sha256(tmp_path / "s") == sha256(tmp_path / "whole")
    assert not (tmp_path / "s.partial").exists()
    assert len(seen) - last[0] < n_whole - 2  # it did not begin anew


def test_a_partial_store_of_something_else_is_not_gone_on_with(
    llama, tokens, tmp_path, monkeypatch
):
    monkeypatch.setattr(stores, "TOKEN_BLOCK", 16)
    options = {"kinds": KINDS, **WHOLE}
    shapes = {"ffn_hidden": (2, 40), "ffn_out": (2, 24)}
    changes = [{}, {"window": 32, "stride": 32}, {"layers": [0]}, {"kinds": ["hidden"]}]
    for change in changes:
        about = {"dtype": "float16", "layers": None, "predictions": False}
        with (
            pytest.raises(RuntimeError),
            stores.writing(tmp_path / "s", tokens, shapes, about),
        ):
            raise RuntimeError
        assert (tmp_path / "s.partial").is_dir()
        recording.record(llama, tokens, tmp_path / "s", **{**options, **change})
        recording.record(llama, tokens, tmp_path / "t", **{**options, **change})
        assert sha256(tmp_path / "s") == sha256(tmp_path / "t")


def test_killed_recording_goes_on(tokenizer, tmp_path, monkeypatch):
    """SIGKILL at some moment of a real process; then the same store."""
    script = """
        import sys, time
        from conftest import *
        from models.test_recording import of_killed
        from anbn.models import recording, stores
        stores.TOKEN_BLOCK = 16
        write = stores.Writer._write
        def slow(self, *args):
            write(self, *args)
            print(self.n_recorded, flush=True)
            time.sleep(0.05)
        stores.Writer._write = slow
        of_killed(tokenizer.__wrapped__(), sys.argv[1])
    """
    command = [sys.executable, "-c", textwrap.dedent(script), tmp_path / "s"]
    options = {"cwd": project_root() / "tests", "stdout": subprocess.PIPE}
    killed = subprocess.Popen(command, **options)
    for line in killed.stdout:
        if int(line) >= 160:
            killed.send_signal(signal.SIGKILL)
            break
    killed.wait()
    assert not (tmp_path / "s").exists()
    monkeypatch.setattr(stores, "TOKEN_BLOCK", 16)
    begun, passes = [], forward.forward_windows

    def noticed(*args, **options):
        begun.append(options["start"])
        return passes(*args, **options)

    monkeypatch.setattr(forward, "forward_windows", noticed)
    for name in ("s", "whole"):
        of_killed(tokenizer, tmp_path / name)
    assert begun[0] >= 160 and begun[1] == 0
    assert sha256(tmp_path / "s") == sha256(tmp_path / "whole")


def of_killed(tokenizer, path):
    lm = LanguageModel(make("llama"), tokenizer, "causal")
    tokens = pd.DataFrame({"id": [3 + i % 40 for i in range(400)]})
    options = {"kinds": ["ffn_hidden"], "window": 16, "stride": 16}
    recording.record(lm, tokens, path, **options)


def test_overflow_is_an_error_and_leaves_nothing(llama, tokens, tmp_path, monkeypatch):
    huge = {"ffn_out": torch.full((2, 9, 24), 1e5).half()}
    recorded = forward.Recorded(slice(0, 9), huge, None, None)
    monkeypatch.setattr(forward, "forward_windows", lambda *_, **__: iter([recorded]))
    with pytest.raises(OverflowError, match="store_dtype: float32"):
        recording.record(
            llama, tokens.iloc[:9], tmp_path / "s", kinds=["ffn_out"], **WHOLE
        )
    assert list(tmp_path.iterdir()) == []


def overflowing(llama, tokenizer, word=None):
    """The model with a residual stream that float16 does not hold, where a word is."""
    model = copy.deepcopy(llama.model)
    ids = slice(None) if word is None else tokenizer.convert_tokens_to_ids(word)
    model.model.embed_tokens.weight[ids] = 9e4
    return LanguageModel(model, tokenizer, "causal")


def test_every_kind_that_does_not_fit_is_told_before_the_recording(
    llama, tokenizer, tokens, tmp_path
):
    lm = overflowing(llama, tokenizer)
    with pytest.raises(OverflowError) as told:
        recording.check_range(lm, tokens, kinds=["ffn_hidden", "hidden"])
    message = str(told.value)
    assert "hidden (first at token 0, 'away', up to 90,000)" in message
    assert "ffn_hidden" not in message and "store_dtype: float32" in message
    assert "float16 holds up to 65,504" in message
    recording.check_range(lm, tokens, kinds=neurons.KINDS, dtype="float32")
    recording.check_range(llama, tokens, kinds=neurons.KINDS)
    lm.model.model.layers[1].mlp.down_proj.weight.fill_(torch.inf)
    with pytest.raises(OverflowError, match=r"hidden \(first.*float32, itself over"):
        recording.check_range(lm, tokens, kinds=["hidden"], dtype="float32")
    with pytest.raises(OverflowError, match=r"ffn_out .*, hidden .*store_dtype"):
        recording.check_range(lm, tokens, kinds=["ffn_out", "hidden"])


def test_what_does_not_fit_later_is_told_at_its_window(llama, tokenizer, tokens):
    lm = overflowing(llama, tokenizer, "!")
    late = len(tokens) // 2
    tokens.loc[late, "id"] = tokenizer.convert_tokens_to_ids("!")
    options = {"window": 32, "stride": 16, "kinds": ["hidden"]}
    seen = []
    for recorded in forward.forward_windows(lm, tokens, dtype="float16", **options):
        if recorded.rows.stop > late:
            break
        recording.check_finite(recorded, "float16", lm.model, tokens)
        seen.append(recorded.rows.stop)
    with pytest.raises(OverflowError, match=rf"first at token {late}.*store_dtype: f"):
        recording.check_finite(recorded, "float16", lm.model, tokens)
    assert len(seen) > 1


def test_what_is_read_with_nothing_before_it(llama, tokenizer, text):
    options = {"window": 20, "stride": 8}
    words = stories.split_words(text)
    tokens = tokenization.tokenize(tokenizer, text, words)
    first = forward.read_first(llama, tokens, **options)
    assert first.nonzero()[0].tolist() == [0]
    tokens["document"] = np.repeat([0, 1], [60, len(tokens) - 60])
    first = forward.read_first(llama, tokens, **options)
    assert first.nonzero()[0].tolist() == [0, 60]
    # windows that do not overlap
    first = forward.read_first(llama, tokens[:60], window=20, stride=20)
    assert first.nonzero()[0].tolist() == [0, 20, 40]
    # a short context overlaps whatever is asked for
    first = forward.read_first(llama, tokens[:60], window=900, stride=900)
    assert first.nonzero()[0].tolist() == [0]
    begins = copy.deepcopy(tokenizer)
    mark = tokenizer.convert_tokens_to_ids("!")
    begins.backend_tokenizer.post_processor = TemplateProcessing(
        single="! $A", special_tokens=[("!", mark)]
    )
    lm = LanguageModel(llama.model, begins, "causal")
    assert not forward.read_first(lm, tokens, **options).any()


@pytest.mark.parametrize("leave_out", [True, False])
def test_the_first_token_stays_out_of_responses(llama, tokenizer, leave_out):
    """Alone, not the other tokens of its word, and nothing else changes."""
    text = "wouldn't the cat sat on a mat"
    words = stories.split_words(text)
    words["onset"] = np.arange(7) * 1.5
    options = {"window": 32, "stride": 16}
    tokens = forward.story_tokens(
        llama, text, words, **options, leave_out_first=leave_out
    )
    plain = tokenization.tokenize(tokenizer, text, words)
    assert plain["word"].tolist()[:2] == [0, 0]
    assert tokens["left_out"].tolist() == [leave_out, *[False] * (len(plain) - 1)]
    assert tokens["word"].tolist()[1:] == plain["word"].tolist()[1:]
    assert tokens["word"][0] == (-1 if leave_out else 0)
    activations = np.ones((len(tokens), 1))
    activations[0] = 1e4
    clock = {"n_times": 20, "tr": 1.0}
    H = brain_clock.alignment_matrix(tokens["word"], words["onset"], **clock)
    rate = brain_clock.word_rate(words["onset"], **clock)
    assert (np.abs(H @ activations).max() > 100) is not leave_out
    summed = brain_clock.alignment_matrix(
        tokens["word"], words["onset"], **clock, pooling="sum"
    )
    np.testing.assert_allclose(summed @ np.ones(len(tokens)), rate, atol=1e-9)


def test_a_first_word_of_one_token_is_left_out_whole(llama):
    words = stories.split_words("the cat sat on a mat")
    options = {"window": 32, "stride": 16, "leave_out_first": True}
    tokens = forward.story_tokens(llama, "the cat sat on a mat", words, **options)
    assert not (tokens["word"] == 0).any()
    onset, clock = np.arange(6) * 1.5, {"n_times": 20, "tr": 1.0}
    summed = brain_clock.alignment_matrix(tokens["word"], onset, **clock, pooling="sum")
    rate = brain_clock.word_rate(onset[1:], **clock)
    np.testing.assert_allclose(summed @ np.ones(len(tokens)), rate, atol=1e-9)
    options |= {"window": 8, "stride": 9}
    with pytest.raises(ValueError, match=r"stride must lie in 1 to window \(8\).* 9"):
        forward.story_tokens(llama, "the cat sat on a mat", words, **options)


def test_responses_without_a_store_are_finite_or_refused(llama, tokenizer, tokens):
    lm = overflowing(llama, tokenizer)
    lm.model.model.layers[1].mlp.down_proj.weight.fill_(torch.inf)
    H = scipy.sparse.csr_array(np.ones((3, len(tokens))))
    with pytest.raises(OverflowError, match=r"ffn_out .*float32, itself overflows"):
        recording.stream_responses(lm, tokens, H, kinds=["ffn_out"], **WHOLE)


def test_writing_overlaps_the_models_pass(llama, tokens, tmp_path, monkeypatch):
    """The first block is not written before the second pass has begun."""
    begun, n_passes = threading.Event(), itertools.count()
    run, append = forward._forward, stores.Writer.append

    def noticed(*args, **options):
        if next(n_passes) == 1:
            begun.set()
        return run(*args, **options)

    def waiting(self, *args):
        assert begun.wait(timeout=60)
        append(self, *args)

    monkeypatch.setattr(forward, "_forward", noticed)
    monkeypatch.setattr(stores.Writer, "append", waiting)
    options = {"kinds": ["ffn_out"], "window": 32, "stride": 32}
    recording.record(llama, tokens, tmp_path / "s", **options)


def test_bfloat16_model(tokenizer, tokens, tmp_path):
    lm = LanguageModel(make("llama").bfloat16(), tokenizer, "causal")
    options = {"kinds": neurons.KINDS, **WHOLE}
    recording.record(lm, tokens, tmp_path / "low", **options)
    full = LanguageModel(make("llama"), tokenizer, "causal")
    recording.record(full, tokens, tmp_path / "full", **options)
    for kind in neurons.KINDS:
        low, high = (
            stores.open_activations(tmp_path / n, kind).to_numpy().ravel().astype(float)
            for n in ("low", "full")
        )
        assert np.corrcoef(low, high)[0, 1] > 0.999


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_cuda_equals_cpu(dtype, tokenizer, tokens):
    options = {"kinds": neurons.KINDS, "window": 24, "stride": 10, "batch_size": 3}
    options |= {"surprisal": True, "entropy": True}
    cpu, gpu = (
        collect(
            LanguageModel(make("llama").to(d, t), tokenizer, "causal"),
            tokens,
            **options,
        )
        for d, t in [("cpu", torch.float32), ("cuda", dtype)]
    )
    for name, values in cpu.items():
        known = np.isfinite(values)
        assert np.corrcoef(values[known], gpu[name][known])[0, 1] > 0.999, name


def test_a_model_spread_over_devices(tokenizer, tokens, tmp_path):
    """Two blocks in memory and one on disk give what one device gives."""
    model = make("llama")
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    plan = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu"}
    plan |= {"model.layers.0": "cpu", "model.layers.1": "disk"}
    plan |= {"model.layers.2": "cpu", "model.norm": "cpu", "lm_head": "disk"}
    spread = loading.load_model(str(tmp_path / "model"), device=plan)
    types = {p.device.type for p in spread.model.parameters()}
    assert types == {"cpu", "meta"}
    whole = loading.load_model(str(tmp_path / "model"), device="cpu")
    options = {"kinds": neurons.KINDS, "surprisal": True, **WHOLE}
    a, b = (collect(lm, tokens.iloc[:50], **options) for lm in (spread, whole))
    for name, values in a.items():
        np.testing.assert_array_equal(values, b[name])
    fresh = loading.load_model(str(tmp_path / "model"), device=plan, random_weights=3)
    same = loading.load_model(str(tmp_path / "model"), device="cpu", random_weights=3)
    a, b = (collect(lm, tokens.iloc[:50], **options) for lm in (fresh, same))
    np.testing.assert_array_equal(a["hidden"], b["hidden"])
