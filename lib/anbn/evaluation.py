"""How well a language model still does."""

import numpy as np

from anbn import forward


class EvaluationError(ValueError):
    """A model or text cannot be evaluated as asked."""


def perplexity(language_model, tokens, *, window, stride):
    """Perplexity on text: exp of the mean surprisal (nats) of its tokens.

    Parameters
    ----------
    language_model : LanguageModel
        With a causal head.
    tokens : DataFrame
        From ``tokenization.tokenize``. Each document's first token has no surprisal.
    window, stride : int
        Tokens; see ``tokenization.windows``.

    Returns
    -------
    perplexity : float

    Raises
    ------
    EvaluationError
        If the model has no causal head or fewer than two tokens are given.
    """
    if language_model.head != "causal":
        raise EvaluationError(
            "perplexity needs a causal language model; this one was loaded with "
            f"head={language_model.head!r}"
        )
    if len(tokens) < 2:
        raise EvaluationError(f"perplexity needs 2 tokens or more, found {len(tokens)}")
    options = {"window": window, "stride": stride}
    losses = [
        recorded.surprisal
        for recorded in forward.forward_windows(
            language_model, tokens, surprisal=True, **options
        )
    ]
    return float(np.exp(np.nanmean(np.concatenate(losses).astype(np.float64))))
