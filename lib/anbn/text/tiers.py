"""Tiers of intervals: Praat's TextGrid and ELAN's .eaf, and which of them holds words.

A tier is taken for words by what it holds, not by where it stands: single words rather
than sentences, and neither phones, syllables nor numbers.
"""

import fnmatch
import re
from collections import Counter
from itertools import combinations, pairwise
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from anbn.text import nonwords, orthography
from anbn.text.textfiles import StimulusError, decode

NAMED_WORDS = re.compile(
    r"(?:^|[^a-z])(?:words?|ort|ortho|orthography|orthographic|tokens?|wort|w[oö]rter|"
    r"mots?|palabras?|parole|woorden|slova)(?:$|[^a-z])",
    re.IGNORECASE,
)
NAMED_OTHERWISE = re.compile(
    r"(?:^|[^a-z])(?:phon\w*|phn|segments?|mau|kan|kas|mas|syl\w*|pos|tags?|upos|xpos|"
    r"lemmas?|lemmata|stress|tones?|tobi|breaks?|pitch|f0|gloss\w*|notes?|comments?|"
    r"ipa|sampa|gestures?|translation|morph\w*)(?:$|[^a-z])",
    re.IGNORECASE,
)
ARPABET = frozenset(
    "aa ae ah ao aw ax axr ay b bcl ch d dcl dh dx eh el em en eng epi er ey f g gcl "
    "hh hv ih ix iy jh k kcl l m n ng nx ow oy p pau pcl q r s sh t tcl th uh uw ux "
    "v w y z zh".split()
)
MOST = 0.9  # of a tier's labels


class Tier(NamedTuple):
    """Intervals with a label."""

    name: str
    rows: pd.DataFrame  # word, onset, offset; without empty labels


def read_textgrid(path):
    """Tiers of a TextGrid in Praat's long or short text format.

    Returns
    -------
    tiers : list of Tier
        The interval tiers.
    notes : list of str
    """
    # Praat's rule for both of its text formats: quoted strings and numbers that stand
    # free are the data, all else is decoration
    pattern = r'"((?:[^"]|"")*)"|(?<!\S)([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)(?!\S)'
    found = re.findall(pattern, decode(path))
    data = [float(n) if n else s.replace('""', '"') for s, n in found]
    at = [i for i, item in enumerate(data) if item in ("IntervalTier", "TextTier")]
    # before the tiers: two strings, two times, the number of tiers;
    # of a tier: class, name, two times, the number of intervals; then the intervals
    parts = [data[i:j] for i, j in pairwise([*at, len(data)]) if j - i >= 5]
    intervals = [part for part in parts if part[0] == "IntervalTier"]
    n_said = data[4] if len(data) > 4 and isinstance(data[4], float) else -1
    if not intervals or not 0 <= n_said <= len(parts):
        points = [str(part[1]) for part in parts if part[0] == "TextTier"]
        about = f" (tiers of points, {', '.join(points):.100}, hold no words)" * bool(
            points
        )
        raise StimulusError(
            f"{path}: expected a TextGrid in Praat's long or short text format with an "
            f"interval tier of words; found {len(intervals)} interval tiers, and "
            f"{len(parts)} of {data[4:5]} tiers{about}. Is the file whole?"
        )
    notes, tiers = [], []
    if n_said < len(parts):
        notes.append(f"the file says {n_said:g} tiers and holds {len(parts)}: all read")
    for _, name, _, _, size, *values in intervals:
        rows = list(zip(values[2::3], values[::3], values[1::3], strict=False))
        # some aligners count the intervals before they add the silences
        more = isinstance(size, float) and len(rows) > size and len(values) % 3 == 0
        if len(rows) != size and not more:
            raise StimulusError(
                f"{path}: found {len(rows)} of {str(size).removesuffix('.0'):.20} "
                f"intervals in the tier {name!r:.80}. Is the file whole?"
            )
        if more:
            notes.append(
                f"the tier {name!r:.80} says {size:g} intervals and holds {len(rows)}: "
                "all read"
            )
        tiers.append(make(name, rows))
    return tiers, notes


def make(name, rows):
    """A tier from (label, onset, offset), without its empty labels."""
    rows = pd.DataFrame(rows, columns=["word", "onset", "offset"]).copy()
    rows["word"] = rows["word"].astype(str).str.strip()
    return Tier(str(name), rows[rows["word"] != ""].reset_index(drop=True))


def read_eaf(path):
    """Tiers of an ELAN file; times that an annotation has not of its own are NaN.

    Returns
    -------
    tiers : list of Tier
    notes : list of str
    """
    text = decode(path)
    if re.search(r"<!(?:DOCTYPE|ENTITY)", text):
        raise StimulusError(f"{path}: an ELAN file has no DOCTYPE. Save it in ELAN.")
    try:
        root = ElementTree.fromstring(text.encode())
    except ElementTree.ParseError as error:
        raise StimulusError(
            f"{path} is no whole XML: {error}. Expected an ELAN file; copy it again."
        ) from error
    slots = {
        slot.get("TIME_SLOT_ID"): float(slot.get("TIME_VALUE", "nan")) / 1000
        for slot in root.iter("TIME_SLOT")
    }
    tiers = []
    for tier in root.iter("TIER"):
        rows = []
        for annotation in tier.iter("ALIGNABLE_ANNOTATION"):
            times = [
                slots.get(annotation.get(f"TIME_SLOT_REF{i}"), np.nan) for i in (1, 2)
            ]
            rows.append((annotation.findtext("ANNOTATION_VALUE") or "", *times))
        if rows:
            tiers.append(make(tier.get("TIER_ID", ""), rows))
    if not tiers:
        raise StimulusError(
            f"{path}: expected an ELAN file with a tier of annotations that have times "
            f"of their own; found {sum(1 for _ in root.iter('TIER'))} tiers, none such."
        )
    return tiers, []


