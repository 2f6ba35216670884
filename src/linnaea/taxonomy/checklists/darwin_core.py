"""Reader of Darwin Core Archives with a Taxon core."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from linnaea.errors import LinnaeaError
from linnaea.taxonomy.checklists.archive import ArchivePart, describe_archive
from linnaea.taxonomy.checklists.headers import find_headers, header_key
from linnaea.taxonomy.checklists.ledger import count
from linnaea.taxonomy.checklists.records import ChecklistRecords, fill_columns
from linnaea.taxonomy.checklists.usages import UsageTable, id_at_end, make_records, vernacular_table


def read_darwin_core(meta: Path, name: str, version: str) -> ChecklistRecords:
    """Read a Darwin Core Archive with a Taxon core (GBIF's backbone, EOL's dynamic hierarchy, iNaturalist's export).

    Raises:
        LinnaeaError: ``meta.xml`` does not describe a table of taxa.
    """
    core, extensions = describe_archive(meta)
    if core.row_type.lower() != "taxon":
        raise LinnaeaError(f"{meta}: no Taxon core; give an archive of taxa, not of occurrences")
    headers = find_headers(core.terms)
    terms = tuple(headers.found.values())
    rows, notes = _without_header(core.read(terms), terms)
    # Parents refer to taxonID, extensions to the core's id column; in most archives they are the same.
    own = headers.found.get("id")
    ids = rows.select(
        id_at_end("_id").alias("key"),
        id=pl.coalesce(pl.when(pl.col(own) != "").then(id_at_end(own)), id_at_end("_id")) if own else id_at_end("_id"),
    )
    named = {column: header for column, header in headers.found.items() if column != "id"}
    usages = rows.select(ids["id"], **{column: pl.col(header) for column, header in named.items()})
    del rows
    read = [one for one in extensions if one.row_type.lower() == "vernacularname" and not one.missing()]
    vernaculars = [_vernaculars(extension, ids, name) for extension in read]
    notes += _missing_tables(extensions)
    table = UsageTable(
        rows=usages,
        vernaculars=pl.concat(vernaculars) if vernaculars else None,
        used=(*headers.found.values(), *dict.fromkeys(one.row_type for one in read)),
        notes=notes,
        unused=(*headers.unused, *dict.fromkeys(one.row_type for one in extensions if one not in read)),
    )
    return make_records(table, name, version)


def _missing_tables(extensions: Sequence[ArchivePart]) -> tuple[str, ...]:
    """Return a note for each kind of extension with missing files; iNaturalist has a table for each language."""
    missing: dict[str, list[str]] = {}
    for extension in extensions:
        if what := extension.missing():
            missing.setdefault(extension.row_type, []).append(what)
    return tuple(
        f"{kind}: {found[0]}" + (f", and those of {count(len(found) - 1, 'table')} more" if len(found) > 1 else "")
        for kind, found in missing.items()
    )


def _without_header(rows: pl.DataFrame, terms: tuple[str, ...]) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return rows without a first one that repeats the terms, where ``meta.xml`` does not count the header."""
    first = rows.select(terms).head(1).rows()
    if not first or sum(header_key(cell) == header_key(term) for cell, term in zip(first[0], terms, strict=True)) < 2:
        return rows, ()
    return rows.slice(1), ("the header, which meta.xml does not count, was not read as a row",)


def _vernaculars(extension: ArchivePart, ids: pl.DataFrame, source: str) -> pl.DataFrame:
    rows = fill_columns(extension.read(), "_id", "vernacularName", "language", "isPreferredName", "source")
    keyed = rows.select(
        id_at_end("_id").alias("key"), "language", "source", name="vernacularName", preferred="isPreferredName"
    )
    first = ids.unique("key", keep="first")
    named = keyed.join(first, on="key", how="left", maintain_order="left")
    return vernacular_table(named.with_columns(id=pl.coalesce("id", "key")), source)
