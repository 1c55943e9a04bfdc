import numpy as np
import pandas as pd
import pytest

from anbn import stimuli, tokenization


def test_tokens_belong_to_the_word_they_share_most_with(tokenizer):
    text = "the cat wouldn't sat."
    words = stimuli.split_words(text)
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
        stimuli.StimulusError, match=r"one.txt has 200 tokens.*expected 900"
    ):
        tokenization.tokenize_corpora(tokenizer, paths, 900, 40)
