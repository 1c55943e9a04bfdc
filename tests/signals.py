"""Random signals and texts with something in them to find."""

WORDS = "the cat sat on a mat would dog ran far away today".split()


def smooth(rng, *shape, width=4):
    """Noise, smooth over `width` of its first axis as BOLD is, and not periodic."""
    noise = rng.normal(size=(shape[0] + 10, *shape[1:]))
    return sum(noise[i : i + shape[0]] for i in range(width))


def some_text(rng, n_words):
    return " ".join(rng.choice(WORDS, n_words))


def some_texts(rng, n_texts, n_words=40):
    return [some_text(rng, n_words) for _ in range(n_texts)]
