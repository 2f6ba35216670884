"""Compute confidence intervals of scores and test whether two models differ, with seeded bootstraps.

Images of one class (or one observation) are not independent. If ``group_N`` is given, whole groups are drawn, which
widens the intervals accordingly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from jaxtyping import Float64, Int, Shaped
from numpy import ndarray

N_DRAWS = 2_000
MAX_CELLS = 8_000_000
"""The largest number of draws times groups held in memory at once (64 MB)."""
EXACT_UP_TO = 1_000
"""The largest number of disagreements for which McNemar's test is exact."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with the bounds of its confidence interval at ``level``."""

    mean: float
    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """The comparison of two models on the same images; ``difference`` is second minus first."""

    n: int
    difference: Interval
    only_first: int
    """Number of images that only the first model has right."""
    only_second: int
    p_value: float
    """Two-sided p-value of McNemar's test."""

    @property
    def differs(self) -> bool:
        """Whether the interval of the difference excludes zero."""
        return self.difference.low > 0 or self.difference.high < 0


def bootstrap_mean(
    value_N: Shaped[ndarray, "N"],  # noqa: F821
    *,
    group_N: Int[ndarray, "N"] | None = None,  # noqa: F821
    weight_N: Shaped[ndarray, "N"] | None = None,  # noqa: F821
    level: float = 0.95,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> Interval:
    """Return the mean of ``value_N`` with its percentile bootstrap interval (Efron 1979), drawing whole groups.

    ``weight_N`` is the number of times each image was queried (the few-shot folds); the mean is weighted by it.

    Raises:
        ValueError: There is no value, or no weight above zero.
    """
    values = np.asarray(value_N, np.float64)
    weights = np.ones_like(values) if weight_N is None else np.asarray(weight_N, np.float64)
    if not weights.any():
        raise ValueError("there is no value with a positive weight to average")
    sums, counts = _group_sums(values * weights, weights, group_N)
    means = _draw_means(sums, counts, n_draws, seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    mean = float(sums.sum() / counts.sum())
    return Interval(mean=mean, low=float(low), high=float(high), level=level)


def compare_paired(
    first_N: Shaped[ndarray, "N"],  # noqa: F821
    second_N: Shaped[ndarray, "M"],  # noqa: F821
    *,
    group_N: Int[ndarray, "N"] | None = None,  # noqa: F821
    weight_N: Shaped[ndarray, "N"] | None = None,  # noqa: F821
    level: float = 0.95,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> PairedDifference:
    """Compare two models on the same images by a paired bootstrap of the difference and McNemar's test.

    The inputs say which images each model has right. They may also be shares between 0 and 1 (few-shot over folds);
    McNemar's test then counts an image as a disagreement if its shares differ.

    Raises:
        ValueError: The inputs differ in length, or are empty.
    """
    first, second = np.asarray(first_N, np.float64), np.asarray(second_N, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"the shapes {first.shape} and {second.shape} differ; paired values need the same images")
    only_first, only_second = int((first > second).sum()), int((second > first).sum())
    return PairedDifference(
        n=len(first),
        difference=bootstrap_mean(
            second - first, group_N=group_N, weight_N=weight_N, level=level, n_draws=n_draws, seed=seed
        ),
        only_first=only_first,
        only_second=only_second,
        p_value=mcnemar(only_first, only_second),
    )


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
) -> tuple[Float64[ndarray, "G"], Float64[ndarray, "G"]]:  # noqa: F821
    if group_N is None:
        there = weights > 0
        return values[there], weights[there]
    _, place = np.unique(group_N, return_inverse=True)
    return np.bincount(place, weights=values), np.bincount(place, weights=weights)


def _draw_means(
    sums: Float64[ndarray, "G"],  # noqa: F821
    counts: Float64[ndarray, "G"],  # noqa: F821
    n_draws: int,
    seed: int,
) -> Float64[ndarray, "D"]:  # noqa: F821
    rng, n = np.random.default_rng(seed), len(sums)
    step = max(1, MAX_CELLS // n)
    means = []
    for start in range(0, n_draws, step):
        drawn = rng.integers(0, n, (min(step, n_draws - start), n))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(means)
