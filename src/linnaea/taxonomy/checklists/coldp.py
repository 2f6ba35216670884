"""Reader of the Catalogue of Life's data packages (ColDP)."""

from pathlib import Path

import polars as pl

from linnaea.taxonomy.checklists.records import (
    ChecklistRecords,
    fill_columns,
    language_code,
    mark_misapplied,
    read_delimited,
    with_lineage,
)


def read_coldp(folder: Path, name: str, version: str) -> ChecklistRecords:
    """Read a folder with ``NameUsage``, or with ``Name``, ``Taxon`` and ``Synonym``; ``VernacularName`` is optional."""
    tables = {file.stem.lower(): file for file in folder.iterdir() if file.suffix.lower() in (".tsv", ".csv", ".txt")}
    usage = _coldp_table(tables["nameusage"]) if "nameusage" in tables else _coldp_usages(tables)
    wanted = [
        "ID",
        "parentID",
        "status",
        "scientificName",
        "authorship",
        "rank",
        "specificEpithet",
        "genericName",
        "uninomial",
    ]
    usage = fill_columns(usage, *wanted).rename({"ID": "id", "parentID": "parent", "scientificName": "name"})
    usage = usage.with_columns(pl.col("rank", "status").str.to_lowercase())
    is_synonym = pl.col("status").str.contains("synonym|misapplied")
    lineage = with_lineage(usage.filter(~is_synonym & (pl.col("status") != "bare name")))
    vernaculars = None
    if "vernacularname" in tables:
        table = fill_columns(_coldp_table(tables["vernacularname"]), "taxonID", "name", "language", "preferred")
        vernaculars = table.select(
            "name",
            id="taxonID",
            language=language_code(pl.col("language")),
            preferred=pl.col("preferred").str.to_lowercase().is_in(("true", "1", "yes")),
            source=pl.lit(name),
        )
    return ChecklistRecords(
        name=name,
        version=_coldp_version(folder) or version,
        records=lineage,
        synonyms=usage.filter(is_synonym).select(
            "name",
            authorship=mark_misapplied(pl.col("authorship"), pl.col("name"), pl.col("status")),
            id="parent",
            kind=pl.lit("synonym"),
        ),
        vernaculars=vernaculars,
    )


def _coldp_table(path: Path) -> pl.DataFrame:
    separator, quote = (",", '"') if path.suffix.lower() == ".csv" else ("\t", None)
    table = read_delimited(path, separator, quote, 0, None)
    return table.rename({column: column.removeprefix("col:") for column in table.columns})


def _coldp_usages(tables: dict[str, Path]) -> pl.DataFrame:
    names = fill_columns(_coldp_table(tables["name"]), "ID", "scientificName", "authorship", "rank").rename(
        {"ID": "nameID"}
    )
    taxa = fill_columns(_coldp_table(tables["taxon"]), "ID", "nameID", "parentID").with_columns(
        status=pl.lit("accepted")
    )
    usages = [taxa]
    if "synonym" in tables:
        synonyms = fill_columns(_coldp_table(tables["synonym"]), "ID", "nameID", "taxonID")
        usages.append(synonyms.rename({"taxonID": "parentID"}).with_columns(status=pl.lit("synonym")))
    return pl.concat(usages).join(names, on="nameID", maintain_order="left")


def _coldp_version(folder: Path) -> str:
    for file in folder.glob("metadata.y*ml"):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("version", "issued") and value.strip(" '\""):
                return value.strip(" '\"")
    return ""
