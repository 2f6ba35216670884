"""Estimate the costs of a run before it starts: steps, parameters, arithmetic, memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.model import CLIP
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from linnaea.data.shards import DataSet
from linnaea.model.create import without_causal_mask
from linnaea.model.hub import PUBLISHED
from linnaea.model.load import TaxonModel
from linnaea.model.text import TokenTable, encode_text, make_token_table
from linnaea.taxonomy.tree import number_lineages
from linnaea.train.batches import Loader
from linnaea.train.heads import count_classes
from linnaea.train.logs import Meter, find_peak
from linnaea.train.losses import LOGITS_AT_ONCE
from linnaea.train.parallel import Peers
from linnaea.train.recipe import Recipe, Tower
from linnaea.train.recipes import RECIPES
from linnaea.train.start import make_start

_FLOAT = 4


@dataclass(frozen=True, kw_only=True)
class Costs:
    """The estimated costs of one step of a recipe, within about ten percent for plain transformers."""

    n_parameters: int
    flops: float
    """Floating-point operations of a step; a multiply-add counts as two."""
    state_bytes: int
    """Bytes of weights, gradients, AdamW's two moments and the moving average."""
    activation_bytes: int
    """Peak bytes kept for the backward pass."""

    @property
    def memory_bytes(self) -> int:
        return self.state_bytes + self.activation_bytes


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The estimated size and costs of a run."""

    recipe: Recipe
    n_samples: int
    n_taxa: int
    n_steps: int
    costs: Costs
    plain_flops: float
    """Floating-point operations of a step without recomputation."""


@dataclass(frozen=True)
class _ForwardPass:
    """The costs of one forward pass, per sample."""

    flops: float
    kept_bytes: float
    fixed_bytes: float
    """Bytes kept once for any batch size: copies of weights in low precision."""


def estimate_costs(
    model_cfg: Mapping[str, Any], recipe: Recipe, n_captions: int, n_tokens: int, *, n_classes: int = 0
) -> Costs:
    """Return the costs of a step with ``n_captions`` distinct captions of up to ``n_tokens`` tokens, on one device.

    ``model_cfg`` is open_clip's, and ``n_classes`` counts the classes of all class heads. Each replayed general picture
    counts with one caption of the full context length. The towers run on fake tensors, which have shapes but no data.
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
    if descent.grad_checkpointing:  # one block's activations, and all blocks' inputs: about a tenth of the whole
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
) -> _ForwardPass:
    """Measure batches of two sizes, and separate the costs per sample from the fixed ones."""
    own = {parameter.untyped_storage()._cdata for parameter in clip.parameters()}
    flops, kept = [], []
    for n in (2, 4):
        storages: dict[int, Any] = {}  # keeps the storage alive, so that its number is not reused

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
    return _ForwardPass((flops[1] - flops[0]) / 2, per_sample, max(kept[0] - 2 * per_sample, 0))


def make_plan(recipe: Recipe, dataset: DataSet) -> Plan:
    """Estimate a run without taking a step or downloading weights."""
    tower = _first_tower(recipe.tower)
    first = next(iter(Loader(dataset, recipe.feed, 1, recipe.seed).iter_labels(0, 1)))
    architecture = PUBLISHED[tower.start].architecture if tower.start in PUBLISHED else tower.start
    if architecture in open_clip.list_models():  # its weights are not needed
        model_cfg, tokenizer = open_clip.get_model_config(architecture), open_clip.get_tokenizer(architecture)
        model_cfg = without_causal_mask(model_cfg) if tower.bidirectional else model_cfg
    else:
        model = make_start(replace(tower, backbone_weights=""), dataset, seed=0, device="cpu")
        model_cfg, tokenizer = dict(model.model_cfg), model.tokenizer
    taxon_ids, place = np.unique(first.taxon_ids, return_inverse=True)
    table = make_token_table(tokenizer, [dataset.taxon(number) for number in taxon_ids], recipe.feed.text_types)
    n_captions, n_tokens = table.batch(place, first.text_types)[0].shape
    n_classes = count_classes(number_lineages(taxon.lineage for taxon in dataset.taxa_list), recipe.descent)
    costs, plain = (
        estimate_costs(model_cfg, one, 0 if n_classes else n_captions, n_tokens, n_classes=n_classes)
        for one in (recipe, _without_recomputation(recipe))
    )
    return Plan(
        recipe=recipe,
        n_samples=len(dataset),
        n_taxa=dataset.index["taxon_id"].n_unique(),
        n_steps=recipe.n_steps(len(dataset)),
        costs=costs,
        plain_flops=plain.flops,
    )


def _without_recomputation(recipe: Recipe) -> Recipe:
    once = replace(recipe.descent, accumulate=1, keep_parts=0, grad_checkpointing=False)
    return replace(recipe, descent=once)


def _first_tower(tower: Tower) -> Tower:
    """Return the first tower of a chain of recipes, at the image size of the last."""
    if tower.start not in RECIPES:
        return tower
    first = _first_tower(RECIPES[tower.start].tower)
    return replace(first, image_size=tower.resize_to or first.image_size)


def make_meter(model: TaxonModel, loader: Loader, table: TokenTable, recipe: Recipe, peers: Peers) -> Meter:
    """Make the meter that computes the utilisation in the log, from the arithmetic of the first step.

    The utilisation is unknown for towers whose arithmetic cannot be measured (other than open_clip's plain ones).
    """
    labels = next(iter(replace(loader, rank=0, world_size=1).iter_labels(0, 1)))
    n_captions, n_tokens = table.batch(labels.taxon_ids, labels.text_types)[0].shape
    n_classes = count_classes(table.lineage_of, recipe.descent)
    plain = _without_recomputation(recipe)
    try:
        costs = estimate_costs(model.model_cfg, plain, 0 if n_classes else n_captions, n_tokens, n_classes=n_classes)
    except (TypeError, KeyError, AttributeError, RuntimeError):
        return Meter()
    return Meter(step_flops=costs.flops, peak=peers.size * find_peak(model.device, recipe.descent.precision))
