"""Fit a calibration; :mod:`linnaea.predict.calibration` describes its parts and their order."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int64
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.counting import count
from linnaea.errors import LinnaeaError
from linnaea.predict.calibration import TINY, UNKNOWN, Calibration, signs_of, weigh_labels
from linnaea.predict.classifier import iter_scored, sum_to_all_ranks
from linnaea.predict.labels import LabelBank
from linnaea.predict.restrict import keep_rows
from linnaea.predict.trust import Trust
from linnaea.predict.trust_fit import Rehearsal, fit_spread_of_species, fit_trust, rehearse
from linnaea.taxonomy.ranks import Rank

N_QUANTILES = 101
LEAST_SHARE = 0.01
"""The share of known photographs with too little evidence to count as organisms, if there are no counterexamples."""
UNTRAINED_SHARE = 0.1
"""The largest mean share of a photograph's probability for labels that the model was not trained on, as if one
photograph in ten showed such a label. If more of the photographs do, their share is the limit instead."""
MOST_LOST = 0.005
"""The largest share of any source's photographs that may be called no organism, by weights that were learned without
this source. A tower that was not trained on a source loses more of it: of seven large sources at most 1.2%, but 4 to 6%
of seedlings on soil (docs/log.md)."""
FEWEST = 50
"""The least number of photographs that a fit needs, and that a source needs for a share of its own."""
_Parts: TypeAlias = list[tuple[NDArray[np.float32], int]]
"""Probabilities of siblings, and the position of the true one, or ``UNKNOWN`` if none of them is."""
NONE_COUNTS = 0.2
"""The weight of a stranger's siblings, all of which are wrong, relative to siblings of which one is right."""
_UNLIKELIEST = -8.0
"""The log-share below which a share counts no more, if all siblings are equally wrong."""
_LEAST_LOG_FACTOR = -80.0
"""The start of the search for the factor of untrained labels: far below any plausible value."""
_LOWEST, _HIGHEST = 0.02, 50.0
MOST_SHARPENED = 1.5
"""The largest sharpness. If almost no photograph is wrong at a rank, likelihood alone would make it certain of all."""


