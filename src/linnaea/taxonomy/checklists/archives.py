"""Readers of the Catalogue of Life's ColDP and of ITIS, and what all readers of archives share.

Most archives state a parent instead of a lineage; :func:`with_lineage` climbs for all rows at once.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import polars as pl

from linnaea.errors import LinnaeaError
from linnaea.taxonomy.checklists.store import Source
from linnaea.taxonomy.ranks import RANK_LABELS, Rank

_MAX_DEPTH = 120
"""Steps up to the root; NCBI's deepest lineages have about 60."""

_LANGUAGES = {
    **dict.fromkeys(("en", "eng", "english"), "en"),
    **dict.fromkeys(("fr", "fra", "fre", "french"), "fr"),
    **dict.fromkeys(("de", "deu", "ger", "german"), "de"),
    **dict.fromkeys(("es", "spa", "spanish"), "es"),
    **dict.fromkeys(("pt", "por", "portuguese"), "pt"),
    **dict.fromkeys(("it", "ita", "italian"), "it"),
    **dict.fromkeys(("nl", "nld", "dut", "dutch"), "nl"),
    **dict.fromkeys(("sv", "swe", "swedish"), "sv"),
    **dict.fromkeys(("da", "dan", "danish"), "da"),
    **dict.fromkeys(("nb", "nob", "no", "nor", "norwegian", "norwegian bokmål"), "no"),
    **dict.fromkeys(("fi", "fin", "finnish"), "fi"),
    **dict.fromkeys(("pl", "pol", "polish"), "pl"),
    **dict.fromkeys(("cs", "ces", "cze", "czech"), "cs"),
    **dict.fromkeys(("ru", "rus", "russian"), "ru"),
    **dict.fromkeys(("uk", "ukr", "ukrainian"), "uk"),
    **dict.fromkeys(("tr", "tur", "turkish"), "tr"),
    **dict.fromkeys(("ja", "jpn", "japanese"), "ja"),
    **dict.fromkeys(("ko", "kor", "korean"), "ko"),
    **dict.fromkeys(("zh", "zho", "chi", "chinese", "chinese (simplified)", "chinese (traditional)"), "zh"),
    **dict.fromkeys(("ar", "ara", "arabic"), "ar"),
    **dict.fromkeys(("hi", "hin", "hindi"), "hi"),
    **dict.fromkeys(("mi", "mri", "maori"), "mi"),
    **dict.fromkeys(("haw", "hawaiian"), "haw"),
}
"""Codes of ISO 639-1, 639-2, 639-3 and English names of languages -> ISO 639-1; others stay as they are."""


def language_code(column: pl.Expr) -> pl.Expr:
    word = column.fill_null("").str.to_lowercase().str.strip_chars()
    base = word.str.replace(r"[-_].*$", "")
    return word.replace_strict(_LANGUAGES, default=base.replace_strict(_LANGUAGES, default=word))


def read_delimited(path: Path, separator: str, quote: str | None, skip: int, columns: list[str] | None) -> pl.DataFrame:
    table = pl.read_csv(
        path,
        separator=separator,
        quote_char=quote,
        has_header=columns is None,
        skip_rows=skip,
        infer_schema=False,
        encoding="utf8-lossy",
        truncate_ragged_lines=True,
    )
    if columns is None:
        return table
    return table.rename({old: columns[i] for i, old in enumerate(table.columns[: len(columns)])})


def fill_columns(table: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """The named columns, ``""`` where the table has none of that name."""
    return table.select(
        (pl.col(c).cast(pl.String).fill_null("") if c in table.columns else pl.lit("")).alias(c) for c in columns
    )


# Lineages from parents.


def with_lineage(records: pl.DataFrame) -> pl.DataFrame:
    """Add the seven ranks to ``id, parent, rank, name`` by climbing; names of species must be binomials."""
    parent_row = (
        records.select(id="parent")
        .join(records.select("id").with_row_index("at"), on="id", how="left", maintain_order="left")
        .to_series(1)
        .cast(pl.Int64)
        .fill_null(-1)
        .to_numpy()
    )
    value = records["rank"].replace_strict(_climbing_ranks(), default=-1, return_dtype=pl.Int8).to_numpy()
    n = records.height
    found = np.full((7, n), -1, np.int64)
    at, rows = np.arange(n), np.arange(n)
    for _ in range(_MAX_DEPTH):
        rank = value[at]
        for principal in Rank:
            here = (rank == int(principal)) & (found[principal][rows] < 0)
            found[principal][rows[here]] = at[here]
        at = parent_row[at]
        alive = at >= 0
        at, rows = at[alive], rows[alive]
        if not len(rows):
            break
    names = records["name"]
    last_is_empty = pl.concat([names, pl.Series([""])])
    columns = {
        label: last_is_empty.gather(pl.Series(np.where(rows < 0, n, rows), dtype=pl.UInt32))
        for label, rows in zip(RANK_LABELS, found, strict=True)
    }
    filled = records.with_columns(**columns)
    return filled.with_columns(
        genus=pl.when((pl.col("genus") == "") & (pl.col("species") != ""))
        .then(pl.col("species").str.extract(r"^(\S+) "))
        .otherwise("genus")
        .fill_null(""),
        species=_epithet(pl.col("species")),
    )


def _climbing_ranks() -> dict[str, int]:
    return {rank.label: int(rank) for rank in Rank} | {"division": int(Rank.PHYLUM), "nothospecies": 6, "nothogenus": 5}


def _epithet(species: pl.Expr) -> pl.Expr:
    return species.str.extract(r"^\S+ (?:\(\S+\) )?(?:×\s?|x\s)?(\p{Ll}[\p{Ll}\d.-]*)").fill_null("")


# Catalogue of Life.


def read_coldp(folder: Path, name: str, version: str) -> Source:
    """ColDP with ``NameUsage``, or ``Name``, ``Taxon`` and ``Synonym`` apart; ``VernacularName`` if there is one."""
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
    return Source(
        name=name,
        version=_coldp_version(folder) or version,
        records=lineage,
        synonyms=usage.filter(is_synonym).select("name", "authorship", id="parent", kind=pl.lit("synonym")),
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


# ITIS.


def read_itis(path: Path, name: str, version: str) -> Source:
    """The SQLite file that ITIS publishes (``ITIS.sqlite``), with its synonyms and vernacular names.

    Raises:
        LinnaeaError: the file is no ITIS database.
    """
    queries = {
        "units": "SELECT tsn, parent_tsn, complete_name, rank_id, kingdom_id, taxon_author_id FROM taxonomic_units",
        "ranks": "SELECT DISTINCT kingdom_id, rank_id, rank_name FROM taxon_unit_types",
        "authors": "SELECT taxon_author_id, kingdom_id, taxon_author FROM taxon_authors_lkp",
        "links": "SELECT tsn, tsn_accepted FROM synonym_links",
        "vernaculars": "SELECT tsn, vernacular_name, language FROM vernaculars",
    }
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            tables = {key: _query(database, query) for key, query in queries.items()}
    except sqlite3.DatabaseError as error:
        raise LinnaeaError(f"{path}: no ITIS database ({error})") from error
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
    return Source(
        name=name,
        version=version,
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


def _query(database: sqlite3.Connection, query: str) -> pl.DataFrame:
    cursor = database.execute(query)
    columns = [column[0] for column in cursor.description]
    rows = [tuple("" if value is None else str(value) for value in row) for row in cursor]
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
