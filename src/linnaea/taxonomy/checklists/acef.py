"""Reader of ACEF, the exchange format of the Catalogue of Life before ColDP."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from linnaea.taxonomy.checklists.coldp import find_tables, read_columns
from linnaea.taxonomy.checklists.headers import WORDS
from linnaea.taxonomy.checklists.records import ChecklistRecords, fill_columns
from linnaea.taxonomy.checklists.usages import UsageTable, make_records, prepare_usages, vernacular_table

SPECIES, BELOW, SYNONYMS, NAMES = "acceptedspecie", "acceptedinfraspecifictaxa", "synonym", "commonname"
"""The keys of its tables (:func:`~linnaea.taxonomy.checklists.coldp.find_tables`)."""

_STATUS = {"status": ("sp2000namestatus", "gsdnamestatus")}
_NAME = {"generic": ("genus",), "epithet": ("speciesepithet", "species"), "authorship": ("authorstring",)}
_PART = {
    "infraspecific": ("infraspeciesepithet", "infraspecies"),
    "marker": ("infraspecificmarker", "infraspeciesmarker", "infraspmarker"),
    "of_part": ("infraspecificauthorstring", "infraspeciesauthorstring"),
}
_OF_SPECIES = {
    "id": ("acceptedtaxonid",),
    **{label: WORDS[label] for label in ("kingdom", "phylum", "class", "order", "family")},
    **_NAME,
    **_STATUS,
}
_OF_BELOW = {"id": ("acceptedtaxonid",), "parent": ("parentspeciesid",), **_PART, **_STATUS}
_OF_SYNONYMS = {"accepted": ("acceptedtaxonid",), **_NAME, **_PART, **_STATUS}
_OF_NAMES = {"id": ("acceptedtaxonid",), "name": ("commonname",), "language": ("language",)}


def read_acef(folder: Path, name: str, version: str) -> ChecklistRecords:
    """Read a folder with ``AcceptedSpecies``; infraspecific taxa, ``Synonyms`` and ``CommonNames`` are optional.

    Names of files and columns may have any case. A species has its classification in columns.
    """
    tables = find_tables([file for file in folder.iterdir() if file.is_file()])
    used: dict[str, None] = {}
    unused: dict[str, None] = {}

    def read(key: str, words: Mapping[str, Sequence[str]]) -> pl.DataFrame:
        if key not in tables:
            return pl.DataFrame(schema=dict.fromkeys(words, pl.String))
        rows, found, rest = read_columns(tables[key], words)
        used.update(dict.fromkeys(found))
        unused.update(dict.fromkeys(rest))
        return fill_columns(rows, *words)

    species = read(SPECIES, _OF_SPECIES).with_columns(rank=pl.lit("species"))
    below = _with_names_of_species(_ranked(read(BELOW, _OF_BELOW)), species)
    synonyms = _ranked(read(SYNONYMS, _OF_SYNONYMS)).with_columns(status=pl.format("synonym {}", "status"))
    names = read(NAMES, _OF_NAMES).with_columns(preferred=pl.lit("")) if NAMES in tables else None
    others = [file.name for key, file in tables.items() if key not in (SPECIES, BELOW, SYNONYMS, NAMES)]
    return make_records(
        UsageTable(
            rows=prepare_usages(pl.concat([species, below, synonyms], how="diagonal")),
            vernaculars=None if names is None else vernacular_table(names, name),
            used=tuple(used),
            unused=(*(header for header in unused if header not in used), *others),
        ),
        name,
        version,
    )


def _ranked(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with the rank that their marker says, and the author of the last part of their name."""
    part = pl.col("infraspecific") != ""
    marker = pl.when(pl.col("marker") != "").then("marker").otherwise(pl.lit("infraspecific"))
    author = pl.col("authorship") if "authorship" in rows.columns else pl.lit("")
    return rows.with_columns(
        rank=pl.when(part).then(marker).otherwise(pl.lit("species")),
        authorship=pl.when(part).then("of_part").otherwise(author),
    ).drop("marker", "of_part")


def _with_names_of_species(below: pl.DataFrame, species: pl.DataFrame) -> pl.DataFrame:
    """Return infraspecific taxa with the genus and epithet of their species."""
    above = species.select("generic", "epithet", parent="id").unique("parent", keep="first")
    return below.join(above, on="parent", how="left", maintain_order="left")
