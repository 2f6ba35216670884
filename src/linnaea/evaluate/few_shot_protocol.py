"""BioCLIP's few-shot protocol (arXiv 2311.18803, section 4.3), its published code's random numbers included."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int, Int8
from numpy import ndarray

from linnaea.predict.few_shot import simple_shot

N_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class FewShotScore:
    """Accuracy over the folds for one number of shots."""

    n_shots: int
    fold_accuracy: tuple[float, ...]
    n_classes: int
    n_skipped: int
    """Classes with fewer than ``n_shots`` images, left out."""
    right_FN: Int8[ndarray, "F N"] = field(repr=False, compare=False)
    """For each fold and image: 1 right, 0 wrong, -1 no query (support, or of a class that is left out)."""

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
    """SimpleShot with ``shots`` support images per class, five folds, accuracy over all queries.

    Fold ``n`` seeds Python's generator with ``n`` and shuffles each class's list of images in turn; the first
    ones are the support, the rest the queries. As in the published code the classes come in the order in which
    they first appear, and the lists are shuffled in place, so an order carries over to the next fold and the next
    number of shots. Features are unit vectors.
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
    """1 for queries that are answered right, 0 for wrong ones, -1 for what is no query."""
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
    """Accuracy over the queries; NaN where there is none."""
    asked = right_N >= 0
    return float((right_N[asked] == 1).mean()) if asked.any() else float("nan")
