"""From vectors to taxa: probabilities at all seven ranks at once, that add up along the lineage."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon

MAX_CELLS = 32_000_000
"""Largest block of images x taxa in memory at once (128 MB of float32)."""


@dataclass(frozen=True)
class Guess:
    """A taxon with its probability among the bank's taxa."""

    taxon: Taxon
    rank: Rank | None
    score: float


def iter_probabilities(
    image_NE: Float32[ndarray, "N E"], bank: LabelBank, logit_scale: float
) -> Iterator[Float32[ndarray, "B K"]]:
    """Softmax over the bank's taxa in blocks of images, so that memory does not grow with their number."""
    step = max(1, MAX_CELLS // max(len(bank), 1))
    vectors_EK = np.asarray(bank.vectors, np.float32).T
    for start in range(0, len(image_NE), step):
        logits = logit_scale * (image_NE[start : start + step] @ vectors_EK)
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=1, keepdims=True)
        yield logits


def sum_to_rank(probability_BK: Float32[ndarray, "B K"], bank: LabelBank, rank: Rank) -> NDArray[np.float32]:
    """Probabilities of the groups of a rank: sums over their contiguous rows."""
    return np.add.reduceat(probability_BK, bank.starts[rank], axis=1)


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
