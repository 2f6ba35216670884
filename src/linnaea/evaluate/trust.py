"""Measure how far a model's confidence can be trusted: calibration, risk and coverage, open-set detection.

Answers are those of ``linnaea predict``, including calibration, computed in one pass over blocks of images. Each image
keeps a few numbers per rank, not its whole row of probabilities.
"""

from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int64
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.evaluate.intervals import bootstrap_mean, mean_of_classes
from linnaea.predict.calibration import UNKNOWN, Calibration, calibrate_probabilities
from linnaea.predict.classifier import RankSums, iter_scored, sum_to_all_ranks
from linnaea.predict.labels import LabelBank
from linnaea.predict.predictor import choose_deepest
from linnaea.predict.restrict import keep_rows
from linnaea.predict.trust import follow_trusted
from linnaea.taxonomy.ranks import N_RANKS, RANK_LABELS, Rank

CONFIDENCES = (0.8, 0.9, 0.95)
N_BINS = 15
"""Bins of the expected calibration error (Guo et al. 2017, section 2)."""
NO_RANK = -1

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Beliefs:
    """A model's answers and confidence for each image and rank, kingdom first."""

    best_NR: Int64[ndarray, "N 7"]
    """Number of the likeliest taxon among the bank's taxa of the rank."""
    confidence_NR: Float32[ndarray, "N 7"]
    """Probability of the likeliest taxon of the rank."""
    right_NR: Bool[ndarray, "N 7"]
    """True where the likeliest taxon is right."""
    counted_NR: Bool[ndarray, "N 7"]
    """True where the truth has a name at the rank."""
    truth_NR: Float32[ndarray, "N 7"]
    """Probability of the truth; 0 where the bank lacks it."""
    square_NR: Float32[ndarray, "N 7"]
    """Sum of the squared probabilities of the rank's taxa."""
    energy_N: Float32[ndarray, "N"]  # noqa: F821
    max_cosine_N: Float32[ndarray, "N"]  # noqa: F821
    asserted_CN: Int64[ndarray, "C N"]
    """Rank of the asserted taxon for each of ``CONFIDENCES``, ``NO_RANK`` for abstentions."""
    asserted_right_CN: Int64[ndarray, "C N"]
    """1 right, 0 wrong, -1 undecidable: right as far down as the truth is named, but asserted at a lower rank."""

    @classmethod
    def reserve(cls, n: int, counted_NR: Bool[ndarray, "N 7"]) -> "Beliefs":
        """Return the beliefs about ``n`` images before any is noted: no confidence, and abstentions."""
        return cls(
            best_NR=np.zeros((n, N_RANKS), np.int64),
            confidence_NR=np.zeros((n, N_RANKS), np.float32),
            right_NR=np.zeros((n, N_RANKS), bool),
            counted_NR=counted_NR,
            truth_NR=np.zeros((n, N_RANKS), np.float32),
            square_NR=np.zeros((n, N_RANKS), np.float32),
            energy_N=np.zeros(n, np.float32),
            max_cosine_N=np.zeros(n, np.float32),
            asserted_CN=np.full((len(CONFIDENCES), n), NO_RANK, np.int64),
            asserted_right_CN=np.full((len(CONFIDENCES), n), -1, np.int64),
        )

    def note_ranks(self, rows: Int64[ndarray, "B"], sums_of: RankSums, group_NR: Int[ndarray, "N 7"]) -> None:  # noqa: F821
        """Note what the probabilities of each rank's taxa say about the images ``rows``; ``group_NR`` is the truth."""
        images = np.arange(len(rows))
        for rank, sums in sums_of.items():
            true, best = group_NR[rows, rank], sums.argmax(axis=1)
            self.best_NR[rows, rank], self.right_NR[rows, rank] = best, best == true
            self.confidence_NR[rows, rank] = sums[images, best]
            self.truth_NR[rows, rank] = np.where(true == UNKNOWN, 0, sums[images, true])
            self.square_NR[rows, rank] = np.einsum("bk,bk->b", sums, sums)


