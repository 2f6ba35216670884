"""Score simple classifiers on frozen features: SimpleShot, k-NN, linear probe, ridge.

:func:`score_few_shot` is BioCLIP's few-shot protocol (arXiv 2311.18803, section 4.3), with the random numbers of its
published code. :func:`score_probes` makes three seeded splits of every class into train, validation and test (60%, 20%
and 20%, at least one image each). The setting with the best validation accuracy is refitted on train and validation,
and scored once on test.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int8
from numpy import ndarray

from linnaea.evaluate.intervals import mean_of_classes

ProbeName: TypeAlias = Literal["knn", "linear", "ridge"]
PROBES: tuple[ProbeName, ...] = get_args(ProbeName)
SETTINGS: Mapping[ProbeName, tuple[float, ...]] = {
    "knn": (1.0, 3.0, 5.0, 10.0, 20.0),
    "linear": (0.1, 1.0, 10.0, 100.0),
    "ridge": (0.001, 0.01, 0.1, 1.0, 10.0),
}
"""Settings to choose from by validation: the number of neighbours, C of logistic regression, the ridge penalty."""
N_SPLITS = 3
N_FOLDS = 5
MIN_IMAGES = 3
"""Classes with fewer images cannot appear in all three parts and are left out."""
MAX_CELLS = 4_000_000

Classify: TypeAlias = Callable[[ndarray, ndarray, ndarray, float, int], ndarray]


@dataclass(frozen=True, kw_only=True)
class ProbeScore:
    """The accuracy of one probe on the test parts of the splits."""

    probe: ProbeName
    accuracy: tuple[float, ...]
    by_class: tuple[float, ...]
    """The same as means over classes."""
    chosen: tuple[float, ...]
    """The setting chosen by validation for each split."""
    n_classes: int
    n_skipped: int
    """Number of classes with fewer than three images, which are left out."""

    @property
    def mean(self) -> float:
        return float(np.mean(self.accuracy))

    @property
    def std(self) -> float:
        """Population standard deviation over the splits."""
        return float(np.std(self.accuracy))


def score_probes(
    features_NE: Float[ndarray, "N E"],
    label_N: Int[ndarray, "N"],  # noqa: F821
    probes: Sequence[ProbeName] = PROBES,
    *,
    group_N: Int[ndarray, "N"] | None = None,  # noqa: F821
) -> list[ProbeScore]:
    """Score unit vectors with each of ``probes``; return an empty list if fewer than two classes have three images.

    Images of one group (a burst) are in one part of each split; a class needs three groups.
    """
    labels, place = np.unique(label_N, return_inverse=True)
    groups = np.arange(len(place)) if group_N is None else group_N
    pairs = np.unique(np.stack([place, groups], axis=1), axis=0)
    enough = np.bincount(pairs[:, 0], minlength=len(labels)) >= MIN_IMAGES
    kept = enough[place]
    if enough.sum() < 2:
        return []
    features = np.asarray(features_NE[kept], np.float32)
    _, label = np.unique(place[kept], return_inverse=True)
    scores = []
    for probe in probes:
        accuracy, by_class, chosen = [], [], []
        for seed in range(N_SPLITS):
            part = split_classes(label, seed, groups[kept])
            setting, right_Q, truth_Q = _score_split(_ANSWERS[probe], SETTINGS[probe], features, label, part)
            accuracy.append(float(right_Q.mean()))
            by_class.append(mean_of_classes(right_Q, truth_Q))
            chosen.append(setting)
        scores.append(
            ProbeScore(
                probe=probe,
                accuracy=tuple(accuracy),
                by_class=tuple(by_class),
                chosen=tuple(chosen),
                n_classes=int(enough.sum()),
                n_skipped=int((~enough).sum()),
            )
        )
    return scores


def split_classes(
    label_N: Int[ndarray, "N"],  # noqa: F821
    seed: int,
    group_N: Int[ndarray, "N"] | None = None,  # noqa: F821
) -> Int[ndarray, "N"]:  # noqa: F821
    """Return 0 (train), 1 (validation) or 2 (test) for each image.

    The groups of every class (its images, without groups) are split 60/20/20 in a seeded order.
    """
    rng = np.random.default_rng(seed)
    part_N = np.zeros(len(label_N), np.int64)
    groups = np.arange(len(label_N)) if group_N is None else group_N
    for label in np.unique(label_N):
        images = np.flatnonzero(label_N == label)
        of_class, place = np.unique(groups[images], return_inverse=True)
        order = rng.permutation(len(of_class))
        n_fifth, part = max(1, round(len(order) / 5)), np.zeros(len(order), np.int64)
        part[order[:n_fifth]], part[order[n_fifth : 2 * n_fifth]] = 2, 1
        part_N[images] = part[place]
    return part_N


def _score_split(
    answer: Classify, settings: Sequence[float], features: ndarray, label: ndarray, part: ndarray
) -> tuple[float, ndarray, ndarray]:
    """Return the chosen setting, and for each test image whether it is right and its class."""
    train, check, test = part == 0, part == 1, part == 2
    n_classes = int(label.max()) + 1
    right = [
        float((answer(features[train], label[train], features[check], setting, n_classes) == label[check]).mean())
        for setting in settings
    ]
    best = settings[int(np.argmax(right))]  # the first of equals
    answered = answer(features[~test], label[~test], features[test], best, n_classes)
    return best, answered == label[test], label[test]


def answer_knn(
    train_SE: Float32[ndarray, "S E"],
    label_S: Int[ndarray, "S"],  # noqa: F821
    query_QE: Float32[ndarray, "Q E"],
    setting: float,
    n_classes: int,
) -> Int[ndarray, "Q"]:  # noqa: F821
    """Answer with the majority class of the nearest unit vectors; the class with the nearer ones wins a tie.

    scikit-learn's classifier breaks ties by the lower class number instead.
    """
    n_near = min(int(setting), len(train_SE))
    answer_Q = np.empty(len(query_QE), np.int64)
    step = max(1, MAX_CELLS // max(len(train_SE), n_classes))
    for start in range(0, len(query_QE), step):
        cosine = query_QE[start : start + step] @ train_SE.T
        near = np.argpartition(-cosine, n_near - 1, axis=1)[:, :n_near]
        votes = np.zeros((len(cosine), n_classes))
        closeness = (np.take_along_axis(cosine, near, axis=1) + 1) / (2 * n_near + 1)  # sums to less than one vote
        rows = np.arange(len(cosine))[:, None]
        np.add.at(votes, (rows, label_S[near]), 1 + closeness / n_near)
        answer_Q[start : start + step] = votes.argmax(axis=1)
    return answer_Q


def answer_linear(
    train_SE: Float32[ndarray, "S E"],
    label_S: Int[ndarray, "S"],  # noqa: F821
    query_QE: Float32[ndarray, "Q E"],
    setting: float,
    n_classes: int,
) -> Int[ndarray, "Q"]:  # noqa: F821
    """Answer by multinomial logistic regression (scikit-learn, L-BFGS) with inverse penalty ``setting``."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    scale = np.sqrt(train_SE.shape[1], dtype=np.float32)  # components of unit vectors are far below one
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the protocol has 200 steps
        fitted = LogisticRegression(C=setting, max_iter=200).fit(train_SE * scale, label_S)
    return np.asarray(fitted.predict(query_QE * scale), np.int64)


