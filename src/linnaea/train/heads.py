"""Parameters that an objective needs beyond the model: class heads, a bias, a second projection of images.

They are registered on the open_clip module while it trains, so that optimiser, average and checkpoints hold them like
any other, and are taken off again before the model is saved: what is left is a plain open_clip model.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float32, Int32
from numpy import ndarray
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from linnaea.data.shards import DataSet, make_taxa_table
from linnaea.errors import LinnaeaError
from linnaea.model.load import TaxonModel
from linnaea.model.text import TokenTable
from linnaea.predict.labels import CLASS_HEAD, HEADS_FOLDER, LabelBank
from linnaea.taxonomy.ranks import Rank
from linnaea.train.recipe import Descent

CLASS_HEADS, REPLAY_PROJECTION, TEACHERS = "class_heads", "replay_projection", "teachers"
RANKS_OF: dict[str, tuple[Rank, ...]] = {"cross_entropy": (Rank.SPECIES,), "hierarchical": tuple(Rank)}
"""The ranks that have a head, for the objectives that have heads; the others see the captions."""

_PROJECTIONS = ("proj", "head.proj.weight")
"""Last projection of an image tower: of CLIP's vision transformer ``[W, E]``, of a timm tower ``[E, W]``."""


def prepare(model: TaxonModel, table: TokenTable, descent: Descent, *, with_replay: bool, seed: int) -> TaxonModel:
    """The model with what its objective needs; new parameters are a function of the seed.

    Raises:
        LinnaeaError: nothing in the data set has a class; or the tower has no last projection to double.
    """
    if descent.objective == "sigmoid":
        model = add_logit_bias(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if descent.objective in RANKS_OF:
            add_class_heads(model, table, RANKS_OF[descent.objective])
        if with_replay:
            add_replay_projection(model)
    return model


def add_logit_bias(model: TaxonModel) -> TaxonModel:
    """Give a model the bias that the sigmoid loss learns, with SigLIP's start values, unless it has one."""
    if getattr(model.clip, "logit_bias", None) is not None:
        return model
    bias, scale = -10.0, math.log(10)
    model.clip.logit_bias = nn.Parameter(torch.tensor(bias, device=model.device))
    with torch.no_grad():
        model.clip.logit_scale.fill_(scale)  # type: ignore[operator]
    model_cfg = {**model.model_cfg, "init_logit_bias": bias, "init_logit_scale": scale}
    return replace(model, model_cfg=model_cfg)


def add_class_heads(model: TaxonModel, table: TokenTable, ranks: tuple[Rank, ...]) -> None:
    """A linear head without bias for each rank, on the image's unit vector; the model's logit scale multiplies it.

    So a head is a label bank (:func:`make_head_banks`), and the vectors it reads are those of search and few-shot.
    """
    sizes = {rank.label: int(table.lineage_of[:, rank].max(initial=-1)) + 1 for rank in ranks}
    if not any(sizes.values()):
        raise LinnaeaError(f"no taxon of the data set is named at {' or '.join(sizes)}: there is no class to learn")
    heads = {label: nn.Linear(model.width, n, bias=False, device=model.device) for label, n in sizes.items() if n}
    model.clip.add_module(CLASS_HEADS, nn.ModuleDict(heads))


def count_classes(lineage_of: Int32[ndarray, "K ranks"], descent: Descent) -> int:
    """Classes of all heads that an objective has; 0 for one that sees captions."""
    ranks = RANKS_OF.get(descent.objective, ())
    return sum(int(lineage_of[:, rank].max(initial=-1)) + 1 for rank in ranks)


def class_heads(model: TaxonModel) -> dict[Rank, nn.Module]:
    """The heads that :func:`add_class_heads` gave the model."""
    heads: Any = getattr(model.clip, CLASS_HEADS)
    return {Rank.parse(label): head for label, head in heads.items()}


def add_replay_projection(model: TaxonModel) -> None:
    """A second, new last projection of the image tower, for general captions (BioCLIP 2, arXiv 2505.23883)."""
    first = projection_of(model.clip)[1]
    second = nn.Parameter(torch.empty_like(first))
    nn.init.normal_(second, std=max(first.shape) ** -0.5)
    model.clip.register_parameter(REPLAY_PROJECTION, second)


def projection_of(clip: Any) -> tuple[str, Tensor]:
    """Name (in the image tower) and value of the last projection of images.

    Raises:
        LinnaeaError: the tower has none of a kind we know.
    """
    parameters = dict(clip.visual.named_parameters())
    for name in _PROJECTIONS:
        if name in parameters:
            return name, parameters[name]
    raise LinnaeaError("replay needs an image tower with a last linear projection (a CLIP vision transformer has one)")


def encode_replayed(model: TaxonModel, pixels_BCHW: Tensor) -> Tensor:
    """The image tower's output through the second projection in place of the first."""
    name, _ = projection_of(model.clip)
    second: Any = getattr(model.clip, REPLAY_PROJECTION)
    features: Tensor = torch.func.functional_call(model.clip.visual, {name: second}, (pixels_BCHW,))  # type: ignore[arg-type]
    return features


def take_off(model: TaxonModel) -> dict[Rank, Tensor]:
    """Remove heads and second projection from the model; returns the heads' weights ``[K, E]``."""
    weights = {}
    if hasattr(model.clip, CLASS_HEADS):
        weights = {rank: head.weight.detach().cpu() for rank, head in class_heads(model).items()}  # type: ignore[operator]
        delattr(model.clip, CLASS_HEADS)
    for name in (REPLAY_PROJECTION, TEACHERS):
        if hasattr(model.clip, name):
            delattr(model.clip, name)
    return weights


def make_head_banks(
    weights: dict[Rank, Tensor], dataset: DataSet, table: TokenTable, fingerprint: str
) -> dict[Rank, LabelBank]:
    """Each rank's head as a label bank: the classes that were seen, in the order of the tree, weights as vectors."""
    banks = {}
    seen = dataset.index["taxon_id"].unique().sort().to_numpy()
    for rank, weight_KE in weights.items():
        classes, first = np.unique(table.lineage_of[seen, rank], return_index=True)
        classes, first = classes[classes >= 0], first[classes >= 0]
        taxa = [dataset.taxon(int(taxon_id)).at(rank) for taxon_id in seen[first]]
        order = sorted(range(len(taxa)), key=lambda number: taxa[number].lineage)
        facts = {"model": fingerprint, "text_type": CLASS_HEAD, "rank": rank.label}
        banks[rank] = LabelBank(make_taxa_table(taxa), weight_KE.numpy()[classes[order]], facts)
    return banks


def start_class_heads(model: TaxonModel, dataset: DataSet, table: TokenTable, banks: dict[Rank, LabelBank]) -> int:
    """Set the heads' classes that another run's heads know to the weights learned there; returns how many."""
    n_known = 0
    for rank, head in class_heads(model).items():
        weight = cast(Tensor, head.weight)
        classes, vectors = _find_known(rank, weight.shape[1], dataset, table, banks)
        weight.data[classes] = vectors.to(weight)
        n_known += len(classes)
    return n_known


def add_teachers(model: TaxonModel, dataset: DataSet, table: TokenTable, banks: dict[Rank, LabelBank]) -> None:
    """Let another run's heads teach the captions: their unit vectors by rank, zero where a class is not known there.

    Raises:
        LinnaeaError: none of them knows a taxon of the data set.
    """
    weights, n_known = nn.Module(), 0
    for rank in banks:
        classes, vectors = _find_known(rank, model.width, dataset, table, banks)
        unit_KE = torch.zeros(int(table.lineage_of[:, rank].max(initial=-1)) + 1, model.width)
        unit_KE[classes] = normalize(vectors, dim=-1)
        weights.register_buffer(rank.label, unit_KE.to(model.device), persistent=False)
        n_known += len(classes)
    if not n_known:
        raise LinnaeaError("teach needs --start with a run that had class heads of these taxa")
    model.clip.add_module(TEACHERS, weights)


def teachers(model: TaxonModel) -> dict[Rank, Tensor]:
    """The vectors ``[K, E]`` that :func:`add_teachers` gave the model, if it did."""
    module = getattr(model.clip, TEACHERS, None)
    return {Rank.parse(label): unit_KE for label, unit_KE in module.named_buffers()} if module is not None else {}


def _find_known(
    rank: Rank, width: int, dataset: DataSet, table: TokenTable, banks: dict[Rank, LabelBank]
) -> tuple[NDArray[np.int64], Float32[Tensor, "K E"]]:
    """Numbers of the classes that a bank has a vector for, and the vectors."""
    if rank not in banks or banks[rank].vectors.shape[1] != width:
        return np.empty(0, np.int64), torch.empty(0, width)
    row_of = {taxon.lineage: row for row, taxon in enumerate(banks[rank].taxa_list)}
    numbers, first = np.unique(table.lineage_of[:, rank], return_index=True)
    numbers, first = numbers[numbers >= 0].astype(np.int64), first[numbers >= 0]
    rows = np.array([row_of.get(dataset.taxon(int(taxon_id)).at(rank).lineage, -1) for taxon_id in first], np.int64)
    vectors = np.asarray(banks[rank].vectors[rows[rows >= 0]], dtype=np.float32)
    return numbers[rows >= 0], torch.from_numpy(vectors)


def save_head_banks(banks: dict[Rank, LabelBank], model_dir: Path) -> None:
    """Write each head to ``heads/<rank>`` of the model's folder."""
    for rank, bank in banks.items():
        folder = model_dir / HEADS_FOLDER / rank.label
        folder.mkdir(parents=True, exist_ok=True)
        bank.save(folder, dtype=np.float32)
