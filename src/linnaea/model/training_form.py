"""A form of open_clip's towers for training on a GPU: the same function and weights, in fewer and larger kernels.

:func:`take_training_form` changes the classes of a model's towers and blocks. Their parameters and names stay, so that
checkpoints, the optimiser, low-rank additions, frozen layers, DDP and FSDP2 see an ordinary open_clip model.

In training mode, a block is computed as one function of its weights (:func:`_image_block`, :func:`_caption_block`):

- patches times a matrix instead of a convolution, with the normalisation of the pixels folded into the matrix;
- one product for query, key and value, and attention without transposed copies;
- under autocast, bfloat16 from the patches to the projection. Each weight is rounded once in each forward pass, so
  that its gradient is added up in float32 over the parts of a batch;
- captions packed one after the other, so that nothing is computed for padding; the attention kernel knows where each
  begins and that it is causal;
- in the last block, only the tokens that are read afterwards.

In evaluation mode the towers run open_clip's own code.
"""

import inspect
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Real
from numpy import ndarray
from numpy.typing import NDArray
from open_clip.transformer import LayerNorm, LayerNormFp32, QuickGELU, ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from linnaea.model.preprocess import Preprocess
from linnaea.model.text import CausalTower, take_rows
from linnaea.model.transfer import move

varlen_attn: Any = None
with suppress(ImportError):  # PyTorch before 2.10
    from torch.nn.attention.varlen import varlen_attn

_CENTRE = 128
"""Subtracted from bytes; the difference is exact in bfloat16."""
_ROUND_TO = 64
_NORMS = (LayerNorm, LayerNormFp32)
_KERNEL_TYPES = (torch.bfloat16, torch.float16)
"""Types of the variable-length attention kernel."""


class _Weights(NamedTuple):
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


class _Shape(NamedTuple):
    """The settings of a block that are no weights."""

    n_heads: int
    eps_1: float
    eps_2: float
    quick: bool
    """Whether the activation is QuickGELU."""
    approximate: str


class _Places(NamedTuple):
    """Where the captions of a pack lie; tensors on the device."""

    starts: Int[Tensor, " S+1"]
    """The first row of each caption, and the number of rows."""
    ends: Int[Tensor, " S"]
    """The row of each caption's end token."""
    one_each: Int[Tensor, " S+1"]
    """0 to S: the starts of queries if each caption has one."""
    n_tokens: int
    """The most tokens that a caption can have."""
    by_kernel: bool
    """Whether the GPU has a kernel for captions of varying length."""


def _split(x: Tensor, *sizes: int) -> Tensor:
    """Return a view whose last dimension is split."""
    return x.view(*x.shape[:-1], *sizes)


