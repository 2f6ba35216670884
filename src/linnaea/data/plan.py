"""The plan of a build: each record's key, split, taxon and shard, decided before any pixel is looked at."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from linnaea.data.shards import make_taxa_table, sort_taxa, write_parquet
from linnaea.data.sources import Record, Rejected, Source
from linnaea.data.splits import SplitRule, assign_splits
from linnaea.storage import atomic_path
from linnaea.taxonomy.taxon import Taxon

PLAN_SCHEMA: dict[str, Any] = {
    "key": pl.String,
    "split": pl.String,
    "source": pl.String,
    "record_id": pl.String,
    "location": pl.String,
    "group": pl.String,
    "facts": pl.String,
    "taxon_id": pl.Int32,
}
"""``records.parquet``: a row per record that went into a shard's task; ``facts`` is JSON."""

REJECT_SCHEMA: dict[str, Any] = dict.fromkeys(("source", "record_id", "location", "reason"), pl.String)

PLAN_FILE, TAXA_FILE, REJECTS_FILE = "records.parquet", "taxa.parquet", "rejects.parquet"

_ROW_GROUP = 16_384  # a task reads its slice alone, not the plan
_CHUNK = 50_000
_SPLIT_NAME = "^[A-Za-z0-9][A-Za-z0-9_-]*$"


def make_key(source: str, record_id: str) -> str:
    """The sample's key: a hash of source and record id, never random."""
    return hashlib.blake2b(f"{source}\0{record_id}".encode(), digest_size=12).hexdigest()


def make_plan(sources: Sequence[Source], folder: Path, rule: SplitRule) -> int:
    """Read every source; write the plan, its taxa and its rejects into ``folder``. Returns the number of records.

    The plan is sorted by split and key, so that every shard is a fair mixture; the plan itself is written last.
    """
    plan, rejects, taxa = _read(sources)
    twice = ~plan["key"].is_first_distinct()
    bad_split = ~plan["split"].str.contains(_SPLIT_NAME) & (plan["split"] != "")
    refused = [
        rejects,
        _rejected(plan.filter(twice), pl.lit("occurs twice (same source and record id)")),
        _rejected(
            plan.filter(bad_split & ~twice),
            pl.format("split '{}' cannot be the name of a folder (letters, digits, - and _)", "split"),
        ),
    ]
    plan, table = _number_taxa(plan.filter(~twice & ~bad_split), taxa)
    plan = assign_splits(plan, table, rule)
    straddling = pl.col("reason") != ""
    rejects = pl.concat([*refused, plan.filter(straddling).select(*REJECT_SCHEMA)])
    plan = plan.filter(~straddling).select(*PLAN_SCHEMA).sort("split", "key")
    write_parquet(make_taxa_table(table), folder / TAXA_FILE)
    write_parquet(rejects, folder / REJECTS_FILE)
    with atomic_path(folder / PLAN_FILE) as partial:
        plan.write_parquet(partial, compression="zstd", row_group_size=_ROW_GROUP)
    return plan.height + rejects.height


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


def _read(sources: Iterable[Source]) -> tuple[pl.DataFrame, pl.DataFrame, list[Taxon]]:
    """Every record, with ``taxon_id`` a row of the list of taxa in order of appearance; and every reject."""
    numbers: dict[Taxon, int] = {}
    records, rejects = _Rows(PLAN_SCHEMA), _Rows(REJECT_SCHEMA)
    for source in sources:
        for item in source.records():
            if isinstance(item, Rejected):
                rejects.add((item.source, item.record_id, item.location, item.reason))
            else:
                records.add(_plan_row(item, numbers.setdefault(item.taxon, len(numbers))))
    return records.table(), rejects.table(), list(numbers)


def _plan_row(record: Record, taxon: int) -> tuple[Any, ...]:
    facts = json.dumps(dict(record.facts), ensure_ascii=False, sort_keys=True)
    key = make_key(record.source, record.record_id)
    return (key, record.split, record.source, record.record_id, record.location, record.group, facts, taxon)


def _rejected(records: pl.DataFrame, reason: pl.Expr) -> pl.DataFrame:
    return records.with_columns(reason.alias("reason")).select(*REJECT_SCHEMA)


def _number_taxa(plan: pl.DataFrame, taxa: Sequence[Taxon]) -> tuple[pl.DataFrame, list[Taxon]]:
    """Let ``taxon_id`` count the distinct taxa of the plan in depth-first order."""
    counts = dict(plan["taxon_id"].value_counts().iter_rows())
    merged = merge_species({taxa[number]: n_records for number, n_records in counts.items()})
    table = sort_taxa(merged.values())
    number_of = {taxon: number for number, taxon in enumerate(table)}
    new_id = [number_of[merged[taxon]] if taxon in merged else -1 for taxon in taxa]
    return plan.with_columns(pl.Series(new_id, dtype=pl.Int32).gather(plan["taxon_id"]).alias("taxon_id")), table


def merge_species(counts: dict[Taxon, int]) -> dict[Taxon, Taxon]:
    """One taxon per species: what its records call it most often, without authorship.

    Sources differ in common names, or give none; two names would make one species two classes. Above species rank
    the common name stays: it may be all that tells ("orange tip" among Pieridae).
    """
    names: dict[tuple[str, ...], Counter[str]] = {}
    for taxon, n_records in counts.items():
        if taxon.species and taxon.common_name:
            names.setdefault(taxon.lineage, Counter())[taxon.common_name] += n_records
    common = {lineage: min(tally, key=lambda name: (-tally[name], name)) for lineage, tally in names.items()}
    return {taxon: Taxon(taxon.lineage, common.get(taxon.lineage, taxon.common_name)) for taxon in counts}