def collect_beliefs(
    image_NE: Float32[ndarray, "N E"],
    group_NR: Int[ndarray, "N 7"],
    named_NR: Bool[ndarray, "N 7"],
    bank: LabelBank,
    logit_scale: float,
    calibration: Calibration,
) -> Beliefs:
    """Return the model's answers and confidence for every image.

    ``group_NR`` holds the groups of the truths (:func:`~linnaea.predict.calibration.find_groups`), and ``named_NR``
    says at which ranks the truth has a name.
    """
    beliefs = Beliefs.reserve(len(image_NE), named_NR)
    scale, start = logit_scale / calibration.temperature, 0
    for block in iter_scored(image_NE, bank, scale):
        rows = np.arange(start, start + len(block.energy_B))
        beliefs.energy_N[rows], beliefs.max_cosine_N[rows] = block.energy_B, block.max_cosine_B
        probability = calibrate_probabilities(block.probability_BK, bank, calibration, block.image_BE, scale)
        sums_of = sum_to_all_ranks(probability, bank)
        beliefs.note_ranks(rows, sums_of, group_NR)
        recognised = calibration.recognises(calibration.weigh(block))
        path = follow_trusted(sums_of, bank, calibration.trust, block.image_BE)
        for number, wanted in enumerate(CONFIDENCES):
            for row, guess in zip(rows, choose_deepest(path, bank, wanted, recognised), strict=True):
                if guess is not None and guess.rank is not None:
                    beliefs.asserted_CN[number, row] = guess.rank
                    is_right = _judge(guess.taxon.lineage, bank, group_NR[row], named_NR[row])
                    beliefs.asserted_right_CN[number, row] = is_right
        start += len(rows)
    return beliefs


def _judge(lineage: tuple[str, ...], bank: LabelBank, group_R: Int[ndarray, "7"], named_R: Bool[ndarray, "7"]) -> int:
    """Return 1 if a lineage agrees with the truth at each of its ranks, 0 if not, and -1 if the truth ends before it.

    A rank at which the truth has no name, but has one below, is passed over.
    """
    for rank in Rank:
        if not lineage[rank]:
            continue
        if not named_R[rank:].any():
            return -1
        if not named_R[rank]:
            continue
        if group_R[rank] == UNKNOWN:
            return 0
        first_label = int(bank.groups.starts[rank][group_R[rank]])
        if bank.taxa[rank.label][first_label] != lineage[rank]:
            return 0
    return 1


def score_calibration(beliefs: Beliefs) -> dict[str, float]:
    """Return calibration metrics per rank, with keys such as ``calibration/ece/species``.

    They are the expected calibration error in bins of equal width (``ece``) and of equal mass (``ece_mass``), the
    negative log-likelihood (``nll``), the Brier score and the area under the risk-coverage curve (``aurc``).
    """
    metrics: dict[str, float] = {}
    for rank in Rank:
        counted = beliefs.counted_NR[:, rank]
        if not counted.any():
            continue
        confidence, right = beliefs.confidence_NR[counted, rank], beliefs.right_NR[counted, rank]
        truth, square = beliefs.truth_NR[counted, rank].astype(float), beliefs.square_NR[counted, rank].astype(float)
        for name, value in {
            "ece": calibration_error(confidence, right),
            "ece_mass": calibration_error(confidence, right, equal_mass=True),
            "nll": float(-np.log(np.maximum(truth, 1e-12)).mean()),
            "brier": float((square - 2 * truth + 1).mean()),
            "aurc": area_under_risk(confidence, right),
        }.items():
            metrics[f"calibration/{name}/{rank.label}"] = value
    return metrics


@dataclass(frozen=True, kw_only=True)
class Bins:
    """The non-empty bins of a reliability diagram."""

    confidence: Floats
    accuracy: Floats
    n: NDArray[np.int64]