def fit_calibration(
    image_NE: Float32[ndarray, "N E"],
    group_NR: Int[ndarray, "N 7"],
    bank: LabelBank,
    logit_scale: float,
    *,
    nothing_ME: Float32[ndarray, "M E"] | None = None,
    organism_OE: Float32[ndarray, "O E"] | None = None,
    sources: Sequence[str] = (),
    with_strangers: bool = False,
    abroad: Sequence[Rehearsal] = (),
) -> Calibration:
    """Learn from photographs with known names (:func:`find_groups`), and from pictures without an organism, if any.

    ``organism_OE`` are more photographs of organisms, used only to learn what organisms look like; the model may have
    been trained on them. ``sources`` names the source of each photograph of ``image_NE``, then of ``organism_OE``; by
    default they are of one source.

    Photographs of species that the bank lacks still inform the ranks above. With ``with_strangers`` every photograph
    is used once more as if its species were not in the bank; at the first rank that is then missing, every answer is
    equally wrong. Models are overconfident about such strangers. Memory is that of one block of images x taxa.

    ``abroad`` are answers of models like this one to photographs of sources that they were not trained on. With them,
    how far answers are to be trusted is learned (:mod:`linnaea.predict.trust_fit`), in place of sharpness.

    Raises:
        LinnaeaError: fewer than 50 photographs show taxa of the bank.
    """
    known = group_NR[:, Rank.SPECIES] != UNKNOWN
    if known.sum() < FEWEST:
        raise LinnaeaError(
            f"{count(known.sum(), 'photograph', '')} of species among the labels; a calibration needs {FEWEST}"
        )
    shown, rows = image_NE[known], bank.groups.starts[Rank.SPECIES][group_NR[known, Rank.SPECIES]]
    temperature = fit_temperature(shown, rows, bank, logit_scale)
    scale = logit_scale / temperature
    calibration = Calibration(temperature=temperature, untrained=_fit_untrained(shown, rows, bank, scale),
                              heads=tuple(sorted(bank.heads)), n_images=len(image_NE), n_labels=len(bank))  # fmt: skip
    if nothing_ME is not None and len(nothing_ME):
        organisms = image_NE if organism_OE is None else np.concatenate([image_NE, organism_OE])
        shown, empty = (np.concatenate([signs_of(block) for block in iter_scored(vectors, bank, scale)])
                        for vectors in (organisms, nothing_ME))  # fmt: skip
        weights, least = _part_from_nothing(shown, empty, sources or [""] * len(organisms))
        calibration = replace(calibration, organism=weights, least_evidence=least)
    parts, weighed = _collect(image_NE, group_NR, bank, calibration, scale)
    strangers = _iter_strangers(group_NR, bank) if with_strangers else ()
    if abroad:
        spread = fit_spread_of_species(image_NE[known], group_NR[known, Rank.SPECIES], bank)
        calibration = replace(calibration, trust=Trust(spread=spread))
        home = rehearse(image_NE, group_NR, group_NR != UNKNOWN, bank, calibration, logit_scale)
        kin = [rehearse(image_NE[images], groups, group_NR[images] != UNKNOWN, small, calibration, logit_scale)
               for images, small, groups in strangers]  # fmt: skip
        calibration = replace(calibration, trust=Trust(fit_trust(home, kin, abroad), spread))
    else:
        more = [_collect(image_NE[images], groups, small, calibration, scale, with_none=True)[0]
                for images, small, groups in strangers]  # fmt: skip
        calibration = replace(calibration, sharpness=_fit_sharpness([parts, *more]))
    quantiles = np.quantile(weighed[known], np.linspace(0, 1, N_QUANTILES))
    least = calibration.least_evidence if calibration.organism else float(np.quantile(weighed[known], LEAST_SHARE))
    return replace(calibration, evidence=tuple(map(float, quantiles)), least_evidence=least)


def _iter_strangers(
    group_NR: Int[ndarray, "N 7"], bank: LabelBank
) -> Iterator[tuple[Bool[ndarray, "N"], LabelBank, Int64[ndarray, "M 7"]]]:  # noqa: F821
    """Yield the photographs of half of the bank's species, the bank without that half, and their groups in it; twice.

    Other photographs, whose species the bank lacks, are in neither half.
    """
    known_species = group_NR[group_NR[:, Rank.SPECIES] != UNKNOWN, Rank.SPECIES]
    for out in _halve(known_species):
        images = np.isin(group_NR[:, Rank.SPECIES], out)
        yield images, *_leave_out(bank, group_NR[images], out)


def _fit_sharpness(parts: Sequence[list[_Parts]]) -> tuple[float, ...]:
    """Return the sharpness of each rank from the siblings of all kinds of photographs."""
    joined = [_join([one for kind in parts for one in kind[rank]]) for rank in Rank]
    return tuple(1.0 if own is None else min(_solve(own.slope), MOST_SHARPENED) for own in joined)


def fit_temperature(
    image_NE: Float32[ndarray, "N E"],
    rows: Int[ndarray, "N"],  # noqa: F821
    bank: LabelBank,
    logit_scale: float,
) -> float:
    """Return the temperature over the trained labels, or over all labels if too few photographs show trained ones."""
    is_kept = bank.trained if bank.trained[rows].sum() >= FEWEST else np.ones(len(bank), bool)
    kept = np.flatnonzero(is_kept)
    among, shown, places = keep_rows(bank, kept), image_NE[is_kept[rows]], np.searchsorted(kept, rows[is_kept[rows]])
    return 1 / _solve(lambda s: _slope_of_logits(shown, places, among, logit_scale, s))


