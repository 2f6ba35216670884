"""The first stage of a build: every source once, into tables that the later stages work on.

Reading decides nothing but what is no record at all: a record that occurs twice, a split whose name no folder can bear.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from linnaea.data.plan import RECORD_SCHEMA, REJECT_SCHEMA, make_key
from linnaea.data.shards import taxa_from_table, write_parquet
from linnaea.data.sources import Record, Rejected, Source
from linnaea.storage import atomic_path
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.taxon import Taxon

Names = tuple[tuple[str, ...], str]
"""A taxon's lineage and common name."""

_GIVEN_SCHEMA: dict[str, Any] = dict.fromkeys((*RANK_LABELS, "common_name"), pl.String)

_ROW_GROUP = 16_384  # a task reads its slice alone, not the whole table
_CHUNK = 50_000
_SPLIT_NAME = "^[A-Za-z0-9][A-Za-z0-9_-]*$"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the stage leaves in the build's folder."""

    folder: Path

    @property
    def records_path(self) -> Path:
        """Sorted by key. Written last: where it exists, the sources have been read."""
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
        """Records and rejects: every input once."""
        return self.n_records + count_rows(self.rejects_path)

    def taxa(self) -> list[Taxon]:
        """The distinct taxa as the sources give them, in order of appearance."""
        return taxa_from_table(pl.read_parquet(self.taxa_path))


def count_rows(path: Path) -> int:
    """The rows of a Parquet file, without reading them."""
    return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def read_sources(sources: Sequence[Source], folder: Path) -> Reading:
    """Read every source into ``folder``, unless that was done before."""
    reading = Reading(folder=folder)
    if reading.records_path.exists():
        return reading
    records, rejects, taxa = _read(sources)
    twice = ~records["key"].is_first_distinct()
    bad_split = ~records["split"].str.contains(_SPLIT_NAME) & (records["split"] != "")
    refused = [
        rejects,
        _rejected(records.filter(twice), pl.lit("occurs twice (same source and record id)")),
        _rejected(
            records.filter(bad_split & ~twice),
            pl.format("split '{}' cannot be the name of a folder (letters, digits, - and _)", "split"),
        ),
    ]
    lineages = [(*lineage, common_name) for lineage, common_name in taxa]
    write_parquet(pl.concat(refused), reading.rejects_path)
    write_parquet(pl.DataFrame(lineages, schema=_GIVEN_SCHEMA, orient="row"), reading.taxa_path)
    with atomic_path(reading.records_path) as partial:
        kept = records.filter(~twice & ~bad_split).sort("key")
        kept.write_parquet(partial, compression="zstd", row_group_size=_ROW_GROUP)
    return reading


class _Rows:
    """Rows on their way into a table, kept as columns: a hundred bytes each instead of a thousand."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema, self._rows = schema, list[tuple[Any, ...]]()
        self._frames = [pl.DataFrame(schema=schema)]

    def add(self, row: tuple[Any, ...]) -> None:
        self._rows.append(row)
        if len(self._rows) == _CHUNK:
            self._flush()

    def _flush(self) -> None:
        self._frames.append(pl.DataFrame(self._rows, schema=self._schema, orient="row"))
        self._rows.clear()

    def table(self) -> pl.DataFrame:
        self._flush()
        return pl.concat(self._frames, rechunk=True)


def _read(sources: Iterable[Source]) -> tuple[pl.DataFrame, pl.DataFrame, list[Names]]:
    """Every record, with ``taxon_id`` a row of the list of taxa in order of appearance; and every reject."""
    numbers: dict[Names, int] = {}
    records, rejects = _Rows(RECORD_SCHEMA), _Rows(REJECT_SCHEMA)
    for source in sources:
        for item in source.records():
            if isinstance(item, Rejected):
                rejects.add((item.source, item.record_id, item.location, item.reason))
            else:
                names = (item.taxon.lineage, item.taxon.common_name)  # authorships make no other taxon
                records.add(_row(item, numbers.setdefault(names, len(numbers))))
    return records.table(), rejects.table(), list(numbers)


def _row(record: Record, taxon: int) -> tuple[Any, ...]:
    facts = json.dumps(dict(record.facts), ensure_ascii=False, sort_keys=True)
    key = make_key(record.source, record.record_id)
    return (key, record.split, record.source, record.record_id, record.location, record.group, facts, taxon)


def _rejected(records: pl.DataFrame, reason: pl.Expr) -> pl.DataFrame:
    return records.with_columns(reason.alias("reason")).select(*REJECT_SCHEMA)
