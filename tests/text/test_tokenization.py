import numpy as np
import pandas as pd
import pytest

from anbn.text import stories, tokenization


def test_tokens_belong_to_the_word_they_share_most_with(tokenizer):
    text = "the cat wouldn't sat."
    words = stories.split_words(text)
    tokens = tokenization.tokenize(tokenizer, text, words)
    assert "".join(tokens["token"]) == text
    assert tokens["word"].iloc[[0, 1, -1]].tolist() == [0, 1, 3]
    glued = pd.DataFrame({"start": [0, 5], "end": [5, 8]})  # would|n't
    assert tokenization._majority(np.array([0, 0, 1])) == 0
    assert tokenization._majority(np.array([-1, 0, 1])) == 1
    assert tokenization._majority(np.array([-1, -1])) == -1
    assert set(tokenization.tokenize(tokenizer, "wouldn't", glued)["word"]) <= {0, 1}


@pytest.mark.parametrize(
    "n, window, stride", [(10, 4, 4), (10, 4, 1), (3, 9, 2), (17, 8, 3)]
)
def test_windows_cover_every_token_once_with_context(n, window, stride):
    kept = []
    for begin, new, end in tokenization.windows(n, window, stride):
        assert 0 <= begin <= new < end <= n
        assert end - begin <= window
        assert new - begin >= min(new, window - stride)
        kept += range(new, end)
    assert kept == list(range(n))


def test_windows_refuse_a_stride_beyond_the_window():
    with pytest.raises(
        ValueError, match=r"stride must lie in 1 to window \(4\), found 5"
    ):
        tokenization.windows(10, 4, 5)


def test_corpora_are_cut_into_documents(tokenizer, tmp_path):
    for name, word in [("one", "cat "), ("two", "dog ")]:
        (tmp_path / f"{name}.txt").write_text("\n\n".join([word * 60] * 5))
    paths = [tmp_path / "one.txt", tmp_path / "two.txt"]
    tokens, documents = tokenization.tokenize_corpora(tokenizer, paths, 90, 40)
    assert documents["corpus"].tolist() == ["one"] * 3 + ["two"] * 3
    assert tokens.groupby("document").size().tolist() == [40, 40, 10] * 2
    assert [len(text.split()) for text in documents["text"]] == [40, 40, 10] * 2
    with pytest.raises(
        stories.StimulusError, match=r"one.txt has 200 tokens.*expected 900"
    ):
        tokenization.tokenize_corpora(tokenizer, paths, 900, 40)


def fast(vocabulary, *, lower=False, metaspace=False, template=None, **options):
    """A tokenizer of whole words, or of pieces that begin with a blank's mark."""
    from tokenizers import (
        Tokenizer,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )
    from transformers import PreTrainedTokenizerFast

    ids = {word: i for i, word in enumerate(vocabulary)}
    unknown = "<unk>" if "<unk>" in ids else None
    if unknown:
        core = Tokenizer(models.WordLevel(ids, unk_token=unknown))
    else:
        core = Tokenizer(models.BPE(ids, merges=[]))  # drops what it does not know
    if lower:
        core.normalizer = normalizers.Lowercase()
    split = pre_tokenizers.Metaspace() if metaspace else pre_tokenizers.Whitespace()
    core.pre_tokenizer = split
    if template:
        marks = [(word, ids[word]) for word in template.split() if word != "$A"]
        core.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=marks
        )
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token=unknown, **options)


ADDED = {  # a tokenizer, and what it puts before and after a text
    "Llama": (
        *(["<unk>", "<s>", "</s>", "▁a", "▁cat"], {"metaspace": True}),
        *({"template": "<s> $A", "bos_token": "<s>"}, [1], []),
    ),
    "BERT": (
        *(["[PAD]", "<unk>", "[CLS]", "[SEP]", "a"], {"lower": True}),
        *({"template": "[CLS] $A [SEP]", "pad_token": "[PAD]"}, [2], [3]),
    ),
    "T5": (["<unk>", "</s>", "the"], {}, {"template": "$A </s>"}, [], [1]),
    "GPT-2": (["<|end|>", "a", "the"], {}, {"bos_token": "<|end|>"}, [], []),
    "no template": (["<unk>", "cat"], {"lower": True}, {}, [], []),
    "two before": (
        ["<unk>", "<s>", "<en>"],
        {},
        {"template": "<s> <en> $A"},
        [1, 2],
        [],
    ),
    "no Latin letter": (
        ["<s>", "</s>", "猫"],
        {},
        {"template": "<s> $A </s>"},
        [0],
        [1],
    ),
}


@pytest.mark.parametrize("name", ADDED)
def test_what_a_tokenizer_adds_is_told_from_the_text(name):
    vocabulary, how, options, before, after = ADDED[name]
    tokenizer = fast(vocabulary, **how, **options)
    assert tokenization.special_tokens(tokenizer) == (before, after)
    padding = [0] if name == "BERT" else []
    assert tokenization.special_ids(tokenizer) == sorted({*before, *after, *padding})


@pytest.mark.parametrize("add", [True, False])
def test_the_switch_for_a_begin_of_text_token(add):
    vocabulary = ["<unk>", "<s>", "a"]
    tokenizer = fast(vocabulary, bos_token="<s>", add_bos_token=add)
    assert tokenization.special_tokens(tokenizer) == ([1] if add else [], [])


def test_a_tokenizer_that_reads_nothing_is_refused():
    tokenizer = fast(["<s>"], template="<s> $A")
    with pytest.raises(ValueError, match="makes no token of the, a, 1"):
        tokenization.special_tokens(tokenizer)
