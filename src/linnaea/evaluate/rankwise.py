"""Answer at each rank in four ways: by sums, by captions of the rank, by prototypes, and from the top down.

- *sums*: the taxon of the rank whose candidates have the largest sum of probabilities (``linnaea predict``).
- *captions*: the taxon of the rank with the nearest caption of its own ("a photo of Animalia .. Corvidae.").
- *prototypes*: the taxon of the rank with the nearest prototype, the mean of its candidates' caption vectors.
- *top down*: the best caption of a kingdom, then the best among its phyla, and so on; always one path of the tree.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int64
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.arrays import to_unit
from linnaea.evaluate.hierarchy import score_consistency
from linnaea.jobs import OnProgress, ignore_progress
from linnaea.model.encode import encode_names
from linnaea.model.encoder import Encoder
from linnaea.predict.calibration import find_groups, has_names
from linnaea.predict.classifier import iter_blocks, iter_scored, sum_to_all_ranks
from linnaea.predict.labels import LabelBank, to_float32
from linnaea.taxonomy.ranks import N_RANKS, RANK_LABELS, Rank
from linnaea.taxonomy.taxon import Taxon, TextType

WAYS = ("sums", "captions", "prototypes", "top_down")
PLACE = "by_rank"
"""The beginning of the metrics' names: ``by_rank/captions/genus``."""

Vectors = Mapping[Rank, Float32[ndarray, "G E"]]
"""A unit vector for each group of a rank."""


def score_by_rank(
    model: Encoder,
    image_NE: Float32[ndarray, "N E"],
    truth: Sequence[Taxon],
    bank: LabelBank,
    templates: Sequence[str],
    on_progress: OnProgress = ignore_progress,
) -> dict[str, float]:
    """Return the accuracy of each way at each rank, how consistent its answers are, and how often the path is right.

    Keys are ``by_rank/captions/genus`` (over the images whose truth has a name at the rank), and ``consistency`` and
    ``path``: the share of images whose answers lie on one path of the tree, and whose answers are right at all ranks of
    the truth. Candidates are the bank's taxa; ``image_NE`` holds unit vectors. Without a name at any rank the result is
    empty.
    """
    group_NR = find_groups(truth, bank)
    named_NR = has_names(truth)
    if not named_NR.any():
        return {}
    captions = encode_ranks(model, bank, templates, on_progress)
    answers = {
        "sums": _answer_by_sums(image_NE, bank, model.logit_scale),
        "captions": _answer_alone(image_NE, bank, captions),
        "prototypes": _answer_alone(image_NE, bank, make_prototypes(bank)),
        "top_down": _answer_top_down(image_NE, bank, captions),
    }
    metrics: dict[str, float] = {}
    for way, best_NR in answers.items():
        right_NR = best_NR == group_NR
        for rank in Rank:
            if named_NR[:, rank].any():
                metrics[f"{PLACE}/{way}/{rank.label}"] = float(right_NR[named_NR[:, rank], rank].mean())
        metrics[f"{PLACE}/{way}/consistency"] = score_consistency(best_NR, bank)["consistency/path"]
        metrics[f"{PLACE}/{way}/path"] = float((right_NR | ~named_NR).all(axis=1).mean())
    return metrics


