"""Reader of the SQLite database that ITIS publishes."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import polars as pl

from linnaea.errors import LinnaeaError
from linnaea.storage import check_regular
from linnaea.taxonomy.checklists.records import ChecklistRecords, language_code, with_lineage

SECONDS_AT_MOST = 600
"""Time for reading the database; the real one takes a few seconds."""
_TABLES = ("taxonomic_units", "taxon_unit_types", "taxon_authors_lkp", "synonym_links", "vernaculars")
_QUERIES = {
    "units": "SELECT tsn, parent_tsn, complete_name, rank_id, kingdom_id, taxon_author_id FROM taxonomic_units",
    "ranks": "SELECT DISTINCT kingdom_id, rank_id, rank_name FROM taxon_unit_types",
    "authors": "SELECT taxon_author_id, kingdom_id, taxon_author FROM taxon_authors_lkp",
    "links": "SELECT tsn, tsn_accepted FROM synonym_links",
    "vernaculars": "SELECT tsn, vernacular_name, language FROM vernaculars",
}


def read_itis(path: Path, name: str, version: str) -> ChecklistRecords:
    """Read the SQLite file that ITIS publishes (``ITIS.sqlite``), with synonyms and vernacular names.

    Raises:
        LinnaeaError: The file is not an ITIS database.
    """
    tables = _read_tables(path)
    units = (
        tables["units"]
        .join(tables["ranks"], on=["kingdom_id", "rank_id"], how="left", maintain_order="left")
        .join(tables["authors"], on=["taxon_author_id", "kingdom_id"], how="left", maintain_order="left")
        .select(
            id="tsn",
            parent="parent_tsn",
            name="complete_name",
            rank=pl.col("rank_name").fill_null("").str.to_lowercase(),
            authorship=pl.col("taxon_author").fill_null(""),
        )
    )
    links = tables["links"].rename({"tsn": "id"})
    accepted = units.join(links, on="id", how="anti", maintain_order="left")
    return ChecklistRecords(
        name=name,
        version=version,
        used=_TABLES,
        records=with_lineage(accepted),
        synonyms=units.join(links, on="id").select("name", "authorship", id="tsn_accepted", kind=pl.lit("synonym")),
        vernaculars=tables["vernaculars"].select(
            id="tsn",
            name="vernacular_name",
            language=language_code(pl.col("language")),
            preferred=pl.lit(False),
            source=pl.lit(name),
        ),
    )


def _read_tables(path: Path) -> dict[str, pl.DataFrame]:
    """Return the result of each query, within limits on time and on the length of a text."""
    try:
        check_regular(path)
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, BYTES_AT_MOST)
            _check_tables(database)
            until = time.monotonic() + SECONDS_AT_MOST
            database.set_progress_handler(lambda: time.monotonic() > until, 100_000)
            return {key: _query(database, query) for key, query in _QUERIES.items()}
    except sqlite3.DatabaseError as error:
        raise LinnaeaError(f"{path}: not an ITIS database ({error})") from error


BYTES_AT_MOST = 1_000_000
"""The length of a text; a function in a file could make one of any length."""


def _check_tables(database: sqlite3.Connection) -> None:
    """Check that what is read are plain tables; a view could compute without end.

    Raises:
        sqlite3.DatabaseError: one is not.
    """
    kinds = {
        name: (kind, str(sql)) for name, kind, sql in database.execute("SELECT name, type, sql FROM sqlite_master")
    }
    for table in _TABLES:
        kind, sql = kinds.get(table, ("missing", ""))
        if kind != "table" or sql.upper().startswith("CREATE VIRTUAL"):
            raise sqlite3.DatabaseError(f"{table} is {'missing' if kind == 'missing' else 'no plain table'}")
        if any(hidden for *_, hidden in database.execute(f"PRAGMA table_xinfo({table})")):
            raise sqlite3.DatabaseError(f"{table} has columns that are computed")


def _query(database: sqlite3.Connection, query: str) -> pl.DataFrame:
    cursor = database.execute(query)
    columns = [column[0] for column in cursor.description]
    rows = [tuple("" if value is None else str(value) for value in row) for row in cursor]
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
