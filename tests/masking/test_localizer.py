"""The language localizer: its stimuli, responses and t values."""

import numpy as np
import pytest
import torch

from anbn.masking import localizer
from anbn.masking.localizer import LocalizerError
from anbn.models import neurons

SENTENCES = ["the cat sat on a mat", "dog ran far away today .", "a cat", "the dog sat"]


def write_localizer(folder, change=None):
    """The ten files, with twelve distinct words a row."""
    for number, name in enumerate(localizer.FILES):
        head = ",".join(f"stim{i}" for i in range(1, 15))
        lines = [
            ",".join([str(i), *(f"W{number}{i}X{j}" for j in range(12)), "SN"[i % 2]])
            for i in range(4)
        ]
        text = "\n".join([head, *lines]) + "\n"
        (folder / name).write_text(change(name, text) if change else text)


def test_load_reads_all_files(tmp_path):
    write_localizer(tmp_path)
    stimuli = localizer.load_sentences(tmp_path)
    assert len(stimuli) == 40
    assert stimuli["condition"].value_counts().to_dict() == {
        "sentence": 20,
        "non-words": 20,
    }
    assert stimuli["sentence"][0] == " ".join(f"w00x{j}" for j in range(12))
    assert stimuli.groupby(["run", "set"]).size().tolist() == [4] * 10
    assert stimuli.iloc[-1][["run", "set"]].tolist() == [2, 5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("stim14", "kind"), "set3.csv has no columns stim14"),
        (lambda t: t.replace(",N\n", ",X\n", 1), "set3.csv, line 3: expected twelve"),
        (lambda t: t.replace("W20X5", ""), "set3.csv, line 2: expected twelve words"),
        (lambda t: t.replace("W22X", "W20X"), "1 stimuli come twice, first 'w20x0 "),
        (lambda t: t.replace(",N\n", ",S\n"), "expected as many sentences as strings"),
    ],
)
def test_bad_stimuli_are_refused(tmp_path, change, message):
    broken = "langloc_fmri_run1_stim_set3.csv"
    write_localizer(
        tmp_path, lambda name, text: change(text) if name == broken else text
    )
    with pytest.raises(LocalizerError, match=message):
        localizer.load_sentences(tmp_path)
    (tmp_path / broken).unlink()
    with pytest.raises(LocalizerError, match=r"set3.csv is missing: expected 10 such"):
        localizer.load_sentences(tmp_path)


def test_published_stimuli():
    from anbn.core.paths import resolve

    try:
        folder = resolve(localizer.STIMULI)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    stimuli = localizer.load_sentences(folder)
    assert stimuli["condition"].value_counts().tolist() == [240, 240]
    assert (stimuli["sentence"].str.split().str.len() == 12).all()
    first = stimuli.groupby("condition")["sentence"].first()
    assert first["sentence"].startswith("just the barest suggestion of a heel")
    assert first["non-words"].startswith("pome oy ree holily")


def alone(language_model, sentence, kind, n=None):
    """Activations (n_layers, n_tokens, n_neurons) of one sentence, by hand."""
    ids = language_model.tokenizer(sentence)["input_ids"][:n]
    shown = {}

    def receive(_, i, values):
        shown[i] = values[0].float()

    with torch.inference_mode(), neurons.capture(language_model.model, [kind], receive):
        language_model.model(torch.tensor([ids]))
    return torch.stack([shown[i] for i in sorted(shown)]).numpy()


@pytest.mark.parametrize("kind", ["ffn_hidden", "ffn_out", "attn_out"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_responses_equal_one_pass_a_sentence(llama, kind, batch_size):
    sentences = [*SENTENCES, " ".join(SENTENCES)]  # longer than what is read
    options = {"batch_size": batch_size}
    found = localizer.sentence_activations(llama, sentences, kind, **options)
    assert found.shape[0] == len(sentences) and found.dtype == np.float32
    for sentence, values in zip(sentences, found, strict=True):
        expected = alone(llama, sentence, kind, 12)[:, -1]
        np.testing.assert_allclose(values, expected, atol=2e-6)
    some = localizer.sentence_activations(llama, sentences, kind, layers=[1], **options)
    np.testing.assert_array_equal(some[:, 0], found[:, 1])


def test_responses_without_a_head(bert):
    found = localizer.sentence_activations(bert, SENTENCES, "ffn_out", batch_size=2)
    expected = alone(bert, SENTENCES[2], "ffn_out")[:, -1]
    np.testing.assert_allclose(found[2], expected, atol=2e-6)


def planted_responses(rng, n=80):
    """Responses of (3, 50) neurons; those of layer 1 below 10 prefer sentences."""
    is_sentence = rng.random(n) < 0.4
    responses = rng.normal(size=(n, 3, 50)) * rng.uniform(0.1, 10, (3, 50))
    responses[:, 1, :10] += 2 * responses[:, 1, :10].std(0) * is_sentence[:, None]
    responses[:, 2, :10] *= 1 + is_sentence[:, None]  # unequal variance alone
    return responses.astype(np.float32), is_sentence


def test_localize_is_welch_and_finds_what_was_planted(rng):
    responses, is_sentence = planted_responses(rng)
    t = localizer.localize(responses, is_sentence)
    for layer, neuron in [(0, 0), (1, 3), (2, 5)]:
        values = responses[:, layer, neuron].astype(float)
        a, b = values[is_sentence], values[~is_sentence]
        by_hand = (a.mean() - b.mean()) / np.sqrt(
            a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)
        )
        assert t[layer, neuron] == pytest.approx(by_hand, rel=1e-5)
    assert t[1, :10].min() > np.delete(t.ravel(), np.arange(50, 60)).max()
    responses[:, 0, 0] = 3.0  # never changes
    t = localizer.localize(responses, is_sentence)
    assert t[0, 0] == 0
    assert np.isfinite(t).all()
