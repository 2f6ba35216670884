"""Calibrated probabilities of all ranks among very many labels in 8 bits, in two passes over blocks of labels.

The first pass multiplies. The second turns a block's cosines into what the sums of its genera need, while the block is
in the processor's cache. A species has the probability ``q(genus) p^s / sum over its genus of p^s``
(:mod:`linnaea.predict.calibration`); the total that divides all ``p`` cancels in it, so ``p^s`` is a second exponential
of the cosine. All ranks above species have few groups. The images of a block of labels lie together in memory, because
sums over the labels of a group are then sums of whole registers.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.predict.calibration import TINY, Calibration, calibrate_probabilities, sharpen_ranks, weights_of_untrained
from linnaea.predict.classifier import (
    Ranked,
    check_finite,
    iter_blocks,
    iter_scored,
    largest_of_columns,
    sum_exactly,
)
from linnaea.predict.int8 import Int8Rows
from linnaea.predict.labels import LabelBank
from linnaea.predict.threads import Scratch, in_one_thread, in_threads
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.tree import RankGroups

if TYPE_CHECKING:
    from torch import Tensor

SUMMED_EXACTLY = 1_000
"""Labels per image whose cosines are summed in float64, since those of 8-bit vectors are off by 0.0004. With 1.1
million labels at a scale of 46 the first probability is then off by 1e-6, and the sum of any rank by 2e-5."""
CELLS_AT_ONCE = 131_072
"""Images x labels of one block of the second pass, whose two exponentials fit the processor's cache."""
LEAST_LOGIT = -80.0
"""Logits this far below the largest are set to it, so that no group sums to 0; all of a million weigh 1e-29."""


def rank_blocks(
    image_NE: Float32[ndarray, "N E"],
    bank: LabelBank,
    rounded: Int8Rows | None,
    logit_scale: float,
    calibration: Calibration = Calibration(),  # noqa: B008  (frozen)
) -> Iterator[Ranked]:
    """Yield :func:`iter_ranked` if there are ``rounded`` vectors, else the probabilities of exact products.

    Labels with heads are few, and are multiplied exactly.

    Raises:
        LinnaeaError: vectors of the images or labels are not finite.
    """
    if rounded is not None and not calibration.heads:
        yield from iter_ranked(image_NE, bank, rounded, logit_scale, calibration)
        return
    for block in iter_scored(image_NE, bank, logit_scale, exact=True):
        probability_BK = calibrate_probabilities(block.probability_BK, bank, calibration, block.image_BE, logit_scale)
        yield Ranked(None, probability_BK, block.energy_B, block.max_cosine_B, block.image_BE)


def iter_ranked(
    image_NE: Float32[ndarray, "N E"],
    bank: LabelBank,
    rounded: Int8Rows,
    logit_scale: float,
    calibration: Calibration = Calibration(),  # noqa: B008  (frozen)
) -> Iterator[Ranked]:
    """Yield calibrated probabilities in blocks of images, so that memory does not grow with their number.

    ``rounded`` are the bank's vectors in 8 bits (:func:`linnaea.predict.int8.load_rounded`); the likeliest labels are
    compared with the bank's own vectors. ``logit_scale`` is the model's, divided by the temperature.

    Raises:
        LinnaeaError: vectors of the images or labels are not finite.
    """
    for rows in iter_blocks(len(image_NE), len(bank)):
        images = image_NE[rows]
        cosine_KB, max_B = _compare(images, bank, rounded)
        made = _soften(cosine_KB, max_B, bank, logit_scale, calibration)
        energy_B = max_B + np.log(made.block_NB.numpy().sum(axis=0)) / np.float32(logit_scale)
        check_finite(energy_B, images)
        sums_of = _rank(made, bank, calibration.sharpness)
        yield Ranked(sums_of, made.row_KB.T.numpy(), energy_B, max_B, images)


