"""What notebooks 02 and 04 ask of the model's data before they begin."""

from collections import Counter

from anbn.core.params import ParamError


def check_model_networks(corpus, *, n_networks, slice_tokens, scan=()):
    """Whether texts are long enough for the model's networks.

    Parameters
    ----------
    corpus : sequence
        Of each token.
    n_networks, slice_tokens : int
    scan : sequence of int
        As the parameters of stage 02.

    Raises
    ------
    ParamError
        If a slice, or all text for ``scan``, has too few tokens.
    """
    n_tokens = Counter(corpus).values()
    least = min(slice_tokens, *n_tokens)
    if n_networks >= least:
        raise ParamError(
            f"n_model_networks: {n_networks} networks cannot be found in a slice "
            f"of {least} tokens (slice_tokens is {slice_tokens}, the smallest corpus "
            f"has {min(n_tokens)}). Lower n_model_networks, or raise slice_tokens and "
            "corpus_tokens of stage 01."
        )
    if scan and max(scan) >= sum(n_tokens):
        raise ParamError(
            f"scan: {max(scan)} networks cannot be found in {sum(n_tokens)} tokens. "
            "Leave it out, or raise corpus_tokens of stage 01."
        )


def check_components(n_components, n_tokens, *, name):
    """Whether some text has as many tokens as components are asked of it.

    Parameters
    ----------
    n_components : sequence of int
    n_tokens : int
    name : str
        The parameter.

    Raises
    ------
    ParamError
        If it has not.
    """
    if len(n_components) and max(n_components) >= n_tokens:
        raise ParamError(
            f"{name}: {max(n_components)} components cannot be found in {n_tokens} "
            "tokens. Lower it, or raise corpus_tokens of stage 01."
        )
