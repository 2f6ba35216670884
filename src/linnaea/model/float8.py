"""Matrix products in 8 bits (float8) for training, with gradients, after FP8-LM (arXiv 2310.18313) and torchao.

Values and weights are rounded to e4m3 (four bits of exponent, three of mantissa), gradients to e5m2, which has a larger
range. Each tensor has one scale, taken from its largest magnitude in each pass. Sums are in float32.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

_VALUES, _GRADIENTS = torch.float8_e4m3fn, torch.float8_e5m2
_MULTIPLE = 16
"""The kernels need sizes that are multiples of this."""


def has_float8(device: torch.device) -> bool:
    """Tell whether the device multiplies in float8: NVIDIA's Ada, Hopper and later."""
    if device.type != "cuda" or torch.version.cuda is None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 9)


def multiply_in_float8(
    x: Float[Tensor, "*N I"], weight: Float[Tensor, "O I"], bias: Float[Tensor, " O"] | None
) -> Float[Tensor, "*N O"]:
    """Return ``x @ weight.T + bias`` with products in float8, forward and backward.

    Sizes that the kernels do not take are multiplied in the type of ``x``. For the backward pass ``x`` is kept in
    8 bits.
    """
    rows = x.flatten(0, -2)
    if any(size % _MULTIPLE for size in (*rows.shape, *weight.shape)):
        return linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
    product: Tensor = _Product.apply(rows, weight)
    product = product.view(*x.shape[:-1], len(weight))
    return product if bias is None else product + bias.to(x.dtype)


def to_float8(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Float[Tensor, ""]]:
    """Return a tensor in float8 and the scale by which it must be multiplied."""
    largest = torch.finfo(dtype).max
    scale = x.abs().amax().float().clamp(min=1e-30) / largest
    return (x.float() / scale).clamp(-largest, largest).to(dtype), scale


class _Product(torch.autograd.Function):
    """``x @ weight.T``; ``torch._scaled_mm`` takes a row-major and a column-major matrix."""

    @staticmethod
    def forward(ctx: Any, x_NI: Tensor, weight_OI: Tensor) -> Tensor:
        x8, x_scale = to_float8(x_NI, _VALUES)
        weight8, weight_scale = to_float8(weight_OI, _VALUES)
        ctx.save_for_backward(x8, x_scale, weight8, weight_scale)
        ctx.types = x_NI.dtype, weight_OI.dtype
        return torch._scaled_mm(x8, weight8.t(), x_scale, weight_scale, out_dtype=x_NI.dtype, use_fast_accum=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        x8, x_scale, weight8, weight_scale = ctx.saved_tensors
        x_type, weight_type = ctx.types
        g8, g_scale = to_float8(gradients[0], _GRADIENTS)
        to_x = torch._scaled_mm(g8, _by_columns(weight8), g_scale, weight_scale, out_dtype=x_type)
        to_weight = torch._scaled_mm(g8.t().contiguous(), _by_columns(x8), g_scale, x_scale, out_dtype=x_type)
        return to_x, to_weight.to(weight_type)


def _by_columns(matrix: Tensor) -> Tensor:
    """Return a copy of a row-major matrix in column-major order."""
    return matrix.t().contiguous().t()
