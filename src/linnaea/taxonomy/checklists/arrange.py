"""Bring records of any source into the one form: taxa in depth-first order, their synonyms and vernacular names."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from linnaea.taxonomy.checklists.ledger import AGAIN, Fates, ImportReport, count_rows
from linnaea.taxonomy.checklists.records import (
    BELOW_SPECIES,
    MADE_UP,
    MISAPPLIED,
    VIRUS_SPECIES,
    ChecklistRecords,
    map_kingdom,
)
from linnaea.taxonomy.label_words import ODD_BINOMIALS
from linnaea.taxonomy.name_parser import split_authors
from linnaea.taxonomy.ranks import RANK_LABELS, Rank

TAXA_SCHEMA: dict[str, pl.DataType] = {
    "source_id": pl.String(),
    "rank": pl.Int8(),
    "name": pl.String(),
    "authorship": pl.String(),
    "parent": pl.Int32(),
    **dict.fromkeys(RANK_LABELS, pl.String()),
    "common_name": pl.String(),
}
SYNONYM_SCHEMA: dict[str, pl.DataType] = {
    "name": pl.String(),
    "authorship": pl.String(),
    "row": pl.Int32(),
    "kind": pl.String(),
}
VERNACULAR_SCHEMA: dict[str, pl.DataType] = {
    "name": pl.String(),
    "language": pl.String(),
    "row": pl.Int32(),
    "preferred": pl.Boolean(),
    "source": pl.String(),
}


@dataclass(frozen=True, kw_only=True)
class ArrangedRecords:
    """The tables of a checklist, and what became of every row of its source."""

    taxa: pl.DataFrame
    """:data:`TAXA_SCHEMA`, in depth-first order."""
    synonyms: pl.DataFrame
    """:data:`SYNONYM_SCHEMA`"""
    vernaculars: pl.DataFrame
    """:data:`VERNACULAR_SCHEMA`"""
    report: ImportReport


def arrange(source: ChecklistRecords) -> ArrangedRecords:
    """Order records depth-first, one row per lineage, with parents and the higher taxa that they imply."""
    given, given_synonyms = _with_lines(source)
    checked = _clean_records(given)
    records = checked.filter(pl.col("reason") == "").drop("reason")
    checked = checked.select("line", "reason", "name", "rank_value")  # what stays in memory is kept small
    principal = records.filter(pl.col("rank_value").is_not_null())
    principal = pl.concat([principal, _implied_species(records, principal)], how="diagonal")
    taxa = pl.concat([principal, _implied(principal)], how="diagonal").with_columns(
        pl.col("id", "authorship").fill_null("")
    )
    others = records.filter(pl.col("rank_value").is_null())
    records = records.select("id", "common_name", "rank_value")
    del principal
    taxa = taxa.with_columns(rank=pl.col("rank_value").cast(pl.Int8))
    described = pl.col("authorship") != ""
    taxa = taxa.sort([*RANK_LABELS, "rank", described], descending=[False] * 8 + [True], maintain_order=True)
    firsts = taxa.select(pl.struct(*RANK_LABELS).is_first_distinct()).to_series()
    rows = taxa.select("id").with_columns(row=(firsts.cast(pl.Int32).cum_sum() - 1).cast(pl.Int32))
    taxa = taxa.filter(firsts).with_row_index("row").with_columns(pl.col("row").cast(pl.Int32))
    taxa = taxa.with_columns(name=_canonical_name())
    taxa = taxa.with_columns(parent=_parents(taxa))
    row_of = rows.filter(pl.col("id") != "").unique("id", keep="first")
    below = others.filter(pl.col("rank").is_in(BELOW_SPECIES))
    below = below.with_columns(split_authors(below["name"])["name"])
    between = _between(pl.concat([others.filter(~pl.col("rank").is_in(BELOW_SPECIES)), below]), taxa)
    row_of = pl.concat([row_of, between.select("id", "row").join(row_of, on="id", how="anti")])
    synonyms = [between.select("name", "authorship", "row", pl.col("rank").alias("kind"), "line")]
    if given_synonyms is not None:
        synonyms.insert(0, _given_synonyms(given_synonyms, row_of, taxa["name"]))
    other_names = _drop_self(pl.concat(synonyms), taxa)
    vernaculars = _vernaculars(source, records, row_of)
    preferred = (
        vernaculars.filter((pl.col("language") == "en") & pl.col("of_taxon") & pl.lit(source.are_captions))
        .sort("preferred", descending=True, maintain_order=True)
        .unique("row", keep="first", maintain_order=True)
        .select("row", common_name="name")
    )
    fates = Fates(
        accepted=taxa["line"],
        synonyms=other_names["line"],
        left_out=_left_out(source, checked, given_synonyms, between, row_of),
        n_vernaculars=vernaculars.filter("from_table").height,
        lost_vernaculars=_lost_vernaculars(source, row_of, vernaculars),
    )
    own_ids = pl.when(pl.col("id").str.starts_with(MADE_UP)).then(pl.lit("")).otherwise("id")
    taxa = (
        taxa.with_columns(id=own_ids).drop("common_name").join(preferred, on="row", how="left", maintain_order="left")
    )
    return ArrangedRecords(
        taxa=_typed(taxa.rename({"id": "source_id"}).with_columns(pl.col("common_name").fill_null("")), TAXA_SCHEMA),
        synonyms=_typed(other_names, SYNONYM_SCHEMA),
        vernaculars=_typed(vernaculars, VERNACULAR_SCHEMA),
        report=count_rows(fates, source.used, source.unused, source.notes),
    )


def _with_lines(source: ChecklistRecords) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Return the records and synonyms of a source with the number of their row, made up if the source has none."""
    records, synonyms = source.records, source.synonyms
    if "line" not in records.columns:
        records = records.with_row_index("line")
        if synonyms is not None:
            synonyms = synonyms.with_row_index("line", offset=records.height)
    return records, synonyms


