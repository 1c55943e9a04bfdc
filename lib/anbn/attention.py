"""Queries, keys and heads' outputs of a running model, whatever its attention code.

No module of a model holds them: they live inside the attention's forward pass, after
rotary embedding and query-key normalisation. Torch shows every function that a model
calls, so they are read where attention itself takes them: from
``scaled_dot_product_attention``, or from a matrix product and the softmax after it.
"""

import torch
from torch.overrides import TorchFunctionMode

POOLINGS = ("mean", "attention", "max")

_PRODUCTS = {"matmul", "__matmul__"}
_FACTORS = {"mul", "__mul__", "mul_", "__imul__"}
_SUMS = {"add", "__add__", "add_", "__iadd__"}
_DIVISORS = {"div", "__truediv__", "div_", "__itruediv__", "__idiv__", "true_divide"}
_SDPA = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


class Tap(TorchFunctionMode):
    """Shows, and can change, the self-attention of a model's blocks while it runs.

    Parameters
    ----------
    on_query : callable, optional
        ``on_query(layer, query)``; a tensor it returns takes the query's place.
    on_products : callable, optional
        ``on_products(layer, query, key, bias, causal, scale)`` with the query and key
        of shape (batch, n_heads, n, n_dimensions), keys repeated for grouped queries;
        ``bias`` is what is added to the logits, None for nothing.
    on_output : callable, optional
        ``on_output(layer, output)``; a tensor it returns takes the output's place.
    """

    def __init__(self, *, on_query=None, on_products=None, on_output=None):
        super().__init__()
        self.on_query, self.on_products = on_query, on_products
        self.on_output = on_output
        self.leave()

    def enter(self, layer, n_tokens):
        """A block begins, over so many tokens: its first attention is to be shown."""
        self.layer, self.n_tokens, self.query, self.logits = layer, n_tokens, None, None

    def leave(self):
        """A block, or its first attention, is over."""
        self.layer = self.query = self.logits = None

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.layer is None:
            return function(*args, **kwargs)
        if function is torch.nn.functional.scaled_dot_product_attention:
            return self._fused(function, dict(zip(_SDPA, args, strict=False)) | kwargs)
        name = getattr(function, "__name__", "")
        if name in _PRODUCTS and args[0].dim() == 4:
            return self._product(function, args, kwargs)
        result = function(*args, **kwargs)
        if self.query is not None and args:
            self._follow(name, args, result)
        return result

    def _fused(self, function, given):
        query, key = given.pop("query"), given.pop("key")
        # transformers packs the grouped queries of a single token so
        packed = self.n_tokens == 1 != query.shape[2]
        shape = query.shape
        if packed:
            query = query.reshape(shape[0], -1, 1, shape[-1])
        query = self._changed(self.on_query, query)
        if self.on_products:
            repeats = query.shape[1] // key.shape[1]
            scale = given.get("scale") or query.shape[-1] ** -0.5
            self.on_products(
                self.layer,
                query,
                key.repeat_interleave(repeats, 1),
                given.get("attn_mask"),
                given.get("is_causal", False),
                scale,
            )
        output = function(query.reshape(shape), key, given.pop("value"), **given)
        if packed:
            heads = output.reshape(*query.shape[:3], -1)
            output = self._changed(self.on_output, heads).reshape(output.shape)
        else:
            output = self._changed(self.on_output, output)
        self.leave()
        return output

    def _product(self, function, args, kwargs):
        if self.query is None:  # query times key
            query, key = self._changed(self.on_query, args[0]), args[1]
            self.query, self.key = query, key.transpose(-1, -2)
            self.scale = 1.0
            self.logits = function(query, key, **kwargs)
            return self.logits
        output = function(*args, **kwargs)  # attention times value
        output = self._changed(self.on_output, output)
        self.leave()
        return output

    def _follow(self, name, args, result):
        """Follow the logits through scaling and bias to the softmax."""
        if args[0] is self.logits:
            if name in _SUMS:
                self.logits = result
            elif name in _FACTORS | _DIVISORS and not torch.is_tensor(args[1]):
                self.scale *= args[1] if name in _FACTORS else 1 / args[1]
                self.logits = result
        if name == "softmax" and self.on_products:
            products = self.scale * self.query @ self.key.transpose(-1, -2)
            bias = args[0][..., : products.shape[-1]] - products  # less any sink
            self.on_products(self.layer, self.query, self.key, bias, False, self.scale)

    def _changed(self, function, tensor):
        changed = function(self.layer, tensor) if function else None
        return tensor if changed is None else changed


def query_key(query, key, bias, causal, scale, pooling="mean"):
    """Query-key products, element by element, pooled over the attended keys.

    ::

        qk[i, d] = scale * q[i, d] * pool_j k[j, d]

    Summed over a head's dimensions, ``mean`` gives the mean attention logit of a token
    over the keys that it attends to (a position bias is not a product and not in it).

    Parameters
    ----------
    query, key : Tensor of shape (batch, n_heads, n, n_dimensions)
    bias : Tensor broadcastable to (batch, n_heads, n, n), or None
        Boolean (True: attended), or added to the logits (far below zero: not attended).
    causal : bool
        Whether keys after the query are not attended.
    scale : float
    pooling : {"mean", "attention", "max"}
        Over keys: their mean, their mean weighted by attention, or the largest product.

    Returns
    -------
    qk : Tensor of shape (batch, n, n_heads * n_dimensions)

    References
    ----------
    Liu et al. 2023 (AAAI-23, arXiv 2303.14871); they do not state how keys are pooled.
    """
    if pooling not in POOLINGS:
        raise ValueError(
            f"qk_pooling must be one of {', '.join(POOLINGS)}, found {pooling!r}"
        )
    q, k = query.float(), key.float()
    n = q.shape[2]
    if bias is not None and bias.is_floating_point():
        attended = bias > torch.finfo(bias.dtype).min / 2
    elif bias is not None:
        attended = bias
    elif causal:
        attended = torch.ones(n, n, dtype=torch.bool, device=q.device).tril()
    else:
        attended = torch.ones(1, n, dtype=torch.bool, device=q.device)
    if pooling == "max":
        products = _largest(q, k, attended)
    else:
        if pooling == "attention":
            logits = scale * q @ k.transpose(-1, -2)
            if bias is not None and bias.is_floating_point():
                logits = logits + bias
            weights = logits.masked_fill(~attended, -torch.inf).softmax(-1)
        else:
            weights = attended / attended.sum(-1, keepdim=True)
        products = q * (weights @ k)
    return scale * products.transpose(1, 2).flatten(2)


def _largest(q, k, attended, n_rows=16):
    """Largest product with an attended key, some queries at a time."""
    attended = attended.expand(*attended.shape[:-2], q.shape[2], -1)
    parts = []
    for i in range(0, q.shape[2], n_rows):
        rows = attended[..., i : i + n_rows, :, None]
        part = q[:, :, i : i + n_rows, None] * k[:, :, None]
        parts.append(part.masked_fill(~rows, -torch.inf).amax(-2))
    return torch.cat(parts, 2)
