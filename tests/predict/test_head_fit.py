"""The fit of a head: the closed form is right, and validation is honest."""

import numpy as np
import pytest

from linnaea.predict import head_fit
from linnaea.predict.head_fit import fit_head


def unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def make_photographs(n_classes: int, n_each: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    centres = unit(random.normal(size=(n_classes, 24)))
    labels = np.repeat(np.arange(n_classes), n_each)
    return unit(centres[labels] + noise * random.normal(size=(len(labels), 24))), labels


def test_ridge_minimises_what_it_says() -> None:
    """Against gradient descent on the sum over classes of mean squared errors plus the penalty."""
    images, labels = make_photographs(4, 5, 0.2)
    images, labels = images[:-3], labels[:-3]  # classes of unequal size
    weights = head_fit._ridge(images, labels, 4, 0.1).astype(np.float64)
    x, counts = images.astype(np.float64), np.bincount(labels)
    w = 1 / counts[labels]
    penalty = 0.1 * np.trace((x * w[:, None]).T @ x) / x.shape[1]
    residual = x @ weights.T - np.eye(4)[labels]
    gradient = (residual * w[:, None]).T @ x + penalty * weights
    assert np.abs(gradient).max() < 1e-6


def test_where_names_say_nothing_the_head_decides() -> None:
    images, labels = make_photographs(6, 10, 0.15)
    text = unit(np.random.default_rng(9).normal(size=(6, 24)))
    fitted = fit_head(images, labels, text, 50.0)
    right = (fitted.best.answers == labels).mean()
    assert right > 0.95
    assert (fitted.zero_shot.answers == labels).mean() < 0.6
    assert fitted.best.choice.mix >= 0.5
    new, new_labels = make_photographs(6, 40, 0.15)
    answers = (50.0 * new @ fitted.weights_KE.T).argmax(axis=1)
    assert (answers == new_labels).mean() > 0.95, "the weights are those of a bank"


def test_a_few_photographs_are_no_reason_for_certainty() -> None:
    """All are answered rightly in validation, at any temperature; the answers are not therefore 100% sure."""
    sure = []
    for n_each in (4, 40):
        images, labels = make_photographs(6, n_each, 0.05)
        text = unit(np.random.default_rng(9).normal(size=(6, 24)))
        fitted = fit_head(images, labels, text, 50.0)
        assert (fitted.best.answers == labels).all()
        new, _ = make_photographs(6, 40, 0.05)
        logits = 50.0 * new @ fitted.weights_KE.T
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        sure.append(float((exponents.max(axis=1) / exponents.sum(axis=1)).mean()))
    assert 0.8 < sure[0] < 0.99
    assert sure[0] < sure[1] < 0.9999


def test_where_photographs_are_noise_names_decide() -> None:
    images, labels = make_photographs(5, 3, 0.02)
    text = np.stack([images[labels == n].mean(axis=0) for n in range(5)])
    wrong = np.random.default_rng(1).permutation(labels)
    fitted = fit_head(images, wrong, unit(text), 30.0)
    honest = fit_head(images, labels, unit(text), 30.0)
    assert honest.best.nll < fitted.best.nll
    assert (honest.zero_shot.answers == labels).all()
    random = np.random.default_rng(0)
    noise = unit(random.normal(size=(60, 24)))
    labels = random.integers(0, 5, 60)
    fitted = fit_head(noise, labels, unit(text), 1.0)
    assert fitted.best.nll <= np.log(5) + 0.05, "no worse than knowing nothing"


def test_blend_is_never_worse_in_validation_than_its_parts() -> None:
    images, labels = make_photographs(6, 4, 0.4)
    text = unit(np.stack([images[labels == n].mean(axis=0) for n in range(6)]) + 0.3)
    fitted = fit_head(images, labels, text, 20.0)
    assert fitted.best.nll <= min(fitted.zero_shot.nll, fitted.head.nll)


def test_a_group_is_never_split_and_single_photographs_are_not_validated() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    groups = ["a", "a", "a", "", "", ""]
    folds = head_fit._folds(labels, groups)
    assert len(set(folds[:3].tolist())) == 1
    assert folds[3] != folds[4]
    assert head_fit._seen_elsewhere(folds, labels).tolist() == [False, False, False, True, True, False]
    with pytest.raises(ValueError, match="validation needs"):
        fit_head(unit(np.eye(3)), np.arange(3), unit(np.eye(3)), 10.0)
