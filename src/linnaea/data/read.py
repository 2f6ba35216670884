"""The first stage of a build: it reads every source once into the tables of the later stages.

Reading rejects only records that occur twice and splits whose name cannot be a folder. Its memory does not grow with
the number of records, because they are sorted on disk.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from linnaea.data.plan import RECORD_SCHEMA, REJECT_SCHEMA, make_key, write_frames
from linnaea.data.shards import SPLIT_NAME, taxa_from_table, write_parquet
from linnaea.data.sources import Record, Rejected, Source
from linnaea.parquet import read_parquet, scan_parquet
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.taxon import Taxon

Names = tuple[tuple[str, ...], str]
"""A taxon's lineage and common name."""

_GIVEN_SCHEMA: dict[str, Any] = dict.fromkeys((*RANK_LABELS, "common_name"), pl.String)

_CHUNK, _PART = 8_192, 32_768
"""Rows kept as tuples (a thousand bytes each), and as columns (a few hundred bytes), before a write to disk."""

_KEY_BITS = 32  # of a key's first eight hexadecimal digits


@dataclass(frozen=True, kw_only=True)
class RecordTables:
    """The tables that the stage writes to the build's folder."""

    folder: Path

    @property
    def records_path(self) -> Path:
        """The records sorted by key; this file is written last, and if it exists, the sources have been read."""
        return self.folder / "read" / "records.parquet"

    @property
    def taxa_path(self) -> Path:
        return self.folder / "read" / "taxa.parquet"

    @property
    def rejects_path(self) -> Path:
        return self.folder / "read" / "rejects.parquet"

    @property
    def n_records(self) -> int:
        return count_rows(self.records_path)

    @property
    def n_in(self) -> int:
        """The number of inputs, that is records and rejects."""
        return self.n_records + count_rows(self.rejects_path)

    def taxa(self) -> list[Taxon]:
        """The distinct taxa in the sources, in order of appearance."""
        return taxa_from_table(read_parquet(self.taxa_path))

    def at(self, rows: pl.Series, columns: Sequence[str]) -> pl.DataFrame:
        """Return some columns of the records with the given row numbers, in that order."""
        numbered = scan_parquet(self.records_path).select(columns).with_row_index("row")
        found = numbered.filter(pl.col("row").is_in(rows.implode())).collect(engine="streaming")
        wanted = pl.DataFrame({"row": rows.cast(pl.UInt32)})
        return wanted.join(found, on="row", maintain_order="left").select(columns)


def count_rows(path: Path) -> int:
    """Return the number of rows of a Parquet file from its metadata."""
    return int(scan_parquet(path).select(pl.len()).collect().item())


def read_sources(sources: Sequence[Source], folder: Path) -> RecordTables:
    """Read every source into ``folder``, unless that was done before."""
    reading = RecordTables(folder=folder)
    if reading.records_path.exists():
        return reading
    unsorted = folder / "read" / "unsorted"
    shutil.rmtree(unsorted, ignore_errors=True)
    unsorted.mkdir(parents=True)
    n_records, rejects, taxa = _read(sources, unsorted)
    refused = [rejects]
    lineages = [(*lineage, common_name) for lineage, common_name in taxa]
    write_parquet(pl.DataFrame(lineages, schema=_GIVEN_SCHEMA, orient="row"), reading.taxa_path)

    def sift() -> Iterator[pl.DataFrame]:
        for records in _iter_sorted(unsorted, n_records):
            kept, without = _sift(records)
            refused.append(without)
            yield kept
        write_parquet(pl.concat(refused), reading.rejects_path)  # before the records, which are written last

    write_frames(sift(), RECORD_SCHEMA, reading.records_path)
    shutil.rmtree(unsorted)
    return reading


