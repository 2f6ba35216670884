"""Turn vectors into taxa: probabilities at all seven ranks at once, which add up along the lineage."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.errors import LinnaeaError
from linnaea.predict.int8 import STRETCH as COLUMN_STRETCH
from linnaea.predict.int8 import Int8Rows, release
from linnaea.predict.labels import LabelBank, to_float32
from linnaea.predict.threads import in_parts
from linnaea.predict.trust import Path, Seen, Trust, follow_trusted
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon

MAX_CELLS = 32_000_000
"""The largest block of images x taxa in memory at once (128 MB of float32)."""
TAXA_AT_ONCE = 32_768
"""The number of fp16 or 8-bit vectors that are converted to float32 at once."""

SUMMED_EXACTLY = 128
"""Taxa per image whose cosines are summed in float64; rounding errors of all others are too small to show."""

STRETCH = 256
"""See :func:`_largest`."""


RankSums: TypeAlias = Mapping[Rank, NDArray[np.float32]]
"""For each rank the probabilities ``[B, G]`` of its groups (:func:`sum_to_all_ranks`)."""


@dataclass(frozen=True)
class Guess:
    """A taxon with its probability among the bank's taxa."""

    taxon: Taxon
    rank: Rank | None
    score: float


@dataclass(frozen=True)
class Scored:
    """A block of images with the probabilities of the bank's taxa, and the energy: how well any taxon matches."""

    probability_BK: Float32[ndarray, "B K"]
    energy_B: Float32[ndarray, "B"]  # noqa: F821
    """``logsumexp(scale * cosine) / scale``: about the largest cosine, and higher if more labels are near (Liu et al.,
    "Energy-based out-of-distribution detection", NeurIPS 2020, with the opposite sign)."""
    max_cosine_B: Float32[ndarray, "B"]  # noqa: F821
    image_BE: Float32[ndarray, "B E"]
    """The unit vectors of the images."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """A block of images with calibrated probabilities, and the energy and largest cosine of each image."""

    sums_of: RankSums | None
    """The probabilities of all ranks, if they were made together with those of the labels."""
    probability_BK: Float32[ndarray, "B K"]
    """With ``sums_of``, column by column in memory, as the probabilities of species are."""
    energy_B: Float32[ndarray, "B"]  # noqa: F821
    max_cosine_B: Float32[ndarray, "B"]  # noqa: F821
    image_BE: Float32[ndarray, "B E"]


def iter_blocks(n_images: int, n_columns: int) -> Iterator[slice]:
    """Yield slices of images, such that a block of images x columns has at most :data:`MAX_CELLS` cells."""
    step = max(1, MAX_CELLS // max(n_columns, 1))
    return (slice(start, start + step) for start in range(0, n_images, step))


def iter_scored(
    image_NE: Float32[ndarray, "N E"],
    bank: LabelBank,
    logit_scale: float,
    *,
    exact: bool = False,
) -> Iterator[Scored]:
    """Yield the softmax over the bank's taxa in blocks of images, so that memory does not grow with their number.

    With ``exact``, the cosines of each image's likeliest taxa are summed in float64. Its probabilities then do not
    depend on the other images of the block, which change the order of float32 sums (1e-7 of a cosine, 1e-5 of a logit).
    Large banks in 8 bits are several times as fast with :func:`linnaea.predict.fused.iter_ranked`.

    Raises:
        LinnaeaError: vectors of the images or labels are not finite.
    """
    for rows in iter_blocks(len(image_NE), len(bank)):
        images = image_NE[rows]
        logits = _cosines(images, bank.vectors_at_hand)
        if exact:
            _sum_best_exactly(logits, images, bank.vectors)
        if bank.offsets is not None:
            logits += bank.offsets
        energy, largest = _softmax(logits, logit_scale)
        check_finite(energy, images)
        yield Scored(logits, energy, largest, images)


def check_finite(energy_B: NDArray[np.float32], image_BE: NDArray[np.float32]) -> None:
    """Raise LinnaeaError if an energy is not finite; the message says whether labels or images are to blame."""
    if not np.isfinite(energy_B).all():
        whose = "labels have" if np.isfinite(image_BE).all() else "model gives photographs"
        raise LinnaeaError(f"the {whose} vectors that are not finite numbers; build or pack them again")


def _softmax(cosine_BK: NDArray[np.float32], scale: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Turn cosines into probabilities in place, and return the energy and the largest cosine of each image."""
    energy, highest = (np.empty(len(cosine_BK), np.float32) for _ in range(2))

    def soften(rows: slice) -> None:
        values = cosine_BK[rows]
        largest = values.max(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):  # infinite values are refused afterwards
            values -= largest
        values *= scale
        np.exp(values, out=values)
        total = values.sum(axis=1, keepdims=True)
        values /= total
        energy[rows] = (largest + np.log(total) / np.float32(scale))[:, 0]
        highest[rows] = largest[:, 0]

    in_parts(soften, cosine_BK.shape)
    return energy, highest


