"""Queries, keys and heads' outputs of a running model, whatever its attention code.

No module of a model holds them: they live inside the attention's forward pass, after
rotary embedding and query-key normalisation. Torch shows every function that a model
calls, so they are read where attention itself takes them: from
``scaled_dot_product_attention``, or from a matrix product and the softmax after it.
"""

import torch
from torch.overrides import TorchFunctionMode

POOLINGS = ("mean", "attention", "max")

# in double precision a softmax gives nothing to what is so far below the largest logit
NO_WEIGHT = 745.0

_SDPA = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
_PRODUCTS = {"matmul", "__matmul__", "bmm", "baddbmm"}

# What a model does to its logits between the product and the softmax.
_FACTORS = {"mul", "__mul__", "__rmul__", "mul_", "__imul__", "multiply"}
_DIVISORS = {"div", "__truediv__", "div_", "__itruediv__", "__idiv__", "true_divide"}
_JOINED = {"cat", "concat", "concatenate"}  # with the logits of attention sinks
_KEPT = {  # the product stays in the logits as it is, or nearly (a soft cap)
    *("add", "__add__", "__radd__", "add_", "__iadd__"),
    *("sub", "__sub__", "sub_", "__isub__", "subtract"),
    *("masked_fill", "masked_fill_", "where", "max", "maximum", "clamp", "clamp_"),
    *("tanh", "tanh_", "softcap"),
    *("to", "float", "half", "bfloat16", "type", "type_as", "contiguous", "clone"),
    *("view", "reshape", "dropout"),
}


class Tap(TorchFunctionMode):
    """Shows, and can change, the self-attention of a model's blocks while it runs.

    Parameters
    ----------
    on_query : callable, optional
        ``on_query(layer, query)``; a tensor it returns takes the query's place.
    on_products : callable, optional
        ``on_products(layer, query, key, bias, causal, scale)`` with the query and key
        of shape (batch, n_heads, n, n_dimensions), keys repeated for grouped queries;
        ``bias`` is what is added to the logits (a soft cap's part, too), None for
        nothing.
    on_output : callable, optional
        ``on_output(layer, output)``; a tensor it returns takes the output's place.
    """

    def __init__(self, *, on_query=None, on_products=None, on_output=None):
        super().__init__()
        self.on_query, self.on_products = on_query, on_products
        self.on_output = on_output
        self.enter(None, 0, 0)
        self.inside = False

    def enter(self, layer, batch, n_tokens):
        """A block begins, over so many texts and tokens: show its attention."""
        self.leave()
        self.layer, self.batch, self.n_tokens = layer, batch, n_tokens
        self.inside, self.several, self.rescaled = True, False, False
        self.output = None  # of the block's attention, as it was handed on

    def leave(self):
        """A block, or its attention, is over."""
        self.layer = self.query = self.key = self.logits = None
        self.softened = self.shown = False
        self.unknown = []  # functions that the logits went through, not followed

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.layer is None:
            if self.inside:
                self.several |= self._is_another(function, args, kwargs)
                self.rescaled |= self._rescales(function, args)
            return function(*args, **kwargs)
        if function is torch.nn.functional.scaled_dot_product_attention:
            return self._fused(function, dict(zip(_SDPA, args, strict=False)) | kwargs)
        name = getattr(function, "__name__", "")
        if name in _PRODUCTS:
            if self.query is None and self._is_attention(name, args, kwargs):
                return self._query_times_key(function, name, args, kwargs)
            if self.softened:
                return self._attention_times_value(function, args, kwargs)
        result = function(*args, **kwargs)
        if self.query is not None:
            self._follow(name, args, kwargs, result)
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
            scale = given.get("scale")
            self.on_products(
                self.layer,
                query,
                key.repeat_interleave(repeats, 1),
                given.get("attn_mask"),
                given.get("is_causal", False),
                query.shape[-1] ** -0.5 if scale is None else scale,
            )
        output = function(query.reshape(shape), key, given.pop("value"), **given)
        heads = output.reshape(*query.shape[:3], -1) if packed else output
        output = self._changed(self.on_output, heads).reshape(output.shape)
        self.leave()
        return output

    def _is_another(self, function, args, kwargs):
        """Whether a block's own tokens attend to each other once more."""
        given = [x for x in (*args, *kwargs.values()) if torch.is_tensor(x)]
        if function is torch.nn.functional.scaled_dot_product_attention:
            return given[0].shape[-2] == given[1].shape[-2] == self.n_tokens
        if getattr(function, "__name__", "") != "softmax" or not given:
            return False
        logits = given[0]
        return logits.dim() == 4 and logits.shape[-2:] == (self.n_tokens,) * 2

    def _rescales(self, function, args):
        """Whether what attention gave is multiplied on its way to the projection."""
        name = getattr(function, "__name__", "")
        return name in _FACTORS and any(x is self.output for x in args)

    def _is_attention(self, name, args, kwargs):
        """Whether a product is one of every token's query with keys."""
        left, right = _factors(name, args, kwargs)
        if left.dim() not in (3, 4) or left.dim() != right.dim() or not self.batch:
            return False
        # with three dimensions the heads are in the batch
        return (
            len(left) % self.batch == 0
            and left.shape[-2] == self.n_tokens <= right.shape[-1]
        )

    def _query_times_key(self, function, name, args, kwargs):
        query, key = _factors(name, args, kwargs)
        heads = self._changed(self.on_query, self._by_head(query))
        changed = heads.reshape(query.shape)
        args = [changed if x is query else x for x in args]
        kwargs = {k: changed if x is query else x for k, x in kwargs.items()}
        self.query, self.key = heads, self._by_head(key).transpose(-1, -2)
        self.scale = kwargs.get("alpha", 1.0)
        self.first_key = 0
        self.logits = function(*args, **kwargs)
        return self.logits

    def _attention_times_value(self, function, args, kwargs):
        output = function(*args, **kwargs)
        heads = self._changed(self.on_output, self._by_head(output))
        self.output = heads.reshape(output.shape)
        if self.shown or not self.on_products:
            self.leave()
        return self.output

    def _by_head(self, x):
        """(batch, n_heads, ...), where a model has heads in its batch, too."""
        return x.reshape(self.batch, -1, *x.shape[1:]) if x.dim() == 3 else x

    def _follow(self, name, args, kwargs, result):
        """Follow the logits through scale, soft cap, mask and bias to the softmax."""
        given = [*args, *kwargs.values()]
        if name == "softmax":
            # one is the attention's own, also where its logits could not be followed
            self.several |= self.softened and self._is_another(
                torch.softmax, args, kwargs
            )
            self.softened = True
            if self.on_products and any(x is self.logits for x in given):
                self._show()
            return
        if name in _JOINED:
            parts = list(given[0])
            for i, part in enumerate(parts):
                if part is self.logits:
                    self.first_key += sum(x.shape[-1] for x in parts[:i])
                    self.logits = result
            return
        if not any(x is self.logits for x in given):
            return
        known = name in _KEPT or self._scaled(name, given)
        if known and torch.is_tensor(result) and result.numel() >= self.logits.numel():
            self.logits = result
        else:
            self.unknown.append(name)

    def _scaled(self, name, given):
        """Take a factor into the scale; False if it is none."""
        if name in _FACTORS:
            factor = given[0] if given[1] is self.logits else given[1]
        elif name in _DIVISORS and given[0] is self.logits:
            factor = given[1]
        else:
            return False
        if not torch.is_tensor(factor) or factor.numel() == 1:
            factor = float(factor)
        elif factor.shape[-1] > 1:  # GPT-1 masks by ones and zeros
            return name in _FACTORS and bool(((factor == 0) | (factor == 1)).all())
        elif self.logits.dim() != 4:
            return False
        self.scale = self.scale * (factor if name in _FACTORS else 1 / factor)
        return True

    def _show(self):
        query, key = self.query.float(), self.key.float()
        keys = slice(self.first_key, self.first_key + key.shape[-2])
        logits = self._by_head(self.logits)[..., keys].float()
        bias = logits - self.scale * query @ key.transpose(-1, -2)
        self.on_products(self.layer, self.query, self.key, bias, False, self.scale)
        self.shown = True

    def _changed(self, function, tensor):
        changed = function(self.layer, tensor) if function else None
        return tensor if changed is None else changed


