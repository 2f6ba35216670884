"""The names of a build: the names in the sources, resolved by checklists, with the evidence.

Every distinct pair of label and lineage is resolved once by :mod:`linnaea.taxonomy.resolve`, with the given ranks as
context. ``names.parquet`` records the given names and the result; an unresolved name keeps the source's lineage.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from linnaea.taxonomy.checklists.store import load_checklist
from linnaea.taxonomy.ranks import N_RANKS, RANK_LABELS, Rank
from linnaea.taxonomy.resolve import Resolver, Status
from linnaea.taxonomy.taxon import Taxon

NAMES_SCHEMA: dict[str, Any] = {
    "label": pl.String,
    **{f"given_{name}": pl.String for name in (*RANK_LABELS, "common_name")},
    "asked": pl.String,
    "status": pl.String,
    "matched_name": pl.String,
    "rank": pl.String,
    "checklist": pl.String,
    "version": pl.String,
    "note": pl.String,
    "taken": pl.String,
    "records": pl.Int64,
    "taxon_id": pl.Int32,
}
"""Columns of ``names.parquet``, one row per distinct label and given lineage. ``asked`` is the name that was looked up.
``taken`` is the origin of the pictures' lineage: ``checklist``, ``source``, ``both`` (higher ranks from the checklist,
lower names from the source) or ``none`` (rejected). ``taxon_id`` is null if no picture is left."""

UNSURE = (Status.UNRESOLVED, Status.AMBIGUOUS, Status.CONFLICT, Status.REJECTED)


@dataclass(frozen=True, kw_only=True)
class NamingRule:
    """The rule for names: whether and how checklists resolve them."""

    checklists: tuple[str, ...] = ()
    """Names or files of checklists, in order of preference; if empty, the lineages of the sources stay unchanged."""
    context: tuple[str, ...] = ()
    """The common context of all names, such as ``class=Aves``."""
    unsure: Literal["keep", "reject"] = "keep"
    """How pictures are handled whose name is unknown, ambiguous or contradicts the given ranks: ``keep`` the source's
    lineage, or ``reject`` them."""

    def __post_init__(self) -> None:
        if wrong := [pair for pair in self.context if not all(pair.partition("="))]:
            raise ValueError(f"context {wrong[0]!r}: write rank=name, such as class=Aves")


@dataclass(frozen=True, kw_only=True)
class Naming:
    """The result of resolving the names of a build."""

    table: pl.DataFrame
    """One row per distinct name, sorted, with :data:`NAMES_SCHEMA` except ``taxon_id``."""
    taxa: list[Taxon]
    """The taxon of every row; ``table["taken"]`` shows which rows are rejected."""
    given: list[Taxon]
    """The source's taxon of every row."""
    rows: pl.Series
    """The row of every record, ``[n_records]``."""


class NameResolver:
    """The checklists of a rule, loaded once, for the names of the data set and of its benchmarks."""

    def __init__(self, rule: NamingRule) -> None:
        checklists = [load_checklist(name) for name in rule.checklists]
        self._names = {f"{checklist.name} {checklist.version}": checklist.name for checklist in checklists}
        self._versions = {f"{checklist.name} {checklist.version}": checklist.version for checklist in checklists}
        context = dict(pair.split("=", 1) for pair in rule.context)
        self._resolver = Resolver.of(checklists, context=context)

    def resolve(self, asked: Sequence[str] | pl.Series, given: pl.DataFrame | None = None) -> pl.DataFrame:
        """Return one row per name with :data:`linnaea.taxonomy.resolve.RESULT_COLUMNS` and ``version``."""
        found = self._resolver.resolve(asked, given=given)
        return found.with_columns(
            checklist=pl.col("checklist").replace_strict(self._names, default="", return_dtype=pl.String),
            version=pl.col("checklist").replace_strict(self._versions, default="", return_dtype=pl.String),
        )