def _fit_untrained(
    image_NE: Float32[ndarray, "N E"],
    rows: Int[ndarray, "N"],  # noqa: F821
    bank: LabelBank,
    scale: float,
) -> float:
    """Return the factor, at most 1, that gives untrained labels ``UNTRAINED_SHARE`` of the probability on average.

    If a larger share of the photographs shows untrained labels, they get that share.
    """
    from scipy.optimize import brentq

    if bank.trained.all():
        return 1.0
    wanted = max(UNTRAINED_SHARE, float(np.mean(~bank.trained[rows])))
    blocks = [block.probability_BK[:, ~bank.trained].sum(axis=1) for block in iter_scored(image_NE, bank, scale)]
    held_N = np.concatenate(blocks).astype(np.float64).clip(0, 1 - 1e-9)

    def excess(log_factor: float) -> float:
        weighed_N = np.exp(log_factor) * held_N
        return float(np.mean(weighed_N / (weighed_N + 1 - held_N))) - wanted

    return 1.0 if excess(0.0) <= 0 else float(np.exp(brentq(excess, _LEAST_LOG_FACTOR, 0.0)))


def _halve(groups: Int64[ndarray, "N"]) -> list[Int64[ndarray, "H"]]:  # noqa: F821
    """Split the distinct groups into two random halves."""
    return np.array_split(np.random.default_rng(0).permutation(np.unique(groups)), 2)


def _leave_out(
    bank: LabelBank,
    group_NR: Int[ndarray, "N 7"],
    out: Int64[ndarray, "H"],  # noqa: F821
) -> tuple[LabelBank, Int64[ndarray, "N 7"]]:
    """Return the bank without some species groups, and the images' group numbers in the smaller bank."""
    edges = [bank.groups.edges(rank) for rank in Rank]
    is_in = np.ones(len(edges[Rank.SPECIES]) - 1, bool)
    is_in[out] = False
    rows = np.flatnonzero(is_in.repeat(np.diff(edges[Rank.SPECIES])))
    small = keep_rows(bank, rows)
    groups = np.full_like(group_NR, UNKNOWN, dtype=np.int64)
    for rank in Rank:
        first = np.searchsorted(rows, edges[rank])  # the first remaining row of each group, in the small bank
        number = np.searchsorted(small.groups.starts[rank], first[:-1], side="right") - 1
        number[np.diff(first) == 0] = UNKNOWN
        there = group_NR[:, rank] != UNKNOWN
        groups[there, rank] = number[group_NR[there, rank]]
    return small, groups


def _part_from_nothing(
    shown_NS: Float32[ndarray, "N S"], empty_MS: Float32[ndarray, "M S"], sources: Sequence[str]
) -> tuple[tuple[float, ...], float]:
    """Return the weights of the signs that tell organisms from other pictures, and the least evidence of an organism.

    The evidence of each source comes from weights that were learned without it, if there are several sources of
    :data:`FEWEST` photographs. The least evidence separates the two kinds best (equally weighted) among those that lose
    at most :data:`MOST_LOST` of any source.
    """
    weights, constant = _fit_organisms(shown_NS, empty_MS)
    names, source_N, n_of = np.unique(sources, return_inverse=True, return_counts=True)
    large = [source_N == number for number in range(len(names)) if n_of[number] >= FEWEST]
    if len(large) > 1:
        fitted = [(shown_NS[own], *_fit_organisms(shown_NS[~own], empty_MS)) for own in large]
    else:
        fitted = [(shown_NS, weights, constant)]
    highest = min(np.quantile(signs @ without + base, MOST_LOST) for signs, without, base in fitted) - constant
    rounded = tuple(round(float(weight), 5) for weight in weights)
    evidence, nothing = (signs @ np.array(rounded, np.float32) for signs in (shown_NS, empty_MS))
    return rounded, _divide(evidence, nothing, float(highest))


def _fit_organisms(
    shown_NS: Float32[ndarray, "N S"], empty_MS: Float32[ndarray, "M S"]
) -> tuple[Float[ndarray, "S"], float]:  # noqa: F821
    """Return weights and constant of a logistic regression between the two kinds, each with the same total weight."""
    from sklearn.linear_model import LogisticRegression

    truth = np.repeat([1, 0], [len(shown_NS), len(empty_MS)])
    model = LogisticRegression(C=30.0, class_weight="balanced", max_iter=3000)
    fitted = model.fit(np.concatenate([shown_NS, empty_MS]), truth)
    return fitted.coef_[0], float(fitted.intercept_[0])


