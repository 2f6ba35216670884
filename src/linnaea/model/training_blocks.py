"""Blocks of transformers as functions of their weights: the arithmetic of :mod:`linnaea.model.training_form`.

All products have the type of their input: weights are rounded to it where they are used.
"""

import inspect
import math
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

from linnaea.model.float8 import multiply_in_float8
from linnaea.model.text import take_rows

varlen_attn: Any = None
with suppress(ImportError):  # PyTorch before 2.10
    from torch.nn.attention.varlen import varlen_attn

_KERNEL_TYPES = (torch.bfloat16, torch.float16)
"""Types of the variable-length attention kernel."""


class Weights(NamedTuple):
    """The weights of a block, by their names in open_clip's."""

    ln_1: Tensor
    ln_1_bias: Tensor
    in_proj: Tensor
    in_proj_bias: Tensor
    out_proj: Tensor
    out_proj_bias: Tensor
    ln_2: Tensor
    ln_2_bias: Tensor
    c_fc: Tensor
    c_fc_bias: Tensor
    c_proj: Tensor
    c_proj_bias: Tensor
    ls_1: Tensor | None
    ls_2: Tensor | None


class Shape(NamedTuple):
    """The settings of a block that are not weights."""

    n_heads: int
    eps_1: float
    eps_2: float
    quick: bool
    """True if the activation is QuickGELU, false if it is GELU."""
    approximate: str
    float8: bool
    """True if an image block multiplies its matrices in 8 bits."""


class Places(NamedTuple):
    """The positions of the captions in a pack; the tensors are on the device."""

    starts: Int[Tensor, " S+1"]
    """The first row of each caption, and the number of rows."""
    ends: Int[Tensor, " S"]
    """The row of each caption's end token."""
    n_tokens: int
    """The most tokens that a caption can have."""
    by_kernel: bool
    """True if the GPU has an attention kernel for captions of different lengths."""


