"""The one place that decides on answers: photographs in, answers out.

The command, the server, :func:`linnaea.open` and pybioclip's classes all ask a :class:`Predictor`. At a given rank, the
answer is the likeliest taxa of that rank. At rank ``auto``, it is the deepest taxon on one path from the root that
reaches the confidence of its rank, or the reason why there is none: no organism, none of the labels that may answer, or
not sure enough.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.data.images import ImageError
from linnaea.model.encode import iter_encoded_images
from linnaea.model.encoder import Encoder
from linnaea.predict.calibration import Calibration, read_calibration
from linnaea.predict.classifier import (
    Guess,
    Ranked,
    RankSums,
    guess_at_rank,
    likeliest_paths,
    name_path,
    sum_to_all_ranks,
)
from linnaea.predict.confidence import DEFAULT_CONFIDENCE, ByRank, of_each_rank
from linnaea.predict.fused import rank_blocks
from linnaea.predict.inputs import NO_ANIMAL, ONE_COLOUR, EmptyPictureError, Input, check_not_one_colour
from linnaea.predict.int8 import Int8Rows, load_rounded
from linnaea.predict.labels import LabelBank
from linnaea.predict.priors import apply_prior
from linnaea.predict.surroundings import ELSEWHERE_FROM, Surroundings
from linnaea.predict.trust import Path, Seen, Trust, follow_trusted
from linnaea.taxonomy.ranks import RANK_LABELS, Rank

NOTHING = "no organism recognised"
NOT_AMONG = "an organism, but not one of the"
NOT_SURE = "not sure enough"

Abstention: TypeAlias = Literal["", "no organism", "not among the labels", "not sure enough"]
"""Why an answer at rank ``auto`` names no taxon."""

ROUNDED_FROM = 100_000
"""Labels from which a model in lower precision is compared with labels in 8 bits."""

Encoded: TypeAlias = tuple[Input, NDArray[np.float32] | ImageError]
"""A photograph with its vector ``[E]``, or with the error if it cannot be read."""

WeightsOf: TypeAlias = Callable[[Input], NDArray[np.float32]]
"""A function that returns the prior weights ``[K]`` of the taxa for one input."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What to answer for every photograph."""

    rank: Rank | None = Rank.SPECIES
    """``None`` is ``auto``: the deepest taxon that reaches ``confidence``."""
    confidence: ByRank = DEFAULT_CONFIDENCE
    """For all ranks, or one for each, kingdom first (:func:`linnaea.predict.confidence.parse_confidence`)."""
    top_k: int = 5

    def __post_init__(self) -> None:
        if not all(0 < one <= 1 for one in of_each_rank(self.confidence)) or self.top_k < 1:
            raise ValueError("the confidence must be between 0 and 1, and top-k at least 1")


