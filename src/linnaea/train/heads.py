"""Parameters that an objective adds to the model: class heads, a bias, a second image projection.

They are registered on the open_clip module during training, so that the optimiser, the average and the checkpoints
include them. They are removed before the model is saved, which leaves a plain open_clip model.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
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
from linnaea.predict.labels import CLASS_HEAD, HEADS_FOLDER, N_PHOTOGRAPHS, PREPROCESS, LabelBank
from linnaea.taxonomy.ranks import Rank
from linnaea.train.recipe import Descent

CLASS_HEADS, REPLAY_PROJECTION, TEACHERS = "class_heads", "replay_projection", "teachers"
RANKS_OF: dict[str, tuple[Rank, ...]] = {"cross_entropy": (Rank.SPECIES,), "hierarchical": tuple(Rank)}
"""The ranks with a head, for each objective with class heads; the other objectives use captions."""

_PROJECTIONS = ("proj", "head.proj.weight")
"""Names of an image tower's last projection: CLIP's vision transformer (``[W, E]``), timm towers (``[E, W]``)."""


def prepare(model: TaxonModel, table: TokenTable, descent: Descent, *, with_replay: bool, seed: int) -> TaxonModel:
    """Return the model with the parameters that its objective needs, initialised by ``seed``.

    Raises:
        LinnaeaError: Nothing in the data set has a class, or the tower has no last projection.
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
    """Return a model with the sigmoid loss's bias and SigLIP's initial values, unless it has a bias."""
    if getattr(model.clip, "logit_bias", None) is not None:
        return model
    bias, scale = -10.0, math.log(10)
    model.clip.logit_bias = nn.Parameter(torch.tensor(bias, device=model.device))
    with torch.no_grad():
        model.clip.logit_scale.fill_(scale)  # type: ignore[operator]
    model_cfg = {**model.model_cfg, "init_logit_bias": bias, "init_logit_scale": scale}
    return replace(model, model_cfg=model_cfg)


def add_class_heads(model: TaxonModel, table: TokenTable, ranks: tuple[Rank, ...]) -> None:
    """Add a linear head without bias for each rank, on the image's unit vector times the model's logit scale.

    A head can therefore be saved as a label bank (:func:`make_head_banks`), and its input vectors serve search and
    few-shot classification too.
    """
    sizes = {rank.label: int(table.lineage_of[:, rank].max(initial=-1)) + 1 for rank in ranks}
    if not any(sizes.values()):
        raise LinnaeaError(
            f"no taxon of the data set has a name at {' or '.join(sizes)}: there are no classes to learn"
        )
    heads = {label: nn.Linear(model.width, n, bias=False, device=model.device) for label, n in sizes.items() if n}
    model.clip.add_module(CLASS_HEADS, nn.ModuleDict(heads))


def count_classes(lineage_of: Int32[ndarray, "K ranks"], descent: Descent) -> int:
    """Return the number of classes over all heads of an objective; 0 if it uses captions."""
    ranks = RANKS_OF.get(descent.objective, ())
    return sum(int(lineage_of[:, rank].max(initial=-1)) + 1 for rank in ranks)


def class_heads(model: TaxonModel) -> dict[Rank, nn.Module]:
    """Return the heads that :func:`add_class_heads` added to the model."""
    heads: Any = getattr(model.clip, CLASS_HEADS)
    return {Rank.parse(label): head for label, head in heads.items()}


def add_replay_projection(model: TaxonModel) -> None:
    """Add a second last projection to the image tower, for general captions (BioCLIP 2, arXiv 2505.23883)."""
    first = projection_of(model.clip)[1]
    second = nn.Parameter(torch.empty_like(first))
    nn.init.normal_(second, std=max(first.shape) ** -0.5)
    model.clip.register_parameter(REPLAY_PROJECTION, second)


def projection_of(clip: Any) -> tuple[str, Tensor]:
    """Return name (in the image tower) and value of the last image projection.

    Raises:
        LinnaeaError: The tower has no projection of a known kind.
    """
    parameters = dict(clip.visual.named_parameters())
    for name in _PROJECTIONS:
        if name in parameters:
            return name, parameters[name]
    raise LinnaeaError("replay needs an image tower with a last linear projection (a CLIP vision transformer has one)")


def encode_replayed(model: TaxonModel, pixels_BCHW: Tensor) -> Tensor:
    """Encode pictures with the second projection instead of the first."""
    name, _ = projection_of(model.clip)
    second: Any = getattr(model.clip, REPLAY_PROJECTION)
    features: Tensor = torch.func.functional_call(model.clip.visual, {name: second}, (pixels_BCHW,))  # type: ignore[arg-type]
    return features


def take_off(model: TaxonModel) -> dict[Rank, Tensor]:
    """Remove heads, teachers and second projection from the model; return the heads' weights ``[K, E]``."""
    weights = {}
    if hasattr(model.clip, CLASS_HEADS):
        weights = {rank: head.weight.detach().cpu() for rank, head in class_heads(model).items()}  # type: ignore[operator]
        delattr(model.clip, CLASS_HEADS)
    for name in (REPLAY_PROJECTION, TEACHERS):
        if hasattr(model.clip, name):
            delattr(model.clip, name)
    return weights