def iter_probabilities(
    image_NE: Float32[ndarray, "N E"], bank: LabelBank, logit_scale: float
) -> Iterator[Float32[ndarray, "B K"]]:
    """Yield only the probabilities of :func:`iter_scored`."""
    return (block.probability_BK for block in iter_scored(image_NE, bank, logit_scale))


def _cosines(image_BE: Float32[ndarray, "B E"], vectors_KE: NDArray[Any] | Int8Rows) -> Float32[ndarray, "B K"]:
    """Return the products with the bank's vectors; fp16 and 8-bit vectors are converted block by block."""
    if isinstance(vectors_KE, ndarray) and vectors_KE.dtype == np.float32:
        return np.asarray(image_BE @ vectors_KE.T, np.float32)
    products = np.empty((len(image_BE), len(vectors_KE)), np.float32)
    buffer = np.empty((min(TAXA_AT_ONCE, len(vectors_KE)), image_BE.shape[1]), np.float32)
    for start in range(0, len(vectors_KE), TAXA_AT_ONCE):
        some = vectors_KE[start : start + TAXA_AT_ONCE]
        block = to_float32(some, out=buffer[: len(some)])
        products[:, start : start + TAXA_AT_ONCE] = image_BE @ block.T
        release(vectors_KE)
    return products


def _sum_best_exactly(
    cosines_BK: Float32[ndarray, "B K"], image_BE: Float32[ndarray, "B E"], vectors_KE: NDArray[Any] | Int8Rows
) -> None:
    """Replace the largest cosines of each image by their sums in float64, in place."""
    k = min(SUMMED_EXACTLY, cosines_BK.shape[1])

    def sum_up(images: slice) -> None:
        for cosines_K, image_E in zip(cosines_BK[images], image_BE[images], strict=True):
            best = np.sort(_largest(cosines_K, k))
            cosines_K[best] = sum_exactly(vectors_KE, best, image_E)

    in_parts(sum_up, cosines_BK.shape)


def sum_exactly(
    vectors_KE: NDArray[Any] | Int8Rows,
    rows: Int64[ndarray, "N"],  # noqa: F821
    image_E: Float32[ndarray, "E"],  # noqa: F821
) -> NDArray[np.float64]:
    """Return the cosines of an image with some rows of a bank, summed in float64."""
    return np.asarray(
        np.einsum("ke,e->k", to_float32(vectors_KE[rows]).astype(np.float64), image_E.astype(np.float64)), np.float64
    )


def sum_to_all_ranks(
    probability_BK: Float32[ndarray, "B K"], bank: LabelBank, highest: Rank = Rank.KINGDOM
) -> dict[Rank, NDArray[np.float32]]:
    """Return the probabilities of the groups of every rank from species up to ``highest``.

    Each rank sums the one below, which is fast and keeps float32 sums of a million taxa exact to 1e-6. A sum that
    rounding takes above 1 is set to 1.
    """
    n_images, groups = len(probability_BK), bank.groups
    sums_of = {rank: np.empty((n_images, len(groups.starts[rank])), np.float32) for rank in Rank if rank >= highest}
    if len(groups.starts[Rank.SPECIES]) == len(bank):
        sums_of[Rank.SPECIES] = probability_BK

    def sum_up(rows: slice) -> None:
        for rank, sums in groups.sums(probability_BK[rows], highest).items():
            if sums_of[rank] is not probability_BK:
                np.minimum(sums, 1, out=sums_of[rank][rows])

    in_parts(sum_up, probability_BK.shape)
    return {rank: sums_of[rank] for rank in reversed(Rank) if rank in sums_of}