def normalise(x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Return layer normalisation over the last dimension."""
    return layer_norm(x, gain.shape, gain.to(x.dtype), bias.to(x.dtype), eps)


def multiply(x: Float[Tensor, "*N I"], weight: Float[Tensor, "O I"], bias: Tensor | None) -> Float[Tensor, "*N O"]:
    """Return ``x @ weight.T + bias``."""
    return linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


def image_block(x: Float[Tensor, "B T W"], w: Weights, shape: Shape, first_only: bool) -> Float[Tensor, "B _ W"]:
    """Compute a block in which every token sees every token; ``first_only`` returns the first token's state alone."""
    width, heads = x.shape[-1], (shape.n_heads, -1)
    normed = normalise(x, w.ln_1, w.ln_1_bias, shape.eps_1)
    if first_only:
        query = _split(multiply(normed[:, :1], w.in_proj[:width], w.in_proj_bias[:width]), *heads)
        both = _split(multiply(normed, w.in_proj[width:], w.in_proj_bias[width:]), 2, *heads)
        mixed = _attend_from_one(query, *both.unbind(2))
        return _finish(x[:, :1], mixed, w, shape._replace(float8=False))
    product = multiply_in_float8 if shape.float8 else multiply
    all_three = _split(product(normed, w.in_proj, w.in_proj_bias), 3, *heads)
    query, key, value = all_three.permute(2, 0, 3, 1, 4).unbind()
    mixed = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    return _finish(x, mixed, w, shape)


def _attend_from_one(
    query: Float[Tensor, "B 1 H D"], key: Float[Tensor, "B T H D"], value: Float[Tensor, "B T H D"]
) -> Float[Tensor, "B 1 W"]:
    """Compute the attention of one token as weighted sums: there is too little work for the kernels of attention."""
    exact = query.to(torch.promote_types(query.dtype, torch.float32)) / math.sqrt(query.shape[-1])
    weights_BTH = (exact * key).sum(dim=-1).softmax(dim=1)
    mixed: Tensor = (weights_BTH[..., None] * value).sum(dim=1, keepdim=True)
    return mixed.to(query.dtype).flatten(2)


def caption_block(
    x: Float[Tensor, "N W"], w: Weights, shape: Shape, places: Places, ends_only: bool
) -> Float[Tensor, "_ W"]:
    """Compute a block in which a token sees those before it in its caption; ``ends_only`` returns the end tokens'."""
    normed = normalise(x, w.ln_1, w.ln_1_bias, shape.eps_1)
    query, key, value = _split(multiply(normed, w.in_proj, w.in_proj_bias), 3, shape.n_heads, -1).unbind(1)
    mixed = _attend_in_captions(query, key, value, places).flatten(1)
    if ends_only:
        x, mixed = take_rows(x, places.ends), take_rows(mixed, places.ends)
    return _finish(x, mixed, w, shape)


def _attend_in_captions(
    query: Float[Tensor, "N H D"], key: Float[Tensor, "N H D"], value: Float[Tensor, "N H D"], places: Places
) -> Float[Tensor, "N H D"]:
    """Compute causal attention within each caption of a pack: by one kernel, or by a padded grid without it."""
    n_tokens, starts = places.n_tokens, places.starts
    if places.by_kernel:
        mixed: Tensor = varlen_attn(query, key, value, starts, starts, n_tokens, n_tokens, **_CAUSAL)
        return mixed
    n_captions = len(places.ends)
    # The cell of each row in a grid of captions by tokens.
    gaps = torch.arange(n_captions, device=key.device) * n_tokens - starts[:-1]
    cells = torch.arange(len(key), device=key.device) + gaps.repeat_interleave(starts.diff(), output_size=len(key))

    def spread(rows: Tensor) -> Tensor:
        grid = rows.new_zeros(n_captions * n_tokens, *rows.shape[1:]).index_copy(0, cells, rows)
        return grid.view(n_captions, n_tokens, *rows.shape[1:]).transpose(1, 2)

    mixed = scaled_dot_product_attention(spread(query), spread(key), spread(value), is_causal=True)
    return take_rows(mixed.transpose(1, 2).flatten(0, 1), cells)


def _finish(x: Tensor, mixed: Tensor, w: Weights, shape: Shape) -> Tensor:
    """Add the attention's result and the perceptron's to the residual stream."""
    product = multiply_in_float8 if shape.float8 else multiply
    out = product(mixed, w.out_proj, w.out_proj_bias)
    x = x + (out if w.ls_1 is None else out * w.ls_1.to(x.dtype))
    hidden = product(normalise(x, w.ln_2, w.ln_2_bias, shape.eps_2), w.c_fc, w.c_fc_bias)
    hidden = hidden * torch.sigmoid(1.702 * hidden) if shape.quick else gelu(hidden, approximate=shape.approximate)
    out = product(hidden, w.c_proj, w.c_proj_bias)
    return x + (out if w.ls_2 is None else out * w.ls_2.to(x.dtype))


def _split(x: Tensor, *sizes: int) -> Tensor:
    """Return a view whose last dimension is split."""
    return x.view(*x.shape[:-1], *sizes)


def _causal_option() -> dict[str, Any]:
    """Return how the kernel is told that attention is causal; the option was renamed after PyTorch 2.10."""
    if varlen_attn is None or "is_causal" in inspect.signature(varlen_attn).parameters:
        return {"is_causal": True}
    return {"window_size": (-1, 0)}


_CAUSAL = _causal_option()


def has_kernel(device: torch.device, dtype: torch.dtype, head_width: int) -> bool:
    """Tell whether variable-length attention runs on the device: in 16 bits, on Ampere or later."""
    if device.type != "cuda" or dtype not in _KERNEL_TYPES or varlen_attn is None:
        return False
    return head_width % 8 == 0 and head_width <= 256 and torch.cuda.get_device_capability(device)[0] >= 8
