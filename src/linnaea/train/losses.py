"""Contrastive losses between images and the distinct captions of a batch, computed in blocks.

A batch of B images holds U <= B distinct captions. InfoNCE over ``[B, U]`` logits, weighted by the count of each
caption, equals CLIP's over ``[B, B]`` in value and gradient, with less work. With ``rows_at_once`` the ``[B, U]``
logits never exist as a whole: they are computed in blocks of rows, and again in the backward pass.

Features are unit vectors; ``logit_scale`` is the factor itself, not its logarithm.

With ``peers`` the features are those of the global batch. Each process computes the logits of its own rows against all
columns, and all processes compute the rest. They exchange one number per row and column.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus
from torch.utils.checkpoint import checkpoint

from linnaea.model.text import take_rows
from linnaea.model.transfer import move
from linnaea.train.parallel import ALONE, Peers

LOGITS_AT_ONCE = 4_000_000
"""Most logits at a time on a CPU: 16 MB in float32, which fit its caches."""
_FEWEST_ON_GPU, _MOST_ON_GPU = 16_000_000, 64_000_000
"""Most logits at a time on a GPU (64 and 256 MB), for small and large matrices: small blocks do not fill it."""
_BLOCKS_ON_GPU = 16
_SHARE_OF_FREE = 16
"""A block takes at most this part of the GPU's free memory; a blockwise loss holds two blocks."""
_TILE = 128
_CPU = torch.device("cpu")


