"""Names of a build: what the sources call the organisms, settled by checklists, with the evidence kept.

Every distinct pair of label and lineage goes once through :mod:`linnaea.taxonomy.resolve`, the given ranks as context.
``names.parquet`` keeps what was given and what it was taken for; a name that is not settled keeps the source's lineage.
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
"""``names.parquet``: a row per distinct label and given lineage. ``asked`` is the name that was looked up; ``taken``
says whose lineage the pictures have: ``checklist``, ``source``, ``both`` (ranks above from the checklist, names below
from the source) or ``none`` (rejected); ``taxon_id`` is null where no picture was left."""

UNSURE = (Status.UNRESOLVED, Status.AMBIGUOUS, Status.CONFLICT, Status.REJECTED)


@dataclass(frozen=True, kw_only=True)
class NamingRule:
    """Whether and how names are settled by checklists."""

    checklists: tuple[str, ...] = ()
    """Names or files of checklists, in order of preference; none: lineages stay as the sources give them."""
    context: tuple[str, ...] = ()
    """What all names have in common, such as ``class=Aves``."""
    unsure: Literal["keep", "reject"] = "keep"
    """What becomes of pictures whose name is unknown, ambiguous or contradicts the given ranks: ``keep`` the source's
    lineage, or ``reject`` them."""

    def __post_init__(self) -> None:
        if wrong := [pair for pair in self.context if not all(pair.partition("="))]:
            raise ValueError(f"context {wrong[0]!r}: write rank=name, such as class=Aves")


@dataclass(frozen=True, kw_only=True)
class Naming:
    """What became of the names."""

    table: pl.DataFrame
    """:data:`NAMES_SCHEMA` without ``taxon_id``, a row per distinct name, sorted."""
    taxa: list[Taxon]
    """The taxon of every row; ``table["taken"]`` tells which of them are refused."""
    given: list[Taxon]
    """The source's taxon of every row."""
    rows: pl.Series
    """[n_records] the row of every record."""


class NameResolver:
    """The checklists of a rule, loaded once, for the names of the data set and of its benchmarks."""

    def __init__(self, rule: NamingRule) -> None:
        checklists = [load_checklist(name) for name in rule.checklists]
        self._names = {f"{checklist.name} {checklist.version}": checklist.name for checklist in checklists}
        self._versions = {f"{checklist.name} {checklist.version}": checklist.version for checklist in checklists}
        context = dict(pair.split("=", 1) for pair in rule.context)
        self._resolver = Resolver.of(checklists, context=context)

    def resolve(self, asked: Sequence[str] | pl.Series, given: pl.DataFrame | None = None) -> pl.DataFrame:
        """:data:`linnaea.taxonomy.resolve.RESULT_COLUMNS` and ``version``, a row per name."""
        found = self._resolver.resolve(asked, given=given)
        return found.with_columns(
            checklist=pl.col("checklist").replace_strict(self._names, default="", return_dtype=pl.String),
            version=pl.col("checklist").replace_strict(self._versions, default="", return_dtype=pl.String),
        )


def settle_names(records: pl.LazyFrame, taxa: Sequence[Taxon], resolver: NameResolver, rule: NamingRule) -> Naming:
    """Settle the names of records (columns ``facts`` and ``taxon_id``, a row of ``taxa``)."""
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
    """Ask for the label; where that leads nowhere, for the name in the source's lineage."""
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
    """The taxon of a name, and whose it is.

    A checklist that knows the genus alone takes nothing from a source that names the species: names below stay, as
    long as both agree on the lowest rank that the checklist has.
    """
    if found["status"] in UNSURE:
        return given, "none" if rule.unsure == "reject" else "source"
    lineage = [found[label] for label in RANK_LABELS]
    lowest = Rank.parse(found["rank"])
    # Above the species the source's common name says more: it may be all that tells two kinds of one family apart.
    names = (found["common_name"], given.common_name) if lowest == Rank.SPECIES else (given.common_name, "")
    common_name = names[0] or names[1]
    if given.rank is None or given.rank <= lowest:
        return Taxon.of(dict(zip(RANK_LABELS, lineage, strict=True)), common_name=common_name), "checklist"
    if given.lineage[lowest].lower() != lineage[lowest].lower():
        return given, "source"
    lineage[lowest + 1 :] = given.lineage[lowest + 1 : N_RANKS]
    return Taxon.of(dict(zip(RANK_LABELS, lineage, strict=True)), common_name=given.common_name), "both"


def count_names(names: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Distinct names per status, and records per lineage taken: the counts of the manifest."""
    by_status = names.group_by("status").len().sort("status").iter_rows()
    by_taken = names.group_by("taken").agg(pl.col("records").sum()).sort("taken").iter_rows()
    return {"names": dict(by_status), "records": dict(by_taken)}
