"""Compute the loss of a batch: both towers, then the recipe's objective."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from numpy import ndarray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import normalize
from torch.utils.checkpoint import checkpoint

from linnaea.model.fast import FastDepthwise, has_depthwise
from linnaea.model.load import TaxonModel
from linnaea.model.text import TokenTable, encode_by_length, take_rows
from linnaea.model.training_form import caption_form, takes_bytes
from linnaea.model.transfer import move, move_pixels, normalise
from linnaea.taxonomy.ranks import Rank
from linnaea.train.batches import Batch, Labels, Replayed
from linnaea.train.distil import ImageTeacher, similarity_loss
from linnaea.train.heads import class_heads, encode_replayed, teachers
from linnaea.train.losses import (
    choose_rows_at_once,
    class_loss,
    info_nce,
    multi_positive,
    rank_positive,
    sigmoid,
)
from linnaea.train.parallel import ALONE, Peers
from linnaea.train.recipe import Descent
from linnaea.train.relatives import Relatives
from linnaea.train.tuning import BATCH_NORMS


@dataclass(frozen=True, kw_only=True)
class Guides:
    """What guides the model besides the samples and their labels."""

    relatives: Relatives | None = None
    """Names of species without photographs."""
    teacher: ImageTeacher | None = None
    """An image tower whose view of the pictures is kept."""


def compute_loss(
    model: TaxonModel,
    batch: Batch,
    table: TokenTable,
    descent: Descent,
    peers: Peers = ALONE,
    guides: Guides = Guides(),
) -> Float[Tensor, ""]:
    """Return the loss of one batch; each distinct caption is encoded once.

    With ``descent.accumulate`` the batch goes through the towers in parts. The activations of each part except the
    first ``keep_parts`` are recomputed in the backward pass (GradCache, arXiv 2101.06983). The loss is over the whole
    batch, and its gradient is exact. BatchNorm computes its statistics per part.

    With ``peers`` the loss is over the samples of all processes, and the same on each. Each process encodes its own
    pictures and an equal part of the global batch's distinct captions.

    General captions in the batch (:class:`linnaea.train.batches.Replayed`) add their own InfoNCE, computed with a
    second image projection and the same text tower and logit scale.

    ``guides`` add what else the recipe asks for: the distance of the names of species without photographs to their
    target vectors, and the distance of the pictures' similarities to those that another image tower sees.
    """
    pixels_BCHW = None
    if batch.vectors is not None:
        image_BE = move(torch.from_numpy(batch.vectors), model.device)
    else:
        pixels_BCHW = move_pixels(batch.pixels, model.device)
        image_BE = _encode_in_parts(model, lambda pixels: _encode_images(model, pixels), pixels_BCHW, descent)
    labels = _gather_labels(batch, peers)
    every_BE = peers.gather(image_BE)
    loss = loss_of_features(model, every_BE, labels, table, descent, peers)
    if guides.teacher is not None and pixels_BCHW is not None:
        taught_BF = guides.teacher.encode(pixels_BCHW)
        loss = loss + descent.distil * similarity_loss(every_BE, peers.gather(taught_BF))
    if batch.replayed is not None:
        loss = loss + _replay_loss(model, batch.replayed, descent, peers)
    if guides.relatives is not None:
        tokens, unit_RE = guides.relatives.draw(batch.step)
        caption_RE = _encode_captions(model, torch.from_numpy(tokens.padded()), descent, peers)
        own_R = torch.arange(len(unit_RE), device=model.device)
        loss = loss + descent.teach * _teaching(caption_RE, move(unit_RE, model.device), own_R)
    return loss


def _gather_labels(batch: Batch, peers: Peers) -> Labels:
    """Return the labels of the samples of all processes."""
    mixed = () if batch.partner_ids is None else (batch.partner_ids,)
    own = np.stack([batch.taxon_ids, batch.text_types, *mixed], axis=1)
    taxon_ids, text_types, *partner_ids = peers.gather_array(own).T.copy()
    return Labels(taxon_ids, text_types, partner_ids[0] if partner_ids else None, batch.own_share)


def loss_of_features(
    model: TaxonModel,
    image_BE: Float[Tensor, "B E"],
    labels: Labels,
    table: TokenTable,
    descent: Descent,
    peers: Peers = ALONE,
) -> Float[Tensor, ""]:
    """Return the objective's loss for images that are already encoded as unit vectors.

    Objectives over one matrix of logits are dispatched further in :func:`_contrastive`.
    """
    match descent.objective:
        case "cross_entropy" | "hierarchical":
            return _class_losses(model, image_BE, labels, table, descent)
        case "level_restricted":
            return _level_restricted(model, image_BE, labels, table, descent, peers)
        case "info_nce" | "multi_positive" | "rank_positive" | "sigmoid":
            return _contrastive(model, image_BE, labels, table, descent, peers)


def _contrastive(
    model: TaxonModel,
    image_BE: Float[Tensor, "B E"],
    labels: Labels,
    table: TokenTable,
    descent: Descent,
    peers: Peers = ALONE,
) -> Float[Tensor, ""]:
    tokens_UT, place_B = table.batch(labels.taxon_ids, labels.text_types)
    caption_UE, caption_of_B = _encode_captions(model, tokens_UT, descent, peers), move(place_B, model.device)
    scale: Tensor = model.clip.logit_scale.exp()  # type: ignore[operator]
    rows = choose_rows_at_once(len(image_BE) // peers.size, len(caption_UE), model.device)
    match descent.objective:
        case "multi_positive":
            taxon_B = torch.from_numpy(labels.taxon_ids)
            return multi_positive(image_BE, caption_UE, caption_of_B, taxon_B, scale, rows_at_once=rows, peers=peers)
        case "rank_positive":
            lineage_BR, weights = _lineages(labels.taxon_ids, table), descent.rank_weights
            return rank_positive(
                image_BE, caption_UE, caption_of_B, lineage_BR, weights, scale, rows_at_once=rows, peers=peers
            )
        case "sigmoid":
            bias: Tensor = model.clip.logit_bias  # type: ignore[assignment]
            return sigmoid(image_BE, caption_UE, caption_of_B, scale, bias, rows_at_once=rows, peers=peers)
        case _:
            return info_nce(image_BE, caption_UE, caption_of_B, scale, rows_at_once=rows, peers=peers)


def _level_restricted(
    model: TaxonModel,
    image_BE: Float[Tensor, "B E"],
    labels: Labels,
    table: TokenTable,
    descent: Descent,
    peers: Peers = ALONE,
) -> Float[Tensor, ""]:
    """Return the loss that compares images only with captions of the same rank, summed over ranks.

    This is level-restricted contrastive learning (arXiv 2606.21838), as far as its abstract and model card describe it.
    Comparisons stay within a level, so a genus is never a negative of its own species. Samples that share a taxon at a
    level are positives, and each level has its own weight. The lowest level uses the drawn captions; the levels above
    use lineages down to their rank. With ``teach``, each level's captions are also drawn towards the class vectors of
    an earlier run.
    """
    if table.rank_caption_of is None:
        raise ValueError("level_restricted needs a table with the captions of ranks")
    lineages, captions = table.lineage_of[labels.taxon_ids], table.rank_caption_of[labels.taxon_ids].copy()
    captions[:, Rank.SPECIES] = table.caption_of[labels.taxon_ids, labels.text_types]
    levels = [(rank, weight) for rank, weight in enumerate(descent.rank_weights) if weight]
    members = [np.flatnonzero((lineages[:, rank] >= 0) | (rank == Rank.SPECIES)) for rank, _ in levels]
    wanted = np.concatenate([captions[rows, rank] for (rank, _), rows in zip(levels, members, strict=True)])
    tokens_UT, place = table.distinct(wanted)
    caption_UE = _encode_captions(model, tokens_UT, descent, peers)
    scale: Tensor = model.clip.logit_scale.exp()  # type: ignore[operator]
    places = torch.split(place, [len(rows) for rows in members])
    loss, taught = image_BE.new_zeros(()), teachers(model)
    for (rank, weight), rows, place_B in zip(levels, members, places, strict=True):
        if len(rows) == 0:
            continue
        own_U, caption_of_B = (move(part, model.device) for part in torch.unique(place_B, return_inverse=True))
        group = labels.taxon_ids if rank == Rank.SPECIES else lineages[:, rank]
        images = take_rows(image_BE, move(torch.from_numpy(rows), model.device))
        group_B = torch.from_numpy(group[rows].astype(np.int64))
        at_once = choose_rows_at_once(len(images) // peers.size, len(own_U), model.device)
        part = multi_positive(
            images, take_rows(caption_UE, own_U), caption_of_B, group_B, scale, rows_at_once=at_once, peers=peers
        )
        if descent.teach and Rank(rank) in taught:
            classes = move(torch.from_numpy(lineages[rows, rank].astype(np.int64)), model.device)
            own_BE = take_rows(caption_UE, move(place_B, model.device))
            part = part + descent.teach * _teaching(own_BE, taught[Rank(rank)], classes)
        loss = loss + weight / sum(descent.rank_weights) * part
    return loss


def _teaching(
    caption_BE: Float[Tensor, "B E"], unit_KE: Float[Tensor, "K E"], class_B: Int[Tensor, " B"]
) -> Float[Tensor, ""]:
    """Return the mean of 1 - cosine between each caption and its class's vector.

    Captions of classes without a vector are left out.
    """
    known_B = (class_B >= 0) & unit_KE.any(dim=1)[class_B.clamp(min=0)]
    distance_B = 1 - (caption_BE * unit_KE[class_B.clamp(min=0)]).sum(dim=1)
    return (distance_B * known_B).sum() / known_B.sum().clamp(min=1)


def _class_losses(
    model: TaxonModel, image_BE: Float[Tensor, "B E"], labels: Labels, table: TokenTable, descent: Descent
) -> Float[Tensor, ""]:
    """Return the cross-entropy summed over the ranks with a head, weighted by ``class_weights``.

    A sample without a name at a rank is left out there. The loss of a mixed picture is the mean over its parts,
    weighted by area. With a head for species alone this is the paper's first baseline, and with seven heads its second
    (arXiv 2311.18803). The paper's repository has no code for either.
    """
    scale: Tensor = model.clip.logit_scale.exp()  # type: ignore[operator]
    targets = [(labels.own_share, move(_lineages(labels.taxon_ids, table), model.device))]
    if labels.partner_ids is not None:
        targets.append((1 - labels.own_share, move(_lineages(labels.partner_ids, table), model.device)))
    losses = []
    for rank, head in class_heads(model).items():
        logits_BK = scale * head(image_BE)
        losses += [
            descent.class_weights[rank] * share * class_loss(logits_BK, lineage_BR[:, rank], descent.label_smoothing)
            for share, lineage_BR in targets
        ]
    return torch.stack(losses).sum()


def _replay_loss(model: TaxonModel, replayed: Replayed, descent: Descent, peers: Peers) -> Float[Tensor, ""]:
    own_BE = _encode_in_parts(
        model,
        lambda pixels: encode_replayed(model, _as_input(model, pixels)),
        move_pixels(replayed.pixels, model.device),
        descent,
    )
    image_BE = peers.gather(own_BE)
    tokens, place = np.unique(peers.gather_array(replayed.tokens), axis=0, return_inverse=True)
    n_tokens = int(np.flatnonzero(tokens.any(axis=0)).max()) + 1
    tokens_UT = torch.from_numpy(tokens[:, :n_tokens])
    caption_of_B = move(torch.from_numpy(place.reshape(-1)), model.device)
    scale: Tensor = model.clip.logit_scale.exp()  # type: ignore[operator]
    rows = choose_rows_at_once(len(image_BE) // peers.size, len(tokens_UT), model.device)
    caption_UE = _encode_captions(model, tokens_UT, descent, peers)
    return info_nce(image_BE, caption_UE, caption_of_B, scale, rows_at_once=rows, peers=peers)


def _lineages(taxon_ids: Int64[ndarray, " B"], table: TokenTable) -> Int[Tensor, "B R"]:
    return torch.from_numpy(table.lineage_of[taxon_ids].astype(np.int64))


def _encode_captions(
    model: TaxonModel, tokens_UT: Int[Tensor, "U T"], descent: Descent, peers: Peers
) -> Float[Tensor, "U E"]:
    """Encode all captions; each process encodes an equal part (the last one is padded with copies)."""
    share = math.ceil(len(tokens_UT) / peers.size)
    rows = torch.arange(peers.rank * share, (peers.rank + 1) * share)
    own = tokens_UT[rows.clamp(max=len(tokens_UT) - 1)]
    form = caption_form(model.clip)

    def encode(tokens: Tensor) -> Tensor:
        if form is not None:
            return form.encode(model.clip, tokens)
        return encode_by_length(model.clip, move(tokens, model.device))

    return peers.gather(_encode_in_parts(model, encode, own, descent))[: len(tokens_UT)]


def _as_input(model: TaxonModel, pixels_BCHW: Tensor) -> Tensor:
    """Return pixels as the image tower takes them: as bytes if it normalises them itself."""
    return pixels_BCHW if takes_bytes(model.clip) else normalise_pixels(model, pixels_BCHW)


def _encode_images(model: TaxonModel, pixels_BCHW: Tensor) -> Tensor:
    images_BCHW = _as_input(model, pixels_BCHW)
    if not takes_bytes(model.clip):
        images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
    with FastDepthwise() if has_depthwise(model.clip) else nullcontext():
        features: Tensor = model.clip.encode_image(images_BCHW)  # type: ignore[operator]
    return features


def _encode_in_parts(
    model: TaxonModel, encode: Callable[[Tensor], Tensor], inputs: Tensor, descent: Descent
) -> Float[Tensor, "B E"]:
    """Encode inputs to unit vectors in float32, all at once or in parts."""

    def run(part: Tensor) -> Tensor:
        autocast = torch.autocast(model.device.type, torch.bfloat16, enabled=descent.precision == "bf16")
        with autocast, _choose_attention(model.device, descent):
            features = encode(part)
        return normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1)

    if descent.accumulate == 1:
        return run(inputs)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _frozen_statistics(model.clip)

    parts = inputs.chunk(descent.accumulate)
    kept, again = parts[: descent.keep_parts], parts[descent.keep_parts :]
    made_again = [checkpoint(run, part, use_reentrant=False, context_fn=contexts) for part in again]
    return torch.cat([*(run(part) for part in kept), *made_again])


def _choose_attention(device: torch.device, descent: Descent) -> AbstractContextManager[None]:
    """Choose the kernel of attention on a CPU; :func:`linnaea.train.tuning.tuned_device` chooses it on a GPU.

    On a CPU in bfloat16, the backward pass of fused attention is several times slower than plain attention
    (docs/log.md). Gradient checkpointing keeps the fused one, because it reruns blocks outside of this context.
    """
    is_slow = device.type == "cpu" and descent.precision == "bf16" and not descent.grad_checkpointing
    return sdpa_kernel(SDPBackend.MATH) if is_slow else nullcontext()


@contextmanager
def _frozen_statistics(clip: nn.Module) -> Iterator[None]:
    """Keep BatchNorm from updating its running statistics again; it still normalises by its batch."""
    norms = [module for module in clip.modules() if isinstance(module, BATCH_NORMS)]
    before = [(module.momentum, module.num_batches_tracked) for module in norms]
    for module in norms:  # both, because timm's subclasses check one or the other
        module.momentum, module.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for module, (momentum, count) in zip(norms, before, strict=True):
            module.momentum, module.num_batches_tracked = momentum, count


def normalise_pixels(model: TaxonModel, pixels_BCHW: Tensor) -> Float[Tensor, "B 3 S S"]:
    """Move uint8 pixels to the device and normalise them there."""
    dtype = torch.promote_types(model.clip.logit_scale.dtype, torch.float32)  # type: ignore[arg-type]
    return normalise(move(pixels_BCHW, model.device), model.preprocess, dtype)