def likeliest_paths(
    sums_of: RankSums,
    bank: LabelBank,
    trust: Trust = Trust(),  # noqa: B008  (frozen)
    seen: Seen | None = None,
) -> list[list[Guess]]:
    """Return for each image the path from the root on which every step is the likeliest child of the one before.

    The path has a guess for each rank with a name, from kingdom down; scores never rise along it. They are
    probabilities or, if ``trust`` has weights, how far each taxon is to be trusted (:mod:`linnaea.predict.trust`).
    """
    path = follow_trusted(sums_of, bank, trust, seen)
    return [name_path(path, image, bank) for image in range(len(path.group_BR))]


def name_path(path: Path, image: int, bank: LabelBank) -> list[Guess]:
    """Return a guess for each rank with a name on the path of one image."""
    groups = [(rank, bank.group(rank, int(path.group_BR[image, rank]))) for rank in Rank]
    return [
        Guess(taxon, taxon.rank, float(path.probability_BR[image, rank]))
        for rank, taxon in groups
        if taxon is not None and (taxon[rank] or rank == Rank.SPECIES)
    ]


def guess_at_rank(sums_BG: Float32[ndarray, "B G"], bank: LabelBank, rank: Rank, top_k: int) -> list[list[Guess]]:
    """Return each image's ``top_k`` likeliest taxa of a rank, best first, leaving out labels without a name there."""
    k = min(top_k, sums_BG.shape[1])
    guesses = []
    for row, largest in zip(sums_BG, _iter_largest(sums_BG, k), strict=True):
        ordered = sorted(largest.tolist(), key=lambda number: (-row[number], number))
        named = [(bank.group(rank, number), float(row[number])) for number in ordered]
        guesses.append([Guess(taxon, taxon.rank, score) for taxon, score in named if taxon is not None])
    return guesses


def _largest(row_K: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the positions of the ``k`` largest values in any order, several times as fast as partitioning a long row.

    The ``k`` largest are at least as large as the ``k``-th largest of the maxima of all stretches, and few others are.
    """
    n_stretches = len(row_K) // STRETCH
    if n_stretches < k:
        return np.asarray(np.argpartition(row_K, -k)[-k:], np.int64)
    largest = row_K[: n_stretches * STRETCH].reshape(n_stretches, STRETCH).max(axis=1)
    candidates = np.flatnonzero(row_K >= np.partition(largest, -k)[-k])
    return np.asarray(candidates[np.argpartition(row_K[candidates], -k)[-k:]], np.int64)


def _iter_largest(value_BK: NDArray[np.float32], k: int) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of the ``k`` largest values of each row, in any order."""
    n_stretches = value_BK.shape[1] // COLUMN_STRETCH
    if value_BK.flags.c_contiguous or n_stretches < k:
        yield from (_largest(row, k) for row in value_BK)
        return
    import torch  # columns lie together where PyTorch has made them (linnaea.predict.fused)

    value_KB = value_BK.T
    stretches = torch.from_numpy(value_KB[: n_stretches * COLUMN_STRETCH]).view(n_stretches, COLUMN_STRETCH, -1)
    largest = stretches.amax(dim=1).numpy()
    yield from (largest_of_columns(value_KB, largest, image, k) for image in range(len(value_BK)))


def largest_of_columns(
    value_KB: NDArray[np.float32], stretch_NB: NDArray[np.float32], column: int, k: int
) -> NDArray[np.int64]:
    """Return the positions of the ``k`` largest values of a column, as :func:`_largest` does for a row.

    ``stretch_NB`` are the maxima of stretches of :data:`COLUMN_STRETCH` rows; rows after the last whole stretch are
    candidates too.
    """
    if len(stretch_NB) < k:
        return np.asarray(np.argpartition(value_KB[:, column], -k)[-k:], np.int64)
    largest = stretch_NB[:, column]
    stretches = np.flatnonzero(largest >= np.partition(largest, -k)[-k])
    inside = (stretches[:, None] * COLUMN_STRETCH + np.arange(COLUMN_STRETCH)).ravel()
    rows = np.concatenate([inside, np.arange(len(stretch_NB) * COLUMN_STRETCH, len(value_KB))])
    return np.asarray(rows[np.argpartition(value_KB[rows, column], -k)[-k:]], np.int64)
