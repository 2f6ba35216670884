"""Move a label bank's vectors towards reviewed photographs: logistic regression whose prior is the bank itself.

Most labels have no reviewed photograph, so the fit starts from the vectors that the bank has and moves them as little
as the photographs ask for (a Gaussian prior around the zero-shot weights; L2-SP, arXiv 1802.01483). Vectors move only
in directions in which the reviewed photographs differ from one another: what all of them share, such as the camera, is
no evidence for a species. A review of a genus asks for any of its species. Photographs of one event count as one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.predict.labels import LabelBank, to_float32

PENALTIES = (0.02, 0.06, 0.2, 0.6, 2.0, np.inf)
"""Strengths of the prior to try, in units of the squared logit scale; infinity leaves the bank as it is."""
N_FOLDS, N_INNER = 5, 3
N_STEPS = 80
NEAREST = 20
"""The number of likeliest labels of each photograph whose vectors may move."""
AT_ONCE = 64
"""The number of photographs that are compared with all labels at once."""
_UNLIKELY = np.float32(-1e9)


@dataclass(frozen=True, kw_only=True)
class Task:
    """Reviewed photographs, and their logits before anything is learned."""

    bank: LabelBank
    scale: float
    active_A: Int64[ndarray, " A"]
    """The rows of the bank whose vectors may move."""
    logit_NA: Float32[ndarray, "N A"]
    rest_N: Float32[ndarray, " N"]
    """The log-sum-exp of the logits of all other labels, which stay."""
    best_rest_N: Float32[ndarray, " N"]
    """The largest of them."""
    target_NA: NDArray[np.bool_]
    """The labels that a reviewer's name allows."""
    image_NE: Float32[ndarray, "N E"]
    """The photographs without the direction that they share."""
    event_N: Int64[ndarray, " N"]
    weight_N: Float32[ndarray, " N"]


@dataclass(frozen=True, kw_only=True)
class Learned:
    """The learned vectors, and their score on photographs of events that they were not learned from."""

    vectors_AE: Float32[ndarray, "A E"]
    """The vectors of the active rows."""
    penalty: float
    """The chosen strength; infinite if no strength was better than the vectors as they were."""
    right_before_N: NDArray[np.bool_]
    right_after_N: NDArray[np.bool_]
    nll_before: float
    """Mean negative log-probability of the reviewed name."""
    nll_after: float


def make_task(
    image_NE: Float32[ndarray, "N E"], range_N2: Int64[ndarray, "N 2"], events: Sequence[str], bank: LabelBank,
    scale: float, log_factor_K: Float32[ndarray, " K"],
) -> Task:  # fmt: skip
    """Return the task of photographs whose labels are the rows from the first to before the second of each range.

    ``log_factor_K`` is added to the logits, such as that of labels that the model was not trained on.
    """
    blocks = [slice(start, start + AT_ONCE) for start in range(0, len(image_NE), AT_ONCE)]
    base_KE = to_float32(np.asarray(bank.vectors))

    def logits(rows: slice) -> NDArray[np.float32]:
        return np.asarray(scale * (image_NE[rows] @ base_KE.T) + log_factor_K, np.float32)

    nearest = min(NEAREST, len(bank))
    likely = [np.argpartition(logits(rows), -nearest, axis=1)[:, -nearest:].ravel() for rows in blocks]
    truths = [np.arange(first, min(last, first + NEAREST * 50)) for first, last in range_N2]
    active = np.unique(np.concatenate([*likely, *truths])).astype(np.int64)
    parts = [_split(logits(rows), active) for rows in blocks]
    shared = image_NE.mean(axis=0)
    shared = shared / max(float(np.linalg.norm(shared)), 1e-9)
    _, event_N, counts = np.unique(np.array(events), return_inverse=True, return_counts=True)
    return Task(
        bank=bank, scale=scale, active_A=active,
        logit_NA=np.concatenate([part[0] for part in parts]), rest_N=np.concatenate([part[1] for part in parts]),
        best_rest_N=np.concatenate([part[2] for part in parts]),
        target_NA=(active >= range_N2[:, :1]) & (active < range_N2[:, 1:]),
        image_NE=np.asarray(image_NE - np.outer(image_NE @ shared, shared), np.float32),
        event_N=event_N.astype(np.int64), weight_N=np.asarray(1 / counts[event_N], np.float32),
    )  # fmt: skip


def _split(logit_BK: NDArray[np.float32], active: NDArray[np.int64]) -> tuple[NDArray[np.float32], ...]:
    """Return the logits of the active rows, and the log-sum-exp and the maximum of the others."""
    kept = logit_BK[:, active].copy()
    logit_BK[:, active] = _UNLIKELY
    return kept, _log_sum(logit_BK), logit_BK.max(axis=1)


def _log_sum(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    top = logits.max(axis=1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)), np.float32)


