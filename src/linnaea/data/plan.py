"""The plan of a build: each record's key, split, taxon and shard, decided before any shard is written."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet

from linnaea.data.shards import make_taxa_table, sort_taxa, write_parquet
from linnaea.storage import atomic_path
from linnaea.taxonomy.remarks import is_class_of_its_own
from linnaea.taxonomy.taxon import Taxon

RECORD_SCHEMA: dict[str, Any] = {
    "key": pl.String,
    "split": pl.String,
    "source": pl.String,
    "record_id": pl.String,
    "location": pl.String,
    "group": pl.String,
    "facts": pl.String,
    "taxon_id": pl.Int32,
}
"""Columns of the records, one row per record; ``facts`` is JSON, ``taxon_id`` a row of the taxa in the sources."""

PLAN_SCHEMA: dict[str, Any] = {**RECORD_SCHEMA, "pdq": pl.String}
"""Columns of ``records.parquet``, one row per planned record, sorted by split and key, so that every shard is a fair
mixture; ``taxon_id`` is a row of ``taxa.parquet``, and ``pdq`` is null if no hash was needed."""

REJECT_SCHEMA: dict[str, Any] = dict.fromkeys(("source", "record_id", "location", "reason"), pl.String)

DETAIL = " -- "
"""Separates the counted part of a reject reason from the detail on one record."""

PLAN_FILE, TAXA_FILE, REJECTS_FILE, NAMES_FILE = "records.parquet", "taxa.parquet", "rejects.parquet", "names.parquet"
REJECTS_TABLE = "rejects.csv"
"""The rejects once more, for people."""

ROW_GROUP = 16_384
"""Number of rows in a row group: a task reads only its slice, not the plan."""


def make_key(source: str, record_id: str) -> str:
    """Return the key of a sample: a hash of source and record id, never random."""
    return hashlib.blake2b(f"{source}\0{record_id}".encode(), digest_size=12).hexdigest()


def write_plan(plan: Iterable[pl.DataFrame], rejects: pl.DataFrame, taxa: Sequence[Taxon], folder: Path) -> None:
    """Write the plan (tables sorted by split and key) with its taxa (in the order of their ids) and rejects.

    The plan itself is written last.
    """
    write_parquet(make_taxa_table(taxa), folder / TAXA_FILE)
    write_parquet(rejects.select(*REJECT_SCHEMA), folder / REJECTS_FILE)
    write_frames(plan, PLAN_SCHEMA, folder / PLAN_FILE)


def write_frames(frames: Iterable[pl.DataFrame], schema: dict[str, Any], path: Path) -> None:
    """Write tables in sequence into one file; only a few of them are in memory at a time."""
    empty = pl.DataFrame(schema=schema).to_arrow()
    with atomic_path(path) as partial, pyarrow.parquet.ParquetWriter(partial, empty.schema, compression="zstd") as out:
        for frame in _gather(frames):
            out.write_table(frame.select(*schema).to_arrow().cast(empty.schema), row_group_size=ROW_GROUP)


def _gather(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield small tables joined together, each large enough for a row group."""
    held: list[pl.DataFrame] = []
    for frame in frames:
        held.append(frame)
        if sum(one.height for one in held) >= ROW_GROUP:
            yield pl.concat(held)
            held.clear()
    if held:
        yield pl.concat(held)


def number_taxa(plan: pl.DataFrame, taxa: Sequence[Taxon]) -> tuple[pl.Series, list[Taxon]]:
    """Return the distinct taxa of a plan in depth-first order, one per species.

    ``plan["taxon_id"]`` is a row of ``taxa``. Returns the new id of each of ``taxa`` (null if the plan has no record of
    it), and the taxa by new id.
    """
    counts = dict(plan["taxon_id"].value_counts().iter_rows())
    merged = merge_species({taxa[number]: n_records for number, n_records in counts.items()})
    table = sort_taxa(merged.values())
    number_of = {taxon: number for number, taxon in enumerate(table)}
    new_id = [number_of[merged[taxon]] if taxon in merged else None for taxon in taxa]
    return pl.Series("taxon_id", new_id, dtype=pl.Int32), table


def merge_species(counts: dict[Taxon, int]) -> dict[Taxon, Taxon]:
    """Return one taxon per species: the most frequent one among its records, without authorship.

    Sources differ in common names or give none, and two common names would make one species two classes. Above species
    rank the common name stays, because it may be the only distinction ("orange tip" among Pieridae), and so does that
    of a class of its own ("Danaus plexippus larva").
    """
    names: dict[tuple[str, ...], Counter[str]] = {}
    for taxon, n_records in counts.items():
        if taxon.species and taxon.common_name and not is_class_of_its_own(taxon):
            names.setdefault(taxon.lineage, Counter())[taxon.common_name] += n_records
    common = {lineage: min(tally, key=lambda name: (-tally[name], name)) for lineage, tally in names.items()}
    return {taxon: Taxon(taxon.lineage, taxon.common_name if is_class_of_its_own(taxon)
                         else common.get(taxon.lineage, taxon.common_name)) for taxon in counts}  # fmt: skip