@dataclass(frozen=True, kw_only=True, repr=False)
class Answer:
    """The answer to one photograph."""

    input: Input
    guesses: tuple[Guess, ...] = ()
    """Best first; empty if the photograph cannot be read or no taxon reaches the confidence."""
    status: str = "ok"
    """``ok``, ``abstained`` or ``failed``."""
    abstention: Abstention = ""
    """With the status ``abstained``, which of three it is; empty if a detector's word is the reason."""
    reason: str = ""
    """Why there are no guesses."""
    prior: str = ""
    """If there is a prior: ``same`` or ``changed``, whether it changed the first guess."""
    evidence: float | None = None
    """The share of known photographs that show less evidence of an organism; ``None`` without a calibration of it."""
    vector: NDArray[np.float32] | None = None
    """The photograph's unit vector ``[E]``."""
    note: str = ""
    """What is unusual about the file, such as a raw photograph that was read by its preview."""

    @property
    def name(self) -> str:
        """Return the photograph's file name, or its number if it was given in memory."""
        return self.input.name

    @property
    def score(self) -> float | None:
        """Return the probability of the first guess; ``None`` if there is none."""
        return self.guesses[0].score if self.guesses else None

    @property
    def lineage(self) -> dict[str, str]:
        """Return rank and name of the first guess, kingdom first; empty if there is none."""
        if not self.guesses:
            return {}
        taxon = self.guesses[0].taxon
        names = (*taxon.lineage[: Rank.SPECIES], taxon.scientific_name if taxon.species else "")
        return {label: name for label, name in zip(RANK_LABELS, names, strict=True) if name}

    def __repr__(self) -> str:
        if not self.guesses:
            return f"<Answer {self.name}: {self.status}, {self.reason}>"
        best = self.guesses[0]
        rank = "" if best.rank is None else f"{best.rank.label}, "
        return f"<Answer {self.name}: {best.taxon.name} ({rank}{best.score:.1%})>"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A block of photographs with calibrated probabilities, and the evidence that they show an organism."""

    inputs: list[Input]
    image_BE: Float32[ndarray, "B E"]
    probability_BK: Float32[ndarray, "B K"]
    """The probabilities, including the prior if there is one."""
    without_prior_BK: Float32[ndarray, "B K"]
    recognised_B: Bool[ndarray, "B"]  # noqa: F821
    evidence_B: NDArray[np.float64]
    """The share of known photographs that show less evidence."""
    elsewhere: tuple[str, ...]
    """Why a photograph shows none of the labels that may answer; empty for those that may show one."""
    sums_of: RankSums | None = None
    """The sums of ``without_prior_BK`` at all ranks, if comparing with the labels has made them."""
    event_NE: Float32[ndarray, "N E"] | None = None
    """The vectors of all photographs of an event that show an organism, if these have one answer."""

    @property
    def answerable(self) -> Bool[ndarray, "B"]:  # noqa: F821
        """Tell which photographs show an organism that may be one of the labels."""
        return np.asarray(self.recognised_B & np.array([not why for why in self.elsewhere], bool))

    @property
    def seen(self) -> Seen:
        """Return for each photograph the vectors whose distance from a label counts: its own, or its event's."""
        if self.event_NE is None:
            return self.image_BE
        return [self.event_NE if is_one_of_them else image[None]
                for image, is_one_of_them in zip(self.image_BE, self.answerable, strict=True)]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A model, the taxa it may answer with, and the question."""

    model: Encoder
    bank: LabelBank
    asked: Asked = Asked()
    weights_of: WeightsOf | None = None
    batch_size: int = 32
    n_workers: int = 2
    fast: bool = False
    """Decode large JPEGs at a fraction of their size: faster, but answers differ slightly."""
    calibrated: bool = True
    """Apply the calibration that comes with the labels or the model."""
    around: Surroundings | None = None
    """All labels of the model, if only some of them may answer and the answer may be none of these."""
    own: LabelBank | None = None
    """The labels that come with the model, with their calibration, if a list of names answers in their place."""

    def answer(self, inputs: Iterable[Input]) -> Iterator[Answer]:
        """Yield an answer per input, in their order, in memory that does not grow with their number.

        Three stages overlap: threads decode, the caller's thread encodes a batch, and another compares the batch before
        with the labels.
        """
        encoded = self.encode(inputs)
        with ThreadPoolExecutor(1) as comparing:
            before: Future[list[Answer]] | None = None
            while batch := list(islice(encoded, self.batch_size)):
                answers = comparing.submit(self._answer_batch, batch)
                if before is not None:
                    yield from before.result()
                before = answers
            if before is not None:
                yield from before.result()

    def encode(self, inputs: Iterable[Input]) -> Iterator[Encoded]:
        """Yield each photograph with its unit vector, or the error if it cannot be read or shows nothing to name."""
        return iter_encoded_images(
            self.model,
            ((one, one.load) for one in inputs),
            batch_size=self.batch_size,
            n_workers=self.n_workers,
            fast=self.fast,
            check=self.check,
        )

    @property
    def check(self) -> Callable[[Any], None] | None:
        """Return what tells by the pixels alone that a picture shows no organism, if that may be the answer."""
        return check_not_one_colour if self.asked.rank is None and self.bank.has_only_organisms else None

    def _answer_batch(self, batch: list[Encoded]) -> list[Answer]:
        return list(answer_encoded(batch, self.answer_vectors))

    @cached_property
    def calibration(self) -> Calibration | None:
        """Return the bank's calibration, else the model's; ``None`` if there is none or it is turned off."""
        return read_calibration(self.bank.facts, self.model.facts) if self.calibrated else None

    @property
    def of_evidence(self) -> Calibration | None:
        """Return the calibration that says whether a photograph shows an organism."""
        around = None if self.around is None else self.around.calibration
        return around or self.calibration

    @cached_property
    def rounded(self) -> Int8Rows | None:
        """Return a large bank's vectors in 8 bits, if the bank or the model is not exact and PyTorch is installed."""
        return self._round(self.bank)

    @cached_property
    def _rounded_around(self) -> Int8Rows | None:
        return None if self.around is None else self._round(self.around.bank)

    def _round(self, bank: LabelBank) -> Int8Rows | None:
        vectors = bank.vectors
        is_exact = self.model.precision == "float32" and not isinstance(vectors, Int8Rows)
        if len(vectors) < ROUNDED_FROM or is_exact:
            return None
        try:
            import torch  # noqa: F401  (it multiplies them)
        except ImportError:
            return None
        return vectors if isinstance(vectors, Int8Rows) else load_rounded(vectors)

    def answer_vectors(self, inputs: list[Input], vectors: list[Any]) -> Iterator[Answer]:
        """Yield an answer for each vector ``[E]`` of an already encoded photograph."""
        for judged in self.judge(inputs, vectors):
            yield from self.choose(judged, self.asked)

    def judge(self, inputs: list[Input], vectors: list[Any]) -> Iterator[Judged]:
        """Yield the probabilities of photographs' vectors, in blocks that fit memory."""
        calibration, done = self.calibration or Calibration(), 0
        scale = self.model.logit_scale / calibration.temperature
        images = np.stack(vectors) if vectors else np.empty((0, self.model.width), np.float32)
        for block in rank_blocks(images, self.bank, self.rounded, scale, calibration):
            of_block = inputs[done : done + len(block.image_BE)]
            done += len(of_block)
            probability = without_prior = block.probability_BK
            if self.weights_of is not None:
                probability = apply_prior(without_prior, np.stack([self.weights_of(one) for one in of_block]))
            seen = self.of_evidence or Calibration()
            weighed, elsewhere = self._look_around(block, seen)
            yield Judged(
                inputs=of_block,
                image_BE=block.image_BE,
                probability_BK=probability,
                without_prior_BK=without_prior,
                recognised_B=seen.recognises(weighed),
                evidence_B=seen.evidence_of(weighed),
                elsewhere=elsewhere,
                sums_of=block.sums_of,
            )

    def _look_around(self, block: Ranked, calibration: Calibration) -> tuple[NDArray[np.float32], tuple[str, ...]]:
        """Return each photograph's evidence of an organism, and why it shows none of the labels that may answer.

        Both come from all labels of the model, if there is a need to look at them.
        """
        if self.around is None:
            return calibration.weigh(block), ("",) * len(block.image_BE)
        weighed, elsewhere = list[NDArray[np.float32]](), list[str]()
        scale = self.model.logit_scale / calibration.temperature
        for ranked in rank_blocks(block.image_BE, self.around.bank, self._rounded_around, scale, calibration):
            energy_B = self.around.energy_of_all(ranked.image_BE, ranked.energy_B, scale)
            weighed.append(calibration.weigh(replace(ranked, energy_B=energy_B)))
            kept_B = np.exp(scale * (ranked.energy_B - energy_B))
            elsewhere += explain_elsewhere(ranked, self.around, self.asked.confidence, kept_B, calibration.trust)
        return np.concatenate(weighed), tuple(elsewhere)

    def choose(self, judged: Judged, asked: Asked) -> list[Answer]:
        """Return the answer to each photograph of a block.

        At rank ``auto``, a photograph gets no taxon for one of three reasons, in this order: it shows too little
        evidence of any organism; it shows one that is not among the labels that may answer; no taxon reaches the
        confidence.
        """
        chosen = self._choose(judged, judged.probability_BK, asked)
        before = chosen
        if self.weights_of is not None:
            before = self._choose(judged, judged.without_prior_BK, asked)
        has_evidence = self.of_evidence is not None and bool(self.of_evidence.evidence)
        return [
            Answer(
                input=one,
                guesses=guesses,
                status="ok" if guesses else "abstained",
                abstention=abstention,
                reason=reason,
                evidence=float(evidence) if has_evidence else None,
                vector=vector,
                prior="" if self.weights_of is None else _compare(was, guesses),
                note="; ".join(dict.fromkeys(one.notes)),
            )
            for one, vector, evidence, (guesses, abstention, reason), (was, _, _) in zip(
                judged.inputs, judged.image_BE, judged.evidence_B, chosen, before, strict=True
            )
        ]

    def paths(self, judged: Judged) -> list[list[Guess]]:
        """Return for each photograph the likeliest taxon at every rank, each below the one before.

        Their scores are those that decide at rank ``auto``.
        """
        sums_of = self._sum(judged, judged.probability_BK, Rank.KINGDOM)
        return likeliest_paths(sums_of, self.bank, self._trust, judged.seen)

    @property
    def _trust(self) -> Trust:
        """Return what decides at rank ``auto``; without weights, probabilities do."""
        return Trust() if self.calibration is None else self.calibration.trust

    def _choose(self, judged: Judged, probability_BK: NDArray[np.float32], asked: Asked) -> list["_Chosen"]:
        sums_of = self._sum(judged, probability_BK, asked.rank or Rank.KINGDOM)
        if asked.rank is None:
            return decide_or_explain(sums_of, self.bank, asked.confidence, judged, self._trust)
        why_none = f"no label has a name at rank {asked.rank.label} or above"
        guesses = guess_at_rank(sums_of[asked.rank], self.bank, asked.rank, asked.top_k)
        return [(tuple(of_image), "", "" if of_image else why_none) for of_image in guesses]

    def _sum(self, judged: Judged, probability_BK: NDArray[np.float32], highest: Rank) -> RankSums:
        """Return the sums of probabilities at the ranks from species up to ``highest``."""
        if judged.sums_of is not None and probability_BK is judged.without_prior_BK:
            return judged.sums_of
        return sum_to_all_ranks(probability_BK, self.bank, highest)