def learn(task: Task, on_fit: Callable[[int, int], None] = lambda done, total: None) -> Learned:
    """Choose the strength of the prior and learn from all photographs; measure on events that were held out.

    The measure is nested: the strength for each fifth of the events is chosen on the other four.
    """
    n, folds = len(task.logit_NA), list(folds_of_events(task.event_N, N_FOLDS))
    logits = task.logit_NA.copy()
    for done, held in enumerate(folds):
        rest = np.setdiff1d(np.arange(n), held)
        penalty = _choose(task, rest)
        logits[held] = _predict(task, rest, held, penalty)
        on_fit(done + 1, len(folds) + 1)
    every = np.arange(n)
    penalty = _choose(task, every)
    moved = _move(task, every, _fit(task, every, penalty)) if np.isfinite(penalty) else None
    vectors = to_float32(np.asarray(task.bank.vectors[task.active_A]))
    return Learned(
        vectors_AE=vectors if moved is None else vectors + moved, penalty=penalty,
        right_before_N=_is_right(task, task.logit_NA), right_after_N=_is_right(task, logits),
        nll_before=_nll(task, task.logit_NA, every), nll_after=_nll(task, logits, every),
    )  # fmt: skip


def folds_of_events(event_N: NDArray[np.int64], n_folds: int) -> Iterator[NDArray[np.int64]]:
    """Yield the photographs of each fold; those of one event are in one."""
    events = np.random.default_rng(0).permutation(np.unique(event_N))
    for part in np.array_split(events, min(n_folds, len(events))):
        yield np.flatnonzero(np.isin(event_N, part))


def _choose(task: Task, rows: NDArray[np.int64]) -> float:
    """Return the strength with the least loss on events of ``rows`` that it was not fitted to."""
    losses = dict.fromkeys(PENALTIES, 0.0)
    for held in folds_of_events(task.event_N[rows], N_INNER):
        out = rows[held]
        rest = np.setdiff1d(rows, out)
        for penalty in PENALTIES:
            losses[penalty] += _nll(task, _predict(task, rest, out, penalty), out) * len(out)
    return min(PENALTIES, key=lambda penalty: losses[penalty])


def _predict(task: Task, rows: NDArray[np.int64], out: NDArray[np.int64], penalty: float) -> NDArray[np.float32]:
    """Return the logits of photographs ``out`` after learning from ``rows``."""
    if not np.isfinite(penalty) or not len(rows):
        return task.logit_NA[out]
    moved_AE = _move(task, rows, _fit(task, rows, penalty))
    return np.asarray(task.logit_NA[out] + task.scale * task.image_NE[out] @ moved_AE.T, np.float32)


def _fit(task: Task, rows: NDArray[np.int64], penalty: float) -> NDArray[np.float32]:
    """Return how much each photograph moves each label, by accelerated gradient descent (Nesterov 1983).

    The loss is convex where each photograph allows one label. The movement of a label is a sum of photographs.
    """
    x, z, weight = task.image_NE[rows], task.logit_NA[rows], task.weight_N[rows, None]
    strength = penalty * task.scale**2
    largest = float(np.linalg.norm(x, 2)) ** 2
    rate = 1 / (task.scale**2 * largest / 2 + strength)
    ahead = coefficient = np.zeros_like(z)  # the gradient is taken ahead of the coefficients, where they are going
    for step in range(N_STEPS):
        logits = z + task.scale * (x @ (x.T @ ahead))
        pull = weight * _residual(logits, task.rest_N[rows], task.target_NA[rows])
        before, coefficient = coefficient, ahead - rate * (task.scale * pull + strength * ahead)
        ahead = coefficient + step / (step + 3) * (coefficient - before)
    return coefficient


def _residual(logits: NDArray[np.float32], rest: NDArray[np.float32], target: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the gradient of the loss by the logits: the probabilities less those among the allowed labels."""
    top = np.maximum(logits.max(axis=1), rest)[:, None]
    raised = np.exp(logits - top)
    allowed = np.where(target, raised, 0)
    whole = raised.sum(axis=1, keepdims=True) + np.exp(rest[:, None] - top)
    return np.asarray(raised / whole - allowed / np.maximum(allowed.sum(axis=1, keepdims=True), 1e-30), np.float32)


def _move(task: Task, rows: NDArray[np.int64], coefficient: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the change of each label's vector, from how much each photograph moves it (:func:`_fit`)."""
    return np.asarray(coefficient.T @ task.image_NE[rows], np.float32)


def _nll(task: Task, logits: NDArray[Any], rows: NDArray[np.int64]) -> float:
    """Return the mean negative log-probability of the reviewed names; every event weighs the same."""
    allowed = _log_sum(np.where(task.target_NA[rows], logits, _UNLIKELY).astype(np.float32))
    whole = np.logaddexp(_log_sum(np.asarray(logits, np.float32)), task.rest_N[rows])
    return float(np.average(whole - allowed, weights=task.weight_N[rows]))


def _is_right(task: Task, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell for each photograph whether its likeliest label, of all labels, is one of its own."""
    best = logits.argmax(axis=1)
    rows = np.arange(len(logits))
    return np.asarray(task.target_NA[rows, best] & (logits[rows, best] >= task.best_rest_N))
