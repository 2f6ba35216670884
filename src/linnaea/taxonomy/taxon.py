"""A taxon as a value, and the captions that stand for it in training and prediction."""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from linnaea.taxonomy.ranks import N_RANKS, RANK_LABELS, Rank

PHOTO_TEMPLATE = "a photo of {}."
"""The template of BioCLIP's training captions (arXiv 2311.18803, section 3.2)."""


@dataclass(frozen=True, slots=True)
class Taxon:
    """A taxon of any rank with its lineage; valid by construction.

    ``lineage`` has seven names from kingdom to species, with ``""`` for unknown ranks. The last one is the epithet
    alone (``"hudsonia"``), so it needs a genus. The common name and the authorship are separate, and captions never
    contain the authorship.

    Raises:
        ValueError: A name has stray white space or control characters, a species has no genus or repeats it, or there
            is no name at all.
    """

    lineage: tuple[str, str, str, str, str, str, str]
    common_name: str = ""
    authorship: str = ""

    def __post_init__(self) -> None:
        if len(self.lineage) != N_RANKS:
            raise ValueError(f"a lineage has {N_RANKS} ranks, not {len(self.lineage)}")
        for label, name in (*zip(RANK_LABELS, self.lineage, strict=True), ("common name", self.common_name)):
            if name != " ".join(name.split()) or any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
                raise ValueError(f"{label} {name!r} has stray white space or control characters")
        if self.species and not self.genus:
            raise ValueError(f"species {self.species!r} has no genus")
        if self.species and self.species.split()[0].lower() == self.genus.lower() != self.species.lower():
            raise ValueError(f"species {self.species!r} repeats its genus; give only the epithet")
        if not any(self.lineage) and not self.common_name:
            raise ValueError("a taxon needs at least one name")

    @classmethod
    def of(cls, names: Mapping[str, str] | None = None, /, *, common_name: str = "", **ranks: str) -> Self:
        """Return a taxon made from rank names: ``Taxon.of(genus="Pica", species="hudsonia")``.

        Use a mapping for ``class``, which is a Python keyword, and for table rows; keys that are not ranks are ignored.
        """
        given = {**(names or {}), **ranks}
        first, *rest = (given.get(label) or "" for label in RANK_LABELS)
        return cls((first, *rest), common_name=common_name)  # type: ignore[arg-type]

    def __getitem__(self, rank: Rank) -> str:
        return self.lineage[rank]

    @property
    def genus(self) -> str:
        return self.lineage[Rank.GENUS]

    @property
    def species(self) -> str:
        """The specific epithet without the genus."""
        return self.lineage[Rank.SPECIES]

    @property
    def rank(self) -> Rank | None:
        """The lowest rank with a name; ``None`` if only a common name is known."""
        return next((rank for rank in reversed(Rank) if self.lineage[rank]), None)

    @property
    def scientific_name(self) -> str:
        """The binomial, or the name at the lowest known rank; ``""`` if no rank is known."""
        if self.species:
            return f"{self.genus} {self.species}"
        return "" if self.rank is None else self.lineage[self.rank]

    @property
    def name(self) -> str:
        """The scientific name, else the common name; never empty."""
        return self.scientific_name or self.common_name

    def at(self, rank: Rank) -> Self:
        """Return the ancestor at ``rank``, without lower ranks, common name and authorship.

        Raises:
            ValueError: There is no name at ``rank`` or above.
        """
        if rank == Rank.SPECIES:
            return self
        kept = self.lineage[: rank + 1] + ("",) * (N_RANKS - rank - 1)
        return type(self)(kept)  # type: ignore[arg-type]

    def caption(self, text_type: "TextType", template: str = "{}") -> str:
        """Return the caption of ``text_type`` in ``template``; a caption is never empty."""
        return template.replace("{}", _CAPTIONS[text_type](self))


class TextType(StrEnum):
    """The form in which a taxon is written as a caption (arXiv 2311.18803, section 3.2 and table 3).

    BioCLIP mixes the first five in training. The tagged forms name each rank. The shuffled forms write the ranks in
    another order (:data:`SHUFFLED_ORDER`), for the study of their order.
    """

    COM = "com"
    SCI = "sci"
    TAXON = "taxon"
    SCI_COM = "sci_com"
    TAXON_COM = "taxon_com"
    TAXON_TAG = "taxon_tag"
    TAXON_TAG_COM = "taxon_tag_com"
    TAXON_SHUFFLED = "taxon_shuffled"
    TAXON_COM_SHUFFLED = "taxon_com_shuffled"


TRAINING_TEXT_TYPES = (
    TextType.COM,
    TextType.SCI,
    TextType.TAXON,
    TextType.SCI_COM,
    TextType.TAXON_COM,
)


SHUFFLED_ORDER = (Rank.ORDER, Rank.SPECIES, Rank.PHYLUM, Rank.GENUS, Rank.KINGDOM, Rank.FAMILY, Rank.CLASS)
"""An order of the ranks in which no rank follows the one above it."""

SHUFFLED_TEXT_TYPES = (
    TextType.COM,
    TextType.SCI,
    TextType.TAXON_SHUFFLED,
    TextType.SCI_COM,
    TextType.TAXON_COM_SHUFFLED,
)
"""The training mixture with the ranks in the other order."""


def _shuffled(taxon: Taxon) -> str:
    return " ".join(taxon[rank] for rank in SHUFFLED_ORDER if taxon[rank]) or taxon.common_name


def _taxonomic(taxon: Taxon) -> str:
    return " ".join(name for name in taxon.lineage if name) or taxon.common_name


def _tagged(taxon: Taxon) -> str:
    pairs = zip(RANK_LABELS, taxon.lineage, strict=True)
    return " ".join(f"{label} {name}" for label, name in pairs if name) or taxon.common_name


def _scientific(taxon: Taxon) -> str:
    return taxon.name  # the common name where there is no other


def _common(taxon: Taxon) -> str:
    return taxon.common_name or taxon.scientific_name


def _with_common_name(base: Callable[[Taxon], str]) -> Callable[[Taxon], str]:
    def caption(taxon: Taxon) -> str:
        text = base(taxon)
        known = taxon.common_name and taxon.common_name != text
        return f"{text} with common name {taxon.common_name}" if known else text

    return caption


_CAPTIONS: dict[TextType, Callable[[Taxon], str]] = {
    TextType.COM: _common,
    TextType.SCI: _scientific,
    TextType.TAXON: _taxonomic,
    TextType.SCI_COM: _with_common_name(_scientific),
    TextType.TAXON_COM: _with_common_name(_taxonomic),
    TextType.TAXON_TAG: _tagged,
    TextType.TAXON_TAG_COM: _with_common_name(_tagged),
    TextType.TAXON_SHUFFLED: _shuffled,
    TextType.TAXON_COM_SHUFFLED: _with_common_name(_shuffled),
}
