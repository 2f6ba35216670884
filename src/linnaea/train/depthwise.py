"""Depthwise convolutions in bfloat16 on a CPU, with a way back that is not slower than all the rest.

oneDNN's gradient of a depthwise convolution in bfloat16 takes up to a hundred times as long as in float32 (with
stride 2), and most of the step of an EfficientNet. Here the forward pass and, without stride, the gradient of the input
stay in bfloat16; the gradient of the weights is made in float32. ``benchmarks/depthwise_speed.py`` has the figures.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def has_depthwise(clip: nn.Module) -> bool:
    """Whether a model has a convolution with a filter for each channel."""
    return any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in clip.modules())


class FastDepthwise(TorchFunctionMode):
    """Within this context, depthwise convolutions of CPU tensors under bfloat16 autocast are :class:`_Depthwise`."""

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