def _sift(records: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the records to keep, and the rejects."""
    twice = ~records["key"].is_first_distinct()
    is_named_otherwise = pl.col("taxon_id") != pl.col("taxon_id").first().over("key")
    again = pl.when(is_named_otherwise).then(pl.lit(", first under another name")).otherwise(pl.lit(""))
    said_again = records.select(pl.lit("occurs twice (same source and record id)") + again).to_series()
    bad_split = ~records["split"].str.contains(SPLIT_NAME) & (records["split"] != "")
    folder = pl.format("split '{}' cannot be the name of a folder (letters, digits, - and _)", "split")
    refused = [
        _rejected(records.filter(twice), pl.lit(said_again.filter(twice))),
        _rejected(records.filter(bad_split & ~twice), folder),
    ]
    return records.filter(~twice & ~bad_split), pl.concat(refused)


def _iter_sorted(folder: Path, n_records: int) -> Iterator[pl.DataFrame]:
    """Yield the records sorted by key, in ranges of keys; keys are hashes, so equal ranges hold about equal numbers."""
    parts = sorted(folder.glob("*.parquet"))
    n_ranges = 1 + n_records // _PART
    ends = ["", *(f"{number * 2**_KEY_BITS // n_ranges:08x}" for number in range(1, n_ranges)), "g"]
    for first, end in pairwise(ends):
        lazy = scan_parquet(parts) if parts else pl.LazyFrame(schema=RECORD_SCHEMA)
        inside = lazy.filter((pl.col("key") >= first) & (pl.col("key") < end))
        yield inside.collect().sort("key", maintain_order=True)


class _Rows:
    """A buffer of rows for a table."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema, self._rows = schema, list[tuple[Any, ...]]()
        self._frames = [pl.DataFrame(schema=schema)]
        self.n_held = 0

    def add(self, row: tuple[Any, ...]) -> None:
        self._rows.append(row)
        self.n_held += 1
        if len(self._rows) == _CHUNK:
            self._flush()

    def _flush(self) -> None:
        self._frames.append(pl.DataFrame(self._rows, schema=self._schema, orient="row"))
        self._rows.clear()

    def take(self) -> pl.DataFrame:
        """Return the rows and empty the buffer."""
        self._flush()
        table = pl.concat(self._frames, rechunk=True)
        self._frames, self.n_held = [pl.DataFrame(schema=self._schema)], 0
        return table


def _read(sources: Iterable[Source], folder: Path) -> tuple[int, pl.DataFrame, list[Names]]:
    """Write every record into parts, each sorted by key, and return their number, the rejects and the taxa.

    ``taxon_id`` is a row of the list of taxa, which is in order of appearance.
    """
    numbers: dict[Names, int] = {}
    records, rejects, n_records = _Rows(RECORD_SCHEMA), _Rows(REJECT_SCHEMA), 0
    for item in (item for source in sources for item in source.records()):
        if isinstance(item, Rejected):
            rejects.add((item.source, item.record_id, item.location, item.reason))
            continue
        names = (item.taxon.lineage, item.taxon.common_name)  # authorship does not make another taxon
        records.add(_row(item, numbers.setdefault(names, len(numbers))))
        n_records += 1
        if records.n_held == _PART:
            _write_part(records.take(), folder, n_records)
    _write_part(records.take(), folder, n_records)
    return n_records, rejects.take(), list(numbers)


def _write_part(records: pl.DataFrame, folder: Path, n_records: int) -> None:
    """Write one part in row groups sorted by key, so that a range of keys needs only a few of them."""
    part = folder / f"{n_records:012d}.parquet"
    records.sort("key", maintain_order=True).write_parquet(part, compression="lz4", row_group_size=_PART // 32)


def _row(record: Record, taxon: int) -> tuple[Any, ...]:
    facts = json.dumps(dict(record.facts), ensure_ascii=False, sort_keys=True)
    key = make_key(record.source, record.record_id)
    return (key, record.split, record.source, record.record_id, record.location, record.group, facts, taxon)


def _rejected(records: pl.DataFrame, reason: pl.Expr) -> pl.DataFrame:
    return records.with_columns(reason.alias("reason")).select(*REJECT_SCHEMA)
