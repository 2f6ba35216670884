"""Scores of a model with class heads: it answers with the taxa it was trained on, and with no others."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray

from linnaea.data.shards import DataSet
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon

NO_CLASS = -1


def score_class_heads(
    features_NE: Float32[ndarray, "N E"], dataset: DataSet, heads: Mapping[Rank, LabelBank]
) -> dict[str, int | float]:
    """Accuracy of each rank's head among all its classes, over the images whose taxon there is one of them.

    ``class_head/genus/share_answerable`` is the share of images that are counted, of those with a name at the rank: an
    unseen species has no class, though its genus may. Beside it ``top1``, ``chance/top1`` and ``n_classes``. Where no
    image is answerable there is no accuracy.
    """
    metrics: dict[str, int | float] = {}
    for rank, bank in heads.items():
        truth_N, named_N = find_truths(dataset, bank, rank)
        known_N = truth_N != NO_CLASS
        place = f"class_head/{rank.label}"
        metrics[f"{place}/n_classes"] = len(bank)
        if not named_N.any():
            continue
        metrics[f"{place}/share_answerable"] = float(known_N.sum() / named_N.sum())
        if known_N.any():
            answer_N = (features_NE[known_N] @ np.asarray(bank.vectors).T).argmax(axis=1)
            metrics[f"{place}/top1"] = float((answer_N == truth_N[known_N]).mean())
            metrics[f"{place}/chance/top1"] = 1 / len(bank)
    return metrics


def find_truths(dataset: DataSet, bank: LabelBank, rank: Rank) -> tuple[Int64[ndarray, "N"], ndarray]:  # noqa: F821
    """For each image the class of its ancestor at a rank, -1 for none; and whether it has a name there at all."""
    class_of = {_down_to(taxon, rank): number for number, taxon in enumerate(bank.taxa_list)}
    taxa = dataset.taxa_list
    of_taxon = np.array([class_of.get(_down_to(taxon, rank), NO_CLASS) for taxon in taxa], np.int64)
    named = np.array([bool(taxon[rank]) for taxon in taxa])
    ids = dataset.index["taxon_id"].to_numpy()
    return np.where(named, of_taxon, NO_CLASS)[ids], named[ids]


def _down_to(taxon: Taxon, rank: Rank) -> tuple[str, ...]:
    return taxon.lineage[: rank + 1]
