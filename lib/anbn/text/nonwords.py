"""Marks in transcripts that are no words: silences, noises, speakers, music.

One table for all formats. What is left out is counted by name, so that a notebook can
say it.
"""

import re
from collections import Counter

import pandas as pd

# what aligners (MFA, p2fa, MAUS, Kaldi, HTK, Prosodylab) and labs write in place of a
# word, without brackets, in any case
BARE = frozenset(
    "sp sil spn nsn brth br lg ls ns cg h# !sil !enter !exit !null "
    "sentence_start sentence_end utterance_start utterance_end xxx yyy www "
    "vocnoise iver <p>".split()
)
IN_TIERS = frozenset("pau xx %fp".split())  # of the marks in aligners' tiers alone
# also words of a story: see ``_ambiguous``
AMBIGUOUS = frozenset("noise silence laughter".split())
BREATHED = frozenset("breath cough".split())
SHOUTED = frozenset("laugh breath cough music pause unknown click".split())
# before a spoken "silence" or "noise"
BEFORE_NOUNS = frozenset(
    "the a an this that these those no any some every each of in with for to into "
    "my your his her its our their whose much more loud dead".split()
)
OFTEN = 0.01  # of all rows: no word of AMBIGUOUS is spoken so often
# in parentheses or between asterisks: (laughs), (upbeat music), *sighs*
NOISES = frozenset(
    "music musical singing sings song laugh laughs laughing laughter chuckle chuckles "
    "chuckling giggle giggles giggling applause clapping claps cheer cheers cheering "
    "cough coughs coughing sneeze sneezes sniff sniffs sniffing sigh sighs sighing "
    "gasp gasps gasping breath breaths breathing breathes inhales exhales groan groans "
    "groaning moans sob sobs sobbing cries crying scream screams screaming whisper "
    "whispers whispering noise noises noisy static beep beeps bleep silence silent "
    "pause pauses inaudible unintelligible indistinct unclear crosstalk overlapping "
    "foreign throat knocking footsteps slams thunder barking ringing rings "
    "rires rire musique applaudissements silencio risas música aplausos risate musica "
    "applausi musik lachen lacht gelächter applaus seufzt".split()
)
NOTES = "♩♪♫♬🎵🎶"
BRACKETED = re.compile(
    r"\[[^\[\]]*\]|\{[^{}]*\}|(?<!\S)<[^<>\s\d][^<>]*>(?![^\s.,:;!?])"
)
IN_PARENTHESES = re.compile(r"\([^()]*\)|\*[^*\n]+\*")
SPEAKER_CHANGE = re.compile(r">>+")
# at the beginning of a caption's line: ANN:  Speaker 1:  SPEAKER_00:
SPEAKER = re.compile(
    r"(?m)^[ \t]*((?:[A-Z][A-Z0-9.'’_-]*(?: [A-Z0-9.'’_-]+){0,3}|"
    r"(?i:speaker|spk)[ _-]?\w{1,3}):)(?=\s|$)"
)
DASH = re.compile(r"(?m)^[ \t]*([-–])(?=[ \t])")  # another speaker's line
CHAT = re.compile(r"&=\S+")
SYMBOLS = re.compile(r"[#_*~|^=+]+")  # nothing but these is no word
SHOWN = 12  # kinds of marks that a line names
LONGEST_SPAN = 8  # rows from a bracket that opens to the one that closes


def blank_out(text, *, captions=False):
    """Overwrite marks with blanks, so that all other characters keep their place.

    Parameters
    ----------
    text : str
        Of one caption, segment or interval.
    captions : bool
        Whether the conventions of captions hold as well: a line that is nothing but
        parentheses, a name and a colon or a dash that begin a line.

    Returns
    -------
    text : str
        Of the same length.
    left_out : Counter
        The marks by name.
    """
    left_out = Counter()

    def blank(match, group=0):
        left_out[match[group].strip()] += 1
        a, b = match.start(group) - match.start(), match.end(group) - match.start()
        return match[0][:a] + " " * (b - a) + match[0][b:]

    def if_noise(match):
        whole_line = captions and _stands_alone(match)
        return blank(match) if whole_line or is_noise(match[0]) else match[0]

    text = BRACKETED.sub(blank, text)
    text = IN_PARENTHESES.sub(if_noise, text)
    text = CHAT.sub(blank, text)
    text = SPEAKER_CHANGE.sub(blank, text)
    text = re.sub(f"[{NOTES}]", blank, text)
    if captions:
        text = DASH.sub(lambda match: blank(match, 1), text)
        text = SPEAKER.sub(lambda match: blank(match, 1), text)
    if left_out and not re.search(r"[^\W_]", text):  # the colon after [SPEAKER_00]
        text = " " * len(text)
    elif left_out:
        text = re.sub(r"(?m)^([ \t]*):(?=\s|$)", r"\1 ", text)
    return text, left_out


