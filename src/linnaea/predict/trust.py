"""Estimate how far to trust an answer: the chance that its taxon is right, by what the model knows of the taxon.

A softmax spreads all probability over the taxa that it has. A photograph of a species that no label names is therefore
called by a relative, with a probability that says nothing of the relative's absence. Trust is the chance that a taxon
is right, also when the truth may be missing. Five signs foretell it: the taxon's probability, its share of its parent's
probability, the number of its siblings among the labels, the number of photographs of it that the model was trained on,
and how far the photograph lies from the label at the end of the path (:mod:`linnaea.predict.spread`). A logistic
regression per rank weighs them; it learns from photographs of sources that the model never saw
(:mod:`linnaea.predict.trust_fit`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.predict.labels import LabelBank, to_float32
from linnaea.predict.spread import Spread
from linnaea.taxonomy.ranks import N_RANKS, Rank

SIGNS = ("log odds of the probability", "log odds of the share", "log siblings", "log photographs")
DISTANCE = "log distance from the label"
"""The fifth sign; calibrations that were learned before it have four."""
_LEAST = 1e-5
"""Probabilities are kept this far from 0 and 1, so that their log odds are finite."""

Weights: TypeAlias = tuple[tuple[float, ...], ...]
"""For each rank, kingdom first: the constant, then a weight for each of :data:`SIGNS`, and for :data:`DISTANCE`."""
Seen: TypeAlias = Float32[ndarray, "B E"] | Sequence[Float32[ndarray, "_ E"]]
"""For each image its unit vector, or those of all photographs that have one answer; their distance is the mean."""


@dataclass(frozen=True)
class Trust:
    """How far answers are to be trusted. Without weights, probabilities are taken as they are."""

    weights: Weights = ()
    spread: Spread | None = None
    """The scatter that :data:`DISTANCE` is measured by. ``None`` leaves this sign out."""

    def __post_init__(self) -> None:
        n = 1 + len(SIGNS) + (self.spread is not None)
        if self.weights and (len(self.weights) != N_RANKS or {len(one) for one in self.weights} != {n}):
            raise ValueError(f"trust has {n} weights for each rank")
        if not np.isfinite(np.array(self.weights)).all():
            raise ValueError("the weights of trust are finite")


@dataclass(frozen=True)
class Path:
    """For each image one group of each rank, each within the one before, and how sure these are."""

    group_BR: Int64[ndarray, "B 7"]
    probability_BR: Float64[ndarray, "B 7"]
    """The ranks' probabilities, or how far each is to be trusted (:func:`follow_trusted`)."""


def follow(sums_of: Mapping[Rank, NDArray[np.float32]], bank: LabelBank) -> Path:
    """Return the path from the root on which each step is the likeliest child of the one before."""
    n_images = len(sums_of[Rank.KINGDOM])
    group_BR = np.zeros((n_images, N_RANKS), np.int64)
    for rank in Rank:
        sums = sums_of[rank]
        for image, (first, last) in enumerate(zip(*_children(group_BR, rank, bank), strict=True)):
            group_BR[image, rank] = first + sums[image, first:last].argmax()
    rows = np.arange(n_images)
    columns = [sums_of[rank][rows, group_BR[:, rank]] for rank in Rank]
    return Path(group_BR, np.stack(columns, axis=1).astype(np.float64))


def _children(group_BR: NDArray[np.int64], rank: Rank, bank: LabelBank) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first group of ``rank`` within each path's group at the rank above, and one past the last."""
    edges = bank.groups.edges_of_children[rank]
    above_B = group_BR[:, rank - 1] if rank > 0 else np.zeros(len(group_BR), np.int64)
    return edges[above_B], edges[above_B + 1]


def read_signs(
    path: Path, bank: LabelBank, spread: Spread | None = None, seen: Seen | None = None
) -> Float64[ndarray, "B 7 S"]:
    """Return the :data:`SIGNS` of each step of the paths; with a spread, also :data:`DISTANCE`.

    Raises:
        ValueError: A spread is given without the vectors of the images.
    """
    parents = np.concatenate([np.ones((len(path.group_BR), 1)), path.probability_BR[:, :-1]], axis=1)
    shares = path.probability_BR / np.maximum(parents, 1e-12)
    siblings, photographs = (np.empty(path.group_BR.shape) for _ in range(2))
    for rank in Rank:
        first_B, last_B = _children(path.group_BR, rank, bank)
        siblings[:, rank], photographs[:, rank] = last_B - first_B, bank.n_photographs_of[rank][path.group_BR[:, rank]]
    signs = [_log_odds(path.probability_BR), _log_odds(shares), np.log(siblings), np.log1p(photographs)]
    if spread is not None:
        if seen is None:
            raise ValueError("distances from labels need the vectors of the images")
        signs.append(_measure(path, bank, spread, seen)[:, None].repeat(N_RANKS, axis=1))
    return np.stack(signs, axis=-1)


def _measure(path: Path, bank: LabelBank, spread: Spread, seen: Seen) -> NDArray[np.float64]:
    """Return how far each image lies from the nearest label of the species at the end of its path."""
    distance_B = np.empty(len(path.group_BR))
    for image, group in enumerate(path.group_BR[:, Rank.SPECIES].tolist()):
        first, last = bank.groups.rows(Rank.SPECIES, group)
        label_LE, image_PE = to_float32(bank.vectors[first:last]), np.atleast_2d(seen[image])
        n_labels, n_images = len(label_LE), len(image_PE)
        pairs = image_PE.repeat(n_labels, axis=0), np.tile(label_LE, (n_images, 1))
        distance_B[image] = spread.distances(*pairs).reshape(n_images, n_labels).min(axis=1).mean()
    return distance_B


def _log_odds(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(probability, _LEAST, 1 - _LEAST)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def weigh_signs(signs_BRS: Float64[ndarray, "B 7 S"], weights: Weights) -> Float64[ndarray, "B 7"]:
    """Return how far each step of a path is to be trusted, 0 to 1; it never rises along the path."""
    table = np.array(weights, np.float64)
    odds_BR = np.einsum("brs,rs->br", signs_BRS, table[:, 1:]) + table[:, 0]
    return np.asarray(np.minimum.accumulate(1 / (1 + np.exp(-odds_BR)), axis=1))


def follow_trusted(
    sums_of: Mapping[Rank, NDArray[np.float32]],
    bank: LabelBank,
    trust: Trust,
    seen: Seen | None = None,
) -> Path:
    """Return the path of :func:`follow` with how far each step is to be trusted; without weights, as it is.

    Raises:
        ValueError: ``trust`` has a spread, and the vectors of the images are not given.
    """
    path = follow(sums_of, bank)
    if not trust.weights:
        return path
    return replace(path, probability_BR=weigh_signs(read_signs(path, bank, trust.spread, seen), trust.weights))
