"""How deep to go: the lowest rank that is sure enough, on one path from the root."""

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from linnaea.predict.classifier import Guess, sum_to_all_ranks
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.ranks import Rank


def decide(probability_BK: Float32[ndarray, "B K"], bank: LabelBank, confidence: float) -> list[Guess | None]:
    """For each image the deepest taxon whose probability reaches ``confidence``; ``None`` where none does.

    From the root down, the likeliest child of the taxon chosen so far; the answers of all ranks lie on one
    path. The probabilities are the model's own, among the bank's taxa: they say nothing of what is not in it.
    """
    chosen: list[Guess | None] = [None] * len(probability_BK)
    ranges = [(0, len(bank))] * len(probability_BK)
    sums_of = sum_to_all_ranks(probability_BK, bank)
    for rank in Rank:
        starts, sums = bank.starts[rank], sums_of[rank]
        ends = np.append(starts[1:], len(bank))
        for image, (low, high) in enumerate(ranges):
            first, last = np.searchsorted(starts, (low, high))
            if first == last:
                continue
            group = int(first + sums[image, first:last].argmax())
            score = float(sums[image, group])
            if score < confidence:
                ranges[image] = (0, 0)
                continue
            ranges[image] = (int(starts[group]), int(ends[group]))
            taxon = bank.group(rank, group)
            if taxon is not None and (taxon[rank] or rank == Rank.SPECIES):
                chosen[image] = Guess(taxon, taxon.rank, min(score, 1.0))
    return chosen
