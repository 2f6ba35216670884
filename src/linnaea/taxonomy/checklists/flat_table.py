"""Reader of plain tables of taxa: rank columns, or scientific names, or both."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from linnaea.errors import LinnaeaError
from linnaea.tables import read_table
from linnaea.taxonomy.checklists.records import ChecklistRecords
from linnaea.taxonomy.name_parser import split_authors
from linnaea.taxonomy.ranks import RANK_LABELS

_BINOMIAL = r"^(?:×\s?|x\s)?(\p{Lu}[\p{L}-]+) (?:\([^)]*\) )?(?:×\s?|x\s)?(\p{Ll}[\p{Ll}.-]+)"

_COLUMN_WORDS: dict[str, Sequence[str]] = {
    "id": ("id", "taxon_id", "taxonid", "species_code", "code"),
    "rank": ("rank", "taxon_rank", "taxonrank"),
    "name": (
        "scientific_name",
        "scientificname",
        "sci_name",
        "name",
        "canonical_name",
        "taxon",
        "taxon_name",
        "latin_name",
    ),
    "epithet": ("specific_epithet", "specificepithet", "species_epithet", "epithet"),
    "authorship": ("authorship", "scientific_name_authorship", "scientificnameauthorship", "author"),
    "common_name": (
        "common_name",
        "commonname",
        "vernacular_name",
        "vernacularname",
        "english_name",
        "primary_com_name",
    ),
    "accepted": ("accepted_name", "acceptednameusage", "accepted_scientific_name", "synonym_of"),
    **{label: (label,) for label in RANK_LABELS},
    "class": ("class", "cls"),
}
"""Accepted headers of each column in order of preference, in lower case with underscores."""


def read_flat_table(path: Path, name: str, version: str) -> ChecklistRecords:
    """Read a table of rank columns, scientific names, or both; ``_COLUMN_WORDS`` lists the headers.

    A row is a species where its name is a binomial, an infraspecific name of its species where more words follow;
    names that are not of one taxon ("Larus sp.", "a/b", "a x b") are left out.

    Raises:
        LinnaeaError: No column contains names.
    """
    table = _read_columns(path)
    has = set(table.columns)
    if "name" not in has and not has & set(RANK_LABELS):
        words = ", ".join(_COLUMN_WORDS["name"][:3])
        raise LinnaeaError(f"{path}: no column with names; needs {words} or columns of ranks such as genus, species")
    table = table.with_columns(pl.lit("").alias(column) for column in _COLUMN_WORDS if column not in has).with_columns(
        pl.all().fill_null("").str.strip_chars()
    )
    table = _with_names(table)
    accepted = (pl.col("accepted") == "") | (pl.col("accepted") == pl.col("name"))
    names = {column: split_authors(table[column])["name"] for column in ("name", "accepted")}
    table = table.with_columns(plain_name=names["name"], plain_accepted=names["accepted"])
    records = table.filter(accepted)
    known = records.select(plain_accepted="plain_name", accepted_id="id").unique("plain_accepted", keep="first")
    synonyms = (
        table.filter(~accepted)
        .join(known, on="plain_accepted")
        .select("name", "authorship", id="accepted_id", kind=pl.lit("synonym"))
    )
    return ChecklistRecords(name=name, version=version, records=records, synonyms=synonyms)


def _read_columns(path: Path) -> pl.DataFrame:
    table = read_table(path, keep_ragged=True).rows
    words = {column: "_".join(column.lower().replace("-", " ").split()) for column in table.columns}
    chosen: dict[str, pl.Expr] = {}
    for wanted, accepted in _COLUMN_WORDS.items():
        found = next((column for word in accepted for column in table.columns if words[column] == word), None)
        if found is not None:
            chosen[wanted] = pl.col(found)
    return table.select(**chosen)


def _with_names(table: pl.DataFrame) -> pl.DataFrame:
    """Fill id, rank, name and the seven ranks of every row from those that are given."""
    of_species = pl.col("species").str.replace(r"^\p{Lu}\S+ ", "").str.replace(r"^[×x] ?(\p{Ll})", "$1")
    is_formula = of_species.str.contains(r" ?[×x] ")
    last = pl.when(is_formula).then(of_species).otherwise(pl.col("species").str.extract(r"(\S+)$"))
    given_epithet = pl.when(~pl.col("epithet").is_in(("", "×", "x"))).then("epithet").otherwise(last)
    binomial = pl.concat_str("genus", pl.lit(" "), given_epithet)
    full_species = pl.when(pl.col("species").str.contains(r"^\p{Lu}\S+ \p{Ll}")).then("species")
    composed = pl.when((pl.col("genus") != "") & (given_epithet != "")).then(binomial)
    lowest = pl.coalesce(pl.when(pl.col(label) != "").then(label) for label in reversed(RANK_LABELS[:-1]))
    name = pl.coalesce(pl.when(pl.col("name") != "").then("name"), full_species, composed, lowest, pl.lit(""))
    table = table.with_columns(name=name.str.replace_all("_", " ")).filter(
        ~pl.col("name").str.contains(r"[/?]|(?i) x .* x | sp\.| spp\.?$")
        & ~pl.col("name").str.contains(r"^\p{Lu}\S+ \p{Ll}\S+ [x×] ")
    )
    rest = pl.col("name").str.replace(_BINOMIAL, "").str.strip_chars()
    names_more = (rest != "") & rest.str.contains(r"^[\p{Ll}\[]") & ~rest.str.contains(r"^(?:de|van|von|ex|et) ")
    epithet = pl.col("name").str.extract(_BINOMIAL, 2)
    rank = (
        pl.when(pl.col("rank") != "")
        .then("rank")
        .when(epithet.is_not_null() & names_more)
        .then(pl.lit("infraspecific"))
        .when(epithet.is_not_null())
        .then(pl.lit("species"))
        .otherwise(_rank_of_uninomial())
    )
    same = pl.col("common_name").str.to_lowercase() == pl.col("name").str.to_lowercase()
    return table.with_columns(
        rank=rank,
        genus=pl.when(epithet.is_not_null()).then(pl.col("name").str.extract(_BINOMIAL, 1)).otherwise(pl.col("genus")),
        species=epithet.fill_null(""),
        common_name=pl.when(same).then(pl.lit("")).otherwise("common_name"),
        id=pl.int_range(pl.len()).cast(pl.String),
    ).with_columns(_own_rank_column(label) for label in RANK_LABELS[:-1])


def _rank_of_uninomial() -> pl.Expr:
    """Return the rank of a one-word name: the lowest that its row fills, else genus."""
    filled = [pl.when(pl.col(label) == pl.col("name")).then(pl.lit(label)) for label in RANK_LABELS[:-1]]
    return pl.coalesce(*filled, pl.lit("genus"))


def _own_rank_column(label: str) -> pl.Expr:
    own = (pl.col("rank").str.to_lowercase() == label) & (pl.col(label) == "")
    return pl.when(own).then("name").otherwise(pl.col(label)).alias(label)