_Chosen: TypeAlias = tuple[tuple[Guess, ...], Abstention, str]
"""The guesses, or which abstention it is and its reason."""


def answer_of_error(one: Input, error: ImageError) -> Answer:
    """Return the answer to a photograph that cannot be read, or that shows nothing to name."""
    if not isinstance(error, EmptyPictureError):
        return Answer(input=one, status="failed", reason=str(error))
    nothing = str(error) in (NO_ANIMAL, ONE_COLOUR)
    return Answer(input=one, status="abstained", abstention="no organism" if nothing else "", reason=str(error))


def answer_encoded(
    batch: Sequence[Encoded], answer: Callable[[list[Input], list[NDArray[np.float32]]], Iterable[Answer]]
) -> Iterator[Answer]:
    """Yield the answers to photographs in order; ``answer`` gets those that can be read, with their vectors."""
    good = [(one, vector) for one, vector in batch if not isinstance(vector, ImageError)]
    answers = iter(answer([one for one, _ in good], [vector for _, vector in good]))
    for one, vector in batch:
        yield answer_of_error(one, vector) if isinstance(vector, ImageError) else next(answers)


def _compare(before: tuple[Guess, ...], after: tuple[Guess, ...]) -> str:
    same = [guess.taxon for guess in before[:1]] == [guess.taxon for guess in after[:1]]
    return "same" if same else "changed"


