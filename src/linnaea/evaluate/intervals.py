"""Compute confidence intervals of scores, and test whether two models differ.

Photographs of one class are not independent: a model that knows a species has most of them right. So the classes
(``group_N``) are the sample, and whole classes are drawn or flipped. A statement then holds for other classes of the
same kind, and the number of classes says how far it can be trusted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import comb

import numpy as np
from jaxtyping import Float64, Int, Shaped
from numpy import ndarray

N_DRAWS = 2_000
N_FLIPS = 20_000
"""The number of random sign flips, where there are too many classes for all of them."""
ALL_FLIPS_UP_TO = 14
"""The largest number of differing classes whose sign flips are all made (16,384)."""
MAX_CELLS = 8_000_000
"""The largest number of draws times groups held in memory at once (64 MB)."""
EXACT_UP_TO = 1_000
"""The largest number of disagreements for which McNemar's test is exact."""
MODEL_UP_TO = 200
"""Up to this number of groups, the interval of a share comes from a model of the classes; above, from a bootstrap.

The percentile bootstrap covers 83 to 90% with 6 to 10 classes, and 88 to 92% with 50 classes of mean 0.98."""
STUDENT_UP_TO = 20
"""Up to this number of groups, the interval of a difference is Student's over the groups; above, a bootstrap's."""
LEVEL = 0.95
"""The level of every confidence interval."""
FEWEST_CLASSES = 6
"""The smallest number of classes for which the two-sided test can reach 0.05 (2 of 2^6 sign flips)."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with the bounds of its 95% confidence interval."""

    mean: float
    low: float
    high: float
    n_groups: int = 0
    """The number of groups (classes), or of single values without groups, that the interval was made from."""


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """The comparison of two models on the same images; ``difference`` is second minus first."""

    n: int
    difference: Interval
    only_first: int
    """Number of images that only the first model has right."""
    only_second: int
    p_value: float
    """Two-sided p-value of the sign-flip test over the groups."""

    @property
    def differs(self) -> bool:
        """Return whether the interval of the difference excludes zero."""
        return self.difference.low > 0 or self.difference.high < 0


@dataclass(frozen=True)
class _Sums:
    """The sum of the values and of the weights of each group."""

    values: Float64[ndarray, "G"]  # noqa: F821
    weights: Float64[ndarray, "G"]  # noqa: F821

    @property
    def mean(self) -> float:
        return float(self.values.sum() / self.weights.sum())

    def __len__(self) -> int:
        return len(self.values)