def reliability(
    confidence_N: Float[ndarray, "N"],  # noqa: F821
    right_N: Bool[ndarray, "N"],  # noqa: F821
    *,
    n_bins: int = N_BINS,
    equal_mass: bool = False,
) -> Bins:
    """Return mean confidence and accuracy per bin ``(low, high]``, with bins of equal width or of equal mass."""
    confidence = np.asarray(confidence_N, np.float64)
    if equal_mass:
        order = np.argsort(confidence, kind="stable")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order)) * n_bins // max(len(order), 1)
    else:
        place = np.clip(np.ceil(confidence * n_bins).astype(np.int64) - 1, 0, n_bins - 1)
    n = np.bincount(place, minlength=n_bins)
    kept = n > 0
    total, hits = np.bincount(place, confidence, n_bins)[kept], np.bincount(place, right_N, n_bins)[kept]
    return Bins(confidence=total / n[kept], accuracy=hits / n[kept], n=n[kept])


def calibration_error(
    confidence_N: Float[ndarray, "N"],  # noqa: F821
    right_N: Bool[ndarray, "N"],  # noqa: F821
    *,
    n_bins: int = N_BINS,
    equal_mass: bool = False,
) -> float:
    """Return the expected calibration error: the mean gap between confidence and accuracy, weighted by bin size."""
    bins = reliability(confidence_N, right_N, n_bins=n_bins, equal_mass=equal_mass)
    return float((np.abs(bins.confidence - bins.accuracy) * bins.n).sum() / max(bins.n.sum(), 1))


def risk_coverage(confidence_N: Float[ndarray, "N"], right_N: Bool[ndarray, "N"]) -> tuple[Floats, Floats]:  # noqa: F821
    """Return coverage and risk (share of wrong answers) among the most confident 1, 2, ..., N images.

    The order of equally confident images is arbitrary, so each of them counts as their mean.
    """
    order = np.argsort(-np.asarray(confidence_N), kind="stable")
    _, tied = np.unique(-np.asarray(confidence_N)[order], return_inverse=True)
    wrong = 1.0 - np.asarray(right_N, np.float64)[order]
    wrong = (np.bincount(tied, wrong) / np.bincount(tied))[tied]
    n = np.arange(1, len(wrong) + 1)
    return n / len(wrong), np.cumsum(wrong) / n


def area_under_risk(confidence_N: Float[ndarray, "N"], right_N: Bool[ndarray, "N"]) -> float:  # noqa: F821
    """Return the AURC: the mean risk over all coverages, where 0 is best.

    Source: Geifman and El-Yaniv, "SelectiveNet", ICML 2019, section 2.
    """
    return float(risk_coverage(confidence_N, right_N)[1].mean())


def score_assertions(beliefs: Beliefs, class_N: Int[ndarray, "N"]) -> dict[str, float]:  # noqa: F821
    """Return metrics of the answers of ``--rank auto --confidence c``.

    ``auto/0.9/asserted`` is the share of images with an answer, ``auto/0.9/right`` their accuracy with its interval
    over classes, and ``auto/0.9/reaches/genus`` the share of images with an answer at genus or deeper.
    """
    metrics: dict[str, float] = {}
    for wanted, asserted, right in zip(CONFIDENCES, beliefs.asserted_CN, beliefs.asserted_right_CN, strict=True):
        metrics[f"auto/{wanted}/asserted"] = float((asserted != NO_RANK).mean())
        for rank in Rank:
            metrics[f"auto/{wanted}/reaches/{rank.label}"] = float((asserted >= rank).mean())
            told = (asserted == rank) & (right >= 0)
            if told.any():
                metrics[f"auto/{wanted}/right_at/{rank.label}"] = float(right[told].mean())
        told = right >= 0
        if told.any():
            interval = bootstrap_mean(right[told], group_N=class_N[told])
            metrics[f"auto/{wanted}/right"] = interval.mean
            metrics[f"auto/{wanted}/right_by_class"] = mean_of_classes(right[told], class_N[told])
            metrics[f"auto/{wanted}/n_classes"] = interval.n_groups
            metrics[f"auto/{wanted}/right_low"], metrics[f"auto/{wanted}/right_high"] = interval.low, interval.high
    return metrics