def answer_ridge(
    train_SE: Float32[ndarray, "S E"],
    label_S: Int[ndarray, "S"],  # noqa: F821
    query_QE: Float32[ndarray, "Q E"],
    setting: float,
    n_classes: int,
) -> Int[ndarray, "Q"]:  # noqa: F821
    """Answer by ridge regression to one-hot labels with penalty ``setting``, with centred features and labels.

    The result is that of scikit-learn's Ridge. Ridge needs a dense table of one-hot labels, which takes 8 GB for
    100,000 images of 10,000 classes.
    """
    centre = train_SE.mean(axis=0, dtype=np.float64)
    features = train_SE - centre
    share = np.bincount(label_S, minlength=n_classes) / len(label_S)
    target_EK = np.zeros((features.shape[1], n_classes))
    for label in range(n_classes):
        target_EK[:, label] = features[label_S == label].sum(axis=0)
    gram = features.T @ features + setting * np.eye(features.shape[1])
    # The features are centred, so centring the one-hot labels would subtract zero.
    weights_EK = np.linalg.solve(gram, target_EK)
    return np.asarray(((query_QE - centre) @ weights_EK + share).argmax(axis=1))


_ANSWERS: Mapping[ProbeName, Classify] = {"knn": answer_knn, "linear": answer_linear, "ridge": answer_ridge}


@dataclass(frozen=True, kw_only=True)
class FewShotScore:
    """The accuracy over the folds for one number of shots."""

    n_shots: int
    fold_accuracy: tuple[float, ...]
    n_classes: int
    n_skipped: int
    """Number of classes with fewer than ``n_shots`` images, which are left out."""
    mean_by_class: float
    """The mean over classes, in each fold and then over the folds."""
    right_FN: Int8[ndarray, "F N"] = field(repr=False, compare=False)
    """For each fold and image: 1 right, 0 wrong, -1 not a query (support image, or class left out)."""

    @property
    def mean(self) -> float:
        return float(np.mean(self.fold_accuracy))

    @property
    def std(self) -> float:
        """Population standard deviation over the folds."""
        return float(np.std(self.fold_accuracy))


