"""A form of open_clip's towers for training on a GPU: the same function and weights, in fewer and larger kernels.

:func:`take_training_form` changes the classes of a model's towers and blocks. Their parameters and names stay, so that
checkpoints, the optimiser, low-rank additions, frozen layers, DDP and FSDP2 see an ordinary open_clip model.

In training mode, a block is computed as one function of its weights (:mod:`linnaea.model.training_blocks`):

- patches times a matrix instead of a convolution, with the normalisation of the pixels folded into the matrix;
- one product for query, key and value, and attention without transposed copies;
- under autocast, bfloat16 from the patches to the projection. Each weight is rounded once in each forward pass, so
  that its gradient is added up in float32 over the parts of a batch;
- captions packed one after the other, so that nothing is computed for padding; the attention kernel knows where each
  begins and that it is causal;
- in the last block, only the tokens that are read afterwards.

In evaluation mode the towers run open_clip's own code.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Real
from numpy import ndarray
from numpy.typing import NDArray
from open_clip.transformer import LayerNorm, LayerNormFp32, QuickGELU, ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from linnaea.model.preprocess import Preprocess
from linnaea.model.text import CausalTower, take_rows
from linnaea.model.training_blocks import (
    Places,
    Shape,
    Weights,
    caption_block,
    has_kernel,
    image_block,
    multiply,
    normalise,
)
from linnaea.model.transfer import move

_CENTRE = 128
"""Subtracted from bytes; the difference is exact in bfloat16."""
_ROUND_TO = 64
_NORMS = (LayerNorm, LayerNormFp32)


class _TrainingBlock(ResidualAttentionBlock):  # type: ignore[misc]  # open_clip has no types
    """A block that also computes a function of its weights; only calls that give one take that way."""

    float8: bool = False

    def forward(self, q_x: Tensor, k_x: Any = None, v_x: Any = None, attn_mask: Any = None) -> Tensor:
        if not isinstance(attn_mask, _Computed):
            plain: Tensor = super().forward(q_x, k_x, v_x, attn_mask)
            return plain
        return attn_mask.compute(q_x, self._weights(), self._shape(), *attn_mask.more)

    def _weights(self) -> Weights:
        attention, up, down = self.attn, self.mlp.c_fc, self.mlp.c_proj
        return Weights(
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

    def _shape(self) -> Shape:
        act, eps = self.mlp.gelu, (self.ln_1.eps, self.ln_2.eps)
        approximate = getattr(act, "approximate", "")
        return Shape(self.attn.num_heads, *eps, type(act) is QuickGELU, approximate, self.float8)


@dataclass(frozen=True)
class _Computed:
    """A function that computes a block, with the arguments after its weights."""

    compute: Callable[..., Tensor]
    more: tuple[Any, ...]


def _is_plain(block: Any) -> bool:
    """Tell whether a block is CLIP's, as :mod:`linnaea.model.training_blocks` computes it."""
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
    """Take states through all blocks; with ``ends``, the last one returns only the states that are read."""
    for number, block in enumerate(transformer.resblocks):
        how = computed(ends and number == len(transformer.resblocks) - 1)
        if transformer.grad_checkpointing:
            x = checkpoint(block, x, None, None, how, use_reentrant=False, preserve_rng_state=False)  # nothing is drawn
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
                x = normalise(x, self.ln_post.weight, self.ln_post.bias, self.ln_post.eps)
            pooled = x[:, 0] if one else x[:, 1:].mean(dim=1)
            if self.final_ln_after_pool:
                pooled = normalise(pooled, self.ln_post.weight, self.ln_post.bias, self.ln_post.eps)
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
        x = multiply(patches.to(dtype), weight.flatten(1), bias)
        own = self.class_embedding.to(dtype).expand(len(x), 1, -1)
        x = torch.cat([own, x], dim=1) + self.positional_embedding.to(dtype)
        return x if isinstance(self.ln_pre, nn.Identity) else normalise(x, *_norm_of(self.ln_pre))


def _norm_of(layer: Any) -> tuple[Tensor, Tensor, float]:
    return layer.weight, layer.bias, layer.eps