def make_head_banks(
    weights: dict[Rank, Tensor], dataset: DataSet, table: TokenTable, model: TaxonModel
) -> dict[Rank, LabelBank]:
    """Return each rank's head of a model as a label bank: the weights of the seen classes, in the order of the tree."""
    banks = {}
    pictured = dataset.index["taxon_id"].to_numpy()
    seen = np.unique(pictured)
    for rank, weight_KE in weights.items():
        classes, first = np.unique(table.lineage_of[seen, rank], return_index=True)
        classes, first = classes[classes >= 0], first[classes >= 0]
        taxa = [dataset.taxon(int(taxon_id)).at(rank) for taxon_id in seen[first]]
        order = sorted(range(len(taxa)), key=lambda number: taxa[number].lineage)
        facts = {"model": model.fingerprint, "text_type": CLASS_HEAD, "rank": rank.label,
                 PREPROCESS: model.preprocess.to_json()}  # fmt: skip
        counts = np.bincount(table.lineage_of[pictured, rank] + 1, minlength=len(weight_KE) + 1)[1:][classes[order]]
        table_of_rank = make_taxa_table(taxa).with_columns(pl.Series(N_PHOTOGRAPHS, counts))
        banks[rank] = LabelBank(table_of_rank, weight_KE.numpy()[classes[order]], facts)
    return banks


def start_class_heads(model: TaxonModel, dataset: DataSet, table: TokenTable, banks: dict[Rank, LabelBank]) -> int:
    """Copy the weights of classes that another run's heads know; return the number of copied classes."""
    n_known = 0
    for rank, head in class_heads(model).items():
        weight = cast(Tensor, head.weight)
        classes, vectors = _find_known(rank, weight.shape[1], dataset, table, banks)
        weight.data[classes] = vectors.to(weight)
        n_known += len(classes)
    return n_known


def imprint_class_heads(
    model: TaxonModel,
    image_NE: Float32[ndarray, "N E"],
    lineage_NR: Int32[ndarray, "N ranks"],
    known: Mapping[Rank, NDArray[np.int64]],
) -> None:
    """Give each class that is not ``known`` the direction of its pictures' mean from the mean of all.

    Weight imprinting (Qi et al., arXiv 1712.07136). Classes without pictures keep their random weights.
    """
    centred_NE = image_NE - image_NE.mean(axis=0)
    for rank, head in class_heads(model).items():
        weight = cast(Tensor, head.weight)
        classes = lineage_NR[:, rank]
        sums_KE = np.zeros(tuple(weight.shape), np.float32)
        np.add.at(sums_KE, classes[classes >= 0], centred_NE[classes >= 0])
        new = np.setdiff1d(classes[classes >= 0], known.get(rank, ()))
        weight.data[new] = normalize(torch.from_numpy(sums_KE[new]), dim=-1).to(weight)


def find_known_classes(
    model: TaxonModel, dataset: DataSet, table: TokenTable, banks: dict[Rank, LabelBank]
) -> dict[Rank, NDArray[np.int64]]:
    """Return for each rank the numbers of the classes that another run's heads know."""
    return {rank: _find_known(rank, model.width, dataset, table, banks)[0] for rank in class_heads(model)}


def add_teachers(model: TaxonModel, dataset: DataSet, table: TokenTable, banks: dict[Rank, LabelBank]) -> None:
    """Add another run's heads as teachers of captions: unit vectors per rank, zero for unknown classes.

    Raises:
        LinnaeaError: The heads know no taxon of the data set.
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
    """Return the vectors ``[K, E]`` by rank that :func:`add_teachers` added to the model; empty without teachers."""
    module = getattr(model.clip, TEACHERS, None)
    return {Rank.parse(label): unit_KE for label, unit_KE in module.named_buffers()} if module is not None else {}


def _find_known(
    rank: Rank, width: int, dataset: DataSet, table: TokenTable, banks: dict[Rank, LabelBank]
) -> tuple[NDArray[np.int64], Float32[Tensor, "K E"]]:
    """Return the numbers of the classes that the bank knows, and their vectors."""
    if rank not in banks or banks[rank].vectors.shape[1] != width:
        return np.empty(0, np.int64), torch.empty(0, width)
    row_of = {taxon.lineage: row for row, taxon in enumerate(banks[rank].taxa_list)}
    numbers, first = np.unique(table.lineage_of[:, rank], return_index=True)
    numbers, first = numbers[numbers >= 0].astype(np.int64), first[numbers >= 0]
    rows = np.array([row_of.get(dataset.taxon(int(taxon_id)).at(rank).lineage, -1) for taxon_id in first], np.int64)
    vectors = np.asarray(banks[rank].vectors[rows[rows >= 0]], dtype=np.float32)
    return numbers[rows >= 0], torch.from_numpy(vectors)


def save_head_banks(banks: dict[Rank, LabelBank], model_dir: Path) -> None:
    """Write each head to ``heads/<rank>`` in the model's folder."""
    for rank, bank in banks.items():
        folder = model_dir / HEADS_FOLDER / rank.label
        folder.mkdir(parents=True, exist_ok=True)
        bank.save(folder, dtype=np.float32)
