"""Reader of Darwin Core Archives with a Taxon core."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from linnaea.counting import count
from linnaea.errors import LinnaeaError
from linnaea.taxonomy.checklists.archive import ArchivePart, describe_archive
from linnaea.taxonomy.checklists.headers import find_headers, header_key
from linnaea.taxonomy.checklists.records import ChecklistRecords, fill_columns
from linnaea.taxonomy.checklists.usages import UsageTable, id_at_end, make_records, prepare_usages, vernacular_table


def read_darwin_core(meta: Path, name: str, version: str) -> ChecklistRecords:
    """Read a Darwin Core Archive with a Taxon core (GBIF's backbone, EOL's dynamic hierarchy, iNaturalist's export).

    Raises:
        LinnaeaError: ``meta.xml`` does not describe a table of taxa.
    """
    core, extensions = describe_archive(meta)
    if core.row_type.lower() != "taxon":
        raise LinnaeaError(f"{meta}: no Taxon core; give an archive of taxa, not of occurrences")
    headers = find_headers(core.terms)
    read = [one for one in extensions if one.row_type.lower() == "vernacularname" and not one.missing()]
    usages, notes = _read_core(core, headers.found, with_keys=bool(read))
    vernaculars = [_vernaculars(extension, usages.select("key", "id"), name) for extension in read]
    return make_records(
        UsageTable(
            rows=usages.drop("key", strict=False),
            vernaculars=pl.concat(vernaculars) if vernaculars else None,
            used=(*headers.found.values(), *dict.fromkeys(one.row_type for one in read)),
            notes=(*notes, *_missing_tables(extensions)),
            unused=(*headers.unused, *dict.fromkeys(one.row_type for one in extensions if one not in read)),
        ),
        name,
        version,
    )


def _read_core(core: ArchivePart, found: Mapping[str, str], with_keys: bool) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return the usages of a core and notes; ``with_keys`` adds ``key``, by which extensions refer to its rows."""
    terms = tuple(dict.fromkeys(found.values()))
    notes: set[str] = set()
    # Parents refer to taxonID, extensions to the core's id column; in most archives they are the same.
    own = found.get("id")
    key = id_at_end("_id")
    ids = pl.coalesce(pl.when(pl.col(own) != "").then(id_at_end(own)), key) if own else key
    columns = {column: pl.col(header) for column, header in found.items()} | {"id": ids}

    def usages(block: pl.DataFrame) -> pl.DataFrame:
        if block["_row"].head(1).to_list() == ["0"] and _repeats_terms(block, terms):
            notes.add("the header, which meta.xml does not count, was not read as a row")
            block = block.slice(1)
        return prepare_usages(block.select(**columns, **({"key": key} if with_keys else {})))

    return core.read(terms, usages), tuple(notes)


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


def _repeats_terms(rows: pl.DataFrame, terms: tuple[str, ...]) -> bool:
    """Return whether the first row repeats the terms, where ``meta.xml`` does not count the header."""
    first = rows.select(terms).row(0)
    return sum(header_key(cell) == header_key(term) for cell, term in zip(first, terms, strict=True)) >= 2


def _vernaculars(extension: ArchivePart, ids: pl.DataFrame, source: str) -> pl.DataFrame:
    rows = fill_columns(extension.read(), "_id", "vernacularName", "language", "isPreferredName", "source")
    keyed = rows.select(
        id_at_end("_id").alias("key"), "language", "source", name="vernacularName", preferred="isPreferredName"
    )
    first = ids.unique("key", keep="first")
    named = keyed.join(first, on="key", how="left", maintain_order="left")
    return vernacular_table(named.with_columns(id=pl.coalesce("id", "key")), source)