def settle_names(records: pl.LazyFrame, taxa: Sequence[Taxon], resolver: NameResolver, rule: NamingRule) -> Naming:
    """Resolve the names of records (columns ``facts`` and ``taxon_id``, a row of ``taxa``)."""
    label = pl.col("facts").str.json_path_match("$.label").fill_null("").alias("label")
    pairs = records.select(label, "taxon_id").collect(engine="streaming")
    names = pairs.group_by("label", "taxon_id").len("records")
    lineages = pl.DataFrame(
        [(number, *taxon.lineage, taxon.common_name, taxon.scientific_name) for number, taxon in enumerate(taxa)],
        schema={"taxon_id": pl.Int32, **dict.fromkeys((*RANK_LABELS, "common_name", "scientific_name"), pl.String)},
        orient="row",
    )
    names = names.join(lineages, on="taxon_id").sort("label", *RANK_LABELS, "common_name").with_row_index("row")
    found = _ask(names, resolver)
    source_taxa = [taxa[number] for number in names["taxon_id"]]
    decisions = [_decide(taxon, row, rule) for taxon, row in zip(source_taxa, found.iter_rows(named=True), strict=True)]
    taken = pl.Series("taken", [whose for _, whose in decisions], dtype=pl.String)
    given = names.select("label", *(pl.col(name).alias(f"given_{name}") for name in (*RANK_LABELS, "common_name")))
    table = pl.concat([given, found, names.select("records", taken)], how="horizontal")
    rows = pairs.join(names.select("label", "taxon_id", "row"), on=["label", "taxon_id"], maintain_order="left")["row"]
    columns = [name for name in NAMES_SCHEMA if name != "taxon_id"]
    table = table.select(columns).cast({"records": pl.Int64})
    return Naming(table=table, taxa=[taxon for taxon, _ in decisions], given=source_taxa, rows=rows.cast(pl.Int32))


def _ask(names: pl.DataFrame, resolver: NameResolver) -> pl.DataFrame:
    """Look up the label, and, if it is not found, the name in the source's lineage."""
    lineage_name = pl.when(pl.col("scientific_name") != "").then("scientific_name").otherwise("common_name")
    asked = names.select(pl.when(pl.col("label") != "").then("label").otherwise(lineage_name).alias("asked"))["asked"]
    ranks = names.select(RANK_LABELS)
    found = resolver.resolve(asked, given=ranks).with_columns(asked)
    again = found["status"].is_in(UNSURE) & (asked != names["scientific_name"]) & (names["scientific_name"] != "")
    if not again.any():
        return found
    second = names.filter(again)
    answers = resolver.resolve(second["scientific_name"], given=second.select(RANK_LABELS))
    answers = answers.with_columns(second["scientific_name"].alias("asked"), second["row"])
    better = answers.filter(~pl.col("status").is_in(UNSURE))
    kept = found.with_columns(names["row"]).join(better, on="row", how="anti")
    return pl.concat([kept.select(answers.columns), better]).sort("row").drop("row")


def _decide(given: Taxon, found: dict[str, Any], rule: NamingRule) -> tuple[Taxon, str]:
    """Return the taxon of a name, and its origin (``checklist``, ``source``, ``both`` or ``none``).

    If a checklist knows only the genus, the source's species stays: lower names are kept as long as both agree on the
    lowest rank that the checklist has.
    """
    if found["status"] in UNSURE:
        return given, "none" if rule.unsure == "reject" else "source"
    lineage = [found[label] for label in RANK_LABELS]
    lowest = Rank.parse(found["rank"])
    # Above species rank the source's common name is kept: it may be all that distinguishes two kinds of one family.
    names = (found["common_name"], given.common_name) if lowest == Rank.SPECIES else (given.common_name, "")
    common_name = names[0] or names[1]
    if given.rank is None or given.rank <= lowest:
        return Taxon.of(dict(zip(RANK_LABELS, lineage, strict=True)), common_name=common_name), "checklist"
    if given.lineage[lowest].lower() != lineage[lowest].lower():
        return given, "source"
    lineage[lowest + 1 :] = given.lineage[lowest + 1 : N_RANKS]
    return Taxon.of(dict(zip(RANK_LABELS, lineage, strict=True)), common_name=given.common_name), "both"


def count_names(names: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Return the number of distinct names per status and of records per ``taken``, for the manifest."""
    by_status = names.group_by("status").len().sort("status").iter_rows()
    by_taken = names.group_by("taken").agg(pl.col("records").sum()).sort("taken").iter_rows()
    return {"names": dict(by_status), "records": dict(by_taken)}