def has_plain_vision(clip: Any) -> bool:
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
    """Encodes the captions of a causal text tower whose blocks have the training form."""

    compute: Callable[..., Tensor] = caption_block
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
        packed = self.pack(tokens_BT.numpy())
        tokens, positions, starts, ends = (move(torch.from_numpy(part), device) for part in packed)
        head_width = positions_TW.shape[1] // tower.transformer.resblocks[0].attn.num_heads
        places = Places(starts, ends, len(positions_TW), has_kernel(device, dtype, head_width))
        with torch.autocast(device.type, enabled=False):
            x = embedding(tokens).to(dtype) + take_rows(positions_TW, positions).to(dtype)
            x = _run(tower.transformer, x, lambda last: _Computed(self.compute, (places, last)), ends=True)
            x = normalise(x[: len(tokens_BT)], *_norm_of(tower.ln_final))
            if isinstance(tower.projection, nn.Linear):
                return multiply(x, tower.projection.weight, tower.projection.bias)
            projected: Tensor = x if tower.projection is None else x @ tower.projection.to(dtype)
            return projected

    def pack(self, tokens_BT: Int[ndarray, "B T"]) -> tuple[NDArray[Any], ...]:
        """Return tokens and positions without padding, and the arrays of :class:`Places`.

        With buckets, captions of tokens 0 that nothing reads fill the pack.
        """
        lengths = tokens_BT.argmax(axis=1) + 1  # the end token has the highest id
        fill = self._fill(len(lengths), int(lengths.sum()), tokens_BT.shape[1])
        of_real = np.arange(tokens_BT.shape[1]) < lengths[:, None]
        all_lengths = np.concatenate([lengths, fill])
        starts = np.concatenate([[0], np.cumsum(all_lengths)])
        positions = np.arange(starts[-1]) - np.repeat(starts[:-1], all_lengths)
        tokens = np.concatenate([tokens_BT[of_real], np.zeros(fill.sum(), tokens_BT.dtype)])
        return tokens, positions, starts.astype(np.int32), starts[1:] - 1

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


def take_training_form(clip: Any, preprocess: Preprocess, *, compiled: bool, float8: bool = False) -> None:
    """Give a model's towers the training form, in place; towers of other kinds stay as they are.

    The image tower needs to be open_clip's vision transformer, without attentional pooling and patch dropout, and the
    text tower causal (:class:`linnaea.model.text.CausalTower`), both with CLIP's plain blocks. With ``compiled`` each
    block is compiled; the blocks of a tower share the code. With ``float8`` the image tower's blocks multiply in 8 bits
    (:mod:`linnaea.model.float8`), except for a last one that returns only the class token.
    """
    if has_plain_vision(clip):
        tower = clip.visual
        tower.__class__ = _TrainingVision
        tower.compute = torch.compile(image_block, dynamic=False) if compiled else image_block
        for name, value in (("pixel_mean", preprocess.mean), ("pixel_std", preprocess.std)):
            tower.register_buffer(name, torch.tensor(value, device=tower.proj.device), persistent=False)
        _change_blocks(tower.transformer, float8=float8)
    text = CausalTower.of(clip)
    if text is not None and _has_plain_blocks(text):
        _change_blocks(text.transformer, float8=False)
        clip.caption_form = CaptionForm()
        if compiled:
            clip.caption_form = CaptionForm(torch.compile(caption_block, dynamic=False), Buckets(), Buckets())


def _has_plain_blocks(text: CausalTower) -> bool:
    return type(text.ln_final) in _NORMS and all(_is_plain(block) for block in text.transformer.resblocks)


def _change_blocks(transformer: Any, *, float8: bool) -> None:
    for block in transformer.resblocks:
        block.__class__ = _TrainingBlock
        block.float8 = float8


def takes_bytes(clip: Any) -> bool:
    """Tell whether a model in training encodes bytes, without normalisation before."""
    tower = getattr(clip, "visual", None)
    return isinstance(tower, _TrainingVision) and tower.training


def caption_form(clip: Any) -> CaptionForm | None:
    """Return the form in which a model's captions are encoded in training, or ``None``: as in evaluation."""
    form: CaptionForm | None = getattr(clip, "caption_form", None) if clip.training else None
    return form
