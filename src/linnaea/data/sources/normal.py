"""The normal form that readers of tables bring their rows into, and the one way from there to records.

A reader is a function from its source's columns to :data:`NORMAL` columns, block by block, so that ten million rows are
never Python objects at the same time.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from linnaea.data.sources import Record, Rejected
from linnaea.errors import LinnaeaError, UsageError
from linnaea.taxonomy.names import parse_label
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.readings import Rejection
from linnaea.taxonomy.taxon import Taxon

NORMAL = ("record_id", "location", "label", *RANK_LABELS, "common_name", "group", "split", "reason")
"""Columns of a normal table, all text, ``""`` where unknown; ``species`` may be an epithet or a whole name; a row with
a ``reason`` is a reject. Any other column is a fact."""

ROWS_AT_ONCE = 50_000

NOT_NAMES = {"", "na", "n/a", "nan", "none", "null", "not_classified", "not classified", "unclassified", "unknown",
             "unidentified", "undefined", "-"}  # fmt: skip
"""What tables write where there is no name; small letters."""


def normal(**columns: pl.Expr | str) -> list[pl.Expr]:
    """The columns of a normal table; those not given are empty, a text is the name of a column."""
    wanted = dict.fromkeys(NORMAL, pl.lit("")) | {
        name: pl.col(value) if isinstance(value, str) else value for name, value in columns.items()
    }
    return [value.cast(pl.String, strict=False).fill_null("").alias(name) for name, value in wanted.items()]


def iter_records(blocks: Iterable[pl.DataFrame], source: str) -> Iterator[Record | Rejected]:
    """The rows of normal tables as records; a row without any name is a reject."""
    taxa: dict[tuple[str, ...], Taxon | str] = {}
    for block in blocks:
        facts = [name for name in block.columns if name not in NORMAL]
        for row in block.iter_rows(named=True):
            where = {"source": source, "record_id": row["record_id"], "location": row["location"]}
            if row["reason"]:
                yield Rejected(**where, reason=row["reason"])
                continue
            names = tuple(row[label] for label in RANK_LABELS)
            key = (*names, row["common_name"])
            if key not in taxa:
                taxa[key] = read_taxon(names, row["common_name"])
            taxon = taxa[key]
            if isinstance(taxon, str):
                yield Rejected(**where, reason=taxon)
                continue
            known = {name: row[name] for name in facts if row[name]}
            label = {"label": row["label"]} if row["label"] else {}
            yield Record(**where, taxon=taxon, group=row["group"], split=row["split"], facts=known | label)


def read_taxon(names: Sequence[str], common_name: str = "") -> Taxon | str:
    """A taxon from the seven ranks as a table gives them, or the reason why not.

    What says that nothing is known counts as empty. A species may be an epithet or a whole name, with its author or
    as BOLD writes ("Culex sp. 3BZ"): it never becomes empty.
    """
    *higher, species = (_tidy(name) for name in names)
    common_name = _tidy(common_name)
    if not species and not any(higher):
        return Taxon.of(common_name=common_name) if common_name else "no name at any rank"
    genus, epithet = _read_species(higher[Rank.GENUS], species)
    higher[Rank.GENUS] = higher[Rank.GENUS] or genus
    try:
        return Taxon.of(dict(zip(RANK_LABELS, (*higher, epithet), strict=True)), common_name=common_name)
    except ValueError as error:
        return str(error)


def _tidy(text: str) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return "" if text.lower() in NOT_NAMES else text


def _read_species(genus: str, species: str) -> tuple[str, str]:
    """Genus and epithet of what stands in the column of species."""
    words = species.split()
    if len(words) < 2:
        return genus, species
    parsed = parse_label(species)
    if not isinstance(parsed, Rejection) and parsed.species:
        return parsed.genus, parsed.species
    own = words[0] == genus or not genus
    return (genus or words[0], " ".join(words[1:])) if own else (genus, species)


def read_blocks(path: Path, *, separator: str = "", rows_at_once: int = ROWS_AT_ONCE) -> Iterator[pl.DataFrame]:
    """A CSV, TSV, Parquet or JSON-lines table in blocks of rows, every column as text.

    Raises:
        LinnaeaError: there is no such file, or it is no table.
    """
    try:
        ending = path.suffix.lower()
        if not path.is_file():
            raise LinnaeaError(f"{path}: no such file")
        if ending == ".parquet":
            table = pl.scan_parquet(path)
        elif ending in (".jsonl", ".ndjson"):
            table = pl.scan_ndjson(path, infer_schema_length=None)
        else:
            tabs = separator or ("\t" if ending in (".tsv", ".tab", ".txt") else ",")
            table = pl.scan_csv(path, separator=tabs, infer_schema=False, quote_char=None if tabs == "\t" else '"',
                                encoding="utf8-lossy", truncate_ragged_lines=True)  # fmt: skip
        for block in table.collect_batches(chunk_size=rows_at_once, maintain_order=True):
            yield block.with_columns(pl.all().cast(pl.String, strict=False).fill_null(""))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LinnaeaError(f"{path}: cannot be read as a table ({str(error).splitlines()[0]})") from error


def read_whole(path: Path, *, separator: str = "") -> pl.DataFrame:
    """As :func:`read_blocks`, at once; for the smaller tables that others are joined with.

    Raises:
        LinnaeaError: there is no such file, it is no table, or it has no row.
    """
    blocks = list(read_blocks(path, separator=separator))
    if not blocks:
        raise LinnaeaError(f"{path}: holds no row")
    return pl.concat(blocks, how="diagonal")


def need(block: pl.DataFrame, path: Path, *columns: str) -> None:
    """Raise a :class:`UsageError` that names the missing columns and those there are."""
    if missing := [column for column in columns if column not in block.columns]:
        raise UsageError(f"{path}: no column {', '.join(map(repr, missing))}; it has {', '.join(block.columns)}")


def describe_files(kind: str, *paths: Path, **more: str) -> dict[str, str]:
    """What identifies the inputs without reading them whole: names, sizes and times of the files."""
    facts: dict[str, Any] = {"kind": kind, **more}
    for number, path in enumerate(paths):
        try:
            state = path.stat()
        except OSError as error:
            raise LinnaeaError(f"{path}: no such file or folder") from error
        stamp = f" {state.st_size} {state.st_mtime_ns}" if path.is_file() else ""
        facts[f"input{number}"] = f"{path}{stamp}"
    return facts


def missing_file(location: pl.Expr) -> pl.Expr:
    """A reason where a path is empty; files that are not there are found when they are read."""
    return pl.when(location.fill_null("") == "").then(pl.lit("has no picture on disk")).otherwise(pl.lit(""))
