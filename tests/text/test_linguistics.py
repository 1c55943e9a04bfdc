import numpy as np
import pandas as pd
import pytest
import wordfreq

from anbn.text import linguistics
from anbn.text.linguistics import annotate

NAN = np.nan


def frame(text, **columns):
    return pd.DataFrame({"word": text.split(), **columns})


def test_words_by_hand():
    words = frame("“Don’t _look_ at the naïve 1984 rabbit-hole's -- zqxjkw,” I'd two")
    features = annotate(words)
    assert features["length"].tolist() == [4, 4, 2, 3, 5, 4, 11, 0, 6, 2, 3]
    assert features["content"].tolist()[:7] == [0, 1, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(features["content"][7:], [NAN, 1, 0, 1])
    zipf = [6.2, 5.9, 6.69, 7.73, 3.07]
    np.testing.assert_allclose(features["log_frequency"][:5], zipf, atol=0.15)
    assert features["log_frequency"][5:].isna().tolist() == (
        [True, False, True, True, False, False]
    )
    assert features["log_frequency"][6] == wordfreq.zipf_frequency(
        "rabbit-hole's", "en"
    )


@pytest.mark.parametrize(
    "text, content",
    [
        ("'s n't 'll 've 're 'd 'm n’t", 0),
        ("Can't won't ain't she'll who'd've it's 'tis y'all 'em", 0),
        ("Alice's o'clock ma'am let's rabbits' little three II.", 1),
    ],
)
def test_function_words_and_contractions(text, content):
    assert (annotate(frame(text))["content"] == content).all()


def test_list_of_function_words():
    listed = linguistics.function_words()
    assert 200 <= len(listed) <= 250
    assert {"the", "n't", "s", "ve", "won't", "whose"} <= listed
    numbers = "zero one two three ten hundred first second".split()
    assert not listed & set(numbers)


def naive_sentences(words):
    sentence, position, found = 0, 0, []
    for word in words:
        found.append((sentence, position))
        position += 1
        bare = word.rstrip("\"'”’)")
        if bare.endswith((".", "!", "?")) and word not in ("Mr.", "(Dr."):
            sentence, position = sentence + 1, 0
    return found


def test_sentences_against_a_loop(rng):
    kinds = ["a", "b,", "c.", 'd!"', "e?)”", "Mr.", "(Dr.", "...", "3.5", "f.g"]
    words = rng.choice(kinds, 300)
    features = annotate(pd.DataFrame({"word": words}))
    found = list(zip(features["sentence"], features["position"], strict=True))
    assert found == naive_sentences(words)


def test_sentences_by_pauses():
    onset = [0.0, 0.5, 1.5, NAN, 4.0, 4.5]
    offset = [0.5, 1.0, 2.0, NAN, 4.25, 5.0]
    words = frame("a b c Mr. e f", onset=onset, offset=offset)
    features = annotate(words)  # 0.5 s before c; what lies around Mr. is not known
    assert features["sentence"].tolist() == [0, 0, 1, 1, 1, 1]
    assert features["position"].tolist() == [0, 1, 0, 1, 2, 3]
    words.loc[4, "word"] = "e."
    assert annotate(words)["sentence"].tolist() == [0, 0, 0, 0, 0, 1]
    assert annotate(words[["word"]].iloc[:4])["position"].tolist() == [0, 1, 2, 3]


def test_tokens_against_a_loop(rng):
    words = frame("w " * 30)
    owner = np.sort(rng.integers(-1, 30, 80))
    tokens = pd.DataFrame({"word": owner, "surprisal": rng.random(80)})
    tokens["entropy"] = rng.random(80)
    tokens.loc[[0, 7, 40], "surprisal"] = NAN
    tokens.loc[11, "entropy"] = NAN
    features = annotate(words, tokens)
    for row in range(30):
        surprisal, entropy = NAN, NAN
        own = tokens[tokens["word"] == row]
        if len(own):
            surprisal, entropy = sum(own["surprisal"]), next(iter(own["entropy"]))
        np.testing.assert_allclose(features["surprisal"][row], surprisal)
        np.testing.assert_array_equal(features["entropy"][row], entropy)
    assert features["surprisal"].isna().any() and features["entropy"].notna().any()


def test_index_and_empty_input():
    words = frame("a b. c").set_index(pd.Index([5, 6, 9]))
    tokens = pd.DataFrame({"word": [0, 2], "surprisal": [1.0, 2.0], "entropy": 3.0})
    features = annotate(words, tokens)
    assert features.index.tolist() == [5, 6, 9]
    np.testing.assert_array_equal(features["surprisal"], [1, NAN, 2])
    names = ["length", "log_frequency", "content", "position", "sentence"]
    assert list(features) == [*names, "surprisal", "entropy"]
    empty = annotate(words[:0], tokens[:0])
    assert empty.shape == (0, 7)
    assert empty["log_frequency"].dtype == empty["content"].dtype == float
    assert annotate(words, tokens[:0])["entropy"].isna().all()


def test_other_languages():
    features = annotate(frame("Straße und œuvre."), language="de")
    assert features["log_frequency"][1] == wordfreq.zipf_frequency("und", "de") > 7
    assert features["content"].isna().all()
    assert features["length"].tolist() == [6, 3, 5]
    hindi = annotate(frame("“है।” हाँ"), language="hi")  # vowels after their letters
    assert hindi["log_frequency"][0] == wordfreq.zipf_frequency("है", "hi") > 7
    assert hindi["sentence"].tolist() == [0, 1]
    for language in ("xx", "english", "", "e", None):
        with pytest.raises(ValueError, match=rf"language must be .*en.*{language!r}"):
            annotate(frame("a"), language=language)


WITHOUT_FREQUENCIES = [
    ("zh", "我 早上 喝 了 咖啡。 他 「没 有！」 好", [1, 2, 1, 1, 2, 1, 1, 1, 1], 3),
    ("ja", "猫 が いた。 犬 も", [1, 1, 2, 1, 1], 2),
    ("ko", "나는 갔다. 왜?", [2, 2, 1], 2),
    ("th", "แมว นอน", [3, 3], 1),
]


@pytest.mark.parametrize("language, text, length, sentence", WITHOUT_FREQUENCIES)
def test_languages_without_a_list_of_frequencies(language, text, length, sentence):
    words = frame(text)
    features = annotate(words, language=language)
    assert not linguistics.frequency_known(language)
    assert features[["log_frequency", "content"]].isna().all(axis=None)
    assert features["length"].tolist() == length
    assert features["sentence"].nunique() == sentence


def test_a_region_changes_nothing():
    words = frame("the colour of snow")
    british = annotate(words, language="en-GB")
    pd.testing.assert_frame_equal(british, annotate(words))