def _left_out(
    source: ChecklistRecords,
    checked: pl.DataFrame,
    synonyms: pl.DataFrame | None,
    between: pl.DataFrame,
    row_of: pl.DataFrame,
) -> pl.DataFrame:
    """Return ``line, reason, name`` of the rows that may have been left out, with the first reason first."""
    columns = ("line", "reason", "name")
    parts = [] if source.left_out is None else [source.left_out.select(columns)]
    parts.append(checked.filter(pl.col("reason") != "").select(columns))
    apart = checked.filter((pl.col("reason") == "") & pl.col("rank_value").is_null())
    apart = apart.join(between.select("line").unique(), on="line", how="anti", maintain_order="left")
    parts.append(
        apart.with_columns(reason=pl.lit("no taxon above it from kingdom to species is in the list")).select(columns)
    )
    again = checked.filter(pl.col("reason") == "").with_columns(reason=pl.lit(AGAIN)).select(columns)
    parts.append(again)
    if synonyms is not None:
        known = synonyms.select(pl.col("id").is_in(row_of["id"].implode())).to_series()
        repeated = pl.lit("a synonym that repeats a name of its taxon, or is misapplied")
        lost = synonyms.with_columns(
            reason=pl.when(known).then(repeated).otherwise(pl.lit("its accepted name was left out"))
        )
        parts.append(lost.select(columns))
    return pl.concat([part.cast({"line": pl.UInt32}) for part in parts])


