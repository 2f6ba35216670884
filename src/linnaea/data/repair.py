"""Check and repair of a data set: broken shards are rebuilt to the exact bytes that the manifest records.

A shard is a function of the plan (``records.parquet``), the index and the original photographs. A sample that is intact
inside the broken shard is taken from there, so a missing source need not be a loss; the others are made again from
their originals. A rebuilt shard replaces the broken one only if its checksum matches the manifest.
"""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from linnaea.data.build import write_licences
from linnaea.data.images import ImageError, decode
from linnaea.data.plan import PLAN_FILE, REJECTS_FILE
from linnaea.data.samples import SampleForm, make_facts
from linnaea.data.shards import (
    INDEX_SCHEMA,
    TAXA_SCHEMA,
    DataSet,
    ShardWriter,
    iter_members,
    read_manifest,
)
from linnaea.data.sources import read_location
from linnaea.errors import LinnaeaError
from linnaea.jobs import OnProgress, ignore_progress
from linnaea.parquet import scan_parquet
from linnaea.storage import atomic_path, sha256_of_file

LICENCES_FILE = "licences.parquet"


@dataclass(frozen=True, kw_only=True)
class Lost:
    """One record that cannot be restored; its shard stays unchanged."""

    shard: str
    source: str
    record_id: str
    location: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Repair:
    """The result of a repair."""

    mended: tuple[str, ...]
    """Files that were repaired."""
    lost: tuple[Lost, ...]
    """Records that keep a shard broken."""
    notes: tuple[str, ...]
    """Other problems that cannot be repaired, one line each."""
    n_checked: int
    """Number of checked shards."""

    @property
    def is_whole(self) -> bool:
        return not self.lost and not self.notes


def repair(directory: Path, on_progress: OnProgress = ignore_progress) -> Repair:
    """Check every shard of a finished data set and rebuild those that are missing or changed.

    Every shard is replaced in one step; the same call resumes an interrupted repair.

    Raises:
        LinnaeaError: there is no finished data set, or a table that a repair needs (``index.parquet``,
            ``taxa.parquet``, ``records.parquet``) cannot be read.
    """
    dataset = DataSet.open(directory)
    manifest = read_manifest(directory)
    mended: list[str] = []
    lost: list[Lost] = []
    notes: list[str] = []
    shards = sorted(manifest["shards"].items())
    for done, (shard, facts) in enumerate(shards, start=1):
        if not _is_whole(directory / shard, facts):
            failures, note = _rebuild(dataset, manifest, shard)
            lost += failures
            notes += [note] if note else []
            mended += [] if failures or note else [shard]
        on_progress(done, len(shards))
    mended += _mend_licences(dataset)
    if not _can_be_read(directory / REJECTS_FILE):
        notes.append(f"{REJECTS_FILE}: is missing or broken and cannot be repaired; build the data set again")
    return Repair(mended=tuple(mended), lost=tuple(lost), notes=tuple(notes), n_checked=len(shards))


def _is_whole(path: Path, facts: dict[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == facts["bytes"] and sha256_of_file(path) == facts["sha256"]


def _rebuild(dataset: DataSet, manifest: dict[str, Any], shard: str) -> tuple[list[Lost], str]:
    """Rebuild one shard; return the lost records or a note if it fails, and nothing if it succeeds."""
    path = dataset.directory / shard
    form = SampleForm.of(manifest["options"])
    rows = dataset.index.filter(pl.col("shard") == shard).sort("offset")
    plan = {record["key"]: record for record in _plan_of(dataset, rows["key"].to_list())}
    old = path.read_bytes() if path.is_file() else b""
    lost: list[Lost] = []
    with suppress(_GivenUpError), atomic_path(path) as partial:
        with partial.open("wb") as stream:
            writer = ShardWriter(stream)
            for row in rows.iter_rows(named=True):
                record = plan.get(row["key"])
                if record is None:
                    return [], f"{shard}: sample {row['key']} is not in {PLAN_FILE}; build the data set again"
                picture = _from_old(old, row) or _from_original(record, row, form)
                if isinstance(picture, str):
                    origin = {name: record[name] for name in ("source", "record_id", "location")}
                    lost.append(Lost(shard=shard, **origin, reason=picture))
                elif not lost:
                    writer.add(row["key"], picture, make_facts(record), form.make_texts(dataset.taxon(row["taxon_id"])))
            writer.close()
        if lost:
            raise _GivenUpError
        if sha256_of_file(partial) != manifest["shards"][shard]["sha256"]:
            raise _GivenUpError
        return [], ""
    return lost, "" if lost else f"{shard}: {_why_other_bytes(manifest)}"


class _GivenUpError(Exception):
    """Raised to leave a file unchanged."""


def _why_other_bytes(manifest: dict[str, Any]) -> str:
    if manifest.get("taxonomy_migrations") and manifest["options"].get("captions"):
        return "its captions are those of the taxonomy before the migration; build the data set again"
    return "every photograph is there, but the rebuilt bytes differ from the manifest; build the data set again"


def _plan_of(dataset: DataSet, keys: list[str]) -> Iterator[dict[str, Any]]:
    path = dataset.directory / PLAN_FILE
    try:
        plan = scan_parquet(path).filter(pl.col("key").is_in(keys)).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LinnaeaError(
            f"{path}: cannot be read; without the plan no shard can be rebuilt; build the data set again"
        ) from error
    return plan.iter_rows(named=True)


def _from_old(old: bytes, row: dict[str, Any]) -> bytes | None:
    """Return the sample in the broken shard, if it is still intact."""
    data = old[row["offset"] : row["offset"] + row["size"]]
    return data if hashlib.sha256(data).hexdigest() == row["sha256"] else None


def _from_original(record: dict[str, Any], row: dict[str, Any], form: SampleForm) -> bytes | str:
    """Return the sample made again from its original, or the reason why that is impossible."""
    try:
        jpeg = form.make_picture(read_location(record["location"])).jpeg
    except ImageError as error:
        return str(error)
    if hashlib.sha256(jpeg).hexdigest() != row["sha256"]:
        return "the original has changed since the build (or was decoded by other versions of libjpeg or OpenCV)"
    return jpeg


def _mend_licences(dataset: DataSet) -> list[str]:
    """Rebuild the table of rights and attribution from the facts in the plan, if it is missing."""
    path, plan = dataset.directory / LICENCES_FILE, dataset.directory / PLAN_FILE
    if _can_be_read(path) or not _can_be_read(plan):
        return []
    write_licences(plan, dataset.directory / "index.parquet", path)
    return [LICENCES_FILE]


def _can_be_read(path: Path) -> bool:
    try:
        scan_parquet(path).head(1).collect()
    except (OSError, pl.exceptions.PolarsError):
        return False
    return True


# Checking.


def iter_problems(
    dataset: DataSet, *, decode: bool = False, on_progress: OnProgress = ignore_progress
) -> Iterator[str]:
    """Yield one line per problem, with what and where; an intact data set yields nothing."""
    yield from _table_problems(dataset)
    manifest = read_manifest(dataset.directory)
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