def _stands_alone(match):
    text = match.string
    before = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
    after = text[match.end() :].split("\n", 1)[0]
    return not before.strip(" \t-–>") and not after.strip(" \t.,!?")


def is_noise(text):
    """Whether what stands in parentheses or asterisks names a noise or a pause."""
    words = re.findall(r"[^\W_]+", text.lower())
    if not words:
        return True  # (.) and (..) are pauses
    if "." in text and all(word.isdigit() for word in words):
        return True
    return len(words) <= 3 and not NOISES.isdisjoint(words)


def remove_marks(rows, *, tiers=False):
    """Take marks out of rows of words or of segments.

    Parameters
    ----------
    rows : DataFrame
        Columns ``word`` and, for ``tiers``, ``onset`` and ``offset``.
    tiers : bool
        Whether the rows come from an aligner's or a lab's tier, in which ``noise`` and
        ``silence`` (``AMBIGUOUS``) are marks unless they are spoken: they follow a word
        such as *the* or *in* at once, or are rarer than one row in a hundred. So
        are ``BREATHED`` that stand there three times or more. These and ``SHOUTED``
        are marks where they alone stand in capitals.

    Returns
    -------
    rows : DataFrame
        With what is left, and a fresh index.
    left_out : Counter
    """
    left_out = Counter()
    words = rows["word"].astype(str).tolist()
    for first, last in _open_brackets(words):
        left_out[" ".join(word.strip() for word in words[first : last + 1])] += 1
        words[first : last + 1] = [""] * (last + 1 - first)
    bare = BARE | IN_TIERS if tiers else BARE
    for i, word in enumerate(words):
        if word.strip().lower() in bare or _is_symbol(words, i, tiers):
            left_out[word.strip()] += 1
            words[i] = ""
            continue
        words[i], found = blank_out(word)
        left_out += found
    if tiers:
        for i in _ambiguous(words, rows):
            left_out[words[i].strip()] += 1
            words[i] = ""
    rows = rows.assign(word=pd.Series(words, index=rows.index, dtype=object))
    kept = rows["word"].str.strip() != ""
    return rows[kept].reset_index(drop=True), left_out


def _is_symbol(words, i, tiers):
    """Whether a row holds nothing but symbols, and they are not read: # 1, b + c."""
    plain = words[i].strip()
    following = words[i + 1].strip() if i + 1 < len(words) else ""
    if plain == "#" and following[:1].isdigit():
        return False
    if plain in ("+", "=") and not tiers:
        return False
    return bool(SYMBOLS.fullmatch(plain))


def _open_brackets(words):
    """Rows between which a bracket opens and closes: ``[MUSIC``, ``PLAYING]``."""
    spans, i = [], 0
    while i < len(words):
        for opening, closing in ("[]", "{}", "()"):
            if words[i].count(opening) <= words[i].count(closing):
                continue
            ahead = range(i + 1, min(i + LONGEST_SPAN, len(words)))
            j = next((j for j in ahead if closing in words[j]), None)
            inside = " ".join(words[i : (j or i) + 1])
            if j is not None and (opening != "(" or is_noise(inside)):
                spans.append((i, j))
                i = j
                break
        i += 1
    return spans


def _ambiguous(words, rows):
    """Rows of ``noise``, ``silence`` and such that are marks, not spoken words."""
    known = AMBIGUOUS | SHOUTED
    at = [i for i, word in enumerate(words) if word.strip().lower() in known]
    others = [w for i, w in enumerate(words) if w.strip() and i not in set(at)]
    shouted = sum(w.isupper() and len(w) > 1 for w in others) > len(others) / 2
    times = rows[["onset", "offset"]].apply(pd.to_numeric, errors="coerce")
    onset, offset = times.to_numpy(float).T
    marks = []
    for i in at:
        word = words[i].strip()
        if word.isupper() and others and not shouted:
            marks.append(i)
            continue
        same = sum(words[j].strip().lower() == word.lower() for j in at)
        if word.lower() in SHOUTED and not (word.lower() in BREATHED and same > 2):
            continue
        before = words[i - 1].strip().lower() if i else ""
        at_once = i > 0 and onset[i] - offset[i - 1] < 0.05
        spoken = at_once and before in BEFORE_NOUNS
        if not spoken and same > OFTEN * len(words):
            marks.append(i)
    return marks


def name_them(left_out):
    """The marks left out and how often, most frequent first."""
    names = [f"{name} {n}" for name, n in left_out.most_common(SHOWN)]
    more = len(left_out) - SHOWN
    return ", ".join(names) + (f" and {more} other kinds" if more > 0 else "")
