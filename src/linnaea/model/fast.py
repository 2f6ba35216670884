"""Faster forms of the towers: bfloat16, products that suit the processor, and what nobody reads left out.

Each changes a tower in place; its weights and the names of its parameters stay. :func:`prepare_for_photographs` puts
together what changes nothing but the rounding of float32 sums. Training uses :class:`FastDepthwise` alone.
"""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor
from torch.nn import Conv2d, Linear, Module, MultiheadAttention
from torch.nn.functional import conv2d, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from linnaea.model.folders import Precision

CPU_FACTS = Path("/proc/cpuinfo")
_BRANCHES = ("attn", "mlp")
"""What open_clip and timm call the branches of a transformer's block."""


def prepare_for_photographs(tower: Module, device: torch.device, precision: str) -> None:
    """Give an image tower the fastest products that its processor has for photographs.

    Vectors stay the same but for the rounding of float32 sums. Training and evaluation go without.
    """
    end_with_class_token(tower)
    if precision == "float32" and is_worth_it(device):
        multiply_pointwise(tower)


def choose_precision(precision: Precision, device: torch.device) -> Literal["float32", "bf16"]:
    """``auto`` is bf16 where the device multiplies it natively, float32 elsewhere (it would be slower there)."""
    if precision != "auto":
        return precision
    return "bf16" if _multiplies_bf16(device) else "float32"


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    asks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not in every version of PyTorch
    return any(bool(getattr(torch.cpu, ask, bool)()) for ask in asks)


def lower_to_bf16(tower: Module) -> None:
    """Change a tower in place: float32 in, float32 out, bfloat16 products inside.

    That is about twice as fast where the processor multiplies bfloat16 natively. What is added up along the tower, and
    every normalisation, stays in float32, which costs a sixth of the speed of a tower that is bfloat16 throughout; its
    vectors are three times nearer to those of float32. A tower without transformer blocks is bfloat16 throughout.
    """
    branches = [module for name, module in tower.named_modules() if name.rpartition(".")[2] in _BRANCHES]
    for module in branches or [tower]:
        module.to(torch.bfloat16)
        module.register_forward_pre_hook(_to_bf16, with_kwargs=True)
        module.register_forward_hook(_to_float32)


def _to_bf16(
    module: Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(map(_lowered, args)), {name: _lowered(value) for name, value in kwargs.items()}


def _lowered(value: Any) -> Any:
    return value.to(torch.bfloat16) if isinstance(value, Tensor) and value.is_floating_point() else value


def _to_float32(module: Module, args: Any, output: Any) -> Any:
    if isinstance(output, tuple):
        return tuple(_to_float32(module, args, one) for one in output)
    return output.float() if isinstance(output, Tensor) and output.is_floating_point() else output


def end_with_class_token(tower: Any) -> None:
    """Let only the class token go through the last block of a transformer that reads nothing else.

    The other tokens are what the class token attends to, and then nobody reads them: five sixths of the block's
    products, a fourteenth of ViT-B/16's, need not be made. The vectors are the same but for the order of sums. A tower
    that is not open_clip's transformer, or reads more than its class token, stays as it is.

    Where gradients are asked for the block works as before, so that what looks into it finds every token.
    """
    if not isinstance(tower, VisionTransformer):
        return
    reads_one = tower.pool_type == "tok" and tower.attn_pool is None and not tower.output_tokens
    last = tower.transformer.resblocks[-1]
    if reads_one and type(last) is ResidualAttentionBlock and last.attn.batch_first:
        last.__class__ = _LastBlock


class _LastBlock(ResidualAttentionBlock):  # type: ignore[misc]  # open_clip has no types
    def forward(self, q_x: Float[Tensor, "B T W"], *args: Any, **kwargs: Any) -> Float[Tensor, "B _ W"]:
        asked = [option for option in (*args, *kwargs.values()) if option is not None]
        if asked or torch.is_grad_enabled():
            whole: Tensor = super().forward(q_x, *args, **kwargs)
            return whole
        normed = self.ln_1(q_x)
        first = q_x[:, :1] + self.ls_1(self.attn(normed[:, :1], normed, normed, need_weights=False)[0])
        out: Tensor = first + self.ls_2(self.mlp(self.ln_2(first)))
        return out


def is_worth_it(device: torch.device) -> bool:
    """Tell whether products run here through MKL, on a processor that is not Intel's."""
    through_mkl = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if device.type != "cpu" or not through_mkl:
        return False
    facts = CPU_FACTS.read_text() if CPU_FACTS.exists() else platform.processor()
    return "AuthenticAMD" in facts


def multiply_pointwise(tower: Module) -> None:
    """Multiply in float32 by 1 x 1 convolutions.

    PyTorch hands a ``Linear`` in float32 to MKL, which on processors of other makers than its own leaves a quarter of
    their speed. A 1 x 1 convolution is the same product and goes to oneDNN, which does not ask who made the processor.
    """
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


def has_depthwise(clip: Module) -> bool:
    """Tell whether a model has a convolution with a filter for each channel."""
    return any(isinstance(module, Conv2d) and module.groups > 1 for module in clip.modules())


class FastDepthwise(TorchFunctionMode):
    """Within this context, depthwise convolutions of CPU tensors under bfloat16 autocast learn as fast as all the rest.

    oneDNN's gradient of a depthwise convolution in bfloat16 takes up to a hundred times as long as in float32 (with
    stride 2), and most of the step of an EfficientNet. Here the forward pass and, without stride, the gradient of the
    input stay in bfloat16; the gradient of the weights is made in float32. ``benchmarks/depthwise_speed.py`` has the
    figures.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.conv2d and not kwargs and len(args) == 7 and _applies(*args):
            images_BCHW, weight, _, stride, padding = args[:5]
            return _Depthwise.apply(images_BCHW, weight, _pair(stride), _pair(padding))
        return func(*args, **(kwargs or {}))


def _applies(
    images_BCHW: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> bool:
    is_depthwise = 1 < groups == weight.shape[0] == images_BCHW.shape[1]
    in_bf16 = images_BCHW.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return is_depthwise and in_bf16 and bias is None and _pair(dilation) == [1, 1] and not isinstance(padding, str)


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images_BCHW: Tensor, weight: Tensor, stride: list[int], padding: list[int]) -> Tensor:
        images_BCHW, weight = images_BCHW.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(images_BCHW, weight)
        ctx.stride, ctx.padding = stride, padding
        result: Tensor = torch.ops.aten.convolution(
            images_BCHW, weight, None, stride, padding, [1, 1], False, [0, 0], len(weight)
        )
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        images_BCHW, weight = ctx.saved_tensors
        wants_images, wants_weight = ctx.needs_input_grad[:2]
        has_stride = ctx.stride != [1, 1]
        of_images = of_weight = None
        if wants_images and not has_stride:
            of_images = _backward(ctx, gradient, images_BCHW, weight, [True, False, False])[0]
        if wants_weight or has_stride:
            whole = gradient.float(), images_BCHW.float(), weight.float()
            made = _backward(ctx, *whole, [wants_images and has_stride, wants_weight, False])
            of_images, of_weight = (made[0].bfloat16() if wants_images and has_stride else of_images), made[1]
        return of_images, of_weight, None, None


def _backward(ctx: Any, gradient: Tensor, images_BCHW: Tensor, weight: Tensor, wanted: list[bool]) -> Any:
    return torch.ops.aten.convolution_backward(
        gradient, images_BCHW, weight, None, ctx.stride, ctx.padding, [1, 1], False, [0, 0], len(weight), wanted
    )
