"""Reader of plain tables of taxa: names, rank columns, or both; with or without ids, parents and accepted names."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from linnaea.counting import count
from linnaea.errors import LinnaeaError
from linnaea.tables import read_table, scan_table
from linnaea.taxonomy.checklists.headers import Headers, find_headers, header_key
from linnaea.taxonomy.checklists.records import ChecklistRecords, fill_columns
from linnaea.taxonomy.checklists.usages import UsageTable, make_records, prepare_usages, vernacular_table
from linnaea.taxonomy.ranks import RANK_LABELS

_NAMES = {"name", "canonical", "uninomial", "generic", *RANK_LABELS}
_VERNACULARS = {
    "id": ("taxonid", "id"),
    "name": ("vernacularname", "name"),
    "language": ("language", "lang"),
    "preferred": ("ispreferredname", "preferred"),
}


def read_flat_table(path: Path, name: str, version: str, vernaculars: Sequence[Path] = ()) -> ChecklistRecords:
    """Read a table of taxa: names, rank columns or both, and Darwin Core's relations between rows if there are any.

    A row is a species if its name is a binomial, and an infraspecific name of that species if more words follow. Names
    that are not of one taxon ("Larus sp.", "a/b", "a x b") are left out. GBIF's species lists and World Flora
    Online's ``classification.csv`` are such tables.

    Args:
        path: The table.
        name: The name of the checklist.
        version: Its version.
        vernaculars: Tables of vernacular names by the ids of the first.

    Raises:
        LinnaeaError: No column contains names.
    """
    return make_records(_read_usages(path, name, vernaculars), name, version)


def _read_usages(path: Path, name: str, vernaculars: Sequence[Path]) -> UsageTable:
    headers = Headers(found={}, unused=())

    def prepare(rows: pl.DataFrame) -> pl.DataFrame:
        nonlocal headers
        rows = _with_symbols(rows)
        headers = find_headers(rows.columns)
        if not _NAMES & set(headers.found):
            raise LinnaeaError(
                f"{path}: no column with names; needs scientific_name, name or columns of ranks such as genus, species"
            )
        return prepare_usages(rows.select(pl.col(header).alias(column) for column, header in headers.found.items()))

    table = read_table(path, keep_ragged=True, change=prepare)
    n_cut = 0 if table.problems is None else int(table.problems.is_not_null().sum())
    common = [_read_vernaculars(file, name) for file in vernaculars]
    return UsageTable(
        rows=table.rows,
        vernaculars=pl.concat(common) if common else None,
        used=(*headers.found.values(), *(file.name for file in vernaculars)),
        unused=headers.unused,
        notes=(f"{count(n_cut, 'row')} with too many cells; cut",) if n_cut else (),
    )


def _with_symbols(rows: pl.DataFrame) -> pl.DataFrame:
    """Return USDA PLANTS' list with ids: a row has the symbol of its accepted name, and its own if it is a synonym."""
    columns = {header_key(header): header for header in rows.columns}
    if not {"symbol", "synonymsymbol"} <= set(columns):
        return rows
    accepted, own = pl.col(columns["symbol"]), pl.col(columns["synonymsymbol"])
    return rows.with_columns(taxonID=pl.when(own != "").then(own).otherwise(accepted), acceptedNameUsageID=accepted)


def is_table_of_taxa(path: Path) -> bool:
    """Return whether the header of a table has a column of names and another one that a checklist has."""
    try:
        with scan_table(path) as table:
            found = find_headers(table.collect_schema().names()).found
    except (LinnaeaError, pl.exceptions.PolarsError):
        return False
    return bool(_NAMES & set(found)) and len(found) > 1


def is_table_of_vernaculars(path: Path) -> bool:
    """Return whether a table has vernacular names by ids, and no scientific names."""
    try:
        with scan_table(path) as table:
            keys = {header_key(header) for header in table.collect_schema().names()}
    except (LinnaeaError, pl.exceptions.PolarsError):
        return False
    return "vernacularname" in keys and bool(keys & {"taxonid", "id"}) and "scientificname" not in keys


def _read_vernaculars(path: Path, source: str) -> pl.DataFrame:
    table = read_table(path, keep_ragged=True).rows
    found = find_headers(table.columns, _VERNACULARS).found
    rows = table.select(pl.col(header).alias(column) for column, header in found.items())
    return vernacular_table(fill_columns(rows, *_VERNACULARS), source)
