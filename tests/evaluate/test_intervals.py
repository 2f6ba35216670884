"""Error bars and paired tests: they agree with counting, with scipy, and with what they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.evaluate.intervals import (
    Interval,
    bootstrap_mean,
    compare_paired,
    holm,
    mcnemar,
    mean_of_classes,
    sign_flip,
)

MEANS = (0.3, 0.5, 0.7, 0.9, 0.95, 0.98)
"""The accuracies for which intervals are simulated."""


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        interval = bootstrap_mean(rng.random(150) < 0.7, n_draws=400)
        held += interval.low <= 0.7 <= interval.high
    assert 0.90 <= held / 300 <= 0.985


def test_groups_that_hang_together_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(40), 25)
    right = (rng.random(40) < 0.5)[group]
    alone, together = bootstrap_mean(right), bootstrap_mean(right, group_N=group)
    assert alone.mean == together.mean == right.mean()
    assert together.high - together.low > 3 * (alone.high - alone.low)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(2).random(50)
    assert bootstrap_mean(values) == bootstrap_mean(values)
    assert bootstrap_mean(values) != bootstrap_mean(values, seed=1)
    with pytest.raises(ValueError, match="no value"):
        bootstrap_mean(np.zeros(0))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_binomial_test(only_first: int, only_second: int) -> None:
    from scipy.stats import binomtest

    n = only_first + only_second
    expected = binomtest(only_first, n).pvalue if n else 1.0
    assert mcnemar(only_first, only_second) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_many_is_near_the_exact_one() -> None:
    from scipy.stats import binomtest

    assert mcnemar(1080, 1000) == pytest.approx(binomtest(1080, 2080).pvalue, rel=0.02)
    assert mcnemar(5000, 1000) < 1e-100


def test_a_clear_difference_is_found_and_none_is_not() -> None:
    rng = np.random.default_rng(3)
    first = rng.random(2000) < 0.6
    better = first | (rng.random(2000) < 0.2)
    found = compare_paired(first, better)
    assert found.differs
    assert found.only_first == 0
    assert found.only_second == int((better & ~first).sum())
    assert found.p_value < 1e-6
    assert found.difference.mean == pytest.approx(better.mean() - first.mean())
    other = rng.permutation(first)
    assert not compare_paired(first, other).differs
    same = compare_paired(first, first)
    assert (same.difference.mean, same.p_value) == (0, 1)
    assert same.difference.low < 0 < same.difference.high
    with pytest.raises(ValueError, match="same images"):
        compare_paired(first, first[:-1])


def test_weights_count_askings() -> None:
    values, weights = np.array([0.5, 1.0, 0.0]), np.array([2, 1, 0])
    assert bootstrap_mean(values, weight_N=weights).mean == pytest.approx(2 / 3)
    many = np.repeat([1.0, 0.0], 200)
    assert bootstrap_mean(many, weight_N=np.full(400, 3)) == bootstrap_mean(many)
    with pytest.raises(ValueError, match="no value"):
        bootstrap_mean(values, weight_N=np.zeros(3))


def test_holm_is_stricter_with_more_tests() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def _draw_right(rng: np.random.Generator, accuracy_K: np.ndarray, n_images: int) -> np.ndarray:
    return rng.random(len(accuracy_K) * n_images) < np.repeat(accuracy_K, n_images)


def _false_verdicts(n_classes: int, n_images: int, n_runs: int) -> float:
    """The share of pairs of models, equally good over species (accuracies scatter by 0.15), that are told apart."""
    rng, group, told = np.random.default_rng(7), np.repeat(np.arange(n_classes), n_images), 0
    for _ in range(n_runs):
        one, other = (_draw_right(rng, np.clip(rng.normal(0.6, 0.15, n_classes), 0, 1), n_images) for _ in range(2))
        found = compare_paired(one, other, group_N=group)
        told += found.differs and found.p_value < 0.05
    return told / n_runs


@pytest.mark.parametrize(("n_classes", "n_images"), [(8, 40), (50, 15), (163, 6)])
def test_equal_models_are_rarely_told_apart(n_classes: int, n_images: int) -> None:
    assert _false_verdicts(n_classes, n_images, 200) <= 0.06


@pytest.mark.long
@pytest.mark.parametrize(("n_classes", "n_images"), [(8, 40), (50, 15), (163, 6)])
def test_equal_models_are_rarely_told_apart_in_many_runs(n_classes: int, n_images: int) -> None:
    share = _false_verdicts(n_classes, n_images, 2_000)
    print(f"{n_classes} classes x {n_images}: {share:.1%} false verdicts")
    assert share <= 0.06


def _coverage(n_classes: int, mean: float, n_runs: int, *, n_images: int = 15, correlation: float = 0.1) -> float:
    """How often the interval holds the mean of all classes, whose accuracies have a beta distribution."""
    rng, group, size = np.random.default_rng(11), np.repeat(np.arange(n_classes), n_images), 1 / correlation - 1
    held = 0
    for _ in range(n_runs):
        right = _draw_right(rng, rng.beta(mean * size, (1 - mean) * size, n_classes), n_images)
        interval = bootstrap_mean(right, group_N=group)
        assert interval.low < interval.high
        held += interval.low <= mean <= interval.high
    return held / n_runs


@pytest.mark.parametrize("n_classes", [6, 8, 10, 15, 50])
def test_intervals_cover_the_mean_of_few_classes(n_classes: int) -> None:
    covered = [_coverage(n_classes, mean, 60) for mean in MEANS]
    assert 0.92 <= np.mean(covered) <= 0.985, covered


@pytest.mark.long
@pytest.mark.parametrize("n_classes", [6, 8, 10, 15, 50])
@pytest.mark.parametrize("mean", MEANS)
def test_intervals_cover_each_mean_of_few_classes(n_classes: int, mean: float) -> None:
    covered = _coverage(n_classes, mean, 1_500)
    print(f"{n_classes} classes, mean {mean}: {covered:.1%} covered")
    assert 0.92 - 0.012 <= covered <= 0.97 + 0.01  # two standard errors of 1,500 runs


@pytest.mark.parametrize(("perfect", "hopeless"), [(1.0, 0.1), (0.9, 0.0)])
def test_intervals_cover_the_mean_of_perfect_and_hopeless_classes(perfect: float, hopeless: float) -> None:
    """A model may know most species and a few not at all, or the other way round: no beta distribution is like that."""
    rng, group, held, n_runs = np.random.default_rng(13), np.repeat(np.arange(50), 15), 0, 80
    share = 0.12 if perfect == 1 else 0.85
    for _ in range(n_runs):
        accuracy = np.where(rng.random(50) < share, hopeless, perfect)
        interval = bootstrap_mean(_draw_right(rng, accuracy, 15), group_N=group)
        held += interval.low <= share * hopeless + (1 - share) * perfect <= interval.high
    assert held / n_runs >= 0.9


def test_no_interval_is_without_width() -> None:
    group = np.repeat(np.arange(6), [9, 9, 9, 9, 9, 8])
    every, none = bootstrap_mean(np.ones(53), group_N=group), bootstrap_mean(np.zeros(53), group_N=group)
    assert (every.mean, every.high, every.n_groups) == (1, 1, 6)
    assert 0.8 < every.low < 0.95
    assert (none.low, none.high) == pytest.approx((0, 1 - every.low), abs=1e-3)
    many = bootstrap_mean(np.ones(5000), group_N=np.arange(5000) // 10)
    assert 0.99 < many.low < many.high == 1
    worse = compare_paired(np.ones(53), np.zeros(53), group_N=group)
    assert worse.difference.low < worse.difference.mean == -1 < worse.difference.high < 0
    assert worse.differs


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 12)), min_size=1, max_size=30))
def test_an_interval_holds_its_mean(classes: list[tuple[int, int]]) -> None:
    right = np.concatenate([np.arange(n) < k for k, n in classes])
    interval = bootstrap_mean(right, group_N=np.repeat(np.arange(len(classes)), [n for _, n in classes]))
    assert 0 <= interval.low <= interval.mean <= interval.high <= 1
    assert interval.low < interval.high


def test_the_sign_flip_test_is_that_of_scipy() -> None:
    from scipy.stats import permutation_test

    def mean(x: np.ndarray, axis: int) -> np.ndarray:
        return x.mean(axis=axis)

    difference = np.random.default_rng(4).normal(0.4, 1, 10)
    expected = permutation_test((difference,), mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip(difference) == pytest.approx(expected.pvalue, abs=1e-9)
    many = np.random.default_rng(5).normal(0.15, 1, 100)
    expected = permutation_test((many,), mean, permutation_type="samples", n_resamples=20_000, random_state=0)
    assert sign_flip(many) == pytest.approx(expected.pvalue, abs=0.02)
    assert sign_flip(np.zeros(9)) == 1
    assert sign_flip(np.array([1.0, 1, 1, 1, -1, 0])) == mcnemar(1, 4)


def test_a_mean_over_classes_counts_every_class_once() -> None:
    assert mean_of_classes(np.array([1, 1, 1, 0]), np.array([5, 5, 5, 2])) == 0.5
    weighted = mean_of_classes(np.array([1, 0, 0.5]), np.array([0, 0, 1]), np.array([3, 1, 0]))
    assert weighted == 0.75


def test_an_interval_says_how_many_classes_it_speaks_for() -> None:
    assert bootstrap_mean(np.ones(6), group_N=np.array([0, 0, 1, 1, 4, 4])).n_groups == 3
    assert isinstance(compare_paired(np.ones(3), np.zeros(3)).difference, Interval)
