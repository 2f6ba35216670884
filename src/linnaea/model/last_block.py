"""The last block of a vision transformer that answers with its class token: only that token goes through it.

The other tokens are what the class token attends to, and then nobody reads them: five sixths of the block's products, a
fourteenth of ViT-B/16's, need not be made. The same vectors, but for the order of sums.
"""

from typing import Any

import torch
from jaxtyping import Float
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor


def end_with_class_token(tower: Any) -> None:
    """Change an image tower in place, where it is open_clip's transformer and reads its class token alone.

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
