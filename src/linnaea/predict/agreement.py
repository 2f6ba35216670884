"""Let the photographs of one event agree: their evidence is added, and near copies do not count twice."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.predict.inputs import Input
from linnaea.predict.predictor import Answer, Encoded, Predictor, answer_encoded

LEAST_PROBABILITY = 1e-12
"""The least probability whose logarithm is taken."""


def answer_events(predictor: Predictor, inputs: Iterable[Input]) -> Iterator[Answer]:
    """Yield an answer per input; those of one event agree.

    Inputs of one event follow one another; an input without an event stands alone. Photographs that show no organism,
    and those that cannot be read, keep their own answer.
    """
    together = partial(agree, predictor)
    event: list[Encoded] = []
    for one, vector in predictor.encode(inputs):
        if event and not (one.event and one.event == event[-1][0].event):
            yield from answer_encoded(event, together)
            event = []
        event.append((one, vector))
    yield from answer_encoded(event, together)


def agree(predictor: Predictor, inputs: list[Input], vectors: list[NDArray[np.float32]]) -> Iterator[Answer]:
    """Yield the answers of the photographs of one event, which have the same probabilities and are trusted alike.

    The logarithms of the probabilities of photographs that show an organism of the labels are added, as for
    independent observations with equal prior chances. The sum is divided by the design effect 1 + (n - 1) r (Kish,
    "Survey Sampling", 1965), where r is the mean cosine of the photographs' vectors. Copies of one photograph together
    count as one.
    """
    if len(inputs) < 2:
        yield from predictor.answer_vectors(inputs, vectors)
        return
    size = len(predictor.bank)
    with_prior, without_prior = np.zeros(size), np.zeros(size)
    shown: list[NDArray[np.float32]] = []
    for judged in predictor.judge(inputs, vectors):
        known = judged.answerable
        with_prior += _log(judged.probability_BK[known])
        without_prior += _log(judged.without_prior_BK[known])
        shown += list(judged.image_BE[known])
    event_NE = np.stack(shown) if shown else None
    share = 0.0 if event_NE is None else share_of_evidence(event_NE)
    agreed, before = _softmax(share * with_prior), _softmax(share * without_prior)
    for judged in predictor.judge(inputs, vectors):
        known = judged.answerable[:, None]
        together = replace(
            judged,
            probability_BK=np.where(known, agreed, judged.probability_BK),
            without_prior_BK=np.where(known, before, judged.without_prior_BK),
            sums_of=None,
            event_NE=event_NE,
        )
        yield from predictor.choose(together, predictor.asked)


def share_of_evidence(image_NE: Float32[ndarray, "N E"]) -> float:
    """Return the weight of each of n photographs, by which they count as n / (1 + (n - 1) r) independent ones."""
    n = len(image_NE)
    if n < 2:
        return 1.0
    summed = image_NE.sum(axis=0, dtype=np.float64)
    correlation = (float(summed @ summed) - n) / (n * (n - 1))
    return 1 / (1 + (n - 1) * min(max(correlation, 0.0), 1.0))


def _log(probability_BK: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the sum of the photographs' logarithms."""
    return np.asarray(np.log(np.maximum(probability_BK, LEAST_PROBABILITY)).sum(axis=0, dtype=np.float64))


def _softmax(log_K: NDArray[np.float64]) -> NDArray[np.float32]:
    raised = np.exp(log_K - log_K.max())
    return np.asarray(raised / raised.sum(), np.float32)
