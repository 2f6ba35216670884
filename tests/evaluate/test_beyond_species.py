"""BioCLIP 2's protocols: they learn what is there, say nothing of what is not, and agree with naive counting."""

from itertools import permutations

import numpy as np
import pytest

from linnaea.evaluate.beyond_species import (
    RunScore,
    TraitHead,
    all_right,
    cluster_partly_labelled,
    macro_f1,
    match_clusters,
    predict_traits,
    score_discovery,
    score_pairs,
    score_transfer,
)


def clouds(n_classes: int, n_each: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(n_classes), n_each)
    vectors = rng.normal(size=(n_classes, 16))[label] + spread * rng.normal(size=(len(label), 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), label


def test_traits_are_learned_and_carry_over_to_other_images() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 8)).astype(np.float32)
    traits = (features[:, :3] > 0).astype(np.int64)
    head = TraitHead(learning_rate=1e-2, epochs=30)
    logits = predict_traits(features[:300], traits[:300], features[300:], head)
    assert all_right(logits > 0, traits[300:]).mean() > 0.8
    assert np.array_equal(logits, predict_traits(features[:300], traits[:300], features[300:], head))


def test_f1_is_of_yes_and_the_published_one_is_of_two_traits() -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(1)
    truth, said = rng.integers(0, 2, (50, 6)), rng.integers(0, 2, (50, 6)).astype(bool)
    both, either = (said & (truth == 1)).sum(axis=0), said.sum(axis=0) + truth.sum(axis=0)
    assert macro_f1(said, truth) == pytest.approx((2 * both / either).mean(), abs=1e-12)
    nobody = np.zeros((50, 2), np.int64)
    assert macro_f1(nobody.astype(bool), nobody) == 0
    published = f1_score(truth, said, average="macro", labels=np.unique(truth))
    assert macro_f1(said, truth, first=2) == pytest.approx(published)
    assert published != pytest.approx(macro_f1(said, truth))


def test_pairs_are_pooled_over_images() -> None:
    features, label = clouds(2, 40, 0.3)
    noise = np.random.default_rng(2).normal(size=(20, 16)).astype(np.float32)
    both = np.concatenate([features, noise])
    labels = np.concatenate([label, np.tile([0, 1], 10)])
    names = ["easy"] * 80 + ["noise"] * 20
    is_train = np.arange(100) % 2 == 0
    is_train[80:] = np.arange(20) < 10
    score, own = score_pairs(both, labels, is_train, names, n_runs=1, n_draws=3)
    assert own["easy"] == 1.0
    assert score.runs[0] == pytest.approx((own["easy"] * 40 + own["noise"] * 10) / 50)
    assert score.interval is not None
    assert score.interval.n_groups == 2, "a task is one classifier, so tasks are drawn whole"
    assert score.interval.mean == pytest.approx(score.mean)


def test_transfer_draws_its_support_from_train_alone() -> None:
    features, label = clouds(4, 20, 0.2)
    score = score_transfer(features[::2], label[::2], features[1::2], label[1::2])
    assert len(score.runs) == 5
    assert score.mean > 0.9
    assert score.interval is not None
    assert score.interval.n_groups == 4


def test_the_interval_of_runs_speaks_of_classes_and_not_of_photographs() -> None:
    rng = np.random.default_rng(5)
    label = np.repeat(np.arange(40), 25)
    right = [(rng.random(40) < 0.5)[label]] * 3
    alone, whole = (RunScore.of_images(right, group).interval for group in (np.arange(1000), label))
    assert alone is not None
    assert whole is not None
    assert whole.mean == alone.mean == pytest.approx(right[0].mean())
    assert whole.high - whole.low > 2 * (alone.high - alone.low)
    assert RunScore.of_images([np.zeros(0, bool)], np.zeros(0, np.int64)).interval is None


def test_matching_is_the_best_of_all_matchings() -> None:
    rng = np.random.default_rng(3)
    for _ in range(10):
        cluster, label = rng.integers(0, 4, 30), rng.integers(0, 4, 30)
        best = max(sum(order[c] == t for c, t in zip(cluster, label, strict=True)) for order in permutations(range(4)))
        assert match_clusters(cluster, label).sum() == best


def test_labelled_images_keep_their_class_and_new_classes_are_found() -> None:
    features, label = clouds(6, 30, 0.1)
    is_old = np.array([True, True, True, False, False, False])
    scores = score_discovery(features, label, is_old)
    assert scores["old"].mean > 0.9
    assert scores["new"].mean > 0.6
    for part, n_classes in (("all", 6), ("old", 3), ("new", 3)):
        interval = scores[part].interval
        assert interval is not None
        assert interval.n_groups == n_classes
        assert interval.low < scores[part].mean <= interval.high
    labelled = is_old[label] & (np.arange(180) % 2 == 0)
    cluster = cluster_partly_labelled(features, label, labelled, 6)
    assert (cluster[labelled] == label[labelled]).all()
