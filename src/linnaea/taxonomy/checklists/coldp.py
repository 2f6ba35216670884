"""Reader of the Catalogue of Life's data packages (ColDP)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from linnaea.storage import read_regular
from linnaea.tables import read_table
from linnaea.taxonomy.checklists.headers import WORDS, Headers, find_headers, header_key
from linnaea.taxonomy.checklists.records import ChecklistRecords, fill_columns
from linnaea.taxonomy.checklists.usage_names import SYNONYM_STATUS
from linnaea.taxonomy.checklists.usages import UsageTable, make_records, prepare_usages, vernacular_table

_SUFFIXES = (".tsv", ".csv", ".txt", ".tab")
_OF_NAMES = {
    **{column: WORDS[column] for column in ("name", "authorship", "rank", "uninomial", "epithet", "infraspecific")},
    "id": ("id",),
    "generic": ("genus", "genericname"),
}
"""Columns of the table ``Name``, where ``genus`` is a part of the name and ``status`` is that of nomenclature."""
_OF_TAXA = {
    **{
        column: WORDS[column]
        for column in ("parent", "status", "kingdom", "phylum", "class", "order", "family", "genus")
    },
    "id": ("id",),
    "name_id": ("nameid",),
    "of": ("taxonid",),
}
_OF_VERNACULARS = {"id": ("taxonid",), "name": ("name",), "language": ("language",), "preferred": ("preferred",)}


def find_tables(files: list[Path]) -> dict[str, Path]:
    """Return the tables of a package by the letters of their names in the singular (``nameusage``, ``taxon``)."""
    tables: dict[str, Path] = {}
    for file in sorted(files):
        if file.suffix.lower() in _SUFFIXES:
            key = header_key(file.stem)
            tables.setdefault({"taxa": "taxon"}.get(key, key.removesuffix("s") if key != "species" else key), file)
    return tables


def read_coldp(folder: Path, name: str, version: str) -> ChecklistRecords:
    """Read a folder with ``NameUsage``, or with ``Name``, ``Taxon`` and ``Synonym``; ``VernacularName`` is optional.

    Names of files and columns may have any case, hyphens and underscores.
    """
    return make_records(_read_tables(folder, name), name, _version(folder) or version)


def _read_tables(folder: Path, name: str) -> UsageTable:
    tables = find_tables([file for file in folder.iterdir() if file.is_file()])
    usages = _read_usages(tables["nameusage"]) if "nameusage" in tables else _join_usages(tables)
    vernaculars = None
    if "vernacularname" in tables:
        rows = read_columns(tables["vernacularname"], _OF_VERNACULARS)[0]
        vernaculars = vernacular_table(fill_columns(rows, *_OF_VERNACULARS), name)
    others = [
        file.name
        for key, file in tables.items()
        if key not in ("nameusage", "name", "taxon", "synonym", "vernacularname")
    ]
    return replace(usages, vernaculars=vernaculars, unused=(*usages.unused, *others))


def _read_usages(path: Path) -> UsageTable:
    words = {**WORDS, "id": ("id",), "parent": ("parentid",)}
    del words["parent_name"]
    rows, used, unused = read_columns(path, words, lambda rows: prepare_usages(_parents_of_synonyms(rows)))
    return UsageTable(rows=rows, used=used, unused=unused)


def _parents_of_synonyms(rows: pl.DataFrame) -> pl.DataFrame:
    """Return usages in which the parent of a synonym stands where it belongs: it is the accepted name."""
    if "parent" not in rows.columns or "status" not in rows.columns:
        return rows
    synonym = pl.col("status").str.contains(SYNONYM_STATUS)
    given = pl.col("accepted") if "accepted" in rows.columns else pl.lit("")
    return rows.with_columns(
        accepted=pl.when(synonym & (given == "")).then("parent").otherwise(given),
        parent=pl.when(synonym).then(pl.lit("")).otherwise("parent"),
    )


def _join_usages(tables: Mapping[str, Path]) -> UsageTable:
    names, used, unused = read_columns(tables["name"], _OF_NAMES)
    names = names.rename({"id": "name_id"}).unique("name_id", keep="first", maintain_order=True)
    if "taxon" not in tables:
        note = "there is no table of taxa; every name was read as that of a taxon"
        return UsageTable(rows=prepare_usages(names.rename({"name_id": "id"})), used=used, unused=unused, notes=(note,))
    taxa, used_taxa, unused_taxa = read_columns(tables["taxon"], _OF_TAXA)
    parts = [taxa.drop("of", strict=False)]
    if "synonym" in tables:
        synonyms, more, rest = read_columns(tables["synonym"], _OF_TAXA)
        used_taxa, unused_taxa = (*used_taxa, *more), (*unused_taxa, *rest)
        status = pl.col("status").str.replace("^$", "synonym") if "status" in synonyms.columns else pl.lit("synonym")
        parts.append(synonyms.rename({"of": "accepted"}).with_columns(status=pl.format("synonym {}", status)))
    usages = pl.concat(parts, how="diagonal").join(names, on="name_id", how="left", maintain_order="left")
    bare = (
        names.join(usages, on="name_id", how="anti").with_columns(status=pl.lit("bare name")).rename({"name_id": "id"})
    )
    return UsageTable(
        rows=prepare_usages(pl.concat([usages.drop("name_id"), bare], how="diagonal")),
        used=tuple(dict.fromkeys((*used, *used_taxa))),
        unused=tuple(dict.fromkeys((*unused, *unused_taxa))),
    )


def read_columns(
    path: Path,
    words: Mapping[str, Sequence[str]],
    change: Callable[[pl.DataFrame], pl.DataFrame] = lambda rows: rows,
) -> tuple[pl.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """Read the columns of ``words`` from a table, and change each part of it.

    Return the table, the headers that were used, and those that were not.
    """
    headers = Headers(found={}, unused=())

    def choose(rows: pl.DataFrame) -> pl.DataFrame:
        nonlocal headers
        headers = find_headers(rows.columns, words)
        return change(
            rows.select(pl.col(header).str.strip_chars().alias(column) for column, header in headers.found.items())
        )

    rows = read_table(path, keep_ragged=True, change=choose).rows
    return rows, tuple(headers.found.values()), headers.unused


def _version(folder: Path) -> str:
    for file in folder.glob("metadata.y*ml"):
        for line in read_regular(file).decode("utf-8", "replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("version", "issued") and value.strip(" '\""):
                return value.strip(" '\"")
    return ""