def choose(tiers, path, name=""):
    """Rows of the tier that holds the words, or of one for each speaker.

    Parameters
    ----------
    tiers : list of Tier
    path : path-like
        For errors.
    name : str
        A tier's name, or a pattern (``* - words``) that several have; "": the tiers of
        single words; where there are none, those of sentences.

    Returns
    -------
    rows : DataFrame
        With ``speaker`` if there are several, one after the other.
    notes : list of str

    Raises
    ------
    StimulusError
        If no tier holds words, or it cannot be told which.
    """
    if name:
        chosen = [t for t in tiers if fnmatch.fnmatch(t.name.lower(), name.lower())]
        if not chosen:
            raise StimulusError(
                f"{path}: no tier is named {name!r}. There are: {_listed(tiers)}."
            )
    else:
        chosen = _with_words(tiers, path)
    others = [tier.name for tier in tiers if all(tier is not c for c in chosen)]
    notes = []
    if len(tiers) > 1:
        names = ", ".join(repr(tier.name) for tier in chosen)
        left = f"; not read: {', '.join(map(repr, others))}" * bool(others)
        notes.append(f"words from the tier {names}{left}")
    if len(chosen) == 1:
        return chosen[0].rows, notes
    speakers = _speakers([tier.name for tier in chosen])
    rows = [t.rows.assign(speaker=s) for t, s in zip(chosen, speakers, strict=True)]
    return pd.concat(rows, ignore_index=True), notes


def _with_words(tiers, path):
    filled = [tier for tier in tiers if len(_words(tier))]
    plausible = [tier for tier in filled if _may_be_words(tier, filled)]
    single = [tier for tier in plausible if _share_of_single(tier) >= MOST]
    for fits in (single, plausible):
        named = [tier for tier in fits if NAMED_WORDS.search(tier.name)]
        fits = named or fits
        fits = [  # without tiers that repeat another
            tier
            for i, tier in enumerate(fits)
            if not any(tier.rows.equals(other.rows) for other in fits[:i])
        ]
        if len(fits) > 1 and _ambiguous(fits):
            raise StimulusError(
                f"{path}: several tiers may be the words. Name one (parameter "
                f"story_tier, argument tier). There are: {_listed(tiers)}."
            )
        if fits:
            return fits
    raise StimulusError(
        f"{path}: expected an interval tier of words; found none that looks like it "
        "(parameter story_tier, argument tier, names one). There are: "
        f"{_listed(tiers)}."
    )


def _words(tier):
    """Labels that hold a letter or digit, and are no marks."""
    left, _ = nonwords.remove_marks(tier.rows)
    return left["word"][left["word"].str.contains(r"[^\W_]")]


def _may_be_words(tier, filled):
    words = _words(tier)
    letters = words.str.contains(r"[^\W\d_]")
    if NAMED_WORDS.search(tier.name):
        return True
    if NAMED_OTHERWISE.search(tier.name) or letters.mean() < 0.5:
        return False
    bare = words.str.lower().str.replace(r"\d$", "", regex=True)
    if len(words) > 4 and bare.isin(ARPABET).mean() >= MOST:
        return False
    whole = not words.map(lambda w: bool(orthography.CHARACTER.search(w))).any()
    if len(words) > 4 and whole and words.str.len().mean() < 2:  # IPA, SAMPA
        return False
    return not any(_divides(tier, other) for other in filled if other is not tier)


def _share_of_single(tier):
    words = _words(tier)
    return (words.map(lambda word: len(orthography.split_row(word))) == 1).mean()


def _divides(tier, other):
    """Whether a tier cuts the single words of another into smaller pieces."""
    if len(tier.rows) <= 1.3 * len(other.rows) or _share_of_single(other) < MOST:
        return False
    return _times(other, ["onset", "offset"]) <= _times(tier, ["onset", "offset"])


def _times(tier, columns):
    return set(np.round(tier.rows[columns].to_numpy(float).ravel(), 3))


def _ambiguous(tiers):
    """Whether tiers annotate the same speech, or one is no speaker's words.

    Those of the same speech share their onsets; one of remarks, say, holds too little.
    """
    sizes = [len(_words(tier)) for tier in tiers]
    pairs = combinations([_times(tier, ["onset"]) for tier in tiers], 2)
    parallel = any(len(a & b) > min(len(a), len(b)) / 2 for a, b in pairs)
    return parallel or min(sizes) < 0.05 * max(sizes)


def _speakers(names):
    """Names of speakers from those of their tiers: ann of ``ann - words``."""
    found = [
        re.sub(r"^[\W_]+|[\W_]+$", "", NAMED_WORDS.sub(" ", name)) for name in names
    ]
    return found if all(found) and len(set(found)) == len(found) else names


def _listed(tiers):
    """Names of tiers with what they hold."""
    shown = []
    for name, rows in tiers:
        several = (rows["word"].str.contains(r"\s")).sum()
        example = f", such as {rows['word'].iloc[0]!r:.40}" if len(rows) else ""
        shown.append(
            f"{name!r} ({len(rows)} labels, {several} of several words{example})"
        )
    counts = Counter(name for name, _ in tiers)
    twice = [name for name, n in counts.items() if n > 1]
    return "; ".join(shown) + f" ({twice} twice)" * bool(twice)
