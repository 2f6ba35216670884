"""Photographs in, answers out, as they come: the one path that the command, the server and the Python classes share."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from linnaea.data.images import ImageError
from linnaea.model.encode import iter_encoded_images
from linnaea.model.encoder import Encoder
from linnaea.predict.calibration import Calibration, calibrate_probabilities, read_calibration
from linnaea.predict.classifier import Guess, Scored, guess_at_rank, iter_scored
from linnaea.predict.decide import decide_calibrated
from linnaea.predict.inputs import EmptyPictureError, Input, bytes_input
from linnaea.predict.labels import LabelBank
from linnaea.predict.priors import apply_prior
from linnaea.taxonomy.ranks import Rank

WeightsOf: TypeAlias = Callable[[Input], NDArray[np.float32]]
"""The prior weights ``[K]`` of one input's taxa."""


NOBODY = bytes_input("", b"")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of every photograph."""

    rank: Rank | None = Rank.SPECIES
    """``None``: the deepest taxon that reaches ``confidence``."""
    confidence: float = 0.9
    top_k: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.confidence <= 1 or self.top_k < 1:
            raise ValueError("the confidence lies between 0 and 1, and top-k is at least 1")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of one photograph."""

    input: Input
    guesses: tuple[Guess, ...] = ()
    """Best first; empty where it failed or nothing is sure enough."""
    status: str = "ok"
    """ok, abstained, failed"""
    reason: str = ""
    prior: str = ""
    """Where there is a prior: ``same`` or ``changed``, as it left or changed the first answer."""
    score: float | None = None
    """Of a photograph without an answer: how near it came (see :func:`linnaea.predict.decide.decide_calibrated`)."""
    vector: NDArray[np.float32] | None = None
    """The photograph's unit vector ``[E]``."""


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A model, the taxa it may answer with, and what is asked."""

    model: Encoder
    bank: LabelBank
    asked: Asked = Asked()
    weights_of: WeightsOf | None = None
    batch_size: int = 32
    n_workers: int = 2
    fast: bool = False

    def answer(self, inputs: Iterable[Input]) -> Iterator[Answer]:
        """An answer per input, in their order, in memory that does not grow with them."""
        items = ((one, one.load) for one in inputs)
        encoded = iter_encoded_images(
            self.model, items, batch_size=self.batch_size, n_workers=self.n_workers, fast=self.fast
        )
        while batch := list(islice(encoded, self.batch_size)):
            good = [(one, vector) for one, vector in batch if not isinstance(vector, ImageError)]
            answers = iter(self.answer_vectors([one for one, _ in good], [vector for _, vector in good]))
            for one, vector in batch:
                if isinstance(vector, ImageError):
                    status = "abstained" if isinstance(vector, EmptyPictureError) else "failed"
                    yield Answer(input=one, status=status, reason=str(vector))
                else:
                    yield next(answers)

    @cached_property
    def calibration(self) -> Calibration | None:
        """The bank's, or else the model's; ``None`` where nothing was learnt."""
        return read_calibration(self.bank.facts, self.model.facts)

    def answer_vectors(self, inputs: list[Input], vectors: list[Any]) -> Iterator[Answer]:
        """The same for photographs that are vectors already."""
        calibration, done = self.calibration or Calibration(), 0
        scale = self.model.logit_scale / calibration.temperature
        for block in iter_scored(np.stack(vectors), self.bank, scale) if vectors else ():
            some = slice(done, done + len(block.probability_BK))
            done = some.stop
            weights = None if self.weights_of is None else np.stack([self.weights_of(one) for one in inputs[some]])
            chosen = self._choose(block, calibration, weights)
            before = chosen if weights is None else self._choose(block, calibration, None)
            for one, vector, choice, was in zip(inputs[some], vectors[some], chosen, before, strict=True):
                prior = "" if weights is None else _compare(was.guesses, choice.guesses)
                yield replace(choice, input=one, vector=vector, prior=prior)

    def _choose(self, block: Scored, calibration: Calibration, weight_BK: Any) -> list[Answer]:
        """Answers that do not know yet whose they are."""
        if self.asked.rank is None:
            decided = decide_calibrated(block, self.bank, calibration, self.asked.confidence, weight_BK)
            return [_decided(one) for one in decided]
        probability = calibrate_probabilities(block.probability_BK, self.bank, calibration)
        if weight_BK is not None:
            probability = apply_prior(probability, weight_BK)
        guesses = guess_at_rank(probability, self.bank, self.asked.rank, self.asked.top_k)
        why_none = f"no label has a name at rank {self.asked.rank.label} or above"
        return [
            Answer(input=NOBODY, guesses=tuple(of_image))
            if of_image
            else Answer(input=NOBODY, status="abstained", reason=why_none)
            for of_image in guesses
        ]


def _decided(answer: Guess | tuple[str, float]) -> Answer:
    match answer:
        case Guess():
            return Answer(input=NOBODY, guesses=(answer,))
        case reason, score:
            return Answer(input=NOBODY, status="abstained", reason=reason, score=score)


def _compare(before: tuple[Guess, ...], after: tuple[Guess, ...]) -> str:
    same = [guess.taxon for guess in before[:1]] == [guess.taxon for guess in after[:1]]
    return "same" if same else "changed"
