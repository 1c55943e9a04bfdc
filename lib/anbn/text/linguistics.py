"""What kind of word each is: length, frequency, class, place, surprisal."""

import unicodedata
from functools import cache
from pathlib import Path

import langcodes
import numpy as np
import pandas as pd
import wordfreq

PAUSE = 0.5  # s between words; ends a sentence where nothing is punctuated
CLITICS = r"(?:n't|'(?:s|m|re|ve|ll|d))+$"
STOP = r"[.!?…؟।۔。！？．][\"'”’»)\]」』）]*$"
UNSPLIT = {"zh", "ja", "ko"}  # wordfreq needs tokenizers for them: not installed
TITLE = r"^\W*(?:mr|mrs|ms|dr|prof|st)\.$"  # no end of a sentence


def annotate(words, tokens=None, *, language="en"):
    """Describe each word by what is known to drive reading and listening.

    Parameters
    ----------
    words : DataFrame
        Column ``word``; ``onset`` and ``offset`` (s) where known.
    tokens : DataFrame, optional
        In the order of the text: columns ``word`` (position of the token's word in
        ``words``, -1 for none), ``surprisal`` and ``entropy`` (nats, NaN: not known).
    language : str
        Its code, such as "en", "de" or "zh". Of which the frequency of words is known
        see ``frequency_known``.

    Returns
    -------
    features : DataFrame, one row a word, index of ``words``
        ``length``: letters and digits.
        ``log_frequency``: on the Zipf scale, log10 of occurrences in a billion words
        (wordfreq; of words such as ``don't`` or ``rabbit-hole`` from their parts). NaN
        for what holds no letter, for words too rare to be listed (Zipf under about 1):
        how rare they are is not known, and 0 would be an outlier; and for all words of
        a language of which no frequency is known.
        ``content``: 1.0 for content words, 0.0 for function words
        (``function_words_en.txt``), by the word before contractions (``rabbit's`` 1.0,
        ``it's`` 0.0). NaN without letters or digits, and for other languages.
        ``position``: in its sentence, from 0.
        ``sentence``: running number. Sentences end at ``. ! ?`` (quotation marks may
        follow), or, if the text holds none of these, before pauses of 0.5 s.
        ``surprisal``: nats, sum over the word's tokens; NaN if one of them is NaN.
        ``entropy``: nats, of its first token: uncertainty before the word.

    Raises
    ------
    ValueError
        If the language is unknown.
    """
    known = frequency_known(language)
    language = base(language)
    word = words["word"].astype(str).str.replace("’", "'")
    plain = word.map(_plain)
    length = word.str.count(r"[^\W_]")
    sentence = _sentences(word, words)
    features = pd.DataFrame(
        {
            "length": length,
            "log_frequency": np.array(
                [_zipf(p, language) if known else np.nan for p in plain], float
            ),
            "content": np.where(length > 0, _content(plain, language), np.nan),
            "position": sentence.groupby(sentence).cumcount(),
            "sentence": sentence,
        }
    )
    if tokens is not None:
        features = features.assign(**_from_tokens(tokens, len(words)))
    return features


def frequency_known(language):
    """Whether word frequencies of a language are known, by its code.

    They are of wordfreq's languages but Chinese, Japanese and Korean, which need
    tokenizers that are not installed. Nothing else of what is recorded needs them.

    Raises
    ------
    ValueError
        If it is no code of a language.
    """
    languages = sorted(set(wordfreq.available_languages()) - UNSPLIT)
    if not isinstance(language, str) or not langcodes.tag_is_valid(language or "?"):
        raise ValueError(
            f"language must be a code such as {', '.join(languages)} (with word "
            f"frequencies), zh, ja, ko or th (without); found {language!r}"
        )
    return base(language) in languages


def base(language):
    """The language of a code without its region: en of en-GB."""
    return language.lower().split("-")[0]


def _plain(word):
    """A word in lower case, without the punctuation around it."""
    # Marks (M) are the vowels of Hindi and such, and accents written apart.
    inside = [i for i, c in enumerate(word) if unicodedata.category(c)[0] in "LMN"]
    return word[inside[0] : inside[-1] + 1].lower() if inside else ""


def _zipf(word, language):
    if not any(letter.isalpha() for letter in word):
        return np.nan
    return wordfreq.zipf_frequency(word, language) or np.nan


def _content(plain, language):
    if language != "en":
        return np.nan
    listed = function_words()
    host = plain.str.replace(CLITICS, "", regex=True)
    return 1.0 - (plain.isin(listed) | host.isin(listed))


@cache
def function_words():
    """Closed-class words of English, without apostrophes at their edges."""
    text = Path(__file__).with_name("function_words_en.txt").read_text("utf-8")
    listed = (line for line in text.split("\n") if line and not line.startswith("#"))
    return frozenset(_plain(line) for line in listed)


def _sentences(word, words):
    """Running number of each word's sentence."""
    title = word.str.contains(TITLE, case=False)
    ends = word.str.contains(STOP) & ~title
    begins = ends.shift(fill_value=False)
    if not ends.any() and {"onset", "offset"} <= set(words):
        begins = words["onset"] - words["offset"].shift() >= PAUSE
    return begins.cumsum()


def _from_tokens(tokens, n_words):
    tokens = tokens[tokens["word"] >= 0]
    owner = tokens["word"].to_numpy(int)
    found, first = np.unique(owner, return_index=True)
    surprisal, entropy = np.full((2, n_words), np.nan)
    surprisal[found] = np.bincount(owner, tokens["surprisal"])[found]
    entropy[found] = tokens["entropy"].to_numpy()[first]
    return {"surprisal": surprisal, "entropy": entropy}
