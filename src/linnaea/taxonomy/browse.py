"""Look around in a checklist: a taxon with its lineage, taxa with similar names, changes between two checklists."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from linnaea.errors import LinnaeaError, UsageError
from linnaea.taxonomy.changes import diff
from linnaea.taxonomy.checklists.store import Checklist, load_checklist
from linnaea.taxonomy.find import Finder, lineage_text, parse_clade
from linnaea.taxonomy.ranks import RANK_LABELS, Rank


@dataclass(frozen=True, kw_only=True)
class ListedTaxon:
    """A taxon as a checklist has it."""

    name: str
    """Scientific name; of a species the binomial."""
    rank: str
    authorship: str
    lineage: dict[str, str]
    """Names by rank, kingdom to the taxon's own rank; unnamed ranks are left out. ``species`` is the epithet."""
    matched: str
    """The name that was found: the taxon's own, a synonym or a common name."""
    how: str
    """``accepted``, or the kind of name that ``matched`` is."""
    common_names: tuple[tuple[str, str], ...] = ()
    """Common names with their language (empty if unknown), preferred ones first."""
    synonyms: tuple[str, ...] = ()
    checklist: str = ""
    """Name and version of the checklist."""

    def __repr__(self) -> str:
        found = "" if self.how == "accepted" else f", {self.how} {self.matched}"
        return f"<{self.name} ({self.rank}{found}; {self.checklist})>"


@dataclass(frozen=True, kw_only=True)
class SimilarName:
    """A taxon whose name is similar to the text of a search."""

    name: str
    rank: str
    matched: str
    how: str
    lineage: tuple[str, ...]
    """Names from kingdom down to the taxon's parent."""
    score: float
    """Similarity between 0 and 1; 1 is equal."""


def lineage(
    name: str, *, checklist: str | Checklist = "inat", rank: str | Rank | None = None, kingdom: str = ""
) -> list[ListedTaxon]:
    """Return all taxa of a checklist that have a name, each with its lineage, common names and synonyms.

    ``name`` may be scientific, a synonym or a common name, with or without its rank (``"family:Corvidae"``).

    >>> linnaea.lineage("Pica pica")[0].lineage["family"]
    'Corvidae'

    Raises:
        UsageError: The name is empty or its rank is unknown.
        LinnaeaError: No taxon has the name, or the checklist cannot be read.
    """
    listed = _open(checklist)
    parse_clade(name)
    try:
        hits = Finder.of_checklist(listed).all(name, rank=_rank(rank), kingdom=kingdom)
    except UsageError as error:
        raise LinnaeaError(str(error)) from error
    return [_listed(listed, *hit) for hit in hits.select("row", "matched", "how").iter_rows()]


def search_names(
    text: str, *, checklist: str | Checklist = "inat", top_k: int = 10, rank: str | Rank | None = None
) -> list[SimilarName]:
    """Return the taxa of a checklist with the names most similar to ``text``, best first.

    Words may be misspelt, missing or in another order.

    Raises:
        UsageError: The text is empty.
        LinnaeaError: The checklist cannot be read.
    """
    if not text.strip():
        raise UsageError("the search text is empty; give a name or part of it")
    listed = _open(checklist)
    found = Finder.of_checklist(listed).search(text, top_k=top_k, rank=_rank(rank))
    taxa = listed.taxa[found["row"]]
    return [
        SimilarName(
            name=taxon["name"],
            rank=RANK_LABELS[taxon["rank"]],
            matched=hit["matched"],
            how=hit["how"],
            lineage=tuple(above.split(" > ")[:-1]),
            score=hit["score"],
        )
        for hit, taxon, above in zip(
            found.iter_rows(named=True), taxa.iter_rows(named=True), lineage_text(taxa), strict=True
        )
    ]


def diff_checklists(old: str | Checklist, new: str | Checklist) -> pl.DataFrame:
    """Return the changes from one checklist to another, a row per change with its evidence.

    The columns are those of :func:`linnaea.taxonomy.changes.diff`. Checklists are names, files, or open ones.

    Raises:
        LinnaeaError: A checklist cannot be read.
    """
    return diff(_open(old), _open(new))


def _open(checklist: str | Path | Checklist) -> Checklist:
    return checklist if isinstance(checklist, Checklist) else load_checklist(str(checklist))


def _rank(rank: str | Rank | None) -> Rank | None:
    return Rank.parse(rank) if isinstance(rank, str) else rank


def _listed(checklist: Checklist, row: int, matched: str, how: str) -> ListedTaxon:
    taxon = checklist.taxa.row(row, named=True)
    spoken = checklist.vernaculars.filter(pl.col("row") == row) if checklist.vernaculars.width else pl.DataFrame()
    common: list[tuple[str, str]] = [(taxon["common_name"], "")] if taxon["common_name"] else []
    if spoken.height:
        common = (
            spoken.sort("preferred", descending=True, nulls_last=True, maintain_order=True)
            .select("name", pl.col("language").fill_null(""))
            .rows()
        )
    synonyms = checklist.synonyms.filter((pl.col("row") == row) & (pl.col("kind") == "synonym"))
    return ListedTaxon(
        name=taxon["name"],
        rank=RANK_LABELS[taxon["rank"]],
        authorship=taxon["authorship"] or "",
        lineage={label: taxon[label] for label in RANK_LABELS if taxon[label]},
        matched=matched,
        how=how,
        common_names=tuple(common),
        synonyms=tuple(synonyms["name"].unique(maintain_order=True)),
        checklist=f"{checklist.name} {checklist.version}",
    )
