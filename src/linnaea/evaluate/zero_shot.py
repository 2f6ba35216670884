"""Classify images zero-shot by the candidate with the nearest caption (arXiv 2311.18803, section 4.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32, Int64
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.evaluate.hierarchy import answer_heights, score_ranks
from linnaea.evaluate.intervals import mean_of_classes
from linnaea.predict.classifier import iter_probabilities
from linnaea.predict.labels import LabelBank
from linnaea.predict.restrict import keep_rows
from linnaea.taxonomy.taxon import Taxon

TOP = (1, 3, 5)


@dataclass(frozen=True)
class ZeroShotAnswers:
    """The true class and the best candidates of every image, from which all metrics are computed."""

    candidates: tuple[Taxon, ...]
    truth_N: Int64[ndarray, "N"]  # noqa: F821
    """Position of the truth in ``candidates``."""
    best_NK: Int64[ndarray, "N K"]
    """The likeliest candidates, best first."""
    score_N: Float32[ndarray, "N"]  # noqa: F821
    """Probability of the likeliest candidate."""
    truth_score_N: Float32[ndarray, "N"]  # noqa: F821
    """Probability of the truth."""
    truth_place_N: Int64[ndarray, "N"]  # noqa: F821
    """Position of the truth in the ranking of candidates, 1 for the likeliest."""


def merge_captions(captions: Sequence[str]) -> NDArray[np.int64]:
    """Return for each candidate the first one with the same caption; identical captions form one class."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(caption, number) for number, caption in enumerate(captions)], np.int64)


def classify(
    features_NE: Float32[ndarray, "N E"],
    truth_N: Int64[ndarray, "N"],  # noqa: F821
    bank: LabelBank,
    captions: Sequence[str],
    logit_scale: float,
) -> ZeroShotAnswers:
    """Classify unit vectors against a bank.

    ``truth_N`` holds rows of the bank, and ``captions`` the captions that the bank was made from.
    """
    merged = merge_captions(captions)
    kept = np.unique(merged)
    small = keep_rows(bank, kept)
    truth_N = np.searchsorted(kept, merged[truth_N])
    blocks, start = [], 0
    for probability in iter_probabilities(features_NE, small, logit_scale):
        truth = truth_N[start : start + len(probability)]
        blocks.append((*_find_best(probability), *_find_truth(probability, truth)))
        start += len(probability)
    best, scores, truth_scores, places = (np.concatenate(column) for column in zip(*blocks, strict=True))
    return ZeroShotAnswers(
        candidates=tuple(bank.taxon(number) for number in kept.tolist()),
        truth_N=truth_N,
        best_NK=best,
        score_N=scores,
        truth_score_N=truth_scores,
        truth_place_N=places,
    )