def _compare(
    image_BE: NDArray[np.float32], bank: LabelBank, rounded: Int8Rows
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the cosines ``[K, B]`` with offsets, the likeliest of each image exact, and the largest of each image."""
    cosine_KB, stretch_NB = rounded.products(image_BE)
    n_best, max_B = min(SUMMED_EXACTLY, len(bank)), np.empty(len(image_BE), np.float32)

    def sum_best(image: int) -> None:
        best = np.sort(largest_of_columns(cosine_KB, stretch_NB, image, n_best))
        cosine_KB[best, image] = exact = sum_exactly(bank.vectors, best, image_BE[image])
        max_B[image] = exact.max()

    in_threads(sum_best, range(len(image_BE)))
    if bank.offsets is not None:
        cosine_KB += bank.offsets[:, None]
        max_B = cosine_KB.max(axis=0)
    return cosine_KB, max_B


@dataclass(frozen=True, kw_only=True, eq=False)
class _Softened:
    """Probabilities before and after the sharpness of species is applied; neither is normalised."""

    row_KB: "Tensor"
    """The sharpened probabilities of labels; plain ones if several labels are one species."""
    species_SB: "Tensor"
    """The sums of species; nothing if each label is a species."""
    sharp_species_SB: "Tensor"
    """The same memory as ``row_KB`` if each label is a species."""
    genus_GB: "Tensor"
    sharp_genus_GB: "Tensor"
    """The sums of ``sharp_species_SB``."""
    block_NB: "Tensor"
    """The sums of blocks of labels, before untrained labels are weighed."""

    @classmethod
    def reserve(cls, groups: RankGroups, row_KB: "Tensor", n_blocks: int) -> "_Softened":
        """Reserve memory for the labels in ``groups``, of which ``row_KB`` are the cosines."""
        import torch

        def empty(n: int) -> "Tensor":
            return torch.from_numpy(np.empty((n, row_KB.shape[1]), np.float32))  # NumPy asks for huge pages

        n_species, n_genera = (len(groups.starts[rank]) for rank in (Rank.SPECIES, Rank.GENUS))
        is_species = n_species == groups.n_rows
        return cls(
            row_KB=row_KB,
            species_SB=empty(0 if is_species else n_species),
            sharp_species_SB=row_KB if is_species else empty(n_species),
            genus_GB=empty(n_genera),
            sharp_genus_GB=empty(n_genera),
            block_NB=empty(n_blocks),
        )


def _soften(
    cosine_KB: NDArray[np.float32], max_B: NDArray[np.float32], bank: LabelBank, scale: float, calibration: Calibration
) -> _Softened:
    """Turn cosines into probabilities in place, in blocks of whole genera, and sum species and genera."""
    import torch

    blocks, sharpness = _blocks(bank.groups, cosine_KB.shape[1]), calibration.sharpness[Rank.SPECIES]
    made = _Softened.reserve(bank.groups, torch.from_numpy(cosine_KB), len(blocks))
    largest, least = torch.from_numpy(max_B), LEAST_LOGIT / scale / max(sharpness, 1)
    weights = weights_of_untrained(bank, calibration.untrained)
    weight_K1 = None if weights is None else torch.from_numpy(weights)[:, None]
    scratch = Scratch()

    def soften(block: _Block) -> None:
        below = made.row_KB[block.rows].sub_(largest).clamp_(min=least)
        plain = _exp(torch.mul(below, scale, out=torch.from_numpy(scratch.take(*below.shape))))
        torch.sum(plain, dim=0, out=made.block_NB[block.number])
        if weight_K1 is not None:
            plain *= weight_K1[block.rows]
        if not len(made.species_SB):  # below becomes the sharpened probabilities, where the cosines were
            species, sharp = plain, below
            _exp(sharp.mul_(scale * sharpness))
            if weight_K1 is not None:
                sharp *= weight_K1[block.rows] ** sharpness
        else:
            below.copy_(plain)
            species = made.species_SB[block.species].copy_(_sum_groups(plain, block.first_rows))
            sharp = torch.pow(species, sharpness, out=made.sharp_species_SB[block.species])
        made.genus_GB[block.genera] = _sum_groups(species, block.first_species)
        made.sharp_genus_GB[block.genera] = _sum_groups(sharp, block.first_species)

    in_threads(soften, blocks)
    return made


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block:
    """Whole genera that follow one another, with their labels and species."""

    number: int
    genera: slice
    species: slice
    rows: slice
    first_species: NDArray[np.int64]
    """The place in the block of the first species of each genus."""
    first_rows: NDArray[np.int64]
    """The place in the block of the first label of each species."""


def _blocks(groups: RankGroups, n_images: int) -> list[_Block]:
    row_starts, species_edges = groups.starts[Rank.SPECIES], groups.edges_of_children[Rank.SPECIES]
    genus_starts = groups.starts[Rank.GENUS]
    wanted = np.arange(0, groups.n_rows, max(1, CELLS_AT_ONCE // n_images))
    cuts = np.unique(np.append(np.searchsorted(genus_starts, wanted), len(genus_starts)))
    rows = np.append(genus_starts, groups.n_rows)[cuts]
    blocks = []
    for number, (first, last) in enumerate(itertools.pairwise(cuts.tolist())):
        species = slice(int(species_edges[first]), int(species_edges[last]))
        blocks.append(_Block(
            number=number, genera=slice(first, last), species=species,
            rows=slice(int(rows[number]), int(rows[number + 1])),
            first_species=species_edges[first:last] - species.start,
            first_rows=row_starts[species] - rows[number],
        ))  # fmt: skip
    return blocks


def _rank(made: _Softened, bank: LabelBank, sharpness: Sequence[float]) -> dict[Rank, NDArray[np.float32]]:
    """Return the calibrated probabilities ``[B, G]`` of each rank, from species up; labels get theirs in place."""
    import torch

    groups = bank.groups
    genus_BG = np.ascontiguousarray(made.genus_GB.numpy().T)
    ranks = sharpen_ranks(groups.sums_of_groups(genus_BG, Rank.GENUS), groups, sharpness)
    calibrated_GB = torch.from_numpy(np.ascontiguousarray(ranks[Rank.GENUS].T))
    n_images = made.row_KB.shape[1]
    factor_GB = in_one_thread(lambda: calibrated_GB / made.sharp_genus_GB.clamp_min_(float(TINY)))
    genus_of = torch.from_numpy(groups.parents(Rank.SPECIES))

    def finish(species: slice) -> None:
        own = made.sharp_species_SB[species]
        own.mul_(factor_GB.index_select(0, genus_of[species])).clamp_(max=1)

    _in_slices(finish, len(genus_of), n_images)
    if len(made.species_SB):
        species_of = torch.from_numpy(groups.of_species)
        share_SB = made.sharp_species_SB / made.species_SB.clamp_min_(float(TINY))

        def share(rows: slice) -> None:
            made.row_KB[rows].mul_(share_SB.index_select(0, species_of[rows]))

        _in_slices(share, len(species_of), n_images)
    above = {rank: np.minimum(sums, 1) for rank, sums in reversed(ranks.items())}
    return {Rank.SPECIES: made.sharp_species_SB.T.numpy(), **above}


def _sum_groups(value_NB: "Tensor", first: NDArray[np.int64]) -> "Tensor":
    """Return the sums of groups of rows, each from its ``first`` row to the next one's."""
    import torch

    rows = torch.arange(len(value_NB))
    return torch.embedding_bag(value_NB, rows, torch.from_numpy(first), False, 0)[0]  # 0: sums


def _exp(value_NB: "Tensor") -> "Tensor":
    """Raise e to values in place; NumPy takes half as long as PyTorch."""
    array = value_NB.numpy()
    np.exp(array, out=array)
    return value_NB


def _in_slices(work: Callable[[slice], None], n_rows: int, n_images: int) -> None:
    step = max(1, CELLS_AT_ONCE // n_images)
    in_threads(work, [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)])