def choose_rows_at_once(n_rows: int, n_columns: int, device: torch.device = _CPU) -> int:
    """Return the rows of a block of logits, or 0 (no blocks) if all logits are few enough to be held at once.

    On a CPU a block has at most :data:`LOGITS_AT_ONCE` logits. On a GPU it has a sixteenth of the matrix, within the
    bounds above and what the free memory allows.
    """
    at_once = LOGITS_AT_ONCE
    if device.type == "cuda":
        most = max(_FEWEST_ON_GPU, min(_MOST_ON_GPU, n_rows * n_columns // _BLOCKS_ON_GPU))
        at_once = max(LOGITS_AT_ONCE, min(most, _free_bytes(device) // (4 * _SHARE_OF_FREE)))
    if n_rows * n_columns <= at_once:
        return 0
    rows = max(1, at_once // n_columns)
    # A GPU multiplies matrices in tiles.
    return rows - rows % _TILE if device.type == "cuda" and rows > _TILE else rows


@cache
def _free_bytes(device: torch.device) -> int:
    """Return the GPU's free memory when it is asked for first, so that the blocks stay the same from step to step."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def count_captions(caption_of_B: Int[Tensor, " B"], n_captions: int, dtype: torch.dtype) -> Float[Tensor, " U"]:
    """Return how many samples have each caption. Unlike ``torch.bincount``, this does not wait for a GPU."""
    ones_B = torch.ones(len(caption_of_B), dtype=dtype, device=caption_of_B.device)
    return torch.zeros(n_captions, dtype=dtype, device=caption_of_B.device).index_add_(0, caption_of_B, ones_B)


def info_nce(
    image_BE: Float[Tensor, "B E"],
    caption_UE: Float[Tensor, "U E"],
    caption_of_B: Int[Tensor, " B"],
    logit_scale: Float[Tensor, ""],
    *,
    rows_at_once: int = 0,
    peers: Peers = ALONE,
) -> Float[Tensor, ""]:
    """Return CLIP's symmetric InfoNCE (arXiv 2103.00020, figure 3; 2311.18803, section 3.1).

    Sample ``b`` pairs image ``b`` with caption ``caption_of_B[b]``. Every other sample is a negative, even one with
    the same caption.
    """
    over_captions_B, over_images_U = log_sum_exp(image_BE, caption_UE, caption_of_B, logit_scale, rows_at_once, peers)
    own_B = logit_scale * (image_BE * take_rows(caption_UE, caption_of_B)).sum(dim=1)
    return 0.5 * ((over_captions_B - own_B).mean() + (take_rows(over_images_U, caption_of_B) - own_B).mean())


def multi_positive(
    image_BE: Float[Tensor, "B E"],
    caption_UE: Float[Tensor, "U E"],
    caption_of_B: Int[Tensor, " B"],
    group_B: Int[Tensor, " B"],
    logit_scale: Float[Tensor, ""],
    *,
    rows_at_once: int = 0,
    peers: Peers = ALONE,
) -> Float[Tensor, ""]:
    """Return InfoNCE in which samples of one group are positives of each other (UniCL, arXiv 2204.03610).

    The target of an image is uniform over the samples of its group (a taxon at any rank), and likewise for a caption.
    If all groups are different, the loss equals :func:`info_nce`. ``group_B`` may be in the host's memory.
    """
    over_captions_B, over_images_U = log_sum_exp(image_BE, caption_UE, caption_of_B, logit_scale, rows_at_once, peers)
    positive = logit_scale * _mean_cosine_in_groups(image_BE, caption_UE, caption_of_B, group_B)
    return 0.5 * (over_captions_B.mean() + take_rows(over_images_U, caption_of_B).mean()) - positive


def rank_positive(
    image_BE: Float[Tensor, "B E"],
    caption_UE: Float[Tensor, "U E"],
    caption_of_B: Int[Tensor, " B"],
    lineage_BR: Int[Tensor, "B R"],
    weight_of_rank: Sequence[float],
    logit_scale: Float[Tensor, ""],
    *,
    rows_at_once: int = 0,
    peers: Peers = ALONE,
) -> Float[Tensor, ""]:
    """Return the weighted mean of :func:`multi_positive` over ranks, so that relatives share the target.

    This is hierarchical multi-label contrastive learning (arXiv 2204.13207, equation 4) with captions as the second
    view. ``lineage_BR`` numbers the ancestors at each rank; -1 means that the sample has none there and is its only
    positive. The losses of all ranks have the same denominators, so they need only one matrix of logits.
    """
    over_captions_B, over_images_U = log_sum_exp(image_BE, caption_UE, caption_of_B, logit_scale, rows_at_once, peers)
    alone_B = torch.arange(1, len(lineage_BR) + 1, device=lineage_BR.device)
    positive = image_BE.new_zeros(())
    for rank, weight in enumerate(weight_of_rank):
        if weight:
            group_B = torch.where(lineage_BR[:, rank] < 0, -alone_B, lineage_BR[:, rank])
            mean = _mean_cosine_in_groups(image_BE, caption_UE, caption_of_B, group_B)
            positive = positive + weight / sum(weight_of_rank) * mean
    return 0.5 * (over_captions_B.mean() + take_rows(over_images_U, caption_of_B).mean()) - logit_scale * positive


def _mean_cosine_in_groups(
    image_BE: Float[Tensor, "B E"],
    caption_UE: Float[Tensor, "U E"],
    caption_of_B: Int[Tensor, " B"],
    group_B: Int[Tensor, " B"],
) -> Float[Tensor, ""]:
    """Return the mean over samples of an image's mean cosine with the captions of its group.

    Within a group this is the product of the two mean vectors, so no [B, B] matrix of targets is needed.
    """
    groups, member_B = torch.unique(group_B, return_inverse=True)  # a GPU would have to be waited for
    member_B = move(member_B, image_BE.device)
    size_G = count_captions(member_B, len(groups), image_BE.dtype)
    empty_GE = image_BE.new_zeros(len(groups), image_BE.shape[1])
    images_GE = empty_GE.index_add(0, member_B, image_BE)
    captions_GE = empty_GE.index_add(0, member_B, take_rows(caption_UE, caption_of_B))
    return ((images_GE * captions_GE).sum(dim=1) / size_G).sum() / len(image_BE)


def class_loss(
    logits_BK: Float[Tensor, "B K"], class_B: Int[Tensor, " B"], label_smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of the samples with a class (-1 means none), or 0 if no sample has one.

    ``label_smoothing`` is the share of the target that is uniform over all classes (arXiv 1512.00567, section 7).
    """
    total: Tensor = cross_entropy(logits_BK, class_B, ignore_index=-1, reduction="sum", label_smoothing=label_smoothing)
    return total / (class_B >= 0).sum().clamp(min=1)


def sigmoid(
    image_BE: Float[Tensor, "B E"],
    caption_UE: Float[Tensor, "U E"],
    caption_of_B: Int[Tensor, " B"],
    logit_scale: Float[Tensor, ""],
    logit_bias: Float[Tensor, ""],
    *,
    rows_at_once: int = 0,
    peers: Peers = ALONE,
) -> Float[Tensor, ""]:
    """Return SigLIP's loss (arXiv 2303.15343, algorithm 1): a binary classification of every pair.

    Each pair with a distinct caption costs ``softplus(logit)`` times the caption's count. The positive pair costs
    ``softplus(-logit)`` instead, which is smaller by the logit.
    """
    count_U = count_captions(caption_of_B, len(caption_UE), image_BE.dtype)

    def cost(rows_RE: Tensor, columns_UE: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return (softplus(scale * rows_RE @ columns_UE.T + bias) @ count_U).sum()

    spread = peers.size > 1 and len(image_BE) % peers.size == 0
    rows_BE = peers.own(image_BE) if spread else image_BE
    blocks = torch.split(rows_BE, rows_at_once or len(rows_BE))
    if len(blocks) == 1:
        negative = cost(rows_BE, caption_UE, logit_scale, logit_bias)
    else:
        costs = [checkpoint(cost, rows, caption_UE, logit_scale, logit_bias, use_reentrant=False) for rows in blocks]
        negative = torch.stack(costs).sum()
    negative = peers.sum(negative) if spread else negative
    own_B = logit_scale * (image_BE * take_rows(caption_UE, caption_of_B)).sum(dim=1) + logit_bias
    loss: Tensor = (negative - own_B.sum()) / len(image_BE)
    return loss


def log_sum_exp(
    image_BE: Float[Tensor, "B E"],
    caption_UE: Float[Tensor, "U E"],
    caption_of_B: Int[Tensor, " B"],
    logit_scale: Float[Tensor, ""],
    rows_at_once: int = 0,
    peers: Peers = ALONE,
) -> tuple[Float[Tensor, " B"], Float[Tensor, " U"]]:
    """Return the log-sum-exp of the logits of each image over all samples' captions, and of each caption over images.

    Rows and columns may belong to different samples. Each process computes an equal part of the rows against all
    columns; if the rows do not divide evenly, every process computes all of them.
    """
    if peers.size > 1 and len(image_BE) % peers.size == 0:
        rows = peers.own(image_BE)
        over_captions, over_images_U = log_sum_exp(rows, caption_UE, caption_of_B, logit_scale, rows_at_once)
        return peers.gather(over_captions), peers.gather(over_images_U[None]).logsumexp(dim=0)
    weight_U = count_captions(caption_of_B, len(caption_UE), image_BE.dtype).log()
    if rows_at_once and rows_at_once < len(image_BE):
        both: tuple[Tensor, Tensor] = _BlockwiseLogSumExp.apply(
            image_BE, caption_UE, weight_U, logit_scale, rows_at_once
        )
        return both
    logits_BU = logit_scale * image_BE @ caption_UE.T
    return (logits_BU + weight_U).logsumexp(dim=1), logits_BU.logsumexp(dim=0)


class _BlockwiseLogSumExp(torch.autograd.Function):
    """:func:`log_sum_exp` in blocks of rows; the backward pass recomputes each block's logits."""

    @staticmethod
    def forward(
        ctx: Any, rows_BE: Tensor, columns_UE: Tensor, weight_U: Tensor, scale: Tensor, rows_at_once: int
    ) -> tuple[Tensor, Tensor]:
        over_columns_B, largest_U = rows_BE.new_empty(len(rows_BE)), rows_BE.new_full((len(columns_UE),), -torch.inf)
        sum_U = torch.zeros_like(largest_U)  # sum of exp(logit - largest) over the rows so far
        # All blocks share two buffers: new ones would fragment the heap.
        buffer, scratch = (rows_BE.new_empty(rows_at_once, len(columns_UE)) for _ in range(2))
        for start in range(0, len(rows_BE), rows_at_once):
            rows = rows_BE[start : start + rows_at_once]
            logits, exponentials = buffer[: len(rows)], scratch[: len(rows)]
            torch.mm(scale * rows, columns_UE.T, out=logits)
            larger_U = torch.maximum(largest_U, logits.amax(dim=0))
            added_U = torch.sub(logits, larger_U, out=exponentials).exp_().sum(dim=0)
            sum_U = sum_U * (largest_U - larger_U).exp() + added_U
            largest_U = larger_U
            largest = logits.add_(weight_U).amax(dim=1, keepdim=True)
            sums = torch.sub(logits, largest, out=exponentials).exp_().sum(dim=1)
            over_columns_B[start : start + rows_at_once] = sums.log() + largest[:, 0]
        over_rows_U = largest_U + sum_U.log()
        ctx.save_for_backward(rows_BE, columns_UE, weight_U, scale, over_columns_B, over_rows_U)
        ctx.rows_at_once = rows_at_once
        return over_columns_B, over_rows_U

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient_B, gradient_U = gradients
        rows_BE, columns_UE, weight_U, scale, over_columns_B, over_rows_U = ctx.saved_tensors
        to_rows, to_columns, to_scale = torch.empty_like(rows_BE), torch.zeros_like(columns_UE), torch.zeros_like(scale)
        buffer, scratch = (rows_BE.new_empty(ctx.rows_at_once, len(columns_UE)) for _ in range(2))
        for start in range(0, len(rows_BE), ctx.rows_at_once):
            some = slice(start, start + ctx.rows_at_once)
            rows, to_own = rows_BE[some], to_rows[some]
            logits, to_logits = buffer[: len(rows)], scratch[: len(rows)]
            torch.mm(scale * rows, columns_UE.T, out=logits)
            torch.add(logits, weight_U, out=to_logits).sub_(over_columns_B[some, None]).exp_()
            to_logits.mul_(gradient_B[some, None]).addcmul_(logits.sub_(over_rows_U).exp_(), gradient_U)
            torch.mm(to_logits, columns_UE, out=to_own)
            to_scale += (to_own * rows).sum()
            to_own.mul_(scale)
            to_columns.addmm_(to_logits.T, scale * rows)
        return to_rows, to_columns, None, to_scale, None
