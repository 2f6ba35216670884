"""Probes on frozen features: what they answer, how they are split, and that chance stays chance."""

import numpy as np
import pytest

from linnaea.evaluate.probes import PROBES, answer_knn, answer_linear, answer_ridge, score_probes, split_classes


def clouds(n_classes: int, n_each: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(n_classes), n_each)
    vectors = rng.normal(size=(n_classes, 24))[label] + spread * rng.normal(size=(len(label), 24))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), label


def test_separate_classes_are_told_apart_and_noise_is_not() -> None:
    near, label = clouds(5, 20, 0.2)
    noise, _ = clouds(5, 20, 1000.0)
    for score in score_probes(near, label):
        assert score.mean > 0.95, score.probe
        assert len(score.accuracy) == 3
    for score in score_probes(noise, label):
        assert score.mean < 0.5, score.probe
    assert [score.probe for score in score_probes(near, label)] == list(PROBES)


def test_every_class_is_in_every_part_and_no_image_in_two() -> None:
    label = np.repeat(np.arange(6), [3, 5, 10, 4, 7, 40])
    part = split_classes(label, seed=0)
    for number in range(6):
        counts = np.bincount(part[label == number], minlength=3)
        assert counts.min() >= 1
        assert counts[1] == counts[2]
    assert (split_classes(label, 0) == part).all()
    assert (split_classes(label, 1) != part).any()


def test_small_classes_are_left_out_and_counted() -> None:
    features, label = clouds(4, 10, 0.3)
    label = np.where(np.arange(40) >= 38, 9, label)
    (score,) = score_probes(features, label, ["ridge"])
    assert (score.n_classes, score.n_skipped) == (4, 1)
    assert score_probes(features[:2], label[:2]) == []


def test_knn_and_ridge_agree_with_sklearn() -> None:
    from sklearn.linear_model import Ridge
    from sklearn.neighbors import KNeighborsClassifier

    features, label = clouds(6, 30, 0.8)
    train, query = features[::2], features[1::2]
    own, truth = label[::2], label[1::2]
    peer = KNeighborsClassifier(n_neighbors=1, metric="cosine").fit(train, own).predict(query)
    assert (answer_knn(train, own, query, 1.0, 6) == peer).all()
    vote = KNeighborsClassifier(n_neighbors=7, metric="cosine").fit(train, own)
    share = vote.predict_proba(query)
    said = answer_knn(train, own, query, 7.0, 6)
    assert (share[np.arange(len(said)), said] == share.max(axis=1)).all(), "the answer has most votes"
    ridge = Ridge(alpha=0.1).fit(train.astype(float), np.eye(6)[own]).predict(query).argmax(axis=1)
    assert (answer_ridge(train, own, query, 0.1, 6) == ridge).all()
    assert (answer_linear(train, own, query, 1.0, 6) == truth).mean() > 0.8


def test_validation_chooses_not_the_test_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting is fitted on train and scored on validation; only the chosen one sees the test part."""
    from linnaea.evaluate import probes

    features, label = clouds(4, 10, 0.5)
    sizes = []

    def spy(train: np.ndarray, own: np.ndarray, query: np.ndarray, setting: float, n_classes: int) -> np.ndarray:
        sizes.append((len(train), len(query)))
        return np.zeros(len(query), np.int64)

    monkeypatch.setattr(probes, "_ANSWERS", {"ridge": spy})
    probes.score_probes(features, label, ["ridge"])
    n_settings = len(probes.SETTINGS["ridge"])
    assert sizes == ([(24, 8)] * n_settings + [(32, 8)]) * 3


def test_the_photographs_of_a_burst_are_in_one_part_and_random_names_stay_unknown() -> None:
    """Five frames of each of twelve scenes: split one by one, a probe has seen every scene before."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(24), 5)
    label = np.arange(24)[group] % 3
    features = rng.normal(size=(24, 16))[group] + 0.01 * rng.normal(size=(120, 16))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    for seed in range(3):
        part = split_classes(label, seed, group)
        assert all(len(set(part[group == one])) == 1 for one in range(24))
        assert set(part) == {0, 1, 2}
    (alone,) = score_probes(features, label, ["knn"])
    (together,) = score_probes(features, label, ["knn"], group_N=group)
    assert alone.mean > 0.99
    assert together.mean < 0.75
