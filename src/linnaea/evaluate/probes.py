"""What a simple classifier gets out of frozen features: k-NN, linear probe, ridge; regularisation by validation.

Three seeded splits of every class into train, validation and test (60, 20 and 20 in a hundred, at least one image in
each). The setting that is best on validation is fitted again on train and validation, and scored on test once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float, Float32, Int
from numpy import ndarray

ProbeName: TypeAlias = Literal["knn", "linear", "ridge"]
PROBES: tuple[ProbeName, ...] = get_args(ProbeName)
SETTINGS: Mapping[ProbeName, tuple[float, ...]] = {
    "knn": (1.0, 3.0, 5.0, 10.0, 20.0),
    "linear": (0.1, 1.0, 10.0, 100.0),
    "ridge": (0.001, 0.01, 0.1, 1.0, 10.0),
}
"""What validation chooses from: neighbours; C of logistic regression; the weight of ridge's penalty."""
N_SPLITS = 3
MIN_IMAGES = 3
"""Classes with fewer images cannot be in all three parts and are left out."""
MAX_CELLS = 4_000_000

Answer: TypeAlias = Callable[[ndarray, ndarray, ndarray, float, int], ndarray]


@dataclass(frozen=True, kw_only=True)
class ProbeScore:
    """Accuracy on the test parts of the splits."""

    probe: ProbeName
    accuracy: tuple[float, ...]
    chosen: tuple[float, ...]
    """The setting that validation chose, per split."""
    n_classes: int
    n_skipped: int
    """Classes with fewer than three images."""

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
    on_progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> list[ProbeScore]:
    """Score unit vectors with each of ``probes``; empty where fewer than two classes have three images."""
    labels, place = np.unique(label_N, return_inverse=True)
    enough = np.bincount(place, minlength=len(labels)) >= MIN_IMAGES
    kept = enough[place]
    if enough.sum() < 2:
        return []
    features = np.asarray(features_NE[kept], np.float32)
    _, label = np.unique(place[kept], return_inverse=True)
    scores, done = [], 0
    for probe in probes:
        accuracy, chosen = [], []
        for seed in range(N_SPLITS):
            setting, right = _score_split(_ANSWERS[probe], SETTINGS[probe], features, label, seed)
            accuracy.append(right)
            chosen.append(setting)
            done += 1
            on_progress(done, len(probes) * N_SPLITS)
        scores.append(
            ProbeScore(
                probe=probe,
                accuracy=tuple(accuracy),
                chosen=tuple(chosen),
                n_classes=int(enough.sum()),
                n_skipped=int((~enough).sum()),
            )
        )
    return scores


def split_classes(label_N: Int[ndarray, "N"], seed: int) -> Int[ndarray, "N"]:  # noqa: F821
    """0 train, 1 validation, 2 test for each image: every class in the shares 60, 20, 20, in a seeded order."""
    rng = np.random.default_rng(seed)
    part_N = np.zeros(len(label_N), np.int64)
    for label in np.unique(label_N):
        images = rng.permutation(np.flatnonzero(label_N == label))
        n_fifth = max(1, round(len(images) / 5))
        part_N[images[:n_fifth]] = 2
        part_N[images[n_fifth : 2 * n_fifth]] = 1
    return part_N


def _score_split(
    answer: Answer, settings: Sequence[float], features: ndarray, label: ndarray, seed: int
) -> tuple[float, float]:
    part = split_classes(label, seed)
    train, check, test = part == 0, part == 1, part == 2
    n_classes = int(label.max()) + 1
    right = [
        float((answer(features[train], label[train], features[check], setting, n_classes) == label[check]).mean())
        for setting in settings
    ]
    best = settings[int(np.argmax(right))]  # of equal ones the first
    answered = answer(features[~test], label[~test], features[test], best, n_classes)
    return best, float((answered == label[test]).mean())


def answer_knn(
    train_SE: Float32[ndarray, "S E"],
    label_S: Int[ndarray, "S"],  # noqa: F821
    query_QE: Float32[ndarray, "Q E"],
    setting: float,
    n_classes: int,
) -> Int[ndarray, "Q"]:  # noqa: F821
    """Majority of the nearest unit vectors; of equally many votes the class with the nearer ones."""
    n_near = min(int(setting), len(train_SE))
    answer_Q = np.empty(len(query_QE), np.int64)
    step = max(1, MAX_CELLS // max(len(train_SE), n_classes))
    for start in range(0, len(query_QE), step):
        cosine = query_QE[start : start + step] @ train_SE.T
        near = np.argpartition(-cosine, n_near - 1, axis=1)[:, :n_near]
        votes = np.zeros((len(cosine), n_classes))
        closeness = (np.take_along_axis(cosine, near, axis=1) + 1) / (2 * n_near + 1)  # all together below one vote
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
    """Multinomial logistic regression (scikit-learn, L-BFGS) with inverse penalty ``setting``."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    scale = np.sqrt(train_SE.shape[1], dtype=np.float32)  # unit vectors have components far below one
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 200 steps are the protocol
        fitted = LogisticRegression(C=setting, max_iter=200).fit(train_SE * scale, label_S)
    return np.asarray(fitted.predict(query_QE * scale), np.int64)


def answer_ridge(
    train_SE: Float32[ndarray, "S E"],
    label_S: Int[ndarray, "S"],  # noqa: F821
    query_QE: Float32[ndarray, "Q E"],
    setting: float,
    n_classes: int,
) -> Int[ndarray, "Q"]:  # noqa: F821
    """Least squares to one-hot labels with penalty ``setting``, features and labels centred."""
    centre = train_SE.mean(axis=0, dtype=np.float64)
    features = train_SE - centre
    share = np.bincount(label_S, minlength=n_classes) / len(label_S)
    target_EK = np.zeros((features.shape[1], n_classes))
    for label in range(n_classes):
        target_EK[:, label] = features[label_S == label].sum(axis=0)
    gram = features.T @ features + setting * np.eye(features.shape[1])
    # Features are centred, so what centring the one-hot labels would subtract is zero.
    weights_EK = np.linalg.solve(gram, target_EK)
    return np.asarray(((query_QE - centre) @ weights_EK + share).argmax(axis=1))


_ANSWERS: Mapping[ProbeName, Answer] = {"knn": answer_knn, "linear": answer_linear, "ridge": answer_ridge}