def bootstrap_mean(
    value_N: Shaped[ndarray, "N"],  # noqa: F821
    *,
    group_N: Int[ndarray, "N"] | None = None,  # noqa: F821
    weight_N: Shaped[ndarray, "N"] | None = None,  # noqa: F821
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> Interval:
    """Return the mean of ``value_N`` with an interval for other groups like these.

    With many groups it is the percentile bootstrap (Efron 1979) of whole groups. With up to :data:`MODEL_UP_TO` groups,
    the interval of shares (right or wrong, weighted or not) is that of a beta-binomial model: each group has its own
    accuracy, drawn from a beta distribution, with Jeffreys' prior on the mean and Beta(1, 4) on the correlation within
    groups. It has a width even if every value is the same, and is widened where the model does not fit the groups. With
    up to :data:`STUDENT_UP_TO` groups, the interval of other values is Student's over the groups.

    ``weight_N`` is the number of times each image was queried (the few-shot folds); the mean is weighted by it.

    Raises:
        ValueError: There is no value, or no weight above zero.
    """
    values = np.asarray(value_N, np.float64)
    weights = np.ones_like(values) if weight_N is None else np.asarray(weight_N, np.float64)
    counts = values * weights
    are_counts = bool(
        (values >= 0).all() and (values <= 1).all() and np.abs(counts - counts.round()).max(initial=0) < 1e-9
    )
    draw = partial(_draw_means, n_draws=n_draws, seed=seed)
    return _interval(_group_sums(counts, weights, group_N), draw, are_counts=are_counts)


def _interval(sums: "_Sums", draw: Callable[["_Sums"], ndarray], *, are_counts: bool) -> Interval:
    if are_counts and (len(sums) <= MODEL_UP_TO or _all_agree(sums)):
        low, high = _share_bounds(sums)
    elif _all_agree(sums):  # no resampling shows a spread; what other values may do is bounded as for 0 of n
        most = _beta_binomial(_Sums(0 * sums.values, sums.weights), LEVEL)[1]
        low, high = sums.mean - most, sums.mean + most
    elif len(sums) <= STUDENT_UP_TO:
        low, high = _student(sums)
    else:
        low, high = np.quantile(draw(sums), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    mean = sums.mean
    return Interval(mean=mean, low=min(float(low), mean), high=max(float(high), mean), n_groups=len(sums))


def mean_of_classes(
    value_N: Shaped[ndarray, "N"],  # noqa: F821
    class_N: Int[ndarray, "N"],  # noqa: F821
    weight_N: Shaped[ndarray, "N"] | None = None,  # noqa: F821
) -> float:
    """Return the mean over classes of the mean of each class's values: every class counts the same."""
    values = np.asarray(value_N, np.float64)
    weights = np.ones_like(values) if weight_N is None else np.asarray(weight_N, np.float64)
    sums = _group_sums(values * weights, weights, class_N)
    return float((sums.values / sums.weights).mean())


def compare_paired(
    first_N: Shaped[ndarray, "N"],  # noqa: F821
    second_N: Shaped[ndarray, "M"],  # noqa: F821
    *,
    group_N: Int[ndarray, "N"] | None = None,  # noqa: F821
    weight_N: Shaped[ndarray, "N"] | None = None,  # noqa: F821
) -> PairedDifference:
    """Compare two models on the same images by the interval of the difference and a sign-flip test over groups.

    The inputs say which images each model has right. They may also be shares between 0 and 1 (few-shot over folds).
    Without ``group_N`` every image is a group of its own, and the result holds for images of these classes only.

    Raises:
        ValueError: The inputs differ in length, or are empty.
    """
    first, second = np.asarray(first_N, np.float64), np.asarray(second_N, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"the shapes {first.shape} and {second.shape} differ; paired values need the same images")
    weights = np.ones_like(first) if weight_N is None else np.asarray(weight_N, np.float64)
    sums = _group_sums((second - first) * weights, weights, group_N)
    return PairedDifference(
        n=len(first),
        difference=_interval(sums, partial(_draw_means, n_draws=N_DRAWS, seed=0), are_counts=False),
        only_first=int((first > second).sum()),
        only_second=int((second > first).sum()),
        p_value=sign_flip(sums.values),
    )


def sign_flip(difference_G: Float64[ndarray, "G"]) -> float:  # noqa: F821
    """Return the two-sided p-value that the differences of the groups are symmetric around zero.

    The statistic is their sum. All sign flips are made for up to :data:`ALL_FLIPS_UP_TO` groups that differ, and
    :data:`N_FLIPS` random ones otherwise (Phipson and Smyth 2010: the observed one counts too). If all differences are
    equally large, the test is McNemar's.
    """
    found = np.asarray(difference_G, np.float64)
    found = found[np.abs(found) > 1e-12]
    if not len(found):
        return 1.0
    sizes, observed = np.abs(found), abs(float(found.sum()))
    if np.ptp(sizes) < 1e-12:
        return mcnemar(int((found < 0).sum()), int((found > 0).sum()))
    bound = observed - 1e-9 * float(sizes.sum())
    if len(found) <= ALL_FLIPS_UP_TO:
        bits = np.arange(2 ** len(found))[:, None] >> np.arange(len(found)) & 1
        return float((np.abs((2.0 * bits - 1) @ sizes) >= bound).mean())
    rng, n_beyond = np.random.default_rng(0), 0
    step = max(1, MAX_CELLS // len(found))
    for start in range(0, N_FLIPS, step):
        signs = rng.integers(0, 2, (min(step, N_FLIPS - start), len(found)), dtype=np.int8)
        n_beyond += int((np.abs((2.0 * signs - 1) @ sizes) >= bound).sum())
    return (1 + n_beyond) / (1 + N_FLIPS)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value that two models are equally good (McNemar 1947).

    The arguments count the images that only one model has right. The test is exact (binomial) up to 1,000
    disagreements; above that it uses the normal approximation with continuity correction.
    """
    n, smaller = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return 1.0
    if n <= EXACT_UP_TO:
        tail = sum(comb(n, k) for k in range(smaller + 1))
        return float(min(1.0, 2 * tail / 2**n))
    from math import erfc, sqrt

    distance = max(abs(only_first - only_second) - 1, 0) / sqrt(n)
    return float(erfc(distance / sqrt(2)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted to bound the probability of any false positive among all of them (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def _group_sums(
    values: Float64[ndarray, "N"],  # noqa: F821
    weights: Float64[ndarray, "N"],  # noqa: F821
    group_N: Int[ndarray, "N"] | None,  # noqa: F821
) -> _Sums:
    if group_N is None:
        sums, counts = values, weights
    else:
        _, place = np.unique(group_N, return_inverse=True)
        sums, counts = np.bincount(place, weights=values), np.bincount(place, weights=weights)
    there = counts > 0
    if not there.any():
        raise ValueError("there is no value with a positive weight to average")
    return _Sums(sums[there], counts[there])


def _all_agree(sums: _Sums) -> bool:
    """Tell whether every group has the same mean, so that no resampling can show a spread."""
    return bool(np.ptp(sums.values / sums.weights) < 1e-12)


def _draw_means(sums: _Sums, *, n_draws: int, seed: int) -> Float64[ndarray, "D"]:  # noqa: F821
    rng, n = np.random.default_rng(seed), len(sums)
    step = max(1, MAX_CELLS // n)
    means = []
    for start in range(0, n_draws, step):
        drawn = rng.integers(0, n, (min(step, n_draws - start), n))
        means.append(sums.values[drawn].sum(axis=1) / sums.weights[drawn].sum(axis=1))
    return np.concatenate(means)


def _student(sums: _Sums) -> tuple[float, float]:
    """Return the bounds of Student's interval for a ratio of group sums, with a degree of freedom less than groups."""
    from scipy.special import stdtrit

    n, mean = len(sums), sums.mean
    residuals = sums.values - mean * sums.weights
    error = np.sqrt(n / (n - 1) * (residuals**2).sum()) / sums.weights.sum()
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2) * error)
    return mean - half, mean + half


def _share_bounds(sums: _Sums) -> tuple[float, float]:
    """Return the bounds of a share by the beta-binomial model, and those of the logit where the model does not fit.

    If most classes are right and a few are near nothing, the observed mean lies outside the middle half of the model.
    """
    low, high = _beta_binomial(sums, LEVEL)
    if len(sums) < _FEWEST_TO_DOUBT or _all_agree(sums):
        return low, high
    middle = _beta_binomial(sums, 0.5)
    if middle[0] <= sums.mean <= middle[1]:
        return low, high
    other_low, other_high = _logit_student(sums)
    return min(low, other_low), max(high, other_high)


_FEWEST_TO_DOUBT = 3


def _logit_student(sums: _Sums) -> tuple[float, float]:
    """Return the bounds of Student's interval on the scale of the logit, where no share leaves 0 to 1."""
    from scipy.special import expit, logit, stdtrit

    total = float(sums.weights.sum())
    share = (float(sums.values.sum()) + 0.5) / (total + 1)
    n, residuals = len(sums), sums.values - sums.mean * sums.weights
    error = max(float(np.sqrt(n / (n - 1) * (residuals**2).sum())) / total, 1 / (total + 1))
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * error / (share * (1 - share))
    return float(expit(logit(share) - half)), float(expit(logit(share) + half))


_N_MEANS, _N_CORRELATIONS = 120, 16


def _beta_binomial(sums: _Sums, level: float) -> tuple[float, float]:
    """Return the bounds of the mean of the classes' accuracies in the model that :func:`bootstrap_mean` describes.

    The posterior is summed over a grid: means at equal steps of Jeffreys' prior, first over all of it and then where
    the mass is, and correlations at equal steps of theirs.
    """
    counts, times = np.unique(np.stack([sums.values, sums.weights - sums.values]), axis=1, return_counts=True)
    first, last = 0.0, 1.0
    for _ in range(2):
        edges = np.linspace(first, last, _N_MEANS + 1)
        mass = _posterior(counts, times, (edges[1:] + edges[:-1]) / 2)
        held = np.flatnonzero(mass > 1e-7 * mass.sum())
        first, last = edges[held[0]], edges[held[-1] + 1]
    below = np.concatenate([[0.0], np.cumsum(mass)]) / mass.sum()
    low, high = np.interp([(1 - level) / 2, (1 + level) / 2], below, np.sin(np.pi / 2 * edges) ** 2)
    none, every = not sums.values.any(), bool(np.allclose(sums.values, sums.weights))
    return 0.0 if none else float(low), 1.0 if every else float(high)


def _posterior(
    right_wrong_2U: Float64[ndarray, "2 U"],
    times_U: Int[ndarray, "U"],  # noqa: F821
    place_M: Float64[ndarray, "M"],  # noqa: F821
) -> Float64[ndarray, "M"]:  # noqa: F821
    """Return the mass of each mean, given by its place on the scale on which Jeffreys' prior is flat."""
    from scipy.special import betaln

    mean_M1 = np.sin(np.pi / 2 * place_M)[:, None] ** 2
    # Beta(1, 4) has the distribution function 1 - (1 - x)^4.
    correlation = 1 - (1 - (np.arange(_N_CORRELATIONS) + 0.5) / _N_CORRELATIONS) ** 0.25
    size = 1 / correlation - 1
    a, b = mean_M1 * size, (1 - mean_M1) * size
    log = -times_U.sum() * betaln(a, b)
    for right, wrong, times in zip(*right_wrong_2U, times_U, strict=True):
        log += times * betaln(a + right, b + wrong)
    return np.asarray(np.exp(log - log.max()).sum(axis=1))
