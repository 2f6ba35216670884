"""Calibration error, coverage and open-set scores equal their definitions and scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_curve

from linnaea.data.shards import make_taxa_table
from linnaea.evaluate.hierarchy import score_consistency, score_distances
from linnaea.evaluate.trust import (
    CONFIDENCES,
    area_under_risk,
    auroc,
    calibration_error,
    collect_beliefs,
    fpr95,
    hold_out,
    reliability,
    risk_coverage,
    score_assertions,
    score_calibration,
    score_intervals,
)
from linnaea.predict.calibration import Calibration, find_groups
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import Taxon


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9999), st.integers(2, 200), st.sampled_from(["uniform", "quantile"]))
def test_reliability_is_sklearns(seed: int, n: int, strategy: str) -> None:
    rng = np.random.default_rng(seed)
    confidence, right = rng.random(n), rng.random(n) < 0.6
    if strategy == "uniform":
        accuracy, mean = calibration_curve(right, confidence, n_bins=10, strategy="uniform")
        bins = reliability(confidence, right, n_bins=10)
        np.testing.assert_allclose(bins.accuracy, accuracy)
        np.testing.assert_allclose(bins.confidence, mean)
        gap = sum(abs(a - c) * k for a, c, k in zip(accuracy, mean, bins.n, strict=True)) / n
        assert calibration_error(confidence, right, n_bins=10) == pytest.approx(gap)
    else:
        bins = reliability(confidence, right, n_bins=10, equal_mass=True)
        assert bins.n.max() - bins.n.min() <= 1
        assert bins.n.sum() == n


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 60), st.integers(1, 60), st.integers(1, 12))
def test_open_set_scores_are_what_they_say(seed: int, n: int, m: int, n_levels: int) -> None:
    rng = np.random.default_rng(seed)
    known, unknown = rng.integers(0, n_levels, n) / 7, rng.integers(0, n_levels, m) / 9
    truth, scores = np.repeat([1, 0], [n, m]), np.concatenate([known, unknown])
    above = (known[:, None] > unknown) + 0.5 * (known[:, None] == unknown)
    assert auroc(known, unknown) == pytest.approx(above.mean(), abs=1e-12)
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    assert fpr95(known, unknown) == pytest.approx(false[np.argmax(true >= 0.95)])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 80))
def test_coverage_is_the_surest_first(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    confidence, right = rng.random(n), rng.random(n) < 0.5
    coverage, risk = risk_coverage(confidence, right)
    order = sorted(range(n), key=lambda i: -confidence[i])
    for k in range(1, n + 1):
        assert coverage[k - 1] == pytest.approx(k / n)
        assert risk[k - 1] == pytest.approx(np.mean([not right[i] for i in order[:k]]))
    assert area_under_risk(confidence, right) == pytest.approx(risk.mean())
    tied = area_under_risk(np.zeros(n), right)
    assert tied == pytest.approx(1 - right.mean())


TAXA = [
    Taxon.of(kingdom="A", order=f"O{i % 3}", family=f"F{i % 6}", genus=f"G{i % 12}", species=f"s{i}") for i in range(24)
]
BANK = LabelBank(make_taxa_table(TAXA), unit(np.random.default_rng(0).normal(size=(24, 16))), {})


def believe(n: int = 200) -> tuple[list[Taxon], object, np.ndarray]:
    rng = np.random.default_rng(3)
    rows = rng.integers(24, size=n)
    images = unit(BANK.vectors[rows] + rng.normal(scale=0.35, size=(n, 16)))
    truth = [BANK.taxon(int(row)) for row in rows]
    named = np.array([[bool(name) for name in taxon.lineage] for taxon in truth])
    beliefs = collect_beliefs(images, find_groups(truth, BANK), named, BANK, 12.0, Calibration())
    logits = 12.0 * images.astype(float) @ BANK.vectors.astype(float).T
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return truth, beliefs, p / p.sum(axis=1, keepdims=True)


def test_beliefs_are_those_of_a_naive_sum() -> None:
    truth, beliefs, p = believe()
    metrics = score_calibration(beliefs)
    for rank in (Rank.ORDER, Rank.GENUS, Rank.SPECIES):
        nll, brier = [], []
        for image, taxon in enumerate(truth):
            mass: dict[tuple[str, ...], float] = {}
            for value, other in zip(p[image], BANK.taxa_list, strict=True):
                mass[other.lineage[: rank + 1]] = mass.get(other.lineage[: rank + 1], 0) + value
            best = max(mass, key=mass.__getitem__)
            own = taxon.lineage[: rank + 1]
            assert beliefs.confidence_NR[image, rank] == pytest.approx(mass[best], rel=1e-3)
            assert bool(beliefs.right_NR[image, rank]) == (best == own)
            nll.append(-np.log(mass[own]))
            brier.append(sum((value - (name == own)) ** 2 for name, value in mass.items()))
        assert metrics[f"calibration/nll/{rank.label}"] == pytest.approx(np.mean(nll), rel=1e-3)
        assert metrics[f"calibration/brier/{rank.label}"] == pytest.approx(np.mean(brier), rel=1e-3)
    assert "calibration/ece/phylum" not in metrics


def test_the_deeper_the_fewer_and_bounds_hold_the_mean() -> None:
    truth, beliefs, _ = believe()
    classes = np.unique([taxon.scientific_name for taxon in truth], return_inverse=True)[1]
    metrics = score_assertions(beliefs, classes) | score_intervals(beliefs, classes)
    for wanted in CONFIDENCES:
        reached = [metrics[f"auto/{wanted}/reaches/{label}"] for label in RANK_LABELS]
        assert reached == sorted(reached, reverse=True)
        assert metrics[f"auto/{wanted}/asserted"] == reached[0]
    for label in ("species", "order"):
        low, mean, high = (metrics[f"interval/{label}/{end}"] for end in ("low", "mean", "high"))
        assert low <= mean <= high
        assert low < high
        ends = (metrics[f"interval/{label}/images_{end}"] for end in ("low", "high"))
        n = int(beliefs.counted_NR[:, Rank.parse(label)].sum())
        wilson = 1.96 * np.sqrt(mean * (1 - mean) / n)  # of independent images, near enough
        assert list(ends) == pytest.approx([mean - wilson, mean + wilson], abs=0.35 * wilson + 0.5 / n)


def test_a_taxon_that_was_held_out_is_gone_and_its_images_are_outside() -> None:
    groups = find_groups([BANK.taxon(row) for row in range(24)], BANK)
    found = hold_out(BANK, groups, Rank.FAMILY)
    assert found is not None
    small, out = found
    gone = {BANK.taxon(row)[Rank.FAMILY] for row in np.flatnonzero(out).tolist()}
    assert len(gone) == 1
    assert {taxon[Rank.FAMILY] for taxon in small.taxa_list} == {f"F{i}" for i in range(6)} - gone
    assert len(small) + out.sum() == 24


def test_consistency_and_distances() -> None:
    rows = np.arange(24)
    path = find_groups(BANK.taxa_list, BANK)
    path[:, 1:3] = path[:, :1]  # unnamed ranks follow the one above
    metrics = score_consistency(path, BANK)
    assert metrics["consistency/path"] == 1
    path[:6, Rank.GENUS] = (path[:6, Rank.GENUS] + 6) % 12
    broken = score_consistency(path, BANK)
    assert broken["consistency/path"] == pytest.approx(18 / 24)
    right = score_distances(BANK.taxa_list, rows, rows)
    assert right == {"lca_height": 0.0}
    wrong = score_distances(BANK.taxa_list, rows[:2], rows[:2][::-1])
    assert wrong["lca_height_of_errors"] == 1 == wrong["errors_in_genus"]
