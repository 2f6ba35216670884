"""Choose which of a bank's taxa may answer: a clade, all but a clade, or the species of a list.

Names that the bank has are taken as they are. The other names of a list are resolved by taxonomy, and so are the bank's
own names, so that a list and a bank of different years match.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from linnaea.counting import agree, count
from linnaea.errors import LinnaeaError, UsageError
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.find import Finder, did_you_mean
from linnaea.taxonomy.name_tables import read_species_list
from linnaea.taxonomy.resolve import Resolver

Rows = NDArray[np.int64]

SUGGEST_FOR = 200
"""Up to this many unknown names get suggestions."""
RESOLVE_BANKS_TO = 300_000
"""Banks up to this size have their own names resolved if a list has names left over."""


@runtime_checkable
class Resolves(Protocol):
    """The part of :class:`linnaea.taxonomy.resolve.Resolver` that is used here."""

    def resolve(self, names: Sequence[str] | pl.Series) -> pl.DataFrame: ...


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """A name of a list that matches no taxon of the bank."""

    name: str
    reason: str
    suggestions: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}{did_you_mean(self.suggestions)}"


@dataclass(frozen=True, kw_only=True)
class Found:
    """The rows of a bank that a list of names matches."""

    table: pl.DataFrame
    """``name``, ``row`` and ``rank`` (of the taxon with that name): one row per pair, sorted by ``row``."""
    unknown: tuple[Unknown, ...]

    @property
    def rows(self) -> Rows:
        """Return the distinct rows of the bank, in order."""
        return np.asarray(self.table["row"].unique().sort(), np.int64)


@dataclass(frozen=True, kw_only=True)
class Among:
    """Which labels may answer, and the prior over them."""

    within: tuple[str, ...] = ()
    """Only taxa of these clades; all if empty."""
    exclude: tuple[str, ...] = ()
    """No taxa of these clades."""
    species_list: str | Path | tuple[str, ...] | None = None
    """Only the taxa of this list: a file, or names."""
    strict: bool = False
    """Treat a listed name that no label has as an error."""
    checklists: tuple[str, ...] = ("inat",)
    """Checklists that resolve the names of lists."""
    prior: str | Path | None = None
    """Weights per taxon, or a file of regions (:func:`linnaea.predict.priors.read_prior`)."""
    lat: float | None = None
    """Degrees north, for photographs that do not state where they were taken."""
    lon: float | None = None
    """Degrees east."""
    date: str = ""
    """YYYY-MM-DD or YYYY-MM, for photographs that do not state when they were taken."""


def restrict(bank: LabelBank, among: Among, tell: Callable[[str], None]) -> LabelBank:
    """Return the bank of the taxa that may answer; ``tell`` is called with listed names that no label has.

    Raises:
        UsageError: a clade is not in the bank, or nothing is left.
        LinnaeaError: the list cannot be read, or none of its names (if strict, not every name) is among the labels.
    """
    kept = keep_clades(bank, among.within, among.exclude)
    if among.species_list is None:
        return kept
    listed = among.species_list
    names = listed if isinstance(listed, tuple) else read_species_list(Path(listed)).to_list()
    kept, unknown = keep_listed(kept, names, lambda: load_resolver(among.checklists), strict=among.strict)
    tell_unknown("species list" if isinstance(listed, tuple) else listed, unknown, tell)
    return kept


def load_resolver(checklists: Sequence[str]) -> Resolver:
    """Return a resolver of list names by these checklists."""
    return Resolver.of(list(checklists))


def tell_unknown(source: str | Path, unknown: Sequence[Unknown], tell: Callable[[str], None]) -> None:
    """Report the first ten names of a list that no label has, and how many more there are."""
    for one in unknown[:10]:
        tell(f"{source}: {one}")
    if len(unknown) > 10:
        tell(f"{source}: ... and {len(unknown) - 10} more names that no label has")


def keep_rows(bank: LabelBank, rows: Rows) -> LabelBank:
    """Return the bank with only these rows (ascending); probabilities are then among them alone.

    A clade is one range of rows, whose vectors are not copied.
    """
    if len(rows) == len(bank):
        return bank
    taxa = bank.taxa[rows].with_columns(taxon_id=pl.int_range(len(rows), dtype=pl.Int32))
    one_range = len(rows) and rows[-1] - rows[0] == len(rows) - 1
    vectors = bank.vectors[rows[0] : rows[-1] + 1] if one_range else bank.vectors[rows]
    return replace(bank, taxa=taxa, vectors=vectors, facts=bank.facts | {"kept": len(rows), "of": len(bank)})


def keep_clades(
    bank: LabelBank, within: Sequence[str] = (), exclude: Sequence[str] = (), *, finder: Finder | None = None
) -> LabelBank:
    """Return the bank of the taxa in any of the clades ``within`` (all, if empty) and in none of ``exclude``.

    Clades are written ``order:Lepidoptera``, or ``Lepidoptera`` if only one rank has that name. Passing an existing
    ``finder`` of the bank's taxa saves time with a large bank.

    Raises:
        UsageError: a clade is not in the bank, or nothing is left.
    """
    finder = finder or label_finder(bank.taxa)
    kept = np.ones(len(bank), bool)
    if within:
        kept[:] = False
        kept[rows_of_clades(bank, within, finder=finder)] = True
    for clade in exclude:
        kept[finder.rows(clade)] = False
    if not kept.any():
        raise UsageError(
            f"{' '.join([*within, *exclude])}: leaves no taxon to answer with; the labels have {len(bank)}"
        )
    return keep_rows(bank, np.flatnonzero(kept))


def rows_of_clades(bank: LabelBank, clades: Sequence[str], *, finder: Finder | None = None) -> Rows:
    """Return the rows of the taxa in any of the clades, in order.

    Raises:
        UsageError: a clade is not in the bank.
    """
    finder = finder or label_finder(bank.taxa)
    return np.unique(np.concatenate([finder.rows(clade) for clade in clades]))


def keep_taxa(taxa: pl.DataFrame, within: Sequence[str] = (), exclude: Sequence[str] = ()) -> pl.DataFrame:
    """Return the taxa that :func:`keep_clades` would keep, for a taxon table without vectors."""
    return keep_clades(LabelBank(taxa, np.empty((taxa.height, 0), np.float32), {}), within, exclude).taxa


def label_finder(taxa: pl.DataFrame) -> Finder:
    """Find taxa among the labels that a model may answer with."""
    return Finder.of_taxa(taxa, "the labels")


def find_names(bank: LabelBank, names: Iterable[str], load_resolver: Callable[[], Resolves]) -> Found:
    """Return the rows that a list of names matches; a genus or family matches everything below it.

    ``load_resolver`` is called only if the bank lacks a name.
    """
    asked = pl.Series("name", list(dict.fromkeys(name.strip() for name in names if name.strip())), dtype=pl.String)
    finder = label_finder(bank.taxa)
    hits = finder.match(asked)
    left = asked.filter(~asked.is_in(hits["name"].implode()))
    reasons: dict[str, str] = {}
    if len(left):
        resolved = _resolve(left, load_resolver())
        reasons = dict(resolved.select("name", "reason").iter_rows())
        renamed = resolved.filter(pl.col("accepted") != "").select("name", "accepted")
        hits = pl.concat([hits, _match_renamed(finder, renamed)])
        renamed = renamed.join(hits, on="name", how="anti")
        if renamed.height and len(bank) <= RESOLVE_BANKS_TO:
            hits = pl.concat([hits, _match_renamed(_under_names_of_today(finder, load_resolver()), renamed)])
    missing = asked.filter(~asked.is_in(hits["name"].implode())).to_list()
    near = {name: finder.suggest(name) for name in missing[:SUGGEST_FOR]}
    unknown = [
        Unknown(name=n, reason=reasons.get(n, "not among the labels"), suggestions=near.get(n, ())) for n in missing
    ]
    return Found(table=finder.under(hits).sort("row"), unknown=tuple(unknown))


def keep_listed(
    bank: LabelBank, names: Iterable[str], load_resolver: Callable[[], Resolves], *, strict: bool = False
) -> tuple[LabelBank, tuple[Unknown, ...]]:
    """Return the bank of the taxa of a list, and the names of the list that the bank does not have.

    Raises:
        LinnaeaError: no name of the list is among the labels, or ``strict`` and one is not.
    """
    found = find_names(bank, names, load_resolver)
    if found.unknown and strict:
        raise LinnaeaError(
            f"{count(len(found.unknown), 'name', '')} of the list"
            f" {agree(len(found.unknown), 'is', 'are')} not among the labels: {found.unknown[0]}"
        )
    if not found.table.height:
        first = f" ({found.unknown[0]})" if found.unknown else ""
        raise LinnaeaError(f"no name of the list is among the {count(len(bank), 'label')}{first}")
    return keep_rows(bank, found.rows), found.unknown


def _match_renamed(finder: Finder, renamed: pl.DataFrame) -> pl.DataFrame:
    """Return the finder's hits for the column ``accepted``, each under the ``name`` that it was resolved from."""
    hits = finder.match(renamed["accepted"]).rename({"name": "accepted"})
    return renamed.join(hits, on="accepted").select("name", "row", "rank", "matched", "how")


