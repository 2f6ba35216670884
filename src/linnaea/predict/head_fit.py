"""Fit a linear head to labelled vectors, blended with the model's zero-shot vectors.

The head has no intercept, like a label bank: one row of weights per class. The weights come from ridge regression of
one-hot targets on unit vectors (closed form), scaled by one temperature and mixed with the text vectors. As in WiSE-FT
(arXiv 2109.01903, section 3), the mixture of zero-shot and fitted weights is linear; cross-validation chooses the
shares.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int
from numpy import ndarray

RIDGES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Penalty strengths to try, relative to the mean squared singular value of the support."""
MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the fitted head to try; 0 is zero-shot alone."""
SCALES = tuple(2.0**power for power in range(-1, 9))
"""Scales of the fitted head's scores (inverse temperatures) to try."""
N_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A ridge, a mixture and a scale: the settings of a head."""

    ridge: float
    scale: float
    mix: float


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The result of a choice on photographs that it was not fitted to."""

    choice: Choice
    nll: float
    """Mean negative log-probability of the true class. One in n + 2 of the n answers is assumed to be wrong (Laplace's
    rule of succession), so that a few correct answers do not count as certainty; a burst is one answer."""
    answers: Int[ndarray, " N"]
    """The answered class of each validated photograph; -1 for the others."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Weights for all classes, with their validation."""

    weights_KE: Float32[ndarray, "K E"]
    """To be multiplied by the model's logit scale, like the vectors of a bank."""
    best: Validation
    zero_shot: Validation
    head: Validation
    """The best choice without zero-shot."""


def fit_head(
    image_NE: Float32[ndarray, "N E"],
    label_N: Int[ndarray, " N"],
    text_KE: Float32[ndarray, "K E"],
    logit_scale: float,
    group_N: Sequence[str] | None = None,
) -> Fitted:
    """Choose ridge, scale and mixture by cross-validation (lowest NLL), then fit to all photographs.

    Photographs of one group (a burst, an individual, an observation) stay in one fold. A class whose photographs are
    all in one fold is not validated, since the fit of that fold has not seen the class.

    Raises:
        ValueError: no class has photographs in two folds.
    """
    folds = _folds(label_N, group_N)
    validated = _seen_elsewhere(folds, label_N)
    if not validated.any():
        raise ValueError("validation needs a class with at least two photographs that are not of one burst; add some")
    n_groups = len(label_N) if group_N is None else len({g or n for n, g in enumerate(group_N)})
    dealt = _Dealt(fold_N=folds, validated_N=validated, n_groups=n_groups)
    results = list(_iter_validations(image_NE, label_N, text_KE, logit_scale, dealt))
    best = min(results, key=lambda result: result.nll)
    return Fitted(
        weights_KE=_mix(text_KE, _ridge(image_NE, label_N, len(text_KE), best.choice.ridge), best.choice, logit_scale),
        best=best,
        zero_shot=next(result for result in results if result.choice.mix == 0),
        head=min((result for result in results if result.choice.mix == 1), key=lambda result: result.nll),
    )


@dataclass(frozen=True, kw_only=True)
class _Dealt:
    """The folds of a cross-validation."""

    fold_N: Int[ndarray, " N"]
    validated_N: ndarray
    """True for each photograph whose class has a photograph in another fold."""
    n_groups: int


def _folds(label_N: Int[ndarray, " N"], group_N: Sequence[str] | None) -> Int[ndarray, " N"]:
    """Return the fold of each photograph; the groups of a class are dealt to the folds in turn."""
    groups = list(range(len(label_N))) if group_N is None else [g or n for n, g in enumerate(group_N)]
    fold_of: dict[Any, int] = {}
    n_of_class: dict[int, int] = {}
    for label, group in zip(label_N.tolist(), groups, strict=True):
        if group not in fold_of:
            fold_of[group] = (n_of_class.get(label, label) + 1) % N_FOLDS
            n_of_class[label] = n_of_class.get(label, label) + 1
    return np.array([fold_of[group] for group in groups], np.int64)


def _seen_elsewhere(fold_N: Int[ndarray, " N"], label_N: Int[ndarray, " N"]) -> ndarray:
    """Tell for each photograph whether its class has a photograph in another fold."""
    folds_of: dict[int, set[int]] = {}
    for label, fold in zip(label_N.tolist(), fold_N.tolist(), strict=True):
        folds_of.setdefault(label, set()).add(fold)
    return np.array([len(folds_of[label]) > 1 for label in label_N.tolist()], bool)


def _iter_validations(
    image_NE: Float32[ndarray, "N E"],
    label_N: Int[ndarray, " N"],
    text_KE: Float32[ndarray, "K E"],
    logit_scale: float,
    dealt: "_Dealt",
) -> Iterator[Validation]:
    """Yield the validation of every choice over all folds; products are computed once per ridge."""
    zero_NK, validated = logit_scale * image_NE @ text_KE.T, dealt.validated_N
    for ridge in RIDGES:
        fitted_NK = np.zeros_like(zero_NK)
        for fold in np.unique(dealt.fold_N):
            held = dealt.fold_N == fold
            head_KE = _ridge(image_NE[~held], label_N[~held], len(text_KE), ridge)
            fitted_NK[held] = image_NE[held] @ head_KE.T
        for mix in MIXES:
            for scale in SCALES if mix else SCALES[:1]:
                logits_NK = (1 - mix) * zero_NK + mix * scale * fitted_NK
                nll = float(_nll(logits_NK[validated], label_N[validated], dealt.n_groups).mean())
                answers = np.where(validated, logits_NK.argmax(axis=1), -1)
                yield Validation(choice=Choice(ridge=ridge, scale=scale, mix=mix), nll=nll, answers=answers)


def _nll(logits_NK: Float[ndarray, "N K"], label_N: Int[ndarray, " N"], n_groups: int) -> Float[ndarray, " N"]:
    """Return the loss that :class:`Validation` describes; a wrong answer may be any class."""
    top = logits_NK.max(axis=1)
    log_sum = top + np.log(np.exp(logits_NK - top[:, None]).sum(axis=1))
    wrong = 1 / (n_groups + 2)
    truth = logits_NK[np.arange(len(label_N)), label_N]
    return np.asarray(log_sum - (1 - wrong) * truth - wrong * logits_NK.mean(axis=1))


def _ridge(
    image_NE: Float32[ndarray, "N E"], label_N: Int[ndarray, " N"], n_classes: int, ridge: float
) -> Float32[ndarray, "K E"]:
    """Return the weights of one-hot targets, with equal weight for each class; zero for a class without photographs."""
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