def score_few_shot(
    features_NE: Float[ndarray, "N E"],
    label_N: Int[ndarray, "N"],  # noqa: F821
    shots: Sequence[int],
) -> list[FewShotScore]:
    """Score SimpleShot with ``shots`` support images per class over five folds, and return accuracy over all queries.

    Features are unit vectors. Fold ``n`` seeds Python's generator with ``n`` and shuffles each class's list of images
    in turn; the first images are the support, the rest are queries. As in the published code, classes come in order of
    first appearance and lists are shuffled in place, so an order carries over to the next fold and the next number of
    shots.
    """
    members = _images_of_classes(label_N)
    scores = []
    for n_shots in shots:
        usable = [images for images in members if len(images) >= n_shots]
        folds = []
        for fold in range(N_FOLDS):
            rng = random.Random(fold)
            for images in usable:
                rng.shuffle(images)
            folds.append(_answer_fold(features_NE, usable, n_shots))
        scores.append(
            FewShotScore(
                n_shots=n_shots,
                fold_accuracy=tuple(_share_right(right_N) for right_N in folds),
                n_classes=len(usable),
                n_skipped=len(members) - len(usable),
                mean_by_class=float(np.mean([_share_of_classes(right_N, label_N) for right_N in folds])),
                right_FN=np.stack(folds),
            )
        )
    return scores


def _images_of_classes(label_N: Int[ndarray, "N"]) -> list[list[int]]:  # noqa: F821
    images: dict[int, list[int]] = {}
    for image, label in enumerate(label_N.tolist()):
        images.setdefault(label, []).append(image)
    return list(images.values())


def _answer_fold(features_NE: Float[ndarray, "N E"], members: list[list[int]], n_shots: int) -> Int8[ndarray, "N"]:  # noqa: F821
    """Return 1 for right queries, 0 for wrong queries, and -1 for images that are not queries."""
    right_N = np.full(len(features_NE), -1, np.int8)
    support = [image for images in members for image in images[:n_shots]]
    query = [image for images in members for image in images[n_shots:]]
    if query:
        label_S = np.repeat(np.arange(len(members)), n_shots)
        truth_Q = np.repeat(np.arange(len(members)), [len(images) - n_shots for images in members])
        answer_Q = simple_shot(features_NE[support], label_S, features_NE[query], len(members))
        right_N[query] = answer_Q == truth_Q
    return right_N


def _share_right(right_N: Int8[ndarray, "N"]) -> float:  # noqa: F821
    """Return the accuracy over the queries, or NaN if there are none."""
    asked = right_N >= 0
    return float((right_N[asked] == 1).mean()) if asked.any() else float("nan")


def _share_of_classes(right_N: Int8[ndarray, "N"], label_N: Int[ndarray, "N"]) -> float:  # noqa: F821
    asked = right_N >= 0
    return mean_of_classes(right_N[asked] == 1, label_N[asked]) if asked.any() else float("nan")


def simple_shot(
    support_SE: Float[ndarray, "S E"],
    label_S: Int[ndarray, "S"],  # noqa: F821
    query_QE: Float[ndarray, "Q E"],
    n_classes: int,
) -> Int[ndarray, "Q"]:  # noqa: F821
    """Return the class of each query by SimpleShot.

    Support and queries are centred on the support's mean and normalised. The answer is the class of the nearest
    centroid by Euclidean distance, or the first of equals; a centroid is a mean of normalised support that is not
    normalised again. Classes without support are never answered. The computation uses float64, so that near ties do not
    depend on the order of sums. Besides the inputs, it needs memory for the support and for one block of queries.

    Raises:
        ValueError: There is no support.
    """
    if not len(support_SE):
        raise ValueError("SimpleShot needs at least one support image")
    centre = support_SE.mean(axis=0, dtype=np.float64)
    centroids, counts = _centroids(_unit(support_SE - centre), label_S, n_classes)
    # |q - c|^2 = |q|^2 - 2 qc + |c|^2, and |q|^2 is the same for every class.
    half_square = np.where(counts > 0, (centroids**2).sum(axis=1) / 2, np.inf)
    answer_Q = np.empty(len(query_QE), np.int64)
    step = max(1, MAX_CELLS // max(n_classes, support_SE.shape[1]))
    for start in range(0, len(query_QE), step):
        closeness = _unit(query_QE[start : start + step] - centre) @ centroids.T
        closeness -= half_square
        answer_Q[start : start + step] = closeness.argmax(axis=1)
    return answer_Q


def _centroids(
    support_SE: Float64[ndarray, "S E"],
    label_S: Int[ndarray, "S"],  # noqa: F821
    n_classes: int,
) -> tuple[Float64[ndarray, "K E"], Int[ndarray, "K"]]:  # noqa: F821
    """Return the mean of each class's support (zero without support) and the number of its images."""
    counts = np.bincount(label_S, minlength=n_classes)
    order = np.argsort(label_S, kind="stable")
    there = np.flatnonzero(counts)
    centroids = np.zeros((n_classes, support_SE.shape[1]))
    starts = (np.cumsum(counts) - counts)[there]
    centroids[there] = np.add.reduceat(support_SE[order], starts, axis=0) / counts[there, None]
    return centroids, counts


def _unit(vectors: Float64[ndarray, "N E"]) -> Float64[ndarray, "N E"]:
    norms = np.sqrt(np.einsum("ne,ne->n", vectors, vectors))
    vectors /= np.maximum(norms, 1e-12)[:, None]
    return vectors
