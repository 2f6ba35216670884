"""What the tree shows of answers: right down to which rank, and where a wrong answer meets the truth."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Int64
from numpy import ndarray

from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon
from linnaea.taxonomy.tree import lca_heights, number_lineages


def score_ranks(
    candidates: Sequence[Taxon],
    truth_N: Int[ndarray, "N"],  # noqa: F821
    answer_N: Int[ndarray, "N"],  # noqa: F821
) -> dict[str, float]:
    """Accuracy at each rank, ``species`` to ``kingdom``, with baselines: ``chance/genus``, ``majority/genus``, ...

    ``truth_N`` and ``answer_N`` are positions in ``candidates``. At a rank an answer is right if its lineage down to
    that rank is the truth's; images whose truth has no name there are left out, ranks nobody names too. Chance picks
    a candidate at random; the majority always names the commonest taxon of the evaluated images, which no model
    can know.
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
        metrics[f"chance/{rank.label}"] = float(share_of_number[truth].mean())
        metrics[f"majority/{rank.label}"] = float(np.bincount(truth).max() / len(truth))
    return metrics


def answer_heights(
    candidates: Sequence[Taxon],
    truth_N: Int[ndarray, "N"],  # noqa: F821
    answer_N: Int[ndarray, "N"],  # noqa: F821
) -> Int64[ndarray, "N"]:  # noqa: F821
    """For each image the ranks above species at which answer and truth meet: 0 right, 1 same genus, 7 nowhere.

    See :func:`linnaea.taxonomy.tree.lca_heights`. Another label of the same species is not right: its height is 1.
    """
    number_KR = number_lineages(taxon.lineage for taxon in candidates)
    heights = lca_heights(number_KR[truth_N], number_KR[answer_N])
    return np.asarray(np.where(truth_N == answer_N, 0, np.maximum(heights, 1)), np.int64)


def score_consistency(best_NR: Int[ndarray, "N 7"], bank: LabelBank) -> dict[str, float]:
    """Whether the likeliest taxa of all ranks, each chosen for itself, lie on one path of the tree.

    ``consistency/genus`` is the share of images whose likeliest genus lies in their likeliest family;
    ``consistency/path`` the share where that holds at every rank.
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
    """How far wrong the wrong answers are: mean ranks up to where they meet the truth (``lca_height_of_errors``, 1
    same genus to 7 nothing in common), the same over all images, and the share of errors within genus and family.
    """
    heights = answer_heights(candidates, truth_N, answer_N)
    wrong = heights[heights > 0]
    metrics = {"lca_height": float(heights.mean())}
    if len(wrong):
        metrics |= {"lca_height_of_errors": float(wrong.mean()), "errors_in_genus": float((wrong <= 1).mean()),
                    "errors_in_family": float((wrong <= 2).mean())}  # fmt: skip
    return metrics
