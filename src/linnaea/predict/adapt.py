"""A head for one's own classes from one's own photographs, blended with what the names say (zero-shot).

The head is linear and has no intercept, as a label bank is: a row of weights per class, so that what comes out is a
:class:`linnaea.predict.labels.LabelBank` that every command takes under ``--labels``. Ridge regression of one-hot
targets on unit vectors (closed form), scaled by one temperature, mixed with the text's vectors: as in WiSE-FT (arXiv
2109.01903, section 3) the mixture of zero-shot and fitted weights is linear; validation decides how much of each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int
from numpy import ndarray

RIDGES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Strengths of the penalty that are tried, relative to the mean squared singular value of the support."""
MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the fitted head that are tried; 0 is zero-shot alone."""
SCALES = tuple(2.0**power for power in range(-1, 9))
"""Temperatures of the fitted head that are tried: what its scores are multiplied by."""
N_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One way to make the head."""

    ridge: float
    scale: float
    mix: float


@dataclass(frozen=True, kw_only=True)
class Validation:
    """How good a choice was on photographs that were not fitted."""

    choice: Choice
    nll: float
    """Mean negative logarithm of the probability of the truth, where one in n + 2 of the n names is reckoned wrong
    (Laplace's rule of succession): a few photographs that are all answered rightly are no reason for certainty."""
    answers: Int[ndarray, " N"]
    """The class answered for each photograph that was validated, -1 for the others."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Weights for all classes, and what validation says of them."""

    weights_KE: Float32[ndarray, "K E"]
    """To be multiplied by the model's logit scale, as the vectors of a bank are."""
    best: Validation
    zero_shot: Validation
    head: Validation
    """The best without any zero-shot."""


def fit_head(
    image_NE: Float32[ndarray, "N E"],
    label_N: Int[ndarray, " N"],
    text_KE: Float32[ndarray, "K E"],
    logit_scale: float,
    group_N: Sequence[str] | None = None,
) -> Fitted:
    """Choose ridge, temperature and mixture by cross-validation (least NLL), then fit on everything.

    Photographs of a group (an individual, an observation) stay in one fold. A class whose photographs are all in one
    fold is not validated: its photographs would be answered without having been seen.

    Raises:
        ValueError: no class has photographs in two folds.
    """
    folds = _folds(label_N, group_N)
    validated = _seen_elsewhere(folds, label_N)
    if not validated.any():
        raise ValueError(
            "validation needs a class with at least two photographs (of two groups, where there are groups)"
        )
    results = list(_iter_validations(image_NE, label_N, text_KE, logit_scale, folds, validated))
    best = min(results, key=lambda result: result.nll)
    return Fitted(
        weights_KE=_mix(text_KE, _ridge(image_NE, label_N, len(text_KE), best.choice.ridge), best.choice, logit_scale),
        best=best,
        zero_shot=next(result for result in results if result.choice.mix == 0),
        head=min((result for result in results if result.choice.mix == 1), key=lambda result: result.nll),
    )


def _folds(label_N: Int[ndarray, " N"], group_N: Sequence[str] | None) -> Int[ndarray, " N"]:
    """The fold of each photograph: the groups of a class go round the folds."""
    groups = list(range(len(label_N))) if group_N is None else [g or n for n, g in enumerate(group_N)]
    fold_of: dict[Any, int] = {}
    n_of_class: dict[int, int] = {}
    for label, group in zip(label_N.tolist(), groups, strict=True):
        if group not in fold_of:
            fold_of[group] = (n_of_class.get(label, label) + 1) % N_FOLDS
            n_of_class[label] = n_of_class.get(label, label) + 1
    return np.array([fold_of[group] for group in groups], np.int64)


def _seen_elsewhere(fold_N: Int[ndarray, " N"], label_N: Int[ndarray, " N"]) -> ndarray:
    """Whether a photograph's class has one in another fold."""
    folds_of: dict[int, set[int]] = {}
    for label, fold in zip(label_N.tolist(), fold_N.tolist(), strict=True):
        folds_of.setdefault(label, set()).add(fold)
    return np.array([len(folds_of[label]) > 1 for label in label_N.tolist()], bool)


def _iter_validations(
    image_NE: Float32[ndarray, "N E"],
    label_N: Int[ndarray, " N"],
    text_KE: Float32[ndarray, "K E"],
    logit_scale: float,
    fold_N: Int[ndarray, " N"],
    validated_N: ndarray,
) -> Iterator[Validation]:
    """Every choice on every fold; the products are taken once per ridge."""
    zero_NK = logit_scale * image_NE @ text_KE.T
    for ridge in RIDGES:
        fitted_NK = np.zeros_like(zero_NK)
        for fold in np.unique(fold_N):
            held = fold_N == fold
            head_KE = _ridge(image_NE[~held], label_N[~held], len(text_KE), ridge)
            fitted_NK[held] = image_NE[held] @ head_KE.T
        for mix in MIXES:
            for scale in SCALES if mix else SCALES[:1]:
                logits_NK = (1 - mix) * zero_NK + mix * scale * fitted_NK
                nll = float(_nll(logits_NK[validated_N], label_N[validated_N]).mean())
                answers = np.where(validated_N, logits_NK.argmax(axis=1), -1)
                yield Validation(choice=Choice(ridge=ridge, scale=scale, mix=mix), nll=nll, answers=answers)


def _nll(logits_NK: Float[ndarray, "N K"], label_N: Int[ndarray, " N"]) -> Float[ndarray, " N"]:
    """See :class:`Validation`; a wrong name may be that of any class."""
    top = logits_NK.max(axis=1)
    log_sum = top + np.log(np.exp(logits_NK - top[:, None]).sum(axis=1))
    wrong = 1 / (len(label_N) + 2)
    truth = logits_NK[np.arange(len(label_N)), label_N]
    return np.asarray(log_sum - (1 - wrong) * truth - wrong * logits_NK.mean(axis=1))


def _ridge(
    image_NE: Float32[ndarray, "N E"], label_N: Int[ndarray, " N"], n_classes: int, ridge: float
) -> Float32[ndarray, "K E"]:
    """Weights of one-hot targets, each class weighing the same; zero for a class without photographs."""
    if not len(image_NE):
        return np.zeros((n_classes, image_NE.shape[1]), np.float32)
    counts = np.bincount(label_N, minlength=n_classes)
    weight_N = 1.0 / counts[label_N]
    x = image_NE.astype(np.float64)
    gram = (x * weight_N[:, None]).T @ x
    penalty = ridge * np.trace(gram) / len(gram)
    targets = np.zeros((n_classes, x.shape[1]))
    np.add.at(targets, label_N, x * weight_N[:, None])
    return np.linalg.solve(gram + penalty * np.eye(len(gram)), targets.T).T.astype(np.float32)


def _mix(
    text_KE: Float32[ndarray, "K E"], head_KE: Float32[ndarray, "K E"], choice: Choice, logit_scale: float
) -> Float32[ndarray, "K E"]:
    mixed = (1 - choice.mix) * text_KE + choice.mix * choice.scale / logit_scale * head_KE
    return np.asarray(mixed, np.float32)