def decide_or_explain(
    sums_of: RankSums,
    bank: LabelBank,
    confidence: ByRank,
    judged: Judged,
    trust: Trust = Trust(),  # noqa: B008  (frozen)
) -> list[_Chosen]:
    """Return for each image the deepest taxon that reaches ``confidence``, or the reason why none does.

    If ``trust`` has weights, what must reach it is how far the taxon is to be trusted (:mod:`linnaea.predict.trust`).
    """
    path = follow_trusted(sums_of, bank, trust, judged.seen)
    answers: list[_Chosen] = []
    for image, guess in enumerate(choose_deepest(path, bank, confidence, judged.answerable)):
        if guess is not None:
            answers.append(((guess,), "", ""))
        elif not judged.recognised_B[image]:
            share = 1 - judged.evidence_B[image]
            known = f"{share:.1%} of known photographs show" if share < 0.9995 else "any known photograph shows"
            more = f"less evidence than {known}"
            answers.append(((), "no organism", f"{NOTHING}: {more}"))
        elif judged.elsewhere[image]:
            answers.append(((), "not among the labels", judged.elsewhere[image]))
        else:
            answers.append(((), "not sure enough", explain_doubt(name_path(path, image, bank), confidence)))
    return answers


def decide(
    sums_of: RankSums,
    bank: LabelBank,
    confidence: float | Sequence[float],
    recognised_B: Bool[ndarray, "B"] | None = None,  # noqa: F821
    trust: Trust = Trust(),  # noqa: B008  (frozen)
    seen: Seen | None = None,
) -> list[Guess | None]:
    """Return for each image the deepest taxon whose probability reaches ``confidence``; ``None`` if none does.

    ``sums_of`` are the probabilities of each rank's groups (:func:`~linnaea.predict.classifier.sum_to_all_ranks`), and
    ``confidence`` holds for all ranks or has one for each. The search goes from the root down, to the likeliest child
    of the taxon before, so that the answers of all ranks lie on one path. The probabilities are among the bank's taxa
    and say nothing about taxa outside it; if ``trust`` has weights, how far a taxon is to be trusted decides instead
    (with a spread, the vectors of the images are needed). Images that are not ``recognised`` get ``None``.
    """
    return choose_deepest(follow_trusted(sums_of, bank, trust, seen), bank, confidence, recognised_B)


