"""Score answers against the tree: accuracy per rank, severity of errors, and the effect of taxonomic revisions.

A revision moves genera to another family of the same order and leaves the rest, as real revisions do. Shuffling gives
each genus the higher ranks of another genus. In both cases the label bank is either *stale* (vectors of the old
captions, answers interpreted in the new tree) or *updated* (new captions encoded).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float32, Int, Int64
from numpy import ndarray

from linnaea.evaluate.intervals import mean_of_classes
from linnaea.predict.classifier import iter_scored
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon
from linnaea.taxonomy.tree import lca_heights, number_lineages

SHARE_MOVED = 0.2
Encode = Callable[[Sequence[Taxon]], Float32[ndarray, "K E"]]
"""A function from taxa to unit vectors of their captions."""


def score_ranks(
    candidates: Sequence[Taxon],
    truth_N: Int[ndarray, "N"],  # noqa: F821
    answer_N: Int[ndarray, "N"],  # noqa: F821
) -> dict[str, float]:
    """Return the accuracy at each rank, ``species`` to ``kingdom``, and baselines such as ``chance/genus``.

    ``species`` is a mean over images, ``species_by_class`` one over the true candidates.

    ``truth_N`` and ``answer_N`` are positions in ``candidates``. An answer is right at a rank if its lineage matches
    the truth's down to that rank. Images whose truth has no name at the rank are left out, as are ranks without any
    named image. The ``chance`` baseline picks a candidate at random. The ``majority`` baseline always answers the
    most common taxon of the evaluated images, which no model can know.
    """
    metrics: dict[str, float] = {}
    number_KR = number_lineages(taxon.lineage for taxon in candidates)
    for rank in Rank:
        number_K = number_KR[:, rank]
        counted = number_K[truth_N] >= 0
        if not counted.any():
            continue
        truth, answer = number_K[truth_N[counted]], number_K[answer_N[counted]]
        share_of_number = np.bincount(number_K[number_K >= 0]) / len(number_K)
        metrics[rank.label] = float((truth == answer).mean())
        metrics[f"{rank.label}_by_class"] = mean_of_classes(truth == answer, truth_N[counted])
        metrics[f"chance/{rank.label}"] = float(share_of_number[truth].mean())
        metrics[f"majority/{rank.label}"] = float(np.bincount(truth).max() / len(truth))
    return metrics


def answer_heights(
    candidates: Sequence[Taxon],
    truth_N: Int[ndarray, "N"],  # noqa: F821
    answer_N: Int[ndarray, "N"],  # noqa: F821
) -> Int64[ndarray, "N"]:  # noqa: F821
    """Return how many ranks above species answer and truth meet: 0 right, 1 same genus, 7 no shared rank.

    See :func:`linnaea.taxonomy.tree.lca_heights`. A different label of the same species is wrong, with height 1.
    """
    number_KR = number_lineages(taxon.lineage for taxon in candidates)
    heights = lca_heights(number_KR[truth_N], number_KR[answer_N])
    return np.asarray(np.where(truth_N == answer_N, 0, np.maximum(heights, 1)), np.int64)


def score_consistency(best_NR: Int[ndarray, "N 7"], bank: LabelBank) -> dict[str, float]:
    """Return how often the likeliest taxa of all ranks, each chosen independently, lie on one path of the tree.

    ``consistency/genus`` is the share of images whose likeliest genus lies in their likeliest family.
    ``consistency/path`` is the share of images for which this holds at every rank.
    """
    metrics: dict[str, float] = {}
    whole = np.ones(len(best_NR), bool)
    for rank in list(Rank)[1:]:
        agrees = bank.groups.parents(rank)[best_NR[:, rank]] == best_NR[:, rank - 1]
        whole &= agrees
        metrics[f"consistency/{rank.label}"] = float(agrees.mean())
    return metrics | {"consistency/path": float(whole.mean())}


def score_distances(
    candidates: Sequence[Taxon],
    truth_N: Int[ndarray, "N"],  # noqa: F821
    answer_N: Int[ndarray, "N"],  # noqa: F821
) -> dict[str, float]:
    """Return how severe the errors are, as the height of the lowest common ancestor of answer and truth.

    ``lca_height_of_errors`` is the mean over wrong answers, from 1 (same genus) to 7 (no shared rank); ``lca_height``
    is the mean over all images. ``errors_in_genus`` and ``errors_in_family`` are the shares of wrong answers that
    stay within the true genus and family.
    """
    heights = answer_heights(candidates, truth_N, answer_N)
    wrong = heights[heights > 0]
    metrics = {"lca_height": float(heights.mean())}
    if len(wrong):
        metrics |= {"lca_height_of_errors": float(wrong.mean()), "errors_in_genus": float((wrong <= 1).mean()),
                    "errors_in_family": float((wrong <= 2).mean())}  # fmt: skip
    return metrics


def revise(taxa: Sequence[Taxon], *, share: float = SHARE_MOVED) -> list[Taxon]:
    """Return ``taxa`` with a share of the genera moved to another family of the same order, where one exists."""
    rng = np.random.default_rng(0)
    families: dict[tuple[str, ...], list[str]] = {}
    for taxon in taxa:
        names = families.setdefault(taxon.lineage[:4], [])
        if taxon[Rank.FAMILY] and taxon[Rank.FAMILY] not in names:
            names.append(taxon[Rank.FAMILY])
    moved: dict[tuple[str, ...], str] = {}
    for genus in dict.fromkeys(taxon.lineage[:6] for taxon in taxa if taxon.genus):
        others = [name for name in families[genus[:4]] if name != genus[4]]
        if others and genus[4] and rng.random() < share:
            moved[genus] = others[int(rng.integers(len(others)))]
    return [_with(taxon, {Rank.FAMILY: moved.get(taxon.lineage[:6], taxon[Rank.FAMILY])}) for taxon in taxa]


def shuffle(taxa: Sequence[Taxon]) -> list[Taxon]:
    """Return ``taxa`` with the ranks above genus permuted between genera."""
    genera = list(dict.fromkeys(taxon.lineage[:6] for taxon in taxa))
    order = np.random.default_rng(0).permutation(len(genera))
    higher = {genus: genera[place][:5] for genus, place in zip(genera, order, strict=True)}
    return [_with(t, dict(zip(list(Rank)[:5], higher[t.lineage[:6]], strict=True))) for t in taxa]


def _with(taxon: Taxon, names: dict[Rank, str]) -> Taxon:
    lineage = tuple(names.get(rank, taxon[rank]) for rank in Rank)
    return Taxon(lineage, taxon.common_name) if any(lineage) or taxon.common_name else taxon  # type: ignore[arg-type]


def score_brittleness(
    image_NE: Float32[ndarray, "N E"],
    truth_N: Int[ndarray, "N"],  # noqa: F821
    bank: LabelBank,
    logit_scale: float,
    encode: Encode,
    revisions: Mapping[str, Sequence[Taxon]],
) -> dict[str, float]:
    """Return the accuracy per rank with the current bank and under each revision, with a stale and an updated bank.

    Keys look like ``brittleness/old/family`` and ``brittleness/revised/stale/family``. The taxa of each revision are
    aligned with the rows of the bank.
    """
    old = bank.taxa_list
    answer_N = _answers(image_NE, bank, logit_scale)
    metrics = _named("old", score_ranks(old, truth_N, answer_N))
    for name, taxa in revisions.items():
        metrics |= _named(f"{name}/stale", score_ranks(taxa, truth_N, answer_N))
        updated = LabelBank(bank.taxa, encode(taxa), bank.facts)
        metrics |= _named(f"{name}/updated", score_ranks(taxa, truth_N, _answers(image_NE, updated, logit_scale)))
        changed = [a.lineage != b.lineage for a, b in zip(old, taxa, strict=True)]
        metrics[f"brittleness/{name}/changed"] = float(np.mean(changed))
    return metrics


def _named(place: str, scores: dict[str, float]) -> dict[str, float]:
    return {f"brittleness/{place}/{rank}": value for rank, value in scores.items() if "/" not in rank}


def _answers(image_NE: Float32[ndarray, "N E"], bank: LabelBank, logit_scale: float) -> Int[ndarray, "N"]:  # noqa: F821
    return np.concatenate([b.probability_BK.argmax(axis=1) for b in iter_scored(image_NE, bank, logit_scale)])
