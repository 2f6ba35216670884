"""The probability that an answer at rank ``auto`` must reach: one for all ranks, or one per rank."""

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from linnaea.errors import UsageError
from linnaea.taxonomy.ranks import N_RANKS, RANK_LABELS, Rank

Confidence: TypeAlias = float | str | Mapping[str, float]
"""``0.9``; ``"species=0.95 genus=0.9"``; or ``{"species": 0.95, "genus": 0.9}``."""
ByRank: TypeAlias = float | tuple[float, ...]
"""One probability for all ranks, or seven, kingdom first."""

DEFAULT_CONFIDENCE = 0.9
"""The probability for the ranks that are not mentioned."""


def parse_confidence(given: Confidence) -> ByRank:
    """Return the confidence of every rank; a number without a rank holds for all ranks that are not mentioned.

    Raises:
        UsageError: a rank is unknown or stated twice, or a number is not above 0 and at most 1.
    """
    if isinstance(given, Mapping):
        pairs = [(str(rank), str(value)) for rank, value in given.items()]
    else:
        words = [word for word in re.split(r"[\s,;]+", str(given)) if word]
        pairs = [(rank, value) for rank, _, value in (word.rpartition("=") for word in words)]
    if not pairs:
        raise UsageError("confidence: write a number such as 0.9, or species=0.95 genus=0.9")
    rest, of_rank = DEFAULT_CONFIDENCE, dict[Rank, float]()
    stated = set[str]()
    for label, value in pairs:
        if label in stated:
            raise UsageError(f"confidence: {label or 'the number for all ranks'} is stated twice")
        stated.add(label)
        number = _probability(label, value)
        if label:
            of_rank[_rank(label)] = number
        else:
            rest = number
    return tuple(of_rank.get(rank, rest) for rank in Rank) if of_rank else rest


def _rank(label: str) -> Rank:
    try:
        return Rank.parse(label)
    except ValueError:
        raise UsageError(f"confidence: {label[:40]!r} is not a rank; write one of {', '.join(RANK_LABELS)}") from None


def _probability(label: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        where = f" of {label}" if label else ""
        raise UsageError(f"confidence{where}: {value[:40]!r} is not a number above 0 and at most 1")
    return number


def of_each_rank(confidence: float | Sequence[float]) -> tuple[float, ...]:
    """Return seven probabilities, kingdom first."""
    return (confidence,) * N_RANKS if isinstance(confidence, int | float) else tuple(confidence)
