"""Contrastive losses between images and captions, over the distinct captions of a batch.

A batch of B images holds U <= B distinct captions. Written over the ``[B, U]`` logits, with a caption's count as
its weight, InfoNCE equals CLIP's over ``[B, B]``, in value and gradient, at less work.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def info_nce(
    image_BE: Float[Tensor, "B E"],
    caption_UE: Float[Tensor, "U E"],
    caption_of_B: Int[Tensor, "B"],  # noqa: F821
    logit_scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """CLIP's symmetric InfoNCE (arXiv 2103.00020, figure 3; 2311.18803, section 3.1).

    Sample ``b`` pairs image ``b`` with caption ``caption_of_B[b]``; every other sample is a negative, also one of
    the same caption. Features are unit vectors; ``logit_scale`` is the factor itself, not its logarithm.
    """
    logits_BU = logit_scale * image_BE @ caption_UE.T
    counts_U = torch.bincount(caption_of_B, minlength=len(caption_UE)).to(logits_BU.dtype)
    own_B = logits_BU.gather(1, caption_of_B[:, None]).squeeze(1)
    over_captions_B = (logits_BU + counts_U.log()).logsumexp(dim=1)
    over_images_U = logits_BU.logsumexp(dim=0)
    return 0.5 * ((over_captions_B - own_B).mean() + (over_images_U[caption_of_B] - own_B).mean())


def multi_positive(
    image_BE: Float[Tensor, "B E"],
    caption_UE: Float[Tensor, "U E"],
    caption_of_B: Int[Tensor, "B"],  # noqa: F821
    taxon_B: Int[Tensor, "B"],  # noqa: F821
    logit_scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """InfoNCE in which samples of one taxon are no negatives but share the target (UniCL, arXiv 2204.03610).

    The target of an image is uniform over the samples of its taxon; likewise for a caption. With all taxa
    different it equals :func:`info_nce`.
    """
    logits_BU = logit_scale * image_BE @ caption_UE.T
    counts_U = torch.bincount(caption_of_B, minlength=len(caption_UE)).to(logits_BU.dtype)
    same_BB = (taxon_B[:, None] == taxon_B[None, :]).to(logits_BU.dtype)
    target_BB = same_BB / same_BB.sum(dim=1, keepdim=True)
    positive = (target_BB * logits_BU[:, caption_of_B]).sum(dim=1).mean()
    over_captions_B = (logits_BU + counts_U.log()).logsumexp(dim=1)
    over_images_U = logits_BU.logsumexp(dim=0)
    return 0.5 * (over_captions_B.mean() + over_images_U[caption_of_B].mean()) - positive