def score_intervals(beliefs: Beliefs, class_N: Int[ndarray, "N"]) -> dict[str, float]:  # noqa: F821
    """Return 95% intervals of the accuracy at each rank.

    ``interval/species/low`` and ``/high`` take whole classes, for conclusions about other classes like these
    ``/n_classes``. ``/images_low`` and ``/images_high`` take single images, for conclusions about these classes.
    ``/mean`` is over images, ``/mean_by_class`` over classes.
    """
    metrics: dict[str, float] = {}
    for rank, label in enumerate(RANK_LABELS):
        counted = beliefs.counted_NR[:, rank]
        if counted.any():
            right = beliefs.right_NR[counted, rank]
            interval, of_these = bootstrap_mean(right, group_N=class_N[counted]), bootstrap_mean(right)
            metrics |= {f"interval/{label}/{end}": getattr(interval, end) for end in ("mean", "low", "high")}
            metrics[f"interval/{label}/mean_by_class"] = mean_of_classes(right, class_N[counted])
            metrics[f"interval/{label}/n_classes"] = interval.n_groups
            metrics |= {f"interval/{label}/images_{end}": getattr(of_these, end) for end in ("low", "high")}
    return metrics


def auroc(known_N: Float[ndarray, "N"], unknown_M: Float[ndarray, "M"]) -> float:  # noqa: F821
    """Return the AUROC: how often a known image scores above an unknown one, with ties counting half."""
    from sklearn.metrics import roc_auc_score

    is_known = np.repeat([1, 0], [len(known_N), len(unknown_M)])
    return float(roc_auc_score(is_known, np.concatenate([known_N, unknown_M])))


def fpr95(known_N: Float[ndarray, "N"], unknown_M: Float[ndarray, "M"]) -> float:  # noqa: F821
    """Return the share of unknown images above the threshold that 95% of the known images pass."""
    threshold = np.sort(known_N)[int(np.floor(0.05 * len(known_N)))]
    return float((np.asarray(unknown_M) >= threshold).mean())


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Scores of how likely each image shows one of the labels."""

    max_probability: NDArray[np.float32]
    energy: NDArray[np.float32]
    max_cosine: NDArray[np.float32]
    calibrated: NDArray[np.float32]
    """The calibration's own score (:meth:`linnaea.predict.calibration.Calibration.weigh`)."""


EVIDENCE = tuple(part.name for part in fields(Evidence))
"""The names of the scores."""


def score_evidence(
    image_NE: Float32[ndarray, "N E"], bank: LabelBank, logit_scale: float, calibration: Calibration
) -> Evidence:
    """Return the evidence scores of each image at the calibration's temperature."""
    blocks = [
        (b.probability_BK.max(axis=1), b.energy_B, b.max_cosine_B, calibration.weigh(b))
        for b in iter_scored(image_NE, bank, logit_scale / calibration.temperature)
    ]
    return Evidence(**dict(zip(EVIDENCE, map(np.concatenate, zip(*blocks, strict=True)), strict=True)))


def compare_evidence(known: Evidence, unknown: Evidence) -> dict[str, float]:
    """Return AUROC and FPR95 of each score, with keys such as ``auroc/energy`` and ``fpr95/energy``."""
    metrics: dict[str, float] = {}
    for name in EVIDENCE:
        metrics[f"auroc/{name}"] = auroc(getattr(known, name), getattr(unknown, name))
        metrics[f"fpr95/{name}"] = fpr95(getattr(known, name), getattr(unknown, name))
    return metrics


def hold_out(bank: LabelBank, group_NR: Int[ndarray, "N 7"], rank: Rank) -> tuple[LabelBank, Bool[ndarray, "N"]] | None:  # noqa: F821
    """Return the bank without a random fifth of the true taxa of ``rank``, and whether each image lost its truth.

    Return ``None`` if fewer than two true taxa would remain.
    """
    there = np.unique(group_NR[group_NR[:, rank] != UNKNOWN, rank])
    n_out = max(1, round(0.2 * len(there)))
    if len(there) - n_out < 2:
        return None
    out = np.random.default_rng(0).permutation(there)[:n_out]
    kept = np.flatnonzero(~np.isin(bank.groups.of_rows(rank), out))
    return keep_rows(bank, kept), np.isin(group_NR[:, rank], out)
