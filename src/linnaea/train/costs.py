"""What a run will take, reckoned before it starts: parameters, arithmetic, memory. Nothing is allocated for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from open_clip.model import CLIP
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from linnaea.model.text import encode_text
from linnaea.train.losses import LOGITS_AT_ONCE
from linnaea.train.recipe import Recipe

_FLOAT = 4


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs of one step of a recipe; an estimate, within some ten percent for plain transformers."""

    n_parameters: int
    flops: float
    """Floating-point operations of a step, a multiplication with its addition counted as two."""
    state_bytes: int
    """Weights, gradients, AdamW's two moments, the moving average."""
    activation_bytes: int
    """What is kept for the way back, at the largest."""

    @property
    def memory_bytes(self) -> int:
        return self.state_bytes + self.activation_bytes


@dataclass(frozen=True)
class _Tower:
    """Costs of one forward pass, for a sample."""

    flops: float
    kept_bytes: float
    fixed_bytes: float
    """Kept once, whatever the batch: copies of weights in low precision."""


def estimate_costs(
    model_cfg: Mapping[str, Any], recipe: Recipe, n_captions: int, n_tokens: int, *, n_classes: int = 0
) -> Costs:
    """Costs of a step with ``n_captions`` distinct captions, the longest of ``n_tokens``, on one device.

    ``model_cfg`` is open_clip's; ``n_classes`` are those of class heads. General pictures that are replayed count with
    a caption each, of the whole context. The towers run on tensors that have a shape and no content.
    """
    descent, n_replayed = recipe.descent, recipe.feed.replay_batch_size
    batch_size = recipe.feed.batch_size + n_replayed
    if n_replayed:
        n_captions, n_tokens = n_captions + n_replayed, model_cfg["text_cfg"].get("context_length", n_tokens)
    bf16 = descent.precision == "bf16"
    with FakeTensorMode():
        clip = CLIP(**{key: dict(part) if isinstance(part, dict) else part for key, part in model_cfg.items()}).train()
        side = model_cfg["vision_cfg"]["image_size"]
        height, width = side if isinstance(side, (tuple, list)) else (side, side)
        images = _measure(clip, clip.encode_image, lambda n: torch.empty(n, 3, height, width), bf16)
        texts = _measure(
            clip, lambda x: encode_text(clip, x), lambda n: torch.zeros(n, n_tokens, dtype=torch.int64), bf16
        )
        n_parameters = sum(parameter.numel() for parameter in clip.parameters()) + n_classes * model_cfg["embed_dim"]
        n_blocks = max(1, *(len(part) for name, part in clip.named_modules() if name.endswith("resblocks")))
    passes = 3 + (descent.accumulate > 1) + descent.grad_checkpointing
    joint = 2 * batch_size * (n_captions + n_classes) * model_cfg["embed_dim"] * 4
    n_parts = descent.accumulate
    kept = (images.kept_bytes * batch_size + texts.kept_bytes * n_captions) / n_parts
    if descent.grad_checkpointing:  # one block's activations, and every block's input: a tenth or so of the whole
        kept *= 1 / n_blocks + 0.1
    logits = 3 * _FLOAT * (min(batch_size * n_captions, LOGITS_AT_ONCE) + batch_size * n_classes)
    return Costs(
        n_parameters=n_parameters,
        flops=passes * (images.flops * batch_size + texts.flops * n_captions) + joint,
        state_bytes=n_parameters * _FLOAT * (5 if descent.average else 4),
        activation_bytes=round(kept + images.fixed_bytes + texts.fixed_bytes + logits),
    )


def _measure(
    clip: torch.nn.Module, encode: Callable[[Tensor], Tensor], make_input: Callable[[int], Tensor], bf16: bool
) -> _Tower:
    """From batches of two sizes: what grows with the batch, and what does not."""
    own = {parameter.untyped_storage()._cdata for parameter in clip.parameters()}
    flops, kept = [], []
    for n in (2, 4):
        storages: dict[int, Any] = {}  # the storage itself too, or its number would be given again

        def keep(tensor: Tensor, storages: dict[int, Any] = storages) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                storages[storage._cdata] = storage
            return tensor

        with (
            FlopCounterMode(display=False) as counter,
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=bf16),
        ):
            encode(make_input(n))
        flops.append(counter.get_total_flops())
        kept.append(sum(storage.nbytes() for storage in storages.values()))
    per_sample = (kept[1] - kept[0]) / 2
    return _Tower((flops[1] - flops[0]) / 2, per_sample, max(kept[0] - 2 * per_sample, 0))
