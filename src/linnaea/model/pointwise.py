"""float32 products of a transformer on processors that MKL does not favour.

PyTorch hands a ``Linear`` in float32 to MKL, which on processors of other makers than its own leaves a quarter of their
speed. A 1 x 1 convolution is the same product and goes to oneDNN, which does not ask who made the processor.
"""

import platform
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Linear, Module, MultiheadAttention
from torch.nn.functional import conv2d, scaled_dot_product_attention

CPU_FACTS = Path("/proc/cpuinfo")


def is_worth_it(device: torch.device) -> bool:
    """Whether products run here through MKL, on a processor that is not Intel's."""
    through_mkl = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if device.type != "cpu" or not through_mkl:
        return False
    facts = CPU_FACTS.read_text() if CPU_FACTS.exists() else platform.processor()
    return "AuthenticAMD" in facts


def multiply_pointwise(tower: Module) -> None:
    """Change a tower in place: its weights stay, its products take the other way."""
    for module in tower.modules():
        if type(module) is Linear:
            module.__class__ = _PointwiseLinear
        elif type(module) is MultiheadAttention and _is_plain(module):
            module.__class__ = _PointwiseAttention


def _is_plain(module: MultiheadAttention) -> bool:
    same_width = module.in_proj_weight is not None
    return module.batch_first and same_width and module.bias_k is None and not module.add_zero_attn


def _multiply(x: Float[Tensor, "*N I"], weight: Float[Tensor, "O I"], bias: Tensor | None) -> Float[Tensor, "*N O"]:
    rows = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # a picture one pixel wide, channels last: no copy
    return conv2d(rows, weight[:, :, None, None], bias).permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


class _PointwiseLinear(Linear):
    def forward(self, input: Tensor) -> Tensor:
        return _multiply(input, self.weight, self.bias)


class _PointwiseAttention(MultiheadAttention):
    """Attention of a sequence, or some of its tokens, to itself without a mask, as image towers have it; anything else
    takes the usual way."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        asked = {name for name, option in kwargs.items() if option is not None and option is not False}
        if asked or args or "need_weights" not in kwargs or key is not value or self.training:
            return super().forward(query, key, value, *args, **kwargs)
        width, weight, bias = query.shape[-1], self.in_proj_weight, self.in_proj_bias
        if query is key:
            q, k, v = self._heads(_multiply(query, weight, bias))
        else:
            (q,) = self._heads(_multiply(query, weight[:width], bias[:width]))
            k, v = self._heads(_multiply(key, weight[width:], bias[width:]))
        mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(query.shape)
        return _multiply(mixed, self.out_proj.weight, self.out_proj.bias), None

    def _heads(self, states: Float[Tensor, "B T PW"]) -> Float[Tensor, "P B H T D"]:
        """Projections that lie side by side, each cut into its heads."""
        n, length, _ = states.shape
        return states.view(n, length, -1, self.num_heads, self.embed_dim // self.num_heads).permute(2, 0, 3, 1, 4)