def _slope_of_logits(
    image_NE: Float32[ndarray, "N E"],
    rows: Int[ndarray, "N"],  # noqa: F821
    bank: LabelBank,
    logit_scale: float,
    sharpness: float,
) -> tuple[float, float]:
    """Return the first and second derivative of the loss of ``rows`` with respect to the factor on all logits."""
    slope = curve = 0.0
    start = 0
    for block in iter_scored(image_NE, bank, logit_scale * sharpness):
        # Log-probabilities serve as logits: a constant for all taxa of an image drops out of both derivatives.
        logits = np.log(np.maximum(block.probability_BK, TINY)) / sharpness
        truth = logits[np.arange(len(logits)), rows[start : start + len(logits)]]
        mean = np.einsum("bk,bk->b", block.probability_BK, logits, dtype=np.float64)
        square = np.einsum("bk,bk,bk->b", block.probability_BK, logits, logits, dtype=np.float64)
        slope, curve = slope + float((mean - truth).sum()), curve + float((square - mean**2).sum())
        start += len(logits)
    return slope, curve


@dataclass(frozen=True)
class _Siblings:
    """Log-shares of the children of each true parent, one run after the other; the largest of a run is zero."""

    value: NDArray[np.float64]
    start: NDArray[np.int64]
    target: NDArray[np.float64]
    """The true child's log-share in each run, or the mean of all if none is true (outlier exposure: Hendrycks et al.,
    ICLR 2019)."""
    counts: NDArray[np.float64]
    """The weight of each run."""

    def slope(self, sharpness: float) -> tuple[float, float]:
        """Return the first and second derivative of the negative log-likelihood of the targets."""
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
    """Return for each rank the siblings of the true taxa (none if every parent has one child), and all evidence.

    ``with_none`` adds the siblings that the bank has at the first rank at which it lacks the true taxon.
    """
    parts: list[_Parts] = [[] for _ in Rank]
    weighed, start = [], 0
    for block in iter_scored(image_NE, bank, scale):
        sums = sum_to_all_ranks(weigh_labels(block.probability_BK, bank, calibration, block.image_BE, scale), bank)
        weighed.append(calibration.weigh(block))
        for image, groups in enumerate(group_NR[start : start + len(block.energy_B)]):
            for rank in Rank:
                low, high = 0, len(bank)
                if rank > 0:
                    if groups[rank - 1] == UNKNOWN:
                        break
                    low, high = bank.groups.rows(Rank(rank - 1), int(groups[rank - 1]))
                first, last = bank.groups.children(rank, (low, high))
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
        shares = np.log(np.maximum(probability, TINY)).astype(np.float64)
        shares -= shares.max()
        values.append(shares)
        targets.append(np.maximum(shares, _UNLIKELIEST).mean() if place == UNKNOWN else shares[place])
    starts = np.cumsum([0, *map(len, values)])[:-1]
    counts = np.array([NONE_COUNTS if place == UNKNOWN else 1.0 for _, place in parts])
    return _Siblings(np.concatenate(values), starts, np.array(targets), counts)


def _solve(slope: Callable[[float], tuple[float, float]]) -> float:
    """Return the minimum of a convex function between 1/50 and 50, by Newton's method with bisection as fallback."""
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


def _divide(organisms: Float[ndarray, "N"], nothing: Float[ndarray, "M"], highest: float) -> float:  # noqa: F821
    """Return the evidence, ``highest`` at most, that best separates the two kinds (equally weighted)."""
    edges = np.unique(np.concatenate([organisms, nothing, [highest]]))
    edges = edges[edges <= highest]
    lost = np.searchsorted(np.sort(organisms), edges) / len(organisms)
    found_out = np.searchsorted(np.sort(nothing), edges) / len(nothing)
    return float(edges[int((found_out - lost).argmax())])