def _resolve(names: pl.Series, resolver: Resolves) -> pl.DataFrame:
    """Return ``name``, ``accepted`` (a scientific name, or empty) and ``reason`` (why the labels do not have it)."""
    distinct = names.unique(maintain_order=True)
    answers = resolver.resolve(distinct)
    certain = pl.col("status").is_in(["accepted", "synonym", "vernacular", "higher_rank"])
    accepted = pl.when(certain).then(pl.col("scientific_name")).otherwise(pl.lit(""))
    reason = (
        pl.when(certain)
        .then(pl.format("is {}, which is not among the labels", "scientific_name"))
        .otherwise(pl.format("not among the labels (taxonomy: {})", pl.col("status").str.replace("_", " ")))
    )
    return answers.select(accepted=accepted, reason=reason).insert_column(0, distinct.alias("name"))


def _under_names_of_today(finder: Finder, resolver: Resolves) -> Finder:
    """Return a finder of the labels by the names that taxonomy accepts now."""
    taxa = finder.taxa.with_row_index("row")
    species = taxa.filter(pl.col("species") != "").select("row", "scientific_name")
    answers = resolver.resolve(species["scientific_name"]).select("status", now="scientific_name")
    known = pl.col("status").is_in(["accepted", "synonym"])
    now = species.select("row").hstack(answers.select(pl.when(known).then("now").alias("now")))
    today = taxa.join(now, on="row", how="left", maintain_order="left").with_columns(pl.col("now").fill_null(""))
    return Finder.of_taxa(today.drop("row", "scientific_name").rename({"now": "scientific_name"}), finder.where)