def _lost_vernaculars(source: ChecklistRecords, row_of: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    """Return ``reason, name`` of the vernacular names that were left out."""
    if source.vernaculars is None:
        return pl.DataFrame(schema={"reason": pl.String, "name": pl.String})
    names = source.vernaculars.select("id", _tidy("name")).with_row_index("at")
    known = names.join(row_of.select("id"), on="id", how="semi")["at"]
    names = names.join(kept.filter("from_table").select("at"), on="at", how="anti", maintain_order="left")
    reason = (
        pl.when(pl.col("name") == "").then(pl.lit("no vernacular name"))
        .when(~pl.col("at").is_in(known.implode())).then(pl.lit("a vernacular name of no taxon of the list"))
        .otherwise(pl.lit("repeats another vernacular name"))
    )  # fmt: skip
    return names.select("name", reason=reason)


def _given_synonyms(synonyms: pl.DataFrame, row_of: pl.DataFrame, accepted: pl.Series) -> pl.DataFrame:
    """Return the synonyms of a source without the authors in their names.

    A misapplied name ("Carex rostrata auct. non Stokes") is left out where the name has a taxon of its own.
    """
    given = synonyms.join(row_of, on="id", maintain_order="left").with_columns(pl.col("authorship").fill_null(""))
    written = given.select(pl.concat_str("name", pl.lit(" "), "authorship")).to_series()
    names = split_authors(given["name"])
    author = pl.when(pl.col("authorship") != "").then("authorship").otherwise(names["authorship"])
    given = given.with_columns(names["name"], authorship=author, misapplied=written.str.contains(MISAPPLIED))
    own = pl.concat([accepted, given.filter(~pl.col("misapplied"))["name"]]).unique()
    given = given.filter(~pl.col("misapplied") | ~pl.col("name").is_in(own.implode()))
    return given.select("name", "authorship", "row", "kind", "line")


def _typed(table: pl.DataFrame, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    return table.select(pl.col(name).cast(kind) for name, kind in schema.items())


def _tidy(column: str) -> pl.Expr:
    """Return a column with single blanks, no control characters, no dagger of extinct taxa, ``""`` for null."""
    text = pl.col(column).cast(pl.String).fill_null("")
    return text.str.replace_all(r"[\p{C}\s†]+", " ").str.strip_chars().alias(column)


def _clean_records(records: pl.DataFrame) -> pl.DataFrame:
    """Return records with tidy names and the value of their rank, and the ``reason`` of those that are no taxa."""
    for optional in ("authorship", "common_name"):
        if optional not in records.columns:
            records = records.with_columns(pl.lit("").alias(optional))
    kept = ["id", "rank", "name", "authorship", "common_name", *RANK_LABELS]
    records = records.select("line", *(_tidy(column) for column in kept))
    above = [_uninformative_as_empty(label) for label in RANK_LABELS[:-1]]
    return (
        records.with_columns(
            *above,
            species=pl.col("species").str.replace(r"^(?:×\s*|x\s+)", "").str.strip_chars("- "),
            rank=pl.col("rank").str.to_lowercase(),
        )
        .with_columns(
            kingdom=map_kingdom(pl.col("kingdom")), genus=pl.col("genus").str.replace(r"^[×x]\s*(\p{Lu})", "$1")
        )
        .with_columns(rank_value=pl.col("rank").replace_strict(_RANK_VALUES, default=None, return_dtype=pl.Int8))
        .with_columns(_empty_below_rank(rank) for rank in Rank)
        .with_columns(reason=_why_no_taxon())
        # A name of a higher taxon is in many rows, and a number takes a quarter of the memory of a text.
        .with_columns(pl.col(RANK_LABELS[:-1]).cast(pl.Categorical))
    )


def _why_no_taxon() -> pl.Expr:
    """Return why a record is not a taxon, ``""`` if it is."""
    is_species = pl.col("rank_value") == int(Rank.SPECIES)
    return (
        pl.when(pl.col("name") == "").then(pl.lit("no name"))
        .when(_names_no_species()).then(pl.lit("not the name of one species (sp., cf., a hybrid's formula)"))
        .when(~_own_name_is_in_lineage() & is_species).then(pl.lit("a species whose name is no binomial"))
        .when(~_own_name_is_in_lineage()).then(pl.lit("no name of a taxon (incertae sedis, unassigned)"))
        .otherwise(pl.lit(""))
    )  # fmt: skip


_RANK_VALUES = {rank.label: int(rank) for rank in Rank} | {
    "superkingdom": int(Rank.KINGDOM),
    "division": int(Rank.PHYLUM),
    "genushybrid": int(Rank.GENUS),
    "nothogenus": int(Rank.GENUS),
    "hybrid": int(Rank.SPECIES),
    "nothospecies": int(Rank.SPECIES),
}
"""Words for the seven ranks; ICN's division is a phylum (article 3.1), hybrids are taxa of their rank."""


def _uninformative_as_empty(label: str) -> pl.Expr:
    empty = pl.col(label).str.to_lowercase().str.contains(_NO_NAME)
    return pl.when(empty).then(pl.lit("")).otherwise(pl.col(label)).alias(label)


_NO_NAME = r"(?i)incertae|unclassified|unassigned|unknown|not[ _]classified|unidentified|^not |^sp\.?$"


def _empty_below_rank(rank: Rank) -> pl.Expr:
    """Empty a rank below the record's own: a genus has no epithet."""
    below = pl.col("rank_value") < int(rank)
    return pl.when(below).then(pl.lit("")).otherwise(pl.col(rank.label)).alias(rank.label)


def _own_name_is_in_lineage() -> pl.Expr:
    """Return whether a record has its own name in its lineage; a species needs its genus."""
    has_name = pl.any_horizontal((pl.col("rank_value") == int(rank)) & (pl.col(rank.label) != "") for rank in Rank)
    has_genus = (pl.col("rank_value") < int(Rank.SPECIES)) | (pl.col("genus") != "")
    return pl.col("rank_value").is_null() | (has_name & has_genus)


_OPEN = (
    r"^(?:spp?|cf|aff|nr|near|ex|indet|gen|nov|ined|undet|hybrids?|group|gr|agg|unidentified|unknown|species|spec)"
    r"(?:\.|\d|\b[^-]|$)|^[×?xX]$|^[^\p{L}]*$|^['_(]"
)
"""Epithets of names that nobody has published ("sp. 'CA02'"), and of open identifications."""


def _names_no_species() -> pl.Expr:
    """Return whether a record is a provisional name, an open identification, or the formula of a hybrid."""
    known = pl.col("name").is_in(ODD_BINOMIALS) | pl.col("name").str.contains(VIRUS_SPECIES)
    open_name = (pl.col("species") != "") & pl.col("species").str.contains(_OPEN) & ~known
    formula = pl.col("name").str.contains(r"^\p{Lu}\S+ (?:[×x] )?(?:\p{Ll}\S+.* (?:[×+] ?|x )|[×x] \p{Lu})")
    return open_name | (formula & (pl.col("rank_value").fill_null(6) >= int(Rank.GENUS)))


def _implied_species(records: pl.DataFrame, principal: pl.DataFrame) -> pl.DataFrame:
    """Return the species of subspecies that have no record of their own ("Pica hudsonia hudsonia" alone)."""
    parts = records.filter(
        pl.col("rank").is_in(BELOW_SPECIES)
        & pl.col("rank_value").is_null()
        & (pl.col("genus") != "")
        & pl.col("species").str.contains(r"^\p{Ll}[\p{Ll}-]+$")
        & ~pl.col("name").str.contains(r"[\[/?]")
    )
    known = principal.filter(pl.col("rank_value") == int(Rank.SPECIES)).select("genus", "species").unique()
    missing = parts.join(known, on=["genus", "species"], how="anti").unique(["genus", "species"], keep="first")
    return missing.select(
        *RANK_LABELS,
        id=pl.lit(""),
        name=pl.concat_str("genus", pl.lit(" "), "species"),
        authorship=pl.lit(""),
        common_name=pl.lit(""),
        rank=pl.lit(Rank.SPECIES.label),
        rank_value=pl.lit(int(Rank.SPECIES), pl.Int8),
    ).sort(RANK_LABELS)


def _canonical_name() -> pl.Expr:
    phrase = pl.col("species").str.contains(r"^\p{Lu}.* ")  # a virus whose species is named by a phrase
    binomial = pl.when(phrase).then("species").otherwise(pl.col("genus").cast(pl.String) + " " + pl.col("species"))
    lowest = pl.coalesce(
        pl.when(pl.col("rank") == int(rank)).then(pl.col(rank.label).cast(pl.String))
        for rank in Rank
        if rank != Rank.SPECIES
    )
    return pl.when(pl.col("rank") == int(Rank.SPECIES)).then(binomial).otherwise(lowest)


def _implied(taxa: pl.DataFrame) -> pl.DataFrame:
    """Return higher taxa that occur in lineages but have no record of their own."""
    missing = []
    for rank in list(Rank)[:-1]:
        above = RANK_LABELS[: rank + 1]
        named = taxa.filter(pl.col(rank.label) != "")
        known = named.filter(pl.col("rank_value") == int(rank)).select(above)
        implied = named.filter(pl.col("rank_value") > int(rank)).select(above).unique()
        missing.append(implied.join(known, on=above, how="anti").with_columns(rank_value=pl.lit(int(rank), pl.Int8)))
    below = [pl.lit(None, taxa.schema[label]).alias(label) for label in RANK_LABELS]
    table = pl.concat(missing, how="diagonal")
    table = table.with_columns(column for column in below if column.meta.output_name() not in table.columns)
    return table.with_columns(pl.col(label).fill_null(pl.lit("").cast(taxa.schema[label])) for label in RANK_LABELS)


def _parents(taxa: pl.DataFrame) -> pl.Series:
    """Return ``[n_taxa]``: the row of the nearest named taxon above, or -1.

    In depth-first order it is the last row of its rank before a taxon.
    """
    rank, rows = taxa["rank"].to_numpy(), np.arange(taxa.height, dtype=np.int32)
    parent = np.full(taxa.height, -1, np.int32)
    for above, label in enumerate(RANK_LABELS[:-1]):
        last = np.maximum.accumulate(np.where(rank == above, rows, np.int32(-1)))
        below = (rank > above) & (taxa[label] != "").to_numpy()
        parent[below] = last[below]
    return pl.Series("parent", parent)


def _between(records: pl.DataFrame, taxa: pl.DataFrame) -> pl.DataFrame:
    """Return records of other ranks (tribe, subspecies) with the row of their nearest principal taxon."""
    keyed = records.with_columns(_epithet_needs_genus())
    return keyed.join(
        taxa.select(*RANK_LABELS, "row"), on=list(RANK_LABELS), how="inner", maintain_order="left"
    ).filter(pl.col("name") != "")


def _epithet_needs_genus() -> pl.Expr:
    return pl.when(pl.col("genus") == "").then(pl.lit("")).otherwise(pl.col("species")).alias("species")


def _vernaculars(source: ChecklistRecords, records: pl.DataFrame, row_of: pl.DataFrame) -> pl.DataFrame:
    own = records.filter(pl.col("common_name") != "").select(
        "id",
        name="common_name",
        language=pl.lit("en"),
        preferred=pl.col("rank_value").is_not_null(),
        source=pl.lit(source.name),
        from_table=pl.lit(False),
        at=pl.lit(None, pl.UInt32),
    )
    parts = [own]
    if source.vernaculars is not None:
        columns = ("id", _tidy("name"), "language", "preferred", "source", pl.lit(True).alias("from_table"))
        parts.append(source.vernaculars.with_row_index("at").select(*columns, "at"))
    principal = records.filter(pl.col("rank_value").is_not_null()).select("id", of_taxon=pl.lit(True))
    names = pl.concat(parts).filter(pl.col("name") != "").join(row_of, on="id", maintain_order="left")
    # A name of a subspecies finds its species, but is not a name of the species itself.
    names = names.join(principal, on="id", how="left", maintain_order="left").with_columns(
        pl.col("of_taxon").fill_null(False)
    )
    return names.unique(["row", "name", "language"], keep="first", maintain_order=True)


def _drop_self(synonyms: pl.DataFrame, taxa: pl.DataFrame) -> pl.DataFrame:
    """Drop synonyms that only repeat their accepted name."""
    same = synonyms.join(taxa.select("row", accepted="name"), on="row", how="left", maintain_order="left")
    kept = same.filter((pl.col("name") != pl.col("accepted")) & (pl.col("name") != ""))
    return kept.drop("accepted").unique(["name", "row", "kind"], keep="first", maintain_order=True)
