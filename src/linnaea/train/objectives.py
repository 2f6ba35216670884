"""From a batch to its loss: both towers, then the objective that the recipe names."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.checkpoint import checkpoint

from linnaea.model.load import TaxonModel
from linnaea.model.text import TokenTable, encode_text
from linnaea.train.batches import Batch, Labels
from linnaea.train.losses import choose_rows_at_once, info_nce, multi_positive, sigmoid
from linnaea.train.parallel import ALONE, Peers
from linnaea.train.recipes import Descent

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def compute_loss(
    model: TaxonModel, batch: Batch, table: TokenTable, descent: Descent, peers: Peers = ALONE
) -> Float[Tensor, ""]:
    """The contrastive loss of one batch; each distinct caption is encoded once.

    With ``descent.accumulate`` the batch goes through the towers in parts, and a part's activations are made again
    on the way back (GradCache, arXiv 2101.06983), but of the first ``keep_parts``: the loss is over the whole batch
    and its gradient exact. With BatchNorm each part has statistics of its own.

    With ``peers`` the loss is that of everybody's samples together, and the same on all of them. Each encodes its own
    pictures and an equal part of the global batch's distinct captions.
    """
    labels = Labels(*peers.gather_array(np.stack([batch.taxon_ids, batch.text_types], axis=1)).T)
    pixels_BCHW = torch.from_numpy(batch.pixels)
    image_BE = _encode_in_parts(model, lambda pixels: _encode_images(model, pixels), pixels_BCHW, descent)
    tokens_UT, caption_of_B = (part.to(model.device) for part in table.batch(labels.taxon_ids, labels.text_types))
    caption_UE = _encode_captions(model, tokens_UT, descent, peers)
    taxon_B = torch.from_numpy(labels.taxon_ids.copy()).to(model.device)
    return _choose_loss(model, peers.gather(image_BE), caption_UE, caption_of_B, taxon_B, descent, peers)


def _encode_captions(
    model: TaxonModel, tokens_UT: Int[Tensor, "U T"], descent: Descent, peers: Peers
) -> Float[Tensor, "U E"]:
    """All captions' vectors, of which each process makes an equal part (the last one fills up with copies)."""
    share = math.ceil(len(tokens_UT) / peers.size)
    rows = torch.arange(peers.rank * share, (peers.rank + 1) * share, device=tokens_UT.device)
    own = tokens_UT[rows.clamp(max=len(tokens_UT) - 1)]
    encoded = _encode_in_parts(model, lambda tokens: encode_text(model.clip, tokens), own, descent)
    return peers.gather(encoded)[: len(tokens_UT)]


def _choose_loss(
    model: TaxonModel,
    image_BE: Float[Tensor, "B E"],
    caption_UE: Float[Tensor, "U E"],
    caption_of_B: Int[Tensor, " B"],
    taxon_B: Int[Tensor, " B"],
    descent: Descent,
    peers: Peers,
) -> Float[Tensor, ""]:
    scale: Tensor = model.clip.logit_scale.exp()  # type: ignore[operator]
    rows = choose_rows_at_once(len(image_BE) // peers.size, len(caption_UE))
    match descent.objective:
        case "info_nce":
            return info_nce(image_BE, caption_UE, caption_of_B, scale, rows_at_once=rows, peers=peers)
        case "multi_positive":
            return multi_positive(image_BE, caption_UE, caption_of_B, taxon_B, scale, rows_at_once=rows, peers=peers)
        case "sigmoid":
            bias: Tensor = model.clip.logit_bias  # type: ignore[assignment]
            return sigmoid(image_BE, caption_UE, caption_of_B, scale, bias, rows_at_once=rows, peers=peers)


def _encode_images(model: TaxonModel, pixels_BCHW: Tensor) -> Tensor:
    features: Tensor = model.clip.encode_image(normalise_pixels(model, pixels_BCHW))  # type: ignore[operator]
    return features


def _encode_in_parts(
    model: TaxonModel, encode: Callable[[Tensor], Tensor], inputs: Tensor, descent: Descent
) -> Float[Tensor, "B E"]:
    """Unit vectors in float32, of all inputs at once or part by part."""

    def run(part: Tensor) -> Tensor:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=descent.precision == "bf16"):
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


@contextmanager
def _frozen_statistics(clip: nn.Module) -> Iterator[None]:
    """BatchNorm normalises by its batch as before, but does not count it into its running statistics again."""
    norms = [module for module in clip.modules() if isinstance(module, _BATCH_NORMS)]
    before = [(module.momentum, module.num_batches_tracked) for module in norms]
    for module in norms:  # both, since timm's subclasses look at either
        module.momentum, module.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for module, (momentum, count) in zip(norms, before, strict=True):
            module.momentum, module.num_batches_tracked = momentum, count


def normalise_pixels(model: TaxonModel, pixels_BCHW: Tensor) -> Float[Tensor, "B 3 S S"]:
    """uint8 to the device, normalised there."""
    mean = torch.tensor(model.preprocess.mean, device=model.device).view(3, 1, 1)
    std = torch.tensor(model.preprocess.std, device=model.device).view(3, 1, 1)
    dtype = torch.promote_types(model.clip.logit_scale.dtype, torch.float32)  # type: ignore[arg-type]
    return pixels_BCHW.to(model.device, non_blocking=True).to(dtype).div_(255).sub_(mean).div_(std)
