"""Reader of Darwin Core Archives with a Taxon core."""

from pathlib import Path

import polars as pl

from linnaea.errors import LinnaeaError
from linnaea.taxonomy.checklists.archive import describe_archive
from linnaea.taxonomy.checklists.records import (
    ChecklistRecords,
    fill_columns,
    language_code,
    mark_misapplied,
    with_lineage,
)
from linnaea.taxonomy.name_parser import split_authors
from linnaea.taxonomy.ranks import RANK_LABELS

_DWC_COLUMNS = [
    "taxonID",
    "parentNameUsageID",
    "acceptedNameUsageID",
    "taxonomicStatus",
    "taxonRank",
    "scientificName",
    "canonicalName",
    "scientificNameAuthorship",
    "genericName",
    "specificEpithet",
    "infraspecificEpithet",
    "kingdom",
    "phylum",
    "class",
    "order",
    "family",
    "genus",
]


def read_darwin_core(meta: Path, name: str, version: str) -> ChecklistRecords:
    """Read a Darwin Core Archive with a Taxon core (GBIF's backbone, EOL's dynamic hierarchy, iNaturalist's export).

    Raises:
        LinnaeaError: ``meta.xml`` does not describe a table of taxa.
    """
    core, extensions = describe_archive(meta)
    if core.row_type != "Taxon":
        raise LinnaeaError(f"{meta}: no Taxon core; give an archive of taxa, not of occurrences")
    taxa = fill_columns(core.read(), "_id", *_DWC_COLUMNS).with_columns(
        _tail(column) for column in ("_id", "taxonID", "parentNameUsageID", "acceptedNameUsageID")
    )
    # Parents refer to taxonID, extensions to the core's id column; in most archives they are the same.
    taxa = taxa.with_columns(id=pl.when(pl.col("taxonID") != "").then("taxonID").otherwise("_id"))
    vernaculars = [
        _dwc_vernaculars(extension.read(), taxa, name)
        for extension in extensions
        if extension.row_type == "VernacularName" and not extension.missing()
    ]
    named = taxa.with_columns(
        name=_names_without_author(taxa), rank=pl.col("taxonRank").str.to_lowercase(), parent="parentNameUsageID"
    )
    status = pl.col("taxonomicStatus").str.to_lowercase()
    stands_for_other = (pl.col("acceptedNameUsageID") != "") & (pl.col("acceptedNameUsageID") != pl.col("id"))
    is_synonym = stands_for_other | status.str.contains("synonym|misapplied|not accepted|^invalid")
    accepted = named.filter(~is_synonym)
    lineage = with_lineage(accepted.drop(*RANK_LABELS[:-1]))
    given = accepted.select(*(pl.col(label).alias(f"given_{label}") for label in RANK_LABELS[:-1]))
    lineage = pl.concat([lineage, given], how="horizontal").with_columns(
        _given_first(label) for label in RANK_LABELS[:-1]
    )
    return ChecklistRecords(
        name=name,
        version=version,
        records=lineage.with_columns(authorship="scientificNameAuthorship", species=_dwc_epithet()),
        synonyms=named.filter(is_synonym & stands_for_other).select(
            "name",
            id="acceptedNameUsageID",
            authorship=mark_misapplied(pl.col("scientificNameAuthorship"), pl.col("scientificName"), status),
            kind=pl.lit("synonym"),
        ),
        vernaculars=pl.concat(vernaculars) if vernaculars else None,
    )


def _given_first(label: str) -> pl.Expr:
    given = pl.col(f"given_{label}")
    return pl.when(given != "").then(given).otherwise(pl.col(label)).alias(label)


def _dwc_epithet() -> pl.Expr:
    own = pl.when(pl.col("specificEpithet").str.contains(r"^\p{Ll}")).then("specificEpithet").otherwise("species")
    return pl.when(pl.col("rank").is_in(RANK_LABELS[:-1])).then(pl.lit("")).otherwise(own)


def _names_without_author(taxa: pl.DataFrame) -> pl.Series:
    """Return ``[n]``: the canonical names, or the scientific names without their authors."""
    full, author = pl.col("scientificName"), pl.col("scientificNameAuthorship")
    cut = (
        pl.when((author != "") & full.str.ends_with(author))
        .then(full.str.head(full.str.len_chars() - author.str.len_chars()).str.strip_chars())
        .otherwise(full)
    )
    given = taxa["canonicalName"]
    names = taxa.select(name=pl.when(given != "").then(pl.lit("")).otherwise(cut))["name"]
    return pl.select(pl.when(given != "").then(given).otherwise(split_authors(names)["name"])).to_series()


def _tail(column: str) -> pl.Expr:
    """Return the id at the end of an address, as iNaturalist writes ids."""
    return pl.col(column).str.replace(r"^https?://.*/", "").alias(column)


def _dwc_vernaculars(table: pl.DataFrame, taxa: pl.DataFrame, name: str) -> pl.DataFrame:
    names = fill_columns(table, "_id", "vernacularName", "language", "isPreferredName", "source").with_columns(
        _tail("_id")
    )
    matched = names.join(taxa.select("_id", "id"), on="_id", maintain_order="left")
    return matched.select(
        "id",
        name="vernacularName",
        language=language_code(pl.col("language")),
        preferred=pl.col("isPreferredName").str.to_lowercase().is_in(("true", "1", "yes")),
        source=pl.when(pl.col("source") != "").then("source").otherwise(pl.lit(name)),
    )
