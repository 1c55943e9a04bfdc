"""Seeded damage: bytes flipped and cut, lines lost and doubled, words replaced."""

import random

NASTY = [
    *("nan", "-nan", "inf", "-.inf", ".nan", "1e999", "-1", "0", "1e-320", "9" * 400),
    *("0x" + "f" * 5000, "9" * 5000, "2001-99-99", "1_000", "0o8", "~", "null", "yes"),
    *("", "[]", "{}", "[[1]]", "- 1", "'", '"', "\t", "\\0", '"\\0"', "\x00", "\ufeff"),
    *('"\\ud800"', "é" * 300, "x" * 300, "../../etc/passwd", "/etc/passwd", "\u202e"),
    *(
        "<script>alert(1)</script>",
        "{0}",
        "%s",
        "&a [*a]",
        "*b",
        "<<: *c",
        "!!binary x",
    ),
    *("!!python/object/apply:os.system ['touch /tmp/x']", "!!timestamp 2", "!!set {a}"),
    *("!!float .nan", "!!int x", "!!str 1", "? [1]", "n/a", "00:00:99,999", "-->"),
]


def mutate(text, rng, nasty=NASTY):
    """Text with one to three changes.

    Parameters
    ----------
    text : str
    rng : random.Random
    nasty : list of str
    """
    for _ in range(rng.choice((1, 1, 2, 3))):
        lines = text.split("\n")
        at = rng.randrange(len(lines))
        place = rng.randrange(len(text) + 1)
        kind = rng.randrange(9)
        if kind == 0:
            text = text[:place]
        elif kind == 1:
            text = text[:place] + rng.choice(nasty) + text[place:]
        elif kind == 2:
            text = text[:place] + text[place + rng.randrange(1, 20) :]
        elif kind == 3:
            text = "\n".join(lines[:at] + lines[at + 1 :])
        elif kind == 4:
            text = "\n".join([*lines[: at + 1], lines[at], *lines[at + 1 :]])
        elif kind == 5:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
            text = "\n".join(lines)
        else:  # one value of a line
            cells = lines[at].replace(",", "\t,\t").replace(": ", "\t: \t").split("\t")
            cells[rng.randrange(len(cells))] = rng.choice(nasty)
            joined = (
                "".join(cells) if "," in cells or ": " in cells else "\t".join(cells)
            )
            text = "\n".join([*lines[:at], joined, *lines[at + 1 :]])
    return text


def damage(raw, rng, most=4):
    """Bytes cut short, or with some bits flipped, mostly near the beginning.

    Parameters
    ----------
    raw : bytes
    rng : random.Random
    most : int
        Bits flipped.
    """
    raw = bytearray(raw)
    if rng.random() < 0.3:
        return bytes(raw[: rng.randrange(len(raw))])
    for _ in range(rng.randint(1, most)):
        end = rng.choice((min(400, len(raw)), len(raw)))
        raw[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(raw)


def seeded(*parts):
    return random.Random(repr(parts))
