"""Words as they are written: where a blank stands between them, and where none does.

Aligners and tokenizers give a word or a piece a row. What the model reads must be the
text as an author writes it: ``l'ami``, not ``l' ami``; ``fell, not``, not
``fell , not``; Chinese without blanks.
"""

import re
import unicodedata
from itertools import pairwise

import numpy as np
import pandas as pd

_CHARACTERS = "々〇\u3041-\u30fa\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_CHARACTERS += "\U00020000-\U0003ffff"  # Han and kana
_SMALL = (
    "ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮーヽヾゝゞ"  # belong to the kana before
)
_OPEN, _CLOSE = "「『（《〈【“‘〔", "。，、！？：；」』）》〉】”’〕…．"
# scripts without blanks: these, Thai, Lao, Tibetan, Burmese, Khmer, wide punctuation
WITHOUT_BLANKS = re.compile(
    f"[{_CHARACTERS}{_SMALL}\u0e01-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"
    "\u3001-\u3030\uff01-\uffef]"
)
CHARACTER = re.compile(f"[{_CHARACTERS}]")
BY_CHARACTER = re.compile(
    f"[{_OPEN}]*(?:[{_CHARACTERS}][{_SMALL}]*|[^{_CHARACTERS}{_OPEN}{_CLOSE}]+)"
    f"[{_CLOSE}]*|[{_OPEN}{_CLOSE}]+"
)
LONGEST_WORD = 8  # characters of Chinese or Japanese; more are a sentence

# English: said wouldn't, Alice's
CLITIC = re.compile(r"(?:n['’]t|['’](?:s|m|d|t|re|ve|ll))(?![\w-])", re.IGNORECASE)
NOT = re.compile(  # before 't: don 't, isn 't; hij 't schip is Dutch
    r"(?:do|does|did|is|are|was|were|ca|could|would|should|wo|have|has|had|must|might|"
    r"need|ai|sha|dare|ought|may)n",
    re.IGNORECASE,
)
# Dutch: 's ochtends, 's zomers, 's lands are words of their own
AFTER_S = re.compile(
    r"(?:morgens|ochtends|middags|namiddags|avonds|nachts|anderendaags|daags|"
    r"winters|zomers|lands|konings|keizers|hemels|werelds|maandags|dinsdags|woensdags|"
    r"donderdags|vrijdags|zaterdags|zondags|mensen)\b",
    re.IGNORECASE,
)
# French, Italian, Catalan: what is elided before a vowel. Italian po', di', fa' and
# English boys', goin', o' are no such words: a blank follows them
ELIDED = re.compile(
    r"(?:.*[^\w'’])?(?:[cçdjlmnst]|qu|(?:jus|lors|puis|quoi|quel|pres)qu|aujourd|entr|grand|"
    r"(?:de|ne|a|da|su|co)ll|un|(?:nessun|alcun|ciascun|qualcun)|que(?:st|ll)|be?ll|"
    r"sant|c|gl|degl|quand|anch|senz|tutt|mezz|dov|cos|com|ov|cent|bell)['’]",
    re.IGNORECASE,
)
# rock n' roll: of these letters, n' is elided before a vowel alone
NO_VOWEL = re.compile(r"(?i)(?=[^\W\d_])[^haeiouyàâæáäèéêëìíîïòóôöœùúûü]")
# of the Penn Treebank
TOKENS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]"}
TOKENS |= {"-LCB-": "{", "-RCB-": "}", "``": '"', "''": '"'}
HYPHENATED = re.compile(r"[-‐‑][^\W\d_]")  # -hole after rabbit; but not -5
QUOTES = {'"': '"', "“": "”", "„": "“”", "‚": "‘’", "‘": "’", "«": "»", "‹": "›"}
QUOTES |= {"»": "«"}  # »so in German«
APART = set("&@*#§¶†‡–")  # punctuation that is spoken, or stands between blanks
MONEY = set("$£")


def split(text, *, characters=True):
    """The words of running text, with punctuation attached.

    Words are what blanks part; in Chinese and Japanese, which have none, a word is a
    character, unless ``characters`` is False. Punctuation that stands between blanks
    (French ``Pourquoi ?``) belongs to the word it closes or opens.

    Returns
    -------
    places : list of (start, end)
        Characters of each word.
    """
    pieces = []
    for chunk in re.finditer(r"\S+", text):
        if characters and CHARACTER.search(chunk[0]):
            found = BY_CHARACTER.finditer(chunk[0])
            pieces += [
                (chunk.start() + m.start(), chunk.start() + m.end()) for m in found
            ]
        else:
            pieces.append(chunk.span())
    places, opened = [], None
    for (start, end), role in zip(
        pieces, roles([text[a:b] for a, b in pieces]), strict=True
    ):
        start = start if opened is None else opened
        opened = None
        if role == "open":
            opened = start
        elif role == "close" and places:
            places[-1] = (places[-1][0], end)
        else:
            places.append((start, end))
    return places if opened is None else [*places, (opened, pieces[-1][1])]


def split_row(text):
    """The words of a row that should hold one: ``split``, but 咖啡 is one word.

    Only where Chinese or Japanese is a sentence (long, or with punctuation inside), its
    characters are words.
    """
    n_letters = len(CHARACTER.findall(text))
    inside = re.search(f"[{_CHARACTERS}][{_CLOSE}]+[{_CHARACTERS}]", text)
    ends = (
        re.search("[\u4e00-\u9fff].*[。！？…]", text) and n_letters > LONGEST_WORD / 2
    )
    sentence = bool(n_letters > LONGEST_WORD or inside or ends)
    return split(text, characters=sentence)


