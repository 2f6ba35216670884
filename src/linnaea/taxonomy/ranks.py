"""The seven ranks of BioCLIP's captions (arXiv 2311.18803, section 3)."""

from enum import IntEnum
from typing import Self


class Rank(IntEnum):
    """A principal rank. Values count from the root, so a smaller value is a higher rank."""

    KINGDOM = 0
    PHYLUM = 1
    CLASS = 2
    ORDER = 3
    FAMILY = 4
    GENUS = 5
    SPECIES = 6

    @property
    def label(self) -> str:
        """The lower-case name, which is also the column name in every table: ``"kingdom"``."""
        return self.name.lower()

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    def __format__(self, spec: str) -> str:
        """Format a member by name, ``Rank.ORDER``, as pybioclip's; an integer's format gives the number."""
        return format(int(self), spec) if spec.endswith("d") else format(str(self), spec)

    def get_label(self) -> str:
        """Return :attr:`label`; pybioclip has the same method."""
        return self.label

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the rank that ``text`` names, in any case.

        Raises:
            ValueError: ``text`` is not a principal rank.
        """
        try:
            return cls[text.strip().upper()]
        except KeyError:
            raise ValueError(f"{text!r} is not a rank; write one of {', '.join(RANK_LABELS)}") from None


RANK_LABELS: tuple[str, ...] = tuple(rank.label for rank in Rank)
N_RANKS = len(RANK_LABELS)