def _norm(x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
    return layer_norm(x, gain.shape, gain.to(x.dtype), bias.to(x.dtype), eps)


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


def _finish(x: Tensor, mixed: Tensor, w: _Weights, shape: _Shape) -> Tensor:
    """Add the attention's result and the perceptron's to the residual stream."""
    out = _multiply(mixed, w.out_proj, w.out_proj_bias)
    x = x + (out if w.ls_1 is None else out * w.ls_1.to(x.dtype))
    hidden = _multiply(_norm(x, w.ln_2, w.ln_2_bias, shape.eps_2), w.c_fc, w.c_fc_bias)
    hidden = hidden * torch.sigmoid(1.702 * hidden) if shape.quick else gelu(hidden, approximate=shape.approximate)
    out = _multiply(hidden, w.c_proj, w.c_proj_bias)
    return x + (out if w.ls_2 is None else out * w.ls_2.to(x.dtype))


def _image_block(x: Float[Tensor, "B T W"], w: _Weights, shape: _Shape, first_only: bool) -> Float[Tensor, "B _ W"]:
    """Compute a block in which every token sees every token; ``first_only`` returns the first token's state alone."""
    width, heads = x.shape[-1], (shape.n_heads, -1)
    normed = _norm(x, w.ln_1, w.ln_1_bias, shape.eps_1)
    if first_only:
        query = _split(_multiply(normed[:, :1], w.in_proj[:width], w.in_proj_bias[:width]), *heads).transpose(1, 2)
        both = _split(_multiply(normed, w.in_proj[width:], w.in_proj_bias[width:]), 2, *heads)
        key, value = both.permute(2, 0, 3, 1, 4).unbind()
        x = x[:, :1]
    else:
        all_three = _split(_multiply(normed, w.in_proj, w.in_proj_bias), 3, *heads)
        query, key, value = all_three.permute(2, 0, 3, 1, 4).unbind()
    mixed = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    return _finish(x, mixed, w, shape)


def _caption_block(
    x: Float[Tensor, "N W"], w: _Weights, shape: _Shape, places: _Places, ends_only: bool
) -> Float[Tensor, "_ W"]:
    """Compute a block in which a token sees those before it in its caption; ``ends_only`` returns the end tokens'."""
    width, heads = x.shape[-1], (shape.n_heads, -1)
    normed = _norm(x, w.ln_1, w.ln_1_bias, shape.eps_1)
    if ends_only:
        query = _multiply(take_rows(normed, places.ends), w.in_proj[:width], w.in_proj_bias[:width])
        both = _split(_multiply(normed, w.in_proj[width:], w.in_proj_bias[width:]), 2, *heads)
        query, (key, value) = _split(query, *heads), both.unbind(1)
        x = take_rows(x, places.ends)
    else:
        query, key, value = _split(_multiply(normed, w.in_proj, w.in_proj_bias), 3, *heads).unbind(1)
    mixed = _attend(query, key, value, places, ends_only=ends_only)
    return _finish(x, mixed.flatten(1), w, shape)


def _attend(
    query: Float[Tensor, "Q H D"],
    key: Float[Tensor, "N H D"],
    value: Float[Tensor, "N H D"],
    places: _Places,
    *,
    ends_only: bool,
) -> Float[Tensor, "Q H D"]:
    """Compute attention within each caption of a pack: by one kernel, or by a padded grid where there is none."""
    n_tokens = places.n_tokens
    if places.by_kernel:
        if ends_only:
            starts, longest, option = places.one_each, 1, {}
        else:
            starts, longest, option = places.starts, n_tokens, _CAUSAL
        mixed: Tensor = varlen_attn(query, key, value, starts, places.starts, longest, n_tokens, **option)
        return mixed
    n_captions, lengths = len(places.ends), places.starts.diff()
    # The cell of each row in a grid of captions by tokens.
    gaps = torch.arange(n_captions, device=key.device) * n_tokens - places.starts[:-1]
    cells = torch.arange(len(key), device=key.device) + gaps.repeat_interleave(lengths, output_size=len(key))

    def spread(rows: Tensor) -> Tensor:
        grid = rows.new_zeros(n_captions * n_tokens, *rows.shape[1:]).index_copy(0, cells, rows)
        return grid.view(n_captions, n_tokens, *rows.shape[1:]).transpose(1, 2)

    if ends_only:
        visible = torch.arange(n_tokens, device=key.device) < lengths[:, None]
        queries = query[:, :, None]
        mixed = scaled_dot_product_attention(queries, spread(key), spread(value), attn_mask=visible[:, None, None])
        return mixed[:, :, 0]
    mixed = scaled_dot_product_attention(spread(query), spread(key), spread(value), is_causal=True)
    return take_rows(mixed.transpose(1, 2).flatten(0, 1), cells)


def _causal_option() -> dict[str, Any]:
    """Return how the kernel is told that attention is causal; the option was renamed after PyTorch 2.10."""
    if varlen_attn is None or "is_causal" in inspect.signature(varlen_attn).parameters:
        return {"is_causal": True}
    return {"window_size": (-1, 0)}


_CAUSAL = _causal_option()


def _has_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether variable-length attention runs on the device: in 16 bits, on Ampere or later."""
    if device.type != "cuda" or dtype not in _KERNEL_TYPES or varlen_attn is None:
        return False
    return torch.cuda.get_device_capability(device)[0] >= 8


class _TrainingBlock(ResidualAttentionBlock):  # type: ignore[misc]  # open_clip has no types
    """A block that also computes a function of its weights; only calls that give one take that way."""

    def forward(self, q_x: Tensor, k_x: Any = None, v_x: Any = None, attn_mask: Any = None) -> Tensor:
        if not isinstance(attn_mask, _Computed):
            plain: Tensor = super().forward(q_x, k_x, v_x, attn_mask)
            return plain
        return attn_mask.compute(q_x, self._weights(), self._shape(), *attn_mask.more)

    def _weights(self) -> _Weights:
        attention, up, down = self.attn, self.mlp.c_fc, self.mlp.c_proj
        return _Weights(
            self.ln_1.weight,
            self.ln_1.bias,
            attention.in_proj_weight,
            attention.in_proj_bias,
            attention.out_proj.weight,
            attention.out_proj.bias,
            self.ln_2.weight,
            self.ln_2.bias,
            up.weight,
            up.bias,
            down.weight,
            down.bias,
            getattr(self.ls_1, "gamma", None),
            getattr(self.ls_2, "gamma", None),
        )

    def _shape(self) -> _Shape:
        act = self.mlp.gelu
        return _Shape(
            self.attn.num_heads, self.ln_1.eps, self.ln_2.eps, type(act) is QuickGELU, getattr(act, "approximate", "")
        )


@dataclass(frozen=True)
class _Computed:
    """A function that computes a block, with the arguments after its weights."""

    compute: Callable[..., Tensor]
    more: tuple[Any, ...]


def _is_plain(block: Any) -> bool:
    """Tell whether a block is CLIP's, which :func:`_finish` and its callers compute."""
    if type(block) is not ResidualAttentionBlock or hasattr(block, "ln_1_kv"):
        return False
    attention = block.attn
    return (
        attention.batch_first
        and attention.in_proj_weight is not None
        and attention.in_proj_bias is not None
        and attention.bias_k is None
        and not attention.add_zero_attn
        and not attention.dropout
        and type(block.mlp.gelu) in (nn.GELU, QuickGELU)
        and all(type(norm) in _NORMS for norm in (block.ln_1, block.ln_2))
    )


def _run(transformer: Any, x: Tensor, computed: Callable[[bool], _Computed], *, ends: bool) -> Tensor:
    """Take states through all blocks; ``ends`` says whether the last one returns only what is read."""
    for number, block in enumerate(transformer.resblocks):
        how = computed(ends and number == len(transformer.resblocks) - 1)
        if transformer.grad_checkpointing:
            x = checkpoint(block, x, None, None, how, use_reentrant=False)
        else:
            x = block(x, None, None, how)
    return x


def _lowered(device: torch.device, otherwise: torch.dtype) -> torch.dtype:
    """Return the type in which a tower computes: autocast's if it is on."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else otherwise


class _TrainingVision(VisionTransformer):  # type: ignore[misc]  # open_clip has no types
    """A vision transformer that in training also takes bytes, which it normalises."""

    pixel_mean: Float[Tensor, " 3"]
    pixel_std: Float[Tensor, " 3"]
    compute: Callable[..., Tensor]

    def forward(self, x: Real[Tensor, "B 3 S S"]) -> Float[Tensor, "B E"]:
        if not self.training:
            plain: Tensor = super().forward(x)
            return plain
        dtype = _lowered(x.device, self.proj.dtype)
        with torch.autocast(x.device.type, enabled=False):
            x = self._embed(x, dtype)
            one = self.pool_type == "tok"
            x = _run(self.transformer, x, lambda first: _Computed(self.compute, (first,)), ends=one)
            if not self.final_ln_after_pool:
                x = _norm(x, self.ln_post.weight, self.ln_post.bias, self.ln_post.eps)
            pooled = x[:, 0] if one else x[:, 1:].mean(dim=1)
            if self.final_ln_after_pool:
                pooled = _norm(pooled, self.ln_post.weight, self.ln_post.bias, self.ln_post.eps)
            projected: Tensor = pooled @ self.proj.to(dtype)
            return projected

    def _embed(self, x: Tensor, dtype: torch.dtype) -> Float[Tensor, "B T W"]:
        (rows, columns), (height, width) = self.grid_size, self.patch_size
        pixels = x.permute(0, 2, 3, 1)[:, : rows * height, : columns * width]
        patches = pixels.reshape(len(x), rows, height, columns, width, -1).transpose(2, 3)
        patches = patches.reshape(len(x), rows * columns, -1)
        weight, bias = self.conv1.weight.permute(0, 2, 3, 1), None
        if x.dtype == torch.uint8:
            # Normalised: (byte - 128) * scale + offset. The product of the patches is taken with the bytes.
            mean, std = self.pixel_mean.to(weight.dtype), self.pixel_std.to(weight.dtype)
            bias = (weight * ((_CENTRE / 255 - mean) / std)).sum(dim=(1, 2, 3))
            weight = weight / (255 * std)
            patches = patches.to(dtype) - _CENTRE
        x = _multiply(patches.to(dtype), weight.flatten(1), bias)
        own = self.class_embedding.to(dtype).expand(len(x), 1, -1)
        x = torch.cat([own, x], dim=1) + self.positional_embedding.to(dtype)
        return x if isinstance(self.ln_pre, nn.Identity) else _norm(x, *_norm_of(self.ln_pre))


def _norm_of(layer: Any) -> tuple[Tensor, Tensor, float]:
    return layer.weight, layer.bias, layer.eps


def _has_plain_vision(clip: Any) -> bool:
    """Tell whether the image tower is one that :class:`_TrainingVision` computes."""
    tower: Any = getattr(clip, "visual", None)
    return (
        type(tower) is VisionTransformer
        and tower.pool_type in ("tok", "avg")
        and tower.attn_pool is None
        and not tower.output_tokens
        and isinstance(tower.patch_dropout, nn.Identity)
        and type(tower.ln_pre) in (*_NORMS, nn.Identity)
        and type(tower.ln_post) in _NORMS
        and all(_is_plain(block) for block in tower.transformer.resblocks)
    )


@dataclass
class Buckets:
    """Sizes to which varying sizes are padded, so that compiled code meets few of them.

    A new size leaves room for several standard deviations of a sum of that size, so that the first step's sizes suit
    almost all later ones.
    """

    sizes: list[int] = field(default_factory=list)

    def fit(self, n: int) -> int:
        """Return a size of at least ``n``: one that has been returned before, unless it is twice as large."""
        if found := min((size for size in self.sizes if n <= size <= 2 * n + 4 * _ROUND_TO), default=0):
            return found
        self.sizes.append(_ROUND_TO * math.ceil((n + 16 * math.sqrt(n)) / _ROUND_TO))
        return self.sizes[-1]


@dataclass
class CaptionForm:
    """How the captions of a causal text tower are encoded whose blocks have the training form."""

    compute: Callable[..., Tensor] = _caption_block
    captions: Buckets | None = None
    """Sizes of packs in captions; ``None``: as they come."""
    rows: Buckets | None = None
    """Sizes of packs in tokens."""

    def encode(self, clip: Any, tokens_BT: Int[Tensor, "B T"]) -> Float[Tensor, "B E"]:
        """Return the text tower's output (not normalised) for tokens in the host's memory, padded with 0."""
        tower = CausalTower.of(clip)
        assert tower is not None
        positions_TW, embedding = tower.positional_embedding, tower.token_embedding
        device, dtype = positions_TW.device, _lowered(positions_TW.device, positions_TW.dtype)
        parts = [move(torch.from_numpy(part), device) for part in self.pack(tokens_BT.numpy())]
        tokens, positions, starts, ends, one_each = parts
        places = _Places(starts, ends, one_each, len(positions_TW), _has_kernel(device, dtype))
        with torch.autocast(device.type, enabled=False):
            x = embedding(tokens).to(dtype) + take_rows(positions_TW, positions).to(dtype)
            x = _run(tower.transformer, x, lambda last: _Computed(self.compute, (places, last)), ends=True)
            x = _norm(x[: len(tokens_BT)], *_norm_of(tower.ln_final))
            if isinstance(tower.projection, nn.Linear):
                return _multiply(x, tower.projection.weight, tower.projection.bias)
            projected: Tensor = x if tower.projection is None else x @ tower.projection.to(dtype)
            return projected

    def pack(self, tokens_BT: Int[ndarray, "B T"]) -> tuple[NDArray[Any], ...]:
        """Return tokens and positions without padding, and the arrays of :class:`_Places`.

        With buckets, captions of tokens 0 that nothing reads fill the pack.
        """
        lengths = tokens_BT.argmax(axis=1) + 1  # the end token has the highest id
        fill = self._fill(len(lengths), int(lengths.sum()), tokens_BT.shape[1])
        of_real = np.arange(tokens_BT.shape[1]) < lengths[:, None]
        all_lengths = np.concatenate([lengths, fill])
        starts = np.concatenate([[0], np.cumsum(all_lengths)])
        positions = np.arange(starts[-1]) - np.repeat(starts[:-1], all_lengths)
        tokens = np.concatenate([tokens_BT[of_real], np.zeros(fill.sum(), tokens_BT.dtype)])
        return tokens, positions, starts.astype(np.int32), starts[1:] - 1, np.arange(len(starts), dtype=np.int32)

    def _fill(self, n_captions: int, n_rows: int, longest: int) -> Int[ndarray, " F"]:
        """Return the lengths of the captions that fill a pack: each from 1 to the longest."""
        if self.captions is None or self.rows is None:
            return np.zeros(0, np.int64)
        n_fill = 1
        while True:
            n_fill = self.captions.fit(n_captions + n_fill) - n_captions
            missing = self.rows.fit(n_rows + n_fill) - n_rows
            if missing <= n_fill * longest:
                return np.diff(np.arange(n_fill + 1) * missing // n_fill)
            n_fill = -(-missing // longest)


def take_training_form(clip: Any, preprocess: Preprocess, *, compiled: bool) -> None:
    """Give a model's towers the training form, in place; towers of other kinds stay as they are.

    The image tower needs to be open_clip's vision transformer, without attentional pooling and patch dropout, and the
    text tower causal (:class:`linnaea.model.text.CausalTower`), both with CLIP's plain blocks. With ``compiled`` each
    block is compiled; the blocks of a tower share the code.
    """
    if _has_plain_vision(clip):
        tower = clip.visual
        tower.__class__ = _TrainingVision
        tower.compute = torch.compile(_image_block, dynamic=False) if compiled else _image_block
        for name, value in (("pixel_mean", preprocess.mean), ("pixel_std", preprocess.std)):
            tower.register_buffer(name, torch.tensor(value, device=tower.proj.device), persistent=False)
        _change_blocks(tower.transformer)
    text = CausalTower.of(clip)
    if text is not None and _has_plain_blocks(text):
        _change_blocks(text.transformer)
        clip.caption_form = CaptionForm()
        if compiled:
            clip.caption_form = CaptionForm(torch.compile(_caption_block, dynamic=False), Buckets(), Buckets())


def _has_plain_blocks(text: CausalTower) -> bool:
    return type(text.ln_final) in _NORMS and all(_is_plain(block) for block in text.transformer.resblocks)


def _change_blocks(transformer: Any) -> None:
    for block in transformer.resblocks:
        block.__class__ = _TrainingBlock


def takes_bytes(clip: Any) -> bool:
    """Tell whether a model in training encodes bytes, without normalisation before."""
    tower = getattr(clip, "visual", None)
    return isinstance(tower, _TrainingVision) and tower.training


def caption_form(clip: Any) -> CaptionForm | None:
    """Return the form in which a model's captions are encoded in training, or ``None``: as in evaluation."""
    form: CaptionForm | None = getattr(clip, "caption_form", None) if clip.training else None
    return form
