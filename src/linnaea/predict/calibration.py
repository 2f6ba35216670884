"""Probabilities that mean what they say: fitted on photographs with known names, kept beside the model or its bank.

Four things are learnt, in this order. A *temperature* divides all logits (Guo et al., "On Calibration of Modern Neural
Networks", ICML 2017). A factor makes labels *untrained* on less likely, where the bank says which these are: no
photograph taught what tells their names from others, so they attract photographs of all (Chao et al., "An Empirical
Study and Analysis of Generalized Zero-Shot Learning", ECCV 2016, who subtract a constant from the other side). A
*sharpness* per rank raises the share that a taxon has within its parent to a power, so that each rank is as sure as it
is right, and the probabilities of all ranks still add up along the lineage: ``q(child) = q(parent) p(child)^s / sum
over siblings p^s``. Temperature and sharpness maximise the likelihood of the truth and are convex in one unknown.
Last, the *evidence* of known photographs: one that shows less of it than nearly all of them shows no organism. Where
pictures without organisms were there to learn from, it is what a logistic regression on vector and energy says;
otherwise the energy alone, which tells them apart much less well (docs/log.md).
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int64
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.errors import LinnaeaError
from linnaea.model.folders import FACTS_FILE as MODEL_FACTS_FILE
from linnaea.predict.classifier import Scored, iter_scored, sum_to_all_ranks
from linnaea.predict.labels import FACTS_FILE as BANK_FACTS_FILE
from linnaea.predict.labels import LabelBank
from linnaea.predict.priors import apply_prior
from linnaea.storage import write_atomically
from linnaea.taxonomy.ranks import N_RANKS, Rank
from linnaea.taxonomy.taxon import Taxon

KEY = "calibration"
"""Where it lies in ``linnaea.json`` or ``bank.json``."""
N_QUANTILES = 101
UNKNOWN = -1
"""In place of a group's number: the bank holds no such taxon."""
LEAST_SHARE = 0.01
"""Of known photographs this share shows less evidence than what counts as an organism, unless counterexamples say."""
UNTRAINED_SHARE = 0.1
"""Of a photograph's probability, labels that the model was not trained on hold at most this share, on average: as if
one photograph in ten showed one of them. Where more of the photographs do, they hold that much."""
FEWEST = 50
"""Photographs below which nothing is fitted."""
_TINY = np.float32(1e-38)
_Parts: TypeAlias = list[tuple[NDArray[np.float32], int]]
"""Probabilities of siblings, and the place of the true one, or ``UNKNOWN`` where it is none of them."""
NONE_COUNTS = 0.2
"""How much a stranger's siblings count, none of which is right, against siblings of which one is."""
_UNLIKELIEST = -8.0
"""Logarithm of the smallest share that is held against a rank where each sibling is as wrong as the others."""
_LOWEST, _HIGHEST = 0.02, 50.0
MOST_SHARPENED = 1.5
"""Where next to no photograph is wrong at a rank, the likelihood alone would make that rank certain of everything."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was learnt; the default changes nothing."""

    temperature: float = 1.0
    sharpness: tuple[float, ...] = (1.0,) * N_RANKS
    """Per rank, kingdom first."""
    untrained: float = 1.0
    """Probabilities of labels that the model was not trained on are multiplied by it, before all add up to 1 again."""
    organism: tuple[float, ...] = ()
    """Weights ``[E + 1]`` of vector and energy that part known photographs from pictures that show no organism; empty:
    there were none of these to learn from."""
    evidence: tuple[float, ...] = ()
    """Quantiles of the evidence (:meth:`weigh`) of known photographs, lowest first; without any, all are organisms."""
    least_evidence: float = float("-inf")
    """Evidence below which a photograph shows no organism."""
    n_images: int = 0
    n_labels: int = 0

    def __post_init__(self) -> None:
        if not (0 < self.temperature < np.inf and len(self.sharpness) == N_RANKS and min(self.sharpness) > 0):
            raise ValueError("a calibration has a positive temperature and a positive sharpness for each rank")
        if not self.untrained > 0:
            raise ValueError("labels that were not trained on have a positive factor")

    def to_json(self) -> dict[str, Any]:
        finite = {} if np.isfinite(self.least_evidence) else {"least_evidence": None}
        return asdict(self) | finite

    @classmethod
    def of_json(cls, facts: Mapping[str, Any]) -> "Calibration":
        """
        Raises:
            LinnaeaError: the facts are no calibration.
        """
        try:
            least = facts["least_evidence"]
            return cls(
                temperature=float(facts["temperature"]),
                sharpness=tuple(map(float, facts["sharpness"])),
                untrained=float(facts.get("untrained", 1.0)),
                organism=tuple(map(float, facts.get("organism", ()))),
                evidence=tuple(map(float, facts["evidence"])),
                least_evidence=float("-inf") if least is None else float(least),
                n_images=int(facts["n_images"]),
                n_labels=int(facts["n_labels"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise LinnaeaError(
                f"calibration: cannot be read ({error!r}); run `linnaea labels calibrate` again"
            ) from None

    def weigh(self, block: Scored) -> Float32[ndarray, "B"]:  # noqa: F821
        """Each image's evidence of an organism: what the learnt weights say, or else its energy.

        Raises:
            LinnaeaError: the weights are those of another model.
        """
        if not self.organism:
            return block.energy_B
        if len(self.organism) != block.image_BE.shape[1] + 1:
            raise LinnaeaError("calibration: belongs to a model of another width; run `linnaea labels calibrate` again")
        return np.asarray(_signs(block) @ np.array(self.organism, np.float32), np.float32)

    def evidence_of(self, weighed_B: Float[ndarray, "B"]) -> NDArray[np.float64]:  # noqa: F821
        """The share of known photographs with less evidence, 0 to 1; 1 for all where nothing was learnt."""
        if not self.evidence:
            return np.ones(len(weighed_B))
        return np.asarray(np.interp(weighed_B, self.evidence, np.linspace(0, 1, len(self.evidence))), np.float64)

    def recognises(self, weighed_B: Float[ndarray, "B"]) -> Bool[ndarray, "B"]:  # noqa: F821
        """Whether an image shows an organism at all."""
        return np.asarray(weighed_B >= self.least_evidence)


def read_calibration(*facts: Mapping[str, Any]) -> Calibration | None:
    """The calibration in the first facts that hold one (a bank's before its model's)."""
    return next((Calibration.of_json(given[KEY]) for given in facts if given.get(KEY)), None)


def write_calibration(folder: Path, calibration: Calibration) -> Path:
    """Write it into the ``bank.json`` or ``linnaea.json`` of ``folder``, whose other facts stay.

    Raises:
        LinnaeaError: the folder is neither a bank nor a model.
    """
    places = [folder / BANK_FACTS_FILE, folder / MODEL_FACTS_FILE, folder / "model" / MODEL_FACTS_FILE]
    path = next((place for place in places if place.exists()), None)
    if path is None:
        raise LinnaeaError(f"{folder}: neither a label bank nor a model folder of ours; there is nowhere to write to")
    facts = json.loads(path.read_text(encoding="utf-8"))
    write_atomically(path, json.dumps(facts | {KEY: calibration.to_json()}, indent=1, ensure_ascii=False))
    return path


def calibrate_probabilities(
    probability_BK: Float32[ndarray, "B K"], bank: LabelBank, calibration: Calibration
) -> Float32[ndarray, "B K"]:
    """Apply all but the temperature to probabilities that were made at it.

    The result adds up to 1; its sums over any rank are that rank's calibrated probabilities.
    """
    probability_BK = _weigh_untrained(probability_BK, bank, calibration.untrained)
    if all(sharpness == 1 for sharpness in calibration.sharpness):
        return probability_BK
    sums = sum_to_all_ranks(probability_BK, bank)
    factor = np.ones((len(probability_BK), 1), np.float32)  # of each group above: calibrated over uncalibrated
    share_above, above = factor, np.zeros(1, np.int64)
    for rank in Rank:
        starts = bank.starts[rank]
        sharpened = _sharpen(sums[rank], starts, above, calibration.sharpness[rank])
        parent = np.searchsorted(above, starts, side="right") - 1
        share_above, above = sharpened * share_above[:, parent], starts
    row_group = np.searchsorted(above, np.arange(len(bank)), side="right") - 1
    inside = probability_BK / np.maximum(sums[Rank.SPECIES], _TINY)[:, row_group] if len(above) < len(bank) else 1
    return np.asarray(share_above[:, row_group] * inside, np.float32)


def _weigh_untrained(
    probability_BK: Float32[ndarray, "B K"], bank: LabelBank, factor: float
) -> Float32[ndarray, "B K"]:
    if factor == 1 or bank.trained.all() or not bank.trained.any():
        return probability_BK
    return apply_prior(probability_BK, np.where(bank.trained, np.float32(1), np.float32(factor))[None])


def _sharpen(
    values: NDArray[np.float32], starts: NDArray[np.int64], starts_above: NDArray[np.int64], power: float
) -> NDArray[np.float32]:
    """Shares within each parent, raised to ``power`` and made to add up to 1 again."""
    first = np.searchsorted(starts, starts_above)
    n_children = np.diff(np.append(first, len(starts)))
    largest = np.maximum.reduceat(values, first, axis=1).repeat(n_children, axis=1)
    shares = np.power(np.maximum(values, _TINY) / np.maximum(largest, _TINY), np.float32(power))
    return np.asarray(shares / np.add.reduceat(shares, first, axis=1).repeat(n_children, axis=1), np.float32)


def find_groups(truth: Sequence[Taxon], bank: LabelBank) -> Int64[ndarray, "N 7"]:
    """For each taxon and rank the number of the bank's group with the same lineage, or ``UNKNOWN``.

    A species that the bank lacks still has its genus there, if the bank holds another one.
    """
    found: dict[Taxon, list[int]] = {}
    numbers: list[dict[tuple[str, ...], int]] = []
    columns = [bank.taxa[rank.label].fill_null("") for rank in Rank]
    for rank in Rank:
        heads = zip(*(column.gather(bank.starts[rank]) for column in columns[: rank + 1]), strict=True)
        first: dict[tuple[str, ...], int] = {}
        for number, head in enumerate(heads):
            first.setdefault(head, number)
        numbers.append(first)
    for taxon in set(truth):
        lowest = -1 if taxon.rank is None else taxon.rank
        found[taxon] = [
            numbers[rank].get(taxon.lineage[: rank + 1], UNKNOWN) if rank <= lowest else UNKNOWN for rank in Rank
        ]
    return np.array([found[taxon] for taxon in truth], np.int64).reshape(len(truth), N_RANKS)


def fit_calibration(
    image_NE: Float32[ndarray, "N E"],
    group_NR: Int[ndarray, "N 7"],
    bank: LabelBank,
    logit_scale: float,
    *,
    nothing_ME: Float32[ndarray, "M E"] | None = None,
    organism_OE: Float32[ndarray, "O E"] | None = None,
    with_strangers: bool = False,
) -> Calibration:
    """Learn from photographs with known names (:func:`find_groups`), and from some that show no organism, if any.

    ``organism_OE`` are more photographs of organisms, to learn from what these look like and nothing else; the model
    may have been trained on them.

    Photographs whose species the bank lacks teach the ranks above. ``with_strangers`` makes such of all: each counts
    once more as if its species were not in the bank, and there, at the first rank that it lacks, every answer is as
    wrong as the others. A model is surer of strangers than it may be. Memory is that of one block of images x taxa.

    Raises:
        LinnaeaError: there are fewer than 50 photographs of taxa that the bank holds.
    """
    known = group_NR[:, Rank.SPECIES] != UNKNOWN
    if known.sum() < FEWEST:
        raise LinnaeaError(f"{known.sum()} photographs of species among the labels; a calibration needs {FEWEST}")
    calibration = Calibration(
        temperature=_fit_temperature(image_NE, group_NR, bank, logit_scale), n_images=len(image_NE), n_labels=len(bank)
    )
    scale = logit_scale / calibration.temperature
    calibration = replace(calibration, untrained=_fit_untrained(image_NE, group_NR, bank, scale))
    if nothing_ME is not None and len(nothing_ME):
        shown = image_NE if organism_OE is None else np.concatenate([image_NE, organism_OE])
        calibration = replace(
            calibration, organism=_part_from_nothing(*(iter_scored(v, bank, scale) for v in (shown, nothing_ME)))
        )
    parts, weighed = _collect(image_NE, group_NR, bank, calibration, scale)
    if with_strangers:
        for out in _halve(group_NR[known, Rank.SPECIES]):
            images = np.isin(group_NR[:, Rank.SPECIES], out)
            small, groups = _leave_out(bank, group_NR[images], out)
            more, _ = _collect(image_NE[images], groups, small, calibration, scale, with_none=True)
            parts = [one + other for one, other in zip(parts, more, strict=True)]
    siblings = map(_join, parts)
    fitted = tuple(1.0 if own is None else min(_solve(own.slope), MOST_SHARPENED) for own in siblings)
    quantiles = np.quantile(weighed[known], np.linspace(0, 1, N_QUANTILES))
    least = float(np.quantile(weighed[known], LEAST_SHARE))
    if nothing_ME is not None and len(nothing_ME):
        nothing = np.concatenate([calibration.weigh(block) for block in iter_scored(nothing_ME, bank, scale)])
        least = _divide(weighed[known], nothing)
    return replace(calibration, sharpness=fitted, evidence=tuple(map(float, quantiles)), least_evidence=least)


def _fit_temperature(
    image_NE: Float32[ndarray, "N E"], group_NR: Int[ndarray, "N 7"], bank: LabelBank, logit_scale: float
) -> float:
    """Of the probabilities among the labels that were trained on (among all, if too few photographs show these)."""
    known, rows = _find_rows(group_NR, bank)
    trained = known & bank.trained[rows]
    if trained.sum() < FEWEST or bank.trained.all():
        return 1 / _solve(lambda s: _slope_of_logits(image_NE[known], rows[known], bank, logit_scale, s))
    kept = np.flatnonzero(bank.trained)
    among = LabelBank(bank.taxa[kept.tolist()], np.asarray(bank.vectors[kept]), bank.facts)
    places = np.searchsorted(kept, rows[trained])
    return 1 / _solve(lambda s: _slope_of_logits(image_NE[trained], places, among, logit_scale, s))


def _fit_untrained(
    image_NE: Float32[ndarray, "N E"], group_NR: Int[ndarray, "N 7"], bank: LabelBank, scale: float
) -> float:
    """The factor, at most 1, at which labels that were not trained on hold ``UNTRAINED_SHARE`` on average, or the share
    of the photographs that show them, if that is more."""
    if bank.trained.all() or not bank.trained.any():
        return 1.0
    known, rows = _find_rows(group_NR, bank)
    wanted = max(UNTRAINED_SHARE, float(np.mean(~bank.trained[rows[known]])))
    blocks = [block.probability_BK[:, ~bank.trained].sum(axis=1) for block in iter_scored(image_NE[known], bank, scale)]
    held_N = np.concatenate(blocks).astype(np.float64).clip(0, 1)

    def share(factor: float) -> float:
        return float(np.mean(factor * held_N / (factor * held_N + 1 - held_N + float(_TINY))))

    if share(1.0) <= wanted:
        return 1.0
    low, high = float(_TINY), 1.0
    for _ in range(200):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if share(middle) < wanted else (low, middle)
    return high


def _find_rows(group_NR: Int[ndarray, "N 7"], bank: LabelBank) -> tuple[Bool[ndarray, "N"], Int64[ndarray, "N"]]:  # noqa: F821
    """Which photographs show a species of the bank, and its row (0 for the others)."""
    group_N = group_NR[:, Rank.SPECIES]
    known = group_N != UNKNOWN
    return known, np.where(known, bank.starts[Rank.SPECIES][group_N], 0)


def _halve(groups: Int64[ndarray, "N"]) -> list[Int64[ndarray, "H"]]:  # noqa: F821
    """The distinct groups in two random halves."""
    return np.array_split(np.random.default_rng(0).permutation(np.unique(groups)), 2)


def _leave_out(
    bank: LabelBank,
    group_NR: Int[ndarray, "N 7"],
    out: Int64[ndarray, "H"],  # noqa: F821
) -> tuple[LabelBank, Int64[ndarray, "N 7"]]:
    """The bank without some groups of the rank of species, and the numbers that the images' groups have in it."""
    edges = [np.append(starts, len(bank)) for starts in bank.starts]
    is_in = np.ones(len(edges[Rank.SPECIES]) - 1, bool)
    is_in[out] = False
    rows = np.flatnonzero(is_in.repeat(np.diff(edges[Rank.SPECIES])))
    small = LabelBank(bank.taxa[rows.tolist()], np.asarray(bank.vectors[rows]), bank.facts)
    groups = np.full_like(group_NR, UNKNOWN, dtype=np.int64)
    for rank in Rank:
        first = np.searchsorted(rows, edges[rank])  # of each group, the first row that is left, in the small bank
        number = np.searchsorted(small.starts[rank], first[:-1], side="right") - 1
        number[np.diff(first) == 0] = UNKNOWN
        there = group_NR[:, rank] != UNKNOWN
        groups[there, rank] = number[group_NR[there, rank]]
    return small, groups


def _signs(block: Scored) -> Float32[ndarray, "B E1"]:
    """Of an organism: vectors, and energies that weigh as much as all of a vector's numbers together."""
    weight = np.float32(np.sqrt(block.image_BE.shape[1]))
    return np.concatenate([block.image_BE, weight * block.energy_B[:, None]], axis=1)


def _part_from_nothing(organisms: Iterator[Scored], nothing: Iterator[Scored]) -> tuple[float, ...]:
    """Weights of a logistic regression between the two, each as heavy as the other."""
    from sklearn.linear_model import LogisticRegression

    shown, empty = (np.concatenate([_signs(block) for block in blocks]) for blocks in (organisms, nothing))
    truth = np.repeat([1, 0], [len(shown), len(empty)])
    model = LogisticRegression(C=1.0, class_weight="balanced", max_iter=2000)
    fitted = model.fit(np.concatenate([shown, empty]), truth)
    return tuple(round(float(weight), 5) for weight in fitted.coef_[0])


def _slope_of_logits(
    image_NE: Float32[ndarray, "N E"],
    rows: Int[ndarray, "N"],  # noqa: F821
    bank: LabelBank,
    logit_scale: float,
    sharpness: float,
) -> tuple[float, float]:
    """First and second derivative of the negative log-likelihood of ``rows`` in the factor on all logits."""
    slope = curve = 0.0
    start = 0
    for block in iter_scored(image_NE, bank, logit_scale * sharpness):
        # Logits from log-probabilities: what is the same for all taxa of an image drops out of both derivatives.
        logits = np.log(np.maximum(block.probability_BK, _TINY)) / sharpness
        truth = logits[np.arange(len(logits)), rows[start : start + len(logits)]]
        mean = np.einsum("bk,bk->b", block.probability_BK, logits, dtype=np.float64)
        square = np.einsum("bk,bk,bk->b", block.probability_BK, logits, logits, dtype=np.float64)
        slope, curve = slope + float((mean - truth).sum()), curve + float((square - mean**2).sum())
        start += len(logits)
    return slope, curve


@dataclass(frozen=True)
class _Siblings:
    """Log-shares of the children of each true parent, the largest zero, one run after the other."""

    value: NDArray[np.float64]
    start: NDArray[np.int64]
    target: NDArray[np.float64]
    """Of each run the true child's, or the mean of all where none of them is (outlier exposure: Hendrycks et al.,
    ICLR 2019)."""
    counts: NDArray[np.float64]
    """How much each run counts."""

    def slope(self, sharpness: float) -> tuple[float, float]:
        """Derivatives of the negative log-likelihood of the targets."""
        sizes = np.diff(np.append(self.start, len(self.value)))
        weight = np.exp(sharpness * self.value)
        weight /= np.add.reduceat(weight, self.start).repeat(sizes)
        mean = np.add.reduceat(weight * self.value, self.start)
        square = np.add.reduceat(weight * self.value**2, self.start)
        return float(self.counts @ (mean - self.target)), float(self.counts @ (square - mean**2))


def _collect(
    image_NE: Float32[ndarray, "N E"],
    group_NR: Int[ndarray, "N 7"],
    bank: LabelBank,
    calibration: Calibration,
    scale: float,
    *,
    with_none: bool = False,
) -> tuple[list[_Parts], NDArray[np.float32]]:
    """For each rank the siblings of the true taxa (none where every parent has one child), and all evidence.

    ``with_none``: also the siblings that the bank has at the first rank where it lacks the true taxon.
    """
    parts: list[_Parts] = [[] for _ in Rank]
    weighed, start = [], 0
    for block in iter_scored(image_NE, bank, scale):
        sums = sum_to_all_ranks(_weigh_untrained(block.probability_BK, bank, calibration.untrained), bank)
        weighed.append(calibration.weigh(block))
        for image, groups in enumerate(group_NR[start : start + len(block.energy_B)]):
            for rank in Rank:
                low, high = 0, len(bank)
                if rank > 0:
                    if groups[rank - 1] == UNKNOWN:
                        break
                    edges = np.append(bank.starts[rank - 1], len(bank))
                    low, high = edges[groups[rank - 1] : groups[rank - 1] + 2]
                first, last = np.searchsorted(bank.starts[rank], (low, high))
                place = UNKNOWN if groups[rank] == UNKNOWN else int(groups[rank] - first)
                if last - first > 1 and (with_none or place != UNKNOWN):
                    parts[rank].append((sums[rank][image, first:last].copy(), place))
        start += len(block.energy_B)
    return parts, np.concatenate(weighed)


def _join(parts: _Parts) -> _Siblings | None:
    if len(parts) < FEWEST:
        return None
    values, targets = [], []
    for probability, place in parts:
        shares = np.log(np.maximum(probability, _TINY)).astype(np.float64)
        shares -= shares.max()
        values.append(shares)
        targets.append(np.maximum(shares, _UNLIKELIEST).mean() if place == UNKNOWN else shares[place])
    starts = np.cumsum([0, *map(len, values)])[:-1]
    counts = np.array([NONE_COUNTS if place == UNKNOWN else 1.0 for _, place in parts])
    return _Siblings(np.concatenate(values), starts, np.array(targets), counts)


def _solve(slope: Callable[[float], tuple[float, float]]) -> float:
    """The point between 1/50 and 50 where a convex function is least: Newton's steps, halving where they leave."""
    low, high, here = _LOWEST, _HIGHEST, 1.0
    for _ in range(40):
        first, second = slope(here)
        low, high = (here, high) if first < 0 else (low, here)
        there = here - first / second if second > 0 else low
        if not low < there < high:
            there = float(np.sqrt(low * high))
        if abs(there - here) < 1e-6 * here:
            break
        here = there
    return float(here)


def _divide(organisms: Float[ndarray, "N"], nothing: Float[ndarray, "M"]) -> float:  # noqa: F821
    """The evidence that parts the two best (both kinds count alike), but loses at most a twentieth of the organisms."""
    edges = np.unique(np.concatenate([organisms, nothing]))
    lost = np.searchsorted(np.sort(organisms), edges) / len(organisms)
    found_out = np.searchsorted(np.sort(nothing), edges) / len(nothing)
    gain = np.where(lost <= 0.05, found_out - lost, -np.inf)
    return float(edges[int(gain.argmax())])
