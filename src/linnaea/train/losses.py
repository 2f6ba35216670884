"""Contrastive losses between images and captions, over the distinct captions of a batch, in blocks.

A batch of B images holds U <= B distinct captions. Written over the ``[B, U]`` logits, with a caption's count as
its weight, InfoNCE equals CLIP's over ``[B, B]``, in value and gradient, at less work. Not even ``[B, U]`` needs to
exist: with ``rows_at_once`` it is made a block of rows at a time, and once more on the way back.

Features are unit vectors; ``logit_scale`` is the factor itself, not its logarithm.

With ``peers`` the features are those of the global batch, and everything is computed by everybody but the logits: of
these each process makes its own rows' against all columns. What goes between processes is a number per row and column.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus
from torch.utils.checkpoint import checkpoint

from linnaea.model.text import take_rows
from linnaea.train.parallel import ALONE, Peers

LOGITS_AT_ONCE = 4_000_000
"""Logits that :func:`choose_rows_at_once` lets exist at a time: 16 MB in float32."""


def choose_rows_at_once(n_rows: int, n_columns: int) -> int:
    """Rows of the largest block of at most :data:`LOGITS_AT_ONCE` logits; 0, no blocks, where all of them fit."""
    return 0 if n_rows * n_columns <= LOGITS_AT_ONCE else max(1, LOGITS_AT_ONCE // n_columns)


def info_nce(
    image_BE: Float[Tensor, "B E"],
    caption_UE: Float[Tensor, "U E"],
    caption_of_B: Int[Tensor, " B"],
    logit_scale: Float[Tensor, ""],
    *,
    rows_at_once: int = 0,
    peers: Peers = ALONE,
) -> Float[Tensor, ""]:
    """CLIP's symmetric InfoNCE (arXiv 2103.00020, figure 3; 2311.18803, section 3.1).

    Sample ``b`` pairs image ``b`` with caption ``caption_of_B[b]``; every other sample is a negative, also one of
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
    """InfoNCE in which samples of one group are no negatives but share the target (UniCL, arXiv 2204.03610).

    The target of an image is uniform over the samples of its group (a taxon, at whatever rank); likewise for a
    caption. With all groups different it equals :func:`info_nce`.
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
    """The weighted mean of :func:`multi_positive` over ranks: relatives share the target, near ones most of it.

    Hierarchical multi-label contrastive learning (arXiv 2204.13207, equation 4) with captions as the second view.
    ``lineage_BR`` numbers the ancestors at each rank, -1 where a sample has none: there it is its own positive alone.
    The losses of all ranks have the same denominators, so that they cost one matrix of logits.
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
    """Mean over the samples of an image's mean cosine with the captions of its group.

    In a group that is the product of its two mean vectors: no [B, B] matrix of targets.
    """
    groups, member_B = torch.unique(group_B, return_inverse=True)
    size_G = torch.bincount(member_B, minlength=len(groups)).to(image_BE.dtype)
    empty_GE = image_BE.new_zeros(len(groups), image_BE.shape[1])
    images_GE = empty_GE.index_add(0, member_B, image_BE)
    captions_GE = empty_GE.index_add(0, member_B, take_rows(caption_UE, caption_of_B))
    return ((images_GE * captions_GE).sum(dim=1) / size_G).sum() / len(image_BE)


def class_loss(
    logits_BK: Float[Tensor, "B K"], class_B: Int[Tensor, " B"], label_smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Cross-entropy over the samples that have a class; -1 is none. 0 where no sample has one.

    With ``label_smoothing`` that share of the target is uniform over all classes (arXiv 1512.00567, section 7).
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
    """SigLIP's loss (arXiv 2303.15343, algorithm 1): every pair is its own yes or no.

    Over distinct captions: each pair costs ``softplus(logit)`` as often as the caption occurs, and the positive one
    ``softplus(-logit)`` instead, which is less by just the logit.
    """
    count_U = torch.bincount(caption_of_B, minlength=len(caption_UE)).to(image_BE.dtype)

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
    """For every image the logarithm of its summed exponential logits over all samples' captions, and the reverse.

    Rows and columns need not be of the same samples: across processes, each takes an equal part of the rows against
    all columns (where they do not divide, everybody takes all).
    """
    if peers.size > 1 and len(image_BE) % peers.size == 0:
        rows = peers.own(image_BE)
        over_captions, over_images_U = log_sum_exp(rows, caption_UE, caption_of_B, logit_scale, rows_at_once)
        return peers.gather(over_captions), peers.gather(over_images_U[None]).logsumexp(dim=0)
    weight_U = torch.bincount(caption_of_B, minlength=len(caption_UE)).to(image_BE.dtype).log()
    if rows_at_once and rows_at_once < len(image_BE):
        both: tuple[Tensor, Tensor] = _BlockwiseLogSumExp.apply(
            image_BE, caption_UE, weight_U, logit_scale, rows_at_once
        )
        return both
    logits_BU = logit_scale * image_BE @ caption_UE.T
    return (logits_BU + weight_U).logsumexp(dim=1), logits_BU.logsumexp(dim=0)


class _BlockwiseLogSumExp(torch.autograd.Function):
    """:func:`log_sum_exp` a block of rows at a time; the way back makes each block's logits again."""

    @staticmethod
    def forward(
        ctx: Any, rows_BE: Tensor, columns_UE: Tensor, weight_U: Tensor, scale: Tensor, rows_at_once: int
    ) -> tuple[Tensor, Tensor]:
        over_columns_B, largest_U = rows_BE.new_empty(len(rows_BE)), rows_BE.new_full((len(columns_UE),), -torch.inf)
        sum_U = torch.zeros_like(largest_U)  # of exp(logit - largest), over the rows so far
        # Two buffers for all blocks: new ones would leave holes between what stays, which the heap never closes.
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
