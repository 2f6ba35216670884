"""Error bars and paired tests: they agree with counting, with scipy, and with what they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.evaluate.intervals import bootstrap_mean, compare_paired, holm, mcnemar


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
    assert (same.difference.low, same.difference.high, same.p_value) == (0, 0, 1)
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
