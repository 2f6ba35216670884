"""Is a data set whole? Every shard against its checksum, every sample against the index."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from linnaea.data.images import ImageError, decode
from linnaea.data.shards import INDEX_SCHEMA, TAXA_SCHEMA, DataSet, iter_members, sha256_of_file
from linnaea.errors import LinnaeaError


def iter_problems(
    dataset: DataSet, *, decode: bool = False, on_progress: Callable[[int, int | None], None] = lambda done, total: None
) -> Iterator[str]:
    """Yield one line per problem: what, where. An intact data set yields nothing."""
    yield from _table_problems(dataset)
    manifest = json.loads((dataset.directory / "manifest.json").read_text())
    listed, indexed = set(manifest["shards"]), set(dataset.index["shard"].unique())
    yield from (f"{shard}: in the index, but not in the manifest" for shard in sorted(indexed - listed))
    done = 0
    for shard, facts in sorted(manifest["shards"].items()):
        rows = dataset.index.filter(pl.col("shard") == shard)
        yield from _shard_problems(dataset, shard, facts["sha256"], rows, decode)
        done += rows.height
        on_progress(done, len(dataset))


def _table_problems(dataset: DataSet) -> Iterator[str]:
    for name, table, schema in (("index", dataset.index, INDEX_SCHEMA), ("taxa", dataset.taxa, TAXA_SCHEMA)):
        if missing := [column for column in schema if column not in table.columns]:
            yield f"{name}.parquet: no column {', '.join(missing)}"
            return
    if dataset.index["key"].is_duplicated().any():
        yield "index.parquet: a key occurs twice"
    if not dataset.taxa["taxon_id"].equals(pl.Series("taxon_id", range(dataset.taxa.height), dtype=pl.Int32)):
        yield "taxa.parquet: taxon ids are not the row numbers"
    ids = dataset.index["taxon_id"]
    if len(ids) and not ids.is_between(0, dataset.taxa.height - 1).all():
        yield "index.parquet: taxon ids that are not in taxa.parquet"
    try:
        dataset.taxa_list  # noqa: B018
    except ValueError as error:
        yield f"taxa.parquet: {error}"


def _shard_problems(dataset: DataSet, shard: str, sha256: str, rows: pl.DataFrame, decode_all: bool) -> Iterator[str]:
    path = dataset.directory / shard
    if not path.exists():
        yield f"{shard}: is missing"
        return
    if sha256_of_file(path) != sha256:
        yield f"{shard}: its bytes have changed (checksum differs)"
    try:
        places = {name: (offset, size) for name, offset, size in iter_members(path)}
    except LinnaeaError as error:
        yield f"{shard}: {str(error).removeprefix(f'{path}: ')}"
        return
    for row in rows.iter_rows(named=True):
        if places.get(f"{row['key']}.jpg") != (row["offset"], row["size"]):
            yield f"{shard}: sample {row['key']} is not where the index says"
        elif decode_all:
            yield from _picture_problems(path, shard, row["key"], row["offset"], row["size"])


def _picture_problems(path: Path, shard: str, key: str, offset: int, size: int) -> Iterator[str]:
    with path.open("rb") as stream:
        stream.seek(offset)
        data = stream.read(size)
    try:
        decode(data)
    except ImageError as error:
        yield f"{shard}: sample {key}: {error}"