def _factors(name, args, kwargs):
    """The two tensors that a function multiplies."""
    tensors = [x for x in (*args, *kwargs.values()) if torch.is_tensor(x)]
    return tensors[1:3] if name == "baddbmm" else tensors[:2]


def query_key(query, key, bias, causal, scale, pooling="mean"):
    """Query-key products, element by element, pooled over the attended keys.

    ::

        qk[i, d] = scale * q[i, d] * pool_j k[j, d]

    Summed over a head's dimensions, ``mean`` gives the mean attention logit of a token
    over the keys that it attends to (a position bias is not a product and not in it,
    and a soft cap of the logits is not applied to it). A token attends to the keys to
    which its softmax gives weight, in double precision; if there is none, as at
    padding, its products are 0.

    Parameters
    ----------
    query, key : Tensor of shape (batch, n_heads, n, n_dimensions)
        There may be more keys than queries.
    bias : Tensor broadcastable to (batch, n_heads, n, n), or None
        Boolean (True: attended), or added to the logits (far below others: not
        attended, whatever number a model masks with).
    causal : bool
        Whether keys after the query are not attended.
    scale : float, or Tensor broadcastable to (batch, n_heads, n, 1)
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
    logits = None
    if pooling == "attention" or (bias is not None and bias.is_floating_point()):
        logits = scale * q @ k.transpose(-1, -2)
    if bias is None:
        attended = torch.ones(q.shape[2], k.shape[2], dtype=bool, device=q.device)
        attended = attended.tril() if causal else attended
    elif bias.is_floating_point():
        logits = logits + bias
        attended = logits > logits.amax(-1, keepdim=True) - NO_WEIGHT
    else:
        attended = bias
    if pooling == "max":
        products = _largest(q, k, attended)
    else:
        if pooling == "attention":
            weights = logits.masked_fill(~attended, -torch.inf).softmax(-1)
            weights = weights.where(attended, 0)
        else:
            weights = attended / attended.sum(-1, keepdim=True).clamp(min=1)
        products = q * (weights @ k)
    return (scale * products).transpose(1, 2).flatten(2)


def _largest(q, k, attended):
    """Largest product with an attended key, 16 queries at a time."""
    attended = attended.expand(*attended.shape[:-2], q.shape[2], -1)
    parts = []
    for queries, rows in zip(q.split(16, 2), attended.split(16, -2), strict=True):
        part = queries[:, :, :, None] * k[:, :, None]
        largest = part.masked_fill(~rows[..., None], -torch.inf).amax(-2)
        parts.append(largest.where(rows.any(-1, keepdim=True), 0))
    return torch.cat(parts, 2)