def roles(words):
    """What each word or mark is to its neighbours.

    Returns
    -------
    roles : list of str
        "word"; of marks that stand alone "open" (belongs to the next word), "close" (to
        the one before), "join" (to both: ``rabbit``, ``-``, ``hole``) or "apart".
    """
    found, quotes = [], []
    even = sum(word == "'" for word in words) % 2 == 0
    for word, following in pairwise([*words, ""]):
        if (word in MONEY or word == "#") and following[:1].isdigit():
            found.append("open")
            continue
        mark = bool(word) and all(
            unicodedata.category(c)[0] == "P" or c == "`" for c in word
        )
        if not mark:
            found.append("word")
            for c in re.findall('"', word):  # "Oh, with its quotation mark attached
                _quote(c, quotes)
            continue
        role = [_role(c, quotes, found, words, even) for c in word]
        found.append(role[0] if set(word) != {"-"} or len(word) == 1 else "apart")
    return found


def _role(c, quotes, found, words, even):
    if (
        c in QUOTES
        or any(c in QUOTES.get(q, "'") for q in quotes[-1:])
        or (c == "'" and even)
    ):
        return _quote(c, quotes)
    if c in "-‐‑—/":
        last = words[len(found) - 1] if found else ""
        begins = not last or (c == "—" and re.search(r"[.!?…:»”\"]$", last))
        return "open" if begins else "join"
    if c in APART:
        return "apart"
    return "open" if unicodedata.category(c) in ("Ps", "Pi") or c in "¿¡`" else "close"


def _quote(c, quotes):
    if quotes and c in QUOTES.get(quotes[-1], "'"):
        quotes.pop()
        return "close"
    if c in QUOTES or c == "'":
        quotes.append(c)
        return "open"
    return "close"


def _is_clitic(word, last, following):
    """Whether a piece belongs to the word before: Alice 's, don 't."""
    if not CLITIC.match(word):
        return False
    if word[:2].lower() in ("'t", "’t"):
        return bool(NOT.fullmatch(last))
    return not (word[:2].lower() in ("'s", "’s") and AFTER_S.match(following))


def _is_elided(last, word):
    """Whether a word is written at once after one that was elided before it."""
    if not ELIDED.fullmatch(last):
        return False
    return not (re.fullmatch(r"(?i)n['’]", last) and NO_VOWEL.match(word))


def as_written(words):
    """Join punctuation to its words, and give each word its place in the text.

    Where a row says so (column ``blank``), a blank stands before a word or does not.
    Else there is one, but not: before English ``'s`` and ``n't``; after what French,
    Italian and Catalan elide (``l'``, ``qu'``, ``dell'``); before closing and after
    opening punctuation, also before the ``;:!?`` of French; around a hyphen, a slash or
    a long dash of its own, and before ``-hole``; between Chinese, Japanese, Thai, Lao,
    Khmer, Burmese and Tibetan. ``–`` and ``--`` stand between blanks.

    Parameters
    ----------
    words : DataFrame
        Columns ``word``, ``onset``, ``offset``, ``timed``; optionally ``blank`` (True,
        False, or None: not known).

    Returns
    -------
    words : DataFrame
        Without the rows that hold punctuation alone, which was joined to the word it
        stands at (the times are those of the word); with ``start`` and ``end``, and
        without ``blank``.
    n_joined : int
        Rows of punctuation.
    """
    text = words["word"].astype(str).str.strip().tolist()
    text = [TOKENS.get(word, word) for word in text]
    said = words["blank"].tolist() if "blank" in words else [None] * len(words)
    part = roles(text)
    blank = _blanks(text, part, said)
    if "word" not in part:
        part = ["word"] * len(part)
    kept, joined = [], []  # joined: the written word, and whether a blank precedes it
    opened, before = "", False  # what opens the next word, and the blank before that
    for i, role in enumerate(part):
        inside = " " if blank[i] and opened else ""
        if role == "open" or (role in ("close", "join") and not kept):
            before = before if opened else blank[i]
            opened += inside + text[i]
        elif role in ("close", "join"):
            joined[-1][0] += " " * blank[i] + text[i]
        else:
            joined.append([opened + inside + text[i], before if opened else blank[i]])
            kept.append(i)
            opened = ""
    if opened:
        joined[-1][0] += " " * before + opened
    text, blank = zip(*joined, strict=True)
    length = np.array([len(word) for word in text])
    end = np.cumsum(length + np.array([False, *blank[1:]]))
    words = words.iloc[kept].drop(columns="blank", errors="ignore")
    words = words.reset_index(drop=True).assign(
        word=pd.Series(text, dtype=object), start=end - length, end=end
    )
    return words, len(part) - len(kept)


def _blanks(text, part, said):
    """Whether a blank stands before each piece."""
    mostly = sum(bool(WITHOUT_BLANKS.search(word)) for word in text) > len(text) / 2
    blank = []
    for i, word in enumerate(text):
        last = text[i - 1] if i else ""
        if said[i] is not None and said[i] == said[i]:
            blank.append(bool(said[i]))
            continue
        sides = [bool(WITHOUT_BLANKS.match(c)) for c in (last[-1:], word[:1])]
        glued = (
            not last
            or part[i] in ("close", "join")
            or part[i - 1] in ("open", "join")
            or _is_clitic(word, last, text[i + 1] if i + 1 < len(text) else "")
            or _is_elided(last, word)
            or (HYPHENATED.match(word) and word[1].islower() and last[-1:].isalnum())
            or all(sides)
            or (mostly and any(sides))
        )
        blank.append(not glued)
    return blank