def _find_best(probability_BK: Float32[ndarray, "B K"]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the likeliest candidates, best first, and the probability of the first."""
    k = min(max(TOP), probability_BK.shape[1])
    top = np.argpartition(-probability_BK, k - 1, axis=1)[:, :k]
    values = np.take_along_axis(probability_BK, top, axis=1)
    order = np.lexsort((top, -values), axis=1)
    best = np.take_along_axis(top, order, axis=1).astype(np.int64)
    return best, np.take_along_axis(values, order, axis=1)[:, 0]


def _find_truth(
    probability_BK: Float32[ndarray, "B K"],
    truth_B: Int64[ndarray, "B"],  # noqa: F821
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the probability and position of the truth; among equally likely candidates the lower number is first."""
    truth = truth_B[:, None]
    own = np.take_along_axis(probability_BK, truth, axis=1)
    tied = (probability_BK == own) & (np.arange(probability_BK.shape[1]) < truth)
    return own[:, 0], ((probability_BK > own) | tied).sum(axis=1) + 1


def score_answers(answers: ZeroShotAnswers) -> dict[str, float]:
    """Return flat metrics: ``top1``, ``top3``, ``top5``, accuracy at each rank, chance and majority baselines.

    These are means over images; ``top1_by_class`` and its like are means over classes.

    See :func:`linnaea.evaluate.hierarchy.score_ranks` for the ranks and baselines.
    """
    right_NK = answers.best_NK == answers.truth_N[:, None]
    metrics = {f"top{k}": float(right_NK[:, :k].any(axis=1).mean()) for k in TOP}
    metrics |= {f"top{k}_by_class": mean_of_classes(right_NK[:, :k].any(axis=1), answers.truth_N) for k in TOP}
    metrics |= {f"chance/top{k}": min(k / len(answers.candidates), 1.0) for k in TOP}
    metrics["majority/top1"] = float(np.bincount(answers.truth_N).max() / len(answers.truth_N))
    metrics |= score_ranks(answers.candidates, answers.truth_N, answers.best_NK[:, 0])
    metrics["lca_height_of_errors"] = mean_lca_height(answers)
    return metrics


def score_seen(answers: ZeroShotAnswers, seen_N: Bool[ndarray, "N"]) -> dict[str, float]:  # noqa: F821
    """Return the accuracy on images of seen and of unseen taxa separately, among all candidates.

    Keys are ``seen/top1``, ``unseen/top1``, ``unseen/genus`` (an unseen species in the right genus) and so on, and
    ``n_images`` of each.
    """
    metrics: dict[str, float] = {}
    for name, part in (("seen", seen_N), ("unseen", ~seen_N)):
        metrics[f"{name}/n_images"] = float(part.sum())
        if part.any():
            truth, first = answers.truth_N[part], answers.best_NK[part, 0]
            metrics[f"{name}/top1"] = float((truth == first).mean())
            metrics[f"{name}/top1_by_class"] = mean_of_classes(truth == first, truth)
            ranks = score_ranks(answers.candidates, truth, first)
            metrics |= {f"{name}/{rank}": value for rank, value in ranks.items() if "/" not in rank}
    return metrics


def lca_heights(answers: ZeroShotAnswers) -> NDArray[np.int64]:
    """Return each image's height as in :func:`linnaea.evaluate.hierarchy.answer_heights`."""
    return answer_heights(answers.candidates, answers.truth_N, answers.best_NK[:, 0])


def mean_lca_height(answers: ZeroShotAnswers) -> float:
    """Return the mean height at which wrong answers meet the truth (their severity), or 0 if no answer is wrong."""
    heights = lca_heights(answers)
    wrong = heights > 0
    return float(heights[wrong].mean()) if wrong.any() else 0.0


def tabulate(answers: ZeroShotAnswers, index: pl.DataFrame) -> pl.DataFrame:
    """Return one row per image.

    Columns are the key, source, truth and answer with their probabilities, the position of the truth in the ranking
    (1 is right), the height of the error, and the best five candidates.
    """
    names = [taxon.name for taxon in answers.candidates]
    lineages = [" ".join(name for name in taxon.lineage if name) for taxon in answers.candidates]
    commons = [taxon.common_name for taxon in answers.candidates]
    first = answers.best_NK[:, 0]
    return index.select("key", "split", "source", "shard").with_columns(
        pl.Series("truth", [names[i] for i in answers.truth_N]),
        pl.Series("truth_lineage", [lineages[i] for i in answers.truth_N]),
        pl.Series("truth_common_name", [commons[i] for i in answers.truth_N]),
        pl.Series("answer", [names[i] for i in first]),
        pl.Series("answer_lineage", [lineages[i] for i in first]),
        pl.Series("answer_common_name", [commons[i] for i in first]),
        pl.Series("score", answers.score_N),
        pl.Series("right", first == answers.truth_N),
        pl.Series("truth_score", answers.truth_score_N),
        pl.Series("truth_place", answers.truth_place_N),
        pl.Series("lca_height", lca_heights(answers)),
        pl.Series("best", [[names[i] for i in row] for row in answers.best_NK]),
    )
