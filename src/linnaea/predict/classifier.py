"""From vectors to taxa: probabilities at all seven ranks at once, that add up along the lineage."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.predict.labels import LabelBank, to_float32
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon

MAX_CELLS = 32_000_000
"""Largest block of images x taxa in memory at once (128 MB of float32)."""
TAXA_AT_ONCE = 32_768
"""Vectors of a bank in fp16 that are converted at once."""


@dataclass(frozen=True)
class Guess:
    """A taxon with its probability among the bank's taxa."""

    taxon: Taxon
    rank: Rank | None
    score: float


@dataclass(frozen=True)
class Scored:
    """A block of images: probabilities of the bank's taxa, and how much of a match there is at all."""

    probability_BK: Float32[ndarray, "B K"]
    energy_B: Float32[ndarray, "B"]  # noqa: F821
    """``logsumexp(scale * cosine) / scale``: about the largest cosine, the higher the more labels are near (Liu et
    al., "Energy-based out-of-distribution detection", NeurIPS 2020, with the sign turned)."""
    max_cosine_B: Float32[ndarray, "B"]  # noqa: F821
    image_BE: Float32[ndarray, "B E"]
    """The images themselves."""


def iter_scored(image_NE: Float32[ndarray, "N E"], bank: LabelBank, logit_scale: float) -> Iterator[Scored]:
    """Softmax over the bank's taxa in blocks of images, so that memory does not grow with their number."""
    step = max(1, MAX_CELLS // max(len(bank), 1))
    for start in range(0, len(image_NE), step):
        images = image_NE[start : start + step]
        logits = _cosines(images, bank.vectors)
        largest = logits.max(axis=1, keepdims=True)
        logits -= largest
        logits *= logit_scale
        np.exp(logits, out=logits)
        total = logits.sum(axis=1, keepdims=True)
        logits /= total
        energy = largest + np.log(total) / np.float32(logit_scale)
        yield Scored(logits, energy[:, 0], largest[:, 0], images)


def iter_probabilities(
    image_NE: Float32[ndarray, "N E"], bank: LabelBank, logit_scale: float
) -> Iterator[Float32[ndarray, "B K"]]:
    """The probabilities alone of :func:`iter_scored`."""
    return (block.probability_BK for block in iter_scored(image_NE, bank, logit_scale))


def _cosines(image_BE: Float32[ndarray, "B E"], vectors_KE: NDArray[Any]) -> Float32[ndarray, "B K"]:
    """Products with the bank's vectors; fp16 ones become float32 block by block, never all at once."""
    if vectors_KE.dtype == np.float32:
        return np.asarray(image_BE @ vectors_KE.T, np.float32)
    products = np.empty((len(image_BE), len(vectors_KE)), np.float32)
    for start in range(0, len(vectors_KE), TAXA_AT_ONCE):
        block = to_float32(vectors_KE[start : start + TAXA_AT_ONCE])
        products[:, start : start + TAXA_AT_ONCE] = image_BE @ block.T
    return products


def sum_to_rank(probability_BK: Float32[ndarray, "B K"], bank: LabelBank, rank: Rank) -> NDArray[np.float32]:
    """Probabilities of the groups of a rank: sums over their contiguous rows."""
    return sum_to_all_ranks(probability_BK, bank, rank)[rank]


def sum_to_all_ranks(
    probability_BK: Float32[ndarray, "B K"], bank: LabelBank, highest: Rank = Rank.KINGDOM
) -> dict[Rank, NDArray[np.float32]]:
    """Probabilities of the groups of every rank from species up to ``highest``.

    Each rank adds up the one below, which is fast and keeps float32 sums of a million taxa exact to 1e-6.
    """
    sums: dict[Rank, NDArray[np.float32]] = {}
    values, starts_below = probability_BK, np.arange(len(bank))
    for rank in reversed(Rank):
        if rank < highest:
            break
        starts = bank.starts[rank]
        if len(starts) < len(starts_below):
            values = np.add.reduceat(values, np.searchsorted(starts_below, starts), axis=1)
        sums[rank], starts_below = values, starts
    return sums


def likeliest_paths(probability_BK: Float32[ndarray, "B K"], bank: LabelBank) -> list[list[Guess]]:
    """For each image the path from the root on which every step is the likeliest child of the one before.

    A guess per rank that has a name on the path, from kingdom down; their scores never rise.
    """
    sums_of = sum_to_all_ranks(probability_BK, bank)
    paths: list[list[Guess]] = []
    for image in range(len(probability_BK)):
        low, high, path = 0, len(bank), list[Guess]()
        for rank in Rank:
            starts, sums = bank.starts[rank], sums_of[rank][image]
            first, last = np.searchsorted(starts, (low, high))
            group = int(first + sums[first:last].argmax())
            low, high = int(starts[group]), int(starts[group + 1]) if group + 1 < len(starts) else len(bank)
            taxon = bank.group(rank, group)
            if taxon is not None and (taxon[rank] or rank == Rank.SPECIES):
                path.append(Guess(taxon, taxon.rank, min(float(sums[group]), 1.0)))
        paths.append(path)
    return paths


def guess_at_rank(
    probability_BK: Float32[ndarray, "B K"], bank: LabelBank, rank: Rank, top_k: int
) -> list[list[Guess]]:
    """The ``top_k`` likeliest taxa of a rank for each image, best first; labels without a name there are left out."""
    sums = sum_to_rank(probability_BK, bank, rank)
    k = min(top_k, sums.shape[1])
    best = np.argpartition(-sums, k - 1, axis=1)[:, :k]
    guesses = []
    for row, candidates in zip(sums, best, strict=True):
        ordered = sorted(candidates.tolist(), key=lambda number: (-row[number], number))
        named = [(bank.group(rank, number), float(row[number])) for number in ordered]
        guesses.append([Guess(taxon, taxon.rank, score) for taxon, score in named if taxon is not None])
    return guesses
