"""The normal form of tables of photographs, and the conversion of its rows to records.

Each reader maps its source's columns to :data:`NORMAL` columns block by block, so ten million rows are never Python
objects at the same time.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from linnaea.data.sources import Record, Rejected
from linnaea.errors import LinnaeaError
from linnaea.storage import is_inside
from linnaea.tables import match_columns, need_columns, scan_table
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.row import is_odd, read_taxon
from linnaea.taxonomy.taxon import Taxon

NORMAL = ("record_id", "location", "label", *RANK_LABELS, "common_name", "group", "split", "reason")
"""Columns of a normal table; all are text, and ``""`` means unknown. ``species`` is an epithet or a whole name. A row
with a ``reason`` is a reject. Any other column is a fact."""

ROWS_AT_ONCE = 50_000


def normal(**columns: pl.Expr | str) -> list[pl.Expr]:
    """Return the columns of a normal table; a string names a column, and columns not given are empty."""
    wanted = dict.fromkeys(NORMAL, pl.lit("")) | {
        name: pl.col(value) if isinstance(value, str) else value for name, value in columns.items()
    }
    return [value.cast(pl.String, strict=False).fill_null("").alias(name) for name, value in wanted.items()]


def iter_records(blocks: Iterable[pl.DataFrame], source: str, root: Path | None = None) -> Iterator[Record | Rejected]:
    """Yield the rows of normal tables as records; a row without any name is a reject.

    Every location is a path below ``root``, if it is given; a row whose path leads out of it is a reject.
    """
    taxa: dict[tuple[str, ...], Taxon | str] = {}
    for block in blocks:
        facts = [name for name in block.columns if name not in NORMAL]
        for row in block.iter_rows(named=True):
            where = {"source": source, "record_id": row["record_id"], "location": row["location"]}
            if row["reason"]:
                yield Rejected(**where, reason=row["reason"])
                continue
            if root is not None and ".." in row["location"]:
                relative = row["location"].removeprefix(f"{root}/")
                if not is_inside(root, relative, follow_links=True):
                    yield Rejected(**where, reason=f"path {relative!r} leads outside of the data set")
                    continue
            # A label decides only if it is a hybrid or doubtful; else the columns do, and one reading serves them all.
            label = row["label"] if is_odd(row["label"]) else ""
            key = (*(row[column] for column in (*RANK_LABELS, "common_name")), label)
            if key not in taxa:
                taxa[key] = read_taxon({column: row[column] for column in (*RANK_LABELS, "common_name")}, label)
            taxon = taxa[key]
            if isinstance(taxon, str):
                yield Rejected(**where, reason=taxon)
                continue
            known = {name: row[name] for name in facts if row[name]}
            given = {"label": row["label"]} if row["label"] else {}
            yield Record(**where, taxon=taxon, group=row["group"], split=row["split"], facts=known | given)


def read_blocks(path: Path, columns: Iterable[str] = ()) -> Iterator[pl.DataFrame]:
    """Read a table of any size (:func:`linnaea.tables.scan_table`) in blocks of rows, every column as text.

    A header that differs from one of ``columns`` only in case or surrounding spaces is renamed to it.

    Raises:
        LinnaeaError: the file does not exist or is not a table.
    """
    with scan_table(path) as table:
        for block in table.collect_batches(chunk_size=ROWS_AT_ONCE, maintain_order=True):
            text = block.with_columns(pl.all().cast(pl.String, strict=False).fill_null(""))
            yield text.rename(match_columns(text.columns, columns))


def read_whole(path: Path) -> pl.DataFrame:
    """Read a whole table as :func:`read_blocks` does; for the smaller tables that others are joined with.

    Raises:
        LinnaeaError: the file does not exist, is not a table, or has no rows.
    """
    blocks = list(read_blocks(path))
    if not blocks:
        raise LinnaeaError(f"{path}: has no rows")
    return pl.concat(blocks, how="diagonal")


def read_downloads(path: Path, column: str) -> pl.DataFrame:
    """Return a column of a download's ``images.parquet`` (the address, or an id), and the ``path`` of each picture.

    Raises:
        LinnaeaError: the file cannot be read, or lacks a column.
    """
    table = read_whole(path)
    need_columns(table.columns, path, column, "path")
    inside = pl.lit(f"{path.parent}/") + pl.col("path")
    full = pl.when(pl.col("path").str.starts_with("/")).then("path").otherwise(inside)
    return table.select(column, full.alias("path")).unique(column, keep="first", maintain_order=True)


def hash_text(text: str) -> str:
    """Return a short fingerprint of a text."""
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=16).hexdigest()


def describe_files(kind: str, *paths: Path, **more: str) -> dict[str, str]:
    """Return what identifies the inputs without reading them: names, sizes and modification times of the files."""
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
    """Return the reason of rows with an empty path; files that do not exist are found when they are read."""
    return pl.when(location.fill_null("") == "").then(pl.lit("has no picture on disk")).otherwise(pl.lit(""))