def encode_ranks(
    model: Encoder, bank: LabelBank, templates: Sequence[str], on_progress: OnProgress = ignore_progress
) -> Vectors:
    """Return the caption vectors of every rank's groups; those of the species are the bank's.

    The caption has the bank's text type (``taxon_com`` for raw labels, which have none above their own rank). A group
    without a name at its rank has the vector of the group above it.
    """
    given = bank.facts.get("text_type")
    text_type = TextType(given) if given in set(TextType) else TextType.TAXON_COM
    ranks = list(Rank)[: Rank.SPECIES]
    taxa = {(rank, n): taxon for rank in ranks for n in range(len(bank.groups.starts[rank]))
            if (taxon := bank.group(rank, n)) is not None and taxon[rank]}  # fmt: skip
    names = list(dict.fromkeys(taxon.at(rank).caption(text_type) for (rank, _), taxon in taxa.items()))
    encoded = encode_names(model, names, templates, on_progress=on_progress) if names else np.empty((0, model.width))
    place = {name: row for row, name in enumerate(names)}
    vectors: dict[Rank, NDArray[np.float32]] = {}
    for rank in ranks:
        above = vectors[Rank(rank - 1)][bank.groups.parents(rank)] if rank else None
        own = np.zeros((len(bank.groups.starts[rank]), model.width), np.float32) if above is None else above.copy()
        for number in range(len(own)):
            if (rank, number) in taxa:
                own[number] = encoded[place[taxa[rank, number].at(rank).caption(text_type)]]
        vectors[rank] = own
    return vectors | {Rank.SPECIES: make_prototypes(bank)[Rank.SPECIES]}


def make_prototypes(bank: LabelBank) -> Vectors:
    """Return the prototype of every rank's groups: the mean of the vectors of its rows, at unit length."""
    sums_of = bank.groups.sums(to_float32(bank.vectors[:]).T)
    return {rank: to_unit(sums.T) for rank, sums in sums_of.items()}


def _answer_by_sums(image_NE: Float32[ndarray, "N E"], bank: LabelBank, scale: float) -> Int64[ndarray, "N 7"]:
    parts = []
    for block in iter_scored(image_NE, bank, scale):
        sums_of = sum_to_all_ranks(block.probability_BK, bank)
        parts.append(np.stack([sums_of[rank].argmax(axis=1) for rank in Rank], axis=1))
    return np.concatenate(parts)


def _answer_alone(image_NE: Float32[ndarray, "N E"], bank: LabelBank, vectors: Vectors) -> Int64[ndarray, "N 7"]:
    """Answer at each rank by the nearest vector of a named group, whatever the answers at the other ranks are."""
    best = np.empty((len(image_NE), N_RANKS), np.int64)
    for rank in Rank:
        named = _named(bank, rank)
        for rows in iter_blocks(len(image_NE), len(named)):
            cosine = image_NE[rows] @ vectors[rank].T
            if named.any():
                cosine[:, ~named] = -np.inf
            best[rows, rank] = cosine.argmax(axis=1)
    return best


def _answer_top_down(image_NE: Float32[ndarray, "N E"], bank: LabelBank, vectors: Vectors) -> Int64[ndarray, "N 7"]:
    """Answer at each rank by the nearest vector among the children of the answer above."""
    best = np.zeros((len(image_NE), N_RANKS), np.int64)
    for rank in Rank:
        parents = bank.groups.parents(rank)
        for rows in iter_blocks(len(image_NE), len(parents)):
            cosine = image_NE[rows] @ vectors[rank].T
            above = best[rows, rank - 1] if rank else np.zeros(len(cosine), np.int64)
            cosine[parents[None, :] != above[:, None]] = -np.inf
            best[rows, rank] = cosine.argmax(axis=1)
    return best


def _named(bank: LabelBank, rank: Rank) -> Bool[ndarray, "G"]:  # noqa: F821
    names = bank.taxa[rank.label].fill_null("").gather(bank.groups.starts[rank])
    return np.asarray((names != "").to_numpy())


def rank_rows(metrics: Mapping[str, int | float]) -> list[dict[str, object]]:
    """Return the table of the ways: one row for each, with a column per rank, ``on one path`` and ``whole path right``.

    The list is empty if the metrics have none.
    """
    rows: list[dict[str, object]] = []
    for way in WAYS:
        if f"{PLACE}/{way}/path" in metrics:
            cells = {label: metrics.get(f"{PLACE}/{way}/{label}") for label in RANK_LABELS}
            ends = {"on one path": metrics[f"{PLACE}/{way}/consistency"], "all right": metrics[f"{PLACE}/{way}/path"]}
            rows.append({"answered by": way.replace("_", " "), **cells, **ends})
    return rows
