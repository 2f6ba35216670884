"""Photographs in, answers out, as they come: the one path that the command, the server and the Python classes share."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from linnaea.data.images import ImageError
from linnaea.model.encode import iter_encoded_images
from linnaea.model.load import TaxonModel
from linnaea.predict.classifier import Guess, guess_at_rank, iter_probabilities
from linnaea.predict.decide import decide
from linnaea.predict.inputs import Input
from linnaea.predict.labels import LabelBank
from linnaea.predict.priors import apply_prior
from linnaea.taxonomy.ranks import Rank

WeightsOf: TypeAlias = Callable[[Input], NDArray[np.float32]]
"""The prior weights ``[K]`` of one input's taxa."""


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
    vector: NDArray[np.float32] | None = None
    """The photograph's unit vector ``[E]``."""


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A model, the taxa it may answer with, and what is asked."""

    model: TaxonModel
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
                    yield Answer(input=one, status="failed", reason=str(vector))
                else:
                    yield next(answers)

    def answer_vectors(self, inputs: list[Input], vectors: list[Any]) -> Iterator[Answer]:
        """The same for photographs that are vectors already."""
        done = 0
        for probability in iter_probabilities(np.stack(vectors), self.bank, self.model.logit_scale) if vectors else ():
            some = slice(done, done + len(probability))
            done = some.stop
            if self.weights_of is None:
                answered = zip(self._choose(probability), [""] * len(probability), strict=True)
            else:
                weights = np.stack([self.weights_of(one) for one in inputs[some]])
                after = self._choose(apply_prior(probability, weights))
                answered = zip(after, map(_compare, self._choose(probability), after), strict=True)
            for one, vector, (guesses, prior) in zip(inputs[some], vectors[some], answered, strict=True):
                status = "ok" if guesses else "abstained"
                yield Answer(input=one, guesses=guesses, status=status, vector=vector, prior=prior,
                             reason="" if guesses else self._why_none())  # fmt: skip

    def _choose(self, probability_BK: Any) -> list[tuple[Guess, ...]]:
        if self.asked.rank is None:
            chosen = decide(probability_BK, self.bank, self.asked.confidence)
            return [(guess,) if guess else () for guess in chosen]
        guesses = guess_at_rank(probability_BK, self.bank, self.asked.rank, self.asked.top_k)
        return [tuple(of_image) for of_image in guesses]

    def _why_none(self) -> str:
        if self.asked.rank is None:
            return f"no taxon reaches {self.asked.confidence:g}"
        return f"no label has a name at rank {self.asked.rank.label} or above"


def _compare(before: tuple[Guess, ...], after: tuple[Guess, ...]) -> str:
    same = [guess.taxon for guess in before[:1]] == [guess.taxon for guess in after[:1]]
    return "same" if same else "changed"


def first_folder_with_taxa(model: str) -> Path | None:
    """The model folder (or the run's ``model/``) that brings taxa of its own."""
    folder = Path(model)
    return next((place for place in (folder, folder / "model") if (place / "taxa.parquet").exists()), None)
