"""Learn how far answers are to be trusted, from photographs that the model knows the like of and from strangers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int
from numpy import ndarray

from linnaea.predict.calibration import Calibration, weigh_labels
from linnaea.predict.classifier import iter_scored, sum_to_all_ranks
from linnaea.predict.labels import LabelBank, to_float32
from linnaea.predict.spread import Spread, fit_spread
from linnaea.predict.trust import Weights, follow, read_signs
from linnaea.taxonomy.ranks import Rank

KIN_COUNTS = 0.05
"""The weight of photographs whose species was taken out of the labels, relative to all photographs of known species."""
ABROAD_COUNTS = 0.7
"""The weight of photographs from elsewhere, relative to all photographs of known species."""
SURE = 12.0
"""The constant of a rank at which no answer was wrong; all weights are then 0."""


@dataclass(frozen=True)
class Rehearsal:
    """Photographs of one kind that were answered: the signs of the likeliest path, and where it is right."""

    signs_NRS: Float64[ndarray, "N 7 S"]
    right_NR: Bool[ndarray, "N 7"]
    judged_NR: Bool[ndarray, "N 7"]
    """True where the photograph's taxon has a name at the rank."""


def fit_spread_of_species(
    image_NE: Float32[ndarray, "N E"],
    species_N: Int[ndarray, "N"],  # noqa: F821
    bank: LabelBank,
) -> Spread:
    """Return how photographs scatter around their species' labels, each around the nearest one.

    ``species_N`` are groups of the bank at species rank.
    """
    rows = bank.groups.starts[Rank.SPECIES][species_N]
    n_labels = np.diff(bank.groups.edges(Rank.SPECIES))[species_N]
    for image in np.flatnonzero(n_labels > 1):
        labels = to_float32(bank.vectors[rows[image] : rows[image] + n_labels[image]])
        rows[image] += (labels @ image_NE[image]).argmax()
    return fit_spread(image_NE, to_float32(bank.vectors[rows]))


def rehearse(
    image_NE: Float32[ndarray, "N E"],
    group_NR: Int[ndarray, "N 7"],
    judged_NR: Bool[ndarray, "N 7"],
    bank: LabelBank,
    calibration: Calibration,
    logit_scale: float,
) -> Rehearsal:
    """Answer photographs whose groups in the bank are known (:func:`~linnaea.predict.calibration.find_groups`).

    An answer at a rank where the bank lacks the truth is wrong.
    """
    signs, right, start = [], [], 0
    scale = logit_scale / calibration.temperature
    for block in iter_scored(image_NE, bank, scale):
        sums_of = sum_to_all_ranks(weigh_labels(block.probability_BK, bank, calibration, block.image_BE, scale), bank)
        path = follow(sums_of, bank)
        signs.append(read_signs(path, bank, calibration.trust.spread, block.image_BE))
        right.append(path.group_BR == group_NR[start : start + len(path.group_BR)])
        start += len(path.group_BR)
    return Rehearsal(np.concatenate(signs), np.concatenate(right), judged_NR)


def fit_trust(home: Rehearsal, kin: Sequence[Rehearsal], abroad: Sequence[Rehearsal]) -> Weights:
    """Return the weights of the signs for each rank.

    ``home`` are photographs of known species, ``kin`` the same with their species taken out of the labels, and
    ``abroad`` photographs of sources that the answering model was not trained on, one rehearsal for each source. What
    each kind counts for is in :data:`KIN_COUNTS` and :data:`ABROAD_COUNTS`; each source abroad has an equal part.
    """
    of_kin = [(one, KIN_COUNTS / len(kin)) for one in kin]
    of_abroad = [(one, ABROAD_COUNTS / len(abroad)) for one in abroad]
    parts = [(home, 1.0), *of_kin, *of_abroad]
    return tuple(_fit_rank(rank, parts) for rank in Rank)


def _fit_rank(rank: Rank, parts: Sequence[tuple[Rehearsal, float]]) -> tuple[float, ...]:
    from sklearn.linear_model import LogisticRegression

    signs, right, weights = [], [], []
    for part, weight in parts:
        judged = part.judged_NR[:, rank]
        signs.append(part.signs_NRS[judged, rank])
        right.append(part.right_NR[judged, rank])
        weights.append(np.full(int(judged.sum()), weight / max(len(judged), 1)))
    signs_NS, right_N, weight_N = np.concatenate(signs), np.concatenate(right), np.concatenate(weights)
    if right_N.all() or not right_N.any():
        return (SURE if right_N.all() else -SURE, *(0.0,) * signs_NS.shape[1])
    mean_S, spread_S = signs_NS.mean(axis=0), np.maximum(signs_NS.std(axis=0), 1e-6)
    model = LogisticRegression(C=1.0, max_iter=2000)
    model.fit((signs_NS - mean_S) / spread_S, right_N, sample_weight=weight_N * len(weight_N) / weight_N.sum())
    slope_S = model.coef_[0] / spread_S
    return tuple(round(float(value), 6) for value in (model.intercept_[0] - slope_S @ mean_S, *slope_S))