def choose_deepest(
    path: Path,
    bank: LabelBank,
    confidence: float | Sequence[float],
    recognised_B: Bool[ndarray, "B"] | None,  # noqa: F821
) -> list[Guess | None]:
    """Return for each path the deepest named taxon that reaches the confidence; one name is made for each."""
    score_BR = path.probability_BR
    least_R = np.array(of_each_rank(confidence))
    lowest_R = np.minimum.accumulate(least_R[::-1])[::-1]
    goes_on_BR = np.logical_and.accumulate(~(score_BR < lowest_R), axis=1)  # probabilities only fall along the path
    reaches_BR = goes_on_BR & (score_BR >= least_R)
    if recognised_B is not None:
        reaches_BR &= np.asarray(recognised_B)[:, None]
    chosen: list[Guess | None] = [None] * len(reaches_BR)
    for image in np.flatnonzero(reaches_BR.any(axis=1)).tolist():
        for number in reversed(np.flatnonzero(reaches_BR[image]).tolist()):
            rank = Rank(number)
            taxon = bank.group(rank, int(path.group_BR[image, rank]))
            if taxon is not None and (taxon[rank] or rank == Rank.SPECIES):
                chosen[image] = Guess(taxon, taxon.rank, float(score_BR[image, rank]))
                break
    return chosen


def explain_doubt(path: Sequence[Guess], confidence: ByRank) -> str:
    """Return why no taxon of the likeliest path is an answer, with the rank that comes nearest."""
    least = of_each_rank(confidence)
    short = [(least[_rank_of(guess)] - guess.score, guess) for guess in path]
    if not short:
        return f"{NOT_SURE}: no taxon reaches {100 * min(least):g}%"
    _, nearest = min(short, key=lambda one: one[0])
    asked = least[_rank_of(nearest)]
    return f"{NOT_SURE}: no taxon reaches {100 * asked:g}%; the surest is {_name(nearest)} ({nearest.score:.1%})"


def _rank_of(guess: Guess) -> Rank:
    return Rank.SPECIES if guess.rank is None else guess.rank


def explain_elsewhere(
    ranked: Ranked,
    around: Surroundings,
    confidence: ByRank,
    kept_B: Float32[ndarray, "B"],  # noqa: F821
    trust: Trust = Trust(),  # noqa: B008  (frozen)
) -> list[str]:
    """Return for each image why it shows none of the labels that may answer; ``""`` where it may show one.

    ``kept_B`` is the share of the probability that the labels of the model keep beside added ones; ``trust`` is that of
    all labels of the model (:func:`decide`).
    """
    outside_B = ranked.probability_BK @ around.elsewhere_K.astype(np.float32) * kept_B
    reasons = [""] * len(outside_B)
    far = np.flatnonzero(outside_B >= ELSEWHERE_FROM)
    if len(far):
        if ranked.sums_of is None:
            sums_of = sum_to_all_ranks(ranked.probability_BK[far], around.bank)
        else:
            sums_of = {rank: sums[far] for rank, sums in ranked.sums_of.items()}
        guesses = decide(sums_of, around.bank, confidence, trust=trust, seen=ranked.image_BE[far])
        for image, guess in zip(far.tolist(), guesses, strict=True):
            instead = "other labels are likelier" if guess is None else f"{_name(guess)} is likelier"
            reasons[image] = f"{NOT_AMONG} {around.answering}: {instead} ({outside_B[image]:.1%} is outside)"
    return reasons


def _name(guess: Guess) -> str:
    return guess.taxon.name if guess.rank is None else f"{guess.rank.label} {guess.taxon.name}"
