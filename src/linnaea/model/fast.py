"""Faster forms of the towers: bfloat16, products that suit the processor, and no work on outputs that nothing reads.

Each function changes a tower in place; its weights and parameter names stay. :func:`prepare_for_photographs` combines
those that change only the rounding of float32 sums. Training uses :class:`FastDepthwise` only.
"""

import platform
from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor
from torch.nn import Conv2d, Linear, Module, MultiheadAttention
from torch.nn.functional import conv2d, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from linnaea.errors import LinnaeaError
from linnaea.model.folders import Precision
from linnaea.model.runtimes import CPU_FACTS

_BRANCHES = ("attn", "mlp")
"""The names that open_clip and timm give to the branches of a transformer block."""


def prepare_for_photographs(tower: Module, device: torch.device, precision: str) -> None:
    """Give an image tower the fastest products that the processor has for photographs.

    Vectors change only by the rounding of float32 sums. Training and evaluation do not use this.
    """
    end_with_class_token(tower)
    if precision == "float32" and is_worth_it(device):
        multiply_pointwise(tower)


def choose_precision(precision: Precision, device: torch.device) -> Literal["float32", "bf16"]:
    """Return the precision; ``auto`` is bf16 if the device multiplies it natively, else float32 (faster there).

    Raises:
        LinnaeaError: the precision is ``int8``, which PyTorch does not run.
    """
    if precision == "int8":
        raise LinnaeaError(
            "the model has no form in 8 bits yet; `linnaea predict FOLDER --precision int8` makes it from 40 or more"
            " photographs, as do `embed` and `index`, and `serve` and `pack` with --int8-photographs"
        )
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
    """Change a tower in place to bfloat16 products; inputs and outputs stay float32.

    That is about twice as fast if the processor multiplies bfloat16 natively. The residual stream and every
    normalisation stay in float32. That costs a sixth of the speed of a tower that is bfloat16 throughout, and the
    vectors are three times closer to those of float32. A tower without transformer blocks is bfloat16 throughout.
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
    """Send only the class token through the last block of a transformer that reads nothing else.

    The class token attends to the other tokens, but nothing reads their outputs. This saves five sixths of the block's
    products, a fourteenth of ViT-B/16's. The vectors are the same up to the order of sums. Any other tower stays as it
    is: one that is not open_clip's transformer, or that reads more than its class token.

    With gradients enabled the block works as before, so that hooks and attention maps find every token.
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
    """Tell whether products on this device go through MKL on a processor that Intel did not make."""
    through_mkl = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if device.type != "cpu" or not through_mkl:
        return False
    facts = CPU_FACTS.read_text() if CPU_FACTS.exists() else platform.processor()
    return "AuthenticAMD" in facts


def multiply_pointwise(tower: Module) -> None:
    """Compute the float32 products of a tower as 1 x 1 convolutions.

    PyTorch hands a float32 ``Linear`` to MKL, which reaches a quarter of the speed of processors that Intel did not
    make. A 1 x 1 convolution is the same product and goes to oneDNN, which is fast on all of them.
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
    """Self-attention without a mask, of all tokens or some of them, as image towers use it; other uses fall back."""

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
        """Split projections that lie side by side into their heads."""
        n, length, _ = states.shape
        return states.view(n, length, -1, self.num_heads, self.embed_dim // self.num_heads).permute(2, 0, 3, 1, 4)


def has_depthwise(clip: Module) -> bool:
    """Tell whether a model has a depthwise convolution."""
    return any(isinstance(module, Conv2d) and module.groups > 1 for module in clip.modules())


class FastDepthwise(TorchFunctionMode):
    """A context in which depthwise convolutions of CPU tensors under bfloat16 autocast train at full speed.

    In bfloat16, oneDNN's gradient of a depthwise convolution takes up to a hundred times as long as in float32 (with
    stride 2), and most of the step of an EfficientNet. Here the forward pass and, without stride, the gradient of the
    input stay in bfloat16; the gradient of the weights is computed in float32. ``benchmarks/depthwise_speed.py`` has
    the figures.
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
