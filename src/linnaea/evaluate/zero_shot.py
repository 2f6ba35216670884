"""Zero-shot classification: each image gets the candidate whose caption is nearest (arXiv 2311.18803, section 4.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float32, Int64
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.predict.classifier import iter_probabilities
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import Taxon

TOP = (1, 3, 5)


@dataclass(frozen=True)
class ZeroShotAnswers:
    """For every image its true class and the best candidates; what all metrics are computed from."""

    candidates: tuple[Taxon, ...]
    truth_N: Int64[ndarray, "N"]  # noqa: F821
    """Position of the truth in ``candidates``."""
    best_NK: Int64[ndarray, "N K"]
    """The likeliest candidates, best first."""
    score_N: Float32[ndarray, "N"]  # noqa: F821
    """Probability of the likeliest."""
    truth_score_N: Float32[ndarray, "N"]  # noqa: F821
    """Probability of the truth."""
    truth_place_N: Int64[ndarray, "N"]  # noqa: F821
    """Place of the truth among the candidates, 1 for the likeliest."""


def merge_captions(captions: Sequence[str]) -> NDArray[np.int64]:
    """For each candidate the first one with the same caption: no text can tell them apart, so they are one class."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(caption, number) for number, caption in enumerate(captions)], np.int64)


def classify(
    features_NE: Float32[ndarray, "N E"],
    truth_N: Int64[ndarray, "N"],  # noqa: F821
    bank: LabelBank,
    captions: Sequence[str],
    logit_scale: float,
) -> ZeroShotAnswers:
    """Classify unit vectors against a bank; ``truth_N`` are rows of the bank, ``captions`` those it was made of."""
    merged = merge_captions(captions)
    kept = np.unique(merged)
    small = LabelBank(bank.taxa[kept.tolist()], np.asarray(bank.vectors)[kept], bank.facts)
    truth_N = np.searchsorted(kept, merged[truth_N])
    best, scores, truth_scores, places = [], [], [], []
    for probability in iter_probabilities(features_NE, small, logit_scale):
        k = min(max(TOP), probability.shape[1])
        top = np.argpartition(-probability, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(probability, top, axis=1)
        order = np.lexsort((top, -values), axis=1)
        best.append(np.take_along_axis(top, order, axis=1))
        scores.append(np.take_along_axis(values, order, axis=1)[:, 0])
        truth = truth_N[sum(map(len, truth_scores)) :][: len(probability), None]
        own = np.take_along_axis(probability, truth, axis=1)
        before = (probability > own) | ((probability == own) & (np.arange(probability.shape[1]) < truth))
        truth_scores.append(own[:, 0])
        places.append(before.sum(axis=1) + 1)
    return ZeroShotAnswers(
        candidates=tuple(bank.taxon(number) for number in kept.tolist()),
        truth_N=truth_N,
        best_NK=np.concatenate(best).astype(np.int64),
        score_N=np.concatenate(scores),
        truth_score_N=np.concatenate(truth_scores),
        truth_place_N=np.concatenate(places),
    )


def score_answers(answers: ZeroShotAnswers) -> dict[str, float]:
    """Flat metrics: ``top1``, ``top3``, ``top5``, accuracy at each rank, chance and majority baselines.

    At a rank an answer is right if its lineage down to that rank is the truth's; images whose truth has no
    name there are left out. Chance picks a candidate at random; the majority always names the commonest taxon
    of the evaluated images, which no model can know.
    """
    right_NK = answers.best_NK == answers.truth_N[:, None]
    metrics = {f"top{k}": float(right_NK[:, :k].any(axis=1).mean()) for k in TOP}
    metrics |= {f"chance/top{k}": min(k / len(answers.candidates), 1.0) for k in TOP}
    metrics["majority/top1"] = float(np.bincount(answers.truth_N).max() / len(answers.truth_N))
    for rank in Rank:
        metrics |= _score_rank(answers, rank)
    metrics["lca_height_of_errors"] = mean_lca_height(answers)
    return metrics


def _score_rank(answers: ZeroShotAnswers, rank: Rank) -> dict[str, float]:
    prefixes: dict[tuple[str, ...], int] = {}
    group_K = np.array([prefixes.setdefault(t.lineage[: rank + 1], len(prefixes)) for t in answers.candidates])
    named_K = np.array([bool(taxon[rank]) for taxon in answers.candidates])
    counted = named_K[answers.truth_N]
    if not counted.any():
        return {}
    truth, answer = group_K[answers.truth_N[counted]], group_K[answers.best_NK[counted, 0]]
    share_of_group = np.bincount(group_K) / len(group_K)
    label = RANK_LABELS[rank]
    return {
        label: float((truth == answer).mean()),
        f"chance/{label}": float(share_of_group[truth].mean()),
        f"majority/{label}": float(np.bincount(truth).max() / len(truth)),
    }


def lca_heights(answers: ZeroShotAnswers) -> NDArray[np.int64]:
    """For every image how many ranks above species its answer and its truth meet: 0 right, 1 same genus, 7 never.

    They meet at the lowest rank that both name, and name alike, where all ranks above agree too.
    """
    lineages = np.array([taxon.lineage for taxon in answers.candidates], dtype=object)
    truth, answer = lineages[answers.truth_N], lineages[answers.best_NK[:, 0]]
    agree = np.cumprod((truth == answer).astype(np.int64), axis=1).astype(bool) & (truth != "")
    depth = (agree * np.arange(1, len(RANK_LABELS) + 1)).max(axis=1)
    right = answers.truth_N == answers.best_NK[:, 0]
    return np.where(right, 0, np.maximum(len(RANK_LABELS) - depth, 1))


def mean_lca_height(answers: ZeroShotAnswers) -> float:
    """Mean height at which wrong answers meet the truth (the mistakes' severity); 0 where nothing is wrong."""
    heights = lca_heights(answers)
    wrong = heights > 0
    return float(heights[wrong].mean()) if wrong.any() else 0.0


def tabulate(answers: ZeroShotAnswers, index: pl.DataFrame) -> pl.DataFrame:
    """A row per image: key, source, truth and answer with their probabilities, place of the truth among the
    candidates (1 is right), height of the error, the best five.
    """
    names = [taxon.scientific_name or taxon.common_name for taxon in answers.candidates]
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
